//! Filters: `column=operator.value`, `not.`, `or=(..)`, `and=(..)`.

use std::cmp::Ordering;

use super::error;
use super::select::Reference;
use super::table::{Cell, ColumnType, Table};
use crate::http::{Incoming, Reply};

/// A condition on a row.
pub(crate) enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Test { on: Reference, test: Test },
}

/// What a value is tested for.
pub(crate) enum Test {
    Compare(&'static [Ordering], Cell),
    Differs(Cell),
    OneOf(Vec<Cell>),
    IsNull,
    Is(bool),
    Like { pattern: String, fold: bool },
}

/// Parameters that are not filters.
const RESERVED: [&str; 6] = [
    "select",
    "order",
    "limit",
    "offset",
    "columns",
    "on_conflict",
];

fn unparsable(text: &str) -> Reply {
    error(
        400,
        "PGRST100",
        &format!("\"failed to parse filter ({text})\" (line 1, column 1)"),
        Some("unexpected input; expecting \"not\" or operator (eq, gt, ...)"),
        None,
    )
}

impl Condition {
    /// Every filter of a request, joined by AND.
    pub(crate) fn parse(table: &Table, request: &Incoming) -> Result<Self, Reply> {
        let mut all = Vec::new();
        for (name, value) in &request.query {
            if RESERVED.contains(&name.as_str()) {
                continue;
            }
            all.push(match name.as_str() {
                "or" => Self::Any(Self::list(table, value)?),
                "and" => Self::All(Self::list(table, value)?),
                "not.or" => Self::Not(Box::new(Self::Any(Self::list(table, value)?))),
                "not.and" => Self::Not(Box::new(Self::All(Self::list(table, value)?))),
                column => Self::test(table, column, value)?,
            });
        }
        Ok(Self::All(all))
    }

    /// `(a.eq.1,or(b.is.null,c.gt.2))`.
    fn list(table: &Table, text: &str) -> Result<Vec<Self>, Reply> {
        let inner = text
            .strip_prefix('(')
            .and_then(|text| text.strip_suffix(')'))
            .ok_or_else(|| unparsable(text))?;
        split(inner)
            .into_iter()
            .map(|part| {
                let (negated, part) = match part.strip_prefix("not.") {
                    Some(part) if part.starts_with("or(") || part.starts_with("and(") => {
                        (true, part)
                    }
                    _ => (false, part),
                };
                let condition = if let Some(rest) = part.strip_prefix("or")
                    && rest.starts_with('(')
                {
                    Self::Any(Self::list(table, rest)?)
                } else if let Some(rest) = part.strip_prefix("and")
                    && rest.starts_with('(')
                {
                    Self::All(Self::list(table, rest)?)
                } else {
                    let (column, rest) = part.split_once('.').ok_or_else(|| unparsable(part))?;
                    Self::test(table, column, rest)?
                };
                Ok(if negated {
                    Self::Not(Box::new(condition))
                } else {
                    condition
                })
            })
            .collect()
    }

    fn test(table: &Table, column: &str, text: &str) -> Result<Self, Reply> {
        let on = Reference::parse(table, column)?;
        let (negated, rest) = match text.strip_prefix("not.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (operator, value) = rest.split_once('.').ok_or_else(|| unparsable(text))?;
        let kind = if on.is_path() {
            ColumnType::Text
        } else {
            table.columns[on.column()].kind
        };
        let cell = |value: &str| {
            kind.parse(value).ok_or_else(|| {
                let code = match kind {
                    ColumnType::Date | ColumnType::Instant | ColumnType::Local => "22007",
                    _ => "22P02",
                };
                error(
                    400,
                    code,
                    &format!("invalid input syntax for type {}: \"{value}\"", kind.name()),
                    None,
                    None,
                )
            })
        };
        let wanted = match operator {
            "eq" => Test::Compare(&[Ordering::Equal], cell(value)?),
            "neq" => Test::Differs(cell(value)?),
            "gt" => Test::Compare(&[Ordering::Greater], cell(value)?),
            "gte" => Test::Compare(&[Ordering::Greater, Ordering::Equal], cell(value)?),
            "lt" => Test::Compare(&[Ordering::Less], cell(value)?),
            "lte" => Test::Compare(&[Ordering::Less, Ordering::Equal], cell(value)?),
            "in" => {
                let inner = value
                    .strip_prefix('(')
                    .and_then(|value| value.strip_suffix(')'))
                    .ok_or_else(|| unparsable(text))?;
                Test::OneOf(
                    split(inner)
                        .into_iter()
                        .filter(|part| !part.is_empty())
                        .map(|part| cell(unquote(part)))
                        .collect::<Result<_, _>>()?,
                )
            }
            "is" => match value.to_ascii_lowercase().as_str() {
                "null" => Test::IsNull,
                "true" => Test::Is(true),
                "false" => Test::Is(false),
                _ => return Err(unparsable(text)),
            },
            "like" | "ilike" => Test::Like {
                pattern: value.replace('*', "%"),
                fold: operator == "ilike",
            },
            _ => return Err(unparsable(text)),
        };
        let condition = Self::Test { on, test: wanted };
        Ok(if negated {
            Self::Not(Box::new(condition))
        } else {
            condition
        })
    }

    /// Whether there is no filter at all.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::All(all) if all.is_empty())
    }

    /// Whether a row is let through.
    pub(crate) fn holds(&self, row: &[Cell]) -> bool {
        self.truth(row) == Some(true)
    }

    /// SQL's three-valued logic: none is NULL.
    fn truth(&self, row: &[Cell]) -> Option<bool> {
        match self {
            Self::All(all) => {
                let truths: Vec<_> = all.iter().map(|one| one.truth(row)).collect();
                if truths.contains(&Some(false)) {
                    Some(false)
                } else {
                    (!truths.contains(&None)).then_some(true)
                }
            }
            Self::Any(any) => {
                let truths: Vec<_> = any.iter().map(|one| one.truth(row)).collect();
                if truths.contains(&Some(true)) {
                    Some(true)
                } else {
                    (!truths.contains(&None)).then_some(false)
                }
            }
            Self::Not(one) => one.truth(row).map(|truth| !truth),
            Self::Test { on, test } => test.truth(&on.value(row)),
        }
    }
}

impl Test {
    fn truth(&self, value: &Cell) -> Option<bool> {
        match self {
            Self::IsNull => Some(*value == Cell::Null),
            Self::Is(wanted) => Some(*value == Cell::Bool(*wanted)),
            Self::Compare(orders, other) => {
                value.compare(other).map(|order| orders.contains(&order))
            }
            Self::Differs(other) => value.compare(other).map(|order| order != Ordering::Equal),
            Self::OneOf(cells) => {
                if *value == Cell::Null {
                    return None;
                }
                Some(
                    cells
                        .iter()
                        .any(|cell| value.compare(cell) == Some(Ordering::Equal)),
                )
            }
            Self::Like { pattern, fold } => {
                let text = value.cast_text()?;
                Some(if *fold {
                    like(&pattern.to_lowercase(), &text.to_lowercase())
                } else {
                    like(pattern, &text)
                })
            }
        }
    }
}

/// Splits at commas that are outside quotes and parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0_usize, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unquote(text: &str) -> &str {
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}

/// SQL `LIKE` with `%` and `_`.
fn like(pattern: &str, text: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('%') => {
            let rest = chars.as_str();
            std::iter::once(text.len())
                .chain(text.char_indices().map(|(at, _)| at))
                .any(|at| like(rest, &text[at..]))
        }
        Some(c) => {
            let mut rest = text.chars();
            rest.next().is_some_and(|first| c == '_' || c == first)
                && like(chars.as_str(), rest.as_str())
        }
    }
}
