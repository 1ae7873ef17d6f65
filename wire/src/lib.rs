//! What the relay is allowed to see.
//!
//! If something is in this crate, the relay may see it; if it is in
//! `wardline-crypto`, it may not. Here are the frames and envelopes that travel
//! on a socket, prekey bundles, the clinic's directory (issuers, certificates,
//! device lists, revocations, invites) with the checks that every party makes
//! on them, and the problem documents of the HTTP interface. There is no I/O.
//!
//! * [`proto`]: the messages, generated from `proto/`; every field is described there.
//! * [`ids`]: accounts, devices, deployments and other names as types.
//! * [`signed`]: domain-separated Ed25519 signatures over exactly the bytes received.
//! * [`directory`]: from received bytes to verified issuers, certificates, lists.
//! * [`invite`]: invite links, invite ids, proofs and sealed requests' framing.
//! * [`problem`]: RFC 9457 problem documents.
//! * [`clock`]: time as an argument.
//!
//! ```
//! use wardline_wire::{clock::Timestamp, ids::DeploymentId, signed::{SignedBlobExt, SignedKind}};
//! use wardline_wire::proto::SignedBlob;
//! use ed25519_dalek::SigningKey;
//!
//! let deployment = DeploymentId::from([7; 16]);
//! let key = SigningKey::from_bytes(&[1; 32]);
//! let blob = SignedBlob::sign(SignedKind::DeviceList, deployment, b"payload".to_vec(), &key);
//! assert!(blob.verify(SignedKind::DeviceList, deployment, &key.verifying_key()).is_ok());
//! // Neither another type nor another deployment accepts it.
//! assert!(blob.verify(SignedKind::Certificate, deployment, &key.verifying_key()).is_err());
//! # let _ = Timestamp::from_millis(0);
//! ```

pub mod clock;
pub mod directory;
pub mod ids;
pub mod invite;
pub mod limits;
pub mod problem;
pub mod signed;

/// Messages generated from `proto/wardline/wire/v1`.
pub mod proto {
    #![expect(
        missing_docs,
        clippy::pedantic,
        reason = "generated; the .proto files describe every field"
    )]
    include!(concat!(env!("OUT_DIR"), "/wardline.wire.v1.rs"));
}
