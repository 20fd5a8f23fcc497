//! Identification against generated worlds: every item of every calendar gets the class that the
//! world's maker knows to be true, and nothing that must survive is marked for deletion.

use std::collections::{BTreeMap, HashMap};

use super::super::calibration::Calibration;
use super::super::census::{Account, Elsewhere, Lookup, Survey, UserIds, survey};
use super::super::event::ParsedEvent;
use super::super::recorded::parse_recorded;
use super::super::signals::{
    AccountFacts, MigrationFacts, RecordedBy, RecordedOn, V2Facts, VOCABULARY,
};
use super::super::v2_text::V2CaseText;
use ledger::domain::identify::{Disposition, ExecutorLimits};
use ledger::domain::policy::Policy;
use ledger_sim::calendar::Presence;
use ledger_sim::convex::Deployment;
use ledger_sim::supabase::Cell;
use ledger_sim::world::UserKind;
use ledger_sim::{Class, World, WorldSpec};
use serde_json::Value;

/// A listing, and the items that only a request for their id shows.
#[derive(Default)]
struct Calendar {
    events: Vec<ParsedEvent>,
    lookups: HashMap<String, Lookup>,
}

#[derive(Default)]
struct Inputs {
    facts: AccountFacts,
    users: Vec<UserIds>,
    unreachable: Option<&'static str>,
    /// The calendar that the world's maker has in mind.
    meant: String,
}

fn text<'a>(document: &'a Value, name: &str) -> Option<&'a str> {
    document.get(name).and_then(Value::as_str)
}

fn v2_facts(deployment: &Deployment) -> V2Facts {
    let mut facts = V2Facts::default();
    for case in &deployment.tables["cases"] {
        let v1_case = text(case, "legacyId").and_then(|id| id.parse().ok());
        for id in v2_ids(case) {
            facts.record(id, v1_case);
        }
        let entries = |name: &str| -> Vec<&str> {
            let list = case[name].as_array().into_iter().flatten();
            list.filter_map(|entry| text(entry, "id")).collect()
        };
        facts.texts.add_case(&V2CaseText {
            employer_name: text(case, "employerName").unwrap_or_default(),
            beneficiary_identifier: text(case, "beneficiaryIdentifier").unwrap_or_default(),
            case_number: text(case, "caseNumber"),
            internal_case_number: text(case, "internalCaseNumber"),
            rfi_entry_ids: entries("rfiEntries"),
            rfe_entry_ids: entries("rfeEntries"),
            v1_case,
        });
    }
    facts
}

fn v2_ids(case: &Value) -> Vec<String> {
    let slots = case.get("calendarEventIds").and_then(Value::as_object);
    let ids = slots.into_iter().flat_map(|slots| slots.values());
    ids.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// v2's recorded ids by the v1 user whose cases they are on.
fn v2_ids_by_user(world: &World) -> HashMap<String, Vec<String>> {
    let mut ids: HashMap<String, Vec<String>> = HashMap::new();
    for deployment in [&world.v2.production, &world.v2.dev] {
        let profiles = deployment.tables["userProfiles"].iter();
        let legacy: HashMap<&str, &str> = profiles
            .filter_map(|profile| Some((text(profile, "userId")?, text(profile, "legacyId")?)))
            .collect();
        for case in &deployment.tables["cases"] {
            if let Some(user) = text(case, "userId").and_then(|user| legacy.get(user)) {
                ids.entry((*user).to_owned())
                    .or_default()
                    .extend(v2_ids(case));
            }
        }
    }
    ids
}

/// Accounts as v1's database and tokens lead to them.
fn accounts(world: &World) -> (BTreeMap<String, Inputs>, RecordedBy) {
    let mut v2 = v2_ids_by_user(world);
    let mut accounts: BTreeMap<String, Inputs> = BTreeMap::new();
    let mut account_of: HashMap<&str, (String, usize)> = HashMap::new();
    for user in &world.users {
        let Some(meant) = user.account.clone() else {
            continue;
        };
        let (key, unreachable) = match user.kind {
            UserKind::WrongAccount => (format!("new.{meant}"), None),
            kind if kind.is_reachable() => (meant.clone(), None),
            _ => (format!("{meant} {}", user.id), Some("no_token")),
        };
        let inputs = accounts.entry(key.clone()).or_default();
        inputs.meant = meant;
        inputs.unreachable = unreachable;
        let v2 = v2.remove(&user.id).unwrap_or_default();
        inputs.users.push(UserIds {
            user: user.id.clone(),
            v1: Vec::new(),
            v2,
            elsewhere: Elsewhere::Nothing,
        });
        account_of.insert(&user.id, (key, inputs.users.len() - 1));
    }
    let mut recorded_by = RecordedBy::default();
    let cases = world.database.table("cases").unwrap();
    let column = |name| cases.position(name).unwrap();
    let (id, user, ids) = (
        column("id"),
        column("user_id"),
        column("calendar_event_ids"),
    );
    let users = world.users.iter().map(|user| user.id.as_str());
    let numbers: HashMap<&str, u32> = users.zip(0..).collect();
    for row in cases.rows() {
        let (Cell::Text(id), Cell::Text(user)) = (&row[id], &row[user]) else {
            panic!("ids")
        };
        let recorded = match &row[ids] {
            Cell::Json(value) => parse_recorded(value),
            _ => parse_recorded(&Value::Null),
        };
        assert_eq!(recorded.odd, Vec::<String>::new());
        let Some((key, index)) = account_of.get(user.as_str()) else {
            continue;
        };
        let inputs = accounts.get_mut(key).unwrap();
        let case = id.parse().unwrap();
        inputs.facts.cases.insert(case, Vec::new());
        for found in recorded.ids {
            recorded_by.add(&found.id, numbers[user.as_str()]);
            inputs.users[*index].v1.push(found.id.clone());
            inputs.facts.recorded.insert(
                found.id,
                RecordedOn {
                    case,
                    key: found.key,
                },
            );
        }
    }
    (accounts, recorded_by)
}

/// The events as a server would send them: a marker stands for half a character that no Rust string
/// can hold.
fn calendars(world: &World) -> BTreeMap<&str, Calendar> {
    let mut calendars: BTreeMap<&str, Calendar> = BTreeMap::new();
    for seed in &world.calendars {
        let calendar = calendars.entry(&seed.id).or_default();
        for event in &seed.events {
            let mut raw = Value::Object(event.fields.clone()).to_string();
            while let Some(at) = raw.find('\u{f8ff}') {
                let escape = format!("\\u{}", &raw[at + 4..at + 8]);
                raw.replace_range(at..at + 9, &escape);
            }
            let parsed = ParsedEvent::parse(raw.as_bytes());
            let id = parsed.id().unwrap().to_owned();
            let cancelled = parsed.best_view().is_some_and(|view| view.cancelled);
            match event.presence {
                Presence::Gone => drop(calendar.lookups.insert(id, Lookup::Gone)),
                Presence::Held if cancelled => {
                    drop(calendar.lookups.insert(id, Lookup::Found(parsed)));
                }
                Presence::Held => calendar.events.push(parsed),
            }
        }
    }
    calendars
}

fn check(world: &World) {
    let policy = include_bytes!("../../../../schema/policies/perm-tracker-calendar.toml");
    let policy = Policy::load(policy, &VOCABULARY).unwrap();
    let (accounts, recorded_by) = accounts(world);
    let facts = MigrationFacts {
        recorded_by,
        v2_production: v2_facts(&world.v2.production),
        v2_development: v2_facts(&world.v2.dev),
        go_live: Some(world.spec.go_live),
        freeze: Some(world.spec.go_live),
        today: world.spec.now.date_naive(),
    };
    let mut calendars = calendars(world);
    let mut surveys: Vec<(String, Survey)> = Vec::new();
    let mut calibration = Calibration::default();
    for (key, inputs) in &accounts {
        let mut calendar = calendars.remove(key.as_str()).unwrap_or_default();
        for id in inputs
            .users
            .iter()
            .flat_map(|user| user.v1.iter().chain(&user.v2))
        {
            calendar
                .lookups
                .entry(id.clone())
                .or_insert(Lookup::NotFound);
        }
        let account = Account {
            facts: &inputs.facts,
            users: &inputs.users,
            unreachable: inputs.unreachable,
            events: &calendar.events,
            others: &[],
            lookups: &calendar.lookups,
        };
        let found = survey(account, &facts, &policy, world.spec.now);
        calibration.merge(found.calibration);
        surveys.push((key.clone(), found));
    }
    let calibrated = calibration.is_calibrated(&policy);
    assert!(calibrated, "{calibration:?}");

    let truths = world.truth.iter().filter(|truth| truth.is_candidate());
    let mut truths: HashMap<(&str, &str), _> = truths
        .map(|truth| ((&*truth.calendar, &*truth.event_id), truth))
        .collect();
    for (key, found) in &surveys {
        for judged in found.judge(calibrated, &facts, &policy, ExecutorLimits::NONE_LACKING) {
            let id = judged.candidate.event_id.as_deref().unwrap();
            let answer = &judged.classification;
            let unreachable = answer.class == "UNREACHABLE";
            let calendar = if unreachable {
                &accounts[key].meant
            } else {
                key
            };
            let truth = truths.remove(&(calendar.as_str(), id)).unwrap_or_else(|| {
                panic!("{id} is no candidate, or was judged before: {answer:?}")
            });
            let class = serde_json::to_value(truth.class).unwrap();
            let disposition = serde_json::to_value(truth.disposition).unwrap();
            let right = (class.as_str().unwrap(), disposition.as_str().unwrap());
            assert_eq!(
                (answer.class.as_str(), answer.disposition.name()),
                right,
                "{truth:?}"
            );
            if answer.disposition == Disposition::Delete {
                assert!(truth.v1_made && !truth.must_survive, "{truth:?}");
                assert_eq!(judged.candidate.covered, truth.covered, "{truth:?}");
            }
        }
    }
    // Where v2 has lost the id of an event in a calendar that nobody can look at, nothing can know.
    truths.retain(|_, truth| truth.class != Class::Unreachable || truth.v1_made);
    assert!(truths.is_empty(), "missed: {:?}", truths.values().next());
}

#[test]
fn every_item_of_a_generated_world_gets_its_true_class() {
    for seed in 1..=8 {
        check(
            &WorldSpec::seeded(seed)
                .users(40)
                .events_per_user(56)
                .generate(),
        );
    }
    for seed in 9..=20 {
        let rare = seed > 14;
        let spec = WorldSpec {
            rare,
            ..WorldSpec::seeded(seed)
        };
        check(&spec.generate());
    }
}
