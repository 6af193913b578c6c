//! Waitpoints by themselves: made ahead, withdrawn, listed.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bon::Builder;
use serde::{Deserialize, Serialize};

use super::{IssuedToken, MAX_WAITPOINTS, SuspensionReason, TimeoutBehavior, WaitpointCloseReason, WaitpointState};
use crate::bounds::{self, CheckArgs, Deployment};
use crate::condition::LeafProgress;
use crate::contracts::{Fence, InvalidCursor, SignalSource};
use crate::ids::{ExecutionId, SuspensionId, WaitpointId};
use crate::records::{SuspensionRecord, WaitpointRecord};
use crate::refusal::Refusal;
use crate::state::StateSummary;
use crate::time::TimestampMs;

const fn default_limit() -> u32 {
    bounds::DEFAULT_PAGE
}

/// The sources of a waitpoint: at most 16, each good and given once.
pub(super) fn check_sources(sources: &[SignalSource]) -> Result<(), Refusal> {
    bounds::ensure(sources.len() <= MAX_WAITPOINTS, "sources")?;
    sources.iter().try_for_each(|source| source.check("sources"))?;
    bounds::ensure(sources.iter().collect::<BTreeSet<_>>().len() == sources.len(), "sources")
}

/// Arguments of `create_pending_waitpoint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CreatePendingWaitpointArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker's proof that it still owns it.
    pub fence: Fence,
    /// The new waitpoint's id, minted by the caller; ids are single-use.
    pub waitpoint_id: WaitpointId,
    /// How long it waits to be named by a suspension, in milliseconds: `1..=86_400_000`; `60_000`.
    #[serde(default = "CreatePendingWaitpointArgs::default_expires_in_ms")]
    #[builder(default = CreatePendingWaitpointArgs::default_expires_in_ms())]
    pub expires_in_ms: u64,
    /// Who may signal it, at most 16, distinct; empty is anyone with its token.
    #[serde(default)]
    #[builder(default)]
    pub sources: Vec<SignalSource>,
}

impl CreatePendingWaitpointArgs {
    /// The longest `expires_in_ms`: a day.
    pub const MAX_EXPIRES_IN_MS: u64 = 86_400_000;

    const fn default_expires_in_ms() -> u64 {
        60_000
    }
}

impl CheckArgs for CreatePendingWaitpointArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.fence.check("fence")?;
        bounds::ensure((1..=Self::MAX_EXPIRES_IN_MS).contains(&self.expires_in_ms), "expires_in_ms")?;
        check_sources(&self.sources)
    }
}

/// Result of `create_pending_waitpoint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreatePendingWaitpointResult {
    /// It exists now and buffers signals.
    Created {
        /// The waitpoint.
        waitpoint_id: WaitpointId,
        /// One bound token for each of its sources; without sources one unbound token.
        tokens: Vec<IssuedToken>,
        /// When it ages out unless a suspension names it.
        expires_at: TimestampMs,
        /// The execution's state.
        summary: StateSummary,
    },
    /// It existed, with equal content, and is still open and pending: a repeat.
    AlreadyExists {
        /// The waitpoint.
        waitpoint_id: WaitpointId,
        /// Its tokens, under the kid current now.
        tokens: Vec<IssuedToken>,
        /// The first expiry.
        expires_at: TimestampMs,
        /// The execution's state of now.
        summary: StateSummary,
    },
}

/// Arguments of `close_waitpoint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseWaitpointArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker's proof that it still owns it.
    pub fence: Fence,
    /// The pending waitpoint to withdraw.
    pub waitpoint_id: WaitpointId,
    /// Why; a text, kept as `close_detail`.
    pub reason: String,
}

impl CheckArgs for CloseWaitpointArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.fence.check("fence")?;
        bounds::text("reason", &self.reason)
    }
}

/// Result of `close_waitpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseWaitpointResult {
    /// It is withdrawn; what was buffered on it has no effect.
    Closed {
        /// The waitpoint.
        waitpoint_id: WaitpointId,
        /// The execution's state.
        summary: StateSummary,
    },
    /// It was not open, for whatever reason: also a repeat.
    AlreadyClosed {
        /// The waitpoint.
        waitpoint_id: WaitpointId,
        /// Why; `expired` or `timed_out` also before the sweep.
        close_reason: WaitpointCloseReason,
        /// The execution's state of now.
        summary: StateSummary,
    },
}

/// A position in a walk over an execution's waitpoints: right after one. Opaque to callers, shared by the backends of
/// this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitpointCursor {
    /// The walk goes on with the first waitpoint above this id, which need not exist.
    pub after: WaitpointId,
}

impl WaitpointCursor {
    const PREFIX: &str = "w1.";
}

impl fmt::Display for WaitpointCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.after)
    }
}

impl FromStr for WaitpointCursor {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let after = text.strip_prefix(Self::PREFIX).and_then(|id| id.parse().ok()).ok_or(InvalidCursor)?;
        Ok(Self { after })
    }
}

/// Arguments of `list_pending_waitpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ListPendingWaitpointsArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Whether tokens are minted for each; false. Gateways treat it as a permission of its own.
    #[serde(default)]
    #[builder(default)]
    pub include_tokens: bool,
    /// The `next_cursor` of the page before; none begins a walk.
    #[serde(default)]
    #[builder(into)]
    pub cursor: Option<String>,
    /// The page's length at most, `1..=1000`; 100.
    #[serde(default = "default_limit")]
    #[builder(default = default_limit())]
    pub limit: u32,
}

impl ListPendingWaitpointsArgs {
    /// Where the walk goes on.
    ///
    /// # Errors
    /// `invalid_input` (`cursor`) for a text that is no cursor of this list.
    pub fn position(&self) -> Result<Option<WaitpointCursor>, Refusal> {
        let parsed = self.cursor.as_deref().map(str::parse).transpose();
        parsed.map_err(|InvalidCursor| Refusal::invalid_input("cursor"))
    }
}

impl CheckArgs for ListPendingWaitpointsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.position()?;
        bounds::page(self.limit)
    }
}

/// The open suspension that an active waitpoint belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitpointSuspension {
    /// Its id.
    pub suspension_id: SuspensionId,
    /// Why the attempt paused.
    pub reason_code: SuspensionReason,
    /// For reviewers.
    pub detail: Option<String>,
    /// The end of its time.
    pub timeout_at: Option<TimestampMs>,
    /// What happens then.
    pub timeout_behavior: Option<TimeoutBehavior>,
    /// The leaves of its condition that this waitpoint feeds, in document order.
    pub progress: Vec<LeafProgress>,
}

/// An open waitpoint: one that signals can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingWaitpointInfo {
    /// Its id.
    pub waitpoint_id: WaitpointId,
    /// `pending` or `active`.
    pub state: WaitpointState,
    /// Who may signal it; empty is anyone with its token.
    pub sources: Vec<SignalSource>,
    /// When it was made.
    pub created_at: TimestampMs,
    /// Since when it is active.
    pub activated_at: Option<TimestampMs>,
    /// When it ages out; means nothing once it is active.
    pub expires_at: Option<TimestampMs>,
    /// Signals recorded on it.
    pub signal_count: u32,
    /// Its suspension, when it is active.
    pub suspension: Option<WaitpointSuspension>,
    /// Its tokens under the kid current now; empty unless they were asked for.
    pub tokens: Vec<IssuedToken>,
}

impl PendingWaitpointInfo {
    /// The record as the list shows it, without tokens. `suspension` is the one that an active waitpoint belongs to,
    /// with the progress of the leaves that this waitpoint feeds.
    #[must_use]
    pub fn of(waitpoint: &WaitpointRecord, suspension: Option<(&SuspensionRecord, Vec<LeafProgress>)>) -> Self {
        let suspension = suspension.map(|(record, progress)| WaitpointSuspension {
            suspension_id: record.suspension_id,
            reason_code: record.reason_code,
            detail: record.detail.clone(),
            timeout_at: record.timeout_at,
            timeout_behavior: record.timeout_behavior,
            progress,
        });
        Self {
            waitpoint_id: waitpoint.waitpoint_id,
            state: waitpoint.state,
            sources: waitpoint.sources.clone(),
            created_at: waitpoint.created_at,
            activated_at: waitpoint.activated_at,
            expires_at: waitpoint.expires_at,
            signal_count: waitpoint.signal_count,
            suspension,
            tokens: Vec::new(),
        }
    }
}

/// Result of `list_pending_waitpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPendingWaitpointsResult {
    /// By waitpoint id.
    pub waitpoints: Vec<PendingWaitpointInfo>,
    /// Present exactly while more may remain.
    pub next_cursor: Option<String>,
}
