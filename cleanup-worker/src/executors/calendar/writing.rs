//! The one way to change a calendar.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::error::CalendarError;
use super::reader::Reader;
use crate::clients::http::{HttpLimits, WriteTransport};
use crate::config::WorkerConfig;
use crate::engine::RunOptions;

/// The one client that can change calendars, made when something is first to be changed: what only looks never has it.
pub(super) struct Writing {
    config: Arc<WorkerConfig>,
    limits: HttpLimits,
    opened: OnceCell<WriteTransport>,
}

impl Writing {
    /// A write ends well before its lease does.
    pub(super) fn new(reader: &Reader, options: &RunOptions) -> Self {
        Self {
            config: reader.config.clone(),
            limits: HttpLimits {
                request: options.lease.write_limit(),
                ..options.http
            },
            opened: OnceCell::new(),
        }
    }

    pub(super) async fn transport(&self) -> Result<WriteTransport, CalendarError> {
        let open = || async { WriteTransport::open(&self.config, self.limits) };
        Ok(self.opened.get_or_try_init(open).await?.clone())
    }
}
