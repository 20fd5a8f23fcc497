//! Faults: what can be made to go wrong, on which call, and how often.
//!
//! A fault is set from Rust ([`crate::Sim::add_fault`]) or over HTTP (`POST /__sim/faults` with the JSON of [`Fault`]), because the
//! program under test may be another process. At most one fault meets a request: the first one set that matches and is due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::dice::Dice;
use crate::http::{Call, Service};
use crate::lock;

/// What goes wrong, where and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only requests to this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Only this operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// Only requests under this Google account's credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Only requests that name this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Which of the matching requests.
    #[serde(default)]
    pub when: Occurrence,
    /// What happens.
    pub kind: FaultKind,
}

impl Fault {
    /// This happens once, on the next request of one operation.
    pub fn once(call: Call, kind: FaultKind) -> Self {
        Self {
            service: None,
            call: Some(call),
            account: None,
            event_id: None,
            when: Occurrence::Times(1),
            kind,
        }
    }

    /// The same at another frequency.
    #[must_use]
    pub fn when(mut self, when: Occurrence) -> Self {
        self.when = when;
        self
    }

    /// The same for one account only.
    #[must_use]
    pub fn for_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// The same for one event only.
    #[must_use]
    pub fn for_event(mut self, event_id: impl Into<String>) -> Self {
        self.event_id = Some(event_id.into());
        self
    }
}

/// Which of the requests that match a fault it happens to. Counts start at 1 when the fault is set.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occurrence {
    /// All of them.
    #[default]
    Always,
    /// The first so many.
    Times(u64),
    /// This one alone.
    Nth(u64),
    /// Each one whose number is a multiple.
    Every(u64),
    /// Each one with a probability, drawn from a seed.
    Probability {
        /// From 0 to 1.
        p: f64,
        /// Makes the draws repeatable.
        seed: u64,
    },
}

/// What happens to the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The connection breaks before the request takes effect.
    LoseRequest,
    /// The request takes effect, and the connection breaks before the answer.
    LoseReply,
    /// This is answered instead, and nothing takes effect.
    Status(StatusFault),
    /// No answer for so many milliseconds, then as usual; without a number, never, and no effect either.
    Stall {
        /// How long, in milliseconds.
        #[serde(default)]
        millis: Option<u64>,
    },
    /// The request takes effect; the answer's head and so many bytes of its body are sent, then the connection breaks.
    TruncateBody {
        /// Bytes of the body that are sent.
        keep: usize,
    },
    /// A listing answers the same page for ever: its `nextPageToken` leads to itself.
    PageTokenLoop,
    /// A page of a listing starts with the last items of the page before it.
    DuplicateItems,
    /// A page of a listing is empty, with more to come.
    EmptyPage,
    /// A page of a listing holds one item, with more to come.
    ShortPage,
    /// The request is parked until it is released.
    Hold {
        /// Before or after its effect.
        at: HoldPoint,
    },
}

/// The status, and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatusFault {
    /// HTTP status.
    pub status: u16,
    /// `errors[0].reason` of Google's envelope, or `error` of the token endpoint, or `code` of PostgREST; a usual one if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `Retry-After`, verbatim: seconds or an HTTP date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// This body instead of the service's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// An HTML page, as from a proxy.
    #[serde(default)]
    pub html: bool,
}

impl FaultKind {
    /// A status with the service's usual body for it.
    pub fn status(status: u16) -> Self {
        Self::Status(StatusFault {
            status,
            ..StatusFault::default()
        })
    }

    /// A status with a given reason.
    pub fn reason(status: u16, reason: impl Into<String>) -> Self {
        Self::Status(StatusFault {
            status,
            reason: Some(reason.into()),
            ..StatusFault::default()
        })
    }

    /// A status with `Retry-After`.
    pub fn retry_after(status: u16, value: impl Into<String>) -> Self {
        Self::Status(StatusFault {
            status,
            retry_after: Some(value.into()),
            ..StatusFault::default()
        })
    }

    /// A status with an HTML page.
    pub fn html(status: u16) -> Self {
        Self::Status(StatusFault {
            status,
            html: true,
            ..StatusFault::default()
        })
    }

    /// Its name, as the journal writes it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LoseRequest => "lose_request",
            Self::LoseReply => "lose_reply",
            Self::Status(_) => "status",
            Self::Stall { .. } => "stall",
            Self::TruncateBody { .. } => "truncate_body",
            Self::PageTokenLoop => "page_token_loop",
            Self::DuplicateItems => "duplicate_items",
            Self::EmptyPage => "empty_page",
            Self::ShortPage => "short_page",
            Self::Hold { .. } => "hold",
        }
    }
}

/// Where a held request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldPoint {
    /// Before it takes effect.
    Before,
    /// After it took effect, before it is answered.
    After,
}

/// Names a fault that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

/// A handle on a [`FaultKind::Hold`]: wait until a request reached it, then let it go.
#[derive(Debug, Clone)]
pub struct Hold {
    reached: Arc<watch::Sender<u64>>,
    released: Arc<watch::Sender<bool>>,
}

impl Hold {
    fn new() -> Self {
        Self {
            reached: Arc::new(watch::Sender::new(0)),
            released: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Returns once a request is parked here (at once if one already was).
    pub async fn reached(&self) {
        // The sender lives in `self`, so the wait can only end by the condition.
        let _ = self.reached.subscribe().wait_for(|count| *count > 0).await;
    }

    /// How many requests have been parked here.
    pub fn count(&self) -> u64 {
        *self.reached.borrow()
    }

    /// Lets the parked requests go on, and later ones pass.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    pub(crate) async fn park(&self) {
        self.reached.send_modify(|count| *count += 1);
        let _ = self
            .released
            .subscribe()
            .wait_for(|released| *released)
            .await;
    }
}

struct Armed {
    id: FaultId,
    fault: Fault,
    seen: u64,
    dice: Option<Dice>,
    hold: Option<Hold>,
}

/// A fault that meets a request.
pub(crate) struct Fired {
    pub(crate) kind: FaultKind,
    pub(crate) hold: Option<Hold>,
}

/// What a request is about, for matching.
pub(crate) struct Target<'a> {
    pub(crate) service: Service,
    pub(crate) call: Option<Call>,
    pub(crate) account: Option<&'a str>,
    pub(crate) event_id: Option<&'a str>,
}

/// The faults that are set.
#[derive(Default)]
pub(crate) struct Faults {
    next: AtomicU64,
    armed: Mutex<Vec<Armed>>,
}

impl Faults {
    pub(crate) fn add(&self, fault: Fault) -> (FaultId, Option<Hold>) {
        let id = FaultId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let hold = matches!(fault.kind, FaultKind::Hold { .. }).then(Hold::new);
        let dice = match fault.when {
            Occurrence::Probability { seed, .. } => Some(Dice::new(seed)),
            _ => None,
        };
        lock(&self.armed).push(Armed {
            id,
            fault,
            seen: 0,
            dice,
            hold: hold.clone(),
        });
        (id, hold)
    }

    pub(crate) fn remove(&self, id: FaultId) -> bool {
        let mut armed = lock(&self.armed);
        let before = armed.len();
        armed.retain(|one| one.id != id);
        armed.len() < before
    }

    pub(crate) fn clear(&self) {
        lock(&self.armed).clear();
    }

    pub(crate) fn list(&self) -> Vec<(FaultId, Fault)> {
        lock(&self.armed)
            .iter()
            .map(|one| (one.id, one.fault.clone()))
            .collect()
    }

    pub(crate) fn hold(&self, id: FaultId) -> Option<Hold> {
        lock(&self.armed)
            .iter()
            .find(|one| one.id == id)
            .and_then(|one| one.hold.clone())
    }

    /// The fault that meets this request. Every matching fault counts the request, whichever fires.
    pub(crate) fn fire(&self, target: &Target<'_>) -> Option<Fired> {
        let mut fired = None;
        for armed in lock(&self.armed).iter_mut() {
            if !armed.fault.matches(target) {
                continue;
            }
            armed.seen += 1;
            if armed.due() && fired.is_none() {
                fired = Some(Fired {
                    kind: armed.fault.kind.clone(),
                    hold: armed.hold.clone(),
                });
            }
        }
        fired
    }
}

impl Armed {
    fn due(&mut self) -> bool {
        match self.fault.when {
            Occurrence::Always => true,
            Occurrence::Times(times) => self.seen <= times,
            Occurrence::Nth(nth) => self.seen == nth,
            Occurrence::Every(step) => step > 0 && self.seen.is_multiple_of(step),
            Occurrence::Probability { p, .. } => {
                self.dice.as_mut().is_some_and(|dice| dice.chance(p))
            }
        }
    }
}

impl Fault {
    fn matches(&self, target: &Target<'_>) -> bool {
        self.service.is_none_or(|service| service == target.service)
            && self.call.is_none_or(|call| Some(call) == target.call)
            && self
                .account
                .as_deref()
                .is_none_or(|account| Some(account) == target.account)
            && self
                .event_id
                .as_deref()
                .is_none_or(|event| Some(event) == target.event_id)
    }
}
