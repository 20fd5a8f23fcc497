//! v2's data, and its export as Convex writes it.
//!
//! Layout: `_tables/documents.jsonl`, then per table `documents.jsonl` and `generated_schema.jsonl`. The file name carries
//! the snapshot's time in nanoseconds, as `npx convex export` names it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

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
    let (archive, unpacked) = (folder.join(format!("{stem}.zip")), folder.join(&stem));
    let mut zip = zip::ZipWriter::new(fs::File::create(&archive)?);
    for (name, text) in members(deployment) {
        zip.start_file(name.as_str(), SimpleFileOptions::default())
            .map_err(io::Error::other)?;
        zip.write_all(text.as_bytes())?;
        let path = unpacked.join(&name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    zip.finish().map_err(io::Error::other)?;
    Ok((archive, unpacked))
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
    documents
        .iter()
        .map(|document| format!("{document}\n"))
        .collect()
}
