//! The reader against a small PostgREST.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response as AxumResponse};
use axum::routing::get;
use serde_json::json;

use super::*;
use crate::clients::http::HttpLimits;
use crate::clients::testing::{Server, TestTiming};

type Tables = BTreeMap<&'static str, Vec<serde_json::Value>>;

#[derive(Default)]
struct Database {
    tables: Tables,
    max_rows: usize,
    /// Called before each answer, with its number.
    before: Option<fn(usize, &mut Tables)>,
    answered: usize,
    /// What it says that there are, where that is not true.
    counted: Option<u64>,
    limits: Vec<String>,
    error: Option<(u16, &'static str)>,
}

type Shared = Arc<Mutex<Database>>;

async fn select(
    State(database): State<Shared>,
    Path(table): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> AxumResponse {
    let mut database = database.lock().expect("database");
    let database = &mut *database;
    assert_eq!(headers["apikey"], "sb_secret_made-up");
    assert_eq!(headers["authorization"], "Bearer sb_secret_made-up");
    assert_eq!(headers["prefer"], "count=exact");
    if let Some((status, body)) = database.error {
        return (StatusCode::from_u16(status).expect("a status"), body).into_response();
    }
    if let Some(change) = database.before {
        change(database.answered, &mut database.tables);
    }
    database.answered += 1;
    let Some(rows) = database.tables.get(table.as_str()) else {
        let body = json!({"code": "PGRST205", "message": "no such table", "details": null});
        return (StatusCode::NOT_FOUND, body.to_string()).into_response();
    };
    if query["select"].contains("updated_at") && table == "plain" {
        let body = json!({"code": "42703", "message": "column does not exist"});
        return (StatusCode::BAD_REQUEST, body.to_string()).into_response();
    }
    let id = |row: &serde_json::Value| row["id"].as_str().unwrap_or_default().to_owned();
    let mut rows: Vec<_> = rows.clone();
    match query.get("order").map(String::as_str) {
        Some("id.asc") => rows.sort_by_key(id),
        Some(_) => rows.sort_by_key(|row| std::cmp::Reverse(row["updated_at"].to_string())),
        None => rows.reverse(),
    }
    if let Some(after) = query
        .get("id")
        .and_then(|filter| filter.strip_prefix("gt."))
    {
        rows.retain(|row| id(row).as_str() > after);
    }
    let total = rows.len();
    database.limits.push(query["limit"].clone());
    rows.truncate(
        query["limit"]
            .parse::<usize>()
            .expect("a limit")
            .min(database.max_rows),
    );
    let total = database.counted.unwrap_or(total as u64);
    let range = match rows.len() {
        0 => format!("*/{total}"),
        came => format!("0-{}/{total}", came - 1),
    };
    let status = if (rows.len() as u64) < total {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    (status, [("content-range", range)], json!(rows).to_string()).into_response()
}

fn rows(count: usize) -> Vec<serde_json::Value> {
    let row = |number| json!({"id": format!("{number:08}-0000-4000-8000-000000000000"), "updated_at": "2026-01-14T00:00:00+00:00"});
    (0..count).map(row).collect()
}

async fn world(database: Database) -> (Server, Shared, SupabaseReader) {
    let shared = Arc::new(Mutex::new(database));
    let router = Router::new()
        .route("/rest/v1/{table}", get(select))
        .with_state(shared.clone());
    let server = Server::start(router).await;
    let config = server.config();
    let transport = ReadTransport::open(&config, HttpLimits::default()).expect("a client");
    let timing = Arc::new(TestTiming::default());
    let reader = SupabaseReader::new(&config, transport, RetryPolicy::default(), timing);
    (server, shared, reader)
}

fn tables<const N: usize>(tables: [(&'static str, usize); N]) -> Database {
    let tables = tables
        .into_iter()
        .map(|(name, count)| (name, rows(count)))
        .collect();
    Database {
        tables,
        max_rows: 1_000,
        ..Database::default()
    }
}

#[tokio::test]
async fn a_count_that_cannot_be_true_is_no_whole_read() {
    for counted in [u64::MAX, u64::MAX - 1, 7] {
        let (_server, _, reader) = world(Database {
            counted: Some(counted),
            ..tables([("cases", 3)])
        })
        .await;
        let refused = reader.read_table("cases").await.err();
        assert!(refused.expect("no whole read").is_incomplete(), "{counted}");
    }
}

#[tokio::test]
async fn a_table_larger_than_a_page_comes_whole() {
    for max_rows in [1_000, 300] {
        let (_server, shared, reader) = world(Database {
            max_rows,
            ..tables([("cases", 2_347)])
        })
        .await;
        let read = reader.read_table("cases").await.expect("a whole read");
        assert_eq!(
            (read.rows.len(), read.page_rows, read.moved()),
            (2_347, max_rows, false)
        );
        let ids: std::collections::HashSet<_> = read.rows.iter().map(|row| &row.id).collect();
        assert_eq!(ids.len(), 2_347);
        let limits = &shared.lock().expect("database").limits;
        assert_eq!(limits[1], "1000");
        assert!(
            limits[2..limits.len() - 1]
                .iter()
                .all(|limit| *limit == max_rows.to_string())
        );
    }
}

#[tokio::test]
async fn a_table_that_moves_is_read_again_and_one_that_never_rests_is_incomplete() {
    let once = |number: usize, tables: &mut Tables| {
        if number == 2 {
            tables.insert("cases", rows(1_500));
        }
    };
    let (_server, _, reader) = world(Database {
        before: Some(once),
        ..tables([("cases", 1_400)])
    })
    .await;
    assert_eq!(
        reader
            .read_table("cases")
            .await
            .expect("a whole read")
            .rows
            .len(),
        1_500
    );

    let always = |number: usize, tables: &mut Tables| {
        tables.insert("cases", rows(1_400 + number));
    };
    let (_server, _, reader) = world(Database {
        before: Some(always),
        ..tables([("cases", 0)])
    })
    .await;
    let error = reader.read_table("cases").await.expect_err("no whole read");
    assert!(error.is_incomplete(), "{error}");
}

#[tokio::test]
async fn the_users_table_is_found_or_asked_for() {
    let (_server, _, reader) = world(tables([("users", 2)])).await;
    assert_eq!(
        reader.users_table(None).await.expect("one table"),
        UsersTable::Users
    );
    let missing = reader
        .users_table(Some(UsersTable::PermUsers))
        .await
        .expect_err("not there");
    assert!(matches!(
        missing.kind,
        SupabaseErrorKind::NoUsersTable { chosen: Some(_) }
    ));

    for (perm_users, users, same) in [(2, 3, false), (2, 2, true)] {
        let (_server, _, reader) =
            world(tables([("perm_users", perm_users), ("users", users)])).await;
        let both = reader.users_table(None).await.expect_err("two tables");
        assert!(both.to_string().contains("--users-table"), "{both}");
        let SupabaseErrorKind::TwoUsersTables { same_ids, .. } = both.kind else {
            panic!("{both}");
        };
        assert_eq!(same_ids, same);
        let chosen = reader
            .users_table(Some(UsersTable::Users))
            .await
            .expect("a choice");
        assert_eq!(chosen, UsersTable::Users);
    }

    let (_server, _, reader) = world(tables([])).await;
    let none = reader.users_table(None).await.expect_err("no table");
    assert!(matches!(
        none.kind,
        SupabaseErrorKind::NoUsersTable { chosen: None }
    ));
}

#[tokio::test]
async fn no_users_is_no_success() {
    let (_server, _, reader) = world(tables([("perm_users", 0)])).await;
    let none = reader
        .read_users(UsersTable::PermUsers)
        .await
        .expect_err("no users");
    assert!(matches!(none.kind, SupabaseErrorKind::NoUsers { .. }));
    assert!(none.to_string().contains("row-level security"));
    assert_eq!(
        reader
            .count("calendar_sync_channels")
            .await
            .expect("an answer"),
        None
    );
}

#[tokio::test]
async fn a_table_without_updated_at_is_marked_by_its_count() {
    let (_server, _, reader) = world(tables([("plain", 3)])).await;
    let mark = reader.mark("plain").await.expect("a mark");
    assert_eq!(
        mark,
        TableMark {
            count: 3,
            updated_at: None
        }
    );
}

#[tokio::test]
async fn errors_have_their_class_and_say_what_to_do() {
    for (status, body, class, says) in [
        (
            401,
            r#"{"code":"PGRST301","message":"JWT invalid"}"#,
            ErrorClass::Auth,
            "SUPABASE_KEY",
        ),
        (
            403,
            r#"{"code":"42501","message":"denied"}"#,
            ErrorClass::Refused,
            "42501",
        ),
        (540, "paused", ErrorClass::Server, "the project is paused"),
        (
            503,
            r#"{"code":"PGRST001"}"#,
            ErrorClass::Server,
            "attempt 6",
        ),
        (404, "<html>", ErrorClass::NotFound, "404"),
    ] {
        let (_server, _, reader) = world(Database {
            error: Some((status, body)),
            ..Database::default()
        })
        .await;
        let error = reader.users_table(None).await.expect_err(says);
        assert_eq!((error.class(), error.failure.status), (class, Some(status)));
        assert!(error.to_string().contains(says), "{error}");
    }
}
