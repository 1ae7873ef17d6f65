//! Sessions with remote devices: between the store, the wire's types and `wardline-crypto`.
//!
//! Which devices exist and which identity keys they have is decided by verified device lists;
//! this file trusts what its caller took from one, and nothing that a message or bundle claims.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use wardline_crypto::address::{DeviceAddress as CryptoAddress, DeviceId as CryptoDeviceId};
use wardline_crypto::curve::PublicKey;
use wardline_crypto::identity::{IdentityKey, LocalIdentity};
use wardline_crypto::kem;
use wardline_crypto::message::{MessageType, PreKeyMessage, SignalMessage};
use wardline_crypto::prekey::{
    KyberPreKey, KyberPreKeyPublic, OneTimePreKey, OneTimePreKeyPublic, PreKeyBundle,
    PreKeyMaterial, SignedPreKey, SignedPreKeyPublic,
};
use wardline_crypto::session::{DecryptError, Parties, SessionRecord, Trust};
use wardline_crypto::timestamp::Timestamp as CryptoTimestamp;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::ListedDevice;
use wardline_wire::ids::{AccountId, DeviceAddress};
use wardline_wire::proto::{CiphertextType, DeviceBundle, DeviceCiphertext};
use zeroize::Zeroizing;

use crate::random;
use crate::store::own::Own;
use crate::store::{StoreError, prekeys, sessions};
use crate::turn::Turn;

/// How `crypto` names a device: the account's UUID in lower case, and the device's number.
fn crypto_address(address: DeviceAddress) -> Result<CryptoAddress, StoreError> {
    let device = CryptoDeviceId::new(u32::from(address.device))
        .map_err(|_| StoreError::Damaged("a device id"))?;
    Ok(CryptoAddress::new(address.account.to_string(), device))
}

fn crypto_time(time: Timestamp) -> CryptoTimestamp {
    CryptoTimestamp::from_millis(time.as_millis())
}

/// This device as `crypto` sees it.
pub(crate) fn local_identity(own: &Own) -> Result<LocalIdentity, StoreError> {
    Ok(LocalIdentity {
        key_pair: own.identity.clone(),
        registration_id: own.registration_id,
        address: crypto_address(own.address)?,
    })
}

async fn load(turn: &mut Turn<'_>, address: DeviceAddress) -> Result<SessionRecord, StoreError> {
    match sessions::load(turn.db, address).await? {
        Some(stored) => SessionRecord::decode(&stored.record)
            .map_err(|_| StoreError::Damaged("a session record")),
        None => Ok(SessionRecord::new()),
    }
}

async fn save(
    turn: &mut Turn<'_>,
    address: DeviceAddress,
    identity: &[u8; 33],
    record: &SessionRecord,
) -> Result<(), StoreError> {
    sessions::save(turn.db, address, identity, &record.encode()).await
}

/// Whether something can be encrypted to this device right now.
pub(crate) async fn is_usable(
    turn: &mut Turn<'_>,
    account: AccountId,
    device: &ListedDevice,
) -> Result<bool, StoreError> {
    let address = DeviceAddress {
        account,
        device: device.id,
    };
    let record = load(turn, address).await?;
    Ok(record.has_usable_current(crypto_time(turn.now))
        && record
            .remote_identity()
            .is_some_and(|identity| *identity.as_bytes() == device.identity_key))
}

/// Encrypts for a listed device; `None` when there is no session to use.
pub(crate) async fn encrypt(
    turn: &mut Turn<'_>,
    account: AccountId,
    device: &ListedDevice,
    plaintext: &[u8],
) -> Result<Option<DeviceCiphertext>, StoreError> {
    let address = DeviceAddress {
        account,
        device: device.id,
    };
    let Ok(trusted) = IdentityKey::decode(&device.identity_key) else {
        return Ok(None);
    };
    let mut record = load(turn, address).await?;
    let identity = turn.identity.clone();
    let parties = Parties {
        local: &identity.local,
        remote: &crypto_address(address)?,
        trusted: Trust::Only(trusted),
    };
    let now = crypto_time(turn.now);
    let Ok(message) = record.encrypt(&parties, plaintext, now, &mut random::system()) else {
        return Ok(None);
    };
    save(turn, address, &device.identity_key, &record).await?;
    let kind = match message.message_type {
        MessageType::PreKey => CiphertextType::Prekey,
        _ => CiphertextType::Signal,
    };
    Ok(Some(DeviceCiphertext {
        device_id: device.id.into(),
        registration_id: device.registration_id,
        r#type: kind.into(),
        ciphertext: Bytes::from(message.bytes),
    }))
}

/// Why a bundle was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BundleFault {
    /// A key or signature has a wrong form.
    #[error("the relay's prekey bundle cannot be read")]
    Malformed,
    /// The identity key or registration id is not the listed one: the relay tried a swap.
    #[error("the relay answered with another identity key than the signed device list names")]
    OtherIdentity,
    /// The device's identity key did not sign these prekeys.
    #[error("the prekeys in the relay's bundle are not signed by the device")]
    Signature,
}

/// Starts a session with a listed device from the bundle that the relay handed out.
pub(crate) async fn initiate(
    turn: &mut Turn<'_>,
    account: AccountId,
    device: &ListedDevice,
    bundle: &DeviceBundle,
) -> Result<Result<(), BundleFault>, StoreError> {
    let address = DeviceAddress {
        account,
        device: device.id,
    };
    if bundle.identity_key != device.identity_key
        || bundle.registration_id != device.registration_id
        || bundle.device_id != u32::from(device.id)
    {
        return Ok(Err(BundleFault::OtherIdentity));
    }
    let Some(bundle) = convert_bundle(bundle) else {
        return Ok(Err(BundleFault::Malformed));
    };
    let trusted = bundle.identity;
    let Ok(bundle) = bundle.verify() else {
        return Ok(Err(BundleFault::Signature));
    };
    let mut record = load(turn, address).await?;
    let identity = turn.identity.clone();
    let parties = Parties {
        local: &identity.local,
        remote: &crypto_address(address)?,
        trusted: Trust::Only(trusted),
    };
    let now = crypto_time(turn.now);
    if record
        .initiate(&parties, &bundle, now, &mut random::system())
        .is_err()
    {
        return Ok(Err(BundleFault::Malformed));
    }
    save(turn, address, &device.identity_key, &record).await?;
    Ok(Ok(()))
}

fn convert_bundle(bundle: &DeviceBundle) -> Option<PreKeyBundle> {
    let signed = bundle.signed_prekey.as_ref()?;
    let kyber = bundle.kyber_prekey.as_ref()?;
    let one_time = match &bundle.one_time_prekey {
        Some(prekey) => Some(OneTimePreKeyPublic {
            id: prekey.id.into(),
            key: PublicKey::decode(&prekey.public_key).ok()?,
        }),
        None => None,
    };
    Some(PreKeyBundle {
        registration_id: bundle.registration_id,
        device: CryptoDeviceId::new(bundle.device_id).ok()?,
        identity: IdentityKey::decode(&bundle.identity_key).ok()?,
        signed: SignedPreKeyPublic {
            id: signed.id.into(),
            key: PublicKey::decode(&signed.public_key).ok()?,
            signature: signed.signature.as_slice().try_into().ok()?,
        },
        kyber: KyberPreKeyPublic {
            id: kyber.id.into(),
            key: kem::PublicKey::decode(&kyber.public_key).ok()?,
            signature: kyber.signature.as_slice().try_into().ok()?,
        },
        one_time,
    })
}

/// Why an envelope did not open. Nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecryptFault {
    /// It was opened before.
    Duplicate,
    /// It is not a message at all.
    Malformed,
    /// It claims an identity key that the sender's verified list does not name.
    OtherIdentity,
    /// No session opens it; a fresh one would help.
    CannotDecrypt,
    /// A handshake on the last-resort prekey that was made before.
    ReusedBaseKey,
}

/// Opens an envelope of a listed device. On success the new ratchet state and the use of prekeys
/// are part of the turn.
pub(crate) async fn decrypt(
    turn: &mut Turn<'_>,
    account: AccountId,
    device: &ListedDevice,
    kind: CiphertextType,
    ciphertext: &[u8],
) -> Result<Result<Zeroizing<Vec<u8>>, DecryptFault>, StoreError> {
    let address = DeviceAddress {
        account,
        device: device.id,
    };
    let Ok(trusted) = IdentityKey::decode(&device.identity_key) else {
        return Ok(Err(DecryptFault::Malformed));
    };
    let mut record = load(turn, address).await?;
    let identity = turn.identity.clone();
    let remote = crypto_address(address)?;
    let parties = Parties {
        local: &identity.local,
        remote: &remote,
        trusted: Trust::Only(trusted),
    };
    let rng = &mut random::system();
    let opened = match kind {
        CiphertextType::Signal => {
            let Ok(message) = SignalMessage::decode(ciphertext) else {
                return Ok(Err(DecryptFault::Malformed));
            };
            record.decrypt(&parties, &message, rng)
        }
        CiphertextType::Prekey => {
            let Ok(message) = PreKeyMessage::decode(ciphertext) else {
                return Ok(Err(DecryptFault::Malformed));
            };
            let held = if record.knows(&message) {
                None
            } else {
                held_prekeys(turn, &message).await?
            };
            let material = held.as_ref().map(|held| PreKeyMaterial {
                signed: &held.signed,
                kyber: &held.kyber,
                one_time: held.one_time.as_ref(),
            });
            record.decrypt_prekey(&parties, &message, material, rng)
        }
        CiphertextType::Unspecified => return Ok(Err(DecryptFault::Malformed)),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(DecryptError::Duplicated { .. }) => return Ok(Err(DecryptFault::Duplicate)),
        Err(DecryptError::UntrustedIdentity(_)) => return Ok(Err(DecryptFault::OtherIdentity)),
        Err(DecryptError::Stored(_)) => return Err(StoreError::Damaged("an archived session")),
        Err(_) => return Ok(Err(DecryptFault::CannotDecrypt)),
    };
    let plaintext = Zeroizing::new(opened.plaintext);
    if let Some(used) = opened.used {
        let kyber_id = used.kyber_id.0;
        if prekeys::load(turn.db, prekeys::Kind::OneTimeKyber, kyber_id)
            .await?
            .is_some()
        {
            prekeys::delete(turn.db, prekeys::Kind::OneTimeKyber, kyber_id).await?;
        } else {
            let base_key = Sha256::digest(used.base_key.as_bytes()).into();
            if !prekeys::use_base_key(turn.db, kyber_id, used.signed_id.0, &base_key).await? {
                return Ok(Err(DecryptFault::ReusedBaseKey));
            }
        }
        if let Some(id) = used.one_time_id {
            prekeys::delete(turn.db, prekeys::Kind::OneTime, id.0).await?;
        }
    }
    save(turn, address, &device.identity_key, &record).await?;
    Ok(Ok(plaintext))
}

struct HeldPreKeys {
    signed: SignedPreKey,
    kyber: KyberPreKey,
    one_time: Option<OneTimePreKey>,
}

/// The private prekeys that a message names, if we hold them all.
async fn held_prekeys(
    turn: &mut Turn<'_>,
    message: &PreKeyMessage,
) -> Result<Option<HeldPreKeys>, StoreError> {
    let damaged = |_| StoreError::Damaged("a prekey");
    let kyber_id = message.kyber_id().0;
    let Some(signed) = prekeys::load(turn.db, prekeys::Kind::Signed, message.signed_id().0).await?
    else {
        return Ok(None);
    };
    let kyber = match prekeys::load(turn.db, prekeys::Kind::OneTimeKyber, kyber_id).await? {
        Some(kyber) => Some(kyber),
        None => prekeys::load(turn.db, prekeys::Kind::LastResortKyber, kyber_id).await?,
    };
    let Some(kyber) = kyber else {
        return Ok(None);
    };
    let one_time = match message.one_time_id() {
        Some(id) => match prekeys::load(turn.db, prekeys::Kind::OneTime, id.0).await? {
            Some(record) => Some(OneTimePreKey::decode(&record).map_err(damaged)?),
            None => return Ok(None),
        },
        None => None,
    };
    Ok(Some(HeldPreKeys {
        signed: SignedPreKey::decode(&signed).map_err(damaged)?,
        kyber: KyberPreKey::decode(&kyber).map_err(damaged)?,
        one_time,
    }))
}

/// Retires the session with a device, so that the next message needs a fresh one.
pub(crate) async fn archive(turn: &mut Turn<'_>, address: DeviceAddress) -> Result<(), StoreError> {
    if let Some(stored) = sessions::load(turn.db, address).await? {
        let mut record = SessionRecord::decode(&stored.record)
            .map_err(|_| StoreError::Damaged("a session record"))?;
        record.archive_current();
        sessions::save(turn.db, address, &stored.identity_key, &record.encode()).await?;
    }
    Ok(())
}
