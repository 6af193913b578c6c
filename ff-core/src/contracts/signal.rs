//! Domain signal: `suspension.md`, section 5.

use std::fmt;
use std::str::FromStr;

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment, MAX_FRAME_BYTES};
use crate::canon::{Canon, Canonical, Digest};
use crate::condition::LeafProgress;
use crate::contracts::{InvalidCursor, SuspensionInfo};
use crate::ids::{ExecutionId, SignalId, SuspensionId, WaitpointId};
use crate::records::{DedupRecord, SignalAuth, SignalRecord, WaitpointRecord};
use crate::refusal::Refusal;
use crate::state::StateSummary;
use crate::time::TimestampMs;
use crate::token::{VerifiedToken, WaitpointToken};
use crate::word_enum;

/// Signals that one waitpoint takes, those that contribute left out of the count's judgement.
pub const MAX_WAITPOINT_SIGNALS: u32 = 1_000;
/// Signals that one waitpoint takes from one source with a bound token, likewise.
pub const MAX_SOURCE_SIGNALS: u32 = 250;
/// Payload bytes of a run's signals that did not contribute when they were recorded: 16 MiB.
pub const MAX_SIGNAL_BYTES: u64 = 16 << 20;
/// Signals that are buffered on an execution's pending waitpoints in all.
pub const MAX_BUFFERED_SIGNALS: u32 = 1_000;
/// Payload bytes of one page of `list_signals`: 1 MiB, unless its first signal alone has more.
pub const MAX_SIGNAL_PAGE_BYTES: usize = 1 << 20;

/// Who sends a signal: as claimed, unless the token binds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalSource {
    /// A name; `engine` is refused in arguments.
    pub source_type: String,
    /// A name.
    pub source_identity: String,
}

impl SignalSource {
    /// The type of the engine's own signals; no argument may name it.
    pub const ENGINE: &str = "engine";

    /// A source.
    pub fn new(source_type: impl Into<String>, source_identity: impl Into<String>) -> Self {
        Self { source_type: source_type.into(), source_identity: source_identity.into() }
    }

    /// The source of the engine's own signals.
    #[must_use]
    pub fn engine() -> Self {
        Self::new(Self::ENGINE, Self::ENGINE)
    }

    /// Checks a source in an argument of that name.
    ///
    /// # Errors
    /// `invalid_input`, naming `<field>.source_type` (no name, or `engine`) or `<field>.source_identity`.
    pub fn check(&self, field: &str) -> Result<(), Refusal> {
        let nested = |refusal: Refusal| refusal.nested(field);
        bounds::name("source_type", &self.source_type).map_err(nested)?;
        bounds::ensure(self.source_type != Self::ENGINE, "source_type").map_err(nested)?;
        bounds::name("source_identity", &self.source_identity).map_err(nested)
    }
}

impl Canon for SignalSource {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.source_type).put(&self.source_identity);
    }
}

word_enum! {
    /// What a signal did.
    pub enum SignalEffect {
        /// It waits for its waitpoint to be named by a suspension.
        BufferedForPendingWaitpoint = "buffered_for_pending_waitpoint",
        /// It closed the suspension.
        ResumeConditionSatisfied = "resume_condition_satisfied",
        /// It contributed.
        AppendedToWaitpoint = "appended_to_waitpoint",
        /// It matched, but added nothing.
        AppendedToWaitpointDuplicate = "appended_to_waitpoint_duplicate",
        /// It matched nothing.
        NoOp = "no_op",
        /// Its waitpoint ceased to be open without being activated.
        NoOpWaitpointNeverActivated = "no_op_waitpoint_never_activated",
        /// It is the engine's own record of a timeout.
        TimeoutFired = "timeout_fired",
    }
}

impl SignalEffect {
    /// Whether the signal is a matched one: it contributed, or is the timeout signal.
    #[must_use]
    pub const fn is_match(self) -> bool {
        match self {
            Self::ResumeConditionSatisfied | Self::AppendedToWaitpoint | Self::TimeoutFired => true,
            Self::BufferedForPendingWaitpoint
            | Self::AppendedToWaitpointDuplicate
            | Self::NoOp
            | Self::NoOpWaitpointNeverActivated => false,
        }
    }

    /// The recorded effect of a signal of `waitpoint` as it stands at `now`: a buffered one has come to nothing when
    /// its waitpoint ceased to be open without being activated, swept or not.
    #[must_use]
    pub fn at(self, waitpoint: &WaitpointRecord, now: TimestampMs) -> Self {
        let buffered = self == Self::BufferedForPendingWaitpoint;
        if buffered && waitpoint.activated_at.is_none() && waitpoint.closed_as(None, now).is_some() {
            return Self::NoOpWaitpointNeverActivated;
        }
        self
    }
}

word_enum! {
    /// Which bound on signals.
    pub enum SignalLimitScope {
        /// 1,000 per waitpoint.
        Waitpoint = "waitpoint",
        /// 250 per waitpoint from one bound source.
        Source = "source",
        /// The policy's `max_signals` per run.
        Execution = "execution",
        /// 16 MiB of payloads per run that did not contribute.
        Payload = "payload",
        /// 1,000 buffered per execution.
        Buffered = "buffered",
    }
}

fn custom() -> String {
    "custom".to_owned()
}

const fn default_limit() -> u32 {
    bounds::DEFAULT_PAGE
}

/// A signal as its sender gives it: the common view of `deliver_signal` and `buffer_signal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalCall<'a> {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The waitpoint.
    pub waitpoint_id: WaitpointId,
    /// What shall let it in.
    pub waitpoint_token: &'a WaitpointToken,
    /// Its id.
    pub signal_id: SignalId,
    /// Its name.
    pub name: &'a str,
    /// Its category.
    pub category: &'a str,
    /// Who sends it.
    pub source: &'a SignalSource,
    /// Its payload.
    pub payload: &'a Bytes,
    /// The payload's encoding.
    pub encoding: Option<&'a str>,
    /// Its correlation id.
    pub correlation_id: Option<&'a str>,
    /// Its idempotency key.
    pub idempotency_key: Option<&'a str>,
}

impl SignalCall<'_> {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::name("name", self.name)?;
        bounds::ensure(!self.name.starts_with("__"), "name")?;
        bounds::name("category", self.category)?;
        self.source.check("source")?;
        bounds::payload("payload", self.payload.len(), MAX_FRAME_BYTES as u64)?;
        bounds::label("encoding", self.encoding)?;
        bounds::key("correlation_id", self.correlation_id)?;
        bounds::key("idempotency_key", self.idempotency_key)
    }

    /// The digest that equal content is judged by, one for both operations: without execution, token, signal id and
    /// idempotency key.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("signal", |c| {
            c.put(&self.waitpoint_id)
                .put(self.name)
                .put(self.category)
                .put(self.source)
                .put(&self.correlation_id)
                .put(self.payload)
                .put(&self.encoding);
        })
    }

    /// The record of the signal, let in by `verified`, which alone says where it goes and under which key.
    #[must_use]
    pub fn record(
        &self,
        verified: &VerifiedToken,
        seq: u64,
        accepted_at: TimestampMs,
        effect: SignalEffect,
    ) -> SignalRecord {
        SignalRecord {
            execution_id: verified.execution_id(),
            signal_id: self.signal_id,
            seq,
            accepted_at,
            waitpoint_id: Some(verified.waitpoint_id()),
            name: self.name.to_owned(),
            category: self.category.to_owned(),
            source: self.source.clone(),
            correlation_id: self.correlation_id.map(str::to_owned),
            idempotency_key: self.idempotency_key.map(str::to_owned),
            payload: self.payload.clone(),
            encoding: self.encoding.map(str::to_owned),
            auth: SignalAuth::Token { kid: verified.kid().clone(), source_bound: verified.source_bound() },
            effect,
        }
    }

    /// What recognises the signal when it is sent again.
    #[must_use]
    pub fn dedup(&self, verified: &VerifiedToken, effect: SignalEffect) -> DedupRecord {
        DedupRecord {
            execution_id: verified.execution_id(),
            signal_id: self.signal_id,
            waitpoint_id: verified.waitpoint_id(),
            idempotency_key: self.idempotency_key.map(str::to_owned),
            digest: self.digest(),
            effect,
        }
    }
}

macro_rules! signal_args {
    ($($(#[$meta:meta])* $Name:ident;)+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
        #[serde(deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $Name {
            /// The execution.
            pub execution_id: ExecutionId,
            /// The waitpoint.
            pub waitpoint_id: WaitpointId,
            /// What lets it in.
            pub waitpoint_token: WaitpointToken,
            /// Its id, minted by the sender; unique in the execution.
            pub signal_id: SignalId,
            /// Its name; a name that does not start with `__`.
            #[builder(into)]
            pub name: String,
            /// Its category; a name, `custom`.
            #[serde(default = "custom")]
            #[builder(default = custom(), into)]
            pub category: String,
            /// Who sends it: taken as claimed unless the token binds it.
            pub source: SignalSource,
            /// Opaque bytes, at most 64 KiB.
            #[serde(default, with = "crate::wire::base64_bytes")]
            #[builder(default, into)]
            pub payload: Bytes,
            /// The payload's encoding; a label.
            #[serde(default)]
            #[builder(into)]
            pub encoding: Option<String>,
            /// What a condition may ask for; a key.
            #[serde(default)]
            #[builder(into)]
            pub correlation_id: Option<String>,
            /// Equal keys name one signal of the waitpoint (and of the source, under a bound token); a key.
            #[serde(default)]
            #[builder(into)]
            pub idempotency_key: Option<String>,
        }

        impl $Name {
            /// The signal.
            #[must_use]
            pub fn call(&self) -> SignalCall<'_> {
                SignalCall {
                    execution_id: self.execution_id,
                    waitpoint_id: self.waitpoint_id,
                    waitpoint_token: &self.waitpoint_token,
                    signal_id: self.signal_id,
                    name: &self.name,
                    category: &self.category,
                    source: &self.source,
                    payload: &self.payload,
                    encoding: self.encoding.as_deref(),
                    correlation_id: self.correlation_id.as_deref(),
                    idempotency_key: self.idempotency_key.as_deref(),
                }
            }
        }

        impl CheckArgs for $Name {
            fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
                self.call().check(deployment)
            }
        }
    )+ };
}

signal_args! {
    /// Arguments of `deliver_signal`.
    DeliverSignalArgs;
    /// Arguments of `buffer_signal`: those of `deliver_signal`.
    BufferSignalArgs;
}

/// Result of `deliver_signal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliverSignalResult {
    /// It is recorded.
    Accepted {
        /// Its id.
        signal_id: SignalId,
        /// What it did; tentative while buffered.
        effect: SignalEffect,
        /// The execution's state.
        summary: StateSummary,
    },
    /// It was recorded before, with equal content: a repeat.
    Duplicate {
        /// The first signal's id.
        signal_id: SignalId,
        /// The first signal's effect as it stands now.
        effect: SignalEffect,
        /// The execution's state of now.
        summary: StateSummary,
    },
}

/// Result of `buffer_signal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BufferSignalResult {
    /// It is recorded and waits for its waitpoint to be named by a suspension.
    Buffered {
        /// Its id.
        signal_id: SignalId,
        /// Always `buffered_for_pending_waitpoint`.
        effect: SignalEffect,
        /// The execution's state.
        summary: StateSummary,
    },
    /// It was recorded before, with equal content: a repeat.
    Duplicate {
        /// The first signal's id.
        signal_id: SignalId,
        /// The first signal's effect as it stands now.
        effect: SignalEffect,
        /// The execution's state of now.
        summary: StateSummary,
    },
}

/// A position in a walk over a suspension's signals: right after one. Opaque to callers, shared by the backends of this
/// workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalCursor {
    /// The suspension. The cursor is of no use when the execution has suspended again.
    pub suspension_id: SuspensionId,
    /// The walk goes on with the first signal above this seq.
    pub after: u64,
}

impl SignalCursor {
    const PREFIX: &str = "s1.";
}

impl fmt::Display for SignalCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}.{}", Self::PREFIX, self.suspension_id, self.after)
    }
}

impl FromStr for SignalCursor {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let parts = text.strip_prefix(Self::PREFIX).and_then(|parts| parts.split_once('.'));
        let (suspension, seq) = parts.ok_or(InvalidCursor)?;
        let suspension_id = suspension.parse().map_err(|_| InvalidCursor)?;
        let after = crate::records::flat::read_number(seq.as_bytes()).map_err(|_| InvalidCursor)?;
        Ok(Self { suspension_id, after })
    }
}

/// Arguments of `list_signals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ListSignalsArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Only those that contributed, and the timeout signal; false.
    #[serde(default)]
    #[builder(default)]
    pub matched_only: bool,
    /// The `next_cursor` of the page before; none begins a walk.
    #[serde(default)]
    #[builder(into)]
    pub cursor: Option<String>,
    /// The page's length at most, `1..=1000`; 100.
    #[serde(default = "default_limit")]
    #[builder(default = default_limit())]
    pub limit: u32,
}

impl ListSignalsArgs {
    /// Where the walk goes on.
    ///
    /// # Errors
    /// `invalid_input` (`cursor`) for a text that is no cursor of this list.
    pub fn position(&self) -> Result<Option<SignalCursor>, Refusal> {
        let parsed = self.cursor.as_deref().map(str::parse).transpose();
        parsed.map_err(|InvalidCursor| Refusal::invalid_input("cursor"))
    }
}

impl CheckArgs for ListSignalsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.position()?;
        bounds::page(self.limit)
    }
}

/// A recorded signal as reads show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SignalInfo {
    /// Its id.
    pub signal_id: SignalId,
    /// Its place in the order of acceptance, from 1.
    pub seq: u64,
    /// When it was accepted.
    pub accepted_at: TimestampMs,
    /// Where it was sent; none iff made by the engine.
    pub waitpoint_id: Option<WaitpointId>,
    /// Its name.
    pub name: String,
    /// Its category.
    pub category: String,
    /// Who sent it.
    pub source: SignalSource,
    /// Its correlation id.
    pub correlation_id: Option<String>,
    /// Its idempotency key.
    pub idempotency_key: Option<String>,
    /// Its payload.
    #[serde(with = "crate::wire::base64_bytes")]
    pub payload: Bytes,
    /// The payload's encoding.
    pub encoding: Option<String>,
    /// What let it in.
    pub auth: SignalAuth,
    /// What it did.
    pub effect: SignalEffect,
}

impl SignalInfo {
    /// The record as reads show it. The signals of a suspension's waitpoints have their final effects.
    #[must_use]
    pub fn of(record: &SignalRecord) -> Self {
        Self {
            signal_id: record.signal_id,
            seq: record.seq,
            accepted_at: record.accepted_at,
            waitpoint_id: record.waitpoint_id,
            name: record.name.clone(),
            category: record.category.clone(),
            source: record.source.clone(),
            correlation_id: record.correlation_id.clone(),
            idempotency_key: record.idempotency_key.clone(),
            payload: record.payload.clone(),
            encoding: record.encoding.clone(),
            auth: record.auth.clone(),
            effect: record.effect,
        }
    }
}

/// Result of `list_signals`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSignalsResult {
    /// The current, else the last suspension.
    pub suspension: Option<SuspensionInfo>,
    /// Every leaf of its condition, in document order.
    pub progress: Vec<LeafProgress>,
    /// Its signals by `seq`, the timeout signal included.
    pub signals: Vec<SignalInfo>,
    /// Present exactly while more may remain.
    pub next_cursor: Option<String>,
}
