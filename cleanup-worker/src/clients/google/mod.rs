//! Google: access tokens for v1's users, and their calendars.
//!
//! [`token`] turns a stored refresh token into a [`Session`]; [`CalendarReader`] lists and reads with it; [`CalendarWriter`], which needs a
//! [`WriteTransport`](super::http::WriteTransport), also deletes, inserts and patches.

pub mod calendar;
pub mod error;
pub mod page;
#[cfg(test)]
mod tests;
pub mod token;
mod write;

pub use calendar::{CalendarReader, Fetched, Google, Listing, Pages};
pub use error::{GoogleError, GoogleErrorKind};
pub use page::{Page, RawItem};
pub use token::{OAuthClient, Session, TokenError, TokenErrorKind};
pub use write::{CalendarWriter, ChannelEnd, Written};
