//! Authenticates what the braid exchanges: a MAC key that every agreed secret is mixed into
//! (spec §4.1).

use subtle::ConstantTimeEq;

use crate::{
    codec::{Reader, StoredRecordError, Writer},
    kdf,
    secret::Secret,
};

/// Length of the MACs.
pub(super) const MAC_LEN: usize = 32;

const UPDATE: &[u8] = b"Signal_PQCKA_V1_MLKEM768:Authenticator Update";
const HEADER: &[u8] = b"Signal_PQCKA_V1_MLKEM768:ekheader";
const CIPHERTEXT: &[u8] = b"Signal_PQCKA_V1_MLKEM768:ciphertext";

/// The authentication state of one end.
#[derive(Clone)]
pub(super) struct Authenticator {
    root: Secret<32>,
    mac_key: Secret<32>,
}

impl Authenticator {
    /// The state before the first exchange, from the handshake's key.
    pub(super) fn new(auth_key: &[u8; 32]) -> Self {
        let mut authenticator = Self {
            root: Secret::zero(),
            mac_key: Secret::zero(),
        };
        authenticator.update(1, auth_key);
        authenticator
    }

    /// Mixes in the secret of `epoch`.
    pub(super) fn update(&mut self, epoch: u64, secret: &[u8; 32]) {
        let mut ikm = Secret::<64>::zero();
        let (root, tail) = ikm.as_mut_bytes().split_at_mut(32);
        root.copy_from_slice(self.root.as_ref());
        tail.copy_from_slice(secret);
        let okm: Secret<64> = kdf::hkdf(&[0; 32], ikm.as_ref(), &[UPDATE, &epoch.to_be_bytes()]);
        self.root = kdf::piece::<64, 0, 32>(&okm);
        self.mac_key = kdf::piece::<64, 32, 32>(&okm);
    }

    /// The MAC over an encapsulation key's header.
    pub(super) fn header_mac(&self, epoch: u64, header: &[u8]) -> [u8; MAC_LEN] {
        self.mac(&[HEADER, &epoch.to_be_bytes(), header])
    }

    /// The MAC over both parts of a ciphertext.
    pub(super) fn ciphertext_mac(&self, epoch: u64, ct1: &[u8], ct2: &[u8]) -> [u8; MAC_LEN] {
        self.mac(&[CIPHERTEXT, &epoch.to_be_bytes(), ct1, ct2])
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; MAC_LEN] {
        *kdf::hmac(self.mac_key.as_ref(), parts).as_bytes()
    }

    /// How many bytes [`Self::encode`] appends.
    pub(super) const ENCODED_LEN: usize = 64;

    /// Appends the stored form.
    pub(super) fn encode(&self, out: &mut Writer) {
        out.fixed(self.root.as_bytes());
        out.fixed(self.mac_key.as_bytes());
    }

    /// Reads the stored form.
    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            root: from.secret()?,
            mac_key: from.secret()?,
        })
    }
}

/// Compares two MACs in constant time.
pub(super) fn macs_equal(ours: &[u8; MAC_LEN], theirs: &[u8]) -> bool {
    ours.ct_eq(theirs).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common;

    #[test]
    fn vectors() {
        let vectors = common::vectors("spqr-units.json");
        let vectors = &vectors["authenticator"];
        let mut authenticator = Authenticator::new(&common::array(vectors, "authKey"));
        let check = |authenticator: &Authenticator, name: &str| {
            let expected = &vectors[name];
            assert_eq!(
                authenticator.root.as_bytes(),
                &common::array(expected, "rootKey")
            );
            assert_eq!(
                authenticator.mac_key.as_bytes(),
                &common::array(expected, "macKey")
            );
        };
        check(&authenticator, "afterInit");
        assert_eq!(
            authenticator.header_mac(1, &[7; 64]),
            common::array(vectors, "headerMacEpoch1")
        );
        authenticator.update(1, &common::array(vectors, "epochSecret"));
        check(&authenticator, "afterUpdateEpoch1");
        assert_eq!(
            authenticator.ciphertext_mac(1, &[9; 960], &[9; 128]),
            common::array(vectors, "ciphertextMacEpoch1")
        );
    }
}
