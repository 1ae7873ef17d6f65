//! Keys, agreement, signatures and the handshake KEM against recorded values.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong here fails a test"
)]

mod common;

use common::{Script, bytes, list, text, vectors};
use wardline_crypto::{
    curve::{InvalidKeyAgreement, KeyError, PrivateKey, PublicKey},
    kem::{self, KemError},
};

#[test]
fn signatures_come_out_byte_for_byte() {
    let file = vectors("curve-xeddsa.json");
    for case in list(&file, "sign") {
        let key = PrivateKey::decode(&bytes(case, "private")).unwrap();
        assert_eq!(key.as_bytes()[..], bytes(case, "clampedPrivate"));
        assert_eq!(key.public_key().as_bytes()[..], bytes(case, "public"));
        let mut rng = Script::new([bytes(case, "random64")]);
        let message = bytes(case, "message");
        let signature = key.sign(&message, &mut rng);
        rng.finish();
        assert_eq!(signature[..], bytes(case, "signature"));
        key.public_key().verify(&message, &signature).unwrap();
    }
}

#[test]
fn verification_agrees_with_the_official_verdict() {
    let file = vectors("curve-xeddsa.json");
    for case in list(&file, "verify") {
        let key = PublicKey::decode(&bytes(case, "public")).unwrap();
        let verdict = key
            .verify(&bytes(case, "message"), &bytes(case, "signature"))
            .is_ok();
        assert_eq!(
            verdict,
            case["officialValid"].as_bool().unwrap(),
            "{}",
            text(case, "case")
        );
    }
}

#[test]
fn a_signature_of_another_length_is_refused() {
    let file = vectors("curve-xeddsa.json");
    let case = &list(&file, "sign")[0];
    let key = PublicKey::decode(&bytes(case, "public")).unwrap();
    let signature = bytes(case, "signature");
    let message = bytes(case, "message");
    assert!(key.verify(&message, &signature[..63]).is_err());
    assert!(
        key.verify(&message, &[&signature[..], &[0]].concat())
            .is_err()
    );
    assert!(key.verify(&message, &[]).is_err());
}

#[test]
fn agreement_matches() {
    let file = vectors("curve-xeddsa.json");
    for case in list(&file, "x25519") {
        let key = PrivateKey::decode(&bytes(case, "private")).unwrap();
        let peer = PublicKey::decode(&bytes(case, "peerPublic")).unwrap();
        assert_eq!(
            key.agree(&peer).unwrap().as_bytes()[..],
            bytes(case, "shared")
        );
    }
}

#[test]
fn points_of_small_order_are_refused() {
    let key = PrivateKey::decode(&[0x77; 32]).unwrap();
    let p_minus_1 = "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    let p = "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    let p_plus_1 = "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    let zero = "0000000000000000000000000000000000000000000000000000000000000000";
    let one = "0100000000000000000000000000000000000000000000000000000000000000";
    let order_8 = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let order_8_too = "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157";
    for u in [p_minus_1, p, p_plus_1, zero, one, order_8, order_8_too] {
        let mut u: [u8; 32] = hex::decode(u).unwrap().try_into().unwrap();
        for high_bit in [0, 0x80] {
            u[31] |= high_bit;
            let peer = PublicKey::from_u(&u);
            assert_eq!(
                key.agree(&peer),
                Err(InvalidKeyAgreement),
                "{}",
                hex::encode(u)
            );
            assert!(!peer.is_canonical(), "{}", hex::encode(u));
        }
    }
}

#[test]
fn canonical_means_reduced_and_torsion_free() {
    let good = PrivateKey::decode(&[0x42; 32]).unwrap().public_key();
    assert!(good.is_canonical());
    let mut high_bit = *good.u();
    high_bit[31] |= 0x80;
    assert!(!PublicKey::from_u(&high_bit).is_canonical());
    // 2 is on the twist, 9 is the base point, p + 9 its unreduced spelling.
    let u = |low: u8| {
        let mut u = [0; 32];
        u[0] = low;
        PublicKey::from_u(&u)
    };
    assert!(!u(2).is_canonical());
    assert!(u(9).is_canonical());
    let mut unreduced = [0xff; 32];
    unreduced[0] = 0xed + 9;
    unreduced[31] = 0x7f;
    assert!(!PublicKey::from_u(&unreduced).is_canonical());
}

#[test]
fn public_key_parsing_follows_the_official_leniency() {
    let key = PrivateKey::decode(&[0x42; 32]).unwrap().public_key();
    let serialised = key.as_bytes();
    assert_eq!(PublicKey::decode(serialised), Ok(key));
    assert_eq!(
        PublicKey::decode(&[&serialised[..], b"trailing"].concat()),
        Ok(key)
    );
    assert_eq!(PublicKey::decode(&[]), Err(KeyError::Empty));
    assert_eq!(
        PublicKey::decode(&serialised[..32]),
        Err(KeyError::BadLength(32))
    );
    assert_eq!(PublicKey::decode(&[4; 33]), Err(KeyError::BadType(4)));
    assert!(matches!(
        PrivateKey::decode(&[0; 31]),
        Err(KeyError::BadLength(31))
    ));
    assert!(matches!(
        PrivateKey::decode(&[0; 33]),
        Err(KeyError::BadLength(33))
    ));
}

#[test]
fn private_keys_are_stored_clamped() {
    let key = PrivateKey::decode(&[0x77; 32]).unwrap();
    let mut clamped = [0x77; 32];
    clamped[0] = 0x70;
    assert_eq!(key.as_bytes(), &clamped);
}

#[test]
fn kyber_1024_is_the_round_3_one() {
    let file = vectors("kyber1024-round3.json");
    for case in list(&file, "cases") {
        let mut rng = Script::new([bytes(case, "keygenSeed64"), bytes(case, "encapsRandom32")]);
        let pair = kem::KeyPair::generate(&mut rng);
        assert_eq!(
            pair.public().as_bytes()[..],
            bytes(case, "serializedPublic")
        );
        assert_eq!(pair.secret_bytes()[..], bytes(case, "serializedSecret"));
        let (ciphertext, shared) = pair.public().encapsulate(&mut rng);
        rng.finish();
        assert_eq!(
            ciphertext.as_bytes()[..],
            bytes(case, "serializedCiphertext")
        );
        assert_eq!(shared.as_bytes()[..], bytes(case, "sharedSecret"));
        assert_eq!(pair.decapsulate(&ciphertext), shared);
        let again = kem::KeyPair::decode(pair.secret_bytes()).unwrap();
        assert_eq!(again.public(), pair.public());
    }
}

#[test]
fn other_kem_types_and_lengths_are_refused() {
    let file = vectors("kyber1024-round3.json");
    let case = &list(&file, "cases")[0];
    let mut key = bytes(case, "serializedPublic");
    assert_eq!(
        kem::PublicKey::decode(&key[..1568]),
        Err(KemError::BadLength(1568))
    );
    assert_eq!(kem::PublicKey::decode(&[]), Err(KemError::BadType));
    key.push(0);
    assert_eq!(kem::PublicKey::decode(&key), Err(KemError::BadLength(1570)));
    for other in [0x00, 0x05, 0x07, 0x0a] {
        key[0] = other;
        assert_eq!(kem::PublicKey::decode(&key), Err(KemError::BadType));
        assert_eq!(kem::Ciphertext::decode(&key), Err(KemError::BadType));
        assert!(matches!(kem::KeyPair::decode(&key), Err(KemError::BadType)));
    }
}

#[test]
fn incremental_ml_kem_768_matches() {
    let file = vectors("spqr-units.json");
    for case in list(&file, "mlkem768Incremental") {
        let mut rng = Script::new([bytes(case, "keygenSeed64"), bytes(case, "encapsRandom32")]);
        let pair = kem::incremental::KeyPair::generate(&mut rng);
        assert_eq!(pair.header()[..], bytes(case, "header64"));
        assert_eq!(pair.key_vector()[..], bytes(case, "ekVector1152"));
        assert_eq!(pair.as_bytes()[..], bytes(case, "decapsulationKey2400"));
        let encapsulation = kem::incremental::Encapsulation::sample(pair.header(), &mut rng);
        rng.finish();
        let (ct1, shared) = encapsulation.first();
        assert_eq!(ct1[..], bytes(case, "ct1_960"));
        assert_eq!(shared.as_bytes()[..], bytes(case, "sharedSecret"));
        let ct2 = encapsulation.second(&pair.key_vector()).unwrap();
        assert_eq!(ct2[..], bytes(case, "ct2_128"));
        assert_eq!(pair.decapsulate(&ct1, &ct2), shared);

        let mut other = pair.key_vector();
        other[0] ^= 1;
        assert!(encapsulation.second(&other).is_err());
    }
}

#[test]
fn agreement_at_the_edges_matches_an_independent_ladder() {
    let file = vectors("x25519-edge.json");
    let mut refused = 0;
    for case in list(&file, "cases") {
        let private = PrivateKey::decode(&bytes(case, "private")).unwrap();
        let public = PublicKey::decode(&bytes(case, "public")).unwrap();
        let agreed = private.agree(&public);
        if case["shared"].is_null() {
            assert_eq!(agreed, Err(InvalidKeyAgreement), "{case}");
            refused += 1;
        } else {
            assert_eq!(
                agreed.unwrap().as_bytes()[..],
                bytes(case, "shared"),
                "{case}"
            );
        }
    }
    assert_eq!(refused, 14);
}

#[test]
fn agreement_repeated_a_thousand_times_matches_rfc_7748() {
    let mut scalar = [0; 32];
    scalar[0] = 9;
    let mut u = scalar;
    for _ in 0..1000 {
        let private = PrivateKey::decode(&scalar).unwrap();
        let next = *private.agree(&PublicKey::from_u(&u)).unwrap().as_bytes();
        u = scalar;
        scalar = next;
    }
    assert_eq!(
        hex::encode(scalar),
        "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"
    );
}
