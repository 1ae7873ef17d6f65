//! What is done without anybody asking: on connecting, on the relay's greeting, once in a while.

use wardline_wire::ids::AccountId;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{AccountRecord, Hello, RevocationBundle};

use crate::contact::Origin;
use crate::devices;
use crate::directory::{self, Learned, RecordFault};
use crate::introductions;
use crate::membership;
use crate::notice::{Notice, NoticeKind, Notification};
use crate::outbox::{self, DeliveryState};
use crate::prekeys;
use crate::receive;
use crate::relay::RelayError;
use crate::retry;
use crate::store::own::OwnState;
use crate::store::{StoreError, accounts, inbox, messages, misc, outbox as outbox_table};
use crate::sync;
use crate::turn::{Call, Turn};

const DAY_MS: u64 = 24 * 3_600_000;
/// Own contents are kept this long for those who could not read them.
const KEEP_SENT_MS: u64 = 14 * DAY_MS;
const KEEP_SENT: u64 = 5_000;
/// Content ids are remembered longer than any mailbox keeps an envelope.
const KEEP_SEEN_MS: u64 = 90 * DAY_MS;

/// A socket is open.
pub(crate) async fn connected(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    let own = turn.own_account();
    turn.call(Call::Account(own));
    turn.call(Call::Stock);
    directory::refresh_revocations(turn).await?;
    introductions::greet_inviter(turn).await?;
    for account in inbox::parked_accounts(turn.db, turn.now).await? {
        turn.call(Call::Account(account));
    }
    outbox::look_again(turn).await
}

/// The relay's first frame.
pub(crate) async fn greeted(turn: &mut Turn<'_>, hello: &Hello) -> Result<(), StoreError> {
    if hello.epoch != turn.identity.own.mailbox_epoch {
        prekeys::note_epoch(turn, hello.epoch).await?;
        turn.call(Call::Stock);
    }
    let known = misc::revocation_number(turn.db).await?;
    if hello.revocation_number > known {
        turn.call(Call::Revocations);
    }
    Ok(())
}

/// Once a second; `connected` tells whether calls make sense.
pub(crate) async fn tick(
    turn: &mut Turn<'_>,
    ticks: u64,
    connected: bool,
) -> Result<(), StoreError> {
    for local_id in messages::delete_disappeared(turn.db, turn.now).await? {
        turn.notify(Notification::MessageChanged { local_id });
    }
    retry::look_for_gaps(turn).await?;
    if ticks % 3600 == 1 {
        tidy(turn).await?;
    }
    if !connected {
        return Ok(());
    }
    let state = turn.identity.own.state;
    if matches!(state, OwnState::Pending | OwnState::Linking)
        && (ticks < 30 || ticks.is_multiple_of(5))
    {
        let own = turn.own_account();
        turn.call(Call::Account(own));
    }
    outbox::look_again(turn).await?;
    if ticks.is_multiple_of(10) {
        for account in inbox::parked_accounts(turn.db, turn.now).await? {
            turn.call(Call::Account(account));
        }
    }
    if ticks.is_multiple_of(60) {
        directory::refresh_revocations(turn).await?;
        devices::renew_list(turn).await?;
        for account in accounts::overdue(turn.db, turn.now.minus_millis(DAY_MS)).await? {
            turn.call(Call::Account(account));
        }
    }
    if ticks.is_multiple_of(3600) {
        turn.call(Call::Stock);
    }
    Ok(())
}

async fn tidy(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    receive::expire_deferred(turn).await?;
    let now = turn.now;
    outbox_table::forget_sent(turn.db, now.minus_millis(KEEP_SENT_MS), KEEP_SENT).await?;
    inbox::forget_seen(turn.db, now.minus_millis(KEEP_SEEN_MS)).await
}

/// The revocation list came: first contacts that waited for it go on.
pub(crate) async fn revocations_answered(
    turn: &mut Turn<'_>,
    bundle: &RevocationBundle,
) -> Result<(), StoreError> {
    let had = directory::revocations(turn).await?.is_some();
    directory::learn_revocations(turn, bundle).await?;
    if had {
        return Ok(());
    }
    introductions::greet_inviter(turn).await?;
    for account in inbox::parked_accounts(turn.db, turn.now.plus_millis(DAY_MS)).await? {
        turn.call(Call::Account(account));
    }
    for account in outbox_table::unready_accounts(turn.db, turn.now.plus_millis(DAY_MS)).await? {
        turn.call(Call::Account(account));
    }
    Ok(())
}

/// An account's record came, or did not.
pub(crate) async fn account_answered(
    turn: &mut Turn<'_>,
    account: AccountId,
    answer: Result<Box<AccountRecord>, RelayError>,
) -> Result<(), StoreError> {
    let record = match answer {
        Ok(record) => record,
        Err(error) => return no_record(turn, account, &error).await,
    };
    if account == turn.own_account() {
        return own_record(turn, &record).await;
    }
    match directory::learn(turn, account, &record, Origin::Stranger).await? {
        Ok(learned) => learned_about(turn, account, learned).await,
        Err(fault) => {
            accounts::touch(turn.db, account, turn.now).await?;
            // What may come right by itself waits; a person heard of a stop when it began.
            let waits = matches!(fault, RecordFault::NotCertified | RecordFault::Stopped(_));
            let for_good = !waits;
            if !waits {
                let detail = fault.to_string();
                Notice::about_once_a_day(turn, NoticeKind::RecordRefused, account, &detail).await?;
            }
            // Known devices stay as they are: what they send is still read.
            if accounts::load(turn.db, account).await?.is_some() {
                receive::unpark(turn, account).await?;
                outbox::advance(turn, account, None).await
            } else {
                receive::record_missing(turn, account, for_good).await?;
                outbox::postpone(turn, account, DeliveryState::WaitingForKeys, 60_000).await
            }
        }
    }
}

/// A record was believed: everything that waited for it goes on.
pub(crate) async fn learned_about(
    turn: &mut Turn<'_>,
    account: AccountId,
    learned: Learned,
) -> Result<(), StoreError> {
    if learned == Learned::New {
        sync::record_learned(turn, account).await?;
    }
    introductions::record_learned(turn, account).await?;
    receive::unpark(turn, account).await?;
    membership::account_learned(turn, account).await?;
    outbox::advance(turn, account, None).await
}

async fn own_record(turn: &mut Turn<'_>, record: &AccountRecord) -> Result<(), StoreError> {
    let before = turn.identity.own.state;
    if directory::learn_own(turn, record).await?.is_err() {
        return Ok(());
    }
    let own = turn.own_account();
    receive::unpark(turn, own).await?;
    introductions::refresh_identity(turn).await?;
    if before == OwnState::Linking && turn.identity.own.state == OwnState::Active {
        sync::ask(turn).await?;
    }
    introductions::greet_inviter(turn).await?;
    devices::renew_list(turn).await?;
    outbox::advance(turn, own, None).await
}

async fn no_record(
    turn: &mut Turn<'_>,
    account: AccountId,
    error: &RelayError,
) -> Result<(), StoreError> {
    if account == turn.own_account() {
        return Ok(());
    }
    let unknown = error.kind() == Some(ProblemKind::NotFound);
    receive::record_missing(turn, account, unknown).await?;
    let wait = if error.is_temporary() {
        15_000
    } else {
        600_000
    };
    outbox::postpone(turn, account, DeliveryState::WaitingForKeys, wait).await
}
