//! The calendar's inventory: every user, every calendar, every candidate, in memory that does not grow with the events.
//!
//! 1. Sources, then each user's calendar, listed whole and put aside in a [`Spool`].
//! 2. Users who lead to one account are brought together, and each account is surveyed for what is summed over all: calibration,
//!    and what the planned searches would have deleted.
//! 3. Each account is surveyed again, now that it is known whether v1's signature may decide alone, and handed on.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger::domain::policy::Policy;
use serde::{Deserialize, Serialize};

use super::accounts::{Asked, Listed, ask_all};
use super::calibration::Calibration;
use super::census::{Account, Candidate as Measured, Lookup, Survey, UserIds, survey};
use super::error::CalendarError;
use super::event::{EventView, ParsedEvent};
use super::executor::CalendarExecutor;
use super::incumbent::{IncumbentCount, Selector};
use super::signals::{AccountFacts, ConditionInputs, measure_conditions};
use super::sources::{SourceUser, Sources};
use crate::engine::{EngineError, Progress};
use crate::executors::spool::{Block, Spool};
use crate::executors::{Candidate, Inventory, PlaceSeen, Summary, Unreachable, UserSeen};

/// A calendar as it lies in the spool; its events and lookups follow as frames.
#[derive(Serialize, Deserialize)]
struct Head {
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
}

/// An account and where its calendars lie, one listing a user who leads to it.
struct Members {
    blocks: Vec<Block>,
    users: Vec<usize>,
}

/// What is summed over all accounts.
#[derive(Default)]
struct Sums {
    calibration: Calibration,
    others: u64,
    candidates: u64,
    incumbent: BTreeMap<Selector, IncumbentCount>,
    date: Option<DateTime<Utc>>,
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
    let sources = executor.sources().await?;
    let mut spool = Spool::new().map_err(CalendarError::from)?;
    let mut accounts: BTreeMap<String, Members> = BTreeMap::new();
    let mut unreachable: Vec<(usize, Unreachable)> = Vec::new();
    let mut sums = Sums::default();
    let all = sources.users.len() as u64;
    ask_all(
        &executor.reader,
        &sources.users,
        &executor.told.options,
        |n, asked| {
            match asked {
                Asked::Listed(listed) => {
                    sums.date = sums.date.max(listed.date);
                    let account = accounts.entry(listed.calendar.clone());
                    let members = account.or_insert_with(|| Members {
                        blocks: Vec::new(),
                        users: Vec::new(),
                    });
                    members.users.push(n);
                    members.blocks.push(put_aside(&mut spool, *listed)?);
                }
                Asked::Unreachable(why) => unreachable.push((n, why)),
            }
            to.progress(Progress {
                done: n as u64 + 1,
                all,
            });
            Ok::<(), EngineError>(())
        },
    )
    .await?;

    let pass = SecondPass {
        sources,
        policy,
        spool: &spool,
        now: executor.clock.now().instant(),
        v2_known: !sources.exports.is_empty(),
    };
    for members in accounts.values() {
        sums.add(&pass.account(members)?.survey);
    }
    let calibrated = sums.calibration.is_calibrated(policy);
    for (n, why) in unreachable {
        let user = &sources.users[n];
        let survey = pass.unreachable(user, &why)?;
        sums.add(&survey);
        to.user(&seen(user, Err(why))).await?;
        let candidates = survey.candidates.into_iter();
        let candidates = candidates.map(|one| pass.candidate(one, None, calibrated));
        to.candidates(None, candidates.collect()).await?;
    }
    for (calendar, members) in &accounts {
        for n in &members.users {
            to.user(&seen(&sources.users[*n], Ok(calendar.clone())))
                .await?;
        }
        let account = pass.account(members)?;
        let place = PlaceSeen {
            id: calendar.clone(),
            cursor: Some(account.sync_token),
            items: account.events,
            date: account.date,
        };
        to.place(&place).await?;
        let bytes = account.bytes;
        let candidates = account.survey.candidates.into_iter();
        let candidates = candidates.map(|one| pass.candidate(one, Some(&bytes), calibrated));
        to.candidates(Some(&place), candidates.collect()).await?;
    }
    Ok(summary(sums, calibrated, sources))
}

fn seen(user: &SourceUser, access: Result<String, Unreachable>) -> UserSeen {
    UserSeen {
        id: user.id.clone(),
        email: user.email.clone(),
        soft_deleted: user.soft_deleted,
        recorded: user.ids.v1.len() as u64,
        credential: user.token_fingerprint.clone(),
        access,
    }
}

fn put_aside(spool: &mut Spool, listed: Listed) -> Result<Block, EngineError> {
    let mut frames = vec![Bytes::new()];
    frames.extend(listed.items.into_iter().map(|item| item.bytes));
    let mut head = Head {
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
        };
        head.lookups.push((id, kept));
    }
    let head =
        serde_json::to_vec(&head).map_err(|error| EngineError::Internal(error.to_string()))?;
    frames[0] = head.into();
    let block = spool.put(&frames).map_err(CalendarError::from)?;
    Ok(block)
}

/// An account as it was listed and surveyed.
struct Surveyed {
    survey: Survey,
    /// Of the candidates only; the rest of a person's calendar is none of our business.
    bytes: HashMap<String, Bytes>,
    sync_token: String,
    date: Option<DateTime<Utc>>,
    events: u64,
}

struct SecondPass<'a> {
    sources: &'a Sources,
    policy: &'a Policy,
    spool: &'a Spool,
    now: DateTime<Utc>,
    v2_known: bool,
}

impl SecondPass<'_> {
    /// Takes an account out of the spool. The first member's listing counts; what the others looked up is added.
    fn account(&self, members: &Members) -> Result<Surveyed, EngineError> {
        let changed = || EngineError::Internal("a calendar put aside came back changed".to_owned());
        let mut items: Vec<Bytes> = Vec::new();
        let mut lookups: HashMap<String, Lookup> = HashMap::new();
        let mut looked_up: HashMap<String, Bytes> = HashMap::new();
        let mut first = None;
        for block in &members.blocks {
            let mut frames = self
                .spool
                .get(*block)
                .map_err(CalendarError::from)?
                .into_iter();
            let head = frames.next().ok_or_else(changed)?;
            let head: Head = serde_json::from_slice(&head).map_err(|_| changed())?;
            let events: Vec<Bytes> = frames.by_ref().take(head.events).collect();
            for (id, kept) in head.lookups {
                let lookup = match kept {
                    KeptLookup::NotFound => Lookup::NotFound,
                    KeptLookup::Gone => Lookup::Gone,
                    KeptLookup::Found => {
                        let bytes = frames.next().ok_or_else(changed)?;
                        let event = ParsedEvent::parse(&bytes);
                        looked_up.insert(id.clone(), bytes);
                        Lookup::Found(event)
                    }
                };
                lookups.insert(id, lookup);
            }
            if first.is_none() {
                items = events;
                first = Some((head.sync_token, head.date));
            }
        }
        let (sync_token, date) = first.ok_or_else(changed)?;
        let events: Vec<ParsedEvent> = items
            .iter()
            .map(|bytes| ParsedEvent::parse(bytes))
            .collect();
        let users: Vec<&SourceUser> = members
            .users
            .iter()
            .map(|n| &self.sources.users[*n])
            .collect();
        let mut facts = AccountFacts::default();
        for user in &users {
            facts.cases.extend(user.facts.cases.clone());
            facts.recorded.extend(user.facts.recorded.clone());
        }
        let ids: Vec<UserIds> = users.iter().map(|user| user.ids.clone()).collect();
        let survey = self.survey(Account {
            facts: &facts,
            users: &ids,
            unreachable: None,
            events: &events,
            lookups: &lookups,
        })?;
        let wanted: std::collections::HashSet<&str> = survey
            .candidates
            .iter()
            .filter_map(|candidate| candidate.event_id.as_deref())
            .collect();
        let count = items.len() as u64;
        let mut bytes = looked_up;
        for (event, item) in events.iter().zip(items) {
            if let Some(id) = event.id().filter(|id| wanted.contains(id)) {
                bytes.insert(id.to_owned(), item);
            }
        }
        Ok(Surveyed {
            survey,
            bytes,
            sync_token,
            date,
            events: count,
        })
    }

    fn unreachable(&self, user: &SourceUser, why: &Unreachable) -> Result<Survey, EngineError> {
        self.survey(Account {
            facts: &user.facts,
            users: std::slice::from_ref(&user.ids),
            unreachable: Some(&why.code),
            events: &[],
            lookups: &HashMap::new(),
        })
    }

    fn survey(&self, account: Account<'_>) -> Result<Survey, EngineError> {
        survey(account, &self.sources.facts, self.policy, self.now)
            .map_err(|error| EngineError::Internal(error.to_string()))
    }

    fn candidate(
        &self,
        measured: Measured,
        bytes: Option<&HashMap<String, Bytes>>,
        calibrated: bool,
    ) -> Candidate {
        let view = measured.event.as_ref().and_then(ParsedEvent::best_view);
        let facts = &self.sources.facts;
        let inputs = ConditionInputs {
            view,
            calibrated,
            covered: measured.covered,
        };
        let conditions = measure_conditions(inputs, facts);
        let day = view.and_then(EventView::all_day);
        let id = measured.event_id.as_deref();
        Candidate {
            bytes: id.and_then(|id| bytes?.get(id)).cloned(),
            date: day.map(|day| day.to_string()),
            covered: day
                .filter(|day| *day >= facts.today)
                .map(|_| measured.covered),
            conditions,
            // Without v2's ids nothing shows that v2 does not rely on an event.
            must_hold: (!self.v2_known).then_some(
                "held, because no export of v2 was given (--v2-export) and v2 may rely on it",
            ),
            item: measured.event_id,
            users: measured.users,
            version: measured.etag,
            signals: measured.signals,
        }
    }
}

fn summary(sums: Sums, calibrated: bool, sources: &Sources) -> Summary {
    let by_title = sums
        .incumbent
        .get(&Selector::TitlePrefix)
        .copied()
        .unwrap_or_default();
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
    if sources.exports.is_empty() {
        lines.push(
            "no export of v2 was given (--v2-export): nothing may be deleted by this plan"
                .to_owned(),
        );
    }
    let value = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
    let details = [
        ("calibration", value(serde_json::to_value(calibration))),
        ("calibrated", calibrated.into()),
        ("incumbent", value(serde_json::to_value(&sums.incumbent))),
        ("odd_ids", sources.odd.into()),
    ];
    Summary {
        candidates: sums.candidates,
        others: sums.others,
        incumbent_would_delete: by_title.would_delete,
        incumbent_not_ours: by_title.not_v1s,
        date: sums.date,
        details: details
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        lines,
    }
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
