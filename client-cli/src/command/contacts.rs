//! `wardline contacts …`

use serde_json::json;
use wardline_client::api::{Client, Contact, Handle, Relation};
use wardline_wire::directory::role_name;

use super::{failed, open_and_sync};
use crate::args::{ContactAction, Contacts, ProfileOptions};
use crate::failure::Failure;
use crate::output;
use crate::resolve;
use crate::safe_text::safe_line;

pub(super) async fn run(
    profile: &ProfileOptions,
    json: bool,
    args: Contacts,
) -> Result<(), Failure> {
    let client = open_and_sync(profile).await?;
    let result = act(&client, json, args.action.unwrap_or(ContactAction::List)).await;
    client.shutdown().await;
    result
}

async fn act(client: &Client, json: bool, action: ContactAction) -> Result<(), Failure> {
    match action {
        ContactAction::List => {
            let contacts = client.contacts().await.map_err(failed)?;
            if contacts.is_empty() && !json {
                output::note("no contacts yet");
            }
            for contact in &contacts {
                show(contact, json);
            }
        }
        ContactAction::Find { handle } => {
            let handle: Handle = handle.parse().map_err(Failure::input)?;
            show(&client.lookup_handle(&handle).await.map_err(failed)?, json);
        }
        ContactAction::Label { contact, label } => {
            let contact = resolve::contact(client, &contact).await?;
            client
                .set_label(contact.account, label.clone())
                .await
                .map_err(failed)?;
            output::note(&format!("called {} on this device", safe_line(&label)));
        }
        ContactAction::Accept { contact } => {
            let contact = resolve::contact(client, &contact).await?;
            client
                .accept_request(contact.account)
                .await
                .map_err(failed)?;
            output::note(&format!("{} may write to you", safe_line(&contact.name)));
        }
        ContactAction::AcceptChange { contact } => {
            let contact = resolve::contact(client, &contact).await?;
            client
                .accept_key_change(contact.account)
                .await
                .map_err(failed)?;
            output::note("the new key is accepted; compare safety numbers again: wardline verify");
        }
        ContactAction::Block { contact } => {
            let contact = resolve::contact(client, &contact).await?;
            client.block(contact.account).await.map_err(failed)?;
            output::note(&format!("{} is blocked", safe_line(&contact.name)));
        }
    }
    Ok(())
}

fn relation_name(relation: Relation) -> String {
    format!("{relation:?}").to_lowercase()
}

fn show(contact: &Contact, json: bool) {
    if json {
        output::json_line(&json!({
            "account": contact.account.to_string(),
            "name": contact.name,
            "label": contact.label,
            "handle": contact.handle,
            "role": role_name(contact.role),
            "relation": relation_name(contact.relation),
            "verified": contact.verified,
            "halted": contact.halted,
            "keyChangePending": contact.key_change_pending,
            "devices": contact.devices.iter().map(|device| device.get()).collect::<Vec<_>>(),
        }));
        return;
    }
    let handle = contact
        .handle
        .as_ref()
        .map(|handle| format!(" @{handle}"))
        .unwrap_or_default();
    let verified = if contact.verified {
        "verified"
    } else {
        "not verified"
    };
    let stopped = match (&contact.halted, contact.key_change_pending) {
        (_, true) => {
            ", NEW KEY: nothing is sent (wardline verify, then contacts accept-change)".to_owned()
        }
        (Some(reason), false) => format!(", STOPPED ({reason}; see: wardline notices)"),
        (None, false) => String::new(),
    };
    let line = format!(
        "{}  {}{handle}  {}, {}, {verified}{stopped}",
        contact.account,
        safe_line(&contact.name),
        role_name(contact.role),
        relation_name(contact.relation),
    );
    output::line(&line);
}
