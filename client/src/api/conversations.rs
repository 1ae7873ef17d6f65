//! Conversations: who is in, how they are set up.

use wardline_wire::ids::AccountId;

use super::{Client, ClientError, Conversation, ConversationId, Member, StoreError};
use crate::membership::{self, Wish};
use crate::store::conversations::{self, Conversation as Stored};
use crate::store::messages;

impl Client {
    /// All conversations, those with the newest messages first.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn conversations(&self) -> Result<Vec<Conversation>, ClientError> {
        let mut reader = self.reader().await?;
        let db = reader.db()?;
        let own = crate::store::own::load(db)
            .await?
            .ok_or(ClientError::NotEnrolled)?;
        let mut found = Vec::new();
        for stored in conversations::all(db).await? {
            found.push(conversation(db, stored, own.address.account).await?);
        }
        Ok(found)
    }

    /// One conversation.
    ///
    /// # Errors
    /// [`ClientError::UnknownConversation`].
    pub async fn conversation(&self, id: ConversationId) -> Result<Conversation, ClientError> {
        let mut reader = self.reader().await?;
        let db = reader.db()?;
        let own = crate::store::own::load(db)
            .await?
            .ok_or(ClientError::NotEnrolled)?;
        let stored = conversations::load(db, id.as_bytes())
            .await?
            .ok_or(ClientError::UnknownConversation)?;
        Ok(conversation(db, stored, own.address.account).await?)
    }

    /// Opens a conversation. Without a title and with one other member it is a direct one; if
    /// there is one already, that is returned.
    ///
    /// # Errors
    /// [`ClientError::UnknownContact`] for members that were never looked up,
    /// [`ClientError::NotCertified`], [`ClientError::NotAllowed`].
    pub async fn create_conversation(
        &self,
        title: Option<String>,
        members: Vec<AccountId>,
    ) -> Result<ConversationId, ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                if let (None, [account]) = (&title, members.as_slice())
                    && let Some(existing) = membership::direct_with(turn, *account).await?
                {
                    return Ok(existing);
                }
                membership::create(turn, title, &members).await
            })
        })
        .await
    }

    /// The direct conversation with somebody; opened if there is none yet.
    ///
    /// # Errors
    /// As [`create_conversation`](Self::create_conversation).
    pub async fn direct_conversation(
        &self,
        account: AccountId,
    ) -> Result<ConversationId, ClientError> {
        self.create_conversation(None, vec![account]).await
    }

    async fn wish(&self, conversation: ConversationId, wish: Wish) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move { membership::operate(turn, conversation, wish).await })
        })
        .await
    }

    /// Adds somebody we know. By owners.
    ///
    /// # Errors
    /// [`ClientError::NotAllowed`] with the log's reason; [`ClientError::UnknownContact`].
    pub async fn add_member(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> Result<(), ClientError> {
        self.wish(conversation, Wish::Add(account)).await
    }

    /// Removes a member. By owners; an owner only by a more senior one.
    ///
    /// # Errors
    /// As [`add_member`](Self::add_member).
    pub async fn remove_member(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> Result<(), ClientError> {
        self.wish(conversation, Wish::Remove(account)).await
    }

    /// Makes a member an owner. By owners.
    ///
    /// # Errors
    /// As [`add_member`](Self::add_member).
    pub async fn promote(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> Result<(), ClientError> {
        self.wish(conversation, Wish::Promote(account)).await
    }

    /// Makes an owner a member. By senior owners, or by the owner in question.
    ///
    /// # Errors
    /// As [`add_member`](Self::add_member).
    pub async fn demote(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> Result<(), ClientError> {
        self.wish(conversation, Wish::Demote(account)).await
    }

    /// Leaves. The last owner first makes somebody else owner.
    ///
    /// # Errors
    /// As [`add_member`](Self::add_member).
    pub async fn leave(&self, conversation: ConversationId) -> Result<(), ClientError> {
        self.wish(conversation, Wish::Leave).await
    }

    /// Sets or removes the title. By owners. The log carries its hash alone.
    ///
    /// # Errors
    /// As [`add_member`](Self::add_member); [`ClientError::Invalid`].
    pub async fn set_title(
        &self,
        conversation: ConversationId,
        title: Option<String>,
    ) -> Result<(), ClientError> {
        self.wish(conversation, Wish::Title(title)).await
    }

    /// Sets the disappearing timer, in seconds after reading; 0 for off. By owners.
    ///
    /// # Errors
    /// As [`add_member`](Self::add_member).
    pub async fn set_timer(
        &self,
        conversation: ConversationId,
        seconds: u32,
    ) -> Result<(), ClientError> {
        self.wish(conversation, Wish::Timer(seconds)).await
    }

    /// Objects to the AI in this conversation (`false`), or takes the objection back. By anybody,
    /// for themselves; the AI is silent while anybody objects.
    ///
    /// # Errors
    /// As [`add_member`](Self::add_member).
    pub async fn set_ai(
        &self,
        conversation: ConversationId,
        allowed: bool,
    ) -> Result<(), ClientError> {
        self.wish(conversation, Wish::Ai(allowed)).await
    }
}

async fn conversation(
    db: &mut sqlx::sqlite::SqliteConnection,
    stored: Stored,
    own: AccountId,
) -> Result<Conversation, StoreError> {
    let id = ConversationId::from_slice(&stored.id)
        .map_err(|_| StoreError::Damaged("a conversation id"))?;
    let members: Vec<Member> = conversations::members(db, &stored.id)
        .await?
        .into_iter()
        .map(|member| Member {
            account: member.account,
            owner: member.owner,
        })
        .collect();
    let mut title = stored.title;
    if stored.direct
        && let Some(peer) = members.iter().find(|member| member.account != own)
    {
        title = super::contacts::name_of(db, peer.account).await?;
    }
    let unread = messages::unread_count(db, &stored.id).await?;
    Ok(Conversation {
        id,
        direct: stored.direct,
        title,
        state: stored.state,
        members,
        ai_on: stored.ai_on,
        timer_seconds: stored.timer_seconds,
        last_local_id: stored.last_local_id,
        unread,
    })
}
