//! `ledger verify`: is the log what was written?

use ledger::store::verify::{Anchor, Report};
use serde::Serialize;

use super::{Common, read_failure};
use crate::args::Verify;
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) async fn run(common: &Common<'_>, args: Verify) -> Result<Exit, Failure> {
    let heads = args
        .heads
        .iter()
        .map(|text| anchor(text))
        .collect::<Result<Vec<_>, _>>()?;
    let session = common.open().await?;
    let bar = output::bar("entries checked");
    let report = session
        .store
        .verify(&heads, |done, all| bar.set(done, all))
        .await
        .map_err(read_failure)?;
    bar.clear();
    session.close().await;
    let answer = Answer::of(&report);
    if common.json {
        output::json(&answer)?;
    } else {
        answer.print()?;
    }
    Ok(match answer.verdict {
        "intact" => Exit::Yes,
        "tampered" => Exit::No,
        _ => Exit::Unknown,
    })
}

fn anchor(text: &str) -> Result<Anchor, Failure> {
    let parsed = text.split_once(':').and_then(|(size, hash)| {
        Some(Anchor {
            size: size.parse().ok()?,
            hash: hash.parse().ok()?,
        })
    });
    parsed.filter(|anchor| anchor.size > 0).ok_or_else(|| {
        Failure::usage("--head must look like SEQ:HASH, as `ledger verify` prints it")
    })
}

#[derive(Serialize)]
struct Answer {
    verdict: &'static str,
    size: u64,
    head: String,
    anchored: Option<u64>,
    broken: Vec<BrokenLine>,
    broken_count: u64,
    erased: Vec<ErasedLine>,
    unchecked: Vec<String>,
}

#[derive(Serialize)]
struct ErasedLine {
    seq: u64,
    owner: String,
    payloads: u64,
    recorded_at: String,
    by: Vec<String>,
}

#[derive(Serialize)]
struct BrokenLine {
    seq: u64,
    how: String,
}

impl Answer {
    fn of(report: &Report) -> Self {
        let broken_count = report.findings.broken_count();
        let verdict = match (broken_count, report.guards_off.is_empty()) {
            (0, true) => "intact",
            (0, false) => "unknown",
            _ => "tampered",
        };
        let off = report
            .guards_off
            .iter()
            .map(|guard| format!("guard: {guard}"));
        Self {
            verdict,
            size: report.head.size,
            head: report.head.hash.to_string(),
            anchored: report.anchored,
            broken: report
                .findings
                .broken()
                .map(|broken| BrokenLine {
                    seq: broken.seq,
                    how: broken.how.to_string(),
                })
                .collect(),
            broken_count,
            erased: report
                .erased
                .iter()
                .map(|erased| ErasedLine {
                    seq: erased.seq,
                    owner: erased.owner.to_string(),
                    payloads: erased.payloads,
                    recorded_at: erased.recorded_at.to_string(),
                    by: erased.by.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            unchecked: off.chain(report.unchecked.iter().cloned()).collect(),
        }
    }

    fn print(&self) -> Result<(), Failure> {
        for BrokenLine { seq, how } in &self.broken {
            output::line(format_args!("tampered: seq {seq}: {how}"))?;
        }
        let listed = self.broken.len() as u64;
        if self.broken_count > listed {
            let more = self.broken_count - listed;
            output::line(format_args!("tampered: and {more} more entries"))?;
        }
        let entries = if self.size == 1 { "entry" } else { "entries" };
        output::line(format_args!("{}: {} {entries}", self.verdict, self.size))?;
        output::line(format_args!("head: {}:{}", self.size, self.head))?;
        match self.anchored {
            Some(anchored) => output::line(format_args!("anchored: up to entry {anchored}"))?,
            None => output::line("anchored: no")?,
        }
        for erased in &self.erased {
            output::line(format_args!(
                "erased: {} payloads of {}, as entry {} says: on {} by {}",
                erased.payloads,
                erased.owner,
                erased.seq,
                erased.recorded_at,
                erased.by.join(", ")
            ))?;
        }
        for what in &self.unchecked {
            output::line(format_args!("not checked: {what}"))?;
        }
        Ok(())
    }
}
