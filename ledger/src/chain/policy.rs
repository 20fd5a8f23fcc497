//! Policies <https://c2sp.org/tlog-policy>: which logs a checkpoint may be of, and which witnesses must have cosigned it.

use std::collections::{HashMap, HashSet};

use super::checkpoint::{CheckpointError, SignedCheckpoint};
use super::note::{KeyError, KeyKind, Verified, VerifierKey};

/// Longest policy file in bytes.
pub const POLICY_BYTES_MAX: usize = 1 << 20;

/// The quorum that asks for no cosignature.
const NONE: &[u8] = b"none";

/// A file that is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Over [`POLICY_BYTES_MAX`].
    #[error("the policy has {0} bytes, over the limit of {POLICY_BYTES_MAX}")]
    TooLong(usize),
    /// Not one `quorum` line.
    #[error("a policy has exactly one quorum line")]
    Quorum,
    /// A line is not as the format has it.
    #[error("line {line} of the policy: {why}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        why: Fault,
    },
    /// A line's key cannot be used.
    #[error("read the key in line {line} of the policy")]
    Key {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
}

/// What is wrong with a line of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Neither tab nor line feed, and below 0x20 or 0x7f.
    #[error("holds a control character")]
    Control,
    /// Another first word, or more or fewer words than that line has.
    #[error(
        "must be log KEY [URL], witness NAME KEY [URL], group NAME all|any|K MEMBER..., or quorum NAME"
    )]
    Words,
    /// A log's key that only witnesses have, or the other way round.
    #[error("a log's key is of type 0x01, a witness' of type 0x04")]
    Kind,
    /// The same 32 bytes in two lines of one kind, whatever their names.
    #[error("repeats a key")]
    KeyRepeated,
    /// Witnesses and groups share their names, and `none` is taken.
    #[error("gives a name that is taken")]
    NameTaken,
    /// Names are to be defined in a line above.
    #[error("uses a name that no line above defines")]
    NameUnknown,
    /// A name may be a member once, of one group.
    #[error("takes a member that is in a group already")]
    MemberTwice,
    /// Not `all`, `any` or a decimal from 1 to the number of members.
    #[error("asks for a number of members that is not between 1 and all")]
    Threshold,
}

/// A checkpoint that a policy does not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnmetError {
    /// No listed log has signed it, or a signature is wrong.
    #[error("accept the checkpoint as one of a known log")]
    Log(#[source] CheckpointError),
    /// Too few witnesses, or not the right ones.
    #[error("the policy's quorum is not met: {0} of its witnesses have cosigned the checkpoint")]
    Quorum(usize),
}

/// Who may have signed and who must have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    logs: Vec<Party>,
    witnesses: Vec<Party>,
    groups: Vec<Group>,
    quorum: Option<Member>,
}

/// A log or a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Its key; of a log, the key's name is the origin.
    pub key: VerifierKey,
    /// Where to reach it, where the policy says so.
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    threshold: usize,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// Who has signed a checkpoint that a policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'p> {
    /// Keys of the log.
    pub logs: Vec<&'p VerifierKey>,
    /// Witnesses of the policy, with the times they signed.
    pub witnesses: Vec<Verified<'p>>,
}

impl Policy {
    /// The policy of who knows a log's keys and asks for no witness.
    pub fn of_log(keys: impl IntoIterator<Item = VerifierKey>) -> Self {
        let logs = keys.into_iter().map(|key| Party { key, url: None });
        Self {
            logs: logs.collect(),
            ..Self::default()
        }
    }

    /// Reads a policy file.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong(bytes.len()));
        }
        let mut reader = Reader::default();
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let key = |source| PolicyError::Key { line, source };
            let fault = |why| PolicyError::Line { line, why };
            reader.line(text).map_err(|error| match error {
                Trouble::Key(source) => key(source),
                Trouble::Fault(why) => fault(why),
                Trouble::SecondQuorum => PolicyError::Quorum,
            })?;
        }
        if !reader.has_quorum {
            return Err(PolicyError::Quorum);
        }
        Ok(reader.policy)
    }

    /// The logs, any of which may have signed.
    pub fn logs(&self) -> &[Party] {
        &self.logs
    }

    /// The witnesses.
    pub fn witnesses(&self) -> &[Party] {
        &self.witnesses
    }

    /// Adds a log that is known from elsewhere, unless its key is there.
    pub fn add_log(&mut self, key: VerifierKey) {
        if self.logs.iter().all(|log| log.key != key) {
            self.logs.push(Party { key, url: None });
        }
    }

    /// Accepts a checkpoint that a listed log has signed and the quorum has cosigned.
    pub fn check(&self, checkpoint: &SignedCheckpoint) -> Result<Accepted<'_>, UnmetError> {
        let logs: Vec<_> = self.logs.iter().map(|log| &log.key).collect();
        let keys = logs
            .iter()
            .copied()
            .chain(self.witnesses.iter().map(|witness| &witness.key));
        let verified = checkpoint.verify(keys).map_err(UnmetError::Log)?;
        let (logs, witnesses): (Vec<_>, Vec<_>) = verified
            .into_iter()
            .partition(|one| one.key.kind() == KeyKind::Ed25519);
        let signed: HashSet<&[u8; 32]> = witnesses.iter().map(|one| one.key.public()).collect();
        if !self.is_met(&signed) {
            return Err(UnmetError::Quorum(witnesses.len()));
        }
        Ok(Accepted {
            logs: logs.into_iter().map(|one| one.key).collect(),
            witnesses,
        })
    }

    fn is_met(&self, signed: &HashSet<&[u8; 32]>) -> bool {
        let mut groups = Vec::with_capacity(self.groups.len());
        let holds = |groups: &[bool], member: &Member| match *member {
            Member::Witness(at) => signed.contains(self.witnesses[at].key.public()),
            Member::Group(at) => groups[at],
        };
        // Members stand above the group that has them.
        for group in &self.groups {
            let holding = group.members.iter().filter(|member| holds(&groups, member));
            let met = holding.count() >= group.threshold;
            groups.push(met);
        }
        self.quorum.is_none_or(|quorum| holds(&groups, &quorum))
    }
}

/// What may be wrong with one line.
enum Trouble {
    Fault(Fault),
    Key(KeyError),
    SecondQuorum,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The lines above the one that is read. Names are opaque bytes.
#[derive(Default)]
struct Reader {
    policy: Policy,
    names: HashMap<Vec<u8>, Member>,
    grouped: HashSet<Member>,
    has_quorum: bool,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), Trouble> {
        if line
            .iter()
            .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
        {
            return Err(Fault::Control.into());
        }
        let words = line.split(|byte| matches!(byte, b' ' | b'\t'));
        let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", key, url @ ..] => {
                let party = party(key, url, KeyKind::Ed25519)?;
                add(&mut self.policy.logs, party)
            }
            [b"witness", name, key, url @ ..] => {
                let party = party(key, url, KeyKind::Cosignature)?;
                self.define(name, Member::Witness(self.policy.witnesses.len()))?;
                add(&mut self.policy.witnesses, party)
            }
            [b"group", name, threshold, members @ ..] if !members.is_empty() => {
                let group = self.group(threshold, members)?;
                self.define(name, Member::Group(self.policy.groups.len()))?;
                self.policy.groups.push(group);
                Ok(())
            }
            [b"quorum", _] if self.has_quorum => Err(Trouble::SecondQuorum),
            [b"quorum", name] => {
                self.has_quorum = true;
                self.policy.quorum = match *name {
                    NONE => None,
                    name => Some(self.find(name)?),
                };
                Ok(())
            }
            _ => Err(Fault::Words.into()),
        }
    }

    fn define(&mut self, name: &[u8], member: Member) -> Result<(), Fault> {
        if name == NONE || self.names.contains_key(name) {
            return Err(Fault::NameTaken);
        }
        self.names.insert(name.to_vec(), member);
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Result<Member, Fault> {
        self.names.get(name).copied().ok_or(Fault::NameUnknown)
    }

    fn group(&mut self, threshold: &[u8], names: &[&[u8]]) -> Result<Group, Fault> {
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            let member = self.find(name)?;
            if !self.grouped.insert(member) {
                return Err(Fault::MemberTwice);
            }
            members.push(member);
        }
        let threshold = match threshold {
            b"all" => members.len(),
            b"any" => 1,
            digits => (1..=members.len())
                .find(|number| number.to_string().as_bytes() == digits)
                .ok_or(Fault::Threshold)?,
        };
        Ok(Group { threshold, members })
    }
}

fn party(key: &[u8], url: &[&[u8]], kind: KeyKind) -> Result<Party, Trouble> {
    let url = match url {
        [] => None,
        [url] => Some(String::from_utf8_lossy(url).into_owned()),
        _ => return Err(Fault::Words.into()),
    };
    let key = std::str::from_utf8(key).map_err(|_| Trouble::Key(KeyError::Form))?;
    let key: VerifierKey = key.parse().map_err(Trouble::Key)?;
    if key.kind() != kind {
        return Err(Fault::Kind.into());
    }
    Ok(Party { key, url })
}

fn add(parties: &mut Vec<Party>, party: Party) -> Result<(), Trouble> {
    let same = |other: &Party| other.key.public() == party.key.public();
    if parties.iter().any(same) {
        return Err(Fault::KeyRepeated.into());
    }
    parties.push(party);
    Ok(())
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
