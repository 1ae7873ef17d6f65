//! The issuer's work: what was decided is stored, then sent, and sent again until it arrived.
//!
//! Every step can be cut short anywhere and run again.

mod certificates;
mod desk;
mod invites;
mod revocations;
mod serve;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::secrecy::SecretString;
use wardline_wire::clock::{Clock, Timestamp};
use wardline_wire::directory::{TrustAnchor, role_name};
use wardline_wire::ids::{AccountId, InviteId, Serial};
use wardline_wire::proto::Role;

pub use certificates::Renewed;
pub use desk::{DeskEntry, Worked};
pub use invites::{InviteOrder, Issued};
pub use revocations::Listed;

use crate::assess::{Hold, Refusal};
use crate::config::{Config, ConfigError};
use crate::files::FileError;
use crate::issuer::{Issuer, IssuerFileError, Issuers};
use crate::relay::{Relay, RelayError};
use crate::store::{Store, StoreError};
use crate::{Randomness, deployment};

/// Why a piece of work was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClerkError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The issuers' files.
    #[error(transparent)]
    Issuers(#[from] IssuerFileError),
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The relay.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Nobody here may certify the role.
    #[error("no valid issuer here may certify {}; the root must sign one", role_name(*.0))]
    NoIssuerFor(Role),
    /// There is no issuer at all.
    #[error("no issuer here is valid now; the root must sign a new one")]
    NoIssuer,
    /// The account was not certified here.
    #[error("no account {0} was certified here")]
    UnknownAccount(String),
    /// Revoked accounts invite nobody.
    #[error("account {0} is revoked")]
    RevokedAccount(AccountId),
    /// The inviter's role may not invite this one.
    #[error("a {inviter} may not invite a {role}", inviter = role_name(*inviter), role = role_name(*role))]
    InviterRight {
        /// Role of the inviter.
        inviter: Role,
        /// Role of the invited.
        role: Role,
    },
    /// Patients are never named; everybody else is.
    #[error("{}", if *.0 == Role::Patient {
        "a patient is certified without handle and name: a patient's name is health information"
    } else {
        "give --handle and --name: they are what others see in the directory"
    })]
    Name(Role),
    /// Nothing on the desk.
    #[error("no enrolment of account {0} waits at the relay")]
    NotPending(AccountId),
    /// It cannot be approved, whoever wants it.
    #[error("this enrolment cannot be approved: {0}")]
    Refused(Refusal),
    /// It cannot be approved as it is.
    #[error("this enrolment cannot be approved now: {0}")]
    Held(Hold),
    /// Certified accounts are revoked, not rejected.
    #[error("account {0} is certified; use revoke")]
    AlreadyCertified(AccountId),
    /// A revocation list could not be agreed on with the relay.
    #[error(
        "other revocation lists keep appearing; is another authority publishing to this relay?"
    )]
    ListRace,
}

impl ClerkError {
    /// Whether the same step may succeed later without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Relay(error) => error.is_passing(),
            Self::Store(StoreError::Database(_)) | Self::ListRace => true,
            _ => false,
        }
    }
}

pub(crate) type Result<T, E = ClerkError> = std::result::Result<T, E>;

/// See the module.
pub struct Clerk {
    dir: PathBuf,
    anchor: TrustAnchor,
    passphrase: Option<SecretString>,
    config: Config,
    issuers: Issuers,
    revoked_issuers: Vec<Serial>,
    store: Store,
    relay: Option<Relay>,
    clock: Arc<dyn Clock>,
    rng: Box<Randomness>,
    told: desk::Told,
    /// Not offered to the relay again before the next maintenance.
    refused_invites: HashSet<InviteId>,
}

impl Clerk {
    /// Opens an issuer's directory. Without a relay address in `config` only what
    /// is local can be done.
    ///
    /// # Errors
    /// [`ClerkError`], naming the file or setting.
    pub async fn open(
        dir: &Path,
        config: Config,
        passphrase: Option<SecretString>,
        clock: Arc<dyn Clock>,
        mut rng: Box<Randomness>,
    ) -> Result<Self> {
        let anchor = deployment::read(dir)?;
        let issuers = Issuers::load(dir, &anchor, passphrase.as_ref(), clock.now())?;
        let store = Store::open(dir, anchor.deployment(), rng.as_mut()).await?;
        let relay = match &config.relay_url {
            Some(url) => Some(Relay::new(url, config.relay_key, anchor.clone())?),
            None => None,
        };
        let revoked_issuers = store.revoked_issuers().await?;
        Ok(Self {
            dir: dir.to_owned(),
            anchor,
            passphrase,
            config,
            issuers,
            revoked_issuers,
            store,
            relay,
            clock,
            rng,
            told: desk::Told::default(),
            refused_invites: HashSet::new(),
        })
    }

    /// The database, for what only reads.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// What everybody checks against.
    pub const fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// Issuers that are loaded: those valid now, give or take a day.
    pub const fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// Checks that the relay is there and serves this clinic.
    ///
    /// # Errors
    /// [`ClerkError::Relay`].
    pub async fn check_relay(&self) -> Result<()> {
        Ok(self.relay()?.check_deployment().await?)
    }

    /// Closes the database.
    pub async fn close(self) {
        self.store.close().await;
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn relay(&self) -> Result<&Relay> {
        self.relay
            .as_ref()
            .ok_or(ClerkError::Config(ConfigError::NoRelay))
    }

    /// The issuer for log-ins and lists.
    fn issuer(&self) -> Result<&Issuer> {
        self.issuers
            .any(self.now(), |serial| self.is_revoked(serial))
            .ok_or(ClerkError::NoIssuer)
    }

    fn issuer_for(&self, role: Role) -> Result<&Issuer> {
        self.issuers
            .for_role(role, self.now(), |serial| self.is_revoked(serial))
            .ok_or(ClerkError::NoIssuerFor(role))
    }

    fn is_revoked(&self, issuer: Serial) -> bool {
        self.revoked_issuers.contains(&issuer)
    }

    /// Looks again at the files and at what other commands have revoked.
    async fn reload(&mut self) -> Result<()> {
        let now = self.now();
        self.issuers = Issuers::load(&self.dir, &self.anchor, self.passphrase.as_ref(), now)?;
        self.revoked_issuers = self.store.revoked_issuers().await?;
        self.refused_invites.clear();
        Ok(())
    }
}
