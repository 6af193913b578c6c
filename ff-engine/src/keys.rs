//! Signing keys: a partition without one cannot issue waitpoint tokens, so opening an engine sees to it.

use ff_core::contracts::{ListWaitpointHmacKidsArgs, RotateWaitpointHmacSecretArgs};
use ff_core::ids::Kid;
use ff_core::token::WaitpointSecret;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::repeat::call;

/// Rotates a fresh random key into every partition that has none. Partitions with a key are left alone.
///
/// Two processes that open an empty store at once may both do so: the later key becomes current, and the earlier one
/// goes on verifying for its grace time, so no token is lost.
pub(crate) async fn provide(engine: &Engine) -> Result<()> {
    let mut fresh: Option<(Kid, WaitpointSecret)> = None;
    for partition in engine.partitions() {
        let kids = call!(engine, list_waitpoint_hmac_kids(ListWaitpointHmacKidsArgs { partition }))?;
        if kids.current_kid.is_some() {
            continue;
        }
        let (kid, secret) = match &fresh {
            Some(key) => key.clone(),
            None => fresh.insert(mint()?).clone(),
        };
        let args =
            RotateWaitpointHmacSecretArgs::builder().partition(partition).new_kid(kid).new_secret(secret).build();
        call!(engine, rotate_waitpoint_hmac_secret(args))?;
    }
    Ok(())
}

/// A kid and a secret that nobody has seen.
fn mint() -> Result<(Kid, WaitpointSecret)> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Setup(format!("no random bytes for a signing key: {error}")))?;
    let secret = WaitpointSecret::new(bytes);
    // 32 hex digits: exactly a kid's length, and sorted by time.
    Ok((Kid::new(uuid::Uuid::now_v7().simple().to_string())?, secret))
}
