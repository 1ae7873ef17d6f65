//! Attacks through "please send that again": nobody gets a message in this way
//! who was not meant to have it.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use wardline_client::proto::{self as inside, content::Kind};
use wardline_e2e::process::PATIENCE;
use wardline_e2e::spare::{Voice, now, random};
use wardline_e2e::world::World;
use wardline_wire::proto::{CiphertextType, Envelope};

// Verdict: refused. The request is well made, in a real session: only it comes from somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_retry_request_gets_nothing() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.patient("bob", &alice).await?;
    alice.says("for bob alone").to(&bob).await?;
    bob.hears("for bob alone").await?;
    let conversation = alice.direct(&bob).await?;

    let mallory = world.clinic.spare_called("mallory").await?;
    mallory.upload_prekeys(1, 1, 10).await?;
    alice.client.lookup_account(mallory.id).await?;
    alice.client.accept_request(mallory.id).await?;
    let mut voice = Voice::of(&mallory, 1)?;
    // The relay tells Mallory what went by: every ciphertext, and so every hash.
    let request = inside::RetryRequest {
        ciphertexts: world
            .clinic
            .hostile
            .seen(bob.address)
            .iter()
            .map(|envelope| Sha256::digest(&envelope.ciphertext).to_vec())
            .collect(),
        sequences: vec![inside::SequenceRange {
            conversation_id: conversation.as_bytes().to_vec(),
            first: 1,
            last: 100,
        }],
    };
    let content = inside::Content {
        content_id: random::<16>().to_vec(),
        sequence: 1,
        sent_at_ms: now().as_millis(),
        sender_list: Some(mallory.list_ref()),
        recipient_list: Some(mallory.list_ref_of(alice.account()).await?),
        kind: Some(Kind::Retry(request)),
        ..inside::Content::default()
    };
    let mut socket = mallory.connect(1).await?;
    let sealed = voice
        .encrypt(alice.account(), &content.encode_to_vec())
        .await?;
    socket.deliver(alice.account(), sealed).await?;
    // Alice goes on, and everything that she sends to Mallory is opened here.
    alice.client.sync(PATIENCE).await?;
    alice.says("another for bob").to(&bob).await?;
    bob.hears("another for bob").await?;
    alice.client.sync(PATIENCE).await?;
    let to_mallory: Vec<_> = world
        .clinic
        .hostile
        .sends()
        .into_iter()
        .filter(|(from, _)| *from == alice.address)
        .flat_map(|(_, send)| send.recipients)
        .filter(|recipient| recipient.account_id == mallory.id.as_bytes())
        .flat_map(|recipient| recipient.ciphertexts)
        .collect();
    for ciphertext in to_mallory {
        if ciphertext.r#type() == CiphertextType::Signal {
            let opened = voice.decrypt(alice.address, &ciphertext.ciphertext)?;
            let content = inside::Content::decode(opened.as_slice())?;
            assert!(
                !matches!(content.kind, Some(Kind::Text(_))),
                "Mallory was sent a text"
            );
        }
    }
    world.clinic.check_no_panic()
}

// Verdict: ignored. The relay itself asks, in the clear, as the protocol once allowed.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_request_of_the_relays_own_is_ignored() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.patient("bob", &alice).await?;
    alice.says("once").to(&bob).await?;
    bob.hears("once").await?;
    alice.client.sync(PATIENCE).await?;
    let sent = world.clinic.hostile.sends().len();
    // Type 8: plaintext content. 0xC0, a decryption error message, a terminator.
    let plaintext = Envelope {
        sender_account_id: bob.account().to_vec().into(),
        sender_device_id: 1,
        r#type: 8,
        ciphertext: b"\xC0\x42\x06\x08\x01\x10\x01\x18\x01\x80".to_vec().into(),
        ..Envelope::default()
    };
    world
        .clinic
        .hostile
        .release(alice.address, vec![plaintext])?;
    bob.says("thank you").to(&alice).await?;
    alice.hears("thank you").await?;
    alice.client.sync(PATIENCE).await?;
    // Alice answered Bob's message with a receipt at most; nothing was said twice.
    let by_alice = world.clinic.hostile.sends();
    let texts_again = by_alice
        .iter()
        .skip(sent)
        .filter(|(from, _)| *from == alice.address)
        .count();
    assert!(
        texts_again <= 2,
        "{texts_again} sends after a forged request"
    );
    assert_eq!(bob.heard().await?, ["once"]);
    world.clinic.check_no_panic()
}
