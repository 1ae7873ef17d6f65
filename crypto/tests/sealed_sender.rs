//! Certificates and sealed sender in both forms, against recorded messages and against forgers.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong here fails a test"
)]

mod common;

use common::{Script, bytes, list, number, text, vectors};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;
use wardline_crypto::{
    address::{DeviceAddress, DeviceId, ServiceId},
    curve::{KeyPair, PrivateKey, PublicKey},
    identity::{IdentityKey, IdentityKeyPair},
    message::MessageType,
    sealed_sender::{
        CertificateError, ContentHint, LocalSender, MAX_REGISTRATION_ID, OpenError, Recipient,
        SealMultiError, SealedContent, SenderCertificate, SenderClaims, SentMessage,
        SentMessageError, ServerCertificate, VerifyError, open, seal, seal_multi,
    },
    sender_key::{DistributionMessage, SenderKeyMessage, SenderKeyRecord},
    timestamp::Timestamp,
};

const ALICE: &str = "11111111-0000-4000-8000-000000000001";
const BOB: &str = "22222222-0000-4000-8000-000000000002";

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn private(value: &Value, key: &str) -> PrivateKey {
    PrivateKey::decode(&bytes(value, key)).unwrap()
}

fn device(number: u32) -> DeviceId {
    DeviceId::new(number).unwrap()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A small world: a trust root, a server, Alice with a certificate, Bob.
struct World {
    root: KeyPair,
    server_key: PrivateKey,
    server: ServerCertificate,
    alice: IdentityKeyPair,
    certificate: SenderCertificate,
    bob: IdentityKeyPair,
    bobs_address: DeviceAddress,
}

impl World {
    fn new() -> Self {
        let mut rng = rng(99);
        let root = KeyPair::generate(&mut rng);
        let server_pair = KeyPair::generate(&mut rng);
        let server = ServerCertificate::issue(1, server_pair.public(), root.private(), &mut rng);
        let alice = IdentityKeyPair::generate(&mut rng);
        let claims = SenderClaims {
            address: DeviceAddress::new(ALICE, device(3)),
            e164: Some("+14151111111".to_owned()),
            identity: alice.identity_key(),
            expires: at(1000),
        };
        let server_key = server_pair.private().clone();
        let certificate = SenderCertificate::issue(claims, server.clone(), &server_key, &mut rng);
        let bob = IdentityKeyPair::generate(&mut rng);
        let bobs_address = DeviceAddress::new(BOB, device(1));
        Self {
            root,
            server_key,
            server,
            alice,
            certificate,
            bob,
            bobs_address,
        }
    }

    fn content(&self, message: &[u8]) -> SealedContent {
        let hint = ContentHint::Resendable;
        let certificate = self.certificate.clone();
        SealedContent::new(
            MessageType::Signal,
            certificate,
            message.to_vec(),
            hint,
            vec![],
        )
    }

    fn roots(&self) -> [PublicKey; 1] {
        [*self.root.public()]
    }

    fn local(&self) -> LocalSender<'_> {
        LocalSender {
            address: &self.bobs_address,
            e164: None,
        }
    }

    fn sealed_multi(&self, seed: u64) -> Vec<u8> {
        let bob = self.bob.identity_key();
        let recipient = Recipient {
            service_id: ServiceId::parse(BOB).unwrap(),
            identity: &bob,
            devices: &[(device(1), 77)],
        };
        let content = self.content(b"to many");
        seal_multi(&content, &self.alice, &[recipient], &[], &mut rng(seed)).unwrap()
    }

    fn received(&self, seed: u64) -> Vec<u8> {
        let sent = self.sealed_multi(seed);
        let sent = SentMessage::parse(&sent).unwrap();
        sent.received_form(sent.recipients().first().unwrap())
            .unwrap()
    }
}

#[test]
fn recorded_certificates_come_out_byte_for_byte() {
    let vectors = &vectors("send-deterministic.json");
    let case = &vectors["certificates"];
    let (root, server_key) = (
        private(case, "trustRootPrivate"),
        private(case, "serverPrivate"),
    );
    let mut draws = Script::new([bytes(case, "serverCertificateSignatureRandom64")]);
    let key_id = number(case, "serverKeyId");
    let server = ServerCertificate::issue(key_id, &server_key.public_key(), &root, &mut draws);
    draws.finish();
    assert_eq!(server.as_bytes(), bytes(case, "serverCertificate"));
    assert_eq!(
        ServerCertificate::decode(server.as_bytes()).unwrap(),
        server
    );

    let expires = at(case["expires"].as_u64().unwrap());
    let claims = SenderClaims {
        address: DeviceAddress::new(ALICE, device(1)),
        e164: None,
        identity: private(&vectors["sealedV1"], "senderIdentityPrivate")
            .public_key()
            .into(),
        expires,
    };
    let mut draws = Script::new([bytes(case, "senderCertificateSignatureRandom64")]);
    let issued = SenderCertificate::issue(claims.clone(), server, &server_key, &mut draws);
    draws.finish();
    assert_eq!(
        issued.as_bytes(),
        bytes(case, "senderCertificateUuidString")
    );

    let roots = [root.public_key()];
    for form in ["senderCertificateUuidString", "senderCertificateUuidBytes"] {
        let read = SenderCertificate::decode(&bytes(case, form)).unwrap();
        assert_eq!(read.claims(), &claims);
        assert_eq!(read.verify(&roots, expires), Ok(()));
    }
}

#[test]
fn recorded_sealing_comes_out_byte_for_byte() {
    let vectors = vectors("send-deterministic.json");
    let case = &vectors["sealedV1"];
    let content = SealedContent::decode(&bytes(case, "usmc")).unwrap();
    let sender = IdentityKeyPair::from(private(case, "senderIdentityPrivate"));
    let recipient = IdentityKey::decode(&bytes(case, "recipientIdentityPublic")).unwrap();
    let mut draws = Script::new([bytes(case, "ephemeralPrivate")]);
    let sealed = seal(&content, &sender, &recipient, &mut draws).unwrap();
    draws.finish();
    assert_eq!(sealed, bytes(case, "message"));

    let case = &vectors["sealedV2"];
    let content = SealedContent::decode(&bytes(case, "usmc")).unwrap();
    let identity = IdentityKey::decode(&bytes(case, "recipientIdentityPublic")).unwrap();
    let to = &case["recipient"];
    let recipient = Recipient {
        service_id: ServiceId::parse(text(to, "name")).unwrap(),
        identity: &identity,
        devices: &[(device(number(to, "deviceId")), number(to, "registrationId"))],
    };
    let mut draws = Script::new([bytes(case, "m32")]);
    let sent = seal_multi(&content, &sender, &[recipient], &[], &mut draws).unwrap();
    draws.finish();
    assert_eq!(sent, bytes(case, "sentMessage"));
    let parsed = SentMessage::parse(&sent).unwrap();
    let received = parsed.received_form(&parsed.recipients()[0]).unwrap();
    assert_eq!(received, bytes(case, "receivedMessage"));
}

#[test]
fn recorded_messages_open() {
    let vectors = vectors("sealed-sender.json");
    let bob = IdentityKeyPair::from(private(&vectors["bob"], "identityPrivate"));
    let bobs_address = DeviceAddress::new(
        text(&vectors["bob"], "name"),
        device(number(&vectors["bob"], "deviceId")),
    );
    let local = LocalSender {
        address: &bobs_address,
        e164: None,
    };
    let root = PublicKey::decode(&bytes(&vectors, "trustRootPublic")).unwrap();
    let now = at(vectors["validateTime"].as_u64().unwrap());
    for case in list(&vectors, "v1") {
        let content = open(&bytes(case, "message"), &bob).unwrap();
        let expected = &case["usmc"];
        assert_eq!(content.as_bytes(), bytes(expected, "serialized"));
        assert_eq!(content.message(), bytes(expected, "contents"));
        assert_eq!(
            u32::from(content.message_type().number()),
            number(expected, "type")
        );
        assert_eq!(content.hint().number(), number(expected, "contentHint"));
        assert!(content.group_id().is_empty());
        let sender = content.verify(&[root], now, &local).unwrap();
        assert_eq!(sender.address.name, text(&case["result"], "senderUuid"));
        assert_eq!(
            u32::from(sender.address.device.get()),
            number(&case["result"], "deviceId")
        );
        assert_eq!(
            sender.e164.as_deref(),
            case["result"]["senderE164"].as_str()
        );

        // The three refusals that were recorded beside them.
        let expires = vectors["expires"].as_u64().unwrap();
        assert!(content.verify(&[root], at(expires), &local).is_ok());
        let too_late = Err(VerifyError::Certificate(CertificateError::Expired));
        assert_eq!(content.verify(&[root], at(expires + 1), &local), too_late);
        let wrong = *KeyPair::generate(&mut rng(1)).public();
        let untrusted = Err(VerifyError::Certificate(CertificateError::UntrustedServer));
        assert_eq!(content.verify(&[wrong], now, &local), untrusted);
        assert!(content.verify(&[wrong, root], now, &local).is_ok());
        let own = LocalSender {
            address: &sender.address,
            e164: None,
        };
        assert_eq!(
            content.verify(&[root], now, &own),
            Err(VerifyError::SelfSend)
        );
    }
}

#[test]
fn recorded_multi_recipient_message_opens() {
    let vectors = vectors("sealed-sender.json");
    let case = &vectors["v2"];
    let sent = bytes(case, "sentMessage");
    let parsed = SentMessage::parse(&sent).unwrap();
    let excluded: Vec<_> = list(case, "excluded")
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    assert_eq!(parsed.recipients().len(), 2 + excluded.len());

    for recipient in parsed.recipients() {
        let name = recipient.service_id().to_name();
        if recipient.is_excluded() {
            assert!(excluded.contains(&name.as_str()));
            assert_eq!(parsed.received_form(recipient), None);
            continue;
        }
        let expected = &case["recipients"][&name];
        let devices: Vec<_> = recipient
            .devices()
            .iter()
            .map(|(d, _)| u32::from(d.get()))
            .collect();
        let numbers = |key| -> Vec<u32> {
            list(expected, key)
                .iter()
                .map(|n| n.as_u64().unwrap().try_into().unwrap())
                .collect()
        };
        assert_eq!(devices, numbers("deviceIds"));
        let ids: Vec<_> = recipient
            .devices()
            .iter()
            .map(|(_, id)| u32::from(*id))
            .collect();
        assert_eq!(ids, numbers("registrationIds"));
        let received = parsed.received_form(recipient).unwrap();
        assert_eq!(received, bytes(expected, "receivedMessage"));

        let who = if name.starts_with("PNI:") {
            "carol"
        } else {
            "bob"
        };
        let identity = IdentityKeyPair::from(private(&vectors[who], "identityPrivate"));
        let content = open(&received, &identity).unwrap();
        assert_eq!(content.as_bytes(), bytes(case, "usmc"));
        assert_eq!(content.hint().number(), number(case, "contentHint"));
        assert_eq!(content.group_id(), bytes(case, "groupId"));
        assert_eq!(content.message_type(), MessageType::SenderKey);
        assert_eq!(content.message(), bytes(case, "senderKeyMessage"));
        let message = SenderKeyMessage::decode(content.message()).unwrap();
        let distribution =
            DistributionMessage::decode(&bytes(case, "distributionMessage")).unwrap();
        let mut fresh = SenderKeyRecord::new(distribution.distribution_id());
        fresh.process(&distribution).unwrap();
        assert_eq!(fresh.decrypt(&message), Ok(bytes(case, "groupPlaintext")));
    }

    let single = bytes(case, "singleRecipientSent");
    let parsed = SentMessage::parse(&single).unwrap();
    let received = parsed.received_form(&parsed.recipients()[0]).unwrap();
    assert_eq!(received, bytes(case, "singleRecipientReceived"));
}

#[test]
fn both_forms_open_for_their_recipient_only() {
    let world = World::new();
    let content = world.content(b"psst");
    let bob = world.bob.identity_key();
    let carol = IdentityKeyPair::generate(&mut rng(2));
    let single = seal(&content, &world.alice, &bob, &mut rng(3)).unwrap();
    assert_eq!(open(&single, &world.bob), Ok(content));
    assert_eq!(open(&single, &carol), Err(OpenError::NotAuthentic));
    let received = world.received(4);
    assert_eq!(open(&received, &world.bob), Ok(world.content(b"to many")));
    assert_eq!(open(&received, &carol), Err(OpenError::NotAuthentic));
}

#[test]
fn somebody_elses_certificate_is_no_use() {
    let world = World::new();
    let mallory = IdentityKeyPair::generate(&mut rng(5));
    let bob = world.bob.identity_key();
    let content = world.content(b"I am Alice");
    let single = seal(&content, &mallory, &bob, &mut rng(6)).unwrap();
    assert_eq!(open(&single, &world.bob), Err(OpenError::SenderMismatch));
    let recipient = Recipient {
        service_id: ServiceId::parse(BOB).unwrap(),
        identity: &bob,
        devices: &[(device(1), 1)],
    };
    let sent = seal_multi(&content, &mallory, &[recipient], &[], &mut rng(7)).unwrap();
    let sent = SentMessage::parse(&sent).unwrap();
    let received = sent.received_form(&sent.recipients()[0]).unwrap();
    assert_eq!(open(&received, &world.bob), Err(OpenError::SenderMismatch));
}

#[test]
fn every_flipped_bit_is_refused() {
    let world = World::new();
    let single = seal(
        &world.content(b"x"),
        &world.alice,
        &world.bob.identity_key(),
        &mut rng(8),
    )
    .unwrap();
    for sealed in [single, world.received(9)] {
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            // The low half of the version byte means nothing; 0 and 1 both stand for version 1.
            if bit < 4 || (bit == 4 && sealed[0] == 0x11) {
                continue;
            }
            assert!(
                open(&altered, &world.bob).is_err(),
                "bit {bit} of {:#x}",
                sealed[0]
            );
        }
        for len in 0..sealed.len() {
            assert!(open(&sealed[..len], &world.bob).is_err(), "{len}");
        }
    }
    assert_eq!(open(&[], &world.bob), Err(OpenError::UnknownVersion(0)));
    assert_eq!(
        open(&[0x30, 1, 2], &world.bob),
        Err(OpenError::UnknownVersion(3))
    );
}

#[test]
fn small_order_keys_are_refused() {
    let world = World::new();
    let identity = IdentityKey::from(PublicKey::from_u(&[0; 32]));
    assert!(seal(&world.content(b"x"), &world.alice, &identity, &mut rng(10)).is_err());
    let recipient = Recipient {
        service_id: ServiceId::parse(BOB).unwrap(),
        identity: &identity,
        devices: &[(device(1), 1)],
    };
    let refused = seal_multi(
        &world.content(b"x"),
        &world.alice,
        &[recipient],
        &[],
        &mut rng(11),
    );
    assert!(matches!(refused, Err(SealMultiError::KeyAgreement(_))));
    let mut received = world.received(12);
    received[49..81].fill(0);
    assert!(matches!(
        open(&received, &world.bob),
        Err(OpenError::KeyAgreement(_))
    ));
}

#[test]
fn certificates_are_checked_link_by_link() {
    let world = World::new();
    let roots = world.roots();
    let claims = world.certificate.claims().clone();
    let stranger = KeyPair::generate(&mut rng(13));
    let issue = |server: &ServerCertificate, key: &PrivateKey| {
        SenderCertificate::issue(claims.clone(), server.clone(), key, &mut rng(14))
    };

    assert_eq!(world.certificate.verify(&roots, at(1000)), Ok(()));
    assert_eq!(
        world.certificate.verify(&roots, at(1001)),
        Err(CertificateError::Expired)
    );
    assert_eq!(
        world.certificate.verify(&[], at(0)),
        Err(CertificateError::UntrustedServer)
    );
    let forged = issue(&world.server, stranger.private());
    assert_eq!(
        forged.verify(&roots, at(0)),
        Err(CertificateError::InvalidSignature)
    );
    let own_server =
        ServerCertificate::issue(1, stranger.public(), stranger.private(), &mut rng(15));
    let self_made = issue(&own_server, stranger.private());
    assert_eq!(
        self_made.verify(&roots, at(0)),
        Err(CertificateError::UntrustedServer)
    );
    let server_public = world.server_key.public_key();
    let revoked = ServerCertificate::issue(
        0xDEAD_C357,
        &server_public,
        world.root.private(),
        &mut rng(16),
    );
    let under_revoked = issue(&revoked, &world.server_key);
    assert_eq!(
        under_revoked.verify(&roots, at(0)),
        Err(CertificateError::Revoked(0xDEAD_C357))
    );
}

#[test]
fn every_flipped_bit_of_a_certificate_is_refused() {
    let world = World::new();
    let bytes = world.certificate.as_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = SenderCertificate::decode(&altered) {
            assert!(read.verify(&world.roots(), at(0)).is_err(), "bit {bit}");
        }
    }
    for len in 0..bytes.len() {
        assert_eq!(
            SenderCertificate::decode(&bytes[..len]),
            Err(CertificateError::Malformed)
        );
    }
}

#[test]
fn signers_by_number_are_not_known() {
    // { 2: device 1, 3: expires, 4: identity, 6: "a", 8: 3 }, in an outer form.
    let mut inner = vec![0x10, 1, 0x19, 0, 0, 0, 0, 0, 0, 0, 1, 0x22, 33, 5];
    inner.extend([9; 32]);
    inner.extend([0x32, 1, b'a', 0x40, 3]);
    let outer = |inner: &[u8]| {
        let mut outer = vec![0x0A, u8::try_from(inner.len()).unwrap()];
        outer.extend(inner);
        outer.extend([0x12, 64]);
        outer.extend([0; 64]);
        outer
    };
    let read = SenderCertificate::decode(&outer(&inner)).unwrap();
    assert_eq!(
        read.verify(&[], at(0)),
        Err(CertificateError::UnknownServer(3))
    );
    // Without it, without the UUID, or with device 0 or 128: malformed.
    let without_signer = &inner[..inner.len() - 2];
    let without_uuid = [&inner[..inner.len() - 5], &[0x40, 3]].concat();
    let mut device_0 = inner.clone();
    device_0[1] = 0;
    let device_128 = [&[0x10, 0x80, 1], &inner[2..]].concat();
    for bad in [without_signer, &without_uuid, &device_0, &device_128] {
        assert_eq!(
            SenderCertificate::decode(&outer(bad)),
            Err(CertificateError::Malformed)
        );
    }
}

#[test]
fn own_messages_are_recognised_by_uuid_or_number() {
    let world = World::new();
    let content = world.content(b"x");
    let verify = |name: &str, number, e164| {
        let address = DeviceAddress::new(name, device(number));
        content.verify(
            &world.roots(),
            at(0),
            &LocalSender {
                address: &address,
                e164,
            },
        )
    };
    let number = Some("+14151111111");
    assert_eq!(verify(ALICE, 3, None), Err(VerifyError::SelfSend));
    assert_eq!(verify(BOB, 3, number), Err(VerifyError::SelfSend));
    assert!(verify(ALICE, 4, number).is_ok());
    assert!(verify(BOB, 3, None).is_ok());
    assert!(verify(BOB, 3, Some("+14152222222")).is_ok());
    assert_eq!(
        content
            .verify(&world.roots(), at(0), &world.local())
            .unwrap()
            .address
            .name,
        ALICE
    );
}

#[test]
fn contents_keep_hints_and_groups() {
    let world = World::new();
    for (hint, group) in [(0, ""), (1, "g"), (2, ""), (9, "group")] {
        let content = SealedContent::new(
            MessageType::PreKey,
            world.certificate.clone(),
            vec![1, 2, 3],
            hint.into(),
            group.into(),
        );
        let read = SealedContent::decode(content.as_bytes()).unwrap();
        assert_eq!(read, content);
        assert_eq!(
            (read.hint().number(), read.group_id()),
            (hint, group.as_bytes())
        );
    }
    // Type 3 exists outside of sealed content only.
    let mut bytes = world.content(b"x").as_bytes().to_vec();
    assert_eq!(bytes[..2], [8, 2]);
    bytes[1] = 3;
    assert_eq!(SealedContent::decode(&bytes), Err(OpenError::Malformed));
}

#[test]
fn what_cannot_be_sent_to_many() {
    let world = World::new();
    let bob = world.bob.identity_key();
    let service_id = ServiceId::parse(BOB).unwrap();
    let to = |devices: &[(DeviceId, u32)]| {
        let recipient = Recipient {
            service_id,
            identity: &bob,
            devices,
        };
        seal_multi(
            &world.content(b"x"),
            &world.alice,
            &[recipient],
            &[],
            &mut rng(17),
        )
    };
    assert!(to(&[(device(1), MAX_REGISTRATION_ID)]).is_ok());
    let over = SealMultiError::RegistrationId {
        account: service_id,
        id: 0x4000,
    };
    assert_eq!(to(&[(device(1), 1), (device(2), 0x4000)]), Err(over));
    assert_eq!(to(&[]), Err(SealMultiError::NoDevices(service_id)));
}

/// One entry of a sent message.
fn entry(uuid: u8, devices: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend([uuid; 16]);
    for (n, device) in devices.iter().enumerate() {
        bytes.push(*device);
        if *device != 0 {
            bytes.extend([if n + 1 < devices.len() { 0x80 } else { 0 }, 5]);
        }
    }
    if devices.last() != Some(&0) {
        bytes.extend([uuid; 48]);
    }
    bytes
}

fn sent(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0x23, u8::try_from(entries.len()).unwrap()];
    bytes.extend(entries.concat());
    bytes.extend([0xEE; 32]);
    bytes.extend(b"ciphertext");
    bytes
}

#[test]
fn sent_messages_are_parsed_strictly() {
    let merged = sent(&[entry(1, &[1]), entry(2, &[1, 2]), entry(1, &[3])]);
    let parsed = SentMessage::parse(&merged).unwrap();
    let devices: Vec<Vec<u8>> = parsed
        .recipients()
        .iter()
        .map(|recipient| {
            recipient
                .devices()
                .iter()
                .map(|(device, _)| device.get())
                .collect()
        })
        .collect();
    assert_eq!(devices, [vec![1, 3], vec![1, 2]]);

    let one = ServiceId::from_fixed_width(&{
        let mut id = [1; 17];
        id[0] = 0;
        id
    })
    .unwrap();
    let contradiction = Err(SentMessageError::Contradiction(one));
    for entries in [
        [entry(1, &[1]), entry(1, &[0])],
        [entry(1, &[0]), entry(1, &[1])],
        [entry(1, &[0]), entry(1, &[0])],
    ] {
        assert_eq!(
            SentMessage::parse(&sent(&entries)).map(|_| ()),
            contradiction
        );
    }
    let malformed = Err(SentMessageError::Malformed);
    let parse = |bytes: &[u8]| SentMessage::parse(bytes).map(|_| ());
    assert_eq!(parse(&sent(&[entry(1, &[1, 0])])), malformed); // 0 after a device
    assert_eq!(parse(&sent(&[entry(1, &[128])])), malformed);
    let mut bad_kind = sent(&[entry(1, &[1])]);
    bad_kind[2] = 2;
    assert_eq!(parse(&bad_kind), malformed);
    assert_eq!(parse(&[0x11]), Err(SentMessageError::UnknownVersion(0x11)));
    assert_eq!(parse(&[]), malformed);
    // A count far beyond what follows.
    let liar = [
        &[
            0x23, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1,
        ],
        &merged[2..],
    ];
    assert_eq!(parse(&liar.concat()), malformed);
    let whole = merged.len() - b"ciphertext".len();
    for len in 0..whole {
        assert_eq!(parse(&merged[..len]), malformed, "{len}");
    }
}

#[test]
fn older_sent_form_has_bare_uuids() {
    let mut older = sent(&[entry(1, &[1])]);
    older[0] = 0x22;
    older.remove(2);
    let parsed = SentMessage::parse(&older).unwrap();
    let name = parsed.recipients()[0].service_id().to_name();
    assert_eq!(name, "01010101-0101-0101-0101-010101010101");
    let received = parsed.received_form(&parsed.recipients()[0]).unwrap();
    assert_eq!(received[..49], [&[0x22][..], &[1; 48]].concat());
    assert!(received.ends_with(b"ciphertext"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>, first in 0..0x40u8) {
        let bob = IdentityKeyPair::from(PrivateKey::decode(&[7; 32]).unwrap());
        let _ = open(&bytes, &bob);
        let _ = open(&[&[first], &bytes[..]].concat(), &bob);
        let _ = SentMessage::parse(&bytes);
        let _ = SentMessage::parse(&[&[0x23], &bytes[..]].concat());
        let _ = SealedContent::decode(&bytes);
        let _ = SenderCertificate::decode(&bytes);
        let _ = ServerCertificate::decode(&bytes);
    }
}
