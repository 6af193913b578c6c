//! What answers teach.

use super::PAST;
use super::prelude::*;

impl World {
    fn learn_claim(&mut self, claimed: &ClaimedExecution) {
        let known = self.known.entry(claimed.execution_id).or_default();
        known.fences.push(claimed.fence);
        known.attempts = claimed.attempt_index.get() + 1;
        known.seen = Seen::Running;
    }

    /// Takes in what an operation answered.
    pub fn learn(&mut self, operation: &Operation, outcome: &Outcome) {
        if operation.name().writes() {
            let past = self.past.entry(operation.name()).or_default();
            if past.len() == PAST {
                past.remove(0);
            }
            past.push(operation.clone());
        }
        match (operation, outcome) {
            (Operation::CreateExecution(args), Outcome::CreateExecution(CreateExecutionResult::Created { .. })) => {
                self.known.insert(args.execution_id, Known::default());
                if let Some(join) = &args.flow {
                    self.members.entry(join.flow_id).or_default().push(args.execution_id);
                    for e in &join.edges {
                        let edge = (
                            e.edge_id,
                            e.upstream_execution_id,
                            args.execution_id,
                            e.dependency_kind,
                            e.data_passing_ref.clone(),
                        );
                        self.edges.entry(join.flow_id).or_default().push(edge);
                    }
                }
            }
            (Operation::SubmitFlow(args), Outcome::SubmitFlow(SubmitFlowResult::Created { members, .. })) => {
                for (_, id) in members {
                    self.known.insert(*id, Known::default());
                }
                self.members.insert(args.flow_id, members.iter().map(|(_, id)| *id).collect());
                let id_of = |name: &DataName| members.iter().find(|(n, _)| n == name).map(|(_, id)| *id);
                let edges = args.edges.iter().filter_map(|e| {
                    let (up, down) = (id_of(&e.from)?, id_of(&e.to)?);
                    Some((e.edge_id, up, down, e.dependency_kind, e.data_passing_ref.clone()))
                });
                self.edges.insert(args.flow_id, edges.collect());
            }
            (Operation::AddExecutionToFlow(args), Outcome::AddExecutionToFlow(_)) => {
                let members = self.members.entry(args.flow_id).or_default();
                if !members.contains(&args.execution_id) {
                    members.push(args.execution_id);
                }
            }
            (Operation::StageDependencyEdge(args), Outcome::StageDependencyEdge(_)) => {
                let edge = (
                    args.edge_id,
                    args.upstream_execution_id,
                    args.downstream_execution_id,
                    args.dependency_kind,
                    args.data_passing_ref.clone(),
                );
                self.edges.entry(args.flow_id).or_default().push(edge);
            }
            (_, Outcome::IssueClaimGrant(IssueClaimGrantResult::Granted(g))) => {
                let grant = (g.execution_id, g.worker_id.clone(), g.worker_instance_id.clone(), g.claim_kind);
                self.granted.push(grant);
            }
            (_, Outcome::IssueReclaimGrant(IssueReclaimGrantResult::Granted(g))) => {
                let holder = (g.worker_id.clone(), g.worker_instance_id.clone());
                self.granted.push((g.execution_id, holder.0, holder.1, ClaimKind::Reclaimed));
            }
            (_, Outcome::ClaimExecution(ClaimExecutionResult::Claimed(c)))
            | (_, Outcome::ReclaimExecution(ReclaimExecutionResult::Reclaimed(c))) => self.learn_claim(c),
            (_, Outcome::ClaimResumedExecution(ClaimResumedExecutionResult::Claimed(c))) => {
                self.learn_claim(&c.claimed);
            }
            (_, Outcome::ClaimNext(result)) => {
                for claim in &result.claimed {
                    self.learn_claim(claim.claimed());
                }
            }
            (Operation::ReplayExecution(args), Outcome::ReplayExecution(result)) => {
                let ReplayExecutionResult::Replayed { replay_count, .. } = result;
                self.known.entry(args.execution_id).or_default().replay_count = *replay_count;
            }
            (Operation::SuspendExecution(args), Outcome::SuspendExecution(result)) => {
                let known = self.known.entry(args.execution_id).or_default();
                known.suspensions.push(args.suspension_id);
                let (SuspendExecutionResult::Suspended { waitpoints, .. }
                | SuspendExecutionResult::AlreadySatisfied { waitpoints, .. }) = result;
                known.waitpoints.extend(waitpoints.iter().map(|w| (w.waitpoint_id, w.tokens.clone())));
            }
            (Operation::CreatePendingWaitpoint(args), Outcome::CreatePendingWaitpoint(result)) => {
                let (CreatePendingWaitpointResult::Created { tokens, .. }
                | CreatePendingWaitpointResult::AlreadyExists { tokens, .. }) = result;
                let known = self.known.entry(args.execution_id).or_default();
                known.waitpoints.push((args.waitpoint_id, tokens.clone()));
            }
            (Operation::DeliverSignal(args), Outcome::DeliverSignal(_)) => {
                self.signals.push((args.signal_id, args.name.clone()));
            }
            _ => {}
        }
        let seen = match (operation, outcome) {
            (Operation::CompleteExecution(args), _) => (args.execution_id, Seen::Completed),
            (Operation::FailExecution(args), _) => (args.execution_id, Seen::Otherwise),
            (Operation::CancelExecution(args), _) => (args.execution_id, Seen::Otherwise),
            (Operation::DelayExecution(args), _) => (args.execution_id, Seen::Otherwise),
            (Operation::ReplayExecution(args), _) => (args.execution_id, Seen::Otherwise),
            (Operation::RevokeLease(args), _) => (args.execution_id, Seen::Otherwise),
            (Operation::ResumeExecution(args), _) => (args.execution_id, Seen::Otherwise),
            (
                Operation::SuspendExecution(args),
                Outcome::SuspendExecution(SuspendExecutionResult::Suspended { .. }),
            ) => (args.execution_id, Seen::Suspended),
            (
                Operation::MoveToWaitingChildren(args),
                Outcome::MoveToWaitingChildren(MoveToWaitingChildrenResult::Moved { .. }),
            ) => (args.execution_id, Seen::Otherwise),
            (Operation::MarkLeaseExpired(args), Outcome::MarkLeaseExpired(MarkLeaseExpiredResult::Lost { .. })) => {
                (args.execution_id, Seen::Otherwise)
            }
            _ => return,
        };
        if let Some(known) = self.known.get_mut(&seen.0) {
            known.seen = seen.1;
        }
    }
}
