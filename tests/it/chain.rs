//! A second opinion on a ledger: the rules of the format again, from the rows as they lie in PostgreSQL, with nothing of
//! the library's but its keys' results left out.

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection as _, Row as _};

use crate::world::World;

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().to_vec()
}

fn stored(algorithm: &str, key_id: &str, nonce: &[u8], bytes: &[u8]) -> String {
    let mut text = b"ledger-stored-v1\0".to_vec();
    for part in [algorithm.as_bytes(), key_id.as_bytes(), nonce, bytes] {
        text.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        text.extend(part);
    }
    hex::encode(Sha256::digest(text))
}

/// Checks every entry of the world's one ledger and gives their number.
pub(crate) async fn check(world: &World) -> u64 {
    let mut connection = world.superuser().await;
    let rows = sqlx::query(
        "select e.*, to_char(e.recorded_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at, \
                p.algorithm, p.key_id, p.nonce, p.bytes as payload \
         from ledger.entries e join ledger.payloads p using (ledger_id, seq) \
         where e.ledger_id = (select ledger_id from ledger.heads where name <> 'catalogue') order by e.seq",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut prev = "0".repeat(64);
    let mut before = String::new();
    for (at, row) in rows.iter().enumerate() {
        let bytes: &[u8] = row.get("bytes");
        let entry: Value = serde_json::from_slice(bytes).unwrap();
        // Every name and text is ASCII without escapes: sorted members and no spaces are RFC 8785.
        assert_eq!(serde_json::to_vec(&entry).unwrap(), bytes, "entry {entry}");
        assert!(bytes.is_ascii() && !bytes.contains(&b'\\'), "entry {entry}");
        assert_eq!(entry.as_object().unwrap().len(), 16, "entry {entry}");
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let uuid = |column: &str| {
            row.get::<Option<uuid::Uuid>, _>(column)
                .map(|id| id.to_string())
        };

        assert_eq!(entry["v"], 1);
        assert_eq!(entry["seq"], at + 1, "no gap and no double");
        assert_eq!(row.get::<i64, _>("seq"), i64::try_from(at + 1).unwrap());
        assert_eq!(uuid("ledger_id"), Some(text("ledger")));
        assert_eq!(uuid("id"), Some(text("id")));
        assert_eq!(uuid("run").as_deref(), entry["run"].as_str());
        for column in ["key", "type", "subject"] {
            assert_eq!(row.get::<String, _>(column), text(column), "entry {entry}");
        }
        assert_eq!(row.get::<String, _>("at"), text("recorded_at"));
        assert!(text("recorded_at") >= before, "entry {entry}");
        before = text("recorded_at");

        let payload: &[u8] = row.get("payload");
        let (algorithm, key_id): (&str, &str) = (row.get("algorithm"), row.get("key_id"));
        let nonce: &[u8] = row.get("nonce");
        assert_eq!(
            text("stored"),
            stored(algorithm, key_id, nonce, payload),
            "entry {entry}"
        );
        if algorithm == "plain" {
            let commitment = sha256(&[b"ledger-payload-v1\0", payload]);
            assert_eq!(text("commitment"), hex::encode(commitment), "entry {entry}");
        }

        assert_eq!(text("prev"), prev, "entry {entry}");
        let hash = sha256(&[&[0], bytes]);
        assert_eq!(row.get::<&[u8], _>("hash"), hash, "entry {entry}");
        prev = hex::encode(hash);
    }
    let head = sqlx::query(
        "select size, encode(hash, 'hex') as hash from ledger.heads where name <> 'catalogue'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(
        head.get::<i64, _>("size"),
        i64::try_from(rows.len()).unwrap()
    );
    assert_eq!(head.get::<String, _>("hash"), prev);
    connection.close().await.unwrap();
    rows.len() as u64
}
