//! Stream metadata: `resources.md`, sections 4 and 6. A stored frame is a [`crate::contracts::StreamFrame`].

use serde::{Deserialize, Serialize};

use crate::contracts::StreamEntryId;
use crate::ids::{AttemptIndex, ExecutionId};

/// What is known of an attempt's stream beside its frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMetaRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt.
    pub attempt_index: AttemptIndex,
    /// The newest frame's id.
    pub last_id: StreamEntryId,
    /// Frames ever appended.
    pub frame_count: u64,
    /// Payload bytes ever appended.
    pub total_bytes: u64,
    /// Frames kept.
    pub retained_frames: u64,
    /// Their size, a frame as at least 1 KiB.
    pub retained_bytes: u64,
    /// The greatest seq ever given.
    pub last_seq: Option<u64>,
    /// The newest frame that has gone.
    pub trimmed_to: Option<StreamEntryId>,
}
