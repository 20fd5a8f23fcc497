//! Whether a deadline that is to be deleted still stands in the calendar as a v2 event.
//!
//! A lawyer who loses v1's event and has no v2 event loses the reminder. Each future deadline to be
//! deleted is `covered` or `uncovered`; plan, approval and letter count the uncovered.

use std::collections::HashSet;

use chrono::NaiveDate;
use ledger::domain::identify::Facts;

use super::event::EventView;
use super::titles::{EventType, Title};

/// The deadlines of one calendar for which a live event of v2 stands.
#[derive(Clone, Debug, Default)]
pub struct Coverage(HashSet<Deadline>);

/// A deadline: its kind, the employer and the day.
pub(super) type Deadline = (EventType, String, NaiveDate);

impl Coverage {
    /// Nothing is covered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts an event of the calendar in, if it is a live one of v2's production deployment. What
    /// development wrote vanishes with it, and an event that v1 recorded too is not v2's own yet.
    pub fn add(&mut self, view: &EventView, signals: &Facts) {
        let of_production = |name: &str| {
            signals.holds(name)
                && signals
                    .detail(name)
                    .is_none_or(|detail| detail.starts_with("production"))
        };
        let v2s = ["v2_recorded", "v2_text", "v2_mark"]
            .into_iter()
            .any(of_production);
        let spoilt = ["cancelled", "unreadable", "v1_recorded"];
        if !v2s || view.cancelled || spoilt.into_iter().any(|name| signals.holds(name)) {
            return;
        }
        if let Some(deadline) = deadline(view) {
            self.0.insert(deadline);
        }
    }

    /// Whether a v2 event of the same kind, employer and day stands. An event whose title does not
    /// say which deadline it is, is never covered.
    pub fn covers(&self, view: &EventView) -> bool {
        deadline(view).is_some_and(|deadline| self.0.contains(&deadline))
    }
}

/// The deadline that an event's title and day say it stands for.
pub(super) fn deadline(view: &EventView) -> Option<Deadline> {
    let title = Title::parse(view.summary.as_deref()?)?;
    Some((title.kind, title.employer().to_owned(), view.all_day()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::event::ParsedEvent;
    use super::*;

    fn event(summary: &str, day: &str) -> EventView {
        let raw = json!({
            "id": "a", "summary": summary, "start": {"date": day}, "end": {"date": day},
        });
        ParsedEvent::parse(raw.to_string().as_bytes())
            .readable()
            .unwrap()
            .clone()
    }

    fn v2(name: &'static str, deployment: &str) -> Facts {
        let mut signals = Facts::new();
        signals.set_with(name, true, deployment);
        signals
    }

    #[test]
    fn the_same_kind_employer_and_day_cover_and_nothing_else_does() {
        let mut coverage = Coverage::new();
        coverage.add(
            &event("RFI Response Due: Example", "2026-03-01"),
            &v2("v2_recorded", "production"),
        );
        for (summary, day, covered) in [
            ("RFI Response Due: Example", "2026-03-01", true),
            ("RFI Response Due: Example - RFI #2", "2026-03-01", true),
            ("RFI Response Due: Example", "2026-03-02", false),
            ("RFE Response Due: Example", "2026-03-01", false),
            ("RFI Response Due: Example Inc", "2026-03-01", false),
            ("my deadline", "2026-03-01", false),
        ] {
            assert_eq!(
                coverage.covers(&event(summary, day)),
                covered,
                "{summary} {day}"
            );
        }
    }

    #[test]
    fn only_live_events_of_v2s_production_cover() {
        let view = event("Ready to File: Example", "2026-03-01");
        let mut adopted = v2("v2_recorded", "production");
        adopted.set("v1_recorded", true);
        let lookalike: Facts = [("title", true)].into_iter().collect();
        for signals in [
            v2("v2_recorded", "development"),
            v2("v2_text", "development"),
            adopted,
            lookalike,
        ] {
            let mut coverage = Coverage::new();
            coverage.add(&view, &signals);
            assert!(!coverage.covers(&view), "{signals:?}");
        }
        for signals in [
            v2("v2_text", "production and development"),
            v2("v2_text", "production"),
        ] {
            let mut coverage = Coverage::new();
            coverage.add(&view, &signals);
            assert!(coverage.covers(&view), "{signals:?}");
        }
        let mut cancelled = view.clone();
        cancelled.cancelled = true;
        let mut coverage = Coverage::new();
        coverage.add(&cancelled, &v2("v2_recorded", "production"));
        assert!(!coverage.covers(&view));
    }
}
