//! People to test with, and what they promise each other.

mod arrival;
mod attacks;
mod exchange;
mod rules;

use ed25519_dalek::SigningKey;
use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress, DeviceId};
use wardline_wire::proto::{Device, DeviceList, SignedBlob};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use super::*;
use crate::content::ListRef;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn deployment() -> DeploymentId {
    DeploymentId::from([0xD0; 16])
}

/// An account with its devices and every list it ever signed.
#[derive(Clone)]
struct Person {
    seed: u8,
    account: AccountId,
    account_key: SigningKey,
    lists: Vec<ListEvidence>,
}

impl Person {
    fn new(seed: u8) -> Self {
        let mut person = Self {
            seed,
            account: AccountId::from_random_bytes([seed; 16]),
            account_key: SigningKey::from_bytes(&[seed; 32]),
            lists: Vec::new(),
        };
        person.sign_list(&[1]);
        person
    }

    fn device_key(&self, device: u8) -> SigningKey {
        let mut secret = [self.seed; 32];
        secret[0] = device;
        secret[31] = 0xDE;
        SigningKey::from_bytes(&secret)
    }

    /// Signs the next list, with these devices on it.
    fn sign_list(&mut self, devices: &[u8]) {
        let device = |id: &u8| {
            let mut identity_key = vec![*id; 33];
            identity_key[0] = 5;
            identity_key[1] = self.seed;
            Device {
                id: u32::from(*id),
                identity_key,
                registration_id: u32::from(*id),
                device_key: self.device_key(*id).verifying_key().to_bytes().to_vec(),
                added_at_ms: NOW.as_millis(),
            }
        };
        let previous = self.lists.last().map(ListEvidence::list);
        let list = DeviceList {
            account_id: self.account.to_vec(),
            version: previous.map_or(1, |list| list.version() + 1),
            prev_hash: previous
                .map(|list| list.hash().to_vec())
                .unwrap_or_default(),
            issued_at_ms: NOW.as_millis(),
            expires_at_ms: NOW.plus_millis(1000).as_millis(),
            devices: devices.iter().map(device).collect(),
            next_device_id: 10,
        };
        let blob = SignedBlob::sign(
            SignedKind::DeviceList,
            deployment(),
            list.encode_to_vec(),
            &self.account_key,
        );
        let key = self.account_key.verifying_key().to_bytes();
        self.lists
            .push(ListEvidence::verify(blob, self.account, &key, deployment()).unwrap());
    }

    fn key(&self) -> [u8; 32] {
        self.account_key.verifying_key().to_bytes()
    }

    fn as_new(&self, role: MembershipRole) -> NewMember {
        NewMember {
            account: self.account,
            account_key: self.key(),
            role,
        }
    }

    /// Signs as one of its devices, whatever the log says about it.
    fn with_author<T>(&self, device: u8, act: impl FnOnce(&Author<'_>) -> T) -> T {
        let device_key = self.device_key(device);
        act(&Author {
            deployment: deployment(),
            address: DeviceAddress {
                account: self.account,
                device: DeviceId::new(device.into()).unwrap(),
            },
            account_key: self.key(),
            list: ListRef::from(self.lists.last().unwrap().list()),
            device_key: &device_key,
        })
    }

    /// An operation on top of everything in `log`; not inserted.
    fn tries(&self, log: &Log, kind: OperationKind) -> Result<VerifiedOperation, AuthorError> {
        self.with_author(1, |author| log.author(author, kind, NOW))
    }

    /// An operation on top of everything in `log`, inserted.
    fn does(&self, log: &mut Log, kind: OperationKind) -> VerifiedOperation {
        self.does_on(1, log, kind)
    }

    fn does_on(&self, device: u8, log: &mut Log, kind: OperationKind) -> VerifiedOperation {
        let operation = self
            .with_author(device, |author| log.author(author, kind, NOW))
            .unwrap();
        accept(log, &operation);
        operation
    }

    /// Signs without asking the log whether it is allowed.
    fn forges(&self, log: &Log, sequence: u64, kind: OperationKind) -> VerifiedOperation {
        self.with_author(1, |author| {
            author
                .sign(Some(log.id()), log.heads(), sequence, kind, NOW)
                .unwrap()
        })
    }
}

fn accept(log: &mut Log, operation: &VerifiedOperation) {
    assert_eq!(
        log.insert(operation.clone(), Standing::Current),
        Insertion::Inserted { fork: None }
    );
}

fn refusal(log: &mut Log, operation: &VerifiedOperation) -> Refusal {
    let before = log.len();
    match log.insert(operation.clone(), Standing::Current) {
        Insertion::Refused(refusal) => {
            assert_eq!(log.len(), before, "nothing changes");
            assert!(!refusal.to_string().is_empty());
            refusal
        }
        other => panic!("{other:?}"),
    }
}

/// Alice's conversation, in which Bob is an owner and Carol a member.
struct Ward {
    alice: Person,
    bob: Person,
    carol: Person,
    dora: Person,
    log: Log,
}

fn ward() -> Ward {
    let [alice, bob, carol, dora] = [1, 2, 3, 4].map(Person::new);
    let create = alice.with_author(1, |author| {
        author
            .create(
                [7; 32],
                None,
                &[
                    bob.as_new(MembershipRole::Owner),
                    carol.as_new(MembershipRole::Member),
                ],
                NOW,
            )
            .unwrap()
    });
    let log = Log::begin(create).unwrap();
    Ward {
        alice,
        bob,
        carol,
        dora,
        log,
    }
}

/// Everything in `from` that `into` lacks.
fn sync(from: &Log, into: &mut Log) {
    let all = from
        .operations()
        .map(|(operation, standing)| (operation.clone(), standing))
        .collect();
    let batch = into.insert_all(all);
    assert!(batch.refused.is_empty(), "{:?}", batch.refused);
    assert!(batch.waiting.is_empty());
}

fn add(person: &Person) -> OperationKind {
    OperationKind::Add(person.as_new(MembershipRole::Member))
}

fn remove(person: &Person) -> OperationKind {
    OperationKind::Remove(person.account)
}

fn promote(person: &Person) -> OperationKind {
    OperationKind::Promote(person.account)
}

fn demote(person: &Person) -> OperationKind {
    OperationKind::Demote(person.account)
}
