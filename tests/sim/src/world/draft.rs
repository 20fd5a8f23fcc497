//! A user being made: cases fill up with deadlines, deadlines become events.

use std::collections::BTreeSet;

use chrono::{DateTime, Days, Duration, NaiveDate, Utc};
use serde_json::{Value, json};

use super::truth::{Class, Disposition, Truth};
use super::v1::Deadline;
use super::v2::{CaseWords, Entry};
use super::{UserKind, WorldSpec};
use crate::calendar::{EventSeed, Fields, Presence};
use crate::clock::rfc3339_ms;
use crate::dice::Dice;

/// Employers; several are there for what their letters do to careless code.
const EMPLOYERS: [&str; 14] = [
    "Globex",
    "Initech",
    "Umbrella Labs",
    "Smith & Sons <LLC>",
    "Hooli",
    "Café Zürich",
    "Acme: West",
    "株式会社サンプル",
    "Vandelay \"Imports\"",
    "Wonka, Inc.",
    "Stark Industries",
    "O'Brien Partners",
    "Tyrell",
    "Nakatomi",
];

/// A case of v1, of v2, or of both.
#[derive(Debug, Clone)]
pub(crate) struct CaseDraft {
    pub(crate) id: String,
    pub(crate) v2_id: String,
    pub(crate) words: CaseWords,
    /// Soft-deleted in v1; v2 does not have it.
    pub(crate) deleted: bool,
    pub(crate) used: Vec<Deadline>,
    /// v1's `calendar_event_ids`.
    pub(crate) v1_ids: Vec<(String, String)>,
    /// v2's `calendarEventIds`, production.
    pub(crate) v2_slots: Vec<(String, String)>,
    /// The same in the developers' deployment.
    pub(crate) dev_slots: Vec<(String, String)>,
    pub(crate) dates: Vec<(Deadline, NaiveDate)>,
    pub(crate) rfi: Vec<Entry>,
    pub(crate) rfe: Vec<Entry>,
}

/// A user of v1 with all that is theirs.
#[derive(Debug, Clone)]
pub(crate) struct UserDraft {
    pub(crate) id: String,
    pub(crate) v2_id: String,
    pub(crate) email: String,
    pub(crate) google_email: String,
    /// The account whose calendar v1 wrote to.
    pub(crate) account: String,
    pub(crate) kind: UserKind,
    pub(crate) cases: Vec<CaseDraft>,
    pub(crate) events: Vec<EventSeed>,
    pub(crate) truth: Vec<Truth>,
}

/// A deadline of a case, chosen for an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) case: usize,
    pub(crate) deadline: Deadline,
    pub(crate) date: NaiveDate,
}

/// What an event says; the rest is filled in as Google would.
#[derive(Debug, Clone)]
pub(crate) struct EventDraft {
    pub(crate) id: String,
    pub(crate) summary: String,
    pub(crate) description: Option<String>,
    pub(crate) date: NaiveDate,
    pub(crate) created: DateTime<Utc>,
    pub(crate) updated: DateTime<Utc>,
    /// v2 sends `end.date` equal to `start.date`, and no default reminders.
    pub(crate) by_v2: bool,
    /// Fields that replace or add to the usual ones.
    pub(crate) extra: Value,
    pub(crate) presence: Presence,
}

/// What is true of an event, in short.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    pub(crate) class: Class,
    pub(crate) v1_made: bool,
    pub(crate) deadline: Option<NaiveDate>,
    pub(crate) why: &'static str,
}

impl Verdict {
    pub(crate) fn v1(class: Class, deadline: NaiveDate, why: &'static str) -> Self {
        Self {
            class,
            v1_made: true,
            deadline: Some(deadline),
            why,
        }
    }

    pub(crate) fn v2(deadline: NaiveDate, why: &'static str) -> Self {
        Self {
            class: Class::V2Fresh,
            v1_made: false,
            deadline: Some(deadline),
            why,
        }
    }

    pub(crate) fn other(class: Class, why: &'static str) -> Self {
        Self {
            class,
            v1_made: false,
            deadline: None,
            why,
        }
    }
}

impl UserDraft {
    /// Takes a deadline that its case does not have yet, opening a case where none has room.
    pub(crate) fn slot(
        &mut self,
        spec: &WorldSpec,
        dice: &mut Dice,
        wanted: &[Deadline],
        past: bool,
        deleted: bool,
    ) -> Slot {
        let free = |case: &CaseDraft| -> Vec<Deadline> {
            let taken: Vec<_> = case
                .used
                .iter()
                .map(|deadline| deadline.v2_slot())
                .collect();
            wanted
                .iter()
                .copied()
                .filter(|one| !taken.contains(&one.v2_slot()))
                .collect()
        };
        let found = self
            .cases
            .iter()
            .position(|case| case.deleted == deleted && !free(case).is_empty());
        let case = found.unwrap_or_else(|| {
            self.cases.push(CaseDraft::new(dice, deleted));
            self.cases.len() - 1
        });
        let deadline = *dice.pick(&free(&self.cases[case]));
        let today = spec.now.date_naive();
        let date = if past {
            today - Days::new(5 + dice.below(200))
        } else {
            today + Days::new(5 + dice.below(300))
        };
        self.cases[case].used.push(deadline);
        self.cases[case].dates.push((deadline, date));
        Slot {
            case,
            deadline,
            date,
        }
    }

    /// Puts an event on the user's calendar, with what is true of it.
    pub(crate) fn place(&mut self, event: &EventDraft, verdict: Verdict) {
        let fields = event.fields(&self.account);
        let live = event.presence == Presence::Held
            && fields.get("status") != Some(&Value::from("cancelled"));
        self.events.push(EventSeed {
            fields,
            presence: event.presence,
        });
        self.tell(&event.id, live, verdict);
    }

    /// Notes what is true of an event that may or may not be on the calendar.
    pub(crate) fn tell(&mut self, event_id: &str, live: bool, verdict: Verdict) {
        let Verdict {
            class,
            v1_made,
            deadline,
            why,
        } = verdict;
        let disposition = class.disposition();
        self.truth.push(Truth {
            users: vec![self.id.clone()],
            calendar: self.account.clone(),
            event_id: event_id.to_owned(),
            class,
            disposition,
            v1_made,
            must_survive: live && disposition != Disposition::Delete,
            deadline,
            covered: false,
            why: why.to_owned(),
        });
    }

    /// Of a calendar that v1's token does not lead to, only recorded ids are known, and none of them is settled.
    /// Called last: an id may be recorded, and its slot taken by another, after its event was made.
    pub(crate) fn settle(&mut self) {
        if self.kind.is_reachable() {
            return;
        }
        let recorded: BTreeSet<&String> = self
            .cases
            .iter()
            .flat_map(|case| {
                case.v1_ids
                    .iter()
                    .chain(&case.v2_slots)
                    .chain(&case.dev_slots)
            })
            .map(|(_, id)| id)
            .collect();
        for truth in &mut self.truth {
            truth.class = if recorded.contains(&truth.event_id) {
                Class::Unreachable
            } else {
                Class::NotACandidate
            };
            let was_deletable = truth.disposition == Disposition::Delete;
            truth.must_survive |= was_deletable;
            truth.disposition = truth.class.disposition();
            truth
                .why
                .push_str("; v1's token does not lead to this calendar");
        }
    }
}

impl CaseDraft {
    fn new(dice: &mut Dice, deleted: bool) -> Self {
        let number = dice.within(10_000, 99_999);
        let words = CaseWords {
            employer: format!("{} {}", dice.pick(&EMPLOYERS), dice.within(2, 999)),
            beneficiary: format!(
                "{}. {}.",
                dice.text(b"ABCDEGHJ", 1),
                dice.text(b"KLMNPRST", 1)
            ),
            case_number: dice.chance(0.7).then(|| format!("G-100-25{number}-123456")),
            internal_case_number: dice.chance(0.3).then(|| format!("INT-{number}")),
        };
        Self {
            id: dice.uuid(),
            v2_id: format!("j57{}", dice.text(b"0123456789abcdefghjkmnpqrstvwxyz", 29)),
            words,
            deleted,
            used: Vec::new(),
            v1_ids: Vec::new(),
            v2_slots: Vec::new(),
            dev_slots: Vec::new(),
            dates: Vec::new(),
            rfi: Vec::new(),
            rfe: Vec::new(),
        }
    }

    /// v1's key for a deadline. An id that v2 adopted must stand under a key that the import kept.
    pub(crate) fn record_v1(&mut self, deadline: Deadline, id: &str, adopted: bool) {
        let key = match deadline {
            Deadline::RecruitmentExpires if adopted => "recruitment_end",
            other => other.v1_key(),
        };
        self.v1_ids.push((key.to_owned(), id.to_owned()));
    }

    pub(crate) fn record_v2(&mut self, deadline: Deadline, id: &str) {
        let slot = deadline.v2_slot();
        self.v2_slots.retain(|(have, _)| have != slot);
        self.v2_slots.push((slot.to_owned(), id.to_owned()));
    }

    /// The entry that a request's event is about, made for it.
    pub(crate) fn entry(
        &mut self,
        deadline: Deadline,
        date: NaiveDate,
        dice: &mut Dice,
    ) -> Option<Entry> {
        let entry = Entry {
            id: dice.uuid(),
            due: date.to_string(),
        };
        match deadline {
            Deadline::RfiDue => self.rfi.push(entry.clone()),
            Deadline::RfeDue => self.rfe.push(entry.clone()),
            _ => return None,
        }
        Some(entry)
    }
}

impl EventDraft {
    /// An event that v1 wrote some time before go-live.
    pub(crate) fn v1(
        spec: &WorldSpec,
        dice: &mut Dice,
        summary: String,
        text: String,
        date: NaiveDate,
    ) -> Self {
        let created = spec.go_live
            - Duration::days(dice.within(3, 200))
            - Duration::milliseconds(dice.within(0, 86_399_999));
        Self {
            id: dice.event_id(),
            summary,
            description: Some(text),
            date,
            created,
            updated: created + Duration::milliseconds(dice.within(0, 20_000)),
            by_v2: false,
            extra: Value::Null,
            presence: Presence::Held,
        }
    }

    /// An event that v2 wrote after go-live.
    pub(crate) fn v2(
        spec: &WorldSpec,
        dice: &mut Dice,
        summary: String,
        text: String,
        date: NaiveDate,
    ) -> Self {
        let since = (spec.now - spec.go_live).num_milliseconds().max(1);
        let created = spec.go_live + Duration::milliseconds(dice.within(0, since));
        Self {
            created,
            updated: created + Duration::milliseconds(dice.within(0, 2_000)),
            by_v2: true,
            ..Self::v1(spec, dice, summary, text, date)
        }
    }

    /// An event that a person made.
    pub(crate) fn own(
        spec: &WorldSpec,
        dice: &mut Dice,
        summary: &str,
        text: Option<&str>,
    ) -> Self {
        let date = spec.now.date_naive() - Days::new(100) + Days::new(dice.below(300));
        let mut event = Self::v1(spec, dice, summary.to_owned(), String::new(), date);
        event.description = text.map(str::to_owned);
        event
    }

    /// The user changed it, some time after it was made and before the world's present.
    pub(crate) fn edited(mut self, spec: &WorldSpec, dice: &mut Dice) -> Self {
        let room = (spec.now - self.created).num_seconds().max(120);
        self.updated = self.created + Duration::seconds(dice.within(90, room.min(86_400 * 30)));
        self
    }

    pub(crate) fn with(mut self, extra: Value) -> Self {
        self.extra = extra;
        self
    }

    fn fields(&self, account: &str) -> Fields {
        let id = &self.id;
        let end = if self.by_v2 {
            self.date
        } else {
            self.date + Days::new(1)
        };
        let etag = u64::try_from(self.updated.timestamp_micros()).unwrap_or(0) * 2;
        let mut event = json!({
            "kind": "calendar#event",
            "id": id,
            "etag": format!("\"{etag}\""),
            "status": "confirmed",
            "htmlLink": format!("https://www.google.com/calendar/event?eid={id}"),
            "created": self.created.format("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
            "updated": rfc3339_ms(self.updated),
            "summary": self.summary,
            "creator": {"email": account, "self": true},
            "organizer": {"email": account, "self": true},
            "start": {"date": self.date.to_string()},
            "end": {"date": end.to_string()},
            "iCalUID": format!("{id}@google.com"),
            "sequence": 0,
            "reminders": {"useDefault": !self.by_v2},
            "eventType": "default",
        });
        if let Some(text) = &self.description {
            event["description"] = text.as_str().into();
        }
        if let Value::Object(extra) = &self.extra {
            for (name, value) in extra {
                event[name] = value.clone();
            }
        }
        match event {
            Value::Object(fields) => fields,
            _ => Fields::new(),
        }
    }
}
