//! Domain stream: `resources.md`, section 4.

use std::fmt;
use std::str::FromStr;

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::contracts::Fence;
use crate::ids::{AttemptIndex, ExecutionId};
use crate::records::AttemptRecord;
use crate::refusal::Refusal;
use crate::state::EndCause;
use crate::time::{MAX_SAFE_INTEGER, TimestampMs};

/// The greatest number of frames that one read returns.
pub const STREAM_READ_HARD_CAP: u32 = 10_000;

/// The payload bytes that one read returns at most, its first frame apart: 4 MiB.
pub const STREAM_PAGE_BYTES: u64 = 4 << 20;

/// The payload bytes that one stream keeps at most, a frame counted as at least [`STREAM_FRAME_MIN_BYTES`]: 64 MiB.
pub const STREAM_RETAINED_BYTES: u64 = 64 << 20;

/// What a frame counts at least towards [`STREAM_RETAINED_BYTES`]: 1 KiB.
pub const STREAM_FRAME_MIN_BYTES: u64 = 1 << 10;

/// The longest wait of one tail: 30 s, in milliseconds.
pub const MAX_TAIL_BLOCK_MS: u64 = 30_000;

/// The id of a stored frame, strictly increasing per stream. Text form `<ms>-<seq>`, each value with one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamEntryId {
    /// Milliseconds of the store's clock, or those of the frame before if that was later.
    pub ms: u64,
    /// Place within the millisecond.
    pub seq: u64,
}

impl StreamEntryId {
    /// `0-0`: before every frame.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };
    /// The greatest position.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// An id of its parts.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// The id of the frame that is appended at `now` behind `self`, the stream's last id ([`Self::ZERO`] before the
    /// first frame). A clock that was set back still gives rising ids.
    #[must_use]
    pub const fn following(self, now: TimestampMs) -> Self {
        if now.as_millis() > self.ms {
            Self { ms: now.as_millis(), seq: 0 }
        } else {
            Self { ms: self.ms, seq: self.seq.saturating_add(1) }
        }
    }

    /// The position right after this id; `None` after the greatest, where nothing lies.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match (self.ms, self.seq) {
            (u64::MAX, u64::MAX) => None,
            (ms, u64::MAX) => Some(Self { ms: ms + 1, seq: 0 }),
            (ms, seq) => Some(Self { ms, seq: seq + 1 }),
        }
    }
}

impl fmt::Display for StreamEntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for StreamEntryId {
    type Err = StreamCursorParseError;
    fn from_str(text: &str) -> Result<Self, StreamCursorParseError> {
        match text.parse()? {
            StreamCursor::Id(id) => Ok(id),
            StreamCursor::Start | StreamCursor::End | StreamCursor::Ms(_) => Err(StreamCursorParseError::Malformed),
        }
    }
}

/// Why a text is no cursor: the first that applies. It never contains the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StreamCursorParseError {
    /// The text is empty.
    #[error("a stream cursor is not empty")]
    Empty,
    /// `-` or `+`, as other streams write their ends; write `start` or `end`.
    #[error("write `start` and `end`, not `-` and `+`")]
    BareMarker,
    /// Not `start`, `end`, `<ms>` or `<ms>-<seq>`.
    #[error("a stream cursor is `start`, `end`, `<ms>` or `<ms>-<seq>`, without leading zeros")]
    Malformed,
    /// A number above 18446744073709551615.
    #[error("a number in a stream cursor is at most 18446744073709551615")]
    OutOfRange,
}

impl StreamCursorParseError {
    /// The refusal of a wire boundary that received such a text as `field`. Its details are the field; the cause is
    /// this error, for the boundary's message.
    #[must_use]
    pub fn refusal(self, field: &str) -> Refusal {
        Refusal::invalid_input(field)
    }
}

/// A position in a stream. Each value has one text form, and serde uses it.
///
/// ```
/// use ff_core::contracts::{StreamCursor, StreamCursorParseError, StreamEntryId};
/// assert_eq!("5-3".parse(), Ok(StreamCursor::Id(StreamEntryId::new(5, 3))));
/// assert_eq!("-".parse::<StreamCursor>(), Err(StreamCursorParseError::BareMarker));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamCursor {
    /// Before every frame; text `start`.
    Start,
    /// After every frame; text `end`.
    End,
    /// A millisecond: its first position, or as an upper end its last; text `<ms>`.
    Ms(u64),
    /// One id; text `<ms>-<seq>`.
    Id(StreamEntryId),
}

impl StreamCursor {
    /// The lowest id that a read from here includes.
    #[must_use]
    pub const fn lower(self) -> StreamEntryId {
        match self {
            Self::Start => StreamEntryId::ZERO,
            Self::End => StreamEntryId::MAX,
            Self::Ms(ms) => StreamEntryId { ms, seq: 0 },
            Self::Id(id) => id,
        }
    }

    /// The highest id that a read up to here includes.
    #[must_use]
    pub const fn upper(self) -> StreamEntryId {
        match self {
            Self::Start => StreamEntryId::ZERO,
            Self::End => StreamEntryId::MAX,
            Self::Ms(ms) => StreamEntryId { ms, seq: u64::MAX },
            Self::Id(id) => id,
        }
    }
}

impl fmt::Display for StreamCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::End => f.write_str("end"),
            Self::Ms(ms) => write!(f, "{ms}"),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

impl FromStr for StreamCursor {
    type Err = StreamCursorParseError;
    fn from_str(text: &str) -> Result<Self, StreamCursorParseError> {
        let grammatical = |number: &str| {
            !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
                && (number == "0" || !number.starts_with('0'))
        };
        let value = |number: &str| number.parse::<u64>().map_err(|_| StreamCursorParseError::OutOfRange);
        match text {
            "" => return Err(StreamCursorParseError::Empty),
            "-" | "+" => return Err(StreamCursorParseError::BareMarker),
            "start" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            _ => {}
        }
        match text.split_once('-') {
            None if grammatical(text) => Ok(Self::Ms(value(text)?)),
            Some((ms, seq)) if grammatical(ms) && grammatical(seq) => {
                Ok(Self::Id(StreamEntryId { ms: value(ms)?, seq: value(seq)? }))
            }
            _ => Err(StreamCursorParseError::Malformed),
        }
    }
}

macro_rules! text_serde {
    ($($Name:ident),+) => { $(
        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+ };
}
text_serde!(StreamEntryId, StreamCursor);

/// Arguments of `append_frame`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AppendFrameArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Names the attempt and so the stream.
    pub fence: Fence,
    /// What kind of frame; a name.
    #[builder(into)]
    pub frame_type: String,
    /// Opaque bytes, `0..=65_536`.
    #[serde(default, with = "crate::wire::base64_bytes")]
    #[builder(default, into)]
    pub payload: Bytes,
    /// The payload's encoding; a label.
    #[serde(default)]
    #[builder(into)]
    pub encoding: Option<String>,
    /// What it belongs to; a key.
    #[serde(default)]
    #[builder(into)]
    pub correlation_id: Option<String>,
    /// The worker's own number, `1..=2^53-1`, strictly increasing per attempt; makes the call repeatable.
    #[serde(default)]
    pub seq: Option<u64>,
}

impl AppendFrameArgs {
    /// The frame under the id that it is given.
    #[must_use]
    pub fn frame(&self, id: StreamEntryId) -> StreamFrame {
        StreamFrame {
            id,
            frame_type: self.frame_type.clone(),
            payload: self.payload.clone(),
            encoding: self.encoding.clone(),
            correlation_id: self.correlation_id.clone(),
            seq: self.seq,
        }
    }
}

impl CheckArgs for AppendFrameArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.fence.check("fence")?;
        bounds::name("frame_type", &self.frame_type)?;
        bounds::payload("payload", self.payload.len(), bounds::MAX_FRAME_BYTES as u64)?;
        bounds::label("encoding", self.encoding.as_deref())?;
        bounds::key("correlation_id", self.correlation_id.as_deref())?;
        bounds::ensure(self.seq.is_none_or(|seq| (1..=MAX_SAFE_INTEGER).contains(&seq)), "seq")
    }
}

/// Result of `append_frame`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendFrameResult {
    /// The stored frame's id.
    pub entry_id: StreamEntryId,
}

const fn default_from() -> StreamCursor {
    StreamCursor::Start
}

const fn default_to() -> StreamCursor {
    StreamCursor::End
}

const fn default_read_limit() -> u32 {
    bounds::DEFAULT_PAGE
}

/// Arguments of `read_frames`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ReadFramesArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt.
    pub attempt_index: AttemptIndex,
    /// Where to begin, inclusive; the start.
    #[serde(default = "default_from")]
    #[builder(default = default_from())]
    pub from: StreamCursor,
    /// Where to end, inclusive; the end.
    #[serde(default = "default_to")]
    #[builder(default = default_to())]
    pub to: StreamCursor,
    /// Frames at most, `1..=10_000`; 100.
    #[serde(default = "default_read_limit")]
    #[builder(default = default_read_limit())]
    pub limit: u32,
}

fn frame_limit(limit: u32) -> Result<(), Refusal> {
    bounds::ensure((1..=STREAM_READ_HARD_CAP).contains(&limit), "limit")
}

impl CheckArgs for ReadFramesArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        frame_limit(self.limit)
    }
}

/// Result of `read_frames`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadFramesResult {
    /// A page.
    Frames(StreamFrames),
}

const fn default_after() -> StreamCursor {
    StreamCursor::Id(StreamEntryId::ZERO)
}

const fn default_tail_limit() -> u32 {
    50
}

/// Arguments of `tail_frames`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TailFramesArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt.
    pub attempt_index: AttemptIndex,
    /// The last position already seen, exclusive: a millisecond (`5` is `5-0`) or an id; `0-0`.
    #[serde(default = "default_after")]
    #[builder(default = default_after())]
    pub after: StreamCursor,
    /// How long to wait, in milliseconds of the calling process's real time, `0..=30_000`; 0 looks once.
    pub block_ms: u64,
    /// Frames at most, `1..=10_000`; 50.
    #[serde(default = "default_tail_limit")]
    #[builder(default = default_tail_limit())]
    pub limit: u32,
}

impl TailFramesArgs {
    /// The read that answers this tail: from the position after `after` to the end. `None` when nothing can lie there.
    #[must_use]
    pub fn read(&self) -> Option<ReadFramesArgs> {
        Some(ReadFramesArgs {
            execution_id: self.execution_id,
            attempt_index: self.attempt_index,
            from: StreamCursor::Id(self.after.lower().next()?),
            to: StreamCursor::End,
            limit: self.limit,
        })
    }
}

impl CheckArgs for TailFramesArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::ensure(!matches!(self.after, StreamCursor::Start | StreamCursor::End), "after")?;
        bounds::ensure(self.block_ms <= MAX_TAIL_BLOCK_MS, "block_ms")?;
        frame_limit(self.limit)
    }
}

/// Result of `tail_frames`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TailFramesResult {
    /// A page; empty when nothing came in time.
    Frames(StreamFrames),
}

/// One stored frame; it was appended at `id.ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFrame {
    /// Its id.
    pub id: StreamEntryId,
    /// What kind of frame.
    pub frame_type: String,
    /// Its bytes.
    #[serde(with = "crate::wire::base64_bytes")]
    pub payload: Bytes,
    /// The payload's encoding.
    pub encoding: Option<String>,
    /// What it belongs to.
    pub correlation_id: Option<String>,
    /// The worker's own number.
    pub seq: Option<u64>,
}

impl StreamFrame {
    /// What it counts towards [`STREAM_RETAINED_BYTES`].
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        STREAM_FRAME_MIN_BYTES.max(self.payload.len() as u64)
    }

    /// Whether a repeated call with the same `seq` brought the same frame; the id is not compared.
    #[must_use]
    pub fn same_content(&self, args: &AppendFrameArgs) -> bool {
        self.frame_type == args.frame_type
            && self.payload == args.payload
            && self.encoding == args.encoding
            && self.correlation_id == args.correlation_id
            && self.seq == args.seq
    }
}

/// The end of a stream: its attempt's end. Read from the attempt, never stored again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamClosed {
    /// When the attempt ended.
    pub at: TimestampMs,
    /// Why.
    pub cause: EndCause,
}

impl StreamClosed {
    /// The end of this attempt's stream; none while the attempt is not final.
    #[must_use]
    pub fn of(attempt: &AttemptRecord) -> Option<Self> {
        attempt.ended.as_ref().map(|ended| Self { at: ended.at, cause: ended.cause })
    }
}

/// A page of a stream: frames and closed marker from one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFrames {
    /// The frames, by id.
    pub frames: Vec<StreamFrame>,
    /// The id of the page's last frame.
    pub last_id: Option<StreamEntryId>,
    /// Frames of the range remain after the page: go on from the position after `last_id`.
    pub has_more: bool,
    /// Shown exactly when the stream is closed and no frame is stored after `last_id` (of an empty page: none at or
    /// after `from`). Who sees it has nothing left to read.
    pub closed: Option<StreamClosed>,
    /// The newest frame that has gone: a reader whose position is at or below it has missed frames.
    pub trimmed_to: Option<StreamEntryId>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contracts::testing::{refused_code, refused_field};
    use crate::ids::{AttemptId, LeaseEpoch, LeaseId};
    use crate::refusal::{Code, Details};

    #[test]
    fn texts_that_are_no_cursor_are_told_apart() {
        use StreamCursorParseError::{BareMarker, Empty, Malformed, OutOfRange};
        for (text, want) in [
            ("", Empty),
            ("-", BareMarker),
            ("+", BareMarker),
            ("Start", Malformed),
            ("END", Malformed),
            ("1-", Malformed),
            ("-1", Malformed),
            ("--", Malformed),
            ("1-2-3", Malformed),
            ("01", Malformed),
            ("1-00", Malformed),
            (" 1", Malformed),
            ("1 ", Malformed),
            ("+1", Malformed),
            ("1-+2", Malformed),
            ("٣", Malformed),
            ("99999999999999999999-x", Malformed),
            ("18446744073709551616", OutOfRange),
            ("5-18446744073709551616", OutOfRange),
        ] {
            assert_eq!(text.parse::<StreamCursor>(), Err(want), "{text:?}");
        }
        assert_eq!("18446744073709551615".parse(), Ok(StreamCursor::Ms(u64::MAX)));
        assert_eq!(Empty.refusal("from"), Refusal::invalid_input("from"));
    }

    fn cursor() -> impl Strategy<Value = StreamCursor> {
        prop_oneof![
            Just(StreamCursor::Start),
            Just(StreamCursor::End),
            any::<u64>().prop_map(StreamCursor::Ms),
            any::<(u64, u64)>().prop_map(|(ms, seq)| StreamCursor::Id(StreamEntryId::new(ms, seq))),
        ]
    }

    proptest! {
        #[test]
        fn every_cursor_has_one_text(cursor in cursor()) {
            let text = cursor.to_string();
            prop_assert_eq!(text.parse(), Ok(cursor));
            let json = serde_json::to_string(&cursor).expect("text");
            prop_assert_eq!(&json, &format!("\"{text}\""));
            prop_assert_eq!(serde_json::from_str::<StreamCursor>(&json).expect("its own text"), cursor);
        }

        #[test]
        fn every_text_that_parses_is_written_back_unchanged(text in "[-+0-9starend]{0,8}|[0-9]{1,21}(-[0-9]{1,21})?") {
            if let Ok(cursor) = text.parse::<StreamCursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }

        #[test]
        fn entry_ids_rise_whatever_the_clock_does(times in proptest::collection::vec(0_u64..5, 1..20)) {
            let mut last = StreamEntryId::ZERO;
            for now in times {
                let id = last.following(TimestampMs::saturating(now));
                prop_assert!(id > last);
                last = id;
            }
        }
    }

    #[test]
    fn entry_ids_follow_the_clock_and_then_count() {
        let at = TimestampMs::saturating;
        assert_eq!(StreamEntryId::ZERO.following(at(0)), StreamEntryId::new(0, 1));
        let first = StreamEntryId::ZERO.following(at(7));
        let third = first.following(at(7)).following(at(7));
        assert_eq!((first, third), (StreamEntryId::new(7, 0), StreamEntryId::new(7, 2)));
        assert_eq!(third.following(at(3)), StreamEntryId::new(7, 3));
        assert_eq!(third.following(at(8)), StreamEntryId::new(8, 0));
        assert_eq!(StreamEntryId::new(5, u64::MAX).next(), Some(StreamEntryId::new(6, 0)));
        assert_eq!(StreamEntryId::MAX.next(), None);
        assert_eq!(StreamCursor::Ms(5).upper(), StreamEntryId::new(5, u64::MAX));
    }

    fn execution_id() -> ExecutionId {
        ExecutionId::from_parts(0, uuid::Uuid::nil())
    }

    fn tail(after: StreamCursor) -> TailFramesArgs {
        TailFramesArgs::builder()
            .execution_id(execution_id())
            .attempt_index(AttemptIndex(0))
            .after(after)
            .block_ms(0)
            .build()
    }

    #[test]
    fn reads_and_tails_hold_to_their_bounds() {
        let read = ReadFramesArgs::builder().execution_id(execution_id()).attempt_index(AttemptIndex(0)).build();
        assert_eq!((read.from, read.to, read.limit), (StreamCursor::Start, StreamCursor::End, 100));
        for (limit, ok) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
            let read = ReadFramesArgs { limit, ..read.clone() };
            assert_eq!(refused_field(&read), (!ok).then(|| "limit".into()), "{limit}");
            let tail = TailFramesArgs { limit, ..tail(StreamCursor::Ms(5)) };
            assert_eq!(refused_field(&tail), (!ok).then(|| "limit".into()), "{limit}");
        }
        for end in [StreamCursor::Start, StreamCursor::End] {
            assert_eq!(refused_field(&tail(end)), Some("after".into()));
        }
        let long = TailFramesArgs { block_ms: 30_001, ..tail(StreamCursor::Ms(5)) };
        assert_eq!(refused_field(&long), Some("block_ms".into()));
        let of_ms = tail(StreamCursor::Ms(5)).read();
        assert_eq!(of_ms, tail(StreamCursor::Id(StreamEntryId::new(5, 0))).read());
        assert_eq!(of_ms.map(|r| r.from), Some(StreamCursor::Id(StreamEntryId::new(5, 1))));
        assert_eq!(tail(StreamCursor::Id(StreamEntryId::MAX)).read(), None);
    }

    #[test]
    fn a_frame_is_at_most_64_kib() {
        let append = |bytes: usize| {
            AppendFrameArgs::builder()
                .execution_id(execution_id())
                .fence(Fence {
                    lease_id: LeaseId::from_uuid(uuid::Uuid::nil()),
                    lease_epoch: LeaseEpoch(1),
                    attempt_id: AttemptId::from_uuid(uuid::Uuid::nil()),
                })
                .frame_type("log")
                .payload(vec![0; bytes])
                .build()
        };
        assert_eq!(refused_code(&append(65_536)), None);
        let refusal = append(65_537).check(&Deployment::default()).expect_err("too large");
        let want = Details::PayloadTooLarge { field: "payload".into(), bytes: 65_537, bound: 65_536 };
        assert_eq!(refusal.details(), &want);
        for seq in [0, 1 << 53] {
            assert_eq!(refused_field(&AppendFrameArgs { seq: Some(seq), ..append(0) }), Some("seq".into()));
        }
        let fence = Fence { lease_epoch: LeaseEpoch(1 << 53), ..append(0).fence };
        assert_eq!(refused_code(&AppendFrameArgs { fence, ..append(0) }), Some(Code::InvalidInput));
        let frame = append(0).frame(StreamEntryId::new(1, 0));
        assert_eq!((frame.retained_bytes(), frame.same_content(&append(0))), (1_024, true));
        assert!(!frame.same_content(&append(1)));
    }
}
