//! Small servers and a clock for the tests of the clients.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

use super::retry::Timing;
use crate::config::WorkerConfig;

/// A server on a loopback port, stopped when dropped.
pub(crate) struct Server {
    base: Url,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(router: axum::Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a loopback port");
        let base = base(&listener);
        let task = tokio::spawn(async move {
            axum::serve(listener, router)
                .await
                .expect("serve until the test ends");
        });
        Self { base, task }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        self.base.join(path).expect("a path")
    }

    /// Stops listening; the address stays for a caller who wants to be refused.
    pub(crate) async fn stop(mut self) -> Url {
        self.task.abort();
        // An aborted task ends in an error; what matters is that its socket is closed.
        drop((&mut self.task).await);
        self.base.clone()
    }

    /// A configuration in which this server is every service, but v2's.
    pub(crate) fn config(&self) -> WorkerConfig {
        let get = |name: &str| {
            Some(match name {
                name if name.starts_with("CONVEX_") => return None,
                "SUPABASE_URL" => self.base.to_string(),
                "SUPABASE_KEY" => "sb_secret_made-up".to_owned(),
                "ENCRYPTION_KEY" => "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
                "GOOGLE_OAUTH_TOKEN_URL" => self.url("/token").to_string(),
                "GOOGLE_CALENDAR_API_URL" => self.url("/calendar/v3").to_string(),
                "GOOGLE_CLIENT_ID" => "client-id".to_owned(),
                _ => "client-secret".to_owned(),
            })
        };
        WorkerConfig::from_env(&get).expect("a good configuration")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn base(listener: &TcpListener) -> Url {
    let address = listener.local_addr().expect("a bound socket");
    Url::parse(&format!("http://{address}/")).expect("a loopback URL")
}

/// A server that answers the bytes `answer` gives for a path and closes; `None` never answers.
pub(crate) async fn raw_server(
    answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a loopback port");
    let base = base(&listener);
    let task = tokio::spawn(async move {
        let mut stalled = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.expect("a request head"));
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            match answer(head.split(' ').nth(1).unwrap_or_default()) {
                Some(bytes) => socket.write_all(&bytes).await.expect("write the answer"),
                None => stalled.push(socket),
            }
        }
    });
    Server { base, task }
}

/// A clock that moves only when somebody sleeps, and remembers every sleep.
#[derive(Default)]
pub(crate) struct TestTiming {
    elapsed: AtomicU64,
    sleeps: Mutex<Vec<Duration>>,
}

impl TestTiming {
    pub(crate) fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).expect("a short time");
        self.elapsed.fetch_add(millis, Ordering::SeqCst);
    }

    pub(crate) fn sleeps(&self) -> Vec<Duration> {
        self.sleeps.lock().expect("no test panics here").clone()
    }
}

impl Timing for TestTiming {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.sleeps.lock().expect("no test panics here").push(time);
        self.advance(time);
        Box::pin(std::future::ready(()))
    }

    fn jitter(&self) -> Duration {
        Duration::from_millis(500)
    }
}
