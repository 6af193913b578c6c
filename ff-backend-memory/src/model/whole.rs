//! The whole state, plainly: the reference that other backends are compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use ff_core::bounds::Deployment;
use ff_core::error::EngineError;
use ff_core::ids::{BudgetId, QuotaPolicyId};
use ff_core::operation::{Operation, Outcome};
use ff_core::time::TimestampMs;

use super::snapshot::{PartitionState, Snapshot};
use super::{Budget, Partition, Quota};
use crate::apply::{Store, apply};

/// All partitions, budgets and quota policies of one deployment. No clock, no locks.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    deployment: Arc<Deployment>,
    partitions: BTreeMap<u16, Partition>,
    budgets: BTreeMap<BudgetId, Option<Budget>>,
    policies: BTreeMap<QuotaPolicyId, Option<Quota>>,
}

impl Model {
    /// An empty deployment.
    #[must_use]
    pub fn new(deployment: Deployment) -> Self {
        Self {
            deployment: Arc::new(deployment),
            partitions: BTreeMap::new(),
            budgets: BTreeMap::new(),
            policies: BTreeMap::new(),
        }
    }

    pub(crate) fn from_parts(
        deployment: Arc<Deployment>,
        partitions: impl IntoIterator<Item = Partition>,
        budgets: BTreeMap<BudgetId, Option<Budget>>,
        policies: BTreeMap<QuotaPolicyId, Option<Quota>>,
    ) -> Self {
        let partitions = partitions.into_iter().map(|p| (p.number(), p)).collect();
        Self { deployment, partitions, budgets, policies }
    }

    /// What the deployment fixes.
    #[must_use]
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// Carries out one operation at `now`. `tail_frames` looks once.
    ///
    /// # Errors
    /// Those of the operation; a refusal has changed nothing.
    pub fn apply(&mut self, now: TimestampMs, operation: &Operation) -> Result<Outcome, EngineError> {
        let outcome = apply(self, now, operation);
        for partition in self.partitions.values_mut() {
            partition.wakes.clear();
        }
        outcome
    }

    /// The whole state as plain data.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut partitions: BTreeMap<_, _> = self.partitions.iter().map(|(n, p)| (*n, p.snapshot())).collect();
        partitions.retain(|_, state| *state != PartitionState::default());
        Snapshot {
            partitions,
            budgets: self.budgets().map(|(id, b)| (id.clone(), b.snapshot())).collect(),
            policies: self.policies().map(|(id, q)| (id.clone(), q.snapshot())).collect(),
        }
    }

    /// What is wrong with the state: one line for each broken invariant of the contract; none if nothing is.
    #[must_use]
    pub fn audit(&self) -> Vec<String> {
        crate::audit::audit(self).into_iter().map(|finding| finding.line).collect()
    }

    /// Which stored records cannot be written in the flat form of the contract and read back as they are: one line each.
    /// Slower than [`Model::audit`], and apart from it.
    #[must_use]
    pub fn audit_forms(&self) -> Vec<String> {
        crate::audit::forms(self).into_iter().map(|finding| finding.line).collect()
    }

    /// When something of a partition is next due: now if its backlog is not empty.
    #[must_use]
    pub fn next_due_at(&self, partition: u16, now: TimestampMs) -> Option<TimestampMs> {
        self.partitions.get(&partition)?.next_due_at(now)
    }

    /// The partitions that were ever touched, by number.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.values()
    }

    /// The budgets, by id.
    pub fn budgets(&self) -> impl Iterator<Item = (&BudgetId, &Budget)> {
        self.budgets.iter().filter_map(|(id, budget)| Some((id, budget.as_ref()?)))
    }

    /// The quota policies, by id.
    pub fn policies(&self) -> impl Iterator<Item = (&QuotaPolicyId, &Quota)> {
        self.policies.iter().filter_map(|(id, policy)| Some((id, policy.as_ref()?)))
    }
}

impl Store for Model {
    fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    fn partition<R>(&mut self, number: u16, with: impl FnOnce(&mut Partition) -> R) -> R {
        let deployment = &self.deployment;
        with(self.partitions.entry(number).or_insert_with(|| Partition::new(number, Arc::clone(deployment))))
    }

    fn budget<R>(&mut self, id: &BudgetId, with: impl FnOnce(&mut Option<Budget>) -> R) -> R {
        let mut slot = self.budgets.remove(id).flatten();
        let result = with(&mut slot);
        if slot.is_some() {
            self.budgets.insert(id.clone(), slot);
        }
        result
    }

    fn policy<R>(&mut self, id: &QuotaPolicyId, with: impl FnOnce(&mut Option<Quota>) -> R) -> R {
        let mut slot = self.policies.remove(id).flatten();
        let result = with(&mut slot);
        if slot.is_some() {
            self.policies.insert(id.clone(), slot);
        }
        result
    }
}
