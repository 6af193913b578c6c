//! Waiting for the end of something that cannot call back.

use std::time::Duration;

/// A pause between looks: short at first, so that quick work is seen at once, then longer.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Duration,
    longest: Duration,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { next: Duration::from_millis(1), longest: Duration::from_millis(100) }
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 3 / 2).max(Duration::from_millis(2)).min(self.longest);
    }
}
