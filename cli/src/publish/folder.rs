//! Checkpoints as files: `<ledger id>/checkpoint` is the last one, `<ledger id>/checkpoints/<size>` each one, for ever.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::Publication;
use crate::exit::{Exit, Failure, environment};

/// Writes the files, below a folder that is made where it is missing. Gives their paths.
pub(super) async fn put(
    publication: &Publication<'_>,
    folder: &Path,
) -> Result<[PathBuf; 2], Failure> {
    let own = folder.join(publication.folder_name());
    let last = own.join("checkpoint");
    let size = publication.published().size();
    let each = own.join("checkpoints").join(size.to_string());
    match std::fs::read(&last) {
        Ok(found) => {
            let place = last.display().to_string();
            publication.extends(&place, &found).await?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(environment(format!("read {}", last.display()))(error)),
    }
    let what = format!("write below {}", own.display());
    let text = publication.checkpoint.to_string();
    let write = || -> std::io::Result<bool> {
        std::fs::create_dir_all(own.join("checkpoints"))?;
        let draft = own.join(format!(".{}.new", std::process::id()));
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A link never replaces what is there.
        let linked = match std::fs::hard_link(&draft, &each) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            other => other.map(|()| true)?,
        };
        std::fs::rename(&draft, &last)?;
        std::fs::File::open(&own)?.sync_all()?;
        Ok(linked)
    };
    let linked = write().map_err(environment(what.clone()))?;
    if !linked {
        let found = std::fs::read(&each).map_err(environment(what))?;
        publication
            .extends(&each.display().to_string(), &found)
            .await?;
    }
    Ok([last, each])
}

/// The same in a git work tree, as a commit of these two files alone.
pub(super) async fn commit(publication: &Publication<'_>, folder: &Path) -> Result<(), Failure> {
    git(folder, &["rev-parse", "--git-dir"])?;
    let [last, each] = put(publication, folder).await?;
    let files = [&last, &each].map(|path| path.to_string_lossy().into_owned());
    git(folder, &["add", "--", &files[0], &files[1]])?;
    let changed = ["status", "--porcelain", "--", &files[0], &files[1]];
    if git(folder, &changed)?.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{}: checkpoint of {} entries",
        publication.published().origin(),
        publication.published().size()
    );
    // Only where the machine knows no committer.
    let named = git(folder, &["config", "user.email"]).is_ok();
    let identity = [
        "-c",
        "user.name=ledger",
        "-c",
        "user.email=ledger@example.com",
    ];
    let mut arguments: Vec<&str> = if named { Vec::new() } else { identity.to_vec() };
    arguments.extend([
        "commit", "--quiet", "-m", &message, "--", &files[0], &files[1],
    ]);
    git(folder, &arguments).map(drop)
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let what = format!("run git in {}", folder.display());
    let ran = std::process::Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .map_err(environment(what.clone()))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    Err(
        Failure::new(Exit::Environment, anyhow::anyhow!("{said}").context(what))
            .hint("git:DIR takes a git work tree that this user may commit to"),
    )
}
