//! A whole clinic: authority, relay, and a lying relay in front of it that is
//! honest until told otherwise.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::ensure;
use wardline_wire::directory::TrustAnchor;
use wardline_wire::ids::DeploymentId;
use wardline_wire::invite::Invite;
use wardline_wire::proto::Role;

use crate::authority::Authority;
use crate::hostile::HostileRelay;
use crate::relay::Relay;
use crate::spare::{SpareAccount, now};

/// Every role there is.
const ALL_ROLES: [Role; 5] = [
    Role::Patient,
    Role::Staff,
    Role::Ai,
    Role::Admin,
    Role::Officer,
];

/// How a clinic is set up.
pub struct Builder {
    relay_config: String,
    issuer_roles: Vec<Role>,
    is_direct: bool,
    has_tls: bool,
}

impl Builder {
    /// More of the relay's configuration, in TOML.
    #[must_use]
    pub fn relay_config(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.relay_config);
        self
    }

    /// What the issuer may certify; every role otherwise.
    #[must_use]
    pub fn issuer_roles(mut self, roles: &[Role]) -> Self {
        self.issuer_roles = roles.to_vec();
        self
    }

    /// Endpoints and authority talk to the real relay, nobody in between.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.is_direct = true;
        self
    }

    /// The relay speaks TLS, and nobody is in between.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.has_tls = true;
        self.direct()
    }

    /// Starts everything.
    ///
    /// # Errors
    /// When something does not come up; the message holds what it said.
    pub async fn open(self) -> anyhow::Result<Clinic> {
        let folder = tempfile::tempdir()?;
        let place = |name: &str| folder.path().join(name);
        let mut authority = Authority::init(&place("authority"), &place("authority.log"))?;
        let mut relay = Relay::prepare(
            &place("relay"),
            &place("relay.log"),
            &authority.deployment_file(),
            &self.relay_config,
        )?;
        if self.has_tls {
            relay.prepare_tls()?;
        }
        relay.start()?;
        let hostile = HostileRelay::start(&relay.url()).await?;
        let url = if self.is_direct {
            relay.url()
        } else {
            hostile.url()
        };
        authority.new_issuer(&self.issuer_roles, &url, relay.tls_key())?;
        authority.serve()?;
        let anchor = authority.anchor()?;
        Ok(Clinic {
            authority,
            relay,
            hostile,
            anchor,
            handles: AtomicU32::new(0),
            folder,
        })
    }
}

/// A clinic that runs. Everything stops and vanishes when it is dropped.
pub struct Clinic {
    /// Root, issuer and desk.
    pub authority: Authority,
    /// The real relay.
    pub relay: Relay,
    /// What endpoints talk to (unless [`Builder::direct`]).
    pub hostile: HostileRelay,
    anchor: TrustAnchor,
    handles: AtomicU32,
    // Last, so that the folder outlives what runs in it.
    folder: tempfile::TempDir,
}

impl Clinic {
    /// A clinic with everything as usual.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub async fn open() -> anyhow::Result<Self> {
        Self::builder().open().await
    }

    /// A clinic with something unusual.
    pub fn builder() -> Builder {
        Builder {
            relay_config: String::new(),
            issuer_roles: ALL_ROLES.to_vec(),
            is_direct: false,
            has_tls: false,
        }
    }

    /// Which clinic it is.
    pub fn deployment(&self) -> DeploymentId {
        self.anchor.deployment()
    }

    /// What everybody checks against.
    pub fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// The folder that everything of this clinic is in, logs included.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// A folder for the people's profiles.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn people_folder(&self) -> anyhow::Result<PathBuf> {
        let folder = self.folder.path().join("people");
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// An invite link from the authority. `name` is handle and display name;
    /// everybody but patients gets one anyway.
    ///
    /// # Errors
    /// When the authority refuses.
    pub fn invite_link(&self, role: Role, name: Option<(&str, &str)>) -> anyhow::Result<String> {
        let number = self.handles.fetch_add(1, Ordering::Relaxed);
        let handle = format!("member-{number}");
        let display_name = format!("Member {number}");
        let name = match (role, name) {
            (Role::Patient, _) => None,
            (_, None) => Some((handle.as_str(), display_name.as_str())),
            (_, name) => name,
        };
        self.authority.invite(role, name)
    }

    /// The same, read.
    ///
    /// # Errors
    /// As [`Clinic::invite_link`].
    pub fn invite(&self, role: Role) -> anyhow::Result<Invite> {
        Ok(Invite::from_link(&self.invite_link(role, None)?, now())?)
    }

    /// An enrolled account that speaks the protocol by hand, to the real relay.
    ///
    /// # Errors
    /// When enrolment fails.
    pub async fn spare(&self, role: Role) -> anyhow::Result<SpareAccount> {
        SpareAccount::enrol(&self.relay.url(), &self.invite(role)?).await
    }

    /// The same for a member of the staff with a handle of their own.
    ///
    /// # Errors
    /// When enrolment fails.
    pub async fn spare_called(&self, handle: &str) -> anyhow::Result<SpareAccount> {
        let link = self.invite_link(Role::Staff, Some((handle, handle)))?;
        SpareAccount::enrol(&self.relay.url(), &Invite::from_link(&link, now())?).await
    }

    /// Relay and authority run, and neither has panicked.
    ///
    /// # Errors
    /// When one has.
    pub fn check_no_panic(&self) -> anyhow::Result<()> {
        for (name, log) in [
            ("relay", self.relay.log()?),
            ("authority", self.authority.log()?),
        ] {
            ensure!(!log.contains("panicked"), "the {name} panicked:\n{log}");
        }
        Ok(())
    }
}
