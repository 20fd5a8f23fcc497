//! The one HTTP client: time limits, configured origins only, no redirects, size limits, no secret in any error.
//!
//! What may be changed is decided by type. [`ReadTransport`] has `get`, `head` and the token request; `post`, `patch` and `delete` exist on
//! [`WriteTransport`] alone, and no way leads from the first to the second. A dry run is given the first.

use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use url::{Origin, Url};

use super::Effect;
use crate::config::WorkerConfig;
use crate::secrets::Secret;

/// Time and size limits of every request.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Longest time to connect, TLS included.
    pub connect: Duration,
    /// Longest time for a whole request, its body included. A lease must be longer than this.
    pub request: Duration,
    /// Largest body that is accepted, in bytes.
    pub body_bytes: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        // A full calendar page (2,500 events with long descriptions) is some tens of MiB.
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_mins(1),
            body_bytes: 128 << 20,
        }
    }
}

/// Why a request has no whole answer. None of the texts holds an address: paths and queries hold calendar ids, which are
/// e-mail addresses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address is not of a configured origin, or not the token endpoint. Nothing was sent; a bug or an attack.
    #[error("{operation}: the address is not of a configured host, and nothing was sent")]
    NotAllowed {
        /// The call.
        operation: &'static str,
    },
    /// No connection: the service has not seen the request.
    #[error("{operation}: no connection, the request was not sent")]
    NotSent {
        /// The call.
        operation: &'static str,
        /// What the client reports, without the address.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke before the answer: the service may have acted.
    #[error(
        "{operation}: the connection broke before the answer, the request may have been acted on"
    )]
    MaybeSent {
        /// The call.
        operation: &'static str,
        /// What the client reports, without the address.
        #[source]
        source: reqwest::Error,
    },
    /// No whole answer in time: the service may have acted.
    #[error("{operation}: no answer within {limit:?}, the request may have been acted on")]
    TimedOut {
        /// The call.
        operation: &'static str,
        /// The time limit that passed.
        limit: Duration,
    },
    /// The answer began with this status and then broke off.
    #[error("{operation}: the answer (HTTP {status}) broke off after {received} bytes")]
    Truncated {
        /// The call.
        operation: &'static str,
        /// Status of the answer.
        status: u16,
        /// Bytes of the body that came.
        received: usize,
        /// What the client reports, without the address.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is larger than the limit.
    #[error("{operation}: the answer (HTTP {status}) is larger than {limit} bytes")]
    TooLarge {
        /// The call.
        operation: &'static str,
        /// Status of the answer.
        status: u16,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl TransportError {
    /// Whether the request may have had its effect.
    pub fn effect(&self) -> Effect {
        match self {
            Self::NotAllowed { .. } | Self::NotSent { .. } => Effect::None,
            Self::MaybeSent { .. }
            | Self::TimedOut { .. }
            | Self::Truncated { .. }
            | Self::TooLarge { .. } => Effect::Unknown,
        }
    }

    /// Whether the same request can succeed later.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::NotAllowed { .. } | Self::TooLarge { .. })
    }

    /// Status of an answer whose body did not arrive.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Truncated { status, .. } | Self::TooLarge { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// The client could not be made: no trusted certificates, or a broken TLS set-up.
#[derive(Debug, thiserror::Error)]
#[error("make the HTTP client")]
pub struct HttpSetupError(#[source] reqwest::Error);

/// A request without its method, which the transport's type decides.
#[derive(Debug, Clone)]
pub struct Request {
    operation: &'static str,
    url: Url,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Request {
    /// A request of the call `operation` to `url`.
    pub fn new(operation: &'static str, url: Url) -> Self {
        Self {
            operation,
            url,
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// Sets a header; a value that no header can hold is left out, and the service then answers for its absence.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sets a header whose value must not be printed.
    #[must_use]
    pub fn secret_header(mut self, name: HeaderName, value: &Secret) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self
    }

    /// Sets `Authorization: Bearer <token>`.
    #[must_use]
    pub fn bearer(self, token: &Secret) -> Self {
        let value = Secret::new(format!("Bearer {}", token.expose()));
        self.secret_header(reqwest::header::AUTHORIZATION, &value)
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self.header(reqwest::header::CONTENT_TYPE, "application/json")
    }
}

/// A whole answer, of any status.
#[derive(Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The `Date` header: the service's clock.
    pub date: Option<DateTime<Utc>>,
    headers: HeaderMap,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Response {{ status: {}, {} bytes }}",
            self.status,
            self.body.len()
        )
    }
}

impl Response {
    /// A header's text, if there is one and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Retry-After` as a time to wait: seconds, or a date measured against the answer's own `Date`, so that a wrong local clock does
    /// no harm (RFC 9110, 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        (http_date(text)? - self.date?).to_std().ok()
    }
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text)
        .ok()
        .map(|date| date.to_utc())
}

#[derive(Debug)]
struct Core {
    client: Client,
    origins: Vec<Origin>,
    token_url: Url,
    limits: HttpLimits,
}

impl Core {
    fn new(config: &WorkerConfig, limits: HttpLimits) -> Result<Arc<Self>, HttpSetupError> {
        static PROVIDER: Once = Once::new();
        // An error here means that the program has installed a provider already, which is as good.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let client = Client::builder()
            .user_agent(concat!("ledger/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits.connect)
            .timeout(limits.request)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // One call here is one request on the wire: the callers count attempts, and a delete has one intent each.
            .retry(reqwest::retry::never())
            // A proxy from the environment is a host that nobody configured here.
            .no_proxy()
            .build()
            .map_err(HttpSetupError)?;
        let token_url = config.google_token_url.clone();
        Ok(Arc::new(Self {
            client,
            origins: config.origins(),
            token_url,
            limits,
        }))
    }

    async fn send(&self, method: Method, request: Request) -> Result<Response, TransportError> {
        let Request {
            operation,
            url,
            headers,
            body,
        } = request;
        if !self.origins.contains(&url.origin()) {
            return Err(TransportError::NotAllowed { operation });
        }
        let mut builder = self.client.request(method, url).headers(headers);
        if let Some(body) = body {
            builder = builder.body(body);
        }
        let mut answer = builder
            .send()
            .await
            .map_err(|error| self.unanswered(operation, error))?;
        let status = answer.status().as_u16();
        let headers = std::mem::take(answer.headers_mut());
        let limit = self.limits.body_bytes;
        let mut body = BytesMut::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                    return Err(TransportError::TooLarge {
                        operation,
                        status,
                        limit,
                    });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) if error.is_timeout() => {
                    return Err(TransportError::TimedOut {
                        operation,
                        limit: self.limits.request,
                    });
                }
                Err(error) => {
                    let (received, source) = (body.len(), error.without_url());
                    return Err(TransportError::Truncated {
                        operation,
                        status,
                        received,
                        source,
                    });
                }
            }
        }
        let date = headers
            .get("date")
            .and_then(|date| http_date(date.to_str().ok()?));
        Ok(Response {
            status,
            body: body.freeze(),
            date,
            headers,
        })
    }

    fn unanswered(&self, operation: &'static str, error: reqwest::Error) -> TransportError {
        let error = error.without_url();
        if error.is_connect() || error.is_builder() {
            TransportError::NotSent {
                operation,
                source: error,
            }
        } else if error.is_timeout() {
            TransportError::TimedOut {
                operation,
                limit: self.limits.request,
            }
        } else {
            TransportError::MaybeSent {
                operation,
                source: error,
            }
        }
    }
}

/// A transport that can send nothing but GET, HEAD and the token request.
#[derive(Debug, Clone)]
pub struct ReadTransport(Arc<Core>);

impl ReadTransport {
    /// Opens a transport to the origins of `config`.
    ///
    /// # Errors
    /// [`HttpSetupError`] where TLS cannot be set up.
    pub fn open(config: &WorkerConfig, limits: HttpLimits) -> Result<Self, HttpSetupError> {
        Core::new(config, limits).map(Self)
    }

    /// GET.
    pub async fn get(&self, request: Request) -> Result<Response, TransportError> {
        self.0.send(Method::GET, request).await
    }

    /// HEAD.
    pub async fn head(&self, request: Request) -> Result<Response, TransportError> {
        self.0.send(Method::HEAD, request).await
    }

    /// The one POST of a reader: a form to the configured token endpoint, and to no other address.
    pub async fn token_request(
        &self,
        operation: &'static str,
        form: &Secret,
    ) -> Result<Response, TransportError> {
        let mut request = Request::new(operation, self.0.token_url.clone()).header(
            reqwest::header::CONTENT_TYPE,
            "application/x-www-form-urlencoded",
        );
        request.body = Some(Bytes::copy_from_slice(form.expose().as_bytes()));
        self.0.send(Method::POST, request).await
    }

    /// The limits in force; a lease must outlive `request`.
    pub fn limits(&self) -> HttpLimits {
        self.0.limits
    }
}

/// A transport that can also change things. Each call is exactly one request: repeating is the caller's decision.
#[derive(Debug, Clone)]
pub struct WriteTransport(ReadTransport);

impl WriteTransport {
    /// Opens a transport to the origins of `config`; only a live run may.
    ///
    /// # Errors
    /// [`HttpSetupError`] where TLS cannot be set up.
    pub fn open(config: &WorkerConfig, limits: HttpLimits) -> Result<Self, HttpSetupError> {
        ReadTransport::open(config, limits).map(Self)
    }

    /// The reading half, on the same connections.
    pub fn reader(&self) -> &ReadTransport {
        &self.0
    }

    /// DELETE.
    pub async fn delete(&self, request: Request) -> Result<Response, TransportError> {
        self.0.0.send(Method::DELETE, request).await
    }

    /// PATCH.
    pub async fn patch(&self, request: Request) -> Result<Response, TransportError> {
        self.0.0.send(Method::PATCH, request).await
    }

    /// POST.
    pub async fn post(&self, request: Request) -> Result<Response, TransportError> {
        self.0.0.send(Method::POST, request).await
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use axum::routing::any;

    use super::super::testing::{self, Server};
    use super::*;

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
    async fn only_configured_origins_are_reached() {
        let other = Server::start(axum::Router::new().fallback(|| async { "reached" })).await;
        let own = Server::start(axum::Router::new().fallback(|| async { "reached" })).await;
        let transport = ReadTransport::open(&own.config(), limits()).expect("a client");
        let error = transport
            .get(request(&other, "/"))
            .await
            .expect_err("another origin");
        assert!(matches!(error, TransportError::NotAllowed { .. }));
        assert_eq!(error.effect(), Effect::None);
        assert_eq!(
            transport
                .get(request(&own, "/"))
                .await
                .expect("own origin")
                .status,
            200
        );
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
            "/lost" => Some(Vec::new()),
            "/cut" => Some(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf".to_vec()),
            "/big" => {
                let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n".to_vec();
                answer.extend([b'x'; 101]);
                Some(answer)
            }
            _ => None,
        })
        .await;
        let transport = WriteTransport::open(&server.config(), limits()).expect("a client");
        let lost = transport
            .delete(request(&server, "/lost"))
            .await
            .expect_err("reply lost");
        assert!(matches!(lost, TransportError::MaybeSent { .. }), "{lost:?}");
        let cut = transport
            .delete(request(&server, "/cut"))
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
            .delete(request(&server, "/big"))
            .await
            .expect_err("large body");
        assert!(
            matches!(big, TransportError::TooLarge { limit: 100, .. }),
            "{big:?}"
        );
        let stall = transport
            .delete(request(&server, "/stall"))
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
                gone.join("/me@example.com").expect("a URL"),
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
}
