//! The stored proof, checked while verify reads the entries: nodes of the tree, checkpoints, cosignatures, the entries about
//! keys and publications, and what was said outside. Memory does not grow with the ledger.
//!
//! Give it every entry in order and let it [`TreeCheck::settle`] at least every [`SETTLE_EVERY`] entries.

mod checkpoints;
mod strays;

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Row as _};

use self::checkpoints::Rows;
use super::payload::PayloadText;
use super::query;
use super::read::ReadError;
use crate::chain::checkpoint::SignedCheckpoint;
use crate::chain::entry::{Entry, Hash, commitment_of_salted};
use crate::chain::keys::CheckpointKeys;
use crate::chain::merkle::Frontier;
use crate::chain::note::VerifierKey;
use crate::chain::verify::{Findings, Head, How, LISTED_MAX, StoredEntry};
use crate::domain::event::Event;
use crate::domain::id::LedgerId;

/// Most entries between two calls of [`TreeCheck::settle`]. Each call waits for the server, which is busy with the rows.
pub(super) const SETTLE_EVERY: u64 = 8_192;
/// Height of a stored node's subtree, for each level.
const TILE_HEIGHT: u32 = 8;

/// Types of entries that say something about the proof.
const LISTENS_TO: [&str; 5] = [
    "ledger.created",
    "ledger.restored",
    "checkpoint_key.added",
    "checkpoint_key.retired",
    "checkpoint.published",
];

/// What somebody outside says of the ledger: a checkpoint that was kept, or the signer's own record.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Where it comes from, in words: `the checkpoint in day-one.txt`.
    pub source: String,
    /// Number of entries that it speaks for.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The note, whose signatures are to be checked; none for the signer's own record.
    pub signed: Option<SignedCheckpoint>,
    /// Keys that the caller trusts instead of those that the ledger names.
    pub vkeys: Vec<VerifierKey>,
    /// Whether it was kept outside and so anchors the ledger.
    pub outside: bool,
}

/// What was found out besides the findings.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Largest size of a claim from outside that holds.
    pub(super) anchored: Option<u64>,
    /// What could not be checked, in words.
    pub(super) unchecked: Vec<String>,
    /// Something in there could be tampering as well, so that nothing can be called intact.
    pub(super) undecided: bool,
    /// Size of the last sound checkpoint; 0 where there is none.
    pub(super) last_checkpoint: u64,
    /// Size of the last one that an entry says was published; 0 where none was.
    pub(super) last_published: u64,
}

/// A fault, and the entries whose hashes it was told by: where one of them is broken, that is the cause.
#[derive(Debug)]
struct Fault {
    seq: u64,
    how: How,
    rests_on: Option<(u64, u64)>,
}

/// The check of one ledger.
#[derive(Debug)]
pub(super) struct TreeCheck {
    ledger: LedgerId,
    frontier: Frontier,
    /// An entry was missing: nothing behind it can be computed.
    gap: bool,
    /// Number of entries that are taken for proven.
    from: u64,
    last_seq: u64,
    /// Full nodes that were computed and not yet compared: level, index, hash.
    nodes: Vec<(u32, u64, Hash)>,
    missing: Vec<(u32, u64)>,
    checkpoints: Rows,
    /// Size of the last sound checkpoint over entries that are there.
    last_checkpoint: u64,
    last_published: u64,
    /// Sizes of checkpoints whose row stands in another place, which is what a broken link leads to.
    displaced: BTreeSet<u64>,
    links: Vec<(u64, u64)>,
    /// Sizes and roots that entries say there are checkpoints of.
    told: Vec<(u64, u64, Hash)>,
    claims: BTreeMap<u64, Vec<Claim>>,
    /// Claims that do not hold, and why where it is their signature.
    contradicted: Vec<(Claim, Option<String>)>,
    keys: CheckpointKeys,
    /// An entry about keys cannot be read, so that a signature proves nothing either way.
    keys_in_doubt: bool,
    anchored: Option<u64>,
    undecided: bool,
    faults: Vec<Fault>,
    /// Rows that nobody signed. Apart, and named after all else: a writer may have made up as many as he likes.
    unsigned: Vec<(u64, How)>,
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> ReadError {
    move |source| ReadError::Database { what, source }
}

/// Number of the last entry below a node.
fn last_entry(level: u32, index: u64) -> u64 {
    let leaves = 1_u64.checked_shl(TILE_HEIGHT * level).unwrap_or(u64::MAX);
    index.saturating_add(1).saturating_mul(leaves)
}

fn node_words(level: u32, index: u64) -> String {
    let last = last_entry(level, index);
    let leaves = 1_u64.checked_shl(TILE_HEIGHT * level).unwrap_or(u64::MAX);
    let first = (last - leaves.min(last)).saturating_add(1);
    format!("node {index} of level {level}, over entries {first} to {last}")
}

/// An error with its causes, in one line.
pub(super) fn words_of(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

impl TreeCheck {
    /// Begins in front of entry 1, or behind the entries that `frontier` stands for, whose keys are given.
    pub(super) async fn start(
        snapshot: &mut PgConnection,
        ledger: LedgerId,
        frontier: Frontier,
        keys: CheckpointKeys,
        claims: Vec<Claim>,
    ) -> Result<Self, ReadError> {
        let checkpoints = Rows::start(snapshot, ledger, frontier.size()).await?;
        let mut by_size: BTreeMap<u64, Vec<Claim>> = BTreeMap::new();
        for claim in claims {
            by_size.entry(claim.size).or_default().push(claim);
        }
        let from = frontier.size();
        let mut check = Self {
            ledger,
            gap: false,
            last_seq: frontier.size(),
            frontier,
            nodes: Vec::new(),
            missing: Vec::new(),
            checkpoints,
            last_checkpoint: from,
            last_published: 0,
            displaced: BTreeSet::new(),
            links: Vec::new(),
            told: Vec::new(),
            claims: by_size,
            contradicted: Vec::new(),
            keys,
            keys_in_doubt: false,
            from,
            anchored: None,
            undecided: false,
            faults: Vec::new(),
            unsigned: Vec::new(),
        };
        check.checkpoints.read_ahead(snapshot, from).await?;
        check.hold_claims(from);
        Ok(check)
    }

    /// Takes the next row: the hash of its bytes, the entry in them, and its payload where that is stored in plain, salt first.
    pub(super) fn take(
        &mut self,
        row: &StoredEntry<'_>,
        hash: Hash,
        entry: Option<&Entry>,
        plain: Option<&[u8]>,
    ) {
        let seq = row.seq.unsigned_abs();
        if LISTENS_TO.contains(&entry.map_or(row.event_type, |entry| entry.event_type.as_str())) {
            let committed = entry
                .zip(plain)
                .filter(|(entry, salted)| commitment_of_salted(salted) == Some(entry.commitment));
            match committed.map(|(entry, salted)| (entry, PayloadText::from_salted(salted))) {
                Some((entry, PayloadText::Open { json, .. })) => self.hear(entry, &json),
                // It is named for that; what it said of keys is not known.
                _ => self.keys_in_doubt = true,
            }
        }
        self.last_seq = self.last_seq.max(seq);
        let size = self.frontier.size() + 1;
        if seq > size {
            self.gap = true;
        }
        if seq != size || self.gap {
            return;
        }
        let nodes = &mut self.nodes;
        self.frontier.push_noting(hash, |height, root| {
            if height.is_multiple_of(TILE_HEIGHT) {
                nodes.push((height / TILE_HEIGHT, (size >> height) - 1, root));
            }
        });
        self.hold_claims(size);
        while let Some(checkpoint) = self.checkpoints.up_to(size) {
            self.checkpoint(&checkpoint);
        }
    }

    /// Takes what an entry says of the proof, before its own hash is in the tree.
    fn hear(&mut self, entry: &Entry, json: &str) {
        let Ok(event) = Event::decode(entry.event_type.as_str(), entry.schema, json) else {
            let why = "its payload is not of its type".to_owned();
            return self.fault(entry.seq, How::Unsigned(why), None);
        };
        if let Err(error) = self.keys.apply(entry.seq, &event) {
            return self.fault(entry.seq, How::Unsigned(words_of(&error)), None);
        }
        match event {
            Event::CheckpointPublished(published) => {
                self.last_published = self.last_published.max(published.size);
                self.told.push((entry.seq, published.size, published.root));
            }
            Event::LedgerRestored(restored) if restored.kept == self.frontier.size() => {
                let kept = self.gap || restored.kept_root == self.frontier.root();
                if !kept {
                    let why = "the root that it says was kept is another".to_owned();
                    self.fault(entry.seq, How::Unsigned(why), Some((1, restored.kept)));
                }
            }
            // Of the first entry alone no checkpoint need be there.
            Event::LedgerRestored(restored) if restored.kept > 1 => {
                self.told
                    .push((entry.seq, restored.kept, restored.kept_root));
            }
            _ => {}
        }
    }

    /// Compares with the stored rows what was computed, and reads ahead.
    pub(super) async fn settle(&mut self, connection: &mut PgConnection) -> Result<(), ReadError> {
        self.compare_nodes(connection).await?;
        self.compare_told(connection).await?;
        let size = self.frontier.size();
        self.checkpoints.read_ahead(connection, size).await
    }

    /// Ends the check and names what is wrong.
    pub(super) async fn finish(
        mut self,
        snapshot: &mut PgConnection,
        head: Head,
        findings: &mut Findings,
    ) -> Result<Outcome, ReadError> {
        self.settle(snapshot).await?;
        loop {
            while let Some(checkpoint) = self.checkpoints.up_to(u64::MAX) {
                self.checkpoint(&checkpoint);
            }
            if !self.checkpoints.read_rest(snapshot).await? {
                break;
            }
        }
        let mut unchecked = Vec::new();
        if self.checkpoints.crowded() {
            self.undecided = true;
            unchecked.push(
                "checkpoints: so many rows claim nearly the same sizes that not all were looked at"
                    .to_owned(),
            );
        }
        for size in self.claims.keys().copied().collect::<Vec<_>>() {
            if size >= self.from {
                self.hold_claims(size);
            }
        }
        for claim in self.claims.values().flatten() {
            let from = self.from;
            unchecked.push(format!("{}: it lies before entry {from}", claim.source));
        }
        unchecked.extend(self.contradicted());
        self.stray_checkpoints(snapshot).await?;
        for (size, before) in std::mem::take(&mut self.links) {
            if !self.displaced.contains(&before) {
                let why = format!("it follows one of size {before}, which is not in front of it");
                self.fault(size, How::CheckpointAltered(why), None);
            }
        }
        unchecked.extend(self.stray_nodes(snapshot).await?);
        self.cosignatures(snapshot).await?;

        let unsettled: BTreeSet<u64> = findings
            .broken()
            .filter(|broken| broken.how.unsettles_hash())
            .map(|broken| broken.seq)
            .collect();
        let head_altered = findings
            .broken()
            .any(|broken| matches!(broken.how, How::HeadAltered(_)));
        let mut excused = 0_u64;
        for fault in self.faults {
            let cause = fault.rests_on.is_some_and(|(from, to)| {
                from <= to && unsettled.range(from..=to).next().is_some()
                    || head_altered && to > head.size
            });
            if cause {
                excused += 1;
            } else {
                findings.name(fault.seq, fault.how);
            }
        }
        for (size, how) in self.unsigned {
            findings.name(size, how);
        }
        if self.keys_in_doubt {
            self.undecided = true;
            unchecked
                .push("signatures of checkpoints: an entry about their keys is damaged".to_owned());
        }
        if excused > 0 || self.gap {
            unchecked.push(
                "stored nodes of the tree and checkpoints over the entries named above".to_owned(),
            );
        }
        Ok(Outcome {
            anchored: self.anchored,
            unchecked,
            undecided: self.undecided,
            last_checkpoint: self.last_checkpoint,
            last_published: self.last_published,
        })
    }

    fn unsigned(&mut self, size: u64, how: How) {
        if self.unsigned.len() < LISTED_MAX {
            self.unsigned.push((size, how));
        }
    }

    fn fault(&mut self, seq: u64, how: How, rests_on: Option<(u64, u64)>) {
        if self.faults.len() < LISTED_MAX {
            self.faults.push(Fault { seq, how, rests_on });
        }
    }

    /// Holds what was said outside against the tree, where it has come to that size or ends before it.
    fn hold_claims(&mut self, size: u64) {
        for claim in self.claims.remove(&size).unwrap_or_default() {
            let checked = match &claim.signed {
                None => Ok(()),
                Some(_) if self.keys_in_doubt && claim.vkeys.is_empty() => Ok(()),
                Some(signed) if claim.vkeys.is_empty() => self.keys.verify(signed),
                Some(signed) => signed.verify(&claim.vkeys).map(drop),
            };
            let source = &claim.source;
            let origin = claim
                .signed
                .as_ref()
                .map(|signed| signed.checkpoint().origin());
            if origin.is_some_and(|origin| origin != self.keys.origin()) {
                let why = format!("{source} is of another ledger");
                self.fault(size, How::NotAsAnchored(why), None);
            } else if let Err(error) = checked {
                let why = format!("{source}: {}", words_of(&error));
                self.contradicted.push((claim, Some(why)));
            } else if size > self.last_seq || !self.gap && self.frontier.root() != claim.root {
                self.contradicted.push((claim, None));
            } else if claim.outside && !self.gap {
                self.anchored = self.anchored.max(Some(size));
            }
        }
    }

    /// Names the claims that do not hold, but the very checkpoint whose loss the ledger states. Its key may be lost with it.
    ///
    /// Another one of a size that was lost may be of the lost history, or of what took its place and was cut or rewritten
    /// since: that is left open. The signer's own record is never of the past.
    fn contradicted(&mut self) -> Vec<String> {
        let mut stated = Vec::new();
        for (claim, unsigned) in std::mem::take(&mut self.contradicted) {
            let Claim {
                source, size, root, ..
            } = claim;
            if let Some((seq, restored)) = self.keys.lost_exactly(size, &root) {
                stated.push(format!(
                    "{source}: entries {} to {} were lost when the ledger was restored from a backup, as entry {seq} states",
                    restored.lost_from, restored.lost_to
                ));
                continue;
            }
            if let Some(why) = unsigned {
                self.fault(size, How::NotAsAnchored(why), None);
                continue;
            }
            if let Some((seq, restored)) = self.keys.lost(size)
                && claim.signed.is_some()
            {
                self.undecided = true;
                stated.push(format!(
                    "{source}: it does not hold; entry {seq} states that entries {} to {} were lost, and it is of them, or of \
                     entries that took their place and were cut off or rewritten since",
                    restored.lost_from, restored.lost_to
                ));
                continue;
            }
            if size > self.last_seq {
                for seq in (self.last_seq + 1..=size).take(LISTED_MAX) {
                    let why = format!("missing: {source} counts {size} entries");
                    self.fault(seq, How::NotAsAnchored(why), None);
                }
            } else {
                let why = format!("{source} names another root over entries 1 to {size}");
                self.fault(size, How::NotAsAnchored(why), Some((1, size)));
            }
        }
        stated
    }

    async fn compare_nodes(&mut self, connection: &mut PgConnection) -> Result<(), ReadError> {
        let what = "read the tree";
        let nodes = std::mem::take(&mut self.nodes);
        if nodes.is_empty() {
            return Ok(());
        }
        let levels: Vec<i16> = nodes
            .iter()
            .map(|(level, ..)| i16::try_from(*level).unwrap_or(i16::MAX))
            .collect();
        let indexes: Vec<i64> = nodes
            .iter()
            .map(|(_, index, _)| i64::try_from(*index).unwrap_or(i64::MAX))
            .collect();
        let rows = query(
            "select u.ord, t.hash from unnest($2::smallint[], $3::bigint[]) with ordinality as u (level, index, ord) \
             left join ledger.tree t on t.ledger_id = $1 and t.level = u.level and t.index = u.index order by u.ord",
        )
        .bind(self.ledger.uuid())
        .bind(levels)
        .bind(indexes)
        .fetch_all(connection)
        .await
        .map_err(failed(what))?;
        for (row, (level, index, hash)) in rows.iter().zip(nodes) {
            match row
                .try_get::<Option<&[u8]>, _>("hash")
                .map_err(failed(what))?
            {
                None if self.missing.len() < LISTED_MAX => self.missing.push((level, index)),
                None => {}
                Some(stored) if Hash::from_slice(stored) == Some(hash) => {}
                Some(_) => {
                    let last = last_entry(level, index);
                    let first = last + 1 - (1 << (TILE_HEIGHT * level));
                    let why = format!("{} is another", node_words(level, index));
                    self.fault(last, How::NodeAltered(why), Some((first, last)));
                }
            }
        }
        Ok(())
    }
}

/// Words about entries that no checkpoint covers yet. Publications are entries too, and need none of their own.
pub(super) async fn lag(
    snapshot: &mut PgConnection,
    ledger: LedgerId,
    proof: &Outcome,
    head: Head,
) -> Result<Vec<String>, ReadError> {
    let last = proof.last_checkpoint;
    let what = "count the entries behind the last checkpoint";
    if last == 0 {
        return Ok(vec![
            "no checkpoint was signed yet: `ledger checkpoint` makes one".to_owned(),
        ]);
    }
    let row = query(
        "select count(*) as behind from ledger.entries \
         where ledger_id = $1 and seq > $2 and seq <= $3 and type <> 'checkpoint.published'",
    )
    .bind(ledger.uuid())
    .bind(i64::try_from(last).unwrap_or(i64::MAX))
    .bind(i64::try_from(head.size).unwrap_or(i64::MAX))
    .fetch_one(snapshot)
    .await
    .map_err(failed(what))?;
    let behind: i64 = row.try_get("behind").map_err(failed(what))?;
    let mut warnings = Vec::new();
    if behind > 0 {
        warnings.push(format!(
            "the last checkpoint, of size {last}, is {behind} entries behind the head"
        ));
    }
    let published = proof.last_published;
    if (1..last).contains(&published) {
        warnings.push(format!(
            "the last published checkpoint is of size {published}: what was signed since lies here alone"
        ));
    }
    Ok(warnings)
}
