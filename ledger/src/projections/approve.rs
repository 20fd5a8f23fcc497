//! Approving a sealed plan: by a person who may act and did not make it, for a limited time.

use std::collections::BTreeSet;

use chrono::Duration;

use super::fold::Unreadable;
use super::plan::{Approval, PlanError, SealedPlan, for_each, is_person, load};
use crate::domain::event::{Event, PlanApproved};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, NameError, Timestamp};
use crate::store::{AppendError, Draft, Store};

/// How long an approval holds: long enough for one night's run, short enough that what was seen is still so.
pub const APPROVAL_HOURS: i64 = 24;

/// Why a plan was not approved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApproveError {
    /// The plan cannot be had from the log.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Only a person can answer for it.
    #[error("{0} is not a person, and only a person may answer for it")]
    NotAPerson(Actor),
    /// Four eyes: who makes a plan does not approve it.
    #[error("{person} made plan {plan}: somebody else has to approve it")]
    OwnPlan {
        /// Who tried.
        person: Actor,
        /// The plan.
        plan: Hash,
    },
    /// The ledger names its persons, and this is none of them.
    #[error("{0} is not among the persons of this ledger")]
    UnknownPerson(Actor),
    /// Who may act cannot be told.
    #[error("read who may act, entry {seq}: {}", why.words())]
    Persons {
        /// Which entry.
        seq: u64,
        /// Why.
        why: Unreadable,
    },
    /// Its end is beyond the times that an entry can hold.
    #[error("say until when the approval holds")]
    Expiry(#[source] NameError),
    /// It could not be recorded.
    #[error("record the approval")]
    Append(#[source] AppendError),
}

/// A plan with an approval that holds.
#[derive(Debug, Clone)]
pub struct Approved {
    /// The approval.
    pub approval: Approval,
    /// It was there before, perhaps by somebody else; nothing was recorded.
    pub replayed: bool,
}

/// Approves a plan for [`APPROVAL_HOURS`], unless an approval of it holds already. `recorded_at` is for a ledger with a
/// simulated clock, and only there.
///
/// # Errors
/// See [`ApproveError`]: the person may not, or it could not be recorded.
pub async fn approve(
    store: &Store,
    plan: &SealedPlan,
    person: &Actor,
    recorded_at: Option<Timestamp>,
) -> Result<Approved, ApproveError> {
    may_act(store, person).await?;
    if person.is_among(&plan.makers) {
        return Err(ApproveError::OwnPlan {
            person: person.clone(),
            plan: plan.hash,
        });
    }
    // PostgreSQL records no time before the head's, so neither may the approval lapse by one.
    let head = store.head().await.map_err(PlanError::Read)?.recorded_at;
    let head = head.and_then(|micros| Timestamp::from_micros(micros).ok());
    let now = recorded_at.unwrap_or_else(|| store.clock().now());
    let now = head.map_or(now, |head| now.max(head));
    if let Some(approval) = holding(plan, now) {
        return Ok(Approved {
            approval,
            replayed: true,
        });
    }
    match append(store, plan, person, now, recorded_at).await {
        // Somebody was quicker: theirs holds.
        Err(ApproveError::Append(error @ AppendError::KeyReused { .. })) => {
            let again = load(store, plan.hash).await?;
            let approval = holding(&again, now).ok_or(ApproveError::Append(error))?;
            Ok(Approved {
                approval,
                replayed: true,
            })
        }
        other => other,
    }
}

/// The newest approval that does not lapse before this time, also one that was recorded since the time was taken.
fn holding(plan: &SealedPlan, now: Timestamp) -> Option<Approval> {
    let recorded = plan.approvals.iter().map(|approval| approval.recorded_at);
    let now = recorded.max().map_or(now, |newest| newest.max(now));
    plan.approval_at(now, None).cloned()
}

async fn append(
    store: &Store,
    plan: &SealedPlan,
    person: &Actor,
    now: Timestamp,
    recorded_at: Option<Timestamp>,
) -> Result<Approved, ApproveError> {
    let expires_at = Timestamp::new(now.instant() + Duration::hours(APPROVAL_HOURS))
        .map_err(ApproveError::Expiry)?;
    let approved = PlanApproved {
        plan: plan.hash,
        expires_at,
        assurance: "asserted".to_owned(),
        dispositions: plan.sealed.dispositions.clone(),
    };
    let mut draft = Draft::of(
        &Event::PlanApproved(approved.clone()),
        plan.subject.clone(),
        person.clone(),
        plan.subject.clone(),
    )
    .map_err(ApproveError::Append)?;
    // One approval at a time: of two that come together the second finds the key used.
    let number = plan.approvals.len() + 1;
    let key = format!("approve/{}/{number}", plan.subject.uuid().as_hyphenated());
    draft.key = key.parse().ok();
    draft.cause = Some(plan.entry.id);
    draft.recorded_at = recorded_at;
    let appended = store.append(draft).await.map_err(ApproveError::Append)?;
    Ok(Approved {
        approval: Approval::new(&appended.entry, appended.hash, &approved),
        replayed: appended.replayed,
    })
}

/// Refuses who is no person, or none of this ledger's where it names some.
///
/// # Errors
/// [`ApproveError::NotAPerson`], [`ApproveError::UnknownPerson`], or the ledger could not be read.
pub async fn may_act(store: &Store, person: &Actor) -> Result<(), ApproveError> {
    if !is_person(person) {
        return Err(ApproveError::NotAPerson(person.clone()));
    }
    if is_named(store, person).await? {
        return Ok(());
    }
    Err(ApproveError::UnknownPerson(person.clone()))
}

/// Whether the ledger names this person, or names nobody, so that everybody may act. Who makes a plan and runs it need not be named: they
/// answer for nothing that somebody who is has not approved.
///
/// # Errors
/// The ledger could not be read.
pub async fn is_named(store: &Store, actor: &Actor) -> Result<bool, ApproveError> {
    let persons = persons(store).await?;
    Ok(persons.is_empty() || persons.contains(actor))
}

/// The persons that the ledger was told of; none where everybody may act.
async fn persons(store: &Store) -> Result<BTreeSet<Actor>, ApproveError> {
    let mut persons = BTreeSet::new();
    let mut unreadable = None;
    for_each(store, &["person.added"], None, |decoded| {
        let seq = decoded.entry.seq;
        match decoded.event {
            Ok(Event::PersonAdded(person)) => persons.extend(Actor::person(&person.name)),
            Ok(_) => unreadable = Some((seq, Unreadable::Malformed)),
            // Who was erased acts no more.
            Err(Unreadable::Erased) => {}
            Err(why) => unreadable = Some((seq, why)),
        }
        Ok(())
    })
    .await?;
    match unreadable {
        Some((seq, why)) => Err(ApproveError::Persons { seq, why }),
        None => Ok(persons),
    }
}
