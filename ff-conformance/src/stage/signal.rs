//! Words for the domain signal.

use bytes::Bytes;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, SignalId};
use ff_core::operation::Outcome;
use ff_core::policy::ExecutionPolicy;
use ff_core::refusal::{Code, Details, Refusal};

use super::{Stage, human};

/// The same signal for `buffer_signal`.
#[must_use]
pub fn to_buffer(args: &DeliverSignalArgs) -> BufferSignalArgs {
    BufferSignalArgs::builder()
        .execution_id(args.execution_id)
        .waitpoint_id(args.waitpoint_id)
        .waitpoint_token(args.waitpoint_token.clone())
        .signal_id(args.signal_id)
        .name(args.name.clone())
        .category(args.category.clone())
        .source(args.source.clone())
        .payload(args.payload.clone())
        .maybe_encoding(args.encoding.clone())
        .maybe_correlation_id(args.correlation_id.clone())
        .maybe_idempotency_key(args.idempotency_key.clone())
        .build()
}

/// A policy of so many signals.
#[must_use]
pub fn max_signals(n: u32) -> ExecutionPolicy {
    ExecutionPolicy::builder().max_signals(n).build()
}

/// The refusal of a signal beyond a limit.
#[must_use]
pub fn beyond(scope: SignalLimitScope, max: u64) -> Refusal {
    Refusal::from(Details::SignalLimitExceeded { scope, max })
}

/// The effects of these signals, in their order.
#[must_use]
pub fn effects(signals: &[SignalInfo]) -> Vec<SignalEffect> {
    signals.iter().map(|signal| signal.effect).collect()
}

/// The names of these signals, in their order.
#[must_use]
pub fn names(signals: &[SignalInfo]) -> Vec<&str> {
    signals.iter().map(|signal| signal.name.as_str()).collect()
}

impl Stage {
    /// A signal with a fresh id and no payload, let in by the waitpoint's first token: from the token's source, or by
    /// the human `ann` if it has none. Change it at will.
    #[must_use]
    pub fn signal(&self, id: ExecutionId, waitpoint: &IssuedWaitpoint, name: &str) -> DeliverSignalArgs {
        self.signal_by(id, waitpoint, 0, name)
    }

    /// A signal let in by the waitpoint's token at this place, likewise.
    #[must_use]
    pub fn signal_by(&self, id: ExecutionId, waitpoint: &IssuedWaitpoint, nth: usize, name: &str) -> DeliverSignalArgs {
        let issued = waitpoint.tokens.get(nth).unwrap_or_else(|| panic!("no token {nth}: {waitpoint:?}"));
        DeliverSignalArgs::builder()
            .execution_id(id)
            .waitpoint_id(waitpoint.waitpoint_id)
            .waitpoint_token(issued.token.clone())
            .signal_id(SignalId::new())
            .name(name)
            .source(issued.source.clone().unwrap_or_else(|| human("ann")))
            .build()
    }

    /// Delivers; it must be recorded.
    pub async fn deliver(&self, args: DeliverSignalArgs) -> SignalEffect {
        let sent = args.signal_id;
        match self.backend.deliver_signal(args).await {
            Ok(DeliverSignalResult::Accepted { signal_id, effect, .. }) => {
                assert_eq!(signal_id, sent);
                effect
            }
            other => panic!("deliver_signal: {other:?}"),
        }
    }

    /// Delivers a signal of this name by the waitpoint's first token; it must be recorded.
    pub async fn send(&self, id: ExecutionId, waitpoint: &IssuedWaitpoint, name: &str) -> SignalEffect {
        self.deliver(self.signal(id, waitpoint, name)).await
    }

    /// Delivers so many signals named `noise`, each with this payload; each must be recorded, with this effect.
    pub async fn send_noise(
        &self,
        id: ExecutionId,
        waitpoint: &IssuedWaitpoint,
        count: usize,
        payload: &Bytes,
        effect: SignalEffect,
    ) {
        for n in 0..count {
            let mut args = self.signal(id, waitpoint, "noise");
            args.payload = payload.clone();
            assert_eq!(self.deliver(args).await, effect, "noise {n}");
        }
    }

    /// Buffers; it must be recorded.
    pub async fn buffer(&self, args: &DeliverSignalArgs) {
        match self.backend.buffer_signal(to_buffer(args)).await {
            Ok(BufferSignalResult::Buffered { signal_id, effect, .. }) => {
                assert_eq!(signal_id, args.signal_id);
                assert_eq!(effect, SignalEffect::BufferedForPendingWaitpoint);
            }
            other => panic!("buffer_signal: {other:?}"),
        }
    }

    /// Sends again; it must be a duplicate and change nothing: the first signal's id and its effect.
    pub async fn duplicate(&self, args: DeliverSignalArgs) -> (SignalId, SignalEffect) {
        match self.changes_nothing(args).await {
            Outcome::DeliverSignal(DeliverSignalResult::Duplicate { signal_id, effect, .. }) => (signal_id, effect),
            other => panic!("deliver_signal: {other:?}"),
        }
    }

    /// The signal must be refused so, without a look at what it left behind: for the many.
    pub async fn turned_away(&self, args: DeliverSignalArgs, want: &Refusal) {
        match self.backend.deliver_signal(args).await {
            Err(ff_core::error::EngineError::Refused(refusal)) => assert_eq!(refusal, *want),
            other => panic!("deliver_signal must be refused with {want}, answered {other:?}"),
        }
    }

    /// The signal must be refused because its waitpoint is closed for this reason, changing nothing.
    pub async fn refused_as_closed(&self, args: DeliverSignalArgs, reason: WaitpointCloseReason) {
        let refusal = self.refused_with(Code::WaitpointClosed, args).await;
        assert_eq!(refusal, super::closed(reason));
    }

    /// What is told of the current or last suspension's signals: the whole walk.
    pub async fn signals(&self, id: ExecutionId) -> ListSignalsResult {
        self.walk_signals(id, false, 1000).await
    }

    /// Those that matched.
    pub async fn matched_signals(&self, id: ExecutionId) -> Vec<SignalInfo> {
        self.walk_signals(id, true, 1000).await.signals
    }

    /// A whole walk in pages of this length.
    pub async fn walk_signals(&self, id: ExecutionId, matched_only: bool, limit: u32) -> ListSignalsResult {
        let mut whole: Option<ListSignalsResult> = None;
        let mut cursor = None;
        loop {
            let args = ListSignalsArgs::builder()
                .execution_id(id)
                .matched_only(matched_only)
                .limit(limit)
                .maybe_cursor(cursor)
                .build();
            let mut page = self.backend.list_signals(args).await.unwrap_or_else(|e| panic!("list_signals: {e}"));
            cursor = page.next_cursor.take();
            match &mut whole {
                None => whole = Some(page),
                Some(whole) => whole.signals.append(&mut page.signals),
            }
            if cursor.is_none() {
                return whole.unwrap_or_default();
            }
        }
    }
}
