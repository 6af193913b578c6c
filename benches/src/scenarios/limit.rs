//! What the server and the connection can do at most: the same concurrency, no work.

use std::time::Instant;

use anyhow::Result;
use redis::aio::MultiplexedConnection;

use crate::report::{Report, per_second};
use crate::target::{Target, count};

const LIBRARY: &str = r"#!lua name=ff_bench_limit
redis.register_function('ff_bench_nothing', function() return 1 end)
redis.register_function('ff_bench_writes', function(keys, args)
    local fields = {}
    for i = 1, 20 do fields[i * 2 - 1] = 'field' .. i; fields[i * 2] = args[1] end
    redis.call('HSET', keys[1] .. 'a' .. args[1], unpack(fields))
    redis.call('ZADD', keys[1] .. 'b', args[1], args[1])
    redis.call('ZADD', keys[1] .. 'c', args[1], args[1])
    redis.call('ZREM', keys[1] .. 'b', args[1])
    redis.call('HSET', keys[1] .. 'd', args[1], 1, 'x', 2, 'y', 3)
    return 1
end)
";

/// Measures calls a second, many in flight and one after another.
pub(crate) async fn run(target: &Target, report: &mut Report) -> Result<()> {
    let mut server = target.server()?;
    redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(LIBRARY).query_async::<()>(&mut server).await?;
    for (figure, function) in [
        ("PING, calls/s", None),
        ("nothing, calls/s", Some("ff_bench_nothing")),
        ("five writes, calls/s", Some("ff_bench_writes")),
    ] {
        let each = (target.executions * 3 / target.workers).max(1);
        let before = target.usage().await?;
        let start = Instant::now();
        let tasks = (0..target.workers).map(|worker| tokio::spawn(calls(server.clone(), function, worker, each)));
        for task in futures::future::join_all(tasks).await {
            task??;
        }
        let n = each * target.workers;
        report.add("limit", figure, per_second(n, start.elapsed()));
        let per_call = (target.usage().await?.cpu_us - before.cpu_us) / count(n);
        report.add("limit", &figure.replace("calls/s", "server us/call"), per_call);
    }
    let n = (target.executions / 2).max(1);
    let start = Instant::now();
    calls(server, Some("ff_bench_nothing"), 0, n).await?;
    report.add("limit", "nothing, one after another, us", 1e6 / per_second(n, start.elapsed()));
    Ok(())
}

async fn calls(mut server: MultiplexedConnection, function: Option<&str>, worker: usize, n: usize) -> Result<()> {
    for i in 0..n {
        let mut command = match function {
            None => redis::cmd("PING"),
            Some(_) => redis::cmd("FCALL"),
        };
        if let Some(function) = function {
            command.arg(function).arg(1).arg("bench:{limit}:").arg(worker * n + i);
        }
        command.query_async::<redis::Value>(&mut server).await?;
    }
    Ok(())
}
