//! An enrolled account that speaks the protocol by hand.
//!
//! A hostile operator has accounts of their own, and keeps the keys of devices
//! that were revoked. This is what such an account can do: everything that the
//! wire allows, well-formed or not, with real keys.

mod voice;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use axum::http::header::AUTHORIZATION;
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use getrandom::SysRng;
use prost::Message as _;
use rand_core::{TryRng as _, UnwrapErr};
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use wardline_client::proto as inside;
use wardline_crypto::identity::IdentityKeyPair;
use wardline_crypto::prekey::{KyberPreKey, KyberPreKeyId, OneTimePreKey, OneTimePreKeyId};
use wardline_crypto::prekey::{SignedPreKey, SignedPreKeyId};
use wardline_wire::clock::{Clock as _, SystemClock, Timestamp};
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress, DeviceId, SendId};
use wardline_wire::invite::Invite;
use wardline_wire::limits::DEVICE_LIST_VALIDITY_MS;
use wardline_wire::problem::{Problem, ProblemKind};
use wardline_wire::proto::{
    self, AccountRecord, AccountStatus, ClientFrame, Envelope, ServerFrame, SignedBlob,
    client_frame, server_frame,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

pub use voice::Voice;

use crate::process::{PATIENCE, eventually};

/// The media type of every body but problems.
const PROTOBUF: &str = "application/x-protobuf";

/// Fresh random bytes.
///
/// # Panics
/// When the operating system has none.
#[expect(
    clippy::expect_used,
    reason = "a system without randomness runs no tests"
)]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).expect("randomness");
    bytes
}

/// The time now, for what is signed by hand.
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// An HTTP answer, whatever it is.
#[derive(Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The media type, empty when there is none.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body of a good answer.
    ///
    /// # Errors
    /// When the answer is not good, or not this message.
    pub fn message<M: prost::Message + Default>(&self) -> anyhow::Result<M> {
        ensure!(
            (200..300).contains(&self.status),
            "the relay answered {}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        M::decode(self.body.as_slice()).context("the answer cannot be read")
    }

    /// The problem document of a refusal.
    ///
    /// # Errors
    /// When it is not one, or contradicts its own status line.
    pub fn problem(&self) -> anyhow::Result<Problem> {
        ensure!(
            self.content_type == wardline_wire::problem::CONTENT_TYPE,
            "{} with {:?} instead of a problem document: {}",
            self.status,
            self.content_type,
            String::from_utf8_lossy(&self.body)
        );
        let problem: Problem = serde_json::from_slice(&self.body)?;
        ensure!(
            problem.status == self.status,
            "{problem:?} on {}",
            self.status
        );
        ensure!(
            problem
                .detail
                .as_deref()
                .is_some_and(|text| !text.is_empty()),
            "no way out in {problem:?}"
        );
        Ok(problem)
    }

    /// The kind of the problem.
    ///
    /// # Errors
    /// As [`Answer::problem`], and for a kind that nobody knows.
    pub fn problem_kind(&self) -> anyhow::Result<ProblemKind> {
        let problem = self.problem()?;
        problem
            .kind()
            .with_context(|| format!("unknown kind in {problem:?}"))
    }
}

/// HTTP by hand.
#[derive(Clone)]
pub struct Http {
    base: String,
    client: reqwest::Client,
}

impl Http {
    /// Talks to the relay at `base`.
    ///
    /// # Errors
    /// When there is no HTTP client.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        crate::install_tls();
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            client: reqwest::Client::builder()
                .no_proxy()
                .timeout(PATIENCE)
                .build()?,
        })
    }

    /// One request with any body.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: impl Into<Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        self.request_as(method, path, token, PROTOBUF, body).await
    }

    /// One request with any body of any media type.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn request_as(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.base))
            .body(body.into());
        if method != Method::GET {
            request = request.header("content-type", content_type);
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("{method} {path}"))?;
        let content_type = answer.headers().get("content-type");
        Ok(Answer {
            status: answer.status().as_u16(),
            content_type: content_type
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            body: answer.bytes().await?.to_vec(),
        })
    }
}

/// One device's keys.
#[derive(Clone)]
pub struct SpareDevice {
    /// Where it is.
    pub address: DeviceAddress,
    /// Its Signal identity.
    pub identity: IdentityKeyPair,
    /// Its registration id.
    pub registration_id: u32,
    /// Its log-in and operation key.
    pub device_key: SigningKey,
    added_at: Timestamp,
}

impl SpareDevice {
    fn generate(account: AccountId, device: DeviceId) -> Self {
        let registration: [u8; 2] = random();
        Self {
            address: DeviceAddress { account, device },
            identity: IdentityKeyPair::generate(&mut UnwrapErr(SysRng)),
            registration_id: u32::from(u16::from_be_bytes(registration) & 0x1FFF) + 1,
            device_key: SigningKey::from_bytes(&random()),
            added_at: now(),
        }
    }

    /// Its entry on a device list.
    pub fn listed(&self) -> proto::Device {
        proto::Device {
            id: self.address.device.into(),
            identity_key: self.identity.identity_key().as_bytes().to_vec(),
            registration_id: self.registration_id,
            device_key: self.device_key.verifying_key().to_bytes().to_vec(),
            added_at_ms: self.added_at.as_millis(),
        }
    }

    /// A fresh upload of prekeys: one signed, one last-resort Kyber and
    /// `one_time` of each one-time kind, with ids from `first_id` on.
    pub fn prekeys(&self, epoch: u64, first_id: u32, one_time: u32) -> proto::PreKeyUpload {
        let mut rng = UnwrapErr(SysRng);
        let time = wardline_crypto::timestamp::Timestamp::from_millis(now().as_millis());
        let kyber = |id: u32, rng: &mut UnwrapErr<SysRng>| {
            let key = KyberPreKey::generate(KyberPreKeyId(id), &self.identity, time, rng).public();
            proto::KyberPreKey {
                id,
                public_key: key.key.as_bytes().to_vec(),
                signature: key.signature.to_vec(),
            }
        };
        let signed =
            SignedPreKey::generate(SignedPreKeyId(first_id), &self.identity, time, &mut rng)
                .public();
        proto::PreKeyUpload {
            mailbox_epoch: epoch,
            signed_prekey: Some(proto::SignedPreKey {
                id: first_id,
                public_key: signed.key.as_bytes().to_vec(),
                signature: signed.signature.to_vec(),
            }),
            last_resort_kyber_prekey: Some(kyber(first_id, &mut rng)),
            one_time_prekeys: (1..=one_time)
                .map(|n| {
                    let key = OneTimePreKey::generate(OneTimePreKeyId(first_id + n), &mut rng);
                    proto::OneTimePreKey {
                        id: first_id + n,
                        public_key: key.public().key.as_bytes().to_vec(),
                    }
                })
                .collect(),
            one_time_kyber_prekeys: (1..=one_time)
                .map(|n| kyber(first_id + n, &mut rng))
                .collect(),
        }
    }
}

/// An account with everything that belongs to it.
#[derive(Clone)]
pub struct SpareAccount {
    /// The clinic it belongs to.
    pub deployment: DeploymentId,
    /// Its id.
    pub id: AccountId,
    /// Its key: signs its device lists.
    pub key: SigningKey,
    /// The key that lets patients fetch its prekeys.
    pub access_key: [u8; 16],
    /// Its devices, past ones included.
    pub devices: Vec<SpareDevice>,
    /// Every list it signed, oldest first.
    pub lists: Vec<SignedBlob>,
    /// The relay, directly.
    pub http: Http,
    base: String,
}

impl SpareAccount {
    /// Makes the keys for an account at the relay `base`; nothing is sent yet.
    ///
    /// # Errors
    /// When there is no HTTP client.
    pub fn generate(base: &str, deployment: DeploymentId) -> anyhow::Result<Self> {
        let id = AccountId::from_random_bytes(random());
        let mut account = Self {
            deployment,
            id,
            key: SigningKey::from_bytes(&random()),
            access_key: random(),
            devices: vec![SpareDevice::generate(id, DeviceId::FIRST)],
            lists: Vec::new(),
            http: Http::new(base)?,
            base: base.trim_end_matches('/').to_owned(),
        };
        let first = account.sign_list(&[1])?;
        account.lists.push(first);
        Ok(account)
    }

    /// Redeems an invite at the relay `base` and waits until the issuer has
    /// certified the account.
    ///
    /// # Errors
    /// When the relay or the issuer refuses.
    pub async fn enrol(base: &str, invite: &Invite) -> anyhow::Result<Self> {
        let account = Self::generate(base, invite.deployment)?;
        let request = account.enrolment(invite);
        account
            .http
            .request(
                Method::POST,
                "/v1/enrolments",
                None,
                request.encode_to_vec(),
            )
            .await?
            .message::<AccountRecord>()?;
        account.until_active().await?;
        Ok(account)
    }

    /// The request that redeems `invite` for this account.
    pub fn enrolment(&self, invite: &Invite) -> proto::EnrolmentRequest {
        let key = self.key.verifying_key().to_bytes();
        proto::EnrolmentRequest {
            invite_id: invite.secret.id().to_vec(),
            account_id: self.id.to_vec(),
            account_key: key.to_vec(),
            proof: invite
                .secret
                .proof(self.deployment, self.id, &key, invite.role)
                .to_vec(),
            device_list: self.lists.first().cloned(),
            access_key_sha256: Sha256::digest(self.access_key).to_vec(),
        }
    }

    /// Waits until the account is certified.
    ///
    /// # Errors
    /// When it is not, or is rejected.
    pub async fn until_active(&self) -> anyhow::Result<()> {
        eventually("a certificate", || async {
            let token = self.log_in(1).await?;
            match AccountStatus::try_from(token.status) {
                Ok(AccountStatus::Active) => Ok(Some(())),
                Ok(AccountStatus::Pending) => Ok(None),
                other => bail!("the account is {other:?}"),
            }
        })
        .await
    }

    /// A device by its number.
    ///
    /// # Errors
    /// When there is none.
    pub fn device(&self, id: u32) -> anyhow::Result<&SpareDevice> {
        self.devices
            .iter()
            .find(|device| u32::from(device.address.device) == id)
            .with_context(|| format!("there is no device {id}"))
    }

    /// Adds a device and tells the relay, as an honest owner does.
    ///
    /// # Errors
    /// When the relay refuses.
    pub async fn add_device(&mut self) -> anyhow::Result<DeviceAddress> {
        let next = u32::try_from(self.devices.len())? + 1;
        let device = SpareDevice::generate(self.id, DeviceId::new(next)?);
        let address = device.address;
        self.devices.push(device);
        let mut ids = self.current_ids()?;
        ids.push(next);
        self.publish_list(&ids).await?;
        Ok(address)
    }

    /// Removes a device and tells the relay, as an honest owner does.
    ///
    /// # Errors
    /// When the relay refuses.
    pub async fn remove_device(&mut self, id: u32) -> anyhow::Result<()> {
        let ids: Vec<u32> = self
            .current_ids()?
            .into_iter()
            .filter(|current| *current != id)
            .collect();
        self.publish_list(&ids).await
    }

    async fn publish_list(&mut self, ids: &[u32]) -> anyhow::Result<()> {
        let list = self.sign_list(ids)?;
        let answer = self.put_list(&list).await?;
        ensure!(
            answer.status == 204,
            "the relay refused the list: {}",
            String::from_utf8_lossy(&answer.body)
        );
        self.lists.push(list);
        Ok(())
    }

    /// Signs the next list with these devices on it. Nothing is sent.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn sign_list(&self, ids: &[u32]) -> anyhow::Result<SignedBlob> {
        let issued = now();
        let list = proto::DeviceList {
            account_id: self.id.to_vec(),
            version: u64::try_from(self.lists.len())? + 1,
            prev_hash: self
                .lists
                .last()
                .map(|last| last.payload_hash().to_vec())
                .unwrap_or_default(),
            issued_at_ms: issued.as_millis(),
            expires_at_ms: issued.plus_millis(DEVICE_LIST_VALIDITY_MS).as_millis(),
            devices: ids
                .iter()
                .map(|id| self.device(*id).map(SpareDevice::listed))
                .collect::<anyhow::Result<_>>()?,
            next_device_id: u32::try_from(self.devices.len())? + 1,
        };
        Ok(self.sign(SignedKind::DeviceList, list.encode_to_vec()))
    }

    /// The newest list, as contents name it.
    pub fn list_ref(&self) -> inside::ListRef {
        let hash = self.lists.last().map(SignedBlob::payload_hash);
        inside::ListRef {
            version: u64::try_from(self.lists.len()).unwrap_or_default(),
            hash: hash.map(|hash| hash.to_vec()).unwrap_or_default(),
        }
    }

    /// Another account's list, as the relay shows it.
    ///
    /// # Errors
    /// When the relay shows none.
    pub async fn list_ref_of(&self, account: AccountId) -> anyhow::Result<inside::ListRef> {
        let record = self.look_up(account).await?;
        let blob = record.device_list.context("no device list")?;
        Ok(inside::ListRef {
            version: proto::DeviceList::decode(blob.payload.as_slice())?.version,
            hash: blob.payload_hash().to_vec(),
        })
    }

    /// Signs anything with the account key.
    pub fn sign(&self, kind: SignedKind, payload: Vec<u8>) -> SignedBlob {
        SignedBlob::sign(kind, self.deployment, payload, &self.key)
    }

    /// Hands a list to the relay.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn put_list(&self, list: &SignedBlob) -> anyhow::Result<Answer> {
        self.call(
            1,
            Method::PUT,
            "/v1/accounts/me/device-list",
            list.encode_to_vec(),
        )
        .await
    }

    fn current_ids(&self) -> anyhow::Result<Vec<u32>> {
        let blob = self.lists.last().context("no list was signed")?;
        let list = proto::DeviceList::decode(blob.payload.as_slice())?;
        Ok(list.devices.iter().map(|device| device.id).collect())
    }

    /// Logs a device in.
    ///
    /// # Errors
    /// When the relay refuses.
    pub async fn log_in(&self, device: u32) -> anyhow::Result<proto::Token> {
        self.try_log_in(device).await?.message()
    }

    /// Logs a device in, whatever comes of it.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn try_log_in(&self, device: u32) -> anyhow::Result<Answer> {
        let request = proto::ChallengeRequest {
            account_id: self.id.to_vec(),
            device_id: device,
        };
        let answer = self
            .http
            .request(
                Method::POST,
                "/v1/auth/challenge",
                None,
                request.encode_to_vec(),
            )
            .await?;
        if answer.status != 200 {
            return Ok(answer);
        }
        let login = proto::Login {
            nonce: answer.message::<proto::Challenge>()?.nonce,
            account_id: self.id.to_vec(),
            device_id: device,
            issuer_serial: Vec::new(),
        };
        let key = &self.device(device)?.device_key;
        let blob = SignedBlob::sign(
            SignedKind::Login,
            self.deployment,
            login.encode_to_vec(),
            key,
        );
        let request = proto::TokenRequest {
            login: Some(blob),
            issuer: None,
        };
        self.http
            .request(
                Method::POST,
                "/v1/auth/token",
                None,
                request.encode_to_vec(),
            )
            .await
    }

    /// One request with a fresh token of `device`.
    ///
    /// # Errors
    /// When the log-in is refused or no answer comes.
    pub async fn call(
        &self,
        device: u32,
        method: Method,
        path: &str,
        body: impl Into<Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        let token = self.log_in(device).await?.token;
        self.http.request(method, path, Some(&token), body).await
    }

    /// Uploads fresh prekeys for a device.
    ///
    /// # Errors
    /// When the relay refuses.
    pub async fn upload_prekeys(
        &self,
        device: u32,
        first_id: u32,
        one_time: u32,
    ) -> anyhow::Result<proto::PreKeyStock> {
        let stock: proto::PreKeyStock = self
            .call(device, Method::GET, "/v1/keys", Vec::new())
            .await?
            .message()?;
        let upload = self
            .device(device)?
            .prekeys(stock.mailbox_epoch, first_id, one_time);
        self.call(device, Method::PUT, "/v1/keys", upload.encode_to_vec())
            .await?
            .message()
    }

    /// What the relay answers about an account.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn look_up(&self, account: AccountId) -> anyhow::Result<AccountRecord> {
        self.call(
            1,
            Method::GET,
            &format!("/v1/accounts/{account}"),
            Vec::new(),
        )
        .await?
        .message()
    }

    /// Opens a device's socket.
    ///
    /// # Errors
    /// When the relay refuses.
    pub async fn connect(&self, device: u32) -> anyhow::Result<Socket> {
        let token = self.log_in(device).await?.token;
        Socket::open(&self.base, Some(&token))
            .await?
            .map_err(|answer| {
                anyhow::anyhow!(
                    "the relay refused the socket with {}: {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                )
            })
    }
}

/// A socket by hand.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What comes over a socket.
pub enum Heard {
    /// A frame.
    Frame(ServerFrame),
    /// The relay closed the socket, or it broke.
    Closed,
}

impl Socket {
    /// Opens a socket at the relay `base`. The inner error is the relay's refusal.
    ///
    /// # Errors
    /// When the relay cannot be reached.
    pub async fn open(base: &str, token: Option<&str>) -> anyhow::Result<Result<Self, Answer>> {
        let url = format!("{}/v1/socket", base.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        if let Some(token) = token {
            request
                .headers_mut()
                .insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Ok(Self(socket))),
            Err(tungstenite::Error::Http(refused)) => {
                let content_type = refused.headers().get("content-type");
                Ok(Err(Answer {
                    status: refused.status().as_u16(),
                    content_type: content_type
                        .and_then(|value| value.to_str().ok())
                        .unwrap_or_default()
                        .to_owned(),
                    body: refused.body().clone().unwrap_or_default(),
                }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends any bytes as one binary message.
    ///
    /// # Errors
    /// When the socket is broken.
    pub async fn send_bytes(&mut self, bytes: impl Into<Vec<u8>>) -> anyhow::Result<()> {
        Ok(self.0.send(Message::Binary(bytes.into().into())).await?)
    }

    /// Sends any text as one text message.
    ///
    /// # Errors
    /// When the socket is broken.
    pub async fn send_text(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.0.send(Message::Text(text.into())).await?)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the socket is broken.
    pub async fn send(&mut self, frame: client_frame::Frame) -> anyhow::Result<()> {
        self.send_bytes(ClientFrame { frame: Some(frame) }.encode_to_vec())
            .await
    }

    /// The next frame, or the end.
    ///
    /// # Errors
    /// When nothing comes within [`PATIENCE`], or not a frame.
    pub async fn next(&mut self) -> anyhow::Result<Heard> {
        self.next_within(PATIENCE)
            .await?
            .context("the relay says nothing")
    }

    /// The next frame, or the end; `None` when nothing comes in time.
    ///
    /// # Errors
    /// When something comes that is not a frame.
    pub async fn next_within(&mut self, time: Duration) -> anyhow::Result<Option<Heard>> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(message) = tokio::time::timeout(left, self.0.next()).await else {
                return Ok(None);
            };
            match message {
                Some(Ok(Message::Binary(bytes))) => {
                    return Ok(Some(Heard::Frame(ServerFrame::decode(&*bytes)?)));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => bail!("the relay speaks in text"),
                None | Some(Ok(Message::Close(_)) | Err(_)) => return Ok(Some(Heard::Closed)),
            }
        }
    }

    /// Passes over frames until `wanted` takes one.
    ///
    /// # Errors
    /// When the socket closes first or nothing more comes.
    pub async fn until<T>(
        &mut self,
        mut wanted: impl FnMut(server_frame::Frame) -> Option<T>,
    ) -> anyhow::Result<T> {
        loop {
            match self.next().await? {
                Heard::Frame(frame) => {
                    if let Some(found) = frame.frame.and_then(&mut wanted) {
                        return Ok(found);
                    }
                }
                Heard::Closed => bail!("the socket closed"),
            }
        }
    }

    /// Waits for the relay's typed error.
    ///
    /// # Errors
    /// When the socket closes without one.
    pub async fn error(&mut self) -> anyhow::Result<proto::Error> {
        self.until(|frame| match frame {
            server_frame::Frame::Error(error) => Some(error),
            _ => None,
        })
        .await
    }

    /// Waits until `count` stored envelopes have come, and returns them with their epoch.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn envelopes(&mut self, count: usize) -> anyhow::Result<(u64, Vec<Envelope>)> {
        let mut all = Vec::new();
        self.until(|frame| {
            let server_frame::Frame::Deliver(deliver) = frame else {
                return None;
            };
            all.extend(deliver.envelopes);
            (all.len() >= count).then(|| (deliver.epoch, std::mem::take(&mut all)))
        })
        .await
    }

    /// Waits until the socket is closed.
    ///
    /// # Errors
    /// When it stays open.
    pub async fn until_closed(&mut self) -> anyhow::Result<()> {
        loop {
            if matches!(self.next().await?, Heard::Closed) {
                return Ok(());
            }
        }
    }

    /// Sends these ciphertexts and returns the answer for their one recipient.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn deliver(
        &mut self,
        recipient: AccountId,
        ciphertexts: Vec<proto::DeviceCiphertext>,
    ) -> anyhow::Result<proto::recipient_result::Result> {
        let send_id = SendId::from(random());
        self.send(client_frame::Frame::Send(proto::Send {
            send_id: send_id.to_vec(),
            ephemeral: false,
            recipients: vec![proto::SendRecipient {
                account_id: recipient.to_vec(),
                ciphertexts,
            }],
        }))
        .await?;
        let result = self
            .until(|frame| match frame {
                server_frame::Frame::SendResult(result) if result.send_id == send_id.as_bytes() => {
                    Some(Ok(result))
                }
                server_frame::Frame::Error(error) => Some(Err(error)),
                _ => None,
            })
            .await?;
        let result = result.map_err(|error| {
            anyhow::anyhow!(
                "the relay refused the frame ({}): {}",
                error.code,
                error.detail
            )
        })?;
        result
            .results
            .into_iter()
            .next()
            .and_then(|result| result.result)
            .context("the answer is empty")
    }
}
