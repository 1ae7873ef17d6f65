//! `PUT /v1/issuer/revocations`: puts a revocation list in force.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use prost::Message as _;
use wardline_wire::directory::{VerifiedIssuer, VerifiedRevocations};
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::RevocationBundle;

use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::Proto;
use crate::hub::Ending;
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::NewRevocations;

pub(crate) const ROUTE: Route = Route {
    method: "PUT",
    path: "/v1/issuer/revocations",
    action: Action::PublishRevocations,
    summary: "Puts a revocation list in force: it must lead to the root, be no older than the \
              one in force and take nothing back. Sessions of whoever it covers end at once.",
    request: Some("RevocationBundle"),
    replies: &[(204, "")],
    problems: &[ProblemKind::Invalid, ProblemKind::Conflict],
    handler: || put(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Proto { message, .. }: Proto<RevocationBundle>,
) -> Result<StatusCode, Refusal> {
    let now = app.clock.now();
    let anchor = app.directory.anchor();
    let list = VerifiedRevocations::verify(&message, anchor, now)
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    if let Some(known) = app.directory.revocations() {
        list.check_replaces(&known)
            .map_err(|error| Refusal::new(ProblemKind::Conflict, error.to_string()))?;
        // A revoked issuer must not be the one to write the next list.
        let issuer = message
            .issuer
            .as_ref()
            .map(|blob| VerifiedIssuer::verify(blob, anchor, now).map(|issuer| issuer.serial()));
        if let Some(Ok(serial)) = issuer
            && known.covers_issuer(serial)
        {
            return Err(Refusal::new(
                ProblemKind::Conflict,
                "the issuer that signed this list was revoked",
            ));
        }
    }
    let affected = app
        .store
        .revoke(&NewRevocations {
            number: list.number(),
            bundle: message.encode_to_vec(),
            accounts: list.accounts().collect(),
            certificates: list.certificates().collect(),
            issuers: list.issuers().collect(),
        })
        .await?
        .ok_or_else(|| {
            Refusal::new(ProblemKind::Conflict, "a newer revocation list is in force")
        })?;
    tracing::info!(
        number = list.number(),
        sessions_ended_of = affected.len(),
        "revocations in force"
    );
    app.directory.set(list);
    for account in affected {
        app.hub.end_account(account, Ending::Revoked);
    }
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use wardline_wire::proto::{Certificate, RevocationKind, Role};

    use super::*;
    use crate::testing::World;

    const SOMEBODY: (RevocationKind, [u8; 16]) = (RevocationKind::Account, [1; 16]);
    const OTHER: (RevocationKind, [u8; 16]) = (RevocationKind::Account, [2; 16]);

    #[tokio::test]
    async fn lists_go_forwards_and_take_nothing_back() {
        let world = World::new().await;
        let second = world.revocations(2, &[SOMEBODY]);
        assert_eq!(world.revoke(&second).await.status, 204);
        assert_eq!(world.revoke(&second).await.status, 204);
        for stale in [
            world.revocations(1, &[SOMEBODY, OTHER]),
            world.revocations(3, &[OTHER]),
            world.revocations(3, &[]),
        ] {
            let answer = world.revoke(&stale).await;
            assert_eq!(answer.refused(), ProblemKind::Conflict);
        }
        let mut forged = world.revocations(4, &[SOMEBODY]);
        forged.list.as_mut().unwrap().signature[0] ^= 1;
        assert_eq!(world.revoke(&forged).await.refused(), ProblemKind::Invalid);
        let shown: RevocationBundle = {
            let person = world.pending(Role::Patient).await;
            world.get("/v1/revocations", &person.token).await.message()
        };
        assert!(shown == second);
    }

    #[tokio::test]
    async fn accounts_certificates_and_issuers_fall() {
        let world = World::new().await;
        let by_account = world.person(Role::Staff).await;
        let by_certificate = world.pending(Role::Staff).await;
        let chain = world.certificate(&by_certificate, "dr.who");
        let payload = chain.certificate.as_ref().unwrap().payload.clone();
        let serial = Certificate::decode(payload.as_slice()).unwrap().serial;
        assert_eq!(world.decide(&by_certificate, Some(chain)).await.status, 204);
        let issuer = world.other_issuer();
        let by_issuer = world.pending(Role::Staff).await;
        let chain = world.certificate_by(&issuer, &by_issuer, "dr.what");
        assert_eq!(world.decide(&by_issuer, Some(chain)).await.status, 204);
        let spared = world.person(Role::Staff).await;
        let bundle = world.revocations(
            1,
            &[
                (RevocationKind::Account, *by_account.account.as_bytes()),
                (RevocationKind::Certificate, serial.try_into().unwrap()),
                (RevocationKind::Issuer, *issuer.serial.as_bytes()),
            ],
        );
        assert_eq!(world.revoke(&bundle).await.status, 204);
        for person in [&by_account, &by_certificate, &by_issuer] {
            let answer = world.try_log_in(person, &person.devices[0]).await;
            assert_eq!(answer.refused(), ProblemKind::Revoked);
        }
        let answer = world.get("/v1/keys", &by_account.token).await;
        assert_eq!(answer.refused(), ProblemKind::Revoked);
        assert_eq!(world.get("/v1/keys", &spared.token).await.status, 200);
        let answer = world.try_log_in_issuer(&issuer).await;
        assert_eq!(answer.refused(), ProblemKind::Revoked);
        // The handle is free again, and a new certificate brings the account back.
        let chain = world.certificate(&by_certificate, "dr.who");
        assert_eq!(world.decide(&by_certificate, Some(chain)).await.status, 204);
        world
            .log_in(&by_certificate, &by_certificate.devices[0])
            .await;
        // One that is itself revoked does not come back.
        let chain = world.certificate(&by_account, "dr.how");
        let answer = world.decide(&by_account, Some(chain)).await;
        assert_eq!(answer.refused(), ProblemKind::Invalid);
    }

    #[tokio::test]
    async fn a_revoked_issuers_token_ends() {
        let world = World::new().await;
        let issuer = world.other_issuer();
        let token = world.log_in_issuer(&issuer).await;
        let bundle = world.revocations(1, &[(RevocationKind::Issuer, *issuer.serial.as_bytes())]);
        assert_eq!(world.revoke(&bundle).await.status, 204);
        let answer = world.get("/v1/issuer/enrolments", &token).await;
        assert_eq!(answer.refused(), ProblemKind::Revoked);
    }
}
