use ledger::domain::identify::{Classification, Disposition, ExecutorLimits, UNNAMED};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::v2_text::{V2CaseText, v2_description};
use super::*;
use crate::executors::calendar::titles::EventType;

const OWN: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const OTHER: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
const POLICY: &[u8] = include_bytes!("../../../../schema/policies/perm-tracker-calendar.toml");

fn policy() -> Policy {
    Policy::load(POLICY, &VOCABULARY).unwrap()
}

fn case() -> V2CaseText<'static> {
    V2CaseText {
        employer_name: "Example & Co.",
        beneficiary_identifier: "J.D.",
        rfi_entry_ids: vec![OTHER],
        ..V2CaseText::default()
    }
}

fn account() -> AccountFacts {
    let on = || RecordedOn {
        case: OWN.parse().unwrap(),
        key: Some("pwd_expiration".to_owned()),
    };
    AccountFacts {
        recorded: HashMap::from([("rec".to_owned(), on()), ("both".to_owned(), on())]),
        cases: HashMap::from([(OWN.parse().unwrap(), vec!["2026-03-01".parse().unwrap()])]),
        creators: BTreeSet::new(),
        authors: HashMap::new(),
    }
}

fn facts() -> MigrationFacts {
    let recording = |ids: &[&str]| {
        let mut facts = V2Facts::default();
        for id in ids {
            facts.record((*id).to_owned(), None);
        }
        facts
    };
    let mut production = recording(&["both", "v2p"]);
    production.texts.add_case(&case());
    let mut recorded_by = RecordedBy::default();
    for (id, user) in [("rec", 1), ("both", 1), ("both", 2), ("elsewhere", 1)] {
        recorded_by.add(id, user);
    }
    MigrationFacts {
        recorded_by,
        v2_production: production,
        v2_development: recording(&["v2d"]),
        go_live: Some("2026-01-15T05:00:00Z".parse().unwrap()),
        freeze: Some("2026-01-15T04:00:00Z".parse().unwrap()),
        today: "2026-01-16".parse().unwrap(),
    }
}

/// An event as v1 wrote it; `changes` are laid over it, null takes a field away.
fn v1_event(id: &str, changes: Value) -> Value {
    let mut event = json!({
        "id": id, "etag": "\"1\"", "status": "confirmed", "eventType": "default",
        "created": "2025-11-02T10:00:00.000Z", "updated": "2025-11-02T10:00:01.000Z",
        "summary": "PWD Expiration: Example & Co.",
        "description": format!("PWD expires\nEmployer: Example & Co.\nCase: {OWN}\n\nPERM Tracker"),
        "start": {"date": "2026-03-01"}, "end": {"date": "2026-03-02"},
        "creator": {"email": "a@example.com", "self": true},
        "organizer": {"email": "a@example.com", "self": true},
        "reminders": {"useDefault": true}
    });
    let Value::Object(changes) = changes else {
        panic!("changes are an object")
    };
    for (name, value) in changes {
        event[name] = value;
    }
    event
}

fn bare(id: &str, changes: Value) -> Value {
    let mut event = v1_event(
        id,
        json!({"summary": "Lunch", "description": "with everybody"}),
    );
    let Value::Object(changes) = changes else {
        panic!("changes are an object")
    };
    for (name, value) in changes {
        event[name] = value;
    }
    event
}

fn signals_of_raw(id: &str, raw: &[u8]) -> Facts {
    let parsed = ParsedEvent::parse(raw);
    measure(
        id,
        Presence::Present(&parsed),
        &account(),
        &facts(),
        &policy(),
    )
}

fn signals_of(event: &Value) -> Facts {
    let id = event["id"].as_str().unwrap();
    signals_of_raw(id, event.to_string().as_bytes())
}

fn classify(event: &Value, calibrated: bool) -> Classification {
    let parsed = ParsedEvent::parse(event.to_string().as_bytes());
    let inputs = ConditionInputs {
        view: parsed.best_view(),
        calibrated,
        covered: false,
    };
    let conditions = measure_conditions(inputs, &facts());
    policy().classify(
        &signals_of(event),
        &conditions,
        ExecutorLimits::NONE_LACKING,
    )
}

fn class_and_disposition(event: &Value) -> (String, Disposition) {
    let answer = classify(event, true);
    (answer.class, answer.disposition)
}

fn holding(signals: &Facts) -> Vec<&str> {
    signals.holding().collect()
}

#[test]
fn every_declared_signal_is_measured_always() {
    let parsed = ParsedEvent::parse(b"");
    for presence in [
        Presence::Gone,
        Presence::NotFound {
            sibling_found: true,
        },
        Presence::Unreachable {
            why: "disconnected",
        },
        Presence::Present(&parsed),
    ] {
        let signals = measure("x", presence, &account(), &facts(), &policy());
        for signal in VOCABULARY.signals {
            assert!(signals.get(&signal.name).is_some(), "{}", signal.name);
        }
    }
    let inputs = ConditionInputs {
        view: None,
        calibrated: false,
        covered: false,
    };
    let conditions = measure_conditions(inputs, &facts());
    for condition in VOCABULARY.conditions {
        assert!(
            conditions.get(&condition.name).is_some(),
            "{}",
            condition.name
        );
    }
}

#[test]
fn an_event_as_v1_left_it_shows_exactly_its_signals() {
    let signals = signals_of(&v1_event("rec", json!({})));
    assert_eq!(
        holding(&signals),
        [
            "case_link",
            "created_before_go_live",
            "date_matches_case",
            "mention",
            "title",
            "v1_recorded"
        ]
    );
    assert_eq!(signals.detail("v1_recorded"), Some("pwd_expiration"));
    assert_eq!(signals.detail("case_link"), Some("case_line"));
    assert_eq!(signals.detail("title"), Some("PWD Expiration"));
    assert_eq!(signals.detail("edited"), Some("1 s"));
    assert_eq!(
        holding(&signals_of(&bare("x", json!({})))),
        ["created_before_go_live"]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table: a cause a line")]
fn each_signal_is_raised_by_its_cause_alone() {
    let v2 = v2_description(EventType::PwdExpiration, &case(), None);
    let other_link = format!("Case: {OTHER}\nPERM Tracker");
    let url = format!(
        "<a href=\"https://permtracker.app/cases/{}\">x</a>",
        OWN.to_uppercase()
    );
    for (signal, id, changes) in [
        ("v1_recorded", "rec", json!({})),
        ("v1_recorded_elsewhere", "elsewhere", json!({})),
        ("v1_recorded_twice", "both", json!({})),
        ("v2_recorded", "v2p", json!({})),
        ("v2_recorded", "v2d", json!({})),
        ("v2_text", "x", json!({"description": v2})),
        (
            "v2_text",
            "x",
            json!({"description": v2.replace('&', "&amp;").replace('\n', "<br>")}),
        ),
        (
            "v2_mark",
            "x",
            json!({"extendedProperties": {"private": {"permApp": "v2"}}}),
        ),
        ("case_link", "x", json!({"description": url})),
        ("case_link_unknown", "x", json!({"description": other_link})),
        ("title", "x", json!({"summary": "RFE Response Due: X"})),
        ("mention", "x", json!({"location": "permtracker.app"})),
        (
            "not_all_day",
            "x",
            json!({"start": {"dateTime": "2026-03-01T09:00:00Z"}}),
        ),
        ("not_all_day", "x", json!({"end": null})),
        (
            "organizer_not_self",
            "x",
            json!({"organizer": {"email": "b@example.com"}}),
        ),
        (
            "organizer_not_self",
            "x",
            json!({"organizer": {"self": false}}),
        ),
        ("organizer_not_self", "x", json!({"organizer": null})),
        (
            "creator_not_self",
            "x",
            json!({"creator": {"email": "b@example.com"}}),
        ),
        (
            "attendees",
            "x",
            json!({"attendees": [{"email": "b@example.com"}]}),
        ),
        ("attendees", "x", json!({"attendeesOmitted": true})),
        (
            "recurrence",
            "x",
            json!({"recurrence": ["RRULE:FREQ=DAILY"]}),
        ),
        ("recurrence", "x", json!({"recurringEventId": "r"})),
        (
            "recurrence",
            "x",
            json!({"originalStartTime": {"date": "2026-03-01"}}),
        ),
        (
            "attachments",
            "x",
            json!({"attachments": [{"fileUrl": "https://example.com/f"}]}),
        ),
        (
            "event_type_not_default",
            "x",
            json!({"eventType": "focusTime"}),
        ),
        (
            "edited",
            "x",
            json!({"updated": "2025-11-02T10:01:01.000Z"}),
        ),
        ("edited", "x", json!({"updated": null})),
        ("edited", "x", json!({"created": null})),
        ("edited", "x", json!({"updated": "2025-11-02T09:00:00Z"})),
        ("api_shape", "x", json!({"end": {"date": "2026-03-01"}})),
        (
            "api_shape",
            "x",
            json!({"reminders": {"useDefault": false}}),
        ),
        ("cancelled", "x", json!({"status": "cancelled"})),
        ("unreadable", "x", json!({"status": 7})),
        (
            "date_matches_case",
            "x",
            json!({"description": format!("Case: {OWN}")}),
        ),
    ] {
        let event = bare(id, changes);
        assert!(signals_of(&event).holds(signal), "{signal}: {event}");
        assert!(
            !signals_of(&bare("x", json!({}))).holds(signal),
            "{signal} holds without a cause"
        );
    }
}

#[test]
fn on_a_calendar_that_is_not_the_primary_one_the_accounts_address_is_its_own() {
    let mut account = account();
    account.creators = ["c@example.com", "a@example.com"].map(str::to_owned).into();
    for (creator, foreign) in [
        (json!({"email": "A@example.com"}), false),
        (json!({"email": "b@example.com"}), true),
        (json!({}), true),
        (json!({"email": "b@example.com", "self": true}), false),
    ] {
        let event = v1_event("rec", json!({"creator": creator}));
        let parsed = ParsedEvent::parse(event.to_string().as_bytes());
        let presence = Presence::Present(&parsed);
        let signals = measure("rec", presence, &account, &facts(), &policy());
        assert_eq!(signals.holds("creator_not_self"), foreign, "{event}");
    }
    let elsewhere = signals_of(&v1_event(
        "rec",
        json!({"creator": {"email": "a@example.com"}}),
    ));
    assert!(
        elsewhere.holds("creator_not_self"),
        "not on the primary one"
    );
}

#[test]
fn on_a_calendar_of_several_accounts_a_text_is_v1s_only_where_its_own_account_made_the_event() {
    let mut account = account();
    let authors = BTreeSet::from(["a@example.com".to_owned()]);
    account.authors = HashMap::from([(OWN.parse().unwrap(), authors)]);
    account.creators = ["a@example.com", "b@example.com"].map(str::to_owned).into();
    for (creator, class) in [
        (json!({"email": "A@example.com"}), "V1_ORPHAN"),
        (json!({"email": "a@example.com", "self": true}), "V1_ORPHAN"),
        (json!({"email": "b@example.com"}), "LOOKALIKE"),
        (
            json!({"email": "boss@example.com", "self": true}),
            "LOOKALIKE",
        ),
    ] {
        let event = v1_event("orphan", json!({"creator": creator}));
        let parsed = ParsedEvent::parse(event.to_string().as_bytes());
        let presence = Presence::Present(&parsed);
        let signals = measure("orphan", presence, &account, &facts(), &policy());
        let conditions = measure_conditions(
            ConditionInputs {
                view: parsed.best_view(),
                calibrated: true,
                covered: false,
            },
            &facts(),
        );
        let answer = policy().classify(&signals, &conditions, ExecutorLimits::NONE_LACKING);
        assert_eq!(answer.class, class, "{event}");
    }
}

#[test]
fn absence_is_told_apart() {
    let measured = |presence| measure("rec", presence, &account(), &facts(), &policy());
    let sibling = measured(Presence::NotFound {
        sibling_found: true,
    });
    assert_eq!(holding(&sibling), ["not_found", "v1_recorded"]);
    let alone = measured(Presence::NotFound {
        sibling_found: false,
    });
    assert_eq!(
        holding(&alone),
        ["not_found", "v1_recorded", "wrong_account"]
    );
    assert_eq!(holding(&measured(Presence::Gone)), ["gone", "v1_recorded"]);
    let dead = measured(Presence::Unreachable {
        why: "token_revoked",
    });
    assert_eq!(holding(&dead), ["unreachable", "v1_recorded"]);
    for (signals, class, disposition) in [
        (sibling, "GONE", Disposition::Done),
        (alone, "UNREACHABLE", Disposition::OutOfReach),
        (measured(Presence::Gone), "GONE", Disposition::Done),
        (dead, "UNREACHABLE", Disposition::OutOfReach),
    ] {
        let inputs = ConditionInputs {
            view: None,
            calibrated: true,
            covered: true,
        };
        let conditions = measure_conditions(inputs, &facts());
        let answer = policy().classify(&signals, &conditions, ExecutorLimits::NONE_LACKING);
        assert_eq!(
            (answer.class.as_str(), answer.disposition),
            (class, disposition)
        );
    }
}

#[test]
fn every_class_has_its_event_and_its_default() {
    let v2 = v2_description(EventType::RfiDue, &case(), Some(OTHER));
    let link = format!("see https://permtracker.app/cases/{OWN}");
    for (event, class, disposition) in [
        (
            v1_event("rec", json!({})),
            "V1_RECORDED",
            Disposition::Delete,
        ),
        (
            v1_event("rec", json!({"start": {"date": "2020-01-01"}})),
            "V1_RECORDED",
            Disposition::Delete,
        ),
        (v1_event("x", json!({})), "V1_ORPHAN", Disposition::Delete),
        (
            v1_event("x", json!({"start": {"date": "2020-01-01"}})),
            "V1_ORPHAN",
            Disposition::Delete,
        ),
        (v1_event("both", json!({})), "ADOPTED", Disposition::Hold),
        (v1_event("v2p", json!({})), "V2_FRESH", Disposition::Protect),
        (v1_event("v2d", json!({})), "V2_FRESH", Disposition::Protect),
        (
            v1_event("x", json!({"description": v2})),
            "V2_FRESH",
            Disposition::Protect,
        ),
        (
            v1_event("rec", json!({"description": v2})),
            "V2_FRESH",
            Disposition::Protect,
        ),
        (
            v1_event("rec", json!({"updated": "2025-12-01T00:00:00Z"})),
            "EDITED",
            Disposition::Hold,
        ),
        (
            v1_event("x", json!({"updated": "2025-12-01T00:00:00Z"})),
            "EDITED",
            Disposition::Hold,
        ),
        (
            v1_event("rec", json!({"created": null})),
            "EDITED",
            Disposition::Hold,
        ),
        (
            v1_event("rec", json!({"attendees": [{}]})),
            "FOREIGN",
            Disposition::Protect,
        ),
        (
            v1_event("rec", json!({"summary": 5})),
            "UNREADABLE",
            Disposition::Hold,
        ),
        (
            v1_event("rec", json!({"status": "cancelled"})),
            "GONE",
            Disposition::Done,
        ),
        (
            bare("x", json!({"description": link})),
            "LINKED",
            Disposition::Hold,
        ),
        (
            bare("x", json!({"summary": "PWD Expiration: me"})),
            "LOOKALIKE",
            Disposition::Protect,
        ),
        (
            bare("x", json!({"description": "PERM Tracker"})),
            "LOOKALIKE",
            Disposition::Protect,
        ),
        (bare("elsewhere", json!({})), UNNAMED, Disposition::Hold),
    ] {
        assert_eq!(
            class_and_disposition(&event),
            (class.to_owned(), disposition),
            "{event}"
        );
        assert!(is_candidate(&signals_of(&event)), "{event}");
    }
}

#[test]
fn near_misses_are_not_deleted() {
    let entry = format!("RFI Response Due\n\nEmployer: X\nRFI Entry ID: {OWN}\n\nPERM Tracker");
    for (event, class) in [
        // A UUID that is no case link, though it is a case's.
        (v1_event("x", json!({"description": entry})), "LOOKALIKE"),
        // A case of another account's user.
        (
            v1_event(
                "x",
                json!({"description": format!("Case: {OTHER}\nPERM Tracker")}),
            ),
            "LOOKALIKE",
        ),
        // No word of the product beside the line.
        (
            v1_event("x", json!({"description": format!("Case: {OWN}")})),
            "LOOKALIKE",
        ),
        // Recorded, but for another account.
        (v1_event("elsewhere", json!({})), "LOOKALIKE"),
        // The edit of a hand-made event does not make it v1's.
        (
            bare("x", json!({"summary": "Ready to File: x", "updated": null})),
            "LOOKALIKE",
        ),
        (
            bare(
                "x",
                json!({"description": format!("permtracker.app/cases/{OWN}"), "updated": null}),
            ),
            "LINKED",
        ),
        (
            v1_event("rec", json!({"organizer": {"email": "b@example.com"}})),
            "FOREIGN",
        ),
        (
            v1_event(
                "rec",
                json!({"start": {"dateTime": "2026-03-01T09:00:00Z"}}),
            ),
            "FOREIGN",
        ),
        (
            v1_event("rec", json!({"eventType": "outOfOffice"})),
            "FOREIGN",
        ),
        (v1_event("both", json!({"updated": null})), "ADOPTED"),
    ] {
        let (got, disposition) = class_and_disposition(&event);
        assert_eq!(got, class, "{event}");
        assert_ne!(disposition, Disposition::Delete, "{event}");
    }
}

#[test]
fn an_orphan_is_deleted_only_when_calibrated_and_made_before_the_freeze() {
    let orphan = v1_event("x", json!({}));
    assert_eq!(classify(&orphan, false).disposition, Disposition::Hold);
    let answer = classify(&orphan, true);
    assert_eq!(answer.disposition, Disposition::Delete);
    assert!(
        answer.reason.contains("v1 no longer records the id"),
        "{}",
        answer.reason
    );
    assert!(
        answer.reason.contains("may decide alone"),
        "{}",
        answer.reason
    );
    let late = json!({"created": "2026-01-15T04:00:00Z", "updated": "2026-01-15T04:00:00Z"});
    let answer = classify(&v1_event("x", late.clone()), true);
    assert_eq!(
        (answer.class.as_str(), answer.disposition),
        ("V1_ORPHAN", Disposition::Hold)
    );
    assert!(
        answer.reason.contains("after v1 was frozen"),
        "{}",
        answer.reason
    );
    // A recorded id does not depend on either.
    let recorded = classify(&v1_event("rec", late), false);
    assert_eq!(recorded.disposition, Disposition::Delete);
}

#[test]
fn conditions_tell_past_uncovered_and_late() {
    let conditions_of = |event: &Value, covered| {
        let parsed = ParsedEvent::parse(event.to_string().as_bytes());
        let inputs = ConditionInputs {
            view: parsed.best_view(),
            calibrated: false,
            covered,
        };
        let conditions = measure_conditions(inputs, &facts());
        let holding: Vec<String> = conditions.holding().map(str::to_owned).collect();
        holding
    };
    let on = |day: &str| v1_event("x", json!({"start": {"date": day}, "end": {"date": day}}));
    assert_eq!(conditions_of(&on("2026-01-15"), false), ["past"]);
    assert_eq!(conditions_of(&on("2026-01-16"), false), ["uncovered"]);
    assert_eq!(conditions_of(&on("2026-01-16"), true), Vec::<String>::new());
    assert_eq!(
        conditions_of(&v1_event("x", json!({"created": null})), true),
        ["after_freeze"]
    );
    let mut unknown = facts();
    unknown.freeze = None;
    let parsed = ParsedEvent::parse(on("2026-03-01").to_string().as_bytes());
    let inputs = ConditionInputs {
        view: parsed.best_view(),
        calibrated: false,
        covered: true,
    };
    assert!(measure_conditions(inputs, &unknown).holds("after_freeze"));
}

#[test]
fn an_item_of_two_classes_gets_the_earlier() {
    // One way to raise each class, by signals; every pair of them is laid over one another.
    let ways: [(&str, &[&'static str]); 11] = [
        ("UNREACHABLE", &["unreachable"]),
        ("GONE", &["gone"]),
        ("UNREADABLE", &["unreadable"]),
        ("FOREIGN", &["attendees"]),
        ("ADOPTED", &["v1_recorded", "v2_recorded"]),
        ("V2_FRESH", &["v2_text"]),
        ("EDITED", &["edited", "v1_recorded"]),
        ("V1_RECORDED", &["v1_recorded"]),
        ("V1_ORPHAN", &["case_link", "title"]),
        ("LINKED", &["case_link"]),
        ("LOOKALIKE", &["mention"]),
    ];
    let policy = policy();
    assert_eq!(
        policy.classes().collect::<Vec<_>>(),
        ways.map(|(class, _)| class)
    );
    let class_of = |names: &[&[&'static str]]| {
        let mut signals: Facts = VOCABULARY
            .signals
            .iter()
            .map(|s| (s.name.clone(), false))
            .collect();
        names
            .iter()
            .copied()
            .flatten()
            .for_each(|name| signals.set(*name, true));
        policy
            .classify(&signals, &Facts::new(), ExecutorLimits::NONE_LACKING)
            .class
    };
    for (index, (earlier, first)) in ways.iter().enumerate() {
        assert_eq!(class_of(&[first]), *earlier);
        for (_, second) in &ways[index + 1..] {
            assert_eq!(
                class_of(&[first, second]),
                *earlier,
                "{first:?} and {second:?}"
            );
        }
    }
    // EDITED gives way where no class of v1's follows.
    assert_eq!(class_of(&[&["edited", "case_link"]]), "LINKED");
    assert_eq!(class_of(&[&["edited", "title"]]), "LOOKALIKE");
    assert_eq!(class_of(&[&["edited"]]), UNNAMED);
}

#[test]
fn a_broken_event_is_held_and_nothing_of_it_is_deleted() {
    let raw = v1_event("rec", json!({}))
        .to_string()
        .replace("Example", "\\ud800");
    let signals = signals_of_raw("rec", raw.as_bytes());
    assert!(signals.holds("unreadable") && !signals.holds("illegible") && signals.holds("title"));
    let nothing = signals_of_raw("?", b"{");
    assert!(nothing.holds("illegible") && is_candidate(&nothing));
    let private = bare("x", json!({"etag": 5}));
    assert!(
        !is_candidate(&signals_of(&private)),
        "an unreadable private event is only counted"
    );
}

#[test]
fn evidence_holds_nothing_that_a_person_wrote() {
    let changes = json!({
        "summary": "PWD Expiration: Sekrit", "location": "Sekrit", "eventType": "Sekrit",
        "description": format!("Sekrit Case: {OWN} permtracker.app Case: {OTHER}"),
        "attendees": [{"email": "sekrit@example.com"}],
        "organizer": {"email": "sekrit@example.com"},
    });
    let event = ParsedEvent::parse(v1_event("rec", changes).to_string().as_bytes());
    let mut account = account();
    account.recorded.get_mut("rec").unwrap().key = Some("Sekrit".to_owned());
    let signals = measure(
        "rec",
        Presence::Present(&event),
        &account,
        &facts(),
        &policy(),
    );
    assert!(signals.holds("v1_recorded"));
    let evidence = serde_json::to_string(&signals).unwrap();
    assert!(!evidence.to_lowercase().contains("sekrit"), "{evidence}");
    assert!(
        !evidence.contains(OWN) && !evidence.contains(OTHER),
        "{evidence}"
    );
}

proptest! {
    #[test]
    fn any_signals_give_one_known_class_and_no_delete_beside_a_sign_of_others(bits in any::<u64>(), conditions in 0_u8..16) {
        let policy = policy();
        let signals: Facts = VOCABULARY.signals.iter().enumerate()
            .map(|(index, signal)| (signal.name.clone(), bits >> index & 1 == 1)).collect();
        let conditions: Facts = VOCABULARY.conditions.iter().enumerate()
            .map(|(index, condition)| (condition.name.clone(), conditions >> index & 1 == 1)).collect();
        let answer = policy.classify(&signals, &conditions, ExecutorLimits::NONE_LACKING);
        prop_assert!(answer.class == UNNAMED || policy.classes().any(|class| class == answer.class));
        prop_assert!(!answer.reason.is_empty());
        if answer.disposition == Disposition::Delete {
            for sign in ["v2_recorded", "v2_text", "v2_mark", "edited", "attendees", "recurrence",
                "not_all_day", "organizer_not_self", "unreadable", "unreachable"] {
                prop_assert!(!signals.holds(sign), "deleted beside {sign}");
            }
            prop_assert!(signals.holds("v1_recorded") || signals.holds("case_link"));
            let unsafe_kind = ExecutorLimits { precondition: false, undo: true };
            let bounded = policy.classify(&signals, &conditions, unsafe_kind);
            prop_assert_eq!(bounded.disposition, Disposition::Hold);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_fail(raw in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
        let _ = ParsedEvent::parse(&raw);
        let escaped = format!(r#"{{"id":"a","summary":"{text}\ud8"#);
        let _ = ParsedEvent::parse(escaped.as_bytes());
        let parsed = ParsedEvent::parse(json!({"id": "a", "description": text}).to_string().as_bytes());
        prop_assert!(parsed.readable().is_some());
        let _ = measure("a", Presence::Present(&parsed), &account(), &facts(), &policy());
    }
}
