//! Frame `Send`.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::FutureExt as _;
use wardline_wire::ids::{AccountId, DeviceId, SendId};
use wardline_wire::limits::MAX_REGISTRATION_ID;
use wardline_wire::proto::{
    Accepted, Blocked, CiphertextType, Conflict, DeviceCiphertext, Envelope, Error, ErrorCode,
    Full, Limited, Mismatch, RecipientResult, Send, SendResult, ServerFrame, recipient_result,
    server_frame,
};

use super::{End, Handled, Session, ending, error, error_frame, frame};
use crate::auth::Caller;
use crate::auth::matrix::{self, Action, Decision};
use crate::hub::Ending;
use crate::mailbox::plan::{
    Caps, Ciphertext, Outcome, QueuedSend, SendOutcome, check_recipient, check_sender,
};
use crate::rate_limit::Wait;

impl Session {
    /// Checks form and limits, queues the send, and answers once it is durable.
    pub(super) async fn send(&self, send: Send, length: usize) -> Result<Handled<'_>, Error> {
        let id = SendId::from_slice(&send.send_id)
            .map_err(|_| error(ErrorCode::Invalid, "send_id must be 16 bytes"))?;
        let about = move |mut error: Error| {
            error.send_id = id.to_vec();
            error
        };
        if matrix::decide(Action::Send, &Caller::Device(self.caller.clone())) != Decision::Allowed {
            return Err(about(error(
                ErrorCode::Forbidden,
                "the clinic has not certified this account (again) yet",
            )));
        }
        let queued = self.check(&send, id).map_err(about)?;
        let accounts: Vec<AccountId> = queued
            .recipients
            .iter()
            .map(|recipient| recipient.account)
            .collect();
        let limits = &self.app.limits;
        if let Err(wait) = limits.send(self.caller.address, accounts.len(), length) {
            metrics::counter!("wardline_relay_sends_limited_total").increment(1);
            return Ok(Handled::Answer(Box::new(limited(id, &accounts, wait))));
        }
        if send.ephemeral {
            return Ok(Handled::Later(self.pass_on(id, queued, accounts).boxed()));
        }
        let unavailable = move || {
            about(error(
                ErrorCode::Unavailable,
                "the relay could not store it; send the same again",
            ))
        };
        let answer = self
            .app
            .mailbox
            .send(queued, length)
            .await
            .map_err(|_| unavailable())?;
        let pending = async move {
            match answer.await {
                Ok(Ok(outcome)) => answered(id, &accounts, outcome),
                Ok(Err(_)) | Err(_) => Ok(error_frame(unavailable())),
            }
        };
        Ok(Handled::Later(pending.boxed()))
    }

    /// An ephemeral send: the same checks, then to open sockets only.
    async fn pass_on(
        &self,
        id: SendId,
        send: QueuedSend,
        accounts: Vec<AccountId>,
    ) -> Result<ServerFrame, End> {
        let mut wanted = accounts.clone();
        wanted.push(send.sender.account);
        wanted.sort_unstable();
        wanted.dedup();
        let states = match self.app.store.recipients(&wanted).await {
            Ok(states) => states,
            Err(failure) => {
                tracing::error!(error = %failure, "the database failed");
                let mut refusal = error(ErrorCode::Unavailable, "try again");
                refusal.send_id = id.to_vec();
                return Ok(error_frame(refusal));
            }
        };
        let states: HashMap<_, _> = states
            .into_iter()
            .map(|state| (state.account, state))
            .collect();
        if let Some(refused) = check_sender(&send, &states) {
            return answered(id, &accounts, refused);
        }
        // Nothing is stored, so no mailbox is too full.
        let caps = Caps {
            envelopes: u64::MAX,
            bytes: u64::MAX,
        };
        let mut outcomes = Vec::with_capacity(send.recipients.len());
        for recipient in &send.recipients {
            let outcome = match states.get(&recipient.account) {
                Some(state) if state.active => check_recipient(send.sender, recipient, state, caps),
                _ => Outcome::Blocked,
            };
            if outcome == Outcome::Accepted {
                for ciphertext in &recipient.ciphertexts {
                    let envelope = Envelope {
                        seq: 0,
                        sender_account_id: send.sender.account.to_vec().into(),
                        sender_device_id: send.sender.device.into(),
                        r#type: ciphertext.kind,
                        // A copy: one small envelope must not keep the whole frame alive.
                        ciphertext: Bytes::copy_from_slice(&ciphertext.body),
                        ephemeral: true,
                    };
                    let address = wardline_wire::ids::DeviceAddress {
                        account: recipient.account,
                        device: ciphertext.device,
                    };
                    self.app.hub.ephemeral(address, envelope);
                }
            }
            outcomes.push(outcome);
        }
        answered(id, &accounts, SendOutcome::Answered(outcomes))
    }

    /// Lengths, numbers and limits; every refusal names its field.
    fn check(&self, send: &Send, id: SendId) -> Result<QueuedSend, Error> {
        let invalid = |detail: String| error(ErrorCode::Invalid, detail);
        let limits = &self.app.config.limits;
        if send.recipients.is_empty() {
            return Err(invalid("recipients must not be empty".to_owned()));
        }
        if send.recipients.len() > limits.max_recipients as usize {
            return Err(error(
                ErrorCode::TooLarge,
                format!("recipients: at most {} accounts", limits.max_recipients),
            ));
        }
        let mut seen = BTreeSet::new();
        let mut recipients = Vec::with_capacity(send.recipients.len());
        for (at, recipient) in send.recipients.iter().enumerate() {
            let account = AccountId::from_slice(&recipient.account_id)
                .map_err(|_| invalid(format!("recipients[{at}].account_id must be 16 bytes")))?;
            if !seen.insert(account) {
                return Err(invalid(format!(
                    "recipients[{at}].account_id is there twice"
                )));
            }
            // An account has far fewer; a longer list is not worth comparing.
            if recipient.ciphertexts.len() > 127 {
                return Err(error(
                    ErrorCode::TooLarge,
                    format!("recipients[{at}].ciphertexts: at most 127"),
                ));
            }
            let mut devices = BTreeSet::new();
            let mut ciphertexts = Vec::with_capacity(recipient.ciphertexts.len());
            for (nth, ciphertext) in recipient.ciphertexts.iter().enumerate() {
                let field = format!("recipients[{at}].ciphertexts[{nth}]");
                let checked = check_ciphertext(ciphertext, &field, limits.max_ciphertext_bytes)?;
                if !devices.insert(checked.device) {
                    return Err(invalid(format!("{field}.device_id is there twice")));
                }
                ciphertexts.push(checked);
            }
            recipients.push(self.app.mailbox.hashes().recipient(
                self.caller.address,
                id,
                account,
                ciphertexts,
            ));
        }
        Ok(QueuedSend {
            sender: self.caller.address,
            auth_epoch: self.caller.auth_epoch,
            recipients,
        })
    }
}

fn check_ciphertext(
    ciphertext: &DeviceCiphertext,
    field: &str,
    max_bytes: u32,
) -> Result<Ciphertext, Error> {
    let invalid = |name: &str, rule: &str| {
        Err(error(
            ErrorCode::Invalid,
            format!("{field}.{name} must be {rule}"),
        ))
    };
    let Ok(device) = DeviceId::new(ciphertext.device_id) else {
        return invalid("device_id", "1 to 127");
    };
    if !(1..=MAX_REGISTRATION_ID).contains(&ciphertext.registration_id) {
        return invalid("registration_id", "1 to 16383");
    }
    if !matches!(
        CiphertextType::try_from(ciphertext.r#type),
        Ok(CiphertextType::Signal | CiphertextType::Prekey)
    ) {
        return invalid("type", "2 (signal) or 3 (prekey)");
    }
    if ciphertext.ciphertext.is_empty() {
        return invalid("ciphertext", "at least one byte");
    }
    if ciphertext.ciphertext.len() > max_bytes as usize {
        return Err(error(
            ErrorCode::TooLarge,
            format!("{field}.ciphertext has at most {max_bytes} bytes"),
        ));
    }
    Ok(Ciphertext {
        device,
        registration_id: ciphertext.registration_id,
        kind: ciphertext.r#type,
        body: ciphertext.ciphertext.clone(),
    })
}

fn limited(id: SendId, accounts: &[AccountId], wait: Wait) -> ServerFrame {
    let limited = Limited {
        retry_after_ms: wait.millis_u32(),
    };
    result(
        id,
        accounts
            .iter()
            .map(|account| (*account, recipient_result::Result::Limited(limited))),
    )
}

fn answered(id: SendId, accounts: &[AccountId], outcome: SendOutcome) -> Result<ServerFrame, End> {
    match outcome {
        SendOutcome::SenderRevoked => Err(End::Told(ending(Ending::Revoked))),
        SendOutcome::SenderChanged => Err(End::Told(ending(Ending::Changed))),
        SendOutcome::Answered(outcomes) => Ok(result(
            id,
            accounts
                .iter()
                .copied()
                .zip(outcomes.into_iter().map(on_wire)),
        )),
    }
}

fn result(
    id: SendId,
    results: impl Iterator<Item = (AccountId, recipient_result::Result)>,
) -> ServerFrame {
    frame(server_frame::Frame::SendResult(SendResult {
        send_id: id.to_vec(),
        results: results
            .map(|(account, result)| RecipientResult {
                account_id: account.to_vec(),
                result: Some(result),
            })
            .collect(),
    }))
}

fn on_wire(outcome: Outcome) -> recipient_result::Result {
    let numbers = |devices: Vec<DeviceId>| devices.into_iter().map(u32::from).collect();
    match outcome {
        Outcome::Accepted => recipient_result::Result::Accepted(Accepted {}),
        Outcome::Mismatch(mismatch) => recipient_result::Result::Mismatch(Mismatch {
            missing: numbers(mismatch.missing),
            extra: numbers(mismatch.extra),
            stale: numbers(mismatch.stale),
        }),
        Outcome::Full => recipient_result::Result::Full(Full {}),
        Outcome::Blocked => recipient_result::Result::Blocked(Blocked {}),
        Outcome::Conflict => recipient_result::Result::Conflict(Conflict {}),
    }
}
