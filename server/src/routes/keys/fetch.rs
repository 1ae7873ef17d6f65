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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use wardline_wire::proto::{AccessKeyUpdate, server_frame};

    use super::*;
    use crate::config::Rate;
    use crate::testing::{Answer, Person, World};

    async fn fetch(world: &World, requester: &Person, target: &Person, key: &[u8]) -> Answer {
        let request = BundleRequest {
            account_id: target.account.to_vec(),
            device_ids: Vec::new(),
            access_key: key.to_vec(),
        };
        world
            .call(
                "POST",
                ROUTE.path,
                &requester.token,
                request.encode_to_vec(),
            )
            .await
    }

    #[tokio::test]
    async fn each_device_gives_a_bundle_and_one_time_prekeys_run_out() {
        let world = World::new().await;
        let mut target = world.person(Role::Staff).await;
        let tablet = world.add_device(&mut target).await;
        let requester = world.person(Role::Ai).await;
        world.upload(&target.token, 1, 2).await;
        let mut seen = BTreeSet::new();
        for left in [2, 1, 0] {
            let set: BundleSet = fetch(&world, &requester, &target, b"").await.message();
            assert_eq!(set.without_keys, [tablet.id]);
            let bundle = &set.bundles[0];
            assert_eq!(bundle.device_id, 1);
            assert_eq!(bundle.identity_key, target.devices[0].identity_key);
            assert_eq!(bundle.registration_id, target.devices[0].registration_id);
            assert_eq!(bundle.signed_prekey.as_ref().unwrap().id, 1);
            assert_eq!(bundle.kyber_is_last_resort, left == 0);
            assert_eq!(bundle.one_time_prekey.is_some(), left > 0);
            let kyber = bundle.kyber_prekey.as_ref().unwrap();
            if left > 0 {
                assert!(seen.insert(kyber.id));
            } else {
                assert_eq!(kyber.id, 3);
            }
        }
    }

    #[tokio::test]
    async fn patients_need_the_access_key_and_learn_nothing_without() {
        let world = World::new().await;
        let patient = world.person(Role::Patient).await;
        let doctor = world.person(Role::Staff).await;
        let nobody = world.newcomer(Role::Staff).await;
        world.upload(&doctor.token, 1, 5).await;
        let right = fetch(&world, &patient, &doctor, &doctor.access_key).await;
        assert_eq!(right.status, 200);
        let mut details = BTreeSet::new();
        for (target, key) in [
            (&doctor, [0; 16].as_slice()),
            (&doctor, b""),
            (&doctor, &[4; 15]),
            (&nobody, &doctor.access_key),
        ] {
            let answer = fetch(&world, &patient, target, key).await;
            assert_eq!(answer.refused(), ProblemKind::Forbidden);
            details.insert(answer.problem().detail);
        }
        assert_eq!(details.len(), 1);
        let update = AccessKeyUpdate {
            access_key_sha256: Sha256::digest([8; 16]).to_vec(),
        };
        let answer = world
            .call(
                "PUT",
                "/v1/accounts/me/access-key",
                &doctor.token,
                update.encode_to_vec(),
            )
            .await;
        assert_eq!(answer.status, 204);
        let old = fetch(&world, &patient, &doctor, &doctor.access_key).await;
        assert_eq!(old.refused(), ProblemKind::Forbidden);
        assert_eq!(fetch(&world, &patient, &doctor, &[8; 16]).await.status, 200);
    }

    #[tokio::test]
    async fn who_does_not_take_part_gives_no_bundles() {
        let world = World::new().await;
        let requester = world.person(Role::Staff).await;
        let pending = world.pending(Role::Staff).await;
        world.upload(&pending.token, 1, 5).await;
        let nobody = world.newcomer(Role::Staff).await;
        for target in [&pending, &nobody] {
            let answer = fetch(&world, &requester, target, b"").await;
            assert_eq!(answer.refused(), ProblemKind::NotFound);
        }
    }

    #[tokio::test]
    async fn the_own_account_gives_the_other_devices() {
        let world = World::new().await;
        let mut person = world.person(Role::Patient).await;
        let tablet = world.add_device(&mut person).await;
        let token = world.log_in(&person, &tablet).await;
        world.upload(&person.token, 1, 2).await;
        world.upload(&token, 1, 2).await;
        let set: BundleSet = fetch(&world, &person, &person, b"").await.message();
        let devices: Vec<_> = set.bundles.iter().map(|one| one.device_id).collect();
        assert_eq!(devices, [tablet.id]);
        let stock = world.app.store.prekey_stock(person.address(1)).await;
        assert_eq!(stock.unwrap().unwrap().one_time, 2);
    }

    #[tokio::test]
    async fn pairs_are_limited() {
        let world = World::with(|config| {
            config.limits.fetches_per_pair = Rate {
                burst: 2,
                per_second: 0.001,
            };
        })
        .await;
        let requester = world.person(Role::Staff).await;
        let target = world.person(Role::Staff).await;
        let other = world.person(Role::Staff).await;
        for _ in 0..2 {
            assert_eq!(fetch(&world, &requester, &target, b"").await.status, 200);
        }
        let answer = fetch(&world, &requester, &target, b"").await;
        assert_eq!(answer.refused(), ProblemKind::Limited);
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(fetch(&world, &requester, &other, b"").await.status, 200);
        assert_eq!(fetch(&world, &other, &target, b"").await.status, 200);
    }

    #[tokio::test]
    async fn the_owner_is_told_when_stock_is_low() {
        let world = World::new().await;
        let target = world.person(Role::Staff).await;
        let requester = world.person(Role::Staff).await;
        world.upload(&target.token, 1, 20).await;
        let mut socket = world.connect(&target.token).await;
        socket.drained().await;
        fetch(&world, &requester, &target, b"").await;
        match socket.next().await {
            server_frame::Frame::PrekeysLow(low) => {
                assert_eq!((low.one_time_prekeys, low.one_time_kyber_prekeys), (19, 19));
            }
            _ => panic!("another frame"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sixty_four_takers_never_get_the_same_key() {
        const KEYS: u32 = 640;
        let world = Arc::new(
            World::with(|config| {
                config.limits.fetches_per_pair = Rate {
                    burst: 100_000,
                    per_second: 1000.0,
                };
                config.limits.fetches = config.limits.fetches_per_pair;
                config.limits.authenticated = config.limits.fetches_per_pair;
            })
            .await,
        );
        let target = Arc::new(world.person(Role::Staff).await);
        for first in (0..KEYS).step_by(100) {
            let count = (KEYS - first).min(100);
            let answer = world.upload(&target.token, 1 + first * 2, count).await;
            assert_eq!(answer.status, 200);
        }
        let requester = Arc::new(world.person(Role::Staff).await);
        let takers: Vec<_> = (0..64)
            .map(|_| {
                let (world, requester, target) = (
                    Arc::clone(&world),
                    Arc::clone(&requester),
                    Arc::clone(&target),
                );
                tokio::spawn(async move {
                    let mut taken = Vec::new();
                    for _ in 0..12 {
                        let set: BundleSet =
                            fetch(&world, &requester, &target, b"").await.message();
                        let bundle = &set.bundles[0];
                        taken.push((
                            bundle.one_time_prekey.as_ref().map(|key| key.id),
                            (!bundle.kyber_is_last_resort)
                                .then(|| bundle.kyber_prekey.as_ref().unwrap().id),
                        ));
                    }
                    taken
                })
            })
            .collect();
        let (mut curve, mut kyber) = (BTreeSet::new(), BTreeSet::new());
        for taker in takers {
            for (one, two) in taker.await.unwrap() {
                assert!(one.is_none_or(|id| curve.insert(id)), "{one:?} twice");
                assert!(two.is_none_or(|id| kyber.insert(id)), "{two:?} twice");
            }
        }
        // More takes than keys: every key went, once.
        assert_eq!((curve.len(), kyber.len()), (640, 640));
    }
}
