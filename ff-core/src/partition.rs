//! Partitions: the unit of atomicity and of placement.

use serde::{Deserialize, Serialize};

use crate::canon::u;

/// How many partitions a deployment has: `1..=16384`, recorded on first use and fixed from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct PartitionConfig {
    partitions: u16,
}

impl PartitionConfig {
    /// The greatest number of partitions.
    pub const MAX: u16 = 16_384;

    /// A deployment of `partitions`; `None` outside `1..=16384`.
    #[must_use]
    pub const fn new(partitions: u16) -> Option<Self> {
        if partitions >= 1 && partitions <= Self::MAX { Some(Self { partitions }) } else { None }
    }

    /// The number of partitions.
    #[must_use]
    pub const fn partitions(self) -> u16 {
        self.partitions
    }

    /// Whether `partition` is one of this deployment.
    #[must_use]
    pub const fn contains(self, partition: u16) -> bool {
        partition < self.partitions
    }

    /// Where the bytes of an id or key belong: `u(bytes) mod partitions`.
    #[must_use]
    pub fn place(self, bytes: &[u8]) -> u16 {
        // The remainder is below a u16.
        u16::try_from(u(bytes) % u64::from(self.partitions)).unwrap_or(0)
    }
}

impl Default for PartitionConfig {
    /// 16 partitions: enough to spread a small cluster, few enough that one process sweeps them all cheaply.
    fn default() -> Self {
        Self { partitions: 16 }
    }
}

impl TryFrom<u16> for PartitionConfig {
    type Error = &'static str;
    fn try_from(partitions: u16) -> Result<Self, Self::Error> {
        Self::new(partitions).ok_or("a deployment has 1 to 16384 partitions")
    }
}

impl From<PartitionConfig> for u16 {
    fn from(config: PartitionConfig) -> Self {
        config.partitions
    }
}
