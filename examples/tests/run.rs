//! Runs every program, on memory and on a server of its own, and looks at what it prints.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ff_testserver::process::{Process, chosen};

/// Where cargo puts programs: beside the folder of this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let folder = test.parent().and_then(Path::parent).expect("target/profile/deps").join("examples");
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is not built: run `cargo test -p ff-examples` without --test", program.display());
    program
}

/// A server without persistence.
fn server() -> Process {
    chosen(&[]).expect("a server is installed")
}

fn prints(name: &str, arguments: &[&str], expected: &[&str]) {
    let output = Command::new(program(name)).args(arguments).stdin(Stdio::null()).output().expect("it starts");
    let (told, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {told}{complained}");
    for text in expected {
        assert!(told.contains(text), "{name} does not print {text:?}: {told}{complained}");
    }
}

/// On memory, and twice on a server: what a run leaves behind disturbs no later one.
fn prints_everywhere(name: &str, expected: &[&str]) {
    prints(name, &[], expected);
    let server = server();
    for _ in 0..2 {
        prints(name, &["--backend", &server.url()], expected);
    }
}

#[test]
fn hello_greets() {
    prints_everywhere("hello", &["hello, world", "completed: it has ended (completed)"]);
}

#[test]
fn fan_out_counts_every_prime() {
    prints_everywhere("fan_out", &["2262 primes below 20000", "28 attempts, 7 of them retried"]);
}

#[test]
fn approval_takes_the_token_and_no_forged_one() {
    prints_everywhere("approval", &["mallory: 403", "zoe: resume_condition_satisfied", "approved by zoe"]);
}

#[test]
fn budgeted_waits_for_the_next_period() {
    prints_everywhere("budgeted", &["20 done after", "periods ended"]);
}

#[test]
fn crawler_reads_each_page_once() {
    prints_everywhere("crawler", &["40 pages", "in use 0"]);
}

#[test]
fn wrapper_loses_answers_and_no_work() {
    prints_everywhere("wrapper", &["sum 39800, expected 39800", "200 handlers ran for 200 jobs"]);
}

#[test]
fn documents_indexes_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [("one.md", "# One\nred red blue"), ("two.txt", "red green")] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let out = folder.path().join("index.json");
    let path = |p: &Path| p.to_str().expect("plain").to_owned();
    let arguments = [path(folder.path()), "--flaky".into(), "0.3".into(), "--out".into(), path(&out)];
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Nobody is there to approve it.
    let declined =
        Command::new(program("documents")).args(&arguments).stdin(Stdio::null()).output().expect("it starts");
    let told = String::from_utf8_lossy(&declined.stdout);
    assert!(!declined.status.success() && told.contains("run it with --yes"), "{told}");
    assert!(!out.exists());
    arguments.push("--yes");
    prints("documents", &arguments, &["written: ", "red 3"]);
    assert!(std::fs::read_to_string(out).expect("written").contains("green"));
}

/// A process that helps, until it is killed.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn documents_loses_nothing_when_a_process_that_helps_is_killed() {
    let server = server();
    let folder = tempfile::tempdir().expect("a folder");
    for n in 0..120 {
        std::fs::write(folder.path().join(format!("{n}.md")), format!("# Page {n}\nred red blue")).expect("written");
    }
    let out = folder.path().join("index.json");
    let start = |more: &[&str]| {
        let mut command = Command::new(program("documents"));
        command.arg(folder.path()).args(["--yes", "--lease", "2", "--flaky", "0.2", "--out"]).arg(&out);
        command.args(["--backend", &server.url()]).args(more).stdin(Stdio::null());
        command
    };
    let mut helper = Helper(start(&["--worker-only"]).stdout(Stdio::piped()).spawn().expect("it starts"));
    let mut line = String::new();
    let stdout = helper.0.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("it says that it is at work");
    assert_eq!(line.trim(), "at work");

    // Both work.
    let mut main = Helper(start(&["--workers", "1"]).stdout(Stdio::piped()).spawn().expect("it starts"));
    let claims = || {
        let stats = server.ask(&["INFO", "commandstats"]).expect("it answers");
        let calls =
            stats.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:calls=")?.split(',').next()?.parse().ok());
        calls.unwrap_or(0_u64)
    };
    // In the middle: the submission alone is some 400 calls, the whole some thousands.
    while claims() < 800 {
        assert!(main.0.try_wait().expect("a child").is_none(), "it ended before it was begun");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    helper.0.kill().expect("kill -9");
    let stdout = main.0.stdout.take().expect("piped");
    let told = std::io::read_to_string(stdout).expect("text");
    assert!(main.0.wait().expect("a child").success(), "{told}");
    for text in ["written: ", "red 240", "blue 120"] {
        assert!(told.contains(text), "no {text:?} in {told}");
    }
    assert!(std::fs::read_to_string(out).expect("written").contains("Page 119"));
}
