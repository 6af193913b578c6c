//! The library of functions: its source, its version, and how it gets to the server.

use ff_core::canon::Digest;
use redis::Value;
use redis::aio::ConnectionLike;

use crate::backend::ConnectError;

/// The files of the library, joined in this order into one chunk.
const FILES: &[(&str, &str)] = &[
    ("routines", include_str!("../lua/routines.lua")),
    ("cascade", include_str!("../lua/cascade.lua")),
    ("execution", include_str!("../lua/execution.lua")),
    ("flow_records", include_str!("../lua/flow_records.lua")),
    ("flow", include_str!("../lua/flow.lua")),
    ("flow_edges", include_str!("../lua/flow_edges.lua")),
    ("claim", include_str!("../lua/claim.lua")),
    ("lease", include_str!("../lua/lease.lua")),
    ("keystore", include_str!("../lua/keystore.lua")),
    ("condition", include_str!("../lua/condition.lua")),
    ("suspension_records", include_str!("../lua/suspension_records.lua")),
    ("suspension", include_str!("../lua/suspension.lua")),
    ("signal", include_str!("../lua/signal.lua")),
    ("budget", include_str!("../lua/budget.lua")),
    ("quota", include_str!("../lua/quota.lua")),
    ("stream", include_str!("../lua/stream.lua")),
    ("reads", include_str!("../lua/reads.lua")),
    ("maintenance", include_str!("../lua/maintenance.lua")),
    ("rebuild", include_str!("../lua/rebuild.lua")),
    ("flow_rebuild", include_str!("../lua/flow_rebuild.lua")),
];
const PRELUDE: &str = include_str!("../lua/prelude.lua");

/// The library's version. It rises with every change that a server must learn of; a server never gets an older one.
pub const LIBRARY_VERSION: u64 = 1;

/// The library as it is loaded: every file in its own block behind the prelude; and its fingerprint.
///
/// `generation` is 1 for the functions `ff_...` of library `ff`; an incompatible later protocol registers `ff2_...` in
/// library `ff2`, so that two can run side by side during a rolling upgrade.
#[must_use]
pub fn source(generation: u32) -> (String, String) {
    let mut body = String::from(PRELUDE);
    for (name, text) in FILES {
        body.push_str("\ndo -- ");
        body.push_str(name);
        body.push('\n');
        body.push_str(&text.replace("local F = F\n", ""));
        body.push_str("\nend\n");
    }
    let print = Digest::of_bytes(body.as_bytes()).to_hex();
    body.push_str(&format!(
        "redis.register_function{{function_name='ff_version', callback=function() return {{{LIBRARY_VERSION}, \
         '{print}'}} end, flags={{'no-writes'}}}}\n"
    ));
    let prefix = prefix(generation);
    (format!("#!lua name={prefix}\n{}", body.replace("'ff_", &format!("'{prefix}_"))), print)
}

/// The name of the library, and what the names of its functions begin with.
pub(crate) fn prefix(generation: u32) -> String {
    if generation == 1 { "ff".to_owned() } else { format!("ff{generation}") }
}

/// Loads the library where it is absent or older than ours.
///
/// # Errors
/// [`ConnectError::NewerLibrary`] where the server has a newer one, and the server's own.
pub(crate) async fn ensure<C: ConnectionLike + Send>(server: &mut C, generation: u32) -> Result<(), ConnectError> {
    let (source, ours) = source(generation);
    let asked = redis::cmd("FCALL").arg(format!("{}_version", prefix(generation))).arg(0).to_owned();
    match asked.query_async::<Value>(server).await {
        Ok(Value::Array(items)) => {
            if let [Value::Int(version), Value::BulkString(print)] = items.as_slice() {
                let version = u64::try_from(*version).unwrap_or_default();
                if version > LIBRARY_VERSION {
                    return Err(ConnectError::NewerLibrary { server: version, ours: LIBRARY_VERSION });
                }
                if version == LIBRARY_VERSION && print.as_slice() == ours.as_bytes() {
                    return Ok(());
                }
            }
        }
        Ok(_) => {}
        Err(error) if is_missing_function(&error) => {}
        Err(error) => return Err(error.into()),
    }
    redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(source).query_async::<Value>(server).await?;
    Ok(())
}

/// Whether the server lacks the function that was called.
pub(crate) fn is_missing_function(error: &redis::RedisError) -> bool {
    error.detail().is_some_and(|d| d.contains("Function not found")) || error.to_string().contains("Function not found")
}
