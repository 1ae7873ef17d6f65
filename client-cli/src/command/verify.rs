//! `wardline verify <contact>`

use serde_json::json;

use super::{failed, open_and_sync};
use crate::args::{ProfileOptions, Verify};
use crate::failure::Failure;
use crate::output;
use crate::resolve;
use crate::safe_text::safe_line;

pub(super) async fn run(profile: &ProfileOptions, json: bool, args: Verify) -> Result<(), Failure> {
    let client = open_and_sync(profile).await?;
    let result = async {
        let contact = resolve::contact(&client, &args.contact).await?;
        let number = client
            .safety_number(contact.account)
            .await
            .map_err(failed)?;
        if args.matches {
            client
                .mark_verified(contact.account)
                .await
                .map_err(failed)?;
        }
        let verified = contact.verified || args.matches;
        if json {
            output::json_line(&json!({
                "account": contact.account.to_string(),
                "safetyNumber": number.digits,
                "verified": verified,
            }));
            return Ok(());
        }
        let name = safe_line(&contact.name);
        output::note(&format!("Safety number with {name}:"));
        for row in number.groups().chunks(4) {
            output::line(&row.join(" "));
        }
        output::note(&if verified {
            format!("{name} is verified.")
        } else {
            format!(
                "Compare it with {name} face to face or by telephone. If all digits are the same: \
                 wardline verify {} --matches",
                contact.account
            )
        });
        Ok(())
    }
    .await;
    client.shutdown().await;
    result
}
