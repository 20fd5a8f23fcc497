//! Strict simulators of the outside services, over real HTTP on loopback.
//!
//! Data flows: a [`WorldSpec`] makes a [`World`] (pure, from one seed) → [`SimServers::start`] serves it → each request
//! passes the faults ([`faults`]), takes effect on the state, and leaves one line in the journal ([`journal`]) → a test asks the
//! [`Sim`] what really happened and compares that with the world's [`Truth`].
//!
//! *Strict* means: what the real service would refuse is refused here, with its status and its body. The crate knows
//! nothing of the program under test.
//!
//! To add a service: a variant of [`Service`] and of [`Call`], a module whose `answer` maps a request to a
//! [`reply`](http::Reply), and one arm in `server.rs`.

pub mod calendar;
pub mod clock;
mod control;
pub mod convex;
mod dice;
pub mod faults;
pub mod fernet;
pub mod google_oauth;
pub mod http;
pub mod journal;
pub mod server;
mod sim;
pub mod supabase;
#[cfg(test)]
mod tests;
mod wire;
pub mod world;

pub use convex::ConvexConfig;
pub use faults::{Fault, FaultId, FaultKind, Hold, HoldPoint, Occurrence};
pub use http::{Call, Service};
pub use journal::JournalEntry;
pub use server::{SimConfig, SimServers};
pub use sim::{Comparison, EventKey, Sim};
pub use supabase::Writes;
pub use world::{Class, Disposition, Truth, UsersTable, World, WorldSpec};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose data stays usable when a holder panicked: a failing test still wants its journal.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
