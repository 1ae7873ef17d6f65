//! Protobuf bodies: in by extractor, out by reply.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message;
use wardline_wire::limits::MAX_BODY_BYTES;
use wardline_wire::problem::ProblemKind;

use crate::problem::Refusal;

/// The media type of every request and reply.
pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// How much of a body over the limit is read on.
const MAX_DROPPED_BYTES: usize = 4 * 1024 * 1024;

/// A decoded request body, with the bytes it came from.
pub(crate) struct Proto<T> {
    pub(crate) message: T,
    pub(crate) bytes: Bytes,
}

impl<T: Message + Default, S: Sync> FromRequest<S> for Proto<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let media_type = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .map(str::trim);
        let is_protobuf = media_type.is_some_and(|name| name.eq_ignore_ascii_case(PROTOBUF));
        let bytes = read(request.into_body()).await?;
        if !is_protobuf {
            return Err(Refusal::new(
                ProblemKind::UnsupportedMediaType,
                "send the body as application/x-protobuf",
            ));
        }
        let message = T::decode(bytes.clone()).map_err(|_| {
            Refusal::new(
                ProblemKind::Malformed,
                "the body is not the protobuf message that belongs here",
            )
        })?;
        Ok(Self { message, bytes })
    }
}

/// The whole body. One over the limit is read on for a while and dropped: a client
/// that is still writing would otherwise find the connection gone, and no answer.
async fn read(mut body: Body) -> Result<Bytes, Refusal> {
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Refusal::new(ProblemKind::Malformed, "the body broke off; send it again")
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= MAX_BODY_BYTES {
            kept.extend_from_slice(&data);
        } else if length > MAX_BODY_BYTES + MAX_DROPPED_BYTES {
            break;
        }
    }
    if length <= MAX_BODY_BYTES {
        Ok(kept.freeze())
    } else {
        Err(Refusal::new(
            ProblemKind::TooLarge,
            format!("a body has at most {MAX_BODY_BYTES} bytes"),
        ))
    }
}

/// A reply with a protobuf body.
pub(crate) struct Reply<T>(pub(crate) StatusCode, pub(crate) T);

impl<T: Message> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        let mut response = (self.0, self.1.encode_to_vec()).into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        response
    }
}

/// 200 with a protobuf body.
pub(crate) fn reply<T: Message>(message: T) -> Reply<T> {
    Reply(StatusCode::OK, message)
}
