//! A connection that is opened again after it was lost, once for everybody who needs it.

use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use redis::RedisResult;

type Opening<C> = Shared<BoxFuture<'static, RedisResult<C>>>;

/// Opens a connection; told whether it is the first one.
type Open<C> = Box<dyn Fn(bool) -> BoxFuture<'static, RedisResult<C>> + Send + Sync>;

/// The present connection.
pub(super) struct Renewed<C> {
    open: Open<C>,
    current: Mutex<(u64, Opening<C>)>,
}

impl<C: Clone + Send + Sync + 'static> Renewed<C> {
    /// Opens nothing yet.
    pub(super) fn new(open: impl Fn(bool) -> BoxFuture<'static, RedisResult<C>> + Send + Sync + 'static) -> Self {
        let first = open(true).shared();
        Self { open: Box::new(open), current: Mutex::new((0, first)) }
    }

    /// The present connection and its number. Whoever comes while it is being opened waits for the same attempt.
    pub(super) async fn get(&self) -> (u64, RedisResult<C>) {
        let (number, opening) = {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            (current.0, current.1.clone())
        };
        let opened = opening.await;
        if opened.is_err() {
            self.lost(number);
        }
        (number, opened)
    }

    /// The connection of this number is of no use any more. Calls that are on their way keep it until they end.
    pub(super) fn lost(&self, number: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 == number {
            *current = (number + 1, (self.open)(false).shared());
        }
    }
}
