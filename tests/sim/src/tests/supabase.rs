//! PostgREST's answers, traps and refusals.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Bench, answer};
use crate::{SimConfig, UsersTable, WorldSpec, Writes};

async fn bench(users: usize) -> Bench {
    Bench::with(
        WorldSpec::default().users(users).events_per_user(3),
        SimConfig::default(),
    )
    .await
}

async fn get(bench: &Bench, path: &str) -> Answer {
    answer(bench.table(path)).await
}

fn ids(answer: &Answer) -> Vec<String> {
    let rows = answer.json();
    let rows = rows.as_array().unwrap_or_else(|| panic!("{}", answer.text));
    rows.iter()
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn both_headers_are_needed_and_the_key_decides_what_is_seen() {
    let bench = bench(16).await;
    let env = bench.sim.env();
    let url = format!("{}/rest/v1/perm_users?select=id", env["SUPABASE_URL"]);
    let key = env["SUPABASE_KEY"].clone();
    let anon = bench.sim.world().keys.anon_key.clone();
    let ask = async |apikey: Option<&str>, bearer: Option<&str>| {
        let mut request = bench.http.get(&url);
        if let Some(key) = apikey {
            request = request.header("apikey", key);
        }
        if let Some(key) = bearer {
            request = request.bearer_auth(key);
        }
        answer(request).await
    };
    assert_eq!(ids(&ask(Some(&key), Some(&key)).await).len(), 16);
    let hidden = ask(Some(&anon), Some(&anon)).await;
    assert_eq!((hidden.status, hidden.text.as_str()), (200, "[]"));
    let none = ask(None, Some(&key)).await;
    assert_eq!(
        (none.status, &none.json()["message"]),
        (401, &"No API key found in request".into())
    );
    assert_eq!(ask(Some(&key), None).await.json()["code"], "PGRST302");
    let forged = format!("{key}x");
    let wrong = ask(Some(&forged), Some(&forged)).await;
    assert_eq!(
        (wrong.status, &wrong.json()["code"]),
        (401, &"PGRST301".into())
    );
    assert_eq!(
        ask(Some("nonsense"), Some("nonsense")).await.json()["message"],
        "Invalid API key"
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_bare_select_is_cut_at_max_rows_without_a_word() {
    let bench = bench(1_203).await;
    let bare = get(&bench, "perm_users?select=id").await;
    assert_eq!((bare.status, ids(&bare).len()), (200, 1_000));
    assert_eq!(bare.header("content-range"), "0-999/*");
    assert_eq!(
        ids(&get(&bench, "perm_users?limit=5000").await).len(),
        1_000
    );
    let counted = answer(bench.table("perm_users").header("prefer", "count=exact")).await;
    assert_eq!(
        (counted.status, counted.header("content-range")),
        (206, "0-999/1203")
    );
    let head = bench
        .table("perm_users")
        .header("prefer", "count=exact")
        .build()
        .unwrap();
    let url = head.url().clone();
    let mut head_request = bench.http.head(url);
    for (name, value) in head.headers() {
        head_request = head_request.header(name, value);
    }
    let head = answer(head_request).await;
    assert_eq!(
        (head.header("content-range"), head.text.as_str()),
        ("0-999/1203", "")
    );

    let (mut all, mut last) = (Vec::new(), String::new());
    loop {
        let from = if last.is_empty() {
            String::new()
        } else {
            format!("&id=gt.{last}")
        };
        let page = ids(&get(&bench, &format!("perm_users?order=id.asc&limit=500{from}")).await);
        let Some(end) = page.last() else { break };
        last.clone_from(end);
        all.extend(page);
    }
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 1_203);
    assert!(all.is_sorted());
    bench.sim.set_max_rows(100);
    assert_eq!(ids(&get(&bench, "perm_users?limit=500").await).len(), 100);
    bench.sim.stop().await;
}

#[tokio::test]
async fn pages_without_an_order_repeat_and_skip_rows() {
    let bench = bench(400).await;
    let mut all = Vec::new();
    for offset in [0, 100, 200, 300] {
        let page = get(
            &bench,
            &format!("perm_users?select=id&limit=100&offset={offset}"),
        )
        .await;
        all.extend(ids(&page));
    }
    assert_eq!(all.len(), 400);
    assert!(all.iter().collect::<BTreeSet<_>>().len() < 400);
    bench.sim.stop().await;
}

#[tokio::test]
async fn ranges_are_honoured_and_those_beyond_the_end_refused() {
    let bench = bench(30).await;
    let range = |range: &str| {
        answer(
            bench
                .table("perm_users?order=id.asc")
                .header("range-unit", "items")
                .header("range", range)
                .header("prefer", "count=exact"),
        )
    };
    let some = range("0-9").await;
    assert_eq!((some.status, some.header("content-range")), (206, "0-9/30"));
    assert_eq!(range("0-99").await.status, 200);
    let beyond = range("40-49").await;
    assert_eq!(
        (beyond.status, &beyond.json()["code"]),
        (416, &"PGRST103".into())
    );
    assert_eq!(range("9-3").await.status, 416);
    let uncounted = get(&bench, "perm_users?offset=40").await;
    assert_eq!((uncounted.status, uncounted.text.as_str()), (200, "[]"));
    bench.sim.stop().await;
}

#[tokio::test]
async fn filters_select_and_refuse() {
    let bench = bench(30).await;
    let count =
        async |query: &str| ids(&get(&bench, &format!("perm_users?select=id&{query}")).await).len();
    let all = ids(&get(&bench, "perm_users?order=id.asc").await);
    assert_eq!(count(&format!("id=eq.{}", all[3])).await, 1);
    assert_eq!(count(&format!("id=eq.{}", all[3].to_uppercase())).await, 1);
    assert_eq!(count(&format!("id=neq.{}", all[3])).await, 29);
    assert_eq!(count(&format!("id=gt.{}", all[9])).await, 20);
    assert_eq!(count(&format!("id=lte.{}", all[9])).await, 10);
    assert_eq!(count(&format!("id=in.({},{})", all[0], all[1])).await, 2);
    assert_eq!(count("deleted_at=is.null").await, 29);
    assert_eq!(count("deleted_at=not.is.null").await, 1);
    let connected = count("calendar_connected=is.true").await;
    assert_eq!(connected + count("calendar_connected=eq.false").await, 30);
    assert_eq!(
        count("or=(deleted_at.not.is.null,calendar_connected.is.true)").await,
        connected
    );
    assert_eq!(count("email=like.*%40example.com").await, 29);
    assert_eq!(count("email=ilike.*%40example.com").await, 30);
    assert!(count("created_at=gte.2025-06-01T00:00:00%2B00:00").await < 30);

    for (path, status, code) in [
        ("nosuch", 404, "PGRST205"),
        ("users", 404, "PGRST205"),
        ("perm_users?select=nosuch", 400, "42703"),
        ("perm_users?nosuch=eq.1", 400, "42703"),
        ("perm_users?order=nosuch", 400, "42703"),
        ("perm_users?id=eq.abc", 400, "22P02"),
        ("perm_users?created_at=gt.yesterday", 400, "22007"),
        ("perm_users?id=like", 400, "PGRST100"),
        ("perm_users?id=frob.1", 400, "PGRST100"),
        ("perm_users?limit=x", 400, "PGRST100"),
        ("perm_users?select=count()", 400, "PGRST123"),
    ] {
        let refused = get(&bench, path).await;
        let body = refused.json();
        assert_eq!(
            (refused.status, body["code"].as_str()),
            (status, Some(code)),
            "{path}"
        );
        for member in ["details", "hint", "message"] {
            assert!(body.get(member).is_some(), "{path}: no {member}");
        }
    }
    let hint = get(&bench, "users").await.json()["hint"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(hint.contains("perm_users"), "{hint}");
    let schema = answer(bench.table("perm_users").header("accept-profile", "auth")).await;
    assert_eq!(
        (schema.status, &schema.json()["code"]),
        (406, &"PGRST106".into())
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn values_are_written_as_postgrest_writes_them() {
    let bench = bench(16).await;
    let row = &get(
        &bench,
        "cases?select=id,pwd_wage_amount,created_at,calendar_last_synced_at,calendar_event_ids,pwd_wage_amount::text,key:calendar_event_ids->>pwd_expiration&calendar_event_ids->>pwd_expiration=not.is.null&limit=1",
    )
    .await;
    let value = &row.json()[0];
    assert!(row.text.contains("\"pwd_wage_amount\":"), "{}", row.text);
    assert!(value["created_at"].as_str().unwrap().ends_with("+00:00"));
    assert!(
        !value["calendar_last_synced_at"]
            .as_str()
            .unwrap()
            .contains('+')
    );
    assert_eq!(value["calendar_event_ids"]["pwd_expiration"], value["key"]);
    let shapes = get(&bench, "cases?select=id,calendar_event_ids")
        .await
        .json();
    let kinds: BTreeSet<&str> = shapes
        .as_array()
        .unwrap()
        .iter()
        .map(|row| match &row["calendar_event_ids"] {
            Value::Null => "null",
            Value::String(_) => "text",
            Value::Array(_) => "array",
            _ => "object",
        })
        .collect();
    assert_eq!(kinds, BTreeSet::from(["array", "null", "object", "text"]));
    bench.sim.stop().await;
}

#[tokio::test]
async fn writes_are_refused() {
    let bench = bench(16).await;
    let env = bench.sim.env();
    let url = format!("{}/rest/v1/cases?id=not.is.null", env["SUPABASE_URL"]);
    for method in [
        reqwest::Method::POST,
        reqwest::Method::PATCH,
        reqwest::Method::DELETE,
    ] {
        let refused = answer(
            bench
                .http
                .request(method, &url)
                .header("apikey", &env["SUPABASE_KEY"])
                .bearer_auth(&env["SUPABASE_KEY"])
                .json(&serde_json::json!({"notes": "x"})),
        )
        .await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (403, &"42501".into())
        );
    }
    bench.sim.stop().await;
}

#[tokio::test]
async fn writes_change_rows_only_where_they_are_allowed() {
    let bench = bench(16).await;
    let env = bench.sim.env();
    let key = &env["SUPABASE_KEY"];
    let send = async |method: Method, path: &str, body: Value| {
        let request = bench
            .http
            .request(method, format!("{}/rest/v1/{path}", env["SUPABASE_URL"]));
        let request = request.header("apikey", key).bearer_auth(key);
        answer(
            request
                .header("prefer", "return=representation")
                .json(&body),
        )
        .await
    };
    let id = ids(&get(&bench, "cases?select=id&order=id&limit=1").await).remove(0);
    let one = format!("cases?id=eq.{id}");
    let note = json!({"notes": "x"});
    bench.sim.set_writes(Writes::ReadOnly);
    let frozen = send(Method::PATCH, &one, note.clone()).await;
    assert_eq!(
        (frozen.status, &frozen.json()["code"]),
        (405, &"25006".into())
    );

    bench.sim.set_writes(Writes::Allowed);
    let patched = send(Method::PATCH, &one, note.clone()).await;
    assert_eq!(
        (patched.status, &patched.json()[0]["notes"]),
        (200, &"x".into())
    );
    for (method, path, body, code) in [
        (Method::PATCH, "cases", note.clone(), "21000"),
        (Method::DELETE, "cases", note.clone(), "21000"),
        (
            Method::PATCH,
            one.as_str(),
            json!({"nosuch": 1}),
            "PGRST204",
        ),
        (
            Method::PATCH,
            one.as_str(),
            json!({"created_at": "soon"}),
            "22P02",
        ),
    ] {
        let refused = send(method, path, body).await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (400, &code.into()),
            "{path}"
        );
    }
    let new = json!({"id": "00000000-0000-4000-8000-000000000001", "pwd_wage_amount": 10.5});
    let inserted = send(Method::POST, "cases", new).await;
    assert_eq!(
        (inserted.status, &inserted.json()[0]["pwd_wage_amount"]),
        (201, &json!(10.5))
    );
    assert_eq!(send(Method::DELETE, &one, note).await.status, 200);
    assert_eq!(get(&bench, &one).await.text, "[]");
    bench.sim.stop().await;
}

#[tokio::test]
async fn the_user_table_has_either_name_or_both() {
    for (table, present) in [
        (UsersTable::PermUsers, [200, 404]),
        (UsersTable::Users, [404, 200]),
        (UsersTable::Both, [200, 200]),
    ] {
        let spec = WorldSpec {
            users_table: table,
            ..WorldSpec::default().users(16)
        };
        let bench = Bench::with(spec, SimConfig::default()).await;
        let seen = [
            get(&bench, "perm_users").await.status,
            get(&bench, "users").await.status,
        ];
        assert_eq!(seen, present);
        bench.sim.stop().await;
    }
}
