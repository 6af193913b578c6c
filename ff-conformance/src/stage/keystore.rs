//! Words for the domain keystore.

use ff_core::contracts::*; // cases speak the whole contract

use super::{PARTITION, Stage, kid, secret};

/// The arguments of a rotation: this kid with the secret of one byte, and the default grace for the one before.
#[must_use]
pub fn rotation_in(partition: u16, new_kid: &str, byte: u8) -> RotateWaitpointHmacSecretArgs {
    RotateWaitpointHmacSecretArgs::builder().partition(partition).new_kid(kid(new_kid)).new_secret(secret(byte)).build()
}

impl Stage {
    /// The arguments of a rotation in [`PARTITION`]: this kid with the secret of one byte, and a grace for the one before.
    #[must_use]
    pub fn rotation(&self, new_kid: &str, byte: u8, grace_ms: u64) -> RotateWaitpointHmacSecretArgs {
        let mut args = rotation_in(PARTITION, new_kid, byte);
        args.grace_ms = grace_ms;
        args
    }

    /// Makes a kid current in [`PARTITION`] in place of another.
    pub async fn rotate_from(&self, previous: &str, new_kid: &str, byte: u8, grace_ms: u64) {
        let outcome = self.backend.rotate_waitpoint_hmac_secret(self.rotation(new_kid, byte, grace_ms)).await;
        let want =
            RotateWaitpointHmacSecretOutcome::Rotated { previous_kid: Some(kid(previous)), new_kid: kid(new_kid) };
        assert_eq!(outcome, Ok(want));
    }

    /// The arguments that revoke a kid in [`PARTITION`].
    #[must_use]
    pub fn revocation(&self, text: &str) -> RevokeWaitpointKidArgs {
        RevokeWaitpointKidArgs { partition: PARTITION, kid: kid(text) }
    }

    /// Revokes a kid in [`PARTITION`].
    pub async fn revoke_kid(&self, text: &str) {
        let outcome = self.backend.revoke_waitpoint_kid(self.revocation(text)).await;
        assert_eq!(outcome, Ok(RevokeWaitpointKidResult::Revoked { kid: kid(text) }));
    }

    /// The current kid of [`PARTITION`], and the verifying ones with their expiries, in the order listed.
    pub async fn kids(&self) -> (Option<String>, Vec<(String, u64)>) {
        let args = ListWaitpointHmacKidsArgs { partition: PARTITION };
        let listed = self.backend.list_waitpoint_hmac_kids(args).await.unwrap_or_else(|e| panic!("list: {e}"));
        let verifying = listed.verifying.iter().map(|v| (v.kid.to_string(), v.expires_at.as_millis())).collect();
        (listed.current_kid.map(|kid| kid.to_string()), verifying)
    }
}
