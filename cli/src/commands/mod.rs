//! One file per command.

mod append;
mod approve;
mod bench;
mod calendars;
mod checkpoint;
mod cleanup;
mod demo;
mod erase;
pub(crate) mod export;
mod hold;
pub(crate) mod init;
mod key;
mod lag;
mod log;
mod loss;
mod prove;
mod report;
mod restore;
mod review;
mod show;
mod subject;
mod verify;
mod verify_bundle;
mod witness;
mod worker;

use clap::CommandFactory as _;

use crate::args::{Args, Command};
use crate::environment::Environment;
use crate::exit::{Exit, Failure};

/// Runs the command that was asked for.
pub(crate) async fn run(args: Args, environment: &Environment) -> Result<Exit, Failure> {
    let common = Common {
        ledger: args.ledger,
        json: args.json,
        actor: args.actor,
        environment,
    };
    match args.command {
        Command::Init(args) => init::run(&common, args).await,
        Command::Append(args) => append::run(&common, args).await,
        Command::Log(args) => log::run(&common, args).await,
        Command::Show(args) => show::run(&common, &args).await,
        Command::Verify(args) => verify::run(&common, args).await,
        Command::Checkpoint(args) => checkpoint::run(&common, args).await,
        Command::Key(args) => key::run(&common, args).await,
        Command::Prove(args) => prove::run(&common, &args).await,
        Command::Export(args) => export::run(&common, args).await,
        Command::Cleanup(args) => Box::pin(cleanup::run(&common, args)).await,
        Command::Restore(args) => restore::run(&common, args).await,
        Command::Worker(args) => worker::run(&common, args).await,
        Command::Demo(args) => demo::run(&common, &args).await,
        Command::Approve(args) => approve::run(&common, &args).await,
        Command::Loss(args) => loss::run(&common, &args).await,
        Command::Report(args) => report::run(&common, args).await,
        Command::Review(args) => review::run(&common, args).await,
        Command::Witness(args) => witness::run(&common, &args).await,
        Command::Erase(args) => erase::run(&common, args).await,
        Command::Hold(args) => hold::run(&common, args).await,
        Command::Retention(args) => hold::retention(&common, args).await,
        Command::Subject(args) => subject::run(&common, args).await,
        Command::Bench(args) => bench::run(&common, &args).await,
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Args::command(),
                "ledger",
                &mut std::io::stdout(),
            );
            Ok(Exit::Yes)
        }
    }
}

/// What every command gets.
pub(crate) struct Common<'a> {
    pub(crate) ledger: Option<String>,
    pub(crate) json: bool,
    pub(crate) actor: Option<String>,
    pub(crate) environment: &'a Environment,
}

impl Common<'_> {
    pub(crate) async fn open(&self) -> Result<crate::database::Session, Failure> {
        crate::database::Session::open(self.ledger.as_deref(), self.environment).await
    }

    pub(crate) fn actor(&self) -> Result<ledger::domain::id::Actor, Failure> {
        self.environment.actor(self.actor.as_deref())
    }
}

/// A failed read: a damaged ledger is a finding, all else the environment.
pub(crate) fn read_failure(error: ledger::store::read::ReadError) -> Failure {
    match error {
        ledger::store::read::ReadError::Damaged { .. } => {
            Failure::new(Exit::No, error).hint("`ledger verify` names each broken entry")
        }
        other => Failure::new(Exit::Environment, other),
    }
}

/// The name of a value as it stands in JSON, `gone_before`.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
