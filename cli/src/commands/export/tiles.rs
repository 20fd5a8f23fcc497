//! `ledger export --tiles`: the tree and all entries as files, for clients of transparency logs.

use std::collections::BTreeMap;

use ledger::chain::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::chain::entry::Hash;
use ledger::chain::tiles::Kind;
use ledger::domain::event::ExportMade;

use super::place::{Open, Place};
use super::{Answer, answer, failure, record};
use crate::commands::Common;
use crate::database::Session;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signing;

pub(super) async fn write(
    common: &Common<'_>,
    session: &Session,
    place: &Place,
) -> Result<Answer, Failure> {
    let place = Open::new(place, common.environment)?;
    let store = &session.store;
    let proved = store.last_proved().await.map_err(failure)?;
    let note = proved.checkpoint.to_string();
    let old = match place.checkpoint().await? {
        None => None,
        Some(bytes) => Some(read_old(&place, &bytes)?),
    };
    if let Some(old) = &old {
        extends(session, &proved.checkpoint, old, &place).await?;
    }
    let tree = proved.checkpoint.checkpoint();
    let from = old.as_ref().map_or(0, |old| old.checkpoint().size());
    let mut made = ExportMade {
        what: "tiles".to_owned(),
        first: from + 1,
        last: tree.size(),
        entries: tree.size() - from,
        payloads: 0,
        selection: BTreeMap::new(),
        size: tree.size(),
        root: tree.root(),
        sha256: Hash::of(note.as_bytes()),
    };
    if old.is_some_and(|old| old.to_string() == note) {
        return Ok(answer("tiles", place.to_string(), None, &made, 0));
    }
    // A new cosignature alone is no new entry outside.
    made.first = made.first.min(made.last);
    let files = write_tiles(session, &place, from, tree).await?;
    let checkpoint = place.prepare(&note)?;
    let seq = record(common, session, made.clone()).await?;
    checkpoint.write().await?;
    let name = place.to_string();
    Ok(answer("tiles", name, Some(seq), &made, files + 1))
}

/// The checkpoint that a place is at.
fn read_old(place: &Open, bytes: &[u8]) -> Result<SignedCheckpoint, Failure> {
    SignedCheckpoint::parse(bytes).map_err(|error| {
        let what = format!("read {}", place.checkpoint_name());
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(what))
            .hint("something else lies there: name another place")
    })
}

/// Refuses a place of another ledger, or of another history of this one.
async fn extends(
    session: &Session,
    new: &SignedCheckpoint,
    old: &SignedCheckpoint,
    place: &Open,
) -> Result<(), Failure> {
    let (new, old) = (new.checkpoint(), old.checkpoint());
    let name = place.checkpoint_name();
    if old.origin() != new.origin() {
        let what = format_args!("{name} is of {}, another ledger", old.origin());
        return Err(Failure::usage(what).hint("name another place"));
    }
    if old.size() > new.size() {
        let what = anyhow::anyhow!(
            "{name} speaks for {} entries, and the last checkpoint here for {}",
            old.size(),
            new.size()
        );
        return Err(Failure::new(Exit::No, what)
            .hint("checkpoints are gone, or the database was restored: `ledger verify --checkpoint` that file"));
    }
    if old.size() > 0 {
        let proof = session.store.prove_consistency(old, new).await;
        proof.map_err(signing::failure)?;
    }
    Ok(())
}

/// Writes what the trees of all checkpoints behind `from` have, up to the one of `to`: partial files are those of signed sizes.
async fn write_tiles(
    session: &Session,
    place: &Open,
    from: u64,
    to: &Checkpoint,
) -> Result<u64, Failure> {
    let bar = output::bar("entries exported");
    let mut files = 0;
    let mut done = from;
    while done < to.size() {
        let page = session.store.stored_checkpoints(done).await;
        let page = page.map_err(signing::failure)?;
        let passed = page.iter().map(|stored| stored.checkpoint.checkpoint());
        let passed = passed.filter(|passed| passed.size() < to.size());
        let trees: Vec<&Checkpoint> = passed.collect();
        let last = [to];
        let trees = if trees.is_empty() { &last[..] } else { &trees };
        for tree in trees {
            let mut tiles = session.store.tiles(done, tree).await.map_err(failure)?;
            while let Some((tile, bytes)) = tiles.next().await.map_err(failure)? {
                files += u64::from(place.put(tile, bytes).await?);
                if tile.kind() == Kind::Entries {
                    bar.set(tile.first() + u64::from(tile.width()), to.size());
                }
            }
            done = tree.size();
        }
    }
    bar.clear();
    Ok(files)
}
