//! The dry run: everything is looked at, nothing is changed, and what would be deleted is sealed as a plan.
//!
//! The executor's inventory hands on users, places and candidates; each candidate gets its class and disposition by the policy
//! and is one `item.found`; one `plan.sealed` ends a complete inventory. One that is interrupted leaves no seal, and so
//! nothing that could be approved.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use ledger::chain::entry::{Hash, PAYLOAD_BYTES_MAX};
use ledger::chain::plan::PlanItem;
use ledger::domain::event::{
    Body, ContainerListed, Event, Evidence, ItemFound, PlanSealed, RunFinished, RunStarted,
    UserFailed, UserFound,
};
use ledger::domain::id::Subject;
use ledger::domain::identify::{Classification, Disposition, Facts, Vocabulary};
use ledger::domain::policy::Policy;
use ledger::projections::explain::CONDITION;
use ledger::projections::plan::{Lines, LinesError};
use ledger::store::identity::Natural;
use ledger::store::read::Filter;
use ledger::store::{Appended, Draft};
use serde::Serialize;

use super::runlog::{RunLog, etag_digest};
use super::{EngineError, Progress, Recorder};
use crate::executors::{
    Candidate, Executor, Inventory, Kinds, PlaceSeen, Summary, Unreachable, UserSeen,
};

/// Entries appended together.
const BATCH: usize = 256;
/// The largest item of which a copy is kept: as base64, and with all that is said of it, it fits into an entry.
const KEPT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX / 8 * 5;
const TOO_LARGE: &str =
    "held, because it is too large to be kept, and what cannot be put back is not deleted";

/// What it found, for the person who ran it. The items themselves are in the ledger, as `item.found` of the run.
#[derive(Debug, Serialize)]
pub struct DryRunReport {
    /// Hash of the sealed plan.
    pub plan: Hash,
    /// Counts.
    pub totals: Totals,
    /// Per user.
    pub users: Vec<UserLine>,
    /// What the executor says about its kind of item, for the terminal.
    #[serde(skip)]
    pub lines: Vec<String>,
}

/// Counts of a dry run.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    /// Users read.
    pub users: u64,
    /// Users by access.
    pub access: BTreeMap<String, u64>,
    /// Candidates.
    pub items: u64,
    /// Candidates by class.
    pub classes: BTreeMap<String, u64>,
    /// Candidates by disposition.
    pub dispositions: BTreeMap<String, u64>,
    /// Items that do not concern the migration.
    pub others: u64,
    /// Deadlines yet to come that would be deleted and that nothing in the new system stands for.
    pub uncovered: u64,
    /// Deadlines yet to come that would be deleted and that something in the new system stands for.
    pub covered: u64,
    /// What the executor counted beside these.
    #[serde(flatten)]
    pub details: serde_json::Map<String, serde_json::Value>,
}

/// One user's part.
#[derive(Debug, Clone, Serialize)]
pub struct UserLine {
    /// Id in the retired system.
    pub user: String,
    /// The user as a subject.
    #[serde(skip)]
    pub subject: Subject,
    /// For the terminal of who may see it.
    pub email: Option<String>,
    /// `reachable`, or why not.
    pub access: String,
    /// In words, where not.
    pub reason: String,
    /// Candidates by disposition.
    pub dispositions: BTreeMap<String, u64>,
}

/// Looks at everything and seals the plan.
///
/// # Errors
/// What concerns the whole run; users that cannot be reached are entries.
pub async fn dry_run(
    executor: &dyn Executor,
    policy: &Policy,
    recorder: &Recorder,
    log: &RunLog,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<DryRunReport, EngineError> {
    let header = header(executor, policy, recorder);
    let mut writer = Writer {
        recorder,
        log,
        policy,
        limits: executor.limits(),
        vocabulary: executor.vocabulary(),
        kinds: executor.kinds(),
        progress,
        waiting: Vec::new(),
        owners: HashMap::new(),
        met: None,
        taken: HashSet::new(),
        listed: None,
        lines: HashMap::new(),
        plan: Lines::new().map_err(not_hashed)?,
        totals: Totals::default(),
        users: Vec::new(),
    };
    writer.started(&header).await?;
    let summary = executor.inventory(policy, &mut writer).await?;
    writer.seal(header, summary).await
}

fn header(
    executor: &dyn Executor,
    policy: &Policy,
    recorder: &Recorder,
) -> BTreeMap<String, String> {
    let mut header = executor.header();
    header.extend([
        ("kind".to_owned(), executor.kinds().item.into_owned()),
        ("ledger".to_owned(), recorder.store.id().to_string()),
        ("run".to_owned(), recorder.run.to_string()),
        ("policy".to_owned(), Hash::of(policy.bytes()).to_string()),
        ("policy_name".to_owned(), policy.name().to_owned()),
    ]);
    header
}

/// Records what the inventory hands on, in batches, with a line in the log file for each entry.
struct Writer<'a> {
    recorder: &'a Recorder,
    log: &'a RunLog,
    policy: &'a Policy,
    limits: ledger::domain::identify::ExecutorLimits,
    vocabulary: Vocabulary<'a>,
    kinds: Kinds,
    progress: &'a (dyn Fn(Progress) + Sync),
    waiting: Vec<(Draft, Vec<(&'static str, String)>)>,
    /// Subjects of places that were listed.
    owners: HashMap<String, Subject>,
    /// The places that inventories met each user at; read when it is first asked for.
    met: Option<HashMap<Subject, BTreeSet<String>>>,
    /// Natural ids that another item of this plan has, or may come to have: a plan names an item once.
    taken: HashSet<String>,
    /// The places that this inventory lists.
    listed: Option<HashSet<String>>,
    /// Where each user's line is among `users`.
    lines: HashMap<String, usize>,
    plan: Lines,
    totals: Totals,
    users: Vec<UserLine>,
}

#[async_trait]
impl Inventory for Writer<'_> {
    async fn user(&mut self, user: &UserSeen) -> Result<(), EngineError> {
        let subject = self.subject(&self.kinds.user, &user.id).await?;
        let (code, reason, account) = match &user.access {
            Ok(place) => ("reachable", String::new(), Some(self.owner(place).await?)),
            Err(why) => (why.code.as_ref(), why.reason.clone(), None),
        };
        self.totals.users += 1;
        *self.totals.access.entry(code.to_owned()).or_default() += 1;
        self.lines.insert(user.id.clone(), self.users.len());
        self.users.push(UserLine {
            user: user.id.clone(),
            subject: subject.clone(),
            email: user.email.clone(),
            access: code.to_owned(),
            reason: reason.clone(),
            dispositions: BTreeMap::new(),
        });
        let found = Event::UserFound(UserFound {
            email: user.email.clone(),
            access: code.to_owned(),
            reason,
            soft_deleted: user.soft_deleted,
            recorded: user.recorded,
            token_fingerprint: user.credential.clone(),
            account,
        });
        let words = vec![("access", code.to_owned())];
        self.push(&found, subject.clone(), subject.clone(), words)
            .await?;
        match &user.access {
            // Where there was nothing to try with, nothing failed.
            Err(why) if why.attempt > 0 => self.user_failed(subject, why).await,
            _ => Ok(()),
        }
    }

    async fn coming(&mut self, users: Vec<String>, places: Vec<String>) -> Result<(), EngineError> {
        // Each by itself would cost a commit or two.
        self.subjects(&self.kinds.user, &users).await?;
        let owners = self.subjects(&self.kinds.owner, &places).await?;
        self.owners.extend(places.iter().cloned().zip(owners));
        self.listed.get_or_insert_default().extend(places);
        Ok(())
    }

    async fn place(&mut self, place: &PlaceSeen) -> Result<(), EngineError> {
        let owner = self.owner(&place.id).await?;
        let event = Event::ContainerListed(ContainerListed {
            phase: "plan".to_owned(),
            place: place.id.clone(),
            sync_token: place.cursor.clone(),
            items: place.items,
            whole: place.whole,
            remote_date: place.date.map(|date| date.to_rfc3339()),
            unexplained: 0,
        });
        let words = vec![("items", place.items.to_string())];
        self.push(&event, owner.clone(), owner, words).await
    }

    async fn candidates(
        &mut self,
        place: Option<&PlaceSeen>,
        candidates: Vec<Candidate>,
    ) -> Result<(), EngineError> {
        let mut unread = Unread::default();
        for chunk in candidates.chunks(BATCH) {
            self.record(place, chunk, &mut unread).await?;
        }
        Ok(())
    }

    fn progress(&mut self, progress: Progress) {
        (self.progress)(progress);
    }
}

impl Writer<'_> {
    async fn push(
        &mut self,
        event: &Event,
        subject: Subject,
        owner: Subject,
        words: Vec<(&'static str, String)>,
    ) -> Result<(), EngineError> {
        let mut draft = Draft::of(event, subject, self.recorder.actor.clone(), owner)?;
        draft.run = Some(self.recorder.run);
        self.waiting.push((draft, words));
        if self.waiting.len() >= BATCH {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), EngineError> {
        let (drafts, words): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().unzip();
        let appended = self.recorder.store.append_all(drafts).await;
        for (appended, words) in appended.into_iter().zip(words) {
            let appended: Appended = appended?;
            let words: Vec<_> = words
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            self.log.entry(&appended, &words);
        }
        Ok(())
    }

    fn run_subject(&self) -> Result<Subject, EngineError> {
        Subject::new("run", self.recorder.run.uuid())
            .map_err(|error| EngineError::Internal(error.to_string()))
    }

    async fn subject(&self, kind: &str, id: &str) -> Result<Subject, EngineError> {
        let subject = self.subjects(kind, &[id]).await?.pop();
        subject.ok_or_else(|| EngineError::Internal("no subject".to_owned()))
    }

    /// The subjects of what owns itself.
    async fn subjects(
        &self,
        kind: &str,
        ids: &[impl AsRef<str>],
    ) -> Result<Vec<Subject>, EngineError> {
        let naturals = ids.iter().map(|id| Natural {
            kind: kind.to_owned(),
            id: id.as_ref().to_owned(),
            owner: None,
        });
        let naturals: Vec<Natural> = naturals.collect();
        Ok(self.recorder.store.identify(&naturals).await?)
    }

    /// The subject of a place, which owns its items.
    async fn owner(&mut self, place: &str) -> Result<Subject, EngineError> {
        if let Some(owner) = self.owners.get(place) {
            return Ok(owner.clone());
        }
        let owner = self.subject(&self.kinds.owner, place).await?;
        self.owners.insert(place.to_owned(), owner.clone());
        Ok(owner)
    }

    async fn started(&mut self, header: &BTreeMap<String, String>) -> Result<(), EngineError> {
        let subject = self.run_subject()?;
        let event = Event::RunStarted(RunStarted {
            verb: "dry_run".to_owned(),
            plan: None,
            approval: None,
            options: header.clone(),
        });
        self.push(&event, subject.clone(), subject, Vec::new())
            .await?;
        self.flush().await
    }

    async fn user_failed(
        &mut self,
        subject: Subject,
        why: &Unreachable,
    ) -> Result<(), EngineError> {
        let failed = Event::UserFailed(UserFailed {
            during: "dry_run".to_owned(),
            class: why.class.to_string(),
            status: why.status,
            attempt: why.attempt,
            decision: "skipped".to_owned(),
            reason: why.reason.clone(),
            remote_date: why.date.map(|date| date.to_rfc3339()),
        });
        let words = vec![("class", why.class.to_string())];
        self.push(&failed, subject.clone(), subject, words).await
    }

    /// Gives each candidate its class and records it.
    async fn record(
        &mut self,
        place: Option<&PlaceSeen>,
        candidates: &[Candidate],
        unread: &mut Unread,
    ) -> Result<(), EngineError> {
        let judged: Vec<(Classification, &Facts)> =
            candidates.iter().map(|one| self.judge(one)).collect();
        let users = self.users_of(candidates).await?;
        let owner = match place {
            Some(place) => Some(self.owner(&place.id).await?),
            None => None,
        };
        let owner_of = |candidate: &Candidate| {
            let first = candidate
                .users
                .first()
                .and_then(|id| users.get(id.as_str()));
            owner.as_ref().or(first).cloned()
        };
        let out_of_reach = |class: &Classification| class.disposition == Disposition::OutOfReach;
        let former = self.former(place, candidates, &judged, &users).await?;
        let mut naturals = Vec::with_capacity(candidates.len());
        for (candidate, (class, _)) in candidates.iter().zip(&judged) {
            let kind = self.kinds.item.clone().into_owned();
            if let Some(known) = candidate.item.as_ref().and_then(|item| former.get(item))
                && out_of_reach(class)
            {
                naturals.push(known.clone());
                continue;
            }
            let resolved = place.filter(|_| !out_of_reach(class));
            naturals.push(Natural {
                kind,
                id: natural_id(resolved, candidate, unread),
                owner: owner_of(candidate),
            });
        }
        let subjects = self.recorder.store.identify(&naturals).await?;
        for (((candidate, (class, signals)), subject), natural) in
            candidates.iter().zip(judged).zip(subjects).zip(naturals)
        {
            let owner = natural.owner.unwrap_or_else(|| subject.clone());
            self.item(place, candidate, &class, signals, (subject, owner), &users)
                .await?;
        }
        Ok(())
    }

    /// Of the items that cannot be reached now, those that were met before at a place of their users: they are the same items still, whatever
    /// was done to them.
    async fn former(
        &mut self,
        at: Option<&PlaceSeen>,
        candidates: &[Candidate],
        judged: &[(Classification, &Facts)],
        users: &HashMap<&str, Subject>,
    ) -> Result<HashMap<String, Natural>, EngineError> {
        let mut former = HashMap::new();
        // Without knowing what is listed now an item could be taken for one that comes yet.
        if self.listed.is_none() {
            return Ok(former);
        }
        for (candidate, (class, _)) in candidates.iter().zip(judged) {
            let Some(item) = &candidate.item else {
                continue;
            };
            if class.disposition != Disposition::OutOfReach {
                continue;
            }
            let mut places = BTreeSet::new();
            for user in candidate
                .users
                .iter()
                .filter_map(|id| users.get(id.as_str()))
            {
                places.extend(self.met().await?.get(user).into_iter().flatten().cloned());
            }
            for place in places {
                // What is listed there now says itself what it is.
                let is_listed = self.listed.as_ref();
                let is_listed = is_listed.is_some_and(|listed| listed.contains(&place));
                if is_listed && at.is_none_or(|at| at.id != place) {
                    continue;
                }
                let kind = self.kinds.item.clone().into_owned();
                let id = format!("{place}\n{item}");
                let is_known = self.recorder.store.subject_of(&kind, &id).await?.is_some();
                if is_known && self.taken.insert(id.clone()) {
                    let owner = Some(self.owner(&place).await?);
                    former.insert(item.clone(), Natural { kind, id, owner });
                    break;
                }
            }
        }
        Ok(former)
    }

    async fn met(&mut self) -> Result<&HashMap<Subject, BTreeSet<String>>, EngineError> {
        if self.met.is_none() {
            self.met = Some(self.read_met().await?);
        }
        Ok(self.met.get_or_insert_default())
    }

    async fn read_met(&self) -> Result<HashMap<Subject, BTreeSet<String>>, EngineError> {
        let store = &self.recorder.store;
        let mut met: HashMap<Subject, BTreeSet<String>> = HashMap::new();
        let mut places: HashMap<Subject, Option<String>> = HashMap::new();
        let mut entries = std::pin::pin!(store.read(Filter {
            types: "user.found".parse().into_iter().collect(),
            ..Filter::default()
        }));
        while let Some(recorded) = entries.next().await {
            let recorded = recorded?;
            let json = recorded.payload.json().unwrap_or_default();
            // What was erased, or a newer program wrote, tells of no place.
            let Ok(Event::UserFound(found)) = Event::decode("user.found", 1, json) else {
                continue;
            };
            let Some(account) = found.account else {
                continue;
            };
            if !places.contains_key(&account) {
                let place = store.natural_id(&account).await?;
                places.insert(account.clone(), place);
            }
            let place = places.get(&account).cloned().flatten();
            met.entry(recorded.entry.subject).or_default().extend(place);
        }
        Ok(met)
    }

    /// Of the ways to it, the one whose class protects it most.
    fn judge<'c>(&self, candidate: &'c Candidate) -> (Classification, &'c Facts) {
        static NOTHING: std::sync::LazyLock<Facts> = std::sync::LazyLock::new(Facts::new);
        let conditions = &candidate.conditions;
        let classify = |signals| self.policy.classify(signals, conditions, self.limits);
        let ways = candidate.signals.iter();
        let judged = ways
            .map(|signals| (classify(signals), signals))
            .reduce(|a, b| {
                let more = self.policy.more_protective(a.0.clone(), b.0.clone());
                if more == a.0 { a } else { b }
            });
        // What nothing was measured of, no class matches: it is held.
        let (mut class, signals) = judged.unwrap_or_else(|| (classify(&NOTHING), &NOTHING));
        let too_large = candidate.bytes.as_ref().filter(|bytes| is_too_large(bytes));
        if let Some(why) = candidate.must_hold.or(too_large.map(|_| TOO_LARGE))
            && class.disposition == Disposition::Delete
        {
            class.disposition = Disposition::Hold;
            class.reason.push_str("; ");
            class.reason.push_str(why);
        }
        (class, signals)
    }

    async fn users_of<'c>(
        &self,
        candidates: &'c [Candidate],
    ) -> Result<HashMap<&'c str, Subject>, EngineError> {
        let ids: BTreeSet<&str> = candidates
            .iter()
            .flat_map(|candidate| candidate.users.iter().map(String::as_str))
            .collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let subjects = self.subjects(&self.kinds.user, &ids).await?;
        Ok(ids.into_iter().zip(subjects).collect())
    }

    async fn item(
        &mut self,
        place: Option<&PlaceSeen>,
        candidate: &Candidate,
        class: &Classification,
        signals: &Facts,
        (subject, owner): (Subject, Subject),
        users: &HashMap<&str, Subject>,
    ) -> Result<(), EngineError> {
        let bytes = candidate.bytes.as_ref();
        let kept = matches!(class.disposition, Disposition::Delete | Disposition::Hold)
            && !bytes.is_some_and(|bytes| is_too_large(bytes));
        let digest = match bytes.filter(|_| !kept) {
            Some(bytes) => Some(self.recorder.store.owner_digest(&owner, bytes).await?),
            None => None,
        };
        let covered = candidate
            .covered
            .filter(|_| class.disposition == Disposition::Delete);
        let found = Event::ItemFound(ItemFound {
            place: place.map(|place| place.id.clone()).unwrap_or_default(),
            item: candidate.item.clone().unwrap_or_default(),
            class: class.class.clone(),
            disposition: class.disposition,
            reason: class.reason.clone(),
            evidence: evidence(&self.vocabulary, signals, &candidate.conditions),
            version: candidate.version.clone(),
            body: bytes.filter(|_| kept).map(|bytes| body_of(bytes)),
            digest,
            date: candidate
                .date
                .clone()
                .filter(|_| matches!(class.disposition, Disposition::Delete | Disposition::Hold)),
            covered,
            users: candidate
                .users
                .iter()
                .filter_map(|user| users.get(user.as_str()).cloned())
                .collect(),
        });
        let version = candidate.version.clone().unwrap_or_default();
        let mut words = vec![
            ("class", class.class.clone()),
            ("disposition", class.disposition.name().to_owned()),
            ("etag", etag_digest(&version)),
        ];
        if self.log.names_addresses() {
            let user = candidate
                .users
                .first()
                .and_then(|user| self.lines.get(user));
            let email = user.and_then(|n| self.users.get(*n)?.email.clone());
            words.extend(email.map(|email| ("email", email)));
        }
        self.push(&found, subject.clone(), owner, words).await?;
        let line = PlanItem {
            subject,
            version,
            class: class.class.clone(),
            disposition: class.disposition.name().to_owned(),
        };
        self.plan.push(&line).map_err(not_hashed)?;
        self.count(candidate, class, covered);
        Ok(())
    }

    fn count(&mut self, candidate: &Candidate, class: &Classification, covered: Option<bool>) {
        let totals = &mut self.totals;
        *totals.classes.entry(class.class.clone()).or_default() += 1;
        let disposition = class.disposition.name();
        *totals
            .dispositions
            .entry(disposition.to_owned())
            .or_default() += 1;
        match covered {
            Some(true) => totals.covered += 1,
            Some(false) => totals.uncovered += 1,
            None => {}
        }
        let user = candidate.users.first();
        let line = user.and_then(|user| self.lines.get(user));
        if let Some(line) = line.and_then(|n| self.users.get_mut(*n)) {
            *line.dispositions.entry(disposition.to_owned()).or_default() += 1;
        }
    }

    async fn seal(
        mut self,
        mut header: BTreeMap<String, String>,
        summary: Summary,
    ) -> Result<DryRunReport, EngineError> {
        header.extend(summary.header);
        self.flush().await?;
        let handed_on = self.plan.count();
        if summary.candidates != handed_on {
            return Err(EngineError::Internal(format!(
                "the inventory counted {} candidates and handed on {handed_on}: nothing is sealed",
                summary.candidates
            )));
        }
        self.totals.items = summary.candidates;
        self.totals.others = summary.others;
        self.totals.details = summary.details;
        let value = serde_json::to_value(&header)
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let plan = std::mem::replace(&mut self.plan, Lines::new().map_err(not_hashed)?);
        let plan = plan.hash(&value).map_err(not_hashed)?;
        let totals = &self.totals;
        let sealed = Event::PlanSealed(PlanSealed {
            plan,
            header,
            items: totals.items,
            classes: totals.classes.clone(),
            dispositions: totals.dispositions.clone(),
            users: totals.access.clone(),
            incumbent_would_delete: summary.incumbent_would_delete,
            incumbent_not_ours: summary.incumbent_not_ours,
            uncovered: totals.uncovered,
            remote_date: summary.date.map(|date| date.to_rfc3339()),
        });
        let dispositions = totals.dispositions.clone();
        let subject = Subject::new("plan", uuid::Uuid::new_v4())
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let words = vec![("plan", plan.to_string())];
        self.push(&sealed, subject.clone(), subject, words).await?;
        let run = self.run_subject()?;
        let finished = Event::RunFinished(RunFinished {
            status: "complete".to_owned(),
            totals: dispositions,
        });
        self.push(&finished, run.clone(), run, Vec::new()).await?;
        self.flush().await?;
        Ok(DryRunReport {
            plan,
            totals: self.totals,
            users: self.users,
            lines: summary.lines,
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is called by map_err")]
fn not_hashed(error: LinesError) -> EngineError {
    EngineError::Internal(super::with_causes(&error))
}

fn is_too_large(bytes: &[u8]) -> bool {
    bytes.len() > KEPT_BYTES_MAX
}

/// Names of the items of a place of which not even the id could be read.
#[derive(Default)]
struct Unread(HashMap<String, u32>);

impl Unread {
    /// By what it holds, so that the next inventory finds the same item; of several that hold the same each has a number of its own.
    fn name(&mut self, bytes: Option<&Bytes>) -> String {
        let digest = bytes.map(|bytes| Hash::of(bytes).to_string());
        let digest = digest.unwrap_or_default();
        let count = self.0.entry(digest.clone()).or_default();
        *count += 1;
        match count {
            1 => format!("unreadable {digest}"),
            n => format!("unreadable {digest} {n}"),
        }
    }
}

/// (place, item) where the place is known to hold it; else (user of the retired system, recorded id).
fn natural_id(resolved: Option<&PlaceSeen>, candidate: &Candidate, unread: &mut Unread) -> String {
    let item = match &candidate.item {
        Some(item) => item.clone(),
        None => unread.name(candidate.bytes.as_ref()),
    };
    if let Some(place) = resolved {
        format!("{}\n{item}", place.id)
    } else {
        let user = candidate.users.first().map_or("", String::as_str);
        format!("v1 user {user}\n{item}")
    }
}

fn evidence(
    vocabulary: &Vocabulary<'_>,
    signals: &Facts,
    conditions: &Facts,
) -> BTreeMap<String, Evidence> {
    let of = |facts: &Facts, name: &str| Evidence {
        holds: facts.holds(name),
        detail: facts.detail(name).map(str::to_owned),
    };
    let measured = vocabulary.signals.iter();
    let mut evidence: BTreeMap<String, Evidence> = measured
        .map(|signal| (signal.name.to_string(), of(signals, &signal.name)))
        .collect();
    for condition in vocabulary.conditions {
        let known = of(conditions, &condition.name);
        evidence.insert(format!("{CONDITION}{}", condition.name), known);
    }
    evidence
}

pub(super) fn body_of(bytes: &[u8]) -> Body {
    Body {
        base64: STANDARD.encode(bytes),
        sha256: Hash::of(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_called_by_what_it_holds() {
        let [one, other] = ["{", "["].map(|text| Bytes::from_static(text.as_bytes()));
        let names = |order: [&Bytes; 3]| {
            let mut unread = Unread::default();
            order.map(|bytes| unread.name(Some(bytes)))
        };
        let [a, b, again] = names([&one, &other, &one]);
        assert!(a != b && again != a && again.starts_with(&a));
        assert_eq!(names([&other, &one, &one]), [b, a, again]);
        let mut unread = Unread::default();
        assert_ne!(unread.name(None), unread.name(None));
    }

    #[test]
    fn what_is_kept_fits_into_an_entry() {
        let base64 = KEPT_BYTES_MAX.div_ceil(3) * 4;
        assert!(base64 + 1024 * 1024 < PAYLOAD_BYTES_MAX, "{base64}");
    }
}
