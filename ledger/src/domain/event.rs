//! What happened: every type of entry that this program writes, and its payload.
//!
//! A stored (type, schema) pair means one thing for ever: add pairs, never change one. Types are generic; what they are
//! about stands in the subject's kind. Payloads hold no floats and no integers beyond 2^53-1.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::anchoring::{
    CheckpointKeyAdded, CheckpointKeyRetired, CheckpointListed, CheckpointPublished, LedgerListed,
    LedgerRestored,
};
use super::custody::{DeleteOutcome, Observation};
use super::erasure::{
    ErasureApproved, ErasureRequested, KekDestroyed, KeysRewrapped, LegalHoldLifted,
    LegalHoldPlaced, RetentionSet, SubjectErased, SubjectExported,
};
pub use super::export::ExportMade;
use super::hash::Hash;
use super::id::{EntryId, EventType, RunId, Subject, Timestamp};
use super::identify::Disposition;
pub use super::observation::{LateItem, LateWritten};
pub use super::restoration::{BackHow, ItemRestored, RestoreFailed, RestoreIntended};
pub use super::review::{ItemDecided, ReviewSignedOff};

/// `ledger.created`: entry 1, about the ledger itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerCreated {
    /// Name by which people call it.
    pub name: String,
    /// Origin of its checkpoints.
    pub origin: String,
    /// Format of its entries.
    pub format: u8,
    /// `system`, or `simulated`: the caller gives the time of recording.
    pub clock: String,
    /// C2SP verifier key of its first checkpoint key.
    pub checkpoint_key: String,
    /// Settings that hold for its life.
    pub parameters: BTreeMap<String, String>,
}

/// `person.added`: somebody who may act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PersonAdded {
    /// As in `person:<name>`.
    pub name: String,
}

/// Raw bytes from outside, exactly as they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Body {
    /// The bytes in base64 (RFC 4648 section 4).
    pub base64: String,
    /// SHA-256 of the bytes.
    pub sha256: Hash,
}

/// One thing that was looked at in order to tell what an item is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Whether it holds.
    pub holds: bool,
    /// What was seen, without personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `user.found`: a user of the retired system, and whether their items can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserFound {
    /// E-mail address in the retired system.
    pub email: Option<String>,
    /// `reachable`, or why not: `disconnected`, `never_connected`, `undecryptable`, `revoked`, `wrong_account`, `unknown_owner`, `failed`.
    pub access: String,
    /// The same in words.
    pub reason: String,
    /// Whether the retired system holds the user as deleted.
    pub soft_deleted: bool,
    /// Items that the retired system recorded for this user.
    pub recorded: u64,
    /// Digest of the stored token, so that another token is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_fingerprint: Option<String>,
    /// Account that the token belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Subject>,
}

/// Whether by this `access` of [`UserFound`] a user is missed: who never gave access has nothing that could be looked at.
pub fn is_missed(access: &str) -> bool {
    !["reachable", "never_connected"].contains(&access)
}

/// `user.failed`: something about a user could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserFailed {
    /// What was being done.
    pub during: String,
    /// Class of the error.
    pub class: String,
    /// HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How often it was tried.
    pub attempt: u32,
    /// What was decided: `skipped` or `stopped`.
    pub decision: String,
    /// What happened and what to do, in words.
    pub reason: String,
    /// `Date` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_date: Option<String>,
}

/// `container.listed`: everything in a place that holds items (a calendar) was listed, completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerListed {
    /// `plan`, `before` or `after` the deletions, or `observe`.
    pub phase: String,
    /// The place as the outside system writes it.
    pub place: String,
    /// Token from which later changes can be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_token: Option<String>,
    /// Items listed, or changes where it was listed from a token.
    pub items: u64,
    /// In an inventory: all there is was listed, so that what is not among it is not there, or is no candidate any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// `Date` of the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_date: Option<String>,
    /// Changes to items that neither the plan nor an entry explains.
    #[serde(default)]
    pub unexplained: u64,
}

/// `item.found`: a candidate, what it was taken for and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemFound {
    /// Where it lies (a calendar).
    pub place: String,
    /// Its id there.
    pub item: String,
    /// Class by the policy.
    pub class: String,
    /// Disposition by the policy.
    pub disposition: Disposition,
    /// Why, in words.
    pub reason: String,
    /// Everything that was looked at, used or not.
    pub evidence: BTreeMap<String, Evidence>,
    /// Version that was read (an etag).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The whole item, where it may be deleted or is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// HMAC of the item's bytes under its owner's key, where the item is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Hash>,
    /// Date of the deadline, `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// For a future deadline that would go: whether the new system has one that stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<bool>,
    /// Users through whom it was reached.
    pub users: Vec<Subject>,
}

/// `plan.sealed`: an inventory is complete, and this is the exact list that may be approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanSealed {
    /// Hash of the plan, see `chain::plan`.
    pub plan: Hash,
    /// The header as it is hashed: policy digest, digests of the exports seen, options. Of a plan made by decisions about
    /// another one also `base`, that plan, and `decisions`, their digest.
    pub header: BTreeMap<String, String>,
    /// Items, counted before and apart from their classification.
    pub items: u64,
    /// Items by class.
    pub classes: BTreeMap<String, u64>,
    /// Items by disposition.
    pub dispositions: BTreeMap<String, u64>,
    /// Users by access.
    pub users: BTreeMap<String, u64>,
    /// What the search by text that was planned before would have deleted.
    pub incumbent_would_delete: u64,
    /// How many of these are not the retired system's.
    pub incumbent_not_ours: u64,
    /// Future deadlines to be deleted for which the new system has none.
    pub uncovered: u64,
    /// Latest `Date` of the outside system during the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_date: Option<String>,
}

/// `plan.approved`: a person approved this hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanApproved {
    /// The plan.
    pub plan: Hash,
    /// From then on nothing new is begun; what was begun is finished.
    pub expires_at: Timestamp,
    /// `asserted`: the name was given. `signed`: with the person's own key.
    pub assurance: String,
    /// What the person was shown, as counts.
    pub dispositions: BTreeMap<String, u64>,
}

/// `gate.overridden`: something was done before its time, by a named person for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateOverridden {
    /// Which gate.
    pub gate: String,
    /// Why.
    pub reason: String,
}

/// `canary.released`: a person looked at the first places of a plan and lets the rest begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CanaryReleased {
    /// The plan.
    pub plan: Hash,
    /// The run that was looked at.
    pub run: RunId,
}

/// `run.started`: a command that acts has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunStarted {
    /// `dry_run`, `cleanup`, `restore`, `review` or `observe`.
    pub verb: String,
    /// The plan that it executes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Hash>,
    /// The entry that approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<EntryId>,
    /// What it was told.
    pub options: BTreeMap<String, String>,
}

/// `run.finished`: a run has come to its end; what it has not done is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunFinished {
    /// `complete`, `partial`, `stopped` or `canary`.
    pub status: String,
    /// Items and users by outcome.
    pub totals: BTreeMap<String, u64>,
}

/// `item.delete_intended`: what is about to be deleted, with all that putting it back needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteIntended {
    /// The plan that names it.
    pub plan: Hash,
    /// The entry that approved the plan.
    pub approval: EntryId,
    /// From 1; a new attempt only after the outcome of the one before.
    pub attempt: u32,
    /// Where it lies.
    pub place: String,
    /// Its id there.
    pub item: String,
    /// The version that was approved; the deletion is conditional on it.
    pub version: String,
    /// The whole item of that version.
    pub backup: Body,
}

/// `item.deleted`: it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemDeleted {
    /// Entry of the intent.
    pub intent: EntryId,
    /// How it came to be gone.
    pub outcome: GoneHow,
    /// Found out after a crash or a lost reply, by asking.
    pub recovered: bool,
    /// HTTP status that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `Date` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_date: Option<String>,
}

/// How an item came to be gone after an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoneHow {
    /// By us.
    Deleted,
    /// Before our request.
    AlreadyGone,
    /// After our intent; whether by us cannot be told.
    GoneCauseUnknown,
}

impl From<GoneHow> for DeleteOutcome {
    fn from(how: GoneHow) -> Self {
        match how {
            // The intent carries the backup, or there is no intent.
            GoneHow::Deleted => Self::Deleted { backup: true },
            GoneHow::AlreadyGone => Self::AlreadyGone,
            GoneHow::GoneCauseUnknown => Self::GoneCauseUnknown,
        }
    }
}

/// `item.delete_failed`: it was not deleted, or nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteFailed {
    /// Entry of the intent.
    pub intent: EntryId,
    /// What is known.
    pub outcome: NotGone,
    /// Class of the error.
    pub class: String,
    /// HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Which attempt this was.
    pub attempt: u32,
    /// What was decided: `held`, `retried`, `given_up`.
    pub decision: String,
    /// Found out after a crash or a lost reply, by asking.
    pub recovered: bool,
    /// What happened, in words.
    pub reason: String,
    /// `Date` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_date: Option<String>,
}

/// What is known of an item that was to be deleted and was not seen to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotGone {
    /// It is no longer the version that was approved.
    Changed,
    /// The new system relies on it by now.
    Adopted,
    /// It is still there.
    Failed,
    /// Nothing can be said.
    Unknown,
}

impl From<NotGone> for DeleteOutcome {
    fn from(what: NotGone) -> Self {
        match what {
            NotGone::Changed => Self::Changed,
            NotGone::Adopted => Self::Adopted,
            NotGone::Failed => Self::Failed,
            NotGone::Unknown => Self::Unknown,
        }
    }
}

/// `item.held`: it was to be deleted, and at the moment of deletion it was left for a person, without an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemHeld {
    /// The plan that names it.
    pub plan: Hash,
    /// `changed`, `adopted`, `gone`, `unreadable`.
    pub cause: String,
    /// Why, in words.
    pub reason: String,
}

/// `item.observed`: it was looked at again after the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemObserved {
    /// Which run it was looked at for.
    pub run: RunId,
    /// What was seen.
    #[schemars(with = "String")]
    pub observation: Observation,
    /// Whether an entry of this ledger explains it.
    pub explained: bool,
    /// Version seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// `channel.stop_intended`: something that tells others of each deletion is about to be stopped. Repeating it does no harm, so one
/// that a crash left open is settled by the next run's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelStopIntended {
    /// The plan whose deletions it would tell of.
    pub plan: Hash,
    /// The place that it watches.
    pub place: String,
}

/// `channel.stopped`: it tells nobody any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelStopped {
    /// Entry of the intent.
    pub intent: EntryId,
    /// It had expired, or was stopped before.
    pub was_over: bool,
}

/// `channel.stop_failed`: it may still tell, so nothing was deleted there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelStopFailed {
    /// Entry of the intent.
    pub intent: EntryId,
    /// Class of the error.
    pub class: String,
    /// HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How often it was tried.
    pub attempt: u32,
    /// What was decided: `stopped`.
    pub decision: String,
    /// What happened, in words.
    pub reason: String,
    /// `Date` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_date: Option<String>,
}

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($payload:ty) = $name:literal, $sealing:ident;)+) => {
        /// What happened.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Event {
            $($(#[$doc])* $variant($payload),)+
            /// Written by a newer program or by somebody's own: kept, shown, counted; never dropped.
            Unknown(UnknownEvent),
        }

        /// Name, schema version and whether it is kept in plain, of every type that this program writes.
        pub const TYPES: &[(&str, u16, bool)] = &[$(($name, 1, events!(@$sealing)),)+];

        impl Event {
            /// Dotted name.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $name,)+
                    Self::Unknown(event) => &event.name,
                }
            }

            /// The payload's text.
            ///
            /// # Errors
            /// Never for the types above, whose members are names, numbers and texts.
            pub fn to_json(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$variant(payload) => serde_json::to_string(payload),)+
                    Self::Unknown(event) => Ok(event.payload.clone()),
                }
            }

            /// Reads a payload back.
            ///
            /// # Errors
            /// The payload is not what its type and schema say.
            pub fn decode(name: &str, schema: u16, payload: &str) -> Result<Self, DecodeError> {
                let failed = |source| DecodeError { name: name.to_owned(), schema, source };
                Ok(match (name, schema) {
                    $(($name, 1) => Self::$variant(serde_json::from_str(payload).map_err(failed)?),)+
                    _ => Self::Unknown(UnknownEvent {
                        name: name.to_owned(),
                        schema,
                        payload: payload.to_owned(),
                    }),
                })
            }
        }

        /// JSON Schema of the payload of each type, by name.
        pub fn schemas() -> BTreeMap<&'static str, schemars::Schema> {
            BTreeMap::from([$(($name, schemars::schema_for!($payload)),)+])
        }
    };
    (@plain) => { true };
    (@sealed) => { false };
}

events! {
    /// Entry 1.
    LedgerCreated(LedgerCreated) = "ledger.created", plain;
    /// Somebody may act.
    PersonAdded(PersonAdded) = "person.added", sealed;
    /// A user of the retired system.
    UserFound(UserFound) = "user.found", sealed;
    /// Something about a user could not be done.
    UserFailed(UserFailed) = "user.failed", sealed;
    /// A place was listed completely.
    ContainerListed(ContainerListed) = "container.listed", sealed;
    /// The retired system wrote after the deletions.
    LateWritten(LateWritten) = "container.late_written", sealed;
    /// A candidate.
    ItemFound(ItemFound) = "item.found", sealed;
    /// The list that may be approved.
    PlanSealed(PlanSealed) = "plan.sealed", plain;
    /// A person approved it.
    PlanApproved(PlanApproved) = "plan.approved", plain;
    /// Something was done before its time.
    GateOverridden(GateOverridden) = "gate.overridden", plain;
    /// After a canary the rest may begin.
    CanaryReleased(CanaryReleased) = "canary.released", plain;
    /// A run has begun.
    RunStarted(RunStarted) = "run.started", plain;
    /// A run has ended.
    RunFinished(RunFinished) = "run.finished", plain;
    /// Before each deletion.
    ItemDeleteIntended(DeleteIntended) = "item.delete_intended", sealed;
    /// It is gone.
    ItemDeleted(ItemDeleted) = "item.deleted", sealed;
    /// It was not deleted, or nobody knows.
    ItemDeleteFailed(DeleteFailed) = "item.delete_failed", sealed;
    /// Left for a person at the moment of deletion.
    ItemHeld(ItemHeld) = "item.held", sealed;
    /// Before each attempt to put an item back.
    ItemRestoreIntended(RestoreIntended) = "item.restore_intended", sealed;
    /// It is there again.
    ItemRestored(ItemRestored) = "item.restored", sealed;
    /// It was not put back.
    ItemRestoreFailed(RestoreFailed) = "item.restore_failed", sealed;
    /// Looked at again.
    ItemObserved(ItemObserved) = "item.observed", sealed;
    /// A person decided about what was held.
    ItemDecided(ItemDecided) = "item.decided", sealed;
    /// A person closes a run.
    ReviewSignedOff(ReviewSignedOff) = "review.signed_off", plain;
    /// Before a channel is stopped.
    ChannelStopIntended(ChannelStopIntended) = "channel.stop_intended", sealed;
    /// It tells nobody any more.
    ChannelStopped(ChannelStopped) = "channel.stopped", sealed;
    /// It may still tell.
    ChannelStopFailed(ChannelStopFailed) = "channel.stop_failed", sealed;
    /// A key signs checkpoints.
    CheckpointKeyAdded(CheckpointKeyAdded) = "checkpoint_key.added", plain;
    /// A key signs no more.
    CheckpointKeyRetired(CheckpointKeyRetired) = "checkpoint_key.retired", plain;
    /// A checkpoint was put outside.
    CheckpointPublished(CheckpointPublished) = "checkpoint.published", plain;
    /// In the catalogue: a ledger exists.
    LedgerListed(LedgerListed) = "ledger.listed", plain;
    /// In the catalogue: a checkpoint was published.
    CheckpointListed(CheckpointListed) = "checkpoint.listed", plain;
    /// A backup was restored, and what it lacks is lost.
    LedgerRestored(LedgerRestored) = "ledger.restored", plain;
    /// A copy left the ledger.
    ExportMade(ExportMade) = "export.made", plain;
    /// Somebody asks for an erasure.
    ErasureRequested(ErasureRequested) = "erasure.requested", plain;
    /// A person approved it.
    ErasureApproved(ErasureApproved) = "erasure.approved", plain;
    /// It was done.
    SubjectErased(SubjectErased) = "subject.erased", plain;
    /// What remains is wrapped anew.
    KeysRewrapped(KeysRewrapped) = "keys.rewrapped", plain;
    /// The old key-encryption key is gone.
    KekDestroyed(KekDestroyed) = "kek.destroyed", plain;
    /// Nothing about the subject may be erased.
    LegalHoldPlaced(LegalHoldPlaced) = "legal_hold.placed", plain;
    /// It may again.
    LegalHoldLifted(LegalHoldLifted) = "legal_hold.lifted", plain;
    /// A kind of subject is kept until a time.
    RetentionSet(RetentionSet) = "retention.set", plain;
    /// Everything held on an owner was handed out.
    SubjectExported(SubjectExported) = "subject.exported", sealed;
}

/// An event of a type or schema that this program does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEvent {
    /// Dotted name.
    pub name: String,
    /// Version of the payload.
    pub schema: u16,
    /// The payload as it is.
    pub payload: String,
}

/// A payload that is not what its type says.
#[derive(Debug, thiserror::Error)]
#[error("read the payload of an entry of type {name}, schema {schema}")]
pub struct DecodeError {
    name: String,
    schema: u16,
    #[source]
    source: serde_json::Error,
}

/// Whether entries of this type are written by the program's own commands, and refused from outside.
pub fn is_written_by_program(event_type: &EventType) -> bool {
    TYPES.iter().any(|(name, ..)| *name == event_type.as_str())
}

/// Whether payloads of this type hold nothing personal and are kept in plain; unknown types never are.
pub fn is_plain(event_type: &EventType) -> bool {
    TYPES
        .iter()
        .any(|(name, _, plain)| *plain && *name == event_type.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_a_name_in_the_past_tense_and_stands_once() {
        let names: std::collections::BTreeSet<_> = TYPES.iter().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), TYPES.len());
        for (name, schema, _) in TYPES {
            name.parse::<EventType>().unwrap();
            assert_eq!(*schema, 1);
            let irregular = [
                "found",
                "held",
                "made",
                "overridden",
                "set",
                "signed_off",
                "written",
            ];
            let past = name.ends_with("ed") || irregular.iter().any(|end| name.ends_with(end));
            assert!(past, "{name}");
        }
    }

    #[test]
    fn an_event_of_a_newer_program_is_kept_as_it_is() {
        let event = Event::decode("item.teleported", 3, "{\"a\":1}").unwrap();
        assert_eq!(
            (event.name(), event.to_json().unwrap().as_str()),
            ("item.teleported", "{\"a\":1}")
        );
        assert!(Event::decode("plan.sealed", 2, "[]").is_ok());
        assert!(Event::decode("plan.sealed", 1, "[]").is_err());
        assert!(!is_plain(&"item.teleported".parse().unwrap()));
    }
}
