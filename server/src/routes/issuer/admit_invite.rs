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

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use wardline_wire::invite::InviteSecret;
    use wardline_wire::proto::Role;

    use crate::testing::World;

    #[tokio::test]
    async fn path_and_body_name_the_same_invite() {
        let world = World::new().await;
        let secret = InviteSecret::new([1; 32]);
        let mut admission = world.admission(&secret, Role::Staff);
        admission.sealed_request.clear();
        let body = admission.encode_to_vec();
        for (id, status) in [
            (secret.id().to_string(), 204),
            (InviteSecret::new([2; 32]).id().to_string(), 422),
            ("nonsense".to_owned(), 400),
        ] {
            let path = format!("/v1/issuer/invites/{id}");
            let answer = world
                .call("PUT", &path, &world.issuer.token, body.clone())
                .await;
            assert_eq!(answer.status, status, "{id}");
        }
    }
}
