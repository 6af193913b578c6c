//! Waiting for work: the library publishes the name of every lane in which something became ready, on the channel
//! `<prefix>:w:<lane>`; one connection of this process listens, from the first wait on.
//!
//! Messages can be lost (a cut connection, a busy client): a wake-up is a hint, and whoever waits also looks again when
//! the next timer is due. After a lost connection everybody is woken once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ff_core::ids::LaneId;
use futures::StreamExt;
use redis::aio::PubSub;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::connection::Connection;

/// The pause before a lost listener connects again.
const RECONNECT: Duration = Duration::from_millis(200);

/// After so long without a message the listener asks whether its connection still stands, and how long it waits for the
/// answer.
const QUIET: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(2);

/// Where work of one lane, or of any, is waited for.
#[derive(Debug, Default)]
struct Seat {
    notify: Notify,
    waiting: AtomicUsize,
}

impl Seat {
    async fn wait(&self) {
        // In this order: who is told that nobody waits leaves the wake-up for whoever comes.
        let woken = self.notify.notified();
        let _here = Waiting::at(self);
        woken.await;
    }

    /// Wakes all who wait; without any, the next one: it may have looked for work before this.
    fn wake_all(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.notify.notify_waiters();
        } else {
            self.notify.notify_one();
        }
    }
}

/// Somebody waits, until this is dropped.
struct Waiting<'a>(&'a Seat);

impl<'a> Waiting<'a> {
    fn at(seat: &'a Seat) -> Self {
        seat.waiting.fetch_add(1, Ordering::SeqCst);
        Self(seat)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Who waits in this process.
#[derive(Debug, Default)]
struct Seats {
    lanes: Mutex<HashMap<LaneId, Arc<Seat>>>,
    any: Seat,
}

impl Seats {
    fn lane(&self, lane: &LaneId) -> Arc<Seat> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(lane.clone()).or_default())
    }

    fn wake(&self, lane: &str) {
        self.any.notify.notify_one();
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = LaneId::new(lane).ok().and_then(|lane| lanes.get(&lane)) {
            seat.notify.notify_one();
        }
    }

    fn wake_all(&self) {
        self.any.wake_all();
        for seat in self.lanes.lock().unwrap_or_else(PoisonError::into_inner).values() {
            seat.wake_all();
        }
    }
}

/// The listener of a process; it ends with the last backend that shares it.
pub(crate) struct Wake {
    connection: Connection,
    channel: String,
    seats: Arc<Seats>,
    started: AtomicBool,
    listener: Mutex<Option<AbortHandle>>,
}

impl Wake {
    pub(crate) fn new(connection: Connection, prefix: &str) -> Self {
        Self {
            connection,
            channel: format!("{prefix}:w:"),
            seats: Arc::default(),
            started: AtomicBool::new(false),
            listener: Mutex::default(),
        }
    }

    /// Waits until something may be ready in one of the lanes (in any, if none is named), at most `timeout`.
    pub(crate) async fn wait(&self, lanes: &[LaneId], timeout: Duration) -> bool {
        if !self.started.swap(true, Ordering::SeqCst) {
            let task = tokio::spawn(listen(self.connection.clone(), self.channel.clone(), Arc::clone(&self.seats)));
            *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        }
        let woken = async {
            if lanes.is_empty() {
                self.seats.any.wait().await;
                return;
            }
            let seats: Vec<Arc<Seat>> = lanes.iter().map(|lane| self.seats.lane(lane)).collect();
            futures::future::select_all(seats.iter().map(|seat| Box::pin(seat.wait()))).await;
        };
        tokio::time::timeout(timeout, woken).await.is_ok()
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some(task) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

async fn listen(connection: Connection, channel: String, seats: Arc<Seats>) {
    loop {
        if let Ok(Ok(pubsub)) = tokio::time::timeout(QUIET, connection.listen()).await {
            let _ = hear(pubsub, &channel, &seats).await;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Passes messages on until the connection is lost.
async fn hear(mut pubsub: PubSub, channel: &str, seats: &Seats) -> redis::RedisResult<()> {
    pubsub.psubscribe(format!("{channel}*")).await?;
    // What was published before is lost: let everybody look once.
    seats.wake_all();
    let (mut sink, mut messages) = pubsub.split();
    loop {
        match tokio::time::timeout(QUIET, messages.next()).await {
            Ok(Some(message)) => {
                if let Some(lane) = message.get_channel_name().strip_prefix(channel) {
                    seats.wake(lane);
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => match tokio::time::timeout(ANSWER, sink.ping::<redis::Value>()).await {
                Ok(answer) => answer.map(drop)?,
                Err(_) => return Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn woken(seat: &Seat) -> bool {
        tokio::time::timeout(Duration::ZERO, seat.wait()).await.is_ok()
    }

    #[tokio::test]
    async fn waking_all_reaches_who_waits_and_else_who_comes_next_and_nobody_twice() {
        let seats = Seats::default();
        let seat = seats.lane(&LaneId::new("lane").expect("a name"));
        assert!(!woken(&seat).await);
        seats.wake_all();
        assert!(woken(&seat).await && !woken(&seat).await, "nobody waited: left for one");
        let waiting = [0, 1].map(|_| {
            let seat = Arc::clone(&seat);
            tokio::spawn(async move { seat.wait().await })
        });
        while seat.waiting.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        seats.wake_all();
        for waits in waiting {
            waits.await.expect("woken");
        }
        assert!(!woken(&seat).await, "they were woken, and nothing is left");
    }
}
