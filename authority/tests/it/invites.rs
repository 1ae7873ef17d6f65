//! Making invites: stored before shown, admitted when the relay is there.

use axum::http::StatusCode;
use wardline_authority::clerk::{ClerkError, InviteOrder};
use wardline_authority::relay::RelayError;
use wardline_authority::store::StoreError;
use wardline_wire::invite::Invite;
use wardline_wire::proto::Role;

use crate::clinic::{Clinic, DAY, NOW, order};

#[tokio::test]
async fn a_link_names_clinic_relay_and_role_and_the_relay_knows_only_its_hash() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let issued = clerk
        .invite(&order(Role::Staff, "dr.okafor"))
        .await
        .unwrap();
    assert!(issued.not_admitted.is_none());
    let invite = Invite::from_link(&issued.link, NOW).unwrap();
    assert_eq!(invite.deployment, clinic.deployment());
    assert_eq!(invite.root_fingerprint, clinic.anchor().fingerprint());
    assert_eq!(invite.relay_url, clinic.relay.url);
    assert_eq!(invite.role, Role::Staff);
    assert_eq!(invite.expires_at, NOW.plus_millis(7 * DAY));
    assert!(invite.inviter.is_none());
    let desk = clinic.relay.desk();
    let admitted = &desk.admitted[&invite.secret.id().to_string()];
    assert_eq!(admitted.role, i32::from(Role::Staff));
    assert_eq!(admitted.expires_at_ms, invite.expires_at.as_millis());
    assert!(admitted.sealed_request.is_empty());
}

#[tokio::test]
async fn an_inviter_is_named_by_account_key_and_access_key() {
    use sha2::Digest as _;
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let doctor = clinic.certified(&mut clerk, Role::Staff, "dr.okafor").await;
    let order = InviteOrder {
        inviter: Some(doctor.account),
        inviter_access_key: Some([9; 16]),
        ..order(Role::Patient, "")
    };
    let issued = clerk.invite(&order).await.unwrap();
    let inviter = Invite::from_link(&issued.link, NOW)
        .unwrap()
        .inviter
        .unwrap();
    assert_eq!(inviter.account, doctor.account);
    let hash: [u8; 32] = sha2::Sha256::digest(doctor.key.verifying_key().as_bytes()).into();
    assert_eq!(inviter.account_key_sha256, hash);
    assert_eq!(inviter.access_key, Some([9; 16]));
    // A clinician invites patients only, whoever types the command.
    let staff = InviteOrder {
        inviter: Some(doctor.account),
        ..crate::clinic::order(Role::Staff, "dr.eze")
    };
    assert!(matches!(
        clerk.invite(&staff).await,
        Err(ClerkError::InviterRight { .. })
    ));
}

#[tokio::test]
async fn without_a_relay_the_invite_is_kept_and_admitted_later() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clinic.relay.desk().broken = Some(StatusCode::SERVICE_UNAVAILABLE);
    let issued = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    assert!(matches!(
        issued.not_admitted,
        Some(RelayError::Refused { status: 503, .. })
    ));
    assert!(clerk.admit_waiting().await.is_err());
    assert!(clinic.relay.desk().admitted.is_empty());
    // Another process, later.
    drop(clerk);
    clinic.relay.desk().broken = None;
    let mut clerk = clinic.clerk().await;
    clerk.round(false).await.unwrap();
    let id = issued.stored.id.to_string();
    assert!(clinic.relay.desk().admitted.contains_key(&id));
    assert_eq!(clerk.admit_waiting().await.unwrap(), 0);
}

#[tokio::test]
async fn the_same_command_again_gives_the_same_link() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clinic.relay.desk().broken = Some(StatusCode::SERVICE_UNAVAILABLE);
    let order_one = order(Role::Staff, "dr.okafor");
    let first = clerk.invite(&order_one).await.unwrap();
    clinic.relay.desk().broken = None;
    let again = clerk.invite(&order_one).await.unwrap();
    assert_eq!(first.link, again.link);
    assert!(again.not_admitted.is_none());
    assert_eq!(clinic.relay.desk().admitted.len(), 1);
    // With a name of one's own also for patients, who have no handle.
    let patient = InviteOrder {
        once: Some("bed 4".to_owned()),
        ..order(Role::Patient, "")
    };
    let one = clerk.invite(&patient).await.unwrap();
    assert_eq!(one.link, clerk.invite(&patient).await.unwrap().link);
    let unnamed = order(Role::Patient, "");
    assert_ne!(
        clerk.invite(&unnamed).await.unwrap().link,
        clerk.invite(&unnamed).await.unwrap().link
    );
    let other = InviteOrder {
        once: Some("bed 4".to_owned()),
        ..order(Role::Ai, "helper")
    };
    assert!(matches!(
        clerk.invite(&other).await,
        Err(ClerkError::Store(StoreError::OtherInvite))
    ));
}

#[tokio::test]
async fn handles_belong_to_one_person_or_open_invite() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clerk
        .invite(&order(Role::Staff, "dr.okafor"))
        .await
        .unwrap();
    let mut other = order(Role::Staff, "dr.okafor");
    other.name = Some(("dr.okafor".parse().unwrap(), "Another".to_owned()));
    assert!(matches!(
        clerk.invite(&other).await,
        Err(ClerkError::Store(StoreError::HandleTaken))
    ));
    clinic.certified(&mut clerk, Role::Staff, "dr.eze").await;
    assert!(matches!(
        clerk.invite(&order(Role::Staff, "dr.eze")).await,
        Err(ClerkError::Store(StoreError::HandleTaken))
    ));
    // An invite that ended unused gives the handle back.
    clinic.clock.advance_millis(8 * DAY);
    assert!(clerk.invite(&other).await.is_ok());
}

#[tokio::test]
async fn patients_are_never_named_and_everybody_else_is() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let mut named = order(Role::Patient, "");
    named.name = Some(("jane".parse().unwrap(), "Jane".to_owned()));
    let mut unnamed = order(Role::Staff, "dr.okafor");
    unnamed.name = None;
    for bad in [named, unnamed] {
        assert!(matches!(clerk.invite(&bad).await, Err(ClerkError::Name(_))));
    }
    assert!(clinic.relay.desk().admitted.is_empty());
}

#[tokio::test]
async fn only_roles_that_an_issuer_may_certify_are_invited() {
    let clinic = Clinic::without_issuer().await;
    clinic.add_issuer(&[Role::Patient], 90 * DAY);
    let mut clerk = clinic.clerk().await;
    assert!(matches!(
        clerk.invite(&order(Role::Staff, "dr.okafor")).await,
        Err(ClerkError::NoIssuerFor(Role::Staff))
    ));
    assert!(clerk.invite(&order(Role::Patient, "")).await.is_ok());
    clinic.clock.advance_millis(91 * DAY);
    let mut clerk = clinic.clerk().await;
    assert!(matches!(
        clerk.invite(&order(Role::Patient, "")).await,
        Err(ClerkError::NoIssuerFor(Role::Patient))
    ));
}

#[tokio::test]
async fn another_clinics_relay_is_noticed() {
    let clinic = Clinic::new().await;
    let clerk = clinic.clerk().await;
    clerk.check_relay().await.unwrap();
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    clinic.relay.desk().shown_root = stranger.verifying_key();
    assert!(matches!(
        clerk.check_relay().await,
        Err(ClerkError::Relay(RelayError::OtherDeployment))
    ));
}

#[tokio::test]
async fn a_token_is_kept_and_renewed_when_refused() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    clerk.round(false).await.unwrap();
    clerk.round(false).await.unwrap();
    assert_eq!(clinic.relay.desk().logins, 1);
    clinic.relay.forget_tokens();
    clerk.round(false).await.unwrap();
    assert_eq!(clinic.relay.desk().logins, 2);
}
