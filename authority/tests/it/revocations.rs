//! The revocation list: longer, fresher, and known to the relay.

use axum::http::StatusCode;
use wardline_authority::clerk::{Clerk, ClerkError};
use wardline_authority::store::RevocationRow;
use wardline_wire::clock::Clock as _;
use wardline_wire::directory::VerifiedRevocations;
use wardline_wire::proto::{RevocationKind, RevocationList, Role};

use crate::clinic::{ALL, Clinic, DAY, NOW};

fn entry(kind: RevocationKind, id: [u8; 16]) -> RevocationRow {
    RevocationRow {
        kind,
        id,
        revoked_at: NOW,
        reason: "because".to_owned(),
    }
}

fn published(clinic: &Clinic) -> VerifiedRevocations {
    let bundle = clinic.relay.desk().revocations.clone().expect("published");
    VerifiedRevocations::verify(&bundle, clinic.anchor(), clinic.clock.now()).unwrap()
}

async fn revoke_account(clerk: &mut Clerk, id: [u8; 16]) -> u64 {
    let entry = entry(RevocationKind::Account, id);
    clerk.revoke(&[entry], None).await.unwrap().number
}

#[tokio::test]
async fn an_empty_list_is_published_from_the_start() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clerk.round(true).await.unwrap();
    let list = published(&clinic);
    assert_eq!((list.number(), list.accounts().count()), (1, 0));
    assert_eq!(list.next_update(), NOW.plus_millis(7 * DAY));
}

#[tokio::test]
async fn every_revocation_makes_a_longer_list() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clerk.round(true).await.unwrap();
    let mut before = published(&clinic);
    for id in 1..=3 {
        assert_eq!(
            revoke_account(&mut clerk, [id; 16]).await,
            u64::from(id) + 1
        );
        let list = published(&clinic);
        list.check_replaces(&before).unwrap();
        assert_eq!(list.accounts().count(), usize::from(id));
        before = list;
    }
    // The same again changes nothing.
    assert_eq!(revoke_account(&mut clerk, [1; 16]).await, 4);
}

#[tokio::test]
async fn the_list_is_signed_anew_before_it_is_stale() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clerk.round(true).await.unwrap();
    clinic.clock.advance_millis(3 * DAY);
    clerk.round(true).await.unwrap();
    assert_eq!(published(&clinic).number(), 1);
    clinic.clock.advance_millis(DAY);
    clerk.round(true).await.unwrap();
    let list = published(&clinic);
    assert_eq!(list.number(), 2);
    assert_eq!(list.next_update(), NOW.plus_millis(11 * DAY));
}

#[tokio::test]
async fn what_the_relay_missed_or_lost_is_published_again() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clinic.relay.desk().broken = Some(StatusCode::BAD_GATEWAY);
    let listed = clerk
        .revoke(&[entry(RevocationKind::Account, [1; 16])], None)
        .await
        .unwrap();
    assert!(listed.not_published.is_some());
    clinic.relay.desk().broken = None;
    // The next look at the desk is enough, without waiting for the hour.
    clerk.round(false).await.unwrap();
    assert_eq!(published(&clinic).number(), listed.number);
    // Restored from a backup.
    clinic.relay.desk().revocations = None;
    clerk.round(true).await.unwrap();
    assert_eq!(published(&clinic).number(), listed.number);
}

#[tokio::test]
async fn another_authoritys_list_is_taken_over_and_followed() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clerk.round(true).await.unwrap();
    let theirs = clinic.root.sign_revocations(RevocationList {
        number: 40,
        issued_at_ms: NOW.as_millis(),
        next_update_ms: NOW.plus_millis(DAY).as_millis(),
        revocations: vec![entry(RevocationKind::Account, [9; 16]).to_wire()],
        issuer_serial: Vec::new(),
    });
    clinic.relay.desk().revocations = Some(theirs);
    revoke_account(&mut clerk, [1; 16]).await;
    let list = published(&clinic);
    assert_eq!(list.number(), 41);
    assert_eq!(list.accounts().count(), 2);
}

#[tokio::test]
async fn a_greater_number_of_the_relays_is_followed_even_without_news() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clerk.round(true).await.unwrap();
    let theirs = clinic.root.sign_revocations(RevocationList {
        number: 40,
        issued_at_ms: NOW.as_millis(),
        next_update_ms: NOW.plus_millis(DAY).as_millis(),
        revocations: Vec::new(),
        issuer_serial: Vec::new(),
    });
    clinic.relay.desk().revocations = Some(theirs);
    clerk.round(true).await.unwrap();
    assert_eq!(published(&clinic).number(), 41);
    clerk.round(true).await.unwrap();
    assert_eq!(published(&clinic).number(), 41);
}

#[tokio::test]
async fn a_list_that_came_second_is_tried_again_but_not_for_ever() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clinic.relay.desk().lists_conflict = 1;
    revoke_account(&mut clerk, [1; 16]).await;
    assert_eq!(published(&clinic).accounts().count(), 1);
    clinic.relay.desk().lists_conflict = 1000;
    let more = [entry(RevocationKind::Account, [2; 16])];
    assert!(matches!(
        clerk.revoke(&more, None).await,
        Err(ClerkError::ListRace)
    ));
    // The entry is kept all the same.
    clinic.relay.desk().lists_conflict = 0;
    clerk.round(false).await.unwrap();
    assert_eq!(published(&clinic).accounts().count(), 2);
}

#[tokio::test]
async fn the_last_issuer_is_revoked_by_the_root_only() {
    let clinic = Clinic::without_issuer().await;
    let issuer = clinic.add_issuer(&ALL, 90 * DAY);
    let mut clerk = clinic.clerk().await;
    let revocation = [entry(RevocationKind::Issuer, *issuer.serial().as_bytes())];
    assert!(matches!(
        clerk.revoke(&revocation, None).await,
        Err(ClerkError::NoIssuer)
    ));
    assert!(clerk.store().revocations().await.unwrap().is_empty());
    let listed = clerk.revoke(&revocation, Some(&clinic.root)).await.unwrap();
    // Nobody can log in to publish it, until there is a new issuer.
    assert!(listed.not_published.is_some());
    clinic.add_issuer(&[Role::Patient], 90 * DAY);
    clerk.round(true).await.unwrap();
    assert!(published(&clinic).covers_issuer(issuer.serial()));
    let bundle = clinic.relay.desk().revocations.clone().unwrap();
    assert!(bundle.issuer.is_none(), "the root's own list");
    // From then on the new issuer goes on with it.
    assert_eq!(revoke_account(&mut clerk, [1; 16]).await, listed.number + 1);
    assert!(published(&clinic).covers_issuer(issuer.serial()));
}
