//! Putting an event back: the two ways, what each cannot bring back, and how what is there differs from the backup. Pure.
//!
//! Rules: Google Calendar API v3. A cancelled event keeps its details "so that they can be restored (undeleted)" (`Event.status`), until the
//! calendar's trash is emptied, after 30 days. An id that was used once, by a deleted event too, is refused (409), so an event that is made anew
//! has another. Ids are base32hex in lower case, 5 to 1024 characters (`Event.id`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::executors::WayBack;

/// The cancelled event is confirmed again, under its id.
pub const UNCANCEL: &str = "uncancel";
/// A new event is made from the backup, under an id that comes of the deletion.
pub const INSERT: &str = "insert";

/// What a person is told before anything is put back.
pub const WAYS_IN_WORDS: [&str; 3] = [
    "first by un-cancelling, under the old id: all is as before but etag, sequence, updated",
    "where Google refuses that, as a new event made from the backup: as before are title, text, place, times, reminders, colour, guests and \
     attachments; not as before are id, iCalUID, htmlLink, created, updated, etag, sequence, conferenceData and hangoutLink (Meet), a foreign \
     organizer, and what guests had answered",
    "no guest is sent a mail; who recorded an old id is told the new one by `ledger restore export`",
];

/// What no change to an event leaves as it was.
const CHANGES: [&str; 3] = ["etag", "sequence", "updated"];

/// Fields that a client cannot set on a new event, or that belong to the old one alone.
const NOT_SENT: [&str; 16] = [
    "attendeesOmitted",
    "conferenceData",
    "created",
    "creator",
    "etag",
    "hangoutLink",
    "htmlLink",
    "iCalUID",
    "id",
    "kind",
    "locked",
    "organizer",
    "originalStartTime",
    "privateCopy",
    "recurringEventId",
    "updated",
];

/// The fields of an event, each as it came: what cannot be read in one spoils no other.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

fn fields(event: &[u8]) -> Option<Fields<'_>> {
    serde_json::from_str(std::str::from_utf8(event).ok()?).ok()
}

/// The ways to bring this event back; `None` where its backup cannot be read.
pub fn ways_back(item: &str, backup: &[u8], token: &str) -> Option<Vec<WayBack>> {
    let fields = fields(backup)?;
    let there = |names: &[&str]| -> Vec<String> {
        let there = names.iter().filter(|name| fields.contains_key(**name));
        there.map(|name| (*name).to_owned()).collect()
    };
    let mut made_anew = there(&NOT_SENT);
    // These are the same again where the event was its user's own.
    made_anew.retain(|name| {
        let own = || {
            let value: Option<Value> = serde_json::from_str(fields.get(name)?.get()).ok();
            value?.get("self")?.as_bool()
        };
        match name.as_str() {
            "kind" => false,
            "creator" | "organizer" => own() != Some(true),
            _ => true,
        }
    });
    // Whether each guest had accepted is the guests' to say again.
    made_anew.extend(there(&["attendees", "sequence"]));
    made_anew.sort();
    let becomes = new_id(token);
    Some(vec![
        WayBack {
            way: UNCANCEL.into(),
            becomes: item.to_owned(),
            undeletes: true,
            loses: there(&CHANGES),
        },
        WayBack {
            way: INSERT.into(),
            becomes: becomes.clone(),
            undeletes: false,
            loses: made_anew.clone(),
        },
        // It was made anew by an earlier undo, and deleted since: its id is used up.
        WayBack {
            way: UNCANCEL.into(),
            becomes,
            undeletes: true,
            loses: made_anew,
        },
    ])
}

/// The id of an event that is made anew. It says where it comes from, and is the same for each try at one deletion.
fn new_id(token: &str) -> String {
    let hex = token.bytes().filter(u8::is_ascii_hexdigit);
    let hex: String = hex
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect();
    format!("ledger{hex}")
}

/// What un-cancels an event: the status that it had.
pub fn uncancelling(backup: &[u8]) -> Option<Value> {
    let fields = fields(backup)?;
    let status = fields
        .get("status")
        .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let status = status.filter(|status| status == "tentative");
    Some(json!({"status": status.as_deref().unwrap_or("confirmed")}))
}

/// The event to be made anew, with this id and all of the backup that can be set, byte for byte.
pub fn to_insert(backup: &[u8], becomes: &str) -> Option<Bytes> {
    let mut fields = fields(backup)?;
    fields.retain(|name, _| !NOT_SENT.contains(&name.as_str()) && name != "sequence");
    let id = RawValue::from_string(Value::from(becomes).to_string()).ok()?;
    fields.insert("id".to_owned(), &id);
    Some(Bytes::from(serde_json::to_vec(&fields).ok()?))
}

/// Names of the fields in which two events differ; `None` where one of them cannot be read.
pub fn differences(backup: &[u8], now: &[u8]) -> Option<Vec<String>> {
    let (backup, now) = (fields(backup)?, fields(now)?);
    let names: BTreeSet<&String> = backup.keys().chain(now.keys()).collect();
    let differs = |name: &&&String| match (backup.get(**name), now.get(**name)) {
        (Some(one), Some(other)) => !is_same(one, other),
        _ => true,
    };
    Some(
        names
            .iter()
            .filter(differs)
            .map(|name| (*name).clone())
            .collect(),
    )
}

/// The same value, in whatever order its members stand; the same text where one cannot be read (half a character, say).
fn is_same(one: &RawValue, other: &RawValue) -> bool {
    let read = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).ok();
    match (read(one), read(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.get() == other.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Value {
        json!({
            "kind": "calendar#event", "id": "old1", "etag": "\"3\"", "status": "confirmed", "iCalUID": "old1@example.com",
            "created": "2025-11-02T10:00:00.000Z", "updated": "2025-11-02T10:00:00.500Z", "sequence": 0,
            "summary": "RFI Response Due: Example", "htmlLink": "https://www.google.com/calendar/event?eid=x",
            "start": {"date": "2026-03-01"}, "end": {"date": "2026-03-01"},
            "creator": {"email": "a@example.com", "self": true}, "organizer": {"email": "a@example.com", "self": true},
            "reminders": {"useDefault": false}, "extendedProperties": {"private": {"a": "b"}},
        })
    }

    fn bytes(event: &Value) -> Vec<u8> {
        event.to_string().into_bytes()
    }

    #[test]
    fn what_cannot_come_back_is_named_for_each_way() {
        let mut with_all = event();
        with_all["conferenceData"] = json!({"conferenceId": "x"});
        with_all["hangoutLink"] = "https://meet.google.com/x".into();
        with_all["attendees"] = json!([{"email": "b@example.com", "responseStatus": "accepted"}]);
        with_all["organizer"] = json!({"email": "b@example.com"});
        let token = "0198c0de-0000-7000-8000-000000000001";
        let ways = ways_back("old1", &bytes(&event()), token).unwrap();
        assert_eq!(ways[0].becomes, "old1");
        assert_eq!(ways[0].loses, ["etag", "sequence", "updated"]);
        let plain = [
            "created", "etag", "htmlLink", "iCalUID", "id", "sequence", "updated",
        ];
        assert_eq!(ways[1].loses, plain);
        assert_eq!(ways[1].becomes, "ledger0198c0de000070008000000000000001");
        let ways = ways_back("old1", &bytes(&with_all), token).unwrap();
        for name in ["attendees", "conferenceData", "hangoutLink", "organizer"] {
            assert!(ways[1].loses.iter().any(|lost| lost == name), "{name}");
        }
        let again = &ways[2];
        assert_eq!((again.way.as_ref(), again.undeletes), (UNCANCEL, true));
        assert_eq!(again.becomes, ways[1].becomes);
        assert_eq!(again.loses, ways[1].loses);
    }

    #[test]
    fn a_new_id_is_one_that_google_takes() {
        let id = new_id("0198C0DE-0000-7000-8000-00000000000f");
        assert!((5..=1024).contains(&id.len()));
        assert!(
            id.bytes()
                .all(|byte| matches!(byte, b'a'..=b'v' | b'0'..=b'9'))
        );
    }

    #[test]
    fn what_is_sent_is_the_backup_without_what_is_googles() {
        let sent: Value =
            serde_json::from_slice(&to_insert(&bytes(&event()), "ledger1").unwrap()).unwrap();
        let mut left = event();
        for name in NOT_SENT.iter().chain(&["sequence"]) {
            left.as_object_mut().unwrap().remove(*name);
        }
        left["id"] = "ledger1".into();
        assert_eq!(sent, left);
        assert_eq!(
            uncancelling(&bytes(&event())),
            Some(json!({"status": "confirmed"}))
        );
        let mut tentative = event();
        tentative["status"] = "tentative".into();
        assert_eq!(
            uncancelling(&bytes(&tentative)),
            Some(json!({"status": "tentative"}))
        );
    }

    #[test]
    fn half_a_character_is_sent_as_it_came_and_compared() {
        let backup = br#"{"id":"a","summary":"\ud800","start":{"date":"2026-03-01"}}"#;
        let sent = to_insert(backup, "ledger1").unwrap();
        assert!(sent.windows(8).any(|part| part == br#""\ud800""#));
        assert_eq!(differences(backup, &sent).unwrap(), ["id"]);
    }

    #[test]
    fn each_field_that_differs_is_named_and_order_counts_for_nothing() {
        let now = br#"{"b":{"y":2,"x":1},"a":1,"d":null}"#;
        assert_eq!(
            differences(br#"{"a":1,"b":{"x":1,"y":2},"d":null}"#, now).unwrap(),
            [""; 0]
        );
        assert_eq!(
            differences(br#"{"a":2,"b":{"x":1},"c":1}"#, now).unwrap(),
            ["a", "b", "c", "d"]
        );
        assert_eq!(differences(b"<html>", now), None);
    }
}
