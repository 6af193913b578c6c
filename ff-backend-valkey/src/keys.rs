//! The process's cache of signing keys: suspension.md, section 1.3.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ff_core::error::EngineError;
use ff_core::ids::Kid;
use ff_core::refusal::{Code, Refusal};
use ff_core::token::{PartitionKey, PartitionKeys, TokenFault, VerifiedToken, WaitpointSecret, verify_or_fault};

use ff_core::contracts::SignalCall;

use crate::ValkeyBackend;

/// The burst of loads that tokens (of unknown kids, of other sources) may cause in one partition, unless the options say
/// otherwise.
pub(crate) const LOAD_BURST: u32 = 16;

/// How many loads tokens may still cause: a burst, then one per second.
#[derive(Debug)]
struct Budget {
    burst: Option<u32>,
    left: u32,
    /// Of the second that was last given back, milliseconds since the cache was made.
    since_ms: u64,
}

impl Budget {
    const fn new(burst: Option<u32>) -> Self {
        let left = match burst {
            Some(burst) => burst,
            None => 0,
        };
        Self { burst, left, since_ms: 0 }
    }

    /// Takes one load, if there is one.
    fn take(&mut self, now_ms: u64) -> bool {
        let Some(burst) = self.burst else { return true };
        let seconds = now_ms.saturating_sub(self.since_ms) / 1000;
        self.since_ms += seconds * 1000;
        self.left = burst.min(self.left.saturating_add(u32::try_from(seconds).unwrap_or(u32::MAX)));
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        true
    }
}

#[derive(Debug)]
struct Slot {
    keys: Option<Arc<PartitionKeys>>,
    /// How often `keys` was loaded.
    loads: u64,
    budget: Budget,
    /// Held while loading, so that one load is in flight.
    loading: Arc<tokio::sync::Mutex<()>>,
    /// Tokens that failed verification, by reason.
    faults: [u64; TokenFault::ALL.len()],
}

/// Keys by partition, loaded when they are first needed and when a kid is unknown.
#[derive(Debug)]
pub(crate) struct KeyCache {
    slots: Mutex<HashMap<u16, Slot>>,
    burst: Option<u32>,
    made: Instant,
}

impl KeyCache {
    /// An empty one. `burst` limits the loads that unknown kids cause; `None` sets no limit.
    pub(crate) fn new(burst: Option<u32>) -> Self {
        Self { slots: Mutex::default(), burst, made: Instant::now() }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<u16, Slot>> {
        // What is behind it is whole between any two statements.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, partition: u16, change: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = self.slots();
        change(slots.entry(partition).or_insert_with(|| Slot {
            keys: None,
            loads: 0,
            budget: Budget::new(self.burst),
            loading: Arc::default(),
            faults: [0; TokenFault::ALL.len()],
        }))
    }

    /// Loads the partition's keys, unless somebody has done so since the load number `seen`.
    async fn reload<F, L>(&self, partition: u16, seen: u64, load: L) -> Result<Arc<PartitionKeys>, EngineError>
    where
        F: Future<Output = Result<PartitionKeys, EngineError>>,
        L: FnOnce() -> F,
    {
        let loading = self.with(partition, |slot| Arc::clone(&slot.loading));
        let _one = loading.lock().await;
        let newer = self.with(partition, |slot| slot.keys.clone().filter(|_| slot.loads > seen));
        if let Some(keys) = newer {
            return Ok(keys);
        }
        let keys = load().await?;
        // A secret that is not the one of its digest never signs nor verifies.
        keys.check()?;
        let keys = Arc::new(keys);
        self.with(partition, |slot| {
            slot.keys = Some(Arc::clone(&keys));
            slot.loads += 1;
        });
        Ok(keys)
    }

    /// The cached keys and the number of their load.
    fn cached(&self, partition: u16) -> (Option<Arc<PartitionKeys>>, u64) {
        self.with(partition, |slot| (slot.keys.clone(), slot.loads))
    }

    /// The keys that judge a token of this kid.
    ///
    /// # Errors
    /// `keystore_busy` when the kid is unknown and the budget of loads is spent; those of the load.
    pub(crate) async fn judging<F, L>(
        &self,
        partition: u16,
        kid: &Kid,
        load: L,
    ) -> Result<Arc<PartitionKeys>, EngineError>
    where
        F: Future<Output = Result<PartitionKeys, EngineError>>,
        L: FnOnce() -> F,
    {
        let (cached, seen) = self.cached(partition);
        if let Some(keys) = cached {
            if keys.key(kid).is_some() {
                return Ok(keys);
            }
            self.take(partition)?;
        }
        self.reload(partition, seen, load).await
    }

    /// The keys as they are now, for a token that those of the cache vouch for in part.
    ///
    /// # Errors
    /// `keystore_busy` when the budget of loads is spent; those of the load.
    pub(crate) async fn anew<F, L>(&self, partition: u16, load: L) -> Result<Arc<PartitionKeys>, EngineError>
    where
        F: Future<Output = Result<PartitionKeys, EngineError>>,
        L: FnOnce() -> F,
    {
        let (_, seen) = self.cached(partition);
        self.take(partition)?;
        self.reload(partition, seen, load).await
    }

    /// Takes a load that a token causes from the partition's budget.
    fn take(&self, partition: u16) -> Result<(), Refusal> {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        let taken = self.with(partition, |slot| slot.budget.take(now));
        if taken { Ok(()) } else { Err(Refusal::keystore_busy()) }
    }

    /// Runs an operation that issues tokens, telling it the current key; once more with keys loaded anew when the
    /// store calls that key's kid stale.
    ///
    /// # Errors
    /// Those of the load and of the operation; `stale_kid` only when the second try lost too.
    pub(crate) async fn signing<T, F, L, G, O>(&self, partition: u16, load: L, operate: O) -> Result<T, EngineError>
    where
        F: Future<Output = Result<PartitionKeys, EngineError>>,
        L: Fn() -> F,
        G: Future<Output = Result<T, EngineError>>,
        O: Fn(Option<PartitionKey>) -> G,
    {
        let (cached, seen) = self.cached(partition);
        let keys = match cached {
            Some(keys) => keys,
            None => self.reload(partition, seen, &load).await?,
        };
        let (_, seen) = self.cached(partition);
        match operate(keys.current().cloned()).await {
            Err(error) if error.code() == Some(Code::StaleKid) => {
                let keys = self.reload(partition, seen, &load).await?;
                operate(keys.current().cloned()).await
            }
            done => done,
        }
    }

    /// Forgets a kid that the store calls retired.
    pub(crate) fn forget(&self, partition: u16, kid: &Kid) {
        self.with(partition, |slot| {
            if let Some(keys) = slot.keys.as_ref().filter(|keys| keys.key(kid).is_some()) {
                let mut left = PartitionKeys::clone(keys);
                left.keys.retain(|key| key.kid != *kid);
                slot.keys = Some(Arc::new(left));
            }
        });
    }

    fn count(&self, partition: u16, fault: TokenFault) {
        tracing::debug!(partition, fault = fault.as_str(), "a waitpoint token was refused");
        self.with(partition, |slot| slot.faults[fault.index()] += 1); // one place for each
    }

    fn faults(&self, partition: u16, fault: TokenFault) -> u64 {
        self.slots().get(&partition).map_or(0, |slot| slot.faults[fault.index()])
    }
}

impl ValkeyBackend {
    /// How many tokens of one partition this process has refused for one reason since it was opened.
    #[must_use]
    pub fn token_faults(&self, partition: u16, fault: TokenFault) -> u64 {
        self.keys().faults(partition, fault)
    }

    /// One bounded read of a partition's keys.
    pub(crate) async fn load_keys(&self, partition: u16) -> Result<PartitionKeys, EngineError> {
        let mut reply = self.at("ff_load_waitpoint_keys", partition, self.pack()).await?;
        let mut loaded = PartitionKeys::none(partition);
        loaded.current_kid = reply.kid_opt()?;
        let mut keys = reply.list()?;
        while !keys.is_over() {
            let kid = keys.kid()?;
            let (secret, digest) = (keys.array()?, keys.array()?);
            let expires_at = keys.at_opt()?;
            let mut key = PartitionKey::new(kid, WaitpointSecret::new(secret), expires_at);
            // As it is stored: the cache compares it with the secret's own.
            key.digest = ff_core::canon::Digest::from_bytes(digest);
            loaded.keys.push(key);
        }
        Ok(loaded)
    }

    /// Judges a signal's token before anything of its execution is read.
    ///
    /// # Errors
    /// `invalid_token`, `keystore_busy`, `token_source_mismatch`.
    pub(crate) async fn verify(&self, signal: &SignalCall<'_>) -> Result<VerifiedToken, EngineError> {
        let partition = signal.execution_id.partition();
        let refused = |fault| {
            self.keys().count(partition, fault);
            EngineError::from(Refusal::from(fault))
        };
        let Some(kid) = signal.waitpoint_token.kid() else { return Err(refused(TokenFault::Malformed)) };
        let (execution, waitpoint) = (signal.execution_id, signal.waitpoint_id);
        let judge =
            |keys: &PartitionKeys| verify_or_fault(keys, execution, waitpoint, signal.source, signal.waitpoint_token);
        let keys = self.keys().judging(partition, &kid, || self.load_keys(partition)).await?;
        match judge(&keys) {
            // Nothing reaches the store that could say what has become of the kid since it was cached: it is asked, for
            // by a revoked one the token is worth nothing, whoever sends it.
            Err(TokenFault::SourceMismatch) => {
                let keys = self.keys().anew(partition, || self.load_keys(partition)).await?;
                judge(&keys).map_err(refused)
            }
            judged => judged.map_err(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn kid(name: &str) -> Kid {
        Kid::new(name).expect("is a kid")
    }

    fn keys_of(current: &str) -> PartitionKeys {
        let mut keys = PartitionKeys::none(7);
        keys.current_kid = Some(kid(current));
        keys.keys.push(PartitionKey::new(kid(current), WaitpointSecret::new([7; 32]), None));
        keys
    }

    #[test]
    fn a_budget_is_a_burst_and_then_one_per_second() {
        let mut budget = Budget::new(Some(16));
        assert!((0..16).all(|_| budget.take(500)));
        assert!(!budget.take(999));
        assert!(budget.take(1000) && !budget.take(1999) && budget.take(2000));
        assert_eq!((0..40).filter(|_| budget.take(100_000)).count(), 16, "no more than the burst is saved up");
        let mut open = Budget::new(None);
        assert!((0..1000).all(|_| open.take(0)));
    }

    #[tokio::test]
    async fn an_unknown_kid_over_budget_is_keystore_busy_and_never_a_bad_token() {
        let cache = KeyCache::new(Some(2));
        let loads = AtomicU32::new(0);
        let load = || {
            loads.fetch_add(1, Ordering::Relaxed);
            async { Ok(keys_of("k1")) }
        };
        // The first use of a partition is loaded for free, whatever the kid.
        assert!(cache.judging(7, &kid("k9"), load).await.is_ok());
        assert!(cache.judging(7, &kid("k1"), load).await.is_ok());
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        for _ in 0..2 {
            assert!(cache.judging(7, &kid("k9"), load).await.is_ok());
        }
        let busy = cache.judging(7, &kid("k9"), load).await.expect_err("the budget is spent");
        assert_eq!(busy.code(), Some(Code::KeystoreBusy));
        assert!(cache.judging(7, &kid("k1"), load).await.is_ok(), "a known kid needs no load");
        assert!(cache.judging(8, &kid("k9"), load).await.is_ok(), "another partition has its own");
        assert_eq!(loads.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn loads_for_tokens_of_other_sources_come_from_the_same_budget() {
        let cache = KeyCache::new(Some(2));
        let loads = AtomicU32::new(0);
        let load = || {
            loads.fetch_add(1, Ordering::Relaxed);
            async { Ok(keys_of("k1")) }
        };
        assert!(cache.judging(7, &kid("k1"), load).await.is_ok());
        assert!(cache.anew(7, load).await.is_ok() && cache.anew(7, load).await.is_ok());
        let busy = cache.anew(7, load).await.expect_err("the budget is spent");
        assert_eq!(busy.code(), Some(Code::KeystoreBusy));
        assert!(cache.judging(7, &kid("k1"), load).await.is_ok(), "a known kid needs no load");
        assert_eq!(loads.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_stale_kid_is_tried_once_more_with_keys_loaded_anew() {
        let cache = KeyCache::new(Some(2));
        let loads = AtomicU32::new(0);
        let load = || {
            let n = loads.fetch_add(1, Ordering::Relaxed);
            async move { Ok(keys_of(if n == 0 { "k1" } else { "k2" })) }
        };
        let store = |current: &'static str| {
            move |key: Option<PartitionKey>| async move {
                match key {
                    Some(key) if key.kid.as_str() == current => Ok(key.kid),
                    _ => Err(EngineError::from(Refusal::stale_kid(Some(kid(current))))),
                }
            }
        };
        assert_eq!(cache.signing(7, load, store("k2")).await.expect("the second try wins").as_str(), "k2");
        assert_eq!(loads.load(Ordering::Relaxed), 2);
        assert!(cache.signing(7, load, store("k2")).await.is_ok());
        assert_eq!(loads.load(Ordering::Relaxed), 2, "what was loaded stays");
        let lost = cache.signing(7, load, store("k3")).await.expect_err("the second try loses too");
        assert_eq!(lost.code(), Some(Code::StaleKid));
        assert_eq!(loads.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_secret_that_is_not_its_digests_is_corruption() {
        let cache = KeyCache::new(None);
        let load = || async {
            let mut keys = keys_of("k1");
            keys.keys[0].digest = WaitpointSecret::new([8; 32]).digest();
            Ok(keys)
        };
        let error = cache.judging(7, &kid("k1"), load).await.expect_err("is refused");
        assert!(matches!(error, EngineError::Corruption(_)));
    }

    #[tokio::test]
    async fn a_retired_kid_is_forgotten() {
        let cache = KeyCache::new(Some(0));
        assert!(cache.judging(7, &kid("k1"), || async { Ok(keys_of("k1")) }).await.is_ok());
        cache.forget(7, &kid("k1"));
        let busy = cache.judging(7, &kid("k1"), || async { Ok(keys_of("k1")) }).await.expect_err("is unknown now");
        assert_eq!(busy.code(), Some(Code::KeystoreBusy));
    }

    #[tokio::test]
    async fn one_load_is_in_flight_for_all_who_wait_for_it() {
        let cache = KeyCache::new(None);
        let loads = AtomicU32::new(0);
        let load = || {
            loads.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::task::yield_now().await;
                Ok(keys_of("k1"))
            }
        };
        let k1 = kid("k1");
        let asked = (0..8).map(|_| cache.judging(7, &k1, load));
        assert!(futures::future::join_all(asked).await.iter().all(Result::is_ok));
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }
}
