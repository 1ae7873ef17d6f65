//! From received bytes to things that may be believed.
//!
//! The chain is short: the clinic's root signs issuers, an issuer signs
//! certificates (this account key has this role) and revocation lists, an
//! account key signs its device list, a device key signs log-ins. Each
//! `Verified…` type here has one constructor, and it checks.
//!
//! A certificate counts only while its issuer does: an issuer key that leaks
//! after its time cannot back-date anything.

mod anchor;
mod certificate;
mod device_list;
mod issuer;
mod revocation;

pub use anchor::{TrustAnchor, TrustAnchorError};
pub use certificate::{
    CertificateError, Handle, HandleError, VerifiedCertificate, check_display_name,
};
pub use device_list::{DeviceListError, ListedDevice, VerifiedDeviceList};
pub use issuer::{IssuerError, VerifiedIssuer};
pub use revocation::{RevocationError, VerifiedRevocations};

use crate::clock::Timestamp;
use crate::limits::CLOCK_TOLERANCE_MS;
use crate::proto::Role;

/// Whether `now` lies in the validity, give or take [`CLOCK_TOLERANCE_MS`]:
/// clocks of bedside machines are wrong more often than certificates are.
fn is_within(now: Timestamp, not_before: Timestamp, not_after: Timestamp) -> bool {
    now.plus_millis(CLOCK_TOLERANCE_MS) >= not_before
        && now <= not_after.plus_millis(CLOCK_TOLERANCE_MS)
}

/// A role that is one: unspecified and unknown numbers are `None`.
pub fn role_from_wire(role: i32) -> Option<Role> {
    match Role::try_from(role) {
        Ok(Role::Unspecified) | Err(_) => None,
        Ok(role) => Some(role),
    }
}

/// The word for a role, as people and configuration files write it.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "unspecified",
        Role::Patient => "patient",
        Role::Staff => "staff",
        Role::Ai => "ai",
        Role::Admin => "admin",
        Role::Officer => "officer",
    }
}

/// The role for a word, the reverse of [`role_name`].
pub fn role_from_name(name: &str) -> Option<Role> {
    [
        Role::Patient,
        Role::Staff,
        Role::Ai,
        Role::Admin,
        Role::Officer,
    ]
    .into_iter()
    .find(|role| role_name(*role) == name)
}
