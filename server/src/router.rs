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

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use prost::Message as _;
    use wardline_wire::limits::MAX_BODY_BYTES;
    use wardline_wire::problem::ProblemKind;
    use wardline_wire::proto::{AccessKeyUpdate, ChallengeRequest, Role};

    use super::*;
    use crate::auth::matrix::{self, Decision};
    use crate::auth::{Caller, DeviceCaller};
    use crate::config::Rate;
    use crate::testing::World;

    /// The path with something in place of its parameters.
    fn sample(route: &Route) -> String {
        let own = "ffffffff-ffff-4fff-bfff-ffffffffffff";
        route
            .path
            .replace("{account}", own)
            .replace("{handle}", "somebody")
            .replace("{invite}", &"ab".repeat(32))
    }

    #[tokio::test]
    async fn every_route_lets_in_whom_the_matrix_names_and_nobody_else() {
        let world = World::new().await;
        let mut callers = vec![(String::new(), Caller::Anonymous)];
        callers.push((
            world.issuer.token.clone(),
            Caller::Issuer(world.issuer.serial),
        ));
        for role in [
            Role::Patient,
            Role::Staff,
            Role::Ai,
            Role::Admin,
            Role::Officer,
        ] {
            for person in [world.person(role).await, world.pending(role).await] {
                let claims = world
                    .app
                    .tokens
                    .verify(&person.token, world.app.clock.now())
                    .unwrap();
                let standing = world
                    .app
                    .store
                    .standing(person.address(1), world.app.clock.now())
                    .await
                    .unwrap()
                    .unwrap();
                let caller = Caller::Device(DeviceCaller {
                    address: person.address(1),
                    role: standing.role,
                    status: standing.status,
                    auth_epoch: claims.auth_epoch,
                    expires_at: claims.expires_at,
                });
                callers.push((person.token.clone(), caller));
            }
        }
        for route in ROUTES {
            for (token, caller) in &callers {
                // An empty body is refused by every handler that wants one, but only
                // after the caller was let in.
                let answer = world.call(route.method, &sample(route), token, "").await;
                let kind = (!answer.status.is_success()).then(|| answer.refused());
                let turned_away = matches!(
                    kind,
                    Some(ProblemKind::Unauthorized | ProblemKind::Forbidden)
                );
                // These look closer than at the role.
                let account = "/v1/accounts/{account}";
                let by_handler = (route.path == account
                    && matrix::decide(Action::ReadAccount, caller) != Decision::Allowed)
                    || (route.path == "/v1/auth/token");
                if by_handler {
                    continue;
                }
                let expected = matrix::decide(route.action, caller);
                assert_eq!(
                    turned_away,
                    expected != Decision::Allowed,
                    "{} {} {caller:?} {expected:?} {}",
                    route.method,
                    route.path,
                    answer.status
                );
                if expected == Decision::LogIn {
                    assert_eq!(kind, Some(ProblemKind::Unauthorized));
                }
            }
        }
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_problems() {
        let world = World::new().await;
        for path in ["/", "/v1", "/v2/keys", "/v1/accounts/me/other", "/healthz/"] {
            assert_eq!(world.get(path, "").await.refused(), ProblemKind::NotFound);
        }
        for (method, path) in [
            ("DELETE", "/v1/keys"),
            ("POST", "/healthz"),
            ("GET", "/v1/enrolments"),
            ("PATCH", "/v1/accounts/me/access-key"),
        ] {
            let answer = world.call(method, path, "", "").await;
            assert_eq!(answer.refused(), ProblemKind::MethodNotAllowed);
            assert!(answer.headers.contains_key("allow"), "{method} {path}");
        }
    }

    #[tokio::test]
    async fn bodies_that_are_not_what_they_should_be_are_problems() {
        let world = World::new().await;
        let path = "/v1/auth/challenge";
        for media_type in [None, Some("application/json"), Some("text/plain; x=y")] {
            let mut request = Request::builder().method("POST").uri(path);
            if let Some(media_type) = media_type {
                request = request.header("content-type", media_type);
            }
            let answer = world.request(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.refused(), ProblemKind::UnsupportedMediaType);
        }
        let answer = world.call("POST", path, "", vec![0xFF; 20]).await;
        assert_eq!(answer.refused(), ProblemKind::Malformed);
        let answer = world
            .call("POST", path, "", vec![0; MAX_BODY_BYTES + 1])
            .await;
        assert_eq!(answer.refused(), ProblemKind::TooLarge);
    }

    #[tokio::test]
    async fn unknown_fields_are_ignored() {
        let world = World::new().await;
        let mut body = ChallengeRequest::default().encode_to_vec();
        // Field 100, a string.
        body.extend([0xA2, 0x06, 3, b'a', b'b', b'c']);
        let answer = world.call("POST", "/v1/auth/challenge", "", body).await;
        assert_eq!(answer.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn tokens_that_do_not_count_are_refused() {
        let world = World::new().await;
        let person = world.person(Role::Staff).await;
        for token in ["x", "a.b.c", &person.token.replace('.', "!")] {
            let answer = world.get("/v1/keys", token).await;
            assert_eq!(answer.refused(), ProblemKind::Unauthorized);
        }
        world.clock.advance_millis(600_000);
        let answer = world.get("/v1/keys", &person.token).await;
        assert_eq!(answer.refused(), ProblemKind::Unauthorized);
    }

    #[tokio::test]
    async fn too_many_requests_are_told_when_to_come_back() {
        let world = World::with(|config| {
            config.limits.authenticated = Rate {
                burst: 3,
                per_second: 0.01,
            };
        })
        .await;
        let person = world.person(Role::Staff).await;
        for _ in 0..3 {
            assert_eq!(world.get("/v1/keys", &person.token).await.status, 200);
        }
        let answer = world.get("/v1/keys", &person.token).await;
        assert_eq!(answer.refused(), ProblemKind::Limited);
        let after: u64 = answer.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let millis = answer.problem().retry_after_ms.unwrap();
        assert!((1..=101).contains(&after) && after * 1000 >= millis);
    }

    #[tokio::test]
    async fn addresses_are_limited_without_a_token() {
        let world = World::with(|config| {
            config.limits.unauthenticated = Rate {
                burst: 5,
                per_second: 0.01,
            };
        })
        .await;
        // Logging the issuer in took two.
        for _ in 0..3 {
            assert_eq!(world.get("/v1/deployment", "").await.status, 200);
        }
        assert_eq!(
            world.get("/v1/deployment", "").await.refused(),
            ProblemKind::Limited
        );
        assert_eq!(
            world.get("/v1/keys", "wrong").await.refused(),
            ProblemKind::Limited
        );
        assert_eq!(world.get("/healthz", "").await.status, 200);
    }

    #[tokio::test]
    async fn too_much_at_once_is_turned_away() {
        let world = World::with(|config| config.limits.max_requests = 1).await;
        let held = Arc::clone(&world.app.requests).acquire_owned().await;
        let answer = world.get("/v1/deployment", "").await;
        assert_eq!(answer.refused(), ProblemKind::Unavailable);
        drop(held);
        assert_eq!(world.get("/v1/deployment", "").await.status, 200);
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_leaves_nothing_half_done() {
        let world = World::new().await;
        let person = world.person(Role::Staff).await;
        let before = world.app.requests.available_permits();
        let update = AccessKeyUpdate {
            access_key_sha256: vec![8; 32],
        };
        {
            let hung_up = world.call(
                "PUT",
                "/v1/accounts/me/access-key",
                &person.token,
                update.encode_to_vec(),
            );
            tokio::pin!(hung_up);
            // Polled once, so that it has begun, and dropped.
            let first = std::future::poll_fn(|context| Poll::Ready(hung_up.as_mut().poll(context)));
            assert!(first.await.is_pending());
        }
        for _ in 0..1000 {
            if world.app.requests.available_permits() == before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let account = world
            .app
            .store
            .account(person.account, world.app.clock.now())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(account.access_key_sha256, [8; 32]);
    }
}
