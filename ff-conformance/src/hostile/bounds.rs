//! The contract's bounds, one row each: what is still taken, what is refused, and how the refusal reads. Written down
//! from the contract's pages, not read from the code that keeps them.

use ff_core::bounds::Deployment;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::operation::{OpName, Operation, dispatch};
use ff_core::refusal::{Code, Details, Refusal};
use ff_core::time::TimestampMs;
use serde_json::{Value, json};

use super::spoil::document;
use crate::random::{Action, Step, World};
use crate::stage::START_MS;

/// A bound: set at `pointer`, every value of `taken` passes it and every value of `refused` is `code` of `field`.
struct Bound {
    of: OpName,
    pointer: &'static str,
    taken: Vec<Value>,
    refused: Vec<Value>,
    code: Code,
    field: &'static str,
}

fn text(bytes: usize) -> Value {
    Value::String("x".repeat(bytes))
}

/// The same number of bytes in half as many characters.
fn wide(bytes: usize) -> Value {
    Value::String("é".repeat(bytes / 2))
}

fn base64(bytes: usize) -> Value {
    Value::String(data_encoding::BASE64.encode(&vec![0xff; bytes]))
}

fn list(count: usize, entry: impl Fn(usize) -> Value) -> Value {
    Value::Array((0..count).map(entry).collect())
}

fn map(count: usize, entry: impl Fn(usize) -> (String, Value)) -> Value {
    Value::Object((0..count).map(entry).collect())
}

fn id(n: usize) -> String {
    format!("01890a5d-ac96-774b-bcce-{n:012x}")
}

/// 366 days.
const YEAR: u64 = 31_622_400_000;
/// 2^53-1.
const SAFE: u64 = 9_007_199_254_740_991;

#[derive(Default)]
struct Table(Vec<Bound>);

impl Table {
    fn row(&mut self, of: OpName, pointer: &'static str, taken: Vec<Value>, refused: Vec<Value>, field: &'static str) {
        self.0.push(Bound { of, pointer, taken, refused, code: Code::InvalidInput, field });
    }

    fn coded(&mut self, code: Code) {
        if let Some(last) = self.0.last_mut() {
            last.code = code;
        }
    }

    /// 1..=256 bytes.
    fn name(&mut self, of: OpName, pointer: &'static str, field: &'static str) {
        self.row(of, pointer, vec![text(1), text(256), wide(256)], vec![text(0), text(257), wide(258)], field);
    }

    /// 0..=4096 bytes.
    fn text(&mut self, of: OpName, pointer: &'static str, field: &'static str) {
        self.row(of, pointer, vec![text(0), text(4_096), wide(4_096)], vec![text(4_097), wide(4_098)], field);
    }

    /// Absent, or 1..=`most` bytes.
    fn option(&mut self, of: OpName, pointer: &'static str, field: &'static str, most: usize) {
        let taken = vec![Value::Null, text(1), text(most), wide(most)];
        self.row(of, pointer, taken, vec![text(0), text(most + 1), wide(most + 2)], field);
    }

    fn key(&mut self, of: OpName, pointer: &'static str, field: &'static str) {
        self.option(of, pointer, field, 256);
    }

    fn label(&mut self, of: OpName, pointer: &'static str, field: &'static str) {
        self.option(of, pointer, field, 64);
    }

    /// `low..=high`; one less and one more are refused.
    fn range(&mut self, of: OpName, pointer: &'static str, field: &'static str, low: u64, high: u64) {
        let mut refused = vec![json!(high + 1)];
        refused.extend(low.checked_sub(1).map(|below| json!(below)));
        self.row(of, pointer, vec![json!(low), json!(high)], refused, field);
    }

    fn when(&mut self, of: OpName, pointer: &'static str, field: &'static str) {
        let after = |ms: u64| json!({ "after": ms });
        let taken = vec![after(0), after(YEAR), json!({ "at": 0 }), json!({ "at": SAFE })];
        self.row(of, pointer, taken, vec![after(YEAR + 1), after(SAFE), after(u64::MAX)], field);
    }

    fn bytes(&mut self, of: OpName, pointer: &'static str, field: &'static str, most: usize) {
        self.row(of, pointer, vec![base64(0), base64(most)], vec![base64(most + 1)], field);
        self.coded(Code::PayloadTooLarge);
    }

    fn page(&mut self, of: OpName) {
        self.range(of, "/args/limit", "limit", 1, 1_000);
    }
}

#[allow(clippy::too_many_lines)] // a table
fn table() -> Vec<Bound> {
    let mut t = Table::default();
    let tags = |n: usize| map(n, |i| (format!("t.k{i}"), json!("")));
    let tag = |bytes: usize| json!({ "t.k": text(bytes) });
    let policy = |t: &mut Table, pointer, field, low, high| {
        t.range(OpName::CreateExecution, pointer, field, low, high);
        t.coded(Code::InvalidPolicy);
    };
    let tokens = |n: usize| list(n, |i| json!(format!("t{i:03}")));

    // execution
    let create = OpName::CreateExecution;
    t.name(create, "/args/kind", "kind");
    t.bytes(create, "/args/payload", "payload", 1 << 20);
    t.label(create, "/args/payload_encoding", "payload_encoding");
    t.row(create, "/args/tags", vec![json!({}), tags(64), tag(4_096)], vec![tags(65), tag(4_097)], "tags");
    t.when(create, "/args/delay", "delay");
    t.key(create, "/args/idempotency_key", "idempotency_key");
    t.option(create, "/args/creator", "creator", 256);
    policy(&mut t, "/args/policy/retry/max_retries", "retry.max_retries", 0, 1_000_000);
    policy(&mut t, "/args/policy/timeouts/attempt_timeout_ms", "timeouts.attempt_timeout_ms", 1, YEAR);
    policy(&mut t, "/args/policy/max_reclaims", "max_reclaims", 0, 1_000_000);
    policy(&mut t, "/args/policy/max_replays", "max_replays", 0, 1_000_000);
    policy(&mut t, "/args/policy/idempotency_window_ms", "idempotency_window_ms", 1_000, YEAR);
    policy(&mut t, "/args/policy/retention_ms", "retention_ms", 0, YEAR);
    policy(&mut t, "/args/policy/suspension/default_timeout_ms", "suspension.default_timeout_ms", 1, YEAR);
    policy(&mut t, "/args/policy/stream/retention_maxlen", "stream.retention_maxlen", 1, 1_000_000);
    policy(&mut t, "/args/policy/max_signals", "max_signals", 1, 1_000_000);
    t.when(create, "/args/policy/timeouts/deadline", "timeouts.deadline");
    t.coded(Code::InvalidPolicy);
    t.row(
        create,
        "/args/policy/budget_ids",
        vec![list(0, |_| json!(0)), list(16, |i| json!(format!("b{i}")))],
        vec![list(17, |i| json!(format!("b{i}")))],
        "budget_ids",
    );
    t.coded(Code::InvalidPolicy);
    t.row(
        create,
        "/args/policy/retry/retryable_categories",
        vec![tokens(32), json!([text(256)])],
        vec![tokens(33), json!([text(257)]), json!([""])],
        "retry.retryable_categories",
    );
    t.coded(Code::InvalidPolicy);
    let exponential = |initial: u64, max: u64, milli: u64| json!({ "type": "exponential", "initial_ms": initial, "max_ms": max, "multiplier_milli": milli, "jitter": false });
    t.row(
        create,
        "/args/policy/retry/backoff",
        vec![
            exponential(0, 0, 1_000),
            exponential(5, 5, 100_000),
            exponential(0, YEAR, 2_000),
            json!({ "type": "fixed", "delay_ms": YEAR }),
        ],
        vec![
            exponential(6, 5, 2_000),
            exponential(0, YEAR + 1, 2_000),
            exponential(0, 5, 999),
            exponential(0, 5, 100_001),
            json!({ "type": "fixed", "delay_ms": YEAR + 1 }),
        ],
        "retry.backoff",
    );
    t.coded(Code::InvalidPolicy);
    let complete = OpName::CompleteExecution;
    t.bytes(complete, "/args/result", "result", 1 << 20);
    t.label(complete, "/args/result_encoding", "result_encoding");
    for of in [complete, OpName::FailExecution, OpName::CancelExecution, OpName::DelayExecution] {
        let operator = |bytes: usize| json!({ "operator": { "identity": text(bytes) } });
        t.row(of, "/args/actor", vec![operator(1), operator(256)], vec![operator(0), operator(257)], "actor.identity");
        let worker = |epoch: u64| json!({ "worker": { "lease_id": id(1), "lease_epoch": epoch, "attempt_id": id(2) } });
        t.row(
            of,
            "/args/actor",
            vec![worker(0), worker(SAFE)],
            vec![worker(SAFE + 1), worker(u64::MAX)],
            "actor.lease_epoch",
        );
    }
    t.text(OpName::FailExecution, "/args/reason", "reason");
    t.name(OpName::FailExecution, "/args/category", "category");
    t.text(OpName::CancelExecution, "/args/reason", "reason");
    t.when(OpName::DelayExecution, "/args/until", "until");
    t.text(OpName::ReplayExecution, "/args/reason", "reason");
    t.name(OpName::ReplayExecution, "/args/by", "by");
    t.when(OpName::ReplayExecution, "/args/deadline", "deadline");
    t.range(OpName::UpdateProgress, "/args/pct", "pct", 0, 100);
    t.text(OpName::UpdateProgress, "/args/message", "message");
    t.row(
        OpName::SetExecutionTags,
        "/args/tags",
        vec![tags(1), tags(64), tag(4_096), json!({ "t.k": null })],
        vec![json!({}), tags(65), tag(4_097)],
        "tags",
    );
    t.text(OpName::BlockExecution, "/args/detail", "detail");
    t.when(OpName::BlockExecution, "/args/until", "until");
    t.name(OpName::BlockExecution, "/args/by", "by");

    // claim, lease
    for of in [OpName::IssueClaimGrant, OpName::IssueReclaimGrant] {
        t.range(of, "/args/grant_ttl_ms", "grant_ttl_ms", 100, 60_000);
    }
    for of in [
        OpName::ClaimExecution,
        OpName::ClaimResumedExecution,
        OpName::ReclaimExecution,
        OpName::ClaimNext,
        OpName::RenewLease,
    ] {
        t.range(of, "/args/lease_ttl_ms", "lease_ttl_ms", 100, 86_400_000);
    }
    let slots = |n: usize| list(n, |i| json!({ "lease_id": id(i), "attempt_id": id(1_000 + i) }));
    let twice = |lease: usize, attempt: usize| json!([{ "lease_id": id(1), "attempt_id": id(2) }, { "lease_id": id(lease), "attempt_id": id(attempt) }]);
    t.row(OpName::ClaimNext, "/args/slots", vec![slots(1), slots(64)], vec![slots(0), slots(65)], "slots");
    t.row(OpName::ClaimNext, "/args/slots", vec![twice(3, 4)], vec![twice(1, 3)], "slots.lease_id");
    t.row(OpName::ClaimNext, "/args/slots", vec![twice(2, 1)], vec![twice(3, 2)], "slots.attempt_id");
    for of in [OpName::RenewLease, OpName::UpdateProgress, OpName::MoveToWaitingChildren, OpName::AppendFrame] {
        t.range(of, "/args/fence/lease_epoch", "fence.lease_epoch", 0, SAFE);
    }
    t.range(OpName::MarkLeaseExpired, "/args/lease_epoch", "lease_epoch", 0, SAFE);
    t.text(OpName::RevokeLease, "/args/reason", "reason");
    t.name(OpName::RevokeLease, "/args/by", "by");

    // suspension, signal, keystore
    let suspend = OpName::SuspendExecution;
    t.text(suspend, "/args/detail", "detail");
    t.bytes(suspend, "/args/continuation", "continuation", 1_024);
    t.coded(Code::InvalidInput);
    t.range(suspend, "/args/resume_policy/resume_delay_ms", "resume_policy.resume_delay_ms", 0, 2_592_000_000);
    let timeout = |ms: u64| json!({ "after": { "after_ms": ms, "behavior": { "type": "fail" } } });
    t.row(
        suspend,
        "/args/timeout",
        vec![timeout(1), timeout(YEAR)],
        vec![timeout(0), timeout(YEAR + 1)],
        "timeout.after_ms",
    );
    let sources = |n: usize| list(n, |i| json!({ "source_type": "s", "source_identity": format!("{i}") }));
    t.row(OpName::CreatePendingWaitpoint, "/args/sources", vec![sources(0), sources(16)], vec![sources(17)], "sources");
    t.range(OpName::CreatePendingWaitpoint, "/args/expires_in_ms", "expires_in_ms", 1, 86_400_000);
    t.text(OpName::CloseWaitpoint, "/args/reason", "reason");
    t.name(OpName::ResumeExecution, "/args/by", "by");
    t.text(OpName::ResumeExecution, "/args/reason", "reason");
    for of in [OpName::DeliverSignal, OpName::BufferSignal] {
        t.name(of, "/args/name", "name");
        t.row(of, "/args/name", vec![json!("_"), json!("a__")], vec![json!("__"), json!("__a")], "name");
        t.name(of, "/args/category", "category");
        t.name(of, "/args/source/source_type", "source.source_type");
        t.row(of, "/args/source/source_type", vec![json!("engine2")], vec![json!("engine")], "source.source_type");
        t.name(of, "/args/source/source_identity", "source.source_identity");
        t.bytes(of, "/args/payload", "payload", 65_536);
        t.label(of, "/args/encoding", "encoding");
        t.key(of, "/args/correlation_id", "correlation_id");
        t.key(of, "/args/idempotency_key", "idempotency_key");
    }
    t.range(OpName::RotateWaitpointHmacSecret, "/args/grace_ms", "grace_ms", 60_000, YEAR);

    // flow
    t.name(OpName::CreateFlow, "/args/flow_kind", "flow_kind");
    t.row(OpName::CreateFlow, "/args/tags", vec![json!({}), tags(64), tag(4_096)], vec![tags(65), tag(4_097)], "tags");
    t.name(OpName::SubmitFlow, "/args/flow_kind", "flow_kind");
    t.range(OpName::SealFlow, "/args/expected_graph_revision", "expected_graph_revision", 0, SAFE);
    t.range(OpName::StageDependencyEdge, "/args/expected_graph_revision", "expected_graph_revision", 0, SAFE);
    t.text(OpName::CancelFlow, "/args/reason", "reason");
    t.name(OpName::CancelFlow, "/args/by", "by");
    t.row(
        OpName::SetFlowTags,
        "/args/tags",
        vec![tags(1), tags(64), tag(4_096)],
        vec![json!({}), tags(65), tag(4_097)],
        "tags",
    );

    // budget, quota
    let dimensions = |n: usize| map(n, |i| (format!("d{i}"), json!({ "hard": 1 })));
    let limit = |hard: Value, soft: Value| json!({ "d": { "hard": hard, "soft": soft } });
    let budget = OpName::CreateBudget;
    t.row(
        budget,
        "/args/dimensions",
        vec![dimensions(1), dimensions(64)],
        vec![dimensions(0), dimensions(65)],
        "dimensions",
    );
    t.row(
        budget,
        "/args/dimensions",
        vec![limit(json!(1), json!(1)), limit(json!(SAFE), Value::Null)],
        vec![limit(json!(0), Value::Null), limit(json!(SAFE + 1), Value::Null)],
        "dimensions.hard",
    );
    t.row(
        budget,
        "/args/dimensions",
        vec![limit(Value::Null, json!(1)), limit(json!(5), json!(5))],
        vec![limit(json!(5), json!(6)), limit(json!(5), json!(0)), limit(Value::Null, json!(SAFE + 1))],
        "dimensions.soft",
    );
    t.range(budget, "/args/reset_interval_ms", "reset_interval_ms", 1_000, YEAR);
    let amounts = |n: usize| list(n, |i| json!([format!("d{i}"), 1]));
    t.row(
        OpName::ReportUsage,
        "/args/amounts",
        vec![amounts(1), amounts(64), json!([["d", SAFE]])],
        vec![amounts(0), amounts(65), json!([["d", SAFE + 1]]), json!([["d", SAFE], ["d", 1]])],
        "amounts",
    );
    t.key(OpName::ReportUsage, "/args/dedup_key", "dedup_key");
    t.name(OpName::ResetBudget, "/args/by", "by");
    t.key(OpName::ResetBudget, "/args/dedup_key", "dedup_key");
    let quota = OpName::CreateQuotaPolicy;
    t.range(quota, "/args/max_requests_per_window", "max_requests_per_window", 1, 100_000);
    t.range(quota, "/args/window_ms", "window_ms", 1, YEAR);
    t.range(quota, "/args/max_concurrent", "max_concurrent", 1, 100_000);
    t.range(quota, "/args/jitter_ms", "jitter_ms", 0, 60_000);
    t.range(OpName::CheckAdmission, "/args/slot_ttl_ms", "slot_ttl_ms", 1_000, 90_000_000);
    t.range(OpName::CheckAdmission, "/args/lease_epoch", "lease_epoch", 0, SAFE);
    t.range(OpName::ReleaseAdmission, "/args/lease_epoch", "lease_epoch", 0, SAFE);

    // stream, reads, maintenance
    let append = OpName::AppendFrame;
    t.name(append, "/args/frame_type", "frame_type");
    t.bytes(append, "/args/payload", "payload", 65_536);
    t.label(append, "/args/encoding", "encoding");
    t.key(append, "/args/correlation_id", "correlation_id");
    t.range(append, "/args/seq", "seq", 1, SAFE);
    t.range(OpName::ReadFrames, "/args/limit", "limit", 1, 10_000);
    t.range(OpName::TailFrames, "/args/limit", "limit", 1, 10_000);
    t.row(
        OpName::TailFrames,
        "/args/after",
        vec![json!("0"), json!("5-0")],
        vec![json!("start"), json!("end")],
        "after",
    );
    for of in [
        OpName::ListExecutions,
        OpName::ListAttempts,
        OpName::ListSignals,
        OpName::ListPendingWaitpoints,
        OpName::ListEdges,
        OpName::ListFlowMembers,
        OpName::Sweep,
        OpName::RebuildIndexes,
    ] {
        t.page(of);
    }
    t.0
}

/// A good call of this operation: as the random tier draws it for an empty world.
fn good(of: OpName) -> Operation {
    let deployment = Deployment::default();
    let world = World::default();
    let drawn = (0..1_000_u32).map(|n| {
        let dice =
            std::array::from_fn(|i| n.wrapping_mul(2_654_435_761).rotate_left(u32::try_from(i).unwrap_or(0) * 5));
        let step = Step { action: Action::Call(of), serial: n, dice };
        world.operation(of, &step, TimestampMs::saturating(START_MS))
    });
    let mut passing = drawn.filter(|operation| operation.check(&deployment).is_ok());
    passing.next().unwrap_or_else(|| panic!("no good call of {of} is drawn"))
}

fn with(of: OpName, pointer: &str, value: &Value) -> Result<Operation, String> {
    let mut whole = document(&good(of));
    let (outer, field) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    match whole.pointer_mut(outer) {
        Some(Value::Object(map)) => map.insert(field.to_owned(), value.clone()),
        _ => return Err(format!("{of} has no {outer}")),
    };
    serde_json::from_str(&whole.to_string()).map_err(|error| format!("{of} {pointer}: {error}"))
}

fn is(refusal: &Refusal, code: Code, named: &str) -> bool {
    let (Details::InvalidInput { field } | Details::InvalidPolicy { field } | Details::PayloadTooLarge { field, .. }) =
        refusal.details()
    else {
        return false;
    };
    refusal.code() == code && field == named
}

/// Holds the backend to every bound; answers how many calls that were, and what was wrong.
pub(super) async fn hold(backend: &dyn EngineBackend) -> (u64, Vec<String>) {
    let (mut calls, mut wrong) = (0, Vec::new());
    for Bound { of, pointer, taken, refused, code, field } in table() {
        for (value, good) in taken.iter().map(|v| (v, true)).chain(refused.iter().map(|v| (v, false))) {
            calls += 1;
            let shown = value.to_string();
            let place = format!("{of} {pointer} {}", shown.chars().take(40).collect::<String>());
            let operation = match with(of, pointer, value) {
                Ok(operation) => operation,
                Err(error) => {
                    wrong.push(format!("{place}: cannot be said: {error}"));
                    continue;
                }
            };
            let answer = dispatch(backend, operation).await;
            let refused_so = answer.as_ref().err().and_then(EngineError::refusal).is_some_and(|r| is(r, code, field));
            if refused_so == good {
                let expected = if good { "anything but" } else { "exactly" };
                wrong.push(format!("{place}: expected {expected} {code:?} of {field}, answered {answer:?}"));
            }
        }
    }
    (calls, wrong)
}
