//! The folder of one cluster: what lies in it, who owns it, how it is made.
//!
//! | entry | what |
//! | --- | --- |
//! | `data/` | PostgreSQL's data directory; appears by a rename when it is complete |
//! | `data.new-*` | an `initdb` that has not ended, or never did |
//! | `password` | of the superuser, mode 0600 |
//! | `users.lock` | held shared by every command that uses the server, for its life |
//! | `start.lock` | held by the one command that is about to have the server started |
//! | `supervisor.lock` | held by the supervisor for its life |
//! | `server.log`, `start-failed` | the server's words; the supervisor's last ones |
//! | `.s.PGSQL.5432` | the socket, unless the path is too long for one |
//!
//! The locks are `flock`s: the operating system releases them however their holder ends. The files
//! stay. All belongs to the account that runs the server; root follows no symbolic link in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::account::{self, Account};
use super::error::{EmbeddedError, io_error};
use super::home::Home;

/// Longest socket path (`sun_path`, 108 bytes with its final NUL on Linux).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The socket's name follows from the port, which is fixed: each cluster has a folder of its own.
pub(super) const PORT: u16 = 5432;
/// Where the clusters of homes live that the server's account cannot reach.
const REMOTE_CLUSTERS: &str = "/var/lib/ledger/homes";
/// Beginning of the name of a socket directory made for a cluster whose path is too long.
const SHORT_SOCKET_DIR_PREFIX: &str = "/tmp/ledger-socket-";

/// The folder, and the account to run its server as (only where this process is root).
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    dir: PathBuf,
    account: Option<Account>,
    /// Chosen once, so that a server started again after a crash is found where it was.
    short_socket_dir: OnceLock<PathBuf>,
}

impl Cluster {
    fn new(dir: PathBuf, account: Option<Account>) -> Self {
        Self {
            dir,
            account,
            short_socket_dir: OnceLock::new(),
        }
    }

    /// Makes the folder of the home's cluster, or finds it. The second part is what the user
    /// should be told once.
    pub(super) fn prepare(home: &Home) -> Result<(Self, Vec<String>), EmbeddedError> {
        let beside = home.path().join("postgres");
        if !account::is_root() {
            return Ok((Self::new(make_private(&beside, None)?, None), Vec::new()));
        }
        let account = account_for(&beside)?;
        let remote = remote_dir(home.path());
        let may_pass = home
            .path()
            .parent()
            .is_none_or(|parent| account.can_reach(parent));
        let holds_data = |dir: &Path| dir.join("data/PG_VERSION").exists();
        // A home whose reachability changed keeps the cluster that it has.
        if may_pass && (holds_data(&beside) || !holds_data(&remote)) {
            let metadata =
                std::fs::metadata(home.path()).map_err(io_error("look at", home.path()))?;
            if !account.can_reach(home.path()) {
                let mode = std::fs::Permissions::from_mode(metadata.mode() & 0o7777 | 0o011);
                std::fs::set_permissions(home.path(), mode).map_err(io_error(
                    "let the server's account pass through",
                    home.path(),
                ))?;
            }
            let dir = make_private(&beside, Some(&account))?;
            return Ok((Self::new(dir, Some(account)), Vec::new()));
        }
        let account = account_for(&remote)?;
        // `remote` is below REMOTE_CLUSTERS, whose folders root makes for everybody to pass.
        for folder in ["/var/lib/ledger", REMOTE_CLUSTERS].map(Path::new) {
            make_passable(folder)?;
        }
        if let Some(parent) = remote.parent() {
            make_passable(parent)?;
        }
        let dir = make_private(&remote, Some(&account))?;
        let note = format!(
            "the account {} cannot reach {}, so its PostgreSQL data are in {}",
            account.name,
            home.path().display(),
            dir.display()
        );
        Ok((Self::new(dir, Some(account)), vec![note]))
    }

    /// The cluster in a folder that [`Cluster::prepare`] made: for the supervisor. The account is
    /// taken from the folder's owner and from nothing that the account itself could have written.
    pub(super) fn open(dir: PathBuf) -> Result<Self, EmbeddedError> {
        let metadata = std::fs::symlink_metadata(&dir).map_err(io_error("look at", &dir))?;
        let account = if account::is_root() {
            let account = Account::of_uid(metadata.uid())
                .map_err(io_error("read", "/etc/passwd"))?
                .filter(|_| metadata.is_dir());
            Some(account.ok_or_else(|| EmbeddedError::NotPrivate(dir.clone()))?)
        } else {
            None
        };
        Ok(Self::new(dir, account))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Major version that wrote the data, if there are any.
    pub(super) fn data_major(&self) -> Result<Option<u32>, EmbeddedError> {
        let file = self.data().join("PG_VERSION");
        match std::fs::read_to_string(&file) {
            Ok(text) => text
                .trim()
                .parse()
                .map(Some)
                .map_err(|_| EmbeddedError::Io {
                    action: "read a version from",
                    path: file,
                    source: io::ErrorKind::InvalidData.into(),
                }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", file)(error)),
        }
    }

    pub(super) fn users_lock(&self) -> Result<File, EmbeddedError> {
        self.open_file("users.lock", OpenOptions::new().read(true).write(true))
    }

    pub(super) fn start_lock(&self) -> Result<File, EmbeddedError> {
        self.open_file("start.lock", OpenOptions::new().read(true).write(true))
    }

    pub(super) fn supervisor_lock(&self) -> Result<File, EmbeddedError> {
        self.open_file("supervisor.lock", OpenOptions::new().read(true).write(true))
    }

    /// Opened for appending; cut when it has grown over 4 MiB.
    pub(super) fn server_log(&self) -> Result<File, EmbeddedError> {
        let file = self.open_file("server.log", OpenOptions::new().read(true).append(true))?;
        let path = self.dir.join("server.log");
        if file.metadata().map_err(io_error("look at", &path))?.len() > 4 << 20 {
            file.set_len(0).map_err(io_error("cut", &path))?;
        }
        Ok(file)
    }

    /// The supervisor's last words, if it had any.
    pub(super) fn failure(&self) -> Option<String> {
        self.read_file("start-failed")
            .ok()
            .filter(|text| !text.is_empty())
    }

    pub(super) fn clear_failure(&self) -> Result<(), EmbeddedError> {
        remove_if_there(&self.dir.join("start-failed"))
    }

    pub(super) fn write_failure(&self, text: &str) -> Result<(), EmbeddedError> {
        self.replace("start-failed", text)
    }

    pub(super) fn password(&self) -> Result<zeroize::Zeroizing<String>, EmbeddedError> {
        let path = self.dir.join("password");
        let text = self
            .read_file("password")
            .map_err(io_error("read", &path))?;
        Ok(zeroize::Zeroizing::new(text))
    }

    /// Sets the file that `initdb` reads the superuser's password from.
    pub(super) fn set_password(&self, password: &str) -> Result<PathBuf, EmbeddedError> {
        self.replace("password", password)?;
        Ok(self.dir.join("password"))
    }

    /// The directory for the socket: the cluster's own, or a new private one where that is too
    /// deep. Clients find it in `postmaster.pid`, so its name need not be guessable.
    pub(super) fn make_socket_dir(&self) -> Result<PathBuf, EmbeddedError> {
        let socket = format!("/.s.PGSQL.{PORT}");
        if self.dir.as_os_str().as_bytes().len() + socket.len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(self.dir.clone());
        }
        let random = PathBuf::from(format!("{SHORT_SOCKET_DIR_PREFIX}{}", random_hex::<12>()?));
        let short = self.short_socket_dir.get_or_init(|| random);
        match DirBuilder::new().mode(0o700).create(short) {
            Ok(()) => self.give(short)?,
            Err(_) if self.owns(short) => {}
            Err(error) => return Err(io_error("make", short)(error)),
        }
        Ok(short.clone())
    }

    /// Whether a directory found in `postmaster.pid` is private to the server's account.
    pub(super) fn owns(&self, dir: &Path) -> bool {
        std::fs::symlink_metadata(dir).is_ok_and(|metadata| {
            metadata.is_dir()
                && metadata.uid() == self.uid()
                && (metadata.mode() & 0o777) | 0o700 == 0o700
        })
    }

    /// Removes the short socket directory of a server that has ended, and the socket and its lock
    /// file in it, by their names: whatever else such a folder may hold, it stays.
    pub(super) fn remove_socket_dir(&self, dir: &Path) {
        let short = dir
            .to_str()
            .and_then(|dir| dir.strip_prefix(SHORT_SOCKET_DIR_PREFIX));
        if short.is_none_or(|rest| rest.contains('/')) || !self.owns(dir) {
            return;
        }
        let removed = [format!(".s.PGSQL.{PORT}"), format!(".s.PGSQL.{PORT}.lock")]
            .iter()
            .try_for_each(|name| remove_if_there(&dir.join(name)))
            .and_then(|()| std::fs::remove_dir(dir).map_err(io_error("remove", dir)));
        tracing::debug!(dir = %dir.display(), ?removed, "socket directory");
    }

    fn uid(&self) -> u32 {
        let own = || rustix::process::geteuid().as_raw();
        self.account
            .as_ref()
            .map_or_else(own, |account| account.uid)
    }

    /// Opens a file of the cluster, and makes it; never through a symbolic link, nor a file that
    /// has another name elsewhere: the server's account could have made either for root to fall for.
    fn open_file(&self, name: &str, options: &mut OpenOptions) -> Result<File, EmbeddedError> {
        let path = self.dir.join(name);
        let file = options
            .create(true)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&path)
            .map_err(io_error("open", &path))?;
        let metadata = file.metadata().map_err(io_error("look at", &path))?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(EmbeddedError::NotPrivate(path));
        }
        if let Some(account) = self
            .account
            .as_ref()
            .filter(|account| account.uid != metadata.uid())
        {
            std::os::unix::fs::fchown(&file, Some(account.uid), Some(account.gid))
                .map_err(io_error("give to the server's account", &path))?;
        }
        Ok(file)
    }

    fn read_file(&self, name: &str) -> io::Result<String> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .custom_flags(no_follow())
            .open(self.dir.join(name))?;
        io::read_to_string(file)
    }

    /// Replaces a small file at once: a reader sees the old text or the new one.
    fn replace(&self, name: &str, text: &str) -> Result<(), EmbeddedError> {
        let temporary = format!("{name}.{}", random_hex::<8>()?);
        let path = self.dir.join(&temporary);
        let mut file =
            self.open_file(&temporary, OpenOptions::new().write(true).create_new(true))?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&path, self.dir.join(name)))
            .map_err(io_error("write", &path))
    }

    fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        self.account
            .as_ref()
            .map_or(Ok(()), |account| give(path, account))
    }
}

/// `O_NOFOLLOW`, as `custom_flags` takes it: a C int, behind an unsigned type in `rustix`.
fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// The owner of an existing folder, so that a cluster stays with its account; else the preferred.
fn account_for(dir: &Path) -> Result<Account, EmbeddedError> {
    let passwd = || io_error("read", "/etc/passwd");
    match std::fs::symlink_metadata(dir) {
        // Owned by root: made, and not yet given away.
        Ok(metadata) if metadata.uid() != 0 => Account::of_uid(metadata.uid())
            .map_err(passwd())?
            .ok_or_else(|| EmbeddedError::NotPrivate(dir.to_owned())),
        _ => Account::preferred()
            .map_err(passwd())?
            .ok_or(EmbeddedError::NoAccount),
    }
}

fn remote_dir(home: &Path) -> PathBuf {
    let digest = hex::encode(Sha256::digest(home.as_os_str().as_bytes()));
    Path::new(REMOTE_CLUSTERS)
        .join(&digest[..16])
        .join("postgres")
}

/// Makes a folder of mode 0700, or checks that what is there is one, and whose. Canonical path.
fn make_private(dir: &Path, account: Option<&Account>) -> Result<PathBuf, EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io_error("make the folder", dir)(error));
        }
        _ => {}
    }
    let metadata = std::fs::symlink_metadata(dir).map_err(io_error("look at", dir))?;
    let own = rustix::process::geteuid().as_raw();
    let wanted = account.map_or(own, |account| account.uid);
    if !metadata.is_dir() || ![own, wanted].contains(&metadata.uid()) {
        return Err(EmbeddedError::NotPrivate(dir.to_owned()));
    }
    if let Some(account) = account.filter(|_| metadata.uid() != wanted) {
        give(dir, account)?;
    }
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
            .map_err(io_error("make private", dir))?;
    }
    dir.canonicalize().map_err(io_error("find", dir))
}

/// Makes a folder that others may pass through and not list.
fn make_passable(dir: &Path) -> Result<(), EmbeddedError> {
    std::fs::create_dir_all(dir).map_err(io_error("make the folder", dir))?;
    let mode = std::fs::metadata(dir)
        .map_err(io_error("look at", dir))?
        .mode();
    if mode & 0o011 == 0o011 {
        return Ok(());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode & 0o7777 | 0o011))
        .map_err(io_error("let the server's account pass through", dir))
}

fn give(path: &Path, account: &Account) -> Result<(), EmbeddedError> {
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid))
        .map_err(io_error("give to the server's account", path))
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), EmbeddedError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// `BYTES` random bytes as hexadecimal.
pub(super) fn random_hex<const BYTES: usize>() -> Result<String, EmbeddedError> {
    let mut bytes = zeroize::Zeroizing::new([0_u8; BYTES]);
    getrandom::fill(bytes.as_mut()).map_err(EmbeddedError::Random)?;
    Ok(hex::encode(bytes.as_ref()))
}
