//! The switches of the changed rules.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const SWITCHES: usize = 16_384;

static CHOSEN: AtomicU32 = AtomicU32::new(0);
static TRACKS: AtomicBool = AtomicBool::new(false);
static HITS: [AtomicBool; SWITCHES] = [const { AtomicBool::new(false) }; SWITCHES];

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this change is in force.
#[must_use]
pub fn on(id: u32) -> bool {
    if !ARMED.get() {
        return false;
    }
    if TRACKS.load(Ordering::Relaxed)
        && let Some(hit) = HITS.get(id as usize)
    {
        hit.store(true, Ordering::Relaxed);
    }
    CHOSEN.load(Ordering::Relaxed) == id
}

/// Chooses the change that is in force; 0 is none.
pub fn choose(id: u32) {
    CHOSEN.store(id, Ordering::SeqCst);
}

/// From now on what is reached is noted.
pub fn track() {
    TRACKS.store(true, Ordering::SeqCst);
}

/// What was reached since this was asked last.
pub fn hits() -> Vec<usize> {
    HITS.iter().enumerate().filter(|(_, hit)| hit.swap(false, Ordering::SeqCst)).map(|(id, _)| id).collect()
}

struct Disarm;

impl Drop for Disarm {
    fn drop(&mut self) {
        ARMED.set(false);
    }
}

/// Does something with the chosen change in force.
pub fn armed<T>(doing: impl FnOnce() -> T) -> T {
    ARMED.set(true);
    let _disarm = Disarm;
    doing()
}
