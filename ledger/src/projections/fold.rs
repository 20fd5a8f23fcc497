//! What a projection is, and the one pass over the log that feeds several of them.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;

use crate::chain::entry::{Entry, Hash};
use crate::domain::event::Event;
use crate::domain::id::Timestamp;
use crate::store::Store;
use crate::store::payload::PayloadText;
use crate::store::read::{Filter, ReadError, Recorded};

/// A point in the ledger's past, as `--as-of` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum At {
    /// Now.
    #[default]
    Head,
    /// After this entry.
    Seq(u64),
    /// What was recorded by then.
    Time(Timestamp),
}

/// The one copy of a name that many entries repeat.
pub(super) fn shared(names: &mut BTreeSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let new: Arc<str> = name.into();
    names.insert(Arc::clone(&new));
    new
}

/// Why a payload says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unreadable {
    /// Sealed, and the key is not at hand.
    Sealed,
    /// There is no payload any more, and no entry says why.
    Gone,
    /// It was erased with its owner, and an entry says so.
    Erased,
    /// It does not open, or is not what its entry committed to.
    Damaged,
    /// It is not what its type and schema say.
    Malformed,
}

impl Unreadable {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Sealed => "its payload is sealed and the key is not at hand",
            Self::Gone => "its payload is gone",
            Self::Erased => "its payload was erased with its owner",
            Self::Damaged => "its payload is damaged",
            Self::Malformed => "its payload is not what its type says",
        }
    }
}

/// An entry as a projection sees it.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The entry.
    pub entry: Entry,
    /// Its hash.
    pub hash: Hash,
    /// What it says, or why it says nothing.
    pub event: Result<Event, Unreadable>,
    /// The natural id of its subject, where it introduces it and the keys open it.
    pub natural_id: Option<String>,
}

impl From<Recorded> for Decoded {
    fn from(recorded: Recorded) -> Self {
        let Recorded {
            entry,
            hash,
            payload,
            ..
        } = recorded;
        let mut introduced = None;
        let event = match payload {
            PayloadText::Open { json, natural_id } => {
                introduced = natural_id;
                Event::decode(entry.event_type.as_str(), entry.schema, &json)
                    .map_err(|_| Unreadable::Malformed)
            }
            PayloadText::Sealed => Err(Unreadable::Sealed),
            PayloadText::Erased(_) => Err(Unreadable::Erased),
            PayloadText::Gone => Err(Unreadable::Gone),
            PayloadText::Damaged => Err(Unreadable::Damaged),
        };
        Self {
            entry,
            hash,
            event,
            natural_id: introduced,
        }
    }
}

impl Decoded {
    /// Whether it says something of an item, of whatever kind.
    pub(super) fn is_of_item(&self) -> bool {
        self.entry.event_type.as_str().starts_with("item.")
    }

    /// Whether it says something of a user, whatever kind of subject its executor makes of one.
    pub(super) fn is_of_user(&self) -> bool {
        self.entry.event_type.as_str().starts_with("user.")
    }
}

/// Something that is known from the log alone.
pub trait Projection: Send {
    /// Takes in the next entry. Pure: the same entries give the same state.
    fn apply(&mut self, decoded: &Decoded);
}

/// What a pass went through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// The last entry taken in, and when it was recorded; `None` where there was none.
    pub last: Option<(u64, Timestamp)>,
    /// Entries that are damaged or missing in the row of numbers: what they said is not in the answers.
    pub damaged: u64,
    /// Entries of types that this program does not know, by type.
    pub unknown_types: BTreeMap<String, u64>,
}

/// Feeds every entry up to `at` to each projection, in order, in one pass. What is appended meanwhile is left out.
///
/// # Errors
/// The database's.
pub async fn run(
    store: &Store,
    at: At,
    projections: &mut [&mut dyn Projection],
) -> Result<Pass, ReadError> {
    let head = store.head().await?.size;
    let mut filter = Filter {
        to: Some(head),
        ..Filter::default()
    };
    match at {
        At::Head => {}
        At::Seq(seq) => filter.to = Some(seq.min(head)),
        At::Time(time) => filter.as_of = Some(time),
    }
    let mut pass = Pass::default();
    let mut expected = 1;
    let mut entries = pin!(store.read_each(filter));
    while let Some(next) = entries.next().await {
        let recorded = match next? {
            Ok(recorded) => recorded,
            Err(seq) => {
                pass.damaged += 1 + seq.saturating_sub(expected);
                expected = seq + 1;
                continue;
            }
        };
        let seq = recorded.entry.seq;
        pass.damaged += seq.saturating_sub(expected);
        expected = seq + 1;
        pass.last = Some((seq, recorded.entry.recorded_at));
        let decoded = Decoded::from(recorded);
        if let Ok(Event::Unknown(event)) = &decoded.event {
            *pass.unknown_types.entry(event.name.clone()).or_default() += 1;
        }
        for projection in projections.iter_mut() {
            projection.apply(&decoded);
        }
    }
    Ok(pass)
}
