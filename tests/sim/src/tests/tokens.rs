//! The token endpoint.

use super::{Bench, answer};
use crate::world::UserKind;

/// Status and `error` of a refusal.
async fn refused(bench: &Bench, fields: &[(&str, &str)]) -> (u16, String) {
    let answer = bench.refresh(fields).await;
    let body = answer.json();
    assert!(body["error_description"].is_string());
    (answer.status, body["error"].as_str().unwrap().to_owned())
}

fn grant_of(bench: &Bench, kind: UserKind) -> String {
    let world = bench.sim.world();
    let user = world.users.iter().find(|user| user.kind == kind).unwrap();
    let account = user.account.as_ref().unwrap();
    let grant = world
        .grants
        .iter()
        .find(|grant| grant.account == *account)
        .unwrap();
    grant.refresh_token.clone()
}

#[tokio::test]
async fn each_refusal_has_its_code() {
    let bench = Bench::start().await;
    let good = grant_of(&bench, UserKind::Connected);
    let token = ("refresh_token", good.as_str());
    for (fields, status, code) in [
        (vec![("refresh_token", "1//0nosuch")], 400, "invalid_grant"),
        (vec![], 400, "invalid_request"),
        (vec![token, ("grant_type", "")], 400, "invalid_request"),
        (
            vec![token, ("grant_type", "password")],
            400,
            "unsupported_grant_type",
        ),
        (vec![token, ("client_id", "")], 400, "invalid_request"),
        (vec![token, ("client_id", "nobody")], 401, "invalid_client"),
        (vec![token, ("client_secret", "")], 400, "invalid_request"),
        (
            vec![token, ("client_secret", "wrong")],
            401,
            "invalid_client",
        ),
        (
            vec![token, ("scope", "https://www.googleapis.com/auth/drive")],
            400,
            "invalid_scope",
        ),
    ] {
        assert_eq!(
            refused(&bench, &fields).await,
            (status, code.to_owned()),
            "{fields:?}"
        );
    }
    let revoked = grant_of(&bench, UserKind::Revoked);
    let other = grant_of(&bench, UserKind::OtherClient);
    for dead in [revoked, other] {
        let seen = refused(&bench, &[("refresh_token", &dead)]).await;
        assert_eq!(seen, (400, "invalid_grant".to_owned()));
    }
    let url = &bench.sim.env()["GOOGLE_OAUTH_TOKEN_URL"];
    let json = answer(bench.http.post(url).json(&serde_json::json!({}))).await;
    assert_eq!(
        (json.status, json.json()["error"].as_str()),
        (400, Some("invalid_request"))
    );
    assert_eq!(answer(bench.http.get(url)).await.status, 404);
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_refresh_answers_as_google_does_and_by_the_services_clock() {
    let bench = Bench::start().await;
    bench.sim.clock().set_offset(chrono::Duration::days(-400));
    let good = grant_of(&bench, UserKind::Connected);
    let fresh = bench.refresh(&[("refresh_token", &good)]).await;
    let body = fresh.json();
    assert_eq!((fresh.status, &body["expires_in"]), (200, &3_599.into()));
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(
        body["scope"],
        "https://www.googleapis.com/auth/calendar.events"
    );
    assert!(fresh.header("cache-control").contains("no-store"));
    let year = bench.sim.clock().now().format("%Y").to_string();
    assert!(
        fresh.header("date").contains(&year),
        "{}",
        fresh.header("date")
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn revoking_one_token_kills_the_whole_grant() {
    let bench = Bench::start().await;
    assert_eq!(bench.get("?maxResults=1").await.status, 200);
    let url = bench.sim.env()["GOOGLE_OAUTH_TOKEN_URL"].replace("/token", "/revoke");
    let revoke = || answer(bench.http.post(&url).form(&[("token", &bench.token)]));
    assert_eq!(revoke().await.status, 200);
    assert_eq!(bench.get("?maxResults=1").await.status, 401);
    let good = grant_of(&bench, UserKind::Connected);
    assert_eq!(
        refused(&bench, &[("refresh_token", &good)]).await.1,
        "invalid_grant"
    );
    assert_eq!(revoke().await.json()["error"], "invalid_token");
    bench.sim.stop().await;
}
