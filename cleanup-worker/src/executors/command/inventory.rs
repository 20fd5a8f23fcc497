//! The program's inventory: its lines in their order, each held against what was declared, and the counts at the end.

use std::collections::{BTreeMap, HashSet};

use ledger::domain::hash::Hash;
use ledger::domain::identify::{Facts, Named};
use ledger::domain::policy::Policy;
use tokio::time::Instant;

use super::error::CommandError;
use super::executor::CommandExecutor;
use super::wire::{
    FactLine, InventoryAnswer, InventoryEnd, ItemLine, PlaceLine, Question, UserLine, reason, text,
};
use crate::clients::Effect;
use crate::engine::{EngineError, Progress};
use crate::executors::{Candidate, Inventory, PlaceSeen, Summary, Unreachable, UserSeen};

/// Candidates handed on together.
const BATCH: usize = 64;

/// Asks for the inventory and hands it on.
pub(super) async fn inventory(
    executor: &CommandExecutor,
    policy: &Policy,
    to: &mut dyn Inventory,
) -> Result<Summary, EngineError> {
    let declared = executor.declaration.vocabulary();
    let limit = executor.told.program.limit;
    let mut session = executor.session().await?;
    let names = declared.parameters.iter().map(|one| one.name.to_string());
    let parameters: BTreeMap<String, i64> = names
        .filter_map(|name| policy.parameter(&name).map(|value| (name, value)))
        .collect();
    let question = Question::Inventory {
        parameters: &parameters,
    };
    let mut lines = Lines {
        signals: declared.signals,
        conditions: declared.conditions,
        to,
        users: HashSet::new(),
        places: HashSet::new(),
        place: None,
        waiting: Vec::new(),
        items: HashSet::new(),
    };
    let mut said = session
        .ask(&question, Instant::now() + limit, limit)
        .await?;
    let end = loop {
        let line =
            said.map_err(|refusal| CommandError::Inventory(refusal.into_error(1, Effect::None)))?;
        match line {
            InventoryAnswer::User { user } => lines.user(user).await?,
            InventoryAnswer::Place { place } => lines.place(place).await?,
            InventoryAnswer::Item { item } => lines.item(*item).await?,
            InventoryAnswer::End(end) => break end,
        }
        said = session.next(limit).await?;
    };
    lines.hand_on().await?;
    let sent = lines.items.len() as u64;
    drop(session);
    counted(executor, &end, sent).await?;
    Ok(Summary {
        candidates: sent,
        others: end.others,
        date: end.date,
        ..Summary::default()
    })
}

/// Refuses where the counts differ: then something was missed, or came twice.
async fn counted(
    executor: &CommandExecutor,
    end: &InventoryEnd,
    sent: u64,
) -> Result<(), EngineError> {
    let refused = |who: &str, count: u64| {
        Err(EngineError::Refused(format!(
            "{who} counted {count} items and the program sent {sent}: nothing is sealed; look why, and make the \
             plan again"
        )))
    };
    if end.count != sent {
        return refused("the program", end.count);
    }
    if let Some(count) = &executor.told.count {
        let count = count.count().await?;
        if count != sent {
            return refused("--count-command", count);
        }
    }
    Ok(())
}

struct Lines<'a> {
    signals: &'a [Named],
    conditions: &'a [Named],
    to: &'a mut dyn Inventory,
    users: HashSet<String>,
    places: HashSet<String>,
    place: Option<PlaceSeen>,
    waiting: Vec<Candidate>,
    /// Digests of the items that came, so that none comes twice.
    items: HashSet<Hash>,
}

impl Lines<'_> {
    async fn user(&mut self, line: UserLine) -> Result<(), EngineError> {
        self.hand_on().await?;
        self.place = None;
        let access = match (line.place, line.unreachable) {
            (Some(place), None) => Ok(place.0),
            (None, Some(why)) => Err(Unreachable {
                code: machine_word(why.code.0)?.into(),
                class: why.class,
                status: why.status,
                attempt: why.attempts,
                date: None,
                stops_run: false,
                reason: reason(&why.reason),
            }),
            _ => return sent("a user with both or neither of `place` and `unreachable`"),
        };
        if !self.users.insert(line.id.0.clone()) {
            return sent("a user twice");
        }
        let user = UserSeen {
            id: line.id.0,
            email: text(line.email),
            soft_deleted: line.soft_deleted,
            recorded: line.recorded,
            credential: text(line.credential),
            access,
        };
        self.to.user(&user).await?;
        let done = self.users.len() as u64;
        self.to.progress(Progress { done, all: done });
        Ok(())
    }

    async fn place(&mut self, line: PlaceLine) -> Result<(), EngineError> {
        self.hand_on().await?;
        if !self.places.insert(line.id.0.clone()) {
            return sent("a place twice");
        }
        let place = PlaceSeen {
            id: line.id.0,
            cursor: text(line.cursor),
            items: line.items,
            // One that does not say so may have looked for some of its items only.
            whole: line.whole,
            date: line.date,
        };
        self.to.place(&place).await?;
        self.place = Some(place);
        Ok(())
    }

    async fn item(&mut self, line: ItemLine) -> Result<(), EngineError> {
        let place = line.place.as_ref().map(|place| place.0.as_str());
        let here = self.place.as_ref().map(|place| place.id.as_str());
        if place.is_some() && place != here {
            return sent("an item that is not of the place that came last before it");
        }
        if place.is_none() && here.is_some() {
            // Items of no place go to the ledger apart from those of one.
            self.hand_on().await?;
            self.place = None;
        }
        let users: Vec<String> = line.users.into_iter().map(|user| user.0).collect();
        if users.is_empty() || !users.iter().all(|user| self.users.contains(user)) {
            return sent("an item without a user that came before it");
        }
        let (place, id) = (place.unwrap_or_default(), line.id.0.as_str());
        let whose = if place.is_empty() { &users[0] } else { place };
        let digest = Hash::of(format!("{}\n{place}\n{whose}\n{id}", place.len()).as_bytes());
        if !self.items.insert(digest) {
            return sent("an item twice");
        }
        let must_hold = match (&line.place, &line.version) {
            (None, _) => Some("its place is not known"),
            (_, None) => Some("no version of it was read, so no deletion can be made conditional"),
            _ => None,
        };
        self.waiting.push(Candidate {
            item: Some(line.id.0),
            users,
            version: text(line.version),
            bytes: line.base64.map(|base64| base64.0),
            date: line.date.map(|date| date.format("%Y-%m-%d").to_string()),
            covered: line.covered,
            signals: vec![facts("signal", self.signals, line.signals)?],
            conditions: facts("condition", self.conditions, line.conditions)?,
            must_hold,
        });
        if self.waiting.len() >= BATCH {
            self.hand_on().await?;
        }
        Ok(())
    }

    async fn hand_on(&mut self) -> Result<(), EngineError> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        self.to.candidates(self.place.as_ref(), waiting).await
    }
}

fn sent<T>(what: &str) -> Result<T, EngineError> {
    Err(CommandError::Sent(what.to_owned()).into())
}

fn machine_word(word: String) -> Result<String, EngineError> {
    let fits = word.len() <= 64 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if fits && word != "reachable" {
        return Ok(word);
    }
    sent("a code that is not of a-z and _")
}

fn facts(
    what: &str,
    declared: &[Named],
    given: BTreeMap<String, FactLine>,
) -> Result<Facts, EngineError> {
    let mut facts = Facts::new();
    for (name, fact) in given {
        let Some(known) = declared.iter().find(|known| *known.name == name) else {
            let known: Vec<&str> = declared.iter().map(|known| known.name.as_ref()).collect();
            let known = known.join(", ");
            return sent(&format!(
                "a {what} that it did not declare; declared are: {known}"
            ));
        };
        match fact {
            FactLine::Holds(holds) => facts.set(known.name.clone(), holds),
            FactLine::With(with) => {
                facts.set_with(known.name.clone(), with.holds, reason(&with.detail.0));
            }
        }
    }
    Ok(facts)
}
