//! `wardline conversations …`

use serde_json::json;
use wardline_client::api::{Client, Conversation};

use super::{failed, names, open_and_sync};
use crate::args::{ConversationAction, Conversations, ProfileOptions, Switch};
use crate::failure::Failure;
use crate::output::{self, Names};
use crate::resolve;
use crate::safe_text::safe_line;

pub(super) async fn run(
    profile: &ProfileOptions,
    json: bool,
    args: Conversations,
) -> Result<(), Failure> {
    let client = open_and_sync(profile).await?;
    let result = act(
        &client,
        json,
        args.action.unwrap_or(ConversationAction::List),
    )
    .await;
    client.shutdown().await;
    result
}

async fn act(client: &Client, json: bool, action: ConversationAction) -> Result<(), Failure> {
    match action {
        ConversationAction::List => {
            let names = names(client).await?;
            let conversations = client.conversations().await.map_err(failed)?;
            if conversations.is_empty() && !json {
                output::note("no conversations yet");
            }
            for conversation in &conversations {
                show(conversation, &names, json);
            }
            return Ok(());
        }
        ConversationAction::Create { title, members } => {
            let mut accounts = Vec::new();
            for member in &members {
                accounts.push(resolve::contact(client, member).await?.account);
            }
            let id = client
                .create_conversation(Some(title), accounts)
                .await
                .map_err(failed)?;
            if json {
                output::json_line(&json!({ "id": id.to_hex() }));
            } else {
                output::line(&id.to_hex());
            }
        }
        ConversationAction::Add {
            conversation,
            contact,
        } => {
            let (id, account) = both(client, &conversation, &contact).await?;
            client.add_member(id, account).await.map_err(failed)?;
        }
        ConversationAction::Remove {
            conversation,
            contact,
        } => {
            let (id, account) = both(client, &conversation, &contact).await?;
            client.remove_member(id, account).await.map_err(failed)?;
        }
        ConversationAction::Promote {
            conversation,
            contact,
        } => {
            let (id, account) = both(client, &conversation, &contact).await?;
            client.promote(id, account).await.map_err(failed)?;
        }
        ConversationAction::Demote {
            conversation,
            contact,
        } => {
            let (id, account) = both(client, &conversation, &contact).await?;
            client.demote(id, account).await.map_err(failed)?;
        }
        ConversationAction::Leave { conversation } => {
            let id = resolve::known_conversation(client, &conversation).await?.id;
            client.leave(id).await.map_err(failed)?;
        }
        ConversationAction::Ai {
            conversation,
            state,
        } => {
            let id = resolve::known_conversation(client, &conversation).await?.id;
            client
                .set_ai(id, matches!(state, Switch::On))
                .await
                .map_err(failed)?;
        }
    }
    // What the change sends should reach the relay before the process ends.
    super::flush(client).await;
    Ok(())
}

async fn both(
    client: &Client,
    conversation: &str,
    contact: &str,
) -> Result<
    (
        wardline_client::api::ConversationId,
        wardline_wire::ids::AccountId,
    ),
    Failure,
> {
    let id = resolve::known_conversation(client, conversation).await?.id;
    Ok((id, resolve::contact(client, contact).await?.account))
}

fn show(conversation: &Conversation, names: &Names, json: bool) {
    if json {
        output::json_line(&json!({
            "id": conversation.id.to_hex(),
            "direct": conversation.direct,
            "title": conversation.title,
            "state": format!("{:?}", conversation.state).to_lowercase(),
            "aiOn": conversation.ai_on,
            "timerSeconds": conversation.timer_seconds,
            "lastId": conversation.last_local_id,
            "unread": conversation.unread,
            "members": conversation.members.iter().map(|member| json!({
                "account": member.account.to_string(),
                "name": names.person(member.account),
                "owner": member.owner,
            })).collect::<Vec<_>>(),
        }));
        return;
    }
    let members: Vec<String> = conversation
        .members
        .iter()
        .map(|member| {
            format!(
                "{}{}",
                names.person(member.account),
                if member.owner { " (owner)" } else { "" }
            )
        })
        .collect();
    let ai = if conversation.ai_on { "" } else { ", AI off" };
    output::line(&format!(
        "{}  {}  [{}]  {} unread{ai}",
        conversation
            .id
            .to_hex()
            .chars()
            .take(12)
            .collect::<String>(),
        safe_line(&conversation.title),
        members.join(", "),
        conversation.unread,
    ));
}
