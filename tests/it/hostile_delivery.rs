//! What a lying relay can do to envelopes on their way, and how each attempt ends.

use std::sync::{Arc, Mutex};

use wardline_client::api::NoticeKind;
use wardline_e2e::hostile::Outcome;
use wardline_e2e::spare::{Voice, random};
use wardline_e2e::world::{Person, World};
use wardline_wire::proto::{
    CiphertextType, Envelope, RecipientResult, Role, SendResult, ServerFrame, client_frame,
    recipient_result, server_frame,
};

/// A doctor and a patient who know each other.
async fn two() -> anyhow::Result<(World, Person, Person)> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.patient("bob", &alice).await?;
    alice.says("good morning").to(&bob).await?;
    bob.hears("good morning").await?;
    Ok((world, alice, bob))
}

/// Holds what is sent to `to` while `say` runs, and takes it.
async fn intercept(
    world: &World,
    from: &Person,
    to: &Person,
    texts: &[&str],
) -> anyhow::Result<Vec<Envelope>> {
    let hostile = &world.clinic.hostile;
    hostile.hold(to.address);
    let mut taken = Vec::new();
    for text in texts {
        from.says(text).to(to).await?;
        let held = hostile.held(to.address, 1).await?;
        taken.extend(held.into_iter().filter(|envelope| !envelope.ephemeral));
    }
    Ok(taken)
}

// Verdict: refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_sender_is_refused() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    let alice_id = alice.account();
    let forged = Envelope {
        sender_account_id: alice_id.to_vec().into(),
        sender_device_id: 1,
        r#type: CiphertextType::Signal.into(),
        ciphertext: random::<300>().to_vec().into(),
        ..Envelope::default()
    };
    world.clinic.hostile.release(bob.address, vec![forged])?;
    let notice = bob.is_told(NoticeKind::Quarantined, alice_id).await?;
    assert!(notice.text.contains("alice"), "{}", notice.text);
    // The true Alice is still heard.
    alice.says("it is really me").to(&bob).await?;
    bob.hears("it is really me").await?;
    world.clinic.check_no_panic()
}

// Verdict: refused. The ciphertext is a real one, under a real session: somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_ciphertext_under_a_friends_name_is_refused() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    let mallory = world.clinic.spare(Role::Staff).await?;
    mallory.upload_prekeys(1, 1, 5).await?;
    let mut voice = Voice::of(&mallory, 1)?;
    let real = voice.encrypt(bob.account(), b"no content at all").await?;
    let forged: Vec<Envelope> = real
        .into_iter()
        .map(|ciphertext| Envelope {
            sender_account_id: alice.account().to_vec().into(),
            sender_device_id: 1,
            r#type: ciphertext.r#type,
            ciphertext: ciphertext.ciphertext,
            ..Envelope::default()
        })
        .collect();
    world.clinic.hostile.release(bob.address, forged)?;
    bob.is_told(NoticeKind::Quarantined, alice.account())
        .await?;
    alice.says("it is really me").to(&bob).await?;
    bob.hears("it is really me").await?;
    world.clinic.check_no_panic()
}

// Verdict: deduplicated.
#[tokio::test(flavor = "multi_thread")]
async fn replayed_envelopes_are_deduplicated() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    for round in 0..3 {
        alice.says(&format!("number {round}")).to(&bob).await?;
        bob.hears(&format!("number {round}")).await?;
    }
    let before = bob.heard().await?;
    let seen = world.clinic.hostile.seen(bob.address);
    assert!(seen.len() >= 4);
    world.clinic.hostile.release(bob.address, seen.clone())?;
    world.clinic.hostile.release(bob.address, seen)?;
    alice.says("the last").to(&bob).await?;
    bob.hears("the last").await?;
    let mut expected = before;
    expected.push("the last".to_owned());
    assert_eq!(bob.heard().await?, expected);
    assert!(!bob.was_told(NoticeKind::Gap).await?);
    world.clinic.check_no_panic()
}

// Verdict: deduplicated.
#[tokio::test(flavor = "multi_thread")]
async fn duplicated_envelopes_are_deduplicated() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    world
        .clinic
        .hostile
        .on_envelope(|_, envelope| vec![envelope.clone(), envelope.clone(), envelope]);
    for round in 0..5 {
        alice.says(&format!("from alice {round}")).to(&bob).await?;
        bob.says(&format!("from bob {round}")).to(&alice).await?;
    }
    for round in 0..5 {
        bob.hears(&format!("from alice {round}")).await?;
        alice.hears(&format!("from bob {round}")).await?;
    }
    assert!(!bob.was_told(NoticeKind::Quarantined).await?);
    world.clinic.check_no_panic()
}

// Verdict: gap shown. The sender is asked, and the message comes after all.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_envelope_shows_as_a_gap_and_is_sent_again() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    let dropped = intercept(&world, &alice, &bob, &["this one is dropped"]).await?;
    assert_eq!(dropped.len(), 1);
    world.clinic.hostile.let_through(bob.address)?;
    alice.says("this one arrives").to(&bob).await?;
    bob.hears("this one arrives").await?;
    let notice = bob.is_told(NoticeKind::Gap, alice.account()).await?;
    assert!(notice.text.contains("missing"), "{}", notice.text);
    bob.hears("this one is dropped").await?;
    world.clinic.check_no_panic()
}

// Verdict: gap shown. Whatever the relay claims to the sender, the recipient misses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_the_relay_only_claims_to_take_shows_as_a_gap() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    let from = alice.address;
    let swallowed = Arc::new(Mutex::new(0));
    let count = Arc::clone(&swallowed);
    world.clinic.hostile.on_client_frame(move |device, frame| {
        let Some(client_frame::Frame::Send(send)) = &frame.frame else {
            return Outcome::forward(frame);
        };
        let mut count = count.lock().unwrap();
        if device != from || *count > 0 {
            return Outcome::forward(frame);
        }
        *count += 1;
        Outcome::answer(ServerFrame {
            frame: Some(server_frame::Frame::SendResult(SendResult {
                send_id: send.send_id.clone(),
                results: send
                    .recipients
                    .iter()
                    .map(|recipient| RecipientResult {
                        account_id: recipient.account_id.clone(),
                        result: Some(recipient_result::Result::Accepted(
                            wardline_wire::proto::Accepted {},
                        )),
                    })
                    .collect(),
            })),
        })
    });
    alice.says("accepted, says the relay").to(&bob).await?;
    assert_eq!(*swallowed.lock().unwrap(), 1);
    alice.says("and this one really is").to(&bob).await?;
    bob.hears("and this one really is").await?;
    bob.is_told(NoticeKind::Gap, alice.account()).await?;
    bob.hears("accepted, says the relay").await?;
    world.clinic.check_no_panic()
}

// Verdict: delayed.
#[tokio::test(flavor = "multi_thread")]
async fn reordered_envelopes_are_all_read() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    let texts = ["one", "two", "three", "four", "five"];
    let mut taken = intercept(&world, &alice, &bob, &texts).await?;
    assert_eq!(taken.len(), 5);
    taken.reverse();
    world.clinic.hostile.release(bob.address, taken)?;
    for text in texts {
        bob.hears(text).await?;
    }
    assert!(!bob.was_told(NoticeKind::Quarantined).await?);
    world.clinic.hostile.let_through(bob.address)?;
    alice.says("six").to(&bob).await?;
    bob.hears("six").await?;
    world.clinic.check_no_panic()
}

// Verdict: delayed.
#[tokio::test(flavor = "multi_thread")]
async fn delayed_envelopes_arrive_when_they_are_let_go() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    let taken = intercept(&world, &alice, &bob, &["early"]).await?;
    // Meanwhile the other direction works, and Bob has heard nothing.
    bob.says("are you there?").to(&alice).await?;
    alice.hears("are you there?").await?;
    assert!(!bob.heard().await?.contains(&"early".to_owned()));
    world.clinic.hostile.release(bob.address, taken)?;
    bob.hears("early").await?;
    world.clinic.check_no_panic()
}

// Verdict: refused, and sent again.
#[tokio::test(flavor = "multi_thread")]
async fn an_altered_envelope_is_refused_and_sent_again() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    let taken = intercept(&world, &alice, &bob, &["the dose is 5 mg"]).await?;
    let mut altered = taken[0].clone();
    let mut bytes = altered.ciphertext.to_vec();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    altered.ciphertext = bytes.into();
    world.clinic.hostile.let_through(bob.address)?;
    world.clinic.hostile.release(bob.address, vec![altered])?;
    bob.is_told(NoticeKind::Quarantined, alice.account())
        .await?;
    // The altered bytes say nothing about what they were; the next message shows the gap, Bob
    // asks, and it comes once.
    alice.says("after meals").to(&bob).await?;
    bob.hears("after meals").await?;
    bob.hears("the dose is 5 mg").await?;
    world.clinic.check_no_panic()
}

// Verdict: refused, and harmless, whatever the envelope claims to be.
#[tokio::test(flavor = "multi_thread")]
async fn made_up_envelopes_block_nothing() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    let stranger: [u8; 16] = random();
    let mut made_up = Vec::new();
    for sender in [
        alice.account().to_vec(),
        bob.account().to_vec(),
        stranger.to_vec(),
        Vec::new(),
        vec![7; 40],
    ] {
        for device in [0, 1, 2, 127, 128, u32::MAX] {
            for kind in [0, 2, 3, 7, 8, -1] {
                made_up.push(Envelope {
                    seq: 0,
                    sender_account_id: sender.clone().into(),
                    sender_device_id: device,
                    r#type: kind,
                    ciphertext: random::<64>().to_vec().into(),
                    ephemeral: false,
                });
            }
        }
    }
    // A true one in the middle of the rubbish is read.
    let taken = intercept(&world, &alice, &bob, &["in the middle"]).await?;
    let middle = made_up.len() / 2;
    made_up.splice(middle..middle, taken);
    world.clinic.hostile.release(bob.address, made_up)?;
    bob.hears("in the middle").await?;
    world.clinic.hostile.let_through(bob.address)?;
    alice.says("still here").to(&bob).await?;
    bob.hears("still here").await?;
    world.clinic.check_no_panic()
}

// Verdict: refused; a durable message that the relay calls ephemeral shows as a gap at worst.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_made_ephemeral_by_the_relay_is_not_lost_in_silence() -> anyhow::Result<()> {
    let (world, alice, bob) = two().await?;
    let taken = intercept(&world, &alice, &bob, &["do not lose me"]).await?;
    let mut altered = taken[0].clone();
    altered.ephemeral = true;
    altered.seq = 0;
    world.clinic.hostile.let_through(bob.address)?;
    world.clinic.hostile.release(bob.address, vec![altered])?;
    alice.says("the next one").to(&bob).await?;
    bob.hears("the next one").await?;
    bob.hears("do not lose me").await?;
    world.clinic.check_no_panic()
}
