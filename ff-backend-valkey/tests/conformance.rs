//! Valkey and Redis held against the contract: `FF_SERVER=redis` runs the suite on Redis, `cluster`, `tls` and `acl` on
//! Valkey in these manners: three primaries, certificates and a user with few rights, that user alone.

mod suite;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ff_backend_valkey::{Options, ValkeyBackend};
use ff_conformance::{Damage, DamageKind, Fault, Fixture, Harness, StoredValue, TestName};
use ff_core::contracts::DescribeExecutionArgs;
use ff_core::engine_backend::{EngineBackend, ReadsOps};
use ff_core::ids::ExecutionId;
use ff_core::time::ManualClock;
use uuid::Uuid;

use crate::suite::faults::Faulty;
use crate::suite::{Running, Side};

struct Valkey {
    server: Arc<Running>,
    opened: AtomicU64,
}

/// What stands beside a fixture: a way to its keys behind the backend's back.
struct Keys {
    prefix: String,
    backend: ValkeyBackend,
    connection: Side,
    /// Records that were made unreadable, as they were.
    saved: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl Keys {
    fn key(&self, partition: u16, rest: &[u8]) -> Vec<u8> {
        let mut key = format!("{}:{{p{partition}}}:", self.prefix).into_bytes();
        key.extend_from_slice(rest);
        key
    }

    fn under(&self, partition: u16, letters: &[u8], id: Uuid) -> Vec<u8> {
        let mut rest = letters.to_vec();
        rest.extend_from_slice(id.as_bytes());
        self.key(partition, &rest)
    }

    /// Gives a readable record another version; says whether there is a record.
    async fn version(&self, key: Vec<u8>, version: &str) -> redis::RedisResult<bool> {
        let mut c = self.connection.clone();
        if redis::cmd("HEXISTS").arg(&key).arg("v").query_async::<u64>(&mut c).await? == 0 {
            return Ok(false);
        }
        redis::cmd("HSET").arg(&key).arg("v").arg(version).query_async::<()>(&mut c).await?;
        Ok(true)
    }

    fn of(&self, id: &ExecutionId, letter: u8) -> Vec<u8> {
        let mut rest = vec![letter];
        rest.extend_from_slice(id.uuid().as_bytes());
        self.key(id.partition(), &rest)
    }

    async fn damage(&self, damage: Damage) -> redis::RedisResult<bool> {
        let mut c = self.connection.clone();
        Ok(match damage {
            Damage::Unreadable(id) => {
                let key = self.of(&id, b'e');
                let record: Option<Vec<u8>> = redis::cmd("GET").arg(&key).query_async(&mut c).await?;
                let Some(record) = record else { return Ok(false) };
                redis::cmd("SET").arg(&key).arg(b"\x01no record").query_async::<()>(&mut c).await?;
                self.saved.lock().expect("not poisoned").insert(key, record);
                true
            }
            Damage::Readable(id) => {
                let key = self.of(&id, b'e');
                let saved = self.saved.lock().expect("not poisoned").remove(&key);
                let Some(record) = saved else { return Ok(false) };
                redis::cmd("SET").arg(&key).arg(record).query_async::<()>(&mut c).await?;
                true
            }
            Damage::FlowUnreadable(id) => self.version(self.under(id.partition(), b"f", id.uuid()), "9.0").await?,
            Damage::FlowReadable(id) => self.version(self.under(id.partition(), b"f", id.uuid()), "1.0").await?,
            Damage::SuspensionUnreadable(id) => {
                self.version(self.under(id.partition(), b"s", id.uuid()), "9.0").await?
            }
            Damage::SuspensionReadable(id) => self.version(self.under(id.partition(), b"s", id.uuid()), "1.0").await?,
            Damage::EdgeUnreadable((flow_id, id)) => {
                let (edges, field) = (self.under(flow_id.partition(), b"E", flow_id.uuid()), id.uuid());
                let record: Option<Vec<u8>> =
                    redis::cmd("HGET").arg(&edges).arg(field.as_bytes()).query_async(&mut c).await?;
                let Some(record) = record else { return Ok(false) };
                redis::cmd("HSET").arg(&edges).arg(field.as_bytes()).arg("no edge").query_async::<()>(&mut c).await?;
                self.saved.lock().expect("not poisoned").insert(field.as_bytes().to_vec(), record);
                true
            }
            Damage::EdgeReadable((flow_id, id)) => {
                let (edges, field) = (self.under(flow_id.partition(), b"E", flow_id.uuid()), id.uuid());
                let saved = self.saved.lock().expect("not poisoned").remove(field.as_bytes().as_slice());
                let Some(record) = saved else { return Ok(false) };
                redis::cmd("HSET").arg(&edges).arg(field.as_bytes()).arg(record).query_async::<()>(&mut c).await?;
                true
            }
            Damage::IndexesLost(partition) => {
                let mut keys = vec![self.key(partition, b"t")];
                for letter in ["r*", "g*"] {
                    let found: Vec<Vec<u8>> =
                        redis::cmd("KEYS").arg(self.key(partition, letter.as_bytes())).query_async(&mut c).await?;
                    keys.extend(found);
                }
                redis::cmd("DEL").arg(keys).query_async::<u64>(&mut c).await? > 0
            }
            Damage::BacklogLost(partition) => {
                redis::cmd("ZREM").arg(self.key(partition, b"t")).arg(b"\0").query_async::<()>(&mut c).await?;
                let keys = [self.key(partition, b"b"), self.key(partition, b"B")];
                redis::cmd("DEL").arg(&keys).query_async::<u64>(&mut c).await? > 0
            }
            Damage::ForeignQueueEntry(id) => {
                let Ok(x) = self.backend.describe_execution(DescribeExecutionArgs { execution_id: id }).await else {
                    return Ok(false);
                };
                let controlled = !x.policy.budget_ids.is_empty() || x.policy.quota_policy_id.is_some();
                let set = x.policy.required_capabilities.joined();
                let queue = format!("{}{}\n{set}", if controlled { 'g' } else { 'r' }, x.lane_id);
                let mut member = x.created_at.as_millis().to_be_bytes()[1..].to_vec();
                member.extend_from_slice(id.uuid().as_bytes());
                redis::cmd("ZADD")
                    .arg(self.key(id.partition(), queue.as_bytes()))
                    .arg(-i64::from(x.priority))
                    .arg(member)
                    .query_async::<u64>(&mut c)
                    .await?
                    == 1
            }
            Damage::WrongDueTime(id) => {
                let timers = self.key(id.partition(), b"t");
                let members: Vec<Vec<u8>> =
                    redis::cmd("ZRANGE").arg(&timers).arg(0).arg(-1).query_async(&mut c).await?;
                let of_it = |m: &&Vec<u8>| m.get(1) == Some(&0) && m.get(2..18) == Some(id.uuid().as_bytes());
                let Some(first) = members.iter().filter(of_it).min() else { return Ok(false) };
                redis::cmd("ZADD").arg(&timers).arg("CH").arg(0).arg(first).query_async::<u64>(&mut c).await? == 1
            }
            _ => false,
        })
    }
}

impl Keys {
    /// Every string, and every field of every hash, of this fixture's partitions, budgets and policies, that `lua/README.md`
    /// calls a record. What is derived is left out, and a deployment's own record: a backend reads it when it is opened.
    async fn stored(&self) -> redis::RedisResult<Vec<StoredValue>> {
        let mut c = self.connection.clone();
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg(format!("{}:{{*", self.prefix)).query_async(&mut c).await?;
        let mut values = Vec::new();
        for key in names {
            let letters = |key: &[u8]| {
                let rest = key.splitn(2, |b| *b == b'}').nth(1).unwrap_or_default();
                String::from_utf8_lossy(&rest[..rest.len().min(3)]).escape_default().to_string()
            };
            let what = letters(&key);
            if ["l", "L", "n", "b", "B", "N"].iter().any(|derived| what.starts_with(&format!(":{derived}"))) {
                continue;
            }
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut c).await?;
            match kind.as_str() {
                "string" => {
                    let bytes = redis::cmd("GET").arg(&key).query_async(&mut c).await?;
                    values.push(StoredValue { what, place: vec![key], bytes });
                }
                "hash" => {
                    let fields: Vec<(Vec<u8>, Vec<u8>)> = redis::cmd("HGETALL").arg(&key).query_async(&mut c).await?;
                    values.extend(fields.into_iter().map(|(field, bytes)| StoredValue {
                        what: format!("{what} {}", field.escape_ascii()),
                        place: vec![key.clone(), field],
                        bytes,
                    }));
                }
                _ => {}
            }
        }
        Ok(values)
    }

    async fn overwrite(&self, value: &StoredValue) -> redis::RedisResult<()> {
        let mut c = self.connection.clone();
        let command = if value.place.len() == 1 { "SET" } else { "HSET" };
        redis::cmd(command).arg(&value.place).arg(&value.bytes).query_async(&mut c).await
    }
}

impl Harness for Valkey {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let prefix = format!("t{}", self.opened.fetch_add(1, Ordering::Relaxed));
        let mut options = Options::default();
        options.prefix.clone_from(&prefix);
        options.clock = Some(clock.clone());
        options.key_load_burst = None;
        let url = self.server.url();
        let backend = ValkeyBackend::connect(&url, options).await.expect("the private server answers");
        let connection = self.server.side().await.expect("the private server answers");
        let keys = Keys { prefix, backend: backend.clone(), connection, saved: Mutex::default() };
        Fixture::new(Arc::new(backend), clock).with_guard(keys)
    }

    async fn second(&self, fixture: &Fixture) -> Option<Arc<dyn EngineBackend>> {
        if let Some(faulty) = fixture.guard::<Faulty>() {
            return Some(Arc::new(faulty.client(fixture.clock.clone()).await));
        }
        let keys = fixture.guard::<Keys>()?;
        let mut options = Options::default();
        options.prefix.clone_from(&keys.prefix);
        options.clock = Some(fixture.clock.clone());
        options.key_load_burst = None;
        let second = ValkeyBackend::connect(&self.server.url(), options).await.expect("the private server answers");
        Some(Arc::new(second))
    }

    async fn damage(&self, fixture: &Fixture, damage: Damage) -> bool {
        let Some(keys) = fixture.guard::<Keys>() else { return false };
        keys.damage(damage).await.unwrap_or(false)
    }

    fn can_damage(&self, _: DamageKind) -> bool {
        true
    }

    async fn stored(&self, fixture: &Fixture) -> Vec<StoredValue> {
        let Some(keys) = fixture.guard::<Keys>() else { return Vec::new() };
        keys.stored().await.expect("the private server answers")
    }

    async fn overwrite(&self, fixture: &Fixture, value: &StoredValue) -> bool {
        let Some(keys) = fixture.guard::<Keys>() else { return false };
        keys.overwrite(value).await.is_ok()
    }

    fn can_overwrite(&self) -> bool {
        true
    }

    async fn open_for_faults(&self, test: &TestName, clock: ManualClock, faults: &[Fault]) -> Fixture {
        match self.server.kind() {
            Some(kind) => Faulty::open(kind, clock, faults).await,
            None => self.open(test, clock).await,
        }
    }

    async fn strike(&self, fixture: &Fixture, fault: Fault) -> bool {
        match fixture.guard::<Faulty>() {
            Some(faulty) => faulty.strike(fault).await,
            None => false,
        }
    }

    fn can_strike(&self, fault: Fault) -> bool {
        self.server.kind().is_some() && Faulty::can_strike(fault)
    }
}

fn main() {
    let name = Running::name();
    ff_conformance::main(name, move || Valkey {
        server: Arc::new(Running::start(name).expect("the server's package is installed")),
        opened: AtomicU64::new(0),
    })
}
