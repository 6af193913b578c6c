//! Whether the clients of some histories met: answers that say nothing, or calls that never overlap, show nothing.

use std::fmt;

use ff_core::error::EngineError;

use super::play::Record;

/// What the clients of some histories were answered, and how often they met. What was done to prepare a history, and what
/// was read after it, does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Histories.
    pub histories: u64,
    /// Calls that clients made.
    pub calls: u64,
    /// Of these, those whose answer came.
    pub answered: u64,
    /// Of these, those that succeeded.
    pub ok: u64,
    /// Answers that say nothing: of the transport.
    pub transport: u64,
    /// Answered calls beside which another client's was under way, on the same partition, budget or policy.
    pub overlapping: u64,
    /// Of these, those that succeeded.
    pub overlapping_ok: u64,
}

/// Histories below which nothing is demanded: a few may be unlucky.
const FEW: u64 = 50;

/// Of a hundred calls so many are answered: clients leave a few, and no more.
const ANSWERED: u64 = 85;
/// Of a hundred answers at most so many are the transport's.
const TRANSPORT: u64 = 1;
/// Of a hundred answers so many are no refusals.
const OK: u64 = 20;
/// For a hundred histories there are so many calls that succeeded while another was under way.
const OVERLAPPING_OK: u64 = 100;

impl Met {
    /// Counts one history of so many clients.
    #[must_use]
    pub fn of(history: &[Record], clients: usize) -> Self {
        let mut met = Self { histories: 1, ..Self::default() };
        let of_clients = || history.iter().filter(|call| call.client < clients);
        for call in of_clients() {
            met.calls += 1;
            let Some((returned, outcome)) = &call.answer else { continue };
            met.answered += 1;
            met.ok += u64::from(outcome.is_ok());
            met.transport += u64::from(matches!(outcome, Err(EngineError::Transport { .. })));
            let address = call.operation.operation.address();
            let beside = of_clients().any(|other| {
                other.client != call.client
                    && other.invoked < *returned
                    && other.answer.as_ref().is_some_and(|(at, _)| *at > call.invoked)
                    && other.operation.operation.address() == address
            });
            met.overlapping += u64::from(beside);
            met.overlapping_ok += u64::from(beside && outcome.is_ok());
        }
        met
    }

    /// Adds what other histories came to.
    pub fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.calls += other.calls;
        self.answered += other.answered;
        self.ok += other.ok;
        self.transport += other.transport;
        self.overlapping += other.overlapping;
        self.overlapping_ok += other.overlapping_ok;
    }

    /// Why these histories show too little, if they do. Nothing is demanded of a few.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        if self.histories < FEW {
            return Vec::new();
        }
        let mut gaps = Vec::new();
        if self.answered * 100 < self.calls * ANSWERED {
            gaps.push(format!("{} of {} calls were answered: fewer than {ANSWERED} %", self.answered, self.calls));
        }
        if self.transport * 100 > self.answered * TRANSPORT {
            let (transport, answered) = (self.transport, self.answered);
            gaps.push(format!("{transport} of {answered} answers are transport errors: more than {TRANSPORT} %"));
        }
        if self.ok * 100 < self.answered * OK {
            gaps.push(format!("{} of {} answers are no refusals: fewer than {OK} %", self.ok, self.answered));
        }
        if self.overlapping_ok * 100 < self.histories * OVERLAPPING_OK {
            gaps.push(format!(
                "clients did not meet: {} calls of {} histories succeeded while another was under way",
                self.overlapping_ok, self.histories
            ));
        }
        gaps
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} histories: {} calls, {} answered, {} of them ok and {} transport errors; {} overlapped another, {} of them ok",
            self.histories, self.calls, self.answered, self.ok, self.transport, self.overlapping, self.overlapping_ok
        )
    }
}
