//! v2's data, its export as Convex writes it, and (`service.rs`) the interface that gives both out.
//!
//! Layout: `_tables/documents.jsonl`, then per table `documents.jsonl` and `generated_schema.jsonl`. The file name carries
//! the snapshot's time in nanoseconds, as `npx convex export` names it.

mod service;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

pub use service::ConvexConfig;
pub(crate) use service::{ConvexService, error, route, usual_error};

/// One deployment: its tables and their documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Deployment {
    /// Documents by table.
    pub tables: BTreeMap<String, Vec<Value>>,
}

/// v2: what the live deployment and the developers' one hold.
#[derive(Debug, Clone, PartialEq)]
pub struct V2 {
    /// The live deployment.
    pub production: Deployment,
    /// The developers' deployment, which wrote calendar events before go-live.
    pub dev: Deployment,
    /// When the snapshots were taken.
    pub snapshot_at: DateTime<Utc>,
}

impl V2 {
    /// Makes v2's case of a v1 case record an event, as a sync after the snapshot would. False if production has no such case.
    pub fn record(&mut self, legacy_case: &str, slot: &str, event_id: &str) -> bool {
        let cases = self
            .production
            .tables
            .get_mut("cases")
            .into_iter()
            .flatten();
        for case in cases {
            if case.get("legacyId").and_then(Value::as_str) == Some(legacy_case) {
                case["calendarEventIds"][slot] = event_id.into();
                return true;
            }
        }
        false
    }
}

/// Where exports were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exports {
    /// `production/snapshot_<start_ts>.zip`.
    pub production_zip: PathBuf,
    /// The same, unpacked: `production/snapshot_<start_ts>`.
    pub production_folder: PathBuf,
    /// `dev/snapshot_<start_ts>.zip`.
    pub dev_zip: PathBuf,
    /// The same, unpacked.
    pub dev_folder: PathBuf,
}

/// Writes both deployments at the snapshot's own time.
pub fn write_exports(v2: &V2, folder: &Path) -> io::Result<Exports> {
    write_exports_at(v2, folder, v2.snapshot_at)
}

/// Writes both deployments as if exported at another time (a fresh export of unchanged data).
pub fn write_exports_at(v2: &V2, folder: &Path, at: DateTime<Utc>) -> io::Result<Exports> {
    let production = write_deployment(&v2.production, &folder.join("production"), at)?;
    let dev = write_deployment(&v2.dev, &folder.join("dev"), at)?;
    Ok(Exports {
        production_zip: production.0,
        production_folder: production.1,
        dev_zip: dev.0,
        dev_folder: dev.1,
    })
}

/// Writes one deployment as ZIP and as folder, and returns both paths.
pub fn write_deployment(
    deployment: &Deployment,
    folder: &Path,
    at: DateTime<Utc>,
) -> io::Result<(PathBuf, PathBuf)> {
    fs::create_dir_all(folder)?;
    let stem = format!("snapshot_{}", at.timestamp_nanos_opt().unwrap_or_default());
    let (path, unpacked) = (folder.join(format!("{stem}.zip")), folder.join(&stem));
    fs::write(&path, archive(deployment)?)?;
    for (name, text) in members(deployment) {
        let path = unpacked.join(&name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok((path, unpacked))
}

/// The ZIP of a deployment.
pub(crate) fn archive(deployment: &Deployment) -> io::Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, text) in members(deployment) {
        zip.start_file(name.as_str(), SimpleFileOptions::default())
            .map_err(io::Error::other)?;
        zip.write_all(text.as_bytes())?;
    }
    Ok(zip.finish().map_err(io::Error::other)?.into_inner())
}

fn members(deployment: &Deployment) -> Vec<(String, String)> {
    let mut members = vec![(
        "README.md".to_owned(),
        "# Welcome to your Convex snapshot export!\n".to_owned(),
    )];
    let tables: Vec<Value> = (10_001..)
        .zip(deployment.tables.keys())
        .map(|(id, name)| json!({"name": name, "id": id}))
        .collect();
    members.push(("_tables/documents.jsonl".to_owned(), lines(&tables)));
    for (name, documents) in &deployment.tables {
        members.push((format!("{name}/documents.jsonl"), lines(documents)));
        members.push((
            format!("{name}/generated_schema.jsonl"),
            "\"uniform\"\n".to_owned(),
        ));
    }
    members
}

fn lines(documents: &[Value]) -> String {
    let mut text = String::new();
    for document in documents {
        text.push_str(&document.to_string());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::WorldSpec;

    #[test]
    fn an_export_is_named_by_its_time_and_holds_the_same_as_zip_and_folder() {
        let mut world = WorldSpec::default().generate();
        let folder = tempfile::tempdir().unwrap();
        let case = world.v2.production.tables["cases"][0]["legacyId"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(world.v2.record(&case, "rfi_due", "fresh0"));
        assert!(!world.v2.record("nosuch", "rfi_due", "fresh0"));
        let exports = write_exports(&world.v2, folder.path()).unwrap();
        let nanos = world.v2.snapshot_at.timestamp_nanos_opt().unwrap();
        let name = format!("snapshot_{nanos}.zip");
        assert_eq!(exports.production_zip.file_name().unwrap(), name.as_str());
        for (archive, unpacked) in [
            (&exports.production_zip, &exports.production_folder),
            (&exports.dev_zip, &exports.dev_folder),
        ] {
            let mut zip = zip::ZipArchive::new(fs::File::open(archive).unwrap()).unwrap();
            for table in ["_tables", "cases", "userProfiles", "users"] {
                let member = format!("{table}/documents.jsonl");
                let mut text = String::new();
                zip.by_name(&member)
                    .unwrap()
                    .read_to_string(&mut text)
                    .unwrap();
                assert_eq!(text, fs::read_to_string(unpacked.join(&member)).unwrap());
                for line in text.lines() {
                    serde_json::from_str::<Value>(line).unwrap();
                }
            }
        }
        let cases = exports.production_folder.join("cases/documents.jsonl");
        let cases = fs::read_to_string(cases).unwrap();
        assert!(cases.contains("fresh0") && cases.contains("\"_creationTime\":"));
    }
}
