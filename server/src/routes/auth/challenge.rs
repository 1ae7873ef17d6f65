//! `POST /v1/auth/challenge`: a nonce to sign.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use wardline_wire::ids::{DeviceAddress, DeviceId};
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{Challenge, ChallengeRequest};

use super::super::account_field;
use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::{Proto, Reply, reply};
use crate::entropy::random;
use crate::problem::Refusal;
use crate::router::Route;

pub(crate) const ROUTE: Route = Route {
    method: "POST",
    path: "/v1/auth/challenge",
    action: Action::LogIn,
    summary: "A nonce to log in with, good for one try. The answer says nothing about whether \
              the account exists.",
    request: Some("ChallengeRequest"),
    replies: &[(200, "Challenge")],
    problems: &[ProblemKind::Invalid],
    handler: || post(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Proto { message, .. }: Proto<ChallengeRequest>,
) -> Result<Reply<Challenge>, Refusal> {
    let whom = who(&message.account_id, message.device_id)?;
    let nonce = app.challenges.make(whom, app.clock.now(), random()?);
    Ok(reply(Challenge {
        nonce: nonce.to_vec(),
        valid_for_ms: u32::try_from(app.challenges.lifetime_ms()).unwrap_or(u32::MAX),
    }))
}

/// The device that logs in, or `None` for an issuer.
pub(super) fn who(account_id: &[u8], device_id: u32) -> Result<Option<DeviceAddress>, Refusal> {
    if account_id.is_empty() && device_id == 0 {
        return Ok(None);
    }
    Ok(Some(DeviceAddress {
        account: account_field(account_id, "account_id")?,
        device: DeviceId::new(device_id)
            .map_err(|_| Refusal::invalid("device_id must be 1 to 127"))?,
    }))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn everybody_gets_a_nonce_whether_or_not_they_exist() {
        let world = World::new().await;
        let one = world.challenge(&[9; 16], 1).await;
        let two = world.challenge(&[9; 16], 1).await;
        assert_eq!((one.len(), two.len()), (32, 32));
        assert_ne!(one, two);
    }

    #[tokio::test]
    async fn wrong_lengths_name_their_field() {
        let world = World::new().await;
        for (length, device, field) in [
            (15, 1, "account_id"),
            (16, 0, "device_id"),
            (16, 128, "device_id"),
            (0, 1, "account_id"),
        ] {
            let request = ChallengeRequest {
                account_id: vec![1; length],
                device_id: device,
            };
            let answer = world
                .call("POST", ROUTE.path, "", request.encode_to_vec())
                .await;
            assert_eq!(answer.refused(), ProblemKind::Invalid);
            assert!(answer.problem().detail.unwrap().contains(field));
        }
    }
}
