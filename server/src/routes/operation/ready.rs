//! `GET /readyz`: the relay can do its work.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use wardline_wire::problem::ProblemKind;

use crate::app::App;
use crate::auth::matrix::Action;
use crate::problem::Refusal;
use crate::router::Route;

/// A database that takes longer is not ready.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/readyz",
    action: Action::Operate,
    summary: "The database takes writes, and the relay is not going down.",
    request: None,
    replies: &[(200, "text")],
    problems: &[ProblemKind::Unavailable],
    handler: || get(handle),
};

async fn handle(State(app): State<Arc<App>>) -> Result<&'static str, Refusal> {
    if app.is_stopping() {
        return Err(Refusal::new(
            ProblemKind::Unavailable,
            "the relay goes down",
        ));
    }
    if app.mailbox.is_alive() && app.writable.check(app.store.as_ref(), PATIENCE).await {
        Ok("ready\n")
    } else {
        Err(Refusal::new(
            ProblemKind::Unavailable,
            "the database does not take writes; is the disk full?",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_relay_whose_database_takes_writes_is_ready() {
        let world = World::new().await;
        assert_eq!(world.get(ROUTE.path, "").await.status, 200);
        // Somebody keeps the writer's turn: no answer in time means not ready.
        let unready = world
            .app
            .store
            .check_writable()
            .await
            .map_err(|error| error.to_string());
        assert_eq!(unready, Ok(()));
    }
}
