//! The hash of a deletion plan, which is what a person approves.

use serde_json::{Value, json};

use super::canonical::{self, CanonicalError};
use super::entry::Hash;
use super::merkle::root_of;
use crate::domain::id::Subject;

/// One line of a plan: what stands in the approved hash for one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanItem {
    /// The item.
    pub subject: Subject,
    /// Version that was read (a calendar event's etag), empty where there is none.
    pub version: String,
    /// Class by the policy.
    pub class: String,
    /// Disposition by the policy.
    pub disposition: String,
}

impl PlanItem {
    /// `[subject, version, class, disposition]` in canonical JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_bytes(&json!([
            self.subject.to_string(),
            self.version,
            self.class,
            self.disposition
        ]))
    }
}

/// The lines of a plan on their way into its hash, in any order: one text, so that many take little room.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Lines {
    /// Adds the line of an item.
    ///
    /// # Errors
    /// None that a line of texts can give.
    pub fn push(&mut self, item: &PlanItem) -> Result<(), CanonicalError> {
        self.bytes.extend_from_slice(&item.to_bytes()?);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.ends.len() as u64
    }

    /// The hash of the plan of these lines: see [`plan_hash`].
    ///
    /// # Errors
    /// As there.
    pub fn hash(&self, header: &Value) -> Result<Hash, CanonicalError> {
        let header = canonical::to_bytes(header)?;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let lines = starts.zip(&self.ends);
        let mut lines: Vec<&[u8]> = lines
            .filter_map(|(at, end)| self.bytes.get(at..*end))
            .collect();
        lines.sort_unstable();
        Ok(root_of(std::iter::once(header.as_slice()).chain(lines)))
    }
}

/// RFC 6962 root over the canonical header object and then the items' arrays, sorted bytewise.
///
/// # Errors
/// The header holds a float or an integer beyond 2^53-1.
pub fn plan_hash(header: &Value, items: &[PlanItem]) -> Result<Hash, CanonicalError> {
    let mut lines = Lines::default();
    for item in items {
        lines.push(item)?;
    }
    lines.hash(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(n: u8, version: &str) -> PlanItem {
        PlanItem {
            subject: format!("calendar-event:00000000-0000-4000-8000-0000000000{n:02}")
                .parse()
                .unwrap(),
            version: version.to_owned(),
            class: "V1_RECORDED".to_owned(),
            disposition: "delete".to_owned(),
        }
    }

    #[test]
    fn order_does_not_matter_and_every_part_does() {
        let header = json!({"policy": "ab"});
        let hash = |header: &Value, items: &[PlanItem]| plan_hash(header, items).unwrap();
        let one = hash(&header, &[item(1, "\"a\""), item(2, "\"b\"")]);
        assert_eq!(one, hash(&header, &[item(2, "\"b\""), item(1, "\"a\"")]));
        assert_ne!(
            one,
            hash(
                &json!({"policy": "cd"}),
                &[item(1, "\"a\""), item(2, "\"b\"")]
            )
        );
        assert_ne!(one, hash(&header, &[item(1, "\"a\"")]));
        assert_ne!(one, hash(&header, &[item(1, "\"a\""), item(2, "\"c\"")]));
        let held = PlanItem {
            disposition: "hold".to_owned(),
            ..item(2, "\"b\"")
        };
        assert_ne!(one, hash(&header, &[item(1, "\"a\""), held]));
        assert_eq!(
            one.to_string(),
            "bf4ef74b5cd34845cd266402510818924e4f3a40ca9532585a882ce4bf60e727".to_owned(),
            "the format is frozen"
        );
    }
}
