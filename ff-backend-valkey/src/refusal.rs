//! Refusals as the library sends them: a code and its details in the order of the code's table.

use data_encoding::HEXLOWER;
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, FlowId};
use ff_core::refusal::{Code, Details, Refusal};
use redis::Value;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::call::{Reply, unreadable};

/// The refusal whose code and details follow.
pub(crate) fn refusal_of(reply: &mut Reply) -> Result<Refusal, EngineError> {
    let word = reply.text()?;
    let code = Code::from_word(&word).ok_or_else(|| unreadable(&word))?;
    let mut details = serde_json::Map::new();
    for name in code.detail_names() {
        details.insert((*name).to_owned(), detail(reply, name)?);
    }
    let details: Details = serde_json::from_value(json!({ "code": word, "details": details }))
        .map_err(|error| unreadable(&format!("{word}: {error}")))?;
    Ok(Refusal::from(details))
}

fn detail(reply: &mut Reply, name: &str) -> Result<Json, EngineError> {
    let partition = reply.partition();
    let execution = |uuid: Uuid| Json::String(ExecutionId::from_parts(partition, uuid).to_string());
    Ok(match name {
        "state_vector" => serde_json::to_value(reply.vector()?).unwrap_or_default(),
        "execution_id" => execution(reply.uuid()?),
        "flow_id" => Json::String(FlowId::from_parts(partition, reply.uuid()?).to_string()),
        "attempt_id" | "edge_id" | "signal_id" | "suspension_id" => match reply.bytes_opt()? {
            None => Json::Null,
            Some(b) => Json::String(Uuid::from_slice(&b).map_err(|_| unreadable("not an id"))?.to_string()),
        },
        // Lists of ids come joined.
        "cycle" => reply
            .bytes()?
            .chunks(16)
            .map(|b| Uuid::from_slice(b).map(execution))
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable("not an id"))?,
        "edge_ids" => reply
            .bytes()?
            .chunks(16)
            .map(|b| Uuid::from_slice(b).map(|id| Json::String(id.to_string())))
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable("not an id"))?,
        "missing" => reply.text()?.split(',').map(Json::from).collect(),
        "revoked" => Json::Bool(reply.flag()?),
        _ => match reply.next() {
            Value::Nil => Json::Null,
            Value::Int(n) => Json::from(n),
            Value::BulkString(b) => match String::from_utf8(b) {
                Ok(text) => Json::String(text),
                Err(error) => Json::String(HEXLOWER.encode(error.as_bytes())),
            },
            _ => return Err(unreadable(name)),
        },
    })
}
