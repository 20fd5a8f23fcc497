//! PostgreSQL: the only place with SQL.

pub mod embedded;
