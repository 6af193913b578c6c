//! Domain stream. A waiting tail is one of `tails.rs`.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::decode::{DecodeCause, decode_stream_frame, decode_stream_meta};
use ff_core::contracts::{
    AppendFrameArgs, AppendFrameResult, ReadFramesArgs, ReadFramesResult, StreamClosed, StreamCursor, StreamEntryId,
    StreamFrame, StreamFrames, TailFramesArgs, TailFramesResult,
};
use ff_core::engine_backend::StreamOps;
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, ExecutionId};
use ff_core::records::StreamMetaRecord;
use ff_core::records::flat::VERSION;
use rmpv::Value;
use tokio::time::Instant;

use crate::ValkeyBackend;
use crate::call::{Reply, unreadable};
use crate::record::{corrupt, end_cause, number_of, read_packed, text_of};

/// How long a waiting tail relies on the poll of all streams alone.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The packed metadata of a stream; `retained` frames are stored.
fn meta(
    execution_id: ExecutionId,
    attempt_index: AttemptIndex,
    packed: &[u8],
    retained: u64,
) -> Result<StreamMetaRecord, EngineError> {
    let unfold = || {
        let Value::Array(fields) = read_packed(packed)? else { return None };
        let [_, ms, seq, frames, total, bytes, last_seq, trimmed_to] = fields.as_slice() else { return None };
        Some(StreamMetaRecord {
            execution_id,
            attempt_index,
            last_id: StreamEntryId::new(number_of(ms)?, number_of(seq)?),
            frame_count: number_of(frames)?,
            total_bytes: number_of(total)?,
            retained_frames: retained,
            retained_bytes: number_of(bytes)?,
            last_seq: match last_seq {
                Value::Boolean(false) => None,
                seq => Some(number_of(seq)?),
            },
            trimmed_to: match text_of(trimmed_to)? {
                None => None,
                Some(text) => Some(text.parse().ok()?),
            },
        })
    };
    let record = unfold().ok_or_else(|| corrupt("stream_meta", "version", DecodeCause::IllegalState))?;
    Ok(decode_stream_meta(execution_id, attempt_index, &record.encode())?)
}

fn frame(entry: &mut Reply) -> Result<StreamFrame, EngineError> {
    let id = entry.text()?.parse().map_err(|_| unreadable("not an entry id"))?;
    let mut fields = entry.list()?;
    let mut pairs = Vec::new();
    while !fields.is_over() {
        pairs.push(fields.bytes()?);
    }
    Ok(decode_stream_frame(id, VERSION.as_bytes(), &pairs)?)
}

/// A page, and what tells its stream apart from the same one after an append or its close.
struct Look {
    page: StreamFrames,
    mark: Bytes,
}

impl Look {
    /// Whether there is nothing to wait for.
    fn is_over(&self) -> bool {
        !self.page.frames.is_empty() || self.page.closed.is_some()
    }
}

impl ValkeyBackend {
    async fn look(&self, args: &ReadFramesArgs) -> Result<Look, EngineError> {
        let (id, index, from) = (args.execution_id, args.attempt_index, args.from.lower());
        let mut pack = self.pack();
        pack.uuid(id.uuid())
            .num(u64::from(index.get()))
            .text(&from.to_string())
            .text(&args.to.upper().to_string())
            .num(u64::from(args.limit));
        let mut reply = self.at("ff_read_attempt_stream", id.partition(), pack).await?;
        let (at, cause, packed, retained) = (reply.at_opt()?, reply.num()?, reply.bytes_opt()?, reply.num()?);
        let closed = match at {
            None => None,
            Some(at) => {
                let cause = u8::try_from(cause).ok().and_then(end_cause);
                Some(StreamClosed { at, cause: cause.ok_or_else(|| unreadable("not an end cause"))? })
            }
        };
        let mut mark = vec![if closed.is_some() { b'c' } else { b'o' }];
        mark.extend_from_slice(packed.as_deref().unwrap_or_default());
        let known = packed.map(|packed| meta(id, index, &packed, retained)).transpose()?;

        let mut entries = reply.list()?;
        let mut frames = Vec::new();
        while !entries.is_over() {
            frames.push(frame(&mut entries.list()?)?);
        }
        let last_id = frames.last().map(|frame| frame.id);
        // The newest frame is never trimmed, so its id is where the stored frames end.
        let behind = match (&known, last_id) {
            (None, _) => true,
            (Some(meta), Some(last_id)) => last_id >= meta.last_id,
            (Some(meta), None) => from > meta.last_id,
        };
        let page = StreamFrames {
            frames,
            last_id,
            has_more: reply.flag()?,
            closed: closed.filter(|_| behind),
            trimmed_to: known.and_then(|meta| meta.trimmed_to),
        };
        Ok(Look { page, mark: mark.into() })
    }
}

#[async_trait]
impl StreamOps for ValkeyBackend {
    async fn append_frame(&self, args: AppendFrameArgs) -> Result<AppendFrameResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid())
            .fence(&args.fence)
            .text(&args.frame_type)
            .text_opt(args.encoding.as_deref())
            .text_opt(args.correlation_id.as_deref())
            .num_opt(args.seq);
        if args.seq.is_none() {
            pack.once();
        }
        let partition = args.execution_id.partition();
        let mut reply = self.at_with("ff_append_frame", partition, pack, &args.payload).await?;
        Ok(AppendFrameResult { entry_id: StreamEntryId::new(reply.num()?, reply.num()?) })
    }

    async fn read_frames(&self, args: ReadFramesArgs) -> Result<ReadFramesResult, EngineError> {
        args.check(self.fixed())?;
        Ok(ReadFramesResult::Frames(self.look(&args).await?.page))
    }

    async fn tail_frames(&self, args: TailFramesArgs) -> Result<TailFramesResult, EngineError> {
        args.check(self.fixed())?;
        let deadline = Instant::now() + Duration::from_millis(args.block_ms);
        let read = args.read().unwrap_or_else(|| {
            // Behind the greatest position nothing lies, and no stored frame is at it.
            ReadFramesArgs::builder()
                .execution_id(args.execution_id)
                .attempt_index(args.attempt_index)
                .from(StreamCursor::End)
                .limit(args.limit)
                .build()
        });
        let mut look = self.look(&read).await?;
        let mut seat = None;
        loop {
            if look.is_over() || Instant::now() >= deadline {
                return Ok(TailFramesResult::Frames(look.page));
            }
            // What changes between the look and the seat shows in the first mark that the seat is told.
            let seat = seat.get_or_insert_with(|| self.tails().take(self, (args.execution_id, args.attempt_index)));
            seat.changed(&look.mark, deadline.min(Instant::now() + LOOK_AGAIN)).await;
            look = self.look(&read).await?;
        }
    }
}
