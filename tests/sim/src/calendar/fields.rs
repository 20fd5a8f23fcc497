//! Partial responses: `fields=items(id,start/date),nextPageToken`.
//!
//! Source: Google's guide "Working with partial resources". Many clients ask for less than the whole resource; what they then
//! keep is no backup.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{errors, text};
use crate::http::{Incoming, Reply};

/// What is asked for of an object: each name with what is asked for below it; nothing below means all of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mask(BTreeMap<String, Self>);

impl Mask {
    /// Reads a comma-separated list up to its end or a closing parenthesis.
    fn parse(rest: &mut &str) -> Option<Self> {
        let mut mask = Self::default();
        loop {
            mask.parse_path(rest)?;
            match rest.strip_prefix(',') {
                Some(more) => *rest = more,
                None => return Some(mask),
            }
        }
    }

    /// Reads `a`, `a/b` or `a(b,c)`.
    fn parse_path(&mut self, rest: &mut &str) -> Option<()> {
        let end = rest.find([',', '(', ')', '/']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return None;
        }
        *rest = after;
        let below = self.0.entry(name.to_owned()).or_default();
        if let Some(after) = rest.strip_prefix('/') {
            *rest = after;
            return below.parse_path(rest);
        }
        if let Some(after) = rest.strip_prefix('(') {
            *rest = after;
            below.0.extend(Self::parse(rest)?.0);
            *rest = rest.strip_prefix(')')?;
        }
        Some(())
    }

    fn apply(&self, value: Value) -> Value {
        if self.0.is_empty() {
            return value;
        }
        match value {
            Value::Array(items) => items.into_iter().map(|item| self.apply(item)).collect(),
            Value::Object(fields) => {
                let mut kept = Map::new();
                for (name, value) in fields {
                    if let Some(below) = self.0.get(&name).or_else(|| self.0.get("*")) {
                        kept.insert(name, below.apply(value));
                    }
                }
                Value::Object(kept)
            }
            other => other,
        }
    }
}

/// The mask that a request asks for; an error is its refusal.
fn mask(request: &Incoming) -> Result<Option<Mask>, Reply> {
    let Some(text) = request.param("fields") else {
        return Ok(None);
    };
    let mut rest = text;
    match Mask::parse(&mut rest) {
        Some(mask) if rest.is_empty() => Ok(Some(mask)),
        _ => Err(errors::located(
            400,
            "global",
            "invalidParameter",
            &format!("Invalid field selection {text}"),
            Some(("parameter", "fields")),
        )),
    }
}

/// Refuses a malformed mask before anything takes effect.
pub(crate) fn check(request: &Incoming) -> Result<(), Reply> {
    mask(request).map(|_| ())
}

/// The answer cut down to what was asked for.
pub(crate) fn cut(mut reply: Reply, request: &Incoming) -> Reply {
    if let Ok(Some(mask)) = mask(request)
        && let Ok(body) = std::str::from_utf8(&reply.body)
        && let Ok(value) = serde_json::from_str(&text::hide(body))
    {
        reply.body = text::reveal(mask.apply(value).to_string()).into_bytes();
    }
    reply
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cut(mask: &str, value: Value) -> Option<Value> {
        let mut rest = mask;
        let mask = Mask::parse(&mut rest)?;
        rest.is_empty().then(|| mask.apply(value))
    }

    #[test]
    fn masks_keep_what_they_name() {
        let page =
            json!({"kind": "k", "items": [{"id": "a", "start": {"date": "d", "x": 1}, "y": 2}]});
        assert_eq!(
            cut("items(id,start/date)", page.clone()),
            Some(json!({"items": [{"id": "a", "start": {"date": "d"}}]}))
        );
        assert_eq!(
            cut("kind,items/id", page.clone()),
            Some(json!({"kind": "k", "items": [{"id": "a"}]}))
        );
        assert_eq!(cut("*", page.clone()), Some(page.clone()));
        for bad in ["", "items(", "items(id", "a,,b", "items)", "/a"] {
            assert_eq!(cut(bad, page.clone()), None, "{bad}");
        }
    }
}
