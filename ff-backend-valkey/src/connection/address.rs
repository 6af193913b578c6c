//! Addresses of servers, as URLs.
//!
//! Nothing here repeats a part of an address: what looks like a host may be a password that was put in its place.

use std::path::PathBuf;
use std::str::FromStr;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo, TlsCertificates};

use crate::options::{Confirm, ConnectError, Options, Tls};

const REMEDY: &str = "write redis://[user[:password]@]host[:port][/db], rediss:// for TLS, redis+unix:///path, \
                      redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/master";

/// Where the sentinels of a primary are, and how they are spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Sentinels {
    pub(crate) hosts: Vec<ConnectionAddr>,
    pub(crate) master: String,
    /// Of the primary.
    pub(crate) server: RedisConnectionInfo,
    /// Of the sentinels, where they ask for a user.
    pub(crate) sentinel: RedisConnectionInfo,
    pub(crate) tls: bool,
}

/// What an address names.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// One server.
    Server(ConnectionInfo),
    /// The primary that sentinels name.
    Sentinel(Sentinels),
    /// A cluster, by some of its nodes.
    Cluster(Vec<ConnectionInfo>),
}

/// An address that was read.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) place: Place,
    /// Where the connection is one of TLS.
    pub(crate) certificates: Option<TlsCertificates>,
}

fn wrong(problem: &str) -> ConnectError {
    ConnectError::Address { problem: problem.to_owned(), remedy: REMEDY }
}

fn info(url: &str) -> Result<ConnectionInfo, ConnectError> {
    // The client's own message may repeat what it could not read.
    ConnectionInfo::from_str(url)
        .map(|info| info.set_tcp_settings(tcp()))
        .map_err(|_| wrong("a host, a port, a database or a user in it is malformed"))
}

/// How the sockets of all connections are set: a call that is sent while another one is on its way is not held back until
/// that one's answer has come (Nagle's algorithm).
pub(super) fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// The parameters behind the question mark, those of this crate taken out and put into the options.
fn parameters(
    query: &str,
    options: &mut Options,
    mut other: impl FnMut(&str, &str) -> bool,
) -> Result<(), ConnectError> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "ca" => options.tls.ca = Some(PathBuf::from(value)),
            "cert" => options.tls.cert = Some(PathBuf::from(value)),
            "key" => options.tls.key = Some(PathBuf::from(value)),
            "confirm" => {
                options.confirm = match (value, value.strip_prefix("replicas:").and_then(|n| n.parse().ok())) {
                    ("memory", _) => Confirm::Memory,
                    ("local_fsync", _) => Confirm::LocalFsync,
                    (_, Some(n)) => Confirm::Replicas(n),
                    _ => return Err(wrong("confirm is none of memory, local_fsync, replicas:<number>")),
                }
            }
            _ if other(name, value) => {}
            _ => {
                return Err(wrong(
                    "a parameter is none of ca, cert, key, confirm, protocol (with redis+unix: db, user, pass; with \
                     redis+sentinel: sentinel_user, sentinel_password)",
                ));
            }
        }
    }
    Ok(())
}

fn certificates(tls: &Tls) -> Result<TlsCertificates, ConnectError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| ConnectError::Option {
            option: "tls",
            remedy: if error.kind() == std::io::ErrorKind::NotFound {
                "a file of a certificate or key does not exist"
            } else {
                "a file of a certificate or key cannot be read"
            },
        })
    };
    let client_tls = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some(redis::ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert: tls.ca.as_ref().map(read).transpose()? })
}

/// User information (with its `@`), hosts, and what follows them.
fn split(rest: &str) -> (&str, &str, &str) {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    (user, hosts, path)
}

fn hosts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|host| !host.is_empty())
}

/// Whether a host comes with a port.
fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Reads an address; what it says of the options is put into them.
pub(crate) fn read(url: &str, options: &mut Options) -> Result<Address, ConnectError> {
    let Some((scheme, rest)) = url.split_once(':') else { return Err(wrong("it has no scheme")) };
    let (base, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    if !fragment.is_empty() {
        return Err(wrong("it has a fragment; a `#` in a password is written %23"));
    }
    let (base, query) = base.split_once('?').unwrap_or((base, ""));
    let mut kept = Vec::new();
    let mut sentinel = RedisConnectionInfo::default();
    let is_unix = matches!(scheme, "unix" | "redis+unix" | "valkey+unix");
    let (family, cluster, sentinels) = match scheme.split_once('+') {
        Some((family, "cluster")) => (family, true, false),
        Some((family, "sentinel")) => (family, false, true),
        _ => (scheme, false, false),
    };
    let tls = match family {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ if is_unix => false,
        // The scheme is not repeated: without a scheme, a password would stand in its place.
        _ => return Err(wrong("its scheme is unknown")),
    };
    parameters(query, options, |name, value| match name {
        "protocol" => {
            kept.push(format!("protocol={value}"));
            true
        }
        "db" | "user" | "pass" if is_unix => {
            kept.push(format!("{name}={value}"));
            true
        }
        "sentinel_user" if sentinels => {
            sentinel = std::mem::take(&mut sentinel).set_username(value);
            true
        }
        "sentinel_password" if sentinels => {
            sentinel = std::mem::take(&mut sentinel).set_password(value);
            true
        }
        _ => false,
    })?;
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    let certificates = if tls { Some(certificates(&options.tls)?) } else { None };
    let place = if is_unix {
        Place::Server(info(&format!("{scheme}:{base}{query}"))?)
    } else {
        let Some(rest) = base.strip_prefix("//") else {
            return Err(wrong("two slashes are missing behind its scheme"));
        };
        let (user, list, path) = split(rest);
        if cluster {
            let db = if path.is_empty() { String::new() } else { format!("/{path}") };
            let nodes = hosts(list).map(|host| info(&format!("{family}://{user}{host}{db}{query}")));
            let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
            if nodes.is_empty() {
                return Err(wrong("it names no node of the cluster"));
            }
            Place::Cluster(nodes)
        } else if sentinels {
            let (master, db) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err(wrong("it does not say which primary the sentinels are asked for"));
            }
            let server = info(&format!("{family}://{user}localhost/{db}{query}"))?.redis_settings().clone();
            let with_port = |host: &str| if has_port(host) { host.to_owned() } else { format!("{host}:26379") };
            let hosts = hosts(list).map(|host| Ok(info(&format!("{family}://{}", with_port(host)))?.addr().clone()));
            let hosts = hosts.collect::<Result<Vec<_>, ConnectError>>()?;
            if hosts.is_empty() {
                return Err(wrong("it names no sentinel"));
            }
            Place::Sentinel(Sentinels { hosts, master: master.to_owned(), server, sentinel, tls })
        } else {
            if list.contains(',') {
                return Err(wrong("it names several hosts: say whether they are a cluster or sentinels"));
            }
            Place::Server(info(&format!("{family}://{rest}{query}"))?)
        }
    };
    Ok(Address { place, certificates })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Place {
        read(url, &mut Options::default()).expect(url).place
    }

    #[test]
    fn every_kind_of_address_is_read() {
        for url in ["redis://h", "valkey://u:p@h:1/2", "redis://:p@[::1]:7/0?protocol=resp3", "redis+unix:///a/b?db=1"]
        {
            assert!(matches!(place(url), Place::Server(_)), "{url}");
        }
        let Place::Cluster(nodes) = place("redis+cluster://u:p%40x@a:7001,b,c:7003") else { panic!("a cluster") };
        assert_eq!(nodes.len(), 3);
        assert_eq!(nodes[1].addr(), &ConnectionAddr::Tcp("b".into(), 6379));
        assert!(nodes.iter().all(|n| n.redis_settings().password() == Some("p@x")));
        let url = "redis+sentinel://app:secret@a,b:7/main/3?sentinel_password=other";
        let Place::Sentinel(s) = place(url) else { panic!("sentinels") };
        assert_eq!(s.hosts, [ConnectionAddr::Tcp("a".into(), 26_379), ConnectionAddr::Tcp("b".into(), 7)]);
        assert_eq!((s.master.as_str(), s.server.db(), s.server.username()), ("main", 3, Some("app")));
        assert_eq!((s.server.password(), s.sentinel.password()), (Some("secret"), Some("other")));
        let tls = read("rediss://h", &mut Options::default()).expect("TLS");
        assert!(tls.certificates.is_some());
    }

    #[test]
    fn the_address_says_what_a_write_waits_for() {
        for (text, confirm) in
            [("memory", Confirm::Memory), ("local_fsync", Confirm::LocalFsync), ("replicas:2", Confirm::Replicas(2))]
        {
            let mut options = Options::default();
            read(&format!("redis://h?confirm={text}"), &mut options).expect(text);
            assert_eq!(options.confirm, confirm);
        }
        assert!(read("redis://h?confirm=disk", &mut Options::default()).is_err());
    }

    #[test]
    fn no_error_repeats_any_part_of_the_address() {
        for url in [
            "hunter2",
            "hunter2@host:6379/0",
            "hunter2:hunter2@host",
            "hunter2://host",
            "redis:hunter2@host",
            "redis://:hunter2@host:port",
            "redis://:hunter2@host/hunter2",
            "redis://:hunter2@host?hunter2",
            "redis://:hunter2@host?hunter2=1",
            "redis://:hunter2@host?protocol=hunter2",
            "redis://:hunter2@host?confirm=hunter2",
            "redis://:pass#hunter2@host",
            "redis://:hunter2@a,b",
            "redis+cluster://:hunter2@",
            "redis+cluster://:hunter2@a:hunter2",
            "redis+sentinel://:hunter2@a:1",
            "redis+sentinel://:hunter2@/main",
            "redis+hunter2://a",
            "rediss://host?ca=/hunter2",
            "rediss://host?cert=/hunter2&key=/hunter2",
        ] {
            let error = read(url, &mut Options::default()).expect_err(url);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}: {error:?}");
        }
    }

    #[test]
    fn no_debug_text_repeats_a_password() {
        for url in [
            "redis://:hunter2@host",
            "redis+cluster://u:hunter2@a,b",
            "redis+sentinel://u:hunter2@a/main?sentinel_password=hunter2",
            "redis+unix:///s?pass=hunter2",
        ] {
            let address = read(url, &mut Options::default()).expect(url);
            assert!(!format!("{address:?}").contains("hunter2"), "{url}");
        }
    }
}
