//! The loop of a running issuer.

use std::future::Future;
use std::time::Duration;

use rand_core::Rng as _;
use tokio::time::Instant;

use super::{Clerk, Result};
use crate::DAY_MS;

/// Between looks at what changes slowly: renewals, lists, files.
const MAINTENANCE: Duration = Duration::from_hours(1);
/// Longest wait between tries while the relay cannot be reached.
const MAX_WAIT_MS: u64 = 60_000;
/// Secrets of invites that ended this long ago are wiped.
const SECRETS_KEPT_MS: u64 = 90 * DAY_MS;

impl Clerk {
    /// Works until `shutdown`: admits, certifies, delivers, renews, publishes. A
    /// relay that cannot be reached is tried again, less and less often.
    /// `on_ready` is called once, after the first complete round.
    ///
    /// # Errors
    /// What is wrong from the start and does not pass: settings, files, a relay
    /// with another key or of another clinic.
    pub async fn serve(
        &mut self,
        shutdown: impl Future<Output = ()>,
        on_ready: impl FnOnce(),
    ) -> Result<()> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut on_ready = Some(on_ready);
        let mut maintained: Option<Instant> = None;
        let mut failures: u32 = 0;
        loop {
            let is_due = maintained.is_none_or(|last| last.elapsed() >= MAINTENANCE);
            // Cutting a round short is like a crash, and every step survives that.
            let result = tokio::select! {
                result = self.round(is_due) => result,
                () = &mut shutdown => return Ok(()),
            };
            let wait_ms = match result {
                Ok(()) => {
                    if is_due {
                        maintained = Some(Instant::now());
                    }
                    if failures > 0 {
                        tracing::info!("the relay is there again");
                    }
                    failures = 0;
                    if let Some(on_ready) = on_ready.take() {
                        on_ready();
                    }
                    self.config.poll_ms
                }
                Err(error) if on_ready.is_some() && !error.is_passing() => return Err(error),
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(%error, failures, "this round was not finished; trying again");
                    let backoff = self
                        .config
                        .poll_ms
                        .max(500)
                        .saturating_mul(1 << failures.min(8));
                    backoff.min(MAX_WAIT_MS)
                }
            };
            let wait = Duration::from_millis(self.jitter(wait_ms));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = &mut shutdown => return Ok(()),
            }
        }
    }

    /// One round; with `maintain` also what changes slowly.
    ///
    /// # Errors
    /// The first step that failed; the next round takes up from there.
    pub async fn round(&mut self, maintain: bool) -> Result<()> {
        if maintain {
            self.maintain().await?;
        }
        self.admit_waiting().await?;
        self.deliver().await?;
        let worked = self.work_through_desk().await?;
        if worked.certified > 0 {
            self.deliver().await?;
        }
        // What commands could not publish while the relay was away, and new entries.
        if self.list_is_open().await? {
            self.keep_revocations(None).await?;
        }
        Ok(())
    }

    async fn maintain(&mut self) -> Result<()> {
        self.reload().await?;
        self.check_relay().await?;
        for issuer in self.issuers.iter() {
            if issuer.is_valid(self.now()) && !self.is_revoked(issuer.serial()) {
                let relay = self.relay()?;
                relay.publish_issuer(self.issuer()?, issuer.blob()).await?;
            }
        }
        self.keep_revocations(None).await?;
        self.renew().await?;
        let before = self.now().minus_millis(SECRETS_KEPT_MS);
        self.store.forget_old_secrets(before).await?;
        Ok(())
    }

    /// Whether the newest list lacks an entry or was not published.
    async fn list_is_open(&self) -> Result<bool> {
        let entries = self.store.revocations().await?.len() as u64;
        let newest = self.store.newest_list().await?;
        Ok(newest.is_none_or(|newest| newest.published_at.is_none() || newest.entries != entries))
    }

    /// Between 75 % and 125 %, so that many issuers do not knock at once.
    fn jitter(&mut self, millis: u64) -> u64 {
        let spread = millis / 2;
        millis - millis / 4 + self.rng.next_u64() % spread.max(1)
    }
}
