//! The store under test, and what its server counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ff_core::contracts::{RebuildIndexesArgs, RotateWaitpointHmacSecretArgs};
use ff_core::engine_backend::EngineBackend;
use ff_core::ids::Kid;
use ff_core::token::WaitpointSecret;
use redis::aio::MultiplexedConnection;

use crate::report::Report;

/// A fresh, empty store and a raw way to its server, if it has one.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) backend: Arc<dyn EngineBackend>,
    pub(crate) server: Option<MultiplexedConnection>,
    pub(crate) workers: usize,
    /// How many executions a scenario plays; each takes its share of it as its size.
    pub(crate) executions: usize,
}

/// What a server has used and done so far; of the in-memory backend, this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, in microseconds.
    pub(crate) cpu_us: f64,
    /// Memory, in bytes.
    pub(crate) memory: f64,
    /// Calls of functions.
    pub(crate) calls: f64,
    /// All other commands by name; functions run most of them.
    commands: BTreeMap<String, f64>,
}

impl Usage {
    /// Commands since then, without the calls of functions themselves.
    pub(crate) fn commands_since(&self, before: &Self) -> f64 {
        self.commands.iter().map(|(name, n)| n - before.commands.get(name).copied().unwrap_or_default()).sum()
    }
}

/// A count as a figure.
#[allow(clippy::cast_precision_loss)] // counts of a benchmark
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

impl Target {
    /// How many partitions it has.
    pub(crate) fn partitions(&self) -> u16 {
        self.backend.deployment().partitions.partitions()
    }

    /// The partition of a worker or flow by its number.
    pub(crate) fn partition_of(&self, number: usize) -> Result<u16> {
        Ok(u16::try_from(number % usize::from(self.partitions()))?)
    }

    /// The raw connection.
    pub(crate) fn server(&self) -> Result<MultiplexedConnection> {
        self.server.clone().context("a scenario of servers alone")
    }

    /// What has been used so far.
    pub(crate) async fn usage(&self) -> Result<Usage> {
        let Some(mut server) = self.server.clone() else { return own_usage() };
        let mut info = String::new();
        for section in ["commandstats", "cpu", "memory"] {
            let text: String = redis::cmd("INFO").arg(section).query_async(&mut server).await?;
            info.push_str(&text);
        }
        let number = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|v| v.trim().parse::<f64>().ok()).unwrap_or_default()
        };
        let mut commands: BTreeMap<String, f64> = info
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
                Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
            })
            .collect();
        commands.remove("info");
        let calls = ["fcall", "fcall_ro"].iter().filter_map(|name| commands.remove(*name)).sum();
        let cpu_us = (number("used_cpu_user") + number("used_cpu_sys")) * 1e6;
        Ok(Usage { cpu_us, memory: number("used_memory"), calls, commands })
    }

    /// A signing key in every partition, as suspensions need one.
    pub(crate) async fn install_keys(&self) -> Result<()> {
        for partition in 0..self.partitions() {
            let key = RotateWaitpointHmacSecretArgs::builder()
                .partition(partition)
                .new_kid(Kid::new("bench")?)
                .new_secret(WaitpointSecret::new([7; 32]))
                .build();
            self.backend.rotate_waitpoint_hmac_secret(key).await?;
        }
        Ok(())
    }

    /// Fails unless every index agrees with the records: a rate of a store that has lost something is worth nothing.
    pub(crate) async fn check(&self) -> Result<()> {
        for partition in 0..self.partitions() {
            let mut cursor = None;
            loop {
                let mut args = RebuildIndexesArgs::builder().partition(partition).limit(1000).build();
                args.cursor = cursor;
                let page = self.backend.rebuild_indexes(args).await?;
                ensure!(page.total() == 0 && page.corrupt.is_empty(), "the state is not sound: {page:?}");
                let Some(next) = page.next_cursor else { break };
                cursor = Some(next);
            }
        }
        Ok(())
    }

    /// Reports the server's part of `n` things called `what`.
    pub(crate) async fn report_usage(
        &self,
        scenario: &str,
        what: &str,
        n: usize,
        before: &Usage,
        report: &mut Report,
    ) -> Result<()> {
        if self.server.is_none() {
            return Ok(());
        }
        let after = self.usage().await?;
        report.add(scenario, &format!("server us/{what}"), (after.cpu_us - before.cpu_us) / count(n));
        report.add(scenario, &format!("calls/{what}"), (after.calls - before.calls) / count(n));
        report.add(scenario, &format!("commands/{what}"), after.commands_since(before) / count(n));
        Ok(())
    }
}

/// Of this process: what it has allocated is not known, so its resident memory stands for it.
fn own_usage() -> Result<Usage> {
    let status = std::fs::read_to_string("/proc/self/status").context("resident memory")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let stat = std::fs::read_to_string("/proc/self/stat").context("processor time")?;
    // Fields 14 and 15, counted behind the name in brackets; in hundredths of a second on every Linux.
    let ticks = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|t| t.parse::<f64>().ok()).sum();
    Ok(Usage {
        cpu_us: ticks * 1e4,
        memory: kib.and_then(|k| k.trim().parse::<f64>().ok()).unwrap_or_default() * 1024.0,
        ..Usage::default()
    })
}
