//! `POST /v1/issuer/decisions`: certifies or rejects an account.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use prost::Message as _;
use wardline_wire::directory::{Handle, VerifiedCertificate, VerifiedIssuer};
use wardline_wire::ids::AccountId;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{CertificateChain, EnrolmentDecision};

use super::super::{account_field, missing, no_such_account};
use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::Proto;
use crate::hub::Ending;
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::{Certified, NewCertificate, Rejected};
use crate::telemetry::Obfuscated;

pub(crate) const ROUTE: Route = Route {
    method: "POST",
    path: "/v1/issuer/decisions",
    action: Action::DecideEnrolment,
    summary: "Certifies an account (or renews its certificate), or rejects a pending one. The \
              relay verifies the chain to the root before it stores it.",
    request: Some("EnrolmentDecision"),
    replies: &[(204, "")],
    problems: &[
        ProblemKind::Invalid,
        ProblemKind::NotFound,
        ProblemKind::Conflict,
    ],
    handler: || post(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Proto { message, .. }: Proto<EnrolmentDecision>,
) -> Result<StatusCode, Refusal> {
    let account = account_field(&message.account_id, "account_id")?;
    match message.certificate {
        Some(chain) => certify(&app, account, &chain).await,
        None => reject(&app, account).await,
    }
}

async fn certify(
    app: &App,
    account: AccountId,
    chain: &CertificateChain,
) -> Result<StatusCode, Refusal> {
    let now = app.clock.now();
    let anchor = app.directory.anchor();
    let revocations = app.directory.revocations();
    let refused = |error: &dyn std::error::Error| Refusal::invalid(format!("certificate: {error}"));
    let certificate =
        VerifiedCertificate::verify(chain, account, anchor, revocations.as_deref(), now)
            .map_err(|error| refused(&error))?;
    let issuer = chain
        .issuer
        .as_ref()
        .ok_or_else(|| missing("certificate.issuer"))?;
    let issuer = VerifiedIssuer::verify(issuer, anchor, now).map_err(|error| refused(&error))?;
    let stored = app
        .store
        .account(account, now)
        .await?
        .ok_or_else(no_such_account)?;
    if certificate.account_key().as_bytes() != &stored.key {
        return Err(Refusal::new(
            ProblemKind::Conflict,
            "the certificate names another account key than the account enrolled with",
        ));
    }
    let outcome = app
        .store
        .certify(&NewCertificate {
            account,
            chain: chain.encode_to_vec(),
            serial: certificate.serial(),
            issuer: certificate.issuer(),
            role: certificate.role(),
            handle: certificate.handle().map(Handle::as_str).map(str::to_owned),
            until: certificate.not_after().min(issuer.not_after()),
        })
        .await?;
    match outcome {
        Certified::Stored { sessions_end } => {
            tracing::info!(account = %Obfuscated(account.as_bytes()), "certified");
            if sessions_end {
                app.hub.end_account(account, Ending::Changed);
            }
            Ok(StatusCode::NO_CONTENT)
        }
        Certified::UnknownAccount => Err(no_such_account()),
        Certified::HandleTaken => Err(Refusal::new(
            ProblemKind::Conflict,
            "another account has this handle; revoke that one first, or choose another handle",
        )),
    }
}

async fn reject(app: &App, account: AccountId) -> Result<StatusCode, Refusal> {
    match app.store.reject(account).await? {
        Rejected::Done => {
            tracing::info!(account = %Obfuscated(account.as_bytes()), "rejected");
            app.hub.end_account(account, Ending::Revoked);
            Ok(StatusCode::NO_CONTENT)
        }
        Rejected::UnknownAccount => Err(no_such_account()),
        Rejected::Certified => Err(Refusal::new(
            ProblemKind::Conflict,
            "this account is certified; publish a revocation list instead",
        )),
    }
}

#[cfg(test)]
mod tests {
    use wardline_wire::proto::{AccountRecord, AccountStatus, Role};

    use super::*;
    use crate::testing::World;

    async fn status(world: &World, account: AccountId) -> AccountStatus {
        let account = world.app.store.account(account, world.app.clock.now());
        account.await.unwrap().unwrap().status
    }

    #[tokio::test]
    async fn a_certified_account_is_active_and_its_old_token_ends() {
        let world = World::new().await;
        let person = world.pending(Role::Staff).await;
        let chain = world.certificate(&person, "dr.who");
        assert_eq!(world.decide(&person, Some(chain.clone())).await.status, 204);
        let answer = world.get("/v1/keys", &person.token).await;
        assert_eq!(answer.refused(), ProblemKind::Unauthorized);
        let token = world.log_in(&person, &person.devices[0]).await;
        let path = format!("/v1/accounts/{}", person.account);
        let record: AccountRecord = world.get(&path, &token).await.message();
        assert_eq!(record.status(), AccountStatus::Active);
        assert!(record.certificate == Some(chain));
        // A renewal changes nothing about sessions.
        let renewed = world.certificate(&person, "dr.who");
        assert_eq!(world.decide(&person, Some(renewed)).await.status, 204);
        assert_eq!(world.get("/v1/keys", &token).await.status, 200);
    }

    #[tokio::test]
    async fn certificates_that_do_not_lead_to_the_root_are_refused() {
        let world = World::new().await;
        let person = world.pending(Role::Staff).await;
        let other = world.pending(Role::Staff).await;
        let mut stranger = world.other_issuer();
        stranger.key = crate::testing::key(3);
        let mut forged = world.certificate(&person, "dr.who");
        forged.issuer.as_mut().unwrap().signature[0] ^= 1;
        for chain in [
            world.certificate_by(&stranger, &person, "dr.who"),
            world.certificate(&other, "dr.who"),
            forged,
            CertificateChain::default(),
        ] {
            let answer = world.decide(&person, Some(chain)).await;
            assert_eq!(answer.refused(), ProblemKind::Invalid);
        }
        assert_eq!(status(&world, person.account).await, AccountStatus::Pending);
    }

    #[tokio::test]
    async fn the_certified_key_is_the_enrolled_one() {
        let world = World::new().await;
        let mut person = world.pending(Role::Staff).await;
        person.key = crate::testing::key(77);
        let chain = world.certificate(&person, "dr.who");
        let answer = world.decide(&person, Some(chain)).await;
        assert_eq!(answer.refused(), ProblemKind::Conflict);
    }

    #[tokio::test]
    async fn a_handle_belongs_to_one_account() {
        let world = World::new().await;
        let first = world.pending(Role::Staff).await;
        let second = world.pending(Role::Staff).await;
        let chain = world.certificate(&first, "dr.who");
        assert_eq!(world.decide(&first, Some(chain)).await.status, 204);
        let chain = world.certificate(&second, "dr.who");
        let answer = world.decide(&second, Some(chain)).await;
        assert_eq!(answer.refused(), ProblemKind::Conflict);
        assert_eq!(status(&world, second.account).await, AccountStatus::Pending);
    }

    #[tokio::test]
    async fn a_rejected_account_is_out_and_a_certified_one_is_not_rejected() {
        let world = World::new().await;
        let person = world.pending(Role::Staff).await;
        assert_eq!(world.decide(&person, None).await.status, 204);
        assert_eq!(world.decide(&person, None).await.status, 204);
        let answer = world.get("/v1/keys", &person.token).await;
        assert_eq!(answer.refused(), ProblemKind::Revoked);
        let answer = world.try_log_in(&person, &person.devices[0]).await;
        assert_eq!(answer.refused(), ProblemKind::Revoked);
        let person = world.person(Role::Staff).await;
        let answer = world.decide(&person, None).await;
        assert_eq!(answer.refused(), ProblemKind::Conflict);
        let nobody = world.newcomer(Role::Staff).await;
        let answer = world.decide(&nobody, None).await;
        assert_eq!(answer.refused(), ProblemKind::NotFound);
        let chain = world.certificate(&nobody, "nobody");
        let answer = world.decide(&nobody, Some(chain)).await;
        assert_eq!(answer.refused(), ProblemKind::NotFound);
    }
}
