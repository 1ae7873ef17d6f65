//! The public API: an endpoint as its user sees it.
//!
//! A [`Client`] is a handle; clones share one actor, which owns the profile. Everything that
//! returns `Ok` here is committed. What travels later (sends, receipts, fetches) is in the profile
//! as well and goes on after a restart.
//!
//! ```no_run
//! use wardline_client::api::{Client, ProfileConfig, Unlock, MessageFilter};
//! # async fn example() -> Result<(), wardline_client::api::ClientError> {
//! let config = ProfileConfig::new("/home/nurse/.wardline", Unlock::passphrase("six words"));
//! let client = Client::open(config).await?;
//! client.start().await?;
//! for conversation in client.conversations().await? {
//!     client.send_text(conversation.id, "Good morning", None, Vec::new()).await?;
//! }
//! for message in client.messages(MessageFilter::default()).await? {
//!     println!("{}", message.local_id);
//! }
//! client.shutdown().await;
//! # Ok(()) }
//! ```

mod contacts;
mod conversations;
mod devices;
mod jobs;
mod messages;
mod types;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Mutex, broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use wardline_wire::clock::Clock;
use wardline_wire::invite::Invite;

use crate::actor::{self, Activity, Command, Task};
use crate::devices as own_devices;
use crate::enrol;
use crate::introductions;
use crate::profile::{self, Profile};
use crate::random;
use crate::relay::Relay;
use crate::session;
use crate::store;
use crate::store::own::Own;
use crate::transport::BoxFuture;
use crate::turn::{Identity, Turn};

pub use crate::invites::NewInvite;
pub use crate::transport::{self, Connector, Network, Transport, TransportError};
pub use types::*;
pub use wardline_wire::clock::{ManualClock, SystemClock, Timestamp};
pub use wardline_wire::directory::Handle;
pub use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId};
pub use wardline_wire::invite::Invite as InviteLink;
pub use wardline_wire::proto::Role;

/// A handle to an open profile. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    notifications: broadcast::Sender<Notification>,
    activity: watch::Receiver<Activity>,
    /// A second connection, for reading alone: it sees what the actor has committed.
    reader: Mutex<Option<SqliteConnection>>,
    relay: Arc<Relay>,
    clock: Arc<dyn Clock>,
    local_key: zeroize::Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client(..)")
    }
}

impl Client {
    /// Enrols a new profile with an invite: makes keys, shows them to the relay, and returns the
    /// running client, not yet certified. [`start`](Self::start) it and
    /// [`wait_certified`](Self::wait_certified). Interrupted, it is run again with the same invite.
    ///
    /// # Errors
    /// [`ClientError::Enrol`] with the way out; [`ClientError::Profile`].
    pub async fn enrol(config: ProfileConfig, invite: &Invite) -> Result<Self, ClientError> {
        let profile = Profile::open_or_create(&config.dir, &config.unlock)?;
        let mut db = store::open(&profile.database(), profile.key(), true).await?;
        let now = config.clock.now();
        let own = enrol::prepare(&mut db, invite, &config.name, now).await?;
        let transport = config
            .connector
            .transport(&own.relay_url, own.relay_key_sha256)
            .map_err(EnrolError::from)?;
        let own = enrol::request(&mut db, &*transport, own).await?;
        Self::run(&config, profile, db, own).await
    }

    /// Opens an enrolled profile. Nothing is sent before [`start`](Self::start).
    ///
    /// # Errors
    /// [`ClientError::Profile`] (missing, in use, wrong passphrase, newer),
    /// [`ClientError::NotEnrolled`].
    pub async fn open(config: ProfileConfig) -> Result<Self, ClientError> {
        let profile = Profile::open(&config.dir, &config.unlock)?;
        let mut db = store::open(&profile.database(), profile.key(), false).await?;
        let own = store::own::load(&mut db)
            .await?
            .ok_or(ClientError::NotEnrolled)?;
        if own.root_key.is_none() {
            return Err(ClientError::NotEnrolled);
        }
        Self::run(&config, profile, db, own).await
    }

    async fn run(
        config: &ProfileConfig,
        profile: Profile,
        db: SqliteConnection,
        own: Own,
    ) -> Result<Self, ClientError> {
        let anchor = own.anchor().ok_or(ClientError::NotEnrolled)?;
        let transport = config
            .connector
            .transport(&own.relay_url, own.relay_key_sha256)
            .map_err(RelayError::from)?;
        let relay = Arc::new(Relay::new(
            transport,
            own.deployment,
            own.address,
            own.device_key.clone(),
        ));
        let reader = store::open_reader(&profile.database(), profile.key()).await?;
        let local_key = own.local_key.clone();
        let identity = Arc::new(Identity {
            local: session::local_identity(&own)?,
            anchor,
            jobs: config.jobs,
            own,
        });
        let running = actor::spawn(db, config.clock.clone(), identity, relay.clone(), profile);
        Ok(Self {
            inner: Arc::new(Inner {
                commands: running.commands,
                notifications: running.notifications,
                activity: running.activity,
                reader: Mutex::new(Some(reader)),
                relay,
                clock: config.clock.clone(),
                local_key,
            }),
        })
    }

    /// On a new device that shall join an existing account: makes its keys in a new profile and
    /// returns the code to carry to the account's first device. Run again, it gives the same code.
    ///
    /// # Errors
    /// [`ClientError::Profile`]; [`ClientError::Enrol`] when the profile has an account already.
    pub async fn link_request(config: &ProfileConfig) -> Result<String, ClientError> {
        let profile = Profile::open_or_create(&config.dir, &config.unlock)?;
        let mut db = store::open(&profile.database(), profile.key(), true).await?;
        own_devices::request(&mut db, config.clock.now()).await
    }

    /// On the new device: takes the grant and opens the profile. [`start`](Self::start) it; the
    /// conversations and contacts arrive from the account's other devices.
    ///
    /// # Errors
    /// [`ClientError::LinkCode`] when the grant is not for this device.
    pub async fn complete_link(config: ProfileConfig, grant: &str) -> Result<Self, ClientError> {
        let profile = Profile::open(&config.dir, &config.unlock)?;
        let mut db = store::open(&profile.database(), profile.key(), false).await?;
        let own = own_devices::complete(&mut db, grant, config.clock.now()).await?;
        Self::run(&config, profile, db, own).await
    }

    /// Connects in the background and stays connected.
    ///
    /// # Errors
    /// [`ClientError::Stopped`] after a shutdown.
    pub async fn start(&self) -> Result<(), ClientError> {
        self.inner
            .commands
            .send(Command::Start)
            .await
            .map_err(|_| ClientError::Stopped)
    }

    /// Waits until the socket is open.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`]; [`ClientError::Refused`] when the relay will not have us.
    pub async fn wait_connected(&self, timeout: Duration) -> Result<(), ClientError> {
        self.start().await?;
        self.wait_activity(timeout, |activity| {
            activity.connection == ConnectionState::Connected
        })
        .await
    }

    /// Waits until the clinic has certified the account (or linked the device).
    ///
    /// # Errors
    /// [`ClientError::TimedOut`]; [`ClientError::Revoked`] when the issuer refused.
    pub async fn wait_certified(&self, timeout: Duration) -> Result<(), ClientError> {
        self.start().await?;
        self.wait_activity(timeout, |activity| {
            !matches!(
                activity.state,
                OwnState::Enrolling | OwnState::Linking | OwnState::Pending
            )
        })
        .await?;
        match self.inner.activity.borrow().state {
            OwnState::Active => Ok(()),
            _ => Err(ClientError::Revoked),
        }
    }

    /// Connects, takes everything that waits, sends everything that can be sent, and returns.
    /// What still waits for somebody else stays in the outbox.
    ///
    /// # Errors
    /// As [`wait_connected`](Self::wait_connected).
    pub async fn sync(&self, timeout: Duration) -> Result<(), ClientError> {
        self.start().await?;
        // Two quiet looks in a row: answers may have led to new calls in between.
        for _ in 0..2 {
            self.task(|_| Box::pin(async { Ok(()) })).await?;
            self.wait_activity(timeout, |activity| activity.drained && !activity.busy)
                .await?;
        }
        Ok(())
    }

    async fn wait_activity(
        &self,
        timeout: Duration,
        reached: impl Fn(&Activity) -> bool,
    ) -> Result<(), ClientError> {
        let mut activity = self.inner.activity.clone();
        let deadline = Instant::now() + timeout;
        loop {
            {
                let now = activity.borrow_and_update();
                if reached(&now) {
                    return Ok(());
                }
                if let ConnectionState::Refused { reason } = &now.connection {
                    return Err(ClientError::Refused(reason.clone()));
                }
            }
            match timeout_at(deadline, activity.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(ClientError::Stopped),
                Err(_) => return Err(ClientError::TimedOut),
            }
        }
    }

    /// How the connection stands.
    pub fn connection(&self) -> ConnectionState {
        self.inner.activity.borrow().connection.clone()
    }

    /// Wake-ups. A subscriber that falls behind misses some: the store is the truth.
    pub fn subscribe(&self) -> broadcast::Receiver<Notification> {
        self.inner.notifications.subscribe()
    }

    /// Who we are.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn own(&self) -> Result<OwnAccount, ClientError> {
        let mut reader = self.reader().await?;
        let db = reader.db()?;
        let own = store::own::load(db)
            .await?
            .ok_or(ClientError::NotEnrolled)?;
        let account = store::accounts::load(db, own.address.account).await?;
        let certified = account
            .as_ref()
            .and_then(|account| account.display_name.clone());
        Ok(OwnAccount {
            address: own.address,
            role: own.role,
            state: own.state,
            handle: account.and_then(|account| account.handle),
            is_primary: own.is_primary(),
            name: certified.unwrap_or(own.name),
            relay_url: own.relay_url,
        })
    }

    /// Notices after `after`, oldest first; at most 500.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn notices(&self, after: u64) -> Result<Vec<Notice>, ClientError> {
        let mut reader = self.reader().await?;
        let db = reader.db()?;
        let mut notices = Vec::new();
        for row in store::misc::notices_after(db, after, 500).await? {
            let name = match row.account {
                Some(account) => contacts::name_of(db, account).await?,
                None => String::new(),
            };
            notices.extend(Notice::from_row(row, &name));
        }
        Ok(notices)
    }

    /// Writes the account key to a recovery file under a passphrase: whoever has both can be this
    /// account. Only the first device can.
    ///
    /// # Errors
    /// [`ClientError::NotPrimary`]; [`ClientError::Profile`] when the file cannot be written.
    pub async fn write_recovery(&self, path: &Path, passphrase: &str) -> Result<(), ClientError> {
        let mut reader = self.reader().await?;
        let own = store::own::load(reader.db()?)
            .await?
            .ok_or(ClientError::NotEnrolled)?;
        let key = own.account_key.as_ref().ok_or(ClientError::NotPrimary)?;
        let account = own.address.account.to_string();
        profile::write_recovery(path, &account, key.as_bytes(), passphrase)?;
        Ok(())
    }

    /// Opens a recovery file to see that it is readable, and returns whose it is.
    ///
    /// # Errors
    /// [`ClientError::Profile`]: missing, damaged, or another passphrase.
    pub fn check_recovery(path: &Path, passphrase: &str) -> Result<AccountId, ClientError> {
        let (account, _key) = profile::read_recovery(path, passphrase)?;
        account
            .parse()
            .map_err(|_| ClientError::Profile(ProfileError::Damaged))
    }

    /// Changes the name that contacts are shown (the certified name, if there is one, stays).
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for what cannot be shown as a name.
    pub async fn set_name(&self, name: impl Into<String>) -> Result<(), ClientError> {
        let name = name.into();
        self.task(move |turn| Box::pin(async move { introductions::rename(turn, name).await }))
            .await
    }

    /// Makes a new access key and tells our contacts: whoever had the old one from somebody else
    /// can no longer fetch our prekeys.
    ///
    /// # Errors
    /// [`ClientError::Relay`]; run it again.
    pub async fn renew_access_key(&self) -> Result<(), ClientError> {
        let key: [u8; 16] = random::bytes();
        let hash = Sha256::digest(key).into();
        self.inner.relay.put_access_key(hash).await?;
        self.task(move |turn| {
            Box::pin(async move { Ok(introductions::new_access_key(turn, key).await?) })
        })
        .await
    }

    /// Closes the socket and the database and lets go of the profile. What was committed stays.
    pub async fn shutdown(&self) {
        let (told, done) = oneshot::channel();
        if let Some(reader) = self.inner.reader.lock().await.take() {
            let _ = sqlx::Connection::close(reader).await;
        }
        if self
            .inner
            .commands
            .send(Command::Shutdown(told))
            .await
            .is_ok()
        {
            let _ = done.await;
        }
    }

    /// Runs something in a turn of the actor and waits for its commit.
    async fn task<T, F>(&self, work: F) -> Result<T, ClientError>
    where
        T: Send + 'static,
        F: for<'t, 'a> FnOnce(&'t mut Turn<'a>) -> BoxFuture<'t, Result<T, ClientError>>
            + Send
            + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task = Work {
            closure: Some(work),
            result: None,
            reply,
        };
        self.inner
            .commands
            .send(Command::Task(Box::new(task)))
            .await
            .map_err(|_| ClientError::Stopped)?;
        answer.await.map_err(|_| ClientError::Stopped)?
    }

    async fn reader(&self) -> Result<Reader<'_>, ClientError> {
        Ok(Reader(self.inner.reader.lock().await))
    }
}

struct Reader<'a>(tokio::sync::MutexGuard<'a, Option<SqliteConnection>>);

impl Reader<'_> {
    fn db(&mut self) -> Result<&mut SqliteConnection, ClientError> {
        self.0.as_mut().ok_or(ClientError::Stopped)
    }
}

/// A closure on its way to the actor, and its result on the way back.
struct Work<T, F> {
    closure: Option<F>,
    result: Option<Result<T, ClientError>>,
    reply: oneshot::Sender<Result<T, ClientError>>,
}

impl<T, F> Task for Work<T, F>
where
    T: Send + 'static,
    F: for<'t, 'a> FnOnce(&'t mut Turn<'a>) -> BoxFuture<'t, Result<T, ClientError>>
        + Send
        + 'static,
{
    fn run<'t>(&'t mut self, turn: &'t mut Turn<'_>) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(work) = self.closure.take() else {
                return Ok(());
            };
            match work(turn).await {
                Ok(value) => {
                    self.result = Some(Ok(value));
                    Ok(())
                }
                Err(error) => {
                    self.result = Some(Err(error));
                    // Any error takes the whole turn back; which one is in `result`.
                    Err(StoreError::Damaged("a refused command"))
                }
            }
        })
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (self.result, committed) {
            (Some(Ok(value)), Ok(())) => Ok(value),
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (None, Ok(())) => Err(ClientError::Stopped),
        };
        let _ = self.reply.send(result);
    }
}
