//! A user with the rules of the README, and with fewer.

use ff_backend_valkey::{ConnectError, ValkeyBackend};
use ff_core::engine_backend::Host;
use ff_testserver::Kind;
use ff_testserver::process::{Process, plain};

use crate::common::{ask, lifecycle, options};

/// The rules as the README gives them to an operator, for the prefix `app`.
fn rules() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let (_, block) = readme.split_once("```acl\n").expect("the README has the rules");
    let (block, _) = block.split_once("```").expect("the block ends");
    let words: Vec<String> = block.split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[..3], ["ACL", "SETUSER", "app"]);
    words[3..].iter().map(|word| word.replace("PASSWORD", "secret")).collect()
}

fn server() -> Process {
    plain(Kind::Valkey, &[]).expect("the server's package is installed")
}

fn set_user(server: &Process, rules: &[String]) {
    let mut words = vec!["ACL", "SETUSER", "app", "reset"];
    words.extend(rules.iter().map(String::as_str));
    ask(server, &words);
}

fn url(server: &Process) -> String {
    format!("redis://app:secret@127.0.0.1:{}", server.port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_rules_are_enough() {
    let server = server();
    set_user(&server, &rules());
    let backend = ValkeyBackend::connect(&url(&server), options("app")).await.unwrap();
    lifecycle(&backend, 0, "one").await.unwrap();
    crate::wake::wakes_within_milliseconds(&backend).await;
    ask(&server, &["FUNCTION", "FLUSH", "SYNC"]);
    lifecycle(&backend, 0, "two").await.expect("the library is loaded again");
    // CONFIG is not among them: that is a warning and no failure.
    let health = backend.health().await.unwrap();
    assert!(health.warnings.iter().any(|w| w.contains("appendonly") || w.contains("appendfsync")), "{health:?}");
}

#[tokio::test]
async fn without_one_of_the_commands_connecting_says_which() {
    let server = server();
    set_user(&server, &rules());
    // The library is there already: loading it is no reason to need FUNCTION LOAD in each round.
    ValkeyBackend::connect(&url(&server), options("app")).await.unwrap();
    let commands: Vec<String> = rules().into_iter().filter(|rule| rule.starts_with('+')).collect();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands.iter().filter(|command| !["+role", "+cluster|slots"].contains(&command.as_str())) {
        let fewer: Vec<String> = rules().into_iter().filter(|rule| rule != command).collect();
        set_user(&server, &fewer);
        let error = ValkeyBackend::connect(&url(&server), options("app")).await.expect_err(command);
        let ConnectError::Permission { missing } = &error else { panic!("{command}: {error:?}") };
        assert!(missing.contains(command), "without {command}: {missing:?}");
        assert!(error.to_string().contains(command.as_str()), "{error}");
    }
}

#[tokio::test]
async fn without_its_keys_or_channels_connecting_says_which() {
    let server = server();
    for missing_rule in ["~app:*", "&app:w:*"] {
        let fewer: Vec<String> = rules().into_iter().filter(|rule| rule != missing_rule).collect();
        assert_eq!(fewer.len() + 1, rules().len());
        set_user(&server, &fewer);
        let error = ValkeyBackend::connect(&url(&server), options("app")).await.expect_err(missing_rule);
        let ConnectError::Permission { missing } = &error else { panic!("{missing_rule}: {error:?}") };
        assert!(missing.iter().any(|rule| rule == missing_rule), "without {missing_rule}: {missing:?}");
    }
    // Another application's keys are out of reach.
    set_user(&server, &rules());
    let error = ValkeyBackend::connect(&url(&server), options("other")).await.expect_err("another's prefix");
    assert!(
        matches!(&error, ConnectError::Permission { missing } if missing.contains(&"~other:*".to_owned())),
        "{error:?}"
    );
}
