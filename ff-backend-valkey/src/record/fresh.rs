//! The record of an execution that nothing delays, as its creation sends it; Lua sets the instants that are its own.

use ff_core::contracts::CreateExecutionArgs;

use super::VERSION;
use crate::call::NONE;

/// The header and tail of a READY execution without key, flow, delay and deadline; its creation, last transition and
/// last mutation are zero.
///
/// None where a part is longer than its length can say, which no valid arguments reach.
pub(crate) fn fresh(args: &CreateExecutionArgs, parts: &Parts<'_>, record: &mut Vec<u8>) -> Option<()> {
    let policy = &*args.policy;
    let mut w = Header(record);
    // Version, READY, first, no label.
    w.0.extend_from_slice(&[VERSION, 1, 1, 0]);
    // Member, rare fields, waitpoints, delay.
    w.zeros(2 + 4 + 4).byte(0).long(NONE);
    w.u16(parts.route.len())?;
    w.u32(u32::try_from(parts.tags.len()).ok()?);
    w.u16(parts.frozen.len())?;
    w.u32(u32::try_from(parts.core.len()).ok()?);
    // Deadline, attempt timeout, replays, retention, key.
    w.long(NONE).long(policy.timeouts.attempt_timeout_ms.unwrap_or(NONE)).u32(0).long(policy.retention_ms).long(NONE);
    // Holder, attempts, start; lease, epoch, attempt.
    w.u16(0)?;
    w.u32(0).long(NONE).zeros(16).long(0).zeros(16 + 1 + 4).long(NONE);
    w.byte(0).long(NONE).long(NONE);
    // Last call, transition, mutation, end.
    w.u16(0)?;
    w.long(0).long(0).long(NONE).long(NONE).zeros(2);
    // The attempt's state, deadline, rest, end; the lease.
    w.byte(0).long(NONE).long(NONE).long(NONE).zeros(2).byte(0).long(NONE).long(NONE).long(NONE);
    w.byte(u8::from(!policy.budget_ids.is_empty() || policy.quota_policy_id.is_some()));
    w.0.extend_from_slice(&args.priority.to_be_bytes());
    // Creation, retries and reclaims of this run and of all; signals and their first seq; suspension timeout.
    w.long(0).zeros(4 * 4).u32(0).long(0).long(1).long(NONE);
    w.u32(policy.retry.max_retries).u32(policy.max_reclaims);
    w.0.extend_from_slice(args.fingerprint().as_bytes());
    for part in [parts.route.as_bytes(), parts.tags, parts.frozen, parts.core] {
        w.0.extend_from_slice(part);
    }
    Some(())
}

/// The tail's parts that a new execution has.
pub(crate) struct Parts<'a> {
    pub(crate) route: &'a str,
    pub(crate) tags: &'a [u8],
    pub(crate) frozen: &'a [u8],
    pub(crate) core: &'a [u8],
}

struct Header<'a>(&'a mut Vec<u8>);

impl Header<'_> {
    fn byte(&mut self, n: u8) -> &mut Self {
        self.0.push(n);
        self
    }

    fn u16(&mut self, n: usize) -> Option<()> {
        self.0.extend_from_slice(&u16::try_from(n).ok()?.to_be_bytes());
        Some(())
    }

    fn u32(&mut self, n: u32) -> &mut Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    fn long(&mut self, n: u64) -> &mut Self {
        self.0.extend_from_slice(&n.to_be_bytes()[1..]);
        self
    }

    fn zeros(&mut self, n: usize) -> &mut Self {
        self.0.resize(self.0.len() + n, 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use ff_core::ids::{ExecutionId, LaneId, Namespace};
    use uuid::Uuid;

    use super::*;
    use crate::record::Core;

    #[test]
    fn a_fresh_record_is_what_its_creation_says() {
        let id = ExecutionId::from_parts(7, Uuid::from_u128(1));
        let args = CreateExecutionArgs::builder()
            .execution_id(id)
            .namespace(Namespace::new("shop").expect("a namespace"))
            .lane_id(LaneId::new("mail").expect("a lane"))
            .kind("letter")
            .priority(-3)
            .build();
        let core = Core {
            namespace: &args.namespace,
            kind: &args.kind,
            encoding: None,
            creator: None,
            key: None,
            key_in_flow: false,
            policy: &args.policy,
        };
        let parts = Parts { route: "mail\n", tags: &[], frozen: &[], core: &core.pack() };
        let mut record = Vec::new();
        fresh(&args, &parts, &mut record).expect("short parts");
        let stored = crate::record::execution(id, &record).expect("a legal record");
        assert_eq!(stored.record.lane_id, args.lane_id);
        assert_eq!(stored.record.priority, -3);
        assert_eq!(stored.record.fingerprint.get(), args.fingerprint());
        assert_eq!(stored.record.next_signal_seq, 1);
        assert_eq!(stored.attempt, None);
        assert!(crate::record::execution(id, &record[..record.len() - 1]).is_err());
    }
}
