//! `POST /v1/issuer/decisions`: certifies or rejects an account.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use prost::Message as _;
use wardline_wire::directory::{Handle, VerifiedCertificate, VerifiedIssuer};
use wardline_wire::ids::AccountId;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{CertificateChain, EnrolmentDecision};

use super::super::{account_field, missing, no_such_account};
use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::Proto;
use crate::hub::Ending;
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::{Certified, NewCertificate, Rejected};
use crate::telemetry::Obfuscated;

pub(crate) const ROUTE: Route = Route {
    method: "POST",
    path: "/v1/issuer/decisions",
    action: Action::DecideEnrolment,
    summary: "Certifies an account (or renews its certificate), or rejects a pending one. The \
              relay verifies the chain to the root before it stores it.",
    request: Some("EnrolmentDecision"),
    replies: &[(204, "")],
    problems: &[
        ProblemKind::Invalid,
        ProblemKind::NotFound,
        ProblemKind::Conflict,
    ],
    handler: || post(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Proto { message, .. }: Proto<EnrolmentDecision>,
) -> Result<StatusCode, Refusal> {
    let account = account_field(&message.account_id, "account_id")?;
    match message.certificate {
        Some(chain) => certify(&app, account, &chain).await,
        None => reject(&app, account).await,
    }
}

async fn certify(
    app: &App,
    account: AccountId,
    chain: &CertificateChain,
) -> Result<StatusCode, Refusal> {
    let now = app.clock.now();
    let anchor = app.directory.anchor();
    let revocations = app.directory.revocations();
    let refused = |error: &dyn std::error::Error| Refusal::invalid(format!("certificate: {error}"));
    let certificate =
        VerifiedCertificate::verify(chain, account, anchor, revocations.as_deref(), now)
            .map_err(|error| refused(&error))?;
    let issuer = chain
        .issuer
        .as_ref()
        .ok_or_else(|| missing("certificate.issuer"))?;
    let issuer = VerifiedIssuer::verify(issuer, anchor, now).map_err(|error| refused(&error))?;
    let stored = app
        .store
        .account(account, now)
        .await?
        .ok_or_else(no_such_account)?;
    if certificate.account_key().as_bytes() != &stored.account_key {
        return Err(Refusal::new(
            ProblemKind::Conflict,
            "the certificate names another account key than the account enrolled with",
        ));
    }
    let outcome = app
        .store
        .certify(&NewCertificate {
            account,
            chain: chain.encode_to_vec(),
            serial: certificate.serial(),
            issuer: certificate.issuer(),
            role: certificate.role(),
            handle: certificate.handle().map(Handle::as_str).map(str::to_owned),
            until: certificate.not_after().min(issuer.not_after()),
        })
        .await?;
    match outcome {
        Certified::Stored { sessions_end } => {
            tracing::info!(account = %Obfuscated(account.as_bytes()), "certified");
            if sessions_end {
                app.hub.end_account(account, Ending::Changed);
            }
            Ok(StatusCode::NO_CONTENT)
        }
        Certified::UnknownAccount => Err(no_such_account()),
        Certified::HandleTaken => Err(Refusal::new(
            ProblemKind::Conflict,
            "another account has this handle; revoke that one first, or choose another handle",
        )),
    }
}

async fn reject(app: &App, account: AccountId) -> Result<StatusCode, Refusal> {
    match app.store.reject(account).await? {
        Rejected::Done => {
            tracing::info!(account = %Obfuscated(account.as_bytes()), "rejected");
            app.hub.end_account(account, Ending::Revoked);
            Ok(StatusCode::NO_CONTENT)
        }
        Rejected::UnknownAccount => Err(no_such_account()),
        Rejected::Certified => Err(Refusal::new(
            ProblemKind::Conflict,
            "this account is certified; publish a revocation list instead",
        )),
    }
}
