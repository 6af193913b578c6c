//! What every part of the catalogue speaks.

pub(super) use ff_core::contracts::*; // a lie may be told in any operation
pub(super) use ff_core::error::EngineError;
pub(super) use ff_core::operation::{OpName as Op, Operation, Outcome};
pub(super) use ff_core::refusal::{Code, Refusal};
pub(super) use ff_core::time::{TimestampMs, When};

pub(super) use crate::scene::Lie::{Asks, Call, Tells};
pub(super) use crate::scene::{Answer, Bug, Scene, before, refused};

/// The arguments of the one operation that a lie is told in; another goes its way.
macro_rules! args {
    ($scene:ident, $operation:ident, $Variant:ident) => {
        match $operation {
            Operation::$Variant(args) => args,
            other => return $scene.call(other),
        }
    };
}
pub(super) use args;
