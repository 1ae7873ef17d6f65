//! The relay's set-up calls with their types, and the log-in.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use prost::Message;
use tokio::sync::Mutex;
use tokio::time::Instant;
use wardline_wire::directory::Handle;
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress};
use wardline_wire::problem::{Problem, ProblemKind};
use wardline_wire::proto::{
    AccessKeyUpdate, AccountRecord, BundleRequest, BundleSet, Challenge, ChallengeRequest,
    Deployment, EnrolmentRequest, InviteAdmission, Login, PreKeyStock, PreKeyUpload,
    RevocationBundle, SignedBlob, Token, TokenRequest,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use crate::transport::{Method, Request, Response, Socket, Transport, TransportError};

/// A token is renewed when this part of its life is left.
const RENEW_AT_FRACTION: u32 = 5;

/// Why a set-up call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RelayError {
    /// It did not get through.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The relay said no.
    #[error("{}", problem_sentence(*.kind, .detail))]
    Refused {
        /// Which no.
        kind: ProblemKind,
        /// The relay's own words; may be empty.
        detail: String,
        /// When to come back, if limited; milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// It said no without a problem document.
    #[error("the relay answered HTTP {0} without a reason")]
    Status(u16),
    /// The answer cannot be read.
    #[error("the relay's answer cannot be read")]
    Malformed,
}

impl RelayError {
    /// The kind of refusal, if it is one.
    pub fn kind(&self) -> Option<ProblemKind> {
        match self {
            Self::Refused { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    /// Whether trying again later may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Transport(TransportError::Untrusted(_) | TransportError::Address)
            | Self::Malformed => false,
            Self::Transport(_) => true,
            Self::Refused { kind, .. } => matches!(
                kind,
                ProblemKind::Limited
                    | ProblemKind::Unavailable
                    | ProblemKind::Internal
                    | ProblemKind::Unauthorized
            ),
            Self::Status(status) => *status >= 500,
        }
    }
}

fn problem_sentence(kind: ProblemKind, detail: &str) -> String {
    if detail.is_empty() {
        format!("the relay refused: {}", kind.title())
    } else {
        format!("the relay refused: {detail}")
    }
}

fn accept(response: Response) -> Result<bytes::Bytes, RelayError> {
    if (200..300).contains(&response.status) {
        return Ok(response.body);
    }
    match serde_json::from_slice::<Problem>(&response.body) {
        Ok(problem) => match problem.kind() {
            Some(kind) => Err(RelayError::Refused {
                kind,
                detail: clean(&problem.detail.unwrap_or_default()),
                retry_after_ms: problem.retry_after_ms,
            }),
            None => Err(RelayError::Status(response.status)),
        },
        Err(_) => Err(RelayError::Status(response.status)),
    }
}

/// The relay's words end on a terminal: no control characters, no novels.
fn clean(detail: &str) -> String {
    detail
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect()
}

fn decode<T: Message + Default>(body: bytes::Bytes) -> Result<T, RelayError> {
    T::decode(body).map_err(|_| RelayError::Malformed)
}

async fn open_call<T: Message + Default>(
    transport: &dyn Transport,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<T, RelayError> {
    let request = Request {
        method,
        path: path.to_owned(),
        token: None,
        body,
    };
    decode(accept(transport.request(request).await?)?)
}

/// `GET /v1/deployment`.
pub(crate) async fn deployment(transport: &dyn Transport) -> Result<Deployment, RelayError> {
    open_call(transport, Method::Get, "/v1/deployment", Vec::new()).await
}

/// `POST /v1/enrolments`.
pub(crate) async fn enrol(
    transport: &dyn Transport,
    request: &EnrolmentRequest,
) -> Result<AccountRecord, RelayError> {
    open_call(
        transport,
        Method::Post,
        "/v1/enrolments",
        request.encode_to_vec(),
    )
    .await
}

struct CachedToken {
    token: String,
    expires: Instant,
    renew: Instant,
}

/// The relay as one device sees it, with a log-in that renews itself.
pub(crate) struct Relay {
    transport: Arc<dyn Transport>,
    deployment: DeploymentId,
    address: DeviceAddress,
    device_key: SigningKey,
    token: Mutex<Option<CachedToken>>,
}

impl Relay {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        deployment: DeploymentId,
        address: DeviceAddress,
        device_key: SigningKey,
    ) -> Self {
        Self {
            transport,
            deployment,
            address,
            device_key,
            token: Mutex::new(None),
        }
    }

    /// A token that is good for a while yet, and for how long.
    pub(crate) async fn token(&self) -> Result<(String, Duration), RelayError> {
        let mut cached = self.token.lock().await;
        let now = Instant::now();
        if let Some(token) = cached.as_ref().filter(|token| token.renew > now) {
            return Ok((token.token.clone(), token.expires - now));
        }
        let token = self.log_in().await?;
        let life = Duration::from_millis(u64::from(token.valid_for_ms));
        let text = token.token;
        *cached = Some(CachedToken {
            token: text.clone(),
            expires: now + life,
            renew: now + life - life / RENEW_AT_FRACTION,
        });
        Ok((text, life))
    }

    /// Forgets the token, so that the next call logs in.
    pub(crate) async fn forget_token(&self) {
        *self.token.lock().await = None;
    }

    async fn log_in(&self) -> Result<Token, RelayError> {
        let who = ChallengeRequest {
            account_id: self.address.account.to_vec(),
            device_id: self.address.device.into(),
        };
        let challenge: Challenge = open_call(
            &*self.transport,
            Method::Post,
            "/v1/auth/challenge",
            who.encode_to_vec(),
        )
        .await?;
        let login = Login {
            nonce: challenge.nonce,
            account_id: who.account_id,
            device_id: who.device_id,
            issuer_serial: Vec::new(),
        };
        let request = TokenRequest {
            login: Some(SignedBlob::sign(
                SignedKind::Login,
                self.deployment,
                login.encode_to_vec(),
                &self.device_key,
            )),
            issuer: None,
        };
        open_call(
            &*self.transport,
            Method::Post,
            "/v1/auth/token",
            request.encode_to_vec(),
        )
        .await
    }

    async fn call(
        &self,
        method: Method,
        path: String,
        body: Vec<u8>,
    ) -> Result<bytes::Bytes, RelayError> {
        let mut fresh = false;
        loop {
            let (token, _) = self.token().await?;
            let request = Request {
                method,
                path: path.clone(),
                token: Some(token),
                body: body.clone(),
            };
            match accept(self.transport.request(request).await?) {
                Err(error) if error.kind() == Some(ProblemKind::Unauthorized) && !fresh => {
                    fresh = true;
                    self.forget_token().await;
                }
                answer => return answer,
            }
        }
    }

    /// `GET /v1/socket`, upgraded; with the time the token has left.
    pub(crate) async fn open_socket(&self) -> Result<(Socket, Duration), RelayError> {
        let (token, life) = self.token().await?;
        match self.transport.open_socket(token).await {
            Ok(socket) => Ok((socket, life)),
            Err(error) => {
                if matches!(error, TransportError::Refused(401)) {
                    self.forget_token().await;
                }
                Err(error.into())
            }
        }
    }

    /// `GET /v1/accounts/{id}`.
    pub(crate) async fn account(&self, account: AccountId) -> Result<AccountRecord, RelayError> {
        let path = format!("/v1/accounts/{account}");
        decode(self.call(Method::Get, path, Vec::new()).await?)
    }

    /// `GET /v1/handles/{handle}`.
    pub(crate) async fn handle(&self, handle: &Handle) -> Result<AccountRecord, RelayError> {
        let path = format!("/v1/handles/{}", handle.as_str());
        decode(self.call(Method::Get, path, Vec::new()).await?)
    }

    /// `PUT /v1/accounts/me/device-list`.
    pub(crate) async fn put_device_list(&self, list: &SignedBlob) -> Result<(), RelayError> {
        let path = "/v1/accounts/me/device-list".to_owned();
        self.call(Method::Put, path, list.encode_to_vec())
            .await
            .map(drop)
    }

    /// `PUT /v1/accounts/me/access-key`.
    pub(crate) async fn put_access_key(&self, sha256: [u8; 32]) -> Result<(), RelayError> {
        let body = AccessKeyUpdate {
            access_key_sha256: sha256.to_vec(),
        };
        let path = "/v1/accounts/me/access-key".to_owned();
        self.call(Method::Put, path, body.encode_to_vec())
            .await
            .map(drop)
    }

    /// `PUT /v1/keys`.
    pub(crate) async fn put_keys(&self, upload: &PreKeyUpload) -> Result<PreKeyStock, RelayError> {
        let path = "/v1/keys".to_owned();
        decode(self.call(Method::Put, path, upload.encode_to_vec()).await?)
    }

    /// `GET /v1/keys`.
    pub(crate) async fn stock(&self) -> Result<PreKeyStock, RelayError> {
        decode(
            self.call(Method::Get, "/v1/keys".to_owned(), Vec::new())
                .await?,
        )
    }

    /// `POST /v1/keys/fetch`.
    pub(crate) async fn bundles(&self, request: &BundleRequest) -> Result<BundleSet, RelayError> {
        let path = "/v1/keys/fetch".to_owned();
        decode(
            self.call(Method::Post, path, request.encode_to_vec())
                .await?,
        )
    }

    /// `POST /v1/invites`.
    pub(crate) async fn admit(&self, invite: &InviteAdmission) -> Result<(), RelayError> {
        let path = "/v1/invites".to_owned();
        self.call(Method::Post, path, invite.encode_to_vec())
            .await
            .map(drop)
    }

    /// `GET /v1/revocations`; `None` when the clinic has published none yet.
    pub(crate) async fn revocations(&self) -> Result<Option<RevocationBundle>, RelayError> {
        match self
            .call(Method::Get, "/v1/revocations".to_owned(), Vec::new())
            .await
        {
            Ok(body) => decode(body).map(Some),
            Err(error) if error.kind() == Some(ProblemKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `GET /v1/deployment` again, for the current issuers.
    pub(crate) async fn deployment(&self) -> Result<Deployment, RelayError> {
        deployment(&*self.transport).await
    }
}
