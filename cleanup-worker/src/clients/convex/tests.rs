//! Exports in each of their shapes.

use std::io::Write as _;

use serde_json::json;
use zip::write::SimpleFileOptions;

use super::*;

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

fn of(path: &Path) -> (PathBuf, Deployment) {
    (path.to_owned(), Deployment::Production)
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
        read_export(&zip, Deployment::Production, None),
        read_export(&unpacked, Deployment::Production, None),
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
    let before = read_export(&at, Deployment::Production, None).expect("an export");
    assert_eq!(before.encoding, Encoding::Clean);
    std::fs::write(at.join("_tables/documents.jsonl"), "{}\n").expect("write a file");
    assert_ne!(
        read_export(&at, Deployment::Production, None)
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
    let error = read_export(&unnamed, Deployment::Production, None).expect_err("no time");
    assert!(matches!(error, ExportError::NoTime { .. }));
    let given = DateTime::from_timestamp(1_768_435_200, 0);
    let export = read_export(&unnamed, Deployment::Production, given).expect("an export");
    assert_eq!(
        (Some(export.taken_at), export.taken_at_source),
        (given, TakenAt::Given)
    );

    files.push(("snapshot", "1768435200123456789\n".to_owned()));
    let member = archive(&files, &scratch.path().join("v2-again.zip"));
    let export = read_export(&member, Deployment::Production, given).expect("an export");
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
        read_export(&at, Deployment::Production, None).expect_err(name)
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
        read_export(&zip, Deployment::Production, None),
        Err(ExportError::Zip { .. })
    ));
}

#[test]
fn one_export_given_twice_is_refused() {
    let scratch = tempfile::tempdir().expect("a folder");
    let one = archive(&files("{}\n"), &scratch.path().join(format!("{NAME}.zip")));
    let other = archive(
        &files("\"uniform\"\n"),
        &scratch.path().join(format!("{NAME} (1).zip")),
    );
    assert_eq!(
        read_exports(&[of(&one), of(&other)], None)
            .expect("two exports")
            .len(),
        2
    );
    let twice = read_exports(&[of(&one), of(&one)], None);
    assert!(matches!(twice, Err(ExportError::Twice { .. })));
}
