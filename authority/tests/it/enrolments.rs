//! Who is certified, and who is not, whatever the relay shows.

use axum::http::StatusCode;
use ed25519_dalek::SigningKey;
use wardline_authority::clerk::{Clerk, ClerkError, Worked};
use wardline_authority::config::Approval;
use wardline_wire::directory::VerifiedIssuer;
use wardline_wire::ids::DeploymentId;
use wardline_wire::invite::InviteSecret;
use wardline_wire::proto::{EnrolmentRequest, InviteRequest, Role};

use crate::clinic::{ALL, Clinic, DAY, NOW, Person, device, order, seal};

const CERTIFIED: Worked = Worked {
    certified: 1,
    refused: 0,
    held: 0,
};
const REFUSED: Worked = Worked {
    certified: 0,
    refused: 1,
    held: 0,
};
const HELD: Worked = Worked {
    certified: 0,
    refused: 0,
    held: 1,
};

#[tokio::test]
async fn a_proof_that_fits_is_certified() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    for role in ALL {
        let handle = format!("one.{}", role as i32);
        let person = clinic.certified(&mut clerk, role, &handle).await;
        let certificate = clinic.verified(&person);
        assert_eq!(certificate.role(), role);
        assert_eq!(certificate.account_key(), &person.key.verifying_key());
        assert_eq!(
            certificate
                .handle()
                .map(|handle| handle.as_str().to_owned()),
            (role != Role::Patient).then_some(handle)
        );
        assert_eq!(certificate.not_after(), NOW.plus_millis(30 * DAY));
    }
}

#[tokio::test]
async fn a_proof_that_does_not_fit_is_refused_and_the_invite_stays_open() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let issued = clerk
        .invite(&order(Role::Staff, "dr.okafor"))
        .await
        .unwrap();
    let changes: [fn(&mut EnrolmentRequest, &Person); 3] = [
        |request, _| request.proof[0] ^= 1,
        |request, _| request.proof.clear(),
        // Proof of another account's, as a relay that swaps keys would show it.
        |request, person| {
            request.account_id = person.account.to_vec();
            request.account_key = person.key.verifying_key().to_bytes().to_vec();
            request.device_list = Some(person.sign_list(&person.list));
        },
    ];
    for change in changes {
        let (person, other) = (
            Person::new(clinic.deployment()),
            Person::new(clinic.deployment()),
        );
        let mut request = person.redeems(&issued);
        change(&mut request, &other);
        clinic.enrols(request, Vec::new());
        assert_eq!(clerk.work_through_desk().await.unwrap(), REFUSED);
        assert!(clinic.was_rejected(&person) || clinic.was_rejected(&other));
    }
    let person = Person::new(clinic.deployment());
    clinic.enrols(person.redeems(&issued), Vec::new());
    assert_eq!(clerk.work_through_desk().await.unwrap(), CERTIFIED);
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let issued = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    let changes: [fn(&mut EnrolmentRequest, &Person); 6] = [
        |request, _| request.invite_id.truncate(31),
        |request, _| request.account_key.truncate(31),
        // The neutral point: everybody's signature.
        |request, _| {
            request.account_key = vec![0; 32];
            request.account_key[0] = 1;
        },
        |request, _| request.device_list = None,
        // Not signed by the account key.
        |request, person| {
            let mut list = person.sign_list(&person.list);
            list.signature[0] ^= 1;
            request.device_list = Some(list);
        },
        // Not the first list.
        |request, person| request.device_list = Some(person.next_list(|_| ())),
    ];
    for change in changes {
        let person = Person::new(clinic.deployment());
        let mut request = person.redeems(&issued);
        change(&mut request, &person);
        clinic.enrols(request, Vec::new());
        assert_eq!(clerk.work_through_desk().await.unwrap(), REFUSED);
        assert!(clinic.was_rejected(&person));
    }
    // Nobody to answer.
    clinic.enrols(EnrolmentRequest::default(), Vec::new());
    assert_eq!(clerk.work_through_desk().await.unwrap(), REFUSED);
}

#[tokio::test]
async fn redeeming_again_with_the_same_key_is_the_same_certificate() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let issued = clerk
        .invite(&order(Role::Staff, "dr.okafor"))
        .await
        .unwrap();
    let person = Person::new(clinic.deployment());
    clinic.enrols(person.redeems(&issued), Vec::new());
    clerk.round(false).await.unwrap();
    let first = clinic.verified(&person).serial();
    // The relay was restored from a backup and asks again.
    clinic.enrols(person.redeems(&issued), Vec::new());
    clerk.round(false).await.unwrap();
    clerk.round(false).await.unwrap();
    assert_eq!(clinic.relay.desk().decisions.len(), 2);
    assert_eq!(clinic.verified(&person).serial(), first);
    assert!(clinic.relay.desk().pending.is_empty());
}

#[tokio::test]
async fn redeeming_again_with_another_key_is_refused() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let issued = clerk
        .invite(&order(Role::Staff, "dr.okafor"))
        .await
        .unwrap();
    let person = Person::new(clinic.deployment());
    clinic.enrols(person.redeems(&issued), Vec::new());
    clerk.round(false).await.unwrap();
    let thief = Person::new(clinic.deployment());
    clinic.enrols(thief.redeems(&issued), Vec::new());
    assert_eq!(clerk.work_through_desk().await.unwrap(), REFUSED);
    assert!(clinic.was_rejected(&thief));
    // The same account under another key: refused, but nobody certified is rejected for it.
    let mut usurper = Person::new(clinic.deployment());
    usurper.account = person.account;
    usurper.list.account_id = person.account.to_vec();
    let fresh = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    clinic.enrols(usurper.redeems(&fresh), Vec::new());
    assert_eq!(clerk.work_through_desk().await.unwrap(), REFUSED);
    assert!(!clinic.was_rejected(&person));
    assert_eq!(
        clinic.verified(&person).account_key(),
        &person.key.verifying_key()
    );
}

#[tokio::test]
async fn a_certificate_is_stored_before_it_is_sent() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let issued = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    let person = Person::new(clinic.deployment());
    clinic.enrols(person.redeems(&issued), Vec::new());
    clinic.relay.desk().decisions_break = Some(StatusCode::BAD_GATEWAY);
    assert!(clerk.round(false).await.is_err());
    let sent = clinic.verified(&person).serial();
    // The answer was lost, the process too: the next one sends the very same.
    drop(clerk);
    clinic.relay.desk().decisions_break = None;
    clinic.clock.advance_millis(60_000);
    let mut clerk = clinic.clerk().await;
    clerk.round(false).await.unwrap();
    assert_eq!(clinic.verified(&person).serial(), sent);
    let account = clerk
        .store()
        .account(person.account)
        .await
        .unwrap()
        .unwrap();
    assert!(account.delivered_at.is_some());
}

#[tokio::test]
async fn unknown_invites_wait() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let person = Person::new(clinic.deployment());
    let secret = InviteSecret::new([5; 32]);
    clinic.enrols(person.request(&secret, Role::Patient), Vec::new());
    assert_eq!(clerk.work_through_desk().await.unwrap(), HELD);
    assert!(clinic.relay.desk().decisions.is_empty());
    assert!(matches!(
        clerk.approve(person.account, None).await,
        Err(ClerkError::Held(_))
    ));
}

#[tokio::test]
async fn an_invite_that_is_over_waits_for_a_person() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let issued = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    let person = Person::new(clinic.deployment());
    clinic.enrols(person.redeems(&issued), Vec::new());
    clinic.clock.advance_millis(8 * DAY);
    assert_eq!(clerk.work_through_desk().await.unwrap(), HELD);
    let desk = clerk.desk().await.unwrap();
    assert_eq!(
        (desk[0].account, desk[0].verdict),
        (Some(person.account), "hold")
    );
    clerk.approve(person.account, None).await.unwrap();
    assert_eq!(clinic.verified(&person).role(), Role::Patient);
}

#[tokio::test]
async fn by_hand_nothing_happens_without_a_person() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk_with(Approval::Manual).await;
    let issued = clerk
        .invite(&order(Role::Staff, "dr.okafor"))
        .await
        .unwrap();
    let (person, other) = (
        Person::new(clinic.deployment()),
        Person::new(clinic.deployment()),
    );
    clinic.enrols(person.redeems(&issued), Vec::new());
    assert_eq!(clerk.work_through_desk().await.unwrap(), HELD);
    assert!(matches!(
        clerk.approve(other.account, None).await,
        Err(ClerkError::NotPending(_))
    ));
    let name = Some(("dr.n.okafor".parse().unwrap(), "N. Okafor".to_owned()));
    clerk.approve(person.account, name).await.unwrap();
    let certificate = clinic.verified(&person);
    assert_eq!(certificate.display_name(), Some("N. Okafor"));
    assert!(matches!(
        clerk.reject(person.account, "").await,
        Err(ClerkError::AlreadyCertified(_))
    ));
    let issued = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    clinic.enrols(other.redeems(&issued), Vec::new());
    clerk.reject(other.account, "not expected").await.unwrap();
    assert!(clinic.was_rejected(&other));
    // Not even by hand without a proof that fits.
    let third = Person::new(clinic.deployment());
    let mut request = third.redeems(&issued);
    request.proof[0] ^= 1;
    clinic.enrols(request, Vec::new());
    assert!(matches!(
        clerk.approve(third.account, None).await,
        Err(ClerkError::Refused(_))
    ));
}

/// A clinic with an inviter, and an invite that the inviter's client makes.
struct ClientInvite {
    clinic: Clinic,
    clerk: Clerk,
    issuer: VerifiedIssuer,
    inviter: Person,
    newcomer: Person,
    secret: InviteSecret,
}

impl ClientInvite {
    async fn by(role: Role) -> Self {
        let clinic = Clinic::without_issuer().await;
        let issuer = clinic.add_issuer(&ALL, 90 * DAY);
        let mut clerk = clinic.clerk().await;
        let inviter = clinic.certified(&mut clerk, role, "inviter").await;
        Self {
            newcomer: Person::new(clinic.deployment()),
            clinic,
            clerk,
            issuer,
            inviter,
            secret: InviteSecret::new([0x5E; 32]),
        }
    }

    async fn enrols(&mut self, role: Role, handle: &str) -> Worked {
        let request = self.inviter.invites(&self.secret, role, handle);
        let key = self.inviter.device_key.clone();
        self.enrols_with(role, &request, &key).await
    }

    async fn enrols_with(
        &mut self,
        role: Role,
        request: &InviteRequest,
        key: &SigningKey,
    ) -> Worked {
        let sealed = seal(request, key, &self.issuer, self.clinic.deployment());
        self.enrols_sealed(role, sealed).await
    }

    async fn enrols_sealed(&mut self, role: Role, sealed: Vec<u8>) -> Worked {
        let request = self.newcomer.request(&self.secret, role);
        self.clinic.enrols(request, sealed);
        let worked = self.clerk.work_through_desk().await.unwrap();
        self.clerk.deliver().await.unwrap();
        worked
    }

    fn shows(&self, change: impl FnOnce(&mut wardline_wire::proto::AccountRecord)) {
        let mut desk = self.clinic.relay.desk();
        let id = self.inviter.account.to_string();
        change(desk.accounts.get_mut(&id).unwrap());
    }
}

#[tokio::test]
async fn staff_invite_patients_from_their_client() {
    let mut case = ClientInvite::by(Role::Staff).await;
    assert_eq!(case.enrols(Role::Patient, "").await, CERTIFIED);
    let certificate = case.clinic.verified(&case.newcomer);
    assert_eq!(certificate.role(), Role::Patient);
    assert_eq!(certificate.handle(), None);
    // Once.
    case.newcomer = Person::new(case.clinic.deployment());
    assert_eq!(case.enrols(Role::Patient, "").await, REFUSED);
}

#[tokio::test]
async fn admins_invite_anybody_from_their_client() {
    let mut case = ClientInvite::by(Role::Admin).await;
    assert_eq!(case.enrols(Role::Staff, "dr.eze").await, CERTIFIED);
    let certificate = case.clinic.verified(&case.newcomer);
    assert_eq!(certificate.role(), Role::Staff);
    assert_eq!(certificate.display_name(), Some("Named"));
}

#[tokio::test]
async fn nobody_invites_beyond_their_right() {
    for (inviter, role) in [
        (Role::Staff, Role::Staff),
        (Role::Staff, Role::Admin),
        (Role::Patient, Role::Patient),
        (Role::Ai, Role::Patient),
        (Role::Officer, Role::Officer),
    ] {
        let mut case = ClientInvite::by(inviter).await;
        assert_eq!(
            case.enrols(role, "someone").await,
            REFUSED,
            "{inviter:?} {role:?}"
        );
        assert!(case.clinic.was_rejected(&case.newcomer));
    }
}

#[tokio::test]
async fn a_clients_request_must_be_signed_by_a_listed_device() {
    let mut case = ClientInvite::by(Role::Staff).await;
    let request = case.inviter.invites(&case.secret, Role::Patient, "");
    let stranger = SigningKey::from_bytes(&[0x77; 32]);
    assert_eq!(
        case.enrols_with(Role::Patient, &request, &stranger).await,
        REFUSED
    );
    // Not even by the account key.
    case.newcomer = Person::new(case.clinic.deployment());
    let account_key = case.inviter.key.clone();
    assert_eq!(
        case.enrols_with(Role::Patient, &request, &account_key)
            .await,
        REFUSED
    );
    case.newcomer = Person::new(case.clinic.deployment());
    let elsewhere = InviteRequest {
        inviter_device_id: 2,
        ..request
    };
    let key = case.inviter.device_key.clone();
    assert_eq!(
        case.enrols_with(Role::Patient, &elsewhere, &key).await,
        REFUSED
    );
}

#[tokio::test]
async fn a_request_for_another_secret_or_role_does_not_fit() {
    let mut case = ClientInvite::by(Role::Admin).await;
    let key = case.inviter.device_key.clone();
    let other = InviteSecret::new([0x5F; 32]);
    let request = case.inviter.invites(&other, Role::Patient, "");
    assert_eq!(
        case.enrols_with(Role::Patient, &request, &key).await,
        REFUSED
    );
    // Invited as a patient, proof made for staff.
    case.newcomer = Person::new(case.clinic.deployment());
    let request = case.inviter.invites(&case.secret, Role::Patient, "");
    assert_eq!(case.enrols_with(Role::Staff, &request, &key).await, REFUSED);
    // Staff without a name, a patient with one.
    for (role, handle, name) in [
        (Role::Staff, "", ""),
        (Role::Staff, "dr.eze", "two\nlines"),
        (Role::Staff, "Dr Eze", "Dr. Eze"),
        (Role::Patient, "jane", "Jane"),
    ] {
        case.newcomer = Person::new(case.clinic.deployment());
        let request = InviteRequest {
            handle: handle.to_owned(),
            display_name: name.to_owned(),
            ..case.inviter.invites(&case.secret, role, "")
        };
        assert_eq!(
            case.enrols_with(role, &request, &key).await,
            REFUSED,
            "{handle}"
        );
    }
}

#[tokio::test]
async fn a_removed_device_invites_nobody_even_if_the_relay_shows_the_old_list() {
    let mut case = ClientInvite::by(Role::Staff).await;
    let second = SigningKey::from_bytes(&[0x72; 32]);
    let newer = case.inviter.next_list(|list| {
        list.devices = vec![device(2, &second)];
        list.next_device_id = 3;
    });
    let older = case.inviter.sign_list(&case.inviter.list);
    // The new device invites: the authority sees the new list.
    case.shows(|record| record.device_list = Some(newer.clone()));
    let request = InviteRequest {
        inviter_device_id: 2,
        ..case.inviter.invites(&case.secret, Role::Patient, "")
    };
    assert_eq!(
        case.enrols_with(Role::Patient, &request, &second).await,
        CERTIFIED
    );
    // The removed device with the current list: refused. With the old one: noticed.
    case.secret = InviteSecret::new([0x60; 32]);
    case.newcomer = Person::new(case.clinic.deployment());
    assert_eq!(case.enrols(Role::Patient, "").await, REFUSED);
    case.newcomer = Person::new(case.clinic.deployment());
    case.shows(|record| record.device_list = Some(older));
    assert_eq!(case.enrols(Role::Patient, "").await, HELD);
}

#[tokio::test]
async fn what_the_relay_shows_of_the_inviter_must_verify() {
    let mut case = ClientInvite::by(Role::Staff).await;
    let id = case.inviter.account.to_string();
    let good = case.clinic.relay.desk().accounts[&id].clone();
    let worse: [fn(&mut wardline_wire::proto::AccountRecord); 3] = [
        |record| record.certificate = None,
        |record| record.device_list = None,
        |record| {
            let chain = record.certificate.as_mut().unwrap();
            chain.certificate.as_mut().unwrap().signature[0] ^= 1;
        },
    ];
    for change in worse {
        case.shows(|record| {
            record.clone_from(&good);
            change(record);
        });
        assert_eq!(case.enrols(Role::Patient, "").await, HELD);
        case.clinic.relay.desk().pending.clear();
    }
    case.clinic.relay.desk().accounts.remove(&id);
    assert_eq!(case.enrols(Role::Patient, "").await, HELD);
    case.clinic.relay.desk().pending.clear();
    case.clinic.relay.desk().accounts.insert(id, good);
    assert_eq!(case.enrols(Role::Patient, "").await, CERTIFIED);
}

#[tokio::test]
async fn revoked_and_unknown_inviters_invite_nobody() {
    use wardline_authority::store::RevocationRow;
    use wardline_wire::proto::RevocationKind;
    let mut case = ClientInvite::by(Role::Staff).await;
    let entry = RevocationRow {
        kind: RevocationKind::Account,
        id: *case.inviter.account.as_bytes(),
        revoked_at: NOW,
        reason: String::new(),
    };
    case.clerk.revoke(&[entry], None).await.unwrap();
    assert_eq!(case.enrols(Role::Patient, "").await, REFUSED);
    // Somebody this authority never certified.
    case.inviter = Person::new(case.clinic.deployment());
    case.newcomer = Person::new(case.clinic.deployment());
    assert_eq!(case.enrols(Role::Patient, "").await, HELD);
}

#[tokio::test]
async fn what_was_sealed_to_others_or_not_at_all_waits() {
    let mut case = ClientInvite::by(Role::Staff).await;
    let request = case.inviter.invites(&case.secret, Role::Patient, "");
    let key = case.inviter.device_key.clone();
    let elsewhere = seal(&request, &key, &case.issuer, DeploymentId::from([9; 16]));
    let mut altered = seal(&request, &key, &case.issuer, case.clinic.deployment());
    *altered.last_mut().unwrap() ^= 1;
    for sealed in [elsewhere, altered, vec![0; 16], vec![1; 300]] {
        assert_eq!(case.enrols_sealed(Role::Patient, sealed).await, HELD);
        case.clinic.relay.desk().pending.clear();
    }
}

#[tokio::test]
async fn a_clients_invite_for_a_taken_handle_waits_for_a_person() {
    let mut case = ClientInvite::by(Role::Admin).await;
    assert_eq!(case.enrols(Role::Staff, "inviter").await, HELD);
    let name = Some(("dr.eze".parse().unwrap(), "Dr. Eze".to_owned()));
    case.clerk
        .approve(case.newcomer.account, name)
        .await
        .unwrap();
    let certificate = case.clinic.verified(&case.newcomer);
    assert_eq!(certificate.handle().unwrap().as_str(), "dr.eze");
}

#[tokio::test]
async fn a_handle_in_an_open_invite_is_reserved() {
    let mut case = ClientInvite::by(Role::Admin).await;
    let own = case
        .clerk
        .invite(&order(Role::Staff, "dr.eze"))
        .await
        .unwrap();
    assert_eq!(case.enrols(Role::Staff, "dr.eze").await, HELD);
    // It is for whoever was invited with it.
    case.clinic.relay.desk().pending.clear();
    let invited = Person::new(case.clinic.deployment());
    case.clinic.enrols(invited.redeems(&own), Vec::new());
    assert_eq!(case.clerk.work_through_desk().await.unwrap(), CERTIFIED);
}

#[tokio::test]
async fn one_secret_is_not_redeemed_under_several_invite_ids() {
    let mut case = ClientInvite::by(Role::Staff).await;
    assert_eq!(case.enrols(Role::Patient, "").await, CERTIFIED);
    let request = case.inviter.invites(&case.secret, Role::Patient, "");
    let deployment = case.clinic.deployment();
    let sealed = seal(&request, &case.inviter.device_key, &case.issuer, deployment);
    let second = Person::new(deployment);
    let mut enrolment = second.request(&case.secret, Role::Patient);
    enrolment.invite_id[0] ^= 1;
    case.clinic.enrols(enrolment, sealed);
    assert_eq!(case.clerk.work_through_desk().await.unwrap(), REFUSED);
    assert!(case.clinic.was_rejected(&second));
}

#[tokio::test]
async fn a_redeemed_secret_is_wiped() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let issued = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    let person = Person::new(clinic.deployment());
    clinic.enrols(person.redeems(&issued), Vec::new());
    clerk.round(false).await.unwrap();
    let stored = clerk
        .store()
        .invite(issued.stored.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.redeemed_by, Some(person.account));
    assert_ne!(stored.invite.secret.id(), stored.id);
    assert_eq!(clerk.link(&stored).await.unwrap(), "");
}

#[tokio::test]
async fn an_inviter_with_another_key_than_was_certified_here_is_not_believed() {
    use std::sync::Arc;
    use wardline_authority::issuer::Issuers;
    use wardline_wire::proto::Certificate;
    let mut case = ClientInvite::by(Role::Staff).await;
    // An insider issuer certifies the clinician's account for a key of its own.
    let insider = SigningKey::from_bytes(&[0x66; 32]);
    let dir = case.clinic.issuer_dir();
    let anchor = case.clinic.anchor().clone();
    let issuers = Arc::new(Issuers::load(&dir, &anchor, None, NOW).unwrap());
    let forged = Certificate {
        serial: vec![0x66; 16],
        account_id: case.inviter.account.to_vec(),
        account_key: insider.verifying_key().to_bytes().to_vec(),
        role: Role::Staff.into(),
        not_before_ms: NOW.as_millis(),
        not_after_ms: NOW.plus_millis(DAY).as_millis(),
        handle: "inviter".to_owned(),
        display_name: "Inviter".to_owned(),
        issuer_serial: Vec::new(),
    };
    let issuer = issuers.iter().next().unwrap();
    let chain = issuer.certify(anchor.deployment(), forged);
    case.inviter.key = insider;
    let list = case.inviter.sign_list(&case.inviter.list);
    case.shows(|record| {
        record.certificate = Some(chain);
        record.device_list = Some(list);
    });
    assert_eq!(case.enrols(Role::Patient, "").await, HELD);
}

#[tokio::test]
async fn an_inviter_whose_device_list_is_over_invites_nobody() {
    let mut case = ClientInvite::by(Role::Staff).await;
    case.clinic.clock.advance_millis(29 * DAY);
    case.clerk.renew().await.unwrap();
    case.clerk.deliver().await.unwrap();
    let chain = case.clinic.certificate_of(&case.inviter).unwrap();
    case.shows(|record| record.certificate = Some(chain));
    let request = InviteRequest {
        expires_at_ms: NOW.plus_millis(60 * DAY).as_millis(),
        ..case.inviter.invites(&case.secret, Role::Patient, "")
    };
    let key = case.inviter.device_key.clone();
    // The list ended on day 30; a day is tolerated.
    case.clinic.clock.advance_millis(2 * DAY + 1);
    assert_eq!(case.enrols_with(Role::Patient, &request, &key).await, HELD);
    case.clinic.relay.desk().pending.clear();
    case.clinic.clock.set(NOW.plus_millis(31 * DAY));
    assert_eq!(
        case.enrols_with(Role::Patient, &request, &key).await,
        CERTIFIED
    );
}

#[tokio::test]
async fn a_role_that_no_issuer_here_certifies_waits_and_holds_nobody_up() {
    let clinic = Clinic::without_issuer().await;
    let issuer = clinic.add_issuer(&[Role::Patient, Role::Admin], 90 * DAY);
    let mut clerk = clinic.clerk().await;
    let admin = clinic.certified(&mut clerk, Role::Admin, "admin").await;
    let secret = InviteSecret::new([0x5D; 32]);
    let request = admin.invites(&secret, Role::Staff, "dr.eze");
    let sealed = seal(&request, &admin.device_key, &issuer, clinic.deployment());
    let (staff, patient) = (
        Person::new(clinic.deployment()),
        Person::new(clinic.deployment()),
    );
    clinic.enrols(staff.request(&secret, Role::Staff), sealed);
    let invite = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    clinic.enrols(patient.redeems(&invite), Vec::new());
    let worked = clerk.work_through_desk().await.unwrap();
    assert_eq!((worked.held, worked.certified), (1, 1));
    // Once there is an issuer for it, it goes through.
    clinic.add_issuer(&[Role::Staff], 90 * DAY);
    clerk.round(true).await.unwrap();
    assert_eq!(clinic.verified(&staff).role(), Role::Staff);
}

#[tokio::test]
async fn one_bad_enrolment_does_not_stop_the_others() {
    let clinic = Clinic::new().await;
    let mut clerk = clinic.clerk().await;
    let issued = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    let (bad, good) = (
        Person::new(clinic.deployment()),
        Person::new(clinic.deployment()),
    );
    let mut request = bad.redeems(&issued);
    request.proof.clear();
    clinic.enrols(request, Vec::new());
    clinic.enrols(good.redeems(&issued), Vec::new());
    clinic.relay.desk().decisions_break = Some(StatusCode::NOT_FOUND);
    let worked = clerk.work_through_desk().await.unwrap();
    assert_eq!((worked.refused, worked.certified), (1, 1));
}
