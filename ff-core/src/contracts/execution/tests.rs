//! What the arguments of execution, claim and lease refuse by themselves, in which order, and what their digests cover.

use std::collections::BTreeMap;

use crate::bounds::{CheckArgs, Deployment};
use crate::contracts::*;
use crate::ids::{AttemptId, AttemptIndex, ExecutionId, LeaseEpoch, LeaseId};
use crate::partition::PartitionConfig;
use crate::policy::Capabilities;
use crate::refusal::{Code, Details, Refusal};
use crate::state::BlockReason;
use crate::time::{MAX_DURATION_MS, MAX_SAFE_INTEGER, TimestampMs, When};

fn id(text: &str) -> ExecutionId {
    text.parse().expect("an id")
}

fn here() -> ExecutionId {
    id("e3_01890a5d-ac96-774b-bcce-b302099a8057")
}

/// In no partition of a deployment of 16.
fn nowhere() -> ExecutionId {
    id("e16_01890a5d-ac96-774b-bcce-b302099a8057")
}

fn deployment() -> Deployment {
    Deployment { partitions: PartitionConfig::new(16).expect("within bounds"), ..Deployment::default() }
}

fn fence() -> Fence {
    let uuid = here().uuid();
    Fence { lease_id: LeaseId::from_uuid(uuid), lease_epoch: LeaseEpoch(1), attempt_id: AttemptId::from_uuid(uuid) }
}

fn check(args: &impl CheckArgs) -> Result<(), String> {
    args.check(&deployment()).map_err(|refusal| word(&refusal))
}

/// The code, and the field where there is one.
fn word(refusal: &Refusal) -> String {
    match refusal.details() {
        Details::InvalidInput { field } => field.clone(),
        _ => refusal.code().as_str().to_owned(),
    }
}

fn refused(word: &str) -> Result<(), String> {
    Err(word.to_owned())
}

fn completion(actor: Actor) -> CompleteExecutionArgs {
    CompleteExecutionArgs::builder().execution_id(here()).actor(actor).build()
}

fn slots(n: usize) -> Vec<ClaimSlot> {
    (0..n).map(|_| ClaimSlot::new()).collect()
}

fn next(slots: Vec<ClaimSlot>) -> ClaimNextArgs {
    ClaimNextArgs {
        partition: 3,
        lane_id: "default".parse().expect("a name"),
        worker_id: "w".parse().expect("a name"),
        worker_instance_id: "w-1".parse().expect("a name"),
        capabilities: Capabilities::none(),
        slots,
        lease_ttl_ms: 30_000,
    }
}

#[test]
fn an_id_of_another_deployment_is_refused_before_every_other_argument() {
    let args = CompleteExecutionArgs { execution_id: nowhere(), ..completion(Actor::operator("")) };
    assert_eq!(check(&args), refused("invalid_partition"));
    assert_eq!(check(&ClaimNextArgs { partition: 16, ..next(Vec::new()) }), refused("invalid_partition"));
    assert_eq!(
        check(&UnblockExecutionArgs { execution_id: nowhere(), reason: BlockReason::PausedByOperator }),
        refused("invalid_partition")
    );
}

#[test]
fn arguments_are_refused_in_the_order_listed() {
    let mut args = completion(Actor::operator(""));
    args.result = Some(vec![0; (1 << 20) + 1].into());
    args.result_encoding = Some(String::new());
    assert_eq!(check(&args), refused("actor.identity"));
    args.actor = Actor::Worker(Fence { lease_epoch: LeaseEpoch(MAX_SAFE_INTEGER + 1), ..fence() });
    assert_eq!(check(&args), refused("actor.lease_epoch"));
    args.actor = Actor::operator("me");
    assert_eq!(args.check(&deployment()), Err(Refusal::payload_too_large("result", (1_u64 << 20) + 1, 1_u64 << 20)));
    args.result = Some(vec![0; 1 << 20].into());
    assert_eq!(check(&args), refused("result_encoding"));
    args.result_encoding = Some("raw".to_owned());
    assert_eq!(check(&args), Ok(()));
}

#[test]
fn progress_needs_a_field_and_at_most_a_hundred_per_cent() {
    let args = |pct: Option<u8>, message: Option<&str>| UpdateProgressArgs {
        execution_id: here(),
        fence: fence(),
        pct,
        message: message.map(ToOwned::to_owned),
    };
    assert_eq!(check(&args(None, None)), refused("pct"));
    assert_eq!(check(&args(Some(101), Some("x"))), refused("pct"));
    assert_eq!(check(&args(None, Some(&"x".repeat(4097)))), refused("message"));
    for (pct, message) in [(Some(0), None), (Some(100), Some("")), (None, Some(""))] {
        assert_eq!(check(&args(pct, message)), Ok(()), "{pct:?} {message:?}");
    }
}

#[test]
fn claim_next_takes_one_to_sixty_four_slots_with_ids_of_their_own() {
    for (n, good) in [(0, false), (1, true), (64, true), (65, false)] {
        assert_eq!(check(&next(slots(n))).is_ok(), good, "{n} slots");
    }
    let mut twice = slots(3);
    twice[2].lease_id = twice[0].lease_id;
    assert_eq!(check(&next(twice)), refused("slots.lease_id"));
    let mut twice = slots(3);
    twice[2].attempt_id = twice[1].attempt_id;
    assert_eq!(check(&next(twice)), refused("slots.attempt_id"));
    let args = ClaimNextArgs { capabilities: ["a,b"].into(), ..next(Vec::new()) };
    assert_eq!(check(&args), refused("invalid_capabilities"));
    for (lease_ttl_ms, good) in [(99, false), (100, true), (86_400_000, true), (86_400_001, false)] {
        assert_eq!(check(&ClaimNextArgs { lease_ttl_ms, ..next(slots(1)) }).is_ok(), good, "{lease_ttl_ms} ms");
    }
}

#[test]
fn durations_names_and_tags_hold_their_bounds() {
    let delay = |until| DelayExecutionArgs { execution_id: here(), actor: Actor::operator("me"), until };
    assert_eq!(check(&delay(When::After(MAX_DURATION_MS + 1))), refused("until"));
    assert_eq!(check(&delay(When::At(TimestampMs::ZERO))), Ok(()));
    let block = BlockExecutionArgs::builder().execution_id(here()).reason(BlockReason::PausedByPolicy).by("").build();
    assert_eq!(check(&block), refused("by"));
    let revoke = RevokeLeaseArgs {
        execution_id: here(),
        lease_id: fence().lease_id,
        reason: "x".repeat(4097),
        by: String::new(),
    };
    assert_eq!(check(&revoke), refused("reason"));
    let tags = |entries: &[(&str, Option<&str>)]| SetExecutionTagsArgs {
        execution_id: here(),
        tags: entries.iter().map(|(k, v)| ((*k).to_owned(), v.map(ToOwned::to_owned))).collect::<BTreeMap<_, _>>(),
    };
    assert_eq!(check(&tags(&[])), refused("tags"));
    assert_eq!(check(&tags(&[("app.a", Some("1")), ("Bad", None)])), refused(Code::InvalidTagKey.as_str()));
    assert_eq!(check(&tags(&[("app.a", Some("")), ("app.b", None)])), Ok(()));
    let marked = MarkLeaseExpiredArgs { execution_id: here(), lease_epoch: LeaseEpoch(MAX_SAFE_INTEGER + 1) };
    assert_eq!(check(&marked), refused("lease_epoch"));
}

#[test]
fn a_digest_covers_the_content_and_neither_the_execution_nor_the_actor() {
    let by_worker = completion(Actor::Worker(fence()));
    let elsewhere = CompleteExecutionArgs { execution_id: nowhere(), ..completion(Actor::operator("me")) };
    assert_eq!(by_worker.digest(), elsewhere.digest());
    let empty = CompleteExecutionArgs { result: Some(bytes::Bytes::new()), ..by_worker.clone() };
    assert_ne!(by_worker.digest(), empty.digest(), "absent and empty differ");

    let fail = |no_retry| {
        FailExecutionArgs::builder()
            .execution_id(here())
            .actor(Actor::operator("me"))
            .reason("r")
            .category("c")
            .no_retry(no_retry)
            .build()
    };
    assert_ne!(fail(false).digest(), fail(true).digest());
    let cancel = |reason: &str| CancelExecutionArgs {
        execution_id: here(),
        actor: Actor::operator("me"),
        reason: reason.to_owned(),
    };
    assert_ne!(cancel("a").digest(), cancel("b").digest());
    let delay = |until| DelayExecutionArgs { execution_id: here(), actor: Actor::operator("me"), until }.digest();
    assert_ne!(delay(When::After(5)), delay(When::At(TimestampMs::saturating(5))));
}

#[test]
fn a_replay_digest_covers_every_argument() {
    let args = ReplayExecutionArgs::builder().execution_id(here()).replay_count(1).reason("r").by("b").build();
    let others = [
        ReplayExecutionArgs { execution_id: nowhere(), ..args.clone() },
        ReplayExecutionArgs { replay_count: 2, ..args.clone() },
        ReplayExecutionArgs { reason: String::new(), ..args.clone() },
        ReplayExecutionArgs { by: "c".to_owned(), ..args.clone() },
        ReplayExecutionArgs { deadline: Some(When::After(0)), ..args.clone() },
        ReplayExecutionArgs { reopen_skipped: true, ..args.clone() },
    ];
    for other in &others {
        assert_ne!(args.digest(), other.digest(), "{other:?}");
    }
}

#[test]
fn arguments_in_json_take_defaults_and_refuse_unknown_fields() {
    let text = r#"{"execution_id":"e3_01890a5d-ac96-774b-bcce-b302099a8057","actor":{"operator":{"identity":"me"}}"#;
    let read = |rest: &str| serde_json::from_str::<CompleteExecutionArgs>(&format!("{text}{rest}}}"));
    assert_eq!(read("").expect("defaults"), completion(Actor::operator("me")));
    assert_eq!(read(r#","result":"AAE=""#).expect("base64").result.as_deref(), Some(&[0_u8, 1][..]));
    assert!(read(r#","surprise":1"#).is_err());
    assert!(read(r#","result":"AAE""#).is_err());
    let timer = ExpiryTimer::AttemptTimeout { attempt_index: AttemptIndex(2) };
    let args = ExpireExecutionArgs { execution_id: here(), timer };
    let json = serde_json::to_string(&args).expect("serialises");
    assert_eq!(serde_json::from_str::<ExpireExecutionArgs>(&json).expect("parses"), args, "{json}");
}
