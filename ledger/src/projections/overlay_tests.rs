//! Plans made by decisions, as the folds take them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::custody::CustodyFold;
use super::super::deletions::{DeletionsFold, Part};
use super::super::fold::Unreadable;
use super::super::testing::{Log, found, item, lines, run};
use super::*;
use crate::domain::custody::State;
use crate::domain::event::{Event, GoneHow, NotGone};
use crate::domain::identify::Disposition::{self, Delete, Hold, Protect};
use crate::domain::verdict::Scope;

const ITEMS: [(u32, Disposition); 5] = [(1, Delete), (2, Hold), (3, Hold), (4, Protect), (5, Hold)];
const REVIEWER: &str = "person:reviewer";

/// A plan, and what a review makes of it: 2 goes, 3 is kept, 5 stays held.
fn decided() -> (Log, Hash, Hash) {
    let mut log = Log::default();
    let base = log.plan(run(0), &ITEMS);
    let decisions = [(2, Decision::Delete), (3, Decision::Keep)];
    let plan = log.overlay(run(1), base, &ITEMS, &decisions, REVIEWER);
    (log, base, plan)
}

fn states(log: &Log) -> Vec<(u32, State)> {
    let custody: CustodyFold = log.fold();
    ITEMS
        .iter()
        .map(|(n, _)| (*n, custody.state(&item(*n)).unwrap()))
        .collect()
}

fn unsound(log: &Log) -> u64 {
    log.fold::<CustodyFold>()
        .facts()
        .remove(&Scope::Calendar)
        .unwrap()
        .plans_not_as_sealed
}

#[test]
fn a_decision_moves_the_item_and_nothing_else() {
    let (log, base, plan) = decided();
    assert_ne!(base, plan);
    let expected = [
        (1, State::Planned),
        (2, State::Planned),
        (3, State::Excluded),
        (4, State::Protected),
        (5, State::Held),
    ];
    assert_eq!(states(&log), expected);
    let custody: CustodyFold = log.fold();
    let facts = custody.facts().remove(&Scope::Calendar).unwrap();
    assert_eq!((facts.sealed, facts.plans_not_as_sealed), (Some(5), 0));
    assert_eq!(custody.sums().total(), 5, "the same items, not more");
    // Nobody has looked at the outside: the sides are as old as the inventory.
    let sealed = log.0[6].entry.recorded_at.instant();
    assert_eq!(log.0[6].entry.event_type.as_str(), "plan.sealed");
    assert_eq!(facts.sides[0].observed_at, Some(sealed));
}

#[test]
fn only_an_approval_of_the_new_plan_by_a_third_person_covers_what_was_decided() {
    for (approver, of_base, of_intent, state) in [
        ("person:checker", false, false, State::Deleted),
        ("person:checker", true, false, State::Missing),
        ("person:checker", true, true, State::Missing),
        (REVIEWER, false, false, State::Missing),
        ("person:maker", false, false, State::Missing),
    ] {
        let (mut log, base, plan) = decided();
        let approval = log.approve(if of_base { base } else { plan }, approver, 3_600);
        let intent = log.intend(2, if of_intent { base } else { plan }, approval);
        log.deleted(2, intent, GoneHow::Deleted);
        let case = format!("{approver} {of_base} {of_intent}");
        assert_eq!(states(&log)[1], (2, state), "{case}");
    }
    // Nor does it cover what was kept, or what is still held.
    for n in [3, 4, 5] {
        let (mut log, _, plan) = decided();
        let approval = log.approve(plan, "person:checker", 3_600);
        let intent = log.intend(n, plan, approval);
        log.deleted(n, intent, GoneHow::Deleted);
        assert!(states(&log).contains(&(n, State::Missing)), "{n}");
    }
}

#[test]
fn what_the_plan_below_covers_the_new_one_covers_too() {
    let (mut log, _, plan) = decided();
    let approval = log.approve(plan, "person:checker", 3_600);
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    assert_eq!(states(&log)[0], (1, State::Deleted));
}

#[test]
fn what_was_done_under_the_plan_below_stays_done() {
    let mut log = Log::default();
    let base = log.plan(run(0), &ITEMS);
    let approval = log.approve(base, "person:checker", 3_600);
    let intent = log.intend(1, base, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    log.overlay(run(1), base, &ITEMS, &[(2, Decision::Delete)], REVIEWER);
    assert_eq!(
        states(&log)[..2],
        [(1, State::Deleted), (2, State::Planned)]
    );
}

#[test]
fn what_was_held_at_the_moment_of_deletion_can_be_kept_and_not_deleted() {
    for (decision, sound) in [(Decision::Keep, true), (Decision::Delete, false)] {
        let mut log = Log::default();
        let base = log.plan(run(0), &ITEMS);
        let approval = log.approve(base, "person:checker", 3_600);
        let intent = log.intend(1, base, approval);
        log.failed(1, intent, NotGone::Changed);
        assert_eq!(states(&log)[0], (1, State::Held));
        log.overlay(run(1), base, &ITEMS, &[(1, decision)], REVIEWER);
        assert_eq!(unsound(&log), u64::from(!sound));
        let expected = if sound { State::Excluded } else { State::Held };
        assert_eq!(states(&log)[0], (1, expected));
    }
}

#[test]
fn decisions_can_follow_one_another_also_by_one_person() {
    let (mut log, _, plan) = decided();
    let items: Vec<_> = ITEMS
        .iter()
        .map(|(n, before)| match n {
            2 => (2, Delete),
            3 => (3, Protect),
            n => (*n, *before),
        })
        .collect();
    let newer = log.overlay(run(2), plan, &items, &[(5, Decision::Delete)], REVIEWER);
    assert_eq!(unsound(&log), 0);
    let custody: CustodyFold = log.fold();
    let makers: Vec<_> = custody.makers(newer).into_iter().collect();
    let makers: Vec<_> = makers.iter().map(Actor::as_str).collect();
    assert_eq!(makers, ["person:maker", REVIEWER]);
    let deletions: DeletionsFold = log.fold();
    assert_eq!(deletions.newest(plan), newer);
    for n in [1, 2, 5] {
        let mut log = Log(log.0.clone(), None);
        let approval = log.approve(newer, "person:checker", 3_600);
        let intent = log.intend(n, newer, approval);
        log.deleted(n, intent, GoneHow::Deleted);
        assert!(states(&log).contains(&(n, State::Deleted)), "{n}");
    }
}

#[test]
fn a_plan_that_its_decisions_do_not_make_of_the_one_below_is_nobodys() {
    type Tamper = fn(&mut Log, Hash) -> Hash;
    let cases: [(&str, Tamper); 8] = [
        ("by the maker", |log, base| {
            log.overlay(
                run(1),
                base,
                &ITEMS,
                &[(2, Decision::Delete)],
                "person:maker",
            )
        }),
        ("by a worker", |log, base| {
            log.overlay(
                run(1),
                base,
                &ITEMS,
                &[(2, Decision::Delete)],
                "worker:cleanup",
            )
        }),
        ("about what is protected", |log, base| {
            log.overlay(run(1), base, &ITEMS, &[(4, Decision::Delete)], REVIEWER)
        }),
        ("about an item of another plan", |log, base| {
            let items = [&ITEMS[..], &[(9, Hold)]].concat();
            log.overlay(run(1), base, &items, &[(9, Decision::Delete)], REVIEWER)
        }),
        ("of a plan that nobody sealed", |log, _| {
            let base = Hash::of(b"nobody");
            log.overlay(run(1), base, &ITEMS, &[(2, Decision::Delete)], REVIEWER)
        }),
        ("without a decision", |log, base| {
            log.found(2, Delete, run(1));
            seal(
                log,
                base,
                &[],
                &[(1, Delete), (2, Delete), (3, Hold), (4, Protect), (5, Hold)],
            )
        }),
        ("with a decision taken about another plan", |log, base| {
            let other = Hash::of(b"other");
            let decided = log.decided(2, Decision::Delete, other, REVIEWER, run(1));
            log.found(2, Delete, run(1));
            let items = [(1, Delete), (2, Delete), (3, Hold), (4, Protect), (5, Hold)];
            seal(log, base, &[decided], &items)
        }),
        ("with more than was decided", |log, base| {
            let decided = log.decided(2, Decision::Delete, base, REVIEWER, run(1));
            log.found(2, Delete, run(1));
            log.found(5, Delete, run(1));
            let items = [
                (1, Delete),
                (2, Delete),
                (3, Hold),
                (4, Protect),
                (5, Delete),
            ];
            seal(log, base, &[decided], &items)
        }),
    ];
    for (name, tamper) in cases {
        let mut log = Log::default();
        let base = log.plan(run(0), &ITEMS);
        let before = states(&log);
        let plan = tamper(&mut log, base);
        assert_eq!(unsound(&log), 1, "{name}");
        assert_eq!(states(&log), before, "{name}");
        let approval = log.approve(plan, "person:checker", 3_600);
        let intent = log.intend(2, plan, approval);
        log.deleted(2, intent, GoneHow::Deleted);
        assert_eq!(states(&log)[1], (2, State::Missing), "{name}");
    }
}

/// Seals these lines as what these decisions make of a plan.
fn seal(log: &mut Log, base: Hash, decisions: &[Decided], items: &[(u32, Disposition)]) -> Hash {
    let header = BTreeMap::from([
        (BASE.to_owned(), base.to_string()),
        (DECISIONS.to_owned(), digest(decisions).to_string()),
    ]);
    log.seal_as(run(1), header, items, REVIEWER)
}

#[test]
fn the_rules_name_what_is_wrong() {
    let (log, base, _) = decided();
    let decisions: Vec<Decided> = log
        .0
        .iter()
        .filter_map(|decoded| match &decoded.event {
            Ok(Event::ItemDecided(decided)) => Some(Decided::new(decoded, decided)),
            _ => None,
        })
        .collect();
    let sealed = log.0.iter().rev().find_map(|decoded| match &decoded.event {
        Ok(Event::PlanSealed(sealed)) => Some(sealed.clone()),
        _ => None,
    });
    let sealed = sealed.unwrap();
    let finders = BTreeSet::from(["person:maker".parse().unwrap()]);
    let all = lines(&ITEMS);
    let below = Below {
        plan: base,
        lines: &all,
        finders: &finders,
    };
    let again = lines(&[(2, Delete), (3, Protect)]);
    let whole = below.overlaid(&sealed, &again, &decisions).unwrap();
    let expected = [
        (1, Delete),
        (2, Delete),
        (3, Protect),
        (4, Protect),
        (5, Hold),
    ];
    assert_eq!(whole, lines(&expected));
    let with = |sealed: &PlanSealed, found: &[PlanItem]| below.overlaid(sealed, found, &decisions);

    let mut other = sealed.clone();
    other.header.insert(DECISIONS.to_owned(), String::new());
    assert!(matches!(
        with(&other, &again),
        Err(OverlayError::Digest { .. })
    ));
    assert_eq!(
        with(&sealed, &again[..1]),
        Err(OverlayError::Unpaired(item(3)))
    );
    let twice = [again[0].clone(), again[0].clone(), again[1].clone()];
    assert_eq!(with(&sealed, &twice), Err(OverlayError::Twice(item(2))));
    for changed in [
        PlanItem {
            version: "\"2\"".to_owned(),
            ..again[0].clone()
        },
        PlanItem {
            class: "OTHER".to_owned(),
            ..again[0].clone()
        },
        lines(&[(2, Protect)]).remove(0),
    ] {
        let found = [changed, again[1].clone()];
        assert_eq!(with(&sealed, &found), Err(OverlayError::Otherwise(item(2))));
    }
    let mut header = sealed;
    header.header.insert(BASE.to_owned(), "nothing".to_owned());
    assert_eq!(base_of(&header), Err(OverlayError::Base));
}

#[test]
fn a_decision_that_cannot_be_read_is_never_clean() {
    let (log, ..) = decided();
    for seq in 1..=log.0.len() {
        let kind = log.0[seq - 1].entry.event_type.to_string();
        if kind != "item.decided" && kind != "item.found" {
            continue;
        }
        for why in [Unreadable::Sealed, Unreadable::Damaged, Unreadable::Gone] {
            let mut log = Log(log.0.clone(), None);
            let subject = log.0[seq - 1].entry.subject.clone();
            log.spoil(seq, why);
            let custody: CustodyFold = log.fold();
            assert_eq!(custody.state(&subject), Some(State::Unaccounted), "{kind}");
            assert_eq!(custody.unreadable()[&why], 1, "{kind}");
            assert_eq!(unsound(&log), 0, "{kind}: it is said already");
            assert_eq!(custody.sums().total(), 5);
        }
    }
}

#[test]
fn an_erased_item_leaves_the_decisions_about_others_as_they_are() {
    let (mut log, _, plan) = decided();
    let approval = log.approve(plan, "person:checker", 3_600);
    for seq in 1..=log.0.len() {
        if log.0[seq - 1].entry.subject == item(3) {
            log.spoil(seq, Unreadable::Erased);
        }
    }
    log.erased(BTreeMap::from([(item(3), State::Excluded)]));
    let intent = log.intend(2, plan, approval);
    log.deleted(2, intent, GoneHow::Deleted);
    let expected = [(2, State::Deleted), (3, State::Excluded)];
    assert_eq!(states(&log)[1..3], expected);
    assert_eq!(unsound(&log), 0);
}

#[test]
fn decisions_without_a_seal_count_for_nothing() {
    let mut log = Log::default();
    let base = log.plan(run(0), &ITEMS);
    log.started("review", None, REVIEWER, run(1));
    log.decided(3, Decision::Keep, base, REVIEWER, run(1));
    log.add(
        Event::ItemFound(found(3, Protect)),
        item(3),
        REVIEWER,
        Some(run(1)),
    );
    assert_eq!(states(&log)[2], (3, State::Held));
    let review = log.fold::<DeletionsFold>();
    let review = review.review(&log.fold::<CustodyFold>(), &Part::default());
    let line = review
        .items
        .iter()
        .find(|line| line.subject == item(3).to_string());
    let line = line.unwrap();
    assert_eq!((line.plan, line.disposition), (Some(base), Some(Hold)));
    assert_eq!(line.decisions[0].plan, None);
}

#[test]
fn the_review_tells_the_decisions_and_the_plan_below() {
    let (log, base, plan) = decided();
    let fold: DeletionsFold = log.fold();
    let review = fold.review(&log.fold::<CustodyFold>(), &Part::default());
    assert_eq!(review.plans[1].base, Some(base));
    assert_eq!(review.total, 5);
    let line = |n: u32| {
        let mut lines = review.items.iter();
        lines
            .find(|line| line.subject == item(n).to_string())
            .unwrap()
    };
    assert_eq!(line(2).decisions[0].plan, Some(plan));
    assert_eq!(line(2).decisions[0].about, base);
    assert_eq!(line(2).decisions[0].by.as_str(), REVIEWER);
    assert_eq!(line(3).state, State::Excluded);
    assert_eq!(fold.last_find(&item(2)).unwrap().0, plan);
    assert_eq!(fold.last_find(&item(1)).unwrap().0, base);
    assert_eq!(fold.items_named("event2"), BTreeSet::from([item(2)]));
}

#[test]
fn a_statement_about_a_run_changes_with_what_happens_to_its_items_and_not_otherwise() {
    let (mut log, base, plan) = decided();
    let approval = log.approve(plan, "person:checker", 3_600);
    log.started("cleanup", Some(plan), "person:runner", run(9));
    let intent = log.intend(2, plan, approval);
    log.deleted(2, intent, GoneHow::Deleted);
    let statement = |log: &Log| {
        let fold: DeletionsFold = log.fold();
        fold.statement(run(9), &log.fold::<CustodyFold>()).unwrap()
    };
    let first = statement(&log);
    assert_eq!(first.sums.total(), 2, "also what it did not come to");
    insta::assert_json_snapshot!(first.document);
    // Another dry run finds it gone: it is where it was.
    log.plan(run(3), &[(2, Disposition::Done)]);
    assert_eq!(statement(&log).digest, first.digest);
    // Another plan, about others, is approved.
    let other = log.plan(run(4), &[(7, Delete)]);
    log.approve(other, "person:checker", 3_600);
    assert_eq!(statement(&log).digest, first.digest);
    log.erased(BTreeMap::from([(item(2), State::BackupErased)]));
    assert_ne!(statement(&log).digest, first.digest);
    let _ = base;
}

proptest! {
    /// Whatever a plan holds and whatever is decided about what is held: each item is in its one state, none is counted
    /// twice, and under an approval of the new plan exactly what it says may go.
    #[test]
    fn any_decisions_make_a_plan_that_accounts_for_every_item(
        dispositions in proptest::collection::vec(0_usize..3, 1..14),
        choices in proptest::collection::vec(0_usize..3, 14),
        executed in proptest::collection::vec(any::<bool>(), 14),
        below in any::<bool>(),
    ) {
        let items: Vec<(u32, Disposition)> = (1..)
            .zip(&dispositions)
            .map(|(n, which)| (n, [Delete, Hold, Protect][*which]))
            .collect();
        let decisions: Vec<(u32, Decision)> = items
            .iter()
            .zip(&choices)
            .filter(|((_, before), _)| *before == Hold)
            .filter_map(|((n, _), choice)| match choice {
                0 => Some((*n, Decision::Delete)),
                1 => Some((*n, Decision::Keep)),
                _ => None,
            })
            .collect();
        let mut log = Log::default();
        let base = log.plan(run(0), &items);
        let on_base = log.approve(base, "person:checker", 3_600);
        let plan = log.overlay(run(1), base, &items, &decisions, REVIEWER);
        let approval = log.approve(plan, "person:checker", 3_600);
        let decided: BTreeMap<u32, Decision> = decisions.into_iter().collect();
        let mut expected = BTreeMap::new();
        for ((n, before), go) in items.iter().zip(&executed) {
            let after = decided.get(n).map_or(*before, |decision| decision.disposition());
            let state = match (after, decided.get(n)) {
                (_, Some(Decision::Keep)) => State::Excluded,
                (Delete, _) => State::Planned,
                (Hold, _) => State::Held,
                _ => State::Protected,
            };
            expected.insert(*n, state);
            if !go {
                continue;
            }
            // Under the plan below only what that says may go.
            let (under, approval, allowed) = if below {
                (base, on_base, *before == Delete)
            } else {
                (plan, approval, after == Delete)
            };
            let intent = log.intend(*n, under, approval);
            log.deleted(*n, intent, GoneHow::Deleted);
            expected.insert(*n, if allowed { State::Deleted } else { State::Missing });
        }
        let custody: CustodyFold = log.fold();
        for (n, state) in &expected {
            prop_assert_eq!(custody.state(&item(*n)), Some(*state), "{}", n);
        }
        prop_assert_eq!(custody.sums().total(), items.len() as u64);
        prop_assert_eq!(custody.facts().remove(&Scope::Calendar).unwrap().sealed, Some(items.len() as u64));
        prop_assert_eq!(unsound(&log), 0);
    }
}
