//! The one row that says who this device is.

use ed25519_dalek::{SigningKey, VerifyingKey};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wardline_crypto::curve::PrivateKey;
use wardline_crypto::identity::IdentityKeyPair;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{TrustAnchor, role_from_wire};
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress};
use wardline_wire::invite::InviteSecret;
use wardline_wire::proto::Role;
use zeroize::Zeroizing;

use super::{
    StoreError, account_of, array_of, device_of, millis, optional_array_of, u32_of, u64_of,
};

/// Where this device stands with the clinic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnState {
    /// Keys exist; the relay may or may not know of them.
    Enrolling,
    /// A second device that waits for the primary's grant.
    Linking,
    /// The relay knows us; the issuer has not decided yet.
    Pending,
    /// Certified.
    Active,
    /// The issuer refused.
    Rejected,
    /// The account or this device was revoked.
    Revoked,
}

impl OwnState {
    const fn text(self) -> &'static str {
        match self {
            Self::Enrolling => "enrolling",
            Self::Linking => "linking",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
        }
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        [
            Self::Enrolling,
            Self::Linking,
            Self::Pending,
            Self::Active,
            Self::Rejected,
            Self::Revoked,
        ]
        .into_iter()
        .find(|state| state.text() == text)
        .ok_or(StoreError::Damaged("own state"))
    }
}

/// The invite a device came by.
#[derive(Clone)]
pub(crate) struct CameBy {
    pub(crate) secret: InviteSecret,
    pub(crate) inviter: Option<AccountId>,
    pub(crate) inviter_key_sha256: Option<[u8; 32]>,
    pub(crate) inviter_access_key: Option<[u8; 16]>,
}

/// Who this device is, with its private keys. Never printed.
#[derive(Clone)]
pub(crate) struct Own {
    pub(crate) state: OwnState,
    pub(crate) deployment: DeploymentId,
    pub(crate) relay_url: String,
    pub(crate) relay_key_sha256: Option<[u8; 32]>,
    pub(crate) root_fingerprint: [u8; 32],
    pub(crate) root_key: Option<[u8; 32]>,
    pub(crate) address: DeviceAddress,
    pub(crate) role: Role,
    pub(crate) registration_id: u32,
    pub(crate) identity: IdentityKeyPair,
    pub(crate) device_key: SigningKey,
    pub(crate) account_key: Option<SigningKey>,
    pub(crate) local_key: Zeroizing<[u8; 32]>,
    pub(crate) access_key: [u8; 16],
    pub(crate) name: String,
    pub(crate) name_version: u64,
    pub(crate) came_by: Option<CameBy>,
    pub(crate) hello_queued: bool,
    pub(crate) mailbox_epoch: u64,
    pub(crate) created_at: Timestamp,
}

impl Own {
    /// The pinned root, once it was seen.
    pub(crate) fn anchor(&self) -> Option<TrustAnchor> {
        let root = VerifyingKey::from_bytes(&self.root_key?).ok()?;
        Some(TrustAnchor::new(self.deployment, root))
    }

    /// Whether this device may sign device lists.
    pub(crate) fn is_primary(&self) -> bool {
        self.account_key.is_some()
    }
}

pub(crate) async fn load(db: &mut SqliteConnection) -> Result<Option<Own>, StoreError> {
    let row = sqlx::query("SELECT * FROM own").fetch_optional(db).await?;
    row.map(|row| read(&row)).transpose()
}

fn read(row: &SqliteRow) -> Result<Own, StoreError> {
    let damaged = StoreError::Damaged("own keys");
    let identity = Zeroizing::new(array_of::<32>(row, "identity_key")?);
    let identity = PrivateKey::decode(identity.as_slice()).map_err(|_| damaged)?;
    let device_key = Zeroizing::new(array_of::<32>(row, "device_key")?);
    let account_key = optional_array_of::<32>(row, "account_key")?.map(Zeroizing::new);
    let came_by = optional_array_of::<32>(row, "invite_secret")?
        .map(|secret| {
            let inviter: Option<&[u8]> = row.try_get("inviter")?;
            Ok::<_, StoreError>(CameBy {
                secret: InviteSecret::new(secret),
                inviter: inviter
                    .map(AccountId::from_slice)
                    .transpose()
                    .map_err(|_| StoreError::Damaged("inviter"))?,
                inviter_key_sha256: optional_array_of(row, "inviter_key_sha256")?,
                inviter_access_key: optional_array_of(row, "inviter_access_key")?,
            })
        })
        .transpose()?;
    let role: i64 = row.try_get("role")?;
    Ok(Own {
        state: OwnState::read(row.try_get("state")?)?,
        deployment: DeploymentId::from(array_of::<16>(row, "deployment")?),
        relay_url: row.try_get("relay_url")?,
        relay_key_sha256: optional_array_of(row, "relay_key_sha256")?,
        root_fingerprint: array_of(row, "root_fingerprint")?,
        root_key: optional_array_of(row, "root_key")?,
        address: DeviceAddress {
            account: account_of(row, "account")?,
            device: device_of(row, "device")?,
        },
        role: i32::try_from(role)
            .ok()
            .and_then(role_from_wire)
            .ok_or(StoreError::Damaged("own role"))?,
        registration_id: u32_of(row, "registration_id")?,
        identity: IdentityKeyPair::from(identity),
        device_key: SigningKey::from_bytes(&device_key),
        account_key: account_key.map(|key| SigningKey::from_bytes(&key)),
        local_key: Zeroizing::new(array_of(row, "local_key")?),
        access_key: array_of(row, "access_key")?,
        name: row.try_get("name")?,
        name_version: u64_of(row, "name_version")?,
        came_by,
        hello_queued: row.try_get("hello_queued")?,
        mailbox_epoch: u64_of(row, "mailbox_epoch")?,
        created_at: super::time_of(row, "created_at")?,
    })
}

/// Writes the whole row.
pub(crate) async fn save(db: &mut SqliteConnection, own: &Own) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO own (id, state, deployment, relay_url, relay_key_sha256,
            root_fingerprint, root_key, account, device, role, registration_id, identity_key,
            device_key, account_key, local_key, access_key, name, name_version, invite_secret,
            inviter, inviter_key_sha256, inviter_access_key, hello_queued, mailbox_epoch, created_at)
         VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(own.state.text())
    .bind(own.deployment.to_vec())
    .bind(&own.relay_url)
    .bind(own.relay_key_sha256.map(Vec::from))
    .bind(own.root_fingerprint.as_slice())
    .bind(own.root_key.map(Vec::from))
    .bind(own.address.account.to_vec())
    .bind(i64::from(own.address.device.get()))
    .bind(i64::from(own.role as i32))
    .bind(i64::from(own.registration_id))
    .bind(own.identity.private_key().as_bytes().as_slice())
    .bind(own.device_key.as_bytes().as_slice())
    .bind(own.account_key.as_ref().map(|key| key.as_bytes().as_slice()))
    .bind(own.local_key.as_slice())
    .bind(own.access_key.as_slice())
    .bind(&own.name)
    .bind(super::signed(own.name_version))
    .bind(own.came_by.as_ref().map(|by| by.secret.expose().as_slice()))
    .bind(own.came_by.as_ref().and_then(|by| by.inviter).map(|id| id.to_vec()))
    .bind(own.came_by.as_ref().and_then(|by| by.inviter_key_sha256).map(Vec::from))
    .bind(own.came_by.as_ref().and_then(|by| by.inviter_access_key).map(Vec::from))
    .bind(own.hello_queued)
    .bind(super::signed(own.mailbox_epoch))
    .bind(millis(own.created_at))
    .execute(db)
    .await?;
    Ok(())
}
