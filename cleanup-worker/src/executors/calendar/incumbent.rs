//! What the migration plan's own searches would have deleted, and how much of it is not v1's.
//!
//! Two exist: the clean-up script that came with the migration selects by title, its plan by the
//! text "PERM Tracker". Both select v2's events as well, which is why neither is used; the dry run
//! says so in figures.

use chrono::{DateTime, Duration, Utc};
use ledger::domain::identify::Facts;
use serde::{Deserialize, Serialize};

use super::event::{EventView, When};
use super::text::mentions_product;
use super::titles::Title;

/// One of the incumbent's ways to select events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// The script's: the title begins with one of eight labels and a colon, the event ends less than
    /// 730 days before now and begins less than 365 days after.
    TitlePrefix,
    /// The plan's: a search for "PERM Tracker", which Google matches against title, description and
    /// place. Approximated by the phrase.
    SearchText,
}

impl Selector {
    /// Whether the incumbent would have deleted the event.
    pub fn selects(self, view: &EventView, now: DateTime<Utc>) -> bool {
        if view.cancelled {
            return false;
        }
        match self {
            Self::TitlePrefix => {
                view.summary.as_deref().and_then(Title::parse).is_some() && in_window(view, now)
            }
            Self::SearchText => [&view.summary, &view.description, &view.location]
                .into_iter()
                .flatten()
                .any(|text| mentions_product(text)),
        }
    }
}

fn in_window(view: &EventView, now: DateTime<Utc>) -> bool {
    let instant = |when: When| match when {
        When::Instant(at) => at,
        When::Day(day) => day.and_time(chrono::NaiveTime::MIN).and_utc(),
    };
    // Google compares the event's end with the lower bound and its start with the upper one. An
    // all-day event lasts its day, also where its end, which is exclusive, was written as its start.
    let end = match (view.start, view.end) {
        (Some(When::Day(start)), Some(When::Day(end))) if end <= start => {
            start.succ_opt().map(When::Day)
        }
        (_, end) => end,
    };
    let ends_late = end.is_none_or(|end| instant(end) > now - Duration::days(730));
    let starts_early = view
        .start
        .is_none_or(|start| instant(start) < now + Duration::days(365));
    ends_late && starts_early
}

/// Counts for the sentence "the plan's own search would have deleted N, of which M are not v1's".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncumbentCount {
    /// N.
    pub would_delete: u64,
    /// M: those that v1 did not make, or that v2 relies on by now.
    pub not_v1s: u64,
}

impl IncumbentCount {
    /// Counts an event in, if the selector selects it.
    pub fn add(
        &mut self,
        selector: Selector,
        view: &EventView,
        signals: &Facts,
        now: DateTime<Utc>,
    ) {
        if selector.selects(view, now) {
            self.would_delete += 1;
            self.not_v1s += u64::from(!v1s_alone(signals));
        }
    }

    /// Adds another count.
    pub fn merge(&mut self, other: Self) {
        self.would_delete += other.would_delete;
        self.not_v1s += other.not_v1s;
    }
}

/// Whether v1 made the event and nobody else has a part in it.
fn v1s_alone(signals: &Facts) -> bool {
    const OTHERS: [&str; 10] = [
        "v2_recorded",
        "v2_text",
        "v2_mark",
        "organizer_not_self",
        "creator_not_self",
        "attendees",
        "recurrence",
        "not_all_day",
        "attachments",
        "event_type_not_default",
    ];
    let v1s =
        signals.holds("v1_recorded") || (signals.holds("case_link") && signals.holds("title"));
    v1s && !OTHERS.into_iter().any(|name| signals.holds(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::event::ParsedEvent;
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-01-16T12:00:00Z".parse().unwrap()
    }

    fn event(summary: &str, description: &str, day: &str) -> EventView {
        let raw = json!({
            "id": "a", "summary": summary, "description": description,
            "start": {"date": day}, "end": {"date": day},
        });
        ParsedEvent::parse(raw.to_string().as_bytes())
            .readable()
            .unwrap()
            .clone()
    }

    #[test]
    fn the_selectors_select_as_the_incumbent_does() {
        for (summary, description, day, by_title, by_text) in [
            ("PWD Expiration: Example", "", "2026-02-01", true, false),
            (
                "PWD Expiration: Example",
                "PERM Tracker",
                "2026-02-01",
                true,
                true,
            ),
            ("lunch", "ask about PERM Tracker", "2026-02-01", false, true),
            ("PWD expiration: Example", "", "2026-02-01", false, false),
            ("PWD Expiration: Example", "", "2027-01-16", true, false),
            ("PWD Expiration: Example", "", "2027-01-17", false, false),
            ("PWD Expiration: Example", "", "2024-01-18", true, false),
            ("PWD Expiration: Example", "", "2024-01-17", true, false),
            ("PWD Expiration: Example", "", "2024-01-16", false, false),
        ] {
            let view = event(summary, description, day);
            assert_eq!(
                Selector::TitlePrefix.selects(&view, now()),
                by_title,
                "{summary} {day}"
            );
            assert_eq!(
                Selector::SearchText.selects(&view, now()),
                by_text,
                "{description}"
            );
        }
        let mut cancelled = event("PWD Expiration: Example", "PERM Tracker", "2026-02-01");
        cancelled.cancelled = true;
        assert!(!Selector::TitlePrefix.selects(&cancelled, now()));
        assert!(!Selector::SearchText.selects(&cancelled, now()));
    }

    #[test]
    fn what_v1_did_not_make_alone_is_counted_apart() {
        let view = event("PWD Expiration: Example", "", "2026-02-01");
        let mut count = IncumbentCount::default();
        for names in [
            &["v1_recorded"][..],
            &["case_link", "title"],
            &["v1_recorded", "v2_recorded"],
            &["v2_recorded"],
            &["title"],
            &["case_link"],
            &["v1_recorded", "attendees"],
        ] {
            let signals: Facts = names.iter().map(|name| (*name, true)).collect();
            count.add(Selector::TitlePrefix, &view, &signals, now());
        }
        assert_eq!(
            count,
            IncumbentCount {
                would_delete: 7,
                not_v1s: 5
            }
        );
        count.merge(count);
        assert_eq!(count.would_delete, 14);
    }
}
