//! Users who lead to one account, and those who only seem to.

use ledger::store::spool::Spool;

use super::accounts::{Listed, calendar_of, look_for};
use super::census::{Elsewhere, Lookup};
use super::error::CalendarError;
use super::executor::CalendarExecutor;
use super::inventory::{ids_of, put_aside, unpack};
use super::members::{Accounts, Member, rename};
use super::records::Records;
use super::sources::Sources;
use crate::clients::ErrorClass;
use crate::engine::EngineError;
use crate::executors::Unreachable;

/// Parts those whose primary calendars say the same address and are not the same: an address that was given up can be another account's by now,
/// and old events and a title still say it. The first user keeps it, and the others' accounts have names of their own.
pub(super) fn part_strangers(
    accounts: &mut Accounts,
    spool: &Spool,
    name: impl Fn(usize) -> String,
) -> Result<(), EngineError> {
    let mut strangers = Vec::new();
    for (calendar, members) in accounts.iter() {
        let mut owners = members.owners(calendar);
        let first = owners.next();
        let others: Vec<&Member> = owners.collect();
        let Some(first) = first.filter(|_| !others.is_empty()) else {
            continue;
        };
        let listed = ids_of(&unpack(spool, first.block)?.events);
        for other in others {
            let also = ids_of(&unpack(spool, other.block)?.events);
            // One calendar, listed twice within a moment, differs by what came between.
            let same = listed.intersection(&also).count() * 2 >= listed.len().max(also.len());
            if !same {
                strangers.push((other.user, calendar.clone()));
            }
        }
    }
    for (user, address) in strangers {
        tracing::warn!(
            "two of v1's users lead to calendars that say the same address and are not the same: they are kept apart"
        );
        rename(accounts, user, &address, &name(user));
    }
    Ok(())
}

/// Brings users whose own token leads nowhere to the account that v1 stored for them, where another user's token leads there and one of
/// their recorded ids is found on it: a stored address alone may be stale. Gives those for whom there is no such account.
pub(super) async fn join(
    executor: &CalendarExecutor,
    (sources, records): (&Sources, &Records),
    spool: &mut Spool,
    accounts: &mut Accounts,
    unreachable: Vec<(usize, Unreachable)>,
) -> Result<Vec<(usize, Unreachable)>, EngineError> {
    let mut left = Vec::new();
    for (n, why) in unreachable {
        let user = &sources.users[n];
        // Where it may pass the user's own token leads somewhere, and not to where a stored address says.
        if matches!(
            why.class,
            ErrorClass::Server | ErrorClass::Network | ErrorClass::Quota
        ) {
            left.push((n, why));
            continue;
        }
        let address = user.google_email.as_deref().map(str::to_lowercase);
        let account = address.and_then(|address| {
            let owner = accounts.get(&address)?.owners(&address).next()?;
            let through = &sources.users[owner.user];
            Some((owner.block, through, through.access.as_ref().ok()?, address))
        });
        let Some((block, through, token, address)) = account else {
            left.push((n, why));
            continue;
        };
        let listed = ids_of(&unpack(spool, block)?.events);
        let calendar = calendar_of(&executor.reader, &through.id, token);
        let mut ids = records.of(user).map_err(CalendarError::from)?.ids;
        let Ok(lookups) = look_for(&calendar, &ids, &listed).await else {
            left.push((n, why));
            continue;
        };
        let there = |id: &String| {
            let remembers = matches!(lookups.get(id), Some((Lookup::Found(_) | Lookup::Gone, _)));
            listed.contains(id) || remembers
        };
        if !ids.v1.iter().any(there) {
            left.push((n, why));
            continue;
        }
        if !user.calendars.is_empty() {
            ids.elsewhere = Elsewhere::Unknown;
        }
        let block = put_aside(
            spool,
            Listed {
                calendar: address.clone(),
                account: address.clone(),
                is_sure: true,
                ids,
                items: Vec::new(),
                sync_token: String::new(),
                date: None,
                lookups,
            },
        )?;
        let member = Member {
            user: n,
            account: address.clone(),
            lists: false,
            block,
        };
        if let Some(members) = accounts.get_mut(&address) {
            members.add(&address, member);
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;

    use super::*;
    use crate::clients::google::RawItem;
    use crate::executors::calendar::census::UserIds;

    #[test]
    fn calendars_that_say_the_same_address_and_differ_are_two() {
        let listing = |ids: &[&str]| {
            let raw = |id: &&str| RawItem::new(Bytes::from(format!(r#"{{"id":"{id}"}}"#)));
            Listed {
                calendar: "jane@example.com".to_owned(),
                account: "jane@example.com".to_owned(),
                is_sure: true,
                ids: UserIds::default(),
                items: ids.iter().map(raw).collect(),
                sync_token: String::new(),
                date: None,
                lookups: HashMap::new(),
            }
        };
        for (one, other, same) in [
            (&["a", "b", "c"][..], &["a", "b", "c"][..], true),
            // Something came and went while they were asked.
            (&["a", "b", "c"], &["b", "c", "d"], true),
            (&[], &[], true),
            (&["a", "b", "c"], &["x", "y"], false),
            (&["a", "b", "c"], &[], false),
            (&["a"], &["a", "b", "c", "d"], false),
        ] {
            let mut spool = Spool::new().unwrap();
            let mut accounts = Accounts::new();
            for (user, ids) in [one, other].into_iter().enumerate() {
                let listed = listing(ids);
                let member = Member {
                    user,
                    account: listed.account.clone(),
                    lists: true,
                    block: put_aside(&mut spool, listed).unwrap(),
                };
                let members = accounts.entry("jane@example.com".to_owned()).or_default();
                members.add("jane@example.com", member);
            }
            part_strangers(&mut accounts, &spool, |user| format!("of {user}")).unwrap();
            let names: Vec<&str> = accounts.keys().map(String::as_str).collect();
            let expected: &[&str] = if same {
                &["jane@example.com"]
            } else {
                &["jane@example.com", "of 1"]
            };
            assert_eq!(names, expected, "{one:?} {other:?}");
        }
    }
}
