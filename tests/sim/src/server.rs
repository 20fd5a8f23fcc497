//! Serving a world: five listeners on loopback, one path for every request.
//!
//! arrive → journal → fault before the effect → latency → effect on the state → fault after it → answer. The path runs in a task
//! of its own: as with a real service, a request that arrived takes effect even if its sender dies meanwhile.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::calendar::{self, CalendarService, Calendars, PageShape, PageTweak, Paging};
use crate::clock::{SimClock, http_date};
use crate::control;
use crate::convex::{self, ConvexConfig, ConvexService};
use crate::dice::Dice;
use crate::faults::{FaultKind, Faults, Fired, Hold, HoldPoint, StatusFault, Target};
use crate::google_oauth::{self, TokenService};
use crate::http::{Call, Incoming, Reply, Service};
use crate::journal::{Journal, JournalEntry, safe_query};
use crate::lock;
use crate::sim::Sim;
use crate::supabase::{self, SupabaseService, Writes};
use crate::wire::{Wire, WireListener};
use crate::world::World;

/// The largest request body that is read; Google's limit for an event is far below.
const BODY_MAX: usize = 16 << 20;

/// The window of Google's quotas.
const MINUTE: Duration = Duration::from_mins(1);

/// In the order of their addresses.
const SERVICES: [Service; 5] = [
    Service::Supabase,
    Service::Oauth,
    Service::Calendar,
    Service::Convex,
    Service::ConvexDev,
];

/// How the services behave, apart from their content.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// How long each request takes before it has its effect.
    pub latency: Duration,
    /// Supabase's `max-rows`: the most rows of one answer.
    pub max_rows: usize,
    /// Whether Supabase's tables may be written.
    pub writes: Writes,
    /// How long a new access token is good for.
    pub access_token_lifetime: Duration,
    /// Calendar requests that one account may make in a minute: 403 `userRateLimitExceeded` beyond. Google's figure is 600.
    pub user_requests_per_minute: Option<usize>,
    /// Shape of the pages of event listings.
    pub pages: PageShape,
    /// Both deployments of v2.
    pub convex: ConvexConfig,
    /// Address to listen on; each service takes a free port of it.
    pub host: &'static str,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            max_rows: 1_000,
            writes: Writes::default(),
            access_token_lifetime: Duration::from_hours(1),
            user_requests_per_minute: None,
            pages: PageShape::default(),
            convex: ConvexConfig::default(),
            host: "127.0.0.1",
        }
    }
}

/// Starts simulators.
#[derive(Debug, Clone, Copy)]
pub struct SimServers;

impl SimServers {
    /// Serves a world with the default behaviour. Fails only if no port can be had.
    pub async fn start(world: World) -> io::Result<Sim> {
        Self::start_with(world, SimConfig::default()).await
    }

    /// Serves a world. Must be called within a Tokio runtime, which then runs the services until [`Sim::stop`].
    pub async fn start_with(world: World, config: SimConfig) -> io::Result<Sim> {
        let app = Arc::new(App::new(world, config));
        let mut addresses = Vec::new();
        for service in SERVICES {
            let listener = TcpListener::bind((app.config.host, 0)).await?;
            addresses.push(listener.local_addr()?);
            let gate = Gate {
                app: Arc::clone(&app),
                service,
            };
            let router = Router::new().fallback(handle).with_state(gate);
            let stop = app.stop.clone().cancelled_owned();
            app.servers.spawn(async move {
                // The only error is the listener's, and it is this crate's own, which retries.
                let _ = axum::serve(
                    WireListener(listener),
                    router.into_make_service_with_connect_info::<Wire>(),
                )
                .with_graceful_shutdown(stop)
                .await;
            });
        }
        Ok(Sim::new(app, &addresses))
    }
}

/// Everything that the services share.
pub(crate) struct App {
    pub(crate) config: SimConfig,
    pub(crate) world: World,
    pub(crate) clock: SimClock,
    pub(crate) journal: Journal,
    pub(crate) faults: Faults,
    /// When each account's requests of the last minute came.
    pub(crate) recent: Mutex<HashMap<String, VecDeque<Instant>>>,
    pub(crate) supabase: Mutex<SupabaseService>,
    pub(crate) tokens: Mutex<TokenService>,
    pub(crate) calendar: Mutex<CalendarService>,
    pub(crate) convex: Mutex<ConvexService>,
    pub(crate) convex_dev: Mutex<ConvexService>,
    pub(crate) stop: CancellationToken,
    pub(crate) servers: TaskTracker,
    pub(crate) requests: TaskTracker,
}

impl App {
    fn new(world: World, config: SimConfig) -> Self {
        let seed = world.spec.seed;
        let clock = SimClock::default();
        let keys = &world.keys;
        let lifetime = chrono::Duration::from_std(config.access_token_lifetime)
            .unwrap_or(chrono::Duration::MAX);
        Self {
            supabase: Mutex::new(SupabaseService {
                database: world.database.clone(),
                service_key: keys.service_key.clone(),
                anon_key: keys.anon_key.clone(),
                max_rows: config.max_rows,
                writes: config.writes,
                dice: Dice::lane(seed, 101),
            }),
            tokens: Mutex::new(TokenService::new(
                world.clients.clone(),
                &world.grants,
                Dice::lane(seed, 102),
                lifetime,
            )),
            calendar: Mutex::new(CalendarService {
                calendars: Calendars::new(&world.calendars, clock.now()),
                channels: world.channels.clone(),
                paging: Paging {
                    secret: Dice::lane(seed, 103).bytes(),
                    shape: config.pages,
                    dice: Dice::lane(seed, 104),
                },
                dice: Dice::lane(seed, 105),
            }),
            convex: Mutex::new(ConvexService::new(
                "example-prod-1",
                &keys.convex_key,
                &world.v2.production,
                config.convex,
                world.v2.snapshot_at,
            )),
            convex_dev: Mutex::new(ConvexService::new(
                "example-dev-1",
                &keys.convex_dev_key,
                &world.v2.dev,
                config.convex,
                world.v2.snapshot_at,
            )),
            journal: Journal::default(),
            faults: Faults::default(),
            recent: Mutex::default(),
            stop: CancellationToken::new(),
            servers: TaskTracker::new(),
            requests: TaskTracker::new(),
            clock,
            world,
            config,
        }
    }

    fn route(service: Service, request: &Incoming) -> Option<Route> {
        match service {
            Service::Supabase => supabase::route(request).map(|(call, table)| Route {
                call,
                what: What::Table(table),
            }),
            Service::Oauth => google_oauth::route(request).map(|call| Route {
                call,
                what: What::Token,
            }),
            Service::Calendar => calendar::route(request).map(|route| Route {
                call: route.call,
                what: What::Calendar(route),
            }),
            Service::Convex | Service::ConvexDev => convex::route(request).map(|call| Route {
                call,
                what: What::Convex(service),
            }),
        }
    }

    /// The Google account that a request acts for.
    fn account(&self, service: Service, request: &Incoming) -> Option<String> {
        let tokens = lock(&self.tokens);
        match service {
            Service::Supabase | Service::Convex | Service::ConvexDev => None,
            Service::Oauth => tokens.account_of(request),
            Service::Calendar => request
                .bearer()
                .and_then(|token| tokens.access(token))
                .map(|a| a.account.clone()),
        }
    }

    /// Whether an account has used up its requests of the last minute; counts this one if not.
    fn over_limit(&self, account: &str) -> bool {
        let Some(limit) = self.config.user_requests_per_minute else {
            return false;
        };
        let now = Instant::now();
        let mut recent = lock(&self.recent);
        let times = recent.entry(account.to_owned()).or_default();
        while times
            .front()
            .is_some_and(|first| now.duration_since(*first) >= MINUTE)
        {
            times.pop_front();
        }
        if times.len() >= limit {
            return true;
        }
        times.push_back(now);
        false
    }

    /// Lets a request take effect.
    fn take_effect(&self, route: &Route, request: &Incoming, tweak: PageTweak) -> (Reply, bool) {
        let now = self.clock.now();
        match &route.what {
            What::Table(table) => lock(&self.supabase).answer(route.call, table, request),
            What::Token => lock(&self.tokens).answer(route.call, request, now),
            What::Calendar(named) => {
                let tokens = lock(&self.tokens);
                let access = request.bearer().and_then(|token| tokens.access(token));
                lock(&self.calendar).answer(named, request, access, tweak, now)
            }
            What::Convex(Service::ConvexDev) => {
                lock(&self.convex_dev).answer(route.call, request, tweak, now)
            }
            What::Convex(_) => lock(&self.convex).answer(route.call, request, tweak, now),
        }
    }
}

struct Route {
    call: Call,
    what: What,
}

enum What {
    Table(String),
    Token,
    Calendar(calendar::Route),
    Convex(Service),
}

#[derive(Clone)]
struct Gate {
    app: Arc<App>,
    service: Service,
}

async fn handle(
    State(gate): State<Gate>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else {
        return respond(&gate.app, Reply::empty(413));
    };
    let request = Incoming::new(&parts, body);
    let app = Arc::clone(&gate.app);
    if request
        .segments
        .first()
        .is_some_and(|first| first == "__sim")
    {
        let reply = control::answer(&app, &request).await;
        return respond(&app, reply);
    }
    let stop = app.stop.clone();
    let cut = wire.clone();
    let answered = app.requests.spawn(process(gate, wire, request));
    let reply = tokio::select! {
        reply = answered => reply.unwrap_or_else(|_| Reply::empty(500)),
        // Parked requests do not outlive the services.
        () = stop.cancelled() => {
            cut.cut();
            Reply::empty(503)
        }
    };
    respond(&app, reply)
}

/// The whole path of one request.
async fn process(gate: Gate, wire: Wire, request: Incoming) -> Reply {
    let Gate { app, service } = gate;
    let route = App::route(service, &request);
    let account = app.account(service, &request);
    let (calendar, event) = match route.as_ref().map(|route| &route.what) {
        Some(What::Calendar(named)) => (named.calendar.clone(), named.event.clone()),
        _ => (None, None),
    };
    let call = route.as_ref().map(|route| route.call);
    let fired = app.faults.fire(&Target {
        service,
        call,
        account: account.as_deref(),
        event_id: event.as_deref(),
    });
    let number = app.journal.begin(JournalEntry {
        number: 0,
        at: app.clock.now(),
        service,
        call,
        method: request.method.to_string(),
        path: request.path.clone(),
        query: safe_query(&request),
        calendar: match (calendar, &account) {
            (Some(name), Some(account)) if name == "primary" => Some(account.clone()),
            (calendar, _) => calendar,
        },
        account: account.clone(),
        event_id: event,
        if_match: request.header("if-match").map(str::to_owned),
        fault: fired.as_ref().map(|fired| fired.kind.name().to_owned()),
        status: None,
        effect: false,
        delivered: false,
    });

    if !app.config.latency.is_zero() {
        tokio::time::sleep(app.config.latency).await;
    }
    let tweak = match before_effect(&app, &wire, service, number, fired.as_ref()).await {
        Ok(tweak) => tweak,
        Err(reply) => return reply,
    };
    let limited = service == Service::Calendar
        && account
            .as_deref()
            .is_some_and(|account| app.over_limit(account));
    let (reply, effect) = match &route {
        Some(_) if limited => (calendar::usual_error(403, None), false),
        Some(route) => app.take_effect(route, &request, tweak),
        None => (no_such_address(service), false),
    };
    app.journal.update(number, |entry| {
        entry.status = Some(reply.status);
        entry.effect = effect;
    });
    match fired {
        Some(Fired {
            kind: FaultKind::LoseReply,
            ..
        }) => wire.cut(),
        Some(Fired {
            kind: FaultKind::TruncateBody { keep },
            ..
        }) => {
            wire.truncate(keep.min(reply.body.len().saturating_sub(1)));
        }
        Some(Fired {
            kind: FaultKind::Hold {
                at: HoldPoint::After,
            },
            hold: Some(hold),
        }) => {
            if parked(&app, &hold).await {
                app.journal.update(number, |entry| entry.delivered = true);
            }
        }
        _ => app.journal.update(number, |entry| entry.delivered = true),
    }
    reply
}

/// Applies what a fault does before the effect; an error is the whole answer.
async fn before_effect(
    app: &App,
    wire: &Wire,
    service: Service,
    number: u64,
    fired: Option<&Fired>,
) -> Result<PageTweak, Reply> {
    let Some(Fired { kind, hold }) = fired else {
        return Ok(PageTweak::None);
    };
    match kind {
        FaultKind::LoseRequest => {
            wire.cut();
            Err(Reply::empty(503))
        }
        FaultKind::Status(fault) => {
            let reply = status_reply(service, fault);
            app.journal.update(number, |entry| {
                entry.status = Some(reply.status);
                entry.delivered = true;
            });
            Err(reply)
        }
        FaultKind::Stall { millis: None } => {
            app.stop.cancelled().await;
            wire.cut();
            Err(Reply::empty(503))
        }
        FaultKind::Stall {
            millis: Some(millis),
        } => {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(*millis)) => Ok(PageTweak::None),
                () = app.stop.cancelled() => Err(Reply::empty(503)),
            }
        }
        FaultKind::Hold {
            at: HoldPoint::Before,
        } => match hold {
            Some(hold) if !parked(app, hold).await => Err(Reply::empty(503)),
            _ => Ok(PageTweak::None),
        },
        FaultKind::PageTokenLoop => Ok(PageTweak::Loop),
        FaultKind::DuplicateItems => Ok(PageTweak::Duplicate),
        FaultKind::EmptyPage => Ok(PageTweak::Empty),
        FaultKind::ShortPage => Ok(PageTweak::Short),
        FaultKind::LoseReply
        | FaultKind::TruncateBody { .. }
        | FaultKind::Hold {
            at: HoldPoint::After,
        } => Ok(PageTweak::None),
    }
}

/// Waits at a hold; false if the services ended first.
async fn parked(app: &App, hold: &Hold) -> bool {
    tokio::select! {
        () = hold.park() => true,
        () = app.stop.cancelled() => false,
    }
}

fn status_reply(service: Service, fault: &StatusFault) -> Reply {
    let reason = fault.reason.as_deref();
    let mut reply = if let Some(body) = &fault.body {
        Reply::json_text(fault.status, body.clone())
    } else if fault.html {
        Reply::html(
            fault.status,
            format!(
                "<!DOCTYPE html>\n<html lang=en><title>Error {0}</title><p><b>{0}.</b> That's an error.</html>",
                fault.status
            ),
        )
    } else {
        match service {
            Service::Supabase => supabase::usual_error(fault.status, reason),
            Service::Oauth => google_oauth::usual_error(fault.status, reason),
            Service::Calendar => calendar::usual_error(fault.status, reason),
            Service::Convex | Service::ConvexDev => convex::usual_error(fault.status, reason),
        }
    };
    reply.status = fault.status;
    match &fault.retry_after {
        Some(value) => reply.with_header("retry-after", value.clone()),
        None => reply,
    }
}

fn no_such_address(service: Service) -> Reply {
    match service {
        Service::Supabase => supabase::error(
            404,
            "PGRST125",
            "Invalid path specified in request URL",
            None,
            None,
        ),
        Service::Oauth => Reply::html(404, "<html><title>Error 404 (Not Found)</title></html>"),
        Service::Calendar => calendar::no_such_method(),
        Service::Convex | Service::ConvexDev => convex::error(404, "NotFound", "Not found"),
    }
}

/// Turns a reply into a response, with the `Date` of the services' clock.
fn respond(app: &App, reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let date = ("date", http_date(app.clock.now()));
    for (name, value) in reply.headers.into_iter().chain([date]) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response
                .headers_mut()
                .append(HeaderName::from_static(name), value);
        }
    }
    response
}
