//! What a lying relay can say about people, their devices and their keys.

use std::sync::{Arc, Mutex};

use prost::Message as _;
use reqwest::Method;
use wardline_client::api::{ClientError, Contact, NoticeKind, RecordFault};
use wardline_client::contact::Stop;
use wardline_e2e::hostile::Outcome;
use wardline_e2e::insider::Insider;
use wardline_e2e::process::{PATIENCE, eventually};
use wardline_e2e::spare::{SpareAccount, SpareDevice, now};
use wardline_e2e::world::World;
use wardline_wire::clock::ManualClock;
use wardline_wire::directory::{CertificateError, DeviceListError};
use wardline_wire::proto::{
    AccountRecord, BundleSet, DeviceList, Mismatch, RecipientResult, Role, SendResult, ServerFrame,
    SignedBlob, client_frame, recipient_result, server_frame,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

/// Why looking somebody up was refused: because of their record, and why.
fn fault(result: Result<Contact, ClientError>) -> RecordFault {
    match result {
        Ok(_) => panic!("the lie was believed"),
        Err(ClientError::Record(fault)) => {
            // What a person reads is a sentence.
            assert!(fault.to_string().split_whitespace().count() >= 4, "{fault}");
            fault
        }
        Err(other) => panic!("refused for another reason: {other}"),
    }
}

/// What the relay answers about somebody, honestly.
async fn record_of(asker: &SpareAccount, handle: &str) -> anyhow::Result<AccountRecord> {
    let path = format!("/v1/handles/{handle}");
    asker
        .call(1, Method::GET, &path, Vec::new())
        .await?
        .message()
}

// Verdict: refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_ghost_device_in_a_list_is_refused() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.staff("bob").await?;
    // The relay signs a list with a device of its own on it; it has no account key to do so.
    let ghost = SpareAccount::generate(&world.clinic.relay.url(), world.clinic.deployment())?;
    let deployment = world.clinic.deployment();
    world
        .clinic
        .hostile
        .alter_records(bob.account(), move |record| {
            let shown = record.device_list.get_or_insert_default();
            let mut list = DeviceList::decode(shown.payload.as_slice()).unwrap();
            let mut device = ghost.devices[0].listed();
            device.id = 2;
            list.devices.push(device);
            list.next_device_id = 3;
            let payload = list.encode_to_vec();
            *shown = SignedBlob::sign(SignedKind::DeviceList, deployment, payload, &ghost.key);
        });
    let refused = fault(alice.looks_up("bob").await);
    assert!(
        matches!(
            refused,
            // A list that the certified key did not sign speaks for another key, uncertified.
            RecordFault::DeviceList(DeviceListError::Signature(_))
                | RecordFault::Stopped(Stop::UncertifiedKey)
        ),
        "{refused:?}"
    );
    world.clinic.hostile.be_honest();
    alice.looks_up("bob").await?;
    alice.says("only to your own devices").to(&bob).await?;
    world.clinic.check_no_panic()
}

// Verdict: refused. The relay insists on a device that no list names.
#[tokio::test(flavor = "multi_thread")]
async fn a_ghost_device_in_a_mismatch_is_refused() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.patient("bob", &alice).await?;
    let sent_to_ghost = Arc::new(Mutex::new(false));
    let saw = Arc::clone(&sent_to_ghost);
    let (from, target) = (alice.address, bob.account());
    world.clinic.hostile.on_client_frame(move |device, frame| {
        let Some(client_frame::Frame::Send(send)) = &frame.frame else {
            return Outcome::forward(frame);
        };
        let mut recipients = send.recipients.iter();
        if device != from || !recipients.all(|r| r.account_id == target.as_bytes()) {
            return Outcome::forward(frame);
        }
        let ciphertexts = send.recipients.iter().flat_map(|r| &r.ciphertexts);
        *saw.lock().unwrap() |= ciphertexts.into_iter().any(|c| c.device_id == 2);
        Outcome::answer(ServerFrame {
            frame: Some(server_frame::Frame::SendResult(SendResult {
                send_id: send.send_id.clone(),
                results: vec![RecipientResult {
                    account_id: target.to_vec(),
                    result: Some(recipient_result::Result::Mismatch(Mismatch {
                        missing: vec![2],
                        ..Mismatch::default()
                    })),
                }],
            })),
        })
    });
    let conversation = alice.direct(&bob).await?;
    alice.hands_in("not for a ghost", conversation).await?;
    let notice = alice
        .is_told(NoticeKind::MismatchDisputed, bob.account())
        .await?;
    assert!(notice.text.contains("bob"), "{}", notice.text);
    assert!(!*sent_to_ghost.lock().unwrap());
    // Once the relay stops lying, the message goes out by itself.
    world.clinic.hostile.be_honest();
    bob.hears("not for a ghost").await?;
    world.clinic.check_no_panic()
}

// Verdict: refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_device_list_is_refused() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let mut carol = world.clinic.spare_called("carol").await?;
    carol.add_device().await?;
    assert_eq!(alice.looks_up("carol").await?.devices.len(), 2);
    let old = carol.lists[0].clone();
    world.clinic.hostile.alter_records(carol.id, move |record| {
        record.device_list = Some(old.clone());
    });
    // The newer list stays in use, and she is told, whatever the question answers.
    match alice.looks_up("carol").await {
        Ok(contact) => assert_eq!(contact.devices.len(), 2),
        refused => assert_eq!(
            fault(refused),
            RecordFault::DeviceList(DeviceListError::RolledBack {
                known: 2,
                offered: 1
            })
        ),
    }
    alice.is_told(NoticeKind::ListRolledBack, carol.id).await?;
    assert_eq!(alice.contact(carol.id).await?.devices.len(), 2);
    world.clinic.check_no_panic()
}

// Verdict: refused, and a hard stop: the account key itself signs two truths.
#[tokio::test(flavor = "multi_thread")]
async fn an_equivocated_device_list_stops_everything() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let mut carol = world.clinic.spare_called("carol").await?;
    carol.upload_prekeys(1, 1, 5).await?;
    let mut other = carol.clone();
    carol.add_device().await?;
    // The same version, with another device: made from the same account key.
    let second = SpareAccount::generate(&world.clinic.relay.url(), carol.deployment)?;
    let mut device = second.devices[0].clone();
    device.address.account = carol.id;
    device.address.device = carol.devices[1].address.device;
    other.devices.push(device);
    let other_truth = other.sign_list(&[1, 2])?;
    assert_eq!(alice.looks_up("carol").await?.devices.len(), 2);
    world.clinic.hostile.alter_records(carol.id, move |record| {
        record.device_list = Some(other_truth.clone());
    });
    assert_eq!(
        fault(alice.looks_up("carol").await),
        RecordFault::Stopped(Stop::TwoLists { version: 2 })
    );
    alice.is_told(NoticeKind::ListEquivocated, carol.id).await?;
    assert!(alice.contact(carol.id).await?.halted.is_some());
    // A hard stop: nothing goes to her any more, from a relay that is honest again either.
    world.clinic.hostile.be_honest();
    let seen = world.clinic.hostile.seen(carol.devices[0].address).len();
    let said = async {
        let conversation = alice
            .client
            .create_conversation(None, vec![carol.id])
            .await?;
        alice
            .client
            .send_text(conversation, "secret", None, Vec::new())
            .await
    };
    // Refused at once or kept back: either way the relay gets nothing for her.
    let _ = said.await;
    alice.client.sync(PATIENCE).await?;
    assert_eq!(
        world.clinic.hostile.seen(carol.devices[0].address).len(),
        seen
    );
    assert!(!sends_to(&world, carol.id));
    world.clinic.check_no_panic()
}

/// Whether the relay holds an envelope for this account's first device that came since it enrolled.
fn sends_to(world: &World, account: wardline_wire::ids::AccountId) -> bool {
    world
        .clinic
        .hostile
        .sends()
        .iter()
        .flat_map(|(_, send)| &send.recipients)
        .any(|recipient| recipient.account_id == account.as_bytes())
}

// Verdict: refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_certificate_is_refused() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.staff("bob").await?;
    let mallory = world.clinic.spare_called("mallory").await?;
    let of_mallory = record_of(&mallory, "mallory").await?;
    world
        .clinic
        .hostile
        .alter_records(bob.account(), move |record| {
            record.certificate = of_mallory.certificate.clone();
        });
    let refused = fault(alice.looks_up("bob").await);
    assert!(
        matches!(
            refused,
            RecordFault::Certificate(
                CertificateError::OtherAccount | CertificateError::OtherHandle
            )
        ),
        "{refused:?}"
    );
    world.clinic.hostile.be_honest();
    alice.looks_up("bob").await?;
    alice.says("to the right one").to(&bob).await?;
    world.clinic.check_no_panic()
}

// Verdict: refused.
#[tokio::test(flavor = "multi_thread")]
async fn one_doctors_handle_answered_with_anothers_certificate_is_refused() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.staff("bob").await?;
    let mallory = world.clinic.spare_called("mallory").await?;
    let of_mallory = record_of(&mallory, "mallory").await?;
    world.clinic.hostile.alter_answers::<AccountRecord>(
        "GET",
        "/v1/handles/bob",
        move |_, record| {
            *record = of_mallory.clone();
        },
    );
    assert_eq!(
        fault(alice.looks_up("bob").await),
        RecordFault::Certificate(CertificateError::OtherHandle)
    );
    world.clinic.hostile.be_honest();
    assert_eq!(alice.looks_up("bob").await?.account, bob.account());
    world.clinic.check_no_panic()
}

// Verdict: refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_root_is_refused() -> anyhow::Result<()> {
    let world = World::open().await?;
    let elsewhere = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.staff("bob").await?;
    let insider = Insider::steal(
        elsewhere.clinic.authority.folder(),
        world.clinic.deployment(),
    )?;
    let mallory = SpareAccount::generate(&world.clinic.relay.url(), world.clinic.deployment())?;
    let key = mallory.key.verifying_key();
    let bob_id = bob.account();
    world.clinic.hostile.alter_records(bob_id, move |record| {
        record.certificate = Some(insider.certify(bob_id, &key, Role::Staff, Some(("bob", "bob"))));
    });
    assert!(matches!(
        fault(alice.looks_up("bob").await),
        RecordFault::Certificate(CertificateError::Issuer(_))
    ));
    world.clinic.check_no_panic()
}

// Verdict: shown. An insider issuer can certify a new key, but never in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_insider_issuer_certifies_is_shown() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.staff("bob").await?;
    alice.looks_up("bob").await?;
    alice.client.mark_verified(bob.account()).await?;
    let insider = Insider::steal(world.clinic.authority.folder(), world.clinic.deployment())?;
    let mut mallory = SpareAccount::generate(&world.clinic.relay.url(), world.clinic.deployment())?;
    mallory.id = bob.account();
    for device in &mut mallory.devices {
        device.address.account = mallory.id;
    }
    mallory.lists.clear();
    let list = mallory.sign_list(&[1])?;
    let key = mallory.key.verifying_key();
    let bob_id = bob.account();
    world.clinic.hostile.alter_records(bob_id, move |record| {
        record.certificate = Some(insider.certify(bob_id, &key, Role::Staff, Some(("bob", "bob"))));
        record.device_list = Some(list.clone());
    });
    // She had compared safety numbers: sending stops until she accepts.
    assert_eq!(
        fault(alice.looks_up("bob").await),
        RecordFault::Stopped(Stop::VerifiedKeyChanged)
    );
    alice.is_told(NoticeKind::KeyChangedStopped, bob_id).await?;
    let contact = alice.contact(bob_id).await?;
    assert!(contact.key_change_pending && contact.halted.is_some());
    world.clinic.check_no_panic()
}

/// Puts `thief`'s keys into a bundle, as a relay does that wants to sit in between.
fn steal_bundle(set: &mut BundleSet, thief: &SpareDevice, identity_too: bool) {
    let upload = thief.prekeys(1, 1, 1);
    for bundle in &mut set.bundles {
        if identity_too {
            bundle.identity_key = thief.identity.identity_key().as_bytes().to_vec();
            bundle.registration_id = thief.registration_id;
        }
        bundle.signed_prekey.clone_from(&upload.signed_prekey);
        bundle
            .kyber_prekey
            .clone_from(&upload.last_resort_kyber_prekey);
        bundle.one_time_prekey = upload.one_time_prekeys.first().cloned();
    }
}

// Verdict: refused.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_bundles_are_refused() -> anyhow::Result<()> {
    for identity_too in [true, false] {
        let world = World::open().await?;
        let clock = ManualClock::new(now());
        let link = world
            .clinic
            .invite_link(Role::Staff, Some(("alice", "alice")))?;
        let alice = world.join("alice", &link, Arc::new(clock.clone())).await?;
        let bob = world.staff("bob").await?;
        alice.looks_up("bob").await?;
        let thief = SpareAccount::generate(&world.clinic.relay.url(), world.clinic.deployment())?;
        world
            .clinic
            .hostile
            .alter_answers::<BundleSet>("POST", "/v1/keys/fetch", move |_, set| {
                steal_bundle(set, &thief.devices[0], identity_too);
            });
        let conversation = alice.direct(&bob).await?;
        alice.hands_in("for nobody else", conversation).await?;
        let notice = alice
            .is_told(NoticeKind::BundleRefused, bob.account())
            .await?;
        assert!(notice.text.contains("bob"), "{}", notice.text);
        assert!(!sends_to(&world, bob.account()), "something was sent");
        // The message waits, and goes out when the relay tells the truth.
        world.clinic.hostile.be_honest();
        clock.advance_millis(15 * 60_000);
        bob.until_knows(alice.account()).await?;
        bob.client.accept_request(alice.account()).await?;
        bob.hears("for nobody else").await?;
        world.clinic.check_no_panic()?;
    }
    Ok(())
}

// Verdict: refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_is_never_taken_back() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let mallory = world.clinic.spare_called("mallory").await?;
    alice.looks_up("mallory").await?;
    let before = alice_sees_revocations(&world, &mallory).await?;
    world.clinic.authority.revoke(mallory.id)?;
    alice.client.shutdown().await;
    let alice = world.again("alice").await?;
    alice
        .is_told(NoticeKind::AccountRevoked, mallory.id)
        .await?;
    // The relay shows the list from before; nothing changes.
    let old = before.clone();
    world.clinic.hostile.on_answer(move |exchange| {
        if exchange.path == "/v1/revocations" {
            exchange.status = 200;
            exchange.answer.clone_from(&old);
        }
    });
    world.clinic.hostile.on_server_frame(|_, mut frame| {
        if let Some(server_frame::Frame::Hello(hello)) = &mut frame.frame {
            hello.revocation_number += 1;
        }
        vec![frame]
    });
    alice.client.shutdown().await;
    let alice = world.again("alice").await?;
    alice
        .is_told(NoticeKind::RevocationsRefused, alice.account())
        .await?;
    assert!(alice.contact(mallory.id).await?.halted.is_some());
    assert!(alice.looks_up("mallory").await.is_err());
    world.clinic.check_no_panic()
}

async fn alice_sees_revocations(world: &World, asker: &SpareAccount) -> anyhow::Result<Vec<u8>> {
    let answer = asker
        .call(1, Method::GET, "/v1/revocations", Vec::new())
        .await?;
    anyhow::ensure!(answer.status == 200, "the clinic has no revocation list");
    world.clinic.check_no_panic()?;
    Ok(answer.body)
}

// Verdict: refused. What a device sent before it was revoked counts; what arrives after does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_in_collusion_with_the_relay_is_refused() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.patient("bob", &alice).await?;
    let second = world.link_device("bob-tablet", &bob).await?;
    second.until_knows(alice.account()).await?;
    second.says("from my tablet").to(&alice).await?;
    alice.hears("from my tablet").await?;
    // The tablet is stolen. What the thief says with its keys, the relay keeps for later.
    let hostile = &world.clinic.hostile;
    hostile.hold(alice.address);
    second.says("send the results elsewhere").to(&alice).await?;
    let mut held = Vec::new();
    while held.is_empty() {
        held = hostile.held(alice.address, 1).await?;
        held.retain(|e| !e.ephemeral && e.sender_device_id == u32::from(second.address.device));
    }
    bob.client.revoke_device(second.address.device).await?;
    hostile.let_through(alice.address)?;
    bob.says("my tablet is gone").to(&alice).await?;
    alice.hears("my tablet is gone").await?;
    eventually("alice to know the new list", || async {
        Ok((alice.contact(bob.account()).await?.devices.len() == 1).then_some(()))
    })
    .await?;
    // Now the relay delivers it.
    hostile.release(alice.address, held)?;
    let notice = alice
        .is_told(NoticeKind::Quarantined, bob.account())
        .await?;
    assert!(notice.detail.contains("list"), "{}", notice.detail);
    bob.says("still me").to(&alice).await?;
    alice.hears("still me").await?;
    let heard = alice.heard().await?;
    assert!(!heard.contains(&"send the results elsewhere".to_owned()));
    world.clinic.check_no_panic()
}
