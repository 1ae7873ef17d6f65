//! Questions for an AI endpoint: stored with the message, finished with the answer.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::api::{ClientError, ContentId, ConversationId, OutgoingAnswer, SentMessage};
use crate::content::{AiAlert, Kind};
use crate::outbox;
use crate::send;
use crate::store::accounts;
use crate::store::{StoreError, messages, misc};
use crate::turn::Turn;
use wardline_wire::proto::Role;

/// The content id of the answer to a question: the same at every run, and nobody else can tell.
pub(crate) fn derived_content_id(local_key: &[u8; 32], question: ContentId) -> ContentId {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(local_key).expect("any length");
    mac.update(b"wardline/answer-id/v1\0");
    mac.update(question.as_bytes());
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digest) {
        *to = from;
    }
    ContentId::from(id)
}

/// Marks a job as done and queues its answer, together. A job that is done already changes
/// nothing and sends nothing.
pub(crate) async fn finish(
    turn: &mut Turn<'_>,
    job: u64,
    answer: Option<OutgoingAnswer>,
) -> Result<Option<SentMessage>, ClientError> {
    let Some(local_id) = misc::job_message(turn.db, job).await? else {
        return Err(ClientError::UnknownMessage);
    };
    if !misc::finish_job(turn.db, job).await? {
        return Ok(None);
    }
    let Some(answer) = answer else {
        return Ok(None);
    };
    // The question may have disappeared meanwhile; its conversation is remembered by the job.
    let conversation = ConversationId::from_slice(&local_id.1)
        .map_err(|_| StoreError::Damaged("a job's conversation"))?;
    let sent = send::shown(
        turn,
        conversation,
        answer.content_id,
        Kind::AiAnswer(answer.answer),
    )
    .await?;
    for alert in answer.alerts {
        self::alert(turn, conversation, alert).await?;
    }
    Ok(Some(sent))
}

/// Sends an alert to the clinicians of a conversation; returns whether there is one.
pub(crate) async fn alert(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    alert: AiAlert,
) -> Result<bool, ClientError> {
    let members = send::check_conversation(turn, conversation).await?;
    let mut clinicians = Vec::new();
    for member in members {
        let role = accounts::load(turn.db, member)
            .await?
            .map(|account| account.role);
        if member != turn.own_account() && matches!(role, Some(Role::Staff | Role::Admin)) {
            clinicians.push(member);
        }
    }
    if clinicians.is_empty() {
        return Ok(false);
    }
    let id = send::new_content_id();
    let kind = Kind::AiAlert(alert);
    let content = send::conversation_content(turn, conversation, id, kind, false)
        .await?
        .ok_or(ClientError::NotCertified)?;
    content.encode_unpadded()?;
    outbox::queue(turn, &content, &clinicians, true).await?;
    Ok(true)
}

/// The oldest job after `after` with its message. A job whose message is gone is finished.
pub(crate) async fn next(
    turn: &mut Turn<'_>,
    after: u64,
) -> Result<Option<(u64, messages::Row)>, StoreError> {
    let mut after = after;
    while let Some((job, local_id)) = misc::next_job(turn.db, after).await? {
        match messages::by_local_id(turn.db, local_id).await? {
            Some(message) if !message.deleted => return Ok(Some((job, message))),
            _ => {
                misc::finish_job(turn.db, job).await?;
                after = job;
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_ids_repeat_for_the_same_question_and_profile_alone() {
        let question = ContentId::from([1; 16]);
        let id = derived_content_id(&[2; 32], question);
        assert_eq!(id, derived_content_id(&[2; 32], question));
        assert_ne!(id, derived_content_id(&[3; 32], question));
        assert_ne!(id, derived_content_id(&[2; 32], ContentId::from([4; 16])));
    }
}
