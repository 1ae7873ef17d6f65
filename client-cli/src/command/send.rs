//! `wardline send <to> [text]`

use std::io::Read as _;
use std::time::Duration;

use serde_json::json;
use wardline_client::api::{Client, ClientError, RecipientStatus};

use super::{failed, names, open_and_sync};
use crate::args::{ProfileOptions, Send};
use crate::failure::{Failure, Kind};
use crate::output;
use crate::resolve;

/// The longest text of one message, in bytes.
const MAX_TEXT_BYTES: u64 = 65_536;

pub(super) async fn run(profile: &ProfileOptions, json: bool, args: Send) -> Result<(), Failure> {
    // Read the words first: nothing is opened for a message that cannot be sent.
    let text = match args.text.as_deref() {
        Some("-") | None => read_text()?,
        Some(text) => text.to_owned(),
    };
    if text.trim().is_empty() {
        return Err(Failure::input("there is nothing to send"));
    }
    let client = open_and_sync(profile).await?;
    let result = send(&client, json, &args, &text).await;
    client.shutdown().await;
    result
}

async fn send(client: &Client, json: bool, args: &Send, text: &str) -> Result<(), Failure> {
    let conversation = resolve::destination(client, &args.to).await?;
    let reply_to = match args.reply_to {
        None => None,
        Some(id) => Some(answered(client, id).await?),
    };
    let mentions = super::mentions_in(client, conversation, text).await?;
    let sent = client
        .send_text(conversation, text, reply_to, mentions)
        .await
        .map_err(failed)?;
    let settled = if args.no_wait {
        client.send_status(sent.content_id).await
    } else {
        client
            .wait_settled(sent.content_id, Duration::from_secs(args.wait))
            .await
    };
    let (states, late) = match settled {
        Ok(states) => (states, false),
        Err(ClientError::TimedOut) => (
            client.send_status(sent.content_id).await.map_err(failed)?,
            true,
        ),
        Err(error) => return Err(failed(error)),
    };
    let names = names(client).await?;
    if json {
        output::json_line(&json!({
            "id": sent.local_id,
            "contentId": sent.content_id.to_hex(),
            "conversation": conversation.to_hex(),
            "recipients": states.iter().map(|status| json!({
                "account": status.account.to_string(),
                "name": names.person(status.account),
                "state": state_name(status),
            })).collect::<Vec<_>>(),
        }));
    } else {
        for status in &states {
            output::note(&format!(
                "#{} {}: {}",
                sent.local_id,
                names.person(status.account),
                state_name(status)
            ));
        }
    }
    if late {
        return Err(
            Failure::new(Kind::Io, "the relay has not taken the message yet").hint(
                "It is stored here and goes out with the next command. Do not send it again.",
            ),
        );
    }
    Ok(())
}

/// The content id of a stored message, by its number.
async fn answered(client: &Client, id: u64) -> Result<wardline_client::api::ContentId, Failure> {
    client
        .message(id)
        .await
        .map(|message| message.content_id)
        .map_err(failed)
}

/// A word for a state, the same in JSON and for people.
fn state_name(status: &RecipientStatus) -> &'static str {
    status.state.slug()
}

fn read_text() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MAX_TEXT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::input(format!("the message could not be read: {error}")))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(Failure::input(format!(
            "the message is longer than {MAX_TEXT_BYTES} bytes; nothing was sent"
        )));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::input("the message is not UTF-8 text; nothing was sent"))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
