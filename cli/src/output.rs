//! Everything that is printed: answers to standard output, all else to standard error.

use std::io::{IsTerminal as _, Write as _};

use ledger::domain::printable::{one_line, own_lines};
use serde::Serialize;

use crate::environment::Environment;
use crate::exit::Failure;

/// Prints a line of the answer. It stays one line, whatever others wrote of it.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    exactly(&one_line(&text.to_string()))
}

/// Prints a text of ours that has lines of its own.
pub(crate) fn lines(text: impl std::fmt::Display) -> Result<(), Failure> {
    exactly(&own_lines(&text.to_string()))
}

/// Prints a line for programs: JSON, in which nothing has to be written out.
pub(crate) fn exactly(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(())
}

/// Prints a whole text, as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// Prints one JSON document on a line of its own.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(std::io::Error::from)?;
    exactly(&text)
}

/// One JSON document whose last member is a list that is printed item by item.
pub(crate) struct List {
    first: bool,
    end: &'static str,
}

impl List {
    /// Prints `object` without its end, and the beginning of a member called `name`.
    pub(crate) fn open(object: &str, name: &str) -> Result<Self, Failure> {
        let object = object.strip_suffix('}').unwrap_or(object);
        let comma = if object.ends_with('{') { "" } else { "," };
        write!(std::io::stdout().lock(), "{object}{comma}\"{name}\":[")?;
        Ok(Self {
            first: true,
            end: "]}",
        })
    }

    /// Prints the next item.
    pub(crate) fn push(&mut self, item: &impl Serialize) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        if !std::mem::take(&mut self.first) {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut out, item).map_err(std::io::Error::from)?;
        Ok(())
    }

    /// Ends list and document.
    pub(crate) fn close(self) -> Result<(), Failure> {
        line(self.end)
    }
}

/// Says something to the person, beside the answer. A closed standard error is no reason to fail.
pub(crate) fn note(text: impl std::fmt::Display) {
    let text = text.to_string();
    drop(writeln!(std::io::stderr().lock(), "{}", own_lines(&text)));
}

/// Prints an error: what was tried, what happened, what to do.
pub(crate) fn error(failure: &Failure) {
    note(format_args!("error: {}", failure.error));
    let mut said = failure.error.to_string();
    for cause in failure.error.chain().skip(1).map(ToString::to_string) {
        // Some libraries repeat the cause in their own text.
        if !said.ends_with(&cause) {
            note(format_args!("  caused by: {cause}"));
        }
        said = cause;
    }
    if let Some(hint) = &failure.hint {
        note(format_args!("hint: {hint}"));
    }
}

/// Whether standard error is a person's terminal: only then are there bars and colours.
pub(crate) fn interactive() -> bool {
    std::io::stderr().is_terminal()
}

/// Logs go to standard error, warnings only unless asked for more (`-v`, or `RUST_LOG`).
pub(crate) fn start_logs(verbose: u8, environment: &Environment) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let directives = environment.get("RUST_LOG").unwrap_or(level);
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(directives);
    let colours = interactive() && environment.get("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .init();
}

/// A progress bar on a terminal, and nothing anywhere else.
pub(crate) struct Bar(Option<indicatif::ProgressBar>);

/// Starts a bar over things of this name.
pub(crate) fn bar(what: &'static str) -> Bar {
    if !interactive() {
        return Bar(None);
    }
    let bar = indicatif::ProgressBar::new(0).with_message(what);
    let style = indicatif::ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed}");
    Bar(Some(match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }))
}

impl Bar {
    /// So many of so many are done.
    pub(crate) fn set(&self, done: u64, all: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(all);
            bar.set_position(done);
        }
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
