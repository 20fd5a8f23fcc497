//! What v1 would have left behind had its two-way sync been shipped: a table of channels, second calendars, and channels that are open.

use chrono::Duration;
use serde_json::json;

use super::draft::UserDraft;
use super::rare::Guest;
use super::truth::Class;
use super::{Keys, UserKind, WorldSpec};
use crate::calendar::{CalendarSeed, Channel};
use crate::dice::Dice;
use crate::supabase::{Cell, ColumnType, Table};

/// Columns of `calendar_sync_channels`, as v1's migration 025 has them.
const COLUMNS: &[(&str, ColumnType)] = &[
    ("id", ColumnType::Uuid),
    ("user_id", ColumnType::Uuid),
    ("calendar_id", ColumnType::Text),
    ("channel_id", ColumnType::Text),
    ("resource_id", ColumnType::Text),
    ("sync_token", ColumnType::Text),
    ("expiration_timestamp", ColumnType::Int),
    ("created_at", ColumnType::Instant),
    ("last_notification_at", ColumnType::Instant),
];

/// Moves every third event of some users to a second calendar of theirs. v2 writes to the first only.
pub(crate) fn second_calendars(users: &mut [UserDraft]) -> Vec<CalendarSeed> {
    let shared: Vec<String> = users
        .iter()
        .filter(|user| user.kind == UserKind::SharedAccount)
        .map(|user| user.account.clone())
        .collect();
    let mut calendars = Vec::new();
    let some = users
        .iter_mut()
        .filter(|user| user.kind == UserKind::Connected && !shared.contains(&user.account))
        .step_by(2);
    for user in some {
        let id = format!("c{}@group.example.com", &user.v2_id[3..19]);
        let mut moved = Vec::new();
        let mut number = 0;
        user.events.retain(|event| {
            let name = event.fields.get("id").cloned().unwrap_or_default();
            let mut truths = user.truth.iter_mut();
            let truth = truths.find(|truth| name == truth.event_id);
            let stays = truth
                .as_ref()
                .is_none_or(|truth| truth.covered || truth.class == Class::V2Fresh);
            number += usize::from(!stays);
            if stays || number % 3 != 1 {
                return true;
            }
            let mut event = event.clone();
            // The organizer is the calendar, and the creator the account: `self` says whether it is this calendar.
            if let Some(organizer) = event.fields.get_mut("organizer")
                && organizer["self"] == true
            {
                organizer["email"] = id.as_str().into();
                event
                    .fields
                    .insert("creator".to_owned(), json!({"email": user.account}));
            }
            moved.push(event);
            if let Some(truth) = truth {
                truth.calendar.clone_from(&id);
            }
            false
        });
        calendars.push(CalendarSeed {
            id,
            owner: user.account.clone(),
            title: None,
            shared_with: Vec::new(),
            time_zone: "America/New_York".to_owned(),
            events: moved,
        });
    }
    calendars
}

/// The table, and the channels that are open: every other one has expired.
pub(crate) fn channels(
    spec: &WorldSpec,
    keys: &Keys,
    users: &[UserDraft],
    second: &[CalendarSeed],
    guests: &[Guest],
) -> (Table, Vec<Channel>) {
    let mut dice = Dice::lane(spec.seed, 6);
    let mut table = Table::new(COLUMNS);
    let mut open = Vec::new();
    let mut add = |user: &UserDraft, calendar: &str, name: &str| {
        let channel = Channel {
            id: dice.uuid(),
            resource_id: dice.token(27),
            account: user.account.clone(),
            client_id: keys.client_id.clone(),
            calendar: calendar.to_owned(),
        };
        let expires = spec.now
            + Duration::days(if table.rows().count().is_multiple_of(2) {
                3
            } else {
                -3
            });
        table.push([
            ("id", Cell::Text(dice.uuid())),
            ("user_id", Cell::Text(user.id.clone())),
            ("calendar_id", Cell::Text(name.to_owned())),
            ("channel_id", Cell::Text(channel.id.clone())),
            ("resource_id", Cell::Text(channel.resource_id.clone())),
            (
                "expiration_timestamp",
                Cell::Int(expires.timestamp_millis()),
            ),
            (
                "created_at",
                Cell::Instant(spec.go_live - Duration::days(4)),
            ),
        ]);
        if expires > spec.now {
            open.push(channel);
        }
    };
    for user in users.iter().filter(|user| user.kind.is_reachable()) {
        add(user, &user.account, "primary");
        let own = second
            .iter()
            .filter(|calendar| calendar.owner == user.account);
        for calendar in own {
            add(user, &calendar.id, &calendar.id);
        }
        for (_, calendar) in guests.iter().filter(|(guest, _)| *guest == user.account) {
            add(user, calendar, calendar);
        }
    }
    (table, open)
}
