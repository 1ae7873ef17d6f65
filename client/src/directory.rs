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

use crate::contact::{
    self, Contact, Freshness, ListReport, Origin, OwnListReport, Stop, check_recipient_list,
};
use crate::content::ListRef;
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
    /// Sending stopped, or may not begin.
    #[error(transparent)]
    Stopped(#[from] Stop),
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
    for account in accounts::all(turn.db).await? {
        if account.relation == Relation::Own {
            let revoked = offered.covers_account(account.account)
                || VerifiedCertificate::verify(
                    &account.certificate,
                    account.account,
                    &identity.anchor,
                    Some(&offered),
                    turn.now,
                ) == Err(CertificateError::Revoked);
            if revoked {
                set_own_state(turn, OwnState::Revoked, NoticeKind::OwnRevoked).await?;
            }
            continue;
        }
        let mut contact = contact_of(turn, &account)?;
        let notices = contact.observe_revocations(&offered);
        if !notices.is_empty() {
            let id = account.account;
            save_contact(turn, &contact, Some(account)).await?;
            for notice in notices {
                tell(turn, id, notice).await?;
            }
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

/// The state machine of a stored account.
fn contact_of(turn: &Turn<'_>, stored: &Account) -> Result<Contact, StoreError> {
    let bytes = stored
        .contact
        .as_deref()
        .ok_or(StoreError::Damaged("a contact"))?;
    Contact::decode(bytes, &turn.identity.anchor).map_err(|_| StoreError::Damaged("a contact"))
}

/// Stores a contact, with what queries want to know of it in columns beside.
async fn save_contact(
    turn: &mut Turn<'_>,
    contact: &Contact,
    before: Option<Account>,
) -> Result<Option<Account>, StoreError> {
    let certified = contact.certificate().zip(contact.certificate_chain());
    let listed = contact.devices().zip(contact.device_list_blob());
    let mut stored = match (before, certified, listed) {
        (Some(before), _, _) => before,
        (None, Some(_), Some((list, blob))) => Account {
            account: contact.account(),
            account_key: [0; 32],
            role: wardline_wire::proto::Role::Patient,
            handle: None,
            display_name: None,
            certificate: wardline_wire::proto::CertificateChain::default(),
            device_list: blob.clone(),
            list_version: list.version(),
            access_key: None,
            profile_name: None,
            profile_version: 0,
            profile_told: 0,
            label: None,
            relation: Relation::Request,
            verified: false,
            change_pending: false,
            contact: None,
            halted: None,
            fetched_at: turn.now,
            first_seen_at: turn.now,
        },
        // Nothing to believe yet, nothing to keep.
        (None, _, _) => return Ok(None),
    };
    if let Some((certificate, chain)) = certified {
        stored.account_key = certificate.account_key().to_bytes();
        stored.role = certificate.role();
        stored.handle = certificate
            .handle()
            .map(|handle| handle.as_str().to_owned());
        stored.display_name = certificate.display_name().map(str::to_owned);
        stored.certificate = chain.clone();
    }
    if let Some((list, blob)) = listed {
        stored.device_list = blob.clone();
        stored.list_version = list.version();
    }
    stored.relation = if contact.is_blocked() {
        Relation::Blocked
    } else if contact.is_request() {
        Relation::Request
    } else {
        Relation::Accepted
    };
    stored.verified = contact.is_verified();
    stored.change_pending = contact.pending_key().is_some();
    stored.halted = match contact.can_send(Freshness::Fresh, turn.now) {
        Ok(_) | Err(Stop::Blocked) => None,
        Err(stop) => Some(stop_kind(stop).slug().to_owned()),
    };
    stored.contact = Some(contact.encode());
    accounts::save(turn.db, &stored).await?;
    turn.notify(Notification::Contact {
        account: contact.account(),
    });
    Ok(Some(stored))
}

/// Why sending stopped, as notices name it.
const fn stop_kind(stop: Stop) -> NoticeKind {
    match stop {
        Stop::Revoked => NoticeKind::AccountRevoked,
        Stop::UncertifiedKey => NoticeKind::UncertifiedKey,
        Stop::VerifiedKeyChanged => NoticeKind::KeyChangedStopped,
        Stop::TwoLists { .. } => NoticeKind::ListEquivocated,
        Stop::BrokenChain { .. } => NoticeKind::ListBroken,
        _ => NoticeKind::RecordRefused,
    }
}

/// Stores what the state machine wants shown. What the relay can repeat at will is said once a
/// day; what changed something is said every time.
async fn tell(
    turn: &mut Turn<'_>,
    account: AccountId,
    notice: contact::Notice,
) -> Result<(), StoreError> {
    use contact::Notice as Seen;
    let detail = match notice {
        Seen::CertificateRefused(error) => error.to_string(),
        Seen::ListRefused(error) => error.to_string(),
        Seen::DeviceAdded(device) | Seen::DeviceRemoved(device) => format!("device {device}"),
        Seen::TwoLists { version } | Seen::BrokenChain { version } => format!("list {version}"),
        _ => String::new(),
    };
    let (kind, always) = match notice {
        Seen::KeyChanged => (NoticeKind::KeyChanged, true),
        Seen::VerifiedKeyChanged => (NoticeKind::KeyChangedStopped, true),
        Seen::UncertifiedKey => (NoticeKind::UncertifiedKey, true),
        Seen::DirectoryEntryChanged => (NoticeKind::DirectoryChanged, true),
        Seen::TwoLists { .. } => (NoticeKind::ListEquivocated, true),
        Seen::BrokenChain { .. } => (NoticeKind::ListBroken, true),
        Seen::DeviceAdded(_) => (NoticeKind::DeviceAdded, true),
        Seen::DeviceRemoved(_) => (NoticeKind::DeviceRemoved, true),
        Seen::Revoked => (NoticeKind::AccountRevoked, true),
        Seen::ListWithheld { .. } => (NoticeKind::ListWithheld, false),
        Seen::ListRefused(DeviceListError::RolledBack { .. }) => {
            (NoticeKind::ListRolledBack, false)
        }
        Seen::OldCertificate
        | Seen::CertificateRefused(_)
        | Seen::ListRefused(_)
        | Seen::WrongAnswer => (NoticeKind::RecordRefused, false),
    };
    if always {
        Notice::about(turn, kind, account, &detail).await
    } else {
        Notice::about_once_a_day(turn, kind, account, &detail).await
    }
}

/// Takes an account's record from the relay. `origin` says how a new account came to be known.
pub(crate) async fn learn(
    turn: &mut Turn<'_>,
    account: AccountId,
    record: &AccountRecord,
    origin: Origin,
) -> Result<Result<Learned, RecordFault>, StoreError> {
    if record.account_id != account.as_bytes() {
        return Ok(Err(RecordFault::Malformed));
    }
    let identity = turn.identity.clone();
    let revoked = revocations(turn).await?;
    let freshness = Freshness::of(revoked.as_ref(), turn.now);
    let Some(stored) = accounts::load(turn.db, account).await? else {
        let mut contact = Contact::new(account, origin);
        let notices = contact.observe_record(record, &identity.anchor, revoked.as_ref(), turn.now);
        if let Some(fault) = notices.iter().find_map(fault_of) {
            return Ok(Err(fault));
        }
        if let Err(stop) = contact.can_make_first_contact(freshness, turn.now) {
            return Ok(Err(RecordFault::Stopped(stop)));
        }
        return Ok(match save_contact(turn, &contact, None).await? {
            Some(_) => Ok(Learned::New),
            None => Err(RecordFault::NotCertified),
        });
    };
    let mut contact = contact_of(turn, &stored)?;
    let version = stored.list_version;
    let key = stored.account_key;
    let notices = contact.observe_record(record, &identity.anchor, revoked.as_ref(), turn.now);
    let mut stored = stored;
    stored.fetched_at = turn.now;
    save_contact(turn, &contact, Some(stored)).await?;
    for notice in &notices {
        tell(turn, account, *notice).await?;
    }
    if let Some(list) = contact.devices()
        && (list.version() != version
            || contact.account_key().map(VerifyingKey::to_bytes) != Some(key))
    {
        drop_old_sessions(turn, list).await?;
    }
    if let Some(fault) = notices.iter().find_map(fault_of) {
        return Ok(Err(fault));
    }
    match contact.can_send(freshness, turn.now) {
        Ok(_) | Err(Stop::Blocked) => Ok(Ok(Learned::Known)),
        Err(stop) => Ok(Err(RecordFault::Stopped(stop))),
    }
}

/// Whether a first session may be opened with an account: certificate, list and revocation list
/// are all current.
pub(crate) async fn may_begin(turn: &mut Turn<'_>, stored: &Account) -> Result<bool, StoreError> {
    if stored.relation == Relation::Own {
        return Ok(true);
    }
    let freshness = Freshness::of(revocations(turn).await?.as_ref(), turn.now);
    let contact = contact_of(turn, stored)?;
    Ok(contact.can_make_first_contact(freshness, turn.now).is_ok())
}

/// What makes a record unusable.
fn fault_of(notice: &contact::Notice) -> Option<RecordFault> {
    match notice {
        contact::Notice::CertificateRefused(error) => Some((*error).into()),
        contact::Notice::ListRefused(error) => Some((*error).into()),
        contact::Notice::WrongAnswer => Some(RecordFault::Malformed),
        contact::Notice::UncertifiedKey => Some(RecordFault::Stopped(Stop::UncertifiedKey)),
        contact::Notice::Revoked => Some(RecordFault::Stopped(Stop::Revoked)),
        _ => None,
    }
}

/// Lets a person (or a proof) decide about a contact.
pub(crate) async fn decide(
    turn: &mut Turn<'_>,
    account: AccountId,
    decision: impl FnOnce(&mut Contact),
) -> Result<bool, StoreError> {
    let Some(stored) = accounts::load(turn.db, account).await? else {
        return Ok(false);
    };
    if stored.relation == Relation::Own {
        return Ok(false);
    }
    let mut contact = contact_of(turn, &stored)?;
    decision(&mut contact);
    save_contact(turn, &contact, Some(stored)).await?;
    Ok(true)
}

/// What a message says about its sender's list. `false`: its device is not on the list any more.
pub(crate) async fn sender_names_list(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    named: ListRef,
) -> Result<bool, StoreError> {
    let Some(stored) = accounts::load(turn.db, sender.account).await? else {
        return Ok(true);
    };
    if stored.relation == Relation::Own {
        if named.version > stored.list_version {
            turn.call(Call::Account(sender.account));
        }
        return Ok(true);
    }
    let mut contact = contact_of(turn, &stored)?;
    match contact.observe_own_list(sender.device, named) {
        ListReport::Agrees | ListReport::Older => Ok(true),
        ListReport::RemovedDevice => Ok(false),
        ListReport::Fetch => {
            save_contact(turn, &contact, Some(stored)).await?;
            turn.call(Call::Account(sender.account));
            Ok(true)
        }
        ListReport::Contradicts(notice) => {
            save_contact(turn, &contact, Some(stored)).await?;
            tell(turn, sender.account, notice).await?;
            Ok(true)
        }
    }
}

/// What a message says about our own list.
pub(crate) async fn sender_used_list(
    turn: &mut Turn<'_>,
    sender: AccountId,
    named: ListRef,
) -> Result<(), StoreError> {
    let own = turn.own_account();
    let Some(stored) = accounts::load(turn.db, own).await? else {
        return Ok(());
    };
    let list = list_of(turn, &stored)?;
    match check_recipient_list(&list, named, turn.identity.own.is_primary()) {
        OwnListReport::Agrees | OwnListReport::PeerIsBehind => Ok(()),
        OwnListReport::WeAreBehind => {
            turn.call(Call::Account(own));
            Ok(())
        }
        OwnListReport::Contradicts => {
            Notice::about_once_a_day(turn, NoticeKind::ListMismatch, sender, "").await
        }
    }
}

/// Takes our own account's record: the certificate, and a list that only our primary signs.
async fn learn_own_record(
    turn: &mut Turn<'_>,
    record: &AccountRecord,
) -> Result<Result<(), RecordFault>, StoreError> {
    let account = turn.own_account();
    let (Some(chain), Some(blob)) = (&record.certificate, &record.device_list) else {
        return Ok(Err(RecordFault::NotCertified));
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
        Err(error) => return Ok(Err(error.into())),
    };
    let key = *certificate.account_key();
    let known = accounts::load(turn.db, account).await?;
    let pinned = match (&identity.own.account_key, &known) {
        (Some(own), _) => Some(own.verifying_key().to_bytes()),
        (None, Some(known)) => Some(known.account_key),
        (None, None) => None,
    };
    if pinned.is_some_and(|pinned| pinned != key.to_bytes()) {
        Notice::once_a_day(turn, NoticeKind::OwnListForged, "another account key").await?;
        return Ok(Err(RecordFault::Malformed));
    }
    let list = match VerifiedDeviceList::verify(blob, account, &key, identity.own.deployment) {
        Ok(list) => list,
        Err(error) => return Ok(Err(error.into())),
    };
    if let Some(known) = &known {
        let known_list = list_of(turn, known)?;
        if let Err(error) = list.check_replaces(&known_list) {
            if !matches!(error, DeviceListError::RolledBack { .. }) {
                let detail = error.to_string();
                Notice::once_a_day(turn, NoticeKind::OwnListForged, &detail).await?;
            }
            return Ok(Err(error.into()));
        }
        if list.version() > known_list.version() && identity.own.is_primary() {
            Notice::once_a_day(turn, NoticeKind::OwnListForged, "a newer list").await?;
        } else if list.devices().len() > known_list.devices().len() {
            Notice::about(turn, NoticeKind::OwnDeviceAdded, account, "").await?;
        }
    }
    let stored = Account {
        account,
        account_key: key.to_bytes(),
        role: certificate.role(),
        handle: certificate
            .handle()
            .map(|handle| handle.as_str().to_owned()),
        display_name: certificate.display_name().map(str::to_owned),
        certificate: chain.clone(),
        device_list: blob.clone(),
        list_version: list.version(),
        access_key: None,
        profile_name: None,
        profile_version: 0,
        profile_told: 0,
        label: None,
        relation: Relation::Own,
        verified: false,
        change_pending: false,
        contact: None,
        halted: None,
        fetched_at: turn.now,
        first_seen_at: known.map_or(turn.now, |known| known.first_seen_at),
    };
    accounts::save(turn.db, &stored).await?;
    drop_old_sessions(turn, &list).await?;
    Ok(Ok(()))
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
    match learn_own_record(turn, record).await? {
        Ok(()) => {}
        Err(RecordFault::DeviceList(DeviceListError::RolledBack { .. })) => {
            // The relay missed our newest list.
            if turn.identity.own.is_primary()
                && let Some(own) = accounts::load(turn.db, account).await?
            {
                turn.call(Call::DeviceList(Box::new(own.device_list)));
            }
            return Ok(Ok(()));
        }
        Err(fault) => {
            if fault == RecordFault::Certificate(CertificateError::Revoked) {
                set_own_state(turn, OwnState::Revoked, NoticeKind::OwnRevoked).await?;
            }
            return Ok(Err(fault));
        }
    }
    let Some(stored) = accounts::load(turn.db, account).await? else {
        return Err(StoreError::Damaged("own account"));
    };
    let own = turn.identity.clone();
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
