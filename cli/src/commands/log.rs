//! `ledger log`: entries in order, and those that come.

use std::pin::pin;

use futures_util::StreamExt as _;
use ledger::domain::id::{Actor, EventType, RunId, Subject, Timestamp};
use ledger::projections::fold::At;
use ledger::store::Store;
use ledger::store::payload::PayloadText;
use ledger::store::read::{Filter, Recorded};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Common, read_failure};
use crate::args::Log;
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) async fn run(common: &Common<'_>, args: Log) -> Result<Exit, Failure> {
    let session = common.open().await?;
    let filter = filter(&session.store, &args).await?;
    let entries = if args.follow {
        session.store.follow(filter).left_stream()
    } else {
        session.store.read(filter).right_stream()
    };
    let mut entries = pin!(entries);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let recorded = tokio::select! {
            biased;
            _ = &mut interrupted => break,
            next = entries.next() => match next {
                Some(recorded) => recorded.map_err(read_failure)?,
                None => break,
            },
        };
        if common.json {
            output::exactly(&json_line(&recorded))?;
        } else {
            output::line(text_line(&recorded))?;
        }
    }
    Ok(Exit::Yes)
}

pub(crate) async fn filter(store: &Store, args: &Log) -> Result<Filter, Failure> {
    let types = args
        .types
        .iter()
        .map(|text| text.parse::<EventType>().map_err(Failure::usage));
    let mut filter = Filter {
        from: args.from,
        to: args.to,
        types: types.collect::<Result<_, _>>()?,
        run: match &args.run {
            Some(text) => Some(text.parse::<RunId>().map_err(Failure::usage)?),
            None => None,
        },
        ..Filter::default()
    };
    if let Some(text) = &args.as_of {
        match as_of(text)? {
            At::Seq(seq) => filter.to = Some(filter.to.map_or(seq, |to| to.min(seq))),
            At::Time(time) => filter.as_of = Some(time),
            At::Head => {}
        }
    }
    if let Some(text) = &args.subject {
        filter.subject = Some(subject(store, text).await?);
    }
    Ok(filter)
}

/// Reads `--as-of`.
pub(crate) fn as_of(text: &str) -> Result<At, Failure> {
    if let Ok(seq) = text.parse() {
        return Ok(At::Seq(seq));
    }
    Timestamp::parse_lenient(text)
        .map(At::Time)
        .map_err(Failure::usage)
}

/// Reads a subject: `kind:uuid`, or `kind:name` that was given one before.
pub(crate) async fn subject(store: &Store, text: &str) -> Result<Subject, Failure> {
    if let Ok(subject) = text.parse() {
        return Ok(subject);
    }
    let Some((kind, name)) = text.split_once(':') else {
        return Err(Failure::usage(
            "a subject looks like kind:uuid or kind:name",
        ));
    };
    ledger::domain::id::check_kind(kind).map_err(Failure::usage)?;
    store
        .subject_of(kind, name)
        .await
        .map_err(crate::exit::environment("look up the subject"))?
        .ok_or_else(|| Failure::new(Exit::No, anyhow::anyhow!("no entry is about this {kind}")))
}

/// The words for a payload that is not shown.
pub(crate) fn payload_state(payload: &PayloadText) -> &'static str {
    match payload {
        PayloadText::Open { .. } => "open",
        PayloadText::Sealed => "sealed",
        PayloadText::Erased(_) => "erased",
        PayloadText::Gone => "gone",
        PayloadText::Damaged => "damaged",
    }
}

/// A line of `log --json`.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    kind: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    recorded_at: String,
    prev: String,
    hash: String,
    entry: &'a ledger::chain::entry::Entry,
    /// The exact text that is hashed.
    bytes: &'a str,
    payload: Option<&'a RawValue>,
    payload_state: &'static str,
    /// The erasure that took the payload along.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<ErasedBy<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    natural_id: Option<&'a str>,
}

/// Where it says that and by whose word a payload was erased.
#[derive(Serialize)]
struct ErasedBy<'a> {
    seq: u64,
    recorded_at: String,
    by: &'a [Actor],
    legal_basis: &'a str,
}

pub(crate) fn json_line(recorded: &Recorded) -> String {
    let entry = &recorded.entry;
    let natural_id = match &recorded.payload {
        PayloadText::Open { natural_id, .. } => natural_id.as_deref(),
        _ => None,
    };
    // Line ends in a payload can stand only between its tokens, and would cut the line in two.
    let payload = recorded.payload.json();
    let payload = payload.map(|json| json.replace(['\n', '\r'], " "));
    let line = Line {
        seq: entry.seq,
        kind: entry.subject.kind(),
        event_type: entry.event_type.as_str(),
        recorded_at: entry.recorded_at.to_string(),
        prev: entry.prev.to_string(),
        hash: recorded.hash.to_string(),
        entry,
        bytes: &recorded.text,
        payload: payload
            .as_deref()
            .and_then(|json| serde_json::from_str(json).ok()),
        payload_state: payload_state(&recorded.payload),
        erased: match &recorded.payload {
            PayloadText::Erased(erasure) => Some(ErasedBy {
                seq: erasure.seq,
                recorded_at: erasure.recorded_at.to_string(),
                by: &erasure.said.approved_by,
                legal_basis: &erasure.said.legal_basis,
            }),
            _ => None,
        },
        natural_id,
    };
    // Only a map with keys that are no strings would fail, and there is none.
    serde_json::to_string(&line).unwrap_or_default()
}

fn text_line(recorded: &Recorded) -> String {
    let entry = &recorded.entry;
    let erased = match &recorded.payload {
        PayloadText::Erased(erasure) => format!("  {}", erasure.words()),
        _ => String::new(),
    };
    format!(
        "{:>7}  {}  {:<24} {:<52} {}{erased}",
        entry.seq,
        entry.recorded_at,
        entry.event_type.as_str(),
        entry.subject.to_string(),
        entry.actor,
    )
}
