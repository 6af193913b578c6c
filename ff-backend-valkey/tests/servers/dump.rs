//! A partition as text.

use ff_backend_valkey::ValkeyBackend;
use ff_core::contracts::RotateWaitpointHmacSecretArgs;
use ff_core::engine_backend::{ExecutionOps, KeystoreOps};
use ff_core::ids::Kid;
use ff_core::token::WaitpointSecret;
use ff_testserver::{Kind, Server};

use crate::common::{creation, lifecycle, options};

#[tokio::test]
async fn a_dump_shows_every_record_and_no_secret_and_no_payload() {
    let server = Server::start(Kind::Valkey).expect("the server's package is installed");
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    let secret = *b"0123456789abcdefSECRETSECRET0123";
    let rotate = RotateWaitpointHmacSecretArgs::builder()
        .partition(5)
        .new_kid(Kid::new("kid-1").unwrap())
        .new_secret(WaitpointSecret::new(secret))
        .build();
    backend.rotate_waitpoint_hmac_secret(rotate).await.unwrap();
    let ended = lifecycle(&backend, 5, "one").await.unwrap();
    let mut create = creation(5, "two");
    create.payload = b"very private".to_vec().into();
    let waiting = create.execution_id;
    backend.create_execution(create).await.unwrap();
    lifecycle(&backend, 6, "other").await.unwrap();
    let lines = backend.dump(5).await.unwrap();
    let all = lines.join("\n");
    println!("{all}");
    for line in &lines {
        let value: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        assert!(value["key"].is_string() && !value["value"].is_null(), "{line}");
    }
    for id in [ended, waiting] {
        let line = lines.iter().find(|line| line.contains(&format!("\"e {}\"", id.uuid()))).expect("its record");
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["value"]["execution"]["kind"], "test", "{line}");
    }
    assert!(all.contains("kid-1") && all.contains("(redacted)"));
    for hidden in ["SECRET", "very private", "6162636465665345"] {
        assert!(!all.contains(hidden), "{hidden} is shown");
    }
    // A record that cannot be read is shown as it is, and stops nothing.
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let key = [b"a:{p5}:e".as_slice(), waiting.uuid().as_bytes()].concat();
    redis::cmd("SET").arg(key).arg(b"\x01broken").query::<()>(&mut connection).unwrap();
    let broken = backend.dump(5).await.unwrap();
    assert_eq!(broken.len(), lines.len());
    assert!(broken.iter().any(|line| line.contains("unreadable")));
}
