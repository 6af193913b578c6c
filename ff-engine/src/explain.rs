//! Why an execution is not running: one structure and one sentence, from the records.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use ff_core::contracts::{
    BlockSummary, DescribeExecutionArgs, EdgeDirection, EdgeSnapshot, EdgeState, EndedBy, EvaluateFlowEligibilityArgs,
    EvaluateFlowEligibilityResult, ExecutionSnapshot, ListEdgesArgs, ListExecutionsArgs, SuspensionReason,
};
use ff_core::ids::{ExecutionId, LaneId, WaitpointId, WorkerInstanceId};
use ff_core::state::{EndCause, NotBeforeKind, OwnershipState, PublicState, StateName};
use ff_core::time::TimestampMs;

use crate::engine::Engine;
use crate::error::Result;
use crate::repeat::call;

/// Executions that are looked at to find a place in a queue.
const MAX_WALKED: u64 = 10_000;
/// Edges that are listed in an explanation.
const MAX_EDGES: usize = 100;

/// Why an execution is, or is not, running. `Display` says it in one sentence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its state.
    pub state: PublicState,
    /// Why.
    pub why: Why,
    /// Its deadline, if it has one; from then on nobody gets it.
    pub deadline_at: Option<TimestampMs>,
}

/// The reasons of an [`Explanation`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Why {
    /// It has ended.
    Ended {
        /// Why.
        cause: Option<EndCause>,
        /// By whom.
        by: Option<EndedBy>,
        /// The failure's or cancellation's reason.
        reason: Option<String>,
    },
    /// A worker has it.
    Running {
        /// Which.
        worker: WorkerInstanceId,
        /// Since when.
        since: TimestampMs,
        /// When its lease runs out unless it is renewed.
        lease_expires_at: TimestampMs,
    },
    /// It waits for signals or an operator.
    Suspended {
        /// What for.
        reason: SuspensionReason,
        /// What a reviewer should know.
        detail: Option<String>,
        /// Where signals are sent to.
        waitpoints: Vec<WaitpointId>,
        /// When the wait ends by itself.
        timeout_at: Option<TimestampMs>,
    },
    /// Its time has not come.
    NotYet {
        /// When it comes.
        until: TimestampMs,
        /// What it waits out.
        kind: NotBeforeKind,
    },
    /// It waits for other executions of its flow, or for the flow itself.
    Dependencies {
        /// Its flow is not sealed: nothing of it starts yet.
        held: bool,
        /// Incoming edges that are not resolved.
        unresolved: u32,
        /// The first hundred of them.
        edges: Vec<EdgeSnapshot>,
    },
    /// It is blocked, by an operator, a policy, a budget, a quota policy or a route.
    Blocked {
        /// What blocks it, in the order in which they count.
        blocks: Vec<BlockSummary>,
    },
    /// It was promised to a worker that has not claimed it yet.
    Promised {
        /// Which worker.
        worker: WorkerInstanceId,
        /// When the promise lapses.
        until: TimestampMs,
    },
    /// It is ready, and none of this process's workers for its lane has what it requires. Workers of other processes are
    /// not known here.
    NoCapableWorker {
        /// Its lane.
        lane: LaneId,
        /// Required tokens that none of them offers; none if each is offered, but not by one worker.
        missing: BTreeSet<String>,
    },
    /// It is ready, and none of this process's workers for its lane has a handler for its kind. Workers of other processes
    /// are not known here.
    NoHandler {
        /// Its lane.
        lane: LaneId,
        /// Its kind.
        kind: String,
    },
    /// It is ready and waits for a worker.
    Ready {
        /// Its lane.
        lane: LaneId,
        /// How many of the lane are before it in its partition, at most: some of them may be held, or need what not every
        /// worker has.
        ahead: u64,
        /// There are more than were looked at.
        at_least: bool,
        /// It is asked for at its budgets or its quota policy first.
        needs_admission: bool,
        /// It was lost or withdrawn from a worker and waits to be taken over.
        lost: bool,
        /// How many running workers of this process serve its lane.
        workers_here: usize,
    },
}

impl Engine {
    /// Why an execution is not running, or that it is.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use std::time::Duration;
    /// use ff_engine::{Engine, Why};
    ///
    /// let engine = Engine::connect("memory:").await?;
    /// let mail = engine.execution("mail", &()).delay(Duration::from_secs(3600)).submit().await?;
    /// let explanation = engine.explain(mail.id()).await?;
    /// assert!(matches!(explanation.why, Why::NotYet { .. }));
    /// assert!(explanation.to_string().starts_with("delayed: it waits until "));
    /// # Ok::<(), ff_engine::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `execution_not_found`, and the backend's errors.
    pub async fn explain(&self, execution_id: ExecutionId) -> Result<Explanation> {
        let x = call!(self, describe_execution(DescribeExecutionArgs { execution_id }))?;
        let why = self.why(&x).await?;
        Ok(Explanation { execution_id, state: x.public_state, why, deadline_at: x.deadline_at })
    }

    async fn why(&self, x: &ExecutionSnapshot) -> Result<Why> {
        let vector = x.summary.state_vector;
        Ok(match vector.name() {
            Some(StateName::Done) => Why::Ended {
                cause: x.end_cause,
                by: x.ended_by.clone(),
                reason: x.failure_reason.clone().or_else(|| x.cancel_reason.clone()),
            },
            Some(StateName::Running) => match &x.current_lease {
                Some(lease) => Why::Running {
                    worker: lease.worker_instance_id.clone(),
                    since: lease.acquired_at,
                    lease_expires_at: lease.expires_at,
                },
                None => self.queued(x).await?,
            },
            Some(StateName::Suspended) => {
                let suspension = x.suspension.as_ref();
                Why::Suspended {
                    reason: suspension.map_or(SuspensionReason::WaitingForSignal, |s| s.reason_code),
                    detail: suspension.and_then(|s| s.detail.clone()),
                    waitpoints: suspension.map(|s| s.waitpoint_ids.clone()).unwrap_or_default(),
                    timeout_at: suspension.and_then(|s| s.timeout_at),
                }
            }
            Some(StateName::Deps) => self.dependencies(x).await?,
            // What waits for its time may be blocked as well; that counts when the time has come.
            Some(StateName::Delayed) if x.not_before.is_some() => Why::NotYet {
                until: x.not_before.unwrap_or(x.created_at),
                kind: x.not_before_kind.unwrap_or(NotBeforeKind::Delay),
            },
            // Whoever was lost or withdrawn keeps its vector and has the rest beside it.
            _ if !x.blocks.is_empty() => Why::Blocked { blocks: x.blocks.clone() },
            _ => match (x.not_before, x.not_before_kind) {
                (Some(until), Some(kind)) => Why::NotYet { until, kind },
                _ => match &x.grant {
                    Some(grant) => Why::Promised { worker: grant.worker_instance_id.clone(), until: grant.expires_at },
                    None => self.queued(x).await?,
                },
            },
        })
    }

    async fn dependencies(&self, x: &ExecutionSnapshot) -> Result<Why> {
        let args = EvaluateFlowEligibilityArgs { execution_id: x.execution_id };
        let EvaluateFlowEligibilityResult::Status { held, unresolved_count, .. } =
            call!(self, evaluate_flow_eligibility(args))?;
        let mut edges = Vec::new();
        if let Some(flow_id) = x.flow_id {
            let mut cursor = None;
            while edges.len() < MAX_EDGES {
                let args = ListEdgesArgs::builder()
                    .flow_id(flow_id)
                    .direction(EdgeDirection::Incoming { to_node: x.execution_id })
                    .maybe_cursor(cursor.take())
                    .build();
                let page = call!(self, list_edges(args))?;
                let open =
                    |edge: &EdgeSnapshot| !matches!(edge.edge_state, EdgeState::Satisfied | EdgeState::Impossible);
                edges.extend(page.edges.into_iter().filter(open));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            edges.truncate(MAX_EDGES);
        }
        Ok(Why::Dependencies { held, unresolved: unresolved_count, edges })
    }

    async fn queued(&self, x: &ExecutionSnapshot) -> Result<Why> {
        let workers = self.workers_of(&x.lane_id);
        let required = &x.policy.required_capabilities;
        if !workers.is_empty() && !workers.iter().any(|worker| worker.kinds.contains(&x.kind)) {
            return Ok(Why::NoHandler { lane: x.lane_id.clone(), kind: x.kind.clone() });
        }
        if !workers.is_empty() && !workers.iter().any(|worker| worker.capabilities.covers(required)) {
            let offers = |token: &str| workers.iter().any(|w| w.capabilities.iter().any(|offered| offered == token));
            let missing = required.iter().filter(|token| !offers(token)).map(ToString::to_string).collect();
            return Ok(Why::NoCapableWorker { lane: x.lane_id.clone(), missing });
        }
        let place = |priority: i32, created_at: TimestampMs, id: ExecutionId| (Reverse(priority), created_at, id);
        let own = place(x.priority, x.created_at, x.execution_id);
        let (mut ahead, mut walked, mut cursor) = (0, 0, None);
        let at_least = loop {
            let args = ListExecutionsArgs::builder()
                .partition(x.execution_id.partition())
                .lane_id(x.lane_id.clone())
                .public_state(PublicState::Waiting)
                .limit(1000)
                .maybe_cursor(cursor.take())
                .build();
            let page = call!(self, list_executions(args))?;
            walked += page.executions.len() as u64;
            let before = page.executions.iter().filter(|o| place(o.priority, o.created_at, o.execution_id) < own);
            ahead += before.count() as u64;
            cursor = page.next_cursor;
            if cursor.is_none() {
                break false;
            }
            if walked >= MAX_WALKED {
                break true;
            }
        };
        let needs_admission = !x.policy.budget_ids.is_empty() || x.policy.quota_policy_id.is_some();
        let lost = x.summary.state_vector.ownership_state != OwnershipState::Unowned;
        let (lane, workers_here) = (x.lane_id.clone(), workers.len());
        Ok(Why::Ready { lane, ahead, at_least, needs_admission, lost, workers_here })
    }
}

/// An instant for people.
struct At(TimestampMs);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNIX_EPOCH.checked_add(Duration::from_millis(self.0.as_millis())) {
            // The formatter knows years of four digits.
            Some(at) if self.0.as_millis() < 253_402_300_800_000 => humantime::format_rfc3339_seconds(at).fmt(f),
            _ => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.state)?;
        match &self.why {
            Why::Ended { cause, by, reason } => {
                f.write_str("it has ended")?;
                if let Some(cause) = cause {
                    write!(f, " ({cause})")?;
                }
                if let Some(by) = by {
                    write!(f, ", by {by}")?;
                }
                if let Some(reason) = reason.as_ref().filter(|r| !r.is_empty()) {
                    write!(f, ": {reason}")?;
                }
                return Ok(());
            }
            Why::Running { worker, since, lease_expires_at } => {
                write!(f, "{worker} has it since {}, with a lease until {}", At(*since), At(*lease_expires_at))?;
            }
            Why::Suspended { reason, detail, waitpoints, timeout_at } => {
                write!(f, "it is suspended ({reason})")?;
                if let Some(detail) = detail.as_ref().filter(|d| !d.is_empty()) {
                    write!(f, ", {detail}")?;
                }
                match waitpoints.len() {
                    0 => {}
                    1 => f.write_str(", listening at 1 waitpoint")?,
                    n => write!(f, ", listening at {n} waitpoints")?,
                }
                match timeout_at {
                    Some(at) => write!(f, ", at most until {}", At(*at))?,
                    None => f.write_str(", for as long as it takes")?,
                }
            }
            Why::NotYet { until, kind } => {
                let what = match kind {
                    NotBeforeKind::Delay => "its delay",
                    NotBeforeKind::RetryBackoff => "the wait before its retry",
                    NotBeforeKind::ResumeDelay => "the wait before it goes on",
                };
                write!(f, "it waits until {}, when {what} is over", At(*until))?;
            }
            Why::Dependencies { held: true, .. } => {
                f.write_str("its flow is not sealed yet, and nothing starts before")?;
            }
            Why::Dependencies { unresolved, edges, .. } => {
                write!(f, "it waits for {unresolved} other executions of its flow")?;
                if let Some(first) = edges.first() {
                    // Not all of them need be listed.
                    let others = unresolved.saturating_sub(1);
                    write!(f, ": {}", first.upstream_execution_id)?;
                    if others > 0 {
                        write!(f, " and {others} more")?;
                    }
                }
            }
            Why::Blocked { blocks } => {
                f.write_str("it is held back by ")?;
                for (n, block) in blocks.iter().enumerate() {
                    let joint = if n == 0 { "" } else { ", and by " };
                    write!(f, "{joint}{} (set by {}", block.reason.blocking_reason(), block.by)?;
                    if !block.detail.is_empty() {
                        write!(f, ": {}", block.detail)?;
                    }
                    f.write_str(")")?;
                    match block.until {
                        Some(until) => write!(f, " until {}", At(until))?,
                        None => f.write_str(" until somebody lifts it")?,
                    }
                }
            }
            Why::Promised { worker, until } => {
                write!(f, "it is promised to {worker}, which must claim it before {}", At(*until))?;
            }
            Why::NoHandler { lane, kind } => {
                write!(
                    f,
                    "it is ready, and no worker of lane {lane} in this process has a handler for the kind {kind:?}"
                )?;
            }
            Why::NoCapableWorker { lane, missing } if missing.is_empty() => {
                write!(
                    f,
                    "it is ready, and no single worker of lane {lane} in this process offers all that it requires"
                )?;
            }
            Why::NoCapableWorker { lane, missing } => {
                let missing = missing.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                write!(f, "it is ready, and no worker of lane {lane} in this process offers {missing}")?;
            }
            Why::Ready { lane, ahead, at_least, needs_admission, lost, workers_here } => {
                f.write_str(if *lost {
                    "it was lost by its worker and is ready to be taken over"
                } else {
                    "it is ready"
                })?;
                let more = if *at_least { " or more" } else { "" };
                write!(f, ", with at most {ahead}{more} before it in lane {lane}")?;
                if *needs_admission {
                    f.write_str("; its budgets and quota policy are asked when its turn comes")?;
                }
                if *workers_here == 0 {
                    f.write_str("; no worker of this process serves that lane")?;
                }
            }
        }
        if let Some(deadline) = self.deadline_at {
            write!(f, "; its deadline is {}", At(deadline))?;
        }
        Ok(())
    }
}
