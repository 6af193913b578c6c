//! What the programs in this package share: the option `--backend`, and a client of local servers.

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use ff_engine::Engine;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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

/// The least client that these programs need: one request to a server on this machine, and its body.
///
/// # Errors
/// When the server is not reached, or answers with another status than 200.
pub async fn request(address: &str, method: &str, path: &str, bearer: Option<&str>, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let authorization = bearer.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{authorization}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{}: {body}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
