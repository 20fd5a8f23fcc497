//! `ledger witness`: follows other ledgers' checkpoints and cosigns what extends them.

mod client;
mod memory;
pub(crate) mod quorum;
mod server;

use std::collections::HashSet;

use ledger::chain::cosignature::Cosigner;
use ledger::chain::note::{KeyKind, VerifierKey};
use ledger::store::embedded::{EmbeddedEnv, Home};
use ledger::store::keys::random;
use serde::Serialize;
use tokio::net::TcpListener;

use self::memory::{Memory, MemoryError};
use self::server::Witness;
use super::Common;
use crate::args::Witness as Args;
use crate::database::environment_key;
use crate::exit::{Exit, Failure, environment};
use crate::output;

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        Self::new(Exit::Environment, error).hint(
            "one process uses one folder; a lost checkpoint must come back from a backup, or the log ask another witness",
        )
    }
}

#[derive(Serialize)]
struct Started {
    vkey: String,
    address: String,
    logs: Vec<String>,
}

pub(crate) async fn run(common: &Common<'_>, args: &Args) -> Result<Exit, Failure> {
    let logs = logs(&args.log)?;
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => Home::resolve(None, &EmbeddedEnv::from_process())
            .map_err(environment("find LEDGER_HOME"))?
            .path()
            .join("witness"),
    };
    let memory = Memory::open(&folder)?;
    let cosigner = cosigner(&memory, &args.name)?;
    let vkey = cosigner.verifier_key().to_string();
    let listener = TcpListener::bind(&args.listen)
        .await
        .map_err(environment(format!("listen on {}", args.listen)))?;
    let address = listener
        .local_addr()
        .map_err(environment("ask for the address"))?;
    let started = Started {
        vkey,
        address: format!("http://{address}"),
        logs: logs.iter().map(|key| key.name().to_owned()).collect(),
    };
    if common.json {
        output::json(&started)?;
    } else {
        output::line(&started.vkey)?;
        output::note(format_args!("cosigning at {}", started.address));
        for log in &started.logs {
            output::note(format_args!("following {log}"));
        }
    }
    let witness = Witness::new(logs, cosigner, memory);
    server::serve(listener, witness)
        .await
        .map_err(environment("answer requests"))?;
    Ok(Exit::Yes)
}

fn logs(texts: &[String]) -> Result<Vec<VerifierKey>, Failure> {
    let mut keys = Vec::new();
    let mut ids = HashSet::new();
    for text in texts {
        let key: VerifierKey = text.parse().map_err(|error| {
            Failure::new(Exit::Usage, error)
                .hint("give each log's key as `ledger key show --vkey` prints it")
        })?;
        if key.kind() != KeyKind::Ed25519 {
            return Err(Failure::usage("--log takes a log's key, not a witness'"));
        }
        if ids.insert((key.name().to_owned(), key.id())) {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn cosigner(memory: &Memory, name: &str) -> Result<Cosigner, Failure> {
    let text = memory.key(|| {
        let seed = random().map_err(environment_key)?;
        let made = Cosigner::new(name, &seed).map_err(Failure::usage)?;
        Ok::<_, Failure>(made.signing_key())
    })?;
    let cosigner =
        Cosigner::from_signing_key(&text).map_err(environment("read the witness' key"))?;
    let key = cosigner.verifier_key();
    if key.name() == name {
        Ok(cosigner)
    } else {
        let other = format!("the folder's key is of the witness {}", key.name());
        Err(Failure::usage(other).hint("give that name, or another folder with --folder"))
    }
}
