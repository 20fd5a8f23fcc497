use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn as_of() -> AsOf {
    AsOf {
        seq: 42,
        recorded_at: at("2026-01-16T12:00:00Z"),
    }
}

fn sums(states: &[(State, u64)]) -> Sums {
    let mut sums = Sums::new();
    for (state, count) in states {
        sums.add(*state, *count);
    }
    sums
}

/// A scope that was sealed, worked off and observed afterwards.
fn clean(states: &[(State, u64)]) -> ScopeFacts {
    let sums = sums(states);
    ScopeFacts {
        sealed: Some(sums.total()),
        sums,
        sides: vec![Side {
            name: "google".into(),
            observed_at: Some(at("2026-01-16T11:00:00Z")),
            stale_before: Some(at("2026-01-16T10:59:00Z")),
            ..Side::default()
        }],
        ..ScopeFacts::default()
    }
}

fn judged(calendar: ScopeFacts) -> LossAnswer {
    let scopes = BTreeMap::from([
        (Scope::Calendar, calendar),
        (Scope::Records, clean(&[(State::Verified, 3)])),
        (Scope::Files, clean(&[])),
    ]);
    judge(Inputs {
        as_of: as_of(),
        anchored: None,
        scopes,
        lost: Vec::new(),
        guards_on: true,
        log_intact: true,
        evidence: Vec::new(),
    })
}

fn reasons(answer: &LossAnswer) -> Vec<UnknownReason> {
    answer
        .unknown
        .iter()
        .map(|unknown| unknown.reason)
        .collect()
}

#[test]
fn a_clean_world_answers_none_and_complete() {
    let answer = judged(clean(&[
        (State::Deleted, 5),
        (State::Protected, 2),
        (State::GoneBefore, 1),
    ]));
    assert_eq!((answer.verdict, answer.complete), (Verdict::None, true));
    assert_eq!(answer.unknown, []);
    assert_eq!(answer.sum.total(), 11);
}

#[test]
fn each_state_has_its_effect_on_the_scope() {
    for state in State::ALL {
        let answer = judged(clean(&[(State::Deleted, 5), (state, 1)]));
        let effect = state.effect();
        assert_eq!(answer.verdict, effect.verdict, "{state:?}");
        assert_eq!(answer.complete, effect.complete, "{state:?}");
        assert_eq!(
            answer.unknown.is_empty(),
            effect.verdict != Verdict::Unknown,
            "{state:?}"
        );
        assert_eq!(answer.scopes[&Scope::Records].verdict, Verdict::None);
    }
}

#[test]
fn every_reason_for_unknown_is_named() {
    let base = || clean(&[(State::Deleted, 5)]);
    let side = |observed_at| {
        vec![Side {
            name: "google".into(),
            observed_at,
            stale_before: Some(at("2026-01-16T10:59:00Z")),
            ..Side::default()
        }]
    };
    for (facts, reason) in [
        (
            ScopeFacts {
                sealed: None,
                ..base()
            },
            UnknownReason::UnsealedInventory,
        ),
        (
            ScopeFacts {
                sealed: Some(6),
                ..base()
            },
            UnknownReason::Unaccounted,
        ),
        (
            ScopeFacts {
                sealed: Some(4),
                ..base()
            },
            UnknownReason::BeyondInventory,
        ),
        (
            ScopeFacts {
                open_intents: 1,
                ..base()
            },
            UnknownReason::OpenIntents,
        ),
        (
            ScopeFacts {
                unreadable_entries: 1,
                ..base()
            },
            UnknownReason::UnreadableEntries,
        ),
        (
            ScopeFacts {
                plans_not_as_sealed: 1,
                ..base()
            },
            UnknownReason::PlanNotAsSealed,
        ),
        (clean(&[(State::InFlight, 1)]), UnknownReason::OpenIntents),
        (clean(&[(State::Duplicate, 1)]), UnknownReason::Duplicates),
        (clean(&[(State::Unreadable, 1)]), UnknownReason::Unreadable),
        (
            ScopeFacts {
                sides: side(None),
                ..base()
            },
            UnknownReason::NeverObserved,
        ),
        (
            ScopeFacts {
                sides: vec![],
                ..base()
            },
            UnknownReason::NeverObserved,
        ),
        (
            ScopeFacts {
                sides: side(Some(at("2026-01-16T10:58:59Z"))),
                ..base()
            },
            UnknownReason::StaleObservation,
        ),
        (
            ScopeFacts {
                observation_max_age: Some(Duration::minutes(59)),
                ..base()
            },
            UnknownReason::StaleObservation,
        ),
    ] {
        let answer = judged(facts);
        assert_eq!(reasons(&answer), [reason]);
        assert_eq!(
            (answer.verdict, answer.complete),
            (Verdict::Unknown, false),
            "{reason:?}"
        );
        assert_eq!(answer.unknown[0].scope, Some(Scope::Calendar));
    }
    let fresh = ScopeFacts {
        observation_max_age: Some(Duration::minutes(60)),
        ..base()
    };
    assert_eq!(judged(fresh).verdict, Verdict::None);
}

#[test]
fn a_scope_never_looked_at_a_guard_off_or_a_broken_log_is_unknown() {
    let inputs = || Inputs {
        as_of: as_of(),
        anchored: None,
        scopes: Scope::ALL
            .map(|scope| (scope, clean(&[(State::Deleted, 1)])))
            .into(),
        lost: Vec::new(),
        guards_on: true,
        log_intact: true,
        evidence: Vec::new(),
    };
    assert_eq!(judge(inputs()).verdict, Verdict::None);
    for scope in Scope::ALL {
        let mut unseen = inputs();
        unseen.scopes.remove(&scope);
        let answer = judge(unseen);
        assert_eq!(reasons(&answer), [UnknownReason::NeverLookedAt]);
        assert_eq!((answer.verdict, answer.complete), (Verdict::Unknown, false));
        assert_eq!(answer.scopes[&scope].verdict, Verdict::Unknown);
        let others = answer.scopes.iter().filter(|(other, _)| **other != scope);
        assert!(
            others
                .into_iter()
                .all(|(_, answer)| answer.verdict == Verdict::None)
        );
    }
    let off = judge(Inputs {
        guards_on: false,
        ..inputs()
    });
    assert_eq!(
        (reasons(&off), off.verdict),
        (vec![UnknownReason::GuardOff], Verdict::Unknown)
    );
    let broken = judge(Inputs {
        log_intact: false,
        ..inputs()
    });
    assert_eq!(reasons(&broken), [UnknownReason::LogNotIntact]);
    assert!(
        broken
            .scopes
            .values()
            .all(|answer| answer.verdict == Verdict::Unknown)
    );
}

#[test]
fn lost_outweighs_unknown_and_is_named() {
    let mut facts = clean(&[(State::Missing, 1), (State::InFlight, 1)]);
    facts.sealed = Some(9);
    let answer = judged(facts);
    assert_eq!(answer.verdict, Verdict::Lost);
    assert_eq!(
        reasons(&answer),
        [UnknownReason::Unaccounted, UnknownReason::OpenIntents]
    );
    assert!(Verdict::None < Verdict::Unknown && Verdict::Unknown < Verdict::Lost);

    // An item named as lost counts, whatever the sums say.
    let named = judge(Inputs {
        lost: vec![LostItem {
            scope: Scope::Files,
            subject: "file:0197f1c2-0000-7000-8000-000000000000".into(),
            state: State::Missing,
            restore: None,
            seq: 7,
        }],
        as_of: as_of(),
        anchored: None,
        scopes: Scope::ALL.map(|scope| (scope, clean(&[]))).into(),
        guards_on: true,
        log_intact: true,
        evidence: Vec::new(),
    });
    assert_eq!((named.verdict, named.complete), (Verdict::Lost, false));
    assert_eq!(named.scopes[&Scope::Files].verdict, Verdict::Lost);
    assert_eq!(named.scopes[&Scope::Calendar].verdict, Verdict::None);
}

#[test]
fn the_answer_has_the_documented_shape() {
    let answer = judge(Inputs {
        as_of: as_of(),
        anchored: Some(Anchor {
            seq: 40,
            place: "same host".into(),
        }),
        scopes: BTreeMap::from([(
            Scope::Calendar,
            clean(&[(State::Deleted, 2), (State::Held, 1)]),
        )]),
        lost: Vec::new(),
        guards_on: true,
        log_intact: true,
        evidence: vec![
            Evidence {
                seq: 9,
                kind: "plan.sealed".into(),
            },
            Evidence {
                seq: 3,
                kind: "item.found".into(),
            },
            Evidence {
                seq: 9,
                kind: "plan.sealed".into(),
            },
        ],
    });
    let json = serde_json::to_value(&answer).unwrap();
    let keys: Vec<&str> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "anchored", "as_of", "complete", "evidence", "lost", "scopes", "sum", "unknown",
            "verdict"
        ]
    );
    assert_eq!(json["verdict"], "unknown");
    assert_eq!(json["sum"], serde_json::json!({"deleted": 2, "held": 1}));
    assert_eq!(json["scopes"]["calendar"]["verdict"], "none");
    assert_eq!(json["scopes"]["calendar"]["complete"], false);
    assert_eq!(
        json["scopes"]["calendar"]["remaining"],
        serde_json::json!({"held": 1})
    );
    assert_eq!(
        json["unknown"][0],
        serde_json::json!({"scope": "records", "reason": "never_looked_at"})
    );
    assert_eq!(
        json["evidence"][0],
        serde_json::json!({"seq": 3, "type": "item.found"})
    );
    assert_eq!(json["evidence"].as_array().unwrap().len(), 2);
    let mut read: LossAnswer = serde_json::from_value(json).unwrap();
    for scope in read.scopes.values_mut() {
        for side in &mut scope.sides {
            side.stale_before = Some(at("2026-01-16T10:59:00Z"));
        }
    }
    assert_eq!(read, answer, "but for what only the judging needs");
}

proptest! {
    #[test]
    fn never_none_while_anything_is_open_and_sums_always_add_up(
        counts in proptest::collection::vec(0_u64..3, 20),
        sealed in proptest::option::of(0_u64..60),
        open_intents in 0_u64..2,
        observed in proptest::option::of(0_i64..100),
        guards_on in any::<bool>(),
    ) {
        let states: Vec<(State, u64)> = State::ALL.into_iter().zip(counts).collect();
        let sums = sums(&states);
        let effect_at = at("2026-01-16T10:00:00Z");
        let observed_at = observed.map(|minutes| effect_at + Duration::minutes(minutes - 50));
        let facts = ScopeFacts {
            sealed,
            sums: sums.clone(),
            open_intents,
            sides: vec![Side {
                name: "google".into(),
                observed_at,
                stale_before: Some(effect_at),
                ..Side::default()
            }],
            ..ScopeFacts::default()
        };
        let answer = judge(Inputs {
            as_of: as_of(),
            anchored: None,
            scopes: BTreeMap::from([
                (Scope::Calendar, facts),
                (Scope::Records, clean(&[])),
                (Scope::Files, clean(&[])),
            ]),
            lost: Vec::new(),
            guards_on,
            log_intact: true,
            evidence: Vec::new(),
        });
        let bad = |verdict| states.iter().any(|(state, count)| *count > 0 && state.effect().verdict == verdict);
        let doubtful = bad(Verdict::Unknown) || open_intents > 0 || !guards_on
            || sealed != Some(sums.total()) || observed_at.is_none_or(|at| at < effect_at);
        let expected = match (bad(Verdict::Lost), doubtful) {
            (true, _) => Verdict::Lost,
            (false, true) => Verdict::Unknown,
            (false, false) => Verdict::None,
        };
        prop_assert_eq!(answer.verdict, expected);
        prop_assert!(!answer.complete || answer.verdict == Verdict::None);
        prop_assert_eq!(answer.unknown.is_empty(), !doubtful);
        if let Some(sealed) = sealed {
            prop_assert_eq!(answer.scopes[&Scope::Calendar].sum.total(), sealed.max(sums.total()));
        }
    }
}
