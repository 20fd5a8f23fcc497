//! What v2 records, outside of memory: it is read document by document, and looked up by the event or the user of v1.

use std::collections::BTreeSet;

use bytes::Bytes;
use ledger::store::sorted::{Sorted, Sorter};
use ledger::store::spool::SpoolError;
use uuid::Uuid;

use super::{V2Case, V2Profile};
use crate::config::Deployment;

/// Takes the documents of v2 one after the other, as they are read.
pub trait V2Sink: Send {
    /// A case.
    ///
    /// # Errors
    /// It cannot be kept.
    fn case(&mut self, case: V2Case) -> Result<(), SpoolError>;

    /// A profile.
    ///
    /// # Errors
    /// It cannot be kept.
    fn profile(&mut self, profile: V2Profile) -> Result<(), SpoolError>;
}

/// Under what something is found. One letter each, so that all lie in one order.
const EVENT: u8 = b'e';
/// Ids of events, by v1's user whom a case itself names.
const NAMED: u8 = b'n';
/// v2's users, by v1's user.
const PROFILE: u8 = b'p';
/// Ids of events, by v2's user.
const OWNED: u8 = b'o';
/// Cases of production's, by v1's case.
const CASE: u8 = b'c';

/// What the cases and profiles of v2 say.
#[derive(Debug)]
pub struct V2Records {
    found: Sorted,
    cases: Sorted,
}

impl V2Records {
    /// Whether a case of any deployment records this event.
    ///
    /// # Errors
    /// It cannot be looked up.
    pub fn records(&self, event: &str) -> Result<bool, SpoolError> {
        Ok(!self.found.get(&key(EVENT, event))?.is_empty())
    }

    /// The cases that record this event: of which deployment, and the case of v1 that each came of, where that is known.
    ///
    /// # Errors
    /// It cannot be looked up.
    pub fn of_event(&self, event: &str) -> Result<Vec<(Deployment, Option<Uuid>)>, SpoolError> {
        let values = self.found.get(&key(EVENT, event))?;
        values.iter().map(|value| read_mark(value)).collect()
    }

    /// Whether production has this case of v1's.
    ///
    /// # Errors
    /// It cannot be looked up.
    pub fn has_case(&self, v1_case: Uuid) -> Result<bool, SpoolError> {
        let found = self.found.get(&key(CASE, &v1_case.to_string()))?;
        Ok(!found.is_empty())
    }

    /// The events recorded for a user of v1, by v1's id of the user: through the profile, or named on the case itself.
    ///
    /// # Errors
    /// It cannot be looked up.
    pub fn events_of(&self, v1_user: &str) -> Result<BTreeSet<String>, SpoolError> {
        let user = v1_user.to_lowercase();
        let mut events = self.found.get(&key(NAMED, &user))?;
        for owner in self.found.get(&key(PROFILE, &user))? {
            events.extend(self.found.get(&[&[OWNED], &*owner].concat())?);
        }
        events.into_iter().map(text).collect()
    }

    /// Every case, by deployment.
    ///
    /// # Errors
    /// Of each that cannot be read back.
    pub fn cases(&self) -> impl Iterator<Item = Result<(Deployment, V2Case), SpoolError>> + '_ {
        self.cases.iter().map(|record| {
            let (of, case) = record?;
            let case = serde_json::from_slice(&case).map_err(|_| SpoolError::Changed)?;
            Ok((deployment(&of)?, case))
        })
    }
}

/// Takes what several deployments and exports say.
#[derive(Debug)]
pub struct V2Recorder {
    found: Sorter,
    cases: Sorter,
    /// Of the export that is being read.
    deployment: Deployment,
    /// Which one it is: an id of v2's is one within its export.
    export: u32,
}

impl V2Recorder {
    /// Nothing yet.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn new() -> Result<Self, SpoolError> {
        Ok(Self {
            found: Sorter::new()?,
            cases: Sorter::new()?,
            deployment: Deployment::Production,
            export: 0,
        })
    }

    /// What follows is of another export, of this deployment.
    pub fn begin(&mut self, deployment: Deployment) {
        self.deployment = deployment;
        self.export += 1;
    }

    /// All that was taken.
    ///
    /// # Errors
    /// It cannot be sorted.
    pub fn done(self) -> Result<V2Records, SpoolError> {
        Ok(V2Records {
            found: self.found.done()?,
            cases: self.cases.done()?,
        })
    }

    /// A user of v2, as found under a profile.
    fn owner(&self, user: &str) -> Vec<u8> {
        [&self.export.to_be_bytes(), user.as_bytes()].concat()
    }
}

impl V2Sink for V2Recorder {
    fn case(&mut self, case: V2Case) -> Result<(), SpoolError> {
        let v1_case = v1_case_of(&case);
        if let Some(v1_case) = v1_case.filter(|_| self.deployment == Deployment::Production) {
            self.found
                .push(key(CASE, &v1_case.to_string()), Bytes::new())?;
        }
        let of = mark(self.deployment, v1_case);
        let owner = case.user_id.as_deref().map(|user| self.owner(user));
        let named = case.legacy_user_id.as_deref().map(str::to_lowercase);
        for (_, event) in &case.calendar_event_ids {
            self.found.push(key(EVENT, event), of.clone())?;
            if let Some(owner) = &owner {
                let key = [&[OWNED], owner.as_slice()].concat();
                self.found.push(key, event.clone())?;
            }
            if let Some(user) = &named {
                self.found.push(key(NAMED, user), event.clone())?;
            }
        }
        // Every part of it is a text or a number, so it can be written.
        let whole = serde_json::to_vec(&case).map_err(|_| SpoolError::Changed)?;
        self.cases.push(mark(self.deployment, None), whole)
    }

    fn profile(&mut self, profile: V2Profile) -> Result<(), SpoolError> {
        let (Some(user), Some(v1)) = (profile.user_id, profile.legacy_id) else {
            return Ok(());
        };
        let owner = self.owner(&user);
        self.found.push(key(PROFILE, &v1.to_lowercase()), owner)
    }
}

/// The case of v1 that a case of v2's came of.
pub fn v1_case_of(case: &V2Case) -> Option<Uuid> {
    Uuid::try_parse(case.legacy_id.as_deref()?).ok()
}

fn key(of: u8, id: &str) -> Vec<u8> {
    [&[of], id.as_bytes()].concat()
}

/// A deployment, and the case of v1 where it is known.
pub fn mark(of: Deployment, v1_case: Option<Uuid>) -> Vec<u8> {
    let letter = match of {
        Deployment::Production => b'p',
        Deployment::Development => b'd',
    };
    let case = v1_case.as_ref().map_or(&[][..], |case| case.as_bytes());
    [&[letter], case].concat()
}

/// What [`mark`] wrote.
///
/// # Errors
/// It wrote something else.
pub fn read_mark(mark: &[u8]) -> Result<(Deployment, Option<Uuid>), SpoolError> {
    let case = match mark.get(1..) {
        None | Some([]) => None,
        Some(case) => Some(Uuid::from_slice(case).map_err(|_| SpoolError::Changed)?),
    };
    Ok((deployment(mark)?, case))
}

fn deployment(mark: &[u8]) -> Result<Deployment, SpoolError> {
    match mark.first() {
        Some(b'p') => Ok(Deployment::Production),
        Some(b'd') => Ok(Deployment::Development),
        _ => Err(SpoolError::Changed),
    }
}

fn text(bytes: Bytes) -> Result<String, SpoolError> {
    String::from_utf8(bytes.into()).map_err(|_| SpoolError::Changed)
}
