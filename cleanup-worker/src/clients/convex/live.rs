//! v2 read from a deployment itself: what it records now, and at which moment that was.
//!
//! Source: Convex, "Streaming export API" (<https://docs.convex.dev/streaming-export-api>), for plans that have it: one snapshot over all
//! pages, and the changes since. Else an export is asked for, waited for and downloaded, as `npx convex export` does it. The deploy key may
//! write everything, so nothing here can: the transport has no way to, but for the request for an export.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger::store::spool::SpoolError;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

pub use super::error::{ConvexError, ConvexErrorKind};
use super::source::Source;
use super::{
    Encoding, Origin, TakenAt, V2Case, V2Export, V2Profile, V2Sink, off_thread, read_source,
};
use crate::clients::http::{ReadTransport, Request, Response};
use crate::clients::retry::{RetryPolicy, Timing};
use crate::clients::{ErrorClass, machine_word};
use crate::config::{ConvexDeployment, Deployment};
use crate::secrets::Secret;

const SCHEMAS: &str = "convex.json_schemas";
const LIST: &str = "convex.list_snapshot";
const DELTAS: &str = "convex.document_deltas";
const EXPORT_REQUEST: &str = "convex.export.request";
const EXPORT_STATE: &str = "convex.export.state";
const EXPORT_ZIP: &str = "convex.export.zip";
/// The system's function that the command line asks too.
const LATEST_EXPORT: &str = "_system/cli/exports:getLatest";
/// No table has as many pages; it ends a listing whose cursors never repeat and never end.
const PAGES_MAX: usize = 100_000;
/// How long an export may take, the one of somebody else before it included.
const EXPORT_LIMIT: Duration = Duration::from_mins(10);
/// Longest wait between two looks at an export.
const EXPORT_LOOK: Duration = Duration::from_secs(10);

/// Reads one deployment of v2.
#[derive(Clone)]
pub struct ConvexReader {
    deployment: ConvexDeployment,
    authorization: Secret,
    transport: ReadTransport,
    policy: RetryPolicy,
    timing: Arc<dyn Timing>,
}

/// What changed in the table `cases`.
#[derive(Debug)]
pub struct CaseChanges {
    /// The cases that were written, as they stood after each change; deleted ones are not among them.
    pub cases: Vec<V2Case>,
    /// Up to when.
    pub until: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    values: Vec<&'a RawValue>,
    has_more: bool,
    #[serde(default)]
    snapshot: Option<Value>,
    #[serde(default)]
    cursor: Option<Value>,
}

/// What stands beside a document's own fields.
#[derive(Deserialize)]
struct Beside {
    #[serde(rename = "_table")]
    table: String,
    #[serde(rename = "_component", default)]
    component: String,
    #[serde(rename = "_ts")]
    ts: i64,
    #[serde(rename = "_deleted", default)]
    deleted: bool,
}

/// How far a snapshot's listing is.
struct Snapshot {
    /// Its time, once the first page has told.
    at: Option<i64>,
    digest: Sha256,
}

impl ConvexReader {
    /// Reads `deployment` through `transport`.
    pub fn new(
        deployment: &ConvexDeployment,
        transport: ReadTransport,
        policy: RetryPolicy,
        timing: Arc<dyn Timing>,
    ) -> Self {
        let authorization = Secret::new(format!("Convex {}", deployment.deploy_key.expose()));
        Self {
            deployment: deployment.clone(),
            authorization,
            transport,
            policy,
            timing,
        }
    }

    /// Which deployment is read.
    pub fn deployment(&self) -> Deployment {
        self.deployment.deployment
    }

    /// Reads everything that matters into `sink`, as it stood at one moment: streamed where the plan has it, else from an export that is asked for.
    ///
    /// # Errors
    /// [`ConvexError`]; there is no partial result.
    pub async fn read(&self, sink: &mut dyn V2Sink) -> Result<V2Export, ConvexError> {
        match self.stream(sink).await {
            Err(error) if error.is_no_streaming() => self.export(sink).await,
            result => result,
        }
    }

    async fn stream(&self, sink: &mut dyn V2Sink) -> Result<V2Export, ConvexError> {
        let query = [("deltaSchema", "true"), ("format", "json")];
        let schemas = self.get(SCHEMAS, "/api/json_schemas", &query).await?;
        let tables: Value = serde_json::from_slice(&schemas.body).unwrap_or_default();
        // A table that is not there is listed as an empty one.
        for table in ["cases", "userProfiles"] {
            if tables.get(table).is_none() {
                let kind = ConvexErrorKind::NoTable(table);
                return Err(ConvexError::new(SCHEMAS, 1, ErrorClass::NotFound, kind));
            }
        }
        let mut digest = Sha256::new();
        digest.update(self.deployment().as_str());
        let mut snapshot = Snapshot { at: None, digest };
        let mut cases = 0;
        self.table(&mut snapshot, "cases", V2Case::read, |case| {
            cases += 1;
            sink.case(case)
        })
        .await?;
        self.table(&mut snapshot, "userProfiles", V2Profile::read, |profile| {
            sink.profile(profile)
        })
        .await?;
        Ok(V2Export {
            origin: Origin::Live(self.deployment()),
            deployment: self.deployment(),
            digest: hex::encode(snapshot.digest.finalize()),
            taken_at: DateTime::from_timestamp_nanos(snapshot.at.unwrap_or_default()),
            taken_at_source: TakenAt::Stream,
            encoding: Encoding::Clean,
            cases,
        })
    }

    /// A table as it stood at the snapshot; the first page of the first table takes the snapshot.
    async fn table<T>(
        &self,
        snapshot: &mut Snapshot,
        table: &'static str,
        read: fn(&Value) -> Result<T, &'static str>,
        mut take: impl FnMut(T) -> Result<(), SpoolError> + Send,
    ) -> Result<(), ConvexError> {
        let mut cursor: Option<String> = None;
        let mut seen = HashSet::new();
        let mut ids: HashSet<String> = HashSet::new();
        for _ in 0..PAGES_MAX {
            let at = snapshot.at.map(|at| at.to_string());
            let mut query = vec![("tableName", table), ("format", "json")];
            query.extend(at.as_deref().map(|at| ("snapshot", at)));
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let answer = self.get(LIST, "/api/list_snapshot", &query).await?;
            let wrong = |what| ConvexError::malformed(LIST, 1, &answer, what);
            let page = page(&answer).map_err(wrong)?;
            let of = page
                .snapshot
                .as_ref()
                .and_then(nanoseconds)
                .ok_or_else(|| wrong("the page does not say which snapshot it is of"))?;
            if *snapshot.at.get_or_insert(of) != of {
                return Err(wrong("the page is of another snapshot"));
            }
            for raw in &page.values {
                let beside = beside(raw).map_err(wrong)?;
                // A component may have a table of the same name.
                if !beside.component.is_empty() {
                    continue;
                }
                if beside.table != table {
                    return Err(wrong("the page holds a document of another table"));
                }
                if beside.deleted || beside.ts > of {
                    return Err(wrong("the page holds what the snapshot does not"));
                }
                let (id, document) = document(table, raw, read)?;
                // Pages may overlap: one snapshot has one version of a document.
                if ids.insert(id) {
                    snapshot.digest.update(raw.get());
                    snapshot.digest.update(b"\n");
                    take(document).map_err(not_kept)?;
                }
            }
            if !page.has_more {
                return Ok(());
            }
            let next = page.cursor.as_ref().and_then(Value::as_str);
            let next = next.ok_or_else(|| wrong("there is more, and no cursor to it"))?;
            // A page without documents leaves the cursor where it is: a page with some never does.
            let moved = cursor.as_deref() != Some(next) || !page.values.is_empty();
            if moved && !seen.insert(next.to_owned()) {
                break;
            }
            cursor = Some(next.to_owned());
        }
        let kind = ConvexErrorKind::PageLoop;
        Err(ConvexError::new(LIST, 1, ErrorClass::Server, kind))
    }

    /// The cases that were written after `since`, the time of a snapshot or of earlier changes.
    ///
    /// # Errors
    /// [`ConvexError`]; where `since` is too old for the deployment, the whole has to be read again.
    pub async fn case_changes(&self, since: DateTime<Utc>) -> Result<CaseChanges, ConvexError> {
        let mut cursor = since.timestamp_nanos_opt().unwrap_or_default();
        let mut cases = Vec::new();
        for _ in 0..PAGES_MAX {
            let text = cursor.to_string();
            let query = [
                ("cursor", text.as_str()),
                ("tableName", "cases"),
                ("format", "json"),
            ];
            let answer = self.get(DELTAS, "/api/document_deltas", &query).await?;
            let wrong = |what| ConvexError::malformed(DELTAS, 1, &answer, what);
            let page = page(&answer).map_err(wrong)?;
            for raw in &page.values {
                let beside = beside(raw).map_err(wrong)?;
                if beside.table == "cases" && beside.component.is_empty() && !beside.deleted {
                    cases.push(document("cases", raw, V2Case::read)?.1);
                }
            }
            let next = page
                .cursor
                .as_ref()
                .and_then(nanoseconds)
                .ok_or_else(|| wrong("the page has no cursor"))?;
            if !page.has_more {
                let until = DateTime::from_timestamp_nanos(next.max(cursor));
                return Ok(CaseChanges { cases, until });
            }
            if next <= cursor {
                break;
            }
            cursor = next;
        }
        let kind = ConvexErrorKind::PageLoop;
        Err(ConvexError::new(DELTAS, 1, ErrorClass::Server, kind))
    }

    /// Asks for an export, waits until it is complete, and reads it.
    async fn export(&self, sink: &mut dyn V2Sink) -> Result<V2Export, ConvexError> {
        let began = self.timing.elapsed();
        let before = self.latest_export().await?;
        self.request_export(began).await?;
        let mut looks = 0;
        let start = loop {
            let now = self.latest_export().await?;
            match (now.state.as_str(), now.start_ts) {
                // The one before ours is still the latest: our request is not seen yet.
                ("completed" | "failed", start) if start == before.start_ts => {}
                ("completed", Some(start)) => break start,
                ("failed", _) => return Err(failed(ConvexErrorKind::ExportFailed)),
                _ => {}
            }
            self.wait(began, &mut looks).await?;
        };
        let path = format!("/api/export/zip/{start}");
        let zip = self.get(EXPORT_ZIP, &path, &[]).await?.body;
        self.read_zip(zip, start, sink).await
    }

    async fn read_zip(
        &self,
        zip: Bytes,
        start: i64,
        sink: &mut dyn V2Sink,
    ) -> Result<V2Export, ConvexError> {
        let deployment = self.deployment();
        let read = move |sink: &mut dyn V2Sink| {
            let source = Source::downloaded(deployment, zip)?;
            let taken = (DateTime::from_timestamp_nanos(start), TakenAt::Export);
            read_source(source, deployment, taken, sink)
        };
        match off_thread(read, sink).await.map_err(not_kept)? {
            Some(Ok(export)) => Ok(export),
            Some(Err(error)) => Err(failed(ConvexErrorKind::Export(Box::new(error)))),
            None => Err(failed(ConvexErrorKind::Malformed("reading it did not end"))),
        }
    }

    /// One export at a time: somebody else's is waited for.
    async fn request_export(&self, began: Duration) -> Result<(), ConvexError> {
        let mut looks = 0;
        loop {
            // A request whose answer is lost may have been heard; asking again then says that one is in progress, which is waited for.
            let call = |attempt| async move {
                let sent = self.transport.export_request(
                    EXPORT_REQUEST,
                    self.deployment(),
                    &self.authorization,
                );
                let answer = sent
                    .await
                    .map_err(|source| ConvexError::transport(EXPORT_REQUEST, attempt, source))?;
                match answer.status {
                    200..=299 => Ok(()),
                    _ => Err(ConvexError::answered(EXPORT_REQUEST, attempt, &answer)),
                }
            };
            match self.policy.run(self.timing.as_ref(), call).await {
                Err(error) if error.is_export_in_progress() => {}
                result => return result,
            }
            loop {
                let latest = self.latest_export().await?;
                if !matches!(latest.state.as_str(), "requested" | "in_progress") {
                    break;
                }
                self.wait(began, &mut looks).await?;
            }
        }
    }

    async fn wait(&self, began: Duration, looks: &mut u32) -> Result<(), ConvexError> {
        if self.timing.elapsed().saturating_sub(began) > EXPORT_LIMIT {
            return Err(failed(ConvexErrorKind::ExportUnfinished(EXPORT_LIMIT)));
        }
        *looks += 1;
        let wait = self.policy.wait(*looks, None, Duration::ZERO);
        self.timing.sleep(wait.min(EXPORT_LOOK)).await;
        Ok(())
    }

    /// How the latest export stands; an empty state where there was none yet.
    async fn latest_export(&self) -> Result<ExportState, ConvexError> {
        let query = [("path", LATEST_EXPORT), ("args", "{}"), ("format", "json")];
        let answer = self.get(EXPORT_STATE, "/api/query", &query).await?;
        let wrong = |what| ConvexError::malformed(EXPORT_STATE, 1, &answer, what);
        let body: Value =
            serde_json::from_slice(&answer.body).map_err(|_| wrong("the answer is not JSON"))?;
        if body["status"] != "success" {
            return Err(wrong("the deployment does not tell how its exports stand"));
        }
        let value = &body["value"];
        if value.is_null() {
            return Ok(ExportState::default());
        }
        let state = value["state"].as_str();
        Ok(ExportState {
            state: state
                .ok_or_else(|| wrong("the export has no state"))?
                .to_owned(),
            start_ts: value.get("start_ts").and_then(nanoseconds),
        })
    }

    async fn get(
        &self,
        operation: &'static str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, ConvexError> {
        let mut url = self.deployment.address(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = Request::new(operation, url)
            .secret_header(reqwest::header::AUTHORIZATION, &self.authorization);
        let call = |attempt| {
            let request = request.clone();
            async move {
                let answer = self
                    .transport
                    .get(request)
                    .await
                    .map_err(|source| ConvexError::transport(operation, attempt, source))?;
                match answer.status {
                    200 => Ok(answer),
                    _ => Err(ConvexError::answered(operation, attempt, &answer)),
                }
            }
        };
        self.policy.run(self.timing.as_ref(), call).await
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct ExportState {
    /// `requested`, `in_progress`, `completed`, `failed`.
    state: String,
    /// The moment that it shows.
    start_ts: Option<i64>,
}

fn not_kept(error: SpoolError) -> ConvexError {
    failed(ConvexErrorKind::Keep(error))
}

fn failed(kind: ConvexErrorKind) -> ConvexError {
    ConvexError::new(EXPORT_STATE, 1, ErrorClass::Server, kind)
}

fn page(answer: &Response) -> Result<Page<'_>, &'static str> {
    let body = std::str::from_utf8(&answer.body).map_err(|_| "the page is not UTF-8")?;
    // The parser's own error could quote a document.
    serde_json::from_str(body).map_err(|_| "the page is not a list of documents")
}

fn beside(raw: &RawValue) -> Result<Beside, &'static str> {
    serde_json::from_str(raw.get()).map_err(|_| "a document does not say what it is of")
}

fn document<T>(
    table: &'static str,
    raw: &RawValue,
    read: fn(&Value) -> Result<T, &'static str>,
) -> Result<(String, T), ConvexError> {
    let wrong = |id: Option<&str>, what| {
        let id = id.and_then(machine_word);
        let kind = ConvexErrorKind::Document(table, id.unwrap_or_default(), what);
        ConvexError::new(LIST, 1, ErrorClass::Server, kind)
    };
    let value: Value =
        serde_json::from_str(raw.get()).map_err(|_| wrong(None, "it is not JSON"))?;
    let id = value["_id"].as_str();
    let id = id.ok_or_else(|| wrong(None, "it has no _id"))?;
    let document = read(&value).map_err(|what| wrong(Some(id), what))?;
    Ok((id.to_owned(), document))
}

/// A time of Convex's in nanoseconds: a number, or text where the encoding has no such number.
fn nanoseconds(value: &Value) -> Option<i64> {
    super::document::integer(value)
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
