//! Calendars once the cleanup is over: reached with what v1 stored, or with credentials that somebody brings along.

use std::sync::Arc;
use std::time::Duration;

use cleanup_worker::clients::retry::Timing;
use cleanup_worker::config::WorkerConfig;
use cleanup_worker::engine::RunOptions;
use cleanup_worker::executors::Places;
use cleanup_worker::executors::calendar::credentials::CalendarCredentials;
use cleanup_worker::executors::calendar::executor::{CalendarExecutor, CalendarTold};
use cleanup_worker::executors::calendar::reader::Reader;
use ledger::store::Clock;

use super::Common;
use super::cleanup::{config, engine_failure, users_table};
use crate::args::CalendarAccess;
use crate::exit::{Exit, Failure, environment};

/// The calendars, and by whose time their requests go. v2 is not asked anything.
///
/// # Errors
/// The environment or the file of credentials is not as it has to be; nothing was sent then.
pub(super) async fn reach(
    common: &Common<'_>,
    access: &CalendarAccess,
    options: RunOptions,
    clock: Clock,
) -> Result<(Arc<dyn Places>, Arc<dyn Timing>), Failure> {
    let mut config = if access.credentials.is_none() {
        config(common)?
    } else {
        let get = |name: &str| common.environment.get(name).map(str::to_owned);
        WorkerConfig::of_own_credentials(&get)
            .map_err(|error| Failure::new(Exit::Usage, error).hint("nothing was read"))?
    };
    config.convex.clear();
    let reader = Reader::open(config, &options).map_err(environment("set up the HTTP client"))?;
    let timing: Arc<dyn Timing> = reader.timing.clone();
    let places: Arc<dyn Places> = if let Some(path) = &access.credentials {
        let own = CalendarCredentials::open(reader, &options, path);
        Arc::new(own.map_err(|error| Failure::new(Exit::Usage, error).hint("nothing was read"))?)
    } else {
        let told = CalendarTold {
            v2_exports: Vec::new(),
            v2_max_age: Duration::ZERO,
            users_table: users_table(access.users_table.as_deref())?,
            options,
        };
        let executor = CalendarExecutor::open(reader, told, clock).await;
        Arc::new(executor.map_err(engine_failure)?)
    };
    Ok((places, timing))
}
