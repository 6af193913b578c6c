//! A human approves over HTTP: the task suspends, hands out a signed token, and goes on when the callback arrives.
//!
//! `cargo run --example approval`
//!
//! The program plays the human too: it calls its own server with the token, once with a forged one and once rightly.

use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router, routing};
use ff_core::ids::{ExecutionId, WaitpointId};
use ff_engine::{Context, Engine, Suspend, Suspended, SuspensionReason, TaskError, TimeoutBehavior, Worker};
use tokio::sync::mpsc;

/// What goes out by mail in a real service: where to call, and the token that lets its holder do so.
struct Letter {
    path: String,
    token: String,
}

async fn publish(ctx: Context, title: String, letters: mpsc::UnboundedSender<Letter>) -> Result<String, TaskError> {
    if ctx.resume_info().is_some() {
        let by: Option<String> = ctx.answer("approved")?;
        return Ok(format!("{title:?} published, approved by {}", by.unwrap_or_else(|| "nobody".into())));
    }
    let approval = Suspend::until_signal("approved")
        .reason(SuspensionReason::WaitingForApproval)
        .detail(format!("publish {title:?}"))
        .timeout(Duration::from_secs(7 * 86_400), TimeoutBehavior::Fail);
    match ctx.suspend(approval).await? {
        Suspended::AlreadySatisfied(_) => Ok(format!("{title:?} published")),
        Suspended::Paused(paused) => {
            for waitpoint in paused.waitpoints() {
                let path = format!("/approvals/{}/{}", ctx.execution_id(), waitpoint.id());
                let token = waitpoint.token().map(|token| token.expose().to_owned()).unwrap_or_default();
                letters.send(Letter { path, token })?;
            }
            // The lease is gone; nothing runs until the answer comes.
            Err(paused.into())
        }
    }
}

/// The callback. The token is the permission: the store checks it, nothing is looked up here.
async fn approve(
    State(engine): State<Engine>,
    Path((execution, waitpoint)): Path<(ExecutionId, WaitpointId)>,
    headers: HeaderMap,
    Json(by): Json<String>,
) -> Result<String, (StatusCode, String)> {
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = bearer.ok_or((StatusCode::UNAUTHORIZED, "no token".into()))?;
    let signal = engine.signal(execution, waitpoint, token, "approved").source("human", &by).payload(&by);
    // Pressed twice, it counts once.
    match signal.idempotency_key("approval").send().await {
        Ok(effect) => Ok(effect.to_string()),
        Err(error) => Err((StatusCode::FORBIDDEN, error.to_string())),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let engine = ff_examples::engine("approval").await?;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = server.local_addr()?.to_string();
    let routes = Router::new().route("/approvals/{execution}/{waitpoint}", routing::post(approve));
    let routes = routes.with_state(engine.clone());
    tokio::spawn(async move { axum::serve(server, routes).await });

    let (letters, mut mailbox) = mpsc::unbounded_channel();
    let handler = move |ctx: Context, title: String| publish(ctx, title, letters.clone());
    let worker = Worker::builder(&engine).handler("publish", handler).build()?;
    let handle = engine.execution("publish", "the annual report").submit().await?;
    let human = async {
        let letter = mailbox.recv().await.context("no letter came")?;
        println!("{}", handle.explain().await?);
        let forged = ff_examples::post(&address, &letter.path, "forged", "\"mallory\"").await;
        println!("mallory: {}", forged.err().context("a forged token was taken")?);
        let effect = ff_examples::post(&address, &letter.path, &letter.token, "\"zoe\"").await?;
        println!("zoe: {effect}");
        println!("{}", handle.result::<String>().await?);
        anyhow::Ok(())
    };
    worker.run_while(human).await?
}
