//! Claiming: in batches, over all lanes and partitions, sized by the free slots.

use std::collections::VecDeque;

use ff_core::contracts::{AdmissionCandidate, ClaimNextArgs, ClaimNextResult, ClaimSlot};
use ff_core::ids::LaneId;
use ff_core::operation::{Operation, Outcome};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::run::Core;
use crate::admission::Claim;
use crate::agenda;
use crate::error::Result;
use crate::repeat::{BATCH, REPEATS, call, together};

/// Claims by which lanes of unlike weights are compared: all weights divide into it finely enough.
const STRIDE: u64 = 1 << 20;
/// Admission-controlled executions that are remembered because no slot was free for them.
const MAX_UNSERVED: usize = 64;

/// What a look at the queues found.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) claimed: usize,
    /// More is ready than was claimed, or others may stand at the heads of queues now: worth another look at once.
    pub(super) more: bool,
}

/// A claim that was sent.
struct Asked {
    lane: usize,
    slots: usize,
    at: Instant,
    due: agenda::Asked,
}

/// Whose turn it is.
pub(super) struct Turns {
    lanes: Vec<Turn>,
    /// The partition that is looked at first.
    partition: u16,
    /// Where the next small look goes on.
    next: usize,
    /// Admission-controlled executions, with their lane, for which no slot was left.
    unserved: VecDeque<(usize, AdmissionCandidate)>,
    /// Whether those come first this time: they take turns with the ordinary ones.
    unserved_first: bool,
    /// How far the lanes have come that have work.
    reached: u64,
}

struct Turn {
    weight: u64,
    /// Grows with each claim, the slower the greater the weight: the lane with the least is served first.
    pass: u64,
}

impl Turns {
    pub(super) fn new(lanes: &[(LaneId, u32)]) -> Self {
        let lanes = lanes.iter().map(|(_, weight)| Turn { weight: u64::from(*weight).max(1), pass: 0 }).collect();
        Self { lanes, partition: 0, next: 0, unserved: VecDeque::new(), unserved_first: false, reached: 0 }
    }

    /// The lanes, least served first.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.lanes.len()).collect();
        order.sort_by_key(|lane| self.lanes.get(*lane).map_or(u64::MAX, |turn| turn.pass));
        order
    }

    fn weight(&self, lane: usize) -> u64 {
        self.lanes.get(lane).map_or(1, |turn| turn.weight)
    }

    fn served(&mut self, lane: usize, claims: usize) {
        if let Some(turn) = self.lanes.get_mut(lane)
            && claims > 0
        {
            self.reached = self.reached.max(turn.pass);
            turn.pass = turn.pass.saturating_add(claims as u64 * (STRIDE / turn.weight).max(1));
        }
    }

    /// A lane that had nothing to do saves up no claims for later.
    fn idle(&mut self, lane: usize) {
        if let Some(turn) = self.lanes.get_mut(lane) {
            turn.pass = turn.pass.max(self.reached);
        }
    }
}

impl Core {
    /// Looks at each lane in each partition, least served lanes first, until `free` executions are claimed. While slots
    /// are scarce each lane gets its share of them by weight; what a lane leaves goes to those that have more. Each claim
    /// is handed over as it comes. A claim that was sent is always waited for: what it took must be worked on.
    pub(super) async fn claim(
        &self,
        free: usize,
        turns: &mut Turns,
        stop: &CancellationToken,
        mut take: impl FnMut(Claim),
    ) -> Result<Round> {
        let mut round = Round::default();
        let mut left = free;
        turns.unserved_first = !turns.unserved_first;
        if turns.unserved_first {
            self.serve_waiting(left.div_ceil(2), turns, &mut round, &mut take).await;
            left = free.saturating_sub(round.claimed);
        }
        turns.unserved.clear();
        let partitions = self.engine.partitions().end;
        let first = turns.partition % partitions.max(1);
        // The next look begins one further on, so that no partition is always served last.
        turns.partition = (first + 1) % partitions.max(1);
        let order = turns.order();
        let mut weights: u64 = order.iter().map(|lane| turns.weight(*lane)).sum();
        let mut with_more = Vec::new();
        for lane in order {
            let weight = turns.weight(lane);
            // Exact for one lane: all that is left.
            let share = (left as u64 * weight).div_ceil(weights.max(1));
            let mut share = usize::try_from(share).unwrap_or(left).min(left);
            weights = weights.saturating_sub(weight);
            let before = round.claimed;
            for offset in 0..partitions {
                let partition = (first + offset) % partitions;
                if share == 0 || stop.is_cancelled() {
                    with_more.push((lane, partition));
                    continue;
                }
                let found = self.look(lane, partition, share, turns, &mut round, &mut take).await?;
                share -= found.claimed.min(share);
                left -= found.claimed.min(left);
                if found.more {
                    with_more.push((lane, partition));
                }
            }
            match round.claimed - before {
                0 => turns.idle(lane),
                claims => turns.served(lane, claims),
            }
        }
        for (lane, partition) in with_more {
            if left == 0 || stop.is_cancelled() {
                round.more |= left == 0;
                break;
            }
            let found = self.look(lane, partition, left, turns, &mut round, &mut take).await?;
            left -= found.claimed.min(left);
            turns.served(lane, found.claimed);
            round.more |= found.more;
        }
        Ok(round)
    }

    /// Looks at each lane in each partition, at many at once: for a worker that had nothing to do and is told that there is
    /// work somewhere. Of each only one is claimed, so that it takes no more than it has room for; it ends with the first
    /// that have something.
    pub(super) async fn search(
        &self,
        free: usize,
        turns: &mut Turns,
        stop: &CancellationToken,
        mut take: impl FnMut(Claim),
    ) -> Result<Round> {
        let mut round = Round::default();
        turns.unserved.clear();
        let partitions = self.engine.partitions().end;
        let first = turns.partition % partitions.max(1);
        turns.partition = (first + 1) % partitions.max(1);
        let in_turn = (0..partitions).map(|offset| (first + offset) % partitions);
        let queues: Vec<(usize, u16)> = turns
            .order()
            .into_iter()
            .flat_map(|lane| in_turn.clone().map(move |partition| (lane, partition)))
            .collect();
        for together_asked in queues.chunks(free.clamp(1, BATCH)) {
            if stop.is_cancelled() {
                break;
            }
            let (mut asked, mut questions) = (Vec::new(), Vec::new());
            for (lane, partition) in together_asked {
                let Some(args) = self.question(*lane, *partition, 1) else { continue };
                let due = self.engine.agenda().asks(*partition);
                asked.push(Asked { lane: *lane, slots: 1, at: Instant::now(), due });
                questions.push(Operation::ClaimNext(args));
            }
            let mut failed = None;
            for (asked, answer) in asked.into_iter().zip(together(&self.engine, questions, REPEATS).await) {
                let lane = asked.lane;
                match answer {
                    // What others of these took is worked on in any case.
                    Err(error) => failed = failed.or(Some(error)),
                    Ok(Outcome::ClaimNext(answer)) => {
                        let found = self.found(asked, answer, turns, &mut round, &mut take).await;
                        round.more |= found.more;
                        turns.served(lane, found.claimed);
                    }
                    Ok(_) => {}
                }
            }
            if let Some(error) = failed {
                return Err(error.into());
            }
            if round.claimed > 0 || round.more {
                return Ok(round);
            }
        }
        (0..self.lanes.len()).for_each(|lane| turns.idle(lane));
        Ok(round)
    }

    /// A small look, for when nothing says that there is work: a wake-up may have been lost. At most `looks` queues, in
    /// turn.
    pub(super) async fn glance(
        &self,
        free: usize,
        looks: usize,
        turns: &mut Turns,
        mut take: impl FnMut(Claim),
    ) -> Result<Round> {
        let (mut round, partitions) = (Round::default(), usize::from(self.engine.partitions().end));
        let all = partitions * self.lanes.len();
        for _ in 0..looks.min(all) {
            let (lane, partition) = ((turns.next / partitions) % self.lanes.len(), turns.next % partitions);
            turns.next = (turns.next + 1) % all;
            let left = free.saturating_sub(round.claimed);
            if left > 0 {
                let partition = u16::try_from(partition).unwrap_or_default();
                let found = self.look(lane, partition, left, turns, &mut round, &mut take).await?;
                round.more |= found.more;
            }
        }
        Ok(round)
    }

    /// Serves those that waited for a free slot.
    async fn serve_waiting(&self, slots: usize, turns: &mut Turns, round: &mut Round, take: &mut impl FnMut(Claim)) {
        let candidates: Vec<_> = turns.unserved.drain(..slots.min(turns.unserved.len())).collect();
        let (lanes, candidates): (Vec<usize>, Vec<_>) = candidates.into_iter().unzip();
        let claimed = self.admit(candidates, round, take).await;
        for lane in lanes.into_iter().take(claimed) {
            turns.served(lane, 1);
        }
    }

    async fn admit(
        &self,
        candidates: Vec<AdmissionCandidate>,
        round: &mut Round,
        take: &mut impl FnMut(Claim),
    ) -> usize {
        if candidates.is_empty() {
            return 0;
        }
        let dealt = self.admission.deal(candidates).await;
        let claimed = dealt.claimed.len();
        dealt.claimed.into_iter().for_each(&mut *take);
        round.claimed += claimed;
        // Others stand at the heads now.
        round.more |= dealt.moved > 0;
        claimed
    }

    /// Looks at one lane in one partition.
    async fn look(
        &self,
        lane: usize,
        partition: u16,
        slots: usize,
        turns: &mut Turns,
        round: &mut Round,
        take: &mut impl FnMut(Claim),
    ) -> Result<Round> {
        let Some(args) = self.question(lane, partition, slots) else { return Ok(Round::default()) };
        let asked = Asked { lane, slots, at: Instant::now(), due: self.engine.agenda().asks(partition) };
        let answer = call!(self.engine, claim_next(args))?;
        Ok(self.found(asked, answer, turns, round, take).await)
    }

    /// The claim of at most `slots` of a lane in a partition.
    fn question(&self, lane: usize, partition: u16, slots: usize) -> Option<ClaimNextArgs> {
        let (lane_id, _) = self.lanes.get(lane)?;
        Some(ClaimNextArgs {
            partition,
            lane_id: lane_id.clone(),
            worker_id: self.worker_id.clone(),
            worker_instance_id: self.instance.clone(),
            capabilities: self.capabilities.clone(),
            slots: (0..slots.min(ClaimNextArgs::MAX_SLOTS)).map(|_| ClaimSlot::new()).collect(),
            lease_ttl_ms: self.leases.ttl_ms(),
        })
    }

    /// Hands over what a claim found, and admits what it listed.
    async fn found(
        &self,
        asked: Asked,
        answer: ClaimNextResult,
        turns: &mut Turns,
        round: &mut Round,
        take: &mut impl FnMut(Claim),
    ) -> Round {
        let ClaimNextResult { claimed, mut needs_admission, ready_remaining, next_due_at } = answer;
        self.engine.agenda().seen(asked.due, next_due_at);
        let mut found = Round { claimed: claimed.len(), more: ready_remaining > 0 };
        round.claimed += claimed.len();
        for claim in claimed {
            take(Claim { claim, slot: None, asked_at: asked.at });
        }
        let left = asked.slots - found.claimed.min(asked.slots);
        let later = needs_admission.split_off(left.min(needs_admission.len()));
        found.more |= !later.is_empty();
        turns.unserved.extend(later.into_iter().map(|candidate| (asked.lane, candidate)));
        turns.unserved.truncate(MAX_UNSERVED);
        found.claimed += self.admit(needs_admission, round, take).await;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32]) -> Turns {
        let lanes: Vec<_> = weights.iter().map(|w| (LaneId::new("lane").expect("a name"), *w)).collect();
        Turns::new(&lanes)
    }

    /// Serves one at a time, `rounds` times, those lanes that have work.
    fn serve(turns: &mut Turns, rounds: usize, has_work: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut served = vec![0; turns.lanes.len()];
        for _ in 0..rounds {
            for lane in turns.order() {
                if has_work(lane) {
                    turns.served(lane, 1);
                    served[lane] += 1;
                    break;
                }
                turns.idle(lane);
            }
        }
        served
    }

    #[test]
    fn lanes_that_have_work_share_by_weight() {
        assert_eq!(serve(&mut turns(&[1, 3]), 400, |_| true), [100, 300]);
        let served = serve(&mut turns(&[1, 2, 7]), 1000, |lane| lane != 2);
        assert!((332..=334).contains(&served[0]) && served[2] == 0, "{served:?}");
    }

    #[test]
    fn lanes_that_were_idle_have_saved_up_nothing() {
        let mut turns = turns(&[1, 1, 1]);
        assert_eq!(serve(&mut turns, 1000, |lane| lane == 0), [1000, 0, 0]);
        let served = serve(&mut turns, 300, |_| true);
        assert!(served.iter().all(|n| (98..=102).contains(n)), "{served:?}");
    }
}
