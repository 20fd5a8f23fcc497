//! Stopping in order: the first signal lets what was begun reach its outcome, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure, environment};
use crate::output;

/// Cancelled at the first SIGTERM or Ctrl-C.
pub(crate) fn on_signal() -> Result<CancellationToken, Failure> {
    let listen = || environment("listen for SIGTERM and Ctrl-C");
    let mut term = signal(SignalKind::terminate()).map_err(listen())?;
    let mut int = signal(SignalKind::interrupt()).map_err(listen())?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // It lives as long as the process, and ends it.
    tokio::spawn(async move {
        let mut first = true;
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if !std::mem::take(&mut first) {
                // What was begun is an open intent, which the next run settles.
                std::process::exit(Exit::No as i32);
            }
            output::note(
                "stopping: what was begun reaches its outcome, nothing new starts (again: at once)",
            );
            stopped.cancel();
        }
    });
    Ok(stop)
}
