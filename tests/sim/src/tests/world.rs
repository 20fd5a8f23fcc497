//! Worlds: determinism, completeness, and truths that hold.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::supabase::Cell;
use crate::world::v1::Deadline;
use crate::{Class, Disposition, WorldSpec};

/// Everything of a world that a service shows.
fn shown(spec: &WorldSpec) -> String {
    let world = spec.generate();
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        world.database,
        world.calendars,
        world.v2,
        world.truth,
        world.keys.encryption_key.encoded()
    )
}

#[test]
fn a_seed_is_a_world() {
    assert_eq!(shown(&WorldSpec::seeded(7)), shown(&WorldSpec::seeded(7)));
    assert_ne!(shown(&WorldSpec::seeded(7)), shown(&WorldSpec::seeded(8)));
}

#[test]
fn the_default_world_holds_every_class() {
    for seed in 1..6 {
        let census = WorldSpec::seeded(seed).generate().census();
        let classes: BTreeSet<_> = census.keys().copied().collect();
        assert_eq!(classes.len(), 12, "{census:?}");
        let total: usize = census.values().sum();
        assert!((450..800).contains(&total), "{census:?}");
    }
}

#[test]
fn channels_bring_second_calendars_with_events_of_v1s() {
    let plain = WorldSpec::seeded(3).generate();
    let spec = WorldSpec {
        channels: true,
        ..WorldSpec::seeded(3)
    };
    let world = spec.generate();
    assert!(plain.database.table("calendar_sync_channels").is_none());
    let rows = world
        .database
        .table("calendar_sync_channels")
        .unwrap()
        .rows()
        .count();
    assert!(!world.channels.is_empty() && world.channels.len() < rows);
    let second: BTreeSet<&str> = world
        .calendars
        .iter()
        .filter(|calendar| calendar.id != calendar.owner)
        .map(|calendar| calendar.id.as_str())
        .collect();
    let moved = world
        .truth
        .iter()
        .filter(|truth| second.contains(truth.calendar.as_str()));
    let classes: BTreeSet<_> = moved.map(|truth| truth.class).collect();
    assert!(
        classes.contains(&Class::V1Recorded) && classes.contains(&Class::Gone),
        "{classes:?}"
    );
    assert_eq!(world.truth.len(), plain.truth.len());
}

#[test]
fn no_event_has_two_truths_and_every_event_has_one() {
    let world = WorldSpec::seeded(3).generate();
    let mut told = BTreeSet::new();
    for truth in &world.truth {
        assert!(
            told.insert((truth.calendar.clone(), truth.event_id.clone())),
            "{truth:?}"
        );
    }
    for (calendar, events) in world.live() {
        for event in events.into_keys() {
            assert!(told.contains(&(calendar.clone(), event)));
        }
    }
}

#[test]
fn what_must_survive_is_live_and_what_is_to_be_deleted_was_made_by_v1() {
    let world = WorldSpec::seeded(4).generate();
    let live = world.live();
    for truth in &world.truth {
        let is_live = live
            .get(&truth.calendar)
            .is_some_and(|events| events.contains_key(&truth.event_id));
        match truth.disposition {
            Disposition::Delete => assert!(is_live && truth.v1_made && !truth.must_survive),
            Disposition::Done => assert!(!is_live, "{truth:?}"),
            _ => assert_eq!(truth.must_survive, is_live, "{truth:?}"),
        }
    }
}

/// The ids that v1's database records, by user.
pub(super) fn recorded(world: &crate::World) -> BTreeMap<String, BTreeSet<String>> {
    let table = world.database.table("cases").unwrap();
    let (user, ids) = (
        table.position("user_id").unwrap(),
        table.position("calendar_event_ids").unwrap(),
    );
    let mut recorded: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table.rows() {
        let Cell::Text(user) = &row[user] else {
            panic!("a case without user")
        };
        let Cell::Json(value) = &row[ids] else {
            continue;
        };
        let parsed;
        let value = match value {
            Value::String(text) => {
                parsed = serde_json::from_str(text).unwrap();
                &parsed
            }
            other => other,
        };
        let list: Vec<&Value> = match value {
            Value::Object(object) => object.values().collect(),
            Value::Array(array) => array.iter().collect(),
            other => panic!("odd ids {other}"),
        };
        let set = recorded.entry(user.clone()).or_default();
        set.extend(list.into_iter().map(|id| id.as_str().unwrap().to_owned()));
    }
    recorded
}

#[test]
fn truths_agree_with_what_the_databases_record() {
    let world = WorldSpec::seeded(5).generate();
    let v1: BTreeSet<String> = recorded(&world).into_values().flatten().collect();
    let v2: BTreeSet<String> = [&world.v2.production, &world.v2.dev]
        .into_iter()
        .flat_map(|deployment| &deployment.tables["cases"])
        .filter_map(|case| case.get("calendarEventIds"))
        .flat_map(|ids| ids.as_object().unwrap().values())
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    for truth in &world.truth {
        let id = &truth.event_id;
        match truth.class {
            Class::V1Recorded | Class::Gone | Class::Unreadable => {
                assert!(v1.contains(id) && !v2.contains(id), "{truth:?}");
            }
            Class::Adopted => assert!(v1.contains(id) && v2.contains(id), "{truth:?}"),
            Class::V1Orphan | Class::Linked | Class::Lookalike | Class::NotACandidate => {
                assert!(!v1.contains(id) && !v2.contains(id), "{truth:?}");
            }
            Class::V2Fresh => assert!(!v1.contains(id), "{truth:?}"),
            Class::Unreachable => assert!(v1.contains(id) || v2.contains(id), "{truth:?}"),
            Class::Edited | Class::Foreign => {}
        }
    }
    let fresh = world
        .truth
        .iter()
        .filter(|truth| truth.class == Class::V2Fresh);
    assert!(fresh.clone().any(|truth| v2.contains(&truth.event_id)));
    assert!(fresh.clone().any(|truth| !v2.contains(&truth.event_id)));
}

#[test]
fn the_incumbents_selectors_would_delete_what_must_survive() {
    let world = WorldSpec::seeded(6).generate();
    let survive: BTreeSet<_> = world
        .truth
        .iter()
        .filter(|truth| truth.must_survive)
        .map(|truth| truth.event_id.as_str())
        .collect();
    let (mut by_title, mut by_text) = (0, 0);
    for (id, event) in world.live().values().flatten() {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let titled = Deadline::ALL
            .iter()
            .any(|one| text("summary").starts_with(one.label()));
        by_title += usize::from(titled && survive.contains(id.as_str()));
        let worded = text("description").contains("PERM Tracker");
        by_text += usize::from(worded && survive.contains(id.as_str()));
    }
    assert!(by_title > 20 && by_text > 20, "{by_title} {by_text}");
}

/// How many of the live events that v1 recorded carry its signature, and how many there are.
fn signature(world: &crate::World) -> (usize, usize) {
    let recorded: BTreeSet<_> = recorded(world).into_values().flatten().collect();
    let texts: Vec<String> = world
        .live()
        .into_values()
        .flatten()
        .filter(|(id, _)| recorded.contains(id))
        .map(|(_, event)| event["description"].as_str().unwrap_or_default().to_owned())
        .collect();
    let signed = |text: &&String| text.contains("Case: ") && text.contains("PERM Tracker");
    (texts.iter().filter(signed).count(), texts.len())
}

#[test]
fn recorded_events_calibrate_v1s_signature() {
    let (signed, recorded) = signature(&WorldSpec::default().generate());
    assert!(signed * 100 >= recorded * 97, "{signed} of {recorded}");
}

#[test]
fn orphans_are_held_where_the_signature_is_not_calibrated() {
    let spec = WorldSpec {
        uncalibrated: true,
        ..WorldSpec::default()
    };
    let world = spec.generate();
    let orphans = world
        .truth
        .iter()
        .filter(|truth| truth.class == Class::V1Orphan);
    assert!(orphans.clone().count() > 10);
    assert!(
        orphans
            .clone()
            .all(|o| o.disposition == Disposition::Hold && o.must_survive)
    );
    let (signed, recorded) = signature(&world);
    assert!(signed * 100 < recorded * 90, "{signed} of {recorded}");
}

#[test]
fn a_big_world_takes_seconds() {
    let world = WorldSpec::seeded(9)
        .users(2_500)
        .events_per_user(4)
        .generate();
    assert_eq!(world.users.len(), 2_500);
    assert_eq!(
        world.database.table("perm_users").unwrap().rows().len(),
        2_500
    );
    assert!(world.truth.len() > 8_000);
}

#[tokio::test]
async fn a_fresh_export_is_later_than_the_worlds_own() {
    let world = WorldSpec::default()
        .as_of(chrono::DateTime::UNIX_EPOCH)
        .users(2)
        .generate();
    assert_eq!(world.v2.snapshot_at, chrono::DateTime::UNIX_EPOCH);
    let sim = crate::SimServers::start(world).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let first = sim.write_v2_exports(folder.path()).unwrap().production_zip;
    let fresh = sim
        .write_fresh_v2_exports(folder.path())
        .unwrap()
        .production_zip;
    assert!(first.ends_with("snapshot_0.zip") && first != fresh && fresh.exists());
    sim.stop().await;
}
