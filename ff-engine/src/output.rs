//! Following what an execution tells: its frames and its progress, as streams.

use std::collections::VecDeque;

use ff_core::contracts::{
    DescribeExecutionArgs, GetExecutionArgs, StreamCursor, StreamFrame, TailFramesArgs, TailFramesResult,
};
use ff_core::ids::{AttemptIndex, ExecutionId};
use ff_core::records::Progress;
use ff_core::refusal::Code;
use futures::Stream;
use serde::de::DeserializeOwned;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::poll::Pace;
use crate::repeat::call;

/// How long one look waits for a frame: well below the time after which a client gives an answer up for lost (10 s on
/// Valkey), whatever a backend makes of a call that waits.
pub(crate) const BLOCK_MS: u64 = 5_000;
/// Frames taken by one look.
const PAGE: u32 = 200;

/// A frame that an attempt wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputFrame {
    /// Which attempt.
    pub attempt_index: AttemptIndex,
    /// The frame. Its time is `frame.id.ms`.
    pub frame: StreamFrame,
    /// Frames between the one before and this one were trimmed before they could be read.
    pub gap: bool,
}

impl OutputFrame {
    /// What it carries.
    ///
    /// # Errors
    /// [`Error::Decode`] when that is no `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        crate::payload::decode("the frame", Some(&self.frame.payload), self.frame.encoding.as_deref())
    }
}

struct Follower {
    engine: Engine,
    execution_id: ExecutionId,
    attempt: AttemptIndex,
    after: StreamCursor,
    ready: VecDeque<OutputFrame>,
    over: bool,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<OutputFrame>> {
        let mut pace = Pace::new();
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            if self.over {
                return Ok(None);
            }
            let args = TailFramesArgs::builder()
                .execution_id(self.execution_id)
                .attempt_index(self.attempt)
                .after(self.after)
                .block_ms(BLOCK_MS)
                .limit(PAGE)
                .build();
            let page = match call!(self.engine, tail_frames(args)) {
                Ok(TailFramesResult::Frames(page)) => page,
                // Not started: it will, or there is none.
                Err(error) if error.code() == Some(Code::AttemptNotFound) => {
                    if self.has_no_more_attempts().await? {
                        self.over = true;
                    } else {
                        pace.pause().await;
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut gap = page.trimmed_to.is_some_and(|id| self.after.lower() < id);
            if let Some(last) = page.last_id {
                self.after = StreamCursor::Id(last);
            }
            for frame in page.frames {
                self.ready.push_back(OutputFrame { attempt_index: self.attempt, frame, gap });
                gap = false;
            }
            if page.closed.is_some() {
                self.attempt = AttemptIndex(self.attempt.get() + 1);
                self.after = StreamCursor::Ms(0);
            }
        }
    }

    async fn has_no_more_attempts(&self) -> Result<bool> {
        let args = GetExecutionArgs { execution_id: self.execution_id };
        let info = call!(self.engine, get_execution(args))?;
        Ok(info.public_state.is_terminal() && info.attempt_count <= self.attempt.get())
    }
}

/// The frames of all attempts from `attempt` on, until the execution has ended and all of them were read.
pub(crate) fn frames(
    engine: Engine,
    execution_id: ExecutionId,
    attempt: AttemptIndex,
) -> impl Stream<Item = Result<OutputFrame>> + Send {
    let (after, ready, over) = (StreamCursor::Ms(0), VecDeque::new(), false);
    let follower = Follower { engine, execution_id, attempt, after, ready, over };
    futures::stream::try_unfold(follower, |mut follower| async move {
        Ok(follower.next().await?.map(|frame| (frame, follower)))
    })
}

struct Watcher {
    engine: Engine,
    execution_id: ExecutionId,
    last: Option<Progress>,
    over: bool,
}

/// What a worker says about its progress, whenever it says something else, until the execution has ended.
pub(crate) fn progress(engine: Engine, execution_id: ExecutionId) -> impl Stream<Item = Result<Progress>> + Send {
    let watcher = Watcher { engine, execution_id, last: None, over: false };
    futures::stream::try_unfold(watcher, |mut watcher| async move {
        let mut pace = Pace::new();
        loop {
            if watcher.over {
                return Ok::<_, Error>(None);
            }
            let args = DescribeExecutionArgs { execution_id: watcher.execution_id };
            let now = call!(watcher.engine, describe_execution(args))?;
            watcher.over = now.public_state.is_terminal();
            if now.progress.is_some() && now.progress != watcher.last {
                watcher.last.clone_from(&now.progress);
                return Ok(now.progress.map(|progress| (progress, watcher)));
            }
            if !watcher.over {
                pace.pause().await;
            }
        }
    })
}
