//! TLS, with the server's own authority and with certificates of clients.

use ff_backend_valkey::{ConnectError, ValkeyBackend};
use ff_testserver::Kind;
use ff_testserver::tls::TlsServer;

use crate::common::{lifecycle, options};

#[tokio::test]
async fn a_server_with_its_own_authority_is_used_and_without_it_refused() {
    let server = TlsServer::start(Kind::Valkey, false).expect("the server's package is installed");
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    lifecycle(&backend, 0, "one").await.unwrap();
    let error = ValkeyBackend::connect(&server.bare_url(), options("a")).await.expect_err("nobody vouches for it");
    assert!(matches!(error, ConnectError::Server(_)), "{error:?}");
    // The same by the options.
    let mut by_options = options("a");
    by_options.tls.ca = Some(server.file("ca.pem"));
    let backend = ValkeyBackend::connect(&server.bare_url(), by_options).await.unwrap();
    lifecycle(&backend, 0, "two").await.unwrap();
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let server = TlsServer::start(Kind::Valkey, true).unwrap();
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    lifecycle(&backend, 0, "one").await.unwrap();
    let mut without = options("a");
    without.tls.ca = Some(server.file("ca.pem"));
    without.connection_timeout = std::time::Duration::from_secs(2);
    let error = ValkeyBackend::connect(&server.bare_url(), without).await.expect_err("it has no certificate");
    assert!(matches!(error, ConnectError::Server(_)), "{error:?}");
}

#[tokio::test]
async fn messages_come_over_tls_too() {
    let server = TlsServer::start(Kind::Valkey, false).unwrap();
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    crate::wake::wakes_within_milliseconds(&backend).await;
}
