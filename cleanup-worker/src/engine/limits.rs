//! Blast radius: what makes a run stop by itself.

use ledger::store::commands::Standing;
use serde::{Deserialize, Serialize};

use super::step::ItemEnd;

/// Limits beyond which a person has to look before anything more is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The run stops where more than this share of the items it ended is held or failed, in percent.
    pub bad_percent_max: u64,
    /// Fewer items than this say nothing about a share.
    pub bad_of_items_min: u64,
    /// A plan that deletes more than this of one user is not begun.
    pub deletions_per_user_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bad_percent_max: 50,
            bad_of_items_min: 50,
            deletions_per_user_max: 5_000,
        }
    }
}

/// Items that were brought to an end, and how many of them badly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) ended: u64,
    pub(super) bad: u64,
}

impl Spread {
    /// Counts an end in. That nothing could be begun is no end.
    pub(super) fn add(&mut self, end: &ItemEnd) {
        let bad = match end {
            ItemEnd::Deleted | ItemEnd::AlreadyGone => false,
            ItemEnd::Held | ItemEnd::Failed(_) | ItemEnd::UserStopped(_) => true,
            ItemEnd::RunStopped(_) | ItemEnd::Interrupted => return,
        };
        self.ended += 1;
        self.bad += u64::from(bad);
    }
}

impl Limits {
    /// Why the run stops, if it does: as it stood when this place was taken, and what was done here since.
    pub(super) fn exceeded(&self, standing: &Standing, here: Spread) -> Option<String> {
        let ended = standing.ended + here.ended;
        let bad = standing.bad + here.bad;
        let too_many = ended >= self.bad_of_items_min && bad * 100 > ended * self.bad_percent_max;
        too_many.then(|| {
            format!(
                "{bad} of {ended} items were held or not done, more than {} %: find out why, then run the same plan \
                 again (--bad-percent-max says how many are too many)",
                self.bad_percent_max
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exceeded(ended: u64, bad: u64, here: Spread) -> bool {
        let standing = Standing {
            ended,
            bad,
            ..Standing::default()
        };
        Limits::default().exceeded(&standing, here).is_some()
    }

    #[test]
    fn a_share_counts_over_all_workers_and_from_a_number_on() {
        let here = Spread { ended: 10, bad: 10 };
        assert!(!exceeded(0, 0, Spread::default()));
        assert!(!exceeded(0, 0, here));
        assert!(!exceeded(30, 15, here));
        assert!(!exceeded(40, 15, here));
        assert!(exceeded(40, 16, here));
        assert!(!exceeded(1_000, 400, here));
    }

    #[test]
    fn what_was_not_begun_is_no_end() {
        let mut spread = Spread::default();
        spread.add(&ItemEnd::RunStopped(String::new()));
        spread.add(&ItemEnd::Deleted);
        spread.add(&ItemEnd::Held);
        assert_eq!(spread, Spread { ended: 2, bad: 1 });
    }
}
