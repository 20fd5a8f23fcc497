//! Who granted what to whom, and what v1 stored of it.

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, Utc};

use super::draft::UserDraft;
use super::recipes::{Kitchen, Recipe};
use super::truth::Truth;
use super::{Keys, UserKind, WorldSpec};
use crate::calendar::CalendarSeed;
use crate::dice::Dice;
use crate::fernet::FernetKey;
use crate::google_oauth::{Grant, Scope};

/// A client that is not v1's.
pub(crate) const OTHER_CLIENT: &str = "555000111222-other.apps.googleusercontent.com";

/// A user's stored tokens, as v1's database has them.
#[derive(Default)]
pub(crate) struct StoredTokens {
    pub(crate) refresh: Option<String>,
    pub(crate) access: Option<String>,
    pub(crate) expiry: Option<DateTime<Utc>>,
}

pub(crate) fn grants(
    spec: &WorldSpec,
    keys: &Keys,
    users: &[UserDraft],
) -> (Vec<Grant>, Vec<StoredTokens>) {
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
pub(crate) fn other_accounts(
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
                title: None,
                shared_with: Vec::new(),
                time_zone: "America/Chicago".to_owned(),
                events: owner.events,
            };
            (account, (calendar, owner.truth))
        })
        .collect()
}
