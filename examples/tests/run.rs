//! Runs every program once, on memory, and looks at what it prints.

use std::path::PathBuf;
use std::process::Command;

/// Where cargo puts programs: beside the folder of this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let folder = test.parent().and_then(std::path::Path::parent).expect("target/profile/deps").join("examples");
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is not built: run `cargo test -p ff-examples` without --test", program.display());
    program
}

fn prints(name: &str, arguments: &[&str], expected: &[&str]) {
    let output = Command::new(program(name)).args(arguments).output().expect("it starts");
    let (told, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {told}{complained}");
    for text in expected {
        assert!(told.contains(text), "{name} does not print {text:?}: {told}");
    }
}

#[test]
fn hello_greets() {
    prints("hello", &[], &["hello, world", "completed: it has ended (completed)"]);
}

#[test]
fn fan_out_counts_every_prime() {
    prints("fan_out", &[], &["2262 primes below 20000", "7 of them retried"]);
}

#[test]
fn approval_takes_the_token_and_no_forged_one() {
    prints("approval", &[], &["mallory: HTTP/1.1 403", "zoe: resume_condition_satisfied", "approved by zoe"]);
}

#[test]
fn budgeted_waits_for_the_next_period() {
    prints("budgeted", &[], &["20 done after", "periods ended"]);
}

#[test]
fn crawler_reads_each_page_once() {
    prints("crawler", &[], &["40 pages", "in use 0"]);
}

#[test]
fn wrapper_loses_answers_and_no_work() {
    prints("wrapper", &[], &["sum 39800, expected 39800", "200 handlers ran for 200 jobs"]);
}

#[test]
fn documents_indexes_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [("one.md", "# One\nred red blue"), ("two.txt", "red green")] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let out = folder.path().join("index.json");
    let path = |p: &std::path::Path| p.to_str().expect("plain").to_owned();
    let arguments = [path(folder.path()), "--yes".into(), "--flaky".into(), "0.3".into(), "--out".into(), path(&out)];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    prints("documents", &arguments, &["written: ", "red 3"]);
    assert!(std::fs::read_to_string(out).expect("written").contains("green"));
}
