//! Minting and judging. A [`VerifiedToken`] can be made in this file only.

use hmac::Mac;

use crate::contracts::SignalSource;
use crate::ids::{ExecutionId, Kid, WaitpointId};
use crate::refusal::Refusal;
use crate::token::text::{Parsed, claims_of, message};
use crate::token::{PartitionKeys, WaitpointToken};
use crate::word_enum;

/// The token of one waitpoint under its partition's current kid, bound to `source` if one is given.
///
/// A waitpoint with declared sources gets one token bound to each and no unbound one; else one unbound token.
///
/// # Errors
/// `hmac_secret_not_initialized` when `keys` has no current key, or belongs to another partition.
pub fn mint(
    keys: &PartitionKeys,
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    source: Option<&SignalSource>,
) -> Result<WaitpointToken, Refusal> {
    let key = keys.current().filter(|_| keys.partition == execution_id.partition());
    Ok(key.ok_or_else(Refusal::hmac_secret_not_initialized)?.mint(execution_id, waitpoint_id, source))
}

word_enum! {
    /// Why a token was not verified: for a process's own counters, and to know when a load of keys may help. A caller
    /// is told less: the first three are one refusal.
    pub enum TokenFault {
        /// Not a token's one spelling.
        Malformed = "malformed",
        /// Its kid is not among the keys; a load may find it.
        UnknownKid = "unknown_kid",
        /// Its MAC is another one.
        WrongMac = "wrong_mac",
        /// It is good, but bound to another source than the call's.
        SourceMismatch = "source_mismatch",
    }
}

impl From<TokenFault> for Refusal {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Malformed | TokenFault::UnknownKid | TokenFault::WrongMac => Self::invalid_token(),
            TokenFault::SourceMismatch => Self::token_source_mismatch(),
        }
    }
}

/// Proof that a token was verified for one waitpoint of one execution.
///
/// Only [`verify`] (and [`verify_or_fault`], which is the same) makes one, and it can be neither copied nor read from
/// anywhere. The step that commits a signal takes addresses and kid from it alone.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    kid: Kid,
    source_bound: bool,
}

impl VerifiedToken {
    /// The execution.
    #[must_use]
    pub const fn execution_id(&self) -> ExecutionId {
        self.execution_id
    }

    /// The waitpoint.
    #[must_use]
    pub const fn waitpoint_id(&self) -> WaitpointId {
        self.waitpoint_id
    }

    /// The key that signed. Whether it still counts is decided at commit, by [`kid_status`](crate::token::kid_status).
    #[must_use]
    pub const fn kid(&self) -> &Kid {
        &self.kid
    }

    /// Whether the token is bound to the call's source.
    #[must_use]
    pub const fn source_bound(&self) -> bool {
        self.source_bound
    }
}

/// Judges a token: well formed, its kid among `keys`, its MAC that of this waitpoint of this execution, and its claims,
/// if it has any, the call's source. Pure; the MAC is compared in constant time.
///
/// # Errors
/// `invalid_token` for a malformed token, an unknown kid and a wrong MAC alike, and for keys of another partition;
/// `token_source_mismatch` for a good token of another source.
pub fn verify(
    keys: &PartitionKeys,
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    source: &SignalSource,
    token: &WaitpointToken,
) -> Result<VerifiedToken, Refusal> {
    Ok(verify_or_fault(keys, execution_id, waitpoint_id, source, token)?)
}

/// [`verify`], telling the faults apart: for whoever keeps the keys, never for the caller.
///
/// # Errors
/// The first fault in `verify`'s order.
pub fn verify_or_fault(
    keys: &PartitionKeys,
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    source: &SignalSource,
    token: &WaitpointToken,
) -> Result<VerifiedToken, TokenFault> {
    let Parsed { kid, mac, claims } = Parsed::of(token.expose()).ok_or(TokenFault::Malformed)?;
    let key = keys.key(&kid).filter(|_| keys.partition == execution_id.partition()).ok_or(TokenFault::UnknownKid)?;
    let message = message(&kid, execution_id, waitpoint_id, &claims_of(claims.as_ref()));
    key.secret.mac(&message).verify_slice(&mac).map_err(|_| TokenFault::WrongMac)?;
    if claims.as_ref().is_some_and(|claims| claims != source) {
        return Err(TokenFault::SourceMismatch);
    }
    Ok(VerifiedToken { execution_id, waitpoint_id, kid, source_bound: claims.is_some() })
}
