//! Domain signal.

use async_trait::async_trait;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::{
    BufferSignalArgs, BufferSignalResult, DeliverSignalArgs, DeliverSignalResult, ListSignalsArgs, ListSignalsResult,
    SignalCall, SignalCursor, SignalEffect, SignalInfo, SuspensionInfo,
};
use ff_core::engine_backend::SignalOps;
use ff_core::error::EngineError;
use ff_core::ids::SignalId;
use ff_core::refusal::Code;
use ff_core::state::StateSummary;

use crate::ValkeyBackend;
use crate::history;

/// What became of a signal that was let in.
struct Taken {
    signal_id: SignalId,
    effect: SignalEffect,
    summary: StateSummary,
    duplicate: bool,
}

impl ValkeyBackend {
    /// Verifies a signal's token here, then records the signal where the token says.
    async fn take_in(&self, function: &str, signal: &SignalCall<'_>) -> Result<Taken, EngineError> {
        let verified = self.verify(signal).await?;
        let mut pack = self.pack();
        pack.uuid(verified.execution_id().uuid())
            .uuid(verified.waitpoint_id().uuid())
            .text(verified.kid().as_str())
            .flag(verified.source_bound())
            .uuid(signal.signal_id.uuid())
            .text(signal.name)
            .text(signal.category)
            .text(&signal.source.source_type)
            .text(&signal.source.source_identity)
            .text_opt(signal.encoding)
            .text_opt(signal.correlation_id)
            .text_opt(signal.idempotency_key)
            .digest(&signal.digest());
        let partition = verified.execution_id().partition();
        let mut reply = match self.at_with(function, partition, pack, signal.payload).await {
            Err(error) => {
                // The kid decides at commit: the store has seen it retire.
                if error.code() == Some(Code::InvalidToken) {
                    self.keys().forget(partition, verified.kid());
                }
                return Err(error);
            }
            Ok(reply) => reply,
        };
        Ok(Taken {
            signal_id: SignalId::from_uuid(reply.uuid()?),
            effect: reply.word_of()?,
            summary: reply.summary()?,
            duplicate: match reply.word() {
                "accepted" => false,
                "duplicate" => true,
                _ => return Err(reply.unknown()),
            },
        })
    }
}

#[async_trait]
impl SignalOps for ValkeyBackend {
    async fn deliver_signal(&self, args: DeliverSignalArgs) -> Result<DeliverSignalResult, EngineError> {
        args.check(self.fixed())?;
        let Taken { signal_id, effect, summary, duplicate } = self.take_in("ff_deliver_signal", &args.call()).await?;
        Ok(if duplicate {
            DeliverSignalResult::Duplicate { signal_id, effect, summary }
        } else {
            DeliverSignalResult::Accepted { signal_id, effect, summary }
        })
    }

    async fn buffer_signal(&self, args: BufferSignalArgs) -> Result<BufferSignalResult, EngineError> {
        args.check(self.fixed())?;
        let Taken { signal_id, effect, summary, duplicate } = self.take_in("ff_buffer_signal", &args.call()).await?;
        Ok(if duplicate {
            BufferSignalResult::Duplicate { signal_id, effect, summary }
        } else {
            BufferSignalResult::Buffered { signal_id, effect, summary }
        })
    }

    async fn list_signals(&self, args: ListSignalsArgs) -> Result<ListSignalsResult, EngineError> {
        args.check(self.fixed())?;
        let id = args.execution_id;
        let mut pack = self.pack();
        pack.uuid(id.uuid()).flag(args.matched_only);
        match args.position()? {
            Some(cursor) => pack.uuid(cursor.suspension_id.uuid()).num(cursor.after),
            None => pack.absent().num(0),
        };
        pack.num(u64::from(args.limit));
        let mut reply = self.at("ff_list_signals", id.partition(), pack).await?;
        let suspension = reply.list_opt()?.map(|mut flat| history::suspension(id, &mut flat)).transpose()?;
        let progress = history::progress(&mut reply.list()?)?;
        let signals = history::signals(id, &mut reply.list()?)?;
        let more = reply.flag()?;
        let last = suspension.as_ref().zip(signals.last()).filter(|_| more);
        let next_cursor =
            last.map(|(s, last)| SignalCursor { suspension_id: s.suspension_id, after: last.seq }.to_string());
        Ok(ListSignalsResult {
            suspension: suspension.as_ref().map(SuspensionInfo::of),
            progress,
            signals: signals.iter().map(SignalInfo::of).collect(),
            next_cursor,
        })
    }
}
