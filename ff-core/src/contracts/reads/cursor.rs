//! Where walks stand.

use std::fmt;
use std::str::FromStr;

use crate::ids::{AttemptIndex, ExecutionId};

/// A text that is no cursor of the list asked for. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list")]
pub struct InvalidCursor;

/// A position in a walk over executions by id: right after one. Opaque to callers; the backends of this workspace
/// share the form, so that [`ListExecutionsArgs`](super::ListExecutionsArgs) can be checked before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionCursor {
    /// The walk goes on with the first execution above this id, which need not exist.
    pub after: ExecutionId,
}

impl ExecutionCursor {
    const PREFIX: &str = "x1.";

    /// The position behind everything of a partition.
    #[must_use]
    pub const fn end_of(partition: u16) -> Self {
        Self { after: ExecutionId::from_parts(partition, uuid::Uuid::max()) }
    }
}

impl fmt::Display for ExecutionCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.after)
    }
}

impl FromStr for ExecutionCursor {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let after = text.strip_prefix(Self::PREFIX).and_then(|id| id.parse().ok()).ok_or(InvalidCursor)?;
        Ok(Self { after })
    }
}

/// A position in a walk over an execution's attempts: right after one. Opaque to callers, shared by the backends of
/// this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptCursor {
    /// The walk goes on with the attempt after this one.
    pub after: AttemptIndex,
}

impl AttemptCursor {
    const PREFIX: &str = "a1.";
}

impl fmt::Display for AttemptCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.after)
    }
}

impl FromStr for AttemptCursor {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let number = text.strip_prefix(Self::PREFIX).ok_or(InvalidCursor)?;
        let index = crate::records::flat::read_number(number.as_bytes()).map_err(|_| InvalidCursor)?;
        Ok(Self { after: AttemptIndex(u32::try_from(index).map_err(|_| InvalidCursor)?) })
    }
}
