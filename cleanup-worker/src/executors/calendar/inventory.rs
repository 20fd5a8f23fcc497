//! The calendar's inventory: every user, every calendar, every candidate, in memory that does not grow with the events.
//!
//! 1. Sources, then each user's calendar, listed whole and put aside in a [`Spool`].
//! 2. Users who lead to one account are brought together, also those whose own token is dead where another's leads there; each calendar is surveyed for what is summed over all: calibration,
//!    and what the planned searches would have deleted.
//! 3. Each calendar is surveyed again, now that it is known whether v1's signature may decide alone, and handed on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger::domain::policy::Policy;
use serde::{Deserialize, Serialize};

use super::accounts::{Asked, Listed, ask_all, nameless};
use super::calibration::Calibration;
use super::census::{Account, Candidate as Measured, Lookup, Survey, UserIds, survey};
use super::error::CalendarError;
use super::event::{EventView, ParsedEvent};
use super::executor::CalendarExecutor;
use super::incumbent::{IncumbentCount, Selector};
use super::members::{Accounts, Member, Members, take_unsure};
use super::records::{OfUser, Records, Share, Wanted};
use super::shared::{join, part_strangers};
use super::signals::{AccountFacts, ConditionInputs, measure_conditions};
use super::sources::{ExportSeen, SourceUser, Sources};
use crate::clients::ErrorClass;
use crate::clients::google::RawItem;
use crate::engine::{EngineError, Progress};
use crate::executors::{Candidate, Inventory, PlaceSeen, Summary, Unreachable, UserSeen};
use ledger::store::spool::{Block, Spool};

/// Says in a plan's header why nothing may be deleted by it.
pub(super) const HELD: &str = "held_because";

/// A calendar as it lies in the spool; its events and lookups follow as frames.
#[derive(Serialize, Deserialize)]
struct Head {
    /// The user's recorded ids that are judged there.
    ids: UserIds,
    sync_token: String,
    date: Option<DateTime<Utc>>,
    events: usize,
    lookups: Vec<(String, KeptLookup)>,
}

#[derive(Serialize, Deserialize)]
enum KeptLookup {
    /// The next frame.
    Found,
    NotFound,
    Gone,
    Unanswered(String),
}

/// What is summed over all accounts.
#[derive(Default)]
struct Sums {
    calibration: Calibration,
    others: u64,
    candidates: u64,
    incumbent: BTreeMap<Selector, IncumbentCount>,
    date: Option<DateTime<Utc>>,
    /// Users with a token of v1's, and of these: for whose Google gives no access (any more).
    tokens: u64,
    dead: u64,
}

impl Sums {
    fn add(&mut self, survey: &Survey) {
        self.calibration.merge(survey.calibration);
        self.others += survey.others;
        self.candidates += survey.candidates.len() as u64;
        for (selector, count) in &survey.incumbent {
            self.incumbent.entry(*selector).or_default().merge(*count);
        }
    }
}

pub(super) async fn inventory(
    executor: &CalendarExecutor,
    policy: &Policy,
    to: &mut dyn Inventory,
) -> Result<Summary, EngineError> {
    let (sources, records) = executor.everything().await?;
    let (sources, records) = (&sources, &records);
    let mut spool = Spool::new().map_err(CalendarError::from)?;
    let mut sums = Sums::default();
    let (accounts, unreachable) =
        ask(executor, (sources, records), &mut spool, &mut sums, to).await?;
    let mut calendars: HashMap<&str, Vec<&str>> = HashMap::new();
    for (calendar, members) in &accounts {
        for account in members.accounts() {
            calendars.entry(account).or_default().push(calendar);
        }
    }
    let pass = SecondPass {
        accounts: &accounts,
        calendars,
        sources,
        records,
        policy,
        spool: &spool,
        now: executor.clock.now().instant(),
        must_hold: v2_unknown(executor, records.known, policy),
    };
    for (calendar, members) in &accounts {
        sums.add(&pass.account(calendar, members)?.survey);
    }
    let calibrated = sums.calibration.is_calibrated(policy);
    let users = sources.users.iter().map(|user| user.id.clone());
    to.coming(users.collect(), accounts.keys().cloned().collect())
        .await?;
    for (n, why) in unreachable {
        let user = &sources.users[n];
        let survey = pass.unreachable(user, &why)?;
        sums.add(&survey);
        to.user(&seen(user, Err(why))).await?;
        let candidates = survey.candidates.into_iter();
        let candidates = candidates.map(|one| pass.candidate(one, None, calibrated));
        to.candidates(None, candidates.collect()).await?;
    }
    // Users are met at their primary calendar, so those come first.
    let (first, others): (Vec<_>, Vec<_>) = accounts
        .iter()
        .partition(|(calendar, members)| members.owners(calendar).next().is_some());
    for (calendar, members) in first.into_iter().chain(others) {
        for owner in members.owners(calendar) {
            let user = &sources.users[owner.user];
            to.user(&seen(user, Ok(calendar.clone()))).await?;
        }
        let account = pass.account(calendar, members)?;
        let place = PlaceSeen {
            id: calendar.clone(),
            cursor: Some(account.sync_token),
            items: account.events,
            whole: true,
            date: account.date,
        };
        to.place(&place).await?;
        let bytes = account.bytes;
        let candidates = account.survey.candidates.into_iter();
        let candidates = candidates.map(|mut one| {
            // Whoever leads to the calendar may be the one through whom it is reached.
            for member in &members.0 {
                let id = &sources.users[member.user].id;
                if !one.users.contains(id) {
                    one.users.push(id.clone());
                }
            }
            pass.candidate(one, Some(&bytes), calibrated)
        });
        to.candidates(Some(&place), candidates.collect()).await?;
    }
    let v2 = V2Seen {
        exports: executor.exports(),
        known: records.known,
        why_held: pass.must_hold,
    };
    Ok(summary(&sums, calibrated, v2, sources))
}

/// Asks every user's calendars, puts what they answer aside, and tells who leads where and who leads nowhere.
async fn ask(
    executor: &CalendarExecutor,
    (sources, records): (&Sources, &Records),
    spool: &mut Spool,
    sums: &mut Sums,
    to: &mut dyn Inventory,
) -> Result<(Accounts, Vec<(usize, Unreachable)>), EngineError> {
    let mut accounts = Accounts::new();
    let mut unsure: Vec<(String, Member)> = Vec::new();
    let mut unreachable: Vec<(usize, Unreachable)> = Vec::new();
    let all = sources.users.len() as u64;
    let mut done = 0;
    ask_all(
        &executor.reader,
        (&sources.users, records),
        &executor.told.options,
        |n, asked| {
            sums.tokens += u64::from(sources.users[n].access.is_ok());
            match asked {
                Asked::Listed(calendars) => {
                    for listed in calendars {
                        sums.date = sums.date.max(listed.date);
                        let (calendar, is_sure) = (listed.calendar.clone(), listed.is_sure);
                        let member = Member {
                            user: n,
                            account: listed.account.clone(),
                            lists: true,
                            block: put_aside(spool, listed)?,
                        };
                        if is_sure {
                            let members = accounts.entry(calendar.clone()).or_default();
                            members.add(&calendar, member);
                        } else {
                            unsure.push((calendar, member));
                        }
                    }
                }
                Asked::Unreachable(why) => {
                    let is_token = sources.users[n].access.is_ok();
                    sums.dead += u64::from(is_token && why.class == ErrorClass::Auth);
                    unreachable.push((n, why));
                }
            }
            done += 1;
            to.progress(Progress { done, all });
            Ok::<(), EngineError>(())
        },
    )
    .await?;

    // Users were asked side by side: in their own order it is the same inventory each time.
    unsure.sort_by_key(|(_, member)| member.user);
    unreachable.sort_by_key(|(user, _)| *user);
    let name = |user: usize| nameless(&sources.users[user]);
    part_strangers(&mut accounts, spool, name)?;
    take_unsure(&mut accounts, unsure, name);
    let unreachable = join(
        executor,
        (sources, records),
        spool,
        &mut accounts,
        unreachable,
    )
    .await?;
    Ok((accounts, unreachable))
}

pub(super) fn ids_of(events: &[Bytes]) -> HashSet<String> {
    let ids = events
        .iter()
        .filter_map(|bytes| RawItem::new(bytes.clone()).id);
    ids.collect()
}

fn seen(user: &SourceUser, access: Result<String, Unreachable>) -> UserSeen {
    UserSeen {
        id: user.id.clone(),
        email: user.email.clone(),
        soft_deleted: user.soft_deleted,
        recorded: user.recorded,
        credential: user.token_fingerprint.clone(),
        access,
    }
}

pub(super) fn put_aside(spool: &mut Spool, listed: Listed) -> Result<Block, EngineError> {
    let mut frames = vec![Bytes::new()];
    frames.extend(listed.items.into_iter().map(|item| item.bytes));
    let mut head = Head {
        ids: listed.ids,
        sync_token: listed.sync_token,
        date: listed.date,
        events: frames.len() - 1,
        lookups: Vec::new(),
    };
    for (id, (lookup, raw)) in listed.lookups {
        let kept = match (lookup, raw) {
            (Lookup::Found(_), Some(raw)) => {
                frames.push(raw.bytes);
                KeptLookup::Found
            }
            // An answer that was found has its bytes.
            (Lookup::Gone | Lookup::Found(_), _) => KeptLookup::Gone,
            (Lookup::NotFound, _) => KeptLookup::NotFound,
            (Lookup::Unanswered(why), _) => KeptLookup::Unanswered(why),
        };
        head.lookups.push((id, kept));
    }
    let head =
        serde_json::to_vec(&head).map_err(|error| EngineError::Internal(error.to_string()))?;
    frames[0] = head.into();
    let block = spool.put(&frames).map_err(CalendarError::from)?;
    Ok(block)
}

/// What lies in a block of the spool.
pub(super) struct Unpacked {
    ids: UserIds,
    sync_token: String,
    date: Option<DateTime<Utc>>,
    pub(super) events: Vec<Bytes>,
    lookups: Vec<(String, Lookup, Option<Bytes>)>,
}

pub(super) fn unpack(spool: &Spool, block: Block) -> Result<Unpacked, EngineError> {
    let changed = || EngineError::Internal("a calendar put aside came back changed".to_owned());
    let mut frames = spool.get(block).map_err(CalendarError::from)?.into_iter();
    let head = frames.next().ok_or_else(changed)?;
    let head: Head = serde_json::from_slice(&head).map_err(|_| changed())?;
    let events: Vec<Bytes> = frames.by_ref().take(head.events).collect();
    let mut lookups = Vec::with_capacity(head.lookups.len());
    for (id, kept) in head.lookups {
        lookups.push(match kept {
            KeptLookup::NotFound => (id, Lookup::NotFound, None),
            KeptLookup::Gone => (id, Lookup::Gone, None),
            KeptLookup::Unanswered(why) => (id, Lookup::Unanswered(why), None),
            KeptLookup::Found => {
                let bytes = frames.next().ok_or_else(changed)?;
                let event = ParsedEvent::known(&bytes, Some(&id));
                (id, Lookup::Found(event), Some(bytes))
            }
        });
    }
    Ok(Unpacked {
        ids: head.ids,
        sync_token: head.sync_token,
        date: head.date,
        events,
        lookups,
    })
}

fn parse_all(events: &[Bytes]) -> Vec<ParsedEvent> {
    let items = events.iter().cloned().map(RawItem::new);
    items
        .map(|item| ParsedEvent::known(&item.bytes, item.id.as_deref()))
        .collect()
}

/// Bytes of the candidates only; the rest of a person's calendar is none of our business.
struct Kept {
    /// By id.
    bytes: HashMap<String, Bytes>,
    /// Of those without an id, by their place in the list.
    nameless: HashMap<usize, Bytes>,
}

impl Kept {
    fn of(&self, measured: &Measured) -> Option<&Bytes> {
        match &measured.event_id {
            Some(id) => self.bytes.get(id),
            None => self.nameless.get(&measured.listed?),
        }
    }
}

/// A calendar as it was listed and surveyed.
struct Surveyed {
    survey: Survey,
    bytes: Kept,
    sync_token: String,
    date: Option<DateTime<Utc>>,
    events: u64,
}

struct SecondPass<'a> {
    accounts: &'a Accounts,
    /// The calendars of each account.
    calendars: HashMap<&'a str, Vec<&'a str>>,
    sources: &'a Sources,
    records: &'a Records,
    policy: &'a Policy,
    spool: &'a Spool,
    now: DateTime<Utc>,
    /// Why nothing may be deleted, if so.
    must_hold: Option<&'static str>,
}

impl SecondPass<'_> {
    /// Takes a calendar out of the spool. The first member's listing counts; what the others looked up is added, and what was recorded for
    /// them and only their listing has: it came while the users were asked one after the other.
    fn account(&self, calendar: &str, members: &Members) -> Result<Surveyed, EngineError> {
        let mut lookups: HashMap<String, Lookup> = HashMap::new();
        let mut bytes: HashMap<String, Bytes> = HashMap::new();
        let mut first: Option<(Unpacked, HashSet<String>)> = None;
        let mut users = Vec::with_capacity(members.0.len());
        for member in &members.0 {
            let mut unpacked = unpack(self.spool, member.block)?;
            let ids = std::mem::take(&mut unpacked.ids);
            users.push(ids.clone());
            for (id, lookup, found) in std::mem::take(&mut unpacked.lookups) {
                bytes.extend(found.map(|found| (id.clone(), found)));
                lookups.insert(id, lookup);
            }
            let Some((_, listed)) = &first else {
                let listed = ids_of(&unpacked.events);
                first = Some((unpacked, listed));
                continue;
            };
            let recorded = ids.v1.iter().chain(&ids.v2);
            let late: HashSet<&String> = recorded.filter(|id| !listed.contains(*id)).collect();
            for item in unpacked.events.into_iter().map(RawItem::new) {
                if let Some(id) = item.id.filter(|id| late.contains(id)) {
                    let event = ParsedEvent::known(&item.bytes, Some(&id));
                    lookups.insert(id.clone(), Lookup::Found(event));
                    bytes.insert(id, item.bytes);
                }
            }
        }
        let missing = || EngineError::Internal("a calendar without a listing".to_owned());
        let (first, _) = first.ok_or_else(missing)?;
        let events = parse_all(&first.events);
        let others = self.others(calendar, members)?;
        let others: Vec<&[ParsedEvent]> = others.iter().map(Vec::as_slice).collect();
        let is_shared = members.accounts().len() > 1;
        let accounts = members.accounts().into_iter();
        let mut facts = AccountFacts {
            creators: accounts
                .filter(|account| *account != calendar)
                .map(str::to_owned)
                .collect(),
            ..AccountFacts::default()
        };
        for member in &members.0 {
            let user = self.recorded_for(&self.sources.users[member.user])?.facts;
            for case in user.cases.keys().filter(|_| is_shared) {
                let authors = facts.authors.entry(*case).or_default();
                authors.insert(member.account.clone());
            }
            facts.cases.extend(user.cases);
            facts.recorded.extend(user.recorded);
        }
        let survey = self.survey(Account {
            facts: &facts,
            users: &users,
            unreachable: None,
            events: &events,
            others: &others,
            lookups: &lookups,
        })?;
        let wanted: HashSet<&str> = survey
            .candidates
            .iter()
            .filter_map(|candidate| candidate.event_id.as_deref())
            .collect();
        let count = first.events.len() as u64;
        let mut nameless = HashMap::new();
        for (at, (event, item)) in events.iter().zip(first.events).enumerate() {
            match event.id() {
                Some(id) if wanted.contains(id) => drop(bytes.insert(id.to_owned(), item)),
                Some(_) => {}
                None => drop(nameless.insert(at, item)),
            }
        }
        Ok(Surveyed {
            survey,
            bytes: Kept { bytes, nameless },
            sync_token: first.sync_token,
            date: first.date,
            events: count,
        })
    }

    /// The events of the account's other calendars; most accounts have none. What is somebody else's primary one is not the account's.
    fn others(
        &self,
        calendar: &str,
        members: &Members,
    ) -> Result<Vec<Vec<ParsedEvent>>, EngineError> {
        let mut accounts = members.accounts();
        if accounts.contains(calendar) {
            accounts.retain(|account| *account == calendar);
        }
        let of_accounts = accounts.iter().filter_map(|it| self.calendars.get(it));
        let others: BTreeSet<&str> = of_accounts.flatten().copied().collect();
        let blocks = others.into_iter().filter_map(|other| {
            let members = self.accounts.get(other)?;
            let elses = !accounts.contains(other) && members.owners(other).next().is_some();
            let block = members.0.first()?.block;
            (other != calendar && !elses).then_some(block)
        });
        let events = blocks.map(|block| Ok(parse_all(&unpack(self.spool, block)?.events)));
        events.collect()
    }

    fn unreachable(&self, user: &SourceUser, why: &Unreachable) -> Result<Survey, EngineError> {
        let OfUser { facts, ids } = self.recorded_for(user)?;
        self.survey(Account {
            facts: &facts,
            users: &[ids],
            unreachable: Some(&why.code),
            events: &[],
            others: &[],
            lookups: &HashMap::new(),
        })
    }

    fn recorded_for(&self, user: &SourceUser) -> Result<OfUser, EngineError> {
        Ok(self.records.of(user).map_err(CalendarError::from)?)
    }

    fn survey(&self, account: Account<'_>) -> Result<Survey, EngineError> {
        let mut wanted = Wanted::default();
        let listed = account.others.iter().copied().flatten();
        listed
            .chain(account.events)
            .for_each(|event| wanted.event(event));
        for lookup in account.lookups.values() {
            if let Lookup::Found(event) = lookup {
                wanted.event(event);
            }
        }
        account.users.iter().for_each(|ids| wanted.user(ids));
        let facts = self.records.facts(&wanted, &self.sources.facts);
        let facts = facts.map_err(CalendarError::from)?;
        Ok(survey(account, &facts, self.policy, self.now))
    }

    fn candidate(&self, measured: Measured, kept: Option<&Kept>, calibrated: bool) -> Candidate {
        let view = measured.event.as_ref().and_then(ParsedEvent::best_view);
        let facts = &self.sources.facts;
        let inputs = ConditionInputs {
            view,
            calibrated,
            covered: measured.covered,
        };
        let conditions = measure_conditions(inputs, facts);
        let day = view.and_then(EventView::all_day);
        Candidate {
            bytes: kept.and_then(|kept| kept.of(&measured)).cloned(),
            date: day.map(|day| day.to_string()),
            covered: day
                .filter(|day| *day >= facts.today)
                .map(|_| measured.covered),
            conditions,
            // Without v2's ids nothing shows that v2 does not rely on an event.
            must_hold: self.must_hold,
            item: measured.event_id,
            users: measured.users,
            version: measured.etag,
            signals: measured.signals,
        }
    }
}

/// Why nothing shows what v2 relies on, if so.
fn v2_unknown(executor: &CalendarExecutor, known: Share, policy: &Policy) -> Option<&'static str> {
    if !executor.v2_known() {
        return Some(
            "held, because v2's production was not read (CONVEX_URL, or --v2-export) and v2 may rely on it",
        );
    }
    (!known.is_enough(policy)).then_some(
        "held, because what was read as v2's production has nothing, or too little, of v1's (is it the right deployment \
         or export?) and v2 may rely on it",
    )
}

/// What was read of v2, for the report.
#[derive(Clone, Copy)]
struct V2Seen<'a> {
    exports: &'a [ExportSeen],
    known: Share,
    why_held: Option<&'static str>,
}

/// What the terminal says beside the totals.
fn lines(sums: &Sums, calibrated: bool, v2: V2Seen<'_>, sources: &Sources) -> Vec<String> {
    let calibration = &sums.calibration;
    let mut lines = vec![format!(
        "calibration: {} of {} recorded events carry v1's signature{}",
        calibration.signed,
        calibration.recorded,
        if calibrated {
            ""
        } else {
            ": too few, so orphans are held"
        }
    )];
    for (selector, count) in &sums.incumbent {
        let name = match selector {
            Selector::TitlePrefix => "by title",
            Selector::SearchText => "for \"PERM Tracker\"",
        };
        lines.push(format!(
            "the plan's own search {name} would have deleted {}, of which {} are not v1's",
            count.would_delete, count.not_v1s
        ));
    }
    if sources.odd > 0 {
        lines.push(format!("recorded values that are no ids: {}", sources.odd));
    }
    let without_owner = sources.without_owner();
    if without_owner > 0 {
        lines.push(format!(
            "recorded ids of cases whose owner v1's table of users does not have, which cannot be reached: {without_owner} \
             (is it the right --users-table?)"
        ));
    }
    for export in v2.exports {
        lines.push(format!(
            "v2's {} as it was at {}, {} cases, {}",
            export.deployment.as_str(),
            export.taken_at.to_rfc3339(),
            export.cases,
            if export.live {
                "read live"
            } else {
                "from an export"
            }
        ));
    }
    // One grant dies by itself, most of them together by a hand: Google says the same of both.
    let (dead, tokens) = (sums.dead, sums.tokens);
    if dead * 2 > tokens {
        lines.push(format!(
            "{dead} of {tokens} users' grants are refused, which is more than half: are the OAuth client and \
             ENCRYPTION_KEY v1's own, and is its consent screen still published?"
        ));
    }
    let known = v2.known;
    let few = if known.is_few() {
        ", which is few: is it the right deployment, or the export of it (npx convex export --prod)?"
    } else {
        ""
    };
    lines.push(format!("v2's production has {known} of v1's cases{few}"));
    if let Some(why) = v2.why_held {
        lines.push(format!("nothing may be deleted by this plan: {why}"));
    }
    let channels = sources.channels.map_or_else(
        || "no such table, as expected".to_owned(),
        |rows| format!("{rows} rows"),
    );
    lines.push(format!("v1's watch channels: {channels}"));
    lines
}

fn summary(sums: &Sums, calibrated: bool, v2: V2Seen<'_>, sources: &Sources) -> Summary {
    let by_title = sums
        .incumbent
        .get(&Selector::TitlePrefix)
        .copied()
        .unwrap_or_default();
    let (calibration, known) = (&sums.calibration, v2.known);
    let value = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
    let details = [
        ("calibration", value(serde_json::to_value(calibration))),
        ("calibrated", calibrated.into()),
        ("incumbent", value(serde_json::to_value(&sums.incumbent))),
        ("odd_ids", sources.odd.into()),
        ("ids_without_owner", sources.without_owner().into()),
        ("v2", v2_lines(v2.exports)),
        ("v2_known", v2.why_held.is_none().into()),
        ("dead_grants", sums.dead.into()),
        ("v2_has_cases", known.cases.into()),
        ("v1_cases", known.all.into()),
        ("channels", sources.channels.into()),
    ];
    let rows = sources
        .channels
        .map_or("no table".to_owned(), |rows| rows.to_string());
    let (signed, recorded) = (calibration.signed, calibration.recorded);
    let mut header = BTreeMap::from([
        ("calibration".to_owned(), format!("{signed} of {recorded}")),
        ("calibrated".to_owned(), calibrated.to_string()),
        ("v1_channels".to_owned(), rows),
        ("v2_has_cases".to_owned(), known.to_string()),
    ]);
    if let Some(why) = v2.why_held {
        header.insert(HELD.to_owned(), why.to_owned());
    }
    Summary {
        candidates: sums.candidates,
        others: sums.others,
        incumbent_would_delete: by_title.would_delete,
        incumbent_not_ours: by_title.not_v1s,
        date: sums.date,
        header,
        details: details
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        lines: lines(sums, calibrated, v2, sources),
    }
}

/// What was read of v2, for the report.
fn v2_lines(exports: &[ExportSeen]) -> serde_json::Value {
    let lines = exports.iter().map(|export| {
        serde_json::json!({
            "deployment": export.deployment.as_str(),
            "live": export.live,
            "taken_at": export.taken_at,
            "digest": export.digest,
            "cases": export.cases,
        })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::google::RawItem;

    #[test]
    fn a_calendar_comes_out_of_the_spool_as_it_went_in() {
        let raw = |text: &str| RawItem::new(Bytes::from(text.to_owned()));
        let found = raw(r#"{"id":"b","etag":"\"2\"","status":"cancelled"}"#);
        let listed = Listed {
            calendar: "someone@example.com".to_owned(),
            account: "someone@example.com".to_owned(),
            is_sure: true,
            ids: UserIds::default(),
            items: vec![
                raw(r#"{"id":"a","etag":"\"1\""}"#),
                raw("{\"odd\":\"\\ud800\"}"),
            ],
            sync_token: "token".to_owned(),
            date: None,
            lookups: HashMap::from([
                (
                    "b".to_owned(),
                    (Lookup::Found(ParsedEvent::parse(&found.bytes)), Some(found)),
                ),
                ("c".to_owned(), (Lookup::NotFound, None)),
                ("d".to_owned(), (Lookup::Gone, None)),
            ]),
        };
        let mut spool = Spool::new().unwrap();
        let block = put_aside(&mut spool, listed).unwrap();
        let frames = spool.get(block).unwrap();
        let head: Head = serde_json::from_slice(&frames[0]).unwrap();
        assert_eq!((head.events, head.lookups.len(), frames.len()), (2, 3, 4));
        assert_eq!(frames[2], "{\"odd\":\"\\ud800\"}");
    }
}
