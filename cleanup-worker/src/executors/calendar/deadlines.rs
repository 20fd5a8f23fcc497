//! The days on which a v1 case has a deadline, from the columns of its row.
//!
//! v1 stored some of them and computed the others. The rules are the project's own (its field mapping and `calculateDerivedDates`): recruitment
//! starts with its first step and ends with its last; the filing window opens 30 days after the end and closes 180 days after the start, at the
//! latest when the wage determination expires; recruitment expires 150 days after the start, at the latest 30 days before that.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};
use serde_json::Value;

/// Deadlines that stand in the row as they are.
const STORED: [&str; 5] = [
    "pwd_expiration_date",
    "eta9089_filing_date",
    "eta9089_expiration_date",
    "recruitment_end_date",
    "i140_filing_date",
];
const STARTS: [&str; 3] = [
    "sunday_ad_first_date",
    "job_order_start_date",
    "notice_of_filing_start_date",
];
const ENDS: [&str; 3] = [
    "sunday_ad_second_date",
    "job_order_end_date",
    "notice_of_filing_end_date",
];
/// An answer to a request for information is due so long after it was received.
const RFI_DAYS: u64 = 30;

/// Every deadline of a case, each once, in order. What is missing, null or no date gives none.
pub fn deadlines(row: &Value) -> Vec<NaiveDate> {
    let mut days: BTreeSet<NaiveDate> = STORED
        .iter()
        .filter_map(|column| date(row.get(*column)?))
        .collect();
    days.extend(derived(row));
    days.extend(requests(row, "rfi", Some(RFI_DAYS)));
    days.extend(requests(row, "rfe", None));
    days.into_iter().collect()
}

fn derived(row: &Value) -> impl Iterator<Item = NaiveDate> {
    let of = |columns: &[&str]| -> Vec<NaiveDate> {
        let values = columns.iter().filter_map(|column| row.get(*column));
        values.filter_map(date).collect()
    };
    let start = of(&STARTS).into_iter().min();
    let mut ends = of(&ENDS);
    if row.get("is_professional_occupation") == Some(&Value::Bool(true)) {
        ends.extend(of(&["additional_recruitment_end_date"]));
        ends.extend(method_dates(row));
    }
    let end = ends.into_iter().max();
    let pwd = row.get("pwd_expiration_date").and_then(date);
    let earlier = |day: Option<NaiveDate>, limit: Option<NaiveDate>| {
        day.map(|day| limit.map_or(day, |limit| day.min(limit)))
    };
    let after = |day: Option<NaiveDate>, days| day?.checked_add_days(Days::new(days));
    let before_pwd = pwd.and_then(|pwd| pwd.checked_sub_days(Days::new(30)));
    [
        after(end, 30),
        earlier(after(start, 180), pwd),
        earlier(after(start, 150), before_pwd),
    ]
    .into_iter()
    .flatten()
}

/// `additional_recruitment_methods`: a list, or text that holds one; each item has a date or several.
fn method_dates(row: &Value) -> Vec<NaiveDate> {
    let methods = list(row.get("additional_recruitment_methods"));
    let dates = methods.iter().flat_map(|method| {
        let several = method.get("dates").and_then(Value::as_array);
        let several = several.into_iter().flatten();
        method.get("date").into_iter().chain(several)
    });
    dates.filter_map(date).collect()
}

/// Due dates of requests: of the list, or, where that is empty, of the single columns.
fn requests(row: &Value, kind: &str, days: Option<u64>) -> Vec<NaiveDate> {
    let due = |due: Option<&Value>, received: Option<&Value>| {
        let computed = || {
            let received = received.and_then(date)?;
            received.checked_add_days(Days::new(days?))
        };
        due.and_then(date).or_else(computed)
    };
    let items = list(row.get(format!("{kind}_list")));
    if items.is_empty() {
        let column = |name: &str| row.get(format!("{kind}_{name}_date"));
        return due(column("response_due"), column("received"))
            .into_iter()
            .collect();
    }
    let dates = items
        .iter()
        .map(|item| due(item.get("response_due_date"), item.get("received_date")));
    dates.flatten().collect()
}

/// A JSON list, or JSON text that holds one.
fn list(value: Option<&Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items.clone(),
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// A date, or the date of a time.
fn date(value: &Value) -> Option<NaiveDate> {
    value.as_str()?.get(..10)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn days(row: &Value) -> Vec<String> {
        deadlines(row).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_column_gives_its_deadlines_and_nothing_else_does() {
        for (row, expected) in [
            (json!({}), vec![]),
            (
                json!({"pwd_expiration_date": null, "created_at": "2026-01-01"}),
                vec![],
            ),
            (
                json!({"pwd_expiration_date": "2026-06-30"}),
                vec!["2026-06-30"],
            ),
            (
                json!({"pwd_expiration_date": "2026-06-30T00:00:00+00:00"}),
                vec!["2026-06-30"],
            ),
            (json!({"pwd_expiration_date": "soon"}), vec![]),
            (
                json!({"eta9089_filing_date": "2026-02-01"}),
                vec!["2026-02-01"],
            ),
            (
                json!({"eta9089_expiration_date": "2026-02-02"}),
                vec!["2026-02-02"],
            ),
            (
                json!({"recruitment_end_date": "2026-02-03"}),
                vec!["2026-02-03"],
            ),
            (
                json!({"i140_filing_date": "2026-02-04"}),
                vec!["2026-02-04"],
            ),
            // The window opens 30 days after the last end.
            (
                json!({"sunday_ad_second_date": "2026-01-11", "job_order_end_date": "2026-01-31"}),
                vec!["2026-03-02"],
            ),
            // Recruitment expires 150 days after the first start, the window closes after 180.
            (
                json!({"sunday_ad_first_date": "2026-01-11", "notice_of_filing_start_date": "2026-01-01"}),
                vec!["2026-05-31", "2026-06-30"],
            ),
            // Both at the latest as the wage determination says.
            (
                json!({"job_order_start_date": "2026-01-01", "pwd_expiration_date": "2026-04-30"}),
                vec!["2026-03-31", "2026-04-30"],
            ),
            // More recruitment counts for professionals only.
            (
                json!({"job_order_end_date": "2026-01-01", "additional_recruitment_end_date": "2026-02-01"}),
                vec!["2026-01-31"],
            ),
            (
                json!({"job_order_end_date": "2026-01-01", "additional_recruitment_end_date": "2026-02-01",
                    "is_professional_occupation": true}),
                vec!["2026-03-03"],
            ),
            (
                json!({"is_professional_occupation": true,
                    "additional_recruitment_methods": "[{\"method\":\"fair\",\"dates\":[\"2026-01-01\",\"2026-01-02\"]}]"}),
                vec!["2026-02-01"],
            ),
            (
                json!({"rfi_list": [{"received_date": "2026-01-01"}, {"response_due_date": "2026-03-01"}]}),
                vec!["2026-01-31", "2026-03-01"],
            ),
            (
                json!({"rfe_list": [{"received_date": "2026-01-01"}]}),
                vec![],
            ),
            (
                json!({"rfe_list": "[{\"response_due_date\":\"2026-03-05\"}]", "rfe_response_due_date": "2026-03-09"}),
                vec!["2026-03-05"],
            ),
            (
                json!({"rfi_list": [], "rfi_received_date": "2026-01-01", "rfe_response_due_date": "2026-03-09"}),
                vec!["2026-01-31", "2026-03-09"],
            ),
            (json!({"rfi_list": "nonsense", "rfe_list": 7}), vec![]),
        ] {
            assert_eq!(days(&row), expected, "{row}");
        }
    }
}
