//! Making invites and telling the relay of them.

use sha2::{Digest as _, Sha256};
use wardline_wire::directory::Handle;
use wardline_wire::ids::AccountId;
use wardline_wire::invite::{Invite, InviteSecret, Inviter};
use wardline_wire::proto::{InviteAdmission, Role};

use super::{Clerk, ClerkError, Result};
use crate::assess::may_invite;
use crate::random;
use crate::relay::RelayError;
use crate::store::{NewInvite, StoredInvite};

/// What is asked for.
#[derive(Clone)]
pub struct InviteOrder {
    /// Role the newcomer will have.
    pub role: Role,
    /// Who is shown as the inviter; `None`: the authority itself.
    pub inviter: Option<AccountId>,
    /// The inviter's access key, for patients to reach the inviter with.
    pub inviter_access_key: Option<[u8; 16]>,
    /// Handle and display name; `None` for patients.
    pub name: Option<(Handle, String)>,
    /// How long it is good for, in milliseconds.
    pub valid_for_ms: u64,
    /// The caller's own name for it: the same name gives the same invite again.
    pub once: Option<String>,
}

/// An invite that is stored, and perhaps admitted.
pub struct Issued {
    /// As stored.
    pub stored: StoredInvite,
    /// The link. Whoever holds it may enrol, once; empty when it was redeemed already.
    pub link: String,
    /// Why the relay does not know it yet; `serve` will tell it.
    pub not_admitted: Option<RelayError>,
}

impl Clerk {
    /// Makes an invite: stored first, then admitted at the relay. Asked again for
    /// the same (`once`, or the same handle), it is the same invite.
    ///
    /// # Errors
    /// [`ClerkError`]; a relay that cannot be reached is no error but in
    /// [`Issued::not_admitted`].
    pub async fn invite(&mut self, order: &InviteOrder) -> Result<Issued> {
        self.issuer_for(order.role)?;
        if order.name.is_none() != (order.role == Role::Patient) {
            return Err(ClerkError::Name(order.role));
        }
        if let Some(id) = order.inviter {
            let inviter = self.inviter(id).await?;
            if !may_invite(inviter.0, order.role) {
                return Err(ClerkError::InviterRight {
                    inviter: inviter.0,
                    role: order.role,
                });
            }
        }
        let relay_url = self.config.relay_url()?.trim_end_matches('/').to_owned();
        let now = self.now();
        let new = NewInvite {
            secret: InviteSecret::new(random(self.rng.as_mut())),
            role: order.role,
            inviter: order.inviter,
            inviter_access_key: order.inviter_access_key,
            name: order.name.clone(),
            relay_url,
            relay_key: self.config.relay_key,
            expires_at: now.plus_millis(order.valid_for_ms),
            once: order.once.clone(),
        };
        let stored = self.store.add_invite(&new, now).await?;
        let link = self.link(&stored).await?;
        let not_admitted = match self.admit(&stored).await {
            Ok(()) => None,
            Err(ClerkError::Relay(error)) if error.is_passing() => Some(error),
            Err(error) => return Err(error),
        };
        Ok(Issued {
            stored,
            link,
            not_admitted,
        })
    }

    /// The link of an open invite; empty when it was redeemed.
    ///
    /// # Errors
    /// [`ClerkError::UnknownAccount`] when the inviter is gone.
    pub async fn link(&self, stored: &StoredInvite) -> Result<String> {
        if stored.redeemed_by.is_some() || stored.invite.secret.id() != stored.id {
            return Ok(String::new());
        }
        let inviter = match stored.invite.inviter {
            Some(account) => {
                let (_, key) = self.inviter(account).await?;
                Some(Inviter {
                    account,
                    account_key_sha256: Sha256::digest(key).into(),
                    access_key: stored.invite.inviter_access_key,
                })
            }
            None => None,
        };
        let invite = Invite {
            deployment: self.anchor.deployment(),
            relay_url: stored.invite.relay_url.clone(),
            relay_key_sha256: stored.invite.relay_key,
            root_fingerprint: self.anchor.fingerprint(),
            inviter,
            role: stored.invite.role,
            expires_at: stored.invite.expires_at,
            secret: stored.invite.secret.clone(),
        };
        Ok(invite.to_link())
    }

    /// Tells the relay of invites that it does not know yet. Returns how many it
    /// took; one that it refuses does not stop the others.
    ///
    /// # Errors
    /// [`ClerkError`] when the relay cannot be reached.
    pub async fn admit_waiting(&mut self) -> Result<usize> {
        let mut admitted = 0;
        for invite in self.store.invites_to_admit(self.now()).await? {
            if self.refused_invites.contains(&invite.id) {
                continue;
            }
            match self.admit(&invite).await {
                Ok(()) => {
                    tracing::info!(invite = %invite.id, "invite admitted at the relay");
                    admitted += 1;
                }
                Err(ClerkError::Relay(error @ RelayError::Refused { .. }))
                    if !error.is_passing() =>
                {
                    tracing::error!(invite = %invite.id, %error, "the relay refuses an invite");
                    self.refused_invites.insert(invite.id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(admitted)
    }

    async fn admit(&self, stored: &StoredInvite) -> Result<()> {
        if stored.admitted_at.is_some() || stored.redeemed_by.is_some() {
            return Ok(());
        }
        let admission = InviteAdmission {
            invite_id: stored.id.to_vec(),
            role: stored.invite.role.into(),
            expires_at_ms: stored.invite.expires_at.as_millis(),
            sealed_request: Vec::new(),
        };
        let relay = self.relay()?;
        relay.admit(self.issuer()?, stored.id, &admission).await?;
        Ok(self.store.invite_admitted(stored.id, self.now()).await?)
    }

    /// Role and account key of somebody certified here.
    async fn inviter(&self, id: AccountId) -> Result<(Role, [u8; 32])> {
        let unknown = || ClerkError::UnknownAccount(id.to_string());
        let account = self.store.account(id).await?.ok_or_else(unknown)?;
        if account.revoked_at.is_some() {
            return Err(ClerkError::RevokedAccount(id));
        }
        Ok((account.role, account.account_key))
    }
}
