//! What a listing lets through: parameters, free text and the occurrences of series.

use chrono::{DateTime, Days, FixedOffset, NaiveDate};
use serde_json::{Value, json};

use super::store::{Presence, Stored};
use super::{params, text};
use crate::http::Incoming;

/// What a listing lets through.
pub(crate) struct Filter<'a> {
    show_deleted: bool,
    pub(crate) single: bool,
    incremental: bool,
    words: Vec<String>,
    pub(crate) time_min: Option<DateTime<FixedOffset>>,
    pub(crate) time_max: Option<DateTime<FixedOffset>>,
    pub(crate) updated_min: Option<DateTime<FixedOffset>>,
    ical_uid: Option<&'a str>,
    types: Vec<&'a str>,
    private: Vec<(&'a str, &'a str)>,
    shared: Vec<(&'a str, &'a str)>,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(request: &'a Incoming) -> Self {
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

    pub(crate) fn lets(&self, event: &Stored) -> bool {
        let fields = &event.fields;
        if self.incremental {
            return true;
        }
        // An occurrence of a series that was called off is listed, unless the series is listed by its occurrences.
        let called_off = fields.contains_key("recurringEventId") && !self.single;
        let hides = !self.show_deleted && self.updated_min.is_none() && !called_off;
        if event.cancelled() && hides {
            return false;
        }
        if event.presence == Presence::Gone {
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

    pub(crate) fn items(&self, event: &Stored) -> Vec<String> {
        if event.cancelled() && !self.show_deleted && self.incremental
            || event.presence == Presence::Gone
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
pub(crate) fn moment(value: Option<&Value>) -> Option<DateTime<FixedOffset>> {
    let value = value?;
    if let Some(text) = value.get("dateTime").and_then(Value::as_str) {
        return params::instant(text);
    }
    let date: NaiveDate = value.get("date")?.as_str()?.parse().ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().fixed_offset())
}

/// The first occurrences of a recurring event. Only `FREQ=DAILY|WEEKLY` with `COUNT` are worked out, at most 10 of them:
/// enough to show that a client which expands series sees ids that are not the series' own.
pub(crate) fn instances(event: &Stored) -> Vec<Value> {
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
