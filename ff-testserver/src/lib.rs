//! Private Valkey and Redis servers: each in a folder of its own, on a unix socket or a loopback port, gone when dropped.

use std::io;

use crate::process::Process;

pub mod cluster;
pub mod process;
pub mod proxy;
pub mod sentinel;
pub mod tls;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `valkey-server`.
    Valkey,
    /// `redis-server`.
    Redis,
}

impl Kind {
    /// The program.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Valkey => "valkey-server",
            Self::Redis => "redis-server",
        }
    }
}

/// A running server without persistence, on a unix socket.
#[derive(Debug)]
pub struct Server(Process);

impl Server {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// When the program is missing or does not answer within ten seconds.
    pub fn start(kind: Kind) -> io::Result<Self> {
        Process::on_socket(kind, &["--save", "", "--appendonly", "no"]).map(Self)
    }

    /// Starts a server that compares texts as a locale does (`en_US`, `UTF-8`), made for it by `localedef`: what runs in
    /// it must not depend on the machine it runs on.
    ///
    /// # Errors
    /// When the locale cannot be made, and those of [`Server::start`].
    pub fn start_in_locale(kind: Kind, language: &str, charmap: &str) -> io::Result<Self> {
        Process::in_locale(kind, &["--save", "", "--appendonly", "no"], language, charmap).map(Self)
    }

    /// Which server it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.0.kind()
    }

    /// The URL of its database 0.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }
}
