//! `select=` and `order=`.

use std::cmp::Ordering;

use serde_json::Value;

use super::error;
use super::table::{Cell, Table};
use crate::http::Reply;

/// A column of the answer: `alias:column->path->>path::cast`.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    name: String,
    column: usize,
    path: Vec<Step>,
    cast_text: bool,
}

/// A step into a JSON value.
#[derive(Debug, Clone)]
struct Step {
    key: String,
    as_text: bool,
}

pub(crate) fn unknown_column(table: &Table, name: &str) -> Reply {
    let hint = table
        .columns
        .iter()
        .find(|column| column.name.contains(name) || name.contains(column.name))
        .map(|column| {
            format!(
                "Perhaps you meant to reference the column \"{}\".",
                column.name
            )
        });
    error(
        400,
        "42703",
        &format!("column {name} does not exist"),
        None,
        hint.as_deref(),
    )
}

fn unparsable(what: &str, text: &str) -> Reply {
    error(
        400,
        "PGRST100",
        &format!("\"failed to parse {what} ({text})\" (line 1, column 1)"),
        Some("unexpected input"),
        None,
    )
}

/// Reads `select=`.
pub(crate) fn parse(table: &Table, text: &str) -> Result<Vec<Output>, Reply> {
    let mut outputs = Vec::new();
    for item in text.split(',').map(str::trim) {
        if item == "*" || text.is_empty() {
            outputs.extend(table.columns.iter().enumerate().map(|(column, at)| Output {
                name: at.name.to_owned(),
                column,
                path: Vec::new(),
                cast_text: false,
            }));
            continue;
        }
        if item.is_empty() {
            return Err(unparsable("select parameter", text));
        }
        if item.ends_with("()") {
            return Err(error(
                400,
                "PGRST123",
                "Use of aggregate functions is not allowed",
                None,
                None,
            ));
        }
        if item.contains('(') {
            return Err(error(
                400,
                "PGRST200",
                "Could not find a relationship between the tables in the schema cache",
                None,
                None,
            ));
        }
        let (item, cast_text) = match item.split_once("::") {
            None => (item, false),
            Some((item, "text" | "varchar")) => (item, true),
            Some((_, cast)) => {
                return Err(error(
                    400,
                    "42704",
                    &format!("type \"{cast}\" does not exist"),
                    None,
                    None,
                ));
            }
        };
        let (alias, item) = match item.split_once(':') {
            Some((alias, item)) => (Some(alias), item),
            None => (None, item),
        };
        let (column, path) = reference(table, item)?;
        let last = path.last().map(|step| step.key.clone());
        let name = alias.map(str::to_owned).or(last);
        outputs.push(Output {
            name: name.unwrap_or_else(|| table.columns[column].name.to_owned()),
            column,
            path,
            cast_text,
        });
    }
    Ok(outputs)
}

/// A column and the path into it.
fn reference(table: &Table, item: &str) -> Result<(usize, Vec<Step>), Reply> {
    let mut rest = item;
    let end = rest.find("->").unwrap_or(rest.len());
    let name = &rest[..end];
    rest = &rest[end..];
    let column = table
        .position(name)
        .ok_or_else(|| unknown_column(table, name))?;
    let mut path = Vec::new();
    while let Some(step) = rest.strip_prefix("->") {
        let (as_text, step) = match step.strip_prefix('>') {
            Some(step) => (true, step),
            None => (false, step),
        };
        let end = step.find("->").unwrap_or(step.len());
        path.push(Step {
            key: step[..end].to_owned(),
            as_text,
        });
        rest = &step[end..];
    }
    Ok((column, path))
}

fn walk(cell: &Cell, path: &[Step]) -> Cell {
    let Cell::Json(value) = cell else {
        return Cell::Null;
    };
    let mut value = value;
    for step in path {
        let next = match value {
            Value::Array(items) => step.key.parse::<usize>().ok().and_then(|at| items.get(at)),
            other => other.get(&step.key),
        };
        match next {
            None => return Cell::Null,
            Some(found) => value = found,
        }
        if step.as_text {
            return match value {
                Value::Null => Cell::Null,
                Value::String(text) => Cell::Text(text.clone()),
                other => Cell::Text(other.to_string()),
            };
        }
    }
    Cell::Json(value.clone())
}

/// One row as a JSON object.
pub(crate) fn render(outputs: &[Output], row: &[Cell]) -> String {
    let mut text = String::from("{");
    for (index, output) in outputs.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&Value::from(output.name.as_str()).to_string());
        text.push(':');
        let cell = &row[output.column];
        let walked;
        let cell = if output.path.is_empty() {
            cell
        } else {
            walked = walk(cell, &output.path);
            &walked
        };
        if output.cast_text {
            text.push_str(&Cell::text(cell.cast_text()).json());
        } else {
            text.push_str(&cell.json());
        }
    }
    text.push('}');
    text
}

/// One key of `order=`.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    column: usize,
    path: Vec<Step>,
    descending: bool,
    nulls_first: bool,
}

/// Reads `order=`; empty where there is none.
pub(crate) fn order(table: &Table, text: Option<&str>) -> Result<Vec<Key>, Reply> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    text.split(',')
        .map(|item| {
            let mut parts = item.split('.');
            let (column, path) = reference(table, parts.next().unwrap_or_default())?;
            let mut key = Key {
                column,
                path,
                descending: false,
                nulls_first: false,
            };
            let mut nulls = None;
            for part in parts {
                match part {
                    "asc" => key.descending = false,
                    "desc" => key.descending = true,
                    "nullsfirst" => nulls = Some(true),
                    "nullslast" => nulls = Some(false),
                    _ => return Err(unparsable("order", text)),
                }
            }
            // PostgreSQL sorts NULL as larger than everything.
            key.nulls_first = nulls.unwrap_or(key.descending);
            Ok(key)
        })
        .collect()
}

/// Order of two rows.
pub(crate) fn compare(keys: &[Key], a: &[Cell], b: &[Cell]) -> Ordering {
    for key in keys {
        let (left, right);
        let (a, b) = if key.path.is_empty() {
            (&a[key.column], &b[key.column])
        } else {
            left = walk(&a[key.column], &key.path);
            right = walk(&b[key.column], &key.path);
            (&left, &right)
        };
        let null_side = if key.nulls_first {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        let order = match (a, b) {
            (Cell::Null, Cell::Null) => Ordering::Equal,
            (Cell::Null, _) => null_side,
            (_, Cell::Null) => null_side.reverse(),
            (a, b) => {
                let order = a.compare(b).unwrap_or(Ordering::Equal);
                if key.descending {
                    order.reverse()
                } else {
                    order
                }
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// The value that a filter looks at.
pub(crate) struct Reference {
    column: usize,
    path: Vec<Step>,
}

impl Reference {
    pub(crate) fn parse(table: &Table, item: &str) -> Result<Self, Reply> {
        let (column, path) = reference(table, item)?;
        Ok(Self { column, path })
    }

    pub(crate) fn column(&self) -> usize {
        self.column
    }

    pub(crate) fn is_path(&self) -> bool {
        !self.path.is_empty()
    }

    pub(crate) fn value(&self, row: &[Cell]) -> Cell {
        if self.path.is_empty() {
            row[self.column].clone()
        } else {
            walk(&row[self.column], &self.path)
        }
    }
}
