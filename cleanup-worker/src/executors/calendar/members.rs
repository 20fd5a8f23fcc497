//! Who leads to which calendar.

use std::collections::{BTreeMap, BTreeSet};

use ledger::store::spool::Block;

/// A user who leads to a calendar.
pub(super) struct Member {
    pub(super) user: usize,
    /// Address of the user's account; the calendar's own id where it is the primary one.
    pub(super) account: String,
    /// The calendar was listed for the user, and not only asked for recorded ids.
    pub(super) lists: bool,
    /// Where what the user was answered lies, and which of the user's recorded ids are judged here.
    pub(super) block: Block,
}

/// The users who lead to a calendar: several may share an account, or a second calendar, and one's second may be another's primary one.
#[derive(Default)]
pub(super) struct Members(pub(super) Vec<Member>);

impl Members {
    /// Adds a user; whose primary calendar it is comes before the others, whose own listing there is before those without, and else each
    /// in the users' order, whoever was asked first.
    pub(super) fn add(&mut self, calendar: &str, member: Member) {
        let place = |one: &Member| (one.account != calendar, !one.lists, one.user);
        let at = self.0.partition_point(|one| place(one) <= place(&member));
        self.0.insert(at, member);
    }

    /// The users whose primary calendar it is.
    pub(super) fn owners<'a>(&'a self, calendar: &'a str) -> impl Iterator<Item = &'a Member> {
        self.0.iter().filter(move |one| one.account == calendar)
    }

    pub(super) fn accounts(&self) -> BTreeSet<&str> {
        self.0.iter().map(|one| one.account.as_str()).collect()
    }
}

/// Users who lead to a calendar, by the calendar.
pub(super) type Accounts = BTreeMap<String, Members>;

/// Gives a user's account another name, in whichever calendars the user leads to.
pub(super) fn rename(accounts: &mut Accounts, user: usize, from: &str, to: &str) {
    let calendars: Vec<String> = accounts.keys().cloned().collect();
    for calendar in calendars {
        let Some(members) = accounts.get_mut(&calendar) else {
            continue;
        };
        let is_theirs = |one: &Member| one.user == user && one.account == from;
        if !members.0.iter().any(is_theirs) {
            continue;
        }
        let (theirs, others) = std::mem::take(&mut members.0)
            .into_iter()
            .partition(is_theirs);
        members.0 = others;
        let now = if calendar == from { to } else { &*calendar };
        for mut member in theirs {
            to.clone_into(&mut member.account);
            accounts.entry(now.to_owned()).or_default().add(now, member);
        }
    }
    accounts.retain(|_, members| !members.0.is_empty());
}

/// Adds those of whose account only v1 tells the address. Where that is another's the account has a name of its own, `name`: a stored address may
/// be stale, and what is another's account is told by that account.
pub(super) fn take_unsure(
    accounts: &mut Accounts,
    unsure: Vec<(String, Member)>,
    name: impl Fn(usize) -> String,
) {
    let mut of_user: Vec<(usize, Vec<(String, Member)>)> = Vec::new();
    for (calendar, member) in unsure {
        match of_user.last_mut() {
            Some((user, calendars)) if *user == member.user => calendars.push((calendar, member)),
            _ => of_user.push((member.user, vec![(calendar, member)])),
        }
    }
    for (user, calendars) in of_user {
        let stored = calendars.first().map(|(_, first)| first.account.clone());
        let is_taken = stored.is_some_and(|address| accounts.contains_key(&address));
        for (mut calendar, mut member) in calendars {
            if is_taken {
                let own = name(user);
                if calendar == member.account {
                    calendar.clone_from(&own);
                }
                member.account = own;
            }
            let members = accounts.entry(calendar.clone()).or_default();
            members.add(&calendar, member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::store::spool::Spool;

    fn member(user: usize, account: &str, block: Block) -> Member {
        Member {
            user,
            account: account.to_owned(),
            lists: true,
            block,
        }
    }

    fn users(accounts: &Accounts) -> Vec<(&str, Vec<(usize, &str)>)> {
        accounts
            .iter()
            .map(|(calendar, members)| {
                let members = members.0.iter();
                let members = members.map(|one| (one.user, one.account.as_str()));
                (calendar.as_str(), members.collect())
            })
            .collect()
    }

    #[test]
    fn whose_primary_calendar_it_is_comes_first() {
        let mut spool = Spool::new().unwrap();
        let block = spool.put(&[]).unwrap();
        let mut members = Members::default();
        members.add("boss", member(0, "assistant", block));
        members.add("boss", member(1, "boss", block));
        members.add("boss", member(2, "other", block));
        members.add("boss", member(4, "boss", block));
        members.add("boss", member(3, "boss", block));
        // Brought to the account of somebody else.
        members.add(
            "boss",
            Member {
                lists: false,
                ..member(0, "boss", block)
            },
        );
        let order: Vec<usize> = members.0.iter().map(|one| one.user).collect();
        assert_eq!(order, [1, 3, 4, 0, 0, 2]);
        let owners: Vec<usize> = members.owners("boss").map(|one| one.user).collect();
        assert_eq!(owners, [1, 3, 4, 0]);
        assert_eq!(members.accounts(), ["assistant", "boss", "other"].into());
    }

    #[test]
    fn an_account_has_its_new_name_in_every_calendar_that_it_leads_to() {
        let mut spool = Spool::new().unwrap();
        let block = spool.put(&[]).unwrap();
        let mut accounts = Accounts::new();
        for (calendar, user, account) in [
            ("a", 0, "a"),
            ("a", 1, "a"),
            ("a", 2, "b"),
            ("second", 1, "a"),
            ("second", 0, "a"),
            ("third", 2, "b"),
        ] {
            let members = accounts.entry(calendar.to_owned()).or_default();
            members.add(calendar, member(user, account, block));
        }
        rename(&mut accounts, 1, "a", "c");
        assert_eq!(
            users(&accounts),
            [
                ("a", vec![(0, "a"), (2, "b")]),
                ("c", vec![(1, "c")]),
                ("second", vec![(0, "a"), (1, "c")]),
                ("third", vec![(2, "b")]),
            ]
        );
    }

    #[test]
    fn an_address_that_only_v1_tells_joins_nobodys_account() {
        let mut spool = Spool::new().unwrap();
        let block = spool.put(&[]).unwrap();
        let mut accounts = Accounts::new();
        let sure = accounts.entry("a".to_owned()).or_default();
        sure.add("a", member(0, "a", block));
        let unsure = [
            ("a", member(1, "a", block)),
            ("second", member(1, "a", block)),
            ("b", member(2, "b", block)),
            ("b", member(3, "b", block)),
        ];
        let unsure = unsure.map(|(calendar, member)| (calendar.to_owned(), member));
        take_unsure(&mut accounts, unsure.into(), |user| format!("of {user}"));
        assert_eq!(
            users(&accounts),
            [
                ("a", vec![(0, "a")]),
                ("b", vec![(2, "b")]),
                ("of 1", vec![(1, "of 1")]),
                ("of 3", vec![(3, "of 3")]),
                ("second", vec![(1, "of 1")]),
            ]
        );
    }
}
