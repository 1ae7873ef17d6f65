//! An endpoint: keys, sessions, conversations.

pub mod contact;
pub mod content;
pub mod conversation;
pub mod gap;

/// Messages generated from `proto/wardline/client/v1`.
pub mod proto {
    #![expect(
        missing_docs,
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated; the .proto files describe every field"
    )]
    include!(concat!(env!("OUT_DIR"), "/wardline.client.v1.rs"));
}
