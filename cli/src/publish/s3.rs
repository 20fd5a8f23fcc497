//! Checkpoints in an S3-compatible bucket: `<prefix>/<ledger id>/checkpoint` and `<prefix>/<ledger id>/checkpoints/<size>`, which
//! is written only where there is none.

use super::Publication;
use crate::bucket::{Bucket, Place};
use crate::environment::Environment;
use crate::exit::Failure;

/// Puts it into the bucket.
pub(super) async fn put(
    publication: &Publication<'_>,
    variables: &Environment,
    place: &Place,
) -> Result<(), Failure> {
    let bucket = Bucket::open(variables, place)?;
    let own = publication.folder_name();
    let last = format!("{own}/checkpoint");
    let each = format!("{own}/checkpoints/{}", publication.published().size());
    if let Some(found) = bucket.get(&last).await? {
        publication.extends(&last, &found).await?;
    }
    let note = publication.checkpoint.to_string().into_bytes();
    if !bucket.put_new(&each, note.clone()).await? {
        let found = bucket.get(&each).await?.unwrap_or_default();
        publication.extends(&each, &found).await?;
    }
    bucket.put(&last, note).await
}
