//! The HTTP half of the proxy.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, Request, State as Shares, WebSocketUpgrade};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use prost::Message as _;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId};
use wardline_wire::proto;

use super::{Shared, socket};

/// Bodies are far smaller; attachments included.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// One HTTP request with its answer, as a rule sees it.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The device whose token came with it.
    pub asker: Option<DeviceAddress>,
    /// The body as it goes to the relay.
    pub request: Vec<u8>,
    /// The status that goes back; 0 before the relay has answered.
    pub status: u16,
    /// The media type that goes back.
    pub content_type: Option<String>,
    /// The body that goes back.
    pub answer: Vec<u8>,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(pass).with_state(shared)
}

async fn pass(Shares(shared): Shares<Arc<Shared>>, request: Request) -> Response {
    if request.uri().path() == "/v1/socket" {
        return upgrade(shared, request).await;
    }
    match exchange(&shared, request).await {
        Ok(response) => response,
        // What endpoints see when the real relay is down.
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn upgrade(shared: Arc<Shared>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let token = bearer(&parts.headers);
    let device = token
        .as_ref()
        .and_then(|token| shared.state().tokens.get(token).copied());
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(refused) => return refused.into_response(),
    };
    // The real relay is asked first, so that its refusal reaches the device as it is.
    match socket::connect(&shared, token.as_deref()).await {
        Ok(upstream) => upgrade
            .max_message_size(MAX_BODY)
            .on_upgrade(move |downstream| socket::pump(shared, device, downstream, upstream)),
        Err(refused) => refused,
    }
}

async fn exchange(shared: &Shared, request: Request) -> anyhow::Result<Response> {
    let (parts, body) = request.into_parts();
    let token = bearer(&parts.headers);
    let mut exchange = Exchange {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        request: axum::body::to_bytes(body, MAX_BODY).await?.to_vec(),
        ..Exchange::default()
    };
    let url = {
        let mut state = shared.state();
        exchange.asker = token.and_then(|token| state.tokens.get(&token).copied());
        let mut rules = std::mem::take(&mut state.on_request);
        for rule in &mut rules {
            rule(&mut exchange);
        }
        rules.append(&mut state.on_request);
        state.on_request = rules;
        format!("{}{}", state.upstream, exchange.path)
    };
    let mut headers = parts.headers;
    for name in [
        HOST,
        TRANSFER_ENCODING,
        HeaderName::from_static("content-length"),
    ] {
        headers.remove(name);
    }
    let answer = shared
        .client
        .request(parts.method, url)
        .headers(headers)
        .body(exchange.request.clone())
        .send()
        .await?;
    exchange.status = answer.status().as_u16();
    let mut headers = answer.headers().clone();
    exchange.content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    exchange.answer = answer.bytes().await?.to_vec();
    {
        let mut state = shared.state();
        if exchange.path == "/v1/auth/token"
            && let Some((token, device)) = logged_in(&exchange)
        {
            state.tokens.insert(token, device);
        }
        let mut rules = std::mem::take(&mut state.on_answer);
        for rule in &mut rules {
            rule(&mut exchange);
        }
        rules.append(&mut state.on_answer);
        state.on_answer = rules;
        state.exchanges.push(exchange.clone());
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove("content-length");
    if let Some(content_type) = &exchange.content_type {
        headers.insert(CONTENT_TYPE, content_type.parse()?);
    }
    let mut response = Response::new(Body::from(exchange.answer));
    *response.status_mut() = StatusCode::from_u16(exchange.status)?;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The token in the answer to a log-in, and the device it was given to.
fn logged_in(exchange: &Exchange) -> Option<(String, DeviceAddress)> {
    let request = proto::TokenRequest::decode(exchange.request.as_slice()).ok()?;
    let login = proto::Login::decode(request.login?.payload.as_slice()).ok()?;
    let token = proto::Token::decode(exchange.answer.as_slice()).ok()?;
    let device = DeviceAddress {
        account: AccountId::from_slice(&login.account_id).ok()?,
        device: DeviceId::new(login.device_id).ok()?,
    };
    Some((token.token, device))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    headers
        .get(AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
        .map(str::to_owned)
}
