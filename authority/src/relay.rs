//! The relay, as an issuer sees it: HTTP with protobuf bodies, its TLS key pinned.

use std::sync::Mutex;
use std::time::Duration;

use prost::Message;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use wardline_tls::PinMismatch;
use wardline_wire::directory::TrustAnchor;
use wardline_wire::ids::{AccountId, InviteId, Serial};
use wardline_wire::invite::check_relay_url;
use wardline_wire::problem::{Problem, ProblemKind};
use wardline_wire::proto::{
    AccountRecord, CertificateChain, Challenge, ChallengeRequest, Deployment, EnrolmentDecision,
    InviteAdmission, Login, PendingEnrolments, RevocationBundle, SignedBlob, Token, TokenRequest,
};

use crate::issuer::Issuer;

const PROTOBUF: &str = "application/x-protobuf";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer: a full desk of enrolments with their sealed requests.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Problem documents are short.
const MAX_PROBLEM_BYTES: usize = 16 * 1024;

/// Why the relay did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address is none.
    #[error(
        "\"{0}\" is no relay address: it is https://host[:port], or http://host[:port] on this machine itself"
    )]
    Url(String),
    /// A key is pinned but the address has no TLS.
    #[error("a relay key is given, but the address is http: use https, or leave the key out")]
    KeyWithoutTls,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] wardline_tls::TlsError),
    /// No connection, or it broke.
    #[error("the relay cannot be reached: {0}")]
    Unreachable(String),
    /// It has another TLS key.
    #[error(transparent)]
    OtherKey(PinMismatch),
    /// It serves another clinic.
    #[error("the relay serves another deployment or root; check its address and deployment.toml")]
    OtherDeployment,
    /// It said no.
    #[error("the relay answered {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What kind of problem, if it said.
        kind: Option<ProblemKind>,
        /// Its words.
        text: String,
        /// How long to wait, if it said.
        retry_after_ms: Option<u64>,
    },
    /// Its answer cannot be read.
    #[error("the relay's answer cannot be read: {0}")]
    Answer(&'static str),
}

impl RelayError {
    /// Whether the same request may succeed later without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Answer(_) => true,
            Self::Refused { status, .. } => *status == 401 || *status == 429 || *status >= 500,
            Self::Url(_)
            | Self::KeyWithoutTls
            | Self::Tls(_)
            | Self::OtherKey(_)
            | Self::OtherDeployment => false,
        }
    }

    /// The kind of problem that the relay named.
    pub fn problem(&self) -> Option<ProblemKind> {
        match self {
            Self::Refused { kind, .. } => *kind,
            _ => None,
        }
    }
}

type Result<T, E = RelayError> = std::result::Result<T, E>;

/// A relay, not logged in yet.
pub struct Relay {
    base: String,
    http: reqwest::Client,
    anchor: TrustAnchor,
    /// The token at hand, and whose it is: a revoked issuer's counts no more.
    token: Mutex<Option<(Serial, String)>>,
}

impl Relay {
    /// Prepares to talk to the relay at `url`, whose TLS key must have the SHA-256
    /// `pin` if one is given. Nothing is sent yet. Proxies are not used and
    /// redirections not followed.
    ///
    /// # Errors
    /// [`RelayError::Url`], [`RelayError::KeyWithoutTls`] or [`RelayError::Tls`].
    pub fn new(url: &str, pin: Option<[u8; 32]>, anchor: TrustAnchor) -> Result<Self> {
        let base = url.strip_suffix('/').unwrap_or(url);
        if !check_relay_url(base) {
            return Err(RelayError::Url(url.to_owned()));
        }
        let secure = base.starts_with("https://");
        if pin.is_some() && !secure {
            return Err(RelayError::KeyWithoutTls);
        }
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .https_only(secure);
        // Plain HTTP on this machine does not need the platform's authorities to be there.
        let tls = if secure { pin } else { Some([0; 32]) };
        builder = builder.tls_backend_preconfigured(wardline_tls::client_config(tls)?);
        let http = builder
            .build()
            .map_err(|error| RelayError::Unreachable(describe(&error)))?;
        Ok(Self {
            base: base.to_owned(),
            http,
            anchor,
            token: Mutex::new(None),
        })
    }

    /// Checks that the relay serves this deployment under this root.
    ///
    /// # Errors
    /// [`RelayError::OtherDeployment`], or why it could not be asked.
    pub async fn check_deployment(&self) -> Result<()> {
        let answer: Deployment = self
            .once(
                Method::GET,
                "/v1/deployment",
                None,
                None,
                MAX_PROBLEM_BYTES * 16,
            )
            .await?;
        if answer.deployment_id == self.anchor.deployment().as_bytes()
            && answer.root_key == self.anchor.root().as_bytes()
        {
            Ok(())
        } else {
            Err(RelayError::OtherDeployment)
        }
    }

    /// Tells the relay that whoever names this invite may enrol.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn admit(
        &self,
        issuer: &Issuer,
        invite: InviteId,
        admission: &InviteAdmission,
    ) -> Result<()> {
        let path = format!("/v1/issuer/invites/{invite}");
        self.tell(issuer, Method::PUT, &path, admission).await
    }

    /// The enrolments that wait for a decision.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn enrolments(&self, issuer: &Issuer) -> Result<PendingEnrolments> {
        self.ask(issuer, "/v1/issuer/enrolments").await
    }

    /// Certifies an account, or rejects it (`None`).
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn decide(
        &self,
        issuer: &Issuer,
        account: AccountId,
        certificate: Option<CertificateChain>,
    ) -> Result<()> {
        let decision = EnrolmentDecision {
            account_id: account.to_vec(),
            certificate,
        };
        self.tell(issuer, Method::POST, "/v1/issuer/decisions", &decision)
            .await
    }

    /// What the relay has on an account; `None` when it has nothing.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn account(&self, issuer: &Issuer, id: AccountId) -> Result<Option<AccountRecord>> {
        found(self.ask(issuer, &format!("/v1/accounts/{id}")).await)
    }

    /// The revocation list that the relay hands out; `None` when it has none.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn revocations(&self, issuer: &Issuer) -> Result<Option<RevocationBundle>> {
        found(self.ask(issuer, "/v1/revocations").await)
    }

    /// Publishes a revocation list.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn publish_revocations(
        &self,
        issuer: &Issuer,
        bundle: &RevocationBundle,
    ) -> Result<()> {
        self.tell(issuer, Method::PUT, "/v1/issuer/revocations", bundle)
            .await
    }

    /// Publishes an issuer, so that endpoints find it.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn publish_issuer(&self, issuer: &Issuer, published: &SignedBlob) -> Result<()> {
        self.tell(issuer, Method::PUT, "/v1/issuer/issuers", published)
            .await
    }

    async fn ask<A: Message + Default>(&self, issuer: &Issuer, path: &str) -> Result<A> {
        self.logged_in(issuer, Method::GET, path, None).await
    }

    async fn tell(
        &self,
        issuer: &Issuer,
        method: Method,
        path: &str,
        body: &impl Message,
    ) -> Result<()> {
        // An answer to these has no body; an empty message reads it.
        let body = body.encode_to_vec();
        let _: ChallengeRequest = self.logged_in(issuer, method, path, Some(body)).await?;
        Ok(())
    }

    /// With the token at hand; once more with a new one when that was refused.
    async fn logged_in<A: Message + Default>(
        &self,
        issuer: &Issuer,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<A> {
        if let Some(token) = self.known_token(issuer.serial()) {
            let answer = self
                .once(
                    method.clone(),
                    path,
                    body.clone(),
                    Some(&token),
                    MAX_ANSWER_BYTES,
                )
                .await;
            match answer {
                Err(RelayError::Refused { status: 401, .. }) => {}
                other => return other,
            }
        }
        let token = self.log_in(issuer).await?;
        self.once(method, path, body, Some(&token), MAX_ANSWER_BYTES)
            .await
    }

    fn known_token(&self, issuer: Serial) -> Option<String> {
        let known = self.token.lock().ok()?;
        let (owner, token) = known.as_ref()?;
        (*owner == issuer).then(|| token.clone())
    }

    async fn log_in(&self, issuer: &Issuer) -> Result<String> {
        let body = ChallengeRequest::default().encode_to_vec();
        let challenge: Challenge = self
            .once(
                Method::POST,
                "/v1/auth/challenge",
                Some(body),
                None,
                MAX_PROBLEM_BYTES,
            )
            .await?;
        if challenge.nonce.len() != 32 {
            return Err(RelayError::Answer("the challenge has no nonce of 32 bytes"));
        }
        let login = Login {
            nonce: challenge.nonce,
            issuer_serial: issuer.serial().to_vec(),
            ..Login::default()
        };
        let request = TokenRequest {
            login: Some(issuer.sign_login(self.anchor.deployment(), login.encode_to_vec())),
            issuer: Some(issuer.blob().clone()),
        };
        let body = request.encode_to_vec();
        let answer: Token = self
            .once(
                Method::POST,
                "/v1/auth/token",
                Some(body),
                None,
                MAX_PROBLEM_BYTES,
            )
            .await?;
        if let Ok(mut token) = self.token.lock() {
            *token = Some((issuer.serial(), answer.token.clone()));
        }
        Ok(answer.token)
    }

    async fn once<A: Message + Default>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        token: Option<&str>,
        max_bytes: usize,
    ) -> Result<A> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header(ACCEPT, PROTOBUF);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, PROTOBUF).body(body);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refused(status, &read(answer, MAX_PROBLEM_BYTES).await?));
        }
        let body = read(answer, max_bytes).await?;
        A::decode(body.as_slice()).map_err(|_| RelayError::Answer("it is not the expected message"))
    }
}

fn found<A>(answer: Result<A>) -> Result<Option<A>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(RelayError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read(mut answer: reqwest::Response, max_bytes: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + chunk.len() > max_bytes {
            return Err(RelayError::Answer("it is too large"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn refused(status: StatusCode, body: &[u8]) -> RelayError {
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let kind = problem.as_ref().and_then(Problem::kind);
    let retry_after_ms = problem.as_ref().and_then(|problem| problem.retry_after_ms);
    // The relay's words go to a terminal or a log: plain and short.
    let text = problem.map_or_else(
        || {
            status
                .canonical_reason()
                .unwrap_or("no reason given")
                .to_owned()
        },
        |problem| problem.detail.unwrap_or(problem.title),
    );
    let text = text
        .chars()
        .filter(|letter| !letter.is_control())
        .take(300)
        .collect();
    RelayError::Refused {
        status: status.as_u16(),
        kind,
        text,
        retry_after_ms,
    }
}

fn unreachable(error: &reqwest::Error) -> RelayError {
    match wardline_tls::find_pin_mismatch(error) {
        Some(mismatch) => RelayError::OtherKey(mismatch),
        None => RelayError::Unreachable(describe(error)),
    }
}

/// The innermost cause: "connection refused" says more than "error sending request".
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    for _ in 0..16 {
        let Some(inner) = source else { break };
        text = inner.to_string();
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use wardline_wire::ids::DeploymentId;

    use super::*;

    fn anchor() -> TrustAnchor {
        let root = SigningKey::from_bytes(&[1; 32]).verifying_key();
        TrustAnchor::new(DeploymentId::from([1; 16]), root)
    }

    #[test]
    fn a_key_is_never_ignored_and_plain_http_never_leaves_the_machine() {
        let made = |url, pin| Relay::new(url, pin, anchor()).map(|_| ());
        assert!(made("https://relay.example", Some([1; 32])).is_ok());
        assert!(made("http://127.0.0.1:8080", None).is_ok());
        assert!(made("http://127.0.0.1:8080/", None).is_ok());
        assert!(matches!(
            made("http://127.0.0.1:8080", Some([1; 32])),
            Err(RelayError::KeyWithoutTls)
        ));
        for bad in ["http://relay.example", "relay.example", "https://a/b"] {
            assert!(matches!(made(bad, None), Err(RelayError::Url(_))), "{bad}");
        }
    }

    #[test]
    fn refusals_are_read_and_cleaned() {
        let problem = Problem::new(ProblemKind::Conflict, "taken\u{1b}[31m");
        let body = serde_json::to_vec(&problem).unwrap();
        let error = refused(StatusCode::CONFLICT, &body);
        assert_eq!(error.problem(), Some(ProblemKind::Conflict));
        assert_eq!(error.to_string(), "the relay answered 409: taken[31m");
        assert!(!error.is_passing());
        let error = refused(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(error.to_string(), "the relay answered 502: Bad Gateway");
        assert!(error.is_passing());
    }
}
