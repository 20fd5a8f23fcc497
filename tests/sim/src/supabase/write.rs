//! Changing a table: `POST`, `PATCH` and `DELETE`, where the project lets its callers.

use axum::http::Method;
use serde_json::Value;

use super::filter::Condition;
use super::table::{Cell, Table};
use super::{Role, error, select};
use crate::http::{Incoming, Reply};

/// Whether callers may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writes {
    /// The role has no such grant: 403 `42501`.
    #[default]
    Denied,
    /// The database is in maintenance, as v1 is from its freeze on: 405 `25006`.
    ReadOnly,
    /// Yes.
    Allowed,
}

/// Answers a write; the flag says whether a row changed.
pub(crate) fn answer(
    table: &mut Table,
    name: &str,
    role: Role,
    writes: Writes,
    request: &Incoming,
) -> Result<(Reply, bool), Reply> {
    let verb = match request.method {
        Method::POST => "INSERT",
        Method::PATCH => "UPDATE",
        Method::DELETE => "DELETE",
        _ => {
            return Err(error(
                405,
                "PGRST117",
                "Unsupported HTTP method",
                None,
                None,
            ));
        }
    };
    let refused = |status, code, message: &str| Err(error(status, code, message, None, None));
    match writes {
        Writes::Denied => {
            return refused(403, "42501", &format!("permission denied for table {name}"));
        }
        Writes::ReadOnly => {
            let message = format!("cannot execute {verb} in a read-only transaction");
            return refused(405, "25006", &message);
        }
        Writes::Allowed => {}
    }
    if role == Role::Anon && verb == "INSERT" {
        let message = format!("new row violates row-level security policy for table \"{name}\"");
        return refused(401, "42501", &message);
    }
    let condition = Condition::parse(table, request)?;
    if verb != "INSERT" && condition.is_empty() {
        // Supabase loads pg-safeupdate.
        return refused(400, "21000", &format!("{verb} requires a WHERE clause"));
    }
    let changed = match verb {
        "INSERT" => insert(table, name, request)?,
        _ if role == Role::Anon => Vec::new(),
        "UPDATE" => {
            let values = values(table, name, &body(request)?)?;
            table.update(&condition, &values)
        }
        _ => table.remove(&condition),
    };
    let status = if verb == "INSERT" { 201 } else { 204 };
    let wanted = request
        .header("prefer")
        .is_some_and(|p| p.contains("return=representation"));
    if !wanted {
        return Ok((Reply::empty(status), !changed.is_empty()));
    }
    let columns = select::parse(table, request.param("select").unwrap_or("*"))?;
    let rows: Vec<String> = changed
        .iter()
        .map(|row| select::render(&columns, row))
        .collect();
    let status = if verb == "INSERT" { 201 } else { 200 };
    Ok((
        Reply::json_text(status, format!("[{}]", rows.join(","))),
        !changed.is_empty(),
    ))
}

fn body(request: &Incoming) -> Result<Value, Reply> {
    serde_json::from_slice(&request.body)
        .map_err(|_| error(400, "PGRST102", "Empty or invalid json", None, None))
}

fn insert(table: &mut Table, name: &str, request: &Incoming) -> Result<Vec<Vec<Cell>>, Reply> {
    let rows = match body(request)? {
        Value::Array(rows) => rows,
        row => vec![row],
    };
    let rows = rows
        .iter()
        .map(|row| values(table, name, row))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().map(|row| table.insert(&row)).collect())
}

/// The columns and values that a JSON object names.
fn values(table: &Table, name: &str, object: &Value) -> Result<Vec<(usize, Cell)>, Reply> {
    let Value::Object(fields) = object else {
        return Err(error(
            400,
            "PGRST102",
            "All object keys must match",
            None,
            None,
        ));
    };
    fields
        .iter()
        .map(|(column, value)| {
            let at = table.position(column).ok_or_else(|| {
                let message =
                    format!("Could not find the '{column}' column of '{name}' in the schema cache");
                error(400, "PGRST204", &message, None, None)
            })?;
            let kind = table.columns[at].kind;
            let cell = kind.read(value).ok_or_else(|| {
                let message = format!("invalid input syntax for type {}: {value}", kind.name());
                error(400, "22P02", &message, None, None)
            })?;
            Ok((at, cell))
        })
        .collect()
}
