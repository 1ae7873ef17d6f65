//! What the relay promises to every device, said by hand over the wire.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use wardline_e2e::clinic::Clinic;
use wardline_e2e::spare::{Heard, Socket, SpareAccount, random};
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{
    self, BundleSet, CiphertextType, DeviceCiphertext, Envelope, ErrorCode, Role, SendRecipient,
    client_frame, recipient_result, server_frame,
};

fn ciphertext_for(recipient: &SpareAccount, body: Vec<u8>) -> anyhow::Result<DeviceCiphertext> {
    Ok(DeviceCiphertext {
        device_id: 1,
        registration_id: recipient.device(1)?.registration_id,
        r#type: CiphertextType::Signal.into(),
        ciphertext: body.into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_kills_of_the_relay_once_and_in_order() -> anyhow::Result<()> {
    const KILLS: u32 = 10;
    let seed = u64::from_be_bytes(random());
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut clinic = Clinic::builder().direct().open().await?;
    let sender = clinic.spare(Role::Staff).await?;
    let recipient = clinic.spare(Role::Staff).await?;
    let mut said: u32 = 0;
    for _ in 0..KILLS {
        let mut socket = sender.connect(1).await?;
        let pause = Duration::from_micros(rng.random_range(0..60_000));
        let talk = async {
            // One message after the other, each accepted before the next is begun.
            loop {
                let message = numbered(&recipient, said)?;
                if !accepted(&mut socket, message).await {
                    return anyhow::Ok(());
                }
                said += 1;
            }
        };
        tokio::select! {
            talked = talk => talked?,
            () = tokio::time::sleep(pause) => {}
        }
        clinic.relay.kill()?;
        clinic.relay.start()?;
        // The one that was cut off is handed in again, under its old id: once is enough.
        let mut socket = sender.connect(1).await?;
        let again = numbered(&recipient, said)?;
        assert!(accepted(&mut socket, again).await, "seed {seed}");
        said += 1;
    }
    let (_, envelopes) = recipient.connect(1).await?.envelopes(said as usize).await?;
    let numbers: Vec<u32> = envelopes.iter().map(number_of).collect();
    assert_eq!(numbers, (0..said).collect::<Vec<_>>(), "seed {seed}");
    clinic.check_no_panic()
}

/// Message number `n`, the same bytes and the same send id every time.
fn numbered(recipient: &SpareAccount, n: u32) -> anyhow::Result<proto::Send> {
    let mut send_id = [0; 16];
    send_id[..4].copy_from_slice(&n.to_be_bytes());
    Ok(proto::Send {
        send_id: send_id.to_vec(),
        ephemeral: false,
        recipients: vec![SendRecipient {
            account_id: recipient.id.to_vec(),
            ciphertexts: vec![ciphertext_for(recipient, n.to_be_bytes().to_vec())?],
        }],
    })
}

fn number_of(envelope: &Envelope) -> u32 {
    let bytes = envelope.ciphertext.as_ref().try_into();
    bytes.map_or(u32::MAX, u32::from_be_bytes)
}

/// Whether the relay said `accepted`; not when the socket broke first.
async fn accepted(socket: &mut Socket, send: proto::Send) -> bool {
    let frame = client_frame::Frame::Send(send);
    if socket.send(frame).await.is_err() {
        return false;
    }
    let result = socket
        .until(|frame| match frame {
            server_frame::Frame::SendResult(result) => Some(result),
            _ => None,
        })
        .await;
    let result = result
        .ok()
        .and_then(|result| result.results.into_iter().next());
    matches!(
        result.and_then(|result| result.result),
        Some(recipient_result::Result::Accepted(_))
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_device_closes_its_open_socket() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let recipient = clinic.spare(Role::Staff).await?;
    let mut owner = clinic.spare(Role::Staff).await?;
    let second = owner.add_device().await?;
    let number = second.device.into();
    let mut socket = owner.connect(number).await?;
    let old_token = owner.log_in(number).await?.token;
    owner.remove_device(number).await?;
    let error = socket.error().await?;
    assert_eq!(ErrorCode::try_from(error.code)?, ErrorCode::Revoked);
    assert!(error.closing);
    socket.until_closed().await?;
    // Neither its old token nor its keys are good for anything any more.
    let refused = owner.try_log_in(number).await?;
    assert_eq!(refused.problem_kind()?, ProblemKind::Revoked);
    let path = format!("/v1/accounts/{}", recipient.id);
    let refused = owner
        .http
        .request(Method::GET, &path, Some(&old_token), Vec::new())
        .await?;
    assert!(matches!(
        refused.problem_kind()?,
        ProblemKind::Revoked | ProblemKind::Unauthorized
    ));
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_an_account_ends_it_everywhere() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let account = clinic.spare(Role::Staff).await?;
    let other = clinic.spare(Role::Staff).await?;
    let mut socket = account.connect(1).await?;
    clinic.authority.revoke(account.id)?;
    let error = socket.error().await?;
    assert_eq!(ErrorCode::try_from(error.code)?, ErrorCode::Revoked);
    socket.until_closed().await?;
    let ciphertext = ciphertext_for(&account, random::<32>().to_vec())?;
    let result = other
        .connect(1)
        .await?
        .deliver(account.id, vec![ciphertext])
        .await?;
    assert!(matches!(result, recipient_result::Result::Blocked(_)));
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_time_prekey_is_given_once_whatever_the_hurry() -> anyhow::Result<()> {
    const KEYS: u32 = 20;
    let clinic = Clinic::open().await?;
    let owner = clinic.spare(Role::Staff).await?;
    owner.upload_prekeys(1, 1, KEYS).await?;
    let taker = clinic.spare(Role::Staff).await?;
    let token = taker.log_in(1).await?.token;
    let request = proto::BundleRequest {
        account_id: owner.id.to_vec(),
        device_ids: Vec::new(),
        access_key: Vec::new(),
    }
    .encode_to_vec();
    let fetches = (0..KEYS + 5).map(|_| {
        let (http, token, request) = (taker.http.clone(), token.clone(), request.clone());
        tokio::spawn(async move {
            http.request(Method::POST, "/v1/keys/fetch", Some(&token), request)
                .await?
                .message::<BundleSet>()
        })
    });
    let mut given = Vec::new();
    let mut without = 0;
    for fetch in fetches.collect::<Vec<_>>() {
        let bundle = fetch.await??.bundles.into_iter().next().context("empty")?;
        assert_eq!(
            bundle.kyber_is_last_resort,
            bundle.one_time_prekey.is_none()
        );
        match bundle.one_time_prekey {
            Some(key) => given.push(key.id),
            None => without += 1,
        }
    }
    let distinct: BTreeSet<u32> = given.iter().copied().collect();
    assert_eq!(distinct.len(), given.len(), "a key was given twice");
    assert_eq!((given.len(), without), (KEYS as usize, 5));
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_do_not_follow_are_refused() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let mut owner = clinic.spare(Role::Staff).await?;
    owner.add_device().await?;
    let old = owner.lists[0].clone();
    let refused = owner.put_list(&old).await?;
    assert_eq!(refused.problem_kind()?, ProblemKind::DeviceListVersion);
    // Another list of the same version.
    let newest = owner.lists.pop().context("no list")?;
    let other = owner.sign_list(&[1])?;
    let refused = owner.put_list(&other).await?;
    assert_eq!(refused.problem_kind()?, ProblemKind::DeviceListVersion);
    // A version that leaves one out, and one signed with another key.
    owner.lists.extend([newest.clone(), newest.clone()]);
    let too_far = owner.sign_list(&[1, 2])?;
    let refused = owner.put_list(&too_far).await?;
    assert_eq!(refused.problem_kind()?, ProblemKind::DeviceListVersion);
    owner.lists.pop();
    let mut forged = owner.sign_list(&[1, 2])?;
    forged.signature[5] ^= 1;
    let kind = owner.put_list(&forged).await?.problem_kind()?;
    assert!(matches!(
        kind,
        ProblemKind::Invalid | ProblemKind::Forbidden
    ));
    // The stored one again is no change, and no error.
    assert_eq!(owner.put_list(&newest).await?.status, 204);
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_socket_of_a_device_wins() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let account = clinic.spare(Role::Staff).await?;
    let mut old = account.connect(1).await?;
    let mut new = account.connect(1).await?;
    let error = old.error().await?;
    assert_eq!(ErrorCode::try_from(error.code)?, ErrorCode::Replaced);
    assert!(error.closing);
    old.until_closed().await?;
    new.until(|frame| matches!(frame, server_frame::Frame::Drained(_)).then_some(()))
        .await?;
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn patients_fetch_nobody_whose_access_key_they_lack() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let doctor = clinic.spare(Role::Staff).await?;
    doctor.upload_prekeys(1, 1, 3).await?;
    let patient = clinic.spare(Role::Patient).await?;
    let fetch = async |access_key: Vec<u8>| {
        let request = proto::BundleRequest {
            account_id: doctor.id.to_vec(),
            device_ids: Vec::new(),
            access_key,
        };
        let body = request.encode_to_vec();
        patient.call(1, Method::POST, "/v1/keys/fetch", body).await
    };
    for wrong in [Vec::new(), random::<16>().to_vec(), random::<15>().to_vec()] {
        let kind = fetch(wrong).await?.problem_kind()?;
        assert!(
            matches!(
                kind,
                ProblemKind::Forbidden | ProblemKind::NotFound | ProblemKind::Invalid
            ),
            "{kind:?}"
        );
    }
    let set: BundleSet = fetch(doctor.access_key.to_vec()).await?.message()?;
    assert_eq!(set.bundles.len(), 1);
    // Nor does a patient browse the directory by handle.
    let answer = patient
        .call(1, Method::GET, "/v1/handles/member-0", Vec::new())
        .await?;
    assert_eq!(answer.problem_kind()?, ProblemKind::Forbidden);
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn ephemeral_envelopes_are_never_stored() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let sender = clinic.spare(Role::Staff).await?;
    let recipient = clinic.spare(Role::Staff).await?;
    let mut socket = sender.connect(1).await?;
    let body = random::<40>().to_vec();
    let ephemeral = async |socket: &mut Socket| -> anyhow::Result<bool> {
        let mut send = numbered(&recipient, 1)?;
        send.send_id = random::<16>().to_vec();
        send.ephemeral = true;
        send.recipients[0].ciphertexts[0].ciphertext = body.clone().into();
        Ok(accepted(socket, send).await)
    };
    // Nobody listens: taken, and gone.
    ephemeral(&mut socket).await?;
    let held = clinic.relay.dump().await?;
    assert!(!held.iter().any(|(_, bytes)| *bytes == body));
    // Somebody listens: delivered without a number.
    let mut listening = recipient.connect(1).await?;
    listening
        .until(|frame| matches!(frame, server_frame::Frame::Drained(_)).then_some(()))
        .await?;
    ephemeral(&mut socket).await?;
    loop {
        let Heard::Frame(frame) = listening.next().await? else {
            panic!("the socket closed");
        };
        if let Some(server_frame::Frame::Deliver(deliver)) = frame.frame {
            let envelope = deliver.envelopes.first().context("an empty delivery")?;
            assert!(envelope.ephemeral);
            assert_eq!(envelope.seq, 0);
            assert_eq!(envelope.ciphertext, body);
            break;
        }
    }
    let held = clinic.relay.dump().await?;
    assert!(!held.iter().any(|(_, bytes)| *bytes == body));
    clinic.check_no_panic()
}
