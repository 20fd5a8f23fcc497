//! v1's database through Supabase's REST interface (PostgREST), read-only.
//!
//! Source: PostgREST's reference (<https://docs.postgrest.org>: pagination and count, errors) and Supabase's API settings, whose `max-rows` cuts every
//! answer, silently, to 1,000 rows by default. So every page states the exact count of what it is a part of, and a read whose rows are not as many
//! as were counted is an error, never a result.

pub mod error;
pub mod rows;

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::HeaderName;
use serde_json::value::RawValue;
use url::Url;

pub use self::error::{PostgrestError, SupabaseError, SupabaseErrorKind};
pub use self::rows::{RawRow, V1Case, V1Channel, V1User};
use crate::clients::ErrorClass;
use crate::clients::http::{ReadTransport, Request, Response};
use crate::clients::retry::{RetryPolicy, Timing};
use crate::config::WorkerConfig;
use crate::secrets::Secret;

/// Supabase's default `max-rows`; the server's own page size is learnt from its first answer.
const PAGE_ROWS: usize = 1_000;
/// Where v1's two-way sync would have kept its channels.
const CHANNELS_TABLE: &str = "calendar_sync_channels";
/// A table that changes while it is read is read again, up to so many times.
const READS: u32 = 3;

/// The two names v1's documents give the users' table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsersTable {
    /// What the running program reads.
    PermUsers,
    /// What the first migration made.
    Users,
}

impl UsersTable {
    /// Both, in the order they are looked for.
    pub const ALL: [Self; 2] = [Self::PermUsers, Self::Users];

    /// The table's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PermUsers => "perm_users",
            Self::Users => "users",
        }
    }
}

impl std::str::FromStr for UsersTable {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|table| table.name() == text);
        named.ok_or("the users' table is `perm_users` or `users`")
    }
}

/// How a table stood at one moment: if it is the same before and after a read, nothing was written meanwhile that shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMark {
    /// Exact number of rows.
    pub count: u64,
    /// The latest `updated_at`, as the server writes it; nothing for a table without that column, or without rows.
    pub updated_at: Option<String>,
}

/// A whole table.
#[derive(Debug, Clone)]
pub struct TableRead<T = Vec<RawRow>> {
    /// What was made of every row, by ascending id.
    pub rows: T,
    /// How many rows the server gives at once.
    pub page_rows: usize,
    /// Before the first page.
    pub before: TableMark,
    /// After the last page.
    pub after: TableMark,
    /// The service's clock at the end.
    pub date: Option<DateTime<Utc>>,
}

impl<T> TableRead<T> {
    /// Whether the table was written to while it was read, each of the times it was.
    pub fn moved(&self) -> bool {
        self.before != self.after
    }
}

/// Reads v1's tables with the service role's key.
#[derive(Clone)]
pub struct SupabaseReader {
    transport: ReadTransport,
    base: Url,
    key: Secret,
    policy: RetryPolicy,
    timing: Arc<dyn Timing>,
}

/// One answer, taken apart.
struct PageOfRows {
    rows: Vec<RawRow>,
    /// Exact count of the rows that the request's filter lets through.
    total: u64,
    date: Option<DateTime<Utc>>,
    attempt: u32,
}

/// A table page by page, by ascending id, so that memory is bounded by a page.
pub struct RowPages<'a> {
    reader: &'a SupabaseReader,
    table: String,
    columns: String,
    page_rows: usize,
    last_id: Option<String>,
    total: Option<u64>,
    received: u64,
    date: Option<DateTime<Utc>>,
    ended: bool,
}

impl RowPages<'_> {
    /// The next page, or `None` once as many rows have come as were counted.
    ///
    /// # Errors
    /// [`SupabaseErrorKind::Incomplete`] where the rows stop short of the count, or the count moves while reading.
    pub async fn next(&mut self) -> Result<Option<Vec<RawRow>>, SupabaseError> {
        if self.ended {
            return Ok(None);
        }
        // Over unless this page says that there is more: after an error there is no way on.
        self.ended = true;
        let mut query = vec![
            ("select", self.columns.clone()),
            ("order", "id.asc".to_owned()),
            ("limit", self.page_rows.to_string()),
        ];
        if let Some(last) = &self.last_id {
            query.push(("id", format!("gt.{last}")));
        }
        let page = self.reader.page(&self.table, &query).await?;
        let total = *self.total.get_or_insert(page.total);
        let came = page.rows.len() as u64;
        // The filter `id > last` counts what is left, so a row that came or went meanwhile shows at once.
        let counted = self.received.checked_add(page.total);
        let left_as_counted = counted == Some(total);
        self.received += came;
        let order = page.rows.iter().try_fold(self.last_id.take(), |last, row| {
            (last.is_none_or(|last| rows::is_before(&last, &row.id))).then(|| Some(row.id.clone()))
        });
        let Some(last_id) = order else {
            return Err(self
                .reader
                .malformed(&page, "the rows are not in the order asked for"));
        };
        if !left_as_counted || came > page.total || (came == 0 && page.total > 0) {
            let kind = SupabaseErrorKind::Incomplete {
                table: self.table.clone(),
                received: self.received,
                total,
            };
            return Err(SupabaseError::new(page.attempt, ErrorClass::Conflict, kind));
        }
        if came < page.total {
            self.page_rows = page.rows.len();
            self.ended = false;
        }
        self.last_id = last_id;
        self.date = page.date;
        Ok(Some(page.rows))
    }
}

impl SupabaseReader {
    /// Reads the project that `config` names.
    pub fn new(
        config: &WorkerConfig,
        transport: ReadTransport,
        policy: RetryPolicy,
        timing: Arc<dyn Timing>,
    ) -> Self {
        let (base, key) = (config.supabase_url.clone(), config.supabase_key.clone());
        Self {
            transport,
            base,
            key,
            policy,
            timing,
        }
    }

    /// Finds the users' table. `chosen` is the operator's choice (`--users-table`), needed only where both names answer.
    ///
    /// # Errors
    /// [`SupabaseErrorKind::NoUsersTable`], or [`SupabaseErrorKind::TwoUsersTables`] with what tells them apart.
    pub async fn users_table(
        &self,
        chosen: Option<UsersTable>,
    ) -> Result<UsersTable, SupabaseError> {
        let perm_users = self.count(UsersTable::PermUsers.name()).await?;
        let users = self.count(UsersTable::Users.name()).await?;
        let kind = match (perm_users, users, chosen) {
            (Some(_), _, Some(UsersTable::PermUsers)) | (Some(_), None, None) => {
                return Ok(UsersTable::PermUsers);
            }
            (_, Some(_), Some(UsersTable::Users)) | (None, Some(_), None) => {
                return Ok(UsersTable::Users);
            }
            (Some(perm_users), Some(users), None) => {
                let same_ids = perm_users == users
                    && self.ids(UsersTable::PermUsers.name()).await?
                        == self.ids(UsersTable::Users.name()).await?;
                SupabaseErrorKind::TwoUsersTables {
                    perm_users,
                    users,
                    same_ids,
                }
            }
            _ => SupabaseErrorKind::NoUsersTable { chosen },
        };
        Err(SupabaseError::new(1, ErrorClass::Refused, kind))
    }

    async fn ids(&self, table: &str) -> Result<Vec<String>, SupabaseError> {
        let mut pages = self.pages_of(table, "id");
        let mut ids = Vec::new();
        while let Some(page) = pages.next().await? {
            ids.extend(page.into_iter().map(|row| row.id));
        }
        Ok(ids)
    }

    /// Exact number of rows of a table, or `None` where there is no such table.
    ///
    /// # Errors
    /// [`SupabaseError`].
    pub async fn count(&self, table: &str) -> Result<Option<u64>, SupabaseError> {
        let query = [("select", "id".to_owned()), ("limit", "1".to_owned())];
        match self.page(table, &query).await {
            Ok(page) => Ok(Some(page.total)),
            Err(error) if error.is_no_such_table() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How a table stands now.
    ///
    /// # Errors
    /// [`SupabaseError`].
    pub async fn mark(&self, table: &str) -> Result<TableMark, SupabaseError> {
        let query = [
            ("select", "id,updated_at".to_owned()),
            ("order", "updated_at.desc.nullslast".to_owned()),
            ("limit", "1".to_owned()),
        ];
        match self.page(table, &query).await {
            Ok(page) => {
                let updated_at = page.rows.first().and_then(|row| row.text("updated_at"));
                Ok(TableMark {
                    count: page.total,
                    updated_at,
                })
            }
            Err(error) if error.is_query_refused() => {
                let query = [("select", "id".to_owned()), ("limit", "1".to_owned())];
                Ok(TableMark {
                    count: self.page(table, &query).await?.total,
                    updated_at: None,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// A table with all its columns, page by page. Soft-deleted rows are rows.
    pub fn pages(&self, table: &str) -> RowPages<'_> {
        self.pages_of(table, "*")
    }

    fn pages_of(&self, table: &str, columns: &str) -> RowPages<'_> {
        RowPages {
            reader: self,
            table: table.to_owned(),
            columns: columns.to_owned(),
            page_rows: PAGE_ROWS,
            last_id: None,
            total: None,
            received: 0,
            date: None,
            ended: false,
        }
    }

    /// A whole table. If it is written to meanwhile it is read again, up to three times; [`TableRead::moved`] tells if it never stood still.
    ///
    /// # Errors
    /// [`SupabaseErrorKind::Incomplete`] where no read brought as many rows as were counted.
    pub async fn read_table(&self, table: &str) -> Result<TableRead, SupabaseError> {
        self.fold_table(table, Vec::push).await
    }

    /// The same, with no more than a page of rows in memory: `take` makes something of each, begun anew where the table is read again.
    ///
    /// # Errors
    /// As [`SupabaseReader::read_table`].
    pub async fn fold_table<T: Default>(
        &self,
        table: &str,
        take: impl Fn(&mut T, RawRow),
    ) -> Result<TableRead<T>, SupabaseError> {
        let mut reads = 1;
        loop {
            match self.read_once(table, &take).await {
                Ok(read) if read.moved() && reads < READS => {}
                Err(error) if error.is_incomplete() && reads < READS => {}
                result => return result,
            }
            reads += 1;
        }
    }

    async fn read_once<T: Default>(
        &self,
        table: &str,
        take: impl Fn(&mut T, RawRow),
    ) -> Result<TableRead<T>, SupabaseError> {
        let before = self.mark(table).await?;
        let mut pages = self.pages(table);
        let mut rows = T::default();
        let mut received = 0;
        while let Some(page) = pages.next().await? {
            received += page.len() as u64;
            for row in page {
                take(&mut rows, row);
            }
        }
        let (page_rows, date) = (pages.page_rows, pages.date);
        let after = self.mark(table).await?;
        if received != after.count {
            let total = after.count;
            let kind = SupabaseErrorKind::Incomplete {
                table: table.to_owned(),
                received,
                total,
            };
            return Err(SupabaseError::new(1, ErrorClass::Conflict, kind));
        }
        Ok(TableRead {
            rows,
            page_rows,
            before,
            after,
            date,
        })
    }

    /// All users, connected or not, soft-deleted or not.
    ///
    /// # Errors
    /// [`SupabaseErrorKind::NoUsers`] where the table is empty for this key: row-level security hides rows without an error.
    pub async fn read_users(&self, table: UsersTable) -> Result<TableRead, SupabaseError> {
        let read = self.read_table(table.name()).await?;
        if read.rows.is_empty() {
            let kind = SupabaseErrorKind::NoUsers { table };
            return Err(SupabaseError::new(1, ErrorClass::Auth, kind));
        }
        Ok(read)
    }

    /// What is made of all cases, soft-deleted ones included.
    ///
    /// # Errors
    /// [`SupabaseError`].
    pub async fn fold_cases<T: Default>(
        &self,
        take: impl Fn(&mut T, RawRow),
    ) -> Result<TableRead<T>, SupabaseError> {
        self.fold_table("cases", take).await
    }

    /// v1's watch channels with the calendars that they watch, or `None` where there is no such table, which is to be expected: the
    /// feature was planned and deferred.
    ///
    /// # Errors
    /// [`SupabaseError`].
    pub async fn read_channels(&self) -> Result<Option<Vec<V1Channel>>, SupabaseError> {
        match self.read_table(CHANNELS_TABLE).await {
            Ok(read) => Ok(Some(read.rows.iter().map(V1Channel::from).collect())),
            Err(error) if error.is_no_such_table() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn page(
        &self,
        table: &str,
        query: &[(&'static str, String)],
    ) -> Result<PageOfRows, SupabaseError> {
        let mut url = self.base.clone();
        let path = format!("{}/rest/v1/{table}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.query_pairs_mut().extend_pairs(query);
        let bearer = &self.key;
        let request = Request::new(error::READ, url)
            .secret_header(HeaderName::from_static("apikey"), &self.key)
            .bearer(bearer)
            .header(HeaderName::from_static("prefer"), "count=exact");
        let call = |attempt| {
            let request = request.clone();
            async move {
                let answer = self
                    .transport
                    .get(request)
                    .await
                    .map_err(|source| SupabaseError::transport(attempt, source))?;
                if !matches!(answer.status, 200 | 206) {
                    return Err(SupabaseError::answered(attempt, &answer));
                }
                parse(attempt, &answer).map_err(|what| {
                    let kind = SupabaseErrorKind::Malformed(what);
                    SupabaseError::new(attempt, ErrorClass::Server, kind).with_answer(&answer)
                })
            }
        };
        self.policy.run(self.timing.as_ref(), call).await
    }

    #[expect(
        clippy::unused_self,
        reason = "reads as one of the reader's own answers"
    )]
    fn malformed(&self, page: &PageOfRows, what: &'static str) -> SupabaseError {
        let kind = SupabaseErrorKind::Malformed(what);
        let mut error = SupabaseError::new(page.attempt, ErrorClass::Server, kind);
        error.failure.date = page.date;
        error
    }
}

/// The rows and the exact count; the error says what is wrong without quoting a row.
fn parse(attempt: u32, answer: &Response) -> Result<PageOfRows, &'static str> {
    let range = answer
        .header("content-range")
        .ok_or("the answer has no Content-Range")?;
    let total = range
        .rsplit('/')
        .next()
        .and_then(|total| total.parse().ok());
    let total = total.ok_or("the answer does not say how many rows there are")?;
    let body = std::str::from_utf8(&answer.body).map_err(|_| "the answer is not UTF-8")?;
    let raw: Vec<&RawValue> =
        serde_json::from_str(body).map_err(|_| "the answer is not a list of rows")?;
    let rows = raw
        .into_iter()
        .map(|row| RawRow::new(Bytes::copy_from_slice(row.get().as_bytes())))
        .collect::<Option<_>>()
        .ok_or("a row has no id")?;
    Ok(PageOfRows {
        rows,
        total,
        date: answer.date,
        attempt,
    })
}

#[cfg(test)]
mod tests;
