//! The two sides of the protocol <https://c2sp.org/tlog-witness>: `POST /add-checkpoint`, and
//! `GET /<hex SHA-256(origin)>/checkpoint` for everybody who wants to compare.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ledger::chain::cosignature::Cosigner;
use ledger::chain::entry::Hash;
use ledger::chain::note::{NOTE_BYTES_MAX, VerifierKey};
use ledger::chain::witness::{AddCheckpoint, Refusal};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::memory::{Memory, MemoryError};

/// A witness of some logs.
#[derive(Debug)]
pub(super) struct Witness {
    logs: Vec<VerifierKey>,
    cosigner: Cosigner,
    /// One request at a time compares and remembers.
    memory: Mutex<Memory>,
}

impl Witness {
    pub(super) fn new(logs: Vec<VerifierKey>, cosigner: Cosigner, memory: Memory) -> Self {
        Self {
            logs,
            cosigner,
            memory: Mutex::new(memory),
        }
    }

    /// The cosignature's line.
    fn cosign(&self, body: &[u8]) -> Result<String, Answer> {
        let request = AddCheckpoint::parse(body)?;
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let last = memory.last(request.checkpoint.checkpoint().origin())?;
        let mut checkpoint = request.judge(&self.logs, last.map(|(seen, _)| seen))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_err(|_| Answer::Clock)?.as_secs();
        let line = self.cosigner.cosign(checkpoint.note().text(), now);
        let text = format!("{line}\n");
        checkpoint.add(line).map_err(Refusal::Checkpoint)?;
        memory.remember(&checkpoint)?;
        Ok(text)
    }

    fn last(&self, digest: &str) -> Result<Option<String>, MemoryError> {
        let is_asked = |key: &&VerifierKey| Hash::of(key.name().as_bytes()).to_string() == digest;
        let Some(log) = self.logs.iter().find(is_asked) else {
            return Ok(None);
        };
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(memory.last(log.name())?.map(|(_, text)| text))
    }
}

/// What is answered instead of a cosignature.
enum Answer {
    Refused(Refusal),
    Memory(MemoryError),
    Clock,
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<MemoryError> for Answer {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(Refusal::Stale { latest }) => (
                StatusCode::CONFLICT,
                [(header::CONTENT_TYPE, "text/x.tlog.size")],
                format!("{latest}\n"),
            )
                .into_response(),
            Self::Refused(refusal) => {
                let status = StatusCode::from_u16(refusal.status());
                let status = status.unwrap_or(StatusCode::BAD_REQUEST);
                (status, format!("{refusal}\n")).into_response()
            }
            // Paths are the operator's business, not the log's.
            Self::Memory(error) => {
                tracing::error!(error = %anyhow::Error::from(error), "the witness cannot remember");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
            Self::Clock => {
                tracing::error!("the clock stands before 1970");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Bytes) -> Response {
    let worked = tokio::task::spawn_blocking(move || witness.cosign(&body)).await;
    match worked {
        Ok(Ok(line)) => line.into_response(),
        Ok(Err(answer)) => answer.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn checkpoint(State(witness): State<Arc<Witness>>, Path(digest): Path<String>) -> Response {
    let read = tokio::task::spawn_blocking(move || witness.last(&digest)).await;
    match read {
        Ok(Ok(Some(text))) => text.into_response(),
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        Ok(Err(error)) => Answer::Memory(error).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Answers until SIGTERM or Ctrl-C; requests that were begun are answered.
pub(super) async fn serve(listener: TcpListener, witness: Witness) -> io::Result<()> {
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{digest}/checkpoint", get(checkpoint))
        .layer(DefaultBodyLimit::max(NOTE_BYTES_MAX + 8 * 1024))
        .with_state(Arc::new(witness));
    let mut terminated = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    };
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}
