//! Content round trips, and what is not content is refused.

use proptest::prelude::*;
use prost::Message as _;
use wardline_wire::ids::{AccountId, InviteId};
use wardline_wire::proto::SignedBlob;

use super::*;

fn id(byte: u8) -> ContentId {
    ContentId::from([byte; 16])
}

fn account(byte: u8) -> AccountId {
    AccountId::from_random_bytes([byte; 16])
}

fn list(version: u64) -> ListRef {
    ListRef {
        version,
        hash: PayloadHash::from([7; 32]),
    }
}

/// A content of this kind, with the header that it needs.
fn content(kind: Kind) -> Content {
    let conversation =
        (kind.is_account_level() != Some(true)).then_some(ConversationId::from([2; 32]));
    Content {
        id: id(1),
        conversation,
        sequence: u64::from(kind.counting() == Counting::Always),
        sent_at: Timestamp::from_millis(1_790_000_000_000),
        sender_list: list(3),
        recipient_list: Some(list(4)),
        heads: conversation
            .map(|_| vec![PayloadHash::from([5; 32]), PayloadHash::from([6; 32])])
            .unwrap_or_default(),
        expires_after_s: 3600,
        escrow: None,
        kind,
    }
}

fn profile() -> Profile {
    Profile {
        name: "Ann Other".to_owned(),
        version: 2,
        access_key: Some(AccessKey::from([9; 16])),
    }
}

/// One of every kind, with every field set.
fn kinds() -> Vec<Kind> {
    let text = Text {
        body: "@Ann: 5 mg, \u{e9}t\u{e9}".to_owned(),
        reply_to: Some(id(2)),
        mentions: vec![Mention {
            account: account(3),
            start: 0,
            length: 4,
        }],
        urgent: true,
    };
    let title = ConversationTitle {
        salt: [1; 16],
        title: "Ward 7".to_owned(),
    };
    vec![
        Kind::Text(text.clone()),
        Kind::Receipts(Receipts {
            kind: ReceiptKind::Read,
            contents: vec![id(1), id(2)],
        }),
        Kind::Typing(true),
        Kind::Reaction(Reaction {
            target: id(2),
            emoji: "\u{1f44d}".to_owned(),
            remove: true,
        }),
        Kind::Edit(Edit {
            target: id(2),
            text: text.clone(),
        }),
        Kind::Delete(Delete { target: id(2) }),
        Kind::Attachment(Attachment {
            locator: "abc_-9".to_owned(),
            key: [4; 64],
            ciphertext_sha256: [5; 32],
            size_bytes: 12_345,
            media_type: "application/pdf".to_owned(),
            file_name: "letter.pdf".to_owned(),
            caption: "the letter".to_owned(),
        }),
        Kind::Conversation(ConversationUpdate {
            operations: vec![SignedBlob {
                payload: vec![1],
                signature: vec![2],
            }],
            evidence: vec![AccountEvidence {
                account: account(1),
                account_key: [2; 32],
                certificate: None,
                device_lists: vec![SignedBlob {
                    payload: vec![3],
                    signature: vec![4],
                }],
            }],
            title: Some(title.clone()),
            missing: vec![PayloadHash::from([3; 32])],
        }),
        Kind::Transcript(Transcript {
            content: Box::new(Content {
                recipient_list: None,
                ..content(Kind::Text(text))
            }),
            recipients: vec![account(1), account(2)],
        }),
        Kind::Profile(profile()),
        Kind::Hello(Hello {
            invite: InviteId::from([1; 32]),
            proof: [2; 32],
            profile: profile(),
        }),
        Kind::Introduction(Introduction {
            fellows: vec![Fellow {
                account: account(1),
                access_key: AccessKey::from([3; 16]),
            }],
        }),
        Kind::AiPartial(AiPartial {
            question: id(1),
            answer: id(2),
            index: 19,
            text: "It is".to_owned(),
        }),
        Kind::AiAnswer(answer()),
        Kind::AiAlert(AiAlert {
            about: id(1),
            author: account(2),
            reason: "chest-pain".to_owned(),
            text: "Look now.".to_owned(),
        }),
        Kind::Retry(RetryRequest {
            ciphertexts: vec![[1; 32]],
            sequences: vec![SequenceRange {
                conversation: Some(ConversationId::from([2; 32])),
                first: 3,
                last: 9,
            }],
        }),
        Kind::Null(Null {
            session_reset: true,
        }),
        Kind::Sync(DeviceSync::Request),
        Kind::Sync(DeviceSync::Conversations(vec![SyncConversation {
            conversation: ConversationId::from([2; 32]),
            title: Some(title),
            muted_until: Timestamp::from_millis(5),
            archived: true,
            accepted: true,
        }])),
        Kind::Sync(DeviceSync::Contacts(vec![SyncContact {
            account: account(1),
            account_key: Some([1; 32]),
            access_key: Some(AccessKey::from([2; 16])),
            label: "bed 4".to_owned(),
            verified: true,
            blocked: false,
            accepted: true,
        }])),
        Kind::Sync(DeviceSync::Read(vec![id(1)])),
        Kind::EscrowNotice(EscrowNotice {
            policy_hash: PayloadHash::from([1; 32]),
            text: "A policy is in force.".to_owned(),
        }),
    ]
}

fn answer() -> AiAnswer {
    AiAnswer {
        question: id(1),
        text: "Opening hours are 8 to 18.".to_owned(),
        provenance: AiProvenance {
            backend: AiBackend::Ollama,
            model: "some-model".to_owned(),
            model_digest: "sha256:00".to_owned(),
            citations: vec![AiCitation {
                title: "House rules".to_owned(),
                section: "Hours".to_owned(),
                file: "rules.md".to_owned(),
            }],
            class: AiClass::Public,
            generated_at: Timestamp::from_millis(7),
            cut: true,
            context_used: vec![id(4)],
            context_cut: true,
            policy_version: "1".to_owned(),
        },
        disclaimer: "Not medical advice.".to_owned(),
    }
}

#[test]
fn every_kind_round_trips() {
    for kind in kinds() {
        let content = content(kind);
        let padded = content.encode().unwrap();
        assert!(padding::BUCKETS.contains(&padded.len()));
        assert!(Content::decode(&padded).unwrap() == content, "{content:?}");
        let encoded = content.encode_unpadded().unwrap();
        assert!(Content::decode_unpadded(&encoded).unwrap() == content);
    }
}

#[test]
fn escrow_travels_beside_any_kind() {
    let mut content = content(Kind::Text(Text::new("words")));
    content.escrow = Some(EscrowSeal {
        policy_hash: PayloadHash::from([1; 32]),
        seed: [2; 32],
    });
    assert!(Content::decode(&content.encode().unwrap()).unwrap() == content);
}

#[test]
fn nothing_prints_what_it_says() {
    for kind in kinds() {
        let content = content(kind);
        let text = format!("{content:?}");
        for word in [
            "5 mg", "Ann", "Ward", "Opening", "letter", "bed", "Look", "2, 2",
        ] {
            assert!(!text.contains(word), "{text}");
        }
        assert!(text.contains(content.kind.name()), "{text}");
    }
    let text = format!("{:?} {:?} {:?}", profile(), answer(), Text::new("secret"));
    assert_eq!(text, "Profile(..) AiAnswer(..) Text(..)");
}

#[test]
fn small_content_all_looks_the_same_size() {
    for kind in [
        Kind::Typing(true),
        Kind::Delete(Delete { target: id(2) }),
        Kind::Receipts(Receipts {
            kind: ReceiptKind::Delivered,
            contents: vec![id(1)],
        }),
    ] {
        let mut small = content(kind);
        small.heads.truncate(1);
        assert_eq!(small.encode().unwrap().len(), 256);
    }
}

#[test]
fn a_kind_of_a_newer_version_is_kept_whole() {
    let mut encoded = content(Kind::Typing(true)).write().unwrap();
    encoded.kind = None;
    let mut bytes = encoded.encode_to_vec();
    // Field 99, length-delimited, three bytes.
    bytes.extend([0x9A, 0x06, 0x03, 1, 2, 3]);
    let read = Content::decode_unpadded(&bytes).unwrap();
    match &read.kind {
        Kind::Unknown(unknown) => {
            assert_eq!(unknown.field, 99);
            assert_eq!(unknown.encoded, bytes);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read.encode_unpadded().unwrap(), bytes);
    // A field of the header that is not known is no kind.
    let mut bytes = encoded.encode_to_vec();
    bytes.extend([0x7A, 0x01, 0]);
    assert_eq!(
        Content::decode_unpadded(&bytes).err(),
        Some(ContentError::NoKind)
    );
}

#[test]
fn the_header_is_checked() {
    let good = content(Kind::Text(Text::new("words")));
    let refuse = |change: &dyn Fn(&mut Content)| {
        let mut content = good.clone();
        change(&mut content);
        content.encode().err()
    };
    assert_eq!(refuse(&|_| {}), None);
    assert_eq!(
        refuse(&|c| c.conversation = None),
        Some(ContentError::Misplaced("to a conversation"))
    );
    assert_eq!(
        refuse(&|c| c.kind = Kind::Profile(profile())),
        Some(ContentError::Misplaced("to no conversation"))
    );
    assert_eq!(
        refuse(&|c| c.sequence = 0),
        Some(ContentError::Field("sequence"))
    );
    assert_eq!(
        refuse(&|c| c.kind = Kind::Typing(true)),
        Some(ContentError::Field("sequence"))
    );
    assert_eq!(
        refuse(&|c| c.heads.clear()),
        Some(ContentError::Field("heads"))
    );
    assert_eq!(
        refuse(&|c| c.heads.reverse()),
        Some(ContentError::Field("heads"))
    );
    assert_eq!(
        refuse(&|c| c.heads = (0..33).map(|b| PayloadHash::from([b; 32])).collect()),
        Some(ContentError::Field("heads"))
    );
    assert_eq!(
        refuse(&|c| c.sender_list.version = 0),
        Some(ContentError::Field("sender list"))
    );
    assert_eq!(
        refuse(&|c| c.recipient_list = None),
        Some(ContentError::Field("recipient list"))
    );
}

#[test]
fn values_out_of_bounds_are_named() {
    let text = |body: &str, start, length| Text {
        mentions: vec![Mention {
            account: account(1),
            start,
            length,
        }],
        ..Text::new(body)
    };
    let attachment = |change: &dyn Fn(&mut Attachment)| {
        let mut attachment = Attachment {
            locator: "abc".to_owned(),
            key: [4; 64],
            ciphertext_sha256: [5; 32],
            size_bytes: 1,
            media_type: "text/plain".to_owned(),
            file_name: "a.txt".to_owned(),
            caption: String::new(),
        };
        change(&mut attachment);
        Kind::Attachment(attachment)
    };
    let answered = |change: &dyn Fn(&mut AiAnswer)| {
        let mut answer = answer();
        change(&mut answer);
        Kind::AiAnswer(answer)
    };
    let range = |first, last| {
        Kind::Retry(RetryRequest {
            ciphertexts: vec![],
            sequences: vec![SequenceRange {
                conversation: None,
                first,
                last,
            }],
        })
    };
    let named = |name: &str| {
        Kind::Profile(Profile {
            name: name.to_owned(),
            version: 1,
            access_key: None,
        })
    };
    let cases = [
        (Kind::Text(Text::new("")), "text"),
        (Kind::Text(Text::new("x".repeat(65_537))), "text"),
        (Kind::Text(text("abc", 0, 0)), "mention"),
        (Kind::Text(text("abc", 2, 2)), "mention"),
        (Kind::Text(text("\u{e9}t\u{e9}", 1, 1)), "mention"),
        (Kind::Text(text("abc", u32::MAX, u32::MAX)), "mention"),
        (
            Kind::Receipts(Receipts {
                kind: ReceiptKind::Unspecified,
                contents: vec![id(1)],
            }),
            "receipt kind",
        ),
        (
            Kind::Receipts(Receipts {
                kind: ReceiptKind::Read,
                contents: vec![],
            }),
            "receipts",
        ),
        (
            Kind::Receipts(Receipts {
                kind: ReceiptKind::Read,
                contents: vec![id(1); 513],
            }),
            "receipts",
        ),
        (
            Kind::Reaction(Reaction {
                target: id(1),
                emoji: String::new(),
                remove: false,
            }),
            "emoji",
        ),
        (
            attachment(&|a| a.file_name = "../a".to_owned()),
            "file name",
        ),
        (
            attachment(&|a| a.file_name = "a\\b".to_owned()),
            "file name",
        ),
        (
            attachment(&|a| a.file_name = ".profile".to_owned()),
            "file name",
        ),
        (attachment(&|a| a.file_name = "C:a".to_owned()), "file name"),
        (
            attachment(&|a| a.file_name = "a\nb".to_owned()),
            "file name",
        ),
        (attachment(&|a| a.locator = "a/b".to_owned()), "locator"),
        (attachment(&|a| a.locator = String::new()), "locator"),
        (
            attachment(&|a| a.media_type = "text html".to_owned()),
            "media type",
        ),
        (named(""), "name"),
        (named(" Ann"), "name"),
        (named("An\u{202e}n"), "name"),
        (range(0, 1), "sequences"),
        (range(5, 4), "sequences"),
        (range(1, 2000), "sequences"),
        (
            Kind::Retry(RetryRequest {
                ciphertexts: vec![],
                sequences: vec![],
            }),
            "retry request",
        ),
        (
            Kind::AiPartial(AiPartial {
                question: id(1),
                answer: id(2),
                index: 20,
                text: String::new(),
            }),
            "index",
        ),
        (answered(&|a| a.text.clear()), "text"),
        (
            answered(&|a| a.provenance.backend = AiBackend::Unspecified),
            "backend",
        ),
        (
            answered(&|a| a.provenance.class = AiClass::Unspecified),
            "class",
        ),
        (answered(&|a| a.provenance.model = "m".repeat(129)), "model"),
        (
            answered(&|a| a.provenance.context_used = vec![id(1); 65]),
            "context",
        ),
        (
            Kind::AiAlert(AiAlert {
                about: id(1),
                author: account(1),
                reason: "Chest pain".to_owned(),
                text: String::new(),
            }),
            "reason",
        ),
    ];
    for (kind, field) in cases {
        let name = kind.name();
        assert_eq!(
            content(kind).encode().err(),
            Some(ContentError::Field(field)),
            "{name}"
        );
    }
}

#[test]
fn what_does_not_fit_says_how_much_does() {
    // The longest text fits; with the largest provenance beside it nothing breaks either.
    assert!(
        content(Kind::Text(Text::new("x".repeat(65_536))))
            .encode()
            .is_ok()
    );
    let update = ConversationUpdate {
        operations: vec![SignedBlob {
            payload: vec![0; 95_000],
            signature: vec![],
        }],
        ..ConversationUpdate::default()
    };
    assert!(matches!(
        content(Kind::Conversation(update)).encode(),
        Err(ContentError::TooLarge { limit: 90_111, .. })
    ));
}

#[test]
fn transcripts_do_not_nest() {
    let inner = content(Kind::Transcript(Transcript {
        content: Box::new(content(Kind::Text(Text::new("words")))),
        recipients: vec![],
    }));
    let outer = content(Kind::Transcript(Transcript {
        content: Box::new(inner),
        recipients: vec![],
    }));
    assert_eq!(
        outer.encode().err(),
        Some(ContentError::Field("transcript in a transcript"))
    );
}

#[test]
fn sync_of_a_newer_version_is_ignored_not_refused() {
    let wire = proto::Content {
        kind: Some(proto::content::Kind::Sync(proto::DeviceSync { kind: None })),
        ..content(Kind::Sync(DeviceSync::Request)).write().unwrap()
    };
    let read = Content::decode_unpadded(&wire.encode_to_vec()).unwrap();
    assert!(read.kind == Kind::Sync(DeviceSync::Unknown));
}

#[test]
fn titles_are_bound_to_their_salt() {
    let title = |salt, title: &str| ConversationTitle {
        salt: [salt; 16],
        title: title.to_owned(),
    };
    assert_eq!(title(1, "Ward 7").hash(), title(1, "Ward 7").hash());
    assert_ne!(title(1, "Ward 7").hash(), title(2, "Ward 7").hash());
    assert_ne!(title(1, "Ward 7").hash(), title(1, "Ward 8").hash());
}

proptest! {
    /// Whatever a peer encrypts: an error or content that encodes to the same again.
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(content) = Content::decode_unpadded(&bytes) {
            prop_assert!(content.encode_unpadded().is_ok());
        }
        let _ = Content::decode(&bytes);
    }

    /// Flipped, cut and stretched content: an error or well-formed content.
    #[test]
    fn damaged_content_is_refused_or_well_formed(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let kinds = kinds();
        let mut bytes = content(kinds[which.index(kinds.len())].clone()).encode_unpadded().unwrap();
        let place = at.index(bytes.len());
        bytes[place] = value;
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(content) = Content::decode_unpadded(&bytes) {
            prop_assert!(content.encode_unpadded().is_ok());
        }
    }
}
