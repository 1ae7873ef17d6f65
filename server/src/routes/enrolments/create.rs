//! `POST /v1/enrolments`: a newcomer redeems an invite.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use ed25519_dalek::VerifyingKey;
use prost::Message as _;
use wardline_wire::directory::VerifiedDeviceList;
use wardline_wire::ids::{AccountId, InviteId};
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{AccountRecord, EnrolmentRequest};

use super::super::accounts::replace_device_list::devices;
use super::super::{account_field, field, missing, record};
use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::{Proto, Reply};
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::{Enrolled, NewAccount, StoreError};
use crate::telemetry::Obfuscated;

pub(crate) const ROUTE: Route = Route {
    method: "POST",
    path: "/v1/enrolments",
    action: Action::Enrol,
    summary: "Redeems an admitted invite. The account is pending until an issuer certifies it. \
              The same account with the same key may repeat it.",
    request: Some("EnrolmentRequest"),
    replies: &[(201, "AccountRecord"), (200, "AccountRecord")],
    problems: &[
        ProblemKind::Invalid,
        ProblemKind::NotFound,
        ProblemKind::InviteUsed,
        ProblemKind::InviteExpired,
        ProblemKind::Conflict,
    ],
    handler: || post(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Proto { message, bytes }: Proto<EnrolmentRequest>,
) -> Result<Reply<AccountRecord>, Refusal> {
    let now = app.clock.now();
    let account = check(&app, &message, bytes.to_vec())?;
    let status = match app.store.enrol(&account, now).await? {
        Enrolled::New => {
            tracing::info!(account = %Obfuscated(account.id.as_bytes()), "enrolled");
            StatusCode::CREATED
        }
        Enrolled::Again => StatusCode::OK,
        Enrolled::UnknownInvite => {
            return Err(Refusal::new(
                ProblemKind::NotFound,
                "this invite is not known here; ask for a new one",
            ));
        }
        Enrolled::Expired => {
            return Err(Refusal::new(
                ProblemKind::InviteExpired,
                "ask whoever invited you for a new one",
            ));
        }
        Enrolled::InviteUsed => {
            return Err(Refusal::new(
                ProblemKind::InviteUsed,
                "if that was not you, tell whoever invited you",
            ));
        }
        Enrolled::AccountTaken => {
            return Err(Refusal::new(
                ProblemKind::Conflict,
                "this account id is taken; choose another at random",
            ));
        }
    };
    let stored = app
        .store
        .account(account.id, now)
        .await?
        .ok_or(StoreError::Corrupt("accounts"))?;
    Ok(Reply(status, record(&stored)?))
}

/// Everything that can be checked without the invite's secret.
fn check(app: &App, request: &EnrolmentRequest, bytes: Vec<u8>) -> Result<NewAccount, Refusal> {
    let invite = InviteId::from(field::<32>(&request.invite_id, "invite_id")?);
    let id = account_field(&request.account_id, "account_id")?;
    if !is_random(id) {
        return Err(Refusal::invalid("account_id must be a UUIDv4"));
    }
    let account_key = field::<32>(&request.account_key, "account_key")?;
    let key = VerifyingKey::from_bytes(&account_key)
        .ok()
        .filter(|key| !key.is_weak())
        .ok_or_else(|| Refusal::invalid("account_key must be an Ed25519 public key"))?;
    field::<32>(&request.proof, "proof")?;
    let access_key_sha256 = field(&request.access_key_sha256, "access_key_sha256")?;
    let blob = request
        .device_list
        .as_ref()
        .ok_or_else(|| missing("device_list"))?;
    let list = VerifiedDeviceList::verify(blob, id, &key, app.directory.anchor().deployment())
        .map_err(|error| Refusal::invalid(format!("device_list: {error}")))?;
    if list.version() != 1 {
        return Err(Refusal::invalid("device_list must be version 1"));
    }
    if list.is_expired(app.clock.now()) {
        return Err(Refusal::invalid(
            "device_list has expired; check this machine's clock",
        ));
    }
    Ok(NewAccount {
        invite,
        id,
        account_key,
        access_key_sha256,
        device_list: blob.encode_to_vec(),
        devices: devices(&list),
        request: bytes,
    })
}

fn is_random(id: AccountId) -> bool {
    let uuid = uuid::Uuid::from_bytes(*id.as_bytes());
    uuid.get_version_num() == 4 && uuid.get_variant() == uuid::Variant::RFC4122
}

#[cfg(test)]
mod tests {
    use wardline_wire::proto::{AccountStatus, Role};

    use super::*;
    use crate::testing::{Answer, World};

    async fn offer(world: &World, request: &EnrolmentRequest) -> Answer {
        world
            .call("POST", ROUTE.path, "", request.encode_to_vec())
            .await
    }

    #[tokio::test]
    async fn redeeming_twice_with_the_same_key_is_the_same() {
        let world = World::new().await;
        let person = world.newcomer(Role::Patient).await;
        let first = world.try_enrol(&person).await;
        assert_eq!(first.status, 201);
        let record: AccountRecord = first.message();
        assert_eq!(record.status(), AccountStatus::Pending);
        assert_eq!(world.try_enrol(&person).await.status, 200);
    }

    #[tokio::test]
    async fn an_invite_is_redeemed_by_one_key() {
        let world = World::new().await;
        let person = world.newcomer(Role::Patient).await;
        assert_eq!(world.try_enrol(&person).await.status, 201);
        let mut thief = world.newcomer(Role::Patient).await;
        thief.secret = person.secret.clone();
        let answer = world.try_enrol(&thief).await;
        assert_eq!(answer.refused(), ProblemKind::InviteUsed);
        // The same account id with another key.
        let mut thief = world.newcomer(Role::Patient).await;
        thief.secret = person.secret.clone();
        thief.account = person.account;
        thief.version = 0;
        thief.sign_list(&world);
        let answer = world.try_enrol(&thief).await;
        assert_eq!(answer.refused(), ProblemKind::InviteUsed);
    }

    #[tokio::test]
    async fn an_account_id_belongs_to_one_key() {
        let world = World::new().await;
        let person = world.pending(Role::Patient).await;
        let mut thief = world.newcomer(Role::Patient).await;
        thief.account = person.account;
        thief.version = 0;
        thief.sign_list(&world);
        let answer = world.try_enrol(&thief).await;
        assert_eq!(answer.refused(), ProblemKind::Conflict);
    }

    #[tokio::test]
    async fn unknown_and_old_invites_are_refused() {
        let world = World::new().await;
        let person = world.newcomer(Role::Patient).await;
        let mut request = world.enrolment(&person);
        request.invite_id = vec![0; 32];
        assert_eq!(
            offer(&world, &request).await.refused(),
            ProblemKind::NotFound
        );
        world.clock.advance_millis(25 * 3_600_000);
        let answer = world.try_enrol(&person).await;
        assert_eq!(answer.refused(), ProblemKind::InviteExpired);
    }

    #[tokio::test]
    async fn every_wrong_field_is_named_and_nothing_is_stored() {
        type Spoil = fn(&mut EnrolmentRequest);
        let world = World::new().await;
        let person = world.newcomer(Role::Patient).await;
        let spoilt: [(&str, Spoil); 8] = [
            ("invite_id", |request| request.invite_id.truncate(31)),
            ("account_id", |request| request.account_id.truncate(15)),
            ("account_id", |request| request.account_id = vec![0; 16]),
            ("account_key", |request| request.account_key.truncate(31)),
            ("account_key", |request| request.account_key = vec![0; 32]),
            ("proof", |request| request.proof.truncate(31)),
            ("access_key_sha256", |request| {
                request.access_key_sha256.push(0);
            }),
            ("device_list", |request| request.device_list = None),
        ];
        for (field, spoil) in spoilt {
            let mut request = world.enrolment(&person);
            spoil(&mut request);
            let answer = offer(&world, &request).await;
            assert_eq!(answer.refused(), ProblemKind::Invalid, "{field}");
            let detail = answer.problem().detail.unwrap();
            assert!(detail.contains(field), "{detail}");
        }
        assert_eq!(world.try_enrol(&person).await.status, 201);
    }

    #[tokio::test]
    async fn the_list_must_be_the_first_and_the_accounts_own() {
        let world = World::new().await;
        let mut person = world.newcomer(Role::Patient).await;
        person.sign_list(&world);
        let answer = world.try_enrol(&person).await;
        assert_eq!(answer.refused(), ProblemKind::Invalid);
        let other = world.newcomer(Role::Patient).await;
        person.list = other.list.clone();
        let answer = world.try_enrol(&person).await;
        assert_eq!(answer.refused(), ProblemKind::Invalid);
    }
}
