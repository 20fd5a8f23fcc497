//! Puts checkpoints outside: into a folder, a git work tree, a bucket, another PostgreSQL. What a place holds already is held
//! against the ledger first, so that each place is a witness of its own.

mod folder;
mod postgres;
mod s3;

use std::path::PathBuf;
use std::str::FromStr;

use ledger::chain::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::domain::id::Actor;
use ledger::store::Store;
use sqlx::postgres::PgConnectOptions;

use crate::bucket::Place;
use crate::environment::Environment;
use crate::exit::{Exit, Failure};
use crate::signing;

/// A place for checkpoints.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// `folder:DIR`
    Folder(PathBuf),
    /// `git:DIR`, the top of a work tree or a folder in one.
    Git(PathBuf),
    /// `s3://bucket/prefix`
    S3(Place),
    /// `postgresql://…`, a database of somebody else.
    Postgres(Box<PgConnectOptions>),
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let absolute = |folder: &str| {
            if folder.is_empty() {
                return Err("names no folder".to_owned());
            }
            std::path::absolute(folder).map_err(|error| error.to_string())
        };
        if let Some(folder) = text.strip_prefix("folder:") {
            return absolute(folder).map(Self::Folder);
        }
        if let Some(folder) = text.strip_prefix("git:") {
            return absolute(folder).map(Self::Git);
        }
        if text.starts_with("s3://") {
            return text.parse().map(Self::S3);
        }
        if text.starts_with("postgresql://") || text.starts_with("postgres://") {
            let options = PgConnectOptions::from_str(text);
            // The text is not repeated: it may hold a password.
            let options = options.map_err(|_| "is no PostgreSQL address".to_owned())?;
            return Ok(Self::Postgres(Box::new(options)));
        }
        Err("must be folder:DIR, git:DIR, s3://BUCKET/PREFIX or postgresql://…".to_owned())
    }
}

impl Target {
    /// Where it is, without secrets.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(folder) => format!("folder:{}", folder.display()),
            Self::Git(folder) => format!("git:{}", folder.display()),
            Self::S3(place) => place.to_string(),
            Self::Postgres(options) => format!(
                "postgresql://{}:{}/{}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_default()
            ),
        }
    }
}

/// A checkpoint on its way out.
pub(crate) struct Publication<'a> {
    store: &'a Store,
    /// What is published.
    pub(crate) checkpoint: &'a SignedCheckpoint,
}

impl<'a> Publication<'a> {
    /// A checkpoint of this ledger.
    pub(crate) fn new(store: &'a Store, checkpoint: &'a SignedCheckpoint) -> Self {
        Self { store, checkpoint }
    }

    /// Puts it there and records that, here and in the catalogue.
    pub(crate) async fn put(
        &self,
        target: &Target,
        variables: &Environment,
        catalogue: Option<&Store>,
        actor: &Actor,
    ) -> Result<(), Failure> {
        match target {
            Target::Folder(folder) => drop(folder::put(self, folder).await?),
            Target::Git(folder) => folder::commit(self, folder).await?,
            Target::S3(place) => s3::put(self, variables, place).await?,
            Target::Postgres(options) => postgres::put(self, options).await?,
        }
        let published = self.published();
        let recorded = self
            .store
            .record_publication(published, &target.name(), actor)
            .await;
        recorded.map_err(signing::failure)?;
        if let Some(catalogue) = catalogue.filter(|catalogue| catalogue.id() != self.store.id()) {
            let listed = catalogue.list_ledger(self.store, actor).await;
            listed.map_err(signing::failure)?;
            let listed = catalogue
                .list_checkpoint(self.store.id(), published, actor)
                .await;
            listed.map_err(signing::failure)?;
        }
        Ok(())
    }

    fn published(&self) -> &Checkpoint {
        self.checkpoint.checkpoint()
    }

    /// Name of the ledger's folder in a place that may hold those of several.
    fn folder_name(&self) -> String {
        self.store.id().to_string()
    }

    /// Holds the last checkpoint of a place against the ledger: it has to be the beginning of what is published now, unless
    /// the ledger states the loss of that very checkpoint. Another one of a size that was lost may be of the history that took
    /// the place of the lost one, and a person decides.
    async fn extends(&self, place: &str, found: &[u8]) -> Result<(), Failure> {
        let unreadable = |error| {
            let what = format!("read the checkpoint in {place}");
            Failure::new(Exit::No, anyhow::Error::new(error).context(what))
                .hint("somebody put something else there")
        };
        let found = SignedCheckpoint::parse(found).map_err(unreadable)?;
        let (old, new) = (found.checkpoint(), self.published());
        let keys = self.store.checkpoint_keys().await;
        let keys = keys.map_err(signing::failure)?;
        // Before its signature: its key may be lost with it.
        if keys.lost_exactly(old.size(), &old.root()).is_some() {
            return Ok(());
        }
        keys.verify(&found).map_err(unreadable)?;
        let of_lost_size = keys.lost(old.size()).map(|(seq, restored)| {
            format!(
                "entry {seq} states that entries {} to {} were lost: where the checkpoint in {place} is of them, move it away; \
                 where it was signed since, the ledger was cut or rewritten",
                restored.lost_from, restored.lost_to
            )
        });
        if old.size() > new.size() {
            return Err(Failure::new(
                Exit::No,
                anyhow::anyhow!(
                    "{place} holds a checkpoint of {} entries, and this ledger has one of {}",
                    old.size(),
                    new.size()
                ),
            )
            .hint(of_lost_size.unwrap_or_else(|| {
                "the database was put back to an earlier state, or another signer is ahead"
                    .to_owned()
            })));
        }
        let proof = self.store.prove_consistency(old, new).await;
        proof.map(drop).map_err(|error| {
            let failure = signing::failure(error);
            failure.hint(of_lost_size.unwrap_or_else(|| {
                format!("{place} holds a checkpoint that this ledger does not extend")
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_without_secrets() {
        let name = |text: &str| text.parse::<Target>().map(|target| target.name());
        assert_eq!(name("folder:/srv/out").unwrap(), "folder:/srv/out");
        assert_eq!(name("git:/srv/out").unwrap(), "git:/srv/out");
        assert_eq!(name("s3://bucket/a/b/").unwrap(), "s3://bucket/a/b");
        assert_eq!(
            name("postgresql://me:secret@db.example.com:5433/out").unwrap(),
            "postgresql://db.example.com:5433/out"
        );
        for wrong in ["", "out", "folder:", "s3:///x", "https://example.com"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        let refused = name("postgresql://me:secret@:port/").unwrap_err();
        assert!(!refused.contains("secret"), "{refused}");
    }
}
