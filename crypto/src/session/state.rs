//! One session: two identities, the ratchets, and, until the peer has answered, the handshake to
//! repeat. Knows nothing of other sessions with the same peer.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{InvalidMessage, Parties};
use crate::{
    codec::{Reader, StoredRecordError, Writer},
    curve::{InvalidKeyAgreement, PublicKey},
    identity::IdentityKey,
    kem,
    message::{
        CiphertextMessage, MessageType, PreKeyMessage, PreKeyMessageParts, SignalMessage,
        SignalMessageParts, VERSION, addresses,
    },
    pqxdh,
    prekey::{
        KyberPreKeyId, OneTimePreKeyId, PreKeyBundle, PreKeyMaterial, SignedPreKeyId, Verified,
    },
    ratchet::{
        double,
        triple::{IncomingStep, ReceiveError, TripleRatchet},
    },
    timestamp::Timestamp,
};

/// A session with one peer device.
#[derive(Clone)]
pub(super) struct Session {
    /// The initiator's ephemeral key, which names the session.
    pub(super) base_key: PublicKey,
    pub(super) local_identity: IdentityKey,
    pub(super) remote_identity: IdentityKey,
    pub(super) remote_registration_id: u32,
    pub(super) pending: Option<Pending>,
    pub(super) ratchet: TripleRatchet,
}

/// What every message repeats until the peer is known to have the session.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) created: Timestamp,
    pub(super) one_time_id: Option<OneTimePreKeyId>,
    pub(super) signed_id: SignedPreKeyId,
    pub(super) kyber_id: KyberPreKeyId,
    pub(super) kyber_ciphertext: kem::Ciphertext,
}

/// Why one session cannot open a message.
pub(super) enum OpenError {
    /// It did open it, or something under the same number, before.
    Duplicated { index: u32, counter: u32 },
    /// It is not a message of this session, or was altered.
    Invalid(InvalidMessage),
}

/// An opened message whose step has not been taken yet.
pub(super) struct Opened {
    pub(super) plaintext: Vec<u8>,
    step: IncomingStep,
}

impl Session {
    /// The initiator's side of a handshake.
    pub(super) fn initiate(
        parties: &Parties<'_>,
        bundle: &Verified<PreKeyBundle>,
        now: Timestamp,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, InvalidKeyAgreement> {
        let identity = &parties.local.key_pair;
        let initiation = pqxdh::initiate(identity, bundle, rng)?;
        Ok(Self {
            base_key: initiation.base_key,
            local_identity: identity.identity_key(),
            remote_identity: bundle.identity,
            remote_registration_id: bundle.registration_id,
            pending: Some(Pending {
                created: now,
                one_time_id: bundle.one_time.map(|prekey| prekey.id),
                signed_id: bundle.signed.id,
                kyber_id: bundle.kyber.id,
                kyber_ciphertext: initiation.kyber_ciphertext,
            }),
            ratchet: TripleRatchet::initiator(
                initiation.handshake,
                &bundle.signed.key,
                parties.is_self_session(&bundle.identity),
                rng,
            )?,
        })
    }

    /// The recipient's side. The session proves itself only by opening the message inside.
    pub(super) fn accept(
        parties: &Parties<'_>,
        message: &PreKeyMessage,
        prekeys: &PreKeyMaterial<'_>,
    ) -> Result<Self, InvalidMessage> {
        if !message.base_key().is_canonical() {
            return Err(InvalidMessage::BaseKey);
        }
        let kyber_ciphertext = message.kyber_ciphertext().map_err(InvalidMessage::Kem)?;
        let identity = &parties.local.key_pair;
        let handshake = pqxdh::accept(
            identity,
            prekeys,
            message.identity(),
            message.base_key(),
            &kyber_ciphertext,
        )
        .map_err(|_| InvalidMessage::KeyAgreement)?;
        Ok(Self {
            base_key: *message.base_key(),
            local_identity: identity.identity_key(),
            remote_identity: *message.identity(),
            remote_registration_id: message.registration_id(),
            pending: None,
            ratchet: TripleRatchet::recipient(
                handshake,
                prekeys.signed.pair(),
                parties.is_self_session(message.identity()),
            ),
        })
    }

    /// Encrypts; `None`, with nothing changed, when a chain has no numbers left.
    pub(super) fn seal(
        &mut self,
        parties: &Parties<'_>,
        plaintext: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Option<CiphertextMessage> {
        let outgoing = self.ratchet.send(rng)?;
        let parts = SignalMessageParts {
            ratchet_key: outgoing.ratchet_key,
            counter: outgoing.counter,
            previous_counter: outgoing.previous_counter,
            ciphertext: outgoing.keys.encrypt(plaintext),
            pq_ratchet: outgoing.pq_ratchet,
            addresses: self
                .pending
                .as_ref()
                .and_then(|_| addresses(&parties.local.address, parties.remote)),
        };
        let message = SignalMessage::seal(
            parts,
            outgoing.keys.mac_key(),
            &self.local_identity,
            &self.remote_identity,
        );
        Some(match &self.pending {
            None => CiphertextMessage {
                message_type: MessageType::Signal,
                bytes: message,
            },
            Some(pending) => CiphertextMessage {
                message_type: MessageType::PreKey,
                bytes: PreKeyMessage::encode(PreKeyMessageParts {
                    registration_id: parties.local.registration_id,
                    one_time_id: pending.one_time_id,
                    signed_id: pending.signed_id,
                    kyber_id: pending.kyber_id,
                    kyber_ciphertext: &pending.kyber_ciphertext,
                    base_key: &self.base_key,
                    identity: &self.local_identity,
                    message,
                }),
            },
        })
    }

    /// Decrypts without changing anything; [`Self::commit`] takes the step.
    pub(super) fn open(
        &self,
        parties: &Parties<'_>,
        message: &SignalMessage,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Opened, OpenError> {
        if message.version() != VERSION {
            return Err(InvalidMessage::Version.into());
        }
        let incoming = self.ratchet.receive(
            message.ratchet_key(),
            message.counter(),
            message.pq_ratchet(),
        )?;
        let mac_key = incoming.keys.mac_key();
        if !message.verify_mac(mac_key, &self.remote_identity, &self.local_identity) {
            return Err(InvalidMessage::Mac.into());
        }
        if !message.addresses_match(parties.remote, &parties.local.address) {
            return Err(InvalidMessage::Addresses.into());
        }
        let plaintext = incoming
            .keys
            .decrypt(message.ciphertext())
            .ok_or(InvalidMessage::Padding)?;
        Ok(Opened {
            plaintext,
            step: incoming
                .complete(rng)
                .map_err(|_| InvalidMessage::KeyAgreement)?,
        })
    }

    /// Takes the step of a message that this very state opened. The peer has the session now.
    pub(super) fn commit(&mut self, opened: Opened) -> Vec<u8> {
        self.ratchet.commit(opened.step);
        self.pending = None;
        opened.plaintext
    }

    /// The stored form. It starts with the base key, so that a session can be told by its name
    /// without decoding it.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out.finish()
    }

    /// About how many bytes [`Self::encode`] returns.
    pub(super) fn encoded_len(&self) -> usize {
        let pending = if self.pending.is_some() {
            kem::CIPHERTEXT_LEN + 32
        } else {
            0
        };
        160 + pending + self.ratchet.encoded_len()
    }

    /// Appends what [`Self::encode`] returns.
    pub(super) fn encode_into(&self, out: &mut Writer) {
        out.fixed(self.base_key.u());
        out.fixed(self.local_identity.public_key().u());
        out.fixed(self.remote_identity.public_key().u());
        out.u32(self.remote_registration_id);
        out.bool(self.pending.is_some());
        if let Some(pending) = &self.pending {
            out.u64(pending.created.as_millis());
            out.bool(pending.one_time_id.is_some());
            out.u32(pending.one_time_id.map_or(0, |id| id.0));
            out.u32(pending.signed_id.0);
            out.u32(pending.kyber_id.0);
            out.fixed(pending.kyber_ciphertext.as_bytes());
        }
        self.ratchet.encode(out);
    }

    /// Reads what [`Self::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoredRecordError> {
        let mut reader = Reader::new(bytes);
        let session = Self {
            base_key: PublicKey::from_u(reader.fixed()?),
            local_identity: PublicKey::from_u(reader.fixed()?).into(),
            remote_identity: PublicKey::from_u(reader.fixed()?).into(),
            remote_registration_id: reader.u32()?,
            pending: if reader.bool()? {
                Some(Pending::decode(&mut reader)?)
            } else {
                None
            },
            ratchet: TripleRatchet::decode(&mut reader)?,
        };
        reader.end()?;
        Ok(session)
    }

    /// The base key of a stored session.
    pub(super) fn stored_base_key(bytes: &[u8]) -> Option<PublicKey> {
        bytes.first_chunk().map(PublicKey::from_u)
    }
}

impl Pending {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        let created = Timestamp::from_millis(reader.u64()?);
        let has_one_time = reader.bool()?;
        let one_time_id = OneTimePreKeyId(reader.u32()?);
        Ok(Self {
            created,
            one_time_id: has_one_time.then_some(one_time_id),
            signed_id: SignedPreKeyId(reader.u32()?),
            kyber_id: KyberPreKeyId(reader.u32()?),
            kyber_ciphertext: kem::Ciphertext::decode(reader.slice(kem::CIPHERTEXT_LEN)?)
                .map_err(|_| StoredRecordError::Damaged)?,
        })
    }
}

impl From<InvalidMessage> for OpenError {
    fn from(reason: InvalidMessage) -> Self {
        Self::Invalid(reason)
    }
}

impl From<ReceiveError> for OpenError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Double(double::ReceiveError::Duplicated { index, counter }) => {
                Self::Duplicated { index, counter }
            }
            ReceiveError::Double(double::ReceiveError::TooFarAhead) => {
                InvalidMessage::TooFarAhead.into()
            }
            ReceiveError::Double(double::ReceiveError::KeyAgreement) => {
                InvalidMessage::KeyAgreement.into()
            }
            ReceiveError::PostQuantum(error) => InvalidMessage::PostQuantum(error).into(),
        }
    }
}
