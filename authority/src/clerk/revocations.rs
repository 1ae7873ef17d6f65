//! The revocation list: only ever longer, and never stale.

use prost::Message as _;
use wardline_wire::directory::VerifiedRevocations;
use wardline_wire::ids::{AccountId, Serial};
use wardline_wire::proto::{RevocationBundle, RevocationKind, RevocationList};

use super::{Clerk, ClerkError, Result};
use crate::relay::RelayError;
use crate::root::Root;
use crate::store::{ListRow, RevocationRow, StoreError};

/// How often to try when another command signs lists at the same time.
const TRIES: usize = 5;
/// Reason noted for what another authority revoked.
const TAKEN_OVER: &str = "taken over from the relay's list";

/// The newest list, and whether the relay has it.
pub struct Listed {
    /// Its number.
    pub number: u64,
    /// How many entries it has.
    pub entries: u64,
    /// Why the relay does not have it yet; `serve` will publish it.
    pub not_published: Option<RelayError>,
}

/// What the relay shows, if it can be asked.
enum Shown {
    List(Box<VerifiedRevocations>),
    Nothing,
    Unknown(RelayError),
}

impl Clerk {
    /// Revokes; the entries are stored at once, the new list is signed and published.
    /// With `root`, the root signs it: needed when the last issuer is what is revoked.
    ///
    /// # Errors
    /// [`ClerkError::NoIssuer`] when no issuer is left to sign and `root` is not there.
    pub async fn revoke(
        &mut self,
        entries: &[RevocationRow],
        root: Option<&Root>,
    ) -> Result<Listed> {
        let leaves_none = self.issuers.iter().all(|issuer| {
            let serial = issuer.serial();
            self.is_revoked(serial)
                || !issuer.is_valid(self.now())
                || entries.iter().any(|entry| {
                    entry.kind == RevocationKind::Issuer && entry.id == *serial.as_bytes()
                })
        });
        if leaves_none && root.is_none() {
            return Err(ClerkError::NoIssuer);
        }
        self.store.revoke(entries).await?;
        self.revoked_issuers = self.store.revoked_issuers().await?;
        for entry in entries {
            tracing::warn!(kind = ?entry.kind, id = %hex::encode(entry.id), "revoked");
        }
        self.keep_revocations(root).await
    }

    /// Sees to it that the newest list has everything, is not near its end, and is
    /// the relay's. Entries that the relay's list has and this authority lacks are
    /// taken over: they were signed under the same root.
    ///
    /// # Errors
    /// [`ClerkError`]; a relay that cannot be reached is no error but in
    /// [`Listed::not_published`].
    pub async fn keep_revocations(&mut self, root: Option<&Root>) -> Result<Listed> {
        for _ in 0..TRIES {
            let shown = self.shown().await?;
            let shown_number = match &shown {
                Shown::List(list) => {
                    self.take_over(list).await?;
                    list.number()
                }
                Shown::Nothing | Shown::Unknown(_) => 0,
            };
            let Some(list) = self.current_list(shown_number, root).await? else {
                continue;
            };
            let listed = |not_published| Listed {
                number: list.number,
                entries: list.entries,
                not_published,
            };
            if let Shown::Unknown(error) = shown {
                return Ok(listed(Some(error)));
            }
            if list.published_at.is_some() && shown_number == list.number {
                return Ok(listed(None));
            }
            let bundle = RevocationBundle::decode(list.bundle.as_slice())
                .map_err(|_| StoreError::Corrupt("revocation_lists"))?;
            match self
                .relay()?
                .publish_revocations(self.issuer()?, &bundle)
                .await
            {
                Ok(()) => {
                    self.store.list_published(list.number, self.now()).await?;
                    tracing::info!(
                        number = list.number,
                        entries = list.entries,
                        "revocation list published"
                    );
                    return Ok(listed(None));
                }
                // Another list came first: look again.
                Err(RelayError::Refused { status: 409, .. }) => {}
                Err(error) if error.is_passing() => return Ok(listed(Some(error))),
                Err(error) => return Err(error.into()),
            }
        }
        Err(ClerkError::ListRace)
    }

    async fn shown(&self) -> Result<Shown> {
        let (relay, issuer) = match (self.relay(), self.issuer()) {
            (Ok(relay), Ok(issuer)) => (relay, issuer),
            // Without a relay's address or an issuer to log in with, lists are only kept.
            (Err(_), _) => {
                return Ok(Shown::Unknown(RelayError::Unreachable(
                    "no relay address is set".to_owned(),
                )));
            }
            (_, Err(_)) => {
                return Ok(Shown::Unknown(RelayError::Unreachable(
                    "no issuer is left to log in with".to_owned(),
                )));
            }
        };
        match relay.revocations(issuer).await {
            // A relay that does not show its list can still be given ours.
            Ok(None) | Err(RelayError::Refused { status: 403, .. }) => Ok(Shown::Nothing),
            Ok(Some(bundle)) => {
                match VerifiedRevocations::verify(&bundle, &self.anchor, self.now()) {
                    Ok(list) => Ok(Shown::List(Box::new(list))),
                    Err(error) => {
                        tracing::error!(%error, "the relay shows a revocation list that does not verify");
                        Ok(Shown::Nothing)
                    }
                }
            }
            Err(error) if error.is_passing() => Ok(Shown::Unknown(error)),
            Err(error) => Err(error.into()),
        }
    }

    async fn take_over(&mut self, list: &VerifiedRevocations) -> Result<()> {
        let row = |kind, id| RevocationRow {
            kind,
            id,
            revoked_at: list.issued_at(),
            reason: TAKEN_OVER.to_owned(),
        };
        let serial = |kind| move |id: Serial| row(kind, *id.as_bytes());
        let entries: Vec<_> = list
            .accounts()
            .map(|id: AccountId| row(RevocationKind::Account, *id.as_bytes()))
            .chain(list.certificates().map(serial(RevocationKind::Certificate)))
            .chain(list.issuers().map(serial(RevocationKind::Issuer)))
            .collect();
        let added = self.store.revoke(&entries).await?;
        if added > 0 {
            tracing::warn!(
                entries = added,
                "took over revocations from the relay's list"
            );
            self.revoked_issuers = self.store.revoked_issuers().await?;
        }
        Ok(())
    }

    /// The newest list when it will do, else a new one, stored. `None` when another
    /// command took the number.
    async fn current_list(
        &self,
        shown_number: u64,
        root: Option<&Root>,
    ) -> Result<Option<ListRow>> {
        let now = self.now();
        let entries = self.store.revocations().await?;
        let newest = self.store.newest_list().await?;
        let count = entries.len() as u64;
        if let Some(newest) = &newest
            && newest.number >= shown_number
            && newest.entries == count
            && now.plus_millis(self.config.revocation_ms / 2) < newest.next_update
        {
            return Ok(Some(newest.clone()));
        }
        let number = newest.map_or(0, |newest| newest.number).max(shown_number) + 1;
        let next_update = now.plus_millis(self.config.revocation_ms);
        let list = RevocationList {
            number,
            issued_at_ms: now.as_millis(),
            next_update_ms: next_update.as_millis(),
            revocations: entries.iter().map(RevocationRow::to_wire).collect(),
            issuer_serial: Vec::new(),
        };
        let bundle = match root {
            Some(root) => root.sign_revocations(list),
            None => self
                .issuer()?
                .sign_revocations(self.anchor.deployment(), list),
        };
        let row = ListRow {
            number,
            bundle: bundle.encode_to_vec(),
            entries: count,
            issued_at: now,
            next_update,
            published_at: None,
        };
        Ok(self.store.add_list(&row).await?.then_some(row))
    }
}
