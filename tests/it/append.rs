//! Append: two implementations agree, many processes make one chain, keys replay.

use crate::world::World;

#[tokio::test]
async fn a_new_ledger_verifies() {
    let world = World::start().await;
    let report = world.assert_intact();
    assert_eq!(report["size"], 1);
}
