//! From the relay's account records to accounts that may be believed, and what a change means.
//!
//! The relay is asked and never trusted: a record counts when its certificate leads to the pinned
//! root, its list is signed by the certified account key, and it does not contradict what was
//! known before.

use ed25519_dalek::VerifyingKey;
use wardline_wire::directory::{
    CertificateError, DeviceListError, RevocationError, VerifiedCertificate, VerifiedDeviceList,
    VerifiedRevocations,
};
use wardline_wire::ids::{AccountId, DeviceAddress};
use wardline_wire::proto::{AccountRecord, AccountStatus, RevocationBundle};

use crate::notice::{Notice, NoticeKind, Notification};
use crate::store::accounts::{self, Account, Relation};
use crate::store::own::OwnState;
use crate::store::{StoreError, misc, own, sessions};
use crate::turn::{Call, Turn};

/// A revocation list is asked for again after this long.
const REVOCATIONS_EVERY_MS: u64 = 3_600_000;

/// Why a record is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The record is for somebody else, or a part is missing.
    #[error("the relay's answer about this account cannot be read")]
    Malformed,
    /// The clinic has not certified the account.
    #[error("the clinic has not certified this account")]
    NotCertified,
    /// The certificate does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The device list does not hold.
    #[error(transparent)]
    DeviceList(#[from] DeviceListError),
    /// First contact needs a current revocation list.
    #[error(
        "the clinic's list of revoked accounts is missing or out of date, so new contacts cannot be checked; tell the clinic's administrator"
    )]
    StaleRevocations,
    /// First contact needs a current device list.
    #[error("this account's device list has expired; its owner's first device must come online")]
    ExpiredList,
    /// The account key is another one, and a person has to decide.
    #[error("this account's key has changed; check with the person before you accept it")]
    KeyChanged,
}

/// What learning a record came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Known before; perhaps with a newer list.
    Known,
    /// First contact.
    New,
}

/// The pinned revocation list, if there is one that can be read.
pub(crate) async fn revocations(
    turn: &mut Turn<'_>,
) -> Result<Option<VerifiedRevocations>, StoreError> {
    let Some((bundle, _)) = misc::revocations(turn.db).await? else {
        return Ok(None);
    };
    let identity = turn.identity.clone();
    Ok(VerifiedRevocations::verify(&bundle, &identity.anchor, turn.now).ok())
}

/// Asks for the revocation list when it is time.
pub(crate) async fn refresh_revocations(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    let due = misc::revocations(turn.db)
        .await?
        .is_none_or(|(_, at)| turn.now.millis_since(at) >= REVOCATIONS_EVERY_MS || at > turn.now);
    if due {
        turn.call(Call::Revocations);
    }
    Ok(())
}

/// Takes a revocation list from the relay: verified, and never an older or smaller one.
pub(crate) async fn learn_revocations(
    turn: &mut Turn<'_>,
    bundle: &RevocationBundle,
) -> Result<(), StoreError> {
    let identity = turn.identity.clone();
    let offered = match VerifiedRevocations::verify(bundle, &identity.anchor, turn.now) {
        Ok(offered) => offered,
        Err(error) => return refused_revocations(turn, error).await,
    };
    if let Some(known) = revocations(turn).await?
        && let Err(error) = offered.check_replaces(&known)
    {
        return refused_revocations(turn, error).await;
    }
    misc::save_revocations(turn.db, bundle, offered.number(), turn.now).await?;
    if offered.is_stale(turn.now) {
        Notice::once_a_day(turn, NoticeKind::RevocationsStale, "").await?;
    }
    let own = turn.own_account();
    for account in accounts::all(turn.db).await? {
        let revoked = offered.covers_account(account.account)
            || VerifiedCertificate::verify(
                &account.certificate,
                account.account,
                &identity.anchor,
                Some(&offered),
                turn.now,
            ) == Err(CertificateError::Revoked);
        if !revoked || account.halted.is_some() {
            continue;
        }
        if account.account == own {
            set_own_state(turn, OwnState::Revoked, NoticeKind::OwnRevoked).await?;
        } else {
            halt(turn, account, NoticeKind::AccountRevoked, "revocation list").await?;
        }
    }
    Ok(())
}

async fn refused_revocations(
    turn: &mut Turn<'_>,
    error: RevocationError,
) -> Result<(), StoreError> {
    Notice::once_a_day(turn, NoticeKind::RevocationsRefused, &error.to_string()).await
}

/// Stops sending to an account and says why.
async fn halt(
    turn: &mut Turn<'_>,
    mut account: Account,
    kind: NoticeKind,
    detail: &str,
) -> Result<(), StoreError> {
    account.halted = Some(kind.slug().to_owned());
    let id = account.account;
    accounts::save(turn.db, &account).await?;
    Notice::about(turn, kind, id, detail).await?;
    turn.notify(Notification::Contact { account: id });
    Ok(())
}

/// The verified device list of a stored account.
pub(crate) fn list_of(
    turn: &Turn<'_>,
    account: &Account,
) -> Result<VerifiedDeviceList, StoreError> {
    let damaged = StoreError::Damaged("a device list");
    let Ok(key) = VerifyingKey::from_bytes(&account.account_key) else {
        return Err(damaged);
    };
    VerifiedDeviceList::verify(
        &account.device_list,
        account.account,
        &key,
        turn.identity.own.deployment,
    )
    .map_err(|_| damaged)
}

/// Takes an account's record from the relay.
pub(crate) async fn learn(
    turn: &mut Turn<'_>,
    account: AccountId,
    record: &AccountRecord,
) -> Result<Result<Learned, RecordFault>, StoreError> {
    if record.account_id != account.as_bytes() {
        return Ok(Err(RecordFault::Malformed));
    }
    let Some(chain) = &record.certificate else {
        return Ok(Err(RecordFault::NotCertified));
    };
    let Some(blob) = &record.device_list else {
        return Ok(Err(RecordFault::Malformed));
    };
    let identity = turn.identity.clone();
    let revoked = revocations(turn).await?;
    let certificate = match VerifiedCertificate::verify(
        chain,
        account,
        &identity.anchor,
        revoked.as_ref(),
        turn.now,
    ) {
        Ok(certificate) => certificate,
        Err(error) => {
            if error == CertificateError::Revoked
                && let Some(known) = accounts::load(turn.db, account).await?
                && known.halted.is_none()
                && account != turn.own_account()
            {
                halt(turn, known, NoticeKind::AccountRevoked, "certificate").await?;
            }
            return Ok(Err(error.into()));
        }
    };
    let key = *certificate.account_key();
    let list = match VerifiedDeviceList::verify(blob, account, &key, identity.own.deployment) {
        Ok(list) => list,
        Err(error) => return Ok(Err(error.into())),
    };
    let offered = Offered {
        record: record.clone(),
        certificate,
        list,
    };
    match accounts::load(turn.db, account).await? {
        None => {
            // Without a revocation list at all nothing has been revoked yet; an overdue one may hide something.
            let first_contact = account != turn.own_account();
            if first_contact && revoked.is_some_and(|list| list.is_stale(turn.now)) {
                return Ok(Err(RecordFault::StaleRevocations));
            }
            if first_contact && offered.list.is_expired(turn.now) {
                return Ok(Err(RecordFault::ExpiredList));
            }
            let mut fresh = offered.account(turn);
            if account == turn.own_account() {
                fresh.relation = Relation::Own;
            }
            accounts::save(turn.db, &fresh).await?;
            turn.notify(Notification::Contact { account });
            Ok(Ok(Learned::New))
        }
        Some(known) if known.account_key == key.to_bytes() => {
            learn_same_key(turn, known, offered).await
        }
        Some(known) => learn_other_key(turn, known, offered).await,
    }
}

/// A record that holds by itself.
struct Offered {
    record: AccountRecord,
    certificate: VerifiedCertificate,
    list: VerifiedDeviceList,
}

impl Offered {
    fn account(&self, turn: &Turn<'_>) -> Account {
        Account {
            account: self.certificate.account(),
            account_key: self.certificate.account_key().to_bytes(),
            role: self.certificate.role(),
            handle: self
                .certificate
                .handle()
                .map(|handle| handle.as_str().to_owned()),
            display_name: self.certificate.display_name().map(str::to_owned),
            certificate: self.record.certificate.clone().unwrap_or_default(),
            device_list: self.record.device_list.clone().unwrap_or_default(),
            list_version: self.list.version(),
            access_key: None,
            profile_name: None,
            profile_version: 0,
            profile_told: 0,
            label: None,
            relation: Relation::Request,
            verified: false,
            pending_change: None,
            halted: None,
            fetched_at: turn.now,
            first_seen_at: turn.now,
        }
    }

    /// The stored account with this record in it.
    fn update(&self, turn: &Turn<'_>, known: Account) -> Account {
        let fresh = self.account(turn);
        Account {
            access_key: known.access_key,
            profile_name: known.profile_name,
            profile_version: known.profile_version,
            profile_told: known.profile_told,
            label: known.label,
            relation: known.relation,
            verified: known.verified,
            first_seen_at: known.first_seen_at,
            ..fresh
        }
    }
}

async fn learn_same_key(
    turn: &mut Turn<'_>,
    known: Account,
    offered: Offered,
) -> Result<Result<Learned, RecordFault>, StoreError> {
    let account = known.account;
    let known_list = list_of(turn, &known)?;
    if let Err(error) = offered.list.check_replaces(&known_list) {
        accounts::touch(turn.db, account, turn.now).await?;
        match error {
            DeviceListError::Equivocated { .. } => {
                let kind = if account == turn.own_account() {
                    NoticeKind::OwnListForged
                } else {
                    NoticeKind::ListEquivocated
                };
                if known.halted.is_none() {
                    halt(turn, known, kind, &error.to_string()).await?;
                }
            }
            DeviceListError::RolledBack { .. } => {
                // Our own newer list may simply not have arrived yet.
                if account != turn.own_account() {
                    Notice::about_once_a_day(
                        turn,
                        NoticeKind::ListRolledBack,
                        account,
                        &error.to_string(),
                    )
                    .await?;
                }
            }
            _ => {
                Notice::about_once_a_day(
                    turn,
                    NoticeKind::RecordRefused,
                    account,
                    &error.to_string(),
                )
                .await?;
            }
        }
        return Ok(Err(error.into()));
    }
    let newer = offered.list.version() > known_list.version();
    let halted = known.halted.clone().filter(|reason| {
        // What the clinic certifies anew is no longer revoked; the rest needs a person.
        reason != NoticeKind::AccountRevoked.slug()
    });
    let mut updated = offered.update(turn, known);
    updated.halted = halted;
    accounts::save(turn.db, &updated).await?;
    if newer {
        drop_old_sessions(turn, &offered.list).await?;
        let added = offered
            .list
            .devices()
            .iter()
            .any(|device| known_list.device(device.id).is_none());
        if added {
            let kind = if account == turn.own_account() {
                NoticeKind::OwnDeviceAdded
            } else {
                NoticeKind::DeviceAdded
            };
            Notice::about(turn, kind, account, "").await?;
        }
        turn.notify(Notification::Contact { account });
    }
    Ok(Ok(Learned::Known))
}

/// The clinic certified another key for the account. Always shown; where a person had compared
/// safety numbers, nothing is sent until they accept.
async fn learn_other_key(
    turn: &mut Turn<'_>,
    mut known: Account,
    offered: Offered,
) -> Result<Result<Learned, RecordFault>, StoreError> {
    let account = known.account;
    if account == turn.own_account() {
        Notice::once_a_day(turn, NoticeKind::OwnListForged, "another account key").await?;
        return Ok(Err(RecordFault::KeyChanged));
    }
    if known.verified {
        let first = known.pending_change.is_none();
        known.pending_change = Some(offered.record);
        known.fetched_at = turn.now;
        if first {
            halt(turn, known, NoticeKind::KeyChangedStopped, "").await?;
        } else {
            accounts::save(turn.db, &known).await?;
        }
        return Ok(Err(RecordFault::KeyChanged));
    }
    replace_key(turn, known, &offered).await?;
    Notice::about(turn, NoticeKind::KeyChanged, account, "").await?;
    Ok(Ok(Learned::Known))
}

async fn replace_key(
    turn: &mut Turn<'_>,
    known: Account,
    offered: &Offered,
) -> Result<(), StoreError> {
    let account = known.account;
    let mut updated = offered.update(turn, known);
    updated.verified = false;
    accounts::save(turn.db, &updated).await?;
    drop_old_sessions(turn, &offered.list).await?;
    turn.notify(Notification::Contact { account });
    Ok(())
}

/// A person accepts the key that waits.
pub(crate) async fn accept_key_change(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<Result<(), RecordFault>, StoreError> {
    let Some(mut known) = accounts::load(turn.db, account).await? else {
        return Ok(Err(RecordFault::Malformed));
    };
    let Some(record) = known.pending_change.take() else {
        return Ok(Ok(()));
    };
    // Not verified any more: the same record now goes through, if it still holds.
    known.verified = false;
    known.halted = None;
    accounts::save(turn.db, &known).await?;
    Ok(learn(turn, account, &record).await?.map(drop))
}

/// Sessions with devices that are gone, or that have another identity key, end.
pub(crate) async fn drop_old_sessions(
    turn: &mut Turn<'_>,
    list: &VerifiedDeviceList,
) -> Result<(), StoreError> {
    for device in sessions::devices(turn.db, list.account()).await? {
        let address = DeviceAddress {
            account: list.account(),
            device,
        };
        let stored = sessions::load(turn.db, address).await?;
        let keep = list.device(device).is_some_and(|listed| {
            stored.is_some_and(|stored| stored.identity_key == listed.identity_key)
        });
        if !keep {
            sessions::delete(turn.db, address).await?;
        }
    }
    Ok(())
}

/// What the relay says of our own account: certified, rejected, or this device removed.
pub(crate) async fn learn_own(
    turn: &mut Turn<'_>,
    record: &AccountRecord,
) -> Result<Result<(), RecordFault>, StoreError> {
    let account = turn.own_account();
    let state = turn.identity.own.state;
    if record.status == i32::from(AccountStatus::Rejected) && state == OwnState::Pending {
        set_own_state(turn, OwnState::Rejected, NoticeKind::Rejected).await?;
        return Ok(Ok(()));
    }
    if record.certificate.is_none() {
        return Ok(Err(RecordFault::NotCertified));
    }
    let learned = learn(turn, account, record).await?;
    match learned {
        Ok(_) => {}
        Err(RecordFault::DeviceList(DeviceListError::RolledBack { .. })) => {
            // The relay missed our newest list.
            if turn.identity.own.is_primary()
                && let Some(own) = accounts::load(turn.db, account).await?
            {
                turn.call(Call::DeviceList(Box::new(own.device_list)));
            }
            return Ok(Ok(()));
        }
        Err(RecordFault::Certificate(CertificateError::Revoked)) => {
            set_own_state(turn, OwnState::Revoked, NoticeKind::OwnRevoked).await?;
            return Ok(learned.map(drop));
        }
        Err(fault) => return Ok(Err(fault)),
    }
    let Some(stored) = accounts::load(turn.db, account).await? else {
        return Err(StoreError::Damaged("own account"));
    };
    let own = turn.identity.clone();
    if let Some(key) = &own.own.account_key
        && key.verifying_key().to_bytes() != stored.account_key
    {
        return Ok(Err(RecordFault::KeyChanged));
    }
    let list = list_of(turn, &stored)?;
    let listed = list.device(own.own.address.device).is_some_and(|device| {
        device.identity_key == *own.own.identity.identity_key().as_bytes()
            && device.device_key == own.own.device_key.verifying_key()
    });
    if !listed {
        set_own_state(turn, OwnState::Revoked, NoticeKind::OwnRevoked).await?;
    } else if matches!(state, OwnState::Pending | OwnState::Linking) {
        let notice = if state == OwnState::Pending {
            NoticeKind::Certified
        } else {
            NoticeKind::DeviceLinked
        };
        set_own_state(turn, OwnState::Active, notice).await?;
    }
    Ok(Ok(()))
}

/// Moves our own state on and says so, once.
pub(crate) async fn set_own_state(
    turn: &mut Turn<'_>,
    state: OwnState,
    notice: NoticeKind,
) -> Result<(), StoreError> {
    let Some(mut own) = own::load(turn.db).await? else {
        return Err(StoreError::Damaged("own row"));
    };
    if own.state == state {
        return Ok(());
    }
    own.state = state;
    own::save(turn.db, &own).await?;
    turn.effects.own_changed = true;
    let account = own.address.account;
    Notice::about(turn, notice, account, "").await?;
    turn.notify(Notification::Own);
    Ok(())
}
