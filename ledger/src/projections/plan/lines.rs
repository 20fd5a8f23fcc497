//! The lines of a plan on their way into its hash, outside of memory.

use bytes::Bytes;
use serde_json::Value;

use crate::chain::canonical::CanonicalError;
use crate::chain::plan::{PlanHasher, PlanItem};
use crate::domain::hash::Hash;
use crate::domain::id::Subject;
use crate::store::sorted::Sorter;
use crate::store::spool::SpoolError;

/// Lines that have no hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinesError {
    /// The temporary file.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The header, or a line.
    #[error("hash a plan: {}", .0.reason())]
    Canonical(CanonicalError),
    /// A plan names an item once.
    #[error("{0} stands in the plan more than once")]
    Twice(Subject),
}

/// Lines in any order, see [`PlanHasher`].
#[derive(Debug)]
pub struct Lines {
    sorter: Sorter,
    count: u64,
}

impl Lines {
    /// None yet.
    ///
    /// # Errors
    /// [`LinesError::Spool`].
    pub fn new() -> Result<Self, LinesError> {
        Ok(Self {
            sorter: Sorter::new()?,
            count: 0,
        })
    }

    /// Adds the line of an item.
    ///
    /// # Errors
    /// [`LinesError::Spool`].
    pub fn push(&mut self, item: &PlanItem) -> Result<(), LinesError> {
        let line = item.to_bytes().map_err(LinesError::Canonical)?;
        self.count += 1;
        Ok(self.sorter.push(line, item.subject.to_string())?)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The hash of the plan of these lines.
    ///
    /// # Errors
    /// See [`LinesError`].
    pub fn hash(self, header: &Value) -> Result<Hash, LinesError> {
        let mut hasher = PlanHasher::new(header).map_err(LinesError::Canonical)?;
        let mut last = Bytes::new();
        for record in self.sorter.done()?.iter() {
            let (line, subject) = record?;
            // A line begins with its item, so those of one item lie together.
            if subject == last {
                let subject = String::from_utf8_lossy(&subject).parse();
                return Err(LinesError::Twice(subject.map_err(|_| SpoolError::Changed)?));
            }
            hasher.push(&line);
            last = subject;
        }
        Ok(hasher.done())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chain::plan::plan_hash;

    fn items(count: u128) -> Vec<PlanItem> {
        let item = |n: u128| PlanItem {
            // In no order.
            subject: Subject::new("item", uuid::Uuid::from_u128(n * 7 % 101)).unwrap(),
            version: format!("\"{n}\""),
            class: "V1_RECORDED".to_owned(),
            disposition: "delete".to_owned(),
        };
        (0..count).map(item).collect()
    }

    fn lines(items: &[PlanItem]) -> Lines {
        let mut lines = Lines::new().unwrap();
        for item in items {
            lines.push(item).unwrap();
        }
        lines
    }

    #[test]
    fn they_give_the_hash_of_the_plan() {
        let header = json!({"policy": "ab"});
        for count in [0, 1, 2, 100] {
            let items = items(count);
            let lines = lines(&items);
            assert_eq!(u128::from(lines.count()), count);
            assert_eq!(
                lines.hash(&header).unwrap(),
                plan_hash(&header, &items).unwrap()
            );
        }
    }

    #[test]
    fn an_item_stands_in_a_plan_once_whatever_its_lines_say() {
        let mut items = items(100);
        items.push(PlanItem {
            version: "other".to_owned(),
            ..items[40].clone()
        });
        let refused = lines(&items).hash(&json!({}));
        let twice = items.pop().unwrap().subject;
        assert!(matches!(refused, Err(LinesError::Twice(subject)) if subject == twice));
    }
}
