//! A program as the engine knows it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ledger::domain::identify::{ExecutorLimits, Vocabulary};
use ledger::domain::policy::Policy;
use ledger::projections::explain::{CONDITION, SIGNAL};

use super::declaration::Declaration;
use super::error::{CommandError, Trouble};
use super::inventory;
use super::place::CommandPlace;
use super::process::{Program, Session, WritingProgram};
use crate::clients::retry::{RetryPolicy, Timing};
use crate::engine::EngineError;
use crate::engine::permission::GO_LIVE;
use crate::executors::{
    Executor, Freshness, Inventory, Kinds, Place, Places, PlannedUser, Summary, Unreachable,
};

/// What the command executor is told.
#[derive(Clone)]
pub struct CommandTold {
    /// The program.
    pub program: Program,
    /// Another program that counts the items on its own and prints the number.
    pub count: Option<Program>,
    /// Waits where an error of a request that changes nothing can pass.
    pub retry: RetryPolicy,
    /// Time and chance.
    pub timing: Arc<dyn Timing>,
    /// When the new system went live, for the plan.
    pub go_live: Option<DateTime<Utc>>,
}

/// A kind of item that a program knows how to handle.
pub struct CommandExecutor {
    pub(super) told: CommandTold,
    pub(super) declaration: Arc<Declaration>,
    /// Absent in a dry run, which so has nothing that could send a change.
    writing: Option<WritingProgram>,
    /// The session that said what the program is, for the inventory.
    first: Mutex<Option<Session>>,
}

impl CommandExecutor {
    /// Starts the program with `LEDGER_READ_ONLY=1` and hears what it is; it is never sent a change.
    ///
    /// # Errors
    /// It cannot be started or says nothing that can be used.
    pub async fn for_dry_run(told: CommandTold) -> Result<Self, EngineError> {
        let (session, declaration) = told.program.start().await.map_err(CommandError::from)?;
        Ok(Self {
            told,
            declaration: Arc::new(declaration),
            writing: None,
            first: Mutex::new(Some(session)),
        })
    }

    /// As [`CommandExecutor::for_dry_run`], for a run that executes a plan.
    ///
    /// # Errors
    /// As there.
    pub async fn for_live_run(told: CommandTold) -> Result<Self, EngineError> {
        let (session, declaration) = told.program.start().await.map_err(CommandError::from)?;
        // Each place starts a program of its own, which may write; this one was only asked what it is.
        drop(session);
        Ok(Self {
            writing: Some(WritingProgram::new(told.program.clone())),
            told,
            declaration: Arc::new(declaration),
            first: Mutex::new(None),
        })
    }

    /// What the program declares.
    pub fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    async fn reach(
        &self,
        program: &WritingProgram,
        place: &str,
        users: &[PlannedUser],
    ) -> Result<Box<dyn Place>, Unreachable> {
        let session = program.start(&self.declaration).await?;
        let users = users.iter().filter_map(|user| user.id.clone()).collect();
        Ok(Box::new(CommandPlace::new(
            program.clone(),
            self.declaration.clone(),
            session,
            (place.to_owned(), users),
            (self.told.retry, self.told.timing.clone()),
        )))
    }

    /// The session that is there, or another one.
    pub(super) async fn session(&self) -> Result<Session, Trouble> {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(session) = first {
            return Ok(session);
        }
        let (session, declaration) = self.told.program.start().await?;
        if declaration == *self.declaration {
            Ok(session)
        } else {
            Err(Trouble::Changed)
        }
    }
}

#[async_trait]
impl Places for CommandExecutor {
    fn kinds(&self) -> Kinds {
        self.declaration.kinds.clone()
    }

    async fn prepare(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn address(&self, _user: &str) -> Option<String> {
        None
    }

    async fn open(
        &self,
        place: &str,
        users: &[PlannedUser],
    ) -> Result<Box<dyn Place>, Unreachable> {
        let Some(writing) = &self.writing else {
            return Err(Trouble::Refused("this is a dry run".to_owned()).into());
        };
        self.reach(writing, place, users).await
    }

    async fn look(
        &self,
        place: &str,
        users: &[PlannedUser],
    ) -> Result<Box<dyn Place>, Unreachable> {
        let looking = WritingProgram::told_to_look(self.told.program.clone());
        self.reach(&looking, place, users).await
    }
}

#[async_trait]
impl Executor for CommandExecutor {
    fn vocabulary(&self) -> Vocabulary<'_> {
        self.declaration.vocabulary()
    }

    fn limits(&self) -> ExecutorLimits {
        self.declaration.limits
    }

    fn header(&self) -> BTreeMap<String, String> {
        let counted = match self.told.count {
            Some(_) => "by another command",
            None => "by the program",
        };
        let go_live = self.told.go_live;
        let mut header = BTreeMap::from([
            (
                GO_LIVE.to_owned(),
                go_live.map_or("unknown".to_owned(), |at| at.to_rfc3339()),
            ),
            (
                "declaration".to_owned(),
                self.declaration.digest.to_string(),
            ),
            ("counted".to_owned(), counted.to_owned()),
        ]);
        for (name, value) in &self.declaration.header {
            header.insert(format!("program.{name}"), value.clone());
        }
        // What a reviewer is told of them later, without the program.
        let vocabulary = self.declaration.vocabulary();
        for (names, prefix) in [
            (vocabulary.signals, SIGNAL),
            (vocabulary.conditions, CONDITION),
        ] {
            let meanings = names
                .iter()
                .map(|named| (format!("{prefix}{}", named.name), named.meaning.to_string()));
            header.extend(meanings);
        }
        header
    }

    async fn inventory(
        &self,
        policy: &Policy,
        to: &mut dyn Inventory,
    ) -> Result<Summary, EngineError> {
        inventory::inventory(self, policy, to).await
    }

    async fn fresh_until(&self) -> Option<Freshness> {
        None
    }

    fn accepts(&self, plan_header: &BTreeMap<String, String>) -> Result<(), EngineError> {
        let planned = |name: &str| plan_header.get(name).map(String::as_str);
        for (name, value) in &self.declaration.header {
            let before = planned(&format!("program.{name}")).unwrap_or("nothing");
            if before != value {
                return Err(EngineError::Refused(format!(
                    "the plan was made where the program said {name} {before}, and it says {value} now: run it as \
                     it was run then"
                )));
            }
        }
        let digest = self.declaration.digest.to_string();
        if planned("declaration") != Some(digest.as_str()) {
            return Err(EngineError::Refused(
                "the program declares something else than when the plan was made: make a new plan"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    async fn relied_on(&self, _item: &str) -> Result<Option<Cow<'static, str>>, EngineError> {
        Ok(None)
    }
}
