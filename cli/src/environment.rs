//! The environment, read once.

use std::collections::BTreeMap;

use ledger::domain::id::Actor;

use crate::exit::Failure;

/// Every variable that `ledger` reads. Values may be secrets: never printed.
#[derive(Clone)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    pub(crate) fn from_process() -> Self {
        Self {
            variables: std::env::vars_os().filter_map(readable).collect(),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(variables: BTreeMap<String, String>) -> Self {
        Self { variables }
    }

    /// A variable; empty counts as not set.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Who acts: `--as`, else `LEDGER_ACTOR`, else the person of the login name.
    pub(crate) fn actor(&self, given: Option<&str>) -> Result<Actor, Failure> {
        if let Some(text) = given.or_else(|| self.get("LEDGER_ACTOR")) {
            let actor =
                if text == "system" || text.starts_with("person:") || text.starts_with("worker:") {
                    text.parse()
                } else {
                    Actor::person(text)
                };
            return actor.map_err(|error| {
                Failure::usage(error)
                    .hint("name yourself with --as NAME or LEDGER_ACTOR=person:NAME")
            });
        }
        let login = self
            .get("LOGNAME")
            .or_else(|| self.get("USER"))
            .unwrap_or("root");
        let name: String = login
            .to_lowercase()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._-".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        Actor::person(&name).map_err(Failure::usage)
    }
}

fn readable((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}
