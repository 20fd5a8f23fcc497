//! One account's candidates: from what its calendar answered to classes, in two passes.
//!
//! [`survey`] looks at one account and can be run account by account; what it finds about
//! calibration is added up over the run. [`Survey::judge`] then gives each candidate its class, which
//! needs that sum: whether v1's signature may decide alone is not known before the last account.
//! Pure: the caller listed the calendar and asked for the ids that the list did not have.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use ledger::domain::identify::{Classification, ExecutorLimits, Facts};
use ledger::domain::policy::Policy;
use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::coverage::{Claim, Coverage, claims};
use super::event::{EventView, ParsedEvent};
use super::incumbent::{IncumbentCount, Selector};
use super::signals::{
    AccountFacts, ConditionInputs, MigrationFacts, Presence, is_candidate, measure,
    measure_conditions,
};

/// What a request for a single id was answered. Needed for each id that somebody recorded and that
/// the complete list did not have.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// 200: usually a cancelled event.
    Found(ParsedEvent),
    /// 404.
    NotFound,
    /// 410.
    Gone,
    /// Nothing that says anything about it; why, in one word.
    Unanswered(String),
}

/// A v1 user and the ids that are looked for on the calendar.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UserIds {
    /// v1's id of the user.
    pub user: String,
    /// The ids that v1 recorded on the user's cases.
    pub v1: Vec<String>,
    /// The ids that v2 records on the cases of the same person.
    pub v2: Vec<String>,
    /// What the user's other calendars say.
    pub elsewhere: Elsewhere,
}

/// What a user's other calendars say of the account, for an id that is on none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Elsewhere {
    /// There are none, or none of v1's ids is on them.
    #[default]
    Nothing,
    /// One of v1's ids of the user is on one of them: it is the right account.
    Found,
    /// One of them could not be asked: an id that was not found may be there.
    Unknown,
}

/// Everything known about one calendar before it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// Of v1: cases and recorded ids of its users.
    pub facts: &'a AccountFacts,
    /// Its users; two may share one account.
    pub users: &'a [UserIds],
    /// Why it could not be reached, in one word. Its recorded ids are then all there is.
    pub unreachable: Option<&'a str>,
    /// The complete list of its calendar.
    pub events: &'a [ParsedEvent],
    /// The lists of the account's other calendars: v2's event for a deadline may stand there.
    pub others: &'a [&'a [ParsedEvent]],
    /// The answers for recorded ids that the list did not have.
    pub lookups: &'a HashMap<String, Lookup>,
}

/// What one of a user's calendars says of the recorded ids.
#[derive(Clone, Copy, Debug)]
pub struct CalendarAnswers<'a> {
    /// The ids of its complete list; none where it could not be asked.
    pub listed: Option<&'a HashSet<String>>,
    /// The answers for the recorded ids that the list does not have.
    pub lookups: &'a HashMap<String, Lookup>,
}

impl CalendarAnswers<'_> {
    fn lists(&self, id: &str) -> bool {
        self.listed.is_some_and(|listed| listed.contains(id))
    }

    /// It could not say.
    fn is_silent(&self, id: &str) -> bool {
        matches!(self.lookups.get(id), Some(Lookup::Unanswered(_)))
    }

    /// It had the event once.
    fn remembers(&self, id: &str) -> bool {
        matches!(self.lookups.get(id), Some(Lookup::Found(_) | Lookup::Gone))
    }
}

/// Shares a user's recorded ids out among their calendars, the primary one first: each is judged where it is listed; else where it was;
/// and only what is on none of them is not found, which the primary calendar then stands for.
pub fn share_out(user: &UserIds, calendars: &[CalendarAnswers<'_>]) -> Vec<UserIds> {
    let mut shares: Vec<UserIds> = calendars
        .iter()
        .map(|_| UserIds {
            user: user.user.clone(),
            ..UserIds::default()
        })
        .collect();
    let places = |id: &str| -> Vec<usize> {
        let with = |has: &dyn Fn(&CalendarAnswers<'_>) -> bool| -> Vec<usize> {
            let numbered = calendars.iter().enumerate();
            numbered
                .filter(|(_, one)| has(one))
                .map(|(n, _)| n)
                .collect()
        };
        let listed = with(&|one| one.lists(id));
        if listed.is_empty() {
            let remembered = with(&|one| one.remembers(id));
            // Where one could not say, what the others did not find may be there.
            let silent = with(&|one| one.is_silent(id));
            let first = remembered.first().or(silent.first());
            vec![first.copied().unwrap_or(0)]
        } else {
            listed
        }
    };
    for id in &user.v1 {
        for n in places(id) {
            if let Some(share) = shares.get_mut(n) {
                share.v1.push(id.clone());
            }
        }
    }
    for id in &user.v2 {
        for n in places(id) {
            if let Some(share) = shares.get_mut(n) {
                share.v2.push(id.clone());
            }
        }
    }
    let found = |n: usize| {
        let one = &calendars[n];
        user.v1.iter().any(|id| one.lists(id) || one.remembers(id))
    };
    let unasked = calendars.iter().any(|one| one.listed.is_none());
    for (n, share) in shares.iter_mut().enumerate() {
        share.elsewhere = if unasked {
            Elsewhere::Unknown
        } else if (0..calendars.len()).any(|other| other != n && found(other)) {
            Elsewhere::Found
        } else {
            user.elsewhere
        };
    }
    shares
}

/// One id that concerns the migration, and what was measured of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Google's id; `None` where nothing of an unreadable event could be recovered.
    pub event_id: Option<String>,
    /// Where it stands in the list, if it does.
    pub listed: Option<usize>,
    /// The v1 users through whom it was reached.
    pub users: Vec<String>,
    /// The version that was judged; `None` where it is not known, and then nothing can be deleted.
    pub etag: Option<String>,
    /// The event, where there is one.
    pub event: Option<ParsedEvent>,
    /// A live v2 event stands for the same deadline.
    pub covered: bool,
    /// What was measured; more than one only where the ways to it differ.
    pub signals: Vec<Facts>,
}

/// A candidate with its class.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// The candidate.
    pub candidate: &'a Candidate,
    /// Class, disposition and reason.
    pub classification: Classification,
    /// The signals that led there: the evidence.
    pub signals: &'a Facts,
    /// The conditions.
    pub conditions: Facts,
}

/// What one account's pass found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The candidates: first the events of the list in its order, then the recorded ids it did not
    /// have, sorted.
    pub candidates: Vec<Candidate>,
    /// Events of the list that do not concern the migration: counted, not recorded.
    pub others: u64,
    /// This account's part of the calibration.
    pub calibration: Calibration,
    /// What the incumbent's searches would have deleted here.
    pub incumbent: BTreeMap<Selector, IncumbentCount>,
}

/// Why nothing is known of an id that was not asked for.
const NOT_ASKED: &str = "not_asked";

/// First pass over one account. `now` bounds the incumbent's window.
pub fn survey(
    account: Account<'_>,
    facts: &MigrationFacts,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Survey {
    let mut survey = Survey::default();
    if account.unreachable.is_none() {
        survey.take_list(account, facts, policy, now);
    }
    survey.take_recorded(account, facts, policy);
    survey
}

impl Survey {
    fn take_list(
        &mut self,
        account: Account<'_>,
        facts: &MigrationFacts,
        policy: &Policy,
        now: DateTime<Utc>,
    ) {
        let measured: Vec<Facts> = account
            .events
            .iter()
            .map(|event| {
                let id = event.id().unwrap_or_default();
                measure(id, Presence::Present(event), account.facts, facts, policy)
            })
            .collect();
        let others = account.others.iter().copied().flatten();
        let others: Vec<(&ParsedEvent, Facts)> = others
            .map(|event| {
                let id = event.id().unwrap_or_default();
                let presence = Presence::Present(event);
                (event, measure(id, presence, account.facts, facts, policy))
            })
            .collect();
        for (event, signals) in account.events.iter().zip(&measured) {
            self.calibration.add(signals);
            let Some(view) = event.best_view() else {
                continue;
            };
            for selector in [Selector::TitlePrefix, Selector::SearchText] {
                self.incumbent
                    .entry(selector)
                    .or_default()
                    .add(selector, view, signals, now);
            }
        }
        // The pairs are made over all calendars of the account, so that each of their surveys comes to the same.
        let everywhere = || {
            let here = account.events.iter().zip(&measured);
            let there = others.iter().map(|(event, signals)| (*event, signals));
            here.chain(there)
                .filter_map(|(event, signals)| Some((event.best_view()?, signals)))
        };
        let mut coverage = Coverage::new();
        for (view, signals) in everywhere() {
            let cases = facts.v2_production.cases_of(view);
            coverage.add(view, signals, cases.as_ref());
        }
        let asking = everywhere().filter(|(_, signals)| claims(signals));
        let covered = coverage.pair(asking.map(|(view, signals)| Claim {
            view,
            case: account.facts.case_of(view),
            is_held: signals.holds("edited"),
        }));
        let is_covered = |view: &EventView, signals: &Facts| {
            if claims(signals) {
                covered.contains(view.id.as_str())
            } else {
                coverage.stands(view)
            }
        };
        for (at, (event, signals)) in account.events.iter().zip(measured).enumerate() {
            if !is_candidate(&signals) {
                self.others += 1;
                continue;
            }
            let recorded_by = |id: &str| {
                let has = |user: &&UserIds| user.v1.iter().chain(&user.v2).any(|other| other == id);
                account
                    .users
                    .iter()
                    .filter(has)
                    .map(|user| user.user.clone())
                    .collect::<Vec<_>>()
            };
            let mut users = event.id().map(recorded_by).unwrap_or_default();
            if users.is_empty() {
                users = account.users.iter().map(|user| user.user.clone()).collect();
            }
            self.candidates.push(Candidate {
                event_id: event.id().map(str::to_owned),
                listed: Some(at),
                users,
                etag: event.etag().map(str::to_owned),
                covered: event
                    .readable()
                    .is_some_and(|view| is_covered(view, &signals)),
                event: Some(event.clone()),
                signals: vec![signals],
            });
        }
    }

    /// The recorded ids that are not in the list. Each is measured through each user who records
    /// it, since a 404 means different things beside a user's other ids.
    fn take_recorded(&mut self, account: Account<'_>, facts: &MigrationFacts, policy: &Policy) {
        let listed: HashSet<&str> = match account.unreachable {
            None => account.events.iter().filter_map(ParsedEvent::id).collect(),
            Some(_) => HashSet::new(),
        };
        let mut absent: BTreeMap<&str, Candidate> = BTreeMap::new();
        for user in account.users {
            let is_known = |id: &String| {
                listed.contains(id.as_str())
                    || matches!(
                        account.lookups.get(id),
                        Some(Lookup::Found(_) | Lookup::Gone)
                    )
            };
            // v2's ids say nothing about the account that v1 wrote to.
            let sibling_found = match user.elsewhere {
                Elsewhere::Nothing => user.v1.iter().any(is_known),
                Elsewhere::Found => true,
                Elsewhere::Unknown => false,
            };
            for id in user.v1.iter().chain(&user.v2) {
                if listed.contains(id.as_str()) {
                    continue;
                }
                let (presence, event) = match (account.unreachable, account.lookups.get(id)) {
                    (Some(why), _) => (Presence::Unreachable { why }, None),
                    (None, Some(Lookup::Found(event))) => (Presence::Present(event), Some(event)),
                    (None, Some(Lookup::Gone)) => (Presence::Gone, None),
                    (None, Some(Lookup::NotFound)) => (Presence::NotFound { sibling_found }, None),
                    (None, Some(Lookup::Unanswered(why))) => (Presence::Unreachable { why }, None),
                    // Neither listed nor asked for: nothing is known, and least of all that it is gone.
                    (None, None) => (Presence::Unreachable { why: NOT_ASKED }, None),
                };
                let signals = measure(id, presence, account.facts, facts, policy);
                let candidate = absent.entry(id).or_insert_with(|| Candidate {
                    event_id: Some(id.clone()),
                    listed: None,
                    users: Vec::new(),
                    etag: event.and_then(ParsedEvent::etag).map(str::to_owned),
                    event: event.cloned(),
                    covered: false,
                    signals: Vec::new(),
                });
                if !candidate.users.contains(&user.user) {
                    candidate.users.push(user.user.clone());
                }
                if !candidate.signals.contains(&signals) {
                    candidate.signals.push(signals);
                }
            }
        }
        self.candidates.extend(absent.into_values());
    }

    /// Second pass: one class per candidate. `calibrated` is the whole run's answer.
    pub fn judge<'a>(
        &'a self,
        calibrated: bool,
        facts: &'a MigrationFacts,
        policy: &'a Policy,
        limits: ExecutorLimits,
    ) -> impl Iterator<Item = Judged<'a>> {
        self.candidates.iter().filter_map(move |candidate| {
            let inputs = ConditionInputs {
                view: candidate.event.as_ref().and_then(ParsedEvent::best_view),
                calibrated,
                covered: candidate.covered,
            };
            let conditions = measure_conditions(inputs, facts);
            let ways = candidate.signals.iter();
            let (classification, signals) = ways
                .map(|signals| (policy.classify(signals, &conditions, limits), signals))
                .reduce(|a, b| {
                    let more = policy.more_protective(a.0.clone(), b.0.clone());
                    if more == a.0 { a } else { b }
                })?;
            Some(Judged {
                candidate,
                classification,
                signals,
                conditions,
            })
        })
    }
}

#[cfg(test)]
#[path = "census_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "census_world_tests.rs"]
mod world_tests;
