//! The eight kinds of deadline, their titles, and where v1 and v2 keep the ids of their events.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of deadline. Both versions of the product write the same titles for the same kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// Prevailing wage determination expires.
    PwdExpiration,
    /// ETA 9089 is to be filed.
    Eta9089Filing,
    /// The filing window opens.
    FilingWindowOpens,
    /// ETA 9089 certification expires.
    Eta9089Expiration,
    /// Recruitment results become too old to be used.
    RecruitmentExpires,
    /// I-140 is to be filed.
    I140Deadline,
    /// Answer to a request for information is due.
    RfiDue,
    /// Answer to a request for evidence is due.
    RfeDue,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::PwdExpiration,
        Self::Eta9089Filing,
        Self::FilingWindowOpens,
        Self::Eta9089Expiration,
        Self::RecruitmentExpires,
        Self::I140Deadline,
        Self::RfiDue,
        Self::RfeDue,
    ];

    /// What stands before the colon in the title; v2 also writes it as the description's first line.
    pub fn label(self) -> &'static str {
        match self {
            Self::PwdExpiration => "PWD Expiration",
            Self::Eta9089Filing => "ETA 9089 Filing",
            Self::FilingWindowOpens => "Ready to File",
            Self::Eta9089Expiration => "ETA 9089 Expiration",
            Self::RecruitmentExpires => "Recruitment Expires",
            Self::I140Deadline => "I-140 Deadline",
            Self::RfiDue => "RFI Response Due",
            Self::RfeDue => "RFE Response Due",
        }
    }

    /// The slot of v2's `calendarEventIds`. Two kinds share one, and a case has one slot for all its
    /// RFIs and one for all its RFEs: v2 forgets the id that was there.
    pub fn v2_slot(self) -> &'static str {
        match self {
            Self::PwdExpiration => "pwd_expiration",
            Self::Eta9089Filing | Self::FilingWindowOpens => "eta9089_filing_window",
            Self::Eta9089Expiration => "eta9089_expiration",
            Self::RecruitmentExpires => "recruitment_end",
            Self::I140Deadline => "i140_filing_deadline",
            Self::RfiDue => "rfi_due",
            Self::RfeDue => "rfe_due",
        }
    }

    /// The kind behind a key of v1's `calendar_event_ids`; planning papers name some keys twice.
    pub fn from_v1_key(key: &str) -> Option<Self> {
        Some(match key {
            "pwd_expiration" => Self::PwdExpiration,
            "eta9089_filing" | "eta9089_window_close" => Self::Eta9089Filing,
            "eta9089_filing_window_opens" | "eta9089_window_open" => Self::FilingWindowOpens,
            "eta9089_expiration" => Self::Eta9089Expiration,
            "recruitment_expiration" | "recruitment_end" => Self::RecruitmentExpires,
            "i140_filing_deadline" => Self::I140Deadline,
            "rfi_due" => Self::RfiDue,
            "rfe_due" => Self::RfeDue,
            _ => return None,
        })
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A title of the form both versions write, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Title<'a> {
    /// The kind of deadline.
    pub kind: EventType,
    /// What stands after the colon, trimmed; v1 may add ` - RFI #1` to the employer.
    pub rest: &'a str,
}

impl<'a> Title<'a> {
    /// Takes a title apart, exactly as the incumbent matches it: the label, a colon, case counts.
    pub fn parse(summary: &'a str) -> Option<Self> {
        EventType::ALL.into_iter().find_map(|kind| {
            let rest = summary.strip_prefix(kind.label())?.strip_prefix(':')?;
            Some(Self {
                kind,
                rest: rest.trim(),
            })
        })
    }

    /// The employer, without v1's ` - RFI #1`.
    pub fn employer(&self) -> &'a str {
        let marker = match self.kind {
            EventType::RfiDue => " - RFI #",
            EventType::RfeDue => " - RFE #",
            _ => return self.rest,
        };
        match self.rest.rfind(marker) {
            Some(at) if is_number(&self.rest[at + marker.len()..]) => self.rest[..at].trim_end(),
            _ => self.rest,
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_recognised_with_its_kind() {
        for kind in EventType::ALL {
            let summary = format!("{}: Example & Co.", kind.label());
            let title = Title::parse(&summary).unwrap();
            assert_eq!((title.kind, title.employer()), (kind, "Example & Co."));
        }
    }

    #[test]
    fn near_misses_are_no_titles() {
        for summary in [
            "",
            "PWD Expiration",
            "PWD Expirations: Example",
            "pwd expiration: Example",
            " PWD Expiration: Example",
            "Re: PWD Expiration: Example",
            "ETA 9089: Example",
            "Ready to File taxes: Example",
        ] {
            assert_eq!(Title::parse(summary), None, "{summary}");
        }
    }

    #[test]
    fn only_v1s_own_suffix_is_cut_off() {
        for (summary, employer) in [
            (
                "RFI Response Due: Global Services - RFI #1",
                "Global Services",
            ),
            (
                "RFE Response Due: Global Services - RFE #12",
                "Global Services",
            ),
            ("RFI Response Due: Global - RFI #x", "Global - RFI #x"),
            ("RFI Response Due: Global - RFE #1", "Global - RFE #1"),
            ("PWD Expiration: Global - RFI #1", "Global - RFI #1"),
            ("RFI Response Due: A - RFI #1 - RFI #2", "A - RFI #1"),
            ("RFI Response Due:Global", "Global"),
        ] {
            assert_eq!(
                Title::parse(summary).unwrap().employer(),
                employer,
                "{summary}"
            );
        }
    }

    #[test]
    fn v1_keys_lead_to_the_kind_and_shared_slots_are_shared() {
        assert_eq!(
            EventType::from_v1_key("recruitment_end"),
            Some(EventType::RecruitmentExpires)
        );
        assert_eq!(EventType::from_v1_key("job_order_end"), None);
        assert_eq!(
            EventType::Eta9089Filing.v2_slot(),
            EventType::FilingWindowOpens.v2_slot()
        );
        let slots: std::collections::BTreeSet<_> =
            EventType::ALL.iter().map(|kind| kind.v2_slot()).collect();
        assert_eq!(slots.len(), 7);
    }
}
