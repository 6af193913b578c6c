//! What is keyed under an execution: waitpoints, signals, dedup entries, streams.

use std::collections::{BTreeMap, BTreeSet};

use ff_core::contracts::WaitpointState;

use super::{Findings, Rule};
use crate::model::Execution;

pub(super) fn audit(f: &mut Findings, x: &Execution) {
    waitpoints(f, x);
    signals(f, x);
    streams(f, x);
}

fn waitpoints(f: &mut Findings, x: &Execution) {
    let r = &x.record;
    let id = r.execution_id;
    let all = &x.history.waitpoints;
    let open: BTreeSet<_> =
        all.values().filter(|w| w.state != WaitpointState::Closed).map(|w| w.waitpoint_id).collect();
    f.ensure(Rule::Waitpoints, open == x.open_waitpoints, || {
        format!("{id}: open waitpoints are {:?}, should be {open:?}", x.open_waitpoints)
    });
    for w in all.values().filter(|w| w.state == WaitpointState::Active) {
        let owner = x.suspension.as_ref().filter(|s| s.closed_at.is_none()).map(|s| s.suspension_id);
        f.ensure(Rule::Waitpoints, w.suspension_id.is_some() && w.suspension_id == owner, || {
            format!("{id}: waitpoint {} is active without its suspension", w.waitpoint_id)
        });
    }
    f.ensure(Rule::Waitpoints, r.waitpoint_count as usize == all.len(), || {
        format!("{id} counts {} waitpoints and has {}", r.waitpoint_count, all.len())
    });
}

fn signals(f: &mut Findings, x: &Execution) {
    let r = &x.record;
    let id = r.execution_id;
    let h = &*x.history;
    for (seq, signal) in &h.signals {
        f.ensure(Rule::Signals, signal.seq == *seq && *seq < r.next_signal_seq, || {
            format!("{id}: signal {seq} has seq {}, and the next one {}", signal.seq, r.next_signal_seq)
        });
    }
    // A suspension forgets the signals of those before it; that they came is kept, and so is every count.
    let mut sent = BTreeMap::new();
    for entry in h.dedup.values() {
        *sent.entry(entry.waitpoint_id).or_insert(0) += 1;
    }
    for (waitpoint_id, w) in &h.waitpoints {
        let came = sent.remove(waitpoint_id).unwrap_or(0);
        f.ensure(Rule::Signals, w.signal_count == came, || {
            format!("{id}: waitpoint {waitpoint_id} counts {} signals, and {came} came", w.signal_count)
        });
        let kept = h.signals.values().filter(|s| s.waitpoint_id == Some(*waitpoint_id)).count();
        let open = w.state != WaitpointState::Closed;
        f.ensure(Rule::Signals, kept == came as usize || (!open && kept == 0), || {
            format!("{id}: of the {came} signals of waitpoint {waitpoint_id}, {kept} are kept")
        });
    }
    f.ensure(Rule::Signals, sent.is_empty(), || format!("{id}: signals of no waitpoint: {sent:?}"));
    f.ensure(Rule::Signals, r.signal_count as usize <= h.dedup.len(), || {
        format!("{id} counts {} signals, and {} came", r.signal_count, h.dedup.len())
    });
    // Recognised again, by id and by key.
    let senders = h.signals.values().filter(|s| s.waitpoint_id.is_some());
    for signal in senders {
        let entry = h.dedup.get(&signal.signal_id);
        let fits = entry.is_some_and(|d| {
            d.signal_id == signal.signal_id
                && Some(d.waitpoint_id) == signal.waitpoint_id
                && d.idempotency_key == signal.idempotency_key
        });
        f.ensure(Rule::SignalDedup, fits, || format!("{id}: signal {} is recognised as another", signal.seq));
    }
    for ((waitpoint_id, _, key), signal_id) in &h.signal_keys {
        let fits = h
            .dedup
            .get(signal_id)
            .is_some_and(|d| d.waitpoint_id == *waitpoint_id && d.idempotency_key.as_ref() == Some(key));
        f.ensure(Rule::SignalDedup, fits, || format!("{id}: key {key:?} names signal {signal_id}"));
    }
    let keyed = h.dedup.values().filter(|d| d.idempotency_key.is_some()).count();
    f.ensure(Rule::SignalDedup, keyed == h.signal_keys.len(), || {
        format!("{id}: {keyed} signals have a key and {} keys are known", h.signal_keys.len())
    });
}

fn streams(f: &mut Findings, x: &Execution) {
    let id = x.record.execution_id;
    for (index, stream) in &x.history.streams {
        let meta = &stream.meta;
        let of = || format!("{id}, attempt {index}");
        f.ensure(Rule::Streams, *index < x.record.attempt_count && meta.attempt_index.get() == *index, || {
            format!("{} has a stream, and there are {} attempts", of(), x.record.attempt_count)
        });
        let rising = stream.frames.iter().zip(stream.frames.iter().skip(1)).all(|(a, b)| a.id < b.id);
        f.ensure(Rule::Streams, rising, || format!("{}: frames do not rise", of()));
        let last = stream.frames.back().map(|frame| frame.id);
        f.ensure(Rule::Streams, last == Some(meta.last_id), || {
            format!("{}: the last frame is {last:?}, should be {}", of(), meta.last_id)
        });
        let trimmed = stream.frames.front().is_none_or(|first| meta.trimmed_to.is_none_or(|t| t < first.id));
        f.ensure(Rule::Streams, trimmed, || format!("{}: a trimmed frame is there", of()));
        let size: u64 = stream.frames.iter().map(|frame| (frame.payload.len() as u64).max(1024)).sum();
        let kept = stream.frames.len() as u64;
        f.ensure(Rule::Streams, (meta.retained_frames, meta.retained_bytes) == (kept, size), || {
            let told = (meta.retained_frames, meta.retained_bytes);
            format!("{}: {told:?} frames and bytes are kept, should be {:?}", of(), (kept, size))
        });
        let gone = meta.trimmed_to.is_some();
        f.ensure(Rule::Streams, meta.frame_count >= kept && (meta.frame_count > kept) == gone, || {
            format!("{}: {} frames ever, {kept} kept, trimmed to {:?}", of(), meta.frame_count, meta.trimmed_to)
        });
        let seq = stream.frames.iter().filter_map(|frame| frame.seq).max();
        f.ensure(Rule::Streams, seq <= meta.last_seq, || format!("{}: seq {seq:?} is ahead", of()));
    }
}
