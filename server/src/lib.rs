//! The relay: it stores prekey bundles and opaque ciphertexts, and nothing else.
//!
//! It depends on `wardline-wire` and never on the crates that hold keys or read
//! content: that it cannot read is visible in its `Cargo.toml`.
//!
//! * [`config`]: one TOML file. [`init`] writes a first one, with keys.
//! * [`Relay`]: opens the database, listens, serves, stops.
//! * `router`: every route in one table; `routes/<resource>/<verb>.rs` is one endpoint.
//! * `auth`: log-in, tokens, and who may do what (`auth/matrix.rs`).
//! * `socket/`: one file a frame; `hub` knows who is connected.
//! * `mailbox`: group commit; `mailbox/plan.rs` decides, `store/` is SQL.
//!
//! The contract is in `wire/proto` and `docs/openapi.json`.

mod app;
mod auth;
mod body;
pub mod config;
mod directory;
mod entropy;
pub mod healthcheck;
mod hub;
pub mod init;
pub mod inspect;
mod mailbox;
mod openapi;
mod problem;
mod rate_limit;
mod router;
mod routes;
mod serve;
mod socket;
mod store;
pub mod telemetry;
#[cfg(test)]
mod testing;

pub use app::{Relay, StartError, raise_epoch};
pub use openapi::document as openapi_document;
