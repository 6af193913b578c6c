//! Addresses of stores.

use crate::error::{Error, Result};

/// The addresses that this crate knows, for messages.
const KNOWN: &str = "use \"memory:\", or a Valkey or Redis server's: redis://host:port/0, rediss:// with TLS, \
                     redis+unix:///path, redis+cluster://a:1,b:2, redis+sentinel://a:1,b:2/primary, rediss+cluster:// and \
                     rediss+sentinel:// with TLS; valkey may stand for redis, and valkeys for rediss";

/// The schemes of Valkey and Redis servers; the backend knows what each means.
const VALKEY: [&str; 14] = [
    "redis",
    "rediss",
    "valkey",
    "valkeys",
    "redis+unix",
    "valkey+unix",
    "redis+cluster",
    "rediss+cluster",
    "valkey+cluster",
    "valkeys+cluster",
    "redis+sentinel",
    "rediss+sentinel",
    "valkey+sentinel",
    "valkeys+sentinel",
];

/// A store, as a URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `memory:`, with `?partitions=` and `&max_payload_bytes=`.
    Memory {
        /// How many partitions; the deployment's default.
        partitions: Option<u16>,
        /// The largest payload; the deployment's default.
        max_payload_bytes: Option<u64>,
    },
    /// A Valkey or Redis server, with `?prefix=`, `&partitions=` and `&max_payload_bytes=`.
    Valkey {
        /// Without these parameters; it may hold a password.
        url: Secret,
        /// What every key begins with; the backend's default.
        prefix: Option<String>,
        /// How many partitions; the deployment's default.
        partitions: Option<u16>,
        /// The largest payload; the deployment's default.
        max_payload_bytes: Option<u64>,
    },
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

/// What to do when a feature is missing.
#[cfg_attr(all(feature = "memory", feature = "valkey"), allow(dead_code))]
pub(crate) fn not_built(scheme: &str, feature: &str) -> Error {
    wrong(
        format!("this build of ff-engine cannot open {scheme}: addresses"),
        format!("enable its feature {feature:?}, or pass a backend to Engine::with_backend"),
    )
}

fn wrong(problem: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Url { problem: problem.into(), remedy: remedy.into() }
}

/// Reads a URL. Errors repeat the scheme at most: what stands behind it may hold a password.
pub(crate) fn parse(url: &str) -> Result<Address> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(wrong("the store's address has no scheme", KNOWN));
    };
    match scheme {
        "memory" => parse_memory(rest),
        _ if VALKEY.contains(&scheme) && rest.starts_with("//") => parse_valkey(url),
        // Without the slashes it may be a user's name or a password instead.
        other if rest.starts_with("//") && is_scheme(other) => {
            Err(wrong(format!("{other:?} is no scheme of a store's address"), KNOWN))
        }
        _ => Err(wrong("the store's address begins with no scheme that is known", KNOWN)),
    }
}

/// Whether a text has the form of a scheme.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 16
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-".contains(&b))
}

fn parse_memory(rest: &str) -> Result<Address> {
    const REMEDY: &str =
        "write \"memory:\", optionally with ?partitions=1..16384 and &max_payload_bytes=1..67108864 behind it";
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.trim_start_matches('/').is_empty() {
        return Err(wrong("memory: has no host and no path", REMEDY));
    }
    let (mut partitions, mut max_payload_bytes) = (None, None);
    for (key, value) in pairs(query) {
        match key {
            "partitions" => partitions = Some(partitions_of(value, REMEDY)?),
            "max_payload_bytes" => max_payload_bytes = Some(payload_of(value, REMEDY)?),
            _ => return Err(wrong("memory: has no such parameter", REMEDY)),
        }
    }
    Ok(Address::Memory { partitions, max_payload_bytes })
}

/// Takes the parameters that are this crate's; the others are for the client to read.
fn parse_valkey(url: &str) -> Result<Address> {
    const REMEDY: &str = "write \"redis://host:port/0?prefix=app&partitions=16\"";
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut prefix, mut partitions, mut max_payload_bytes, mut others) = (None, None, None, Vec::new());
    for (key, value) in pairs(query) {
        match key {
            "prefix" => prefix = Some(value.to_owned()),
            "partitions" => partitions = Some(partitions_of(value, REMEDY)?),
            "max_payload_bytes" => max_payload_bytes = Some(payload_of(value, REMEDY)?),
            _ => others.push(format!("{key}={value}")),
        }
    }
    let url = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
    Ok(Address::Valkey { url: Secret(url), prefix, partitions, max_payload_bytes })
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn partitions_of(value: &str, remedy: &str) -> Result<u16> {
    let bad = || wrong("partitions= is a number from 1 to 16384", remedy);
    let n = value.parse().map_err(|_| bad())?;
    ff_core::partition::PartitionConfig::new(n).map(|_| n).ok_or_else(bad)
}

fn payload_of(value: &str, remedy: &str) -> Result<u64> {
    let bad = || wrong("max_payload_bytes= is a number from 1 to 67108864", remedy);
    let n: u64 = value.parse().map_err(|_| bad())?;
    if n == 0 || n > ff_core::bounds::Deployment::MAX_PAYLOAD_BYTES { Err(bad()) } else { Ok(n) }
}

/// The deployment that an address describes.
#[cfg(any(feature = "memory", feature = "valkey"))]
pub(crate) fn deployment(partitions: Option<u16>, max_payload_bytes: Option<u64>) -> ff_core::bounds::Deployment {
    let mut deployment = ff_core::bounds::Deployment::default();
    if let Some(config) = partitions.and_then(ff_core::partition::PartitionConfig::new) {
        deployment.partitions = config;
    }
    deployment.max_payload_bytes = max_payload_bytes.unwrap_or(deployment.max_payload_bytes);
    deployment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_takes_its_parameters_and_nothing_else() {
        assert_eq!(parse("memory:").expect("plain"), Address::Memory { partitions: None, max_payload_bytes: None });
        assert_eq!(
            parse("memory:?partitions=4&max_payload_bytes=1024").expect("both"),
            Address::Memory { partitions: Some(4), max_payload_bytes: Some(1024) }
        );
        for bad in ["memory://host", "memory:?partitions=0", "memory:?partitions=x", "memory:?colour=red"] {
            let text = parse(bad).expect_err(bad).to_string();
            assert!(text.contains("write \"memory:\""), "{bad}: {text}");
        }
    }

    #[test]
    fn every_scheme_of_a_server_goes_to_its_backend_as_it_is() {
        for scheme in VALKEY {
            let url = format!("{scheme}://one:7001,two:7002/service?protocol=resp3");
            let address = parse(&format!("{url}&prefix=app")).expect(scheme);
            let Address::Valkey { url: Secret(passed), prefix, .. } = address else { panic!("{scheme}: {address:?}") };
            assert_eq!((passed, prefix.as_deref()), (url, Some("app")));
        }
        for bad in ["postgres://x", "redis:/x", "REDIS://x", "localhost:6379", "", "://"] {
            let text = parse(bad).expect_err(bad).to_string();
            for scheme in [
                "memory:",
                "redis://",
                "rediss://",
                "valkeys",
                "redis+unix://",
                "redis+cluster://",
                "redis+sentinel://",
                "rediss+cluster://",
                "rediss+sentinel://",
            ] {
                assert!(text.contains(scheme.trim_end_matches("//")), "{bad}: {text}");
            }
        }
    }

    /// Nobody listens: the backend says so, or goes on trying. A scheme that it does not know would be a mistake of setup.
    #[cfg(feature = "valkey")]
    #[tokio::test]
    async fn every_scheme_of_a_server_is_known_to_its_backend() {
        for scheme in VALKEY {
            let place = match scheme {
                unix if unix.ends_with("+unix") => "/no/such/socket",
                sentinel if sentinel.ends_with("+sentinel") => "127.0.0.1:1/primary",
                _ => "127.0.0.1:1",
            };
            let url = format!("{scheme}://{place}");
            let tried = tokio::time::timeout(std::time::Duration::from_millis(300), crate::Engine::connect(&url)).await;
            if let Ok(answer) = tried {
                let error = answer.expect_err("nobody listens");
                let unreached = matches!(&error, Error::Engine(ff_core::error::EngineError::Transport { .. }));
                assert!(unreached, "{scheme} is not tried: {error}");
            }
        }
        let error = crate::Engine::connect("redis+sentinel://127.0.0.1:1").await.expect_err("no primary");
        assert!(matches!(&error, Error::Setup(_)), "{error}");
    }

    #[test]
    fn what_stands_before_the_first_colon_is_not_repeated_unless_it_is_a_scheme() {
        for url in [
            "hunter2:6379",
            "zoe:hunter2@host",
            "hunter2@host:6379/0",
            "hunter2=//:x",
            "memory:?hunter2=1",
            "memory:?partitions=hunter2",
            "redis://h?max_payload_bytes=hunter2",
            "hunter2",
        ] {
            let error = parse(url).expect_err(url);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}: {error}");
        }
        assert!(parse("postgres://x").expect_err("no store").to_string().contains("\"postgres\""));
    }

    #[test]
    fn errors_name_the_remedy_and_no_password() {
        assert!(parse("memory").expect_err("no scheme").to_string().contains("use \"memory:\""));
        assert!(parse("http://x").expect_err("no store").to_string().contains("redis://host:port/0"));
        let address = parse("redis://:hunter2@host/3?prefix=app&protocol=resp3&partitions=4").expect("well formed");
        assert!(!format!("{address:?}").contains("hunter2"));
        assert_eq!(
            address,
            Address::Valkey {
                url: Secret("redis://:hunter2@host/3?protocol=resp3".into()),
                prefix: Some("app".into()),
                partitions: Some(4),
                max_payload_bytes: None
            }
        );
        assert!(parse("redis://:hunter2@host?partitions=0").is_err_and(|e| !e.to_string().contains("hunter2")));
        let text = not_built("redis", "valkey").to_string();
        assert!(text.contains("Engine::with_backend") && text.contains("\"valkey\""), "{text}");
    }
}
