//! What is seldom met and was judged wrongly once. Only the worlds that ask for it have it, so that all others stay as they were.

use std::collections::BTreeMap;

use serde_json::json;

use super::draft::UserDraft;
use super::truth::Class;
use super::{UserKind, WorldSpec};
use crate::calendar::{CalendarSeed, EventSeed, Presence};
use crate::dice::Dice;

/// What shows in events and in what v1 and v2 recorded of them.
pub(crate) fn add_events(spec: &WorldSpec, users: &mut [UserDraft]) {
    let mut dice = Dice::lane(spec.seed, 7);
    let plain = users
        .iter_mut()
        .filter(|user| user.kind == UserKind::Connected);
    for user in plain {
        add_twin(&mut dice, user);
        add_occurrences(&mut dice, user);
    }
}

/// Two occurrences of a series of the user's own that v1 records all the same: one was changed, the other called off.
fn add_occurrences(dice: &mut Dice, user: &mut UserDraft) {
    let recorded = |truth: &&super::Truth| truth.class == Class::V1Recorded && !truth.covered;
    let Some(truth) = user.truth.iter().find(recorded).cloned() else {
        return;
    };
    let Some(event) = (user.events.iter())
        .find(|event| event.fields["id"] == truth.event_id)
        .cloned()
    else {
        return;
    };
    let series = dice.event_id();
    for (day, status, class) in [
        ("20260301", "confirmed", Class::Foreign),
        ("20260308", "cancelled", Class::Gone),
    ] {
        let id = format!("{series}_{day}");
        let mut event = event.clone();
        for (name, value) in [
            ("id", json!(id)),
            ("status", json!(status)),
            ("summary", json!("Weekly call")),
            ("recurringEventId", json!(series)),
            ("originalStartTime", event.fields["start"].clone()),
        ] {
            event.fields.insert(name.to_owned(), value);
        }
        let Some(case) = user.cases.iter_mut().find(|case| !case.deleted) else {
            return;
        };
        case.v1_ids
            .push((format!("occurrence_{status}"), id.clone()));
        user.events.push(event);
        user.truth.push(super::Truth {
            event_id: id,
            class,
            disposition: class.disposition(),
            v1_made: false,
            must_survive: class == Class::Foreign,
            why: format!("v1 recorded it; an occurrence of a series, {status}"),
            ..truth.clone()
        });
    }
}

/// What was moved to a second calendar leaves a deleted event of the same id behind.
pub(crate) fn leave_traces(users: &mut [UserDraft], second: &[CalendarSeed]) {
    for calendar in second {
        let owner = users.iter_mut().find(|user| user.account == calendar.owner);
        let Some(owner) = owner else { continue };
        let is_live = |event: &&EventSeed| {
            event.presence == Presence::Held && event.fields["status"] == "confirmed"
        };
        let alone = |event: &&EventSeed| !event.fields.contains_key("recurringEventId");
        for event in calendar.events.iter().filter(is_live).filter(alone).take(3) {
            let mut left = event.clone();
            invite(&mut left, &calendar.id, &owner.account, None);
            left.fields.insert("status".to_owned(), "cancelled".into());
            owner.events.push(left);
        }
    }
}

/// Another case of the same employer with a deadline of the same kind on the same day, for which v2 has written no event: the one that
/// stands there is the first case's.
fn add_twin(dice: &mut Dice, user: &mut UserDraft) {
    let covered = |truth: &&super::Truth| truth.covered && truth.class == Class::V1Recorded;
    let Some(truth) = user.truth.iter().find(covered).cloned() else {
        return;
    };
    let of_case = |(_, id): &(String, String)| *id == truth.event_id;
    let Some(case) = user
        .cases
        .iter()
        .find(|case| case.v1_ids.iter().any(of_case))
    else {
        return;
    };
    let Some(event) = (user.events.iter()).find(|event| event.fields["id"] == truth.event_id)
    else {
        return;
    };
    let (id, mut twin, mut event) = (dice.event_id(), case.clone(), event.clone());
    twin.id = dice.uuid();
    twin.v2_id = format!("j57{}", dice.text(b"0123456789abcdefghjkmnpqrstvwxyz", 29));
    "Z. Z.".clone_into(&mut twin.words.beneficiary);
    twin.words.case_number = None;
    twin.v1_ids.retain(of_case);
    for (_, recorded) in &mut twin.v1_ids {
        recorded.clone_from(&id);
    }
    twin.v2_slots.clear();
    twin.dev_slots.clear();
    let text = event.fields["description"].as_str().unwrap_or_default();
    let text = text
        .replace(&case.id, &twin.id)
        .replace(&case.words.beneficiary, &twin.words.beneficiary);
    event.fields.insert("description".to_owned(), text.into());
    event.fields.insert("id".to_owned(), id.as_str().into());
    let uid = format!("{id}@google.com");
    event.fields.insert("iCalUID".to_owned(), uid.into());
    user.cases.push(twin);
    user.events.push(event);
    user.truth.push(super::Truth {
        event_id: id,
        covered: false,
        why: "v1 recorded it; the event of v2's that looks like it is another case's".to_owned(),
        ..truth
    });
}

/// Titles that people give their primary calendars in place of the address: of the second two accounts have the same.
const TITLES: [&str; 4] = [
    "Me @ Work",
    "Deadlines",
    "Deadlines",
    "Ana's <calendar> @ home",
];

/// Renames some primary calendars.
pub(crate) fn rename(calendars: &mut BTreeMap<String, CalendarSeed>, users: &[UserDraft]) {
    let reachable = users.iter().filter(|user| user.kind.is_reachable());
    for (user, title) in reachable.zip(TITLES.iter().cycle().take(10)) {
        if let Some(calendar) = calendars.get_mut(&user.account) {
            calendar.title = Some((*title).to_owned());
        }
    }
}

/// Who wrote to a calendar that is another's: the account, and the calendar.
pub(crate) type Guest = (String, String);

/// Two users with one second calendar, and one whose second calendar is another's primary one. v1 wrote to both with either's token.
pub(crate) fn share(users: &mut [UserDraft], second: &mut Vec<CalendarSeed>) -> Vec<Guest> {
    let mut guests = Vec::new();
    // The second calendar of one becomes the second one of another, too.
    if second.len() > 2 {
        let from = second.remove(2);
        let to = &mut second[0];
        for mut event in from.events {
            invite(&mut event, &from.id, &to.id, None);
            to.events.push(event);
        }
        move_truths(users, &from.id, &to.id);
        to.shared_with.push(from.owner.clone());
        guests.push((from.owner, to.id.clone()));
    }
    // Neither has a second calendar, nor does a case or an id of one stand with the other already.
    let plain = |user: &UserDraft| {
        user.kind == UserKind::Connected
            && second.iter().all(|calendar| {
                calendar.owner != user.account && !calendar.shared_with.contains(&user.account)
            })
    };
    let pair = (1..users.len()).find(|index| {
        index % 6 != 1
            && plain(&users[index - 1])
            && plain(&users[*index])
            && users
                .iter()
                .filter(|user| user.account == users[index - 1].account)
                .count()
                == 1
    });
    let Some(index) = pair else { return guests };
    let (before, after) = users.split_at_mut(index);
    let (boss, assistant) = (&mut before[index - 1], &mut after[0]);
    let own = assistant.account.clone();
    for truth in &mut assistant.truth {
        if truth.class != Class::V1Recorded || truth.covered {
            continue;
        }
        let at = assistant
            .events
            .iter()
            .position(|event| event.fields["id"] == truth.event_id);
        let Some(at) = at else { continue };
        let mut event = assistant.events.remove(at);
        invite(&mut event, &own, &boss.account, Some(&own));
        boss.events.push(event);
        truth.calendar.clone_from(&boss.account);
        guests.push((own.clone(), boss.account.clone()));
        break;
    }
    guests
}

/// Makes an event one of another calendar's: that organizes it, and whoever wrote it stays the creator.
fn invite(event: &mut EventSeed, from: &str, to: &str, creator: Option<&str>) {
    if let Some(organizer) = event.fields.get_mut("organizer")
        && organizer["email"] == from
    {
        organizer["email"] = to.into();
        if let Some(creator) = creator {
            event
                .fields
                .insert("creator".to_owned(), json!({"email": creator}));
        }
    }
}

fn move_truths(users: &mut [UserDraft], from: &str, to: &str) {
    let truths = users.iter_mut().flat_map(|user| &mut user.truth);
    for truth in truths.filter(|truth| truth.calendar == from) {
        to.clone_into(&mut truth.calendar);
    }
}
