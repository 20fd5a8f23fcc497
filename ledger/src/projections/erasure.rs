//! Erasure as a procedure: asked for by one person, approved by two, refused while something has to be kept, executed once.
//!
//! `ledger.erase` holds everybody to the request, the two approvals and the holds; what stands here finds them, says in
//! words what is missing, and records what the erasure is about to make unreadable.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;

use super::approve::{ApproveError, may_act};
use super::custody::CustodyFold;
use super::fold::{At, Unreadable, run};
use super::plan::{PREFIX_DIGITS_MIN, PlanError, for_each, is_person};
use crate::domain::custody::State;
use crate::domain::erasure::{
    APPROVERS_MIN, CopyMade, ErasureApproved, ErasureRequested, KekDestroyed, Ranges, SubjectErased,
};
use crate::domain::event::Event;
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, NameError, Subject, Timestamp};
use crate::domain::review::{KEPT_CHARS_MAX, may_be_kept};
use crate::store::erase::{EraseError, Erased};
use crate::store::identity::IdentityError;
use crate::store::keys::{Kek, KeyError, random};
use crate::store::read::ReadError;
use crate::store::{AppendError, Appended, Draft, Store};

/// How long an approval of an erasure counts.
pub const APPROVAL_DAYS: i64 = 7;

/// Types of entries that say that a copy has left the ledger.
const COPY_TYPES: [&str; 2] = ["subject.exported", "export.made"];

/// Why an erasure, a hold or a retention did not get on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErasureError {
    /// The person may not.
    #[error(transparent)]
    Person(#[from] ApproveError),
    /// The log could not be read.
    #[error("read the log")]
    Read(#[source] ReadError),
    /// An entry that decides says nothing.
    #[error("read entry {seq}: {}", why.words())]
    Unreadable {
        /// Which entry.
        seq: u64,
        /// Why.
        why: Unreadable,
    },
    /// No request, or no hold, of that name.
    #[error("there is no {what} {name} in this ledger")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// How it was named.
        name: String,
    },
    /// Several requests begin like this.
    #[error("several erasures begin with {0}")]
    Ambiguous(String),
    /// It was lifted before.
    #[error("the hold of entry {0} was lifted before")]
    Lifted(u64),
    /// Nothing is held on the owner.
    #[error("nothing is held on {0}")]
    Nothing(Subject),
    /// It belongs to somebody.
    #[error("{subject} belongs to {owner}, and is erased with it and not alone")]
    Owned {
        /// What was named.
        subject: Subject,
        /// Its owner.
        owner: Subject,
    },
    /// Something has to be kept.
    #[error("{owner} may not be erased: {}", words(obstacles))]
    Kept {
        /// Whose data.
        owner: Subject,
        /// What stands against it.
        obstacles: Vec<Obstacle>,
    },
    /// Not enough persons have approved.
    #[error("the erasure needs {} more approval(s)", APPROVERS_MIN - by.len().min(APPROVERS_MIN))]
    NotApproved {
        /// Who has.
        by: BTreeSet<Actor>,
    },
    /// A text is empty, too long, or looks like an address.
    #[error(
        "{what} must have 1 to {KEPT_CHARS_MAX} characters and no @: it stays in the log for ever"
    )]
    Text {
        /// Which text.
        what: &'static str,
    },
    /// A time is beyond what an entry can hold.
    #[error("say until when it holds")]
    Time(#[source] NameError),
    /// A name could not be made.
    #[error("name the erasure")]
    Name(#[source] NameError),
    /// No randomness.
    #[error("draw an id")]
    Random(#[source] KeyError),
    /// Keys or identities could not be used.
    #[error("look up whose data it is")]
    Identity(#[source] IdentityError),
    /// The database did not do it.
    #[error("erase {owner}")]
    Erase {
        /// Whose data.
        owner: Subject,
        /// Why.
        #[source]
        source: EraseError,
    },
    /// It could not be recorded.
    #[error("record it")]
    Append(#[source] AppendError),
}

fn words(obstacles: &[Obstacle]) -> String {
    let texts: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl From<PlanError> for ErasureError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Read(source) => Self::Read(source),
            PlanError::Unreadable { seq, why } => Self::Unreadable { seq, why },
            other => Self::Person(ApproveError::Plan(other)),
        }
    }
}

/// What stands against an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A legal hold.
    Hold(Hold),
    /// Something of a kind is kept until a time.
    Retention {
        /// Kind of the subjects.
        kind: String,
        /// Until when.
        until: Timestamp,
        /// How many of the owner's.
        subjects: usize,
    },
    /// Deletions that have begun and whose end is not known: their backup is still needed.
    InFlight {
        /// How many.
        items: usize,
    },
    /// Payloads that were altered: erasing them would hide it.
    Altered(Ranges),
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hold(hold) if hold.subject.kind() == "ledger" => {
                write!(
                    f,
                    "a legal hold on the whole ledger (entry {}: {})",
                    hold.seq, hold.reason
                )
            }
            Self::Hold(hold) => {
                write!(
                    f,
                    "a legal hold on {} (entry {}: {})",
                    hold.subject, hold.seq, hold.reason
                )
            }
            Self::Retention {
                kind,
                until,
                subjects,
            } => {
                write!(f, "{subjects} {kind} are kept until {until}")
            }
            Self::InFlight { items } => {
                write!(
                    f,
                    "the deletion of {items} items has begun and its end is not known"
                )
            }
            Self::Altered(ranges) => {
                write!(
                    f,
                    "the payloads of entries {ranges} are not what was stored, and erasing them would hide it"
                )
            }
        }
    }
}

/// A legal hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The entry that placed it.
    pub id: EntryId,
    /// Its number.
    pub seq: u64,
    /// What it is on; the ledger: on all of it.
    pub subject: Subject,
    /// Why.
    pub reason: String,
    /// Whether it was lifted.
    pub lifted: bool,
}

/// A request with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The entry.
    pub id: EntryId,
    /// Its number.
    pub seq: u64,
    /// Its hash, by which persons approve it.
    pub hash: Hash,
    /// The request as a subject, `erasure:<uuid>`.
    pub subject: Subject,
    /// Who asked.
    pub by: Actor,
    /// What was asked.
    pub asked: ErasureRequested,
    /// Who approved, until when.
    pub approvals: Vec<(Actor, Timestamp)>,
    /// The entry of its execution, and the key-encryption key that has to go.
    pub erased: Option<(EntryId, u64, String)>,
    /// The entry that says that this key is gone.
    pub destroyed: Option<u64>,
}

impl Request {
    /// The persons whose approval counts at this time.
    pub fn approvers(&self, now: Timestamp) -> BTreeSet<Actor> {
        let count = |(person, until): &&(Actor, Timestamp)| is_person(person) && now < *until;
        let counted = self.approvals.iter().filter(count);
        counted.map(|(person, _)| person.clone()).collect()
    }
}

/// Every request, oldest first.
pub async fn requests(store: &Store) -> Result<Vec<Request>, ErasureError> {
    const TYPES: [&str; 4] = [
        "erasure.requested",
        "erasure.approved",
        "subject.erased",
        "kek.destroyed",
    ];
    let mut requests: Vec<Request> = Vec::new();
    for_each(store, &TYPES, None, |decoded| {
        let entry = decoded.entry;
        let event = decoded.event.map_err(|why| PlanError::Unreadable {
            seq: entry.seq,
            why,
        })?;
        match event {
            Event::ErasureRequested(asked) => requests.push(Request {
                id: entry.id,
                seq: entry.seq,
                hash: decoded.hash,
                subject: entry.subject,
                by: entry.actor,
                asked,
                approvals: Vec::new(),
                erased: None,
                destroyed: None,
            }),
            Event::ErasureApproved(approved) => {
                let of = |request: &&mut Request| {
                    request.id == approved.request
                        && request.hash == approved.request_hash
                        && request.subject == entry.subject
                };
                if let Some(request) = requests.iter_mut().find(of) {
                    request.approvals.push((entry.actor, approved.expires_at));
                }
            }
            Event::SubjectErased(said) => {
                let of = |request: &&mut Request| request.id == said.request;
                if let Some(request) = requests.iter_mut().find(of) {
                    request.erased = Some((entry.id, entry.seq, said.kek_before));
                }
            }
            Event::KekDestroyed(destroyed) => {
                let of = |request: &&mut Request| {
                    request
                        .erased
                        .as_ref()
                        .is_some_and(|(id, ..)| *id == destroyed.erasure)
                };
                if let Some(request) = requests.iter_mut().find(of) {
                    request.destroyed = Some(entry.seq);
                }
            }
            _ => {}
        }
        Ok(())
    })
    .await?;
    Ok(requests)
}

/// The request of this id, or whose entry's hash begins like this.
pub async fn find(store: &Store, name: &str) -> Result<Request, ErasureError> {
    let not_found = || ErasureError::NotFound {
        what: "plan or erasure",
        name: name.to_owned(),
    };
    if name.len() < PREFIX_DIGITS_MIN {
        return Err(not_found());
    }
    let named = |request: &Request| {
        request.hash.to_string().starts_with(name)
            || request.id.to_string() == name
            || request.subject.to_string() == name
    };
    let mut found: Vec<Request> = requests(store).await?;
    found.retain(named);
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(not_found()),
        (Some(request), true) => Ok(request),
        (Some(_), false) => Err(ErasureError::Ambiguous(name.to_owned())),
    }
}

/// The time by which something lapses or holds: the clock's, or the head's in a ledger with a simulated one.
pub async fn now(store: &Store) -> Result<Timestamp, ErasureError> {
    let head = store.head().await.map_err(ErasureError::Read)?.recorded_at;
    let head = head.and_then(|micros| Timestamp::from_micros(micros).ok());
    let clock = store.clock().now();
    Ok(match head {
        Some(head) if store.row().simulated_clock => head,
        Some(head) => head.max(clock),
        None => clock,
    })
}

async fn record(
    store: &Store,
    event: &Event,
    subject: Subject,
    actor: &Actor,
    cause: Option<EntryId>,
    key: Option<String>,
) -> Result<Appended, ErasureError> {
    let mut draft =
        Draft::of(event, subject.clone(), actor.clone(), subject).map_err(ErasureError::Append)?;
    draft.cause = cause;
    draft.key = key.and_then(|key| key.parse().ok());
    if store.row().simulated_clock {
        draft.recorded_at = Some(now(store).await?);
    }
    store.append(draft).await.map_err(ErasureError::Append)
}

/// Refuses a text that has no place in a log that is never erased.
pub fn check_text(what: &'static str, text: &str) -> Result<(), ErasureError> {
    if may_be_kept(text) {
        Ok(())
    } else {
        Err(ErasureError::Text { what })
    }
}

/// The owner that this subject is, for erasing or exporting all about it.
///
/// # Errors
/// [`ErasureError::Owned`] where it belongs to somebody else.
pub async fn owner(store: &Store, subject: &Subject) -> Result<Subject, ErasureError> {
    let owner = store
        .owner_of(subject)
        .await
        .map_err(ErasureError::Identity)?;
    if owner == *subject {
        Ok(owner)
    } else {
        Err(ErasureError::Owned {
            subject: subject.clone(),
            owner,
        })
    }
}

/// What a person asks.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Why.
    pub reason: String,
    /// By which law or contract.
    pub legal_basis: String,
    /// Why it may be done against what stands against it.
    pub overridden: Option<String>,
    /// Until when copies of the key-encryption key may exist.
    pub copies_until: Option<Timestamp>,
}

/// Records that somebody asks for the erasure of an owner.
///
/// # Errors
/// [`ErasureError::Kept`] where something stands against it and is not overridden.
pub async fn ask(
    store: &Store,
    owner: &Subject,
    person: &Actor,
    asking: Asking,
) -> Result<Request, ErasureError> {
    may_act(store, person).await?;
    check_text("the reason", &asking.reason)?;
    check_text("the legal basis", &asking.legal_basis)?;
    if let Some(why) = &asking.overridden {
        check_text("the reason of the override", why)?;
    }
    let prospect = prospect(store, owner).await?;
    if asking.overridden.is_none() && !prospect.obstacles.is_empty() {
        return Err(ErasureError::Kept {
            owner: owner.clone(),
            obstacles: prospect.obstacles,
        });
    }
    let asked = ErasureRequested {
        owner: owner.clone(),
        reason: asking.reason,
        legal_basis: asking.legal_basis,
        payloads: prospect.payloads,
        subjects: prospect.subjects,
        overridden: asking.overridden,
        copies_until: asking.copies_until,
    };
    let uuid = uuid::Builder::from_random_bytes(random().map_err(ErasureError::Random)?);
    let subject = Subject::new("erasure", uuid.into_uuid()).map_err(ErasureError::Name)?;
    let event = Event::ErasureRequested(asked.clone());
    let appended = record(store, &event, subject.clone(), person, None, None).await?;
    Ok(Request {
        id: appended.entry.id,
        seq: appended.entry.seq,
        hash: appended.hash,
        subject,
        by: person.clone(),
        asked,
        approvals: Vec::new(),
        erased: None,
        destroyed: None,
    })
}

/// Records that a person approves a request, unless an approval of theirs counts already.
///
/// # Errors
/// The person may not, or it could not be recorded.
pub async fn approve(
    store: &Store,
    request: &Request,
    person: &Actor,
) -> Result<BTreeSet<Actor>, ErasureError> {
    may_act(store, person).await?;
    let now = now(store).await?;
    let mut by = request.approvers(now);
    if by.contains(person) {
        return Ok(by);
    }
    let expires_at = Timestamp::new(now.instant() + Duration::days(APPROVAL_DAYS))
        .map_err(ErasureError::Time)?;
    let event = Event::ErasureApproved(ErasureApproved {
        request: request.id,
        request_hash: request.hash,
        expires_at,
        assurance: "asserted".to_owned(),
    });
    let subject = request.subject.clone();
    record(store, &event, subject, person, Some(request.id), None).await?;
    by.insert(person.clone());
    Ok(by)
}

/// What an erasure would find.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// Payloads that would go.
    pub payloads: u64,
    /// Their entries.
    pub ranges: Ranges,
    /// Subjects that would go.
    pub subjects: u64,
    /// Where the items among them stand.
    pub items: BTreeMap<Subject, State>,
    /// What stands against it.
    pub obstacles: Vec<Obstacle>,
}

/// Looks at what an erasure would find now.
///
/// # Errors
/// [`ErasureError::Nothing`] where nothing is held.
pub async fn prospect(store: &Store, owner: &Subject) -> Result<Prospect, ErasureError> {
    let erase_error = |source| ErasureError::Erase {
        owner: owner.clone(),
        source,
    };
    let found = store.erasable(owner).await.map_err(erase_error)?;
    let is_ledger = *owner == Subject::of_ledger(store.id());
    let Some(found) = found.filter(|_| !is_ledger) else {
        return Err(ErasureError::Nothing(owner.clone()));
    };
    let mut subjects: BTreeSet<Subject> = found.subjects.into_iter().collect();
    subjects.insert(owner.clone());

    let mut custody = CustodyFold::default();
    run(store, At::Head, &mut [&mut custody])
        .await
        .map_err(ErasureError::Read)?;
    let stands = |subject: &Subject| Some((subject.clone(), custody.state(subject)?));
    let mut items: BTreeMap<Subject, State> = subjects.iter().filter_map(stands).collect();
    // Nothing will tell any more that these are the same.
    let formers = custody.former_names();
    let formers = formers.filter(|(_, now)| subjects.contains(*now));
    items.extend(formers.filter_map(|(former, _)| stands(former)));

    let now = now(store).await?;
    let mut obstacles = Vec::new();
    for hold in holds(store).await? {
        let concerned =
            hold.subject == Subject::of_ledger(store.id()) || subjects.contains(&hold.subject);
        if !hold.lifted && concerned {
            obstacles.push(Obstacle::Hold(hold));
        }
    }
    for (kind, until) in retentions(store).await? {
        let of_kind = subjects.iter().filter(|subject| subject.kind() == kind);
        let of_kind = of_kind.count();
        if now < until && of_kind > 0 {
            obstacles.push(Obstacle::Retention {
                kind,
                until,
                subjects: of_kind,
            });
        }
    }
    let in_flight = items.values().filter(|state| **state == State::InFlight);
    let in_flight = in_flight.count();
    if in_flight > 0 {
        obstacles.push(Obstacle::InFlight { items: in_flight });
    }
    if !found.altered.is_empty() {
        obstacles.push(Obstacle::Altered(found.altered));
    }
    Ok(Prospect {
        payloads: found.payloads,
        ranges: found.ranges,
        subjects: subjects.len() as u64,
        items,
        obstacles,
    })
}

/// Every legal hold, lifted ones too.
pub async fn holds(store: &Store) -> Result<Vec<Hold>, ErasureError> {
    let mut holds: Vec<Hold> = Vec::new();
    for_each(
        store,
        &["legal_hold.placed", "legal_hold.lifted"],
        None,
        |decoded| {
            let entry = decoded.entry;
            let event = decoded.event.map_err(|why| PlanError::Unreadable {
                seq: entry.seq,
                why,
            })?;
            match event {
                Event::LegalHoldPlaced(placed) => holds.push(Hold {
                    id: entry.id,
                    seq: entry.seq,
                    subject: entry.subject,
                    reason: placed.reason,
                    lifted: false,
                }),
                Event::LegalHoldLifted(lifted) => {
                    let of =
                        |hold: &&mut Hold| hold.id == lifted.hold && hold.subject == entry.subject;
                    if let Some(hold) = holds.iter_mut().find(of) {
                        hold.lifted = true;
                    }
                }
                _ => {}
            }
            Ok(())
        },
    )
    .await?;
    Ok(holds)
}

/// Until when each kind of subject is kept.
pub async fn retentions(store: &Store) -> Result<BTreeMap<String, Timestamp>, ErasureError> {
    let mut retentions = BTreeMap::new();
    for_each(store, &["retention.set"], None, |decoded| {
        let seq = decoded.entry.seq;
        match decoded.event {
            Ok(Event::RetentionSet(set)) => {
                retentions.insert(set.kind, set.until);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(why) => Err(PlanError::Unreadable { seq, why }),
        }
    })
    .await?;
    Ok(retentions)
}

/// Records an event about holds or retention, by a person.
///
/// # Errors
/// The person may not, or it could not be recorded.
pub async fn govern(
    store: &Store,
    event: &Event,
    subject: Subject,
    person: &Actor,
    cause: Option<EntryId>,
) -> Result<Appended, ErasureError> {
    may_act(store, person).await?;
    record(store, event, subject, person, cause, None).await
}

/// The copies that left the ledger and hold some of these entries of an owner, with where they went. One that does not say
/// what it holds may hold everything.
pub async fn copies(
    store: &Store,
    owner: &Subject,
    ranges: &Ranges,
) -> Result<Vec<(CopyMade, Option<String>)>, ErasureError> {
    let mut copies = Vec::new();
    for_each(store, &COPY_TYPES, None, |decoded| {
        let (holds, sha256, to) = match decoded.event {
            Ok(Event::SubjectExported(made)) => {
                (made.owner == *owner, Some(made.sha256), Some(made.to))
            }
            Ok(Event::ExportMade(made)) => {
                let payloads = made.payloads > 0 && ranges.meets(made.first, made.last);
                (payloads, Some(made.sha256), None)
            }
            _ => (true, None, None),
        };
        if holds {
            let copy = CopyMade {
                seq: decoded.entry.seq,
                event_type: decoded.entry.event_type.to_string(),
                sha256,
            };
            copies.push((copy, to));
        }
        Ok(())
    })
    .await?;
    Ok(copies)
}

/// How often an erasure looks anew at what stands against it because something was recorded meanwhile.
const ATTEMPTS: u32 = 8;

/// Executes an approved request: everything about its owner goes, and what remains is put under `next`.
///
/// # Errors
/// [`ErasureError::NotApproved`], [`ErasureError::Kept`], and what the database refuses.
pub async fn execute(
    store: &Store,
    request: &Request,
    person: &Actor,
    next: &Kek,
) -> Result<Erased, ErasureError> {
    may_act(store, person).await?;
    let mut attempt = 1;
    loop {
        match execute_once(store, request, person, next).await {
            Err(ErasureError::Erase {
                source: EraseError::Changed { .. },
                ..
            }) if attempt < ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

async fn execute_once(
    store: &Store,
    request: &Request,
    person: &Actor,
    next: &Kek,
) -> Result<Erased, ErasureError> {
    // What is recorded from here on may be missing in what is looked at below.
    let looked_at = store.head().await.map_err(ErasureError::Read)?.size;
    let by = request.approvers(now(store).await?);
    if by.len() < APPROVERS_MIN {
        return Err(ErasureError::NotApproved { by });
    }
    let owner = &request.asked.owner;
    let prospect = prospect(store, owner).await?;
    if request.asked.overridden.is_none() && !prospect.obstacles.is_empty() {
        return Err(ErasureError::Kept {
            owner: owner.clone(),
            obstacles: prospect.obstacles,
        });
    }
    let copies = copies(store, owner, &prospect.ranges).await?;
    let said = SubjectErased {
        request: request.id,
        requested_by: request.by.clone(),
        approved_by: by.into_iter().collect(),
        legal_basis: request.asked.legal_basis.clone(),
        key_id: String::new(),
        payloads: 0,
        identities: 0,
        ranges: Ranges::default(),
        stored: Hash::ZERO,
        altered: Ranges::default(),
        index_key: String::new(),
        kek: String::new(),
        kek_before: String::new(),
        epoch: epoch(store).await? + 1,
        items: prospect.items,
        copies: copies.into_iter().map(|(copy, _)| copy).collect(),
        overridden: request.asked.overridden.clone(),
        copies_until: request.asked.copies_until,
    };
    store
        .erase_as_of(owner, person, &said, next, Some(looked_at))
        .await
        .map_err(|source| ErasureError::Erase {
            owner: owner.clone(),
            source,
        })
}

/// Which of the ledger's key-encryption keys is in force; the first is 1.
async fn epoch(store: &Store) -> Result<u64, ErasureError> {
    let mut epoch = 1;
    for_each(store, &["subject.erased", "keys.rewrapped"], None, |_| {
        epoch += 1;
        Ok(())
    })
    .await?;
    Ok(epoch)
}

/// Records that the key-encryption key of before an erasure is gone: `file`, or `asserted` by an operator.
///
/// # Errors
/// It could not be recorded.
pub async fn record_destroyed(
    store: &Store,
    erasure: EntryId,
    kek: &str,
    how: &str,
    person: &Actor,
) -> Result<Appended, ErasureError> {
    let event = Event::KekDestroyed(KekDestroyed {
        kek: kek.to_owned(),
        erasure,
        how: how.to_owned(),
    });
    let subject = Subject::of_ledger(store.id());
    let key = format!("kek-destroyed/{erasure}");
    match record(store, &event, subject, person, Some(erasure), Some(key)).await {
        // Recorded before, perhaps by somebody else.
        Err(ErasureError::Append(AppendError::KeyReused { seq, .. })) => {
            let found = store.get(seq).await.map_err(ErasureError::Read)?;
            let found = found.ok_or_else(|| ErasureError::NotFound {
                what: "entry",
                name: seq.to_string(),
            })?;
            Ok(Appended {
                entry: found.entry,
                hash: found.hash,
                replayed: true,
            })
        }
        other => other,
    }
}
