//! The invariants of the contract, checked over a whole state. Everything is recomputed from the records here, not
//! through the functions that keep the indexes level, so that the two can disagree.
//!
//! Each invariant is a [`Rule`], and each rule has a test that damages a sound state and sees it convicted.

mod budget;
mod execution;
mod flow;
mod form;
mod history;
mod index;
mod keystore;
mod quota;
#[cfg(test)]
mod tests;

use ff_core::word_enum;

use crate::model::{Model, Partition};

word_enum! {
    /// What must hold of every state.
    pub enum Rule {
        /// The six dimensions of every execution are one of the table's vectors.
        LegalVector = "legal_vector",
        /// A lease exists exactly while RUNNING.
        LeaseWhileRunning = "lease_while_running",
        /// An end is recorded exactly when DONE.
        EndWhenDone = "end_when_done",
        /// A purge is due exactly for what has ended and stands alone.
        PurgeWhenDone = "purge_when_done",
        /// Attempts are numbered without gaps, and counted.
        AttemptsCounted = "attempts_counted",
        /// An attempt's end is recorded exactly when it is final, and all but the newest are.
        AttemptsEnd = "attempts_end",
        /// Only a running attempt has a deadline.
        AttemptDeadline = "attempt_deadline",
        /// The newest attempt's life fits the vector.
        AttemptFits = "attempt_fits",
        /// Runs are numbered without gaps, and closed by replays.
        RunsCounted = "runs_counted",
        /// Blocks exist only while runnable or reclaimable; those by the engine have an end.
        Blocks = "blocks",
        /// A suspension is open exactly while SUSPENDED.
        SuspensionOpen = "suspension_open",
        /// A grant exists only while it can be used.
        GrantUsable = "grant_usable",
        /// What has ended waits for nothing.
        NothingAfterEnd = "nothing_after_end",
        /// The open waitpoints are listed, active ones belong to the open suspension, and all are counted.
        Waitpoints = "waitpoints",
        /// Signals are counted where they were sent, and their seqs are behind the next one.
        Signals = "signals",
        /// Every signal of a sender is recognised when it is sent again, and by its key.
        SignalDedup = "signal_dedup",
        /// A stream's frames are those that its metadata tells of, in rising order.
        Streams = "streams",
        /// Every execution that has not ended is in a queue, armed with a timer, or waits for a named event.
        NobodyStranded = "nobody_stranded",
        /// Ready queues hold what the records imply.
        Queues = "queues",
        /// A set is registered in its lane while an execution of it is open.
        RegisteredSets = "registered_sets",
        /// The due-time index holds what the records imply.
        Timers = "timers",
        /// Lane counts equal a recount.
        LaneCounts = "lane_counts",
        /// The lease index holds the leases.
        LeaseIndex = "lease_index",
        /// An idempotency key names an execution that has it.
        KeyIndex = "key_index",
        /// What is being purged does not exist.
        Remains = "remains",
        /// A backlog item stands for a flow or execution that is there, or for a purge.
        Backlog = "backlog",
        /// A flow has a graph, and its members and edges are those it counts.
        FlowGraph = "flow_graph",
        /// A flow's members by state equal a recount, and so do its open ones.
        FlowCounts = "flow_counts",
        /// A flow is due for its purge exactly when it is closed and none of its members is open.
        FlowPurge = "flow_purge",
        /// Every member names its flow, and every execution of a flow is its member.
        Membership = "membership",
        /// The orders in which edges are walked hold each edge once.
        EdgeOrders = "edge_orders",
        /// An edge is resolved exactly when it is satisfied or impossible.
        EdgeResolution = "edge_resolution",
        /// A member's counts of edges equal a recount.
        EdgeCounts = "edge_counts",
        /// A flow's deferred work is what the backlog holds of it.
        FlowDeferred = "flow_deferred",
        /// An edge is pending behind an ended upstream only while the backlog owes it.
        EdgeOwed = "edge_owed",
        /// The current kid is installed, holds its secret and does not expire; the others expire or are without secret.
        Kids = "kids",
        /// A budget has its definition's bounds.
        BudgetDefinition = "budget_definition",
        /// Usage is above 0 where it is kept, within bounds, and of at most 64 undeclared dimensions.
        BudgetUsage = "budget_usage",
        /// The next reset lies a whole number of intervals behind the creation.
        BudgetSchedule = "budget_schedule",
        /// Resets and breaches are counted exactly when their last is known.
        BudgetCounters = "budget_counters",
        /// Usage that reaches a hard limit has exhausted the budget.
        BudgetExhausted = "budget_exhausted",
        /// Remembered calls are ordered by age, each once, and their keys and answers fit the budget.
        BudgetMemory = "budget_memory",
        /// A policy has its definition's bounds.
        QuotaDefinition = "quota_definition",
        /// Window entries exist only with a rate, in order, each identity once, at most as many as it admits.
        QuotaWindow = "quota_window",
        /// Slots exist only with a cap, at most as many as it admits, and are ordered by their end.
        QuotaSlots = "quota_slots",
        /// Waiters stand in the order of their first refusal and of their `retry_at`, each once, within the bound.
        QuotaWaiters = "quota_waiters",
        /// Every stored record has a flat form that is read back as it is.
        StoredForm = "stored_form",
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The rule.
    pub(crate) rule: Rule,
    /// Where, and what is there.
    pub(crate) line: String,
}

/// Collects what is wrong with one part of a state.
pub(crate) struct Findings {
    of: String,
    found: Vec<Finding>,
}

impl Findings {
    fn new(of: String) -> Self {
        Self { of, found: Vec::new() }
    }

    fn ensure(&mut self, rule: Rule, ok: bool, line: impl FnOnce() -> String) {
        if !ok {
            self.found.push(Finding { rule, line: format!("{rule}: {}: {}", self.of, line()) });
        }
    }
}

/// What is wrong with a state; none if nothing is.
#[must_use]
pub(crate) fn audit(model: &Model) -> Vec<Finding> {
    let mut found: Vec<Finding> = model.partitions().flat_map(partition).collect();
    found.extend(model.budgets().flat_map(|(id, budget)| budget::audit(id, budget)));
    found.extend(model.policies().flat_map(|(id, quota)| quota::audit(id, quota)));
    found
}

/// Whether every stored record can be written and read back: slower than [`audit`], and apart from it.
#[must_use]
pub(crate) fn forms(model: &Model) -> Vec<Finding> {
    form::audit(model)
}

fn partition(p: &Partition) -> Vec<Finding> {
    let mut f = Findings::new(format!("partition {}", p.number()));
    for x in p.executions() {
        execution::audit(&mut f, p, x);
        history::audit(&mut f, x);
    }
    index::audit(&mut f, p);
    flow::audit(&mut f, p);
    keystore::audit(&mut f, p);
    f.found
}
