//! `GET /v1/issuer/enrolments`: what waits for a decision.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use prost::Message as _;
use wardline_wire::proto::{EnrolmentRequest, PendingEnrolment, PendingEnrolments};

use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::{Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::StoreError;

/// One answer; the next come once these are decided.
const MAX_ENROLMENTS: u32 = 100;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/v1/issuer/enrolments",
    action: Action::ReadEnrolments,
    summary: "Enrolments that wait for a decision, at most 100; the next come once these are \
              decided.",
    request: None,
    replies: &[(200, "PendingEnrolments")],
    problems: &[],
    handler: || get(handle),
};

async fn handle(State(app): State<Arc<App>>) -> Result<Reply<PendingEnrolments>, Refusal> {
    let enrolments = app
        .store
        .pending_enrolments(MAX_ENROLMENTS)
        .await?
        .into_iter()
        .map(|(request, sealed_request)| {
            let request = EnrolmentRequest::decode(request.as_slice())
                .map_err(|_| StoreError::Corrupt("enrolments"))?;
            Ok(PendingEnrolment {
                request: Some(request),
                sealed_request,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(reply(PendingEnrolments { enrolments }))
}

#[cfg(test)]
mod tests {
    use wardline_wire::proto::Role;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn what_waits_is_shown_as_it_was_sent_until_it_is_decided() {
        let world = World::new().await;
        let person = world.pending(Role::Patient).await;
        let shown: PendingEnrolments = world.get(ROUTE.path, &world.issuer.token).await.message();
        assert_eq!(shown.enrolments.len(), 1);
        let enrolment = &shown.enrolments[0];
        let request = enrolment.request.as_ref().unwrap();
        assert!(*request == world.enrolment(&person));
        assert_eq!(enrolment.sealed_request, vec![9; 80]);
        assert!(person.secret.check_proof(
            world.deployment,
            person.account,
            &person.key.verifying_key().to_bytes(),
            Role::Patient,
            &request.proof
        ));
        let chain = world.certificate(&person, "");
        assert_eq!(world.decide(&person, Some(chain)).await.status, 204);
        let shown: PendingEnrolments = world.get(ROUTE.path, &world.issuer.token).await.message();
        assert!(shown.enrolments.is_empty());
    }
}
