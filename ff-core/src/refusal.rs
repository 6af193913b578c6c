//! Refusals: one closed list of codes, each with its class and typed details.
//!
//! A refused operation changed nothing. Programs decide by [`Code`] (or [`Class`]) and [`Details`]; the message is for
//! people and nothing parses it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contracts::{
    CancellationPolicy, CapabilitySide, ConditionFault, FanInPart, FlowPart, KidLimitScope, NotEligibleCause,
    NotReclaimableCause, PublicFlowState, SignalLimitScope, WaitpointCloseReason, WaitpointLimitScope, WaitpointState,
};
use crate::ids::{AttemptId, EdgeId, ExecutionId, FlowId, Kid, LaneId, LeaseEpoch, SignalId, SuspensionId};
use crate::state::{LifecyclePhase, PublicState, StateVector, TerminalOutcome};
use crate::time::TimestampMs;
use crate::word_enum;

word_enum! {
    /// What kind of refusal it is, and so whether trying again can help.
    pub enum Class {
        /// The call itself is wrong; never retry with the same input.
        Validation = "validation",
        /// No such thing; never retry.
        NotFound = "not_found",
        /// Someone else was faster; retry after a re-read.
        Contention = "contention",
        /// It clashes with a permanent record; never retry.
        Conflict = "conflict",
        /// Legal, but not now; retry when the state has changed.
        State = "state",
        /// A bound or quota is reached; later, or never, as the code says.
        Limit = "limit",
    }
}

macro_rules! refusals {
    ($( $(#[$doc:meta])* $Variant:ident $code:ident $class:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty),* } )+) => {
        /// The closed list of refusal codes, spelled the same in Rust, Lua and SQL.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $Variant),+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// The code in `snake_case`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => stringify!($code)),+ }
            }

            /// The code of a `snake_case` word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == word)
            }

            /// Its class.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$Variant => Class::$class),+ }
            }

            /// Position in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> usize { self as usize }

            /// The names of the code's details, in order.
            #[must_use]
            pub const fn detail_names(self) -> &'static [&'static str] {
                match self { $(Self::$Variant => &[$(stringify!($field)),*]),+ }
            }
        }

        /// The typed details of a refusal, one variant per code.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "code", content = "details", rename_all = "snake_case", deny_unknown_fields)]
        pub enum Details { $($(#[$doc])* $Variant { $($(#[$fdoc])* $field: $type),* }),+ }

        impl Details {
            /// The code that these details belong to.
            #[must_use]
            pub const fn code(&self) -> Code {
                match self { $(Self::$Variant { .. } => Code::$Variant),+ }
            }
        }

        impl Refusal {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $code($($field: impl Into<$type>),*) -> Self {
                    Self::from(Details::$Variant { $($field: $field.into()),* })
                }
            )+
        }
    };
}

refusals! {
    // --- README, section 7 ---
    /// A field is malformed or out of bounds.
    InvalidInput invalid_input Validation {
        /// The field's name; a nested one as `outer.inner`, without positions in lists.
        field: String
    }
    /// The id's partition is not in this deployment.
    InvalidPartition invalid_partition Validation {}
    /// Two ids that must share a partition do not.
    PartitionMismatch partition_mismatch Validation {}
    /// A payload, result or frame is over its bound.
    PayloadTooLarge payload_too_large Validation {
        /// The field.
        field: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        bound: u64
    }
    /// A tag key breaks the rule `^[a-z][a-z0-9_]*\.` with at least one more character.
    InvalidTagKey invalid_tag_key Validation {
        /// The key.
        key: String
    }
    /// A boundary received neither a complete fence nor an operator override.
    FenceRequired fence_required Validation {}
    /// No such execution.
    ExecutionNotFound execution_not_found NotFound {}
    /// No such flow, or it is being purged.
    FlowNotFound flow_not_found NotFound {}
    /// No attempt with this index has started.
    AttemptNotFound attempt_not_found NotFound {}
    /// A lease-bound call on an execution that is not active.
    ExecutionNotActive execution_not_active State {
        /// What it is doing.
        lifecycle_phase: LifecyclePhase,
        /// How it ended, if it has.
        terminal_outcome: TerminalOutcome,
        /// Its present epoch.
        lease_epoch: LeaseEpoch,
        /// Its newest attempt.
        attempt_id: Option<AttemptId>
    }
    /// A call that needs no lease, on a terminal execution.
    ExecutionTerminal execution_terminal State {
        /// How it ended.
        terminal_outcome: TerminalOutcome
    }
    /// The fence is not the current owner's.
    StaleLease stale_lease State {}
    /// The lease has run out, whether or not a timer has fired.
    LeaseExpired lease_expired State {}
    /// The lease was withdrawn.
    LeaseRevoked lease_revoked State {}
    /// There would be more than 64 tags.
    TooManyTags too_many_tags Limit {
        /// The bound.
        bound: u32
    }
    // --- execution, claim, lease ---
    /// A policy field is unknown or out of bounds.
    InvalidPolicy invalid_policy Validation {
        /// The field.
        field: String
    }
    /// A token list is malformed.
    InvalidCapabilities invalid_capabilities Validation {
        /// Whose list.
        side: CapabilitySide,
        /// The first token that breaks the rule; of a list that is too long the first beyond the bound.
        token: String
    }
    /// The worker lacks required tokens.
    CapabilityMismatch capability_mismatch Validation {
        /// What it lacks, sorted.
        missing: Vec<String>
    }
    /// The id is in use with other content, or is being purged.
    ExecutionAlreadyExists execution_already_exists Conflict {}
    /// The idempotency key is in force with other content.
    IdempotencyConflict idempotency_conflict Conflict {
        /// The execution that the key names.
        execution_id: ExecutionId
    }
    /// The lease id names a lease that is not a repeat of this claim.
    LeaseIdInUse lease_id_in_use Conflict {}
    /// It is not READY, or not to be handed out.
    ExecutionNotEligible execution_not_eligible Contention {
        /// Its vector.
        state_vector: StateVector,
        /// The first cause that holds.
        cause: NotEligibleCause
    }
    /// It is not LOST or REVOKED, or not to be handed out.
    ExecutionNotReclaimable execution_not_reclaimable Contention {
        /// Its vector.
        state_vector: StateVector,
        /// The first cause that holds.
        cause: NotReclaimableCause
    }
    /// Another holder's grant lives.
    GrantAlreadyExists grant_already_exists Contention {
        /// Until when.
        expires_at: TimestampMs
    }
    /// There is no grant, or it is another holder's.
    InvalidClaimGrant invalid_claim_grant Contention {}
    /// The grant lapsed.
    ClaimGrantExpired claim_grant_expired Contention {
        /// When.
        expires_at: TimestampMs
    }
    /// The replay count differs, or that replay was made with other content.
    StaleReplay stale_replay Contention {
        /// The present count.
        replay_count: u32
    }
    /// A paused attempt is claimed by `claim_resumed_execution`.
    UseClaimResumedExecution use_claim_resumed_execution State {}
    /// There is no paused attempt; use `claim_execution`.
    NotAResumedExecution not_a_resumed_execution State {}
    /// A live execution cannot be replayed.
    ExecutionNotTerminal execution_not_terminal State {
        /// What it is doing.
        lifecycle_phase: LifecyclePhase
    }
    /// It was replayed as often as its policy allows.
    MaxReplaysExhausted max_replays_exhausted Limit {
        /// The present count.
        replay_count: u32,
        /// The policy's bound.
        max_replays: u32
    }
    /// The lane holds as many different capability sets as it may.
    TooManyCapabilitySets too_many_capability_sets Limit {
        /// The lane.
        lane_id: LaneId,
        /// The bound.
        bound: u32
    }
    // --- suspension, signal, keystore ---
    /// The condition is malformed or can never be met.
    InvalidResumeCondition invalid_resume_condition Validation {
        /// A JSON pointer into the condition document; empty is the whole.
        path: String,
        /// What is wrong.
        reason: ConditionFault
    }
    /// The token is malformed, its kid unknown or retired, or its MAC wrong: all alike.
    InvalidToken invalid_token Validation {}
    /// The kid's grace is over.
    TokenExpired token_expired Validation {}
    /// The token is bound to another source.
    TokenSourceMismatch token_source_mismatch Validation {}
    /// No such waitpoint under this execution.
    WaitpointNotFound waitpoint_not_found NotFound {}
    /// The kid was never installed in this partition.
    KidNotFound kid_not_found NotFound {}
    /// The named suspension is not the current one.
    StaleSuspension stale_suspension Contention {
        /// The current one.
        suspension_id: Option<SuspensionId>
    }
    /// Minted under a kid that is no longer current.
    StaleKid stale_kid Contention {
        /// The current one.
        current_kid: Option<Kid>
    }
    /// The kid is unknown and the load budget is spent; try again soon.
    KeystoreBusy keystore_busy Contention {}
    /// The suspension id was used with another fence or content.
    SuspensionConflict suspension_conflict Conflict {}
    /// The waitpoint id is spent.
    WaitpointAlreadyExists waitpoint_already_exists Conflict {
        /// The existing one's state.
        state: WaitpointState
    }
    /// The signal id or key was used with other content.
    SignalConflict signal_conflict Conflict {
        /// The first signal's id.
        signal_id: SignalId
    }
    /// This suspension's policy forbids an operator's resume.
    OperatorOverrideForbidden operator_override_forbidden Conflict {}
    /// The kid is known with another secret.
    RotationConflict rotation_conflict Conflict {
        /// The kid.
        kid: Kid
    }
    /// An expired or revoked kid never comes back.
    KidRetired kid_retired Conflict {
        /// Whether it was revoked.
        revoked: bool
    }
    /// There is nothing to resume.
    ExecutionNotSuspended execution_not_suspended State {
        /// What it is doing.
        lifecycle_phase: LifecyclePhase
    }
    /// The suspension's timeout is due and about to be applied.
    SuspensionTimedOut suspension_timed_out State {}
    /// The waitpoint is active, or closed for another reason than age.
    WaitpointNotPending waitpoint_not_pending State {
        /// Its state.
        state: WaitpointState
    }
    /// The pending waitpoint aged out before it was named.
    PendingWaitpointExpired pending_waitpoint_expired State {}
    /// The waitpoint is active: only its suspension closes it.
    WaitpointInUse waitpoint_in_use State {}
    /// The waitpoint is not open.
    WaitpointClosed waitpoint_closed State {
        /// Why it closed, or closes at its next look.
        close_reason: WaitpointCloseReason
    }
    /// The partition has no current kid; rotate one in.
    HmacSecretNotInitialized hmac_secret_not_initialized State {}
    /// The current kid cannot be revoked; rotate first.
    KidIsCurrent kid_is_current State {}
    /// Too many waitpoints.
    WaitpointLimitExceeded waitpoint_limit_exceeded Limit {
        /// Which bound.
        scope: WaitpointLimitScope,
        /// The bound.
        max: u64
    }
    /// Too many signals; never a signal that would contribute.
    SignalLimitExceeded signal_limit_exceeded Limit {
        /// Which bound.
        scope: SignalLimitScope,
        /// The bound.
        max: u64
    }
    /// Too many kids.
    TooManyKids too_many_kids Limit {
        /// Which bound.
        scope: KidLimitScope,
        /// The bound.
        max: u64
    }
    // --- flow ---
    /// The flow id is in use with other content.
    FlowSpecConflict flow_spec_conflict Conflict {}
    /// The flow is cancelled, finished, or (to a creation) being purged.
    FlowAlreadyTerminal flow_already_terminal State {
        /// Its state, while it exists.
        public_flow_state: Option<PublicFlowState>,
        /// How it was cancelled, if it was.
        cancellation_policy: Option<CancellationPolicy>
    }
    /// The flow's structure is closed.
    FlowSealed flow_sealed State {}
    /// Too many members or edges.
    FlowTooLarge flow_too_large Limit {
        /// Which.
        what: FlowPart,
        /// The bound.
        limit: u64
    }
    /// Too many incoming edges of one member.
    FanInLimit fan_in_limit Limit {
        /// Which edges.
        what: FanInPart,
        /// The bound.
        limit: u64
    }
    /// Too many outgoing edges of one member.
    FanOutLimit fan_out_limit Limit {
        /// The bound.
        limit: u64
    }
    /// The cycle search would read too much.
    GraphTooLarge graph_too_large Limit {
        /// The bound.
        limit: u64
    }
    /// The graph has changed since it was read.
    StaleGraphRevision stale_graph_revision Contention {
        /// The present revision.
        graph_revision: u64
    }
    /// Member and flow have different namespaces.
    NamespaceMismatch namespace_mismatch Validation {}
    /// It is a member of another flow.
    ExecutionAlreadyInFlow execution_already_in_flow Conflict {
        /// The other flow.
        flow_id: FlowId
    }
    /// It is no member of this flow.
    ExecutionNotInFlow execution_not_in_flow State {
        /// The execution.
        execution_id: ExecutionId
    }
    /// It is active or suspended.
    NotRunnable not_runnable State {
        /// What it is doing.
        lifecycle_phase: LifecyclePhase
    }
    /// The upstream is the downstream.
    SelfReferencingEdge self_referencing_edge Validation {}
    /// Two members of the call have one name.
    DuplicateMemberName duplicate_member_name Validation {
        /// The name.
        name: String
    }
    /// An edge of the call names no member of it.
    UnknownMember unknown_member Validation {
        /// The name.
        name: String
    }
    /// The pair has an edge, or the edge id is known with other content.
    DependencyAlreadyExists dependency_already_exists Conflict {
        /// The existing edge.
        edge_id: EdgeId
    }
    /// The call differs from the edge.
    DependencySpecMismatch dependency_spec_mismatch Conflict {
        /// The first field that differs.
        field: String
    }
    /// The upstream ended otherwise.
    DependencyResolutionMismatch dependency_resolution_mismatch Conflict {
        /// The real outcome.
        outcome: TerminalOutcome
    }
    /// Another incoming edge has the data name.
    DataNameConflict data_name_conflict Conflict {
        /// That edge.
        edge_id: EdgeId
    }
    /// The edge would close a cycle.
    CycleDetected cycle_detected Conflict {
        /// Execution ids along the edges from upstream back to upstream.
        cycle: Vec<ExecutionId>
    }
    /// No such edge.
    EdgeNotFound edge_not_found NotFound {
        /// The edge.
        edge_id: EdgeId
    }
    /// The edge is only staged.
    EdgeNotApplied edge_not_applied State {}
    /// The upstream has not ended.
    UpstreamNotTerminal upstream_not_terminal State {
        /// Its state.
        public_state: PublicState
    }
    /// The upstream has ended, and the call asked to refuse that.
    UpstreamAlreadyTerminal upstream_already_terminal State {
        /// How.
        terminal_outcome: TerminalOutcome
    }
    /// A replay behind an impossible edge.
    DepsImpossible deps_impossible State {
        /// The first 16 impossible edges by seq.
        edge_ids: Vec<EdgeId>
    }
    // --- budget, quota, stream, reads ---
    /// No such budget.
    BudgetNotFound budget_not_found NotFound {}
    /// No such quota policy.
    QuotaPolicyNotFound quota_policy_not_found NotFound {}
    /// The budget exists with another definition.
    BudgetConflict budget_conflict Conflict {}
    /// The quota policy exists with another definition.
    QuotaPolicyConflict quota_policy_conflict Conflict {}
    /// The dedup key is remembered with other content.
    DedupKeyConflict dedup_key_conflict Conflict {}
    /// The frame's seq is used up.
    FrameSeqConflict frame_seq_conflict Conflict {
        /// The last seq of the stream.
        last_seq: u64
    }
    /// More than 64 undeclared dimensions would have usage.
    TooManyDimensions too_many_dimensions Limit {}
    /// That run has not ended in success, or never was.
    ResultNotAvailable result_not_available State {
        /// The present state.
        public_state: PublicState
    }
}

/// A domain refusal. The state did not change.
///
/// ```
/// use ff_core::refusal::{Class, Code, Refusal};
/// let refusal = Refusal::invalid_input("lease_ttl_ms");
/// assert_eq!(refusal.code(), Code::InvalidInput);
/// assert_eq!(refusal.code().class(), Class::Validation);
/// assert_eq!(refusal.to_string(), "invalid_input: field=\"lease_ttl_ms\"");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal(Box<Inner>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Inner {
    #[serde(flatten)]
    details: Details,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<String>,
}

impl Refusal {
    /// The code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.details.code()
    }

    /// The typed details.
    #[must_use]
    pub fn details(&self) -> &Details {
        &self.0.details
    }

    /// In a submission of several members, the name of the one that was refused.
    #[must_use]
    pub fn member(&self) -> Option<&str> {
        self.0.member.as_deref()
    }

    /// The same refusal, about the member of that name.
    #[must_use]
    pub fn about_member(mut self, name: &str) -> Self {
        self.0.member = Some(name.to_owned());
        self
    }

    /// The same refusal with its field put under `outer`: `field` becomes `outer.field`.
    #[must_use]
    pub fn nested(mut self, outer: &str) -> Self {
        if let Details::InvalidInput { field } | Details::PayloadTooLarge { field, .. } = &mut self.0.details {
            *field = format!("{outer}.{field}");
        }
        self
    }
}

impl From<Details> for Refusal {
    fn from(details: Details) -> Self {
        Self(Box::new(Inner { details, member: None }))
    }
}

impl fmt::Display for Refusal {
    /// `code: name=value name=value`, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code().as_str())?;
        let value = serde_json::to_value(&self.0.details).map_err(|_| fmt::Error)?;
        let mut separator = ": ";
        for name in self.code().detail_names() {
            if let Some(detail) = value.pointer(&format!("/details/{name}")) {
                write!(f, "{separator}{name}={detail}")?;
                separator = " ";
            }
        }
        if let Some(member) = self.member() {
            write!(f, "{separator}member={member:?}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_word_and_finds_back() {
        let words: std::collections::BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::from_word(code.as_str()), Some(*code));
        }
    }

    #[test]
    fn a_refusal_survives_json() {
        for refusal in [
            Refusal::stale_lease(),
            Refusal::payload_too_large("result", 5_u64, 4_u64).about_member("a"),
            Refusal::flow_already_terminal(None, Some(CancellationPolicy::CancelAll)),
        ] {
            let text = serde_json::to_string(&refusal).expect("serialises");
            assert_eq!(serde_json::from_str::<Refusal>(&text).expect("parses"), refusal, "{text}");
        }
    }
}
