//! Domain reads.

use async_trait::async_trait;
use bytes::Bytes;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::{
    AttemptCursor, AttemptSummary, DescribeExecutionArgs, ExecutionCursor, ExecutionInfo, ExecutionSnapshot,
    ExecutionSummary, GetExecutionArgs, GetPayloadArgs, GetPayloadResult, GetResultArgs, GetResultResult, LaneCounts,
    LaneCountsArgs, ListAttemptsArgs, ListAttemptsResult, ListExecutionsArgs, ListExecutionsResult, ResultSelector,
};
use ff_core::engine_backend::ReadsOps;
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, ExecutionId};
use ff_core::state::PublicState;

use crate::ValkeyBackend;
use crate::call::unreadable;
use crate::history;
use crate::record;

/// How many records one call of a list examines.
const EXAMINED: u64 = 1000;

impl ValkeyBackend {
    async fn stored(
        &self,
        function: &str,
        id: ExecutionId,
    ) -> Result<(record::Stored, crate::call::Reply), EngineError> {
        let mut pack = self.pack();
        pack.uuid(id.uuid());
        let mut reply = self.at(function, id.partition(), pack).await?;
        Ok((record::execution(id, &reply.bytes()?)?, reply))
    }
}

#[async_trait]
impl ReadsOps for ValkeyBackend {
    async fn get_execution(&self, args: GetExecutionArgs) -> Result<ExecutionInfo, EngineError> {
        args.check(self.fixed())?;
        let (stored, _) = self.stored("ff_get_execution", args.execution_id).await?;
        Ok(ExecutionInfo::of(&stored.record))
    }

    async fn describe_execution(&self, args: DescribeExecutionArgs) -> Result<ExecutionSnapshot, EngineError> {
        args.check(self.fixed())?;
        let id = args.execution_id;
        let (stored, mut reply) = self.stored("ff_describe_execution", id).await?;
        let suspension = reply.list_opt()?.map(|mut flat| history::suspension(id, &mut flat)).transpose()?;
        Ok(ExecutionSnapshot::of(&stored.record, stored.attempt.as_ref(), suspension.as_ref()))
    }

    async fn list_executions(&self, args: ListExecutionsArgs) -> Result<ListExecutionsResult, EngineError> {
        args.check(self.fixed())?;
        let position = args.position()?;
        let first = args.partition.unwrap_or(0);
        let first = position.map_or(first, |cursor| cursor.after.partition());
        let last = args.partition.unwrap_or(self.fixed().partitions.partitions() - 1);
        let mut after = position.map(|cursor| cursor.after.uuid());
        let mut left = EXAMINED;
        let mut result = ListExecutionsResult::default();
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        for partition in first..=last {
            loop {
                let mut pack = self.pack();
                match after {
                    Some(uuid) => pack.uuid(uuid),
                    None => pack.absent(),
                };
                pack.num(left.min(100));
                let mut reply = self.at("ff_list_executions", partition, pack).await?;
                let mut records = reply.list()?;
                let more = reply.flag()?;
                while !records.is_over() {
                    let id = ExecutionId::from_parts(partition, records.uuid()?);
                    let bytes = records.bytes_opt()?;
                    left -= 1;
                    after = Some(id.uuid());
                    if let Some(bytes) = bytes {
                        let stored = record::execution(id, &bytes)?;
                        if args.matches(&stored.record) {
                            result.executions.push(ExecutionSummary::of(&stored.record));
                        }
                    }
                    let over = !more && records.is_over();
                    if (result.executions.len() == limit || left == 0) && !over {
                        result.next_cursor = Some(ExecutionCursor { after: id }.to_string());
                        return Ok(result);
                    }
                }
                if !more {
                    break;
                }
            }
            after = None;
            if partition < last && (result.executions.len() == limit || left == 0) {
                result.next_cursor = Some(ExecutionCursor::end_of(partition).to_string());
                return Ok(result);
            }
        }
        Ok(result)
    }

    async fn list_attempts(&self, args: ListAttemptsArgs) -> Result<ListAttemptsResult, EngineError> {
        args.check(self.fixed())?;
        let first = args.first()?.unwrap_or(AttemptIndex(0));
        let id = args.execution_id;
        let mut pack = self.pack();
        pack.uuid(id.uuid()).num(u64::from(first.get())).num(u64::from(args.limit));
        let mut reply = self.at("ff_list_attempts", id.partition(), pack).await?;
        let mut result = ListAttemptsResult::default();
        let mut attempts = reply.list()?;
        let mut last = first;
        while !attempts.is_over() {
            last = AttemptIndex(attempts.u32()?);
            result.attempts.push(AttemptSummary::of(&record::attempt(id, last, &attempts.bytes()?)?));
        }
        if reply.flag()? {
            result.next_cursor = Some(AttemptCursor { after: last }.to_string());
        }
        Ok(result)
    }

    async fn get_payload(&self, args: GetPayloadArgs) -> Result<GetPayloadResult, EngineError> {
        args.check(self.fixed())?;
        let id = args.execution_id;
        let mut pack = self.pack();
        pack.uuid(id.uuid());
        let mut reply = self.at("ff_get_payload", id.partition(), pack).await?;
        let payload = reply.bytes_opt()?.unwrap_or_else(Bytes::new);
        let stored = record::execution(id, &reply.bytes()?)?;
        Ok(GetPayloadResult { payload, payload_encoding: stored.payload_encoding })
    }

    async fn get_result(&self, args: GetResultArgs) -> Result<GetResultResult, EngineError> {
        args.check(self.fixed())?;
        let id = args.execution_id;
        let mut pack = self.pack();
        pack.uuid(id.uuid());
        match args.of {
            ResultSelector::Last => pack.text("last").num(0),
            ResultSelector::Run(run) => pack.text("run").num(u64::from(run)),
            ResultSelector::Attempt(index) => pack.text("attempt").num(u64::from(index.get())),
        };
        let mut reply = self.at("ff_get_result", id.partition(), pack).await?;
        let (run, completed_at) = (reply.u32()?, reply.at()?);
        let (result, encoding, closed) = (reply.bytes_opt()?, reply.text_opt()?, reply.bytes_opt()?);
        let record = record::run(id, run, result, encoding, closed.as_deref())?;
        Ok(GetResultResult { run, completed_at, result: record.result, result_encoding: record.result_encoding })
    }

    async fn lane_counts(&self, args: LaneCountsArgs) -> Result<LaneCounts, EngineError> {
        args.check(self.fixed())?;
        let partitions = match args.partition {
            Some(partition) => partition..=partition,
            None => 0..=self.fixed().partitions.partitions() - 1,
        };
        let asked = partitions.map(|partition| {
            let mut pack = self.pack();
            pack.text(args.lane_id.as_str());
            self.at("ff_lane_counts", partition, pack)
        });
        let mut sums = [0i64; 12];
        for reply in futures::future::try_join_all(asked).await? {
            let mut reply = reply;
            let mut fields = reply.list()?;
            while !fields.is_over() {
                // A field is from * 16 + to; 0 is nowhere.
                let (pair, n) = (fields.num()?, i64::try_from(fields.num()?).unwrap_or(0));
                let (from, to) = (usize::try_from(pair >> 4).unwrap_or(0), usize::try_from(pair & 15).unwrap_or(0));
                for (state, n) in [(from, -n), (to, n)] {
                    *sums.get_mut(state).ok_or_else(|| unreadable("a lane's counter"))? += n;
                }
            }
        }
        let mut counts = LaneCounts::default();
        for (state, n) in PublicState::ALL.iter().zip(&sums[1..]) {
            counts.add(*state, u64::try_from(*n).unwrap_or(0));
        }
        Ok(counts)
    }
}
