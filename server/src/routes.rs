//! The HTTP interface: one endpoint, one file.

pub(crate) mod accounts;
pub(crate) mod auth;
pub(crate) mod deployment;
pub(crate) mod enrolments;
pub(crate) mod invites;
pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod operation;
pub(crate) mod revocations;
pub(crate) mod socket;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use prost::Message as _;
use wardline_wire::ids::AccountId;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{AccountRecord, CertificateChain, SignedBlob};

use crate::problem::Refusal;
use crate::store::{Account, StoreError};

/// The last segment of a path.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        path.map(|Path(segment)| Self(segment))
            .map_err(|_| Refusal::new(ProblemKind::Malformed, "the path cannot be read"))
    }
}

/// A field of exactly `N` bytes.
fn field<const N: usize>(bytes: &[u8], name: &str) -> Result<[u8; N], Refusal> {
    bytes
        .try_into()
        .map_err(|_| Refusal::invalid(format!("{name} must be {N} bytes, not {}", bytes.len())))
}

fn account_field(bytes: &[u8], name: &str) -> Result<AccountId, Refusal> {
    field(bytes, name).map(AccountId::from)
}

fn missing(name: &str) -> Refusal {
    Refusal::invalid(format!("{name} is missing"))
}

fn no_such_account() -> Refusal {
    Refusal::new(ProblemKind::NotFound, "there is no such account")
}

/// An account as it is shown. Endpoints verify every part of it.
fn record(account: &Account) -> Result<AccountRecord, Refusal> {
    let corrupt = |_| StoreError::Corrupt("accounts");
    let certificate = account
        .certificate
        .as_deref()
        .map(CertificateChain::decode)
        .transpose()
        .map_err(corrupt)?;
    Ok(AccountRecord {
        account_id: account.id.to_vec(),
        status: account.status.into(),
        certificate,
        device_list: Some(SignedBlob::decode(account.device_list.as_slice()).map_err(corrupt)?),
    })
}
