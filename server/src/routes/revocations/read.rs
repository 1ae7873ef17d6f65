//! `GET /v1/revocations`: the revocation list in force.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use prost::Message as _;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::RevocationBundle;

use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::{Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::StoreError;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/v1/revocations",
    action: Action::ReadRevocations,
    summary: "The revocation list in force, with the issuer that signed it.",
    request: None,
    replies: &[(200, "RevocationBundle")],
    problems: &[ProblemKind::NotFound],
    handler: || get(handle),
};

async fn handle(State(app): State<Arc<App>>) -> Result<Reply<RevocationBundle>, Refusal> {
    let bytes = app.store.revocations().await?.ok_or_else(|| {
        Refusal::new(
            ProblemKind::NotFound,
            "no revocation list was published yet",
        )
    })?;
    let bundle = RevocationBundle::decode(bytes.as_slice())
        .map_err(|_| StoreError::Corrupt("revocations"))?;
    Ok(reply(bundle))
}

#[cfg(test)]
mod tests {
    use wardline_wire::proto::Role;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn there_is_none_at_first() {
        let world = World::new().await;
        let person = world.pending(Role::Patient).await;
        let answer = world.get(ROUTE.path, &person.token).await;
        assert_eq!(answer.refused(), ProblemKind::NotFound);
    }
}
