//! What a store can be left with by damage or by a call that broke off, and what the functions make of it.

mod common;

use ff_conformance::stage::{LEASE_MS, PARTITION, Stage, kept_for, requires, slot, under};
use ff_core::contracts::*; // tests speak the whole contract
use ff_core::error::EngineError;
use ff_core::ids::ExecutionId;
use ff_core::policy::Capabilities;
use ff_core::refusal::Code;
use ff_core::state::{PublicState, StateName};
use ff_testserver::Server;
use uuid::Uuid;

use common::{Opened, of};

/// A whole walk.
async fn rebuild(s: &Stage) -> RebuildReport {
    s.rebuild().await
}

async fn exists(s: &Stage, id: ExecutionId) -> bool {
    match s.backend.get_execution(GetExecutionArgs { execution_id: id }).await {
        Ok(_) => true,
        Err(e) if e.code() == Some(Code::ExecutionNotFound) => false,
        Err(e) => panic!("get_execution: {e}"),
    }
}

#[tokio::test]
async fn an_entry_that_outlived_its_purge_removes_nobody_who_has_the_id_now() {
    let o = Opened::fresh().await;
    let s = &o.s;
    let id = s.execution_id();
    let mut args = s.creation_with(kept_for(1));
    args.execution_id = id;
    s.create(args).await;
    s.cancel(id).await;
    s.advance(1);
    s.sweep_once(1).await;
    assert!(!exists(s, id).await);
    // The call that ended the purge broke off before the entry went: the tombstone is gone, the entry is not.
    assert_eq!(o.at::<u64>("DEL", &of("e", id.uuid()), &[]).await, 1);
    let mut args = s.creation();
    args.execution_id = id;
    args.payload = "mine".into();
    s.create(args).await;
    s.sweep().await;
    assert!(exists(s, id).await);
    assert_eq!(s.claim_this(id).await.payload, "mine");
    assert_eq!(o.at::<u64>("EXISTS", b"b", &[]).await, 0, "the entry is gone");
    assert_eq!(rebuild(s).await.total(), 0);
}

#[tokio::test]
async fn a_purged_flow_takes_nobody_with_it_who_has_a_members_id_now() {
    let o = Opened::fresh().await;
    let s = &o.s;
    let flow_id = s.flow().await;
    let mut args = s.member_creation(flow_id, &[]);
    args.policy = kept_for(1).into();
    let member = s.create(args).await;
    s.cancel(member).await;
    s.seal(flow_id).await;
    s.advance(1);
    s.sweep_once(1).await;
    // The step that removed the member broke off before the list of members heard of it.
    o.at::<u64>("DEL", &of("e", member.uuid()), &[]).await;
    o.at::<u64>("ZREM", b"x", &[member.uuid().as_bytes()]).await;
    let mut args = s.creation();
    args.execution_id = member;
    s.create(args).await;
    s.sweep().await;
    assert!(exists(s, member).await);
    s.flow_gone(flow_id).await;
    let again =
        CreateFlowArgs::builder().flow_id(flow_id).flow_kind("job").namespace(ff_conformance::stage::namespace());
    assert!(s.backend.create_flow(again.build()).await.is_ok(), "its id is free");
}

#[tokio::test]
async fn a_lost_capability_set_comes_back_for_all_who_need_it() {
    let o = Opened::fresh().await;
    let s = &o.s;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(s.ready_with(requires(["gpu"])).await);
    }
    let mut later = s.creation_with(requires(["gpu"]));
    later.delay = Some(ff_core::time::When::After(10));
    let later = s.create(later).await;
    assert_eq!(o.at::<u64>("DEL", b"lmain", &[]).await, 1);
    let report = rebuild(s).await;
    assert_eq!(report.count(IndexKind::List, RepairAction::Added), 1);
    // One of them ends: the set stays registered for the others.
    s.cancel(all[0]).await;
    let mut args = s.claim_args(8);
    args.capabilities = Capabilities::from(["gpu"]);
    args.slots.truncate(1);
    assert_eq!(s.backend.claim_next(args.clone()).await.expect("claims").claimed.len(), 1);
    // With nothing waiting it may go, and comes back with the one that becomes ready later.
    s.cancel(all[1]).await;
    s.cancel(all[2]).await;
    s.advance(10);
    args.slots = vec![slot()];
    let taken = s.backend.claim_next(args).await.expect("claims").claimed;
    assert_eq!(taken.iter().map(|c| c.claimed().execution_id).collect::<Vec<_>>(), [later]);
}

/// Makes a hash's version unreadable and readable again.
async fn version(o: &Opened, rest: &[u8], v: &[u8]) {
    o.at::<u64>("HSET", rest, &[b"v", v]).await;
}

fn corruption<T: std::fmt::Debug>(answer: &Result<T, EngineError>) {
    assert!(matches!(answer, Err(EngineError::Corruption(_))), "{answer:?}");
}

#[tokio::test]
async fn a_flow_that_cannot_be_decoded_stops_nobody_else() {
    let o = Opened::fresh().await;
    let s = &o.s;
    let flow_id = s.flow().await;
    let mut args = s.member_creation(flow_id, &[]);
    args.delay = Some(ff_core::time::When::After(10));
    let delayed = s.create(args).await;
    let waiting = s.member(flow_id, &[]).await;
    let up = s.member(flow_id, &[]).await;
    let down = s.member(flow_id, &[up]).await;
    let empty = s.flow().await;
    s.seal(empty).await;
    let other = s.delayed(10).await;
    let flow = of("f", flow_id.uuid());
    version(&o, &flow, b"9.0").await;
    version(&o, &of("f", empty.uuid()), b"9.0").await;
    s.advance(10);
    let report = s.sweep().await;
    assert_eq!(report.corrupt, [CorruptEntry { kind: SweepKind::Delay, id: delayed.to_string() }]);
    assert_eq!(s.state(other).await, StateName::Ready);
    // A claim passes over its members, which leave their queue.
    let claimed = s.claim_next(3).await;
    assert_eq!(claimed.claimed.iter().map(|c| c.claimed().execution_id).collect::<Vec<_>>(), [other]);
    assert_eq!(claimed.ready_remaining, 0);
    corruption(&s.backend.describe_flow(DescribeFlowArgs { flow_id }).await);
    let args = CancelFlowArgs::builder().flow_id(flow_id).reason("enough").by("ops").build();
    corruption(&s.backend.cancel_flow(args).await);
    s.advance(86_400_000);
    let report = s.sweep().await;
    assert!(report.corrupt.contains(&CorruptEntry { kind: SweepKind::Retention, id: empty.to_string() }));
    let report = rebuild(s).await;
    assert_eq!(sorted(report.corrupt), sorted(vec![flow_id.to_string(), empty.to_string()]));
    // Readable again, they are owed what was dropped.
    version(&o, &flow, b"1.0").await;
    version(&o, &of("f", empty.uuid()), b"1.0").await;
    rebuild(s).await;
    s.sweep().await;
    s.flow_gone(empty).await;
    let claimed: Vec<_> = s.claim_next(9).await.claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert!([delayed, waiting, up].iter().all(|id| claimed.contains(id)), "{claimed:?}");
    s.cancel(up).await;
    assert_eq!(s.state(down).await, StateName::Done);
    assert_eq!(rebuild(s).await.total(), 0);
    s.recount(flow_id, "healing").await;
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

#[tokio::test]
async fn an_edge_that_cannot_be_decoded_stops_nobody_else() {
    let o = Opened::fresh().await;
    let s = &o.s;
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let children = [s.member(flow_id, &[up]).await, s.member(flow_id, &[up]).await, s.member(flow_id, &[up]).await];
    let edge = s.edge_between(flow_id, up, children[1]).await.edge_id;
    let edges = of("E", flow_id.uuid());
    let kept: Vec<u8> = o.at("HGET", &edges, &[edge.uuid().as_bytes()]).await;
    o.at::<u64>("HSET", &edges, &[edge.uuid().as_bytes(), b"no edge"]).await;
    let fence = s.claim_this(up).await.fence;
    s.complete(up, fence).await;
    assert_eq!(s.state(children[0]).await, StateName::Ready);
    assert_eq!(s.state(children[1]).await, StateName::Deps);
    assert_eq!(s.state(children[2]).await, StateName::Ready);
    // A creation does not take its id, nor its place.
    let mut args = s.member_creation(flow_id, &[up]);
    args.flow.as_mut().expect("is a member").edges[0].edge_id = edge;
    corruption(&s.backend.create_execution(args).await);
    assert_eq!(o.at::<Vec<u8>>("HGET", &edges, &[edge.uuid().as_bytes()]).await, b"no edge");
    let report = rebuild(s).await;
    assert_eq!((report.corrupt.clone(), report.total()), (vec![edge.to_string()], 0));
    o.at::<u64>("HSET", &edges, &[edge.uuid().as_bytes(), &kept]).await;
    assert_eq!(rebuild(s).await.count(IndexKind::Backlog, RepairAction::Added), 1);
    s.sweep().await;
    assert_eq!(s.state(children[1]).await, StateName::Ready);
}

#[tokio::test]
async fn lists_of_edges_and_members_come_back_from_their_records() {
    let o = Opened::fresh().await;
    let s = &o.s;
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let down = s.member(flow_id, &[up]).await;
    o.at::<u64>("DEL", &of(">", up.uuid()), &[]).await;
    o.at::<u64>("DEL", &of("<", down.uuid()), &[]).await;
    let stranger = s.ready().await;
    for list in ["O", "M"] {
        o.at::<u64>("ZADD", &of(list, flow_id.uuid()), &[b"0", stranger.uuid().as_bytes()]).await;
    }
    let report = rebuild(s).await;
    assert_eq!(report.count(IndexKind::List, RepairAction::Added), 2);
    assert_eq!(report.count(IndexKind::List, RepairAction::Removed), 2);
    assert_eq!(rebuild(s).await.total(), 0);
    assert_eq!(s.incoming(flow_id, down).await.len(), 1);
    s.fail_as_operator(up).await;
    assert_eq!(s.state(down).await, StateName::Done);
}

#[tokio::test]
async fn a_suspension_that_cannot_be_decoded_stops_nobody_else() {
    let o = Opened::fresh().await;
    let s = &o.s;
    let flow_id = s.flow().await;
    let hurt = s.member(flow_id, &[]).await;
    let fence = s.claim_this(hurt).await.fence;
    let mut args = s.any_signal(hurt, fence);
    args.timeout = SuspensionTimeout::After { after_ms: 1_000, behavior: TimeoutBehavior::Fail };
    s.suspend(args).await;
    let others = [s.member(flow_id, &[]).await, s.member(flow_id, &[]).await];
    let record = of("s", hurt.uuid());
    version(&o, &record, b"9.0").await;
    let due = s.delayed(1_000).await;
    s.advance(1_000);
    let report = s.sweep().await;
    assert_eq!(report.corrupt, [CorruptEntry { kind: SweepKind::SuspensionTimeout, id: hurt.to_string() }]);
    assert_eq!(s.state(due).await, StateName::Ready);
    assert_eq!(rebuild(s).await.corrupt, [hurt.to_string()]);
    // The walk of a cancellation passes it over.
    s.cancel_flow(flow_id, CancellationPolicy::CancelAll).await;
    for id in others {
        assert_eq!(s.state(id).await, StateName::Done);
    }
    corruption(
        &s.backend
            .cancel_execution(CancelExecutionArgs {
                execution_id: hurt,
                actor: Actor::operator("ops"),
                reason: "enough".to_owned(),
            })
            .await,
    );
    version(&o, &record, b"1.0").await;
    rebuild(s).await;
    s.sweep().await;
    // Its timeout comes first.
    assert_eq!(s.count_of(flow_id, PublicState::Cancelled).await, 2);
    assert_eq!(s.count_of(flow_id, PublicState::Failed).await, 1);
}

#[tokio::test]
async fn an_owner_that_cannot_be_decoded_keeps_its_lease_id() {
    let o = Opened::fresh().await;
    let s = &o.s;
    let (owner, fence) = s.running().await;
    o.at::<()>("SET", &of("e", owner.uuid()), &[b"\x01no record"]).await;
    s.ready().await;
    let mut args = s.claim_args(1);
    args.slots[0].lease_id = fence.lease_id;
    corruption(&s.backend.claim_next(args).await);
    let id = s.ready().await;
    s.grant(id).await;
    let mut args = s.claim_by_id_args(id);
    args.lease_id = fence.lease_id;
    corruption(&s.backend.claim_execution(args).await);
    assert_eq!(o.at::<Vec<u8>>("HGET", b"L", &[fence.lease_id.uuid().as_bytes()]).await, owner.uuid().as_bytes());
}

#[tokio::test]
async fn a_record_that_only_the_decoders_refuse_hides_no_other_claim() {
    let o = Opened::fresh().await;
    let s = &o.s;
    let (first, hurt, last) = (s.ready().await, s.ready().await, s.ready().await);
    let controlled = [s.ready_with(under(Some("q"), &[])).await, s.ready_with(under(Some("q"), &[])).await];
    // The name of the kind stands in the part that the functions do not read.
    for id in [hurt, controlled[0]] {
        let record: Vec<u8> = o.at("GET", &of("e", id.uuid()), &[]).await;
        let at = record.windows(4).position(|w| w == b"\xa3job").expect("names its kind");
        o.at::<u64>("SETRANGE", &of("e", id.uuid()), &[(at + 1).to_string().as_bytes(), b"\xff\xff\xff"]).await;
    }
    let page = s.claim_next(3).await;
    let ids: Vec<_> = page.claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!(ids, [first, last]);
    assert_eq!(page.needs_admission.iter().map(|c| c.execution_id).collect::<Vec<_>>(), [controlled[1]]);
    s.advance(LEASE_MS);
    s.sweep().await;
    assert_eq!((s.state(first).await, s.state(last).await), (StateName::Lost, StateName::Lost));
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused_whatever_its_number() {
    let o = Opened::fresh().await;
    let digits = "9".repeat(30);
    for cursor in [
        format!("q:{digits}"),
        format!("t:{digits}"),
        "q:9007199254740992".into(),
        "t:-1".into(),
        "q:".into(),
        format!("x:{digits}"),
    ] {
        let args = RebuildIndexesArgs::builder().partition(PARTITION).cursor(cursor.clone()).build();
        let refused = o.s.backend.rebuild_indexes(args).await.expect_err(&cursor);
        assert_eq!(refused.code(), Some(Code::InvalidInput), "{cursor}");
    }
    let flow_id = o.s.flow().await;
    let from_node = o.s.member(flow_id, &[]).await;
    for cursor in [digits, "9007199254740992".into(), "01".into()] {
        let direction = EdgeDirection::Outgoing { from_node };
        let args = ListEdgesArgs::builder().flow_id(flow_id).direction(direction).cursor(cursor.clone()).build();
        let refused = o.s.backend.list_edges(args).await.expect_err(&cursor);
        assert_eq!(refused.code(), Some(Code::InvalidInput), "{cursor}");
    }
}

#[tokio::test]
async fn a_servers_locale_orders_nothing() {
    let o = Opened::on(Server::start_in_locale(common::kind(), "en_US", "UTF-8").expect("starts in a locale")).await;
    let s = &o.s;
    // By bytes 0x42 stands before 0x61; an English locale has `a` before `B`.
    let big_b = ExecutionId::from_parts(PARTITION, Uuid::from_bytes([0x42; 16]));
    let small_a = ExecutionId::from_parts(PARTITION, Uuid::from_bytes([0x61; 16]));
    for (id, needs) in [(small_a, Capabilities::none()), (big_b, Capabilities::from(["gpu"]))] {
        let mut args = s.creation_with(requires(needs));
        args.execution_id = id;
        s.create(args).await;
    }
    let mut args = s.claim_args(2);
    args.capabilities = Capabilities::from(["gpu"]);
    let claimed = s.backend.claim_next(args).await.expect("claims").claimed;
    let ids: Vec<_> = claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!(ids, [big_b, small_a]);
    // Waitpoints are listed by bytes too, in pages of one.
    let (id, fence) = (ids[0], claimed[0].claimed().fence);
    for byte in [0x61, 0x42] {
        let mut args = s.pending_args(id, fence);
        args.waitpoint_id = ff_core::ids::WaitpointId::from_uuid(Uuid::from_bytes([byte; 16]));
        s.create_pending(args).await;
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let args = ListPendingWaitpointsArgs::builder().execution_id(id).limit(1).maybe_cursor(cursor).build();
        let page = s.backend.list_pending_waitpoints(args).await.expect("lists");
        seen.extend(page.waitpoints.iter().map(|w| w.waitpoint_id.uuid().as_bytes()[0]));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [0x42, 0x61]);
    assert_eq!(rebuild(s).await.total(), 0);
}
