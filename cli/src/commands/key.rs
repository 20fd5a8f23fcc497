//! `ledger key`: the keys that sign checkpoints.

use ledger::chain::keys::{CheckpointKeys, KeyWindow, added_text, retired_text, state};
use ledger::chain::note::{NoteSigner, VerifierKey};
use ledger::domain::event::{CheckpointKeyAdded, CheckpointKeyRetired, Event};
use ledger::domain::id::Subject;
use ledger::store::Draft;
use ledger::store::keys::random;
use serde::Serialize;

use super::Common;
use crate::args::Key;
use crate::database::{Session, environment_key};
use crate::exit::{Exit, Failure, environment};
use crate::output;
use crate::signing;

#[derive(Serialize)]
struct Listed {
    vkey: String,
    id: String,
    from: u64,
    until: Option<u64>,
    in_use: bool,
    private_key_here: bool,
}

pub(crate) async fn run(common: &Common<'_>, args: Key) -> Result<Exit, Failure> {
    let session = common.open().await?;
    let keys = session.store.checkpoint_keys().await;
    let keys = keys.map_err(signing::failure)?;
    let id = session.store.id();
    let signers = signing::signers(common.environment, &session.database.home, id)?;
    match args {
        Key::Show { vkey: true } => {
            let newest = keys.windows().iter().rev().find(|key| key.until.is_none());
            if let Some(newest) = newest {
                output::line(&newest.key)?;
            }
        }
        Key::Show { vkey: false } => list(common, &keys, &signers, true)?,
        Key::List => list(common, &keys, &signers, false)?,
        Key::Rotate => rotate(common, &session, &keys, signers).await?,
        Key::Retire { key } => retire(common, &session, &keys, &signers, &key).await?,
    }
    session.close().await;
    Ok(Exit::Yes)
}

fn list(
    common: &Common<'_>,
    keys: &CheckpointKeys,
    signers: &[NoteSigner],
    in_use: bool,
) -> Result<(), Failure> {
    for KeyWindow { key, from, until } in keys.windows() {
        if in_use && until.is_some() {
            continue;
        }
        let listed = Listed {
            vkey: key.to_string(),
            id: format!("{:08x}", key.id()),
            from: *from,
            until: *until,
            in_use: until.is_none(),
            private_key_here: signers.iter().any(|signer| signer.verifier_key() == *key),
        };
        if common.json {
            output::json(&listed)?;
            continue;
        }
        let until = match listed.until {
            Some(until) => format!("up to {}, retired", until - 1),
            None => "on, in use".to_owned(),
        };
        let here = if listed.private_key_here {
            ", private key here"
        } else {
            ""
        };
        output::line(&listed.vkey)?;
        output::line(format_args!("  sizes from {from} {until}{here}"))?;
    }
    Ok(())
}

/// The signers whose keys are in use.
fn in_use<'s>(
    keys: &CheckpointKeys,
    signers: &'s [NoteSigner],
) -> Result<Vec<&'s NoteSigner>, Failure> {
    let valid = keys.valid_at(u64::MAX);
    let of_use = |signer: &&NoteSigner| valid.contains(&signer.verifier_key());
    let signing: Vec<_> = signers.iter().filter(of_use).collect();
    if signing.is_empty() {
        return Err(Failure::usage("no key at hand is in use: none can vouch for the change").hint(
            "bring the private key to checkpoint-keys in LEDGER_HOME, or set LEDGER_CHECKPOINT_KEY",
        ));
    }
    Ok(signing)
}

async fn append(common: &Common<'_>, session: &Session, event: &Event) -> Result<u64, Failure> {
    let what = "record the change of keys";
    let store = &session.store;
    let subject = Subject::of_ledger(store.id());
    let mut draft =
        Draft::of(event, subject.clone(), common.actor()?, subject).map_err(environment(what))?;
    draft.recorded_at = store.simulated_now().await.map_err(super::read_failure)?;
    let appended = store.append(draft).await.map_err(environment(what))?;
    Ok(appended.entry.seq)
}

async fn checkpoint(session: &Session, signers: &[NoteSigner]) -> Result<u64, Failure> {
    let record = signing::record_to_sign(&session.database.home, session.store.id())?;
    let signed = session.store.sign_checkpoint(signers, &record).await;
    let signed = signed.map_err(signing::failure)?;
    signing::tell_taken_over(&signed);
    Ok(signed.checkpoint.checkpoint().size())
}

async fn rotate(
    common: &Common<'_>,
    session: &Session,
    keys: &CheckpointKeys,
    mut signers: Vec<NoteSigner>,
) -> Result<(), Failure> {
    let old = in_use(keys, &signers)?;
    let seed = random().map_err(environment_key)?;
    let new = NoteSigner::new(keys.origin(), &seed).map_err(Failure::usage)?;
    let vkey = new.verifier_key();
    let statement =
        state(added_text(keys.origin(), &vkey), &old).map_err(environment("state the new key"))?;
    // Before its entry: a key without an entry is litter, an entry without its key can never be signed under.
    let path = signing::keep(&session.database.home, session.store.id(), &new)?;
    let event = Event::CheckpointKeyAdded(CheckpointKeyAdded {
        vkey: vkey.to_string(),
        statement,
    });
    let seq = append(common, session, &event).await?;
    signers.push(new);
    let size = checkpoint(session, &signers).await?;
    if common.json {
        output::json(
            &serde_json::json!({ "vkey": vkey.to_string(), "from": seq, "checkpoint": size }),
        )?;
    } else {
        output::line(&vkey)?;
    }
    output::note(format_args!(
        "note: the private key is in {}; checkpoints carry both signatures until `ledger key retire` ends the older key",
        path.display()
    ));
    if common.environment.get("LEDGER_CHECKPOINT_KEY").is_some() {
        output::note(
            "note: LEDGER_CHECKPOINT_KEY is set: add the new key to it, separated by a space, and remove the file",
        );
    }
    Ok(())
}

async fn retire(
    common: &Common<'_>,
    session: &Session,
    keys: &CheckpointKeys,
    signers: &[NoteSigner],
    named: &str,
) -> Result<(), Failure> {
    let valid = keys.valid_at(u64::MAX);
    let is_named =
        |key: &&VerifierKey| key.to_string() == named || format!("{:08x}", key.id()) == named;
    let Some(old) = valid.iter().find(is_named) else {
        return Err(Failure::usage(format_args!("{named} is no key in use"))
            .hint("`ledger key list` lists them"));
    };
    let remaining: Vec<&NoteSigner> = in_use(keys, signers)?
        .into_iter()
        .filter(|signer| signer.verifier_key() != *old)
        .collect();
    if remaining.is_empty() {
        return Err(Failure::usage(
            "no other key at hand is in use: nothing could be signed afterwards",
        )
        .hint("`ledger key rotate` adds one"));
    }
    // The old key vouches for its successor once more, over all that there is.
    checkpoint(session, signers).await?;
    let statement = state(retired_text(keys.origin(), old), &remaining)
        .map_err(environment("state the end of the key"))?;
    let event = Event::CheckpointKeyRetired(CheckpointKeyRetired {
        vkey: old.to_string(),
        statement,
    });
    let seq = append(common, session, &event).await?;
    let size = checkpoint(session, signers).await?;
    let aside = signing::lay_aside(&session.database.home, session.store.id(), old)?;
    if common.json {
        output::json(
            &serde_json::json!({ "vkey": old.to_string(), "until": seq, "checkpoint": size }),
        )?;
    } else {
        output::line(format_args!(
            "retired {:08x}: checkpoints of fewer than {seq} entries stay valid under it",
            old.id()
        ))?;
    }
    if let Some(path) = aside {
        output::note(format_args!(
            "note: its private key is in {}, for a restore to before now; it signs nothing else",
            path.display()
        ));
    }
    Ok(())
}
