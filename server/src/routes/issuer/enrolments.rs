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
