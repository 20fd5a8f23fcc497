//! One recipe for each kind of event and each near miss: what is made, and what is true of it.

use chrono::{Days, Duration};
use serde_json::{Value, json};

use super::WorldSpec;
use super::draft::{EventDraft, Slot, UserDraft, Verdict};
use super::truth::{Class, Disposition};
use super::v1::{Deadline, v1_description, v1_link_description};
use super::v2::{as_html, v2_description};
use crate::calendar::{Presence, lone_surrogate};
use crate::dice::Dice;

/// What to make next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recipe {
    V1Future,
    V1Past,
    /// With a live event of v2's for the same deadline.
    V1Covered,
    V1Suffix,
    V1Emoji,
    V1RightToLeft,
    /// Recorded on a case that v1 deleted softly.
    V1DeletedCase,
    OrphanCase,
    OrphanLink,
    OrphanDeletedCase,
    /// Made after v1's freeze: somebody's open tab.
    OrphanLate,
    Adopted,
    V2Recorded,
    V2Moved,
    /// Unrecorded: another deadline took its slot.
    V2SharedSlot,
    V2SecondRequest,
    V2Html,
    V2DevOnly,
    EditedTitle,
    EditedDate,
    EditedHtml,
    EditedOrphan,
    ForeignOrganizer,
    ForeignAttendees,
    ForeignRecurring,
    ForeignTimed,
    ForeignAttachment,
    ForeignKind,
    ForeignRecorded,
    Lookalike,
    /// Our title, and a UUID that is no case of this user.
    LookalikeUuid,
    /// Our title, and a UUID of v2's kind.
    LookalikeEntry,
    /// Our product's name in a note.
    LookalikeWords,
    Linked,
    GonePurged,
    GoneDeleted,
    GoneCancelled,
    UnreadableText,
    UnreadableShape,
    Private,
    PrivateOdd,
}

use Recipe as R;

/// Events of one user, in turn; each user starts elsewhere in it. The two unreadable kinds are dealt out by hand: were they
/// common, no calibration on recorded events would pass, and rightly so.
pub(crate) const CYCLE: [Recipe; 56] = [
    R::V1Future,
    R::Adopted,
    R::V2Recorded,
    R::OrphanCase,
    R::EditedTitle,
    R::GonePurged,
    R::Private,
    R::V1Past,
    R::V1Covered,
    R::ForeignOrganizer,
    R::Lookalike,
    R::V2SharedSlot,
    R::V1Future,
    R::Linked,
    R::V1Emoji,
    R::Adopted,
    R::ForeignAttendees,
    R::EditedDate,
    R::V2SecondRequest,
    R::GoneDeleted,
    R::PrivateOdd,
    R::V1Future,
    R::OrphanLink,
    R::V1Past,
    R::ForeignRecurring,
    R::LookalikeUuid,
    R::V2Recorded,
    R::Private,
    R::V1RightToLeft,
    R::V1DeletedCase,
    R::EditedHtml,
    R::ForeignTimed,
    R::GoneCancelled,
    R::V1Covered,
    R::Adopted,
    R::V1Future,
    R::OrphanLate,
    R::V2Html,
    R::ForeignAttachment,
    R::LookalikeEntry,
    R::V1Past,
    R::Private,
    R::V1Suffix,
    R::OrphanDeletedCase,
    R::V2Moved,
    R::ForeignKind,
    R::EditedOrphan,
    R::V1Future,
    R::LookalikeWords,
    R::V1Past,
    R::Adopted,
    R::V2DevOnly,
    R::ForeignRecorded,
    R::OrphanCase,
    R::Lookalike,
    R::V1Future,
];

/// Starts a note that names a case of somebody else's.
pub(crate) const COLLEAGUE: &str = "Copied from a colleague";

/// Deadlines whose v1 ids the import kept: all but the window's opening.
const ADOPTABLE: [Deadline; 7] = [
    Deadline::PwdExpiration,
    Deadline::Eta9089Filing,
    Deadline::Eta9089Expiration,
    Deadline::RecruitmentExpires,
    Deadline::I140Deadline,
    Deadline::RfiDue,
    Deadline::RfeDue,
];

/// Makes one recipe's events.
pub(crate) struct Kitchen<'a> {
    pub(crate) spec: &'a WorldSpec,
    pub(crate) dice: &'a mut Dice,
    pub(crate) user: &'a mut UserDraft,
}

impl Kitchen<'_> {
    pub(crate) fn make(&mut self, recipe: Recipe) {
        match recipe {
            R::V1Future
            | R::V1Past
            | R::V1Covered
            | R::V1Suffix
            | R::V1Emoji
            | R::V1RightToLeft
            | R::V1DeletedCase
            | R::UnreadableText
            | R::UnreadableShape
            | R::ForeignRecorded
            | R::Adopted
            | R::EditedTitle
            | R::EditedDate
            | R::EditedHtml
            | R::GonePurged
            | R::GoneDeleted
            | R::GoneCancelled => self.recorded(recipe),
            R::OrphanCase
            | R::OrphanLink
            | R::OrphanDeletedCase
            | R::OrphanLate
            | R::EditedOrphan => self.orphan(recipe),
            R::V2Recorded
            | R::V2Moved
            | R::V2SharedSlot
            | R::V2SecondRequest
            | R::V2Html
            | R::V2DevOnly => self.by_v2(recipe),
            R::ForeignOrganizer
            | R::ForeignAttendees
            | R::ForeignRecurring
            | R::ForeignTimed
            | R::ForeignAttachment
            | R::ForeignKind => self.foreign(recipe),
            R::Lookalike | R::LookalikeUuid | R::LookalikeEntry | R::LookalikeWords | R::Linked => {
                self.lookalike(recipe);
            }
            R::Private | R::PrivateOdd => self.private(recipe),
        }
    }

    fn slot(&mut self, wanted: &[Deadline], past: bool, deleted: bool) -> Slot {
        self.user.slot(self.spec, self.dice, wanted, past, deleted)
    }

    /// v1's event for a deadline, as v1 wrote it.
    fn v1_event(&mut self, slot: Slot) -> EventDraft {
        let case = &self.user.cases[slot.case];
        let words = &case.words;
        let title = slot.deadline.title(&words.employer);
        let linked = self.dice.chance(0.5);
        let text = v1_description(
            slot.deadline,
            &words.employer,
            &words.beneficiary,
            &case.id,
            linked,
        );
        EventDraft::v1(self.spec, self.dice, title, text, slot.date)
    }

    fn recorded(&mut self, recipe: Recipe) {
        let past = match recipe {
            R::V1Past => true,
            R::V1DeletedCase | R::Adopted | R::GoneDeleted => self.dice.chance(0.3),
            _ => false,
        };
        let wanted: &[Deadline] = match recipe {
            R::V1Suffix => &[Deadline::RfiDue, Deadline::RfeDue],
            R::Adopted => &ADOPTABLE,
            _ => &Deadline::ALL,
        };
        let slot = self.slot(wanted, past, recipe == R::V1DeletedCase);
        let mut event = self.v1_event(slot);
        if self.spec.uncalibrated && self.dice.chance(0.25) {
            event.description = Some("Deadline of PERM Tracker".to_owned());
        }
        let deadline = slot.deadline;
        let v1 = |class, why| Verdict::v1(class, slot.date, why);
        let mut verdict = v1(
            Class::V1Recorded,
            "v1 recorded it, v2 does not, nobody edited it",
        );
        match recipe {
            R::V1Suffix => {
                let request = if deadline == Deadline::RfiDue {
                    "RFI"
                } else {
                    "RFE"
                };
                event.summary = format!("{} - {request} #1", event.summary);
            }
            R::V1Emoji => event.summary.push_str(" 🎉👩‍⚖️"),
            R::V1RightToLeft => event.summary.push_str(" \u{202b}מועד הגשה\u{202c} الموعد"),
            R::Adopted => {
                verdict = v1(Class::Adopted, "v1 recorded it, and v2 took the id over");
                self.user.cases[slot.case].record_v2(deadline, &event.id);
            }
            R::EditedTitle | R::EditedDate | R::EditedHtml => {
                let why = match recipe {
                    R::EditedTitle => {
                        event.summary = format!("CALL CLIENT! {}", event.summary);
                        "v1 recorded it, and its user renamed it"
                    }
                    R::EditedDate => {
                        event.date = event.date + Days::new(3);
                        "v1 recorded it, and its user moved it"
                    }
                    _ => {
                        event.description = event.description.as_deref().map(as_html);
                        "v1 recorded it, and its user saved it as HTML"
                    }
                };
                event = event.edited(self.spec, self.dice);
                verdict = v1(Class::Edited, why);
            }
            R::ForeignRecorded => {
                event = event.with(json!({"attendees": [
                    {"email": "client@example.com", "responseStatus": "needsAction"},
                ]}));
                verdict = v1(
                    Class::Foreign,
                    "v1 recorded it, and its user invited somebody",
                );
            }
            R::UnreadableText => {
                let text = event.description.take().unwrap_or_default();
                event.description = Some(format!("{text} {}", lone_surrogate(0xd83d)));
                verdict = v1(
                    Class::Unreadable,
                    "v1 recorded it; its text has half a character",
                );
            }
            R::UnreadableShape => {
                event = event.with(json!({"start": "2026-13-45", "end": 7, "summary": ["?"]}));
                verdict = v1(
                    Class::Unreadable,
                    "v1 recorded it; its fields have odd types",
                );
            }
            R::GoneDeleted => {
                event.presence = Presence::Gone;
                event = event.with(json!({"status": "cancelled"}));
                verdict = v1(Class::Gone, "v1 recorded it; answers 410");
            }
            R::GoneCancelled => {
                event = event.with(json!({"status": "cancelled"}));
                verdict = v1(Class::Gone, "v1 recorded it; cancelled");
            }
            R::GonePurged => verdict = v1(Class::Gone, "v1 recorded it; answers 404"),
            _ => {}
        }
        let id = event.id.clone();
        self.user.cases[slot.case].record_v1(deadline, &id, recipe == R::Adopted);
        if recipe == R::GonePurged {
            self.user.tell(&id, false, verdict);
        } else {
            self.user.place(&event, verdict);
        }
        if recipe == R::V1Covered {
            self.cover(slot, &id);
        }
    }

    /// Adds v2's event for a deadline that v1 has one for.
    fn cover(&mut self, slot: Slot, v1_event: &str) {
        self.v2_event(slot, true, "v2 wrote it for a deadline that v1 had too");
        let truths = self.user.truth.iter_mut();
        for truth in truths.filter(|truth| truth.event_id == v1_event) {
            truth.covered = true;
        }
    }

    fn orphan(&mut self, recipe: Recipe) {
        let deleted = recipe == R::OrphanDeletedCase;
        let past = self.dice.chance(0.4);
        let slot = self.slot(&Deadline::ALL, past, deleted);
        let mut event = self.v1_event(slot);
        let mut verdict = Verdict::v1(
            Class::V1Orphan,
            slot.date,
            "v1's text names a case of this user; nobody records it",
        );
        match recipe {
            R::OrphanLink => {
                let case = &self.user.cases[slot.case];
                event.description = Some(v1_link_description(
                    slot.deadline,
                    &case.words.employer,
                    &case.id,
                ));
            }
            R::EditedOrphan => {
                event.date = event.date + Days::new(1);
                event = event.edited(self.spec, self.dice);
                verdict = Verdict::v1(
                    Class::Edited,
                    slot.date,
                    "an orphan of v1's that its user moved",
                );
            }
            R::OrphanLate => {
                event.created = self.spec.go_live + Duration::minutes(self.dice.within(20, 300));
                event.updated = event.created + Duration::seconds(1);
                verdict.why = "v1's text, but written after v1 was frozen: held";
            }
            _ => {}
        }
        self.user.place(&event, verdict);
        if (recipe == R::OrphanLate || self.spec.uncalibrated)
            && let Some(truth) = self.user.truth.last_mut()
            && truth.class == Class::V1Orphan
        {
            truth.disposition = Disposition::Hold;
            truth.must_survive = true;
        }
    }

    /// v2's event for a deadline, recorded or not.
    fn v2_event(&mut self, slot: Slot, recorded: bool, why: &'static str) -> String {
        let event = self.v2_draft(slot);
        if recorded {
            self.user.cases[slot.case].record_v2(slot.deadline, &event.id);
        }
        self.user.place(&event, Verdict::v2(slot.date, why));
        event.id
    }

    fn v2_draft(&mut self, slot: Slot) -> EventDraft {
        let case = &mut self.user.cases[slot.case];
        let entry = case.entry(slot.deadline, slot.date, self.dice);
        let text = v2_description(slot.deadline, &case.words, entry.as_ref());
        let title = slot.deadline.title(&case.words.employer);
        EventDraft::v2(self.spec, self.dice, title, text, slot.date)
    }

    fn by_v2(&mut self, recipe: Recipe) {
        match recipe {
            R::V2SharedSlot => {
                let slot = self.slot(&[Deadline::Eta9089Filing], false, false);
                self.v2_event(
                    slot,
                    true,
                    "v2 wrote it, and lost its id to the other filing event",
                );
                let other = Slot {
                    deadline: Deadline::FilingWindowOpens,
                    date: slot.date - Days::new(4),
                    ..slot
                };
                self.v2_event(other, true, "v2 wrote and records it");
            }
            R::V2SecondRequest => {
                let slot = self.slot(&[Deadline::RfiDue, Deadline::RfeDue], false, false);
                self.v2_event(
                    slot,
                    true,
                    "v2 wrote it, and lost its id to the next request's",
                );
                let next = Slot {
                    date: slot.date + Days::new(9),
                    ..slot
                };
                self.v2_event(next, true, "v2 wrote and records it");
            }
            R::V2Html => {
                let slot = self.slot(&Deadline::ALL, false, false);
                let mut event = self.v2_draft(slot);
                event.description = event.description.as_deref().map(as_html);
                let event = event.edited(self.spec, self.dice);
                self.user.place(
                    &event,
                    Verdict::v2(
                        slot.date,
                        "v2's text as HTML, after its user saved it; unrecorded",
                    ),
                );
            }
            R::V2Moved => {
                let slot = self.slot(&Deadline::ALL, false, false);
                let mut event = self.v2_draft(slot).edited(self.spec, self.dice);
                event.date = event.date + Days::new(2);
                self.user.cases[slot.case].record_v2(slot.deadline, &event.id);
                self.user.place(
                    &event,
                    Verdict::v2(slot.date, "v2 records it; its user moved it"),
                );
            }
            R::V2DevOnly => {
                let slot = self.slot(&Deadline::ALL, false, false);
                let mut event = self.v2_draft(slot);
                event.created = self.spec.go_live - Duration::days(self.dice.within(2, 20));
                event.updated = event.created + Duration::seconds(1);
                let entry = (slot.deadline.v2_slot().to_owned(), event.id.clone());
                self.user.cases[slot.case].dev_slots.push(entry);
                self.user.place(
                    &event,
                    Verdict::v2(
                        slot.date,
                        "v2 wrote it before go-live; its dev deployment records it",
                    ),
                );
            }
            _ => {
                let slot = self.slot(&Deadline::ALL, false, false);
                self.v2_event(slot, true, "v2 wrote and records it");
            }
        }
    }

    /// Our title, on an event that neither system can have written.
    fn foreign(&mut self, recipe: Recipe) {
        let deadline = *self.dice.pick(&Deadline::ALL);
        let title = deadline.title("Vandelay");
        let event = EventDraft::own(self.spec, self.dice, &title, Some("PERM Tracker"));
        let day = event.date;
        let timed = |hour: u32| json!({"dateTime": format!("{day}T{hour:02}:00:00-05:00"), "timeZone": "America/New_York"});
        let (extra, why) = match recipe {
            R::ForeignOrganizer => (
                json!({
                    "organizer": {"email": "partner@example.com"},
                    "creator": {"email": "partner@example.com"},
                }),
                "somebody else organises it",
            ),
            R::ForeignAttendees => (
                json!({"attendees": [
                    {"email": "partner@example.com", "responseStatus": "accepted"},
                    {"email": "client@example.com", "responseStatus": "needsAction"},
                ]}),
                "it has guests",
            ),
            R::ForeignRecurring => (
                json!({"recurrence": ["RRULE:FREQ=WEEKLY;COUNT=4"]}),
                "it repeats",
            ),
            R::ForeignTimed => (
                json!({"start": timed(9), "end": timed(10)}),
                "it has a time of day",
            ),
            R::ForeignAttachment => (
                json!({"attachments": [
                    {"fileUrl": "https://drive.example.com/x", "title": "I-140.pdf", "fileId": "x1"},
                ]}),
                "it has an attachment",
            ),
            _ => (
                json!({
                    "eventType": "focusTime",
                    "start": timed(13),
                    "end": timed(15),
                    "focusTimeProperties": {"autoDeclineMode": "declineNone"},
                }),
                "it is focus time",
            ),
        };
        self.user
            .place(&event.with(extra), Verdict::other(Class::Foreign, why));
    }

    fn lookalike(&mut self, recipe: Recipe) {
        let deadline = *self.dice.pick(&Deadline::ALL);
        let title = deadline.title("Vandelay");
        let uuid = self.dice.uuid();
        let (title, text, class, why) = match recipe {
            R::Lookalike => (
                title,
                None,
                Class::Lookalike,
                "made by hand, with a title like ours",
            ),
            R::LookalikeUuid => (
                title,
                Some(format!("{COLLEAGUE}\nCase: {uuid}\nPERM Tracker")),
                Class::Lookalike,
                "our title and a case id, but no case of this user",
            ),
            R::LookalikeEntry => (
                title,
                Some(format!("RFI Entry ID: {uuid}\n\nsee PERM Tracker")),
                Class::Lookalike,
                "our title and a UUID that is no case at all",
            ),
            R::LookalikeWords => (
                "Renew subscription".to_owned(),
                Some("The PERM Tracker invoice is due".to_owned()),
                Class::Lookalike,
                "only the product's name is in it",
            ),
            _ => {
                if self.user.cases.is_empty() {
                    self.make(R::V1Future);
                }
                let case = self.user.cases[0].id.clone();
                (
                    "Prepare for hearing".to_owned(),
                    Some(format!(
                        "https://permtracker.app/cases/{case} bring the file"
                    )),
                    Class::Linked,
                    "its user's own note, with the link of a case",
                )
            }
        };
        let event = EventDraft::own(self.spec, self.dice, &title, text.as_deref());
        self.user.place(&event, Verdict::other(class, why));
    }

    fn private(&mut self, recipe: Recipe) {
        const TITLES: [&str; 6] = [
            "Dentist",
            "Lunch with Ana",
            "Perm at the hairdresser",
            "School play",
            "גן ילדים",
            "🎂",
        ];
        let title = *self.dice.pick(&TITLES);
        let mut event = EventDraft::own(self.spec, self.dice, title, None);
        if recipe == R::PrivateOdd {
            let day = event.date;
            event.extra = match self.dice.below(4) {
                0 => json!({"recurrence": ["RRULE:FREQ=DAILY;COUNT=3"]}),
                1 => json!({"extendedProperties": {"private": {"permApp": "v2"}}}),
                2 => {
                    json!({"visibility": "private", "transparency": "transparent", "colorId": "7"})
                }
                _ => json!({
                    "start": {"dateTime": format!("{day}T18:30:00Z")},
                    "end": {"dateTime": format!("{day}T20:00:00Z")},
                    "location": "Main St 1",
                    "description": Value::from("<b>bring</b> &amp; share"),
                }),
            };
        }
        self.user.place(
            &event,
            Verdict::other(Class::NotACandidate, "private, and nothing of ours"),
        );
    }
}
