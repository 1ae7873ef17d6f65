//! From what was typed to an account, a conversation.

use wardline_client::api::{Client, Contact, Conversation, ConversationId, Handle};
use wardline_wire::ids::AccountId;

use crate::command::failed;
use crate::failure::{Failure, Kind};
use crate::safe_text::safe_line;

/// A contact by account id, handle ("@dr-lee") or label. An unknown handle is looked up in the
/// clinic's directory.
pub(crate) async fn contact(client: &Client, text: &str) -> Result<Contact, Failure> {
    let contacts = client.contacts().await.map_err(failed)?;
    if let Ok(account) = text.parse::<AccountId>() {
        return contacts
            .into_iter()
            .find(|contact| contact.account == account)
            .ok_or_else(|| {
                Failure::input("this account is not known here").hint("See: wardline contacts")
            });
    }
    let handle = text.strip_prefix('@');
    let mut found: Vec<Contact> = contacts
        .into_iter()
        .filter(|contact| match handle {
            Some(handle) => contact.handle.as_deref() == Some(handle),
            None => {
                contact.label.as_deref() == Some(text)
                    || contact.name == text
                    || contact.handle.as_deref() == Some(text)
                    || (text.len() >= 8 && contact.account.to_string().starts_with(text))
            }
        })
        .collect();
    match (found.len(), handle) {
        (1, _) => found
            .pop()
            .ok_or_else(|| Failure::new(Kind::Unexpected, "a contact vanished")),
        (0, Some(handle)) => {
            let handle = handle.parse::<Handle>().map_err(Failure::input)?;
            client.lookup_handle(&handle).await.map_err(failed)
        }
        (0, None) => Err(
            Failure::input(format!("there is no contact {:?}", safe_line(text))).hint(
                "See: wardline contacts; or look a handle up: wardline contacts find @handle",
            ),
        ),
        _ => Err(
            Failure::input(format!("{:?} could be several contacts", safe_line(text)))
                .hint("Use the account id; see: wardline contacts"),
        ),
    }
}

/// A conversation by id, the beginning of its id (8 characters at least), or its title.
pub(crate) async fn conversation(
    client: &Client,
    text: &str,
) -> Result<Option<Conversation>, Failure> {
    let mut found: Vec<Conversation> = client
        .conversations()
        .await
        .map_err(failed)?
        .into_iter()
        .filter(|conversation| {
            let id = conversation.id.to_hex();
            id == text
                || (text.len() >= 8 && id.starts_with(text))
                || (!conversation.direct && conversation.title == text)
        })
        .collect();
    match found.len() {
        0 => Ok(None),
        1 => Ok(found.pop()),
        _ => Err(Failure::input(format!(
            "{:?} could be several conversations",
            safe_line(text)
        ))
        .hint("Use the id; see: wardline conversations")),
    }
}

/// Like [`conversation`], and it must exist.
pub(crate) async fn known_conversation(
    client: &Client,
    text: &str,
) -> Result<Conversation, Failure> {
    conversation(client, text).await?.ok_or_else(|| {
        Failure::input(format!("there is no conversation {:?}", safe_line(text)))
            .hint("See: wardline conversations")
    })
}

/// Where to write: a conversation, or the direct conversation with a contact, which is begun if
/// there is none.
pub(crate) async fn destination(client: &Client, text: &str) -> Result<ConversationId, Failure> {
    if !text.starts_with('@')
        && let Some(conversation) = conversation(client, text).await?
    {
        return Ok(conversation.id);
    }
    let contact = contact(client, text).await?;
    client
        .create_conversation(None, vec![contact.account])
        .await
        .map_err(failed)
}
