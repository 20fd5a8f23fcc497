//! The hash of a deletion plan, which is what a person approves.

use serde_json::{Value, json};

use super::canonical::{self, CanonicalError};
use super::entry::{Hash, leaf_hash};
use super::merkle::Frontier;
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

/// A plan on its way into its hash: the RFC 6962 root over the canonical header object and then the items' lines, sorted bytewise.
#[derive(Debug)]
pub struct PlanHasher(Frontier);

impl PlanHasher {
    /// Begins with the header.
    ///
    /// # Errors
    /// It holds a float or an integer beyond 2^53-1.
    pub fn new(header: &Value) -> Result<Self, CanonicalError> {
        let mut tree = Frontier::default();
        tree.push(leaf_hash(&canonical::to_bytes(header)?));
        Ok(Self(tree))
    }

    /// Adds the next line, [`PlanItem::to_bytes`], in the order of the bytes.
    pub fn push(&mut self, line: &[u8]) {
        self.0.push(leaf_hash(line));
    }

    /// The hash.
    pub fn done(self) -> Hash {
        self.0.root()
    }
}

/// The hash of a plan, see [`PlanHasher`], of items in any order.
///
/// # Errors
/// The header holds a float or an integer beyond 2^53-1.
pub fn plan_hash(header: &Value, items: &[PlanItem]) -> Result<Hash, CanonicalError> {
    let lines = items.iter().map(PlanItem::to_bytes);
    let mut lines = lines.collect::<Result<Vec<_>, _>>()?;
    lines.sort_unstable();
    let mut hasher = PlanHasher::new(header)?;
    for line in &lines {
        hasher.push(line);
    }
    Ok(hasher.done())
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
