//! `ledger checkpoint`: signs what the ledger holds, shows what was signed, states a loss.

use std::time::Duration;

use ledger::chain::checkpoint::SignedCheckpoint;
use ledger::chain::note::VerifierKey;
use ledger::chain::policy::Policy;
use ledger::store::append::is_connection_error;
use ledger::store::checkpoint::{ProveError, Signed};
use ledger::store::read::ReadError;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::Common;
use super::witness::quorum;
use crate::args::{Checkpoint, CheckpointCommand};
use crate::catalogue;
use crate::database::Session;
use crate::exit::{Exit, Failure, environment};
use crate::output;
use crate::publish::{Publication, Target};
use crate::signing;

pub(crate) async fn run(common: &Common<'_>, args: Checkpoint) -> Result<Exit, Failure> {
    let policy = args.policy.as_deref().map(quorum::read).transpose()?;
    let policy = policy.as_ref();
    let session = common.open().await?;
    let exit = match args.command {
        None => match args.every {
            None => sign_once(common, &session, policy, &args.publish).await,
            Some(every) => sign_every(common, &session, policy, every, &args.publish).await,
        },
        Some(CheckpointCommand::Show { size }) => show(common, &session, size).await,
        Some(CheckpointCommand::List) => list(common, &session).await,
        Some(CheckpointCommand::Lag { policy }) => {
            super::lag::run(common, &session, policy.as_deref()).await
        }
        Some(CheckpointCommand::Restored { reason }) => restored(common, &session, &reason).await,
    }?;
    session.close().await;
    Ok(exit)
}

#[derive(Serialize)]
struct Line {
    size: u64,
    root: String,
    note: String,
    new: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    published: Vec<String>,
}

impl Line {
    fn of(checkpoint: &SignedCheckpoint, new: bool) -> Self {
        Self {
            size: checkpoint.checkpoint().size(),
            root: checkpoint.checkpoint().root().to_string(),
            note: checkpoint.to_string(),
            new,
            published: Vec::new(),
        }
    }

    /// The note as it is, so that it can be kept in a file.
    fn print(&self, common: &Common<'_>) -> Result<(), Failure> {
        if common.json {
            output::json(self)
        } else {
            output::lines(self.note.trim_end_matches('\n'))
        }
    }
}

async fn sign(
    common: &Common<'_>,
    session: &Session,
) -> Result<Result<Signed, ProveError>, Failure> {
    let home = &session.database.home;
    let id = session.store.id();
    let signers = signing::signers(common.environment, home, id)?;
    let record = signing::record_to_sign(home, id)?;
    let signed = session.store.sign_checkpoint(&signers, &record).await;
    if let Ok(signed) = &signed {
        signing::tell_taken_over(signed);
    }
    Ok(signed)
}

fn tell_unsigned(signed: &Signed) {
    for key in &signed.unsigned_by {
        output::note(format_args!(
            "note: {:08x} is in use and did not sign: its private key is not here",
            key.id()
        ));
    }
}

async fn sign_once(
    common: &Common<'_>,
    session: &Session,
    policy: Option<&Policy>,
    targets: &[Target],
) -> Result<Exit, Failure> {
    let signed = sign(common, session).await?.map_err(signing::failure)?;
    if !signed.new {
        output::note("note: nothing was appended since; this is the last checkpoint");
    }
    tell_unsigned(&signed);
    let (checkpoint, enough) = witnessed(session, policy, signed.checkpoint).await?;
    let mut line = Line::of(&checkpoint, signed.new);
    let mut failed = None;
    for target in targets {
        // One place that is away keeps it from no other.
        match publish(common, session, &checkpoint, target).await {
            Ok(()) => line.published.push(target.name()),
            Err(failure) => {
                output::error(&failure);
                failed.get_or_insert(failure.exit);
            }
        }
    }
    line.print(common)?;
    Ok(match failed {
        Some(exit) => exit,
        None if enough => Exit::Yes,
        None => Exit::No,
    })
}

/// The checkpoint with what the policy's witnesses add to it, and whether that is enough; without a policy it is.
async fn witnessed(
    session: &Session,
    policy: Option<&Policy>,
    checkpoint: SignedCheckpoint,
) -> Result<(SignedCheckpoint, bool), Failure> {
    match policy {
        None => Ok((checkpoint, true)),
        Some(policy) => quorum::ask(session, policy, checkpoint).await,
    }
}

async fn publish(
    common: &Common<'_>,
    session: &Session,
    checkpoint: &SignedCheckpoint,
    target: &Target,
) -> Result<(), Failure> {
    let catalogue = catalogue::open(common, &session.database).await?;
    let actor = common.actor()?;
    Publication::new(&session.store, checkpoint)
        .put(target, common.environment, catalogue.as_ref(), &actor)
        .await
}

/// Signs and publishes on a schedule. What is away for a while is waited for; a fork ends it.
async fn sign_every(
    common: &Common<'_>,
    session: &Session,
    policy: Option<&Policy>,
    every: Duration,
    targets: &[Target],
) -> Result<Exit, Failure> {
    let what = "listen for SIGTERM";
    let mut terminated = signal(SignalKind::terminate()).map_err(environment(what))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(environment(what))?;
    // Size of the last checkpoint that each place has.
    let mut sizes = vec![0; targets.len()];
    loop {
        match sign(common, session).await? {
            Ok(signed) => {
                // Who did not cosign last time, or was away, may have it now.
                let (checkpoint, _) = witnessed(session, policy, signed.checkpoint.clone()).await?;
                let size = checkpoint.checkpoint().size();
                let mut line = Line::of(&checkpoint, signed.new);
                for (target, last) in targets.iter().zip(&mut sizes) {
                    if *last == size {
                        continue;
                    }
                    match publish(common, session, &checkpoint, target).await {
                        Ok(()) => {
                            *last = size;
                            line.published.push(target.name());
                        }
                        Err(failure) if failure.exit == Exit::Environment => {
                            output::error(&failure);
                        }
                        Err(failure) => return Err(failure),
                    }
                }
                if signed.new {
                    tell_unsigned(&signed);
                    line.print(common)?;
                }
            }
            Err(error) if passes(&error) => {
                tracing::warn!(%error, "no checkpoint this time");
            }
            Err(error) => return Err(signing::failure(error)),
        }
        tokio::select! {
            biased;
            _ = terminated.recv() => return Ok(Exit::Yes),
            _ = interrupted.recv() => return Ok(Exit::Yes),
            () = tokio::time::sleep(every) => {}
        }
    }
}

fn passes(error: &ProveError) -> bool {
    match error {
        ProveError::Raced => true,
        ProveError::Read(ReadError::Database { source, .. }) => is_connection_error(source),
        _ => false,
    }
}

async fn show(common: &Common<'_>, session: &Session, size: Option<u64>) -> Result<Exit, Failure> {
    let store = &session.store;
    let stored = store
        .stored_checkpoint(size)
        .await
        .map_err(signing::failure)?;
    let Some(stored) = stored else {
        let what = match size {
            Some(size) => anyhow::anyhow!("there is no checkpoint of {size} entries"),
            None => anyhow::anyhow!("there is no checkpoint yet"),
        };
        return Err(Failure::new(Exit::No, what).hint("`ledger checkpoint list` lists them"));
    };
    let checkpoint = cosigned(session, stored.checkpoint, &[]).await?;
    Line::of(&checkpoint, false).print(common)?;
    Ok(Exit::Yes)
}

/// A stored checkpoint with the lines of its witnesses, those that are asked for first: a note has not room for all that anybody
/// may have stored.
pub(crate) async fn cosigned(
    session: &Session,
    mut checkpoint: SignedCheckpoint,
    witnesses: &[VerifierKey],
) -> Result<SignedCheckpoint, Failure> {
    let store = &session.store;
    let lines = store.stored_cosignatures(&checkpoint, witnesses).await;
    for (_, line) in lines.map_err(signing::failure)? {
        checkpoint
            .add(line)
            .map_err(environment("put the checkpoint together"))?;
    }
    Ok(checkpoint)
}

#[derive(Serialize)]
struct Listed {
    size: u64,
    root: String,
    signatures: usize,
    cosignatures: usize,
}

async fn list(common: &Common<'_>, session: &Session) -> Result<Exit, Failure> {
    let mut after = 0;
    loop {
        let page = session.store.stored_checkpoints(after).await;
        let page = page.map_err(signing::failure)?;
        for stored in &page {
            let checkpoint = stored.checkpoint.checkpoint();
            after = checkpoint.size();
            let lines = session
                .store
                .stored_cosignatures(&stored.checkpoint, &[])
                .await;
            let listed = Listed {
                size: after,
                root: checkpoint.root().to_string(),
                signatures: stored.checkpoint.note().signatures().len(),
                cosignatures: lines.map_err(signing::failure)?.len(),
            };
            if common.json {
                output::json(&listed)?;
            } else {
                output::line(format_args!(
                    "{:>10}  {}  {} signatures, {} cosignatures",
                    listed.size, listed.root, listed.signatures, listed.cosignatures
                ))?;
            }
        }
        if page.is_empty() {
            return Ok(Exit::Yes);
        }
    }
}

async fn restored(common: &Common<'_>, session: &Session, reason: &str) -> Result<Exit, Failure> {
    let home = &session.database.home;
    let id = session.store.id();
    let mut signers = signing::signers(common.environment, home, id)?;
    signers.extend(signing::retired(home, id)?);
    let record = signing::record_to_sign(home, id)?;
    let stated = session
        .store
        .state_restored(&signers, &record, reason, common.actor()?)
        .await
        .map_err(signing::failure)?;
    let keys = session.store.checkpoint_keys().await;
    let keys = keys.map_err(signing::failure)?;
    signing::take_up(home, id, &keys.valid_at(u64::MAX))?;
    if common.json {
        output::json(&stated)?;
    } else {
        output::line(format_args!(
            "stated: entries {} to {} are lost; {} were kept",
            stated.lost_from, stated.lost_to, stated.kept
        ))?;
    }
    Ok(Exit::Yes)
}
