//! Contacts: who they are, how we call them, whether we trust their key.

use sqlx::sqlite::SqliteConnection;
use wardline_crypto::fingerprint::{Fingerprint, ITERATIONS, Party};
use wardline_wire::directory::{Handle, VerifiedDeviceList};
use wardline_wire::ids::AccountId;

use super::{Client, ClientError, RelayError, SafetyNumber};
use crate::contact::{Contact, Origin};
use crate::directory::{self, RecordFault};
use crate::introductions;
use crate::invites::{self, NewInvite};
use crate::membership;
use crate::notice::Notification;
use crate::outbox;
use crate::store::StoreError;
use crate::store::accounts::{self, Account, Relation};
use crate::turn::{Call, Turn};
use crate::upkeep;
use ed25519_dalek::VerifyingKey;
use wardline_wire::invite::Invite;
use wardline_wire::problem::ProblemKind;

/// Version of the convention: account ids as 16 bytes, account keys behind 0xED.
const SAFETY_NUMBER_VERSION: u32 = 1;
const MAX_LABEL_BYTES: usize = 256;

/// How an account is called here.
pub(super) async fn name_of(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<String, StoreError> {
    Ok(accounts::load(db, account)
        .await?
        .map_or_else(|| short(account), |account| name(&account)))
}

fn short(account: AccountId) -> String {
    account.to_string().chars().take(8).collect()
}

fn name(account: &Account) -> String {
    account
        .label
        .clone()
        .or_else(|| account.display_name.clone())
        .or_else(|| account.profile_name.clone())
        .unwrap_or_else(|| short(account.account))
}

fn contact(account: &Account, deployment: wardline_wire::ids::DeploymentId) -> super::Contact {
    let devices = VerifyingKey::from_bytes(&account.account_key)
        .ok()
        .and_then(|key| {
            VerifiedDeviceList::verify(&account.device_list, account.account, &key, deployment).ok()
        })
        .map(|list| list.devices().iter().map(|device| device.id).collect())
        .unwrap_or_default();
    super::Contact {
        account: account.account,
        role: account.role,
        handle: account.handle.clone(),
        name: name(account),
        label: account.label.clone(),
        relation: account.relation,
        verified: account.verified,
        halted: account.halted.clone(),
        key_change_pending: account.change_pending,
        devices,
    }
}

impl Client {
    /// Everybody whose certificate and device list were verified, but ourselves.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn contacts(&self) -> Result<Vec<super::Contact>, ClientError> {
        let mut reader = self.reader().await?;
        let db = reader.db()?;
        let own = crate::store::own::load(db)
            .await?
            .ok_or(ClientError::NotEnrolled)?;
        Ok(accounts::all(db)
            .await?
            .iter()
            .filter(|account| account.relation != Relation::Own)
            .map(|account| contact(account, own.deployment))
            .collect())
    }

    /// One contact, if known.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn contact(&self, account: AccountId) -> Result<Option<super::Contact>, ClientError> {
        Ok(self
            .contacts()
            .await?
            .into_iter()
            .find(|contact| contact.account == account))
    }

    /// How an account is called here, whether it is known or not.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn display_name(&self, account: AccountId) -> Result<String, ClientError> {
        let mut reader = self.reader().await?;
        Ok(name_of(reader.db()?, account).await?)
    }

    /// Sets our private label for an account; an empty one removes it.
    ///
    /// # Errors
    /// [`ClientError::UnknownContact`]; [`ClientError::Invalid`] for more than 256 bytes.
    pub async fn set_label(
        &self,
        account: AccountId,
        label: impl Into<String>,
    ) -> Result<(), ClientError> {
        let label = label.into();
        if label.len() > MAX_LABEL_BYTES || label.chars().any(char::is_control) {
            return Err(ClientError::Invalid(
                "a label has at most 256 bytes on one line",
            ));
        }
        self.change(account, move |stored| {
            stored.label = (!label.is_empty()).then_some(label);
        })
        .await
    }

    /// Looks a handle up in the clinic's directory and makes its owner a contact.
    ///
    /// # Errors
    /// [`ClientError::UnknownContact`] when nobody has it; [`ClientError::Record`] when the
    /// relay's answer does not hold; [`ClientError::Relay`].
    pub async fn lookup_handle(&self, handle: &Handle) -> Result<super::Contact, ClientError> {
        self.ensure_revocations().await?;
        let record = match self.inner.relay.handle(handle).await {
            Ok(record) => record,
            Err(error) if error.kind() == Some(ProblemKind::NotFound) => {
                return Err(ClientError::UnknownContact);
            }
            Err(error) => return Err(error.into()),
        };
        let handle = handle.clone();
        let account = self
            .task(move |turn| {
                Box::pin(async move {
                    // The handle that was asked for, or it is somebody else's certificate.
                    let identity = turn.identity.clone();
                    let revoked = directory::revocations(turn).await?;
                    let chain = record.certificate.clone().unwrap_or_default();
                    let certificate = wardline_wire::directory::VerifiedCertificate::verify_handle(
                        &chain,
                        &handle,
                        &identity.anchor,
                        revoked.as_ref(),
                        turn.now,
                    );
                    let account = match certificate {
                        Ok(certificate) => certificate.account(),
                        Err(error) => return Ok(Err(RecordFault::from(error))),
                    };
                    let learned = learn_and_accept(turn, account, &record).await?;
                    Ok(learned.map(|()| account))
                })
            })
            .await??;
        self.contact(account)
            .await?
            .ok_or(ClientError::UnknownContact)
    }

    /// Fetches and verifies an account by its id and makes it a contact.
    ///
    /// # Errors
    /// As [`lookup_handle`](Self::lookup_handle).
    pub async fn lookup_account(&self, account: AccountId) -> Result<super::Contact, ClientError> {
        self.ensure_revocations().await?;
        let record = match self.inner.relay.account(account).await {
            Ok(record) => record,
            Err(error) if error.kind() == Some(ProblemKind::NotFound) => {
                return Err(ClientError::UnknownContact);
            }
            Err(error) => return Err(error.into()),
        };
        self.task(move |turn| {
            Box::pin(async move { learn_and_accept(turn, account, &record).await })
        })
        .await??;
        self.contact(account)
            .await?
            .ok_or(ClientError::UnknownContact)
    }

    /// The safety number with an account: both sides compare it by another way.
    ///
    /// # Errors
    /// [`ClientError::UnknownContact`].
    pub async fn safety_number(&self, account: AccountId) -> Result<SafetyNumber, ClientError> {
        let mut reader = self.reader().await?;
        let db = reader.db()?;
        let own = crate::store::own::load(db)
            .await?
            .ok_or(ClientError::NotEnrolled)?;
        let ours = accounts::load(db, own.address.account)
            .await?
            .ok_or(ClientError::NotCertified)?;
        let theirs = accounts::load(db, account)
            .await?
            .ok_or(ClientError::UnknownContact)?;
        let key_of = |account: &Account| {
            let mut key = [0xED; 33];
            if let Some(tail) = key.last_chunk_mut::<32>() {
                *tail = account.account_key;
            }
            key
        };
        let (our_key, their_key) = (key_of(&ours), key_of(&theirs));
        let fingerprint = Fingerprint::new(
            SAFETY_NUMBER_VERSION,
            ITERATIONS,
            Party {
                id: ours.account.as_bytes(),
                key: &our_key,
            },
            Party {
                id: theirs.account.as_bytes(),
                key: &their_key,
            },
        )
        .map_err(|_| ClientError::Invalid("the safety number cannot be computed"))?;
        Ok(SafetyNumber {
            digits: fingerprint.display().to_owned(),
        })
    }

    /// Remembers that the safety number was compared for the key in use.
    ///
    /// # Errors
    /// [`ClientError::UnknownContact`].
    pub async fn mark_verified(&self, account: AccountId) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                let stored = accounts::load(turn.db, account)
                    .await?
                    .ok_or(ClientError::UnknownContact)?;
                let key = VerifyingKey::from_bytes(&stored.account_key)
                    .map_err(|_| StoreError::Damaged("an account key"))?;
                directory::decide(turn, account, |contact| {
                    contact.mark_verified(&key);
                })
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Accepts the new key of a contact; sending goes on. The contact is no longer verified.
    ///
    /// # Errors
    /// [`ClientError::Record`] when the new key's certificate no longer holds.
    pub async fn accept_key_change(&self, account: AccountId) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                if !directory::decide(turn, account, Contact::accept_change).await? {
                    return Err(ClientError::UnknownContact);
                }
                // The list of the new key comes from the relay.
                turn.call(Call::Account(account));
                outbox::advance(turn, account, None).await?;
                Ok(())
            })
        })
        .await
    }

    /// Accepts somebody who wrote first: their conversations open and they may be answered.
    ///
    /// # Errors
    /// [`ClientError::UnknownContact`].
    pub async fn accept_request(&self, account: AccountId) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                if !directory::decide(turn, account, Contact::accept_request).await? {
                    return Err(ClientError::UnknownContact);
                }
                membership::requests_accepted(turn, account).await?;
                introductions::tell_profile(turn, account).await?;
                outbox::advance(turn, account, None).await?;
                Ok(())
            })
        })
        .await
    }

    /// Blocks an account: nothing of theirs is looked at, nothing is sent to them.
    ///
    /// # Errors
    /// [`ClientError::UnknownContact`].
    pub async fn block(&self, account: AccountId) -> Result<(), ClientError> {
        self.decision(account, Contact::block).await
    }

    /// Unblocks an account.
    ///
    /// # Errors
    /// [`ClientError::UnknownContact`].
    pub async fn unblock(&self, account: AccountId) -> Result<(), ClientError> {
        self.decision(account, Contact::unblock).await
    }

    async fn decision(
        &self,
        account: AccountId,
        decision: fn(&mut Contact),
    ) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                if directory::decide(turn, account, decision).await? {
                    Ok(())
                } else {
                    Err(ClientError::UnknownContact)
                }
            })
        })
        .await
    }

    /// First contact needs the clinic's revocation list.
    async fn ensure_revocations(&self) -> Result<(), ClientError> {
        let known = self
            .task(|turn| Box::pin(async move { Ok(directory::revocations(turn).await?) }))
            .await?;
        if known.is_some_and(|list| !list.is_stale(self.inner.clock.now())) {
            return Ok(());
        }
        if let Some(bundle) = self.inner.relay.revocations().await? {
            self.task(move |turn| {
                Box::pin(async move { Ok(directory::learn_revocations(turn, &bundle).await?) })
            })
            .await?;
        }
        Ok(())
    }

    async fn change(
        &self,
        account: AccountId,
        change: impl FnOnce(&mut Account) + Send + 'static,
    ) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                let mut stored = accounts::load(turn.db, account)
                    .await?
                    .ok_or(ClientError::UnknownContact)?;
                change(&mut stored);
                accounts::save(turn.db, &stored).await?;
                turn.notify(Notification::Contact { account });
                Ok(())
            })
        })
        .await
    }

    /// Makes an invite: stores it with its private label, has the relay admit it, and returns the
    /// link for the newcomer. Whoever has the link may enrol, once.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for what an invite cannot say; [`ClientError::Relay`] when the
    /// relay does not let this role invite.
    pub async fn invite(&self, invite: NewInvite) -> Result<Invite, ClientError> {
        let deployment = self.inner.relay.deployment().await?;
        let prepared = self
            .task(move |turn| {
                Box::pin(async move { invites::prepare(turn, &invite, &deployment).await })
            })
            .await?;
        self.inner.relay.admit(&prepared.admission).await?;
        Invite::from_link(&prepared.link, self.inner.clock.now())
            .map_err(|_| ClientError::Relay(RelayError::Malformed))
    }
}

/// Believes a record, if it holds, and makes its account a contact. The fault is a value, not an
/// error: an error takes the turn back, and with it the stop and the notice that a fault leads to.
async fn learn_and_accept(
    turn: &mut Turn<'_>,
    account: AccountId,
    record: &wardline_wire::proto::AccountRecord,
) -> Result<Result<(), RecordFault>, ClientError> {
    let learned = match directory::learn(turn, account, record, Origin::Chosen).await? {
        Ok(learned) => learned,
        Err(fault) => return Ok(Err(fault)),
    };
    directory::decide(turn, account, Contact::accept_request).await?;
    membership::requests_accepted(turn, account).await?;
    upkeep::learned_about(turn, account, learned).await?;
    Ok(Ok(()))
}
