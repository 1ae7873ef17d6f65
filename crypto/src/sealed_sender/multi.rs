//! The form for many recipients, version 2 (spec §5.5): one ciphertext, and for each recipient 48
//! bytes that give its key away to that recipient alone.
//!
//! [`seal_multi`] makes the *sent* form, which names the recipients to the server that fans it out;
//! [`SentMessage`] is that server's view of it and yields the *received* form, which
//! [`open`](super::open) reads.

use std::collections::HashMap;

use aes_gcm_siv::{Aes256GcmSiv, KeyInit, Nonce, aead::Aead};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;

use super::{OpenError, content::SealedContent};
use crate::{
    address::{DeviceId, ServiceId, ServiceIdKind},
    curve::{InvalidKeyAgreement, KeyPair, PreparedKey, PrivateKey, PublicKey},
    identity::{IdentityKey, IdentityKeyPair},
    kdf,
    secret::Secret,
    varint::{put_varint, take_varint},
};

/// The largest registration id that fits the sent form.
pub const MAX_REGISTRATION_ID: u32 = 0x3FFF;

const RECEIVED: u8 = 0x22;
const SENT: u8 = 0x23;

const LABEL_R: &[u8] = b"Sealed Sender v2: r (2023-08)";
const LABEL_K: &[u8] = b"Sealed Sender v2: K";
const LABEL_DH: &[u8] = b"Sealed Sender v2: DH";
const LABEL_DH_SENDER: &[u8] = b"Sealed Sender v2: DH-sender";

/// What a recipient gets of its own: the encrypted message key and its authentication.
const KEY_MATERIAL_LEN: usize = 32 + 16;

/// An account to seal for. Its devices share one identity key.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// The account.
    pub service_id: ServiceId,
    /// The identity key of its devices.
    pub identity: &'a IdentityKey,
    /// Its devices with their registration ids; at least one.
    pub devices: &'a [(DeviceId, u32)],
}

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealMultiError {
    /// A recipient's identity key has small order.
    #[error(transparent)]
    KeyAgreement(#[from] InvalidKeyAgreement),
    /// A recipient has no devices. To name an account that must *not* get the message, exclude it.
    #[error("recipient {} has no devices", .0.to_name())]
    NoDevices(ServiceId),
    /// A registration id does not fit into 14 bits. Ask the recipient's device to register anew.
    #[error("registration id {id} of {} is over {MAX_REGISTRATION_ID}", .account.to_name())]
    RegistrationId {
        /// The recipient.
        account: ServiceId,
        /// The registration id of one of its devices.
        id: u32,
    },
}

/// Seals a message once for all recipients, in the sent form. `excluded` names accounts that the
/// server must not expect among the recipients. Draws 32 bytes.
///
/// # Errors
///
/// See [`SealMultiError`].
pub fn seal_multi(
    content: &SealedContent,
    sender: &IdentityKeyPair,
    recipients: &[Recipient<'_>],
    excluded: &[ServiceId],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Vec<u8>, SealMultiError> {
    let message_key = Secret::<32>::random(rng);
    let keys = DerivedKeys::new(&message_key);
    let ciphertext = keys.encrypt(content.as_bytes());

    let count = recipients.len() + excluded.len();
    let mut bytes = Vec::with_capacity(64 + 80 * count + ciphertext.len());
    bytes.push(SENT);
    put_varint(&mut bytes, count as u64);
    for recipient in recipients {
        bytes.extend_from_slice(&recipient.service_id.fixed_width());
        put_devices(&mut bytes, recipient)?;
        let (encrypted_key, tag) =
            key_material(&message_key, &keys.ephemeral, sender, recipient.identity)?;
        bytes.extend_from_slice(&encrypted_key);
        bytes.extend_from_slice(&tag);
    }
    for excluded in excluded {
        bytes.extend_from_slice(&excluded.fixed_width());
        bytes.push(0);
    }
    bytes.extend_from_slice(keys.ephemeral.public().u());
    bytes.extend_from_slice(&ciphertext);
    Ok(bytes)
}

fn put_devices(bytes: &mut Vec<u8>, recipient: &Recipient<'_>) -> Result<(), SealMultiError> {
    let last = recipient.devices.len().checked_sub(1);
    let last = last.ok_or(SealMultiError::NoDevices(recipient.service_id))?;
    for (number, (device, registration_id)) in recipient.devices.iter().enumerate() {
        let id = u16::try_from(*registration_id)
            .ok()
            .filter(|id| u32::from(*id) <= MAX_REGISTRATION_ID)
            .ok_or(SealMultiError::RegistrationId {
                account: recipient.service_id,
                id: *registration_id,
            })?;
        let more = if number < last { MORE_DEVICES } else { 0 };
        bytes.push(device.get());
        bytes.extend_from_slice(&(id | more).to_be_bytes());
    }
    Ok(())
}

/// Set beside a registration id when another device follows.
const MORE_DEVICES: u16 = 0x8000;

/// `C` and `AT` for one recipient.
fn key_material(
    message_key: &Secret<32>,
    ephemeral: &KeyPair,
    sender: &IdentityKeyPair,
    recipient: &IdentityKey,
) -> Result<([u8; 32], [u8; 16]), InvalidKeyAgreement> {
    let peer = PreparedKey::from(recipient.public_key());
    let shared = ephemeral.private().agree_prepared(&peer)?;
    let encrypted =
        *apply_agreement(message_key, &shared, ephemeral.public(), recipient).as_bytes();
    let shared = sender.private_key().agree_prepared(&peer)?;
    let sender = sender.identity_key();
    let tag = authentication_tag(&shared, ephemeral.public(), &encrypted, &sender, recipient);
    Ok((encrypted, *tag.as_bytes()))
}

/// Encrypts or decrypts the message key: XOR with a key from `DH(E, R)`.
fn apply_agreement(
    key: &Secret<32>,
    shared: &Secret<32>,
    ephemeral: &PublicKey,
    recipient: &IdentityKey,
) -> Secret<32> {
    let mut ikm = zeroize::Zeroizing::new(Vec::with_capacity(32 + 33 + 33));
    ikm.extend_from_slice(shared.as_bytes());
    ikm.extend_from_slice(ephemeral.as_bytes());
    ikm.extend_from_slice(recipient.as_bytes());
    let mut result: Secret<32> = kdf::hkdf(&[0; 32], &ikm, &[LABEL_DH]);
    for (byte, key) in result.as_mut_bytes().iter_mut().zip(key.as_bytes()) {
        *byte ^= key;
    }
    result
}

/// What only the two identities can compute.
fn authentication_tag(
    shared: &Secret<32>,
    ephemeral: &PublicKey,
    encrypted_key: &[u8; 32],
    sender: &IdentityKey,
    recipient: &IdentityKey,
) -> Secret<16> {
    let mut ikm = zeroize::Zeroizing::new(Vec::with_capacity(32 + 33 + 32 + 33 + 33));
    ikm.extend_from_slice(shared.as_bytes());
    ikm.extend_from_slice(ephemeral.as_bytes());
    ikm.extend_from_slice(encrypted_key);
    ikm.extend_from_slice(sender.as_bytes());
    ikm.extend_from_slice(recipient.as_bytes());
    kdf::hkdf(&[0; 32], &ikm, &[LABEL_DH_SENDER])
}

/// What follows from the message key: the ephemeral key pair and the cipher key.
struct DerivedKeys {
    ephemeral: KeyPair,
    cipher_key: Secret<32>,
}

impl DerivedKeys {
    fn new(message_key: &Secret<32>) -> Self {
        let private: Secret<32> = kdf::hkdf(&[0; 32], message_key.as_bytes(), &[LABEL_R]);
        let cipher_key = kdf::hkdf(&[0; 32], message_key.as_bytes(), &[LABEL_K]);
        #[expect(clippy::expect_used, reason = "a private key is 32 bytes")]
        let private = PrivateKey::decode(private.as_bytes()).expect("32 bytes");
        Self {
            ephemeral: private.into(),
            cipher_key,
        }
    }

    fn cipher(&self) -> Aes256GcmSiv {
        Aes256GcmSiv::new(self.cipher_key.as_bytes().into())
    }

    /// AES-256-GCM-SIV with a zero nonce: no key is used twice.
    #[expect(
        clippy::expect_used,
        reason = "fails beyond 64 GiB only, which no message reaches"
    )]
    fn encrypt(&self, plaintext: &[u8]) -> Vec<u8> {
        self.cipher()
            .encrypt(&Nonce::default(), plaintext)
            .expect("within the cipher's limit")
    }

    fn decrypt(&self, ciphertext: &[u8]) -> Option<Vec<u8>> {
        self.cipher().decrypt(&Nonce::default(), ciphertext).ok()
    }
}

/// Opens what follows the version byte of the received form.
pub(super) fn open(body: &[u8], recipient: &IdentityKeyPair) -> Result<SealedContent, OpenError> {
    let (encrypted_key, rest) = body.split_first_chunk::<32>().ok_or(OpenError::Malformed)?;
    let (tag, rest) = rest.split_first_chunk::<16>().ok_or(OpenError::Malformed)?;
    let (ephemeral, ciphertext) = rest.split_first_chunk::<32>().ok_or(OpenError::Malformed)?;
    let ephemeral = PublicKey::from_u(ephemeral);
    let ours = recipient.identity_key();

    let shared = recipient.private_key().agree(&ephemeral)?;
    let encrypted = Secret::new(*encrypted_key);
    let keys = DerivedKeys::new(&apply_agreement(&encrypted, &shared, &ephemeral, &ours));
    if *keys.ephemeral.public() != ephemeral {
        return Err(OpenError::NotAuthentic);
    }
    let content = keys.decrypt(ciphertext).ok_or(OpenError::NotAuthentic)?;
    let content = SealedContent::decode(&content)?;

    let sender = content.sender_certificate().claims().identity;
    let shared = recipient.private_key().agree(sender.public_key())?;
    let expected = authentication_tag(&shared, &ephemeral, encrypted_key, &sender, &ours);
    if bool::from(expected.as_bytes().ct_eq(tag)) {
        Ok(content)
    } else {
        Err(OpenError::SenderMismatch)
    }
}

/// The sent form, as the server that fans it out reads it. Borrows the bytes.
#[derive(Debug, Clone)]
pub struct SentMessage<'a> {
    recipients: Vec<SentRecipient<'a>>,
    /// Ephemeral key and ciphertext, the same for everyone.
    shared: &'a [u8],
}

/// An account named in a sent message.
#[derive(Debug, Clone)]
pub struct SentRecipient<'a> {
    service_id: ServiceId,
    devices: Vec<(DeviceId, u16)>,
    /// Present unless the account is excluded.
    key_material: Option<&'a [u8; KEY_MATERIAL_LEN]>,
}

impl SentRecipient<'_> {
    /// The account.
    pub fn service_id(&self) -> ServiceId {
        self.service_id
    }

    /// Its devices with their registration ids; none if it is excluded.
    pub fn devices(&self) -> &[(DeviceId, u16)] {
        &self.devices
    }

    /// Whether the account must *not* get the message.
    pub fn is_excluded(&self) -> bool {
        self.key_material.is_none()
    }
}

/// Why bytes are not a sent message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SentMessageError {
    /// Another form.
    #[error("sent message version {0:#04x} is not known")]
    UnknownVersion(u8),
    /// Cut short, or not this format.
    #[error("malformed sent message")]
    Malformed,
    /// An account appears twice, once of them excluded.
    #[error("{} is listed both as recipient and as excluded", .0.to_name())]
    Contradiction(ServiceId),
}

impl<'a> SentMessage<'a> {
    /// Reads the sent form, the current one or the older one with bare UUIDs.
    ///
    /// # Errors
    ///
    /// See [`SentMessageError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SentMessageError> {
        let (&version, mut rest) = bytes.split_first().ok_or(SentMessageError::Malformed)?;
        if !matches!(version, SENT | RECEIVED) {
            return Err(SentMessageError::UnknownVersion(version));
        }
        let count = take_varint(&mut rest).ok_or(SentMessageError::Malformed)?;
        // An entry takes at least 17 bytes, so a false count reserves nothing and ends soon.
        let mut recipients: Vec<SentRecipient<'a>> = Vec::new();
        let mut positions: HashMap<ServiceId, usize> = HashMap::new();
        for _ in 0..count {
            let entry = take_recipient(&mut rest, version).ok_or(SentMessageError::Malformed)?;
            let known = positions
                .get(&entry.service_id)
                .and_then(|at| recipients.get_mut(*at));
            match known {
                None => {
                    positions.insert(entry.service_id, recipients.len());
                    recipients.push(entry);
                }
                Some(known) if known.is_excluded() || entry.is_excluded() => {
                    return Err(SentMessageError::Contradiction(entry.service_id));
                }
                Some(known) => known.devices.extend(entry.devices),
            }
        }
        if rest.len() < 32 {
            return Err(SentMessageError::Malformed);
        }
        Ok(Self {
            recipients,
            shared: rest,
        })
    }

    /// All accounts named, the excluded ones among them, each once.
    pub fn recipients(&self) -> &[SentRecipient<'a>] {
        &self.recipients
    }

    /// The received form for one account's devices; `None` if it is excluded.
    pub fn received_form(&self, recipient: &SentRecipient<'_>) -> Option<Vec<u8>> {
        let key_material = recipient.key_material?;
        Some([&[RECEIVED], key_material.as_slice(), self.shared].concat())
    }
}

fn take_recipient<'a>(rest: &mut &'a [u8], version: u8) -> Option<SentRecipient<'a>> {
    let service_id = if version == SENT {
        ServiceId::from_fixed_width(take(rest)?)?
    } else {
        ServiceId {
            kind: ServiceIdKind::Aci,
            uuid: uuid::Uuid::from_bytes(*take(rest)?),
        }
    };
    let mut devices = Vec::new();
    loop {
        let [device] = *take(rest)?;
        if device == 0 {
            // Only in place of the first device: the account is excluded.
            let excluded = SentRecipient {
                service_id,
                devices,
                key_material: None,
            };
            return excluded.devices.is_empty().then_some(excluded);
        }
        let bits = u16::from_be_bytes(*take(rest)?);
        devices.push((DeviceId::new(device.into()).ok()?, bits & 0x3FFF));
        if bits & MORE_DEVICES == 0 {
            return Some(SentRecipient {
                service_id,
                devices,
                key_material: Some(take(rest)?),
            });
        }
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(taken)
}
