//! Reading and writing one event.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::store::{Calendar, Fields, Presence, Stored, etag};
use super::{errors, params, text};
use crate::clock::rfc3339_ms;
use crate::dice::Dice;
use crate::http::{Incoming, Reply};

/// Fields that a client may set. The rest is Google's, or depends on a flag (attachments, conferenceData), and is dropped.
const WRITABLE: [&str; 28] = [
    "anyoneCanAddSelf",
    "attendees",
    "attendeesOmitted",
    "birthdayProperties",
    "colorId",
    "description",
    "end",
    "endTimeUnspecified",
    "eventType",
    "extendedProperties",
    "focusTimeProperties",
    "gadget",
    "guestsCanInviteOthers",
    "guestsCanModify",
    "guestsCanSeeOtherGuests",
    "location",
    "originalStartTime",
    "outOfOfficeProperties",
    "recurrence",
    "reminders",
    "sequence",
    "source",
    "start",
    "status",
    "summary",
    "transparency",
    "visibility",
    "workingLocationProperties",
];

/// What one's own copy of somebody else's event still lets one change.
const PERSONAL: [&str; 6] = [
    "attendees",
    "colorId",
    "reminders",
    "transparency",
    "visibility",
    "extendedProperties",
];

fn found<'a>(calendar: &'a Calendar, id: &str) -> Result<&'a Stored, Reply> {
    calendar.get(id).ok_or_else(errors::not_found)
}

/// A successful answer that carries the event.
fn shown(event: &Stored) -> Reply {
    Reply::json_text(200, event.render()).with_header("etag", event.etag())
}

fn show(calendar: &Calendar, id: &str) -> Result<Reply, Reply> {
    found(calendar, id).map(shown)
}

/// `events.get`: a cancelled event is still given, with 200.
pub(crate) fn get(calendar: &Calendar, id: &str, request: &Incoming) -> Result<Reply, Reply> {
    let event = found(calendar, id)?;
    if event.presence == Presence::Gone {
        return Err(errors::deleted());
    }
    if request
        .header("if-none-match")
        .is_some_and(|tag| tag == event.etag())
    {
        return Err(Reply::empty(304).with_header("etag", event.etag()));
    }
    Ok(shown(event))
}

/// Refuses a write whose `If-Match` is not the event's present etag.
fn check_etag(event: &Stored, request: &Incoming) -> Result<(), Reply> {
    match request.header("if-match") {
        Some(wanted)
            if wanted != "*" && !wanted.split(',').any(|tag| tag.trim() == event.etag()) =>
        {
            Err(errors::condition_not_met())
        }
        _ => Ok(()),
    }
}

fn is_organizer(event: &Stored) -> bool {
    event
        .fields
        .get("organizer")
        .and_then(|organizer| organizer.get("self"))
        == Some(&true.into())
}

/// `events.delete`: the event becomes a cancelled one.
pub(crate) fn delete(
    calendar: &mut Calendar,
    id: &str,
    request: &Incoming,
    now: DateTime<Utc>,
) -> Result<Reply, Reply> {
    let event = found(calendar, id)?;
    if event.cancelled() {
        return Err(errors::deleted());
    }
    check_etag(event, request)?;
    if event.fields.get("locked") == Some(&true.into()) && !is_organizer(event) {
        return Err(errors::not_organizer());
    }
    let mut fields = event.fields.clone();
    fields.insert("status".to_owned(), "cancelled".into());
    calendar.touch(fields, Presence::Held, now);
    Ok(Reply::empty(204))
}

/// Reads a request's body as an event, lone surrogates included.
fn body(request: &Incoming) -> Result<Fields, Reply> {
    let is_json = request
        .header("content-type")
        .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/json"));
    if !is_json {
        return Err(errors::parse_error());
    }
    let text = std::str::from_utf8(&request.body).map_err(|_| errors::parse_error())?;
    serde_json::from_str(&text::hide(text)).map_err(|_| errors::parse_error())
}

/// The writable part of a body.
fn writable(mut fields: Fields, request: &Incoming) -> Result<Fields, Reply> {
    let mut kept = Map::new();
    for name in WRITABLE {
        if let Some(value) = fields.remove(name) {
            kept.insert(name.to_owned(), value);
        }
    }
    if params::flag(request, "supportsAttachments") {
        kept.extend(
            fields
                .remove("attachments")
                .map(|value| ("attachments".to_owned(), value)),
        );
    }
    if request.param("conferenceDataVersion") == Some("1") {
        let value = fields.remove("conferenceData");
        kept.extend(value.map(|value| ("conferenceData".to_owned(), value)));
    }
    let known: BTreeSet<&str> = ["confirmed", "tentative", "cancelled"].into();
    match kept.get("status") {
        Some(status) if !status.as_str().is_some_and(|status| known.contains(status)) => {
            Err(errors::invalid("Invalid event status."))
        }
        _ => Ok(kept),
    }
}

fn check_times(fields: &Fields) -> Result<(), Reply> {
    let side = |name: &str, missing: &str| -> Result<(bool, String), Reply> {
        let value = fields.get(name).ok_or_else(|| errors::required(missing))?;
        match (
            value.get("date").and_then(Value::as_str),
            value.get("dateTime"),
        ) {
            (Some(date), None) if date.parse::<chrono::NaiveDate>().is_ok() => {
                Ok((true, date.to_owned()))
            }
            (None, Some(Value::String(at))) => match params::instant(at) {
                Some(at) => Ok((false, at.to_utc().to_rfc3339())),
                // Without an offset a time zone must be named.
                None if value.get("timeZone").is_some()
                    && at.parse::<chrono::NaiveDateTime>().is_ok() =>
                {
                    Ok((false, at.clone()))
                }
                None => Err(errors::invalid("Missing time zone definition.")),
            },
            (None, None) => Err(errors::required(missing)),
            _ => Err(errors::invalid("Invalid value for start or end time.")),
        }
    };
    let (start_all_day, start) = side("start", "Missing start time.")?;
    let (end_all_day, end) = side("end", "Missing end time.")?;
    if start_all_day != end_all_day {
        return Err(errors::invalid(
            "Start and end times must either both be date or both be dateTime.",
        ));
    }
    if end < start {
        return Err(errors::envelope(
            400,
            "calendar",
            "timeRangeEmpty",
            "The specified time range is empty.",
        ));
    }
    Ok(())
}

/// What Google fills in for a new event.
fn complete(fields: &mut Fields, id: &str, owner: &str, number: u64, now: DateTime<Utc>) {
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("kind", "calendar#event".into());
    set("id", id.into());
    set("etag", etag(number).into());
    set("created", rfc3339_ms(now).into());
    set("updated", rfc3339_ms(now).into());
    set(
        "htmlLink",
        format!("https://www.google.com/calendar/event?eid={id}").into(),
    );
    set("creator", json!({"email": owner, "self": true}));
    for (name, value) in [
        ("status", json!("confirmed")),
        ("organizer", json!({"email": owner, "self": true})),
        ("iCalUID", json!(format!("{id}@google.com"))),
        ("sequence", json!(0)),
        ("reminders", json!({"useDefault": true})),
        ("eventType", json!("default")),
    ] {
        fields.entry(name).or_insert(value);
    }
}

/// `events.insert`.
pub(crate) fn insert(
    calendar: &mut Calendar,
    request: &Incoming,
    dice: &mut Dice,
    now: DateTime<Utc>,
) -> Result<Reply, Reply> {
    let sent = body(request)?;
    let id = match sent.get("id") {
        None => dice.event_id(),
        Some(Value::String(id)) if valid_id(id) => id.clone(),
        Some(_) => return Err(errors::invalid("Invalid resource id value.")),
    };
    if calendar.get(&id).is_some() {
        return Err(errors::duplicate());
    }
    let mut fields = writable(sent, request)?;
    check_times(&fields)?;
    let owner = calendar.owner.clone();
    complete(&mut fields, &id, &owner, fresh_etag(now), now);
    calendar.updated = now;
    calendar.put(fields, Presence::Held);
    show(calendar, &id)
}

/// `events.import`: a private copy, which needs an `iCalUID`.
pub(crate) fn import(
    calendar: &mut Calendar,
    request: &Incoming,
    dice: &mut Dice,
    now: DateTime<Utc>,
) -> Result<Reply, Reply> {
    let sent = body(request)?;
    let Some(uid) = sent
        .get("iCalUID")
        .and_then(Value::as_str)
        .map(str::to_owned)
    else {
        return Err(errors::required("Missing iCal UID."));
    };
    if sent.get("eventType").is_some_and(|kind| kind != "default") {
        return Err(errors::invalid("Invalid event type."));
    }
    let organizer = sent.get("organizer").cloned();
    let mut fields = writable(sent, request)?;
    check_times(&fields)?;
    fields.insert("iCalUID".to_owned(), uid.into());
    fields.insert("privateCopy".to_owned(), true.into());
    fields.extend(organizer.map(|organizer| ("organizer".to_owned(), organizer)));
    let id = format!("_{}", dice.event_id());
    let owner = calendar.owner.clone();
    complete(&mut fields, &id, &owner, fresh_etag(now), now);
    calendar.updated = now;
    calendar.put(fields, Presence::Held);
    show(calendar, &id)
}

fn fresh_etag(now: DateTime<Utc>) -> u64 {
    u64::try_from(now.timestamp_micros())
        .unwrap_or(0)
        .saturating_mul(2)
}

/// Base32hex in lower case, 5 to 1024 characters (discovery document, `Event.id`).
fn valid_id(id: &str) -> bool {
    (5..=1024).contains(&id.len())
        && id
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'v' | b'0'..=b'9'))
}

/// `events.patch`: names what changes; null removes. `status: confirmed` brings a cancelled event back.
pub(crate) fn patch(
    calendar: &mut Calendar,
    id: &str,
    request: &Incoming,
    now: DateTime<Utc>,
) -> Result<Reply, Reply> {
    let changes = writable(body(request)?, request)?;
    let event = writable_event(calendar, id, request, &changes)?;
    let mut fields = event.fields.clone();
    merge(&mut fields, changes);
    check_times(&fields)?;
    count_up(&mut fields);
    calendar.touch(fields, Presence::Held, now);
    show(calendar, id)
}

/// `events.update`: the whole event is replaced, but for what is Google's.
pub(crate) fn update(
    calendar: &mut Calendar,
    id: &str,
    request: &Incoming,
    now: DateTime<Utc>,
) -> Result<Reply, Reply> {
    let changes = writable(body(request)?, request)?;
    check_times(&changes)?;
    let event = writable_event(calendar, id, request, &changes)?;
    let mut fields = event.fields.clone();
    for name in WRITABLE {
        fields.remove(name);
    }
    fields.insert("status".to_owned(), "confirmed".into());
    fields.insert("eventType".to_owned(), "default".into());
    fields.insert("reminders".to_owned(), json!({"useDefault": true}));
    let sequence = event
        .fields
        .get("sequence")
        .cloned()
        .unwrap_or_else(|| 0.into());
    fields.insert("sequence".to_owned(), sequence);
    merge(&mut fields, changes);
    count_up(&mut fields);
    calendar.touch(fields, Presence::Held, now);
    show(calendar, id)
}

/// The event, if this request may change it in this way.
fn writable_event<'a>(
    calendar: &'a Calendar,
    id: &str,
    request: &Incoming,
    changes: &Fields,
) -> Result<&'a Stored, Reply> {
    let event = found(calendar, id)?;
    if event.presence == Presence::Gone {
        return Err(errors::deleted());
    }
    check_etag(event, request)?;
    let shared = changes
        .keys()
        .any(|name| !PERSONAL.contains(&name.as_str()));
    if shared && !is_organizer(event) {
        return Err(errors::not_organizer());
    }
    Ok(event)
}

fn merge(into: &mut Fields, changes: Fields) {
    for (name, value) in changes {
        match (value, into.get_mut(&name)) {
            (Value::Null, _) => {
                into.remove(&name);
            }
            // A date in place of a date-time names its sibling as null, or replaces the object: both are accepted.
            (Value::Object(new), Some(Value::Object(old))) => merge(old, new),
            (value, _) => {
                into.insert(name, value);
            }
        }
    }
}

fn count_up(fields: &mut Fields) {
    let sequence = fields.get("sequence").and_then(Value::as_i64).unwrap_or(0);
    fields.insert("sequence".to_owned(), (sequence + 1).into());
}
