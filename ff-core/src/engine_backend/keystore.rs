//! Domain keystore: `suspension.md`, section 6.

use async_trait::async_trait;

use crate::contracts::{
    ListWaitpointHmacKidsArgs, RevokeWaitpointKidArgs, RevokeWaitpointKidResult, RotateWaitpointHmacSecretArgs,
    RotateWaitpointHmacSecretOutcome, WaitpointHmacKids,
};
use crate::error::EngineError;

/// The keys that waitpoint tokens are signed with, partition by partition.
///
/// Every operation addresses one partition; callers fan out, and partitions may differ in kid and secret. A fresh
/// partition has no key. None of these operations changes an execution. Secrets lie in the store as they are: who can
/// read the store, or a copy of it, can sign.
///
/// By the store's clock a kid is **current**; or **verifying** (`now < expires_at`: its tokens pass); or **expired**
/// (for 24 h: `token_expired`); or **retired** (later, or revoked, or never installed: `invalid_token`).
#[async_trait]
pub trait KeystoreOps: Send + Sync + 'static {
    /// Makes a kid the partition's current one.
    ///
    /// # Behavior
    /// - The kid current so far becomes verifying until now plus `grace_ms`. A verifying kid comes back as the current
    ///   one, without expiry and with its tokens intact.
    /// - Kids retired by age lose their secret. Their digest stays for ever, so that a kid never changes its secret.
    /// - A backend that replicates waits for its configured acknowledgement before it answers.
    ///
    /// # Refuses
    /// `rotation_conflict` (the kid was ever installed here with another secret); `kid_retired` (it is expired, retired
    /// or revoked: it never comes back); `too_many_kids` (afterwards more than 16 would hold a secret, or more than
    /// 10,000 would exist).
    ///
    /// # Repeats
    /// `AlreadyCurrent`, and nothing moves: no grace begins anew.
    ///
    /// # Cost
    /// One round trip; O(k) in the kids that hold a secret (at most 16).
    async fn rotate_waitpoint_hmac_secret(
        &self,
        args: RotateWaitpointHmacSecretArgs,
    ) -> Result<RotateWaitpointHmacSecretOutcome, EngineError>;

    /// Withdraws a kid at once and for ever.
    ///
    /// # Behavior
    /// - Its secret is removed, its digest kept, and it is marked. From this commit on its tokens are `invalid_token`,
    ///   also one that was verified a moment before.
    ///
    /// # Refuses
    /// `kid_not_found` (never installed in this partition); `kid_is_current` (rotate first).
    ///
    /// # Repeats
    /// `AlreadyRevoked`.
    ///
    /// # Cost
    /// One round trip; O(1).
    async fn revoke_waitpoint_kid(&self, args: RevokeWaitpointKidArgs)
    -> Result<RevokeWaitpointKidResult, EngineError>;

    /// Lists the kids of a partition whose tokens pass.
    ///
    /// # Behavior
    /// - The current kid, and the verifying ones by expiry, then kid, as of the clock. Never a secret.
    /// - A partition that was never initialised has none and an empty list.
    ///
    /// # Refuses
    /// Nothing but a malformed argument.
    ///
    /// # Repeats
    /// A read: what passes then.
    ///
    /// # Cost
    /// One round trip; O(k) in the kids that hold a secret (at most 16).
    async fn list_waitpoint_hmac_kids(&self, args: ListWaitpointHmacKidsArgs)
    -> Result<WaitpointHmacKids, EngineError>;
}
