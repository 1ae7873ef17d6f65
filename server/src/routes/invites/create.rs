//! `POST /v1/invites`: a member of staff invites somebody.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::role_from_wire;
use wardline_wire::ids::InviteId;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{InviteAdmission, Role};

use super::super::field;
use crate::app::App;
use crate::auth::matrix::Action;
use crate::auth::{Caller, DeviceCaller, require};
use crate::body::Proto;
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::{DAY_MS, Invite, Placed};

/// Longest life of an invite.
const MAX_LIFE_MS: u64 = 90 * DAY_MS;
/// A sealed request is a few hundred bytes.
const MAX_SEALED_BYTES: usize = 4096;

pub(crate) const ROUTE: Route = Route {
    method: "POST",
    path: "/v1/invites",
    action: Action::InvitePatient,
    summary: "Admits an invite by the hash of its secret. Staff invite patients, admins anyone. \
              Who invites is in the sealed request, which the relay cannot read.",
    request: Some("InviteAdmission"),
    replies: &[(204, "")],
    problems: &[ProblemKind::Invalid, ProblemKind::Conflict],
    handler: || post(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    caller: DeviceCaller,
    Proto { message, .. }: Proto<InviteAdmission>,
) -> Result<StatusCode, Refusal> {
    let invite = check(&app, message)?;
    if invite.sealed_request.is_empty() {
        return Err(Refusal::invalid("sealed_request must not be empty"));
    }
    let inviter = caller.address.account;
    if invite.role != Role::Patient {
        require(Action::InviteAnyone, &Caller::Device(caller))?;
    }
    app.limits.invite(inviter)?;
    admit(&app, invite).await
}

/// Lengths, role and end of an admission.
pub(crate) fn check(app: &App, admission: InviteAdmission) -> Result<Invite, Refusal> {
    let now = app.clock.now();
    let expires_at = Timestamp::from_millis(admission.expires_at_ms);
    if expires_at <= now || expires_at > now.plus_millis(MAX_LIFE_MS) {
        return Err(Refusal::invalid(
            "expires_at_ms must be in the future, at most 90 days from now",
        ));
    }
    if admission.sealed_request.len() > MAX_SEALED_BYTES {
        return Err(Refusal::invalid(format!(
            "sealed_request has at most {MAX_SEALED_BYTES} bytes"
        )));
    }
    Ok(Invite {
        id: InviteId::from(field::<32>(&admission.invite_id, "invite_id")?),
        role: role_from_wire(admission.role)
            .ok_or_else(|| Refusal::invalid("role must be one of the roles"))?,
        expires_at,
        sealed_request: admission.sealed_request,
    })
}

/// Stores an admission; the same again is accepted.
pub(crate) async fn admit(app: &App, invite: Invite) -> Result<StatusCode, Refusal> {
    match app.store.admit(&invite).await? {
        Placed::Stored | Placed::Same => Ok(StatusCode::NO_CONTENT),
        Placed::Conflict => Err(Refusal::new(
            ProblemKind::Conflict,
            "this invite id was admitted before, with other content",
        )),
    }
}
