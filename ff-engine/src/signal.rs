//! Sending signals.

use bytes::Bytes;
use ff_core::contracts::{DeliverSignalArgs, DeliverSignalResult, SignalEffect, SignalSource};
use ff_core::ids::{ExecutionId, SignalId, WaitpointId};
use ff_core::token::WaitpointToken;
use serde::Serialize;

use crate::engine::Engine;
use crate::error::Result;
use crate::options::Options;
use crate::payload::{JSON, encode};

/// A waitpoint's token, given as itself or as its text.
#[derive(Clone, Debug)]
pub struct Token(WaitpointToken);

impl From<WaitpointToken> for Token {
    fn from(token: WaitpointToken) -> Self {
        Self(token)
    }
}

impl From<&WaitpointToken> for Token {
    fn from(token: &WaitpointToken) -> Self {
        Self(token.clone())
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(WaitpointToken::new(text))
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(WaitpointToken::new(text))
    }
}

/// A signal on its way. Made by [`Engine::signal`].
#[derive(Debug)]
#[must_use = "nothing happens before it is sent"]
pub struct SignalBuilder {
    engine: Engine,
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    token: WaitpointToken,
    signal_id: SignalId,
    name: String,
    source: SignalSource,
    payload: Option<Bytes>,
    correlation_id: Option<String>,
    idempotency_key: Option<String>,
    options: Options,
}

impl SignalBuilder {
    pub(crate) fn new(
        engine: Engine,
        execution_id: ExecutionId,
        waitpoint_id: WaitpointId,
        token: Token,
        name: String,
    ) -> Self {
        Self {
            engine,
            execution_id,
            waitpoint_id,
            token: token.0,
            signal_id: SignalId::new(),
            name,
            source: SignalSource::new("client", "unnamed"),
            payload: None,
            correlation_id: None,
            idempotency_key: None,
            options: Options::default(),
        }
    }

    /// Who sends it, such as (`human`, `zoe@example.org`); it must be the token's own source, if that is bound to one.
    pub fn source(mut self, source_type: impl Into<String>, source_identity: impl Into<String>) -> Self {
        self.source = SignalSource::new(source_type, source_identity);
        self
    }

    /// What it carries, as JSON; at most 64 KiB.
    pub fn payload<T: Serialize + ?Sized>(mut self, payload: &T) -> Self {
        match encode("the signal's payload", payload) {
            Ok(bytes) => self.payload = Some(bytes),
            Err(error) => self.options.wrong(error),
        }
        self
    }

    /// What it answers.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// Equal keys at one waitpoint name one signal, also when different processes send it.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sends it, and tells what it did.
    ///
    /// # Errors
    /// `invalid_token` and the other refusals of `deliver_signal`; the backend's errors.
    pub async fn send(self) -> Result<SignalEffect> {
        if let Some(mistake) = self.options.mistake {
            return Err(mistake);
        }
        let encoding = self.payload.as_ref().map(|_| JSON.to_owned());
        let args = DeliverSignalArgs::builder()
            .execution_id(self.execution_id)
            .waitpoint_id(self.waitpoint_id)
            .waitpoint_token(self.token)
            .signal_id(self.signal_id)
            .name(self.name)
            .source(self.source)
            .payload(self.payload.unwrap_or_default())
            .maybe_encoding(encoding)
            .maybe_correlation_id(self.correlation_id)
            .maybe_idempotency_key(self.idempotency_key)
            .build();
        let (DeliverSignalResult::Accepted { effect, .. } | DeliverSignalResult::Duplicate { effect, .. }) =
            self.engine.deliver(args).await?;
        Ok(effect)
    }
}
