//! Mutants of the memory rules: changes every rule of the in-memory backend in every small way that may go unnoticed, and
//! plays the conformance suite on each change. A change that nothing notices shows a sentence that no case tests.
//!
//! `cargo mutants` builds anew for every change. Here one build holds all of them, each behind a switch, in a copy of the
//! workspace under the target folder; a run chooses one switch at a time. Which changes a case reaches is measured first, so
//! a change is tried with those cases alone that could notice it, the quickest first, and then with random sequences against
//! the unchanged model.
//!
//! ```sh
//! cargo run --manifest-path mutants/Cargo.toml -- run      # goes on where the last run stopped
//! cargo run --manifest-path mutants/Cargo.toml -- report   # figures, survivors, and those that are explained
//! ```
//!
//! `ff-backend-memory/mutants.txt` explains survivors that are no faults: `<name> = <reason>`, one a line.

mod change;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use walkdir::WalkDir;

use crate::change::Mutant;

/// What is changed, under `ff-backend-memory/src`.
const RULES: &[&str] = &["rules/", "routines.rs", "cascade.rs"];
/// What is no rule.
const NO_RULES: &[&str] = &["/tests/", "testing.rs"];

/// Milliseconds of cases that are played on one change, as measured without any.
const CASES_MS: u64 = 2_000;
/// Random sequences that are played on a change that the cases let pass.
const SEQUENCES: u64 = 5;
/// Seconds within which a case must end.
const CASE_SECONDS: u64 = 15;

struct Place {
    /// The workspace.
    root: PathBuf,
    /// Where the copy is, with all that is written.
    copy: PathBuf,
    /// Where it is built.
    target: PathBuf,
}

fn place() -> Result<Place> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace is above")?.to_owned();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let copy = target.join("mutants");
    fs::create_dir_all(&copy)?;
    // A folder of its own: nobody waits for the lock of the other.
    let target = copy.join("target");
    Ok(Place { root, copy, target })
}

/// Writes a file if it holds something else: what is not touched is not built again.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// The manifest of the copy: the same dependencies, three crates and the runner, no lints, and quick to build: as tests are,
/// so that what is built for those is not built again.
fn manifest(original: &str) -> String {
    let mut text = String::from(
        "[workspace]\nresolver = \"3\"\nmembers = [\"ff-core\", \"ff-backend-memory\", \"ff-conformance\", \"runner\"]\n\n\
         [workspace.lints.rust]\nunused = \"allow\"\n\n\
         [profile.dev]\nopt-level = 1\ndebug = \"line-tables-only\"\n\n\
         [profile.dev.package.ff-conformance]\nopt-level = 0\ndebug = false\n\n",
    );
    let mut keep = false;
    for line in original.lines() {
        if line.starts_with('[') {
            keep = matches!(line, "[workspace.package]" | "[workspace.dependencies]");
        }
        if keep {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

const RUNNER: &str = "[package]\nname = \"runner\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\n\
    [[bin]]\nname = \"runner\"\npath = \"main.rs\"\n\n[dependencies]\nasync-trait.workspace = true\n\
    ff-backend-memory.workspace = true\nff-conformance.workspace = true\nff-core.workspace = true\n\
    serde_json.workspace = true\n";

/// Copies the workspace, with every change in the rules that is not excluded.
fn copy(place: &Place, excluded: &BTreeSet<u32>) -> Result<Vec<Mutant>> {
    let Place { root, copy, .. } = place;
    write(&copy.join("Cargo.toml"), &manifest(&fs::read_to_string(root.join("Cargo.toml"))?))?;
    if !copy.join("Cargo.lock").exists() {
        fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock"))?;
    }
    write(&copy.join("runner/Cargo.toml"), RUNNER)?;
    write(&copy.join("runner/main.rs"), include_str!("../runner/main.rs"))?;
    let (mut mutants, mut next) = (Vec::new(), 1);
    for name in ["ff-core", "ff-backend-memory", "ff-conformance"] {
        let files = WalkDir::new(root.join(name)).sort_by_file_name().into_iter();
        for entry in files.filter_entry(|e| e.file_name() != "target") {
            let entry = entry?;
            if !entry.file_type().is_file() {
                continue;
            }
            let under = entry.path().strip_prefix(root)?;
            let Ok(source) = fs::read_to_string(entry.path()) else { continue };
            let rule = under.strip_prefix("ff-backend-memory/src").ok().map(|p| p.to_string_lossy().into_owned());
            let rule = rule.filter(|file| {
                RULES.iter().any(|rule| file.starts_with(rule)) && !NO_RULES.iter().any(|no| file.contains(no))
            });
            let text = match rule {
                Some(file) => change::change(&source, &file, excluded, &mut next, &mut mutants)
                    .with_context(|| under.display().to_string())?,
                None if under == Path::new("ff-backend-memory/src/lib.rs") => format!("{source}\npub mod mutant;\n"),
                None => source,
            };
            write(&copy.join(under), &text)?;
        }
    }
    write(&copy.join("ff-backend-memory/src/mutant.rs"), include_str!("../runner/switch.rs"))?;
    mutants.retain(|m| !excluded.contains(&m.id));
    Ok(mutants)
}

fn cargo(place: &Place, words: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(words).current_dir(&place.copy).env("CARGO_TARGET_DIR", &place.target);
    command
}

/// The switches that stand near the errors of a build.
fn blamed(place: &Place, output: &str) -> Result<BTreeSet<u32>> {
    let mut blamed = BTreeSet::new();
    for line in output.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if message["message"]["level"] != "error" {
            continue;
        }
        let Some(spans) = message["message"]["spans"].as_array() else { continue };
        let Some(span) = spans.iter().find(|span| span["is_primary"] == true) else { continue };
        let file = place.copy.join(span["file_name"].as_str().unwrap_or_default());
        let text = fs::read_to_string(&file)?;
        let number = |key: &str| usize::try_from(span[key].as_u64().unwrap_or(0)).unwrap_or(0);
        let (first, last) = (number("line_start"), number("line_end"));
        let found = (0..8).find_map(|more: usize| {
            let lines = text.lines().enumerate();
            let near: Vec<&str> =
                lines.filter(|(at, _)| at + 1 + more >= first && at + 1 <= last + more).map(|(_, line)| line).collect();
            let ids: Vec<u32> = near.iter().flat_map(|line| switches(line)).collect();
            (!ids.is_empty()).then_some(ids)
        });
        match found {
            Some(ids) => blamed.extend(ids),
            None => bail!("an error that no change explains: {}", message["message"]["rendered"]),
        }
    }
    Ok(blamed)
}

/// The switches of a line of changed source.
fn switches(line: &str) -> Vec<u32> {
    let parts = line.split("crate::mutant::on(").skip(1);
    parts.filter_map(|part| part.split(')').next()?.parse().ok()).collect()
}

/// Copies and checks until every change that is left can be built.
fn make(place: &Place) -> Result<Vec<Mutant>> {
    let known = place.copy.join("excluded.json");
    let mut excluded: BTreeSet<u32> =
        fs::read_to_string(&known).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    for _ in 0..20 {
        let mutants = copy(place, &excluded)?;
        eprintln!("{} changes, {} of them excluded; checking", mutants.len() + excluded.len(), excluded.len());
        let checked =
            cargo(place, &["check", "--offline", "-p", "ff-backend-memory", "--lib", "--message-format=json"])
                .stderr(Stdio::inherit())
                .output()?;
        if checked.status.success() {
            fs::write(&known, serde_json::to_string(&excluded)?)?;
            fs::write(place.copy.join("mutants.json"), serde_json::to_string(&mutants)?)?;
            return Ok(mutants);
        }
        let more = blamed(place, &String::from_utf8_lossy(&checked.stdout))?;
        if more.is_subset(&excluded) {
            bail!("the copy cannot be built, and no change is to blame");
        }
        excluded.extend(more);
    }
    bail!("the copy cannot be built");
}

/// The domain whose cases know a file best.
fn domain(file: &str) -> &str {
    match file.strip_prefix("rules/").map(|rest| rest.split(['/', '.']).next().unwrap_or(rest)) {
        Some(domain) => domain,
        None if file == "cascade.rs" => "flow",
        None => "execution",
    }
}

/// A case that takes no longer is quick.
const QUICK_MS: u64 = 300;

/// Which cases and sequences reach a change, the quickest first.
type Reach = BTreeMap<u32, (Vec<String>, Vec<u64>)>;

fn reach(place: &Place, runner: &Path, mutants: &[Mutant]) -> Result<Reach> {
    let known = place.copy.join("reach.jsonl");
    let newer = |a: &Path, b: &Path| -> Option<bool> {
        Some(fs::metadata(a).ok()?.modified().ok()? >= fs::metadata(b).ok()?.modified().ok()?)
    };
    if newer(&known, runner) != Some(true) {
        eprintln!("measuring which changes each case reaches");
        let output = Command::new(runner).args(["reach", &SEQUENCES.to_string()]).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("the suite could not be played without a change");
        }
        fs::write(&known, output.stdout)?;
    }
    let mut lines: Vec<Value> =
        fs::read_to_string(&known)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let number = |line: &Value| line["ms"].as_u64().unwrap_or(u64::MAX);
    lines.sort_by_key(number);
    let mut reach = Reach::new();
    for line in &lines {
        if !line["wrong"].is_null() {
            bail!("without any change this fails: {line}");
        }
        for id in line["hits"].as_array().into_iter().flatten().filter_map(Value::as_u64) {
            let (cases, seeds) = reach.entry(u32::try_from(id)?).or_default();
            match (line["case"].as_str(), line["seed"].as_u64()) {
                (Some(case), _) => cases.push(case.to_owned()),
                (None, Some(seed)) => seeds.push(seed),
                (None, None) => {}
            }
        }
    }
    // Of each change as many cases as are played in the time, quick ones of its own domain first.
    let took: BTreeMap<&str, u64> = lines.iter().filter_map(|l| Some((l["case"].as_str()?, number(l)))).collect();
    let ms_of = |case: &String| took.get(case.as_str()).copied().unwrap_or(0);
    for (id, (cases, _)) in &mut reach {
        let own = mutants.iter().find(|m| m.id == *id).map_or("", |m| domain(&m.file));
        cases.sort_by_key(|case| (!case.starts_with(own) || ms_of(case) > QUICK_MS, ms_of(case)));
        let mut ms = 0;
        let count = cases.iter().take_while(|case| {
            let first = ms == 0;
            ms += ms_of(case);
            first || ms <= CASES_MS
        });
        let count = count.count();
        cases.truncate(count);
    }
    Ok(reach)
}

/// What became of the changes so far.
fn results(place: &Place) -> Result<BTreeMap<String, Value>> {
    let Ok(text) = fs::read_to_string(place.copy.join("results.jsonl")) else { return Ok(BTreeMap::new()) };
    let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter_map(|line| Some((line["key"].as_str()?.to_owned(), line))).collect())
}

fn run(place: &Place, words: &[String]) -> Result<()> {
    let mutants = make(place)?;
    let built = cargo(place, &["build", "--offline", "-p", "runner"]).status()?;
    if !built.success() {
        bail!("the runner cannot be built");
    }
    let runner = place.target.join("debug/runner");
    let reach = reach(place, &runner, &mutants)?;
    let only = words.first();
    let mut left = usize::MAX;
    loop {
        let known = results(place)?;
        let mut open: Vec<&Mutant> = mutants
            .iter()
            .filter(|m| only.is_none_or(|word| m.file.contains(word.as_str())))
            .filter(|m| !known.contains_key(&m.key()))
            .collect();
        eprintln!("{} of {} changes are to be tried", open.len(), mutants.len());
        if open.is_empty() {
            return Ok(());
        }
        if open.len() >= left {
            bail!("the runner does not get on");
        }
        left = open.len();
        // In no order of the source, so that what is tried first stands for all.
        open.sort_by_key(|m| m.id.wrapping_mul(2_654_435_761));
        play(place, &runner, &open, &reach)?;
    }
}

/// Plays changes until all are played, or one hangs or crashes the runner.
fn play(place: &Place, runner: &Path, open: &[&Mutant], reach: &Reach) -> Result<()> {
    let mut results = fs::OpenOptions::new().create(true).append(true).open(place.copy.join("results.jsonl"))?;
    let by_id: BTreeMap<u64, &&Mutant> = open.iter().map(|m| (u64::from(m.id), m)).collect();
    let mut note = |m: &Mutant, state: &str, by: Value, ms: &Value| -> Result<()> {
        let line = json!({"key": m.key(), "file": m.file, "line": m.line, "state": state, "by": by, "ms": ms});
        Ok(writeln!(results, "{line}")?)
    };
    let nothing = (Vec::new(), Vec::new());
    let mut jobs = String::new();
    for m in open {
        let (cases, seeds) = reach.get(&m.id).unwrap_or(&nothing);
        if cases.is_empty() && seeds.is_empty() {
            note(m, "unreached", Value::Null, &Value::Null)?;
        } else {
            jobs.push_str(&json!({"mutant": m.id, "cases": cases, "seeds": seeds}).to_string());
            jobs.push('\n');
        }
    }
    let list = place.copy.join("jobs.jsonl");
    fs::write(&list, jobs)?;
    // A loop that never ends may also eat all memory.
    let script = format!("ulimit -v 6000000; exec nice -n 15 \"$0\" try {CASE_SECONDS}");
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .arg(runner)
        .stdin(fs::File::open(&list)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut begun = None;
    for line in BufReader::new(child.stdout.take().context("it is piped")?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        if let Some(id) = line["begun"].as_u64() {
            begun = by_id.get(&id);
        } else if let Some(m) = line["mutant"].as_u64().and_then(|id| by_id.get(&id)) {
            let state = match (line["by"].is_null(), line["hung"] == true) {
                (true, _) => "survived",
                (false, true) => "hung",
                (false, false) => "killed",
            };
            note(m, state, line["by"].clone(), &line["ms"])?;
            begun = None;
        }
    }
    child.wait()?;
    if let Some(m) = begun {
        note(m, "crashed", json!("the process ended"), &Value::Null)?;
    }
    Ok(())
}

/// Forgets survivors, so that they are tried again.
fn again(place: &Place) -> Result<()> {
    let known = results(place)?;
    let kept: Vec<String> = known
        .values()
        .filter(|v| v["state"] != "survived" && v["state"] != "unreached")
        .map(Value::to_string)
        .collect();
    fs::write(place.copy.join("results.jsonl"), kept.join("\n") + "\n")?;
    Ok(())
}

fn main() -> Result<()> {
    let place = place()?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("make") => make(&place).map(|mutants| println!("{} changes", mutants.len())),
        Some("run") => run(&place, &words[1..]),
        Some("again") => again(&place).and_then(|()| run(&place, &words[1..])),
        Some("report") => report::print(&place.root, &place.copy, &results(&place)?),
        _ => bail!("usage: make | run [file] | again [file] | report"),
    }
}
