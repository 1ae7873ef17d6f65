//! How people become reachable for each other: Hello, profiles, introductions.
//!
//! A patient can fetch the prekeys of those alone whose access key it was given. It is given the
//! inviter's in the invite, everybody's in their profiles, and those of people it shares a
//! conversation with by whoever manages that conversation.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use wardline_wire::directory::check_display_name;
use wardline_wire::ids::{AccountId, DeploymentId};
use wardline_wire::invite::InviteSecret;
use wardline_wire::proto::Role;

use crate::content::{AccessKey, Fellow, Hello, Introduction, Kind, Profile};
use crate::membership;
use crate::notice::{Notice, NoticeKind, Notification};
use crate::outbox;
use crate::send;
use crate::store::accounts::{self, Relation};
use crate::store::own::{self, Own, OwnState};
use crate::store::{StoreError, conversations, misc};
use crate::turn::{Call, Turn};

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

/// A newcomer and an inviter, as a Hello binds them.
struct Pair {
    newcomer: AccountId,
    newcomer_key: [u8; 32],
    inviter: AccountId,
    inviter_key: [u8; 32],
}

/// The proof inside a Hello (see `account.proto`).
fn hello_mac(secret: &InviteSecret, deployment: DeploymentId, pair: &Pair) -> Hmac<Sha256> {
    let mut key = zeroize::Zeroizing::new([0; 32]);
    let info = [
        b"wardline/hello-proof/v1\0".as_slice(),
        deployment.as_bytes(),
    ];
    #[expect(
        clippy::expect_used,
        reason = "32 bytes are within HKDF's limit, and HMAC takes keys of any length"
    )]
    let mut mac = {
        Hkdf::<Sha256>::new(None, secret.expose())
            .expand_multi_info(&info, key.as_mut_slice())
            .expect("32 bytes");
        Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("any length")
    };
    mac.update(pair.newcomer.as_bytes());
    mac.update(&pair.newcomer_key);
    mac.update(pair.inviter.as_bytes());
    mac.update(&pair.inviter_key);
    mac
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
        Notice::about_once_a_day(turn, NoticeKind::KeyChanged, inviter, "not the key in the invite")
            .await?;
    }
    account.relation = Relation::Accepted;
    account.access_key = account.access_key.or(by.inviter_access_key);
    account.profile_told = own_version(own);
    accounts::save(turn.db, &account).await?;
    let Some(own_account) = accounts::load(turn.db, own.address.account).await? else {
        return Ok(());
    };
    let pair = Pair {
        newcomer: own.address.account,
        newcomer_key: own_account.account_key,
        inviter,
        inviter_key: account.account_key,
    };
    let proof = hello_mac(&by.secret, own.deployment, &pair)
        .finalize()
        .into_bytes();
    let hello = Kind::Hello(Hello {
        invite: by.secret.id(),
        proof: proof.into(),
        profile: own_profile(turn).await?,
    });
    finish_hello(turn).await?;
    send::to_account(turn, inviter, hello, true).await?;
    membership::create(turn, None, &[inviter])
        .await
        .map(drop)
        .or_else(|error| match error {
            crate::api::ClientError::Store(error) => Err(error),
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
    let pair = Pair {
        newcomer: sender,
        newcomer_key: newcomer.account_key,
        inviter: own,
        inviter_key: inviter.account_key,
    };
    let mac = hello_mac(&invite.secret, turn.identity.own.deployment, &pair);
    if mac.verify_slice(&hello.proof).is_err() {
        return Ok(Err("a Hello whose proof does not fit"));
    }
    if newcomer.relation != Relation::Blocked {
        newcomer.relation = Relation::Accepted;
    }
    if newcomer.label.is_none() && !invite.label.is_empty() {
        newcomer.label = Some(invite.label.clone());
    }
    accounts::save(turn.db, &newcomer).await?;
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
        if stored.profile_told >= own_version(own)
            || matches!(stored.relation, Relation::Blocked | Relation::Request)
        {
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
async fn introduce_to_fellows(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<(), StoreError> {
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

/// An owner of one of our conversations tells us how to reach the others in it.
pub(crate) async fn introduction_arrived(
    turn: &mut Turn<'_>,
    sender: AccountId,
    introduction: &Introduction,
) -> Result<(), StoreError> {
    let trusted = accounts::load(turn.db, sender)
        .await?
        .is_some_and(|stored| stored.relation == Relation::Accepted)
        || !conversations::shared_with(turn.db, sender).await?.is_empty();
    if !trusted {
        return Ok(());
    }
    for fellow in &introduction.fellows {
        let (account, key) = (fellow.account, *fellow.access_key.as_bytes());
        if account == turn.own_account() {
            continue;
        }
        match accounts::load(turn.db, account).await? {
            Some(mut stored) => {
                // Their own word, in a profile, counts for more.
                if stored.access_key.is_none() {
                    stored.access_key = Some(key);
                    accounts::save(turn.db, &stored).await?;
                    outbox::advance(turn, account, None).await?;
                }
            }
            None => {
                misc::save_introduction(turn.db, account, &key).await?;
                turn.call(Call::Account(account));
            }
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
    if !conversations::shared_with(turn.db, account).await?.is_empty() {
        tell_profile(turn, account).await?;
    }
    Ok(())
}
