//! What the embedded server takes from the process's environment, read once.

use std::ffi::OsString;
use std::path::PathBuf;

/// The environment variables that say where things live. Empty values count as unset.
#[derive(Debug, Clone, Default)]
pub struct EmbeddedEnv {
    /// `LEDGER_HOME`: the home directory of keys and of the embedded server.
    pub ledger_home: Option<PathBuf>,
    /// `LEDGER_POSTGRES_BIN`: the folder with `initdb` and `postgres`, or its parent.
    pub postgres_bin: Option<PathBuf>,
    /// `XDG_DATA_HOME` (XDG Base Directory Specification 0.8): ignored unless absolute.
    pub xdg_data_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `PATH`, still joined by colons.
    pub path: Option<OsString>,
}

impl EmbeddedEnv {
    /// Reads the variables of this process.
    pub fn from_process() -> Self {
        let read = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            ledger_home: read("LEDGER_HOME").map(PathBuf::from),
            postgres_bin: read("LEDGER_POSTGRES_BIN").map(PathBuf::from),
            xdg_data_home: read("XDG_DATA_HOME").map(PathBuf::from),
            home: read("HOME").map(PathBuf::from),
            path: read("PATH"),
        }
    }
}
