//! The background work of the store: due timers, and what cascades left over.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::time::Duration;

use ff_core::contracts::SweepArgs;
use ff_core::error::EngineError;
use ff_core::time::{Clock, SystemClock, TimestampMs};
use futures::stream::{self, FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::Result;
use crate::repeat::call;

/// Partitions that an idle process sweeps in a second although nothing is known to be due: another process may have
/// armed a timer there.
const IDLE_SWEEPS: usize = 4;

/// How often partitions are swept in which nothing is known to be due; no longer than the longest sleep.
const POLL: Duration = Duration::from_millis(990);

/// Partitions that are swept at once.
const AT_ONCE: usize = 4;

/// A sweep that takes longer than this keeps no other from being begun.
const SLOW: Duration = Duration::from_millis(250);

/// When a sweep is made again that did not get through.
#[derive(Clone, Copy, Debug)]
enum Again {
    /// At once, as any other call.
    Repeat,
    /// When its turn comes again.
    Later,
}

/// What a round over all partitions did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Timers fired and backlog steps taken.
    pub done: u64,
    /// Entries whose record cannot be decoded; an operator must look.
    pub corrupt: u64,
    /// The earliest due instant of the swept partitions afterwards.
    pub next_due_at: Option<TimestampMs>,
}

/// Sweeps all partitions. Safe in every process at once.
#[derive(Clone, Debug)]
pub struct Maintenance {
    engine: Engine,
}

impl Maintenance {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// One round: sweeps each partition until nothing more is due in it.
    ///
    /// # Errors
    /// The error of the first partition that has one; the others have been swept.
    pub async fn sweep(&self) -> Result<Swept> {
        let (mut all, mut failing) = (Swept::default(), BTreeMap::new());
        let sweeps = stream::iter(self.engine.partitions());
        let sweeps = sweeps.map(|n| async move { (n, self.sweep_one(n, Again::Repeat).await) });
        let mut sweeps = sweeps.buffer_unordered(AT_ONCE);
        while let Some((partition, (swept, error))) = sweeps.next().await {
            all.done += swept.done;
            all.corrupt += swept.corrupt;
            all.next_due_at = [all.next_due_at, swept.next_due_at].into_iter().flatten().min();
            if let Some(error) = error {
                failing.insert(partition, error);
            }
        }
        failing.pop_first().map_or(Ok(all), |(_, error)| Err(error.into()))
    }

    async fn sweep_one(&self, partition: u16, again: Again) -> (Swept, Option<EngineError>) {
        let mut swept = Swept::default();
        let error = loop {
            let asked = self.engine.agenda().asks(partition);
            let args = SweepArgs::builder().partition(partition).limit(1000).build();
            let report = match again {
                Again::Repeat => call!(self.engine, sweep(args)),
                Again::Later => self.engine.backend().sweep(args).await,
            };
            let report = match report {
                Ok(report) => report,
                Err(error) => break Some(error),
            };
            swept.done += report.total();
            swept.corrupt += report.corrupt.len() as u64;
            // A report of nothing done with more due is damage or another process at work: not waited for.
            if !report.more || report.total() == 0 {
                self.engine.agenda().seen(asked, report.next_due_at);
                swept.next_due_at = report.next_due_at;
                break None;
            }
        };
        metrics::counter!("ff_swept_total").increment(swept.done);
        metrics::counter!("ff_sweep_corrupt_total").increment(swept.corrupt);
        if swept.done > 0 {
            self.engine.agenda().worked();
            // For workers whose backend cannot tell them that something became ready.
            self.engine.more_work().notify_waiters();
        }
        (swept, error)
    }

    /// Sweeps whenever something is due, until `shutdown` is ready. A partition that fails is logged, shown by
    /// [`Engine::health`], and tried again every second; it keeps no other from being swept in time.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let rounds = self.rounds(stop.clone());
        tokio::pin!(rounds);
        tokio::select! {
            () = shutdown => {
                stop.cancel();
                rounds.await;
            }
            () = &mut rounds => {}
        }
    }

    pub(crate) async fn rounds(&self, stop: CancellationToken) {
        let agenda = self.engine.agenda();
        let mut schedule = Schedule::new(self.engine.partitions().end);
        let (mut under_way, mut next, mut look) = (FuturesUnordered::new(), Instant::now(), true);
        // Listened for before the look, so that no timer is missed that is armed during it.
        let mut sooner = Box::pin(agenda.sooner().notified());
        sooner.as_mut().enable();
        loop {
            if look {
                next = schedule.look(&agenda.each(), agenda.is_busy());
                let lag = agenda.earliest().map_or(0, |due| SystemClock.now().since(due));
                metrics::gauge!("ff_sweep_lag_seconds").set(Duration::from_millis(lag).as_secs_f64());
            }
            while let Some(partition) = schedule.start() {
                let sweeping = agenda.sweeps(partition);
                under_way.push(async move { (partition, self.sweep_one(partition, Again::Later).await, sweeping) });
            }
            look = tokio::select! {
                () = stop.cancelled() => return,
                Some((partition, (swept, error), sweeping)) = under_way.next() => {
                    self.note(partition, &swept, error.as_ref());
                    drop(sweeping);
                    let still_due = swept.next_due_at.is_some_and(|due| due <= SystemClock.now());
                    schedule.ended(partition, still_due && swept.done == 0, error.is_some());
                    // Otherwise others are waiting that were found by the last look.
                    schedule.is_empty()
                }
                () = &mut sooner => {
                    sooner.set(agenda.sooner().notified());
                    sooner.as_mut().enable();
                    true
                }
                () = tokio::time::sleep_until(schedule.wake(next)) => true,
            };
        }
    }

    /// Tells how the sweep of a partition went.
    fn note(&self, partition: u16, swept: &Swept, error: Option<&EngineError>) {
        let failing = self.engine.swept(partition, swept, error);
        self.engine.agenda().fails(partition, error.is_some());
        // Counts stay far below what a float holds exactly.
        #[allow(clippy::cast_precision_loss)]
        metrics::gauge!("ff_sweep_failing_partitions").set(failing as f64);
        metrics::counter!("ff_sweeps_total", "outcome" => if error.is_none() { "ok" } else { "failed" }).increment(1);
        if swept.corrupt > 0 {
            tracing::error!(partition, entries = swept.corrupt, "sweep dropped entries of records that do not decode");
        }
        if let Some(error) = error {
            tracing::warn!(partition, %error, "sweep failed; trying again");
        }
    }
}

/// When which partition is swept.
#[derive(Debug)]
struct Schedule {
    turns: Vec<Turn>,
    /// Whose time has come; those that fail have a queue of their own, so that they keep no other waiting.
    queues: [VecDeque<u16>; 2],
    under_way: Vec<UnderWay>,
    /// The next one that is swept although nothing is known to be due there.
    polled: usize,
    polled_at: Instant,
}

/// One partition's turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Not before then.
    not_before: Instant,
    /// Sweeps in a row that changed nothing of what is due.
    vain: u32,
    failing: bool,
    /// It waits for its turn, or is being swept.
    taken: bool,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    partition: u16,
    since: Instant,
    failing: bool,
}

impl Schedule {
    fn new(partitions: u16) -> Self {
        let now = Instant::now();
        let turn = Turn { not_before: now, vain: 0, failing: false, taken: true };
        // At first all of them.
        let queues = [(0..partitions).collect(), VecDeque::new()];
        let turns = vec![turn; usize::from(partitions)];
        Self { turns, queues, under_way: Vec::new(), polled: 0, polled_at: now }
    }

    fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Queues those whose time has come; when the next one's comes.
    fn look(&mut self, due: &[Option<TimestampMs>], busy: bool) -> Instant {
        let (now, clock) = (Instant::now(), SystemClock.now());
        // Not only what is known to be due: another process may have armed a timer.
        let (all, first, mut polled) = (self.turns.len(), self.polled, 0);
        if now - self.polled_at >= POLL {
            self.polled_at = now;
            polled = if busy { all } else { IDLE_SWEEPS.min(all) };
            self.polled = (first + polled) % all.max(1);
        }
        let mut next = self.polled_at + POLL;
        for (n, turn) in (0_u16..).zip(&mut self.turns).filter(|(_, turn)| !turn.taken) {
            let due = due.get(usize::from(n)).copied().flatten();
            let at = match due.map(|due| now + Duration::from_millis(due.since(clock)).min(POLL)) {
                // In a time of its own, whatever is due there.
                _ if turn.failing => turn.not_before,
                _ if (usize::from(n) + all - first) % all < polled => now,
                Some(at) => at.max(turn.not_before),
                None => continue,
            };
            if at <= now {
                turn.taken = true;
                self.queues[usize::from(turn.failing)].push_back(n);
            } else {
                next = next.min(at);
            }
        }
        next
    }

    /// The next partition to be swept, if another one may be.
    fn start(&mut self) -> Option<u16> {
        for failing in [false, true] {
            // One that takes long no longer counts.
            let counts = |sweep: &&UnderWay| sweep.failing == failing && sweep.since.elapsed() < SLOW;
            if self.under_way.iter().filter(counts).count() < AT_ONCE
                && let Some(partition) = self.queues[usize::from(failing)].pop_front()
            {
                self.under_way.push(UnderWay { partition, since: Instant::now(), failing });
                return Some(partition);
            }
        }
        None
    }

    /// A sweep has ended; in vain is one that changed nothing of what is due.
    fn ended(&mut self, partition: u16, in_vain: bool, failed: bool) {
        self.under_way.retain(|sweep| sweep.partition != partition);
        let Some(turn) = self.turns.get_mut(usize::from(partition)) else { return };
        turn.vain = if in_vain { (turn.vain + 1).min(10) } else { 0 };
        // It is looked at ever less often: the clock is turned by hand, or another process is at it.
        let pause = if failed { POLL } else { Duration::from_millis((1 << turn.vain) - 1).min(POLL) };
        (turn.failing, turn.taken, turn.not_before) = (failed, false, Instant::now() + pause);
    }

    /// When to look again, if nothing happens: at `next`, or when a sweep that others wait for begins to count as slow.
    fn wake(&self, next: Instant) -> Instant {
        let slow = self.under_way.iter().map(|sweep| sweep.since + SLOW).filter(|at| *at > Instant::now());
        if self.is_empty() { next } else { slow.chain([next]).min().unwrap_or(next) }
    }
}
