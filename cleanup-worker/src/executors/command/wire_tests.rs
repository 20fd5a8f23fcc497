use proptest::prelude::*;
use serde_json::json;

use super::*;

fn said<T: Answer>(line: &str) -> Result<Said<T>, Trouble> {
    read(line.as_bytes(), 7)
}

fn taken<T: Answer>(line: &str) -> T {
    said::<T>(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"))
}

fn refused<T: Answer + std::fmt::Debug>(line: &str) -> String {
    match said::<T>(line) {
        Err(trouble) => trouble.to_string(),
        Ok(said) => panic!("{line}: {said:?}"),
    }
}

#[test]
fn requests_are_one_line_with_their_number() {
    let users = ["u1".to_owned()];
    let at = At {
        place: "b",
        users: &users,
    };
    let text = |request: &dyn Fn() -> Vec<u8>| String::from_utf8(request()).unwrap();
    let read = || line(3, &Question::Read { at, item: "a\nb" }).unwrap();
    assert_eq!(
        text(&read),
        "{\"id\":3,\"verb\":\"read\",\"place\":\"b\",\"users\":[\"u1\"],\"item\":\"a\\nb\"}\n"
    );
    let delete = || {
        let delete = Change::Delete {
            at,
            item: "i",
            version: "v",
            limit_ms: 5_000,
        };
        line(4, &delete).unwrap()
    };
    assert_eq!(
        text(&delete),
        "{\"id\":4,\"verb\":\"delete\",\"place\":\"b\",\"users\":[\"u1\"],\"item\":\"i\",\"version\":\"v\",\"limit_ms\":5000}\n"
    );
}

#[test]
fn every_shape_of_the_protocol_is_taken() {
    taken::<HelloAnswer>(r#"{"id":7,"hello":{}}"#);
    for line in [
        r#"{"id":7,"user":{"id":"u","place":"b"}}"#,
        r#"{"id":7,"user":{"id":"u","email":"a@example.com","soft_deleted":true,"recorded":3,"credential":"d",
            "unreachable":{"code":"denied","class":"auth","status":403,"attempts":1,"reason":"no"}}}"#,
        r#"{"id":7,"place":{"id":"b","cursor":"c","items":3,"whole":true,"date":"2026-01-01T00:00:00Z"}}"#,
        r#"{"id":7,"item":{"place":"b","id":"i","users":["u"],"version":"v","base64":"eA==","date":"2026-01-31",
            "covered":true,"signals":{"old":true,"big":{"holds":false,"detail":"3 bytes"}},"conditions":{}}}"#,
        r#"{"id":7,"item":{"place":null,"id":"i","users":["u"],"version":null,"base64":null,"signals":{}}}"#,
        r#"{"id":7,"end":true,"count":3,"others":1,"date":null}"#,
    ] {
        taken::<InventoryAnswer>(line);
    }
    for line in [
        r#"{"id":7,"found":"there","version":"v","base64":"eA=="}"#,
        r#"{"id":7,"found":"there"}"#,
        r#"{"id":7,"found":"deleted","at":"2026-01-01T00:00:00Z"}"#,
        r#"{"id":7,"found":"absent"}"#,
    ] {
        taken::<ReadAnswer>(line);
    }
    let backup: BackupAnswer = taken(r#"{"id":7,"base64":"eHk="}"#);
    assert_eq!(backup.base64, Some(Base64(Bytes::from("xy"))));
    assert_eq!(
        taken::<BackupAnswer>(r#"{"id":7,"base64":null}"#).base64,
        None
    );
    let deleted: DeleteAnswer = taken(r#"{"id":7,"deleted":true,"status":204}"#);
    assert_eq!(deleted.status, Some(204));
    taken::<RestoreAnswer>(r#"{"id":7,"restored":{"version":null}}"#);
    taken::<ObserveAnswer>(r#"{"id":7,"seen":{"id":"i","version":"v","gone":true}}"#);
    taken::<ObserveAnswer>(r#"{"id":7,"end":true,"count":0,"whole":true,"cursor":"c"}"#);
}

#[test]
fn every_other_shape_is_refused_with_what_was_expected_and_without_what_came() {
    let secret = "hunter2";
    for line in [
        String::new(),
        "Traceback (most recent call last):".to_owned(),
        format!(r#"["{secret}"]"#),
        format!(r#"{{"id":7,"found":"there","version":"{secret}""#),
        format!(r#"{{"id":"7","found":"{secret}"}}"#),
        format!(r#"{{"id":7,"found":"{secret}"}}"#),
        format!(r#"{{"id":7,"found":"absent","{secret}":1}}"#),
        format!(r#"{{"id":7,"found":"there","found":"absent","version":"{secret}"}}"#),
        format!(r#"{{"id":7,"found":"there","version":["{secret}"]}}"#),
        r#"{"id":7,"found":"there","version":""}"#.to_owned(),
        r#"{"id":7,"found":"there","version":1.5}"#.to_owned(),
        format!(
            r#"{{"id":7,"found":"there","version":"{}"}}"#,
            "v".repeat(TEXT_MAX + 1)
        ),
        r#"{"id":7,"found":"there","base64":"e"}"#.to_owned(),
        r#"{"id":7,"found":"there","base64":"\ud800"}"#.to_owned(),
        r#"{"id":7}"#.to_owned(),
        r#"{"found":"absent"}"#.to_owned(),
        r#"{"id":7.0,"found":"absent"}"#.to_owned(),
        r#"{"id":7,"deleted":true}"#.to_owned(),
    ] {
        let refused = refused::<ReadAnswer>(&line);
        assert!(
            refused.contains("answered read with") && refused.contains(r#""found":"there""#),
            "{line}: {refused}"
        );
        assert!(!refused.contains(secret), "{refused}");
    }
    let other = refused::<ReadAnswer>(r#"{"id":6,"found":"absent"}"#);
    assert_eq!(
        other,
        "the program answered request 6 where read, request 7, was asked"
    );
    for line in [
        r#"{"id":7,"deleted":false}"#,
        r#"{"id":7,"deleted":1}"#,
        r#"{"id":7,"deleted":true,"status":70000}"#,
        r#"{"id":7,"deleted":true,"error":{"class":"server","reason":"x"}}"#,
    ] {
        refused::<DeleteAnswer>(line);
    }
    refused::<BackupAnswer>(r#"{"id":7}"#);
    // No calculation with such a time could be trusted to have a result.
    for far in [
        "+262142-12-31T23:59:59Z",
        "-262143-01-01T00:00:00Z",
        "0000-06-01T00:00:00Z",
    ] {
        refused::<ReadAnswer>(&format!(r#"{{"id":7,"found":"deleted","at":"{far}"}}"#));
        refused::<DeleteAnswer>(&format!(r#"{{"id":7,"deleted":true,"date":"{far}"}}"#));
        refused::<DeleteAnswer>(&format!(
            r#"{{"id":7,"error":{{"class":"server","reason":"x","date":"{far}"}}}}"#
        ));
        let day = far.split('T').next().unwrap();
        refused::<InventoryAnswer>(&format!(
            r#"{{"id":7,"item":{{"id":"i","users":["u"],"date":"{day}","signals":{{}}}}}}"#
        ));
    }
    for near in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
        taken::<ReadAnswer>(&format!(r#"{{"id":7,"found":"deleted","at":"{near}"}}"#));
    }
    for line in [
        r#"{"id":7,"user":{"id":"u","place":"b"},"place":{"id":"b"}}"#,
        r#"{"id":7,"user":{"id":"u","place":"b","admin":true}}"#,
        r#"{"id":7,"end":false,"count":0}"#,
        r#"{"id":7,"end":true}"#,
        r#"{"id":7,"end":true,"count":-1}"#,
        r#"{"id":7,"end":true,"count":0,"more":1}"#,
        r#"{"id":7,"item":{"id":"i","users":["u"],"signals":{"old":1}}}"#,
        r#"{"id":7,"item":{"id":"i","users":["u"],"signals":{"old":{"holds":true}}}}"#,
        r#"{"id":7,"item":{"id":"i","users":["u"]}}"#,
        r#"{"id":7,"item":{"id":"i","users":["u"],"signals":{},"date":"31.1.2026"}}"#,
    ] {
        refused::<InventoryAnswer>(line);
    }
    refused::<ObserveAnswer>(r#"{"id":7,"end":true,"count":0}"#);
}

#[test]
fn an_item_may_be_five_mebibytes_and_no_more() {
    let line = |length: usize| {
        let base64 = STANDARD.encode(vec![7; length]);
        json!({"id": 7, "base64": base64}).to_string()
    };
    let most = line(BYTES_MAX);
    assert!(most.len() < LINE_MAX);
    taken::<BackupAnswer>(&most);
    refused::<BackupAnswer>(&line(BYTES_MAX + 1));
}

#[test]
fn an_error_says_all_that_the_engine_needs() {
    let line = r#"{"id":7,"error":{"class":"quota","status":429,"effect":"none","may_pass":true,"retry_after_ms":1500,
        "stops_user":true,"date":"2026-01-01T00:00:00Z","reason":"too many\nfor ann@example.com today"}}"#;
    let refusal = said::<DeleteAnswer>(line).unwrap().unwrap_err();
    let error = refusal.into_error(2, Effect::Unknown);
    assert_eq!(
        (error.class, error.status, error.attempt, error.effect),
        (ErrorClass::Quota, Some(429), 2, Effect::None)
    );
    assert!(error.may_pass && error.stops_user);
    assert_eq!(error.retry_after, Some(Duration::from_millis(1500)));
    assert_eq!(error.reason, "too many for (address) today");
    // What it does not say is the worse of the two.
    let line = r#"{"id":7,"error":{"class":"server","reason":"x"}}"#;
    let refusal = said::<DeleteAnswer>(line).unwrap().unwrap_err();
    assert_eq!(
        refusal.into_error(1, Effect::Unknown).effect,
        Effect::Unknown
    );
    for line in [
        r#"{"id":7,"error":{"class":"broken","reason":"x"}}"#,
        r#"{"id":7,"error":{"class":"server"}}"#,
        r#"{"id":7,"error":{"class":"server","reason":"x","effect":"some"}}"#,
        r#"{"id":7,"error":"no"}"#,
    ] {
        let refused = refused::<DeleteAnswer>(line);
        assert!(refused.contains("an error of another shape"), "{refused}");
    }
}

proptest! {
    /// Whatever comes is an answer, the program's own error or a trouble, and what is taken was for this request.
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..400, byte in any::<u8>()) {
        let good = br#"{"id":7,"item":{"place":"b","id":"i","users":["u"],"version":"v","base64":"eA==","signals":{"old":true}}}"#;
        let mut changed = good.to_vec();
        let at = at % changed.len();
        changed[at] = byte;
        for line in [&bytes, &changed] {
            let taken = read::<InventoryAnswer>(line, 7);
            if taken.is_ok() {
                prop_assert!(read::<InventoryAnswer>(line, 8).is_err());
            }
            drop(read::<ReadAnswer>(line, 7));
        }
    }
}
