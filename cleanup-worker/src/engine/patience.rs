//! Patience with a database that is away for a moment: restarted, or failed over.

use std::time::Duration;

use ledger::store::{AppendError, is_away};

use super::EngineError;

/// How long it is waited for, as long as an append is.
const TRIES: u32 = 20;
const WAIT: Duration = Duration::from_secs(1);

/// Asks again where the database gave no answer. Only for what may be asked twice.
pub(super) async fn patiently<T, E, F>(mut ask: impl FnMut() -> F) -> Result<T, EngineError>
where
    E: Into<EngineError>,
    F: Future<Output = Result<T, E>>,
{
    let mut tries = 1;
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error.into(),
        };
        // Such an append has been patient already.
        let is_over = matches!(
            error,
            EngineError::Append(AppendError::CommitUnknown { .. })
        );
        if is_over || !is_away(&error) || tries == TRIES {
            return Err(error);
        }
        tracing::warn!(%error, "the database gave no answer; trying again");
        tokio::time::sleep(WAIT).await;
        tries += 1;
    }
}
