//! The part of a verification that tells erased from lost: a payload may be gone only where an entry says so, of an erasure
//! that was requested, approved by two persons, and took exactly what had been stored.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::payload::PayloadText;
use super::read::{Filter, ReadError};
use super::{Store, query};
use crate::chain::entry::{Entry, Hash};
use crate::chain::erasure::ErasedDigest;
use crate::chain::verify::{Findings, How};
use crate::domain::erasure::{APPROVERS_MIN, KeysRewrapped, SubjectErased};
use crate::domain::event::{Event, is_plain};
use crate::domain::id::{Actor, EntryId, LedgerId, Subject, Timestamp};

/// Entries looked up in one statement.
const BATCH: usize = 5_000;

/// An erasure that the ledger tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// Its entry.
    pub seq: u64,
    /// Whose data.
    pub owner: Subject,
    /// Payloads that it destroyed.
    pub payloads: u64,
    /// When.
    pub recorded_at: Timestamp,
    /// Who approved it.
    pub by: Vec<Actor>,
}

/// What the entries of one pass say about erasures. Grows with their number and not with that of the entries.
#[derive(Debug, Default)]
pub(super) struct Announced {
    requests: HashMap<EntryId, Request>,
    erasures: Vec<(Entry, SubjectErased)>,
    rewrapped: Vec<(u64, KeysRewrapped)>,
    holds: Vec<Hold>,
    destroyed: HashSet<EntryId>,
}

#[derive(Debug)]
struct Request {
    seq: u64,
    hash: Hash,
    subject: Subject,
    owner: Subject,
    overridden: Option<String>,
    approvals: Vec<Approval>,
}

#[derive(Debug)]
struct Approval {
    seq: u64,
    person: Actor,
    until: Timestamp,
}

#[derive(Debug)]
struct Hold {
    seq: u64,
    id: EntryId,
    subject: Subject,
    lifted: Option<u64>,
}

/// Types of the entries that tell of erasures.
const TYPES: [&str; 7] = [
    "erasure.requested",
    "erasure.approved",
    "subject.erased",
    "keys.rewrapped",
    "kek.destroyed",
    "legal_hold.placed",
    "legal_hold.lifted",
];

/// Whether the pass has to show [`Announced::entry`] an entry of this type.
pub(super) fn announces(event_type: &str) -> bool {
    TYPES.contains(&event_type)
}

impl Store {
    /// What the entries up to `size` say about erasures, and which entries that are: the caller has to see to it that they
    /// are those of the chain.
    pub(super) async fn announced_until(
        &self,
        size: u64,
    ) -> Result<(Announced, Vec<u64>), ReadError> {
        #[expect(clippy::expect_used, reason = "the types are this program's own")]
        let types = TYPES.map(|name| name.parse().expect("an event type"));
        let filter = Filter {
            types: types.to_vec(),
            to: Some(size),
            ..Filter::default()
        };
        let mut announced = Announced::default();
        let mut seqs = Vec::new();
        let mut entries = pin!(self.read(filter));
        while let Some(recorded) = entries.try_next().await? {
            if let Some(json) = recorded.payload.json() {
                announced.said(&recorded.entry, json);
            }
            seqs.push(recorded.entry.seq);
        }
        Ok((announced, seqs))
    }
}

fn failed(source: sqlx::Error) -> ReadError {
    ReadError::Database {
        what: "check the erasures",
        source,
    }
}

impl Announced {
    /// Takes in an entry whose type [`announces`], with salt ‖ payload. Where these are not what the entry commits to, they
    /// announce nothing.
    pub(super) fn entry(&mut self, entry: &Entry, salted: &[u8]) {
        if let PayloadText::Open { json, .. } = PayloadText::from_committed(entry, salted) {
            self.said(entry, &json);
        }
    }

    fn said(&mut self, entry: &Entry, json: &str) {
        match Event::decode(entry.event_type.as_str(), entry.schema, json) {
            Ok(Event::ErasureRequested(asked)) => {
                let request = Request {
                    seq: entry.seq,
                    hash: entry.hash(),
                    subject: entry.subject.clone(),
                    owner: asked.owner,
                    overridden: asked.overridden,
                    approvals: Vec::new(),
                };
                self.requests.insert(entry.id, request);
            }
            Ok(Event::ErasureApproved(approved)) => {
                let request = self.requests.get_mut(&approved.request);
                if let Some(request) = request.filter(|request| {
                    request.hash == approved.request_hash && request.subject == entry.subject
                }) {
                    request.approvals.push(Approval {
                        seq: entry.seq,
                        person: entry.actor.clone(),
                        until: approved.expires_at,
                    });
                }
            }
            Ok(Event::SubjectErased(said)) => self.erasures.push((entry.clone(), said)),
            Ok(Event::KeysRewrapped(said)) => self.rewrapped.push((entry.seq, said)),
            Ok(Event::KekDestroyed(destroyed)) => {
                self.destroyed.insert(destroyed.erasure);
            }
            Ok(Event::LegalHoldPlaced(_)) => self.holds.push(Hold {
                seq: entry.seq,
                id: entry.id,
                subject: entry.subject.clone(),
                lifted: None,
            }),
            Ok(Event::LegalHoldLifted(_)) => {
                for hold in &mut self.holds {
                    if hold.subject == entry.subject && Some(hold.id) == entry.cause {
                        hold.lifted.get_or_insert(entry.seq);
                    }
                }
            }
            _ => {}
        }
    }

    /// Names what is missing without an erasure, what is wrong with an erasure, and gives those that are sound, with words
    /// about what is still to be done.
    pub(super) async fn settle(
        self,
        snapshot: &mut PgConnection,
        ledger: LedgerId,
        findings: &mut Findings,
    ) -> Result<(Vec<Erased>, Vec<String>), ReadError> {
        let mut sound = Vec::new();
        for (entry, said) in &self.erasures {
            let mut fault = self.fault(entry, said);
            if fault.is_none() {
                fault = look(snapshot, ledger, entry.seq, said, findings).await?;
            }
            match fault {
                Some(why) => findings.name(entry.seq, How::ErasureUnfounded(why)),
                None => sound.push((entry, said)),
            }
        }
        let erased: Vec<_> = sound
            .iter()
            .map(|(entry, said)| (entry.seq, *said))
            .collect();
        self.keys_in_force(snapshot, ledger, &erased, findings)
            .await?;
        findings.settle_missing(|seq| sound.iter().any(|(_, said)| said.ranges.contains(seq)));
        let mut unchecked = Vec::new();
        for (entry, said) in &sound {
            if !self.destroyed.contains(&entry.id) {
                unchecked.push(format!(
                    "whether backups still reveal what entry {} erased: no entry says that key-encryption key {} is \
                     destroyed; run `ledger erase {}` again",
                    entry.seq, said.kek_before, entry.subject
                ));
            }
        }
        let erased = sound.into_iter().map(|(entry, said)| Erased {
            seq: entry.seq,
            owner: entry.subject.clone(),
            payloads: said.payloads,
            recorded_at: entry.recorded_at,
            by: said.approved_by.clone(),
        });
        Ok((erased.collect(), unchecked))
    }

    /// Names data keys that are under another key-encryption key than the log says, or, while it says none, than most are;
    /// and key-encryption keys that no erasure brought. Without the key that a row names, what it wraps cannot be looked at.
    async fn keys_in_force(
        &self,
        snapshot: &mut PgConnection,
        ledger: LedgerId,
        sound: &[(u64, &SubjectErased)],
        findings: &mut Findings,
    ) -> Result<(), ReadError> {
        let mut last = sound.last().map(|(seq, said)| (*seq, said.kek.as_str()));
        for (seq, said) in &self.rewrapped {
            let because: Option<LedgerId> = said
                .because_of
                .to_string()
                .strip_prefix("ledger:")
                .and_then(|id| id.parse().ok())
                .filter(|id| *id != ledger);
            let brought = query(
                "with erasure (said) as materialized ( \
                     select convert_from(substr(p.bytes, 33), 'UTF8')::jsonb from ledger.entries e \
                     join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq \
                     where e.ledger_id = $1 and e.type = 'subject.erased' and p.algorithm = 'plain') \
                 select where $2 in (select said ->> 'kek_before' from erasure) \
                          and $3 in (select said ->> 'kek' from erasure)",
            )
            .bind(because.map(LedgerId::uuid))
            .bind(&said.kek_before)
            .bind(&said.kek)
            .fetch_optional(&mut *snapshot)
            .await
            .map_err(failed)?;
            if brought.is_none() {
                let why = format!(
                    "no erasure of {} replaced {} by {}",
                    said.because_of, said.kek_before, said.kek
                );
                findings.name(*seq, How::ErasureUnfounded(why));
            }
            if last.is_none_or(|(before, _)| before < *seq) {
                last = Some((*seq, &said.kek));
            }
        }
        let rows = query(
            "with expected (kek_id) as ( \
                 select coalesce($2, mode() within group (order by kek_id)) from ledger.keys where ledger_id = $1) \
             select k.key_id, k.kek_id, x.kek_id as expected, coalesce(s.seq, 1) as seq \
             from expected x join ledger.keys k on k.ledger_id = $1 and k.kek_id <> x.kek_id \
             left join lateral (select min(p.seq) as seq from ledger.payloads p \
                                where p.ledger_id = k.ledger_id and p.key_id = k.key_id) s on true \
             order by 4 limit 1000",
        )
        .bind(ledger.uuid())
        .bind(last.map(|(_, kek)| kek))
        .fetch_all(&mut *snapshot)
        .await
        .map_err(failed)?;
        for row in &rows {
            let text = |column| row.try_get::<&str, _>(column).map_err(failed);
            let seq: i64 = row.try_get("seq").map_err(failed)?;
            let why = format!(
                "data key {} is under {}, and in force is {}",
                text("key_id")?,
                text("kek_id")?,
                text("expected")?
            );
            findings.name(seq.unsigned_abs(), How::KeyAltered(why));
        }
        Ok(())
    }

    /// What the log itself says against an erasure.
    fn fault(&self, entry: &Entry, said: &SubjectErased) -> Option<String> {
        let Some(request) = self.requests.get(&said.request) else {
            return Some("nobody requested it".to_owned());
        };
        if request.owner != entry.subject {
            return Some("it was requested for somebody else".to_owned());
        }
        if request.seq >= entry.seq {
            return Some("it was requested only afterwards".to_owned());
        }
        let earlier = |(other, of): &&(Entry, SubjectErased)| {
            other.seq < entry.seq && of.request == said.request
        };
        if let Some((other, _)) = self.erasures.iter().find(earlier) {
            let seq = other.seq;
            return Some(format!("its request was executed before, by entry {seq}"));
        }
        let counted: BTreeSet<&Actor> = request
            .approvals
            .iter()
            .filter(|approval| {
                approval.person.as_str().starts_with("person:")
                    && (request.seq..entry.seq).contains(&approval.seq)
                    && entry.recorded_at < approval.until
                    && said.approved_by.contains(&approval.person)
            })
            .map(|approval| &approval.person)
            .collect();
        if counted.len() < APPROVERS_MIN {
            return Some("it was not approved by two persons".to_owned());
        }
        if said.overridden != request.overridden {
            return Some("it gives another reason against holds than its request".to_owned());
        }
        let held = |hold: &&Hold| {
            hold.seq < entry.seq
                && hold.lifted.is_none_or(|lifted| lifted > entry.seq)
                && (hold.subject == entry.subject
                    || hold.subject == Subject::of_ledger(entry.ledger)
                    || said.items.contains_key(&hold.subject))
        };
        if let Some(hold) = self
            .holds
            .iter()
            .find(held)
            .filter(|_| said.overridden.is_none())
        {
            let seq = hold.seq;
            return Some(format!("the legal hold of entry {seq} forbade it"));
        }
        (said.ranges.count() != said.payloads || said.ranges.iter().any(|seq| seq >= entry.seq))
            .then(|| "it counts its payloads wrongly".to_owned())
    }
}

/// Compares an erasure with the entries that it names, and names those whose payload it did not take as it should.
async fn look(
    snapshot: &mut PgConnection,
    ledger: LedgerId,
    erasure: u64,
    said: &SubjectErased,
    findings: &mut Findings,
) -> Result<Option<String>, ReadError> {
    let mut digest = ErasedDigest::default();
    let mut whole = true;
    let seqs: Vec<i64> = said.ranges.iter().map(u64::cast_signed).collect();
    let mut fault = None;
    for batch in seqs.chunks(BATCH) {
        let rows = query(
            "select e.seq, e.bytes, p.seq is not null as is_there from ledger.entries e \
             left join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq \
             where e.ledger_id = $1 and e.seq = any($2) order by e.seq",
        )
        .bind(ledger.uuid())
        .bind(batch)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(failed)?;
        whole &= rows.len() == batch.len();
        for row in &rows {
            let seq = row.try_get::<i64, _>("seq").map_err(failed)?.unsigned_abs();
            let bytes: &[u8] = row.try_get("bytes").map_err(failed)?;
            let is_there: bool = row.try_get("is_there").map_err(failed)?;
            // An entry that is damaged itself is named for that.
            let Ok(entry) = Entry::from_bytes(bytes) else {
                whole = false;
                continue;
            };
            digest.add(seq, entry.stored);
            if is_there {
                findings.name_rather(seq, How::NotErased(erasure));
            } else if said.altered.contains(seq) {
                findings.name(seq, How::ErasedAltered(erasure));
            }
            if is_plain(&entry.event_type) {
                // That one alone: who seals such a type under an owner's key must not undo a later erasure with it.
                let why =
                    format!("entry {erasure} names it, and what its type says is kept in plain");
                findings.name(seq, How::ErasureUnfounded(why));
            }
        }
    }
    if whole && said.altered.is_empty() && digest.finish() != said.stored {
        fault = Some("what it destroyed was not what had been stored".to_owned());
    }
    let key = query("select from ledger.keys where ledger_id = $1 and key_id = $2")
        .bind(ledger.uuid())
        .bind(&said.key_id)
        .fetch_optional(snapshot)
        .await
        .map_err(failed)?;
    if key.is_some() {
        fault = Some("the key that it destroyed is there".to_owned());
    }
    Ok(fault)
}
