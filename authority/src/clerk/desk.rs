//! The desk: enrolments that wait at the relay.

use std::collections::HashMap;

use wardline_wire::directory::{Handle, VerifiedRevocations, role_name};
use wardline_wire::ids::{AccountId, InviteId};
use wardline_wire::proto::{PendingEnrolment, RevocationBundle, Role};

use super::{Clerk, ClerkError, Result};
use crate::assess::{
    Assessment, Enrolment, Hold, OpenInvite, Refusal, claimed_inviter, verify_request,
};
use crate::config::Approval;
use crate::store::{NewAccount, StoreError};

/// What was last said of an enrolment, so that each thing is logged once.
#[derive(Default)]
pub(super) struct Told(HashMap<AccountId, String>);

impl Told {
    /// Enough for any desk; beyond it things are said again.
    const MAX: usize = 10_000;

    /// Whether this is news.
    fn is_new(&mut self, account: AccountId, text: String) -> bool {
        if self.0.len() >= Self::MAX {
            self.0.clear();
        }
        self.0.insert(account, text.clone()) != Some(text)
    }
}

/// How an approval by hand may differ from what is written.
#[derive(Default)]
struct ByHand {
    approved: bool,
    name: Option<(Handle, String)>,
}

/// One enrolment, as a person sees it.
pub struct DeskEntry {
    /// The account, if it can be read.
    pub account: Option<AccountId>,
    /// The invite it names.
    pub invite: Option<InviteId>,
    /// Role and handle, when the proof fits.
    pub certified_as: Option<(Role, Option<Handle>)>,
    /// `approve`, `again`, `refuse` or `hold`.
    pub verdict: &'static str,
    /// Why.
    pub reason: String,
}

/// How a pass over the desk went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Newly certified.
    pub certified: usize,
    /// Refused for good.
    pub refused: usize,
    /// Left waiting.
    pub held: usize,
}

impl Clerk {
    /// What waits at the relay, and what would be done with it.
    ///
    /// # Errors
    /// [`ClerkError`].
    pub async fn desk(&mut self) -> Result<Vec<DeskEntry>> {
        let mut entries = Vec::new();
        for pending in &self.pending().await? {
            let entry = match Enrolment::read(pending, self.anchor.deployment()) {
                Ok(enrolment) => {
                    let assessment = self.assess(&enrolment, &ByHand::default()).await?;
                    describe(&enrolment, &assessment)
                }
                Err((account, refusal)) => DeskEntry {
                    account,
                    invite: None,
                    certified_as: None,
                    verdict: "refuse",
                    reason: refusal.to_string(),
                },
            };
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Works through the desk: certifies what fits, refuses what never will.
    /// Certificates are stored here and sent by [`deliver`](Self::deliver).
    ///
    /// # Errors
    /// [`ClerkError`]; what was decided before stays decided.
    pub async fn work_through_desk(&mut self) -> Result<Worked> {
        let mut worked = Worked::default();
        for pending in self.pending().await? {
            match Enrolment::read(&pending, self.anchor.deployment()) {
                Ok(enrolment) => {
                    let assessment = self.assess(&enrolment, &ByHand::default()).await?;
                    self.carry_out(enrolment.account, assessment, &mut worked)
                        .await?;
                }
                Err((Some(account), refusal)) => {
                    let assessment = Assessment::Refuse(refusal);
                    self.carry_out(account, assessment, &mut worked).await?;
                }
                Err((None, _)) => worked.refused += 1,
            }
        }
        Ok(worked)
    }

    /// Certifies an enrolment by hand: one that waits for that, has come late, or
    /// needs another handle. The proof must fit all the same.
    ///
    /// # Errors
    /// [`ClerkError::NotPending`], [`ClerkError::Refused`] or [`ClerkError::Held`].
    pub async fn approve(
        &mut self,
        account: AccountId,
        name: Option<(Handle, String)>,
    ) -> Result<()> {
        let enrolment = self.find_pending(account).await?;
        let by_hand = ByHand {
            approved: true,
            name,
        };
        match self.assess(&enrolment, &by_hand).await? {
            Assessment::Approve(new) => self.certify(&new, "by hand").await?,
            Assessment::Again => self.store.deliver_again(account).await?,
            Assessment::Refuse(refusal) => return Err(ClerkError::Refused(refusal)),
            Assessment::Hold(hold) => return Err(ClerkError::Held(hold)),
        }
        self.deliver().await?;
        Ok(())
    }

    /// Rejects an enrolment by hand.
    ///
    /// # Errors
    /// [`ClerkError::NotPending`]; [`ClerkError::AlreadyCertified`].
    pub async fn reject(&mut self, account: AccountId, reason: &str) -> Result<()> {
        if self.store.account(account).await?.is_some() {
            return Err(ClerkError::AlreadyCertified(account));
        }
        let waits = self.pending().await?.iter().any(|pending| {
            pending
                .request
                .as_ref()
                .is_some_and(|request| request.account_id == account.as_bytes())
        });
        if !waits {
            return Err(ClerkError::NotPending(account));
        }
        self.store
            .note_decision(account, "rejected", reason, self.now())
            .await?;
        Ok(self.relay()?.decide(self.issuer()?, account, None).await?)
    }

    async fn pending(&self) -> Result<Vec<PendingEnrolment>> {
        let answer = self.relay()?.enrolments(self.issuer()?).await?;
        Ok(answer.enrolments)
    }

    async fn find_pending(&self, account: AccountId) -> Result<Enrolment> {
        for pending in &self.pending().await? {
            match Enrolment::read(pending, self.anchor.deployment()) {
                Ok(enrolment) if enrolment.account == account => return Ok(enrolment),
                Err((Some(found), refusal)) if found == account => {
                    return Err(ClerkError::Refused(refusal));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Err(ClerkError::NotPending(account))
    }

    async fn assess(&self, enrolment: &Enrolment, by_hand: &ByHand) -> Result<Assessment> {
        let account = self.store.account(enrolment.account).await?;
        let redemption = self.store.redemption(enrolment.invite).await?;
        if let Some(known) = enrolment.known(account.as_ref(), redemption) {
            return Ok(known);
        }
        let mut invite = match self.open_invite(enrolment).await? {
            Ok(invite) => invite,
            Err(other) => return Ok(other),
        };
        if by_hand.name.is_some() {
            invite.name.clone_from(&by_hand.name);
        }
        let deployment = self.anchor.deployment();
        let new = match enrolment.redeem(&invite, deployment, self.now(), by_hand.approved) {
            Ok(new) => new,
            Err(other) => return Ok(other),
        };
        if let Some((handle, _)) = &new.name {
            let holder = self.store.account_by_handle(handle).await?;
            let reserved = self
                .store
                .handle_reserved(handle, new.invite, self.now())
                .await?;
            if holder.is_some() || reserved {
                return Ok(Assessment::Hold(Hold::HandleTaken));
            }
        }
        if self.issuer_for(new.role).is_err() {
            return Ok(Assessment::Hold(Hold::NoIssuer));
        }
        if self.config.approve == Approval::Manual && !by_hand.approved {
            return Ok(Assessment::Hold(Hold::Manual));
        }
        Ok(Assessment::Approve(Box::new(new)))
    }

    /// The invite behind an enrolment: the authority's own, or one that a client sealed.
    async fn open_invite(&self, enrolment: &Enrolment) -> Result<Result<OpenInvite, Assessment>> {
        if let Some(own) = self.store.invite(enrolment.invite).await? {
            return Ok(Ok(OpenInvite::from(&own)));
        }
        if enrolment.sealed_request.is_empty() {
            return Ok(Err(Assessment::Hold(Hold::UnknownInvite)));
        }
        let deployment = self.anchor.deployment();
        let Some(blob) = self
            .issuers
            .open_request(deployment, &enrolment.sealed_request)
        else {
            return Ok(Err(Assessment::Hold(Hold::SealedElsewhere)));
        };
        let inviter = match claimed_inviter(&blob) {
            Ok(inviter) => inviter,
            Err(refusal) => return Ok(Err(Assessment::Refuse(refusal))),
        };
        let Some(inviter) = self.store.account(inviter).await? else {
            return Ok(Err(Assessment::Hold(Hold::UnknownInviter)));
        };
        let record = match self.relay()?.account(self.issuer()?, inviter.id).await {
            Ok(Some(record)) => record,
            Err(error) if error.is_passing() => return Err(error.into()),
            Ok(None) | Err(_) => return Ok(Err(Assessment::Hold(Hold::InviterRecord))),
        };
        let revocations = self.own_revocations().await?;
        let verified = verify_request(
            &blob,
            &inviter,
            &record,
            &self.anchor,
            revocations.as_ref(),
            self.now(),
        );
        match verified {
            Ok((invite, list)) => {
                use prost::Message as _;
                let list = list.encode_to_vec();
                if list != inviter.device_list {
                    self.store.saw_device_list(inviter.id, &list).await?;
                }
                Ok(Ok(invite))
            }
            Err(other) => Ok(Err(other)),
        }
    }

    async fn own_revocations(&self) -> Result<Option<VerifiedRevocations>> {
        use prost::Message as _;
        let Some(row) = self.store.newest_list().await? else {
            return Ok(None);
        };
        let bundle = RevocationBundle::decode(row.bundle.as_slice())
            .map_err(|_| StoreError::Corrupt("revocation_lists"))?;
        Ok(VerifiedRevocations::verify(&bundle, &self.anchor, self.now()).ok())
    }

    async fn carry_out(
        &mut self,
        account: AccountId,
        assessment: Assessment,
        worked: &mut Worked,
    ) -> Result<()> {
        match assessment {
            Assessment::Approve(new) => {
                self.certify(&new, "the proof fits").await?;
                worked.certified += 1;
            }
            Assessment::Again => self.store.deliver_again(account).await?,
            Assessment::Refuse(refusal) => {
                worked.refused += 1;
                self.refuse(account, refusal).await?;
            }
            Assessment::Hold(hold) => {
                worked.held += 1;
                if self.told.is_new(account, hold.to_string()) {
                    tracing::warn!(%account, reason = %hold, "enrolment waits");
                }
            }
        }
        Ok(())
    }

    async fn refuse(&mut self, account: AccountId, refusal: Refusal) -> Result<()> {
        let is_new = self.told.is_new(account, refusal.to_string());
        if is_new {
            tracing::warn!(%account, reason = %refusal, "enrolment refused");
        }
        // Whatever the relay shows: somebody who was certified is not rejected for it.
        if self.store.account(account).await?.is_some() {
            return Ok(());
        }
        if is_new {
            self.store
                .note_decision(account, "refused", &refusal.to_string(), self.now())
                .await?;
        }
        match self.relay()?.decide(self.issuer()?, account, None).await {
            Err(error) if error.is_passing() => Err(error.into()),
            // The relay has its own view, which changes nothing here: on to the next one.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn certify(&mut self, new: &NewAccount, reason: &str) -> Result<()> {
        let row = self.sign_certificate(
            new.role,
            new.id,
            &new.account_key,
            new.name.as_ref(),
            self.now(),
        )?;
        self.store
            .certify_new(new, &row, reason, self.now())
            .await?;
        tracing::info!(
            account = %new.id, role = role_name(new.role), reason, "enrolment certified"
        );
        Ok(())
    }
}

fn describe(enrolment: &Enrolment, assessment: &Assessment) -> DeskEntry {
    let (verdict, reason, certified_as) = match assessment {
        Assessment::Approve(new) => {
            let handle = new.name.as_ref().map(|(handle, _)| handle.clone());
            (
                "approve",
                "the proof fits".to_owned(),
                Some((new.role, handle)),
            )
        }
        Assessment::Again => ("again", "certified before".to_owned(), None),
        Assessment::Refuse(refusal) => ("refuse", refusal.to_string(), None),
        Assessment::Hold(hold) => ("hold", hold.to_string(), None),
    };
    DeskEntry {
        account: Some(enrolment.account),
        invite: Some(enrolment.invite),
        certified_as,
        verdict,
        reason,
    }
}
