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

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use wardline_wire::invite::InviteSecret;

    use super::*;
    use crate::testing::{Answer, Person, World};

    async fn offer(world: &World, person: &Person, admission: &InviteAdmission) -> Answer {
        let body = admission.encode_to_vec();
        world.call("POST", ROUTE.path, &person.token, body).await
    }

    #[tokio::test]
    async fn staff_invite_patients_and_admins_anyone() {
        let world = World::new().await;
        for (inviter, role, allowed) in [
            (Role::Staff, Role::Patient, true),
            (Role::Staff, Role::Staff, false),
            (Role::Staff, Role::Admin, false),
            (Role::Admin, Role::Patient, true),
            (Role::Admin, Role::Staff, true),
            (Role::Admin, Role::Officer, true),
            (Role::Patient, Role::Patient, false),
            (Role::Ai, Role::Patient, false),
            (Role::Officer, Role::Patient, false),
        ] {
            let person = world.person(inviter).await;
            let number = u8::try_from(world.next() % 256).unwrap();
            let secret = InviteSecret::new([number; 32]);
            let answer = offer(&world, &person, &world.admission(&secret, role)).await;
            let status = if allowed { 204 } else { 403 };
            assert_eq!(answer.status, status, "{inviter:?} {role:?}");
        }
    }

    #[tokio::test]
    async fn the_same_again_is_accepted_and_other_content_is_not() {
        let world = World::new().await;
        let person = world.person(Role::Staff).await;
        let secret = InviteSecret::new([1; 32]);
        let mut admission = world.admission(&secret, Role::Patient);
        assert_eq!(offer(&world, &person, &admission).await.status, 204);
        assert_eq!(offer(&world, &person, &admission).await.status, 204);
        admission.expires_at_ms += 1;
        let answer = offer(&world, &person, &admission).await;
        assert_eq!(answer.refused(), ProblemKind::Conflict);
    }

    #[tokio::test]
    async fn wrong_values_are_refused() {
        type Spoil = fn(&mut InviteAdmission);
        let world = World::new().await;
        let person = world.person(Role::Admin).await;
        let spoilt: [Spoil; 7] = [
            |admission| admission.invite_id.truncate(31),
            |admission| admission.role = 0,
            |admission| admission.role = 99,
            |admission| admission.expires_at_ms = 1,
            |admission| admission.expires_at_ms = u64::MAX,
            |admission| admission.sealed_request = Vec::new(),
            |admission| admission.sealed_request = vec![0; 5000],
        ];
        for spoil in spoilt {
            let mut admission = world.admission(&InviteSecret::new([2; 32]), Role::Patient);
            spoil(&mut admission);
            let answer = offer(&world, &person, &admission).await;
            assert_eq!(answer.refused(), ProblemKind::Invalid);
        }
    }
}
