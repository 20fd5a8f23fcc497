//! The items of a plan, outside of memory: what is kept of them there grows with the places and not with the items.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{PlanError, PlannedItem};
use crate::chain::plan::PlanItem;
use crate::store::spool::{Block, Spool, SpoolError};

/// Items that lie together; bounds memory whatever the size of a place.
const BLOCK: usize = 256;

/// Every item of a plan, in the order in which they were found; those of one place can be had by themselves.
#[derive(Debug, Clone)]
pub struct Items(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    spool: Spool,
    blocks: Vec<Block>,
    /// Which blocks a place's items are in.
    by_place: HashMap<String, Vec<usize>>,
    count: u64,
}

impl Items {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.count
    }

    /// All of them.
    ///
    /// # Errors
    /// [`PlanError::Items`] for each that cannot be read back.
    pub fn iter(&self) -> impl Iterator<Item = Result<PlannedItem, PlanError>> + '_ {
        self.0.blocks.iter().flat_map(|block| self.block(*block))
    }

    /// Those of one place.
    ///
    /// # Errors
    /// [`PlanError::Items`]: they cannot be read back.
    pub fn at(&self, place: &str) -> Result<Vec<PlannedItem>, PlanError> {
        let blocks = self.0.by_place.get(place).into_iter().flatten();
        let blocks = blocks.filter_map(|n| self.0.blocks.get(*n));
        blocks.flat_map(|block| self.block(*block)).collect()
    }

    fn block(&self, block: Block) -> Vec<Result<PlannedItem, PlanError>> {
        let read = |frame: Bytes| {
            let item = serde_json::from_slice(&frame);
            item.map_err(|_| PlanError::Items(SpoolError::Changed))
        };
        match self.0.spool.get(block) {
            Ok(frames) => frames.into_iter().map(read).collect(),
            Err(error) => vec![Err(PlanError::Items(error))],
        }
    }
}

/// Items on their way into [`Items`].
pub(super) struct Collector {
    spool: Spool,
    blocks: Vec<Block>,
    by_place: HashMap<String, Vec<usize>>,
    count: u64,
    /// The place that `waiting` lie in.
    place: String,
    waiting: Vec<Bytes>,
}

impl Collector {
    pub(super) fn new() -> Result<Self, PlanError> {
        Ok(Self {
            spool: Spool::new().map_err(PlanError::Items)?,
            blocks: Vec::new(),
            by_place: HashMap::new(),
            count: 0,
            place: String::new(),
            waiting: Vec::new(),
        })
    }

    pub(super) fn push(&mut self, item: &PlannedItem) -> Result<(), PlanError> {
        if self.place != item.place || self.waiting.len() == BLOCK {
            self.put()?;
            self.place.clone_from(&item.place);
        }
        // Every part of it is a text or a number, so it can be written.
        let frame = serde_json::to_vec(item).map_err(|_| PlanError::Items(SpoolError::Changed))?;
        self.waiting.push(frame.into());
        self.count += 1;
        Ok(())
    }

    fn put(&mut self) -> Result<(), PlanError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let block = self.spool.put(&self.waiting).map_err(PlanError::Items)?;
        let blocks = self.by_place.entry(self.place.clone()).or_default();
        blocks.push(self.blocks.len());
        self.blocks.push(block);
        self.waiting.clear();
        Ok(())
    }

    pub(super) fn done(mut self) -> Result<Items, PlanError> {
        self.put()?;
        Ok(Items(Arc::new(Kept {
            spool: self.spool,
            blocks: self.blocks,
            by_place: self.by_place,
            count: self.count,
        })))
    }
}

/// The lines of items, as they are hashed.
pub(super) fn lines(items: &Items) -> impl Iterator<Item = Result<PlanItem, PlanError>> + '_ {
    items.iter().map(|item| Ok(item?.line()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Subject;
    use crate::domain::identify::Disposition;

    fn item(n: u32, place: &str) -> PlannedItem {
        PlannedItem {
            subject: Subject::new("calendar-event", uuid::Uuid::from_u128(n.into())).unwrap(),
            seq: n.into(),
            place: place.to_owned(),
            item: format!("event{n}"),
            version: n.is_multiple_of(2).then(|| format!("\"{n}\"")),
            class: "V1_RECORDED".to_owned(),
            disposition: Disposition::Delete,
            reason: "v1 recorded its id".to_owned(),
            date: Some("2026-03-01".to_owned()),
            covered: Some(false),
            users: vec![Subject::new("user", uuid::Uuid::from_u128(5)).unwrap()],
            body_sha256: Some(crate::domain::hash::Hash::of(b"an item")),
        }
    }

    #[test]
    fn items_come_back_in_their_order_and_by_their_place() {
        // More than a block in one place, a place that comes twice, and what lies nobody knows where.
        let places = |n: u32| match n {
            600..610 => "",
            610..620 => "b@example.com",
            _ => "a@example.com",
        };
        let all: Vec<PlannedItem> = (0..700).map(|n| item(n, places(n))).collect();
        let mut collector = Collector::new().unwrap();
        for item in &all {
            collector.push(item).unwrap();
        }
        let items = collector.done().unwrap();
        assert_eq!(items.count(), 700);
        let back: Result<Vec<PlannedItem>, PlanError> = items.iter().collect();
        assert_eq!(back.unwrap(), all);
        for (place, count) in [
            ("a@example.com", 680),
            ("", 10),
            ("b@example.com", 10),
            ("c", 0),
        ] {
            let at = items.at(place).unwrap();
            let expected: Vec<_> = all.iter().filter(|item| item.place == place).collect();
            assert_eq!(at.iter().collect::<Vec<_>>(), expected, "{place}");
            assert_eq!(at.len(), count, "{place}");
        }
    }
}
