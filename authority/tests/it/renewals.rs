//! Certificates that go on, under this issuer or the next.

use wardline_authority::clerk::Renewed;
use wardline_authority::store::RevocationRow;
use wardline_wire::clock::Clock as _;
use wardline_wire::proto::{RevocationKind, Role};

use crate::clinic::{ALL, Clinic, DAY, NOW};

#[tokio::test]
async fn certificates_are_renewed_in_their_last_third() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let doctor = clinic.certified(&mut clerk, Role::Staff, "dr.okafor").await;
    let first = clinic.verified(&doctor);
    clinic.clock.advance_millis(20 * DAY);
    assert_eq!(clerk.renew().await.unwrap(), Renewed::default());
    clinic.clock.advance_millis(DAY);
    assert_eq!(clerk.renew().await.unwrap().renewed, 1);
    assert_eq!(clerk.deliver().await.unwrap(), 1);
    let second = clinic.verified(&doctor);
    assert_ne!(first.serial(), second.serial());
    assert_eq!(second.not_after(), NOW.plus_millis(51 * DAY));
    assert_eq!(second.handle(), first.handle());
    assert_eq!(second.account_key(), first.account_key());
    // Nothing to do twice.
    assert_eq!(clerk.renew().await.unwrap(), Renewed::default());
    assert_eq!(clerk.deliver().await.unwrap(), 0);
}

#[tokio::test]
async fn an_issuer_near_its_end_does_not_sign_the_same_end_again() {
    let clinic = Clinic::without_issuer().await;
    let old = clinic.add_issuer(&ALL, 25 * DAY);
    let mut clerk = clinic.clerk().await;
    let doctor = clinic.certified(&mut clerk, Role::Staff, "dr.okafor").await;
    assert_eq!(clinic.verified(&doctor).not_after(), old.not_after());
    clinic.clock.advance_millis(16 * DAY);
    let stuck = clerk.renew().await.unwrap();
    assert_eq!((stuck.renewed, stuck.need_issuer), (0, 1));
    // The next issuer lies beside the old one; a running serve finds it.
    let new = clinic.add_issuer(&ALL, 90 * DAY);
    clerk.round(true).await.unwrap();
    let certificate = clinic.verified(&doctor);
    assert_eq!(certificate.issuer(), new.serial());
    assert_eq!(
        certificate.not_after(),
        clinic.clock.now().plus_millis(30 * DAY)
    );
    assert_eq!(clinic.relay.desk().issuers.len(), 2);
}

#[tokio::test]
async fn whoever_a_revoked_issuer_certified_is_certified_anew() {
    let clinic = Clinic::without_issuer().await;
    let old = clinic.add_issuer(&ALL, 90 * DAY);
    let mut clerk = clinic.clerk().await;
    let doctor = clinic.certified(&mut clerk, Role::Staff, "dr.okafor").await;
    let new = clinic.add_issuer(&ALL, 80 * DAY);
    clerk.round(true).await.unwrap();
    assert_eq!(clinic.verified(&doctor).issuer(), old.serial());
    let entry = RevocationRow {
        kind: RevocationKind::Issuer,
        id: *old.serial().as_bytes(),
        revoked_at: NOW,
        reason: "machine stolen".to_owned(),
    };
    clerk.revoke(&[entry], None).await.unwrap();
    clerk.round(true).await.unwrap();
    assert_eq!(clinic.verified(&doctor).issuer(), new.serial());
    let before = clinic.relay.desk().decisions.len();
    clerk.round(true).await.unwrap();
    assert_eq!(clinic.relay.desk().decisions.len(), before);
}

#[tokio::test]
async fn revoked_accounts_are_not_renewed_and_give_their_handle_back() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let doctor = clinic.certified(&mut clerk, Role::Staff, "dr.okafor").await;
    let entry = RevocationRow {
        kind: RevocationKind::Account,
        id: *doctor.account.as_bytes(),
        revoked_at: NOW,
        reason: "left".to_owned(),
    };
    clerk.revoke(&[entry], None).await.unwrap();
    clinic.clock.advance_millis(25 * DAY);
    assert_eq!(clerk.renew().await.unwrap(), Renewed::default());
    let successor = clinic.certified(&mut clerk, Role::Staff, "dr.okafor").await;
    assert_ne!(successor.account, doctor.account);
}
