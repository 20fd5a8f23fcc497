//! From a specification to a world.

use std::collections::{BTreeMap, HashMap};

use super::accounts::{OTHER_CLIENT, grants, other_accounts};
use super::channels;
use super::documents::v2;
use super::draft::{UserDraft, Verdict};
use super::recipes::{COLLEAGUE, CYCLE, Kitchen, Recipe};
use super::tables::database;
use super::truth::{Class, Truth};
use super::{Keys, UserFact, UserKind, World, WorldSpec, rare};
use crate::calendar::CalendarSeed;
use crate::dice::Dice;
use crate::fernet::FernetKey;
use crate::supabase::project_key;

/// The first users, one of each kind; users that need a neighbour follow it.
const KINDS: [UserKind; 20] = [
    UserKind::Connected,
    UserKind::Disconnected,
    UserKind::Connected,
    UserKind::SharedAccount,
    UserKind::Revoked,
    UserKind::ExpiredAccess,
    UserKind::Connected,
    UserKind::SameEmailOtherCase,
    UserKind::Undecryptable,
    UserKind::SoftDeleted,
    UserKind::WrongAccount,
    UserKind::StaleGoogleEmail,
    UserKind::NotEncrypted,
    UserKind::OtherClient,
    UserKind::NeverConnected,
    UserKind::Connected,
    UserKind::Connected,
    UserKind::Connected,
    UserKind::Connected,
    UserKind::Connected,
];

const FIRST: [&str; 12] = [
    "ana", "ben", "chi", "dora", "emil", "fay", "gus", "hana", "ivo", "june", "kofi", "lena",
];
const LAST: [&str; 10] = [
    "adler", "brandt", "cruz", "diaz", "evans", "fischer", "garcia", "hughes", "ito", "jones",
];

pub(crate) fn generate(spec: &WorldSpec) -> World {
    let keys = keys(spec);
    let mut users = users(spec);
    for (index, user) in users.iter_mut().enumerate() {
        fill(spec, index, user);
    }
    cross_record(&mut users);
    cross_name(&mut users);
    if spec.rare {
        rare::add_events(spec, &mut users);
    }

    let mut second = if spec.channels {
        channels::second_calendars(&mut users)
    } else {
        Vec::new()
    };

    let guests = if spec.rare && spec.channels {
        rare::leave_traces(&mut users, &second);
        rare::share(&mut users, &mut second)
    } else {
        Vec::new()
    };

    let mut calendars: BTreeMap<String, CalendarSeed> = BTreeMap::new();
    let mut truth = Truths::default();
    for user in &mut users {
        if user.kind == UserKind::NeverConnected {
            continue;
        }
        calendars
            .entry(user.account.clone())
            .or_insert_with(|| CalendarSeed {
                id: user.account.clone(),
                owner: user.account.clone(),
                title: None,
                shared_with: Vec::new(),
                time_zone: "America/New_York".to_owned(),
                events: Vec::new(),
            })
            .events
            .append(&mut user.events);
        truth.add(std::mem::take(&mut user.truth));
    }
    let (grants, tokens) = grants(spec, &keys, &users);
    for (user, (calendar, facts)) in other_accounts(spec, &users) {
        calendars.insert(user, calendar);
        truth.add(facts);
    }
    for (account, calendar) in &guests {
        if let Some(calendar) = calendars.get_mut(calendar) {
            calendar.shared_with.push(account.clone());
        }
    }
    if spec.rare {
        rare::rename(&mut calendars, &users);
    }
    let mut database = database(spec, &users, &tokens);
    let channels = if spec.channels {
        let (table, open) = channels::channels(spec, &keys, &users, &second, &guests);
        database.add("calendar_sync_channels", table);
        open
    } else {
        Vec::new()
    };
    for calendar in second {
        calendars.insert(calendar.id.clone(), calendar);
    }
    let clients = BTreeMap::from([
        (keys.client_id.clone(), keys.client_secret.clone()),
        (OTHER_CLIENT.to_owned(), "GOCSPX-other".to_owned()),
    ]);
    World {
        database,
        channels,
        v2: v2(spec, &users),
        calendars: calendars.into_values().collect(),
        users: users.iter().map(UserDraft::fact).collect(),
        truth: truth.list,
        spec: spec.clone(),
        clients,
        grants,
        keys,
    }
}

impl UserDraft {
    fn fact(&self) -> UserFact {
        UserFact {
            id: self.id.clone(),
            email: self.email.clone(),
            account: (self.kind != UserKind::NeverConnected).then(|| self.account.clone()),
            kind: self.kind,
        }
    }
}

/// Truths by event: one that two users reach is one item, of the more protective class.
#[derive(Default)]
struct Truths {
    list: Vec<Truth>,
    at: HashMap<(String, String), usize>,
}

impl Truths {
    fn add(&mut self, truths: Vec<Truth>) {
        for truth in truths {
            let key = (truth.calendar.clone(), truth.event_id.clone());
            match self.at.get(&key) {
                None => {
                    self.at.insert(key, self.list.len());
                    self.list.push(truth);
                }
                Some(&index) => {
                    let have = &mut self.list[index];
                    have.users.extend(truth.users);
                    if truth.class < have.class {
                        have.class = truth.class;
                        have.disposition = truth.disposition;
                        have.why = truth.why;
                        have.must_survive |= truth.must_survive;
                    }
                }
            }
        }
    }
}

fn keys(spec: &WorldSpec) -> Keys {
    let mut dice = Dice::lane(spec.seed, 1);
    let secret: [u8; 32] = dice.bytes();
    let issued = spec.go_live.timestamp() - 86_400 * 400;
    Keys {
        service_key: project_key("service_role", &secret, issued),
        anon_key: project_key("anon", &secret, issued),
        encryption_key: FernetKey::new(dice.bytes()),
        client_id: format!(
            "{}-{}.apps.googleusercontent.com",
            dice.within(100_000_000_000, 999_999_999_999),
            dice.text(b"abcdefghijklmnopqrstuvwxyz0123456789", 16)
        ),
        client_secret: format!("GOCSPX-{}", dice.token(28)),
        convex_key: format!("prod:example-prod-1|{}", dice.token(60)),
        convex_dev_key: format!("dev:example-dev-1|{}", dice.token(60)),
    }
}

fn users(spec: &WorldSpec) -> Vec<UserDraft> {
    let mut dice = Dice::lane(spec.seed, 2);
    let mut users: Vec<UserDraft> = Vec::with_capacity(spec.users);
    for index in 0..spec.users {
        let kind = match KINDS.get(index) {
            _ if spec.plain_users => UserKind::Connected,
            Some(kind) => *kind,
            None => *match dice.below(20) {
                0 => &UserKind::Disconnected,
                1 => &UserKind::Revoked,
                2 => &UserKind::ExpiredAccess,
                3 => &UserKind::NeverConnected,
                _ => &UserKind::Connected,
            },
        };
        let name = format!("{}.{}{index}", dice.pick(&FIRST), dice.pick(&LAST));
        let mut email = format!("{name}@example.com");
        let mut account = email.clone();
        let mut google_email = email.clone();
        match (kind, users.last()) {
            (UserKind::SharedAccount, Some(before)) => {
                account.clone_from(&before.account);
                google_email.clone_from(&before.account);
            }
            (UserKind::SameEmailOtherCase, Some(before)) => {
                email = before
                    .email
                    .to_uppercase()
                    .replace("@EXAMPLE.COM", "@Example.com");
            }
            (UserKind::StaleGoogleEmail, _) => {
                google_email = format!("old.{name}@example.com");
            }
            _ => {}
        }
        users.push(UserDraft {
            id: dice.uuid(),
            v2_id: format!("k17{}", dice.text(b"0123456789abcdefghjkmnpqrstvwxyz", 29)),
            email,
            google_email,
            account,
            kind,
            cases: Vec::new(),
            events: Vec::new(),
            truth: Vec::new(),
        });
    }
    users
}

/// Gives a user their cases and events.
fn fill(spec: &WorldSpec, index: usize, user: &mut UserDraft) {
    if user.kind == UserKind::NeverConnected {
        return;
    }
    let mut dice = Dice::lane(spec.seed, 1_000 + index as u64);
    let mut kitchen = Kitchen {
        spec,
        dice: &mut dice,
        user,
    };
    // The first makes sure that one recorded id is found: without it a 404 could mean the wrong account.
    let mut recipes = vec![Recipe::V1Future];
    match index % 100 {
        0 => recipes.push(Recipe::UnreadableText),
        2 => recipes.push(Recipe::UnreadableShape),
        _ => {}
    }
    let start = index * 17;
    recipes.extend((0..spec.events_per_user).map(|step| CYCLE[(start + step) % CYCLE.len()]));
    recipes.truncate(spec.events_per_user);
    for recipe in recipes {
        kitchen.make(recipe);
    }
    user.settle();
}

/// Records some ids on a second user's case too: of the same account, and of another where it is not found.
fn cross_record(users: &mut [UserDraft]) {
    for index in 1..users.len() {
        let (before, after) = users.split_at_mut(index);
        let (Some(from), Some(to)) = (before.last_mut(), after.first_mut()) else {
            continue;
        };
        if !from.kind.is_reachable() || !to.kind.is_reachable() {
            continue;
        }
        let shared = from.account == to.account;
        if !shared && index % 6 != 1 && to.kind != UserKind::SameEmailOtherCase {
            continue;
        }
        let Some(truth) = from
            .truth
            .iter()
            .find(|truth| truth.class == Class::V1Recorded)
            .cloned()
        else {
            continue;
        };
        let Some(case) = to.cases.iter_mut().find(|case| !case.deleted) else {
            continue;
        };
        case.v1_ids
            .push(("job_order_end".to_owned(), truth.event_id.clone()));
        if shared {
            to.truth.push(Truth {
                users: vec![to.id.clone()],
                ..truth
            });
        } else {
            to.tell(
                &truth.event_id,
                false,
                Verdict {
                    class: Class::Gone,
                    v1_made: true,
                    deadline: truth.deadline,
                    why: "recorded on this user too, and on another's calendar: 404 here",
                },
            );
        }
    }
}

/// Makes some near misses nearer: the case that a note names is a real one, of a user of another account.
fn cross_name(users: &mut [UserDraft]) {
    for index in 1..users.len() {
        let (before, after) = users.split_at_mut(index);
        let (Some(from), Some(to)) = (before.last(), after.first_mut()) else {
            continue;
        };
        let Some(case) = from.cases.first().filter(|_| from.account != to.account) else {
            continue;
        };
        let mut texts = to
            .events
            .iter_mut()
            .filter_map(|event| event.fields.get_mut("description"));
        if let Some(text) = texts.find(|text| {
            text.as_str()
                .is_some_and(|text| text.starts_with(COLLEAGUE))
        }) {
            *text = format!("{COLLEAGUE}\nCase: {}\nPERM Tracker", case.id).into();
        }
    }
}
