//! Closed sets of words: enums whose text form is exact `snake_case` everywhere
//! (serde, stored records, digests, refusal details).

/// A text that names no value of a closed set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the words of {set}")]
pub struct UnknownWord {
    /// The set that was asked, by its type name. The text itself is not repeated: it may be secret.
    pub set: &'static str,
}

/// Defines a fieldless enum with `ALL`, `as_str`, `FromStr`, `Display`, serde and digest form by one word list.
#[macro_export]
macro_rules! word_enum {
    ($(#[$meta:meta])* pub enum $Name:ident { $($(#[$vmeta:meta])* $Variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Name { $($(#[$vmeta])* $Variant),+ }

        impl $Name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// The word, as written in records, digests and JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => $text),+ }
            }

            /// Position in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> usize { self as usize }
        }

        impl ::core::fmt::Display for $Name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::core::str::FromStr for $Name {
            type Err = $crate::text::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$Variant),)+
                    _ => Err($crate::text::UnknownWord { set: stringify!($Name) }),
                }
            }
        }

        impl ::serde::Serialize for $Name {
            fn serialize<S: ::serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $Name {
            fn deserialize<D: ::serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <::std::borrow::Cow<'de, str> as ::serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }

        impl $crate::records::flat::Field for $Name {
            fn read(bytes: &[u8]) -> Result<Self, $crate::contracts::decode::DecodeCause> {
                ::core::str::from_utf8(bytes)
                    .map_err(|_| $crate::contracts::decode::DecodeCause::NotUtf8)?
                    .parse()
                    .map_err(|_| $crate::contracts::decode::DecodeCause::UnknownValue)
            }
            fn write(&self) -> ::bytes::Bytes { ::bytes::Bytes::from_static(self.as_str().as_bytes()) }
        }

        impl $crate::canon::Canon for $Name {
            fn canon(&self, out: &mut $crate::canon::Canonical) { out.field(self.as_str().as_bytes()); }
        }
    };
}
