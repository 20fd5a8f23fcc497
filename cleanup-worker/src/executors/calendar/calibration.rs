//! How reliable v1's signature is: measured on the events of which it is known that v1 made them.
//!
//! v1's source is not public, so what v1 wrote into descriptions is known from plans only. Before
//! the signature may decide about an event that nobody recorded, it has to be found on the events
//! whose ids v1 did record.

use ledger::domain::identify::Facts;
use ledger::domain::policy::Policy;
use serde::{Deserialize, Serialize};

/// Counts over the recorded events of a run that still stand as v1 wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibration {
    /// Live, readable, recorded by v1, and neither v2's nor edited.
    pub recorded: u64,
    /// Of these: those that carry the signature (signal 3).
    pub signed: u64,
    /// Of these: those that carry it as a line `Case: <uuid>`.
    pub case_line: u64,
    /// Of these: those that carry it as an address.
    pub case_url: u64,
    /// Of these: those with one of the eight titles.
    pub titled: u64,
    /// Of these: those that name the product.
    pub mentioned: u64,
}

impl Calibration {
    /// Counts an event in, if it says something about what v1 writes. Events that v2 or a person
    /// has written to since do not.
    pub fn add(&mut self, signals: &Facts) {
        const SPOILT: [&str; 10] = [
            "unreachable",
            "not_found",
            "gone",
            "cancelled",
            "unreadable",
            "v2_recorded",
            "v2_text",
            "v2_mark",
            "edited",
            "organizer_not_self",
        ];
        if !signals.holds("v1_recorded") || SPOILT.into_iter().any(|name| signals.holds(name)) {
            return;
        }
        let forms = signals.detail("case_link").unwrap_or_default();
        self.recorded += 1;
        self.signed += u64::from(signals.holds("case_link"));
        self.case_line += u64::from(forms.contains("case_line"));
        self.case_url += u64::from(forms.contains("case_url"));
        self.titled += u64::from(signals.holds("title"));
        self.mentioned += u64::from(signals.holds("mention"));
    }

    /// Adds another count: accounts are measured one by one.
    pub fn merge(&mut self, other: Self) {
        self.recorded += other.recorded;
        self.signed += other.signed;
        self.case_line += other.case_line;
        self.case_url += other.case_url;
        self.titled += other.titled;
        self.mentioned += other.mentioned;
    }

    /// Whether the signature may decide alone. Of no event at all nothing follows: no.
    pub fn is_calibrated(&self, policy: &Policy) -> bool {
        let least = policy.parameter("calibrated_min_percent").unwrap_or(95);
        let least = u128::from(u64::try_from(least).unwrap_or(u64::MAX));
        self.recorded > 0 && u128::from(self.signed) * 100 >= least * u128::from(self.recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::super::signals::VOCABULARY;
    use super::*;

    fn policy(percent: &str) -> Policy {
        let text = include_str!("../../../../schema/policies/perm-tracker-calendar.toml")
            .replace("calibrated_min_percent = 95", percent);
        Policy::load(text.as_bytes(), &VOCABULARY).unwrap()
    }

    #[test]
    fn the_share_is_exact_at_the_threshold() {
        for (recorded, signed, calibrated) in [
            (0, 0, false),
            (1, 1, true),
            (1, 0, false),
            (20, 19, true),
            (20, 18, false),
            (1_000_000, 950_000, true),
            (1_000_000, 949_999, false),
            (u64::MAX, u64::MAX, true),
        ] {
            let calibration = Calibration {
                recorded,
                signed,
                ..Calibration::default()
            };
            let policy = policy("calibrated_min_percent = 95");
            assert_eq!(
                calibration.is_calibrated(&policy),
                calibrated,
                "{signed}/{recorded}"
            );
        }
        let half = Calibration {
            recorded: 2,
            signed: 1,
            ..Calibration::default()
        };
        assert!(half.is_calibrated(&policy("calibrated_min_percent = 50")));
    }

    #[test]
    fn only_events_as_v1_left_them_count() {
        let mut signed: Facts = [("v1_recorded", true), ("title", true), ("mention", true)]
            .into_iter()
            .collect();
        signed.set_with("case_link", true, "case_line and case_url");
        let mut all = Calibration::default();
        all.add(&signed);
        for spoilt in [
            "edited",
            "v2_recorded",
            "v2_text",
            "cancelled",
            "unreadable",
        ] {
            let mut other = signed.clone();
            other.set(spoilt, true);
            all.add(&other);
        }
        let orphan: Facts = [("case_link", true), ("title", true)].into_iter().collect();
        all.add(&orphan);
        let one = Calibration {
            recorded: 1,
            signed: 1,
            case_line: 1,
            case_url: 1,
            titled: 1,
            mentioned: 1,
        };
        assert_eq!(all, one);
        all.merge(one);
        assert_eq!(all.recorded, 2);
    }
}
