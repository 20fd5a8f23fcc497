//! The log's side of the protocol: asks the witnesses of a policy to cosign a checkpoint.

use std::time::Duration;

use ledger::chain::checkpoint::SignedCheckpoint;
use ledger::chain::entry::Hash;
use ledger::chain::note::{NOTE_BYTES_MAX, NoteError, Signature};
use ledger::chain::policy::Party;
use ledger::chain::proof::{ProofError, Recipe};
use ledger::chain::witness::AddCheckpoint;
use ledger::store::Store;
use ledger::store::checkpoint::ProveError;
use reqwest::{Client, StatusCode};

/// Longest that one witness may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Why a witness' cosignature was not got. The log goes on without it; whether that is enough is the policy's to say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("send the checkpoint to {url}")]
    Send {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{url} answered {status}: {text}")]
    Refused {
        url: String,
        status: StatusCode,
        text: String,
    },
    #[error("{url} has cosigned {latest} entries of this ledger, and here are {size}")]
    Ahead { url: String, latest: u64, size: u64 },
    #[error("{url} answered what is no cosignature by {vkey}")]
    Answer {
        url: String,
        vkey: String,
        #[source]
        source: Option<NoteError>,
    },
    #[error("prove that the checkpoint extends the one of {old} entries")]
    Prove {
        old: u64,
        #[source]
        source: Box<ProveError>,
    },
}

/// A client for witnesses. Redirects are not followed: the policy names the addresses.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    // Fails where one is set already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder()
        .timeout(LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// Asks one witness, from the size that it cosigned last, which it says when it is asked from another.
pub(crate) async fn ask(
    client: &Client,
    store: &Store,
    witness: &Party,
    url: &str,
    signed: &SignedCheckpoint,
) -> Result<Signature, AskError> {
    let size = signed.checkpoint().size();
    let address = format!("{}/add-checkpoint", url.trim_end_matches('/'));
    let mut old = 0;
    // Once from nothing, once from what it says, once more where another process was quicker.
    for _ in 0..3 {
        let request = AddCheckpoint {
            old,
            proof: proof(store, old, size).await?,
            checkpoint: signed.clone(),
        };
        let send = |source: reqwest::Error| AskError::Send {
            url: url.to_owned(),
            source: source.without_url(),
        };
        let answer = client
            .post(&address)
            .body(request.to_string())
            .send()
            .await
            .map_err(send)?;
        let status = answer.status();
        let text = short_text(answer).await.map_err(send)?;
        match status {
            StatusCode::OK => return read(witness, url, signed, &text),
            StatusCode::CONFLICT => {
                let latest = text.trim_end_matches('\n').parse().ok();
                match latest.filter(|latest| *latest != old) {
                    Some(latest) if latest > size => {
                        let url = url.to_owned();
                        return Err(AskError::Ahead { url, latest, size });
                    }
                    Some(latest) => old = latest,
                    None => return Err(refused(url, status, &text)),
                }
            }
            _ => return Err(refused(url, status, &text)),
        }
    }
    Err(refused(url, StatusCode::CONFLICT, "it changes too often"))
}

/// What a witness cosigned last of this log, and who wants to may read: none where it has cosigned nothing.
pub(crate) async fn last(
    client: &Client,
    witness: &Party,
    url: &str,
    origin: &str,
) -> Result<Option<SignedCheckpoint>, AskError> {
    let digest = Hash::of(origin.as_bytes());
    let address = format!("{}/{digest}/checkpoint", url.trim_end_matches('/'));
    let send = |source: reqwest::Error| AskError::Send {
        url: url.to_owned(),
        source: source.without_url(),
    };
    let answer = client.get(&address).send().await.map_err(send)?;
    let status = answer.status();
    let text = short_text(answer).await.map_err(send)?;
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(refused(url, status, &text)),
    }
    let bad = |source| AskError::Answer {
        url: url.to_owned(),
        vkey: witness.key.to_string(),
        source,
    };
    let signed = SignedCheckpoint::parse(text.as_bytes()).map_err(|_| bad(None))?;
    let note = signed.note().verify([&witness.key]);
    note.map_err(|error| bad(Some(error)))?;
    if signed.checkpoint().origin() == origin {
        Ok(Some(signed))
    } else {
        Err(bad(None))
    }
}

async fn proof(store: &Store, old: u64, size: u64) -> Result<Vec<Hash>, AskError> {
    let failed = |source: ProveError| {
        let source = Box::new(source);
        AskError::Prove { old, source }
    };
    if old == 0 {
        return Ok(Vec::new());
    }
    let tree = |error: ProofError| failed(ProveError::Tree(error));
    let recipe = Recipe::consistency(old, size).map_err(tree)?;
    store.stored_proof(&recipe).await.map_err(failed)
}

/// The body as text, of an answer that is as long as one may be.
async fn short_text(mut answer: reqwest::Response) -> Result<String, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > NOTE_BYTES_MAX {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The line by the witness that was asked, checked.
fn read(
    witness: &Party,
    url: &str,
    signed: &SignedCheckpoint,
    text: &str,
) -> Result<Signature, AskError> {
    let key = &witness.key;
    let bad = |source| AskError::Answer {
        url: url.to_owned(),
        vkey: key.to_string(),
        source,
    };
    let line = text
        .lines()
        .filter_map(|line| line.parse::<Signature>().ok())
        .find(|line| line.name() == key.name() && line.key_id() == key.id())
        .ok_or_else(|| bad(None))?;
    let note = ledger::chain::note::Note::new(signed.note().text().to_owned(), vec![line.clone()])
        .map_err(|error| bad(Some(error)))?;
    note.verify([key]).map_err(|error| bad(Some(error)))?;
    Ok(line)
}

fn refused(url: &str, status: StatusCode, text: &str) -> AskError {
    AskError::Refused {
        url: url.to_owned(),
        status,
        text: text
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect(),
    }
}
