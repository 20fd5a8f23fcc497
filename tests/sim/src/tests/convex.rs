//! A deployment of v2, as its administrator reaches it.

use std::io::{Cursor, Read as _};

use reqwest::Method;
use serde_json::Value;

use super::{Answer, Bench, answer};
use crate::{Call, ConvexConfig, Fault, FaultKind, SimConfig, WorldSpec};

async fn bench(convex: ConvexConfig) -> Bench {
    let config = SimConfig {
        convex,
        ..SimConfig::default()
    };
    Bench::with(WorldSpec::default().users(3), config).await
}

impl Bench {
    async fn convex(&self, method: Method, path: &str) -> Answer {
        let env = self.sim.env();
        let request = self
            .http
            .request(method, format!("{}{path}", env["CONVEX_URL"]))
            .header(
                "authorization",
                format!("Convex {}", env["CONVEX_DEPLOY_KEY"]),
            );
        answer(request).await
    }

    async fn convex_get(&self, path: &str) -> Value {
        let answer = self.convex(Method::GET, path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    async fn latest(&self) -> Value {
        let path = "/api/query?path=_system/cli/exports:getLatest&args=%7B%7D&format=json";
        self.convex_get(path).await["value"].clone()
    }
}

fn ids(values: &Value) -> Vec<&str> {
    let values = values["values"].as_array().unwrap();
    values
        .iter()
        .map(|it| it["_id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn only_the_deployments_own_key_opens_it() {
    let bench = bench(ConvexConfig::default()).await;
    let env = bench.sim.env();
    let get = |header: Option<String>| {
        let mut request = bench
            .http
            .get(format!("{}/api/json_schemas", env["CONVEX_URL"]));
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        answer(request)
    };
    for (header, status, code) in [
        (None, 403, "BadDeployKey"),
        (
            Some(format!("Convex {}", env["CONVEX_DEV_DEPLOY_KEY"])),
            401,
            "BadAdminKey",
        ),
        (
            Some(format!("Bearer {}", env["CONVEX_DEPLOY_KEY"])),
            403,
            "BadDeployKey",
        ),
        (Some("Convex".to_owned()), 400, "InvalidHeaderFailure"),
    ] {
        let refused = get(header.clone()).await;
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (status, Some(code)),
            "{header:?}"
        );
    }
    let opened = get(Some(format!("Convex {}", env["CONVEX_DEPLOY_KEY"]))).await;
    assert_eq!(opened.status, 200);
    let schemas = opened.json();
    for table in ["cases", "userProfiles", "users"] {
        assert!(schemas[table]["properties"]["_id"].is_object(), "{table}");
    }
    let journal = serde_json::to_string(&bench.sim.journal()).unwrap();
    assert!(!journal.contains(&env["CONVEX_DEPLOY_KEY"]));
}

#[tokio::test]
async fn pages_are_of_one_snapshot_whatever_is_written_meanwhile() {
    let bench = bench(ConvexConfig {
        page_documents: 2,
        ..ConvexConfig::default()
    })
    .await;
    let cases = &bench.sim.world().v2.production.tables["cases"];
    let first = bench.convex_get("/api/list_snapshot?tableName=cases").await;
    assert_eq!(ids(&first).len(), 2);
    assert_eq!(
        (&first["hasMore"], &first["values"][0]["_table"]),
        (&true.into(), &"cases".into())
    );
    let legacy = cases[0]["legacyId"].as_str().unwrap().to_owned();
    assert!(bench.sim.record_in_v2(&legacy, "rfi_due", "fresh0"));
    let gone = cases.last().unwrap()["_id"].as_str().unwrap();
    assert!(bench.sim.delete_in_v2("cases", gone));

    let mut all: Vec<String> = Vec::new();
    let mut page = first.clone();
    loop {
        all.extend(ids(&page).into_iter().map(str::to_owned));
        assert_eq!(page["snapshot"], first["snapshot"]);
        assert!(!page.to_string().contains("fresh0"));
        if page["hasMore"] == false {
            break;
        }
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("tableName", "cases")
            .append_pair("snapshot", &first["snapshot"].to_string())
            .append_pair("cursor", page["cursor"].as_str().unwrap())
            .finish();
        page = bench
            .convex_get(&format!("/api/list_snapshot?{query}"))
            .await;
    }
    all.sort();
    let mut expected: Vec<&str> = cases.iter().map(|it| it["_id"].as_str().unwrap()).collect();
    expected.sort_unstable();
    assert_eq!(all, expected);

    // What was written since is listed from the snapshot on, in order.
    let deltas = format!(
        "/api/document_deltas?tableName=cases&cursor={}",
        first["snapshot"]
    );
    let deltas = bench.convex_get(&deltas).await;
    assert_eq!(deltas["values"][0]["calendarEventIds"]["rfi_due"], "fresh0");
    assert_eq!(deltas["values"][1]["_deleted"], true);
    assert_eq!(ids(&deltas)[1], gone);
    let after = format!("/api/document_deltas?cursor={}", deltas["cursor"]);
    assert!(ids(&bench.convex_get(&after).await).is_empty());
    let unnamed = bench.convex(Method::GET, "/api/document_deltas").await;
    assert_eq!(unnamed.json()["code"], "DocumentDeltasCursorRequired");
}

#[tokio::test]
async fn an_export_is_asked_for_waited_for_and_downloaded_one_at_a_time() {
    let bench = bench(ConvexConfig::default()).await;
    assert_eq!(bench.latest().await, Value::Null);
    let request = "/api/export/request/zip?includeStorage=false";
    assert_eq!(bench.convex(Method::POST, request).await.status, 200);
    let second = bench.convex(Method::POST, request).await;
    assert_eq!(
        (second.status, second.json()["code"].as_str()),
        (400, Some("ExportInProgress"))
    );
    let mut states = Vec::new();
    let done = loop {
        let latest = bench.latest().await;
        states.push(latest["state"].as_str().unwrap().to_owned());
        if latest["state"] == "completed" {
            break latest;
        }
    };
    assert_eq!(states, ["requested", "in_progress", "completed"]);
    let start = done["start_ts"].as_str().unwrap();
    let env = bench.sim.env();
    let zip = bench
        .http
        .get(format!("{}/api/export/zip/{start}", env["CONVEX_URL"]))
        .header(
            "authorization",
            format!("Convex {}", env["CONVEX_DEPLOY_KEY"]),
        )
        .send()
        .await
        .unwrap();
    let name = zip.headers()["content-disposition"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        name.contains(&format!("snapshot_example-prod-1_{start}.zip")),
        "{name}"
    );
    let bytes = zip.bytes().await.unwrap();
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut cases = String::new();
    let mut member = zip.by_name("cases/documents.jsonl").unwrap();
    member.read_to_string(&mut cases).unwrap();
    let expected = bench.sim.world().v2.production.tables["cases"].len();
    assert_eq!(cases.lines().count(), expected);
    assert_eq!(
        bench.convex(Method::GET, "/api/export/zip/7").await.status,
        404
    );
    assert_eq!(bench.convex(Method::POST, request).await.status, 200);
}

#[tokio::test]
async fn a_plan_without_streaming_says_so_and_faults_speak_convexs_words() {
    let bench = bench(ConvexConfig::default()).await;
    bench.sim.set_streaming_export(false);
    for path in [
        "/api/list_snapshot",
        "/api/document_deltas?cursor=1",
        "/api/json_schemas",
    ] {
        let refused = bench.convex(Method::GET, path).await;
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (403, Some("StreamingExportNotEnabled")),
            "{path}"
        );
    }
    bench.sim.set_streaming_export(true);
    bench.sim.add_fault(Fault::once(
        Call::ConvexListSnapshot,
        FaultKind::status(503),
    ));
    let failed = bench.convex(Method::GET, "/api/list_snapshot").await;
    assert_eq!(
        (failed.status, failed.json()["code"].as_str()),
        (503, Some("InternalServerError"))
    );
    assert_eq!(bench.convex(Method::GET, "/api/nothing").await.status, 404);
    assert_eq!(
        bench.convex(Method::POST, "/api/mutation").await.status,
        400
    );
    let seen: Vec<_> = bench
        .sim
        .journal()
        .into_iter()
        .filter_map(|entry| entry.call)
        .collect();
    assert!(seen.contains(&Call::ConvexWrite));
    assert!(
        bench
            .sim
            .journal()
            .iter()
            .all(|entry| !entry.effect || entry.call == Some(Call::Token))
    );
}
