//! `ledger erase`: all that is held on an owner is destroyed, once somebody asked for it and two persons approved.
//!
//! The same command asks, says what is missing, executes, and brings to an end what a crash left.

use std::collections::BTreeSet;

use ledger::domain::erasure::APPROVERS_MIN;
use ledger::domain::id::{Actor, EntryId, Subject, Timestamp};
use ledger::projections::approve::ApproveError;
use ledger::projections::erasure::{self, Asking, ErasureError, Request};
use ledger::store::Store;
use ledger::store::erase::{EraseError, ledgers_of};
use ledger::store::erasures::Erasure;
use serde::Serialize;

use super::{Common, log};
use crate::args::Erase;
use crate::database::Session;
use crate::epochs::{Epochs, Old};
use crate::exit::{Exit, Failure, environment};
use crate::output;
use crate::signing;

pub(crate) async fn run(common: &Common<'_>, args: Erase) -> Result<Exit, Failure> {
    let person = common.actor()?;
    let session = common.open().await?;
    let store = &session.store;
    let named = log::subject(store, &args.subject).await?;
    let owner = erasure::owner(store, &named).await.map_err(failure)?;
    let mut requests = erasure::requests(store).await.map_err(failure)?;
    let unfinished = |request: &Request| request.erased.is_some() && request.destroyed.is_none();
    let other = |request: &&Request| unfinished(request) && request.asked.owner != owner;
    let other = requests.iter().find(other).cloned();
    requests.retain(|request| request.asked.owner == owner);
    let answer = if let Some(request) = requests.iter().find(|request| unfinished(request)) {
        finish(common, &session, request, &person).await?
    } else if let Some(asking) = asking(args)? {
        let open = requests.pop().filter(|request| request.erased.is_none());
        let request = match open.filter(|open| is_same(open, &asking)) {
            Some(request) => request,
            None => erasure::ask(store, &owner, &person, asking)
                .await
                .map_err(failure)?,
        };
        go_on(common, &session, request, other.as_ref(), &person).await?
    } else {
        match requests.pop() {
            Some(request) if request.erased.is_some() => {
                Answer::of(store, &request, None, BTreeSet::new()).await?
            }
            Some(request) => go_on(common, &session, request, other.as_ref(), &person).await?,
            None => {
                return Err(Failure::usage(format_args!(
                    "nobody has asked for the erasure of {owner}"
                ))
                .hint("ask with --reason TEXT --legal-basis TEXT"));
            }
        }
    };
    session.close().await;
    answer.tell(common)
}

fn asking(args: Erase) -> Result<Option<Asking>, Failure> {
    let (Some(reason), Some(legal_basis)) = (args.reason, args.legal_basis) else {
        return Ok(None);
    };
    let copies_until = args.copies_until.as_deref().map(Timestamp::parse_lenient);
    Ok(Some(Asking {
        reason,
        legal_basis,
        overridden: args.r#override,
        copies_until: copies_until.transpose().map_err(Failure::usage)?,
    }))
}

fn is_same(open: &Request, asking: &Asking) -> bool {
    let asked = &open.asked;
    (&asked.reason, &asked.legal_basis) == (&asking.reason, &asking.legal_basis)
        && (&asked.overridden, &asked.copies_until) == (&asking.overridden, &asking.copies_until)
}

/// Executes the request where two persons have approved it; else says what is missing.
async fn go_on(
    common: &Common<'_>,
    session: &Session,
    mut request: Request,
    other: Option<&Request>,
    person: &Actor,
) -> Result<Answer, Failure> {
    let store = &session.store;
    let now = erasure::now(store).await.map_err(failure)?;
    let by = request.approvers(now);
    if by.len() < APPROVERS_MIN {
        return Answer::of(store, &request, None, by).await;
    }
    if let Some(other) = other {
        let owner = &other.asked.owner;
        let what = anyhow::anyhow!(
            "the erasure of {owner} is not finished: its old key is not yet known to be gone"
        );
        return Err(Failure::new(Exit::No, what).hint(format!(
            "nothing was erased; run `ledger erase {owner}` until it says done, and then the same command again"
        )));
    }
    let epochs = Epochs::new(common.environment, &session.database.home);
    let _alone = epochs.lock()?;
    check_reachable(&epochs, session).await?;
    let is_begun = epochs.is_begun();
    let next = epochs.next()?;
    let erased = match erasure::execute(store, &request, person, &next).await {
        Err(error) => {
            if !is_begun && !is_unknown(&error) {
                epochs.give_up()?;
            }
            return Err(failure(error));
        }
        Ok(erased) => erased,
    };
    request.erased = Some((erased.entry.id, erased.entry.seq, erased.said.kek_before));
    end(&epochs, session, request, person).await
}

/// Whether it may have happened all the same.
fn is_unknown(error: &ErasureError) -> bool {
    matches!(
        error,
        ErasureError::Erase {
            source: EraseError::CommitUnknown(_) | EraseError::Done(_),
            ..
        }
    )
}

/// Brings an erasure to its end whose old key is not yet known to be gone.
async fn finish(
    common: &Common<'_>,
    session: &Session,
    request: &Request,
    person: &Actor,
) -> Result<Answer, Failure> {
    let epochs = Epochs::new(common.environment, &session.database.home);
    let _alone = epochs.lock()?;
    end(&epochs, session, request.clone(), person).await
}

/// Refuses where the old key may wrap what cannot be reached from here, and where a ledger that is to be wrapped anew is not the
/// one that was signed.
async fn check_reachable(epochs: &Epochs<'_>, session: &Session) -> Result<(), Failure> {
    let pool = session.store.pool();
    let here = ledgers_of(pool).await;
    epochs.check_alone(&here.map_err(environment("look for other ledgers"))?)?;
    signing::check_none_behind(&session.database.home, pool).await
}

async fn end(
    epochs: &Epochs<'_>,
    session: &Session,
    mut request: Request,
    person: &Actor,
) -> Result<Answer, Failure> {
    let store = &session.store;
    let Some((id, _, kek_before)) = request.erased.clone() else {
        return Answer::of(store, &request, None, BTreeSet::new()).await;
    };
    check_reachable(epochs, session).await?;
    let in_force = store.kek_in_force().await;
    let in_force = in_force.map_err(environment("read which key-encryption key is in force"))?;
    // What was made while the erasure ran is wrapped by the old key: it must not go before that is put right.
    let keks = store.keks();
    let Some(kek) = keks.iter().find(|kek| kek.id() == in_force) else {
        let what =
            anyhow::anyhow!("key-encryption key {in_force}, which is in force, is not at hand");
        return Err(Failure::new(Exit::Environment, what)
            .hint("no key was destroyed; bring the key that the erasure used and run the same command again"));
    };
    store
        .rewrap_rest(person, &kek_before, kek)
        .await
        .map_err(|error| {
            let hint = format!(
                "no key was destroyed; {kek_before} may still be needed: run the same command again with both keys at hand"
            );
            environment("put everything under the new key")(error).hint(hint)
        })?;
    let how = match epochs.finish(&in_force, &kek_before)? {
        Old::Destroyed => "file",
        Old::Absent => "asserted",
        Old::InUse { hint } => {
            return Answer::of(store, &request, Some(hint), BTreeSet::new()).await;
        }
    };
    let recorded = erasure::record_destroyed(store, id, &kek_before, how, person)
        .await
        .map_err(failure)?;
    request.destroyed = Some(recorded.entry.seq);
    Answer::of(store, &request, None, BTreeSet::new()).await
}

/// `ledger approve` of a request.
pub(super) async fn approve(
    common: &Common<'_>,
    session: Session,
    request: &Request,
    person: &Actor,
) -> Result<Exit, Failure> {
    let asked = &request.asked;
    if !common.json {
        output::line(format_args!(
            "erasure of {}, asked for by {} as entry {}",
            asked.owner, request.by, request.seq
        ))?;
        output::line(format_args!("reason: {}", asked.reason))?;
        output::line(format_args!("legal basis: {}", asked.legal_basis))?;
        if let Some(why) = &asked.overridden {
            output::line(format_args!("against what stands against it: {why}"))?;
        }
        output::line(format_args!(
            "it destroys {} payloads and {} subjects, as of the request",
            asked.payloads, asked.subjects
        ))?;
    }
    let by = erasure::approve(&session.store, request, person)
        .await
        .map_err(failure)?;
    let answer = Answer::of(&session.store, request, None, by).await?;
    session.close().await;
    if common.json {
        output::json(&answer)?;
    } else {
        output::line(format_args!(
            "approved by {}",
            answer.approved_by.join(", ")
        ))?;
        for line in answer.what_next() {
            output::line(line)?;
        }
    }
    Ok(Exit::Yes)
}

#[derive(Serialize)]
struct Answer {
    owner: Subject,
    /// `requested`, `approved`, `erased` (the old key is still to be destroyed), `held` (something was written since) or `done`.
    state: &'static str,
    request: RequestLine,
    approved_by: Vec<String>,
    approvals_missing: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<ErasedLine>,
    /// The entry that says that the old key-encryption key is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    kek_destroyed: Option<u64>,
    /// Payloads that were sealed for the owner after the erasure.
    held_since: u64,
    /// Copies outside that are to be called back.
    copies: Vec<CopyLine>,
    /// Until when copies of the old key may exist, by the requester's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    copies_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Serialize)]
struct RequestLine {
    seq: u64,
    id: EntryId,
    hash: String,
    by: String,
    reason: String,
    legal_basis: String,
    payloads: u64,
    subjects: u64,
}

#[derive(Serialize)]
struct ErasedLine {
    seq: u64,
    hash: String,
    recorded_at: Timestamp,
    payloads: u64,
    identities: u64,
    /// Entries whose payload was altered before.
    altered: String,
    epoch: u64,
    kek: String,
    kek_before: String,
}

#[derive(Serialize)]
struct CopyLine {
    seq: u64,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl Answer {
    async fn of(
        store: &Store,
        request: &Request,
        hint: Option<String>,
        by: BTreeSet<Actor>,
    ) -> Result<Self, Failure> {
        let owner = request.asked.owner.clone();
        let erasures = store.erasures().await.map_err(super::read_failure)?;
        let erasure = erasures
            .iter()
            .find(|erasure| erasure.said.request == request.id);
        let held = store.erasable(&owner).await;
        let held = held.map_err(environment("look at what is held"))?;
        let held_since = match (erasure, &held) {
            (Some(_), Some(held)) => held.payloads,
            _ => 0,
        };
        let ranges = match erasure {
            Some(erasure) => erasure.said.ranges.clone(),
            None => held.map(|held| held.ranges).unwrap_or_default(),
        };
        let copies = erasure::copies(store, &owner, &ranges).await;
        let copies = copies.map_err(failure)?;
        let by: Vec<String> = match erasure {
            Some(erasure) => erasure
                .said
                .approved_by
                .iter()
                .map(ToString::to_string)
                .collect(),
            None => by.iter().map(ToString::to_string).collect(),
        };
        Ok(Self {
            state: match (erasure, request.destroyed) {
                (Some(_), Some(_)) if held_since > 0 => "held",
                (Some(_), Some(_)) => "done",
                (Some(_), None) => "erased",
                (None, _) if by.len() >= APPROVERS_MIN => "approved",
                (None, _) => "requested",
            },
            owner,
            request: RequestLine {
                seq: request.seq,
                id: request.id,
                hash: request.hash.to_string(),
                by: request.by.to_string(),
                reason: request.asked.reason.clone(),
                legal_basis: request.asked.legal_basis.clone(),
                payloads: request.asked.payloads,
                subjects: request.asked.subjects,
            },
            approvals_missing: APPROVERS_MIN.saturating_sub(by.len()),
            approved_by: by,
            erased: erasure.map(|erasure| ErasedLine::of(erasure)),
            kek_destroyed: request.destroyed,
            held_since,
            copies: copies
                .into_iter()
                .map(|(copy, to)| CopyLine {
                    seq: copy.seq,
                    event_type: copy.event_type,
                    to,
                    sha256: copy.sha256.map(|hash| hash.to_string()),
                })
                .collect(),
            copies_until: request.asked.copies_until,
            hint,
        })
    }

    fn tell(&self, common: &Common<'_>) -> Result<Exit, Failure> {
        if common.json {
            output::json(self)?;
        } else {
            for line in self.lines() {
                output::line(line)?;
            }
        }
        Ok(if self.state == "done" {
            Exit::Yes
        } else {
            Exit::No
        })
    }

    fn lines(&self) -> Vec<String> {
        let request = &self.request;
        let mut lines = Vec::new();
        match &self.erased {
            None => {
                lines.push(format!(
                    "not erased: {} was asked for by {} (entry {}, hash {})",
                    self.owner, request.by, request.seq, request.hash
                ));
                lines.push(format!(
                    "it would destroy {} payloads and {} subjects",
                    request.payloads, request.subjects
                ));
            }
            Some(erased) => {
                lines.push(format!(
                    "erased: {} payloads and {} identities of {}, on {} (entry {}, hash {})",
                    erased.payloads,
                    erased.identities,
                    self.owner,
                    erased.recorded_at,
                    erased.seq,
                    erased.hash
                ));
                lines.push(format!("approved by {}", self.approved_by.join(", ")));
                if !erased.altered.is_empty() {
                    lines.push(format!(
                        "ALTERED before: the payloads of entries {}; `ledger verify` says so from now on",
                        erased.altered
                    ));
                }
            }
        }
        lines.extend(self.what_next());
        if self.copies.is_empty() {
            lines.push("copies outside: none is recorded".to_owned());
        }
        for copy in &self.copies {
            let to = copy.to.as_ref().map(|to| format!(" to {to}"));
            let sha256 = copy.sha256.as_ref().map(|hash| format!(", SHA-256 {hash}"));
            lines.push(format!(
                "copy to call back: {} (entry {}){}{}",
                copy.event_type,
                copy.seq,
                to.unwrap_or_default(),
                sha256.unwrap_or_default()
            ));
        }
        lines
    }

    /// What is still to be done, and by whom; and what a backup still shows.
    fn what_next(&self) -> Vec<String> {
        let short = self.request.hash.get(..16).unwrap_or_default();
        let Some(erased) = &self.erased else {
            return vec![match self.approvals_missing {
                0 => format!("next: `ledger erase {}` destroys it", self.owner),
                missing => format!(
                    "next: {missing} more person(s) approve it: `ledger approve {short} --as NAME`"
                ),
            }];
        };
        let kek = &erased.kek_before;
        let before = format!(
            "a backup from before entry {} reveals it to whoever still has key-encryption key {kek}",
            erased.seq
        );
        let until = match self.copies_until {
            Some(until) => format!("copies of that key may exist until {until}, by the requester's word"),
            None => "nobody has said until when copies of that key may exist: look in safes, password managers and \
                     backups of the home"
                .to_owned(),
        };
        let mut lines = match self.kek_destroyed {
            Some(seq) => vec![format!(
                "the old key-encryption key is destroyed here (entry {seq})"
            )],
            None => vec![
                "NOT DONE: the old key-encryption key is still in use or not known to be gone"
                    .to_owned(),
            ],
        };
        if self.held_since > 0 {
            lines.push(format!(
                "NOT DONE: {} payloads were written about {} since; next: ask anew with `ledger erase {} --reason TEXT --legal-basis TEXT`",
                self.held_since, self.owner, self.owner
            ));
        }
        lines.extend(self.hint.iter().map(|hint| format!("next: {hint}")));
        lines.push(format!("{before}; {until}"));
        lines.push(format!(
            "no backup from before it can be read any more without that key: make one now, and keep the new key ({}) apart \
             from it",
            erased.kek
        ));
        lines
    }
}

impl ErasedLine {
    fn of(erasure: &Erasure) -> Self {
        let said = &erasure.said;
        Self {
            seq: erasure.seq,
            hash: erasure.hash.to_string(),
            recorded_at: erasure.recorded_at,
            payloads: said.payloads,
            identities: said.identities,
            altered: said.altered.to_string(),
            epoch: said.epoch,
            kek: said.kek.clone(),
            kek_before: said.kek_before.clone(),
        }
    }
}

/// Gives each way in which it does not get on its status and hint.
pub(super) fn failure(error: ErasureError) -> Failure {
    match error {
        ErasureError::Person(error) => match error {
            ApproveError::OwnPlan { .. } => Failure::new(Exit::No, error),
            other => super::approve::approve_failure(other),
        },
        ErasureError::Read(source) => super::read_failure(source),
        ErasureError::Unreadable { .. } => Failure::new(Exit::Unknown, error)
            .hint("nothing was recorded; `ledger verify` says what is wrong with it"),
        ErasureError::Kept { .. } => Failure::new(Exit::No, error).hint(
            "nothing was erased; lift it, wait for it, or ask with --override REASON, which is recorded",
        ),
        ErasureError::Owned { ref owner, .. } => {
            let hint = format!("`ledger erase {owner}` erases it with all that its owner owns");
            Failure::new(Exit::No, error).hint(hint)
        }
        ErasureError::Text { .. } | ErasureError::Time(_) | ErasureError::Ambiguous(_) => {
            Failure::new(Exit::Usage, error)
        }
        ErasureError::Nothing(_)
        | ErasureError::NotFound { .. }
        | ErasureError::Lifted(_)
        | ErasureError::NotApproved { .. } => Failure::new(Exit::No, error),
        ErasureError::Erase {
            source: EraseError::Done(_) | EraseError::CommitUnknown(_),
            ..
        } => Failure::new(Exit::Environment, error).hint("run the same command again: it finds out"),
        ErasureError::Erase {
            source: EraseError::Altered { .. },
            ..
        } => Failure::new(Exit::No, error)
            .hint("nothing was erased; `ledger verify` names them; ask with --override REASON, which is recorded"),
        ErasureError::Erase {
            source: EraseError::Refused(_),
            ..
        } => Failure::new(Exit::No, error)
            .hint("nothing was erased; run the same command again: it says what stands against it now"),
        ErasureError::Erase {
            source: EraseError::SameKek,
            ..
        } => Failure::new(Exit::No, error).hint(
            "nothing was erased; an erasure is not finished, perhaps in another ledger of this database: `ledger verify` names it; \
             run its `ledger erase OWNER` until it says done; or else LEDGER_KEK_NEXT is the key in force: draw another",
        ),
        other => Failure::new(Exit::Environment, other)
            .hint("nothing was erased; mend that and run the same command again"),
    }
}
