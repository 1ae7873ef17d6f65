//! What becomes of a batch of sends. Pure: reads a snapshot, returns what to write.
//!
//! Every check comes before any write, and a send that fails a check leaves no
//! trace in the plan, so one send's failure never touches another. Inside one
//! send, each recipient account is decided on its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId};

/// A keyed hash; see [`Mailbox`](super::Mailbox) for what goes in.
pub(crate) type Digest = [u8; 32];

/// A send that waits for its transaction.
pub(crate) struct QueuedSend {
    pub(crate) sender: DeviceAddress,
    /// From the sender's token.
    pub(crate) auth_epoch: u64,
    pub(crate) recipients: Vec<QueuedRecipient>,
}

/// The ciphertexts for one account, form checked.
pub(crate) struct QueuedRecipient {
    pub(crate) account: AccountId,
    /// Idempotency key.
    pub(crate) key: Digest,
    /// Hash of the ciphertexts.
    pub(crate) content: Digest,
    pub(crate) ciphertexts: Vec<Ciphertext>,
}

/// One ciphertext for one device.
#[derive(Clone)]
pub(crate) struct Ciphertext {
    pub(crate) device: DeviceId,
    pub(crate) registration_id: u32,
    pub(crate) kind: i32,
    pub(crate) body: Bytes,
}

/// An account that a batch is about, at the moment of the transaction.
#[derive(Clone)]
pub(crate) struct RecipientState {
    pub(crate) account: AccountId,
    /// Certified and not revoked.
    pub(crate) active: bool,
    /// Devices on the current list.
    pub(crate) devices: Vec<RecipientDevice>,
}

/// One device of such an account.
#[derive(Clone)]
pub(crate) struct RecipientDevice {
    pub(crate) id: DeviceId,
    /// The device's row, which is also its mailbox.
    pub(crate) mailbox: i64,
    pub(crate) registration_id: u32,
    pub(crate) auth_epoch: u64,
    pub(crate) next_seq: u64,
    pub(crate) held: u64,
    pub(crate) held_bytes: u64,
}

/// What is known when a batch is planned.
pub(crate) struct Snapshot {
    pub(crate) accounts: Vec<RecipientState>,
    /// Remembered sends: idempotency key and hash of the ciphertexts.
    pub(crate) remembered: Vec<(Digest, Digest)>,
}

/// How much a mailbox may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub(crate) envelopes: u64,
    pub(crate) bytes: u64,
}

/// What became of one send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    /// The sending device or its account is gone; nothing was stored.
    SenderRevoked,
    /// The sender's token is of another auth epoch; nothing was stored.
    SenderChanged,
    /// One answer a recipient, in order.
    Answered(Vec<Outcome>),
}

/// What became of a send for one recipient account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Mismatch(Mismatch),
    Full,
    Blocked,
    Conflict,
}

/// How ciphertexts and devices differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) missing: Vec<DeviceId>,
    pub(crate) extra: Vec<DeviceId>,
    pub(crate) stale: Vec<DeviceId>,
}

/// An envelope to write.
pub(crate) struct PlannedEnvelope {
    pub(crate) mailbox: i64,
    pub(crate) seq: u64,
    pub(crate) sender: DeviceAddress,
    pub(crate) kind: i32,
    pub(crate) body: Bytes,
}

/// A mailbox after the batch.
pub(crate) struct MailboxCounters {
    pub(crate) mailbox: i64,
    pub(crate) next_seq: u64,
    pub(crate) held: u64,
    pub(crate) held_bytes: u64,
}

/// What to write, what to answer, whom to wake.
pub(crate) struct Plan {
    /// One a send, in order.
    pub(crate) outcomes: Vec<SendOutcome>,
    pub(crate) envelopes: Vec<PlannedEnvelope>,
    pub(crate) remember: Vec<(Digest, Digest)>,
    pub(crate) counters: Vec<MailboxCounters>,
    pub(crate) wake: BTreeSet<DeviceAddress>,
}

/// Decides a batch. Counters and remembered sends run on from one send to the
/// next, so two sends of one batch are treated as two of two batches would be.
pub(crate) fn plan(sends: &[QueuedSend], snapshot: Snapshot, caps: Caps) -> Plan {
    let mut accounts: HashMap<AccountId, RecipientState> = snapshot
        .accounts
        .into_iter()
        .map(|state| (state.account, state))
        .collect();
    let mut remembered: HashMap<Digest, Digest> = snapshot.remembered.into_iter().collect();
    let mut touched = BTreeMap::new();
    let mut plan = Plan {
        outcomes: Vec::with_capacity(sends.len()),
        envelopes: Vec::new(),
        remember: Vec::new(),
        counters: Vec::new(),
        wake: BTreeSet::new(),
    };
    for send in sends {
        if let Some(refused) = check_sender(send, &accounts) {
            plan.outcomes.push(refused);
            continue;
        }
        let mut outcomes = Vec::with_capacity(send.recipients.len());
        for recipient in &send.recipients {
            let outcome = match remembered.get(&recipient.key) {
                Some(content) if *content == recipient.content => Outcome::Accepted,
                Some(_) => Outcome::Conflict,
                None => match accounts.get_mut(&recipient.account) {
                    Some(state) if state.active => {
                        let outcome = check_recipient(send.sender, recipient, state, caps);
                        if outcome == Outcome::Accepted {
                            accept(send.sender, recipient, state, &mut touched, &mut plan);
                            remembered.insert(recipient.key, recipient.content);
                        }
                        outcome
                    }
                    _ => Outcome::Blocked,
                },
            };
            outcomes.push(outcome);
        }
        plan.outcomes.push(SendOutcome::Answered(outcomes));
    }
    plan.counters = touched.into_values().collect();
    plan
}

/// `None` when the sender may send.
pub(crate) fn check_sender(
    send: &QueuedSend,
    accounts: &HashMap<AccountId, RecipientState>,
) -> Option<SendOutcome> {
    let state = accounts.get(&send.sender.account);
    let device = state.filter(|state| state.active).and_then(|state| {
        state
            .devices
            .iter()
            .find(|device| device.id == send.sender.device)
    });
    match device {
        None => Some(SendOutcome::SenderRevoked),
        Some(device) if device.auth_epoch != send.auth_epoch => Some(SendOutcome::SenderChanged),
        Some(_) => None,
    }
}

/// Whether the ciphertexts fit the account's devices, and the mailboxes have room.
pub(crate) fn check_recipient(
    sender: DeviceAddress,
    recipient: &QueuedRecipient,
    state: &RecipientState,
    caps: Caps,
) -> Outcome {
    let sends_to_self = |device: DeviceId| {
        sender
            == DeviceAddress {
                account: state.account,
                device,
            }
    };
    let mut mismatch = Mismatch::default();
    for device in state
        .devices
        .iter()
        .filter(|device| !sends_to_self(device.id))
    {
        match recipient
            .ciphertexts
            .iter()
            .find(|ciphertext| ciphertext.device == device.id)
        {
            None => mismatch.missing.push(device.id),
            Some(ciphertext) if ciphertext.registration_id != device.registration_id => {
                mismatch.stale.push(device.id);
            }
            Some(_) => {}
        }
    }
    for ciphertext in &recipient.ciphertexts {
        let listed = state
            .devices
            .iter()
            .any(|device| device.id == ciphertext.device);
        if !listed || sends_to_self(ciphertext.device) {
            mismatch.extra.push(ciphertext.device);
        }
    }
    if mismatch != Mismatch::default() {
        return Outcome::Mismatch(mismatch);
    }
    let has_room = recipient.ciphertexts.iter().all(|ciphertext| {
        state
            .devices
            .iter()
            .find(|device| device.id == ciphertext.device)
            .is_some_and(|device| {
                device.held < caps.envelopes
                    && device.held_bytes + ciphertext.body.len() as u64 <= caps.bytes
            })
    });
    if has_room {
        Outcome::Accepted
    } else {
        Outcome::Full
    }
}

fn accept(
    sender: DeviceAddress,
    recipient: &QueuedRecipient,
    state: &mut RecipientState,
    touched: &mut BTreeMap<i64, MailboxCounters>,
    plan: &mut Plan,
) {
    for ciphertext in &recipient.ciphertexts {
        let Some(device) = state
            .devices
            .iter_mut()
            .find(|device| device.id == ciphertext.device)
        else {
            continue;
        };
        plan.envelopes.push(PlannedEnvelope {
            mailbox: device.mailbox,
            seq: device.next_seq,
            sender,
            kind: ciphertext.kind,
            body: ciphertext.body.clone(),
        });
        device.next_seq += 1;
        device.held += 1;
        device.held_bytes += ciphertext.body.len() as u64;
        touched.insert(
            device.mailbox,
            MailboxCounters {
                mailbox: device.mailbox,
                next_seq: device.next_seq,
                held: device.held,
                held_bytes: device.held_bytes,
            },
        );
        plan.wake.insert(DeviceAddress {
            account: state.account,
            device: device.id,
        });
    }
    plan.remember.push((recipient.key, recipient.content));
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        envelopes: 3,
        bytes: 100,
    };

    fn account(byte: u8) -> AccountId {
        AccountId::from([byte; 16])
    }

    fn id(number: u32) -> DeviceId {
        DeviceId::new(number).unwrap()
    }

    fn address(byte: u8, device: u32) -> DeviceAddress {
        DeviceAddress {
            account: account(byte),
            device: id(device),
        }
    }

    fn state(byte: u8, devices: &[u32]) -> RecipientState {
        RecipientState {
            account: account(byte),
            active: true,
            devices: devices
                .iter()
                .map(|number| RecipientDevice {
                    id: id(*number),
                    mailbox: i64::from(byte) * 1000 + i64::from(*number),
                    registration_id: 100 + number,
                    auth_epoch: 1,
                    next_seq: 1,
                    held: 0,
                    held_bytes: 0,
                })
                .collect(),
        }
    }

    fn to(byte: u8, key: u8, devices: &[u32]) -> QueuedRecipient {
        QueuedRecipient {
            account: account(byte),
            key: [key; 32],
            content: [key; 32],
            ciphertexts: devices
                .iter()
                .map(|number| Ciphertext {
                    device: id(*number),
                    registration_id: 100 + number,
                    kind: 2,
                    body: Bytes::from_static(&[0; 10]),
                })
                .collect(),
        }
    }

    fn send(recipients: Vec<QueuedRecipient>) -> QueuedSend {
        QueuedSend {
            sender: address(1, 1),
            auth_epoch: 1,
            recipients,
        }
    }

    fn world() -> Snapshot {
        Snapshot {
            accounts: vec![state(1, &[1, 2]), state(2, &[1, 2]), state(3, &[1])],
            remembered: Vec::new(),
        }
    }

    #[test]
    fn each_recipient_is_answered_alone() {
        let plan = plan(
            &[send(vec![
                to(2, 1, &[1]),
                to(3, 2, &[1]),
                to(9, 3, &[1]),
                to(1, 4, &[2]),
            ])],
            world(),
            CAPS,
        );
        let missing = Mismatch {
            missing: vec![id(2)],
            ..Mismatch::default()
        };
        assert_eq!(
            plan.outcomes,
            [SendOutcome::Answered(vec![
                Outcome::Mismatch(missing),
                Outcome::Accepted,
                Outcome::Blocked,
                Outcome::Accepted,
            ])]
        );
        let written: Vec<_> = plan
            .envelopes
            .iter()
            .map(|row| (row.mailbox, row.seq))
            .collect();
        assert_eq!(written, [(3001, 1), (1002, 1)]);
        assert_eq!(plan.remember.len(), 2);
        assert!(plan.wake.contains(&address(3, 1)) && plan.wake.contains(&address(1, 2)));
    }

    #[test]
    fn missing_extra_and_stale_are_told_apart() {
        let mut recipient = to(2, 1, &[1, 7]);
        recipient.ciphertexts[0].registration_id = 5;
        let plan = plan(&[send(vec![recipient])], world(), CAPS);
        let expected = Mismatch {
            missing: vec![id(2)],
            extra: vec![id(7)],
            stale: vec![id(1)],
        };
        assert_eq!(
            plan.outcomes,
            [SendOutcome::Answered(vec![Outcome::Mismatch(expected)])]
        );
        assert!(plan.envelopes.is_empty() && plan.remember.is_empty());
    }

    #[test]
    fn the_sending_device_is_never_a_recipient() {
        let plan = plan(&[send(vec![to(1, 1, &[1, 2])])], world(), CAPS);
        let expected = Mismatch {
            extra: vec![id(1)],
            ..Mismatch::default()
        };
        assert_eq!(
            plan.outcomes,
            [SendOutcome::Answered(vec![Outcome::Mismatch(expected)])]
        );
    }

    #[test]
    fn the_same_send_twice_is_stored_once_and_other_bytes_are_refused() {
        let again = || send(vec![to(3, 1, &[1])]);
        let mut other = again();
        other.recipients[0].content = [9; 32];
        let plan = plan(&[again(), again(), other], world(), CAPS);
        assert_eq!(
            plan.outcomes,
            [
                SendOutcome::Answered(vec![Outcome::Accepted]),
                SendOutcome::Answered(vec![Outcome::Accepted]),
                SendOutcome::Answered(vec![Outcome::Conflict]),
            ]
        );
        assert_eq!(plan.envelopes.len(), 1);
    }

    #[test]
    fn a_remembered_send_is_accepted_though_the_devices_changed_since() {
        let mut snapshot = world();
        snapshot.remembered.push(([1; 32], [1; 32]));
        let plan = plan(&[send(vec![to(2, 1, &[1])])], snapshot, CAPS);
        assert_eq!(
            plan.outcomes,
            [SendOutcome::Answered(vec![Outcome::Accepted])]
        );
        assert!(plan.envelopes.is_empty());
    }

    #[test]
    fn a_full_mailbox_refuses_the_account_and_nobody_else() {
        let batch: Vec<_> = (0..5).map(|key| send(vec![to(3, key, &[1])])).collect();
        let mut batch = batch;
        batch.push(send(vec![to(2, 50, &[1, 2])]));
        let plan = plan(&batch, world(), CAPS);
        let accepted = SendOutcome::Answered(vec![Outcome::Accepted]);
        let full = SendOutcome::Answered(vec![Outcome::Full]);
        assert_eq!(
            plan.outcomes,
            [
                accepted.clone(),
                accepted.clone(),
                accepted.clone(),
                full.clone(),
                full,
                accepted
            ]
        );
        assert_eq!(plan.counters.len(), 3);
    }

    #[test]
    fn a_revoked_sender_stores_nothing_and_others_go_on() {
        let mut stranger = send(vec![to(3, 1, &[1])]);
        stranger.sender = address(1, 9);
        let mut changed = send(vec![to(3, 2, &[1])]);
        changed.auth_epoch = 0;
        let plan = plan(
            &[stranger, changed, send(vec![to(3, 3, &[1])])],
            world(),
            CAPS,
        );
        assert_eq!(
            plan.outcomes,
            [
                SendOutcome::SenderRevoked,
                SendOutcome::SenderChanged,
                SendOutcome::Answered(vec![Outcome::Accepted]),
            ]
        );
        assert_eq!(plan.envelopes.len(), 1);
    }
}
