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
    let account_key =
        VerifyingKey::from_bytes(&stored.key).map_err(|_| StoreError::Corrupt("accounts"))?;
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

#[cfg(test)]
mod tests {
    use wardline_wire::proto::Role;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_new_device_logs_in_and_the_same_list_again_is_accepted() {
        let world = World::new().await;
        let mut person = world.person(Role::Staff).await;
        let tablet = world.add_device(&mut person).await;
        assert_eq!(world.put_list(&person).await.status, 204);
        let token = world.log_in(&person, &tablet).await;
        assert_eq!(world.get("/v1/keys", &token).await.status, 200);
    }

    #[tokio::test]
    async fn a_removed_device_loses_sessions_prekeys_and_mailbox() {
        let world = World::new().await;
        let mut person = world.person(Role::Staff).await;
        let tablet = world.add_device(&mut person).await;
        let token = world.log_in(&person, &tablet).await;
        assert_eq!(world.upload(&token, 1, 5).await.status, 200);
        world.remove_device(&mut person, tablet.id).await;
        let answer = world.get("/v1/keys", &token).await;
        assert_eq!(answer.refused(), ProblemKind::Revoked);
        let answer = world.try_log_in(&person, &tablet).await;
        assert_eq!(answer.refused(), ProblemKind::Revoked);
        // A stranger with the same question learns nothing.
        let mut stranger = tablet.clone();
        stranger.key = crate::testing::key(999_999);
        let answer = world.try_log_in(&person, &stranger).await;
        assert_eq!(answer.refused(), ProblemKind::Unauthorized);
    }

    #[tokio::test]
    async fn lists_that_are_not_the_next_are_refused() {
        let world = World::new().await;
        let mut person = world.person(Role::Staff).await;
        let first = person.list.clone();
        world.add_device(&mut person).await;
        // Back.
        let current = std::mem::replace(&mut person.list, first);
        let answer = world.put_list(&person).await;
        assert_eq!(answer.refused(), ProblemKind::DeviceListVersion);
        // The same version with other content.
        person.list = current.clone();
        person.version -= 1;
        person.devices[0].registration_id += 1;
        person.sign_list(&world);
        let answer = world.put_list(&person).await;
        assert_eq!(answer.refused(), ProblemKind::DeviceListVersion);
        // One left out.
        person.list = current;
        person.version += 1;
        person.sign_list(&world);
        let answer = world.put_list(&person).await;
        assert_eq!(answer.refused(), ProblemKind::DeviceListVersion);
    }

    #[tokio::test]
    async fn foreign_signatures_and_expired_lists_are_refused() {
        let world = World::new().await;
        let mut person = world.person(Role::Staff).await;
        let other = world.person(Role::Staff).await;
        let own = std::mem::replace(&mut person.list, other.list.clone());
        let answer = world.put_list(&person).await;
        assert_eq!(answer.refused(), ProblemKind::Invalid);
        person.list = own;
        person.sign_list(&world);
        world.clock.advance_millis(40 * 24 * 3_600_000);
        person.token = world.log_in(&person, &person.devices[0]).await;
        let answer = world.put_list(&person).await;
        assert_eq!(answer.refused(), ProblemKind::Invalid);
    }

    #[tokio::test]
    async fn there_are_only_so_many_devices() {
        let world = World::new().await;
        let mut person = world.person(Role::Staff).await;
        for _ in 1..wardline_wire::limits::MAX_DEVICES {
            world.add_device(&mut person).await;
        }
        let mut extra = person.devices[0].clone();
        extra.id = 11;
        extra.identity_key[5] = 0xEE;
        person.devices.push(extra);
        person.sign_list(&world);
        let answer = world.put_list(&person).await;
        assert_eq!(answer.refused(), ProblemKind::Invalid);
    }
}
