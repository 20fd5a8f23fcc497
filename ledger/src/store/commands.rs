//! Commands of a live run, shared by any number of workers on any number of hosts.
//!
//! A command is taken under a lease of its own, whose fence each of its appends carries; so one place has one worker at a time, and
//! what a worker that was thought dead still sends is refused. The run's row keeps what all workers have to agree upon: the pace, why
//! nothing new may be begun, and how much went wrong so far.

use std::time::Duration;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{Fence, Store, query};
use crate::domain::hash::Hash;
use crate::domain::id::{RunId, Subject};

/// The commands of a run could not be written or taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The database's answer.
    #[error("{what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        #[source]
        source: sqlx::Error,
    },
    /// A row is not what this program writes.
    #[error("{what}: column {column} is not what this program writes")]
    Row {
        /// What was tried.
        what: &'static str,
        /// Which column.
        column: &'static str,
    },
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> CommandError {
    move |source| CommandError::Database { what, source }
}

/// A run as its workers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The run.
    pub run: RunId,
    /// The plan that it executes.
    pub plan: Hash,
    /// What it was told, as JSON.
    pub told: String,
}

/// What a run begins with.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The run.
    pub run: RunId,
    /// The plan that it executes.
    pub plan: Hash,
    /// What it was told, as JSON without personal data.
    pub told: String,
    /// Commands start at least this far apart.
    pub interval: Duration,
    /// Only so many commands, the first by position.
    pub first_only: Option<u64>,
    /// Why nothing new may be begun; then only what was left open is settled.
    pub stopped: Option<String>,
}

/// One command to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommand {
    /// The place's owner.
    pub subject: Subject,
    /// Order in which commands are taken.
    pub position: u64,
    /// An earlier run left something open there.
    pub settles: bool,
}

/// What asking for a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// This one, under a lease of its own.
    Taken(Box<Claimed>),
    /// None now: it is not time yet, or others are at work on the rest.
    Wait(Duration),
    /// None any more.
    Nothing,
}

/// A command that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The place's owner.
    pub subject: Subject,
    /// Its lease.
    pub fence: Fence,
    /// Somebody held it and let it run out: what they sent may still arrive.
    pub taken_over: bool,
    /// Somebody was there before, in this run.
    pub again: bool,
    /// An earlier run left something open there, and it is not settled yet.
    pub settles: bool,
    /// How the run stands.
    pub standing: Standing,
}

/// How a run stands over all its workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Items that were brought to an end.
    pub ended: u64,
    /// Of these: held or not done.
    pub bad: u64,
    /// Why nothing new may be begun.
    pub stopped: Option<String>,
    /// It is a canary: only so many commands, until a person has looked.
    pub first_only: Option<u64>,
    /// Processes that hold a command now, this one included: what they may do together is shared among them.
    pub hands: u64,
}

/// A command as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// The place's owner.
    pub subject: Subject,
    /// It was brought to its end.
    pub is_done: bool,
    /// What it came to, as it was handed in.
    pub result: Option<String>,
}

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended<'a> {
    /// JSON for the run's report.
    pub result: &'a str,
    /// Items brought to an end now.
    pub ended: u64,
    /// Of these: held or not done.
    pub bad: u64,
    /// Items not brought to an end.
    pub left_over: u64,
}

/// A run's row, locked.
struct Now {
    standing: Standing,
    first_only: Option<i64>,
    /// It is not time for the next start yet.
    wait: Option<Duration>,
}

/// The command that comes next.
struct Next {
    subject: Subject,
    taken: i64,
    settles: bool,
    /// Its last holder let it run out.
    ran_out: bool,
}

const TAKE: &str = "take a command";
/// How often it is looked whether others are done.
const POLL: Duration = Duration::from_millis(250);

/// The commands of a run that may be taken: as long as something is left to be settled, only those where that is.
macro_rules! pending {
    () => {
        "where c.ledger_id = $1 and c.run = $2 and not c.is_done \
            and ($3::bigint is null or c.position < $3) \
            and (not $4 or c.settles or c.taken > 0) \
            and (c.settles or not (select exists ( \
                select from ledger_work.commands o \
                where o.ledger_id = $1 and o.run = $2 and o.settles and not o.is_done \
                    and ($3::bigint is null or o.position < $3))))"
    };
}

fn lease_name(run: RunId, subject: &Subject) -> String {
    format!("command/{}/{}", run.uuid(), subject.uuid())
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

impl Store {
    /// Opens a run for workers, or opens it again: what it left undone is to be taken anew, what it has done stays.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_run(
        &self,
        new: &NewRun,
        commands: &[NewCommand],
    ) -> Result<(), CommandError> {
        let what = "open a run for its workers";
        let mut transaction = self.pool().begin().await.map_err(failed(what))?;
        query(
            "insert into ledger_work.runs as r (ledger_id, run, plan, told, interval_ms, first_only, stopped) \
             values ($1, $2, $3, $4, $5, $6, $7) \
             on conflict (ledger_id, run) do update \
                set told = excluded.told, interval_ms = excluded.interval_ms, first_only = excluded.first_only, \
                    stopped = excluded.stopped, ended = 0, bad = 0, is_open = true",
        )
        .bind(self.id().uuid())
        .bind(new.run.uuid())
        .bind(new.plan.0.as_slice())
        .bind(&new.told)
        .bind(i64::try_from(new.interval.as_millis()).unwrap_or(i64::MAX))
        .bind(new.first_only.map(number))
        .bind(&new.stopped)
        .execute(&mut *transaction)
        .await
        .map_err(failed(what))?;
        let subjects: Vec<String> = commands.iter().map(|one| one.subject.to_string()).collect();
        let positions: Vec<i64> = commands.iter().map(|one| number(one.position)).collect();
        let settles: Vec<bool> = commands.iter().map(|one| one.settles).collect();
        query(
            "insert into ledger_work.commands as c (ledger_id, run, subject, position, settles) \
             select $1, $2, u.subject, u.position, u.settles \
             from unnest($3::text[], $4::bigint[], $5::boolean[]) as u (subject, position, settles) \
             on conflict (ledger_id, run, subject) do update \
                set settles = excluded.settles, is_done = c.is_done and c.left_over = 0 and not excluded.settles",
        )
        .bind(self.id().uuid())
        .bind(new.run.uuid())
        .bind(&subjects)
        .bind(&positions)
        .bind(&settles)
        .execute(&mut *transaction)
        .await
        .map_err(failed(what))?;
        transaction.commit().await.map_err(failed(what))
    }

    /// The runs that workers may join, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_runs(&self) -> Result<Vec<OpenRun>, CommandError> {
        let what = "look for runs that are under way";
        let rows = query(
            "select run, plan, told from ledger_work.runs where ledger_id = $1 and is_open order by run",
        )
        .bind(self.id().uuid())
        .fetch_all(self.pool())
        .await
        .map_err(failed(what))?;
        let open = |row: sqlx::postgres::PgRow| {
            let run: Uuid = row.try_get("run").map_err(failed(what))?;
            let plan: Vec<u8> = row.try_get("plan").map_err(failed(what))?;
            let plan = Hash::from_slice(&plan).ok_or(CommandError::Row {
                what,
                column: "plan",
            })?;
            Ok(OpenRun {
                run: RunId::new(run),
                plan,
                told: row.try_get("told").map_err(failed(what))?,
            })
        };
        rows.into_iter().map(open).collect()
    }

    /// Takes the next command of a run that nobody is at work on, for this long, if its time has come.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim(
        &self,
        run: RunId,
        holder: &str,
        length: Duration,
    ) -> Result<Claim, CommandError> {
        let mut transaction = self.pool().begin().await.map_err(failed(TAKE))?;
        let Some(now) = self.lock_run(&mut transaction, run, holder).await? else {
            return Ok(Claim::Nothing);
        };
        let Some(next) = self.next_free(&mut transaction, run, &now).await? else {
            let left = self.is_any_left(&mut transaction, run, &now).await?;
            return Ok(if left {
                Claim::Wait(POLL)
            } else {
                Claim::Nothing
            });
        };
        if let Some(wait) = now.wait {
            return Ok(Claim::Wait(wait));
        }
        let lease = lease_name(run, &next.subject);
        let number = self
            .mark_taken(
                &mut transaction,
                run,
                &next.subject,
                (&lease, holder, length),
            )
            .await?;
        transaction.commit().await.map_err(failed(TAKE))?;
        Ok(Claim::Taken(Box::new(Claimed {
            subject: next.subject,
            fence: Fence { lease, number },
            taken_over: next.ran_out,
            again: next.taken > 0,
            settles: next.settles,
            standing: now.standing,
        })))
    }

    /// The lock on the run's row puts all who ask in order.
    async fn lock_run(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        holder: &str,
    ) -> Result<Option<Now>, CommandError> {
        let row = query(
            "select extract(epoch from next_start_at - clock_timestamp())::float8 as wait, ended, bad, stopped, first_only, \
                    (select count(distinct l.holder) from ledger_work.leases l \
                     where l.ledger_id = $1 and l.expires_at > '-infinity' and l.expires_at > clock_timestamp() \
                        and l.name like 'command/' || $2::text || '/%' and l.holder <> $3) as others \
             from ledger_work.runs where ledger_id = $1 and run = $2 and is_open for update",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(holder)
        .fetch_optional(connection)
        .await
        .map_err(failed(TAKE))?;
        let Some(row) = row else { return Ok(None) };
        let get = |name: &'static str| row.try_get::<i64, _>(name).map_err(failed(TAKE));
        let wait: f64 = row.try_get("wait").map_err(failed(TAKE))?;
        let wait = (wait > 0.0).then(|| Duration::try_from_secs_f64(wait).unwrap_or(POLL));
        let first_only: Option<i64> = row.try_get("first_only").map_err(failed(TAKE))?;
        Ok(Some(Now {
            standing: Standing {
                first_only: first_only.map(count),
                ended: count(get("ended")?),
                bad: count(get("bad")?),
                stopped: row.try_get("stopped").map_err(failed(TAKE))?,
                hands: 1 + count(get("others")?),
            },
            first_only,
            wait,
        }))
    }

    /// The first command by position that is not done and that nobody holds.
    async fn next_free(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        now: &Now,
    ) -> Result<Option<Next>, CommandError> {
        // Both in the order of an index: the row is found among those that others hold, however many are still to come.
        let row = query(concat!(
            "select c.subject, c.taken, c.settles, coalesce(l.expires_at > '-infinity', false) as ran_out \
             from ledger_work.commands c \
             left join ledger_work.leases l \
                on l.ledger_id = c.ledger_id \
                and l.name = 'command/' || c.run::text || '/' || split_part(c.subject, ':', 2) ",
            pending!(),
            " and coalesce(l.expires_at <= clock_timestamp(), true) order by c.position limit 1",
        ))
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(now.first_only)
        .bind(now.standing.stopped.is_some())
        .fetch_optional(connection)
        .await
        .map_err(failed(TAKE))?;
        let Some(row) = row else { return Ok(None) };
        let subject: String = row.try_get("subject").map_err(failed(TAKE))?;
        Ok(Some(Next {
            subject: subject.parse().map_err(|_| CommandError::Row {
                what: TAKE,
                column: "subject",
            })?,
            taken: row.try_get("taken").map_err(failed(TAKE))?,
            settles: row.try_get("settles").map_err(failed(TAKE))?,
            ran_out: row.try_get("ran_out").map_err(failed(TAKE))?,
        }))
    }

    /// Whether a command is not done that others hold now.
    async fn is_any_left(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        now: &Now,
    ) -> Result<bool, CommandError> {
        query(concat!(
            "select exists (select from ledger_work.commands c ",
            pending!(),
            ") as is_left",
        ))
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(now.first_only)
        .bind(now.standing.stopped.is_some())
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get("is_left"))
        .map_err(failed(TAKE))
    }

    /// Takes a command's lease and moves the time of the next start; gives the lease's number.
    async fn mark_taken(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        subject: &Subject,
        (lease, holder, length): (&str, &str, Duration),
    ) -> Result<i64, CommandError> {
        let number = query(
            "insert into ledger_work.leases as l (ledger_id, name, fence, holder, expires_at) \
             values ($1, $2, 1, $3, clock_timestamp() + make_interval(secs => $4)) \
             on conflict (ledger_id, name) do update \
                set fence = l.fence + 1, holder = excluded.holder, expires_at = excluded.expires_at \
             returning fence",
        )
        .bind(self.id().uuid())
        .bind(lease)
        .bind(holder)
        .bind(length.as_secs_f64())
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| row.try_get("fence"))
        .map_err(failed(TAKE))?;
        query(
            "update ledger_work.commands set taken = taken + 1 where ledger_id = $1 and run = $2 and subject = $3",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(subject.to_string())
        .execute(&mut *connection)
        .await
        .map_err(failed(TAKE))?;
        query(
            "update ledger_work.runs set next_start_at = clock_timestamp() + interval_ms * interval '1 millisecond' \
             where ledger_id = $1 and run = $2",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .execute(&mut *connection)
        .await
        .map_err(failed(TAKE))?;
        Ok(number)
    }

    /// Hands in what a command came to and gives its lease back. False where somebody else has taken it over.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_command(
        &self,
        run: RunId,
        claimed: &Claimed,
        end: Ended<'_>,
    ) -> Result<bool, CommandError> {
        let what = "hand in a command";
        let mut transaction = self.pool().begin().await.map_err(failed(what))?;
        // The run first and then the lease, as whoever claims it: else two could wait for each other.
        query("select from ledger_work.runs where ledger_id = $1 and run = $2 for update")
            .bind(self.id().uuid())
            .bind(run.uuid())
            .execute(&mut *transaction)
            .await
            .map_err(failed(what))?;
        let held = query(
            "update ledger_work.leases set expires_at = '-infinity' \
             where ledger_id = $1 and name = $2 and fence = $3",
        )
        .bind(self.id().uuid())
        .bind(&claimed.fence.lease)
        .bind(claimed.fence.number)
        .execute(&mut *transaction)
        .await
        .map_err(failed(what))?;
        if held.rows_affected() != 1 {
            return Ok(false);
        }
        let ended = query(
            "update ledger_work.commands set is_done = true, settles = false, left_over = $4, result = $5 \
             where ledger_id = $1 and run = $2 and subject = $3 and not is_done",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(claimed.subject.to_string())
        .bind(number(end.left_over))
        .bind(end.result)
        .execute(&mut *transaction)
        .await
        .map_err(failed(what))?;
        if ended.rows_affected() == 0 {
            // Asked again after a lost answer: it was counted.
            return Ok(true);
        }
        query(
            "update ledger_work.runs set ended = ended + $3, bad = bad + $4 where ledger_id = $1 and run = $2",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(number(end.ended))
        .bind(number(end.bad))
        .execute(&mut *transaction)
        .await
        .map_err(failed(what))?;
        transaction.commit().await.map_err(failed(what))?;
        Ok(true)
    }

    /// Says that what an earlier run had left open at a command's place is settled: now others may begin.
    ///
    /// # Errors
    /// The database's.
    pub async fn settled(&self, run: RunId, subject: &Subject) -> Result<(), CommandError> {
        let what = "say that a command is settled";
        query(
            "update ledger_work.commands set settles = false where ledger_id = $1 and run = $2 and subject = $3",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(subject.to_string())
        .execute(self.pool())
        .await
        .map_err(failed(what))?;
        Ok(())
    }

    /// Gives a command back undone, so that the next worker need not wait.
    ///
    /// # Errors
    /// The database's.
    pub async fn give_back(&self, claimed: &Claimed) -> Result<(), CommandError> {
        let what = "give a command back";
        query(
            "update ledger_work.leases set expires_at = '-infinity' \
             where ledger_id = $1 and name = $2 and fence = $3",
        )
        .bind(self.id().uuid())
        .bind(&claimed.fence.lease)
        .bind(claimed.fence.number)
        .execute(self.pool())
        .await
        .map_err(failed(what))?;
        Ok(())
    }

    /// Says to all workers of a run why nothing new may be begun. The first reason stays.
    ///
    /// # Errors
    /// The database's.
    pub async fn stop_run(&self, run: RunId, reason: &str) -> Result<(), CommandError> {
        query(
            "update ledger_work.runs set stopped = coalesce(stopped, $3) where ledger_id = $1 and run = $2",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(reason)
        .execute(self.pool())
        .await
        .map_err(failed("stop a run"))?;
        Ok(())
    }

    /// How a run stands; `None` where it is not open any more.
    ///
    /// # Errors
    /// The database's.
    pub async fn standing(&self, run: RunId) -> Result<Option<Standing>, CommandError> {
        let what = "ask how a run stands";
        let row = query(
            "select ended, bad, stopped, first_only from ledger_work.runs \
             where ledger_id = $1 and run = $2 and is_open",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .fetch_optional(self.pool())
        .await
        .map_err(failed(what))?;
        let standing = |row: sqlx::postgres::PgRow| {
            let first_only: Option<i64> = row.try_get("first_only").map_err(failed(what))?;
            Ok(Standing {
                first_only: first_only.map(count),
                ended: count(row.try_get("ended").map_err(failed(what))?),
                bad: count(row.try_get("bad").map_err(failed(what))?),
                stopped: row.try_get("stopped").map_err(failed(what))?,
                hands: 1,
            })
        };
        row.map(standing).transpose()
    }

    /// Whether there is something to do for one more worker of a run: a command to be taken, or its end, where nobody holds the lease of
    /// its plan.
    ///
    /// # Errors
    /// The database's.
    pub async fn wants_hands(&self, run: RunId, plan_lease: &str) -> Result<bool, CommandError> {
        let what = "ask whether a run has something to do";
        let row = query(
            "select first_only, stopped is not null as is_stopped from ledger_work.runs \
             where ledger_id = $1 and run = $2 and is_open",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .fetch_optional(self.pool())
        .await
        .map_err(failed(what))?;
        let Some(row) = row else { return Ok(false) };
        query(concat!(
            "select exists (select from ledger_work.commands c ",
            pending!(),
            " and not exists (select from ledger_work.leases l \
                where l.ledger_id = c.ledger_id \
                   and l.name = 'command/' || c.run::text || '/' || split_part(c.subject, ':', 2) \
                   and l.expires_at > clock_timestamp())) \
             or not exists (select from ledger_work.leases l \
                where l.ledger_id = $1 and l.name = $5 and l.expires_at > clock_timestamp()) as wants",
        ))
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(row.try_get::<Option<i64>, _>("first_only").map_err(failed(what))?)
        .bind(row.try_get::<bool, _>("is_stopped").map_err(failed(what))?)
        .bind(plan_lease)
        .fetch_one(self.pool())
        .await
        .and_then(|row| row.try_get("wants"))
        .map_err(failed(what))
    }

    /// All commands of a run, in their order.
    ///
    /// # Errors
    /// The database's.
    pub async fn commands(&self, run: RunId) -> Result<Vec<CommandRow>, CommandError> {
        let what = "read the commands of a run";
        let rows = query(
            "select subject, is_done, result from ledger_work.commands \
             where ledger_id = $1 and run = $2 order by position, subject",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .fetch_all(self.pool())
        .await
        .map_err(failed(what))?;
        let command = |row: sqlx::postgres::PgRow| {
            let subject: String = row.try_get("subject").map_err(failed(what))?;
            Ok(CommandRow {
                subject: subject.parse().map_err(|_| CommandError::Row {
                    what,
                    column: "subject",
                })?,
                is_done: row.try_get("is_done").map_err(failed(what))?,
                result: row.try_get("result").map_err(failed(what))?,
            })
        };
        rows.into_iter().map(command).collect()
    }

    /// Ends a run for its workers, and forgets its commands: what they came to is in the log.
    ///
    /// # Errors
    /// The database's.
    pub async fn close_run(&self, run: RunId) -> Result<(), CommandError> {
        let what = "close a run";
        let mut transaction = self.pool().begin().await.map_err(failed(what))?;
        for statement in [
            "update ledger_work.runs set is_open = false where ledger_id = $1 and run = $2",
            "delete from ledger_work.commands where ledger_id = $1 and run = $2",
        ] {
            query(statement)
                .bind(self.id().uuid())
                .bind(run.uuid())
                .execute(&mut *transaction)
                .await
                .map_err(failed(what))?;
        }
        transaction.commit().await.map_err(failed(what))
    }

    /// Whether somebody holds a command of a run, or held one so shortly ago without giving it back that what was sent then may
    /// still arrive.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_worked_on(&self, run: RunId, grace: Duration) -> Result<bool, CommandError> {
        let what = "ask who works on a run";
        query(
            "select exists (select from ledger_work.leases \
                where ledger_id = $1 and name like 'command/' || $2::text || '/%' \
                    and expires_at > clock_timestamp() - make_interval(secs => $3)) as held",
        )
        .bind(self.id().uuid())
        .bind(run.uuid())
        .bind(grace.as_secs_f64())
        .fetch_one(self.pool())
        .await
        .and_then(|row| row.try_get("held"))
        .map_err(failed(what))
    }
}
