//! Pausing until the world answers.

use std::time::Duration;

use bytes::Bytes;
use ff_core::condition::{Matcher, ResumeCondition};
use ff_core::contracts::{
    IssuedToken, IssuedWaitpoint, MatchedSignals, ResumePolicy, SignalSource, SuspensionReason, SuspensionTimeout,
    TimeoutBehavior, WaitpointBinding,
};
use ff_core::ids::{SuspensionId, WaitpointId};
use ff_core::token::WaitpointToken;
use serde::Serialize;

use super::TaskError;
use super::outcome::Kind;
use crate::error::Error;
use crate::retries::millis;

/// What a pause waits for, and how long.
///
/// ```
/// use std::time::Duration;
/// use ff_engine::{Suspend, SuspensionReason, TimeoutBehavior};
/// let approval = Suspend::until_signal("approved")
///     .reason(SuspensionReason::WaitingForApproval)
///     .detail("publish the index")
///     .timeout(Duration::from_secs(3600), TimeoutBehavior::Fail);
/// # let _ = approval;
/// ```
#[derive(Debug)]
#[must_use = "nothing is paused before the context suspends"]
pub struct Suspend {
    pub(super) condition: ResumeCondition,
    pub(super) waitpoints: Vec<WaitpointBinding>,
    pub(super) reason: SuspensionReason,
    pub(super) detail: Option<String>,
    pub(super) policy: ResumePolicy,
    pub(super) timeout: SuspensionTimeout,
    pub(super) continuation: Option<Bytes>,
    pub(super) mistake: Option<Error>,
}

impl Suspend {
    /// Until this condition holds.
    pub fn until(condition: ResumeCondition) -> Self {
        Self {
            condition,
            waitpoints: Vec::new(),
            reason: SuspensionReason::WaitingForSignal,
            detail: None,
            policy: ResumePolicy::default(),
            timeout: SuspensionTimeout::Default,
            continuation: None,
            mistake: None,
        }
    }

    /// Until a signal of this name arrives.
    pub fn until_signal(name: impl Into<String>) -> Self {
        Self::until(ResumeCondition::signal(Matcher::named(name)))
    }

    /// Until any signal arrives.
    pub fn until_any_signal() -> Self {
        Self::until(ResumeCondition::any_signal())
    }

    /// Why, for those who look at it; `waiting_for_signal`.
    pub fn reason(mut self, reason: SuspensionReason) -> Self {
        self.reason = reason;
        self
    }

    /// What a reviewer should know.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// What happens when nothing has arrived after this time; the policy's default, which is to wait for ever.
    pub fn timeout(mut self, after: Duration, behavior: TimeoutBehavior) -> Self {
        self.timeout = SuspensionTimeout::After { after_ms: millis(after).max(1), behavior };
        self
    }

    /// Waits for ever, whatever the policy's default.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = SuspensionTimeout::Never;
        self
    }

    /// Listens at a waitpoint that was [made ahead](super::Context::waitpoint). Without any, one is made.
    pub fn on(mut self, waitpoint: &Waitpoint) -> Self {
        self.waitpoints.push(WaitpointBinding::pending(waitpoint.id));
        self
    }

    /// Listens at a new waitpoint with one token for each of these sources, valid for it alone.
    pub fn from_sources(mut self, sources: impl IntoIterator<Item = SignalSource>) -> Self {
        let sources = sources.into_iter().collect();
        self.waitpoints.push(WaitpointBinding::Fresh { waitpoint_id: WaitpointId::new(), sources });
        self
    }

    /// What the handler shall find when it is called again, as JSON, at most 1 KiB.
    pub fn remember<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match crate::payload::encode("what the suspension remembers", value) {
            Ok(bytes) => self.continuation = Some(bytes),
            Err(error) => self.mistake = Some(error),
        }
        self
    }
}

/// An address for signals, with the tokens that let their holders send them. `Debug` does not show the tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waitpoint {
    pub(super) id: WaitpointId,
    pub(super) tokens: Vec<IssuedToken>,
}

impl Waitpoint {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> WaitpointId {
        self.id
    }

    /// Its tokens: one for each source it was made for, or one for anybody.
    #[must_use]
    pub fn tokens(&self) -> &[IssuedToken] {
        &self.tokens
    }

    /// Its first token. There is always one.
    #[must_use]
    pub fn token(&self) -> Option<&WaitpointToken> {
        self.tokens.first().map(|issued| &issued.token)
    }
}

impl From<IssuedWaitpoint> for Waitpoint {
    fn from(issued: IssuedWaitpoint) -> Self {
        Self { id: issued.waitpoint_id, tokens: issued.tokens }
    }
}

/// The attempt is paused and its lease is gone: the handler hands out the tokens and returns this as its error. It is
/// called again, in the same attempt, when the condition holds.
#[derive(Clone, Debug)]
#[must_use = "return it from the handler: `Err(paused.into())`"]
pub struct Paused {
    pub(super) suspension_id: SuspensionId,
    pub(super) waitpoints: Vec<Waitpoint>,
}

impl Paused {
    /// The suspension.
    #[must_use]
    pub fn suspension_id(&self) -> SuspensionId {
        self.suspension_id
    }

    /// Its waitpoints, in the order in which they were asked for.
    #[must_use]
    pub fn waitpoints(&self) -> &[Waitpoint] {
        &self.waitpoints
    }
}

impl From<Paused> for TaskError {
    fn from(_: Paused) -> Self {
        Self(Kind::Paused)
    }
}

/// What became of a suspension.
#[derive(Clone, Debug)]
pub enum Suspended {
    /// It waits. Return this from the handler: `Err(paused.into())`.
    Paused(Paused),
    /// Signals that had arrived before satisfied it: the handler goes on, and its lease with it.
    AlreadySatisfied(MatchedSignals),
}
