//! A second opinion on truths: classes worked out from the data alone, as a program has to, must be those that the world was
//! made with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::world::recorded;
use crate::calendar::{Fields, MARK, Presence};
use crate::supabase::Cell;
use crate::world::v1::Deadline;
use crate::world::v2::{CaseWords, Entry, v2_description};
use crate::{Class, World, WorldSpec};

/// What is known beside the calendars.
struct Known {
    v1: BTreeMap<String, BTreeSet<String>>,
    v2: BTreeSet<String>,
    cases: BTreeMap<String, BTreeSet<String>>,
    texts: BTreeSet<String>,
}

impl Known {
    fn new(world: &World) -> Self {
        let table = world.database.table("cases").unwrap();
        let (id, user) = (
            table.position("id").unwrap(),
            table.position("user_id").unwrap(),
        );
        let mut cases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in table.rows() {
            if let (Cell::Text(id), Cell::Text(user)) = (&row[id], &row[user]) {
                cases.entry(user.clone()).or_default().insert(id.clone());
            }
        }
        let (mut v2, mut texts) = (BTreeSet::new(), BTreeSet::new());
        for case in [&world.v2.production, &world.v2.dev]
            .iter()
            .flat_map(|d| &d.tables["cases"])
        {
            let ids = case.get("calendarEventIds").and_then(Value::as_object);
            v2.extend(
                ids.into_iter()
                    .flat_map(|ids| ids.values())
                    .map(|id| text(Some(id))),
            );
            texts.extend(renderings(case));
        }
        Self {
            v1: recorded(world),
            v2,
            cases,
            texts,
        }
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Every description that v2 could have written for a case.
fn renderings(case: &Value) -> Vec<String> {
    let maybe = |name: &str| case.get(name).map(|value| text(Some(value)));
    let words = CaseWords {
        employer: text(case.get("employerName")),
        beneficiary: text(case.get("beneficiaryIdentifier")),
        case_number: maybe("caseNumber"),
        internal_case_number: maybe("internalCaseNumber"),
    };
    Deadline::ALL
        .into_iter()
        .flat_map(|deadline| {
            let entries = match deadline {
                Deadline::RfiDue => case["rfiEntries"].as_array().unwrap().clone(),
                Deadline::RfeDue => case["rfeEntries"].as_array().unwrap().clone(),
                _ => vec![Value::Null],
            };
            let words = words.clone();
            entries.into_iter().map(move |entry| {
                let entry = Entry {
                    id: text(entry.get("id")),
                    due: String::new(),
                };
                v2_description(deadline, &words, Some(&entry))
            })
        })
        .collect()
}

fn plain(html: &str) -> String {
    html.replace("<html-blob>", "")
        .replace("</html-blob>", "")
        .replace("<br>", "\n")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

fn uuid_after<'a>(description: &'a str, mark: &str) -> Option<&'a str> {
    description.split_once(mark)?.1.trim_start().get(..36)
}

fn foreign(event: &Fields) -> bool {
    event["organizer"].get("self") != Some(&true.into())
        || ["attendees", "recurrence", "attachments"]
            .iter()
            .any(|name| event.contains_key(*name))
        || event["start"].get("dateTime").is_some()
        || event["eventType"] != "default"
}

/// The class of an event that is there, for an account and its v1 users.
fn class_of(event: &Fields, known: &Known, users: &[&str]) -> Class {
    let id = text(event.get("id"));
    let by_v1 = users
        .iter()
        .any(|user| known.v1.get(*user).is_some_and(|ids| ids.contains(&id)));
    let by_v2 = known.v2.contains(&id);
    let title = text(event.get("summary"));
    let raw = text(event.get("description"));
    let description = plain(&raw);
    let titled = Deadline::ALL
        .iter()
        .any(|one| title.starts_with(&format!("{}: ", one.label())));
    let worded = description.contains("PERM Tracker");
    let of_case = ["Case:", "permtracker.app/cases/"].iter().any(|mark| {
        uuid_after(&description, mark).is_some_and(|uuid| {
            users
                .iter()
                .any(|user| known.cases.get(*user).is_some_and(|all| all.contains(uuid)))
        })
    });
    let v2_text = known.texts.contains(&description);
    if !(by_v1 || by_v2 || of_case || v2_text || titled || worded) {
        return Class::NotACandidate;
    }
    if event["status"] == "cancelled" {
        return Class::Gone;
    }
    if raw.contains(MARK) || title.contains(MARK) || !event["start"].is_object() {
        return Class::Unreadable;
    }
    let instant =
        |name: &str| chrono::DateTime::parse_from_rfc3339(event[name].as_str().unwrap()).unwrap();
    let edited = instant("updated") - instant("created") > chrono::Duration::seconds(60);
    let orphan = of_case && (titled || worded);
    match () {
        () if foreign(event) => Class::Foreign,
        () if by_v1 && by_v2 => Class::Adopted,
        () if by_v2 || v2_text => Class::V2Fresh,
        () if edited && (by_v1 || orphan) => Class::Edited,
        () if by_v1 => Class::V1Recorded,
        () if orphan => Class::V1Orphan,
        () if of_case => Class::Linked,
        () => Class::Lookalike,
    }
}

#[test]
fn classes_worked_out_from_the_data_are_the_worlds_own() {
    for seed in 1..8 {
        let world = WorldSpec::seeded(seed)
            .users(60)
            .events_per_user(40)
            .generate();
        let known = Known::new(&world);
        let truth: BTreeMap<_, _> = world
            .truth
            .iter()
            .map(|truth| ((truth.calendar.as_str(), truth.event_id.as_str()), truth))
            .collect();
        let mut seen = 0;
        for calendar in &world.calendars {
            let users: Vec<&str> = world
                .users
                .iter()
                .filter(|user| user.account.as_deref() == Some(&calendar.id))
                .filter(|user| user.kind.is_reachable())
                .map(|user| user.id.as_str())
                .collect();
            let mut there = BTreeSet::new();
            for event in &calendar.events {
                let id = text(event.fields.get("id"));
                let truth = truth[&(calendar.id.as_str(), id.as_str())];
                there.insert(id);
                if matches!(truth.class, Class::Unreachable) || users.is_empty() {
                    continue;
                }
                let class = match event.presence {
                    Presence::Gone => Class::Gone,
                    Presence::Held => class_of(&event.fields, &known, &users),
                };
                assert_eq!(
                    class, truth.class,
                    "seed {seed}: {truth:?}\n{:?}",
                    event.fields
                );
                seen += 1;
            }
            // Recorded, and not there: gone, since each of these users has others that are.
            for id in users
                .iter()
                .filter_map(|user| known.v1.get(*user))
                .flatten()
            {
                let truth = truth[&(calendar.id.as_str(), id.as_str())];
                assert_eq!(
                    truth.class == Class::Gone,
                    !there.contains(id) || {
                        let event = calendar
                            .events
                            .iter()
                            .find(|e| e.fields["id"] == id.as_str());
                        event.unwrap().fields["status"] == "cancelled"
                    }
                );
            }
        }
        assert!(seen > 1_000, "{seen}");
    }
}
