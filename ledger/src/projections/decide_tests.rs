use super::super::testing::found;
use super::*;
use crate::domain::event::Evidence;

#[test]
fn what_goes_by_decision_is_covered_as_far_as_was_looked_at() {
    let with = |date: Option<&str>, conditions: &[(&str, bool)]| {
        let mut found = found(1, Disposition::Delete);
        found.date = date.map(str::to_owned);
        for (name, holds) in conditions {
            let evidence = Evidence {
                holds: *holds,
                detail: None,
            };
            found.evidence.insert(format!("condition.{name}"), evidence);
        }
        covered(&found)
    };
    let day = Some("2026-05-01");
    assert_eq!(with(None, &[("uncovered", true)]), None);
    assert_eq!(with(day, &[("past", true), ("uncovered", false)]), None);
    assert_eq!(
        with(day, &[("past", false), ("uncovered", true)]),
        Some(false)
    );
    assert_eq!(
        with(day, &[("past", false), ("uncovered", false)]),
        Some(true)
    );
    assert_eq!(
        with(day, &[]),
        Some(false),
        "nothing is known to stand for it"
    );
}
