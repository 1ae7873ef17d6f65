//! `PUT /v1/keys`: a device uploads prekeys.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::put;
use wardline_wire::limits::MAX_PREKEYS_PER_UPLOAD;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{KyberPreKey, OneTimePreKey, PreKeyStock, PreKeyUpload};

use super::stock::on_wire;
use crate::app::App;
use crate::auth::matrix::Action;
use crate::auth::{DeviceCaller, Lapsed};
use crate::body::{Proto, Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::{NewPreKeys, OneTimeKey, SignedKey, Uploaded};

/// Type byte and Curve25519 point.
const CURVE_BYTES: usize = 33;
const CURVE_TYPE: u8 = 0x05;
/// Type byte and Kyber-1024 public key.
const KYBER_BYTES: usize = 1569;
const KYBER_TYPE: u8 = 0x08;
const SIGNATURE_BYTES: usize = 64;
/// Ids have 24 bits.
const MAX_ID: u32 = 0x00FF_FFFF;

pub(crate) const ROUTE: Route = Route {
    method: "PUT",
    path: "/v1/keys",
    action: Action::UploadPreKeys,
    summary: "Replaces the signed and the last-resort prekey when present, and adds one-time \
              prekeys. All of it is stored, or nothing. An id that the relay holds or held is \
              refused.",
    request: Some("PreKeyUpload"),
    replies: &[(200, "PreKeyStock")],
    problems: &[
        ProblemKind::Invalid,
        ProblemKind::Conflict,
        ProblemKind::Epoch,
    ],
    handler: || put(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    caller: DeviceCaller,
    Proto { message, .. }: Proto<PreKeyUpload>,
) -> Result<Reply<PreKeyStock>, Refusal> {
    let epoch = message.mailbox_epoch;
    let keys = check(message)?;
    match app
        .store
        .upload_prekeys(caller.address, epoch, &keys)
        .await?
    {
        Uploaded::Stored(stock) => Ok(reply(on_wire(stock))),
        Uploaded::OtherEpoch => Err(Refusal::new(
            ProblemKind::Epoch,
            "mailbox_epoch is not the relay's; read it, make new prekeys and upload those",
        )),
        Uploaded::IdTaken => Err(Refusal::new(
            ProblemKind::Conflict,
            "the relay holds or held a prekey with one of these ids; choose others",
        )),
        Uploaded::UnknownDevice => Err(Lapsed::Revoked.into()),
    }
}

fn check(upload: PreKeyUpload) -> Result<NewPreKeys, Refusal> {
    let over = |name: &str| {
        Refusal::invalid(format!(
            "{name}: at most {MAX_PREKEYS_PER_UPLOAD} in one upload"
        ))
    };
    if upload.one_time_prekeys.len() > MAX_PREKEYS_PER_UPLOAD {
        return Err(over("one_time_prekeys"));
    }
    if upload.one_time_kyber_prekeys.len() > MAX_PREKEYS_PER_UPLOAD {
        return Err(over("one_time_kyber_prekeys"));
    }
    let signed = upload
        .signed_prekey
        .map(|key| {
            check_key(
                "signed_prekey",
                key.id,
                &key.public_key,
                CURVE_BYTES,
                CURVE_TYPE,
            )?;
            check_signature("signed_prekey", &key.signature)?;
            Ok::<_, Refusal>(SignedKey {
                id: key.id,
                public_key: key.public_key,
                signature: key.signature,
            })
        })
        .transpose()?;
    let last_resort_kyber = upload
        .last_resort_kyber_prekey
        .map(|key| check_kyber("last_resort_kyber_prekey", key))
        .transpose()?;
    let one_time = upload
        .one_time_prekeys
        .into_iter()
        .enumerate()
        .map(|(at, OneTimePreKey { id, public_key })| {
            check_key(
                &format!("one_time_prekeys[{at}]"),
                id,
                &public_key,
                CURVE_BYTES,
                CURVE_TYPE,
            )?;
            Ok(OneTimeKey { id, public_key })
        })
        .collect::<Result<Vec<_>, Refusal>>()?;
    let one_time_kyber = upload
        .one_time_kyber_prekeys
        .into_iter()
        .enumerate()
        .map(|(at, key)| check_kyber(&format!("one_time_kyber_prekeys[{at}]"), key))
        .collect::<Result<Vec<_>, Refusal>>()?;
    check_distinct(one_time.iter().map(|key| key.id), "one_time_prekeys")?;
    check_distinct(
        one_time_kyber
            .iter()
            .chain(&last_resort_kyber)
            .map(|key| key.id),
        "one_time_kyber_prekeys and last_resort_kyber_prekey",
    )?;
    Ok(NewPreKeys {
        signed,
        last_resort_kyber,
        one_time,
        one_time_kyber,
    })
}

fn check_distinct(mut ids: impl Iterator<Item = u32>, name: &str) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    if ids.all(|id| seen.insert(id)) {
        Ok(())
    } else {
        Err(Refusal::invalid(format!("{name}: an id is there twice")))
    }
}

fn check_kyber(field: &str, key: KyberPreKey) -> Result<SignedKey, Refusal> {
    check_key(field, key.id, &key.public_key, KYBER_BYTES, KYBER_TYPE)?;
    check_signature(field, &key.signature)?;
    Ok(SignedKey {
        id: key.id,
        public_key: key.public_key,
        signature: key.signature,
    })
}

fn check_key(
    field: &str,
    id: u32,
    public_key: &[u8],
    length: usize,
    kind: u8,
) -> Result<(), Refusal> {
    if !(1..=MAX_ID).contains(&id) {
        return Err(Refusal::invalid(format!(
            "{field}.id must be 1 to {MAX_ID}"
        )));
    }
    if public_key.len() == length && public_key.first() == Some(&kind) {
        Ok(())
    } else {
        Err(Refusal::invalid(format!(
            "{field}.public_key must be {length} bytes that begin with 0x{kind:02x}"
        )))
    }
}

fn check_signature(field: &str, signature: &[u8]) -> Result<(), Refusal> {
    if signature.len() == SIGNATURE_BYTES {
        Ok(())
    } else {
        Err(Refusal::invalid(format!(
            "{field}.signature must be {SIGNATURE_BYTES} bytes"
        )))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use wardline_wire::proto::Role;

    use super::*;
    use crate::testing::{World, upload};

    #[tokio::test]
    async fn uploads_add_up() {
        let world = World::new().await;
        let person = world.pending(Role::Patient).await;
        let stock: PreKeyStock = world.upload(&person.token, 1, 5).await.message();
        assert_eq!(
            (stock.one_time_prekeys, stock.one_time_kyber_prekeys),
            (5, 5)
        );
        let stock: PreKeyStock = world.upload(&person.token, 100, 5).await.message();
        assert_eq!(stock.one_time_prekeys, 10);
        assert_eq!(stock.signed_prekey_id, 100);
        assert_eq!(stock.last_resort_kyber_prekey_id, 105);
        assert_eq!(stock.mailbox_epoch, 1);
    }

    #[tokio::test]
    async fn ids_that_are_or_were_held_are_refused_and_nothing_of_the_upload_stays() {
        let world = World::new().await;
        let person = world.person(Role::Staff).await;
        let other = world.person(Role::Staff).await;
        assert_eq!(world.upload(&person.token, 10, 3).await.status, 200);
        let answer = world.upload(&person.token, 8, 3).await;
        assert_eq!(answer.refused(), ProblemKind::Conflict);
        // Taken by somebody: still refused.
        let request = wardline_wire::proto::BundleRequest {
            account_id: person.account.to_vec(),
            ..Default::default()
        };
        let answer = world
            .call(
                "POST",
                "/v1/keys/fetch",
                &other.token,
                request.encode_to_vec(),
            )
            .await;
        assert_eq!(answer.status, 200);
        let mut again = upload(1, 200, 0);
        again.one_time_prekeys = upload(1, 10, 1).one_time_prekeys;
        let answer = world
            .call("PUT", ROUTE.path, &person.token, again.encode_to_vec())
            .await;
        assert_eq!(answer.refused(), ProblemKind::Conflict);
        let stock: PreKeyStock = world.get(ROUTE.path, &person.token).await.message();
        assert_eq!((stock.one_time_prekeys, stock.signed_prekey_id), (2, 10));
    }

    #[tokio::test]
    async fn another_epoch_is_refused() {
        let world = World::new().await;
        let person = world.person(Role::Staff).await;
        let body = upload(2, 1, 1).encode_to_vec();
        let answer = world.call("PUT", ROUTE.path, &person.token, body).await;
        assert_eq!(answer.refused(), ProblemKind::Epoch);
    }

    #[tokio::test]
    async fn wrong_values_name_their_field() {
        type Spoil = fn(&mut PreKeyUpload);
        let world = World::new().await;
        let person = world.person(Role::Staff).await;
        let spoilt: [(&str, Spoil); 10] = [
            ("signed_prekey.id", |upload| {
                upload.signed_prekey.as_mut().unwrap().id = 0;
            }),
            ("signed_prekey.public_key", |upload| {
                upload.signed_prekey.as_mut().unwrap().public_key.pop();
            }),
            ("signed_prekey.signature", |upload| {
                upload.signed_prekey.as_mut().unwrap().signature.push(0);
            }),
            ("last_resort_kyber_prekey.public_key", |upload| {
                upload.last_resort_kyber_prekey.as_mut().unwrap().public_key[0] = 5;
            }),
            ("one_time_prekeys[1].public_key", |upload| {
                upload.one_time_prekeys[1].public_key.clear();
            }),
            ("one_time_prekeys[0].id", |upload| {
                upload.one_time_prekeys[0].id = 1 << 24;
            }),
            ("one_time_kyber_prekeys[1].signature", |upload| {
                upload.one_time_kyber_prekeys[1].signature.clear();
            }),
            ("one_time_prekeys: an id", |upload| {
                upload.one_time_prekeys[0].id = upload.one_time_prekeys[1].id;
            }),
            ("one_time_kyber_prekeys and", |upload| {
                upload.one_time_kyber_prekeys[0].id =
                    upload.last_resort_kyber_prekey.as_ref().unwrap().id;
            }),
            ("one_time_prekeys: at most", |upload| {
                upload.one_time_prekeys = vec![upload.one_time_prekeys[0].clone(); 101];
            }),
        ];
        for (field, spoil) in spoilt {
            let mut body = upload(1, 1, 3);
            spoil(&mut body);
            let answer = world
                .call("PUT", ROUTE.path, &person.token, body.encode_to_vec())
                .await;
            assert_eq!(answer.refused(), ProblemKind::Invalid, "{field}");
            let detail = answer.problem().detail.unwrap();
            assert!(detail.contains(field), "{detail}");
        }
        let stock: PreKeyStock = world.get(ROUTE.path, &person.token).await.message();
        assert_eq!((stock.one_time_prekeys, stock.signed_prekey_id), (0, 0));
    }
}
