//! `ledger report letter`: what a user is told, in plain words.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Duration;
use cleanup_worker::executors::calendar::titles::EventType;
use cleanup_worker::executors::{label_signal, title};
use ledger::domain::custody::State;
use ledger::domain::event::{Body, Event};
use ledger::domain::hash::Hash;
use ledger::domain::id::{Subject, Timestamp};
use ledger::projections::deletions::{ItemLine, Part, Reference, Review, UserLine};
use ledger::projections::erasure::retentions;
use ledger::projections::fold::At;
use maud::{DOCTYPE, PreEscaped, html};

use super::{Answer, Basis, Made, basis, read_failure, refuse_existing, tell, write};
use crate::args::{LetterFormat, ReportLetter};
use crate::commands::review::{folded, user_words, users_named};
use crate::commands::{Common, erase};
use crate::database::Session;
use crate::exit::{Exit, Failure, environment};
use crate::output;

/// What one user is told.
struct Letter<'a> {
    to: String,
    basis: &'a Basis,
    /// The kind of item in words.
    kind: String,
    /// Why nothing could be looked at, where that is so.
    unreachable: Option<&'static str>,
    /// What the old system recorded and nobody but its owner can get at.
    out_of_reach: Vec<Line>,
    removed: Vec<Line>,
    /// Of these, removed without a sound approval or a true copy.
    unsound: usize,
    /// Of these, whose copy was erased since.
    copy_erased: usize,
    /// What was left, by why.
    kept: BTreeMap<String, Vec<Line>>,
    /// Dates to come that nothing in the new system stands for.
    uncovered: Vec<Line>,
    /// What cannot be told.
    uncertain: usize,
    undo: Undo,
    contact: Option<&'a str>,
    /// What to name when asking.
    reference: String,
}

/// One item, as its owner knows it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    date: Option<String>,
    /// What it is called, where its copy says so; else what its kind is called.
    label: Option<String>,
    /// Its id, where there is nothing better to tell it by.
    id: Option<String>,
}

/// What items are called, by their subject.
type Titles = BTreeMap<String, String>;

/// Until when a deletion can be undone.
enum Undo {
    /// Nobody has promised a day.
    NoDay,
    Until(Timestamp),
    Over(Timestamp),
}

pub(super) async fn run(common: &Common<'_>, args: &ReportLetter) -> Result<Exit, Failure> {
    if !args.all {
        refuse_existing(args.out.as_deref())?;
    }
    let session = common.open().await?;
    let folded = folded(&session.store, At::Head).await?;
    let basis = basis(&session, &folded, BTreeMap::new()).await?;
    if basis.unread > 0 {
        let what = anyhow::anyhow!(
            "{} entries say nothing, so a letter would leave out what they say",
            basis.unread
        );
        return Err(Failure::new(Exit::Unknown, what)
            .hint("LEDGER_KEK or the key file of this ledger is needed, or `ledger verify` names what is damaged"));
    }
    let review = folded.deletions.review(&folded.custody, &Part::default());
    let kept_until = retentions(&session.store).await.map_err(erase::failure)?;
    let writer = Writer {
        common,
        session: &session,
        basis: &basis,
        args,
        kept_until,
    };
    if let Some(user) = args.user.as_deref() {
        let users = users_named(&folded.deletions, Some(user))?.unwrap_or_default();
        let subject = one(users)?.to_string();
        let mut told = by_user(&review);
        let mut about = told.remove(subject.as_str()).unwrap_or_default();
        // Also where nothing was found of the user.
        let user = subject.parse().map_err(Failure::usage)?;
        let user = folded.deletions.user_line(&user);
        about.user = about.user.or(Some(&user));
        about.titles = writer.titles(&about).await?;
        let written = writer.letter(&subject, &about, args.out.as_deref()).await?;
        session.close().await;
        tell(common, written.as_ref())?;
        return Ok(Exit::Yes);
    }
    let target = args.out.clone().unwrap_or_default();
    let what = format!("make the folder {}", target.display());
    std::fs::create_dir_all(&target).map_err(environment(what))?;
    let ending = match args.format {
        LetterFormat::Text => "txt",
        LetterFormat::Html => "html",
    };
    let mut letters = Vec::new();
    for (subject, mut about) in by_user(&review) {
        about.titles = writer.titles(&about).await?;
        let user: Subject = subject.parse().map_err(Failure::usage)?;
        // No address in a file's name.
        let name = format!("letter-{}.{ending}", user.uuid().as_hyphenated());
        let path = target.join(name);
        refuse_existing(Some(&path))?;
        letters.extend(writer.letter(subject, &about, Some(&path)).await?);
    }
    session.close().await;
    if common.json {
        output::json(&letters)?;
    } else {
        output::line(format_args!(
            "wrote {} letters into {}",
            letters.len(),
            target.display()
        ))?;
    }
    Ok(Exit::Yes)
}

/// What the review says of one user.
#[derive(Default)]
struct About<'a> {
    items: Vec<&'a ItemLine>,
    user: Option<&'a UserLine>,
    /// The user could not be reached.
    unreachable: bool,
    titles: Titles,
}

impl About<'_> {
    /// The kind of item that the letter is about; what was written late has none of its own yet.
    fn kind(&self) -> Option<String> {
        let mut items = self.items.iter();
        let known = items.find(|item| item.state != State::LateWrite);
        known.and_then(|item| kind_of(item))
    }
}

/// Everybody of whom something was found, or who could not be reached.
fn by_user(review: &Review) -> BTreeMap<&str, About<'_>> {
    let mut users: BTreeMap<&str, About<'_>> = BTreeMap::new();
    for item in &review.items {
        for user in &item.users {
            let about = users.entry(&user.subject).or_default();
            about.items.push(item);
            about.user = Some(user);
        }
    }
    for user in &review.unreachable {
        let about = users.entry(&user.subject).or_default();
        about.user = Some(user);
        about.unreachable = true;
    }
    users
}

/// A letter goes to one person.
fn one(users: BTreeSet<Subject>) -> Result<Subject, Failure> {
    let several = users.len();
    let mut users = users.into_iter();
    match (users.next(), users.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(
            Failure::usage(format_args!("{several} users are called so"))
                .hint("name one by its subject; `ledger review deletions --json` has them"),
        ),
    }
}

/// What all letters share.
struct Writer<'a> {
    common: &'a Common<'a>,
    session: &'a Session,
    basis: &'a Basis,
    args: &'a ReportLetter,
    /// Until when each kind of item is kept.
    kept_until: BTreeMap<String, Timestamp>,
}

impl Writer<'_> {
    /// What those of a user's items are called that a letter tells one by one, by their copies.
    async fn titles(&self, about: &About<'_>) -> Result<Titles, Failure> {
        let mut titles = Titles::new();
        for item in about
            .items
            .iter()
            .filter(|item| goes(item) || is_gone(item))
        {
            let copy = item.backup.as_ref().map(|backup| &backup.entry);
            let Some((entry, kind)) = copy.or(item.found.as_ref()).zip(kind_of(item)) else {
                continue;
            };
            let recorded = self.session.store.get(entry.seq).await;
            let recorded = recorded.map_err(read_failure)?;
            let title = recorded.and_then(|recorded| {
                let entry = &recorded.entry;
                let json = recorded.payload.json()?;
                let event = Event::decode(entry.event_type.as_str(), entry.schema, json);
                title(&kind, &bytes(copy_in(event.ok()?)?)?)
            });
            titles.extend(title.map(|title| (item.subject.clone(), title)));
        }
        Ok(titles)
    }

    async fn letter(
        &self,
        subject: &str,
        about: &About<'_>,
        out: Option<&Path>,
    ) -> Result<Option<Answer>, Failure> {
        let kind = about.kind();
        let until = kind.and_then(|kind| self.kept_until.get(&kind));
        let undo = match until {
            None => Undo::NoDay,
            Some(until) if *until <= self.basis.as_of.recorded_at => Undo::Over(*until),
            Some(until) => Undo::Until(*until),
        };
        let rests_on = about.items.iter().flat_map(|item| {
            let seq = |entry: &Reference| entry.seq;
            let undo = item.undo.as_ref().map(|undo| seq(&undo.entry));
            let outcome = item.outcome.as_ref().map(|outcome| seq(&outcome.entry));
            let backup = item.backup.as_ref().map(|backup| seq(&backup.entry));
            [item.found.as_ref().map(seq), backup, outcome, undo]
        });
        let user = about.user.and_then(|user| user.seq);
        let rests_on = rests_on.flatten().chain(user).collect();
        let contact = self.args.contact.as_deref();
        let letter = Letter::of(subject, about, self.basis, undo, contact);
        let (format, text) = match self.args.format {
            LetterFormat::Text => ("text", letter.text()),
            LetterFormat::Html => ("html", letter.page()),
        };
        let made = Made {
            what: "letter",
            format,
            rests_on,
            user: Some(subject.to_owned()),
        };
        write(self.common, self.session, self.basis, made, out, &text).await
    }
}

fn copy_in(event: Event) -> Option<Body> {
    match event {
        Event::ItemDeleteIntended(intent) => Some(intent.backup),
        Event::ItemFound(found) => found.body,
        _ => None,
    }
}

/// What a body holds, where that is what its digest says.
fn bytes(body: Body) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(body.base64).ok()?;
    (Hash::of(&bytes) == body.sha256).then_some(bytes)
}

fn kind_of(item: &ItemLine) -> Option<String> {
    item.subject
        .split_once(':')
        .map(|(kind, _)| kind.to_owned())
}

/// It was removed.
fn is_gone(item: &ItemLine) -> bool {
    matches!(
        item.state,
        State::Deleted | State::BackupErased | State::Missing
    )
}

/// It was removed, or is to be.
fn goes(item: &ItemLine) -> bool {
    matches!(
        item.state,
        State::Deleted | State::Missing | State::Planned | State::InFlight
    )
}

impl Line {
    fn of(item: &ItemLine, titles: &Titles) -> Self {
        let label = || {
            let signal = kind_of(item).and_then(|kind| label_signal(&kind))?;
            item.evidence.get(signal).cloned().flatten()
        };
        Self {
            date: item.date.clone(),
            label: titles.get(&item.subject).cloned().or_else(label),
            id: None,
        }
    }

    /// Of what nobody could look at: what v1 had recorded it for, and its id where the log has no day of it.
    fn unseen(item: &ItemLine, titles: &Titles) -> Self {
        let line = Self::of(item, titles);
        let recorded = || {
            let key = item.evidence.get("v1_recorded")?.as_deref()?;
            Some(EventType::from_v1_key(key)?.label().to_owned())
        };
        Self {
            id: item.event_id.clone().filter(|_| line.date.is_none()),
            label: line.label.or_else(recorded),
            date: line.date,
        }
    }

    fn words(&self, kind: &str) -> String {
        let label = self.label.as_deref().unwrap_or(kind);
        if let Some(id) = &self.id {
            return format!("{label} with the id {id}");
        }
        match &self.date {
            Some(date) => format!("{date}  {label}"),
            None => label.to_owned(),
        }
    }
}

/// Why a user's items could not be looked at, as the user understands it. What the services answered is for reports.
fn why_not(user: Option<&UserLine>) -> &'static str {
    let access = user.and_then(|user| user.access.as_deref());
    match access.unwrap_or_default() {
        "disconnected" => "the old system is no longer connected to your account",
        "revoked" => "the permission that you had given the old system has ended",
        "denied" => "your organisation does not allow it",
        "undecryptable" => "what the old system kept of your permission can no longer be used",
        "wrong_account" => {
            "the old system is connected to another account than the one that it had used"
        }
        "unknown_owner" => "it is no longer known through which account it can be reached",
        _ => "your account gave no answer when we asked",
    }
}

impl<'a> Letter<'a> {
    fn of(
        subject: &str,
        about: &About<'_>,
        basis: &'a Basis,
        undo: Undo,
        contact: Option<&'a str>,
    ) -> Self {
        let kind = about.kind();
        let mut letter = Self {
            to: about.user.map_or(subject.to_owned(), user_words),
            basis,
            kind: kind.map_or("item".to_owned(), |kind| kind.replace('-', " ")),
            unreachable: about.unreachable.then(|| why_not(about.user)),
            out_of_reach: Vec::new(),
            removed: Vec::new(),
            unsound: 0,
            copy_erased: 0,
            kept: BTreeMap::new(),
            uncovered: Vec::new(),
            uncertain: 0,
            undo,
            contact,
            reference: subject
                .split_once(':')
                .map_or(subject, |(_, uuid)| uuid)
                .to_owned(),
        };
        for item in &about.items {
            letter.add(item, &about.titles);
        }
        letter.removed.sort();
        letter.out_of_reach.sort();
        letter.uncovered.sort();
        letter
    }

    fn add(&mut self, item: &ItemLine, titles: &Titles) {
        let because = || {
            let reason = item.reason.as_deref();
            reason
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default()
        };
        let kept = match item.state {
            State::Deleted | State::BackupErased | State::Missing => {
                self.removed.push(Line::of(item, titles));
                self.unsound += usize::from(item.state == State::Missing);
                self.copy_erased += usize::from(item.state == State::BackupErased);
                None
            }
            State::Protected => Some(format!("it is not ours to remove{}", because())),
            State::Excluded => Some("a person looked at it and decided to keep it".to_owned()),
            State::Held => Some(format!("a person still has to look at it{}", because())),
            State::Planned => Some("it is to be removed, and has not been yet".to_owned()),
            State::Restored => Some("it was removed and put back".to_owned()),
            State::LateWrite => Some("the old system made it after we had looked".to_owned()),
            State::ChangedSince if item.restored.is_some() => Some(
                "it was removed and put back, and changed or removed since, not by us".to_owned(),
            ),
            State::Unaccounted if item.there_again => {
                Some("it was removed, and is there again, not by us".to_owned())
            }
            State::ChangedSince => Some("it was changed while we worked, not by us".to_owned()),
            State::OutOfReach => {
                self.out_of_reach.push(Line::unseen(item, titles));
                None
            }
            // Nothing was done.
            State::GoneBefore => None,
            _ => {
                self.uncertain += 1;
                None
            }
        };
        if let Some(why) = kept {
            self.kept
                .entry(why)
                .or_default()
                .push(Line::of(item, titles));
        }
        // As when the plan was made: a day is over once it is over everywhere (UTC-12).
        let today = self.basis.as_of.recorded_at.instant() - Duration::hours(12);
        let today = today.date_naive().to_string();
        let to_come = item.date.as_deref().is_some_and(|date| date >= &*today);
        if goes(item) && to_come && item.covered == Some(false) {
            self.uncovered.push(Line::of(item, titles));
        }
    }

    /// The paragraphs: a heading, sentences, and a list.
    fn paragraphs(&self) -> Vec<(String, Vec<String>, Vec<String>)> {
        let kind = &self.kind;
        let lines = |lines: &[Line]| lines.iter().map(|line| line.words(kind)).collect();
        let mut out = Vec::new();
        if self.unreachable.is_some() || !self.out_of_reach.is_empty() {
            let because = self.unreachable.unwrap_or("we could not get at all of it");
            let mut said = vec![format!(
                "We could not look at what the old system left with you: {because}. Nothing was removed there by us in that case; what is there, only you can remove."
            )];
            if !self.out_of_reach.is_empty() {
                said.push(format!(
                    "The old system had made a note of these ({}); you may still have them:",
                    self.out_of_reach.len()
                ));
            }
            out.push((
                "What we could not do".to_owned(),
                said,
                lines(&self.out_of_reach),
            ));
        }
        let mut said = vec![match (self.removed.len(), self.unsound) {
            (0, _) => format!("We removed no {kind}."),
            (_, 0) => format!(
                "The old system had made these for you. Each {kind} was looked at, approved for removal by a person, and copied whole before it was removed."
            ),
            _ => "These are gone.".to_owned(),
        }];
        if self.unsound > 0 {
            said.push(format!(
                "{} of them should not have been removed as they were: without an approval that holds, or without a whole copy. We are looking into it.",
                self.unsound
            ));
        }
        out.push((
            format!("What we removed ({})", self.removed.len()),
            said,
            lines(&self.removed),
        ));
        if !self.uncovered.is_empty() {
            let said = "These days are still to come, and we found nothing in the new system that stands for them. Please check that you do not rely on them, or enter them again.".to_owned();
            let heading = format!("Please check ({})", self.uncovered.len());
            out.push((heading, vec![said], lines(&self.uncovered)));
        }
        let kept: usize = self.kept.values().map(Vec::len).sum();
        if kept > 0 {
            let list = self.kept.iter().map(|(why, lines)| {
                let dates: Vec<&str> = lines
                    .iter()
                    .filter_map(|line| line.date.as_deref())
                    .collect();
                let dates = if dates.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", dates.join(", "))
                };
                format!("{}{dates}, because {why}", lines.len())
            });
            out.push((
                format!("What we left as it was ({kept})"),
                Vec::new(),
                list.collect(),
            ));
        }
        if self.uncertain > 0 {
            let said = format!(
                "Of {} more we cannot say yet what became of them. We will write again.",
                self.uncertain
            );
            out.push(("What we cannot say yet".to_owned(), vec![said], Vec::new()));
        }
        if !self.removed.is_empty() {
            out.push((
                "How to get something back".to_owned(),
                self.undo_words(),
                Vec::new(),
            ));
        } else if self.contact.is_some() {
            out.push(("Whom to ask".to_owned(), vec![self.ask_words()], Vec::new()));
        }
        out
    }

    fn ask_words(&self) -> String {
        let ask = match self.contact {
            Some(contact) => format!("Ask {contact}"),
            None => "Ask who sent you this letter".to_owned(),
        };
        format!("{ask}, and name this number: {}", self.reference)
    }

    fn undo_words(&self) -> Vec<String> {
        let day = |time: &Timestamp| time.to_string()[..10].to_owned();
        let until = match &self.undo {
            Undo::Until(time) => format!("Until {} everything that we removed can be put back as it was.", day(time)),
            Undo::Over(time) => format!("Until {} what we removed could be put back. Ask all the same: it may still be there.", day(time)),
            Undo::NoDay => "What we removed can be put back as it was. No last day was set, so please ask soon.".to_owned(),
        };
        let mut said = vec![until];
        if self.copy_erased > 0 {
            said.push(format!(
                "Not so {} of them, whose copy was erased because somebody had the right to ask for that.",
                self.copy_erased
            ));
        }
        if self.unsound > 0 {
            said.push(format!(
                "For {} of them we first have to find out whether we have a whole copy.",
                self.unsound
            ));
        }
        said.push(self.ask_words());
        said
    }

    fn foot(&self) -> String {
        format!(
            "As things stood at {}, by entry {} of the record {}.",
            self.basis.as_of.recorded_at, self.basis.as_of.seq, self.basis.name
        )
    }

    fn text(&self) -> String {
        let mut out = format!(
            "To {}\n\nAbout each {} that the old system made for you\n",
            self.to, self.kind
        );
        let mut line = |text: &str| {
            out.push_str(text);
            out.push('\n');
        };
        for (heading, said, list) in self.paragraphs() {
            line("");
            line(&heading);
            for text in said {
                line(&text);
            }
            for text in list {
                line(&format!("  - {text}"));
            }
        }
        line("");
        line(&self.foot());
        out
    }

    fn page(&self) -> String {
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(super::page::POLICY);
                    meta name="referrer" content="no-referrer";
                    title { "About each " (self.kind) " that the old system made for you" }
                    style { (PreEscaped(super::page::STYLE)) }
                }
                body {
                    p { "To " (self.to) }
                    h1 { "About each " (self.kind) " that the old system made for you" }
                    @for (heading, said, list) in self.paragraphs() {
                        h2 { (heading) }
                        @for text in said { p { (text) } }
                        @if !list.is_empty() { ul { @for text in list { li { (text) } } } }
                    }
                    p { small { (self.foot()) } }
                }
            }
        };
        markup.into_string() + "\n"
    }
}
