//! Tables as PostgreSQL holds them, and their values as PostgREST writes them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Timelike, Utc};
use serde_json::Value;

use super::filter::Condition;

/// A value of one column in one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `integer` or `bigint`.
    Int(i64),
    /// `numeric`, as its exact text: a double would lose cents.
    Numeric(String),
    /// `text`, and `uuid` in lower case.
    Text(String),
    /// `date`.
    Date(NaiveDate),
    /// `timestamptz`.
    Instant(DateTime<Utc>),
    /// `timestamp` without a time zone: written without an offset.
    Local(NaiveDateTime),
    /// `jsonb`, and arrays.
    Json(Value),
}

/// The type of a column, as far as reading it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// `uuid`.
    Uuid,
    /// `text`.
    Text,
    /// `boolean`.
    Bool,
    /// `bigint`.
    Int,
    /// `numeric`.
    Numeric,
    /// `date`.
    Date,
    /// `timestamptz`.
    Instant,
    /// `timestamp`.
    Local,
    /// `jsonb`.
    Json,
}

impl ColumnType {
    /// PostgreSQL's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Int => "bigint",
            Self::Numeric => "numeric",
            Self::Date => "date",
            Self::Instant => "timestamp with time zone",
            Self::Local => "timestamp without time zone",
            Self::Json => "jsonb",
        }
    }

    /// The value that a text stands for in a filter; none where PostgreSQL would refuse it.
    pub(crate) fn parse(self, text: &str) -> Option<Cell> {
        match self {
            Self::Uuid => uuid::Uuid::parse_str(text)
                .ok()
                .map(|id| Cell::Text(id.to_string())),
            Self::Text => Some(Cell::Text(text.to_owned())),
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "on" | "1" => Some(Cell::Bool(true)),
                "false" | "f" | "no" | "off" | "0" => Some(Cell::Bool(false)),
                _ => None,
            },
            Self::Int => text.parse().ok().map(Cell::Int),
            Self::Numeric => text
                .parse::<f64>()
                .ok()
                .map(|_| Cell::Numeric(text.to_owned())),
            Self::Date => text.get(..10)?.parse().ok().map(Cell::Date),
            Self::Instant => instant(text).map(Cell::Instant),
            Self::Local => instant(text).map(|at| Cell::Local(at.naive_utc())),
            Self::Json => serde_json::from_str(text).ok().map(Cell::Json),
        }
    }
}

impl ColumnType {
    /// The value that a JSON value stands for in a write; none where PostgreSQL would refuse it.
    pub(crate) fn read(self, value: &Value) -> Option<Cell> {
        match (self, value) {
            (_, Value::Null) => Some(Cell::Null),
            (Self::Json, value) => Some(Cell::Json(value.clone())),
            (_, Value::String(text)) => self.parse(text),
            (_, Value::Bool(_) | Value::Number(_)) => self.parse(&value.to_string()),
            _ => None,
        }
    }
}

/// PostgreSQL takes a timestamp with or without an offset (UTC then), or a date alone.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    // A `+` that was not percent-encoded arrives as a space.
    let text = text.replace(' ', "+").replacen(
        '+',
        " ",
        usize::from(text.as_bytes().get(10) == Some(&b' ')),
    );
    let text = text.replacen(' ', "T", 1);
    if let Ok(at) = DateTime::parse_from_rfc3339(&text) {
        return Some(at.to_utc());
    }
    if let Ok(at) = text.parse::<NaiveDateTime>() {
        return Some(at.and_utc());
    }
    Some(
        text.parse::<NaiveDate>()
            .ok()?
            .and_hms_opt(0, 0, 0)?
            .and_utc(),
    )
}

impl Cell {
    /// A text, or NULL.
    pub fn text(value: Option<impl Into<String>>) -> Self {
        value.map_or(Self::Null, |text| Self::Text(text.into()))
    }

    /// The JSON that PostgREST writes for it.
    pub fn json(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Numeric(text) => text.clone(),
            Self::Text(text) => Value::from(text.as_str()).to_string(),
            Self::Date(date) => format!("\"{date}\""),
            Self::Instant(at) => format!("\"{}+00:00\"", timestamp(at.naive_utc())),
            Self::Local(at) => format!("\"{}\"", timestamp(*at)),
            Self::Json(value) => value.to_string(),
        }
    }

    /// The text that a cast to `text` gives.
    pub fn cast_text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone()),
            // `::text` has a blank where JSON has a T, and the short form of the offset.
            Self::Instant(at) => Some(format!(
                "{}+00",
                timestamp(at.naive_utc()).replace('T', " ")
            )),
            Self::Local(at) => Some(timestamp(*at).replace('T', " ")),
            Self::Date(date) => Some(date.to_string()),
            other => Some(other.json()),
        }
    }

    /// Order as PostgreSQL's `<` has it; none where one side is NULL.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, _) | (_, Self::Null) => None,
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Date(a), Self::Date(b)) => Some(a.cmp(b)),
            (Self::Instant(a), Self::Instant(b)) => Some(a.cmp(b)),
            (Self::Local(a), Self::Local(b)) => Some(a.cmp(b)),
            (Self::Numeric(a), Self::Numeric(b)) => {
                a.parse::<f64>().ok()?.partial_cmp(&b.parse::<f64>().ok()?)
            }
            (a, b) => Some(a.json().cmp(&b.json())),
        }
    }
}

/// ISO 8601 with up to six decimals, trailing zeros left out: PostgreSQL's JSON form.
fn timestamp(at: NaiveDateTime) -> String {
    let mut text = at.format("%Y-%m-%dT%H:%M:%S").to_string();
    let micros = at.nanosecond() / 1_000;
    if micros > 0 {
        text.push_str(format!(".{micros:06}").trim_end_matches('0'));
    }
    text
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ColumnType,
}

/// A table and its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Columns, in order.
    pub columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: &[(&'static str, ColumnType)]) -> Self {
        let columns = columns
            .iter()
            .map(|&(name, kind)| Column { name, kind })
            .collect();
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row: named values, NULL for the rest.
    ///
    /// # Panics
    /// If a name is not a column's.
    pub fn push(&mut self, values: impl IntoIterator<Item = (&'static str, Cell)>) {
        let mut row = vec![Cell::Null; self.columns.len()];
        for (name, cell) in values {
            let at = self.position(name);
            assert!(at.is_some(), "no column {name}");
            row[at.unwrap_or_default()] = cell;
        }
        self.rows.push(row);
    }

    /// Adds a row and returns it.
    pub(crate) fn insert(&mut self, values: &[(usize, Cell)]) -> Vec<Cell> {
        let mut row = vec![Cell::Null; self.columns.len()];
        for (at, cell) in values {
            row[*at] = cell.clone();
        }
        self.rows.push(row.clone());
        row
    }

    /// Changes the rows that meet a condition, and returns them as they are then.
    pub(crate) fn update(
        &mut self,
        condition: &Condition,
        values: &[(usize, Cell)],
    ) -> Vec<Vec<Cell>> {
        let mut changed = Vec::new();
        for row in self.rows.iter_mut().filter(|row| condition.holds(row)) {
            for (at, cell) in values {
                row[*at] = cell.clone();
            }
            changed.push(row.clone());
        }
        changed
    }

    /// Removes the rows that meet a condition, and returns them.
    pub(crate) fn remove(&mut self, condition: &Condition) -> Vec<Vec<Cell>> {
        let (gone, kept) = std::mem::take(&mut self.rows)
            .into_iter()
            .partition(|row| condition.holds(row));
        self.rows = kept;
        gone
    }

    /// Where a column is.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The rows, to be changed as v1 itself would; cells stand in the columns' order.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [Cell]> {
        self.rows.iter_mut().map(Vec::as_mut_slice)
    }

    /// The rows, in the order in which they were added.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[Cell]> {
        self.rows.iter().map(Vec::as_slice)
    }
}

/// The tables of the exposed schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Database(BTreeMap<String, Table>);

impl Database {
    /// Adds a table.
    pub fn add(&mut self, name: impl Into<String>, table: Table) {
        self.0.insert(name.into(), table);
    }

    /// A table by its name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.0.get(name)
    }

    /// A table by its name, to change it.
    pub fn table_mut(&mut self, name: &str) -> Option<&mut Table> {
        self.0.get_mut(name)
    }

    /// A table whose name contains the one asked for or is contained in it: the hint that PostgREST gives.
    pub(crate) fn nearest(&self, name: &str) -> Option<&str> {
        self.0
            .keys()
            .map(String::as_str)
            .find(|have| have.contains(name) || name.contains(have))
    }
}
