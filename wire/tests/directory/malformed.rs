//! Bytes from strangers: whatever they are, the answer is an error, not a panic.

use ed25519_dalek::SigningKey;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{
    Handle, TrustAnchor, VerifiedCertificate, VerifiedDeviceList, VerifiedIssuer,
    VerifiedRevocations, check_display_name,
};
use wardline_wire::ids::{AccountId, DeviceId, InviteId, Serial};
use wardline_wire::invite::{Invite, LINK_PREFIX, check_relay_url};
use wardline_wire::proto::{
    AccountRecord, CertificateChain, Deployment, EnrolmentDecision, EnrolmentRequest,
    InviteAdmission, InviteRequest, Login, PendingEnrolments, RevocationBundle, SignedBlob, Token,
    TokenRequest,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use crate::clinic::{
    NOW, account, account_key, anchor, chain, deployment, device_list, issuer, issuer_key, patient,
    revocation_list, root, sign_issuer, sign_list, sign_revocations, staff,
};

fn check_all(blob: &SignedBlob, other: &SignedBlob, now: Timestamp) {
    let account_key = account_key().verifying_key();
    let _ = VerifiedIssuer::verify(blob, &anchor(), now);
    let _ = VerifiedDeviceList::verify(blob, account(), &account_key, deployment());
    let chain = CertificateChain {
        issuer: Some(other.clone()),
        certificate: Some(blob.clone()),
    };
    let _ = VerifiedCertificate::verify(&chain, account(), &anchor(), None, now);
    for issuer in [None, Some(other.clone())] {
        let bundle = RevocationBundle {
            issuer,
            list: Some(blob.clone()),
        };
        let _ = VerifiedRevocations::verify(&bundle, &anchor(), now);
    }
}

/// `bytes` with some of them written over and the end cut or lengthened.
fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    (
        vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        any::<prop::sample::Index>(),
        vec(any::<u8>(), 0..4),
        any::<bool>(),
    )
        .prop_map(move |(writes, end, tail, cut)| {
            let mut bytes = bytes.clone();
            for (at, byte) in writes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes.extend(tail);
            bytes
        })
}

proptest! {
    /// Correctly signed payloads of random bytes reach the parsers behind the signature checks.
    #[test]
    fn signed_nonsense_is_refused(payload in vec(any::<u8>(), 0..300), now in any::<u64>()) {
        let now = Timestamp::from_millis(now);
        let good = sign_issuer(&issuer());
        for (kind, key) in [
            (SignedKind::Issuer, root()),
            (SignedKind::DeviceList, account_key()),
            (SignedKind::Certificate, issuer_key()),
            (SignedKind::RevocationList, issuer_key()),
            (SignedKind::RevocationList, root()),
        ] {
            let blob = SignedBlob::sign(kind, deployment(), payload.clone(), &key);
            check_all(&blob, &good, now);
            check_all(&good, &blob, now);
        }
    }

    #[test]
    fn signed_damage_does_not_panic(
        issuer in damaged(issuer().encode_to_vec()),
        certificate in damaged(staff().encode_to_vec()),
        list in damaged(device_list(3).encode_to_vec()),
        revocations in damaged(revocation_list(3).encode_to_vec()),
        now in prop_oneof![Just(NOW.as_millis()), any::<u64>()],
    ) {
        let now = Timestamp::from_millis(now);
        let good = sign_issuer(&crate::clinic::issuer());
        let sign =
            |kind, payload, key: SigningKey| SignedBlob::sign(kind, deployment(), payload, &key);
        let issuer = sign(SignedKind::Issuer, issuer, root());
        check_all(&sign(SignedKind::Certificate, certificate, issuer_key()), &good, now);
        check_all(&sign(SignedKind::RevocationList, revocations, issuer_key()), &good, now);
        check_all(&sign_list(&device_list(1)), &issuer, now);
        let known = VerifiedDeviceList::verify(
            &sign_list(&device_list(3)), account(), &account_key().verifying_key(), deployment(),
        ).unwrap();
        let list = sign(SignedKind::DeviceList, list, account_key());
        if let Ok(list) = VerifiedDeviceList::verify(
            &list, account(), &account_key().verifying_key(), deployment(),
        ) {
            let _ = list.check_replaces(&known);
            let _ = known.check_replaces(&list);
            let _ = list.is_expired(now);
        }
    }

    /// Without the key, no change to what was signed is believed.
    #[test]
    fn damage_is_never_believed(
        certificate in damaged(chain(&staff()).encode_to_vec()),
        nameless in damaged(chain(&patient()).encode_to_vec()),
        list in damaged(sign_list(&device_list(3)).encode_to_vec()),
        revocations in damaged(sign_revocations(&revocation_list(3)).encode_to_vec()),
    ) {
        // Damage may land in bytes that protobuf ignores; then what is read is what was signed.
        for (bytes, original) in [(certificate, chain(&staff())), (nameless, chain(&patient()))] {
            if let Ok(read) = CertificateChain::decode(bytes.as_slice())
                && VerifiedCertificate::verify(&read, account(), &anchor(), None, NOW).is_ok()
            {
                prop_assert!(read.certificate.map(|blob| blob.payload)
                    == original.certificate.map(|blob| blob.payload));
            }
        }
        if let Ok(read) = SignedBlob::decode(list.as_slice())
            && VerifiedDeviceList::verify(
                &read, account(), &account_key().verifying_key(), deployment(),
            ).is_ok()
        {
            prop_assert!(read.payload == device_list(3).encode_to_vec());
        }
        if let Ok(read) = RevocationBundle::decode(revocations.as_slice())
            && VerifiedRevocations::verify(&read, &anchor(), NOW).is_ok()
        {
            prop_assert!(read.list.unwrap_or_default().payload
                == revocation_list(3).encode_to_vec());
        }
    }

    #[test]
    fn decoders_do_not_panic(bytes in vec(any::<u8>(), 0..600)) {
        let bytes = bytes.as_slice();
        let _ = AccountRecord::decode(bytes);
        let _ = Deployment::decode(bytes);
        let _ = EnrolmentDecision::decode(bytes);
        let _ = EnrolmentRequest::decode(bytes);
        let _ = InviteAdmission::decode(bytes);
        let _ = InviteRequest::decode(bytes);
        let _ = Login::decode(bytes);
        let _ = PendingEnrolments::decode(bytes);
        let _ = Token::decode(bytes);
        let _ = TokenRequest::decode(bytes);
        let _ = AccountId::from_slice(bytes);
        let _ = Serial::from_slice(bytes);
        let _ = TrustAnchor::from_pinned(deployment(), &[0; 32], bytes);
    }

    #[test]
    fn text_does_not_panic(text in ".*", now in any::<u64>()) {
        let now = Timestamp::from_millis(now);
        let _ = Invite::from_link(&text, now);
        let _ = Invite::from_link(&format!("{LINK_PREFIX}{text}"), now);
        let _ = check_relay_url(&text);
        let _ = check_relay_url(&format!("https://{text}"));
        let _ = check_relay_url(&format!("http://[{text}"));
        let _ = text.parse::<Handle>();
        let _ = text.parse::<AccountId>();
        let _ = text.parse::<InviteId>();
        let _ = check_display_name(&text);
    }

    /// Links of any message are read or refused.
    #[test]
    fn invite_messages_do_not_panic(bytes in vec(any::<u8>(), 0..300), now in any::<u64>()) {
        use base64::Engine as _;
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(&bytes);
        let body = [bytes.as_slice(), &digest[..4]].concat();
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(body);
        let _ = Invite::from_link(&format!("{LINK_PREFIX}{text}"), Timestamp::from_millis(now));
    }

    #[test]
    fn device_ids_are_one_to_127(id in any::<u32>()) {
        prop_assert_eq!(DeviceId::new(id).is_ok(), (1..=127).contains(&id));
    }
}
