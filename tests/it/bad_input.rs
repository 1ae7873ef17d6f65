//! Whatever comes in, the relay answers with a clear error, stores nothing and
//! stays up.

use std::time::Duration;

use anyhow::ensure;
use prost::Message as _;
use reqwest::Method;
use wardline_e2e::clinic::Clinic;
use wardline_e2e::spare::{Answer, Heard, Http, Socket, SpareAccount, random};
use wardline_wire::limits::{MAX_CIPHERTEXT_BYTES, MAX_FRAME_BYTES, MAX_RECIPIENTS};
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{
    self, CiphertextType, DeviceCiphertext, ErrorCode, Role, SendRecipient, client_frame,
    recipient_result, server_frame,
};

/// A clinic with somebody who sends and somebody who should get nothing bad.
struct Ward {
    clinic: Clinic,
    sender: SpareAccount,
    recipient: SpareAccount,
}

impl Ward {
    async fn open() -> anyhow::Result<Self> {
        let clinic = Clinic::open().await?;
        let sender = clinic.spare(Role::Staff).await?;
        let recipient = clinic.spare(Role::Staff).await?;
        Ok(Self {
            clinic,
            sender,
            recipient,
        })
    }

    /// A send that nothing is wrong with.
    fn good_send(&self) -> anyhow::Result<proto::Send> {
        Ok(proto::Send {
            send_id: random::<16>().to_vec(),
            ephemeral: false,
            recipients: vec![SendRecipient {
                account_id: self.recipient.id.to_vec(),
                ciphertexts: vec![self.good_ciphertext()?],
            }],
        })
    }

    fn good_ciphertext(&self) -> anyhow::Result<DeviceCiphertext> {
        Ok(DeviceCiphertext {
            device_id: 1,
            registration_id: self.recipient.device(1)?.registration_id,
            r#type: CiphertextType::Signal.into(),
            ciphertext: random::<64>().to_vec().into(),
        })
    }

    /// A good send still passes, and it is the only thing that the recipient gets.
    async fn check_only_good_passed(&self) -> anyhow::Result<()> {
        let mut socket = self.sender.connect(1).await?;
        let ciphertext = self.good_ciphertext()?;
        let result = socket
            .deliver(self.recipient.id, vec![ciphertext.clone()])
            .await?;
        ensure!(
            matches!(result, recipient_result::Result::Accepted(_)),
            "the good send was refused"
        );
        let (_, envelopes) = self.recipient.connect(1).await?.envelopes(1).await?;
        ensure!(envelopes.len() == 1, "{} envelopes", envelopes.len());
        ensure!(envelopes[0].ciphertext == ciphertext.ciphertext);
        self.clinic.check_no_panic()
    }
}

fn code(error: &proto::Error) -> ErrorCode {
    ErrorCode::try_from(error.code).unwrap_or(ErrorCode::Unspecified)
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_get_a_typed_error() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let garbage: [&[u8]; 6] = [
        b"",
        b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"hello relay",
        // A send whose length runs past its end.
        b"\x0A\x7F\x01",
        // Field 15 alone: unknown, so there is no frame in it.
        b"\x7A\x01\x00",
        // A varint that never ends.
        b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    ];
    for bytes in garbage {
        let mut socket = ward.sender.connect(1).await?;
        socket.send_bytes(bytes).await?;
        let error = socket.error().await?;
        assert_eq!(code(&error), ErrorCode::Malformed, "{bytes:?}");
        assert!(!error.detail.is_empty());
    }
    let mut socket = ward.sender.connect(1).await?;
    socket.send_text("{\"send\": \"hello\"}").await?;
    assert_eq!(code(&socket.error().await?), ErrorCode::Malformed);
    ward.check_only_good_passed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_with_wrong_values_are_refused_whole() -> anyhow::Result<()> {
    type Spoil = fn(&mut proto::Send);
    let ward = Ward::open().await?;
    let cases: &[(&str, Spoil)] = &[
        ("no send id", |send| send.send_id.clear()),
        ("a short send id", |send| send.send_id.truncate(15)),
        ("a long send id", |send| send.send_id.push(0)),
        ("no recipients", |send| send.recipients.clear()),
        ("a short account id", |send| {
            send.recipients[0].account_id.truncate(15);
        }),
        ("a long account id", |send| {
            send.recipients[0].account_id.push(0);
        }),
        ("the same account twice", |send| {
            let again = send.recipients[0].clone();
            send.recipients.push(again);
        }),
        ("the same device twice", |send| {
            let again = send.recipients[0].ciphertexts[0].clone();
            send.recipients[0].ciphertexts.push(again);
        }),
        ("device 0", |send| {
            send.recipients[0].ciphertexts[0].device_id = 0;
        }),
        ("device 128", |send| {
            send.recipients[0].ciphertexts[0].device_id = 128;
        }),
        ("device 257", |send| {
            send.recipients[0].ciphertexts[0].device_id = 257;
        }),
        ("no type", |send| {
            send.recipients[0].ciphertexts[0].r#type = 0;
        }),
        ("type 8", |send| {
            send.recipients[0].ciphertexts[0].r#type = 8;
        }),
        ("type -1", |send| {
            send.recipients[0].ciphertexts[0].r#type = -1;
        }),
        ("an empty ciphertext", |send| {
            send.recipients[0].ciphertexts[0].ciphertext = Vec::new().into();
        }),
    ];
    let mut socket = ward.sender.connect(1).await?;
    for (name, spoil) in cases {
        let mut send = ward.good_send()?;
        spoil(&mut send);
        socket.send(client_frame::Frame::Send(send.clone())).await?;
        let error = socket.error().await?;
        assert_eq!(code(&error), ErrorCode::Invalid, "{name}: {}", error.detail);
        assert!(!error.detail.is_empty(), "{name}");
        if send.send_id.len() == 16 {
            assert_eq!(error.send_id, send.send_id, "{name}");
        }
        if error.closing {
            socket = ward.sender.connect(1).await?;
        }
    }
    ward.check_only_good_passed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_that_do_not_fit_the_devices_are_answered_and_not_stored() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let mut socket = ward.sender.connect(1).await?;
    let good = ward.good_ciphertext()?;
    let with = |change: fn(&mut DeviceCiphertext)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let other_device = with(|ciphertext| ciphertext.device_id = 2);
    let re_installed = with(|ciphertext| ciphertext.registration_id ^= 1);
    for (ciphertexts, missing, extra, stale) in [
        (Vec::new(), vec![1], vec![], vec![]),
        (vec![other_device.clone()], vec![1], vec![2], vec![]),
        (vec![good.clone(), other_device], vec![], vec![2], vec![]),
        (vec![re_installed], vec![], vec![], vec![1]),
    ] {
        let result = socket.deliver(ward.recipient.id, ciphertexts).await?;
        let recipient_result::Result::Mismatch(mismatch) = result else {
            panic!("not a mismatch: {missing:?} {extra:?} {stale:?}");
        };
        assert_eq!(
            (mismatch.missing, mismatch.extra, mismatch.stale),
            (missing, extra, stale)
        );
    }
    let stranger = SpareAccount::generate(&ward.clinic.relay.url(), ward.sender.deployment)?;
    let result = socket.deliver(stranger.id, vec![good.clone()]).await?;
    assert!(matches!(result, recipient_result::Result::Blocked(_)));
    ward.check_only_good_passed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_sends_are_refused_whole() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let mut socket = ward.sender.connect(1).await?;
    let mut send = ward.good_send()?;
    send.recipients[0].ciphertexts[0].ciphertext = vec![7; MAX_CIPHERTEXT_BYTES + 1].into();
    socket.send(client_frame::Frame::Send(send)).await?;
    let error = socket.error().await?;
    assert_eq!(code(&error), ErrorCode::TooLarge, "{}", error.detail);

    let mut socket = ward.sender.connect(1).await?;
    let mut send = ward.good_send()?;
    for _ in 0..MAX_RECIPIENTS {
        send.recipients.push(SendRecipient {
            account_id: random::<16>().to_vec(),
            ciphertexts: vec![ward.good_ciphertext()?],
        });
    }
    socket.send(client_frame::Frame::Send(send)).await?;
    let error = socket.error().await?;
    assert_eq!(code(&error), ErrorCode::TooLarge, "{}", error.detail);

    // Past the largest frame the relay need not read on: an error, or the end.
    let mut socket = ward.sender.connect(1).await?;
    // The relay may hang up while this is still being written.
    let _ = socket.send_bytes(vec![0x0A; MAX_FRAME_BYTES + 1]).await;
    loop {
        match socket.next().await? {
            Heard::Closed => break,
            Heard::Frame(frame) => {
                if let Some(server_frame::Frame::Error(error)) = frame.frame {
                    assert_eq!(code(&error), ErrorCode::TooLarge, "{}", error.detail);
                    break;
                }
            }
        }
    }
    ward.check_only_good_passed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_protobuf_fields_are_passed_over() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let mut socket = ward.sender.connect(1).await?;
    let send = ward.good_send()?;
    // Field 1000 of the send, and field 1000 of the frame around it.
    let unknown = b"\xC2\x3E\x05later";
    let mut inner = send.encode_to_vec();
    inner.extend_from_slice(unknown);
    let mut frame = vec![0x0A];
    prost::encoding::encode_varint(inner.len() as u64, &mut frame);
    frame.extend_from_slice(&inner);
    frame.extend_from_slice(unknown);
    socket.send_bytes(frame).await?;
    let result = socket
        .until(|frame| match frame {
            server_frame::Frame::SendResult(result) => Some(result),
            server_frame::Frame::Error(error) => panic!("refused: {}", error.detail),
            _ => None,
        })
        .await?;
    assert_eq!(result.send_id, send.send_id);
    assert!(matches!(
        result.results[0].result,
        Some(recipient_result::Result::Accepted(_))
    ));
    let (_, envelopes) = ward.recipient.connect(1).await?.envelopes(1).await?;
    assert_eq!(
        envelopes[0].ciphertext,
        send.recipients[0].ciphertexts[0].ciphertext
    );
    ward.clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_id_never_carries_two_messages() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let mut socket = ward.sender.connect(1).await?;
    let send = ward.good_send()?;
    let mut other = send.clone();
    other.recipients[0].ciphertexts[0].ciphertext = random::<64>().to_vec().into();
    let mut answers = Vec::new();
    for send in [&send, &send, &other] {
        socket.send(client_frame::Frame::Send(send.clone())).await?;
        let result = socket
            .until(|frame| match frame {
                server_frame::Frame::SendResult(result) => Some(result),
                _ => None,
            })
            .await?;
        answers.push(result.results[0].result.clone());
    }
    assert!(matches!(
        answers.as_slice(),
        [
            Some(recipient_result::Result::Accepted(_)),
            Some(recipient_result::Result::Accepted(_)),
            Some(recipient_result::Result::Conflict(_)),
        ]
    ));
    let (_, envelopes) = ward.recipient.connect(1).await?.envelopes(1).await?;
    assert_eq!(envelopes.len(), 1);
    ward.clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledging_what_never_came_deletes_nothing() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let mut sender = ward.sender.connect(1).await?;
    let mut recipient = ward.recipient.connect(1).await?;
    let epoch = recipient
        .until(|frame| match frame {
            server_frame::Frame::Hello(hello) => Some(hello.epoch),
            _ => None,
        })
        .await?;
    for (epoch, seq) in [
        (epoch, 1_000_000),
        (epoch, u64::MAX),
        (epoch + 1, 5),
        (0, 5),
    ] {
        let acknowledge = proto::Acknowledge { epoch, seq };
        // It may be ignored, answered with an error, or end the socket: all are clear.
        if recipient
            .send(client_frame::Frame::Acknowledge(acknowledge))
            .await
            .is_err()
        {
            recipient = ward.recipient.connect(1).await?;
        }
    }
    drop(recipient);
    sender
        .deliver(ward.recipient.id, vec![ward.good_ciphertext()?])
        .await?;
    let (_, envelopes) = ward.recipient.connect(1).await?.envelopes(1).await?;
    assert_eq!(envelopes.len(), 1);
    ward.clinic.check_no_panic()
}

/// Every route with a body that devices may call, and whether it needs a token.
const ROUTES: [(&str, &str, bool); 8] = [
    ("POST", "/v1/enrolments", false),
    ("POST", "/v1/auth/challenge", false),
    ("POST", "/v1/auth/token", false),
    ("PUT", "/v1/accounts/me/device-list", true),
    ("PUT", "/v1/accounts/me/access-key", true),
    ("PUT", "/v1/keys", true),
    ("POST", "/v1/keys/fetch", true),
    ("POST", "/v1/invites", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn http_bodies_that_are_none_get_a_problem_document() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let http = Http::new(&ward.clinic.relay.url())?;
    let token = ward.sender.log_in(1).await?.token;
    for (method, path, needs_token) in ROUTES {
        let method = Method::from_bytes(method.as_bytes())?;
        let token = needs_token.then_some(token.as_str());
        let send = async |body: Vec<u8>| http.request(method.clone(), path, token, body).await;
        let not_protobuf = send(b"\xFF\xFF not protobuf".to_vec()).await?;
        assert_eq!(
            not_protobuf.problem_kind()?,
            ProblemKind::Malformed,
            "{path}"
        );
        let empty = send(Vec::new()).await?;
        // An upload of no keys is an upload, and an issuer's request for a challenge is empty.
        if path != "/v1/keys" && path != "/v1/auth/challenge" {
            assert!(
                matches!(
                    empty.problem_kind()?,
                    ProblemKind::Malformed | ProblemKind::Invalid
                ),
                "{path}: {}",
                empty.status
            );
        }
        let huge = send(vec![0; 2 * 1024 * 1024]).await?;
        assert_eq!(huge.problem_kind()?, ProblemKind::TooLarge, "{path}");
        let text = http
            .request_as(method.clone(), path, token, "text/html", b"<p>".to_vec())
            .await?;
        assert_eq!(
            text.problem_kind()?,
            ProblemKind::UnsupportedMediaType,
            "{path}"
        );
        let wrong_method = http.request(Method::PATCH, path, token, Vec::new()).await?;
        assert_eq!(
            wrong_method.problem_kind()?,
            ProblemKind::MethodNotAllowed,
            "{path}"
        );
    }
    ward.check_only_good_passed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_are_none_get_a_problem_document() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let http = Http::new(&ward.clinic.relay.url())?;
    let token = ward.sender.log_in(1).await?.token;
    let get = async |path: &str| -> anyhow::Result<Answer> {
        http.request(Method::GET, path, Some(&token), Vec::new())
            .await
    };
    for path in ["/", "/v2/deployment", "/v1", "/v1/accounts", "/etc/passwd"] {
        assert_eq!(
            get(path).await?.problem_kind()?,
            ProblemKind::NotFound,
            "{path}"
        );
    }
    for path in [
        "/v1/accounts/not-a-uuid",
        "/v1/accounts/%FF%FE",
        "/v1/accounts/00000000-0000-0000-0000-00000000000",
        "/v1/handles/%FF",
        "/v1/handles/UPPER",
        "/v1/handles/..%2F..%2Fetc",
    ] {
        let kind = get(path).await?.problem_kind()?;
        assert!(
            matches!(
                kind,
                ProblemKind::Malformed | ProblemKind::Invalid | ProblemKind::NotFound
            ),
            "{path}: {kind:?}"
        );
    }
    ward.check_only_good_passed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_none_are_refused_everywhere() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let http = Http::new(&ward.clinic.relay.url())?;
    let good = ward.sender.log_in(1).await?.token;
    let mut altered = good.clone().into_bytes();
    // The last letter of a signature may carry unused bits; the one before it does not.
    let place = altered.len() - 2;
    altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered)?;
    let claims = good.split('.').nth(1).unwrap_or_default();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{claims}.");
    let tokens = [
        None,
        Some("x"),
        Some("a.b.c"),
        Some(&*altered),
        Some(&*unsigned),
    ];
    for token in tokens {
        for (method, path) in [
            (Method::GET, "/v1/keys".to_owned()),
            (Method::GET, format!("/v1/accounts/{}", ward.recipient.id)),
            (Method::GET, "/v1/revocations".to_owned()),
            (Method::GET, "/v1/issuer/enrolments".to_owned()),
            (Method::PUT, "/v1/accounts/me/device-list".to_owned()),
            (Method::POST, "/v1/keys/fetch".to_owned()),
            (Method::POST, "/v1/invites".to_owned()),
        ] {
            let answer = http.request(method, &path, token, Vec::new()).await?;
            assert_eq!(
                answer.problem_kind()?,
                ProblemKind::Unauthorized,
                "{path} with {token:?}"
            );
        }
        let Err(refused) = Socket::open(&ward.clinic.relay.url(), token).await? else {
            panic!("a socket with token {token:?}");
        };
        assert_eq!(refused.status, 401, "{token:?}");
    }
    ward.check_only_good_passed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_tokens_close_the_socket_and_are_refused() -> anyhow::Result<()> {
    let clinic = Clinic::builder()
        .relay_config("[login]\ntoken_seconds = 5\n")
        .open()
        .await?;
    let account = clinic.spare(Role::Staff).await?;
    let token = account.log_in(1).await?.token;
    let mut socket = account.connect(1).await?;
    let error = socket.error().await?;
    assert_eq!(code(&error), ErrorCode::Unauthorized);
    assert!(error.closing);
    socket.until_closed().await?;
    let late = account
        .http
        .request(Method::GET, "/v1/keys", Some(&token), Vec::new())
        .await?;
    assert_eq!(late.problem_kind()?, ProblemKind::Unauthorized);

    let mut socket = account.connect(1).await?;
    let token = account.log_in(1).await?.token;
    socket
        .send(client_frame::Frame::Reauthorize(proto::Reauthorize {
            token,
        }))
        .await?;
    socket
        .until(|frame| matches!(frame, server_frame::Frame::Reauthorized(_)).then_some(()))
        .await?;
    socket
        .send(client_frame::Frame::Reauthorize(proto::Reauthorize {
            token: "x".to_owned(),
        }))
        .await?;
    assert_eq!(code(&socket.error().await?), ErrorCode::Unauthorized);
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuers_desk_is_closed_to_devices() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    for (method, path) in [
        (Method::GET, "/v1/issuer/enrolments"),
        (Method::POST, "/v1/issuer/decisions"),
        (Method::PUT, "/v1/issuer/revocations"),
        (Method::PUT, "/v1/issuer/issuers"),
    ] {
        let answer = ward.sender.call(1, method, path, Vec::new()).await?;
        assert_eq!(answer.problem_kind()?, ProblemKind::Forbidden, "{path}");
    }
    // Staff invite patients, nobody else.
    let admission = proto::InviteAdmission {
        invite_id: random::<32>().to_vec(),
        role: Role::Admin.into(),
        expires_at_ms: wardline_e2e::spare::now().plus_millis(60_000).as_millis(),
        sealed_request: vec![1; 200],
    };
    let answer = ward
        .sender
        .call(1, Method::POST, "/v1/invites", admission.encode_to_vec())
        .await?;
    assert_eq!(answer.problem_kind()?, ProblemKind::Forbidden);
    ward.clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_enrolments_are_refused_and_leave_the_invite_good() -> anyhow::Result<()> {
    type Spoil = fn(&mut proto::EnrolmentRequest);
    let clinic = Clinic::open().await?;
    let invite = clinic.invite(Role::Patient)?;
    let account = SpareAccount::generate(&clinic.relay.url(), invite.deployment)?;
    let enrol = async |request: proto::EnrolmentRequest| {
        let body = request.encode_to_vec();
        let path = "/v1/enrolments";
        account.http.request(Method::POST, path, None, body).await
    };
    let cases: &[(&str, Spoil)] = &[
        ("a short invite id", |r| r.invite_id.truncate(31)),
        ("a short account id", |r| r.account_id.truncate(15)),
        ("another account id", |r| r.account_id[0] ^= 1),
        ("a short account key", |r| r.account_key.truncate(31)),
        ("another account key", |r| r.account_key = vec![2; 32]),
        ("a short proof", |r| r.proof.truncate(31)),
        ("no device list", |r| r.device_list = None),
        ("a broken signature", |r| {
            if let Some(list) = &mut r.device_list {
                list.signature[0] ^= 1;
            }
        }),
        ("an altered device list", |r| {
            if let Some(list) = &mut r.device_list {
                list.payload.push(0);
            }
        }),
        ("a short access key hash", |r| {
            r.access_key_sha256.truncate(31);
        }),
    ];
    for (name, spoil) in cases {
        let mut request = account.enrolment(&invite);
        spoil(&mut request);
        let kind = enrol(request).await?.problem_kind()?;
        assert!(
            matches!(kind, ProblemKind::Malformed | ProblemKind::Invalid),
            "{name}: {kind:?}"
        );
    }
    let mut unknown = account.enrolment(&invite);
    unknown.invite_id = random::<32>().to_vec();
    let kind = enrol(unknown).await?.problem_kind()?;
    assert!(
        matches!(
            kind,
            ProblemKind::NotFound | ProblemKind::Forbidden | ProblemKind::InviteExpired
        ),
        "an invite that nobody admitted: {kind:?}"
    );
    // The honest request still goes through, and again.
    assert_eq!(enrol(account.enrolment(&invite)).await?.status, 201);
    assert_eq!(enrol(account.enrolment(&invite)).await?.status, 200);
    account.until_active().await?;
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_configuration_keys_are_named() -> anyhow::Result<()> {
    let refusal = Clinic::builder()
        .relay_config("[mailbox]\nkeep_day = 3\n")
        .open()
        .await
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    assert!(refusal.contains("keep_day"), "{refusal}");
    assert!(refusal.contains("did you mean `keep_days`"), "{refusal}");
    assert!(!refusal.contains("panicked"), "{refusal}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_answered_and_others_are_served() -> anyhow::Result<()> {
    let ward = Ward::open().await?;
    let mut flooding = ward.sender.connect(1).await?;
    // More frames than the relay allows in this time; none of them is good.
    for _ in 0..8000 {
        if flooding.send_bytes(vec![0xFF; 8]).await.is_err() {
            break;
        }
    }
    let was_limited = loop {
        match flooding.next_within(Duration::from_secs(5)).await {
            Ok(Some(Heard::Frame(frame))) => {
                if let Some(server_frame::Frame::Error(error)) = frame.frame
                    && (code(&error) == ErrorCode::Limited || error.closing)
                {
                    break true;
                }
            }
            Ok(Some(Heard::Closed)) => break true,
            Ok(None) | Err(_) => break false,
        }
    };
    assert!(was_limited, "8000 bad frames were taken without a word");
    drop(flooding);
    ward.check_only_good_passed().await
}
