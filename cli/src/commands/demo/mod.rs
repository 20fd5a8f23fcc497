//! `ledger demo`: the whole story on simulators: dry run, approval, a live run that survives faults and a kill, the answers,
//! and an intruder. Every step runs this program's own commands; what they claim is held against the simulators' journal.

mod intruder;
mod stage;

use serde::Serialize;
use serde_json::{Value, json};

use self::stage::{Ran, Stage};
use super::Common;
use super::cleanup::counts;
use crate::args::Demo;
use crate::exit::{Exit, Failure};
use crate::output;

/// The deletion at which the live run is killed.
const KILLED_AT: u64 = 40;

/// What each step came to, for the exit status and `--json`.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    steps: Vec<Step>,
    figures: serde_json::Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    as_told: bool,
}

/// Prints the story, unless only the figures are wanted.
struct Teller {
    quiet: bool,
    outcome: Outcome,
}

impl Teller {
    fn say(&self, text: impl std::fmt::Display) -> Result<(), Failure> {
        if self.quiet {
            Ok(())
        } else {
            output::lines(text)
        }
    }

    fn chapter(&self, number: u32, title: &str) -> Result<(), Failure> {
        self.say(format_args!("\n{number}. {title}"))
    }

    fn command(&self, ran: &Ran) -> Result<(), Failure> {
        self.say(format_args!("   $ {}", ran.shown))
    }

    fn check(&mut self, step: &'static str, as_told: bool) -> Result<(), Failure> {
        self.outcome.steps.push(Step { step, as_told });
        let mark = if as_told { "as told" } else { "NOT AS TOLD" };
        self.say(format_args!("   [{mark}] {step}"))
    }

    fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.outcome.figures.insert(name.to_owned(), value.into());
    }
}

pub(crate) async fn run(common: &Common<'_>, args: &Demo) -> Result<Exit, Failure> {
    let mut teller = Teller {
        quiet: common.json,
        outcome: Outcome::default(),
    };
    teller.say(
        "ledger demo: a law firm's deadlines, moved from v1 to v2, and v1 cleaned up after.",
    )?;
    teller.say(
        "Everything here is made up and runs on this machine: PostgreSQL, Google, Supabase.",
    )?;
    let stage = Stage::set(common.environment, args).await?;
    let result = play(&stage, &mut teller).await;
    let next = stage.next_commands();
    stage.strike().await;
    result?;
    let all = teller.outcome.steps.iter().all(|step| step.as_told);
    if common.json {
        output::json(&teller.outcome)?;
    } else {
        output::lines(if all {
            "\nEverything came out as told."
        } else {
            "\nNOT as told: see above."
        })?;
        output::line("Look around in what the demo left behind:")?;
        for command in next {
            output::line(format_args!("  {command}"))?;
        }
    }
    Ok(if all { Exit::Yes } else { Exit::No })
}

async fn play(stage: &Stage, teller: &mut Teller) -> Result<(), Failure> {
    opening(stage, teller).await?;
    let dry = dry_run(stage, teller).await?;
    let plan = dry.text("/plan");
    protected(&dry, teller)?;
    approval(stage, teller, &plan).await?;
    live_run(stage, teller, &plan).await?;
    let head = verification(stage, teller).await?;
    verdict(stage, teller).await?;
    intruder::breaks_in(stage, teller, &head).await
}

async fn opening(stage: &Stage, teller: &mut Teller) -> Result<(), Failure> {
    teller.chapter(1, "A ledger")?;
    let ran = stage
        .run(&[
            "init",
            &stage.ledger,
            "--person",
            "alice",
            "--person",
            "bob",
        ])
        .await?;
    teller.command(&ran)?;
    teller.say(
        "   An empty hash chain, its keys outside the database, and two people who may act.",
    )?;
    teller.check("the ledger is made", ran.exit == 0)?;
    teller.say(format_args!(
        "   The world: {} v1 users, {} calendar events. v2 is live, writes the same titles into the\n   \
         same calendars, and has taken over some of v1's own events.",
        stage.users(),
        stage.events()
    ))?;
    teller.figure("users", stage.users());
    teller.figure("events", stage.events());
    Ok(())
}

async fn dry_run(stage: &Stage, teller: &mut Teller) -> Result<Ran, Failure> {
    teller.chapter(2, "The dry run: look at everything, change nothing")?;
    let mut arguments = vec!["cleanup", "calendar", "--dry-run", "--as", "bob"];
    arguments.extend(stage.cleanup_arguments());
    let ran = stage.run(&arguments).await?;
    teller.command(&ran)?;
    if ran.exit != 0 {
        teller.say(&ran.stderr)?;
    }
    let title = ran.at("/totals/incumbent/title_prefix");
    let (naive, not_ours) = (&title["would_delete"], &title["not_v1s"]);
    teller.say(format_args!("   {}", ran.words("/totals/dispositions")))?;
    teller.say(format_args!(
        "   The search by title that was planned before would have deleted {naive} events, of which\n   \
         {not_ours} are not v1's: live deadlines, and other people's meetings."
    ))?;
    teller.say(format_args!(
        "   Future deadlines to be deleted: {} have a live v2 event, {} have none yet.",
        ran.at("/totals/covered"),
        ran.at("/totals/uncovered")
    ))?;
    teller.figure("dispositions", ran.at("/totals/dispositions").clone());
    teller.figure("incumbent_would_delete", naive.clone());
    teller.figure("incumbent_not_v1s", not_ours.clone());
    let truthful = stage.agrees_with_truth(&ran);
    teller.check(
        "every event got the class that its maker knows",
        ran.exit == 0 && truthful,
    )?;
    teller.check("nothing but reads was sent", stage.only_reads())?;
    Ok(ran)
}

fn protected(dry: &Ran, teller: &Teller) -> Result<(), Failure> {
    teller.chapter(3, "What is protected, and why")?;
    let mut told = std::collections::BTreeMap::<&str, (u64, &str)>::new();
    let none = Vec::new();
    for item in dry.at("/items").as_array().unwrap_or(&none) {
        let (class, reason) = (item["class"].as_str(), item["reason"].as_str());
        if item["disposition"] != "delete"
            && let (Some(class), Some(reason)) = (class, reason)
        {
            told.entry(class).or_insert((0, reason)).0 += 1;
        }
    }
    for (class, (count, reason)) in told {
        teller.say(format_args!("   {count:>4} {class:<12} {reason}"))?;
    }
    Ok(())
}

async fn approval(stage: &Stage, teller: &mut Teller, plan: &str) -> Result<(), Failure> {
    teller.chapter(4, "Approval: of that exact list, by somebody else")?;
    let own = stage.run(&["approve", plan, "--as", "bob"]).await?;
    teller.command(&own)?;
    teller.say("   bob made the plan, so bob may not approve it.")?;
    teller.check("the plan's maker is refused", own.exit == 1)?;
    let ran = stage.run(&["approve", plan, "--as", "alice"]).await?;
    teller.command(&ran)?;
    if ran.exit != 0 {
        teller.say(&ran.stderr)?;
    }
    teller.check("alice approves", ran.exit == 0)
}

async fn live_run(stage: &Stage, teller: &mut Teller, plan: &str) -> Result<(), Failure> {
    teller.chapter(5, "The live run, on a bad day")?;
    teller.say(
        "   Google answers 429, 503 and an HTML page, swallows answers after it did what was asked,\n   \
         and half-way through somebody pulls the plug (kill -9).",
    )?;
    stage.break_things();
    let mut arguments = vec!["cleanup", "calendar", "--plan", plan, "--as", "bob"];
    arguments.extend(stage.cleanup_arguments());
    let shown = stage.run_until_killed(&arguments, KILLED_AT).await?;
    teller.say(format_args!("   $ {shown}"))?;
    teller.say(format_args!(
        "   Killed at deletion {KILLED_AT}: it was carried out, and the ledger does not know yet."
    ))?;
    teller.say("   The same command again; it waits until the killed run's lease has run out:")?;
    let ran = stage.run(&arguments).await?;
    teller.command(&ran)?;
    if ran.exit != 0 {
        teller.say(&ran.stderr)?;
    }
    teller.say(format_args!("   {}", ran.words("/totals")))?;
    teller.figure("totals", ran.at("/totals").clone());
    teller.check("the run is complete", ran.exit == 0)?;
    let compared = stage.compare();
    teller.say(format_args!(
        "   Asked of the simulated Google itself: {} events of the plan left over, {} deleted beyond\n   \
         it, {} lost that had to survive, {} changed.",
        compared.left.len(),
        compared.beyond.len(),
        compared.lost.len(),
        compared.changed.len()
    ))?;
    teller.check(
        "exactly the plan is gone, and nothing else was touched",
        compared.is_exact(),
    )
}

/// Returns the head, as somebody would keep it outside.
async fn verification(stage: &Stage, teller: &mut Teller) -> Result<String, Failure> {
    teller.chapter(6, "Verification: is the log what was written?")?;
    let ran = stage.run(&["verify"]).await?;
    teller.command(&ran)?;
    let head = format!("{}:{}", ran.at("/size"), ran.text("/head"));
    teller.say(format_args!(
        "   {}: {} entries, each hashed into the next.",
        ran.text("/verdict"),
        ran.at("/size")
    ))?;
    teller.say(format_args!("   Keep the head outside: {head}"))?;
    teller.figure("entries", ran.at("/size").clone());
    teller.check(
        "the chain verifies",
        ran.exit == 0 && ran.text("/verdict") == "intact",
    )?;
    Ok(head)
}

async fn verdict(stage: &Stage, teller: &mut Teller) -> Result<(), Failure> {
    teller.chapter(7, "Was any data lost?")?;
    let ran = stage.run(&["loss"]).await?;
    teller.command(&ran)?;
    let calendar = ran.text("/scopes/calendar/verdict");
    let records = ran.text("/scopes/records/verdict");
    teller.say(format_args!(
        "   calendar: {calendar}   ({})",
        ran.words("/scopes/calendar/sum")
    ))?;
    teller.say(format_args!(
        "   records:  {records}   (nobody has compared v1's records with v2's yet: unknown is never\n   \
         shown as none)"
    ))?;
    teller
        .say("   Not complete: held events wait for a person, and some users cannot be reached.")?;
    teller.figure("calendar", calendar.clone());
    teller.figure("records", records.clone());
    teller.check("no calendar event was lost", calendar == "none")?;
    teller.check(
        "what was never looked at is unknown",
        records == "unknown" && ran.exit == 3,
    )
}

/// `delete 3, hold 1` of an object of counts.
fn words_of(value: &Value) -> String {
    let object = value.as_object().cloned().unwrap_or_default();
    counts(
        &object
            .into_iter()
            .filter_map(|(name, n)| Some((name, n.as_u64()?)))
            .collect(),
    )
}

impl Ran {
    fn at(&self, pointer: &str) -> &Value {
        static NULL: Value = Value::Null;
        self.answer.pointer(pointer).unwrap_or(&NULL)
    }

    fn text(&self, pointer: &str) -> String {
        self.at(pointer).as_str().unwrap_or_default().to_owned()
    }

    fn words(&self, pointer: &str) -> String {
        words_of(self.at(pointer))
    }
}

/// Figures that several steps share.
pub(super) fn broken(answer: &Value) -> Value {
    json!(answer["broken"].as_array().map(|broken| {
        broken
            .iter()
            .map(|one| one["seq"].clone())
            .collect::<Vec<_>>()
    }))
}
