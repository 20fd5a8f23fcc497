//! `ledger hold` and `ledger retention`: what may not be erased, or not yet.

use ledger::domain::erasure::{LegalHoldLifted, LegalHoldPlaced, RetentionSet};
use ledger::domain::event::Event;
use ledger::domain::id::{Actor, EntryId, Subject, Timestamp, check_kind};
use ledger::projections::erasure::{self, ErasureError};
use ledger::store::Store;
use serde::Serialize;

use super::erase::failure;
use super::{Common, log};
use crate::args::{Hold, Retention};
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct Recorded {
    seq: u64,
    hash: String,
    subject: Subject,
}

#[derive(Serialize)]
struct HoldLine {
    seq: u64,
    subject: Subject,
    reason: String,
}

#[derive(Serialize)]
struct RetentionLine {
    kind: String,
    until: Timestamp,
}

pub(crate) async fn run(common: &Common<'_>, args: Hold) -> Result<Exit, Failure> {
    let session = common.open().await?;
    let store = &session.store;
    let exit = match args {
        Hold::Place { subject, reason } => {
            erasure::check_text("the reason", &reason).map_err(failure)?;
            let subject = match subject {
                Some(text) => log::subject(store, &text).await?,
                None => Subject::of_ledger(store.id()),
            };
            let event = Event::LegalHoldPlaced(LegalHoldPlaced { reason });
            record(common, store, &event, subject, None).await
        }
        Hold::Lift { seq, reason } => {
            erasure::check_text("the reason", &reason).map_err(failure)?;
            let holds = erasure::holds(store).await.map_err(failure)?;
            let hold = holds.into_iter().find(|hold| hold.seq == seq);
            let hold = hold.ok_or_else(|| {
                failure(ErasureError::NotFound {
                    what: "legal hold",
                    name: seq.to_string(),
                })
            })?;
            if hold.lifted {
                return Err(failure(ErasureError::Lifted(seq)));
            }
            let event = Event::LegalHoldLifted(LegalHoldLifted {
                hold: hold.id,
                reason,
            });
            record(common, store, &event, hold.subject, Some(hold.id)).await
        }
        Hold::List => {
            let mut holds = erasure::holds(store).await.map_err(failure)?;
            holds.retain(|hold| !hold.lifted);
            for hold in holds {
                let (seq, reason) = (hold.seq, hold.reason);
                let line = format!("{seq:>7}  {:<52} {reason}", hold.subject.to_string());
                let subject = hold.subject;
                tell(
                    common,
                    &HoldLine {
                        seq,
                        subject,
                        reason,
                    },
                    line,
                )?;
            }
            Ok(Exit::Yes)
        }
    };
    session.close().await;
    exit
}

pub(crate) async fn retention(common: &Common<'_>, args: Retention) -> Result<Exit, Failure> {
    let session = common.open().await?;
    let store = &session.store;
    let exit = match args {
        Retention::Set {
            kind,
            until,
            reason,
        } => {
            check_kind(&kind).map_err(Failure::usage)?;
            erasure::check_text("the reason", &reason).map_err(failure)?;
            let until = Timestamp::parse_lenient(&until).map_err(Failure::usage)?;
            let event = Event::RetentionSet(RetentionSet {
                kind,
                until,
                reason,
            });
            record(common, store, &event, Subject::of_ledger(store.id()), None).await
        }
        Retention::List => {
            for (kind, until) in erasure::retentions(store).await.map_err(failure)? {
                let line = format!("{kind:<24} until {until}");
                tell(common, &RetentionLine { kind, until }, line)?;
            }
            Ok(Exit::Yes)
        }
    };
    session.close().await;
    exit
}

async fn record(
    common: &Common<'_>,
    store: &Store,
    event: &Event,
    subject: Subject,
    cause: Option<EntryId>,
) -> Result<Exit, Failure> {
    let person: Actor = common.actor()?;
    let appended = erasure::govern(store, event, subject.clone(), &person, cause)
        .await
        .map_err(failure)?;
    let recorded = Recorded {
        seq: appended.entry.seq,
        hash: appended.hash.to_string(),
        subject,
    };
    let line = format!(
        "{}: {} (entry {}, hash {})",
        event.name(),
        recorded.subject,
        recorded.seq,
        recorded.hash
    );
    tell(common, &recorded, line)?;
    Ok(Exit::Yes)
}

fn tell(common: &Common<'_>, value: &impl Serialize, line: String) -> Result<(), Failure> {
    if common.json {
        output::json(value)
    } else {
        output::line(line)
    }
}
