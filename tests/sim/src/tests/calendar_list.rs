//! `events.list`: pages, sync tokens, filters.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Bench, answer, plain_world};
use crate::calendar::PageShape;
use crate::{Call, Class, Fault, FaultKind, Occurrence, SimConfig};

/// Follows the pages of a listing and returns every item, duplicates and all, with the last page.
async fn all(bench: &Bench, query: &str) -> (Vec<Value>, Value, usize) {
    let (mut items, mut pages, mut token) = (Vec::new(), 0, None::<String>);
    loop {
        let page = token.map_or(String::new(), |token| format!("&pageToken={token}"));
        let answer = bench.get(&format!("?{query}{page}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let body = answer.json();
        items.extend(body["items"].as_array().unwrap().iter().cloned());
        pages += 1;
        match body["nextPageToken"].as_str() {
            Some(next) => {
                assert!(body.get("nextSyncToken").is_none());
                token = Some(next.to_owned());
            }
            None => return (items, body, pages),
        }
    }
}

fn ids(items: &[Value]) -> BTreeSet<String> {
    items
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn pages_give_every_live_event_once() {
    let world = plain_world(60);
    let live: BTreeSet<String> = world
        .live()
        .into_values()
        .flat_map(BTreeMap::into_keys)
        .collect();
    let pages = PageShape {
        short: 0.4,
        empty: 0.3,
    };
    let bench = Bench::serve(
        world,
        SimConfig {
            pages,
            ..SimConfig::default()
        },
    )
    .await;
    let (items, last, pages) = all(&bench, "maxResults=7").await;
    assert_eq!(items.len(), live.len());
    assert_eq!(ids(&items), live);
    assert!(pages > live.len() / 7);
    assert_eq!(last["kind"], "calendar#events");
    assert_eq!(last["summary"], bench.account);
    assert!(last["nextSyncToken"].is_string());
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_lone_surrogate_is_served_as_it_is_and_lists_with_the_rest() {
    let bench = Bench::start().await;
    let id = &bench.event(Class::Unreadable).event_id;
    let one = bench.get(&format!("/{id}")).await;
    assert_eq!(one.status, 200);
    assert!(one.text.contains("\\ud83d"), "{}", one.text);
    assert!(serde_json::from_str::<Value>(&one.text).is_err());
    assert!(bench.get("?maxResults=2500").await.text.contains("\\ud83d"));
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_sync_token_tells_every_later_change_and_no_other() {
    let bench = Bench::serve(plain_world(40), SimConfig::default()).await;
    let (items, last, _) = all(&bench, "singleEvents=false").await;
    let sync = last["nextSyncToken"].as_str().unwrap().to_owned();
    let (none, _, _) = all(&bench, &format!("syncToken={sync}")).await;
    assert_eq!(none, Vec::<Value>::new());

    let (gone, edited) = (
        items[0]["id"].as_str().unwrap(),
        items[1]["id"].as_str().unwrap(),
    );
    assert_eq!(
        answer(bench.events(Method::DELETE, &format!("/{gone}")))
            .await
            .status,
        204
    );
    assert!(
        bench
            .sim
            .edit_event(&bench.account, edited, &json!({"summary": "mine"}))
    );
    let new = answer(bench.events(Method::POST, "").json(&json!({
        "summary": "new", "start": {"date": "2026-02-01"}, "end": {"date": "2026-02-02"},
    })))
    .await
    .json();

    let (changes, after, _) = all(&bench, &format!("syncToken={sync}")).await;
    let wanted = [gone, edited, new["id"].as_str().unwrap()]
        .map(str::to_owned)
        .into();
    assert_eq!(ids(&changes), wanted);
    let tomb = changes.iter().find(|item| item["id"] == gone).unwrap();
    assert_eq!(tomb["status"], "cancelled");
    assert!(
        tomb.get("summary").is_none(),
        "a tombstone has no details: {tomb}"
    );
    let (full, _, _) = all(&bench, &format!("syncToken={sync}&showDeleted=true")).await;
    let tomb = full.iter().find(|item| item["id"] == gone).unwrap();
    assert!(
        tomb.get("summary").is_some(),
        "with showDeleted it has: {tomb}"
    );
    let next = after["nextSyncToken"].as_str().unwrap();
    assert_eq!(
        all(&bench, &format!("syncToken={next}")).await.0,
        Vec::<Value>::new()
    );

    bench.sim.expire_sync_tokens();
    let expired = bench.get(&format!("?syncToken={sync}")).await;
    assert_eq!(
        (expired.status, expired.reason().as_str()),
        (410, "fullSyncRequired")
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn filters_let_through_what_google_would() {
    let bench = Bench::start().await;
    let find = async |query: &str| -> BTreeSet<String> {
        let (mut found, mut token) = (BTreeSet::new(), String::new());
        loop {
            let text = bench
                .get(&format!("?maxResults=2500&{query}{token}"))
                .await
                .text;
            let body: Value = serde_json::from_str(&crate::calendar::hide(&text)).unwrap();
            found.extend(ids(body["items"].as_array().unwrap()));
            match body["nextPageToken"].as_str() {
                Some(next) => token = format!("&pageToken={next}"),
                None => return found,
            }
        }
    };
    let id = |class| bench.event(class).event_id.clone();
    let everything = find("").await;
    assert!(!everything.contains(&id(Class::Gone)));
    let words = find("q=perm%20TRACKER").await;
    assert!(words.contains(&id(Class::V1Recorded)) && words.contains(&id(Class::V2Fresh)));
    assert!(words.len() < everything.len());
    assert_eq!(find("q=nosuchword").await, BTreeSet::new());
    assert_eq!(find("q=trac").await, BTreeSet::new(), "not a prefix match");
    assert!(find("showDeleted=true").await.len() > everything.len());
    assert!(!find("eventTypes=focusTime").await.is_empty());
    assert!(find("privateExtendedProperty=permApp%3Dv2").await.len() < 10);
    let past = find("timeMax=2026-01-10T00:00:00Z").await;
    let future = find("timeMin=2026-01-10T00:00:00Z").await;
    assert!(past.len() > 5 && future.len() > 5 && past.len() + future.len() >= everything.len());
    let expanded = find("singleEvents=true").await;
    assert!(
        expanded.iter().any(|id| id.contains('_')),
        "instances have ids of their own"
    );
    for order in ["orderBy=updated", "orderBy=startTime&singleEvents=true"] {
        assert!(find(order).await.len() >= everything.len());
    }
    bench.sim.stop().await;
}

#[tokio::test]
async fn page_faults_loop_duplicate_shorten_and_empty() {
    let bench = Bench::serve(plain_world(40), SimConfig::default()).await;
    let (items, _, usual) = all(&bench, "maxResults=10").await;

    let twice = Fault::once(Call::EventsList, FaultKind::DuplicateItems).when(Occurrence::Nth(2));
    bench.sim.add_fault(twice);
    let (doubled, _, _) = all(&bench, "maxResults=10").await;
    assert!(doubled.len() > items.len());
    assert_eq!(ids(&doubled), ids(&items));
    bench.sim.clear_faults();

    bench
        .sim
        .add_fault(Fault::once(Call::EventsList, FaultKind::EmptyPage));
    let (same, _, pages) = all(&bench, "maxResults=10").await;
    assert_eq!((same.len(), pages), (items.len(), usual + 1));
    bench
        .sim
        .add_fault(Fault::once(Call::EventsList, FaultKind::ShortPage).when(Occurrence::Times(3)));
    let (same, _, pages) = all(&bench, "maxResults=10").await;
    assert_eq!(same.len(), items.len());
    assert!(pages > usual);
    bench.sim.clear_faults();

    let looped = Fault::once(Call::EventsList, FaultKind::PageTokenLoop).when(Occurrence::Always);
    bench.sim.add_fault(looped);
    let first = bench.get("?maxResults=10").await.json();
    let token = first["nextPageToken"].as_str().unwrap();
    let second = bench
        .get(&format!("?maxResults=10&pageToken={token}"))
        .await
        .json();
    assert_eq!(second["nextPageToken"], token);
    bench.sim.stop().await;
}
