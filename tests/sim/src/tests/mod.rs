//! The services over real HTTP, as a client sees them.

mod calendar_errors;
mod calendar_list;
mod calendar_write;
mod convex;
mod faults;
mod oracle;
mod supabase;
mod tokens;
mod world;

use std::sync::Once;

use serde_json::Value;

use crate::{Sim, SimConfig, SimServers, Truth, World, WorldSpec, world::UserKind};

/// One HTTP client for everything, without the program's own care.
pub(super) fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().build().unwrap()
}

/// A small world being served, and a client with an access token of its first user.
pub(super) struct Bench {
    pub(super) sim: Sim,
    pub(super) http: reqwest::Client,
    pub(super) account: String,
    pub(super) token: String,
}

/// One user's world without half characters, which no JSON parser of ours takes.
pub(super) fn plain_world(events: usize) -> World {
    let mut world = WorldSpec::default()
        .users(1)
        .events_per_user(events)
        .generate();
    world.calendars[0].events.retain(|event| {
        !Value::Object(event.fields.clone())
            .to_string()
            .contains(crate::calendar::MARK)
    });
    world
}

/// Status, headers and body of an answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        let start: String = self.text.chars().take(400).collect();
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {start}"))
    }

    /// `errors[0].reason` of Google's envelope.
    pub(super) fn reason(&self) -> String {
        let body = self.json();
        assert_eq!(body["error"]["code"], self.status, "{body}");
        body["error"]["errors"][0]["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Bench {
    pub(super) async fn start() -> Self {
        Self::with(
            WorldSpec::default().users(16).events_per_user(57),
            SimConfig::default(),
        )
        .await
    }

    pub(super) async fn with(spec: WorldSpec, config: SimConfig) -> Self {
        Self::serve(spec.generate(), config).await
    }

    pub(super) async fn serve(world: World, config: SimConfig) -> Self {
        let user = world
            .users
            .iter()
            .find(|user| user.kind == UserKind::Connected)
            .unwrap();
        let account = user.account.clone().unwrap();
        let sim = SimServers::start_with(world, config).await.unwrap();
        let http = client();
        let mut bench = Self {
            sim,
            http,
            account,
            token: String::new(),
        };
        bench.token = bench.token_of(&bench.account).await;
        bench
    }

    /// A fresh access token, from the real endpoint.
    pub(super) async fn token_of(&self, account: &str) -> String {
        let grant = self
            .sim
            .world()
            .grants
            .iter()
            .find(|grant| grant.account == account)
            .unwrap();
        let refresh = grant.refresh_token.clone();
        let answer = self.refresh(&[("refresh_token", &refresh)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// A token request with the usual fields, some replaced; an empty value leaves the field out.
    pub(super) async fn refresh(&self, fields: &[(&str, &str)]) -> Answer {
        let env = self.sim.env();
        let mut form = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", env["GOOGLE_CLIENT_ID"].clone()),
            ("client_secret", env["GOOGLE_CLIENT_SECRET"].clone()),
        ];
        for (name, value) in fields {
            form.retain(|(have, _)| have != name);
            if !value.is_empty() {
                form.push((name, (*value).to_owned()));
            }
        }
        answer(self.http.post(&env["GOOGLE_OAUTH_TOKEN_URL"]).form(&form)).await
    }

    /// A request below `calendars/primary/events`, with the account's token.
    pub(super) fn events(&self, method: reqwest::Method, rest: &str) -> reqwest::RequestBuilder {
        self.calendar(method, &format!("/calendars/primary/events{rest}"))
    }

    pub(super) fn calendar(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let base = &self.sim.env()["GOOGLE_CALENDAR_API_URL"];
        self.http
            .request(method, format!("{base}{path}"))
            .bearer_auth(&self.token)
    }

    pub(super) async fn get(&self, rest: &str) -> Answer {
        answer(self.events(reqwest::Method::GET, rest)).await
    }

    /// A table read with the service key.
    pub(super) fn table(&self, path: &str) -> reqwest::RequestBuilder {
        let env = self.sim.env();
        self.http
            .get(format!("{}/rest/v1/{path}", env["SUPABASE_URL"]))
            .header("apikey", &env["SUPABASE_KEY"])
            .bearer_auth(&env["SUPABASE_KEY"])
    }

    /// A live event of the bench's account that has this class.
    pub(super) fn event(&self, class: crate::Class) -> &Truth {
        self.sim
            .truth()
            .iter()
            .find(|truth| truth.class == class && truth.calendar == self.account)
            .unwrap_or_else(|| panic!("no {class:?} on {}", self.account))
    }
}

pub(super) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}
