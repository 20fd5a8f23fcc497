//! Google Calendar v3 under `/calendar/v3`.
//!
//! A request is matched to a method, its credential and scope are checked, then its parameters, and only then is anything read
//! or changed: the order in which Google refuses.

mod errors;
mod events;
mod fields;
mod filter;
mod paging;
mod params;
mod store;
mod sync;
mod text;

use axum::http::Method;
use chrono::{DateTime, Utc};
use serde_json::json;

pub use paging::PageShape;
pub use store::{CalendarSeed, EventSeed, Fields, Presence};
pub use text::lone_surrogate;
#[cfg(test)]
pub(crate) use text::{MARK, hide};

pub(crate) use errors::usual as usual_error;
pub(crate) use paging::{PageTweak, Paging};
pub(crate) use store::Calendars;

use crate::dice::Dice;
use crate::google_oauth::{Access, Scope};
use crate::http::{Call, Incoming, Reply};

/// A watch channel: it turns every change of a calendar into a request to whoever opened it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The opener's name of it.
    pub id: String,
    /// Google's name of what it watches.
    pub resource_id: String,
    /// The account that it was opened for.
    pub account: String,
    /// The client that opened it.
    pub client_id: String,
    /// The calendar that it watches.
    pub calendar: String,
}

/// The calendars, and what serving them needs.
#[derive(Debug)]
pub(crate) struct CalendarService {
    pub(crate) calendars: Calendars,
    /// Those that have neither expired nor been stopped.
    pub(crate) channels: Vec<Channel>,
    pub(crate) paging: Paging,
    pub(crate) dice: Dice,
}

/// Which method a request is for, and the calendar and event that its path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) call: Call,
    pub(crate) calendar: Option<String>,
    pub(crate) event: Option<String>,
}

/// The method of a request, if the interface has it.
pub(crate) fn route(request: &Incoming) -> Option<Route> {
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    let method = &request.method;
    let on = |call, calendar: &str, event: Option<&str>| {
        Some(Route {
            call,
            calendar: Some(calendar.to_owned()),
            event: event.map(str::to_owned),
        })
    };
    match path.strip_prefix(&["calendar", "v3"])? {
        ["calendars", calendar, "events"] => match *method {
            Method::GET => on(Call::EventsList, calendar, None),
            Method::POST => on(Call::EventsInsert, calendar, None),
            _ => None,
        },
        ["calendars", calendar, "events", "import"] if method == Method::POST => {
            on(Call::EventsImport, calendar, None)
        }
        ["calendars", calendar, "events", event] if !event.is_empty() => {
            let call = match *method {
                Method::GET => Call::EventsGet,
                Method::PUT => Call::EventsUpdate,
                Method::PATCH => Call::EventsPatch,
                Method::DELETE => Call::EventsDelete,
                _ => return None,
            };
            on(call, calendar, Some(event))
        }
        ["calendars", calendar, "events", event, "instances"] if method == Method::GET => {
            on(Call::EventsInstances, calendar, Some(event))
        }
        ["users", "me", "calendarList"] if method == Method::GET => Some(Route {
            call: Call::CalendarList,
            calendar: None,
            event: None,
        }),
        ["channels", "stop"] if method == Method::POST => Some(Route {
            call: Call::ChannelsStop,
            calendar: None,
            event: None,
        }),
        _ => None,
    }
}

/// The answer for an address that the interface does not have.
pub(crate) fn no_such_method() -> Reply {
    errors::not_found()
}

impl CalendarService {
    /// Answers a request; the flag says whether anything changed.
    pub(crate) fn answer(
        &mut self,
        route: &Route,
        request: &Incoming,
        access: Option<&Access>,
        tweak: PageTweak,
        now: DateTime<Utc>,
    ) -> (Reply, bool) {
        match self.try_answer(route, request, access, tweak, now) {
            Ok(reply) => {
                let reply = fields::cut(reply, request);
                let writes = !matches!(
                    route.call,
                    Call::EventsList | Call::EventsGet | Call::EventsInstances | Call::CalendarList
                );
                (reply, writes)
            }
            Err(reply) => (reply, false),
        }
    }

    fn try_answer(
        &mut self,
        route: &Route,
        request: &Incoming,
        access: Option<&Access>,
        tweak: PageTweak,
        now: DateTime<Utc>,
    ) -> Result<Reply, Reply> {
        let access = match (request.header("authorization"), access) {
            (None, _) => return Err(errors::login_required()),
            (Some(_), Some(access)) if access.expires > now => access,
            _ => return Err(errors::unauthorized()),
        };
        let needed: &[Scope] = match route.call {
            Call::EventsList | Call::EventsGet | Call::EventsInstances => &[
                Scope::Calendar,
                Scope::Events,
                Scope::CalendarReadonly,
                Scope::EventsReadonly,
            ],
            Call::CalendarList => &[
                Scope::Calendar,
                Scope::CalendarReadonly,
                Scope::CalendarList,
            ],
            Call::ChannelsStop => &Scope::ALL,
            _ => &[Scope::Calendar, Scope::Events],
        };
        if !needed.iter().any(|scope| access.scopes.contains(scope)) {
            return Err(errors::insufficient_permissions());
        }
        params::check(route.call, request)?;
        fields::check(request)?;

        let Some(name) = &route.calendar else {
            return self.answer_without_calendar(route.call, request, access);
        };
        let name = if name == "primary" {
            &access.account
        } else {
            name
        };
        let calendar = self
            .calendars
            .get_mut(name)
            .filter(|calendar| calendar.is_open_to(&access.account))
            .ok_or_else(errors::not_found)?;
        let event = route.event.as_deref().unwrap_or_default();
        match route.call {
            Call::EventsList => sync::list(calendar, request, &mut self.paging, tweak, now),
            Call::EventsInstances => match calendar.get(event) {
                Some(event) => Ok(sync::list_instances(calendar, event)),
                None => Err(errors::not_found()),
            },
            Call::EventsGet => events::get(calendar, event, request),
            Call::EventsInsert => events::insert(calendar, request, &mut self.dice, now),
            Call::EventsImport => events::import(calendar, request, &mut self.dice, now),
            Call::EventsPatch => events::patch(calendar, event, request, now),
            Call::EventsUpdate => events::update(calendar, event, request, now),
            Call::EventsDelete => events::delete(calendar, event, request, now),
            _ => Err(errors::not_found()),
        }
    }

    fn answer_without_calendar(
        &mut self,
        call: Call,
        request: &Incoming,
        access: &Access,
    ) -> Result<Reply, Reply> {
        if call == Call::ChannelsStop {
            let body: serde_json::Value =
                serde_json::from_slice(&request.body).map_err(|_| errors::parse_error())?;
            let (Some(id), Some(resource)) = (body.get("id"), body.get("resourceId")) else {
                return Err(errors::required("Missing channel id or resource id."));
            };
            // Only who opened it, as the same user, can close it.
            let open = self.channels.iter().position(|channel| {
                *id == channel.id
                    && *resource == channel.resource_id
                    && channel.account == access.account
                    && channel.client_id == access.client_id
            });
            let Some(open) = open else {
                let message = "Channel not found for project.";
                return Err(errors::envelope(404, "global", "notFound", message));
            };
            self.channels.remove(open);
            return Ok(Reply::empty(204));
        }
        let items: Vec<_> = self
            .calendars
            .all()
            .filter(|calendar| calendar.is_open_to(&access.account))
            .map(|calendar| {
                let mut entry = json!({
                    "kind": "calendar#calendarListEntry",
                    "etag": format!("\"{}\"", calendar.change),
                    "id": calendar.id,
                    "summary": calendar.title,
                    "timeZone": calendar.time_zone,
                    "accessRole": "owner",
                    "selected": true,
                });
                if calendar.id == access.account {
                    entry["primary"] = true.into();
                }
                entry
            })
            .collect();
        Ok(Reply::json(
            200,
            &json!({"kind": "calendar#calendarList", "etag": "\"p1\"", "items": items}),
        ))
    }
}
