//! What is asked of a server when the backend is opened, and by `health()`.

use redis::{Cmd, RedisError, RedisResult, Value};

use super::Primary;
use crate::library;
use crate::options::{Confirm, ConnectError, Options};

/// What the engine runs, each with arguments as it uses them: `@` is a key of a partition, `*` its channels. The
/// functions run their commands as the user that calls them, so the user needs them all.
pub(crate) const NEEDED: &[&str] = &[
    "DEL @",
    "EXISTS @",
    "GET @",
    "HDEL @ f",
    "HEXISTS @ f",
    "HGET @ f",
    "HGETALL @",
    "HINCRBY @ f 1",
    "HKEYS @",
    "HLEN @",
    "HMGET @ f",
    "HSET @ f v",
    "HSETNX @ f v",
    "HSTRLEN @ f",
    "HVALS @",
    "MGET @",
    "MSET @ v",
    "PUBLISH * m",
    "SADD @ m",
    "SET @ v",
    "SMEMBERS @",
    "SREM @ m",
    "TIME",
    "UNLINK @",
    "XADD @ 1-1 f v",
    "XLEN @",
    "XRANGE @ - +",
    "ZADD @ 0 m",
    "ZCARD @",
    "ZCOUNT @ 0 1",
    "ZLEXCOUNT @ - +",
    "ZRANGE @ 0 1",
    "ZRANGEBYLEX @ - +",
    "ZRANGEBYSCORE @ 0 1",
    "ZRANK @ m",
    "ZREM @ m",
    "ZREMRANGEBYSCORE @ 0 1",
    "ZSCORE @ m",
    "FCALL f 1 @",
    "FUNCTION LOAD x",
    "INFO",
    "PSUBSCRIBE *",
    "PING",
];

/// Beside them in a cluster.
const IN_A_CLUSTER: &[&str] = &["CLUSTER SLOTS"];

/// Which servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Valkey,
    Redis,
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerInfo {
    family: Family,
    version: String,
    pub(crate) policy: Option<String>,
    pub(crate) appendonly: bool,
    pub(crate) aof_write_ok: bool,
    pub(crate) rdb_ok: bool,
    pub(crate) replicas: u64,
    in_cluster: bool,
}

impl ServerInfo {
    fn read(info: &str) -> Option<Self> {
        let field = |name: &str| {
            info.lines().find_map(|line| line.trim_end().strip_prefix(name).and_then(|rest| rest.strip_prefix(':')))
        };
        let (family, version) = match (field("valkey_version"), field("redis_version")) {
            (Some(version), _) => (Family::Valkey, version),
            // Valkey 7.2 does not say more than its name.
            (None, Some(version)) if field("server_name") == Some("valkey") => (Family::Valkey, version),
            (None, Some(version)) => (Family::Redis, version),
            _ => return None,
        };
        Some(Self {
            family,
            version: version.to_owned(),
            policy: field("maxmemory_policy").map(str::to_owned),
            appendonly: field("aof_enabled") == Some("1"),
            aof_write_ok: field("aof_last_write_status").is_none_or(|status| status == "ok"),
            rdb_ok: field("rdb_last_bgsave_status").is_none_or(|status| status == "ok"),
            in_cluster: field("cluster_enabled") == Some("1"),
            replicas: field("connected_slaves").and_then(|n| n.parse().ok()).unwrap_or(0),
        })
    }

    fn number(&self) -> (u32, u32) {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// Its name and version.
    pub(crate) fn name(&self) -> String {
        let family = match self.family {
            Family::Valkey => "valkey",
            Family::Redis => "redis",
        };
        format!("{family} {}", self.version)
    }

    fn is_new_enough(&self) -> bool {
        self.number() >= if self.family == Family::Valkey { (7, 2) } else { (7, 0) }
    }

    fn has_waitaof(&self) -> bool {
        self.number() >= (7, 2)
    }

    fn check(&self, options: &Options) -> Result<(), ConnectError> {
        if !self.is_new_enough() {
            return Err(ConnectError::ServerVersion { found: self.name() });
        }
        match &self.policy {
            Some(policy) if policy != "noeviction" && !options.allow_eviction => {
                return Err(ConnectError::Eviction { policy: policy.clone() });
            }
            _ => {}
        }
        if options.confirm == Confirm::LocalFsync {
            if !self.has_waitaof() {
                let what = format!("{} has no WAITAOF: use Valkey, or Redis 7.2 and later", self.name());
                return Err(ConnectError::Unsupported { what });
            }
            if !self.appendonly {
                let what =
                    "the server writes no append-only file that could be synced: set `appendonly yes`".to_owned();
                return Err(ConnectError::Unsupported { what });
            }
        }
        Ok(())
    }
}

/// What a server says of itself now.
pub(crate) async fn info(primary: &mut Primary) -> RedisResult<ServerInfo> {
    let text: String = redis::from_redis_value(primary.run(&redis::cmd("INFO")).await?)?;
    ServerInfo::read(&text)
        .ok_or_else(|| RedisError::from((redis::ErrorKind::UnexpectedReturnType, "INFO names no version")))
}

/// When the append-only file is synced; none where the user may not know.
pub(crate) async fn appendfsync(primary: &mut Primary) -> RedisResult<Option<String>> {
    let ask = redis::cmd("CONFIG").arg("GET").arg("appendfsync").to_owned();
    match primary.run(&ask).await {
        Ok(answer) => {
            let pair: Vec<String> = redis::from_redis_value(answer)?;
            Ok(pair.into_iter().nth(1))
        }
        Err(error) if error.is_io_error() => Err(error),
        Err(_) => Ok(None),
    }
}

/// The rule that a NOPERM speaks of, as an operator would grant it.
fn rule_of(error: &RedisError, options: &Options) -> Option<String> {
    if error.code() != Some("NOPERM") {
        return None;
    }
    let text = error.to_string();
    // Valkey: "No permissions to access a key"; Redis: "... to access one of the keys used as arguments".
    if text.contains("access") && text.contains("channel") {
        return Some(format!("&{}:w:*", options.prefix));
    }
    if text.contains("access") && text.contains("key") {
        return Some(format!("~{}:*", options.prefix));
    }
    let command = text.split('\'').nth(1)?;
    Some(format!("+{command}"))
}

/// Names the missing rule where an error is of one.
pub(crate) fn explained(error: ConnectError, options: &Options) -> ConnectError {
    match error {
        ConnectError::Server(error) => match rule_of(&error, options) {
            Some(rule) => ConnectError::Permission { missing: vec![rule] },
            None => ConnectError::Server(error),
        },
        other => other,
    }
}

/// Refuses where the user may not run what is needed. Users are set on each server; the key is one that it serves.
pub(super) async fn permissions(primary: &mut Primary, key: &str, options: &Options) -> Result<(), ConnectError> {
    let in_cluster: &[&str] = if matches!(primary, Primary::Slot(..)) { IN_A_CLUSTER } else { &[] };
    let confirming: &[&str] = match options.confirm {
        Confirm::Memory => &[],
        Confirm::LocalFsync => &["WAITAOF 1 0 1"],
        Confirm::Replicas(_) => &["WAIT 1 1"],
    };
    let mut ask: Cmd = redis::cmd("FCALL");
    ask.arg(format!("{}_lacking", library::prefix(options.generation))).arg(1).arg(key);
    ask.arg(format!("{}:w:*", options.prefix));
    for needed in NEEDED.iter().chain(in_cluster).chain(confirming) {
        ask.arg(*needed);
    }
    let lacking: Vec<String> = match primary.run(&ask).await? {
        Value::Nil => Vec::new(),
        answer => redis::from_redis_value(answer).map_err(RedisError::from)?,
    };
    if lacking.is_empty() {
        return Ok(());
    }
    let channels = ["PUBLISH * m", "PSUBSCRIBE *"];
    let rule = |needed: &String| {
        let mut words = needed.split(' ');
        let (name, sub) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if matches!(name, "FUNCTION" | "CLUSTER") {
            format!("+{}|{}", name.to_lowercase(), sub.to_lowercase())
        } else {
            format!("+{}", name.to_lowercase())
        }
    };
    let mut missing: Vec<String> = lacking.iter().map(rule).collect();
    if channels.iter().all(|needed| lacking.iter().any(|l| l == needed)) {
        // Either both commands or, more likely, their channels.
        missing.push(format!("&{}:w:*", options.prefix));
    }
    Err(ConnectError::Permission { missing })
}

/// Everything that is asked of one primary before the first call: version, eviction, library, permissions.
pub(crate) async fn server(primary: &mut Primary, options: &Options) -> Result<(), ConnectError> {
    let info = info(primary).await?;
    info.check(options)?;
    if info.in_cluster && matches!(primary, Primary::Node(_)) {
        // Used alone it would answer for its own slots only, and half of a slot while that moves.
        let what = "the server is a node of a cluster: open it as redis+cluster://".to_owned();
        return Err(ConnectError::Unsupported { what });
    }
    library::ensure(primary, options.generation).await?;
    // In a cluster each is asked about a key that it serves: `Connection::check_permissions`.
    if !matches!(primary, Primary::Slot(..)) {
        permissions(primary, &format!("{}:{{p0}}:", options.prefix), options).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> ServerInfo {
        ServerInfo::read(text).expect("names a version")
    }

    #[test]
    fn servers_that_are_too_old_are_refused_by_name() {
        for (text, good, name) in [
            ("redis_version:7.0.15\r\n", true, "redis 7.0.15"),
            ("redis_version:6.2.14\r\n", false, "redis 6.2.14"),
            ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n", true, "valkey 8.0.1"),
            ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.2.5\r\n", true, "valkey 7.2.5"),
            ("redis_version:7.2.4\r\nvalkey_version:7.1.0\r\n", false, "valkey 7.1.0"),
            ("redis_version:10.0.0\r\n", true, "redis 10.0.0"),
        ] {
            let info = of(text);
            assert_eq!(info.name(), name);
            let checked = info.check(&Options::default());
            assert_eq!(checked.is_ok(), good, "{name}");
            if let Err(error) = checked {
                let text = error.to_string();
                assert!(text.contains(name) && text.contains("Valkey 7.2") && text.contains("Redis 7.0"), "{text}");
            }
        }
        assert!(ServerInfo::read("# nothing\r\n").is_none());
    }

    #[test]
    fn local_fsync_needs_waitaof_and_an_append_only_file() {
        let options = Options { confirm: Confirm::LocalFsync, ..Options::default() };
        let check = |text: &str| of(text).check(&options).map_err(|error| error.to_string());
        assert!(check("redis_version:7.0.15\naof_enabled:1").expect_err("no WAITAOF").contains("WAITAOF"));
        assert!(check("redis_version:7.2.1\naof_enabled:0").expect_err("no file").contains("appendonly"));
        assert_eq!(check("redis_version:7.2.1\naof_enabled:1"), Ok(()));
        assert_eq!(check("valkey_version:8.0.1\nredis_version:7.2.4\naof_enabled:1"), Ok(()));
    }

    #[test]
    fn every_command_of_the_library_is_asked_about() {
        let source = library::source(1).0;
        // However it is run (at once, kept for the writing, given to a helper), a command is named by a quoted word.
        let no_commands = ["CH", "COUNT", "LIMIT", "MAXLEN", "WITHSCORES", "FFCORRUPT", "WRONGTYPE"];
        let is_word = |w: &&str| w.len() > 1 && w.bytes().all(|b| b.is_ascii_uppercase()) && !no_commands.contains(w);
        let code = source.lines().map(|line| line.split("--").next().unwrap_or_default());
        let used: Vec<&str> = code.flat_map(|line| line.split(['\'', '"'])).filter(is_word).collect();
        assert!(used.len() > 200, "{used:?}");
        for command in &used {
            assert!(NEEDED.iter().any(|n| n.split(' ').next() == Some(*command)), "{command} is asked for by no check");
        }
        let known = NEEDED.iter().map(|n| n.split(' ').next().expect("a name"));
        for command in known.filter(|c| !["FCALL", "FUNCTION", "INFO", "PSUBSCRIBE", "PING"].contains(c)) {
            assert!(used.contains(&command), "{command} is asked for and never used");
        }
    }
}
