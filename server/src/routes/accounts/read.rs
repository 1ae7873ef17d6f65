//! `GET /v1/accounts/{account}`: certificate, device list and status.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use wardline_wire::ids::AccountId;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::AccountRecord;

use super::super::{Segment, no_such_account, record};
use crate::app::App;
use crate::auth::matrix::Action;
use crate::auth::{Caller, DeviceCaller, require};
use crate::body::{Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/v1/accounts/{account}",
    action: Action::ReadOwnAccount,
    summary: "An account's certificate, device list and status. While an account waits for \
              its certificate it may read its own record only.",
    request: None,
    replies: &[(200, "AccountRecord")],
    problems: &[ProblemKind::Malformed, ProblemKind::NotFound],
    handler: || get(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    caller: DeviceCaller,
    Segment(account): Segment,
) -> Result<Reply<AccountRecord>, Refusal> {
    let account: AccountId = account
        .parse()
        .map_err(|_| Refusal::new(ProblemKind::Malformed, "the account must be a UUID"))?;
    if account != caller.address.account {
        require(Action::ReadAccount, &Caller::Device(caller))?;
    }
    let account = app
        .store
        .account(account, app.clock.now())
        .await?
        .ok_or_else(no_such_account)?;
    Ok(reply(record(&account)?))
}
