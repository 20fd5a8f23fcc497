//! A log made of decoded entries, without a database.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::fold::{Decoded, Projection, Unreadable};
use super::overlay::{BASE, DECISIONS, Decided, digest};
use crate::chain::entry::Entry;
use crate::chain::plan::{PlanItem, plan_hash};
use crate::domain::custody::State;
use crate::domain::erasure::{Ranges, SubjectErased};
use crate::domain::event::{
    BackHow, Body, DeleteFailed, DeleteIntended, Event, GoneHow, ItemDecided, ItemDeleted,
    ItemFound, ItemRestored, NotGone, PlanApproved, PlanSealed, RestoreFailed, RestoreIntended,
    RunStarted,
};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, LedgerId, RunId, Subject, Timestamp};
use crate::domain::identify::Disposition;
use crate::domain::review::Decision;

pub(super) const START: i64 = 1_768_435_200_000_000;
const SECOND: i64 = 1_000_000;

pub(super) fn item(n: u32) -> Subject {
    Subject::new("calendar-event", Uuid::from_u128(n.into())).unwrap()
}

pub(super) fn run(n: u32) -> RunId {
    RunId::new(Uuid::from_u128(0x1000_0000 + u128::from(n)))
}

pub(super) fn actor(text: &str) -> Actor {
    text.parse().unwrap()
}

pub(super) fn body(text: &str) -> Body {
    Body {
        base64: STANDARD.encode(text),
        sha256: Hash::of(text.as_bytes()),
    }
}

/// Entries one second apart; entry `n` was recorded `n` seconds after the start. The items may be made of another kind.
#[derive(Default)]
pub(super) struct Log(pub(super) Vec<Decoded>, pub(super) Option<&'static str>);

impl Log {
    pub(super) fn add(
        &mut self,
        event: Event,
        subject: Subject,
        by: &str,
        run: Option<RunId>,
    ) -> EntryId {
        let seq = self.0.len() as u64 + 1;
        let id = EntryId::new(Uuid::from_u128(0x2000_0000 + u128::from(seq)));
        let subject = self.named(subject);
        let time = Timestamp::from_micros(START + i64::try_from(seq).unwrap() * SECOND).unwrap();
        let entry = Entry {
            actor: actor(by),
            cause: None,
            commitment: Hash::ZERO,
            id,
            key: id.to_string().parse().unwrap(),
            ledger: LedgerId::new(Uuid::nil()),
            occurred_at: time,
            prev: Hash::ZERO,
            recorded_at: time,
            run,
            schema: 1,
            seq,
            stored: Hash::ZERO,
            subject,
            event_type: event.name().parse().unwrap(),
            v: 1,
        };
        self.0.push(Decoded {
            hash: entry.hash(),
            entry,
            event: Ok(event),
            natural_id: None,
        });
        id
    }

    fn named(&self, subject: Subject) -> Subject {
        match self.1 {
            Some(kind) if subject.kind() == item(0).kind() => {
                Subject::new(kind, subject.uuid()).unwrap()
            }
            _ => subject,
        }
    }

    /// The owner of these items is erased.
    pub(super) fn erased(&mut self, items: BTreeMap<Subject, State>) {
        let said = SubjectErased {
            request: EntryId::new(Uuid::nil()),
            requested_by: actor("person:maker"),
            approved_by: vec![actor("person:ann"), actor("person:bea")],
            legal_basis: String::new(),
            key_id: String::new(),
            payloads: 0,
            identities: 0,
            ranges: Ranges::default(),
            stored: Hash::ZERO,
            altered: Ranges::default(),
            index_key: String::new(),
            kek: String::new(),
            kek_before: String::new(),
            epoch: 2,
            items,
            copies: Vec::new(),
            overridden: None,
            copies_until: None,
        };
        let owner = Subject::new("account", Uuid::from_u128(7)).unwrap();
        self.add(Event::SubjectErased(said), owner, "person:cid", None);
    }

    /// Makes the last entry one of this run.
    pub(super) fn of_run(&mut self, run: RunId) {
        self.0.last_mut().unwrap().entry.run = Some(run);
    }

    /// Makes the payload of an entry unreadable.
    pub(super) fn spoil(&mut self, seq: usize, why: Unreadable) {
        self.0[seq - 1].event = Err(why);
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.last().unwrap().entry.recorded_at
    }

    pub(super) fn fold<P: Projection + Default>(&self) -> P {
        let mut projection = P::default();
        for decoded in &self.0 {
            projection.apply(decoded);
        }
        projection
    }

    pub(super) fn started(&mut self, verb: &str, plan: Option<Hash>, by: &str, run: RunId) {
        let event = Event::RunStarted(RunStarted {
            verb: verb.to_owned(),
            plan,
            approval: None,
            options: BTreeMap::new(),
        });
        let subject = Subject::new("run", run.uuid()).unwrap();
        self.add(event, subject, by, Some(run));
    }

    pub(super) fn found(&mut self, n: u32, disposition: Disposition, of: RunId) {
        let event = Event::ItemFound(found(n, disposition));
        self.add(event, item(n), "person:maker", Some(of));
    }

    /// A dry run by `person:maker` over these items, sealed with their true hash.
    pub(super) fn plan(&mut self, of: RunId, items: &[(u32, Disposition)]) -> Hash {
        self.started("dry_run", None, "person:maker", of);
        for (n, disposition) in items {
            self.found(*n, *disposition, of);
        }
        self.seal(of, items, items.len() as u64)
    }

    pub(super) fn seal(&mut self, of: RunId, items: &[(u32, Disposition)], counted: u64) -> Hash {
        let header = self.header(of);
        self.seal_counting(of, header, lines(items), (counted, "person:maker"))
    }

    /// Seals what was found in this run, as it was found.
    pub(super) fn seal_found(&mut self, of: RunId) -> Hash {
        let of_run = self.0.iter().filter(|one| one.entry.run == Some(of));
        let line = |decoded: &Decoded| match &decoded.event {
            Ok(Event::ItemFound(found)) => Some(PlanItem {
                subject: decoded.entry.subject.clone(),
                version: found.version.clone().unwrap_or_default(),
                class: found.class.clone(),
                disposition: found.disposition.name().to_owned(),
            }),
            _ => None,
        };
        let lines: Vec<PlanItem> = of_run.filter_map(line).collect();
        let counted = lines.len() as u64;
        let header = self.header(of);
        self.seal_counting(of, header, lines, (counted, "person:maker"))
    }

    fn header(&self, of: RunId) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("run".to_owned(), of.to_string()),
            ("kind".to_owned(), self.named(item(0)).kind().to_owned()),
            ("v2_export_0".to_owned(), "aa".to_owned()),
            (
                "v2_export_0_taken_at".to_owned(),
                "2026-01-15T00:00:00Z".to_owned(),
            ),
        ])
    }

    /// A review that decides about items of a plan over `items`, and seals what that makes of it.
    pub(super) fn overlay(
        &mut self,
        of: RunId,
        base: Hash,
        items: &[(u32, Disposition)],
        decisions: &[(u32, Decision)],
        by: &str,
    ) -> Hash {
        self.started("review", None, by, of);
        let mut recorded = Vec::new();
        for (n, decision) in decisions {
            recorded.push(self.decided(*n, *decision, base, by, of));
        }
        for (n, decision) in decisions {
            let event = Event::ItemFound(found(*n, decision.disposition()));
            self.add(event, item(*n), by, Some(of));
        }
        let header = BTreeMap::from([
            ("run".to_owned(), of.to_string()),
            (BASE.to_owned(), base.to_string()),
            (DECISIONS.to_owned(), digest(&recorded).to_string()),
        ]);
        let decided: BTreeMap<u32, Decision> = decisions.iter().copied().collect();
        let lines: Vec<(u32, Disposition)> = items
            .iter()
            .map(|(n, before)| {
                let decision = decided.get(n);
                (
                    *n,
                    decision.map_or(*before, |decision| decision.disposition()),
                )
            })
            .collect();
        self.seal_as(of, header, &lines, by)
    }

    pub(super) fn decided(
        &mut self,
        n: u32,
        decision: Decision,
        plan: Hash,
        by: &str,
        of: RunId,
    ) -> Decided {
        let decided = ItemDecided {
            plan,
            decision,
            reason: "looked at it".to_owned(),
        };
        self.add(Event::ItemDecided(decided.clone()), item(n), by, Some(of));
        Decided::new(self.0.last().unwrap(), &decided)
    }

    /// Seals these lines under this header with the hash that they give.
    pub(super) fn seal_as(
        &mut self,
        of: RunId,
        header: BTreeMap<String, String>,
        items: &[(u32, Disposition)],
        by: &str,
    ) -> Hash {
        self.seal_counting(of, header, lines(items), (items.len() as u64, by))
    }

    fn seal_counting(
        &mut self,
        of: RunId,
        header: BTreeMap<String, String>,
        mut lines: Vec<PlanItem>,
        (counted, by): (u64, &str),
    ) -> Hash {
        for line in &mut lines {
            line.subject = self.named(line.subject.clone());
        }
        let plan = plan_hash(&serde_json::to_value(&header).unwrap(), &lines).unwrap();
        let mut dispositions = BTreeMap::new();
        for line in &lines {
            *dispositions.entry(line.disposition.clone()).or_default() += 1;
        }
        let event = Event::PlanSealed(PlanSealed {
            plan,
            header,
            items: counted,
            classes: BTreeMap::from([("V1_RECORDED".to_owned(), counted)]),
            dispositions,
            users: BTreeMap::new(),
            incumbent_would_delete: 0,
            incumbent_not_ours: 0,
            uncovered: 0,
            remote_date: None,
        });
        self.add(event, plan_subject(of), by, Some(of));
        plan
    }

    pub(super) fn approve(&mut self, plan: Hash, by: &str, seconds: i64) -> EntryId {
        let now = i64::try_from(self.0.len()).unwrap() + 1;
        let event = Event::PlanApproved(PlanApproved {
            plan,
            expires_at: Timestamp::from_micros(START + (now + seconds) * SECOND).unwrap(),
            assurance: "asserted".to_owned(),
            dispositions: BTreeMap::new(),
        });
        self.add(event, plan_subject(run(0)), by, None)
    }

    pub(super) fn intend(&mut self, n: u32, plan: Hash, approval: EntryId) -> EntryId {
        self.intend_with(n, plan, approval, body("whole"))
    }

    pub(super) fn intend_with(
        &mut self,
        n: u32,
        plan: Hash,
        approval: EntryId,
        backup: Body,
    ) -> EntryId {
        self.intend_version(n, (plan, approval), "\"1\"", backup)
    }

    pub(super) fn intend_version(
        &mut self,
        n: u32,
        (plan, approval): (Hash, EntryId),
        version: &str,
        backup: Body,
    ) -> EntryId {
        let event = Event::ItemDeleteIntended(DeleteIntended {
            plan,
            approval,
            attempt: 1,
            place: "cal@example.com".to_owned(),
            item: format!("event{n}"),
            version: version.to_owned(),
            backup,
        });
        self.add(event, item(n), "worker:cleanup", Some(run(9)))
    }

    pub(super) fn deleted(&mut self, n: u32, intent: EntryId, outcome: GoneHow) {
        let event = Event::ItemDeleted(ItemDeleted {
            intent,
            outcome,
            recovered: false,
            status: Some(204),
            remote_date: None,
        });
        self.add(event, item(n), "worker:cleanup", Some(run(9)));
    }

    pub(super) fn failed(&mut self, n: u32, intent: EntryId, outcome: NotGone) {
        let event = Event::ItemDeleteFailed(DeleteFailed {
            intent,
            outcome,
            class: "conflict".to_owned(),
            status: Some(412),
            attempt: 1,
            decision: "held".to_owned(),
            recovered: false,
            reason: "it changed".to_owned(),
            remote_date: None,
        });
        self.add(event, item(n), "worker:cleanup", Some(run(9)));
    }

    /// An attempt to put back what `deletion` deleted; its new id is that of the way.
    pub(super) fn intend_restore(&mut self, n: u32, deletion: EntryId, attempt: u32) -> EntryId {
        let event = Event::ItemRestoreIntended(RestoreIntended {
            deletion,
            backup_sha256: body("whole").sha256,
            deleted_by: Some(run(9)),
            attempt,
            way: "insert".to_owned(),
            place: "cal@example.com".to_owned(),
            item: format!("event{n}"),
            becomes: format!("new{n}"),
        });
        self.add(event, item(n), "person:runner", Some(run(10)))
    }

    pub(super) fn restored(&mut self, n: u32, intent: EntryId) {
        let event = Event::ItemRestored(ItemRestored {
            intent,
            outcome: BackHow::Restored,
            way: "insert".to_owned(),
            place: "cal@example.com".to_owned(),
            item: format!("event{n}"),
            becomes: format!("new{n}"),
            version: Some("\"2\"".to_owned()),
            verified: true,
            differs: Vec::new(),
            lost: vec!["id".to_owned()],
            recovered: false,
            status: Some(200),
            remote_date: None,
        });
        self.add(event, item(n), "person:runner", Some(run(10)));
    }

    pub(super) fn not_restored(&mut self, n: u32, intent: EntryId) {
        let event = Event::ItemRestoreFailed(RestoreFailed {
            intent,
            way: "insert".to_owned(),
            class: "server".to_owned(),
            status: Some(503),
            attempt: 1,
            decision: "retried".to_owned(),
            recovered: false,
            reason: "it is not there".to_owned(),
            remote_date: None,
        });
        self.add(event, item(n), "person:runner", Some(run(10)));
    }

    /// Everything in the calendar was listed.
    pub(super) fn listed(&mut self, phase: &str) {
        let event = Event::ContainerListed(crate::domain::event::ContainerListed {
            phase: phase.to_owned(),
            place: "cal@example.com".to_owned(),
            sync_token: None,
            items: 3,
            whole: phase == "plan",
            remote_date: None,
            unexplained: 0,
        });
        let subject = Subject::new("calendar", Uuid::from_u128(7)).unwrap();
        self.add(event, subject, "worker:cleanup", Some(run(9)));
    }
}

pub(super) fn found(n: u32, disposition: Disposition) -> ItemFound {
    ItemFound {
        place: "cal@example.com".to_owned(),
        item: format!("event{n}"),
        class: "V1_RECORDED".to_owned(),
        disposition,
        reason: "v1 recorded its id".to_owned(),
        evidence: BTreeMap::new(),
        version: Some("\"1\"".to_owned()),
        body: None,
        digest: None,
        date: None,
        covered: None,
        users: vec![Subject::new("user", Uuid::from_u128(5)).unwrap()],
    }
}

/// The lines of a plan over these items.
pub(super) fn lines(items: &[(u32, Disposition)]) -> Vec<PlanItem> {
    let line = |(n, disposition): &(u32, Disposition)| PlanItem {
        subject: item(*n),
        version: "\"1\"".to_owned(),
        class: "V1_RECORDED".to_owned(),
        disposition: disposition.name().to_owned(),
    };
    items.iter().map(line).collect()
}

fn plan_subject(of: RunId) -> Subject {
    Subject::new("plan", of.uuid()).unwrap()
}
