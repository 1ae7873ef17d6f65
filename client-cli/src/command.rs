//! The commands: one file each.

mod chat;
mod contacts;
mod conversations;
mod enroll;
mod invite;
mod listen;
mod messages;
mod notices;
mod send;
mod status;
mod verify;

use std::time::Duration;

use wardline_client::api::{
    Client, ClientError, ConversationId, Mention, ProfileConfig, ProfileError, RelayError,
    TransportError,
};
use wardline_wire::ids::AccountId;
use wardline_wire::problem::ProblemKind;

use crate::args::{Command, Options, ProfileOptions};
use crate::failure::{Failure, Kind};
use crate::output::{self, Names};
use crate::unlock;

/// How long a command waits for the relay before it goes on with what is stored.
const CONNECT_WAIT: Duration = Duration::from_secs(15);

/// Runs what was typed.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let Options {
        profile,
        json,
        command,
        ..
    } = options;
    match command {
        Command::Enroll(args) => enroll::run(&profile, json, args).await,
        Command::Status => status::run(&profile, json).await,
        Command::Contacts(args) => contacts::run(&profile, json, args).await,
        Command::Conversations(args) => conversations::run(&profile, json, args).await,
        Command::Send(args) => send::run(&profile, json, args).await,
        Command::Listen(args) => listen::run(&profile, json, args).await,
        Command::Messages(args) => messages::run(&profile, json, args).await,
        Command::Chat(args) => chat::run(&profile, args).await,
        Command::Verify(args) => verify::run(&profile, json, args).await,
        Command::Invite(args) => invite::run(&profile, json, args).await,
        Command::Notices(args) => notices::run(&profile, json, args).await,
    }
}

/// Opens the profile. Nothing is sent or fetched yet.
async fn open(options: &ProfileOptions) -> Result<Client, Failure> {
    let dir = unlock::profile_dir(options)?;
    let config = ProfileConfig::new(dir, unlock::unlock(options, false)?);
    Client::open(config).await.map_err(failed)
}

/// Opens the profile and fetches what waits at the relay. An unreachable relay is told, not fatal:
/// everything stored can be read, and what is written waits.
async fn open_and_sync(options: &ProfileOptions) -> Result<Client, Failure> {
    let client = open(options).await?;
    match client.sync(CONNECT_WAIT).await {
        Ok(()) => Ok(client),
        Err(error) => match failed(error) {
            failure if failure.kind == Kind::Io => {
                output::note(
                    "warning: the relay cannot be reached; going on with what is stored on this device",
                );
                Ok(client)
            }
            failure => {
                client.shutdown().await;
                Err(failure)
            }
        },
    }
}

/// Gives what was written a moment to reach the relay. What does not stays stored, and goes out
/// with the next command.
async fn flush(client: &Client) {
    if client.sync(CONNECT_WAIT).await.is_err() {
        output::note(
            "note: not everything has reached the relay yet; it goes out with the next command",
        );
    }
}

/// Members of a conversation that a text names as "@handle".
async fn mentions_in(
    client: &Client,
    conversation: ConversationId,
    text: &str,
) -> Result<Vec<Mention>, Failure> {
    if !text.contains('@') {
        return Ok(Vec::new());
    }
    let contacts = client.contacts().await.map_err(failed)?;
    let conversations = client.conversations().await.map_err(failed)?;
    let members: Vec<(String, AccountId)> = conversations
        .iter()
        .filter(|candidate| candidate.id == conversation)
        .flat_map(|conversation| &conversation.members)
        .filter_map(|member| {
            let contact = contacts
                .iter()
                .find(|contact| contact.account == member.account)?;
            Some((contact.handle.clone()?, member.account))
        })
        .collect();
    Ok(find_mentions(text, &members))
}

/// Where a text names members: "@handle", not followed by a character that a handle may go on with.
fn find_mentions(text: &str, members: &[(String, AccountId)]) -> Vec<Mention> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices('@') {
        let rest = text.get(start + 1..).unwrap_or_default();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
            .unwrap_or(rest.len());
        // A sentence may end behind the name.
        let handle = rest
            .get(..end)
            .unwrap_or_default()
            .trim_end_matches(['.', '-', '_'])
            .to_lowercase();
        let member = members.iter().find(|(name, _)| *name == handle);
        if let (Some((_, account)), Ok(start), Ok(length)) = (
            member,
            u32::try_from(start),
            u32::try_from(handle.len() + 1),
        ) {
            found.push(Mention {
                account: *account,
                start,
                length,
            });
        }
    }
    found
}

/// What people and conversations are called.
async fn names(client: &Client) -> Result<Names, Failure> {
    let own = client.own().await.map_err(failed)?;
    let contacts = client.contacts().await.map_err(failed)?;
    let conversations = client.conversations().await.map_err(failed)?;
    Ok(Names::new(own, contacts, conversations))
}

/// The core's errors as exit statuses.
pub(crate) fn failed(error: ClientError) -> Failure {
    let kind = match &error {
        ClientError::Profile(ProfileError::Io { .. })
        | ClientError::Store(_)
        | ClientError::TimedOut => Kind::Io,
        ClientError::Profile(ProfileError::Missing(_)) | ClientError::NotEnrolled => Kind::Input,
        ClientError::Profile(_) => Kind::Locked,
        ClientError::Relay(error) => relay_kind(error),
        ClientError::Record(_) => Kind::Untrusted,
        ClientError::NotCertified
        | ClientError::Revoked
        | ClientError::NotMember
        | ClientError::NotOwner
        | ClientError::NotAllowed(_)
        | ClientError::NotPrimary
        | ClientError::StillRequest
        | ClientError::Refused(_) => Kind::Refused,
        ClientError::Stopped => Kind::Unexpected,
        _ => Kind::Input,
    };
    Failure::new(kind, error)
}

fn relay_kind(error: &RelayError) -> Kind {
    match error {
        RelayError::Transport(TransportError::Untrusted(_)) => Kind::Untrusted,
        RelayError::Refused { kind, .. } => match kind {
            ProblemKind::Limited => Kind::RateLimited,
            ProblemKind::Internal | ProblemKind::Unavailable => Kind::Io,
            ProblemKind::Forbidden | ProblemKind::Revoked | ProblemKind::Unauthorized => {
                Kind::Refused
            }
            _ => Kind::Input,
        },
        _ => Kind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mentions_end_where_the_handle_does() {
        let assistant = AccountId::from_random_bytes([1; 16]);
        let lee = AccountId::from_random_bytes([2; 16]);
        let members = [
            ("assistant".to_owned(), assistant),
            ("dr-lee".to_owned(), lee),
        ];
        let found = find_mentions(
            "@assistant, ask @Dr-Lee. Not @dr-leeds or a@b, ü @dr-lee",
            &members,
        );
        let spans: Vec<_> = found
            .iter()
            .map(|mention| (mention.account, mention.start, mention.length))
            .collect();
        assert_eq!(spans, [(assistant, 0, 10), (lee, 16, 7), (lee, 50, 7)]);
        assert!(find_mentions("no one", &members).is_empty());
    }
}
