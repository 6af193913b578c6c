//! Stream metadata: `resources.md`, sections 4 and 6. A stored frame is a [`crate::contracts::StreamFrame`].

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::{MAX_KEY_BYTES, MAX_LABEL_BYTES, MAX_NAME_BYTES};
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::contracts::{StreamCursorParseError, StreamEntryId, StreamFrame};
use crate::ids::{AttemptIndex, ExecutionId};
use crate::records::flat::{Field, FlatMap, Reader, Registry, Writer, read_number};
use crate::time::MAX_SAFE_INTEGER;

/// What is known of an attempt's stream beside its frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMetaRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt.
    pub attempt_index: AttemptIndex,
    /// The newest frame's id.
    pub last_id: StreamEntryId,
    /// Frames ever appended.
    pub frame_count: u64,
    /// Payload bytes ever appended.
    pub total_bytes: u64,
    /// Frames kept.
    pub retained_frames: u64,
    /// Their size, a frame as at least 1 KiB.
    pub retained_bytes: u64,
    /// The greatest seq ever given.
    pub last_seq: Option<u64>,
    /// The newest frame that has gone.
    pub trimmed_to: Option<StreamEntryId>,
}

impl Field for StreamEntryId {
    /// Both numbers of a stored id are within 2^53-1.
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeCause::NotUtf8)?;
        match text.parse::<Self>() {
            Ok(id) if id.ms <= MAX_SAFE_INTEGER && id.seq <= MAX_SAFE_INTEGER => Ok(id),
            Ok(_) | Err(StreamCursorParseError::OutOfRange) => Err(DecodeCause::OutOfRange),
            Err(_) => Err(DecodeCause::BadId),
        }
    }
    fn write(&self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

/// A seq that a worker gave: from 1 on.
fn read_seq(bytes: &[u8]) -> Result<u64, DecodeCause> {
    match read_number(bytes)? {
        0 => Err(DecodeCause::OutOfRange),
        seq => Ok(seq),
    }
}

impl StreamMetaRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "stream_meta",
        fields: &[
            "execution_id",
            "attempt_index",
            "last_id",
            "frame_count",
            "total_bytes",
            "retained_frames",
            "retained_bytes",
            "last_seq",
            "trimmed_to",
        ],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("execution_id", &self.execution_id)
            .put("attempt_index", &self.attempt_index)
            .put("last_id", &self.last_id)
            .put("frame_count", &self.frame_count)
            .put("total_bytes", &self.total_bytes)
            .put("retained_frames", &self.retained_frames)
            .put("retained_bytes", &self.retained_bytes)
            .put_opt("last_seq", self.last_seq.as_ref())
            .put_opt("trimmed_to", self.trimmed_to.as_ref());
        out.finish()
    }

    /// Reads the flat form of this attempt's stream.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(execution_id: ExecutionId, attempt_index: AttemptIndex, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        reader.same_id(reader.get::<ExecutionId>("execution_id")? == execution_id, "execution_id")?;
        reader.same_id(reader.get::<AttemptIndex>("attempt_index")? == attempt_index, "attempt_index")?;
        Ok(Self {
            execution_id,
            attempt_index,
            last_id: reader.get("last_id")?,
            frame_count: reader.get("frame_count")?,
            total_bytes: reader.get("total_bytes")?,
            retained_frames: reader.get("retained_frames")?,
            retained_bytes: reader.get("retained_bytes")?,
            last_seq: reader.with_opt("last_seq", read_seq)?,
            trimmed_to: reader.get_opt("trimmed_to")?,
        })
    }
}

impl StreamFrame {
    /// The fields that its flat form may have. Its version is that of its stream.
    pub const REGISTRY: Registry = Registry {
        record: "stream_frame",
        fields: &["frame_type", "payload", "encoding", "correlation_id", "seq"],
        prefixes: &[],
    };

    /// The flat form, without the id.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::part();
        out.text("frame_type", &self.frame_type)
            .raw("payload", self.payload.clone())
            .text_opt("encoding", self.encoding.as_deref())
            .text_opt("correlation_id", self.correlation_id.as_deref())
            .put_opt("seq", self.seq.as_ref());
        out.finish()
    }

    /// Reads the flat form of the frame with this id, of a stream with this version.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(id: StreamEntryId, version: &[u8], map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open_part(Self::REGISTRY, version, map)?;
        Ok(Self {
            id,
            frame_type: reader.text("frame_type", 1, MAX_NAME_BYTES)?,
            payload: reader.required("payload")?.clone(),
            encoding: reader.text_opt("encoding", 1, MAX_LABEL_BYTES)?,
            correlation_id: reader.text_opt("correlation_id", 1, MAX_KEY_BYTES)?,
            seq: reader.with_opt("seq", read_seq)?,
        })
    }

    /// The same from a list of names and values in turn, as a store returns an entry.
    ///
    /// # Errors
    /// `bad_list` for a list of odd length or a name twice; else as [`Self::decode`].
    pub fn decode_pairs(id: StreamEntryId, version: &[u8], pairs: &[Bytes]) -> Result<Self, DecodeError> {
        let fail = |name: &[u8], cause| {
            let empty = FlatMap::new();
            // Only for the form of its errors; a version that is wrong comes first.
            let reader = Reader::open_part(Self::REGISTRY, version, &empty)?;
            Err(reader.fail(&String::from_utf8_lossy(name), cause))
        };
        let (pairs, odd) = pairs.as_chunks::<2>();
        if let [name] = odd {
            return fail(name, DecodeCause::BadList);
        }
        let mut names = BTreeSet::new();
        let mut map = FlatMap::new();
        for [name, value] in pairs {
            if !names.insert(name) {
                return fail(name, DecodeCause::BadList);
            }
            // A name that is not UTF-8 is no field of ours under any spelling.
            map.insert(String::from_utf8_lossy(name).into_owned(), value.clone());
        }
        Self::decode(id, version, &map)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contracts::decode::{decode_stream_frame, decode_stream_meta};
    use crate::records::flat::VERSION;
    use crate::records::testing::{cause, damage, damaged, decodes_or_tells, execution_id, label, name, number};

    fn entry_id() -> impl Strategy<Value = StreamEntryId> {
        (number(), number()).prop_map(|(ms, seq)| StreamEntryId::new(ms, seq))
    }

    fn meta() -> impl Strategy<Value = StreamMetaRecord> {
        let counts = (number(), number(), number(), number());
        let optional = (proptest::option::of(1..=MAX_SAFE_INTEGER), proptest::option::of(entry_id()));
        (execution_id(), any::<u32>(), entry_id(), counts, optional).prop_map(
            |(execution_id, index, last_id, counts, (last_seq, trimmed_to))| {
                let (frame_count, total_bytes, retained_frames, retained_bytes) = counts;
                StreamMetaRecord {
                    execution_id,
                    attempt_index: AttemptIndex(index),
                    last_id,
                    frame_count,
                    total_bytes,
                    retained_frames,
                    retained_bytes,
                    last_seq,
                    trimmed_to,
                }
            },
        )
    }

    fn frame() -> impl Strategy<Value = StreamFrame> {
        let payload = proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        let optional =
            (proptest::option::of(label()), proptest::option::of(name()), proptest::option::of(1..=MAX_SAFE_INTEGER));
        (entry_id(), name(), payload, optional).prop_map(
            |(id, frame_type, payload, (encoding, correlation_id, seq))| StreamFrame {
                id,
                frame_type,
                payload,
                encoding,
                correlation_id,
                seq,
            },
        )
    }

    fn pairs(map: &FlatMap) -> Vec<Bytes> {
        map.iter().flat_map(|(name, value)| [Bytes::copy_from_slice(name.as_bytes()), value.clone()]).collect()
    }

    proptest! {
        #[test]
        fn metadata_survives_its_flat_form(meta in meta()) {
            prop_assert_eq!(decode_stream_meta(meta.execution_id, meta.attempt_index, &meta.encode()), Ok(meta));
        }

        #[test]
        fn damaged_metadata_decodes_or_tells(meta in meta(), damage in damage()) {
            let map = damaged(meta.encode(), &damage);
            let decoded = decode_stream_meta(meta.execution_id, meta.attempt_index, &map);
            decodes_or_tells(&map, decoded, StreamMetaRecord::encode);
        }

        #[test]
        fn frames_survive_their_flat_form(frame in frame()) {
            let mut list = pairs(&frame.encode());
            prop_assert_eq!(decode_stream_frame(frame.id, VERSION.as_bytes(), &list), Ok(frame.clone()));
            // Any order of the pairs.
            list.rotate_left(2);
            prop_assert_eq!(decode_stream_frame(frame.id, VERSION.as_bytes(), &list), Ok(frame));
        }

        #[test]
        fn damaged_frames_decode_or_tell(frame in frame(), damage in damage()) {
            let map = damaged(frame.encode(), &damage);
            let decoded = decode_stream_frame(frame.id, VERSION.as_bytes(), &pairs(&map));
            decodes_or_tells(&map, decoded, StreamFrame::encode);
        }

        #[test]
        fn any_list_of_bytes_gives_a_frame_or_an_error(
            list in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from), 0..9),
            version in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            let _ = decode_stream_frame(StreamEntryId::ZERO, VERSION.as_bytes(), &list);
            let _ = decode_stream_frame(StreamEntryId::ZERO, &version, &list);
        }
    }

    #[test]
    fn odd_lists_and_doubled_names_are_bad_lists() {
        let list = |parts: &[&'static str]| parts.iter().map(|p| Bytes::from_static(p.as_bytes())).collect::<Vec<_>>();
        let told = |version: &str, parts: &[&'static str]| {
            cause(decode_stream_frame(StreamEntryId::ZERO, version.as_bytes(), &list(parts)))
        };
        assert_eq!(told("1.0", &["frame_type", "t", "payload"]), ("payload".into(), DecodeCause::BadList));
        let doubled = ["frame_type", "t", "payload", "", "payload", ""];
        assert_eq!(told("1.0", &doubled), ("payload".into(), DecodeCause::BadList));
        assert_eq!(told("2.0", &doubled), ("v".into(), DecodeCause::UnsupportedVersion));
        assert_eq!(told("1.0", &["payload", ""]), ("frame_type".into(), DecodeCause::Missing));
        assert_eq!(told("1.0", &["frame_type", "t"]), ("payload".into(), DecodeCause::Missing));
        let seq = ["frame_type", "t", "payload", "", "seq", "0"];
        assert_eq!(told("1.0", &seq), ("seq".into(), DecodeCause::OutOfRange));
        let version = ["frame_type", "t", "payload", "", "v", "1.0"];
        assert_eq!(told("1.0", &version), ("v".into(), DecodeCause::UnknownField));
        let newer = ["frame_type", "t", "payload", "", "later", "x"];
        assert_eq!(told("1.0", &newer), ("later".into(), DecodeCause::UnknownField));
        assert!(decode_stream_frame(StreamEntryId::ZERO, b"1.1", &list(&newer)).is_ok());
    }

    #[test]
    fn stored_entry_ids_stay_within_exact_integers() {
        assert_eq!(StreamEntryId::read(b"9007199254740991-0"), Ok(StreamEntryId::new(MAX_SAFE_INTEGER, 0)));
        for (text, want) in [
            ("9007199254740992-0", DecodeCause::OutOfRange),
            ("0-18446744073709551616", DecodeCause::OutOfRange),
            ("01-0", DecodeCause::BadId),
            ("5", DecodeCause::BadId),
            ("start", DecodeCause::BadId),
            ("", DecodeCause::BadId),
        ] {
            assert_eq!(StreamEntryId::read(text.as_bytes()), Err(want), "{text}");
        }
    }
}
