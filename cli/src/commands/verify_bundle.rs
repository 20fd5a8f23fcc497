//! `ledger verify --bundle`: offline, with no database, no home folder and no ledger.

use std::fs::File;
use std::path::Path;

use ledger::chain::archive::{ARCHIVE_BYTES_MAX, ArchiveError};
use ledger::chain::bundle::{BundleError, Frame, Opened, Sound};
use ledger::chain::entry::Hash;
use ledger::chain::note::VerifierKey;
use ledger::chain::policy::{Policy, UnmetError};
use ledger::store::bundle_file::FileSource;
use serde::Serialize;

use super::Common;
use super::witness::quorum;
use crate::args::Verify;
use crate::exit::{Exit, Failure, environment};
use crate::output;

pub(crate) fn run(common: &Common<'_>, path: &Path, args: &Verify) -> Result<Exit, Failure> {
    let given = given_policy(args)?;
    let what = || format!("read {}", path.display());
    let length = std::fs::metadata(path).map_err(environment(what()))?.len();
    if length > ARCHIVE_BYTES_MAX as u64 {
        return Err(Failure::usage(format_args!(
            "{} is too long for a bundle",
            path.display()
        )));
    }
    let file = File::open(path).map_err(environment(what()))?;
    let source = FileSource::new(file).map_err(environment(what()))?;
    let sha256 = source.sha256().map_err(environment(what()))?;
    let answer = match check(&source, sha256, given.as_ref()) {
        Ok(answer) => answer,
        // What cannot be read is no forgery.
        Err(error @ BundleError::Archive(ArchiveError::Read(_))) => {
            return Err(environment(what())(error));
        }
        Err(error) => Answer::refused(sha256, &error),
    };
    if common.json {
        output::json(&answer)?;
    } else {
        answer.print()?;
    }
    Ok(match answer.verdict {
        "intact" => Exit::Yes,
        "tampered" => Exit::No,
        _ => Exit::Unknown,
    })
}

/// What `--policy` and `--vkey` say together: a key that was given is a log that the policy accepts.
fn given_policy(args: &Verify) -> Result<Option<Policy>, Failure> {
    let keys = args.vkeys.iter().map(|text| text.parse::<VerifierKey>());
    let keys = keys.collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|error| {
        Failure::usage(error).hint("a verifier key is what `ledger key show --vkey` prints")
    })?;
    let Some(path) = &args.policy else {
        return Ok((!keys.is_empty()).then(|| Policy::of_log(keys)));
    };
    let mut policy = quorum::read(path)?;
    for key in keys {
        policy.add_log(key);
    }
    Ok(Some(policy))
}

fn check(source: &FileSource, sha256: Hash, given: Option<&Policy>) -> Result<Answer, BundleError> {
    let bundle = Opened::open(source)?;
    let frame = &bundle.frame;
    let own = given.is_none().then(|| frame.own_policy()).transpose()?;
    let policy = given.or(own.as_ref()).ok_or(BundleError::NoKey)?;
    let sound = bundle.verify(policy)?;
    Ok(Answer::intact(sha256, frame, &sound, given.is_some()))
}

#[derive(Serialize)]
struct Cosigned {
    name: String,
    /// Seconds since 1970.
    time: u64,
}

#[derive(Serialize)]
struct Answer {
    verdict: &'static str,
    /// Of the file: what the ledger's entry `export.made` has.
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<About>,
    /// What is wrong, and what lies behind it.
    broken: Vec<String>,
    unchecked: Vec<String>,
}

/// What a sound bundle is about.
#[derive(Serialize)]
struct About {
    ledger: String,
    origin: String,
    size: u64,
    root: String,
    entries: u64,
    payloads: u64,
    /// Every entry between these two is there.
    complete: Option<(u64, u64)>,
    redacted: bool,
    /// `given`, or `first_use`: only the bundle says that the key is the log's.
    trust: &'static str,
    signed_by: Vec<String>,
    cosigned_by: Vec<Cosigned>,
}

impl Answer {
    fn refused(sha256: Hash, error: &BundleError) -> Self {
        // Cosignatures that are not there yet are nobody's edit.
        if let BundleError::Unmet(unmet @ UnmetError::Quorum(_)) = error {
            return Self {
                verdict: "unknown",
                sha256: sha256.to_string(),
                about: None,
                broken: Vec::new(),
                unchecked: vec![unmet.to_string()],
            };
        }
        let mut broken = vec![error.to_string()];
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            broken.push(error.to_string());
            cause = error.source();
        }
        Self {
            verdict: "tampered",
            sha256: sha256.to_string(),
            about: None,
            broken,
            unchecked: Vec::new(),
        }
    }

    fn intact(sha256: Hash, bundle: &Frame, sound: &Sound<'_>, given: bool) -> Self {
        let tree = bundle.checkpoint.checkpoint();
        let witnesses = sound.accepted.witnesses.iter().map(|one| Cosigned {
            name: one.key.name().to_owned(),
            time: one.time,
        });
        let cosigned_by: Vec<_> = witnesses.collect();
        let mut unchecked = sound.unchecked.clone();
        if !given {
            unchecked.push(
                "whose key signed: it is trusted on first use; give --vkey or --policy from elsewhere".to_owned(),
            );
        }
        if cosigned_by.is_empty() {
            unchecked.push("that no other history was signed: no witness was asked for".to_owned());
        }
        let signed_by = sound.accepted.logs.iter().map(ToString::to_string);
        Self {
            verdict: "intact",
            sha256: sha256.to_string(),
            about: Some(About {
                ledger: bundle.ledger.to_string(),
                origin: tree.origin().to_owned(),
                size: tree.size(),
                root: tree.root().to_string(),
                entries: bundle.entries,
                payloads: bundle.payloads,
                complete: sound.complete,
                redacted: bundle.redacted,
                trust: if given { "given" } else { "first_use" },
                signed_by: signed_by.collect(),
                cosigned_by,
            }),
            broken: Vec::new(),
            unchecked,
        }
    }

    fn print(&self) -> Result<(), Failure> {
        if !self.broken.is_empty() {
            output::line(format_args!("tampered: {}", self.broken.join(": ")))?;
        }
        if let Some(about) = &self.about {
            output::line(format_args!(
                "intact: {} entries and {} payloads of {}",
                about.entries, about.payloads, about.origin
            ))?;
            if let Some((from, to)) = about.complete {
                output::line(format_args!("complete: entries {from} to {to}"))?;
            }
            output::line(format_args!("checkpoint: {}:{}", about.size, about.root))?;
            for key in &about.signed_by {
                output::line(format_args!("signed by: {key}"))?;
            }
            for witness in &about.cosigned_by {
                let Cosigned { name, time } = witness;
                output::line(format_args!("cosigned by: {name} at {time} s since 1970"))?;
            }
        }
        output::line(format_args!("sha256: {}", self.sha256))?;
        for what in &self.unchecked {
            output::line(format_args!("not checked: {what}"))?;
        }
        Ok(())
    }
}
