//! A deployment as its administrator reaches it: streaming export, snapshot export, and the one system query that tells of it.
//!
//! Source: Convex, "Streaming export API" (<https://docs.convex.dev/streaming-export-api>) and its published backend
//! (`crates/local_backend/src/{streaming_export,snapshot_export}.rs`), from which the error codes are.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{Deployment, archive};
use crate::calendar::PageTweak;
use crate::http::{Call, Incoming, Reply};

/// A snapshot must be younger than this.
const SNAPSHOT_AGE_MAX_NS: i64 = 30 * 86_400 * 1_000_000_000;
/// The function that tells how the latest export stands; the command line subscribes to it.
const LATEST_EXPORT: &str = "_system/cli/exports:getLatest";

/// How a deployment behaves, apart from its content.
#[derive(Debug, Clone, Copy)]
pub struct ConvexConfig {
    /// Whether the plan has the streaming export.
    pub streaming_export: bool,
    /// Most documents of one page.
    pub page_documents: usize,
    /// How often an export has to be asked about until it is complete.
    pub export_polls: u32,
    /// Exports end as `failed`.
    pub exports_fail: bool,
}

impl Default for ConvexConfig {
    fn default() -> Self {
        Self {
            streaming_export: true,
            page_documents: 1_000,
            export_polls: 2,
            exports_fail: false,
        }
    }
}

/// One document written, or deleted, at a time.
#[derive(Debug, Clone)]
struct Change {
    /// Nanoseconds; grows with every change.
    ts: i64,
    table: String,
    id: String,
    document: Option<Value>,
}

#[derive(Debug, Clone)]
struct Export {
    polls_left: u32,
    failed: bool,
    /// The snapshot's time, once it began.
    start_ts: Option<i64>,
}

impl Export {
    fn is_under_way(&self) -> bool {
        !self.failed && self.polls_left > 0
    }

    fn state(&self) -> &'static str {
        match (self.failed, self.polls_left, self.start_ts) {
            (true, ..) => "failed",
            (false, 0, _) => "completed",
            (false, _, None) => "requested",
            (false, _, Some(_)) => "in_progress",
        }
    }
}

/// One deployment being served.
#[derive(Debug)]
pub(crate) struct ConvexService {
    name: String,
    key: String,
    pub(crate) config: ConvexConfig,
    tables: BTreeSet<String>,
    changes: Vec<Change>,
    exports: Vec<Export>,
}

/// The operation of a request, if the interface has it.
pub(crate) fn route(request: &Incoming) -> Option<Call> {
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    let (get, post) = (
        request.method == Method::GET,
        request.method == Method::POST,
    );
    match path.as_slice() {
        ["api", "json_schemas"] if get => Some(Call::ConvexSchemas),
        ["api", "list_snapshot"] if get || post => Some(Call::ConvexListSnapshot),
        ["api", "document_deltas"] if get || post => Some(Call::ConvexDeltas),
        ["api", "query"] if get || post => Some(Call::ConvexQuery),
        ["api", "mutation" | "action" | "perform_import"] | ["api", "import", ..] if post => {
            Some(Call::ConvexWrite)
        }
        ["api", "export", "request", "zip"] if post => Some(Call::ConvexExportRequest),
        ["api", "export", "zip", _] if get => Some(Call::ConvexExportZip),
        _ => None,
    }
}

/// An error as Convex writes it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"code": code, "message": message}))
}

/// The body that goes with a status.
pub(crate) fn usual_error(status: u16, reason: Option<&str>) -> Reply {
    let (code, message) = match status {
        401 => (
            "BadAdminKey",
            "The provided admin key was invalid for this instance",
        ),
        403 => (
            "BadDeployKey",
            "The provided deploy key was invalid for this deployment. Double check that the environment this key was generated for matches the desired deployment.",
        ),
        404 => ("NotFound", "Not found"),
        429 => ("RateLimited", "Too many requests"),
        500.. => (
            "InternalServerError",
            "Your request couldn't be completed. Try again later.",
        ),
        _ => ("BadRequest", "Bad request"),
    };
    error(status, reason.unwrap_or(code), message)
}

fn nanoseconds(at: DateTime<Utc>) -> i64 {
    at.timestamp_nanos_opt().unwrap_or_default()
}

fn id_of(document: &Value) -> String {
    document["_id"].as_str().unwrap_or_default().to_owned()
}

impl ConvexService {
    pub(crate) fn new(
        name: &str,
        key: &str,
        deployment: &Deployment,
        config: ConvexConfig,
        at: DateTime<Utc>,
    ) -> Self {
        let mut service = Self {
            name: name.to_owned(),
            key: key.to_owned(),
            config,
            tables: deployment.tables.keys().cloned().collect(),
            changes: Vec::new(),
            exports: Vec::new(),
        };
        for (table, documents) in &deployment.tables {
            for document in documents {
                service.put(table, document.clone(), at);
            }
        }
        service
    }

    /// The latest time of this deployment: nothing is ever written at or before it again.
    fn latest(&self, now: DateTime<Utc>) -> i64 {
        let last = self.changes.last().map_or(0, |change| change.ts);
        last.max(nanoseconds(now))
    }

    fn put(&mut self, table: &str, document: Value, at: DateTime<Utc>) {
        let last = self.changes.last().map_or(0, |change| change.ts);
        self.changes.push(Change {
            ts: (last + 1).max(nanoseconds(at)),
            table: table.to_owned(),
            id: id_of(&document),
            document: Some(document),
        });
    }

    /// The documents as they stood at a time, by table and id, each with the time it was written.
    fn at(&self, ts: i64) -> BTreeMap<(&str, &str), (i64, &Value)> {
        let mut documents = BTreeMap::new();
        for change in self.changes.iter().take_while(|change| change.ts <= ts) {
            let key = (change.table.as_str(), change.id.as_str());
            if let Some(document) = &change.document {
                documents.insert(key, (change.ts, document));
            } else {
                documents.remove(&key);
            }
        }
        documents
    }

    /// The deployment as it stands.
    pub(crate) fn deployment(&self, now: DateTime<Utc>) -> Deployment {
        self.deployment_at(self.latest(now))
    }

    fn deployment_at(&self, ts: i64) -> Deployment {
        let mut tables: BTreeMap<String, Vec<Value>> = self
            .tables
            .iter()
            .map(|table| (table.clone(), Vec::new()))
            .collect();
        for ((table, _), (_, document)) in self.at(ts) {
            tables
                .entry(table.to_owned())
                .or_default()
                .push(document.clone());
        }
        Deployment { tables }
    }

    /// Changes a document as a function of v2 would. False if there is no such document.
    pub(crate) fn edit(
        &mut self,
        table: &str,
        which: impl Fn(&Value) -> bool,
        change: impl FnOnce(&mut Value),
        now: DateTime<Utc>,
    ) -> bool {
        let documents = self.at(i64::MAX);
        let found = documents
            .into_iter()
            .find(|((in_table, _), (_, document))| *in_table == table && which(document));
        let Some((_, (_, document))) = found else {
            return false;
        };
        let mut document = document.clone();
        change(&mut document);
        self.put(table, document, now);
        true
    }

    /// Deletes a document. False if there is no such document.
    pub(crate) fn delete(&mut self, table: &str, id: &str, now: DateTime<Utc>) -> bool {
        let there = self.at(i64::MAX).contains_key(&(table, id));
        if there {
            let ts = self.latest(now).max(nanoseconds(now)) + 1;
            self.changes.push(Change {
                ts,
                table: table.to_owned(),
                id: id.to_owned(),
                document: None,
            });
        }
        there
    }

    /// Answers a request; the flag says whether anything changed.
    pub(crate) fn answer(
        &mut self,
        call: Call,
        request: &Incoming,
        tweak: PageTweak,
        now: DateTime<Utc>,
    ) -> (Reply, bool) {
        match self.try_answer(call, request, tweak, now) {
            Ok(reply) => (reply, call == Call::ConvexExportRequest),
            Err(reply) => (reply, false),
        }
    }

    fn try_answer(
        &mut self,
        call: Call,
        request: &Incoming,
        tweak: PageTweak,
        now: DateTime<Utc>,
    ) -> Result<Reply, Reply> {
        self.check_key(request)?;
        let streams = matches!(
            call,
            Call::ConvexSchemas | Call::ConvexListSnapshot | Call::ConvexDeltas
        );
        if streams && !self.config.streaming_export {
            return Err(error(
                403,
                "StreamingExportNotEnabled",
                "Streaming export is only available on the Convex Professional plan. See https://www.convex.dev/plans to upgrade.",
            ));
        }
        match call {
            Call::ConvexSchemas => Ok(self.schemas(request, now)),
            Call::ConvexListSnapshot => self.list_snapshot(request, tweak, now),
            Call::ConvexDeltas => self.deltas(request, now),
            Call::ConvexQuery => self.query(request, now),
            Call::ConvexExportRequest => self.request_export(request),
            Call::ConvexExportZip => self.zip(request),
            // The key may do it, and no test wants it done: it is seen in the journal.
            _ => Err(error(
                400,
                "BadRequest",
                "this simulator has no functions that write",
            )),
        }
    }

    fn check_key(&self, request: &Incoming) -> Result<(), Reply> {
        let Some(header) = request.header("authorization") else {
            return Err(usual_error(403, None));
        };
        match header.split_once(' ') {
            Some(("Convex", key)) if key == self.key => Ok(()),
            Some(("Convex", _)) => Err(usual_error(401, None)),
            Some(("Bearer", _)) => Err(usual_error(403, None)),
            _ => Err(error(
                400,
                "InvalidHeaderFailure",
                "Malformed Authorization header.",
            )),
        }
    }

    fn schemas(&self, request: &Incoming, now: DateTime<Utc>) -> Reply {
        let delta = request.param("deltaSchema") == Some("true");
        let mut schemas = Map::new();
        for (table, documents) in self.deployment(now).tables {
            let mut properties = Map::new();
            let fields = documents
                .iter()
                .filter_map(Value::as_object)
                .flat_map(Map::keys);
            for name in fields {
                properties.insert(name.clone(), json!({}));
            }
            if delta {
                for (name, kind) in [
                    ("_table", "string"),
                    ("_component", "string"),
                    ("_ts", "integer"),
                    ("_deleted", "boolean"),
                ] {
                    properties.insert(name.to_owned(), json!({"type": kind}));
                }
            }
            let schema = json!({
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object",
                "properties": properties,
                "additionalProperties": false,
            });
            schemas.insert(table, schema);
        }
        Reply::json(200, &Value::Object(schemas))
    }

    fn list_snapshot(
        &self,
        request: &Incoming,
        tweak: PageTweak,
        now: DateTime<Utc>,
    ) -> Result<Reply, Reply> {
        let latest = self.latest(now);
        let snapshot = match integer(request, "snapshot")? {
            None => latest,
            Some(ts) if ts > latest => {
                return Err(error(
                    400,
                    "SnapshotTooNew",
                    "Snapshot timestamp is in the future.",
                ));
            }
            Some(ts) if ts < latest - SNAPSHOT_AGE_MAX_NS => {
                return Err(error(
                    400,
                    "SnapshotTooOld",
                    "Snapshot is too old. Start again with a new one.",
                ));
            }
            Some(ts) => ts,
        };
        let cursor = match request.param("cursor").filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(read_cursor(text)?),
        };
        let wanted = request.param("tableName").filter(|name| !name.is_empty());
        let documents = self.at(snapshot);
        let after: Vec<_> = documents
            .into_iter()
            .filter(|((table, _), _)| wanted.is_none_or(|wanted| wanted == *table))
            .filter(|((table, id), _)| {
                let place = (*table, *id);
                cursor.as_ref().is_none_or(|(in_table, last)| {
                    let last = (in_table.as_str(), last.as_str());
                    place > last || (place == last && matches!(tweak, PageTweak::Duplicate))
                })
            })
            .collect();
        let most = match tweak {
            PageTweak::Empty => 0,
            PageTweak::Short => 1,
            _ => self.config.page_documents,
        };
        let page = &after[..after.len().min(most)];
        let values: Vec<Value> = page
            .iter()
            .map(|((table, _), (ts, document))| exported(table, *ts, Some(document), ""))
            .collect();
        let has_more = page.len() < after.len() || matches!(tweak, PageTweak::Loop);
        let reached = match (page.last(), tweak) {
            (_, PageTweak::Loop) | (None, _) => cursor,
            (Some(((table, id), _)), _) => Some(((*table).to_owned(), (*id).to_owned())),
        };
        let cursor = reached.filter(|_| has_more).map(write_cursor);
        // Convex always gives a cursor while there is more; before the first document it stands at the start.
        let cursor = cursor.or_else(|| has_more.then(|| write_cursor(Default::default())));
        Ok(Reply::json(
            200,
            &json!({
                "values": values,
                "hasMore": has_more,
                "snapshot": snapshot,
                "cursor": cursor,
            }),
        ))
    }

    fn deltas(&self, request: &Incoming, now: DateTime<Utc>) -> Result<Reply, Reply> {
        let Some(cursor) = integer(request, "cursor")? else {
            return Err(error(
                400,
                "DocumentDeltasCursorRequired",
                "/api/document_deltas requires a cursor",
            ));
        };
        let latest = self.latest(now);
        let wanted = request.param("tableName").filter(|name| !name.is_empty());
        let after: Vec<&Change> = self
            .changes
            .iter()
            .filter(|change| change.ts > cursor && change.ts <= latest)
            .filter(|change| wanted.is_none_or(|wanted| wanted == change.table))
            .collect();
        let page = &after[..after.len().min(self.config.page_documents)];
        let has_more = page.len() < after.len();
        let reached = match page.last() {
            Some(last) if has_more => last.ts,
            _ => latest,
        };
        let values: Vec<Value> = page
            .iter()
            .map(|change| {
                exported(
                    &change.table,
                    change.ts,
                    change.document.as_ref(),
                    &change.id,
                )
            })
            .collect();
        Ok(Reply::json(
            200,
            &json!({"values": values, "hasMore": has_more, "cursor": reached}),
        ))
    }

    /// Queries of v2's own are not simulated; of the system's, the one that tells how the latest export stands.
    fn query(&mut self, request: &Incoming, now: DateTime<Utc>) -> Result<Reply, Reply> {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let path = request
            .param("path")
            .map(str::to_owned)
            .or_else(|| body["path"].as_str().map(str::to_owned));
        let Some(path) = path else {
            return Err(error(400, "BadJsonBody", "missing field `path`"));
        };
        if path != LATEST_EXPORT {
            let message = format!(
                "Could not find public function for '{path}'. Did you forget to run `npx convex dev` or `npx convex deploy`?"
            );
            return Ok(Reply::json(
                200,
                &json!({"status": "error", "errorMessage": message, "logLines": []}),
            ));
        }
        let latest = self.latest(now);
        let fails = self.config.exports_fail;
        let value = match self.exports.last_mut() {
            None => Value::Null,
            Some(export) => {
                let state = export.state();
                let mut value = json!({
                    "_id": "kz7exports",
                    "_creationTime": 1.0,
                    "state": state,
                    "format": {"format": "zip", "include_storage": false},
                    "requestor": "snapshotExport",
                });
                if let Some(start) = export.start_ts {
                    value["start_ts"] = Value::from(start.to_string());
                }
                if state == "completed" {
                    value["complete_ts"] = Value::from(latest.to_string());
                }
                // What is told is how it stood; then it goes on.
                if export.is_under_way() {
                    export.start_ts.get_or_insert(latest);
                    export.polls_left -= 1;
                    export.failed = fails && export.polls_left == 0;
                }
                value
            }
        };
        Ok(Reply::json(
            200,
            &json!({"status": "success", "value": value}),
        ))
    }

    fn request_export(&mut self, request: &Incoming) -> Result<Reply, Reply> {
        if !request.body.is_empty() && request.header("content-type").is_none() {
            return Err(error(400, "BadRequest", "a body without a type"));
        }
        if self.exports.last().is_some_and(Export::is_under_way) {
            return Err(error(
                400,
                "ExportInProgress",
                "There is already an export requested or in progress.",
            ));
        }
        self.exports.push(Export {
            polls_left: self.config.export_polls.max(1),
            failed: false,
            start_ts: None,
        });
        Ok(Reply::empty(200))
    }

    /// Requests an export as somebody else would: from the dashboard.
    pub(crate) fn begin_export(&mut self) {
        self.exports.push(Export {
            polls_left: self.config.export_polls.max(1),
            failed: false,
            start_ts: None,
        });
    }

    fn zip(&self, request: &Incoming) -> Result<Reply, Reply> {
        let text = request.segments.last().map_or("", String::as_str);
        let Ok(ts) = text.parse::<i64>() else {
            return Err(error(
                400,
                "BadSnapshotTimestamp",
                "Snapshot timestamp did not parse to a timestamp.",
            ));
        };
        let complete = self
            .exports
            .iter()
            .any(|export| export.state() == "completed" && export.start_ts == Some(ts));
        if !complete {
            return Err(error(
                404,
                "ExportNotFound",
                "There is no completed export at this timestamp.",
            ));
        }
        let bytes = archive(&self.deployment_at(ts))
            .map_err(|_| error(500, "InternalServerError", "the archive could not be made"))?;
        let name = format!("snapshot_{}_{ts}.zip", self.name);
        let reply = Reply {
            status: 200,
            headers: vec![("content-type", "application/zip".to_owned())],
            body: bytes,
        };
        Ok(reply.with_header(
            "content-disposition",
            format!("attachment; filename=\"{name}\""),
        ))
    }
}

/// A document as the streaming export writes it; one that is gone is named only.
fn exported(table: &str, ts: i64, document: Option<&Value>, id: &str) -> Value {
    let mut value = document.cloned().unwrap_or_else(|| json!({"_id": id}));
    value["_component"] = "".into();
    value["_table"] = table.into();
    value["_ts"] = ts.into();
    value["_deleted"] = document.is_none().into();
    value
}

fn integer(request: &Incoming, name: &str) -> Result<Option<i64>, Reply> {
    request
        .param(name)
        .filter(|text| !text.is_empty())
        .map(|text| {
            text.parse().map_err(|_| {
                error(
                    400,
                    "BadQueryArgs",
                    &format!("Failed to deserialize query string: {name}: invalid digit"),
                )
            })
        })
        .transpose()
}

fn write_cursor((table, id): (String, String)) -> String {
    json!({"tablet": table, "id": id}).to_string()
}

fn read_cursor(text: &str) -> Result<(String, String), Reply> {
    let wrong = || error(400, "BadCursor", "The cursor could not be read.");
    let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let part = |name: &str| value[name].as_str().map(str::to_owned).ok_or_else(wrong);
    Ok((part("tablet")?, part("id")?))
}
