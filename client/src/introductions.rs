//! How people become reachable for each other: Hello, profiles, introductions.
//!
//! A patient can fetch the prekeys of those alone whose access key it was given. It is given the
//! inviter's in the invite, everybody's in their profiles, and those of people it shares a
//! conversation with by whoever manages that conversation.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wardline_wire::directory::check_display_name;
use wardline_wire::ids::AccountId;
use wardline_wire::proto::Role;

use crate::api::ClientError;
use crate::contact::{Contact, check_hello, hello_proof};
use crate::content::{AccessKey, Fellow, Hello, Introduction, Kind, Profile};
use crate::directory;
use crate::membership;
use crate::notice::{Notice, NoticeKind, Notification};
use crate::outbox;
use crate::send;
use crate::session;
use crate::store::accounts::{self, Relation};
use crate::store::conversations::ConversationState;
use crate::store::own::{self, Own, OwnState};
use crate::store::{StoreError, conversations, misc};
use crate::turn::{Call, Identity, Turn};

/// Version of a profile that carries an access key and perhaps a name.
fn own_version(own: &Own) -> u64 {
    own.name_version.max(1)
}

/// Our profile. Whoever chose no name goes by the certified one, if there is one.
async fn own_profile(turn: &mut Turn<'_>) -> Result<Profile, StoreError> {
    let identity = turn.identity.clone();
    let own = &identity.own;
    let certified = accounts::load(turn.db, own.address.account)
        .await?
        .and_then(|account| account.display_name);
    let name = [Some(own.name.clone()), certified]
        .into_iter()
        .flatten()
        .find(|name| check_display_name(name))
        .unwrap_or_else(|| "Patient".to_owned());
    Ok(Profile {
        name,
        version: own_version(own),
        access_key: Some(AccessKey::from(own.access_key)),
    })
}

/// Once certified: greets the inviter and opens the conversation with them.
pub(crate) async fn greet_inviter(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    let identity = turn.identity.clone();
    let own = &identity.own;
    if own.state != OwnState::Active || own.hello_queued {
        return Ok(());
    }
    let Some(by) = &own.came_by else {
        return Ok(());
    };
    let (Some(inviter), Some(key_hash)) = (by.inviter, by.inviter_key_sha256) else {
        // The authority itself invited: there is nobody to greet.
        return finish_hello(turn).await;
    };
    let Some(mut account) = accounts::load(turn.db, inviter).await? else {
        turn.call(Call::Account(inviter));
        return Ok(());
    };
    let hash: [u8; 32] = Sha256::digest(account.account_key).into();
    if hash != key_hash {
        // The clinic certifies another key for the inviter than the invite names.
        Notice::about_once_a_day(
            turn,
            NoticeKind::KeyChanged,
            inviter,
            "not the key in the invite",
        )
        .await?;
    }
    account.access_key = account.access_key.or(by.inviter_access_key);
    account.profile_told = own_version(own);
    accounts::save(turn.db, &account).await?;
    directory::decide(turn, inviter, Contact::accept_request).await?;
    let Some(own_account) = accounts::load(turn.db, own.address.account).await? else {
        return Ok(());
    };
    let proof = hello_proof(
        &by.secret,
        own.deployment,
        (own.address.account, &own_account.account_key),
        (inviter, &account.account_key),
    );
    let hello = Kind::Hello(Hello {
        invite: by.secret.id(),
        proof,
        profile: own_profile(turn).await?,
    });
    finish_hello(turn).await?;
    send::to_account(turn, inviter, hello, true).await?;
    membership::create(turn, None, &[inviter])
        .await
        .map(drop)
        .or_else(|error| match error {
            ClientError::Store(error) => Err(error),
            _ => Ok(()),
        })
}

async fn finish_hello(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    let Some(mut own) = own::load(turn.db).await? else {
        return Ok(());
    };
    own.hello_queued = true;
    own::save(turn.db, &own).await?;
    turn.effects.own_changed = true;
    Ok(())
}

/// A newcomer greets us. `Err` names why it does not count.
pub(crate) async fn hello_arrived(
    turn: &mut Turn<'_>,
    sender: AccountId,
    hello: &Hello,
) -> Result<Result<(), &'static str>, StoreError> {
    let invite_id = hello.invite;
    let Some(invite) = misc::invite(turn.db, invite_id).await? else {
        return Ok(Err("a Hello for an invite that is not ours"));
    };
    if invite.redeemed_by.is_some_and(|account| account != sender) {
        return Ok(Err("a Hello for an invite that somebody else accepted"));
    }
    let own = turn.own_account();
    let (Some(mut newcomer), Some(inviter)) = (
        accounts::load(turn.db, sender).await?,
        accounts::load(turn.db, own).await?,
    ) else {
        return Ok(Err("a Hello from nobody"));
    };
    let checked = check_hello(
        hello,
        &invite.secret,
        turn.identity.own.deployment,
        (sender, &newcomer.account_key),
        (own, &inviter.account_key),
    );
    if checked.is_err() {
        return Ok(Err("a Hello whose proof does not fit"));
    }
    if newcomer.label.is_none() && !invite.label.is_empty() {
        newcomer.label = Some(invite.label.clone());
    }
    accounts::save(turn.db, &newcomer).await?;
    directory::decide(turn, sender, Contact::greet).await?;
    misc::redeem_invite(turn.db, invite_id, sender).await?;
    if invite.redeemed_by.is_none() {
        Notice::about(turn, NoticeKind::InviteRedeemed, sender, "").await?;
    }
    profile_arrived(turn, sender, &hello.profile).await?;
    membership::requests_accepted(turn, sender).await?;
    tell_profile(turn, sender).await?;
    Ok(Ok(()))
}

/// Somebody tells us their name and access key.
pub(crate) async fn profile_arrived(
    turn: &mut Turn<'_>,
    sender: AccountId,
    profile: &Profile,
) -> Result<(), StoreError> {
    let Some(mut account) = accounts::load(turn.db, sender).await? else {
        return Ok(());
    };
    if profile.version < account.profile_version {
        return Ok(());
    }
    account.profile_version = profile.version;
    account.profile_name = Some(profile.name.clone());
    let key = profile.access_key.map(|key| *key.as_bytes());
    let new_key = key.is_some() && key != account.access_key;
    account.access_key = key.or(account.access_key);
    accounts::save(turn.db, &account).await?;
    turn.notify(Notification::Contact { account: sender });
    if new_key {
        outbox::advance(turn, sender, None).await?;
        introduce_to_fellows(turn, sender).await?;
    }
    Ok(())
}

/// Tells an account our name and access key, if it does not know the newest.
pub(crate) async fn tell_profile(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<(), StoreError> {
    let identity = turn.identity.clone();
    let own = &identity.own;
    if own.state != OwnState::Active || account == own.address.account {
        return Ok(());
    }
    if let Some(mut stored) = accounts::load(turn.db, account).await? {
        let told = stored.profile_told >= own_version(own);
        let stranger = stored.relation == Relation::Request && !is_fellow(turn, account).await?;
        if told || stranger || stored.relation == Relation::Blocked {
            return Ok(());
        }
        stored.profile_told = own_version(own);
        accounts::save(turn.db, &stored).await?;
        let profile = Kind::Profile(own_profile(turn).await?);
        return send::to_account(turn, account, profile, true).await;
    }
    // Told once the record is here.
    turn.call(Call::Account(account));
    Ok(())
}

/// Whether we share an open conversation with an account.
async fn is_fellow(turn: &mut Turn<'_>, account: AccountId) -> Result<bool, StoreError> {
    for id in conversations::shared_with(turn.db, account).await? {
        let open = conversations::load(turn.db, &id)
            .await?
            .is_some_and(|stored| stored.state == ConversationState::Open);
        if open {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells everybody in a conversation who we are, and newcomers who the others are.
pub(crate) async fn conversation_changed(
    turn: &mut Turn<'_>,
    conversation: crate::api::ConversationId,
    joined: &[AccountId],
) -> Result<(), StoreError> {
    let own = turn.own_account();
    let members = conversations::members(turn.db, conversation.as_bytes()).await?;
    for member in &members {
        tell_profile(turn, member.account).await?;
    }
    let we_own = members
        .iter()
        .any(|member| member.account == own && member.owner);
    if !we_own || members.len() < 3 {
        return Ok(());
    }
    let mut fellows = Vec::new();
    for member in &members {
        if let Some(account) = accounts::load(turn.db, member.account).await?
            && let Some(access_key) = account.access_key
            && member.account != own
        {
            fellows.push(Fellow {
                account: member.account,
                access_key: AccessKey::from(access_key),
            });
        }
    }
    for newcomer in joined.iter().filter(|account| **account != own) {
        let fellows: Vec<Fellow> = fellows
            .iter()
            .filter(|fellow| fellow.account != *newcomer)
            .copied()
            .collect();
        if !fellows.is_empty() {
            let kind = Kind::Introduction(Introduction { fellows });
            send::to_account(turn, *newcomer, kind, true).await?;
        }
    }
    // Those who were there may need the newcomers' keys.
    for newcomer in joined {
        introduce_to_fellows(turn, *newcomer).await?;
    }
    Ok(())
}

/// Gives an account's access key to the patients it shares our conversations with.
async fn introduce_to_fellows(turn: &mut Turn<'_>, account: AccountId) -> Result<(), StoreError> {
    let own = turn.own_account();
    let Some(access_key) = accounts::load(turn.db, account)
        .await?
        .and_then(|stored| stored.access_key)
    else {
        return Ok(());
    };
    let mut told = Vec::new();
    for conversation in conversations::shared_with(turn.db, account).await? {
        let members = conversations::members(turn.db, &conversation).await?;
        let we_own = members
            .iter()
            .any(|member| member.account == own && member.owner);
        if !we_own {
            continue;
        }
        for member in members {
            if member.account == own || member.account == account || told.contains(&member.account)
            {
                continue;
            }
            let patient = accounts::load(turn.db, member.account)
                .await?
                .is_some_and(|stored| stored.role == Role::Patient);
            if patient {
                told.push(member.account);
                let kind = Kind::Introduction(Introduction {
                    fellows: vec![Fellow {
                        account,
                        access_key: AccessKey::from(access_key),
                    }],
                });
                send::to_account(turn, member.account, kind, true).await?;
            }
        }
    }
    Ok(())
}

/// Another name for ourselves, told to everybody.
pub(crate) async fn rename(turn: &mut Turn<'_>, name: String) -> Result<(), ClientError> {
    if !check_display_name(&name) {
        return Err(ClientError::Invalid(
            "a name has 1 to 64 bytes and no hidden characters",
        ));
    }
    let mut own = own::load(turn.db).await?.ok_or(ClientError::NotEnrolled)?;
    own.name = name;
    Ok(changed_profile(turn, own).await?)
}

/// Another access key, told to everybody.
pub(crate) async fn new_access_key(
    turn: &mut Turn<'_>,
    access_key: [u8; 16],
) -> Result<(), StoreError> {
    let Some(mut own) = own::load(turn.db).await? else {
        return Ok(());
    };
    own.access_key = access_key;
    changed_profile(turn, own).await
}

async fn changed_profile(turn: &mut Turn<'_>, mut own: Own) -> Result<(), StoreError> {
    own.name_version = own_version(&own) + 1;
    own::save(turn.db, &own).await?;
    turn.effects.own_changed = true;
    refresh_identity(turn).await?;
    for account in accounts::all(turn.db).await? {
        if account.relation == Relation::Accepted && account.profile_told > 0 {
            tell_profile(turn, account.account).await?;
        }
    }
    turn.notify(Notification::Own);
    Ok(())
}

/// The turn goes on with what it has just changed about ourselves.
pub(crate) async fn refresh_identity(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    if !turn.effects.own_changed {
        return Ok(());
    }
    if let Some(own) = own::load(turn.db).await? {
        turn.identity = Arc::new(Identity {
            local: session::local_identity(&own)?,
            anchor: turn.identity.anchor.clone(),
            jobs: turn.identity.jobs,
            own,
        });
    }
    Ok(())
}

/// An owner of one of our conversations tells us how to reach the others in it.
pub(crate) async fn introduction_arrived(
    turn: &mut Turn<'_>,
    sender: AccountId,
    introduction: &Introduction,
) -> Result<(), StoreError> {
    let trusted = accounts::load(turn.db, sender)
        .await?
        .is_some_and(|stored| stored.relation == Relation::Accepted)
        || !conversations::shared_with(turn.db, sender)
            .await?
            .is_empty();
    if !trusted {
        return Ok(());
    }
    for fellow in &introduction.fellows {
        let (account, key) = (fellow.account, *fellow.access_key.as_bytes());
        if account == turn.own_account() {
            continue;
        }
        if let Some(mut stored) = accounts::load(turn.db, account).await? {
            // Their own word, in a profile, counts for more.
            if stored.access_key.is_none() {
                stored.access_key = Some(key);
                accounts::save(turn.db, &stored).await?;
                outbox::advance(turn, account, None).await?;
            }
        } else {
            misc::save_introduction(turn.db, account, &key).await?;
            turn.call(Call::Account(account));
        }
    }
    Ok(())
}

/// A record was learned: gives it the access key we were told before, and our profile if we
/// share a conversation.
pub(crate) async fn record_learned(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<(), StoreError> {
    if let Some(mut stored) = accounts::load(turn.db, account).await?
        && let Some(key) = misc::take_introduction(turn.db, account).await?
        && stored.access_key.is_none()
    {
        stored.access_key = Some(key);
        accounts::save(turn.db, &stored).await?;
    }
    greet_inviter(turn).await?;
    if !conversations::shared_with(turn.db, account)
        .await?
        .is_empty()
    {
        tell_profile(turn, account).await?;
    }
    Ok(())
}
