//! The log file of a run: one line per item with subject, seq, hash, class, etag digest and outcome, and at its end one per user. No
//! address unless asked for, and no token ever.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ledger::chain::entry::Hash;
use ledger::domain::event::Event;
use ledger::domain::id::{RunId, Subject};
use ledger::domain::printable::{one_line, one_word};
use ledger::store::Appended;

use super::EngineError;
use super::live::LiveReport;
use super::place::Outline;
use super::step::Live;

/// A run's log file, mode 0600. Lines go straight to the file, so that a killed run leaves what it did.
#[derive(Debug, Clone)]
pub struct RunLog {
    path: PathBuf,
    addresses: bool,
    /// Of whom the lines tell, where that may stand there.
    address: Option<String>,
    file: Arc<Mutex<File>>,
}

impl RunLog {
    /// Opens `<folder>/<run>.log` for appending; a resumed run goes on in its file. `addresses`: lines about items name their
    /// user's address.
    pub fn open(folder: &Path, run: RunId, addresses: bool) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{run}.log"));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            path,
            addresses,
            address: None,
            file: Arc::new(Mutex::new(file)),
        })
    }

    /// The same file for what concerns the user of this address, which is asked for where it may stand there.
    #[must_use]
    pub fn about(&self, address: impl FnOnce() -> Option<String>) -> Self {
        Self {
            address: self.addresses.then(address).flatten(),
            ..self.clone()
        }
    }

    /// Whether users' addresses may stand in it.
    pub fn names_addresses(&self) -> bool {
        self.addresses
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the receipt of an entry, with what it was about in words.
    pub fn entry(&self, appended: &Appended, words: &[(&str, &str)]) {
        let entry = &appended.entry;
        let mut line = format!(
            "{} {} seq={} hash={} subject={}",
            entry.recorded_at, entry.event_type, entry.seq, appended.hash, entry.subject
        );
        let address = self.address.as_deref();
        let address = address.map(|address| ("email", address));
        for (name, value) in words.iter().copied().chain(address) {
            line.extend([" ", name, "=", &*one_word(value)]);
        }
        self.line(&line);
    }

    /// Writes the receipt of an entry, with what it says in words, as far as that names nobody.
    pub fn event(&self, appended: &Appended, event: &Event) {
        let words = words(event);
        let words: Vec<(&str, &str)> = words
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.entry(appended, &words);
    }

    /// Writes the receipt of a run's end, with what it came to.
    pub fn finished(&self, appended: &Appended, status: &str, totals: &BTreeMap<String, u64>) {
        let counts: Vec<String> = totals.values().map(u64::to_string).collect();
        let counts = totals.keys().map(String::as_str).zip(&counts);
        let mut words = vec![("status", status)];
        words.extend(counts.map(|(name, count)| (name, count.as_str())));
        self.entry(appended, &words);
    }

    /// Writes a line of its own. It stays one, whatever others wrote of it: a line that they made up would pass for a receipt.
    pub fn line(&self, line: &str) {
        let line = one_line(line);
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A full disk must not stop a deletion half-way; the ledger has the same and more.
        // In one piece: another worker of the same run may write to the same file.
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            tracing::warn!(%error, "the run's log file could not be written");
        }
    }
}

/// What an entry says, for a log.
fn words(event: &Event) -> Vec<(&'static str, String)> {
    let name = |value: serde_json::Result<serde_json::Value>| {
        let value = value.ok();
        let name = value.and_then(|value| value.as_str().map(str::to_owned));
        name.unwrap_or_default()
    };
    match event {
        Event::RunStarted(started) => {
            let of = started.options.get("of").cloned();
            let mut words = vec![("verb", started.verb.clone())];
            words.extend(of.map(|of| ("of", of)));
            words
        }
        Event::RunFinished(finished) => vec![("status", finished.status.clone())],
        Event::ContainerListed(listed) => vec![
            ("phase", listed.phase.clone()),
            ("items", listed.items.to_string()),
            ("unexplained", listed.unexplained.to_string()),
        ],
        Event::LateWritten(late) => vec![
            ("outcome", "late_write".to_owned()),
            ("items", late.items.len().to_string()),
        ],
        Event::ItemObserved(seen) => {
            let observation = name(serde_json::to_value(seen.observation));
            let mut words = vec![("outcome", observation)];
            let etag = seen.version.as_deref().map(etag_digest);
            words.extend(etag.map(|etag| ("etag", etag)));
            words.push(("explained", seen.explained.to_string()));
            words
        }
        Event::UserFailed(failed) => vec![
            ("outcome", failed.decision.clone()),
            ("error", failed.class.clone()),
        ],
        _ => Vec::new(),
    }
}

impl Live {
    /// Writes the receipt of a live run's end, and what it came to: a line for each item that it did not begin, which no entry tells
    /// of, and one for each place with the first user through whom it was reached.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(super) async fn log_end(
        &self,
        appended: &Appended,
        places: &HashMap<Subject, Outline>,
        report: &LiveReport,
    ) -> Result<(), EngineError> {
        self.log.finished(appended, &report.status, &report.totals);
        let known = self.known_now().await?;
        let rows = report.users.iter();
        let rows: HashMap<_, _> = rows
            .filter_map(|row| Some((row.place.as_ref()?, row)))
            .collect();
        for place in places.values() {
            let place = place.with_items(&self.plan)?;
            for item in &place.items {
                let progress = known.of(&item.subject)?;
                if progress.attempts == 0 && !progress.held {
                    let etag = etag_digest(item.version.as_deref().unwrap_or_default());
                    self.log.line(&format!(
                        "{} not_begun subject={} class={} etag={etag} outcome=not_begun",
                        appended.entry.recorded_at, item.subject, item.class
                    ));
                }
            }
            let Some(row) = rows.get(place.owner) else {
                continue;
            };
            let user = place.items.first().and_then(|item| item.users.first());
            let user = user.map(ToString::to_string).unwrap_or_default();
            let address = row.email.as_deref();
            let address = address.filter(|_| self.log.names_addresses());
            let email = address.map(|address| format!(" email={}", one_word(address)));
            self.log.line(&format!(
                "{} user subject={user} place={} found={} deleted={} already_gone={} held={} failed={} not_begun={} errors={}{}",
                appended.entry.recorded_at,
                place.owner,
                row.found,
                row.deleted,
                row.already_gone,
                row.held,
                row.failed,
                row.not_begun,
                row.errors.len(),
                email.unwrap_or_default()
            ));
        }
        Ok(())
    }
}

/// Digest of an etag, for a log: it tells two versions apart and says nothing else.
pub fn etag_digest(etag: &str) -> String {
    Hash::of(etag.as_bytes()).to_string()[..16].to_owned()
}
