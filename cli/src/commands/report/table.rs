//! The report as one table in CSV (RFC 4180).

use ledger::domain::printable::one_line;
use ledger::projections::deletions::UserLine;
use ledger::projections::report::{Column, Counts, ItemRow, Report};

use crate::commands::word;
use crate::exit::{Failure, environment};

/// Columns of an item's row, after the counts.
const ITEM: [&str; 27] = [
    "state",
    "subject",
    "place",
    "item",
    "date",
    "covered",
    "class",
    "disposition",
    "reason",
    "evidence",
    "plan",
    "approved_by",
    "approval_seq",
    "backup_sha256",
    "backup_seq",
    "attempts",
    "outcome",
    "http_status",
    "decided",
    "proof_seq",
    "proof_hash",
    "proof_checkpoint",
    "undo",
    "undo_seq",
    "restored_item",
    "restored_way",
    "restored_differs",
];

/// A row for each user, one for the totals, and one for each item; `row` says which. All have the same columns.
pub(super) fn csv(report: &Report) -> Result<String, Failure> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    let mut write = |fields: Vec<String>| {
        let fields: Vec<String> = fields.iter().map(|field| harmless(field)).collect();
        writer.write_record(&fields)
    };
    let result = (|| {
        let mut head = vec!["row", "user", "email", "unreachable", "found"];
        head.extend(Column::ALL.map(Column::name));
        head.extend(ITEM);
        write(head.into_iter().map(str::to_owned).collect())?;
        for user in &report.users {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let mut row = vec![
                "user".to_owned(),
                text(&user.subject),
                text(&user.email),
                text(&user.unreachable),
            ];
            row.extend(numbers(&user.counts));
            row.extend(ITEM.map(|_| String::new()));
            write(row)?;
        }
        let mut row = vec![
            "total".to_owned(),
            String::new(),
            String::new(),
            String::new(),
        ];
        row.extend(numbers(&report.totals));
        row.extend(ITEM.map(|_| String::new()));
        write(row)?;
        for item in &report.items {
            write(of_item(item))?;
        }
        Ok::<(), csv::Error>(())
    })();
    result.map_err(environment("write the table"))?;
    let bytes = writer.into_inner().map_err(|error| {
        environment("write the table")(std::io::Error::other(error.to_string()))
    })?;
    String::from_utf8(bytes).map_err(environment("write the table"))
}

fn numbers(counts: &Counts) -> Vec<String> {
    let columns = Column::ALL.map(|column| counts.get(column).to_string());
    std::iter::once(counts.found.to_string())
        .chain(columns)
        .collect()
}

fn of_item(row: &ItemRow) -> Vec<String> {
    let item = &row.item;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let users = |of: fn(&UserLine) -> String| {
        let users: Vec<String> = item.users.iter().map(of).collect();
        users.join(" ")
    };
    let mut fields = vec![
        "item".to_owned(),
        users(|user| user.subject.clone()),
        users(|user| user.email.clone().unwrap_or_default()),
        String::new(),
        "1".to_owned(),
    ];
    let counted = Column::ALL.map(|column| u64::from(column == row.column).to_string());
    fields.extend(counted);
    let approved = item.approved.as_ref();
    let backup = item.backup.as_ref();
    let outcome = item.outcome.as_ref();
    let proof = row.proof.as_ref();
    let undo = item.undo.as_ref();
    let restored = item.restored.as_ref();
    let decided: Vec<String> = item
        .decisions
        .iter()
        .filter(|decision| decision.plan.is_some())
        .map(|decision| format!("{} by {}", decision.decision.name(), decision.by))
        .collect();
    fields.extend([
        word(&item.state),
        item.subject.clone(),
        text(&item.calendar),
        text(&item.event_id),
        text(&item.date),
        item.covered
            .map(|covered| covered.to_string())
            .unwrap_or_default(),
        text(&item.class),
        item.disposition
            .map(|it| it.name().to_owned())
            .unwrap_or_default(),
        text(&item.reason),
        super::page::evidence(item).join("; "),
        item.plan.map(|plan| plan.to_string()).unwrap_or_default(),
        approved
            .map(|approval| approval.by.to_string())
            .unwrap_or_default(),
        number(approved.map(|approval| approval.entry.seq)),
        backup
            .map(|backup| backup.sha256.to_string())
            .unwrap_or_default(),
        number(backup.map(|backup| backup.entry.seq)),
        item.attempts.to_string(),
        outcome
            .map(|outcome| outcome.what.to_owned())
            .unwrap_or_default(),
        outcome
            .and_then(|it| it.status)
            .map(|status| status.to_string())
            .unwrap_or_default(),
        decided.join("; "),
        number(proof.map(|proof| proof.entry.seq)),
        proof
            .map(|proof| proof.entry.hash.to_string())
            .unwrap_or_default(),
        number(proof.and_then(|proof| proof.checkpoint)),
        undo.map(|undo| undo.what.to_owned()).unwrap_or_default(),
        number(undo.map(|undo| undo.entry.seq)),
        restored
            .map(|restored| restored.event_id.clone())
            .unwrap_or_default(),
        restored
            .map(|restored| restored.way.clone())
            .unwrap_or_default(),
        restored
            .map(|restored| restored.differs.join(" "))
            .unwrap_or_default(),
    ]);
    fields
}

/// A field that no spreadsheet takes for a formula: what begins like one gets an apostrophe in front, which a spreadsheet
/// shows as text (OWASP, CSV injection).
fn harmless(field: &str) -> String {
    let line = one_line(field);
    let begins = field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    if begins {
        format!("'{line}")
    } else {
        line.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_like_a_formula_is_text() {
        for field in ["=1+1", "+1", "-1", "@sum(a1)", "\t=1", "\r=1", "＝1"] {
            assert_eq!(harmless(field), format!("'{}", one_line(field)));
        }
        for field in ["", "1", "a=b", "person:ann", "'=1"] {
            assert_eq!(harmless(field), field);
        }
        assert_eq!(harmless("eve\ntotal,1\u{1b}[2K"), r"eve\ntotal,1\u{1b}[2K");
    }
}
