//! What the programs in this package share: the option `--backend`, and a client of local servers.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use ff_engine::Engine;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// The options of the small programs.
#[derive(Debug, Parser)]
pub struct Options {
    /// Where executions are kept: memory:, or redis://host:port/0?prefix=app
    #[arg(long, default_value = "memory:")]
    pub backend: String,
}

/// Opens the store that the command line names. Each run has a namespace of its own, so that no run meets another one's
/// idempotency keys in a store that lasts.
///
/// # Errors
/// Those of opening it.
pub async fn engine(program: &str) -> Result<Engine> {
    let options = Options::parse();
    let run = std::process::id();
    let engine = Engine::builder().namespace(format!("{program}-{run}")).lane(format!("{program}-{run}"));
    engine.connect(&options.backend).await.context("the store was not opened")
}

/// Asks a server on this machine for a page.
///
/// # Errors
/// When the server is not reached, or answers with another status than 200.
pub async fn get(address: &str, path: &str) -> Result<String> {
    let url = format!("http://{address}{path}");
    ask(move |agent| agent.get(url).call()).await
}

/// Posts JSON to a server on this machine, with a bearer token.
///
/// # Errors
/// As [`get`].
pub async fn post(address: &str, path: &str, token: &str, json: &str) -> Result<String> {
    let (url, bearer, json) = (format!("http://{address}{path}"), format!("Bearer {token}"), json.to_owned());
    ask(move |agent| agent.post(url).header("authorization", bearer).content_type("application/json").send(json)).await
}

/// The client waits on a thread of its own.
async fn ask(call: impl FnOnce(&Agent) -> Result<Response<Body>, ureq::Error> + Send + 'static) -> Result<String> {
    let asked = tokio::task::spawn_blocking(move || {
        let patience = Some(Duration::from_secs(10));
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(patience).build().new_agent();
        let mut answer = call(&agent)?;
        let text = answer.body_mut().read_to_string()?;
        anyhow::Ok((answer.status(), text))
    });
    let (status, text) = asked.await.context("the client panicked")??;
    if status != StatusCode::OK {
        bail!("{status}: {text}");
    }
    Ok(text)
}
