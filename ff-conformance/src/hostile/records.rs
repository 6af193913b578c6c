//! Stored records, answers and refusals, each spoiled: a reader of them gives a value or an error, never a panic, and
//! what it gives is written and read again as the same.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use fastrand::Rng;
use ff_backend_memory::Model;
use ff_core::bounds::Deployment;
use ff_core::contracts::StreamFrame;
use ff_core::contracts::decode::DecodeError;
use ff_core::error::EngineError;
use ff_core::operation::{Operation, Outcome};
use ff_core::records::flat::FlatMap;
use ff_core::records::{
    AttemptRecord, BudgetRecord, DedupRecord, EdgeRecord, ExecutionRecord, FlowRecord, KidRecord, MemberRecord,
    QuotaPolicyRecord, RunRecord, SignalRecord, StreamMetaRecord, SuspensionRecord, WaitpointRecord,
};
use ff_core::time::TimestampMs;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::spoil::spoil;
use crate::random::{self, Action, PARTITION, World, draw};
use crate::stage::START_MS;

/// Reads a record and writes it again.
type ReadAgain = dyn Fn(&FlatMap) -> Result<FlatMap, DecodeError>;

/// A stored record in its flat form, and a reader that must take it or refuse it: reading and writing again gives the
/// map that was read.
struct Stored {
    kind: &'static str,
    map: FlatMap,
    read: Box<ReadAgain>,
}

fn stored<R: 'static>(
    kind: &'static str,
    map: FlatMap,
    read: impl Fn(&FlatMap) -> Result<R, DecodeError> + 'static,
    write: impl Fn(&R) -> FlatMap + 'static,
) -> Stored {
    Stored { kind, map, read: Box::new(move |map| read(map).map(|record| write(&record))) }
}

/// What a sequence of good calls leaves: every stored record, and every answer.
struct Left {
    records: Vec<Stored>,
    answers: Vec<Value>,
    refusals: Vec<Value>,
}

fn leave(seed: u64) -> Left {
    let mut model = Model::new(Deployment::default());
    let mut world = World::default();
    let mut now = TimestampMs::saturating(START_MS);
    let (mut answers, mut refusals) = (Vec::new(), Vec::new());
    let _ = model.apply(now, &random::first_key());
    for step in draw(seed, 250) {
        match step.action {
            Action::Clock => now = World::clock_step(&step, now, model.next_due_at(PARTITION, now)),
            Action::Call(name) => {
                let operation = world.operation(name, &step, now);
                match model.apply(now, &operation) {
                    Ok(outcome) => {
                        answers.push(serde_json::to_value(&outcome).unwrap_or_default());
                        world.learn(&operation, &outcome);
                    }
                    Err(error) => refusals.push(serde_json::to_value(&error).unwrap_or_default()),
                }
            }
        }
    }
    Left { records: records_of(&model), answers, refusals }
}

fn records_of(model: &Model) -> Vec<Stored> {
    let mut all = Vec::new();
    for p in model.partitions() {
        let number = p.number();
        for x in p.executions() {
            let (id, h) = (x.record.execution_id, &x.history);
            all.push(stored(
                "execution",
                x.record.encode(),
                move |m| ExecutionRecord::decode(id, m),
                ExecutionRecord::encode,
            ));
            for a in h.attempts.iter().chain(x.attempt.as_ref()) {
                let index = a.attempt_index;
                all.push(stored(
                    "attempt",
                    a.encode(),
                    move |m| AttemptRecord::decode(id, index, m),
                    AttemptRecord::encode,
                ));
            }
            for run in &h.runs {
                let number = run.run;
                all.push(stored("run", run.encode(), move |m| RunRecord::decode(id, number, m), RunRecord::encode));
            }
            if let Some(s) = x.suspension.as_deref() {
                all.push(stored(
                    "suspension",
                    s.encode(),
                    move |m| SuspensionRecord::decode(id, m),
                    SuspensionRecord::encode,
                ));
            }
            for w in h.waitpoints.values() {
                let of = w.waitpoint_id;
                all.push(stored(
                    "waitpoint",
                    w.encode(),
                    move |m| WaitpointRecord::decode(id, of, m),
                    WaitpointRecord::encode,
                ));
            }
            for s in h.signals.values() {
                let seq = s.seq;
                all.push(stored("signal", s.encode(), move |m| SignalRecord::decode(id, seq, m), SignalRecord::encode));
            }
            for d in h.dedup.values() {
                let of = d.signal_id;
                all.push(stored("dedup", d.encode(), move |m| DedupRecord::decode(id, of, m), DedupRecord::encode));
            }
            for stream in h.streams.values() {
                let index = stream.meta.attempt_index;
                let read = move |m: &FlatMap| StreamMetaRecord::decode(id, index, m);
                all.push(stored("stream", stream.meta.encode(), read, StreamMetaRecord::encode));
                for frame in &stream.frames {
                    let entry = frame.id;
                    let read = move |m: &FlatMap| StreamFrame::decode(entry, b"1.0", m);
                    all.push(stored("frame", frame.encode(), read, StreamFrame::encode));
                }
            }
        }
        for flow in p.flows() {
            let id = flow.flow_id;
            all.push(stored("flow", flow.encode(), move |m| FlowRecord::decode(id, m), FlowRecord::encode));
            let Some(graph) = p.graph(id.uuid()) else { continue };
            for edge in graph.edges.values() {
                let of = edge.edge_id;
                all.push(stored("edge", edge.encode(), move |m| EdgeRecord::decode(id, of, m), EdgeRecord::encode));
            }
            for member in graph.members.values() {
                let of = member.execution_id;
                all.push(stored("member", member.encode(), move |m| MemberRecord::decode(of, m), MemberRecord::encode));
            }
        }
        let kid = KidRecord {
            partition: number,
            kid: crate::stage::kid("k0"),
            digest: crate::stage::secret(1).digest(),
            installed_at: TimestampMs::saturating(START_MS),
            secret: Some(crate::stage::secret(1)),
            expires_at: Some(TimestampMs::MAX),
            revoked_at: None,
        };
        let read = move |m: &FlatMap| KidRecord::decode(number, &crate::stage::kid("k0"), m);
        all.push(stored("kid", kid.encode(), read, KidRecord::encode));
    }
    for (id, b) in model.budgets() {
        let id = id.clone();
        all.push(stored("budget", b.record.encode(), move |m| BudgetRecord::decode(&id, m), BudgetRecord::encode));
    }
    for (id, q) in model.policies() {
        let id = id.clone();
        let read = move |m: &FlatMap| QuotaPolicyRecord::decode(&id, m);
        all.push(stored("policy", q.record.encode(), read, QuotaPolicyRecord::encode));
    }
    all
}

const VALUES: &[&[u8]] = &[
    b"",
    b"0",
    b"1",
    b"01",
    b"+1",
    b"-1",
    b"1.0",
    b"1.1",
    b"2.0",
    b"1e3",
    b"abc",
    b"null",
    b"{}",
    b"[]",
    b"{",
    b"true",
    b"9007199254740991",
    b"9007199254740992",
    b"18446744073709551616",
    b"123456789012345678901234567890",
    b"\xff\xfe",
    b"\0",
    b",",
    b"a,a",
    b"b,a",
    b"e3_01890a5d-ac96-774b-bcce-b302099a8057",
    b"01890a5d-ac96-774b-bcce-b302099a8057",
    b"00000000-0000-0000-0000-000000000000",
    b"success",
    b"worker:",
    b"\xf0\x28\x8c\x28",
];

/// A change of stored bytes; none empties them. `other` are those of another value.
pub(super) fn spoil_bytes(rng: &mut Rng, good: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = good.to_vec();
    match rng.u32(0..10) {
        0 => return None,
        1..=4 if !bytes.is_empty() => {
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(0..bytes.len());
                bytes[at] ^= 1 << rng.u32(0..8);
            }
        }
        5 => bytes.truncate(rng.usize(0..=good.len())),
        6 => bytes = other.to_vec(),
        7 if !bytes.is_empty() => {
            // A run of bytes of its own or of the other, somewhere else: lengths and offsets no longer fit.
            let from = if rng.bool() { good } else { other };
            if !from.is_empty() {
                let (a, b) = (rng.usize(0..from.len()), rng.usize(0..=from.len()));
                let at = rng.usize(0..=bytes.len());
                bytes.splice(at..at, from[a.min(b)..a.max(b)].iter().copied());
            }
        }
        8 => bytes = VALUES[rng.usize(0..VALUES.len())].to_vec(),
        _ => bytes.extend((0..rng.usize(1..40)).map(|_| rng.u8(..))),
    }
    Some(bytes)
}

/// One to three changes of a stored map.
fn damage(rng: &mut Rng, map: &FlatMap, other: &FlatMap) -> FlatMap {
    let mut map = map.clone();
    for _ in 0..rng.usize(1..4) {
        let names: Vec<String> = map.keys().cloned().collect();
        if names.is_empty() {
            break;
        }
        let name = names[rng.usize(0..names.len())].clone();
        let value = map.get(&name).cloned().unwrap_or_default();
        match rng.u32(0..10) {
            0 => drop(map.remove(&name)),
            1..=3 => drop(map.insert(name, Bytes::from_static(VALUES[rng.usize(0..VALUES.len())]))),
            4 => {
                let mut bytes = value.to_vec();
                if bytes.is_empty() {
                    bytes.push(0);
                }
                let at = rng.usize(0..bytes.len());
                bytes[at] ^= 1 << rng.u32(0..8);
                map.insert(name, Bytes::from(bytes));
            }
            5 => drop(map.insert(name, value.slice(..rng.usize(0..=value.len())))),
            6 => {
                // Of another record of any kind: a field, or another field's value.
                let others: Vec<(&String, &Bytes)> = other.iter().collect();
                if let Some((from, bytes)) = (!others.is_empty()).then(|| others[rng.usize(0..others.len())]) {
                    map.insert(if rng.bool() { from.clone() } else { name }, bytes.clone());
                }
            }
            7 => {
                let second = names[rng.usize(0..names.len())].clone();
                let moved = map.insert(second, value).unwrap_or_default();
                map.insert(name, moved);
            }
            8 => drop(map.insert(format!("{name}x"), value)),
            _ => {
                let mut bytes = value.to_vec();
                bytes.extend_from_slice(&vec![rng.u8(..); [1, 63, 64, 256, 4_097][rng.usize(0..5)]]);
                map.insert(name, Bytes::from(bytes));
            }
        }
    }
    map
}

/// What was done: changes tried, and those that left something that can still be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    pub(super) tried: u64,
    pub(super) readable: u64,
}

/// Spoils stored records.
pub(super) fn spoil_records(seed: u64, count: u64) -> (Read, Vec<String>) {
    let mut rng = Rng::with_seed(seed);
    let (mut done, mut wrong) = (Read::default(), Vec::new());
    let mut records: Vec<Stored> = Vec::new();
    let mut kinds: BTreeMap<&'static str, u64> = BTreeMap::new();
    for n in 0..count {
        if n % 20_000 == 0 {
            records = (0..8).flat_map(|more| leave(seed.wrapping_mul(1_000) + n + more).records).collect();
        }
        let Stored { kind, map, read } = &records[rng.usize(0..records.len())];
        let other = rng.usize(0..records.len());
        let damaged = damage(&mut rng, map, &records[other].map);
        done.tried += 1;
        *kinds.entry(kind).or_default() += 1;
        match catch_unwind(AssertUnwindSafe(|| read(&damaged))) {
            Err(_) => wrong.push(format!("{kind}: decoding panicked (seed {seed}, change {n})")),
            Ok(Err(_)) => {}
            Ok(Ok(again)) => {
                done.readable += 1;
                // What decodes is one record in one form; a field of a later minor version may be left out.
                if read(&again).ok().as_ref() != Some(&again) {
                    wrong.push(format!("{kind}: written again it reads as another (seed {seed}, change {n})"));
                }
            }
        }
    }
    if count >= 20_000 && kinds.len() < 14 {
        wrong.push(format!("only these kinds of records were spoiled: {kinds:?}"));
    }
    (done, wrong)
}

fn once_more<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str, redacted: bool) -> Result<bool, String> {
    let read = catch_unwind(|| serde_json::from_str::<T>(text)).map_err(|_| "reading it panicked".to_owned())?;
    let Ok(value) = read else { return Ok(false) };
    let written = serde_json::to_string(&value).map_err(|error| format!("what was read is not written: {error}"))?;
    let _ = format!("{value:?}");
    // Tokens and secrets are not written as they are.
    if redacted {
        return Ok(true);
    }
    match serde_json::from_str::<T>(&written) {
        Ok(again) if again == value => Ok(true),
        Ok(_) => Err("written again it reads as another".to_owned()),
        Err(error) => Err(format!("what was read and written cannot be read: {error}")),
    }
}

/// Spoils answers and refusals as a client reads them.
pub(super) fn spoil_answers(seed: u64, count: u64) -> (Read, Vec<String>) {
    let mut rng = Rng::with_seed(seed);
    let (mut done, mut wrong) = (Read::default(), Vec::new());
    let mut left = leave(seed);
    for n in 0..count {
        if n % 5_000 == 4_999 {
            left = leave(seed.wrapping_mul(1_000) + n);
        }
        let pick = |rng: &mut Rng, of: &[Value]| of[rng.usize(0..of.len())].clone();
        let refusal = rng.u32(0..5) == 0;
        let good = if refusal { pick(&mut rng, &left.refusals) } else { pick(&mut rng, &left.answers) };
        let other = pick(&mut rng, &left.answers);
        // The spoiler knows calls: an answer is put where their arguments stand.
        let args = |value: &Value| serde_json::json!({ "args": value });
        let text = spoil(&mut rng, &args(&good), &args(&other)).text;
        let inner = serde_json::from_str::<Value>(&text).ok().and_then(|v| v.get("args").map(Value::to_string));
        let text = inner.unwrap_or(text);
        done.tried += 1;
        let redacted = text.contains("<token") || text.contains("token");
        let read = if refusal { once_more::<EngineError>(&text, false) } else { once_more::<Outcome>(&text, redacted) };
        match read {
            Ok(readable) => done.readable += u64::from(readable),
            Err(what) => wrong.push(format!("{what} (seed {seed}, change {n})")),
        }
        // An answer is no call.
        if catch_unwind(|| serde_json::from_str::<Operation>(&text).is_ok()).is_err() {
            wrong.push(format!("reading it as a call panicked (seed {seed}, change {n})"));
        }
    }
    (done, wrong)
}
