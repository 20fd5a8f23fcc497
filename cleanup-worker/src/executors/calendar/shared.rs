//! Users who lead to one account, and those who only seem to.

use std::collections::HashSet;

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
        if members.owners(calendar).nth(1).is_none() {
            continue;
        }
        // The first of each group, with what is on its calendar.
        let mut groups: Vec<(usize, HashSet<String>)> = Vec::new();
        for owner in members.owners(calendar) {
            let listed = ids_of(&unpack(spool, owner.block)?.events);
            let mut known = groups.iter();
            match known.position(|(_, other)| is_one_calendar(&listed, other)) {
                Some(0) => {}
                Some(n) => strangers.push((owner.user, groups[n].0, calendar.clone())),
                None => {
                    if !groups.is_empty() {
                        strangers.push((owner.user, owner.user, calendar.clone()));
                    }
                    groups.push((owner.user, listed));
                }
            }
        }
    }
    for (user, first, address) in strangers {
        let account = name(first);
        tracing::warn!(
            account,
            "a calendar says the address of another user's and is not the same: it is kept apart"
        );
        rename(accounts, user, &address, &account);
    }
    Ok(())
}

/// So many events may have come or gone between two listings of one small calendar.
const BETWEEN: usize = 5;

/// Whether two listings of one address are of one calendar. Users are asked one after the other, so they differ by what came between; and two
/// calendars may have an invitation in common.
fn is_one_calendar(one: &HashSet<String>, other: &HashSet<String>) -> bool {
    let (common, all) = (one.intersection(other).count(), one.len().max(other.len()));
    common * 2 >= all || (common > 0 && all - common <= BETWEEN)
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

    fn listing(ids: &[&str]) -> Listed {
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
    }

    #[test]
    fn calendars_that_say_the_same_address_and_differ_are_two() {
        for (one, other, same) in [
            (&["a", "b", "c"][..], &["a", "b", "c"][..], true),
            // Something came and went while they were asked.
            (&["a", "b", "c"], &["b", "c", "d"], true),
            (&[], &[], true),
            (&["a", "b", "c"], &["x", "y"], false),
            (&["a", "b", "c"], &[], false),
            (&["a"], &["a", "b", "c", "d"], true),
            (&["a"], &["a", "b", "c", "d", "e", "f", "g", "h"], false),
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

    #[test]
    fn those_who_lead_to_one_of_the_others_stay_together() {
        let mut spool = Spool::new().unwrap();
        let mut accounts = Accounts::new();
        let address = "jane@example.com";
        for (user, ids) in [&["a", "b"][..], &["x", "y"], &["y", "x", "z"], &["b", "a"]]
            .into_iter()
            .enumerate()
        {
            let member = Member {
                user,
                account: address.to_owned(),
                lists: true,
                block: put_aside(&mut spool, listing(ids)).unwrap(),
            };
            let members = accounts.entry(address.to_owned()).or_default();
            members.add(address, member);
        }
        part_strangers(&mut accounts, &spool, |user| format!("of {user}")).unwrap();
        let users = |name: &str| -> Vec<usize> {
            let members = accounts.get(name).unwrap();
            members.owners(name).map(|one| one.user).collect()
        };
        assert_eq!(accounts.len(), 2);
        assert_eq!((users(address), users("of 1")), (vec![0, 3], vec![1, 2]));
    }
}
