//! What is measured of one calendar event, as named facts with their evidence.
//!
//! Pure: what v1 and v2 recorded, the account's state and the times come in as arguments. Details
//! hold numbers, keys, forms and dates, never text that a person wrote. The numbers in the comments
//! are those of the project's own table of signals.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Duration, NaiveDate, Utc};
use ledger::domain::identify::{Facts, Named, Parameter, Vocabulary};
use ledger::domain::policy::Policy;
use uuid::Uuid;

use super::event::{EventView, ParsedEvent};
use super::text::{case_links, mentions_product};
use super::titles::Title;
use super::v2_text::{OfCases, V2Texts};

macro_rules! named {
    ($($name:literal: $meaning:literal,)*) => {
        &[$(Named { name: Cow::Borrowed($name), meaning: Cow::Borrowed($meaning) }),*]
    };
}

/// Everything a policy for calendar events may speak of.
pub const VOCABULARY: Vocabulary<'static> = Vocabulary {
    kind: "calendar-event",
    signals: named! {
        "unreachable": "the user's account cannot be reached: no usable token, or disconnected",
        "wrong_account": "not found, and no other recorded id of that user is on that account either, or not all of its calendars could be asked",
        "not_found": "Google does not know the id on that calendar",
        "gone": "Google says the event was deleted",
        "cancelled": "Google remembers the event as cancelled",
        "unreadable": "the event could not be read whole",
        "illegible": "nothing of the event could be read, not even what it may concern",
        "v1_recorded": "v1 recorded the id on a case of a user of this account",
        "v1_recorded_elsewhere": "v1 recorded the id, but only on cases of other accounts' users",
        "v1_recorded_twice": "v1 recorded the id on cases of more than one user",
        "v2_recorded": "v2 records the id now, in production or in development",
        "v2_text": "the description is, word for word, v2's for one of its cases",
        "v2_mark": "the event carries v2's mark in its private properties",
        "case_link": "the description names a v1 case of a user of this account, and the product",
        "case_link_unknown": "the description names a case that is none of this account's users'",
        "title": "the title begins with one of the product's eight labels and a colon",
        "mention": "title, description or place names the product",
        "not_all_day": "start or end is not a day",
        "organizer_not_self": "the organizer is not the account's owner, or none is named",
        "creator_not_self": "the creator is not the account's owner",
        "attendees": "it has attendees, or their list was left out",
        "recurrence": "it is a series or one of a series",
        "attachments": "it has attachments",
        "event_type_not_default": "it is of a special type",
        "edited": "it was changed some time after it was made, or that cannot be told",
        "created_before_go_live": "it was made before go-live",
        "api_shape": "its end or its reminders are as programs write them",
        "date_matches_case": "its day is a deadline of the v1 case it belongs to",
    },
    conditions: named! {
        "calibrated": "v1's signature was found on enough of the events that v1 recorded",
        "after_freeze": "made after v1 was frozen, or it is not known when",
        "uncovered": "a deadline yet to come, and no live v2 event stands for it",
        "past": "its day is over",
    },
    parameters: &[
        Parameter {
            name: Cow::Borrowed("calibrated_min_percent"),
            meaning: Cow::Borrowed("share of recorded events that must carry v1's signature"),
            default: 95,
            min: 1,
            max: 100,
        },
        Parameter {
            name: Cow::Borrowed("v2_knows_min_percent"),
            meaning: Cow::Borrowed(
                "share of v1's cases that v2's production must have, beside one or one of its ids, or it is taken for \
                 another deployment",
            ),
            default: 0,
            min: 0,
            max: 100,
        },
        Parameter {
            name: Cow::Borrowed("edited_after_seconds"),
            meaning: Cow::Borrowed(
                "distance between creation and last change from which an event counts as edited",
            ),
            default: 60,
            min: 0,
            max: 86_400,
        },
    ],
};

/// Where v1 recorded an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedOn {
    /// The case.
    pub case: Uuid,
    /// The key in `calendar_event_ids`, where it had one.
    pub key: Option<String>,
}

/// What v1 knows about the users of one Google account. Two users may share one.
#[derive(Clone, Debug, Default)]
pub struct AccountFacts {
    /// The ids recorded on cases of those users, soft-deleted cases too.
    pub recorded: HashMap<String, RecordedOn>,
    /// The cases of those users, soft-deleted too, with the deadlines computed for each.
    pub cases: HashMap<Uuid, Vec<NaiveDate>>,
    /// Addresses of those accounts whose primary calendar this is not: there Google calls nobody the creator itself, since that would be the
    /// calendar. In lower case.
    pub creators: BTreeSet<String>,
    /// Where users of several accounts lead to one calendar: of each case, the addresses of its users' accounts, in lower case. v1 wrote with
    /// its user's token, so that what somebody else made there is not v1's, whatever case it names.
    pub authors: HashMap<Uuid, BTreeSet<String>>,
}

impl AccountFacts {
    /// Whether a text that names this case may be v1's: it is a case of a user of the account that made the event.
    fn may_name(&self, case: Uuid, view: &EventView) -> bool {
        let creator = view.creator_email.as_deref().map(str::to_lowercase);
        self.cases.contains_key(&case)
            && (self.authors.is_empty()
                || creator.is_some_and(|creator| {
                    let authors = self.authors.get(&case);
                    authors.is_some_and(|authors| authors.contains(&creator))
                }))
    }

    /// The case that an event of v1's is of: where its id is recorded, else the one that its text names.
    pub fn case_of(&self, view: &EventView) -> Option<Uuid> {
        if let Some(on) = self.recorded.get(&view.id) {
            return Some(on.case).filter(|case| !case.is_nil());
        }
        let links = case_links(view.description.as_deref()?);
        let known: BTreeSet<Uuid> = links
            .into_iter()
            .map(|(_, case)| case)
            .filter(|case| self.may_name(*case, view))
            .collect();
        known.first().copied().filter(|_| known.len() == 1)
    }
}

/// What a v2 deployment says, read at one snapshot.
#[derive(Clone, Debug, Default)]
pub struct V2Facts {
    /// Ids in `calendarEventIds` of any case, with the cases of v1 that each is of.
    pub recorded: HashMap<String, OfCases>,
    /// The descriptions of its cases.
    pub texts: V2Texts,
}

impl V2Facts {
    /// Notes an id that is recorded on a case, which came of this case of v1 where that is known.
    pub fn record(&mut self, id: String, v1_case: Option<Uuid>) {
        self.recorded.entry(id).or_default().add(v1_case);
    }

    /// The cases of v1 that an event of v2's may be of, where they are known: by its id, else by its text.
    pub fn cases_of(&self, view: &EventView) -> Option<BTreeSet<Uuid>> {
        let recorded = self.recorded.get(&view.id);
        let text = || self.texts.cases_of(view.description.as_deref()?);
        recorded.or_else(text)?.known()
    }
}

/// The v1 users that each id was recorded for.
#[derive(Clone, Debug, Default)]
pub struct RecordedBy(HashMap<String, BTreeSet<u32>>);

impl RecordedBy {
    /// Adds that an id is recorded on a case of this user, named by a number.
    pub fn add(&mut self, id: &str, user: u32) {
        self.0.entry(id.to_owned()).or_default().insert(user);
    }

    /// By how many users an id was recorded.
    pub fn users(&self, id: &str) -> usize {
        self.0.get(id).map_or(0, BTreeSet::len)
    }
}

/// What v1 and v2 say, beyond one account: of all ids and texts, or of those alone that an account is measured by.
#[derive(Clone, Debug)]
pub struct MigrationFacts {
    /// By how many v1 users each id was recorded.
    pub recorded_by: RecordedBy,
    /// v2's production deployment: what its users rely on.
    pub v2_production: V2Facts,
    /// v2's development deployment: it wrote events before go-live.
    pub v2_development: V2Facts,
    /// When v2 went live.
    pub go_live: Option<DateTime<Utc>>,
    /// When v1 stopped writing; go-live where nothing better is known.
    pub freeze: Option<DateTime<Utc>>,
    /// The day of the run where the day begins last.
    pub today: NaiveDate,
}

/// What the calendar answered about one id.
#[derive(Clone, Copy, Debug)]
pub enum Presence<'a> {
    /// An event, possibly a cancelled one, possibly one that cannot be read.
    Present(&'a ParsedEvent),
    /// 404.
    NotFound {
        /// Another recorded id of the same user was found on this account, dead or alive. Where
        /// none was, it is the wrong account, and nothing is known about the event.
        sibling_found: bool,
    },
    /// 410.
    Gone,
    /// Nothing could be asked.
    Unreachable {
        /// One word for the reason (`token_revoked`, `disconnected`), for the evidence.
        why: &'a str,
    },
}

impl<'a> Presence<'a> {
    fn view(self) -> Option<&'a EventView> {
        match self {
            Self::Present(parsed) => parsed.best_view(),
            _ => None,
        }
    }
}

/// Measures every signal of [`VOCABULARY`] for one id on one account.
pub fn measure(
    event_id: &str,
    presence: Presence<'_>,
    account: &AccountFacts,
    facts: &MigrationFacts,
    policy: &Policy,
) -> Facts {
    let mut out: Facts = VOCABULARY
        .signals
        .iter()
        .map(|signal| (signal.name.clone(), false))
        .collect();
    measure_presence(presence, &mut out);
    measure_records(event_id, account, facts, &mut out);
    if let Some(view) = presence.view() {
        measure_shape(view, account, &mut out);
        measure_texts(view, account, facts, &mut out);
        measure_times(view, facts, policy, &mut out);
        measure_deadline(event_id, view, account, &mut out);
    }
    out
}

fn measure_presence(presence: Presence<'_>, out: &mut Facts) {
    match presence {
        Presence::Present(ParsedEvent::Readable(view)) => out.set("cancelled", view.cancelled),
        Presence::Present(ParsedEvent::Unreadable(bad)) => {
            out.set_with("unreadable", true, bad.why.clone());
            out.set("illegible", bad.guess.is_none());
        }
        Presence::NotFound { sibling_found } => {
            out.set("not_found", true);
            out.set("wrong_account", !sibling_found);
        }
        Presence::Gone => out.set("gone", true),
        Presence::Unreachable { why } => out.set_with("unreachable", true, why),
    }
}

/// Signals 1 and 2.
fn measure_records(id: &str, account: &AccountFacts, facts: &MigrationFacts, out: &mut Facts) {
    let users = facts.recorded_by.users(id);
    match account.recorded.get(id) {
        // A key comes out of v1's data, so only one of the form that v1 gives them is repeated.
        Some(RecordedOn { key: Some(key), .. }) if is_plain_name(key) => {
            out.set_with("v1_recorded", true, key.clone());
        }
        Some(_) => out.set("v1_recorded", true),
        None => out.set("v1_recorded_elsewhere", users > 0),
    }
    if users > 1 {
        out.set_with("v1_recorded_twice", true, format!("{users} users"));
    }
    let production = facts.v2_production.recorded.contains_key(id);
    let development = facts.v2_development.recorded.contains_key(id);
    if let Some(deployments) = deployments(production, development) {
        out.set_with("v2_recorded", true, deployments);
    }
}

/// Whether a key has the form that v1 gives them.
pub(super) fn is_plain_name(key: &str) -> bool {
    key.len() <= 40
        && key
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn deployments(production: bool, development: bool) -> Option<&'static str> {
    match (production, development) {
        (true, true) => Some("production and development"),
        (true, false) => Some("production"),
        (false, true) => Some("development"),
        (false, false) => None,
    }
}

/// Signals 6 and 7.
fn measure_shape(view: &EventView, account: &AccountFacts, out: &mut Facts) {
    out.set("not_all_day", view.all_day().is_none());
    match view.organizer_self {
        Some(own) => out.set("organizer_not_self", !own),
        None => out.set_with("organizer_not_self", true, "no organizer is named"),
    }
    let creator = view.creator_email.as_deref().map(str::to_lowercase);
    let by_owner = creator.is_some_and(|address| account.creators.contains(&address));
    let creator_not_self = view.creator_self == Some(false) && !by_owner;
    out.set("creator_not_self", creator_not_self);
    if view.attendees_omitted {
        out.set_with("attendees", true, "their list was left out");
    } else if view.attendees > 0 {
        out.set_with("attendees", true, view.attendees.to_string());
    }
    out.set("recurrence", view.recurs);
    if view.attachments > 0 {
        out.set_with("attachments", true, view.attachments.to_string());
    }
    // Google's own word of a fixed list, but what came is not checked against it: no detail.
    out.set("event_type_not_default", view.special_type.is_some());
    let same_day = view.start.is_some() && view.start == view.end;
    out.set("api_shape", same_day || view.no_reminders);
}

/// Signals 3, 4, 9 and 10.
fn measure_texts(
    view: &EventView,
    account: &AccountFacts,
    facts: &MigrationFacts,
    out: &mut Facts,
) {
    let title = view.summary.as_deref().and_then(Title::parse);
    if let Some(title) = title {
        out.set_with("title", true, title.kind.label());
    }
    let texts = [&view.summary, &view.description, &view.location];
    let mention = texts
        .into_iter()
        .flatten()
        .any(|text| mentions_product(text));
    out.set("mention", mention);
    out.set("v2_mark", view.perm_app.as_deref() == Some("v2"));
    let Some(description) = view.description.as_deref() else {
        return;
    };

    let links = case_links(description);
    let (known, unknown): (Vec<_>, Vec<_>) = links
        .iter()
        .partition(|(_, case)| account.may_name(*case, view));
    if !known.is_empty() && mention {
        let forms: BTreeSet<&str> = known.iter().map(|(form, _)| form.name()).collect();
        let forms = forms.into_iter().collect::<Vec<_>>().join(" and ");
        out.set_with("case_link", true, forms);
    }
    if !unknown.is_empty() {
        out.set_with("case_link_unknown", true, unknown.len().to_string());
    }
    let production = facts.v2_production.texts.contains(description);
    let development = facts.v2_development.texts.contains(description);
    if let Some(deployments) = deployments(production, development) {
        out.set_with("v2_text", true, deployments);
    }
}

/// Signals 5 and 8.
fn measure_times(view: &EventView, facts: &MigrationFacts, policy: &Policy, out: &mut Facts) {
    let limit = policy.parameter("edited_after_seconds").unwrap_or(60);
    match view.age_at_last_change() {
        Some(age) => {
            // A change before the creation is as little what v1 left behind as one long after it.
            let edited = age.abs() > Duration::seconds(limit);
            out.set_with("edited", edited, format!("{} s", age.num_seconds()));
        }
        None => out.set_with(
            "edited",
            true,
            "the time of creation or of the last change is missing",
        ),
    }
    if let (Some(created), Some(go_live)) = (view.created, facts.go_live) {
        out.set("created_before_go_live", created < go_live);
    }
}

/// Signal 11.
fn measure_deadline(id: &str, view: &EventView, account: &AccountFacts, out: &mut Facts) {
    let Some(day) = view.all_day() else { return };
    let recorded = account.recorded.get(id).map(|on| on.case);
    let linked = view
        .description
        .as_deref()
        .map(case_links)
        .unwrap_or_default();
    let cases = recorded
        .into_iter()
        .chain(linked.into_iter().map(|(_, case)| case));
    let matches = cases
        .filter_map(|case| account.cases.get(&case))
        .any(|deadlines| deadlines.contains(&day));
    out.set("date_matches_case", matches);
}

/// Whether these signals make an id a candidate: v1 or v2 recorded it, or it shows signal 3, 4 or
/// 10. Other events are counted and otherwise left alone. Of what cannot be read at all it cannot
/// be said that it does not concern us, so that is a candidate too.
pub fn is_candidate(signals: &Facts) -> bool {
    const ANY: [&str; 8] = [
        "v1_recorded",
        "v1_recorded_elsewhere",
        "v2_recorded",
        "v2_text",
        "case_link",
        "title",
        "mention",
        "illegible",
    ];
    ANY.into_iter().any(|name| signals.holds(name))
}

/// The conditions of one item, beside its class.
#[derive(Clone, Copy, Debug)]
pub struct ConditionInputs<'a> {
    /// The event, where it was read.
    pub view: Option<&'a EventView>,
    /// Of the whole run ([`super::calibration`]).
    pub calibrated: bool,
    /// Whether a live v2 event stands for the same deadline ([`super::coverage`]).
    pub covered: bool,
}

/// Measures every condition of [`VOCABULARY`].
pub fn measure_conditions(inputs: ConditionInputs<'_>, facts: &MigrationFacts) -> Facts {
    let mut out = Facts::new();
    out.set("calibrated", inputs.calibrated);
    match (inputs.view.and_then(|view| view.created), facts.freeze) {
        (Some(created), Some(freeze)) => out.set("after_freeze", created >= freeze),
        (None, _) => out.set_with("after_freeze", true, "the time of creation is missing"),
        (_, None) => out.set_with("after_freeze", true, "the time of the freeze is not known"),
    }
    let day = inputs.view.and_then(EventView::all_day);
    let past = day.is_some_and(|day| day < facts.today);
    out.set("past", past);
    out.set("uncovered", !past && !inputs.covered);
    out
}

#[cfg(test)]
#[path = "signals_tests.rs"]
mod tests;
