//! Quota policy and its slots: `resources.md`, sections 2 and 6.

use serde::{Deserialize, Serialize};

use crate::canon::u;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::contracts::{CreateQuotaPolicyArgs, MAX_JITTER_MS, MAX_QUOTA};
use crate::ids::{AttemptIndex, ExecutionId, LeaseEpoch, QuotaPolicyId};
use crate::records::flat::{FlatMap, Reader, Registry, Writer, read_number};
use crate::time::{MAX_DURATION_MS, TimestampMs};

/// How many admissions a sliding window takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateWindow {
    /// Admissions per window.
    pub max_requests: u64,
    /// The window in milliseconds.
    pub window_ms: u64,
}

/// A rate window and a concurrency cap. Its definition never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaPolicyRecord {
    /// Its id.
    pub quota_policy_id: QuotaPolicyId,
    /// The rate, if there is one.
    pub rate: Option<RateWindow>,
    /// The cap, if there is one.
    pub max_concurrent: Option<u64>,
    /// The spread of `retry_at`, in milliseconds.
    pub jitter_ms: u64,
    /// When it was created.
    pub created_at: TimestampMs,
}

/// What is admitted: one attempt of one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AdmissionIdentity {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt that the claim starts or continues.
    pub attempt_index: AttemptIndex,
}

/// A place under the concurrency cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionSlotRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt.
    pub attempt_index: AttemptIndex,
    /// The lease that it is for.
    pub lease_epoch: LeaseEpoch,
    /// When it lapses.
    pub expires_at: TimestampMs,
}

impl QuotaPolicyRecord {
    /// Whether a creation asks for this very definition.
    #[must_use]
    pub fn is_defined_by(&self, args: &CreateQuotaPolicyArgs) -> bool {
        self.rate.map(|r| r.max_requests) == args.max_requests_per_window
            && self.rate.map(|r| r.window_ms) == args.window_ms
            && self.max_concurrent == args.max_concurrent
            && self.jitter_ms == args.jitter_ms
    }
}

impl AdmissionIdentity {
    /// What is added to its `retry_at`, in milliseconds: a function of the identity alone, `0..=jitter_ms`, equal on
    /// every backend and in every repeat.
    #[must_use]
    pub fn jitter(&self, jitter_ms: u64) -> u64 {
        match jitter_ms {
            0 => 0,
            _ => u(format!("{}:{}", self.attempt_index, self.execution_id).as_bytes()) % (jitter_ms + 1),
        }
    }
}

fn within(low: u64, high: u64) -> impl Fn(&[u8]) -> Result<u64, DecodeCause> {
    move |bytes| match read_number(bytes)? {
        n if (low..=high).contains(&n) => Ok(n),
        _ => Err(DecodeCause::OutOfRange),
    }
}

impl QuotaPolicyRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "quota_policy",
        fields: &[
            "quota_policy_id",
            "jitter_ms",
            "created_at",
            "max_concurrent",
            "max_requests_per_window",
            "window_ms",
        ],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("quota_policy_id", &self.quota_policy_id)
            .put("jitter_ms", &self.jitter_ms)
            .put("created_at", &self.created_at)
            .put_opt("max_concurrent", self.max_concurrent.as_ref());
        if let Some(rate) = &self.rate {
            out.put("max_requests_per_window", &rate.max_requests).put("window_ms", &rate.window_ms);
        }
        out.finish()
    }

    /// Reads the flat form of this policy.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(quota_policy_id: &QuotaPolicyId, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        let own: QuotaPolicyId = reader.get("quota_policy_id")?;
        reader.same_id(own == *quota_policy_id, "quota_policy_id")?;
        let jitter_ms = reader.with("jitter_ms", within(0, MAX_JITTER_MS))?;
        let created_at = reader.get("created_at")?;
        let max_concurrent = reader.with_opt("max_concurrent", within(1, MAX_QUOTA))?;
        let rate = reader.group(&["max_requests_per_window", "window_ms"])?.then(|| {
            Ok(RateWindow {
                max_requests: reader.with("max_requests_per_window", within(1, MAX_QUOTA))?,
                window_ms: reader.with("window_ms", within(1, MAX_DURATION_MS))?,
            })
        });
        let rate = rate.transpose()?;
        // A policy that limits nothing cannot have been created.
        reader.ensure(max_concurrent.is_some() || rate.is_some(), "max_concurrent")?;
        Ok(Self { quota_policy_id: own, rate, max_concurrent, jitter_ms, created_at })
    }
}

impl AdmissionSlotRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "admission_slot",
        fields: &["execution_id", "attempt_index", "lease_epoch", "expires_at"],
        prefixes: &[],
    };

    /// Whose slot it is.
    #[must_use]
    pub const fn identity(&self) -> AdmissionIdentity {
        AdmissionIdentity { execution_id: self.execution_id, attempt_index: self.attempt_index }
    }

    /// Whether it lives: it is gone at its `expires_at`.
    #[must_use]
    pub fn is_live(&self, now: TimestampMs) -> bool {
        now < self.expires_at
    }

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("execution_id", &self.execution_id)
            .put("attempt_index", &self.attempt_index)
            .put("lease_epoch", &self.lease_epoch)
            .put("expires_at", &self.expires_at);
        out.finish()
    }

    /// Reads the flat form of this identity's slot.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(identity: AdmissionIdentity, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        let execution_id = reader.get("execution_id")?;
        reader.same_id(identity.execution_id == execution_id, "execution_id")?;
        let attempt_index = reader.get("attempt_index")?;
        reader.same_id(identity.attempt_index == attempt_index, "attempt_index")?;
        Ok(Self {
            execution_id,
            attempt_index,
            lease_epoch: reader.get("lease_epoch")?,
            expires_at: reader.get("expires_at")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::contracts::decode::{decode_admission_slot, decode_quota_policy};
    use crate::records::testing::{cause, damage, damaged, decodes_or_tells, execution_id, instant, number};

    fn policy() -> impl Strategy<Value = QuotaPolicyRecord> {
        let id = "[A-Za-z0-9._:/-]{1,128}".prop_map(|text| QuotaPolicyId::new(text).expect("of its charset"));
        let rate = (1..=MAX_QUOTA, 1..=MAX_DURATION_MS)
            .prop_map(|(max_requests, window_ms)| RateWindow { max_requests, window_ms });
        (id, rate, 1..=MAX_QUOTA, 0_u8..3, 0..=MAX_JITTER_MS, instant()).prop_map(
            |(quota_policy_id, rate, cap, which, jitter_ms, created_at)| QuotaPolicyRecord {
                quota_policy_id,
                rate: (which != 1).then_some(rate),
                max_concurrent: (which != 0).then_some(cap),
                jitter_ms,
                created_at,
            },
        )
    }

    fn slot() -> impl Strategy<Value = AdmissionSlotRecord> {
        (execution_id(), any::<u32>(), number(), instant()).prop_map(|(execution_id, index, epoch, expires_at)| {
            AdmissionSlotRecord {
                execution_id,
                attempt_index: AttemptIndex(index),
                lease_epoch: LeaseEpoch(epoch),
                expires_at,
            }
        })
    }

    proptest! {
        #[test]
        fn policies_survive_their_flat_form(policy in policy()) {
            prop_assert_eq!(decode_quota_policy(&policy.quota_policy_id, &policy.encode()), Ok(policy));
        }

        #[test]
        fn damaged_policies_decode_or_tell(policy in policy(), damage in damage()) {
            let map = damaged(policy.encode(), &damage);
            decodes_or_tells(&map, decode_quota_policy(&policy.quota_policy_id, &map), QuotaPolicyRecord::encode);
        }

        #[test]
        fn slots_survive_their_flat_form(slot in slot()) {
            prop_assert_eq!(decode_admission_slot(slot.identity(), &slot.encode()), Ok(slot));
        }

        #[test]
        fn damaged_slots_decode_or_tell(slot in slot(), damage in damage()) {
            let map = damaged(slot.encode(), &damage);
            decodes_or_tells(&map, decode_admission_slot(slot.identity(), &map), AdmissionSlotRecord::encode);
        }
    }

    #[test]
    fn jitter_vectors_of_the_contract() {
        let execution_id = "e7_01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("well formed");
        for (index, want) in [(0, 24), (1, 258), (2, 472), (10, 109)] {
            let identity = AdmissionIdentity { execution_id, attempt_index: AttemptIndex(index) };
            assert_eq!(identity.jitter(1_000), want, "attempt {index}");
            assert_eq!(identity.jitter(0), 0);
        }
    }

    #[test]
    fn a_policy_that_limits_nothing_or_half_a_rate_is_corruption() {
        let map: FlatMap = [("v", "1.0"), ("quota_policy_id", "q"), ("jitter_ms", "0"), ("created_at", "5")]
            .map(|(name, value)| (name.to_owned(), Bytes::from_static(value.as_bytes())))
            .into();
        let id = "q".parse().expect("well formed");
        assert_eq!(cause(decode_quota_policy(&id, &map)), ("max_concurrent".into(), DecodeCause::IllegalState));
        for (given, missing) in [("window_ms", "max_requests_per_window"), ("max_requests_per_window", "window_ms")] {
            let mut map = map.clone();
            map.insert(given.into(), Bytes::from_static(b"5"));
            assert_eq!(cause(decode_quota_policy(&id, &map)), (missing.into(), DecodeCause::IncompleteGroup));
        }
    }
}
