use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::domain::custody::Observation;
use crate::domain::event::{Event, GoneHow, ItemHeld, ItemObserved};
use crate::domain::id::{EntryId, RunId};
use crate::domain::identify::Disposition::{Delete, Hold, Protect};
use crate::projections::deletions::{DeletionsFold, ItemLine, Part};
use crate::projections::testing::{Log, body, found, item, run};

/// What a dry run read of the item.
fn read(log: &mut Log, version: Option<&str>, disposition: Disposition, of: RunId) {
    let mut event = found(1, disposition);
    event.version = version.map(str::to_owned);
    log.add(Event::ItemFound(event), item(1), "person:maker", Some(of));
}

fn state(log: &Log) -> (State, bool) {
    let custody: CustodyFold = log.fold();
    let state = custody.state(&item(1)).unwrap();
    (state, custody.is_there_again(&item(1)))
}

fn line(log: &Log) -> ItemLine {
    let review = log
        .fold::<DeletionsFold>()
        .review(&log.fold::<CustodyFold>(), &Part::default());
    review.items.into_iter().next().unwrap()
}

const DELETED: (State, bool) = (State::Deleted, false);
const THERE_AGAIN: (State, bool) = (State::Unaccounted, true);

/// The item was deleted in version "1"; a dry run began before that.
fn deleted_meanwhile() -> (Log, Hash) {
    let mut log = Log::default();
    let plan = log.plan(run(1), &[(1, Delete)]);
    let approval = log.approve(plan, "person:checker", 3_600);
    log.started("dry_run", None, "person:maker", run(2));
    let intent = log.intend(1, plan, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    (log, plan)
}

#[test]
fn a_dry_run_that_had_looked_before_the_deletion_leaves_it_deleted() {
    for disposition in [Delete, Hold, Protect] {
        let (mut log, plan) = deleted_meanwhile();
        read(&mut log, Some("\"1\""), disposition, run(2));
        log.seal_found(run(2));
        assert_eq!(state(&log), DELETED, "{disposition}");
        let line = line(&log);
        assert_eq!((line.plan, line.disposition), (Some(plan), Some(Delete)));
    }
}

#[test]
fn what_is_read_in_another_version_or_in_none_is_there_again() {
    for version in [Some("\"2\""), None] {
        for disposition in [Delete, Hold, Protect] {
            let (mut log, _) = deleted_meanwhile();
            read(&mut log, version, disposition, run(2));
            log.seal_found(run(2));
            assert_eq!(state(&log), THERE_AGAIN, "{version:?} {disposition}");
            let line = line(&log);
            assert!(line.there_again);
            assert_eq!(line.outcome.unwrap().what, "deleted");
        }
    }
    // A dry run that began afterwards looked afterwards, whatever version it met.
    let (mut log, _) = deleted_meanwhile();
    log.plan(run(3), &[(1, Delete)]);
    assert_eq!(state(&log), THERE_AGAIN);
}

#[test]
fn what_is_there_again_goes_by_the_plan_that_found_it_so_and_counts() {
    let (mut log, first) = deleted_meanwhile();
    read(&mut log, Some("\"2\""), Delete, run(2));
    let second = log.seal_found(run(2));
    let mut unapproved = Log::default();
    unapproved.0.extend(log.0.iter().cloned());

    let approval = log.approve(second, "person:checker", 3_600);
    let intent = log.intend_version(1, (second, approval), "\"2\"", body("whole"));
    assert_eq!(state(&log).0, State::InFlight);
    log.deleted(1, intent, GoneHow::Deleted);
    assert_eq!(state(&log), DELETED);
    assert_eq!(line(&log).plan, Some(second));

    // Not by the approval of the first plan, which is of another version.
    let approval = unapproved.approve(first, "person:checker", 3_600);
    let intent = unapproved.intend_version(1, (first, approval), "\"2\"", body("whole"));
    unapproved.deleted(1, intent, GoneHow::Deleted);
    assert_eq!(state(&unapproved), (State::Missing, false));
}

#[test]
fn a_person_may_decide_about_what_is_there_again() {
    for decision in [Decision::Keep, Decision::Delete] {
        let (mut log, _) = deleted_meanwhile();
        let plan = log.plan(run(3), &[(1, Hold)]);
        let by = "person:decider";
        let plan = log.overlay(run(4), plan, &[(1, Hold)], &[(1, decision)], by);
        if decision == Decision::Keep {
            assert_eq!(state(&log).0, State::Excluded);
            continue;
        }
        assert_eq!(state(&log), THERE_AGAIN);
        let approval = log.approve(plan, "person:checker", 3_600);
        let intent = log.intend(1, plan, approval);
        log.deleted(1, intent, GoneHow::Deleted);
        assert_eq!(state(&log), DELETED);
    }
}

#[test]
fn a_decision_is_no_look_at_what_was_deleted_meanwhile() {
    let mut log = Log::default();
    let first = log.plan(run(1), &[(1, Delete)]);
    let second = log.plan(run(2), &[(1, Hold)]);
    // The later plan holds it, and the older one is still approved: so the deletion is one outside the plan, and stays that.
    let approval = log.approve(first, "person:checker", 3_600);
    let intent = log.intend(1, first, approval);
    log.deleted(1, intent, GoneHow::Deleted);
    assert_eq!(state(&log).0, State::Missing);
    let decisions = [(1, Decision::Delete)];
    log.overlay(run(4), second, &[(1, Hold)], &decisions, "person:decider");
    assert_eq!(state(&log).0, State::Missing);
}

#[test]
fn a_run_that_reads_it_in_another_version_shows_that_it_is_there_again() {
    for (cause, expected) in [
        ("changed", THERE_AGAIN),
        ("adopted", DELETED),
        ("gone", DELETED),
    ] {
        let (mut log, plan) = deleted_meanwhile();
        let held = Event::ItemHeld(ItemHeld {
            plan,
            cause: cause.to_owned(),
            reason: "it was changed after the plan was made".to_owned(),
        });
        log.add(held, item(1), "worker:cleanup", Some(run(8)));
        assert_eq!(state(&log), expected, "{cause}");
        assert_eq!(line(&log).outcome.unwrap().what, "deleted");
    }
}

#[test]
fn a_dry_run_that_began_before_it_was_put_back_does_not_say_that_it_went_again() {
    let mut log = Log::default();
    let plan = log.plan(run(1), &[(1, Delete)]);
    let approval = log.approve(plan, "person:checker", 3_600);
    let deletion = log.intend(1, plan, approval);
    log.deleted(1, deletion, GoneHow::Deleted);
    log.started("dry_run", None, "person:maker", run(2));
    let back = log.intend_restore(1, deletion, 1);
    log.restored(1, back);
    read(&mut log, None, Disposition::Done, run(2));
    log.seal_found(run(2));
    assert_eq!(state(&log).0, State::Restored);
}

/// Something that happens to one item, or is recorded of it.
#[derive(Clone, Copy, Debug)]
enum Step {
    DryRunBegins,
    DryRunReads,
    DryRunSeals,
    /// By the newest sealed plan.
    Cleanup,
    /// Its owner takes it out of the trash, or deletes it.
    OwnerRestores,
    OwnerDeletes,
    Observed,
}

/// The version that a dry run read, if the item was there.
#[derive(Clone, Copy)]
struct Read(Option<u32>);

/// The outside, and the log.
#[derive(Default)]
struct World {
    log: Log,
    /// The version that is there.
    there: Option<u32>,
    version: u32,
    /// Dry runs under way, and what they read.
    dry_runs: VecDeque<(RunId, Option<Read>)>,
    runs: u32,
    plan: Option<(Hash, Option<u32>, EntryId)>,
    owner_was_here: bool,
    /// The newest version that an entry tells of.
    seen: Option<u32>,
}

fn etag(version: u32) -> String {
    format!("\"{version}\"")
}

impl World {
    fn step(&mut self, step: Step) {
        match step {
            Step::DryRunBegins => {
                self.runs += 1;
                let of = run(self.runs);
                self.log.started("dry_run", None, "person:maker", of);
                self.dry_runs.push_back((of, None));
            }
            Step::DryRunReads => {
                let now = Read(self.there);
                if let Some((_, read)) = self.dry_runs.iter_mut().find(|(_, read)| read.is_none()) {
                    *read = Some(now);
                }
            }
            Step::DryRunSeals => self.seals(),
            Step::Cleanup => self.cleanup(),
            Step::OwnerRestores if self.there.is_none() => {
                self.owner_was_here = true;
                self.version += 1;
                self.there = Some(self.version);
            }
            Step::OwnerDeletes => self.there = None,
            // It is there.
            Step::OwnerRestores => {}
            Step::Observed => {
                let observation = match self.there {
                    Some(_) => Observation::Changed,
                    None => Observation::Gone,
                };
                let event = Event::ItemObserved(ItemObserved {
                    run: run(99),
                    observation,
                    explained: false,
                    version: None,
                });
                self.log.add(event, item(1), "person:other", Some(run(98)));
                self.seen = self.seen.max(self.there);
            }
        }
    }

    fn seals(&mut self) {
        let Some((of, Some(Read(version)))) = self.dry_runs.pop_front() else {
            return;
        };
        let disposition = match version {
            Some(_) => Delete,
            None => Disposition::Done,
        };
        let text = version.map(etag);
        read(&mut self.log, text.as_deref(), disposition, of);
        let plan = self.log.seal_found(of);
        let approval = self.log.approve(plan, "person:checker", 100_000);
        self.plan = Some((plan, version, approval));
        self.seen = self.seen.max(version);
    }

    fn cleanup(&mut self) {
        let Some((plan, Some(version), approval)) = self.plan else {
            return;
        };
        if self.there.is_some_and(|now| now != version) {
            let held = Event::ItemHeld(ItemHeld {
                plan,
                cause: "changed".to_owned(),
                reason: String::new(),
            });
            self.log.add(held, item(1), "worker:cleanup", Some(run(97)));
            self.seen = self.seen.max(self.there);
            return;
        }
        let both = (plan, approval);
        let intent = self
            .log
            .intend_version(1, both, &etag(version), body("whole"));
        if self.there.take().is_some() {
            self.log.deleted(1, intent, GoneHow::Deleted);
        } else {
            self.log.deleted(1, intent, GoneHow::AlreadyGone);
        }
    }
}

proptest! {
    /// What we deleted is in the answers for ever: as deleted as long as nobody but us was there, and never so where an entry tells of the
    /// version that is there.
    #[test]
    fn a_deletion_is_hidden_by_no_order_of_looks(
        steps in proptest::collection::vec(prop_oneof![
            Just(Step::DryRunBegins),
            Just(Step::DryRunReads),
            Just(Step::DryRunSeals),
            Just(Step::Cleanup),
            Just(Step::OwnerRestores),
            Just(Step::OwnerDeletes),
            Just(Step::Observed),
        ], 0..40),
    ) {
        let mut world = World { there: Some(0), ..World::default() };
        for step in [Step::DryRunBegins, Step::DryRunReads, Step::DryRunSeals, Step::Cleanup] {
            world.step(step);
        }
        prop_assert_eq!(state(&world.log), DELETED);
        for step in steps {
            world.step(step);
            let (state, there_again) = state(&world.log);
            prop_assert_eq!(state, if there_again { State::Unaccounted } else { State::Deleted });
            prop_assert!(world.owner_was_here || !there_again, "{:?}", step);
            let is_seen = world.there.is_some() && world.there == world.seen;
            prop_assert!(there_again || !is_seen, "{:?}", step);
        }
    }
}
