//! A clinic in a folder, and people who enrol.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ed25519_dalek::SigningKey;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, OpModeS, Serializable as _};
use prost::Message as _;
use rand_core::UnwrapErr;
use tempfile::TempDir;
use wardline_authority::clerk::{Clerk, InviteOrder, Issued};
use wardline_authority::config::{Approval, Config, Overrides};
use wardline_authority::issuer::request_info;
use wardline_authority::root::Root;
use wardline_wire::clock::{Clock as _, ManualClock, Timestamp};
use wardline_wire::directory::{TrustAnchor, VerifiedCertificate, VerifiedIssuer};
use wardline_wire::ids::{AccountId, DeploymentId};
use wardline_wire::invite::{Invite, InviteSecret};
use wardline_wire::proto::{
    AccountRecord, CertificateChain, Device, DeviceList, EnrolmentRequest, InviteRequest,
    PendingEnrolment, Role, SignedBlob,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use crate::double::Double;

pub(crate) const DAY: u64 = 24 * 3_600_000;
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

pub(crate) fn phrase() -> age::secrecy::SecretString {
    age::secrecy::SecretString::from("several plain words".to_owned())
}

pub(crate) struct Clinic {
    pub(crate) dir: TempDir,
    pub(crate) root: Root,
    pub(crate) clock: ManualClock,
    pub(crate) relay: Double,
}

impl Clinic {
    /// A root, one issuer for every role, good for 90 days, and a relay.
    pub(crate) async fn new() -> Self {
        let clinic = Self::without_issuer().await;
        clinic.add_issuer(&ALL, 90 * DAY);
        clinic
    }

    pub(crate) async fn without_issuer() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = UnwrapErr(getrandom::SysRng);
        let root = Root::init(&dir.path().join("root"), &phrase(), 4, &mut rng).unwrap();
        let clock = ManualClock::new(NOW);
        let relay = Double::start(root.anchor().clone(), clock.clone()).await;
        Self {
            dir,
            root,
            clock,
            relay,
        }
    }

    pub(crate) fn issuer_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("issuer")
    }

    pub(crate) fn add_issuer(&self, roles: &[Role], valid_for: u64) -> VerifiedIssuer {
        let mut rng = UnwrapErr(getrandom::SysRng);
        let now = self.clock.now();
        let made = self.root.sign_issuer(roles, valid_for, now, &mut rng);
        made.write(&self.issuer_dir(), self.root.anchor(), now, None)
            .unwrap();
        VerifiedIssuer::verify(made.blob(), self.root.anchor(), now).unwrap()
    }

    pub(crate) fn anchor(&self) -> &TrustAnchor {
        self.root.anchor()
    }

    pub(crate) fn deployment(&self) -> DeploymentId {
        self.anchor().deployment()
    }

    pub(crate) async fn clerk(&self) -> Clerk {
        self.clerk_with(Approval::Automatic).await
    }

    pub(crate) async fn clerk_with(&self, approve: Approval) -> Clerk {
        self.open(&self.issuer_dir(), approve).await
    }

    async fn open(&self, dir: &Path, approve: Approval) -> Clerk {
        let overrides = Overrides {
            relay_url: Some(self.relay.url.clone()),
            approve: Some(approve),
            ..Overrides::default()
        };
        let config = Config::load(dir, &overrides).unwrap();
        let rng = Box::new(UnwrapErr(getrandom::SysRng));
        Clerk::open(dir, config, None, Arc::new(self.clock.clone()), rng)
            .await
            .unwrap()
    }

    /// Puts somebody's request on the relay's desk.
    pub(crate) fn enrols(&self, request: EnrolmentRequest, sealed_request: Vec<u8>) {
        self.relay.desk().pending.push(PendingEnrolment {
            request: Some(request),
            sealed_request,
        });
    }

    /// Invites somebody by the authority itself and lets them redeem it.
    pub(crate) async fn certified(&self, clerk: &mut Clerk, role: Role, handle: &str) -> Person {
        let issued = clerk.invite(&order(role, handle)).await.unwrap();
        let person = Person::new(self.deployment());
        self.enrols(person.redeems(&issued), Vec::new());
        clerk.round(false).await.unwrap();
        let chain = self.certificate_of(&person).expect("certified");
        self.relay
            .desk()
            .accounts
            .insert(person.account.to_string(), person.record(chain));
        person
    }

    /// The newest certificate that the relay was given for a person.
    pub(crate) fn certificate_of(&self, person: &Person) -> Option<CertificateChain> {
        let desk = self.relay.desk();
        let mut decisions = desk.decisions.iter().rev();
        decisions
            .find(|decision| decision.account_id == person.account.as_bytes())
            .and_then(|decision| decision.certificate.clone())
    }

    pub(crate) fn verified(&self, person: &Person) -> VerifiedCertificate {
        let chain = self.certificate_of(person).expect("certified");
        let now = self.clock.now();
        VerifiedCertificate::verify(&chain, person.account, self.anchor(), None, now).unwrap()
    }

    /// Whether the relay was told that a person is rejected.
    pub(crate) fn was_rejected(&self, person: &Person) -> bool {
        self.relay.desk().decisions.iter().any(|decision| {
            decision.account_id == person.account.as_bytes() && decision.certificate.is_none()
        })
    }
}

pub(crate) const ALL: [Role; 5] = [
    Role::Patient,
    Role::Staff,
    Role::Ai,
    Role::Admin,
    Role::Officer,
];

pub(crate) fn order(role: Role, handle: &str) -> InviteOrder {
    InviteOrder {
        role,
        inviter: None,
        inviter_access_key: None,
        name: (role != Role::Patient)
            .then(|| (handle.parse().unwrap(), format!("The one called {handle}"))),
        valid_for_ms: 7 * DAY,
        once: None,
    }
}

/// Somebody with an account key and one device.
pub(crate) struct Person {
    pub(crate) account: AccountId,
    pub(crate) key: SigningKey,
    pub(crate) device_key: SigningKey,
    pub(crate) list: DeviceList,
    pub(crate) deployment: DeploymentId,
}

impl Person {
    pub(crate) fn new(deployment: DeploymentId) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let seed = NEXT.fetch_add(1, Ordering::SeqCst);
        let account = AccountId::from_random_bytes([seed; 16]);
        let device_key = SigningKey::from_bytes(&[seed ^ 0x80; 32]);
        let list = DeviceList {
            account_id: account.to_vec(),
            version: 1,
            prev_hash: Vec::new(),
            issued_at_ms: NOW.as_millis(),
            expires_at_ms: NOW.plus_millis(30 * DAY).as_millis(),
            devices: vec![device(1, &device_key)],
            next_device_id: 2,
        };
        Self {
            account,
            key: SigningKey::from_bytes(&[seed; 32]),
            device_key,
            list,
            deployment,
        }
    }

    pub(crate) fn sign_list(&self, list: &DeviceList) -> SignedBlob {
        let payload = list.encode_to_vec();
        SignedBlob::sign(SignedKind::DeviceList, self.deployment, payload, &self.key)
    }

    /// The list after the first, changed.
    pub(crate) fn next_list(&self, change: impl FnOnce(&mut DeviceList)) -> SignedBlob {
        let mut next = DeviceList {
            version: 2,
            prev_hash: self.sign_list(&self.list).payload_hash().to_vec(),
            ..self.list.clone()
        };
        change(&mut next);
        self.sign_list(&next)
    }

    pub(crate) fn redeems(&self, issued: &Issued) -> EnrolmentRequest {
        let invite = Invite::from_link(&issued.link, NOW).unwrap();
        self.request(&invite.secret, invite.role)
    }

    pub(crate) fn request(&self, secret: &InviteSecret, role: Role) -> EnrolmentRequest {
        let key = self.key.verifying_key().to_bytes();
        EnrolmentRequest {
            invite_id: secret.id().to_vec(),
            account_id: self.account.to_vec(),
            account_key: key.to_vec(),
            proof: secret
                .proof(self.deployment, self.account, &key, role)
                .to_vec(),
            device_list: Some(self.sign_list(&self.list)),
            access_key_sha256: vec![0; 32],
        }
    }

    /// What the relay shows of this person, with the first device list.
    pub(crate) fn record(&self, chain: CertificateChain) -> AccountRecord {
        AccountRecord {
            account_id: self.account.to_vec(),
            certificate: Some(chain),
            device_list: Some(self.sign_list(&self.list)),
            ..AccountRecord::default()
        }
    }

    /// An invite request of this person's, as a client makes it.
    pub(crate) fn invites(&self, secret: &InviteSecret, role: Role, handle: &str) -> InviteRequest {
        let named = role != Role::Patient;
        InviteRequest {
            secret: secret.expose().to_vec(),
            role: role.into(),
            expires_at_ms: NOW.plus_millis(7 * DAY).as_millis(),
            inviter_account_id: self.account.to_vec(),
            inviter_device_id: 1,
            handle: if named {
                handle.to_owned()
            } else {
                String::new()
            },
            display_name: if named {
                "Named".to_owned()
            } else {
                String::new()
            },
        }
    }
}

pub(crate) fn device(id: u8, key: &SigningKey) -> Device {
    let mut identity_key = key.verifying_key().to_bytes().to_vec();
    identity_key.insert(0, 5);
    Device {
        id: id.into(),
        identity_key,
        registration_id: 7,
        device_key: key.verifying_key().to_bytes().to_vec(),
        added_at_ms: NOW.as_millis(),
    }
}

/// Signs with a device key and seals to an issuer.
pub(crate) fn seal(
    request: &InviteRequest,
    device_key: &SigningKey,
    issuer: &VerifiedIssuer,
    deployment: DeploymentId,
) -> Vec<u8> {
    let blob = SignedBlob::sign(
        SignedKind::InviteRequest,
        deployment,
        request.encode_to_vec(),
        device_key,
    );
    let key = <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(issuer.sealing_key()).unwrap();
    let (encapped, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &key,
        &request_info(deployment),
        &blob.encode_to_vec(),
        &[],
    )
    .unwrap();
    let mut sealed = encapped.to_bytes().to_vec();
    sealed.extend(ciphertext);
    sealed
}
