//! Signing, delivering and renewing certificates.

use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{Handle, role_name};
use wardline_wire::ids::{AccountId, Serial};
use wardline_wire::proto::{Certificate, CertificateChain, Role};

use super::{Clerk, ClerkError, Result};
use crate::store::{CertificateRow, StoreError};
use crate::{DAY_MS, random};

/// Most renewals in one pass; the rest follows in the next.
const MAX_RENEWALS: u32 = 1000;
/// Longest wait before a certificate is offered to the relay again.
const MAX_RETRY_MS: u64 = 3_600_000;

/// How a pass of renewals went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Signed anew.
    pub renewed: usize,
    /// Due, but no issuer would make them last longer.
    pub need_issuer: usize,
}

impl Clerk {
    /// Sends certificates that the relay has not taken yet. Returns how many it took.
    ///
    /// # Errors
    /// [`ClerkError::Relay`] when the relay cannot be reached; one that is refused
    /// is logged, tried again later, and does not stop the others.
    pub async fn deliver(&mut self) -> Result<usize> {
        let mut delivered = 0;
        for waiting in self.store.undelivered(self.now()).await? {
            let chain = CertificateChain::decode(waiting.chain.as_slice())
                .map_err(|_| StoreError::Corrupt("certificates"))?;
            let answer = self
                .relay()?
                .decide(self.issuer()?, waiting.account, Some(chain))
                .await;
            match answer {
                Ok(()) => {
                    self.store.delivered(waiting.serial, self.now()).await?;
                    delivered += 1;
                }
                Err(error) => {
                    let wait = 1000_u64
                        .saturating_mul(1 << waiting.attempts.min(12))
                        .min(MAX_RETRY_MS);
                    let next = self.now().plus_millis(wait);
                    self.store.not_delivered(waiting.serial, next).await?;
                    if error.is_passing() {
                        return Err(error.into());
                    }
                    tracing::error!(
                        account = %waiting.account, %error, "the relay refuses a certificate"
                    );
                }
            }
        }
        Ok(delivered)
    }

    /// Signs certificates anew that end within a third of their time, or whose
    /// issuer was revoked.
    ///
    /// # Errors
    /// [`ClerkError::Store`].
    pub async fn renew(&mut self) -> Result<Renewed> {
        let now = self.now();
        let end = now.plus_millis(self.config.certificate_ms / 3);
        let revoked = self.revoked_issuers.clone();
        let due = self
            .store
            .accounts_to_renew(end, &revoked, MAX_RENEWALS)
            .await?;
        let mut result = Renewed::default();
        for account in due {
            let row = self.sign_certificate(
                account.role,
                account.id,
                &account.account_key,
                account.name.as_ref(),
                now,
            );
            let row = match row {
                Ok(row) => row,
                Err(ClerkError::NoIssuerFor(_)) => {
                    result.need_issuer += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            // An issuer near its own end would only sign the same end again and again.
            let gains = row.not_after > account.not_after.plus_millis(DAY_MS);
            if gains || revoked.contains(&account.issuer) {
                self.store.certify_again(account.id, &row, now).await?;
                tracing::info!(
                    account = %account.id, role = role_name(account.role), "certificate renewed"
                );
                result.renewed += 1;
            } else {
                result.need_issuer += 1;
            }
        }
        if result.need_issuer > 0 {
            tracing::warn!(
                certificates = result.need_issuer,
                "certificates end soon with their issuer; let the root sign a new issuer"
            );
        }
        Ok(result)
    }

    pub(super) fn sign_certificate(
        &mut self,
        role: Role,
        account: AccountId,
        account_key: &[u8; 32],
        name: Option<&(Handle, String)>,
        now: Timestamp,
    ) -> Result<CertificateRow> {
        let serial = Serial::from(random(self.rng.as_mut()));
        let issuer = self.issuer_for(role)?;
        let not_after = now
            .plus_millis(self.config.certificate_ms)
            .min(issuer.verified().not_after());
        let (handle, display_name) = match name {
            Some((handle, name)) => (handle.as_str().to_owned(), name.clone()),
            None => (String::new(), String::new()),
        };
        let certificate = Certificate {
            serial: serial.to_vec(),
            account_id: account.to_vec(),
            account_key: account_key.to_vec(),
            role: role.into(),
            not_before_ms: now.as_millis(),
            not_after_ms: not_after.as_millis(),
            handle,
            display_name,
            issuer_serial: Vec::new(),
        };
        let chain = issuer.certify(self.anchor.deployment(), certificate);
        Ok(CertificateRow {
            serial,
            issuer: issuer.serial(),
            not_before: now,
            not_after,
            chain: chain.encode_to_vec(),
        })
    }
}
