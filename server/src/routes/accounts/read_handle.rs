//! `GET /v1/handles/{handle}`: who has a handle.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use wardline_wire::directory::Handle;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::AccountRecord;

use super::super::{Segment, record};
use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::{Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/v1/handles/{handle}",
    action: Action::ReadHandle,
    summary: "The account with this handle. Endpoints check that its certificate carries it.",
    request: None,
    replies: &[(200, "AccountRecord")],
    problems: &[ProblemKind::Invalid, ProblemKind::NotFound],
    handler: || get(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Segment(handle): Segment,
) -> Result<Reply<AccountRecord>, Refusal> {
    let handle: Handle = handle
        .parse()
        .map_err(|_| Refusal::invalid("a handle has 2 to 32 of a-z, 0-9, '.', '_' and '-'"))?;
    let account = app
        .store
        .account_by_handle(handle.as_str(), app.clock.now())
        .await?
        .ok_or_else(|| Refusal::new(ProblemKind::NotFound, "nobody has this handle"))?;
    Ok(reply(record(&account)?))
}

#[cfg(test)]
mod tests {
    use wardline_wire::ids::AccountId;
    use wardline_wire::proto::Role;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn handles_lead_to_their_accounts() {
        let world = World::new().await;
        let doctor = world.pending(Role::Staff).await;
        let chain = world.certificate(&doctor, "dr.who");
        assert_eq!(world.decide(&doctor, Some(chain)).await.status, 204);
        let token = world.log_in(&doctor, &doctor.devices[0]).await;
        for handle in ["dr.who", "@dr.who"] {
            let path = format!("/v1/handles/{handle}");
            let record: AccountRecord = world.get(&path, &token).await.message();
            assert_eq!(
                AccountId::from_slice(&record.account_id),
                Ok(doctor.account)
            );
        }
        let answer = world.get("/v1/handles/nobody", &token).await;
        assert_eq!(answer.refused(), ProblemKind::NotFound);
        let answer = world.get("/v1/handles/DrWho", &token).await;
        assert_eq!(answer.refused(), ProblemKind::Invalid);
    }

    #[tokio::test]
    async fn patients_do_not_look_people_up() {
        let world = World::new().await;
        let patient = world.person(Role::Patient).await;
        let answer = world.get("/v1/handles/dr.who", &patient.token).await;
        assert_eq!(answer.refused(), ProblemKind::Forbidden);
    }
}
