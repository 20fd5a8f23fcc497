//! Verification of a ledger as it lies in PostgreSQL: one snapshot, one pass, memory that does not grow.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::guards::{guards_off, who_runs_this};
use super::identity::wrapped_key;
use super::keys::{DataKey, KeyError, SEALED, blind, identity_aad, payload_aad};
use super::payload::{PayloadText, introduces};
use super::read::{HEAD, ReadError, head_of};
use super::rows::{EntryRow, PayloadRow};
pub use super::verify_erasure::Erased;
use super::verify_erasure::{Announced, announces};
use super::verify_since::{Start, anchoring, not_read_again};
pub use super::verify_tree::Claim;
use super::verify_tree::{SETTLE_EVERY, TreeCheck, lag};
use super::{Store, query};
use crate::chain::entry::{Entry, Hash, PLAIN};
use crate::chain::verify::{
    Findings, Head, How, LISTED_MAX, Opened, ReadBytes, ReadPayload, StoredPayload, Verifier,
};
use crate::domain::id::{Subject, Timestamp};

/// Entries from one call of the progress to the next.
const PROGRESS_EVERY: u64 = 1_000;
/// Keys kept unwrapped during a pass.
const KEYS_MAX: usize = 4_096;

/// A data key as far as it can be had.
#[derive(Debug, Clone)]
pub(super) enum KeyState {
    Open(DataKey),
    /// The key-encryption key is not at hand.
    Absent,
    /// Its row was altered or is gone.
    Damaged(String),
}

/// A head that somebody kept outside, to be found again in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Number of entries then.
    pub size: u64,
    /// Hash of the last one then.
    pub hash: Hash,
}

/// What is known of the ledger from outside the database.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// Heads that were kept, and receipts.
    pub anchors: Vec<Anchor>,
    /// Checkpoints that were kept, and the signer's own record.
    pub claims: Vec<Claim>,
    /// A checkpoint that an earlier verification led to: only what lies behind it is read.
    pub since: Option<Claim>,
}

/// What a verification found.
#[derive(Debug)]
pub struct Report {
    /// The head row.
    pub head: Head,
    /// What is broken, and where.
    pub findings: Findings,
    /// Erasures that account for payloads that are gone.
    pub erased: Vec<Erased>,
    /// Up to which entry an anchor from outside speaks for the ledger.
    pub anchored: Option<u64>,
    /// Size of the last sound checkpoint; none where there is none.
    pub checkpoint: Option<u64>,
    /// Size of the last checkpoint that an entry says was published; none where none was, or where its entry was not read.
    pub published: Option<u64>,
    /// Guards of the tables that are off: until they are on again, nothing vouches for what is written.
    pub guards_off: Vec<String>,
    /// What could not be checked, in words.
    pub unchecked: Vec<String>,
    /// Something in there could be tampering as well, so that nothing can be called intact.
    pub undecided: bool,
    /// What is as it was written and should be looked at all the same, in words.
    pub warnings: Vec<String>,
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> ReadError {
    move |source| ReadError::Database { what, source }
}

impl Store {
    /// Checks every entry, its payload, the head, the identities and the guards in one snapshot.
    ///
    /// # Errors
    /// The database's. What is wrong with the ledger stands in the report.
    pub async fn verify(
        &self,
        outside: Outside,
        progress: impl Fn(u64, u64),
    ) -> Result<Report, ReadError> {
        let (told, mut heard) = watch::channel((0, 0));
        let store = self.clone();
        // A task among those that read the rows, and not on the caller's thread, which may be one more than there are cores.
        let pass = tokio::spawn(async move { store.verify_telling(outside, told).await });
        let mut pass = AbortOnDropHandle::new(pass);
        loop {
            tokio::select! {
                ended = &mut pass => return match ended {
                    Ok(report) => report,
                    // Nobody aborts it before it is dropped.
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
                Ok(()) = heard.changed() => {
                    let (done, all) = *heard.borrow_and_update();
                    progress(done, all);
                }
            }
        }
    }

    async fn verify_telling(
        &self,
        outside: Outside,
        progress: watch::Sender<(u64, u64)>,
    ) -> Result<Report, ReadError> {
        let mut connection = self.pool().acquire().await.map_err(failed("connect"))?;
        let mut snapshot = connection
            .begin_with("begin transaction isolation level repeatable read, read only")
            .await
            .map_err(failed("take a snapshot of the ledger"))?;
        let row = query(HEAD)
            .bind(self.id().uuid())
            .fetch_optional(&mut *snapshot)
            .await
            .map_err(failed("read the head"))?
            .ok_or(ReadError::NoLedger(self.id()))?;
        let head = head_of(&row).map_err(failed("read the head"))?;
        let Outside {
            anchors,
            mut claims,
            since,
        } = outside;
        let given = !anchors.is_empty() || claims.iter().any(|claim| claim.outside);
        let anchors = anchors.as_slice();
        let start = match &since {
            Some(since) => self.start_behind(since, head).await?,
            None => Start::default(),
        };
        claims.extend(since.clone());
        let begun = start.last.as_ref().map_or(0, |last| last.0);
        let (frontier, keys) = (start.frontier, start.keys);
        let tree = TreeCheck::start(&mut snapshot, self.id(), frontier, keys, claims).await?;
        let mut pass = Pass::new(self, anchors, tree);
        pass.behind = start.last;
        pass.announced = start.announced;
        let mut findings = pass.entries(&mut snapshot, head, &progress).await?;
        let (erased, kept) = pass.erasures(&mut snapshot, &mut findings).await?;
        if begun == 0 && findings.entries == 0 && strayed(&mut snapshot, head).await? {
            let why = "its entries stand under another ledger".to_owned();
            findings = Findings::default();
            findings.name(head.size, How::HeadAltered(why));
        } else {
            pass.orphans(&mut findings);
            if begun == 0 {
                pass.identities(&mut snapshot, &mut findings).await?;
            }
            pass.head_names(&row, &mut findings)
                .map_err(failed("read the head"))?;
        }
        let contradicted = std::mem::take(&mut pass.contradicted);
        let of_heads = pass.anchored;
        let of_payloads = pass.unchecked(&findings);
        let proof = pass.tree.finish(&mut snapshot, head, &mut findings).await?;
        let anchored = of_heads.max(proof.anchored);
        let mut unchecked: Vec<String> = anchoring(given, anchored, head).into_iter().collect();
        unchecked.extend(of_payloads);
        unchecked.extend(not_read_again(begun, anchors));
        let warnings = lag(&mut snapshot, self.id(), &proof, head).await?;
        let guards_off = guards_off(&mut snapshot).await?;
        let strong_login = who_runs_this(&mut snapshot).await?;
        snapshot
            .rollback()
            .await
            .map_err(failed("end the snapshot"))?;

        for anchor in anchors {
            if anchor.size > head.size {
                for seq in head.size + 1..=anchor.size.min(head.size + 1_000) {
                    let why = format!(
                        "missing: a saved head or receipt counts {} entries",
                        anchor.size
                    );
                    findings.name(seq, How::NotAsAnchored(why));
                }
            }
        }
        for anchor in contradicted {
            let why = "a saved head or receipt names another hash for it".to_owned();
            findings.name(anchor.size, How::NotAsAnchored(why));
        }
        unchecked.extend(proof.unchecked);
        unchecked.extend(kept);
        unchecked.extend(strong_login);
        Ok(Report {
            head,
            findings,
            erased,
            anchored,
            checkpoint: (proof.last_checkpoint > 0).then_some(proof.last_checkpoint),
            published: (proof.last_published > 0).then_some(proof.last_published),
            guards_off,
            unchecked,
            undecided: proof.undecided,
            warnings,
        })
    }

    pub(super) async fn key_by_id(&self, key_id: &str) -> Result<KeyState, sqlx::Error> {
        if let Some(key) = self.keys().cached_by_id(key_id) {
            return Ok(KeyState::Open(key));
        }
        let mut connection = self.pool().acquire().await?;
        self.stored_key(&mut connection, key_id).await
    }

    /// The key as its row has it.
    async fn stored_key(
        &self,
        snapshot: &mut PgConnection,
        key_id: &str,
    ) -> Result<KeyState, sqlx::Error> {
        let row = query(
            "select key_id, owner, kek_id, nonce, wrapped from ledger.keys \
             where ledger_id = $1 and key_id = $2",
        )
        .bind(self.id().uuid())
        .bind(key_id)
        .fetch_optional(snapshot)
        .await?;
        Ok(self.unwrapped(row.as_ref()))
    }

    /// Unwraps and keeps several keys in one question; one that cannot be is said to be so where it is needed.
    pub(super) async fn keys_by_id(&self, key_ids: &[&str]) -> Result<(), sqlx::Error> {
        let rows = query(
            "select key_id, owner, kek_id, nonce, wrapped from ledger.keys \
             where ledger_id = $1 and key_id = any($2)",
        )
        .bind(self.id().uuid())
        .bind(key_ids)
        .fetch_all(self.pool())
        .await?;
        for row in &rows {
            self.unwrapped(Some(row));
        }
        Ok(())
    }

    /// The key of the blind indexes as its row has it. Never made here: a lost one must stay lost to be found so.
    async fn stored_index_key(&self, snapshot: &mut PgConnection) -> Result<KeyState, sqlx::Error> {
        let row = query(
            "select key_id, owner, kek_id, nonce, wrapped from ledger.keys \
             where ledger_id = $1 and owner = $2",
        )
        .bind(self.id().uuid())
        .bind(Subject::of_ledger(self.id()).to_string())
        .fetch_optional(snapshot)
        .await?;
        if row.is_none() && !self.has_keys() {
            return Ok(KeyState::Absent);
        }
        Ok(self.unwrapped(row.as_ref()))
    }

    fn unwrapped(&self, row: Option<&PgRow>) -> KeyState {
        let Some(row) = row else {
            return KeyState::Damaged("its row is gone".to_owned());
        };
        let Ok(wrapped) = wrapped_key(row) else {
            return KeyState::Damaged("its owner is not a subject".to_owned());
        };
        match self.keys().unwrap(&wrapped) {
            Ok(key) => {
                self.keys().cache(wrapped.owner, key.clone());
                KeyState::Open(key)
            }
            Err(KeyError::NoKek) => KeyState::Absent,
            Err(error) => KeyState::Damaged(error.to_string()),
        }
    }
}

/// State of one verification beside the verifier's own.
struct Pass<'a> {
    store: &'a Store,
    /// Hashes that are known from outside, by the entry's number.
    anchors: HashMap<u64, Vec<Hash>>,
    keys: HashMap<String, KeyState>,
    anchored: Option<u64>,
    contradicted: Vec<Anchor>,
    /// Payload of entry 1, which repeats the head's name and clock.
    created: Option<serde_json::Value>,
    /// Subjects introduced by the entries since the last look at their identity rows.
    introduced: Vec<(Subject, u64)>,
    tree: TreeCheck,
    /// The entry behind which the pass begins: number, hash, time of recording.
    behind: Option<(u64, Hash, Timestamp)>,
    /// Payloads of owners whose key is damaged, after the first of each, which is named.
    unreadable: u64,
    identities_unchecked: u64,
    /// Subjects whose identity row is missed at the entry that introduced them.
    identities_gone: usize,
    announced: Announced,
    /// Numbers of payload rows without an entry.
    orphans: Vec<u64>,
    /// Where the next payload is opened.
    room: Vec<u8>,
}

impl<'a> Pass<'a> {
    fn new(store: &'a Store, anchors: &[Anchor], tree: TreeCheck) -> Self {
        let mut by_size: HashMap<u64, Vec<Hash>> = HashMap::new();
        for anchor in anchors {
            by_size.entry(anchor.size).or_default().push(anchor.hash);
        }
        Self {
            store,
            anchors: by_size,
            tree,
            behind: None,
            keys: HashMap::new(),
            anchored: None,
            contradicted: Vec::new(),
            created: None,
            introduced: Vec::new(),
            unreadable: 0,
            identities_unchecked: 0,
            identities_gone: 0,
            announced: Announced::default(),
            orphans: Vec::new(),
            room: Vec::new(),
        }
    }

    async fn entries(
        &mut self,
        snapshot: &mut PgConnection,
        head: Head,
        progress: &watch::Sender<(u64, u64)>,
    ) -> Result<Findings, ReadError> {
        let name: String = query("select pg_export_snapshot() as name")
            .fetch_one(&mut *snapshot)
            .await
            .and_then(|row| row.try_get("name"))
            .map_err(failed("share the snapshot"))?;
        let after = self.behind.as_ref().map_or(0, |last| last.0);
        let mut entries = self.store.entry_rows(&name, after);
        let mut payloads = self.store.payload_rows(&name, after);
        let mut verifier = match self.behind {
            None => Verifier::new(self.store.id(), head),
            Some((seq, hash, recorded_at)) => {
                Verifier::after(self.store.id(), head, seq, hash, recorded_at)
            }
        };
        let mut gone = Vec::new();
        let mut rows = 0_u64;
        let mut payload = payloads.next().await?;
        while let Some((entry, read)) = entries.next().await? {
            let seq = entry.seq()?;
            while let Some(orphan) = payload.take_if(|payload| payload.seq < seq) {
                self.orphan(orphan.seq);
                payload = payloads.next().await?;
            }
            let own = payload.take_if(|payload| payload.seq == seq);
            if own.is_some() {
                payload = payloads.next().await?;
            }
            self.entry(snapshot, &mut verifier, (&entry, read), own)
                .await?;
            rows += 1;
            if rows.is_multiple_of(PROGRESS_EVERY) {
                progress.send_replace((rows, head.size));
            }
            if rows.is_multiple_of(SETTLE_EVERY) {
                self.tree.settle(snapshot).await?;
                gone.extend(self.without_identity(snapshot).await?);
            }
        }
        while let Some(orphan) = payload {
            self.orphan(orphan.seq);
            payload = payloads.next().await?;
        }
        gone.extend(self.without_identity(snapshot).await?);
        self.identities_gone = gone.len();
        let mut findings = verifier.finish();
        for seq in gone {
            findings.name(seq, How::IdentityAltered("its row is gone".to_owned()));
        }
        Ok(findings)
    }

    /// Tells the payloads that were erased from those that are lost.
    async fn erasures(
        &mut self,
        snapshot: &mut PgConnection,
        findings: &mut Findings,
    ) -> Result<(Vec<Erased>, Vec<String>), ReadError> {
        let announced = std::mem::take(&mut self.announced);
        announced.settle(snapshot, self.store.id(), findings).await
    }

    fn orphan(&mut self, seq: i64) {
        if self.orphans.len() < LISTED_MAX {
            self.orphans.push(seq.unsigned_abs());
        }
    }

    async fn entry(
        &mut self,
        snapshot: &mut PgConnection,
        verifier: &mut Verifier,
        (row, read): (&EntryRow, ReadBytes),
        own: Option<PayloadRow>,
    ) -> Result<(), ReadError> {
        let stored = row.stored()?;
        let payload = own.as_ref().map(PayloadRow::stored).transpose()?;
        let opened = match (&payload, &read.parsed) {
            (Some(payload), Ok(entry)) if payload.algorithm != PLAIN => self
                .open(snapshot, entry, payload)
                .await
                .map_err(failed("read a data key"))?,
            _ => Opened::NoKey,
        };
        let salted = match (&payload, &opened) {
            (Some(payload), _) if payload.algorithm == PLAIN => Some(payload.bytes),
            (_, Opened::Salted(salted)) => Some(salted.as_slice()),
            _ => None,
        };
        // Of most payloads only the hashes matter.
        let speaks = |salted: &&[u8]| stored.seq == 1 || introduces(salted);
        let text = salted.filter(speaks).map(PayloadText::from_salted);
        let plain = payload
            .as_ref()
            .filter(|payload| payload.algorithm == PLAIN);
        self.tree.take(
            &stored,
            read.hash,
            read.parsed.as_ref().ok(),
            plain.map(|payload| payload.bytes),
        );
        if let (Some(salted), Ok(entry)) = (salted, &read.parsed)
            && announces(entry.event_type.as_str())
        {
            self.announced.entry(entry, salted);
        }
        let payload = own.as_ref().zip(payload).map(|(own, row)| ReadPayload {
            row,
            digest: own.digest,
            opened,
        });
        let number = stored.seq.unsigned_abs();
        for hash in self.anchors.get(&number).into_iter().flatten() {
            if Hash::from_slice(stored.hash) == Some(*hash) {
                self.anchored = self.anchored.max(Some(number));
            } else {
                self.contradicted.push(Anchor {
                    size: number,
                    hash: *hash,
                });
            }
        }
        let entry = verifier.row(&stored, read, payload.as_ref());
        if let (Some(entry), Some(PayloadText::Open { json, natural_id })) = (&entry, text) {
            if entry.seq == 1 {
                self.created = serde_json::from_str(&json).ok();
            }
            if natural_id.is_some() {
                self.introduced.push((entry.subject.clone(), entry.seq));
            }
        }
        if let Some(Opened::Salted(salted)) = payload.map(|payload| payload.opened) {
            self.room = salted;
        }
        Ok(())
    }

    async fn open(
        &mut self,
        snapshot: &mut PgConnection,
        entry: &Entry,
        row: &StoredPayload<'_>,
    ) -> Result<Opened, sqlx::Error> {
        if row.algorithm != SEALED {
            return Ok(Opened::Refused(format!("algorithm {}", row.algorithm)));
        }
        let key = if let Some(key) = self.keys.get(row.key_id) {
            key.clone()
        } else {
            let key = self.store.stored_key(snapshot, row.key_id).await?;
            if self.keys.len() >= KEYS_MAX {
                self.keys
                    .retain(|_, key| matches!(key, KeyState::Damaged(_)));
            }
            // One edited key is named once, by the first entry that needs it.
            let after = match &key {
                KeyState::Damaged(_) => KeyState::Damaged(String::new()),
                other => other.clone(),
            };
            self.keys.insert(row.key_id.to_owned(), after);
            key
        };
        let aad = payload_aad(self.store.id(), entry.id, &entry.event_type);
        Ok(match key {
            KeyState::Open(key) => {
                match key.open_in(std::mem::take(&mut self.room), &aad, row.nonce, row.bytes) {
                    Ok(salted) => Opened::Salted(salted),
                    Err(error) => Opened::Refused(error.to_string()),
                }
            }
            KeyState::Absent => Opened::NoKey,
            KeyState::Damaged(why) if why.is_empty() => {
                self.unreadable += 1;
                Opened::NoKey
            }
            KeyState::Damaged(why) => Opened::Refused(why),
        })
    }

    /// Entries that introduced a subject which has no identity row.
    async fn without_identity(
        &mut self,
        snapshot: &mut PgConnection,
    ) -> Result<Vec<u64>, ReadError> {
        if self.introduced.is_empty() {
            return Ok(Vec::new());
        }
        let introduced = std::mem::take(&mut self.introduced);
        let subjects: Vec<String> = introduced
            .iter()
            .map(|(subject, _)| subject.to_string())
            .collect();
        let seqs: Vec<i64> = introduced
            .iter()
            .map(|(_, seq)| i64::try_from(*seq).unwrap_or(0))
            .collect();
        let rows = query(
            "select min(u.seq) as seq from unnest($2::text[], $3::bigint[]) as u (subject, seq) \
             where not exists (select from ledger.identity i \
                               where i.ledger_id = $1 and i.subject = u.subject) \
             group by u.subject",
        )
        .bind(self.store.id().uuid())
        .bind(subjects)
        .bind(seqs)
        .fetch_all(snapshot)
        .await
        .map_err(failed("look for identities"))?;
        rows.iter()
            .map(|row| Ok(row.try_get::<i64, _>("seq")?.unsigned_abs()))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(failed("look for identities"))
    }

    /// Names the payloads that belong to no entry, unless they are the ones missed elsewhere.
    fn orphans(&self, findings: &mut Findings) {
        // A payload row that was given another number is missed at its own: one edit.
        let moved = findings
            .broken()
            .filter(|broken| broken.how == How::PayloadMissing)
            .count();
        for seq in self.orphans.iter().skip(moved) {
            findings.name(*seq, How::PayloadOrphan);
        }
    }

    /// Opens every identity row and compares it with its blind index and with the entry that introduced the subject.
    async fn identities(
        &mut self,
        snapshot: &mut PgConnection,
        findings: &mut Findings,
    ) -> Result<(), ReadError> {
        let what = "check the identities";
        let index_key = match self
            .store
            .stored_index_key(snapshot)
            .await
            .map_err(failed(what))?
        {
            KeyState::Open(key) => key,
            KeyState::Absent => {
                self.identities_unchecked = u64::MAX;
                return Ok(());
            }
            KeyState::Damaged(why) => {
                findings.name(1, How::KeyAltered(format!("the ledger's index key: {why}")));
                return Ok(());
            }
        };
        let mut after = String::new();
        loop {
            let rows = query(
                "select i.subject, i.kind, i.owner, i.blind, i.key_id, i.nonce, i.sealed, \
                        e.seq, e.bytes, p.algorithm, p.key_id as payload_key, p.nonce as payload_nonce, \
                        p.bytes as payload \
                 from (select * from ledger.identity where ledger_id = $1 and subject > $2 \
                       order by subject limit 500) i \
                 left join lateral (select e.seq, e.bytes from ledger.entries e \
                                    where e.ledger_id = i.ledger_id and e.subject = i.subject \
                                    order by e.seq limit 1) e on true \
                 left join ledger.payloads p on p.ledger_id = i.ledger_id and p.seq = e.seq \
                 order by i.subject",
            )
            .bind(self.store.id().uuid())
            .bind(&after)
            .fetch_all(&mut *snapshot)
            .await
            .map_err(failed(what))?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = last.try_get("subject").map_err(failed(what))?;
            for row in &rows {
                let found = self
                    .identity(snapshot, row, &index_key)
                    .await
                    .map_err(failed(what))?;
                match found {
                    // A row that was given another subject is missed at its own: one edit.
                    Some((0, _)) if self.identities_gone > 0 => self.identities_gone -= 1,
                    Some((seq, why)) => findings.name(seq, How::IdentityAltered(why)),
                    None => {}
                }
            }
        }
    }

    async fn identity(
        &mut self,
        snapshot: &mut PgConnection,
        row: &PgRow,
        index_key: &DataKey,
    ) -> Result<Option<(u64, String)>, sqlx::Error> {
        let seq = row
            .try_get::<Option<i64>, _>("seq")?
            .unwrap_or(0)
            .unsigned_abs();
        let wrong = |why: &str| Ok(Some((seq, why.to_owned())));
        let Ok(subject) = row.try_get::<&str, _>("subject")?.parse::<Subject>() else {
            return wrong("its subject is no subject");
        };
        let kind: &str = row.try_get("kind")?;
        if kind != subject.kind() {
            return wrong("its kind is another");
        }
        let key_id: &str = row.try_get("key_id")?;
        let key = match self.keys.get(key_id).cloned() {
            Some(key) => key,
            None => self.store.stored_key(snapshot, key_id).await?,
        };
        let key = match key {
            KeyState::Open(key) => key,
            KeyState::Absent => {
                self.identities_unchecked += 1;
                return Ok(None);
            }
            // The key is named where an entry needs it; a row that names no key at all is the row's fault.
            KeyState::Damaged(why) if why.is_empty() => return Ok(None),
            KeyState::Damaged(_) => return wrong("its key is altered or another"),
        };
        let aad = identity_aad(self.store.id(), &subject);
        let natural = key
            .open(&aad, row.try_get("nonce")?, row.try_get("sealed")?)
            .ok();
        let Some(natural) = natural.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return wrong("its natural id does not open");
        };
        if Hash::from_slice(row.try_get("blind")?) != Some(blind(index_key, kind, &natural)) {
            return wrong("its blind index is another");
        }
        let owned = self.store.keys().cached_by_id(key_id).is_none()
            || row
                .try_get::<&str, _>("owner")?
                .parse::<Subject>()
                .is_ok_and(|owner| {
                    self.store
                        .keys()
                        .cached(&owner)
                        .is_some_and(|key| key.id() == key_id)
                });
        if !owned {
            return wrong("its owner is another");
        }
        let entry = row
            .try_get::<Option<&[u8]>, _>("bytes")?
            .map(Entry::from_bytes);
        let (Some(Ok(entry)), Some(SEALED)) = (entry, row.try_get::<Option<&str>, _>("algorithm")?)
        else {
            return Ok(None);
        };
        let payload = StoredPayload {
            algorithm: SEALED,
            key_id: row.try_get("payload_key")?,
            nonce: row.try_get("payload_nonce")?,
            bytes: row.try_get("payload")?,
        };
        let Opened::Salted(salted) = self.open(snapshot, &entry, &payload).await? else {
            return Ok(None);
        };
        match PayloadText::from_salted(&salted) {
            PayloadText::Open {
                natural_id: Some(id),
                ..
            } if id != natural => wrong("the entry that introduced it names another"),
            // One without a name was introduced by an entry that is gone, and named for that, or by none.
            _ => Ok(None),
        }
    }

    fn head_names(&self, head: &PgRow, findings: &mut Findings) -> Result<(), sqlx::Error> {
        let Some(created) = &self.created else {
            return Ok(());
        };
        for column in ["name", "clock"] {
            let found: &str = head.try_get(column)?;
            if created.get(column).and_then(serde_json::Value::as_str) != Some(found) {
                findings.name(1, How::HeadAltered(format!("its {column} is another")));
            }
        }
        Ok(())
    }

    fn unchecked(&self, findings: &Findings) -> Vec<String> {
        let mut unchecked = Vec::new();
        let sealed = findings.sealed_unchecked - self.unreadable.min(findings.sealed_unchecked);
        if sealed > 0 {
            unchecked.push(format!(
                "{sealed} sealed payloads: no key here opens them; their bytes are as stored"
            ));
        }
        if self.unreadable > 0 {
            unchecked.push(format!(
                "{} more payloads of owners whose key is altered",
                self.unreadable
            ));
        }
        if self.identities_unchecked > 0 {
            unchecked.push("identities: no key here opens them".to_owned());
        }
        unchecked
    }
}

/// Whether the entry that the head names is there, under another ledger.
async fn strayed(snapshot: &mut PgConnection, head: Head) -> Result<bool, ReadError> {
    let what = "look for the head's entry";
    let row =
        query("select exists (select from ledger.entries where seq = $1 and hash = $2) as found")
            .bind(i64::try_from(head.size).unwrap_or(i64::MAX))
            .bind(head.hash.0.as_slice())
            .fetch_one(snapshot)
            .await
            .map_err(failed(what))?;
    row.try_get("found").map_err(failed(what))
}
