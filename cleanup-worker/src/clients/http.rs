//! The one HTTP client: time limits, configured addresses only, no redirects, size limits, no secret in any error.
//!
//! Reads go below v1's database and Google's Calendar interface and to a few paths of v2's deployments, writes below the second only, the token
//! request and the request for an export to their one address each: that is less than the hosts offer, on purpose (Google's token host would also
//! revoke a grant, and the key of a deployment may write all of its data).
//!
//! What may be changed is decided by type. [`ReadTransport`] has `get`, `head` and those two requests; `post`, `patch` and `delete` exist on
//! [`WriteTransport`] alone, and no way leads from the first to the second. A dry run is given the first.

use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use url::Url;

use super::{Effect, ErrorClass};
use crate::config::{Deployment, WorkerConfig};
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
    /// The address is not below a configured one. Nothing was sent; a bug or an attack.
    #[error("{operation}: the address is not below a configured one, and nothing was sent")]
    NotAllowed {
        /// The call.
        operation: &'static str,
    },
    /// A header's value cannot be sent. Nothing was sent: a request without its precondition is another request.
    #[error("{operation}: a header has characters that cannot be sent, and nothing was sent")]
    Unsendable {
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
            Self::NotAllowed { .. } | Self::Unsendable { .. } | Self::NotSent { .. } => {
                Effect::None
            }
            Self::MaybeSent { .. }
            | Self::TimedOut { .. }
            | Self::Truncated { .. }
            | Self::TooLarge { .. } => Effect::Unknown,
        }
    }

    /// The class of the error, as entries name it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotAllowed { .. } | Self::Unsendable { .. } => ErrorClass::Refused,
            _ => ErrorClass::Network,
        }
    }

    /// Whether the same request can succeed later.
    pub fn may_pass(&self) -> bool {
        !matches!(
            self,
            Self::NotAllowed { .. } | Self::Unsendable { .. } | Self::TooLarge { .. }
        )
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
    /// A header could not be set.
    unsendable: bool,
}

impl Request {
    /// A request of the call `operation` to `url`.
    pub fn new(operation: &'static str, url: Url) -> Self {
        Self {
            operation,
            url,
            headers: HeaderMap::new(),
            body: None,
            unsendable: false,
        }
    }

    /// Sets a header. A value that no header can hold makes the request fail with [`TransportError::Unsendable`].
    #[must_use]
    pub fn header(self, name: HeaderName, value: &str) -> Self {
        self.set(name, value, false)
    }

    /// Sets a header whose value must not be printed.
    #[must_use]
    pub fn secret_header(self, name: HeaderName, value: &Secret) -> Self {
        self.set(name, value.expose(), true)
    }

    fn set(mut self, name: HeaderName, value: &str, sensitive: bool) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(sensitive);
            self.headers.insert(name, value);
        } else {
            self.unsendable = true;
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
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than a number holds: longer than anybody waits.
            return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
        }
        (http_date(text)? - self.date?).to_std().ok()
    }
}

/// Same origin, and the path is the base's or continues it at a slash. A parsed URL has no dot segments left to climb out with.
fn is_below(url: &Url, base: &Url) -> bool {
    let rest = url.path().strip_prefix(base.path().trim_end_matches('/'));
    url.origin() == base.origin()
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text)
        .ok()
        .map(|date| date.to_utc())
}

/// What is read of a deployment of v2: functions of its own are not among it.
const CONVEX_READS: [&str; 5] = [
    "/api/json_schemas",
    "/api/list_snapshot",
    "/api/document_deltas",
    "/api/query",
    "/api/export/zip",
];
const CONVEX_EXPORT_REQUEST: &str = "/api/export/request/zip";

#[derive(Debug)]
struct Core {
    client: Client,
    /// GET and HEAD go below these.
    readable: Vec<Url>,
    /// POST, PATCH and DELETE go below this.
    writable: Url,
    token_url: Url,
    /// A POST without a body goes to these.
    export_requests: Vec<(Deployment, Url)>,
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
        let writable = config.google_calendar_url.clone();
        let mut readable = vec![config.supabase_url.clone(), writable.clone()];
        let mut export_requests = Vec::new();
        for v2 in &config.convex {
            readable.extend(CONVEX_READS.map(|path| v2.address(path)));
            export_requests.push((v2.deployment, v2.address(CONVEX_EXPORT_REQUEST)));
        }
        Ok(Arc::new(Self {
            client,
            readable,
            writable,
            token_url: config.google_token_url.clone(),
            export_requests,
            limits,
        }))
    }

    async fn read(&self, method: Method, request: Request) -> Result<Response, TransportError> {
        let allowed = self
            .readable
            .iter()
            .any(|base| is_below(&request.url, base));
        self.send(allowed, method, request).await
    }

    async fn write(&self, method: Method, request: Request) -> Result<Response, TransportError> {
        let allowed = is_below(&request.url, &self.writable);
        self.send(allowed, method, request).await
    }

    async fn send(
        &self,
        allowed: bool,
        method: Method,
        request: Request,
    ) -> Result<Response, TransportError> {
        let operation = request.operation;
        let result = if !allowed {
            Err(TransportError::NotAllowed { operation })
        } else if request.unsendable {
            Err(TransportError::Unsendable { operation })
        } else {
            self.exchange(method, request).await
        };
        match &result {
            Ok(answer) => tracing::debug!(operation, status = answer.status, "answered"),
            Err(error) => tracing::debug!(operation, error = %error, "no whole answer"),
        }
        result
    }

    async fn exchange(&self, method: Method, request: Request) -> Result<Response, TransportError> {
        let Request {
            operation,
            url,
            headers,
            body,
            ..
        } = request;
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
        let body = self.body(operation, status, answer).await?;
        let date = headers
            .get("date")
            .and_then(|date| http_date(date.to_str().ok()?));
        Ok(Response {
            status,
            body,
            date,
            headers,
        })
    }

    async fn body(
        &self,
        operation: &'static str,
        status: u16,
        mut answer: reqwest::Response,
    ) -> Result<Bytes, TransportError> {
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
                Ok(None) => return Ok(body.freeze()),
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

/// A transport that can send nothing but GET, HEAD, the token request and the request for an export of v2.
///
/// ```
/// # use cleanup_worker::clients::http::{ReadTransport, Request};
/// async fn dry_run(transport: &ReadTransport, request: Request) {
///     drop(transport.get(request).await);
/// }
/// ```
/// ```compile_fail
/// # use cleanup_worker::clients::http::{ReadTransport, Request};
/// async fn dry_run(transport: &ReadTransport, request: Request) {
///     drop(transport.delete(request).await);
/// }
/// ```
#[derive(Debug, Clone)]
pub struct ReadTransport(Arc<Core>);

impl ReadTransport {
    /// Opens a transport to the addresses of `config`.
    ///
    /// # Errors
    /// [`HttpSetupError`] where TLS cannot be set up.
    pub fn open(config: &WorkerConfig, limits: HttpLimits) -> Result<Self, HttpSetupError> {
        Core::new(config, limits).map(Self)
    }

    /// GET.
    pub async fn get(&self, request: Request) -> Result<Response, TransportError> {
        self.0.read(Method::GET, request).await
    }

    /// HEAD.
    pub async fn head(&self, request: Request) -> Result<Response, TransportError> {
        self.0.read(Method::HEAD, request).await
    }

    /// A form to the configured token endpoint, and to no other address.
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
        self.0.send(true, Method::POST, request).await
    }

    /// Asks a deployment of v2 for an export without its files: a POST without a body to that one address. It makes an export and
    /// changes nothing else.
    ///
    /// # Errors
    /// [`TransportError::NotAllowed`] where no such deployment is configured.
    pub async fn export_request(
        &self,
        operation: &'static str,
        deployment: Deployment,
        authorization: &Secret,
    ) -> Result<Response, TransportError> {
        let mut addresses = self.0.export_requests.iter();
        let Some((_, url)) = addresses.find(|(of, _)| *of == deployment) else {
            return Err(TransportError::NotAllowed { operation });
        };
        let mut url = url.clone();
        url.set_query(Some("includeStorage=false"));
        let request = Request::new(operation, url)
            .secret_header(reqwest::header::AUTHORIZATION, authorization);
        self.0.send(true, Method::POST, request).await
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
    /// Opens a transport to the addresses of `config`; only a live run may.
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
        self.0.0.write(Method::DELETE, request).await
    }

    /// PATCH.
    pub async fn patch(&self, request: Request) -> Result<Response, TransportError> {
        self.0.0.write(Method::PATCH, request).await
    }

    /// POST.
    pub async fn post(&self, request: Request) -> Result<Response, TransportError> {
        self.0.0.write(Method::POST, request).await
    }
}

#[cfg(test)]
mod tests;
