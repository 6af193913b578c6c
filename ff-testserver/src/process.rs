//! One server process on a loopback port or a unix socket, that can be killed and started again on the same data.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Kind;

/// A port that nobody uses at the moment. Between this and its use somebody else may take it; then the start fails.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
enum Door {
    /// On this loopback port.
    Port(u16),
    /// On the unix socket in its folder alone.
    Socket,
}

/// The unix socket of every server, in its folder.
const SOCKET: &str = "own.sock";

/// A server with a folder of its own.
#[derive(Debug)]
pub struct Process {
    kind: Kind,
    folder: TempDir,
    door: Door,
    args: Vec<String>,
    /// A locale that lies in its folder.
    locale: Option<String>,
    child: Option<Child>,
}

impl Process {
    /// Starts a server that listens on `port` in the way that `args` say, and waits for it. `prepare` fills its folder.
    ///
    /// # Errors
    /// When the program is missing or does not listen within ten seconds.
    pub fn start(
        kind: Kind,
        port: u16,
        args: impl IntoIterator<Item = String>,
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Self> {
        let folder = TempDir::with_prefix("ff-")?;
        prepare(folder.path())?;
        let args = args.into_iter().collect();
        Self { kind, folder, door: Door::Port(port), args, locale: None, child: None }.started()
    }

    /// Starts a server on a unix socket alone, in the way that `args` say, and waits until it answers.
    ///
    /// # Errors
    /// When the program is missing or does not answer within ten seconds.
    pub fn on_socket(kind: Kind, args: &[&str]) -> io::Result<Self> {
        Self::with_socket(kind, args, TempDir::with_prefix("ff-")?, None).started()
    }

    /// Like [`Self::on_socket`], in a locale (`en_US`, `UTF-8`) that is made for it by `localedef`.
    ///
    /// # Errors
    /// When the locale cannot be made, and those of [`Self::on_socket`].
    pub fn in_locale(kind: Kind, args: &[&str], language: &str, charmap: &str) -> io::Result<Self> {
        let folder = TempDir::with_prefix("ff-")?;
        let name = format!("{language}.{charmap}");
        let made =
            Command::new("localedef").args(["-i", language, "-f", charmap]).arg(folder.path().join(&name)).output()?;
        if !made.status.success() {
            return Err(io::Error::other(format!("localedef: {}", String::from_utf8_lossy(&made.stderr))));
        }
        Self::with_socket(kind, args, folder, Some(name)).started()
    }

    fn with_socket(kind: Kind, args: &[&str], folder: TempDir, locale: Option<String>) -> Self {
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.extend(["--port", "0"].map(str::to_owned));
        Self { kind, folder, door: Door::Socket, args, locale, child: None }
    }

    fn started(mut self) -> io::Result<Self> {
        self.restart()?;
        Ok(self)
    }

    /// Starts it again, if it does not run: because it was killed, or ended by itself.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        if let Some(child) = &mut self.child {
            if child.try_wait()?.is_none() {
                return Ok(());
            }
            self.child = None;
        }
        let mut command = Command::new(self.kind.program());
        if let Some(locale) = &self.locale {
            command.env("LOCPATH", self.folder.path()).env("LC_ALL", locale);
        }
        let child = command
            .args(&self.args)
            // Last, so that no argument of the caller's is taken for another one's value.
            .args(["--unixsocket", SOCKET])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.kind.program())))?;
        let child = self.child.insert(child);
        // The port may be somebody else's, and then this server ends. It listens on its socket after its ports, and the
        // socket is in a folder that nobody else knows.
        let socket = self.folder.path().join(SOCKET);
        let is_there = || match self.door {
            Door::Port(port) => UnixStream::connect(&socket).is_ok() && TcpStream::connect(("127.0.0.1", port)).is_ok(),
            Door::Socket => answers(&socket).unwrap_or(false),
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_there() {
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("the server ended at once: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the server does not listen"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Which server it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its port; 0 of one on a unix socket.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self.door {
            Door::Port(port) => port,
            Door::Socket => 0,
        }
    }

    /// Its unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of a plain connection.
    #[must_use]
    pub fn url(&self) -> String {
        match self.door {
            Door::Port(port) => format!("redis://127.0.0.1:{port}"),
            Door::Socket => format!("redis+unix://{}", self.socket().display()),
        }
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn connection(&self) -> io::Result<redis::Connection> {
        let client = redis::Client::open(self.url()).map_err(io::Error::other)?;
        client.get_connection_with_timeout(Duration::from_secs(2)).map_err(io::Error::other)
    }

    /// Runs a command and gives its answer as text.
    ///
    /// # Errors
    /// Those of the server, and when it does not answer.
    pub fn ask(&self, words: &[&str]) -> io::Result<String> {
        let mut command = redis::cmd(words.first().copied().unwrap_or("PING"));
        for word in words.iter().skip(1) {
            command.arg(*word);
        }
        let value: redis::Value = command.query(&mut self.connection()?).map_err(io::Error::other)?;
        Ok(redis::from_redis_value::<String>(value).unwrap_or_default())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server as [`plain`] starts it, of the kind that `FF_SERVER` names, else Valkey, else, where that is not installed,
/// Redis.
///
/// # Errors
/// See [`Process::start`].
pub fn chosen(more: &[&str]) -> io::Result<Process> {
    match std::env::var("FF_SERVER").as_deref() {
        Ok("redis") => plain(Kind::Redis, more),
        Ok(_) => plain(Kind::Valkey, more),
        Err(_) => match plain(Kind::Valkey, more) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => plain(Kind::Redis, more),
            other => other,
        },
    }
}

/// Waits until something holds.
///
/// # Errors
/// When it does not within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("in vain: {what}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A server without persistence on a loopback port, with further arguments.
///
/// # Errors
/// See [`Process::start`].
pub fn plain(kind: Kind, more: &[&str]) -> io::Result<Process> {
    let port = free_port()?;
    let mut args: Vec<String> = ["--bind", "127.0.0.1", "--save", "", "--port"].map(str::to_owned).into();
    args.push(port.to_string());
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    Process::start(kind, port, args, |_| Ok(()))
}

/// A server on a unix socket that writes every change to its log, and the log to the disk, before it answers: what it
/// acknowledged outlives its death.
///
/// # Errors
/// See [`Process::on_socket`].
pub fn durable(kind: Kind) -> io::Result<Process> {
    let log = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"];
    Process::on_socket(kind, &log)
}

/// Whether a server answers, and not that it is still loading.
fn answers(socket: &Path) -> io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer == *b"+PONG")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(port: u16) -> Vec<String> {
        ["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()].map(str::to_owned).into()
    }

    fn kind() -> Kind {
        let server = chosen(&[]).expect("a server is installed");
        server.kind
    }

    #[test]
    fn a_port_that_somebody_else_listens_on_is_not_taken_for_the_server() {
        let foreign = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = foreign.local_addr().expect("bound").port();
        let error = Process::start(kind(), port, args(port), |_| Ok(())).expect_err("the port is taken");
        assert!(error.to_string().contains("ended at once"), "{error}");
    }

    #[test]
    fn a_server_that_ended_by_itself_is_started_again_and_one_that_runs_is_not() {
        let mut server = chosen(&[]).expect("a server is installed");
        let id = |server: &Process| server.ask(&["INFO", "server"]).expect("it answers");
        let before = id(&server);
        server.restart().expect("it runs");
        let run_id = |info: &str| info.lines().find(|line| line.starts_with("run_id:")).map(str::to_owned);
        assert_eq!(run_id(&id(&server)), run_id(&before));
        let _ = server.ask(&["SHUTDOWN", "NOSAVE"]);
        let child = server.child.as_mut().expect("started");
        child.wait().expect("it ends");
        server.restart().expect("it starts again");
        assert_ne!(run_id(&id(&server)), run_id(&before));
    }
}
