//! Deleting, bringing back, inserting and editing events.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Bench, answer};
use crate::Class;

impl Bench {
    async fn delete(&self, id: &str, if_match: Option<&str>) -> Answer {
        let mut request = self.events(Method::DELETE, &format!("/{id}?sendUpdates=none"));
        if let Some(etag) = if_match {
            request = request.header("if-match", etag);
        }
        answer(request).await
    }

    async fn send(&self, method: Method, rest: &str, body: Value) -> Answer {
        answer(self.events(method, rest).json(&body)).await
    }
}

fn status_and_reason(answer: &Answer) -> (u16, String) {
    (answer.status, answer.reason())
}

#[tokio::test]
async fn a_delete_needs_the_present_etag_and_happens_once() {
    let bench = Bench::start().await;
    let id = bench.event(Class::V1Recorded).event_id.clone();
    let planned = bench.get(&format!("/{id}")).await;
    let etag = planned.json()["etag"].as_str().unwrap().to_owned();
    assert_eq!(planned.header("etag"), etag);

    assert!(
        bench
            .sim
            .edit_event(&bench.account, &id, &json!({"location": "here"}))
    );
    let refused = bench.delete(&id, Some(&etag)).await;
    assert_eq!(
        status_and_reason(&refused),
        (412, "conditionNotMet".to_owned())
    );
    let fresh = bench.get(&format!("/{id}")).await.json();
    assert_ne!(fresh["etag"], etag);
    assert!(fresh["updated"].as_str() > planned.json()["updated"].as_str());

    let deleted = bench.delete(&id, fresh["etag"].as_str()).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    let again = bench.delete(&id, fresh["etag"].as_str()).await;
    assert_eq!(status_and_reason(&again), (410, "deleted".to_owned()));
    let kept = bench.get(&format!("/{id}")).await;
    assert_eq!(
        (kept.status, &kept.json()["status"]),
        (200, &json!("cancelled"))
    );
    assert_eq!(
        kept.json()["summary"],
        fresh["summary"],
        "a cancelled event keeps its details"
    );
    assert_eq!(bench.sim.deleted(), [(bench.account.clone(), id)]);
    bench.sim.stop().await;
}

#[tokio::test]
async fn gone_events_answer_as_their_kind_does() {
    let bench = Bench::start().await;
    let mut statuses = BTreeSet::new();
    for truth in bench.sim.truth() {
        if truth.class == Class::Gone && truth.calendar == bench.account {
            let read = bench.get(&format!("/{}", truth.event_id)).await;
            if read.status == 200 {
                assert_eq!(read.json()["status"], "cancelled");
            }
            let deleted = bench.delete(&truth.event_id, None).await;
            statuses.insert((read.status, deleted.status));
        }
    }
    assert_eq!(
        statuses,
        BTreeSet::from([(200, 410), (404, 404), (410, 410)])
    );
    assert_eq!(bench.sim.deleted(), Vec::new());
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_cancelled_event_comes_back_under_its_id() {
    let bench = Bench::start().await;
    let id = bench.event(Class::V1Recorded).event_id.clone();
    let before = bench.get(&format!("/{id}")).await.json();
    assert_eq!(bench.delete(&id, None).await.status, 204);
    let back = bench
        .send(
            Method::PATCH,
            &format!("/{id}?sendUpdates=none"),
            json!({"status": "confirmed"}),
        )
        .await;
    assert_eq!(back.status, 200, "{}", back.text);
    let back = back.json();
    for name in [
        "id",
        "summary",
        "description",
        "start",
        "end",
        "iCalUID",
        "created",
    ] {
        assert_eq!(back[name], before[name], "{name}");
    }
    assert_eq!(bench.sim.deleted(), Vec::new());

    assert_eq!(bench.delete(&id, None).await.status, 204);
    let put = bench
        .send(Method::PUT, &format!("/{id}"), before.clone())
        .await;
    assert_eq!(
        (put.status, &put.json()["description"]),
        (200, &before["description"])
    );
    assert!(bench.sim.purge_event(&bench.account, &id));
    let purged = bench
        .send(
            Method::PATCH,
            &format!("/{id}"),
            json!({"status": "confirmed"}),
        )
        .await;
    assert_eq!(status_and_reason(&purged), (404, "notFound".to_owned()));
    bench.sim.stop().await;
}

#[tokio::test]
async fn an_edit_needs_the_present_etag_if_it_names_one() {
    let bench = Bench::start().await;
    let id = bench.event(Class::V1Recorded).event_id.clone();
    let event = bench.get(&format!("/{id}")).await.json();
    for method in [Method::PATCH, Method::PUT] {
        let request = bench
            .events(method.clone(), &format!("/{id}"))
            .header("if-match", "\"1\"");
        let refused = answer(request.json(&event)).await;
        assert_eq!(
            status_and_reason(&refused),
            (412, "conditionNotMet".to_owned()),
            "{method}"
        );
    }
    let request = bench.events(Method::PATCH, &format!("/{id}"));
    let request = request.header("if-match", event["etag"].as_str().unwrap());
    let moved = answer(request.json(&json!({"location": "there", "description": null}))).await;
    assert_eq!(
        (moved.status, &moved.json()["location"]),
        (200, &json!("there"))
    );
    assert!(moved.json().get("description").is_none(), "null removes");
    let unchanged = bench.events(Method::GET, &format!("/{id}"));
    let unchanged = answer(unchanged.header("if-none-match", moved.header("etag"))).await;
    assert_eq!(unchanged.status, 304);
    bench.sim.stop().await;
}

#[tokio::test]
async fn an_insert_takes_the_writable_fields_and_a_new_id_only() {
    let bench = Bench::start().await;
    let id = bench.event(Class::V1Recorded).event_id.clone();
    let mut copy = bench.get(&format!("/{id}")).await.json();
    assert_eq!(bench.delete(&id, None).await.status, 204);
    let taken = bench.send(Method::POST, "", copy.clone()).await;
    assert_eq!(status_and_reason(&taken), (409, "duplicate".to_owned()));
    copy.as_object_mut().unwrap().remove("id");
    let new = bench
        .send(Method::POST, "?sendUpdates=none", copy.clone())
        .await;
    assert_eq!(new.status, 200, "{}", new.text);
    let new = new.json();
    assert_ne!(new["id"], id.as_str());
    assert_ne!(new["iCalUID"], copy["iCalUID"]);
    assert_ne!(new["created"], copy["created"]);
    for name in ["summary", "description", "start", "end"] {
        assert_eq!(new[name], copy[name], "{name}");
    }
    let chosen = json!({"id": "abc012v", "start": copy["start"], "end": copy["end"]});
    assert_eq!(
        bench.send(Method::POST, "", chosen.clone()).await.status,
        200
    );
    assert_eq!(bench.send(Method::POST, "", chosen).await.status, 409);
    bench.sim.stop().await;
}

#[tokio::test]
async fn malformed_events_are_refused() {
    let bench = Bench::start().await;
    let day = json!({"date": "2026-03-01"});
    for (body, reason) in [
        (json!({"summary": "x"}), "required"),
        (json!({"start": day}), "required"),
        (
            json!({"start": day, "end": {"date": "2026-02-01"}}),
            "timeRangeEmpty",
        ),
        (
            json!({"start": day, "end": {"dateTime": "2026-03-02T00:00:00Z"}}),
            "invalid",
        ),
        (
            json!({"start": {"dateTime": "2026-03-01T09:00:00"}, "end": {"dateTime": "2026-03-01T10:00:00"}}),
            "invalid",
        ),
        (json!({"id": "UPPER", "start": day, "end": day}), "invalid"),
        (json!({"id": "abc", "start": day, "end": day}), "invalid"),
        (
            json!({"status": "maybe", "start": day, "end": day}),
            "invalid",
        ),
        (json!("text"), "parseError"),
    ] {
        let refused = bench.send(Method::POST, "", body.clone()).await;
        assert_eq!(
            status_and_reason(&refused),
            (400, reason.to_owned()),
            "{body}"
        );
    }
    let unlabelled = answer(bench.events(Method::POST, "").body("{}")).await;
    assert_eq!(unlabelled.status, 400);
    // v2 writes days that end when they start; Google takes them.
    let v2 = json!({"start": day, "end": day, "reminders": {"useDefault": false}});
    assert_eq!(bench.send(Method::POST, "", v2).await.status, 200);
    bench.sim.stop().await;
}

#[tokio::test]
async fn somebody_elses_event_can_be_left_and_not_changed() {
    let bench = Bench::start().await;
    let state = bench.sim.final_state();
    let (id, _) = state[&bench.account]
        .iter()
        .find(|(_, event)| event["organizer"].get("self").is_none())
        .unwrap();
    let refused = bench
        .send(Method::PATCH, &format!("/{id}"), json!({"summary": "mine"}))
        .await;
    assert_eq!(
        status_and_reason(&refused),
        (403, "forbiddenForNonOrganizer".to_owned())
    );
    assert_eq!(bench.delete(id, None).await.status, 204);
    bench.sim.stop().await;
}

#[tokio::test]
async fn half_a_character_can_be_written_back() {
    let bench = Bench::start().await;
    let body = r#"{"summary":"x\ud83d","start":{"date":"2026-03-01"},"end":{"date":"2026-03-02"}}"#;
    let new = answer(
        bench
            .events(Method::POST, "")
            .header("content-type", "application/json")
            .body(body),
    )
    .await;
    assert_eq!(new.status, 200);
    assert!(new.text.contains(r"x\ud83d"), "{}", new.text);
    bench.sim.stop().await;
}

#[tokio::test]
async fn an_import_keeps_its_icaluid_and_needs_one() {
    let bench = Bench::start().await;
    let mut body = json!({"start": {"date": "2026-03-01"}, "end": {"date": "2026-03-02"}});
    let refused = bench.send(Method::POST, "/import", body.clone()).await;
    assert_eq!(status_and_reason(&refused), (400, "required".to_owned()));
    body["iCalUID"] = "kept@example.com".into();
    let imported = bench.send(Method::POST, "/import", body).await;
    assert_eq!(imported.json()["iCalUID"], "kept@example.com");
    bench.sim.stop().await;
}

#[tokio::test]
async fn the_comparison_sees_what_is_left_beyond_lost_changed_and_added() {
    let bench = Bench::start().await;
    let key = |class| (bench.account.clone(), bench.event(class).event_id.clone());
    let (v1, v2) = (key(Class::V1Recorded), key(Class::V2Fresh));
    bench.sim.assert_only_deleted(&BTreeSet::new());
    assert_eq!(bench.delete(&v1.1, None).await.status, 204);
    bench.sim.assert_only_deleted(&BTreeSet::from([v1.clone()]));
    assert_eq!(bench.delete(&v2.1, None).await.status, 204);
    let edited = key(Class::Lookalike);
    assert!(
        bench
            .sim
            .edit_event(&edited.0, &edited.1, &json!({"summary": "new"}))
    );
    let day = json!({"date": "2026-03-01"});
    bench
        .send(
            Method::POST,
            "",
            json!({"id": "added0", "start": day, "end": day}),
        )
        .await;
    let orphan = key(Class::V1Orphan);
    let seen = bench.sim.compare(&BTreeSet::from([v1, orphan.clone()]));
    assert_eq!(seen.left, [orphan].into());
    assert_eq!(seen.beyond, [v2.clone()].into());
    assert_eq!(seen.lost, [v2].into());
    assert_eq!(seen.changed, [edited].into());
    assert_eq!(
        seen.added,
        [(bench.account.clone(), "added0".to_owned())].into()
    );
    bench.sim.stop().await;
}
