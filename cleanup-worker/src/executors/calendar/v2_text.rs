//! The descriptions that v2 writes, rebuilt from its cases, and compared without regard to HTML.
//!
//! v2 keeps one id where it writes several events (shared slots), so the exact text is the only
//! trace of the events whose ids it has forgotten.

use std::collections::{BTreeSet, HashMap};

use ledger::domain::hash::Hash;
use uuid::Uuid;

use super::text::{bare_lines, strip_html};
use super::titles::EventType;

/// What v2's description of a case's event is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V2CaseText<'a> {
    /// `employerName`.
    pub employer_name: &'a str,
    /// `beneficiaryIdentifier`.
    pub beneficiary_identifier: &'a str,
    /// `caseNumber`; an empty one is not written.
    pub case_number: Option<&'a str>,
    /// `internalCaseNumber`; an empty one is not written.
    pub internal_case_number: Option<&'a str>,
    /// `id` of each of `rfiEntries`.
    pub rfi_entry_ids: Vec<&'a str>,
    /// `id` of each of `rfeEntries`.
    pub rfe_entry_ids: Vec<&'a str>,
    /// The case of v1 that it came of, where that is known.
    pub v1_case: Option<Uuid>,
}

/// The cases of v1 that something of v2's may be of: an id can stand on several cases of v2's, and a text can be that of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OfCases {
    /// Of none yet.
    #[default]
    None,
    /// Of one, as nearly all are.
    One(Uuid),
    /// Of several.
    Many(BTreeSet<Uuid>),
    /// It may be of any.
    Any,
}

impl OfCases {
    /// Adds a case of v2's by the case of v1 that it came of. Where that is not known it may be any.
    pub fn add(&mut self, v1_case: Option<Uuid>) {
        *self = match (std::mem::take(self), v1_case) {
            (Self::Any, _) | (_, None) => Self::Any,
            (Self::None, Some(case)) => Self::One(case),
            (Self::One(one), Some(case)) if one == case => Self::One(one),
            (Self::One(one), Some(case)) => Self::Many([one, case].into()),
            (Self::Many(mut cases), Some(case)) => {
                cases.insert(case);
                Self::Many(cases)
            }
        };
    }

    /// The cases, where they are known.
    pub fn known(&self) -> Option<BTreeSet<Uuid>> {
        match self {
            Self::None | Self::Any => None,
            Self::One(case) => Some([*case].into()),
            Self::Many(cases) => Some(cases.clone()),
        }
    }
}

/// v2's description, verbatim: label, blank, details a line each, blank, `PERM Tracker`.
/// Structure as in v2's `convex/lib/calendarHelpers.ts`.
pub fn v2_description(kind: EventType, case: &V2CaseText<'_>, entry_id: Option<&str>) -> String {
    let filled = |value: Option<&str>| value.filter(|text| !text.is_empty()).map(str::to_owned);
    let entry = match kind {
        EventType::RfiDue => filled(entry_id).map(|id| format!("RFI Entry ID: {id}")),
        EventType::RfeDue => filled(entry_id).map(|id| format!("RFE Entry ID: {id}")),
        _ => None,
    };
    let lines = [
        Some(kind.label().to_owned()),
        Some(String::new()),
        Some(format!("Employer: {}", case.employer_name)),
        Some(format!("Beneficiary: {}", case.beneficiary_identifier)),
        filled(case.case_number).map(|number| format!("Case Number: {number}")),
        filled(case.internal_case_number).map(|number| format!("Internal Reference: {number}")),
        entry,
        Some(String::new()),
        Some("PERM Tracker".to_owned()),
    ];
    lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Every description that v2 may have written for a case as it is now.
pub fn v2_descriptions(case: &V2CaseText<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for kind in EventType::ALL {
        let entries: &[&str] = match kind {
            EventType::RfiDue => &case.rfi_entry_ids,
            EventType::RfeDue => &case.rfe_entry_ids,
            _ => &[],
        };
        all.push(v2_description(kind, case, None));
        all.extend(
            entries
                .iter()
                .map(|id| v2_description(kind, case, Some(id))),
        );
    }
    all
}

/// Digests of v2's descriptions with the cases that they are of, each found again in plain text and in HTML. There are eight texts a case
/// and more: none is kept.
#[derive(Clone, Debug, Default)]
pub struct V2Texts(HashMap<Hash, OfCases>);

impl V2Texts {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds all descriptions of a case.
    pub fn add_case(&mut self, case: &V2CaseText<'_>) {
        for digest in Self::digests_of_case(case) {
            self.add(digest, case.v1_case);
        }
    }

    /// Adds a description by its digest, and the case of v1 that it is of.
    pub fn add(&mut self, digest: Hash, v1_case: Option<Uuid>) {
        self.0.entry(digest).or_default().add(v1_case);
    }

    /// The digests of all descriptions of a case.
    pub fn digests_of_case(case: &V2CaseText<'_>) -> BTreeSet<Hash> {
        let descriptions = v2_descriptions(case);
        // Twice each: an employer's name may hold what looks like a tag or an entity, and then the plain event is equal to the first and the
        // event saved as HTML to the second.
        let digests = descriptions.iter().flat_map(|text| Self::digests_of(text));
        digests.collect()
    }

    /// The digests under which an event's description may be one of v2's: as it is, and without HTML.
    pub fn digests_of(description: &str) -> [Hash; 2] {
        [digest(description), digest(&strip_html(description))]
    }

    /// Whether an event's description is one of v2's. Spacing and HTML do not count, words do.
    pub fn contains(&self, description: &str) -> bool {
        self.cases_of(description).is_some()
    }

    /// The cases that an event's description is of; `None` where it is none of v2's.
    pub fn cases_of(&self, description: &str) -> Option<&OfCases> {
        let [plain, stripped] = Self::digests_of(description);
        self.0.get(&plain).or_else(|| self.0.get(&stripped))
    }
}

/// Of the lines that carry text.
fn digest(text: &str) -> Hash {
    Hash::of(bare_lines(text).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> V2CaseText<'static> {
        V2CaseText {
            employer_name: "Bits & Bytes <Intl>",
            beneficiary_identifier: "J.D. — 山田",
            case_number: Some("A-12345-67890"),
            internal_case_number: Some(""),
            rfi_entry_ids: vec!["0f8fad5b-d9cb-469f-a165-70867728950e", "rfi_2"],
            rfe_entry_ids: vec![],
            v1_case: None,
        }
    }

    #[test]
    fn description_is_v2s_to_the_letter() {
        assert_eq!(
            v2_description(EventType::RfiDue, &case(), Some("rfi_2")),
            "RFI Response Due\n\nEmployer: Bits & Bytes <Intl>\nBeneficiary: J.D. — 山田\n\
             Case Number: A-12345-67890\nRFI Entry ID: rfi_2\n\nPERM Tracker"
        );
        assert_eq!(
            v2_description(
                EventType::PwdExpiration,
                &V2CaseText::default(),
                Some("ignored")
            ),
            "PWD Expiration\n\nEmployer: \nBeneficiary: \n\nPERM Tracker"
        );
    }

    #[test]
    fn found_in_plain_text_in_html_and_never_in_v1s() {
        let mut texts = V2Texts::new();
        texts.add_case(&case());
        let plain = v2_description(EventType::PwdExpiration, &case(), None);
        let html = plain
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('\n', "<br>");
        let windows = plain.replace('\n', "\r\n");
        for same in [
            &plain,
            &html,
            &windows,
            &format!("<p>{html}</p>"),
            &format!("\n{plain}  \n"),
        ] {
            assert!(texts.contains(same), "{same}");
        }
        for other in [
            plain.replace("PERM Tracker", "PERM Tracker\nCase: x"),
            plain.replace("A-12345", "A-12346"),
            plain.replace("PWD Expiration", "PWD expiration"),
            String::new(),
        ] {
            assert!(!texts.contains(&other), "{other}");
        }
    }

    #[test]
    fn a_text_is_of_every_case_that_it_may_be_of() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let of = |v1_case| V2CaseText { v1_case, ..case() };
        let text = v2_description(EventType::PwdExpiration, &case(), None);
        let mut texts = V2Texts::new();
        texts.add_case(&of(Some(one)));
        let known = |texts: &V2Texts| texts.cases_of(&text).unwrap().known();
        assert_eq!(known(&texts), Some(BTreeSet::from([one])));
        texts.add_case(&of(Some(other)));
        assert_eq!(known(&texts), Some(BTreeSet::from([one, other])));
        texts.add_case(&of(None));
        assert_eq!(known(&texts), None);
    }

    #[test]
    fn each_entry_of_a_shared_slot_has_its_text() {
        let mut texts = V2Texts::new();
        texts.add_case(&case());
        for id in case().rfi_entry_ids {
            assert!(texts.contains(&v2_description(EventType::RfiDue, &case(), Some(id))));
        }
        assert!(!texts.contains(&v2_description(EventType::RfiDue, &case(), Some("rfi_3"))));
    }
}
