//! Frame `Reauthorize`.

use std::sync::atomic::Ordering;

use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{
    Error, ErrorCode, Reauthorize, Reauthorized, ServerFrame, server_frame,
};

use super::{Session, closing, ending, error, frame};
use crate::auth::matrix::{self, Action, Decision};
use crate::auth::{Caller, identify};
use crate::hub::Ending;

impl Session {
    /// The socket lives on until the new token ends. The token must be this
    /// device's, and say nothing new: after a change of status or role the device
    /// connects again.
    pub(super) async fn reauthorize(&self, request: Reauthorize) -> Result<ServerFrame, Error> {
        let device = match identify(&self.app, &request.token).await {
            Ok(Caller::Device(device)) if device.address == self.caller.address => device,
            Ok(_) => {
                return Err(closing(error(
                    ErrorCode::Unauthorized,
                    "the token belongs to somebody else",
                )));
            }
            Err(refusal) => {
                return Err(match refusal.kind() {
                    Some(ProblemKind::Revoked) => ending(Ending::Revoked),
                    Some(ProblemKind::Unauthorized) => closing(error(
                        ErrorCode::Unauthorized,
                        "the token is not valid or has expired; log in again",
                    )),
                    _ => error(ErrorCode::Unavailable, "try again"),
                });
            }
        };
        let caller = Caller::Device(device.clone());
        if matrix::decide(Action::Reauthorize, &caller) != Decision::Allowed {
            return Err(ending(Ending::Revoked));
        }
        if (device.role, device.status, device.auth_epoch)
            != (self.caller.role, self.caller.status, self.caller.auth_epoch)
        {
            return Err(ending(Ending::Changed));
        }
        self.expires_at
            .store(device.expires_at.as_millis(), Ordering::Relaxed);
        let left = device.expires_at.millis_since(self.app.clock.now());
        Ok(frame(server_frame::Frame::Reauthorized(Reauthorized {
            valid_for_ms: u32::try_from(left).unwrap_or(u32::MAX),
        })))
    }
}
