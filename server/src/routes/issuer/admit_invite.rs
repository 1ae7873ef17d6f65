//! `PUT /v1/issuer/invites/{invite}`: the clinic's authority invites.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use wardline_wire::ids::InviteId;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::InviteAdmission;

use super::super::Segment;
use super::super::invites::create::{admit, check};
use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::Proto;
use crate::problem::Refusal;
use crate::router::Route;

pub(crate) const ROUTE: Route = Route {
    method: "PUT",
    path: "/v1/issuer/invites/{invite}",
    action: Action::AdmitInvite,
    summary: "Admits an invite of the authority's own, for any role. The path names the invite \
              id in hexadecimal, the same as in the body.",
    request: Some("InviteAdmission"),
    replies: &[(204, "")],
    problems: &[
        ProblemKind::Malformed,
        ProblemKind::Invalid,
        ProblemKind::Conflict,
    ],
    handler: || put(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Proto { message, .. }: Proto<InviteAdmission>,
) -> Result<StatusCode, Refusal> {
    let id: InviteId = id.parse().map_err(|_| {
        Refusal::new(
            ProblemKind::Malformed,
            "the invite id must be 64 hexadecimal digits",
        )
    })?;
    let invite = check(&app, message)?;
    if invite.id != id {
        return Err(Refusal::invalid("invite_id is another than in the path"));
    }
    admit(&app, invite).await
}
