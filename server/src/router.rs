//! Every route, in one table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use wardline_wire::problem::ProblemKind;

use crate::app::App;
use crate::auth::authorize;
use crate::auth::matrix::Action;
use crate::problem::Refusal;
use crate::routes::{
    accounts, auth, deployment, enrolments, invites, issuer, keys, operation, revocations, socket,
};

/// One endpoint: where it is, who may use it, how it reads in the OpenAPI document.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) action: Action,
    pub(crate) summary: &'static str,
    /// Protobuf message of the request's body.
    pub(crate) request: Option<&'static str>,
    /// Status and protobuf message of each reply; empty for no body.
    pub(crate) replies: &'static [(u16, &'static str)],
    /// Problems besides those that every route has.
    pub(crate) problems: &'static [ProblemKind],
    pub(crate) handler: fn() -> MethodRouter<Arc<App>>,
}

/// The table.
pub(crate) static ROUTES: &[Route] = &[
    operation::health::ROUTE,
    operation::ready::ROUTE,
    operation::metrics::ROUTE,
    deployment::read::ROUTE,
    enrolments::create::ROUTE,
    auth::challenge::ROUTE,
    auth::token::ROUTE,
    accounts::read::ROUTE,
    accounts::read_handle::ROUTE,
    accounts::replace_device_list::ROUTE,
    accounts::replace_access_key::ROUTE,
    keys::upload::ROUTE,
    keys::stock::ROUTE,
    keys::fetch::ROUTE,
    invites::create::ROUTE,
    revocations::read::ROUTE,
    issuer::admit_invite::ROUTE,
    issuer::enrolments::ROUTE,
    issuer::decide::ROUTE,
    issuer::publish_revocations::ROUTE,
    issuer::publish_issuer::ROUTE,
    socket::ROUTE,
];

const METRICS: &str = operation::metrics::ROUTE.path;

/// The whole interface; `/metrics` only if asked for.
pub(crate) fn build(app: &Arc<App>, with_metrics: bool) -> Router {
    assemble(app, |route| with_metrics || route.path != METRICS)
}

/// `/metrics` alone, for a listener of its own.
pub(crate) fn build_metrics(app: &Arc<App>) -> Router {
    assemble(app, |route| route.path == METRICS)
}

fn assemble(app: &Arc<App>, wanted: impl Fn(&Route) -> bool) -> Router {
    let mut router = Router::new();
    for route in ROUTES.iter().filter(|route| wanted(route)) {
        let authorized = from_fn_with_state((Arc::clone(app), route.action), authorize);
        router = router.route(route.path, (route.handler)().route_layer(authorized));
    }
    router
        .fallback(async || Refusal::new(ProblemKind::NotFound, "there is no such path"))
        .method_not_allowed_fallback(async || {
            Refusal::new(
                ProblemKind::MethodNotAllowed,
                "see the Allow header for the methods offered here",
            )
        })
        .layer(from_fn_with_state(Arc::clone(app), guard))
        .with_state(Arc::clone(app))
}

/// Around every request: a bound on how many there are and how long they take, and
/// a task of its own, so that neither a client that hangs up nor a panic leaves
/// work half done.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().as_str().to_owned();
    // The pattern, never the path: paths hold accounts and handles.
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str)
        .to_owned();
    let response = run(&app, request, next).await;
    let status = response.status().as_u16();
    tracing::debug!(
        method,
        path,
        status,
        duration_ms = begun.elapsed().as_secs_f64() * 1000.0,
        "request"
    );
    metrics::counter!(
        "wardline_relay_requests_total",
        "method" => method, "path" => path.clone(), "status" => status.to_string()
    )
    .increment(1);
    metrics::histogram!("wardline_relay_request_seconds", "path" => path).record(begun.elapsed());
    response
}

async fn run(app: &Arc<App>, request: Request, next: Next) -> Response {
    let Ok(slot) = Arc::clone(&app.requests).try_acquire_owned() else {
        return Refusal::new(ProblemKind::Unavailable, "too much at once; try again")
            .into_response();
    };
    let patience = Duration::from_secs(app.config.limits.request_seconds.into());
    let work = tokio::spawn(async move {
        let _slot = slot;
        tokio::time::timeout(patience, next.run(request)).await
    });
    match work.await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            Refusal::new(ProblemKind::Unavailable, "the request took too long").into_response()
        }
        Err(failure) => {
            tracing::error!(panicked = failure.is_panic(), "a handler failed");
            Refusal::new(ProblemKind::Internal, "tell the relay's operator").into_response()
        }
    }
}
