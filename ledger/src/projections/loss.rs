//! The answer to "was any data lost", from one pass over the log.

use super::custody::CustodyFold;
use super::fold::{At, run};
use crate::domain::verdict::{Anchor, AsOf, Inputs, LossAnswer, judge};
use crate::store::Store;
use crate::store::read::ReadError;
use crate::store::verify::Report;

/// What a check of the log itself found. A log that is doubtful answers nothing with `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Integrity {
    /// Every entry, link, payload and identity that could be checked was in order.
    pub log_intact: bool,
    /// All guards of its tables were on.
    pub guards_on: bool,
    /// Up to which entry something from outside speaks for the log, and what.
    pub anchored: Option<Anchor>,
}

impl Integrity {
    /// What a verification found that was given something from `place`.
    pub fn of(report: &Report, place: &str) -> Self {
        Self {
            log_intact: report.findings.broken_count() == 0 && !report.undecided,
            guards_on: report.guards_off.is_empty(),
            anchored: report.anchored.map(|seq| Anchor {
                seq,
                place: place.to_owned(),
            }),
        }
    }
}

/// The answer as of a point in the log; `None` where the ledger had no entry by then.
///
/// # Errors
/// The database's.
pub async fn loss(
    store: &Store,
    at: At,
    integrity: Integrity,
) -> Result<Option<LossAnswer>, ReadError> {
    let mut custody = CustodyFold::default();
    let pass = run(store, at, &mut [&mut custody]).await?;
    let Some((seq, recorded_at)) = pass.last else {
        return Ok(None);
    };
    Ok(Some(judge(Inputs {
        as_of: AsOf {
            seq,
            recorded_at: recorded_at.instant(),
        },
        anchored: integrity.anchored.map(|anchor| Anchor {
            seq: anchor.seq.min(seq),
            ..anchor
        }),
        scopes: custody.facts(),
        lost: custody.lost(),
        guards_on: integrity.guards_on,
        log_intact: integrity.log_intact && pass.damaged == 0,
        evidence: custody.evidence(),
    })))
}
