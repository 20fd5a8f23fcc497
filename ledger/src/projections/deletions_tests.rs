use uuid::Uuid;

use super::super::fold::Unreadable;
use super::super::testing::{Log, item, run};
use super::*;
use crate::domain::event::{GoneHow, NotGone, UserFound};

fn user() -> Subject {
    Subject::new("user", Uuid::from_u128(5)).unwrap()
}

/// A deletion, one that failed, one that was not reached, a hold, a protection and an item out of reach.
fn log() -> Log {
    use Disposition::{Delete, Hold, OutOfReach, Protect};
    let mut log = Log::default();
    let found = Event::UserFound(UserFound {
        email: Some("kim@example.com".to_owned()),
        access: "reachable".to_owned(),
        reason: "its token works".to_owned(),
        soft_deleted: false,
        recorded: 6,
        token_fingerprint: None,
        account: None,
    });
    log.add(found, user(), "person:maker", Some(run(0)));
    let lost = Event::UserFound(UserFound {
        email: Some("lee@example.com".to_owned()),
        access: "revoked".to_owned(),
        reason: "the user took the permission back".to_owned(),
        soft_deleted: false,
        recorded: 1,
        token_fingerprint: None,
        account: None,
    });
    let other = Subject::new("user", Uuid::from_u128(6)).unwrap();
    log.add(lost, other, "person:maker", Some(run(0)));
    let items = [
        (1, Delete),
        (2, Delete),
        (3, Delete),
        (4, Hold),
        (5, Protect),
        (6, OutOfReach),
    ];
    let plan = log.plan(run(0), &items);
    let approval = log.approve(plan, "person:checker", 3_600);
    log.started("cleanup", Some(plan), "person:runner", run(9));
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    let intent = log.intend(2, plan, approval);
    log.failed(2, intent, NotGone::Changed);
    log
}

fn review(log: &Log, part: impl Fn(&DeletionsFold) -> Part) -> Review {
    let fold: DeletionsFold = log.fold();
    fold.review(&log.fold::<CustodyFold>(), &part(&fold))
}

#[test]
fn the_review_tells_what_whose_why_by_whom_and_what_became_of_it() {
    let review = review(&log(), |_| Part::default());
    insta::assert_json_snapshot!(review.items[1]);
    insta::assert_json_snapshot!(serde_json::json!({
        "sum": review.sum,
        "plans": review.plans,
        "runs": review.runs,
        "unreachable": review.unreachable,
        "states": review.items.iter().map(|item| (&item.event_id, item.state, item.outcome.as_ref().map(|o| o.what))).collect::<Vec<_>>(),
    }));
}

#[test]
fn it_adds_up_and_is_the_custody_sum() {
    let log = log();
    let review = review(&log, |_| Part::default());
    assert_eq!(review.total, review.items.len() as u64);
    assert_eq!(review.sum, log.fold::<CustodyFold>().sums());
    assert_eq!(review.plans[0].items, review.total);
}

#[test]
fn a_part_is_that_of_a_run_or_a_user() {
    let log = log();
    let part = |run| {
        move |_: &DeletionsFold| Part {
            run: Some(run),
            users: None,
            plan: None,
        }
    };
    let of_cleanup = review(&log, part(run(9)));
    assert_eq!(of_cleanup.total, 3, "also what it did not come to");
    assert_eq!(of_cleanup.sum.get(State::Planned), 1);
    assert_eq!(review(&log, part(run(0))).total, 6);
    assert_eq!(review(&log, part(run(8))).total, 0);
    for (name, total, unreachable) in [
        ("KIM@example.com", 6, 0),
        (&user().to_string(), 6, 0),
        (&user().uuid().to_string(), 6, 0),
        ("lee@example.com", 0, 1),
        ("nobody@example.com", 0, 0),
    ] {
        let review = review(&log, |fold| Part {
            run: None,
            users: Some(fold.users_named(name)),
            plan: None,
        });
        let found = (review.total, review.unreachable.len());
        assert_eq!(found, (total, unreachable), "{name}");
    }
}

#[test]
fn what_the_keys_do_not_open_is_not_shown_and_is_counted() {
    let mut log = log();
    for seq in 1..=log.0.len() {
        if !matches!(
            log.0[seq - 1].entry.event_type.as_str(),
            "plan.sealed" | "plan.approved" | "run.started"
        ) {
            log.spoil(seq, Unreadable::Sealed);
        }
    }
    let review = review(&log, |_| Part::default());
    assert_eq!(review.total, 6);
    assert_eq!(review.sum.get(State::Unaccounted), 6);
    assert_eq!(
        review.unreadable, 12,
        "2 users, 6 found, 2 intents, 2 outcomes"
    );
    assert!(
        !serde_json::to_string(&review)
            .unwrap()
            .contains("example.com")
    );
    assert!(
        review
            .items
            .iter()
            .any(|line| line.subject == item(1).to_string())
    );
}

/// A dry run that comes later and finds this of items 1 to 6.
fn found_later(log: &mut Log, of: RunId, class: &str, disposition: Disposition) -> Hash {
    log.started("dry_run", None, "person:maker", of);
    let items: Vec<_> = (1..=6).map(|n| (n, disposition)).collect();
    for (n, _) in &items {
        let mut found = super::super::testing::found(*n, disposition);
        found.class = class.to_owned();
        found.reason = "it says otherwise".to_owned();
        found.users = Vec::new();
        log.add(Event::ItemFound(found), item(*n), "person:maker", Some(of));
    }
    log.seal(of, &items, 6)
}

#[test]
fn what_is_gone_is_told_by_the_plan_under_which_it_went() {
    let mut log = log();
    let line = |log: &Log, n: u32, part: &Part| {
        let review = review(log, |_| part.clone());
        let mut items = review.items.into_iter();
        items.find(|line| line.subject == item(n).to_string())
    };
    let whole = Part::default();
    let before = line(&log, 1, &whole).unwrap();
    assert_eq!(before.class.as_deref(), Some("V1_RECORDED"));
    let first = before.plan;
    let of_first = Part {
        plan: first,
        ..Part::default()
    };
    let of_user = Part {
        users: Some([user()].into()),
        ..Part::default()
    };
    found_later(&mut log, run(3), "GONE", Disposition::Done);
    for part in [&whole, &of_first, &of_user] {
        assert_eq!(line(&log, 1, part).as_ref(), Some(&before));
    }
    // What was left alone is what it was found to be last.
    for n in 2..=6 {
        let line = line(&log, n, &whole).unwrap();
        assert_eq!(line.class.as_deref(), Some("GONE"), "{n}");
    }
    // And so is what came back.
    let again = found_later(&mut log, run(4), "THERE_AGAIN", Disposition::Delete);
    let line = line(&log, 1, &whole).unwrap();
    assert_eq!(line.class.as_deref(), Some("THERE_AGAIN"));
    assert_eq!((line.plan, line.state), (Some(again), State::Unaccounted));
    assert!(line.there_again);
}

#[test]
fn a_plan_sealed_before_the_deletion_by_another_does_not_tell_it() {
    let mut log = Log::default();
    let one = log.plan(run(0), &[(1, Disposition::Delete)]);
    found_later(&mut log, run(3), "OTHER", Disposition::Delete);
    let approval = log.approve(one, "person:checker", 3_600);
    let intent = log.intend(1, one, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    let review = review(&log, |_| Part::default());
    let mut items = review.items.iter();
    let line = items.find(|line| line.subject == item(1).to_string());
    assert_eq!(line.unwrap().plan, Some(one));
}

#[test]
fn what_is_signed_names_what_a_run_did_not_begin() {
    let mut log = log();
    let fold: DeletionsFold = log.fold();
    let custody: CustodyFold = log.fold();
    let statement = fold.statement(run(9), &custody).unwrap();
    assert_eq!(statement.sums.get(State::Planned), 1);
    assert_eq!(statement.sums.total(), 3);
    let items = statement.document["items"].as_array().unwrap();
    let untouched = |line: &&serde_json::Value| line["untouched"] == true;
    let untouched: Vec<_> = items.iter().filter(untouched).collect();
    assert_eq!(untouched.len(), 1);
    assert_eq!(untouched[0]["subject"], item(3).to_string());
    assert_eq!(
        (&untouched[0]["intent"], &untouched[0]["state"]),
        (&serde_json::Value::Null, &"planned".into())
    );
    // What a run only finds, or undoes, is not executed by it.
    let plan = fold.plan_of(run(9));
    log.started("restore", plan, "person:runner", run(7));
    let fold: DeletionsFold = log.fold();
    let statement = fold.statement(run(7), &log.fold()).unwrap();
    assert_eq!(statement.sums.total(), 0);
}
