//! `ledger bench` runs to its end and says what it measured. Never the times: they are the machine's.

use serde_json::Value;

use crate::world::{binary, output, temporary};

#[test]
fn the_bench_measures_each_of_its_kinds_and_leaves_nothing_behind() {
    let home = temporary("bench");
    let mut command = binary(home.path());
    command.args([
        "bench",
        "--json",
        "--entries",
        "256",
        "--rounds",
        "1",
        "--payload",
        "64",
    ]);
    let answer = output(&mut command).ok().json();
    let kinds = ["append_1", "append_256", "append_32", "bulk", "verify"];
    for part in ["ratios", "measured"] {
        let found: Vec<&String> = answer[part].as_object().unwrap().keys().collect();
        assert_eq!(found, kinds, "{part}: {answer}");
    }
    for kind in kinds {
        let told = &answer["measured"][kind];
        assert!(told["entries"].as_u64().unwrap() > 0, "{kind}: {told}");
        for field in ["ratio", "ours_per_second", "raw_per_second"] {
            let number = told[field].as_f64().unwrap();
            assert!(number.is_finite() && number > 0.0, "{kind}: {told}");
        }
        assert_eq!(answer["ratios"][kind], told["ratio"], "{kind}");
    }
    let setting = &answer["setting"];
    assert_eq!(
        (&setting["rounds"], &setting["payload_bytes"]),
        (&Value::from(1), &Value::from(64))
    );
    assert_eq!(setting["fsync"], "on", "{setting}");
    // Its database was one of its own.
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
