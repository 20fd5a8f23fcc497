use proptest::prelude::*;

use super::super::verdict::Verdict;
use super::*;

use DeleteOutcome::{Adopted, AlreadyGone, Changed, Failed, GoneCauseUnknown, Unknown};
use Disposition::{Delete, Done, Hold, OutOfReach, Protect};
use Fact::{
    BackupErased, Compared, Excluded, Found, FoundBefore, Observed, RestoreEnded, RestoreIntended,
};

const INTENDED: Fact = Fact::DeleteIntended { approved: true };
const UNAPPROVED: Fact = Fact::DeleteIntended { approved: false };
const DELETED: Fact = ended(DeleteOutcome::Deleted { backup: true });
const GONE: Fact = Observed(Observation::Gone);
const CHANGED: Fact = Observed(Observation::Changed);
const SAME: Fact = Observed(Observation::Unchanged);

const fn ended(outcome: DeleteOutcome) -> Fact {
    Fact::DeleteEnded(outcome)
}

fn run(facts: &[Fact]) -> (State, usize) {
    let mut custody = Custody::new();
    for fact in facts {
        custody.apply(&"item", *fact);
    }
    (
        custody.get(&"item").unwrap().state(),
        custody.irregular().len(),
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table: a history a line")]
fn each_history_ends_in_its_state() {
    let plan = Found(Delete);
    let restored = RestoreEnded(RestoreOutcome::Restored);
    for (facts, state) in [
        (&[plan][..], State::Planned),
        (&[Found(Hold)], State::Held),
        (&[Found(Protect)], State::Protected),
        (&[Found(Done)], State::GoneBefore),
        (&[Found(OutOfReach)], State::OutOfReach),
        (&[plan, INTENDED], State::InFlight),
        (&[plan, INTENDED, DELETED], State::Deleted),
        (&[plan, INTENDED, ended(GoneCauseUnknown)], State::Deleted),
        (&[plan, INTENDED, ended(AlreadyGone)], State::GoneBefore),
        (&[plan, INTENDED, ended(Changed)], State::Held),
        (&[plan, INTENDED, ended(Adopted)], State::Held),
        (&[plan, INTENDED, ended(Failed)], State::Planned),
        (
            &[plan, INTENDED, ended(Failed), INTENDED, DELETED],
            State::Deleted,
        ),
        (&[plan, INTENDED, ended(Unknown)], State::InFlight),
        // Gone by our hand, but not as approved.
        (&[plan, UNAPPROVED, DELETED], State::Missing),
        (&[Found(Protect), INTENDED, DELETED], State::Missing),
        (
            &[Found(Hold), INTENDED, ended(GoneCauseUnknown)],
            State::Missing,
        ),
        (
            &[
                plan,
                INTENDED,
                ended(DeleteOutcome::Deleted { backup: false }),
            ],
            State::Missing,
        ),
        (&[INTENDED, DELETED], State::Missing),
        (&[plan, Excluded, INTENDED, DELETED], State::Missing),
        (
            &[Found(Protect), UNAPPROVED, ended(Failed)],
            State::Protected,
        ),
        (
            &[Found(Protect), UNAPPROVED, ended(Changed)],
            State::Protected,
        ),
        (
            &[Found(Protect), UNAPPROVED, ended(AlreadyGone)],
            State::ChangedSince,
        ),
        // Another plan that names the same item comes to it when it is gone by the first one.
        (
            &[plan, INTENDED, DELETED, INTENDED, ended(AlreadyGone)],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, INTENDED, ended(GoneCauseUnknown)],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, UNAPPROVED, ended(AlreadyGone)],
            State::Deleted,
        ),
        (
            &[
                plan,
                INTENDED,
                ended(GoneCauseUnknown),
                INTENDED,
                ended(AlreadyGone),
            ],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, INTENDED, ended(Unknown), GONE],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, INTENDED, ended(Unknown), CHANGED],
            State::Unaccounted,
        ),
        (
            &[plan, INTENDED, DELETED, INTENDED, ended(Failed)],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, INTENDED, DELETED],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, UNAPPROVED, DELETED],
            State::Missing,
        ),
        (
            &[plan, UNAPPROVED, DELETED, INTENDED, ended(AlreadyGone)],
            State::Missing,
        ),
        (
            &[
                plan,
                INTENDED,
                ended(AlreadyGone),
                INTENDED,
                ended(AlreadyGone),
            ],
            State::GoneBefore,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                RestoreIntended,
                restored,
                INTENDED,
                ended(AlreadyGone),
            ],
            State::ChangedSince,
        ),
        // Unknown outcomes and what resolves them.
        (&[plan, INTENDED, ended(Unknown), GONE], State::Deleted),
        (&[plan, INTENDED, ended(Unknown), SAME], State::Planned),
        (
            &[plan, INTENDED, ended(Unknown), INTENDED, ended(AlreadyGone)],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, ended(Unknown), INTENDED, ended(Failed)],
            State::InFlight,
        ),
        (
            &[
                plan,
                INTENDED,
                ended(Unknown),
                INTENDED,
                ended(Failed),
                GONE,
            ],
            State::Deleted,
        ),
        (
            &[
                plan,
                UNAPPROVED,
                ended(Unknown),
                INTENDED,
                ended(AlreadyGone),
            ],
            State::Missing,
        ),
        (
            &[plan, INTENDED, ended(Unknown), Found(Done)],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, ended(Unknown), Found(OutOfReach)],
            State::InFlight,
        ),
        (&[plan, INTENDED, GONE, Found(Done)], State::InFlight),
        // Restoring.
        (&[plan, INTENDED, DELETED, RestoreIntended], State::InFlight),
        (
            &[plan, INTENDED, DELETED, RestoreIntended, restored],
            State::Restored,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                RestoreIntended,
                RestoreEnded(RestoreOutcome::Failed),
            ],
            State::Deleted,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                RestoreIntended,
                RestoreEnded(RestoreOutcome::Unknown),
                SAME,
            ],
            State::Restored,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                RestoreIntended,
                RestoreEnded(RestoreOutcome::Unknown),
                GONE,
            ],
            State::Deleted,
        ),
        (
            &[Found(Protect), INTENDED, DELETED, RestoreIntended, restored],
            State::Restored,
        ),
        (
            &[plan, INTENDED, DELETED, RestoreIntended, restored, GONE],
            State::ChangedSince,
        ),
        // Looked at again.
        (&[plan, GONE], State::GoneBefore),
        (&[plan, CHANGED], State::Planned),
        (&[Found(Protect), SAME], State::Protected),
        (&[Found(Protect), CHANGED], State::ChangedSince),
        (&[Found(Hold), GONE], State::ChangedSince),
        (&[Found(Done), SAME], State::ChangedSince),
        (&[Found(Done), GONE], State::GoneBefore),
        (&[Found(OutOfReach), GONE], State::OutOfReach),
        (&[plan, INTENDED, DELETED, GONE], State::Deleted),
        (&[plan, INTENDED, DELETED, SAME], State::Unaccounted),
        // Found again by a later dry run.
        (&[plan, INTENDED, DELETED, Found(Done)], State::Deleted),
        (
            &[plan, INTENDED, DELETED, Found(OutOfReach)],
            State::Deleted,
        ),
        // There again although it was deleted, whatever a plan is to do with it now.
        (
            &[plan, INTENDED, DELETED, Found(Delete)],
            State::Unaccounted,
        ),
        (&[plan, INTENDED, DELETED, Found(Hold)], State::Unaccounted),
        (
            &[plan, INTENDED, DELETED, Found(Protect)],
            State::Unaccounted,
        ),
        (
            &[plan, UNAPPROVED, DELETED, Found(Delete)],
            State::Unaccounted,
        ),
        (
            &[plan, INTENDED, DELETED, SAME, Found(Delete)],
            State::Unaccounted,
        ),
        (
            &[plan, INTENDED, DELETED, INTENDED, ended(Changed)],
            State::Unaccounted,
        ),
        (
            &[plan, INTENDED, DELETED, Found(Delete), Excluded],
            State::Excluded,
        ),
        // It goes again by a plan that found it so, and by no other.
        (
            &[plan, INTENDED, DELETED, Found(Delete), INTENDED, DELETED],
            State::Deleted,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                Found(Delete),
                INTENDED,
                ended(Failed),
                INTENDED,
                DELETED,
            ],
            State::Deleted,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                Found(Delete),
                INTENDED,
                ended(GoneCauseUnknown),
            ],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, Found(Delete), UNAPPROVED, DELETED],
            State::Missing,
        ),
        (
            &[plan, INTENDED, DELETED, Found(Hold), INTENDED, DELETED],
            State::Missing,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                Found(Hold),
                Found(Delete),
                INTENDED,
                DELETED,
            ],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, SAME, INTENDED, DELETED],
            State::Missing,
        ),
        // Gone again, and not by us: what we did stays what it was.
        (&[plan, INTENDED, DELETED, SAME, GONE], State::Deleted),
        (
            &[plan, INTENDED, DELETED, Found(Delete), Found(Done)],
            State::Deleted,
        ),
        (
            &[plan, UNAPPROVED, DELETED, Found(Delete), Found(Done)],
            State::Missing,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                Found(Delete),
                INTENDED,
                ended(AlreadyGone),
            ],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, SAME, RestoreIntended, restored],
            State::Restored,
        ),
        // A dry run that had looked before says nothing of what we did meanwhile.
        (&[FoundBefore(Delete)], State::Planned),
        (
            &[plan, INTENDED, FoundBefore(Delete), DELETED],
            State::Deleted,
        ),
        (
            &[plan, INTENDED, DELETED, FoundBefore(Delete)],
            State::Deleted,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                FoundBefore(Delete),
                INTENDED,
                ended(AlreadyGone),
            ],
            State::Deleted,
        ),
        (
            &[
                plan,
                INTENDED,
                DELETED,
                RestoreIntended,
                restored,
                FoundBefore(Done),
            ],
            State::Restored,
        ),
        (&[plan, Found(Hold)], State::Held),
        (&[Found(Hold), Found(Done)], State::ChangedSince),
        (
            &[Found(OutOfReach), Found(Delete), INTENDED, DELETED],
            State::Deleted,
        ),
        (&[Found(Hold), Excluded, Found(Delete)], State::Excluded),
        // Backups.
        (
            &[plan, INTENDED, DELETED, BackupErased],
            State::BackupErased,
        ),
        (
            &[plan, INTENDED, BackupErased, DELETED],
            State::BackupErased,
        ),
        (&[Found(Protect), BackupErased], State::Protected),
    ] {
        assert_eq!(run(facts), (state, 0), "{facts:?}");
    }
}

#[test]
fn each_difference_leads_to_its_state_and_can_be_compared_again() {
    for (difference, state) in [
        (Difference::Equal, State::Verified),
        (Difference::DefaultApplied, State::DefaultApplied),
        (Difference::Lost, State::Missing),
        (Difference::Resurrected, State::Resurrected),
        (Difference::Altered, State::Altered),
        (Difference::ChangedSince, State::ChangedSince),
        (Difference::LateWrite, State::LateWrite),
        (Difference::Duplicate, State::Duplicate),
        (Difference::Unreadable, State::Unreadable),
    ] {
        assert_eq!(run(&[Compared(difference)]), (state, 0));
        assert_eq!(
            run(&[Compared(Difference::Equal), Compared(difference)]),
            (state, 0)
        );
        let mended = [Compared(difference), Compared(Difference::Equal)];
        assert_eq!(run(&mended), (State::Verified, 0), "{difference:?}");
        let decided = [Compared(difference), Excluded, Compared(Difference::Lost)];
        assert_eq!(run(&decided), (State::Excluded, 0));
    }
}

#[test]
fn what_cannot_follow_is_unaccounted_and_named() {
    for facts in [
        &[DELETED][..],
        &[SAME],
        &[BackupErased],
        &[Found(Delete), DELETED],
        &[Found(Delete), INTENDED, INTENDED],
        &[Found(Delete), INTENDED, DELETED, DELETED],
        &[
            Found(Delete),
            INTENDED,
            RestoreEnded(RestoreOutcome::Restored),
        ],
        &[Found(Delete), INTENDED, Excluded],
        &[Found(Delete), INTENDED, DELETED, Excluded],
        &[Found(Protect), RestoreIntended],
        &[Found(Protect), Compared(Difference::Equal)],
        &[Compared(Difference::Equal), Found(Delete)],
    ] {
        assert_eq!(run(facts), (State::Unaccounted, 1), "{facts:?}");
    }
    let illegal = fold(Some(Item::new(State::Planned)), DELETED).unwrap_err();
    assert!(
        illegal.to_string().contains("cannot follow Planned"),
        "{illegal}"
    );
}

#[test]
fn effects_are_those_of_the_table() {
    for state in State::ALL {
        let effect = state.effect();
        let (verdict, complete) = match state {
            State::LateWrite | State::Altered | State::Resurrected | State::Missing => {
                (Verdict::Lost, false)
            }
            State::InFlight | State::Duplicate | State::Unreadable | State::Unaccounted => {
                (Verdict::Unknown, false)
            }
            State::Planned | State::Held | State::OutOfReach => (Verdict::None, false),
            _ => (Verdict::None, true),
        };
        assert_eq!(
            (effect.verdict, effect.complete),
            (verdict, complete),
            "{state:?}"
        );
    }
    assert!(State::ChangedSince.effect().listed);
    let names: Vec<String> = State::ALL
        .iter()
        .map(|state| serde_json::to_string(state).unwrap())
        .collect();
    assert_eq!(names[0], "\"verified\"");
    assert_eq!(names[18], "\"backup_erased\"");
}

#[test]
fn sums_are_made_to_add_up_to_the_seal() {
    let mut sums = Sums::new();
    sums.add(State::Held, 2);
    sums.moved(None, State::Planned);
    sums.moved(Some(State::Planned), State::Deleted);
    assert_eq!(
        serde_json::to_string(&sums).unwrap(),
        r#"{"deleted":1,"held":2}"#
    );
    let (balanced, beyond) = sums.balanced(5);
    assert_eq!(
        (balanced.get(State::Unaccounted), balanced.total(), beyond),
        (2, 5, 0)
    );
    let (same, beyond) = sums.balanced(1);
    assert_eq!((same, beyond), (sums, 2));
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let dispositions = proptest::sample::select(Disposition::ALL.to_vec());
    let outcomes = proptest::sample::select(vec![
        DeleteOutcome::Deleted { backup: true },
        DeleteOutcome::Deleted { backup: false },
        AlreadyGone,
        GoneCauseUnknown,
        Changed,
        Adopted,
        Failed,
        Unknown,
    ]);
    let others = proptest::sample::select(vec![
        INTENDED,
        UNAPPROVED,
        Excluded,
        RestoreIntended,
        RestoreEnded(RestoreOutcome::Restored),
        RestoreEnded(RestoreOutcome::Failed),
        RestoreEnded(RestoreOutcome::Unknown),
        SAME,
        CHANGED,
        GONE,
        BackupErased,
        Compared(Difference::Equal),
        Compared(Difference::Lost),
    ]);
    prop_oneof![
        dispositions.clone().prop_map(Found),
        dispositions.prop_map(FoundBefore),
        outcomes.prop_map(Fact::DeleteEnded),
        others
    ]
}

proptest! {
    #[test]
    fn any_history_leaves_each_item_in_one_state_and_the_sums_add_up(
        facts in proptest::collection::vec((0_u8..4, any_fact()), 0..40)
    ) {
        let mut custody = Custody::new();
        for (key, fact) in &facts {
            custody.apply(key, *fact);
        }
        let mut counted = Sums::new();
        for (_, item) in custody.iter() {
            counted.moved(None, item.state());
            // An open intent always shows; nothing else hides behind it.
            prop_assert!(!item.is_open() || item.state() == State::InFlight);
            prop_assert!(item.state() != State::InFlight || item.is_open() || item.unresolved.is_some());
        }
        prop_assert_eq!(&counted, custody.sums());
        let keys: std::collections::BTreeSet<u8> = facts.iter().map(|(key, _)| *key).collect();
        prop_assert_eq!(custody.sums().total(), keys.len() as u64);
    }

    #[test]
    fn nothing_counts_as_deleted_without_an_approved_intent(
        facts in proptest::collection::vec(any_fact(), 0..20)
    ) {
        let facts: Vec<Fact> = facts.into_iter().filter(|fact| *fact != INTENDED).collect();
        let mut custody = Custody::new();
        for fact in facts {
            let state = custody.apply(&(), fact);
            prop_assert!(state != State::Deleted && state != State::BackupErased);
        }
    }

    #[test]
    fn a_stored_item_goes_on_as_the_one_in_memory(facts in proptest::collection::vec(any_fact(), 0..20)) {
        let mut item = None;
        for fact in facts {
            let stored: Option<Item> =
                serde_json::from_str(&serde_json::to_string(&item).unwrap()).unwrap();
            prop_assert_eq!(fold(item, fact), fold(stored, fact));
            item = fold(item, fact).ok().or(item);
        }
    }
}

#[test]
fn an_erased_item_stands_where_the_erasure_found_it_whatever_was_known() {
    let planned = fold(None, Found(Delete)).unwrap();
    let open = fold(Some(planned), INTENDED).unwrap();
    let deleted = fold(Some(open), DELETED).unwrap();
    for known in [None, Some(planned), Some(open), Some(deleted)] {
        for state in State::ALL {
            let item = fold(known, Fact::Erased(state)).unwrap();
            let expected = match state {
                State::Deleted => State::BackupErased,
                other => other,
            };
            assert_eq!((item.state(), item.is_open()), (expected, false));
        }
    }
    let erased = fold(None, Fact::Erased(State::Deleted)).unwrap();
    let there = fold(Some(erased), Observed(Observation::Changed)).unwrap();
    assert_eq!(there.state(), State::Unaccounted);
}
