//! `ledger verify`: is the log what was written?

use std::path::{Path, PathBuf};

use ledger::chain::note::VerifierKey;
use ledger::domain::id::LedgerId;
use ledger::store::Store;
use ledger::store::checkpoint::ProveError;
use ledger::store::lag::Lag;
use ledger::store::read::ReadError;
use ledger::store::verify::{Anchor, Claim, Outside, Report};
use serde::Serialize;

use super::prove::read_checkpoint;
use super::witness::quorum::{self, Vouched};
use super::{Common, read_failure};
use crate::args::Verify;
use crate::catalogue;
use crate::database::Session;
use crate::exit::{Exit, Failure, environment};
use crate::output;
use crate::signing;

pub(crate) async fn run(common: &Common<'_>, args: Verify) -> Result<Exit, Failure> {
    if let Some(path) = &args.bundle {
        return super::verify_bundle::run(common, path, &args);
    }
    if !args.vkeys.is_empty() && args.checkpoints.is_empty() {
        return Err(Failure::usage("--vkey goes with --checkpoint or --bundle"));
    }
    let mut outside = Outside {
        anchors: args
            .heads
            .iter()
            .map(|text| anchor(text))
            .collect::<Result<_, _>>()?,
        claims: claims(&args.checkpoints, &args.vkeys)?,
        since: None,
    };
    for path in &args.receipts {
        outside.anchors.extend(receipts(path)?);
    }
    let policy = args.policy.as_deref().map(quorum::read).transpose()?;
    let session = common.open().await?;
    let mut vouched = Vouched::default();
    if let Some(policy) = &policy {
        vouched = quorum::vouched(&session, policy).await?;
        outside.claims.append(&mut vouched.claims);
    }
    outside
        .claims
        .extend(signers_record(&session, session.store.id())?);
    if let Some(named) = &args.since {
        outside.since = Some(since(&session, named).await?);
    }
    let whole = outside.since.is_none();
    let bar = output::bar("entries checked");
    let report = session
        .store
        .verify(outside, |done, all| bar.set(done, all))
        .await
        .map_err(|error| match error {
            ReadError::Unproven { .. } => {
                Failure::new(Exit::No, error).hint("run `ledger verify` without --since")
            }
            other => read_failure(other),
        })?;
    bar.clear();
    let mut answer = Answer::of(&report);
    answer.lag = Lags::of(
        &session.store,
        &report,
        whole,
        policy.is_some().then_some(vouched.cosigned),
    )
    .await?;
    answer.hold_against(common, &session).await?;
    session.close().await;
    answer.unchecked.extend(vouched.unasked);
    if let Some(unmet) = vouched.unmet {
        answer.unchecked.push(unmet);
        if answer.verdict == "intact" {
            answer.verdict = "unknown";
        }
    }
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

fn anchor(text: &str) -> Result<Anchor, Failure> {
    let parsed = text.split_once(':').and_then(|(size, hash)| {
        Some(Anchor {
            size: size.parse().ok()?,
            hash: hash.parse().ok()?,
        })
    });
    parsed.filter(|anchor| anchor.size > 0).ok_or_else(|| {
        Failure::usage("--head must look like SEQ:HASH, as `ledger verify` prints it")
    })
}

/// The checkpoints that were kept.
pub(crate) fn claims(checkpoints: &[PathBuf], vkeys: &[String]) -> Result<Vec<Claim>, Failure> {
    let vkeys: Vec<VerifierKey> = vkeys
        .iter()
        .map(|vkey| {
            let read = vkey.parse();
            read.map_err(|error| {
                Failure::usage(error).hint("--vkey takes what `ledger key show --vkey` prints")
            })
        })
        .collect::<Result<_, _>>()?;
    let read = |path: &PathBuf| {
        let signed = read_checkpoint(path)?;
        Ok(Claim {
            source: format!("the checkpoint in {}", path.display()),
            size: signed.checkpoint().size(),
            root: signed.checkpoint().root(),
            signed: Some(signed),
            vkeys: vkeys.clone(),
            outside: true,
        })
    };
    checkpoints.iter().map(read).collect()
}

/// The checkpoint that an earlier verification led to.
async fn since(session: &Session, named: &str) -> Result<Claim, Failure> {
    let (source, signed, outside) = match named.parse::<u64>() {
        Ok(size) => {
            let stored = session.store.stored_checkpoint(Some(size)).await;
            let Some(stored) = stored.map_err(signing::failure)? else {
                let what = format_args!("there is no checkpoint of {size} entries");
                return Err(Failure::usage(what).hint("`ledger checkpoint list` lists them"));
            };
            (
                format!("the stored checkpoint of size {size}"),
                stored.checkpoint,
                false,
            )
        }
        Err(_) => (
            format!("the checkpoint in {named}"),
            read_checkpoint(Path::new(named))?,
            true,
        ),
    };
    Ok(Claim {
        source,
        size: signed.checkpoint().size(),
        root: signed.checkpoint().root(),
        signed: Some(signed),
        vkeys: Vec::new(),
        outside,
    })
}

/// What the signer on this machine has signed last. It lies beside the key, which may be beside the database: no anchor.
pub(crate) fn signers_record(
    session: &Session,
    ledger: LedgerId,
) -> Result<Option<Claim>, Failure> {
    let record = signing::record(&session.database.home, ledger);
    let last = record
        .last()
        .map_err(|error| signing::failure(error.into()))?;
    Ok(last.map(|last| Claim {
        source: format!("the signer's record {}", record.path().display()),
        size: last.size(),
        root: last.root(),
        signed: None,
        vkeys: Vec::new(),
        outside: false,
    }))
}

/// The entries that a run's log file was told of.
fn receipts(path: &Path) -> Result<Vec<Anchor>, Failure> {
    let what = format!("read {}", path.display());
    let text = std::fs::read_to_string(path).map_err(environment(what))?;
    let receipt = |line: &str| {
        let field = |name: &str| {
            let mut fields = line.split(' ').filter_map(|field| field.split_once('='));
            Some(fields.find(|(found, _)| *found == name)?.1)
        };
        Some(Anchor {
            size: field("seq")?.parse().ok()?,
            hash: field("hash")?.parse().ok()?,
        })
    };
    let receipts: Vec<_> = text.lines().filter_map(receipt).collect();
    if receipts.is_empty() {
        return Err(
            Failure::usage(format_args!("{} holds no receipt", path.display()))
                .hint("--receipts takes the log file of a run, with lines that say seq=… hash=…"),
        );
    }
    Ok(receipts)
}

#[derive(Serialize)]
struct Answer {
    verdict: &'static str,
    size: u64,
    head: String,
    anchored: Option<u64>,
    checkpoint: Option<u64>,
    published: Option<u64>,
    lag: Lags,
    broken: Vec<BrokenLine>,
    broken_count: u64,
    /// What the catalogue lists and the database does not hold.
    catalogue: Vec<String>,
    erased: Vec<ErasedLine>,
    unchecked: Vec<String>,
    warnings: Vec<String>,
}

/// How far what speaks for the ledger is behind its head.
#[derive(Default, Serialize)]
struct Lags {
    checkpoint: Option<Lag>,
    /// None where the entries about publications were not read.
    published: Option<Lag>,
    /// None where no policy was given.
    cosigned: Option<Lag>,
}

impl Lags {
    async fn of(
        store: &Store,
        report: &Report,
        whole: bool,
        cosigned: Option<u64>,
    ) -> Result<Self, Failure> {
        let behind = async |size: Option<u64>| {
            let lag = store.lag_behind(size.unwrap_or_default()).await;
            lag.map(Some).map_err(read_failure)
        };
        Ok(Self {
            checkpoint: behind(report.checkpoint).await?,
            published: match report.published {
                None if !whole => None,
                published => behind(published).await?,
            },
            cosigned: match cosigned {
                None => None,
                size => behind(size).await?,
            },
        })
    }
}

#[derive(Serialize)]
struct ErasedLine {
    seq: u64,
    owner: String,
    payloads: u64,
    recorded_at: String,
    by: Vec<String>,
}

#[derive(Serialize)]
struct BrokenLine {
    seq: u64,
    how: String,
}

impl Answer {
    fn of(report: &Report) -> Self {
        let broken_count = report.findings.broken_count();
        let vouched = report.guards_off.is_empty() && !report.undecided;
        let verdict = match (broken_count, vouched) {
            (0, true) => "intact",
            (0, false) => "unknown",
            _ => "tampered",
        };
        let off = report
            .guards_off
            .iter()
            .map(|guard| format!("guard: {guard}"));
        Self {
            verdict,
            size: report.head.size,
            head: report.head.hash.to_string(),
            anchored: report.anchored,
            checkpoint: report.checkpoint,
            published: report.published,
            lag: Lags::default(),
            broken: report
                .findings
                .broken()
                .map(|broken| BrokenLine {
                    seq: broken.seq,
                    how: broken.how.to_string(),
                })
                .collect(),
            broken_count,
            catalogue: Vec::new(),
            erased: report
                .erased
                .iter()
                .map(|erased| ErasedLine {
                    seq: erased.seq,
                    owner: erased.owner.to_string(),
                    payloads: erased.payloads,
                    recorded_at: erased.recorded_at.to_string(),
                    by: erased.by.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            unchecked: off.chain(report.unchecked.iter().cloned()).collect(),
            warnings: report.warnings.clone(),
        }
    }

    /// Holds what the catalogue lists against the database.
    async fn hold_against(
        &mut self,
        common: &Common<'_>,
        session: &Session,
    ) -> Result<(), Failure> {
        let Some(catalogue) = catalogue::open(common, &session.database).await? else {
            self.warnings
                .push("there is no catalogue: a ledger that vanishes is not missed".to_owned());
            return Ok(());
        };
        let other = catalogue.id() != session.store.id();
        if other {
            self.check_catalogue(&catalogue, session).await?;
        }
        let about = other.then_some(&session.store);
        match Box::pin(catalogue.missed(about)).await {
            Ok(missed) => {
                if missed.unlisted {
                    self.warnings
                        .push("the catalogue does not list this ledger".to_owned());
                }
                if !missed.findings.is_empty() {
                    self.verdict = "tampered";
                }
                self.catalogue.extend(missed.findings);
            }
            Err(
                error @ (ProveError::Read(ReadError::Damaged { .. }) | ProveError::Keys { .. }),
            ) => {
                // Damage of this ledger is named above.
                let what = "the catalogue, since an entry is damaged";
                tracing::debug!(%error, "{what}");
                self.unchecked
                    .push(format!("{what}: `ledger verify --ledger catalogue`"));
            }
            Err(error) => return Err(signing::failure(error)),
        }
        Ok(())
    }

    /// The catalogue speaks for the ledger only where it is whole itself.
    async fn check_catalogue(
        &mut self,
        catalogue: &Store,
        session: &Session,
    ) -> Result<(), Failure> {
        let outside = Outside {
            claims: signers_record(session, catalogue.id())?
                .into_iter()
                .collect(),
            ..Outside::default()
        };
        let report = Box::pin(catalogue.verify(outside, |_, _| {})).await;
        let report = report.map_err(read_failure)?;
        for broken in report.findings.broken() {
            self.verdict = "tampered";
            self.catalogue
                .push(format!("its own seq {}: {}", broken.seq, broken.how));
        }
        Ok(())
    }

    fn print(&self) -> Result<(), Failure> {
        for what in &self.catalogue {
            output::line(format_args!("tampered: by the catalogue, {what}"))?;
        }
        for BrokenLine { seq, how } in &self.broken {
            output::line(format_args!("tampered: seq {seq}: {how}"))?;
        }
        let listed = self.broken.len() as u64;
        if self.broken_count > listed {
            let more = self.broken_count - listed;
            output::line(format_args!("tampered: and {more} more entries"))?;
        }
        let entries = if self.size == 1 { "entry" } else { "entries" };
        output::line(format_args!("{}: {} {entries}", self.verdict, self.size))?;
        output::line(format_args!("head: {}:{}", self.size, self.head))?;
        match self.anchored {
            Some(anchored) => output::line(format_args!("anchored: up to entry {anchored}"))?,
            None => output::line("anchored: no")?,
        }
        for erased in &self.erased {
            output::line(format_args!(
                "erased: {} payloads of {}, as entry {} says: on {} by {}",
                erased.payloads,
                erased.owner,
                erased.seq,
                erased.recorded_at,
                erased.by.join(", ")
            ))?;
        }
        for what in &self.unchecked {
            output::line(format_args!("not checked: {what}"))?;
        }
        for what in &self.warnings {
            output::line(format_args!("warning: {what}"))?;
        }
        Ok(())
    }
}
