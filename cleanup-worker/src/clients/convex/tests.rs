//! Exports in each of their shapes.

use std::io::Write as _;

use serde_json::json;
use uuid::Uuid;
use zip::write::SimpleFileOptions;

use super::*;

/// An export with all that it holds.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) export: V2Export,
    pub(super) cases: Vec<V2Case>,
    pub(super) profiles: Vec<V2Profile>,
}

/// All that is read, in its order.
#[derive(Debug, Default)]
pub(super) struct All {
    cases: Vec<V2Case>,
    profiles: Vec<V2Profile>,
}

impl All {
    pub(super) fn of(self, export: V2Export) -> Whole {
        Whole {
            export,
            cases: self.cases,
            profiles: self.profiles,
        }
    }
}

impl std::ops::Deref for Whole {
    type Target = V2Export;
    fn deref(&self) -> &V2Export {
        &self.export
    }
}

impl V2Sink for All {
    fn case(&mut self, case: V2Case) -> Result<(), SpoolError> {
        self.cases.push(case);
        Ok(())
    }

    fn profile(&mut self, profile: V2Profile) -> Result<(), SpoolError> {
        self.profiles.push(profile);
        Ok(())
    }
}

pub(super) fn read_whole(
    path: &Path,
    deployment: Deployment,
    given: Option<DateTime<Utc>>,
) -> Result<Whole, ExportError> {
    let mut all = All::default();
    read_export(path, deployment, given, &mut all).map(|export| all.of(export))
}

const NAME: &str = "snapshot_1768435200123456789";

fn files(schema: &str) -> Vec<(&'static str, String)> {
    let cases = [
        json!({"_id": "j1", "_creationTime": 1.5, "legacyId": "c1", "userId": "k1", "legacyUserId": "u1",
            "employerName": "Acme", "beneficiaryIdentifier": "A. B.", "caseNumber": "7", "internalCaseNumber": "I-7",
            "pwdExpirationDate": "2026-06-30", "notes": "2026-06-30 or so",
            "rfiEntries": [{"id": "r1", "receivedDate": "2026-01-01", "responseDueDate": "2026-01-31"}],
            "calendarEventIds": {"pwd_expiration": "e1"}}),
        json!({"_id": "j2", "deletedAt": {"$integer": "AAAAAAAAAAA="}}),
    ];
    let lines = cases.map(|case| format!("{case}\n")).concat();
    vec![
        ("README.md", "# Welcome\n".to_owned()),
        ("_tables/documents.jsonl", "{\"name\":\"cases\",\"id\":10001}\n".to_owned()),
        ("cases/documents.jsonl", lines),
        ("cases/generated_schema.jsonl", schema.to_owned()),
        (
            "userProfiles/documents.jsonl",
            "{\"_id\":\"p1\",\"userId\":\"k1\",\"legacyId\":\"u1\",\"googleEmail\":\"me@example.com\"}\n".to_owned(),
        ),
    ]
}

fn folder(files: &[(&str, String)], at: &Path) -> PathBuf {
    for (name, content) in files {
        let path = at.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        std::fs::write(path, content).expect("write a file");
    }
    at.to_owned()
}

fn archive(files: &[(&str, String)], at: &Path) -> PathBuf {
    let file = std::fs::File::create(at).expect("create a file");
    let mut zip = zip::ZipWriter::new(file);
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default())
            .expect("start a member");
        zip.write_all(content.as_bytes()).expect("write a member");
    }
    zip.finish().expect("finish the archive");
    at.to_owned()
}

#[test]
fn a_zip_and_its_folder_say_the_same() {
    let scratch = tempfile::tempdir().expect("a folder");
    let files = files("\"uniform\"\n");
    let zip = archive(&files, &scratch.path().join(format!("{NAME}.zip")));
    let unpacked = folder(&files, &scratch.path().join(NAME));
    let (zip, unpacked) = (
        read_whole(&zip, Deployment::Production, None),
        read_whole(&unpacked, Deployment::Production, None),
    );
    let (zip, unpacked) = (zip.expect("an export"), unpacked.expect("an export"));
    assert_eq!(zip.cases, unpacked.cases);
    assert_eq!(zip.profiles, unpacked.profiles);
    assert_eq!((zip.digest.len(), unpacked.digest.len()), (64, 64));
    assert_ne!(zip.digest, unpacked.digest);
    assert_eq!(
        zip.taken_at.timestamp_nanos_opt(),
        Some(1_768_435_200_123_456_789)
    );
    assert_eq!(
        (zip.taken_at_source, zip.encoding),
        (TakenAt::FileName, Encoding::Uniform)
    );

    let case = &zip.cases[0];
    assert_eq!(
        case.calendar_event_ids,
        [("pwd_expiration".to_owned(), "e1".to_owned())]
    );
    assert_eq!(case.internal_case_number.as_deref(), Some("I-7"));
    assert_eq!(
        case.rfi_entries[0].response_due_date.as_deref(),
        Some("2026-01-31")
    );
    assert_eq!(case.dates.len(), 1);
    assert_eq!(zip.cases[1].deleted_at, Some(0));
    assert_eq!(
        zip.profiles[0].google_email.as_deref(),
        Some("me@example.com")
    );
    assert!(!format!("{zip:?}").contains("example.com"));
}

#[test]
fn the_digest_follows_every_file_of_a_folder() {
    let scratch = tempfile::tempdir().expect("a folder");
    let at = folder(&files("{}\n"), &scratch.path().join(NAME));
    let before = read_whole(&at, Deployment::Production, None).expect("an export");
    assert_eq!(before.encoding, Encoding::Clean);
    std::fs::write(at.join("_tables/documents.jsonl"), "{}\n").expect("write a file");
    assert_ne!(
        read_whole(&at, Deployment::Production, None)
            .expect("an export")
            .digest,
        before.digest
    );
}

#[test]
fn the_moment_is_known_or_the_export_is_refused() {
    let scratch = tempfile::tempdir().expect("a folder");
    let mut files = files("{}\n");
    let unnamed = archive(&files, &scratch.path().join("v2.zip"));
    let error = read_whole(&unnamed, Deployment::Production, None).expect_err("no time");
    assert!(matches!(error, ExportError::NoTime { .. }));
    let given = DateTime::from_timestamp(1_768_435_200, 0);
    let export = read_whole(&unnamed, Deployment::Production, given).expect("an export");
    assert_eq!(
        (Some(export.taken_at), export.taken_at_source),
        (given, TakenAt::Given)
    );

    files.push(("snapshot", "1768435200123456789\n".to_owned()));
    let member = archive(&files, &scratch.path().join("v2-again.zip"));
    let export = read_whole(&member, Deployment::Production, given).expect("an export");
    assert_eq!(export.taken_at_source, TakenAt::Member);

    for (name, known) in [
        ("snapshot_happy-otter-123_1768435200123456789.zip", true),
        ("snapshot_1768435200123456789 (1).zip", true),
        ("snapshot_2026.zip", false),
        ("backup_1768435200123456789.zip", false),
    ] {
        assert_eq!(time_in_name(Path::new(name)).is_some(), known, "{name}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_that_quotes_nothing() {
    let scratch = tempfile::tempdir().expect("a folder");
    let whole = files("{}\n");
    let broken = |name: &str, table: &str, content: Option<&str>| {
        let mut files = whole.clone();
        files.retain(|(path, _)| *path != table || content.is_some());
        for (path, old) in &mut files {
            if *path == table {
                content.unwrap_or_default().clone_into(old);
            }
        }
        let at = folder(&files, &scratch.path().join(format!("{NAME}-{name}")));
        read_whole(&at, Deployment::Production, None).expect_err(name)
    };
    assert!(matches!(
        broken("no-cases", "cases/documents.jsonl", None),
        ExportError::NoTable { table: "cases", .. }
    ));
    let cut = broken(
        "cut",
        "cases/documents.jsonl",
        Some("{\"_id\":\"j1\"}\n{\"_id\":\"secret"),
    );
    assert!(
        matches!(cut, ExportError::Document { line: 2, .. }),
        "{cut}"
    );
    assert!(!format!("{cut} {cut:?}").contains("secret"));
    let odd = broken("odd", "userProfiles/documents.jsonl", Some("{}\n"));
    assert!(
        odd.to_string()
            .contains("userProfiles/documents.jsonl line 1: it has no _id"),
        "{odd}"
    );
}

#[test]
fn a_cut_zip_is_refused() {
    let scratch = tempfile::tempdir().expect("a folder");
    let zip = archive(&files("{}\n"), &scratch.path().join(format!("{NAME}.zip")));
    let bytes = std::fs::read(&zip).expect("read the archive");
    std::fs::write(&zip, &bytes[..bytes.len() / 2]).expect("write half of it");
    assert!(matches!(
        read_whole(&zip, Deployment::Production, None),
        Err(ExportError::Zip { .. })
    ));
}

#[tokio::test]
async fn one_export_given_twice_is_refused() {
    let scratch = tempfile::tempdir().expect("a folder");
    let one = archive(&files("{}\n"), &scratch.path().join(format!("{NAME}.zip")));
    let other = archive(
        &files("\"uniform\"\n"),
        &scratch.path().join(format!("{NAME} (1).zip")),
    );
    let read = |files: [&PathBuf; 2]| {
        let files = files.map(|path| (path.clone(), Deployment::Production));
        let sources = V2Sources {
            files: files.into(),
            ..V2Sources::default()
        };
        async move { sources.read().await }
    };
    let (exports, records) = read([&one, &other]).await.expect("two exports");
    assert_eq!(exports.len(), 2);
    assert!(records.records("e1").unwrap() && !records.records("e2").unwrap());
    let twice = read([&one, &one]).await;
    assert!(matches!(twice, Err(ExportError::Twice { .. })));
}

#[test]
fn what_v2_records_is_found_by_event_and_by_user_of_v1() {
    let case = |id: &str, of: (&str, &str), legacy: Option<&str>, events: &[&str]| {
        let slots = events
            .iter()
            .map(|event| ((*event).to_owned(), (*event).into()));
        let slots: serde_json::Map<_, serde_json::Value> = slots.collect();
        let document = json!({"_id": id, "legacyId": legacy, "userId": of.0, "legacyUserId": of.1,
            "calendarEventIds": slots});
        V2Case::read(&document).expect("a case")
    };
    let profile = |user: &str, legacy: &str| {
        let document = json!({"_id": user, "userId": user, "legacyId": legacy});
        V2Profile::read(&document).expect("a profile")
    };
    let one = "00000000-0000-4000-8000-000000000001";
    let mut recorder = V2Recorder::new().unwrap();
    recorder.begin(Deployment::Production);
    recorder
        .case(case("j1", ("k1", ""), Some(one), &["e1", "e2"]))
        .unwrap();
    recorder
        .case(case("j2", ("k2", "U1"), None, &["e3"]))
        .unwrap();
    recorder.profile(profile("k1", "U1")).unwrap();
    recorder.profile(profile("k2", "u2")).unwrap();
    // Another deployment has users of its own, also where they are called the same.
    recorder.begin(Deployment::Development);
    recorder
        .case(case("j1", ("k1", ""), Some(one), &["e1", "e4"]))
        .unwrap();
    let records = recorder.done().unwrap();
    for (user, events) in [
        ("u1", &["e1", "e2", "e3"][..]),
        ("U2", &["e3"]),
        ("k1", &[]),
        ("", &["e1", "e2", "e4"]),
    ] {
        let found = records.events_of(user).unwrap();
        assert!(found.iter().eq(events), "{user}: {found:?}");
    }
    let case = one.parse().ok();
    let (production, development) = (Deployment::Production, Deployment::Development);
    for (event, of) in [
        ("e1", &[(production, case), (development, case)][..]),
        ("e3", &[(production, None)]),
        ("e4", &[(development, case)]),
        ("e5", &[]),
    ] {
        assert_eq!(records.of_event(event).unwrap(), of, "{event}");
    }
    let (one, other) = (case.unwrap_or_default(), Uuid::from_u128(9));
    assert!(records.has_case(one).unwrap() && !records.has_case(other).unwrap());
    let cases: Vec<_> = records.cases().map(Result::unwrap).collect();
    let cases: Vec<_> = cases
        .iter()
        .map(|(of, case)| (*of, case.id.as_str()))
        .collect();
    assert_eq!(
        cases,
        [(development, "j1"), (production, "j1"), (production, "j2")]
    );
}
