//! `wardline messages`

use wardline_client::api::{Client, ConversationId, Message, MessageFilter};

use super::{failed, names, open, open_and_sync};
use crate::args::{Messages, ProfileOptions};
use crate::failure::Failure;
use crate::output::{self, Names};
use crate::resolve;

/// Messages read from the store at a time.
const PAGE: u32 = 500;

pub(super) async fn run(
    profile: &ProfileOptions,
    json: bool,
    args: Messages,
) -> Result<(), Failure> {
    let client = if args.offline {
        open(profile).await?
    } else {
        open_and_sync(profile).await?
    };
    let result = print(&client, json, &args).await;
    client.shutdown().await;
    result
}

async fn print(client: &Client, json: bool, args: &Messages) -> Result<(), Failure> {
    let conversation = match &args.conversation {
        Some(text) => Some(resolve::known_conversation(client, text).await?.id),
        None => None,
    };
    let names = names(client).await?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut after = args.after;
    while left > 0 {
        let page = page(client, conversation, after).await?;
        let Some(last) = page.last() else { break };
        after = last.local_id;
        for message in page
            .iter()
            .take(usize::try_from(left).unwrap_or(usize::MAX))
        {
            print_one(&names, message, json);
        }
        left = left.saturating_sub(page.len() as u64);
    }
    Ok(())
}

/// The next stored messages after a number.
pub(super) async fn page(
    client: &Client,
    conversation: Option<ConversationId>,
    after: u64,
) -> Result<Vec<Message>, Failure> {
    let filter = MessageFilter {
        conversation,
        after,
        before: None,
        limit: PAGE,
    };
    client.messages(filter).await.map_err(failed)
}

pub(super) fn print_one(names: &Names, message: &Message, json: bool) {
    if json {
        output::json_line(&names.message_json(message));
    } else {
        output::line(&names.message_text(message));
    }
}
