//! `PUT /v1/issuer/issuers`: publishes an issuer's record.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use prost::Message as _;
use wardline_wire::directory::VerifiedIssuer;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::SignedBlob;

use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::Proto;
use crate::problem::Refusal;
use crate::router::Route;

pub(crate) const ROUTE: Route = Route {
    method: "PUT",
    path: "/v1/issuer/issuers",
    action: Action::PublishIssuer,
    summary: "Publishes an issuer that the root signed, so that clients can seal invites to it.",
    request: Some("SignedBlob"),
    replies: &[(204, "")],
    problems: &[ProblemKind::Invalid],
    handler: || put(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Proto { message, .. }: Proto<SignedBlob>,
) -> Result<StatusCode, Refusal> {
    let issuer = VerifiedIssuer::verify(&message, app.directory.anchor(), app.clock.now())
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    app.store
        .publish_issuer(
            issuer.serial(),
            &message.encode_to_vec(),
            issuer.not_after(),
        )
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn only_what_the_root_signed_is_published() {
        let world = World::new().await;
        let mut forged = world.other_issuer().blob;
        forged.payload.push(0);
        let answer = world
            .call(
                "PUT",
                ROUTE.path,
                &world.issuer.token,
                forged.encode_to_vec(),
            )
            .await;
        assert_eq!(answer.refused(), ProblemKind::Invalid);
    }
}
