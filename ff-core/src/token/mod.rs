//! Waitpoint tokens: the bearer capability that lets its holder signal one waitpoint. `suspension.md`, section 1.
//!
//! A token is the MAC, under its partition's key, of one waitpoint of one execution and, if it is bound to one, of its
//! sender. [`mint`] makes it, [`verify`] judges it, and [`KidStatus`] decides, at the instant a signal is committed,
//! whether its key still counts. All three are pure; who loads the keys and when is a backend's own.
//!
//! ```
//! use ff_core::contracts::SignalSource;
//! use ff_core::ids::{ExecutionId, Kid, WaitpointId};
//! use ff_core::partition::PartitionConfig;
//! use ff_core::token::{self, PartitionKey, PartitionKeys, WaitpointSecret};
//!
//! let execution = ExecutionId::new(PartitionConfig::default());
//! let waitpoint = WaitpointId::new();
//! let kid = Kid::new("2026-06")?;
//! let mut keys = PartitionKeys::none(execution.partition());
//! keys.current_kid = Some(kid.clone());
//! keys.keys.push(PartitionKey::new(kid, WaitpointSecret::new([7; 32]), None));
//!
//! let zoe = SignalSource::new("human", "zoe@example.org");
//! let token = token::mint(&keys, execution, waitpoint, Some(&zoe))?;
//! let verified = token::verify(&keys, execution, waitpoint, &zoe, &token)?;
//! assert!(verified.source_bound());
//!
//! let eve = SignalSource::new("human", "eve@example.org");
//! let refusal = token::verify(&keys, execution, waitpoint, &eve, &token).unwrap_err();
//! assert_eq!(refusal.code().as_str(), "token_source_mismatch");
//! // A token shows itself to nobody who does not ask for it by name.
//! assert!(!format!("{token:?}").contains(token.expose()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod keys;
mod kid;
mod secret;
mod text;
mod verify;

#[cfg(test)]
mod tests;

pub use keys::{PartitionKey, PartitionKeys, SigningKey};
pub use kid::{EXPIRED_KID_MS, KidStatus, kid_status};
pub use secret::WaitpointSecret;
pub use text::{MAX_TOKEN_BYTES, WaitpointToken};
pub use verify::{TokenFault, VerifiedToken, mint, verify, verify_or_fault};
