//! Access tokens from refresh tokens.
//!
//! Rules: RFC 6749, sections 5 and 6, and Google's "Using OAuth 2.0 for Web Server Applications"
//! (<https://developers.google.com/identity/protocols/oauth2/web-server>). `error` decides; `error_description` changes and is dropped. A grant is never
//! revoked here: v2 may live on the same one.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::form_urlencoded;

use crate::clients::http::{ReadTransport, Response, TransportError};
use crate::clients::retry::{RetryPolicy, Retryable, Timing};
use crate::clients::{ErrorClass, Failure, machine_word};
use crate::config::WorkerConfig;
use crate::secrets::Secret;

const OPERATION: &str = "oauth.token";
/// A token is renewed this long before it ends, as v2 does.
const EARLY: Duration = Duration::from_mins(5);

/// Why there is no access token.
#[derive(Debug)]
pub struct TokenError {
    /// Class, status, attempt, the remote `Date`.
    pub failure: Box<Failure>,
    /// What it means for the run.
    pub kind: TokenErrorKind,
    /// OAuth's `error` code, where there was one.
    pub code: Option<String>,
    source: Option<TransportError>,
}

/// What a token error means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenErrorKind {
    /// This user's grant is dead (`invalid_grant`): revoked, unused too long, or made for another client.
    DeadGrant,
    /// This user's organisation does not allow it.
    Denied,
    /// The client id or secret is wrong: every user will fail alike, the run has to stop.
    Client,
    /// Google refuses this client this grant (`unauthorized_client`), or the request with it: one user's, where others' are taken.
    NotThisClients,
    /// Google did not answer usefully, after all tries.
    Transient,
    /// An error code that no table knows.
    Unrecognised,
}

impl TokenError {
    /// Whether the whole run is at fault, and not one user.
    pub fn is_global(&self) -> bool {
        self.kind == TokenErrorKind::Client
    }

    fn new(attempt: u32, class: ErrorClass, kind: TokenErrorKind) -> Self {
        let failure = Failure {
            operation: OPERATION,
            class,
            status: None,
            attempt,
            date: None,
            retry_after: None,
        };
        Self {
            failure: Box::new(failure),
            kind,
            code: None,
            source: None,
        }
    }

    fn answered(attempt: u32, answer: &Response) -> Self {
        let code = serde_json::from_slice::<Refusal>(&answer.body)
            .ok()
            .and_then(|refusal| machine_word(&refusal.error));
        let (class, kind) = classify(answer.status, code.as_deref());
        let mut error = Self::new(attempt, class, kind);
        error.failure.status = Some(answer.status);
        error.failure.date = answer.date;
        error.failure.retry_after = answer.retry_after();
        error.code = code;
        error
    }

    fn transport(attempt: u32, source: TransportError) -> Self {
        let mut error = Self::new(attempt, ErrorClass::Network, TokenErrorKind::Transient);
        error.failure.status = source.status();
        error.source = Some(source);
        error
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failure)?;
        if let Some(code) = &self.code {
            write!(f, ": {code}")?;
        }
        f.write_str(match self.kind {
            TokenErrorKind::DeadGrant => ": this user's grant is dead",
            TokenErrorKind::Denied => ": this user's organisation does not allow it",
            TokenErrorKind::Client => ": the OAuth client is wrong, for every user",
            TokenErrorKind::NotThisClients => {
                ": the grant is not one that this OAuth client may use"
            }
            TokenErrorKind::Transient | TokenErrorKind::Unrecognised => "",
        })
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl Retryable for TokenError {
    fn may_pass(&self) -> bool {
        self.kind == TokenErrorKind::Transient
            && self.source.as_ref().is_none_or(TransportError::may_pass)
    }

    fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after
    }
}

fn classify(status: u16, code: Option<&str>) -> (ErrorClass, TokenErrorKind) {
    match (status, code) {
        (_, Some("invalid_grant")) => (ErrorClass::Auth, TokenErrorKind::DeadGrant),
        (_, Some("unauthorized_client" | "invalid_request")) => {
            (ErrorClass::Auth, TokenErrorKind::NotThisClients)
        }
        (
            _,
            Some(
                "invalid_client" | "unsupported_grant_type" | "deleted_client" | "disabled_client",
            ),
        )
        | (401, Some(_)) => (ErrorClass::Auth, TokenErrorKind::Client),
        // What stands between has said it: Google names an error.
        (401, None) => (ErrorClass::Auth, TokenErrorKind::Transient),
        (_, Some("admin_policy_enforced" | "org_internal" | "access_denied")) => {
            (ErrorClass::Refused, TokenErrorKind::Denied)
        }
        (429, _) | (_, Some("rate_limit_exceeded" | "slow_down")) => {
            (ErrorClass::Quota, TokenErrorKind::Transient)
        }
        (408 | 200..=299 | 500.., _) => (ErrorClass::Server, TokenErrorKind::Transient),
        _ => (ErrorClass::Refused, TokenErrorKind::Unrecognised),
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
    /// Seconds.
    expires_in: u64,
    #[serde(default)]
    scope: String,
    refresh_token: Option<Secret>,
}

/// v1's OAuth client.
#[derive(Clone)]
pub struct OAuthClient {
    transport: ReadTransport,
    client_id: String,
    client_secret: Secret,
    policy: RetryPolicy,
    timing: Arc<dyn Timing>,
}

impl OAuthClient {
    /// The client that `config` names.
    pub fn new(
        config: &WorkerConfig,
        transport: ReadTransport,
        policy: RetryPolicy,
        timing: Arc<dyn Timing>,
    ) -> Self {
        let client_id = config.google_client_id.clone();
        let client_secret = config.google_client_secret.clone();
        Self {
            transport,
            client_id,
            client_secret,
            policy,
            timing,
        }
    }

    /// Asks for an access token; errors that can pass are retried.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::is_global`] tells a fault of the run from one of the user.
    pub async fn refresh(&self, refresh_token: &Secret) -> Result<AccessToken, TokenError> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", self.client_secret.expose())
            .append_pair("refresh_token", refresh_token.expose())
            .append_pair("grant_type", "refresh_token")
            .finish();
        let form = Secret::new(form);
        self.policy
            .run(self.timing.as_ref(), |attempt| {
                self.refresh_once(attempt, &form)
            })
            .await
    }

    /// Whether Google knows this client and its secret, asked with a refresh token that cannot exist: a known client is told that the grant is
    /// dead. Gives Google's clock.
    ///
    /// # Errors
    /// [`TokenError`], global where the client is wrong.
    pub async fn check(&self) -> Result<Option<DateTime<Utc>>, TokenError> {
        match self.refresh(&Secret::new("ledger-preflight")).await {
            Ok(_) => Ok(None),
            Err(error) if error.kind == TokenErrorKind::DeadGrant => Ok(error.failure.date),
            Err(error) => Err(error),
        }
    }

    async fn refresh_once(&self, attempt: u32, form: &Secret) -> Result<AccessToken, TokenError> {
        let asked_at = self.timing.elapsed();
        let answer = self
            .transport
            .token_request(OPERATION, form)
            .await
            .map_err(|source| TokenError::transport(attempt, source))?;
        if answer.status != 200 {
            return Err(TokenError::answered(attempt, &answer));
        }
        // The parser's own error could quote the token, so it is dropped.
        let Ok(granted) = serde_json::from_slice::<Granted>(&answer.body) else {
            return Err(TokenError::answered(attempt, &answer));
        };
        let lifetime = Duration::from_secs(granted.expires_in);
        Ok(AccessToken {
            token: granted.access_token,
            // A token that lives shorter than the margin is still good for half its life.
            valid_until: asked_at.saturating_add(lifetime.saturating_sub(EARLY).max(lifetime / 2)),
            scopes: granted
                .scope
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            refresh_token: granted.refresh_token,
        })
    }
}

/// An access token and how long to use it.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// What is sent as the bearer.
    pub token: Secret,
    /// On the run's clock ([`Timing::elapsed`]): five minutes before the token ends.
    pub valid_until: Duration,
    /// The scopes it has; empty means that they are unchanged.
    pub scopes: Vec<String>,
    /// Replaces the refresh token, in the rare case that Google gives a new one.
    pub refresh_token: Option<Secret>,
}

/// The scopes under which events may be deleted, of the parent `https://www.googleapis.com/auth/`. Source: Google Calendar API, `events.delete`.
const WRITING: [&str; 3] = ["calendar", "calendar.events", "calendar.events.owned"];

impl AccessToken {
    /// Whether events may be written with it, as far as its scopes say.
    pub fn may_write(&self) -> bool {
        let writes = |scope: &String| {
            let name = scope.strip_prefix("https://www.googleapis.com/auth/");
            name.is_some_and(|name| WRITING.contains(&name))
        };
        self.scopes.is_empty() || self.scopes.iter().any(writes)
    }
}

/// One user's access to Google for the length of a run: refreshes by itself, one request at a time.
pub struct Session {
    oauth: OAuthClient,
    user: String,
    state: Mutex<State>,
}

struct State {
    refresh_token: Secret,
    access: Option<AccessToken>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(..)")
    }
}

impl Session {
    /// A session that has asked for nothing yet. `user` is any name for the user, under which its requests are counted; it is not sent.
    pub fn new(oauth: OAuthClient, user: impl Into<String>, refresh_token: Secret) -> Arc<Self> {
        let state = Mutex::new(State {
            refresh_token,
            access: None,
        });
        Arc::new(Self {
            oauth,
            user: user.into(),
            state,
        })
    }

    /// A session over an access token that somebody else asked for. When that ends there is no other.
    pub fn given(oauth: OAuthClient, user: impl Into<String>, access_token: Secret) -> Arc<Self> {
        let access = AccessToken {
            token: access_token,
            valid_until: Duration::MAX,
            scopes: Vec::new(),
            refresh_token: None,
        };
        let state = Mutex::new(State {
            refresh_token: Secret::new("none"),
            access: Some(access),
        });
        Arc::new(Self {
            oauth,
            user: user.into(),
            state,
        })
    }

    /// The name under which requests are counted.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A token that is good for some minutes: the kept one, or a new one.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        // Held over the request on purpose: whoever comes meanwhile waits for this one's token.
        let mut state = self.state.lock().await;
        if let Some(access) = &state.access
            && self.oauth.timing.elapsed() < access.valid_until
        {
            return Ok(access.clone());
        }
        let access = self.oauth.refresh(&state.refresh_token).await?;
        if let Some(replacement) = &access.refresh_token {
            state.refresh_token = replacement.clone();
        }
        state.access = Some(access.clone());
        Ok(access)
    }

    /// Drops the kept token if it is still `refused`, so that the next [`Session::token`] gets a new one.
    pub async fn drop_token(&self, refused: &AccessToken) {
        let mut state = self.state.lock().await;
        if state
            .access
            .as_ref()
            .is_some_and(|kept| kept.token.expose() == refused.token.expose())
        {
            state.access = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use axum::http::StatusCode;
    use axum::routing::post;

    use super::*;
    use crate::clients::http::HttpLimits;
    use crate::clients::testing::{Server, TestTiming};

    type Answer = (u16, &'static str);

    /// Answers in turn, the last one for ever, and keeps the forms it was sent.
    async fn session(
        answers: Vec<Answer>,
    ) -> (
        Server,
        Arc<Session>,
        Arc<TestTiming>,
        Arc<StdMutex<Vec<String>>>,
    ) {
        let forms = Arc::new(StdMutex::new(Vec::new()));
        let kept = forms.clone();
        let route = post(move |body: String| async move {
            let mut forms = kept.lock().expect("forms");
            forms.push(body);
            let (status, body) = answers[(forms.len() - 1).min(answers.len() - 1)];
            (StatusCode::from_u16(status).expect("a status"), body)
        });
        let server = Server::start(axum::Router::new().route("/token", route)).await;
        let config = server.config();
        let transport = ReadTransport::open(&config, HttpLimits::default()).expect("a client");
        let timing = Arc::new(TestTiming::default());
        let oauth = OAuthClient::new(&config, transport, RetryPolicy::default(), timing.clone());
        let session = Session::new(oauth, "u1", Secret::new("1//refresh & token"));
        (server, session, timing, forms)
    }

    const GRANTED: Answer = (
        200,
        r#"{"access_token":"ya29.one","expires_in":3599,"scope":"a b","token_type":"Bearer"}"#,
    );
    const ROTATED: Answer = (
        200,
        r#"{"access_token":"ya29.two","expires_in":3599,"refresh_token":"1//new"}"#,
    );

    #[tokio::test]
    async fn a_token_is_kept_until_five_minutes_before_its_end() {
        let (_server, session, timing, forms) = session(vec![GRANTED, ROTATED]).await;
        let first = session.token().await.expect("a token");
        assert_eq!(first.scopes, ["a", "b"]);
        timing.advance(Duration::from_secs(3298));
        assert_eq!(
            session.token().await.expect("a token").token.expose(),
            "ya29.one"
        );
        timing.advance(Duration::from_secs(2));
        assert_eq!(
            session.token().await.expect("a token").token.expose(),
            "ya29.two"
        );
        assert_eq!(
            forms.lock().expect("forms")[0],
            "client_id=client-id&client_secret=client-secret&refresh_token=1%2F%2Frefresh+%26+token&grant_type=refresh_token"
        );
    }

    #[tokio::test]
    async fn a_refused_token_is_dropped_once_and_a_new_refresh_token_replaces_the_old() {
        let (_server, session, _, forms) = session(vec![ROTATED, GRANTED]).await;
        let refused = session.token().await.expect("a token");
        session.drop_token(&refused).await;
        let fresh = session.token().await.expect("a token");
        session.drop_token(&refused).await;
        assert_eq!(
            session.token().await.expect("a token").token.expose(),
            fresh.token.expose()
        );
        let forms = forms.lock().expect("forms");
        assert_eq!(forms.len(), 2);
        assert!(forms[1].contains("refresh_token=1%2F%2Fnew"));
    }

    #[tokio::test]
    async fn errors_of_a_user_are_told_from_errors_of_the_run() {
        let table = [
            (
                400,
                r#"{"error":"invalid_grant","error_description":"revoked"}"#,
                TokenErrorKind::DeadGrant,
            ),
            (401, r#"{"error":"invalid_client"}"#, TokenErrorKind::Client),
            (
                400,
                r#"{"error":"unauthorized_client"}"#,
                TokenErrorKind::NotThisClients,
            ),
            (
                400,
                r#"{"error":"unsupported_grant_type"}"#,
                TokenErrorKind::Client,
            ),
            (
                403,
                r#"{"error":"admin_policy_enforced"}"#,
                TokenErrorKind::Denied,
            ),
            (
                400,
                r#"{"error":"something_new"}"#,
                TokenErrorKind::Unrecognised,
            ),
        ];
        for (status, body, kind) in table {
            let (_server, session, timing, _) = session(vec![(status, body)]).await;
            let error = session.token().await.expect_err(body);
            assert_eq!(error.kind, kind, "{body}");
            assert_eq!(error.is_global(), kind == TokenErrorKind::Client);
            assert_eq!(error.failure.status, Some(status));
            assert!(timing.sleeps().is_empty(), "{body} cannot pass");
            assert!(!format!("{error} {error:?}").contains("refresh & token"));
        }
    }

    #[tokio::test]
    async fn the_client_is_checked_without_a_user() {
        let (_server, known, ..) = session(vec![(400, r#"{"error":"invalid_grant"}"#)]).await;
        assert!(known.oauth.check().await.expect("a known client").is_some());
        let (_server, unknown, ..) = session(vec![(401, r#"{"error":"invalid_client"}"#)]).await;
        assert!(
            unknown
                .oauth
                .check()
                .await
                .expect_err("an unknown client")
                .is_global()
        );
    }

    #[tokio::test]
    async fn what_can_pass_is_retried() {
        let html = (503, "<html>busy</html>");
        let garbled = (200, r#"{"access_token": "ya29.cut"#);
        let (_server, session, timing, _) =
            session(vec![(429, "{}"), html, garbled, GRANTED]).await;
        assert_eq!(
            session.token().await.expect("a token").token.expose(),
            "ya29.one"
        );
        assert_eq!(timing.sleeps().len(), 3);
    }

    #[tokio::test]
    async fn a_service_that_stays_away_is_given_up_after_six_tries() {
        let (_server, session, _, forms) = session(vec![(500, "")]).await;
        let error = session.token().await.expect_err("no token");
        assert_eq!(
            (error.kind, error.failure.attempt),
            (TokenErrorKind::Transient, 6)
        );
        assert_eq!(error.failure.class, ErrorClass::Server);
        assert_eq!(forms.lock().expect("forms").len(), 6);
    }
}
