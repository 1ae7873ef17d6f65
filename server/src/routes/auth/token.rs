//! `POST /v1/auth/token`: a signed challenge for a short-lived token.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use ed25519_dalek::VerifyingKey;
use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::VerifiedIssuer;
use wardline_wire::ids::DeviceAddress;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{AccountStatus, Login, Role, SignedBlob, Token, TokenRequest};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use super::super::missing;
use super::challenge::who;
use crate::app::App;
use crate::auth::challenge::BadNonce;
use crate::auth::check_standing;
use crate::auth::matrix::Action;
use crate::auth::token::Subject;
use crate::body::{Proto, Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::StoreError;

pub(crate) const ROUTE: Route = Route {
    method: "POST",
    path: "/v1/auth/token",
    action: Action::LogIn,
    summary: "Exchanges a challenge, signed by the device key on the stored device list or by \
              an issuer's key, for a token.",
    request: Some("TokenRequest"),
    replies: &[(200, "Token")],
    problems: &[
        ProblemKind::Invalid,
        ProblemKind::Unauthorized,
        ProblemKind::Revoked,
        ProblemKind::Unavailable,
    ],
    handler: || post(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Proto { message, .. }: Proto<TokenRequest>,
) -> Result<Reply<Token>, Refusal> {
    let now = app.clock.now();
    let blob = message.login.ok_or_else(|| missing("login"))?;
    let login = Login::decode(blob.payload.as_slice())
        .map_err(|_| Refusal::invalid("login cannot be read"))?;
    let whom = who(&login.account_id, login.device_id)?;
    app.challenges
        .redeem(&login.nonce, whom, now)
        .map_err(|bad| match bad {
            BadNonce::Refused => refused(),
            BadNonce::Busy => Refusal::new(ProblemKind::Unavailable, "too many log-ins; try again"),
        })?;
    match whom {
        Some(device) => log_in_device(&app, &blob, &login, device, now).await,
        None => log_in_issuer(&app, &blob, &login, message.issuer, now),
    }
}

async fn log_in_device(
    app: &App,
    blob: &SignedBlob,
    login: &Login,
    device: DeviceAddress,
    now: Timestamp,
) -> Result<Reply<Token>, Refusal> {
    if !login.issuer_serial.is_empty() {
        return Err(Refusal::invalid("issuer_serial is for issuers"));
    }
    let standing = app.store.standing(device, now).await?.ok_or_else(refused)?;
    let key = VerifyingKey::from_bytes(&standing.device_key)
        .map_err(|_| StoreError::Corrupt("devices"))?;
    blob.verify(SignedKind::Login, app.directory.anchor().deployment(), &key)
        .map_err(|_| refused())?;
    // Only whoever holds the key learns that the device was removed.
    check_standing(Some(&standing), standing.auth_epoch)?;
    let token = token(
        app,
        Subject::Device(device),
        standing.role,
        standing.auth_epoch,
        now,
    )?;
    Ok(reply(Token {
        status: standing.status.into(),
        role: standing.role.into(),
        ..token
    }))
}

fn log_in_issuer(
    app: &App,
    blob: &SignedBlob,
    login: &Login,
    issuer: Option<SignedBlob>,
    now: Timestamp,
) -> Result<Reply<Token>, Refusal> {
    let issuer = issuer.ok_or_else(|| missing("issuer"))?;
    let anchor = app.directory.anchor();
    let issuer = VerifiedIssuer::verify(&issuer, anchor, now).map_err(|_| refused())?;
    blob.verify(SignedKind::Login, anchor.deployment(), issuer.key())
        .map_err(|_| refused())?;
    if login.issuer_serial != issuer.serial().as_bytes() {
        return Err(refused());
    }
    if app
        .directory
        .revocations()
        .is_some_and(|list| list.covers_issuer(issuer.serial()))
    {
        return Err(Refusal::new(
            ProblemKind::Revoked,
            "this issuer was revoked; the root must name a new one",
        ));
    }
    let token = token(
        app,
        Subject::Issuer(issuer.serial()),
        Role::Unspecified,
        0,
        now,
    )?;
    Ok(reply(Token {
        status: AccountStatus::Unspecified.into(),
        ..token
    }))
}

fn token(
    app: &App,
    subject: Subject,
    role: Role,
    auth_epoch: u64,
    now: Timestamp,
) -> Result<Token, Refusal> {
    let token = app
        .tokens
        .issue(subject, role, auth_epoch, now)
        .map_err(|error| {
            tracing::error!(%error, "a token could not be signed");
            Refusal::new(ProblemKind::Internal, "try again")
        })?;
    // A token ends at a full second; tell the shorter time.
    let lifetime = app.tokens.lifetime_ms().saturating_sub(999);
    Ok(Token {
        token,
        valid_for_ms: u32::try_from(lifetime).unwrap_or(u32::MAX),
        status: AccountStatus::Unspecified.into(),
        role: Role::Unspecified.into(),
    })
}

/// One answer for unknown accounts, used nonces and wrong keys.
fn refused() -> Refusal {
    Refusal::new(
        ProblemKind::Unauthorized,
        "the log-in was refused; ask for a new challenge and sign it with the device key",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, Person, World};

    async fn offer(world: &World, person: &Person, login: &Login, kind: SignedKind) -> Answer {
        let request = TokenRequest {
            login: Some(SignedBlob::sign(
                kind,
                world.deployment,
                login.encode_to_vec(),
                &person.devices[0].key,
            )),
            issuer: None,
        };
        world
            .call("POST", ROUTE.path, "", request.encode_to_vec())
            .await
    }

    async fn login(world: &World, person: &Person) -> Login {
        Login {
            nonce: world.challenge(person.account.as_bytes(), 1).await,
            account_id: person.account.to_vec(),
            device_id: 1,
            issuer_serial: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_device_logs_in_and_hears_its_status_and_role() {
        let world = World::new().await;
        for (person, status) in [
            (world.pending(Role::Ai).await, AccountStatus::Pending),
            (world.person(Role::Ai).await, AccountStatus::Active),
        ] {
            let answer = world.try_log_in(&person, &person.devices[0]).await;
            let token: Token = answer.message();
            assert_eq!((token.status(), token.role()), (status, Role::Ai));
            assert!((590_000..=600_000).contains(&token.valid_for_ms));
        }
    }

    #[tokio::test]
    async fn a_nonce_is_good_once() {
        let world = World::new().await;
        let person = world.person(Role::Staff).await;
        let login = login(&world, &person).await;
        let first = offer(&world, &person, &login, SignedKind::Login).await;
        assert_eq!(first.status, 200);
        let second = offer(&world, &person, &login, SignedKind::Login).await;
        assert_eq!(second.refused(), ProblemKind::Unauthorized);
    }

    #[tokio::test]
    async fn old_foreign_and_made_up_nonces_are_refused() {
        let world = World::new().await;
        let person = world.person(Role::Staff).await;
        let mut attempts = Vec::new();
        for nonce in [
            vec![0; 32],
            vec![0; 31],
            world.challenge(&[9; 16], 1).await,
            world.challenge(person.account.as_bytes(), 2).await,
            world.challenge(&[], 0).await,
        ] {
            let mut login = login(&world, &person).await;
            login.nonce = nonce;
            attempts.push(login);
        }
        for login in attempts {
            let answer = offer(&world, &person, &login, SignedKind::Login).await;
            assert_eq!(answer.refused(), ProblemKind::Unauthorized);
        }
        let late = login(&world, &person).await;
        world.clock.advance_millis(61_000);
        let answer = offer(&world, &person, &late, SignedKind::Login).await;
        assert_eq!(answer.refused(), ProblemKind::Unauthorized);
    }

    #[tokio::test]
    async fn other_keys_and_other_kinds_of_signature_are_refused() {
        let world = World::new().await;
        let mut person = world.person(Role::Staff).await;
        let right = login(&world, &person).await;
        let answer = offer(&world, &person, &right, SignedKind::InviteRequest).await;
        assert_eq!(answer.refused(), ProblemKind::Unauthorized);
        person.devices[0].key = person.key.clone();
        let right = login(&world, &person).await;
        let answer = offer(&world, &person, &right, SignedKind::Login).await;
        assert_eq!(answer.refused(), ProblemKind::Unauthorized);
    }

    #[tokio::test]
    async fn an_issuer_logs_in_while_it_is_valid() {
        let world = World::new().await;
        let issuer = world.other_issuer();
        let token: Token = world.try_log_in_issuer(&issuer).await.message();
        assert_eq!(
            world
                .get("/v1/issuer/enrolments", &token.token)
                .await
                .status,
            200
        );
        // With a record that the root did not sign, or another key.
        let mut forged = world.other_issuer();
        forged.blob.signature[3] ^= 1;
        let answer = world.try_log_in_issuer(&forged).await;
        assert_eq!(answer.refused(), ProblemKind::Unauthorized);
        let mut stolen = world.other_issuer();
        stolen.key = crate::testing::key(5);
        let answer = world.try_log_in_issuer(&stolen).await;
        assert_eq!(answer.refused(), ProblemKind::Unauthorized);
        world.clock.advance_millis(367 * 24 * 3_600_000);
        let answer = world.try_log_in_issuer(&issuer).await;
        assert_eq!(answer.refused(), ProblemKind::Unauthorized);
    }
}
