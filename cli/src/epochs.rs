//! The key-encryption keys of a home, one after the other. `kek` is the one in force. An erasure writes its successor to
//! `kek.next`, puts every data key under it, and then destroys the old one.
//!
//! What a crash leaves: `kek.next` before the commit, which the next erasure uses; after it `kek.next` or `kek.old`, which
//! the same command, run again, brings to an end. Until then both keys are at hand, and nothing is lost or called done.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use ledger::domain::id::LedgerId;
use ledger::store::embedded::Home;
use ledger::store::keys::Kek;

use crate::database::{environment_key, kek_file, read_private, write_private};
use crate::environment::Environment;
use crate::exit::{Exit, Failure, environment as prevented};

/// What became of the old key-encryption key.
pub(crate) enum Old {
    /// This program overwrote and removed its file.
    Destroyed,
    /// It is not here: the operator has replaced it in the environment, or its file is gone or never was in this home.
    Absent,
    /// The operator still has to.
    InUse {
        /// How.
        hint: String,
    },
}

/// Where a home's key-encryption keys are kept.
pub(crate) struct Epochs<'a> {
    environment: &'a Environment,
    home: &'a Home,
}

impl<'a> Epochs<'a> {
    pub(crate) fn new(environment: &'a Environment, home: &'a Home) -> Self {
        Self { environment, home }
    }

    fn in_files(&self) -> bool {
        self.variable().is_none()
    }

    fn variable(&self) -> Option<&'static str> {
        let set = |name: &&'static str| self.environment.get(name).is_some();
        ["LEDGER_KEK", "LEDGER_KEK_COMMAND"].into_iter().find(set)
    }

    fn file(&self, ending: &str) -> PathBuf {
        kek_file(self.home).with_extension(ending)
    }

    /// Keeps other erasures and new ledgers of this home out until it is dropped.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let path = self.file("lock");
        let what = format!("lock {}", path.display());
        let file = File::create(&path).map_err(prevented(what.clone()))?;
        file.lock().map_err(prevented(what))?;
        Ok(file)
    }

    /// The key-encryption key that is to come.
    pub(crate) fn next(&self) -> Result<Kek, Failure> {
        if let Some(kek) = from_variable(self.environment, "LEDGER_KEK_NEXT")? {
            if self.in_files() {
                return Err(Failure::usage(
                    "LEDGER_KEK_NEXT is set, and the key-encryption key is a file of the home",
                )
                .hint("nothing was erased; unset LEDGER_KEK_NEXT, and the program draws the next key itself"));
            }
            return Ok(kek);
        }
        if let Some(variable) = self.variable() {
            return Err(Failure::usage(format_args!(
                "{variable} gives the key-encryption key, so this program cannot replace it"
            ))
            .hint(
                "nothing was erased; draw another (`openssl rand -hex 32`), keep it where you keep this one, \
                 set LEDGER_KEK_NEXT to it beside, and run the same command again",
            ));
        }
        let path = self.file("next");
        if let Some(kek) = read_kek(&path)? {
            return Ok(kek);
        }
        let kek = Kek::generate().map_err(environment_key)?;
        write_private(&path, &kek.to_hex())?;
        sync_folder(&path)?;
        read_kek(&path)?.ok_or_else(|| {
            let what = format!("read {} back", path.display());
            Failure::new(Exit::Environment, anyhow::anyhow!(what))
        })
    }

    /// Whether a successor lies in the home already.
    pub(crate) fn is_begun(&self) -> bool {
        self.file("next").exists()
    }

    /// Removes a successor that nothing was put under.
    pub(crate) fn give_up(&self) -> Result<(), Failure> {
        if !self.in_files() {
            return Ok(());
        }
        destroy(&self.file("next"))
    }

    /// Refuses a new ledger while an erasure is under way: it would be wrapped by a key that is about to go.
    pub(crate) fn check_settled(&self) -> Result<(), Failure> {
        if !self.in_files() {
            return Ok(());
        }
        let left = [self.file("next"), self.file("old")];
        let Some(path) = left.iter().find(|path| path.exists()) else {
            return Ok(());
        };
        let what = anyhow::anyhow!("an erasure is under way in this home: {}", path.display());
        Err(Failure::new(Exit::No, what)
            .hint("nothing was made; bring it to its end with `ledger erase OWNER` and run the same command again"))
    }

    /// Refuses to go on where a ledger that was made from this home lies in another database: its keys cannot be put under the
    /// new key-encryption key from here, and would be lost with the old.
    pub(crate) fn check_alone(&self, here: &BTreeSet<LedgerId>) -> Result<(), Failure> {
        let folder = self.home.path().join("checkpoint-keys");
        let what = format!("read the folder {}", folder.display());
        let files = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(prevented(what.clone()))?,
        };
        let mut elsewhere = BTreeSet::new();
        for file in files {
            let name = file.map_err(prevented(what.clone()))?.file_name();
            let name = name.to_string_lossy();
            let id = name.split('.').next().unwrap_or_default();
            elsewhere.extend(id.parse::<LedgerId>().ok().filter(|id| !here.contains(id)));
        }
        let Some(id) = elsewhere.first() else {
            return Ok(());
        };
        Err(Failure::new(
            Exit::No,
            anyhow::anyhow!(
                "ledger {id} was made from this home and is not in this database: \
                 with the old key-encryption key it would become unreadable"
            ),
        )
        .hint(format!(
            "no key was destroyed; give each database a LEDGER_HOME and a key of its own, or, where that ledger is no more, \
             move {}/{id} away",
            folder.display()
        )))
    }

    /// Destroys the old key where this program keeps it, once everything is under the one in force. Can be repeated.
    pub(crate) fn finish(&self, in_force: &str, kek_before: &str) -> Result<Old, Failure> {
        if let Some(variable) = self.variable() {
            let keks = crate::database::keks(self.environment, self.home, false)?;
            let is_first = keks.first().is_some_and(|kek| kek.id() == in_force);
            if is_first && keks.iter().all(|kek| kek.id() != kek_before) {
                return Ok(Old::Absent);
            }
            let hint = if is_first {
                "nothing is under the old key any more: destroy it wherever it is kept, unset LEDGER_KEK_OLD, and run the same \
                 command again, which records it"
                    .to_owned()
            } else {
                format!(
                    "do not destroy the old key yet; make {variable} give what LEDGER_KEK_NEXT holds, set LEDGER_KEK_OLD to the \
                     old key, unset LEDGER_KEK_NEXT, and run the same command again, which looks for what is still under it"
                )
            };
            return Ok(Old::InUse { hint });
        }
        let (current, next, old) = (kek_file(self.home), self.file("next"), self.file("old"));
        if read_kek(&next)?.is_some_and(|kek| kek.id() == in_force) {
            if read_kek(&current)?.is_some_and(|kek| kek.id() != in_force) {
                keep_as(&current, &old)?;
            }
            let what = format!("put {} in force", next.display());
            fs::rename(&next, &current).map_err(prevented(what))?;
            sync_folder(&current)?;
        }
        if read_kek(&current)?.is_none_or(|kek| kek.id() != in_force) {
            let what = anyhow::anyhow!("{} is not the key in force, {in_force}", current.display());
            return Err(Failure::new(Exit::Environment, what)
                .hint("bring the key that the erasure used to this home"));
        }
        match read_kek(&old)? {
            None => Ok(Old::Absent),
            Some(kek) if kek.id() == kek_before => {
                destroy(&old)?;
                Ok(Old::Destroyed)
            }
            Some(kek) => {
                let what = format!("{} is {}, not {kek_before}", old.display(), kek.id());
                Err(Failure::new(Exit::Environment, anyhow::anyhow!(what)).hint(
                    "no key was destroyed; find out where that key comes from and move it away",
                ))
            }
        }
    }
}

/// A second name for the old key, under which it is destroyed after its own has gone to the new one.
fn keep_as(current: &Path, old: &Path) -> Result<(), Failure> {
    match fs::hard_link(current, old) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(prevented(format!("set {} aside", current.display()))),
    }
}

/// Overwrites and removes a file. On journaling and copying file systems the old blocks may outlive that; so may copies.
fn destroy(path: &Path) -> Result<(), Failure> {
    let destroy = || -> std::io::Result<()> {
        let mut file = match File::options().write(true).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        file.write_all(&vec![b'0'; length])?;
        file.sync_all()?;
        fs::remove_file(path)
    };
    destroy().map_err(prevented(format!("destroy {}", path.display())))?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(prevented(format!("write the folder {}", folder.display())))
}

/// A key in a file of the home.
pub(crate) fn read_kek(path: &Path) -> Result<Option<Kek>, Failure> {
    let Some(text) = read_private(path)? else {
        return Ok(None);
    };
    Kek::from_hex(&text)
        .map(Some)
        .map_err(|error| Failure::usage(error).hint(format!("look at {}", path.display())))
}

/// A key in a variable.
pub(crate) fn from_variable(environment: &Environment, name: &str) -> Result<Option<Kek>, Failure> {
    let kek = environment.get(name).map(Kek::from_hex).transpose();
    kek.map_err(|error| Failure::usage(error).hint(format!("{name} is wrong")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ledger::store::embedded::EmbeddedEnv;

    use super::*;

    struct Files {
        folder: tempfile::TempDir,
        environment: Environment,
        home: Home,
    }

    impl Files {
        fn new(files: &[(&str, &Kek)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let inside = folder.path().join("home");
            let home = Home::resolve(Some(inside), &EmbeddedEnv::from_process()).unwrap();
            for (name, kek) in files {
                write_private(&home.path().join(name), &kek.to_hex()).unwrap();
            }
            Self {
                folder,
                environment: Environment::of(BTreeMap::new()),
                home,
            }
        }

        fn names(&self) -> BTreeMap<String, String> {
            let files = fs::read_dir(self.home.path()).unwrap();
            let files = files.map(|file| file.unwrap());
            files
                .filter(|file| file.file_name().to_string_lossy().starts_with("kek"))
                .map(|file| {
                    let text = fs::read_to_string(file.path()).unwrap();
                    let id = Kek::from_hex(&text).unwrap().id().to_owned();
                    (file.file_name().into_string().unwrap(), id)
                })
                .collect()
        }
    }

    #[test]
    fn whatever_a_crash_leaves_the_end_is_one_key_the_one_in_force() {
        let (old, new) = (Kek::generate().unwrap(), Kek::generate().unwrap());
        for files in [
            // Right after the commit, after the link, and after the rename.
            &[("kek", &old), ("kek.next", &new)][..],
            &[("kek", &old), ("kek.old", &old), ("kek.next", &new)],
            &[("kek", &new), ("kek.old", &old)],
        ] {
            let home = Files::new(files);
            let epochs = Epochs::new(&home.environment, &home.home);
            let finish = || epochs.finish(new.id(), old.id());
            assert!(matches!(finish(), Ok(Old::Destroyed)));
            // What is not here any more, this run does not claim to have destroyed.
            assert!(matches!(finish(), Ok(Old::Absent)));
            let expected = BTreeMap::from([("kek".to_owned(), new.id().to_owned())]);
            assert_eq!(home.names(), expected);
            drop(home.folder);
        }
    }

    #[test]
    fn nothing_is_destroyed_before_the_new_key_is_in_force() {
        let (old, new) = (Kek::generate().unwrap(), Kek::generate().unwrap());
        let home = Files::new(&[("kek", &old), ("kek.next", &new)]);
        let epochs = Epochs::new(&home.environment, &home.home);
        let before = home.names();
        // Begun and not committed: the same key is used when it is begun again.
        assert!(matches!(epochs.finish(old.id(), "kek-0"), Ok(Old::Absent)));
        assert_eq!(home.names(), before);
        assert_eq!(epochs.next().unwrap().id(), new.id());
        assert!(epochs.finish("kek-0000000000000000", old.id()).is_err());
        assert_eq!(home.names(), before);
    }

    #[test]
    fn a_key_that_a_variable_gives_is_the_operators_to_replace() {
        let (old, new) = (Kek::generate().unwrap(), Kek::generate().unwrap());
        let mut home = Files::new(&[]);
        let mut variables = BTreeMap::from([("LEDGER_KEK".to_owned(), old.to_hex().to_string())]);
        home.environment = Environment::of(variables.clone());
        let epochs = Epochs::new(&home.environment, &home.home);
        let refused = epochs.next().unwrap_err();
        assert!(refused.hint.unwrap().contains("LEDGER_KEK_NEXT"));
        variables.insert("LEDGER_KEK_NEXT".to_owned(), new.to_hex().to_string());
        home.environment = Environment::of(variables.clone());
        let epochs = Epochs::new(&home.environment, &home.home);
        assert_eq!(epochs.next().unwrap().id(), new.id());
        let Ok(Old::InUse { hint }) = epochs.finish(new.id(), old.id()) else {
            panic!("the old key is still given")
        };
        assert!(hint.starts_with("do not destroy the old key yet"));
        assert!(!hint.contains(old.to_hex().as_str()) && !hint.contains(new.to_hex().as_str()));
        variables.insert("LEDGER_KEK".to_owned(), new.to_hex().to_string());
        variables.remove("LEDGER_KEK_NEXT");
        variables.insert("LEDGER_KEK_OLD".to_owned(), old.to_hex().to_string());
        home.environment = Environment::of(variables.clone());
        let epochs = Epochs::new(&home.environment, &home.home);
        let Ok(Old::InUse { hint }) = epochs.finish(new.id(), old.id()) else {
            panic!("the old key is still given")
        };
        assert!(hint.contains("unset LEDGER_KEK_OLD"));
        variables.remove("LEDGER_KEK_OLD");
        home.environment = Environment::of(variables);
        let epochs = Epochs::new(&home.environment, &home.home);
        let finished = epochs.finish(new.id(), old.id());
        assert!(matches!(finished, Ok(Old::Absent)));
        assert_eq!(home.names(), BTreeMap::new());
    }

    #[test]
    fn a_variable_does_not_replace_a_file() {
        let (old, new) = (Kek::generate().unwrap(), Kek::generate().unwrap());
        let mut home = Files::new(&[("kek", &old)]);
        let next = ("LEDGER_KEK_NEXT".to_owned(), new.to_hex().to_string());
        home.environment = Environment::of(BTreeMap::from([next]));
        let epochs = Epochs::new(&home.environment, &home.home);
        assert_eq!(epochs.next().unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_ledger_of_this_home_that_lies_elsewhere_stops_it() {
        let home = Files::new(&[]);
        let folder = home.home.path().join("checkpoint-keys");
        fs::create_dir(&folder).unwrap();
        let id = "0197f1c2-0000-7000-8000-000000000000";
        fs::write(folder.join(id), "").unwrap();
        fs::write(folder.join(format!("{id}.last")), "").unwrap();
        let epochs = Epochs::new(&home.environment, &home.home);
        assert!(epochs.check_alone(&BTreeSet::new()).is_err());
        let here = BTreeSet::from([id.parse().unwrap()]);
        assert!(epochs.check_alone(&here).is_ok());
    }
}
