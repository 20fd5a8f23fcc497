//! RFC 8785 canonical JSON over the subset that we hash: no floats, no integers beyond 2^53-1, no duplicate names.
//!
//! RFC 8785 prints numbers as IEEE 754 doubles, so that 2^53 and 2^53+1 become the same bytes; the subset has no such
//! pairs. Strings are kept as they came, without Unicode normalisation.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Largest integer that every JSON reader keeps exactly: 2^53-1 (RFC 7493 section 2.2).
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// A text that may not be hashed.
#[derive(Debug, thiserror::Error)]
#[error("read a payload as JSON without floats, large integers or duplicate names")]
pub struct CanonicalError {
    #[source]
    source: serde_json::Error,
}

impl CanonicalError {
    /// What is wrong and where, without repeating any value of the text.
    pub fn reason(&self) -> String {
        self.source.to_string()
    }
}

/// Checks that a text is one JSON value of the subset. What passes means the same to every JSON reader.
pub fn check(text: &[u8]) -> Result<(), CanonicalError> {
    parse(text).map(drop)
}

/// Reads a text of the subset.
///
/// # Errors
/// Refused are: anything that is not JSON (RFC 8259), floats and exponents, integers beyond ±(2^53-1), duplicate
/// names, lone surrogates, and values nested more than 127 deep.
pub fn parse(text: &[u8]) -> Result<Value, CanonicalError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    Strict
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|source| CanonicalError { source })
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without floats, large integers or duplicate names")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        if (-INTEGER_MAX..=INTEGER_MAX).contains(&value) {
            Ok(value.into())
        } else {
            Err(E::custom(
                "an integer beyond 2^53-1 is not exact everywhere: send it as a string",
            ))
        }
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(E::custom(
            "a number with a fraction or exponent has many texts: send it as a string",
        ))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict)?;
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("an object has two members of one name"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// Writes a value of the subset in its one canonical text.
///
/// # Errors
/// A float or a large integer anywhere in the value, which [`parse`] would have refused.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let integer = number
                .as_i64()
                .filter(|n| (-INTEGER_MAX..=INTEGER_MAX).contains(n));
            let integer = integer.ok_or_else(|| CanonicalError {
                source: de::Error::custom("a number outside ±(2^53-1) or with a fraction"),
            })?;
            out.extend_from_slice(integer.to_string().as_bytes());
        }
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // RFC 8785 section 3.2.3: by UTF-16 code units, which differs from UTF-8 order above U+FFFF.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (i, (name, member)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write(member, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// Appends a JSON string with the escapes of RFC 8785 section 3.2.2.2 and no others.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x00..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(to_bytes(&parse(text.as_bytes()).unwrap()).unwrap()).unwrap()
    }

    /// From the reference corpus of RFC 8785, those without floats.
    #[test]
    fn reference_vectors() {
        let arrays = canonical(r#"[56,{"d":true,"10":null,"1":[ ]}]"#);
        assert_eq!(arrays, r#"[56,{"1":[],"10":null,"d":true}]"#);
        assert_eq!(
            hex::encode(Sha256::digest(arrays)),
            "099601b171cafed97c333f8878d68e7f8c8f795412adb34b2fdcf0e7c7beac42"
        );
        assert_eq!(
            hex::encode(Sha256::digest(canonical(
                r#"{"Unnormalized Unicode":"A\u030a"}"#
            ))),
            "0d99aad92a125196ff887876643fd3206786a84ddce2cee52ba4ad256d2381d3"
        );
        assert_eq!(
            canonical(r#"{"\ufb33":1,"\ud83d\ude02":2}"#),
            "{\"\u{1f602}\":2,\"\u{fb33}\":1}"
        );
        assert_eq!(
            canonical(r#""\u0000\u001f\u007f\/\u20ac""#),
            "\"\\u0000\\u001f\u{7f}/€\""
        );
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for bad in [
            "9007199254740992",
            "-9007199254740992",
            "18446744073709551615",
            "1e400",
            "1.0",
            "-0",
            "1e3",
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#""\ud800""#,
            "[1,]",
            "1 2",
            "",
            "NaN",
            "\"\u{7}\"",
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(check(b"\"\xff\"").is_err());
        assert!(check("[".repeat(200).as_bytes()).is_err());
        for good in ["9007199254740991", "-9007199254740991", "0", "null", "{}"] {
            assert!(check(good.as_bytes()).is_ok(), "{good}");
        }
    }

    fn subset() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-INTEGER_MAX..=INTEGER_MAX).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_text_reads_back_and_is_a_fixed_point(value in subset()) {
            let bytes = to_bytes(&value).unwrap();
            prop_assert_eq!(&parse(&bytes).unwrap(), &value);
            prop_assert_eq!(to_bytes(&parse(&bytes).unwrap()).unwrap(), bytes);
        }
    }
}
