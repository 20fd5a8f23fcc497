//! The report as a page: for a browser, or for paper. It has no script and loads nothing; the template escapes every text.

use std::collections::BTreeMap;

use ledger::projections::deletions::{ItemLine, PlanLine};
use ledger::projections::report::{Column, Counts, ItemRow, UserRow};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Document;
use crate::commands::review::{short, state_words};

/// Nothing may be loaded or run, whatever a text in the page says.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub(super) const STYLE: &str = "\
body{font:14px/1.45 sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#111}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}\
table{border-collapse:collapse;width:100%;margin:1em 0}\
th,td{border:1px solid #bbb;padding:.25em .5em;text-align:left;vertical-align:top;overflow-wrap:anywhere}\
td p{margin:0 0 .4em}td.n,th.n{text-align:right;overflow-wrap:normal}\
code{font:12px monospace;overflow-wrap:anywhere}\
tfoot td{font-weight:bold}.bad{color:#a00;font-weight:bold}";

/// Paper: a user begins on a new page, a table's head stands on each, no row is cut in two.
const PRINT: &str = "\
@page{size:A4 landscape;margin:15mm}\
@media print{body{margin:0;max-width:none;font-size:9pt}}\
section{break-before:page}\
thead{display:table-header-group}tr{break-inside:avoid}h2{break-after:avoid}";

/// The names of what was seen of an item, with what they rest on.
pub(super) fn evidence(item: &ItemLine) -> Vec<String> {
    let words = |(name, detail): (&String, &Option<String>)| match detail {
        Some(detail) => format!("{name}: {detail}"),
        None => name.clone(),
    };
    item.evidence.iter().map(words).collect()
}

pub(super) fn page(document: &Document<'_>, plans: &[PlanLine], print: bool) -> String {
    let (basis, report) = (document.basis, document.report);
    let mut of_user: BTreeMap<Option<&str>, Vec<&ItemRow>> = BTreeMap::new();
    for row in &report.items {
        let first = row.item.users.first();
        let user = first.map(|user| user.subject.as_str());
        of_user.entry(user).or_default().push(row);
    }
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="referrer" content="no-referrer";
                title { "Report of deletions, " (basis.name) }
                style { (PreEscaped(STYLE)) @if print { (PreEscaped(PRINT)) } }
            }
            body {
                header {
                    h1 { "Report of deletions" }
                    p {
                        "Ledger " b { (basis.name) } " (" code { (basis.ledger) } "), as of entry "
                        (basis.as_of.seq) ", recorded at " (basis.as_of.recorded_at)
                        @if basis.clock.is_some() { " by a simulated clock" } "."
                    }
                    p { "Hash of that entry: " code { (basis.as_of.hash) } }
                    p {
                        @match &basis.checkpoint {
                            Some(tree) => {
                                "Last checkpoint: " (tree.size) " entries, root " code { (tree.root) }
                                ". An entry up to " (tree.size) " is proved by " code { "ledger prove NUMBER" } "."
                            }
                            None => { "No checkpoint was signed yet." }
                        }
                    }
                    @for (name, value) in &basis.selection {
                        p { "Only of " (name) " " code { (value) } "." }
                    }
                    @if basis.unread > 0 {
                        p.bad {
                            "Not whole: " (basis.unread) " entries say nothing (sealed without a key at hand, gone or damaged)."
                        }
                    }
                }
                h2 { "Plans and approvals" }
                @for plan in plans { (of_plan(plan)) }
                h2 { "Users" }
                (users(&report.users, &report.totals))
                @for user in &report.users {
                    @if let Some(rows) = of_user.get(&user.subject.as_deref()) {
                        section {
                            h2 { (name(user)) ": " (rows.len()) " items" }
                            (items(rows))
                        }
                    }
                }
            }
        }
    };
    markup.into_string() + "\n"
}

fn name(user: &UserRow) -> &str {
    let name = user.email.as_deref().or(user.subject.as_deref());
    name.unwrap_or("nobody known")
}

fn of_plan(plan: &PlanLine) -> Markup {
    html! {
        p {
            "Plan " code { (plan.plan) } ": " (plan.items) " items, made by " (plan.made_by) " (entry "
            (plan.sealed.seq) ")"
            @if let Some(base) = plan.base { ", by decisions about plan " code { (short(base)) } }
            ". "
            @for approval in &plan.approvals {
                "Approved by " (approval.by) " (" (approval.assurance) ") at " (approval.entry.recorded_at)
                " (entry " (approval.entry.seq) "). "
            }
            @if plan.approvals.is_empty() { "Not approved." }
        }
    }
}

fn heading(column: Column) -> String {
    column.name().replace('_', " ")
}

fn numbers(counts: &Counts) -> Markup {
    html! {
        td.n { (counts.found) }
        @for column in Column::ALL { td.n { (counts.get(column)) } }
    }
}

fn users(users: &[UserRow], totals: &Counts) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "user" }
                    th.n { "found" }
                    @for column in Column::ALL { th.n { (heading(column)) } }
                }
            }
            tbody {
                @for user in users {
                    tr {
                        td {
                            (name(user))
                            @if let Some(why) = &user.unreachable { " (not reached: " (why) ")" }
                        }
                        (numbers(&user.counts))
                    }
                }
            }
            tfoot { tr { td { "all" } (numbers(totals)) } }
        }
    }
}

fn items(rows: &[&ItemRow]) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "item" }
                    th { "state" }
                    th { "why" }
                    th { "approved, copy" }
                    th { "outcome" }
                    th { "proof" }
                }
            }
            tbody { @for row in rows { (of_item(row)) } }
        }
    }
}

fn of_item(row: &ItemRow) -> Markup {
    let item = &row.item;
    html! {
        tr {
            td {
                code { (item.event_id.as_deref().unwrap_or(&item.subject)) }
                @if let Some(date) = &item.date { br; (date) }
                @if item.covered == Some(false) { br; span.bad { "uncovered" } }
            }
            td { (state_words(item.state)) }
            td {
                @if let Some(class) = &item.class { b { (class) } ": " }
                @if let Some(reason) = &item.reason { (reason) }
                @let seen = evidence(item);
                @if !seen.is_empty() { br; small { (seen.join("; ")) } }
                @for decision in item.decisions.iter().filter(|decision| decision.plan.is_some()) {
                    br; (decision.by) " decided to " (decision.decision.name()) " it (entry " (decision.entry.seq) ")"
                }
            }
            td {
                @if let Some(approval) = &item.approved { (approval.by) " (entry " (approval.entry.seq) ")" }
                @if let Some(backup) = &item.backup {
                    @if item.approved.is_none() { span.bad { "no approval in the log" } }
                    br; "copy in entry " (backup.entry.seq)
                    @if !backup.is_true { " " span.bad { "which is not what its digest says" } }
                    br; code { (backup.sha256) }
                }
            }
            td {
                @for outcome in [&item.outcome, &item.undo].into_iter().flatten() {
                    p {
                        (outcome.what.replace('_', " "))
                        @if let Some(status) = outcome.status { " (" (status) ")" }
                        br; (outcome.entry.recorded_at)
                    }
                }
                @if let Some(restored) = &item.restored {
                    p {
                        "by " (restored.way) ", its id is " code { (restored.event_id) } " now"
                        @if !restored.differs.is_empty() {
                            br; span.bad { "differs in " (restored.differs.join(", ")) }
                        }
                    }
                }
            }
            td {
                @if let Some(proof) = &row.proof {
                    "entry " (proof.entry.seq) br; code { (proof.entry.hash) }
                    br;
                    @match proof.checkpoint {
                        Some(size) => { "in the checkpoint of " (size) }
                        None => { "in no checkpoint yet" }
                    }
                }
            }
        }
    }
}
