//! The catalogue beside the ledger that a command is about.

use ledger::domain::id::Actor;
use ledger::store::catalogue::CATALOGUE;
use ledger::store::connect::ConnectError;
use ledger::store::{Clock, LedgerRow, Store, ledgers};

use crate::args::Init;
use crate::commands::Common;
use crate::commands::init::make_ledger;
use crate::database::{Database, connect_failure, keks};
use crate::exit::Failure;
use crate::signing;

/// Whether a row is the catalogue's.
pub(crate) fn is_catalogue(row: &LedgerRow) -> bool {
    row.name == CATALOGUE
}

/// The catalogue of a database, if it has one.
pub(crate) async fn open(
    common: &Common<'_>,
    database: &Database,
) -> Result<Option<Store>, Failure> {
    let all = ledgers(&database.pool).await.map_err(connect_failure)?;
    let Some(row) = all.into_iter().find(is_catalogue) else {
        return Ok(None);
    };
    let keks = keks(common.environment, &database.home, false)?;
    let store = Store::open(database.pool.clone(), row, keks, Clock::system());
    signing::hold_back(&database.home, &store).await?;
    Ok(Some(store))
}

/// The catalogue, made where there is none.
pub(crate) async fn ensure(
    common: &Common<'_>,
    database: &Database,
    origin: Option<&str>,
    actor: &Actor,
) -> Result<Store, Failure> {
    loop {
        if let Some(store) = open(common, database).await? {
            return Ok(store);
        }
        let init = Init {
            name: CATALOGUE.to_owned(),
            origin: origin.map(str::to_owned),
            persons: Vec::new(),
            simulated_clock: None,
        };
        match make_ledger(database, common, &init, actor).await {
            Ok(made) => return Ok(made.store),
            // Another `init` was first.
            Err(failure) if is_taken(&failure) => {}
            Err(failure) => return Err(failure),
        }
    }
}

fn is_taken(failure: &Failure) -> bool {
    let taken = failure.error.downcast_ref::<ConnectError>();
    matches!(taken, Some(ConnectError::NameTaken(_)))
}
