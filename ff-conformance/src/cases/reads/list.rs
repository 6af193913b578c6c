//! Walking over executions, and counting them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, Namespace};
use ff_core::refusal::{Code, Details};
use ff_core::state::{BlockReason, PublicState};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{LEASE_MS, PARTITION, Stage, deadline, every, id_in, lane, lane_named, namespace, retries};

cases! { "reads";
    "list_executions: a walk in pages of 1 returns what a walk in pages of 1000 returns, for every filter." => page_sizes,
    "list_executions: while others are created, claimed and purged, one that matches throughout comes exactly once." => beside_traffic,
    "list_executions: partition 10 comes after partition 2, limit 0 and 1001 are invalid_input, a foreign cursor too." => order_and_bounds,
    "lane_counts: every transition moves exactly one unit, the sum equals the executions listed for the lane." => counts,
}

fn elsewhere() -> Namespace {
    Namespace::new("elsewhere").unwrap_or_else(|e| panic!("{e}"))
}

/// One execution of every public state in the main partition, tagged in turn.
async fn one_of_each(s: &Stage) {
    s.complete_as_operator(s.ready().await).await;
    let (id, fence) = s.running().await;
    s.fail_for_good(id, fence).await;
    s.cancel(s.ready().await).await;
    s.ready_with(deadline(When::After(1))).await;
    s.advance(1);
    s.sweep().await;
    s.suspended().await;
    let (_, waiting) = s.deps().await;
    assert_eq!(s.describe(waiting).await.public_state, PublicState::WaitingChildren);
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.member(flow_id, &[up]).await;
    s.cancel(up).await;
    s.running().await;
    s.delayed(1_000_000).await;
    let limited = s.ready().await;
    s.block(limited, BlockReason::WaitingForQuota).await;
    s.ready().await;
}

async fn page_sizes(s: &Stage) {
    one_of_each(s).await;
    let mut colour = 0;
    for partition in [2, 10, PARTITION] {
        for lane_id in [lane(), lane_named("other")] {
            for namespace in [namespace(), elsewhere()] {
                let mut args = s.creation();
                args.execution_id = id_in(partition);
                (args.lane_id, args.namespace) = (lane_id.clone(), namespace);
                colour += 1;
                args.tags.insert("case.colour".to_owned(), ["red", "blue"][colour % 2].to_owned());
                let id = s.create(args).await;
                if colour % 5 == 0 {
                    s.cancel(id).await;
                }
            }
        }
    }
    let all = s.walk(&every(), 1000).await;
    let mut described = Vec::new();
    for x in &all {
        described.push(s.describe(x.execution_id).await);
    }
    let states: std::collections::BTreeSet<_> = all.iter().map(|x| x.public_state).collect();
    assert_eq!(states.len(), 11, "the case lacks a state: {states:?}");
    assert_eq!(all.len(), 12 + 12, "11 states and a second cancelled one; and 12 in all partitions");

    let with = |change: &dyn Fn(&mut ListExecutionsArgs)| {
        let mut args = every();
        change(&mut args);
        args
    };
    let tag = |value: &str| Some(("case.colour".to_owned(), value.to_owned()));
    let mut filters = vec![every()];
    filters.extend([2, 3, 5, 10].map(|p| with(&|f| f.partition = Some(p))));
    filters.extend(["main", "other", "unknown"].map(|name| with(&|f| f.lane_id = Some(lane_named(name)))));
    filters.extend([namespace(), elsewhere()].map(|n| with(&|f| f.namespace = Some(n.clone()))));
    filters.extend(PublicState::ALL.iter().map(|state| with(&|f| f.public_state = Some(*state))));
    filters.extend(["red", "blue", "green", ""].map(|value| with(&|f| f.tag = tag(value))));
    filters.push(with(&|f| f.tag = Some(("case.colours".to_owned(), "red".to_owned()))));
    for partition in [None, Some(2), Some(5)] {
        for value in ["red", "blue"] {
            filters.push(with(&|f| {
                (f.partition, f.lane_id, f.tag) = (partition, Some(lane_named("other")), tag(value));
            }));
            filters.push(with(&|f| {
                (f.partition, f.namespace) = (partition, Some(elsewhere()));
                (f.public_state, f.tag) = (Some(PublicState::Cancelled), tag(value));
            }));
        }
    }
    let mut found = 0;
    for filter in filters {
        let wanted: Vec<ExecutionId> = described
            .iter()
            .filter(|x| filter.partition.is_none_or(|p| p == x.execution_id.partition()))
            .filter(|x| filter.lane_id.as_ref().is_none_or(|lane| *lane == x.lane_id))
            .filter(|x| filter.namespace.as_ref().is_none_or(|n| *n == x.namespace))
            .filter(|x| filter.public_state.is_none_or(|state| state == x.public_state))
            .filter(|x| filter.tag.as_ref().is_none_or(|(key, value)| x.tags.get(key) == Some(value)))
            .map(|x| x.execution_id)
            .collect();
        let ones = s.walk(&filter, 1).await;
        let ids: Vec<_> = ones.iter().map(|x| x.execution_id).collect();
        assert_eq!(ids, wanted, "{filter:?}");
        for limit in [3, 1000] {
            assert_eq!(s.walk(&filter, limit).await, ones, "{filter:?}");
        }
        found += ones.len();
    }
    assert!(found > 100);
    for x in &described {
        let summary = all.iter().find(|l| l.execution_id == x.execution_id).unwrap_or_else(|| panic!("not listed"));
        let told = (summary.flow_id, &summary.namespace, &summary.lane_id, summary.kind.as_str());
        assert_eq!(told, (x.flow_id, &x.namespace, &x.lane_id, x.kind.as_str()));
        let told = (summary.priority, summary.public_state, summary.created_at);
        assert_eq!(told, (x.priority, x.public_state, x.created_at));
    }
}

async fn beside_traffic(s: &Stage) {
    // The ids are scattered, and the same in every run.
    let mut rng = fastrand::Rng::with_seed(1);
    let mut scattered = |partition| ExecutionId::from_parts(partition, uuid::Uuid::from_u128(rng.u128(..)));
    let marked = |id| {
        let mut args = s.creation();
        args.execution_id = id;
        args.tags.insert("case.keep".to_owned(), "yes".to_owned());
        args.lane_id = lane_named("kept");
        args
    };
    let mut kept = Vec::new();
    for n in 0..40_u16 {
        kept.push(s.create(marked(scattered([2, 5, 10][usize::from(n % 3)]))).await);
    }
    kept.sort();
    let mut goers = Vec::new();
    for _ in 0..40 {
        let mut args = s.creation();
        args.execution_id = scattered(PARTITION);
        Arc::make_mut(&mut args.policy).retention_ms = 0;
        goers.push(s.create(args).await);
    }
    for filter in [every(), ListExecutionsArgs::builder().tag("case.keep", "yes").build()] {
        let (mut args, mut seen, mut purged) = (filter, Vec::new(), 0);
        args.limit = 3;
        loop {
            let page = s.list(args.clone()).await;
            seen.extend(page.executions.iter().map(|x| x.execution_id));
            let Some(cursor) = page.next_cursor else { break };
            args.cursor = Some(cursor);
            // Others are created on both sides of the cursor, claimed, and purged, the one just listed perhaps too.
            for partition in [2, PARTITION, 10] {
                let mut other = s.creation();
                other.execution_id = scattered(partition);
                s.create(other).await;
            }
            s.claim_next(1).await;
            if let Some(id) = goers.pop() {
                s.cancel_unless_done(id).await;
                s.sweep().await;
                s.gone(id).await;
                purged += 1;
            }
        }
        assert!(purged > 0, "the case purged nothing");
        let mut once = seen.clone();
        once.sort();
        once.dedup();
        assert_eq!(once, seen, "one came twice, or out of order");
        let kept_seen: Vec<_> = seen.into_iter().filter(|id| kept.contains(id)).collect();
        assert_eq!(kept_seen, kept);
        // The next walk has somebody to purge again.
        for _ in 0..20 {
            let mut args = s.creation();
            Arc::make_mut(&mut args.policy).retention_ms = 0;
            goers.push(s.create(args).await);
        }
    }
}

async fn order_and_bounds(s: &Stage) {
    let mut ids = Vec::new();
    for (partition, number) in [(10, 1_u128), (10, u128::MAX), (2, 7), (2, 5), (0, 9), (15, 0), (2, 1 << 127)] {
        let mut args = s.creation();
        args.execution_id = ExecutionId::from_parts(partition, uuid::Uuid::from_u128(number));
        ids.push(s.create(args).await);
    }
    let [ten, ten_last, two_second, two, zero, fifteen, two_last] = ids.as_slice() else { panic!("{ids:?}") };
    let wanted = [*zero, *two, *two_second, *two_last, *ten, *ten_last, *fifteen];
    for limit in [1, 2, 1000] {
        let found: Vec<_> = s.walk(&every(), limit).await.iter().map(|x| x.execution_id).collect();
        assert_eq!(found, wanted, "in pages of {limit}");
    }
    let with = |change: &dyn Fn(&mut ListExecutionsArgs)| {
        let mut args = every();
        change(&mut args);
        args
    };
    let mut first = with(&|f| (f.partition, f.limit) = (Some(2), 1));
    let cursor = loop {
        // A page may be empty while more remain.
        let page = s.list(first.clone()).await;
        first.cursor = page.next_cursor;
        if !page.executions.is_empty() {
            break first.cursor.clone();
        }
    };
    assert!(cursor.is_some(), "two more remain");
    let bad: [(ListExecutionsArgs, &str); 6] = [
        (with(&|f| f.limit = 0), "limit"),
        (with(&|f| f.limit = 1001), "limit"),
        (with(&|f| f.cursor = Some(String::new())), "cursor"),
        (with(&|f| f.cursor = Some("no cursor of anybody's".to_owned())), "cursor"),
        (with(&|f| f.cursor = Some(ids[0].to_string())), "cursor"),
        (with(&|f| (f.cursor, f.partition) = (cursor.clone(), Some(10))), "cursor"),
    ];
    for (args, field) in bad {
        let refusal = s.refused_with(Code::InvalidInput, args.clone()).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: field.to_owned() }, "{args:?}");
    }
    // It names a position, not the filters.
    let rest: Vec<_> = s.list(with(&|f| f.cursor = cursor.clone())).await.executions;
    assert_eq!(rest.iter().map(|x| x.execution_id).collect::<Vec<_>>(), wanted[2..]);
    s.refused_with(Code::InvalidPartition, with(&|f| f.partition = Some(16))).await;
    let malformed = with(&|f| f.tag = Some(("Colour".to_owned(), "red".to_owned())));
    s.refused_with(Code::InvalidTagKey, malformed).await;
}

/// The lane's counts as they should be, beside the backend's.
struct Counted<'a> {
    stage: &'a Stage,
    wanted: BTreeMap<PublicState, u64>,
}

impl Counted<'_> {
    /// One unit must have moved, and nothing else.
    async fn moved(&mut self, what: &str, from: Option<PublicState>, to: Option<PublicState>) {
        if let Some(from) = from {
            let left = self.wanted.remove(&from).unwrap_or_default();
            assert!(left > 0, "{what}: the case is wrong");
            if left > 1 {
                self.wanted.insert(from, left - 1);
            }
        }
        if let Some(to) = to {
            *self.wanted.entry(to).or_default() += 1;
        }
        assert_eq!(self.stage.lane_counts(lane()).await, self.wanted, "after {what}");
        let mut filter = every();
        filter.lane_id = Some(lane());
        let listed = self.stage.walk(&filter, 1000).await.len() as u64;
        assert_eq!(listed, self.wanted.values().sum::<u64>(), "after {what}");
    }
}

async fn counts(s: &Stage) {
    use PublicState::{
        Active, Cancelled, Completed, Delayed, Expired, Failed, RateLimited, Skipped, Suspended, Waiting,
        WaitingChildren,
    };
    let mut lane_of = Counted { stage: s, wanted: BTreeMap::new() };
    lane_of.moved("nothing", None, None).await;
    let id = s.delayed(10).await;
    lane_of.moved("create", None, Some(Delayed)).await;
    s.advance(10);
    lane_of.moved("a due delay that has not fired", None, None).await;
    s.sweep().await;
    lane_of.moved("sweep", Some(Delayed), Some(Waiting)).await;
    s.grant(id).await;
    lane_of.moved("a grant", None, None).await;
    s.delay_as_operator(id, When::After(10)).await;
    lane_of.moved("an operator's delay", Some(Waiting), Some(Delayed)).await;
    s.delay_as_operator(id, When::At(s.now())).await;
    lane_of.moved("its end", Some(Delayed), Some(Waiting)).await;
    s.block(id, BlockReason::WaitingForQuota).await;
    lane_of.moved("a quota block", Some(Waiting), Some(RateLimited)).await;
    s.block(id, BlockReason::PausedByOperator).await;
    lane_of.moved("an operator's block", Some(RateLimited), Some(Waiting)).await;
    s.unblock(id, BlockReason::WaitingForQuota).await;
    lane_of.moved("unblock", None, None).await;
    s.unblock(id, BlockReason::PausedByOperator).await;
    lane_of.moved("unblock", None, None).await;
    let fence = s.claim_this(id).await.fence;
    lane_of.moved("claim", Some(Waiting), Some(Active)).await;
    s.renew(id, fence, LEASE_MS).await;
    lane_of.moved("renew", None, None).await;
    s.suspend_on_any_signal(id, fence).await;
    lane_of.moved("suspend", Some(Active), Some(Suspended)).await;
    s.resume(id).await;
    lane_of.moved("resume", Some(Suspended), Some(Waiting)).await;
    let fence = s.claim_this(id).await.fence;
    lane_of.moved("a resumed claim", Some(Waiting), Some(Active)).await;
    s.revoke(id, fence).await;
    lane_of.moved("revoke", None, None).await;
    let fence = s.claim_this(id).await.fence;
    s.lose(id, fence).await;
    lane_of.moved("a lost lease", None, None).await;
    let fence = s.claim_this(id).await.fence;
    s.complete(id, fence).await;
    lane_of.moved("complete", Some(Active), Some(Completed)).await;
    s.replay(id, 0).await;
    lane_of.moved("replay", Some(Completed), Some(Waiting)).await;
    s.cancel(id).await;
    lane_of.moved("cancel", Some(Waiting), Some(Cancelled)).await;

    let (id, fence) = s.running_with(retries(1, 50)).await;
    lane_of.moved("another", None, Some(Active)).await;
    s.fail_and_retry(id, fence).await;
    lane_of.moved("a failure", Some(Active), Some(Delayed)).await;
    s.advance(50);
    let fence = s.claim_this(id).await.fence;
    lane_of.moved("a claim that swept", Some(Delayed), Some(Active)).await;
    s.fail_for_good(id, fence).await;
    lane_of.moved("the last failure", Some(Active), Some(Failed)).await;
    s.ready_with(deadline(When::After(1))).await;
    lane_of.moved("another", None, Some(Waiting)).await;
    s.advance(1);
    s.sweep().await;
    lane_of.moved("a deadline", Some(Waiting), Some(Expired)).await;

    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    lane_of.moved("a member", None, Some(Waiting)).await;
    s.member(flow_id, &[up]).await;
    lane_of.moved("a member behind it", None, Some(WaitingChildren)).await;
    let up_fence = s.claim_this(up).await.fence;
    lane_of.moved("claim", Some(Waiting), Some(Active)).await;
    // One call, two executions: each moves one unit.
    s.fail_for_good(up, up_fence).await;
    *lane_of.wanted.entry(Failed).or_default() += 1;
    lane_of.wanted.remove(&Active);
    lane_of.moved("a failure that skips", Some(WaitingChildren), Some(Skipped)).await;
    // Elsewhere is elsewhere.
    let mut other = s.creation();
    other.lane_id = lane_named("other");
    s.create(other).await;
    lane_of.moved("another lane's", None, None).await;
    let mut other = s.creation();
    other.execution_id = id_in(2);
    s.create(other).await;
    lane_of.moved("another partition's", None, Some(Waiting)).await;
    for (partition, waiting) in [(2, 1), (PARTITION, 0), (7, 0)] {
        let args = LaneCountsArgs::builder().lane_id(lane()).partition(partition).build();
        let counts = s.backend.lane_counts(args).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(counts.counts.len(), 11);
        assert_eq!(counts.count(Waiting), waiting, "partition {partition}");
        assert_eq!(
            counts.total(),
            if partition == PARTITION { lane_of.wanted.values().sum::<u64>() - 1 } else { waiting }
        );
    }
    assert!(s.lane_counts(lane_named("never-seen")).await.is_empty());
    let foreign = LaneCountsArgs::builder().lane_id(lane()).partition(16).build();
    s.refused_with(Code::InvalidPartition, foreign).await;
    // A purge takes its unit away.
    let mut short = s.creation();
    Arc::make_mut(&mut short.policy).retention_ms = 0;
    let id = s.create(short).await;
    lane_of.moved("another", None, Some(Waiting)).await;
    s.cancel(id).await;
    lane_of.moved("cancel", Some(Waiting), Some(Cancelled)).await;
    s.sweep_once(1).await;
    lane_of.moved("a purge", Some(Cancelled), None).await;
    s.sweep().await;
    lane_of.moved("its backlog", None, None).await;
}
