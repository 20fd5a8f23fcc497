//! Deciding about what a plan holds: by a person who did not make the inventory, one entry an item, and a new plan of it all.
//!
//! Order: `run.started`, one `item.decided` an item, one `item.found` an item, `plan.sealed`, `run.finished`. What breaks off
//! leaves decisions without a seal, and they count for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::approve::{ApproveError, may_act};
use super::custody::CustodyFold;
use super::deletions::DeletionsFold;
use super::explain::{CONDITION, is_unreadable};
use super::fold::{At, Unreadable, run as pass};
use super::overlay::{BASE, DECISIONS, Decided, digest};
use super::plan::{PlanError, PlannedItem, SealedPlan, family, is_true};
use crate::chain::plan::{PlanItem, plan_hash};
use crate::domain::custody::State;
use crate::domain::event::{Event, ItemDecided, ItemFound, PlanSealed, RunFinished, RunStarted};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, NameError, RunId, Subject, Timestamp};
use crate::domain::identify::Disposition;
use crate::domain::review::{Decision, KEPT_CHARS_MAX, may_be_kept};
use crate::store::commands::CommandError;
use crate::store::identity::IdentityError;
use crate::store::keys::{KeyError, random};
use crate::store::payload::PayloadText;
use crate::store::read::ReadError;
use crate::store::{AppendError, Appended, Draft, Store};

/// Items read and found again at a time: each brings its whole body along.
const BATCH: usize = 64;
/// For how long after its worker was seen last a deletion may still be in flight.
const IN_FLIGHT: Duration = Duration::from_secs(10);

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecideError {
    /// The person may not act, or who may cannot be told.
    #[error(transparent)]
    Person(#[from] ApproveError),
    /// The log could not be read.
    #[error("read the log")]
    Read(#[from] ReadError),
    /// Four eyes: who made the inventory held the item back.
    #[error("{person} made plan {plan}, or the one below it: somebody else has to decide")]
    OwnPlan {
        /// Who tried.
        person: Actor,
        /// The plan.
        plan: Hash,
    },
    /// Decisions about it were sealed before.
    #[error("plan {plan} was decided about before, which made plan {newest}")]
    Superseded {
        /// What was named.
        plan: Hash,
        /// The newest that is made of it.
        newest: Hash,
    },
    /// Which plans belong together cannot be told.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No item was named.
    #[error("no item was named to decide about")]
    Nothing,
    /// The plan has no such item.
    #[error("{subject} is no item of plan {plan}")]
    NotInPlan {
        /// The item.
        subject: Subject,
        /// The plan.
        plan: Hash,
    },
    /// Only what is held can be decided about, and what is to be deleted by decision alone may be kept.
    #[error("{subject} is not held: it is {}", state_word(*state))]
    NotHeld {
        /// The item.
        subject: Subject,
        /// Where it is.
        state: State,
    },
    /// A run may delete it at any moment, and would not hear of the decision.
    #[error("a run is at work on the deletions that {0} is among")]
    UnderWay(Subject),
    /// Whether a run is at work could not be asked.
    #[error("ask whether a run is at work")]
    Commands(#[source] CommandError),
    /// A later dry run looked at it.
    #[error("{subject} was found again for plan {plan}, entry {seq}: decide under that plan")]
    FoundAgain {
        /// The item.
        subject: Subject,
        /// The plan.
        plan: Hash,
        /// Entry that found it.
        seq: u64,
    },
    /// It was to be deleted, and was held when its turn came.
    #[error("{0} changed after the plan was made, so nobody has looked at what would go")]
    Changed(Subject),
    /// What was found of it does not suffice for a deletion that can be undone.
    #[error("no whole copy of a known version of {0} is in the log, so it could not be put back")]
    NoCopy(Subject),
    /// Nobody can tell what it is, or whether its copy can be put back.
    #[error(
        "{0} could not be read whole, so it could not be judged, and perhaps could not be put back"
    )]
    NotRead(Subject),
    /// The reason is empty or too long, or names somebody.
    #[error("the reason must have 1 to {KEPT_CHARS_MAX} characters and no @")]
    Reason,
    /// An entry that is needed says nothing.
    #[error("read entry {seq}, which found the item: {}", why.words())]
    Unreadable {
        /// Which.
        seq: u64,
        /// Why.
        why: Unreadable,
    },
    /// Whose the item is could not be looked up.
    #[error("look up whose the item is")]
    Identity(#[source] IdentityError),
    /// A name could not be made.
    #[error("name the new plan")]
    Name(#[source] NameError),
    /// No randomness.
    #[error("draw an id")]
    Random(#[source] KeyError),
    /// Somebody sealed decisions about the same plan at the same time.
    #[error(
        "somebody else decided about plan {0} at the same time; these decisions were recorded and sealed into no plan"
    )]
    Raced(Hash),
    /// It could not be recorded whole; what has no seal counts for nothing.
    #[error("record the decisions")]
    Append(#[source] AppendError),
}

fn state_word(state: State) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// What decisions made.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The run that recorded them.
    pub run: RunId,
    /// The plan below.
    pub base: Hash,
    /// The new plan, which somebody else has to approve.
    pub plan: Hash,
    /// Entry of its seal.
    pub seq: u64,
    /// Hash of that entry.
    pub hash: Hash,
    /// The decisions, in the order in which they were asked for.
    pub decisions: Vec<Decided>,
    /// Items of the new plan by disposition.
    pub dispositions: BTreeMap<String, u64>,
}

/// Records a decision about items that a plan holds, and seals the plan that it makes.
///
/// # Errors
/// See [`DecideError`]; nothing was recorded but where it says so.
pub async fn decide(
    store: &Store,
    plan: &SealedPlan,
    subjects: &[Subject],
    decision: Decision,
    reason: &str,
    person: &Actor,
) -> Result<Sealed, DecideError> {
    may_act(store, person).await?;
    // An item's reason is read by its owner too, and no payload is about two.
    if !may_be_kept(reason) {
        return Err(DecideError::Reason);
    }
    if person.is_among(&plan.finders) {
        return Err(DecideError::OwnPlan {
            person: person.clone(),
            plan: plan.hash,
        });
    }
    let items = decidable(store, plan, subjects, decision).await?;
    let writer = Writer {
        store,
        run: store.clock().run_id(),
        person,
        recorded_at: store.simulated_now().await?,
    };
    writer.started(plan).await?;
    let mut decisions = Vec::new();
    let mut again = BTreeMap::new();
    for batch in items.chunks(BATCH) {
        let batch = writer.decide(plan, batch, decision, reason).await?;
        for (decided, covered) in batch {
            again.insert(decided.subject.clone(), covered);
            decisions.push(decided);
        }
    }
    writer.seal(plan, decisions, &again).await
}

/// The items, where all of them may be decided about in this way.
async fn decidable(
    store: &Store,
    plan: &SealedPlan,
    subjects: &[Subject],
    decision: Decision,
) -> Result<Vec<PlannedItem>, DecideError> {
    let mut custody = CustodyFold::default();
    let mut deletions = DeletionsFold::default();
    pass(store, At::Head, &mut [&mut custody, &mut deletions]).await?;
    let newest = deletions.newest(plan.hash);
    if newest != plan.hash {
        return Err(DecideError::Superseded {
            plan: plan.hash,
            newest,
        });
    }
    let name_of = |subject: &Subject| custody.known_as(subject).unwrap_or(subject).clone();
    let asked: BTreeSet<Subject> = subjects.iter().map(name_of).collect();
    let mut by_subject: BTreeMap<Subject, PlannedItem> = BTreeMap::new();
    for item in plan.items.iter() {
        let item = item?;
        let name = name_of(&item.subject);
        if !asked.contains(&name) {
            continue;
        }
        // Of what came back under another id the plan may name the old one too, under which it is gone.
        let is_gone = item.disposition == Disposition::Done;
        if !is_gone || !by_subject.contains_key(&name) {
            by_subject.insert(name, item);
        }
    }
    let mut items = Vec::new();
    let mut named = BTreeSet::new();
    for subject in subjects.iter().map(name_of) {
        let subject = &subject;
        if !named.insert(subject.clone()) {
            continue;
        }
        let item = by_subject
            .remove(subject)
            .ok_or_else(|| DecideError::NotInPlan {
                subject: subject.clone(),
                plan: plan.hash,
            })?;
        let state = custody.state(subject).unwrap_or(State::Unaccounted);
        let taken = deletions.last_decision(subject);
        let is_taken_back = decision == Decision::Keep
            && state == State::Planned
            && taken.is_some_and(|taken| taken.decision == Decision::Delete);
        if is_taken_back {
            if is_at_work(store, plan.hash).await? {
                return Err(DecideError::UnderWay(subject.clone()));
            }
        } else if state != State::Held && !custody.is_there_again(subject) {
            return Err(DecideError::NotHeld {
                subject: subject.clone(),
                state,
            });
        }
        if let Some((found_for, entry)) = deletions.last_find(subject)
            && found_for != plan.hash
            && !plan.below.contains(&found_for)
        {
            return Err(DecideError::FoundAgain {
                subject: subject.clone(),
                plan: found_for,
                seq: entry.seq,
            });
        }
        if !decision.may_follow(item.disposition) {
            return Err(DecideError::Changed(subject.clone()));
        }
        let whole = item.version.is_some() && item.body_sha256.is_some();
        if decision == Decision::Delete && !whole {
            return Err(DecideError::NoCopy(subject.clone()));
        }
        if decision == Decision::Delete && is_unreadable(&found_before(store, &item).await?.0) {
            return Err(DecideError::NotRead(subject.clone()));
        }
        items.push(item);
    }
    if items.is_empty() {
        return Err(DecideError::Nothing);
    }
    Ok(items)
}

/// Whether a run of this plan, or of one that is executed with it, is at work now.
async fn is_at_work(store: &Store, plan: Hash) -> Result<bool, DecideError> {
    let family = family(store, plan).await?;
    let open = store.open_runs().await.map_err(DecideError::Commands)?;
    for open in open.iter().filter(|open| family.contains(&open.plan)) {
        let at_work = store.is_worked_on(open.run, IN_FLIGHT).await;
        if at_work.map_err(DecideError::Commands)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Appends the entries of a review's run.
struct Writer<'a> {
    store: &'a Store,
    run: RunId,
    person: &'a Actor,
    recorded_at: Option<Timestamp>,
}

impl Writer<'_> {
    fn draft(&self, event: &Event, subject: Subject, owner: Subject) -> Result<Draft, DecideError> {
        let mut draft =
            Draft::of(event, subject, self.person.clone(), owner).map_err(DecideError::Append)?;
        draft.run = Some(self.run);
        draft.recorded_at = self.recorded_at;
        Ok(draft)
    }

    fn run_subject(&self) -> Result<Subject, DecideError> {
        Subject::new("run", self.run.uuid()).map_err(DecideError::Name)
    }

    async fn append(&self, draft: Draft) -> Result<Appended, DecideError> {
        self.store.append(draft).await.map_err(DecideError::Append)
    }

    async fn append_all(&self, drafts: Vec<Draft>) -> Result<Vec<Appended>, DecideError> {
        let appended = self.store.append_all(drafts).await.into_iter();
        appended
            .map(|result| result.map_err(DecideError::Append))
            .collect()
    }

    async fn started(&self, plan: &SealedPlan) -> Result<(), DecideError> {
        let event = Event::RunStarted(RunStarted {
            verb: "review".to_owned(),
            // It executes none.
            plan: None,
            approval: None,
            options: BTreeMap::from([(BASE.to_owned(), plan.hash.to_string())]),
        });
        let subject = self.run_subject()?;
        self.append(self.draft(&event, subject.clone(), subject)?)
            .await?;
        Ok(())
    }

    /// Records the decisions about some items, and finds the items again as they were found before.
    async fn decide(
        &self,
        plan: &SealedPlan,
        items: &[PlannedItem],
        decision: Decision,
        reason: &str,
    ) -> Result<Vec<(Decided, Option<bool>)>, DecideError> {
        let mut before = Vec::new();
        let mut drafts = Vec::new();
        for item in items {
            let (found, id) = found_before(self.store, item).await?;
            let owner = self.store.owner_of(&item.subject).await;
            let owner = owner.map_err(DecideError::Identity)?;
            let event = Event::ItemDecided(ItemDecided {
                plan: plan.hash,
                decision,
                reason: reason.to_owned(),
            });
            let mut draft = self.draft(&event, item.subject.clone(), owner.clone())?;
            draft.cause = Some(id);
            drafts.push(draft);
            before.push((item.subject.clone(), owner, found));
        }
        let recorded = self.append_all(drafts).await?;
        let mut drafts = Vec::new();
        let mut decisions = Vec::new();
        for ((subject, owner, mut found), appended) in before.into_iter().zip(recorded) {
            let entry = appended.entry;
            found.disposition = decision.disposition();
            found.reason = format!("decided by {}: {reason}", self.person);
            found.covered = match decision {
                Decision::Delete => covered(&found),
                Decision::Keep => None,
            };
            decisions.push((
                Decided {
                    subject: subject.clone(),
                    plan: plan.hash,
                    decision,
                    by: self.person.clone(),
                    reason: reason.to_owned(),
                    id: entry.id,
                    seq: entry.seq,
                    hash: appended.hash,
                    recorded_at: entry.recorded_at,
                },
                found.covered,
            ));
            let mut draft = self.draft(&Event::ItemFound(found), subject, owner)?;
            draft.cause = Some(entry.id);
            drafts.push(draft);
        }
        self.append_all(drafts).await?;
        Ok(decisions)
    }

    async fn seal(
        &self,
        plan: &SealedPlan,
        decisions: Vec<Decided>,
        covered: &BTreeMap<Subject, Option<bool>>,
    ) -> Result<Sealed, DecideError> {
        let decided: BTreeMap<&Subject, Decision> = decisions
            .iter()
            .map(|decided| (&decided.subject, decided.decision))
            .collect();
        let mut lines = Vec::new();
        let mut dispositions: BTreeMap<String, u64> = BTreeMap::new();
        let mut uncovered = 0;
        for item in plan.items.iter() {
            let item = item?;
            let disposition = match decided.get(&item.subject) {
                Some(decision) => decision.disposition(),
                None => item.disposition,
            };
            let covered = covered.get(&item.subject).copied().unwrap_or(item.covered);
            uncovered += u64::from(disposition == Disposition::Delete && covered == Some(false));
            let name = disposition.name().to_owned();
            *dispositions.entry(name.clone()).or_default() += 1;
            lines.push(PlanItem {
                disposition: name,
                ..item.line()
            });
        }
        let mut header = plan.sealed.header.clone();
        header.insert("run".to_owned(), self.run.to_string());
        header.insert(BASE.to_owned(), plan.hash.to_string());
        header.insert(DECISIONS.to_owned(), digest(&decisions).to_string());
        let value = header.iter().map(|(k, v)| (k.clone(), v.clone().into()));
        let value = serde_json::Value::Object(value.collect());
        #[expect(clippy::expect_used, reason = "a header holds texts and no number")]
        let hash = plan_hash(&value, &lines).expect("a header of texts has a canonical form");
        let event = Event::PlanSealed(PlanSealed {
            plan: hash,
            header,
            items: lines.len() as u64,
            dispositions: dispositions.clone(),
            uncovered,
            ..plan.sealed.clone()
        });
        let uuid = uuid::Builder::from_random_bytes(random().map_err(DecideError::Random)?);
        let subject = Subject::new("plan", uuid.into_uuid()).map_err(DecideError::Name)?;
        let mut draft = self.draft(&event, subject.clone(), subject)?;
        // One plan is made of another by decisions, and no second one beside it: the row of them has no fork.
        draft.key = format!("overlay/{}", plan.subject.uuid().as_hyphenated())
            .parse()
            .ok();
        draft.cause = Some(plan.entry.id);
        let sealed = match self.store.append(draft).await {
            Err(AppendError::KeyReused { .. }) => return Err(DecideError::Raced(plan.hash)),
            other => other.map_err(DecideError::Append)?,
        };
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        for decided in &decisions {
            *totals
                .entry(decided.decision.name().to_owned())
                .or_default() += 1;
        }
        let finished = Event::RunFinished(RunFinished {
            status: "complete".to_owned(),
            totals,
        });
        let run = self.run_subject()?;
        self.append(self.draft(&finished, run.clone(), run)?)
            .await?;
        Ok(Sealed {
            run: self.run,
            base: plan.hash,
            plan: hash,
            seq: sealed.entry.seq,
            hash: sealed.hash,
            decisions,
            dispositions,
        })
    }
}

/// What was found of an item, from the entry that the plan rests on.
async fn found_before(
    store: &Store,
    item: &PlannedItem,
) -> Result<(ItemFound, EntryId), DecideError> {
    let seq = item.seq;
    let unreadable = |why| DecideError::Unreadable { seq, why };
    let recorded = store.get(seq).await?;
    let recorded = recorded.ok_or(unreadable(Unreadable::Gone))?;
    let id = recorded.entry.id;
    let json = match &recorded.payload {
        PayloadText::Open { json, .. } => json,
        PayloadText::Sealed => return Err(unreadable(Unreadable::Sealed)),
        PayloadText::Erased(_) => return Err(unreadable(Unreadable::Erased)),
        PayloadText::Gone => return Err(unreadable(Unreadable::Gone)),
        PayloadText::Damaged => return Err(unreadable(Unreadable::Damaged)),
    };
    let entry = &recorded.entry;
    match Event::decode(entry.event_type.as_str(), entry.schema, json) {
        Ok(Event::ItemFound(found)) if found.body.as_ref().is_none_or(is_true) => Ok((found, id)),
        _ => Err(unreadable(Unreadable::Malformed)),
    }
}

/// Whether a live item of the new system stands for one that is to go by decision, from what was looked at when it was found:
/// `None` where its day was over by then, or it has none.
fn covered(found: &ItemFound) -> Option<bool> {
    let holds = |name: &str| {
        let evidence = found.evidence.get(&format!("{CONDITION}{name}"));
        evidence.map(|evidence| evidence.holds)
    };
    found.date.as_ref()?;
    match (holds("past"), holds("uncovered")) {
        (Some(true), _) => None,
        (_, Some(uncovered)) => Some(!uncovered),
        // Not looked at: no event stands for it as far as is known.
        (_, None) => Some(false),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
