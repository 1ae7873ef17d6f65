//! What one named peer keeps, and its saved form.

use std::collections::{BTreeMap, BTreeSet};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::{Value, json};
use uuid::Uuid;
use wardline_crypto::{
    address::{DeviceAddress, DeviceId},
    curve::{PUBLIC_KEY_LEN, PrivateKey},
    identity::{IdentityKey, IdentityKeyPair, LocalIdentity},
    message::{CiphertextMessage, PreKeyMessage, SignalMessage},
    prekey::{KyberPreKey, OneTimePreKey, PreKeyBundle, PreKeyMaterial, SignedPreKey, Verified},
    sender_key::{OwnSenderKey, SenderKeyRecord},
    session::{Parties, SessionRecord, Trust, UsedPreKeys},
    timestamp::Timestamp,
};

use crate::{
    error::PeerError,
    request::{Request, as_object},
};

/// The randomness of this program.
pub(crate) fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// One device: its identity, prekeys and everything it knows of others. Records are kept in their
/// stored form and decoded around each use, as a real store would.
pub(crate) struct Peer {
    pub(crate) local: LocalIdentity,
    next_id: u32,
    signed: BTreeMap<u32, SignedPreKey>,
    kyber: BTreeMap<u32, KyberPreKey>,
    one_time: BTreeMap<u32, OneTimePreKey>,
    /// Kyber id, signed id and base key of every handshake: each may happen once.
    used: BTreeSet<(u32, u32, [u8; PUBLIC_KEY_LEN])>,
    /// Trust on first use.
    identities: BTreeMap<DeviceAddress, IdentityKey>,
    sessions: BTreeMap<DeviceAddress, Vec<u8>>,
    own_sender_keys: BTreeMap<Uuid, OwnSenderKey>,
    sender_keys: BTreeMap<(DeviceAddress, Uuid), SenderKeyRecord>,
}

impl Peer {
    pub(crate) fn new(local: LocalIdentity) -> Self {
        Self {
            local,
            next_id: 1,
            signed: BTreeMap::new(),
            kyber: BTreeMap::new(),
            one_time: BTreeMap::new(),
            used: BTreeSet::new(),
            identities: BTreeMap::new(),
            sessions: BTreeMap::new(),
            own_sender_keys: BTreeMap::new(),
            sender_keys: BTreeMap::new(),
        }
    }

    pub(crate) fn next_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    pub(crate) fn keep(
        &mut self,
        signed: SignedPreKey,
        kyber: KyberPreKey,
        one_time: Option<OneTimePreKey>,
    ) {
        self.signed.insert(signed.id().0, signed);
        self.kyber.insert(kyber.id().0, kyber);
        if let Some(one_time) = one_time {
            self.one_time.insert(one_time.id().0, one_time);
        }
    }

    pub(crate) fn trust(&self, address: &DeviceAddress) -> Trust {
        self.identities
            .get(address)
            .map_or(Trust::FirstUse, |identity| Trust::Only(*identity))
    }

    fn parties<'a>(&'a self, remote: &'a DeviceAddress) -> Parties<'a> {
        Parties {
            local: &self.local,
            remote,
            trusted: self.trust(remote),
        }
    }

    pub(crate) fn session(&self, with: &DeviceAddress) -> Result<SessionRecord, PeerError> {
        match self.sessions.get(with) {
            Some(stored) => Ok(SessionRecord::decode(stored)?),
            None => Ok(SessionRecord::new()),
        }
    }

    fn store_session(&mut self, with: &DeviceAddress, record: &SessionRecord) {
        self.sessions.insert(with.clone(), record.encode().to_vec());
    }

    pub(crate) fn archive(&mut self, with: &DeviceAddress) -> Result<(), PeerError> {
        let mut record = self.session(with)?;
        record.archive_current();
        self.store_session(with, &record);
        Ok(())
    }

    pub(crate) fn process(
        &mut self,
        from: &DeviceAddress,
        bundle: &Verified<PreKeyBundle>,
        now: Timestamp,
    ) -> Result<(), PeerError> {
        let mut record = self.session(from)?;
        record.initiate(&self.parties(from), bundle, now, &mut rng())?;
        self.store_session(from, &record);
        self.identities.insert(from.clone(), bundle.identity);
        Ok(())
    }

    pub(crate) fn encrypt(
        &mut self,
        to: &DeviceAddress,
        plaintext: &[u8],
        now: Timestamp,
    ) -> Result<CiphertextMessage, PeerError> {
        let mut record = self.session(to)?;
        let message = record.encrypt(&self.parties(to), plaintext, now, &mut rng())?;
        if let Some(identity) = record.remote_identity() {
            self.identities.insert(to.clone(), *identity);
        }
        self.store_session(to, &record);
        Ok(message)
    }

    pub(crate) fn decrypt(
        &mut self,
        from: &DeviceAddress,
        message: &SignalMessage,
    ) -> Result<Vec<u8>, PeerError> {
        let mut record = self.session(from)?;
        let decrypted = record.decrypt(&self.parties(from), message, &mut rng())?;
        self.store_session(from, &record);
        self.identities.insert(from.clone(), decrypted.identity);
        Ok(decrypted.plaintext)
    }

    pub(crate) fn decrypt_prekey(
        &mut self,
        from: &DeviceAddress,
        message: &PreKeyMessage,
    ) -> Result<Vec<u8>, PeerError> {
        let mut record = self.session(from)?;
        let prekeys = if record.knows(message) {
            None
        } else {
            self.prekeys_for(message)
        };
        let parties = self.parties(from);
        let decrypted = record.decrypt_prekey(&parties, message, prekeys, &mut rng())?;
        if let Some(used) = decrypted.used {
            self.consume(&used)?;
        }
        self.store_session(from, &record);
        self.identities.insert(from.clone(), decrypted.identity);
        Ok(decrypted.plaintext)
    }

    /// The prekeys that the message names, unless one is missing.
    fn prekeys_for(&self, message: &PreKeyMessage) -> Option<PreKeyMaterial<'_>> {
        let one_time = match message.one_time_id() {
            Some(id) => Some(self.one_time.get(&id.0)?),
            None => None,
        };
        Some(PreKeyMaterial {
            signed: self.signed.get(&message.signed_id().0)?,
            kyber: self.kyber.get(&message.kyber_id().0)?,
            one_time,
        })
    }

    /// One-time prekeys go; Kyber prekeys stay as last resorts, but no handshake happens twice.
    fn consume(&mut self, used: &UsedPreKeys) -> Result<(), PeerError> {
        let handshake = (used.kyber_id.0, used.signed_id.0, *used.base_key.as_bytes());
        if !self.used.insert(handshake) {
            return Err(PeerError::new("other", &"reused base key"));
        }
        if let Some(id) = used.one_time_id {
            self.one_time.remove(&id.0);
        }
        Ok(())
    }

    pub(crate) fn own_sender_key(&mut self, id: Uuid) -> &mut OwnSenderKey {
        self.own_sender_keys
            .entry(id)
            .or_insert_with(|| OwnSenderKey::generate(id, &mut rng()))
    }

    pub(crate) fn existing_sender_key(&mut self, id: Uuid) -> Result<&mut OwnSenderKey, PeerError> {
        self.own_sender_keys
            .get_mut(&id)
            .ok_or_else(|| PeerError::new("no_sender_key_state", &"no sender key of our own"))
    }

    pub(crate) fn sender_key(&mut self, from: DeviceAddress, id: Uuid) -> &mut SenderKeyRecord {
        self.sender_keys
            .entry((from, id))
            .or_insert_with(|| SenderKeyRecord::new(id))
    }

    /// Everything, as JSON of stored records.
    pub(crate) fn save(&self) -> Value {
        let address = |address: &DeviceAddress| json!({ "name": address.name, "device": address.device.get() });
        let stored = |bytes: &[u8]| Value::String(hex::encode(bytes));
        json!({
            "address": address(&self.local.address),
            "registrationId": self.local.registration_id,
            "identityPrivate": stored(self.local.key_pair.private_key().as_bytes()),
            "nextId": self.next_id,
            "signed": self.signed.values().map(|p| stored(&p.encode())).collect::<Vec<_>>(),
            "kyber": self.kyber.values().map(|p| stored(&p.encode())).collect::<Vec<_>>(),
            "oneTime": self.one_time.values().map(|p| stored(&p.encode())).collect::<Vec<_>>(),
            "used": self.used.iter().map(|(kyber, signed, base)| {
                json!({ "kyber": kyber, "signed": signed, "base": stored(base) })
            }).collect::<Vec<_>>(),
            "identities": self.identities.iter().map(|(name, identity)| {
                json!({ "address": address(name), "value": stored(identity.as_bytes()) })
            }).collect::<Vec<_>>(),
            "sessions": self.sessions.iter().map(|(name, record)| {
                json!({ "address": address(name), "value": stored(record) })
            }).collect::<Vec<_>>(),
            "ownSenderKeys":
                self.own_sender_keys.values().map(|k| stored(&k.encode())).collect::<Vec<_>>(),
            "senderKeys": self.sender_keys.iter().map(|((name, _), record)| {
                json!({ "address": address(name), "value": stored(&record.encode()) })
            }).collect::<Vec<_>>(),
        })
    }

    /// The peer that [`Self::save`] wrote.
    pub(crate) fn load(saved: &Value) -> Result<Self, PeerError> {
        let saved = as_object("state", saved)?;
        let private = PrivateKey::decode(&saved.bytes("identityPrivate")?)?;
        let mut peer = Self::new(LocalIdentity {
            key_pair: IdentityKeyPair::from(private),
            registration_id: saved.u32("registrationId")?,
            address: saved.address("address")?,
        });
        peer.next_id = saved.u32("nextId")?;
        for stored in strings(saved, "signed")? {
            let prekey = SignedPreKey::decode(&stored)?;
            peer.signed.insert(prekey.id().0, prekey);
        }
        for stored in strings(saved, "kyber")? {
            let prekey = KyberPreKey::decode(&stored)?;
            peer.kyber.insert(prekey.id().0, prekey);
        }
        for stored in strings(saved, "oneTime")? {
            let prekey = OneTimePreKey::decode(&stored)?;
            peer.one_time.insert(prekey.id().0, prekey);
        }
        for item in saved.list("used")? {
            let item = as_object("used", item)?;
            peer.used
                .insert((item.u32("kyber")?, item.u32("signed")?, item.array("base")?));
        }
        for item in saved.list("identities")? {
            let item = as_object("identities", item)?;
            let identity = IdentityKey::decode(&item.bytes("value")?)?;
            peer.identities.insert(item.address("address")?, identity);
        }
        for item in saved.list("sessions")? {
            let item = as_object("sessions", item)?;
            peer.sessions
                .insert(item.address("address")?, item.bytes("value")?);
        }
        for stored in strings(saved, "ownSenderKeys")? {
            let key = OwnSenderKey::decode(&stored)?;
            peer.own_sender_keys.insert(key.distribution_id(), key);
        }
        for item in saved.list("senderKeys")? {
            let item = as_object("senderKeys", item)?;
            let record = SenderKeyRecord::decode(&item.bytes("value")?)?;
            let key = (item.address("address")?, record.distribution_id());
            peer.sender_keys.insert(key, record);
        }
        Ok(peer)
    }

    /// This peer's own number.
    pub(crate) fn device(&self) -> DeviceId {
        self.local.address.device
    }
}

/// A list of hex strings.
fn strings(saved: Request<'_>, name: &str) -> Result<Vec<Vec<u8>>, PeerError> {
    saved
        .list(name)?
        .iter()
        .map(|value| {
            let text = crate::request::as_text(name, value)?;
            hex::decode(text).map_err(|_| PeerError::bad(&format!("not hex: {name}")))
        })
        .collect()
}
