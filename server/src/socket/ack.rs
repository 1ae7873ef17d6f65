//! Frame `Acknowledge`.

use std::sync::atomic::Ordering;

use wardline_wire::proto::{Acknowledge, Error, ErrorCode};

use super::{Session, error};
use crate::auth::Caller;
use crate::auth::matrix::{self, Action, Decision};
use crate::store::Ack;

impl Session {
    /// Everything up to `seq` may go. One of another epoch is void, and nothing
    /// beyond what this device was given can be acknowledged.
    pub(super) async fn acknowledge(&self, frame: Acknowledge) -> Result<(), Error> {
        let caller = Caller::Device(self.caller.clone());
        if matrix::decide(Action::Acknowledge, &caller) != Decision::Allowed {
            return Err(error(
                ErrorCode::Forbidden,
                "the clinic has not certified this account (again) yet",
            ));
        }
        if frame.seq > self.acknowledgeable.load(Ordering::Acquire) {
            return Err(error(
                ErrorCode::Invalid,
                "seq is beyond what was delivered to this device",
            ));
        }
        if frame.seq > 0 {
            self.app
                .mailbox
                .acknowledge(Ack {
                    device: self.caller.address,
                    epoch: frame.epoch,
                    seq: frame.seq,
                })
                .await;
        }
        Ok(())
    }
}
