//! How far what speaks for a ledger is behind it, as numbers.

use serde_json::{Value, json};

use crate::tamper_proof::{cosigned, fill};
use crate::world::World;

fn gauge(text: &str, name: &str, labels: &str) -> Option<u64> {
    let line = format!("{name}{{{labels}}} ");
    let mut lines = text.lines();
    let value = lines.find_map(|found| found.strip_prefix(&line))?;
    Some(value.parse().unwrap())
}

#[tokio::test]
async fn the_lag_behind_the_head_is_a_gauge_and_stands_in_verify() {
    let world = World::start().await;
    fill(&world, 10).await;
    let metrics = |arguments: &[&str]| {
        let answer = world.ledger([&["checkpoint", "lag"], arguments].concat());
        answer.ok().stdout
    };
    let ledger = "ledger=\"test\"";
    let none = metrics(&[]);
    assert!(none.ends_with("\n# EOF\n"), "{none}");
    assert_eq!(
        gauge(&none, "ledger_checkpoint_lag_entries", ledger),
        Some(10)
    );
    assert!(
        !none.contains("publication") && !none.contains("cosignature"),
        "{none}"
    );
    assert_eq!(world.verify(&[]).1["lag"]["checkpoint"]["entries"], 10);

    // The witness signs the first checkpoint; the second is published; nothing speaks for what comes then.
    cosigned(&world).await;
    fill(&world, 14).await;
    let place = world.home().join("published");
    let target = format!("folder:{}", place.display());
    world.ledger(["checkpoint", "--publish", &target]).ok();
    let covered = metrics(&[]);
    for unit in ["entries", "seconds"] {
        let checkpoint = format!("ledger_checkpoint_lag_{unit}");
        assert_eq!(gauge(&covered, &checkpoint, ledger), Some(0), "{covered}");
    }
    fill(&world, 20).await;
    // It is the oldest entry that nothing covers whose waiting counts.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let log = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let witness = ledger::chain::cosignature::Cosigner::new("witness.example.com", &[5; 32]);
    let policy = world.home().join("policy");
    let text = format!(
        "log {}\nwitness w {}\nquorum w\n",
        log.trim_end(),
        witness.unwrap().verifier_key()
    );
    std::fs::write(&policy, text).unwrap();
    let policy = policy.to_str().unwrap();
    let text = metrics(&["--policy", policy]);
    let of_target = format!("{ledger},target=\"{target}\"");
    assert_eq!(gauge(&text, "ledger_entries", ledger), Some(20));
    for (name, labels, entries) in [
        ("checkpoint", ledger, 5),
        ("publication", of_target.as_str(), 5),
        ("cosignature", ledger, 9),
    ] {
        let found = gauge(&text, &format!("ledger_{name}_lag_entries"), labels);
        assert_eq!(found, Some(entries), "{name}: {text}");
        let waited = gauge(&text, &format!("ledger_{name}_lag_seconds"), labels);
        assert!(waited.unwrap() >= 1, "{name}: {text}");
    }
    let (_, report) = world.verify(&["--policy", policy]);
    let entries = |of: &str| -> Value { report["lag"][of]["entries"].clone() };
    assert_eq!(
        [
            entries("checkpoint"),
            entries("published"),
            entries("cosigned")
        ],
        [json!(5), json!(5), json!(9)],
        "{report}"
    );
    let answer = world.ledger(["checkpoint", "lag", "--json"]).ok().json();
    assert_eq!(answer["publications"][0]["target"], target);
    for part in ["size", "entries"] {
        assert_eq!(
            answer["checkpoint"][part],
            report["lag"]["checkpoint"][part]
        );
    }
}
