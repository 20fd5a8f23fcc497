//! `ledger review list`: the items of a plan, with filters, and counts that add up.

use std::collections::BTreeMap;

use ledger::domain::custody::{State, Sums};
use ledger::domain::id::Actor;
use ledger::domain::identify::Disposition;
use ledger::projections::deletions::{ItemLine, UserLine};
use ledger::projections::fold::At;
use ledger::projections::plan::PlannedItem;
use serde::Serialize;

use super::{Common, Folded, folded, plan_failure, plan_named, user_words};
use crate::args::ReviewList;
use crate::commands::word;
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct Answer {
    as_of: u64,
    plan: String,
    /// The plans that it was made of by decisions, newest first.
    below: Vec<String>,
    made_by: Vec<Actor>,
    /// Items in the plan.
    total: u64,
    /// Items that the filters leave.
    shown: u64,
    /// The same by class, by disposition and by state: each adds up to `shown`.
    classes: BTreeMap<String, u64>,
    dispositions: BTreeMap<String, u64>,
    states: Sums,
    items: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    subject: String,
    place: String,
    item: String,
    users: Vec<UserLine>,
    class: String,
    disposition: Disposition,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    covered: Option<bool>,
    /// Where it is now.
    state: State,
    /// The entry that found it for this plan.
    seq: u64,
}

pub(super) async fn run(common: &Common<'_>, args: &ReviewList) -> Result<Exit, Failure> {
    let session = common.open().await?;
    let folded = folded(&session.store, At::Head).await?;
    let plan = plan_named(&session.store, args.plan.as_deref(), &folded.deletions).await?;
    session.close().await;
    let users = super::users_named(&folded.deletions, args.user.as_deref())?;
    let mut answer = Answer {
        as_of: folded.pass.last.map_or(0, |(seq, _)| seq),
        plan: plan.hash.to_string(),
        below: plan.below.iter().map(ToString::to_string).collect(),
        made_by: plan.makers.iter().cloned().collect(),
        total: plan.items.count(),
        shown: 0,
        classes: BTreeMap::new(),
        dispositions: BTreeMap::new(),
        states: Sums::new(),
        items: Vec::new(),
    };
    for item in plan.items.iter() {
        let item = &item.map_err(plan_failure)?;
        let state = folded
            .custody
            .state(&item.subject)
            .unwrap_or(State::Unaccounted);
        let of_user = users
            .as_ref()
            .is_none_or(|asked| item.users.iter().any(|user| asked.contains(user)));
        if of_user && is_asked_for(args, item, state) {
            answer.add(item, state, &folded);
        }
    }
    if common.json {
        output::json(&answer)?;
    } else {
        for line in answer.lines() {
            output::line(line)?;
        }
    }
    Ok(Exit::Yes)
}

fn is_asked_for(args: &ReviewList, item: &PlannedItem, state: State) -> bool {
    let uncovered = item.disposition == Disposition::Delete && item.covered == Some(false);
    (args.classes.is_empty() || args.classes.contains(&item.class))
        && (args.dispositions.is_empty() || args.dispositions.contains(&item.disposition))
        && (args.states.is_empty() || args.states.contains(&state))
        && (!args.uncovered || uncovered)
}

impl Answer {
    fn add(&mut self, item: &PlannedItem, state: State, folded: &Folded) {
        let line: Option<ItemLine> = folded.deletions.item(&item.subject, &folded.custody);
        self.shown += 1;
        *self.classes.entry(item.class.clone()).or_default() += 1;
        let disposition = item.disposition.name().to_owned();
        *self.dispositions.entry(disposition).or_default() += 1;
        self.states.add(state, 1);
        self.items.push(Line {
            subject: item.subject.to_string(),
            place: item.place.clone(),
            item: item.item.clone(),
            users: line.map(|line| line.users).unwrap_or_default(),
            class: item.class.clone(),
            disposition: item.disposition,
            reason: item.reason.clone(),
            date: item.date.clone(),
            covered: item.covered,
            state,
            seq: item.seq,
        });
    }

    fn lines(&self) -> Vec<String> {
        let made_by: Vec<&str> = self.made_by.iter().map(Actor::as_str).collect();
        let mut lines = vec![format!(
            "plan {}, made by {}",
            self.plan,
            made_by.join(", ")
        )];
        if !self.below.is_empty() {
            lines.push(format!(
                "made by decisions of plan {}",
                self.below.join(", of plan ")
            ));
        }
        for item in &self.items {
            let users: Vec<String> = item.users.iter().map(user_words).collect();
            let date = item.date.as_ref().map(|date| format!(" of {date}"));
            let uncovered = match (item.disposition, item.covered) {
                (Disposition::Delete, Some(false)) => " (uncovered)",
                _ => "",
            };
            lines.push(String::new());
            lines.push(format!(
                "{}: {}{}{uncovered}",
                if users.is_empty() {
                    "nobody known".to_owned()
                } else {
                    users.join(", ")
                },
                item.item,
                date.unwrap_or_default()
            ));
            lines.push(format!(
                "  {} → {}, now {}",
                item.class,
                item.disposition,
                word(&item.state)
            ));
            lines.push(format!("  {} (entry {})", item.reason, item.seq));
        }
        lines.push(String::new());
        let counts = |counts: Vec<(String, u64)>| {
            let counts: Vec<String> = counts
                .into_iter()
                .map(|(name, count)| format!("{count} {name}"))
                .collect();
            if counts.is_empty() {
                "0".to_owned()
            } else {
                format!("{} = {}", counts.join(" + "), self.shown)
            }
        };
        let of = |map: &BTreeMap<String, u64>| {
            counts(map.iter().map(|(k, v)| (k.clone(), *v)).collect())
        };
        lines.push(format!("classes: {}", of(&self.classes)));
        lines.push(format!("dispositions: {}", of(&self.dispositions)));
        let states = self
            .states
            .iter()
            .map(|(state, count)| (word(&state), count));
        lines.push(format!("states: {}", counts(states.collect())));
        lines.push(format!("{} of {} items", self.shown, self.total));
        lines
    }
}
