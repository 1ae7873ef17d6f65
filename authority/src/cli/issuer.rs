//! Everything that happens in an issuer's directory.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use rand_core::UnwrapErr;
use serde_json::json;
use wardline_wire::clock::{Clock as _, SystemClock, Timestamp};
use wardline_wire::directory::{Handle, role_name};
use wardline_wire::ids::AccountId;
use wardline_wire::proto::RevocationKind;

use super::args::{
    AccountName, ApproveArgs, Command, DirArgs, InviteArgs, InvitesArgs, RejectArgs, RelayArgs,
    RevokeArgs, ServeArgs,
};
use super::failure::Failure;
use super::output::Output;
use super::root::open_root;
use crate::clerk::{Clerk, ClerkError, InviteOrder};
use crate::config::{Config, Overrides};
use crate::files::{self, FileError};
use crate::relay::RelayError;
use crate::store::{RevocationRow, StoredInvite};

/// Held by a running `serve`.
const LOCK_FILE: &str = "serve.lock";
/// Most invites that `invites` shows.
const MAX_SHOWN: u32 = 500;

pub(super) async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Invite(args) => invite(args, output).await,
        Command::Invites(args) => invites(args, output).await,
        Command::List(args) => list(args, output).await,
        Command::Approve(args) => approve(args, output).await,
        Command::Reject(args) => reject(args, output).await,
        Command::Accounts(args) => accounts(args, output).await,
        Command::Serve(args) => serve(args, output).await,
        Command::Revoke(args) => revoke(args, output).await,
        Command::ListRevocations(args) => list_revocations(args, output).await,
        Command::Init(_) | Command::Issuer(_) => Ok(()),
    }
}

async fn open(at: &DirArgs, overrides: &Overrides) -> Result<Clerk, Failure> {
    let config = Config::load(&at.dir, overrides)?;
    let passphrase = at
        .issuer_passphrase_file
        .as_deref()
        .map(files::read_passphrase)
        .transpose()?;
    let rng = Box::new(UnwrapErr(getrandom::SysRng));
    Ok(Clerk::open(&at.dir, config, passphrase, Arc::new(SystemClock), rng).await?)
}

async fn open_with_relay(args: &RelayArgs) -> Result<Clerk, Failure> {
    let clerk = open(&args.at, &args.overrides()).await?;
    clerk.check_relay().await?;
    Ok(clerk)
}

async fn invite(args: InviteArgs, output: &Output) -> Result<(), Failure> {
    let mut clerk = open(&args.relay.at, &args.relay.overrides()).await?;
    let inviter = match &args.inviter {
        Some(name) => Some(find_account(&clerk, name).await?),
        None => None,
    };
    let inviter_access_key = match &args.inviter_access_key_file {
        Some(path) => Some(read_access_key(path)?),
        None => None,
    };
    let order = InviteOrder {
        role: args.role,
        inviter,
        inviter_access_key,
        name: args.handle.zip(args.name),
        valid_for_ms: args.expires,
        once: args.once,
    };
    // Another clinic's relay must not even learn that there is an invite.
    match clerk.check_relay().await {
        Ok(()) => {}
        Err(ClerkError::Relay(error)) if error.is_passing() => {}
        Err(error) => return Err(error.into()),
    }
    let issued = clerk.invite(&order).await?;
    if issued.link.is_empty() {
        return Err(Failure::user(
            "redeemed",
            "this invite exists and was redeemed already",
            "use another --once to invite again",
        ));
    }
    if let Some(error) = &issued.not_admitted {
        output.warn(&format!(
            "{error}; the invite is kept, and `serve` (or this command again) admits it later. \
             Until then the link does not work."
        ));
    }
    let stored = &issued.stored;
    output.data(
        &json!({
            "link": issued.link,
            "invite": stored.id.to_string(),
            "role": role_name(stored.invite.role),
            "handle": stored.invite.name.as_ref().map(|(handle, _)| handle.as_str()),
            "expires_at_ms": stored.invite.expires_at.as_millis(),
            "admitted": issued.not_admitted.is_none(),
        }),
        &issued.link,
    )?;
    output.say("Whoever holds this link may enrol, once. Hand it over like a password.");
    clerk.close().await;
    Ok(())
}

async fn invites(args: InvitesArgs, output: &Output) -> Result<(), Failure> {
    let clerk = open(&args.at, &Overrides::default()).await?;
    if let Some(id) = args.show {
        let stored = clerk.store().invite(id).await?;
        let link = match &stored {
            Some(stored) => clerk.link(stored).await?,
            None => String::new(),
        };
        if link.is_empty() {
            return Err(Failure::user(
                "no-link",
                "there is no open invite with this id",
                "`invites` shows them all",
            ));
        }
        return output.data(&json!({ "link": link }), &link);
    }
    let now = SystemClock.now();
    let mut text = String::new();
    let mut values = Vec::new();
    for stored in clerk.store().invites(MAX_SHOWN).await? {
        let state = invite_state(&stored, now);
        let handle = stored.invite.name.as_ref().map(|(handle, _)| handle);
        let _ = writeln!(
            text,
            "{}  {:8} {:10} {}",
            stored.id,
            role_name(stored.invite.role),
            state,
            handle.map(ToString::to_string).unwrap_or_default(),
        );
        values.push(json!({
            "invite": stored.id.to_string(),
            "role": role_name(stored.invite.role),
            "handle": handle.map(Handle::as_str),
            "state": state,
            "expires_at_ms": stored.invite.expires_at.as_millis(),
            "redeemed_by": stored.redeemed_by.map(|account| account.to_string()),
        }));
    }
    output.data(&json!({ "invites": values }), &or_none(text, "no invites"))?;
    clerk.close().await;
    Ok(())
}

fn invite_state(stored: &StoredInvite, now: Timestamp) -> &'static str {
    if stored.redeemed_by.is_some() {
        "redeemed"
    } else if now > stored.invite.expires_at {
        "expired"
    } else if stored.admitted_at.is_none() {
        "waiting"
    } else {
        "open"
    }
}

async fn list(args: RelayArgs, output: &Output) -> Result<(), Failure> {
    let mut clerk = open_with_relay(&args).await?;
    let mut text = String::new();
    let mut values = Vec::new();
    for entry in clerk.desk().await? {
        let account = entry.account.map(|account| account.to_string());
        let (role, handle) = entry.certified_as.map_or((None, None), |(role, handle)| {
            (Some(role_name(role)), handle)
        });
        let _ = writeln!(
            text,
            "{}  {:8} {:8} {}  {}",
            account.as_deref().unwrap_or("(unreadable)"),
            role.unwrap_or("?"),
            entry.verdict,
            handle.as_ref().map(ToString::to_string).unwrap_or_default(),
            entry.reason,
        );
        values.push(json!({
            "account": account,
            "invite": entry.invite.map(|invite| invite.to_string()),
            "role": role,
            "handle": handle.as_ref().map(Handle::as_str),
            "verdict": entry.verdict,
            "reason": entry.reason,
        }));
    }
    output.data(
        &json!({ "enrolments": values }),
        &or_none(text, "no enrolments wait"),
    )?;
    clerk.close().await;
    Ok(())
}

async fn approve(args: ApproveArgs, output: &Output) -> Result<(), Failure> {
    let mut clerk = open_with_relay(&args.relay).await?;
    clerk
        .approve(args.account, args.handle.zip(args.name))
        .await?;
    let account = args.account.to_string();
    output.data(
        &json!({ "account": account, "certified": true }),
        &format!("certified {account}"),
    )?;
    clerk.close().await;
    Ok(())
}

async fn reject(args: RejectArgs, output: &Output) -> Result<(), Failure> {
    let mut clerk = open_with_relay(&args.relay).await?;
    clerk.reject(args.account, &args.reason).await?;
    let account = args.account.to_string();
    output.data(
        &json!({ "account": account, "rejected": true }),
        &format!("rejected {account}"),
    )?;
    clerk.close().await;
    Ok(())
}

async fn accounts(args: DirArgs, output: &Output) -> Result<(), Failure> {
    let clerk = open(&args, &Overrides::default()).await?;
    let now = SystemClock.now();
    let mut text = String::new();
    let mut values = Vec::new();
    for account in clerk.store().accounts().await? {
        let state = match (account.revoked_at, account.delivered_at) {
            (Some(_), _) => "revoked",
            (None, _) if now > account.not_after => "expired",
            (None, None) => "undelivered",
            (None, Some(_)) => "certified",
        };
        let handle = account.name.as_ref().map(|(handle, _)| handle);
        let _ = writeln!(
            text,
            "{}  {:8} {:11} {}  {}",
            account.id,
            role_name(account.role),
            state,
            account.certificate,
            handle.map(ToString::to_string).unwrap_or_default(),
        );
        values.push(json!({
            "account": account.id.to_string(),
            "role": role_name(account.role),
            "handle": handle.map(Handle::as_str),
            "name": account.name.as_ref().map(|(_, name)| name.as_str()),
            "state": state,
            "certificate": account.certificate.to_string(),
            "issuer": account.issuer.to_string(),
            "not_after_ms": account.not_after.as_millis(),
        }));
    }
    output.data(
        &json!({ "accounts": values }),
        &or_none(text, "nobody is certified yet"),
    )?;
    clerk.close().await;
    Ok(())
}

async fn serve(args: ServeArgs, output: &Output) -> Result<(), Failure> {
    let dir = &args.relay.at.dir;
    // Held until the process ends, however it ends.
    let _lock = lock(dir)?;
    let overrides = Overrides {
        approve: args.approve,
        poll_seconds: args.poll_seconds,
        ..args.relay.overrides()
    };
    let mut clerk = open(&args.relay.at, &overrides).await?;
    let shutdown = shutdown_signal()?;
    tracing::info!("serving; ends on SIGTERM or Ctrl-C");
    let on_ready = || {
        tracing::info!("ready");
        if output.json {
            let _ = output.data(&json!({ "ready": true }), "");
        }
    };
    clerk.serve(shutdown, on_ready).await?;
    clerk.close().await;
    tracing::info!("stopped");
    Ok(())
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOCK_FILE);
    let file = File::create(&path).map_err(|source| FileError::Io {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::in_use(&format!(
            "another serve is running in {}",
            dir.display()
        ))),
        Err(TryLockError::Error(source)) => Err(FileError::Io { path, source }.into()),
    }
}

fn shutdown_signal() -> Result<impl Future<Output = ()>, Failure> {
    #[cfg(unix)]
    let mut terminate = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).map_err(|error| Failure::io("signals", &error))?
    };
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

async fn revoke(args: RevokeArgs, output: &Output) -> Result<(), Failure> {
    let mut clerk = open(&args.relay.at, &args.relay.overrides()).await?;
    match clerk.check_relay().await {
        // Revoking comes first; the relay hears of it when it can.
        Ok(()) | Err(ClerkError::Config(_)) => {}
        Err(ClerkError::Relay(error)) if error.is_passing() => {}
        Err(error) => return Err(error.into()),
    }
    let (kind, id) = match (&args.account, args.certificate, args.issuer) {
        (Some(name), _, _) => {
            let account = match name {
                // Also one that another authority under this root certified.
                AccountName::Id(id) => *id,
                AccountName::Handle(_) => find_account(&clerk, name).await?,
            };
            (RevocationKind::Account, *account.as_bytes())
        }
        (None, Some(serial), _) => (RevocationKind::Certificate, *serial.as_bytes()),
        (None, None, Some(serial)) => (RevocationKind::Issuer, *serial.as_bytes()),
        (None, None, None) => {
            return Err(Failure::user(
                "usage",
                "nothing to revoke is named",
                "give --account, --certificate or --issuer",
            ));
        }
    };
    let root = match &args.root {
        Some(dir) => {
            let root = open_root(dir, args.passphrase_file.as_deref())?;
            if root.anchor() != clerk.anchor() {
                return Err(RelayError::OtherDeployment.into());
            }
            Some(root)
        }
        None => None,
    };
    let entry = RevocationRow {
        kind,
        id,
        revoked_at: SystemClock.now(),
        reason: args.reason,
    };
    let listed = clerk.revoke(&[entry], root.as_ref()).await?;
    if let Some(error) = &listed.not_published {
        output.warn(&format!(
            "list {} is signed and kept, but not published ({error}); `serve` publishes it later. \
             Until then nobody knows.",
            listed.number
        ));
    }
    output.data(
        &json!({
            "revoked": hex::encode(id),
            "kind": kind_name(kind),
            "list_number": listed.number,
            "entries": listed.entries,
            "published": listed.not_published.is_none(),
        }),
        &format!(
            "revoked {} {}; list {}",
            kind_name(kind),
            hex::encode(id),
            listed.number
        ),
    )?;
    clerk.close().await;
    Ok(())
}

async fn list_revocations(args: DirArgs, output: &Output) -> Result<(), Failure> {
    let clerk = open(&args, &Overrides::default()).await?;
    let newest = clerk.store().newest_list().await?;
    let mut text = match &newest {
        Some(list) => format!(
            "list {}, {} entries, {}\n",
            list.number,
            list.entries,
            if list.published_at.is_some() {
                "published"
            } else {
                "not published yet"
            }
        ),
        None => "no list was signed yet\n".to_owned(),
    };
    let mut values = Vec::new();
    for entry in clerk.store().revocations().await? {
        let id = match entry.kind {
            RevocationKind::Account => AccountId::from(entry.id).to_string(),
            _ => hex::encode(entry.id),
        };
        let _ = writeln!(text, "{:11} {id}  {}", kind_name(entry.kind), entry.reason);
        values.push(json!({
            "kind": kind_name(entry.kind),
            "id": id,
            "revoked_at_ms": entry.revoked_at.as_millis(),
            "reason": entry.reason,
        }));
    }
    output.data(
        &json!({
            "list_number": newest.as_ref().map(|list| list.number),
            "next_update_ms": newest.as_ref().map(|list| list.next_update.as_millis()),
            "published": newest.as_ref().is_some_and(|list| list.published_at.is_some()),
            "revocations": values,
        }),
        &text,
    )?;
    clerk.close().await;
    Ok(())
}

const fn kind_name(kind: RevocationKind) -> &'static str {
    match kind {
        RevocationKind::Account => "account",
        RevocationKind::Certificate => "certificate",
        RevocationKind::Issuer => "issuer",
        RevocationKind::Unspecified => "unspecified",
    }
}

async fn find_account(clerk: &Clerk, name: &AccountName) -> Result<AccountId, Failure> {
    match name {
        AccountName::Id(id) => Ok(*id),
        AccountName::Handle(handle) => match clerk.store().account_by_handle(handle).await? {
            Some(account) => Ok(account.id),
            None => Err(ClerkError::UnknownAccount(handle.to_string()).into()),
        },
    }
}

fn read_access_key(path: &Path) -> Result<[u8; 16], Failure> {
    let text = files::read_text(path)?;
    hex::decode(text.trim())
        .ok()
        .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
        .ok_or_else(|| FileError::content(path, "an access key of 32 hexadecimal digits").into())
}

fn or_none(text: String, none: &str) -> String {
    if text.is_empty() {
        none.to_owned()
    } else {
        text
    }
}
