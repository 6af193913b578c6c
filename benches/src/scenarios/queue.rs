//! The baseline: a minimal queue as a user would write it without us. A hash per job and a list; no leases, no retries,
//! no recovery.

use std::time::Instant;

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;

use crate::report::{Report, per_second};
use crate::target::{Target, count};

const LIBRARY: &str = r"#!lua name=ff_bench_queue
redis.register_function('ff_bench_queue_submit', function(keys, args)
    redis.call('HSET', keys[1] .. 'job:' .. args[1], 'payload', args[2], 'state', 'waiting', 'attempts', 0)
    redis.call('LPUSH', keys[1] .. 'ready', args[1])
    return 1
end)
local function claim(keys)
    local id = redis.call('RPOPLPUSH', keys[1] .. 'ready', keys[1] .. 'active')
    if not id then return false end
    redis.call('HSET', keys[1] .. 'job:' .. id, 'state', 'active')
    redis.call('HINCRBY', keys[1] .. 'job:' .. id, 'attempts', 1)
    return { id, redis.call('HGET', keys[1] .. 'job:' .. id, 'payload') }
end
local function complete(keys, args)
    redis.call('LREM', keys[1] .. 'active', -1, args[1])
    redis.call('HSET', keys[1] .. 'job:' .. args[1], 'state', 'done')
end
redis.register_function('ff_bench_queue_claim', function(keys) return claim(keys) end)
redis.register_function('ff_bench_queue_complete', function(keys, args) complete(keys, args) return 1 end)
redis.register_function('ff_bench_queue_next', function(keys, args)
    if args[1] ~= '' then complete(keys, args) end
    return claim(keys)
end)
";

/// Measures lifecycles a second of the hand-written queue.
pub(crate) async fn run(target: &Target, fused: bool, report: &mut Report) -> Result<()> {
    let mut server = target.server()?;
    redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(LIBRARY).query_async::<()>(&mut server).await?;
    let name = if fused { "fused" } else { "queue" };
    let each = (target.executions / target.workers).max(1);
    let before = target.usage().await?;
    let start = Instant::now();
    let tasks = (0..target.workers).map(|worker| tokio::spawn(work(server.clone(), worker, each, fused)));
    for task in futures::future::join_all(tasks).await {
        task??;
    }
    let n = each * target.workers;
    report.add(name, "lifecycles/s", per_second(n, start.elapsed()));
    let per_job = (target.usage().await?.cpu_us - before.cpu_us) / count(n);
    report.add(name, "server us/lifecycle", per_job);
    Ok(())
}

async fn work(mut server: MultiplexedConnection, worker: usize, n: usize, fused: bool) -> Result<()> {
    let payload = vec![7u8; 4096];
    let key = format!("bench:{{queue{worker}}}:");
    let call = |function: &str| {
        let mut command = redis::cmd("FCALL");
        command.arg(function).arg(1).arg(&key);
        command
    };
    type Job = Option<(String, Vec<u8>)>;
    if fused {
        let mut last = String::new();
        for i in 0..n {
            call("ff_bench_queue_submit").arg(i).arg(&payload).query_async::<()>(&mut server).await?;
            let job: Job = call("ff_bench_queue_next").arg(&last).query_async(&mut server).await?;
            last = job.context("a job")?.0;
        }
        call("ff_bench_queue_next").arg(&last).query_async::<Job>(&mut server).await?;
        return Ok(());
    }
    for i in 0..n {
        call("ff_bench_queue_submit").arg(i).arg(&payload).query_async::<()>(&mut server).await?;
        let job: Job = call("ff_bench_queue_claim").query_async(&mut server).await?;
        call("ff_bench_queue_complete").arg(job.context("a job")?.0).query_async::<()>(&mut server).await?;
    }
    Ok(())
}
