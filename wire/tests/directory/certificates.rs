//! Root → issuer → certificate.

use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{
    CertificateError, Handle, IssuerError, TrustAnchor, TrustAnchorError, VerifiedCertificate,
    VerifiedIssuer, check_display_name, role_from_name, role_from_wire, role_name,
};
use wardline_wire::ids::{AccountId, DeploymentId, Serial};
use wardline_wire::proto::{Certificate, CertificateChain, Issuer, Role, SignedBlob};
use wardline_wire::signed::{SignatureError, SignedBlobExt as _, SignedKind};

use crate::clinic::{
    DAY, NOW, account, account_key, anchor, chain, chain_under, deployment, issuer, issuer_key,
    key, patient, root, sign_issuer, staff,
};

fn verify(chain: &CertificateChain) -> Result<VerifiedCertificate, CertificateError> {
    VerifiedCertificate::verify(chain, account(), &anchor(), None, NOW)
}

fn verify_changed(change: impl FnOnce(&mut Certificate)) -> Result<(), CertificateError> {
    let mut certificate = staff();
    change(&mut certificate);
    verify(&chain(&certificate)).map(|_| ())
}

const BAD_SIGNATURE: CertificateError =
    CertificateError::Signature(SignatureError(SignedKind::Certificate));
const BAD_ISSUER_SIGNATURE: CertificateError =
    CertificateError::Issuer(IssuerError::Signature(SignatureError(SignedKind::Issuer)));

#[test]
fn a_clinician_is_who_the_clinic_says() {
    let verified = verify(&chain(&staff())).unwrap();
    assert_eq!(verified.account(), account());
    assert_eq!(verified.account_key(), &account_key().verifying_key());
    assert_eq!(verified.role(), Role::Staff);
    assert_eq!(verified.handle().map(Handle::as_str), Some("dr.okafor"));
    assert_eq!(verified.display_name(), Some("Dr. Okafor"));
    assert_eq!(verified.serial(), Serial::from([0xCE; 16]));
    assert_eq!(verified.issuer(), Serial::from([0x15; 16]));
}

#[test]
fn a_patient_has_no_name() {
    let verified = verify(&chain(&patient())).unwrap();
    assert_eq!(
        (verified.role(), verified.handle(), verified.display_name()),
        (Role::Patient, None, None)
    );
}

#[test]
fn a_patient_with_a_name_is_refused() {
    let named = [
        (
            "handle",
            Certificate {
                handle: "jane".to_owned(),
                ..patient()
            },
        ),
        (
            "name",
            Certificate {
                display_name: "Jane".to_owned(),
                ..patient()
            },
        ),
    ];
    for (what, certificate) in named {
        let result = verify(&chain(&certificate));
        assert_eq!(result, Err(CertificateError::Malformed), "{what}");
    }
}

#[test]
fn everybody_else_needs_a_handle_and_a_name() {
    for role in [Role::Staff, Role::Ai, Role::Admin, Role::Officer] {
        let mut all = issuer();
        all.roles = vec![role.into()];
        let good = Certificate {
            role: role.into(),
            ..staff()
        };
        assert!(verify(&chain_under(&all, &good)).is_ok(), "{role:?}");
        let no_handle = Certificate {
            handle: String::new(),
            ..good.clone()
        };
        let no_name = Certificate {
            display_name: String::new(),
            ..good
        };
        for bad in [no_handle, no_name] {
            let result = verify(&chain_under(&all, &bad));
            assert_eq!(result, Err(CertificateError::Malformed), "{role:?}");
        }
    }
}

#[test]
fn an_issuer_certifies_only_its_roles() {
    for role in [Role::Ai, Role::Admin, Role::Officer] {
        assert_eq!(
            verify_changed(|certificate| certificate.role = role.into()),
            Err(CertificateError::RoleNotAllowed),
            "{role:?}"
        );
    }
    let mut none = issuer();
    none.roles.clear();
    assert_eq!(
        verify(&chain_under(&none, &staff())),
        Err(CertificateError::RoleNotAllowed)
    );
}

#[test]
fn roles_that_are_none_are_refused() {
    for role in [0, 6, -1, i32::MAX] {
        assert_eq!(
            verify_changed(|certificate| certificate.role = role),
            Err(CertificateError::Malformed)
        );
        let mut odd = issuer();
        odd.roles.push(role);
        assert_eq!(
            verify(&chain_under(&odd, &staff())),
            Err(CertificateError::Issuer(IssuerError::Malformed))
        );
    }
}

#[test]
fn validity_tolerates_a_day_and_no_more() {
    let at = |now: Timestamp| {
        VerifiedCertificate::verify(&chain(&staff()), account(), &anchor(), None, now).map(|_| ())
    };
    let start = NOW.minus_millis(5 * DAY);
    let end = NOW.plus_millis(5 * DAY);
    assert_eq!(at(start.minus_millis(DAY)), Ok(()));
    assert_eq!(
        at(start.minus_millis(DAY + 1)),
        Err(CertificateError::Expired)
    );
    assert_eq!(at(end.plus_millis(DAY)), Ok(()));
    assert_eq!(at(end.plus_millis(DAY + 1)), Err(CertificateError::Expired));
}

#[test]
fn a_certificate_falls_with_its_issuers_time() {
    let lasting = Certificate {
        not_before_ms: 0,
        not_after_ms: u64::MAX,
        ..staff()
    };
    let at = |now: Timestamp| {
        VerifiedCertificate::verify(&chain(&lasting), account(), &anchor(), None, now).map(|_| ())
    };
    let expired = Err(CertificateError::Issuer(IssuerError::Expired));
    assert_eq!(at(NOW.plus_millis(11 * DAY)), Ok(()));
    assert_eq!(at(NOW.plus_millis(11 * DAY + 1)), expired);
    assert_eq!(at(NOW.minus_millis(11 * DAY)), Ok(()));
    assert_eq!(at(NOW.minus_millis(11 * DAY + 1)), expired);
    assert_eq!(at(Timestamp::from_millis(0)), expired);
    assert_eq!(at(Timestamp::from_millis(u64::MAX)), expired);
}

#[test]
fn a_validity_that_ends_before_it_begins_is_refused() {
    assert_eq!(
        verify_changed(|certificate| {
            certificate.not_before_ms = NOW.as_millis() + 1;
            certificate.not_after_ms = NOW.as_millis();
        }),
        Err(CertificateError::Malformed)
    );
    let odd = Issuer {
        not_before_ms: NOW.as_millis() + 1,
        not_after_ms: NOW.as_millis(),
        ..issuer()
    };
    assert_eq!(
        VerifiedIssuer::verify(&sign_issuer(&odd), &anchor(), NOW),
        Err(IssuerError::Malformed)
    );
}

#[test]
fn another_root_is_not_believed() {
    let other = TrustAnchor::new(deployment(), key(77).verifying_key());
    assert_eq!(
        VerifiedCertificate::verify(&chain(&staff()), account(), &other, None, NOW),
        Err(BAD_ISSUER_SIGNATURE)
    );
    // An issuer that signs itself is no issuer.
    let mut own = chain(&staff());
    own.issuer = Some(SignedBlob::sign(
        SignedKind::Issuer,
        deployment(),
        issuer().encode_to_vec(),
        &issuer_key(),
    ));
    assert_eq!(verify(&own), Err(BAD_ISSUER_SIGNATURE));
}

#[test]
fn another_deployment_is_not_believed() {
    let other = DeploymentId::from([0xD1; 16]);
    let elsewhere = TrustAnchor::new(other, root().verifying_key());
    assert_eq!(
        VerifiedCertificate::verify(&chain(&staff()), account(), &elsewhere, None, NOW),
        Err(BAD_ISSUER_SIGNATURE)
    );
    // The issuer is ours, the certificate was signed for another deployment.
    let mut mixed = chain(&staff());
    mixed.certificate = Some(SignedBlob::sign(
        SignedKind::Certificate,
        other,
        staff().encode_to_vec(),
        &issuer_key(),
    ));
    assert_eq!(verify(&mixed), Err(BAD_SIGNATURE));
}

#[test]
fn only_the_named_issuer_may_have_signed() {
    // Signed by a key that is not the issuer's: the root's own included.
    for stranger in [root(), account_key(), key(50)] {
        let mut forged = chain(&staff());
        forged.certificate = Some(SignedBlob::sign(
            SignedKind::Certificate,
            deployment(),
            staff().encode_to_vec(),
            &stranger,
        ));
        assert_eq!(verify(&forged), Err(BAD_SIGNATURE));
    }
    // Signed by the right key, naming another serial: revoking by issuer would miss it.
    assert_eq!(
        verify_changed(|certificate| certificate.issuer_serial = vec![0x16; 16]),
        Err(CertificateError::Malformed)
    );
}

#[test]
fn a_signature_for_another_purpose_does_not_fit() {
    let mut swapped = chain(&staff());
    swapped.certificate = Some(SignedBlob::sign(
        SignedKind::RevocationList,
        deployment(),
        staff().encode_to_vec(),
        &issuer_key(),
    ));
    assert_eq!(verify(&swapped), Err(BAD_SIGNATURE));
}

#[test]
fn half_a_chain_is_none() {
    let full = chain(&staff());
    let no_issuer = CertificateChain {
        issuer: None,
        ..full.clone()
    };
    let no_certificate = CertificateChain {
        certificate: None,
        ..full
    };
    for part in [no_issuer, no_certificate, CertificateChain::default()] {
        assert_eq!(verify(&part), Err(CertificateError::Missing));
    }
}

#[test]
fn somebody_elses_certificate_is_noticed() {
    let other = AccountId::from_random_bytes([0xB0; 16]);
    assert_eq!(
        VerifiedCertificate::verify(&chain(&staff()), other, &anchor(), None, NOW),
        Err(CertificateError::OtherAccount)
    );
}

#[test]
fn another_doctors_handle_is_noticed() {
    let ask = |handle: &str, certificate: &Certificate| {
        let handle: Handle = handle.parse().unwrap();
        VerifiedCertificate::verify_handle(&chain(certificate), &handle, &anchor(), None, NOW)
            .map(|_| ())
    };
    assert_eq!(ask("dr.okafor", &staff()), Ok(()));
    assert_eq!(ask("@dr.okafor", &staff()), Ok(()));
    assert_eq!(
        ask("dr.adeyemi", &staff()),
        Err(CertificateError::OtherHandle)
    );
    assert_eq!(
        ask("dr.okafor", &patient()),
        Err(CertificateError::OtherHandle)
    );
}

#[test]
fn handles_are_plain() {
    for good in ["ab", "dr.okafor", "a_b-c.9", &"x".repeat(32)] {
        assert_eq!(good.parse::<Handle>().unwrap().as_str(), good);
        assert!(verify_changed(|certificate| certificate.handle = good.to_owned()).is_ok());
    }
    for bad in [
        "",
        "a",
        "Dr",
        "a b",
        "a/b",
        "é-e",
        "аb",
        "@",
        "@@ab",
        "ab\n",
        &"x".repeat(33),
    ] {
        assert!(bad.parse::<Handle>().is_err(), "{bad}");
        assert_eq!(
            verify_changed(|certificate| certificate.handle = bad.to_owned()),
            Err(CertificateError::Malformed),
            "{bad}"
        );
    }
    // People may write the "@"; a certificate may not.
    assert_eq!("@ab".parse::<Handle>().unwrap().as_str(), "ab");
    assert_eq!(
        verify_changed(|certificate| certificate.handle = "@ab".to_owned()),
        Err(CertificateError::Malformed)
    );
}

#[test]
fn names_hide_nothing() {
    for good in [
        "Dr. Okafor",
        "Ngozi Ọkafọ",
        "王",
        "O'Neill (on call)",
        &"n".repeat(64),
    ] {
        assert!(check_display_name(good), "{good}");
    }
    for bad in [
        "",
        " ",
        " Dr",
        "Dr ",
        "a\nb",
        "a\tb",
        "a\0b",
        "a\u{1b}[31mb",
        "a\u{85}b",
        "a\u{200b}b",
        "a\u{200f}b",
        "a\u{202e}b",
        "a\u{2028}b",
        "a\u{2029}b",
        "a\u{2066}b",
        "a\u{61c}b",
        "a\u{ad}b",
        "a\u{3164}b",
        "\u{feff}ab",
        "a\u{e0041}b",
        &"n".repeat(65),
    ] {
        assert!(!check_display_name(bad), "{bad:?}");
        assert_eq!(
            verify_changed(|certificate| certificate.display_name = bad.to_owned()),
            Err(CertificateError::Malformed),
            "{bad:?}"
        );
    }
}

#[test]
fn fields_of_a_wrong_length_are_refused() {
    let shorten: [fn(&mut Certificate); 4] = [
        |certificate| certificate.serial.truncate(15),
        |certificate| certificate.account_id.truncate(15),
        |certificate| certificate.account_key.truncate(31),
        |certificate| certificate.issuer_serial.push(0),
    ];
    for change in shorten {
        assert_eq!(verify_changed(change), Err(CertificateError::Malformed));
    }
    let shorten: [fn(&mut Issuer); 3] = [
        |issuer| issuer.serial.truncate(15),
        |issuer| issuer.key.truncate(31),
        |issuer| issuer.sealing_key.push(0),
    ];
    for change in shorten {
        let mut changed = issuer();
        change(&mut changed);
        assert_eq!(
            verify(&chain_under(&changed, &staff())),
            Err(CertificateError::Issuer(IssuerError::Malformed))
        );
    }
}

#[test]
fn a_root_is_pinned_by_its_fingerprint() {
    let pinned = anchor().fingerprint();
    let shown = root().verifying_key();
    assert_eq!(
        TrustAnchor::from_pinned(deployment(), &pinned, shown.as_bytes()),
        Ok(anchor())
    );
    assert_eq!(
        TrustAnchor::from_pinned(deployment(), &pinned, key(9).verifying_key().as_bytes()),
        Err(TrustAnchorError::Fingerprint)
    );
    for bytes in [&[][..], &shown.as_bytes()[1..], &[0xFF; 33]] {
        assert_eq!(
            TrustAnchor::from_pinned(deployment(), &pinned, bytes),
            Err(TrustAnchorError::Key)
        );
    }
}

#[test]
fn roles_have_words() {
    for number in 1..=5 {
        let role = role_from_wire(number).unwrap();
        assert_eq!(role_from_name(role_name(role)), Some(role));
    }
    assert_eq!(role_from_name("unspecified"), None);
    assert_eq!(role_from_name("Staff"), None);
    assert_eq!(role_from_wire(0), None);
}
