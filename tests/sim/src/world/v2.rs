//! How v2 writes: descriptions, verbatim, and the documents of its export.

use serde_json::{Map, Value, json};

use super::v1::Deadline;

/// A request for information or evidence in v2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// v2's own id of it.
    pub id: String,
    /// `YYYY-MM-DD`.
    pub due: String,
}

/// The words of a case that v2's descriptions carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseWords {
    /// Employer's name.
    pub employer: String,
    /// Beneficiary's name or mark.
    pub beneficiary: String,
    /// The agency's number.
    pub case_number: Option<String>,
    /// The firm's own number.
    pub internal_case_number: Option<String>,
}

/// v2's description of an event: the label; a blank line; the case's words; for a request its entry's id; a blank line; the
/// product's name. No case id and no link. Source: `v2/convex/lib/calendarHelpers.ts`.
pub fn v2_description(deadline: Deadline, words: &CaseWords, entry: Option<&Entry>) -> String {
    let mut lines = vec![
        deadline.label().to_owned(),
        String::new(),
        format!("Employer: {}", words.employer),
        format!("Beneficiary: {}", words.beneficiary),
    ];
    lines.extend(
        words
            .case_number
            .iter()
            .map(|number| format!("Case Number: {number}")),
    );
    let internal = words.internal_case_number.iter();
    lines.extend(internal.map(|number| format!("Internal Reference: {number}")));
    match (deadline, entry) {
        (Deadline::RfiDue, Some(entry)) => lines.push(format!("RFI Entry ID: {}", entry.id)),
        (Deadline::RfeDue, Some(entry)) => lines.push(format!("RFE Entry ID: {}", entry.id)),
        _ => {}
    }
    lines.extend([String::new(), "PERM Tracker".to_owned()]);
    lines.join("\n")
}

/// The same after a visit to the web interface's editor, which makes HTML of it.
pub fn as_html(description: &str) -> String {
    let escaped = description
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!("<html-blob>{}</html-blob>", escaped.replace('\n', "<br>"))
}

/// What a v2 case document is made of.
pub(crate) struct CaseDocument<'a> {
    pub(crate) id: &'a str,
    pub(crate) user: &'a str,
    pub(crate) legacy: Option<(&'a str, &'a str)>,
    pub(crate) words: &'a CaseWords,
    pub(crate) slots: &'a [(String, String)],
    pub(crate) rfi: &'a [Entry],
    pub(crate) rfe: &'a [Entry],
    pub(crate) dates: &'a [(&'static str, String)],
    pub(crate) created_ms: i64,
}

impl CaseDocument<'_> {
    pub(crate) fn json(&self) -> Value {
        let entries = |entries: &[Entry]| -> Value {
            entries
                .iter()
                .map(|entry| {
                    json!({
                        "id": entry.id,
                        "receivedDate": entry.due,
                        "responseDueDate": entry.due,
                        "createdAt": self.created_ms,
                    })
                })
                .collect()
        };
        let slots: Map<String, Value> = self
            .slots
            .iter()
            .map(|(slot, id)| (slot.clone(), id.as_str().into()))
            .collect();
        let mut document = json!({
            "_id": self.id,
            "_creationTime": millis(self.created_ms),
            "userId": self.user,
            "employerName": self.words.employer,
            "beneficiaryIdentifier": self.words.beneficiary,
            "positionTitle": "Engineer",
            "caseStatus": "recruitment",
            "progressStatus": "working",
            "rfiEntries": entries(self.rfi),
            "rfeEntries": entries(self.rfe),
            "calendarSyncEnabled": true,
            "createdAt": self.created_ms,
            "updatedAt": self.created_ms,
        });
        let mut set = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                document[name] = value.into();
            }
        };
        set("caseNumber", self.words.case_number.as_deref());
        set(
            "internalCaseNumber",
            self.words.internal_case_number.as_deref(),
        );
        set("legacyId", self.legacy.map(|(case, _)| case));
        set("legacyUserId", self.legacy.map(|(_, user)| user));
        for (name, date) in self.dates {
            document[*name] = date.as_str().into();
        }
        // A case that was never synced has no such field: Convex leaves undefined out.
        if !slots.is_empty() {
            document["calendarEventIds"] = Value::Object(slots);
        }
        document
    }
}

/// Milliseconds as Convex writes `_creationTime`: a float.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of this era are far below 2^53"
)]
pub(crate) fn millis(ms: i64) -> Value {
    json!(ms as f64 + 0.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_has_v2s_lines_and_nothing_else() {
        let words = CaseWords {
            employer: "Globex & Co".to_owned(),
            beneficiary: "J. D.".to_owned(),
            case_number: Some("G-100-1".to_owned()),
            internal_case_number: None,
        };
        let entry = Entry {
            id: "e1".to_owned(),
            due: "2026-03-01".to_owned(),
        };
        assert_eq!(
            v2_description(Deadline::RfiDue, &words, Some(&entry)),
            "RFI Response Due\n\nEmployer: Globex & Co\nBeneficiary: J. D.\nCase Number: G-100-1\nRFI Entry ID: e1\n\nPERM Tracker"
        );
        assert_eq!(as_html("a & b\nc"), "<html-blob>a &amp; b<br>c</html-blob>");
    }
}
