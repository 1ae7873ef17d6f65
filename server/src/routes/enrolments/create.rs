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
