//! What a hostile relay shows, and what follows.

use ed25519_dalek::SigningKey;
use prost::Message as _;
use wardline_wire::ids::{DeploymentId, PayloadHash};
use wardline_wire::proto::{
    Certificate, Device, DeviceList, Issuer, Revocation, RevocationBundle, RevocationKind,
    RevocationList, Role,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use super::*;

const DAY: u64 = 24 * 3_600_000;
const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn deployment() -> DeploymentId {
    DeploymentId::from([0xD0; 16])
}

fn anchor() -> TrustAnchor {
    TrustAnchor::new(deployment(), key(1).verifying_key())
}

fn account() -> AccountId {
    AccountId::from_random_bytes([0xA0; 16])
}

/// A certificate for the account key with this seed, issued on this day.
fn certificate(seed: u8, day: u64) -> CertificateChain {
    certificate_for(seed, day, "Dr. Okafor")
}

fn certificate_for(seed: u8, day: u64, name: &str) -> CertificateChain {
    let issuer = Issuer {
        serial: vec![0x15; 16],
        key: key(2).verifying_key().to_bytes().to_vec(),
        roles: vec![Role::Staff.into()],
        not_before_ms: NOW.minus_millis(100 * DAY).as_millis(),
        not_after_ms: NOW.plus_millis(100 * DAY).as_millis(),
        sealing_key: vec![9; 32],
    };
    let certificate = Certificate {
        serial: vec![seed; 16],
        account_id: account().to_vec(),
        account_key: key(seed).verifying_key().to_bytes().to_vec(),
        role: Role::Staff.into(),
        not_before_ms: NOW
            .minus_millis(50 * DAY)
            .plus_millis(day * DAY)
            .as_millis(),
        not_after_ms: NOW.plus_millis(5 * DAY).plus_millis(day * DAY).as_millis(),
        handle: "dr.okafor".to_owned(),
        display_name: name.to_owned(),
        issuer_serial: vec![0x15; 16],
    };
    CertificateChain {
        issuer: Some(SignedBlob::sign(
            SignedKind::Issuer,
            deployment(),
            issuer.encode_to_vec(),
            &key(1),
        )),
        certificate: Some(SignedBlob::sign(
            SignedKind::Certificate,
            deployment(),
            certificate.encode_to_vec(),
            &key(2),
        )),
    }
}

/// A list of this version with devices, on top of `previous`.
fn list(seed: u8, version: u64, devices: &[u8], previous: Option<&SignedBlob>) -> SignedBlob {
    let device = |id: &u8| {
        let mut identity_key = vec![*id; 33];
        identity_key[0] = 5;
        Device {
            id: u32::from(*id),
            identity_key,
            registration_id: 7,
            device_key: key(100 + id).verifying_key().to_bytes().to_vec(),
            added_at_ms: NOW.as_millis(),
        }
    };
    let list = DeviceList {
        account_id: account().to_vec(),
        version,
        prev_hash: previous
            .map(|list| list.payload_hash().to_vec())
            .unwrap_or_default(),
        issued_at_ms: NOW.as_millis(),
        expires_at_ms: NOW.plus_millis(30 * DAY).as_millis(),
        devices: devices.iter().map(device).collect(),
        next_device_id: 1 + devices.iter().max().copied().map_or(0, u32::from),
    };
    SignedBlob::sign(
        SignedKind::DeviceList,
        deployment(),
        list.encode_to_vec(),
        &key(seed),
    )
}

fn revocations(revocation: Option<(RevocationKind, [u8; 16])>) -> VerifiedRevocations {
    let list = RevocationList {
        number: 1,
        issued_at_ms: NOW.as_millis(),
        next_update_ms: NOW.plus_millis(7 * DAY).as_millis(),
        revocations: revocation
            .into_iter()
            .map(|(kind, id)| Revocation {
                kind: kind.into(),
                id: id.to_vec(),
                revoked_at_ms: NOW.as_millis(),
            })
            .collect(),
        issuer_serial: Vec::new(),
    };
    let bundle = RevocationBundle {
        issuer: None,
        list: Some(SignedBlob::sign(
            SignedKind::RevocationList,
            deployment(),
            list.encode_to_vec(),
            &key(1),
        )),
    };
    VerifiedRevocations::verify(&bundle, &anchor(), NOW).unwrap()
}

fn record(certificate: Option<CertificateChain>, list: Option<SignedBlob>) -> AccountRecord {
    AccountRecord {
        account_id: account().to_vec(),
        status: 2,
        certificate,
        device_list: list,
    }
}

fn observe(contact: &mut Contact, record: &AccountRecord) -> Vec<Notice> {
    let notices = contact.observe_record(record, &anchor(), Some(&revocations(None)), NOW);
    for notice in &notices {
        let sentence = notice.sentence("Dr. Okafor");
        assert!(sentence.contains("Dr. Okafor") && sentence.ends_with('.'));
    }
    // Whatever happens, the store gives back what was put in.
    assert!(Contact::decode(&contact.encode(), &anchor()).unwrap() == *contact);
    notices
}

fn first_list() -> SignedBlob {
    list(3, 1, &[1], None)
}

/// Known, certified, with its first list.
fn known() -> Contact {
    let mut contact = Contact::new(account(), Origin::Chosen);
    let notices = observe(
        &mut contact,
        &record(Some(certificate(3, 10)), Some(first_list())),
    );
    assert_eq!(notices, []);
    contact
}

fn verified() -> Contact {
    let mut contact = known();
    assert!(contact.mark_verified(&key(3).verifying_key()));
    contact
}

fn can_send(contact: &Contact) -> Result<Vec<Warning>, Stop> {
    contact.can_send(Freshness::Fresh, NOW)
}

#[test]
fn nothing_is_sent_before_certificate_and_list_are_verified() {
    let mut contact = Contact::new(account(), Origin::Chosen);
    assert_eq!(can_send(&contact), Err(Stop::NotCertified));
    observe(&mut contact, &record(None, Some(first_list())));
    assert_eq!(can_send(&contact), Err(Stop::NotCertified));
    observe(&mut contact, &record(Some(certificate(3, 10)), None));
    assert_eq!(can_send(&contact), Err(Stop::NoDeviceList));
    observe(
        &mut contact,
        &record(Some(certificate(3, 10)), Some(first_list())),
    );
    assert_eq!(can_send(&contact), Ok(vec![]));
    assert_eq!(
        contact.can_make_first_contact(Freshness::Fresh, NOW),
        Ok(())
    );
}

#[test]
fn a_record_of_somebody_else_is_ignored() {
    let mut contact = known();
    let before = contact.clone();
    let mut other = record(Some(certificate(3, 20)), Some(list(3, 2, &[1, 2], None)));
    other.account_id = vec![1; 16];
    assert_eq!(observe(&mut contact, &other), [Notice::WrongAnswer]);
    assert!(contact == before);
}

#[test]
fn forged_certificates_change_nothing() {
    let mut contact = known();
    let before = contact.clone();
    let mut forged = certificate(66, 20);
    forged.certificate.as_mut().unwrap().signature[0] ^= 1;
    let notices = observe(&mut contact, &record(Some(forged), None));
    assert!(matches!(notices[..], [Notice::CertificateRefused(_)]));
    assert!(contact == before);
}

#[test]
fn another_key_without_a_certificate_stops_sending() {
    let mut contact = known();
    let foreign = list(66, 2, &[1, 9], Some(&first_list()));
    assert_eq!(
        observe(
            &mut contact,
            &record(Some(certificate(3, 10)), Some(foreign.clone()))
        ),
        [Notice::UncertifiedKey]
    );
    assert_eq!(can_send(&contact), Err(Stop::UncertifiedKey));
    assert_eq!(
        observe(&mut contact, &record(None, Some(foreign))),
        [],
        "said once"
    );
    // It is not the user's to accept.
    contact.accept_change();
    assert_eq!(can_send(&contact), Err(Stop::UncertifiedKey));
    // The pinned key in use again: sending goes on, to the known devices.
    observe(&mut contact, &record(None, Some(first_list())));
    assert_eq!(can_send(&contact), Ok(vec![]));
    assert_eq!(contact.devices().unwrap().devices().len(), 1);
}

#[test]
fn a_certified_key_change_is_shown() {
    let mut contact = known();
    let new_list = list(4, 1, &[1], None);
    assert_eq!(
        observe(
            &mut contact,
            &record(Some(certificate(4, 20)), Some(new_list))
        ),
        [Notice::KeyChanged]
    );
    assert_eq!(contact.account_key(), Some(&key(4).verifying_key()));
    assert_eq!(can_send(&contact), Ok(vec![]));
}

#[test]
fn a_key_change_of_a_verified_contact_stops_sending_until_accepted() {
    let mut contact = verified();
    let new = record(Some(certificate(4, 20)), Some(list(4, 1, &[1], None)));
    assert_eq!(observe(&mut contact, &new), [Notice::VerifiedKeyChanged]);
    assert_eq!(observe(&mut contact, &new), [], "said once");
    assert_eq!(can_send(&contact), Err(Stop::VerifiedKeyChanged));
    assert_eq!(contact.account_key(), Some(&key(3).verifying_key()));
    assert_eq!(contact.pending_key(), Some(&key(4).verifying_key()));
    contact.accept_change();
    assert_eq!(contact.account_key(), Some(&key(4).verifying_key()));
    assert!(!contact.is_verified(), "the new number was not compared");
    assert_eq!(can_send(&contact), Err(Stop::NoDeviceList));
    assert_eq!(observe(&mut contact, &new), []);
    assert_eq!(can_send(&contact), Ok(vec![]));
    assert!(contact.mark_verified(&key(4).verifying_key()));
}

#[test]
fn an_old_certificate_does_not_bring_an_old_key_back() {
    let mut contact = known();
    observe(
        &mut contact,
        &record(Some(certificate(4, 20)), Some(list(4, 1, &[1], None))),
    );
    let before = contact.clone();
    assert_eq!(
        observe(&mut contact, &record(Some(certificate(3, 10)), None)),
        [Notice::OldCertificate]
    );
    assert_eq!(
        observe(&mut contact, &record(Some(certificate(3, 20)), None)),
        [Notice::OldCertificate],
        "not one of the same time either"
    );
    assert!(contact == before);
}

#[test]
fn a_renewed_certificate_of_the_old_key_ends_the_question() {
    let mut contact = verified();
    observe(&mut contact, &record(Some(certificate(4, 20)), None));
    assert_eq!(can_send(&contact), Err(Stop::VerifiedKeyChanged));
    observe(&mut contact, &record(Some(certificate(3, 30)), None));
    assert_eq!(contact.pending_key(), None);
    assert_eq!(can_send(&contact), Ok(vec![]));
    assert!(contact.is_verified());
}

#[test]
fn only_the_key_that_was_shown_is_verified() {
    let mut contact = known();
    assert!(!contact.mark_verified(&key(4).verifying_key()));
    assert!(!contact.is_verified());
    assert!(contact.mark_verified(&key(3).verifying_key()));
    contact.unmark_verified();
    assert!(!contact.is_verified());
}

#[test]
fn a_changed_directory_entry_is_shown() {
    let mut contact = known();
    assert_eq!(
        observe(
            &mut contact,
            &record(Some(certificate_for(3, 20, "Dr. Okafor-Lind")), None)
        ),
        [Notice::DirectoryEntryChanged]
    );
    // The older entry does not come back.
    assert_eq!(
        observe(&mut contact, &record(Some(certificate(3, 10)), None)),
        []
    );
    assert_eq!(
        contact.certificate().unwrap().display_name(),
        Some("Dr. Okafor-Lind")
    );
}

#[test]
fn devices_that_come_and_go_are_shown() {
    let mut contact = known();
    let first = first_list();
    let second = list(3, 2, &[1, 2], Some(&first));
    let third = list(3, 3, &[2], Some(&second));
    let device = |id| DeviceId::new(id).unwrap();
    assert_eq!(
        observe(&mut contact, &record(None, Some(second))),
        [Notice::DeviceAdded(device(2))]
    );
    // Id 1 may not be used again, so the next id stays; only the list is shorter.
    assert_eq!(
        observe(&mut contact, &record(None, Some(third))),
        [Notice::DeviceRemoved(device(1))]
    );
}

#[test]
fn an_older_list_is_refused_and_the_known_one_stays() {
    let mut contact = known();
    let second = list(3, 2, &[1, 2], Some(&first_list()));
    observe(&mut contact, &record(None, Some(second)));
    assert_eq!(
        observe(&mut contact, &record(None, Some(first_list()))),
        [Notice::ListRefused(DeviceListError::RolledBack {
            known: 2,
            offered: 1
        })]
    );
    assert_eq!(contact.devices().unwrap().version(), 2);
    assert_eq!(can_send(&contact), Ok(vec![]));
}

#[test]
fn two_lists_of_one_version_are_a_hard_stop() {
    let mut contact = known();
    let other = list(3, 1, &[1, 9], None);
    assert_eq!(
        observe(&mut contact, &record(None, Some(other))),
        [Notice::TwoLists { version: 1 }]
    );
    assert_eq!(can_send(&contact), Err(Stop::TwoLists { version: 1 }));
    // Neither the old list nor a new one ends it: only the user does.
    observe(&mut contact, &record(None, Some(first_list())));
    let second = list(3, 2, &[1], Some(&first_list()));
    observe(&mut contact, &record(None, Some(second.clone())));
    assert_eq!(can_send(&contact), Err(Stop::TwoLists { version: 1 }));
    contact.accept_change();
    observe(&mut contact, &record(None, Some(second)));
    assert_eq!(can_send(&contact), Ok(vec![]));
}

#[test]
fn a_new_certified_key_ends_a_hard_stop() {
    let mut contact = known();
    observe(&mut contact, &record(None, Some(list(3, 1, &[1, 9], None))));
    let notices = observe(
        &mut contact,
        &record(Some(certificate(4, 20)), Some(list(4, 1, &[1], None))),
    );
    assert_eq!(notices, [Notice::KeyChanged]);
    assert_eq!(can_send(&contact), Ok(vec![]));
}

#[test]
fn a_list_that_does_not_build_on_the_known_one_is_a_hard_stop() {
    let mut contact = known();
    let foreign_previous = list(3, 1, &[1, 9], None);
    let second = list(3, 2, &[1], Some(&foreign_previous));
    assert_eq!(
        observe(&mut contact, &record(None, Some(second))),
        [Notice::BrokenChain { version: 2 }]
    );
    assert_eq!(can_send(&contact), Err(Stop::BrokenChain { version: 2 }));
}

#[test]
fn what_is_out_of_date_warns_and_blocks_first_contact() {
    let contact = known();
    let late = NOW.plus_millis(40 * DAY);
    let cases = [
        (Freshness::Stale, NOW, Warning::RevocationsStale),
        (Freshness::Missing, NOW, Warning::RevocationsMissing),
        (Freshness::Fresh, late, Warning::CertificateExpired),
    ];
    for (freshness, now, warning) in cases {
        assert!(contact.can_send(freshness, now).unwrap().contains(&warning));
        assert_eq!(
            contact.can_make_first_contact(freshness, now),
            Err(Stop::FirstContact(warning))
        );
    }
    assert!(
        contact
            .can_send(Freshness::Fresh, late)
            .unwrap()
            .contains(&Warning::ListExpired)
    );
    // A day of difference between clocks is not late.
    let edge = NOW.plus_millis(31 * DAY);
    assert!(
        !contact
            .can_send(Freshness::Fresh, edge)
            .unwrap()
            .contains(&Warning::ListExpired)
    );
    assert_eq!(Freshness::of(None, NOW), Freshness::Missing);
    let list = revocations(None);
    assert_eq!(Freshness::of(Some(&list), NOW), Freshness::Fresh);
    assert_eq!(Freshness::of(Some(&list), late), Freshness::Stale);
}

#[test]
fn revocation_stops_sending_and_is_said_once() {
    for revocation in [
        (RevocationKind::Account, *account().as_bytes()),
        (RevocationKind::Certificate, [3; 16]),
        (RevocationKind::Issuer, [0x15; 16]),
    ] {
        let mut contact = known();
        let list = revocations(Some(revocation));
        assert_eq!(contact.observe_revocations(&list), [Notice::Revoked]);
        assert_eq!(contact.observe_revocations(&list), []);
        assert_eq!(can_send(&contact), Err(Stop::Revoked));
        // The same record again, without the list at hand or with it, changes nothing.
        let same = record(Some(certificate(3, 10)), Some(first_list()));
        contact.observe_record(&same, &anchor(), None, NOW);
        contact.observe_record(&same, &anchor(), Some(&list), NOW);
        assert_eq!(can_send(&contact), Err(Stop::Revoked));
    }
    // Certified anew, with the revocation list at hand.
    let mut contact = known();
    let list = revocations(Some((RevocationKind::Certificate, [3; 16])));
    contact.observe_revocations(&list);
    let anew = record(Some(certificate(4, 20)), Some(self::list(4, 1, &[1], None)));
    contact.observe_record(&anew, &anchor(), Some(&list), NOW);
    assert_eq!(can_send(&contact), Ok(vec![]));
}

#[test]
fn a_revoked_newcomer_is_known_as_such() {
    let mut contact = Contact::new(account(), Origin::Stranger);
    let list = revocations(Some((RevocationKind::Account, *account().as_bytes())));
    let notices = contact.observe_record(
        &record(Some(certificate(3, 10)), Some(first_list())),
        &anchor(),
        Some(&list),
        NOW,
    );
    assert_eq!(notices, [Notice::Revoked]);
    assert_eq!(can_send(&contact), Err(Stop::Revoked));
}

#[test]
fn strangers_are_requests_and_the_blocked_are_dropped() {
    for (origin, incoming) in [
        (Origin::Inviter, Incoming::Deliver),
        (Origin::Invited, Incoming::Deliver),
        (Origin::Chosen, Incoming::Deliver),
        (Origin::Fellow, Incoming::AsRequest),
        (Origin::Stranger, Incoming::AsRequest),
    ] {
        assert_eq!(Contact::new(account(), origin).incoming(), incoming);
    }
    let mut contact = known();
    contact.block();
    assert_eq!(contact.incoming(), Incoming::Drop);
    assert_eq!(can_send(&contact), Err(Stop::Blocked));
    contact.unblock();
    assert_eq!(contact.incoming(), Incoming::Deliver);
    let mut stranger = Contact::new(account(), Origin::Stranger);
    assert!(stranger.is_request());
    stranger.accept_request();
    assert_eq!(stranger.incoming(), Incoming::Deliver);
    let mut newcomer = Contact::new(account(), Origin::Stranger);
    newcomer.greet();
    assert_eq!(newcomer.origin(), Origin::Invited);
    assert_eq!(newcomer.incoming(), Incoming::Deliver);
}

#[test]
fn what_a_contact_says_of_its_list_shows_a_lying_relay() {
    let device = |id| DeviceId::new(id).unwrap();
    let said = |version, hash: PayloadHash| ListRef { version, hash };
    let first = first_list();
    let second = list(3, 2, &[1, 2], Some(&first));
    let third = list(3, 3, &[1, 2], Some(&second));

    let mut contact = known();
    assert_eq!(
        contact.observe_own_list(device(1), said(1, first.payload_hash())),
        ListReport::Agrees
    );
    // A device that is not on the list speaks: removed, or never there.
    assert_eq!(
        contact.observe_own_list(device(9), said(1, first.payload_hash())),
        ListReport::RemovedDevice
    );
    // It speaks of a newer list; the relay keeps showing the old one.
    assert_eq!(
        contact.observe_own_list(device(2), said(2, second.payload_hash())),
        ListReport::Fetch
    );
    let withheld = Notice::ListWithheld {
        known: 1,
        reported: 2,
    };
    assert_eq!(
        observe(&mut contact, &record(None, Some(first.clone()))),
        [withheld]
    );
    assert_eq!(
        can_send(&contact),
        Ok(vec![Warning::ListWithheld {
            known: 1,
            reported: 2
        }])
    );
    // Then it shows another second list than the one spoken of.
    let mut lied_to = contact.clone();
    let fake = list(3, 2, &[1, 2, 3], Some(&first));
    assert_eq!(
        observe(&mut lied_to, &record(None, Some(fake))),
        [Notice::TwoLists { version: 2 }]
    );
    // Or the right one.
    observe(&mut contact, &record(None, Some(second.clone())));
    assert_eq!(can_send(&contact), Ok(vec![]));
    // Something that was on its way for a while.
    assert_eq!(
        contact.observe_own_list(device(1), said(1, first.payload_hash())),
        ListReport::Older
    );
    // Contradictions: of the known version, of the one before, of one spoken of.
    for (said, version) in [
        (said(2, PayloadHash::from([1; 32])), 2),
        (said(1, PayloadHash::from([1; 32])), 1),
    ] {
        let mut contact = contact.clone();
        assert_eq!(
            contact.observe_own_list(device(1), said),
            ListReport::Contradicts(Notice::TwoLists { version })
        );
        assert_eq!(can_send(&contact), Err(Stop::TwoLists { version }));
    }
    contact.observe_own_list(device(1), said(3, third.payload_hash()));
    assert_eq!(
        contact.observe_own_list(device(2), said(3, PayloadHash::from([1; 32]))),
        ListReport::Contradicts(Notice::TwoLists { version: 3 })
    );
}

#[test]
fn what_a_contact_used_of_our_list_shows_who_signs_for_us() {
    let first = first_list();
    let second = list(3, 2, &[1, 2], Some(&first));
    let verify = |blob| {
        VerifiedDeviceList::verify(blob, account(), &key(3).verifying_key(), deployment()).unwrap()
    };
    let own = verify(&second);
    let said = |version, hash| ListRef { version, hash };
    let other = PayloadHash::from([1; 32]);
    let cases = [
        (said(2, second.payload_hash()), true, OwnListReport::Agrees),
        (said(2, other), false, OwnListReport::Contradicts),
        (
            said(1, first.payload_hash()),
            true,
            OwnListReport::PeerIsBehind,
        ),
        (said(1, other), true, OwnListReport::Contradicts),
        (said(3, other), false, OwnListReport::WeAreBehind),
        (said(3, other), true, OwnListReport::Contradicts),
    ];
    for (said, signs_lists, expected) in cases {
        let report = check_recipient_list(&own, said, signs_lists);
        assert_eq!(report, expected);
        assert_eq!(
            report.sentence("Dr. Okafor").is_some(),
            report == OwnListReport::Contradicts
        );
    }
}

#[test]
fn members_evidence_brings_news_and_no_relapse() {
    let first = first_list();
    let second = list(3, 2, &[1, 2], Some(&first));
    let mut contact = Contact::new(account(), Origin::Fellow);
    let lists = [second.clone(), first.clone()];
    contact.observe_evidence(Some(&certificate(3, 10)), &lists, &anchor(), None, NOW);
    assert_eq!(contact.devices().unwrap().version(), 2);
    assert_eq!(can_send(&contact), Ok(vec![]));
    // Older lists and certificates, as a newcomer's log carries them, are no alarm.
    let before = contact.clone();
    let notices = contact.observe_evidence(
        Some(&certificate(66, 5)),
        &[first, list(66, 9, &[1], None)],
        &anchor(),
        None,
        NOW,
    );
    assert_eq!(notices, []);
    assert!(contact == before);
    // Two lists of one version are one, whoever brings them.
    let fake = list(3, 2, &[1, 2, 3], None);
    let fake_on_first = list(3, 2, &[1, 3], Some(&first_list()));
    for evidence in [fake_on_first, fake] {
        if evidence == second {
            continue;
        }
        let mut contact = contact.clone();
        let notices = contact.observe_evidence(None, &[evidence], &anchor(), None, NOW);
        // A second list that names no first one is not a list at all.
        assert!(notices.is_empty() || notices == [Notice::TwoLists { version: 2 }]);
    }
    let fake_on_first = list(3, 2, &[1, 3], Some(&first_list()));
    assert_eq!(
        contact.observe_evidence(None, &[fake_on_first], &anchor(), None, NOW),
        [Notice::TwoLists { version: 2 }]
    );
}

#[test]
fn a_damaged_store_is_noticed() {
    let contact = verified();
    let good = contact.encode();
    assert!(Contact::decode(&good, &anchor()).unwrap() == contact);
    assert_eq!(
        Contact::decode(&good[..good.len() - 1], &anchor()).err(),
        Some(ContactStateError)
    );
    let elsewhere = TrustAnchor::new(DeploymentId::from([1; 16]), key(1).verifying_key());
    assert_eq!(
        Contact::decode(&good, &elsewhere).err(),
        Some(ContactStateError)
    );
    // A list without a certificate, an unknown halt.
    let mut state = crate::proto::ContactState::decode(good.as_slice()).unwrap();
    state.halt = 9;
    assert!(Contact::decode(&state.encode_to_vec(), &anchor()).is_err());
    state.halt = 0;
    state.certificate = None;
    assert!(Contact::decode(&state.encode_to_vec(), &anchor()).is_err());
    assert_eq!(format!("{contact:?}"), "Contact(..)");
}
