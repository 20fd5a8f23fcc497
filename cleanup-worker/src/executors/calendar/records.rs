//! What v1 and v2 recorded, outside of memory: it is taken out of there for one account at a time.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use chrono::NaiveDate;
use ledger::domain::hash::Hash;
use ledger::domain::policy::Policy;
use ledger::store::sorted::{Sorted, Sorter};
use ledger::store::spool::SpoolError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::census::{Elsewhere, UserIds};
use super::deadlines::deadlines;
use super::event::ParsedEvent;
use super::recorded::{Recorded, RecordedId, parse_recorded};
use super::signals::{AccountFacts, MigrationFacts, RecordedOn, V2Facts, is_plain_name};
use super::sources::{NoAccess, SourceUser};
use super::v2_text::{V2CaseText, V2Texts};
use crate::clients::convex::{V2Case, V2Records, mark, read_mark, v1_case_of};
use crate::clients::supabase::V1Case;
use crate::config::Deployment;

/// Who owns the cases that name nobody.
const NO_OWNER: &str = "(no owner)";

/// What v1's cases say, on its way into [`Records`].
#[derive(Debug)]
pub(super) struct V1Cases {
    pub(super) count: usize,
    /// One of them has a column of recorded ids.
    pub(super) has_ids: bool,
    /// Values that are no ids.
    pub(super) odd: u64,
    kept: Result<Kept, SpoolError>,
}

/// The cases by their owner, in lower case, and the owners by the ids that were recorded for them.
#[derive(Debug)]
struct Kept {
    by_user: Sorter,
    by_event: Sorter,
}

/// A case of v1.
#[derive(Serialize, Deserialize)]
struct Case {
    id: Uuid,
    deadlines: Vec<NaiveDate>,
    recorded: Vec<RecordedId>,
}

impl Default for V1Cases {
    fn default() -> Self {
        let kept = || {
            Ok(Kept {
                by_user: Sorter::new()?,
                by_event: Sorter::new()?,
            })
        };
        Self {
            count: 0,
            has_ids: false,
            odd: 0,
            kept: kept(),
        }
    }
}

impl V1Cases {
    /// Adds a case. What cannot be kept is told in the end.
    pub(super) fn take(&mut self, case: &V1Case) {
        self.count += 1;
        let user = case.user_id.as_deref().unwrap_or(NO_OWNER).to_lowercase();
        let row = serde_json::from_slice(&case.row.bytes).unwrap_or_default();
        let recorded = case.calendar_event_ids.as_deref().map(serde_json::from_str);
        self.has_ids |= recorded.is_some();
        let recorded = match recorded {
            None => Recorded::default(),
            Some(Ok(value)) => parse_recorded(&value),
            Some(Err(_)) => Recorded {
                odd: vec!["(top): it cannot be read".to_owned()],
                ..Recorded::default()
            },
        };
        self.odd += recorded.odd.len() as u64;
        warn_of(case, &recorded.odd);
        let kept = Case {
            id: Uuid::try_parse(&case.id).unwrap_or_default(),
            deadlines: deadlines(&row),
            recorded: recorded.ids,
        };
        if let Ok(all) = &mut self.kept
            && let Err(error) = all.add(user, &kept)
        {
            self.kept = Err(error);
        }
    }
}

impl Kept {
    fn add(&mut self, user: String, case: &Case) -> Result<(), SpoolError> {
        for recorded in &case.recorded {
            self.by_event.push(recorded.id.clone(), user.clone())?;
        }
        // Every part of it is a text or a date, so it can be written.
        let case = serde_json::to_vec(case).map_err(|_| SpoolError::Changed)?;
        self.by_user.push(user, case)
    }
}

/// Says which values of a case are no ids. Keys come out of v1's data: one that is no plain name is not repeated.
fn warn_of(case: &V1Case, odd: &[String]) {
    for what in odd {
        let (key, what) = what.split_once(": ").unwrap_or_default();
        let key = if key == "(top)" || is_plain_name(key) {
            key
        } else {
            "(a key)"
        };
        tracing::warn!(
            case = case.id,
            key,
            what,
            "a value that v1 recorded is no event's id"
        );
    }
}

/// What was recorded for a user of v1.
#[derive(Debug)]
pub struct OfUser {
    /// The user's cases and where each id was recorded.
    pub facts: AccountFacts,
    /// Ids that v1 and v2 recorded.
    pub ids: UserIds,
}

/// What v2's production has of v1: a deployment or an export that is not the one that v1's users were moved to has little or nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// So many of v1's cases.
    pub(super) cases: u64,
    pub(super) all: u64,
    /// One of v1's cases, or an id that v1 recorded.
    pub(super) is_related: bool,
}

/// With fewer of v1's cases a person is told to look, in percent.
const FEW: u64 = 20;

impl Known {
    /// Whether it may be the one, by the policy. A retired system without cases has nothing to compare.
    pub(super) fn is_enough(self, policy: &Policy) -> bool {
        let least = policy.parameter("v2_knows_min_percent").unwrap_or_default();
        self.all == 0 || (self.is_related && self.is_at_least(least.unsigned_abs()))
    }

    pub(super) fn is_few(self) -> bool {
        !self.is_at_least(FEW)
    }

    fn is_at_least(self, percent: u64) -> bool {
        u128::from(self.cases) * 100 >= u128::from(self.all) * u128::from(percent)
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.cases, self.all)
    }
}

/// All that v1 and v2 recorded.
#[derive(Debug)]
pub struct Records {
    by_user: Sorted,
    by_event: Sorted,
    v2: Arc<V2Records>,
    /// Of how many of v1's cases v2's production knows.
    pub(super) known: Known,
    /// By the digest of a description that v2 may have written: of which deployment, and the case of v1.
    texts: Sorted,
}

impl Records {
    pub(super) fn new(v1: V1Cases, v2: Arc<V2Records>) -> Result<Self, SpoolError> {
        let v1 = v1.kept?;
        let mut texts = Sorter::new()?;
        for case in v2.cases() {
            let (deployment, case) = case?;
            let of = mark(deployment, v1_case_of(&case));
            for digest in V2Texts::digests_of_case(&text_of(&case)) {
                texts.push(digest.0.to_vec(), of.clone())?;
            }
        }
        let by_user = v1.by_user.done()?;
        let mut known = Known::default();
        for record in by_user.iter() {
            let case = read_case(&record?.1)?;
            known.all += 1;
            let is_known = v2.has_case(case.id)?;
            known.cases += u64::from(is_known);
            known.is_related |= is_known;
            for recorded in case.recorded {
                let mut of = v2.of_event(&recorded.id)?.into_iter();
                known.is_related |= of.any(|(of, _)| of == Deployment::Production);
            }
        }
        Ok(Self {
            by_user,
            known,
            by_event: v1.by_event.done()?,
            texts: texts.done()?,
            v2,
        })
    }

    /// The owners of v1's cases, in lower case and in order, each with how many ids v1 recorded for them.
    pub(super) fn owners(&self) -> Result<Vec<(String, u64)>, SpoolError> {
        let mut owners: Vec<(String, u64)> = Vec::new();
        for record in self.by_user.iter() {
            let (user, case) = record?;
            let user = std::str::from_utf8(&user).map_err(|_| SpoolError::Changed)?;
            let ids = read_case(&case)?.recorded.len() as u64;
            match owners.last_mut() {
                Some((last, count)) if last == user => *count += ids,
                _ => owners.push((user.to_owned(), ids)),
            }
        }
        Ok(owners)
    }

    /// What was recorded for a user of v1. Of an owner whom v1's table of users does not have v2 is not asked.
    pub(super) fn of(&self, user: &SourceUser) -> Result<OfUser, SpoolError> {
        let mut facts = AccountFacts::default();
        let mut v1 = Vec::new();
        for case in self.by_user.get(user.id.to_lowercase().as_bytes())? {
            let case = read_case(&case)?;
            let days = facts.cases.entry(case.id).or_default();
            days.extend(case.deadlines);
            for RecordedId { key, id } in case.recorded {
                let on = RecordedOn { case: case.id, key };
                facts.recorded.entry(id.clone()).or_insert(on);
                v1.push(id);
            }
        }
        let v2 = match user.access {
            Err(NoAccess::UnknownOwner) => BTreeSet::new(),
            _ => self.v2.events_of(&user.id)?,
        };
        let ids = UserIds {
            user: user.id.clone(),
            v1,
            v2: v2.into_iter().collect(),
            elsewhere: Elsewhere::Nothing,
        };
        Ok(OfUser { facts, ids })
    }

    /// What all of v1 and v2 say of what is asked about, beside what is the same for everything.
    pub(super) fn facts(
        &self,
        asked: &Asked<'_>,
        same: &MigrationFacts,
    ) -> Result<MigrationFacts, SpoolError> {
        let mut facts = same.clone();
        for id in &asked.ids {
            let users: BTreeSet<_> = self.by_event.get(id.as_bytes())?.into_iter().collect();
            (0..)
                .zip(users)
                .for_each(|(n, _)| facts.recorded_by.add(id, n));
            for (deployment, v1_case) in self.v2.of_event(id)? {
                of(&mut facts, deployment).record((*id).to_owned(), v1_case);
            }
        }
        for digest in &asked.texts {
            for value in self.texts.get(&digest.0)? {
                let (deployment, v1_case) = read_mark(&value)?;
                of(&mut facts, deployment).texts.add(*digest, v1_case);
            }
        }
        Ok(facts)
    }
}

fn of(facts: &mut MigrationFacts, deployment: Deployment) -> &mut V2Facts {
    match deployment {
        Deployment::Production => &mut facts.v2_production,
        Deployment::Development => &mut facts.v2_development,
    }
}

fn read_case(bytes: &[u8]) -> Result<Case, SpoolError> {
    serde_json::from_slice(bytes).map_err(|_| SpoolError::Changed)
}

/// The ids and texts of an account, of which it is asked what was recorded.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    ids: HashSet<&'a str>,
    texts: HashSet<Hash>,
}

impl<'a> Asked<'a> {
    /// Adds an event that was listed or looked up.
    pub(super) fn event(&mut self, event: &'a ParsedEvent) {
        self.ids.extend(event.id());
        let Some(view) = event.best_view() else {
            return;
        };
        self.ids.insert(&view.id);
        if let Some(description) = &view.description {
            self.texts.extend(V2Texts::digests_of(description));
        }
    }

    /// Adds the ids that were recorded for a user.
    pub(super) fn user(&mut self, ids: &'a UserIds) {
        let ids = ids.v1.iter().chain(&ids.v2);
        self.ids.extend(ids.map(String::as_str));
    }
}

fn text_of(case: &V2Case) -> V2CaseText<'_> {
    V2CaseText {
        employer_name: case.employer_name.as_deref().unwrap_or_default(),
        beneficiary_identifier: case.beneficiary_identifier.as_deref().unwrap_or_default(),
        case_number: case.case_number.as_deref(),
        internal_case_number: case.internal_case_number.as_deref(),
        rfi_entry_ids: case
            .rfi_entries
            .iter()
            .map(|entry| entry.id.as_str())
            .collect(),
        rfe_entry_ids: case
            .rfe_entries
            .iter()
            .map(|entry| entry.id.as_str())
            .collect(),
        v1_case: v1_case_of(case),
    }
}
