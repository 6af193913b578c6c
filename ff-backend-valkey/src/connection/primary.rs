//! One primary, spoken to directly: for what concerns servers and not partitions.

use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, RedisResult, Value};

/// The way to the primary of some slot.
pub(super) fn route(slot: u16) -> SingleNodeRoutingInfo {
    SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master))
}

/// One primary.
pub(crate) enum Primary {
    /// The only one.
    Node(MultiplexedConnection),
    /// The one that serves this slot.
    Slot(ClusterConnection, u16),
}

impl Primary {
    /// Runs a command on it.
    pub(crate) async fn run(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Node(connection) => command.query_async(connection).await,
            Self::Slot(connection, slot) => connection
                .route_command(command.clone(), RoutingInfo::SingleNode(route(*slot)))
                .await
                .and_then(Value::extract_error),
        }
    }
}
