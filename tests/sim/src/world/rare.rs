//! What is seldom met and was judged wrongly once. Only the worlds that ask for it have it, so that all others stay as they were.

use super::draft::UserDraft;
use super::truth::Class;
use super::{UserKind, WorldSpec};
use crate::dice::Dice;

/// What shows in events and in what v1 and v2 recorded of them.
pub(crate) fn add_events(spec: &WorldSpec, users: &mut [UserDraft]) {
    let mut dice = Dice::lane(spec.seed, 7);
    let plain = users
        .iter_mut()
        .filter(|user| user.kind == UserKind::Connected);
    for user in plain {
        add_twin(&mut dice, user);
    }
}

/// Another case of the same employer with a deadline of the same kind on the same day, for which v2 has written no event: the one that
/// stands there is the first case's.
fn add_twin(dice: &mut Dice, user: &mut UserDraft) {
    let covered = |truth: &&super::Truth| truth.covered && truth.class == Class::V1Recorded;
    let Some(truth) = user.truth.iter().find(covered).cloned() else {
        return;
    };
    let of_case = |(_, id): &(String, String)| *id == truth.event_id;
    let Some(case) = user
        .cases
        .iter()
        .find(|case| case.v1_ids.iter().any(of_case))
    else {
        return;
    };
    let Some(event) = (user.events.iter()).find(|event| event.fields["id"] == truth.event_id)
    else {
        return;
    };
    let (id, mut twin, mut event) = (dice.event_id(), case.clone(), event.clone());
    twin.id = dice.uuid();
    twin.v2_id = format!("j57{}", dice.text(b"0123456789abcdefghjkmnpqrstvwxyz", 29));
    "Z. Z.".clone_into(&mut twin.words.beneficiary);
    twin.words.case_number = None;
    twin.v1_ids.retain(of_case);
    for (_, recorded) in &mut twin.v1_ids {
        recorded.clone_from(&id);
    }
    twin.v2_slots.clear();
    twin.dev_slots.clear();
    let text = event.fields["description"].as_str().unwrap_or_default();
    let text = text
        .replace(&case.id, &twin.id)
        .replace(&case.words.beneficiary, &twin.words.beneficiary);
    event.fields.insert("description".to_owned(), text.into());
    event.fields.insert("id".to_owned(), id.as_str().into());
    let uid = format!("{id}@google.com");
    event.fields.insert("iCalUID".to_owned(), uid.into());
    user.cases.push(twin);
    user.events.push(event);
    user.truth.push(super::Truth {
        event_id: id,
        covered: false,
        why: "v1 recorded it; the event of v2's that looks like it is another case's".to_owned(),
        ..truth
    });
}
