use super::super::custody::CustodyFold;
use super::super::deletions::{DeletionsFold, Part};
use super::super::testing::{Log, item, run};
use super::*;
use crate::domain::custody::State;
use crate::domain::event::{ContainerListed, LateItem, LateWritten, RunStarted};
use crate::domain::identify::Disposition;
use crate::domain::identify::Disposition::{Delete, Protect};
use crate::domain::observation::Grade;
use crate::domain::verdict::Scope;

/// A plan of three items of which two were deleted; the intents.
fn deleted() -> (Log, [EntryId; 2]) {
    let mut log = Log::default();
    let plan = log.plan(run(1), &[(1, Delete), (2, Delete), (3, Protect)]);
    let approval = log.approve(plan, "person:approver", 3600);
    log.started("cleanup", Some(plan), "person:runner", run(9));
    let one = log.intend(1, plan, approval);
    log.deleted(1, one, GoneHow::Deleted);
    let two = log.intend(2, plan, approval);
    log.deleted(2, two, GoneHow::GoneCauseUnknown);
    log.listed("after");
    (log, [one, two])
}

fn state(log: &Log, n: u32) -> Option<State> {
    log.fold::<CustodyFold>().state(&item(n))
}

#[test]
fn what_was_deleted_can_be_put_back_and_nothing_else() {
    let (log, [one, _]) = deleted();
    let fold: RestoreFold = log.fold();
    let all = fold.select(&Selection::default());
    let items: Vec<_> = all.iter().map(|deletion| deletion.item.as_str()).collect();
    assert_eq!(items, ["event1", "event2"]);
    assert!(all.iter().all(|deletion| deletion.hindrance().is_none()));
    assert_eq!(all[0].intent, one);
    let of = |selection: Selection| fold.select(&selection).len();
    let item_named = |text: &str| Selection {
        item: Some(text.to_owned()),
        ..Selection::default()
    };
    assert_eq!(of(item_named("event2")), 1);
    assert_eq!(of(item_named(&item(1).to_string())), 1);
    assert_eq!(of(item_named("event3")), 0);
    let by_run = |n| Selection {
        run: Some(run(n)),
        ..Selection::default()
    };
    assert_eq!((of(by_run(9)), of(by_run(1))), (2, 0));
}

/// A second plan of the same items was made before the first was executed, and is executed after it, by another run.
fn deleted_by_the_first_of_two_plans(outcome: GoneHow) -> (Log, EntryId, Hash, Hash) {
    let mut log = Log::default();
    let first = log.plan(run(1), &[(1, Delete)]);
    let second = log.plan(run(2), &[(1, Delete)]);
    let approval = log.approve(first, "person:approver", 3600);
    let intent = log.intend(1, first, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    let approval = log.approve(second, "person:approver", 3600);
    let again = log.intend(1, second, approval);
    log.of_run(run(8));
    log.deleted(1, again, outcome);
    log.of_run(run(8));
    (log, intent, first, second)
}

#[test]
fn what_a_second_plan_met_gone_is_still_what_the_first_deleted() {
    for outcome in [GoneHow::AlreadyGone, GoneHow::GoneCauseUnknown] {
        let (log, intent, first, second) = deleted_by_the_first_of_two_plans(outcome);
        assert_eq!(state(&log, 1), Some(State::Deleted), "{outcome:?}");
        let fold: RestoreFold = log.fold();
        let by_run = |n| Selection {
            run: Some(run(n)),
            ..Selection::default()
        };
        let by_plan = |plan| Selection {
            plan: Some(plan),
            ..Selection::default()
        };
        let event = Selection {
            item: Some("event1".to_owned()),
            ..Selection::default()
        };
        for meant in [by_run(9), by_run(8), by_plan(first), by_plan(second), event] {
            let all = fold.select(&meant);
            let found = all.iter().map(|one| (one.intent, one.hindrance()));
            assert_eq!(found.collect::<Vec<_>>(), [(intent, None)], "{meant:?}");
        }
        let review = log
            .fold::<DeletionsFold>()
            .review(&log.fold::<CustodyFold>(), &Part::default());
        let line = &review.items[0];
        assert_eq!(line.outcome.as_ref().unwrap().what, "deleted");
        assert_eq!(line.backup.as_ref().unwrap().entry.seq, 8);
        assert_eq!((line.plan, line.attempts), (Some(first), 2));
        let back = Selection {
            run: Some(run(8)),
            ..Selection::default()
        };
        assert_eq!(fold.select(&back)[0].run, Some(run(9)));
    }
}

#[test]
fn an_attempt_that_failed_or_has_no_outcome_hides_no_deletion() {
    let (mut log, intent, ..) = deleted_by_the_first_of_two_plans(GoneHow::AlreadyGone);
    let third = log.plan(run(3), &[(1, Delete)]);
    let approval = log.approve(third, "person:approver", 3600);
    let open = log.intend(1, third, approval);
    let hindered = |log: &Log| {
        let fold: RestoreFold = log.fold();
        let all = fold.select(&Selection {
            run: Some(run(9)),
            ..Selection::default()
        });
        all.iter()
            .map(|one| one.hindrance().is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(hindered(&log), [true]);
    log.failed(1, open, NotGone::Unknown);
    assert_eq!(hindered(&log), [true]);
    let open = log.intend(1, third, approval);
    log.failed(1, open, NotGone::Failed);
    assert_eq!(hindered(&log), [false]);
    assert_eq!(
        log.fold::<RestoreFold>().last(&item(1)).unwrap().intent,
        intent
    );
}

#[test]
fn what_was_gone_before_or_is_in_flight_or_has_no_true_backup_is_hindered() {
    let mut log = Log::default();
    let plan = log.plan(run(1), &[(1, Delete), (2, Delete), (3, Delete)]);
    let approval = log.approve(plan, "person:approver", 3600);
    let one = log.intend(1, plan, approval);
    log.deleted(1, one, GoneHow::AlreadyGone);
    log.intend(2, plan, approval);
    let mut wrong = super::super::testing::body("whole");
    wrong.base64 = "AAAA".to_owned();
    let three = log.intend_with(3, plan, approval, wrong);
    log.deleted(3, three, GoneHow::Deleted);
    let fold: RestoreFold = log.fold();
    let all = fold.select(&Selection::default());
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|deletion| deletion.hindrance().is_some()));
}

#[test]
fn an_item_is_in_flight_until_its_restoration_has_an_outcome_and_then_restored() {
    let (mut log, [one, _]) = deleted();
    let first = log.intend_restore(1, one, 1);
    assert_eq!(state(&log, 1), Some(State::InFlight));
    let facts = log
        .fold::<CustodyFold>()
        .facts()
        .remove(&Scope::Calendar)
        .unwrap();
    assert_eq!(facts.sums.get(State::InFlight), 1);
    let evidence = log.fold::<CustodyFold>().evidence();
    let is_open = |entry: &crate::domain::verdict::Evidence| entry.kind == "item.restore_intended";
    assert!(evidence.iter().any(is_open), "{evidence:?}");
    log.not_restored(1, first);
    assert_eq!(state(&log, 1), Some(State::Deleted));
    let second = log.intend_restore(1, one, 2);
    log.restored(1, second);
    assert_eq!(state(&log, 1), Some(State::Restored));
    assert_eq!(state(&log, 2), Some(State::Deleted));

    let fold: RestoreFold = log.fold();
    let all = fold.select(&Selection::default());
    let back = &all[0].back;
    assert_eq!((back.attempts, back.open.is_none()), (2, true));
    assert!(back.done.as_ref().unwrap().is_faithful());
    let repoints = fold.repoints(Some(run(10)));
    assert_eq!(repoints.len(), 1);
    let line = &repoints[0];
    assert_eq!(
        (line.old_id.as_str(), line.new_id.as_str()),
        ("event1", "new1")
    );
    assert!(line.repoint);
    assert_eq!(
        fold.repoints(Some(run(9))),
        repoints,
        "by the run that deleted it too"
    );
    assert!(fold.repoints(Some(run(1))).is_empty());
    assert!(fold.ids_at("cal@example.com").contains("new1"));

    let review = log
        .fold::<DeletionsFold>()
        .review(&log.fold::<CustodyFold>(), &Part::default());
    let of_one = item(1).to_string();
    let line = review
        .items
        .iter()
        .find(|line| line.subject == of_one)
        .unwrap();
    assert_eq!(line.restored.as_ref().unwrap().event_id, "new1");
    assert_eq!(line.undo.as_ref().unwrap().what, "restored");
    assert_eq!(line.outcome.as_ref().unwrap().what, "deleted");
}

#[test]
fn what_is_put_back_a_second_time_is_not_back_until_that_has_an_outcome() {
    let (mut log, [one, _]) = deleted();
    let intent = log.intend_restore(1, one, 1);
    log.restored(1, intent);
    let of_one = |log: &Log| log.fold::<RestoreFold>().last(&item(1)).cloned().unwrap();
    let back = of_one(&log);
    assert_eq!(
        back.other_ids().collect::<Vec<_>>(),
        ["event1"],
        "not its own id"
    );
    let again = log.intend_restore(1, one, 2);
    let back = of_one(&log).back;
    assert_eq!((back.done, back.attempts), (None, 2));
    log.not_restored(1, again);
    let back = of_one(&log);
    assert_eq!(
        (back.back.done.is_none(), back.other_ids().count()),
        (true, 0)
    );
    assert_eq!(log.fold::<RestoreFold>().repoints(None), Vec::new());
}

#[test]
fn a_restoration_is_a_change_that_has_to_be_looked_at_afterwards() {
    let (mut log, [one, _]) = deleted();
    let stale = |log: &Log| {
        let custody: CustodyFold = log.fold();
        let sides = custody.facts().remove(&Scope::Calendar).unwrap().sides;
        let google = sides
            .into_iter()
            .find(|side| side.name == "google")
            .unwrap();
        google.stale_before.is_some()
    };
    assert!(!stale(&log));
    let intent = log.intend_restore(1, one, 1);
    log.restored(1, intent);
    assert!(stale(&log));
    let unseen = |log: &Log| log.fold::<RestoreFold>().is_unseen("cal@example.com");
    assert!(unseen(&log));
    log.listed("after");
    assert!(!stale(&log) && !unseen(&log));
}

#[test]
fn an_outcome_of_another_intent_and_a_second_return_are_not_believed() {
    let (mut log, [one, two]) = deleted();
    let intent = log.intend_restore(1, one, 1);
    log.restored(1, two);
    assert_eq!(state(&log, 1), Some(State::Unaccounted));
    let fold: RestoreFold = log.fold();
    assert_eq!(
        fold.select(&Selection::default())[0]
            .back
            .open
            .as_ref()
            .unwrap()
            .id,
        intent
    );

    let (mut log, [one, _]) = deleted();
    let first = log.intend_restore(1, one, 1);
    log.restored(1, first);
    log.intend_restore(1, one, 2);
    assert_eq!(state(&log, 1), Some(State::Unaccounted));
}

#[test]
fn what_cannot_be_read_is_not_put_back() {
    let (mut log, _) = deleted();
    let seq = log
        .0
        .iter()
        .position(|decoded| matches!(decoded.event, Ok(Event::ItemDeleteIntended(_))))
        .unwrap();
    log.spoil(seq + 1, Unreadable::Damaged);
    let fold: RestoreFold = log.fold();
    assert_eq!(fold.unreadable().count(), 1);
    assert_eq!(fold.select(&Selection::default()).len(), 1);
    log.erased(BTreeMap::from([(item(2), State::BackupErased)]));
    let fold: RestoreFold = log.fold();
    assert!(fold.select(&Selection::default()).is_empty());
    assert!(fold.erased().contains(&item(2)));
}

#[test]
fn who_ran_it_is_not_independent_of_it_whatever_the_entry_says() {
    for (by, grade) in [
        ("person:approver", Grade::Independent),
        ("person:runner", Grade::Observed),
    ] {
        let (mut log, _) = deleted();
        let said = |log: &Log| {
            let sides = log
                .fold::<CustodyFold>()
                .facts()
                .remove(&Scope::Calendar)
                .unwrap()
                .sides;
            let google = sides.into_iter().find(|side| side.name == "google");
            google.and_then(|side| Some((side.observed_by?.to_string(), side.grade?)))
        };
        assert_eq!(
            said(&log),
            Some(("worker:cleanup".to_owned(), Grade::Reported))
        );
        let started = Event::RunStarted(RunStarted {
            verb: "observe".to_owned(),
            plan: None,
            approval: None,
            options: [
                ("of".to_owned(), run(9).to_string()),
                ("grade".to_owned(), "independent".to_owned()),
            ]
            .into(),
        });
        let subject = Subject::new("run", run(11).uuid()).unwrap();
        log.add(started, subject.clone(), by, Some(run(11)));
        let listed = Event::ContainerListed(ContainerListed {
            phase: "observe".to_owned(),
            place: "cal@example.com".to_owned(),
            sync_token: None,
            items: 0,
            whole: false,
            remote_date: None,
            unexplained: 0,
        });
        log.add(listed, subject, by, Some(run(11)));
        assert_eq!(said(&log), Some((by.to_owned(), grade)));
    }
}

#[test]
fn what_the_retired_system_writes_late_is_lost_until_a_sealed_plan_names_it() {
    let (mut log, _) = deleted();
    let late = Event::LateWritten(LateWritten {
        run: run(9),
        place: "cal@example.com".to_owned(),
        items: vec![LateItem {
            item: "event4".to_owned(),
            written_at: "2026-01-16T00:00:00Z".to_owned(),
        }],
    });
    let owner = Subject::new("calendar-account", run(7).uuid()).unwrap();
    log.add(late, owner, "person:approver", Some(run(11)));
    let sum = |log: &Log| log.fold::<CustodyFold>().sums().get(State::LateWrite);
    assert_eq!(sum(&log), 1);
    let lost = log.fold::<CustodyFold>().lost();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].state, State::LateWrite);
    assert!(!lost[0].subject.contains("event4"), "no id of the outside");
    log.plan(run(2), &[(4, Protect)]);
    assert_eq!(sum(&log), 0);
    assert!(log.fold::<CustodyFold>().lost().is_empty());
}

/// What a dry run found: the first item under the id that it came back as, and its old id gone.
fn found_anew(log: &mut Log, disposition: Disposition, of: RunId) -> Hash {
    log.started("dry_run", None, "person:maker", of);
    let mut new = super::super::testing::found(21, disposition);
    new.item = "new1".to_owned();
    log.add(Event::ItemFound(new), item(21), "person:maker", Some(of));
    log.found(1, Disposition::Done, of);
    log.found(2, Disposition::Done, of);
    log.seal_found(of)
}

#[test]
fn what_came_back_under_another_id_is_one_item_whatever_finds_it() {
    let (mut log, [one, _]) = deleted();
    let intent = log.intend_restore(1, one, 1);
    log.restored(1, intent);
    let plan = found_anew(&mut log, Delete, run(3));
    let custody: CustodyFold = log.fold();
    assert_eq!(custody.sums().total(), 3);
    for name in [1, 21] {
        assert_eq!(custody.state(&item(name)), Some(State::Planned), "{name}");
        let names = custody.names_of(&item(name));
        assert_eq!(names, [item(1), item(21)].into(), "{name}");
    }
    let facts = custody.facts().remove(&Scope::Calendar).unwrap();
    assert_eq!((facts.sealed, facts.sums.total()), (Some(3), 3));
    let deletions: DeletionsFold = log.fold();
    for name in ["new1", "event1"] {
        assert_eq!(deletions.items_named(name), [item(1)].into(), "{name}");
    }
    assert_eq!(
        deletions.items_named(&item(21).to_string()),
        [item(1)].into()
    );
    let line = deletions.item(&item(21), &custody).unwrap();
    assert_eq!(line.subject, item(1).to_string());
    assert_eq!(line.event_id.as_deref(), Some("new1"));
    assert_eq!(line.plan, Some(plan));
    let named = |log: &Log, text: &str| {
        let fold: RestoreFold = log.fold();
        let all = fold.select(&Selection {
            item: Some(text.to_owned()),
            ..Selection::default()
        });
        let found = all
            .iter()
            .map(|one| (one.subject.clone(), one.back.done.is_some()));
        found.collect::<Vec<_>>()
    };
    for name in ["new1", "event1", &item(21).to_string()] {
        assert_eq!(named(&log, name), [(item(1), true)], "{name}");
    }

    // Deleted again it is what can be put back, and there are no two of it.
    let approval = log.approve(plan, "person:approver", 3600);
    let event = Event::ItemDeleteIntended(DeleteIntended {
        plan,
        approval,
        attempt: 1,
        place: "cal@example.com".to_owned(),
        item: "new1".to_owned(),
        version: "\"1\"".to_owned(),
        backup: super::super::testing::body("whole"),
    });
    let intent = log.add(event, item(21), "worker:cleanup", Some(run(11)));
    log.deleted(21, intent, GoneHow::Deleted);
    assert_eq!(state(&log, 1), Some(State::Deleted));
    assert_eq!(log.fold::<CustodyFold>().sums().total(), 3);
    for name in ["new1", "event1"] {
        assert_eq!(named(&log, name), [(item(21), false)], "{name}");
    }
}

#[test]
fn that_the_old_id_is_gone_says_nothing_of_what_came_back() {
    let (mut log, [one, _]) = deleted();
    let intent = log.intend_restore(1, one, 1);
    log.restored(1, intent);
    log.plan(run(3), &[(1, Disposition::Done), (2, Disposition::Done)]);
    assert_eq!(state(&log, 1), Some(State::Restored));
    let review = log
        .fold::<DeletionsFold>()
        .review(&log.fold::<CustodyFold>(), &Part::default());
    let of_one = item(1).to_string();
    let mut lines = review.items.iter();
    let line = lines.find(|line| line.subject == of_one).unwrap();
    assert_eq!(
        line.disposition,
        Some(Delete),
        "as for the plan by which it went"
    );
    // Left alone as something else is told as that.
    found_anew(&mut log, Protect, run(4));
    assert_eq!(state(&log, 1), Some(State::Protected));
}

#[test]
fn what_is_found_under_the_id_that_a_lost_attempt_gave_it_is_there_again() {
    let (mut log, [one, _]) = deleted();
    let intent = log.intend_restore(1, one, 1);
    log.not_restored(1, intent);
    found_anew(&mut log, Delete, run(3));
    let custody: CustodyFold = log.fold();
    assert!(custody.is_there_again(&item(1)) && custody.is_there_again(&item(21)));
    assert_eq!(custody.sums().total(), 3);
}

#[test]
fn what_an_attempt_did_not_bring_back_and_what_could_not_be_read_is_known() {
    let (mut log, [one, _]) = deleted();
    let last = |log: &Log| log.fold::<RestoreFold>().last(&item(1)).cloned().unwrap();
    assert!(!last(&log).is_unreadable);
    assert_eq!(last(&log).back.failed, None);
    let intent = log.intend_restore(1, one, 1);
    log.not_restored(1, intent);
    assert_eq!(last(&log).back.failed.as_deref(), Some("it is not there"));
    let intent = log.intend_restore(1, one, 2);
    assert_eq!(last(&log).back.failed, None);
    log.restored(1, intent);
    assert_eq!(last(&log).back.failed, None);

    let mut log = Log::default();
    let mut unread = super::super::testing::found(1, Delete);
    let signal = crate::domain::event::Evidence {
        holds: true,
        detail: None,
    };
    unread.evidence.insert("unreadable".to_owned(), signal);
    log.started("dry_run", None, "person:maker", run(1));
    log.add(
        Event::ItemFound(unread),
        item(1),
        "person:maker",
        Some(run(1)),
    );
    let plan = log.seal_found(run(1));
    let approval = log.approve(plan, "person:approver", 3600);
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    assert!(last(&log).is_unreadable);
}
