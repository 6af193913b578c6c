//! What the clients of one history do.

use ff_core::operation::OpName;

use crate::random::{Action, Step, weights};

/// What the calls of a history mostly are about, so that they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Claims and grants of the same executions.
    Claims,
    /// Complete, cancel, fail, expire, delay and replay of the same executions.
    Endings,
    /// Renewals, revocations and losses of the same leases.
    Leases,
    /// Signals on one waitpoint, suspensions and resumes.
    Signals,
    /// Edges and members against the ends of what they wait for.
    Flows,
    /// Budgets and quota policies.
    Resources,
    /// Anything.
    Everything,
}

impl Theme {
    /// Every theme, in the order in which seeds take turns.
    pub const ALL: [Self; 7] =
        [Self::Claims, Self::Endings, Self::Leases, Self::Signals, Self::Flows, Self::Resources, Self::Everything];

    /// What one client does first, so that there is something to meet over.
    fn founding(self) -> &'static [OpName] {
        use OpName as O;
        match self {
            Self::Claims => &[O::CreateExecution, O::CreateExecution, O::CreateExecution],
            Self::Endings | Self::Leases => {
                &[O::CreateExecution, O::CreateExecution, O::CreateExecution, O::ClaimNext, O::ClaimNext]
            }
            Self::Signals => &[
                O::CreateExecution,
                O::CreateExecution,
                O::ClaimNext,
                O::ClaimNext,
                O::CreatePendingWaitpoint,
                O::SuspendExecution,
            ],
            Self::Flows => &[
                O::CreateFlow,
                O::SubmitFlow,
                O::CreateExecution,
                O::CreateExecution,
                O::CreateExecution,
                O::CreateExecution,
                O::ClaimNext,
            ],
            Self::Resources => &[O::CreateBudget, O::CreateBudget, O::CreateQuotaPolicy, O::CreateQuotaPolicy],
            Self::Everything => &[
                O::CreateExecution,
                O::CreateExecution,
                O::SubmitFlow,
                O::CreateBudget,
                O::CreateQuotaPolicy,
                O::ClaimNext,
            ],
        }
    }

    /// What all clients then do, and how often.
    fn mix(self) -> Vec<(OpName, u32)> {
        use OpName as O;
        match self {
            Self::Claims => vec![
                (O::ClaimNext, 30),
                (O::IssueClaimGrant, 20),
                (O::ClaimExecution, 20),
                (O::CreateExecution, 8),
                (O::ChangePriority, 4),
                (O::BlockExecution, 4),
                (O::UnblockExecution, 4),
                (O::CompleteExecution, 4),
                (O::RevokeLease, 4),
                (O::ReclaimExecution, 4),
                (O::IssueReclaimGrant, 6),
                (O::Sweep, 6),
                (O::DescribeExecution, 6),
                (O::LaneCounts, 3),
                (O::ListExecutions, 2),
            ],
            Self::Endings => vec![
                (O::CompleteExecution, 20),
                (O::CancelExecution, 12),
                (O::FailExecution, 16),
                (O::ExpireExecution, 8),
                (O::DelayExecution, 6),
                (O::ReplayExecution, 12),
                (O::ClaimNext, 20),
                (O::Sweep, 8),
                (O::SetExecutionTags, 3),
                (O::DescribeExecution, 6),
                (O::ListAttempts, 3),
                (O::GetResult, 3),
            ],
            Self::Leases => vec![
                (O::RenewLease, 20),
                (O::RevokeLease, 10),
                (O::MarkLeaseExpired, 8),
                (O::IssueReclaimGrant, 10),
                (O::ReclaimExecution, 10),
                (O::ClaimNext, 20),
                (O::UpdateProgress, 6),
                (O::AppendFrame, 10),
                (O::ReadFrames, 4),
                (O::TailFrames, 2),
                (O::CompleteExecution, 4),
                (O::Sweep, 8),
                (O::DescribeExecution, 5),
            ],
            Self::Signals => vec![
                (O::DeliverSignal, 34),
                (O::BufferSignal, 8),
                (O::SuspendExecution, 14),
                (O::CreatePendingWaitpoint, 8),
                (O::CloseWaitpoint, 4),
                (O::ResumeExecution, 6),
                (O::ExpireSuspension, 4),
                (O::ClaimNext, 12),
                (O::IssueClaimGrant, 3),
                (O::ClaimResumedExecution, 4),
                (O::CancelExecution, 2),
                (O::RotateWaitpointHmacSecret, 2),
                (O::RevokeWaitpointKid, 1),
                (O::ListWaitpointHmacKids, 1),
                (O::ListPendingWaitpoints, 4),
                (O::ListSignals, 5),
                (O::Sweep, 6),
            ],
            Self::Flows => vec![
                (O::StageDependencyEdge, 20),
                (O::ApplyDependencyToChild, 8),
                (O::ResolveDependency, 6),
                (O::CreateExecution, 10),
                (O::AddExecutionToFlow, 5),
                (O::SealFlow, 4),
                (O::CancelFlow, 3),
                (O::ClaimNext, 20),
                (O::CompleteExecution, 16),
                (O::FailExecution, 6),
                (O::CancelExecution, 4),
                (O::MoveToWaitingChildren, 8),
                (O::PromoteBlockedToEligible, 4),
                (O::ReplayExecution, 4),
                (O::SetFlowTags, 2),
                (O::EvaluateFlowEligibility, 4),
                (O::DescribeFlow, 5),
                (O::DescribeEdge, 3),
                (O::ListEdges, 3),
                (O::ListFlowMembers, 2),
                (O::Sweep, 6),
            ],
            Self::Resources => vec![
                (O::ReportUsage, 35),
                (O::ResetBudget, 5),
                (O::GetBudgetStatus, 8),
                (O::CreateBudget, 2),
                (O::CheckAdmission, 30),
                (O::ReleaseAdmission, 14),
                (O::GetQuotaStatus, 8),
                (O::CreateQuotaPolicy, 2),
            ],
            Self::Everything => weights()
                .into_iter()
                .filter_map(|(action, weight)| match action {
                    Action::Call(name) => Some((name, weight)),
                    Action::Clock => None,
                })
                .collect(),
        }
    }
}

/// What one call is, and what becomes of its answer.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    pub(super) step: Step,
    /// If set, the caller looks for the answer so often, and then goes away without it.
    pub(super) patience: Option<u8>,
    /// Whether a caller who went away makes the same call again, and waits.
    pub(super) again: bool,
    /// How often the client lets others go first before it asks, and while the call and its answer are on their way.
    pub(super) pauses: u8,
}

/// One stretch of a history: the clock stands still while all clients call.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// By how much the clock moves before it.
    pub(super) advance_ms: u64,
    /// The calls of each client.
    pub(super) clients: Vec<Vec<Draw>>,
}

/// What the clients of one history do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) theme: Theme,
    pub(super) founding: Vec<Step>,
    pub(super) phases: Vec<Phase>,
}

impl Plan {
    /// What its calls mostly are about.
    #[must_use]
    pub const fn theme(&self) -> Theme {
        self.theme
    }

    /// How many clients call.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.phases.first().map_or(0, |phase| phase.clients.len())
    }

    /// How many calls they make, those that found something included.
    #[must_use]
    pub fn calls(&self) -> usize {
        let each = self.phases.iter().flat_map(|phase| &phase.clients).map(Vec::len);
        self.founding.len() + each.sum::<usize>()
    }
}

/// The durations that leases, timeouts and windows have, so that what is due is due exactly then.
const ADVANCES: [u64; 8] = [0, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000];

/// Answers that may be lost in one history: each makes the search for an order longer.
const MAX_LOST: usize = 4;

/// Draws a history: 6 to 12 clients, 40 to 80 calls, in two or three phases.
#[must_use]
pub fn draw(seed: u64) -> Plan {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xc0ff_ee00);
    // Themes take turns.
    let turn = usize::try_from(seed % Theme::ALL.len() as u64).unwrap_or(0);
    let theme = Theme::ALL[turn];
    let mut serial = 0;
    let mut step = |name: OpName, rng: &mut fastrand::Rng| {
        serial += 1;
        Step { action: Action::Call(name), serial, dice: std::array::from_fn(|_| rng.u32(..)) }
    };
    let founding: Vec<Step> = theme.founding().iter().map(|name| step(*name, &mut rng)).collect();
    let mix = theme.mix();
    let total: u32 = mix.iter().map(|(_, weight)| weight).sum();
    let clients = rng.usize(6..=12);
    let phases = rng.usize(2..=3);
    let calls = rng.usize(40..=80) - founding.len();
    let mut lost = 0;
    let mut plan = Plan { theme, founding, phases: Vec::new() };
    for at in 0..phases {
        let mut each: Vec<Vec<Draw>> = vec![Vec::new(); clients];
        for _ in 0..(calls / phases + usize::from(at < calls % phases)) {
            let mut pick = rng.u32(0..total);
            let name = mix.iter().find(|(_, weight)| {
                let here = pick < *weight;
                pick = pick.saturating_sub(*weight);
                here
            });
            let name = name.map_or(OpName::Sweep, |(name, _)| *name);
            let client = rng.usize(0..clients);
            // A third of the clients is impatient now and then.
            let leaves = client.is_multiple_of(3) && name.writes() && lost < MAX_LOST && rng.u32(0..100) < 12;
            lost += usize::from(leaves);
            let draw = Draw {
                step: step(name, &mut rng),
                patience: leaves.then(|| rng.u8(0..4)),
                again: rng.bool(),
                pauses: rng.u8(0..3),
            };
            each[client].push(draw); // one of them
        }
        let advance_ms = if at == 0 { 0 } else { ADVANCES[rng.usize(0..ADVANCES.len())] };
        plan.phases.push(Phase { advance_ms, clients: each });
    }
    plan
}
