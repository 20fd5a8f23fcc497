//! Rows of v1: the bytes as they came, and lenient views of the columns that matter.
//!
//! v1's own schema is known from plans only, so a column may be missing, null, or of another type than expected; none of that loses a row.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::secrets::Secret;

/// One row, byte for byte as the server wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct RawRow {
    /// The row's JSON object.
    pub bytes: Bytes,
    /// Its `id`, as text.
    pub id: String,
}

impl fmt::Debug for RawRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawRow({} bytes)", self.bytes.len())
    }
}

impl RawRow {
    /// `None` where the bytes are no JSON object with an `id`.
    pub fn new(bytes: Bytes) -> Option<Self> {
        let id = match serde_json::from_str(Columns::of(&bytes)?.0.get("id")?.get()).ok()? {
            Value::String(id) => id,
            Value::Number(id) => id.to_string(),
            _ => return None,
        };
        Some(Self { bytes, id })
    }

    /// A column's value, if it is text.
    pub fn text(&self, column: &str) -> Option<String> {
        Columns::of(&self.bytes)?.text(column)
    }
}

/// The order in which PostgreSQL sorts ids: UUIDs by their bytes, numbers by value.
pub(super) fn is_before(one: &str, other: &str) -> bool {
    if let (Ok(one), Ok(other)) = (one.parse::<i64>(), other.parse::<i64>()) {
        return one < other;
    }
    match (Uuid::try_parse(one), Uuid::try_parse(other)) {
        (Ok(one), Ok(other)) => one < other,
        // Text is sorted by a collation we do not know: only the same id twice is surely wrong.
        _ => one != other,
    }
}

struct Columns<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Columns<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_str(std::str::from_utf8(bytes).ok()?)
            .ok()
            .map(Self)
    }

    fn value(&self, column: &str) -> Option<Value> {
        serde_json::from_str(self.0.get(column)?.get()).ok()
    }

    fn text(&self, column: &str) -> Option<String> {
        match self.value(column)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// An id, which may be a number.
    fn id(&self, column: &str) -> Option<String> {
        match self.value(column)? {
            Value::String(id) => Some(id.trim().to_owned()).filter(|id| !id.is_empty()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        }
    }

    fn yes(&self, column: &str) -> Option<bool> {
        match self.value(column)? {
            Value::Bool(yes) => Some(yes),
            Value::String(text) => match text.as_str() {
                "true" | "t" => Some(true),
                "false" | "f" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A user of v1. `Debug` shows no address and no token.
#[derive(Clone)]
pub struct V1User {
    /// v1's id.
    pub id: String,
    /// The address the user signs in with.
    pub email: Option<String>,
    /// The address of the connected Google account, as stored; it may be stale.
    pub google_email: Option<String>,
    /// Whether v1 holds the calendar for connected.
    pub calendar_connected: Option<bool>,
    /// Whether the user has calendar sync switched on.
    pub calendar_sync_enabled: Option<bool>,
    /// The stored refresh token, encrypted; not blank.
    pub refresh_token: Option<Secret>,
    /// When v1 thought the access token would end, as written.
    pub token_expiry: Option<String>,
    /// The scopes that were granted.
    pub scopes: Vec<String>,
    /// When the user was soft-deleted, as written.
    pub deleted_at: Option<String>,
    /// As written.
    pub created_at: Option<String>,
    /// As written.
    pub updated_at: Option<String>,
    /// The whole row.
    pub row: RawRow,
}

impl fmt::Debug for V1User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "V1User({})", self.id)
    }
}

impl From<&RawRow> for V1User {
    fn from(row: &RawRow) -> Self {
        // A `RawRow` is an object by construction.
        let columns = Columns::of(&row.bytes).unwrap_or_else(|| Columns(HashMap::new()));
        let either = |one: &str, older: &str| columns.text(one).or_else(|| columns.text(older));
        Self {
            id: row.id.clone(),
            email: columns.text("email"),
            google_email: columns.text("google_email"),
            calendar_connected: columns
                .yes("calendar_connected")
                .or_else(|| columns.yes("google_calendar_connected")),
            calendar_sync_enabled: columns.yes("calendar_sync_enabled"),
            refresh_token: either("google_refresh_token", "google_calendar_refresh_token")
                .filter(|token| !token.trim().is_empty())
                .map(Secret::new),
            token_expiry: columns.text("google_token_expiry"),
            scopes: columns
                .value("google_scopes")
                .map(|value| scopes(&value))
                .unwrap_or_default(),
            deleted_at: columns.text("deleted_at"),
            created_at: columns.text("created_at"),
            updated_at: columns.text("updated_at"),
            row: row.clone(),
        }
    }
}

/// A JSON array, JSON text of an array or of a string, or bare text with spaces between.
fn scopes(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(scopes).collect(),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inner @ (Value::Array(_) | Value::String(_))) => scopes(&inner),
            _ => text.split_whitespace().map(str::to_owned).collect(),
        },
        _ => Vec::new(),
    }
}

/// A case of v1. `Debug` shows its id only.
#[derive(Clone)]
pub struct V1Case {
    /// v1's id.
    pub id: String,
    /// The user it belongs to, as text.
    pub user_id: Option<String>,
    /// The recorded calendar event ids, exactly as they stand: an object, an array, JSON text or null. `None`: no such column.
    pub calendar_event_ids: Option<String>,
    /// Whether the case has calendar sync switched on.
    pub calendar_sync_enabled: Option<bool>,
    /// The employer, which event titles carry.
    pub employer_name: Option<String>,
    /// When the case was soft-deleted, as written.
    pub deleted_at: Option<String>,
    /// As written.
    pub created_at: Option<String>,
    /// As written.
    pub updated_at: Option<String>,
    /// The whole row.
    pub row: RawRow,
}

impl fmt::Debug for V1Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "V1Case({})", self.id)
    }
}

impl From<&RawRow> for V1Case {
    fn from(row: &RawRow) -> Self {
        let columns = Columns::of(&row.bytes).unwrap_or_else(|| Columns(HashMap::new()));
        Self {
            id: row.id.clone(),
            user_id: columns.id("user_id"),
            calendar_event_ids: columns
                .0
                .get("calendar_event_ids")
                .map(|value| value.get().to_owned()),
            calendar_sync_enabled: columns.yes("calendar_sync_enabled"),
            employer_name: columns.text("employer_name"),
            deleted_at: columns.text("deleted_at"),
            created_at: columns.text("created_at"),
            updated_at: columns.text("updated_at"),
            row: row.clone(),
        }
    }
}

/// A watch channel of v1's, and the calendar that it watches. `Debug` shows its id only.
#[derive(Clone, PartialEq, Eq)]
pub struct V1Channel {
    /// v1's id of the row.
    pub id: String,
    /// The user for whom it was opened.
    pub user_id: Option<String>,
    /// The calendar as v1 names it; `primary` by default.
    pub calendar_id: String,
    /// v1's name of the channel, which stopping it takes.
    pub channel_id: Option<String>,
    /// Google's name of what it watches, which stopping it takes too.
    pub resource_id: Option<String>,
}

impl fmt::Debug for V1Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "V1Channel({})", self.id)
    }
}

impl From<&RawRow> for V1Channel {
    fn from(row: &RawRow) -> Self {
        let columns = Columns::of(&row.bytes).unwrap_or_else(|| Columns(HashMap::new()));
        let text = |column: &str| columns.text(column).filter(|text| !text.trim().is_empty());
        Self {
            id: row.id.clone(),
            user_id: columns.id("user_id"),
            calendar_id: text("calendar_id").unwrap_or_else(|| "primary".to_owned()),
            channel_id: text("channel_id"),
            resource_id: text("resource_id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: &str) -> RawRow {
        RawRow::new(Bytes::copy_from_slice(json.as_bytes())).expect("a row")
    }

    #[test]
    fn a_user_is_read_whatever_the_columns_are() {
        let full = V1User::from(&row(
            r#"{"id":"u1","email":"me@example.com","calendar_connected":true,"google_refresh_token":"gAAAAA","google_scopes":["a","b"],"deleted_at":null,"wage":1234.50}"#,
        ));
        assert_eq!(full.email.as_deref(), Some("me@example.com"));
        assert_eq!(
            (full.calendar_connected, full.deleted_at.as_deref()),
            (Some(true), None)
        );
        assert_eq!(
            full.refresh_token.as_ref().map(Secret::expose),
            Some("gAAAAA")
        );
        assert!(full.row.bytes.ends_with(b"\"wage\":1234.50}"));
        assert_eq!(format!("{full:?}"), "V1User(u1)");

        let odd = V1User::from(&row(
            r#"{"id":7,"email":12,"google_calendar_connected":"t","google_refresh_token":" "}"#,
        ));
        assert_eq!(
            (odd.id.as_str(), odd.email, odd.calendar_connected),
            ("7", None, Some(true))
        );
        assert!(odd.refresh_token.is_none());
    }

    #[test]
    fn scopes_are_read_in_each_of_their_shapes() {
        for (json, expected) in [
            (r#"["a","b"]"#, vec!["a", "b"]),
            (r#""[\"a\", \"b\"]""#, vec!["a", "b"]),
            (r#""a""#, vec!["a"]),
            (r#""\"a\"""#, vec!["a"]),
            (r#""a b""#, vec!["a", "b"]),
            ("null", vec![]),
            ("{}", vec![]),
        ] {
            let user = V1User::from(&row(&format!(r#"{{"id":"u","google_scopes":{json}}}"#)));
            assert_eq!(user.scopes, expected, "{json}");
        }
    }

    #[test]
    fn a_cases_event_ids_stay_as_they_are() {
        for json in [
            r#"{ "pwd_expiration": "e1" }"#,
            r#"["e1"]"#,
            r#""{\"a\":1}""#,
            "null",
        ] {
            let case = V1Case::from(&row(&format!(
                r#"{{"id":"c","calendar_event_ids":{json}}}"#
            )));
            assert_eq!(case.calendar_event_ids.as_deref(), Some(json));
        }
        assert_eq!(V1Case::from(&row(r#"{"id":"c"}"#)).calendar_event_ids, None);
    }

    #[test]
    fn an_owner_is_named_by_text_or_number_or_not_at_all() {
        for (json, owner) in [
            (r#""U1""#, Some("U1")),
            ("7", Some("7")),
            ("null", None),
            (r#"" ""#, None),
            ("true", None),
        ] {
            let case = V1Case::from(&row(&format!(r#"{{"id":"c","user_id":{json}}}"#)));
            assert_eq!(case.user_id.as_deref(), owner, "{json}");
        }
        assert_eq!(V1Case::from(&row(r#"{"id":"c"}"#)).user_id, None);
    }

    #[test]
    fn a_channel_without_a_calendar_is_of_the_primary_one() {
        let full = V1Channel::from(&row(
            r#"{"id":"r","user_id":"u","calendar_id":"c@example.com","channel_id":"ch","resource_id":"re"}"#,
        ));
        assert_eq!(full.calendar_id, "c@example.com");
        assert_eq!(
            (full.channel_id.as_deref(), full.resource_id.as_deref()),
            (Some("ch"), Some("re"))
        );
        assert_eq!(format!("{full:?}"), "V1Channel(r)");
        let bare = V1Channel::from(&row(r#"{"id":"r","calendar_id":null,"channel_id":" "}"#));
        assert_eq!(
            (bare.calendar_id.as_str(), bare.channel_id),
            ("primary", None)
        );
    }

    #[test]
    fn rows_without_an_id_are_no_rows() {
        for json in ["{}", r#"{"id":null}"#, "[]", r#"{"id":"#] {
            assert_eq!(RawRow::new(Bytes::copy_from_slice(json.as_bytes())), None);
        }
    }

    #[test]
    fn ids_are_ordered_as_the_database_orders_them() {
        assert!(is_before("9", "10") && !is_before("10", "10"));
        assert!(is_before(
            "0197f1c2-0000-7000-8000-00000000000a",
            "0197F1C2-0000-7000-8000-00000000000B"
        ));
        assert!(!is_before("same", "same") && is_before("b", "A"));
    }
}
