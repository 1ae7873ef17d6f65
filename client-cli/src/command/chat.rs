//! `wardline chat <with>`: line by line, no alternate screen, so that screen readers and pipes can
//! follow. Lines that arrive are printed; a line that is typed is sent.

use tokio::io::{AsyncBufReadExt as _, BufReader};
use wardline_client::api::{Client, ConversationId, MessageFilter, Notification};

use super::messages::{page, print_one};
use super::{failed, flush, names, open_and_sync};
use crate::args::{Chat, ProfileOptions};
use crate::failure::Failure;
use crate::output;
use crate::resolve;
use crate::safe_text::safe_line;

const HELP: &str = "\
Type a line and press Enter to send it. Commands:
  /members       who is here
  /ai on|off     let the AI answer here, or stop it
  /verify NAME   how to compare safety numbers
  /help          this
  /quit          leave the chat (also: Ctrl-D)
To send a line that begins with a slash, type it with a space in front.";

pub(super) async fn run(profile: &ProfileOptions, args: Chat) -> Result<(), Failure> {
    let client = open_and_sync(profile).await?;
    let result = chat(&client, &args).await;
    client.shutdown().await;
    result
}

async fn chat(client: &Client, args: &Chat) -> Result<(), Failure> {
    let conversation = resolve::destination(client, &args.with).await?;
    let mut wake_ups = client.subscribe();
    let mut after = history(client, conversation, args.history).await?;
    output::note("(/help for help, /quit to leave)");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => {
                    if typed(client, conversation, &line).await? {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => return Err(Failure::input(format!("the line could not be read ({error}); nothing was sent"))),
            },
            wake_up = wake_ups.recv() => match wake_up {
                Ok(Notification::Message { .. }) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                    after = print_new(client, conversation, after).await?;
                }
                Ok(Notification::Notice { id }) => tell_notice(client, id).await?,
                Ok(_) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
            },
        }
    }
    flush(client).await;
    Ok(())
}

/// Shows the newest messages; the number of the last one.
async fn history(
    client: &Client,
    conversation: ConversationId,
    count: u64,
) -> Result<u64, Failure> {
    let names = names(client).await?;
    let filter = MessageFilter {
        conversation: Some(conversation),
        after: 0,
        before: Some(u64::MAX),
        limit: u32::try_from(count.clamp(1, 1000)).unwrap_or(1000),
    };
    let messages = client.messages(filter).await.map_err(failed)?;
    if count > 0 {
        for message in &messages {
            print_one(&names, message, false);
        }
    }
    Ok(messages.last().map_or(0, |message| message.local_id))
}

async fn print_new(
    client: &Client,
    conversation: ConversationId,
    mut after: u64,
) -> Result<u64, Failure> {
    let messages = page(client, Some(conversation), after).await?;
    if let Some(last) = messages.last() {
        after = last.local_id;
        let names = names(client).await?;
        // What this device sent stands on the screen already, as it was typed.
        let own = client.own().await.map_err(failed)?.address;
        for message in messages.iter().filter(|message| message.sender != own) {
            print_one(&names, message, false);
        }
    }
    Ok(after)
}

async fn tell_notice(client: &Client, id: u64) -> Result<(), Failure> {
    for notice in client.notices(id.saturating_sub(1)).await.map_err(failed)? {
        if notice.id == id {
            output::note(&format!("notice: {}", safe_line(&notice.text)));
        }
    }
    Ok(())
}

/// Deals with one typed line; whether to leave. A line that looks like a command is never sent.
async fn typed(client: &Client, conversation: ConversationId, line: &str) -> Result<bool, Failure> {
    let Some(command) = line.strip_prefix('/') else {
        let text = line
            .strip_prefix(' ')
            .filter(|rest| rest.starts_with('/'))
            .unwrap_or(line);
        if !text.trim().is_empty() {
            let mentions = super::mentions_in(client, conversation, text).await?;
            if let Err(error) = client.send_text(conversation, text, None, mentions).await {
                output::note(&format!("not sent: {error}"));
            }
        }
        return Ok(false);
    };
    let mut words = command.split_whitespace();
    match (words.next().unwrap_or_default(), words.next()) {
        ("quit" | "q", None) => return Ok(true),
        ("help" | "h", None) => output::note(HELP),
        ("members", None) => {
            let names = names(client).await?;
            for conversation in client
                .conversations()
                .await
                .map_err(failed)?
                .iter()
                .filter(|c| c.id == conversation)
            {
                for member in &conversation.members {
                    output::note(&names.person(member.account));
                }
            }
        }
        ("ai", Some(state @ ("on" | "off"))) => {
            if let Err(error) = client.set_ai(conversation, state == "on").await {
                output::note(&format!("not changed: {error}"));
            }
        }
        ("verify", _) => output::note("Leave the chat and run: wardline verify NAME"),
        _ => output::note("This command is not known; nothing was sent. /help shows the commands."),
    }
    Ok(false)
}
