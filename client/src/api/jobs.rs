//! For AI endpoints: questions in, answers out, each exactly once.

use super::{
    AiAlert, AiAnswer, AiPartial, Client, ClientError, ContentId, ConversationId, Job,
    OutgoingAnswer, SentMessage,
};
use crate::content::Kind;
use crate::jobs;
use crate::send;

impl Client {
    /// The oldest question after job `after` (0 for the first) that is not answered yet. The same
    /// one comes again until [`finish_job`](Self::finish_job).
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn next_job(&self, after: u64) -> Result<Option<Job>, ClientError> {
        let found = self
            .task(move |turn| Box::pin(async move { Ok(jobs::next(turn, after).await?) }))
            .await?;
        let Some((id, row)) = found else {
            return Ok(None);
        };
        let mut reader = self.reader().await?;
        let message = super::messages::message(reader.db()?, row).await?;
        Ok(Some(Job { id, message }))
    }

    /// Marks a job as done and sends its answer, in one commit: a crash neither loses nor repeats
    /// an answer. A job that is done already sends nothing and returns `None`.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`] for a job that does not exist; as for sending, in which
    /// case the job stays open.
    pub async fn finish_job(
        &self,
        job: u64,
        answer: Option<OutgoingAnswer>,
    ) -> Result<Option<SentMessage>, ClientError> {
        self.task(move |turn| Box::pin(async move { jobs::finish(turn, job, answer).await }))
            .await
    }

    /// The content id of the answer to a question: an HMAC of its id under a key of this profile.
    pub fn derived_content_id(&self, question: ContentId) -> ContentId {
        jobs::derived_content_id(&self.inner.local_key, question)
    }

    /// Sends how far an answer is to the members who are online. May be lost; at most 20 an answer.
    ///
    /// # Errors
    /// As for sending.
    pub async fn send_partial(
        &self,
        conversation: ConversationId,
        partial: AiPartial,
    ) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(
                async move { send::ephemeral(turn, conversation, Kind::AiPartial(partial)).await },
            )
        })
        .await
    }

    /// Sends an answer that no job asked for.
    ///
    /// # Errors
    /// As for sending.
    pub async fn send_answer(
        &self,
        conversation: ConversationId,
        content_id: ContentId,
        answer: AiAnswer,
    ) -> Result<SentMessage, ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                send::shown(turn, conversation, content_id, Kind::AiAnswer(answer)).await
            })
        })
        .await
    }

    /// Alerts the clinicians of a conversation; `false` when there is none in it.
    ///
    /// # Errors
    /// As for sending.
    pub async fn send_alert(
        &self,
        conversation: ConversationId,
        alert: AiAlert,
    ) -> Result<bool, ClientError> {
        self.task(move |turn| Box::pin(async move { jobs::alert(turn, conversation, alert).await }))
            .await
    }
}
