//! What `ledger review explain` says of what the retired system wrote late: no item of a plan yet, so the log tells only who saw it.

use ledger::projections::deletions::LateLine;
use serde::Serialize;

use super::{Common, Folded, user_words};
use crate::exit::{Exit, Failure};
use crate::output;

/// The answer.
#[derive(Serialize)]
struct Explanation {
    /// As the ledger was at this entry.
    as_of: u64,
    /// Why it is there, in one sentence.
    answer: String,
    #[serde(flatten)]
    late: LateLine,
}

/// The one that is named so, where no item is; `None`: none is.
pub(super) fn named(folded: &Folded, text: &str) -> Result<Option<LateLine>, Failure> {
    if !folded.deletions.items_named(text).is_empty() {
        return Ok(None);
    }
    let mut late = folded.deletions.late_named(text, &folded.custody);
    if late.len() > 1 {
        let what = format!("{} items were written late that are named so", late.len());
        let all: Vec<String> = late
            .iter()
            .map(|one| {
                let place = one.item.calendar.as_deref().unwrap_or_default();
                let id = one.item.event_id.as_deref().unwrap_or_default();
                format!("{} ({id} in {place})", one.item.subject)
            })
            .collect();
        return Err(Failure::usage(what).hint(format!("name one of these: {}", all.join("; "))));
    }
    Ok(late.pop())
}

pub(super) fn tell(common: &Common<'_>, folded: &Folded, late: LateLine) -> Result<Exit, Failure> {
    let as_of = folded.pass.last.map_or(0, |(seq, _)| seq);
    let answer = Explanation {
        as_of,
        answer: answer(&late),
        late,
    };
    if common.json {
        output::json(&answer)?;
    } else {
        for line in answer.lines() {
            output::line(line)?;
        }
    }
    Ok(if folded.pass.damaged > 0 {
        Exit::Unknown
    } else {
        Exit::Yes
    })
}

fn answer(late: &LateLine) -> String {
    let then = if late.counts {
        "No plan names it yet, so nothing shows that the new system has what it says: it counts as lost until a new dry run finds it."
    } else {
        "A plan names it by now: its id, or its subject, is what to ask by."
    };
    format!(
        "It was written late: the retired system (v1) made it at {}, after the plan was made. {then}",
        late.written_at
    )
}

impl Explanation {
    fn lines(&self) -> Vec<String> {
        let late = &self.late;
        let item = &late.item;
        let mut lines = vec![
            format!(
                "{} in {}",
                item.event_id.as_deref().unwrap_or_default(),
                item.calendar.as_deref().unwrap_or_default()
            ),
            item.subject.clone(),
        ];
        if !item.users.is_empty() {
            let users: Vec<String> = item.users.iter().map(user_words).collect();
            lines.push(format!("of {}", users.join(", ")));
        }
        lines.push(format!("as of entry {}", self.as_of));
        lines.push(String::new());
        lines.push(self.answer.clone());
        lines.push(String::new());
        lines.push("Who saw it".to_owned());
        let run = late.seen_by.map(|run| run.to_string()).unwrap_or_default();
        let look = match late.verb.as_deref() {
            Some("observe") => format!(
                "a look of {} at run {} afterwards, run {run},",
                late.by, late.after
            ),
            _ => format!("{}, in the look of run {} itself,", late.by, late.after),
        };
        lines.push(format!(
            "  {look} recorded it at {} (entry {})",
            late.entry.recorded_at, late.entry.seq
        ));
        lines
    }
}
