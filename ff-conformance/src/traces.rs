//! Counterexamples kept as data, in `traces/*.jsonl`: played first in every run, on every backend.
//!
//! The first line says what the trace is: `{"ff_trace":1,"name":..,"convicted":..,"date":..}`. Each further line is one
//! call: `{"at":<what the clock showed, ms>,"operation":<name>,"args":{..}}`. A call names everything by the ids that
//! were used and the clock by what it showed, so a trace does not depend on how the generator draws. Secrets and tokens
//! are no text in it: `new_secret` is a number (the byte that the secret is made of), and a token is
//! `{"execution_id":..,"waitpoint_id":..,"kid":..,"source":..}`, the call that issued it; playing mints them again, under
//! the secret that the trace first gave the kid. A text that was never issued stands as `{"text":..}`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ff_backend_memory::Model;
use ff_core::bounds::Deployment;
use ff_core::contracts::{CreatePendingWaitpointResult, IssuedToken, SignalSource, SuspendExecutionResult};
use ff_core::ids::{ExecutionId, Kid, WaitpointId};
use ff_core::operation::{Operation, Outcome};
use ff_core::time::TimestampMs;
use ff_core::token::{SigningKey, WaitpointSecret, WaitpointToken};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::random::Call;

/// The version of the form.
pub const VERSION: u32 = 1;

/// A kept counterexample.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Its name: the file's, without `.jsonl`.
    pub name: String,
    /// What it convicted.
    pub convicted: String,
    /// The day it was kept, `YYYY-MM-DD`.
    pub date: String,
    /// The calls, from an empty backend on.
    pub calls: Vec<Call>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    ff_trace: u32,
    name: String,
    convicted: String,
    date: String,
}

/// The call that issued a token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenName {
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    /// The key that signed it.
    pub(crate) kid: Kid,
    /// The source that it is bound to.
    pub(crate) source: Option<SignalSource>,
}

macro_rules! kept {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../traces/", $name, ".jsonl")))),*]
    };
}

/// The kept traces by name, as embedded.
pub const KEPT: &[(&str, &str)] = kept![
    "all-of-evaluated-as-any-of",
    "another-secret-under-a-known-kid-is-a-repeat",
    "any-content-is-a-repeat",
    "buffered-signals-are-lost-at-the-suspend",
    "cancel-forgets-the-retention",
    "cancel-leaves-a-paused-attempt-open",
    "claims-by-a-cached-clock",
    "completion-acknowledged-and-lost",
    "condition-evaluated-on-the-wrong-suspension",
    "covered-member-runs-on",
    "default-timeout-ignored",
    "delay-in-the-past-lands-in-no-queue",
    "diamond-s-sink-starts-after-one-middle",
    "duplicate-signal-counts-twice",
    "escalation-never-fails",
    "expected-revision-ignored",
    "grant-survives-a-block",
    "grant-survives-a-cancel",
    "head-of-line-blocks",
    "hold-ignored",
    "idempotency-key-free-at-the-end",
    "idempotency-key-of-signals-forgotten",
    "last-result-falls-back-to-an-earlier-run",
    "last-wake-up-lost-while-the-parent-was-active",
    "lease-expiry-compared-exclusively",
    "lost-attempts-are-not-listed",
    "operator-resumes-after-the-timeout",
    "operator-s-failure-is-retried",
    "other-limits-are-a-repeat",
    "priority-order-breaks-at-i32-min",
    "progress-survives-a-new-attempt",
    "promotion-before-the-upstream-has-ended",
    "quorum-counts-signals-not-senders",
    "read-sweeps-first",
    "reclaim-of-a-live-lease",
    "reclaimed-attempt-inherits-the-dead-one-s-time",
    "rejected-reservation-is-added",
    "release-of-an-unknown-holder-frees-a-slot",
    "repeated-admission-is-charged-again",
    "repeated-append-adds-a-frame",
    "repeated-claim-takes-more",
    "repeated-completion-counts-again",
    "replay-keeps-the-retry-counter",
    "replay-reopens-nobody",
    "resume-delay-forgotten-by-operators",
    "resumed-claim-keeps-the-epoch",
    "retry-rejoins-at-the-tail",
    "revoked-kid-comes-back",
    "revoked-marker-survives-a-replay",
    "scheduled-reset-a-moment-late",
    "shorter-renewal-shortens",
    "signal-taken-at-the-timeout-s-instant",
    "suspended-executions-are-not-counted",
    "suspension-expires-early",
    "tail-is-never-told-of-the-end",
    "time-asleep-counts",
    "timer-lost-with-the-first-update",
    "usage-counts-again-at-a-retry",
    "waitpoint-in-use-is-closed",
    "zombie-appends",
    "zombie-worker-completes",
];

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// What is wrong with which line, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let header = lines.next().ok_or("a trace has a first line")?;
        let header: Header = serde_json::from_str(header).map_err(|e| format!("line 1: {e}"))?;
        if header.ff_trace != VERSION {
            return Err(format!("line 1: version {} is not {VERSION}", header.ff_trace));
        }
        let mut secrets: BTreeMap<Kid, WaitpointSecret> = BTreeMap::new();
        let mut calls = Vec::new();
        for (at, line) in lines.enumerate() {
            let call = parse_call(line, &mut secrets).map_err(|e| format!("line {}: {e}", at + 2))?;
            calls.push(call);
        }
        Ok(Self { name: header.name, convicted: header.convicted, date: header.date, calls })
    }

    /// The trace as it is kept.
    ///
    /// # Errors
    /// A secret that is not made of one byte: the form has no word for it.
    pub fn to_text(&self) -> Result<String, String> {
        let header = Header {
            ff_trace: VERSION,
            name: self.name.clone(),
            convicted: self.convicted.clone(),
            date: self.date.clone(),
        };
        let mut text = serde_json::to_string(&header).map_err(|e| e.to_string())?;
        text.push('\n');
        let mut model = Model::new(Deployment::default());
        let mut issued = BTreeMap::new();
        for call in &self.calls {
            let mut value = serde_json::to_value(&call.operation).map_err(|e| e.to_string())?;
            match &call.operation {
                Operation::RotateWaitpointHmacSecret(args) => {
                    let [first, rest @ ..] = args.new_secret.expose();
                    if rest.iter().any(|byte| byte != first) {
                        return Err("a secret that is not made of one byte".to_owned());
                    }
                    value["args"]["new_secret"] = json!(first);
                }
                Operation::DeliverSignal(args) => {
                    value["args"]["waitpoint_token"] = token_value(&args.waitpoint_token, &issued);
                }
                Operation::BufferSignal(args) => {
                    value["args"]["waitpoint_token"] = token_value(&args.waitpoint_token, &issued);
                }
                _ => {}
            }
            let _ = writeln!(
                text,
                "{{\"at\":{},\"operation\":{},\"args\":{}}}",
                call.at, value["operation"], value["args"]
            );
            if let Ok(outcome) = model.apply(call.at, &call.operation) {
                note_issued(&call.operation, &outcome, &mut issued);
            }
        }
        Ok(text)
    }
}

/// Tokens, and the calls that issued them.
pub(crate) type Issued = BTreeMap<WaitpointToken, TokenName>;

fn token_value(token: &WaitpointToken, issued: &Issued) -> Value {
    match issued.get(token) {
        Some(name) => json!(name),
        None => json!({ "text": token.expose() }),
    }
}

/// Remembers the tokens that an answer issues.
pub(crate) fn note_issued(operation: &Operation, outcome: &Outcome, issued: &mut Issued) {
    let mut note = |execution_id: ExecutionId, waitpoint_id: WaitpointId, tokens: &[IssuedToken]| {
        for token in tokens {
            if let Some(kid) = token.token.kid() {
                let name = TokenName { execution_id, waitpoint_id, kid, source: token.source.clone() };
                issued.insert(token.token.clone(), name);
            }
        }
    };
    match (operation, outcome) {
        (Operation::SuspendExecution(args), Outcome::SuspendExecution(result)) => {
            let (SuspendExecutionResult::Suspended { waitpoints, .. }
            | SuspendExecutionResult::AlreadySatisfied { waitpoints, .. }) = result;
            for waitpoint in waitpoints {
                note(args.execution_id, waitpoint.waitpoint_id, &waitpoint.tokens);
            }
        }
        (Operation::CreatePendingWaitpoint(args), Outcome::CreatePendingWaitpoint(result)) => {
            let (CreatePendingWaitpointResult::Created { tokens, .. }
            | CreatePendingWaitpointResult::AlreadyExists { tokens, .. }) = result;
            note(args.execution_id, args.waitpoint_id, tokens);
        }
        (Operation::ListPendingWaitpoints(args), Outcome::ListPendingWaitpoints(result)) => {
            for waitpoint in &result.waitpoints {
                note(args.execution_id, waitpoint.waitpoint_id, &waitpoint.tokens);
            }
        }
        _ => {}
    }
}

fn parse_call(line: &str, secrets: &mut BTreeMap<Kid, WaitpointSecret>) -> Result<Call, String> {
    let mut value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let map = value.as_object_mut().ok_or("a call is an object")?;
    let at = map.remove("at").and_then(|at| at.as_u64()).and_then(TimestampMs::new).ok_or("`at` is an instant")?;
    let args = map.get_mut("args").ok_or("a call has args")?;
    if let Some(secret) = args.get_mut("new_secret") {
        let byte = secret.as_u64().and_then(|n| u8::try_from(n).ok()).ok_or("`new_secret` is a byte")?;
        *secret = json!(format!("{byte:02x}").repeat(32));
        let kid = args.get("new_kid").and_then(Value::as_str).and_then(|kid| Kid::new(kid).ok());
        secrets.entry(kid.ok_or("`new_kid` is a kid")?).or_insert_with(|| WaitpointSecret::new([byte; 32]));
    }
    if let Some(token) = args.get_mut("waitpoint_token") {
        let text = match token.get("text").and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => {
                let name: TokenName = serde_json::from_value(token.clone()).map_err(|e| e.to_string())?;
                let secret = secrets.get(&name.kid).ok_or("the kid of a token was never installed")?.clone();
                let key = SigningKey::new(name.kid, secret);
                key.mint(name.execution_id, name.waitpoint_id, name.source.as_ref()).expose().to_owned()
            }
        };
        *token = json!(text);
    }
    let operation = serde_json::from_value(value).map_err(|e| e.to_string())?;
    Ok(Call { at, operation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn the_list_is_the_folder_and_every_trace_can_be_read_under_its_name() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
        let mut stored: Vec<String> = std::fs::read_dir(folder)
            .map(|all| all.filter_map(|f| f.ok()?.file_name().into_string().ok()).collect())
            .unwrap_or_default();
        stored.retain(|name| name.strip_suffix(".jsonl").is_some());
        stored.sort();
        let listed: Vec<String> = KEPT.iter().map(|(name, _)| format!("{name}.jsonl")).collect();
        assert_eq!(stored, listed, "left: traces/, right: KEPT");
        for (name, text) in KEPT {
            let trace = Trace::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(trace.name, *name);
            assert!(!trace.calls.is_empty(), "{name}");
            assert_eq!(trace.to_text().as_deref(), Ok(*text), "{name} is written as it is kept");
        }
    }

    #[test]
    fn a_resolved_sequence_survives_its_text_tokens_and_all_and_shows_no_secret() {
        let mut tokens = 0;
        for seed in 0..40 {
            let calls = random::resolve(&random::draw(seed, 200));
            let trace =
                Trace { name: "any".to_owned(), convicted: "nobody".to_owned(), date: "2026-11-24".to_owned(), calls };
            let text = trace.to_text().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let read = Trace::parse(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            for (one, other) in trace.calls.iter().zip(&read.calls) {
                assert_eq!(one, other, "seed {seed}");
            }
            assert_eq!(read, trace, "seed {seed}");
            tokens += text.matches("\"waitpoint_token\":{\"execution_id\"").count();
            assert!(!text.contains("ffw1.k0") && !text.contains(&"00".repeat(32)), "seed {seed}");
        }
        assert!(tokens > 100, "{tokens} issued tokens were in the sequences");
    }

    #[test]
    fn a_trace_of_another_version_or_with_an_unknown_call_is_told() {
        let header = r#"{"ff_trace":1,"name":"n","convicted":"c","date":"2026-11-24"}"#;
        assert!(Trace::parse(header).is_ok_and(|t| t.calls.is_empty()));
        for (text, told) in [
            (header.replace(":1", ":2"), "line 1: version 2"),
            (format!("{header}\n{{\"at\":1,\"operation\":\"nonsense\",\"args\":{{}}}}"), "line 2: "),
            (format!("{header}\n{{\"operation\":\"sweep\",\"args\":{{\"partition\":1}}}}"), "line 2: `at`"),
        ] {
            let error = Trace::parse(&text).err().unwrap_or_default();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
