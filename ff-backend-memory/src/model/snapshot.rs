//! The whole state as plain data that can be kept, compared and shown: [`Snapshot`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64;
use ff_core::contracts::{BacklogKind, SignalSource, TimerKind};
use ff_core::ids::{
    BudgetId, EdgeId, ExecutionId, FlowId, Kid, LaneId, LeaseId, Namespace, QuotaPolicyId, SignalId, WaitpointId,
};
use ff_core::policy::Capabilities;
use ff_core::records::flat::FlatMap;
use ff_core::records::{AdmissionIdentity, AdmissionSlotRecord, BudgetKeyRecord, KidRecord, RememberedCall};
use ff_core::state::{BlockReason, PublicState};
use ff_core::time::TimestampMs;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backlog::{Cursor, Subject};
use super::budget::Budget;
use super::execution::{Execution, History};
use super::graph::Graph;
use super::partition::{KeyOwner, Partition};
use super::queue::ReadyKey;
use super::quota::Quota;
use super::timer::TimerOf;

/// Bytes as they are stored. In JSON text where they are UTF-8, else `{"base64": ...}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BlobForm", into = "BlobForm")]
pub struct Blob(pub Bytes);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum BlobForm {
    Text(String),
    Base64 {
        #[serde(with = "ff_core::wire::base64_bytes")]
        base64: Bytes,
    },
}

impl From<Blob> for BlobForm {
    fn from(blob: Blob) -> Self {
        match std::str::from_utf8(&blob.0) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64 { base64: blob.0 },
        }
    }
}

impl From<BlobForm> for Blob {
    fn from(form: BlobForm) -> Self {
        match form {
            BlobForm::Text(text) => Self(Bytes::from(text)),
            BlobForm::Base64 { base64 } => Self(base64),
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) => write!(f, "{text:?}"),
            Err(_) => write!(f, "base64 {}", BASE64.encode(&self.0)),
        }
    }
}

/// A stored record in the flat form of the contract's decoders.
pub type Record = BTreeMap<String, Blob>;

fn flat(map: FlatMap) -> Record {
    map.into_iter().map(|(name, value)| (name, Blob(value))).collect()
}

/// An attempt's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// What is known of it.
    pub meta: Record,
    /// The kept frames, oldest first, by entry id.
    pub frames: Vec<(String, Record)>,
}

/// A signal's idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalKeyState {
    /// Where it was sent.
    pub waitpoint_id: WaitpointId,
    /// The source, if the token binds one.
    pub source: Option<SignalSource>,
    /// The key.
    pub key: String,
    /// The signal that first used it.
    pub signal_id: SignalId,
}

/// The records keyed under an execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryState {
    /// Attempts by index, the newest too while the execution exists.
    pub attempts: Vec<Record>,
    /// Runs by number, with their results.
    pub runs: Vec<Record>,
    /// Streams by attempt index.
    pub streams: BTreeMap<u32, StreamState>,
    /// Waitpoints by id.
    pub waitpoints: BTreeMap<WaitpointId, Record>,
    /// Signals by seq.
    pub signals: BTreeMap<u64, Record>,
    /// Dedup entries by signal id.
    pub dedup: BTreeMap<SignalId, Record>,
    /// Idempotency keys of signals.
    pub signal_keys: Vec<SignalKeyState>,
}

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionState {
    /// Its record.
    pub record: Record,
    /// Its payload.
    pub payload: Blob,
    /// The payload's encoding.
    pub payload_encoding: Option<String>,
    /// Its present or last suspension.
    pub suspension: Option<Record>,
    /// The waitpoints that are pending or active.
    pub open_waitpoints: BTreeSet<WaitpointId>,
    /// Everything else keyed under it.
    pub history: HistoryState,
}

/// What has gone and still leaves records behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemainsState {
    /// Records beside the history.
    pub own: u32,
    /// The records keyed under it.
    pub history: HistoryState,
}

/// The execution that an idempotency key names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyState {
    /// Where it is unique, of stand-alone executions.
    pub namespace: Option<Namespace>,
    /// Where it is unique, of members created for a flow.
    pub flow_id: Option<FlowId>,
    /// The key.
    pub key: String,
    /// The execution.
    pub execution_id: ExecutionId,
}

/// Members and edges of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphState {
    /// Members by id.
    pub members: BTreeMap<ExecutionId, Record>,
    /// Members that have not ended.
    pub open: BTreeSet<ExecutionId>,
    /// Edges by id.
    pub edges: BTreeMap<EdgeId, Record>,
}

/// A signing key without its secret: the record has the secret's digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KidState {
    /// Its record, the secret left out.
    pub record: Record,
    /// Whether the secret is still held.
    pub holds_secret: bool,
}

/// One ready queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// The lane.
    pub lane_id: LaneId,
    /// The required capability set.
    pub capabilities: Capabilities,
    /// Executions of this lane and set that have not ended.
    pub open: u64,
    /// Ready ones that a claim may take, in order: priority, age, id.
    pub ordinary: Vec<(i32, TimestampMs, ExecutionId)>,
    /// Ready ones that need an admission, in order.
    pub controlled: Vec<(i32, TimestampMs, ExecutionId)>,
}

/// One armed timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerState {
    /// When it is due.
    pub due_at: TimestampMs,
    /// What it does.
    pub kind: TimerKind,
    /// The execution or flow, in text.
    pub of: String,
    /// The waitpoint, of a waitpoint's timer.
    pub waitpoint_id: Option<WaitpointId>,
    /// The block, of a block's timer.
    pub reason: Option<BlockReason>,
}

/// One item of the backlog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacklogState {
    /// What is to be done.
    pub kind: BacklogKind,
    /// To which execution or flow, in text.
    pub of: String,
    /// The last candidate examined: an edge's seq or an execution's id, in text.
    pub cursor: Option<String>,
    /// Whether skipped descendants are replayed.
    pub reopen: bool,
}

/// One partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Executions by id.
    pub executions: BTreeMap<ExecutionId, ExecutionState>,
    /// What has gone and is not wholly purged.
    pub remains: BTreeMap<ExecutionId, RemainsState>,
    /// Idempotency keys.
    pub idempotency: Vec<KeyState>,
    /// The executions of live leases.
    pub leases: BTreeMap<LeaseId, ExecutionId>,
    /// Flows by id.
    pub flows: BTreeMap<FlowId, Record>,
    /// Graphs by flow.
    pub graphs: BTreeMap<FlowId, GraphState>,
    /// The kid that signs.
    pub current_kid: Option<Kid>,
    /// Kids by name.
    pub kids: BTreeMap<Kid, KidState>,
    /// Ready queues, by lane and set.
    pub queues: Vec<QueueState>,
    /// Armed timers, in the order in which they fire.
    pub timers: Vec<TimerState>,
    /// The backlog, in order.
    pub backlog: Vec<BacklogState>,
    /// Executions by lane and public state, zeros left out.
    pub lane_counts: BTreeMap<LaneId, BTreeMap<PublicState, u64>>,
    /// Executions whose records cannot be decoded.
    pub damaged: BTreeSet<ExecutionId>,
}

/// One budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetState {
    /// Its record.
    pub record: Record,
    /// Remembered reports by key.
    pub reports: BTreeMap<String, Record>,
    /// Remembered resets by key.
    pub resets: BTreeMap<String, Record>,
}

/// One quota policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaState {
    /// Its record.
    pub record: Record,
    /// Window entries, oldest first.
    pub window: Vec<(TimestampMs, AdmissionIdentity)>,
    /// Slots, by identity.
    pub slots: Vec<Record>,
    /// Waiters in order: execution, first refusal, last `retry_at`.
    pub waiters: Vec<(ExecutionId, TimestampMs, TimestampMs)>,
}

/// The whole state as plain data. A partition that holds nothing is left out, so a model and a backend that went through
/// the same are equal.
///
/// Records are in the flat form of the contract's decoders. Nothing that must stay secret is in it: of signing keys there
/// is the digest, and tokens are not stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Partitions by number.
    pub partitions: BTreeMap<u16, PartitionState>,
    /// Budgets by id.
    pub budgets: BTreeMap<BudgetId, BudgetState>,
    /// Quota policies by id.
    pub policies: BTreeMap<QuotaPolicyId, QuotaState>,
}

impl Snapshot {
    /// Where two snapshots differ: one line for each place, `path: this | other`. None if they are equal.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Vec<String> {
        if self == other {
            return Vec::new();
        }
        let mut lines = Vec::new();
        // Every part is plain data with text keys: it has a JSON form.
        let json = |s: &Self| serde_json::to_value(s).unwrap_or(Value::Null);
        differ("", &json(self), &json(other), &mut lines);
        lines
    }
}

fn differ(path: &str, a: &Value, b: &Value, lines: &mut Vec<String>) {
    const NOTHING: &Value = &Value::Null;
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            for key in keys {
                let (x, y) = (x.get(key).unwrap_or(NOTHING), y.get(key).unwrap_or(NOTHING));
                differ(&format!("{path}/{key}"), x, y, lines);
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (at, (x, y)) in x.iter().zip(y).enumerate() {
                differ(&format!("{path}/{at}"), x, y, lines);
            }
        }
        _ if a == b => {}
        _ => lines.push(format!("{path}: {a} | {b}")),
    }
}

fn history(h: &History, newest: Option<Record>) -> HistoryState {
    HistoryState {
        attempts: h.attempts.iter().map(|a| flat(a.encode())).chain(newest).collect(),
        runs: h.runs.iter().map(|r| flat(r.encode())).collect(),
        streams: h
            .streams
            .iter()
            .map(|(index, stream)| {
                let frames = stream.frames.iter().map(|f| (f.id.to_string(), flat(f.encode())));
                (*index, StreamState { meta: flat(stream.meta.encode()), frames: frames.collect() })
            })
            .collect(),
        waitpoints: h.waitpoints.iter().map(|(id, w)| (*id, flat(w.encode()))).collect(),
        signals: h.signals.iter().map(|(seq, s)| (*seq, flat(s.encode()))).collect(),
        dedup: h.dedup.iter().map(|(id, d)| (*id, flat(d.encode()))).collect(),
        signal_keys: h
            .signal_keys
            .iter()
            .map(|((waitpoint_id, source, key), signal_id)| SignalKeyState {
                waitpoint_id: *waitpoint_id,
                source: source.clone(),
                key: key.clone(),
                signal_id: *signal_id,
            })
            .collect(),
    }
}

fn execution(x: &Execution) -> ExecutionState {
    ExecutionState {
        record: flat(x.record.encode()),
        payload: Blob(x.payload.clone()),
        payload_encoding: x.payload_encoding.clone(),
        suspension: x.suspension.as_ref().map(|s| flat(s.encode())),
        open_waitpoints: x.open_waitpoints.clone(),
        history: history(&x.history, x.attempt.as_ref().map(|a| flat(a.encode()))),
    }
}

fn kid(record: &KidRecord) -> KidState {
    let holds_secret = record.secret.is_some();
    KidState { record: flat(KidRecord { secret: None, ..record.clone() }.encode()), holds_secret }
}

impl Partition {
    fn subject(&self, subject: Subject) -> String {
        match subject {
            Subject::Execution(uuid) => self.execution_id(uuid).to_string(),
            Subject::Flow(uuid) => self.flow_id(uuid).to_string(),
        }
    }

    fn graph_state(&self, graph: &Graph) -> GraphState {
        GraphState {
            members: graph.members.iter().map(|(m, r)| (self.execution_id(*m), flat(r.encode()))).collect(),
            open: graph.open.iter().map(|m| self.execution_id(*m)).collect(),
            edges: graph.edges.iter().map(|(e, r)| (*e, flat(r.encode()))).collect(),
        }
    }

    /// The partition as plain data.
    #[must_use]
    pub fn snapshot(&self) -> PartitionState {
        let id = |uuid| self.execution_id(uuid);
        let places = |queue: &BTreeSet<ReadyKey>| queue.iter().map(|(p, at, x)| (p.0, *at, id(*x))).collect();
        PartitionState {
            executions: self.stored().map(|x| (x.record.execution_id, execution(x))).collect(),
            remains: self
                .remains
                .iter()
                .map(|(x, r)| (id(*x), RemainsState { own: r.own, history: history(&r.history, None) }))
                .collect(),
            idempotency: self
                .idempotency
                .iter()
                .map(|((owner, key), x)| {
                    let (namespace, flow_id) = match owner {
                        KeyOwner::Namespace(namespace) => (Some(namespace.clone()), None),
                        KeyOwner::Flow(flow) => (None, Some(self.flow_id(*flow))),
                    };
                    KeyState { namespace, flow_id, key: key.clone(), execution_id: id(*x) }
                })
                .collect(),
            leases: self.leases.iter().map(|(lease, x)| (*lease, id(*x))).collect(),
            flows: self.flows().map(|f| (f.flow_id, flat(f.encode()))).collect(),
            graphs: self.graphs.iter().map(|(f, g)| (self.flow_id(*f), self.graph_state(g))).collect(),
            current_kid: self.keystore.current_kid.clone(),
            kids: self.keystore.kids.iter().map(|(name, record)| (name.clone(), kid(record))).collect(),
            queues: self
                .queues
                .lanes()
                .flat_map(|(lane, sets)| sets.iter().map(move |(set, queues)| (lane, set, queues)))
                .map(|(lane, set, queues)| QueueState {
                    lane_id: lane.clone(),
                    capabilities: set.clone(),
                    open: queues.open,
                    ordinary: places(&queues.ordinary),
                    controlled: places(&queues.controlled),
                })
                .collect(),
            timers: self
                .timers
                .iter()
                .map(|timer| {
                    let of = match timer.of {
                        TimerOf::Flow(uuid) => self.flow_id(uuid).to_string(),
                        other => id(other.uuid()).to_string(),
                    };
                    let (waitpoint_id, reason) = match timer.of {
                        TimerOf::Waitpoint(_, waitpoint) => (Some(waitpoint), None),
                        TimerOf::Block(_, reason) => (None, Some(reason)),
                        TimerOf::Execution(_) | TimerOf::Flow(_) => (None, None),
                    };
                    TimerState { due_at: timer.due_at, kind: timer.kind, of, waitpoint_id, reason }
                })
                .collect(),
            backlog: self
                .backlog
                .iter()
                .map(|item| BacklogState {
                    kind: item.key.kind,
                    of: self.subject(item.key.subject),
                    cursor: item.cursor.map(|cursor| match cursor {
                        Cursor::Edge(seq) => seq.to_string(),
                        Cursor::Member(uuid) => id(uuid).to_string(),
                    }),
                    reopen: item.reopen,
                })
                .collect(),
            lane_counts: self
                .lane_counts
                .iter()
                .map(|(lane, counts)| {
                    let counted = PublicState::ALL.iter().map(|s| (*s, counts[s.index()])).filter(|(_, n)| *n > 0);
                    (lane.clone(), counted.collect())
                })
                .collect(),
            damaged: self.damaged.iter().map(|x| id(*x)).collect(),
        }
    }
}

impl Budget {
    /// The budget as plain data.
    #[must_use]
    pub fn snapshot(&self) -> BudgetState {
        let keyed = |recorded_at, call| flat(BudgetKeyRecord { recorded_at, call }.encode());
        BudgetState {
            record: flat(self.record.encode()),
            reports: self
                .reports
                .iter()
                .map(|(key, r)| {
                    let call = RememberedCall::Usage { content: r.content.clone(), result: r.result.clone() };
                    (key.to_owned(), keyed(r.recorded_at, call))
                })
                .collect(),
            resets: self
                .resets
                .iter()
                .map(|(key, r)| {
                    let call = RememberedCall::Reset { by: r.content.clone(), result: r.result };
                    (key.to_owned(), keyed(r.recorded_at, call))
                })
                .collect(),
        }
    }
}

impl Quota {
    /// The policy as plain data.
    #[must_use]
    pub fn snapshot(&self) -> QuotaState {
        QuotaState {
            record: flat(self.record.encode()),
            window: self.window.iter().collect(),
            slots: self
                .slots
                .iter()
                .map(|(identity, slot)| {
                    let record = AdmissionSlotRecord {
                        execution_id: identity.execution_id,
                        attempt_index: identity.attempt_index,
                        lease_epoch: slot.lease_epoch,
                        expires_at: slot.expires_at,
                    };
                    flat(record.encode())
                })
                .collect(),
            waiters: self.waiters.iter().map(|(id, w)| (id, w.since, w.retry_at)).collect(),
        }
    }
}
