//! `ledger checkpoint lag`: how far checkpoints, publications and cosignatures are behind the head, for whoever watches.

use std::path::Path;

use ledger::store::lag::Lag;
use serde::Serialize;

use super::Common;
use super::witness::quorum;
use crate::database::Session;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signing;

#[derive(Serialize)]
struct Answer {
    ledger: String,
    /// Number of entries.
    size: u64,
    checkpoint: Lag,
    publications: Vec<Publication>,
    /// Of the last checkpoint that a policy accepts; only where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    cosignature: Option<Lag>,
}

#[derive(Serialize)]
struct Publication {
    target: String,
    #[serde(flatten)]
    lag: Lag,
}

pub(super) async fn run(
    common: &Common<'_>,
    session: &Session,
    policy: Option<&Path>,
) -> Result<Exit, Failure> {
    let policy = policy.map(quorum::read).transpose()?;
    let store = &session.store;
    let last = store.stored_checkpoint(None).await;
    let last = last.map_err(signing::failure)?;
    let covered = last.map_or(0, |last| last.checkpoint.checkpoint().size());
    let mut publications = Vec::new();
    for (target, size) in store.publications().await.map_err(super::read_failure)? {
        let lag = lag(session, size).await?;
        publications.push(Publication { target, lag });
    }
    let cosignature = match &policy {
        None => None,
        Some(policy) => {
            let accepted = quorum::accepted(session, policy).await?.checkpoint;
            let size = accepted.map_or(0, |signed| signed.checkpoint().size());
            Some(lag(session, size).await?)
        }
    };
    let answer = Answer {
        ledger: store.row().name.clone(),
        size: store.head().await.map_err(super::read_failure)?.size,
        checkpoint: lag(session, covered).await?,
        publications,
        cosignature,
    };
    if common.json {
        output::json(&answer)?;
    } else {
        output::lines(answer.metrics().trim_end())?;
    }
    Ok(Exit::Yes)
}

async fn lag(session: &Session, size: u64) -> Result<Lag, Failure> {
    let lag = session.store.lag_behind(size).await;
    lag.map_err(super::read_failure)
}

impl Answer {
    /// OpenMetrics text: <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.
    fn metrics(&self) -> String {
        let ledger = escaped(&self.ledger);
        let of = |target: &str| format!("ledger=\"{ledger}\",target=\"{}\"", escaped(target));
        let ledger = format!("ledger=\"{ledger}\"");
        let mut lines = Vec::new();
        family(
            &mut lines,
            "ledger_entries",
            "Entries of the ledger.",
            &[(ledger.clone(), self.size)],
        );
        let published = self.publications.iter();
        let published: Vec<_> = published.map(|one| (of(&one.target), one.lag)).collect();
        let cosigned: Vec<_> = self
            .cosignature
            .map(|lag| (ledger.clone(), lag))
            .into_iter()
            .collect();
        for (name, what, lags) in [
            (
                "checkpoint",
                "the last checkpoint",
                &[(ledger.clone(), self.checkpoint)][..],
            ),
            (
                "publication",
                "the last checkpoint published there",
                &published,
            ),
            (
                "cosignature",
                "the last checkpoint that the policy accepts",
                &cosigned,
            ),
        ] {
            family(
                &mut lines,
                &format!("ledger_{name}_lag_entries"),
                &format!("Entries that {what} does not cover."),
                &values(lags, |lag| lag.entries),
            );
            family(
                &mut lines,
                &format!("ledger_{name}_lag_seconds"),
                &format!("Time for which the oldest entry that {what} does not cover has waited."),
                &values(lags, |lag| lag.seconds),
            );
        }
        lines.push("# EOF\n".to_owned());
        lines.join("\n")
    }
}

fn values(lags: &[(String, Lag)], of: impl Fn(&Lag) -> u64) -> Vec<(String, u64)> {
    let values = lags.iter().map(|(labels, lag)| (labels.clone(), of(lag)));
    values.collect()
}

/// A family of gauges; nothing where there is none to show.
fn family(lines: &mut Vec<String>, name: &str, help: &str, values: &[(String, u64)]) {
    if values.is_empty() {
        return;
    }
    lines.push(format!("# TYPE {name} gauge"));
    if name.ends_with("_seconds") {
        lines.push(format!("# UNIT {name} seconds"));
    }
    lines.push(format!("# HELP {name} {help}"));
    for (labels, value) in values {
        lines.push(format!("{name}{{{labels}}} {value}"));
    }
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_what_is_not_known_has_no_gauge() {
        let lag = |size, entries, seconds| Lag {
            size,
            entries,
            seconds,
        };
        let mut answer = Answer {
            ledger: "te\"st".to_owned(),
            size: 9,
            checkpoint: lag(7, 2, 61),
            publications: Vec::new(),
            cosignature: None,
        };
        insta::assert_snapshot!(answer.metrics(), @r#"
        # TYPE ledger_entries gauge
        # HELP ledger_entries Entries of the ledger.
        ledger_entries{ledger="te\"st"} 9
        # TYPE ledger_checkpoint_lag_entries gauge
        # HELP ledger_checkpoint_lag_entries Entries that the last checkpoint does not cover.
        ledger_checkpoint_lag_entries{ledger="te\"st"} 2
        # TYPE ledger_checkpoint_lag_seconds gauge
        # UNIT ledger_checkpoint_lag_seconds seconds
        # HELP ledger_checkpoint_lag_seconds Time for which the oldest entry that the last checkpoint does not cover has waited.
        ledger_checkpoint_lag_seconds{ledger="te\"st"} 61
        # EOF
        "#);
        answer.publications = vec![Publication {
            target: "folder:C:\\out".to_owned(),
            lag: lag(5, 4, 90),
        }];
        answer.cosignature = Some(lag(0, 9, 100));
        let text = answer.metrics();
        assert!(text.contains(
            "ledger_publication_lag_seconds{ledger=\"te\\\"st\",target=\"folder:C:\\\\out\"} 90\n"
        ));
        assert!(text.contains("ledger_cosignature_lag_entries{ledger=\"te\\\"st\"} 9\n"));
    }
}
