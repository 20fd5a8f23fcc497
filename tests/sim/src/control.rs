//! `/__sim`: the journal, the truths, the faults and the holds, for tests whose program is another process.

use axum::http::Method;
use serde_json::{Value, json};

use crate::faults::{Fault, FaultId};
use crate::http::{Incoming, Reply};
use crate::server::App;

/// The control interface, on every listener.
pub(crate) async fn answer(app: &App, request: &Incoming) -> Reply {
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    let not_found = || Reply::json(404, &json!({"error": "no such control address"}));
    let id = |text: &str| text.parse().ok().map(FaultId);
    match (&request.method, &path[1..]) {
        (&Method::GET, ["journal"]) => Reply::json(
            200,
            &serde_json::to_value(app.journal.entries()).unwrap_or_default(),
        ),
        (&Method::GET, ["truth"]) => Reply::json(
            200,
            &serde_json::to_value(&app.world.truth).unwrap_or_default(),
        ),
        (&Method::GET, ["faults"]) => {
            let list: Vec<_> = app
                .faults
                .list()
                .into_iter()
                .map(|(id, fault)| json!({"id": id, "fault": fault}))
                .collect();
            Reply::json(200, &Value::from(list))
        }
        (&Method::POST, ["faults"]) => match serde_json::from_slice::<Fault>(&request.body) {
            Ok(fault) => Reply::json(201, &json!({"id": app.faults.add(fault).0})),
            Err(error) => Reply::json(400, &json!({"error": error.to_string()})),
        },
        (&Method::DELETE, ["faults"]) => {
            app.faults.clear();
            Reply::empty(204)
        }
        (&Method::DELETE, ["faults", text]) => match id(text) {
            Some(id) if app.faults.remove(id) => Reply::empty(204),
            _ => not_found(),
        },
        (&Method::GET, ["holds", text]) => match id(text).and_then(|id| app.faults.hold(id)) {
            Some(hold) => {
                if request.param("wait") == Some("true") {
                    tokio::select! {
                        () = hold.reached() => {}
                        () = app.stop.cancelled() => {}
                    }
                }
                Reply::json(200, &json!({"reached": hold.count()}))
            }
            None => not_found(),
        },
        (&Method::POST, ["holds", text, "release"]) => {
            match id(text).and_then(|id| app.faults.hold(id)) {
                Some(hold) => {
                    hold.release();
                    Reply::empty(204)
                }
                None => not_found(),
            }
        }
        _ => not_found(),
    }
}
