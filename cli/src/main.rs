//! The binary `ledger`: reads the arguments, runs one command, prints its error, exits with its status.

mod args;
mod bucket;
mod catalogue;
mod commands;
mod database;
mod environment;
mod epochs;
mod exit;
mod output;
mod publish;
mod signing;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Args;
use crate::environment::Environment;
use crate::exit::Exit;

fn main() -> ExitCode {
    if let Some(code) = ledger::store::embedded::main_if_asked(std::env::args_os()) {
        return code;
    }
    if let Some(code) = cleanup_worker::executors::command::main_if_asked(std::env::args_os()) {
        return code;
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // clap prints help and version to standard output and says so by the status.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Yes
            };
            return if error.print().is_ok() {
                exit.into()
            } else {
                Exit::Environment.into()
            };
        }
    };
    let environment = Environment::from_process();
    output::start_logs(args.verbose, &environment);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&exit::environment("start the runtime")(error));
            return Exit::Environment.into();
        }
    };
    let result = runtime.block_on(commands::run(args, &environment));
    match result {
        Ok(exit) => exit.into(),
        Err(error) if error.is_broken_pipe() => Exit::Yes.into(),
        Err(error) => {
            output::error(&error);
            error.exit.into()
        }
    }
}
