//! Finding an installed PostgreSQL.
//!
//! Order: the option or `LEDGER_POSTGRES_BIN` alone; otherwise the folders of Debian, of the
//! PostgreSQL RPMs and of Homebrew, then PATH. The highest version wins; existing data decide the
//! major version, since a data directory is readable only by the major that wrote it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::Account;
use super::env::EmbeddedEnv;
use super::error::EmbeddedError;

/// The oldest major version that the schema and the start of the server are made for.
pub const MAJOR_MIN: u32 = 14;

/// A version as `postgres --version` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostgresVersion {
    /// 15 in 15.18.
    pub major: u32,
    /// 18 in 15.18; 0 in a beta.
    pub minor: u32,
}

impl fmt::Display for PostgresVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// An installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Canonical folder with `initdb` and `postgres`.
    pub bin_dir: PathBuf,
    /// Of `postgres`.
    pub version: PostgresVersion,
}

/// Where data exist that only one major version reads.
pub(super) struct Existing<'a> {
    pub(super) data: &'a Path,
    pub(super) major: u32,
}

/// Finds the PostgreSQL to run, as `account` where root hands the server over.
pub(super) fn find(
    explicit: Option<&Path>,
    env: &EmbeddedEnv,
    existing: Option<&Existing<'_>>,
    account: Option<&Account>,
) -> Result<Installation, EmbeddedError> {
    if let Some(named) = explicit.or(env.postgres_bin.as_deref()) {
        return named_installation(named, existing, account);
    }
    let mut found: Vec<Installation> = candidates(env)
        .iter()
        .filter_map(|dir| inspect(dir, account).ok())
        .filter(|installation| installation.version.major >= MAJOR_MIN)
        .collect();
    if found.is_empty() {
        return Err(EmbeddedError::NotInstalled {
            looked_in: "/usr/lib/postgresql, /usr/pgsql-*, Homebrew and PATH".into(),
        });
    }
    if let Some(existing) = existing {
        found.retain(|installation| installation.version.major == existing.major);
    }
    found
        .into_iter()
        .max_by_key(|installation| installation.version)
        .ok_or_else(|| {
            // `found` is empty only where `existing` made it so.
            existing.map_or(
                EmbeddedError::NotInstalled {
                    looked_in: String::new(),
                },
                |existing| EmbeddedError::MajorMissing {
                    data: existing.data.to_owned(),
                    major: existing.major,
                },
            )
        })
}

fn named_installation(
    named: &Path,
    existing: Option<&Existing<'_>>,
    account: Option<&Account>,
) -> Result<Installation, EmbeddedError> {
    let unusable = |problem: String| EmbeddedError::Unusable {
        bin_dir: named.to_owned(),
        problem,
    };
    let nested = named.join("bin");
    let dir = if nested.join("initdb").exists() {
        nested.as_path()
    } else {
        named
    };
    let installation = inspect(dir, account).map_err(unusable)?;
    let version = installation.version;
    if version.major < MAJOR_MIN {
        return Err(unusable(format!("it is {version}, older than {MAJOR_MIN}")));
    }
    match existing {
        Some(existing) if existing.major != version.major => Err(EmbeddedError::MajorMissing {
            data: existing.data.to_owned(),
            major: existing.major,
        }),
        _ => Ok(installation),
    }
}

/// Folders worth a look, canonical, so that `/usr/local/bin` full of links counts as its target.
fn candidates(env: &EmbeddedEnv) -> BTreeSet<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    dirs.extend(children("/usr/lib/postgresql", "").map(|version| version.join("bin")));
    dirs.extend(children("/usr", "pgsql-").map(|version| version.join("bin")));
    for prefix in [
        "/opt/homebrew/opt",
        "/usr/local/opt",
        "/home/linuxbrew/.linuxbrew/opt",
    ] {
        dirs.extend(children(prefix, "postgresql").map(|formula| formula.join("bin")));
    }
    if let Some(path) = &env.path {
        dirs.extend(std::env::split_paths(path).filter(|dir| dir.is_absolute()));
    }
    dirs.iter()
        .filter_map(|dir| dir.join("postgres").canonicalize().ok())
        .filter_map(|binary| binary.parent().map(Path::to_owned))
        .collect()
}

fn children(parent: &str, prefix: &str) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
}

/// Looks at one folder; the error says in words what is wrong with it.
fn inspect(dir: &Path, account: Option<&Account>) -> Result<Installation, String> {
    let bin_dir = dir.canonicalize().map_err(|error| error.to_string())?;
    for program in ["initdb", "postgres"] {
        if !bin_dir.join(program).is_file() {
            return Err(format!("there is no {program}"));
        }
    }
    if let Some(account) = account.filter(|account| !account.can_reach(&bin_dir.join("postgres"))) {
        return Err(format!("the account {} cannot reach it", account.name));
    }
    let output = Command::new(bin_dir.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse_version(&text).ok_or("`postgres --version` tells no version")?;
    Ok(Installation { bin_dir, version })
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, also `17beta2` and `18devel`.
fn parse_version(text: &str) -> Option<PostgresVersion> {
    let number = text
        .split_once("(PostgreSQL)")?
        .1
        .split_whitespace()
        .next()?;
    let digits = |part: &str| {
        let end = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    };
    let (major, minor) = number.split_once('.').unwrap_or((number, ""));
    Some(PostgresVersion {
        major: digits(major)?,
        minor: digits(minor).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    /// A folder that claims to hold a PostgreSQL of this version.
    fn pretend(parent: &Path, name: &str, version: &str) -> PathBuf {
        let dir = parent.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        for program in ["initdb", "postgres"] {
            let file = dir.join(program);
            std::fs::write(
                &file,
                format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"),
            )
            .unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        }
        dir
    }

    #[test]
    fn versions_are_read_as_they_are_printed() {
        let read = |text: &str| parse_version(text).map(|v| (v.major, v.minor));
        assert_eq!(
            read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some((15, 18))
        );
        assert_eq!(read("postgres (PostgreSQL) 17beta2\n"), Some((17, 0)));
        assert_eq!(read("postgres (PostgreSQL) 9.6.24\n"), Some((9, 6)));
        assert_eq!(read("postgres: command not found"), None);
    }

    #[test]
    fn the_path_is_searched_and_the_existing_data_choose_the_major() {
        let folder = tempfile::tempdir().unwrap();
        let old = pretend(folder.path(), "old", "9901.3");
        let new = pretend(folder.path(), "new", "9902.1");
        let env = EmbeddedEnv {
            path: Some(std::env::join_paths([&old, &new]).unwrap()),
            ..EmbeddedEnv::default()
        };
        let found = find(None, &env, None, None).unwrap();
        assert_eq!(found.bin_dir, new.canonicalize().unwrap());
        let existing = |major| Existing {
            data: Path::new("/d"),
            major,
        };
        let found = find(None, &env, Some(&existing(9901)), None).unwrap();
        assert_eq!(
            found.version,
            PostgresVersion {
                major: 9901,
                minor: 3
            }
        );
        let error = find(None, &env, Some(&existing(9900)), None).unwrap_err();
        assert!(
            matches!(error, EmbeddedError::MajorMissing { major: 9900, .. }),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("postgresql-9900"));
    }

    #[test]
    fn a_named_folder_is_the_only_one_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        pretend(folder.path(), "wheel/bin", "9902.1");
        pretend(folder.path(), "ancient", "13.9");
        let env = EmbeddedEnv::from_process();
        let named = |name: &str| find(Some(&folder.path().join(name)), &env, None, None);
        assert_eq!(named("wheel").unwrap().version.major, 9902);
        for bad in ["ancient", "absent"] {
            let error = named(bad).unwrap_err();
            assert!(
                matches!(error, EmbeddedError::Unusable { .. }),
                "{bad}: {error}"
            );
            assert!(error.hint().unwrap().contains("DATABASE_URL"));
        }
    }
}
