//! Every scenario at a tiny size, so that the program cannot rot: on memory, and on each server that is installed.

use std::process::Command;

use ff_testserver::Kind;

/// All scenarios and the baselines beside them; the figures and goals that must be among the output.
fn play(backend: &str, figures: &[&str]) {
    let json = tempfile::NamedTempFile::new().expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_ff-bench"))
        .args(["--backend", backend, "--compare", "--rounds", "1", "--executions", "60", "--workers", "4"])
        .args(["--stored", "60,200", "--json"])
        .arg(json.path())
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for figure in figures {
        assert!(text.contains(figure), "no {figure:?} in\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json.path()).expect("written")).expect("JSON");
    let figures = json["figures"].as_array().expect("figures");
    for scenario in [
        "lifecycle",
        "empty",
        "batched",
        "chain",
        "fan",
        "signal",
        "routing",
        "delay",
        "stream",
        "idle",
        "growth",
        "memory",
    ] {
        assert!(figures.iter().any(|f| f["scenario"] == scenario), "no figure of {scenario}");
    }
    let right = figures.iter().find(|f| f["figure"] == "correct routings").expect("counted");
    assert_eq!(right["minimum"], 1.0, "an execution went to a worker that lacks what it requires");
}

#[test]
fn on_memory() {
    play("memory:", &["in memory, lifecycles/s", "flows/s", "lateness p99"]);
}

fn is_installed(kind: Kind) -> bool {
    match Command::new(kind.program()).arg("--version").output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        answer => {
            assert!(answer.expect("it runs").status.success(), "{} does not run", kind.program());
            true
        }
    }
}

/// One that is not installed is left out, if the other one is.
fn on_server(kind: Kind, url: &str) {
    if !is_installed(kind) {
        assert!(is_installed(Kind::Valkey) || is_installed(Kind::Redis), "neither Valkey nor Redis is installed");
        eprintln!("skipped: {} is not installed", kind.program());
        return;
    }
    play(url, &["lifecycle / fused queue", "chain, calls/node", "signal round trip", "bytes waiting"]);
}

#[test]
fn on_valkey() {
    on_server(Kind::Valkey, "valkey:");
}

#[test]
fn on_redis() {
    on_server(Kind::Redis, "redis:");
}
