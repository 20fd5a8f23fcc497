//! The dry run: everything is looked at, nothing is changed, and what would be deleted is sealed as a plan.
//!
//! Order: sources, calendars, survey of each account, calibration over all, judgement, one `item.found` per candidate, one
//! `plan.sealed`. A dry run that is interrupted leaves no seal, and so nothing that could be approved.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ledger::chain::entry::Hash;
use ledger::chain::plan::{PlanItem, plan_hash};
use ledger::domain::event::{
    Body, ContainerListed, Event, Evidence, ItemFound, PlanSealed, RunFinished, RunStarted,
    UserFailed, UserFound,
};
use ledger::domain::id::Subject;
use ledger::domain::identify::{Classification, Disposition, ExecutorLimits, Facts};
use ledger::domain::policy::Policy;
use ledger::store::identity::Natural;
use ledger::store::{Appended, Draft};
use serde::Serialize;

use super::accounts::{Asked, Listed, Unreachable, ask_all};
use super::runlog::{RunLog, etag_digest};
use super::sources::{SourceUser, Sources, read_sources, read_v2};
use super::{EngineError, Progress, Reader, Recorder, RunOptions};
use crate::clients::google::RawItem;
use crate::clients::supabase::UsersTable;
use crate::executors::calendar::calibration::Calibration;
use crate::executors::calendar::census::{Account, Judged, Survey, UserIds, survey};
use crate::executors::calendar::event::{EventView, ParsedEvent};
use crate::executors::calendar::incumbent::{IncumbentCount, Selector};
use crate::executors::calendar::signals::{AccountFacts, VOCABULARY};

/// Kind of the items' subjects.
pub const KIND: &str = "calendar-event";
/// Kind of the subject that owns them.
pub const ACCOUNT_KIND: &str = "calendar-account";
/// Kind of v1's users.
pub const USER_KIND: &str = "user";
/// Entries appended together.
const BATCH: usize = 256;

/// What a dry run is told.
#[derive(Debug)]
pub struct DryRun {
    /// Rules of identification.
    pub policy: Policy,
    /// v2's exports.
    pub v2_exports: Vec<PathBuf>,
    /// Which of v1's tables of users, where both exist.
    pub users_table: Option<UsersTable>,
    /// Pace and times.
    pub options: RunOptions,
}

/// What it found, for the person who ran it.
#[derive(Debug, Serialize)]
pub struct DryRunReport {
    /// Hash of the sealed plan.
    pub plan: Hash,
    /// Counts.
    pub totals: Totals,
    /// Per user.
    pub users: Vec<UserLine>,
    /// Every candidate.
    pub items: Vec<ItemLine>,
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
    /// Events that do not concern the migration.
    pub others: u64,
    /// Future deadlines to be deleted that no live v2 event stands for.
    pub uncovered: u64,
    /// Future deadlines to be deleted that a live v2 event stands for.
    pub covered: u64,
    /// How reliable v1's signature proved to be.
    pub calibration: Calibration,
    /// Whether it may decide alone.
    pub calibrated: bool,
    /// What the searches that were planned before would have deleted.
    pub incumbent: BTreeMap<Selector, IncumbentCount>,
    /// Values among v1's recorded ids that are no ids.
    pub odd_ids: u64,
}

/// One user's part.
#[derive(Debug, Clone, Serialize)]
pub struct UserLine {
    /// v1's id.
    pub user: String,
    /// For the terminal of who may see it.
    pub email: Option<String>,
    /// `reachable`, or why not.
    pub access: String,
    /// In words, where not.
    pub reason: String,
    /// Candidates by disposition.
    pub dispositions: BTreeMap<String, u64>,
}

/// One candidate.
#[derive(Debug, Clone, Serialize)]
pub struct ItemLine {
    /// v1's id of the user through whom it was reached.
    pub user: String,
    /// The calendar's id; null where it could not be resolved.
    pub calendar: Option<String>,
    /// Google's id of the event; null where nothing of it could be read.
    pub event_id: Option<String>,
    /// Class by the policy.
    pub class: String,
    /// Disposition by the policy.
    pub disposition: Disposition,
    /// Why, in words.
    pub reason: String,
    /// For a future deadline to be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covered: Option<bool>,
}

/// One account as it is judged: its users, its calendar, what was found.
struct Surveyed {
    calendar: Option<String>,
    owner: Subject,
    users: Vec<UserIds>,
    bytes: HashMap<String, RawItem>,
    survey: Survey,
}

/// Looks at everything and seals the plan.
///
/// # Errors
/// What concerns the whole run; users that cannot be reached are entries.
pub async fn dry_run(
    reader: &Reader,
    recorder: &Recorder,
    told: DryRun,
    log: &RunLog,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<DryRunReport, EngineError> {
    let exports = read_v2(told.v2_exports.clone()).await?;
    let clock = recorder.store.clock().clone();
    let sources = read_sources(reader, told.users_table, &exports, &told.options, &clock).await?;
    drop(exports);
    let mut writer = Writer {
        recorder,
        log,
        waiting: Vec::new(),
        lines: HashMap::new(),
    };
    let header = header(&told, &sources, recorder);
    writer.started(&header).await?;

    let asked = ask_all(reader, &sources.users, &told.options, progress).await?;
    let now = clock.now().instant();
    let mut report = DryRunReport {
        plan: Hash::ZERO,
        totals: Totals {
            odd_ids: sources.odd,
            ..Totals::default()
        },
        users: Vec::new(),
        items: Vec::new(),
    };
    let remote_date = asked.iter().filter_map(|asked| match asked {
        Asked::Listed(listed) => listed.date,
        Asked::Unreachable(_) => None,
    });
    let remote_date = remote_date.max();
    let accounts = writer
        .accounts(&sources, asked, &told.policy, now, &mut report)
        .await?;
    for account in &accounts {
        report.totals.calibration.merge(account.survey.calibration);
        report.totals.others += account.survey.others;
        for (selector, count) in &account.survey.incumbent {
            report
                .totals
                .incumbent
                .entry(*selector)
                .or_default()
                .merge(*count);
        }
    }
    let calibrated = report.totals.calibration.is_calibrated(&told.policy);
    report.totals.calibrated = calibrated;

    // Counted before and apart from what is made of them.
    let counted: u64 = accounts
        .iter()
        .map(|account| account.survey.candidates.len() as u64)
        .sum();
    let mut plan_items = Vec::new();
    for account in &accounts {
        let judged = account.survey.judge(
            calibrated,
            &sources.facts,
            &told.policy,
            ExecutorLimits::NONE_LACKING,
        );
        let judged: Vec<Judged<'_>> = judged.collect();
        let v2_known = !sources.exports.is_empty();
        writer
            .items(
                account,
                judged,
                v2_known,
                &sources,
                &mut report,
                &mut plan_items,
            )
            .await?;
    }
    report.totals.items = counted;
    writer
        .seal(header, plan_items, remote_date, &mut report)
        .await?;
    Ok(report)
}

fn header(told: &DryRun, sources: &Sources, recorder: &Recorder) -> BTreeMap<String, String> {
    let time = |at: Option<DateTime<Utc>>| at.map_or("unknown".to_owned(), |at| at.to_rfc3339());
    let mut header = BTreeMap::from([
        ("kind".to_owned(), KIND.to_owned()),
        ("ledger".to_owned(), recorder.store.id().to_string()),
        ("run".to_owned(), recorder.run.to_string()),
        (
            "policy".to_owned(),
            Hash::of(told.policy.bytes()).to_string(),
        ),
        ("policy_name".to_owned(), told.policy.name().to_owned()),
        ("go_live".to_owned(), time(sources.facts.go_live)),
        ("freeze".to_owned(), time(sources.facts.freeze)),
    ]);
    for (n, export) in sources.exports.iter().enumerate() {
        header.insert(format!("v2_export_{n}"), export.digest.clone());
        header.insert(
            format!("v2_export_{n}_taken_at"),
            export.taken_at.to_rfc3339(),
        );
    }
    header
}

/// Appends the run's entries in batches, with a line in the log file for each.
struct Writer<'a> {
    recorder: &'a Recorder,
    log: &'a RunLog,
    waiting: Vec<(Draft, Vec<(&'static str, String)>)>,
    /// Where each user's line is in the report.
    lines: HashMap<String, usize>,
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
        for (appended, words) in self
            .recorder
            .store
            .append_all(drafts)
            .await
            .into_iter()
            .zip(words)
        {
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

    /// Records users and calendars, brings users of one account together and surveys each account.
    async fn accounts(
        &mut self,
        sources: &Sources,
        asked: Vec<Asked>,
        policy: &Policy,
        now: DateTime<Utc>,
        report: &mut DryRunReport,
    ) -> Result<Vec<Surveyed>, EngineError> {
        let naturals: Vec<Natural> = sources
            .users
            .iter()
            .map(|user| Natural {
                kind: USER_KIND.to_owned(),
                id: user.id.clone(),
                owner: None,
            })
            .collect();
        let subjects = self.recorder.store.identify(&naturals).await?;
        let mut together: BTreeMap<String, (Listed, Vec<usize>)> = BTreeMap::new();
        let mut surveyed = Vec::new();
        for (n, asked) in asked.into_iter().enumerate() {
            let (user, subject) = (&sources.users[n], &subjects[n]);
            match asked {
                Asked::Listed(listed) => match together.entry(listed.calendar.clone()) {
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert((*listed, vec![n]));
                    }
                    std::collections::btree_map::Entry::Occupied(mut entry) => {
                        entry.get_mut().0.lookups.extend(listed.lookups);
                        entry.get_mut().1.push(n);
                    }
                },
                Asked::Unreachable(why) => {
                    self.user(user, subject, Err(&why), report).await?;
                    let users = vec![user.ids.clone()];
                    let account = Account {
                        facts: &user.facts,
                        users: &users,
                        unreachable: Some(why.code),
                        events: &[],
                        lookups: &HashMap::new(),
                    };
                    let survey = survey(account, &sources.facts, policy, now)
                        .map_err(|error| EngineError::Internal(error.to_string()))?;
                    surveyed.push(Surveyed {
                        calendar: None,
                        owner: subject.clone(),
                        users,
                        bytes: HashMap::new(),
                        survey,
                    });
                }
            }
        }
        for (calendar, (listed, members)) in together {
            let natural = Natural {
                kind: ACCOUNT_KIND.to_owned(),
                id: calendar.clone(),
                owner: None,
            };
            let mut owner = self.recorder.store.identify(&[natural]).await?;
            let owner = owner
                .pop()
                .ok_or_else(|| EngineError::Internal("no subject".to_owned()))?;
            for n in &members {
                let (user, subject) = (&sources.users[*n], &subjects[*n]);
                self.user(user, subject, Ok(&owner), report).await?;
            }
            self.listed(&owner, &listed).await?;
            let members: Vec<&SourceUser> = members.iter().map(|n| &sources.users[*n]).collect();
            surveyed.push(survey_account(
                calendar, owner, listed, &members, sources, policy, now,
            )?);
        }
        Ok(surveyed)
    }

    async fn user(
        &mut self,
        user: &SourceUser,
        subject: &Subject,
        access: Result<&Subject, &Unreachable>,
        report: &mut DryRunReport,
    ) -> Result<(), EngineError> {
        let (code, reason, account) = match access {
            Ok(account) => ("reachable", String::new(), Some(account.clone())),
            Err(why) => (why.code, why.reason.clone(), None),
        };
        report.totals.users += 1;
        *report.totals.access.entry(code.to_owned()).or_default() += 1;
        self.lines.insert(user.id.clone(), report.users.len());
        report.users.push(UserLine {
            user: user.id.clone(),
            email: user.email.clone(),
            access: code.to_owned(),
            reason: reason.clone(),
            dispositions: BTreeMap::new(),
        });
        let found = Event::UserFound(UserFound {
            email: user.email.clone(),
            access: code.to_owned(),
            reason: reason.clone(),
            soft_deleted: user.soft_deleted,
            recorded: user.ids.v1.len() as u64,
            token_fingerprint: user.token_fingerprint.clone(),
            account,
        });
        let words = vec![("access", code.to_owned())];
        self.push(&found, subject.clone(), subject.clone(), words)
            .await?;
        let Err(why) = access else { return Ok(()) };
        if why.attempt == 0 {
            return Ok(());
        }
        let failed = Event::UserFailed(UserFailed {
            during: "dry_run".to_owned(),
            class: why.class.to_string(),
            status: why.status,
            attempt: why.attempt,
            decision: "skipped".to_owned(),
            reason,
            remote_date: why.date.map(|date| date.to_rfc3339()),
        });
        let words = vec![("class", why.class.to_string())];
        self.push(&failed, subject.clone(), subject.clone(), words)
            .await
    }

    async fn listed(&mut self, owner: &Subject, listed: &Listed) -> Result<(), EngineError> {
        let event = Event::ContainerListed(ContainerListed {
            phase: "plan".to_owned(),
            place: listed.calendar.clone(),
            sync_token: Some(listed.sync_token.clone()),
            items: listed.items.len() as u64,
            remote_date: listed.date.map(|date| date.to_rfc3339()),
            unexplained: 0,
        });
        let words = vec![("items", listed.items.len().to_string())];
        self.push(&event, owner.clone(), owner.clone(), words).await
    }

    /// Records an account's candidates with their class.
    async fn items(
        &mut self,
        account: &Surveyed,
        judged: Vec<Judged<'_>>,
        v2_known: bool,
        sources: &Sources,
        report: &mut DryRunReport,
        plan: &mut Vec<PlanItem>,
    ) -> Result<(), EngineError> {
        let naturals: Vec<Natural> = judged
            .iter()
            .enumerate()
            .map(|(n, judged)| Natural {
                kind: KIND.to_owned(),
                id: natural_id(account, n, judged),
                owner: Some(account.owner.clone()),
            })
            .collect();
        let subjects = self.recorder.store.identify(&naturals).await?;
        let users: HashMap<&str, Subject> = self.user_subjects(account).await?;
        for (judged, subject) in judged.iter().zip(subjects) {
            let classification = hold_where_v2_is_unknown(&judged.classification, v2_known);
            let candidate = judged.candidate;
            let covered = coverage(judged, &classification, sources);
            let event_id = candidate.event_id.clone();
            let raw = event_id.as_deref().and_then(|id| account.bytes.get(id));
            let kept = matches!(
                classification.disposition,
                Disposition::Delete | Disposition::Hold
            );
            let digest = match raw.filter(|_| !kept) {
                Some(raw) => Some(
                    self.recorder
                        .store
                        .owner_digest(&account.owner, &raw.bytes)
                        .await?,
                ),
                None => None,
            };
            let found = Event::ItemFound(ItemFound {
                place: account.calendar.clone().unwrap_or_default(),
                item: event_id.clone().unwrap_or_default(),
                class: classification.class.clone(),
                disposition: classification.disposition,
                reason: classification.reason.clone(),
                evidence: evidence(judged.signals, &judged.conditions),
                version: candidate.etag.clone(),
                body: raw.filter(|_| kept).map(body_of),
                digest,
                date: candidate
                    .event
                    .as_ref()
                    .filter(|_| kept)
                    .and_then(ParsedEvent::best_view)
                    .and_then(EventView::all_day)
                    .map(|day| day.to_string()),
                covered,
                users: candidate
                    .users
                    .iter()
                    .filter_map(|user| users.get(user.as_str()).cloned())
                    .collect(),
            });
            let version = candidate.etag.clone().unwrap_or_default();
            let words = vec![
                ("class", classification.class.clone()),
                ("disposition", classification.disposition.name().to_owned()),
                ("etag", etag_digest(&version)),
            ];
            self.push(&found, subject.clone(), account.owner.clone(), words)
                .await?;
            plan.push(PlanItem {
                subject,
                version,
                class: classification.class.clone(),
                disposition: classification.disposition.name().to_owned(),
            });
            count(
                report,
                &self.lines,
                account,
                judged,
                &classification,
                covered,
            );
        }
        Ok(())
    }

    async fn user_subjects<'u>(
        &self,
        account: &'u Surveyed,
    ) -> Result<HashMap<&'u str, Subject>, EngineError> {
        let ids: Vec<&str> = account
            .users
            .iter()
            .map(|user| user.user.as_str())
            .collect();
        let naturals: Vec<Natural> = ids
            .iter()
            .map(|id| Natural {
                kind: USER_KIND.to_owned(),
                id: (*id).to_owned(),
                owner: None,
            })
            .collect();
        let subjects = self.recorder.store.identify(&naturals).await?;
        Ok(ids.into_iter().zip(subjects).collect())
    }

    async fn seal(
        &mut self,
        header: BTreeMap<String, String>,
        items: Vec<PlanItem>,
        remote_date: Option<DateTime<Utc>>,
        report: &mut DryRunReport,
    ) -> Result<(), EngineError> {
        self.flush().await?;
        let value = serde_json::to_value(&header)
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let plan =
            plan_hash(&value, &items).map_err(|error| EngineError::Internal(error.reason()))?;
        let totals = &report.totals;
        let incumbent = totals
            .incumbent
            .get(&Selector::TitlePrefix)
            .copied()
            .unwrap_or_default();
        let sealed = Event::PlanSealed(PlanSealed {
            plan,
            header,
            items: totals.items,
            classes: totals.classes.clone(),
            dispositions: totals.dispositions.clone(),
            users: totals.access.clone(),
            incumbent_would_delete: incumbent.would_delete,
            incumbent_not_ours: incumbent.not_v1s,
            uncovered: totals.uncovered,
            remote_date: remote_date.map(|date| date.to_rfc3339()),
        });
        let subject = Subject::new("plan", uuid::Uuid::new_v4())
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        self.push(
            &sealed,
            subject.clone(),
            subject,
            vec![("plan", plan.to_string())],
        )
        .await?;
        let run = self.run_subject()?;
        let finished = Event::RunFinished(RunFinished {
            status: "complete".to_owned(),
            totals: totals.dispositions.clone(),
        });
        self.push(&finished, run.clone(), run, Vec::new()).await?;
        self.flush().await?;
        report.plan = plan;
        Ok(())
    }
}

fn survey_account(
    calendar: String,
    owner: Subject,
    listed: Listed,
    members: &[&SourceUser],
    sources: &Sources,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Result<Surveyed, EngineError> {
    let mut facts = AccountFacts::default();
    for member in members {
        facts.cases.extend(member.facts.cases.clone());
        facts.recorded.extend(member.facts.recorded.clone());
    }
    let users: Vec<UserIds> = members.iter().map(|member| member.ids.clone()).collect();
    let events: Vec<ParsedEvent> = listed
        .items
        .iter()
        .map(|item| ParsedEvent::parse(&item.bytes))
        .collect();
    let mut bytes: HashMap<String, RawItem> = HashMap::new();
    let mut lookups = HashMap::new();
    for (id, (lookup, raw)) in listed.lookups {
        bytes.extend(raw.map(|raw| (id.clone(), raw)));
        lookups.insert(id, lookup);
    }
    let account = Account {
        facts: &facts,
        users: &users,
        unreachable: None,
        events: &events,
        lookups: &lookups,
    };
    let survey = survey(account, &sources.facts, policy, now)
        .map_err(|error| EngineError::Internal(error.to_string()))?;
    // Only candidates are kept; the rest of a person's calendar is none of our business.
    let wanted: std::collections::HashSet<&str> = survey
        .candidates
        .iter()
        .filter_map(|candidate| candidate.event_id.as_deref())
        .collect();
    for (event, item) in events.iter().zip(listed.items) {
        if let Some(id) = event.id().filter(|id| wanted.contains(id)) {
            bytes.insert(id.to_owned(), item);
        }
    }
    Ok(Surveyed {
        calendar: Some(calendar),
        owner,
        users,
        bytes,
        survey,
    })
}

/// (calendar, event) where the calendar is known to hold it; else (v1 user, recorded id).
fn natural_id(account: &Surveyed, n: usize, judged: &Judged<'_>) -> String {
    let candidate = judged.candidate;
    let unread = format!("unreadable {n}");
    let event = candidate.event_id.as_deref().unwrap_or(&unread);
    let resolved = account.calendar.as_deref();
    let resolved =
        resolved.filter(|_| judged.classification.disposition != Disposition::OutOfReach);
    if let Some(calendar) = resolved {
        format!("{calendar}\n{event}")
    } else {
        let user = candidate.users.first().map_or("", String::as_str);
        format!("v1 user {user}\n{event}")
    }
}

/// Without v2's ids nothing shows that v2 does not rely on an event.
fn hold_where_v2_is_unknown(classification: &Classification, v2_known: bool) -> Classification {
    let mut classification = classification.clone();
    if !v2_known && classification.disposition == Disposition::Delete {
        classification.disposition = Disposition::Hold;
        classification.reason.push_str(
            "; held, because no export of v2 was given (--v2-export) and v2 may rely on it",
        );
    }
    classification
}

fn coverage(judged: &Judged<'_>, now: &Classification, sources: &Sources) -> Option<bool> {
    let day = judged.candidate.event.as_ref()?.best_view()?.all_day()?;
    let concerned = now.disposition == Disposition::Delete && day >= sources.facts.today;
    concerned.then_some(judged.candidate.covered)
}

fn evidence(signals: &Facts, conditions: &Facts) -> BTreeMap<String, Evidence> {
    let names = VOCABULARY.signals.iter().map(|signal| signal.name);
    let of = |facts: &Facts, name: &str| Evidence {
        holds: facts.holds(name),
        detail: facts.detail(name).map(str::to_owned),
    };
    let mut evidence: BTreeMap<String, Evidence> = names
        .map(|name| (name.to_owned(), of(signals, name)))
        .collect();
    for name in ["calibrated", "after_freeze", "uncovered", "past"] {
        evidence.insert(format!("condition.{name}"), of(conditions, name));
    }
    evidence
}

pub(super) fn body_of(item: &RawItem) -> Body {
    Body {
        base64: STANDARD.encode(&item.bytes),
        sha256: Hash::of(&item.bytes),
    }
}

fn count(
    report: &mut DryRunReport,
    lines: &HashMap<String, usize>,
    account: &Surveyed,
    judged: &Judged<'_>,
    classification: &Classification,
    covered: Option<bool>,
) {
    let candidate = judged.candidate;
    let totals = &mut report.totals;
    *totals
        .classes
        .entry(classification.class.clone())
        .or_default() += 1;
    let disposition = classification.disposition.name();
    *totals
        .dispositions
        .entry(disposition.to_owned())
        .or_default() += 1;
    match covered {
        Some(true) => totals.covered += 1,
        Some(false) => totals.uncovered += 1,
        None => {}
    }
    let user = candidate.users.first().cloned().unwrap_or_default();
    if let Some(line) = lines.get(&user).and_then(|n| report.users.get_mut(*n)) {
        *line.dispositions.entry(disposition.to_owned()).or_default() += 1;
    }
    report.items.push(ItemLine {
        user,
        calendar: account
            .calendar
            .clone()
            .filter(|_| classification.disposition != Disposition::OutOfReach),
        event_id: candidate.event_id.clone(),
        class: classification.class.clone(),
        disposition: classification.disposition,
        reason: classification.reason.clone(),
        covered,
    });
}
