//! Who asks, and may they.
//!
//! Every route is registered with an [`Action`], and [`authorize`] runs before its
//! handler: no handler decides for itself whether a token counts, and a route
//! without a rule cannot be written down.

pub(crate) mod challenge;
pub(crate) mod matrix;
pub(crate) mod token;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{DeviceAddress, Serial};
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{AccountStatus, Role};

use self::matrix::{Action, Decision};
use self::token::Subject;
use crate::app::App;
use crate::problem::Refusal;
use crate::rate_limit::CallerKey;
use crate::store::DeviceStanding;

/// Whoever makes a request, once their token was checked.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Anonymous,
    Device(DeviceCaller),
    Issuer(Serial),
}

/// A device that logged in, as it stands at this moment.
#[derive(Clone, Debug)]
pub(crate) struct DeviceCaller {
    pub(crate) address: DeviceAddress,
    pub(crate) role: Role,
    pub(crate) status: AccountStatus,
    pub(crate) auth_epoch: u64,
    /// When its token ends.
    pub(crate) expires_at: Timestamp,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Why a device's token no longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lapsed {
    /// Device or account is gone.
    Revoked,
    /// Something changed: log in again.
    Changed,
}

/// Holds a token's auth epoch against how its device stands now.
pub(crate) fn check_standing(
    standing: Option<&DeviceStanding>,
    auth_epoch: u64,
) -> Result<&DeviceStanding, Lapsed> {
    let standing = standing.ok_or(Lapsed::Revoked)?;
    let ended = matches!(
        standing.status,
        AccountStatus::Revoked | AccountStatus::Rejected | AccountStatus::Unspecified
    );
    if standing.removed || ended {
        Err(Lapsed::Revoked)
    } else if standing.auth_epoch == auth_epoch {
        Ok(standing)
    } else {
        Err(Lapsed::Changed)
    }
}

impl From<Lapsed> for Refusal {
    fn from(lapsed: Lapsed) -> Self {
        match lapsed {
            Lapsed::Revoked => Self::new(
                ProblemKind::Revoked,
                "this device or account was taken off the clinic's directory",
            ),
            Lapsed::Changed => unauthorized("something about the account changed; log in again"),
        }
    }
}

fn unauthorized(detail: &str) -> Refusal {
    Refusal::new(ProblemKind::Unauthorized, detail)
}

/// Finds out who calls.
///
/// # Errors
/// 401 for a token that does not count, 403 for a device or account that is gone.
pub(crate) async fn identify(app: &App, token: &str) -> Result<Caller, Refusal> {
    let now = app.clock.now();
    let claims = app
        .tokens
        .verify(token, now)
        .map_err(|_| unauthorized("the token is not valid or has expired; log in again"))?;
    match claims.subject {
        Subject::Issuer(serial) => {
            if app
                .directory
                .revocations()
                .is_some_and(|list| list.covers_issuer(serial))
            {
                return Err(Lapsed::Revoked.into());
            }
            Ok(Caller::Issuer(serial))
        }
        Subject::Device(address) => {
            let standing = app.store.standing(address, now).await?;
            let standing = check_standing(standing.as_ref(), claims.auth_epoch)?;
            Ok(Caller::Device(DeviceCaller {
                address,
                role: standing.role,
                status: standing.status,
                auth_epoch: claims.auth_epoch,
                expires_at: claims.expires_at,
            }))
        }
    }
}

/// Runs before every handler: identifies, limits, decides.
pub(crate) async fn authorize(
    State((app, action)): State<(Arc<App>, Action)>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = request
        .extensions()
        .get::<ClientAddress>()
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.0);
    let token = bearer(&request);
    match check(&app, action, address, token.as_deref()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn check(
    app: &App,
    action: Action,
    address: IpAddr,
    token: Option<&str>,
) -> Result<Caller, Refusal> {
    if matrix::is_open(action) {
        if matrix::is_limited(action) {
            app.limits.address(address)?;
        }
        return Ok(Caller::Anonymous);
    }
    let caller = match token {
        Some(token) => match identify(app, token).await {
            Ok(caller) => caller,
            Err(refusal) => {
                // Guessing tokens costs the guesser's address.
                app.limits.address(address)?;
                return Err(refusal);
            }
        },
        None => Caller::Anonymous,
    };
    match &caller {
        Caller::Anonymous => app.limits.address(address)?,
        Caller::Device(device) => app.limits.caller(CallerKey::Device(device.address))?,
        Caller::Issuer(serial) => app.limits.caller(CallerKey::Issuer(*serial))?,
    }
    require(action, &caller)?;
    Ok(caller)
}

/// The matrix's answer as a refusal.
///
/// # Errors
/// 401 without a token, 403 with one that is not enough.
pub(crate) fn require(action: Action, caller: &Caller) -> Result<(), Refusal> {
    match matrix::decide(action, caller) {
        Decision::Allowed => Ok(()),
        Decision::LogIn => Err(unauthorized("this needs a token; log in first")),
        Decision::NotYet => Err(Refusal::new(
            ProblemKind::Forbidden,
            "the clinic has not certified this account (again) yet; wait for the issuer",
        )),
        Decision::Never => Err(Refusal::new(
            ProblemKind::Forbidden,
            "the account's role does not allow this",
        )),
    }
}

fn bearer(request: &Request) -> Option<String> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned())
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or(Self::Anonymous))
    }
}

impl<S: Sync> FromRequestParts<S> for DeviceCaller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        match parts.extensions.get() {
            Some(Caller::Device(device)) => Ok(device.clone()),
            _ => Err(unauthorized("this needs a device's token; log in first")),
        }
    }
}
