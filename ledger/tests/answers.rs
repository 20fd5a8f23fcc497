//! The answers on a real PostgreSQL: a plan read back, approved, executed in part, and asked about.
#![cfg(feature = "store")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::chain::plan::{PlanItem, plan_hash};
use ledger::domain::custody::State;
use ledger::domain::event::{
    Body, DeleteIntended, Event, GoneHow, ItemDeleted, ItemFound, PersonAdded, PlanSealed,
    RunStarted,
};
use ledger::domain::hash::Hash;
use ledger::domain::id::{Actor, EntryId, RunId, Subject, Timestamp};
use ledger::domain::identify::Disposition;
use ledger::domain::verdict::{Scope, UnknownReason, Verdict};
use ledger::projections::approve::{APPROVAL_HOURS, ApproveError, approve, is_named};
use ledger::projections::deletions::{DeletionsFold, Part};
use ledger::projections::fold::{At, run};
use ledger::projections::loss::{Integrity, loss};
use ledger::projections::plan::{self, PlanError};
use ledger::projections::{custody::CustodyFold, fold};
use ledger::store::connect::{NewLedger, create_ledger};
use ledger::store::embedded::{
    self, Embedded, EmbeddedEnv, EmbeddedOptions, Home, SupervisorCommand,
};
use ledger::store::identity::Natural;
use ledger::store::keys::Kek;
use ledger::store::{Admin, Clock, Draft, Store, connect};
use sqlx::{ConnectOptions as _, Connection as _};

const HOUR: i64 = 3_600_000_000;

/// The supervisor of the embedded server, in a process of its own.
#[test]
fn supervisor_process() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let [_, _, exact, _, request] = arguments.as_slice()
        && exact == "--exact"
    {
        assert_eq!(embedded::supervise(request), ExitCode::SUCCESS);
    }
}

/// A ledger on a server of its own, with a clock that the test moves.
struct World {
    store: Store,
    server: Embedded,
    time: Arc<AtomicI64>,
    _home: tempfile::TempDir,
}

fn actor(text: &str) -> Actor {
    text.parse().unwrap()
}

async fn start(home: &Path) -> Embedded {
    let env = EmbeddedEnv::from_process();
    let home = Home::resolve(Some(home.to_owned()), &env).unwrap();
    let supervisor = SupervisorCommand {
        program: std::env::current_exe().unwrap(),
        arguments: ["supervisor_process", "--exact", "--nocapture"]
            .map(OsString::from)
            .to_vec(),
    };
    let options = EmbeddedOptions {
        supervisor,
        durable: false,
        ..EmbeddedOptions::new(home, env)
    };
    embedded::start(&options).await.unwrap()
}

impl World {
    async fn start() -> Self {
        let home = tempfile::Builder::new()
            .prefix("ledger-socket-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in("/tmp")
            .unwrap();
        let server = start(home.path()).await;
        let admin = server.admin_options();
        Admin::prepare(&admin).await.unwrap().close().await.unwrap();
        let (pool, _) = connect(admin, 6).await.unwrap();
        let begin = Timestamp::parse_lenient("2026-01-15").unwrap();
        let time = Arc::new(AtomicI64::new(begin.micros()));
        let now = Arc::clone(&time);
        let clock = Clock::new(move || {
            Timestamp::from_micros(now.fetch_add(1_000, Ordering::SeqCst)).unwrap()
        });
        let kek = Kek::generate().unwrap();
        let new = NewLedger {
            name: "test".to_owned(),
            payload: "{}".to_owned(),
            actor: Actor::system(),
            simulated: Some(begin),
        };
        let id = clock.ledger_id();
        let (row, _) = create_ledger(&pool, id, &new, vec![kek.clone()], &clock)
            .await
            .unwrap();
        Self {
            store: Store::open(pool, row, vec![kek], clock),
            server,
            time,
            _home: home,
        }
    }

    async fn stop(self) {
        self.store.close().await;
        self.server.close().await.unwrap();
    }

    fn later(&self, micros: i64) {
        self.time.fetch_add(micros, Ordering::SeqCst);
    }

    async fn record(
        &self,
        event: Event,
        subject: &Subject,
        by: &str,
        run: Option<RunId>,
    ) -> EntryId {
        let draft = Draft::of(&event, subject.clone(), actor(by), subject.clone()).unwrap();
        let draft = Draft {
            run,
            recorded_at: Some(self.store.clock().now()),
            ..draft
        };
        self.store.append(draft).await.unwrap().entry.id
    }

    async fn subjects(&self, count: usize) -> Vec<Subject> {
        let naturals: Vec<Natural> = (0..count)
            .map(|n| Natural {
                kind: "calendar-event".to_owned(),
                id: format!("cal@example.com event{n}"),
                owner: None,
            })
            .collect();
        self.store.identify(&naturals).await.unwrap()
    }

    /// A dry run by mia that finds these items; `lie` is what the seal says of the first one's version.
    async fn plan(&self, items: &[Subject], lie: Option<&str>) -> Hash {
        let run = self.store.clock().run_id();
        let started = Event::RunStarted(RunStarted {
            verb: "dry_run".to_owned(),
            plan: None,
            approval: None,
            options: BTreeMap::new(),
        });
        let of_run = Subject::new("run", run.uuid()).unwrap();
        self.record(started, &of_run, "person:mia", Some(run)).await;
        let mut lines = Vec::new();
        for (n, subject) in items.iter().enumerate() {
            let found = ItemFound {
                place: "cal@example.com".to_owned(),
                item: format!("event{n}"),
                class: "V1_RECORDED".to_owned(),
                disposition: Disposition::Delete,
                reason: "v1 recorded its id".to_owned(),
                evidence: BTreeMap::new(),
                version: Some("\"1\"".to_owned()),
                body: Some(whole()),
                digest: None,
                date: None,
                covered: None,
                users: Vec::new(),
            };
            self.record(Event::ItemFound(found), subject, "worker:w", Some(run))
                .await;
            lines.push(PlanItem {
                subject: subject.clone(),
                version: lie.filter(|_| n == 0).unwrap_or("\"1\"").to_owned(),
                class: "V1_RECORDED".to_owned(),
                disposition: "delete".to_owned(),
            });
        }
        let header = BTreeMap::from([
            ("run".to_owned(), run.to_string()),
            ("v2_export_0".to_owned(), "aa".to_owned()),
        ]);
        let plan = plan_hash(&serde_json::to_value(&header).unwrap(), &lines).unwrap();
        let sealed = Event::PlanSealed(PlanSealed {
            plan,
            header,
            items: items.len() as u64,
            classes: BTreeMap::new(),
            dispositions: BTreeMap::from([("delete".to_owned(), items.len() as u64)]),
            users: BTreeMap::new(),
            incumbent_would_delete: 0,
            incumbent_not_ours: 0,
            uncovered: 0,
            remote_date: None,
        });
        let subject = Subject::new("plan", self.store.clock().uuid()).unwrap();
        self.record(sealed, &subject, "worker:w", Some(run)).await;
        plan
    }

    async fn approve(&self, plan: Hash, by: &str) -> Result<(u64, bool), ApproveError> {
        let sealed = plan::load(&self.store, plan).await?;
        let now = Some(self.store.clock().now());
        let approved = approve(&self.store, &sealed, &actor(by), now).await?;
        Ok((approved.approval.seq, approved.replayed))
    }

    async fn intend(&self, plan: Hash, approval: EntryId, item: &Subject, n: usize) -> EntryId {
        let intent = Event::ItemDeleteIntended(DeleteIntended {
            plan,
            approval,
            attempt: 1,
            place: "cal@example.com".to_owned(),
            item: format!("event{n}"),
            version: "\"1\"".to_owned(),
            backup: whole(),
        });
        self.record(intent, item, "worker:w", None).await
    }

    async fn deleted(&self, intent: EntryId, item: &Subject) {
        let deleted = Event::ItemDeleted(ItemDeleted {
            intent,
            outcome: GoneHow::Deleted,
            recovered: false,
            status: Some(204),
            remote_date: None,
        });
        self.record(deleted, item, "worker:w", None).await;
    }
}

fn whole() -> Body {
    Body {
        base64: STANDARD.encode("{}"),
        sha256: Hash::of(b"{}"),
    }
}

const SOUND: Integrity = Integrity {
    log_intact: true,
    guards_on: true,
    anchored: None,
};

#[tokio::test]
async fn a_plan_is_approved_once_by_somebody_else_who_may_act() {
    let world = World::start().await;
    let items = world.subjects(2).await;
    let plan = world.plan(&items, None).await;

    let text = plan.to_string();
    assert_eq!(plan::find(&world.store, &text[..8]).await.unwrap(), plan);
    for (name, wrong) in [
        (text[..7].to_owned(), "too short"),
        (format!("{}x", &text[..8]), "no hex"),
    ] {
        let found = plan::find(&world.store, &name).await;
        assert!(matches!(found, Err(PlanError::Name)), "{wrong}");
    }
    let other = if text.starts_with('0') { "1" } else { "0" };
    let found = plan::find(&world.store, &other.repeat(8)).await;
    assert!(matches!(found, Err(PlanError::NoSuchPlan(_))));

    let refused = world.approve(plan, "person:mia").await;
    assert!(
        matches!(refused, Err(ApproveError::OwnPlan { .. })),
        "started the run"
    );
    let refused = world.approve(plan, "worker:w").await;
    assert!(matches!(refused, Err(ApproveError::NotAPerson(_))));
    let refused = world.approve(plan, "person:w").await;
    assert!(
        matches!(refused, Err(ApproveError::OwnPlan { .. })),
        "sealed it as worker:w"
    );
    let ghost = actor("person:ghost");
    assert!(is_named(&world.store, &ghost).await.unwrap(), "nobody is");
    assert!(
        plan::load(&world.store, plan)
            .await
            .unwrap()
            .approvals
            .is_empty()
    );

    // Of several at once one is recorded, and all are told of it.
    let (carl, kim, lee) = tokio::join!(
        world.approve(plan, "person:carl"),
        world.approve(plan, "person:kim"),
        world.approve(plan, "person:lee"),
    );
    let all = [carl.unwrap(), kim.unwrap(), lee.unwrap()];
    assert_eq!(
        all.iter().filter(|(_, replayed)| !replayed).count(),
        1,
        "{all:?}"
    );
    assert!(all.iter().all(|(seq, _)| *seq == all[0].0), "{all:?}");

    let sealed = plan::load(&world.store, plan).await.unwrap();
    let by = sealed.approvals[0].person.clone();
    let now = world.store.clock().now();
    assert!(sealed.approval_at(now, None).is_some());
    assert!(
        sealed.approval_at(now, Some(&by)).is_none(),
        "who runs it did not approve it"
    );
    let under_another_name = actor(&by.as_str().replace("person:", "worker:"));
    assert!(sealed.approval_at(now, Some(&under_another_name)).is_none());

    world.later(APPROVAL_HOURS * HOUR);
    let lapsed = world.store.clock().now();
    assert!(sealed.approval_at(lapsed, None).is_none());
    let again = world.approve(plan, "person:carl").await.unwrap();
    assert!(!again.1 && again.0 > all[0].0, "{again:?}");

    // From then on only persons of the ledger may act.
    let person = Subject::new("person", world.store.clock().uuid()).unwrap();
    let name = "kim".to_owned();
    world
        .record(
            Event::PersonAdded(PersonAdded { name }),
            &person,
            "system",
            None,
        )
        .await;
    let refused = world.approve(plan, "person:carl").await;
    assert!(matches!(refused, Err(ApproveError::UnknownPerson(_))));
    assert!(world.approve(plan, "person:kim").await.unwrap().1);
    for (person, named) in [("person:kim", true), ("person:ghost", false)] {
        let is = is_named(&world.store, &actor(person)).await.unwrap();
        assert_eq!(is, named, "{person}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_plan_whose_items_do_not_give_its_hash_is_refused() {
    let world = World::start().await;
    let items = world.subjects(2).await;
    let plan = world.plan(&items, Some("\"2\"")).await;
    let refused = plan::load(&world.store, plan).await;
    assert!(
        matches!(refused, Err(PlanError::Mismatch { .. })),
        "{refused:?}"
    );
    let answer = loss(&world.store, At::Head, SOUND).await.unwrap().unwrap();
    let reasons: Vec<_> = answer
        .unknown
        .iter()
        .map(|unknown| unknown.reason)
        .collect();
    assert!(
        reasons.contains(&UnknownReason::PlanNotAsSealed),
        "{reasons:?}"
    );
    world.stop().await;
}

#[tokio::test]
async fn progress_open_intents_and_the_answers_follow_the_log() {
    let world = World::start().await;
    let items = world.subjects(3).await;
    let plan = world.plan(&items, None).await;
    let (seq, _) = world.approve(plan, "person:carl").await.unwrap();
    let approval = world.store.get(seq).await.unwrap().unwrap().entry.id;
    let first = world.intend(plan, approval, &items[0], 0).await;
    world.deleted(first, &items[0]).await;
    let open = world.intend(plan, approval, &items[1], 1).await;

    let progress = plan::progress(&world.store, plan).await.unwrap();
    let intents = progress.open().unwrap();
    let found: Vec<_> = intents
        .iter()
        .map(|intent| (intent.id, &intent.subject))
        .collect();
    assert_eq!(found, [(open, &items[1])]);
    let [first, second, third] = [0, 1, 2].map(|n: usize| progress.of(&items[n]).unwrap());
    assert!(first.open.is_none() && first.outcome.is_some());
    assert!(second.open.is_some() && second.outcome.is_none());
    assert_eq!(third, plan::Progress::default(), "it was not begun");

    let calendar = |answer: &ledger::domain::verdict::LossAnswer| {
        let calendar = &answer.scopes[&Scope::Calendar];
        (calendar.verdict, calendar.sum.get(State::Deleted))
    };
    let now = loss(&world.store, At::Head, SOUND).await.unwrap().unwrap();
    assert_eq!(calendar(&now), (Verdict::Unknown, 1));
    let before = loss(&world.store, At::Seq(seq), SOUND)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(before.as_of.seq, seq);
    assert_eq!(before.sum.get(State::Planned), 3);
    let long_ago = At::Time(Timestamp::EPOCH);
    assert!(loss(&world.store, long_ago, SOUND).await.unwrap().is_none());

    let mut custody = CustodyFold::default();
    let mut deletions = DeletionsFold::default();
    run(&world.store, At::Head, &mut [&mut custody, &mut deletions])
        .await
        .unwrap();
    let review = deletions.review(&custody, &Part::default());
    assert_eq!((review.total, &review.sum), (3, &custody.sums()));
    assert_eq!(review.plans[0].approvals[0].by, actor("person:carl"));
    world.stop().await;
}

#[tokio::test]
async fn a_damaged_entry_is_counted_and_the_answer_is_never_none() {
    let world = World::start().await;
    let items = world.subjects(2).await;
    world.plan(&items, None).await;
    let size = world.store.head().await.unwrap().size;
    let mut intruder = world.server.admin_options().connect().await.unwrap();
    sqlx::raw_sql(
        "alter table ledger.entries disable trigger all; \
         update ledger.entries set bytes = bytes || '\\x20'::bytea, \
                hash = sha256('\\x00'::bytea || bytes || '\\x20'::bytea) where seq = 3; \
         delete from ledger.entries where seq = 2",
    )
    .execute(&mut intruder)
    .await
    .expect("a superuser may");
    intruder.close().await.unwrap();

    let mut custody = CustodyFold::default();
    let pass = fold::run(&world.store, At::Head, &mut [&mut custody])
        .await
        .unwrap();
    assert_eq!((pass.damaged, pass.last.unwrap().0), (2, size));
    let answer = loss(&world.store, At::Head, SOUND).await.unwrap().unwrap();
    assert_eq!(answer.scopes[&Scope::Calendar].verdict, Verdict::Unknown);
    assert_eq!(answer.unknown[0].reason, UnknownReason::LogNotIntact);
    world.stop().await;
}
