//! Figures: per name the values of every round, shown as median, minimum and maximum.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use comfy_table::Table;
use redis::aio::MultiplexedConnection;
use serde::Serialize;

/// The figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    values: BTreeMap<(String, String), Vec<f64>>,
}

#[derive(Serialize)]
struct Figure<'a> {
    scenario: &'a str,
    figure: &'a str,
    median: f64,
    minimum: f64,
    maximum: f64,
    rounds: usize,
}

fn figure<'a>(scenario: &'a str, figure: &'a str, values: &[f64]) -> Figure<'a> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or_default();
    Figure {
        scenario,
        figure,
        median: at(sorted.len() / 2),
        minimum: at(0),
        maximum: at(sorted.len().saturating_sub(1)),
        rounds: sorted.len(),
    }
}

impl Report {
    /// Adds one value of one round.
    pub(crate) fn add(&mut self, scenario: &str, figure: &str, value: f64) {
        self.values.entry((scenario.to_owned(), figure.to_owned())).or_default().push(value);
    }

    fn figures(&self) -> impl Iterator<Item = Figure<'_>> {
        self.values.iter().map(|((scenario, name), values)| figure(scenario, name, values))
    }

    fn median(&self, scenario: &str, name: &str) -> Option<f64> {
        self.values.get(&(scenario.to_owned(), name.to_owned())).map(|values| figure(scenario, name, values).median)
    }

    /// The table, with the ratios to the baselines of the same run below it.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.set_header(["scenario", "figure", "median", "minimum", "maximum"]);
        for f in self.figures() {
            let show = |v: f64| if v >= 1000.0 { format!("{v:.0}") } else { format!("{v:.2}") };
            table.add_row([
                f.scenario.to_owned(),
                f.figure.to_owned(),
                show(f.median),
                show(f.minimum),
                show(f.maximum),
            ]);
        }
        let mut text = table.to_string();
        let goals = self.goals();
        if !goals.is_empty() {
            let mut table = Table::new();
            table.set_header(["goal", "measured", "first", "then"]);
            for (name, measured, first, then) in goals {
                table.add_row([name.to_owned(), format!("{measured:.2}"), first.to_owned(), then.to_owned()]);
            }
            text.push('\n');
            text.push_str(&table.to_string());
        }
        text
    }

    /// What this run says of the goals that the project has set itself: name, measured, the first goal, the next.
    fn goals(&self) -> Vec<(&'static str, f64, &'static str, &'static str)> {
        let rate = "lifecycles/s";
        let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
        let of = |scenario: &str, name: &str| self.median(scenario, name);
        let cpu = "server us/lifecycle";
        // Without a server the rates themselves are the goals.
        let memory = of("limit", "PING, calls/s").is_none() && of("lifecycle", cpu).is_none();
        let own = |value: Option<f64>| value.filter(|_| memory);
        [
            ("lifecycle / fused queue", ratio(of("lifecycle", rate), of("fused", rate)), ">= 0.50", ">= 0.65"),
            ("batched / fused queue", ratio(of("batched", rate), of("fused", rate)), ">= 0.80", ">= 1.2"),
            (
                "lifecycle, calls / five-write calls",
                ratio(of("lifecycle", rate).map(|r| r * 3.0), of("limit", "five writes, calls/s")),
                ">= 0.5",
                ">= 0.8",
            ),
            ("lifecycle, server us", of("lifecycle", cpu), "<= 56", "<= 46"),
            ("batched, server us", of("batched", cpu), "<= 48", "<= 38"),
            ("empty payload, server us", of("empty", cpu), "<= 42", "<= 32"),
            ("chain, calls/node", of("chain", "calls/node"), "<= 2", "<= 1.1 in batches"),
            (
                "signal round trip / sequential no-op call",
                ratio(of("signal", "round trip p50, us"), of("limit", "nothing, one after another, us")),
                "<= 5",
                "<= 3.5",
            ),
            (
                "routing, p99 to claim / one set",
                ratio(of("routing", "claim p99, us"), of("routing of one set", "claim p99, us")),
                "<= 1.5",
                "<= 1.1",
            ),
            ("routing, correct", of("routing", "correct routings"), "1", "1"),
            ("growth at 1,000,000 / empty", of("growth", "rate at 1000000 / empty"), ">= 0.85", ">= 0.95"),
            ("idle, store calls/s", of("idle", "store calls/s"), "<= 5", "<= 2"),
            ("bytes waiting", of("memory", "bytes waiting"), "<= 1000", "<= 600"),
            ("bytes finished", of("memory", "bytes finished"), "<= 1200", "<= 700"),
            ("in memory, lifecycles/s", own(of("lifecycle", rate)), ">= 150000", ">= 400000"),
            ("in memory, chain flows/s", own(of("chain", "flows/s")), ">= 10000", ">= 30000"),
        ]
        .into_iter()
        .filter_map(|(name, measured, first, then)| Some((name, measured?, first, then)))
        .collect()
    }

    /// The figures as JSON, with what they were measured on.
    pub(crate) fn json(&self, store: &str, settings: &serde_json::Value, machine: &Machine) -> Result<String> {
        let figures: Vec<_> = self.figures().collect();
        Ok(serde_json::to_string_pretty(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "store": store,
            "settings": settings,
            "machine": machine,
            "figures": figures,
        }))?)
    }
}

/// What the figures were measured on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_mib: u64,
    system: String,
    /// The load of the last minute when the run ended: above the number of cores others were at work.
    load: String,
}

impl Machine {
    pub(crate) fn of_this_process() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, v)| v.trim().to_owned()).unwrap_or_default()
        };
        let kib = value(&read("/proc/meminfo"), "MemTotal");
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: value(&read("/proc/cpuinfo"), "model name"),
            memory_mib: kib.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The server's name and version.
pub(crate) async fn server_version(mut server: MultiplexedConnection) -> Result<String> {
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut server).await?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let valkey = field("valkey_version:").map(|version| format!("valkey {version}"));
    Ok(valkey.unwrap_or_else(|| format!("redis {}", field("redis_version:").unwrap_or("of unknown version"))))
}

/// Events a second.
pub(crate) fn per_second(n: usize, time: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)] // counts of a benchmark
    let n = n as f64;
    n / time.as_secs_f64()
}
