//! `GET /v1/socket`: a device's WebSocket.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use axum::routing::get;
use wardline_wire::limits::MAX_FRAME_BYTES;
use wardline_wire::problem::ProblemKind;

use crate::app::App;
use crate::auth::DeviceCaller;
use crate::auth::matrix::Action;
use crate::problem::Refusal;
use crate::router::Route;
use crate::serve::ConnectionSlot;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/v1/socket",
    action: Action::Connect,
    summary: "Upgrades to a WebSocket with binary frames (`frame.proto`). The newest socket of \
              a device wins.",
    request: None,
    replies: &[(101, "")],
    problems: &[ProblemKind::Malformed, ProblemKind::Unavailable],
    handler: || get(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    caller: DeviceCaller,
    slot: Option<Extension<ConnectionSlot>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    if app.is_stopping() {
        return Err(Refusal::new(
            ProblemKind::Unavailable,
            "the relay goes down; connect again in a moment",
        ));
    }
    let upgrade = upgrade.map_err(|_| {
        Refusal::new(
            ProblemKind::Malformed,
            "this path is for WebSockets; ask for an upgrade",
        )
    })?;
    // Frames a little over the limit are read whole, to be refused by name.
    let slack = 64 * 1024;
    Ok(upgrade
        .max_message_size(MAX_FRAME_BYTES + slack)
        .max_frame_size(MAX_FRAME_BYTES + slack)
        .on_upgrade(move |websocket| async move {
            crate::socket::run(app, caller, websocket).await;
            // The connection counts until its socket ends.
            drop(slot);
        }))
}
