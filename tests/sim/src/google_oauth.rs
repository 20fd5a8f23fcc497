//! Google's token endpoint: `POST /token` and `POST /revoke`.
//!
//! Source: RFC 6749 sections 5 and 6, RFC 7009, and Google's "Using OAuth 2.0 for web server applications".

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::http::Method;
use chrono::{DateTime, Duration, Utc};
use serde_json::json;

use crate::dice::Dice;
use crate::http::{Call, Incoming, Reply};

/// A permission that a token carries, as far as calendars are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything.
    Calendar,
    /// Reading everything.
    CalendarReadonly,
    /// Reading and writing events: what v1 and v2 ask for.
    Events,
    /// Reading events.
    EventsReadonly,
    /// Reading the list of calendars.
    CalendarList,
}

impl Scope {
    /// Every scope that this crate knows.
    pub const ALL: [Self; 5] = [
        Self::Calendar,
        Self::CalendarReadonly,
        Self::Events,
        Self::EventsReadonly,
        Self::CalendarList,
    ];

    /// Its address.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Calendar => "https://www.googleapis.com/auth/calendar",
            Self::CalendarReadonly => "https://www.googleapis.com/auth/calendar.readonly",
            Self::Events => "https://www.googleapis.com/auth/calendar.events",
            Self::EventsReadonly => "https://www.googleapis.com/auth/calendar.events.readonly",
            Self::CalendarList => "https://www.googleapis.com/auth/calendar.calendarlist.readonly",
        }
    }
}

/// What a user once granted to a client: a refresh token and what it is good for.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// The refresh token.
    pub refresh_token: String,
    /// The Google account that it acts for.
    pub account: String,
    /// The client that it was minted for.
    pub client_id: String,
    /// What it allows.
    pub scopes: BTreeSet<Scope>,
    /// Revoked by the user, or dead of age: the endpoint does not say which.
    pub revoked: bool,
    /// An access token that was handed out before the world began, and until when it is good.
    pub access_token: Option<(String, DateTime<Utc>)>,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("account", &self.account)
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}

/// What an access token stands for.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) account: String,
    pub(crate) scopes: BTreeSet<Scope>,
    pub(crate) expires: DateTime<Utc>,
    /// The client that it was given to.
    pub(crate) client_id: String,
    refresh_token: String,
}

/// The endpoint's state.
pub(crate) struct TokenService {
    /// Client ids and their secrets. v1's own, and one that other tokens were minted for.
    clients: BTreeMap<String, String>,
    grants: HashMap<String, Grant>,
    access: HashMap<String, Access>,
    dice: Dice,
    pub(crate) lifetime: Duration,
}

impl TokenService {
    pub(crate) fn new(
        clients: BTreeMap<String, String>,
        grants: &[Grant],
        dice: Dice,
        lifetime: Duration,
    ) -> Self {
        let mut access = HashMap::new();
        for grant in grants {
            if let Some((token, expires)) = &grant.access_token {
                access.insert(token.clone(), grant.access(*expires));
            }
        }
        let grants = grants
            .iter()
            .map(|grant| (grant.refresh_token.clone(), grant.clone()))
            .collect();
        Self {
            clients,
            grants,
            access,
            dice,
            lifetime,
        }
    }

    /// What a bearer token stands for, expired or not.
    pub(crate) fn access(&self, token: &str) -> Option<&Access> {
        self.access.get(token)
    }

    /// The account of a token request's refresh token: for the journal and for faults, never for the answer.
    pub(crate) fn account_of(&self, request: &Incoming) -> Option<String> {
        let (_, token) = form(request)
            .into_iter()
            .find(|(name, _)| name == "refresh_token")?;
        self.grants.get(&token).map(|grant| grant.account.clone())
    }

    /// Revokes every grant of an account, as its owner can in Google's settings.
    pub(crate) fn revoke_account(&mut self, account: &str) {
        for grant in self
            .grants
            .values_mut()
            .filter(|grant| grant.account == account)
        {
            grant.revoked = true;
        }
        self.access.retain(|_, access| access.account != account);
    }

    /// Makes one refresh token die, and what was given for it: of age, or since the account has too many.
    pub(crate) fn kill_grant(&mut self, refresh_token: &str) -> bool {
        let Some(grant) = self.grants.get_mut(refresh_token) else {
            return false;
        };
        grant.revoked = true;
        self.access
            .retain(|_, access| access.refresh_token != refresh_token);
        true
    }

    /// Makes every access token of an account expire now.
    pub(crate) fn expire_access(&mut self, account: &str, now: DateTime<Utc>) {
        for access in self
            .access
            .values_mut()
            .filter(|access| access.account == account)
        {
            access.expires = now;
        }
    }

    pub(crate) fn answer(
        &mut self,
        call: Call,
        request: &Incoming,
        now: DateTime<Utc>,
    ) -> (Reply, bool) {
        let result = match call {
            Call::Token => self.token(request, now),
            _ => self.revoke(request),
        };
        match result {
            Ok(reply) => (reply, true),
            Err(reply) => (reply, false),
        }
    }

    fn token(&mut self, request: &Incoming, now: DateTime<Utc>) -> Result<Reply, Reply> {
        let form = checked_form(request)?;
        let field = |name: &str| {
            form.iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let missing = |name: &str| {
            error(
                400,
                "invalid_request",
                &format!("Missing required parameter: {name}"),
            )
        };
        match field("grant_type") {
            None => return Err(missing("grant_type")),
            Some("refresh_token") => {}
            Some(other) => {
                return Err(error(
                    400,
                    "unsupported_grant_type",
                    &format!("Invalid grant_type: {other}"),
                ));
            }
        }
        let client = field("client_id")
            .filter(|id| !id.is_empty())
            .ok_or_else(|| {
                error(
                    400,
                    "invalid_request",
                    "Could not determine client ID from request.",
                )
            })?;
        let secret = self
            .clients
            .get(client)
            .ok_or_else(|| error(401, "invalid_client", "The OAuth client was not found."))?;
        match field("client_secret") {
            None => return Err(error(400, "invalid_request", "client_secret is missing.")),
            Some(sent) if sent != secret => {
                return Err(error(401, "invalid_client", "Unauthorized"));
            }
            Some(_) => {}
        }
        let token = field("refresh_token").ok_or_else(|| missing("refresh_token"))?;
        let grant = self
            .grants
            .get(token)
            .filter(|grant| grant.client_id == client)
            .ok_or_else(|| error(400, "invalid_grant", "Bad Request"))?;
        if grant.revoked {
            return Err(error(
                400,
                "invalid_grant",
                "Token has been expired or revoked.",
            ));
        }
        let mut access = grant.access(now + self.lifetime);
        if let Some(wanted) = field("scope").filter(|scope| !scope.is_empty()) {
            let subset: BTreeSet<Scope> = access
                .scopes
                .iter()
                .copied()
                .filter(|scope| wanted.split(' ').any(|url| url == scope.url()))
                .collect();
            if subset.len() < wanted.split(' ').count() {
                return Err(error(
                    400,
                    "invalid_scope",
                    "Some requested scopes were invalid or not granted.",
                ));
            }
            access.scopes = subset;
        }
        let scope: Vec<&str> = access.scopes.iter().map(|scope| scope.url()).collect();
        let bearer = format!("ya29.a0{}", self.dice.token(64));
        let body = json!({
            "access_token": bearer,
            // Google counts the second in which it answers.
            "expires_in": (self.lifetime.num_seconds() - 1).max(0),
            "scope": scope.join(" "),
            "token_type": "Bearer",
        });
        self.access.insert(bearer, access);
        Ok(uncached(Reply::json(200, &body)))
    }

    fn revoke(&mut self, request: &Incoming) -> Result<Reply, Reply> {
        let form = form(request);
        let token = request
            .param("token")
            .or_else(|| {
                form.iter()
                    .find(|(key, _)| key == "token")
                    .map(|(_, v)| v.as_str())
            })
            .ok_or_else(|| error(400, "invalid_request", "Missing required parameter: token"))?;
        let refresh = match self.access.get(token) {
            Some(access) => access.refresh_token.clone(),
            None => token.to_owned(),
        };
        let account = self
            .grants
            .get(&refresh)
            .filter(|grant| !grant.revoked)
            .map(|grant| grant.account.clone())
            .ok_or_else(|| error(400, "invalid_token", "Token expired or revoked"))?;
        self.revoke_account(&account);
        Ok(Reply::json(200, &json!({})))
    }
}

impl Grant {
    fn access(&self, expires: DateTime<Utc>) -> Access {
        Access {
            account: self.account.clone(),
            scopes: self.scopes.clone(),
            expires,
            client_id: self.client_id.clone(),
            refresh_token: self.refresh_token.clone(),
        }
    }
}

/// The endpoint's operation for a request.
pub(crate) fn route(request: &Incoming) -> Option<Call> {
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    match (path.as_slice(), &request.method) {
        (["token"], &Method::POST) => Some(Call::Token),
        (["revoke"], &Method::POST) => Some(Call::Revoke),
        _ => None,
    }
}

/// The fields of a token request; each may be given once.
fn checked_form(request: &Incoming) -> Result<Vec<(String, String)>, Reply> {
    let is_form = request.header("content-type").is_some_and(|kind| {
        kind.to_ascii_lowercase()
            .starts_with("application/x-www-form-urlencoded")
    });
    if !is_form {
        return Err(error(
            400,
            "invalid_request",
            "Request must be sent as application/x-www-form-urlencoded.",
        ));
    }
    let form = form(request);
    for (index, (name, _)) in form.iter().enumerate() {
        if form[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(error(
                400,
                "invalid_request",
                &format!("OAuth 2 parameters can only have a single value: {name}"),
            ));
        }
    }
    Ok(form)
}

fn form(request: &Incoming) -> Vec<(String, String)> {
    url::form_urlencoded::parse(&request.body)
        .into_owned()
        .collect()
}

/// An OAuth error (RFC 6749 section 5.2).
pub(crate) fn error(status: u16, code: &str, description: &str) -> Reply {
    uncached(Reply::json(
        status,
        &json!({"error": code, "error_description": description}),
    ))
}

/// The usual error for a status, with a given code or the most common one.
pub(crate) fn usual_error(status: u16, code: Option<&str>) -> Reply {
    let (usual, description) = match status {
        400 => ("invalid_grant", "Token has been expired or revoked."),
        401 => ("invalid_client", "The OAuth client was not found."),
        403 => (
            "admin_policy_enforced",
            "Access blocked by the administrator.",
        ),
        429 => ("rate_limit_exceeded", "Rate limit exceeded."),
        _ => ("internal_failure", "Backend Error"),
    };
    error(status, code.unwrap_or(usual), description)
}

fn uncached(reply: Reply) -> Reply {
    reply
        .with_header(
            "cache-control",
            "no-cache, no-store, max-age=0, must-revalidate",
        )
        .with_header("pragma", "no-cache")
}
