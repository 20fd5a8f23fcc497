//! Calendar clients against a small strict server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request as AxumRequest, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response as AxumResponse};
use serde_json::json;

use super::*;
use crate::clients::http::{HttpLimits, ReadTransport, TransportError, WriteTransport};
use crate::clients::retry::{RateLimiter, RateLimits, RetryPolicy, Retryable as _};
use crate::clients::testing::{self, Server, TestTiming};
use crate::clients::{Effect, ErrorClass};
use crate::secrets::Secret;

/// One request as the server saw it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    method: Method,
    path: String,
    query: HashMap<String, String>,
    if_match: Option<String>,
    bearer: String,
    body: String,
}

type Script = Arc<dyn Fn(usize, &Seen) -> (u16, String) + Send + Sync>;

#[derive(Clone)]
struct Fake {
    script: Script,
    seen: Arc<Mutex<Vec<Seen>>>,
    tokens: Arc<Mutex<u32>>,
}

async fn answer(
    State(fake): State<Fake>,
    Query(query): Query<HashMap<String, String>>,
    request: AxumRequest,
) -> AxumResponse {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    if parts.uri.path() == "/token" {
        let mut tokens = fake.tokens.lock().expect("tokens");
        *tokens += 1;
        let token = json!({"access_token": format!("t{tokens}"), "expires_in": 3599});
        return token.to_string().into_response();
    }
    let text = |headers: &HeaderMap, name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().expect("text").to_owned())
    };
    let seen = Seen {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query,
        if_match: text(&parts.headers, "if-match"),
        bearer: text(&parts.headers, "authorization").unwrap_or_default(),
        body: String::from_utf8(body.to_vec()).expect("text"),
    };
    let mut all = fake.seen.lock().expect("requests");
    let (status, body) = (fake.script)(all.len(), &seen);
    all.push(seen);
    (
        StatusCode::from_u16(status).expect("a status"),
        [("date", DATE)],
        body,
    )
        .into_response()
}

const DATE: &str = "Thu, 15 Jan 2026 00:00:00 GMT";

struct World {
    _server: Server,
    fake: Fake,
    timing: Arc<TestTiming>,
    writer: CalendarWriter,
}

impl World {
    async fn start(script: impl Fn(usize, &Seen) -> (u16, String) + Send + Sync + 'static) -> Self {
        let fake = Fake {
            script: Arc::new(script),
            seen: Arc::default(),
            tokens: Arc::default(),
        };
        let server = Server::start(Router::new().fallback(answer).with_state(fake.clone())).await;
        let (timing, writer) = clients(&server);
        Self {
            _server: server,
            fake,
            timing,
            writer,
        }
    }

    fn reader(&self) -> &CalendarReader {
        self.writer.reader()
    }

    fn seen(&self) -> Vec<Seen> {
        self.fake.seen.lock().expect("requests").clone()
    }
}

fn clients(server: &Server) -> (Arc<TestTiming>, CalendarWriter) {
    let config = server.config();
    let transport = WriteTransport::open(&config, HttpLimits::default()).expect("a client");
    let timing = Arc::new(TestTiming::default());
    let limiter = RateLimiter::new(RateLimits::default(), timing.clone());
    let reader: ReadTransport = transport.reader().clone();
    let google = Google::new(
        &config,
        reader,
        limiter,
        RetryPolicy::default(),
        timing.clone(),
    );
    let session = google.session("u1", Secret::new("1//refresh"));
    (timing, CalendarWriter::new(&google, transport, session))
}

fn error(status: u16, reason: &str) -> (u16, String) {
    let error = json!({"error": {"errors": [{"reason": reason, "message": "m"}], "code": status}});
    (status, error.to_string())
}

fn page(items: &[(&str, u64)], token: &str, sync: bool) -> (u16, String) {
    let items: Vec<_> = items
        .iter()
        .map(|(id, etag)| json!({"id": id, "etag": format!("\"{etag}\""), "status": "confirmed"}))
        .collect();
    let name = if sync {
        "nextSyncToken"
    } else {
        "nextPageToken"
    };
    (
        200,
        json!({"summary": "me@example.com", "items": items, name: token}).to_string(),
    )
}

#[tokio::test]
async fn a_listing_is_complete_and_each_item_is_there_once() {
    let world = World::start(
        |_, seen| match seen.query.get("pageToken").map(String::as_str) {
            None => page(&[("a", 1), ("b", 5)], "p1", false),
            Some("p1") => page(&[], "p2", false),
            Some("p2") => page(&[("a", 3), ("b", 4), ("c", 1)], "sync-1", true),
            Some(_) => error(400, "invalid"),
        },
    )
    .await;
    let listing = world
        .reader()
        .list_all("me@example.com")
        .await
        .expect("a listing");
    let items: Vec<_> = listing
        .items
        .iter()
        .map(|item| {
            (
                item.id.as_deref().unwrap_or_default(),
                item.etag.as_deref().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(items, [("a", "\"3\""), ("b", "\"5\""), ("c", "\"1\"")]);
    assert_eq!((listing.pages, listing.repeated), (3, 2));
    assert_eq!(listing.sync_token, "sync-1");
    assert_eq!(listing.summary.as_deref(), Some("me@example.com"));
    assert_eq!(
        listing.ended.map(|date| date.timestamp()),
        Some(1_768_435_200)
    );
    let seen = world.seen();
    assert_eq!(
        seen[0].path,
        "/calendar/v3/calendars/me%40example.com/events"
    );
    let fixed = [
        ("maxResults", "2500"),
        ("singleEvents", "false"),
        ("showDeleted", "false"),
    ];
    for request in &seen {
        assert_eq!(
            (&request.method, request.bearer.as_str()),
            (&Method::GET, "Bearer t1")
        );
        assert!(
            fixed
                .iter()
                .all(|(name, value)| request.query.get(*name).is_some_and(|v| v == value))
        );
        let page_token = usize::from(request.query.contains_key("pageToken"));
        assert_eq!(request.query.len(), fixed.len() + page_token);
    }
}

#[tokio::test]
async fn changes_are_asked_for_without_show_deleted_and_an_old_token_is_named() {
    let world = World::start(
        |_, seen| match seen.query.get("syncToken").map(String::as_str) {
            Some("old") => error(410, "fullSyncRequired"),
            Some("good") if !seen.query.contains_key("showDeleted") => {
                page(&[("a", 9)], "sync-2", true)
            }
            _ => error(400, "invalid"),
        },
    )
    .await;
    let changes = world
        .reader()
        .list_changes("primary", "good")
        .await
        .expect("changes");
    assert_eq!(
        (changes.items.len(), changes.sync_token.as_str()),
        (1, "sync-2")
    );
    let old = world
        .reader()
        .list_changes("primary", "old")
        .await
        .expect_err("an old token");
    assert!(old.is_full_sync_required());
    assert_eq!((old.class(), old.status()), (ErrorClass::Gone, Some(410)));
}

#[tokio::test]
async fn pages_that_lead_in_a_circle_end_in_an_error() {
    let world = World::start(
        |_, seen| match seen.query.get("pageToken").map(String::as_str) {
            Some("p1") => page(&[("b", 1)], "p2", false),
            _ => page(&[("a", 1)], "p1", false),
        },
    )
    .await;
    let error = world
        .reader()
        .list_all("primary")
        .await
        .expect_err("a circle");
    assert!(matches!(error.kind, GoogleErrorKind::PageLoop));
    assert_eq!(world.seen().len(), 3);
}

#[tokio::test]
async fn a_page_without_an_end_is_asked_for_again_and_never_taken_for_the_last() {
    let world = World::start(|number, _| match number {
        0 => (200, r#"{"items":[]}"#.to_owned()),
        1 => (200, "<html>".to_owned()),
        _ => page(&[("a", 1)], "s", true),
    })
    .await;
    assert_eq!(
        world
            .reader()
            .list_all("primary")
            .await
            .expect("a listing")
            .items
            .len(),
        1
    );
    assert_eq!(world.seen().len(), 3);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_not_for_ever() {
    let world = World::start(|_, seen| match seen.bearer.as_str() {
        "Bearer t1" => error(401, "authError"),
        _ => page(&[], "s", true),
    })
    .await;
    world.reader().list_all("primary").await.expect("a listing");
    let world = World::start(|_, _| error(401, "authError")).await;
    let refused = world
        .reader()
        .list_all("primary")
        .await
        .expect_err("no token is good");
    assert_eq!(
        (refused.class(), refused.effect()),
        (ErrorClass::Auth, Effect::None)
    );
    assert_eq!(world.seen().len(), 2);
    assert_eq!(*world.fake.tokens.lock().expect("tokens"), 2);
}

#[tokio::test]
async fn reads_are_retried_where_it_can_pass_and_not_where_it_cannot() {
    let world = World::start(|number, _| match number {
        0 => error(403, "userRateLimitExceeded"),
        1 => (502, "<html>proxy</html>".to_owned()),
        _ => (
            200,
            r#"{"id":"e1","etag":"\"7\"","status":"confirmed"}"#.to_owned(),
        ),
    })
    .await;
    let event = world.reader().get("primary", "e1").await.expect("an event");
    assert_eq!(
        (event.attempt, event.item.etag.as_deref()),
        (3, Some("\"7\""))
    );
    assert_eq!(world.timing.sleeps().len(), 2);

    for (status, reason, class) in [
        (403, "quotaExceeded", ErrorClass::Quota),
        (403, "forbidden", ErrorClass::Refused),
        (404, "notFound", ErrorClass::NotFound),
        (410, "deleted", ErrorClass::Gone),
    ] {
        let world = World::start(move |_, _| error(status, reason)).await;
        let failed = world.reader().get("primary", "e1").await.expect_err(reason);
        assert_eq!(
            (failed.class(), failed.reason.as_deref()),
            (class, Some(reason))
        );
        assert!(failed.failure.date.is_some());
        assert_eq!(world.seen().len(), 1, "{reason}");
    }
}

#[tokio::test]
async fn an_event_is_kept_byte_for_byte_and_must_be_the_one_asked_for() {
    let body = "{ \"id\":\"e1\",\n \"etag\":\"\\\"7\\\"\", \"summary\":\"\\ud800 é\" }";
    let world = World::start(move |_, _| (200, body.to_owned())).await;
    let event = world.reader().get("primary", "e1").await.expect("an event");
    assert_eq!(event.item.bytes, body);
    let other = world
        .reader()
        .get("primary", "e2")
        .await
        .expect_err("another event");
    assert!(matches!(other.kind, GoogleErrorKind::Malformed(_)));
}

#[tokio::test]
async fn a_delete_is_one_request_with_its_precondition() {
    let world = World::start(|number, _| match number {
        0 => (204, String::new()),
        1 => error(412, "conditionNotMet"),
        _ => error(503, "backendError"),
    })
    .await;
    let done = world
        .writer
        .delete("primary", "e/1", "\"7\"")
        .await
        .expect("deleted");
    assert_eq!(done.status, 204);
    let seen = &world.seen()[0];
    assert_eq!(seen.method, Method::DELETE);
    assert_eq!(seen.path, "/calendar/v3/calendars/primary/events/e%2F1");
    assert_eq!(seen.if_match.as_deref(), Some("\"7\""));
    assert_eq!(
        seen.query,
        HashMap::from([("sendUpdates".to_owned(), "none".to_owned())])
    );

    let changed = world
        .writer
        .delete("primary", "e1", "\"7\"")
        .await
        .expect_err("412");
    assert_eq!(
        (changed.class(), changed.effect()),
        (ErrorClass::Conflict, Effect::None)
    );
    let failed = world
        .writer
        .delete("primary", "e1", "\"7\"")
        .await
        .expect_err("503");
    assert_eq!(
        (failed.effect(), failed.may_pass()),
        (Effect::Unknown, true)
    );
    assert_eq!(world.seen().len(), 3, "a delete is never repeated here");
}

#[tokio::test]
async fn an_id_that_would_be_resolved_away_never_leaves() {
    let world = World::start(|_, _| (204, String::new())).await;
    for id in ["", ".", ".."] {
        let unusable = world
            .writer
            .delete("primary", id, "\"7\"")
            .await
            .expect_err(id);
        assert!(matches!(unusable.kind, GoogleErrorKind::UnusableId));
    }
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn a_delete_without_its_precondition_never_leaves() {
    let world = World::start(|_, _| (204, String::new())).await;
    for etag in ["", " ", "*"] {
        let unusable = world
            .writer
            .delete("primary", "e1", etag)
            .await
            .expect_err(etag);
        assert!(matches!(unusable.kind, GoogleErrorKind::UnusableVersion));
    }
    let broken = world
        .writer
        .delete("primary", "e1", "\"7\n\"")
        .await
        .expect_err("a line end");
    assert_eq!(
        (broken.class(), broken.effect()),
        (ErrorClass::Refused, Effect::None)
    );
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn insert_and_patch_send_what_they_are_given() {
    let world = World::start(|_, seen| match seen.method {
        Method::POST => error(409, "duplicate"),
        _ => (200, r#"{"id":"e1","status":"confirmed"}"#.to_owned()),
    })
    .await;
    let taken = world
        .writer
        .insert("primary", Bytes::from_static(br#"{"id":"e1"}"#))
        .await
        .expect_err("409");
    assert_eq!(taken.class(), ErrorClass::Conflict);
    let change = json!({"status": "confirmed"});
    let back = world
        .writer
        .patch("primary", "e1", Some("\"8\""), &change)
        .await
        .expect("patched");
    assert_eq!(back.item.status.as_deref(), Some("confirmed"));
    let seen = world.seen();
    assert_eq!(
        (seen[0].body.as_str(), seen[0].if_match.as_deref()),
        (r#"{"id":"e1"}"#, None)
    );
    assert_eq!(seen[1].method, Method::PATCH);
    assert_eq!(seen[1].body, r#"{"status":"confirmed"}"#);
    assert_eq!(seen[1].if_match.as_deref(), Some("\"8\""));
}

#[tokio::test]
async fn errors_show_no_address_and_keep_their_cause() {
    let world = World::start(|_, _| error(404, "notFound")).await;
    let missing = world
        .writer
        .delete("me@example.com", "e1", "\"7\"")
        .await
        .expect_err("404");
    assert_eq!(
        missing.to_string(),
        "calendar.events.delete failed at attempt 1 (not_found, HTTP 404): notFound"
    );
    let server = testing::raw_server(|path| {
        let token = r#"{"access_token":"t1","expires_in":3599}"#;
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
        let answer = format!("{head} {}\r\n\r\n{token}", token.len());
        Some(if path == "/token" {
            answer.into_bytes()
        } else {
            Vec::new()
        })
    })
    .await;
    let (_, writer) = clients(&server);
    let failed = writer
        .delete("me@example.com", "e1", "\"7\"")
        .await
        .expect_err("reply lost");
    assert_eq!(
        (failed.class(), failed.effect()),
        (ErrorClass::Network, Effect::Unknown)
    );
    assert!(matches!(
        &failed.kind,
        GoogleErrorKind::Transport(error) if matches!(**error, TransportError::MaybeSent { .. })
    ));
    let mut chain = format!("{failed:?}");
    let mut cause: Option<&dyn std::error::Error> = Some(&failed);
    while let Some(error) = cause {
        chain.push_str(&error.to_string());
        cause = error.source();
    }
    assert!(
        !chain.contains("example.com") && !chain.contains("1//refresh"),
        "{chain}"
    );
}

#[tokio::test]
async fn a_dead_grant_is_the_cause_and_nothing_is_sent_to_the_calendar() {
    let server = testing::raw_server(|path| {
        assert_eq!(path, "/token");
        let body = r#"{"error":"invalid_grant"}"#;
        let head = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length:";
        Some(format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes())
    })
    .await;
    let (_, writer) = clients(&server);
    let dead = writer
        .delete("primary", "e1", "\"7\"")
        .await
        .expect_err("no token");
    assert_eq!(
        (dead.class(), dead.effect(), dead.may_pass()),
        (ErrorClass::Auth, Effect::None, false)
    );
    assert_eq!(
        dead.to_string(),
        "calendar.events.delete was not sent: no access token"
    );
    let GoogleErrorKind::Token(cause) = &dead.kind else {
        panic!("{dead}")
    };
    assert_eq!(
        (cause.kind, cause.is_global()),
        (TokenErrorKind::DeadGrant, false)
    );
}
