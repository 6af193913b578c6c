//! The suite on trial: backends that lie, each of which must be convicted.
//!
//! Every seeded bug is a trial of its own, filtered and listed like any test; the table at the end says which trial of
//! the suite convicted it and after how long. `FF_SAVE_TRACE=<folder>` plays the random tier alone, and keeps the shrunk
//! sequence of each bug that it convicts.

mod catalogue;
mod scene;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ff_backend_memory::MemoryBackend;
use ff_conformance::{Conviction, Damage, DamageKind, Fixture, Harness, TestName, Trials, convict};
use ff_core::layer::Layered;
use ff_core::time::ManualClock;
use libtest_mimic::{Arguments, Trial};

use crate::scene::{Bug, Liar, Scene};

/// The in-memory backend, under a lie or as it is.
struct Accused(Option<&'static Bug>);

impl Harness for Accused {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let backend = MemoryBackend::with_manual_clock(clock.clone());
        let fixture = match self.0 {
            None => Fixture::new(Arc::new(backend.clone()), clock),
            Some(bug) => {
                let scene = Scene::new(backend.clone(), clock.clone());
                let lying = Layered::new(Arc::new(backend.clone()), Liar { bug, scene });
                Fixture::new(Arc::new(lying), clock)
            }
        };
        fixture.with_guard(backend)
    }

    async fn damage(&self, fixture: &Fixture, damage: Damage) -> bool {
        let Some(backend) = fixture.guard::<MemoryBackend>() else { return false };
        match damage {
            Damage::Unreadable(id) => backend.make_unreadable(&id),
            Damage::Readable(id) => backend.make_readable(&id),
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

/// What a lie costs at most: a case that a lie keeps busy is convicted, too.
const CASE_LIMIT: Duration = Duration::from_secs(20);

type Convictions = Arc<Mutex<Vec<(&'static Bug, Conviction)>>>;

fn domain(bug: &Bug) -> &'static str {
    bug.operations.first().map_or("", |op| op.domain())
}

/// A name that can be a file's.
fn file_name(bug: &Bug) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = bug.name.chars().map(word).collect();
    name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn trial(bug: &'static Bug, convictions: &Convictions) -> Trial {
    let convictions = Arc::clone(convictions);
    Trial::test(format!("seeded::{}::{}", domain(bug), bug.name), move || {
        let folder = std::env::var_os("FF_SAVE_TRACE");
        let mut trials = Trials::of(bug.operations).case_limit(CASE_LIMIT);
        if folder.is_some() {
            let seeds = std::env::var("FF_SEQUENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
            trials = trials.without_cases().seeds(0..seeds);
        }
        let found = convict(&Arc::new(Accused(Some(bug))), &trials);
        if let (Some(folder), Some(found)) = (&folder, &found)
            && let Some(mut trace) = found.trace.clone()
        {
            trace.name = file_name(bug);
            trace.convicted = format!("the seeded bug `{}`: {}", bug.name, bug.story);
            trace.date = std::env::var("FF_TRACE_DATE").unwrap_or_default();
            let path = Path::new(folder).join(format!("{}.jsonl", trace.name));
            std::fs::write(path, trace.to_text()?).map_err(|e| e.to_string())?;
        }
        match found {
            Some(found) => {
                convictions.lock().unwrap_or_else(PoisonError::into_inner).push((bug, found));
                Ok(())
            }
            None => Err(format!("nothing convicts it: {}", bug.story).into()),
        }
    })
}

fn table(convictions: &Convictions) -> String {
    let mut rows = convictions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    rows.sort_by_key(|(bug, _)| (domain(bug), bug.name));
    let mut text = format!("\n{:<11} {:<48} {:>6} {:>6}  convicted by\n", "domain", "seeded bug", "trials", "ms");
    for (bug, found) in &rows {
        let steps = found.trace.as_ref().map_or_else(String::new, |t| format!(" ({} calls)", t.calls.len()));
        let (played, ms) = (found.played, found.took.as_millis());
        text.push_str(&format!("{:<11} {:<48} {played:>6} {ms:>6}  {}{steps}\n", domain(bug), bug.name, found.trial));
    }
    let by_random = rows.iter().filter(|(_, found)| found.trace.is_some()).count();
    text.push_str(&format!("{} convicted, {by_random} of them by a random sequence\n", rows.len()));
    text
}

fn main() {
    let arguments = Arguments::from_args();
    // A failing case is what is wanted here: its panic is no news.
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = catalogue::all();
    let convictions = Convictions::default();
    let mut trials: Vec<Trial> = bugs.iter().map(|bug| trial(bug, &convictions)).collect();
    trials.push(Trial::test("seeded::catalogue::at least 120 bugs, each under a name of its own", move || {
        let names: BTreeSet<String> = bugs.iter().map(|bug| file_name(bug)).collect();
        let domains: BTreeSet<&str> = bugs.iter().map(|bug| domain(bug)).collect();
        if names.len() < 120 || names.len() != bugs.len() || domains.len() != 12 {
            return Err(format!("{} bugs, {} names, domains {domains:?}", bugs.len(), names.len()).into());
        }
        Ok(())
    }));
    trials.push(Trial::test("seeded::nobody::the backend without a lie is not convicted", || {
        match convict(&Arc::new(Accused(None)), &Trials::all().without_traces().seeds(0..200)) {
            None => Ok(()),
            Some(found) => Err(format!("the true backend is convicted by {found}").into()),
        }
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("{}", table(&convictions));
    }
    conclusion.exit()
}
