//! What every database must do. Runs on each [`Store`]; what is below the routes'
//! reach (time passing, restores) is here, the rest is tested through the routes.

use std::sync::Arc;

use bytes::Bytes;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId, InviteId, Serial};
use wardline_wire::proto::{AccountStatus, Role};

use super::{
    Ack, BatchSize, Certified, DAY_MS, Day, Enrolled, Invite, NewAccount, NewCertificate,
    NewDevice, NewPreKeys, OneTimeKey, Placed, Retention, SignedKey, Store, Uploaded,
};
use crate::mailbox::plan::{Caps, Ciphertext, Outcome, QueuedRecipient, QueuedSend, SendOutcome};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const CAPS: Caps = Caps {
    envelopes: 100,
    bytes: 1_000_000,
};
const KEEP: Retention = Retention {
    envelopes: 30,
    sends: 30,
    prekey_ids: 90,
};
const ALL: BatchSize = BatchSize {
    envelopes: 1000,
    bytes: 1_000_000,
};

fn later(days: u64) -> Timestamp {
    NOW.plus_millis(days * DAY_MS)
}

fn address(byte: u8) -> DeviceAddress {
    DeviceAddress {
        account: AccountId::from([byte; 16]),
        device: DeviceId::FIRST,
    }
}

/// An active account with one device.
async fn person(store: &dyn Store, byte: u8) -> DeviceAddress {
    let invite = Invite {
        id: InviteId::from([byte; 32]),
        role: Role::Patient,
        expires_at: later(1),
        sealed_request: vec![byte],
    };
    assert_eq!(store.admit(&invite).await.unwrap(), Placed::Stored);
    let id = address(byte).account;
    let account = NewAccount {
        invite: invite.id,
        id,
        account_key: [byte; 32],
        access_key_sha256: [byte; 32],
        device_list: vec![byte],
        devices: vec![NewDevice {
            id: DeviceId::FIRST,
            identity_key: [byte; 33],
            registration_id: 1,
            device_key: [byte; 32],
        }],
        request: vec![byte],
    };
    assert_eq!(store.enrol(&account, NOW).await.unwrap(), Enrolled::New);
    let certificate = NewCertificate {
        account: id,
        chain: vec![byte],
        serial: Serial::from([byte; 16]),
        issuer: Serial::from([0xFF; 16]),
        role: Role::Patient,
        handle: None,
        until: later(10_000),
    };
    let certified = store.certify(&certificate).await.unwrap();
    assert_eq!(certified, Certified::Stored { sessions_end: true });
    address(byte)
}

fn send(from: DeviceAddress, to: DeviceAddress, key: u8) -> QueuedSend {
    QueuedSend {
        sender: from,
        // Raised once, when the account was certified.
        auth_epoch: 2,
        recipients: vec![QueuedRecipient {
            account: to.account,
            key: [key; 32],
            content: [key; 32],
            ciphertexts: vec![Ciphertext {
                device: to.device,
                registration_id: 1,
                kind: 2,
                body: Bytes::from(vec![key; 10]),
            }],
        }],
    }
}

async fn accept(store: &dyn Store, sends: &[QueuedSend], at: Timestamp) -> Vec<SendOutcome> {
    store
        .accept(sends, &[], CAPS, Day::of(at))
        .await
        .unwrap()
        .outcomes
}

async fn seqs(store: &dyn Store, device: DeviceAddress, at: Timestamp) -> Vec<u64> {
    let batch = store.drain(device, 0, ALL, at).await.unwrap();
    batch.envelopes.iter().map(|one| one.seq).collect()
}

fn accepted() -> SendOutcome {
    SendOutcome::Answered(vec![Outcome::Accepted])
}

/// Envelopes wait their days and go; sequences are not used again.
pub(crate) async fn envelopes_expire(store: Arc<dyn Store>) {
    let store = store.as_ref();
    let (from, to) = (person(store, 1).await, person(store, 2).await);
    assert_eq!(accept(store, &[send(from, to, 1)], NOW).await, [accepted()]);
    let second = [send(from, to, 2), send(from, to, 3)];
    assert_eq!(accept(store, &second, later(10)).await.len(), 2);
    assert_eq!(store.expire(later(30), KEEP).await.unwrap(), 0);
    assert_eq!(seqs(store, to, later(30)).await, [1, 2, 3]);
    assert_eq!(store.expire(later(31), KEEP).await.unwrap(), 1);
    assert_eq!(seqs(store, to, later(31)).await, [2, 3]);
    assert_eq!(store.expire(later(41), KEEP).await.unwrap(), 2);
    accept(store, &[send(from, to, 4)], later(41)).await;
    assert_eq!(seqs(store, to, later(41)).await, [4]);
    let states = store.recipients(&[to.account]).await.unwrap();
    assert_eq!(
        (states[0].devices[0].held, states[0].devices[0].held_bytes),
        (1, 10)
    );
}

/// A send is remembered for its days, and as itself.
pub(crate) async fn sends_are_remembered(store: Arc<dyn Store>) {
    let store = store.as_ref();
    let (from, to) = (person(store, 1).await, person(store, 2).await);
    let first = [send(from, to, 1)];
    assert_eq!(accept(store, &first, NOW).await, [accepted()]);
    assert_eq!(accept(store, &first, later(29)).await, [accepted()]);
    assert_eq!(seqs(store, to, NOW).await, [1]);
    let mut other = send(from, to, 1);
    other.recipients[0].content = [9; 32];
    let conflict = SendOutcome::Answered(vec![Outcome::Conflict]);
    assert_eq!(accept(store, &[other], later(29)).await, [conflict]);
    store.expire(later(31), KEEP).await.unwrap();
    assert_eq!(accept(store, &first, later(31)).await, [accepted()]);
    assert_eq!(seqs(store, to, later(31)).await, [2]);
}

/// A batch of all kinds at once: acknowledgements first, then sends in order.
pub(crate) async fn batches_mix(store: Arc<dyn Store>) {
    let store = store.as_ref();
    let mut people = Vec::new();
    for byte in 1..=5 {
        people.push(person(store, byte).await);
    }
    let (from, to) = (people[0], people[1]);
    // More rows than one statement takes, to everyone in turn.
    let sends: Vec<_> = (0..200)
        .map(|number: u8| send(from, people[1 + usize::from(number) % 4], number))
        .collect();
    let outcomes = accept(store, &sends, NOW).await;
    assert!(outcomes.iter().all(|outcome| *outcome == accepted()));
    for device in &people[1..] {
        assert!(seqs(store, *device, NOW).await.into_iter().eq(1..=50));
    }
    let ack = |epoch, seq| Ack {
        device: to,
        epoch,
        seq,
    };
    let acks = [ack(1, 48), ack(7, 50)];
    let more = [send(from, to, 201)];
    let plan = store
        .accept(&more, &acks, CAPS, Day::of(NOW))
        .await
        .unwrap();
    assert_eq!(plan.outcomes, [accepted()]);
    assert_eq!(seqs(store, to, NOW).await, [49, 50, 51]);
    let batch = store.drain(to, 49, ALL, NOW).await.unwrap();
    assert_eq!(
        (batch.newest, batch.envelopes.len(), batch.more),
        (51, 2, false)
    );
    let one = BatchSize {
        envelopes: 1,
        bytes: 1,
    };
    let batch = store.drain(to, 0, one, NOW).await.unwrap();
    assert_eq!((batch.envelopes[0].seq, batch.more), (49, true));
    let bytes = BatchSize {
        envelopes: 100,
        bytes: 25,
    };
    let batch = store.drain(to, 0, bytes, NOW).await.unwrap();
    assert_eq!((batch.envelopes.len(), batch.more), (2, true));
}

/// After a restore: a new epoch, no one-time prekeys, no sessions, all mail.
pub(crate) async fn restores_raise_the_epoch(store: Arc<dyn Store>) {
    let store = store.as_ref();
    let (from, to) = (person(store, 1).await, person(store, 2).await);
    accept(store, &[send(from, to, 1)], NOW).await;
    let key = |id| SignedKey {
        id,
        public_key: vec![1],
        signature: vec![2],
    };
    let keys = |id| NewPreKeys {
        signed: Some(key(id)),
        last_resort_kyber: Some(key(id + 1)),
        one_time: vec![OneTimeKey {
            id,
            public_key: vec![3],
        }],
        one_time_kyber: vec![key(id)],
    };
    let stored = store.upload_prekeys(to, 1, &keys(1)).await.unwrap();
    assert!(matches!(stored, Uploaded::Stored(stock) if stock.one_time == 1));
    let generation = store.auth_generation().await.unwrap();
    let seed = store.meta().await.unwrap().token_seed;
    let epoch = store.raise_epoch(NOW).await.unwrap();
    assert!(epoch > 1 && store.raise_epoch(NOW).await.unwrap() == epoch + 1);
    let epoch = epoch + 1;
    assert!(store.auth_generation().await.unwrap() > generation);
    assert_ne!(store.meta().await.unwrap().token_seed, seed);
    let stock = store.prekey_stock(to).await.unwrap().unwrap();
    assert_eq!(
        (stock.one_time, stock.one_time_kyber, stock.signed_id),
        (0, 0, 1)
    );
    assert_eq!(stock.mailbox_epoch, epoch);
    let old = store.upload_prekeys(to, 1, &keys(50)).await.unwrap();
    assert_eq!(old, Uploaded::OtherEpoch);
    let taken = store.upload_prekeys(to, epoch, &keys(1)).await.unwrap();
    assert_eq!(taken, Uploaded::IdTaken);
    let fresh = store.upload_prekeys(to, epoch, &keys(50)).await.unwrap();
    assert!(matches!(fresh, Uploaded::Stored(_)));
    let batch = store.drain(to, 0, ALL, NOW).await.unwrap();
    assert_eq!((batch.mailbox_epoch, batch.envelopes.len()), (epoch, 1));
    assert_eq!(batch.standing.unwrap().auth_epoch, 4);
    // Ids of taken prekeys are forgotten in the end.
    store.expire(later(91), KEEP).await.unwrap();
    let again = store.upload_prekeys(to, epoch, &keys(1)).await.unwrap();
    assert!(matches!(again, Uploaded::Stored(_)));
}

/// Certificates run out with a day's grace.
pub(crate) async fn certificates_run_out(store: Arc<dyn Store>) {
    let store = store.as_ref();
    let device = person(store, 1).await;
    for (at, status) in [
        (later(10_000), AccountStatus::Active),
        (later(10_001), AccountStatus::Active),
        (later(10_002), AccountStatus::Pending),
    ] {
        let standing = store.standing(device, at).await.unwrap().unwrap();
        assert_eq!(standing.status, status);
    }
    assert!(store.standing(address(9), NOW).await.unwrap().is_none());
}

/// Old invites go, those still on the issuer's desk stay.
pub(crate) async fn invites_are_forgotten(store: Arc<dyn Store>) {
    let store = store.as_ref();
    let invite = |byte: u8| Invite {
        id: InviteId::from([byte; 32]),
        role: Role::Staff,
        expires_at: later(1),
        sealed_request: vec![byte],
    };
    store.admit(&invite(1)).await.unwrap();
    assert_eq!(store.admit(&invite(1)).await.unwrap(), Placed::Same);
    store.expire(later(90), KEEP).await.unwrap();
    assert_eq!(store.admit(&invite(1)).await.unwrap(), Placed::Same);
    store.expire(later(92), KEEP).await.unwrap();
    assert_eq!(store.admit(&invite(1)).await.unwrap(), Placed::Stored);
}

/// Makes a test of each of the suite's functions; `$open` is a future of a store
/// and of whatever must live as long.
macro_rules! store_suite {
    ($open:expr; $($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                let (store, _kept) = $open.await;
                crate::store::suite::$name(store).await;
            }
        )*
    };
    ($open:expr) => {
        store_suite! {
            $open;
            envelopes_expire,
            sends_are_remembered,
            batches_mix,
            restores_raise_the_epoch,
            certificates_run_out,
            invites_are_forgotten,
        }
    };
}
pub(crate) use store_suite;
