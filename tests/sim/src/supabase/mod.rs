//! v1's Supabase project as its REST interface shows it: PostgREST on `/rest/v1/<table>`.
//!
//! Source: PostgREST 12 reference (tables and views, pagination and count, errors) and Supabase's gateway. Made to trap a
//! careless client as the real one does: at most `max_rows` rows without a word, and no order unless one is asked for.

mod filter;
mod select;
mod table;
mod write;

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub use table::{Cell, Column, ColumnType, Database, Table};
pub use write::Writes;

use crate::dice::Dice;
use crate::fernet::hmac_sha256;
use crate::http::{Call, Incoming, Reply};
use filter::Condition;

/// Who a key makes the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Row-level security hides every row.
    Anon,
    /// Sees all.
    Service,
}

/// The project.
#[derive(Debug)]
pub(crate) struct SupabaseService {
    pub(crate) database: Database,
    pub(crate) service_key: String,
    pub(crate) anon_key: String,
    /// The project's `max-rows` setting.
    pub(crate) max_rows: usize,
    pub(crate) writes: Writes,
    pub(crate) dice: Dice,
}

/// A project key: a JWT (HS256) whose `role` says who it is.
pub(crate) fn project_key(role: &str, secret: &[u8], issued: i64) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let body = format!(
        "{}.{}",
        part(json!({"alg": "HS256", "typ": "JWT"})),
        part(json!({
            "iss": "supabase",
            "ref": "abcdefghijklmnopqrst",
            "role": role,
            "iat": issued,
            "exp": issued + 315_360_000,
        }))
    );
    let mac = hmac_sha256(secret, body.as_bytes());
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// The project's operation for a request, and its table.
pub(crate) fn route(request: &Incoming) -> Option<(Call, String)> {
    match request.segments.as_slice() {
        [rest, v1, table] if rest == "rest" && v1 == "v1" && !table.is_empty() => {
            let call = match request.method {
                Method::GET | Method::HEAD => Call::Select,
                _ => Call::TableWrite,
            };
            Some((call, table.clone()))
        }
        _ => None,
    }
}

/// PostgREST's error: all four members, null where there is nothing to say.
pub(crate) fn error(
    status: u16,
    code: &str,
    message: &str,
    details: Option<&str>,
    hint: Option<&str>,
) -> Reply {
    Reply::json(
        status,
        &json!({"code": code, "details": details, "hint": hint, "message": message}),
    )
}

/// The usual error for a status, with a given code or the most common one.
pub(crate) fn usual_error(status: u16, code: Option<&str>) -> Reply {
    let (usual, message) = match status {
        401 => ("PGRST301", "No suitable key or wrong key type"),
        403 => ("42501", "permission denied"),
        404 => ("PGRST205", "Could not find the table in the schema cache"),
        416 => ("PGRST103", "Requested range not satisfiable"),
        503 => (
            "PGRST002",
            "Could not query the database for the schema cache. Retrying.",
        ),
        540 => ("540", "Project paused"),
        _ => ("XX000", "internal error"),
    };
    error(status, code.unwrap_or(usual), message, None, None)
}

impl SupabaseService {
    fn role(&self, request: &Incoming) -> Result<Role, Reply> {
        let role_of = |key: &str| {
            if key == self.service_key {
                Ok(Role::Service)
            } else if key == self.anon_key {
                Ok(Role::Anon)
            } else if key.split('.').count() == 3 {
                Err(error(
                    401,
                    "PGRST301",
                    "No suitable key or wrong key type",
                    Some("None of the keys was able to decode the JWT"),
                    None,
                )
                .with_header("www-authenticate", "Bearer error=\"invalid_token\""))
            } else {
                Err(Reply::json(
                    401,
                    &json!({
                        "message": "Invalid API key",
                        "hint": "Double check your Supabase `anon` or `service_role` API key.",
                    }),
                ))
            }
        };
        let Some(key) = request.header("apikey") else {
            return Err(Reply::json(
                401,
                &json!({
                    "message": "No API key found in request",
                    "hint": "No `apikey` request header or url param was found.",
                }),
            ));
        };
        role_of(key)?;
        match request.bearer() {
            // The bearer is what decides: the API key only opens the gate.
            Some(bearer) => role_of(bearer),
            None => Err(
                error(401, "PGRST302", "Anonymous access is disabled", None, None)
                    .with_header("www-authenticate", "Bearer"),
            ),
        }
    }

    /// Answers a request to a table; the flag says whether a row changed.
    pub(crate) fn answer(&mut self, call: Call, table: &str, request: &Incoming) -> (Reply, bool) {
        self.try_answer(call, table, request)
            .unwrap_or_else(|reply| (reply, false))
    }

    fn try_answer(
        &mut self,
        call: Call,
        name: &str,
        request: &Incoming,
    ) -> Result<(Reply, bool), Reply> {
        let role = self.role(request)?;
        let profile = match request.method {
            Method::GET | Method::HEAD => request.header("accept-profile"),
            _ => request.header("content-profile"),
        };
        if profile.is_some_and(|schema| schema != "public") {
            return Err(error(
                406,
                "PGRST106",
                "Invalid schema",
                None,
                Some("Only the following schemas are exposed: public, graphql_public"),
            ));
        }
        let hint = self.database.nearest(name).map(str::to_owned);
        let table = self.database.table_mut(name).ok_or_else(|| {
            error(
                404,
                "PGRST205",
                &format!("Could not find the table 'public.{name}' in the schema cache"),
                None,
                hint.map(|near| format!("Perhaps you meant the table 'public.{near}'"))
                    .as_deref(),
            )
        })?;
        if call == Call::TableWrite {
            return write::answer(table, name, role, self.writes, request);
        }
        read(table, role, request, self.max_rows, &mut self.dice).map(|reply| (reply, false))
    }
}

/// The rows asked for.
#[derive(Debug, Clone, Copy)]
struct Window {
    offset: usize,
    limit: Option<usize>,
}

fn window(request: &Incoming) -> Result<Window, Reply> {
    let number = |name: &str| -> Result<Option<usize>, Reply> {
        request
            .param(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    error(
                        400,
                        "PGRST100",
                        &format!("\"failed to parse {name} ({text})\" (line 1, column 1)"),
                        Some("unexpected character; expecting digits"),
                        None,
                    )
                })
            })
            .transpose()
    };
    let (limit, offset) = (number("limit")?, number("offset")?);
    if limit.is_some() || offset.is_some() {
        return Ok(Window {
            offset: offset.unwrap_or(0),
            limit,
        });
    }
    let Some(range) = request.header("range") else {
        return Ok(Window {
            offset: 0,
            limit: None,
        });
    };
    // A unit other than `items`, or a malformed range, is ignored: RFC 9110 section 14.2.
    let Some((low, high)) = range
        .strip_prefix("items=")
        .unwrap_or(range)
        .split_once('-')
    else {
        return Ok(Window {
            offset: 0,
            limit: None,
        });
    };
    let Ok(low) = low.trim().parse::<usize>() else {
        return Ok(Window {
            offset: 0,
            limit: None,
        });
    };
    match high.trim().parse::<usize>() {
        Ok(high) if high < low => Err(error(
            416,
            "PGRST103",
            "Requested range not satisfiable",
            Some(
                "The lower boundary must be lower than or equal to the upper boundary in the Range header.",
            ),
            None,
        )),
        Ok(high) => Ok(Window {
            offset: low,
            limit: Some(high - low + 1),
        }),
        Err(_) => Ok(Window {
            offset: low,
            limit: None,
        }),
    }
}

fn read(
    table: &Table,
    role: Role,
    request: &Incoming,
    max_rows: usize,
    dice: &mut Dice,
) -> Result<Reply, Reply> {
    let condition = Condition::parse(table, request)?;
    let columns = select::parse(table, request.param("select").unwrap_or("*"))?;
    let order = select::order(table, request.param("order"))?;
    let window = window(request)?;

    let mut rows: Vec<&[Cell]> = match role {
        Role::Anon => Vec::new(),
        Role::Service => table.rows().filter(|row| condition.holds(row)).collect(),
    };
    if order.is_empty() {
        // PostgreSQL owes no order, and does change it between two pages when rows were updated in between.
        dice.shuffle(&mut rows);
    } else {
        rows.sort_by(|a, b| select::compare(&order, a, b));
    }

    let prefer = request
        .headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect::<Vec<_>>();
    let counted = prefer.iter().any(|preference| {
        matches!(
            *preference,
            "count=exact" | "count=planned" | "count=estimated"
        )
    });
    let total = rows.len();
    if counted && window.offset > 0 && window.offset > total {
        return Err(error(
            416,
            "PGRST103",
            "Requested range not satisfiable",
            Some(&format!(
                "An offset of {} was requested, but there are only {total} rows.",
                window.offset
            )),
            None,
        )
        .with_header("content-range", format!("*/{total}")));
    }
    let limit = window.limit.unwrap_or(max_rows).min(max_rows);
    let page: Vec<_> = rows.into_iter().skip(window.offset).take(limit).collect();
    let total_text = if counted {
        total.to_string()
    } else {
        "*".to_owned()
    };
    let range = match page.len() {
        0 => format!("*/{total_text}"),
        len => format!("{}-{}/{total_text}", window.offset, window.offset + len - 1),
    };
    let status = if counted && page.len() < total {
        206
    } else {
        200
    };

    let single = request
        .header("accept")
        .is_some_and(|accept| accept.contains("application/vnd.pgrst.object+json"));
    let mut reply = if single {
        let [row] = page.as_slice() else {
            return Err(error(
                406,
                "PGRST116",
                "Cannot coerce the result to a single JSON object",
                Some(&format!("The result contains {} rows", page.len())),
                None,
            ));
        };
        Reply::json_text(200, select::render(&columns, row))
    } else {
        let rows: Vec<String> = page
            .iter()
            .map(|row| select::render(&columns, row))
            .collect();
        Reply::json_text(status, format!("[{}]", rows.join(",\n ")))
    };
    reply.headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
    if counted {
        reply = reply.with_header("preference-applied", prefer.join(", "));
    }
    if request.method == Method::HEAD {
        reply.body.clear();
    }
    Ok(reply.with_header("content-range", range))
}
