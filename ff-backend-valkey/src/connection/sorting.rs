//! What becomes of the calls of a batch of which some failed.

use std::collections::BTreeMap;

use ff_core::error::{Applied, EngineError};
use redis::Value;

use super::Request;
use super::retry::{Failure, Next, Tries, told};

/// What came of the calls of a batch that were sent, or were about to be.
#[derive(Default)]
pub(super) struct Sorted {
    /// Those that are over, by number.
    pub(super) done: Vec<(usize, Result<Value, EngineError>)>,
    /// Those that are to be made (again), in their order.
    pub(super) again: Vec<usize>,
    /// Whether the library must be loaded before.
    pub(super) load: bool,
    /// What the first of them that failed would be told.
    pub(super) failure: Option<EngineError>,
}

/// Decides which calls are made again. None is, where one behind it that it minds was applied or may have been: that would
/// turn their order round, and its answer might not be the first one. What one of `left` without an answer was not sent.
pub(super) fn sort_out(
    requests: &[Request],
    left: &[usize],
    answers: &mut BTreeMap<usize, Result<Value, Failure>>,
    tries: &mut [Tries],
) -> Sorted {
    let mut sorted = Sorted::default();
    // Keys on which a later call was applied or given up, and the later calls that may have been applied and go again.
    let mut overtaken: Vec<&str> = Vec::new();
    let mut open: Vec<&Request> = Vec::new();
    for n in left.iter().rev() {
        let request = &requests[*n]; // of `0..requests.len()`, as `tries`
        let one = &mut tries[*n];
        let behind = overtaken.contains(&request.key.as_str());
        let failure = match answers.remove(n) {
            Some(Ok(value)) => {
                overtaken.push(&request.key);
                sorted.done.push((*n, Ok(value)));
                continue;
            }
            Some(Err(failure)) => failure,
            None => {
                sorted.again.push(*n);
                continue;
            }
        };
        let next = one.note(&failure);
        let error = told(&failure.error, one.applied);
        let minded = behind || open.iter().any(|later| request.minds(later));
        if next == Next::GiveUp || minded {
            if one.applied == Applied::Unknown {
                overtaken.push(&request.key);
            }
            sorted.done.push((*n, Err(error)));
            continue;
        }
        if one.applied == Applied::Unknown {
            open.push(request);
        }
        sorted.load |= next == Next::Load;
        sorted.failure = Some(error);
        sorted.again.push(*n);
    }
    sorted.again.reverse();
    sorted
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    fn request(key: &str, subject: Option<u128>, repeatable: bool) -> Request {
        let subject = subject.map(Uuid::from_u128);
        Request { command: redis::cmd("FCALL"), key: key.to_owned(), writes: true, repeatable, subject }
    }

    fn reset() -> Failure {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        Failure { shared: true, ..Failure::after(error.into()) }
    }

    /// What becomes of calls that were answered like this: `o` well, `x` by a lost connection, `-` never sent, `l` by a
    /// server that loads its data. Answered are those that go again, and whether each of the others was or may have been
    /// applied.
    fn sorted(requests: &[Request], answers: &str) -> (Vec<usize>, Vec<(usize, &'static str)>) {
        let loading = || {
            let error = redis::parse_redis_value(b"-LOADING the dataset\r\n").expect("an error is a value");
            Failure::after(error.extract_error().expect_err("an error"))
        };
        let mut given: BTreeMap<usize, Result<Value, Failure>> = answers
            .chars()
            .enumerate()
            .filter_map(|(n, answer)| match answer {
                'o' => Some((n, Ok(Value::Okay))),
                'x' => Some((n, Err(reset()))),
                'l' => Some((n, Err(loading()))),
                _ => None,
            })
            .collect();
        let mut tries: Vec<Tries> =
            requests.iter().map(|request| Tries::new(Duration::from_secs(1), request.repeatable)).collect();
        let left: Vec<usize> = (0..requests.len()).collect();
        let sorted = sort_out(requests, &left, &mut given, &mut tries);
        let mut done: Vec<_> = sorted
            .done
            .into_iter()
            .map(|(n, answer)| {
                let word = match answer {
                    Ok(_) => "ok",
                    Err(EngineError::Transport { applied: Applied::No, .. }) => "no",
                    Err(_) => "unknown",
                };
                (n, word)
            })
            .collect();
        done.sort_unstable();
        (sorted.again, done)
    }

    #[test]
    fn lost_calls_on_different_things_go_again_in_their_order() {
        let calls = [request("a", Some(1), true), request("a", Some(2), true), request("b", None, true)];
        assert_eq!(sorted(&calls, "xxx"), (vec![0, 1, 2], vec![]));
        assert_eq!(sorted(&calls, "xx-"), (vec![0, 1, 2], vec![]));
    }

    #[test]
    fn a_lost_call_does_not_go_again_behind_another_one_on_the_same_thing_that_may_have_been_applied() {
        let calls = [request("a", Some(1), true), request("a", Some(2), true), request("a", Some(1), true)];
        assert_eq!(sorted(&calls, "xxx"), (vec![1, 2], vec![(0, "unknown")]));
        // One on the whole unit minds everything behind it, and everything before it minds that one.
        let calls = [request("a", Some(1), true), request("a", None, true), request("a", Some(2), true)];
        assert_eq!(sorted(&calls, "xxx"), (vec![2], vec![(0, "unknown"), (1, "unknown")]));
        // What was never sent was not applied.
        assert_eq!(sorted(&calls, "xx-"), (vec![1, 2], vec![(0, "unknown")]));
        // A read changes nothing that anybody minds.
        let mut calls = [request("a", Some(1), true), request("a", Some(1), true)];
        calls[1].writes = false;
        assert_eq!(sorted(&calls, "xx"), (vec![0, 1], vec![]));
    }

    #[test]
    fn a_failed_call_does_not_go_again_behind_an_applied_one() {
        let calls = [request("a", Some(1), true), request("a", Some(2), true), request("b", Some(3), true)];
        assert_eq!(sorted(&calls, "lol"), (vec![2], vec![(0, "no"), (1, "ok")]));
    }

    #[test]
    fn what_counts_each_time_goes_again_only_if_it_was_not_applied() {
        let calls = [request("a", None, false), request("b", None, false)];
        assert_eq!(sorted(&calls, "xl"), (vec![1], vec![(0, "unknown")]));
        // Behind one that is given up nothing of its unit goes again.
        let calls = [request("a", Some(1), true), request("a", Some(2), false)];
        assert_eq!(sorted(&calls, "xx"), (vec![], vec![(0, "unknown"), (1, "unknown")]));
    }
}
