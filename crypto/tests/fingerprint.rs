//! Safety numbers against recorded ones, and what scanning refuses.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong here fails a test"
)]

mod common;

use common::{array, bytes, list, number, text, vectors};
use wardline_crypto::fingerprint::{
    Fingerprint, ITERATIONS, InvalidIterations, MAX_ITERATIONS, Party, ScanError,
};

fn numbers(version: u32, iterations: u32) -> (Fingerprint, Fingerprint) {
    let (a, b) = ([5; 33], [6; 33]);
    let alice = Party {
        id: b"alice",
        key: &a,
    };
    let bob = Party {
        id: b"bob",
        key: &b,
    };
    (
        Fingerprint::new(version, iterations, alice, bob).unwrap(),
        Fingerprint::new(version, iterations, bob, alice).unwrap(),
    )
}

#[test]
fn recorded_numbers() {
    for case in list(&vectors("fingerprint.json"), "cases") {
        let (local_id, remote_id) = (bytes(case, "localId"), bytes(case, "remoteId"));
        let (local_key, remote_key) = (array(case, "localPublic"), array(case, "remotePublic"));
        let local = Party {
            id: &local_id,
            key: &local_key,
        };
        let remote = Party {
            id: &remote_id,
            key: &remote_key,
        };
        let (version, iterations) = (number(case, "version"), number(case, "iterations"));
        let ours = Fingerprint::new(version, iterations, local, remote).unwrap();
        let theirs = Fingerprint::new(version, iterations, remote, local).unwrap();
        assert_eq!(ours.display(), text(case, "display"));
        assert_eq!(theirs.display(), text(case, "display"));
        assert_eq!(ours.scannable(), bytes(case, "scannableLocal"));
        assert_eq!(theirs.scannable(), bytes(case, "scannableRemoteSide"));
        assert_eq!(ours.matches(&theirs.scannable()), Ok(true));
        assert_eq!(theirs.matches(&ours.scannable()), Ok(true));
    }
}

#[test]
fn another_key_shows() {
    let (ours, _) = numbers(2, 2);
    let (a, mallory) = ([5; 33], [7; 33]);
    let theirs = Fingerprint::new(
        2,
        2,
        Party {
            id: b"bob",
            key: &mallory,
        },
        Party {
            id: b"alice",
            key: &a,
        },
    )
    .unwrap();
    assert_ne!(ours.display(), theirs.display());
    assert_eq!(ours.matches(&theirs.scannable()), Ok(false));
    // Our own code is not the other party's.
    assert_eq!(ours.matches(&ours.scannable()), Ok(false));
}

#[test]
fn codes_that_cannot_be_compared() {
    let (ours, theirs) = numbers(2, 2);
    let (_, older) = numbers(1, 2);
    let mismatch = ScanError::VersionMismatch { theirs: 1, ours: 2 };
    assert_eq!(ours.matches(&older.scannable()), Err(mismatch));
    let code = theirs.scannable();
    for len in 0..code.len() {
        assert_eq!(
            ours.matches(&code[..len]),
            Err(ScanError::Malformed),
            "{len}"
        );
    }
    assert_eq!(
        ours.matches(b"https://example.org"),
        Err(ScanError::Malformed)
    );
}

#[test]
fn iterations_are_bounded() {
    let key = [5; 33];
    let party = Party { id: b"", key: &key };
    for refused in [0, 1, MAX_ITERATIONS + 1, u32::MAX] {
        assert_eq!(
            Fingerprint::new(2, refused, party, party),
            Err(InvalidIterations(refused))
        );
    }
    assert!(Fingerprint::new(2, ITERATIONS, party, party).is_ok());
}
