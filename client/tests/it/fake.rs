//! A relay in memory, with an issuer beside it that certifies whoever comes. Tests tell it to
//! keep answers back, to cut sockets, to lie.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use wardline_client::api::{
    Connector, InviteLink, ProfileConfig, Role, Timestamp, Transport, TransportError, Unlock,
};
use wardline_client::transport::{BoxFuture, Method, Request, Response, Socket};
use wardline_wire::clock::{Clock as _, SystemClock};
use wardline_wire::directory::role_from_wire;
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress, DeviceId};
use wardline_wire::invite::InviteSecret;
use wardline_wire::problem::{Problem, ProblemKind};
use wardline_wire::proto::client_frame::Frame as FromDevice;
use wardline_wire::proto::recipient_result::Result as Answer;
use wardline_wire::proto::server_frame::Frame as ToDevice;
use wardline_wire::proto::{
    Accepted, AccountRecord, AccountStatus, BundleRequest, BundleSet, Certificate,
    CertificateChain, Challenge, Deliver, Deployment, DeviceBundle, DeviceList, Drained,
    EnrolmentRequest, Envelope, Hello, Issuer, KyberPreKey, Login, Mismatch, OneTimePreKey,
    PreKeyStock, PreKeyUpload, RecipientResult, RevocationBundle, RevocationList, Send, SendResult,
    ServerFrame, SignedBlob, SignedPreKey, Token, TokenRequest,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// Prekeys of one device.
#[derive(Default)]
struct Keys {
    signed: Option<SignedPreKey>,
    last_resort: Option<KyberPreKey>,
    one_time: Vec<OneTimePreKey>,
    one_time_kyber: Vec<KyberPreKey>,
    ids: HashSet<(u8, u32)>,
}

#[derive(Default)]
struct Mailbox {
    next: u64,
    envelopes: Vec<Envelope>,
}

struct State {
    deployment: DeploymentId,
    root: SigningKey,
    issuer: SigningKey,
    accounts: HashMap<AccountId, AccountRecord>,
    roles: HashMap<[u8; 32], Role>,
    keys: HashMap<DeviceAddress, Keys>,
    mailboxes: HashMap<DeviceAddress, Mailbox>,
    sockets: HashMap<DeviceAddress, mpsc::UnboundedSender<ServerFrame>>,
    taken: HashMap<(DeviceAddress, Vec<u8>, Vec<u8>), [u8; 32]>,
    sends: Vec<(DeviceAddress, Send)>,
    epoch: u64,
    keep_results: bool,
    keep_acknowledgements: bool,
    fail_uploads: bool,
}

/// The relay. Clones are the same relay.
#[derive(Clone)]
pub(super) struct FakeRelay(Arc<Mutex<State>>);

impl FakeRelay {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            deployment: DeploymentId::from([7; 16]),
            root: SigningKey::from_bytes(&[1; 32]),
            issuer: SigningKey::from_bytes(&[2; 32]),
            accounts: HashMap::new(),
            roles: HashMap::new(),
            keys: HashMap::new(),
            mailboxes: HashMap::new(),
            sockets: HashMap::new(),
            taken: HashMap::new(),
            sends: Vec::new(),
            epoch: 1,
            keep_results: false,
            keep_acknowledgements: false,
            fail_uploads: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// An invite by the authority itself.
    pub(super) fn invite(&self, role: Role, number: u8) -> InviteLink {
        let mut state = self.state();
        let secret = InviteSecret::new([number; 32]);
        state.roles.insert(*secret.id().as_bytes(), role);
        InviteLink {
            deployment: state.deployment,
            relay_url: "https://fake.example".to_owned(),
            relay_key_sha256: None,
            root_fingerprint: Sha256::digest(state.root.verifying_key().as_bytes()).into(),
            inviter: None,
            role,
            expires_at: Timestamp::from_millis(u64::MAX / 4),
            secret,
        }
    }

    /// A profile that talks to this relay.
    pub(super) fn config(&self, dir: &std::path::Path, name: &str) -> ProfileConfig {
        let key = dir.join(format!("{name}.key"));
        let mut config = ProfileConfig::new(dir.join(name), Unlock::KeyFile(key));
        config.connector = Arc::new(self.clone());
        name.clone_into(&mut config.name);
        config
    }

    /// Answers to sends are no longer given (they are taken all the same), or are again.
    pub(super) fn keep_results(&self, keep: bool) {
        self.state().keep_results = keep;
    }

    /// Acknowledgements are no longer heard, or are again.
    pub(super) fn keep_acknowledgements(&self, keep: bool) {
        self.state().keep_acknowledgements = keep;
    }

    /// Uploads of prekeys are stored and answered with an error, or are answered again.
    pub(super) fn fail_uploads(&self, fail: bool) {
        self.state().fail_uploads = fail;
    }

    /// Every send that arrived, in order.
    pub(super) fn sends(&self) -> Vec<(DeviceAddress, Send)> {
        self.state().sends.clone()
    }

    /// How many envelopes wait for a device.
    pub(super) fn waiting(&self, device: DeviceAddress) -> usize {
        self.state()
            .mailboxes
            .get(&device)
            .map_or(0, |mailbox| mailbox.envelopes.len())
    }

    /// Drops the newest waiting envelope of a device.
    pub(super) fn lose_newest(&self, device: DeviceAddress) -> bool {
        self.state()
            .mailboxes
            .get_mut(&device)
            .is_some_and(|mailbox| mailbox.envelopes.pop().is_some())
    }

    /// Alters the newest waiting envelope of a device.
    pub(super) fn damage_newest(&self, device: DeviceAddress) -> bool {
        let mut state = self.state();
        let Some(envelope) = state
            .mailboxes
            .get_mut(&device)
            .and_then(|mailbox| mailbox.envelopes.last_mut())
        else {
            return false;
        };
        let mut bytes = envelope.ciphertext.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        envelope.ciphertext = Bytes::from(bytes);
        true
    }

    /// Repeats the newest waiting envelope of a device.
    pub(super) fn repeat_newest(&self, device: DeviceAddress) {
        let mut state = self.state();
        if let Some(mailbox) = state.mailboxes.get_mut(&device)
            && let Some(mut again) = mailbox.envelopes.last().cloned()
        {
            mailbox.next += 1;
            again.seq = mailbox.next;
            mailbox.envelopes.push(again);
        }
    }

    /// Closes everybody's sockets.
    pub(super) fn cut(&self) {
        self.state().sockets.clear();
    }

    /// As after a restore from a backup: another epoch, no one-time prekeys.
    pub(super) fn restore(&self) {
        let mut state = self.state();
        state.epoch += 1;
        for keys in state.keys.values_mut() {
            keys.one_time.clear();
            keys.one_time_kyber.clear();
        }
    }

    /// One-time prekeys that a device still has here: (curve, Kyber).
    pub(super) fn stock(&self, device: DeviceAddress) -> (usize, usize) {
        self.state().keys.get(&device).map_or((0, 0), |keys| {
            (keys.one_time.len(), keys.one_time_kyber.len())
        })
    }
}

impl Connector for FakeRelay {
    fn transport(
        &self,
        _relay_url: &str,
        _relay_key_sha256: Option<[u8; 32]>,
    ) -> Result<Arc<dyn Transport>, TransportError> {
        Ok(Arc::new(self.clone()))
    }
}

impl Transport for FakeRelay {
    fn request(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let mut state = self.state();
            Ok(match state.route(&request) {
                Ok(body) => Response {
                    status: 200,
                    body: Bytes::from(body),
                },
                Err(kind) => Response {
                    status: kind.status(),
                    body: Bytes::from(serde_json::to_vec(&Problem::new(kind, "")).unwrap()),
                },
            })
        })
    }

    fn open_socket(&self, token: String) -> BoxFuture<'_, Result<Socket, TransportError>> {
        Box::pin(async move {
            let device = read_token(&token).ok_or(TransportError::Refused(401))?;
            let (to_client, from_relay) = mpsc::channel(64);
            let (to_relay, mut from_client) = mpsc::unbounded_channel();
            let (push, mut pushed) = mpsc::unbounded_channel::<ServerFrame>();
            let relay = self.clone();
            relay.state().greet(device, push);
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        frame = pushed.recv() => match frame {
                            Some(frame) => {
                                if to_client.send(Ok(frame)).await.is_err() {
                                    return;
                                }
                            }
                            None => return,
                        },
                        frame = from_client.recv() => match frame {
                            Some(frame) => relay.state().frame(device, frame),
                            None => return,
                        },
                    }
                }
            });
            Ok(Socket {
                outgoing: to_relay,
                incoming: from_relay,
            })
        })
    }
}

fn read_token(token: &str) -> Option<DeviceAddress> {
    let (account, device) = token.rsplit_once('.')?;
    Some(DeviceAddress {
        account: account.parse().ok()?,
        device: DeviceId::new(device.parse().ok()?).ok()?,
    })
}

impl State {
    fn route(&mut self, request: &Request) -> Result<Vec<u8>, ProblemKind> {
        let body = request.body.as_slice();
        let who = request.token.as_deref().and_then(read_token);
        let me = who.ok_or(ProblemKind::Unauthorized);
        match (request.method, request.path.as_str()) {
            (Method::Get, "/v1/deployment") => Ok(Deployment {
                deployment_id: self.deployment.to_vec(),
                root_key: self.root.verifying_key().to_bytes().to_vec(),
                issuers: vec![self.issuer_blob()],
            }
            .encode_to_vec()),
            (Method::Post, "/v1/enrolments") => self.enrol(decode(body)?),
            (Method::Post, "/v1/auth/challenge") => Ok(Challenge {
                nonce: vec![9; 32],
                valid_for_ms: 60_000,
            }
            .encode_to_vec()),
            (Method::Post, "/v1/auth/token") => self.token(decode(body)?),
            (Method::Get, "/v1/revocations") => Ok(self.revocations().encode_to_vec()),
            (Method::Get, "/v1/keys") => Ok(self.key_stock(me?).encode_to_vec()),
            (Method::Put, "/v1/keys") => self.upload(me?, decode(body)?),
            (Method::Post, "/v1/keys/fetch") => self.bundles(decode(body)?),
            (Method::Put, "/v1/accounts/me/device-list") => {
                let record = self
                    .accounts
                    .get_mut(&me?.account)
                    .ok_or(ProblemKind::NotFound)?;
                record.device_list = Some(decode(body)?);
                Ok(Vec::new())
            }
            (Method::Put, "/v1/accounts/me/access-key") | (Method::Post, "/v1/invites") => {
                Ok(Vec::new())
            }
            (Method::Get, path) => {
                if let Some(id) = path.strip_prefix("/v1/accounts/") {
                    let id: AccountId = id.parse().map_err(|_| ProblemKind::Malformed)?;
                    let record = self.accounts.get(&id).ok_or(ProblemKind::NotFound)?;
                    return Ok(record.encode_to_vec());
                }
                Err(ProblemKind::NotFound)
            }
            _ => Err(ProblemKind::NotFound),
        }
    }

    fn issuer_blob(&self) -> SignedBlob {
        let now = SystemClock.now();
        let issuer = Issuer {
            serial: vec![1; 16],
            key: self.issuer.verifying_key().to_bytes().to_vec(),
            roles: [Role::Patient, Role::Staff, Role::Ai]
                .map(i32::from)
                .to_vec(),
            not_before_ms: now.as_millis() - YEAR_MS,
            not_after_ms: now.as_millis() + YEAR_MS,
            sealing_key: vec![3; 32],
        };
        let payload = issuer.encode_to_vec();
        SignedBlob::sign(SignedKind::Issuer, self.deployment, payload, &self.root)
    }

    fn revocations(&self) -> RevocationBundle {
        let now = SystemClock.now();
        let list = RevocationList {
            number: 1,
            issued_at_ms: now.as_millis() - 1000,
            next_update_ms: now.as_millis() + 7 * 24 * 3_600_000,
            revocations: Vec::new(),
            issuer_serial: vec![1; 16],
        };
        let payload = list.encode_to_vec();
        let kind = SignedKind::RevocationList;
        RevocationBundle {
            issuer: Some(self.issuer_blob()),
            list: Some(SignedBlob::sign(
                kind,
                self.deployment,
                payload,
                &self.issuer,
            )),
        }
    }

    fn enrol(&mut self, request: EnrolmentRequest) -> Result<Vec<u8>, ProblemKind> {
        let invite = <[u8; 32]>::try_from(request.invite_id.as_slice())
            .map_err(|_| ProblemKind::Malformed)?;
        let role = *self.roles.get(&invite).ok_or(ProblemKind::NotFound)?;
        let account =
            AccountId::from_slice(&request.account_id).map_err(|_| ProblemKind::Malformed)?;
        let now = SystemClock.now();
        let number = self.accounts.len();
        let named = role != Role::Patient;
        let certificate = Certificate {
            serial: invite.first_chunk::<16>().unwrap().to_vec(),
            account_id: request.account_id.clone(),
            account_key: request.account_key.clone(),
            role: role.into(),
            not_before_ms: now.as_millis() - 1000,
            not_after_ms: now.as_millis() + YEAR_MS / 2,
            handle: if named {
                format!("member-{number}")
            } else {
                String::new()
            },
            display_name: if named {
                format!("Member {number}")
            } else {
                String::new()
            },
            issuer_serial: vec![1; 16],
        };
        let payload = certificate.encode_to_vec();
        let kind = SignedKind::Certificate;
        let record = AccountRecord {
            account_id: request.account_id,
            status: AccountStatus::Active.into(),
            certificate: Some(CertificateChain {
                issuer: Some(self.issuer_blob()),
                certificate: Some(SignedBlob::sign(
                    kind,
                    self.deployment,
                    payload,
                    &self.issuer,
                )),
            }),
            device_list: request.device_list,
        };
        let record = self.accounts.entry(account).or_insert(record);
        Ok(record.encode_to_vec())
    }

    fn token(&self, request: TokenRequest) -> Result<Vec<u8>, ProblemKind> {
        let login = request.login.ok_or(ProblemKind::Malformed)?;
        let login = Login::decode(login.payload.as_slice()).map_err(|_| ProblemKind::Malformed)?;
        let account =
            AccountId::from_slice(&login.account_id).map_err(|_| ProblemKind::Malformed)?;
        let record = self.accounts.get(&account).ok_or(ProblemKind::NotFound)?;
        let role = role_from_wire(Role::Patient.into()).unwrap_or(Role::Patient);
        Ok(Token {
            token: format!("{account}.{}", login.device_id),
            valid_for_ms: 3_600_000,
            status: record.status,
            role: role.into(),
        }
        .encode_to_vec())
    }

    fn key_stock(&self, device: DeviceAddress) -> PreKeyStock {
        let count = |len: usize| u32::try_from(len).unwrap();
        match self.keys.get(&device) {
            None => PreKeyStock {
                mailbox_epoch: self.epoch,
                ..PreKeyStock::default()
            },
            Some(keys) => PreKeyStock {
                mailbox_epoch: self.epoch,
                one_time_prekeys: count(keys.one_time.len()),
                one_time_kyber_prekeys: count(keys.one_time_kyber.len()),
                signed_prekey_id: keys.signed.as_ref().map_or(0, |key| key.id),
                last_resort_kyber_prekey_id: keys.last_resort.as_ref().map_or(0, |key| key.id),
            },
        }
    }

    fn upload(
        &mut self,
        device: DeviceAddress,
        upload: PreKeyUpload,
    ) -> Result<Vec<u8>, ProblemKind> {
        if upload.mailbox_epoch != self.epoch {
            return Err(ProblemKind::Epoch);
        }
        let keys = self.keys.entry(device).or_default();
        let ids: Vec<(u8, u32)> = upload
            .one_time_prekeys
            .iter()
            .map(|key| (1, key.id))
            .chain(upload.one_time_kyber_prekeys.iter().map(|key| (2, key.id)))
            .collect();
        if ids.iter().any(|id| keys.ids.contains(id)) {
            return Err(ProblemKind::Conflict);
        }
        keys.ids.extend(ids);
        keys.signed = upload.signed_prekey.or(keys.signed.take());
        keys.last_resort = upload.last_resort_kyber_prekey.or(keys.last_resort.take());
        keys.one_time.extend(upload.one_time_prekeys);
        keys.one_time_kyber.extend(upload.one_time_kyber_prekeys);
        if self.fail_uploads {
            return Err(ProblemKind::Unavailable);
        }
        Ok(self.key_stock(device).encode_to_vec())
    }

    fn devices(&self, account: AccountId) -> Vec<wardline_wire::proto::Device> {
        self.accounts
            .get(&account)
            .and_then(|record| record.device_list.as_ref())
            .and_then(|list| DeviceList::decode(list.payload.as_slice()).ok())
            .map(|list| list.devices)
            .unwrap_or_default()
    }

    fn bundles(&mut self, request: BundleRequest) -> Result<Vec<u8>, ProblemKind> {
        let account =
            AccountId::from_slice(&request.account_id).map_err(|_| ProblemKind::Malformed)?;
        let mut set = BundleSet {
            account_id: request.account_id,
            ..BundleSet::default()
        };
        for device in self.devices(account) {
            let address = DeviceAddress {
                account,
                device: DeviceId::new(device.id).unwrap(),
            };
            let Some(keys) = self.keys.get_mut(&address) else {
                set.without_keys.push(device.id);
                continue;
            };
            let one_time_kyber = keys.one_time_kyber.pop();
            set.bundles.push(DeviceBundle {
                device_id: device.id,
                registration_id: device.registration_id,
                identity_key: device.identity_key,
                signed_prekey: keys.signed.clone(),
                kyber_is_last_resort: one_time_kyber.is_none(),
                kyber_prekey: one_time_kyber.or_else(|| keys.last_resort.clone()),
                one_time_prekey: keys.one_time.pop(),
            });
        }
        Ok(set.encode_to_vec())
    }

    fn greet(&mut self, device: DeviceAddress, push: mpsc::UnboundedSender<ServerFrame>) {
        let mailbox = self.mailboxes.entry(device).or_default();
        let hello = Hello {
            epoch: self.epoch,
            newest_seq: mailbox.next,
            max_ciphertext_bytes: 96 * 1024,
            max_recipients: 256,
            device_list_version: 1,
            revocation_number: 1,
        };
        let _ = push.send(frame(ToDevice::Hello(hello)));
        let _ = push.send(frame(ToDevice::Deliver(Deliver {
            epoch: self.epoch,
            envelopes: mailbox.envelopes.clone(),
        })));
        let _ = push.send(frame(ToDevice::Drained(Drained {
            epoch: self.epoch,
            seq: mailbox.next,
        })));
        self.sockets.insert(device, push);
    }

    fn frame(&mut self, device: DeviceAddress, received: wardline_wire::proto::ClientFrame) {
        match received.frame {
            Some(FromDevice::Send(send)) => {
                let result = self.take(device, &send);
                self.sends.push((device, send));
                if !self.keep_results
                    && let Some(socket) = self.sockets.get(&device)
                {
                    let _ = socket.send(frame(ToDevice::SendResult(result)));
                }
            }
            Some(FromDevice::Acknowledge(ack)) if !self.keep_acknowledgements => {
                if let Some(mailbox) = self.mailboxes.get_mut(&device) {
                    mailbox.envelopes.retain(|envelope| envelope.seq > ack.seq);
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, sender: DeviceAddress, send: &Send) -> SendResult {
        let mut results = Vec::new();
        for recipient in &send.recipients {
            let account = AccountId::from_slice(&recipient.account_id).unwrap();
            let key = (sender, send.send_id.clone(), recipient.account_id.clone());
            let hash: [u8; 32] = Sha256::digest(recipient.encode_to_vec()).into();
            let answer = match self.taken.get(&key) {
                Some(known) if *known == hash => Answer::Accepted(Accepted {}),
                Some(_) => Answer::Conflict(wardline_wire::proto::Conflict {}),
                None => {
                    if let Some(mismatch) = self.mismatch(sender, account, recipient) {
                        Answer::Mismatch(mismatch)
                    } else {
                        if !send.ephemeral {
                            self.taken.insert(key, hash);
                        }
                        for ciphertext in &recipient.ciphertexts {
                            self.post(sender, account, ciphertext, send.ephemeral);
                        }
                        Answer::Accepted(Accepted {})
                    }
                }
            };
            results.push(RecipientResult {
                account_id: recipient.account_id.clone(),
                result: Some(answer),
            });
        }
        SendResult {
            send_id: send.send_id.clone(),
            results,
        }
    }

    fn mismatch(
        &self,
        sender: DeviceAddress,
        account: AccountId,
        recipient: &wardline_wire::proto::SendRecipient,
    ) -> Option<Mismatch> {
        let listed = self.devices(account);
        let given: Vec<u32> = recipient.ciphertexts.iter().map(|c| c.device_id).collect();
        let missing: Vec<u32> = listed
            .iter()
            .map(|device| device.id)
            .filter(|id| account != sender.account || *id != u32::from(sender.device))
            .filter(|id| !given.contains(id))
            .collect();
        let extra: Vec<u32> = given
            .iter()
            .copied()
            .filter(|id| listed.iter().all(|device| device.id != *id))
            .collect();
        (!missing.is_empty() || !extra.is_empty()).then_some(Mismatch {
            missing,
            extra,
            stale: Vec::new(),
        })
    }

    fn post(
        &mut self,
        sender: DeviceAddress,
        account: AccountId,
        ciphertext: &wardline_wire::proto::DeviceCiphertext,
        ephemeral: bool,
    ) {
        let address = DeviceAddress {
            account,
            device: DeviceId::new(ciphertext.device_id).unwrap(),
        };
        let mailbox = self.mailboxes.entry(address).or_default();
        let mut envelope = Envelope {
            seq: 0,
            sender_account_id: sender.account.to_vec().into(),
            sender_device_id: sender.device.into(),
            r#type: ciphertext.r#type,
            ciphertext: ciphertext.ciphertext.clone(),
            ephemeral,
        };
        if !ephemeral {
            mailbox.next += 1;
            envelope.seq = mailbox.next;
            mailbox.envelopes.push(envelope.clone());
        }
        if let Some(socket) = self.sockets.get(&address) {
            let _ = socket.send(frame(ToDevice::Deliver(Deliver {
                epoch: self.epoch,
                envelopes: vec![envelope],
            })));
        }
    }
}

fn frame(frame: ToDevice) -> ServerFrame {
    ServerFrame { frame: Some(frame) }
}

fn decode<T: prost::Message + Default>(body: &[u8]) -> Result<T, ProblemKind> {
    T::decode(body).map_err(|_| ProblemKind::Malformed)
}
