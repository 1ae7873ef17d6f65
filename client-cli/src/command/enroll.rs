//! `wardline enroll <invite>`

use std::io::Read as _;
use std::time::Duration;

use serde_json::json;
use wardline_client::api::{Client, ClientError, ProfileConfig, ProfileError};
use wardline_wire::clock::{Clock as _, SystemClock};
use wardline_wire::directory::role_name;
use wardline_wire::invite::Invite;

use super::{failed, flush};
use crate::args::{Enroll, ProfileOptions};
use crate::failure::{Failure, Kind};
use crate::output;
use crate::unlock;

/// Longer than any invite.
const MAX_INVITE_BYTES: u64 = 8192;

pub(super) async fn run(profile: &ProfileOptions, json: bool, args: Enroll) -> Result<(), Failure> {
    let link = if args.invite == "-" {
        read_invite()?
    } else {
        args.invite
    };
    let invite = Invite::from_link(&link, SystemClock.now()).map_err(Failure::input)?;
    let dir = unlock::profile_dir(profile)?;
    let new = !dir.join("profile.json").exists();
    let mut config = ProfileConfig::new(&dir, unlock::unlock(profile, new)?);
    config.name = args.name.unwrap_or_default();
    let client = match Client::enrol(config, &invite).await {
        Ok(client) => client,
        Err(error @ ClientError::Profile(ProfileError::InUse(_))) => return Err(failed(error)),
        Err(error) => return Err(failed(error).hint("It is safe to run the same command again.")),
    };
    let certified = client.wait_certified(Duration::from_secs(args.wait)).await;
    let own = client.own().await.map_err(failed)?;
    if certified.is_ok() {
        // The first contact with the inviter should be on its way before the process ends.
        flush(&client).await;
    }
    client.shutdown().await;
    match certified {
        Ok(()) => {
            if json {
                output::json_line(&json!({
                    "account": own.address.account.to_string(),
                    "device": own.address.device.get(),
                    "role": role_name(own.role),
                    "handle": own.handle,
                    "profile": dir,
                }));
            } else {
                output::note(&format!("enrolled as {}; account {}", role_name(own.role), own.address.account));
            }
            Ok(())
        }
        Err(ClientError::TimedOut) => Err(Failure::new(
            Kind::Refused,
            "the invite was taken, but the clinic has not confirmed the account yet",
        )
        .hint("Nothing is lost: any later command goes on waiting for it, for example \"wardline status\".")),
        Err(error) => Err(failed(error)),
    }
}

fn read_invite() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_INVITE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| Failure::input(format!("the invite could not be read: {error}")))?;
    Ok(text)
}
