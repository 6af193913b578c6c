//! Creating, ending, pausing and changing executions.

use super::prelude::*;

impl World {
    /// An operation of these domains, or none for one of another.
    pub(super) fn draw_execution(&self, name: OpName, d: &Dice<'_>, n: u32, now: TimestampMs) -> Option<Operation> {
        Some(match name {
            OpName::CreateExecution => {
                let mut id = Self::execution(d);
                let flow = d.chance(35).then(|| Self::flow(d));
                let members = flow.and_then(|f| self.members.get(&f)).cloned().unwrap_or_default();
                let key = d.chance(20).then(|| format!("key{}", d.below(2)));
                let namespace = valid!(Namespace, if d.chance(4) { "other" } else { "ns" });
                let config = ff_core::partition::PartitionConfig::default();
                if let (Some(key), None) = (&key, flow) {
                    // Equal keys meet where their key belongs; elsewhere the call is refused.
                    let home = ExecutionId::partition_of_key(config, &namespace, key);
                    if d.chance(90) {
                        id = ExecutionId::from_parts(home, id.uuid());
                    }
                }
                let join = flow.map(|flow_id| {
                    let edges = members
                        .iter()
                        .filter(|m| **m != id)
                        .take(d.below(3) as usize)
                        .enumerate()
                        .map(|(i, up)| {
                            let serial = n * 8 + u32::try_from(i).unwrap_or(0);
                            let mut edge = IncomingEdge::new(EdgeId::from_uuid(uuid(6, serial)), *up);
                            edge.dependency_kind = Self::kind(d);
                            edge.data_passing_ref = d.chance(40).then(|| {
                                valid!(DataName, if d.chance(10) { "in0".to_owned() } else { format!("in{i}") })
                            });
                            edge
                        })
                        .collect();
                    FlowJoin { flow_id, hold: d.chance(30), edges }
                });
                CreateExecutionArgs::builder()
                    .execution_id(id)
                    .namespace(namespace)
                    .lane_id(Self::lane(d))
                    .kind("job")
                    .payload(Bytes::from(vec![0_u8; d.below(4) as usize]))
                    .priority([0, 0, 5, i32::MIN, i32::MAX][d.below(5) as usize])
                    .policy(Arc::new(Self::policy(d)))
                    .maybe_delay(d.chance(20).then(|| Self::when(d, now)))
                    .maybe_idempotency_key(key)
                    .maybe_flow(join)
                    .build()
                    .into()
            }
            OpName::CompleteExecution => {
                let (id, actor) = self.actor(d);
                CompleteExecutionArgs::builder()
                    .execution_id(id)
                    .actor(actor)
                    .maybe_result(match d.below(100) {
                        0 => Some(Bytes::from(vec![0; (1 << 20) + 1])),
                        1..=50 => Some(Bytes::from_static(b"done")),
                        _ => None,
                    })
                    .build()
                    .into()
            }
            OpName::FailExecution => {
                let (id, actor) = self.actor(d);
                FailExecutionArgs::builder()
                    .execution_id(id)
                    .actor(actor)
                    .reason("broke")
                    .category("error")
                    .no_retry(d.chance(10))
                    .build()
                    .into()
            }
            OpName::CancelExecution => {
                let (execution_id, actor) = self.actor(d);
                CancelExecutionArgs { execution_id, actor, reason: "enough".to_owned() }.into()
            }
            OpName::ExpireExecution => {
                let execution_id = self.existing(d);
                let attempts = self.known.get(&execution_id).map_or(0, |k| k.attempts);
                let timer = if d.chance(50) {
                    ExpiryTimer::AttemptTimeout { attempt_index: AttemptIndex(attempts.saturating_sub(1)) }
                } else {
                    ExpiryTimer::Deadline
                };
                ExpireExecutionArgs { execution_id, timer }.into()
            }
            OpName::DelayExecution => {
                let (execution_id, actor) = self.actor(d);
                DelayExecutionArgs { execution_id, actor, until: Self::when(d, now) }.into()
            }
            OpName::MoveToWaitingChildren => {
                let (execution_id, fence) = self.owned(d);
                MoveToWaitingChildrenArgs { execution_id, fence }.into()
            }
            OpName::ReplayExecution => {
                let id = self.seen(d, Seen::Completed);
                let count = self.known.get(&id).map_or(0, |k| k.replay_count);
                let count = if d.chance(90) { count } else { count.saturating_sub(1) };
                ReplayExecutionArgs::builder()
                    .execution_id(id)
                    .replay_count(count)
                    .reason("again")
                    .by("ops")
                    .reopen_skipped(d.chance(50))
                    .build()
                    .into()
            }
            OpName::ChangePriority => {
                let priority = [0, 7, i32::MIN, i32::MAX][d.below(4) as usize];
                let execution_id = self.existing(d);
                let partition = if d.chance(4) { u16::MAX } else { execution_id.partition() };
                ChangePriorityArgs { execution_id: ExecutionId::from_parts(partition, execution_id.uuid()), priority }
                    .into()
            }
            OpName::UpdateProgress => {
                let (id, fence) = self.owned(d);
                let pct = u8::try_from(d.below(102)).unwrap_or(0);
                UpdateProgressArgs::builder()
                    .execution_id(id)
                    .fence(fence)
                    .pct(pct)
                    .maybe_message(d.chance(40).then(|| "half".to_owned()))
                    .build()
                    .into()
            }
            OpName::SetExecutionTags => {
                SetExecutionTagsArgs { execution_id: self.existing(d), tags: Self::tags(d) }.into()
            }
            OpName::BlockExecution => BlockExecutionArgs::builder()
                .execution_id(self.existing(d))
                .reason(BlockReason::ALL[d.below(5) as usize])
                .maybe_until(d.chance(50).then(|| Self::when(d, now)))
                .by("ops")
                .build()
                .into(),
            OpName::UnblockExecution => {
                UnblockExecutionArgs { execution_id: self.existing(d), reason: BlockReason::ALL[d.below(5) as usize] }
                    .into()
            }
            _ => return None,
        })
    }
}
