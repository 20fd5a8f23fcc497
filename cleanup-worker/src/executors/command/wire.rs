//! The lines of the protocol: what is asked, and the only shapes in which it may be answered.
//!
//! A line is strict JSON: no name twice, no number that is no whole number, no member that is not named here. Errors say what was
//! expected and never repeat what came, which may be personal.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use ledger::chain::canonical;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::error::Trouble;
use crate::clients::{Effect, ErrorClass};
use crate::executors::ItemError;

/// Years that a time or a day may be of: those that RFC 3339 can write. Calculating with others could leave what can be represented.
const YEARS: RangeInclusive<i32> = 1..=9999;

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let time = Option::<DateTime<Utc>>::deserialize(from)?;
    let is_meant = time.is_none_or(|time| YEARS.contains(&time.year()));
    is_meant.then_some(time).ok_or_else(far_away)
}

fn day<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NaiveDate>, D::Error> {
    let day = Option::<NaiveDate>::deserialize(from)?;
    let is_meant = day.is_none_or(|day| YEARS.contains(&day.year()));
    is_meant.then_some(day).ok_or_else(far_away)
}

fn far_away<E: serde::de::Error>() -> E {
    E::custom("a time is of the years 1 to 9999")
}

/// Version of the protocol.
pub(super) const PROTOCOL: u64 = 1;
/// Longest line of an answer, in bytes.
pub const LINE_MAX: usize = 8 * 1024 * 1024;
/// Largest item that can be kept in an entry, in bytes.
pub const BYTES_MAX: usize = 5 * 1024 * 1024;
/// Longest id, version, cursor or detail, in bytes.
const TEXT_MAX: usize = 4096;
/// Longest reason, in characters.
const REASON_MAX: usize = 500;

/// What changes nothing.
#[derive(Debug, Serialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub(super) enum Question<'a> {
    Hello {
        protocol: u64,
        read_only: bool,
    },
    Inventory {
        parameters: &'a BTreeMap<String, i64>,
    },
    Read {
        #[serde(flatten)]
        at: At<'a>,
        item: &'a str,
    },
    Backup {
        #[serde(flatten)]
        at: At<'a>,
        item: &'a str,
        version: &'a str,
    },
    Observe {
        #[serde(flatten)]
        at: At<'a>,
        cursor: Option<&'a str>,
    },
}

/// What changes something. A type of its own, so that whoever can only ask cannot send it.
#[derive(Debug, Serialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub(super) enum Change<'a> {
    Delete {
        #[serde(flatten)]
        at: At<'a>,
        item: &'a str,
        version: &'a str,
        limit_ms: u64,
    },
    Restore {
        #[serde(flatten)]
        at: At<'a>,
        item: &'a str,
        base64: String,
        limit_ms: u64,
    },
}

/// A place and the users through whom it was found.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct At<'a> {
    pub(super) place: &'a str,
    pub(super) users: &'a [String],
}

/// A request as one line with its number.
pub(super) fn line(id: u64, request: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Numbered<'a, R> {
        id: u64,
        #[serde(flatten)]
        request: &'a R,
    }
    let mut line = serde_json::to_vec(&Numbered { id, request })?;
    line.push(b'\n');
    Ok(line)
}

/// An answer's shape, beside its number.
pub(super) trait Answer: DeserializeOwned {
    /// The verb that it answers.
    const VERB: &'static str;
    /// How it has to look, for whoever writes the program.
    const EXPECTED: &'static str;
}

/// What came instead of an error of the transport: an answer, or the program's own error.
pub(super) type Said<T> = Result<T, Refusal>;

/// Reads one line as the answer to request `id`.
pub(super) fn read<T: Answer>(line: &[u8], id: u64) -> Result<Said<T>, Trouble> {
    let wrong = |how: &str| Trouble::Answer {
        verb: T::VERB,
        how: how.to_owned(),
        expected: T::EXPECTED,
    };
    let value = canonical::parse(line).map_err(|error| wrong(&error.reason()))?;
    let Value::Object(mut answer) = value else {
        return Err(wrong("no JSON object"));
    };
    let answered = answer.remove("id").and_then(|id| id.as_u64());
    match answered {
        Some(answered) if answered == id => {}
        Some(answered) => {
            return Err(Trouble::Order {
                verb: T::VERB,
                asked: id,
                answered,
            });
        }
        None => return Err(wrong("no number `id`")),
    }
    if let Some(error) = answer.remove("error") {
        if !answer.is_empty() {
            return Err(wrong("an error and something else in one line"));
        }
        return parse::<RefusalLine>(error)
            .map(|error| Err(Refusal::from(error)))
            .map_err(|()| Trouble::Answer {
                verb: T::VERB,
                how: "an error of another shape".to_owned(),
                expected: REFUSAL,
            });
    }
    let answer = parse::<T>(Value::Object(answer));
    answer
        .map(Ok)
        .map_err(|()| wrong("an object of another shape"))
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<T, ()> {
    serde_json::from_value(value).map_err(|error| {
        // It may repeat what came, so it is for whoever debugs the program only.
        tracing::debug!(%error, "the program's answer is refused");
    })
}

/// `deleted` and the like, which are true or are not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Yes;

impl<'de> Deserialize<'de> for Yes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if bool::deserialize(from)? {
            Ok(Self)
        } else {
            Err(serde::de::Error::custom("must be true"))
        }
    }
}

/// A text of bounded length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() || text.len() > TEXT_MAX || text.contains('\0') {
            return Err(serde::de::Error::custom("must have 1 to 4096 bytes"));
        }
        Ok(Self(text))
    }
}

pub(super) fn text(text: Option<Text>) -> Option<String> {
    text.map(|text| text.0)
}

/// Bytes in base64, the padded standard alphabet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base64(pub(super) Bytes);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        if bytes.len() > BYTES_MAX {
            return Err(serde::de::Error::custom("is longer than 5 MiB"));
        }
        Ok(Self(bytes.into()))
    }
}

/// Answer to `hello`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HelloAnswer {
    /// Kept as it came: its digest is part of the plan.
    pub(super) hello: Map<String, Value>,
}

impl Answer for HelloAnswer {
    const VERB: &'static str = "hello";
    const EXPECTED: &'static str = r#"{"id":N,"hello":{"protocol":1,"kind":..,"owner_kind":..,"user_kind":..,"signals":{..},..}}"#;
}

/// One line of the answer to `inventory`: exactly one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, untagged)]
pub(super) enum InventoryAnswer {
    User { user: UserLine },
    Place { place: PlaceLine },
    Item { item: Box<ItemLine> },
    End(InventoryEnd),
}

impl Answer for InventoryAnswer {
    const VERB: &'static str = "inventory";
    const EXPECTED: &'static str = r#"{"id":N,"user":{..}}, {"id":N,"place":{..}}, {"id":N,"item":{..}} or, last, {"id":N,"end":true,"count":M}"#;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserLine {
    pub(super) id: Text,
    pub(super) email: Option<Text>,
    #[serde(default)]
    pub(super) soft_deleted: bool,
    #[serde(default)]
    pub(super) recorded: u64,
    pub(super) credential: Option<Text>,
    pub(super) place: Option<Text>,
    pub(super) unreachable: Option<UnreachableLine>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnreachableLine {
    pub(super) code: Text,
    pub(super) class: ErrorClass,
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) attempts: u32,
    pub(super) reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceLine {
    pub(super) id: Text,
    pub(super) cursor: Option<Text>,
    #[serde(default)]
    pub(super) items: u64,
    #[serde(default)]
    pub(super) whole: bool,
    #[serde(default, deserialize_with = "time")]
    pub(super) date: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemLine {
    pub(super) place: Option<Text>,
    pub(super) id: Text,
    pub(super) users: Vec<Text>,
    pub(super) version: Option<Text>,
    pub(super) base64: Option<Base64>,
    #[serde(default, deserialize_with = "day")]
    pub(super) date: Option<NaiveDate>,
    pub(super) covered: Option<bool>,
    pub(super) signals: BTreeMap<String, FactLine>,
    #[serde(default)]
    pub(super) conditions: BTreeMap<String, FactLine>,
}

/// `true`, or `{"holds":true,"detail":"14 days"}`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum FactLine {
    Holds(bool),
    With(FactWith),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FactWith {
    pub(super) holds: bool,
    pub(super) detail: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InventoryEnd {
    #[expect(dead_code, reason = "that it stands there is what it says")]
    pub(super) end: Yes,
    pub(super) count: u64,
    #[serde(default)]
    pub(super) others: u64,
    #[serde(default, deserialize_with = "time")]
    pub(super) date: Option<DateTime<Utc>>,
}

/// Answer to `read`.
#[derive(Debug, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ReadAnswer {
    There {
        version: Option<Text>,
        base64: Option<Base64>,
    },
    Deleted {
        #[serde(default, deserialize_with = "time")]
        at: Option<DateTime<Utc>>,
    },
    Absent {},
}

impl Answer for ReadAnswer {
    const VERB: &'static str = "read";
    const EXPECTED: &'static str = r#"{"id":N,"found":"there","version":..,"base64":..}, {"id":N,"found":"deleted","at":..} or {"id":N,"found":"absent"}"#;
}

/// Answer to `backup`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupAnswer {
    /// Null where it has another version by now; the member has to be there.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) base64: Option<Base64>,
}

impl Answer for BackupAnswer {
    const VERB: &'static str = "backup";
    const EXPECTED: &'static str =
        r#"{"id":N,"base64":".."}, or {"id":N,"base64":null} where the version is another"#;
}

/// Answer to `delete`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteAnswer {
    #[expect(dead_code, reason = "that it stands there is what it says")]
    pub(super) deleted: Yes,
    pub(super) status: Option<u16>,
    #[serde(default, deserialize_with = "time")]
    pub(super) date: Option<DateTime<Utc>>,
}

impl Answer for DeleteAnswer {
    const VERB: &'static str = "delete";
    const EXPECTED: &'static str = r#"{"id":N,"deleted":true}, or {"id":N,"error":{..}}"#;
}

/// Answer to `restore`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreAnswer {
    pub(super) restored: RestoredLine,
    pub(super) status: Option<u16>,
    #[serde(default, deserialize_with = "time")]
    pub(super) date: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoredLine {
    pub(super) version: Option<Text>,
}

impl Answer for RestoreAnswer {
    const VERB: &'static str = "restore";
    const EXPECTED: &'static str =
        r#"{"id":N,"restored":{"version":".."}}, or {"id":N,"error":{..}}"#;
}

/// One line of the answer to `observe`: exactly one of these.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
pub(super) enum ObserveAnswer {
    Seen { seen: SeenLine },
    End(ObserveEnd),
}

impl Answer for ObserveAnswer {
    const VERB: &'static str = "observe";
    const EXPECTED: &'static str = r#"{"id":N,"seen":{"id":"..","version":".."}} or, last, {"id":N,"end":true,"count":M,"whole":true}"#;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeenLine {
    pub(super) id: Text,
    pub(super) version: Option<Text>,
    #[serde(default)]
    pub(super) gone: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObserveEnd {
    #[expect(dead_code, reason = "that it stands there is what it says")]
    pub(super) end: Yes,
    pub(super) count: u64,
    pub(super) whole: bool,
    pub(super) cursor: Option<Text>,
    #[serde(default, deserialize_with = "time")]
    pub(super) date: Option<DateTime<Utc>>,
}

const REFUSAL: &str = r#"{"class":"auth|quota|not_found|gone|conflict|server|network|decrypt|refused","effect":"none|unknown","reason":"..","status":..,"may_pass":..,"retry_after_ms":..,"stops_user":..}"#;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusalLine {
    class: ErrorClass,
    status: Option<u16>,
    effect: Option<EffectWord>,
    #[serde(default)]
    may_pass: bool,
    retry_after_ms: Option<u64>,
    #[serde(default)]
    stops_user: bool,
    #[serde(default, deserialize_with = "time")]
    date: Option<DateTime<Utc>>,
    reason: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EffectWord {
    None,
    Unknown,
}

/// The program's own error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    class: ErrorClass,
    status: Option<u16>,
    /// As it says; where it does not say, the verb decides.
    effect: Option<Effect>,
    may_pass: bool,
    retry_after: Option<Duration>,
    stops_user: bool,
    date: Option<DateTime<Utc>>,
    reason: String,
}

impl From<RefusalLine> for Refusal {
    fn from(line: RefusalLine) -> Self {
        Self {
            class: line.class,
            status: line.status,
            effect: line.effect.map(|word| match word {
                EffectWord::None => Effect::None,
                EffectWord::Unknown => Effect::Unknown,
            }),
            may_pass: line.may_pass,
            retry_after: line.retry_after_ms.map(Duration::from_millis),
            stops_user: line.stops_user,
            date: line.date,
            reason: reason(&line.reason),
        }
    }
}

impl Refusal {
    /// As the engine takes it. `usual`: the effect where the program does not say.
    pub(super) fn into_error(self, attempt: u32, usual: Effect) -> ItemError {
        ItemError {
            class: self.class,
            status: self.status,
            attempt,
            date: self.date,
            retry_after: self.retry_after,
            effect: self.effect.unwrap_or(usual),
            may_pass: self.may_pass,
            stops_user: self.stops_user,
            stops_run: false,
            reason: self.reason,
        }
    }
}

/// A reason as it may stand in an entry: one line, of bounded length, without what looks like an address.
pub(super) fn reason(text: &str) -> String {
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .map(|word| {
            if word.contains('@') {
                "(address)"
            } else {
                word
            }
        });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(REASON_MAX).collect()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
