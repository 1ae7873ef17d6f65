//! `GET /v1/deployment`: which clinic this is, and its current issuers.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use prost::Message as _;
use wardline_wire::directory::VerifiedIssuer;
use wardline_wire::proto::{Deployment, SignedBlob};

use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::{Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;

/// Issuers shown at most; a clinic has one or two at a time.
const MAX_ISSUERS: u32 = 16;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/v1/deployment",
    action: Action::ReadDeployment,
    summary: "Deployment id, root key and current issuers. Endpoints believe the root key only \
              if its hash is the one their invite names.",
    request: None,
    replies: &[(200, "Deployment")],
    problems: &[],
    handler: || get(handle),
};

async fn handle(State(app): State<Arc<App>>) -> Result<Reply<Deployment>, Refusal> {
    let now = app.clock.now();
    let anchor = app.directory.anchor();
    let revocations = app.directory.revocations();
    let issuers = app
        .store
        .issuers(MAX_ISSUERS)
        .await?
        .iter()
        .filter_map(|bytes| SignedBlob::decode(bytes.as_slice()).ok())
        .filter(|blob| {
            VerifiedIssuer::verify(blob, anchor, now).is_ok_and(|issuer| {
                !revocations
                    .as_ref()
                    .is_some_and(|list| list.covers_issuer(issuer.serial()))
            })
        })
        .collect();
    Ok(reply(Deployment {
        deployment_id: anchor.deployment().to_vec(),
        root_key: anchor.root().to_bytes().to_vec(),
        issuers,
    }))
}

#[cfg(test)]
mod tests {
    use wardline_wire::directory::TrustAnchor;
    use wardline_wire::ids::DeploymentId;
    use wardline_wire::proto::RevocationKind;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn shows_the_root_and_current_issuers() {
        let world = World::new().await;
        let second = world.other_issuer();
        for blob in [&world.issuer.blob, &second.blob] {
            let body = blob.encode_to_vec();
            let answer = world
                .call("PUT", "/v1/issuer/issuers", &world.issuer.token, body)
                .await;
            assert_eq!(answer.status, 204);
        }
        let shown: Deployment = world.get(ROUTE.path, "").await.message();
        assert_eq!(shown.issuers.len(), 2);
        let pin = TrustAnchor::new(world.deployment, world.root.verifying_key()).fingerprint();
        let deployment = DeploymentId::from_slice(&shown.deployment_id).unwrap();
        assert!(TrustAnchor::from_pinned(deployment, &pin, &shown.root_key).is_ok());
        let bundle = world.revocations(1, &[(RevocationKind::Issuer, *second.serial.as_bytes())]);
        assert_eq!(world.revoke(&bundle).await.status, 204);
        let shown: Deployment = world.get(ROUTE.path, "").await.message();
        assert_eq!(shown.issuers.len(), 1);
        world.clock.advance_millis(367 * 24 * 3_600_000);
        let shown: Deployment = world.get(ROUTE.path, "").await.message();
        assert!(shown.issuers.is_empty());
    }
}
