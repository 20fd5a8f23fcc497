//! `ledger review sample`: users for a spot check, picked so that somebody else picks the same, and what the log says of each.

use std::collections::{BTreeMap, BTreeSet};

use ledger::domain::custody::State;
use ledger::domain::id::{RunId, Subject};
use ledger::projections::deletions::{ItemLine, Part, UserLine};
use ledger::projections::fold::At;
use ledger::projections::plan;
use ledger::projections::sample::pick;
use ledger::store::Clock;
use serde::Serialize;

use super::{Common, folded, look, plan_failure, user_words};
use crate::args::ReviewSample;
use crate::commands::word;
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct Answer {
    as_of: u64,
    seed: String,
    /// How it was picked, so that it can be repeated.
    method: &'static str,
    /// Users with deletions, of whom was picked.
    candidates: Vec<String>,
    picked: Vec<Picked>,
}

#[derive(Serialize)]
struct Picked {
    /// The digest by which this user was picked.
    rank: String,
    user: UserLine,
    states: BTreeMap<String, u64>,
    items: Vec<ItemLine>,
    /// What was seen of each just now; none with `--log-only`.
    #[serde(skip_serializing_if = "Option::is_none")]
    looks: Option<Vec<look::Look>>,
}

const METHOD: &str = "the smallest SHA-256(\"ledger-sample-v1\" || 0x00 || seed || 0x00 || subject) of the candidates";

pub(super) async fn run(common: &Common<'_>, args: &ReviewSample) -> Result<Exit, Failure> {
    if args.log_only && args.access.is_given() {
        return Err(Failure::usage(
            "--credentials and --users-table are for reading items again, which --log-only leaves out",
        ));
    }
    let session = common.open().await?;
    let folded = folded(&session.store, At::Head).await?;
    let mut part = Part::default();
    if let Some(name) = &args.plan {
        let plan = plan::find(&session.store, name).await;
        part.plan = Some(plan.map_err(plan_failure)?);
    }
    let clock = session.store.clock().clone();
    session.close().await;
    if let Some(text) = &args.run {
        let run: RunId = text.parse().map_err(Failure::usage)?;
        if !folded.deletions.knows_run(run) {
            return Err(super::no_such_run());
        }
        part.run = Some(run);
    }
    let review = folded.deletions.review(&folded.custody, &part);
    // Whoever looked at it since, it was deleted, and is picked by the same seed.
    let gone = |item: &&ItemLine| {
        matches!(item.state, State::Deleted | State::BackupErased) || item.there_again
    };
    let users = review
        .items
        .iter()
        .filter(gone)
        .flat_map(|item| &item.users);
    let candidates: Result<BTreeSet<Subject>, _> =
        users.map(|user| user.subject.parse::<Subject>()).collect();
    let candidates = candidates.map_err(Failure::usage)?;
    let picked = pick(&args.seed, &candidates, args.users);
    let mut answer = Answer {
        as_of: folded.pass.last.map_or(0, |(seq, _)| seq),
        seed: args.seed.clone(),
        method: METHOD,
        candidates: candidates.iter().map(ToString::to_string).collect(),
        picked: picked
            .into_iter()
            .map(|(rank, subject)| {
                let subject = subject.to_string();
                let of = |item: &&ItemLine| item.users.iter().any(|user| user.subject == subject);
                // What was written late is no item that could be looked for yet: a dry run makes it one.
                let known = |item: &&ItemLine| item.state != State::LateWrite;
                let items = review.items.iter().filter(of).filter(known);
                let items: Vec<ItemLine> = items.cloned().collect();
                Picked::of(rank.to_string(), &subject, items)
            })
            .collect(),
    };
    // Where nobody was picked there is nothing to read.
    let looked = if args.log_only || answer.picked.is_empty() {
        Exit::Yes
    } else {
        let all = folded.deletions.review(&folded.custody, &Part::default());
        let known = look::known(all.items);
        answer.look(common, args, clock, &known).await?
    };
    if common.json {
        output::json(&answer)?;
    } else {
        for line in answer.lines() {
            output::line(line)?;
        }
    }
    let whole = review.unreadable == 0 && folded.pass.damaged == 0;
    let exit = if whole { looked } else { Exit::Unknown };
    Ok(match answer.by_the_log() {
        Exit::No => Exit::No,
        Exit::Unknown if looked == Exit::Yes => Exit::Unknown,
        _ => exit,
    })
}

/// What can be done without: reading again is what is usual, and not what is always possible.
fn without_looking(failure: Failure) -> Failure {
    let is_said = |hint: &String| hint.contains("--log-only");
    if failure.exit != Exit::Usage || failure.hint.as_ref().is_some_and(is_said) {
        return failure;
    }
    failure.hint(
        "nothing was read; set what a cleanup needs, or give --credentials FILE; --log-only tells what the log says and no more",
    )
}

fn seen_words(look: &look::Look, state: State) -> String {
    let why = look.why.as_ref().map(|why| format!(": {why}"));
    let verdict = match (look.is_as_expected(), state, look.seen) {
        (false, ..) => ", NOT AS THE LOG SAYS",
        // It is not ours, and who it belongs to may do with it what they like.
        (true, State::Protected, "gone") => {
            ", and not by this ledger: whose it is may have done that"
        }
        (true, ..) => "",
    };
    format!("; now {}{}{verdict}", look.seen, why.unwrap_or_default())
}

impl Picked {
    fn of(rank: String, subject: &str, items: Vec<ItemLine>) -> Self {
        let mut states: BTreeMap<String, u64> = BTreeMap::new();
        for item in &items {
            *states.entry(word(&item.state)).or_default() += 1;
        }
        let users = items.iter().flat_map(|item| &item.users);
        let user = users.clone().find(|user| user.subject == subject).cloned();
        Self {
            rank,
            user: user.unwrap_or_default(),
            states,
            items,
            looks: None,
        }
    }
}

impl Answer {
    /// Reads the picked users' items again, where they lie.
    async fn look(
        &mut self,
        common: &Common<'_>,
        args: &ReviewSample,
        clock: Clock,
        known: &look::Known,
    ) -> Result<Exit, Failure> {
        let items = self.picked.iter().flat_map(|picked| &picked.items);
        let kinds = items.filter_map(|item| item.subject.split_once(':'));
        let kinds: BTreeSet<String> = kinds.map(|(kind, _)| kind.to_owned()).collect();
        let places = look::places(common, &kinds, &args.access, clock).await;
        let places = places.map_err(without_looking)?;
        let mut exit = Exit::Yes;
        for picked in &mut self.picked {
            let looks = look::look(places.as_ref(), &picked.items, known).await;
            exit = match (exit, look::exit(&looks)) {
                (Exit::No, _) | (_, Exit::No) => Exit::No,
                (Exit::Unknown, _) | (_, Exit::Unknown) => Exit::Unknown,
                _ => Exit::Yes,
            };
            picked.looks = Some(looks);
        }
        Ok(exit)
    }

    /// What the log alone says against the picked users' items: somebody saw there what we deleted, or it contradicts itself.
    fn by_the_log(&self) -> Exit {
        let items = || self.picked.iter().flat_map(|picked| &picked.items);
        if items().any(|item| item.there_again) {
            Exit::No
        } else if items().any(|item| item.state == State::Unaccounted) {
            Exit::Unknown
        } else {
            Exit::Yes
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "{} of {} users with deletions, as of entry {}",
                self.picked.len(),
                self.candidates.len(),
                self.as_of
            ),
            format!("picked by seed {:?}: {}", self.seed, self.method),
        ];
        for picked in &self.picked {
            let states: Vec<String> = picked
                .states
                .iter()
                .map(|(state, count)| format!("{count} {state}"))
                .collect();
            lines.push(String::new());
            lines.push(format!(
                "{}: {}",
                user_words(&picked.user),
                states.join(", ")
            ));
            lines.push(format!("  {} {}", &picked.rank[..16], picked.user.subject));
            for item in &picked.items {
                let what = item.event_id.as_deref().unwrap_or(&item.subject);
                let place = item
                    .calendar
                    .as_deref()
                    .unwrap_or("a place that is not known");
                let date = item.date.as_ref().map(|date| format!(" of {date}"));
                let outcome = item.undo.as_ref().or(item.outcome.as_ref());
                let outcome = outcome.map(|it| &it.entry).or(item.found.as_ref());
                let seq = outcome.map_or(0, |entry| entry.seq);
                let looks = picked.looks.iter().flatten();
                let seen = looks.filter(|look| look.subject == item.subject);
                let seen: Vec<String> = seen.map(|look| seen_words(look, item.state)).collect();
                let again = if item.there_again {
                    "; THERE AGAIN although it was deleted, by an entry of this log"
                } else {
                    ""
                };
                lines.push(format!(
                    "  {}: {what}{} in {place} (entry {seq}){again}{}",
                    word(&item.state),
                    date.unwrap_or_default(),
                    seen.concat()
                ));
            }
        }
        lines
    }
}
