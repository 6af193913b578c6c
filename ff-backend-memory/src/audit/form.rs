//! Every stored record can be written in its flat form and read back as it is.

use ff_core::contracts::decode::DecodeError;
use ff_core::records::{
    AdmissionIdentity, AdmissionSlotRecord, AttemptRecord, BudgetKeyRecord, BudgetRecord, DedupRecord, EdgeRecord,
    ExecutionRecord, FlowRecord, KidRecord, MemberRecord, QuotaPolicyRecord, RememberedCall, RunRecord, SignalRecord,
    StreamMetaRecord, SuspensionRecord, WaitpointRecord,
};

use super::{Finding, Findings, Rule};
use crate::model::{Budget, Execution, Model, Partition, Quota};

impl Findings {
    fn same<R: PartialEq>(&mut self, stored: &R, read: Result<R, DecodeError>, what: impl FnOnce() -> String) {
        let fault = match read {
            Ok(read) if read == *stored => return,
            Ok(_) => "is read as another".to_owned(),
            Err(error) => error.to_string(),
        };
        self.ensure(Rule::StoredForm, false, || format!("{}: {fault}", what()));
    }
}

pub(super) fn audit(model: &Model) -> Vec<Finding> {
    let mut found: Vec<Finding> = model.partitions().flat_map(partition).collect();
    found.extend(model.budgets().flat_map(|(_, b)| budget(b)));
    found.extend(model.policies().flat_map(|(_, q)| quota(q)));
    found
}

fn partition(p: &Partition) -> Vec<Finding> {
    let mut f = Findings::new(format!("partition {}", p.number()));
    for x in p.executions() {
        execution(&mut f, x);
    }
    for flow in p.flows() {
        f.same(flow, FlowRecord::decode(flow.flow_id, &flow.encode()), || flow.flow_id.to_string());
    }
    for (flow, graph) in &p.graphs {
        let flow = p.flow_id(*flow);
        for edge in graph.edges.values() {
            f.same(edge, EdgeRecord::decode(flow, edge.edge_id, &edge.encode()), || format!("edge {}", edge.edge_id));
        }
        for m in graph.members.values() {
            f.same(m, MemberRecord::decode(m.execution_id, &m.encode()), || format!("member {}", m.execution_id));
        }
    }
    for (kid, record) in &p.keystore.kids {
        f.same(record, KidRecord::decode(p.number(), kid, &record.encode()), || format!("kid {kid}"));
    }
    f.found
}

fn execution(f: &mut Findings, x: &Execution) {
    let id = x.record.execution_id;
    let h = &*x.history;
    f.same(&x.record, ExecutionRecord::decode(id, &x.record.encode()), || id.to_string());
    for a in h.attempts.iter().chain(x.attempt.as_ref()) {
        f.same(a, AttemptRecord::decode(id, a.attempt_index, &a.encode()), || format!("{id} attempt {a:?}"));
    }
    if let Some(s) = x.suspension.as_deref() {
        f.same(s, SuspensionRecord::decode(id, &s.encode()), || format!("{id} suspension {}", s.suspension_id));
    }
    for run in &h.runs {
        f.same(run, RunRecord::decode(id, run.run, &run.encode()), || format!("{id} run {}", run.run));
    }
    for w in h.waitpoints.values() {
        let read = WaitpointRecord::decode(id, w.waitpoint_id, &w.encode());
        f.same(w, read, || format!("{id} waitpoint {}", w.waitpoint_id));
    }
    for s in h.signals.values() {
        f.same(s, SignalRecord::decode(id, s.seq, &s.encode()), || format!("{id} signal {}", s.seq));
    }
    for d in h.dedup.values() {
        f.same(d, DedupRecord::decode(id, d.signal_id, &d.encode()), || format!("{id} dedup {}", d.signal_id));
    }
    for stream in h.streams.values() {
        let meta = &stream.meta;
        let map = meta.encode();
        let index = meta.attempt_index;
        f.same(meta, StreamMetaRecord::decode(id, index, &map), || format!("{id} stream {index}"));
        let version = map.get("v").cloned().unwrap_or_default();
        for frame in &stream.frames {
            let read = ff_core::contracts::StreamFrame::decode(frame.id, &version, &frame.encode());
            f.same(frame, read, || format!("{id} frame {}", frame.id));
        }
    }
}

fn budget(b: &Budget) -> Vec<Finding> {
    let id = &b.record.budget_id;
    let mut f = Findings::new(format!("budget {id}"));
    f.same(&b.record, BudgetRecord::decode(id, &b.record.encode()), || "itself".to_owned());
    let reports = b.reports.iter().map(|(key, r)| {
        (key, r.recorded_at, RememberedCall::Usage { content: r.content.clone(), result: r.result.clone() })
    });
    let resets = b
        .resets
        .iter()
        .map(|(key, r)| (key, r.recorded_at, RememberedCall::Reset { by: r.content.clone(), result: r.result }));
    for (key, recorded_at, call) in reports.chain(resets) {
        let record = BudgetKeyRecord { recorded_at, call };
        f.same(&record, BudgetKeyRecord::decode(record.scope(), &record.encode()), || format!("key {key:?}"));
    }
    f.found
}

fn quota(q: &Quota) -> Vec<Finding> {
    let id = &q.record.quota_policy_id;
    let mut f = Findings::new(format!("policy {id}"));
    f.same(&q.record, QuotaPolicyRecord::decode(id, &q.record.encode()), || "itself".to_owned());
    for (identity, slot) in q.slots.iter() {
        let AdmissionIdentity { execution_id, attempt_index } = *identity;
        let (lease_epoch, expires_at) = (slot.lease_epoch, slot.expires_at);
        let record = AdmissionSlotRecord { execution_id, attempt_index, lease_epoch, expires_at };
        f.same(&record, AdmissionSlotRecord::decode(*identity, &record.encode()), || format!("slot of {execution_id}"));
    }
    f.found
}
