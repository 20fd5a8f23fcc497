use proptest::prelude::*;

use super::super::custody::CustodyFold;
use super::super::deletions::{DeletionsFold, Part};
use super::super::testing::{Log, item, run};
use super::*;
use crate::domain::event::{Event, GoneHow, UserFound};
use crate::domain::id::Subject;
use crate::domain::identify::Disposition;

fn user(n: u128) -> Subject {
    Subject::new("user", uuid::Uuid::from_u128(n)).unwrap()
}

fn known(log: &mut Log, n: u128, email: &str, access: &str) {
    let found = Event::UserFound(UserFound {
        email: Some(email.to_owned()),
        access: access.to_owned(),
        reason: String::new(),
        soft_deleted: false,
        recorded: 0,
        token_fingerprint: None,
        account: None,
    });
    log.add(found, user(n), "person:maker", Some(run(0)));
}

fn review(log: &Log) -> Review {
    let fold: DeletionsFold = log.fold();
    fold.review(&log.fold::<CustodyFold>(), &Part::default())
}

#[test]
fn every_state_is_counted_in_one_column() {
    for state in State::ALL {
        assert!(Column::ALL.contains(&Column::of(state)));
    }
    let names: BTreeSet<_> = Column::ALL.map(Column::name).into();
    assert_eq!(names.len(), Column::ALL.len());
}

#[test]
fn users_items_and_totals_are_told_with_their_proof() {
    use Disposition::{Delete, Hold, OutOfReach, Protect};
    let mut log = Log::default();
    known(&mut log, 5, "kim@example.com", "reachable");
    known(&mut log, 6, "lee@example.com", "revoked");
    known(&mut log, 7, "ida@example.com", "reachable");
    let items = [
        (1, Delete),
        (2, Delete),
        (3, Hold),
        (4, Protect),
        (5, OutOfReach),
    ];
    let plan = log.plan(run(0), &items);
    let approval = log.approve(plan, "person:checker", 3_600);
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    let size = log.0.len() as u64;
    let report = Report::of(review(&log), Some(size - 1)).unwrap();
    assert_eq!(report.totals.found, 5);
    for (column, count) in [
        (Column::Deleted, 1),
        (Column::Failed, 1),
        (Column::Held, 1),
        (Column::Protected, 1),
        (Column::OutOfReach, 1),
        (Column::Lost, 0),
    ] {
        assert_eq!(report.totals.get(column), count, "{column:?}");
    }
    let emails: Vec<_> = report
        .users
        .iter()
        .map(|user| user.email.as_deref())
        .collect();
    let expected = ["ida@example.com", "kim@example.com", "lee@example.com"];
    assert_eq!(emails, expected.map(Some));
    assert_eq!(report.users[0].counts, Counts::none(), "nothing was found");
    assert_eq!(report.users[0].unreachable, None);
    assert_eq!(report.users[1].counts.found, 5);
    assert_eq!(report.users[2].unreachable.as_deref(), Some("revoked"));
    assert_eq!(report.users[2].counts.found, 0);
    let row = |n: u32| {
        let mut rows = report.items.iter();
        rows.find(|row| row.item.subject == item(n).to_string())
            .unwrap()
    };
    let proof = row(1).proof.as_ref().unwrap();
    assert_eq!(
        (proof.entry.seq, proof.checkpoint),
        (size, None),
        "not covered yet"
    );
    let proof = row(2).proof.as_ref().unwrap();
    assert_eq!(proof.checkpoint, Some(size - 1));
    assert!(report.entries().contains(&size));
}

#[test]
fn a_report_whose_sums_differ_is_none() {
    let mut log = Log::default();
    log.plan(run(0), &[(1, Disposition::Delete), (2, Disposition::Hold)]);
    let good = Report::of(review(&log), None).unwrap();
    assert_eq!(good.check(2), Ok(()));
    let what = |report: &Report, items| report.check(items).unwrap_err().what;
    assert_eq!(what(&good, 3), "the users and the custody sum");
    let mut bad = good.clone();
    bad.users[0].counts.found += 1;
    assert_eq!(what(&bad, 2), "a user's row");
    let mut bad = good.clone();
    bad.totals.found += 1;
    assert_eq!(what(&bad, 2), "the totals");
    let mut bad = good.clone();
    bad.users.pop();
    assert_eq!(what(&bad, 2), "the users and the totals");
    let mut bad = good.clone();
    bad.items.pop();
    assert_eq!(what(&bad, 2), "a column and its items");
}

#[test]
fn what_a_seal_counts_and_the_log_lacks_is_a_row_of_its_own() {
    let mut log = Log::default();
    let items = [(1, Disposition::Protect)];
    log.found(1, Disposition::Protect, run(0));
    log.seal(run(0), &items, 3);
    let report = Report::of(review(&log), None).unwrap();
    assert_eq!(report.totals.found, 3);
    assert_eq!(report.totals.get(Column::Unknown), 2);
    assert_eq!(report.users.last().unwrap().subject, None);
}

proptest! {
    #[test]
    fn it_adds_up_whatever_was_found_and_done(
        found in proptest::collection::vec((0_usize..5, any::<bool>(), any::<bool>()), 0..20),
    ) {
        let items: Vec<_> = (1..)
            .zip(&found)
            .map(|(n, (which, ..))| (n, Disposition::ALL[*which]))
            .collect();
        let mut log = Log::default();
        let plan = log.plan(run(0), &items);
        let approval = log.approve(plan, "person:checker", 3_600);
        for ((n, _), (_, begun, ended)) in items.iter().zip(&found) {
            if *begun {
                let intent = log.intend(*n, plan, approval);
                if *ended {
                    log.deleted(*n, intent, GoneHow::Deleted);
                }
            }
        }
        let report = Report::of(review(&log), None).unwrap();
        prop_assert_eq!(report.totals.found, items.len() as u64);
        prop_assert_eq!(report.items.len(), items.len());
    }
}

#[test]
fn what_was_written_late_has_a_row_and_the_sums_add_up() {
    use crate::domain::observation::{LateItem, LateWritten};
    let mut log = Log::default();
    known(&mut log, 5, "kim@example.com", "reachable");
    let plan = log.plan(run(0), &[(1, Disposition::Delete)]);
    let approval = log.approve(plan, "person:checker", 3_600);
    log.started("cleanup", Some(plan), "person:runner", run(9));
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    let late = Event::LateWritten(LateWritten {
        run: run(9),
        place: "cal@example.com".to_owned(),
        items: vec![LateItem {
            item: "late1".to_owned(),
            written_at: "2026-01-20T00:00:00Z".to_owned(),
        }],
    });
    let place = Subject::new("account", uuid::Uuid::from_u128(7)).unwrap();
    log.add(late, place, "person:observer", Some(run(9)));
    let seq = log.0.len() as u64;
    let parts = [
        Part::default(),
        Part {
            run: Some(run(9)),
            ..Part::default()
        },
        Part {
            plan: Some(plan),
            ..Part::default()
        },
        Part {
            users: Some([user(5)].into()),
            ..Part::default()
        },
    ];
    for part in &parts {
        let fold: DeletionsFold = log.fold();
        let review = fold.review(&log.fold::<CustodyFold>(), part);
        let report = Report::of(review, None).unwrap();
        let counts = (report.totals.found, report.totals.get(Column::Lost));
        assert_eq!(counts, (2, 1), "{part:?}");
        let mut rows = report.items.iter();
        let row = rows.find(|row| row.column == Column::Lost).unwrap();
        assert_eq!(row.item.state, State::LateWrite);
        assert_eq!(row.item.event_id.as_deref(), Some("late1"));
        assert_eq!(row.proof.as_ref().unwrap().entry.seq, seq);
        assert_eq!(report.users.len(), 1, "it is counted with its user");
    }
    // Another part does not have it, and the next sealed plan that names it makes an item of it.
    let other = Part {
        run: Some(run(8)),
        ..Part::default()
    };
    let fold: DeletionsFold = log.fold();
    assert_eq!(fold.review(&log.fold::<CustodyFold>(), &other).total, 0);
    log.started("dry_run", None, "person:maker", run(3));
    let mut found = super::super::testing::found(2, Disposition::Delete);
    found.item = "late1".to_owned();
    let two = Event::ItemFound(found);
    log.add(two, item(2), "person:maker", Some(run(3)));
    log.seal(run(3), &[(2, Disposition::Delete)], 1);
    let report = Report::of(review(&log), None).unwrap();
    assert_eq!(report.totals.get(Column::Lost), 0);
    assert_eq!(report.totals.found, 2);
}

#[test]
fn how_a_deletion_ended_stands_beside_an_undo_that_failed_or_not() {
    let mut log = Log::default();
    let plan = log.plan(run(0), &[(1, Disposition::Delete)]);
    let approval = log.approve(plan, "person:checker", 3_600);
    let deletion = log.intend(1, plan, approval);
    log.deleted(1, deletion, GoneHow::Deleted);
    let deleted = log.0.len() as u64;
    let row = |log: &Log| Report::of(review(log), None).unwrap().items.remove(0);
    let what = |row: &ItemRow| {
        let outcomes = [&row.item.outcome, &row.item.undo];
        outcomes.map(|outcome| outcome.as_ref().map(|outcome| outcome.what))
    };
    let intent = log.intend_restore(1, deletion, 1);
    log.not_restored(1, intent);
    let failed = row(&log);
    assert_eq!(failed.column, Column::Deleted);
    assert_eq!(what(&failed), [Some("deleted"), Some("not_restored")]);
    assert_eq!(failed.proof.unwrap().entry.seq, deleted);

    let intent = log.intend_restore(1, deletion, 2);
    log.restored(1, intent);
    let back = row(&log);
    assert_eq!(back.column, Column::Restored);
    assert_eq!(what(&back), [Some("deleted"), Some("restored")]);
    assert_eq!(back.proof.unwrap().entry.seq, log.0.len() as u64);
    assert_eq!(back.item.restored.unwrap().event_id, "new1");
}

#[test]
fn a_decision_that_counts_in_no_plan_proves_nothing() {
    use crate::domain::review::Decision;
    let mut log = Log::default();
    let items = [(1, Disposition::Hold)];
    let plan = log.plan(run(0), &items);
    let found = log.0.len() as u64 - 1;
    log.started("review", None, "person:checker", run(1));
    log.decided(1, Decision::Keep, plan, "person:checker", run(1));
    let proof = |log: &Log| {
        let mut report = Report::of(review(log), None).unwrap();
        report.items.remove(0).proof.unwrap().entry.seq
    };
    assert_eq!(proof(&log), found);
    log.overlay(
        run(2),
        plan,
        &items,
        &[(1, Decision::Keep)],
        "person:checker",
    );
    assert!(proof(&log) > found);
}

#[test]
fn the_users_of_a_report_are_those_of_the_plan_or_the_run() {
    let mut log = Log::default();
    let mut plans = Vec::new();
    for (n, of) in [(5, run(0)), (6, run(1))] {
        let found = Event::UserFound(UserFound {
            email: None,
            access: "reachable".to_owned(),
            reason: String::new(),
            soft_deleted: false,
            recorded: 0,
            token_fingerprint: None,
            account: None,
        });
        log.add(found, user(n), "person:maker", Some(of));
        plans.push(log.plan(of, &[(u32::try_from(n).unwrap(), Disposition::Protect)]));
    }
    log.started("cleanup", Some(plans[1]), "person:runner", run(9));
    let of = |part: Part| {
        let fold: DeletionsFold = log.fold();
        let users = fold.review(&log.fold::<CustodyFold>(), &part).users;
        users
            .into_iter()
            .map(|user| user.subject)
            .collect::<Vec<_>>()
    };
    let of_plan = |plan| Part {
        plan: Some(plan),
        ..Part::default()
    };
    let of_run = |run| Part {
        run: Some(run),
        ..Part::default()
    };
    let users = |numbers: &[u128]| {
        let users = numbers.iter().map(|n| user(*n).to_string());
        users.collect::<Vec<_>>()
    };
    assert_eq!(of(of_plan(plans[0])), users(&[5]));
    assert_eq!(of(of_run(run(9))), users(&[6]));
    assert_eq!(of(of_run(run(0))), users(&[5]));
    assert_eq!(of(Part::default()), users(&[5, 6]));
}
