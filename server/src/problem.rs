//! How HTTP requests are refused: RFC 9457 problem documents.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use wardline_wire::problem::{self, Problem, ProblemKind};

use crate::rate_limit::Wait;
use crate::store::StoreError;

/// A refusal on its way to a client. `detail` says what to do about it and never
/// holds content, identities or secrets.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Problem>);

impl Refusal {
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(kind, detail)))
    }

    /// A field that is wrong, by name.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Invalid, detail)
    }

    pub(crate) fn kind(&self) -> Option<ProblemKind> {
        self.0.kind()
    }
}

impl From<Wait> for Refusal {
    fn from(wait: Wait) -> Self {
        let mut problem = Problem::new(
            ProblemKind::Limited,
            "wait as long as it says, then try again",
        );
        problem.retry_after_ms = Some(wait.millis());
        Self(Box::new(problem))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the database failed");
        Self::new(
            ProblemKind::Internal,
            "try again; if it stays, tell the relay's operator",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(problem::CONTENT_TYPE),
        );
        if let Some(millis) = self.0.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000).max(1)));
        }
        response
    }
}
