//! Any program as an executor: it speaks the six verbs as JSON, one object a line, over its standard input and output.
//!
//! `docs/executor-protocol.md` is the whole contract. `wire.rs` has the lines and refuses every other shape, `process.rs` runs the
//! program under time limits, `declaration.rs` is what it says about itself, `inventory.rs` its candidates, `place.rs` the verbs on one place;
//! `tie.rs` ends it with us.
//!
//! Invariant: what the program does wrong (it dies, hangs, writes something else) is an error about one request and never an answer. Of
//! a deletion that was asked for and not answered nobody knows whether it happened, and so it says that.

mod declaration;
mod error;
mod executor;
mod inventory;
mod place;
mod process;
mod tie;
mod wire;

pub use self::declaration::Declaration;
pub use self::error::{CommandError, Trouble};
pub use self::executor::{CommandExecutor, CommandTold};
pub use self::process::Program;
pub use self::tie::main_if_asked;
pub use self::wire::{BYTES_MAX, LINE_MAX};
