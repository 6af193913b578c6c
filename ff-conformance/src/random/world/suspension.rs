//! Suspensions, waitpoints, signals and keys.

use super::prelude::*;

impl World {
    /// An operation of these domains, or none for one of another.
    pub(super) fn draw_suspension(&self, name: OpName, d: &Dice<'_>, n: u32) -> Option<Operation> {
        Some(match name {
            OpName::SuspendExecution => {
                let (id, fence) = self.owned(d);
                let fresh = WaitpointBinding::Fresh {
                    waitpoint_id: self.waitpoint_id(d, id, n),
                    sources: if d.chance(40) {
                        vec![SignalSource::new("human", "ann"), SignalSource::new("human", "bob")]
                    } else {
                        Vec::new()
                    },
                };
                let mut waitpoints = vec![fresh];
                let pending = self.known.get(&id).and_then(|k| k.waitpoints.last());
                if let Some((waitpoint_id, _)) = pending
                    && d.chance(40)
                {
                    let unknown = WaitpointId::from_uuid(uuid(9, 6));
                    let waitpoint_id = if d.chance(5) { unknown } else { *waitpoint_id };
                    if waitpoints.iter().all(|bound| bound.waitpoint_id() != waitpoint_id) {
                        waitpoints.push(WaitpointBinding::Pending { waitpoint_id });
                    }
                }
                let timeout = match d.below(4) {
                    0 => SuspensionTimeout::Never,
                    1 | 2 => SuspensionTimeout::After {
                        after_ms: 1 + u64::from(d.below(3)) * 1_500,
                        behavior: Self::behavior(d),
                    },
                    _ => SuspensionTimeout::Default,
                };
                SuspendExecutionArgs::builder()
                    .execution_id(id)
                    .fence(fence)
                    .suspension_id(match self.known.get(&id).and_then(|k| k.suspensions.last()) {
                        Some(last) if d.chance(8) => *last,
                        _ => SuspensionId::from_uuid(uuid(7, n)),
                    })
                    .waitpoints(waitpoints)
                    .reason_code(SuspensionReason::ALL[d.below(9) as usize])
                    .resume_condition(Self::condition(d))
                    .resume_policy(ResumePolicy {
                        resume_delay_ms: if d.chance(30) { 500 } else { 0 },
                        allow_operator_override: !d.chance(15),
                    })
                    .timeout(timeout)
                    .build()
                    .into()
            }
            OpName::ResumeExecution => {
                let id = self.seen(d, Seen::Suspended);
                let suspension = self.known.get(&id).and_then(|k| d.recent(&k.suspensions)).copied();
                ResumeExecutionArgs::builder()
                    .execution_id(id)
                    .maybe_suspension_id(match d.below(20) {
                        0 => Some(SuspensionId::from_uuid(uuid(9, 7))),
                        1..=11 => suspension,
                        _ => None,
                    })
                    .by("ops")
                    .reason("go on")
                    .build()
                    .into()
            }
            OpName::CreatePendingWaitpoint => {
                let (id, fence) = self.owned(d);
                CreatePendingWaitpointArgs::builder()
                    .execution_id(id)
                    .fence(fence)
                    .waitpoint_id(self.waitpoint_id(d, id, n))
                    .expires_in_ms([500, 1_000, 60_000][d.below(3) as usize])
                    .build()
                    .into()
            }
            OpName::CloseWaitpoint => {
                let (execution_id, fence) = self.owned(d);
                let (waitpoint_id, _, _) = self.waitpoint(d, execution_id);
                CloseWaitpointArgs { execution_id, fence, waitpoint_id, reason: "not needed".to_owned() }.into()
            }
            OpName::ExpireSuspension => {
                let id = self.seen(d, Seen::Suspended);
                let suspension = self.known.get(&id).and_then(|k| d.recent(&k.suspensions)).copied();
                let suspension_id = suspension.unwrap_or(SuspensionId::from_uuid(uuid(9, 4)));
                ExpireSuspensionArgs { execution_id: id, suspension_id }.into()
            }
            OpName::ListPendingWaitpoints => ListPendingWaitpointsArgs::builder()
                .execution_id(self.existing(d))
                .include_tokens(d.chance(30))
                .build()
                .into(),
            OpName::DeliverSignal | OpName::BufferSignal => self.signal(name, d, n),
            OpName::ListSignals => {
                ListSignalsArgs::builder().execution_id(self.existing(d)).matched_only(d.chance(30)).build().into()
            }
            OpName::RotateWaitpointHmacSecret => {
                let which = u8::try_from(d.below(3)).unwrap_or(0);
                let secret = if d.chance(95) { which } else { which + 9 };
                RotateWaitpointHmacSecretArgs::builder()
                    .partition(PARTITION)
                    .new_kid(valid!(Kid, format!("k{which}")))
                    .new_secret(WaitpointSecret::new([secret; 32]))
                    .grace_ms(60_000)
                    .build()
                    .into()
            }
            OpName::RevokeWaitpointKid => {
                RevokeWaitpointKidArgs { partition: PARTITION, kid: valid!(Kid, format!("k{}", d.below(4))) }.into()
            }
            OpName::ListWaitpointHmacKids => ListWaitpointHmacKidsArgs { partition: PARTITION }.into(),
            _ => return None,
        })
    }

    fn signal(&self, name: OpName, d: &Dice<'_>, n: u32) -> Operation {
        let ids: Vec<ExecutionId> =
            self.known.iter().filter(|(_, k)| !k.waitpoints.is_empty()).map(|(id, _)| *id).collect();
        let suspended = self.seen(d, Seen::Suspended);
        let id = if ids.contains(&suspended) && d.chance(60) {
            suspended
        } else {
            d.pick(&ids).copied().unwrap_or(suspended)
        };
        let (waitpoint_id, token, source) = self.waitpoint(d, id);
        let (signal_id, word) = match d.pick(&self.signals) {
            Some((signal_id, word)) if d.chance(12) => (*signal_id, word.clone()),
            _ => (SignalId::from_uuid(uuid(8, n)), ["go", "stop", "noise"][d.below(3) as usize].to_owned()),
        };
        let key = d.chance(25).then(|| format!("s{}", d.below(4)));
        if name == OpName::DeliverSignal {
            DeliverSignalArgs::builder()
                .execution_id(id)
                .waitpoint_id(waitpoint_id)
                .waitpoint_token(token)
                .signal_id(signal_id)
                .name(word)
                .source(source)
                .maybe_idempotency_key(key)
                .build()
                .into()
        } else {
            BufferSignalArgs::builder()
                .execution_id(id)
                .waitpoint_id(waitpoint_id)
                .waitpoint_token(token)
                .signal_id(signal_id)
                .name(word)
                .source(source)
                .maybe_idempotency_key(key)
                .build()
                .into()
        }
    }

    fn condition(d: &Dice<'_>) -> ResumeCondition {
        match d.below(6) {
            0 | 1 => ResumeCondition::any_signal(),
            2 => ResumeCondition::signal("go"),
            3 => ResumeCondition::count(2, Distinct::Signals, Matcher::any()),
            4 => ResumeCondition::all_of([Condition::signal("go"), Condition::signal("stop")]),
            _ => ResumeCondition::any_of([
                Condition::signal("stop"),
                Condition::count(2, Distinct::Sources, Matcher::any()),
            ]),
        }
    }

    /// The waitpoint and one of its tokens, mostly fitting.
    fn waitpoint(&self, d: &Dice<'_>, id: ExecutionId) -> (WaitpointId, WaitpointToken, SignalSource) {
        let none = (WaitpointId::from_uuid(uuid(9, 3)), WaitpointToken::new("ffw1.k1.bad"), Self::source(d));
        let Some(known) = self.known.get(&id) else { return none };
        let Some((waitpoint, tokens)) = d.recent(&known.waitpoints) else { return none };
        match d.pick(tokens) {
            Some(issued) if d.chance(97) => {
                let bound = issued.source.clone().filter(|_| !d.chance(8));
                let source = bound.unwrap_or_else(|| Self::source(d));
                (*waitpoint, issued.token.clone(), source)
            }
            _ => (*waitpoint, none.1, none.2),
        }
    }

    fn source(d: &Dice<'_>) -> SignalSource {
        SignalSource::new("human", ["ann", "bob"][d.below(2) as usize])
    }

    /// A fresh id, seldom one that is spent.
    fn waitpoint_id(&self, d: &Dice<'_>, of: ExecutionId, n: u32) -> WaitpointId {
        match self.known.get(&of).and_then(|k| k.waitpoints.last()) {
            Some((spent, _)) if d.chance(6) => *spent,
            _ => WaitpointId::from_uuid(uuid(5, n)),
        }
    }
}
