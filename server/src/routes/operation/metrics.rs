//! `GET /metrics`: counters for Prometheus. No identities, no content.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::app::App;
use crate::auth::matrix::Action;
use crate::router::Route;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/metrics",
    action: Action::Operate,
    summary: "Prometheus metrics; only on loopback.",
    request: None,
    replies: &[(200, "text")],
    problems: &[],
    handler: || get(handle),
};

async fn handle(State(app): State<Arc<App>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        app.metrics.render(),
    )
}

#[cfg(test)]
mod tests {
    use wardline_wire::proto::Role;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn metrics_name_patterns_and_no_identities() {
        let world = World::new().await;
        let person = world.person(Role::Staff).await;
        let path = format!("/v1/accounts/{}", person.account);
        assert_eq!(world.get(&path, &person.token).await.status, 200);
        let answer = world.get(ROUTE.path, "").await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.contains("path=\"/v1/accounts/{account}\""), "{text}");
        assert!(!text.contains(&person.account.to_string()));
    }
}
