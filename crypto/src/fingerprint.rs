//! Safety numbers: what two people compare to know that nobody sits between them (spec §5.8).
//!
//! The number depends on both parties' ids and keys and on nothing else; both ends show the same
//! sixty digits. The keys are whatever 33 bytes the application stands for, since this module does
//! no arithmetic with them. In Signal they are identity keys (`0x05 ‖ u`); Wardline gives
//! `0xED ‖ account key`.

use prost::Message;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

/// How often Signal hashes: enough to make searching for a look-alike key dear.
pub const ITERATIONS: u32 = 5200;

/// The largest accepted number of iterations.
pub const MAX_ITERATIONS: u32 = 1_000_000;

/// One of the two parties.
#[derive(Clone, Copy)]
pub struct Party<'a> {
    /// Stable id of the party; which bytes is the application's convention.
    pub id: &'a [u8],
    /// The party's key with its type byte.
    pub key: &'a [u8; 33],
}

/// The safety number of two parties, as one of them sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    version: u32,
    local: [u8; 32],
    remote: [u8; 32],
    display: String,
}

/// A number of iterations outside 2..=1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} iterations are not between 2 and {MAX_ITERATIONS}")]
pub struct InvalidIterations(pub u32);

/// Why a scanned code cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not a safety-number code, or one without its fingerprints.
    #[error("the scanned code is not a safety number")]
    Malformed,
    /// The other end computes safety numbers in another version of the application.
    #[error("the scanned safety number has version {theirs}, ours has {ours}")]
    VersionMismatch {
        /// The version in the scanned code.
        theirs: u32,
        /// The version of our own number.
        ours: u32,
    },
}

impl Fingerprint {
    /// Computes the number. `version` says which convention the ids follow; it is compared when
    /// scanning and does not change the digits.
    ///
    /// # Errors
    ///
    /// [`InvalidIterations`]; both ends use [`ITERATIONS`].
    pub fn new(
        version: u32,
        iterations: u32,
        local: Party<'_>,
        remote: Party<'_>,
    ) -> Result<Self, InvalidIterations> {
        if !(2..=MAX_ITERATIONS).contains(&iterations) {
            return Err(InvalidIterations(iterations));
        }
        let (local, remote) = (hash(local, iterations), hash(remote, iterations));
        let mut halves = [digits(&local), digits(&remote)];
        halves.sort();
        Ok(Self {
            version,
            local: first_half(&local),
            remote: first_half(&remote),
            display: halves.concat(),
        })
    }

    /// The sixty digits, the same at both ends; usually shown in twelve groups of five.
    pub fn display(&self) -> &str {
        &self.display
    }

    /// The bytes of the code for the other party to scan.
    pub fn scannable(&self) -> Vec<u8> {
        let half = |hash: &[u8; 32]| {
            Some(Half {
                hash: Some(hash.to_vec()),
            })
        };
        Combined {
            version: Some(self.version),
            local: half(&self.local),
            remote: half(&self.remote),
        }
        .encode_to_vec()
    }

    /// Whether a code scanned from the other party belongs to the same pair of keys.
    ///
    /// # Errors
    ///
    /// [`ScanError`] if the code cannot be compared at all; that says nothing about the keys.
    pub fn matches(&self, scanned: &[u8]) -> Result<bool, ScanError> {
        let theirs = Combined::decode(scanned).map_err(|_| ScanError::Malformed)?;
        let half = |half: Option<Half>| half.and_then(|half| half.hash).ok_or(ScanError::Malformed);
        let version = theirs.version.ok_or(ScanError::Malformed)?;
        let (their_local, their_remote) = (half(theirs.local)?, half(theirs.remote)?);
        if version != self.version {
            return Err(ScanError::VersionMismatch {
                theirs: version,
                ours: self.version,
            });
        }
        let same =
            their_local.ct_eq(self.remote.as_slice()) & their_remote.ct_eq(self.local.as_slice());
        Ok(same.into())
    }
}

/// SHA-512 over `0x0000 ‖ key ‖ id ‖ key`, then over `hash ‖ key` as often as is left.
fn hash(party: Party<'_>, iterations: u32) -> [u8; 64] {
    let first = Sha512::new()
        .chain_update([0, 0])
        .chain_update(party.key)
        .chain_update(party.id)
        .chain_update(party.key)
        .finalize();
    let last = (1..iterations).fold(first, |hash, _| {
        Sha512::new()
            .chain_update(hash)
            .chain_update(party.key)
            .finalize()
    });
    last.into()
}

/// Six groups of five bytes, each as a number modulo 100,000.
fn digits(hash: &[u8; 64]) -> String {
    let (groups, _) = hash.as_chunks::<5>();
    let groups: Vec<_> = groups
        .iter()
        .take(6)
        .map(|group| {
            let number = group
                .iter()
                .fold(0, |number, byte| (number << 8) | u64::from(*byte));
            format!("{:05}", number % 100_000)
        })
        .collect();
    groups.concat()
}

fn first_half(hash: &[u8; 64]) -> [u8; 32] {
    let mut half = [0; 32];
    half.copy_from_slice(hash.split_at(32).0);
    half
}

/// Protobuf field layout of a code to scan.
#[derive(Clone, PartialEq, Message)]
struct Combined {
    #[prost(uint32, optional, tag = "1")]
    version: Option<u32>,
    #[prost(message, optional, tag = "2")]
    local: Option<Half>,
    #[prost(message, optional, tag = "3")]
    remote: Option<Half>,
}

/// One party's part of it.
#[derive(Clone, PartialEq, Message)]
struct Half {
    #[prost(bytes = "vec", optional, tag = "1")]
    hash: Option<Vec<u8>>,
}
