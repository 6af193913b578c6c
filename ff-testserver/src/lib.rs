//! Private Valkey and Redis servers: each in a folder of its own, on a unix socket or a loopback port, gone when dropped.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub mod cluster;
pub mod process;
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

/// A running server without persistence.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// When the program is missing or does not listen within ten seconds.
    pub fn start(kind: Kind) -> io::Result<Self> {
        let folder = TempDir::with_prefix("ff-")?;
        let child = spawn(kind, folder.path(), None)?;
        let mut server = Self { child, folder };
        server.wait()?;
        Ok(server)
    }

    /// Starts a server that compares texts as a locale does (`en_US`, `UTF-8`), made for it by `localedef`: what runs in
    /// it must not depend on the machine it runs on.
    ///
    /// # Errors
    /// When the locale cannot be made, and those of [`Server::start`].
    pub fn start_in_locale(kind: Kind, language: &str, charmap: &str) -> io::Result<Self> {
        let folder = TempDir::with_prefix("ff-")?;
        let name = format!("{language}.{charmap}");
        let made =
            Command::new("localedef").args(["-i", language, "-f", charmap]).arg(folder.path().join(&name)).output()?;
        if !made.status.success() {
            return Err(io::Error::other(format!("localedef: {}", String::from_utf8_lossy(&made.stderr))));
        }
        let child = spawn(kind, folder.path(), Some(&name))?;
        let mut server = Self { child, folder };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the server ended at once: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the server does not listen"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The URL of its database 0.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }
}

fn spawn(kind: Kind, folder: &Path, locale: Option<&str>) -> io::Result<Child> {
    let mut command = Command::new(kind.program());
    if let Some(locale) = locale {
        command.env("LOCPATH", folder).env("LC_ALL", locale);
    }
    command
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(folder.join("socket"))
        .arg("--dir")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", kind.program())))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
