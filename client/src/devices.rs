//! The account's own devices: the list that the primary signs, linking, revoking.
//!
//! Linking takes two codes, carried by the user: the new device shows a *request* (its public
//! keys), the primary answers with a *grant* (account, device number, where the relay is). No
//! private key travels. The request is bound to the grant, so a grant fits only the device that
//! asked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use prost::Message;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::role_from_wire;
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress, DeviceId};
use wardline_wire::limits::{DEVICE_LIST_VALIDITY_MS, MAX_DEVICES, MAX_REGISTRATION_ID};
use wardline_wire::proto::{CertificateChain, Device, DeviceList, SignedBlob};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use crate::api::ClientError;
use crate::directory;
use crate::enrol::NewKeys;
use crate::notice::Notification;
use crate::store::StoreError;
use crate::store::accounts::{self, Account, Relation};
use crate::store::own::{self, Own, OwnState};
use crate::turn::{Call, Turn};

/// A list is signed anew after a week of its thirty days.
const RENEW_AFTER_MS: u64 = 7 * 24 * 3_600_000;
/// How the codes begin.
const REQUEST_PREFIX: &str = "wardline:link/";
const GRANT_PREFIX: &str = "wardline:grant/";
const MAX_CODE_BYTES: usize = 16 * 1024;

/// What a device that wants to be linked says of itself. Public.
#[derive(Clone, PartialEq, Eq, Message)]
struct LinkRequest {
    #[prost(bytes = "vec", tag = "1")]
    identity_key: Vec<u8>,
    #[prost(uint32, tag = "2")]
    registration_id: u32,
    #[prost(bytes = "vec", tag = "3")]
    device_key: Vec<u8>,
    /// By the device key over the fields above: the asker holds it.
    #[prost(bytes = "vec", tag = "4")]
    signature: Vec<u8>,
}

/// What the primary answers. Holds the account's access key: to be carried like a password.
#[derive(Clone, PartialEq, Eq, Message)]
struct LinkGrant {
    /// SHA-256 of the request it answers.
    #[prost(bytes = "vec", tag = "1")]
    request_sha256: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    deployment_id: Vec<u8>,
    #[prost(string, tag = "3")]
    relay_url: String,
    #[prost(bytes = "vec", tag = "4")]
    relay_key_sha256: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    root_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    account_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    account_key: Vec<u8>,
    #[prost(uint32, tag = "8")]
    device_id: u32,
    #[prost(int32, tag = "9")]
    role: i32,
    #[prost(bytes = "vec", tag = "10")]
    access_key: Vec<u8>,
    /// Encoded `SignedBlob` "device-list".
    #[prost(bytes = "vec", tag = "11")]
    device_list: Vec<u8>,
    #[prost(string, tag = "12")]
    name: String,
    #[prost(uint64, tag = "13")]
    name_version: u64,
}

fn to_code(prefix: &str, message: &impl Message) -> String {
    let mut bytes = message.encode_to_vec();
    let check: [u8; 32] = Sha256::digest(&bytes).into();
    bytes.extend(check.iter().take(4));
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(&bytes))
}

fn from_code<M: Message + Default>(prefix: &str, code: &str) -> Result<M, ClientError> {
    let text = code
        .trim()
        .strip_prefix(prefix)
        .filter(|text| text.len() <= MAX_CODE_BYTES)
        .ok_or(ClientError::LinkCode)?;
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| ClientError::LinkCode)?;
    let (body, check) = bytes.split_last_chunk::<4>().ok_or(ClientError::LinkCode)?;
    let digest: [u8; 32] = Sha256::digest(body).into();
    if !digest.starts_with(check) {
        return Err(ClientError::LinkCode);
    }
    M::decode(body).map_err(|_| ClientError::LinkCode)
}

impl LinkRequest {
    fn signed_bytes(&self) -> Vec<u8> {
        let unsigned = Self {
            signature: Vec::new(),
            ..self.clone()
        };
        [
            b"wardline/link-request/v1\0".as_slice(),
            &unsigned.encode_to_vec(),
        ]
        .concat()
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.encode_to_vec()).into()
    }
}

/// Makes the keys of a device to be linked, commits them, and returns its code. Run again, it
/// gives the same code.
pub(crate) async fn request(
    db: &mut SqliteConnection,
    now: Timestamp,
) -> Result<String, ClientError> {
    if let Some(own) = own::load(db).await? {
        return if own.state == OwnState::Linking && own.root_key.is_none() {
            Ok(request_of(&own))
        } else {
            Err(ClientError::Enrol(
                crate::enrol::EnrolError::AlreadyEnrolled,
            ))
        };
    }
    let keys = NewKeys::generate();
    // Where it belongs is not known yet; the grant says.
    let own = Own {
        state: OwnState::Linking,
        deployment: DeploymentId::from([0; 16]),
        relay_url: String::new(),
        relay_key_sha256: None,
        root_fingerprint: [0; 32],
        root_key: None,
        address: DeviceAddress {
            account: AccountId::from([0; 16]),
            device: DeviceId::FIRST,
        },
        role: wardline_wire::proto::Role::Patient,
        registration_id: keys.registration_id,
        identity: keys.identity,
        device_key: keys.device_key,
        account_key: None,
        local_key: keys.local_key,
        access_key: [0; 16],
        name: String::new(),
        name_version: 0,
        came_by: None,
        hello_queued: true,
        mailbox_epoch: 0,
        created_at: now,
    };
    own::save(db, &own).await?;
    Ok(request_of(&own))
}

fn request_of(own: &Own) -> String {
    to_code(REQUEST_PREFIX, &request_message(own))
}

fn request_message(own: &Own) -> LinkRequest {
    let mut request = LinkRequest {
        identity_key: own.identity.identity_key().as_bytes().to_vec(),
        registration_id: own.registration_id,
        device_key: own.device_key.verifying_key().to_bytes().to_vec(),
        signature: Vec::new(),
    };
    request.signature = own
        .device_key
        .sign(&request.signed_bytes())
        .to_bytes()
        .to_vec();
    request
}

/// On the primary: puts the asking device on the list and returns the grant. The caller publishes
/// the list before it shows the grant.
pub(crate) async fn approve(
    turn: &mut Turn<'_>,
    code: &str,
) -> Result<(SignedBlob, String), ClientError> {
    let identity = turn.identity.clone();
    let own = &identity.own;
    if own.state != OwnState::Active {
        return Err(ClientError::NotCertified);
    }
    let request: LinkRequest = from_code(REQUEST_PREFIX, code)?;
    let key = <[u8; 32]>::try_from(request.device_key.as_slice())
        .ok()
        .and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok())
        .ok_or(ClientError::LinkCode)?;
    let signature = Signature::from_slice(&request.signature).map_err(|_| ClientError::LinkCode)?;
    key.verify_strict(&request.signed_bytes(), &signature)
        .map_err(|_| ClientError::LinkCode)?;
    if request.identity_key.len() != 33
        || !(1..=MAX_REGISTRATION_ID).contains(&request.registration_id)
    {
        return Err(ClientError::LinkCode);
    }
    let (stored, current) = own_list(turn).await?;
    let listed = current
        .devices
        .iter()
        .find(|device| device.identity_key == request.identity_key);
    let (list, device_id) = if let Some(device) = listed {
        // Approved before: the same grant again.
        (stored.device_list.clone(), device.id)
    } else {
        if current.devices.len() >= MAX_DEVICES {
            return Err(ClientError::Invalid(
                "the account has ten devices already; remove one first",
            ));
        }
        let device_id = current.next_device_id;
        DeviceId::new(device_id)
            .map_err(|_| ClientError::Invalid("the account has used up its device numbers"))?;
        let mut devices = current.devices.clone();
        devices.push(Device {
            id: device_id,
            identity_key: request.identity_key.clone(),
            registration_id: request.registration_id,
            device_key: request.device_key.clone(),
            added_at_ms: turn.now.as_millis(),
        });
        let list = sign_list(turn, &stored, &current, devices, device_id + 1).await?;
        (list, device_id)
    };
    let grant = LinkGrant {
        request_sha256: request.hash().to_vec(),
        deployment_id: own.deployment.to_vec(),
        relay_url: own.relay_url.clone(),
        relay_key_sha256: own.relay_key_sha256.map(Vec::from).unwrap_or_default(),
        root_key: own.root_key.map(Vec::from).unwrap_or_default(),
        account_id: own.address.account.to_vec(),
        account_key: stored.account_key.to_vec(),
        device_id,
        role: own.role.into(),
        access_key: own.access_key.to_vec(),
        device_list: list.encode_to_vec(),
        name: own.name.clone(),
        name_version: own.name_version,
    };
    Ok((list, to_code(GRANT_PREFIX, &grant)))
}

/// On the new device: takes the grant and becomes a device of the account.
pub(crate) async fn complete(
    db: &mut SqliteConnection,
    code: &str,
    now: Timestamp,
) -> Result<Own, ClientError> {
    let Some(mut own) = own::load(db).await? else {
        return Err(ClientError::NotEnrolled);
    };
    let grant: LinkGrant = from_code(GRANT_PREFIX, code)?;
    let bad = || ClientError::LinkCode;
    if own.state != OwnState::Linking || grant.request_sha256 != request_message(&own).hash() {
        return Err(bad());
    }
    let array = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| ClientError::LinkCode);
    let root_key = array(&grant.root_key)?;
    let account_key = array(&grant.account_key)?;
    own.deployment = DeploymentId::from_slice(&grant.deployment_id).map_err(|_| bad())?;
    own.relay_url.clone_from(&grant.relay_url);
    own.relay_key_sha256 = match grant.relay_key_sha256.as_slice() {
        [] => None,
        bytes => Some(array(bytes)?),
    };
    own.root_fingerprint = Sha256::digest(root_key).into();
    own.root_key = Some(root_key);
    own.address = DeviceAddress {
        account: AccountId::from_slice(&grant.account_id).map_err(|_| bad())?,
        device: DeviceId::new(grant.device_id).map_err(|_| bad())?,
    };
    own.role = role_from_wire(grant.role).ok_or_else(bad)?;
    own.access_key = grant.access_key.as_slice().try_into().map_err(|_| bad())?;
    own.name = grant.name;
    own.name_version = grant.name_version;
    let list = SignedBlob::decode(grant.device_list.as_slice()).map_err(|_| bad())?;
    let key = VerifyingKey::from_bytes(&account_key).map_err(|_| bad())?;
    let verified = wardline_wire::directory::VerifiedDeviceList::verify(
        &list,
        own.address.account,
        &key,
        own.deployment,
    )
    .map_err(|_| bad())?;
    let device = verified.device(own.address.device).ok_or_else(bad)?;
    if device.identity_key != *own.identity.identity_key().as_bytes()
        || device.device_key != own.device_key.verifying_key()
    {
        return Err(bad());
    }
    own::save(db, &own).await?;
    // The account key from the grant is pinned; the certificate follows from the relay.
    let account = Account {
        account: own.address.account,
        account_key,
        role: own.role,
        handle: None,
        display_name: None,
        certificate: CertificateChain::default(),
        list_version: verified.version(),
        device_list: list,
        access_key: None,
        profile_name: None,
        profile_version: 0,
        profile_told: 0,
        label: None,
        relation: Relation::Own,
        verified: false,
        change_pending: false,
        contact: None,
        halted: None,
        fetched_at: now,
        first_seen_at: now,
    };
    accounts::save(db, &account).await?;
    Ok(own)
}

/// The stored own account with its list, decoded.
async fn own_list(turn: &mut Turn<'_>) -> Result<(Account, DeviceList), ClientError> {
    let own = turn.own_account();
    let stored = accounts::load(turn.db, own)
        .await?
        .ok_or(ClientError::NotCertified)?;
    let list = DeviceList::decode(stored.device_list.payload.as_slice())
        .map_err(|_| StoreError::Damaged("the own device list"))?;
    Ok((stored, list))
}

/// Signs and stores the next list.
async fn sign_list(
    turn: &mut Turn<'_>,
    stored: &Account,
    current: &DeviceList,
    devices: Vec<Device>,
    next_device_id: u32,
) -> Result<SignedBlob, ClientError> {
    let identity = turn.identity.clone();
    let key: &SigningKey = identity
        .own
        .account_key
        .as_ref()
        .ok_or(ClientError::NotPrimary)?;
    let list = DeviceList {
        account_id: stored.account.to_vec(),
        version: current.version + 1,
        prev_hash: stored.device_list.payload_hash().to_vec(),
        issued_at_ms: turn.now.as_millis(),
        expires_at_ms: turn.now.plus_millis(DEVICE_LIST_VALIDITY_MS).as_millis(),
        devices,
        next_device_id,
    };
    let blob = SignedBlob::sign(
        SignedKind::DeviceList,
        identity.own.deployment,
        list.encode_to_vec(),
        key,
    );
    let mut updated = stored.clone();
    updated.device_list = blob.clone();
    updated.list_version = list.version;
    accounts::save(turn.db, &updated).await?;
    let verified = directory::list_of(turn, &updated)?;
    directory::drop_old_sessions(turn, &verified).await?;
    turn.notify(Notification::Own);
    Ok(blob)
}

/// Takes a device off the list. The caller publishes the list.
pub(crate) async fn revoke(
    turn: &mut Turn<'_>,
    device: DeviceId,
) -> Result<SignedBlob, ClientError> {
    if !turn.identity.own.is_primary() {
        return Err(ClientError::NotPrimary);
    }
    if device == turn.identity.own.address.device {
        return Err(ClientError::Invalid(
            "a device cannot remove itself; ask the clinic to revoke the account",
        ));
    }
    let (stored, current) = own_list(turn).await?;
    let mut devices = current.devices.clone();
    devices.retain(|listed| listed.id != u32::from(device));
    if devices.len() == current.devices.len() {
        return Err(ClientError::Invalid(
            "there is no such device on the account",
        ));
    }
    let next = current.next_device_id;
    sign_list(turn, &stored, &current, devices, next).await
}

/// Signs the list anew when a week has passed.
pub(crate) async fn renew_list(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    if !turn.identity.own.is_primary() || turn.identity.own.state != OwnState::Active {
        return Ok(());
    }
    let renewed = async {
        let (stored, current) = own_list(turn).await?;
        let issued = Timestamp::from_millis(current.issued_at_ms);
        if turn.now.millis_since(issued) < RENEW_AFTER_MS {
            return Ok(None);
        }
        let devices = current.devices.clone();
        let next = current.next_device_id;
        sign_list(turn, &stored, &current, devices, next)
            .await
            .map(Some)
    }
    .await;
    match renewed {
        Ok(Some(list)) => {
            turn.call(Call::DeviceList(Box::new(list)));
            Ok(())
        }
        Err(ClientError::Store(error)) => Err(error),
        Ok(None) | Err(_) => Ok(()),
    }
}
