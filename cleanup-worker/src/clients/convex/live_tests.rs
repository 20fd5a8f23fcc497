//! Deployments read over real HTTP, from the simulator.

use ledger_sim::faults::StatusFault;
use ledger_sim::{
    Call, ConvexConfig, Fault, FaultKind, HoldPoint, Occurrence, Sim, SimConfig, SimServers,
    WorldSpec,
};

use super::super::tests::{All, Whole, read_whole};
use super::super::{Origin, TakenAt, V2Sources, V2Watch};
use super::*;
use crate::clients::http::HttpLimits;
use crate::clients::testing::TestTiming;
use crate::config::WorkerConfig;

async fn sim(convex: ConvexConfig) -> Sim {
    let world = WorldSpec::default().users(4).events_per_user(12).generate();
    let config = SimConfig {
        convex,
        ..SimConfig::default()
    };
    SimServers::start_with(world, config).await.expect("a port")
}

fn config(sim: &Sim) -> WorkerConfig {
    let env = sim.env();
    WorkerConfig::from_env(&|name| env.get(name).cloned()).expect("a good environment")
}

/// Production and development, with a clock of their own.
fn readers(sim: &Sim) -> (Vec<ConvexReader>, Arc<TestTiming>) {
    let config = config(sim);
    let transport = ReadTransport::open(&config, HttpLimits::default()).expect("a client");
    let timing = Arc::new(TestTiming::default());
    let readers = config.convex.iter().map(|deployment| {
        let policy = RetryPolicy::default();
        ConvexReader::new(deployment, transport.clone(), policy, timing.clone())
    });
    (readers.collect(), timing)
}

fn production(sim: &Sim) -> ConvexReader {
    readers(sim).0.remove(0)
}

/// v1's id of a case that v2 has.
fn a_case(sim: &Sim) -> String {
    let case = &sim.world().v2.production.tables["cases"][0];
    case["legacyId"]
        .as_str()
        .expect("a case of v1's")
        .to_owned()
}

async fn read(reader: &ConvexReader) -> Result<Whole, ConvexError> {
    let mut all = All::default();
    reader.read(&mut all).await.map(|export| all.of(export))
}

fn recorded(export: &Whole) -> Vec<&str> {
    let ids = export
        .cases
        .iter()
        .flat_map(|case| &case.calendar_event_ids);
    let mut ids: Vec<&str> = ids.map(|(_, id)| id.as_str()).collect();
    ids.sort_unstable();
    ids
}

fn calls(sim: &Sim) -> Vec<Call> {
    sim.journal()
        .iter()
        .filter_map(|entry| entry.call)
        .collect()
}

#[tokio::test]
async fn streamed_or_exported_a_deployment_says_the_same_as_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    for page_documents in [1_000, 3] {
        let sim = sim(ConvexConfig {
            page_documents,
            ..ConvexConfig::default()
        })
        .await;
        let (readers, _) = readers(&sim);
        let files = sim.write_fresh_v2_exports(folder.path()).expect("exports");
        for (reader, file) in readers.iter().zip([files.production_zip, files.dev_zip]) {
            let file = read_whole(&file, reader.deployment(), None).expect("a file");
            sim.set_streaming_export(true);
            let streamed = read(reader).await.expect("streamed");
            sim.set_streaming_export(false);
            let exported = read(reader).await.expect("exported");
            for live in [&streamed, &exported] {
                let mut cases = live.cases.clone();
                let mut expected = file.cases.clone();
                cases.sort_by(|a, b| a.id.cmp(&b.id));
                expected.sort_by(|a, b| a.id.cmp(&b.id));
                assert_eq!(cases, expected);
                assert_eq!(live.profiles.len(), file.profiles.len());
                assert_eq!(live.origin, Origin::Live(reader.deployment()));
                let age = sim.clock().now() - live.taken_at;
                assert!((0..60).contains(&age.num_seconds()), "{age}");
                assert_eq!(live.digest.len(), 64);
            }
            assert!(!streamed.cases.is_empty());
            assert_eq!(streamed.taken_at_source, TakenAt::Stream);
            assert_eq!(exported.taken_at_source, TakenAt::Export);
        }
        sim.assert_only_reads();
        assert!(!calls(&sim).contains(&Call::ConvexWrite));
    }
}

#[tokio::test]
async fn a_listing_is_of_one_moment_and_the_changes_since_are_listed() {
    let sim = sim(ConvexConfig {
        page_documents: 3,
        ..ConvexConfig::default()
    })
    .await;
    let hold = sim.hold(Call::ConvexListSnapshot, 2, HoldPoint::Before);
    let reader = production(&sim);
    let reading = tokio::spawn({
        let reader = reader.clone();
        async move { read(&reader).await }
    });
    hold.reached().await;
    let case = a_case(&sim);
    assert!(sim.record_in_v2(&case, "rfi_due", "adopted0"));
    hold.release();
    let export = reading.await.expect("no panic").expect("an export");
    assert!(!recorded(&export).contains(&"adopted0"));
    let changes = reader.case_changes(export.taken_at).await.expect("changes");
    assert_eq!(changes.cases.len(), 1);
    assert_eq!(changes.cases[0].legacy_id.as_deref(), Some(case.as_str()));
    assert!(changes.until > export.taken_at);
    let none = reader.case_changes(changes.until).await.expect("changes");
    assert!(none.cases.is_empty());
    // The same content has the same digest, other content another.
    let again = read(&reader).await.expect("an export");
    assert_ne!(again.digest, export.digest);
    assert_eq!(read(&reader).await.expect("an export").digest, again.digest);
}

#[tokio::test]
async fn every_fault_of_a_call_is_outlasted_or_told() {
    let passing = [
        FaultKind::LoseRequest,
        FaultKind::LoseReply,
        FaultKind::TruncateBody { keep: 9 },
        FaultKind::status(429),
        FaultKind::status(503),
        FaultKind::html(502),
    ];
    let streaming = [Call::ConvexSchemas, Call::ConvexListSnapshot];
    let exporting = [
        Call::ConvexExportRequest,
        Call::ConvexQuery,
        Call::ConvexExportZip,
    ];
    let sim = sim(ConvexConfig::default()).await;
    let reader = production(&sim);
    let expected = read(&reader).await.expect("an export");
    for (streams, set) in [(true, &streaming[..]), (false, &exporting[..])] {
        sim.set_streaming_export(streams);
        for call in set {
            for kind in &passing {
                sim.clear_faults();
                sim.add_fault(Fault::once(*call, kind.clone()));
                let export = read(&reader).await;
                let export = export.unwrap_or_else(|error| panic!("{call} {kind:?}: {error}"));
                assert_eq!(recorded(&export), recorded(&expected), "{call} {kind:?}");
            }
            for kind in [
                FaultKind::status(400),
                FaultKind::status(401),
                FaultKind::status(404),
            ] {
                sim.clear_faults();
                sim.add_fault(Fault::once(*call, kind.clone()));
                let error = read(&reader).await.expect_err("refused");
                assert!(
                    matches!(error.kind, ConvexErrorKind::Answered),
                    "{call} {error}"
                );
                let key = config(&sim).convex[0].deploy_key.expose().to_owned();
                let shown = format!("{error} {error:?}");
                assert!(
                    !shown.contains(&key) && !shown.contains("127.0.0.1"),
                    "{shown}"
                );
            }
        }
    }
    sim.clear_faults();
    sim.set_streaming_export(true);
    for kind in [
        FaultKind::EmptyPage,
        FaultKind::ShortPage,
        FaultKind::DuplicateItems,
    ] {
        sim.add_fault(Fault::once(Call::ConvexListSnapshot, kind).when(Occurrence::Every(2)));
        let export = read(&reader).await.expect("an export");
        assert_eq!(export.digest, expected.digest);
        sim.clear_faults();
    }
    sim.add_fault(
        Fault::once(Call::ConvexListSnapshot, FaultKind::PageTokenLoop).when(Occurrence::Always),
    );
    let error = read(&reader).await.expect_err("a loop");
    assert!(matches!(error.kind, ConvexErrorKind::PageLoop), "{error}");
    sim.assert_only_reads();
}

#[tokio::test]
async fn a_wrong_key_is_told_and_is_no_reason_for_an_export() {
    let sim = sim(ConvexConfig::default()).await;
    let mut config = config(&sim);
    config.convex[0].deploy_key = Secret::new("prod:other|made-up");
    let transport = ReadTransport::open(&config, HttpLimits::default()).expect("a client");
    let timing = Arc::new(TestTiming::default());
    let reader = ConvexReader::new(&config.convex[0], transport, RetryPolicy::default(), timing);
    let error = read(&reader).await.expect_err("a wrong key");
    assert_eq!(
        (error.class(), error.failure.status),
        (ErrorClass::Auth, Some(401))
    );
    assert_eq!(
        error.to_string(),
        "convex.json_schemas failed at attempt 1 (auth, HTTP 401): BadAdminKey: the deploy key is not one of this deployment"
    );
    assert_eq!(calls(&sim), [Call::ConvexSchemas]);
}

#[tokio::test]
async fn a_deployment_without_v2s_tables_is_not_an_empty_v2() {
    let mut world = WorldSpec::default().users(2).generate();
    world.v2.production.tables.remove("cases");
    let sim = SimServers::start(world).await.expect("a port");
    let error = read(&production(&sim)).await.expect_err("no table");
    assert!(
        matches!(error.kind, ConvexErrorKind::NoTable("cases")),
        "{error}"
    );
}

#[tokio::test]
async fn somebody_elses_export_is_waited_for_and_not_taken_for_ours() {
    let sim = sim(ConvexConfig {
        streaming_export: false,
        export_polls: 4,
        ..ConvexConfig::default()
    })
    .await;
    sim.begin_v2_export();
    let case = a_case(&sim);
    let (readers, timing) = readers(&sim);
    // Its snapshot is taken when it begins, which is before this.
    drop(readers[0].latest_export().await.expect("a state"));
    assert!(sim.record_in_v2(&case, "rfi_due", "adopted0"));
    let export = read(&readers[0]).await.expect("an export");
    assert!(recorded(&export).contains(&"adopted0"));
    let asked = calls(&sim)
        .iter()
        .filter(|call| **call == Call::ConvexExportRequest)
        .count();
    assert_eq!(asked, 2, "refused once, then taken");
    assert!(!timing.sleeps().is_empty());
}

#[tokio::test]
async fn an_export_that_fails_or_never_ends_is_told() {
    let failing = sim(ConvexConfig {
        streaming_export: false,
        exports_fail: true,
        ..ConvexConfig::default()
    })
    .await;
    let error = read(&production(&failing)).await.expect_err("failed");
    assert!(
        matches!(error.kind, ConvexErrorKind::ExportFailed),
        "{error}"
    );
    let endless = sim(ConvexConfig {
        streaming_export: false,
        export_polls: u32::MAX,
        ..ConvexConfig::default()
    })
    .await;
    let (readers, timing) = readers(&endless);
    let error = read(&readers[0]).await.expect_err("unfinished");
    assert!(
        matches!(error.kind, ConvexErrorKind::ExportUnfinished(_)),
        "{error}"
    );
    let waited: Duration = timing.sleeps().iter().sum();
    assert!(
        waited >= EXPORT_LIMIT && waited < EXPORT_LIMIT * 2,
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_key_of_v2_can_write_nothing() {
    let sim = sim(ConvexConfig::default()).await;
    let config = config(&sim);
    let writing = crate::clients::http::WriteTransport::open(&config, HttpLimits::default())
        .expect("a client");
    let request = |path: &str| Request::new("test.call", config.convex[0].address(path));
    for path in [
        "/api/mutation",
        "/api/import/start_upload",
        "/api/query",
        "/api/export/request/zip",
    ] {
        assert!(writing.post(request(path)).await.is_err(), "{path}");
        assert!(writing.patch(request(path)).await.is_err(), "{path}");
        assert!(writing.delete(request(path)).await.is_err(), "{path}");
    }
    for path in [
        "/api/mutation",
        "/api/export/request/zip",
        "/api/list_snapshot2",
        "/",
        "/api/storage/x",
    ] {
        assert!(writing.reader().get(request(path)).await.is_err(), "{path}");
    }
    assert_eq!(sim.journal().len(), 0);
    let mut none = config.clone();
    none.convex.clear();
    let reading = ReadTransport::open(&none, HttpLimits::default()).expect("a client");
    let authorization = Secret::new("Convex x");
    let asked = reading.export_request("test.call", Deployment::Production, &authorization);
    assert!(asked.await.is_err());
    assert_eq!(sim.journal().len(), 0);
}

#[tokio::test]
async fn a_watch_learns_what_v2_records_and_is_never_older_than_allowed() {
    for streams in [true, false] {
        let sim = sim(ConvexConfig {
            streaming_export: streams,
            ..ConvexConfig::default()
        })
        .await;
        let sources = V2Sources {
            live: readers(&sim).0,
            files: Vec::new(),
        };
        let (exports, records) = sources.read().await.expect("exports");
        let watch = V2Watch::new(&sources, &exports, records.into(), Duration::from_mins(30));
        assert!(!watch.relies_on("adopted0").await.unwrap());
        let before = watch.stale_at().await;
        let case = a_case(&sim);
        assert!(sim.record_in_v2(&case, "rfi_due", "adopted0"));
        let soon = exports[0].taken_at + chrono::Duration::minutes(1);
        watch.renew(soon).await.expect("renewed");
        assert_eq!(
            watch.relies_on("adopted0").await.unwrap(),
            streams,
            "streaming costs one request"
        );
        let later = exports[0].taken_at + chrono::Duration::minutes(16);
        watch.renew(later).await.expect("renewed");
        assert!(watch.relies_on("adopted0").await.unwrap());
        assert!(watch.stale_at().await > before);
        // v2 clears ids of events that it leaves in the calendar: what was relied on stays so.
        assert!(sim.record_in_v2(&case, "rfi_due", ""));
        watch.renew(later).await.expect("renewed");
        assert!(watch.relies_on("adopted0").await.unwrap());
        // Where changes cannot be listed any more, the whole is read again.
        sim.add_fault(Fault::once(Call::ConvexDeltas, FaultKind::status(400)));
        watch.renew(later).await.expect("renewed");
        // A deployment that does not answer is told; what is known stays.
        sim.clear_faults();
        for call in [Call::ConvexDeltas, Call::ConvexSchemas, Call::ConvexQuery] {
            sim.add_fault(Fault::once(call, FaultKind::status(401)).when(Occurrence::Always));
        }
        let far = later + chrono::Duration::days(1);
        assert!(watch.renew(far).await.is_err());
        assert!(watch.relies_on("adopted0").await.unwrap());
        assert!(watch.stale_at().await < far);
    }
}

/// As where the disk is full: whoever reads it is not sent to look at the deployment.
#[tokio::test]
async fn what_cannot_be_kept_is_no_fault_of_the_deployments() {
    struct Full;
    impl V2Sink for Full {
        fn case(&mut self, _: V2Case) -> Result<(), SpoolError> {
            Err(SpoolError::File(std::io::ErrorKind::StorageFull.into()))
        }
        fn profile(&mut self, _: V2Profile) -> Result<(), SpoolError> {
            Ok(())
        }
    }
    for streaming_export in [true, false] {
        let sim = sim(ConvexConfig {
            streaming_export,
            ..ConvexConfig::default()
        })
        .await;
        let error = production(&sim).read(&mut Full).await.expect_err("full");
        assert!(matches!(error.kind, ConvexErrorKind::Keep(_)), "{error}");
        assert!(crate::engine::with_causes(&error).contains("TMPDIR"));
    }
}

/// A deployment whose clock is ahead would look fresh until then.
#[tokio::test]
async fn what_is_said_to_be_of_the_future_is_of_now() {
    let sim = sim(ConvexConfig::default()).await;
    let sources = V2Sources {
        live: vec![production(&sim)],
        files: Vec::new(),
    };
    let (exports, records) = sources.read().await.expect("exports");
    let max_age = Duration::from_mins(30);
    let watch = V2Watch::new(&sources, &exports, records.into(), max_age);
    let now = exports[0].taken_at + chrono::Duration::minutes(1);
    let cursor = (now + chrono::Duration::days(400)).timestamp_nanos_opt();
    let body = serde_json::json!({"values": [], "hasMore": false, "cursor": cursor});
    let ahead = FaultKind::Status(StatusFault {
        status: 200,
        body: Some(body.to_string()),
        ..StatusFault::default()
    });
    sim.add_fault(Fault::once(Call::ConvexDeltas, ahead));
    watch.renew(now).await.expect("renewed");
    let stale = watch.stale_at().await - now;
    assert!((30..32).contains(&stale.num_minutes()), "{stale}");
}

/// A place that waited for another's look, which failed, would go by what was known before.
#[tokio::test]
async fn a_look_that_failed_serves_nobody_else() {
    let sim = sim(ConvexConfig::default()).await;
    let sources = V2Sources {
        live: vec![production(&sim)],
        files: Vec::new(),
    };
    let (exports, records) = sources.read().await.expect("exports");
    let watch = V2Watch::new(&sources, &exports, records.into(), Duration::from_mins(30));
    let soon = exports[0].taken_at + chrono::Duration::minutes(1);
    // The second look fails, both as changes and as a whole.
    let refused = |call| Fault::once(call, FaultKind::status(401));
    sim.add_fault(refused(Call::ConvexDeltas).when(Occurrence::Nth(2)));
    sim.add_fault(refused(Call::ConvexSchemas));
    let all = (0..3).map(|_| watch.renew(soon));
    let told = futures_util::future::join_all(all).await;
    let told: Vec<bool> = told.iter().map(Result::is_ok).collect();
    assert_eq!(told, [true, false, true]);
    let deltas = calls(&sim);
    let deltas = deltas.iter().filter(|call| **call == Call::ConvexDeltas);
    assert_eq!(deltas.count(), 3, "the third looked himself");
}

/// Else each place of a run would wait for a request of each that came before it.
#[tokio::test]
async fn one_look_serves_all_who_asked_before_it_began() {
    let sim = sim(ConvexConfig::default()).await;
    let sources = V2Sources {
        live: readers(&sim).0,
        files: Vec::new(),
    };
    let (exports, records) = sources.read().await.expect("exports");
    let watch = V2Watch::new(&sources, &exports, records.into(), Duration::from_mins(30));
    let asked = calls(&sim).len();
    let case = a_case(&sim);
    let soon = exports[0].taken_at + chrono::Duration::minutes(1);
    let all = (0..64).map(|n| {
        let (watch, sim, case) = (&watch, &sim, &case);
        async move {
            // The last of them asks when v2 has just taken an event over.
            if n == 63 {
                assert!(sim.record_in_v2(case, "rfi_due", "adopted0"));
            }
            watch.renew(soon).await.expect("renewed");
            assert!(n < 63 || watch.relies_on("adopted0").await.unwrap());
        }
    });
    futures_util::future::join_all(all).await;
    // One that the first began, and one for those who came while it was under way.
    assert_eq!(calls(&sim).len() - asked, 2 * sources.live.len());
}
