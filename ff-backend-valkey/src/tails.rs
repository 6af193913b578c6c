//! Waiting tails: while any waits, one task of this process asks at short intervals which of their streams have changed,
//! one call per partition for all of them. Tails of one stream share its place in the question; none holds a connection,
//! and an append costs nothing more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, ExecutionId};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::ValkeyBackend;

/// Between two questions. With the question and the read that follows, a tail returns within about twice as much.
const INTERVAL: Duration = Duration::from_millis(20);

/// Streams in one question at most.
const ASKED: usize = 500;

/// One attempt's stream.
pub(crate) type StreamKey = (ExecutionId, AttemptIndex);

/// What the last question told of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
enum Told {
    /// Not asked yet.
    #[default]
    Nothing,
    /// Its mark: another one than before when a frame came or the stream closed.
    Mark(Bytes),
    /// The question failed, for the n-th time: who waits finds out why.
    Trouble(u64),
}

#[derive(Debug, Default)]
struct Waiting {
    streams: HashMap<StreamKey, (usize, watch::Sender<Told>)>,
    poll: Option<JoinHandle<()>>,
}

/// The tails of one process that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tails {
    waiting: Arc<Mutex<Waiting>>,
}

impl Tails {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who wait for a stream, until it is dropped.
    pub(crate) fn take(&self, backend: &ValkeyBackend, key: StreamKey) -> Seat {
        let mut waiting = self.lock();
        let (seats, told) = waiting.streams.entry(key).or_default();
        *seats += 1;
        let told = told.subscribe();
        // A task that ended did so with its runtime, or because nobody waited.
        if waiting.poll.as_ref().is_none_or(JoinHandle::is_finished) {
            waiting.poll = Some(tokio::spawn(poll(self.clone(), backend.outside_batch())));
        }
        Seat { tails: self.clone(), key, told, fresh: true }
    }

    /// The streams that are waited for. Where there is none, whoever asks for them has ended.
    fn by_partition(&self) -> Option<BTreeMap<u16, Vec<StreamKey>>> {
        let mut waiting = self.lock();
        if waiting.streams.is_empty() {
            waiting.poll = None;
            return None;
        }
        let mut partitions: BTreeMap<u16, Vec<StreamKey>> = BTreeMap::new();
        for key in waiting.streams.keys() {
            partitions.entry(key.0.partition()).or_default().push(*key);
        }
        Some(partitions)
    }

    fn tell(&self, key: &StreamKey, told: Told) {
        if let Some((_, sender)) = self.lock().streams.get(key) {
            sender.send_if_modified(|known| {
                let changed = *known != told;
                *known = told;
                changed
            });
        }
    }
}

/// A tail's place.
#[derive(Debug)]
pub(crate) struct Seat {
    tails: Tails,
    key: StreamKey,
    told: watch::Receiver<Told>,
    /// Whether nothing was waited for yet.
    fresh: bool,
}

impl Seat {
    /// Waits until the stream may differ from what has this mark, at most until `end`.
    pub(crate) async fn changed(&mut self, mark: &Bytes, end: Instant) {
        // What others were told before this seat was taken may be newer than the mark.
        if std::mem::take(&mut self.fresh)
            && matches!(&*self.told.borrow_and_update(), Told::Mark(told) if told != mark)
        {
            return;
        }
        let changed = async {
            while self.told.changed().await.is_ok() {
                match &*self.told.borrow_and_update() {
                    Told::Mark(told) if told == mark => {}
                    Told::Nothing => {}
                    Told::Mark(_) | Told::Trouble(_) => return,
                }
            }
            // The sender stands while a seat does.
            std::future::pending::<()>().await;
        };
        let _ = tokio::time::timeout_at(end, changed).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut waiting = self.tails.lock();
        if let Some((seats, _)) = waiting.streams.get_mut(&self.key) {
            *seats -= 1;
            if *seats == 0 {
                waiting.streams.remove(&self.key);
            }
        }
    }
}

impl ValkeyBackend {
    async fn marks(&self, partition: u16, keys: &[StreamKey]) -> Result<Vec<Bytes>, EngineError> {
        let mut pack = self.pack();
        pack.list(|p| {
            for (id, index) in keys {
                p.uuid(id.uuid()).num(u64::from(index.get()));
            }
        });
        let mut reply = self.at("ff_stream_marks", partition, pack).await?;
        let mut marks = reply.list()?;
        keys.iter().map(|_| marks.bytes()).collect()
    }
}

/// A partition's question and what came of it.
type Asked = (u16, Vec<StreamKey>, Result<Vec<Bytes>, EngineError>);

/// Asks until nobody waits. Each partition is asked again once its last question is answered: one whose server does not
/// answer keeps none of the others waiting.
async fn poll(tails: Tails, backend: ValkeyBackend) {
    let mut failures = 0;
    let mut asking: FuturesUnordered<BoxFuture<'_, Asked>> = FuturesUnordered::new();
    // How many questions of a partition are on their way.
    let mut open: HashMap<u16, usize> = HashMap::new();
    let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some((partition, keys, answer)) = asking.next() => {
                if let Some(left) = open.get_mut(&partition) {
                    *left = left.saturating_sub(1);
                }
                match answer {
                    Ok(marks) => keys.iter().zip(marks).for_each(|(key, mark)| tails.tell(key, Told::Mark(mark))),
                    Err(_) => {
                        failures += 1;
                        keys.iter().for_each(|key| tails.tell(key, Told::Trouble(failures)));
                    }
                }
            }
            _ = ticks.tick() => {
                open.retain(|_, left| *left > 0);
                let Some(partitions) = tails.by_partition() else { return };
                for (partition, keys) in partitions {
                    if open.contains_key(&partition) {
                        continue;
                    }
                    for keys in keys.chunks(ASKED) {
                        let (keys, backend) = (keys.to_vec(), &backend);
                        *open.entry(partition).or_default() += 1;
                        asking.push(Box::pin(async move {
                            let answer = backend.marks(partition, &keys).await;
                            (partition, keys, answer)
                        }));
                    }
                }
            }
        }
    }
}
