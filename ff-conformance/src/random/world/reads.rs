//! Reads and maintenance.

use super::prelude::*;

impl World {
    /// An operation of these domains, or none for one of another.
    pub(super) fn draw_reads(&self, name: OpName, d: &Dice<'_>) -> Option<Operation> {
        Some(match name {
            OpName::GetExecution => GetExecutionArgs { execution_id: self.existing(d) }.into(),
            OpName::DescribeExecution => DescribeExecutionArgs { execution_id: self.existing(d) }.into(),
            OpName::ListExecutions => {
                let limit = if d.chance(5) { 0 } else { 1000 };
                ListExecutionsArgs::builder().partition(PARTITION).limit(limit).build().into()
            }
            OpName::ListAttempts => {
                ListAttemptsArgs::builder().execution_id(self.existing(d)).limit(1000).build().into()
            }
            OpName::GetPayload => GetPayloadArgs { execution_id: self.existing(d) }.into(),
            OpName::GetResult => {
                let of = match d.below(3) {
                    0 => ResultSelector::Last,
                    1 => ResultSelector::Run(d.below(2)),
                    _ => ResultSelector::Attempt(AttemptIndex(d.below(3))),
                };
                GetResultArgs::builder().execution_id(self.seen(d, Seen::Completed)).of(of).build().into()
            }
            OpName::LaneCounts => LaneCountsArgs::builder().lane_id(Self::lane(d)).partition(PARTITION).build().into(),
            OpName::Sweep => {
                let limit = [1, 2, 100][d.below(3) as usize];
                SweepArgs::builder().partition(PARTITION).limit(limit).build().into()
            }
            OpName::RebuildIndexes => RebuildIndexesArgs::builder().partition(PARTITION).limit(1000).build().into(),
            _ => return None,
        })
    }
}
