//! Query parameters of Calendar v3: which each method takes, and what values they may have.
//!
//! Source: Google's discovery document of `calendar:v3`, revision 20261030.

use chrono::{DateTime, FixedOffset};

use super::errors;
use crate::http::{Call, Incoming, Reply};

/// Taken by every method.
const COMMON: [&str; 9] = [
    "alt",
    "fields",
    "key",
    "oauth_token",
    "access_token",
    "prettyPrint",
    "quotaUser",
    "userIp",
    "$.xgafv",
];

/// The event kinds that `eventTypes` may name.
const EVENT_TYPES: [&str; 6] = [
    "birthday",
    "default",
    "focusTime",
    "fromGmail",
    "outOfOffice",
    "workingLocation",
];

fn allowed(call: Call) -> &'static [&'static str] {
    match call {
        Call::EventsList => &[
            "alwaysIncludeEmail",
            "eventTypes",
            "iCalUID",
            "maxAttendees",
            "maxResults",
            "orderBy",
            "pageToken",
            "privateExtendedProperty",
            "q",
            "sharedExtendedProperty",
            "showDeleted",
            "showHiddenInvitations",
            "singleEvents",
            "syncToken",
            "timeMax",
            "timeMin",
            "timeZone",
            "updatedMin",
        ],
        Call::EventsInstances => &[
            "alwaysIncludeEmail",
            "maxAttendees",
            "maxResults",
            "originalStart",
            "pageToken",
            "showDeleted",
            "timeMax",
            "timeMin",
            "timeZone",
        ],
        Call::EventsGet => &["alwaysIncludeEmail", "maxAttendees", "timeZone"],
        Call::EventsDelete => &["sendNotifications", "sendUpdates"],
        Call::EventsInsert => &[
            "conferenceDataVersion",
            "eventLabelVersion",
            "maxAttendees",
            "sendNotifications",
            "sendUpdates",
            "supportsAttachments",
        ],
        Call::EventsPatch | Call::EventsUpdate => &[
            "alwaysIncludeEmail",
            "conferenceDataVersion",
            "eventLabelVersion",
            "maxAttendees",
            "sendNotifications",
            "sendUpdates",
            "supportsAttachments",
        ],
        Call::EventsImport => &[
            "conferenceDataVersion",
            "eventLabelVersion",
            "supportsAttachments",
        ],
        Call::CalendarList => &[
            "maxResults",
            "minAccessRole",
            "pageToken",
            "showDeleted",
            "showHidden",
            "showOwnOrganizationOnly",
            "syncToken",
        ],
        _ => &[],
    }
}

/// May be given more than once.
const REPEATED: [&str; 3] = [
    "eventTypes",
    "privateExtendedProperty",
    "sharedExtendedProperty",
];

/// Refuses a request whose parameters the method does not take, or whose values it would not read.
pub(crate) fn check(call: Call, request: &Incoming) -> Result<(), Reply> {
    let mut seen = Vec::new();
    for (name, value) in &request.query {
        let name = name.as_str();
        if !COMMON.contains(&name) && !allowed(call).contains(&name) {
            return Err(errors::unknown_parameter(name));
        }
        if seen.contains(&name) && !REPEATED.contains(&name) {
            return Err(errors::bad_parameter(name, value));
        }
        seen.push(name);
        if !value_ok(name, value) {
            return Err(errors::bad_parameter(name, value));
        }
    }
    Ok(())
}

fn value_ok(name: &str, value: &str) -> bool {
    match name {
        "alt" => value == "json",
        "prettyPrint"
        | "alwaysIncludeEmail"
        | "sendNotifications"
        | "showDeleted"
        | "showHidden"
        | "showHiddenInvitations"
        | "showOwnOrganizationOnly"
        | "singleEvents"
        | "supportsAttachments" => matches!(value, "true" | "false"),
        "maxResults" | "maxAttendees" => value.parse::<u32>().is_ok_and(|number| number >= 1),
        "conferenceDataVersion" | "eventLabelVersion" => matches!(value, "0" | "1"),
        "orderBy" => matches!(value, "startTime" | "updated"),
        "sendUpdates" => matches!(value, "all" | "externalOnly" | "none"),
        "minAccessRole" => {
            matches!(value, "freeBusyReader" | "owner" | "reader" | "writer")
        }
        "eventTypes" => EVENT_TYPES.contains(&value),
        "privateExtendedProperty" | "sharedExtendedProperty" => value.contains('='),
        "timeMin" | "timeMax" | "updatedMin" | "originalStart" => instant(value).is_some(),
        _ => true,
    }
}

/// RFC 3339 with its offset, which Google insists on.
pub(crate) fn instant(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text).ok()
}

pub(crate) fn flag(request: &Incoming, name: &str) -> bool {
    request.param(name) == Some("true")
}
