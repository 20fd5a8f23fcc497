//! The names that stand in an entry. Each is checked once, when it is made, and cannot be changed afterwards.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;
/// Longest event type, actor or subject kind, in bytes; keeps an entry far below its limit of 8 KiB.
pub const NAME_BYTES_MAX: usize = 128;

/// A text that cannot be a name in an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, or longer than the limit.
    #[error("{what} must have 1 to {max} bytes, not {len}")]
    Length {
        /// Which name.
        what: &'static str,
        /// Limit in bytes.
        max: usize,
        /// Length found in bytes.
        len: usize,
    },
    /// A byte outside `[a-z0-9._:/-]`. The text is not repeated: it may be personal.
    #[error("{what} may hold only a-z, 0-9 and . _ : / - (byte {at} is something else)")]
    Character {
        /// Which name.
        what: &'static str,
        /// Offset of the first byte that is not allowed.
        at: usize,
    },
    /// Right characters, wrong shape.
    #[error("{what} must look like {shape}")]
    Shape {
        /// Which name.
        what: &'static str,
        /// What it should look like.
        shape: &'static str,
    },
}

fn checked(what: &'static str, max: usize, text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > max {
        return Err(NameError::Length {
            what,
            max,
            len: text.len(),
        });
    }
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b':' | b'/' | b'-');
    match text.bytes().position(|b| !allowed(b)) {
        Some(at) => Err(NameError::Character { what, at }),
        None => Ok(()),
    }
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes a UUID as this kind of id.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }
            /// The UUID itself.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                parse_uuid($what, text).map(Self)
            }
        }
        text_serde!($name);
    };
}

/// Only the hyphenated lower-case form: one id has one text.
fn parse_uuid(what: &'static str, text: &str) -> Result<Uuid, NameError> {
    const SHAPE: &str = "01234567-89ab-cdef-0123-456789abcdef";
    // Of the forms that are read, only the hyphenated one has 36 bytes.
    let canonical = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
    match Uuid::try_parse(text) {
        Ok(uuid) if canonical => Ok(uuid),
        _ => Err(NameError::Shape { what, shape: SHAPE }),
    }
}

uuid_id!(
    /// One ledger, which has one chain.
    LedgerId,
    "a ledger id"
);
uuid_id!(
    /// One entry (UUIDv7).
    EntryId,
    "an entry id"
);
uuid_id!(
    /// One run of a command that acts.
    RunId,
    "a run id"
);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(CompactString);

        impl $name {
            /// The text as it stands in the entry.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                checked($what, $max, text)?;
                $name::check_shape(text)?;
                Ok(Self(text.into()))
            }
        }
        text_serde!($name);
    };
}

text_id!(
    /// What makes an append repeatable: the same key with the same content is written once.
    /// Built from UUIDs, never from natural ids.
    IdempotencyKey,
    "an idempotency key",
    KEY_BYTES_MAX
);
text_id!(
    /// A dotted name in the past tense, `item.deleted`.
    EventType,
    "an event type",
    NAME_BYTES_MAX
);
text_id!(
    /// Who caused the entry: `person:<name>`, `worker:<name>` or `system`.
    Actor,
    "an actor",
    NAME_BYTES_MAX
);

impl IdempotencyKey {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the shape of each name's check is the same"
    )]
    fn check_shape(_: &str) -> Result<(), NameError> {
        Ok(())
    }
}

impl EventType {
    fn check_shape(text: &str) -> Result<(), NameError> {
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        };
        if text.split('.').count() >= 2 && text.split('.').all(word) {
            Ok(())
        } else {
            Err(NameError::Shape {
                what: "an event type",
                shape: "thing.happened",
            })
        }
    }
}

const PERSON: &str = "person:";
const WORKER: &str = "worker:";

impl Actor {
    /// The program itself, where no person and no worker acts.
    pub fn system() -> Self {
        Self("system".into())
    }

    /// The person of this name, lower-cased.
    pub fn person(name: &str) -> Result<Self, NameError> {
        format!("{PERSON}{}", name.to_lowercase()).parse()
    }

    /// The worker of this name.
    pub fn worker(name: &str) -> Result<Self, NameError> {
        format!("{WORKER}{name}").parse()
    }

    /// Whether both are one for the four eyes: `worker:bob` is a process of bob's, and what bob may not do it may not do for him.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.name() == other.name()
    }

    /// Whether one of these is the same.
    pub fn is_among<'a>(&self, others: impl IntoIterator<Item = &'a Self>) -> bool {
        others.into_iter().any(|other| self.is_same_as(other))
    }

    /// The name without what it acts as.
    fn name(&self) -> &str {
        let mut name = self.as_str();
        // `--as service:bob` is the person `service:bob`.
        while let Some(rest) = [PERSON, WORKER, "service:"]
            .iter()
            .find_map(|kind| name.strip_prefix(kind))
            .filter(|rest| !rest.is_empty())
        {
            name = rest;
        }
        name
    }

    fn check_shape(text: &str) -> Result<(), NameError> {
        let named = [PERSON, WORKER].iter().any(|prefix| {
            text.strip_prefix(prefix)
                .is_some_and(|name| !name.is_empty())
        });
        if named || text == "system" {
            Ok(())
        } else {
            Err(NameError::Shape {
                what: "an actor",
                shape: "person:<name>, worker:<name> or system",
            })
        }
    }
}

/// What an entry is about: `<kind>:<uuid>`. The UUID is random; the natural id behind it stands in an erasable row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    kind: CompactString,
    uuid: Uuid,
}

impl Subject {
    /// A subject of this kind (`[a-z0-9-]`, starting with a letter).
    pub fn new(kind: &str, uuid: Uuid) -> Result<Self, NameError> {
        check_kind(kind)?;
        Ok(Self {
            kind: kind.into(),
            uuid,
        })
    }

    /// The ledger itself: subject of its first entry, and owner of its index key.
    pub fn of_ledger(ledger: LedgerId) -> Self {
        Self {
            kind: "ledger".into(),
            uuid: ledger.uuid(),
        }
    }

    /// The kind, `calendar-event`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The random part.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }
}

/// Checks the kind of a subject: a lower-case letter, then letters, digits and hyphens.
pub fn check_kind(kind: &str) -> Result<(), NameError> {
    checked("a subject kind", 64, kind)?;
    let good = kind.starts_with(|c: char| c.is_ascii_lowercase())
        && kind
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if good {
        Ok(())
    } else {
        Err(NameError::Shape {
            what: "a subject kind",
            shape: "calendar-event",
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.uuid.as_hyphenated())
    }
}

impl FromStr for Subject {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let shape = NameError::Shape {
            what: "a subject",
            shape: "<kind>:<uuid>, calendar-event:0197…",
        };
        let (kind, id) = text.split_once(':').ok_or(shape)?;
        Self::new(kind, parse_uuid("a subject's id", id)?)
    }
}
text_serde!(Subject);

/// An instant in microseconds, the precision that PostgreSQL keeps. Anything finer is cut off, never rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(DateTime::UNIX_EPOCH);

    /// Cuts the instant to microseconds. Years outside 1 to 9999 have no text of fixed width and are refused.
    pub fn new(instant: DateTime<Utc>) -> Result<Self, NameError> {
        if !(1..=9999).contains(&instant.year()) {
            return Err(NameError::Shape {
                what: "a time",
                shape: "a year from 0001 to 9999",
            });
        }
        DateTime::from_timestamp_micros(instant.timestamp_micros())
            .map(Self)
            .ok_or(NameError::Shape {
                what: "a time",
                shape: "a year from 0001 to 9999",
            })
    }

    /// Microseconds since 1970-01-01T00:00:00Z, as an instant.
    pub fn from_micros(micros: i64) -> Result<Self, NameError> {
        DateTime::from_timestamp_micros(micros)
            .ok_or(NameError::Shape {
                what: "a time",
                shape: "a year from 0001 to 9999",
            })
            .and_then(Self::new)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn micros(self) -> i64 {
        self.0.timestamp_micros()
    }

    /// The instant.
    pub fn instant(self) -> DateTime<Utc> {
        self.0
    }

    /// What a person or another program wrote: RFC 3339 with any offset, or a date alone (its first instant in UTC).
    pub fn parse_lenient(text: &str) -> Result<Self, NameError> {
        if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
            return Self::new(instant.with_timezone(&Utc));
        }
        if let Some(start) = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .and_then(|date| date.and_hms_opt(0, 0, 0))
        {
            return Self::new(start.and_utc());
        }
        Err(NameError::Shape {
            what: "a time",
            shape: "2026-01-15T09:30:00Z or 2026-01-15",
        })
    }
}

impl Timestamp {
    /// `YYYY-MM-DDTHH:MM:SS.ffffffZ`. Written by hand: each entry has two, and a general formatter takes longer over them
    /// than hashing the whole entry.
    pub fn text(self) -> [u8; 27] {
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |from: usize, to: usize, mut number: u32| {
            for digit in text[from..to].iter_mut().rev() {
                *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
                number /= 10;
            }
        };
        let time = self.0;
        put(0, 4, time.year().unsigned_abs());
        put(5, 7, time.month());
        put(8, 10, time.day());
        put(11, 13, time.hour());
        put(14, 16, time.minute());
        put(17, 19, time.second());
        put(20, 26, time.timestamp_subsec_micros());
        text
    }

    fn from_text(text: &str) -> Option<Self> {
        let text: &[u8; 27] = text.as_bytes().try_into().ok()?;
        let marks = [
            (4, b'-'),
            (7, b'-'),
            (10, b'T'),
            (13, b':'),
            (16, b':'),
            (19, b'.'),
            (26, b'Z'),
        ];
        if marks.iter().any(|(at, mark)| text[*at] != *mark) {
            return None;
        }
        let number = |from: usize, to: usize| {
            text[from..to].iter().try_fold(0_u32, |number, digit| {
                digit
                    .is_ascii_digit()
                    .then(|| number * 10 + u32::from(digit - b'0'))
            })
        };
        let year = i32::try_from(number(0, 4)?).ok()?;
        let date = chrono::NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?;
        let time = date.and_hms_micro_opt(
            number(11, 13)?,
            number(14, 16)?,
            number(17, 19)?,
            number(20, 26)?,
        )?;
        Self::new(time.and_utc()).ok()
    }
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`, always 27 bytes.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::from_text(text).ok_or(NameError::Shape {
            what: "a time",
            shape: "2026-01-15T09:30:00.000000Z",
        })
    }
}
text_serde!(Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_could_be_personal_or_ambiguous() {
        for bad in ["", "a@example.com", "Ab", "a b", "ä", "a\n", "a\u{0}"] {
            assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad:?}");
            assert!(format!("person:{bad}").parse::<Actor>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(128).parse::<IdempotencyKey>().is_ok());
        assert!("x".repeat(129).parse::<IdempotencyKey>().is_err());
        assert_eq!(Actor::person("Alice").unwrap().as_str(), "person:alice");
        assert!("root:x".parse::<Actor>().is_err());
        assert!("deleted".parse::<EventType>().is_err());
        assert!("item..deleted".parse::<EventType>().is_err());
        assert!("item.deleted".parse::<EventType>().is_ok());
    }

    #[test]
    fn who_acts_is_one_under_whatever_it_acts_as() {
        let actor = |text: &str| text.parse::<Actor>().unwrap();
        let bob = actor("person:bob");
        for same in ["worker:bob", "person:service:bob", "worker:person:bob"] {
            assert!(
                bob.is_same_as(&actor(same)) && actor(same).is_same_as(&bob),
                "{same}"
            );
        }
        for other in ["person:bobby", "worker:bob-2", "system", "person:service:"] {
            assert!(!bob.is_same_as(&actor(other)), "{other}");
        }
        assert!(actor("worker:bob").is_among(&[Actor::system(), bob.clone()]));
        assert!(!bob.is_among(&[]) && actor("worker:bob").is_among(&[bob]));
    }

    #[test]
    fn an_error_never_repeats_the_text_it_refuses() {
        let error = "carol@example.com".parse::<IdempotencyKey>().unwrap_err();
        assert!(!error.to_string().contains("carol"), "{error}");
    }

    #[test]
    fn a_subject_has_one_text() {
        let text = "calendar-event:0197f1c2-0000-7000-8000-0000000000aa";
        assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        for bad in [
            "calendar-event:0197F1C2-0000-7000-8000-0000000000AA",
            "calendar-event:0197f1c200007000800000000000aaaa",
            "calendar_event:0197f1c2-0000-7000-8000-0000000000aa",
            "1x:0197f1c2-0000-7000-8000-0000000000aa",
            "0197f1c2-0000-7000-8000-0000000000aa",
        ] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_has_one_text_and_no_more_than_microseconds() {
        let text = "2026-01-15T09:30:00.123456Z";
        assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        let nanos = DateTime::from_timestamp(1_768_435_200, 123_456_789).unwrap();
        assert_eq!(
            Timestamp::new(nanos).unwrap().to_string(),
            "2026-01-15T00:00:00.123456Z"
        );
        for bad in [
            "2026-01-15T09:30:00Z",
            "2026-01-15T09:30:00.123Z",
            "2026-01-15T09:30:60.000000Z",
            "2026-01-15 09:30:00.123456Z",
            "2026-01-15T09:30:00.123456+00:00",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        let before_epoch = Timestamp::from_micros(-1).unwrap();
        assert_eq!(before_epoch.to_string(), "1969-12-31T23:59:59.999999Z");
    }
}
