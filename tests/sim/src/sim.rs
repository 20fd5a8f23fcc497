//! The handle on a served world: what a test asks and sets.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::calendar::Channel;
use crate::clock::SimClock;
use crate::convex::{self, Exports, V2};
use crate::faults::{Fault, FaultId, FaultKind, Hold, HoldPoint, Occurrence};
use crate::http::{Call, Service};
use crate::journal::JournalEntry;
use crate::lock;
use crate::server::App;
use crate::supabase::Writes;
use crate::world::{Disposition, Truth, World};

/// A calendar event, named as the services name it: the owning calendar's id and the event's.
pub type EventKey = (String, String);

/// A served world. Dropping it leaves the services to the runtime; [`Sim::stop`] ends them in order.
pub struct Sim {
    app: Arc<App>,
    supabase: SocketAddr,
    oauth: SocketAddr,
    calendar: SocketAddr,
    convex: SocketAddr,
    convex_dev: SocketAddr,
}

/// What became of the calendars, held against what should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// To be deleted, and still there.
    pub left: BTreeSet<EventKey>,
    /// Deleted without being in the list.
    pub beyond: BTreeSet<EventKey>,
    /// Deleted although the world's truth says it must survive.
    pub lost: BTreeSet<EventKey>,
    /// Live, but not as it was: edited while the world ran.
    pub changed: BTreeSet<EventKey>,
    /// Live, and not there when the world began.
    pub added: BTreeSet<EventKey>,
}

impl Comparison {
    /// Exactly the list is gone, and nothing else was touched.
    pub fn is_exact(&self) -> bool {
        *self == Self::default()
    }
}

impl Sim {
    pub(crate) fn new(app: Arc<App>, addresses: &[SocketAddr]) -> Self {
        Self {
            app,
            supabase: addresses[0],
            oauth: addresses[1],
            calendar: addresses[2],
            convex: addresses[3],
            convex_dev: addresses[4],
        }
    }

    /// The variables that point the program under test here, with the world's keys.
    pub fn env(&self) -> BTreeMap<&'static str, String> {
        let keys = &self.app.world.keys;
        BTreeMap::from([
            ("SUPABASE_URL", format!("http://{}", self.supabase)),
            ("SUPABASE_KEY", keys.service_key.clone()),
            ("ENCRYPTION_KEY", keys.encryption_key.encoded()),
            ("GOOGLE_CLIENT_ID", keys.client_id.clone()),
            ("GOOGLE_CLIENT_SECRET", keys.client_secret.clone()),
            (
                "GOOGLE_OAUTH_TOKEN_URL",
                format!("http://{}/token", self.oauth),
            ),
            (
                "GOOGLE_CALENDAR_API_URL",
                format!("http://{}/calendar/v3", self.calendar),
            ),
            ("CONVEX_URL", format!("http://{}", self.convex)),
            ("CONVEX_DEPLOY_KEY", keys.convex_key.clone()),
            ("CONVEX_DEV_URL", format!("http://{}", self.convex_dev)),
            ("CONVEX_DEV_DEPLOY_KEY", keys.convex_dev_key.clone()),
        ])
    }

    /// Base of the control interface: `/__sim/journal`, `/__sim/faults`, `/__sim/truth`, `/__sim/holds/{id}`.
    pub fn control_url(&self) -> String {
        format!("http://{}/__sim", self.calendar)
    }

    /// The world as it was when it began.
    pub fn world(&self) -> &World {
        &self.app.world
    }

    /// What is true of each event of the world.
    pub fn truth(&self) -> &[Truth] {
        &self.app.world.truth
    }

    /// The services' clock.
    pub fn clock(&self) -> &SimClock {
        &self.app.clock
    }

    /// Every request so far, in order.
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.app.journal.entries()
    }

    /// Sets a fault.
    pub fn add_fault(&self, fault: Fault) -> FaultId {
        self.app.faults.add(fault).0
    }

    /// Takes a fault away; false if it was not set.
    pub fn remove_fault(&self, id: FaultId) -> bool {
        self.app.faults.remove(id)
    }

    /// Takes every fault away. Requests that are parked stay parked until their hold is released.
    pub fn clear_faults(&self) {
        self.app.faults.clear();
    }

    /// Parks the `nth` request of a call (counted from now), before or after its effect.
    pub fn hold(&self, call: Call, nth: u64, at: HoldPoint) -> Hold {
        self.hold_where(Fault::once(call, FaultKind::Hold { at }).when(Occurrence::Nth(nth)))
    }

    /// Parks the requests that a fault of kind [`FaultKind::Hold`] matches.
    ///
    /// # Panics
    /// If the fault is of another kind.
    pub fn hold_where(&self, fault: Fault) -> Hold {
        #[expect(clippy::expect_used, reason = "documented panic on a misuse in a test")]
        self.app.faults.add(fault).1.expect("a fault of kind hold")
    }

    /// The live events of each calendar, as resources.
    pub fn final_state(&self) -> BTreeMap<String, BTreeMap<String, Value>> {
        lock(&self.app.calendar)
            .calendars
            .all()
            .map(|calendar| {
                let live = calendar
                    .all()
                    .filter(|(_, event)| !event.cancelled())
                    .map(|(id, event)| (id.clone(), Value::Object(event.fields.clone())))
                    .collect();
                (calendar.id.clone(), live)
            })
            .collect()
    }

    /// The events that were live when the world began.
    pub fn initial_state(&self) -> BTreeMap<String, BTreeMap<String, Value>> {
        self.app.world.live()
    }

    /// The events that were live when the world began and are not now.
    pub fn deleted(&self) -> Vec<EventKey> {
        let now = self.final_state();
        self.initial_state()
            .into_iter()
            .flat_map(|(calendar, events)| {
                events
                    .into_keys()
                    .map(move |event| (calendar.clone(), event))
            })
            .filter(|(calendar, event)| {
                !now.get(calendar)
                    .is_some_and(|events| events.contains_key(event))
            })
            .collect()
    }

    /// The events that the default dispositions delete.
    pub fn to_be_deleted(&self) -> BTreeSet<EventKey> {
        self.truth()
            .iter()
            .filter(|truth| truth.disposition == Disposition::Delete)
            .map(|truth| (truth.calendar.clone(), truth.event_id.clone()))
            .collect()
    }

    /// Holds the calendars against a list of what should be gone.
    pub fn compare(&self, planned: &BTreeSet<EventKey>) -> Comparison {
        let deleted: BTreeSet<EventKey> = self.deleted().into_iter().collect();
        let must_survive: BTreeSet<EventKey> = self
            .truth()
            .iter()
            .filter(|truth| truth.must_survive)
            .map(|truth| (truth.calendar.clone(), truth.event_id.clone()))
            .collect();
        let (before, now) = (self.initial_state(), self.final_state());
        let mut comparison = Comparison {
            left: planned.difference(&deleted).cloned().collect(),
            beyond: deleted.difference(planned).cloned().collect(),
            lost: deleted.intersection(&must_survive).cloned().collect(),
            ..Comparison::default()
        };
        for (calendar, events) in &now {
            for (event, fields) in events {
                let key = || (calendar.clone(), event.clone());
                match before.get(calendar).and_then(|events| events.get(event)) {
                    None => comparison.added.insert(key()),
                    Some(old) if old != fields => comparison.changed.insert(key()),
                    Some(_) => false,
                };
            }
        }
        comparison
    }

    /// Asserts that exactly these events are gone and that nothing else was touched.
    ///
    /// # Panics
    /// With the differences, if it is not so.
    pub fn assert_only_deleted(&self, planned: &BTreeSet<EventKey>) {
        let comparison = self.compare(planned);
        assert!(
            comparison.is_exact(),
            "the calendars differ from the plan: {comparison:#?}"
        );
    }

    /// Asserts that exactly the events that the default dispositions delete are gone.
    ///
    /// # Panics
    /// With the differences, if it is not so.
    pub fn assert_only_v1_events_gone(&self) {
        self.assert_only_deleted(&self.to_be_deleted());
    }

    /// Revokes an account's grants, as its owner can at any time.
    pub fn revoke(&self, account: &str) {
        lock(&self.app.tokens).revoke_account(account);
    }

    /// Makes one refresh token die and leaves the account's others alone. False if there is no such token.
    pub fn kill_grant(&self, refresh_token: &str) -> bool {
        lock(&self.app.tokens).kill_grant(refresh_token)
    }

    /// The watch channels that are open.
    pub fn channels(&self) -> Vec<Channel> {
        lock(&self.app.calendar).channels.clone()
    }

    /// Makes an account's access tokens expire now; its refresh token stays good.
    pub fn expire_access_tokens(&self, account: &str) {
        lock(&self.app.tokens).expire_access(account, self.app.clock.now());
    }

    /// Makes every sync token of every calendar expire: 410 `fullSyncRequired`.
    pub fn expire_sync_tokens(&self) {
        for calendar in lock(&self.app.calendar).calendars.all_mut() {
            calendar.sync_floor = calendar.change + 1;
        }
    }

    /// Edits a live event as its owner could in the web interface: fields are replaced, null removes, etag and `updated` move on.
    /// False if there is no such event.
    pub fn edit_event(&self, calendar: &str, event: &str, changes: &Value) -> bool {
        let now = self.app.clock.now();
        let mut service = lock(&self.app.calendar);
        let Some(calendar) = service.calendars.get_mut(calendar) else {
            return false;
        };
        let Some(stored) = calendar.get(event) else {
            return false;
        };
        let (mut fields, presence) = (stored.fields.clone(), stored.presence);
        for (name, value) in changes.as_object().into_iter().flatten() {
            if value.is_null() {
                fields.remove(name);
            } else {
                fields.insert(name.clone(), value.clone());
            }
        }
        calendar.touch(fields, presence, now);
        true
    }

    /// Makes an event now, as a system that still writes would. False if there is no such calendar, or the id is taken.
    pub fn add_event(&self, calendar: &str, id: &str, fields: &Value) -> bool {
        let now = self.app.clock.now();
        let mut service = lock(&self.app.calendar);
        let Some(calendar) = service.calendars.get_mut(calendar) else {
            return false;
        };
        let Value::Object(mut event) = fields.clone() else {
            return false;
        };
        if calendar.get(id).is_some() {
            return false;
        }
        event.insert("id".to_owned(), id.into());
        event.insert("created".to_owned(), crate::clock::rfc3339_ms(now).into());
        calendar.touch(event, crate::calendar::Presence::Held, now);
        true
    }

    /// Deletes an event as its owner could. False if there is no such live event.
    pub fn delete_event(&self, calendar: &str, event: &str) -> bool {
        let live = self
            .final_state()
            .get(calendar)
            .is_some_and(|all| all.contains_key(event));
        live && self.edit_event(calendar, event, &json!({"status": "cancelled"}))
    }

    /// Gives a calendar another title, as its owner could. False if there is no such calendar.
    pub fn rename_calendar(&self, calendar: &str, title: &str) -> bool {
        let mut service = lock(&self.app.calendar);
        let calendar = service.calendars.get_mut(calendar);
        calendar
            .map(|calendar| title.clone_into(&mut calendar.title))
            .is_some()
    }

    /// Empties an event out of the trash: 404 from now on. False if there is no such event.
    pub fn purge_event(&self, calendar: &str, event: &str) -> bool {
        lock(&self.app.calendar)
            .calendars
            .get_mut(calendar)
            .is_some_and(|c| c.purge(event))
    }

    /// Changes Supabase's tables, as v1 itself would.
    pub fn with_database<T>(&self, change: impl FnOnce(&mut crate::supabase::Database) -> T) -> T {
        change(&mut lock(&self.app.supabase).database)
    }

    /// Sets Supabase's `max-rows`.
    pub fn set_max_rows(&self, rows: usize) {
        lock(&self.app.supabase).max_rows = rows;
    }

    /// Lets Supabase's tables be written, or not: v1 is read-only from its freeze on.
    pub fn set_writes(&self, writes: Writes) {
        lock(&self.app.supabase).writes = writes;
    }

    /// The requests that changed a calendar, in order.
    pub fn calendar_writes(&self) -> Vec<JournalEntry> {
        let mut entries = self.journal();
        entries.retain(|entry| entry.service == Service::Calendar && entry.effect);
        entries
    }

    /// Makes v2's case of a v1 case record an event now, as a sync of v2's would. False if production has no such case.
    pub fn record_in_v2(&self, legacy_case: &str, slot: &str, event_id: &str) -> bool {
        let now = self.app.clock.now();
        lock(&self.app.convex).edit(
            "cases",
            |case| case["legacyId"] == legacy_case,
            |case| case["calendarEventIds"][slot] = event_id.into(),
            now,
        )
    }

    /// Deletes a document of v2's production deployment. False if there is no such document.
    pub fn delete_in_v2(&self, table: &str, id: &str) -> bool {
        let now = self.app.clock.now();
        lock(&self.app.convex).delete(table, id, now)
    }

    /// Lets both deployments of v2 have the streaming export, or not, as their plan says.
    pub fn set_streaming_export(&self, allowed: bool) {
        for service in [&self.app.convex, &self.app.convex_dev] {
            lock(service).config.streaming_export = allowed;
        }
    }

    /// Somebody else asks for an export of v2's production deployment.
    pub fn begin_v2_export(&self) {
        lock(&self.app.convex).begin_export();
    }

    /// v2 as it stands.
    pub fn v2(&self) -> V2 {
        let now = self.app.clock.now();
        V2 {
            production: lock(&self.app.convex).deployment(now),
            dev: lock(&self.app.convex_dev).deployment(now),
            snapshot_at: now,
        }
    }

    /// Asserts that nothing but reads, token requests and requests for an export was sent, as a dry run promises.
    ///
    /// # Panics
    /// With the first other request.
    pub fn assert_only_reads(&self) {
        for entry in self.journal() {
            let read = entry.method == "GET" || entry.method == "HEAD";
            assert!(
                read || matches!(entry.call, Some(Call::Token | Call::ConvexExportRequest)),
                "more than a read: {entry:?}"
            );
        }
    }

    /// Writes v2's exports, production and dev, as ZIP and as folder, taken at the world's present.
    pub fn write_v2_exports(&self, folder: &Path) -> io::Result<Exports> {
        convex::write_exports(&self.app.world.v2, folder)
    }

    /// v2 as it stands, exported just now by the services' clock: what a live run asks for again.
    pub fn write_fresh_v2_exports(&self, folder: &Path) -> io::Result<Exports> {
        let v2 = self.v2();
        convex::write_exports_at(&v2, folder, v2.snapshot_at)
    }

    /// Ends the services: parked requests are cut off, the others are finished.
    pub async fn stop(self) {
        self.app.stop.cancel();
        self.app.requests.close();
        self.app.servers.close();
        self.app.requests.wait().await;
        self.app.servers.wait().await;
    }
}
