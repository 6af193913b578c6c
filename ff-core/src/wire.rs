//! How values look in JSON where serde's own form would not do: bytes as base64, errors with their path.

use serde::de::DeserializeOwned;

/// Reads JSON; the error is the dotted path of the field that does not fit (an unknown field's own path), without
/// positions in lists, or the empty path when the text is no JSON.
///
/// # Errors
/// That path.
pub fn from_json_with_path<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                serde_path_to_error::Segment::Enum { variant } => Some(variant.clone()),
                serde_path_to_error::Segment::Seq { .. } | serde_path_to_error::Segment::Unknown => None,
            })
            .collect::<Vec<_>>()
            .join(".")
    })?;
    reader.end().map_err(|_| String::new())?;
    Ok(value)
}

/// `#[serde(with = "ff_core::wire::base64_bytes")]` for [`bytes::Bytes`]: standard base64 text.
pub mod base64_bytes {
    use bytes::Bytes;
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes base64 text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &Bytes, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(bytes))
    }

    /// Reads base64 text.
    ///
    /// # Errors
    /// Those of the deserializer, or text that is no base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        BASE64.decode(text.as_bytes()).map(Bytes::from).map_err(|_| serde::de::Error::custom("not base64"))
    }
}

/// The same for `Option<Bytes>`; put `#[serde(default)]` beside it.
pub mod base64_option {
    use bytes::Bytes;
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes base64 text, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &Option<Bytes>, s: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|b| BASE64.encode(b)).serialize(s)
    }

    /// Reads base64 text, or null.
    ///
    /// # Errors
    /// Those of the deserializer, or text that is no base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Bytes>, D::Error> {
        Option::<String>::deserialize(d)?
            .map(|text| BASE64.decode(text.as_bytes()).map(Bytes::from))
            .transpose()
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}
