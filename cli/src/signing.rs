//! The private keys of checkpoints: files of mode 0600 in the home, or the environment; never the database.

use std::path::{Path, PathBuf};

use ledger::chain::note::{NoteSigner, VerifierKey};
use ledger::domain::id::LedgerId;
use ledger::store::checkpoint::{ProveError, Signed};
use ledger::store::embedded::Home;
use ledger::store::read::ReadError;
use ledger::store::signer::{RecordError, SignerRecord};
use ledger::store::{Clock, Store, ledgers};
use sqlx::PgPool;

use crate::database::{connect_failure, read_private, write_private};
use crate::environment::Environment;
use crate::exit::{Exit, Failure, environment};
use crate::output;

/// Folder of the keys and of the signers' records.
pub(crate) fn folder(home: &Home) -> PathBuf {
    home.path().join("checkpoint-keys")
}

/// What the signer of a ledger has signed last, on this machine.
pub(crate) fn record(home: &Home, ledger: LedgerId) -> SignerRecord {
    SignerRecord::new(&folder(home), ledger)
}

/// The same, for who is about to sign: its folder is there. A home that was empty, since the keys come from the environment, gets
/// one, and the record begins with what the database says was signed last.
pub(crate) fn record_to_sign(home: &Home, ledger: LedgerId) -> Result<SignerRecord, Failure> {
    make_folder(&folder(home))?;
    Ok(record(home, ledger))
}

/// Says what a signer without a record went by.
pub(crate) fn tell_taken_over(signed: &Signed) {
    if let Some(size) = signed.taken_over {
        output::note(format_args!(
            "note: this signer had no record here: the stored checkpoint of {size} entries was taken for the last that was signed; \
             whether more was signed before is not known here"
        ));
    }
}

/// Refuses where a ledger of the database does not hold what was signed for it on this machine: what is about to be written to
/// each of them would stand in the place of what was lost.
pub(crate) async fn check_none_behind(home: &Home, pool: &PgPool) -> Result<(), Failure> {
    for row in ledgers(pool).await.map_err(connect_failure)? {
        let kept = record(home, row.id);
        let Some(signed) = kept.last().map_err(|error| failure(error.into()))? else {
            continue;
        };
        let name = row.name.clone();
        let store = Store::open(pool.clone(), row, Vec::new(), Clock::system());
        let root = match store.head().await {
            Ok(head) if head.size < signed.size() => Ok(None),
            Ok(_) => store.root_at(signed.size()).await.map(Some),
            Err(error) => Err(error.into()),
        };
        // Not closed: that would close the pool, which is the command's.
        drop(store);
        let root = root.map_err(failure)?;
        if root == Some(signed.root()) {
            continue;
        }
        let what = anyhow::anyhow!(
            "ledger {name} does not hold the {} entries that were signed for it here: it was restored from an older backup, or rewritten",
            signed.size()
        );
        return Err(Failure::new(Exit::No, what).hint(format!(
            "no key was destroyed; restore a newer backup, or state the loss with `ledger checkpoint restored \
             --ledger {name} --reason …`, and run the same command again"
        )));
    }
    Ok(())
}

/// Makes a ledger read-only that holds less than what was signed for it on this machine: it was restored from an older backup,
/// and what is written to it would stand in the place of what was lost.
pub(crate) async fn hold_back(home: &Home, store: &Store) -> Result<(), Failure> {
    // A record that cannot be read is named where it matters, by what signs.
    if let Ok(Some(signed)) = record(home, store.id()).last() {
        let head = store.head().await;
        let head = head.map_err(environment("read the head"))?;
        if signed.size() > head.size {
            store.set_behind(signed.size(), head.size);
        }
    }
    Ok(())
}

/// File of a key: the first is called after its ledger, those that were added later by their id as well.
fn file(folder: &Path, ledger: LedgerId, added: Option<&VerifierKey>) -> PathBuf {
    match added {
        None => folder.join(ledger.to_string()),
        Some(key) => folder.join(format!("{ledger}.{:08x}", key.id())),
    }
}

/// The keys at hand for a ledger: `LEDGER_CHECKPOINT_KEY`, several separated by white space, or the files in the home.
pub(crate) fn signers(
    variables: &Environment,
    home: &Home,
    ledger: LedgerId,
) -> Result<Vec<NoteSigner>, Failure> {
    if let Some(text) = variables.get("LEDGER_CHECKPOINT_KEY") {
        let keys = text.split_whitespace().map(NoteSigner::from_signing_key);
        return keys.collect::<Result<_, _>>().map_err(|error| {
            Failure::usage(error)
                .hint("LEDGER_CHECKPOINT_KEY holds keys as the files in checkpoint-keys hold them")
        });
    }
    let folder = folder(home);
    let mut paths = vec![file(&folder, ledger, None)];
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let added = name
            .to_str()
            .and_then(|name| name.strip_prefix(&format!("{ledger}.")))
            .is_some_and(|id| id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        if added {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut signers = Vec::new();
    for path in paths {
        signers.extend(signer_in(&path)?);
    }
    Ok(signers)
}

/// Keeps a key that was added.
pub(crate) fn keep(home: &Home, ledger: LedgerId, signer: &NoteSigner) -> Result<PathBuf, Failure> {
    let path = file(&folder(home), ledger, Some(&signer.verifier_key()));
    make_folder(&folder(home))?;
    write_private(&path, &signer.signing_key())?;
    Ok(path)
}

/// Lays the file of a retired key aside: no checkpoint is signed with it, and a ledger that is put back to before its end can
/// only be taken up again by it. Gives the file's new place, if it was there.
pub(crate) fn lay_aside(
    home: &Home,
    ledger: LedgerId,
    key: &VerifierKey,
) -> Result<Option<PathBuf>, Failure> {
    let folder = folder(home);
    for path in [
        file(&folder, ledger, Some(key)),
        file(&folder, ledger, None),
    ] {
        if signer_in(&path)?.is_some_and(|signer| signer.verifier_key() == *key) {
            let aside = retired_file(&folder, ledger, key);
            let what = format!("rename {}", path.display());
            std::fs::rename(&path, &aside).map_err(environment(what))?;
            return Ok(Some(aside));
        }
    }
    Ok(None)
}

/// The keys that were retired here, for the statement of a restore alone.
pub(crate) fn retired(home: &Home, ledger: LedgerId) -> Result<Vec<NoteSigner>, Failure> {
    let mut signers = Vec::new();
    for entry in std::fs::read_dir(folder(home))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let own = name
            .to_str()
            .and_then(|name| name.strip_prefix(&format!("{ledger}.")))
            .is_some_and(|rest| rest.ends_with(".retired"));
        if own {
            signers.extend(signer_in(&entry.path())?);
        }
    }
    Ok(signers)
}

/// Takes keys into use again that a restored ledger does not know to be retired.
pub(crate) fn take_up(home: &Home, ledger: LedgerId, keys: &[VerifierKey]) -> Result<(), Failure> {
    let folder = folder(home);
    for signer in retired(home, ledger)? {
        let key = signer.verifier_key();
        if keys.contains(&key) {
            let aside = retired_file(&folder, ledger, &key);
            let what = format!("rename {}", aside.display());
            std::fs::rename(&aside, file(&folder, ledger, Some(&key)))
                .map_err(environment(what))?;
        }
    }
    Ok(())
}

fn retired_file(folder: &Path, ledger: LedgerId, key: &VerifierKey) -> PathBuf {
    folder.join(format!("{ledger}.{:08x}.retired", key.id()))
}

fn signer_in(path: &Path) -> Result<Option<NoteSigner>, Failure> {
    let Some(text) = read_private(path)? else {
        return Ok(None);
    };
    let signer = NoteSigner::from_signing_key(text.trim_end());
    signer
        .map(Some)
        .map_err(|error| Failure::usage(error).hint(format!("look at {}", path.display())))
}

/// Makes the folder of the keys, for its owner alone.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(environment(format!("make the folder {}", folder.display())))
}

/// A checkpoint or proof that was not made, with its status and what to do.
pub(crate) fn failure(error: ProveError) -> Failure {
    let (exit, hint) = match &error {
        ProveError::Read(ReadError::Damaged { .. })
        | ProveError::Tree(_)
        | ProveError::Keys { .. } => (Exit::No, "`ledger verify` names what is wrong"),
        ProveError::Behind { .. } => (
            Exit::No,
            "restore a newer backup; or, where there is none, state the loss with \
             `ledger checkpoint restored --reason …`",
        ),
        ProveError::Fork { .. } => (
            Exit::No,
            "somebody rewrote the ledger, or it was restored and written to since: `ledger verify`; a restored one is \
             taken up again with `ledger checkpoint restored --reason …`",
        ),
        ProveError::NoKey { .. } => (
            Exit::Usage,
            "bring a key that is in use (`ledger key list`) to checkpoint-keys in LEDGER_HOME, or set \
             LEDGER_CHECKPOINT_KEY",
        ),
        ProveError::Raced => (Exit::Environment, "run the same command again"),
        ProveError::NotCovered { .. } => (Exit::No, "make one with `ledger checkpoint`"),
        ProveError::NothingLost => (Exit::Usage, "`ledger checkpoint` signs it as it is"),
        ProveError::Record(RecordError::Damaged { .. }) => (
            Exit::Usage,
            "without a backup, remove it only if you know from elsewhere what was signed last",
        ),
        _ => return Failure::new(Exit::Environment, error),
    };
    Failure::new(exit, error).hint(hint)
}
