//! A clinic to test with: its root, an issuer, and whoever is asked for.

use ed25519_dalek::SigningKey;
use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::TrustAnchor;
use wardline_wire::ids::{AccountId, DeploymentId};
use wardline_wire::proto::{
    Certificate, CertificateChain, Device, DeviceList, Issuer, RevocationBundle, RevocationList,
    Role, SignedBlob,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

pub(crate) const DAY: u64 = 24 * 3_600_000;
/// Midday of some day in 2026.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn root() -> SigningKey {
    key(1)
}

pub(crate) fn issuer_key() -> SigningKey {
    key(2)
}

pub(crate) fn account_key() -> SigningKey {
    key(3)
}

pub(crate) fn deployment() -> DeploymentId {
    DeploymentId::from([0xD0; 16])
}

pub(crate) fn account() -> AccountId {
    AccountId::from_random_bytes([0xA0; 16])
}

pub(crate) fn anchor() -> TrustAnchor {
    TrustAnchor::new(deployment(), root().verifying_key())
}

/// An issuer for patients and staff, valid ten days either side of [`NOW`].
pub(crate) fn issuer() -> Issuer {
    Issuer {
        serial: vec![0x15; 16],
        key: issuer_key().verifying_key().to_bytes().to_vec(),
        roles: vec![Role::Patient.into(), Role::Staff.into()],
        not_before_ms: NOW.minus_millis(10 * DAY).as_millis(),
        not_after_ms: NOW.plus_millis(10 * DAY).as_millis(),
        sealing_key: vec![9; 32],
    }
}

pub(crate) fn sign_issuer(issuer: &Issuer) -> SignedBlob {
    SignedBlob::sign(
        SignedKind::Issuer,
        deployment(),
        issuer.encode_to_vec(),
        &root(),
    )
}

/// A clinician's certificate, valid five days either side of [`NOW`].
pub(crate) fn staff() -> Certificate {
    Certificate {
        serial: vec![0xCE; 16],
        account_id: account().to_vec(),
        account_key: account_key().verifying_key().to_bytes().to_vec(),
        role: Role::Staff.into(),
        not_before_ms: NOW.minus_millis(5 * DAY).as_millis(),
        not_after_ms: NOW.plus_millis(5 * DAY).as_millis(),
        handle: "dr.okafor".to_owned(),
        display_name: "Dr. Okafor".to_owned(),
        issuer_serial: vec![0x15; 16],
    }
}

pub(crate) fn patient() -> Certificate {
    Certificate {
        role: Role::Patient.into(),
        handle: String::new(),
        display_name: String::new(),
        ..staff()
    }
}

pub(crate) fn chain(certificate: &Certificate) -> CertificateChain {
    chain_under(&issuer(), certificate)
}

pub(crate) fn chain_under(issuer: &Issuer, certificate: &Certificate) -> CertificateChain {
    CertificateChain {
        issuer: Some(sign_issuer(issuer)),
        certificate: Some(SignedBlob::sign(
            SignedKind::Certificate,
            deployment(),
            certificate.encode_to_vec(),
            &issuer_key(),
        )),
    }
}

/// A device whose keys all come from its id.
pub(crate) fn device(id: u8) -> Device {
    let mut identity_key = vec![id; 33];
    identity_key[0] = 5;
    Device {
        id: id.into(),
        identity_key,
        registration_id: 100 + u32::from(id),
        device_key: key(100 + id).verifying_key().to_bytes().to_vec(),
        added_at_ms: NOW.as_millis(),
    }
}

/// The first list of an account, with devices 1 to `count`.
pub(crate) fn device_list(count: u8) -> DeviceList {
    DeviceList {
        account_id: account().to_vec(),
        version: 1,
        prev_hash: Vec::new(),
        issued_at_ms: NOW.as_millis(),
        expires_at_ms: NOW.plus_millis(30 * DAY).as_millis(),
        devices: (1..=count).map(device).collect(),
        next_device_id: u32::from(count) + 1,
    }
}

pub(crate) fn sign_list(list: &DeviceList) -> SignedBlob {
    SignedBlob::sign(
        SignedKind::DeviceList,
        deployment(),
        list.encode_to_vec(),
        &account_key(),
    )
}

/// Revocation list `number`, signed now, due in a week, revoking nothing.
pub(crate) fn revocation_list(number: u64) -> RevocationList {
    RevocationList {
        number,
        issued_at_ms: NOW.as_millis(),
        next_update_ms: NOW.plus_millis(7 * DAY).as_millis(),
        revocations: Vec::new(),
        issuer_serial: vec![0x15; 16],
    }
}

pub(crate) fn sign_revocations(list: &RevocationList) -> RevocationBundle {
    RevocationBundle {
        issuer: Some(sign_issuer(&issuer())),
        list: Some(SignedBlob::sign(
            SignedKind::RevocationList,
            deployment(),
            list.encode_to_vec(),
            &issuer_key(),
        )),
    }
}

/// The same list signed by the root itself.
pub(crate) fn root_signs_revocations(list: &RevocationList) -> RevocationBundle {
    let list = RevocationList {
        issuer_serial: Vec::new(),
        ..list.clone()
    };
    RevocationBundle {
        issuer: None,
        list: Some(SignedBlob::sign(
            SignedKind::RevocationList,
            deployment(),
            list.encode_to_vec(),
            &root(),
        )),
    }
}
