//! `GET /healthz`: the process answers.

use axum::routing::get;

use crate::auth::matrix::Action;
use crate::router::Route;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/healthz",
    action: Action::Operate,
    summary: "The process is alive.",
    request: None,
    replies: &[(200, "text")],
    problems: &[],
    handler: || get(async || "ok\n"),
};
