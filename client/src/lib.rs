//! An endpoint: keys, sessions, conversations.

mod actor;
pub mod api;
mod connection;
pub mod contact;
pub mod content;
pub mod conversation;
mod devices;
mod directory;
mod enrol;
pub mod gap;
mod introductions;
mod invites;
mod jobs;
mod membership;
mod notice;
mod outbox;
mod prekeys;
mod profile;
mod random;
mod receive;
mod relay;
mod retry;
mod send;
mod session;
mod store;
mod sync;
pub mod transport;
mod turn;
mod upkeep;

/// Messages generated from `proto/wardline/client/v1`.
pub mod proto {
    #![expect(
        missing_docs,
        clippy::pedantic,
        reason = "generated; the .proto files describe every field"
    )]
    include!(concat!(env!("OUT_DIR"), "/wardline.client.v1.rs"));
}
