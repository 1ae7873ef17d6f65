//! `wardline notices`

use serde_json::json;

use super::{failed, open_and_sync};
use crate::args::{Notices, ProfileOptions};
use crate::failure::Failure;
use crate::output;
use crate::safe_text::safe_line;

pub(super) async fn run(
    profile: &ProfileOptions,
    json: bool,
    args: Notices,
) -> Result<(), Failure> {
    let client = open_and_sync(profile).await?;
    let notices = client.notices(args.after).await.map_err(failed);
    client.shutdown().await;
    for notice in notices? {
        if json {
            output::json_line(&json!({
                "id": notice.id,
                "at": output::rfc3339(notice.at),
                "kind": notice.kind.slug(),
                "account": notice.account.map(|account| account.to_string()),
                "conversation": notice.conversation.map(|conversation| conversation.to_hex()),
                "text": notice.text,
                "detail": notice.detail,
            }));
        } else {
            output::line(&format!(
                "#{} {} {}",
                notice.id,
                output::clock_time(notice.at),
                safe_line(&notice.text)
            ));
        }
    }
    Ok(())
}
