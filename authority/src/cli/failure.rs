//! Every error as an exit code, a kind, a sentence and a way out.

use crate::clerk::ClerkError;
use crate::config::ConfigError;
use crate::files::FileError;
use crate::issuer::IssuerFileError;
use crate::relay::RelayError;
use crate::root::RootError;
use crate::store::StoreError;

/// Something the caller can mend.
const USER: u8 = 1;
const UNEXPECTED: u8 = 2;
const IO: u8 = 3;
const UNTRUSTED: u8 = 4;
const LIMITED: u8 = 5;
const LOCKED: u8 = 8;
const POLICY: u8 = 9;

pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) kind: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Failure {
    fn new(code: u8, kind: &'static str, message: &dyn ToString) -> Self {
        Self {
            code,
            kind,
            message: message.to_string(),
            hint: None,
        }
    }

    fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    pub(super) fn user(kind: &'static str, message: &str, hint: &str) -> Self {
        Self::new(USER, kind, &message).hint(hint)
    }

    pub(super) fn unexpected(error: &dyn std::error::Error) -> Self {
        Self::new(UNEXPECTED, "unexpected", &error)
    }

    pub(super) fn io(what: &str, error: &std::io::Error) -> Self {
        Self::new(IO, "io", &format!("{what}: {error}"))
    }

    pub(super) fn in_use(what: &str) -> Self {
        Self::new(LOCKED, "in-use", &what)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match &error {
            FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Self::new(USER, "not-found", &error).hint("is this the right directory?")
            }
            FileError::Io { .. } => Self::new(IO, "io", &error),
            FileError::Exists(_) => Self::new(USER, "exists", &error),
            FileError::Permissions(_) => Self::new(USER, "permissions", &error),
            FileError::Content { .. } => Self::new(USER, "content", &error),
            FileError::Passphrase(_) | FileError::ShortPassphrase => {
                Self::new(USER, "passphrase", &error)
            }
        }
    }
}

impl From<RootError> for Failure {
    fn from(error: RootError) -> Self {
        match error {
            RootError::File(error) => error.into(),
            RootError::Exists(_) => Self::new(USER, "exists", &error),
            RootError::OtherDeployment => Self::new(UNTRUSTED, "other-deployment", &error),
        }
    }
}

impl From<IssuerFileError> for Failure {
    fn from(error: IssuerFileError) -> Self {
        match error {
            IssuerFileError::File(error) => error.into(),
            IssuerFileError::Issuer { .. } | IssuerFileError::OtherKeys(_) => {
                Self::new(UNTRUSTED, "issuer", &error)
            }
            IssuerFileError::NeedsPassphrase(_) => Self::new(USER, "passphrase", &error),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::File(error) => error.into(),
            ConfigError::Syntax(_) | ConfigError::Value { .. } | ConfigError::NoRelay => {
                Self::new(USER, "config", &error)
            }
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::File(error) => error.into(),
            StoreError::Database(_) | StoreError::Open { .. } => Self::new(IO, "database", &error),
            StoreError::OtherDeployment => Self::new(UNTRUSTED, "other-deployment", &error),
            StoreError::HandleTaken => Self::new(POLICY, "handle-taken", &error)
                .hint("`accounts` and `invites` show who has it"),
            StoreError::OtherInvite => Self::new(USER, "other-invite", &error),
            StoreError::NoCipher | StoreError::Newer(_) | StoreError::Corrupt(_) => {
                Self::new(UNEXPECTED, "database", &error)
            }
        }
    }
}

impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        match &error {
            RelayError::Url(_) | RelayError::KeyWithoutTls => Self::new(USER, "relay-url", &error),
            RelayError::Tls(_) => Self::new(USER, "tls", &error),
            RelayError::Unreachable(_) => Self::new(IO, "relay-unreachable", &error),
            RelayError::OtherKey(mismatch) => Self::new(UNTRUSTED, "relay-key", &error)
                .hint(&format!("the key shown is {}", hex::encode(mismatch.shown))),
            RelayError::OtherDeployment => Self::new(UNTRUSTED, "other-deployment", &error),
            RelayError::Refused { status: 429, .. } => Self::new(LIMITED, "limited", &error),
            RelayError::Refused {
                status: 401 | 403, ..
            } => Self::new(POLICY, "refused", &error)
                .hint("is the issuer still valid, and does the relay have this root?"),
            RelayError::Refused { .. } | RelayError::Answer(_) => Self::new(IO, "relay", &error),
        }
    }
}

impl From<ClerkError> for Failure {
    fn from(error: ClerkError) -> Self {
        match error {
            ClerkError::File(error) => error.into(),
            ClerkError::Issuers(error) => error.into(),
            ClerkError::Config(error) => error.into(),
            ClerkError::Store(error) => error.into(),
            ClerkError::Relay(error) => error.into(),
            ClerkError::NoIssuerFor(_) | ClerkError::NoIssuer => {
                Self::new(POLICY, "no-issuer", &error)
                    .hint("on the root's machine: wardline-authority issuer …; to revoke the last issuer: --root DIR")
            }
            ClerkError::UnknownAccount(_) => Self::new(USER, "unknown-account", &error),
            ClerkError::NotPending(_) => Self::new(USER, "not-pending", &error),
            ClerkError::Name(_) => Self::new(USER, "name", &error),
            ClerkError::RevokedAccount(_)
            | ClerkError::InviterRight { .. }
            | ClerkError::Refused(_)
            | ClerkError::Held(_)
            | ClerkError::AlreadyCertified(_) => Self::new(POLICY, "policy", &error),
            ClerkError::ListRace => Self::new(IO, "relay", &error),
        }
    }
}
