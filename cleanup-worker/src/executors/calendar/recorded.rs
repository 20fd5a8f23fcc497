//! The event ids that v1 recorded on its cases, whatever shape they were stored in.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An event id as v1 recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordedId {
    /// The key it stood under (`pwd_expiration`); `None` where the shape has no keys.
    pub key: Option<String>,
    /// The id, exactly as stored.
    pub id: String,
}

/// What was found in one `calendar_event_ids`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The ids, in order, repeats kept.
    pub ids: Vec<RecordedId>,
    /// Places whose value is no id and no known way to say "none": to be shown, never dropped.
    pub odd: Vec<String>,
}

/// The key under which an id stands where v1 stored an object per event and no other names it better: it may be the id of the row.
const PLAIN_ID_KEY: &str = "id";
/// Keys that name an event's id.
const ID_KEYS: [&str; 8] = [
    "event_id",
    "eventId",
    "google_event_id",
    "googleEventId",
    "google_id",
    "googleId",
    "calendar_event_id",
    "calendarEventId",
];
/// Keys under which something else of an event stands: what is there is taken for no id.
const OTHER_KEYS: [&str; 18] = [
    "calendar",
    "calendar_id",
    "calendarId",
    "created_at",
    "date",
    "email",
    "etag",
    "html_link",
    "htmlLink",
    "kind",
    "last_synced_at",
    "link",
    "status",
    "summary",
    "synced_at",
    "title",
    "updated_at",
    "url",
];
/// Keys of an object that name the kind of deadline beside such an id.
const KIND_KEYS: [&str; 3] = ["type", "event_type", "key"];

/// Reads `calendar_event_ids`: an object of key to id, an array, either of them as JSON text, or null.
pub fn parse_recorded(value: &Value) -> Recorded {
    let mut recorded = Recorded::default();
    collect(value, None, 0, &mut recorded);
    recorded
}

fn collect(value: &Value, key: Option<&str>, depth: u8, out: &mut Recorded) {
    let place = || key.unwrap_or("(top)").to_owned();
    if depth > 4 {
        out.odd.push(format!("{}: nested too deeply", place()));
        return;
    }
    match value {
        Value::Null => {}
        Value::String(text) => collect_text(text, key, depth, out),
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect(item, key, depth + 1, out)),
        Value::Object(fields) => {
            if collect_event(fields, key, depth, out) {
                return;
            }
            for (name, item) in fields {
                if OTHER_KEYS.contains(&name.as_str()) {
                    out.odd.push(format!("{name}: no key of an id"));
                    continue;
                }
                // An array below a key (several RFIs) keeps the key of its slot.
                collect(item, Some(name), depth + 1, out);
            }
        }
        Value::Bool(_) => out.odd.push(format!("{}: a boolean", place())),
        Value::Number(_) => out.odd.push(format!("{}: a number", place())),
    }
}

/// An object that stands for one event; false where it is none.
fn collect_event(
    fields: &Map<String, Value>,
    key: Option<&str>,
    depth: u8,
    out: &mut Recorded,
) -> bool {
    let filled = |name: &str| {
        let text = fields.get(name)?.as_str()?;
        (!text.trim().is_empty()).then_some(text)
    };
    let named: Vec<&str> = ID_KEYS.iter().filter_map(|name| filled(name)).collect();
    let plain = filled(PLAIN_ID_KEY);
    let is_event = |name: &str| name == PLAIN_ID_KEY || ID_KEYS.contains(&name);
    if !fields
        .iter()
        .any(|(name, value)| is_event(name) && value.is_string())
    {
        return false;
    }
    let kind = KIND_KEYS.iter().find_map(|name| filled(name));
    let key = kind.or(key);
    for id in named
        .iter()
        .copied()
        .chain(plain.filter(|_| named.is_empty()))
    {
        collect_text(id, key, depth + 1, out);
    }
    if plain.is_some_and(|plain| !named.is_empty() && !named.contains(&plain)) {
        out.odd.push("id: beside another id".to_owned());
    }
    for (name, value) in fields {
        let name = name.as_str();
        if (is_event(name) && value.is_string())
            || KIND_KEYS.contains(&name)
            || OTHER_KEYS.contains(&name)
        {
            continue;
        }
        match value {
            Value::Array(_) | Value::Object(_) => collect(value, Some(name), depth + 1, out),
            Value::String(text) if !text.trim().is_empty() => {
                out.odd.push(format!("{name}: no key of an id"));
            }
            _ if is_event(name) => collect(value, Some(name), depth + 1, out),
            _ => {}
        }
    }
    true
}

fn collect_text(text: &str, key: Option<&str>, depth: u8, out: &mut Recorded) {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed == "null" {
        return;
    }
    if trimmed.starts_with(['{', '[', '"']) {
        match serde_json::from_str::<Value>(trimmed) {
            Ok(inner) => collect(&inner, key, depth + 1, out),
            Err(_) => out
                .odd
                .push(format!("{}: text that is no JSON", key.unwrap_or("(top)"))),
        }
        return;
    }
    out.ids.push(RecordedId {
        key: key.map(str::to_owned),
        id: trimmed.to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pairs(value: &Value) -> Vec<(Option<String>, String)> {
        let recorded = parse_recorded(value);
        assert_eq!(recorded.odd, Vec::<String>::new(), "{value}");
        recorded.ids.into_iter().map(|id| (id.key, id.id)).collect()
    }

    fn keyed(key: &str, id: &str) -> (Option<String>, String) {
        (Some(key.to_owned()), id.to_owned())
    }

    #[test]
    fn every_stored_shape_gives_its_ids_and_keys() {
        let object = json!({"pwd_expiration": "aaa11", "rfi_due": null, "rfe_due": ""});
        let expected = vec![keyed("pwd_expiration", "aaa11")];
        assert_eq!(pairs(&object), expected);
        assert_eq!(pairs(&json!(object.to_string())), expected);
        assert_eq!(
            pairs(&json!(json!(object.to_string()).to_string())),
            expected
        );
        assert_eq!(
            pairs(&json!({"rfi_due": ["a1", "b2"]})),
            vec![keyed("rfi_due", "a1"), keyed("rfi_due", "b2")]
        );
        assert_eq!(
            pairs(&json!(["a1", null, "b2"])),
            vec![(None, "a1".into()), (None, "b2".into())]
        );
        assert_eq!(
            pairs(&json!([{"type": "rfi_due", "event_id": "a1"}, {"id": "b2"}])),
            vec![keyed("rfi_due", "a1"), (None, "b2".into())]
        );
        assert_eq!(
            pairs(&json!({"rfi_due": {"id": "a1"}})),
            vec![keyed("rfi_due", "a1")]
        );
        assert_eq!(pairs(&json!("abc123")), vec![(None, "abc123".into())]);
        for nothing in [
            json!(null),
            json!(""),
            json!("null"),
            json!([]),
            json!({}),
            json!("{}"),
        ] {
            assert_eq!(pairs(&nothing), vec![], "{nothing}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_kept() {
        let recorded = parse_recorded(&json!({"a": 7, "b": "ok123", "c": true, "d": "{broken"}));
        assert_eq!(
            recorded.ids,
            vec![RecordedId {
                key: Some("b".into()),
                id: "ok123".into()
            }]
        );
        assert_eq!(
            recorded.odd,
            ["a: a number", "c: a boolean", "d: text that is no JSON"]
        );
        let nested = json!({"pwd_expiration": {"google_id": "ok123", "calendarId": "primary"}});
        assert_eq!(pairs(&nested), vec![keyed("pwd_expiration", "ok123")]);
        let unnamed =
            parse_recorded(&json!({"rfi_due": {"first": "ok1", "calendarId": "primary"}}));
        assert_eq!(unnamed.ids.len(), 1);
        assert_eq!(unnamed.odd, ["calendarId: no key of an id"]);
        for (object, ids, odd) in [
            // The id of an entry beside that of its event.
            (
                json!({"id": "entry-1", "event_id": "ok1"}),
                &["ok1"][..],
                &["id: beside another id"][..],
            ),
            (json!({"id": "ok1", "event_id": "ok1"}), &["ok1"], &[]),
            (json!({"id": "", "google_event_id": "ok1"}), &["ok1"], &[]),
            (json!({"id": " ", "google_event_id": null}), &[], &[]),
            (
                json!({"google_id": "ok1", "eventId": "ok2"}),
                &["ok2", "ok1"],
                &[],
            ),
            (
                json!({"id": "ok1", "more": ["ok2"], "note": "ok3", "done": true}),
                &["ok1", "ok2"],
                &["note: no key of an id"],
            ),
            (
                json!({"id": "ok1", "event_id": 7}),
                &["ok1"],
                &["event_id: a number"],
            ),
        ] {
            let recorded = parse_recorded(&json!({ "rfi_due": [object] }));
            let found: Vec<&str> = recorded.ids.iter().map(|id| id.id.as_str()).collect();
            assert_eq!(
                (found.as_slice(), &recorded.odd[..]),
                (
                    ids,
                    &odd.iter().map(|&it| it.to_owned()).collect::<Vec<_>>()[..]
                ),
                "{object}"
            );
        }
        let deep = json!([[[[[["x"]]]]]]);
        assert_eq!(parse_recorded(&deep).odd, ["(top): nested too deeply"]);
    }
}
