//! Budgets, quota policies and streams.

use super::prelude::*;

impl World {
    /// An operation of these domains, or none for one of another.
    pub(super) fn draw_resources(&self, name: OpName, d: &Dice<'_>) -> Option<Operation> {
        Some(match name {
            OpName::CreateBudget => {
                let limits = Limits { hard: Some(10), soft: d.chance(50).then_some(5) };
                CreateBudgetArgs::builder()
                    .budget_id(Self::budget_id(d))
                    .dimensions(BTreeMap::from([(valid!(Dimension, "tokens"), limits)]))
                    .maybe_reset_interval_ms(d.chance(60).then_some(5_000))
                    .build()
                    .into()
            }
            OpName::ReportUsage => {
                let dimension = valid!(Dimension, ["tokens", "calls"][d.below(2) as usize]);
                let amounts = match d.below(100) {
                    0..=3 => vec![(dimension, ff_core::time::MAX_SAFE_INTEGER)],
                    4..=15 => {
                        let of = d.below(2);
                        (0..40).map(|i| (valid!(Dimension, format!("d{of}.{i}")), 1)).collect()
                    }
                    _ => vec![(dimension, u64::from(d.below(8)))],
                };
                ReportUsageArgs::builder()
                    .budget_id(Self::budget_id(d))
                    .amounts(amounts)
                    .mode(if d.chance(50) { ReportMode::Record } else { ReportMode::Reserve })
                    .maybe_dedup_key(d.chance(30).then(|| format!("u{}", d.below(3))))
                    .build()
                    .into()
            }
            OpName::ResetBudget => ResetBudgetArgs::builder()
                .budget_id(Self::budget_id(d))
                .by(["ops", "boss"][d.below(2) as usize])
                .maybe_dedup_key(d.chance(30).then(|| "r".to_owned()))
                .build()
                .into(),
            OpName::GetBudgetStatus => GetBudgetStatusArgs { budget_id: Self::budget_id(d) }.into(),
            OpName::CreateQuotaPolicy => CreateQuotaPolicyArgs::builder()
                .quota_policy_id(Self::quota_id(d))
                .max_requests_per_window(2)
                .window_ms(10_000)
                .maybe_max_concurrent(d.chance(60).then_some(1))
                .build()
                .into(),
            OpName::CheckAdmission => CheckAdmissionArgs {
                quota_policy_id: Self::quota_id(d),
                execution_id: Self::execution(d),
                attempt_index: AttemptIndex(d.below(2)),
                lease_epoch: LeaseEpoch(u64::from(d.below(3)) + 1),
                slot_ttl_ms: 5_000,
            }
            .into(),
            OpName::ReleaseAdmission => ReleaseAdmissionArgs {
                quota_policy_id: Self::quota_id(d),
                execution_id: Self::execution(d),
                attempt_index: AttemptIndex(d.below(2)),
                lease_epoch: LeaseEpoch(u64::from(d.below(3)) + 1),
            }
            .into(),
            OpName::GetQuotaStatus => GetQuotaStatusArgs { quota_policy_id: Self::quota_id(d) }.into(),
            OpName::AppendFrame => {
                let (id, fence) = self.owned(d);
                AppendFrameArgs::builder()
                    .execution_id(id)
                    .fence(fence)
                    .frame_type("log")
                    .payload(Bytes::from(vec![7_u8; d.below(3) as usize]))
                    .maybe_seq(d.chance(50).then(|| u64::from(d.below(6)) + 1))
                    .build()
                    .into()
            }
            OpName::ReadFrames => {
                let (execution_id, attempt_index) = self.attempt(d);
                ReadFramesArgs::builder().execution_id(execution_id).attempt_index(attempt_index).build().into()
            }
            OpName::TailFrames => {
                let (execution_id, attempt_index) = self.attempt(d);
                TailFramesArgs::builder()
                    .execution_id(execution_id)
                    .attempt_index(attempt_index)
                    .block_ms(0)
                    .build()
                    .into()
            }
            _ => return None,
        })
    }

    fn attempt(&self, d: &Dice<'_>) -> (ExecutionId, AttemptIndex) {
        let id = self.existing(d);
        let attempts = self.known.get(&id).map_or(0, |k| k.attempts);
        (id, AttemptIndex(d.below(attempts + u32::from(d.chance(10)))))
    }
}
