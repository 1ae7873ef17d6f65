//! Our protocol against the official library, each in a process of its own.
//!
//! Needs Node 20 and `npm ci` in `tests/interop`; what is missing is an error that says so. Every
//! random run prints its seed; `WARDLINE_INTEROP_SEED` in the environment replays one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong here fails a test"
)]
#![allow(unreachable_pub, missing_docs, reason = "modules of a test")]

mod end;
mod process;

use std::collections::BTreeSet;

use end::{End, NOW, Sent, bytes};
use process::Process;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use wardline_crypto::curve::PrivateKey;

const OURS: &str = "11111111-0000-4000-8000-000000000001";
const OFFICIAL: &str = "22222222-0000-4000-8000-000000000002";

/// Both programs with one device each: end 0 is ours, end 1 the official one.
struct World {
    processes: [Process; 2],
    ends: [End; 2],
}

impl World {
    fn new() -> Self {
        let mut processes = [Process::ours(), Process::official()];
        let ends = [
            End::create(&mut processes[0], "ours", OURS, 1),
            End::create(&mut processes[1], "official", OFFICIAL, 2),
        ];
        Self { processes, ends }
    }

    /// Replaces both devices by fresh ones with the same addresses.
    fn reset(&mut self) {
        for (end, process) in self.ends.iter().zip(&mut self.processes) {
            End::create(process, &end.handle, &end.name, end.device);
        }
    }

    fn initiate(&mut self, initiator: usize, one_time: bool) {
        let peer = 1 - initiator;
        let bundle = self.ends[peer].bundle(&mut self.processes[peer], one_time);
        self.ends[initiator]
            .process(&mut self.processes[initiator], &self.ends[peer], &bundle)
            .unwrap();
    }

    fn send(&mut self, by: usize, plaintext: &str) -> Sent {
        self.ends[by].send(&mut self.processes[by], &self.ends[1 - by], plaintext)
    }

    fn receive(&mut self, by: usize, sent: &Sent) -> Result<String, process::Refusal> {
        self.ends[by].receive(&mut self.processes[by], &self.ends[1 - by], sent)
    }

    #[track_caller]
    fn reads(&mut self, by: usize, sent: &Sent) {
        self.ends[by].reads(&mut self.processes[by], &self.ends[1 - by], sent);
    }

    #[track_caller]
    fn refuses(&mut self, by: usize, sent: &Sent, kind: &str) {
        self.ends[by].refuses(&mut self.processes[by], &self.ends[1 - by], sent, kind);
    }

    /// One message each way, so that nobody repeats the handshake.
    fn establish(&mut self, initiator: usize) {
        self.initiate(initiator, true);
        let sent = self.send(initiator, "hello");
        self.reads(1 - initiator, &sent);
        let sent = self.send(1 - initiator, "hello yourself");
        self.reads(initiator, &sent);
    }
}

fn seed(default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let given = std::env::var("WARDLINE_INTEROP_SEED").ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

/// A conversation of bursts in both directions, with the given loss and delay.
fn converse(initiator: usize, one_time: bool, lossy: bool, default_seed: u64) {
    const MESSAGES: usize = 700;
    let seed = seed(default_seed);
    println!("initiator {initiator}, one-time {one_time}, lossy {lossy}, seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    world.initiate(initiator, one_time);

    let mut flying: Vec<(usize, usize, Sent)> = Vec::new();
    let (mut by, mut left) = (initiator, 3);
    let (mut lost, mut delivered, mut epochs) = (0, [0, 0], [0, 0]);
    let mut answered = false;
    for step in 0..MESSAGES {
        if left == 0 {
            // Until the first answer only the initiator can speak.
            by = if answered || by == initiator {
                1 - by
            } else {
                by
            };
            left = rng.random_range(if lossy { 3..=7 } else { 1..=3 });
        }
        left -= 1;
        // The recipient can speak once it has a session.
        if by != initiator && delivered[1 - initiator] == 0 {
            by = initiator;
        }
        answered |= by != initiator;
        let plaintext = format!("message {step} {}", "x".repeat(rng.random_range(0..60)));
        let sent = world.send(by, &plaintext);
        epochs[by] = epochs[by].max(sent.epoch());
        if lossy && rng.random_bool(0.15) {
            lost += 1;
        } else {
            let delay = if lossy { rng.random_range(0..=12) } else { 0 };
            flying.push((step + delay, by, sent));
        }
        let due = flying
            .extract_if(.., |(at, ..)| *at <= step)
            .collect::<Vec<_>>();
        for (_, by, sent) in due {
            world.reads(1 - by, &sent);
            delivered[1 - by] += 1;
        }
        if step % 50 == 49 {
            world.ends[0].restart(&mut world.processes[0]);
        }
    }
    for (_, by, sent) in flying {
        world.reads(1 - by, &sent);
        delivered[1 - by] += 1;
    }
    println!("delivered {delivered:?}, lost {lost}, epochs {epochs:?}");
    assert_eq!(delivered[0] + delivered[1] + lost, MESSAGES);
    assert!(epochs.iter().all(|epoch| *epoch > 3), "{epochs:?}");
}

#[test]
fn we_initiate_with_a_one_time_prekey() {
    converse(0, true, false, 1);
}

#[test]
fn we_initiate_without_a_one_time_prekey() {
    converse(0, false, false, 2);
}

#[test]
fn they_initiate_with_a_one_time_prekey() {
    converse(1, true, false, 3);
}

#[test]
fn they_initiate_without_a_one_time_prekey() {
    converse(1, false, false, 4);
}

#[test]
fn we_initiate_with_a_one_time_prekey_over_a_bad_line() {
    converse(0, true, true, 5);
}

#[test]
fn we_initiate_without_a_one_time_prekey_over_a_bad_line() {
    converse(0, false, true, 6);
}

#[test]
fn they_initiate_with_a_one_time_prekey_over_a_bad_line() {
    converse(1, true, true, 7);
}

#[test]
fn they_initiate_without_a_one_time_prekey_over_a_bad_line() {
    converse(1, false, true, 8);
}

#[test]
fn both_initiate_at_once() {
    let mut world = World::new();
    world.initiate(0, true);
    world.initiate(1, true);
    for round in 0..4 {
        let sent = [0, 1].map(|by| world.send(by, &format!("crossing {round} from {by}")));
        let kind = if round == 0 { 3 } else { 2 };
        assert_eq!([sent[0].kind, sent[1].kind], [kind; 2]);
        for (by, sent) in sent.iter().enumerate() {
            world.reads(1 - by, sent);
        }
    }
    for round in 0..20 {
        let sent = world.send(round % 2, &format!("in turn {round}"));
        assert_eq!(sent.kind, 2);
        world.reads(1 - round % 2, &sent);
    }
}

#[test]
fn an_archived_session_reads_late_messages_and_comes_back() {
    for archiving in [0, 1] {
        let mut world = World::new();
        world.establish(0);
        let late = world.send(1 - archiving, "late");
        let [ours, official] = &world.ends;
        let other = if archiving == 0 { official } else { ours };
        let end = &world.ends[archiving];
        end.archive(&mut world.processes[archiving], other);
        assert!(!end.has_session(&mut world.processes[archiving], other, NOW));
        let refusal = end
            .try_send(&mut world.processes[archiving], other, "x")
            .map(|sent| sent.kind);
        assert_eq!(refusal.unwrap_err().kind, "session_not_found");
        world.reads(archiving, &late);
        let sent = world.send(archiving, "back again");
        world.reads(1 - archiving, &sent);
    }
}

#[test]
fn a_new_session_replaces_the_old_and_late_messages_swap_them() {
    for initiator in [0, 1] {
        let mut world = World::new();
        world.establish(initiator);
        let late = world.send(1 - initiator, "late, in the first session");
        world.initiate(initiator, true);
        let first = world.send(initiator, "first in the second session");
        assert_eq!(first.kind, 3);
        world.reads(1 - initiator, &first);
        world.reads(initiator, &late);
        for round in 0..6 {
            let sent = world.send(round % 2, &format!("round {round}"));
            world.reads(1 - round % 2, &sent);
        }
    }
}

#[test]
fn an_unanswered_session_expires_at_the_same_moment() {
    const LIMIT: u64 = NOW + 30 * 24 * 3600 * 1000;
    for initiator in [0, 1] {
        let mut world = World::new();
        world.initiate(initiator, true);
        let end = &world.ends[initiator];
        let peer = &world.ends[1 - initiator];
        let process = &mut world.processes[initiator];
        assert!(end.has_session(process, peer, LIMIT));
        assert!(
            !end.has_session(process, peer, LIMIT + 1000),
            "initiator {initiator}"
        );
    }
}

#[test]
fn duplicates_are_named_on_both_ends() {
    for initiator in [0, 1] {
        let mut world = World::new();
        world.initiate(initiator, true);
        let first = world.send(initiator, "first");
        world.reads(1 - initiator, &first);
        world.refuses(1 - initiator, &first, "duplicated_message");
        let answer = world.send(1 - initiator, "answer");
        world.reads(initiator, &answer);
        world.refuses(initiator, &answer, "duplicated_message");
        let later = world.send(1 - initiator, "later");
        world.reads(initiator, &later);
        world.refuses(initiator, &answer, "duplicated_message");
    }
}

/// The byte positions at which a change goes unnoticed by whoever receives from `sender`.
fn unnoticed(world: &mut World, sender: usize, mask: u8) -> BTreeSet<usize> {
    world.reset();
    world.initiate(sender, true);
    let mut sent = world.send(sender, "0123456789");
    let len = sent.bytes.len();
    let mut accepted = BTreeSet::new();
    for at in 0..len {
        if world.receive(1 - sender, &sent.flipped(at, mask)).is_ok() {
            accepted.insert(at);
            // It counts as received: go on with new devices and a message of the same layout.
            world.reset();
            world.initiate(sender, true);
            sent = world.send(sender, "0123456789");
            assert_eq!(sent.bytes.len(), len);
        }
    }
    world.reads(1 - sender, &sent);
    accepted
}

#[test]
fn both_ends_judge_every_changed_byte_of_a_prekey_message_alike() {
    let mut world = World::new();
    for mask in [0x01, 0x80] {
        let by_official = unnoticed(&mut world, 0, mask);
        let by_us = unnoticed(&mut world, 1, mask);
        println!("mask {mask:#04x}: unnoticed at {by_us:?}");
        assert_eq!(by_us, by_official, "mask {mask:#04x}");
    }
}

#[test]
fn neither_end_accepts_any_changed_byte_of_a_signal_message() {
    let mut world = World::new();
    world.establish(0);
    for sender in [0, 1] {
        let sent = world.send(sender, "0123456789");
        assert_eq!(sent.kind, 2);
        for at in 0..sent.bytes.len() {
            for mask in [0x01, 0x80] {
                let result = world.receive(1 - sender, &sent.flipped(at, mask));
                assert!(
                    result.is_err(),
                    "receiver {}, byte {at}, mask {mask:#04x}",
                    1 - sender
                );
            }
        }
        world.reads(1 - sender, &sent);
    }
}

#[test]
fn the_limits_of_25000_and_2000_are_the_same() {
    for sender in [0, 1] {
        let mut world = World::new();
        world.establish(0);
        let mut kept = Vec::new();
        for counter in 0..=25_001 {
            let sent = world.send(sender, &counter.to_string());
            if counter >= 22_990 {
                kept.push((counter, sent));
            }
        }
        let message = |counter| {
            let (_, sent) = kept.iter().find(|(kept, _)| *kept == counter).unwrap();
            sent.clone()
        };
        // The peer sent one message in the same epoch before: the forward limit is 24,999.
        world.refuses(1 - sender, &message(25_001), "invalid_message");
        world.refuses(1 - sender, &message(25_000), "invalid_message");
        world.reads(1 - sender, &message(24_999));
        // And behind it 2,000 are kept.
        world.refuses(1 - sender, &message(22_998), "duplicated_message");
        world.reads(1 - sender, &message(22_999));
        world.refuses(1 - sender, &message(22_999), "duplicated_message");
        world.reads(1 - sender, &message(24_998));
        world.reads(1 - sender, &message(25_001));
        world.reads(1 - sender, &message(25_000));
    }
}

#[test]
fn a_changed_identity_is_refused_by_both() {
    for sender in [0, 1] {
        let mut world = World::new();
        world.establish(0);
        // The same address with another identity key.
        let end = world.ends[sender].clone();
        End::create(
            &mut world.processes[sender],
            &end.handle,
            &end.name,
            end.device,
        );
        world.initiate(sender, true);
        let sent = world.send(sender, "it is me");
        world.refuses(1 - sender, &sent, "untrusted_identity");
        let bundle = world.ends[sender].bundle(&mut world.processes[sender], true);
        let refusal = world.ends[1 - sender]
            .process(&mut world.processes[1 - sender], &end, &bundle)
            .unwrap_err();
        assert_eq!(refusal.kind, "untrusted_identity");
    }
}

#[test]
fn a_bundle_with_a_wrong_signature_is_refused_by_both() {
    let mut world = World::new();
    for initiator in [0, 1] {
        let peer = 1 - initiator;
        for prekey in ["signedPreKey", "kyberPreKey"] {
            let mut bundle = world.ends[peer].bundle(&mut world.processes[peer], true);
            let signature = bundle[prekey]["signature"].as_str().unwrap();
            let mut signature = hex::decode(signature).unwrap();
            signature[10] ^= 1;
            bundle[prekey]["signature"] = json!(hex::encode(signature));
            let refusal = world.ends[initiator]
                .process(&mut world.processes[initiator], &world.ends[peer], &bundle)
                .unwrap_err();
            assert_eq!(refusal.kind, "invalid_signature", "{}", refusal.text);
        }
    }
}

#[test]
fn a_group_with_a_late_joiner() {
    const GROUP: &str = "d1d1d1d1-7000-41eb-b32a-33b8a8a487a6";
    let mut world = World::new();
    for sender in [0, 1] {
        let (from, to) = (world.ends[sender].clone(), world.ends[1 - sender].clone());
        let group = |world: &mut World, text: &str| {
            let arguments = json!({ "peer": from.handle, "distributionId": GROUP, "plaintext": hex::encode(text) });
            let reply = world.processes[sender]
                .call("groupEncrypt", arguments)
                .unwrap();
            reply["message"].clone()
        };
        let key = |world: &mut World| {
            let arguments = json!({ "peer": from.handle, "distributionId": GROUP });
            let reply = world.processes[sender]
                .call("skdmCreate", arguments)
                .unwrap();
            reply["message"].clone()
        };
        let open = |world: &mut World, message: &Value| {
            let arguments =
                json!({ "peer": to.handle, "from": from.address(), "message": message });
            let reply = world.processes[1 - sender].call("groupDecrypt", arguments);
            reply.map(|reply| String::from_utf8(bytes(&reply, "plaintext")).unwrap())
        };
        key(&mut world);
        let before = group(&mut world, "before anyone joined");
        assert_eq!(
            open(&mut world, &before).unwrap_err().kind,
            "no_sender_key_state"
        );
        let joined = key(&mut world);
        let arguments = json!({ "peer": to.handle, "from": from.address(), "message": joined });
        world.processes[1 - sender]
            .call("skdmProcess", arguments)
            .unwrap();
        assert_eq!(
            open(&mut world, &before).unwrap_err().kind,
            "duplicated_message"
        );
        let messages: Vec<_> = (0..20)
            .map(|n| group(&mut world, &format!("text {n}")))
            .collect();
        for n in [0, 5, 3, 19, 4, 1] {
            assert_eq!(
                open(&mut world, &messages[n]).as_deref(),
                Ok(format!("text {n}").as_str())
            );
        }
        assert_eq!(
            open(&mut world, &messages[3]).unwrap_err().kind,
            "duplicated_message"
        );
    }
}

/// Private and public halves of a fresh key.
fn key_pair(seed: u64) -> (String, String) {
    let key = PrivateKey::generate(&mut StdRng::seed_from_u64(seed));
    (
        hex::encode(key.as_bytes()),
        hex::encode(key.public_key().as_bytes()),
    )
}

#[test]
fn certificates_and_sealed_sender_both_ways() {
    const GROUP: &str = "e1e1e1e1-7000-41eb-b32a-33b8a8a487a6";
    const EXPIRES: u64 = NOW + 1000;
    const EXCLUDED: &str = "99999999-0000-4000-8000-000000000009";
    let mut world = World::new();
    world.establish(0);
    let (root_private, root) = key_pair(1);
    let (server_private, server) = key_pair(2);
    let (_, other_root) = key_pair(3);
    for sender in [0, 1] {
        let receiver = 1 - sender;
        let (from, to) = (world.ends[sender].clone(), world.ends[receiver].clone());
        let mut call = |by: usize, command: &str, arguments: Value| {
            world.processes[by].call(command, arguments)
        };
        let key = call(sender, "bundle", json!({ "peer": from.handle })).unwrap();
        let server_cert = call(
            sender,
            "serverCert",
            json!({
                "keyId": 5, "serverPublic": server, "trustRootPrivate": root_private,
            }),
        )
        .unwrap();
        let certificate = call(
            sender,
            "senderCert",
            json!({
                "uuid": from.name, "e164": "+14155550100", "device": from.device,
                "key": key["identityKey"], "expires": EXPIRES,
                "serverCert": server_cert["certificate"], "serverPrivate": server_private,
            }),
        )
        .unwrap()["certificate"]
            .clone();
        for (root, time, valid) in [
            (&root, NOW, true),
            (&root, EXPIRES, true),
            (&root, EXPIRES + 1, false),
            (&other_root, NOW, false),
        ] {
            let arguments = json!({ "certificate": certificate, "trustRoot": root, "time": time });
            assert_eq!(
                call(receiver, "validateCert", arguments).unwrap()["valid"],
                valid
            );
        }

        // One recipient.
        let sealed = call(
            sender,
            "sealEncrypt",
            json!({
                "peer": from.handle, "to": to.address(), "senderCert": certificate,
                "plaintext": hex::encode("sealed"), "nowMs": NOW,
            }),
        )
        .unwrap()["message"]
            .clone();
        let open = |root: &str, time: u64| json!({ "peer": to.handle, "message": sealed, "trustRoot": root, "time": time });
        for (root, time) in [(&other_root, NOW), (&root, EXPIRES + 1)] {
            let refusal = call(receiver, "sealDecrypt", open(root, time)).unwrap_err();
            assert_eq!(refusal.kind, "invalid_certificate", "{}", refusal.text);
        }
        let opened = call(receiver, "sealDecrypt", open(&root, NOW)).unwrap();
        assert_eq!(bytes(&opened, "plaintext"), b"sealed");
        assert_eq!(opened["senderUuid"], json!(from.name));
        assert_eq!(opened["deviceId"], json!(from.device));
        assert_eq!(opened["e164"], json!("+14155550100"));
        let refusal = call(receiver, "sealDecrypt", open(&root, NOW)).unwrap_err();
        assert_eq!(refusal.kind, "duplicated_message", "{}", refusal.text);

        // Every changed byte of it is refused. (The low half of the version byte means nothing.)
        let whole = hex::decode(sealed.as_str().unwrap()).unwrap();
        for at in 1..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x01;
            let arguments = json!({ "peer": to.handle, "message": hex::encode(changed) });
            assert!(
                call(receiver, "sealToUsmc", arguments).is_err(),
                "byte {at}"
            );
        }

        // Many recipients, one message.
        let arguments = json!({ "peer": from.handle, "distributionId": GROUP });
        let distribution = call(sender, "skdmCreate", arguments).unwrap()["message"].clone();
        call(
            receiver,
            "skdmProcess",
            json!({
                "peer": to.handle, "from": from.address(), "message": distribution,
            }),
        )
        .unwrap();
        let mut seal =
            |excluded: Value| {
                call(sender, "sealMulti", json!({
                "peer": from.handle, "to": [to.address()], "senderCert": certificate,
                "distributionId": GROUP, "plaintext": hex::encode("to all"), "contentHint": 1,
                "groupId": "010203", "excluded": excluded,
            })).unwrap()["message"].clone()
            };
        let (single, sent) = (seal(json!([])), seal(json!([EXCLUDED])));
        let mut views = [0, 1].map(|by| {
            let mut view = call(by, "multiRecipients", json!({ "message": sent })).unwrap();
            view.remove("id");
            view
        });
        assert_eq!(views[0], views[1]);
        assert_eq!(views[0]["excluded"], json!([EXCLUDED]));
        let handed_out = views[0].remove("recipients").unwrap()[0]["message"].clone();
        let split = [0, 1].map(|by| {
            call(by, "multiSplit", json!({ "message": single })).unwrap()["message"].clone()
        });
        assert_eq!(split[0], split[1]);
        for message in [&handed_out, &split[0]] {
            let arguments = json!({ "peer": to.handle, "message": message });
            let content = call(receiver, "sealToUsmc", arguments).unwrap();
            assert_eq!(content["type"], 7);
            assert_eq!(content["contentHint"], 1);
            assert_eq!(content["groupId"], "010203");
            assert_eq!(content["senderCert"], certificate);
            let opened = call(
                receiver,
                "groupDecrypt",
                json!({
                    "peer": to.handle, "from": from.address(), "message": content["contents"],
                }),
            )
            .unwrap();
            assert_eq!(bytes(&opened, "plaintext"), b"to all");
        }
    }
}

#[test]
fn signatures_and_safety_numbers_agree() {
    let mut world = World::new();
    let private = "77".repeat(32);
    let key = "05".to_owned() + &"09".repeat(32);
    for signer in [0, 1] {
        for message in ["", "00", &"ab".repeat(500)] {
            let arguments = json!({ "privateKey": private, "message": message });
            let signed = world.processes[signer].call("sign", arguments).unwrap();
            let arguments = json!({ "peer": "k", "name": OURS, "device": 1, "registrationId": 1, "identityPrivate": private });
            let public = world.processes[signer].call("peer", arguments).unwrap();
            let arguments = json!({
                "publicKey": public["identityPublic"], "message": message, "signature": signed["signature"],
            });
            let verdict = world.processes[1 - signer]
                .call("verify", arguments)
                .unwrap();
            assert_eq!(verdict["valid"], true);
        }
    }
    let arguments = json!({
        "localId": "01".repeat(16), "localKey": "05".to_owned() + &"aa".repeat(32),
        "remoteId": "02".repeat(16), "remoteKey": key,
    });
    let ours = world.processes[0]
        .call("fingerprint", arguments.clone())
        .unwrap();
    let theirs = world.processes[1].call("fingerprint", arguments).unwrap();
    assert_eq!(ours["display"], theirs["display"]);
    assert_eq!(ours["scannable"], theirs["scannable"]);
}
