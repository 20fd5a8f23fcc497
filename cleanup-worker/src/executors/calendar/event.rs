//! One Google Calendar event, read leniently from the bytes Google sent.
//!
//! A page is read item by item, so that an event nobody can read (a lone surrogate in a title, a
//! number where text belongs) costs itself only. Fields: `events` of Google's discovery document.

use std::fmt;

use chrono::{DateTime, Duration, NaiveDate, Utc};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

/// When an event starts or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// All day; an end is exclusive.
    Day(NaiveDate),
    /// At an instant.
    Instant(DateTime<Utc>),
}

impl When {
    /// The day, of an all-day event.
    pub fn day(self) -> Option<NaiveDate> {
        match self {
            Self::Day(day) => Some(day),
            Self::Instant(_) => None,
        }
    }
}

/// What of an event the signals look at. The backup is the raw bytes, not this.
#[derive(Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of Google's, read on its own"
)]
pub struct EventView {
    /// Google's id, unique in its calendar.
    pub id: String,
    /// The version.
    pub etag: Option<String>,
    /// `status` is `cancelled`: deleted, and still remembered by Google.
    pub cancelled: bool,
    /// When it was made.
    pub created: Option<DateTime<Utc>>,
    /// When it was last changed; a change of reminders does not count.
    pub updated: Option<DateTime<Utc>>,
    /// Title.
    pub summary: Option<String>,
    /// Text, possibly HTML.
    pub description: Option<String>,
    /// Place.
    pub location: Option<String>,
    /// Start.
    pub start: Option<When>,
    /// End.
    pub end: Option<When>,
    /// `creator.self`; `None` where no creator is named.
    pub creator_self: Option<bool>,
    /// `creator.email`.
    pub creator_email: Option<String>,
    /// `organizer.self`; `None` where no organizer is named.
    pub organizer_self: Option<bool>,
    /// Number of attendees listed.
    pub attendees: usize,
    /// The list of attendees was cut: such a copy must not be restored from.
    pub attendees_omitted: bool,
    /// It is a series, or one of a series.
    pub recurs: bool,
    /// Number of attachments.
    pub attachments: usize,
    /// `eventType`, where it is not `default`.
    pub special_type: Option<String>,
    /// `reminders.useDefault` is false and there are no overrides.
    pub no_reminders: bool,
    /// `extendedProperties.private.permApp`, the mark that v2 may write in future.
    pub perm_app: Option<String>,
}

impl fmt::Debug for EventView {
    /// Titles and texts are personal: only ids and times are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventView")
            .field("id", &self.id)
            .field("etag", &self.etag)
            .field("cancelled", &self.cancelled)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl EventView {
    /// How far the last change lies from the creation; `None` where one of them is not known.
    pub fn age_at_last_change(&self) -> Option<Duration> {
        Some(self.updated? - self.created?)
    }

    /// The day of an all-day event; `None` unless both start and end are days.
    pub fn all_day(&self) -> Option<NaiveDate> {
        self.end?.day()?;
        self.start?.day()
    }
}

/// An event, or what could be saved of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedEvent {
    /// Read whole.
    Readable(Box<EventView>),
    /// Not read whole: neither judged nor backed up.
    Unreadable(Unreadable),
}

/// What could be saved of an event that could not be read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id, if it could be recovered.
    pub id: Option<String>,
    /// Its version, if it could be recovered.
    pub etag: Option<String>,
    /// What is wrong, without anything out of the event but a field's name.
    pub why: String,
    /// The event as far as it makes sense with the bad parts replaced. Good enough to see that it
    /// may concern us, never to act on.
    pub guess: Option<Box<EventView>>,
}

impl ParsedEvent {
    /// Reads one item of a list, or the body of a get. Never fails.
    pub fn parse(raw: &[u8]) -> Self {
        match std::str::from_utf8(raw).map(serde_json::from_str::<Fields>) {
            Ok(Ok(fields)) => match fields.view(Strictness::Whole) {
                Ok(view) => Self::Readable(Box::new(view)),
                Err(why) => Self::Unreadable(Unreadable {
                    id: fields.text("id"),
                    etag: fields.text("etag"),
                    why,
                    guess: fields.view(Strictness::Guess).ok().map(Box::new),
                }),
            },
            Ok(Err(_)) => Self::Unreadable(salvage(raw, "not JSON that can be read whole")),
            Err(_) => Self::Unreadable(salvage(raw, "not UTF-8")),
        }
    }

    /// Reads an item whose id is known apart from it: from the listing that it stood in, or because it was asked for. That one counts, so
    /// that nobody else's idea of an id is taken for an event that cannot be read.
    pub fn known(raw: &[u8], id: Option<&str>) -> Self {
        match Self::parse(raw) {
            Self::Unreadable(mut bad) => {
                bad.id = id.map(str::to_owned);
                Self::Unreadable(bad)
            }
            readable @ Self::Readable(_) => readable,
        }
    }

    /// The id, where there is one.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Readable(view) => Some(&view.id),
            Self::Unreadable(bad) => bad.id.as_deref(),
        }
    }

    /// The version, where there is one.
    pub fn etag(&self) -> Option<&str> {
        match self {
            Self::Readable(view) => view.etag.as_deref(),
            Self::Unreadable(bad) => bad.etag.as_deref(),
        }
    }

    /// The event as read, else the guess.
    pub fn best_view(&self) -> Option<&EventView> {
        match self {
            Self::Readable(view) => Some(view),
            Self::Unreadable(bad) => bad.guess.as_deref(),
        }
    }

    /// Whether it was read whole.
    pub fn readable(&self) -> Option<&EventView> {
        match self {
            Self::Readable(view) => Some(view),
            Self::Unreadable(_) => None,
        }
    }
}

fn salvage(raw: &[u8], why: &str) -> Unreadable {
    let text = replace_lone_surrogates(&String::from_utf8_lossy(raw));
    match serde_json::from_str::<Fields>(&text) {
        Ok(fields) => Unreadable {
            id: fields.text("id").filter(|id| !id.contains('\u{fffd}')),
            etag: fields
                .text("etag")
                .filter(|etag| !etag.contains('\u{fffd}')),
            why: why.to_owned(),
            guess: fields.view(Strictness::Guess).ok().map(Box::new),
        },
        Err(_) => Unreadable {
            id: None,
            etag: None,
            why: why.to_owned(),
            guess: None,
        },
    }
}

/// Replaces `\uD800`..`\uDFFF` escapes that form no pair by `\ufffd`, and leaves all else.
fn replace_lone_surrogates(text: &str) -> String {
    let bytes = text.as_bytes();
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at + 2..at + 6)?;
        (bytes.get(at) == Some(&b'\\') && bytes.get(at + 1) == Some(&b'u'))
            .then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let step = match (bytes[at], unit(at)) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(0xd800..=0xdfff)) => {
                out.push_str("\\ufffd");
                at += 6;
                continue;
            }
            (b'\\', Some(_)) => 6,
            // Any other escape is two bytes, so that `\\ud800` is not taken for one.
            (b'\\', None) => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            _ => text[at..].chars().next().map_or(1, char::len_utf8),
        };
        out.push_str(&text[at..at + step]);
        at += step;
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// A field of an unexpected type spoils the event.
    Whole,
    /// Such a field is taken as absent.
    Guess,
}

/// The fields of an event, refusing a name that stands twice: which of the two another reader
/// would take cannot be known.
struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a field stands twice"));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

impl Fields {
    fn text(&self, name: &str) -> Option<String> {
        let text = self.0.get(name).and_then(Value::as_str)?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn view(&self, strictness: Strictness) -> Result<EventView, String> {
        let read = Reader {
            fields: &self.0,
            strictness,
        };
        let id = read
            .string("id")?
            .filter(|id| !id.is_empty())
            .ok_or("id is missing")?;
        let private = |name: &str| -> Option<&Value> {
            self.0.get("extendedProperties")?.get("private")?.get(name)
        };
        let special_type = read.string("eventType")?.filter(|kind| kind != "default");
        Ok(EventView {
            id,
            etag: read.string("etag")?,
            cancelled: read.string("status")?.as_deref() == Some("cancelled"),
            created: read.instant("created")?,
            updated: read.instant("updated")?,
            summary: read.string("summary")?,
            description: read.string("description")?,
            location: read.string("location")?,
            start: read.when("start")?,
            end: read.when("end")?,
            creator_self: read.person("creator")?,
            creator_email: (self.0.get("creator"))
                .and_then(|creator| creator.get("email")?.as_str())
                .map(str::to_owned),
            organizer_self: read.person("organizer")?,
            attendees: read.list("attendees")?,
            attendees_omitted: read.flag("attendeesOmitted")?,
            recurs: read.list("recurrence")? > 0
                || read.string("recurringEventId")?.is_some()
                || self
                    .0
                    .get("originalStartTime")
                    .is_some_and(|value| !value.is_null()),
            attachments: read.list("attachments")?,
            special_type,
            no_reminders: read.no_reminders()?,
            perm_app: private("permApp")
                .and_then(Value::as_str)
                .map(str::to_owned),
        })
    }
}

struct Reader<'a> {
    fields: &'a Map<String, Value>,
    strictness: Strictness,
}

impl<'a> Reader<'a> {
    /// The field, unless it is absent or null; `convert` answers `None` for a value it cannot take.
    fn field<T>(
        &self,
        name: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match convert(value) {
                Some(converted) => Ok(Some(converted)),
                None if self.strictness == Strictness::Guess => Ok(None),
                None => Err(format!("{name} is of an unexpected form")),
            },
        }
    }

    fn string(&self, name: &str) -> Result<Option<String>, String> {
        self.field(name, |value| value.as_str().map(str::to_owned))
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        Ok(self.field(name, Value::as_bool)?.unwrap_or(false))
    }

    fn list(&self, name: &str) -> Result<usize, String> {
        Ok(self
            .field(name, |value| value.as_array().map(Vec::len))?
            .unwrap_or(0))
    }

    fn instant(&self, name: &str) -> Result<Option<DateTime<Utc>>, String> {
        self.field(name, |value| parse_instant(value.as_str()?))
    }

    /// Google leaves `self` out where it is false.
    fn person(&self, name: &str) -> Result<Option<bool>, String> {
        self.field(name, |value| match value.as_object()?.get("self") {
            None | Some(Value::Null) => Some(false),
            Some(value) => value.as_bool(),
        })
    }

    fn when(&self, name: &str) -> Result<Option<When>, String> {
        let when = self.field(name, |value| {
            let fields = value.as_object()?;
            let part = |name: &str| fields.get(name).filter(|value| !value.is_null());
            match (part("date"), part("dateTime")) {
                (Some(day), None) => {
                    let day = NaiveDate::parse_from_str(day.as_str()?, "%Y-%m-%d").ok()?;
                    Some(Some(When::Day(day)))
                }
                (None, Some(at)) => parse_instant(at.as_str()?).map(|at| Some(When::Instant(at))),
                (None, None) => Some(None),
                (Some(_), Some(_)) => None,
            }
        })?;
        Ok(when.flatten())
    }

    fn no_reminders(&self) -> Result<bool, String> {
        let none = self.field("reminders", |value| {
            let fields = value.as_object()?;
            let overrides = fields
                .get("overrides")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            let uses_default = fields.get("useDefault").and_then(Value::as_bool);
            Some(uses_default == Some(false) && overrides == 0)
        })?;
        Ok(none.unwrap_or(false))
    }
}

fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|at| at.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn full() -> Value {
        json!({
            "kind": "calendar#event", "id": "abc123", "etag": "\"3\"", "status": "confirmed",
            "created": "2025-11-02T10:00:00.000Z", "updated": "2025-11-02T10:00:00.500Z",
            "summary": "PWD Expiration: Example", "description": "x",
            "start": {"date": "2026-03-01"}, "end": {"date": "2026-03-01"},
            "creator": {"email": "a@example.com", "self": true},
            "organizer": {"email": "a@example.com", "self": true},
            "reminders": {"useDefault": false}, "eventType": "default", "sequence": 0
        })
    }

    fn unreadable(raw: &[u8]) -> Unreadable {
        match ParsedEvent::parse(raw) {
            ParsedEvent::Unreadable(bad) => bad,
            ParsedEvent::Readable(view) => panic!("was read: {view:?}"),
        }
    }

    #[test]
    fn an_ordinary_event_is_read_whole() {
        let parsed = ParsedEvent::parse(full().to_string().as_bytes());
        let view = parsed.readable().unwrap();
        assert_eq!(view.id, "abc123");
        assert_eq!(view.all_day(), NaiveDate::from_ymd_opt(2026, 3, 1));
        assert_eq!(view.age_at_last_change(), Some(Duration::milliseconds(500)));
        assert_eq!(
            (view.creator_self, view.organizer_self),
            (Some(true), Some(true))
        );
        assert!(view.no_reminders && !view.recurs && !view.cancelled);
        assert_eq!(
            (view.attendees, view.attachments, &view.special_type),
            (0, 0, &None)
        );
    }

    #[test]
    fn absent_and_null_fields_are_no_fault() {
        for raw in [
            r#"{"id":"a"}"#,
            r#"{"id":"a","summary":null,"start":null,"organizer":null}"#,
        ] {
            let parsed = ParsedEvent::parse(raw.as_bytes());
            let view = parsed.readable().unwrap();
            assert_eq!(
                (view.created, view.organizer_self, view.all_day()),
                (None, None, None)
            );
        }
        let cancelled = ParsedEvent::parse(br#"{"id":"a","status":"cancelled"}"#);
        assert!(cancelled.readable().unwrap().cancelled);
    }

    #[test]
    fn a_field_of_another_type_spoils_only_its_event_and_keeps_the_id() {
        for (name, value) in [
            ("summary", json!(5)),
            ("description", json!(["x"])),
            ("start", json!("2026-03-01")),
            ("start", json!({"date": "2026-02-30"})),
            (
                "start",
                json!({"date": "2026-02-03", "dateTime": "2026-02-03T00:00:00Z"}),
            ),
            ("end", json!({"dateTime": "tomorrow"})),
            ("created", json!("yesterday")),
            ("updated", json!(12)),
            ("attendees", json!({"email": "b@example.com"})),
            ("organizer", json!({"self": "yes"})),
            ("recurrence", json!("RRULE:FREQ=DAILY")),
            ("attendeesOmitted", json!("true")),
            ("eventType", json!(1)),
            ("reminders", json!([])),
        ] {
            let mut event = full();
            event[name] = value;
            let bad = unreadable(event.to_string().as_bytes());
            assert_eq!(bad.id.as_deref(), Some("abc123"), "{name}");
            assert!(bad.why.starts_with(name), "{}", bad.why);
            assert!(bad.guess.is_some(), "{name}");
        }
    }

    #[test]
    fn a_lone_surrogate_spoils_only_its_event_and_keeps_the_id_and_a_guess() {
        for escape in ["\\ud800", "\\uDC00", "\\ud83d\\ud83d\\ude00", "\\udbff\\n"] {
            let raw = full().to_string().replace("Example", escape);
            let bad = unreadable(raw.as_bytes());
            assert_eq!(bad.id.as_deref(), Some("abc123"), "{escape}");
            let guess = bad.guess.unwrap();
            assert!(
                guess
                    .summary
                    .unwrap()
                    .starts_with("PWD Expiration: \u{fffd}"),
                "{escape}"
            );
        }
        let whole = full()
            .to_string()
            .replace("Example", "\\ud83d\\ude00 \\\\ud800 \\u00e9 \\\"");
        let parsed = ParsedEvent::parse(whole.as_bytes());
        let summary = parsed.readable().unwrap().summary.clone().unwrap();
        assert_eq!(summary, "PWD Expiration: \u{1f600} \\ud800 é \"");
    }

    #[test]
    fn bytes_that_are_no_json_give_an_id_only_where_the_event_itself_has_one() {
        let mut raw = full().to_string().into_bytes();
        let at = raw
            .windows(7)
            .position(|window| window == b"Example")
            .unwrap();
        raw[at] = 0xff;
        assert_eq!(unreadable(&raw).id.as_deref(), Some("abc123"));
        for none in [
            &b""[..],
            b"[]",
            b"{\"id\":7}",
            b"{\"id\":\"\"}",
            b"{\"summary\":\"x\"}",
            b"\"id\"",
            b"{\"creator\":{\"id\":\"117\"},\"summary\":\"x",
            b"{\"id\":\"a\",\"id\":\"b\"}",
        ] {
            assert!(
                unreadable(none).id.unwrap_or_default().is_empty(),
                "{none:?}"
            );
        }
        let known = |raw: &[u8]| {
            ParsedEvent::known(raw, Some("asked"))
                .id()
                .map(str::to_owned)
        };
        assert_eq!(known(br#"{"id":"a","id":"b"}"#).as_deref(), Some("asked"));
        assert_eq!(known(br#"{"id":"a"}"#).as_deref(), Some("a"));
        let nameless = ParsedEvent::known(br#"{"id":"a","start":7}"#, None);
        assert_eq!(nameless.id(), None);
        // An id that itself holds the bad escape is not a recovered id.
        assert_eq!(unreadable(br#"{"id":"a\ud800"}"#).id, None);
    }

    #[test]
    fn debug_shows_nothing_a_person_wrote() {
        let shown = format!("{:?}", ParsedEvent::parse(full().to_string().as_bytes()));
        assert!(
            !shown.contains("Example") && !shown.contains("example.com"),
            "{shown}"
        );
    }
}
