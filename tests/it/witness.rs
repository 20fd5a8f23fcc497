//! Witnesses, over real HTTP: a quorum cosigns what extends the last, and nothing that a log or a thief of its key could forge.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use ledger::chain::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::chain::entry::Hash;
use ledger::chain::note::NoteSigner;
use ledger::chain::witness::AddCheckpoint;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::tamper::dump_into;
use crate::world::{World, binary, line, output};

/// A running `ledger witness`; killed where it is dropped.
struct Witness {
    child: Child,
    vkey: String,
    address: String,
}

impl Witness {
    fn start(folder: &Path, name: &str, log: &str, listen: &str) -> Self {
        let mut child = binary(folder)
            .args([
                "witness", "--json", "--name", name, "--log", log, "--listen", listen,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut first).unwrap();
        let started: Value = serde_json::from_str(&first).unwrap();
        let text = |field: &str| started[field].as_str().unwrap().to_owned();
        Self {
            child,
            vkey: text("vkey"),
            address: text("address"),
        }
    }

    fn policy_line(&self, name: &str) -> String {
        format!("witness {name} {} {}\n", self.vkey, self.address)
    }

    fn listens_on(&self) -> &str {
        self.address.strip_prefix("http://").unwrap()
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn append(world: &World) {
    world.append(&[line("test.happened", "service:api", &json!({}))]);
}

#[tokio::test]
async fn two_of_three_witnesses_anchor_a_ledger() {
    let world = World::start().await;
    append(&world);
    let log = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let log = log.trim_end();
    let homes: Vec<_> = (0..3).map(|_| crate::world::temporary("witness")).collect();
    let mut witnesses: Vec<_> = homes
        .iter()
        .zip(["w1", "w2", "w3"])
        .map(|(home, name)| {
            let name = format!("witness.example.org/{name}");
            Witness::start(home.path(), &name, log, "127.0.0.1:0")
        })
        .collect();
    let mut policy = format!("log {log}\n");
    for (witness, name) in witnesses.iter().zip(["w1", "w2", "w3"]) {
        policy.push_str(&witness.policy_line(name));
    }
    policy.push_str("group two 2 w1 w2 w3\nquorum two\n");
    let file = world.home().join("policy");
    std::fs::write(&file, policy).unwrap();
    let file = file.to_str().unwrap();

    let (exit, before) = world.verify(&["--policy", file]);
    assert_eq!(exit, 3, "{before}");
    assert!(before["unchecked"].to_string().contains("none was made"));

    let signed = world.ledger(["checkpoint", "--policy", file]).ok();
    assert_eq!(signed.stdout.matches("witness.example.org/").count(), 3);
    let (exit, report) = world.verify(&["--policy", file]);
    assert_eq!((exit, &report["anchored"]), (0, &json!(2)), "{report}");
    assert_eq!(report["unchecked"], json!([]), "{report}");

    // One is away: two are enough. It then catches up from where it was.
    let listen = witnesses[2].listens_on().to_owned();
    witnesses[2].stop();
    append(&world);
    let signed = world.ledger(["checkpoint", "--policy", file]).ok();
    assert_eq!(signed.stdout.matches("witness.example.org/").count(), 2);
    assert!(
        signed
            .stderr
            .contains("no cosignature by witness.example.org/w3")
    );
    assert_eq!(world.verify(&["--policy", file]).0, 0);

    // Two are away: it is signed and stored, and not called witnessed; when one is back, asking again is enough.
    witnesses[1].stop();
    append(&world);
    let signed = world.ledger(["checkpoint", "--policy", file]);
    assert_eq!(signed.exit, 1, "{signed:?}");
    assert!(signed.stderr.contains("not witnessed"), "{signed:?}");
    let (exit, report) = world.verify(&["--policy", file]);
    assert_eq!((exit, &report["anchored"]), (3, &json!(3)), "{report}");
    let words = "the policy does not accept the checkpoint of 4 entries";
    assert!(report["unchecked"].to_string().contains(words), "{report}");
    witnesses[2] = Witness::start(homes[2].path(), "witness.example.org/w3", log, &listen);
    let again = world.ledger(["checkpoint", "--policy", file]).ok();
    assert_eq!(again.stdout.matches("witness.example.org/").count(), 2);
    let (exit, report) = world.verify(&["--policy", file]);
    assert_eq!((exit, &report["anchored"]), (0, &json!(4)), "{report}");
}

/// The tail is cut together with the cosignatures on it: the witness itself remembers.
#[tokio::test]
async fn a_tail_cut_with_its_cosignatures_is_missed_by_the_witness() {
    let world = World::start().await;
    append(&world);
    let log = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let log = log.trim_end();
    let home = crate::world::temporary("witness");
    let witness = Witness::start(home.path(), "witness.example.org/w", log, "127.0.0.1:0");
    let policy = format!("log {log}\n{}quorum w\n", witness.policy_line("w"));
    let file = world.home().join("policy");
    std::fs::write(&file, policy).unwrap();
    let file = file.to_str().unwrap();
    world.ledger(["checkpoint", "--policy", file]).ok();
    let older = World::empty().await;
    dump_into(&world, &older, &[]);
    append(&world);
    world.ledger(["checkpoint", "--policy", file]).ok();

    // An auditor's machine: no record of the signer's.
    let auditor = crate::world::temporary("auditor");
    let mut command = binary(auditor.path());
    command
        .env("DATABASE_URL", older.url())
        .args(["verify", "--json", "--policy", file]);
    let told = output(&mut command);
    assert_eq!(told.exit, 1, "{told:?}");
    assert!(
        told.stdout
            .contains("what witness.example.org/w cosigned last")
    );
}

#[tokio::test]
async fn a_stolen_log_key_gets_no_fork_cosigned() {
    let world = World::start().await;
    append(&world);
    let log = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let log = log.trim_end();
    let home = crate::world::temporary("witness");
    let name = "witness.example.org/w";
    let mut witness = Witness::start(home.path(), name, log, "127.0.0.1:0");
    let policy = format!("log {log}\n{}quorum w\n", witness.policy_line("w"));
    let file = world.home().join("policy");
    std::fs::write(&file, policy).unwrap();
    let file = file.to_str().unwrap();
    world.ledger(["checkpoint", "--policy", file]).ok();

    let origin = log.split('+').next().unwrap();
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().build().unwrap();
    let digest = Hash::of(origin.as_bytes());
    let kept = format!("{}/{digest}/checkpoint", witness.address);
    let read = client
        .get(&kept)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(read.starts_with(&format!("{origin}\n2\n")), "{read}");
    assert!(read.contains(&format!("— {origin} ")) && read.contains(&format!("— {name} ")));

    let keys = world.home().join("checkpoint-keys");
    let id = origin.rsplit('/').next().unwrap();
    let stolen = std::fs::read_to_string(keys.join(id)).unwrap();
    let stolen = NoteSigner::from_signing_key(stolen.trim_end()).unwrap();
    let sign = |size, root| {
        let checkpoint = Checkpoint::new(origin, size, root).unwrap();
        SignedCheckpoint::sign(checkpoint, &[&stolen]).unwrap()
    };
    let post = async |address: &str, body: String| {
        let url = format!("{address}/add-checkpoint");
        let answer = client.post(url).body(body).send().await.unwrap();
        let kind = answer.headers().get("content-type").cloned();
        (answer.status(), kind, answer.text().await.unwrap())
    };
    let request = |old, proof, checkpoint| {
        let asked = AddCheckpoint {
            old,
            proof,
            checkpoint,
        };
        asked.to_string()
    };
    // The ledger with its second half rewritten: larger, and of the same size.
    let forged = request(2, vec![Hash::ZERO], sign(3, Hash::of(b"forged")));
    let (status, _, text) = post(&witness.address, forged.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
    let split = request(2, Vec::new(), sign(2, Hash::of(b"split")));
    assert_eq!(post(&witness.address, split).await.0, 422);
    // As if nothing had been cosigned yet: it remembers, also when it was restarted.
    witness.stop();
    let witness = Witness::start(home.path(), name, log, "127.0.0.1:0");
    let anew = request(0, Vec::new(), sign(3, Hash::of(b"forged")));
    let (status, kind, text) = post(&witness.address, anew).await;
    assert_eq!((status.as_u16(), text.as_str()), (409, "2\n"));
    assert_eq!(kind.unwrap(), "text/x.tlog.size");
    assert_eq!(post(&witness.address, forged).await.0, 422);

    let elsewhere = Checkpoint::new("example.com/other", 3, Hash::ZERO).unwrap();
    let elsewhere = SignedCheckpoint::sign(elsewhere, &[&stolen]).unwrap();
    assert_eq!(
        post(&witness.address, request(0, Vec::new(), elsewhere))
            .await
            .0,
        404
    );
    let unsigned = NoteSigner::new(origin, &[7; 32]).unwrap();
    let unsigned = Checkpoint::new(origin, 3, Hash::ZERO)
        .and_then(|checkpoint| SignedCheckpoint::sign(checkpoint, &[&unsigned]))
        .unwrap();
    assert_eq!(
        post(&witness.address, request(2, Vec::new(), unsigned))
            .await
            .0,
        403
    );
    assert_eq!(post(&witness.address, "old two\n".to_owned()).await.0, 400);
    let kept = format!("{}/{digest}/checkpoint", witness.address);
    let unchanged = client
        .get(&kept)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(unchanged, read);

    // Two processes cannot cosign with one memory.
    let second = binary(home.path())
        .args([
            "witness",
            "--name",
            name,
            "--log",
            log,
            "--listen",
            "127.0.0.1:0",
        ])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(4), "{second:?}");
}
