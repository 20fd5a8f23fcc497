//! v2's documents, filled.

use serde_json::{Value, json};

use super::WorldSpec;
use super::draft::UserDraft;
use super::v1::Deadline;
use super::v2::{CaseDocument, millis};
use crate::convex::{Deployment, V2};

pub(crate) fn v2(spec: &WorldSpec, users: &[UserDraft]) -> V2 {
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
fn v2_date(deadline: Deadline) -> Option<&'static str> {
    match deadline {
        Deadline::PwdExpiration => Some("pwdExpirationDate"),
        Deadline::Eta9089Filing => Some("eta9089FilingDate"),
        Deadline::Eta9089Expiration => Some("eta9089ExpirationDate"),
        _ => None,
    }
}
