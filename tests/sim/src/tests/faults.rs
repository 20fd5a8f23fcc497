//! Faults, holds and the journal.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Bench, answer};
use crate::{Call, Class, Fault, FaultKind, HoldPoint, Occurrence, SimConfig, WorldSpec};

/// A bench, and a live event to delete.
async fn bench() -> (Bench, String) {
    let bench = Bench::start().await;
    let id = bench.event(Class::V1Recorded).event_id.clone();
    (bench, id)
}

fn delete(bench: &Bench, id: &str) -> reqwest::RequestBuilder {
    bench.events(Method::DELETE, &format!("/{id}?sendUpdates=none"))
}

#[tokio::test]
async fn a_lost_request_has_no_effect_and_a_lost_reply_has() {
    let (bench, id) = bench().await;
    bench
        .sim
        .add_fault(Fault::once(Call::EventsDelete, FaultKind::LoseRequest));
    assert!(delete(&bench, &id).send().await.is_err());
    assert_eq!(bench.sim.deleted(), Vec::new());
    bench
        .sim
        .add_fault(Fault::once(Call::EventsDelete, FaultKind::LoseReply).for_event(&id));
    assert!(delete(&bench, &id).send().await.is_err());
    assert_eq!(bench.sim.deleted(), [(bench.account.clone(), id.clone())]);
    assert_eq!(answer(delete(&bench, &id)).await.status, 410);

    let journal = bench.sim.journal();
    let deletes: Vec<_> = journal
        .iter()
        .filter(|entry| entry.call == Some(Call::EventsDelete))
        .map(|entry| {
            (
                entry.fault.as_deref(),
                entry.status,
                entry.effect,
                entry.delivered,
            )
        })
        .collect();
    assert_eq!(
        deletes,
        [
            (Some("lose_request"), None, false, false),
            (Some("lose_reply"), Some(204), true, false),
            (None, Some(410), false, true),
        ]
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn every_call_meets_every_breaking_fault() {
    for (index, kind) in [
        FaultKind::LoseRequest,
        FaultKind::LoseReply,
        FaultKind::TruncateBody { keep: 1 },
        FaultKind::status(503),
    ]
    .into_iter()
    .enumerate()
    {
        let bench = Bench::with(
            WorldSpec::default().users(1).events_per_user(2),
            SimConfig::default(),
        )
        .await;
        let base = bench.sim.env();
        let google = &base["GOOGLE_CALENDAR_API_URL"];
        let primary = format!("{google}/calendars/primary/events");
        let token = &base["GOOGLE_OAUTH_TOKEN_URL"];
        let convex = |path: &str| format!("{}/api/{path}", base["CONVEX_URL"]);
        for call in Call::ALL {
            let (method, url) = match call {
                Call::Select => (
                    Method::GET,
                    format!("{}/rest/v1/cases", base["SUPABASE_URL"]),
                ),
                Call::TableWrite => (
                    Method::POST,
                    format!("{}/rest/v1/cases", base["SUPABASE_URL"]),
                ),
                Call::Token => (Method::POST, token.clone()),
                Call::Revoke => (Method::POST, token.replace("/token", "/revoke")),
                Call::EventsList => (Method::GET, primary.clone()),
                Call::EventsInstances => (Method::GET, format!("{primary}/x/instances")),
                Call::EventsGet => (Method::GET, format!("{primary}/x")),
                Call::EventsInsert => (Method::POST, primary.clone()),
                Call::EventsImport => (Method::POST, format!("{primary}/import")),
                Call::EventsPatch => (Method::PATCH, format!("{primary}/x")),
                Call::EventsUpdate => (Method::PUT, format!("{primary}/x")),
                Call::EventsDelete => (Method::DELETE, format!("{primary}/x")),
                Call::CalendarList => (Method::GET, format!("{google}/users/me/calendarList")),
                Call::ChannelsStop => (Method::POST, format!("{google}/channels/stop")),
                Call::ConvexSchemas => (Method::GET, convex("json_schemas")),
                Call::ConvexListSnapshot => (Method::GET, convex("list_snapshot")),
                Call::ConvexDeltas => (Method::GET, convex("document_deltas")),
                Call::ConvexQuery => (Method::POST, convex("query")),
                Call::ConvexWrite => (Method::POST, convex("mutation")),
                Call::ConvexExportRequest => (Method::POST, convex("export/request/zip")),
                Call::ConvexExportZip => (Method::GET, convex("export/zip/1")),
            };
            bench.sim.add_fault(Fault::once(call, kind.clone()));
            let sent = bench.http.request(method, url).send().await;
            match index {
                0 | 1 => assert!(sent.is_err(), "{call} {kind:?}"),
                2 => assert!(sent.unwrap().bytes().await.is_err(), "{call} {kind:?}"),
                _ => assert_eq!(sent.unwrap().status(), 503, "{call}"),
            }
        }
        bench.sim.stop().await;
    }
}

#[tokio::test]
async fn statuses_come_in_the_services_own_words() {
    let (bench, id) = bench().await;
    for (kind, status, reason) in [
        (FaultKind::status(401), 401, "authError"),
        (FaultKind::status(403), 403, "userRateLimitExceeded"),
        (
            FaultKind::reason(403, "quotaExceeded"),
            403,
            "quotaExceeded",
        ),
        (
            FaultKind::reason(403, "forbiddenForNonOrganizer"),
            403,
            "forbiddenForNonOrganizer",
        ),
        (FaultKind::status(404), 404, "notFound"),
        (FaultKind::status(409), 409, "duplicate"),
        (FaultKind::status(410), 410, "deleted"),
        (FaultKind::status(412), 412, "conditionNotMet"),
        (FaultKind::status(429), 429, "rateLimitExceeded"),
        (FaultKind::status(500), 500, "backendError"),
        (FaultKind::status(502), 502, "backendError"),
        (FaultKind::status(504), 504, "backendError"),
    ] {
        bench.sim.add_fault(Fault::once(Call::EventsDelete, kind));
        let refused = answer(delete(&bench, &id)).await;
        assert_eq!(
            (refused.status, refused.reason().as_str()),
            (status, reason)
        );
    }
    bench.sim.add_fault(Fault::once(
        Call::EventsDelete,
        FaultKind::retry_after(429, "7"),
    ));
    assert_eq!(answer(delete(&bench, &id)).await.header("retry-after"), "7");
    bench
        .sim
        .add_fault(Fault::once(Call::EventsDelete, FaultKind::html(502)));
    let page = answer(delete(&bench, &id)).await;
    assert!(page.status == 502 && page.text.starts_with("<!DOCTYPE html>"));
    bench
        .sim
        .add_fault(Fault::once(Call::Token, FaultKind::status(400)));
    let token = bench.refresh(&[("refresh_token", "x")]).await;
    assert_eq!(token.json()["error"], "invalid_grant");
    bench
        .sim
        .add_fault(Fault::once(Call::Select, FaultKind::status(540)));
    assert_eq!(answer(bench.table("cases")).await.status, 540);
    assert_eq!(bench.sim.deleted(), Vec::new());
    bench.sim.stop().await;
}

#[tokio::test]
async fn occurrences_count_matching_requests() {
    let (bench, _) = bench().await;
    let pattern = async |when: Occurrence| -> String {
        bench.sim.clear_faults();
        bench
            .sim
            .add_fault(Fault::once(Call::EventsList, FaultKind::status(500)).when(when));
        let mut seen = String::new();
        for _ in 0..8 {
            let failed = bench.get("?maxResults=1").await.status == 500;
            seen.push(if failed { 'x' } else { '.' });
        }
        seen
    };
    assert_eq!(pattern(Occurrence::Always).await, "xxxxxxxx");
    assert_eq!(pattern(Occurrence::Times(2)).await, "xx......");
    assert_eq!(pattern(Occurrence::Nth(3)).await, "..x.....");
    assert_eq!(pattern(Occurrence::Every(3)).await, "..x..x..");
    let half = Occurrence::Probability { p: 0.5, seed: 4 };
    let drawn = pattern(half).await;
    assert!(drawn.contains('x') && drawn.contains('.'), "{drawn}");
    assert_eq!(pattern(half).await, drawn, "a seed draws the same again");

    bench.sim.clear_faults();
    let other = Fault::once(Call::EventsList, FaultKind::status(500)).for_account("x@example.com");
    bench.sim.add_fault(other);
    assert_eq!(bench.get("?maxResults=1").await.status, 200);
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_held_request_waits_on_either_side_of_its_effect() {
    let (bench, id) = bench().await;
    let before = bench.sim.hold(Call::EventsDelete, 1, HoldPoint::Before);
    let parked = tokio::spawn(delete(&bench, &id).send());
    before.reached().await;
    assert_eq!(bench.sim.deleted(), Vec::new());
    before.release();
    assert_eq!(parked.await.unwrap().unwrap().status(), 204);

    let other = bench.event(Class::V1Orphan).event_id.clone();
    let after = bench.sim.hold(Call::EventsDelete, 1, HoldPoint::After);
    let parked = tokio::spawn(delete(&bench, &other).send());
    after.reached().await;
    assert_eq!(bench.sim.deleted().len(), 2);
    let entry = bench.sim.journal().pop().unwrap();
    assert_eq!(
        (entry.status, entry.effect, entry.delivered),
        (Some(204), true, false)
    );
    // The client dies; the services end in order all the same.
    parked.abort();
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_request_held_before_its_effect_takes_effect_after_its_sender_died() {
    let (bench, id) = bench().await;
    let hold = bench.sim.hold(Call::EventsDelete, 1, HoldPoint::Before);
    let parked = tokio::spawn(delete(&bench, &id).send());
    hold.reached().await;
    parked.abort();
    assert!(parked.await.is_err());
    hold.release();
    while bench.sim.deleted().is_empty() {
        tokio::task::yield_now().await;
    }
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_stalled_request_never_answers_or_answers_late() {
    let (bench, id) = bench().await;
    bench.sim.add_fault(Fault::once(
        Call::EventsDelete,
        FaultKind::Stall { millis: None },
    ));
    let waited = delete(&bench, &id)
        .timeout(Duration::from_millis(150))
        .send()
        .await;
    assert!(waited.unwrap_err().is_timeout());
    assert_eq!(bench.sim.deleted(), Vec::new());
    bench.sim.add_fault(Fault::once(
        Call::EventsDelete,
        FaultKind::Stall { millis: Some(50) },
    ));
    assert_eq!(answer(delete(&bench, &id)).await.status, 204);
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_truncated_body_keeps_its_length_header() {
    let (bench, id) = bench().await;
    bench.sim.add_fault(Fault::once(
        Call::EventsGet,
        FaultKind::TruncateBody { keep: 40 },
    ));
    let cut = bench
        .events(Method::GET, &format!("/{id}"))
        .send()
        .await
        .unwrap();
    assert_eq!(cut.status(), 200);
    assert!(cut.content_length().unwrap() > 40);
    assert!(cut.bytes().await.is_err());
    bench.sim.stop().await;
}

#[tokio::test]
async fn another_process_sets_faults_and_reads_the_journal_over_http() {
    let (bench, id) = bench().await;
    let url = bench.sim.control_url();
    let fault = json!({
        "call": "events.delete",
        "event_id": id,
        "when": {"times": 1},
        "kind": {"status": {"status": 429, "retry_after": "3"}},
    });
    let set = answer(bench.http.post(format!("{url}/faults")).json(&fault)).await;
    assert_eq!(set.status, 201, "{}", set.text);
    assert_eq!(answer(delete(&bench, &id)).await.status, 429);
    let number = set.json()["id"].as_u64().unwrap();
    let removed = answer(bench.http.delete(format!("{url}/faults/{number}"))).await;
    assert_eq!(removed.status, 204);
    let wrong = answer(
        bench
            .http
            .post(format!("{url}/faults"))
            .json(&json!({"kind": "x"})),
    )
    .await;
    assert_eq!(wrong.status, 400);

    let hold =
        json!({"call": "events.delete", "when": {"nth": 1}, "kind": {"hold": {"at": "after"}}});
    let set = answer(bench.http.post(format!("{url}/faults")).json(&hold)).await;
    let number = set.json()["id"].as_u64().unwrap();
    let parked = tokio::spawn(delete(&bench, &id).send());
    let reached = answer(bench.http.get(format!("{url}/holds/{number}?wait=true"))).await;
    assert_eq!(reached.json()["reached"], 1);
    assert_eq!(
        answer(bench.http.post(format!("{url}/holds/{number}/release")))
            .await
            .status,
        204
    );
    assert_eq!(parked.await.unwrap().unwrap().status(), 204);

    let journal = answer(bench.http.get(format!("{url}/journal"))).await;
    let entries: Vec<crate::JournalEntry> = serde_json::from_str(&journal.text).unwrap();
    assert_eq!(entries, bench.sim.journal());
    assert!(!journal.text.contains(&bench.token));
    assert!(!journal.text.contains(&bench.sim.env()["SUPABASE_KEY"]));
    let truth = answer(bench.http.get(format!("{url}/truth"))).await.json();
    assert_eq!(
        truth.as_array().map(Vec::len),
        Some(bench.sim.truth().len())
    );
    assert!(truth[0]["class"].is_string());
    bench.sim.stop().await;
}

#[tokio::test]
async fn the_journal_blanks_credentials_in_queries() {
    let (bench, _) = bench().await;
    assert_eq!(
        bench
            .get(&format!("?access_token={}", bench.token))
            .await
            .status,
        200
    );
    let entry = bench.sim.journal().pop().unwrap();
    assert_eq!(entry.query, "access_token=***");
    assert_eq!(entry.calendar.as_deref(), Some(bench.account.as_str()));
    assert_eq!(entry.account.as_deref(), Some(bench.account.as_str()));
    let whole: Value = serde_json::to_value(bench.sim.journal()).unwrap();
    assert!(!whole.to_string().contains("ya29."));
    bench.sim.stop().await;
}

#[tokio::test]
async fn latency_delays_every_answer() {
    let config = SimConfig {
        latency: Duration::from_millis(60),
        ..SimConfig::default()
    };
    let bench = Bench::with(WorldSpec::default().users(1), config).await;
    let start = std::time::Instant::now();
    bench.get("?maxResults=1").await;
    assert!(start.elapsed() >= Duration::from_millis(60));
    bench.sim.stop().await;
}

#[tokio::test]
async fn an_account_has_so_many_requests_a_minute() {
    let config = SimConfig {
        user_requests_per_minute: Some(3),
        ..SimConfig::default()
    };
    let bench = Bench::with(WorldSpec::default().users(3), config).await;
    for _ in 0..3 {
        assert_eq!(bench.get("?maxResults=1").await.status, 200);
    }
    let refused = bench.get("?maxResults=1").await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (403, "userRateLimitExceeded")
    );
    bench.sim.assert_only_reads();
    bench.sim.stop().await;
}

#[tokio::test]
async fn writes_are_told_from_reads() {
    let (bench, id) = bench().await;
    assert_eq!(answer(delete(&bench, "nosuch0")).await.status, 404);
    assert_eq!(answer(delete(&bench, &id)).await.status, 204);
    let writes = bench.sim.calendar_writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].event_id.as_deref(), Some(id.as_str()));
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bench.sim.assert_only_reads();
    }));
    assert!(seen.is_err());
    bench.sim.stop().await;
}
