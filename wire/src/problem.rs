//! RFC 9457 problem documents: how the HTTP interface says no.

use serde::{Deserialize, Serialize};

/// The media type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $variant:ident => ($slug:literal, $status:literal, $title:literal),)*) => {
        /// What went wrong. Each kind has one HTTP status and one title.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemKind {
            $($(#[$doc])* $variant,)*
        }

        impl ProblemKind {
            /// Every kind, for documents and tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The last part of the `type` URN.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The title, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

problem_kinds! {
    /// The body or a parameter cannot be read.
    Malformed => ("malformed", 400, "The request cannot be read"),
    /// A field has a wrong length or value.
    Invalid => ("invalid", 422, "A value in the request is not valid"),
    /// No, an expired or a wrong token.
    Unauthorized => ("unauthorized", 401, "Log in again"),
    /// The role or the account's status does not allow it.
    Forbidden => ("forbidden", 403, "This is not allowed"),
    /// The account or device was revoked.
    Revoked => ("revoked", 403, "This device or account was revoked"),
    /// There is no such thing.
    NotFound => ("not-found", 404, "There is nothing here"),
    /// The method does not fit the path.
    MethodNotAllowed => ("method-not-allowed", 405, "This method is not offered here"),
    /// It exists already, with other content.
    Conflict => ("conflict", 409, "This contradicts what is stored"),
    /// The invite was used by another key.
    InviteUsed => ("invite-used", 409, "This invite was already used by someone else"),
    /// The invite is over.
    InviteExpired => ("invite-expired", 410, "This invite has expired"),
    /// The device list does not follow the stored one.
    DeviceListVersion => ("device-list-version", 409, "The device list does not follow the stored one"),
    /// The mailbox epoch is another: upload prekeys anew.
    Epoch => ("epoch", 409, "The relay was restored; upload prekeys again"),
    /// The body is over the limit.
    TooLarge => ("too-large", 413, "The request is too large"),
    /// The content type is not the expected one.
    UnsupportedMediaType => ("unsupported-media-type", 415, "This content type is not understood"),
    /// Too many requests; `retry_after_ms` says when to come back.
    Limited => ("limited", 429, "Too many requests"),
    /// A fault of the relay's own.
    Internal => ("internal", 500, "The relay failed; nothing was changed"),
    /// The relay cannot do it now.
    Unavailable => ("unavailable", 503, "The relay is not available right now"),
}

/// A problem document. `detail` says what to do; it never holds content,
/// identities or secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:wardline:problem:<slug>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind's title.
    pub title: String,
    /// The HTTP status, again.
    pub status: u16,
    /// This occurrence, in plain words, with the way out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// For `limited`: milliseconds to wait.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem of `kind` with its `detail`.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("urn:wardline:problem:{}", kind.slug()),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: Some(detail.into()),
            retry_after_ms: None,
        }
    }

    /// The kind that the `type` names, if it is one of ours.
    pub fn kind(&self) -> Option<ProblemKind> {
        let slug = self.type_uri.strip_prefix("urn:wardline:problem:")?;
        ProblemKind::ALL
            .iter()
            .copied()
            .find(|kind| kind.slug() == slug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_round_trip_and_slugs_are_unique() {
        for kind in ProblemKind::ALL {
            let problem = Problem::new(*kind, "detail");
            let text = serde_json::to_string(&problem).unwrap();
            let back: Problem = serde_json::from_str(&text).unwrap();
            assert_eq!(back.kind(), Some(*kind));
            assert_eq!(back.status, kind.status());
        }
    }
}
