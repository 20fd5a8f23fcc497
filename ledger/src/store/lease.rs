//! Leases: one holder at a time, each with a higher fence than the one before. The fence is checked inside `ledger.append`.

use std::time::Duration;

use sqlx::Row as _;

use super::{Fence, Store, query};

/// A lease was not taken, renewed or given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Somebody holds it.
    #[error("{lease} is held by {holder} for another {} s", remaining.as_secs())]
    Held {
        /// Name of the lease.
        lease: String,
        /// Who holds it.
        holder: String,
        /// How long it still runs if it is not renewed.
        remaining: Duration,
    },
    /// Somebody took it over.
    #[error("{lease} was taken over by another holder")]
    Lost {
        /// Name of the lease.
        lease: String,
    },
    /// The database's answer.
    #[error("{what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        #[source]
        source: sqlx::Error,
    },
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> LeaseError {
    move |source| LeaseError::Database { what, source }
}

impl Store {
    /// Takes a lease that nobody holds or that has run out, for this long.
    ///
    /// # Errors
    /// [`LeaseError::Held`] while it runs.
    pub async fn take_lease(
        &self,
        lease: &str,
        holder: &str,
        length: Duration,
    ) -> Result<Fence, LeaseError> {
        let taken = query(
            "insert into ledger_work.leases as l (ledger_id, name, fence, holder, expires_at) \
             values ($1, $2, 1, $3, clock_timestamp() + make_interval(secs => $4)) \
             on conflict (ledger_id, name) do update \
                set fence = l.fence + 1, holder = excluded.holder, expires_at = excluded.expires_at \
                where l.expires_at <= clock_timestamp() \
             returning fence",
        )
        .bind(self.id().uuid())
        .bind(lease)
        .bind(holder)
        .bind(length.as_secs_f64())
        .fetch_optional(self.pool())
        .await
        .map_err(failed("take a lease"))?;
        if let Some(row) = taken {
            let number = row.try_get("fence").map_err(failed("take a lease"))?;
            return Ok(Fence {
                lease: lease.to_owned(),
                number,
            });
        }
        let row = query(
            "select holder, extract(epoch from expires_at - clock_timestamp())::float8 as remaining \
             from ledger_work.leases where ledger_id = $1 and name = $2",
        )
        .bind(self.id().uuid())
        .bind(lease)
        .fetch_one(self.pool())
        .await
        .map_err(failed("ask who holds a lease"))?;
        let remaining: f64 = row
            .try_get("remaining")
            .map_err(failed("ask who holds a lease"))?;
        Err(LeaseError::Held {
            lease: lease.to_owned(),
            holder: row
                .try_get("holder")
                .map_err(failed("ask who holds a lease"))?,
            remaining: Duration::try_from_secs_f64(remaining.max(0.0)).unwrap_or_default(),
        })
    }

    /// Extends a lease that is still ours, run out or not.
    pub async fn renew_lease(&self, fence: &Fence, length: Duration) -> Result<(), LeaseError> {
        self.set_expiry(fence, length, "renew a lease").await
    }

    /// Gives a lease back, so that the next holder need not wait.
    pub async fn release_lease(&self, fence: &Fence) -> Result<(), LeaseError> {
        self.set_expiry(fence, Duration::ZERO, "give a lease back")
            .await
    }

    async fn set_expiry(
        &self,
        fence: &Fence,
        length: Duration,
        what: &'static str,
    ) -> Result<(), LeaseError> {
        let done = query(
            "update ledger_work.leases \
             set expires_at = clock_timestamp() + make_interval(secs => $4) \
             where ledger_id = $1 and name = $2 and fence = $3",
        )
        .bind(self.id().uuid())
        .bind(&fence.lease)
        .bind(fence.number)
        .bind(length.as_secs_f64())
        .execute(self.pool())
        .await
        .map_err(failed(what))?;
        if done.rows_affected() == 1 {
            Ok(())
        } else {
            Err(LeaseError::Lost {
                lease: fence.lease.clone(),
            })
        }
    }
}
