//! Decryption-error messages against recorded ones.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong here fails a test"
)]

mod common;

use common::{bytes, list, number, vectors};
use proptest::prelude::*;
use wardline_crypto::{
    message::{MessageError, MessageType},
    plaintext_content::{DecryptionErrorMessage, OriginalError, PlaintextContent},
    sealed_sender::SealedContent,
    timestamp::Timestamp,
};

#[test]
fn recorded_messages() {
    let vectors = vectors("plaintext-content.json");
    for case in list(&vectors, "cases") {
        let original_type = u8::try_from(number(case, "originalType")).unwrap();
        let timestamp = Timestamp::from_millis(case["timestamp"].as_u64().unwrap());
        let error = DecryptionErrorMessage::about(
            MessageType::from_number(original_type).unwrap(),
            &bytes(case, "original"),
            timestamp,
            number(case, "originalSenderDeviceId"),
        )
        .unwrap();
        let key = error.ratchet_key.map(|key| hex::encode(key.as_bytes()));
        assert_eq!(key.as_deref(), case["ratchetKey"].as_str());
        assert_eq!(error.encode(), bytes(case, "decryptionErrorMessage"));
        assert_eq!(
            DecryptionErrorMessage::decode(&error.encode()).unwrap(),
            error
        );

        let content = PlaintextContent::from(&error);
        assert_eq!(content.as_bytes(), bytes(case, "plaintextContent"));
        let read = PlaintextContent::decode(content.as_bytes()).unwrap();
        assert_eq!(read.decryption_error().unwrap(), error);
        assert_eq!(read.body(), &content.as_bytes()[1..]);
    }
    let sealed = SealedContent::decode(&bytes(&vectors, "usmcWithPlaintext")).unwrap();
    assert_eq!(sealed.message_type(), MessageType::Plaintext);
    let content = PlaintextContent::decode(sealed.message()).unwrap();
    assert_eq!(content.decryption_error().unwrap().device, 42);
}

#[test]
fn originals_that_give_no_error_message() {
    let about = |kind, original: &[u8]| {
        DecryptionErrorMessage::about(kind, original, Timestamp::from_millis(0), 1)
    };
    assert_eq!(
        about(MessageType::Plaintext, &[0xC0]),
        Err(OriginalError::Plaintext)
    );
    let short = OriginalError::Unreadable(MessageError::TooShort(2));
    assert_eq!(about(MessageType::Signal, &[0x44, 0]), Err(short));
    // A group message needs no reading.
    assert_eq!(
        about(MessageType::SenderKey, &[]).unwrap().ratchet_key,
        None
    );
}

#[test]
fn malformed_contents() {
    let decode = |bytes: &[u8]| PlaintextContent::decode(bytes).map(|_| ());
    assert_eq!(decode(&[]), Err(MessageError::TooShort(0)));
    assert_eq!(
        decode(&[0xC1]),
        Err(MessageError::UnrecognizedVersion(0xC1))
    );
    let error = |body: &[u8]| {
        let bytes = [&[0xC0], body].concat();
        PlaintextContent::decode(&bytes).unwrap().decryption_error()
    };
    let invalid = Err(MessageError::InvalidEncoding);
    assert_eq!(error(&[]), invalid);
    assert_eq!(error(&[0, 0]), invalid); // all padding, no start of it
    assert_eq!(error(&[0x80]), invalid); // no error message inside
    assert_eq!(error(&[0x42, 2, 0x10, 5]), invalid); // not padded
    assert_eq!(error(&[0x42, 2, 0x18, 5, 0x80]), invalid); // no timestamp
    assert!(matches!(
        error(&[0x42, 5, 0x0A, 1, 9, 0x10, 5, 0x80]),
        Err(MessageError::Key(_))
    ));
    let padded = error(&[0x42, 2, 0x10, 5, 0x80, 0, 0]).unwrap();
    assert_eq!((padded.timestamp.as_millis(), padded.device), (5, 0));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(mut bytes: Vec<u8>) {
        let _ = DecryptionErrorMessage::decode(&bytes);
        bytes.insert(0, 0xC0);
        let _ = PlaintextContent::decode(&bytes).unwrap().decryption_error();
    }
}
