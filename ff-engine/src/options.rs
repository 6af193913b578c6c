//! What an execution's creator may ask for, the same for a stand-alone execution and for a flow's task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ff_core::contracts::FlowMemberSpec;
use ff_core::ids::{DataName, ExecutionId, LaneId};
use ff_core::policy::ExecutionPolicy;
use ff_core::time::When;

use crate::engine::Engine;
use crate::error::Error;
use crate::payload::JSON;
use crate::retries::{Retries, millis};

/// The options, and the first mistake in them: reported when the work is submitted.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) lane: Option<LaneId>,
    pub(crate) priority: i32,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) policy: ExecutionPolicy,
    pub(crate) delay: Option<When>,
    pub(crate) mistake: Option<Error>,
}

impl Options {
    pub(crate) fn lane(&mut self, lane: &str) {
        match LaneId::new(lane) {
            Ok(lane) => self.lane = Some(lane),
            Err(error) => self.wrong(error.into()),
        }
    }

    pub(crate) fn wrong(&mut self, error: Error) {
        self.mistake.get_or_insert(error);
    }

    /// The timers that its creation arms.
    pub(crate) fn timers(&self) -> impl Iterator<Item = When> + use<> {
        [self.delay, self.policy.timeouts.deadline].into_iter().flatten()
    }

    /// A flow's member with these options, in `lane` if they name none.
    pub(crate) fn into_member(
        self,
        engine: &Engine,
        execution_id: ExecutionId,
        name: DataName,
        lane: &LaneId,
        kind: String,
        payload: Bytes,
    ) -> FlowMemberSpec {
        FlowMemberSpec::builder()
            .name(name)
            .execution_id(execution_id)
            .lane_id(self.lane.unwrap_or_else(|| lane.clone()))
            .kind(kind)
            .payload(payload)
            .payload_encoding(JSON)
            .priority(self.priority)
            .tags(self.tags)
            .policy(Arc::new(self.policy))
            .maybe_delay(self.delay)
            .maybe_creator(engine.creator().map(str::to_owned))
            .build()
    }

    pub(crate) fn retries(&mut self, retries: Retries) {
        self.policy.retry = retries.into();
    }

    pub(crate) fn deadline(&mut self, after: Duration) {
        self.policy.timeouts.deadline = Some(When::After(millis(after)));
    }

    pub(crate) fn attempt_timeout(&mut self, timeout: Duration) {
        self.policy.timeouts.attempt_timeout_ms = Some(millis(timeout).max(1));
    }

    pub(crate) fn capabilities<S: Into<String>>(&mut self, tokens: impl IntoIterator<Item = S>) {
        self.policy.required_capabilities = tokens.into_iter().collect();
    }
}

/// The setters that both builders offer; `$self.$edit(|options| ..)` reaches the options.
macro_rules! setters {
    () => {
        /// The lane it waits in; the engine's default.
        pub fn lane(self, lane: impl AsRef<str>) -> Self {
            self.edit(|o| o.lane(lane.as_ref()))
        }

        /// Greater is served first; 0.
        pub fn priority(self, priority: i32) -> Self {
            self.edit(|o| o.priority = priority)
        }

        /// Not started before this time has passed.
        pub fn delay(self, delay: std::time::Duration) -> Self {
            self.edit(|o| o.delay = Some(ff_core::time::When::After($crate::retries::millis(delay))))
        }

        /// Ends expired when this time has passed since its creation, whatever it is doing.
        pub fn deadline(self, after: std::time::Duration) -> Self {
            self.edit(|o| o.deadline(after))
        }

        /// One attempt may run this long, pauses left out; then it fails with the category `timeout`.
        pub fn attempt_timeout(self, timeout: std::time::Duration) -> Self {
            self.edit(|o| o.attempt_timeout(timeout))
        }

        /// A label, such as `team.name`: lower case, a point, and a rest.
        pub fn tag(self, key: impl Into<String>, value: impl Into<String>) -> Self {
            let (key, value) = (key.into(), value.into());
            self.edit(|o| {
                o.tags.insert(key, value);
            })
        }

        /// How often and when a failed attempt is tried again; not at all.
        pub fn retries(self, retries: $crate::retries::Retries) -> Self {
            self.edit(|o| o.retries(retries))
        }

        /// What a worker must advertise to get it.
        pub fn requires<S: Into<String>>(self, tokens: impl IntoIterator<Item = S>) -> Self {
            self.edit(|o| o.capabilities(tokens))
        }

        /// A budget that must not be exhausted when it is claimed; see [`Engine::budget`](crate::Engine::budget). At most
        /// 16.
        pub fn budget(self, id: impl AsRef<str>) -> Self {
            let id = ff_core::ids::BudgetId::new(id);
            self.edit(|o| match id {
                Ok(id) => {
                    o.policy.budget_ids.insert(id);
                }
                Err(error) => o.wrong(error.into()),
            })
        }

        /// The quota policy that lets it in; see [`Engine::quota`](crate::Engine::quota).
        pub fn quota(self, id: impl AsRef<str>) -> Self {
            let id = ff_core::ids::QuotaPolicyId::new(id);
            self.edit(|o| match id {
                Ok(id) => o.policy.quota_policy_id = Some(id),
                Err(error) => o.wrong(error.into()),
            })
        }

        /// How long it can still be read after its end; a day. Members of a flow are kept until the longest of all of them
        /// is over.
        pub fn retention(self, keep: std::time::Duration) -> Self {
            self.edit(|o| o.policy.retention_ms = $crate::retries::millis(keep))
        }

        /// The whole policy, in place of all that was said before.
        pub fn policy(self, policy: ff_core::policy::ExecutionPolicy) -> Self {
            self.edit(|o| o.policy = policy)
        }
    };
}
pub(crate) use setters;
