//! Sessions with one peer device: encrypt, decrypt, and which session is in use (spec §2, §3.4 to
//! §3.7).
//!
//! A [`SessionRecord`] is a value. Load it, call one method, store it again; when a method fails,
//! the record is exactly as it was. It does no lookups: prekeys, trusted identities, time and
//! randomness are arguments.

#[cfg(test)]
mod replay;
mod state;

use std::{collections::VecDeque, fmt, time::Duration};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use self::state::{OpenError, Session};
use crate::{
    address::DeviceAddress,
    codec::{Reader, StoredRecordError, Writer},
    curve::{InvalidKeyAgreement, PublicKey},
    identity::{IdentityKey, LocalIdentity},
    kem::KemError,
    message::{CiphertextMessage, PreKeyMessage, SignalMessage},
    prekey::{
        KyberPreKeyId, OneTimePreKey, OneTimePreKeyId, PreKeyBundle, PreKeyMaterial,
        SignedPreKeyId, Verified,
    },
    spqr::SpqrError,
    timestamp::Timestamp,
};

/// How many sessions besides the current one can still decrypt.
pub const MAX_ARCHIVED: usize = 40;

/// How long a session that the peer has never answered may be used for sending.
pub const MAX_UNANSWERED: Duration = Duration::from_hours(30 * 24);

/// Version byte of a stored record.
const FORMAT: u8 = 1;

/// Which identity keys the caller accepts for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Only this one: the address is known, or a verified device list names its key.
    Only(IdentityKey),
    /// Whichever appears: first contact in a setting without directory. The caller pins what it
    /// then sees.
    FirstUse,
}

impl Trust {
    /// Whether `identity` is acceptable.
    pub fn accepts(&self, identity: &IdentityKey) -> bool {
        match self {
            Self::Only(trusted) => trusted == identity,
            Self::FirstUse => true,
        }
    }
}

/// Who is talking: the two ends of a session and whom we take the other one for.
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    /// This device.
    pub local: &'a LocalIdentity,
    /// The peer device, as the caller knows it (not as a message claims).
    pub remote: &'a DeviceAddress,
    /// The identity keys that the caller accepts for `remote`.
    pub trusted: Trust,
}

impl Parties<'_> {
    /// Same identity key and same account on both ends.
    fn is_self_session(&self, remote_identity: &IdentityKey) -> bool {
        let account = self.local.address.service_id();
        account.is_some()
            && account == self.remote.service_id()
            && self.local.key_pair.identity_key() == *remote_identity
    }
}

/// Why no session was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InitiateError {
    /// The bundle's identity key is not the one trusted for the address. Show the change to the
    /// user before anything else.
    #[error("untrusted identity in the prekey bundle")]
    UntrustedIdentity(IdentityKey),
    /// A key in the bundle has small order: its owner or the relay made it so on purpose.
    #[error(transparent)]
    KeyAgreement(#[from] InvalidKeyAgreement),
}

/// Why nothing was encrypted. The record is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// There is no current session, or the peer has not answered it for 30 days. Fetch a prekey
    /// bundle and [`SessionRecord::initiate`].
    #[error("no usable session: fetch a new prekey bundle")]
    SessionNotFound,
    /// The session's identity key is no longer the trusted one.
    #[error("the session is with an identity that is not trusted")]
    UntrustedIdentity(IdentityKey),
    /// 2^32 − 1 messages went out without an answer. Start a new session.
    #[error("the session has no message numbers left: start a new one")]
    Exhausted,
}

/// Why nothing was decrypted. The record is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// The sender's identity key is not the one trusted for the address.
    #[error("untrusted identity")]
    UntrustedIdentity(IdentityKey),
    /// There is no session with this peer at all.
    #[error("no session with this peer")]
    SessionNotFound,
    /// The message was opened before (or is too old to tell). Drop it quietly.
    #[error("duplicated message: number {counter}, the chain is at {index}")]
    Duplicated {
        /// Number that the chain is at.
        index: u32,
        /// Number of the message.
        counter: u32,
    },
    /// No session opens it: damaged, forged, for someone else, or from a session that is gone.
    #[error("decryption failed: {0}")]
    Invalid(#[from] InvalidMessage),
    /// The message starts a new session and the prekeys that it names were not handed in. They
    /// may have been used up or have expired.
    #[error("the prekeys that the message names are missing")]
    PreKeysMissing,
    /// The prekeys handed in are not those that the message names: the caller's mistake.
    #[error("the prekeys handed in are not those that the message names")]
    WrongPreKeys,
    /// An archived session cannot be read.
    #[error(transparent)]
    Stored(#[from] StoredRecordError),
}

/// What is wrong with a message, for logs and tests; to the network it is all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// It is of another session version.
    #[error("session version mismatch")]
    Version,
    /// It is more than 25,000 messages ahead of its chain.
    #[error("message from too far into the future")]
    TooFarAhead,
    /// A key in it has small order.
    #[error("invalid key agreement")]
    KeyAgreement,
    /// The post-quantum ratchet refuses it.
    #[error("post-quantum ratchet: {0}")]
    PostQuantum(SpqrError),
    /// The MAC does not fit.
    #[error("MAC mismatch")]
    Mac,
    /// It was meant for other addresses.
    #[error("address mismatch")]
    Addresses,
    /// The decrypted bytes are not padded as they must be.
    #[error("invalid padding")]
    Padding,
    /// The base key is not a canonical point of the curve's prime-order group.
    #[error("incoming base key is invalid")]
    BaseKey,
    /// The Kyber ciphertext is malformed.
    #[error("{0}")]
    Kem(KemError),
    /// It claims a known session under another identity key.
    #[error("the session belongs to another identity")]
    Identity,
}

/// A decrypted message and what its arrival means for the caller's store.
#[derive(Clone, PartialEq, Eq)]
pub struct Decrypted {
    /// The plaintext.
    pub plaintext: Vec<u8>,
    /// The sender's identity key, to be remembered for the address.
    pub identity: IdentityKey,
    /// Set when the message started a new session.
    pub used: Option<UsedPreKeys>,
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decrypted")
            .field("len", &self.plaintext.len())
            .field("identity", &self.identity)
            .field("used", &self.used)
            .finish()
    }
}

/// The prekeys that a new session consumed. In the transaction that stores the record, the caller
/// deletes the one-time prekey and a one-time Kyber prekey; for a last-resort Kyber prekey it
/// remembers the triple (Kyber id, signed id, base key) and refuses a message that repeats one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedPreKeys {
    /// The one-time prekey, if there was one.
    pub one_time_id: Option<OneTimePreKeyId>,
    /// The Kyber prekey.
    pub kyber_id: KyberPreKeyId,
    /// The signed prekey.
    pub signed_id: SignedPreKeyId,
    /// The initiator's ephemeral key.
    pub base_key: PublicKey,
}

/// All sessions with one peer device: the one to send with and those that may still receive.
#[derive(Clone, Default)]
pub struct SessionRecord {
    current: Option<Session>,
    /// Newest first, encoded: they are rarely needed, and the record is loaded for every message.
    archived: VecDeque<Zeroizing<Vec<u8>>>,
}

impl SessionRecord {
    /// A record without sessions, for a peer never met.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a session from a verified bundle and makes it current. Until the peer has answered,
    /// every message carries the handshake.
    ///
    /// # Errors
    ///
    /// See [`InitiateError`]; the record is then unchanged.
    pub fn initiate(
        &mut self,
        parties: &Parties<'_>,
        bundle: &Verified<PreKeyBundle>,
        now: Timestamp,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<(), InitiateError> {
        if !parties.trusted.accepts(&bundle.identity) {
            return Err(InitiateError::UntrustedIdentity(bundle.identity));
        }
        let session = Session::initiate(parties, bundle, now, rng)?;
        self.make_current(session);
        Ok(())
    }

    /// Encrypts in the current session. Store the record before the message leaves: a restored
    /// older record would use the same keys again.
    ///
    /// # Errors
    ///
    /// See [`EncryptError`]; the record is then unchanged.
    pub fn encrypt(
        &mut self,
        parties: &Parties<'_>,
        plaintext: &[u8],
        now: Timestamp,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<CiphertextMessage, EncryptError> {
        let session = self
            .current
            .as_mut()
            .filter(|session| is_usable(session, now))
            .ok_or(EncryptError::SessionNotFound)?;
        if !parties.trusted.accepts(&session.remote_identity) {
            return Err(EncryptError::UntrustedIdentity(session.remote_identity));
        }
        session
            .seal(parties, plaintext, rng)
            .ok_or(EncryptError::Exhausted)
    }

    /// Whether the message belongs to a session that this record already has. If so it is
    /// decrypted without prekeys, which may be long gone.
    pub fn knows(&self, message: &PreKeyMessage) -> bool {
        self.find(message.base_key()).is_some()
    }

    /// Decrypts a pre-key message, accepting the session it starts if it is a new one. `prekeys`
    /// are those that the message names; they are not looked at, and may be `None`, when
    /// [`Self::knows`] is true.
    ///
    /// # Errors
    ///
    /// See [`DecryptError`]; the record is then unchanged, and no prekey counts as used.
    pub fn decrypt_prekey(
        &mut self,
        parties: &Parties<'_>,
        message: &PreKeyMessage,
        prekeys: Option<PreKeyMaterial<'_>>,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Decrypted, DecryptError> {
        if !parties.trusted.accepts(message.identity()) {
            return Err(DecryptError::UntrustedIdentity(*message.identity()));
        }
        match self.find(message.base_key()) {
            Some(place) => self.decrypt_in(place, parties, message, rng),
            None => self.accept(parties, message, prekeys, rng),
        }
    }

    /// A repeat of the handshake: the session is there already.
    fn decrypt_in(
        &mut self,
        place: Place,
        parties: &Parties<'_>,
        message: &PreKeyMessage,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Decrypted, DecryptError> {
        let decoded;
        let session = match place {
            Place::Current => self.current.as_ref().ok_or(DecryptError::SessionNotFound)?,
            Place::Archived(index) => {
                let stored = self
                    .archived
                    .get(index)
                    .ok_or(DecryptError::SessionNotFound)?;
                decoded = Session::decode(stored)?;
                &decoded
            }
        };
        if session.remote_identity != *message.identity() {
            return Err(InvalidMessage::Identity.into());
        }
        let opened = session.open(parties, message.message(), rng)?;
        let plaintext = match place {
            Place::Current => {
                let session = self.current.as_mut().ok_or(DecryptError::SessionNotFound)?;
                session.commit(opened)
            }
            Place::Archived(index) => {
                let mut session = session.clone();
                let plaintext = session.commit(opened);
                self.promote(index, session);
                plaintext
            }
        };
        Ok(Decrypted {
            plaintext,
            identity: *message.identity(),
            used: None,
        })
    }

    /// A handshake with us.
    fn accept(
        &mut self,
        parties: &Parties<'_>,
        message: &PreKeyMessage,
        prekeys: Option<PreKeyMaterial<'_>>,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Decrypted, DecryptError> {
        let prekeys = prekeys.ok_or(DecryptError::PreKeysMissing)?;
        let one_time_id = prekeys.one_time.map(OneTimePreKey::id);
        if message.one_time_id().is_some() && one_time_id.is_none() {
            return Err(DecryptError::PreKeysMissing);
        }
        if prekeys.signed.id() != message.signed_id()
            || prekeys.kyber.id() != message.kyber_id()
            || one_time_id != message.one_time_id()
        {
            return Err(DecryptError::WrongPreKeys);
        }
        let mut session = Session::accept(parties, message, &prekeys)?;
        let opened = session.open(parties, message.message(), rng)?;
        let plaintext = session.commit(opened);
        self.make_current(session);
        Ok(Decrypted {
            plaintext,
            identity: *message.identity(),
            used: Some(UsedPreKeys {
                one_time_id,
                kyber_id: message.kyber_id(),
                signed_id: message.signed_id(),
                base_key: *message.base_key(),
            }),
        })
    }

    /// Decrypts a message of an established session: the current one, or an archived one, which
    /// then becomes current.
    ///
    /// # Errors
    ///
    /// See [`DecryptError`]; the record is then unchanged. When no session opens the message, the
    /// reason given is the current session's.
    pub fn decrypt(
        &mut self,
        parties: &Parties<'_>,
        message: &SignalMessage,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Decrypted, DecryptError> {
        let mut failure = None;
        if let Some(session) = &mut self.current {
            match session.open(parties, message, rng) {
                Ok(opened) => {
                    let identity = trusted_remote(parties, session)?;
                    let plaintext = session.commit(opened);
                    return Ok(Decrypted {
                        plaintext,
                        identity,
                        used: None,
                    });
                }
                Err(OpenError::Duplicated { index, counter }) => {
                    return Err(DecryptError::Duplicated { index, counter });
                }
                Err(OpenError::Invalid(reason)) => failure = Some(DecryptError::Invalid(reason)),
            }
        }
        for (index, stored) in self.archived.iter().enumerate() {
            let mut session = match Session::decode(stored) {
                Ok(session) => session,
                Err(error) => {
                    failure.get_or_insert(error.into());
                    continue;
                }
            };
            match session.open(parties, message, rng) {
                Ok(opened) => {
                    let identity = trusted_remote(parties, &session)?;
                    let plaintext = session.commit(opened);
                    self.promote(index, session);
                    return Ok(Decrypted {
                        plaintext,
                        identity,
                        used: None,
                    });
                }
                Err(OpenError::Duplicated { index, counter }) => {
                    return Err(DecryptError::Duplicated { index, counter });
                }
                Err(OpenError::Invalid(reason)) => {
                    failure.get_or_insert(DecryptError::Invalid(reason));
                }
            }
        }
        Err(failure.unwrap_or(DecryptError::SessionNotFound))
    }

    /// Retires the current session: nothing is sent with it any more, late messages in it are
    /// still read (and would bring it back).
    pub fn archive_current(&mut self) {
        if let Some(mut session) = self.current.take() {
            session.pending = None;
            self.archived.push_front(session.encode());
            self.archived.truncate(MAX_ARCHIVED);
        }
    }

    /// Whether [`Self::encrypt`] would find a session at this time.
    pub fn has_usable_current(&self, now: Timestamp) -> bool {
        self.current
            .as_ref()
            .is_some_and(|session| is_usable(session, now))
    }

    /// Whether there is neither a current nor an archived session.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.archived.is_empty()
    }

    /// How many archived sessions there are.
    pub fn archived_len(&self) -> usize {
        self.archived.len()
    }

    /// The peer's identity key in the current session.
    pub fn remote_identity(&self) -> Option<&IdentityKey> {
        self.current
            .as_ref()
            .map(|session| &session.remote_identity)
    }

    /// Our identity key in the current session.
    pub fn local_identity(&self) -> Option<&IdentityKey> {
        self.current.as_ref().map(|session| &session.local_identity)
    }

    /// The peer's registration id in the current session. In sessions that the peer initiated
    /// nothing authenticates it.
    pub fn remote_registration_id(&self) -> Option<u32> {
        self.current
            .as_ref()
            .map(|session| session.remote_registration_id)
    }

    /// Whether the current session is one that the peer has not answered yet.
    pub fn is_pending(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|session| session.pending.is_some())
    }

    /// The base key, which names the current session on both ends.
    pub fn current_base_key(&self) -> Option<&PublicKey> {
        self.current.as_ref().map(|session| &session.base_key)
    }

    /// Whether our current sending ratchet key is this one: how the subject of a decryption-error
    /// message tells whether it is about the session in use.
    pub fn current_ratchet_key_matches(&self, key: &PublicKey) -> bool {
        self.current
            .as_ref()
            .is_some_and(|session| session.ratchet.sending_ratchet_key() == key)
    }

    /// The stored form: secret, in this software's own format.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let archived: usize = self.archived.iter().map(|stored| stored.len() + 4).sum();
        let current_len = self.current.as_ref().map_or(0, Session::encoded_len);
        let mut out = Writer::with_capacity(16 + current_len + archived);
        out.u8(FORMAT);
        out.bool(self.current.is_some());
        if let Some(current) = &self.current {
            out.nested(|out| current.encode_into(out));
        }
        out.u8(u8::try_from(self.archived.len()).unwrap_or(u8::MAX));
        for stored in &self.archived {
            out.bytes(stored);
        }
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote. Archived sessions are looked into only when they are
    /// needed.
    ///
    /// # Errors
    ///
    /// When the record is of another version or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredRecordError> {
        let mut reader = Reader::version(bytes, FORMAT)?;
        let current = if reader.bool()? {
            Some(Session::decode(reader.bytes()?)?)
        } else {
            None
        };
        let count = usize::from(reader.u8()?);
        if count > MAX_ARCHIVED {
            return Err(StoredRecordError::Damaged);
        }
        let archived = (0..count)
            .map(|_| reader.bytes().map(|stored| Zeroizing::new(stored.to_vec())))
            .collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { current, archived })
    }

    /// Where the session with this base key is.
    fn find(&self, base_key: &PublicKey) -> Option<Place> {
        if self
            .current
            .as_ref()
            .is_some_and(|session| session.base_key == *base_key)
        {
            return Some(Place::Current);
        }
        self.archived
            .iter()
            .position(|stored| Session::stored_base_key(stored) == Some(*base_key))
            .map(Place::Archived)
    }

    /// Makes an archived session, in its new state, the current one.
    fn promote(&mut self, index: usize, session: Session) {
        self.archived.remove(index);
        self.make_current(session);
    }

    fn make_current(&mut self, session: Session) {
        self.archive_current();
        self.current = Some(session);
    }
}

impl fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRecord")
            .field("current", &self.current.is_some())
            .field("pending", &self.is_pending())
            .field("archived", &self.archived.len())
            .finish()
    }
}

/// Where in a record a session is.
#[derive(Clone, Copy)]
enum Place {
    Current,
    Archived(usize),
}

fn is_usable(session: &Session, now: Timestamp) -> bool {
    session
        .pending
        .as_ref()
        .is_none_or(|pending| pending.created.saturating_add(MAX_UNANSWERED) >= now)
}

/// The identity check after decryption, before anything is committed.
fn trusted_remote(parties: &Parties<'_>, session: &Session) -> Result<IdentityKey, DecryptError> {
    if parties.trusted.accepts(&session.remote_identity) {
        Ok(session.remote_identity)
    } else {
        Err(DecryptError::UntrustedIdentity(session.remote_identity))
    }
}

impl From<OpenError> for DecryptError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Duplicated { index, counter } => Self::Duplicated { index, counter },
            OpenError::Invalid(reason) => Self::Invalid(reason),
        }
    }
}
