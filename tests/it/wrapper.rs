//! The scripts under PERM Tracker's own names: they say nothing of their own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use ledger_sim::WorldSpec;

use crate::migration::{Migration, Plan};
use crate::world::{Output, output, temporary};

/// The wrapper of the old name, found from this crate's folder.
const WRAPPER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/perm-tracker/05_cleanup_v1_calendar.sh"
);

/// A program that says what it was told, an argument a line.
const TELLS: &str = "#!/bin/sh\nfor one in \"$@\"; do printf '%s\\n' \"$one\"; done\n";

fn program(path: &Path) {
    std::fs::write(path, TELLS).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_the_script_is_told_goes_on_as_it_is() {
    let folder = temporary("wrapper with blanks");
    let named = folder.path().join("a program");
    program(&named);
    program(&folder.path().join("ledger"));
    let path = std::env::var_os("PATH").unwrap();
    let with_ledger = format!("{}:{}", folder.path().display(), path.display());
    let hash = "3f9a41c2";
    let whole = "0123456789abcdef".repeat(4);
    let told = |arguments: &[&str]| -> Vec<String> {
        let mut outputs = Vec::new();
        // Named, or found in PATH where it is not named or named by nothing; and from a folder of somebody's own.
        for bin in [Some(named.to_str().unwrap()), None, Some("")] {
            let mut command = Command::new(WRAPPER);
            command
                .env_clear()
                .env("PATH", &with_ledger)
                .current_dir(folder.path())
                .args(arguments);
            if let Some(bin) = bin {
                command.env("LEDGER_BIN", bin);
            }
            outputs.push(output(&mut command).ok().stdout);
        }
        assert!(outputs.iter().all(|one| *one == outputs[0]), "{outputs:?}");
        outputs[0].lines().map(str::to_owned).collect()
    };
    let cases: [(&[&str], &[&str]); 9] = [
        (&[], &[]),
        (&["--dry-run"], &["--dry-run"]),
        (
            &["--as", "alice", "--dry-run"],
            &["--as", "alice", "--dry-run"],
        ),
        (&["--plan", hash], &["--plan", hash]),
        (
            &[hash, "--override", "case 17, said twice"],
            &["--plan", hash, "--override", "case 17, said twice"],
        ),
        (&[&whole], &["--plan", &whole]),
        (&["alice", "--as", "x"], &["alice", "--as", "x"]),
        (&["abcdef0"], &["abcdef0"]),
        (&["--help"], &["--help"]),
    ];
    for (said, expected) in cases {
        let expected = [&["cleanup", "calendar"], expected].concat();
        assert_eq!(told(said), expected, "{said:?}");
    }

    // Without the program: it is said what is missing.
    let mut command = Command::new("/bin/sh");
    command.arg(WRAPPER).env_clear().env("PATH", "/nowhere");
    for bin in ["", "/no such/ledger"] {
        let missing = output(command.env("LEDGER_BIN", bin));
        assert_eq!(missing.exit, 4, "{missing:?}");
        assert!(missing.stderr.contains("hint: "), "{missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_of_the_old_name_does_the_same() {
    let migration = Migration::start(WorldSpec::seeded(6).users(22).events_per_user(5)).await;
    let wrapper = |person: &str, arguments: &[&str]| -> Output {
        let mut command = migration.like_cleanup(WRAPPER, person);
        command.args(arguments).args(["--json", "--as", person]);
        output(
            command
                .args(["--user-interval", "1ms"])
                .args(migration.told()),
        )
    };
    // With nothing to carry out nothing is done, and it is said what comes first.
    let nothing = wrapper("runner", &[]);
    assert_eq!(nothing.exit, 2, "{nothing:?}");
    assert!(nothing.stderr.contains("first --dry-run"), "{nothing:?}");
    let plan = Plan::of(&wrapper("maker", &["--dry-run"]).ok().json());
    let early = wrapper("runner", &[]);
    assert_eq!(early.exit, 1, "nobody approved it: {early:?}");
    assert!(early.stderr.contains("is not approved"), "{early:?}");
    migration.approve(&plan.hash);
    // A later plan takes the place of the earlier one, whose approval still holds.
    let later = Plan::of(&wrapper("maker", &["--dry-run"]).ok().json());
    assert_eq!(wrapper("runner", &[]).exit, 1);
    migration.sim.assert_only_reads();
    migration.approve(&later.hash);
    let done = wrapper("runner", &[]).ok().json();
    assert_eq!(done["plan"], later.hash.as_str(), "{done}");
    migration.sim.assert_only_deleted(&later.deletes);
    // Again, and named by its hash alone: nothing is left to be done.
    wrapper("runner", &[]).ok();
    wrapper("runner", &[&later.hash]).ok();
    migration.sim.assert_only_deleted(&later.deletes);
}
