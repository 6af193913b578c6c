//! Payloads and results: JSON through serde, labelled as such.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The encoding label of everything that this crate writes.
pub const JSON: &str = "json";

/// Writes a value; `what` names it in the error.
pub(crate) fn encode<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|source| Error::Encode { what: what.to_owned(), source })
}

/// Reads a value that carries the label `json`, or none at all; absent bytes read as `null`.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: Option<&Bytes>, encoding: Option<&str>) -> Result<T> {
    let fail = |reason: String| Error::Decode { what: what.to_owned(), reason };
    if let Some(other) = encoding.filter(|label| *label != JSON) {
        return Err(fail(format!("its encoding is {other}, not {JSON}")));
    }
    let bytes = bytes.map_or(&b"null"[..], |b| if b.is_empty() { b"null" } else { b });
    serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_foreign_bytes_are_named() {
        let bytes = encode("input", &vec![1, 2]).expect("plain data");
        assert_eq!(decode::<Vec<i32>>("input", Some(&bytes), Some(JSON)).expect("own bytes"), [1, 2]);
        assert!(decode::<()>("result", None, None).is_ok());
        let error = decode::<Vec<i32>>("input", Some(&bytes), Some("cbor")).expect_err("another encoding");
        assert_eq!(error.to_string(), "cannot decode input: its encoding is cbor, not json");
    }
}
