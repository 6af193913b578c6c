//! The in-memory backend held against the contract.

use std::sync::Arc;

use ff_backend_memory::MemoryBackend;
use ff_conformance::{Damage, DamageKind, Fixture, Harness, TestName};
use ff_core::engine_backend::EngineBackend;
use ff_core::time::ManualClock;

struct Memory;

impl Harness for Memory {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let backend = MemoryBackend::with_manual_clock(clock.clone());
        Fixture::new(Arc::new(backend.clone()), clock).with_guard(backend)
    }

    async fn second(&self, fixture: &Fixture) -> Option<Arc<dyn EngineBackend>> {
        Some(Arc::new(fixture.guard::<MemoryBackend>()?.clone()))
    }

    fn histories(&self) -> (u64, u64) {
        (20_000, 500_000)
    }

    fn malformed_calls(&self) -> (u64, u64) {
        (200_000, 20_000_000)
    }

    async fn damage(&self, fixture: &Fixture, damage: Damage) -> bool {
        let Some(backend) = fixture.guard::<MemoryBackend>() else { return false };
        match damage {
            Damage::Unreadable(id) => backend.make_unreadable(&id),
            Damage::Readable(id) => backend.make_readable(&id),
            Damage::FlowUnreadable(id) => backend.make_flow_unreadable(&id),
            Damage::FlowReadable(id) => backend.make_flow_readable(&id),
            Damage::EdgeUnreadable((flow_id, id)) => backend.make_edge_unreadable(&flow_id, id),
            Damage::EdgeReadable((flow_id, id)) => backend.make_edge_readable(&flow_id, id),
            Damage::SuspensionUnreadable(id) => backend.make_suspension_unreadable(&id),
            Damage::SuspensionReadable(id) => backend.make_readable(&id),
            Damage::IndexesLost(partition) => backend.lose_indexes(partition),
            Damage::BacklogLost(partition) => backend.lose_backlog(partition),
            Damage::ForeignQueueEntry(id) => backend.add_foreign_queue_entry(&id),
            Damage::WrongDueTime(id) => backend.misplace_timer(&id),
            _ => false,
        }
    }

    fn can_damage(&self, _: DamageKind) -> bool {
        true
    }
}

fn main() {
    ff_conformance::main("memory", || Memory)
}
