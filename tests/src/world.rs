//! People with real endpoints, in a clinic whose relay may lie to them.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let world = wardline_e2e::world::World::open().await?;
//! let alice = world.staff("alice").await?;
//! let bob = world.patient("bob", &alice).await?;
//! alice.says("hello").to(&bob).await?;
//! bob.hears("hello").await?;
//! # Ok(()) }
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use wardline_client::api::{
    Client, ClientError, Contact, ContentId, ConversationId, DeliveryState, Handle, Message,
    MessageBody, MessageFilter, NewInvite, Notice, NoticeKind, ProfileConfig, Unlock,
};
use wardline_wire::clock::{Clock, SystemClock};
use wardline_wire::ids::{AccountId, DeviceAddress};
use wardline_wire::invite::Invite;
use wardline_wire::proto::Role;

use crate::clinic::{Builder, Clinic};
use crate::process::{PATIENCE, eventually, tail};
use crate::spare::now;

/// How long nothing has to happen for it to count as not happening. Used only
/// after something else has shown that the endpoint is past the point.
const QUIET: Duration = Duration::from_millis(300);
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600_000;

/// A clinic and a place for people's profiles.
pub struct World {
    /// Authority, relay, lying relay.
    pub clinic: Clinic,
}

/// Somebody with an endpoint: the client library itself, in this process.
pub struct Person {
    /// What they are called.
    pub name: String,
    /// Their endpoint.
    pub client: Client,
    /// Where it is.
    pub address: DeviceAddress,
}

impl World {
    /// A clinic with everything as usual.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn open() -> anyhow::Result<Self> {
        Self::with(Clinic::builder()).await
    }

    /// A clinic with something unusual.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn with(builder: Builder) -> anyhow::Result<Self> {
        Ok(Self {
            clinic: builder.open().await?,
        })
    }

    /// A member of the staff, certified by the authority; the handle is the name.
    ///
    /// # Errors
    /// When joining fails.
    pub async fn staff(&self, name: &str) -> anyhow::Result<Person> {
        let link = self.clinic.invite_link(Role::Staff, Some((name, name)))?;
        self.join(name, &link, Arc::new(SystemClock)).await
    }

    /// A patient, invited by somebody of the staff. Both know each other afterwards.
    ///
    /// # Errors
    /// When joining fails.
    pub async fn patient(&self, name: &str, inviter: &Person) -> anyhow::Result<Person> {
        let link = inviter.invites_patient(name).await?;
        let patient = self.join(name, &link, Arc::new(SystemClock)).await;
        let patient = patient.with_context(|| self.what_authority_said())?;
        inviter.until_knows(patient.account()).await?;
        patient.until_knows(inviter.account()).await?;
        Ok(patient)
    }

    fn what_authority_said(&self) -> String {
        let log = self.clinic.authority.log().unwrap_or_default();
        format!("the authority's log ends with\n{}", tail(&log))
    }

    /// Somebody who joins with this link.
    ///
    /// # Errors
    /// When joining fails.
    pub async fn join(
        &self,
        name: &str,
        link: &str,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Person> {
        let client = self.enrol(name, link, clock).await?;
        certified(name, client).await
    }

    /// Redeems a link without waiting for the certificate.
    ///
    /// # Errors
    /// When the link or the relay is refused.
    pub async fn enrol(
        &self,
        name: &str,
        link: &str,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Client> {
        let mut config = self.profile(name)?;
        config.clock = clock;
        let invite = Invite::from_link(link, now())?;
        Ok(Client::enrol(config, &invite).await?)
    }

    /// The same person, started again after a shutdown.
    ///
    /// # Errors
    /// When the profile does not open or the relay is not reached.
    pub async fn again(&self, name: &str) -> anyhow::Result<Person> {
        let client = Client::open(self.profile(name)?).await?;
        client.sync(PATIENCE).await?;
        Ok(Person {
            name: name.to_owned(),
            address: client.own().await?.address,
            client,
        })
    }

    /// Another device for somebody, called `name` in this world.
    ///
    /// # Errors
    /// When linking fails.
    pub async fn link_device(&self, name: &str, primary: &Person) -> anyhow::Result<Person> {
        let config = self.profile(name)?;
        let code = Client::link_request(&config).await?;
        let grant = primary.client.approve_link(&code).await?;
        certified(name, Client::complete_link(config, &grant).await?).await
    }

    fn profile(&self, name: &str) -> anyhow::Result<ProfileConfig> {
        let people = self.clinic.people_folder()?;
        let key_file = people.join(format!("{name}.key"));
        let mut config = ProfileConfig::new(people.join(name), Unlock::KeyFile(key_file));
        name.clone_into(&mut config.name);
        Ok(config)
    }
}

async fn certified(name: &str, client: Client) -> anyhow::Result<Person> {
    client
        .wait_certified(PATIENCE)
        .await
        .with_context(|| format!("{name} was not certified"))?;
    client.sync(PATIENCE).await?;
    Ok(Person {
        name: name.to_owned(),
        address: client.own().await?.address,
        client,
    })
}

/// Words that are about to be said.
pub struct Saying<'a> {
    person: &'a Person,
    text: String,
}

impl Saying<'_> {
    /// To one person, in the direct conversation; returns when the relay has
    /// accepted it.
    ///
    /// # Errors
    /// When it is refused or not accepted in time.
    pub async fn to(self, other: &Person) -> anyhow::Result<ContentId> {
        let conversation = self.person.direct(other).await?;
        self.within(conversation).await
    }

    /// In a conversation; returns when the relay has accepted it for everybody.
    ///
    /// # Errors
    /// When it is refused or not accepted in time.
    pub async fn within(self, conversation: ConversationId) -> anyhow::Result<ContentId> {
        let id = self.person.hands_in(&self.text, conversation).await?;
        let settled = self.person.client.wait_settled(id, PATIENCE).await;
        let settled =
            settled.with_context(|| format!("{} said {:?}", self.person.name, self.text))?;
        for status in settled {
            ensure!(
                matches!(
                    status.state,
                    DeliveryState::Accepted | DeliveryState::Delivered | DeliveryState::Read
                ),
                "{:?} is {:?} for {}",
                self.text,
                status.state,
                status.account
            );
        }
        Ok(id)
    }
}

impl Person {
    /// Their account.
    pub fn account(&self) -> AccountId {
        self.address.account
    }

    /// `alice.says("hello").to(&bob)`.
    pub fn says(&self, text: &str) -> Saying<'_> {
        Saying {
            person: self,
            text: text.to_owned(),
        }
    }

    /// Hands a text in and does not wait for the relay.
    ///
    /// # Errors
    /// When the endpoint itself refuses.
    pub async fn hands_in(
        &self,
        text: &str,
        conversation: ConversationId,
    ) -> anyhow::Result<ContentId> {
        let sent = self
            .client
            .send_text(conversation, text, None, Vec::new())
            .await?;
        Ok(sent.content_id)
    }

    /// The direct conversation with somebody.
    ///
    /// # Errors
    /// When the endpoint refuses.
    pub async fn direct(&self, other: &Self) -> anyhow::Result<ConversationId> {
        let members = vec![other.account()];
        Ok(self.client.create_conversation(None, members).await?)
    }

    /// Finds a colleague by handle; the endpoint checks what the relay answers.
    ///
    /// # Errors
    /// The endpoint's own, when it refuses the answer.
    pub async fn looks_up(&self, handle: &str) -> Result<Contact, ClientError> {
        let handle: Handle = handle
            .parse()
            .map_err(|_| ClientError::Invalid("not a handle"))?;
        self.client.lookup_handle(&handle).await
    }

    /// Invites a patient and returns the link.
    ///
    /// # Errors
    /// When the invite is refused.
    pub async fn invites_patient(&self, label: &str) -> anyhow::Result<String> {
        let invite = NewInvite::patient(label, DAY_MS);
        Ok(self.client.invite(invite).await?.to_link())
    }

    /// Waits until somebody is a contact.
    ///
    /// # Errors
    /// When it does not happen.
    pub async fn until_knows(&self, account: AccountId) -> anyhow::Result<Contact> {
        eventually(&format!("{} to know {account}", self.name), || async {
            let contacts = self.client.contacts().await?;
            Ok(contacts.into_iter().find(|c| c.account == account))
        })
        .await
    }

    /// What is known of somebody.
    ///
    /// # Errors
    /// When nothing is.
    pub async fn contact(&self, account: AccountId) -> anyhow::Result<Contact> {
        let contacts = self.client.contacts().await?;
        contacts
            .into_iter()
            .find(|contact| contact.account == account)
            .with_context(|| format!("{} does not know {account}", self.name))
    }

    /// Everything that is stored, oldest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn messages(&self) -> anyhow::Result<Vec<Message>> {
        let mut all: Vec<Message> = Vec::new();
        loop {
            let filter = MessageFilter {
                after: all.last().map_or(0, |message| message.local_id),
                limit: 1000,
                ..MessageFilter::default()
            };
            let page = self.client.messages(filter).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// The texts of others that are stored, in stored order.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn heard(&self) -> anyhow::Result<Vec<String>> {
        let messages = self.messages().await?;
        Ok(messages
            .into_iter()
            .filter(|message| !message.own)
            .filter_map(|message| match message.body {
                MessageBody::Text(text) => Some(text.body),
                _ => None,
            })
            .collect())
    }

    /// Waits for a text and returns how often it is there: once.
    ///
    /// # Errors
    /// When it does not come, or comes more than once.
    pub async fn hears(&self, text: &str) -> anyhow::Result<()> {
        let count = eventually(&format!("{} to hear {text:?}", self.name), || async {
            let heard = self.heard().await?;
            let count = heard.iter().filter(|said| *said == text).count();
            Ok((count > 0).then_some(count))
        })
        .await?;
        ensure!(count == 1, "{} heard {text:?} {count} times", self.name);
        Ok(())
    }

    /// All notices.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn notices(&self) -> anyhow::Result<Vec<Notice>> {
        Ok(self.client.notices(0).await?)
    }

    /// Waits for a notice of this kind about somebody.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn is_told(&self, kind: NoticeKind, about: AccountId) -> anyhow::Result<Notice> {
        let what = format!("{} to be told of {}", self.name, kind.slug());
        let notice = eventually(&what, || async {
            let mut notices = self.notices().await?.into_iter();
            Ok(notices.find(|notice| notice.kind == kind && notice.account == Some(about)))
        })
        .await?;
        ensure!(
            is_plain(&notice.text),
            "not a sentence for a nurse: {:?}",
            notice.text
        );
        Ok(notice)
    }

    /// Whether there is a notice of this kind, after a moment of quiet.
    ///
    /// # Errors
    /// When notices cannot be read.
    pub async fn was_told(&self, kind: NoticeKind) -> anyhow::Result<bool> {
        tokio::time::sleep(QUIET).await;
        Ok(self
            .notices()
            .await?
            .iter()
            .any(|notice| notice.kind == kind))
    }
}

/// Whether a notice is a sentence that says what is the matter, without jargon.
fn is_plain(text: &str) -> bool {
    const JARGON: [&str; 12] = [
        "sha",
        "ratchet",
        "prekey",
        "signature",
        "protobuf",
        "panic",
        "error:",
        "none",
        "hash",
        "payload",
        "enum",
        "0x",
    ];
    let lower = text.to_lowercase();
    text.ends_with('.')
        && text.split_whitespace().count() >= 4
        && !JARGON.iter().any(|word| {
            lower
                .split(|c: char| !c.is_alphanumeric() && c != ':')
                .any(|w| w == *word)
        })
}
