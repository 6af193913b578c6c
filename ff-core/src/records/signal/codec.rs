//! The flat forms of signal and dedup entry: `resources.md`, section 6.

use bytes::Bytes;

use super::{DedupRecord, SignalAuth, SignalRecord};
use crate::bounds::{MAX_KEY_BYTES, MAX_LABEL_BYTES, MAX_NAME_BYTES};
use crate::contracts::SignalSource;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::ids::{ExecutionId, SignalId};
use crate::records::flat::{Field, FlatMap, Reader, Registry, Writer};

/// `engine`, or `token:<kid>:<0 or 1>`.
impl Field for SignalAuth {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeCause::NotUtf8)?;
        if text == "engine" {
            return Ok(Self::Engine);
        }
        let parts = text.strip_prefix("token:").and_then(|rest| rest.split_once(':'));
        let (kid, source_bound) = parts.ok_or(DecodeCause::UnknownValue)?;
        Ok(Self::Token { kid: Field::read(kid.as_bytes())?, source_bound: Field::read(source_bound.as_bytes())? })
    }
    fn write(&self) -> Bytes {
        match self {
            Self::Token { kid, source_bound } => Bytes::from(format!("token:{kid}:{}", u8::from(*source_bound))),
            Self::Engine => Bytes::from_static(b"engine"),
        }
    }
}

impl SignalRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "signal",
        fields: &[
            "execution_id",
            "signal_id",
            "seq",
            "accepted_at",
            "waitpoint_id",
            "name",
            "category",
            "source_type",
            "source_identity",
            "correlation_id",
            "idempotency_key",
            "payload",
            "encoding",
            "auth",
            "effect",
        ],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("execution_id", &self.execution_id)
            .put("signal_id", &self.signal_id)
            .put("seq", &self.seq)
            .put("accepted_at", &self.accepted_at)
            .put_opt("waitpoint_id", self.waitpoint_id.as_ref())
            .text("name", &self.name)
            .text("category", &self.category)
            .text("source_type", &self.source.source_type)
            .text("source_identity", &self.source.source_identity)
            .text_opt("correlation_id", self.correlation_id.as_deref())
            .text_opt("idempotency_key", self.idempotency_key.as_deref())
            .raw("payload", self.payload.clone())
            .text_opt("encoding", self.encoding.as_deref())
            .put("auth", &self.auth)
            .put("effect", &self.effect);
        out.finish()
    }

    /// Reads the flat form of this execution's signal with this `seq`, which is at least 1.
    ///
    /// # Errors
    /// The first thing that is wrong: version, unknown fields, fields in the table's order, rules between them.
    pub fn decode(execution_id: ExecutionId, seq: u64, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        reader.same_id(reader.get::<ExecutionId>("execution_id")? == execution_id, "execution_id")?;
        let signal_id = reader.get("signal_id")?;
        reader.same_id(reader.with("seq", positive)? == seq, "seq")?;
        let accepted_at = reader.get("accepted_at")?;
        let waitpoint_id = reader.get_opt("waitpoint_id")?;
        let name = reader.text("name", 1, MAX_NAME_BYTES)?;
        let category = reader.text("category", 1, MAX_NAME_BYTES)?;
        let source = SignalSource {
            source_type: reader.text("source_type", 1, MAX_NAME_BYTES)?,
            source_identity: reader.text("source_identity", 1, MAX_NAME_BYTES)?,
        };
        let correlation_id = reader.text_opt("correlation_id", 1, MAX_KEY_BYTES)?;
        let idempotency_key = reader.text_opt("idempotency_key", 1, MAX_KEY_BYTES)?;
        let payload = reader.required("payload")?.clone();
        let encoding = reader.text_opt("encoding", 1, MAX_LABEL_BYTES)?;
        let auth = reader.get("auth")?;
        let effect = reader.get("effect")?;

        reader.ensure(waitpoint_id.is_some() == (auth != SignalAuth::Engine), "waitpoint_id")?;
        Ok(Self {
            execution_id,
            signal_id,
            seq,
            accepted_at,
            waitpoint_id,
            name,
            category,
            source,
            correlation_id,
            idempotency_key,
            payload,
            encoding,
            auth,
            effect,
        })
    }
}

fn positive(bytes: &[u8]) -> Result<u64, DecodeCause> {
    match u64::read(bytes)? {
        0 => Err(DecodeCause::OutOfRange),
        seq => Ok(seq),
    }
}

impl DedupRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "dedup",
        fields: &["execution_id", "signal_id", "waitpoint_id", "idempotency_key", "digest", "effect"],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("execution_id", &self.execution_id)
            .put("signal_id", &self.signal_id)
            .put("waitpoint_id", &self.waitpoint_id)
            .text_opt("idempotency_key", self.idempotency_key.as_deref())
            .put("digest", &self.digest)
            .put("effect", &self.effect);
        out.finish()
    }

    /// Reads the flat form of what recognises this signal of this execution.
    ///
    /// # Errors
    /// The first thing that is wrong: version, unknown fields, fields in the table's order.
    pub fn decode(execution_id: ExecutionId, signal_id: SignalId, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        reader.same_id(reader.get::<ExecutionId>("execution_id")? == execution_id, "execution_id")?;
        reader.same_id(reader.get::<SignalId>("signal_id")? == signal_id, "signal_id")?;
        Ok(Self {
            execution_id,
            signal_id,
            waitpoint_id: reader.get("waitpoint_id")?,
            idempotency_key: reader.text_opt("idempotency_key", 1, MAX_KEY_BYTES)?,
            digest: reader.get("digest")?,
            effect: reader.get("effect")?,
        })
    }
}
