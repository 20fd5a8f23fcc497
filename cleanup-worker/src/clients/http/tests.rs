//! The transport against servers that answer, and servers that do not.

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::any;

use super::*;
use crate::clients::testing::{self, Server};

fn request(server: &Server, path: &str) -> Request {
    let url = server.url(path);
    Request::new("test.call", url)
}

fn limits() -> HttpLimits {
    HttpLimits {
        request: Duration::from_millis(300),
        body_bytes: 100,
        ..HttpLimits::default()
    }
}

#[tokio::test]
async fn only_configured_hosts_are_reached() {
    let other = Server::start(axum::Router::new().fallback(|| async { "reached" })).await;
    let own = Server::start(axum::Router::new().fallback(|| async { "reached" })).await;
    let transport = ReadTransport::open(&own.config(), limits()).expect("a client");
    let error = transport
        .get(request(&other, "/"))
        .await
        .expect_err("another host");
    assert!(matches!(error, TransportError::NotAllowed { .. }));
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(
        transport
            .get(request(&own, "/"))
            .await
            .expect("own host")
            .status,
        200
    );
}

#[tokio::test]
async fn writes_go_to_the_calendar_and_reads_never_to_the_token_host() {
    let router = axum::Router::new().fallback(|| async { "reached" });
    let (server, tokens) = (
        Server::start(router.clone()).await,
        Server::start(router).await,
    );
    let mut config = server.config();
    config.google_token_url = tokens.url("/token");
    let transport = WriteTransport::open(&config, limits()).expect("a client");
    for path in ["/rest/v1/users", "/calendar/v3evil", "/calendar/v3/../v2"] {
        let refused = transport
            .delete(request(&server, path))
            .await
            .expect_err(path);
        assert!(
            matches!(refused, TransportError::NotAllowed { .. }),
            "{path}"
        );
    }
    let below = request(&server, "/calendar/v3/calendars");
    assert_eq!(
        transport.patch(below).await.expect("below the base").status,
        200
    );
    for path in ["/token", "/revoke?token=1"] {
        let refused = transport
            .reader()
            .get(request(&tokens, path))
            .await
            .expect_err(path);
        assert!(
            matches!(refused, TransportError::NotAllowed { .. }),
            "{path}"
        );
    }
    let form = Secret::new("grant_type=refresh_token");
    let granted = transport.reader().token_request("test.token", &form).await;
    assert_eq!(granted.expect("the token endpoint").status, 200);
}

#[tokio::test]
async fn redirects_are_answers_and_are_not_followed() {
    let router = axum::Router::new().route(
        "/",
        any(|| async { (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]) }),
    );
    let server = Server::start(router).await;
    let transport = ReadTransport::open(&server.config(), limits()).expect("a client");
    assert_eq!(
        transport
            .get(request(&server, "/"))
            .await
            .expect("an answer")
            .status,
        302
    );
}

#[tokio::test]
async fn failures_say_whether_the_request_may_have_been_acted_on() {
    let server = testing::raw_server(|path| match path {
        "/calendar/v3/lost" => Some(Vec::new()),
        "/calendar/v3/cut" => Some(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf".to_vec()),
        "/calendar/v3/big" => {
            let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n".to_vec();
            answer.extend([b'x'; 101]);
            Some(answer)
        }
        _ => None,
    })
    .await;
    let transport = WriteTransport::open(&server.config(), limits()).expect("a client");
    let lost = transport
        .delete(request(&server, "/calendar/v3/lost"))
        .await
        .expect_err("reply lost");
    assert!(matches!(lost, TransportError::MaybeSent { .. }), "{lost:?}");
    let cut = transport
        .delete(request(&server, "/calendar/v3/cut"))
        .await
        .expect_err("cut body");
    assert!(
        matches!(
            cut,
            TransportError::Truncated {
                status: 200,
                received: 4,
                ..
            }
        ),
        "{cut:?}"
    );
    let big = transport
        .delete(request(&server, "/calendar/v3/big"))
        .await
        .expect_err("large body");
    assert!(
        matches!(big, TransportError::TooLarge { limit: 100, .. }),
        "{big:?}"
    );
    let stall = transport
        .delete(request(&server, "/calendar/v3/stall"))
        .await
        .expect_err("no answer");
    assert!(
        matches!(stall, TransportError::TimedOut { .. }),
        "{stall:?}"
    );
    for error in [&lost, &cut, &big, &stall] {
        assert_eq!(error.effect(), Effect::Unknown);
    }
    let gone = server.stop().await;
    let refused = transport
        .delete(Request::new(
            "test.call",
            gone.join("/calendar/v3/me@example.com").expect("a URL"),
        ))
        .await
        .expect_err("nobody listens");
    assert!(
        matches!(refused, TransportError::NotSent { .. }),
        "{refused:?}"
    );
    assert_eq!(refused.effect(), Effect::None);
    let shown = format!("{refused} {refused:?} {lost:?}");
    assert!(!shown.contains('@') && !shown.contains("/lost"), "{shown}");
}

#[tokio::test]
async fn date_and_retry_after_are_read() {
    let answer = |headers: [(&'static str, &'static str); 2]| {
        any(move || async move { (StatusCode::TOO_MANY_REQUESTS, headers).into_response() })
    };
    let date = ("date", "Thu, 15 Jan 2026 00:00:00 GMT");
    let router = axum::Router::new()
        .route("/seconds", answer([date, ("retry-after", "7")]))
        .route(
            "/date",
            answer([date, ("retry-after", "Thu, 15 Jan 2026 00:00:30 GMT")]),
        )
        .route(
            "/past",
            answer([date, ("retry-after", "Wed, 14 Jan 2026 00:00:30 GMT")]),
        );
    let server = Server::start(router).await;
    let transport = ReadTransport::open(&server.config(), limits()).expect("a client");
    let mut waits = Vec::new();
    for path in ["/seconds", "/date", "/past"] {
        let answer = transport
            .get(request(&server, path))
            .await
            .expect("an answer");
        assert_eq!(
            answer.date.map(|date| date.timestamp()),
            Some(1_768_435_200)
        );
        waits.push(answer.retry_after().map(|wait| wait.as_secs()));
    }
    assert_eq!(waits, [Some(7), Some(30), None]);
}

#[tokio::test]
async fn requests_carry_the_program_and_hide_their_secrets() {
    let router = axum::Router::new().fallback(|headers: axum::http::HeaderMap| async move {
        let text = |name: &str| headers[name].to_str().unwrap_or_default().to_owned();
        format!("{} {}", text("user-agent"), text("authorization"))
    });
    let server = Server::start(router).await;
    let transport = ReadTransport::open(&server.config(), limits()).expect("a client");
    let request = request(&server, "/").bearer(&Secret::new("ya29.made-up"));
    assert!(!format!("{request:?}").contains("ya29"));
    let body = transport.get(request).await.expect("an answer").body;
    let expected = concat!("ledger/", env!("CARGO_PKG_VERSION"), " Bearer ya29.made-up");
    assert_eq!(body, expected);
}
