//! `POST /v1/keys/fetch`: prekey bundles to begin sessions with.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId};
use wardline_wire::limits::MAX_DEVICES;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{
    AccountStatus, BundleRequest, BundleSet, DeviceBundle, KyberPreKey, OneTimePreKey, PreKeysLow,
    Role, SignedPreKey,
};

use super::super::{account_field, no_such_account};
use crate::app::App;
use crate::auth::DeviceCaller;
use crate::auth::matrix::Action;
use crate::body::{Proto, Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;
use crate::socket::is_low;
use crate::store::{Bundle, Day};

pub(crate) const ROUTE: Route = Route {
    method: "POST",
    path: "/v1/keys/fetch",
    action: Action::FetchBundles,
    summary: "One prekey bundle for each device of an account. A one-time prekey is given once. \
              Patients must present the target's access key. Counted for each requester, and \
              for each pair of requester and target.",
    request: Some("BundleRequest"),
    replies: &[(200, "BundleSet")],
    problems: &[
        ProblemKind::Invalid,
        ProblemKind::Forbidden,
        ProblemKind::NotFound,
    ],
    handler: || post(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    caller: DeviceCaller,
    Proto { message, .. }: Proto<BundleRequest>,
) -> Result<Reply<BundleSet>, Refusal> {
    let target = account_field(&message.account_id, "account_id")?;
    if message.device_ids.len() > MAX_DEVICES {
        return Err(Refusal::invalid(format!(
            "device_ids: at most {MAX_DEVICES}"
        )));
    }
    let wanted = message
        .device_ids
        .iter()
        .map(|id| DeviceId::new(*id))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Refusal::invalid("device_ids must be 1 to 127"))?;
    app.limits.fetch(caller.address.account, target)?;
    check_target(&app, &caller, target, &message.access_key).await?;
    let own = (target == caller.address.account).then_some(caller.address.device);
    let found = app
        .store
        .take_bundles(target, &wanted, own, Day::of(app.clock.now()))
        .await?;
    for bundle in &found.bundles {
        let (one_time, one_time_kyber) = bundle.left;
        if is_low(one_time, one_time_kyber) {
            let owner = DeviceAddress {
                account: target,
                device: bundle.device,
            };
            let low = PreKeysLow {
                one_time_prekeys: one_time,
                one_time_kyber_prekeys: one_time_kyber,
            };
            app.hub.prekeys_low(owner, low);
        }
    }
    Ok(reply(BundleSet {
        account_id: target.to_vec(),
        bundles: found.bundles.into_iter().map(on_wire).collect(),
        without_keys: found.without_keys.into_iter().map(u32::from).collect(),
    }))
}

/// Whether the target takes part, and, from a patient, whether it gave its access
/// key. A patient hears one answer for strangers and for nobody.
async fn check_target(
    app: &App,
    caller: &DeviceCaller,
    target: AccountId,
    access_key: &[u8],
) -> Result<(), Refusal> {
    let account = app
        .store
        .account(target, app.clock.now())
        .await?
        .filter(|account| account.status == AccountStatus::Active);
    if caller.role == Role::Patient && target != caller.address.account {
        let presented: [u8; 32] = Sha256::digest(access_key).into();
        let known = account.is_some_and(|account| {
            access_key.len() == 16 && bool::from(presented.ct_eq(&account.access_key_sha256))
        });
        return if known {
            Ok(())
        } else {
            Err(Refusal::new(
                ProblemKind::Forbidden,
                "patients write only to whoever gave them an access key",
            ))
        };
    }
    match account {
        Some(_) => Ok(()),
        None => Err(no_such_account()),
    }
}

fn on_wire(bundle: Bundle) -> DeviceBundle {
    DeviceBundle {
        device_id: bundle.device.into(),
        registration_id: bundle.registration_id,
        identity_key: bundle.identity_key,
        signed_prekey: Some(SignedPreKey {
            id: bundle.signed.id,
            public_key: bundle.signed.public_key,
            signature: bundle.signed.signature,
        }),
        kyber_prekey: Some(KyberPreKey {
            id: bundle.kyber.id,
            public_key: bundle.kyber.public_key,
            signature: bundle.kyber.signature,
        }),
        kyber_is_last_resort: bundle.kyber_is_last_resort,
        one_time_prekey: bundle.one_time.map(|key| OneTimePreKey {
            id: key.id,
            public_key: key.public_key,
        }),
    }
}
