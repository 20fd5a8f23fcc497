use proptest::prelude::*;

use super::super::testing::{Log, body, item, run};
use super::*;
use crate::domain::event::{ItemObserved, RunFinished};
use crate::domain::id::Timestamp;
use crate::domain::verdict::{AsOf, Inputs, LossAnswer, UnknownReason, Verdict, judge};

fn judged(log: &Log) -> LossAnswer {
    judged_in(log, Scope::Calendar)
}

fn judged_in(log: &Log, scope: Scope) -> LossAnswer {
    let custody: CustodyFold = log.fold();
    judge(Inputs {
        as_of: AsOf {
            seq: log.0.len() as u64,
            recorded_at: log.now().instant(),
        },
        anchored: None,
        scopes: custody.facts(),
        lost: custody.lost(),
        guards_on: true,
        log_intact: true,
        evidence: custody.evidence(),
    })
    .only(&[scope])
}

fn reasons(answer: &LossAnswer) -> Vec<UnknownReason> {
    let reasons = answer.unknown.iter().map(|unknown| unknown.reason);
    reasons.collect()
}

fn finished(log: &mut Log) {
    let event = Event::RunFinished(RunFinished {
        status: "complete".to_owned(),
        totals: BTreeMap::new(),
    });
    let subject = Subject::new("run", run(9).uuid()).unwrap();
    log.add(event, subject, "worker:cleanup", Some(run(9)));
}

fn observed(log: &mut Log, n: u32, observation: Observation) {
    let event = Event::ItemObserved(ItemObserved {
        run: run(9),
        observation,
        explained: false,
        version: None,
    });
    log.add(event, item(n), "worker:cleanup", Some(run(9)));
}

fn hold(log: &mut Log, n: u32, plan: Hash, cause: &str) {
    let event = Event::ItemHeld(ItemHeld {
        plan,
        cause: cause.to_owned(),
        reason: "it changed".to_owned(),
    });
    log.add(event, item(n), "worker:cleanup", Some(run(9)));
}

/// A plan of two deletions, a hold and a protection, approved and not yet executed.
fn approved() -> (Log, Hash, EntryId) {
    use Disposition::{Delete, Hold, Protect};
    let mut log = Log::default();
    let items = [(1, Delete), (2, Delete), (3, Hold), (4, Protect)];
    log.listed("plan");
    let plan = log.plan(run(0), &items);
    let approval = log.approve(plan, "person:checker", 3_600);
    (log, plan, approval)
}

fn executed() -> (Log, Hash, EntryId) {
    let (mut log, plan, approval) = approved();
    for n in [1, 2] {
        let intent = log.intend(n, plan, approval);
        log.deleted(n, intent, GoneHow::Deleted);
    }
    (log, plan, approval)
}

#[test]
fn a_clean_run_that_was_looked_at_afterwards_lost_nothing() {
    let (mut log, ..) = executed();
    let before_the_look = judged(&log);
    assert_eq!(before_the_look.verdict, Verdict::Unknown);
    assert_eq!(reasons(&before_the_look), [UnknownReason::StaleObservation]);
    log.listed("after");
    finished(&mut log);
    let answer = judged(&log);
    assert_eq!((answer.verdict, answer.complete), (Verdict::None, false));
    assert_eq!(
        serde_json::to_value(&answer.sum).unwrap(),
        serde_json::json!({"deleted": 2, "held": 1, "protected": 1})
    );
    let evidence: Vec<_> = answer
        .evidence
        .iter()
        .map(|entry| entry.kind.as_str())
        .collect();
    assert_eq!(evidence, ["plan.sealed", "plan.approved", "run.finished"]);
}

#[test]
fn without_a_sealed_plan_nothing_is_known() {
    assert!(Log::default().fold::<CustodyFold>().facts().is_empty());
    let mut log = Log::default();
    log.started("dry_run", None, "person:maker", run(0));
    log.found(1, Disposition::Protect, run(0));
    log.listed("plan");
    let answer = judged(&log);
    assert_eq!(answer.verdict, Verdict::Unknown);
    assert!(reasons(&answer).contains(&UnknownReason::UnsealedInventory));
    assert_eq!(
        answer.sum.get(State::Protected),
        1,
        "shown as far as it came"
    );
    // Another one that was sealed makes up for it.
    log.plan(run(1), &[(1, Disposition::Protect), (2, Disposition::Done)]);
    assert_eq!(judged(&log).verdict, Verdict::None);
}

#[test]
fn a_seal_that_counts_other_items_than_the_log_holds_is_unknown() {
    for (counted, reason, unaccounted) in [
        (3, UnknownReason::Unaccounted, 1),
        (1, UnknownReason::BeyondInventory, 0),
    ] {
        let mut log = Log::default();
        let items = [(1, Disposition::Protect), (2, Disposition::Done)];
        log.listed("plan");
        for (n, disposition) in items {
            log.found(n, disposition, run(0));
        }
        log.seal(run(0), &items, counted);
        let answer = judged(&log);
        assert_eq!(reasons(&answer), [reason]);
        assert_eq!(answer.verdict, Verdict::Unknown);
        assert_eq!(answer.sum.get(State::Unaccounted), unaccounted);
    }
}

#[test]
fn items_that_do_not_give_the_sealed_hash_are_nobodys_approval() {
    let mut log = Log::default();
    log.listed("plan");
    log.found(1, Disposition::Delete, run(0));
    let plan = log.seal(run(0), &[(2, Disposition::Delete)], 1);
    assert_eq!(reasons(&judged(&log)), [UnknownReason::PlanNotAsSealed]);
    let approval = log.approve(plan, "person:checker", 3_600);
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    assert_eq!(judged(&log).verdict, Verdict::Lost);
}

type Approve = fn(&mut Log, Hash) -> EntryId;

#[test]
fn what_is_deleted_without_a_sound_approval_is_lost_and_named() {
    let stranger = EntryId::new(uuid::Uuid::from_u128(1));
    let cases: [(&str, Approve); 5] = [
        ("none", |_, _| EntryId::new(uuid::Uuid::from_u128(1))),
        ("the maker's own", |log, plan| {
            log.approve(plan, "person:maker", 3_600)
        }),
        ("a worker's", |log, plan| {
            log.approve(plan, "worker:cleanup", 3_600)
        }),
        ("lapsed", |log, plan| log.approve(plan, "person:checker", 1)),
        ("of another plan", |log, _| {
            let other = log.plan(run(5), &[(9, Disposition::Delete)]);
            log.approve(other, "person:checker", 3_600)
        }),
    ];
    for (name, approve) in cases {
        let mut log = Log::default();
        let plan = log.plan(run(0), &[(1, Disposition::Delete)]);
        let approval = approve(&mut log, plan);
        let intent = log.intend(1, plan, approval);
        log.deleted(1, intent, GoneHow::Deleted);
        log.listed("after");
        let answer = judged(&log);
        assert_eq!(answer.verdict, Verdict::Lost, "{name}");
        let [lost] = answer.lost.as_slice() else {
            panic!("{name}: {:?}", answer.lost);
        };
        assert_eq!(lost.subject, item(1).to_string(), "{name}");
        let backup = format!("the backup in entry {}", log.0.len() - 2);
        assert_eq!(lost.restore.as_deref(), Some(backup.as_str()), "{name}");
        assert!(answer.evidence.iter().any(|entry| entry.seq == lost.seq));
    }
    // Nor may what the plan protects, or does not name, be deleted under its approval.
    for n in [3, 4, 77] {
        let (mut log, plan, approval) = approved();
        assert_ne!(approval, stranger);
        let intent = log.intend(n, plan, approval);
        log.deleted(n, intent, GoneHow::Deleted);
        assert_eq!(judged(&log).verdict, Verdict::Lost, "{n}");
    }
}

#[test]
fn a_deletion_without_a_true_backup_is_lost() {
    let (mut log, plan, approval) = approved();
    let mut altered = body("whole");
    altered.sha256 = Hash::of(b"other");
    let intent = log.intend_with(1, plan, approval, altered);
    log.deleted(1, intent, GoneHow::GoneCauseUnknown);
    let answer = judged(&log);
    assert_eq!(answer.verdict, Verdict::Lost);
    assert_eq!(answer.lost[0].restore, None);
}

#[test]
fn an_open_intent_or_an_outcome_of_another_one_is_never_none() {
    let (mut log, plan, approval) = approved();
    let intent = log.intend(1, plan, approval);
    log.listed("after");
    let answer = judged(&log);
    assert_eq!(reasons(&answer), [UnknownReason::OpenIntents]);
    let open = log.0.len() as u64 - 1;
    assert!(answer.evidence.iter().any(|entry| entry.seq == open));

    log.deleted(1, EntryId::new(uuid::Uuid::from_u128(3)), GoneHow::Deleted);
    log.listed("after");
    assert_eq!(reasons(&judged(&log)), [UnknownReason::Unaccounted]);
    log.deleted(1, intent, GoneHow::Deleted);
    log.listed("after");
    assert_eq!(
        judged(&log).verdict,
        Verdict::Unknown,
        "exactly one outcome per intent"
    );
}

#[test]
fn whatever_cannot_be_read_is_unknown_and_counted() {
    let (mut log, ..) = executed();
    log.listed("after");
    assert_eq!(judged(&log).verdict, Verdict::None);
    for seq in 1..=log.0.len() {
        for why in [Unreadable::Sealed, Unreadable::Damaged, Unreadable::Gone] {
            let (mut log, ..) = executed();
            log.listed("after");
            let kind = log.0[seq - 1].entry.event_type.to_string();
            log.spoil(seq, why);
            let custody: CustodyFold = log.fold();
            let answer = judged(&log);
            match kind.as_str() {
                // Entries that no state rests on: who started is on the envelope.
                "run.started" => assert_eq!(answer.verdict, Verdict::None, "{kind}"),
                "container.listed" if seq == 1 => {
                    assert_eq!(answer.verdict, Verdict::None, "it was looked at again");
                }
                "container.listed" => {
                    assert_eq!(reasons(&answer), [UnknownReason::StaleObservation]);
                }
                _ => {
                    assert_eq!(answer.verdict, Verdict::Unknown, "{kind}");
                    assert_eq!(custody.unreadable()[&why], 1, "{kind}");
                    assert!(reasons(&answer).contains(&UnknownReason::UnreadableEntries));
                }
            }
        }
    }
}

#[test]
fn an_entry_of_a_newer_program_about_an_item_is_unknown() {
    let (mut log, ..) = executed();
    log.listed("after");
    let event = Event::decode("item.teleported", 1, "{}").unwrap();
    log.add(event, item(4), "worker:cleanup", None);
    assert_eq!(
        reasons(&judged(&log)),
        [UnknownReason::Unaccounted, UnknownReason::UnreadableEntries]
    );
}

#[test]
fn each_place_is_held_against_our_own_changes_to_it() {
    let (mut log, plan, approval) = approved();
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::AlreadyGone);
    assert_eq!(
        judged(&log).verdict,
        Verdict::None,
        "nothing of ours happened"
    );
    let intent = log.intend(2, plan, approval);
    log.failed(2, intent, NotGone::Unknown);
    observed(&mut log, 2, Observation::Gone);
    assert_eq!(reasons(&judged(&log)), [UnknownReason::StaleObservation]);
    log.listed("observe");
    assert_eq!(judged(&log).verdict, Verdict::None);
}

/// What may become of an item that is to be deleted, and where it is then.
#[derive(Debug, Clone, Copy)]
enum Story {
    Nothing,
    Deleted,
    NoBackup,
    NotApproved,
    Open,
    Failed,
    Retried,
    Adopted,
    Changed,
    AlreadyGone,
    Unknown,
    UnknownThenGone,
    UnknownThenThere,
    Held,
    HeldGone,
}

impl Story {
    const ALL: [(Self, State); 15] = [
        (Self::Nothing, State::Planned),
        (Self::Deleted, State::Deleted),
        (Self::NoBackup, State::Missing),
        (Self::NotApproved, State::Missing),
        (Self::Open, State::InFlight),
        (Self::Failed, State::Planned),
        (Self::Retried, State::Deleted),
        (Self::Adopted, State::Held),
        (Self::Changed, State::Held),
        (Self::AlreadyGone, State::GoneBefore),
        (Self::Unknown, State::InFlight),
        (Self::UnknownThenGone, State::Deleted),
        (Self::UnknownThenThere, State::Planned),
        (Self::Held, State::Held),
        (Self::HeldGone, State::GoneBefore),
    ];

    /// Writes the step-th entry of the story; false where it is over.
    fn tell(self, log: &mut Log, step: usize, n: u32, plan: Hash, approval: EntryId) -> bool {
        let nobody = EntryId::new(uuid::Uuid::from_u128(1));
        let intent = |log: &Log| {
            let mine = |decoded: &&Decoded| {
                decoded.entry.subject == item(n)
                    && decoded.entry.event_type.as_str() == "item.delete_intended"
            };
            log.0.iter().rev().find(mine).unwrap().entry.id
        };
        match (self, step) {
            (Self::Held, 0) => hold(log, n, plan, "changed"),
            (Self::HeldGone, 0) => hold(log, n, plan, "gone"),
            (Self::Nothing | Self::Held | Self::HeldGone, _) => return false,
            (Self::NotApproved, 0) => drop(log.intend(n, plan, nobody)),
            (Self::NoBackup, 0) => {
                let mut other = body("whole");
                other.base64.clear();
                log.intend_with(n, plan, approval, other);
            }
            (_, 0) | (Self::Retried, 2) => drop(log.intend(n, plan, approval)),
            (Self::Deleted | Self::NoBackup | Self::NotApproved, 1) | (Self::Retried, 3) => {
                let intent = intent(log);
                log.deleted(n, intent, GoneHow::Deleted);
            }
            (Self::AlreadyGone, 1) => {
                let intent = intent(log);
                log.deleted(n, intent, GoneHow::AlreadyGone);
            }
            (Self::UnknownThenGone, 2) => observed(log, n, Observation::Gone),
            (Self::UnknownThenThere, 2) => observed(log, n, Observation::Unchanged),
            (story, 1) => {
                let outcome = match story {
                    Self::Failed | Self::Retried => NotGone::Failed,
                    Self::Adopted => NotGone::Adopted,
                    Self::Changed => NotGone::Changed,
                    Self::Unknown | Self::UnknownThenGone | Self::UnknownThenThere => {
                        NotGone::Unknown
                    }
                    _ => return false,
                };
                let intent = intent(log);
                log.failed(n, intent, outcome);
            }
            _ => return false,
        }
        true
    }
}

proptest! {
    #[test]
    fn any_order_of_the_stories_gives_each_item_its_one_state(
        stories in proptest::collection::vec(0_usize..15, 1..12),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let mut log = Log::default();
        let numbers = || 1..=u32::try_from(stories.len()).unwrap();
        let items: Vec<_> = numbers().map(|n| (n, Disposition::Delete)).collect();
        log.listed("plan");
        let plan = log.plan(run(0), &items);
        let approval = log.approve(plan, "person:checker", 3_600);
        let mut steps: Vec<(u32, usize, usize)> =
            numbers().zip(&stories).map(|(n, story)| (n, *story, 0)).collect();
        let mut order = order.iter().cycle();
        while !steps.is_empty() {
            let at = order.next().unwrap().index(steps.len());
            let (n, story, step) = steps[at];
            if Story::ALL[story].0.tell(&mut log, step, n, plan, approval) {
                steps[at].2 += 1;
            } else {
                steps.swap_remove(at);
            }
        }
        log.listed("after");
        let custody: CustodyFold = log.fold();
        let mut worst = Verdict::None;
        for (n, story) in numbers().zip(&stories) {
            let (story, state) = Story::ALL[*story];
            prop_assert_eq!(custody.state(&item(n)), Some(state), "{:?}", story);
            worst = worst.max(state.effect().verdict);
        }
        let answer = judged(&log);
        prop_assert_eq!(answer.sum.total(), stories.len() as u64);
        prop_assert_eq!(answer.verdict, worst);
    }

    #[test]
    fn no_sequence_whatever_panics_or_says_none_while_something_is_open(
        choices in proptest::collection::vec((0_u8..10, 1_u32..4, any::<prop::sample::Index>()), 0..40),
    ) {
        let (mut log, plan, approval) = approved();
        let mut intents = vec![EntryId::new(uuid::Uuid::from_u128(1))];
        for (choice, n, which) in choices {
            let intent = *which.get(&intents);
            match choice {
                0 | 1 => intents.push(log.intend(n, plan, approval)),
                2 => log.deleted(n, intent, GoneHow::Deleted),
                3 => log.deleted(n, intent, GoneHow::AlreadyGone),
                4 => log.failed(n, intent, NotGone::Failed),
                5 => log.failed(n, intent, NotGone::Unknown),
                6 => observed(&mut log, n, Observation::Gone),
                7 => observed(&mut log, n, Observation::Changed),
                8 => hold(&mut log, n, plan, "changed"),
                _ => drop(log.plan(run(u32::try_from(100 + log.0.len()).unwrap()), &[(n, Disposition::Delete)])),
            }
        }
        log.listed("after");
        let custody: CustodyFold = log.fold();
        let sums = custody.sums();
        prop_assert_eq!(sums.total(), 4);
        let open = custody.traces.values().any(|trace| trace.open.is_some());
        let answer = judged(&log);
        prop_assert!(!open || answer.verdict != Verdict::None);
        prop_assert_eq!(answer.sum.total(), 4);
        prop_assert!(log.now() >= Timestamp::EPOCH);
    }
}

#[test]
fn what_was_erased_stands_where_its_erasure_says_and_casts_no_doubt() {
    let (before, ..) = executed();
    let custody: CustodyFold = before.fold();
    let items: BTreeMap<Subject, State> = custody
        .subjects()
        .into_iter()
        .map(|subject| (subject.clone(), custody.state(subject).unwrap()))
        .collect();
    let deleted = items.values().filter(|state| **state == State::Deleted);
    let deleted = deleted.count() as u64;
    assert!(deleted > 0);

    let (mut log, plan, _) = executed();
    log.started("cleanup", Some(plan), "worker:cleanup", run(9));
    log.listed("after");
    for seq in 1..=log.0.len() {
        let kind = log.0[seq - 1].entry.event_type.to_string();
        if kind.starts_with("item.") {
            log.spoil(seq, Unreadable::Erased);
        }
    }
    // Until the entry of the erasure, what they said is not known.
    assert_eq!(judged(&log).verdict, Verdict::Unknown);
    log.erased(items.clone());
    let custody: CustodyFold = log.fold();
    assert!(custody.unreadable().is_empty());
    let answer = judged(&log);
    assert_eq!(answer.verdict, Verdict::None, "{:?}", reasons(&answer));
    assert_eq!(answer.sum.get(State::BackupErased), deleted);
    assert_eq!(answer.sum.total(), items.len() as u64);

    // A loss stays one.
    let lost = items
        .keys()
        .map(|subject| (subject.clone(), State::Missing));
    log.erased(lost.collect());
    assert_eq!(judged(&log).verdict, Verdict::Lost);
}

#[test]
fn items_of_any_kind_are_accounted_for_in_their_own_scope() {
    let mut log = Log(Vec::new(), Some("s3-object"));
    let items = [(1, Disposition::Delete), (2, Disposition::Protect)];
    let plan = log.plan(run(0), &items);
    let approval = log.approve(plan, "person:checker", 3_600);
    log.started("cleanup", Some(plan), "worker:cleanup", run(9));
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    let unseen = judged_in(&log, Scope::Files);
    assert_eq!(reasons(&unseen), [UnknownReason::NeverObserved]);
    assert_eq!(unseen.unknown[0].side.as_deref(), Some("s3-object"));

    log.listed("after");
    let answer = judged_in(&log, Scope::Files);
    assert_eq!(answer.verdict, Verdict::None, "{:?}", reasons(&answer));
    assert!(answer.complete);
    assert_eq!(answer.scopes[&Scope::Files].sealed, Some(2));
    assert_eq!(answer.sum.get(State::Deleted), 1);
    assert_eq!(answer.sum.get(State::Protected), 1);
    // Nobody looked at calendars for that.
    assert_eq!(
        reasons(&judged(&log)),
        [UnknownReason::NeverLookedAt],
        "another scope"
    );

    // Of calendar events in the same log one is lost, and none of these.
    log.1 = None;
    let other = log.plan(run(1), &[(7, Disposition::Delete)]);
    let approval = log.approve(other, "person:checker", 3_600);
    let mut untrue = body("whole");
    untrue.sha256 = Hash::ZERO;
    let intent = log.intend_with(7, other, approval, untrue);
    log.deleted(7, intent, GoneHow::Deleted);
    assert_eq!(judged(&log).verdict, Verdict::Lost);
    assert_eq!(judged_in(&log, Scope::Files).verdict, Verdict::None);
}

/// A user as a dry run found them.
fn user_found(log: &mut Log, n: u128, access: &str, had_token: bool, of: RunId) {
    let event = Event::UserFound(UserFound {
        email: Some("kim@example.com".to_owned()),
        access: access.to_owned(),
        reason: String::new(),
        soft_deleted: false,
        recorded: 0,
        token_fingerprint: had_token.then(|| "aa".to_owned()),
        account: None,
    });
    let user = Subject::new("user", uuid::Uuid::from_u128(n)).unwrap();
    log.add(event, user, "person:maker", Some(of));
}

#[test]
fn a_user_who_could_not_be_reached_is_work_that_remains() {
    let mut log = Log::default();
    let items = [(1, Disposition::Protect)];
    user_found(&mut log, 5, "reachable", true, run(0));
    user_found(&mut log, 6, "never_connected", false, run(0));
    log.plan(run(0), &items);
    log.listed("observe");
    let unreached = |log: &Log| {
        let answer = judged(log);
        assert_eq!(answer.verdict, Verdict::None, "{:?}", reasons(&answer));
        let of = &answer.scopes[&Scope::Calendar];
        assert_eq!(of.complete, of.unreached.is_empty());
        assert_eq!(answer.complete, of.complete);
        let users = of.unreached.iter();
        users
            .map(|one| (one.user.clone(), one.access.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(unreached(&log), [], "who never gave access left nothing");
    // It counts with the seal of its dry run, also where v1 still had the token of somebody who disconnected.
    for (n, access) in [(5, "revoked"), (6, "disconnected")] {
        user_found(&mut log, n, access, true, run(3));
    }
    assert_eq!(unreached(&log), []);
    log.plan(run(3), &items);
    let named = |n: u128, access: &str| {
        let user = Subject::new("user", uuid::Uuid::from_u128(n)).unwrap();
        (user.to_string(), access.to_owned())
    };
    let both = [named(5, "revoked"), named(6, "disconnected")];
    assert_eq!(unreached(&log), both);
    user_found(&mut log, 5, "reachable", true, run(4));
    log.plan(run(4), &items);
    assert_eq!(unreached(&log), both[1..]);
}

/// What a dry run found of an item, out of reach or in its place.
fn met(log: &mut Log, n: u32, id: &str, disposition: Disposition, of: RunId) {
    let mut event = super::super::testing::found(n, disposition);
    event.item = id.to_owned();
    if disposition == Disposition::OutOfReach {
        event.place = String::new();
    }
    log.add(Event::ItemFound(event), item(n), "person:maker", Some(of));
}

#[test]
fn what_was_out_of_reach_and_is_found_later_is_one_item() {
    use Disposition::{Delete, OutOfReach};
    let mut log = Log::default();
    log.started("dry_run", None, "person:maker", run(0));
    met(&mut log, 1, "a", OutOfReach, run(0));
    met(&mut log, 2, "b", OutOfReach, run(0));
    log.seal(run(0), &[(1, OutOfReach), (2, OutOfReach)], 2);
    assert_eq!(judged(&log).sum.get(State::OutOfReach), 2);

    // Found by their places they have other names; the second is still out of reach.
    log.started("dry_run", None, "person:maker", run(1));
    met(&mut log, 11, "a", Delete, run(1));
    met(&mut log, 2, "b", OutOfReach, run(1));
    let before_the_seal = judged(&log);
    assert_eq!(before_the_seal.sum.get(State::OutOfReach), 2);
    let plan = log.seal(run(1), &[(11, Delete), (2, OutOfReach)], 2);
    let answer = judged(&log);
    assert_eq!(
        serde_json::to_value(&answer.sum).unwrap(),
        serde_json::json!({"planned": 1, "out_of_reach": 1})
    );

    let approval = log.approve(plan, "person:checker", 3_600);
    let intent = log.intend(11, plan, approval);
    log.deleted(11, intent, GoneHow::Deleted);
    let custody: CustodyFold = log.fold();
    for name in [1, 11] {
        assert_eq!(custody.state(&item(name)), Some(State::Deleted), "{name}");
    }
    assert_eq!(custody.subjects().len(), 2);

    // What is done under the first name, whoever does it, is not hidden by the second.
    let mut under_the_first = Log::default();
    under_the_first.0.extend(log.0.iter().cloned());
    let intent = under_the_first.intend(1, plan, approval);
    let sum = judged(&under_the_first).sum;
    assert_eq!(
        (sum.get(State::InFlight), sum.get(State::Deleted)),
        (1, 1),
        "{sum:?}"
    );
    under_the_first.deleted(1, intent, GoneHow::Deleted);
    assert_eq!(judged(&under_the_first).verdict, Verdict::Lost);

    // Out of reach again under the first name: nobody can say that it is the same.
    log.started("dry_run", None, "person:maker", run(2));
    met(&mut log, 1, "a", OutOfReach, run(2));
    log.seal(run(2), &[(1, OutOfReach)], 1);
    assert_eq!(judged(&log).sum.get(State::OutOfReach), 2);
}

#[test]
fn two_names_that_were_known_side_by_side_are_two_items() {
    use Disposition::{Delete, OutOfReach};
    // Two buckets may hold what has the same id, and one of them cannot be reached.
    let mut log = Log::default();
    log.started("dry_run", None, "person:maker", run(0));
    met(&mut log, 1, "a", OutOfReach, run(0));
    met(&mut log, 2, "a", Delete, run(0));
    log.seal(run(0), &[(1, OutOfReach), (2, Delete)], 2);
    assert_eq!(judged(&log).sum.get(State::OutOfReach), 1);
    log.started("dry_run", None, "person:maker", run(1));
    met(&mut log, 2, "a", Delete, run(1));
    log.seal(run(1), &[(2, Delete)], 1);
    assert_eq!(judged(&log).sum.get(State::OutOfReach), 1);

    // Nor is what was met in its place before anything else than itself, wherever its id shows up.
    let mut log = Log::default();
    log.started("dry_run", None, "person:maker", run(0));
    met(&mut log, 1, "a", Delete, run(0));
    log.seal(run(0), &[(1, Delete)], 1);
    log.started("dry_run", None, "person:maker", run(1));
    met(&mut log, 1, "a", OutOfReach, run(1));
    log.seal(run(1), &[(1, OutOfReach)], 1);
    log.started("dry_run", None, "person:maker", run(2));
    met(&mut log, 3, "a", Disposition::Done, run(2));
    log.seal(run(2), &[(3, Disposition::Done)], 1);
    let sum = judged(&log).sum;
    assert_eq!(
        (sum.get(State::OutOfReach), sum.get(State::GoneBefore)),
        (1, 1)
    );
}

#[test]
fn only_what_could_not_be_reached_takes_another_name() {
    use Disposition::{Delete, Hold, OutOfReach};
    let mut log = Log::default();
    // Of another user, or held: each is an item of its own.
    log.started("dry_run", None, "person:maker", run(0));
    let mut other = super::super::testing::found(1, OutOfReach);
    other.item = "a".to_owned();
    other.users = vec![Subject::new("user", uuid::Uuid::from_u128(6)).unwrap()];
    log.add(
        Event::ItemFound(other),
        item(1),
        "person:maker",
        Some(run(0)),
    );
    met(&mut log, 2, "a", Hold, run(0));
    log.seal(run(0), &[(1, OutOfReach), (2, Hold)], 2);
    log.started("dry_run", None, "person:maker", run(1));
    met(&mut log, 3, "a", Delete, run(1));
    log.seal(run(1), &[(3, Delete)], 1);
    let sum = judged(&log).sum;
    assert_eq!(sum.total(), 3);
    assert_eq!(sum.get(State::OutOfReach), 1);
}

#[test]
fn what_a_later_inventory_does_not_meet_in_its_place_has_changed_without_us() {
    use Disposition::{Delete, Hold, Protect};
    let listed = |log: &mut Log, (place, whole): (&str, bool), of: RunId| {
        let event = Event::ContainerListed(ContainerListed {
            phase: "plan".to_owned(),
            place: place.to_owned(),
            sync_token: None,
            items: 1,
            whole,
            remote_date: None,
            unexplained: 0,
        });
        let subject = Subject::new("calendar", uuid::Uuid::from_u128(7)).unwrap();
        log.add(event, subject, "person:maker", Some(of));
    };
    let first = [(1, Delete), (2, Hold), (3, Protect), (4, Delete)];
    let mut log = Log::default();
    let plan = log.plan(run(0), &first);
    let approval = log.approve(plan, "person:checker", 3_600);
    let states = |log: &Log| {
        let custody: CustodyFold = log.fold();
        [1, 2, 3, 4].map(|n| custody.state(&item(n)).unwrap())
    };
    let as_found = [
        State::Planned,
        State::Held,
        State::Protected,
        State::Planned,
    ];
    assert_eq!(states(&log), as_found);

    // Another place was listed, or not all of this one: nothing is known of it.
    listed(&mut log, ("other@example.com", true), run(1));
    listed(&mut log, ("cal@example.com", false), run(1));
    log.plan(run(1), &[]);
    assert_eq!(states(&log), as_found);

    listed(&mut log, ("cal@example.com", true), run(2));
    log.started("dry_run", None, "person:maker", run(2));
    log.found(4, Delete, run(2));
    assert_eq!(states(&log), as_found, "not sealed yet");
    log.seal(run(2), &[(4, Delete)], 1);
    let changed = [
        State::ChangedSince,
        State::ChangedSince,
        State::Protected,
        State::Planned,
    ];
    assert_eq!(states(&log), changed);
    let answer = judged(&log);
    assert_eq!((answer.verdict, answer.complete), (Verdict::None, false));

    // The first plan is approved still: what is deleted under it was there after all.
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    assert_eq!(states(&log)[0], State::Deleted);
}
