//! A relay that keeps what it is told and shows what a test wants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use ed25519_dalek::VerifyingKey;
use prost::Message;
use wardline_wire::clock::{Clock, ManualClock};
use wardline_wire::directory::{TrustAnchor, VerifiedIssuer};
use wardline_wire::problem::{Problem, ProblemKind};
use wardline_wire::proto::{
    AccountRecord, Challenge, Deployment, EnrolmentDecision, InviteAdmission, PendingEnrolment,
    PendingEnrolments, RevocationBundle, SignedBlob, Token, TokenRequest,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

/// What the double keeps and how it behaves.
pub(crate) struct Desk {
    pub(crate) anchor: TrustAnchor,
    /// The root key it shows.
    pub(crate) shown_root: VerifyingKey,
    pub(crate) admitted: BTreeMap<String, InviteAdmission>,
    pub(crate) pending: Vec<PendingEnrolment>,
    pub(crate) accounts: BTreeMap<String, AccountRecord>,
    pub(crate) decisions: Vec<EnrolmentDecision>,
    pub(crate) revocations: Option<RevocationBundle>,
    pub(crate) issuers: Vec<SignedBlob>,
    /// Answers everything with this status.
    pub(crate) broken: Option<StatusCode>,
    /// Answers decisions with this status, after noting them.
    pub(crate) decisions_break: Option<StatusCode>,
    /// Takes the next revocation list to be out of date.
    pub(crate) lists_conflict: u32,
    token: u32,
    pub(crate) logins: u32,
}

#[derive(Clone)]
pub(crate) struct Double {
    desk: Arc<Mutex<Desk>>,
    clock: ManualClock,
    pub(crate) url: String,
}

const NONCE: [u8; 32] = [0x4E; 32];

impl Double {
    pub(crate) async fn start(anchor: TrustAnchor, clock: ManualClock) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let double = Self {
            desk: Arc::new(Mutex::new(Desk {
                shown_root: *anchor.root(),
                anchor,
                admitted: BTreeMap::new(),
                pending: Vec::new(),
                accounts: BTreeMap::new(),
                decisions: Vec::new(),
                revocations: None,
                issuers: Vec::new(),
                broken: None,
                decisions_break: None,
                lists_conflict: 0,
                token: 0,
                logins: 0,
            })),
            clock,
            url,
        };
        let router = Router::new()
            .route("/v1/deployment", get(deployment))
            .route("/v1/auth/challenge", post(challenge))
            .route("/v1/auth/token", post(token))
            .route("/v1/issuer/invites/{id}", put(admit))
            .route("/v1/issuer/enrolments", get(enrolments))
            .route("/v1/issuer/decisions", post(decide))
            .route("/v1/issuer/revocations", put(publish_revocations))
            .route("/v1/issuer/issuers", put(publish_issuer))
            .route("/v1/revocations", get(revocations))
            .route("/v1/accounts/{id}", get(account))
            .with_state(double.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        double
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    /// Forgets every token, as a restarted relay does.
    pub(crate) fn forget_tokens(&self) {
        self.desk().token += 1000;
    }

    fn logged_in(&self, headers: &HeaderMap) -> Result<MutexGuard<'_, Desk>, Response> {
        let desk = self.desk();
        if let Some(status) = desk.broken {
            return Err(status.into_response());
        }
        let expected = format!("Bearer token-{}", desk.token);
        if headers
            .get("authorization")
            .is_some_and(|value| value == expected.as_str())
        {
            Ok(desk)
        } else {
            Err(problem(ProblemKind::Unauthorized))
        }
    }
}

fn problem(kind: ProblemKind) -> Response {
    let status = StatusCode::from_u16(kind.status()).unwrap();
    (status, Json(Problem::new(kind, "says the double"))).into_response()
}

fn reply(message: &impl Message) -> Response {
    (
        [("content-type", "application/x-protobuf")],
        message.encode_to_vec(),
    )
        .into_response()
}

fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

async fn deployment(State(double): State<Double>) -> Response {
    let desk = double.desk();
    if let Some(status) = desk.broken {
        return status.into_response();
    }
    reply(&Deployment {
        deployment_id: desk.anchor.deployment().to_vec(),
        root_key: desk.shown_root.to_bytes().to_vec(),
        issuers: desk.issuers.clone(),
    })
}

async fn challenge(State(double): State<Double>) -> Response {
    if let Some(status) = double.desk().broken {
        return status.into_response();
    }
    reply(&Challenge {
        nonce: NONCE.to_vec(),
        valid_for_ms: 1000,
    })
}

async fn token(State(double): State<Double>, body: Bytes) -> Response {
    let request = TokenRequest::decode(body).unwrap();
    let now = double.clock.now();
    let mut desk = double.desk();
    let issuer = request.issuer.unwrap();
    let Ok(issuer) = VerifiedIssuer::verify(&issuer, &desk.anchor, now) else {
        return problem(ProblemKind::Unauthorized);
    };
    let login = request.login.unwrap();
    let payload = login
        .verify(SignedKind::Login, desk.anchor.deployment(), issuer.key())
        .unwrap();
    let login = wardline_wire::proto::Login::decode(payload).unwrap();
    assert_eq!(login.nonce, NONCE);
    assert_eq!(login.issuer_serial, issuer.serial().as_bytes());
    desk.token += 1;
    desk.logins += 1;
    reply(&Token {
        token: format!("token-{}", desk.token),
        ..Token::default()
    })
}

async fn admit(
    State(double): State<Double>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut desk = match double.logged_in(&headers) {
        Ok(desk) => desk,
        Err(refused) => return refused,
    };
    let admission = InviteAdmission::decode(body).unwrap();
    assert_eq!(hex::encode(&admission.invite_id), id);
    desk.admitted.insert(id, admission);
    done()
}

async fn enrolments(State(double): State<Double>, headers: HeaderMap) -> Response {
    match double.logged_in(&headers) {
        Ok(desk) => reply(&PendingEnrolments {
            enrolments: desk.pending.clone(),
        }),
        Err(refused) => refused,
    }
}

async fn decide(State(double): State<Double>, headers: HeaderMap, body: Bytes) -> Response {
    let mut desk = match double.logged_in(&headers) {
        Ok(desk) => desk,
        Err(refused) => return refused,
    };
    let decision = EnrolmentDecision::decode(body).unwrap();
    desk.decisions.push(decision.clone());
    if let Some(status) = desk.decisions_break {
        return status.into_response();
    }
    desk.pending.retain(|pending| {
        pending
            .request
            .as_ref()
            .is_some_and(|request| request.account_id != decision.account_id)
    });
    done()
}

async fn publish_revocations(
    State(double): State<Double>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut desk = match double.logged_in(&headers) {
        Ok(desk) => desk,
        Err(refused) => return refused,
    };
    if desk.lists_conflict > 0 {
        desk.lists_conflict -= 1;
        return problem(ProblemKind::Conflict);
    }
    desk.revocations = Some(RevocationBundle::decode(body).unwrap());
    done()
}

async fn publish_issuer(State(double): State<Double>, headers: HeaderMap, body: Bytes) -> Response {
    let mut desk = match double.logged_in(&headers) {
        Ok(desk) => desk,
        Err(refused) => return refused,
    };
    desk.issuers.push(SignedBlob::decode(body).unwrap());
    done()
}

async fn revocations(State(double): State<Double>, headers: HeaderMap) -> Response {
    match double.logged_in(&headers) {
        Ok(desk) => match &desk.revocations {
            Some(bundle) => reply(bundle),
            None => problem(ProblemKind::NotFound),
        },
        Err(refused) => refused,
    }
}

async fn account(
    State(double): State<Double>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    match double.logged_in(&headers) {
        Ok(desk) => match desk.accounts.get(&id) {
            Some(record) => reply(record),
            None => problem(ProblemKind::NotFound),
        },
        Err(refused) => refused,
    }
}
