//! Figures, survivors, and those that are explained.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::change::Mutant;

/// Explained survivors: name and reason.
fn explained(root: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(root.join("ff-backend-memory/mutants.txt")).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) = line.rsplit_once(" = ").with_context(|| format!("no reason: {line}"))?;
            Ok((name.trim().to_owned(), reason.trim().to_owned()))
        })
        .collect()
}

/// Prints what became of every change.
///
/// # Errors
/// An explained change is not there any more, or was noticed after all.
pub fn print(root: &Path, copy: &Path, results: &BTreeMap<String, Value>) -> Result<()> {
    let mutants: Vec<Mutant> = serde_json::from_str(&fs::read_to_string(copy.join("mutants.json"))?)?;
    let explained = explained(root)?;
    let state = |m: &Mutant| results.get(&m.key()).and_then(|r| r["state"].as_str()).unwrap_or("not tried");
    let passed = |m: &Mutant| matches!(state(m), "survived" | "unreached");
    let mut files: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    for m in &mutants {
        let counts = files.entry(&m.file).or_default();
        counts[0] += 1;
        let by_sequence =
            results.get(&m.key()).and_then(|r| r["by"].as_str()).is_some_and(|by| by.starts_with("random::"));
        match state(m) {
            "killed" | "hung" | "crashed" if by_sequence => counts[2] += 1,
            "killed" | "hung" | "crashed" => counts[1] += 1,
            _ if passed(m) && explained.contains_key(&m.key()) => counts[3] += 1,
            _ if passed(m) => counts[4] += 1,
            _ => counts[5] += 1,
        }
    }
    println!(
        "{:<32} {:>7} {:>8} {:>10} {:>10} {:>6} {:>9}",
        "file", "changes", "by cases", "by random", "equivalent", "open", "not tried"
    );
    let mut sum = [0; 6];
    for (file, counts) in &files {
        let [all, cases, random, equal, open, rest] = counts;
        println!("{file:<32} {all:>7} {cases:>8} {random:>10} {equal:>10} {open:>6} {rest:>9}");
        for (total, count) in sum.iter_mut().zip(counts) {
            *total += count;
        }
    }
    let [all, cases, random, equal, open, rest] = sum;
    println!("{:<32} {all:>7} {cases:>8} {random:>10} {equal:>10} {open:>6} {rest:>9}\n", "together");
    for m in mutants.iter().filter(|m| passed(m) && !explained.contains_key(&m.key())) {
        println!("{} {}:{}  {}", state(m), m.file, m.line, m.key());
    }
    let stale: Vec<&String> = explained
        .keys()
        .filter(|name| !mutants.iter().any(|m| m.key() == **name && (passed(m) || state(m) == "not tried")))
        .collect();
    if !stale.is_empty() {
        bail!("explained, but noticed or not there: {stale:#?}");
    }
    Ok(())
}
