//! A proxy before a server's unix socket that makes trouble for replies: cuts them off, holds them back, resets their
//! connection.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;

/// What happens to one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// So many bytes of it arrive, then the connection ends. The server has done what was asked.
    Cut(usize),
    /// Nothing of it arrives: the connection is reset. The server has done what was asked.
    Reset,
    /// It arrives later.
    Delay(Duration),
}

#[derive(Debug)]
struct Shared {
    to: PathBuf,
    planned: Mutex<VecDeque<Trouble>>,
    struck: AtomicU64,
    closing: AtomicBool,
}

/// A proxy on a loopback port of its own, gone when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens, and leads every connection to this unix socket.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(to: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            planned: Mutex::default(),
            struck: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        });
        let held = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if held.closing.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(client) = client {
                    // A server that is down takes no connection: the client sees its own end.
                    let _ = lead(&held, client);
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// The URL of database 0 of the server behind it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Makes this trouble for the next reply that comes, whoever waits for it. Several are taken in turn.
    pub fn plan(&self, trouble: Trouble) {
        self.shared.planned.lock().unwrap_or_else(PoisonError::into_inner).push_back(trouble);
    }

    /// How many replies have had their trouble.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // So that the listener's thread wakes and sees it.
        let _ = TcpStream::connect(self.address);
    }
}

fn lead(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let server = UnixStream::connect(&shared.to)?;
    client.set_nodelay(true)?;
    let (mut from, mut into) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut into);
        let _ = into.shutdown(Shutdown::Both);
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        // A connection that is to be reset is not ended in good order: it is reset when its last handle goes.
        let reset = replies(&shared, &server, &client).unwrap_or(false);
        let _ = client.shutdown(if reset { Shutdown::Read } else { Shutdown::Both });
        let _ = server.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Hands replies on until one is cut, or either end is over; answers whether the connection is to be reset.
fn replies(shared: &Shared, mut server: &UnixStream, mut client: &TcpStream) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = server.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        let planned = shared.planned.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if planned.is_some() {
            shared.struck.fetch_add(1, Ordering::SeqCst);
        }
        match planned {
            None => client.write_all(&buffer[..count])?,
            Some(Trouble::Delay(time)) => {
                std::thread::sleep(time);
                client.write_all(&buffer[..count])?;
            }
            Some(Trouble::Cut(after)) => return client.write_all(&buffer[..after.min(count - 1)]).map(|()| false),
            Some(Trouble::Reset) => return SockRef::from(client).set_linger(Some(Duration::ZERO)).map(|()| true),
        }
    }
}
