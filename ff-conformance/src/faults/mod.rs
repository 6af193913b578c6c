//! The faults tier: clients work while the store crashes, connections are cut, the library is lost and workers die. Each
//! client keeps a ledger of what it asked for and what it was told. Afterwards everything that was acknowledged is in the
//! state, what is in doubt happened once or not at all and can be asked again, and everything comes to an end.
//!
//! `FF_KILLS=n` kills the store `n` times, `FF_FAILOVERS=n` has its primary replaced, `FF_CUTS=n` makes trouble for `n`
//! replies, `FF_FLUSHES=n` loses the library `n` times, `FF_DEATHS=n` kills `n` workers.

mod ledger;
mod settle;
#[cfg(test)]
mod tests;
mod work;
mod workers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;
use ff_core::engine_backend::EngineBackend;
use ff_core::time::{ManualClock, TimestampMs};
use libtest_mimic::Failed;

pub use self::ledger::{Entry, Ledger, Standing};
use self::settle::Judge;
pub use self::settle::Settled;
use self::work::{BUDGET, Client, Crew, DIMENSION};
use crate::harness::{Fault, Fixture, Harness, TestName};
use crate::run::{Sizes, Tally, Trial, Verdict};
use crate::stage::{self, PARTITION, START_MS, Stage, limits};

/// Clients that work at once.
const CLIENTS: usize = 8;
/// Calls that are acknowledged to them in a campaign, at least.
const ENOUGH: usize = 200;

/// The trials of this tier.
pub(crate) fn trials<H: Harness>(_: &str, harness: &Arc<H>, sizes: &Sizes) -> Vec<Trial> {
    let seed = sizes.seed.unwrap_or(1);
    let mut trials = Vec::new();
    for plan in [
        Plan {
            name: "faults::calm::eight clients without any fault leave what they were told",
            counted: "calm campaigns",
            faults: &[],
            count: 1,
            each: 1,
            pause: (400, 800),
        },
        Plan {
            name: "faults::crash::what was acknowledged survives kill -9 of the store under eight clients",
            counted: "kills of the store",
            faults: &[Fault::Crash],
            count: sizes.count("FF_KILLS", 8, 1_000),
            each: 4,
            pause: (150, 700),
        },
        Plan {
            name: "faults::failover::what was acknowledged survives the death of the primary under eight clients",
            counted: "failovers",
            faults: &[Fault::Failover],
            count: sizes.count("FF_FAILOVERS", 2, 200),
            each: 2,
            pause: (300, 1_000),
        },
        Plan {
            name: "faults::connections::replies that are cut, reset or late lose nothing and do nothing twice",
            counted: "replies in trouble",
            faults: &[Fault::Cut(0), Fault::Cut(9), Fault::Reset, Fault::Delay(40)],
            count: sizes.count("FF_CUTS", 500, 50_000),
            each: 250,
            pause: (1, 8),
        },
        Plan {
            name: "faults::library::its loss in mid-traffic loses nothing",
            counted: "losses of the library",
            faults: &[Fault::LibraryLost],
            count: sizes.count("FF_FLUSHES", 50, 1_000),
            each: 50,
            pause: (5, 40),
        },
    ] {
        let lacks: Vec<String> =
            plan.faults.iter().filter(|f| !harness.can_strike(**f)).map(|f| format!("{f:?}")).collect();
        let reason = (!lacks.is_empty()).then(|| format!("the harness cannot bring about {}", lacks.join(", ")));
        let harness = Arc::clone(harness);
        trials.push(Trial::new(plan.name, move |tally| plan.play(&harness, seed, tally)).ignored(reason));
    }
    let (held, deaths) = (Arc::clone(harness), sizes.count("FF_DEATHS", 100, 3_000));
    let name = "faults::workers::what a dead worker owned is claimed after its lease and one sweep";
    trials.push(Trial::new(name, move |tally| {
        runtime()?.block_on(async {
            let clock = ManualClock::at(TimestampMs::saturating(START_MS));
            let fixture = held.open(&TestName(name.to_owned()), clock).await;
            let stage = Stage::open(&held, fixture).await;
            let wrong = workers::kill(&stage, seed, deaths).await;
            tally.add("workers killed", deaths);
            verdict(&wrong)
        })
    }));
    trials
}

fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failed::from(format!("no runtime: {e}")))
}

fn verdict(wrong: &[String]) -> Verdict {
    if wrong.is_empty() {
        return Ok(());
    }
    let shown = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    Err(Failed::from(format!("{} wrong, the first of them:\n{shown}", wrong.len())))
}

/// Campaigns with one kind of trouble.
#[derive(Clone, Copy)]
struct Plan {
    name: &'static str,
    /// What its strikes are called in the report.
    counted: &'static str,
    faults: &'static [Fault],
    /// Strikes in all.
    count: u64,
    /// Strikes of one campaign.
    each: u64,
    /// Milliseconds between strikes.
    pause: (u64, u64),
}

impl Plan {
    fn play<H: Harness>(self, harness: &Arc<H>, seed: u64, tally: &Tally) -> Verdict {
        runtime()?.block_on(async {
            let (mut struck, mut played) = (0, 0);
            while struck < self.count {
                let seed = seed.wrapping_add(played);
                let clock = ManualClock::at(TimestampMs::saturating(START_MS));
                let fixture = harness.open_for_faults(&TestName(self.name.to_owned()), clock, self.faults).await;
                let clients = clients(harness, &fixture).await;
                let mut rng = Rng::with_seed(seed);
                let wanted = self.each.min(self.count - struck);
                let trouble = async |n: u64| {
                    tokio::time::sleep(Duration::from_millis(rng.u64(self.pause.0..=self.pause.1))).await;
                    let Some(fault) = (!self.faults.is_empty()).then(|| self.faults[rng.usize(0..self.faults.len())])
                    else {
                        return n + 1 < wanted;
                    };
                    let fault = match fault {
                        Fault::Cut(_) => Fault::Cut(rng.u32(0..64)),
                        // Mostly late, sometimes too late.
                        Fault::Delay(_) => Fault::Delay(if rng.u32(0..32) == 0 { 1_500 } else { rng.u64(1..60) }),
                        other => other,
                    };
                    assert!(harness.strike(&fixture, fault).await, "the harness could not bring about {fault:?}");
                    n + 1 < wanted
                };
                let (done, settled, wrong) = campaign(&clients, &fixture.clock, seed, trouble).await;
                struck += done;
                played += 1;
                tally.add(self.counted, done);
                tally.add("calls acknowledged under faults", settled.acknowledged);
                tally.add("calls in doubt asked again", settled.doubtful);
                tally.add("executions ended under faults", settled.executions);
                tally.add("acknowledged things lost", settled.lost);
                if !wrong.is_empty() {
                    let shown = format!("campaign of seed {seed}, after {done} strikes:");
                    return verdict(&[vec![shown], wrong].concat());
                }
                if settled.executions < 5 || settled.acknowledged < 50 {
                    return Err(Failed::from(format!("this campaign tests too little: {settled:?}")));
                }
            }
            Ok(())
        })
    }
}

/// A handle on the fixture's state for each client: of its own, where the harness can.
async fn clients<H: Harness>(harness: &Arc<H>, fixture: &Fixture) -> Vec<Arc<dyn EngineBackend>> {
    let mut clients = vec![Arc::clone(&fixture.backend)];
    while clients.len() < CLIENTS {
        clients.push(harness.second(fixture).await.unwrap_or_else(|| Arc::clone(&fixture.backend)));
    }
    clients
}

/// One campaign: the clients work until `trouble` says that it was enough; then the ledger is settled.
async fn campaign(
    clients: &[Arc<dyn EngineBackend>],
    clock: &ManualClock,
    seed: u64,
    mut trouble: impl AsyncFnMut(u64) -> bool,
) -> (u64, Settled, Vec<String>) {
    let backend = &*clients[0];
    let mut wrong = Vec::new();
    let key = stage::rotation_in(PARTITION, "k1", 1);
    let budget = stage::budget(BUDGET, &[(DIMENSION, limits(ff_core::time::MAX_SAFE_INTEGER, 1))]);
    if let Err(error) = backend.rotate_waitpoint_hmac_secret(key).await {
        wrong.push(format!("no key before the campaign: {error}"));
    }
    if let Err(error) = backend.create_budget(budget).await {
        wrong.push(format!("no budget before the campaign: {error}"));
    }
    let crew = Arc::new(Crew::new());
    let clients: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, backend)| {
            let rng = Rng::with_seed(seed.wrapping_mul(1_000) + number as u64);
            let client = Client { backend: Arc::clone(backend), crew: Arc::clone(&crew), rng, number };
            tokio::spawn(client.run())
        })
        .collect();
    let (turner, turned) = (Arc::clone(&crew), clock.clone());
    let clockwork = tokio::spawn(async move { turner.turn_clock(&turned).await });
    let mut strikes = 0;
    loop {
        let more = trouble(strikes).await;
        strikes += 1;
        if !more {
            break;
        }
    }
    // The last of the trouble meets clients at work, too, and on a busy machine they work for longer.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    while crew.ledger.acknowledged() < ENOUGH && began.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    crew.over.store(true, Ordering::SeqCst);
    for client in clients {
        if let Err(error) = client.await {
            wrong.push(format!("a client ended by itself: {error}"));
        }
    }
    let _ = clockwork.await;
    let (settled, found) = Judge::new(backend, clock, seed).judge(&crew).await;
    wrong.extend(found);
    (strikes, settled, wrong)
}
