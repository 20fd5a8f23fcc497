//! Google's error envelope, and each refusal that Calendar v3 makes.
//!
//! Source: Calendar API guide "Handle API errors"; reasons and messages as that page and public issue reports show them.

use serde_json::{Value, json};

use crate::http::Reply;

/// `{"error":{"errors":[{domain,reason,message}],"code","message"}}`.
pub(crate) fn envelope(status: u16, domain: &str, reason: &str, message: &str) -> Reply {
    located(status, domain, reason, message, None)
}

/// The same with the header or parameter that is to blame.
pub(crate) fn located(
    status: u16,
    domain: &str,
    reason: &str,
    message: &str,
    place: Option<(&str, &str)>,
) -> Reply {
    let mut error = json!({"domain": domain, "reason": reason, "message": message});
    if let Some((kind, name)) = place {
        error["locationType"] = Value::from(kind);
        error["location"] = Value::from(name);
    }
    Reply::json(
        status,
        &json!({"error": {"errors": [error], "code": status, "message": message}}),
    )
}

/// The usual envelope for a status, with a given reason or the most common one.
pub(crate) fn usual(status: u16, reason: Option<&str>) -> Reply {
    let reason = reason.unwrap_or(match status {
        400 => "invalid",
        401 => "authError",
        403 => "userRateLimitExceeded",
        404 => "notFound",
        409 => "duplicate",
        410 => "deleted",
        412 => "conditionNotMet",
        429 => "rateLimitExceeded",
        _ => "backendError",
    });
    match reason {
        "authError" => unauthorized(),
        "notFound" => not_found(),
        "duplicate" => duplicate(),
        "deleted" => deleted(),
        "conditionNotMet" => condition_not_met(),
        "fullSyncRequired" => full_sync_required(),
        "updatedMinTooLongAgo" => updated_min_too_long_ago(),
        "insufficientPermissions" => insufficient_permissions(),
        "forbiddenForNonOrganizer" => not_organizer(),
        "userRateLimitExceeded" => {
            envelope(status, "usageLimits", reason, "User Rate Limit Exceeded")
        }
        "rateLimitExceeded" => envelope(status, "usageLimits", reason, "Rate Limit Exceeded"),
        "quotaExceeded" => envelope(
            status,
            "usageLimits",
            reason,
            "Calendar usage limits exceeded.",
        ),
        "accessNotConfigured" => envelope(status, "usageLimits", reason, "Access Not Configured."),
        "forbidden" => envelope(status, "global", reason, "Forbidden"),
        "backendError" => envelope(status, "global", reason, "Backend Error"),
        other => envelope(status, "global", other, other),
    }
}

pub(crate) fn login_required() -> Reply {
    located(
        401,
        "global",
        "required",
        "Login Required",
        Some(("header", "Authorization")),
    )
    .with_header(
        "www-authenticate",
        "Bearer realm=\"https://accounts.google.com/\"",
    )
}

pub(crate) fn unauthorized() -> Reply {
    located(
        401,
        "global",
        "authError",
        "Invalid Credentials",
        Some(("header", "Authorization")),
    )
    .with_header(
        "www-authenticate",
        "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"",
    )
}

pub(crate) fn insufficient_permissions() -> Reply {
    envelope(
        403,
        "global",
        "insufficientPermissions",
        "Request had insufficient authentication scopes.",
    )
}

pub(crate) fn not_found() -> Reply {
    envelope(404, "global", "notFound", "Not Found")
}

pub(crate) fn deleted() -> Reply {
    envelope(410, "global", "deleted", "Resource has been deleted")
}

pub(crate) fn duplicate() -> Reply {
    envelope(
        409,
        "global",
        "duplicate",
        "The requested identifier already exists.",
    )
}

pub(crate) fn condition_not_met() -> Reply {
    located(
        412,
        "global",
        "conditionNotMet",
        "Precondition Failed",
        Some(("header", "If-Match")),
    )
}

pub(crate) fn full_sync_required() -> Reply {
    located(
        410,
        "calendar",
        "fullSyncRequired",
        "Sync token is no longer valid, a full sync is required.",
        Some(("parameter", "syncToken")),
    )
}

pub(crate) fn updated_min_too_long_ago() -> Reply {
    located(
        410,
        "calendar",
        "updatedMinTooLongAgo",
        "The requested minimum modification time lies too far in the past.",
        Some(("parameter", "updatedMin")),
    )
}

pub(crate) fn not_organizer() -> Reply {
    envelope(
        403,
        "calendar",
        "forbiddenForNonOrganizer",
        "Shared properties can only be changed by the organizer of the event.",
    )
}

pub(crate) fn required(message: &str) -> Reply {
    envelope(400, "global", "required", message)
}

pub(crate) fn invalid(message: &str) -> Reply {
    envelope(400, "global", "invalid", message)
}

pub(crate) fn parse_error() -> Reply {
    envelope(400, "global", "parseError", "Parse Error")
}

pub(crate) fn time_range_empty() -> Reply {
    located(
        400,
        "calendar",
        "timeRangeEmpty",
        "The specified time range is empty.",
        Some(("parameter", "timeMax")),
    )
}

pub(crate) fn bad_parameter(name: &str, value: &str) -> Reply {
    located(
        400,
        "global",
        "invalidParameter",
        &format!("Invalid value '{value}' for parameter '{name}'."),
        Some(("parameter", name)),
    )
}

pub(crate) fn unknown_parameter(name: &str) -> Reply {
    located(
        400,
        "global",
        "invalidParameter",
        &format!("Unknown name \"{name}\": Cannot bind query parameter."),
        Some(("parameter", name)),
    )
}
