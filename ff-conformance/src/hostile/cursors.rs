//! Forged cursors: cut, turned, made up, and of other lists.

use std::collections::BTreeSet;

use fastrand::Rng;
use ff_core::contracts::*; // every list
use ff_core::error::EngineError;
use ff_core::ids::{FlowId, SuspensionId};
use ff_core::operation::{Operation, dispatch};
use ff_core::refusal::Code;
use serde_json::Value;

use crate::stage::{PARTITION, Stage, fresh, lane, namespace, retries};

/// A list, and what its pages hold.
struct List {
    /// The call without a cursor, one entry a page.
    first: Operation,
    /// Where the entries of a page stand in its answer; rebuilds have none.
    entries: Option<&'static str>,
    /// Whether a cursor of another list must be refused: one of the same kind of list may not be told apart.
    kind: &'static str,
}

fn with_cursor(operation: &Operation, cursor: &str) -> Option<Operation> {
    let mut document = serde_json::to_value(operation).ok()?;
    *document.pointer_mut("/args/cursor")? = Value::String(cursor.to_owned());
    serde_json::from_value(document).ok()
}

fn page(list: &List, value: &Value) -> Vec<String> {
    let entries = list.entries.and_then(|name| value.pointer(&format!("/result/{name}"))).and_then(Value::as_array);
    entries.into_iter().flatten().map(Value::to_string).collect()
}

/// One list of each kind, with at least three entries, and a second one of most kinds.
async fn lists(stage: &Stage) -> Vec<List> {
    // Three attempts, open waitpoints and signals of one execution.
    let (x, mut fence) = stage.running_with(retries(5, 0)).await;
    for _ in 0..3 {
        stage.fail(x, fence).await;
        fence = stage.claim_this(x).await.fence;
    }
    let waitpoints: Vec<WaitpointBinding> = (0..4).map(|_| fresh()).collect();
    let args = SuspendExecutionArgs::builder()
        .execution_id(x)
        .fence(fence)
        .suspension_id(SuspensionId::new())
        .waitpoints(waitpoints)
        .reason_code(SuspensionReason::WaitingForSignal)
        .resume_condition(ff_core::condition::ResumeCondition::signal("never"))
        .build();
    let asleep = stage.suspend(args).await;
    for waitpoint in &asleep.waitpoints {
        stage.send(x, waitpoint, "noise").await;
    }
    let flow_id = stage.flow().await;
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(stage.member(flow_id, &[]).await);
    }
    let sink = stage.member(flow_id, &members).await;
    let other_flow: FlowId = stage.flow().await;
    for _ in 0..3 {
        stage.member(other_flow, &[]).await;
    }
    let list = |first: Operation, entries, kind| List { first, entries: Some(entries), kind };
    let edges = |direction| ListEdgesArgs::builder().flow_id(flow_id).direction(direction).limit(1).build();
    let members_of = |flow_id| ListFlowMembersArgs::builder().flow_id(flow_id).limit(1).build();
    vec![
        list(ListExecutionsArgs::builder().partition(PARTITION).limit(1).build().into(), "executions", "executions"),
        list(ListExecutionsArgs::builder().lane_id(lane()).limit(1).build().into(), "executions", "executions"),
        list(ListExecutionsArgs::builder().namespace(namespace()).limit(1).build().into(), "executions", "executions"),
        list(ListAttemptsArgs::builder().execution_id(x).limit(1).build().into(), "attempts", "attempts"),
        list(ListSignalsArgs::builder().execution_id(x).limit(1).build().into(), "signals", "signals"),
        list(ListPendingWaitpointsArgs::builder().execution_id(x).limit(1).build().into(), "waitpoints", "waitpoints"),
        list(edges(EdgeDirection::Incoming { to_node: sink }).into(), "edges", "edges"),
        list(members_of(flow_id).into(), "members", "members"),
        list(members_of(other_flow).into(), "members", "members"),
        List {
            first: RebuildIndexesArgs::builder().partition(PARTITION).limit(1).build().into(),
            entries: None,
            kind: "rebuild",
        },
    ]
}

/// A list's whole walk, one entry a page: what it holds, and the cursors that led through it.
async fn walk(stage: &Stage, list: &List) -> (BTreeSet<String>, Vec<String>) {
    let (mut entries, mut cursors) = (BTreeSet::new(), Vec::<String>::new());
    let mut call = list.first.clone();
    loop {
        let name = call.name();
        let outcome = dispatch(&*stage.backend, call).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        let value = serde_json::to_value(&outcome).unwrap_or_default();
        entries.extend(page(list, &value));
        let Some(cursor) = value.pointer("/result/next_cursor").and_then(Value::as_str) else {
            return (entries, cursors);
        };
        assert!(cursors.last().is_none_or(|last| last != cursor), "{name}: a cursor leads to itself");
        cursors.push(cursor.to_owned());
        call = with_cursor(&list.first, cursor).unwrap_or_else(|| panic!("{name} takes no cursor"));
    }
}

fn forge(rng: &mut Rng, good: &str, foreign: &[String]) -> String {
    const LETTERS: &[u8] = b"0123456789abcdefxyzABZ-_.:=/+~ \0";
    let mut bytes = good.as_bytes().to_vec();
    match rng.u32(0..12) {
        0 => bytes.truncate(rng.usize(0..bytes.len().max(1))),
        1 | 2 if !bytes.is_empty() => {
            let at = rng.usize(0..bytes.len());
            bytes[at] ^= 1 << rng.u32(0..7);
        }
        3 | 4 if !bytes.is_empty() => {
            let at = rng.usize(0..bytes.len());
            bytes[at] = LETTERS[rng.usize(0..LETTERS.len())];
        }
        5 => bytes.insert(rng.usize(0..=bytes.len()), LETTERS[rng.usize(0..LETTERS.len())]),
        6 => return foreign[rng.usize(0..foreign.len())].clone(),
        7 => {
            let digits =
                ["123456789012345678901234567890", "18446744073709551616", "9007199254740992", "-1", "0", "00"];
            return digits[rng.usize(0..digits.len())].to_owned();
        }
        8 => {
            // The numbers in it are others.
            let digits = ["123456789012345678901234567890", "0", "65536", "4294967296", "-1", "1e9"];
            let digit = digits[rng.usize(0..digits.len())];
            let at = good.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
            let end = good[at..].find(|c: char| !c.is_ascii_digit()).map_or(good.len(), |end| at + end);
            return format!("{}{digit}{}", &good[..at], &good[end..]);
        }
        9 => {
            let lengths = [0, 1, 64, 4_096, 65_536];
            return "A".repeat(lengths[rng.usize(0..lengths.len())]);
        }
        10 => return (0..rng.usize(1..40)).map(|_| char::from_u32(rng.u32(0..0x2_0000)).unwrap_or('\0')).collect(),
        _ => bytes.extend_from_within(..),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Holds every list against `count` forged cursors; answers what was wrong.
pub(super) async fn hold(stage: &Stage, seed: u64, count: u64) -> Vec<String> {
    let mut rng = Rng::with_seed(seed);
    let lists = lists(stage).await;
    let mut walked = Vec::new();
    for list in &lists {
        let (entries, cursors) = walk(stage, list).await;
        let name = list.first.name();
        assert!(!cursors.is_empty(), "{name} ({}) has one page only: nothing to forge", list.kind);
        walked.push((list, entries, cursors));
    }
    let mut wrong = Vec::new();
    // A cursor of a list of another kind names nothing here.
    for (list, ..) in &walked {
        for (other, _, cursors) in walked.iter().filter(|(other, ..)| other.kind != list.kind) {
            for cursor in [&cursors[0], &cursors[cursors.len() - 1]] {
                let Some(call) = with_cursor(&list.first, cursor) else { continue };
                let answer = dispatch(&*stage.backend, call).await;
                let code = answer.as_ref().err().and_then(EngineError::code);
                if code != Some(Code::InvalidInput) {
                    let name = list.first.name();
                    wrong.push(format!("{name} takes the cursor {cursor:?} of {}: {answer:?}", other.first.name()));
                }
            }
        }
    }
    for n in 0..count {
        let (list, entries, cursors) = &walked[rng.usize(0..walked.len())];
        let (.., foreign) = &walked[rng.usize(0..walked.len())];
        let good = rng.usize(0..cursors.len());
        let forged = forge(&mut rng, &cursors[good], foreign);
        let Some(call) = with_cursor(&list.first, &forged) else { continue };
        let name = call.name();
        match dispatch(&*stage.backend, call).await {
            // It may happen to be a place in the list: then it shows of the list what is there, and nothing else.
            Ok(outcome) => {
                let value = serde_json::to_value(&outcome).unwrap_or_default();
                if page(list, &value).iter().any(|entry| !entries.contains(entry)) {
                    wrong.push(format!("{name} with cursor {forged:?} shows what is not in the list (forgery {n})"));
                }
            }
            Err(EngineError::Refused(refusal)) => match refusal.code() {
                Code::InvalidInput | Code::StaleSuspension => {}
                code => wrong.push(format!("{name} with cursor {forged:?}: {code:?} (forgery {n})")),
            },
            Err(error) => wrong.push(format!("{name} with cursor {forged:?}: {error} (forgery {n})")),
        }
    }
    wrong
}
