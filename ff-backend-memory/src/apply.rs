//! Where rules meet state: one function that carries out any operation over anything that holds partitions, budgets and
//! quota policies.

use ff_core::bounds::Deployment;
use ff_core::contracts::{
    LaneCounts, LaneCountsArgs, ListExecutionsArgs, ListExecutionsResult, TailFramesArgs, TailFramesResult,
};
use ff_core::error::EngineError;
use ff_core::ids::{BudgetId, QuotaPolicyId};
use ff_core::operation::{Operation, Outcome};
use ff_core::time::TimestampMs;

use crate::model::{Budget, Partition, Quota};
use crate::rules;

/// Something that holds the state, under locks or plainly.
pub(crate) trait Store {
    /// What the deployment fixes.
    fn deployment(&self) -> &Deployment;
    /// One partition, alone.
    fn partition<R>(&mut self, number: u16, with: impl FnOnce(&mut Partition) -> R) -> R;
    /// One budget, alone.
    fn budget<R>(&mut self, id: &BudgetId, with: impl FnOnce(&mut Option<Budget>) -> R) -> R;
    /// One quota policy, alone.
    fn policy<R>(&mut self, id: &QuotaPolicyId, with: impl FnOnce(&mut Option<Quota>) -> R) -> R;
}

/// Carries out one rule: `run_rule!(atomicity, domain, method, store, now, args)`.
macro_rules! run_rule {
    (partition, $domain:ident, $method:ident, $store:expr, $now:expr, $args:expr) => {
        match ::ff_core::operation::Addressed::address($args) {
            ::ff_core::operation::Address::Partition(number) => {
                $crate::apply::Store::partition($store, number, |p| $crate::rules::$domain::$method(p, $now, $args))
            }
            _ => Err(::ff_core::refusal::Refusal::invalid_partition().into()),
        }
    };
    (budget, $domain:ident, $method:ident, $store:expr, $now:expr, $args:expr) => {
        $crate::apply::Store::budget($store, &$args.budget_id, |b| $crate::rules::$domain::$method(b, $now, $args))
    };
    (policy, $domain:ident, $method:ident, $store:expr, $now:expr, $args:expr) => {
        $crate::apply::Store::policy($store, &$args.quota_policy_id, |q| {
            $crate::rules::$domain::$method(q, $now, $args)
        })
    };
    // Those that look at several partitions, or wait.
    ($within:ident, $domain:ident, $method:ident, $store:expr, $now:expr, $args:expr) => {
        $crate::apply::$method($store, $now, $args)
    };
}
pub(crate) use run_rule;

macro_rules! define_apply {
    ($($domain:ident: $Trait:ident {
        $($Op:ident = $method:ident($Args:ident) -> $Result:ident, $rw:ident, $within:ident, $function:tt;)*
    })*) => {
        /// Checks the arguments and carries out the operation's rule at `now`.
        pub(crate) fn apply(store: &mut impl Store, now: TimestampMs, operation: &Operation) -> Result<Outcome, EngineError> {
            operation.check(store.deployment())?;
            match operation {
                $($(Operation::$Op(args) => run_rule!($within, $domain, $method, store, now, args).map(Outcome::$Op),)*)*
            }
        }
    };
}
ff_core::operations!(define_apply);

pub(crate) fn list_executions(
    store: &mut impl Store,
    _: TimestampMs,
    args: &ListExecutionsArgs,
) -> Result<ListExecutionsResult, EngineError> {
    let config = store.deployment().partitions;
    rules::reads::list_executions(args, config, |number, after, examine, wanted| {
        store.partition(number, |p| rules::reads::list_in_partition(p, args, after, examine, wanted))
    })
}

pub(crate) fn lane_counts(
    store: &mut impl Store,
    now: TimestampMs,
    args: &LaneCountsArgs,
) -> Result<LaneCounts, EngineError> {
    let config = store.deployment().partitions;
    rules::reads::sum_lane_counts(args, config, |number| {
        store.partition(number, |p| rules::reads::lane_counts(p, now, args))
    })
}

/// One look: whoever waits does so outside the state.
pub(crate) fn tail_frames(
    store: &mut impl Store,
    now: TimestampMs,
    args: &TailFramesArgs,
) -> Result<TailFramesResult, EngineError> {
    let look = store.partition(args.execution_id.partition(), |p| rules::stream::tail_page(p, now, args))?;
    Ok(TailFramesResult::Frames(look.page))
}
