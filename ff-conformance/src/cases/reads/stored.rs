//! Stored records as flat maps, written by hand from the contract's tables: one or more of each kind.

use bytes::Bytes;
use ff_core::contracts::StreamEntryId;
use ff_core::contracts::decode::*; // every decoder
use ff_core::ids::AttemptIndex;
use ff_core::policy::ExecutionPolicy;
use ff_core::records::flat::FlatMap;

/// The execution that the samples are of.
pub(super) const X: &str = "e7_01890a5d-ac96-774b-bcce-b302099a8057";
const F: &str = "f7_01890a5d-ac96-774b-bcce-b302099a8058";
const A: &str = "01890a5d-ac96-774b-bcce-b302099a8059";
const B: &str = "01890a5d-ac96-774b-bcce-b302099a805a";
/// SHA-256 of 32 bytes of 1.
const DIGEST: &str = "72cd6e8422c407fb6d098690f1130b7ded7ec2f7f5e1d30bd9d521f015363793";
const SECRET: &str = "0101010101010101010101010101010101010101010101010101010101010101";

/// Decodes, and encodes what was decoded. The model must be what its own form decodes to.
pub(super) type RoundTrip = fn(&FlatMap) -> Result<FlatMap, DecodeError>;

/// One stored record.
pub(super) struct Sample {
    /// What it is a sample of.
    pub(super) name: &'static str,
    /// Its fields.
    pub(super) map: FlatMap,
    /// Number fields, and the greatest value of each that may be any number up to it; 0 where others fix the value.
    pub(super) numbers: Vec<(String, u64)>,
    /// Text fields that may be any text of a few characters.
    pub(super) texts: Vec<String>,
    /// Fields that may be absent by themselves.
    pub(super) optional: Vec<String>,
    /// Fields that are there together or not at all.
    pub(super) groups: Vec<Vec<String>>,
    /// Its decoder.
    pub(super) round_trip: RoundTrip,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

struct Kinds {
    u64s: &'static str,
    u32s: &'static str,
    fixed: &'static str,
    texts: &'static str,
    optional: &'static str,
    groups: &'static [&'static str],
}

fn sample(name: &'static str, fields: &[(&str, &str)], kinds: &Kinds, round_trip: RoundTrip) -> Sample {
    let versioned = (name != "stream_frame").then_some(("v", "1.0"));
    let map = fields.iter().copied().chain(versioned);
    let map = map.map(|(field, value)| (field.to_owned(), Bytes::copy_from_slice(value.as_bytes()))).collect();
    let of = |text: &str, greatest: u64| words(text).into_iter().map(move |field| (field, greatest));
    let numbers = of(kinds.u64s, (1 << 53) - 1).chain(of(kinds.u32s, u64::from(u32::MAX))).chain(of(kinds.fixed, 0));
    Sample {
        name,
        map,
        numbers: numbers.collect(),
        texts: words(kinds.texts),
        optional: words(kinds.optional),
        groups: kinds.groups.iter().map(|group| words(group)).collect(),
        round_trip,
    }
}

macro_rules! round_trip {
    ($decode:ident ( $($id:expr),* )) => {
        |map: &FlatMap| {
            let record = $decode($($id,)* map)?;
            let encoded = record.encode();
            assert_eq!($decode($($id,)* &encoded), Ok(record), "what is encoded decodes to the same");
            Ok(encoded)
        }
    };
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> T {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

const EXECUTION_U64: &str = "created_at lease_epoch signal_bytes last_transition_at last_mutation_at";
const EXECUTION_U32: &str = "retry_count reclaim_count total_retries total_reclaims signal_count waitpoint_count";

/// What every execution has, with this vector.
fn execution(vector: [&'static str; 6], attempts: &'static str) -> Vec<(&'static str, &'static str)> {
    let [phase, ownership, eligibility, blocking, outcome, attempt] = vector;
    vec![
        ("execution_id", X),
        ("namespace", "ns"),
        ("lane_id", "main"),
        ("kind", "job"),
        ("created_at", "1000"),
        ("fingerprint", DIGEST),
        ("lifecycle_phase", phase),
        ("ownership_state", ownership),
        ("eligibility_state", eligibility),
        ("blocking_reason", blocking),
        ("terminal_outcome", outcome),
        ("attempt_state", attempt),
        ("priority", "-7"),
        ("attempt_count", attempts),
        ("lease_epoch", "3"),
        ("retry_count", "1"),
        ("reclaim_count", "0"),
        ("total_retries", "2"),
        ("total_reclaims", "1"),
        ("replay_count", "0"),
        ("signal_count", "0"),
        ("signal_bytes", "0"),
        ("next_signal_seq", "1"),
        ("waitpoint_count", "0"),
        ("last_transition_at", "2000"),
        ("last_mutation_at", "2001"),
    ]
}

/// The READY execution without anything optional, for the vectors.
pub(super) fn plain_execution() -> FlatMap {
    let fields =
        execution(["runnable", "unowned", "eligible_now", "waiting_for_worker", "none", "pending_first_attempt"], "0");
    let mut map: FlatMap = fields.into_iter().map(|(f, v)| (f.to_owned(), Bytes::from_static(v.as_bytes()))).collect();
    map.insert("v".to_owned(), Bytes::from_static(b"1.0"));
    map.insert("policy".to_owned(), Bytes::from(ExecutionPolicy::default().to_json()));
    map
}

fn executions() -> Vec<Sample> {
    let policy = ExecutionPolicy::default().to_json();
    let with = |mut fields: Vec<(&'static str, &'static str)>, more: &[(&'static str, &'static str)]| {
        fields.extend(more);
        fields
    };
    let running = with(
        execution(["active", "leased", "not_applicable", "none", "none", "running_attempt"], "2"),
        &[
            ("creator", "me"),
            ("tag:team.name", "search"),
            ("tag:a.é", ""),
            ("deadline_at", "9000"),
            ("started_at", "1500"),
            ("progress_updated_at", "1700"),
            ("progress_pct", "40"),
            ("progress_message", "half"),
            ("lease_id", A),
            ("lease_claim_kind", "new"),
            ("lease_worker_id", "w"),
            ("lease_worker_instance_id", "w-1"),
            ("lease_acquired_at", "1500"),
            ("lease_expires_at", "31500"),
            ("lease_renewed_at", "1600"),
            ("idempotency_key", "key"),
            ("idempotency_scope", "namespace"),
            ("idempotency_expires_at", "5000"),
            ("last_operation", "fail_execution"),
            ("last_by", "worker:01890a5d-ac96-774b-bcce-b302099a8059:2:01890a5d-ac96-774b-bcce-b302099a805a"),
            ("last_run", "0"),
            ("last_digest", DIGEST),
            ("last_answer", r#"{"type":"retry_scheduled","retry_at":1800}"#),
        ],
    );
    let parked = with(
        execution(
            ["runnable", "unowned", "blocked_by_operator", "paused_by_operator", "none", "pending_replay_attempt"],
            "1",
        ),
        &[
            ("flow_id", F),
            ("block_at:paused_by_operator", "1200"),
            ("block_by:paused_by_operator", "ops"),
            ("block_detail:paused_by_operator", ""),
            ("block_at:waiting_for_quota", "1201"),
            ("block_by:waiting_for_quota", "runtime"),
            ("block_detail:waiting_for_quota", "full"),
            ("block_until:waiting_for_quota", "61201"),
            ("not_before", "7000"),
            ("not_before_kind", "retry_backoff"),
            ("replay_reason", "again"),
            ("replayed_by", "ops"),
            ("replayed_at", "1100"),
            ("replay_digest", DIGEST),
        ],
    );
    let ready = with(
        execution(["runnable", "unowned", "eligible_now", "waiting_for_worker", "none", "attempt_interrupted"], "1"),
        &[
            ("grant_worker_id", "w"),
            ("grant_worker_instance_id", "w-1"),
            ("granted_at", "1900"),
            ("grant_expires_at", "2900"),
        ],
    );
    let done = with(
        execution(["terminal", "unowned", "not_applicable", "none", "failed", "attempt_terminal"], "1"),
        &[
            ("completed_at", "2000"),
            ("end_cause", "failed"),
            ("ended_by", "operator:ops:night"),
            ("purge_at", "3000"),
            ("failure_reason", "it broke"),
            ("failure_category", "error"),
            ("cancel_reason", ""),
        ],
    );
    let round_trip: RoundTrip = round_trip!(decode_execution(parsed(X)));
    let make = |fields: &[(&str, &str)], kinds: &Kinds| {
        let mut sample = sample("execution", fields, kinds, round_trip);
        sample.map.insert("policy".to_owned(), Bytes::from(policy.clone()));
        sample.numbers.extend([EXECUTION_U64].iter().flat_map(|t| words(t)).map(|f| (f, (1 << 53) - 1)));
        sample.numbers.extend(words(EXECUTION_U32).into_iter().map(|f| (f, u64::from(u32::MAX))));
        sample.numbers.extend(words("priority attempt_count replay_count next_signal_seq").into_iter().map(|f| (f, 0)));
        sample.texts.push("kind".to_owned());
        sample
    };
    let mut parked = make(
        &parked,
        &Kinds {
            u64s: "block_at:paused_by_operator block_at:waiting_for_quota block_until:waiting_for_quota not_before replayed_at",
            u32s: "",
            fixed: "",
            texts: "block_by:paused_by_operator block_detail:waiting_for_quota replay_reason replayed_by",
            optional: "block_until:waiting_for_quota flow_id",
            groups: &[
                "block_at:paused_by_operator block_by:paused_by_operator block_detail:paused_by_operator",
                "block_at:waiting_for_quota block_by:waiting_for_quota block_detail:waiting_for_quota",
                "not_before not_before_kind",
                "replay_reason replayed_by replayed_at replay_digest",
            ],
        },
    );
    parked.map.insert("replay_count".to_owned(), Bytes::from_static(b"1"));
    vec![
        make(
            &running,
            &Kinds {
                u64s: "deadline_at started_at progress_updated_at lease_acquired_at lease_expires_at lease_renewed_at \
                   idempotency_expires_at",
                u32s: "last_run",
                fixed: "progress_pct",
                texts: "creator tag:team.name progress_message idempotency_key",
                optional: "creator tag:team.name tag:a.é deadline_at started_at progress_pct progress_message lease_renewed_at",
                groups: &[
                    "lease_id lease_claim_kind lease_worker_id lease_worker_instance_id lease_acquired_at lease_expires_at",
                    "idempotency_key idempotency_scope idempotency_expires_at",
                    "last_operation last_by last_run last_digest last_answer",
                ],
            },
        ),
        parked,
        make(
            &ready,
            &Kinds {
                u64s: "granted_at grant_expires_at",
                u32s: "",
                fixed: "",
                texts: "",
                optional: "",
                groups: &["grant_worker_id grant_worker_instance_id granted_at grant_expires_at"],
            },
        ),
        make(
            &done,
            &Kinds {
                u64s: "completed_at purge_at",
                u32s: "",
                fixed: "",
                texts: "failure_reason failure_category cancel_reason",
                optional: "purge_at failure_reason failure_category cancel_reason",
                groups: &["completed_at end_cause ended_by"],
            },
        ),
    ]
}

fn attempts_and_runs() -> Vec<Sample> {
    let attempt = sample(
        "attempt",
        &[
            ("execution_id", X),
            ("attempt_index", "2"),
            ("attempt_id", A),
            ("attempt_type", "reclaim"),
            ("run", "1"),
            ("started_at", "100"),
            ("attempt_state", "interrupted_reclaimed"),
            ("lease_id", B),
            ("lease_epoch", "4"),
            ("worker_id", "w"),
            ("worker_instance_id", "w-1"),
            ("attempt_deadline_at", "500"),
            ("timeout_remaining_ms", "50"),
            ("pause_kind", "children"),
            ("paused_at", "200"),
            ("resumed_at", "300"),
            ("ended_at", "400"),
            ("end_cause", "lease_revoked"),
            ("ended_by", "operator:ops"),
            ("failure_reason", ""),
            ("failure_category", "timeout"),
        ],
        &Kinds {
            u64s: "started_at lease_epoch attempt_deadline_at timeout_remaining_ms paused_at resumed_at ended_at",
            u32s: "run",
            fixed: "attempt_index",
            texts: "failure_reason failure_category",
            optional: "attempt_deadline_at timeout_remaining_ms resumed_at failure_reason failure_category",
            groups: &["pause_kind paused_at", "ended_at end_cause ended_by"],
        },
        round_trip!(decode_attempt(parsed(X), AttemptIndex(2))),
    );
    let run = sample(
        "run",
        &[
            ("execution_id", X),
            ("run", "3"),
            ("result", "\u{0}bytes"),
            ("result_encoding", "text"),
            ("terminal_outcome", "success"),
            ("end_cause", "completed"),
            ("ended_by", "worker:w-1"),
            ("failure_reason", "x"),
            ("failure_category", "x"),
            ("cancel_reason", "x"),
            ("completed_at", "900"),
            ("deadline_at", "1000"),
            ("replay_reason", "again"),
            ("replayed_by", "ops"),
            ("replayed_at", "800"),
            ("replay_digest", DIGEST),
        ],
        &Kinds {
            u64s: "completed_at deadline_at replayed_at",
            u32s: "",
            fixed: "run",
            texts: "result_encoding failure_reason failure_category cancel_reason replay_reason replayed_by",
            optional: "result result_encoding failure_reason failure_category cancel_reason deadline_at",
            groups: &[
                "terminal_outcome end_cause ended_by completed_at",
                "replay_reason replayed_by replayed_at replay_digest",
            ],
        },
        round_trip!(decode_run(parsed(X), 3)),
    );
    vec![attempt, run]
}

fn suspensions_and_signals() -> Vec<Sample> {
    let suspension = sample(
        "suspension",
        &[
            ("execution_id", X),
            ("suspension_id", A),
            ("attempt_index", "0"),
            ("lease_id", A),
            ("lease_epoch", "1"),
            ("attempt_id", B),
            ("digest", DIGEST),
            ("reason_code", "waiting_for_approval"),
            ("detail", "please"),
            ("continuation", "\u{0}\u{1}"),
            ("condition", r#"{"version":1,"root":{"type":"operator_only"}}"#),
            ("resume_policy", r#"{"resume_delay_ms":5,"allow_operator_override":true}"#),
            ("created_at", "10"),
            ("timeout_at", "20"),
            ("timeout_behavior", r#"{"type":"escalate","fail_after_ms":7}"#),
            ("escalated_at", "15"),
            ("closed_at", "18"),
            ("close_reason", "operator_resume"),
            ("operator_by", "ops"),
            ("operator_reason", ""),
        ],
        &Kinds {
            u64s: "lease_epoch created_at timeout_at escalated_at closed_at",
            u32s: "attempt_index",
            fixed: "",
            texts: "detail operator_by operator_reason",
            optional: "detail continuation timeout_at escalated_at",
            groups: &["closed_at close_reason", "operator_by operator_reason"],
        },
        round_trip!(decode_suspension(parsed(X))),
    );
    let waitpoint = sample(
        "waitpoint",
        &[
            ("execution_id", X),
            ("waitpoint_id", A),
            ("attempt_index", "1"),
            ("sources", r#"[{"source_type":"human","source_identity":"ann"}]"#),
            ("created_at", "10"),
            ("state", "closed"),
            ("expires_at", "30"),
            ("suspension_id", B),
            ("activated_at", "12"),
            ("closed_at", "20"),
            ("close_reason", "withdrawn"),
            ("close_detail", ""),
            ("signal_count", "3"),
        ],
        &Kinds {
            u64s: "created_at expires_at activated_at closed_at",
            u32s: "attempt_index signal_count",
            fixed: "",
            texts: "close_detail",
            optional: "expires_at",
            groups: &["suspension_id activated_at", "closed_at close_reason"],
        },
        round_trip!(decode_waitpoint(parsed(X), parsed(A))),
    );
    let signal = sample(
        "signal",
        &[
            ("execution_id", X),
            ("signal_id", A),
            ("seq", "5"),
            ("accepted_at", "10"),
            ("waitpoint_id", B),
            ("name", "go"),
            ("category", "custom"),
            ("source_type", "human"),
            ("source_identity", "ann"),
            ("correlation_id", "c"),
            ("idempotency_key", "k"),
            ("payload", ""),
            ("encoding", "text"),
            ("auth", "token:k1:1"),
            ("effect", "appended_to_waitpoint"),
        ],
        &Kinds {
            u64s: "accepted_at",
            u32s: "",
            fixed: "seq",
            texts: "name category source_type source_identity correlation_id idempotency_key encoding payload",
            optional: "correlation_id idempotency_key encoding",
            groups: &[],
        },
        round_trip!(decode_signal(parsed(X), 5)),
    );
    let dedup = sample(
        "dedup",
        &[
            ("execution_id", X),
            ("signal_id", A),
            ("waitpoint_id", B),
            ("idempotency_key", "k"),
            ("digest", DIGEST),
            ("effect", "no_op"),
        ],
        &Kinds { u64s: "", u32s: "", fixed: "", texts: "idempotency_key", optional: "idempotency_key", groups: &[] },
        round_trip!(decode_dedup(parsed(X), parsed(A))),
    );
    let kid = sample(
        "kid",
        &[
            ("partition", "7"),
            ("kid", "k1"),
            ("digest", DIGEST),
            ("installed_at", "10"),
            ("secret", SECRET),
            ("expires_at", "20"),
        ],
        &Kinds {
            u64s: "installed_at expires_at",
            u32s: "",
            fixed: "partition",
            texts: "",
            optional: "secret expires_at",
            groups: &[],
        },
        round_trip!(decode_kid(7, &parsed("k1"))),
    );
    vec![suspension, waitpoint, signal, dedup, kid]
}

fn flows() -> Vec<Sample> {
    let flow = sample(
        "flow",
        &[
            ("flow_id", F),
            ("flow_kind", "pipeline"),
            ("namespace", "ns"),
            ("created_at", "10"),
            ("spec_digest", DIGEST),
            ("tag:team.name", "search"),
            ("sealed", "1"),
            ("graph_revision", "4"),
            ("node_count", "5"),
            ("edge_count", "3"),
            ("next_edge_seq", "4"),
            ("count:waiting", "2"),
            ("count:cancelled", "3"),
            ("last_mutation_at", "20"),
            ("cancelled_at", "30"),
            ("cancelled_by", "ops"),
            ("cancel_reason", ""),
            ("cancellation_policy", "cancel_all"),
            ("deferred", "0"),
            ("retain_until", "90"),
            ("purge_at", "90"),
        ],
        &Kinds {
            u64s: "created_at graph_revision last_mutation_at cancelled_at retain_until purge_at",
            u32s: "edge_count deferred",
            fixed: "node_count count:waiting count:cancelled next_edge_seq",
            texts: "flow_kind tag:team.name cancelled_by cancel_reason",
            optional: "tag:team.name retain_until purge_at",
            groups: &["cancelled_at cancelled_by cancellation_policy"],
        },
        round_trip!(decode_flow(parsed(F))),
    );
    let edge = sample(
        "edge",
        &[
            ("edge_id", A),
            ("flow_id", F),
            ("seq", "1"),
            ("upstream_execution_id", X),
            ("downstream_execution_id", "e7_01890a5d-ac96-774b-bcce-b302099a805b"),
            ("dependency_kind", "success_only"),
            ("created_at", "10"),
            ("data_passing_ref", "input"),
            ("edge_state", "satisfied"),
            ("applied_at", "11"),
            ("upstream_run", "1"),
            ("upstream_outcome", "success"),
            ("upstream_attempt_index", "2"),
            ("resolved_at", "12"),
        ],
        &Kinds {
            u64s: "created_at applied_at resolved_at",
            u32s: "upstream_run upstream_attempt_index",
            fixed: "seq",
            texts: "",
            optional: "data_passing_ref upstream_attempt_index",
            groups: &["upstream_run upstream_outcome resolved_at"],
        },
        round_trip!(decode_edge(parsed(F), parsed(A))),
    );
    let member = sample(
        "member",
        &[
            ("execution_id", X),
            ("flow_id", F),
            ("member_name", "resize"),
            ("held", "0"),
            ("join", "all"),
            ("incoming_count", "6"),
            ("unresolved_count", "1"),
            ("satisfied_count", "2"),
            ("impossible_count", "3"),
        ],
        &Kinds {
            u64s: "",
            u32s: "",
            fixed: "incoming_count unresolved_count satisfied_count impossible_count",
            texts: "",
            optional: "member_name",
            groups: &[],
        },
        round_trip!(decode_member(parsed(X))),
    );
    vec![flow, edge, member]
}

fn resources() -> Vec<Sample> {
    let budget = sample(
        "budget",
        &[
            ("budget_id", "team/a"),
            ("enforcement", "strict"),
            ("created_at", "10"),
            ("dimensions", "cost,tokens"),
            ("reset_count", "2"),
            ("hard_breach_count", "3"),
            ("soft_breach_count", "4"),
            ("hard:tokens", "100"),
            ("soft:tokens", "50"),
            ("usage:tokens", "101"),
            ("usage:other", "1"),
            ("last_reset_at", "20"),
            ("last_reset_by", "ops"),
            ("reset_interval_ms", "60000"),
            ("next_reset_at", "60010"),
            ("last_breach_at", "30"),
            ("last_breach_dimension", "tokens"),
            ("exhausted_at", "30"),
            ("exhausted_dimension", "tokens"),
        ],
        &Kinds {
            u64s: "created_at reset_count hard_breach_count soft_breach_count last_reset_at next_reset_at last_breach_at \
                   exhausted_at",
            u32s: "",
            fixed: "hard:tokens soft:tokens usage:tokens usage:other reset_interval_ms",
            texts: "last_reset_by",
            optional: "hard:tokens soft:tokens usage:tokens usage:other last_reset_by",
            groups: &[
                "reset_interval_ms next_reset_at",
                "last_breach_at last_breach_dimension",
                "exhausted_at exhausted_dimension",
            ],
        },
        round_trip!(decode_budget(&parsed("team/a"))),
    );
    let quota = sample(
        "quota_policy",
        &[
            ("quota_policy_id", "q"),
            ("jitter_ms", "5"),
            ("created_at", "10"),
            ("max_concurrent", "3"),
            ("max_requests_per_window", "2"),
            ("window_ms", "10000"),
        ],
        &Kinds {
            u64s: "created_at",
            u32s: "",
            fixed: "jitter_ms max_concurrent max_requests_per_window window_ms",
            texts: "",
            optional: "max_concurrent",
            groups: &["max_requests_per_window window_ms"],
        },
        round_trip!(decode_quota_policy(&parsed("q"))),
    );
    let slot = sample(
        "admission_slot",
        &[("execution_id", X), ("attempt_index", "2"), ("lease_epoch", "3"), ("expires_at", "40")],
        &Kinds {
            u64s: "lease_epoch expires_at",
            u32s: "",
            fixed: "attempt_index",
            texts: "",
            optional: "",
            groups: &[],
        },
        round_trip!(decode_admission_slot(ff_core::records::AdmissionIdentity {
            execution_id: parsed(X),
            attempt_index: AttemptIndex(2)
        })),
    );
    let stream = sample(
        "stream_meta",
        &[
            ("execution_id", X),
            ("attempt_index", "2"),
            ("last_id", "10-3"),
            ("frame_count", "9"),
            ("total_bytes", "4096"),
            ("retained_frames", "3"),
            ("retained_bytes", "3072"),
            ("last_seq", "7"),
            ("trimmed_to", "10-0"),
        ],
        &Kinds {
            u64s: "frame_count total_bytes retained_frames retained_bytes",
            u32s: "",
            fixed: "attempt_index last_seq",
            texts: "",
            optional: "last_seq trimmed_to",
            groups: &[],
        },
        round_trip!(decode_stream_meta(parsed(X), AttemptIndex(2))),
    );
    let frame = sample(
        "stream_frame",
        &[("frame_type", "log"), ("payload", "\u{0}x"), ("encoding", "text"), ("correlation_id", "c"), ("seq", "7")],
        &Kinds {
            u64s: "",
            u32s: "",
            fixed: "seq",
            texts: "frame_type payload encoding correlation_id",
            optional: "encoding correlation_id seq",
            groups: &[],
        },
        |map| {
            let pairs = |map: &FlatMap| -> Vec<Bytes> {
                map.iter().flat_map(|(name, value)| [Bytes::from(name.clone()), value.clone()]).collect()
            };
            let frame = decode_stream_frame(StreamEntryId::new(10, 3), b"1.0", &pairs(map))?;
            assert_eq!(frame.id, StreamEntryId::new(10, 3));
            let encoded = frame.encode();
            let again = decode_stream_frame(StreamEntryId::new(10, 3), b"1.0", &pairs(&encoded));
            assert_eq!(again, Ok(frame));
            Ok(encoded)
        },
    );
    vec![budget, quota, slot, stream, frame]
}

/// A sample of each kind of record, of executions four.
pub(super) fn samples() -> Vec<Sample> {
    [executions(), attempts_and_runs(), suspensions_and_signals(), flows(), resources()].into_iter().flatten().collect()
}
