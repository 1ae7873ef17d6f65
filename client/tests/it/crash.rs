//! What a crash must not lose and must not repeat, against a relay in memory.

use std::time::Duration;

use wardline_client::api::{
    AccountId, Client, ContentId, ConversationId, MessageBody, MessageFilter, NoticeKind, Role,
};

use super::fake::FakeRelay;

const PATIENCE: Duration = Duration::from_mins(1);

/// Two members of the staff who know each other and share a conversation.
struct Pair {
    relay: FakeRelay,
    dir: tempfile::TempDir,
    alice: Client,
    bob: Client,
    conversation: ConversationId,
}

async fn join(relay: &FakeRelay, dir: &std::path::Path, name: &str, number: u8) -> Client {
    let invite = relay.invite(Role::Staff, number);
    let client = Client::enrol(relay.config(dir, name), &invite)
        .await
        .unwrap();
    client.wait_certified(PATIENCE).await.unwrap();
    client.sync(PATIENCE).await.unwrap();
    client
}

async fn account(client: &Client) -> AccountId {
    client.own().await.unwrap().address.account
}

impl Pair {
    async fn new() -> Self {
        let relay = FakeRelay::new();
        let dir = tempfile::tempdir().unwrap();
        let alice = join(&relay, dir.path(), "alice", 1).await;
        let bob = join(&relay, dir.path(), "bob", 2).await;
        let (a, b) = (account(&alice).await, account(&bob).await);
        alice.lookup_account(b).await.unwrap();
        bob.lookup_account(a).await.unwrap();
        let conversation = alice.direct_conversation(b).await.unwrap();
        let pair = Self {
            relay,
            dir,
            alice,
            bob,
            conversation,
        };
        say(&pair.alice, conversation, "first").await;
        pair.alice.sync(PATIENCE).await.unwrap();
        until_heard(&pair.bob, "first").await;
        say(&pair.bob, conversation, "answer").await;
        until_heard(&pair.alice, "answer").await;
        pair.alice.sync(PATIENCE).await.unwrap();
        pair.bob.sync(PATIENCE).await.unwrap();
        pair
    }

    async fn reopen(&self, name: &str) -> Client {
        Client::open(self.relay.config(self.dir.path(), name))
            .await
            .unwrap()
    }
}

async fn say(client: &Client, conversation: ConversationId, text: &str) -> ContentId {
    client
        .send_text(conversation, text, None, Vec::new())
        .await
        .unwrap()
        .content_id
}

async fn heard(client: &Client) -> Vec<String> {
    client
        .messages(MessageFilter {
            limit: 1000,
            ..MessageFilter::default()
        })
        .await
        .unwrap()
        .into_iter()
        .filter(|message| !message.own)
        .filter_map(|message| match message.body {
            MessageBody::Text(text) => Some(text.body),
            _ => None,
        })
        .collect()
}

async fn until_heard(client: &Client, text: &str) {
    let mut wakeups = client.subscribe();
    tokio::time::timeout(PATIENCE, async {
        while !heard(client).await.iter().any(|said| said == text) {
            let _ = tokio::time::timeout(Duration::from_secs(1), wakeups.recv()).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{text:?} did not arrive"));
}

fn count(heard: &[String], text: &str) -> usize {
    heard.iter().filter(|said| *said == text).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_send_goes_out_again_with_the_same_id_and_bytes() {
    let pair = Pair::new().await;
    pair.relay.keep_results(true);
    let before = pair.relay.sends().len();
    say(&pair.alice, pair.conversation, "once").await;
    until_heard(&pair.bob, "once").await;
    let first = pair.relay.sends()[before].1.clone();
    pair.alice.shutdown().await;
    pair.relay.keep_results(false);
    let again = pair.relay.sends().len();
    let alice = pair.reopen("alice").await;
    alice.sync(PATIENCE).await.unwrap();
    let sends = pair.relay.sends();
    let repeated = sends[again..]
        .iter()
        .find(|(_, send)| send.send_id == first.send_id)
        .expect("the send was repeated");
    assert!(repeated.1 == first, "other bytes under the same send id");
    pair.bob.sync(PATIENCE).await.unwrap();
    assert_eq!(count(&heard(&pair.bob).await, "once"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_while_offline_is_sent_after_a_restart() {
    let pair = Pair::new().await;
    pair.alice.shutdown().await;
    let alice = pair.reopen("alice").await;
    let id = say(&alice, pair.conversation, "written offline").await;
    alice.shutdown().await;
    assert_eq!(count(&heard(&pair.bob).await, "written offline"), 0);
    let alice = pair.reopen("alice").await;
    alice.start().await.unwrap();
    alice.wait_delivered(id, PATIENCE).await.unwrap();
    assert_eq!(count(&heard(&pair.bob).await, "written offline"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_whose_acknowledgement_is_lost_is_shown_once() {
    let pair = Pair::new().await;
    pair.relay.keep_acknowledgements(true);
    say(&pair.alice, pair.conversation, "acknowledged in vain").await;
    until_heard(&pair.bob, "acknowledged in vain").await;
    pair.bob.shutdown().await;
    pair.relay.keep_acknowledgements(false);
    let bob = pair.reopen("bob").await;
    bob.sync(PATIENCE).await.unwrap();
    assert_eq!(count(&heard(&bob).await, "acknowledged in vain"), 1);
    let address = bob.own().await.unwrap().address;
    assert_eq!(
        pair.relay.waiting(address),
        0,
        "acknowledged the second time"
    );
    // The ratchet went on as if nothing had happened.
    say(&pair.alice, pair.conversation, "and on").await;
    until_heard(&bob, "and on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_envelope_is_shown_once() {
    let pair = Pair::new().await;
    pair.bob.shutdown().await;
    let bob = pair.reopen("bob").await;
    let address = bob.own().await.unwrap().address;
    say(&pair.alice, pair.conversation, "twice in the mailbox").await;
    pair.alice.sync(PATIENCE).await.unwrap();
    pair.relay.repeat_newest(address);
    bob.sync(PATIENCE).await.unwrap();
    assert_eq!(count(&heard(&bob).await, "twice in the mailbox"), 1);
    assert_eq!(pair.relay.waiting(address), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_envelope_blocks_nothing_and_comes_again() {
    let pair = Pair::new().await;
    pair.bob.shutdown().await;
    let bob = pair.reopen("bob").await;
    let address = bob.own().await.unwrap().address;
    say(&pair.alice, pair.conversation, "damaged on the way").await;
    pair.alice.sync(PATIENCE).await.unwrap();
    assert!(pair.relay.damage_newest(address));
    say(&pair.alice, pair.conversation, "whole").await;
    pair.alice.sync(PATIENCE).await.unwrap();
    bob.start().await.unwrap();
    until_heard(&bob, "whole").await;
    until_heard(&bob, "damaged on the way").await;
    let heard = heard(&bob).await;
    assert_eq!(count(&heard, "damaged on the way"), 1);
    assert_eq!(count(&heard, "whole"), 1);
    let notices = bob.notices(0).await.unwrap();
    assert!(
        notices
            .iter()
            .any(|notice| notice.kind == NoticeKind::Quarantined)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_message_shows_as_a_gap_and_comes_again() {
    let pair = Pair::new().await;
    pair.bob.shutdown().await;
    let bob = pair.reopen("bob").await;
    let address = bob.own().await.unwrap().address;
    say(&pair.alice, pair.conversation, "lost").await;
    pair.alice.sync(PATIENCE).await.unwrap();
    assert!(pair.relay.lose_newest(address));
    say(&pair.alice, pair.conversation, "after").await;
    pair.alice.sync(PATIENCE).await.unwrap();
    bob.start().await.unwrap();
    until_heard(&bob, "after").await;
    until_heard(&bob, "lost").await;
    let notices = bob.notices(0).await.unwrap();
    assert!(notices.iter().any(|notice| notice.kind == NoticeKind::Gap));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_an_upload_costs_nothing_and_a_restored_relay_gets_new_keys() {
    let relay = FakeRelay::new();
    let dir = tempfile::tempdir().unwrap();
    relay.fail_uploads(true);
    let invite = relay.invite(Role::Staff, 1);
    let alice = Client::enrol(relay.config(dir.path(), "alice"), &invite)
        .await
        .unwrap();
    alice.wait_certified(PATIENCE).await.unwrap();
    alice.sync(PATIENCE).await.unwrap();
    relay.fail_uploads(false);
    alice.shutdown().await;
    let alice = Client::open(relay.config(dir.path(), "alice"))
        .await
        .unwrap();
    alice.sync(PATIENCE).await.unwrap();
    let address = alice.own().await.unwrap().address;
    assert_eq!(relay.stock(address), (100, 100));
    relay.restore();
    relay.cut();
    alice.shutdown().await;
    let alice = Client::open(relay.config(dir.path(), "alice"))
        .await
        .unwrap();
    alice.sync(PATIENCE).await.unwrap();
    assert_eq!(relay.stock(address), (100, 100), "uploaded anew");
    // Somebody who got one of the first keys is still understood.
    let bob = join(&relay, dir.path(), "bob", 2).await;
    bob.lookup_account(account(&alice).await).await.unwrap();
    alice.lookup_account(account(&bob).await).await.unwrap();
    let conversation = bob
        .direct_conversation(account(&alice).await)
        .await
        .unwrap();
    say(&bob, conversation, "hello").await;
    until_heard(&alice, "hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_answered_once() {
    let pair = Pair::new().await;
    pair.bob.shutdown().await;
    let mut config = pair.relay.config(pair.dir.path(), "bob");
    config.jobs = true;
    let bob = Client::open(config.clone()).await.unwrap();
    bob.start().await.unwrap();
    say(&pair.alice, pair.conversation, "a question").await;
    until_heard(&bob, "a question").await;
    let job = bob.next_job(0).await.unwrap().expect("a job");
    // A crash before the answer: the same job comes again.
    bob.shutdown().await;
    let bob = Client::open(config).await.unwrap();
    bob.start().await.unwrap();
    let again = bob.next_job(0).await.unwrap().expect("the job again");
    assert_eq!(again.id, job.id);
    let question = again.message.content_id;
    let answer = || wardline_client::api::OutgoingAnswer {
        content_id: bob.derived_content_id(question),
        answer: answer(question),
        alerts: Vec::new(),
    };
    let sent = bob.finish_job(job.id, Some(answer())).await.unwrap();
    assert!(sent.is_some());
    assert!(
        bob.finish_job(job.id, Some(answer()))
            .await
            .unwrap()
            .is_none()
    );
    assert!(bob.next_job(0).await.unwrap().is_none());
    bob.wait_delivered(sent.unwrap().content_id, PATIENCE)
        .await
        .unwrap();
    let answers = pair
        .alice
        .messages(MessageFilter::default())
        .await
        .unwrap()
        .into_iter()
        .filter(|message| matches!(message.body, MessageBody::Answer(_)))
        .count();
    assert_eq!(answers, 1);
}

fn answer(question: ContentId) -> wardline_client::api::AiAnswer {
    use wardline_client::content::{AiBackend, AiClass};
    wardline_client::api::AiAnswer {
        question,
        text: "See page four.".to_owned(),
        provenance: wardline_client::api::AiProvenance {
            backend: AiBackend::Extractive,
            model: String::new(),
            model_digest: String::new(),
            citations: Vec::new(),
            class: AiClass::Public,
            generated_at: wardline_client::api::Timestamp::from_millis(1),
            cut: false,
            context_used: Vec::new(),
            context_cut: false,
            policy_version: "1".to_owned(),
        },
        disclaimer: "No substitute for a clinician.".to_owned(),
    }
}
