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
pub(super) struct Share {
    /// So many of v1's cases.
    pub(super) cases: u64,
    pub(super) all: u64,
    /// One of v1's cases, or an id that v1 recorded.
    pub(super) is_related: bool,
}

/// With fewer of v1's cases a person is told to look, in percent.
const FEW: u64 = 20;

impl Share {
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

impl std::fmt::Display for Share {
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
    pub(super) known: Share,
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
        let mut known = Share::default();
        for record in by_user.iter() {
            let case = read_case(&record?.1)?;
            known.all += 1;
            let is_known = v2.has_case(case.id)?;
            known.cases += u64::from(is_known);
            known.is_related |= is_known;
            for recorded in case.recorded {
                if known.is_related {
                    break;
                }
                let mut of = v2.of_event(&recorded.id)?.into_iter();
                known.is_related = of.any(|(of, _)| of == Deployment::Production);
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

    /// What all of v1 and v2 say of what is wanted, beside what is the same for everything.
    pub(super) fn facts(
        &self,
        wanted: &Wanted<'_>,
        same: &MigrationFacts,
    ) -> Result<MigrationFacts, SpoolError> {
        let mut facts = same.clone();
        for id in &wanted.ids {
            let users: BTreeSet<_> = self.by_event.get(id.as_bytes())?.into_iter().collect();
            (0..)
                .zip(users)
                .for_each(|(n, _)| facts.recorded_by.add(id, n));
            for (deployment, v1_case) in self.v2.of_event(id)? {
                of(&mut facts, deployment).record((*id).to_owned(), v1_case);
            }
        }
        for digest in &wanted.texts {
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

/// The ids and texts of an account, of which it is looked up what was recorded.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    ids: HashSet<&'a str>,
    texts: HashSet<Hash>,
}

impl<'a> Wanted<'a> {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::super::signals::{RecordedBy, VOCABULARY};
    use super::*;
    use crate::clients::convex::{V2Recorder, V2Sink as _};
    use crate::clients::supabase::RawRow;
    use crate::secrets::Secret;

    const POLICY: &str = include_str!("../../../../schema/policies/perm-tracker-calendar.toml");
    const CASES: [&str; 3] = [
        "00000000-0000-4000-8000-000000000001",
        "00000000-0000-4000-8000-000000000002",
        "00000000-0000-4000-8000-000000000003",
    ];

    fn v1(cases: &[(&str, Option<&str>, Value)]) -> V1Cases {
        let mut all = V1Cases::default();
        for (id, user, ids) in cases {
            let row = json!({"id": id, "user_id": user, "calendar_event_ids": ids,
                "pwd_expiration_date": "2026-06-30"});
            let bytes = Bytes::from(row.to_string());
            let row = RawRow {
                id: (*id).to_owned(),
                bytes,
            };
            all.take(&V1Case::from(&row));
        }
        all
    }

    fn v2(cases: &[(Deployment, V2Case)]) -> Arc<V2Records> {
        let mut recorder = V2Recorder::new().unwrap();
        for (deployment, case) in cases {
            recorder.begin(*deployment);
            recorder.case(case.clone()).unwrap();
        }
        Arc::new(recorder.done().unwrap())
    }

    fn v2_case(legacy: Option<&str>, event: &str) -> V2Case {
        let slot = ("pwd_expiration".to_owned(), event.to_owned());
        V2Case {
            id: "j1".to_owned(),
            legacy_id: legacy.map(str::to_owned),
            user_id: None,
            legacy_user_id: Some("U2".to_owned()),
            calendar_event_ids: vec![slot],
            calendar_sync_enabled: None,
            employer_name: Some("Acme".to_owned()),
            beneficiary_identifier: Some("A. B.".to_owned()),
            case_number: None,
            internal_case_number: None,
            rfi_entries: Vec::new(),
            rfe_entries: Vec::new(),
            dates: std::collections::BTreeMap::new(),
            deleted_at: None,
        }
    }

    fn user(id: &str, access: Result<Secret, NoAccess>) -> SourceUser {
        SourceUser {
            id: id.to_owned(),
            email: None,
            google_email: None,
            soft_deleted: false,
            access,
            token_fingerprint: None,
            recorded: 0,
            calendars: Vec::new(),
            channels: Vec::new(),
        }
    }

    fn same() -> MigrationFacts {
        MigrationFacts {
            recorded_by: RecordedBy::default(),
            v2_production: V2Facts::default(),
            v2_development: V2Facts::default(),
            go_live: None,
            freeze: None,
            today: NaiveDate::default(),
        }
    }

    #[test]
    fn each_user_has_what_was_recorded_for_them_and_an_id_of_two_is_of_both() {
        let v1 = v1(&[
            (
                CASES[0],
                Some("U1"),
                json!({"pwd_expiration": "e1", "rfi_due": ["e2", "e1"]}),
            ),
            (CASES[1], Some("u2"), json!(["e2"])),
            (CASES[2], None, json!("{\"rfe_due\": \"e3\"}")),
        ]);
        let production = v2_case(Some(CASES[1]), "e2");
        let records = Records::new(v1, v2(&[(Deployment::Production, production)])).unwrap();
        assert_eq!(
            records.owners().unwrap(),
            [
                ("(no owner)".to_owned(), 1),
                ("u1".to_owned(), 3),
                ("u2".to_owned(), 1)
            ]
        );
        let of = |id: &str, access| records.of(&user(id, access)).unwrap();
        let one = of("U1", Err(NoAccess::Disconnected));
        assert_eq!(one.ids.v1, ["e1", "e2", "e1"]);
        assert!(one.ids.v2.is_empty());
        let case: Uuid = CASES[0].parse().unwrap();
        assert_eq!(one.facts.cases[&case].len(), 1);
        let key = one.facts.recorded["e1"].key.as_deref();
        assert_eq!(key, Some("pwd_expiration"), "the first counts");
        assert_eq!(of("U2", Err(NoAccess::Disconnected)).ids.v2, ["e2"]);
        // v2 says nothing of an owner whom v1's table of users does not have.
        let unknown = of("u2", Err(NoAccess::UnknownOwner)).ids;
        assert_eq!((unknown.v1.len(), unknown.v2.len()), (1, 0));

        let raw = json!({"id": "e4", "description": "PWD Expiration\n\nEmployer: Acme\nBeneficiary: A. B.\n\nPERM Tracker"});
        let event = ParsedEvent::parse(raw.to_string().as_bytes());
        let mut wanted = Wanted::default();
        wanted.event(&event);
        wanted.user(&one.ids);
        let facts = records.facts(&wanted, &same()).unwrap();
        let users = ["e1", "e2", "e3", "e4"].map(|id| facts.recorded_by.users(id));
        assert_eq!(users, [1, 2, 0, 0], "e3 was not asked about");
        let production = facts.v2_production;
        assert!(production.recorded.contains_key("e2") && production.recorded.len() == 1);
        let text = event.best_view().unwrap().description.as_deref().unwrap();
        assert!(production.texts.contains(text));
        assert!(!facts.v2_development.texts.contains(text));
    }

    #[test]
    fn what_has_nothing_of_v1s_is_another_deployment() {
        let ids = json!({"pwd_expiration": "e1"});
        let policy = |least: u32| {
            let text = POLICY.replace(
                "v2_knows_min_percent = 0",
                &format!("v2_knows_min_percent = {least}"),
            );
            Policy::load(text.as_bytes(), &VOCABULARY).unwrap()
        };
        let all = || v1(&CASES.map(|case| (case, Some("u1"), ids.clone())));
        let (production, development) = (Deployment::Production, Deployment::Development);
        for (v2_cases, least, enough) in [
            (vec![], 0, false),
            (vec![(production, v2_case(None, "other"))], 0, false),
            // The right deployment under the wrong name.
            (vec![(development, v2_case(Some(CASES[0]), "e1"))], 0, false),
            (vec![(production, v2_case(None, "e1"))], 0, true),
            (
                vec![(production, v2_case(Some(CASES[0]), "other"))],
                0,
                true,
            ),
            (
                vec![(production, v2_case(Some(CASES[0]), "other"))],
                33,
                true,
            ),
            (
                vec![(production, v2_case(Some(CASES[0]), "other"))],
                34,
                false,
            ),
        ] {
            let records = Records::new(all(), v2(&v2_cases)).unwrap();
            let is_enough = records.known.is_enough(&policy(least));
            assert_eq!(is_enough, enough, "{v2_cases:?} {least}");
        }
        let nothing = Records::new(V1Cases::default(), v2(&[])).unwrap();
        assert!(nothing.known.is_enough(&policy(50)));
    }
}
