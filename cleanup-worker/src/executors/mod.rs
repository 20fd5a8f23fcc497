//! One module per kind of item that a migration retires.

pub mod calendar;
