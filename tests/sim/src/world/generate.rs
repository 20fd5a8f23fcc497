//! From a specification to a world.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use super::draft::{CaseDraft, UserDraft, Verdict};
use super::recipes::{CYCLE, Kitchen, Recipe};
use super::truth::{Class, Truth};
use super::v1::{CASE_COLUMNS, IdsShape, USER_COLUMNS, event_ids};
use super::v2::{CaseDocument, millis};
use super::{Keys, UserFact, UserKind, UsersTable, World, WorldSpec};
use crate::calendar::CalendarSeed;
use crate::convex::{Deployment, V2};
use crate::dice::Dice;
use crate::fernet::FernetKey;
use crate::google_oauth::{Grant, Scope};
use crate::supabase::{Cell, Database, Table, project_key};

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

const OTHER_CLIENT: &str = "555000111222-other.apps.googleusercontent.com";

pub(crate) fn generate(spec: &WorldSpec) -> World {
    let keys = keys(spec);
    let mut users = users(spec);
    for (index, user) in users.iter_mut().enumerate() {
        fill(spec, index, user);
    }
    cross_record(&mut users);

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
    let clients = BTreeMap::from([
        (keys.client_id.clone(), keys.client_secret.clone()),
        (OTHER_CLIENT.to_owned(), "GOCSPX-other".to_owned()),
    ]);
    World {
        database: database(spec, &users, &tokens),
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

/// A user's stored tokens, as v1's database has them.
#[derive(Default)]
struct StoredTokens {
    refresh: Option<String>,
    access: Option<String>,
    expiry: Option<DateTime<Utc>>,
}

fn grants(spec: &WorldSpec, keys: &Keys, users: &[UserDraft]) -> (Vec<Grant>, Vec<StoredTokens>) {
    let mut dice = Dice::lane(spec.seed, 3);
    let foreign_key = FernetKey::new(dice.bytes());
    let stored_at = u64::try_from(spec.go_live.timestamp() - 86_400 * 30).unwrap_or(0);
    let mut grants = Vec::new();
    let tokens = users
        .iter()
        .map(|user| {
            let refresh = format!("1//0{}", dice.token(60));
            let access = format!("ya29.a0{}", dice.token(60));
            let expiry = match user.kind {
                UserKind::ExpiredAccess => spec.now - Duration::days(dice.within(1, 90)),
                _ => spec.now + Duration::minutes(dice.within(-600, 50)),
            };
            let (iv, other_iv) = (dice.bytes(), dice.bytes());
            if matches!(user.kind, UserKind::Disconnected | UserKind::NeverConnected) {
                return StoredTokens::default();
            }
            let account = match user.kind {
                UserKind::WrongAccount => new_account(user),
                _ => user.account.clone(),
            };
            let client_id = match user.kind {
                UserKind::OtherClient => OTHER_CLIENT.to_owned(),
                _ => keys.client_id.clone(),
            };
            grants.push(Grant {
                refresh_token: refresh.clone(),
                account,
                client_id,
                scopes: BTreeSet::from([Scope::Events]),
                revoked: user.kind == UserKind::Revoked,
                access_token: (user.kind != UserKind::Revoked).then(|| (access.clone(), expiry)),
            });
            let key = match user.kind {
                UserKind::Undecryptable => &foreign_key,
                _ => &keys.encryption_key,
            };
            StoredTokens {
                refresh: Some(match user.kind {
                    UserKind::NotEncrypted => refresh,
                    _ => key.encrypt(refresh.as_bytes(), stored_at, iv),
                }),
                access: Some(key.encrypt(access.as_bytes(), stored_at, other_iv)),
                expiry: Some(expiry),
            }
        })
        .collect();
    (grants, tokens)
}

/// The account that a user of kind [`UserKind::WrongAccount`] connected last.
fn new_account(user: &UserDraft) -> String {
    format!("new.{}", user.account)
}

/// The calendars of accounts that were connected in place of the right ones: private things, and one near miss.
fn other_accounts(
    spec: &WorldSpec,
    users: &[UserDraft],
) -> Vec<(String, (CalendarSeed, Vec<Truth>))> {
    let mut dice = Dice::lane(spec.seed, 4);
    users
        .iter()
        .filter(|user| user.kind == UserKind::WrongAccount)
        .map(|user| {
            let account = new_account(user);
            let mut owner = UserDraft {
                account: account.clone(),
                kind: UserKind::Connected,
                cases: Vec::new(),
                events: Vec::new(),
                truth: Vec::new(),
                ..user.clone()
            };
            let mut kitchen = Kitchen {
                spec,
                dice: &mut dice,
                user: &mut owner,
            };
            for recipe in [Recipe::Private, Recipe::Lookalike, Recipe::Private] {
                kitchen.make(recipe);
            }
            let calendar = CalendarSeed {
                id: account.clone(),
                owner: account.clone(),
                time_zone: "America/Chicago".to_owned(),
                events: owner.events,
            };
            (account, (calendar, owner.truth))
        })
        .collect()
}

fn database(spec: &WorldSpec, users: &[UserDraft], tokens: &[StoredTokens]) -> Database {
    let mut dice = Dice::lane(spec.seed, 5);
    let (mut user_table, mut case_table) = (Table::new(USER_COLUMNS), Table::new(CASE_COLUMNS));
    let mut shapes = 0_usize;
    for (user, stored) in users.iter().zip(tokens) {
        let created =
            spec.go_live - Duration::milliseconds(dice.within(86_400_000, 40_000_000_000));
        let created = created + Duration::microseconds(dice.within(0, 999));
        let deleted = user.kind == UserKind::SoftDeleted;
        let scope = Scope::Events.url();
        let scopes = match (stored.refresh.is_some(), dice.below(3)) {
            (false, _) => Cell::Null,
            (_, 0) => Cell::Json(json!([scope])),
            (_, 1) => Cell::Json(Value::String(json!([scope]).to_string())),
            _ => Cell::Json(Value::String(scope.to_owned())),
        };
        let connected = !matches!(user.kind, UserKind::Disconnected | UserKind::NeverConnected);
        let token = |token: &Option<String>| Cell::text(token.clone());
        user_table.push([
            ("id", Cell::Text(user.id.clone())),
            ("auth_user_id", Cell::Text(dice.uuid())),
            ("email", Cell::Text(user.email.clone())),
            (
                "full_name",
                Cell::Text(user.email.split('@').next().unwrap_or_default().to_owned()),
            ),
            ("user_type", Cell::Text("individual".to_owned())),
            ("calendar_connected", Cell::Bool(connected)),
            ("gmail_connected", Cell::Bool(false)),
            ("google_refresh_token", token(&stored.refresh)),
            ("google_access_token", token(&stored.access)),
            (
                "google_token_expiry",
                stored.expiry.map_or(Cell::Null, Cell::Instant),
            ),
            ("google_scopes", scopes),
            (
                "google_email",
                if connected {
                    Cell::Text(user.google_email.clone())
                } else {
                    Cell::Null
                },
            ),
            ("calendar_sync_enabled", Cell::Bool(true)),
            ("privacy_mode_enabled", Cell::Bool(dice.chance(0.2))),
            ("created_at", Cell::Instant(created)),
            (
                "updated_at",
                Cell::Instant(spec.go_live - Duration::seconds(dice.within(60, 90_000))),
            ),
            (
                "deleted_at",
                if deleted {
                    Cell::Instant(spec.go_live - Duration::days(9))
                } else {
                    Cell::Null
                },
            ),
        ]);
        for case in &user.cases {
            shapes += 1;
            let shape = match shapes % 8 {
                5 => IdsShape::Array,
                6 => IdsShape::Text,
                _ => IdsShape::Object,
            };
            push_case(&mut case_table, spec, user, case, shape, &mut dice);
        }
        if dice.chance(0.3) {
            // A case that never had an event: null ids.
            let empty = CaseDraft::blank(&mut dice);
            push_case(
                &mut case_table,
                spec,
                user,
                &empty,
                IdsShape::Array,
                &mut dice,
            );
        }
    }
    let mut database = Database::default();
    match spec.users_table {
        UsersTable::PermUsers => database.add("perm_users", user_table),
        UsersTable::Users => database.add("users", user_table),
        UsersTable::Both => {
            database.add("perm_users", user_table.clone());
            database.add("users", user_table);
        }
    }
    database.add("cases", case_table);
    database
}

impl CaseDraft {
    fn blank(dice: &mut Dice) -> Self {
        let mut user = UserDraft {
            id: String::new(),
            v2_id: String::new(),
            email: String::new(),
            google_email: String::new(),
            account: String::new(),
            kind: UserKind::Connected,
            cases: Vec::new(),
            events: Vec::new(),
            truth: Vec::new(),
        };
        user.slot(
            &WorldSpec::default(),
            dice,
            &super::v1::Deadline::ALL,
            false,
            false,
        );
        let mut case = user.cases.remove(0);
        case.dates.clear();
        case
    }

    fn date(&self, deadline: super::v1::Deadline) -> Cell {
        let found = self.dates.iter().find(|(have, _)| *have == deadline);
        found.map_or(Cell::Null, |(_, date)| Cell::Date(*date))
    }
}

fn push_case(
    table: &mut Table,
    spec: &WorldSpec,
    user: &UserDraft,
    case: &CaseDraft,
    shape: IdsShape,
    dice: &mut Dice,
) {
    use super::v1::Deadline;
    let created = spec.go_live - Duration::microseconds(dice.within(1, 30_000_000_000_000));
    let words = &case.words;
    let requests = |entries: &[super::v2::Entry]| {
        Cell::Json(
            entries
                .iter()
                .map(|entry| json!({"title": null, "response_due_date": entry.due}))
                .collect(),
        )
    };
    table.push([
        ("id", Cell::Text(case.id.clone())),
        ("user_id", Cell::Text(user.id.clone())),
        ("case_number", Cell::text(words.case_number.clone())),
        (
            "internal_case_number",
            Cell::text(words.internal_case_number.clone()),
        ),
        ("employer_name", Cell::Text(words.employer.clone())),
        (
            "beneficiary_identifier",
            Cell::Text(words.beneficiary.clone()),
        ),
        ("position_title", Cell::Text("Engineer".to_owned())),
        ("case_status", Cell::Text("recruitment".to_owned())),
        ("progress_status", Cell::Text("working".to_owned())),
        (
            "pwd_wage_amount",
            Cell::Numeric(format!(
                "{}.{:02}",
                dice.within(60_000, 250_000),
                dice.below(100)
            )),
        ),
        ("pwd_expiration_date", case.date(Deadline::PwdExpiration)),
        ("eta9089_filing_date", case.date(Deadline::Eta9089Filing)),
        (
            "eta9089_expiration_date",
            case.date(Deadline::Eta9089Expiration),
        ),
        (
            "recruitment_end_date",
            case.date(Deadline::RecruitmentExpires),
        ),
        ("i140_filing_date", case.date(Deadline::I140Deadline)),
        ("rfi_list", requests(&case.rfi)),
        ("rfe_list", requests(&case.rfe)),
        ("tags", Cell::Json(json!([]))),
        ("documents", Cell::Json(json!([]))),
        ("calendar_event_ids", event_ids(shape, &case.v1_ids)),
        ("calendar_sync_enabled", Cell::Bool(dice.chance(0.9))),
        ("calendar_last_synced_at", Cell::Local(created.naive_utc())),
        ("created_at", Cell::Instant(created)),
        (
            "updated_at",
            Cell::Instant(spec.go_live - Duration::seconds(dice.within(60, 900_000))),
        ),
        (
            "deleted_at",
            if case.deleted {
                Cell::Instant(spec.go_live - Duration::days(20))
            } else {
                Cell::Null
            },
        ),
    ]);
}

fn v2(spec: &WorldSpec, users: &[UserDraft]) -> V2 {
    let go_live_ms = spec.go_live.timestamp_millis();
    let (mut production, mut dev) = (Deployment::default(), Deployment::default());
    for deployment in [&mut production, &mut dev] {
        for name in ["users", "userProfiles", "cases"] {
            deployment.tables.entry(name.to_owned()).or_default();
        }
    }
    let put = |deployment: &mut Deployment, table: &str, document: Value| {
        deployment
            .tables
            .entry(table.to_owned())
            .or_default()
            .push(document);
    };
    for (number, user) in (0_i64..).zip(users) {
        // Softly deleted users are here too: the import lost `deleted_at`.
        let created = go_live_ms + number;
        let account = json!({
            "_id": user.v2_id,
            "_creationTime": millis(created),
            "email": user.email.to_lowercase(),
            "emailVerificationTime": created,
        });
        let profile = json!({
            "_id": format!("p{}", &user.v2_id[1..]),
            "_creationTime": millis(created),
            "userId": user.v2_id,
            "legacyId": user.id,
            "googleEmail": user.google_email,
            "googleCalendarConnected": user.kind.is_reachable(),
            "createdAt": created,
            "updatedAt": created,
        });
        put(&mut production, "users", account.clone());
        put(&mut production, "userProfiles", profile.clone());
        let in_dev = user.cases.iter().any(|case| !case.dev_slots.is_empty());
        if in_dev {
            put(&mut dev, "users", account);
            put(&mut dev, "userProfiles", profile);
        }
        for case in user.cases.iter().filter(|case| !case.deleted) {
            let dates: Vec<(&'static str, String)> = case
                .dates
                .iter()
                .filter_map(|(deadline, date)| Some((v2_date(*deadline)?, date.to_string())))
                .collect();
            let document = |slots: &[(String, String)]| {
                CaseDocument {
                    id: &case.v2_id,
                    user: &user.v2_id,
                    legacy: Some((&case.id, &user.id)),
                    words: &case.words,
                    slots,
                    rfi: &case.rfi,
                    rfe: &case.rfe,
                    dates: &dates,
                    created_ms: created,
                }
                .json()
            };
            put(&mut production, "cases", document(&case.v2_slots));
            if !case.dev_slots.is_empty() {
                put(&mut dev, "cases", document(&case.dev_slots));
            }
        }
    }
    V2 {
        production,
        dev,
        snapshot_at: spec.now,
    }
}

/// v2's field for a deadline's date; those that are worked out from others have none.
fn v2_date(deadline: super::v1::Deadline) -> Option<&'static str> {
    use super::v1::Deadline;
    match deadline {
        Deadline::PwdExpiration => Some("pwdExpirationDate"),
        Deadline::Eta9089Filing => Some("eta9089FilingDate"),
        Deadline::Eta9089Expiration => Some("eta9089ExpirationDate"),
        _ => None,
    }
}
