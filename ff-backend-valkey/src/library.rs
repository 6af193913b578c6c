//! The library of functions: its source, its version, and how it gets to the server.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, OnceLock, PoisonError};

use ff_core::canon::Digest;
use ff_core::operation::OpName;
use redis::{RedisError, RedisResult, Value};

use crate::connection::Primary;
use crate::options::ConnectError;

/// The files of the library, joined in this order into one chunk.
const FILES: &[(&str, &str)] = &[
    ("record", include_str!("../lua/record.lua")),
    ("flush", include_str!("../lua/flush.lua")),
    ("flat", include_str!("../lua/flat.lua")),
    ("routines", include_str!("../lua/routines.lua")),
    ("cascade", include_str!("../lua/cascade.lua")),
    ("plain", include_str!("../lua/plain.lua")),
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
    ("access", include_str!("../lua/access.lua")),
];
const PRELUDE: &str = include_str!("../lua/prelude.lua");

/// The library's version. It rises with every change that a server must learn of; a server never gets an older one. Where two
/// builds have texts of one version that differ, the text with the greater fingerprint stays, whoever connects when.
pub const LIBRARY_VERSION: u64 = 1;

/// The oldest client that the library serves: arguments and answers are only ever added to within a generation.
const OLDEST_SERVED: u64 = 1;

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
         '{print}', {OLDEST_SERVED}}} end, flags={{'no-writes'}}}}\n"
    ));
    let prefix = prefix(generation);
    (format!("#!lua name={prefix}\n{}", body.replace("'ff_", &format!("'{prefix}_"))), print)
}

/// The name of the library, and what the names of its functions begin with.
pub(crate) fn prefix(generation: u32) -> String {
    if generation == 1 { "ff".to_owned() } else { format!("ff{generation}") }
}

/// What a server says of the library that it holds.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Version {
        version: u64,
        print: Vec<u8>,
        oldest: u64,
    },
    /// Something else under our name.
    Unreadable,
}

/// How a server's library stands to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is ours.
    Same,
    /// It is a newer one of this generation, which serves us as well.
    Newer(u64),
    /// It is another text of our version. Whichever of the two is first in the order of fingerprints gives way, so that two
    /// builds do not replace each other's in turn.
    OtherText,
}

async fn held(server: &mut Primary, generation: u32) -> RedisResult<Held> {
    let ask = redis::cmd("FCALL").arg(format!("{}_version", prefix(generation))).arg(0).to_owned();
    let items = match server.run(&ask).await {
        Ok(Value::Array(items)) => items,
        Ok(_) => return Ok(Held::Unreadable),
        Err(error) if is_missing_function(&error) => return Ok(Held::Nothing),
        Err(error) => return Err(error),
    };
    let number = |value: Option<&Value>| match value {
        Some(Value::Int(n)) => u64::try_from(*n).ok(),
        _ => None,
    };
    Ok(match (number(items.first()), items.get(1)) {
        (Some(version), Some(Value::BulkString(print))) => {
            // Libraries that do not say whom they serve serve nobody that is older.
            Held::Version { version, print: print.clone(), oldest: number(items.get(2)).unwrap_or(version) }
        }
        _ => Held::Unreadable,
    })
}

/// Loads the library where it is absent or older than ours. A newer one is never replaced, nor another text of our version
/// with a greater fingerprint.
///
/// Where none is held, it is loaded so that a library that somebody else has loaded meanwhile stays, and is looked at
/// again. Between two processes that both replace an older library at the same instant, the server keeps the last one:
/// the newer process sees that when it connects the next time.
///
/// # Errors
/// [`ConnectError::NewerLibrary`] where the server's no longer serves us, and the server's own.
pub(crate) async fn ensure(server: &mut Primary, generation: u32) -> Result<Standing, ConnectError> {
    let (source, ours) = loaded(generation);
    for _ in 0..5 {
        let replace = match held(server, generation).await? {
            Held::Version { version, oldest, .. } if version > LIBRARY_VERSION => {
                if oldest > LIBRARY_VERSION {
                    return Err(ConnectError::NewerLibrary { server: version, oldest, ours: LIBRARY_VERSION });
                }
                return Ok(Standing::Newer(version));
            }
            Held::Version { version: LIBRARY_VERSION, print, .. } => match print.as_slice().cmp(ours.as_bytes()) {
                Ordering::Equal => return Ok(Standing::Same),
                Ordering::Greater => return Ok(Standing::OtherText),
                Ordering::Less => true,
            },
            Held::Nothing => false,
            _ => true,
        };
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD");
        if replace {
            load.arg("REPLACE");
        }
        match server.run(load.arg(source)).await {
            Ok(_) => {}
            Err(error) if error.to_string().contains("already exists") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RedisError::from((redis::ErrorKind::Client, "the library of functions changes as fast as it is loaded")).into())
}

/// The source and its fingerprint, made once for each generation that is used.
fn loaded(generation: u32) -> (&'static str, &'static str) {
    static MADE: Mutex<BTreeMap<u32, (&'static str, &'static str)>> = Mutex::new(BTreeMap::new());
    *MADE.lock().unwrap_or_else(PoisonError::into_inner).entry(generation).or_insert_with(|| {
        let (text, print) = source(generation);
        (text.leak(), print.leak())
    })
}

/// The name that a function of the first generation has in this one.
pub(crate) fn function(generation: u32, name: &str) -> Cow<'_, str> {
    match name.strip_prefix("ff_") {
        Some(rest) if generation != 1 => Cow::Owned(format!("{}_{rest}", prefix(generation))),
        _ => Cow::Borrowed(name),
    }
}

/// Whether a function may write. What no operation is named after only reads.
pub(crate) fn writes(name: &str) -> bool {
    static WRITING: OnceLock<HashSet<&'static str>> = OnceLock::new();
    WRITING
        .get_or_init(|| OpName::ALL.iter().filter(|op| op.writes()).filter_map(|op| op.function()).collect())
        .contains(name)
}

/// Whether the server lacks the function that was called.
pub(crate) fn is_missing_function(error: &RedisError) -> bool {
    error.detail().is_some_and(|d| d.contains("Function not found")) || error.to_string().contains("Function not found")
}
