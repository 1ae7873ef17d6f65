//! `PUT /v1/accounts/me/device-list`: which devices speak for this account.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use ed25519_dalek::VerifyingKey;
use prost::Message as _;
use wardline_wire::directory::{DeviceListError, VerifiedDeviceList};
use wardline_wire::ids::DeviceAddress;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::SignedBlob;

use super::super::no_such_account;
use crate::app::App;
use crate::auth::DeviceCaller;
use crate::auth::matrix::Action;
use crate::body::Proto;
use crate::hub::Ending;
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::{NewDevice, NewDeviceList, StoreError};

pub(crate) const ROUTE: Route = Route {
    method: "PUT",
    path: "/v1/accounts/me/device-list",
    action: Action::ReplaceDeviceList,
    summary: "Replaces the device list. It must be signed by the account key and be the next \
              version; the stored one again is accepted. A device that is no longer listed \
              loses its mailbox, its prekeys and its sessions.",
    request: Some("SignedBlob"),
    replies: &[(204, "")],
    problems: &[
        ProblemKind::Invalid,
        ProblemKind::DeviceListVersion,
        ProblemKind::NotFound,
    ],
    handler: || put(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    caller: DeviceCaller,
    Proto { message, .. }: Proto<SignedBlob>,
) -> Result<StatusCode, Refusal> {
    let now = app.clock.now();
    let id = caller.address.account;
    let stored = app
        .store
        .account(id, now)
        .await?
        .ok_or_else(no_such_account)?;
    let account_key = VerifyingKey::from_bytes(&stored.account_key)
        .map_err(|_| StoreError::Corrupt("accounts"))?;
    let deployment = app.directory.anchor().deployment();
    let offered =
        VerifiedDeviceList::verify(&message, id, &account_key, deployment).map_err(refused)?;
    let known = SignedBlob::decode(stored.device_list.as_slice())
        .ok()
        .and_then(|blob| VerifiedDeviceList::verify(&blob, id, &account_key, deployment).ok())
        .ok_or(StoreError::Corrupt("accounts"))?;
    offered.check_replaces(&known).map_err(refused)?;
    if offered.hash() == known.hash() {
        return Ok(StatusCode::NO_CONTENT);
    }
    if offered.version() != known.version() + 1 {
        return Err(not_the_next());
    }
    if offered.is_expired(now) {
        return Err(Refusal::invalid(
            "the device list has expired; sign a new one",
        ));
    }
    let replaced = app
        .store
        .replace_device_list(&NewDeviceList {
            account: id,
            replaces: known.version(),
            version: offered.version(),
            blob: message.encode_to_vec(),
            devices: devices(&offered),
        })
        .await?;
    for device in replaced.ok_or_else(not_the_next)? {
        let gone = DeviceAddress {
            account: id,
            device,
        };
        app.hub.end(gone, Ending::Revoked);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The devices of a verified list, as they are stored.
pub(crate) fn devices(list: &VerifiedDeviceList) -> Vec<NewDevice> {
    list.devices()
        .iter()
        .map(|device| NewDevice {
            id: device.id,
            identity_key: device.identity_key,
            registration_id: device.registration_id,
            device_key: device.device_key.to_bytes(),
        })
        .collect()
}

fn not_the_next() -> Refusal {
    Refusal::new(
        ProblemKind::DeviceListVersion,
        "the list must be the next version of the stored one; read it and sign again",
    )
}

fn refused(error: DeviceListError) -> Refusal {
    match error {
        DeviceListError::RolledBack { .. }
        | DeviceListError::Equivocated { .. }
        | DeviceListError::NotASuccessor => {
            Refusal::new(ProblemKind::DeviceListVersion, error.to_string())
        }
        DeviceListError::Signature(_)
        | DeviceListError::Malformed
        | DeviceListError::OtherAccount => Refusal::invalid(error.to_string()),
    }
}
