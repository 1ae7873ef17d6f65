//! `wardline invite`

use serde_json::json;
use wardline_client::api::{Handle, NewInvite};
use wardline_wire::directory::role_from_name;

use super::{failed, open_and_sync};
use crate::args::{Invite, ProfileOptions};
use crate::failure::Failure;
use crate::output;

const DAY_MS: u64 = 24 * 3_600_000;

pub(super) async fn run(profile: &ProfileOptions, json: bool, args: Invite) -> Result<(), Failure> {
    let role = role_from_name(&args.role).ok_or_else(|| {
        Failure::input(format!("{:?} is not a role", args.role))
            .hint("One of: patient, staff, ai, admin, officer.")
    })?;
    let handle = args
        .handle
        .map(|handle| handle.parse::<Handle>())
        .transpose()
        .map_err(Failure::input)?;
    let client = open_and_sync(profile).await?;
    let invite = NewInvite {
        role,
        label: args.label,
        valid_for_ms: u64::from(args.days) * DAY_MS,
        handle,
        display_name: args.display_name,
    };
    let result = client.invite(invite).await.map_err(failed);
    client.shutdown().await;
    let link = result?.to_link();
    if json {
        output::json_line(&json!({ "link": link }));
    } else {
        output::line(&link);
        output::note("Give it to that person only, by a way you trust. It works once.");
    }
    Ok(())
}
