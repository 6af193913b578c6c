//! What an operation costs: the commands that its function runs in the store, counted by the server.
//!
//! A number that rises is a cost that somebody must want; one that falls is to be pinned lower.

mod common;

use std::collections::BTreeSet;

use ff_backend_valkey::library_source;
use ff_conformance::stage::*; // the words of the cases
use ff_core::contracts::*; // tests speak the whole contract
use ff_core::operation::{OpName, Operation};
use ff_core::policy::ExecutionPolicy;
use ff_core::time::When;

use common::Opened;

/// Commands per call, at most. With no timer due, no backlog, no capability set and no key unless it says so.
const TABLE: &[(&str, u64)] = &[
    ("create_execution", 7),
    ("create_execution, repeat", 1),
    ("create_execution with payload, key and capability", 12),
    ("claim_next of 1", 13),
    ("claim_next of 16", 27),
    ("claim_next of nothing", 6),
    ("renew_lease", 3),
    ("update_progress", 2),
    ("append_frame", 5),
    ("fail_execution, retried", 7),
    ("complete_execution", 7),
    ("complete_execution, repeat", 1),
    ("complete_execution with a result", 7),
    ("replay_execution", 8),
    ("issue_claim_grant", 4),
    ("claim_execution", 8),
    ("delay_execution", 6),
    ("create_pending_waitpoint", 9),
    ("suspend_execution at one waitpoint", 25),
    ("deliver_signal that resumes", 22),
    ("create_execution into a flow", 10),
    ("create_execution behind one edge", 16),
    ("complete_execution before three members", 28),
    ("submit_flow of two members and an edge", 22),
    ("sweep of nothing", 2),
    ("report_usage with a key", 6),
    ("check_admission, admitted", 14),
    ("get_execution", 1),
    ("describe_execution", 1),
    ("lane_counts of one partition", 1),
];

/// How many commands the server has run within functions since it was asked to forget.
async fn commands(o: &Opened) -> u64 {
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut o.store.clone()).await.expect("tells its commands");
    let mut sum = 0;
    for line in info.lines() {
        let Some((name, rest)) = line.strip_prefix("cmdstat_").and_then(|l| l.split_once(':')) else { continue };
        let calls = rest.strip_prefix("calls=").and_then(|r| r.split(',').next()).and_then(|n| n.parse::<u64>().ok());
        if !matches!(name, "fcall" | "info" | "config|resetstat") {
            sum += calls.unwrap_or_else(|| panic!("{line}"));
        }
    }
    sum
}

struct Counted {
    o: Opened,
    rows: Vec<(&'static str, u64)>,
}

impl Counted {
    /// Counts the commands of one call, which must succeed.
    async fn row(&mut self, name: &'static str, operation: impl Into<Operation>) {
        redis::cmd("CONFIG")
            .arg("RESETSTAT")
            .query_async::<()>(&mut self.o.store.clone())
            .await
            .expect("forgets its counts");
        let answer = self.o.s.call(operation).await;
        assert!(answer.is_ok(), "{name}: {answer:?}");
        self.rows.push((name, commands(&self.o).await));
    }
}

/// A RUNNING execution, whatever else is ready.
async fn owned(s: &Stage, policy: ExecutionPolicy) -> (ff_core::ids::ExecutionId, Fence) {
    let id = s.ready_with(policy).await;
    (id, s.claim_by_id(id).await.fence)
}

async fn counted() -> Vec<(&'static str, u64)> {
    let o = Opened::fresh().await;
    let mut c = Counted { o, rows: Vec::new() };
    let plain = c.o.s.creation();
    c.row("create_execution", plain.clone()).await;
    c.row("create_execution, repeat", plain).await;
    let mut args = c.o.s.creation_with(requires(["gpu"]));
    args.payload = "work".into();
    args.idempotency_key = Some(key_at_home(&namespace()));
    c.row("create_execution with payload, key and capability", args).await;
    let claim = c.o.s.claim_args(1);
    c.row("claim_next of 1", claim).await;
    for _ in 0..16 {
        c.o.s.ready().await;
    }
    let claim = c.o.s.claim_args(16);
    c.row("claim_next of 16", claim).await;
    let claim = c.o.s.claim_args(1);
    c.row("claim_next of nothing", claim).await;
    let (id, fence) = owned(&c.o.s, retries(3, 1_000)).await;
    c.row("renew_lease", RenewLeaseArgs { execution_id: id, fence, lease_ttl_ms: 60_000 }).await;
    c.row("update_progress", UpdateProgressArgs::builder().execution_id(id).fence(fence).pct(7).build()).await;
    c.row("append_frame", frame(id, fence, "one")).await;
    let fails = FailExecutionArgs::builder().execution_id(id).reason("broke").category("error");
    c.row("fail_execution, retried", fails.actor(Actor::Worker(fence)).build()).await;
    let (id, fence) = owned(&c.o.s, ExecutionPolicy::default()).await;
    let done = CompleteExecutionArgs::builder().execution_id(id).actor(Actor::Worker(fence)).build();
    c.row("complete_execution", done.clone()).await;
    c.row("complete_execution, repeat", done).await;
    let (id, fence) = owned(&c.o.s, ExecutionPolicy::default()).await;
    let done = c.o.s.completion(id, fence, b"result");
    c.row("complete_execution with a result", done).await;
    let again = c.o.s.replay_args(id, 0);
    c.row("replay_execution", again).await;
    let granted = c.o.s.ready().await;
    let grant = c.o.s.grant_args(granted, 10_000);
    c.row("issue_claim_grant", grant).await;
    let claim = c.o.s.claim_by_id_args(granted);
    c.row("claim_execution", claim).await;
    let (id, fence) = owned(&c.o.s, ExecutionPolicy::default()).await;
    let delay = DelayExecutionArgs { execution_id: id, actor: Actor::Worker(fence), until: When::After(5_000) };
    c.row("delay_execution", delay).await;
    let (id, fence) = owned(&c.o.s, ExecutionPolicy::default()).await;
    let pending = c.o.s.pending_args(id, fence);
    c.row("create_pending_waitpoint", pending).await;
    let suspend = c.o.s.any_signal(id, fence);
    c.row("suspend_execution at one waitpoint", suspend).await;
    let (id, fence) = owned(&c.o.s, ExecutionPolicy::default()).await;
    let waitpoint = c.o.s.suspend_on_any_signal(id, fence).await;
    let signal = c.o.s.signal(id, &waitpoint, "go");
    c.row("deliver_signal that resumes", signal).await;
    let flow_id = c.o.s.flow().await;
    let member = c.o.s.member_creation(flow_id, &[]);
    let up = member.execution_id;
    c.row("create_execution into a flow", member).await;
    let member = c.o.s.member_creation(flow_id, &[up]);
    c.row("create_execution behind one edge", member).await;
    c.o.s.members(flow_id, 2, &[up]).await;
    let done = c.o.s.operator_completion(up);
    c.row("complete_execution before three members", done).await;
    let submission = c.o.s.submission(vec![spec("a"), spec("b")], vec![arrow("a", "b")]);
    c.row("submit_flow of two members and an edge", submission).await;
    c.row("sweep of nothing", SweepArgs::builder().partition(PARTITION).build()).await;
    c.o.s.create_budget(budget("b", &[("tokens", limits(10, 5))])).await;
    c.row("report_usage with a key", keyed(record("b", &[("tokens", 1)]), "once")).await;
    c.o.s.create_quota(rate_and_cap("q", 2, 10_000, 2)).await;
    c.row("check_admission, admitted", question("q", up, 60_000)).await;
    c.row("get_execution", GetExecutionArgs { execution_id: up }).await;
    c.row("describe_execution", DescribeExecutionArgs { execution_id: up }).await;
    c.row("lane_counts of one partition", LaneCountsArgs::builder().lane_id(lane()).partition(PARTITION).build()).await;
    c.rows
}

#[tokio::test]
async fn no_operation_runs_more_commands_than_the_table_says() {
    let rows = counted().await;
    let names = |rows: &[(&'static str, u64)]| rows.iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(names(&rows), names(TABLE));
    let dearer: Vec<_> = rows.iter().zip(TABLE).filter(|(counted, pinned)| counted.1 > pinned.1).collect();
    assert!(dearer.is_empty(), "counted and pinned: {dearer:?}");
    for (counted, pinned) in rows.iter().zip(TABLE).filter(|(counted, pinned)| counted.1 < pinned.1) {
        println!("{}: {} instead of {}: pin it lower", counted.0, counted.1, pinned.1);
    }
}

#[tokio::test]
async fn the_servers_functions_are_the_operations() {
    let o = Opened::fresh().await;
    let listed: redis::Value =
        redis::cmd("FUNCTION").arg("LIST").query_async(&mut o.store.clone()).await.expect("lists its functions");
    let mut found = BTreeSet::new();
    names(&listed, &mut found);
    let mut wanted: BTreeSet<String> = OpName::ALL.iter().filter_map(|op| op.function()).map(str::to_owned).collect();
    // What a backend asks its own library beside them.
    wanted.extend(["ff_lacking", "ff_version", "ff_load_waitpoint_keys", "ff_stream_marks"].map(str::to_owned));
    assert_eq!(found, wanted);
    assert!(library_source(2).0.contains("'ff2_claim_next'"), "a later protocol has names of its own");
}

/// The texts that look like names of functions, wherever they stand in a reply.
fn names(value: &redis::Value, found: &mut BTreeSet<String>) {
    match value {
        redis::Value::Array(items) | redis::Value::Set(items) => items.iter().for_each(|v| names(v, found)),
        redis::Value::Map(pairs) => pairs.iter().for_each(|(k, v)| {
            names(k, found);
            names(v, found);
        }),
        redis::Value::BulkString(text) => {
            let text = String::from_utf8_lossy(text);
            if text.starts_with("ff_") {
                found.insert(text.into_owned());
            }
        }
        _ => {}
    }
}
