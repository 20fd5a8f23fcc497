//! `ledger init`: the database, the keys, the ledger, its first persons.

use ledger::chain::entry::FORMAT;
use ledger::chain::note::NoteSigner;
use ledger::domain::event::{Event, LedgerCreated, PersonAdded};
use ledger::domain::id::{Actor, LedgerId, Timestamp};
use ledger::store::catalogue::CATALOGUE;
use ledger::store::connect::{NewLedger, create_ledger};
use ledger::store::erase::for_new_ledger;
use ledger::store::identity::Natural;
use ledger::store::keys::random;
use ledger::store::{Clock, Draft, Store};
use serde::Serialize;

use super::Common;
use crate::args::Init;
use crate::catalogue;
use crate::database::{self, Database, Prepare};
use crate::epochs::Epochs;
use crate::exit::{Exit, Failure, environment};
use crate::output;
use crate::signing;

#[derive(Serialize)]
struct Answer<'a> {
    ledger: LedgerId,
    name: &'a str,
    origin: String,
    vkey: String,
    head: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    database_url: Option<String>,
}

pub(crate) async fn run(common: &Common<'_>, args: Init) -> Result<Exit, Failure> {
    check_name(&args.name)?;
    let actor = common.actor()?;
    let mut database = database::open_database(common.environment, Prepare::Yes).await?;
    let new_login = database.new_login.take();
    let catalogue = catalogue::ensure(common, &database, args.origin.as_deref(), &actor).await?;
    let made = make_ledger(&database, common, &args, &actor).await?;
    let listed = catalogue.list_ledger(&made.store, &actor).await;
    listed.map_err(signing::failure)?;
    let head = made.store.head().await.map_err(super::read_failure)?;
    made.store.close().await;
    database.close().await;
    let answer = Answer {
        ledger: made.id,
        name: &args.name,
        origin: made.origin,
        vkey: made.vkey,
        head: format!("{}:{}", head.size, head.hash),
        database_url: new_login,
    };
    if common.json {
        output::json(&answer)?;
    } else {
        output::line(format_args!(
            "made ledger {} ({})",
            answer.name, answer.ledger
        ))?;
        output::line(format_args!("head: {}", answer.head))?;
        output::line(format_args!("checkpoint key: {}", answer.vkey))?;
        if let Some(url) = &answer.database_url {
            output::line("")?;
            output::line("The writer's login, shown only now. Use it from here on:")?;
            output::line(format_args!("  DATABASE_URL={url}"))?;
        }
    }
    Ok(Exit::Yes)
}

/// A ledger that was just made.
pub(crate) struct Made {
    pub(crate) id: LedgerId,
    pub(crate) origin: String,
    pub(crate) vkey: String,
    pub(crate) store: Store,
}

pub(crate) async fn make_ledger(
    database: &Database,
    common: &Common<'_>,
    args: &Init,
    actor: &Actor,
) -> Result<Made, Failure> {
    let persons: Vec<Actor> = args
        .persons
        .iter()
        .map(|name| Actor::person(name).map_err(Failure::usage))
        .collect::<Result<_, _>>()?;
    let simulated = match &args.simulated_clock {
        Some(text) => Some(Timestamp::parse_lenient(text).map_err(Failure::usage)?),
        None => None,
    };
    // No erasure may destroy the key between its being read here and the new ledger's being seen.
    let epochs = Epochs::new(common.environment, &database.home);
    let _alone = epochs.lock()?;
    epochs.check_settled()?;
    let keks = database::keks(common.environment, &database.home, true)?;
    let keks = for_new_ledger(&database.pool, keks).await;
    let keks = keks.map_err(|error| {
        Failure::new(Exit::Environment, error)
            .hint("nothing was made; bring the key that is in force in this database and run the same command again")
    })?;
    let clock = Clock::system();
    let id = clock.ledger_id();
    let origin = format!("{}/{id}", args.origin.as_deref().unwrap_or(&args.name));
    let seed = random().map_err(database::environment_key)?;
    let signer = NoteSigner::new(&origin, &seed).map_err(Failure::usage)?;
    let folder = signing::folder(&database.home);
    signing::make_folder(&folder)?;
    // Before the ledger: a key without a ledger is litter, a ledger without its key can never be signed for.
    database::write_private(&folder.join(id.to_string()), &signer.signing_key())?;
    let created = Event::LedgerCreated(LedgerCreated {
        name: args.name.clone(),
        origin: origin.clone(),
        format: FORMAT,
        clock: if simulated.is_some() {
            "simulated"
        } else {
            "system"
        }
        .to_owned(),
        checkpoint_key: signer.verifier_key().to_string(),
        parameters: std::collections::BTreeMap::new(),
    });
    let new = NewLedger {
        name: args.name.clone(),
        payload: created
            .to_json()
            .map_err(environment("write the first entry"))?,
        actor: actor.clone(),
        simulated,
    };
    let (row, _) = create_ledger(&database.pool, id, &new, keks.clone(), &clock)
        .await
        .map_err(database::connect_failure)?;
    let store = Store::open(database.pool.clone(), row, keks, clock);
    for person in persons {
        let name = person.as_str().trim_start_matches("person:").to_owned();
        let natural = Natural {
            kind: "person".to_owned(),
            id: name.clone(),
            owner: None,
        };
        let subjects = store
            .identify(&[natural])
            .await
            .map_err(environment("add a person"))?;
        let [subject] = subjects.as_slice() else {
            continue;
        };
        let event = Event::PersonAdded(PersonAdded { name });
        let mut draft = Draft::of(&event, subject.clone(), actor.clone(), subject.clone())
            .map_err(environment("add a person"))?;
        draft.recorded_at = simulated;
        store
            .append(draft)
            .await
            .map_err(environment("add a person"))?;
    }
    Ok(Made {
        id,
        origin,
        vkey: signer.verifier_key().to_string(),
        store,
    })
}

fn check_name(name: &str) -> Result<(), Failure> {
    let good = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if name == CATALOGUE {
        Err(
            Failure::usage("`catalogue` is the name of the ledger that lists the others")
                .hint("choose another name; the catalogue is made by itself"),
        )
    } else if good {
        Ok(())
    } else {
        Err(Failure::usage(
            "a ledger's name has 1 to 64 of a-z, 0-9 and . _ -",
        ))
    }
}
