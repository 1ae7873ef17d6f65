//! `PUT /v1/accounts/me/access-key`: who may fetch this account's prekeys.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::AccessKeyUpdate;

use super::super::field;
use crate::app::App;
use crate::auth::DeviceCaller;
use crate::auth::matrix::Action;
use crate::body::Proto;
use crate::problem::Refusal;
use crate::router::Route;

pub(crate) const ROUTE: Route = Route {
    method: "PUT",
    path: "/v1/accounts/me/access-key",
    action: Action::ReplaceAccessKey,
    summary: "Replaces the hash of the account's access key, which patients must know to fetch \
              its prekeys.",
    request: Some("AccessKeyUpdate"),
    replies: &[(204, "")],
    problems: &[ProblemKind::Invalid],
    handler: || put(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    caller: DeviceCaller,
    Proto { message, .. }: Proto<AccessKeyUpdate>,
) -> Result<StatusCode, Refusal> {
    let sha256 = field(&message.access_key_sha256, "access_key_sha256")?;
    app.store
        .set_access_key(caller.address.account, sha256)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use wardline_wire::proto::Role;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn the_hash_must_be_one() {
        let world = World::new().await;
        let person = world.pending(Role::Patient).await;
        for (length, status) in [(32, 204), (31, 422), (0, 422)] {
            let update = AccessKeyUpdate {
                access_key_sha256: vec![1; length],
            };
            let answer = world
                .call("PUT", ROUTE.path, &person.token, update.encode_to_vec())
                .await;
            assert_eq!(answer.status, status, "{length}");
        }
    }
}
