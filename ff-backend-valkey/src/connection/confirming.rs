//! Writes that wait for a confirmation: the connections that wait, and what counts as one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Value};
use tokio::sync::Semaphore;

use super::Link;
use super::address::Address;
use crate::options::{Confirm, Options};

/// Connections for writes that wait for a confirmation: the server answers nothing else on one while it waits.
const CONFIRMING: usize = 16;

/// What a write waits for, and the connections that may wait.
pub(super) struct Confirming {
    confirm: Confirm,
    timeout_ms: u64,
    links: Vec<Link>,
    /// As many permits as links.
    pub(super) free: Semaphore,
    /// Numbers of the links that nobody uses, the one that has rested longest first.
    idle: Mutex<VecDeque<usize>>,
}

/// One of the connections that wait for confirmations, of one call or group alone until it is dropped.
pub(super) struct Taken<'a> {
    confirming: &'a Confirming,
    number: usize,
}

impl Taken<'_> {
    pub(super) fn link(&self) -> Option<&Link> {
        self.confirming.links.get(self.number)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.confirming.idle().push_back(self.number);
    }
}

impl Confirming {
    /// Opens nothing yet.
    pub(super) fn new(address: &Address, options: &Options) -> Self {
        Self {
            confirm: options.confirm,
            timeout_ms: u64::try_from(options.response_timeout.as_millis() * 3 / 4).unwrap_or(u64::MAX).max(1),
            links: (0..CONFIRMING).map(|_| Link::open(address, options)).collect(),
            free: Semaphore::new(CONFIRMING),
            idle: Mutex::new((0..CONFIRMING).collect()),
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection; whoever holds a permit of `free` finds one.
    pub(super) fn take(&self) -> Option<Taken<'_>> {
        let number = self.idle().pop_front()?;
        Some(Taken { confirming: self, number })
    }

    pub(super) fn command(&self) -> Cmd {
        match self.confirm {
            Confirm::Replicas(n) => redis::cmd("WAIT").arg(n).arg(self.timeout_ms).to_owned(),
            _ => redis::cmd("WAITAOF").arg(1).arg(0).arg(self.timeout_ms).to_owned(),
        }
    }

    pub(super) fn is_met(&self, answer: &Value) -> Result<(), String> {
        let (Value::Int(reached), wanted, what) = (match (self.confirm, answer) {
            (Confirm::Replicas(n), answer) => (answer.clone(), i64::from(n), "replicas"),
            (_, Value::Array(parts)) => (parts.first().cloned().unwrap_or(Value::Nil), 1, "synced files"),
            _ => (Value::Nil, 1, "synced files"),
        }) else {
            return Err("the server's confirmation cannot be read".to_owned());
        };
        if reached >= wanted { Ok(()) } else { Err(format!("written, but in {reached} of {wanted} {what} in time")) }
    }
}
