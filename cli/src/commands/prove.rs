//! `ledger prove`: that an entry is in the last checkpoint, or that this extends an older one.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::chain::checkpoint::SignedCheckpoint;
use ledger::chain::tlog_proof::TlogProof;
use ledger::store::checkpoint::ProveError;
use serde::Serialize;

use super::Common;
use super::checkpoint::cosigned;
use crate::args::Prove;
use crate::database::Session;
use crate::exit::{Exit, Failure, environment};
use crate::output;
use crate::signing;

/// Longest checkpoint file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Serialize)]
struct Answer {
    proves: String,
    proof: String,
}

pub(crate) async fn run(common: &Common<'_>, args: &Prove) -> Result<Exit, Failure> {
    let from = args.from.as_deref().map(read_checkpoint).transpose()?;
    let session = common.open().await?;
    let answer = match (&from, args.seq) {
        (Some(from), _) => consistency(&session, from).await?,
        (None, seq) => inclusion(&session, seq.unwrap_or_default()).await?,
    };
    session.close().await;
    if let Some(path) = &args.out {
        let what = format!("write {}", path.display());
        std::fs::write(path, &answer.proof).map_err(environment(what))?;
    }
    if common.json {
        output::json(&answer)?;
    } else {
        output::note(format_args!("proves: {}", answer.proves));
        match &args.out {
            None => output::lines(answer.proof.trim_end_matches('\n'))?,
            Some(path) => output::line(format_args!("wrote {}", path.display()))?,
        }
    }
    Ok(Exit::Yes)
}

/// A checkpoint as somebody kept it.
pub(crate) fn read_checkpoint(path: &Path) -> Result<SignedCheckpoint, Failure> {
    let what = format!("read {}", path.display());
    let length = std::fs::metadata(path).map_err(environment(what.clone()))?;
    if length.len() > FILE_BYTES_MAX {
        return Err(Failure::usage(format_args!(
            "{} is too long for a checkpoint",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(environment(what.clone()))?;
    SignedCheckpoint::parse(&bytes).map_err(|error| {
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(what))
            .hint("it must be what `ledger checkpoint` printed, byte for byte")
    })
}

async fn last(session: &Session, covering: u64) -> Result<SignedCheckpoint, Failure> {
    let stored = session.store.stored_checkpoint(None).await;
    match stored.map_err(signing::failure)? {
        Some(stored) if stored.checkpoint.checkpoint().size() >= covering => {
            cosigned(session, stored.checkpoint, &[]).await
        }
        _ => Err(signing::failure(ProveError::NotCovered { seq: covering })),
    }
}

async fn inclusion(session: &Session, seq: u64) -> Result<Answer, Failure> {
    let store = &session.store;
    let head = store.head().await.map_err(super::read_failure)?;
    if seq == 0 || seq > head.size {
        let what = anyhow::anyhow!("there is no entry {seq}: the ledger has {}", head.size);
        return Err(Failure::new(Exit::No, what));
    }
    let checkpoint = last(session, seq).await?;
    let hashes = store
        .prove_entry(seq, checkpoint.checkpoint())
        .await
        .map_err(signing::failure)?;
    let signed = checkpoint.checkpoint();
    Ok(Answer {
        proves: format!(
            "entry {seq} is one of the {} entries that the checkpoint of {} speaks for, to whoever trusts its key; the entry \
             itself is `ledger show {seq} --json`, and its hash is the leaf",
            signed.size(),
            signed.origin()
        ),
        proof: TlogProof {
            extra: None,
            index: seq - 1,
            hashes,
            checkpoint,
        }
        .to_string(),
    })
}

async fn consistency(session: &Session, from: &SignedCheckpoint) -> Result<Answer, Failure> {
    let store = &session.store;
    let folded = store.checkpoint_keys().await.map_err(signing::failure)?;
    let old = from.checkpoint();
    if old.origin() != folded.origin() {
        return Err(Failure::usage(format_args!(
            "the checkpoint is of {}, and this ledger is {}",
            old.origin(),
            folded.origin()
        )));
    }
    let head = store.head().await.map_err(super::read_failure)?;
    if old.size() > head.size {
        let what = anyhow::anyhow!(
            "the checkpoint speaks for {} entries, and the ledger has {}",
            old.size(),
            head.size
        );
        return Err(Failure::new(Exit::No, what)
            .hint("entries are gone, or the database was restored: `ledger verify --checkpoint`"));
    }
    folded.verify(from).map_err(|error| {
        Failure::new(
            Exit::No,
            anyhow::Error::new(error).context("check who signed the checkpoint"),
        )
        .hint("it was not made by this ledger, or was changed since")
    })?;
    let new = last(session, old.size()).await?;
    let hashes = store
        .prove_consistency(old, new.checkpoint())
        .await
        .map_err(signing::failure)?;
    let mut proof = format!("old {}\n", old.size());
    for hash in &hashes {
        // Writing to a string never fails.
        let _ = writeln!(proof, "{}", STANDARD.encode(hash.0));
    }
    let _ = write!(proof, "\n{new}");
    Ok(Answer {
        proves: format!(
            "the checkpoint of {} entries extends the one of {}: nothing that this spoke for was changed, removed or put \
             between",
            new.checkpoint().size(),
            old.size()
        ),
        proof,
    })
}
