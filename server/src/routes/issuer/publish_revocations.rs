//! `PUT /v1/issuer/revocations`: puts a revocation list in force.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use prost::Message as _;
use wardline_wire::directory::{VerifiedIssuer, VerifiedRevocations};
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::RevocationBundle;

use crate::app::App;
use crate::auth::matrix::Action;
use crate::body::Proto;
use crate::hub::Ending;
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::NewRevocations;

pub(crate) const ROUTE: Route = Route {
    method: "PUT",
    path: "/v1/issuer/revocations",
    action: Action::PublishRevocations,
    summary: "Puts a revocation list in force: it must lead to the root, be no older than the \
              one in force and take nothing back. Sessions of whoever it covers end at once.",
    request: Some("RevocationBundle"),
    replies: &[(204, "")],
    problems: &[ProblemKind::Invalid, ProblemKind::Conflict],
    handler: || put(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    Proto { message, .. }: Proto<RevocationBundle>,
) -> Result<StatusCode, Refusal> {
    let now = app.clock.now();
    let anchor = app.directory.anchor();
    let list = VerifiedRevocations::verify(&message, anchor, now)
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    if let Some(known) = app.directory.revocations() {
        list.check_replaces(&known)
            .map_err(|error| Refusal::new(ProblemKind::Conflict, error.to_string()))?;
        // A revoked issuer must not be the one to write the next list.
        let issuer = message
            .issuer
            .as_ref()
            .map(|blob| VerifiedIssuer::verify(blob, anchor, now).map(|issuer| issuer.serial()));
        if let Some(Ok(serial)) = issuer
            && known.covers_issuer(serial)
        {
            return Err(Refusal::new(
                ProblemKind::Conflict,
                "the issuer that signed this list was revoked",
            ));
        }
    }
    let affected = app
        .store
        .revoke(&NewRevocations {
            number: list.number(),
            bundle: message.encode_to_vec(),
            accounts: list.accounts().collect(),
            certificates: list.certificates().collect(),
            issuers: list.issuers().collect(),
        })
        .await?
        .ok_or_else(|| {
            Refusal::new(ProblemKind::Conflict, "a newer revocation list is in force")
        })?;
    tracing::info!(
        number = list.number(),
        sessions_ended_of = affected.len(),
        "revocations in force"
    );
    app.directory.set(list);
    for account in affected {
        app.hub.end_account(account, Ending::Revoked);
    }
    Ok(StatusCode::NO_CONTENT)
}
