//! Waiting for work: the library publishes the name of every lane in which something became ready, on the channel
//! `<prefix>:w:<lane>`; one connection of this process listens, from the first wait on.
//!
//! Messages can be lost (a cut connection, a busy client): a wake-up is a hint, and whoever waits also looks again when
//! the next timer is due. After a lost connection everybody is woken once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Who waits in this process.
#[derive(Debug, Default)]
struct Seats {
    lanes: Mutex<HashMap<LaneId, Arc<Notify>>>,
    any: Notify,
}

impl Seats {
    fn lane(&self, lane: &LaneId) -> Arc<Notify> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(lane.clone()).or_default())
    }

    fn wake(&self, lane: &str) {
        self.any.notify_one();
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = LaneId::new(lane).ok().and_then(|lane| lanes.get(&lane)) {
            notify.notify_one();
        }
    }

    fn wake_all(&self) {
        self.any.notify_waiters();
        for notify in self.lanes.lock().unwrap_or_else(PoisonError::into_inner).values() {
            notify.notify_waiters();
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
                self.seats.any.notified().await;
                return;
            }
            let notifies: Vec<Arc<Notify>> = lanes.iter().map(|lane| self.seats.lane(lane)).collect();
            let waits = notifies.iter().map(|notify| Box::pin(notify.notified()));
            futures::future::select_all(waits).await;
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
