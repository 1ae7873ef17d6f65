//! `wardline status`

use serde_json::json;
use wardline_wire::directory::role_name;

use super::{failed, open_and_sync};
use crate::args::ProfileOptions;
use crate::failure::Failure;
use crate::output;
use crate::safe_text::safe_line;

pub(super) async fn run(profile: &ProfileOptions, json: bool) -> Result<(), Failure> {
    let client = open_and_sync(profile).await?;
    let own = client.own().await.map_err(failed)?;
    let connection = client.connection();
    if json {
        output::json_line(&json!({
            "account": own.address.account.to_string(),
            "device": own.address.device.get(),
            "primary": own.is_primary,
            "role": role_name(own.role),
            "state": format!("{:?}", own.state).to_lowercase(),
            "handle": own.handle,
            "name": own.name,
            "relay": own.relay_url,
            "connection": format!("{connection:?}"),
        }));
    } else {
        output::line(&format!("name:       {}", safe_line(&own.name)));
        if let Some(handle) = &own.handle {
            output::line(&format!("handle:     @{handle}"));
        }
        output::line(&format!("account:    {}", own.address.account));
        output::line(&format!(
            "device:     {}{}",
            own.address.device,
            if own.is_primary {
                " (primary: holds the account key)"
            } else {
                ""
            }
        ));
        output::line(&format!("role:       {}", role_name(own.role)));
        output::line(&format!(
            "state:      {}",
            format!("{:?}", own.state).to_lowercase()
        ));
        output::line(&format!("relay:      {}", own.relay_url));
        output::line(&format!("connection: {connection:?}"));
    }
    client.shutdown().await;
    Ok(())
}
