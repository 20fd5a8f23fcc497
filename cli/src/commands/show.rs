//! `ledger show`: one entry.

use ledger::store::payload::PayloadText;

use super::{Common, log, read_failure};
use crate::args::Show;
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) async fn run(common: &Common<'_>, args: &Show) -> Result<Exit, Failure> {
    let session = common.open().await?;
    let recorded = session.store.get(args.seq).await.map_err(read_failure)?;
    let Some(recorded) = recorded else {
        let head = session.store.head().await.map_err(read_failure)?;
        session.close().await;
        return Err(Failure::new(
            Exit::No,
            anyhow::anyhow!(
                "there is no entry {}: the ledger has {}",
                args.seq,
                head.size
            ),
        ));
    };
    if common.json {
        output::exactly(&log::json_line(&recorded))?;
    } else {
        let entry = &recorded.entry;
        let none = || "-".to_owned();
        let field = |name: &str, value: String| output::line(format_args!("{name:<12} {value}"));
        field("seq", entry.seq.to_string())?;
        field("hash", recorded.hash.to_string())?;
        field("prev", entry.prev.to_string())?;
        field(
            "type",
            format!("{} (schema {})", entry.event_type, entry.schema),
        )?;
        field("subject", entry.subject.to_string())?;
        field("actor", entry.actor.to_string())?;
        field("occurred", entry.occurred_at.to_string())?;
        field("recorded", entry.recorded_at.to_string())?;
        field("key", entry.key.to_string())?;
        field("run", entry.run.map_or_else(none, |id| id.to_string()))?;
        field("cause", entry.cause.map_or_else(none, |id| id.to_string()))?;
        match &recorded.payload {
            PayloadText::Open { json, natural_id } => {
                if let Some(natural_id) = natural_id {
                    field("natural id", natural_id.clone())?;
                }
                let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
                let pretty = serde_json::to_string_pretty(&value).unwrap_or_default();
                output::lines(format_args!("{:<12} {pretty}", "payload"))?;
            }
            PayloadText::Erased(erasure) => field("payload", erasure.words())?,
            other => field("payload", log::payload_state(other).to_owned())?,
        }
    }
    session.close().await;
    Ok(Exit::Yes)
}
