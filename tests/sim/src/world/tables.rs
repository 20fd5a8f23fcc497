//! v1's tables, filled.

use chrono::Duration;
use serde_json::{Value, json};

use super::accounts::StoredTokens;
use super::draft::{CaseDraft, UserDraft};
use super::v1::{CASE_COLUMNS, Deadline, IdsShape, USER_COLUMNS, event_ids};
use super::v2::Entry;
use super::{UserKind, UsersTable, WorldSpec};
use crate::dice::Dice;
use crate::google_oauth::Scope;
use crate::supabase::{Cell, Database, Table};

pub(crate) fn database(spec: &WorldSpec, users: &[UserDraft], tokens: &[StoredTokens]) -> Database {
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
        user.slot(&WorldSpec::default(), dice, &Deadline::ALL, false, false);
        let mut case = user.cases.remove(0);
        case.dates.clear();
        case
    }

    fn date(&self, deadline: Deadline) -> Cell {
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
    let created = spec.go_live - Duration::microseconds(dice.within(1, 30_000_000_000_000));
    let words = &case.words;
    let requests = |entries: &[Entry]| {
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
