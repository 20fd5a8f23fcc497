//! The worker's configuration: the environment, read once, with every problem reported at once.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use url::{Host, Url};

use crate::secrets::{FernetKey, Secret};

/// Google's token endpoint, used unless `GOOGLE_OAUTH_TOKEN_URL` names another.
pub const GOOGLE_OAUTH_TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// Base of the Calendar interface, used unless `GOOGLE_CALENDAR_API_URL` names another.
pub const GOOGLE_CALENDAR_API_URL: &str = "https://www.googleapis.com/calendar/v3";

/// What the calendar cleanup needs to know of the outside world. `Debug` prints no secret.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// v1's Supabase project, without a trailing slash.
    pub supabase_url: Url,
    /// v1's service role key.
    pub supabase_key: Secret,
    /// What v1 encrypted the stored tokens with.
    pub encryption_key: FernetKey,
    /// v1's OAuth client.
    pub google_client_id: String,
    /// The secret of v1's OAuth client.
    pub google_client_secret: Secret,
    /// Where access tokens are asked for.
    pub google_token_url: Url,
    /// Base of the Calendar interface, without a trailing slash.
    pub google_calendar_url: Url,
    /// The deployments of v2 that are read live, at most one of each kind.
    pub convex: Vec<ConvexDeployment>,
}

/// Which of v2's deployments: users rely on the first; the second wrote events before go-live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Deployment {
    /// What v2's users work with.
    Production,
    /// What its developers work with.
    Development,
}

impl Deployment {
    /// Both, in the order in which they are read.
    pub const ALL: [Self; 2] = [Self::Production, Self::Development];

    /// The name used in evidence and plans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Development => "development",
        }
    }
}

/// A deployment of v2 that can be read live.
#[derive(Debug, Clone)]
pub struct ConvexDeployment {
    /// Which one it is.
    pub deployment: Deployment,
    /// `https://<name>.convex.cloud`, without a trailing slash.
    pub url: Url,
    /// Its deploy key, which may read and write everything.
    pub deploy_key: Secret,
}

impl ConvexDeployment {
    /// The address of a path of its interface.
    pub(crate) fn address(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url
    }
}

/// One variable that is missing or wrong. Its value is never part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the environment variable.
    pub name: &'static str,
    /// What the variable is for.
    pub what: &'static str,
    /// What is wrong with it.
    pub wrong: String,
}

/// All that is wrong with the environment, in the order of the variables.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub struct ConfigError {
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "read the worker's environment: {} variable(s) to set right",
            self.problems.len()
        )?;
        for problem in &self.problems {
            write!(
                f,
                "\n  {}: {} ({})",
                problem.name, problem.wrong, problem.what
            )?;
        }
        Ok(())
    }
}

impl WorkerConfig {
    /// Reads the configuration from this process's environment.
    ///
    /// # Errors
    /// As [`WorkerConfig::from_env`].
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads it"
    )]
    pub fn from_process() -> Result<Self, ConfigError> {
        Self::from_env(&|name| std::env::var(name).ok())
    }

    /// The configuration of somebody who reaches calendars with credentials of their own: what only the retired system is asked with need not
    /// be set, and nothing reaches it. `GOOGLE_CLIENT_ID` and `GOOGLE_CLIENT_SECRET` are those of whoever got the refresh tokens, and need not be
    /// set where access tokens are given.
    ///
    /// # Errors
    /// As [`WorkerConfig::from_env`].
    pub fn of_own_credentials(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        const UNUSED: [(&str, &str); 5] = [
            // Reserved: it resolves nowhere (RFC 2606).
            ("SUPABASE_URL", "https://unused.invalid"),
            ("SUPABASE_KEY", "unused"),
            (
                "ENCRYPTION_KEY",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ),
            ("GOOGLE_CLIENT_ID", "unused"),
            ("GOOGLE_CLIENT_SECRET", "unused"),
        ];
        let retired = ["SUPABASE_URL", "SUPABASE_KEY", "ENCRYPTION_KEY"];
        Self::from_env(&|name| {
            let asked = !retired.contains(&name) && !name.starts_with("CONVEX_");
            let given = asked.then(|| get(name)).flatten();
            let given = given.filter(|value| !value.trim().is_empty());
            let unused = || UNUSED.iter().find(|(unused, _)| *unused == name);
            given.or_else(|| unused().map(|(_, value)| (*value).to_owned()))
        })
    }

    /// Reads the configuration through `get`, which answers for one variable name (a program passes its environment, a test a
    /// table). Blank counts as missing; white space around a value is dropped.
    ///
    /// # Errors
    /// [`ConfigError`] lists every missing or malformed variable at once, without any value.
    pub fn from_env(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reader = Reader {
            get,
            problems: Vec::new(),
        };
        let supabase_url = reader.url(
            "SUPABASE_URL",
            "v1's Supabase project, https://<ref>.supabase.co",
            None,
        );
        let supabase_key = reader.parsed("SUPABASE_KEY", "v1's service role key", service_key);
        let encryption_key = reader.parsed(
            "ENCRYPTION_KEY",
            "v1's Fernet key for the stored tokens",
            |text| FernetKey::parse(text).map_err(|error| error.to_string()),
        );
        let google_client_id =
            reader.parsed("GOOGLE_CLIENT_ID", "v1's Google OAuth client", one_word);
        let google_client_secret = reader.parsed(
            "GOOGLE_CLIENT_SECRET",
            "the secret of v1's Google OAuth client",
            one_word,
        );
        let google_token_url = reader.url(
            "GOOGLE_OAUTH_TOKEN_URL",
            "Google's token endpoint, if not the usual one",
            Some(GOOGLE_OAUTH_TOKEN_URL),
        );
        let google_calendar_url = reader.url(
            "GOOGLE_CALENDAR_API_URL",
            "base of Google's Calendar interface, if not the usual one",
            Some(GOOGLE_CALENDAR_API_URL),
        );
        let convex = convex(&mut reader);
        let problems = reader.problems;
        match (
            supabase_url,
            supabase_key,
            encryption_key,
            google_client_id,
            google_client_secret,
            google_token_url,
            google_calendar_url,
        ) {
            (
                Some(supabase_url),
                Some(supabase_key),
                Some(encryption_key),
                Some(google_client_id),
                Some(google_client_secret),
                Some(google_token_url),
                Some(google_calendar_url),
            ) if problems.is_empty() => Ok(Self {
                supabase_url,
                supabase_key: Secret::new(supabase_key),
                encryption_key,
                google_client_id,
                google_client_secret: Secret::new(google_client_secret),
                google_token_url,
                google_calendar_url,
                convex,
            }),
            _ => Err(ConfigError { problems }),
        }
    }
}

/// The deployments of v2 that are named. Each takes both of its variables; none has to be named, since exports can be given instead.
fn convex(reader: &mut Reader<'_>) -> Vec<ConvexDeployment> {
    let mut found: Vec<ConvexDeployment> = Vec::new();
    if reader.is_set("CONVEX_URL") || reader.is_set("CONVEX_DEPLOY_KEY") {
        let url = reader.url(
            "CONVEX_URL",
            "v2's production deployment, https://<name>.convex.cloud",
            None,
        );
        let key = reader.parsed(
            "CONVEX_DEPLOY_KEY",
            "the deploy key of v2's production deployment",
            |text| deploy_key(text, Deployment::Production),
        );
        found.extend(deployment(Deployment::Production, url, key));
    }
    if reader.is_set("CONVEX_DEV_URL") || reader.is_set("CONVEX_DEV_DEPLOY_KEY") {
        let what = "v2's development deployment, https://<name>.convex.cloud";
        let url = reader.url("CONVEX_DEV_URL", what, None);
        let key = reader.parsed(
            "CONVEX_DEV_DEPLOY_KEY",
            "the deploy key of v2's development deployment",
            |text| deploy_key(text, Deployment::Development),
        );
        if url.is_some() && url.as_ref() == found.first().map(|production| &production.url) {
            reader.problems.push(Problem {
                name: "CONVEX_DEV_URL",
                what,
                wrong: "is the same as CONVEX_URL; leave it out where v2 has one deployment"
                    .to_owned(),
            });
        }
        found.extend(deployment(Deployment::Development, url, key));
    }
    found
}

fn deployment(
    deployment: Deployment,
    url: Option<Url>,
    key: Option<String>,
) -> Option<ConvexDeployment> {
    Some(ConvexDeployment {
        deployment,
        url: url?,
        deploy_key: Secret::new(key?),
    })
}

/// Convex names in front of a key what it is for (`prod:<name>|…`, `dev:<name>|…`, `preview:…`, `project:…`).
fn deploy_key(text: &str, deployment: Deployment) -> Result<String, String> {
    let prefix = text
        .split_once('|')
        .and_then(|(name, _)| name.split_once(':'));
    match (prefix.map(|(kind, _)| kind), deployment) {
        (Some("dev"), Deployment::Production) => {
            Err("is the key of a development deployment".to_owned())
        }
        (Some("prod"), Deployment::Development) => {
            Err("is the key of a production deployment".to_owned())
        }
        _ => one_word(text),
    }
}

struct Reader<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn parsed<T>(
        &mut self,
        name: &'static str,
        what: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = (self.get)(name).unwrap_or_default();
        let parsed = match value.trim() {
            "" => Err("is not set".to_owned()),
            text => parse(text),
        };
        parsed
            .map_err(|wrong| self.problems.push(Problem { name, what, wrong }))
            .ok()
    }

    fn url(
        &mut self,
        name: &'static str,
        what: &'static str,
        usual: Option<&'static str>,
    ) -> Option<Url> {
        match usual {
            Some(usual) if !self.is_set(name) => base_url(usual).ok(),
            _ => self.parsed(name, what, base_url),
        }
    }

    fn is_set(&self, name: &str) -> bool {
        (self.get)(name).is_some_and(|value| !value.trim().is_empty())
    }
}

/// `https` is required, but for a host that is this machine.
fn base_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("is not an http(s) URL with a host".to_owned()),
    };
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        "http" => return Err("is http, and only https keeps the key secret on the way".to_owned()),
        _ => return Err("is not an http(s) URL".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; they belong in no URL".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or fragment; give the bare address".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if path.ends_with("/rest/v1") {
        return Err("ends in /rest/v1; give the project's bare address".to_owned());
    }
    url.set_path(&path);
    Ok(url)
}

fn one_word(text: &str) -> Result<String, String> {
    if text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("has white space or characters outside ASCII in it".to_owned())
    }
}

/// Refuses the keys of which it is plain that row-level security would hide rows from them. The signature is not checked here: Supabase
/// does that.
fn service_key(text: &str) -> Result<String, String> {
    let hint =
        "use the service role key (or sb_secret_...): with this one a full table answers 0 rows";
    if text.starts_with("sb_publishable_") {
        return Err(format!("is a publishable key; {hint}"));
    }
    match jwt_role(text).as_deref() {
        Some("anon") => Err(format!("is the anon key; {hint}")),
        Some("authenticated") => Err(format!("is a user's key; {hint}")),
        _ => one_word(text),
    }
}

fn jwt_role(text: &str) -> Option<String> {
    let payload = text.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD
        .decode(payload)
        .or_else(|_| URL_SAFE.decode(payload))
        .ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    claims.get("role")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn jwt(role: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let claims = format!(r#"{{"iss":"supabase","role":"{role}"}}"#);
        format!("{}.{}.c2ln", encode(r#"{"alg":"HS256"}"#), encode(&claims))
    }

    fn good() -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            (
                "SUPABASE_URL",
                "https://abcdefghijklmnopqrst.supabase.co/".to_owned(),
            ),
            ("SUPABASE_KEY", jwt("service_role")),
            (
                "ENCRYPTION_KEY",
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            ),
            (
                "GOOGLE_CLIENT_ID",
                "123.apps.googleusercontent.com".to_owned(),
            ),
            ("GOOGLE_CLIENT_SECRET", "GOCSPX-made-up".to_owned()),
        ])
    }

    fn read(variables: &BTreeMap<&'static str, String>) -> Result<WorkerConfig, ConfigError> {
        WorkerConfig::from_env(&|name| variables.get(name).cloned())
    }

    #[test]
    fn a_full_environment_is_read_and_defaults_apply() {
        let config = read(&good()).expect("a good environment");
        assert_eq!(config.google_token_url.as_str(), GOOGLE_OAUTH_TOKEN_URL);
        assert_eq!(config.google_calendar_url.as_str(), GOOGLE_CALENDAR_API_URL);
        assert_eq!(
            config.supabase_url.as_str(),
            "https://abcdefghijklmnopqrst.supabase.co/"
        );
    }

    #[test]
    fn everything_missing_is_listed_at_once_by_name() {
        let error = read(&BTreeMap::new()).expect_err("an empty environment");
        let names: Vec<_> = error.problems.iter().map(|problem| problem.name).collect();
        assert_eq!(
            names,
            [
                "SUPABASE_URL",
                "SUPABASE_KEY",
                "ENCRYPTION_KEY",
                "GOOGLE_CLIENT_ID",
                "GOOGLE_CLIENT_SECRET"
            ]
        );
        assert!(
            error
                .to_string()
                .contains("SUPABASE_KEY: is not set (v1's service role key)")
        );
    }

    #[test]
    fn each_wrong_value_is_refused_and_never_shown() {
        let cases = [
            ("SUPABASE_URL", "ftp://db.example.com", "not an http(s) URL"),
            ("SUPABASE_URL", "http://db.example.com", "only https"),
            ("SUPABASE_URL", "db.example.com", "not a URL"),
            (
                "SUPABASE_URL",
                "https://me:pass@db.example.com",
                "user name or password",
            ),
            ("SUPABASE_KEY", "sb_publishable_abc", "publishable"),
            ("SUPABASE_KEY", &jwt("anon"), "anon key"),
            ("ENCRYPTION_KEY", "c2hvcnQ=", "base64 of 5 bytes"),
            ("ENCRYPTION_KEY", "!!!!", "not url-safe base64"),
            ("GOOGLE_CLIENT_ID", "two words", "white space"),
            ("GOOGLE_CLIENT_SECRET", "  ", "is not set"),
            (
                "GOOGLE_CALENDAR_API_URL",
                "http://calendar.example.com",
                "only https",
            ),
        ];
        for (name, value, wrong) in cases {
            let mut variables = good();
            variables.insert(name, value.to_owned());
            let error = read(&variables).expect_err(name);
            assert_eq!(error.problems.len(), 1, "{name}={value}");
            assert!(
                error.problems[0].wrong.contains(wrong),
                "{}",
                error.problems[0].wrong
            );
            assert!(value.trim().is_empty() || !error.to_string().contains(value));
        }
    }

    #[test]
    fn deployments_of_v2_are_read_where_named_and_each_takes_both_variables() {
        assert!(read(&good()).expect("a good environment").convex.is_empty());
        let mut both = good();
        let set = |variables: &mut BTreeMap<&'static str, String>, name, value: &str| {
            variables.insert(name, value.to_owned());
        };
        set(
            &mut both,
            "CONVEX_URL",
            "https://example-prod-1.convex.cloud/",
        );
        set(
            &mut both,
            "CONVEX_DEPLOY_KEY",
            "prod:example-prod-1|made-up",
        );
        set(
            &mut both,
            "CONVEX_DEV_URL",
            "https://example-dev-1.convex.cloud",
        );
        set(
            &mut both,
            "CONVEX_DEV_DEPLOY_KEY",
            "dev:example-dev-1|made-up",
        );
        let convex = read(&both).expect("a good environment").convex;
        let kinds: Vec<_> = convex.iter().map(|one| one.deployment).collect();
        assert_eq!(kinds, Deployment::ALL);
        assert_eq!(
            convex[0].address("/api/query").as_str(),
            "https://example-prod-1.convex.cloud/api/query"
        );
        assert!(!format!("{convex:?}").contains("made-up"));
        for (name, value, wrong_name, wrong) in [
            ("CONVEX_URL", "", "CONVEX_URL", "is not set"),
            ("CONVEX_DEPLOY_KEY", " ", "CONVEX_DEPLOY_KEY", "is not set"),
            ("CONVEX_DEV_URL", "", "CONVEX_DEV_URL", "is not set"),
            (
                "CONVEX_DEV_DEPLOY_KEY",
                "",
                "CONVEX_DEV_DEPLOY_KEY",
                "is not set",
            ),
            (
                "CONVEX_URL",
                "http://v2.example.com",
                "CONVEX_URL",
                "only https",
            ),
            (
                "CONVEX_DEPLOY_KEY",
                "dev:x|made-up",
                "CONVEX_DEPLOY_KEY",
                "a development deployment",
            ),
            (
                "CONVEX_DEV_DEPLOY_KEY",
                "prod:x|made-up",
                "CONVEX_DEV_DEPLOY_KEY",
                "a production deployment",
            ),
            (
                "CONVEX_DEV_URL",
                "https://example-prod-1.convex.cloud",
                "CONVEX_DEV_URL",
                "the same as CONVEX_URL",
            ),
        ] {
            let mut variables = both.clone();
            set(&mut variables, name, value);
            let error = read(&variables).expect_err(name);
            let [problem] = &error.problems[..] else {
                panic!("{name}: {error}")
            };
            assert_eq!(problem.name, wrong_name);
            assert!(problem.wrong.contains(wrong), "{}", problem.wrong);
            assert!(!error.to_string().contains("made-up"));
        }
    }

    #[test]
    fn this_machine_may_be_reached_without_tls() {
        for host in ["127.0.0.1:1", "localhost:1", "[::1]:1"] {
            let mut variables = good();
            variables.insert("SUPABASE_URL", format!("http://{host}"));
            assert!(read(&variables).is_ok(), "{host}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", read(&good()).expect("a good environment"));
        assert!(!shown.contains("GOCSPX") && !shown.contains("AAECAw") && !shown.contains("eyJ"));
    }
}
