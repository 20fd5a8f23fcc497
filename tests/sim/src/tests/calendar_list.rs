//! `events.list`: pages, sync tokens, filters.

use std::collections::BTreeSet;

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
    let bench = Bench::serve(world, SimConfig::default()).await;
    let (items, _, _) = all(&bench, "maxResults=10").await;

    let twice = Fault::once(Call::EventsList, FaultKind::DuplicateItems).when(Occurrence::Nth(2));
    bench.sim.add_fault(twice);
    let (doubled, _, _) = all(&bench, "maxResults=10").await;
    assert!(doubled.len() > items.len());
    assert_eq!(ids(&doubled), ids(&items));
    bench.sim.clear_faults();

    for kind in [FaultKind::EmptyPage, FaultKind::ShortPage] {
        bench.sim.add_fault(Fault::once(Call::EventsList, kind));
        let (same, _, pages) = all(&bench, "maxResults=10").await;
        assert_eq!(same.len(), items.len());
        assert!(pages > items.len().div_ceil(10) || items.len() % 10 == 0);
    }

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
