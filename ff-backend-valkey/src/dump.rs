//! A partition's records as text, for operators and failure reports.

use std::collections::BTreeSet;

use ff_core::error::{Applied, EngineError};
use ff_core::ids::ExecutionId;
use ff_core::records::flat::FlatMap;
use redis::{Cmd, FromRedisValue, RedisError};
use rmpv::Value as Packed;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::ValkeyBackend;
use crate::connection::Primary;
use crate::record::{self, read_packed};

/// What the secret of a signing key is replaced by.
const REDACTED: &str = "(redacted)";

/// Bytes as a person reads them: text as it is, an id as a uuid, packed values unpacked, and hexadecimal digits.
fn shown(bytes: &[u8]) -> Value {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(char::is_control)
    {
        return Value::String(text.to_owned());
    }
    if let Ok(id) = Uuid::from_slice(bytes) {
        return Value::String(id.to_string());
    }
    // Packed values are lists or maps; other bytes would pass for numbers.
    if bytes.first().is_some_and(|b| matches!(b, 0x80..=0x9f | 0xdc..=0xdf))
        && let Some(packed) = read_packed(bytes)
    {
        return unpacked(&packed);
    }
    Value::String(hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    format!("0x{}", data_encoding::HEXLOWER.encode(bytes))
}

fn unpacked(value: &Packed) -> Value {
    match value {
        Packed::Nil => Value::Null,
        Packed::Boolean(b) => json!(b),
        Packed::Integer(n) => n.as_u64().map_or_else(|| json!(n.as_i64()), |n| json!(n)),
        Packed::F32(n) => json!(n),
        Packed::F64(n) => json!(n),
        Packed::String(s) => shown(s.as_bytes()),
        Packed::Binary(b) | Packed::Ext(_, b) => shown(b),
        Packed::Array(items) => items.iter().map(unpacked).collect(),
        Packed::Map(pairs) => Value::Object(pairs.iter().map(|(k, v)| (name(unpacked(k)), unpacked(v))).collect()),
    }
}

fn name(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn flat(map: FlatMap) -> Value {
    Value::Object(map.into_iter().map(|(field, value)| (field, shown(&value))).collect())
}

/// An execution's record in the flat form of the contract's decoder; or why it is none, and its bytes.
fn execution(id: ExecutionId, bytes: &[u8]) -> Value {
    match record::execution(id, bytes) {
        Ok(stored) => json!({
            "execution": flat(stored.record.encode()),
            "attempt": stored.attempt.map(|attempt| flat(attempt.encode())),
            "member": stored.member.map(|m| json!({
                "name": m.name, "held": m.held, "incoming": m.incoming, "unresolved": m.unresolved,
                "satisfied": m.satisfied, "impossible": m.impossible,
            })),
        }),
        Err(_) if bytes.first() == Some(&0) => json!({ "purged": hex(&bytes[1..]) }),
        Err(error) => json!({ "unreadable": error.to_string(), "bytes": hex(bytes) }),
    }
}

/// A key behind the partition's prefix: its letters, its id, and the rest.
fn key_text(rest: &[u8]) -> String {
    for at in 1..=2 {
        if let Some((head, tail)) = rest.split_at_checked(at)
            && let Some((id, more)) = tail.split_at_checked(16)
            && matches!(
                head,
                b"e" | b"p"
                    | b"a"
                    | b"o"
                    | b"s"
                    | b"sw"
                    | b"so"
                    | b"sg"
                    | b"sp"
                    | b"sm"
                    | b"sd"
                    | b"sk"
                    | b"f"
                    | b"E"
                    | b">"
                    | b"<"
                    | b"M"
                    | b"O"
                    | b"vm"
                    | b"vf"
                    | b"vs"
            )
            && (more.is_empty() || more.len() == 4)
            && let Ok(id) = Uuid::from_slice(id)
        {
            let more = if more.is_empty() { String::new() } else { format!(" {}", hex(more)) };
            return format!("{} {id}{more}", String::from_utf8_lossy(head));
        }
    }
    name(shown(rest)).replace('\n', "\\n")
}

/// Whether a hash holds what is a user's own: results `o<id>`, payloads of signals `sp<id>`.
fn holds_payloads(rest: &[u8]) -> bool {
    let is_of = |letters: &[u8]| rest.strip_prefix(letters).is_some_and(|id| id.len() == 16);
    is_of(b"o") || is_of(b"sp")
}

/// One secret of a kid, taken out.
fn without_secret(packed: &[u8]) -> Value {
    let mut value = shown(packed);
    match value.as_array_mut().and_then(|fields| fields.get_mut(3)) {
        Some(secret) => {
            if !secret.is_boolean() {
                *secret = json!(REDACTED);
            }
            value
        }
        // What cannot be read may hold it anywhere.
        None => json!(REDACTED),
    }
}

async fn ask<T: FromRedisValue>(primary: &mut Primary, command: &Cmd) -> Result<T, RedisError> {
    redis::from_redis_value(primary.run(command).await?).map_err(RedisError::from)
}

async fn value_of(primary: &mut Primary, partition: u16, key: &[u8], rest: &[u8]) -> Result<Value, RedisError> {
    let command = |name: &str, more: &[&str]| {
        let mut command = redis::cmd(name);
        command.arg(key);
        for word in more {
            command.arg(*word);
        }
        command
    };
    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;
    let kind: String = ask(primary, &command("TYPE", &[])).await?;
    Ok(match kind.as_str() {
        "string" => {
            let bytes: Option<Vec<u8>> = ask(primary, &command("GET", &[])).await?;
            let Some(bytes) = bytes else { return Ok(Value::Null) };
            match rest.split_first() {
                Some((b'e', id)) if id.len() == 16 => {
                    let id = Uuid::from_slice(id).unwrap_or_default();
                    execution(ExecutionId::from_parts(partition, id), &bytes)
                }
                // A user's own data: how much, and not what.
                Some((b'p', id)) if id.len() == 16 => json!({ "bytes": bytes.len() }),
                _ => shown(&bytes),
            }
        }
        "hash" => {
            let pairs: Pairs = ask(primary, &command("HGETALL", &[])).await?;
            let own = holds_payloads(rest);
            let mut map = Map::new();
            for (field, value) in pairs {
                let result = own && !field.ends_with(b"c") && !field.ends_with(b"e");
                let value = match rest {
                    b"kr" => without_secret(&value),
                    _ if result => json!({ "bytes": value.len() }),
                    _ => shown(&value),
                };
                map.insert(name(shown(&field)), value);
            }
            Value::Object(map)
        }
        "zset" => {
            let pairs: Pairs = ask(primary, &command("ZRANGE", &["0", "-1", "WITHSCORES"])).await?;
            pairs.iter().map(|(member, score)| json!([shown(score), shown(member)])).collect()
        }
        "set" => {
            let members: Vec<Vec<u8>> = ask(primary, &command("SMEMBERS", &[])).await?;
            members.iter().map(|member| shown(member)).collect()
        }
        "stream" => {
            let frames: Vec<(String, Vec<Vec<u8>>)> = ask(primary, &command("XRANGE", &["-", "+"])).await?;
            let entry = |(id, fields): (String, Vec<Vec<u8>>)| {
                let bytes: usize = fields.iter().map(Vec::len).sum();
                json!({ "id": id, "fields": fields.len() / 2, "bytes": bytes })
            };
            frames.into_iter().map(entry).collect()
        }
        other => json!({ "type": other }),
    })
}

impl ValkeyBackend {
    /// Every key of one partition, one line of JSON each, in the order of the keys: `{"key": .., "value": ..}`.
    ///
    /// # Behavior
    /// - Records of executions come in the flat form of the contract's decoder; one that cannot be decoded says so and
    ///   shows its bytes. Everything else is shown as it is stored, packed values unpacked.
    /// - Signing keys are redacted. Of payloads, results, signals' payloads and frames only the sizes are shown. Tags,
    ///   reasons, messages and names are shown.
    /// - It is no snapshot: what changes meanwhile may be seen before or after.
    ///
    /// # Errors
    /// `Transport`, also when the server's user may not run SCAN and TYPE, which the engine itself does not need.
    ///
    /// # Cost
    /// A walk over all keys of the server (SCAN), and two round trips for each key of the partition: for operators and
    /// reports of failures, not for programs.
    pub async fn dump(&self, partition: u16) -> Result<Vec<String>, EngineError> {
        let failed = |error: RedisError| EngineError::Transport { applied: Applied::No, message: error.to_string() };
        let prefix = format!("{}:{{p{partition}}}:", self.prefix());
        let mut primary = self.connection().primary_of(&prefix).await.map_err(failed)?;
        let (mut cursor, mut keys) = (0_u64, BTreeSet::new());
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(1000);
            let (next, found): (u64, Vec<Vec<u8>>) = ask(&mut primary, &scan).await.map_err(failed)?;
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let mut lines = Vec::with_capacity(keys.len());
        for key in keys {
            let rest = key.strip_prefix(prefix.as_bytes()).unwrap_or(&key);
            let value = value_of(&mut primary, partition, &key, rest).await.map_err(failed)?;
            lines.push(json!({ "key": key_text(rest), "value": value }).to_string());
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_what_they_are() {
        assert_eq!(shown(b"plain text"), json!("plain text"));
        assert_eq!(shown(&[0xdc, 0, 2, 0x01, 0xa1, b'x']), json!([1, "x"]));
        assert_eq!(shown(&[1, 2, 3]), json!("0x010203"));
        let id = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001);
        assert_eq!(shown(id.as_bytes()), json!(id.to_string()));
        let mut key = b"sw".to_vec();
        key.extend_from_slice(id.as_bytes());
        assert_eq!(key_text(&key), format!("sw {id}"));
        assert_eq!(key_text(b"rdefault\n"), "0x7264656661756c740a");
        assert_eq!(key_text(b"kr"), "kr");
    }

    #[test]
    fn only_results_and_payloads_of_signals_are_a_users_own() {
        let key = |letters: &str, first: u8| [letters.as_bytes(), &[first], &[7; 15]].concat();
        assert!(holds_payloads(&key("o", 1)) && holds_payloads(&key("sp", 1)));
        // A suspension whose id begins with the letter.
        assert!(!holds_payloads(&key("s", b'p')));
        assert!(!holds_payloads(&key("a", 1)) && !holds_payloads(b"sp") && !holds_payloads(b"o"));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let packed = [0x96, 1, 0xa1, b'd', 5, 0xa6, b's', b'e', b'c', b'r', b'e', b't', 0xc2, 0xc2];
        assert_eq!(without_secret(&packed), json!([1, "d", 5, REDACTED, false, false]));
        for broken in [&b"secret"[..], &packed[..6], b""] {
            assert_eq!(without_secret(broken), json!(REDACTED));
        }
    }
}
