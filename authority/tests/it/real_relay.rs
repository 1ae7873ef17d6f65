//! The authority and the real relay, over TLS with its key pinned.

use std::sync::Arc;

use prost::Message;
use rand_core::UnwrapErr;
use reqwest::{Method, StatusCode};
use wardline_authority::clerk::{Clerk, ClerkError};
use wardline_authority::config::{Config, Overrides};
use wardline_authority::relay::RelayError;
use wardline_authority::store::RevocationRow;
use wardline_relay::Relay;
use wardline_relay::config::Config as RelayConfig;
use wardline_relay::init::{InitOptions, init};
use wardline_wire::clock::{Clock as _, ManualClock};
use wardline_wire::directory::{VerifiedCertificate, VerifiedIssuer, VerifiedRevocations};
use wardline_wire::invite::InviteSecret;
use wardline_wire::proto::{
    AccountRecord, AccountStatus, Challenge, ChallengeRequest, Deployment, InviteAdmission, Login,
    RevocationBundle, RevocationKind, Role, SignedBlob, Token, TokenRequest,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use crate::clinic::{Clinic, DAY, Person, order, seal};

/// A clinic whose relay is the real one.
struct Installation {
    clinic: Clinic,
    relay: Relay,
    pin: [u8; 32],
    http: reqwest::Client,
}

impl Installation {
    async fn start() -> Self {
        let clinic = Clinic::new().await;
        let report = init(&InitOptions {
            dir: clinic.dir.path().join("relay"),
            anchor: clinic.anchor().clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            tls_names: Some(vec!["localhost".to_owned()]),
        })
        .unwrap();
        let pin = report.tls_key_sha256.unwrap();
        let config = RelayConfig::load(&report.config).unwrap();
        let clock: ManualClock = clinic.clock.clone();
        let relay = Relay::start(config, Arc::new(clock)).await.unwrap();
        let tls = wardline_tls::client_config(Some(pin)).unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls)
            .build()
            .unwrap();
        Self {
            clinic,
            relay,
            pin,
            http,
        }
    }

    async fn clerk(&self) -> Clerk {
        self.clerk_with_pin(self.pin).await
    }

    async fn clerk_with_pin(&self, pin: [u8; 32]) -> Clerk {
        let dir = self.clinic.issuer_dir();
        let overrides = Overrides {
            relay_url: Some(self.relay.url().to_owned()),
            relay_key: Some(hex::encode(pin)),
            ..Overrides::default()
        };
        let config = Config::load(&dir, &overrides).unwrap();
        let clock = Arc::new(self.clinic.clock.clone());
        let rng = Box::new(UnwrapErr(getrandom::SysRng));
        Clerk::open(&dir, config, None, clock, rng).await.unwrap()
    }

    async fn ask<A: Message + Default>(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> Result<A, StatusCode> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.relay.url()))
            .header("content-type", "application/x-protobuf")
            .body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        if !answer.status().is_success() {
            return Err(answer.status());
        }
        Ok(A::decode(answer.bytes().await.unwrap()).unwrap())
    }

    async fn enrol(
        &self,
        person: &Person,
        secret: &InviteSecret,
        role: Role,
    ) -> Result<AccountRecord, StatusCode> {
        let body = person.request(secret, role).encode_to_vec();
        self.ask(Method::POST, "/v1/enrolments", None, body).await
    }

    async fn log_in(&self, person: &Person) -> Result<Token, StatusCode> {
        let request = ChallengeRequest {
            account_id: person.account.to_vec(),
            device_id: 1,
        };
        let path = "/v1/auth/challenge";
        let challenge: Challenge = self
            .ask(Method::POST, path, None, request.encode_to_vec())
            .await?;
        let login = Login {
            nonce: challenge.nonce,
            account_id: person.account.to_vec(),
            device_id: 1,
            issuer_serial: Vec::new(),
        };
        let login = SignedBlob::sign(
            SignedKind::Login,
            person.deployment,
            login.encode_to_vec(),
            &person.device_key,
        );
        let request = TokenRequest {
            login: Some(login),
            issuer: None,
        };
        let path = "/v1/auth/token";
        self.ask(Method::POST, path, None, request.encode_to_vec())
            .await
    }

    /// The person's own record, as the relay shows it to them.
    async fn record(&self, person: &Person) -> Result<AccountRecord, StatusCode> {
        let token = self.log_in(person).await?.token;
        let path = format!("/v1/accounts/{}", person.account);
        self.ask(Method::GET, &path, Some(&token), Vec::new()).await
    }

    async fn role_of(&self, person: &Person) -> Role {
        let record = self.record(person).await.unwrap();
        assert_eq!(record.status, i32::from(AccountStatus::Active));
        let now = self.clinic.clock.now();
        let anchor = self.clinic.anchor();
        let chain = record.certificate.unwrap();
        VerifiedCertificate::verify(&chain, person.account, anchor, None, now)
            .unwrap()
            .role()
    }
}

#[tokio::test]
async fn invite_enrolment_certificate_and_revocation() {
    let here = Installation::start().await;
    let mut clerk = here.clerk().await;
    clerk.round(true).await.unwrap();

    // The authority invites a clinician.
    let issued = clerk
        .invite(&order(Role::Staff, "dr.okafor"))
        .await
        .unwrap();
    assert!(issued.not_admitted.is_none());
    let secret = issued.stored.invite.secret.clone();
    let doctor = Person::new(here.clinic.deployment());
    let record = here.enrol(&doctor, &secret, Role::Staff).await.unwrap();
    assert_eq!(record.status, i32::from(AccountStatus::Pending));
    clerk.round(false).await.unwrap();
    assert_eq!(here.role_of(&doctor).await, Role::Staff);
    let thief = Person::new(here.clinic.deployment());
    let stolen = here.enrol(&thief, &secret, Role::Staff).await;
    assert!(matches!(stolen, Err(StatusCode::CONFLICT)));

    // The clinician's client invites a patient, sealed to the issuer that the relay shows.
    let shown: Deployment = here
        .ask(Method::GET, "/v1/deployment", None, Vec::new())
        .await
        .unwrap();
    let now = here.clinic.clock.now();
    let sealed_to = VerifiedIssuer::verify(&shown.issuers[0], here.clinic.anchor(), now).unwrap();
    let secret = InviteSecret::new([0x51; 32]);
    let request = doctor.invites(&secret, Role::Patient, "");
    let admission = InviteAdmission {
        invite_id: secret.id().to_vec(),
        role: Role::Patient.into(),
        expires_at_ms: request.expires_at_ms,
        sealed_request: seal(
            &request,
            &doctor.device_key,
            &sealed_to,
            here.clinic.deployment(),
        ),
    };
    let token = here.log_in(&doctor).await.unwrap().token;
    let body = admission.encode_to_vec();
    let _: ChallengeRequest = here
        .ask(Method::POST, "/v1/invites", Some(&token), body)
        .await
        .unwrap();
    let patient = Person::new(here.clinic.deployment());
    here.enrol(&patient, &secret, Role::Patient).await.unwrap();
    let worked = clerk.work_through_desk().await.unwrap();
    assert_eq!((worked.certified, worked.held, worked.refused), (1, 0, 0));
    clerk.deliver().await.unwrap();
    assert_eq!(here.role_of(&patient).await, Role::Patient);

    // A proof that does not fit is rejected at the relay too.
    let secret = clerk.invite(&order(Role::Patient, "")).await.unwrap();
    let secret = secret.stored.invite.secret.clone();
    let liar = Person::new(here.clinic.deployment());
    here.enrol(&liar, &secret, Role::Staff).await.unwrap();
    clerk.round(false).await.unwrap();
    assert!(here.record(&liar).await.is_err());

    // Revoked: the relay shows the list and lets the account in no more.
    let entry = RevocationRow {
        kind: RevocationKind::Account,
        id: *doctor.account.as_bytes(),
        revoked_at: now,
        reason: "left".to_owned(),
    };
    let listed = clerk.revoke(&[entry], None).await.unwrap();
    assert!(listed.not_published.is_none());
    assert!(here.record(&doctor).await.is_err());
    let token = here.log_in(&patient).await.unwrap().token;
    let bundle: RevocationBundle = here
        .ask(Method::GET, "/v1/revocations", Some(&token), Vec::new())
        .await
        .unwrap();
    let list = VerifiedRevocations::verify(&bundle, here.clinic.anchor(), now).unwrap();
    assert!(list.covers_account(doctor.account));

    // The handle is free for a successor.
    let issued = clerk
        .invite(&order(Role::Staff, "dr.okafor"))
        .await
        .unwrap();
    let successor = Person::new(here.clinic.deployment());
    let secret = issued.stored.invite.secret.clone();
    here.enrol(&successor, &secret, Role::Staff).await.unwrap();
    clerk.round(false).await.unwrap();
    assert_eq!(here.role_of(&successor).await, Role::Staff);

    // Certificates and lists go on.
    here.clinic.clock.advance_millis(21 * DAY);
    clerk.round(true).await.unwrap();
    assert_eq!(here.role_of(&patient).await, Role::Patient);
    clerk.close().await;
    here.relay.stop().await;
}

#[tokio::test]
async fn a_revoked_issuers_accounts_go_on_under_the_next() {
    let here = Installation::start().await;
    let mut clerk = here.clerk().await;
    clerk.round(true).await.unwrap();
    let old = clerk.issuers().iter().next().unwrap().serial();
    let issued = clerk
        .invite(&order(Role::Staff, "dr.okafor"))
        .await
        .unwrap();
    let doctor = Person::new(here.clinic.deployment());
    let secret = issued.stored.invite.secret.clone();
    here.enrol(&doctor, &secret, Role::Staff).await.unwrap();
    clerk.round(false).await.unwrap();
    here.clinic.add_issuer(&[Role::Staff], 80 * DAY);
    clerk.round(true).await.unwrap();
    let entry = RevocationRow {
        kind: RevocationKind::Issuer,
        id: *old.as_bytes(),
        revoked_at: here.clinic.clock.now(),
        reason: "machine stolen".to_owned(),
    };
    let listed = clerk.revoke(&[entry], None).await.unwrap();
    assert!(listed.not_published.is_none());
    assert!(here.record(&doctor).await.is_err());
    clerk.round(true).await.unwrap();
    assert_eq!(here.role_of(&doctor).await, Role::Staff);
    here.relay.stop().await;
}

#[tokio::test]
async fn a_relay_with_another_key_is_told_nothing() {
    let here = Installation::start().await;
    let clerk = here.clerk_with_pin([7; 32]).await;
    let refused = clerk.check_relay().await;
    assert!(matches!(
        refused,
        Err(ClerkError::Relay(RelayError::OtherKey(mismatch))) if mismatch.shown == here.pin
    ));
    here.relay.stop().await;
}
