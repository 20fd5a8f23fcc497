//! `events.list` and `events.instances`: whole calendars page by page, and what changed since a sync token.

use chrono::{DateTime, Days, Utc};
use serde_json::{Value, json};

use super::filter::{Filter, instances, moment};
use super::paging::{Cursor, PageTweak, Paging, digest};
use super::store::{Calendar, Stored};
use super::{errors, params, text};
use crate::clock::rfc3339_ms;
use crate::http::{Incoming, Reply};

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

/// `events.list`.
pub(crate) fn list(
    calendar: &Calendar,
    request: &Incoming,
    paging: &mut Paging,
    tweak: PageTweak,
    now: DateTime<Utc>,
) -> Result<Reply, Reply> {
    let filter = Filter::new(request);
    check_bounds(&filter, request, now)?;
    let from = sync_start(calendar, request, paging)?;
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

/// Refuses bounds that no event can meet, or that the service does not keep.
fn check_bounds(filter: &Filter<'_>, request: &Incoming, now: DateTime<Utc>) -> Result<(), Reply> {
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
    Ok(())
}

/// The change that a sync token stands for; none without a token.
fn sync_start(
    calendar: &Calendar,
    request: &Incoming,
    paging: &Paging,
) -> Result<Option<u64>, Reply> {
    let Some(token) = request.param("syncToken") else {
        return Ok(None);
    };
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
    if request.param("showDeleted") == Some("false") {
        return Err(errors::located(
            400,
            "global",
            "invalid",
            "Sync token cannot be used with showDeleted set to false.",
            Some(("parameter", "showDeleted")),
        ));
    }
    let change = paging
        .synced(&calendar.id, token)
        .ok_or_else(|| errors::bad_parameter("syncToken", token))?;
    if change < calendar.sync_floor {
        return Err(errors::full_sync_required());
    }
    Ok(Some(change))
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
        "summary": calendar.title,
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
