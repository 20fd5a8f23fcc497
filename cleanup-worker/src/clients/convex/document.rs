//! Documents of v2: what the cleanup needs of each, in either encoding.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A case of v2. `Debug` shows its id only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct V2Case {
    /// `_id`.
    pub id: String,
    /// v1's id of the same case, unless it was cleared or the case was made in v2.
    pub legacy_id: Option<String>,
    /// v2's user.
    pub user_id: Option<String>,
    /// v1's user.
    pub legacy_user_id: Option<String>,
    /// Every recorded calendar event id with its slot, `calendarEventIds`.
    pub calendar_event_ids: Vec<(String, String)>,
    /// Whether the case is synced.
    pub calendar_sync_enabled: Option<bool>,
    /// `employerName`.
    pub employer_name: Option<String>,
    /// `beneficiaryIdentifier`.
    pub beneficiary_identifier: Option<String>,
    /// `caseNumber`.
    pub case_number: Option<String>,
    /// `internalCaseNumber`.
    pub internal_case_number: Option<String>,
    /// `rfiEntries`.
    pub rfi_entries: Vec<V2Entry>,
    /// `rfeEntries`.
    pub rfe_entries: Vec<V2Entry>,
    /// Every field that holds a date (`YYYY-MM-DD`), by its name.
    pub dates: BTreeMap<String, String>,
    /// When the case was soft-deleted, Unix milliseconds.
    pub deleted_at: Option<i64>,
}

/// One request for information or evidence.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct V2Entry {
    /// v2's id of the entry, which its description names.
    pub id: String,
    /// `YYYY-MM-DD`.
    pub received_date: Option<String>,
    /// `YYYY-MM-DD`.
    pub response_due_date: Option<String>,
    /// `YYYY-MM-DD`.
    pub response_submitted_date: Option<String>,
}

/// What ties a user of v1 to one of v2. `Debug` shows its id only.
#[derive(Clone, PartialEq, Eq)]
pub struct V2Profile {
    /// `_id`.
    pub id: String,
    /// v2's user.
    pub user_id: Option<String>,
    /// v1's user, unless it was cleared.
    pub legacy_id: Option<String>,
    /// The connected Google account, as stored.
    pub google_email: Option<String>,
    /// Whether v2 holds the calendar for connected.
    pub google_calendar_connected: Option<bool>,
}

macro_rules! debug_by_id {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.id)
            }
        }
    )*};
}
debug_by_id!(V2Case, V2Entry, V2Profile);

impl V2Case {
    pub(super) fn read(document: &Value) -> Result<Self, &'static str> {
        let mut calendar_event_ids = Vec::new();
        if let Some(slots) = document.get("calendarEventIds") {
            recorded_ids("", slots, &mut calendar_event_ids)?;
        }
        let fields = document.as_object().into_iter().flatten();
        let dates = fields
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .filter(|(_, value)| is_date(value))
            .collect();
        Ok(Self {
            id: id(document)?,
            legacy_id: text(document, "legacyId"),
            user_id: text(document, "userId"),
            legacy_user_id: text(document, "legacyUserId"),
            calendar_event_ids,
            calendar_sync_enabled: yes(document, "calendarSyncEnabled"),
            employer_name: text(document, "employerName"),
            beneficiary_identifier: text(document, "beneficiaryIdentifier"),
            case_number: text(document, "caseNumber"),
            internal_case_number: text(document, "internalCaseNumber"),
            rfi_entries: entries(document, "rfiEntries")?,
            rfe_entries: entries(document, "rfeEntries")?,
            dates,
            deleted_at: document.get("deletedAt").and_then(integer),
        })
    }
}

impl V2Profile {
    pub(super) fn read(document: &Value) -> Result<Self, &'static str> {
        Ok(Self {
            id: id(document)?,
            user_id: text(document, "userId"),
            legacy_id: text(document, "legacyId"),
            google_email: text(document, "googleEmail"),
            google_calendar_connected: yes(document, "googleCalendarConnected"),
        })
    }
}

/// Every text below `calendarEventIds` is an id of an event that v2 relies on; what is no text might hide one.
fn recorded_ids(
    slot: &str,
    value: &Value,
    ids: &mut Vec<(String, String)>,
) -> Result<(), &'static str> {
    match value {
        Value::Null => {}
        // v1's ids are trimmed too: the import copied them with whatever stood around them, and an id that is not recognised as the same
        // one would not protect its event.
        Value::String(id) => match id.trim() {
            "" | "null" => {}
            // v1 stored some of them as JSON text, and the import copied that too.
            text if text.starts_with(['{', '[', '"']) => match serde_json::from_str(text) {
                Ok(inner) => recorded_ids(slot, &inner, ids)?,
                // What was cut or written by mistake may hide ids: whatever has the form of one is one.
                Err(_) => ids.extend(words(text).map(|id| (slot.to_owned(), id.to_owned()))),
            },
            id => ids.push((slot.to_owned(), id.to_owned())),
        },
        Value::Array(items) => {
            for item in items {
                recorded_ids(slot, item, ids)?;
            }
        }
        Value::Object(slots) => {
            for (name, value) in slots {
                recorded_ids(if slot.is_empty() { name } else { slot }, value, ids)?;
            }
        }
        Value::Bool(_) | Value::Number(_) => {
            return Err("calendarEventIds holds something that is no event id");
        }
    }
    Ok(())
}

/// Google's ids have 26 letters and digits; what v1 wrote it let Google name.
const ID_MIN: usize = 20;

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.len() >= ID_MIN)
}

fn entries(document: &Value, name: &str) -> Result<Vec<V2Entry>, &'static str> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(entries)) => entries
            .iter()
            .map(|entry| {
                Ok(V2Entry {
                    id: text(entry, "id").ok_or("an RFI or RFE entry has no id")?,
                    received_date: text(entry, "receivedDate"),
                    response_due_date: text(entry, "responseDueDate"),
                    response_submitted_date: text(entry, "responseSubmittedDate"),
                })
            })
            .collect(),
        Some(_) => Err("rfiEntries or rfeEntries is not a list"),
    }
}

fn id(document: &Value) -> Result<String, &'static str> {
    text(document, "_id").ok_or("it has no _id")
}

fn text(document: &Value, name: &str) -> Option<String> {
    document.get(name)?.as_str().map(str::to_owned)
}

fn yes(document: &Value, name: &str) -> Option<bool> {
    document.get(name)?.as_bool()
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}

/// A whole number in any of its encodings: a JSON number (Convex's numbers are doubles), clean JSON's text, or `$integer` and `$float` with 8
/// little-endian bytes in base64.
#[expect(
    clippy::cast_possible_truncation,
    reason = "milliseconds of any date fit exactly"
)]
pub(super) fn integer(value: &Value) -> Option<i64> {
    let bytes = |name: &str| -> Option<[u8; 8]> {
        STANDARD
            .decode(value.get(name)?.as_str()?)
            .ok()?
            .try_into()
            .ok()
    };
    match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|float| float as i64)),
        Value::String(text) => text.parse().ok(),
        _ => bytes("$integer")
            .map(i64::from_le_bytes)
            .or_else(|| bytes("$float").map(|bytes| f64::from_le_bytes(bytes) as i64)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_read_in_each_encoding() {
        let at = 1_768_435_200_123_i64;
        let encoded = STANDARD.encode(at.to_le_bytes());
        #[expect(clippy::cast_precision_loss, reason = "the value is below 2^53")]
        let float = at as f64;
        for value in [
            json!(at),
            json!(float),
            json!(at.to_string()),
            json!({"$integer": encoded}),
            json!({"$float": STANDARD.encode(float.to_le_bytes())}),
        ] {
            assert_eq!(integer(&value), Some(at), "{value}");
        }
        assert_eq!(integer(&json!({"$integer": "short"})), None);
    }

    #[test]
    fn every_recorded_id_is_found_in_any_shape_and_none_is_passed_over() {
        let read = |ids: Value| {
            V2Case::read(&json!({"_id": "c", "calendarEventIds": ids}))
                .map(|case| case.calendar_event_ids)
        };
        let pair = |slot: &str, id: &str| (slot.to_owned(), id.to_owned());
        let object =
            json!({"rfi_due": "e1\n", "pwd_expiration": null, "more": {"x": [" e2 ", "", " "]}});
        assert_eq!(
            read(object),
            Ok(vec![pair("more", "e2"), pair("rfi_due", "e1")])
        );
        assert_eq!(read(json!(["e1"])), Ok(vec![pair("", "e1")]));
        assert_eq!(read(Value::Null), Ok(vec![]));
        // As v1 stored some of them.
        for text in [
            json!({"rfi_due": "\"e1\""}),
            json!({"rfi_due": "[\"e1\", null]"}),
            json!({"rfi_due": "{\"event_id\": \"e1\"}"}),
            json!({"rfi_due": "\"[\\\"e1\\\"]\"", "pwd_expiration": "null"}),
            json!("{\"rfi_due\": \"e1\"}"),
        ] {
            assert_eq!(
                read(text.clone()),
                Ok(vec![pair("rfi_due", "e1")]),
                "{text}"
            );
        }
        let id = "0k8q9gr2v1m3n5p7s9t0u2v4a6";
        for (text, expected) in [
            (format!("[\"{id}\", \"0k8q"), vec![pair("rfi_due", id)]),
            ("[object Object]".to_owned(), vec![]),
        ] {
            assert_eq!(read(json!({ "rfi_due": text })), Ok(expected));
        }
        for hidden in [json!({"rfi_due": 7}), json!("[7]")] {
            assert!(read(hidden.clone()).is_err(), "{hidden}");
        }
    }
}
