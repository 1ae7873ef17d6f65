//! What went wrong, as an exit status, a sentence, and JSON.

use std::fmt;

use serde::Serialize;

/// Kinds of failure. Each has one exit status; the table is in `wardline --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Something the user can put right.
    Input,
    /// A fault of ours.
    Unexpected,
    /// Relay, network or disk.
    Io,
    /// A key changed or is not trusted.
    Untrusted,
    /// Too many requests.
    RateLimited,
    /// The profile is in use or stays locked.
    Locked,
    /// A rule says no.
    Refused,
}

impl Kind {
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Input => 1,
            Self::Unexpected => 2,
            Self::Io => 3,
            Self::Untrusted => 4,
            Self::RateLimited => 5,
            Self::Locked => 8,
            Self::Refused => 9,
        }
    }
}

/// A failure that is told to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            hint: None,
        }
    }

    pub(crate) fn input(message: impl fmt::Display) -> Self {
        Self::new(Kind::Input, message)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// `{"error":{"code":..,"kind":"..","message":"..","hint":".."}}`
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": {
                "code": self.kind.exit_code(),
                "kind": self.kind,
                "message": self.message,
                "hint": self.hint,
            }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
