//! What the relay's own tests are made of: a clinic with keys, people with devices,
//! the real router on a database in a temporary folder, and real sockets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use prost::Message as _;
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tower::ServiceExt as _;
use wardline_wire::clock::{Clock, ManualClock, Timestamp};
use wardline_wire::directory::VerifiedDeviceList;
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress, DeviceId, Serial};
use wardline_wire::invite::InviteSecret;
use wardline_wire::problem::{Problem, ProblemKind};
use wardline_wire::proto::{
    Acknowledge, Certificate, CertificateChain, Challenge, ChallengeRequest, CiphertextType,
    ClientFrame, Device, DeviceCiphertext, DeviceList, EnrolmentDecision, EnrolmentRequest,
    InviteAdmission, Issuer, KyberPreKey, Login, OneTimePreKey, PreKeyUpload, Revocation,
    RevocationBundle, RevocationKind, RevocationList, Role, Send, SendRecipient, SendResult,
    ServerFrame, SignedBlob, SignedPreKey, Token, TokenRequest, client_frame, recipient_result,
    server_frame,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};
use zeroize::Zeroizing;

use crate::app::App;
use crate::body::PROTOBUF;
use crate::config::{
    Config, DatabaseSection, DeploymentSection, LimitsSection, LogSection, LoginSection,
    MailboxSection,
};
use crate::routes::accounts::replace_device_list::devices;
use crate::store::NewDeviceList;
use crate::store::sqlite::SqliteStore;
use crate::{router, serve};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const HOUR_MS: u64 = 3_600_000;
const YEAR_MS: u64 = 365 * 24 * HOUR_MS;

/// A clinic and its relay.
pub(crate) struct World {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) clock: ManualClock,
    pub(crate) deployment: DeploymentId,
    pub(crate) root: SigningKey,
    pub(crate) issuer: TestIssuer,
    address: SocketAddr,
    next: AtomicU64,
    stop: watch::Sender<bool>,
    dir: TempDir,
}

/// An issuer under the root.
pub(crate) struct TestIssuer {
    pub(crate) serial: Serial,
    pub(crate) key: SigningKey,
    pub(crate) blob: SignedBlob,
    pub(crate) token: String,
}

/// An account with its devices.
pub(crate) struct Person {
    pub(crate) account: AccountId,
    pub(crate) key: SigningKey,
    pub(crate) role: Role,
    pub(crate) secret: InviteSecret,
    pub(crate) access_key: [u8; 16],
    pub(crate) devices: Vec<TestDevice>,
    pub(crate) list: SignedBlob,
    pub(crate) version: u64,
    next_device_id: u32,
    /// Token of the first device.
    pub(crate) token: String,
}

/// A device.
#[derive(Clone)]
pub(crate) struct TestDevice {
    pub(crate) id: u32,
    pub(crate) registration_id: u32,
    pub(crate) identity_key: [u8; 33],
    pub(crate) key: SigningKey,
}

/// What a route answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body, of a request that must have succeeded.
    pub(crate) fn message<T: prost::Message + Default>(&self) -> T {
        assert!(
            self.status.is_success(),
            "{} {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        T::decode(self.body.clone()).unwrap()
    }

    /// The problem, of a request that must have been refused as RFC 9457 wants it.
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(
            self.headers
                .get("content-type")
                .map(|value| value.to_str().unwrap()),
            Some("application/problem+json"),
            "{}",
            self.status
        );
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        problem
    }

    /// The kind of the problem.
    pub(crate) fn refused(&self) -> ProblemKind {
        self.problem().kind().unwrap()
    }
}

pub(crate) fn key(number: u64) -> SigningKey {
    let mut seed = [7; 32];
    for (to, from) in seed.iter_mut().zip(number.to_be_bytes()) {
        *to = from;
    }
    SigningKey::from_bytes(&seed)
}

fn config(database: PathBuf, deployment: DeploymentId, root: &SigningKey) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics_listen: None,
        deployment_file: None,
        deployment: Some(DeploymentSection {
            deployment_id: deployment.to_string(),
            root_key: hex::encode(root.verifying_key().as_bytes()),
        }),
        database: DatabaseSection {
            path: database,
            unencrypted: true,
            ..DatabaseSection::default()
        },
        tls: None,
        login: LoginSection::default(),
        mailbox: MailboxSection::default(),
        limits: LimitsSection::default(),
        log: LogSection::default(),
        base: PathBuf::new(),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A world whose configuration `change` alters.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let deployment = DeploymentId::from([0xD0; 16]);
        let root = key(1);
        let path = dir.path().join("relay.db");
        let mut config = config(path.clone(), deployment, &root);
        change(&mut config);
        config.check().unwrap();
        let database_key = Zeroizing::new([3; 32]);
        let database = Arc::new(SqliteStore::open(&path, Some(&database_key)).await.unwrap());
        let clock = ManualClock::new(NOW);
        let (app, _writer) = App::new(config, database, Arc::new(clock.clone()))
            .await
            .unwrap();
        let router = router::build(&app, true);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(serve::serve(
            listener,
            None,
            router.clone(),
            Arc::new(Semaphore::new(1000)),
            false,
            stopping.clone(),
        ));
        tokio::spawn(Arc::clone(&app).keep_house(stopping));
        let issuer = make_issuer(deployment, &root, 100, NOW);
        let mut world = Self {
            app,
            router,
            clock,
            deployment,
            root,
            issuer,
            address,
            next: AtomicU64::new(1000),
            stop,
            dir,
        };
        world.issuer.token = world.log_in_issuer(&world.issuer).await;
        world
    }

    /// A number that was not used before.
    pub(crate) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Another connection to the relay's database, with its key.
    pub(crate) async fn open_database(&self) -> sqlx::SqliteConnection {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.dir.path().join("relay.db"))
            .pragma("key", format!("\"x'{}'\"", "03".repeat(32)));
        sqlx::SqliteConnection::connect_with(&options)
            .await
            .unwrap()
    }

    // Requests.

    /// Any request.
    pub(crate) async fn request(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// A request with a protobuf body (empty for `GET`).
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if method != "GET" {
            request = request.header("content-type", PROTOBUF);
        }
        self.request(request.body(Body::from(body.into())).unwrap())
            .await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, token, Bytes::new()).await
    }

    // Log-in.

    pub(crate) async fn challenge(&self, account: &[u8], device: u32) -> Vec<u8> {
        let request = ChallengeRequest {
            account_id: account.to_vec(),
            device_id: device,
        };
        self.call("POST", "/v1/auth/challenge", "", request.encode_to_vec())
            .await
            .message::<Challenge>()
            .nonce
    }

    /// A log-in of a device as it should be.
    pub(crate) async fn try_log_in(&self, person: &Person, device: &TestDevice) -> Answer {
        let login = Login {
            nonce: self.challenge(person.account.as_bytes(), device.id).await,
            account_id: person.account.to_vec(),
            device_id: device.id,
            issuer_serial: Vec::new(),
        };
        let request = TokenRequest {
            login: Some(SignedBlob::sign(
                SignedKind::Login,
                self.deployment,
                login.encode_to_vec(),
                &device.key,
            )),
            issuer: None,
        };
        self.call("POST", "/v1/auth/token", "", request.encode_to_vec())
            .await
    }

    pub(crate) async fn log_in(&self, person: &Person, device: &TestDevice) -> String {
        self.try_log_in(person, device)
            .await
            .message::<Token>()
            .token
    }

    pub(crate) async fn try_log_in_issuer(&self, issuer: &TestIssuer) -> Answer {
        let login = Login {
            nonce: self.challenge(&[], 0).await,
            account_id: Vec::new(),
            device_id: 0,
            issuer_serial: issuer.serial.to_vec(),
        };
        let request = TokenRequest {
            login: Some(SignedBlob::sign(
                SignedKind::Login,
                self.deployment,
                login.encode_to_vec(),
                &issuer.key,
            )),
            issuer: Some(issuer.blob.clone()),
        };
        self.call("POST", "/v1/auth/token", "", request.encode_to_vec())
            .await
    }

    pub(crate) async fn log_in_issuer(&self, issuer: &TestIssuer) -> String {
        self.try_log_in_issuer(issuer)
            .await
            .message::<Token>()
            .token
    }

    // Directory.

    /// Another issuer under the same root.
    pub(crate) fn other_issuer(&self) -> TestIssuer {
        make_issuer(self.deployment, &self.root, self.next(), self.clock.now())
    }

    pub(crate) fn admission(&self, secret: &InviteSecret, role: Role) -> InviteAdmission {
        InviteAdmission {
            invite_id: secret.id().to_vec(),
            role: role.into(),
            expires_at_ms: self.clock.now().plus_millis(24 * HOUR_MS).as_millis(),
            sealed_request: vec![9; 80],
        }
    }

    /// An admitted invite.
    pub(crate) async fn invite(&self, role: Role) -> InviteSecret {
        let mut secret = [5; 32];
        for (to, from) in secret.iter_mut().zip(self.next().to_be_bytes()) {
            *to = from;
        }
        let secret = InviteSecret::new(secret);
        let path = format!("/v1/issuer/invites/{}", secret.id());
        let body = self.admission(&secret, role).encode_to_vec();
        let answer = self.call("PUT", &path, &self.issuer.token, body).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        secret
    }

    /// Somebody who holds an invite and has not enrolled.
    pub(crate) async fn newcomer(&self, role: Role) -> Person {
        let secret = self.invite(role).await;
        let number = self.next();
        let mut random = [0; 16];
        for (to, from) in random.iter_mut().zip(number.to_be_bytes()) {
            *to = from;
        }
        let mut person = Person {
            account: AccountId::from_random_bytes(random),
            key: key(number),
            role,
            secret,
            access_key: [4; 16],
            devices: vec![self.device(1)],
            list: SignedBlob::default(),
            version: 0,
            next_device_id: 2,
            token: String::new(),
        };
        person.sign_list(self);
        person
    }

    fn device(&self, id: u32) -> TestDevice {
        let number = self.next();
        let mut identity_key = [5; 33];
        for (to, from) in identity_key.iter_mut().skip(1).zip(number.to_be_bytes()) {
            *to = from;
        }
        TestDevice {
            id,
            registration_id: u32::try_from(number % 16_000).unwrap() + 1,
            identity_key,
            key: key(number),
        }
    }

    pub(crate) fn enrolment(&self, person: &Person) -> EnrolmentRequest {
        let account_key = person.key.verifying_key().to_bytes();
        EnrolmentRequest {
            invite_id: person.secret.id().to_vec(),
            account_id: person.account.to_vec(),
            account_key: account_key.to_vec(),
            proof: person
                .secret
                .proof(self.deployment, person.account, &account_key, person.role)
                .to_vec(),
            device_list: Some(person.list.clone()),
            access_key_sha256: {
                use sha2::Digest as _;
                sha2::Sha256::digest(person.access_key).to_vec()
            },
        }
    }

    pub(crate) async fn try_enrol(&self, person: &Person) -> Answer {
        let body = self.enrolment(person).encode_to_vec();
        self.call("POST", "/v1/enrolments", "", body).await
    }

    /// Somebody who enrolled and waits; logged in.
    pub(crate) async fn pending(&self, role: Role) -> Person {
        let mut person = self.newcomer(role).await;
        assert_eq!(self.try_enrol(&person).await.status, StatusCode::CREATED);
        person.token = self.log_in(&person, &person.devices[0]).await;
        person
    }

    /// A certificate as the clinic's issuer would make it.
    pub(crate) fn certificate(&self, person: &Person, handle: &str) -> CertificateChain {
        self.certificate_by(&self.issuer, person, handle)
    }

    pub(crate) fn certificate_by(
        &self,
        issuer: &TestIssuer,
        person: &Person,
        handle: &str,
    ) -> CertificateChain {
        let named = person.role != Role::Patient;
        let mut serial = [2; 16];
        for (to, from) in serial.iter_mut().zip(self.next().to_be_bytes()) {
            *to = from;
        }
        let certificate = Certificate {
            serial: serial.to_vec(),
            account_id: person.account.to_vec(),
            account_key: person.key.verifying_key().to_bytes().to_vec(),
            role: person.role.into(),
            not_before_ms: self.clock.now().as_millis(),
            not_after_ms: self.clock.now().plus_millis(YEAR_MS).as_millis(),
            handle: if named {
                handle.to_owned()
            } else {
                String::new()
            },
            display_name: if named {
                "Somebody".to_owned()
            } else {
                String::new()
            },
            issuer_serial: issuer.serial.to_vec(),
        };
        CertificateChain {
            issuer: Some(issuer.blob.clone()),
            certificate: Some(SignedBlob::sign(
                SignedKind::Certificate,
                self.deployment,
                certificate.encode_to_vec(),
                &issuer.key,
            )),
        }
    }

    pub(crate) async fn decide(
        &self,
        person: &Person,
        certificate: Option<CertificateChain>,
    ) -> Answer {
        let decision = EnrolmentDecision {
            account_id: person.account.to_vec(),
            certificate,
        };
        let body = decision.encode_to_vec();
        self.call("POST", "/v1/issuer/decisions", &self.issuer.token, body)
            .await
    }

    /// Somebody with a certificate; logged in.
    pub(crate) async fn person(&self, role: Role) -> Person {
        let mut person = self.newcomer(role).await;
        assert_eq!(self.try_enrol(&person).await.status, StatusCode::CREATED);
        let handle = format!("h{}", self.next());
        let chain = self.certificate(&person, &handle);
        let answer = self.decide(&person, Some(chain)).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        person.token = self.log_in(&person, &person.devices[0]).await;
        person
    }

    /// Replaces the device list with what the person holds now.
    pub(crate) async fn put_list(&self, person: &Person) -> Answer {
        let body = person.list.encode_to_vec();
        self.call("PUT", "/v1/accounts/me/device-list", &person.token, body)
            .await
    }

    /// The same past the routes, as another process would. Returns how many devices went.
    pub(crate) async fn replace_list_in_database(&self, person: &Person) -> usize {
        let list = VerifiedDeviceList::verify(
            &person.list,
            person.account,
            &person.key.verifying_key(),
            self.deployment,
        )
        .unwrap();
        let gone = self
            .app
            .store
            .replace_device_list(&NewDeviceList {
                account: person.account,
                replaces: person.version - 1,
                version: person.version,
                blob: person.list.encode_to_vec(),
                devices: devices(&list),
            })
            .await
            .unwrap();
        gone.unwrap().len()
    }

    /// Adds a device and returns its place.
    pub(crate) async fn add_device(&self, person: &mut Person) -> TestDevice {
        let device = self.device(person.next_device_id);
        person.next_device_id += 1;
        person.devices.push(device.clone());
        person.sign_list(self);
        let answer = self.put_list(person).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        device
    }

    /// Removes a device.
    pub(crate) async fn remove_device(&self, person: &mut Person, id: u32) {
        person.devices.retain(|device| device.id != id);
        person.sign_list(self);
        let answer = self.put_list(person).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }

    pub(crate) fn revocations(
        &self,
        number: u64,
        entries: &[(RevocationKind, [u8; 16])],
    ) -> RevocationBundle {
        let list = RevocationList {
            number,
            issued_at_ms: self.clock.now().as_millis(),
            next_update_ms: self.clock.now().plus_millis(24 * HOUR_MS).as_millis(),
            revocations: entries
                .iter()
                .map(|(kind, id)| Revocation {
                    kind: (*kind).into(),
                    id: id.to_vec(),
                    revoked_at_ms: self.clock.now().as_millis(),
                })
                .collect(),
            issuer_serial: Vec::new(),
        };
        RevocationBundle {
            issuer: None,
            list: Some(SignedBlob::sign(
                SignedKind::RevocationList,
                self.deployment,
                list.encode_to_vec(),
                &self.root,
            )),
        }
    }

    pub(crate) async fn revoke(&self, bundle: &RevocationBundle) -> Answer {
        let body = bundle.encode_to_vec();
        self.call("PUT", "/v1/issuer/revocations", &self.issuer.token, body)
            .await
    }

    // Prekeys.

    /// Uploads a signed, a last-resort and so many one-time prekeys of each kind,
    /// with ids from `first` on.
    pub(crate) async fn upload(&self, token: &str, first: u32, count: u32) -> Answer {
        let body = upload(1, first, count).encode_to_vec();
        self.call("PUT", "/v1/keys", token, body).await
    }

    // Sockets.

    pub(crate) async fn connect(&self, token: &str) -> Client {
        self.try_connect(token).await.expect("the upgrade")
    }

    pub(crate) async fn try_connect(
        &self,
        token: &str,
    ) -> Result<Client, tokio_tungstenite::tungstenite::Error> {
        let mut request = format!("ws://{}/v1/socket", self.address)
            .into_client_request()
            .unwrap();
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Client { socket })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Person {
    /// Signs the next version of the device list.
    pub(crate) fn sign_list(&mut self, world: &World) {
        let prev_hash = if self.version == 0 {
            Vec::new()
        } else {
            self.list.payload_hash().to_vec()
        };
        self.version += 1;
        let now = world.clock.now();
        let list = DeviceList {
            account_id: self.account.to_vec(),
            version: self.version,
            prev_hash,
            issued_at_ms: now.as_millis(),
            expires_at_ms: now.plus_millis(30 * 24 * HOUR_MS).as_millis(),
            devices: self
                .devices
                .iter()
                .map(|device| Device {
                    id: device.id,
                    identity_key: device.identity_key.to_vec(),
                    registration_id: device.registration_id,
                    device_key: device.key.verifying_key().to_bytes().to_vec(),
                    added_at_ms: now.as_millis(),
                })
                .collect(),
            next_device_id: self.next_device_id,
        };
        self.list = SignedBlob::sign(
            SignedKind::DeviceList,
            world.deployment,
            list.encode_to_vec(),
            &self.key,
        );
    }

    pub(crate) fn address(&self, id: u32) -> DeviceAddress {
        DeviceAddress {
            account: self.account,
            device: DeviceId::new(id).unwrap(),
        }
    }

    /// The same ciphertext for each device but `except`.
    pub(crate) fn recipient(&self, except: u32, text: &[u8]) -> SendRecipient {
        SendRecipient {
            account_id: self.account.to_vec(),
            ciphertexts: self
                .devices
                .iter()
                .filter(|device| device.id != except)
                .map(|device| DeviceCiphertext {
                    device_id: device.id,
                    registration_id: device.registration_id,
                    r#type: CiphertextType::Signal.into(),
                    ciphertext: Bytes::copy_from_slice(text),
                })
                .collect(),
        }
    }
}

fn make_issuer(
    deployment: DeploymentId,
    root: &SigningKey,
    number: u64,
    now: Timestamp,
) -> TestIssuer {
    let issuer_key = key(number);
    let mut serial = [1; 16];
    for (to, from) in serial.iter_mut().zip(number.to_be_bytes()) {
        *to = from;
    }
    let issuer = Issuer {
        serial: serial.to_vec(),
        key: issuer_key.verifying_key().to_bytes().to_vec(),
        roles: [
            Role::Patient,
            Role::Staff,
            Role::Ai,
            Role::Admin,
            Role::Officer,
        ]
        .map(i32::from)
        .to_vec(),
        not_before_ms: now.as_millis(),
        not_after_ms: now.plus_millis(YEAR_MS).as_millis(),
        sealing_key: vec![6; 32],
    };
    TestIssuer {
        serial: Serial::from(serial),
        key: issuer_key,
        blob: SignedBlob::sign(SignedKind::Issuer, deployment, issuer.encode_to_vec(), root),
        token: String::new(),
    }
}

/// An upload as `World::upload` makes it.
pub(crate) fn upload(epoch: u64, first: u32, count: u32) -> PreKeyUpload {
    let curve = |id: u32| {
        let mut bytes = vec![0; 33];
        bytes[0] = 5;
        bytes[29..].copy_from_slice(&id.to_be_bytes());
        bytes
    };
    let kyber = |id: u32| {
        let mut bytes = vec![0; 1569];
        bytes[0] = 8;
        bytes[1565..].copy_from_slice(&id.to_be_bytes());
        KyberPreKey {
            id,
            public_key: bytes,
            signature: vec![2; 64],
        }
    };
    PreKeyUpload {
        mailbox_epoch: epoch,
        signed_prekey: Some(SignedPreKey {
            id: first,
            public_key: curve(first),
            signature: vec![1; 64],
        }),
        last_resort_kyber_prekey: Some(kyber(first + count)),
        one_time_prekeys: (first..first + count)
            .map(|id| OneTimePreKey {
                id,
                public_key: curve(id),
            })
            .collect(),
        one_time_kyber_prekeys: (first..first + count).map(kyber).collect(),
    }
}

/// A device's end of a socket.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub(crate) async fn send_frame(&mut self, frame: client_frame::Frame) {
        let bytes = ClientFrame { frame: Some(frame) }.encode_to_vec();
        self.send_bytes(bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.socket
            .send(Message::Binary(bytes.into()))
            .await
            .unwrap();
    }

    /// Sends and waits for the answer.
    pub(crate) async fn send(
        &mut self,
        id: u8,
        recipients: Vec<SendRecipient>,
    ) -> Vec<recipient_result::Result> {
        self.send_frame(client_frame::Frame::Send(Send {
            send_id: vec![id; 16],
            ephemeral: false,
            recipients,
        }))
        .await;
        let result = self.result().await;
        assert_eq!(result.send_id, vec![id; 16]);
        result
            .results
            .into_iter()
            .map(|result| result.result.unwrap())
            .collect()
    }

    /// The next answer to a send, past other frames.
    pub(crate) async fn result(&mut self) -> SendResult {
        loop {
            match self.next().await {
                server_frame::Frame::SendResult(result) => return result,
                server_frame::Frame::Error(error) => {
                    panic!("{:?}: {}", error.code(), error.detail)
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn acknowledge(&mut self, epoch: u64, seq: u64) {
        self.send_frame(client_frame::Frame::Acknowledge(Acknowledge { epoch, seq }))
            .await;
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> server_frame::Frame {
        self.try_next().await.expect("the socket ended")
    }

    /// The next frame; `None` when the socket ended.
    pub(crate) async fn try_next(&mut self) -> Option<server_frame::Frame> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(30), self.socket.next())
                .await
                .expect("a frame or an end within 30 s");
            match message {
                Some(Ok(Message::Binary(bytes))) => {
                    return Some(ServerFrame::decode(bytes).unwrap().frame.unwrap());
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Reads until the socket ends.
    pub(crate) async fn try_next_for_ever(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// The next error frame, past other frames.
    pub(crate) async fn error(&mut self) -> wardline_wire::proto::Error {
        loop {
            if let server_frame::Frame::Error(error) = self.next().await {
                return error;
            }
        }
    }

    /// Frames up to `Drained`: the stored ciphertexts, and the last sequence.
    pub(crate) async fn drained(&mut self) -> (Vec<Vec<u8>>, u64) {
        let mut texts = Vec::new();
        loop {
            match self.next().await {
                server_frame::Frame::Deliver(deliver) => {
                    texts.extend(deliver.envelopes.iter().map(|one| one.ciphertext.to_vec()));
                }
                server_frame::Frame::Drained(drained) => return (texts, drained.seq),
                server_frame::Frame::Hello(_) | server_frame::Frame::PrekeysLow(_) => {}
                _ => panic!("another frame before Drained"),
            }
        }
    }

    /// The next delivered envelopes, past other frames.
    pub(crate) async fn delivered(&mut self) -> wardline_wire::proto::Deliver {
        loop {
            if let server_frame::Frame::Deliver(deliver) = self.next().await {
                return deliver;
            }
        }
    }
}

/// Whether a result is `accepted`.
pub(crate) fn is_accepted(result: &recipient_result::Result) -> bool {
    matches!(result, recipient_result::Result::Accepted(_))
}
