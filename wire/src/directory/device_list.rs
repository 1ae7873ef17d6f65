//! Device lists: which devices speak for an account.

use std::collections::BTreeSet;

use ed25519_dalek::VerifyingKey;
use prost::Message as _;

use crate::clock::Timestamp;
use crate::ids::{AccountId, DeploymentId, DeviceId, PayloadHash};
use crate::limits::{
    CLOCK_TOLERANCE_MS, DEVICE_LIST_VALIDITY_MS, MAX_DEVICES, MAX_REGISTRATION_ID,
};
use crate::proto::{DeviceList, SignedBlob};
use crate::signed::{SignatureError, SignedBlobExt as _, SignedKind};

/// Why a device list is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceListError {
    /// Not signed by the account key.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The payload cannot be read, or a field is not valid.
    #[error("the device list cannot be read")]
    Malformed,
    /// It is about another account.
    #[error("the relay answered with somebody else's device list")]
    OtherAccount,
    /// Older than the list already known.
    #[error("the relay shows an old device list (version {offered}, version {known} is known)")]
    RolledBack {
        /// Version already known.
        known: u64,
        /// Version offered.
        offered: u64,
    },
    /// The same version with other content: somebody signs two truths.
    #[error(
        "two different device lists carry version {version}; the account's key may be in wrong hands. \
         Stop, and speak to the person by another way"
    )]
    Equivocated {
        /// The version that exists twice.
        version: u64,
    },
    /// The next version does not build on the known one.
    #[error("the device list does not build on the one that is known")]
    NotASuccessor,
}

/// A device on a verified list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDevice {
    /// Its number on the account.
    pub id: DeviceId,
    /// Curve25519 identity key, 33 bytes, type byte first.
    pub identity_key: [u8; 33],
    /// 1..=16383.
    pub registration_id: u32,
    /// Ed25519 key with which it logs in and signs operations.
    pub device_key: VerifyingKey,
    /// When it was added.
    pub added_at: Timestamp,
}

/// A device list that its account key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedDeviceList {
    account: AccountId,
    version: u64,
    hash: PayloadHash,
    prev_hash: Option<PayloadHash>,
    issued_at: Timestamp,
    expires_at: Timestamp,
    devices: Vec<ListedDevice>,
    next_device_id: u32,
}

impl VerifiedDeviceList {
    /// Checks signature and form: ascending unique ids below `next_device_id`,
    /// no key twice, key lengths and kinds, at most [`MAX_DEVICES`], good for at most
    /// [`DEVICE_LIST_VALIDITY_MS`]. Expiry is asked separately, because an expired
    /// list blocks first contact only.
    ///
    /// # Errors
    /// [`DeviceListError`], one variant a check.
    pub fn verify(
        blob: &SignedBlob,
        account: AccountId,
        account_key: &VerifyingKey,
        deployment: DeploymentId,
    ) -> Result<Self, DeviceListError> {
        let bad = DeviceListError::Malformed;
        let payload = blob.verify(SignedKind::DeviceList, deployment, account_key)?;
        let list = DeviceList::decode(payload).map_err(|_| bad)?;
        if AccountId::from_slice(&list.account_id).map_err(|_| bad)? != account {
            return Err(DeviceListError::OtherAccount);
        }
        let prev_hash = match (list.version, list.prev_hash.as_slice()) {
            (1, []) => None,
            (0 | 1, _) => return Err(bad),
            (_, hash) => Some(PayloadHash::from_slice(hash).map_err(|_| bad)?),
        };
        let good_for = list.expires_at_ms.checked_sub(list.issued_at_ms);
        if list.devices.is_empty()
            || list.devices.len() > MAX_DEVICES
            || good_for.is_none_or(|millis| millis > DEVICE_LIST_VALIDITY_MS)
        {
            return Err(bad);
        }
        let devices = list
            .devices
            .iter()
            .map(parse_device)
            .collect::<Option<Vec<_>>>()
            .ok_or(bad)?;
        let ascending = devices
            .iter()
            .zip(devices.iter().skip(1))
            .all(|(a, b)| a.id < b.id);
        let below_next = devices
            .iter()
            .all(|device| u32::from(device.id) < list.next_device_id);
        let identities: BTreeSet<_> = devices.iter().map(|device| device.identity_key).collect();
        let logins: BTreeSet<_> = devices
            .iter()
            .map(|device| device.device_key.to_bytes())
            .collect();
        let no_key_twice = identities.len() == devices.len() && logins.len() == devices.len();
        if !ascending || !below_next || list.next_device_id > 128 || !no_key_twice {
            return Err(bad);
        }
        Ok(Self {
            account,
            version: list.version,
            hash: blob.payload_hash(),
            prev_hash,
            issued_at: Timestamp::from_millis(list.issued_at_ms),
            expires_at: Timestamp::from_millis(list.expires_at_ms),
            devices,
            next_device_id: list.next_device_id,
        })
    }

    /// Whether this list may take the place of `known`: not older, not another
    /// list of the same version, not giving a removed device's id out again, and
    /// linked by hash when it is the very next.
    ///
    /// # Errors
    /// [`DeviceListError::RolledBack`], [`DeviceListError::Equivocated`] or
    /// [`DeviceListError::NotASuccessor`].
    pub fn check_replaces(&self, known: &Self) -> Result<(), DeviceListError> {
        if self.account != known.account {
            return Err(DeviceListError::OtherAccount);
        }
        if self.version < known.version {
            return Err(DeviceListError::RolledBack {
                known: known.version,
                offered: self.version,
            });
        }
        if self.version == known.version {
            return if self.hash == known.hash {
                Ok(())
            } else {
                Err(DeviceListError::Equivocated {
                    version: self.version,
                })
            };
        }
        let linked = self.version > known.version + 1 || self.prev_hash == Some(known.hash);
        // An id below the known counter belongs to a device that is known, or to one that is gone.
        let no_ghosts = self.devices.iter().all(|device| {
            u32::from(device.id) >= known.next_device_id
                || known.device(device.id).is_some_and(|old| {
                    old.identity_key == device.identity_key && old.device_key == device.device_key
                })
        });
        if linked && no_ghosts && self.next_device_id >= known.next_device_id {
            Ok(())
        } else {
            Err(DeviceListError::NotASuccessor)
        }
    }

    /// Whether it is past its expiry at `now` (with 24 h of tolerance).
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.expires_at.plus_millis(CLOCK_TOLERANCE_MS)
    }

    /// The device with this id, if it is on the list.
    pub fn device(&self, id: DeviceId) -> Option<&ListedDevice> {
        self.devices.iter().find(|device| device.id == id)
    }

    /// Whose devices they are.
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// From 1, one more with every list.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// SHA-256 of the payload.
    pub const fn hash(&self) -> PayloadHash {
        self.hash
    }

    /// Hash of the list before; `None` for version 1.
    pub const fn prev_hash(&self) -> Option<PayloadHash> {
        self.prev_hash
    }

    /// When it was signed.
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// When it expires.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Current devices, ascending by id; never empty.
    pub fn devices(&self) -> &[ListedDevice] {
        &self.devices
    }

    /// The next id to give out.
    pub const fn next_device_id(&self) -> u32 {
        self.next_device_id
    }
}

fn parse_device(device: &crate::proto::Device) -> Option<ListedDevice> {
    let identity_key: [u8; 33] = device.identity_key.as_slice().try_into().ok()?;
    let device_key: [u8; 32] = device.device_key.as_slice().try_into().ok()?;
    if identity_key.first() != Some(&0x05)
        || !(1..=MAX_REGISTRATION_ID).contains(&device.registration_id)
    {
        return None;
    }
    Some(ListedDevice {
        id: DeviceId::new(device.id).ok()?,
        identity_key,
        registration_id: device.registration_id,
        device_key: VerifyingKey::from_bytes(&device_key).ok()?,
        added_at: Timestamp::from_millis(device.added_at_ms),
    })
}
