//! `events.list` and `events.instances`: filters, pages and sync tokens.

use chrono::{DateTime, Days, FixedOffset, NaiveDate, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::store::{Calendar, Stored};
use super::{errors, params, text};
use crate::clock::rfc3339_ms;
use crate::dice::Dice;
use crate::fernet::hmac_sha256;
use crate::http::{Incoming, Reply};

/// What a fault does to one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PageTweak {
    #[default]
    None,
    Loop,
    Duplicate,
    Empty,
    Short,
}

/// How pages come out when no fault meddles: Google may answer short or empty pages at any time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PageShape {
    /// Share of pages that hold fewer items than asked for.
    pub short: f64,
    /// Share of pages that hold none, with more to come.
    pub empty: f64,
}

/// Parameters that a sync token excludes.
const NOT_WITH_SYNC: [&str; 8] = [
    "iCalUID",
    "orderBy",
    "privateExtendedProperty",
    "q",
    "sharedExtendedProperty",
    "timeMin",
    "timeMax",
    "updatedMin",
];

/// The most items of one page, whatever is asked for.
const PAGE_MAX: usize = 2_500;
/// Items of a page when nothing is asked for.
const PAGE_DEFAULT: usize = 250;
/// How far back `updatedMin` may reach: 28 days, about what Google keeps.
const UPDATED_MIN_DAYS: u64 = 28;

/// A place in a listing. Page tokens carry it, signed, so that a made-up or altered one is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    /// Digest of the calendar and of every other parameter.
    query: String,
    /// Position after which the page starts.
    after: u64,
    /// Change up to which the listing tells.
    until: u64,
    /// Number of the page: tokens of empty pages differ too.
    page: u64,
}

/// What signs tokens, and what is drawn for page shapes.
#[derive(Debug, Clone)]
pub(crate) struct Paging {
    pub(crate) secret: [u8; 32],
    pub(crate) shape: PageShape,
    pub(crate) dice: Dice,
}

impl Paging {
    fn seal(&self, kind: char, payload: &str) -> String {
        use base64::Engine;
        let mac = hmac_sha256(&self.secret, format!("{kind}{payload}").as_bytes());
        let mut bytes = mac[..9].to_vec();
        bytes.extend(payload.as_bytes());
        format!(
            "C{kind}{}",
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
        )
    }

    fn open(&self, kind: char, token: &str) -> Option<String> {
        use base64::Engine;
        let text = token.strip_prefix('C')?.strip_prefix(kind)?;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(text)
            .ok()?;
        let (mac, payload) = bytes.split_at_checked(9)?;
        let payload = String::from_utf8(payload.to_vec()).ok()?;
        let expected = hmac_sha256(&self.secret, format!("{kind}{payload}").as_bytes());
        (expected[..9] == *mac).then_some(payload)
    }

    fn page_token(&self, cursor: &Cursor) -> String {
        let Cursor {
            query,
            after,
            until,
            page,
        } = cursor;
        self.seal('p', &format!("{query} {after} {until} {page}"))
    }

    fn cursor(&self, token: &str) -> Option<Cursor> {
        let payload = self.open('p', token)?;
        let mut parts = payload.split(' ');
        Some(Cursor {
            query: parts.next()?.to_owned(),
            after: parts.next()?.parse().ok()?,
            until: parts.next()?.parse().ok()?,
            page: parts.next()?.parse().ok()?,
        })
    }

    /// A token that stands for every change of a calendar up to one.
    pub(crate) fn sync_token(&self, calendar: &str, change: u64) -> String {
        self.seal('s', &format!("{} {change}", digest(calendar.as_bytes())))
    }

    fn synced(&self, calendar: &str, token: &str) -> Option<u64> {
        let payload = self.open('s', token)?;
        let (name, change) = payload.split_once(' ')?;
        (name == digest(calendar.as_bytes()))
            .then(|| change.parse().ok())
            .flatten()
    }

    /// How many items the next page may hold.
    fn size(&mut self, wanted: usize, tweak: PageTweak) -> usize {
        match tweak {
            PageTweak::Empty => 0,
            PageTweak::Short => 1,
            _ if self.shape.empty > 0.0 && self.dice.chance(self.shape.empty) => 0,
            _ if self.shape.short > 0.0 && self.dice.chance(self.shape.short) => {
                1 + self.dice.index(wanted)
            }
            _ => wanted,
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8]
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// What a listing lets through.
struct Filter<'a> {
    show_deleted: bool,
    single: bool,
    incremental: bool,
    words: Vec<String>,
    time_min: Option<DateTime<FixedOffset>>,
    time_max: Option<DateTime<FixedOffset>>,
    updated_min: Option<DateTime<FixedOffset>>,
    ical_uid: Option<&'a str>,
    types: Vec<&'a str>,
    private: Vec<(&'a str, &'a str)>,
    shared: Vec<(&'a str, &'a str)>,
}

impl<'a> Filter<'a> {
    fn new(request: &'a Incoming) -> Self {
        let all = |wanted: &str| -> Vec<&'a str> {
            request
                .query
                .iter()
                .filter(|(name, _)| name == wanted)
                .map(|(_, value)| value.as_str())
                .collect()
        };
        let pairs = |wanted: &str| {
            all(wanted)
                .into_iter()
                .filter_map(|p| p.split_once('='))
                .collect()
        };
        Self {
            show_deleted: params::flag(request, "showDeleted"),
            single: params::flag(request, "singleEvents"),
            incremental: request.param("syncToken").is_some(),
            words: words(request.param("q").unwrap_or_default()),
            time_min: request.param("timeMin").and_then(params::instant),
            time_max: request.param("timeMax").and_then(params::instant),
            updated_min: request.param("updatedMin").and_then(params::instant),
            ical_uid: request.param("iCalUID"),
            types: all("eventTypes"),
            private: pairs("privateExtendedProperty"),
            shared: pairs("sharedExtendedProperty"),
        }
    }

    fn lets(&self, event: &Stored) -> bool {
        let fields = &event.fields;
        if self.incremental {
            return true;
        }
        if event.cancelled() && !self.show_deleted && self.updated_min.is_none() {
            return false;
        }
        if event.presence == super::Presence::Gone {
            return false;
        }
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let property = |kind: &str, (name, value): &(&str, &str)| {
            fields
                .get("extendedProperties")
                .and_then(|all| all.get(kind)?.get(*name))
                == Some(&Value::from(*value))
        };
        let updated = text("updated").and_then(params::instant);
        self.ical_uid.is_none_or(|uid| text("iCalUID") == Some(uid))
            && (self.types.is_empty()
                || self.types.contains(&text("eventType").unwrap_or("default")))
            && self.private.iter().all(|pair| property("private", pair))
            && self.shared.iter().all(|pair| property("shared", pair))
            && self
                .updated_min
                .is_none_or(|min| updated.is_none_or(|at| at >= min))
            && self
                .time_min
                .is_none_or(|min| moment(fields.get("end")).is_none_or(|end| end > min))
            && self
                .time_max
                .is_none_or(|max| moment(fields.get("start")).is_none_or(|at| at < max))
            && self.found(event)
    }

    /// Google's free text: every word of the query is a word of the event.
    fn found(&self, event: &Stored) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let mut have = Vec::new();
        for name in ["summary", "description", "location"] {
            have.extend(words(
                event
                    .fields
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            ));
        }
        for guest in event
            .fields
            .get("attendees")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            for name in ["email", "displayName"] {
                have.extend(words(
                    guest.get(name).and_then(Value::as_str).unwrap_or_default(),
                ));
            }
        }
        self.words.iter().all(|word| have.contains(word))
    }

    fn items(&self, event: &Stored) -> Vec<String> {
        if event.cancelled() && !self.show_deleted && self.incremental
            || event.presence == super::Presence::Gone
        {
            return vec![event.tombstone().to_string()];
        }
        if self.single && event.fields.contains_key("recurrence") && !event.cancelled() {
            return instances(event)
                .iter()
                .map(|one| text::reveal(one.to_string()))
                .collect();
        }
        vec![event.render()]
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The instant of a `start` or `end`; a date counts from midnight UTC.
fn moment(value: Option<&Value>) -> Option<DateTime<FixedOffset>> {
    let value = value?;
    if let Some(text) = value.get("dateTime").and_then(Value::as_str) {
        return params::instant(text);
    }
    let date: NaiveDate = value.get("date")?.as_str()?.parse().ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().fixed_offset())
}

/// The first occurrences of a recurring event. Only `FREQ=DAILY|WEEKLY` with `COUNT` are worked out, at most 10 of them:
/// enough to show that a client which expands series sees ids that are not the series' own.
fn instances(event: &Stored) -> Vec<Value> {
    let rule = event
        .fields
        .get("recurrence")
        .and_then(|rules| rules.get(0)?.as_str());
    let rule = rule.unwrap_or_default();
    let step = if rule.contains("FREQ=DAILY") { 1 } else { 7 };
    let count = rule
        .split(';')
        .find_map(|part| part.strip_prefix("COUNT="))
        .and_then(|count| count.parse::<u64>().ok())
        .unwrap_or(10)
        .min(10);
    let id = event
        .fields
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let shift = |name: &str, days: u64| -> Option<Value> {
        let value = event.fields.get(name)?;
        let days = Days::new(days);
        if let Some(date) = value.get("date").and_then(Value::as_str) {
            let date = date.parse::<NaiveDate>().ok()?.checked_add_days(days)?;
            return Some(json!({ "date": date.to_string() }));
        }
        let at = params::instant(value.get("dateTime")?.as_str()?)?.checked_add_days(days)?;
        Some(json!({ "dateTime": at.to_rfc3339() }))
    };
    (0..count)
        .filter_map(|n| {
            let start = shift("start", n * step)?;
            let mut fields = event.fields.clone();
            fields.remove("recurrence");
            let stamp: String = start
                .get("date")
                .or_else(|| start.get("dateTime"))?
                .as_str()?
                .chars()
                .filter(char::is_ascii_digit)
                .take(8)
                .collect();
            fields.insert("id".to_owned(), format!("{id}_{stamp}").into());
            fields.insert("recurringEventId".to_owned(), id.into());
            fields.insert("originalStartTime".to_owned(), start.clone());
            fields.insert("start".to_owned(), start);
            fields.insert("end".to_owned(), shift("end", n * step)?);
            Some(Value::Object(fields))
        })
        .collect()
}

/// `events.list`.
pub(crate) fn list(
    calendar: &Calendar,
    request: &Incoming,
    paging: &mut Paging,
    tweak: PageTweak,
    now: DateTime<Utc>,
) -> Result<Reply, Reply> {
    let filter = Filter::new(request);
    if let (Some(min), Some(max)) = (filter.time_min, filter.time_max)
        && min >= max
    {
        return Err(errors::time_range_empty());
    }
    if filter
        .updated_min
        .is_some_and(|min| min < now - Days::new(UPDATED_MIN_DAYS))
    {
        return Err(errors::updated_min_too_long_ago());
    }
    if request.param("orderBy") == Some("startTime") && !filter.single {
        return Err(errors::envelope(
            400,
            "calendar",
            "orderByStartTimeRequiresSingleEvents",
            "The requested ordering is not available for the particular query.",
        ));
    }
    let from = match request.param("syncToken") {
        None => None,
        Some(token) => {
            if let Some(name) = NOT_WITH_SYNC
                .into_iter()
                .find(|name| request.param(name).is_some())
            {
                return Err(errors::located(
                    400,
                    "global",
                    "invalid",
                    &format!("Sync token cannot be used with {name}."),
                    Some(("parameter", name)),
                ));
            }
            let change = paging
                .synced(&calendar.id, token)
                .ok_or_else(|| errors::bad_parameter("syncToken", token))?;
            if change < calendar.sync_floor {
                return Err(errors::full_sync_required());
            }
            Some(change)
        }
    };

    let query = fingerprint(&calendar.id, request);
    let cursor = match request.param("pageToken") {
        None => Cursor {
            query,
            after: from.unwrap_or(0),
            until: calendar.change,
            page: 0,
        },
        Some(token) => paging
            .cursor(token)
            .filter(|cursor| cursor.query == query)
            .ok_or_else(|| errors::bad_parameter("pageToken", token))?,
    };
    let wanted = request
        .param("maxResults")
        .and_then(|text| text.parse().ok())
        .unwrap_or(PAGE_DEFAULT)
        .min(PAGE_MAX);
    let size = paging.size(wanted, tweak);

    let mut items = Vec::new();
    if tweak == PageTweak::Duplicate && from.is_none() {
        let again = calendar
            .before(cursor.after)
            .filter(|event| filter.lets(event))
            .take(2);
        items.extend(again.flat_map(|event| filter.items(event)));
    }
    let (taken, next) = page(
        calendar,
        &filter,
        &cursor,
        from,
        request.param("orderBy"),
        size,
    );
    items.extend(taken);
    if tweak == PageTweak::Duplicate && cursor.after == from.unwrap_or(0) {
        items.extend(items.first().cloned());
    }

    let next = match (tweak, next) {
        (PageTweak::Loop, _) => Some(match request.param("pageToken") {
            Some(own) => own.to_owned(),
            None => paging.page_token(&cursor),
        }),
        (_, Some(after)) => Some(paging.page_token(&Cursor {
            after,
            page: cursor.page + 1,
            ..cursor.clone()
        })),
        (PageTweak::Empty | PageTweak::Short, None) => None,
        (_, None) => None,
    };
    let restricted = NOT_WITH_SYNC
        .into_iter()
        .any(|name| request.param(name).is_some());
    Ok(answer(
        calendar,
        &items,
        next,
        (!restricted).then(|| paging.sync_token(&calendar.id, cursor.until)),
    ))
}

/// One page's items, and the position of the next page if there is one.
fn page(
    calendar: &Calendar,
    filter: &Filter<'_>,
    cursor: &Cursor,
    from: Option<u64>,
    order: Option<&str>,
    size: usize,
) -> (Vec<String>, Option<u64>) {
    let position = |event: &Stored| {
        if from.is_some() {
            event.change
        } else {
            event.ordinal
        }
    };
    let mut rest: Box<dyn Iterator<Item = (u64, &Stored)>> = match (from, order) {
        (Some(_), _) => Box::new(
            calendar
                .changed(cursor.after, cursor.until)
                .map(|event| (position(event), event)),
        ),
        (None, None) => Box::new(
            calendar
                .after(cursor.after)
                .map(|event| (position(event), event)),
        ),
        (None, Some(order)) => {
            let mut all: Vec<&Stored> = calendar.after(0).collect();
            all.sort_by_key(|event| {
                let key = match order {
                    "updated" => event
                        .fields
                        .get("updated")
                        .and_then(Value::as_str)
                        .and_then(params::instant),
                    _ => moment(event.fields.get("start")),
                };
                (key, event.ordinal)
            });
            let skip = usize::try_from(cursor.after).unwrap_or(usize::MAX);
            Box::new((1..).zip(all).skip(skip))
        }
    };
    let mut items = Vec::new();
    let mut last = cursor.after;
    for (at, event) in rest.by_ref() {
        if filter.lets(event) {
            if items.len() >= size {
                return (items, Some(last));
            }
            items.extend(filter.items(event));
        }
        last = at;
    }
    (items, None)
}

/// Everything that must be repeated unchanged with a page token.
fn fingerprint(calendar: &str, request: &Incoming) -> String {
    const FREE: [&str; 6] = [
        "pageToken",
        "alt",
        "prettyPrint",
        "quotaUser",
        "userIp",
        "key",
    ];
    let mut parts: Vec<_> = request
        .query
        .iter()
        .filter(|(name, _)| !FREE.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    parts.sort();
    parts.push(calendar.to_owned());
    digest(parts.join("&").as_bytes())
}

fn answer(
    calendar: &Calendar,
    items: &[String],
    next: Option<String>,
    sync: Option<String>,
) -> Reply {
    let mut head = json!({
        "kind": "calendar#events",
        "etag": format!("\"p{:016x}\"", calendar.change),
        "summary": calendar.id,
        "updated": rfc3339_ms(calendar.updated),
        "timeZone": calendar.time_zone,
        "accessRole": "owner",
        "defaultReminders": [{"method": "popup", "minutes": 10}],
    });
    match (next, sync) {
        (Some(token), _) => head["nextPageToken"] = token.into(),
        (None, Some(token)) => head["nextSyncToken"] = token.into(),
        (None, None) => {}
    }
    // The items are text already: one that no JSON value can hold must go out as it is.
    let mut text = head.to_string();
    text.pop();
    text.push_str(",\"items\":[");
    text.push_str(&items.join(","));
    text.push_str("]}");
    Reply::json_text(200, text)
}

/// `events.instances`: all on one page.
pub(crate) fn list_instances(calendar: &Calendar, event: &Stored) -> Reply {
    let items: Vec<_> = if event.fields.contains_key("recurrence") {
        instances(event)
            .iter()
            .map(|one| text::reveal(one.to_string()))
            .collect()
    } else {
        Vec::new()
    };
    answer(calendar, &items, None, None)
}
