//! `GET /v1/accounts/{account}`: certificate, device list and status.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use wardline_wire::ids::AccountId;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::AccountRecord;

use super::super::{Segment, no_such_account, record};
use crate::app::App;
use crate::auth::matrix::Action;
use crate::auth::{Caller, require};
use crate::body::{Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/v1/accounts/{account}",
    action: Action::ReadOwnAccount,
    summary: "An account's certificate, device list and status. While an account waits for \
              its certificate it may read its own record only. Issuers read those of inviters.",
    request: None,
    replies: &[(200, "AccountRecord")],
    problems: &[ProblemKind::Malformed, ProblemKind::NotFound],
    handler: || get(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(account): Segment,
) -> Result<Reply<AccountRecord>, Refusal> {
    let account: AccountId = account
        .parse()
        .map_err(|_| Refusal::new(ProblemKind::Malformed, "the account must be a UUID"))?;
    let is_own = matches!(&caller, Caller::Device(device) if device.address.account == account);
    if !is_own {
        require(Action::ReadAccount, &caller)?;
    }
    let account = app
        .store
        .account(account, app.clock.now())
        .await?
        .ok_or_else(no_such_account)?;
    Ok(reply(record(&account)?))
}

#[cfg(test)]
mod tests {
    use wardline_wire::directory::{TrustAnchor, VerifiedCertificate, VerifiedDeviceList};
    use wardline_wire::proto::{AccountStatus, Role};

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_record_verifies_to_the_root() {
        let world = World::new().await;
        let doctor = world.person(Role::Staff).await;
        let patient = world.person(Role::Patient).await;
        let path = format!("/v1/accounts/{}", doctor.account);
        let record: AccountRecord = world.get(&path, &patient.token).await.message();
        assert_eq!(record.status(), AccountStatus::Active);
        let anchor = TrustAnchor::new(world.deployment, world.root.verifying_key());
        let certificate = VerifiedCertificate::verify(
            &record.certificate.unwrap(),
            doctor.account,
            &anchor,
            None,
            world.app.clock.now(),
        )
        .unwrap();
        let list = VerifiedDeviceList::verify(
            &record.device_list.unwrap(),
            doctor.account,
            certificate.account_key(),
            world.deployment,
        )
        .unwrap();
        assert_eq!(list.devices().len(), 1);
    }

    #[tokio::test]
    async fn whoever_waits_reads_their_own_record_only() {
        let world = World::new().await;
        let waiting = world.pending(Role::Staff).await;
        let doctor = world.person(Role::Staff).await;
        let own = format!("/v1/accounts/{}", waiting.account);
        let record: AccountRecord = world.get(&own, &waiting.token).await.message();
        assert_eq!(record.status(), AccountStatus::Pending);
        assert!(record.certificate.is_none());
        let other = format!("/v1/accounts/{}", doctor.account);
        let answer = world.get(&other, &waiting.token).await;
        assert_eq!(answer.refused(), ProblemKind::Forbidden);
    }

    #[tokio::test]
    async fn unknown_accounts_and_words_are_told_apart() {
        let world = World::new().await;
        let doctor = world.person(Role::Staff).await;
        let nobody = "/v1/accounts/ffffffff-ffff-4fff-bfff-ffffffffffff";
        let answer = world.get(nobody, &doctor.token).await;
        assert_eq!(answer.refused(), ProblemKind::NotFound);
        for path in ["/v1/accounts/bob", "/v1/accounts/%FF"] {
            let answer = world.get(path, &doctor.token).await;
            assert_eq!(answer.refused(), ProblemKind::Malformed, "{path}");
        }
    }

    #[tokio::test]
    async fn an_account_whose_certificate_ran_out_waits_again() {
        let world = World::new().await;
        let doctor = world.person(Role::Staff).await;
        world.clock.advance_millis(367 * 24 * 3_600_000);
        let token = world.log_in(&doctor, &doctor.devices[0]).await;
        let own = format!("/v1/accounts/{}", doctor.account);
        let record: AccountRecord = world.get(&own, &token).await.message();
        assert_eq!(record.status(), AccountStatus::Pending);
        assert!(record.certificate.is_some());
        let answer = world.get("/v1/handles/somebody", &token).await;
        assert_eq!(answer.refused(), ProblemKind::Forbidden);
    }
}
