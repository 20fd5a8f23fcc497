//! `--policy FILE`: who must have cosigned a checkpoint, asked by `checkpoint` and required by `verify`.

use std::path::Path;

use futures_util::future::join_all;
use ledger::chain::checkpoint::SignedCheckpoint;
use ledger::chain::note::VerifierKey;
use ledger::chain::policy::{POLICY_BYTES_MAX, Policy};
use ledger::store::verify::Claim;

use super::client;
use crate::commands::checkpoint::cosigned;
use crate::database::Session;
use crate::exit::{Failure, environment};
use crate::output;
use crate::signing;

/// Reads a policy file.
pub(crate) fn read(path: &Path) -> Result<Policy, Failure> {
    let what = || format!("read the policy {}", path.display());
    let length = std::fs::metadata(path).map_err(environment(what()))?.len();
    if length > POLICY_BYTES_MAX as u64 {
        return Err(Failure::usage(format_args!(
            "{} is too long for a policy",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(environment(what()))?;
    Policy::parse(&bytes).map_err(|error| {
        Failure::new(
            crate::exit::Exit::Usage,
            anyhow::Error::from(error).context(what()),
        )
        .hint("https://c2sp.org/tlog-policy has the format: log, witness, group and quorum lines")
    })
}

/// Asks every witness of the policy that has an address and has not cosigned yet; gives the checkpoint with all that came, and
/// whether that is enough. A witness that does not answer is told and changes nothing else.
pub(crate) async fn ask(
    session: &Session,
    policy: &Policy,
    signed: SignedCheckpoint,
) -> Result<(SignedCheckpoint, bool), Failure> {
    let http = client::client().map_err(environment("prepare requests to witnesses"))?;
    let mut signed = cosigned(session, signed, &keys_of(policy)).await?;
    let missing = policy.witnesses().iter().filter_map(|witness| {
        let lines = signed.note().signatures();
        let has = lines
            .iter()
            .any(|line| line.name() == witness.key.name() && line.key_id() == witness.key.id());
        Some((witness, witness.url.as_deref().filter(|_| !has)?))
    });
    let asked = missing.map(|(witness, url)| {
        let (http, signed, store) = (&http, &signed, &session.store);
        async move {
            (
                witness,
                client::ask(http, store, witness, url, signed).await,
            )
        }
    });
    for (witness, answer) in join_all(asked).await {
        match answer {
            Ok(line) => {
                let stored = session.store.cosign(&signed, &witness.key, &line).await;
                stored.map_err(signing::failure)?;
                signed
                    .add(line)
                    .map_err(environment("add the cosignature"))?;
            }
            Err(error) => output::note(format_args!(
                "warning: no cosignature by {}: {:#}",
                witness.key.name(),
                anyhow::Error::from(error)
            )),
        }
    }
    let unmet = policy.check(&signed).err();
    if let Some(error) = &unmet {
        output::note(format_args!(
            "not witnessed: {error}; `ledger checkpoint` asks again"
        ));
    }
    Ok((signed, unmet.is_none()))
}

fn keys_of(policy: &Policy) -> Vec<VerifierKey> {
    let witnesses = policy.witnesses().iter();
    witnesses.map(|witness| witness.key.clone()).collect()
}

/// What the witnesses of a policy say of a ledger.
#[derive(Debug, Default)]
pub(crate) struct Vouched {
    /// The last stored checkpoint that the policy accepts, and what each witness itself says that it cosigned last.
    pub(crate) claims: Vec<Claim>,
    /// Size of that checkpoint, 0 where there is none.
    pub(crate) cosigned: u64,
    /// Why the policy is not met.
    pub(crate) unmet: Option<String>,
    /// Witnesses that could not be asked.
    pub(crate) unasked: Vec<String>,
}

/// The stored checkpoints by a policy.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// The last one that it accepts.
    pub(crate) checkpoint: Option<SignedCheckpoint>,
    /// Whether a witness has signed that one.
    witnessed: bool,
    /// Why it does not accept the last one of all.
    unmet: Option<String>,
}

/// Holds the stored checkpoints against the policy.
pub(crate) async fn accepted(session: &Session, policy: &Policy) -> Result<Accepted, Failure> {
    let keys = keys_of(policy);
    let mut found = Accepted::default();
    let mut after = 0;
    loop {
        let page = session.store.stored_checkpoints(after).await;
        let page = page.map_err(signing::failure)?;
        let Some(last) = page.last() else { break };
        after = last.checkpoint.checkpoint().size();
        for stored in page {
            let signed = cosigned(session, stored.checkpoint, &keys).await?;
            match policy.check(&signed) {
                Ok(by) => {
                    found.witnessed = !by.witnesses.is_empty();
                    found.checkpoint = Some(signed);
                    found.unmet = None;
                }
                Err(error) => {
                    found.unmet = Some(format!(
                        "the policy does not accept the checkpoint of {} entries: {:#}",
                        signed.checkpoint().size(),
                        anyhow::Error::from(error)
                    ));
                }
            }
        }
    }
    if found.checkpoint.is_none() && found.unmet.is_none() {
        found.unmet = Some("the policy has no checkpoint to accept: none was made".to_owned());
    }
    Ok(found)
}

/// Holds the stored checkpoints against the policy, and asks its witnesses what they have cosigned: stored cosignatures may have
/// been cut off together with the tail that they were for.
pub(crate) async fn vouched(session: &Session, policy: &Policy) -> Result<Vouched, Failure> {
    let stored = accepted(session, policy).await?;
    let mut found = Vouched {
        unmet: stored.unmet,
        cosigned: stored
            .checkpoint
            .as_ref()
            .map_or(0, |signed| signed.checkpoint().size()),
        ..Vouched::default()
    };
    let claim = |source, signed: SignedCheckpoint, outside| Claim {
        source,
        size: signed.checkpoint().size(),
        root: signed.checkpoint().root(),
        vkeys: policy.logs().iter().map(|log| log.key.clone()).collect(),
        signed: Some(signed),
        outside,
    };
    let source = "the last checkpoint that the policy accepts".to_owned();
    let accepted = stored.checkpoint;
    found
        .claims
        .extend(accepted.map(|signed| claim(source, signed, stored.witnessed)));

    let keys = session.store.checkpoint_keys().await;
    let keys = keys.map_err(signing::failure)?;
    let http = client::client().map_err(environment("prepare requests to witnesses"))?;
    let origin = keys.origin();
    let asked = policy.witnesses().iter().map(|witness| {
        let http = &http;
        async move {
            let Some(url) = witness.url.as_deref() else {
                return (witness, Err("the policy has no address of it".to_owned()));
            };
            let last = client::last(http, witness, url, origin).await;
            let last = last.map_err(|error| format!("{:#}", anyhow::Error::from(error)));
            (witness, last)
        }
    });
    for (witness, answer) in join_all(asked).await {
        let name = witness.key.name();
        match answer {
            Ok(Some(signed)) => {
                let source = format!("what {name} cosigned last");
                // It can accuse alone; to anchor takes the quorum.
                found.claims.push(claim(source, signed, false));
            }
            Ok(None) => {}
            Err(why) => found
                .unasked
                .push(format!("what {name} cosigned last: {why}")),
        }
    }
    Ok(found)
}
