//! The whole public view of a backend, as data that can be compared: every entity that was ever named, through reads.

use std::collections::BTreeMap;

use ff_core::contracts::{
    DescribeExecutionArgs, DescribeFlowArgs, EdgeDirection, EvaluateFlowEligibilityArgs, GetBudgetStatusArgs,
    GetPayloadArgs, GetQuotaStatusArgs, GetResultArgs, LaneCountsArgs, ListAttemptsArgs, ListEdgesArgs,
    ListExecutionsArgs, ListFlowMembersArgs, ListPendingWaitpointsArgs, ListSignalsArgs, ListWaitpointHmacKidsArgs,
    ReadFramesArgs, ResultSelector,
};
use ff_core::engine_backend::EngineBackend;
use ff_core::ids::{AttemptIndex, BudgetId, ExecutionId, FlowId, LaneId, QuotaPolicyId};
use ff_core::operation::{Operation, dispatch};
use serde_json::Value;

/// What was named so far, beside what lists tell.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Executions.
    pub executions: std::collections::BTreeSet<ExecutionId>,
    /// Flows.
    pub flows: std::collections::BTreeSet<FlowId>,
    /// Lanes.
    pub lanes: std::collections::BTreeSet<LaneId>,
    /// Budgets.
    pub budgets: std::collections::BTreeSet<BudgetId>,
    /// Quota policies.
    pub policies: std::collections::BTreeSet<QuotaPolicyId>,
    /// Partitions.
    pub partitions: std::collections::BTreeSet<u16>,
}

impl Named {
    /// Notes what an operation names.
    pub fn note(&mut self, operation: &Operation) {
        match operation {
            Operation::CreateExecution(args) => {
                self.executions.insert(args.execution_id);
                self.lanes.insert(args.lane_id.clone());
            }
            Operation::SubmitFlow(args) => {
                self.flows.insert(args.flow_id);
                for member in &args.members {
                    self.executions.insert(member.execution_id);
                    self.lanes.insert(member.lane_id.clone());
                }
            }
            Operation::CreateFlow(args) => {
                self.flows.insert(args.flow_id);
            }
            Operation::CreateBudget(args) => {
                self.budgets.insert(args.budget_id.clone());
            }
            Operation::ReportUsage(args) => {
                self.budgets.insert(args.budget_id.clone());
            }
            Operation::CreateQuotaPolicy(args) => {
                self.policies.insert(args.quota_policy_id.clone());
            }
            Operation::CheckAdmission(args) => {
                self.policies.insert(args.quota_policy_id.clone());
            }
            _ => {}
        }
        if let ff_core::operation::Address::Partition(partition) = operation.address() {
            self.partitions.insert(partition);
        }
    }
}

/// The public view, by what is seen: equal views are equal texts.
pub type View = BTreeMap<String, Value>;

async fn see(view: &mut View, backend: &dyn EngineBackend, label: String, operation: impl Into<Operation>) -> Value {
    let value = match dispatch(backend, operation.into()).await {
        Ok(outcome) => serde_json::to_value(outcome).unwrap_or_default(),
        Err(error) => Value::String(error.to_string()),
    };
    view.insert(label, value.clone());
    value
}

fn cursor_of(value: &Value) -> Option<String> {
    value.pointer("/result/next_cursor").and_then(Value::as_str).map(str::to_owned)
}

/// Reads everything, in pages as long as they may be. The walks of executions, of a flow's members and of its edges are
/// whole; of an execution's attempts, waitpoints and signals, and of an attempt's frames, the first page is all that is
/// read.
pub async fn view(backend: &dyn EngineBackend, named: &Named) -> View {
    let mut view = View::new();
    let mut executions = named.executions.clone();
    let mut cursor = None;
    for page in 0.. {
        let args = ListExecutionsArgs::builder().limit(1000).maybe_cursor(cursor).build();
        let value = see(&mut view, backend, format!("executions page {page}"), args).await;
        let listed = value.pointer("/result/executions").and_then(Value::as_array);
        let ids = listed.into_iter().flatten().filter_map(|x| x.get("execution_id").and_then(Value::as_str));
        executions.extend(ids.filter_map(|text| text.parse::<ExecutionId>().ok()));
        cursor = cursor_of(&value);
        if cursor.is_none() {
            break;
        }
    }
    for id in &executions {
        see_execution(&mut view, backend, *id).await;
    }
    for flow_id in &named.flows {
        see_flow(&mut view, backend, *flow_id, &executions).await;
    }
    for lane_id in &named.lanes {
        let args = LaneCountsArgs::builder().lane_id(lane_id.clone()).build();
        see(&mut view, backend, format!("lane {lane_id}"), args).await;
    }
    for budget_id in &named.budgets {
        let args = GetBudgetStatusArgs { budget_id: budget_id.clone() };
        see(&mut view, backend, format!("budget {budget_id}"), args).await;
    }
    for quota_policy_id in &named.policies {
        let args = GetQuotaStatusArgs { quota_policy_id: quota_policy_id.clone() };
        see(&mut view, backend, format!("policy {quota_policy_id}"), args).await;
    }
    for partition in &named.partitions {
        let args = ListWaitpointHmacKidsArgs { partition: *partition };
        see(&mut view, backend, format!("kids {partition}"), args).await;
    }
    view
}

async fn see_execution(view: &mut View, backend: &dyn EngineBackend, id: ExecutionId) {
    let args = DescribeExecutionArgs { execution_id: id };
    let described = see(view, backend, format!("{id}"), args).await;
    if described.is_string() {
        return;
    }
    see(view, backend, format!("{id} payload"), GetPayloadArgs { execution_id: id }).await;
    let attempts = ListAttemptsArgs::builder().execution_id(id).limit(1000).build();
    see(view, backend, format!("{id} attempts"), attempts).await;
    let count = |name: &str| {
        described.pointer(&format!("/result/{name}")).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok())
    };
    for run in 0..=count("run").unwrap_or(0) {
        let args = GetResultArgs::builder().execution_id(id).of(ResultSelector::Run(run)).build();
        see(view, backend, format!("{id} result {run}"), args).await;
    }
    for index in 0..count("attempt_count").unwrap_or(0) {
        let args = ReadFramesArgs::builder().execution_id(id).attempt_index(AttemptIndex(index)).limit(10_000).build();
        see(view, backend, format!("{id} frames {index}"), args).await;
    }
    let args = ListPendingWaitpointsArgs::builder().execution_id(id).limit(1000).build();
    see(view, backend, format!("{id} waitpoints"), args).await;
    let args = ListSignalsArgs::builder().execution_id(id).limit(1000).build();
    see(view, backend, format!("{id} signals"), args).await;
    see(view, backend, format!("{id} eligibility"), EvaluateFlowEligibilityArgs { execution_id: id }).await;
}

async fn see_flow(
    view: &mut View,
    backend: &dyn EngineBackend,
    flow_id: FlowId,
    executions: &std::collections::BTreeSet<ExecutionId>,
) {
    let described = see(view, backend, format!("{flow_id}"), DescribeFlowArgs { flow_id }).await;
    if described.is_string() {
        return;
    }
    let mut cursor = None;
    for page in 0.. {
        let args = ListFlowMembersArgs::builder().flow_id(flow_id).limit(1000).maybe_cursor(cursor).build();
        let value = see(view, backend, format!("{flow_id} members page {page}"), args).await;
        cursor = cursor_of(&value);
        if cursor.is_none() {
            break;
        }
    }
    for node in executions.iter().filter(|id| id.partition() == flow_id.partition()) {
        let mut cursor = None;
        for page in 0.. {
            let direction = EdgeDirection::Incoming { to_node: *node };
            let args =
                ListEdgesArgs::builder().flow_id(flow_id).direction(direction).limit(1000).maybe_cursor(cursor).build();
            let value = see(view, backend, format!("{flow_id} edges to {node} page {page}"), args).await;
            cursor = cursor_of(&value);
            if cursor.is_none() {
                break;
            }
        }
    }
}

/// The lines in which two views differ: what was, what is.
#[must_use]
pub fn difference(before: &View, after: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for label in before.keys().chain(after.keys().filter(|k| !before.contains_key(*k))) {
        let (was, is) = (before.get(label), after.get(label));
        if was != is {
            let text = |v: Option<&Value>| v.map_or_else(|| "absent".to_owned(), Value::to_string);
            lines.push(format!("{label}\n  was {}\n  is  {}", text(was), text(is)));
        }
    }
    lines
}
