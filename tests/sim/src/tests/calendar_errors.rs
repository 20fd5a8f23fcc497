//! What Calendar v3 refuses, and how.

use reqwest::Method;
use serde_json::json;

use super::{Bench, answer};
use crate::{Class, SimConfig, WorldSpec};

#[tokio::test]
async fn credentials_are_checked_first() {
    let bench = Bench::start().await;
    let base = bench.sim.env()["GOOGLE_CALENDAR_API_URL"].clone();
    let list = format!("{base}/calendars/primary/events");
    for (header, reason) in [
        (None, "required"),
        (Some("Bearer nonsense"), "authError"),
        (Some("Basic abc"), "authError"),
    ] {
        let mut request = bench.http.get(&list);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let refused = answer(request).await;
        assert_eq!((refused.status, refused.reason().as_str()), (401, reason));
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
    }
    bench.sim.expire_access_tokens(&bench.account);
    let expired = bench.get("").await;
    assert_eq!(
        (expired.status, expired.reason().as_str()),
        (401, "authError")
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_token_for_events_cannot_list_calendars() {
    let bench = Bench::start().await;
    let refused = answer(bench.calendar(Method::GET, "/users/me/calendarList")).await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (403, "insufficientPermissions")
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn bad_parameters_are_refused() {
    let bench = Bench::start().await;
    let sync = bench.get("?maxResults=2500").await.text;
    let sync = sync
        .split("\"nextSyncToken\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let first = bench.get("?maxResults=3").await.text;
    let page = first
        .split("\"nextPageToken\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    for (query, reason) in [
        ("nosuch=1".to_owned(), "invalidParameter"),
        ("maxResults=0".to_owned(), "invalidParameter"),
        ("maxResults=many".to_owned(), "invalidParameter"),
        ("showDeleted=yes".to_owned(), "invalidParameter"),
        ("orderBy=summary".to_owned(), "invalidParameter"),
        (
            "orderBy=startTime".to_owned(),
            "orderByStartTimeRequiresSingleEvents",
        ),
        ("timeMin=2026-01-01".to_owned(), "invalidParameter"),
        ("timeMin=2026-01-01T00:00:00".to_owned(), "invalidParameter"),
        (
            "timeMin=2026-02-01T00:00:00Z&timeMax=2026-01-01T00:00:00Z".to_owned(),
            "timeRangeEmpty",
        ),
        ("pageToken=abc".to_owned(), "invalidParameter"),
        // The other parameters must be repeated unchanged.
        (format!("pageToken={page}&maxResults=4"), "invalidParameter"),
        (
            format!("pageToken={page}&maxResults=3&q=x"),
            "invalidParameter",
        ),
        ("syncToken=abc".to_owned(), "invalidParameter"),
        (format!("syncToken={page}"), "invalidParameter"),
        (
            format!("syncToken={sync}&timeMin=2026-01-01T00:00:00Z"),
            "invalid",
        ),
        (format!("syncToken={sync}&q=x"), "invalid"),
        (format!("syncToken={sync}&showDeleted=false"), "invalid"),
        (format!("syncToken={sync}&orderBy=updated"), "invalid"),
        ("q=a&q=b".to_owned(), "invalidParameter"),
        ("alt=media".to_owned(), "invalidParameter"),
        ("fields=items(".to_owned(), "invalidParameter"),
        ("eventTypes=party".to_owned(), "invalidParameter"),
    ] {
        let refused = bench.get(&format!("?{query}")).await;
        assert_eq!(
            (refused.status, refused.reason().as_str()),
            (400, reason),
            "{query}"
        );
    }
    let old = bench.get("?updatedMin=2020-01-01T00:00:00Z").await;
    assert_eq!(
        (old.status, old.reason().as_str()),
        (410, "updatedMinTooLongAgo")
    );
    let id = &bench.event(Class::V1Recorded).event_id;
    let refused = answer(bench.events(Method::DELETE, &format!("/{id}?sendUpdates=never"))).await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (400, "invalidParameter")
    );
    assert_eq!(bench.sim.deleted(), Vec::new());
    bench.sim.stop().await;
}

#[tokio::test]
async fn other_peoples_calendars_and_unknown_events_are_not_found() {
    let bench = Bench::start().await;
    let other = bench
        .sim
        .world()
        .calendars
        .iter()
        .find(|calendar| calendar.owner != bench.account)
        .unwrap()
        .id
        .clone();
    for path in [
        format!("/calendars/{other}/events"),
        "/calendars/nobody@example.com/events".to_owned(),
        "/calendars/primary/events/nosuchevent0".to_owned(),
        "/nosuch".to_owned(),
    ] {
        let refused = answer(bench.calendar(Method::GET, &path)).await;
        assert_eq!(
            (refused.status, refused.reason().as_str()),
            (404, "notFound"),
            "{path}"
        );
    }
    let own = answer(bench.calendar(
        Method::GET,
        &format!(
            "/calendars/{}/events?maxResults=1",
            bench.account.replace('@', "%40")
        ),
    ))
    .await;
    assert_eq!(own.status, 200);
    bench.sim.stop().await;
}

#[tokio::test]
async fn channels_that_do_not_exist_cannot_be_stopped() {
    let bench = Bench::start().await;
    let stop = |body| answer(bench.calendar(Method::POST, "/channels/stop").json(&body));
    let unknown = stop(json!({"id": "a", "resourceId": "b"})).await;
    assert_eq!(
        (unknown.status, unknown.reason().as_str()),
        (404, "notFound")
    );
    assert_eq!(stop(json!({"id": "a"})).await.status, 400);
    bench.sim.stop().await;
}

#[tokio::test]
async fn an_open_channel_is_stopped_once_by_its_own_user() {
    let spec = WorldSpec {
        channels: true,
        ..WorldSpec::default()
    };
    let bench = Bench::with(spec, SimConfig::default()).await;
    let open = bench.sim.channels();
    let own = open
        .iter()
        .find(|channel| channel.account == bench.account)
        .unwrap();
    let other = open
        .iter()
        .find(|channel| channel.account != bench.account)
        .unwrap();
    let stop = |id: &str, resource: &str| {
        let body = json!({"id": id, "resourceId": resource});
        answer(bench.calendar(Method::POST, "/channels/stop").json(&body))
    };
    assert_eq!(stop(&other.id, &other.resource_id).await.status, 404);
    assert_eq!(stop(&own.id, "other").await.status, 404);
    let stopped = stop(&own.id, &own.resource_id).await;
    assert_eq!((stopped.status, stopped.text.as_str()), (204, ""));
    assert_eq!(stop(&own.id, &own.resource_id).await.status, 404);
    assert_eq!(bench.sim.channels().len(), open.len() - 1);
    bench.sim.stop().await;
}
