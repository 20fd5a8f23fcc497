//! The operating system's accounts: `initdb` and `postgres` refuse to run as root, so root hands
//! them to another account.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The accounts that root hands the server to, in order of preference.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// An account of `/etc/passwd`: `postgres` looks its own uid up there and stops without an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// The account that root uses for a new cluster.
    pub(super) fn preferred() -> io::Result<Option<Self>> {
        let passwd = std::fs::read_to_string("/etc/passwd")?;
        Ok(CANDIDATES
            .iter()
            .find_map(|name| find(&passwd, |account| account.name == *name)))
    }

    /// The account with this uid. Root is none: it cannot run a server.
    pub(super) fn of_uid(uid: u32) -> io::Result<Option<Self>> {
        let passwd = std::fs::read_to_string("/etc/passwd")?;
        Ok(find(&passwd, |account| account.uid == uid))
    }

    /// Whether the account may pass through `path` and every folder above it, by their mode bits.
    pub(super) fn can_reach(&self, path: &Path) -> bool {
        path.ancestors().all(|folder| {
            std::fs::metadata(folder).is_ok_and(|metadata| self.may_execute(&metadata))
        })
    }

    fn may_execute(&self, metadata: &Metadata) -> bool {
        let bit = if metadata.uid() == self.uid {
            0o100
        } else if metadata.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        metadata.mode() & bit != 0
    }
}

/// Whether this process runs as root.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// First entry of the text of a passwd(5) file that `wanted` takes; root and broken lines are passed over.
fn find(passwd: &str, wanted: impl Fn(&Account) -> bool) -> Option<Account> {
    passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Account { name, uid, gid })
        })
        .filter(|account| account.uid != 0)
        .find(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        broken:x:notanumber:1::/:/bin/false\n\
        postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n\
        toor:x:0:0::/root:/bin/sh\n";

    #[test]
    fn passwd_entries_are_found_and_root_is_not() {
        let found = find(PASSWD, |account| account.name == "postgres");
        assert_eq!(
            found,
            Some(Account {
                name: "postgres".into(),
                uid: 101,
                gid: 104
            })
        );
        assert_eq!(find(PASSWD, |account| account.uid == 0), None);
        assert_eq!(find(PASSWD, |account| account.name == "broken"), None);
    }

    #[test]
    fn a_private_folder_on_the_way_cannot_be_passed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let stranger = Account {
            name: "stranger".into(),
            uid: 4_000_001,
            gid: 4_000_001,
        };
        let owner = Account {
            uid: std::fs::metadata(&inner).unwrap().uid(),
            ..stranger.clone()
        };
        assert!(!stranger.can_reach(&inner));
        assert!(owner.can_reach(folder.path()));
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        assert!(stranger.can_reach(&inner));
        assert!(!stranger.can_reach(&inner.join("absent")));
    }
}
