//! The Signal protocol and nothing else.
//!
//! No I/O, no async, no clock: time and randomness are arguments, bytes and keys go in, values
//! come out. Wire-compatible with the official libsignal: every session is PQXDH followed by the
//! elliptic-curve double ratchet and the post-quantum ratchet side by side.
//!
//! # Map
//!
//! | module | what it does | what it does not know |
//! | --- | --- | --- |
//! | [`secret`], [`curve`], [`kem`] | key material, X25519 and XEdDSA, Kyber-1024 and ML-KEM-768 | protocols |
//! | [`address`], [`identity`], [`prekey`] | who, under which key, reachable through which prekeys | sessions |
//! | `pqxdh` | the first secrets of two devices | ratchets |
//! | `ratchet::double`, [`spqr`], `ratchet::triple` | message keys | sessions, storage |
//! | [`message`] | what travels, as bytes | whether it is genuine |
//! | [`sender_key`] | one encryption for a group | who is in it |
//! | [`sealed_sender`] | hiding the sender from the carrier; sender certificates | sessions |
//! | [`plaintext_content`], [`fingerprint`] | decryption-error messages, safety numbers | the rest |
//! | [`session`] | [`SessionRecord`](session::SessionRecord): encrypt, decrypt, which session is in use | stores, prekey lookups |
//!
//! # How to use it
//!
//! Records are values. Load one, call one method, and store it again in the same transaction as
//! whatever else the message changed; when a method fails, the record is as it was before. Store
//! before a ciphertext leaves and before an arrival is acknowledged.
//!
//! ```
//! use rand_core::UnwrapErr;
//! use wardline_crypto::{
//!     address::{DeviceAddress, DeviceId},
//!     identity::{IdentityKeyPair, LocalIdentity},
//!     message::{MessageType, PreKeyMessage, SignalMessage},
//!     prekey::{KyberPreKey, OneTimePreKey, PreKeyBundle, PreKeyMaterial, SignedPreKey},
//!     session::{Parties, SessionRecord, Trust},
//!     timestamp::Timestamp,
//! };
//!
//! let mut rng = UnwrapErr(getrandom::SysRng);
//! let now = Timestamp::from_millis(1_800_000_000_000);
//! let mut device = |name: &str, id| LocalIdentity {
//!     key_pair: IdentityKeyPair::generate(&mut rng),
//!     registration_id: 4711,
//!     address: DeviceAddress::new(name, DeviceId::new(id).unwrap()),
//! };
//! let alice = device("7e1a0c1e-8a2b-4b57-9f0b-0d6c3f7b1c11", 1);
//! let bob = device("5b0a3df4-11d4-4c7e-8f55-3f9a3c1d2e22", 2);
//!
//! // Bob makes prekeys, keeps the private records and leaves the public halves with the relay.
//! let signed = SignedPreKey::generate(1.into(), &bob.key_pair, now, &mut rng);
//! let kyber = KyberPreKey::generate(1.into(), &bob.key_pair, now, &mut rng);
//! let one_time = OneTimePreKey::generate(1.into(), &mut rng);
//! let bundle = PreKeyBundle {
//!     registration_id: bob.registration_id,
//!     device: bob.address.device,
//!     identity: bob.key_pair.identity_key(),
//!     signed: signed.public(),
//!     kyber: kyber.public(),
//!     one_time: Some(one_time.public()),
//! };
//!
//! // Alice fetches the bundle. Whose identity key it holds she knows from elsewhere: Bob's
//! // verified device list.
//! let parties = Parties {
//!     local: &alice,
//!     remote: &bob.address,
//!     trusted: Trust::Only(bob.key_pair.identity_key()),
//! };
//! let mut alices_record = SessionRecord::new();
//! alices_record.initiate(&parties, &bundle.verify()?, now, &mut rng)?;
//! let sent = alices_record.encrypt(&parties, b"Good morning", now, &mut rng)?;
//! assert_eq!(sent.message_type, MessageType::PreKey);
//! let stored = alices_record.encode(); // commit this, then send
//!
//! // Bob has no session with Alice yet, so he looks up the prekeys that the message names.
//! let parties = Parties {
//!     local: &bob,
//!     remote: &alice.address,
//!     trusted: Trust::Only(alice.key_pair.identity_key()),
//! };
//! let mut bobs_record = SessionRecord::new();
//! let message = PreKeyMessage::decode(&sent.bytes)?;
//! assert_eq!(message.one_time_id(), Some(one_time.id()));
//! let prekeys = (!bobs_record.knows(&message)).then_some(PreKeyMaterial {
//!     signed: &signed,
//!     kyber: &kyber,
//!     one_time: Some(&one_time),
//! });
//! let decrypted = bobs_record.decrypt_prekey(&parties, &message, prekeys, &mut rng)?;
//! assert_eq!(decrypted.plaintext, b"Good morning");
//! assert!(decrypted.used.is_some()); // delete the one-time prekeys in the same transaction
//!
//! // The answer is an ordinary message, and with it the session is complete.
//! let sent = bobs_record.encrypt(&parties, b"Good morning to you", now, &mut rng)?;
//! assert_eq!(sent.message_type, MessageType::Signal);
//!
//! let parties = Parties {
//!     local: &alice,
//!     remote: &bob.address,
//!     trusted: Trust::Only(bob.key_pair.identity_key()),
//! };
//! let mut alices_record = SessionRecord::decode(&stored)?;
//! let message = SignalMessage::decode(&sent.bytes)?;
//! let decrypted = alices_record.decrypt(&parties, &message, &mut rng)?;
//! assert_eq!(decrypted.plaintext, b"Good morning to you");
//! assert!(!alices_record.is_pending());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(missing_docs)]

pub mod address;
mod codec;
pub mod curve;
pub mod fingerprint;
pub mod identity;
mod kdf;
pub mod kem;
pub mod message;
pub mod plaintext_content;
mod pqxdh;
pub mod prekey;
mod ratchet;
pub mod sealed_sender;
pub mod secret;
pub mod sender_key;
pub mod session;
mod skipped;
pub mod spqr;
pub mod timestamp;
mod varint;

pub use codec::StoredRecordError;

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
