//! Which devices speak for an account, and in which order lists may follow.

use ed25519_dalek::SigningKey;
use prost::Message as _;
use wardline_wire::directory::{DeviceListError, VerifiedDeviceList};
use wardline_wire::ids::{AccountId, DeploymentId, DeviceId};
use wardline_wire::proto::{Device, DeviceList, SignedBlob};
use wardline_wire::signed::{SignatureError, SignedBlobExt as _, SignedKind};

use crate::clinic::{
    DAY, NOW, account, account_key, deployment, device, device_list, key, sign_list,
};

fn verify(blob: &SignedBlob) -> Result<VerifiedDeviceList, DeviceListError> {
    VerifiedDeviceList::verify(
        blob,
        account(),
        &account_key().verifying_key(),
        deployment(),
    )
}

fn verified(list: &DeviceList) -> VerifiedDeviceList {
    verify(&sign_list(list)).unwrap()
}

fn verify_changed(change: impl FnOnce(&mut DeviceList)) -> Result<(), DeviceListError> {
    let mut list = device_list(3);
    change(&mut list);
    verify(&sign_list(&list)).map(|_| ())
}

/// The list that follows `list`, changed.
fn after(list: &DeviceList, change: impl FnOnce(&mut DeviceList)) -> DeviceList {
    let mut next = DeviceList {
        version: list.version + 1,
        prev_hash: sign_list(list).payload_hash().to_vec(),
        ..list.clone()
    };
    change(&mut next);
    next
}

fn replaces(new: &DeviceList, known: &DeviceList) -> Result<(), DeviceListError> {
    verified(new).check_replaces(&verified(known))
}

const BAD_SIGNATURE: DeviceListError =
    DeviceListError::Signature(SignatureError(SignedKind::DeviceList));

#[test]
fn a_list_names_the_devices() {
    let list = verified(&device_list(2));
    assert_eq!(list.account(), account());
    assert_eq!((list.version(), list.next_device_id()), (1, 3));
    assert_eq!(list.prev_hash(), None);
    assert_eq!(list.hash(), sign_list(&device_list(2)).payload_hash());
    assert_eq!(list.devices().len(), 2);
    let second = list.device(DeviceId::new(2).unwrap()).unwrap();
    assert_eq!(second.registration_id, 102);
    assert_eq!(second.device_key, key(102).verifying_key());
    assert!(list.device(DeviceId::new(3).unwrap()).is_none());
}

#[test]
fn only_the_account_key_signs() {
    let list = device_list(2).encode_to_vec();
    let by = |kind, deployment, key: &SigningKey| {
        verify(&SignedBlob::sign(kind, deployment, list.clone(), key)).map(|_| ())
    };
    let right = (SignedKind::DeviceList, deployment(), account_key());
    assert_eq!(by(right.0, right.1, &right.2), Ok(()));
    // A device's key does not speak for the account.
    assert_eq!(by(right.0, right.1, &key(101)), Err(BAD_SIGNATURE));
    let elsewhere = DeploymentId::from([1; 16]);
    assert_eq!(by(right.0, elsewhere, &right.2), Err(BAD_SIGNATURE));
    assert_eq!(by(SignedKind::Login, right.1, &right.2), Err(BAD_SIGNATURE));
}

#[test]
fn somebody_elses_list_is_noticed() {
    let other = AccountId::from_random_bytes([0xB0; 16]);
    assert_eq!(
        verify_changed(|list| list.account_id = other.to_vec()),
        Err(DeviceListError::OtherAccount)
    );
    assert_eq!(
        verify_changed(|list| list.account_id.truncate(15)),
        Err(DeviceListError::Malformed)
    );
}

#[test]
fn lists_that_are_not_well_formed_are_refused() {
    let changes: [(&str, fn(&mut DeviceList)); 24] = [
        ("version 0", |list| list.version = 0),
        ("first list with a predecessor", |list| {
            list.prev_hash = vec![0; 32];
        }),
        ("later list without a predecessor", |list| list.version = 2),
        ("short hash", |list| {
            list.version = 2;
            list.prev_hash = vec![0; 31];
        }),
        ("no devices", |list| list.devices.clear()),
        ("descending ids", |list| list.devices.reverse()),
        ("id twice", |list| list.devices[1].id = 1),
        ("id 0", |list| list.devices[0].id = 0),
        ("id 128", |list| {
            list.devices[2].id = 128;
            list.next_device_id = 129;
        }),
        ("id not below the counter", |list| list.next_device_id = 3),
        ("counter 0", |list| list.next_device_id = 0),
        ("counter over 128", |list| list.next_device_id = 129),
        ("identity key twice", |list| {
            list.devices[1].identity_key = list.devices[0].identity_key.clone();
        }),
        ("device key twice", |list| {
            list.devices[1].device_key = list.devices[0].device_key.clone();
        }),
        ("identity key without its type", |list| {
            list.devices[0].identity_key[0] = 6;
        }),
        ("short identity key", |list| {
            list.devices[0].identity_key.truncate(32);
        }),
        ("short device key", |list| {
            list.devices[0].device_key.truncate(31);
        }),
        // y = 2 is on no point of the curve.
        ("no device key", |list| {
            list.devices[0].device_key = vec![0; 32];
            list.devices[0].device_key[0] = 2;
        }),
        ("registration id 0", |list| {
            list.devices[0].registration_id = 0;
        }),
        ("registration id of 15 bits", |list| {
            list.devices[0].registration_id = 0x4000;
        }),
        ("expires before issue", |list| {
            list.expires_at_ms = list.issued_at_ms - 1;
        }),
        ("good for more than 30 days", |list| list.expires_at_ms += 1),
        ("good for ever", |list| list.expires_at_ms = u64::MAX),
        ("no account", |list| list.account_id.clear()),
    ];
    for (what, change) in changes {
        assert_eq!(
            verify_changed(change),
            Err(DeviceListError::Malformed),
            "{what}"
        );
    }
    assert_eq!(verify_changed(|_| ()), Ok(()));
}

#[test]
fn an_account_has_ten_devices_at_most() {
    assert_eq!(verify(&sign_list(&device_list(10))).map(|_| ()), Ok(()));
    assert_eq!(
        verify(&sign_list(&device_list(11))).map(|_| ()),
        Err(DeviceListError::Malformed)
    );
}

#[test]
fn the_last_id_can_be_given_out() {
    let mut list = device_list(1);
    list.devices.push(device(127));
    list.next_device_id = 128;
    assert_eq!(verify(&sign_list(&list)).map(|_| ()), Ok(()));
}

#[test]
fn expiry_tolerates_a_day() {
    let list = verified(&device_list(1));
    let end = NOW.plus_millis(30 * DAY);
    assert!(!list.is_expired(end.plus_millis(DAY)));
    assert!(list.is_expired(end.plus_millis(DAY + 1)));
}

#[test]
fn a_device_is_added_and_removed() {
    let first = device_list(2);
    let second = after(&first, |list| {
        list.devices.push(device(3));
        list.next_device_id = 4;
    });
    assert_eq!(replaces(&second, &first), Ok(()));
    let third = after(&second, |list| drop(list.devices.remove(1)));
    assert_eq!(replaces(&third, &second), Ok(()));
    // Lists in between may have been missed.
    assert_eq!(replaces(&third, &first), Ok(()));
    // The same list again changes nothing.
    assert_eq!(replaces(&second, &second), Ok(()));
}

#[test]
fn an_old_list_does_not_come_back() {
    let first = device_list(2);
    let second = after(&first, |_| ());
    assert_eq!(
        replaces(&first, &second),
        Err(DeviceListError::RolledBack {
            known: 2,
            offered: 1
        })
    );
}

#[test]
fn two_lists_of_one_version_are_a_hard_stop() {
    let first = device_list(2);
    let one = after(&first, |list| drop(list.devices.pop()));
    let other = after(&first, |list| list.issued_at_ms += 1);
    assert_eq!(
        replaces(&one, &other),
        Err(DeviceListError::Equivocated { version: 2 })
    );
    assert_eq!(
        replaces(&device_list(1), &first),
        Err(DeviceListError::Equivocated { version: 1 })
    );
}

#[test]
fn the_next_list_builds_on_the_known_one() {
    let first = device_list(2);
    let stranger = after(&device_list(3), |list| {
        *list = DeviceList {
            devices: first.devices.clone(),
            next_device_id: 4,
            ..list.clone()
        }
    });
    assert_eq!(
        replaces(&stranger, &first),
        Err(DeviceListError::NotASuccessor)
    );
}

#[test]
fn a_removed_device_stays_gone() {
    let first = device_list(3);
    let second = after(&first, |list| drop(list.devices.remove(1)));
    // The old device again, or a new one with its number.
    let ghosts: [fn() -> Device; 2] = [|| device(2), || Device { id: 2, ..device(9) }];
    for ghost in ghosts {
        let third = after(&second, |list| list.devices.insert(1, ghost()));
        assert_eq!(
            replaces(&third, &second),
            Err(DeviceListError::NotASuccessor)
        );
        // Not even when lists in between were missed.
        let later = after(&third, |_| ());
        assert_eq!(
            replaces(&later, &second),
            Err(DeviceListError::NotASuccessor)
        );
    }
}

#[test]
fn a_number_never_handed_out_is_not_slipped_in_below_the_counter() {
    let mut first = device_list(2);
    first.next_device_id = 6;
    let second = after(&first, |list| list.devices.push(device(4)));
    assert_eq!(
        replaces(&second, &first),
        Err(DeviceListError::NotASuccessor)
    );
    let fine = after(&first, |list| {
        list.devices.push(device(6));
        list.next_device_id = 7;
    });
    assert_eq!(replaces(&fine, &first), Ok(()));
}

#[test]
fn a_device_keeps_its_keys() {
    let first = device_list(2);
    let swaps: [fn(&mut Device); 2] = [
        |listed| listed.identity_key = device(9).identity_key,
        |listed| listed.device_key = device(9).device_key,
    ];
    for swap in swaps {
        let second = after(&first, |list| swap(&mut list.devices[1]));
        assert_eq!(
            replaces(&second, &first),
            Err(DeviceListError::NotASuccessor)
        );
    }
}

#[test]
fn the_counter_never_goes_back() {
    let mut first = device_list(2);
    first.next_device_id = 10;
    let second = after(&first, |list| list.next_device_id = 3);
    assert_eq!(
        replaces(&second, &first),
        Err(DeviceListError::NotASuccessor)
    );
}

#[test]
fn versions_at_the_end_of_the_range_do_not_overflow() {
    let mut last = device_list(1);
    last.version = u64::MAX;
    last.prev_hash = vec![1; 32];
    assert_eq!(replaces(&last, &device_list(1)), Ok(()));
    assert_eq!(replaces(&last, &last), Ok(()));
    assert_eq!(
        replaces(&device_list(1), &last),
        Err(DeviceListError::RolledBack {
            known: u64::MAX,
            offered: 1
        })
    );
}

#[test]
fn another_accounts_list_replaces_nothing() {
    let other = AccountId::from_random_bytes([0xB0; 16]);
    let mut list = device_list(1);
    list.account_id = other.to_vec();
    let theirs = VerifiedDeviceList::verify(
        &sign_list(&list),
        other,
        &account_key().verifying_key(),
        deployment(),
    )
    .unwrap();
    assert_eq!(
        theirs.check_replaces(&verified(&device_list(1))),
        Err(DeviceListError::OtherAccount)
    );
}
