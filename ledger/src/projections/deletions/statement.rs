//! The statement about a run that a person signs: each item with its state, and the entries that say so.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{DeletionsFold, Item, Reference, RunLine};
use crate::chain::canonical;
use crate::domain::custody::{State, Sums};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, RunId};
use crate::projections::custody::CustodyFold;

/// What is signed about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The statement; entries stand in it by their hash, which commits to all that they say.
    pub document: Value,
    /// SHA-256 of its canonical JSON (RFC 8785).
    pub digest: Hash,
    /// Its items by state.
    pub sums: Sums,
}

impl DeletionsFold {
    /// The statement about a run as the log is now; `None` where no run of this id was started. It names the run's begin and
    /// end, and of each item that the run found, worked on or was to delete the entries about it, whichever run they are of: what
    /// happens to the item later makes another statement, and so does what the retired system writes there late. A later plan that
    /// finds the item again does not, unless its state changes. An item without an entry of this run says `untouched`.
    ///
    /// # Panics
    /// Never: texts and counts of attempts have a canonical form.
    pub fn statement(&self, run: RunId, custody: &CustodyFold) -> Option<Statement> {
        let line = self.runs.get(&run)?;
        let plans = self.plan_of(run).map(|plan| self.with_those_below(plan));
        let plans = plans.unwrap_or_default();
        let mut sums = Sums::new();
        let mut items = Vec::new();
        let executed = self.executed_by(run);
        for (subject, item) in &self.items {
            if !item.is_of(run, executed.as_ref()) {
                continue;
            }
            let state = custody.state(subject).unwrap_or(State::Unaccounted);
            sums.add(state, 1);
            let mut line = of_item(&subject.to_string(), item, state, &plans, custody);
            if let Some(undo) = &item.undo {
                line["undo"] = undo.entry.hash.to_string().into();
            }
            if !item.runs.contains(&run) {
                line["untouched"] = true.into();
            }
            items.push(line);
        }
        for (subject, seen) in self.late_of(run, custody) {
            sums.add(State::LateWrite, 1);
            items.push(json!({ "subject": subject, "state": State::LateWrite, "found": seen }));
        }
        let document = json!({
            "run": run,
            "verb": line.verb,
            "by": line.by,
            "plan": self.plan_of(run),
            "started": line.started.hash,
            "finished": line.finished.as_ref().map(|entry| entry.hash),
            "items": items,
        });
        #[expect(
            clippy::expect_used,
            reason = "its only numbers are counts of attempts"
        )]
        let bytes = canonical::to_bytes(&document).expect("a statement has a canonical form");
        Some(Statement {
            document,
            digest: Hash::of(&bytes),
            sums,
        })
    }

    /// The plan that a run executed, or sealed.
    pub fn plan_of(&self, run: RunId) -> Option<Hash> {
        let executed = self.runs.get(&run).and_then(|line| line.plan);
        executed.or_else(|| self.sealed_by.get(&run).copied())
    }

    /// The plan that a cleanup executes, and those below it.
    pub(super) fn executed_by(&self, run: RunId) -> Option<BTreeSet<Hash>> {
        let line = self.runs.get(&run).filter(|line| line.verb == "cleanup");
        let plan = line.and_then(|line| line.plan);
        plan.map(|plan| self.with_those_below(plan))
    }

    /// A run, without what custody adds to it.
    pub fn run(&self, run: RunId) -> Option<&RunLine> {
        self.runs.get(&run)
    }

    /// Everybody who recorded something in a run: who started it, and who went on with it.
    pub fn acted(&self, run: RunId) -> BTreeSet<Actor> {
        self.acted.get(&run).cloned().unwrap_or_default()
    }

    /// A plan and those that it is made of by decisions.
    pub(super) fn with_those_below(&self, plan: Hash) -> BTreeSet<Hash> {
        let mut plans = BTreeSet::new();
        let mut next = Some(plan);
        while let Some(plan) = next.filter(|plan| plans.insert(*plan)) {
            let line = self.plans.iter().find(|line| line.plan == plan);
            next = line.and_then(|line| line.base);
        }
        plans
    }

    /// Says of each sign-off whether what was signed is still so.
    pub(super) fn compare(&self, line: &mut RunLine, custody: &CustodyFold) {
        if line.signed_off.is_empty() {
            return;
        }
        let now = self.statement(line.run, custody);
        for signed in &mut line.signed_off {
            let now = now.as_ref().map(|statement| statement.digest);
            signed.changed_since = now != Some(signed.statement);
        }
    }
}

fn of_item(
    subject: &str,
    item: &Item,
    state: State,
    plans: &BTreeSet<Hash>,
    custody: &CustodyFold,
) -> Value {
    let hash = |entry: &Reference| entry.hash;
    let mut finds = item.finds.iter().rev();
    let found = finds.find(|(plan, _)| plans.contains(plan));
    let approval = item.approval.and_then(|id| custody.approval(id));
    json!({
        "subject": subject,
        "state": state,
        "found": found.map(|(_, found)| found.entry.hash),
        "approval": approval.map(|(_, approval)| approval.hash),
        "backup": item.backup.as_ref().map(|backup| backup.sha256),
        "intent": item.backup.as_ref().map(|backup| hash(&backup.entry)),
        "attempts": item.attempts,
        "outcome": item.outcome.as_ref().map(|outcome| hash(&outcome.entry)),
        "observed": item.observed,
        "decisions": item.decisions.iter().map(|(_, line)| hash(&line.entry)).collect::<Vec<_>>(),
        "erased": item.erased.as_ref().map(|erased| hash(&erased.entry)),
    })
}
