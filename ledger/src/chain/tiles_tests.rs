use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::chain::entry::leaf_hash;

fn tile(kind: Kind, index: u64, width: u16) -> Tile {
    Tile { kind, index, width }
}

#[test]
fn published_paths() {
    for (path, expected) in [
        (
            "tile/0/273.p/112",
            tile(Kind::Hashes { level: 0 }, 273, 112),
        ),
        ("tile/1/001.p/17", tile(Kind::Hashes { level: 1 }, 1, 17)),
        ("tile/2/000.p/1", tile(Kind::Hashes { level: 2 }, 0, 1)),
        (
            "tile/entries/x001/x234/067",
            tile(Kind::Entries, 1_234_067, 256),
        ),
        ("tile/entries/000.p/3", tile(Kind::Entries, 0, 3)),
        ("tile/63/255", tile(Kind::Hashes { level: 63 }, 255, 256)),
        (
            "tile/0/x001/000",
            tile(Kind::Hashes { level: 0 }, 1000, 256),
        ),
    ] {
        assert_eq!(path.parse(), Ok(expected));
        assert_eq!(expected.to_string(), path);
    }
}

#[test]
fn other_paths_are_refused() {
    for path in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/1000",
        "tile/0/x000/001",
        "tile/0/001/x001",
        "tile/0/x001",
        "tile/0/x001/01",
        "tile/0/001/001",
        "tile/00/000",
        "tile/01/000",
        "tile/+1/000",
        "tile/-1/000",
        "tile/64/000",
        "tile/256/000",
        "tile/data/000",
        "tile/8/0/000",
        "tile/0/000.p/0",
        "tile/0/000.p/00",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000.p/1/",
        "tile/0/000.p/1.p/1",
        "/tile/0/000",
        "tile/0/000/",
        "tile//000",
        "tile/0//000",
        "tile/0/../000",
        "tile/0/x\u{661}00/000",
        "tile/Entries/000",
        "tile/0/ 00",
        "tile/0/x018/x446/x744/x073/x709/x551/615",
        "tile/0/x072/x057/x594/x037/x927/936",
    ] {
        assert_eq!(path.parse::<Tile>(), Err(TileError::Path), "{path}");
    }
}

/// The published counting example.
#[test]
fn files_of_a_tree_of_70_000() {
    let all: Vec<Tile> = Tile::added(0, 70_000).collect();
    let count = |kind, full| {
        all.iter()
            .filter(|t| t.kind() == kind && t.is_full() == full)
            .count()
    };
    let partial = |kind| {
        let found = all.iter().find(|t| t.kind() == kind && !t.is_full());
        found.map(|t| t.width())
    };
    let level = |level| Kind::Hashes { level };
    assert_eq!((count(level(0), true), partial(level(0))), (273, Some(112)));
    assert_eq!(
        (count(Kind::Entries, true), partial(Kind::Entries)),
        (273, Some(112))
    );
    assert_eq!((count(level(1), true), partial(level(1))), (1, Some(17)));
    assert_eq!((count(level(2), true), partial(level(2))), (0, Some(1)));
    assert_eq!(all.len(), 274 + 274 + 2 + 1);
    let of_256: Vec<String> = Tile::added(0, 256).map(|tile| tile.to_string()).collect();
    assert_eq!(of_256, ["tile/0/000", "tile/entries/000", "tile/1/000.p/1"]);
    assert_eq!(Tile::added(0, 0).count(), 0);
    assert_eq!(Tile::added(300, 300).count(), 0);
}

/// The bundle and tile of the published log of three entries.
#[test]
fn published_bundle_and_tile() {
    let file = tile(Kind::Entries, 0, 3);
    let entries: [&[u8]; 3] = [b"one", b"two", b"three"];
    let bytes = bundle(entries).unwrap();
    assert_eq!(hex::encode(&bytes), "00036f6e65000374776f00057468726565");
    assert_eq!(file.entries(&bytes).unwrap(), entries);
    let hashes = "d0d7360ab79f58ab1e1e3fe64ad77e2ea0bc07e36b5f46ed2223edd9298df9e9\
                  ab1ab7f07c7c8fe0eff4ba6faa53c7e4412e91a599153e8aa4e01beece5b7825\
                  671f146c5e471e8a1a83a3c214ce4ba907b8f3a5888d14cc8cd3ce75bb12ef94";
    let file = tile(Kind::Hashes { level: 0 }, 0, 3);
    let hashes = file.hashes(&hex::decode(hashes).unwrap()).unwrap();
    assert_eq!(hashes, entries.map(leaf_hash));
}

#[test]
fn files_of_another_length_are_refused() {
    let bytes = bundle([b"one".as_slice(), b"", b"three"]).unwrap();
    for width in [1, 2, 4, 256] {
        let file = tile(Kind::Entries, 0, width);
        assert_eq!(file.entries(&bytes), Err(TileError::Bundle(width)));
        let file = tile(Kind::Hashes { level: 0 }, 0, width);
        assert_eq!(file.hashes(&[0; 96]), Err(TileError::Hashes(width)));
    }
    let file = tile(Kind::Entries, 0, 3);
    for cut in 1..bytes.len() {
        assert!(file.entries(&bytes[..cut]).is_err());
        assert!(file.entries(&bytes[cut..]).is_err());
    }
    assert!(
        tile(Kind::Hashes { level: 0 }, 0, 3)
            .hashes(&[0; 97])
            .is_err()
    );
    let long = vec![0; BUNDLED_BYTES_MAX + 1];
    assert_eq!(
        bundle([long.as_slice()]),
        Err(TileError::EntryTooLong(65_536))
    );
    assert!(bundle([&long[1..]]).is_ok());
}

proptest! {
    #[test]
    fn every_file_of_a_tree_reads_back_from_its_path(from in 0_u64..200_000, more in 0_u64..70_000) {
        let to = from + more;
        let before: BTreeSet<Tile> = Tile::added(0, from).collect();
        let added: BTreeSet<Tile> = Tile::added(from, to).collect();
        let after: BTreeSet<Tile> = Tile::added(0, to).collect();
        for tile in &added {
            prop_assert_eq!(tile.to_string().parse(), Ok(*tile));
            prop_assert!(!before.contains(tile));
        }
        // Nothing that the larger tree has is missing, and all that is left over are partial files of the smaller one.
        let both: BTreeSet<Tile> = before.union(&added).copied().collect();
        prop_assert!(after.is_subset(&both));
        prop_assert!(both.difference(&after).all(|tile| !tile.is_full()));
    }

    #[test]
    fn a_path_has_one_form(path in "tile/(0|1|2|63|64|entries)/(x?[0-9]{1,4}/?){1,4}(\\.p/[0-9]{1,4})?") {
        if let Ok(tile) = path.parse::<Tile>() {
            prop_assert_eq!(tile.to_string(), path);
        }
    }
}
