//! The home directory: keys, and the embedded server in its folder `postgres`.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::account;
use super::env::EmbeddedEnv;
use super::error::{EmbeddedError, io_error};

/// Root's home when none is named.
const ROOT_HOME: &str = "/var/lib/ledger";

/// The home directory, which exists and is this user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// Chooses the home and makes it: the option, `LEDGER_HOME`, for root `/var/lib/ledger`, else
    /// `${XDG_DATA_HOME:-~/.local/share}/ledger`. A new one is private to the user.
    ///
    /// Starting the embedded server as root lets other accounts pass through it (mode 0711), so
    /// each secret in it needs a private mode of its own.
    ///
    /// Errors: no place is known, it cannot be made, or it belongs to another user. Root may use
    /// anybody's.
    pub fn resolve(explicit: Option<PathBuf>, env: &EmbeddedEnv) -> Result<Self, EmbeddedError> {
        let wanted = choose(explicit, env, account::is_root()).ok_or(EmbeddedError::HomeUnknown)?;
        let wanted = std::path::absolute(&wanted).map_err(io_error("find", &wanted))?;
        if let Some(parent) = wanted.parent() {
            std::fs::create_dir_all(parent).map_err(io_error("make the folder", parent))?;
        }
        match DirBuilder::new().mode(0o700).create(&wanted) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io_error("make the folder", &wanted)(error));
            }
            _ => {}
        }
        let path = wanted.canonicalize().map_err(io_error("find", &wanted))?;
        let metadata = std::fs::metadata(&path).map_err(io_error("look at", &path))?;
        if !metadata.is_dir() {
            return Err(EmbeddedError::NotPrivate(path));
        }
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 && metadata.uid() != uid {
            return Err(EmbeddedError::HomeForeign {
                path,
                owner: metadata.uid(),
                uid,
            });
        }
        Ok(Self { path })
    }

    /// A home within this one, with a server of its own. As root the outer one lets other accounts pass through, as any home
    /// with a server does.
    pub fn nested(&self, name: &str) -> Result<Self, EmbeddedError> {
        if account::is_root() {
            let metadata =
                std::fs::metadata(&self.path).map_err(io_error("look at", &self.path))?;
            let mut permissions = metadata.permissions();
            permissions.set_mode(permissions.mode() | 0o011);
            std::fs::set_permissions(&self.path, permissions)
                .map_err(io_error("open a way through", &self.path))?;
        }
        let env = EmbeddedEnv {
            ledger_home: None,
            ..EmbeddedEnv::from_process()
        };
        Self::resolve(Some(self.path.join(name)), &env)
    }

    /// Canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn choose(explicit: Option<PathBuf>, env: &EmbeddedEnv, root: bool) -> Option<PathBuf> {
    explicit.or_else(|| env.ledger_home.clone()).or_else(|| {
        if root {
            return Some(PathBuf::from(ROOT_HOME));
        }
        let xdg = env.xdg_data_home.clone().filter(|path| path.is_absolute());
        let data = xdg.or_else(|| Some(env.home.as_ref()?.join(".local/share")))?;
        Some(data.join("ledger"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_wins() {
        let mut env = EmbeddedEnv {
            ledger_home: Some("/l".into()),
            xdg_data_home: Some("/x".into()),
            home: Some("/h".into()),
            ..EmbeddedEnv::default()
        };
        let user = |env: &EmbeddedEnv| choose(None, env, false);
        assert_eq!(choose(Some("/o".into()), &env, true), Some("/o".into()));
        assert_eq!(choose(None, &env, true), Some("/l".into()));
        env.ledger_home = None;
        assert_eq!(choose(None, &env, true), Some("/var/lib/ledger".into()));
        assert_eq!(user(&env), Some("/x/ledger".into()));
        env.xdg_data_home = Some("relative".into());
        assert_eq!(user(&env), Some("/h/.local/share/ledger".into()));
        env.home = None;
        assert_eq!(user(&env), None);
    }

    #[test]
    fn a_new_home_is_private_and_an_existing_one_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("a/b");
        let env = EmbeddedEnv::default();
        let home = Home::resolve(Some(wanted.clone()), &env).unwrap();
        assert_eq!(
            std::fs::metadata(home.path()).unwrap().mode() & 0o777,
            0o700
        );
        assert_eq!(Home::resolve(Some(wanted), &env).unwrap(), home);
    }

    #[test]
    fn a_file_is_no_home() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let result = Home::resolve(Some(file.path().to_owned()), &EmbeddedEnv::default());
        assert!(
            matches!(result, Err(EmbeddedError::NotPrivate(_))),
            "{result:?}"
        );
    }
}
