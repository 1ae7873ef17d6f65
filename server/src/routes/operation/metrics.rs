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
