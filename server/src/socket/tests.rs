//! Sockets as devices see them: real loopback connections to the real router.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::SinkExt as _;
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message;
use wardline_wire::limits::{MAX_CIPHERTEXT_BYTES, MAX_FRAME_BYTES};
use wardline_wire::proto::{
    ClientFrame, DeviceCiphertext, ErrorCode, Mismatch, Reauthorize, RevocationKind, Role, Send,
    SendRecipient, client_frame, recipient_result, server_frame,
};

use crate::config::Rate;
use crate::hub::Ending;
use crate::testing::{Client, Person, World, is_accepted};

async fn two_people(world: &World) -> (Person, Person) {
    (
        world.person(Role::Staff).await,
        world.person(Role::Patient).await,
    )
}

fn send(id: u8, recipients: Vec<SendRecipient>) -> client_frame::Frame {
    client_frame::Frame::Send(Send {
        send_id: vec![id; 16],
        ephemeral: false,
        recipients,
    })
}

/// Waits until `check` holds; commits of acknowledgements are not answered.
async fn eventually<F: Future<Output = bool>>(check: impl Fn() -> F) {
    for _ in 0..2000 {
        if check().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it did not happen");
}

async fn held(world: &World, person: &Person, device: u32) -> u64 {
    let states = world.app.store.recipients(&[person.account]).await.unwrap();
    let address = person.address(device);
    states[0]
        .devices
        .iter()
        .find(|one| one.id == address.device)
        .unwrap()
        .held
}

#[tokio::test]
async fn envelopes_wait_arrive_in_order_and_go_once_acknowledged() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    let mut from = world.connect(&sender.token).await;
    for number in 0..5 {
        let results = from
            .send(number, vec![recipient.recipient(0, &[number; 100])])
            .await;
        assert!(is_accepted(&results[0]));
    }
    // Twice: nothing was acknowledged, so all of it comes again.
    for _ in 0..2 {
        let mut to = world.connect(&recipient.token).await;
        match to.next().await {
            server_frame::Frame::Hello(hello) => {
                assert_eq!((hello.epoch, hello.newest_seq), (1, 5));
                assert_eq!(hello.device_list_version, 1);
                assert_eq!(hello.max_recipients, 256);
            }
            _ => panic!("not Hello"),
        }
        let deliver = to.delivered().await;
        let seqs: Vec<_> = deliver.envelopes.iter().map(|one| one.seq).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 5]);
        assert_eq!(
            deliver.envelopes[0].sender_account_id,
            sender.account.as_bytes().as_slice()
        );
        assert_eq!(deliver.envelopes[0].sender_device_id, 1);
        assert_eq!(deliver.envelopes[2].ciphertext, vec![2; 100]);
        assert_eq!(to.drained().await.1, 5);
    }
    let mut to = world.connect(&recipient.token).await;
    to.drained().await;
    to.acknowledge(1, 3).await;
    eventually(async || held(&world, &recipient, 1).await == 2).await;
    let mut to = world.connect(&recipient.token).await;
    let (texts, last) = to.drained().await;
    assert_eq!((texts, last), (vec![vec![3; 100], vec![4; 100]], 5));
    // Live, after Drained; sequences go on.
    from.send(9, vec![recipient.recipient(0, b"live")]).await;
    let live = to.delivered().await;
    assert_eq!(live.envelopes[0].seq, 6);
    to.acknowledge(1, 6).await;
    eventually(async || held(&world, &recipient, 1).await == 0).await;
}

#[tokio::test]
async fn a_send_reaches_every_device_of_every_recipient_and_the_senders_others() {
    let world = World::new().await;
    let (mut sender, mut recipient) = two_people(&world).await;
    let own_tablet = world.add_device(&mut sender).await;
    let tablet = world.add_device(&mut recipient).await;
    let mut from = world.connect(&sender.token).await;
    let results = from
        .send(
            1,
            vec![
                recipient.recipient(0, b"to you"),
                sender.recipient(1, b"to me"),
            ],
        )
        .await;
    assert!(results.iter().all(is_accepted));
    for (person, device, text) in [
        (&recipient, &recipient.devices[0], b"to you".as_slice()),
        (&recipient, &tablet, b"to you"),
        (&sender, &own_tablet, b"to me"),
    ] {
        let token = world.log_in(person, device).await;
        let mut to = world.connect(&token).await;
        assert_eq!(to.drained().await.0, [text]);
    }
    assert_eq!(held(&world, &sender, 1).await, 0);
}

#[tokio::test]
async fn mismatches_are_told_and_nothing_is_stored_for_that_account() {
    let world = World::new().await;
    let (sender, mut recipient) = two_people(&world).await;
    let other = world.person(Role::Staff).await;
    let before = recipient.recipient(0, b"x");
    world.add_device(&mut recipient).await;
    let mut from = world.connect(&sender.token).await;
    let results = from.send(1, vec![before, other.recipient(0, b"x")]).await;
    let missing = Mismatch {
        missing: vec![2],
        ..Mismatch::default()
    };
    assert_eq!(results[0], recipient_result::Result::Mismatch(missing));
    assert!(is_accepted(&results[1]));
    assert_eq!(held(&world, &recipient, 1).await, 0);
    // Put right, under the same id: rejections are not remembered.
    let mut stale = recipient.recipient(0, b"x");
    stale.ciphertexts[0].registration_id ^= 1;
    stale.ciphertexts.push(DeviceCiphertext {
        device_id: 9,
        ..stale.ciphertexts[0].clone()
    });
    let results = from.send(1, vec![stale]).await;
    let expected = Mismatch {
        missing: vec![],
        extra: vec![9],
        stale: vec![1],
    };
    assert_eq!(results[0], recipient_result::Result::Mismatch(expected));
    let results = from.send(1, vec![recipient.recipient(0, b"x")]).await;
    assert!(is_accepted(&results[0]));
}

#[tokio::test]
async fn a_repeated_send_is_stored_once_and_other_bytes_conflict() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    let mut from = world.connect(&sender.token).await;
    for _ in 0..3 {
        let results = from.send(7, vec![recipient.recipient(0, b"once")]).await;
        assert!(is_accepted(&results[0]));
    }
    let results = from.send(7, vec![recipient.recipient(0, b"other")]).await;
    assert!(matches!(results[0], recipient_result::Result::Conflict(_)));
    // The same id of another device is another send.
    let mut other = world.connect(&recipient.token).await;
    let results = other.send(7, vec![sender.recipient(0, b"mine")]).await;
    assert!(is_accepted(&results[0]));
    assert_eq!(held(&world, &recipient, 1).await, 1);
}

#[tokio::test]
async fn who_is_unknown_waiting_or_revoked_is_blocked() {
    let world = World::new().await;
    let sender = world.person(Role::Staff).await;
    let nobody = world.newcomer(Role::Staff).await;
    let waiting = world.pending(Role::Staff).await;
    let revoked = world.person(Role::Staff).await;
    let bundle = world.revocations(1, &[(RevocationKind::Account, *revoked.account.as_bytes())]);
    assert_eq!(world.revoke(&bundle).await.status, 204);
    let mut from = world.connect(&sender.token).await;
    let recipients = [&nobody, &waiting, &revoked].map(|person| person.recipient(0, b"x"));
    let results = from.send(1, recipients.to_vec()).await;
    for result in results {
        assert!(matches!(result, recipient_result::Result::Blocked(_)));
    }
}

#[tokio::test]
async fn a_full_mailbox_says_so() {
    let world = World::with(|config| config.mailbox.max_envelopes = 2).await;
    let (sender, recipient) = two_people(&world).await;
    let mut from = world.connect(&sender.token).await;
    for number in 0..2 {
        let results = from.send(number, vec![recipient.recipient(0, b"x")]).await;
        assert!(is_accepted(&results[0]));
    }
    let results = from.send(3, vec![recipient.recipient(0, b"x")]).await;
    assert!(matches!(results[0], recipient_result::Result::Full(_)));
    let mut to = world.connect(&recipient.token).await;
    let (_, last) = to.drained().await;
    to.acknowledge(1, last).await;
    eventually(async || held(&world, &recipient, 1).await == 0).await;
    let results = from.send(3, vec![recipient.recipient(0, b"x")]).await;
    assert!(is_accepted(&results[0]));
}

#[tokio::test]
async fn too_many_sends_are_limited_by_recipient() {
    let world = World::with(|config| {
        config.limits.max_recipients = 3;
        config.limits.sends = Rate {
            burst: 3,
            per_second: 0.01,
        };
    })
    .await;
    let (sender, recipient) = two_people(&world).await;
    let mut from = world.connect(&sender.token).await;
    for number in 0..3 {
        let results = from.send(number, vec![recipient.recipient(0, b"x")]).await;
        assert!(is_accepted(&results[0]));
    }
    let results = from.send(3, vec![recipient.recipient(0, b"x")]).await;
    match results[0] {
        recipient_result::Result::Limited(limited) => assert!(limited.retry_after_ms > 0),
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ephemeral_envelopes_reach_open_sockets_and_are_never_stored() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    let mut from = world.connect(&sender.token).await;
    let typing = |id: u8| {
        client_frame::Frame::Send(Send {
            send_id: vec![id; 16],
            ephemeral: true,
            recipients: vec![recipient.recipient(0, b"typing")],
        })
    };
    from.send_frame(typing(1)).await;
    let result = from.result().await;
    assert!(is_accepted(result.results[0].result.as_ref().unwrap()));
    let mut to = world.connect(&recipient.token).await;
    assert!(to.drained().await.0.is_empty());
    from.send_frame(typing(2)).await;
    let deliver = to.delivered().await;
    assert!(deliver.envelopes[0].ephemeral);
    assert_eq!(deliver.envelopes[0].seq, 0);
    assert_eq!(deliver.envelopes[0].ciphertext, b"typing".as_slice());
    // Checked like any other.
    let mut wrong = recipient.recipient(0, b"typing");
    wrong.ciphertexts[0].device_id = 5;
    from.result().await;
    from.send_frame(client_frame::Frame::Send(Send {
        send_id: vec![3; 16],
        ephemeral: true,
        recipients: vec![wrong],
    }))
    .await;
    let result = from.result().await;
    assert!(matches!(
        result.results[0].result,
        Some(recipient_result::Result::Mismatch(_))
    ));
    assert_eq!(held(&world, &recipient, 1).await, 0);
}

#[tokio::test]
async fn the_newest_socket_of_a_device_wins() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    let mut older = world.connect(&recipient.token).await;
    older.drained().await;
    let mut newer = world.connect(&recipient.token).await;
    newer.drained().await;
    let error = older.error().await;
    assert_eq!((error.code(), error.closing), (ErrorCode::Replaced, true));
    assert!(older.try_next().await.is_none());
    let mut from = world.connect(&sender.token).await;
    from.send(1, vec![recipient.recipient(0, b"x")]).await;
    assert_eq!(newer.delivered().await.envelopes.len(), 1);
}

async fn expect_end(client: &mut Client, code: ErrorCode) {
    let error = client.error().await;
    assert_eq!(
        (error.code(), error.closing),
        (code, true),
        "{}",
        error.detail
    );
    assert!(client.try_next().await.is_none());
}

#[tokio::test]
async fn revocation_closes_open_sockets() {
    let world = World::new().await;
    let mut person = world.person(Role::Staff).await;
    let tablet = world.add_device(&mut person).await;
    let token = world.log_in(&person, &tablet).await;
    let mut on_tablet = world.connect(&token).await;
    on_tablet.drained().await;
    let mut on_first = world.connect(&person.token).await;
    on_first.drained().await;
    world.remove_device(&mut person, tablet.id).await;
    expect_end(&mut on_tablet, ErrorCode::Revoked).await;
    let bundle = world.revocations(1, &[(RevocationKind::Account, *person.account.as_bytes())]);
    assert_eq!(world.revoke(&bundle).await.status, 204);
    expect_end(&mut on_first, ErrorCode::Revoked).await;
    assert!(world.try_connect(&person.token).await.is_err());
}

#[tokio::test]
async fn what_another_process_revoked_closes_open_sockets_too() {
    let world = World::new().await;
    let mut person = world.person(Role::Staff).await;
    let tablet = world.add_device(&mut person).await;
    let token = world.log_in(&person, &tablet).await;
    let mut on_tablet = world.connect(&token).await;
    on_tablet.drained().await;
    // Past the routes, as if another node had done it: only the database knows.
    person.devices.pop();
    person.sign_list(&world);
    assert_eq!(world.replace_list_in_database(&person).await, 1);
    expect_end(&mut on_tablet, ErrorCode::Revoked).await;
}

#[tokio::test]
async fn a_revoked_device_stores_nothing_even_before_its_socket_closes() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    let mut from = world.connect(&sender.token).await;
    from.drained().await;
    // The hub is kept in the dark: what refuses is the send's own transaction.
    let socket = world.app.hub.all().pop().unwrap();
    world.app.hub.leave(&socket);
    let bundle = world.revocations(1, &[(RevocationKind::Account, *sender.account.as_bytes())]);
    assert_eq!(world.revoke(&bundle).await.status, 204);
    from.send_frame(send(1, vec![recipient.recipient(0, b"x")]))
        .await;
    expect_end(&mut from, ErrorCode::Revoked).await;
    assert_eq!(held(&world, &recipient, 1).await, 0);
}

#[tokio::test]
async fn a_revoked_device_is_given_nothing_even_before_its_socket_closes() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    world.upload(&recipient.token, 1, 30).await;
    let mut to = world.connect(&recipient.token).await;
    to.drained().await;
    // The hub is kept in the dark: what refuses is the drain's own transaction.
    let socket = world.app.hub.all().pop().unwrap();
    world.app.hub.leave(&socket);
    let mut from = world.connect(&sender.token).await;
    from.send(1, vec![recipient.recipient(0, b"x")]).await;
    let bundle = world.revocations(
        1,
        &[(RevocationKind::Account, *recipient.account.as_bytes())],
    );
    assert_eq!(world.revoke(&bundle).await.status, 204);
    socket.nudge();
    match to.next().await {
        server_frame::Frame::Error(error) => assert_eq!(error.code(), ErrorCode::Revoked),
        _ => panic!("another frame"),
    }
    assert!(to.try_next().await.is_none());
}

#[tokio::test]
async fn certification_ends_the_waiting_socket() {
    let world = World::new().await;
    let person = world.pending(Role::Staff).await;
    let mut waiting = world.connect(&person.token).await;
    assert!(matches!(
        waiting.next().await,
        server_frame::Frame::Hello(_)
    ));
    waiting
        .send_frame(send(1, vec![person.recipient(0, b"x")]))
        .await;
    let error = waiting.error().await;
    assert_eq!((error.code(), error.closing), (ErrorCode::Forbidden, false));
    assert_eq!(error.send_id, vec![1; 16]);
    waiting.acknowledge(1, 1).await;
    assert_eq!(waiting.error().await.code(), ErrorCode::Forbidden);
    let chain = world.certificate(&person, "dr.who");
    assert_eq!(world.decide(&person, Some(chain)).await.status, 204);
    expect_end(&mut waiting, ErrorCode::Unauthorized).await;
}

#[tokio::test]
async fn a_socket_ends_with_its_token_unless_it_gets_a_new_one() {
    let world = World::new().await;
    let person = world.person(Role::Staff).await;
    let other = world.person(Role::Staff).await;
    let mut socket = world.connect(&person.token).await;
    let mut idle = world.connect(&other.token).await;
    socket.drained().await;
    idle.drained().await;
    world.clock.advance_millis(500_000);
    let token = world.log_in(&person, &person.devices[0]).await;
    let reauthorize = |token: &str| {
        client_frame::Frame::Reauthorize(Reauthorize {
            token: token.to_owned(),
        })
    };
    socket.send_frame(reauthorize(&token)).await;
    loop {
        match socket.next().await {
            server_frame::Frame::Reauthorized(answer) => {
                assert!((595_000..=600_000).contains(&answer.valid_for_ms));
                break;
            }
            server_frame::Frame::PrekeysLow(_) => {}
            _ => panic!("another frame"),
        }
    }
    world.clock.advance_millis(200_000);
    expect_end(&mut idle, ErrorCode::Unauthorized).await;
    let results = socket.send(1, vec![other.recipient(0, b"x")]).await;
    assert!(is_accepted(&results[0]));
    // Somebody else's token is not a token.
    let theirs = world.log_in(&other, &other.devices[0]).await;
    socket.send_frame(reauthorize(&theirs)).await;
    expect_end(&mut socket, ErrorCode::Unauthorized).await;
}

#[tokio::test]
async fn malformed_frames_are_refused_by_name_and_the_socket_lives() {
    type Spoil = fn(&mut Send);
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    let mut socket = world.connect(&sender.token).await;
    socket.drained().await;
    for bytes in [vec![], vec![0xFF; 10], vec![0x0A, 0x05, 1]] {
        socket.send_bytes(bytes).await;
        let error = socket.error().await;
        assert_eq!((error.code(), error.closing), (ErrorCode::Malformed, false));
    }
    socket.socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.error().await.code(), ErrorCode::Malformed);
    let spoilt: [(&str, ErrorCode, Spoil); 11] = [
        ("send_id", ErrorCode::Invalid, |send| {
            send.send_id.truncate(15);
        }),
        ("recipients", ErrorCode::Invalid, |send| {
            send.recipients.clear();
        }),
        ("recipients[0].account_id", ErrorCode::Invalid, |send| {
            send.recipients[0].account_id = vec![1; 3];
        }),
        ("recipients[1].account_id", ErrorCode::Invalid, |send| {
            send.recipients.push(send.recipients[0].clone());
        }),
        ("device_id", ErrorCode::Invalid, |send| {
            send.recipients[0].ciphertexts[0].device_id = 128;
        }),
        ("device_id", ErrorCode::Invalid, |send| {
            let again = send.recipients[0].ciphertexts[0].clone();
            send.recipients[0].ciphertexts.push(again);
        }),
        ("registration_id", ErrorCode::Invalid, |send| {
            send.recipients[0].ciphertexts[0].registration_id = 0;
        }),
        ("type", ErrorCode::Invalid, |send| {
            send.recipients[0].ciphertexts[0].r#type = 99;
        }),
        ("ciphertext", ErrorCode::Invalid, |send| {
            send.recipients[0].ciphertexts[0].ciphertext.clear();
        }),
        ("ciphertext", ErrorCode::TooLarge, |send| {
            send.recipients[0].ciphertexts[0].ciphertext = vec![0; MAX_CIPHERTEXT_BYTES + 1].into();
        }),
        ("recipients", ErrorCode::TooLarge, |send| {
            send.recipients = vec![send.recipients[0].clone(); 257];
        }),
    ];
    for (field, code, spoil) in spoilt {
        let mut frame = Send {
            send_id: vec![5; 16],
            ephemeral: false,
            recipients: vec![recipient.recipient(0, b"x")],
        };
        spoil(&mut frame);
        socket.send_frame(client_frame::Frame::Send(frame)).await;
        let error = socket.error().await;
        assert_eq!((error.code(), error.closing), (code, false), "{field}");
        assert!(error.detail.contains(field), "{}", error.detail);
    }
    assert_eq!(held(&world, &recipient, 1).await, 0);
    // Unknown fields are ignored, in the frame and inside.
    let mut bytes = ClientFrame {
        frame: Some(send(6, vec![recipient.recipient(0, b"x")])),
    }
    .encode_to_vec();
    bytes.extend([0xA2, 0x06, 3, b'a', b'b', b'c']);
    socket.send_bytes(bytes).await;
    assert!(is_accepted(
        socket.result().await.results[0].result.as_ref().unwrap()
    ));
}

#[tokio::test]
async fn oversized_frames_are_refused_and_monstrous_ones_end_the_socket() {
    let world = World::new().await;
    let person = world.person(Role::Staff).await;
    let mut socket = world.connect(&person.token).await;
    socket.drained().await;
    socket.send_bytes(vec![0; MAX_FRAME_BYTES + 1]).await;
    let error = socket.error().await;
    assert_eq!((error.code(), error.closing), (ErrorCode::TooLarge, false));
    socket
        .socket
        .send(Message::binary(vec![0; MAX_FRAME_BYTES + 1024 * 1024]))
        .await
        .ok();
    // The relay stops reading in the middle of it: its last frame may or may not
    // get through to a peer that is still writing, but the socket ends.
    while let Some(frame) = socket.try_next().await {
        if let server_frame::Frame::Error(error) = frame {
            assert_eq!((error.code(), error.closing), (ErrorCode::TooLarge, true));
        }
    }
}

#[tokio::test]
async fn nobody_acknowledges_what_they_were_not_given() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    let mut to = world.connect(&recipient.token).await;
    to.drained().await;
    to.acknowledge(1, 1).await;
    assert_eq!(to.error().await.code(), ErrorCode::Invalid);
    let mut from = world.connect(&sender.token).await;
    from.send(1, vec![recipient.recipient(0, b"x")]).await;
    to.delivered().await;
    // Of another epoch: void.
    to.acknowledge(2, 1).await;
    to.acknowledge(1, 5).await;
    assert_eq!(to.error().await.code(), ErrorCode::Invalid);
    assert_eq!(held(&world, &recipient, 1).await, 1);
}

#[tokio::test]
async fn too_many_frames_are_limited() {
    let world = World::with(|config| {
        config.limits.frames = Rate {
            burst: 2,
            per_second: 0.01,
        };
    })
    .await;
    let person = world.person(Role::Staff).await;
    let mut socket = world.connect(&person.token).await;
    socket.drained().await;
    for _ in 0..3 {
        socket.acknowledge(1, 0).await;
    }
    let error = socket.error().await;
    assert_eq!(error.code(), ErrorCode::Limited);
    assert!(error.retry_after_ms > 0);
}

#[tokio::test]
async fn sockets_hear_when_the_relay_goes_down() {
    let world = World::new().await;
    let person = world.person(Role::Staff).await;
    let mut socket = world.connect(&person.token).await;
    socket.drained().await;
    world.app.hub.end_all(Ending::ShuttingDown);
    expect_end(&mut socket, ErrorCode::ShuttingDown).await;
}

#[tokio::test]
async fn an_upgrade_needs_a_token_and_an_upgrade() {
    let world = World::new().await;
    assert!(world.try_connect("").await.is_err());
    let person = world.person(Role::Staff).await;
    let answer = world.get("/v1/socket", &person.token).await;
    assert_eq!(answer.status, 400);
    answer.problem();
}

#[tokio::test]
async fn a_long_mailbox_comes_in_batches_and_whole() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    let mut from = world.connect(&sender.token).await;
    for number in 0..150 {
        let text = vec![number; if number % 10 == 0 { 90_000 } else { 50 }];
        from.send(number, vec![recipient.recipient(0, &text)]).await;
    }
    let mut to = world.connect(&recipient.token).await;
    let mut seqs = Vec::new();
    loop {
        match to.next().await {
            server_frame::Frame::Deliver(deliver) => {
                let bytes: usize = deliver
                    .envelopes
                    .iter()
                    .map(|one| one.ciphertext.len())
                    .sum();
                assert!(deliver.envelopes.len() <= 64 && bytes <= 512 * 1024);
                seqs.extend(deliver.envelopes.iter().map(|one| one.seq));
            }
            server_frame::Frame::Drained(drained) => {
                assert_eq!(drained.seq, 150);
                break;
            }
            _ => {}
        }
    }
    assert!(seqs.into_iter().eq(1..=150));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_at_once_lose_and_repeat_nothing() {
    const SENDERS: usize = 8;
    const SENDS: u8 = 40;
    let world = Arc::new(World::new().await);
    let recipient = Arc::new(world.person(Role::Staff).await);
    let mut to = world.connect(&recipient.token).await;
    to.drained().await;
    let mut senders = Vec::new();
    for number in 0..SENDERS {
        let sender = world.person(Role::Staff).await;
        let (world, recipient) = (Arc::clone(&world), Arc::clone(&recipient));
        senders.push(tokio::spawn(async move {
            let mut from = world.connect(&sender.token).await;
            // Without waiting in between: answers come in order.
            for count in 0..SENDS {
                let text = [u8::try_from(number).unwrap(), count];
                from.send_frame(send(count, vec![recipient.recipient(0, &text)]))
                    .await;
            }
            for count in 0..SENDS {
                let result = from.result().await;
                assert_eq!(result.send_id, vec![count; 16]);
                assert!(is_accepted(result.results[0].result.as_ref().unwrap()));
            }
        }));
    }
    let mut next_seq = 1;
    let mut seen = BTreeSet::new();
    let mut last_of = [None; SENDERS];
    while seen.len() < SENDERS * usize::from(SENDS) {
        for envelope in to.delivered().await.envelopes {
            assert_eq!(envelope.seq, next_seq);
            next_seq += 1;
            let (sender, count) = (usize::from(envelope.ciphertext[0]), envelope.ciphertext[1]);
            assert!(last_of[sender] < Some(count), "out of order");
            last_of[sender] = Some(count);
            assert!(seen.insert((sender, count)));
        }
    }
    for sender in senders {
        sender.await.unwrap();
    }
}

/// What a thief of the disk reads: rows of one send must not show that they belong
/// together.
#[tokio::test]
async fn rows_of_one_send_have_nothing_in_common_at_rest() {
    let world = World::new().await;
    let sender = world.person(Role::Staff).await;
    let mut recipients = Vec::new();
    for _ in 0..5 {
        let mut person = world.person(Role::Staff).await;
        // The same bytes for each, as far as possible.
        person.devices[0].registration_id = 77;
        person.sign_list(&world);
        assert_eq!(world.put_list(&person).await.status, 204);
        recipients.push(person);
    }
    let mut from = world.connect(&sender.token).await;
    let to_all = recipients
        .iter()
        .map(|one| one.recipient(0, b"hello"))
        .collect();
    from.send(0xAB, to_all).await;
    let mut thief = world.open_database().await;
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM envelopes ORDER BY id")
        .fetch_all(&mut thief)
        .await
        .unwrap();
    assert_eq!(ids.len(), 5);
    for pair in ids.windows(2) {
        assert!(pair[1] - pair[0] > 1_000_000, "neighbours: {ids:?}");
    }
    let keys: Vec<Vec<u8>> = sqlx::query_scalar("SELECT key FROM sends")
        .fetch_all(&mut thief)
        .await
        .unwrap();
    assert_eq!(keys.len(), 5);
    let contents: Vec<Vec<u8>> = sqlx::query_scalar("SELECT DISTINCT content FROM sends")
        .fetch_all(&mut thief)
        .await
        .unwrap();
    assert_eq!(contents.len(), 5);
    assert!(
        keys.iter()
            .all(|key| !key.windows(4).any(|four| four == [0xAB; 4]))
    );
}

#[tokio::test]
async fn one_bad_send_of_a_batch_does_not_fail_the_others() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    // With prekeys, so that no other frame comes in between.
    world.upload(&sender.token, 1, 30).await;
    let mut from = world.connect(&sender.token).await;
    from.drained().await;
    // The database itself refuses envelopes of 666 bytes.
    let mut thief = world.open_database().await;
    sqlx::query(
        "CREATE TRIGGER poison BEFORE INSERT ON envelopes WHEN NEW.size = 666 \
         BEGIN SELECT RAISE(ABORT, 'poison'); END",
    )
    .execute(&mut thief)
    .await
    .unwrap();
    // Held until all of them wait, so that they share a batch.
    let turn = sqlx::query("BEGIN IMMEDIATE").execute(&mut thief).await;
    turn.unwrap();
    for number in 0..9 {
        let size = if number == 4 { 666 } else { 10 };
        let text = vec![number; size];
        from.send_frame(send(number, vec![recipient.recipient(0, &text)]))
            .await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    sqlx::query("COMMIT").execute(&mut thief).await.unwrap();
    for number in 0..9 {
        match from.next().await {
            server_frame::Frame::SendResult(result) if number != 4 => {
                assert_eq!(result.send_id, vec![number; 16]);
                assert!(is_accepted(result.results[0].result.as_ref().unwrap()));
            }
            server_frame::Frame::Error(error) if number == 4 => {
                assert_eq!(error.send_id, vec![4; 16]);
                assert_eq!(
                    (error.code(), error.closing),
                    (ErrorCode::Unavailable, false)
                );
            }
            _ => panic!("another answer to {number}"),
        }
    }
    assert_eq!(held(&world, &recipient, 1).await, 8);
    sqlx::query("DROP TRIGGER poison")
        .execute(&mut thief)
        .await
        .unwrap();
    // The same send again, now that the database takes it.
    let results = from.send(4, vec![recipient.recipient(0, &[4; 666])]).await;
    assert!(is_accepted(&results[0]));
    let mut to = world.connect(&recipient.token).await;
    let (texts, last) = to.drained().await;
    assert_eq!((texts.len(), last), (9, 9));
}

#[tokio::test]
async fn an_answer_leaves_only_after_the_commit() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    // With prekeys, so that no other frame comes in between.
    world.upload(&sender.token, 1, 30).await;
    let mut from = world.connect(&sender.token).await;
    from.drained().await;
    let mut blocker = world.open_database().await;
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut blocker)
        .await
        .unwrap();
    from.send_frame(send(1, vec![recipient.recipient(0, b"x")]))
        .await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), from.next()).await;
    assert!(early.is_err(), "answered before it could be stored");
    sqlx::query("COMMIT").execute(&mut blocker).await.unwrap();
    let result = from.result().await;
    assert!(is_accepted(result.results[0].result.as_ref().unwrap()));
    assert_eq!(held(&world, &recipient, 1).await, 1);
}

#[tokio::test]
async fn a_device_that_does_not_read_holds_up_nobody_and_loses_nothing() {
    const SENDS: u8 = 200;
    let world = World::new().await;
    let (sender, slow) = two_people(&world).await;
    let quick = world.person(Role::Staff).await;
    let mut on_slow = world.connect(&slow.token).await;
    on_slow.drained().await;
    let mut on_quick = world.connect(&quick.token).await;
    on_quick.drained().await;
    let mut from = world.connect(&sender.token).await;
    // 16 MiB towards a socket that nobody reads: more than any buffer on the way.
    let text = vec![7; 80 * 1024];
    for number in 0..SENDS {
        let to_both = vec![slow.recipient(0, &text), quick.recipient(0, &text)];
        let results = from.send(number, to_both).await;
        assert!(results.iter().all(is_accepted));
    }
    let mut seen = 0;
    while seen < u64::from(SENDS) {
        seen += on_quick.delivered().await.envelopes.len() as u64;
    }
    let mut seen = Vec::new();
    while seen.len() < usize::from(SENDS) {
        seen.extend(
            on_slow
                .delivered()
                .await
                .envelopes
                .iter()
                .map(|one| one.seq),
        );
    }
    assert!(seen.into_iter().eq(1..=u64::from(SENDS)));
}

#[tokio::test]
async fn frames_with_any_byte_altered_are_answered_one_way_or_the_other() {
    let world = World::new().await;
    let (sender, recipient) = two_people(&world).await;
    world.upload(&sender.token, 1, 30).await;
    let mut from = world.connect(&sender.token).await;
    from.drained().await;
    let good = ClientFrame {
        frame: Some(send(1, vec![recipient.recipient(0, b"a ciphertext")])),
    }
    .encode_to_vec();
    // But for the first byte, which makes another kind of frame of it.
    for at in 1..good.len() {
        for bit in [1, 0x10, 0x80] {
            let mut altered = good.clone();
            altered[at] ^= bit;
            from.send_bytes(altered).await;
            match from.next().await {
                server_frame::Frame::SendResult(_) => {}
                server_frame::Frame::Error(error) => assert!(!error.closing, "{}", error.detail),
                _ => panic!("another frame for byte {at}"),
            }
        }
    }
}

#[tokio::test]
async fn a_peer_that_went_silent_is_let_go() {
    let world = World::with(|config| config.limits.ping_seconds = 1).await;
    let (silent, lively) = two_people(&world).await;
    let mut on_silent = world.connect(&silent.token).await;
    on_silent.drained().await;
    let mut on_lively = world.connect(&lively.token).await;
    // Pings are answered by whoever reads; one of the two stops reading.
    let reading = tokio::spawn(async move { on_lively.try_next_for_ever().await });
    eventually(async || {
        let open = world.app.hub.all();
        !open
            .iter()
            .any(|socket| socket.address == silent.address(1))
    })
    .await;
    let open = world.app.hub.all();
    assert!(
        open.iter()
            .any(|socket| socket.address == lively.address(1))
    );
    reading.abort();
}
