//! The suite on trial: backends that lie, each of which must be convicted.
//!
//! Every seeded bug is a trial of its own, filtered and listed like any test. It is convicted by the case whose sentence it
//! breaks (`by`), and by an answer: a panic of the lie and a case without end convict nobody. Some bugs must be convicted by
//! the random tier alone, by the concurrent tier alone, or by the trace that is kept of them, each within a budget. The
//! backend as it is, and under a layer that tells no lie, must pass all of it. The table at the end says what convicted each
//! bug and after how much.
//!
//! `FF_SAVE_TRACE=<folder>` plays the random tier alone for every bug, up to `FF_SEQUENCES` sequences, and keeps the shrunk
//! sequence of each that it convicts; `FF_TRACE_DATE=YYYY-MM-DD` is written into them.

mod catalogue;
mod scene;
mod tiers;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ff_backend_memory::MemoryBackend;
use ff_conformance::traces::KEPT;
use ff_conformance::{Cause, Conviction, Damage, DamageKind, Fixture, Harness, TestName, Trials, convict};
use ff_core::layer::Layered;
use ff_core::operation::OpName;
use ff_core::time::ManualClock;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::scene::{Bug, Liar, Lie, Scene};

/// The in-memory backend, under a lie or as it is.
struct Accused {
    bug: Option<&'static Bug>,
    /// Whether a lie panicked.
    panicked: Arc<AtomicBool>,
}

impl Accused {
    fn under(bug: Option<&'static Bug>) -> Self {
        Self { bug, panicked: Arc::default() }
    }
}

impl Harness for Accused {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let backend = MemoryBackend::with_manual_clock(clock.clone());
        let fixture = match self.bug {
            None => Fixture::new(Arc::new(backend.clone()), clock),
            Some(bug) => {
                let scene = Scene::new(backend.clone(), clock.clone());
                let liar = Liar { bug, scene, panicked: Arc::clone(&self.panicked) };
                Fixture::new(Arc::new(Layered::new(Arc::new(backend.clone()), liar)), clock)
            }
        };
        fixture.with_guard(backend)
    }

    async fn damage(&self, fixture: &Fixture, damage: Damage) -> bool {
        let Some(backend) = fixture.guard::<MemoryBackend>() else { return false };
        match damage {
            Damage::Unreadable(id) => backend.make_unreadable(&id),
            Damage::Readable(id) => backend.make_readable(&id),
            Damage::FlowUnreadable(id) => backend.make_flow_unreadable(&id),
            Damage::FlowReadable(id) => backend.make_flow_readable(&id),
            Damage::EdgeUnreadable((flow_id, id)) => backend.make_edge_unreadable(&flow_id, id),
            Damage::EdgeReadable((flow_id, id)) => backend.make_edge_readable(&flow_id, id),
            Damage::SuspensionUnreadable(id) => backend.make_suspension_unreadable(&id),
            Damage::SuspensionReadable(id) => backend.make_readable(&id),
            Damage::IndexesLost(partition) => backend.lose_indexes(partition),
            Damage::BacklogLost(partition) => backend.lose_backlog(partition),
            Damage::ForeignQueueEntry(id) => backend.add_foreign_queue_entry(&id),
            Damage::WrongDueTime(id) => backend.misplace_timer(&id),
            _ => false,
        }
    }

    fn can_damage(&self, _: DamageKind) -> bool {
        true
    }
}

/// What a case may take at most. No lie of the catalogue is a hang.
const CASE_LIMIT: Duration = Duration::from_secs(60);

type Convictions = Arc<Mutex<Vec<(&'static str, &'static Bug, Conviction)>>>;

fn domain(bug: &Bug) -> &'static str {
    bug.operations.first().map_or("", |op| op.domain())
}

/// A name that can be a file's.
fn file_name(bug: &Bug) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = bug.name.chars().map(word).collect();
    name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Plays the trials on the bug; it must be convicted, and by an answer.
fn must_convict(bug: &'static Bug, trials: &Trials) -> Result<Conviction, Failed> {
    let accused = Arc::new(Accused::under(Some(bug)));
    let found = convict(&accused, trials).ok_or_else(|| format!("nothing convicts it: {}", bug.story))?;
    if accused.panicked.load(Ordering::SeqCst) {
        return Err(format!("the lie panicked, which convicts nobody: {found}").into());
    }
    match found.cause {
        Cause::Answer => Ok(found),
        Cause::Time | Cause::Broke => Err(format!("no answer convicts it, but {:?}: {found}", found.cause).into()),
    }
}

/// A bug, the trials that must convict it, and how the table calls them.
fn trial(bug: &'static Bug, tier: &'static str, trials: Trials, convictions: &Convictions) -> Trial {
    let convictions = Arc::clone(convictions);
    let group = if tier == "case" { domain(bug) } else { tier };
    Trial::test(format!("seeded::{group}::{}", bug.name), move || {
        let found = must_convict(bug, &trials)?;
        convictions.lock().unwrap_or_else(PoisonError::into_inner).push((tier, bug, found));
        Ok(())
    })
}

/// Plays the random tier alone, and keeps what convicts.
fn saving(bug: &'static Bug, folder: &Path, convictions: &Convictions) -> Trial {
    let seeds = std::env::var("FF_SEQUENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let (folder, convictions) = (folder.to_owned(), Arc::clone(convictions));
    Trial::test(format!("seeded::random::{}", bug.name), move || {
        let found = must_convict(bug, &Trials::none().seeds(0..seeds))?;
        if let Some(mut trace) = found.trace.clone() {
            trace.name = file_name(bug);
            trace.convicted = format!("the seeded bug `{}`: {}", bug.name, bug.story);
            trace.date = std::env::var("FF_TRACE_DATE").unwrap_or_default();
            let path = folder.join(format!("{}.jsonl", trace.name));
            std::fs::write(path, trace.to_text()?).map_err(|e| e.to_string())?;
        }
        convictions.lock().unwrap_or_else(PoisonError::into_inner).push(("random", bug, found));
        Ok(())
    })
}

fn table(convictions: &Convictions) -> String {
    let mut rows = convictions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    rows.sort_by_key(|(tier, bug, _)| (*tier, domain(bug), bug.name));
    let mut text = format!(
        "\n{:<10} {:<11} {:<48} {:>6} {:>7} {:>6}  convicted by\n",
        "by", "domain", "seeded bug", "trials", "steps", "ms"
    );
    for (tier, bug, found) in &rows {
        let shrunk = found.trace.as_ref().map_or_else(String::new, |t| format!(" (shrunk to {} calls)", t.calls.len()));
        let (played, steps, ms) = (found.played, found.steps, found.took.as_millis());
        text.push_str(&format!(
            "{tier:<10} {:<11} {:<48} {played:>6} {steps:>7} {ms:>6}  {}{shrunk}\n",
            domain(bug),
            bug.name,
            found.trial
        ));
    }
    for tier in ["case", "random", "concurrent", "trace"] {
        text.push_str(&format!("{} by {tier}; ", rows.iter().filter(|(by, ..)| *by == tier).count()));
    }
    text.push_str(&format!("{} convictions\n", rows.len()));
    text
}

/// No lies: every call goes through the hands of a liar, who answers it as it is.
static HONEST: [Bug; 2] = [
    Bug {
        name: "honest in what it tells",
        story: "no lie",
        by: "",
        operations: OpName::ALL,
        lie: Lie::Tells(|_, _, answer| answer),
    },
    Bug {
        name: "honest in what it asks",
        story: "no lie",
        by: "",
        operations: OpName::ALL,
        lie: Lie::Asks(|_, op| op),
    },
];

/// What convicts liars must not convict this backend.
fn acquitted(name: &str, bug: Option<&'static Bug>) -> Trial {
    Trial::test(format!("seeded::nobody::{name}"), move || {
        let (sequences, histories) = (tiers::SEQUENCES, tiers::HISTORIES);
        match convict(&Arc::new(Accused::under(bug)), &Trials::all().seeds(0..sequences).histories(0..histories)) {
            None => Ok(()),
            Some(found) => Err(format!("the true backend is convicted by {found}").into()),
        }
    })
}

/// The catalogue is as large as it says, and everything that it names is there.
fn check_catalogue(bugs: &[&'static Bug]) -> Result<(), Failed> {
    let names: BTreeSet<String> = bugs.iter().map(|bug| file_name(bug)).collect();
    let domains: BTreeSet<&str> = bugs.iter().map(|bug| domain(bug)).collect();
    if names.len() < 120 || names.len() != bugs.len() || domains.len() != 12 {
        return Err(format!("{} bugs, {} names, domains {domains:?}", bugs.len(), names.len()).into());
    }
    let unknown = tiers::RANDOM.iter().chain(tiers::CONCURRENT).filter(|name| !bugs.iter().any(|b| b.name == **name));
    let unclear = bugs.iter().filter(|bug| Trials::none().cases_named(bug.by).cases() != 1).map(|bug| &bug.by);
    let wrong: Vec<&&str> = unknown.chain(unclear).collect();
    let traced = bugs.iter().filter(|bug| KEPT.iter().any(|(name, _)| *name == file_name(bug))).count();
    let few = tiers::RANDOM.len() < 40 || tiers::CONCURRENT.len() < 6 || traced < 12;
    if !wrong.is_empty() || few {
        let (random, concurrent) = (tiers::RANDOM.len(), tiers::CONCURRENT.len());
        let counts = format!("{random} by random sequences, {concurrent} by histories, {traced} by traces");
        return Err(format!("no bug, or not one case: {wrong:?}; {counts}").into());
    }
    Ok(())
}

fn main() {
    let arguments = Arguments::from_args();
    // A failing case is what is wanted here: its panic is no news.
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = catalogue::all();
    let convictions = Convictions::default();
    let mut trials: Vec<Trial> = Vec::new();
    if let Some(folder) = std::env::var_os("FF_SAVE_TRACE") {
        trials.extend(bugs.iter().map(|bug| saving(bug, Path::new(&folder), &convictions)));
    } else {
        for bug in &bugs {
            let by = Trials::none().cases_named(bug.by).case_limit(CASE_LIMIT);
            trials.push(trial(bug, "case", by, &convictions));
            if tiers::RANDOM.contains(&bug.name) {
                trials.push(trial(bug, "random", Trials::none().seeds(0..tiers::SEQUENCES), &convictions));
            }
            if tiers::CONCURRENT.contains(&bug.name) {
                trials.push(trial(bug, "concurrent", Trials::none().histories(0..tiers::HISTORIES), &convictions));
            }
            let name = file_name(bug);
            if KEPT.iter().any(|(kept, _)| *kept == name) {
                trials.push(trial(bug, "trace", Trials::none().trace(&name), &convictions));
            }
        }
        trials.push(Trial::test("seeded::catalogue::it is as large as it says and names what there is", move || {
            check_catalogue(&bugs)
        }));
        trials.push(acquitted("the backend without a lie is not convicted", None));
        trials.extend(HONEST.iter().map(|bug| acquitted(bug.name, Some(bug))));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("{}", table(&convictions));
    }
    conclusion.exit()
}
