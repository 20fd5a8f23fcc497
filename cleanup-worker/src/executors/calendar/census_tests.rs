use std::collections::{BTreeSet, HashSet};

use ledger::domain::identify::Disposition;
use serde_json::json;
use uuid::Uuid;

use super::super::signals::{RecordedBy, RecordedOn, V2Facts, VOCABULARY};
use super::*;

const CASE: Uuid = Uuid::from_u128(7);

fn policy() -> Policy {
    let bytes = include_bytes!("../../../../schema/policies/perm-tracker-calendar.toml");
    Policy::load(bytes, &VOCABULARY).unwrap()
}

fn now() -> DateTime<Utc> {
    "2026-01-16T12:00:00Z".parse().unwrap()
}

fn facts() -> MigrationFacts {
    let mut recorded_by = RecordedBy::default();
    for id in ["a", "b", "c"] {
        recorded_by.add(id, 1);
    }
    let mut v2_production = V2Facts::default();
    for id in ["v2", "stays"] {
        v2_production.record(id.to_owned(), None);
    }
    MigrationFacts {
        recorded_by,
        v2_production,
        v2_development: V2Facts::default(),
        go_live: Some("2026-01-15T00:00:00Z".parse().unwrap()),
        freeze: Some("2026-01-15T00:00:00Z".parse().unwrap()),
        today: now().date_naive(),
    }
}

fn account_facts(ids: &[&str]) -> AccountFacts {
    let on = |id: &&str| {
        (
            (*id).to_owned(),
            RecordedOn {
                case: CASE,
                key: None,
            },
        )
    };
    AccountFacts {
        recorded: ids.iter().map(on).collect(),
        cases: HashMap::from([(CASE, Vec::new())]),
        creators: BTreeSet::new(),
        authors: HashMap::new(),
    }
}

fn event(id: &str, summary: &str, signed: bool) -> ParsedEvent {
    let text = if signed {
        format!("Case: {CASE}\nPERM Tracker")
    } else {
        String::new()
    };
    let raw = json!({
        "id": id, "etag": format!("\"{id}\""), "summary": summary, "description": text,
        "created": "2025-11-02T10:00:00Z", "updated": "2025-11-02T10:00:00Z",
        "start": {"date": "2026-03-01"}, "end": {"date": "2026-03-02"},
        "creator": {"self": true}, "organizer": {"self": true},
    });
    ParsedEvent::parse(raw.to_string().as_bytes())
}

fn user(name: &str, v1: &[&str], v2: &[&str]) -> UserIds {
    let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    UserIds {
        user: name.to_owned(),
        v1: owned(v1),
        v2: owned(v2),
        elsewhere: Elsewhere::Nothing,
    }
}

fn classes(survey: &Survey, calibrated: bool) -> Vec<(String, String, Disposition)> {
    let (facts, policy) = (facts(), policy());
    let judged = survey.judge(calibrated, &facts, &policy, ExecutorLimits::NONE_LACKING);
    judged
        .map(|judged| {
            let id = judged.candidate.event_id.clone().unwrap_or_default();
            (
                id,
                judged.classification.class,
                judged.classification.disposition,
            )
        })
        .collect()
}

fn row(id: &str, class: &str, disposition: Disposition) -> (String, String, Disposition) {
    (id.to_owned(), class.to_owned(), disposition)
}

#[test]
fn every_candidate_is_judged_once_and_the_rest_is_only_counted() {
    let events = [
        event("a", "PWD Expiration: Example", true),
        event("v2", "PWD Expiration: Example", false),
        event("orphan", "Ready to File: Example", true),
        event("lunch", "Lunch", false),
        event("hand", "RFI Response Due: me", false),
        ParsedEvent::parse(b"{"),
    ];
    let lookups = HashMap::from([
        ("b".to_owned(), Lookup::Gone),
        ("c".to_owned(), Lookup::NotFound),
        (
            "d".to_owned(),
            Lookup::Found(ParsedEvent::parse(br#"{"id":"d","status":"cancelled"}"#)),
        ),
    ]);
    let account_facts = account_facts(&["a", "b", "c", "d"]);
    let users = [user("u1", &["a", "b", "c", "d"], &["v2"])];
    let account = Account {
        facts: &account_facts,
        users: &users,
        unreachable: None,
        events: &events,
        others: &[],
        lookups: &lookups,
    };
    let survey = survey(account, &facts(), &policy(), now());
    assert_eq!(survey.others, 1);
    assert_eq!(
        (survey.calibration.recorded, survey.calibration.signed),
        (1, 1)
    );
    let by_title = survey.incumbent[&Selector::TitlePrefix];
    assert_eq!((by_title.would_delete, by_title.not_v1s), (4, 2));
    let by_text = survey.incumbent[&Selector::SearchText];
    assert_eq!((by_text.would_delete, by_text.not_v1s), (2, 0));
    let covered: Vec<bool> = survey
        .candidates
        .iter()
        .map(|found| found.covered)
        .collect();
    assert_eq!(covered[..3], [true, true, false]);
    assert_eq!(
        classes(&survey, true),
        [
            row("a", "V1_RECORDED", Disposition::Delete),
            row("v2", "V2_FRESH", Disposition::Protect),
            row("orphan", "V1_ORPHAN", Disposition::Delete),
            row("hand", "LOOKALIKE", Disposition::Protect),
            row("", "UNREADABLE", Disposition::Hold),
            row("b", "GONE", Disposition::Done),
            row("c", "GONE", Disposition::Done),
            row("d", "GONE", Disposition::Done),
        ]
    );
    assert_eq!(
        classes(&survey, false)[2],
        row("orphan", "V1_ORPHAN", Disposition::Hold)
    );
    assert_eq!(survey.candidates[0].etag.as_deref(), Some("\"a\""));
}

#[test]
fn all_404_is_the_wrong_account_and_v2s_ids_prove_nothing() {
    let account_facts = account_facts(&["a", "b"]);
    let users = [user("u1", &["a", "b"], &["stays"])];
    let lookups = ["a", "b"]
        .map(|id| (id.to_owned(), Lookup::NotFound))
        .into();
    let events = [event("stays", "PWD Expiration: Example", false)];
    let account = Account {
        facts: &account_facts,
        users: &users,
        unreachable: None,
        events: &events,
        others: &[],
        lookups: &lookups,
    };
    let survey = survey(account, &facts(), &policy(), now());
    assert_eq!(
        classes(&survey, true),
        [
            row("stays", "V2_FRESH", Disposition::Protect),
            row("a", "UNREACHABLE", Disposition::OutOfReach),
            row("b", "UNREACHABLE", Disposition::OutOfReach),
        ]
    );
}

#[test]
fn an_id_reached_through_two_users_is_one_item_of_the_more_protective_class() {
    // u1 has another id on the account, so to u1 a 404 means gone; u2 has none, so to u2 it may be
    // the wrong account.
    let account_facts = account_facts(&["a", "b"]);
    let users = [user("u1", &["a", "b"], &[]), user("u2", &["b"], &[])];
    let lookups = HashMap::from([("b".to_owned(), Lookup::NotFound)]);
    let events = [event("a", "PWD Expiration: Example", true)];
    let account = Account {
        facts: &account_facts,
        users: &users,
        unreachable: None,
        events: &events,
        others: &[],
        lookups: &lookups,
    };
    let survey = survey(account, &facts(), &policy(), now());
    let second = &survey.candidates[1];
    assert_eq!(second.users, ["u1", "u2"]);
    assert_eq!(survey.candidates[0].users, ["u1"]);
    assert_eq!(
        classes(&survey, true)[1],
        row("b", "UNREACHABLE", Disposition::OutOfReach)
    );
}

#[test]
fn an_unreachable_account_has_its_recorded_ids_and_nothing_else() {
    let account_facts = account_facts(&["a"]);
    let users = [user("u1", &["a", "a"], &["v2"])];
    let events = [event("a", "PWD Expiration: Example", true)];
    let account = Account {
        facts: &account_facts,
        users: &users,
        unreachable: Some("token_revoked"),
        events: &events,
        others: &[],
        lookups: &HashMap::new(),
    };
    let survey = survey(account, &facts(), &policy(), now());
    assert_eq!(
        classes(&survey, true),
        [
            row("a", "UNREACHABLE", Disposition::OutOfReach),
            row("v2", "UNREACHABLE", Disposition::OutOfReach),
        ]
    );
    assert_eq!((survey.calibration.recorded, survey.others), (0, 0));
}

#[test]
fn an_id_that_was_never_asked_for_is_out_of_reach_and_not_gone() {
    let account_facts = account_facts(&["a"]);
    let users = [user("u1", &["a"], &[])];
    let account = Account {
        facts: &account_facts,
        users: &users,
        unreachable: None,
        events: &[],
        others: &[],
        lookups: &HashMap::new(),
    };
    let survey = survey(account, &facts(), &policy(), now());
    assert_eq!(
        classes(&survey, true),
        [row("a", "UNREACHABLE", Disposition::OutOfReach)]
    );
}

#[test]
fn a_recorded_id_is_judged_where_it_is_and_not_found_only_where_no_calendar_has_it() {
    let listed =
        |ids: &[&str]| -> HashSet<String> { ids.iter().map(|id| (*id).to_owned()).collect() };
    let lookups = |answers: &[(&str, Lookup)]| -> HashMap<String, Lookup> {
        let owned = answers
            .iter()
            .map(|(id, answer)| ((*id).to_owned(), answer.clone()));
        owned.collect()
    };
    let cancelled = || {
        Lookup::Found(ParsedEvent::parse(
            br#"{"id":"moved","status":"cancelled"}"#,
        ))
    };
    let whole = user("u1", &["a", "b", "moved", "nowhere"], &["v2"]);
    let first = listed(&["a", "v2"]);
    let first_lookups = lookups(&[
        ("b", Lookup::NotFound),
        // It was moved: the calendar that it left remembers it as deleted.
        ("moved", cancelled()),
        ("nowhere", Lookup::NotFound),
    ]);
    let second = listed(&["moved"]);
    let second_lookups = lookups(&[
        ("a", Lookup::NotFound),
        ("b", Lookup::Gone),
        ("nowhere", Lookup::NotFound),
        ("v2", Lookup::NotFound),
    ]);
    let primary = CalendarAnswers {
        listed: Some(&first),
        lookups: &first_lookups,
    };
    let other = CalendarAnswers {
        listed: Some(&second),
        lookups: &second_lookups,
    };
    let shares = share_out(&whole, &[primary, other]);
    assert_eq!(
        (shares[0].v1.clone(), shares[0].v2.clone()),
        (
            vec!["a".to_owned(), "nowhere".to_owned()],
            vec!["v2".to_owned()]
        )
    );
    assert_eq!(shares[1].v1, ["b", "moved"]);
    assert!(shares[1].v2.is_empty());
    assert_eq!(shares[0].elsewhere, Elsewhere::Found);

    // Of one calendar alone nothing changes.
    let alone = share_out(&whole, &[primary]);
    assert_eq!(
        (alone[0].v1.len(), alone[0].elsewhere),
        (4, Elsewhere::Nothing)
    );
    // One that could not be asked leaves open what was not found.
    let unasked = CalendarAnswers {
        listed: None,
        lookups: &HashMap::new(),
    };
    let shares = share_out(&whole, &[primary, unasked]);
    assert_eq!(
        (shares[0].v1.len(), shares[0].elsewhere),
        (4, Elsewhere::Unknown)
    );
    assert!(shares[1].v1.is_empty());

    // What that means for an id that is on none of them.
    let account_facts = account_facts(&["nowhere"]);
    for (elsewhere, class, disposition) in [
        (Elsewhere::Nothing, "UNREACHABLE", Disposition::OutOfReach),
        (Elsewhere::Found, "GONE", Disposition::Done),
        (Elsewhere::Unknown, "UNREACHABLE", Disposition::OutOfReach),
    ] {
        let mut one = user("u1", &["nowhere"], &[]);
        one.elsewhere = elsewhere;
        let users = [one];
        let account = Account {
            facts: &account_facts,
            users: &users,
            unreachable: None,
            events: &[],
            others: &[],
            lookups: &first_lookups,
        };
        let survey = survey(account, &facts(), &policy(), now());
        assert_eq!(classes(&survey, true), [row("nowhere", class, disposition)]);
    }
}

#[test]
fn of_two_cases_of_one_employer_only_the_one_that_v2_has_an_event_for_is_covered() {
    let (other_case, day) = (Uuid::from_u128(8), "PWD Expiration: Example");
    let mut account_facts = account_facts(&["a", "b"]);
    let on_other = RecordedOn {
        case: other_case,
        key: None,
    };
    account_facts.recorded.insert("b".to_owned(), on_other);
    account_facts.cases.insert(other_case, Vec::new());
    let users = [user("u1", &["a", "b"], &["v2"])];
    let [a, b, v2] = ["a", "b", "v2"].map(|id| event(id, day, false));
    // Where v2's event stands does not count, nor whose it is where that is not known: one covers one.
    for (v1_case, expected) in [
        (Some(CASE), Some("a")),
        (Some(other_case), Some("b")),
        (Some(Uuid::from_u128(9)), None),
        (None, Some("a")),
    ] {
        let mut facts = facts();
        facts.v2_production = V2Facts::default();
        facts.v2_production.record("v2".to_owned(), v1_case);
        let here = [v2.clone(), a.clone()];
        let there = [b.clone()];
        let mut covered = Vec::new();
        for (events, others) in [(&here[..], &there[..]), (&there, &here)] {
            let account = Account {
                facts: &account_facts,
                users: &users,
                unreachable: None,
                events,
                others: &[others],
                lookups: &HashMap::from(
                    ["a", "b", "v2"].map(|id| (id.to_owned(), Lookup::NotFound)),
                ),
            };
            let survey = survey(account, &facts, &policy(), now());
            let found = survey.candidates.into_iter();
            let found = found
                .filter(|one| one.covered)
                .filter_map(|one| one.event_id);
            covered.extend(found.filter(|id| id != "v2"));
        }
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(covered, expected, "{v1_case:?}");
    }
}

#[test]
fn an_event_of_v2s_on_another_calendar_of_the_account_covers() {
    let account_facts = account_facts(&["a"]);
    let users = [user("u1", &["a"], &[])];
    let events = [event("a", "PWD Expiration: Example", true)];
    let of_v2 = [event("v2", "PWD Expiration: Example", false)];
    for (others, covered) in [(vec![], false), (vec![&of_v2[..]], true)] {
        let account = Account {
            facts: &account_facts,
            users: &users,
            unreachable: None,
            events: &events,
            others: &others,
            lookups: &HashMap::new(),
        };
        let survey = survey(account, &facts(), &policy(), now());
        assert_eq!(survey.candidates.len(), 1);
        assert_eq!(survey.candidates[0].covered, covered);
    }
}
