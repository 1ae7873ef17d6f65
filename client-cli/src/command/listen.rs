//! `wardline listen`: at least once by number; whoever listens remembers the last number it dealt
//! with and gives it as `--after` next time.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use wardline_client::api::{Client, ConversationId, MessageFilter, Notification};

use super::messages::{page, print_one};
use super::{failed, names, open};
use crate::args::{Listen, ProfileOptions};
use crate::failure::Failure;
use crate::output;
use crate::resolve;
use crate::safe_text::safe_line;

/// Looks into the store this often even if no wake-up came.
const LOOK: Duration = Duration::from_secs(2);

pub(super) async fn run(profile: &ProfileOptions, json: bool, args: Listen) -> Result<(), Failure> {
    let client = open(profile).await?;
    let result = follow(&client, json, &args).await;
    client.shutdown().await;
    result
}

async fn follow(client: &Client, json: bool, args: &Listen) -> Result<(), Failure> {
    let conversation = match &args.conversation {
        Some(text) => Some(resolve::known_conversation(client, text).await?.id),
        None => None,
    };
    // Subscribe before looking, so that nothing falls in between.
    let mut wake_ups = client.subscribe();
    let mut after = match args.after {
        Some(after) => after,
        None => newest(client).await?,
    };
    client.start().await.map_err(failed)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let end = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    while left > 0 {
        left = left.saturating_sub(print_new(client, conversation, &mut after, left, json).await?);
        if left == 0 {
            break;
        }
        tokio::select! {
            _ = &mut interrupted => break,
            () = until(end) => break,
            () = tokio::time::sleep(LOOK) => {}
            wake_up = wake_ups.recv() => match wake_up {
                Ok(notification) => tell(client, &notification, json, args.partial).await?,
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
            },
        }
    }
    Ok(())
}

/// The number of the newest stored message.
async fn newest(client: &Client) -> Result<u64, Failure> {
    let filter = MessageFilter {
        before: Some(u64::MAX),
        limit: 1,
        ..MessageFilter::default()
    };
    let messages = client.messages(filter).await.map_err(failed)?;
    Ok(messages.last().map_or(0, |message| message.local_id))
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Prints what is new, at most `most`; how many.
async fn print_new(
    client: &Client,
    conversation: Option<ConversationId>,
    after: &mut u64,
    most: u64,
    json: bool,
) -> Result<u64, Failure> {
    let mut printed = 0;
    while printed < most {
        let messages = page(client, conversation, *after).await?;
        if messages.is_empty() {
            break;
        }
        let names = names(client).await?;
        for message in messages {
            if printed == most {
                break;
            }
            *after = message.local_id;
            print_one(&names, &message, json);
            printed += 1;
        }
    }
    Ok(printed)
}

/// What is not a message: notices to standard error, partial answers if they are wanted.
async fn tell(
    client: &Client,
    notification: &Notification,
    json: bool,
    partial: bool,
) -> Result<(), Failure> {
    match notification {
        Notification::Notice { id } => {
            for notice in client.notices(id.saturating_sub(1)).await.map_err(failed)? {
                if notice.id == *id {
                    output::note(&format!("notice: {}", safe_line(&notice.text)));
                }
            }
        }
        Notification::Partial(part) if partial && json => output::json_line(&json!({
            "partial": part.partial.text,
            "index": part.partial.index,
            "conversation": part.conversation.to_hex(),
            "contentId": part.partial.answer.to_hex(),
        })),
        Notification::Partial(part) if partial => {
            output::note(&format!("… {}", safe_line(&part.partial.text)));
        }
        _ => {}
    }
    Ok(())
}
