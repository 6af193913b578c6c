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
        let rate = "lifecycles/s";
        for (what, baseline, figure, factor) in [
            ("lifecycle", "fused", rate, 1.0),
            ("batched", "fused", rate, 1.0),
            ("lifecycle", "queue", rate, 1.0),
            ("lifecycle", "limit", "five writes, calls/s", 3.0),
        ] {
            if let (Some(ours), Some(theirs)) = (self.median(what, rate), self.median(baseline, figure)) {
                text.push_str(&format!("\n{what} / {baseline}: {:.2}", ours * factor / theirs));
            }
        }
        text
    }

    /// The figures as JSON, with what they were measured on.
    pub(crate) fn json(&self, backend: &str) -> Result<String> {
        let figures: Vec<_> = self.figures().collect();
        Ok(serde_json::to_string_pretty(&serde_json::json!({
            "backend": backend,
            "version": env!("CARGO_PKG_VERSION"),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "figures": figures,
        }))?)
    }
}

/// Events a second.
pub(crate) fn per_second(n: usize, time: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)] // counts of a benchmark
    let n = n as f64;
    n / time.as_secs_f64()
}

/// User and system time of the server's process so far, in microseconds.
pub(crate) async fn server_cpu(server: &mut MultiplexedConnection) -> Result<f64> {
    let info: String = redis::cmd("INFO").arg("cpu").query_async(server).await?;
    let field = |name: &str| {
        info.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| v.trim().parse::<f64>().ok()).unwrap_or_default()
    };
    Ok((field("used_cpu_user:") + field("used_cpu_sys:")) * 1e6)
}
