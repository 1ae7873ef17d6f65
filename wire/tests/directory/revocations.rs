//! What no longer counts, and that it stays so.

use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{
    CertificateError, IssuerError, RevocationError, VerifiedCertificate, VerifiedRevocations,
};
use wardline_wire::ids::{AccountId, DeploymentId, Serial};
use wardline_wire::proto::{
    Revocation, RevocationBundle, RevocationKind, RevocationList, SignedBlob,
};
use wardline_wire::signed::{SignatureError, SignedBlobExt as _, SignedKind};

use crate::clinic::{
    DAY, NOW, account, anchor, chain, deployment, issuer_key, key, revocation_list, root,
    root_signs_revocations, sign_revocations, staff,
};

fn entry(kind: RevocationKind, id: &[u8]) -> Revocation {
    Revocation {
        kind: kind.into(),
        id: id.to_vec(),
        revoked_at_ms: NOW.as_millis(),
    }
}

fn list(number: u64, entries: &[Revocation]) -> RevocationList {
    RevocationList {
        revocations: entries.to_vec(),
        ..revocation_list(number)
    }
}

fn verify(bundle: &RevocationBundle) -> Result<VerifiedRevocations, RevocationError> {
    VerifiedRevocations::verify(bundle, &anchor(), NOW)
}

fn verified(list: &RevocationList) -> VerifiedRevocations {
    verify(&sign_revocations(list)).unwrap()
}

fn verify_changed(change: impl FnOnce(&mut RevocationList)) -> Result<(), RevocationError> {
    let mut list = revocation_list(5);
    change(&mut list);
    verify(&sign_revocations(&list)).map(|_| ())
}

const BAD_SIGNATURE: RevocationError =
    RevocationError::Signature(SignatureError(SignedKind::RevocationList));

#[test]
fn each_kind_of_revocation_ends_a_certificate() {
    let certificate =
        || VerifiedCertificate::verify(&chain(&staff()), account(), &anchor(), None, NOW).unwrap();
    let nothing = verified(&list(1, &[]));
    assert!(!nothing.covers(&certificate()));
    let elsewhere = verified(&list(
        1,
        &[
            entry(RevocationKind::Certificate, &[7; 16]),
            entry(RevocationKind::Issuer, &[7; 16]),
            entry(RevocationKind::Account, &[7; 16]),
            // The right bytes under the wrong kind name somebody else.
            entry(RevocationKind::Account, &[0xCE; 16]),
        ],
    ));
    assert!(!elsewhere.covers(&certificate()));

    let by_certificate = verified(&list(1, &[entry(RevocationKind::Certificate, &[0xCE; 16])]));
    let by_account = verified(&list(
        1,
        &[entry(RevocationKind::Account, account().as_bytes())],
    ));
    // An issuer is revoked by the root, or by another issuer.
    let by_issuer = verify(&root_signs_revocations(&list(
        1,
        &[entry(RevocationKind::Issuer, &[0x15; 16])],
    )))
    .unwrap();
    for revocations in [by_certificate, by_account, by_issuer] {
        assert!(revocations.covers(&certificate()));
        assert_eq!(
            VerifiedCertificate::verify(
                &chain(&staff()),
                account(),
                &anchor(),
                Some(&revocations),
                NOW
            ),
            Err(CertificateError::Revoked)
        );
    }
}

#[test]
fn a_list_can_be_asked() {
    let revocations = verified(&list(
        3,
        &[
            entry(RevocationKind::Certificate, &[1; 16]),
            entry(RevocationKind::Issuer, &[2; 16]),
            entry(RevocationKind::Account, &[3; 16]),
        ],
    ));
    assert_eq!(revocations.number(), 3);
    assert!(revocations.covers_issuer(Serial::from([2; 16])));
    assert!(!revocations.covers_issuer(Serial::from([1; 16])));
    let gone = AccountId::from_slice(&[3; 16]).unwrap();
    assert!(revocations.covers_account(gone));
    assert_eq!(revocations.accounts().collect::<Vec<_>>(), [gone]);
    assert_eq!(
        revocations.certificates().collect::<Vec<_>>(),
        [Serial::from([1; 16])]
    );
    assert_eq!(
        revocations.issuers().collect::<Vec<_>>(),
        [Serial::from([2; 16])]
    );
}

#[test]
fn only_the_clinic_revokes() {
    let encoded = revocation_list(1).encode_to_vec();
    let signed = |kind, deployment, key: &ed25519_dalek::SigningKey| {
        let mut bundle = sign_revocations(&revocation_list(1));
        bundle.list = Some(SignedBlob::sign(kind, deployment, encoded.clone(), key));
        verify(&bundle).map(|_| ())
    };
    let kind = SignedKind::RevocationList;
    assert_eq!(signed(kind, deployment(), &issuer_key()), Ok(()));
    assert_eq!(signed(kind, deployment(), &key(40)), Err(BAD_SIGNATURE));
    assert_eq!(signed(kind, deployment(), &root()), Err(BAD_SIGNATURE));
    let elsewhere = DeploymentId::from([1; 16]);
    assert_eq!(signed(kind, elsewhere, &issuer_key()), Err(BAD_SIGNATURE));
    assert_eq!(
        signed(SignedKind::Certificate, deployment(), &issuer_key()),
        Err(BAD_SIGNATURE)
    );
    // Without the issuer, the issuer's signature is not the root's.
    let mut orphan = sign_revocations(&revocation_list(1));
    orphan.issuer = None;
    assert_eq!(verify(&orphan), Err(BAD_SIGNATURE));
    // An issuer the root did not sign vouches for nothing.
    let mut forged = sign_revocations(&revocation_list(1));
    forged.issuer = forged.issuer.map(|mut issuer| {
        issuer.signature[0] ^= 1;
        issuer
    });
    assert_eq!(
        verify(&forged),
        Err(RevocationError::Issuer(IssuerError::Signature(
            SignatureError(SignedKind::Issuer)
        )))
    );
}

#[test]
fn lists_that_are_not_well_formed_are_refused() {
    let changes: [(&str, fn(&mut RevocationList)); 10] = [
        ("number 0", |list| list.number = 0),
        ("a number nobody can top", |list| list.number = u64::MAX),
        ("a number past its time", |list| {
            list.number = list.issued_at_ms + 1;
        }),
        ("due before issue", |list| {
            list.next_update_ms = list.issued_at_ms - 1;
        }),
        ("good for ever", |list| list.next_update_ms = u64::MAX),
        ("good for more than 31 days", |list| {
            list.next_update_ms = list.issued_at_ms + 31 * DAY + 1;
        }),
        ("another issuer's", |list| {
            list.issuer_serial = vec![0x16; 16];
        }),
        ("nobody's", |list| list.issuer_serial.clear()),
        ("short id", |list| {
            list.revocations = vec![entry(RevocationKind::Account, &[1; 15])];
        }),
        ("no kind", |list| {
            list.revocations = vec![entry(RevocationKind::Unspecified, &[1; 16])];
        }),
    ];
    for (what, change) in changes {
        assert_eq!(
            verify_changed(change),
            Err(RevocationError::Malformed),
            "{what}"
        );
    }
    // A kind from the future is not skipped: it would un-revoke.
    assert_eq!(
        verify_changed(|list| list.revocations = vec![Revocation {
            kind: 4,
            ..entry(RevocationKind::Account, &[1; 16])
        }]),
        Err(RevocationError::Malformed)
    );
    assert_eq!(verify_changed(|_| ()), Ok(()));
    assert_eq!(
        verify(&RevocationBundle::default()),
        Err(RevocationError::Missing)
    );
    // Signed by the root but naming an issuer.
    let mut odd = root_signs_revocations(&revocation_list(1));
    odd.list = Some(SignedBlob::sign(
        SignedKind::RevocationList,
        deployment(),
        revocation_list(1).encode_to_vec(),
        &root(),
    ));
    assert_eq!(verify(&odd), Err(RevocationError::Malformed));
}

#[test]
fn a_list_from_the_future_is_refused() {
    let at = |now: Timestamp| {
        VerifiedRevocations::verify(&sign_revocations(&revocation_list(1)), &anchor(), now)
            .map(|_| ())
    };
    assert_eq!(at(NOW.minus_millis(DAY)), Ok(()));
    assert_eq!(
        at(NOW.minus_millis(DAY + 1)),
        Err(RevocationError::Malformed)
    );
}

#[test]
fn revocations_outlive_their_issuer_but_none_are_made_after_it() {
    // Long after the issuer's end the list still says who is revoked; it is just stale.
    let late = NOW.plus_millis(100 * DAY);
    let list = revocation_list(1);
    let read = VerifiedRevocations::verify(&sign_revocations(&list), &anchor(), late).unwrap();
    assert!(read.is_stale(late));
    // The issuer ends ten days after NOW; a list "issued" later was not made in its time.
    let mut after = list;
    after.issued_at_ms = NOW.plus_millis(11 * DAY + 1).as_millis();
    after.next_update_ms = after.issued_at_ms;
    assert_eq!(
        VerifiedRevocations::verify(&sign_revocations(&after), &anchor(), late),
        Err(RevocationError::Issuer(IssuerError::Expired))
    );
    after.issued_at_ms -= 1;
    assert!(VerifiedRevocations::verify(&sign_revocations(&after), &anchor(), late).is_ok());
}

#[test]
fn a_list_made_with_a_leaked_key_is_stale_in_time_and_can_be_followed() {
    // The worst an expired issuer's key can do: the latest issue, the longest validity, the
    // greatest number.
    let mut worst = revocation_list(1);
    worst.issued_at_ms = NOW.plus_millis(11 * DAY).as_millis();
    worst.next_update_ms = worst.issued_at_ms + 31 * DAY;
    worst.number = worst.issued_at_ms;
    let late = NOW.plus_millis(60 * DAY);
    let worst = VerifiedRevocations::verify(&sign_revocations(&worst), &anchor(), late).unwrap();
    assert!(worst.is_stale(late));
    let mut cure = revocation_list(late.as_millis());
    cure.issued_at_ms = late.as_millis();
    cure.next_update_ms = late.plus_millis(7 * DAY).as_millis();
    let cure = root_signs_revocations(&cure);
    let cure = VerifiedRevocations::verify(&cure, &anchor(), late).unwrap();
    assert_eq!(cure.check_replaces(&worst), Ok(()));
}

#[test]
fn staleness_tolerates_a_day() {
    let revocations = verified(&revocation_list(1));
    let due = NOW.plus_millis(7 * DAY);
    assert!(!revocations.is_stale(due.plus_millis(DAY)));
    assert!(revocations.is_stale(due.plus_millis(DAY + 1)));
}

#[test]
fn a_revoked_issuer_signs_nothing() {
    assert_eq!(
        verify_changed(|list| list.revocations = vec![entry(RevocationKind::Issuer, &[0x15; 16])]),
        Err(RevocationError::RevokedIssuer)
    );
    // Leaving itself out does not help where the revocation is known.
    let known = verify(&root_signs_revocations(&list(
        4,
        &[entry(RevocationKind::Issuer, &[0x15; 16])],
    )))
    .unwrap();
    let offered = verified(&list(5, &[]));
    assert_eq!(offered.check_replaces(&known), Err(RevocationError::Shrunk));
}

#[test]
fn nothing_is_ever_taken_back() {
    let entries = [
        entry(RevocationKind::Certificate, &[1; 16]),
        entry(RevocationKind::Issuer, &[2; 16]),
        entry(RevocationKind::Account, &[3; 16]),
    ];
    let known = verified(&list(4, &entries));
    for left_out in 0..entries.len() {
        let mut fewer = entries.to_vec();
        fewer.remove(left_out);
        fewer.push(entry(RevocationKind::Certificate, &[9; 16]));
        assert_eq!(
            verified(&list(5, &fewer)).check_replaces(&known),
            Err(RevocationError::Shrunk)
        );
        assert_eq!(
            verified(&list(4, &fewer)).check_replaces(&known),
            Err(RevocationError::Shrunk)
        );
    }
    let mut more = entries.to_vec();
    more.push(entry(RevocationKind::Certificate, &[9; 16]));
    assert_eq!(verified(&list(5, &more)).check_replaces(&known), Ok(()));
    assert_eq!(verified(&list(9, &entries)).check_replaces(&known), Ok(()));
    assert_eq!(known.check_replaces(&known), Ok(()));
}

#[test]
fn an_old_list_does_not_come_back() {
    let known = verified(&list(4, &[]));
    assert_eq!(
        verified(&list(3, &[])).check_replaces(&known),
        Err(RevocationError::RolledBack {
            known: 4,
            offered: 3
        })
    );
}
