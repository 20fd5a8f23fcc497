//! Whether a deadline that is to be deleted still stands in the calendar as a v2 event.
//!
//! A lawyer who loses v1's event and has no v2 event loses the reminder. Each future deadline to be
//! deleted is `covered` or `uncovered`; plan, approval and letter count the uncovered.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::NaiveDate;
use ledger::domain::identify::Facts;
use uuid::Uuid;

use super::event::EventView;
use super::titles::{EventType, Title};

/// The live events of v2's that stand for deadlines of one account.
#[derive(Clone, Debug, Default)]
pub struct Coverage(HashMap<(EventType, NaiveDate), Vec<Standing>>);

/// One of them.
#[derive(Clone, Debug)]
struct Standing {
    id: String,
    employer: String,
    /// The cases of v1 that it may be of, where they are known.
    cases: Option<BTreeSet<Uuid>>,
}

/// An event of v1's that may be deleted, and asks for one that stands for the same deadline.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The event.
    pub view: &'a EventView,
    /// Its case, where it is known.
    pub case: Option<Uuid>,
    /// It is held for a person, so others come first.
    pub is_held: bool,
}

/// A deadline: its kind, the employer and the day.
pub(super) type Deadline = (EventType, String, NaiveDate);

impl Coverage {
    /// Nothing is covered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts an event of the calendar in, if it is a live one of v2's production deployment; `cases` are those of v1 that it may be of.
    /// What development wrote vanishes with it, and an event that v1 recorded too is not v2's own yet.
    pub fn add(&mut self, view: &EventView, signals: &Facts, cases: Option<&BTreeSet<Uuid>>) {
        let of_production = |name: &str| {
            signals.holds(name)
                && signals
                    .detail(name)
                    .is_none_or(|detail| detail.starts_with("production"))
        };
        let v2s = V2S.into_iter().any(of_production);
        let spoilt = ["cancelled", "unreadable", "v1_recorded"];
        if !v2s || view.cancelled || spoilt.into_iter().any(|name| signals.holds(name)) {
            return;
        }
        if let Some((kind, employer, day)) = deadline(view) {
            self.0.entry((kind, day)).or_default().push(Standing {
                id: view.id.clone(),
                employer,
                cases: cases.cloned(),
            });
        }
    }

    /// Whether a v2 event of the same kind, employer and day stands. An event whose title does not
    /// say which deadline it is, is never covered.
    pub fn stands(&self, view: &EventView) -> bool {
        let Some((kind, employer, day)) = deadline(view) else {
            return false;
        };
        let at = self.0.get(&(kind, day));
        at.into_iter().flatten().any(|one| one.employer == employer)
    }

    /// Gives each claim one of v2's events that no other has: of the same kind and day, and of the same case; where the case of one of the
    /// two is not known, of the same employer. The ids of those that got one. The order in which the claims come does not count.
    pub fn pair<'a>(&self, claims: impl IntoIterator<Item = Claim<'a>>) -> HashSet<&'a str> {
        let mut claims: Vec<Claim<'a>> = claims.into_iter().collect();
        claims.sort_by_key(|claim| (claim.is_held, claim.case.is_none(), &claim.view.id));
        let mut taken: HashSet<&str> = HashSet::new();
        let mut covered = HashSet::new();
        for claim in claims {
            let Some((kind, employer, day)) = deadline(claim.view) else {
                continue;
            };
            let at = self.0.get(&(kind, day)).into_iter().flatten();
            let free = at.filter(|one| !taken.contains(one.id.as_str()));
            // The surest: the fewer cases it may be of the better, and last those of which nothing is known.
            let surest = free
                .filter_map(|one| Some((one.fit(claim.case, &employer)?, Reverse(&one.id), one)))
                .max_by_key(|(fit, id, _)| (*fit, *id));
            if let Some((.., one)) = surest {
                taken.insert(&one.id);
                covered.insert(claim.view.id.as_str());
            }
        }
        covered
    }
}

impl Standing {
    /// Whether it stands for a deadline of this case or employer, and how surely.
    fn fit(&self, case: Option<Uuid>, employer: &str) -> Option<Reverse<usize>> {
        match (case, &self.cases) {
            (Some(case), Some(cases)) => cases.contains(&case).then_some(Reverse(cases.len())),
            _ => (self.employer == employer).then_some(Reverse(usize::MAX)),
        }
    }
}

const V2S: [&str; 3] = ["v2_recorded", "v2_text", "v2_mark"];

/// Whether an event asks for one of v2's to stand for it: v1 made it, and v2 does not rely on it.
pub fn claims(signals: &Facts) -> bool {
    let v1s =
        signals.holds("v1_recorded") || (signals.holds("case_link") && signals.holds("title"));
    v1s && !signals.holds("cancelled") && !V2S.into_iter().any(|name| signals.holds(name))
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
        named("a", summary, day)
    }

    fn named(id: &str, summary: &str, day: &str) -> EventView {
        let raw = json!({
            "id": id, "summary": summary, "start": {"date": day}, "end": {"date": day},
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
            None,
        );
        for (summary, day, covered) in [
            ("RFI Response Due: Example", "2026-03-01", true),
            ("RFI Response Due: Example - RFI #2", "2026-03-01", true),
            ("RFI Response Due: Example", "2026-03-02", false),
            ("RFE Response Due: Example", "2026-03-01", false),
            ("RFI Response Due: Example Inc", "2026-03-01", false),
            ("my deadline", "2026-03-01", false),
        ] {
            let view = event(summary, day);
            assert_eq!(coverage.stands(&view), covered, "{summary} {day}");
            let claim = Claim {
                view: &view,
                case: None,
                is_held: false,
            };
            assert_eq!(
                coverage.pair([claim]).len(),
                usize::from(covered),
                "{summary} {day}"
            );
        }
    }

    type Of<'a> = Option<&'a BTreeSet<Uuid>>;

    #[test]
    fn one_event_of_v2s_covers_one_of_v1s_and_that_of_the_same_case() {
        let day = "2026-03-01";
        let title = "PWD Expiration: Example";
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        let views = ["v1a", "v1b", "v1x"].map(|id| named(id, title, day));
        let claim = |n: usize, case| Claim {
            view: &views[n],
            case,
            is_held: false,
        };
        let (of_a, of_b, unknown) = (claim(0, Some(a)), claim(1, Some(b)), claim(2, None));
        let held = Claim {
            is_held: true,
            ..of_a
        };
        let both = BTreeSet::from([a, b]);
        let [only_a, only_b, only_c] = [a, b, c].map(|case| BTreeSet::from([case]));
        let table: [(&[Of<'_>], Vec<Claim<'_>>, &[&str]); 11] = [
            (&[Some(&only_a)], vec![of_b, of_a], &["v1a"]),
            (&[Some(&only_a)], vec![unknown, of_a], &["v1a"]),
            (&[Some(&only_a)], vec![unknown, of_b], &["v1x"]),
            (&[Some(&only_c)], vec![of_a, of_b], &[]),
            (
                &[Some(&only_a), Some(&only_b)],
                vec![of_b, of_a],
                &["v1a", "v1b"],
            ),
            (&[None], vec![of_b, of_a], &["v1a"]),
            (&[None, Some(&only_a)], vec![of_b, of_a], &["v1a", "v1b"]),
            (&[None, None], vec![of_b, unknown, of_a], &["v1a", "v1b"]),
            (
                &[Some(&both), Some(&only_a)],
                vec![of_a, of_b],
                &["v1a", "v1b"],
            ),
            (&[Some(&both)], vec![of_a, of_b], &["v1a"]),
            (&[None], vec![held, of_b], &["v1b"]),
        ];
        for (n, (standing, claims, covered)) in table.into_iter().enumerate() {
            let mut coverage = Coverage::new();
            for (n, cases) in standing.iter().enumerate() {
                let view = named(&format!("v2{n}"), title, day);
                coverage.add(&view, &v2("v2_recorded", "production"), *cases);
            }
            let expected: HashSet<&str> = covered.iter().copied().collect();
            assert_eq!(coverage.pair(claims.clone()), expected, "{n}");
            assert_eq!(coverage.pair(claims.into_iter().rev()), expected, "{n}");
        }
        // Of one case it is the same deadline whatever v2 calls the employer by now.
        let mut coverage = Coverage::new();
        let renamed = named("v2", "PWD Expiration: Example Inc", day);
        coverage.add(&renamed, &v2("v2_text", "production"), Some(&only_a));
        assert_eq!(coverage.pair([of_a]).len(), 1);
        assert!(coverage.pair([of_b, unknown]).is_empty());
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
            coverage.add(&view, &signals, None);
            assert!(!coverage.stands(&view), "{signals:?}");
        }
        for signals in [
            v2("v2_text", "production and development"),
            v2("v2_text", "production"),
        ] {
            let mut coverage = Coverage::new();
            coverage.add(&view, &signals, None);
            assert!(coverage.stands(&view), "{signals:?}");
        }
        let mut cancelled = view.clone();
        cancelled.cancelled = true;
        let mut coverage = Coverage::new();
        coverage.add(&cancelled, &v2("v2_recorded", "production"), None);
        assert!(!coverage.stands(&view));
    }

    #[test]
    fn what_v1_made_and_v2_does_not_rely_on_asks_for_cover() {
        for (signals, asks) in [
            (&["v1_recorded"][..], true),
            (&["v1_recorded", "edited"], true),
            (&["case_link", "title"], true),
            (&["case_link"], false),
            (&["title", "mention"], false),
            (&["v1_recorded", "v2_recorded"], false),
            (&["v1_recorded", "cancelled"], false),
        ] {
            let facts: Facts = signals.iter().map(|name| (*name, true)).collect();
            assert_eq!(claims(&facts), asks, "{signals:?}");
        }
    }
}
