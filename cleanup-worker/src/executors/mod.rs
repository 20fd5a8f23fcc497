//! One module per kind of item that a migration retires.

use ledger::domain::identify::Vocabulary;

pub mod calendar;

/// What the executor of a kind of item lets a policy speak of, with the meaning of each name; `None` for a kind of which this
/// program has no executor.
pub fn vocabulary(kind: &str) -> Option<&'static Vocabulary> {
    const KNOWN: [&Vocabulary; 1] = [&calendar::signals::VOCABULARY];
    KNOWN.into_iter().find(|vocabulary| vocabulary.kind == kind)
}

/// The signal whose detail names an item of this kind as its owner knows it ("Filing deadline"), if the kind has one.
pub fn label_signal(kind: &str) -> Option<&'static str> {
    (kind == calendar::signals::VOCABULARY.kind).then_some("title")
}
