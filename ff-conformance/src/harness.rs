//! What a backend author provides.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use ff_core::engine_backend::EngineBackend;
use ff_core::ids::{EdgeId, ExecutionId, FlowId};
use ff_core::time::ManualClock;

/// The name of a trial: `domain::operation::sentence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestName(pub String);

impl fmt::Display for TestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! damages {
    ($($(#[$doc:meta])* $Kind:ident($Of:ty),)+) => {
        /// Damage that a store can suffer and that no operation brings about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Damage { $($(#[$doc])* $Kind($Of),)+ }

        /// The kinds of [`Damage`]: what a harness can say that it does, and a case that it needs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum DamageKind { $($(#[$doc])* $Kind,)+ }

        impl DamageKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$Kind),+];
        }

        impl Damage {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> DamageKind {
                match self { $(Self::$Kind(_) => DamageKind::$Kind),+ }
            }
        }
    };
}

damages! {
    /// The execution's record can no longer be decoded.
    Unreadable(ExecutionId),
    /// It can be decoded again, as it was.
    Readable(ExecutionId),
    /// The flow's record can no longer be decoded; those of its members can.
    FlowUnreadable(FlowId),
    /// It can be decoded again, as it was.
    FlowReadable(FlowId),
    /// The edge's record can no longer be decoded.
    EdgeUnreadable((FlowId, EdgeId)),
    /// It can be decoded again, as it was.
    EdgeReadable((FlowId, EdgeId)),
    /// The record of the execution's suspension can no longer be decoded. A store that keeps it within the execution's
    /// record loses that too.
    SuspensionUnreadable(ExecutionId),
    /// It can be decoded again, as it was.
    SuspensionReadable(ExecutionId),
    /// Every ready-queue entry and every timer of the partition is gone.
    IndexesLost(u16),
    /// The partition's backlog is gone.
    BacklogLost(u16),
    /// A ready-queue entry stands where the records imply none: one of this execution, which does not belong in a queue,
    /// in the queue of its lane and required set, at its priority and age.
    ForeignQueueEntry(ExecutionId),
    /// The first of this execution's timers, by kind, stands at instant 0 instead of where it belongs.
    WrongDueTime(ExecutionId),
    /// The flow's tags stand inline in its record, where an older layout kept them. Only of stores that had that layout.
    TagsInline(FlowId),
}

/// Trouble that a harness can make for a store while clients use it. None of it may lose what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The store is killed without a warning (`kill -9`) and started again on what it had written. It serves again when
    /// this is done.
    Crash,
    /// The machine that the store writes to is gone, and another one takes its place, which had confirmed what was
    /// acknowledged. It serves again when this is done.
    Failover,
    /// What the store holds beside its records and is given again by whoever needs it (functions, procedures, prepared
    /// statements) is gone.
    LibraryLost,
    /// Of the next reply on any connection so many bytes arrive, then the connection ends.
    Cut(u32),
    /// Nothing of the next reply on any connection arrives: the connection is reset.
    Reset,
    /// The next reply on any connection arrives so many milliseconds later.
    Delay(u64),
}

/// A value that a store holds: a record, or a field of one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredValue {
    /// What it is, for people: never anything secret.
    pub what: String,
    /// Where it is: for the harness alone to read.
    pub place: Vec<Vec<u8>>,
    /// The value.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.what, self.bytes.len())
    }
}

/// One opened backend: fresh, empty, and shared with nobody.
pub struct Fixture {
    /// The backend.
    pub backend: Arc<dyn EngineBackend>,
    /// The clock that it reads.
    pub clock: ManualClock,
    guard: Option<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// A fixture of a backend that reads this clock.
    pub fn new(backend: Arc<dyn EngineBackend>, clock: ManualClock) -> Self {
        Self { backend, clock, guard: None }
    }

    /// Keeps a value alive as long as the fixture: whatever was started for it.
    #[must_use]
    pub fn with_guard(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// The value that the harness put beside the backend.
    #[must_use]
    pub fn guard<T: Any>(&self) -> Option<&T> {
        self.guard.as_deref().and_then(|g| g.downcast_ref())
    }
}

/// Opens backends for the suite.
///
/// The suite rotates a signing key into every partition that it uses.
pub trait Harness: Send + Sync + 'static {
    /// A fresh, empty, isolated backend that reads `clock`, with the default [`ff_core::bounds::Deployment`].
    fn open(&self, test: &TestName, clock: ManualClock) -> impl Future<Output = Fixture> + Send;

    /// Another handle on the fixture's state and clock, as another process would have it, if the harness can make one. In
    /// the concurrent tier half of the clients use it. A call that was made over a handle and whose future was dropped must
    /// have had its effect, or never have one, when a later call over the same handle is answered.
    fn second(&self, fixture: &Fixture) -> impl Future<Output = Option<Arc<dyn EngineBackend>>> + Send {
        let _ = fixture;
        async { None }
    }

    /// How many histories the concurrent tier plays, on every push and on demand: fewer where each is slow.
    fn histories(&self) -> (u64, u64) {
        (2_000, 100_000)
    }

    /// How many malformed calls the hostile tier plays, on every push and on demand: fewer where each is slow. Forgeries,
    /// cursors and spoiled records are in proportion.
    fn malformed_calls(&self) -> (u64, u64) {
        (10_000, 20_000_000)
    }

    /// Damages the store behind the fixture's back, if the harness can; answers whether it did.
    ///
    /// Nothing that a reader caches may outlive the damage. A damage that finds nothing to harm (an execution that does
    /// not exist, an entry that belongs) answers `false`, which fails the case.
    fn damage(&self, fixture: &Fixture, damage: Damage) -> impl Future<Output = bool> + Send {
        let _ = (fixture, damage);
        async { false }
    }

    /// Whether [`Harness::damage`] can do this kind: none unless said. A case that needs a kind which the harness
    /// cannot do is reported as ignored.
    fn can_damage(&self, kind: DamageKind) -> bool {
        let _ = kind;
        false
    }

    /// The values that the store holds of this fixture's records, whatever they are encoded as; derived indexes may be left
    /// out. For harnesses that say [`Harness::can_overwrite`].
    fn stored(&self, fixture: &Fixture) -> impl Future<Output = Vec<StoredValue>> + Send {
        let _ = fixture;
        async { Vec::new() }
    }

    /// Puts other bytes in the place of a value of [`Harness::stored`], behind the backend's back; answers whether it did.
    fn overwrite(&self, fixture: &Fixture, value: &StoredValue) -> impl Future<Output = bool> + Send {
        let _ = (fixture, value);
        async { false }
    }

    /// Whether the harness can show and overwrite stored values: not unless said.
    fn can_overwrite(&self) -> bool {
        false
    }

    /// Like [`Harness::open`], on a store of its own for which [`Harness::strike`] can bring about these faults, and which
    /// keeps what it acknowledged through them. [`Harness::second`] is asked for a handle for each further client.
    fn open_for_faults(
        &self,
        test: &TestName,
        clock: ManualClock,
        faults: &[Fault],
    ) -> impl Future<Output = Fixture> + Send {
        let _ = faults;
        self.open(test, clock)
    }

    /// Makes trouble for a fixture of [`Harness::open_for_faults`] while clients use it; answers whether it did.
    fn strike(&self, fixture: &Fixture, fault: Fault) -> impl Future<Output = bool> + Send {
        let _ = (fixture, fault);
        async { false }
    }

    /// Whether [`Harness::strike`] can do this, whatever its numbers: nothing unless said. A trial that needs a fault
    /// which the harness cannot bring about is reported as ignored.
    fn can_strike(&self, fault: Fault) -> bool {
        let _ = fault;
        false
    }
}
