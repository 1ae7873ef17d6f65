//! One function a command.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wardline_crypto::{
    address::DeviceId,
    curve::{PrivateKey, PublicKey},
    fingerprint::{Fingerprint, ITERATIONS, Party},
    identity::{IdentityKey, IdentityKeyPair, LocalIdentity},
    kem,
    message::{MessageType, PreKeyMessage, SignalMessage},
    prekey::{
        KyberPreKey, KyberPreKeyPublic, OneTimePreKey, OneTimePreKeyPublic, PreKeyBundle,
        SignedPreKey, SignedPreKeyPublic,
    },
    sender_key::{DistributionMessage, SenderKeyMessage},
};

use crate::{
    error::PeerError,
    request::{Request, as_object},
    sealed,
    store::{Peer, rng},
};

type Fields = Map<String, Value>;

/// The named peers of this process; nothing is shared between them.
#[derive(Default)]
pub(crate) struct Peers(BTreeMap<String, Peer>);

impl Peers {
    /// Runs one request.
    pub(crate) fn run(&mut self, request: Request<'_>) -> Result<Fields, PeerError> {
        let reply = match request.text("cmd")? {
            "peer" => self.peer(request),
            "load" => self.load(request),
            "sign" => sign(request),
            "verify" => verify(request),
            "fingerprint" => fingerprint(request),
            "serverCert" => sealed::server_cert(request),
            "senderCert" => sealed::sender_cert(request),
            "validateCert" => sealed::validate_cert(request),
            "multiSplit" => sealed::multi_split(request),
            "multiRecipients" => sealed::multi_recipients(request),
            command => {
                let run = command_of_a_peer(command)
                    .ok_or_else(|| PeerError::bad(&format!("unknown command {command}")))?;
                let name = request.text("peer")?;
                let peer = self
                    .0
                    .get_mut(name)
                    .ok_or_else(|| PeerError::bad(&format!("no peer {name}")))?;
                run(peer, request)
            }
        }?;
        match reply {
            Value::Object(fields) => Ok(fields),
            _ => Ok(Map::new()),
        }
    }

    fn peer(&mut self, request: Request<'_>) -> Result<Value, PeerError> {
        let key_pair = match request.optional_bytes("identityPrivate")? {
            Some(private) => IdentityKeyPair::from(PrivateKey::decode(&private)?),
            None => IdentityKeyPair::generate(&mut rng()),
        };
        let public = hex::encode(key_pair.identity_key().as_bytes());
        let local = LocalIdentity {
            key_pair,
            registration_id: request.u32("registrationId")?,
            address: request.as_address()?,
        };
        self.0
            .insert(request.text("peer")?.to_owned(), Peer::new(local));
        Ok(json!({ "identityPublic": public }))
    }

    fn load(&mut self, request: Request<'_>) -> Result<Value, PeerError> {
        let state = serde_json::from_slice(&request.bytes("state")?)
            .map_err(|error| PeerError::bad(&error))?;
        self.0
            .insert(request.text("peer")?.to_owned(), Peer::load(&state)?);
        Ok(Value::Null)
    }
}

type Command = fn(&mut Peer, Request<'_>) -> Result<Value, PeerError>;

fn command_of_a_peer(name: &str) -> Option<Command> {
    Some(match name {
        "bundle" => bundle,
        "import" => import,
        "process" => process,
        "encrypt" => encrypt,
        "decrypt" => decrypt,
        "archive" => archive,
        "hasSession" => has_session,
        "save" => |peer, _| Ok(save(peer)),
        "skdmCreate" => skdm_create,
        "skdmProcess" => skdm_process,
        "groupEncrypt" => group_encrypt,
        "groupDecrypt" => group_decrypt,
        "sealEncrypt" => sealed::seal_encrypt,
        "sealMulti" => sealed::seal_multi_command,
        "sealDecrypt" => sealed::seal_decrypt,
        "sealToUsmc" => sealed::seal_to_usmc,
        _ => return None,
    })
}

fn bundle(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let id = peer.next_id();
    let ids = request
        .optional("ids")
        .map(|value| as_object("ids", value))
        .transpose()?;
    let id_of = |name: &str| ids.map_or(Ok(id), |ids| ids.u32_or(name, id));
    let (signed_id, kyber_id, one_time_id) = (id_of("spkId")?, id_of("kpkId")?, id_of("opkId")?);
    let now = request.now()?;
    let identity = &peer.local.key_pair;
    let signed = SignedPreKey::generate(signed_id.into(), identity, now, &mut rng());
    let kyber = KyberPreKey::generate(kyber_id.into(), identity, now, &mut rng());
    let one_time = request
        .flag_or("oneTime", true)
        .then(|| OneTimePreKey::generate(one_time_id.into(), &mut rng()));

    let (signed_public, kyber_public) = (signed.public(), kyber.public());
    let reply = json!({
        "registrationId": peer.local.registration_id,
        "deviceId": peer.device().get(),
        "identityKey": hex::encode(identity.identity_key().as_bytes()),
        "signedPreKey": {
            "id": signed_id,
            "public": hex::encode(signed_public.key.as_bytes()),
            "signature": hex::encode(signed_public.signature),
        },
        "kyberPreKey": {
            "id": kyber_id,
            "public": hex::encode(kyber_public.key.as_bytes()),
            "signature": hex::encode(kyber_public.signature),
        },
        "preKey": one_time.as_ref().map(|prekey| json!({
            "id": one_time_id,
            "public": hex::encode(prekey.public().key.as_bytes()),
        })),
    });
    peer.keep(signed, kyber, one_time);
    Ok(reply)
}

fn import(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let now = request.now()?;
    let identity = &peer.local.key_pair;
    let given = request.object("signedPreKey")?;
    let private = PrivateKey::decode(&given.bytes("private")?)?;
    let signed = SignedPreKey::import(given.u32("id")?.into(), private, identity, now, &mut rng());
    let given = request.object("kyberPreKey")?;
    let pair = kem::KeyPair::decode(&given.bytes("secret")?)?;
    let kyber = KyberPreKey::import(given.u32("id")?.into(), pair, identity, now, &mut rng());
    let one_time = match request.optional("oneTimePreKey") {
        None => None,
        Some(value) => {
            let given = as_object("oneTimePreKey", value)?;
            let private = PrivateKey::decode(&given.bytes("private")?)?;
            Some(OneTimePreKey::import(given.u32("id")?.into(), private))
        }
    };
    peer.keep(signed, kyber, one_time);
    Ok(Value::Null)
}

fn process(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let given = request.object("bundle")?;
    let (signed, kyber) = (given.object("signedPreKey")?, given.object("kyberPreKey")?);
    let bundle = PreKeyBundle {
        registration_id: given.u32("registrationId")?,
        device: DeviceId::new(given.u32("deviceId")?)?,
        identity: IdentityKey::decode(&given.bytes("identityKey")?)?,
        signed: SignedPreKeyPublic {
            id: signed.u32("id")?.into(),
            key: PublicKey::decode(&signed.bytes("public")?)?,
            signature: signature(signed)?,
        },
        kyber: KyberPreKeyPublic {
            id: kyber.u32("id")?.into(),
            key: kem::PublicKey::decode(&kyber.bytes("public")?)?,
            signature: signature(kyber)?,
        },
        one_time: match given.optional("preKey") {
            None => None,
            Some(value) => {
                let prekey = as_object("preKey", value)?;
                Some(OneTimePreKeyPublic {
                    id: prekey.u32("id")?.into(),
                    key: PublicKey::decode(&prekey.bytes("public")?)?,
                })
            }
        },
    };
    peer.process(&request.address("from")?, &bundle.verify()?, request.now()?)?;
    Ok(Value::Null)
}

/// A signature of another length cannot be right.
fn signature(given: Request<'_>) -> Result<[u8; 64], PeerError> {
    let bytes = given.bytes("signature")?;
    bytes
        .try_into()
        .map_err(|_| PeerError::new("invalid_signature", &"signature length"))
}

fn encrypt(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let to = request.address("to")?;
    let sent = peer.encrypt(&to, &request.bytes("plaintext")?, request.now()?)?;
    Ok(json!({ "type": sent.message_type.number(), "message": hex::encode(sent.bytes) }))
}

fn decrypt(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let from = request.address("from")?;
    let message = request.bytes("message")?;
    let number = request.u32("type")?;
    let plaintext = match u8::try_from(number).ok().and_then(MessageType::from_number) {
        Some(MessageType::PreKey) => {
            peer.decrypt_prekey(&from, &PreKeyMessage::decode(&message)?)?
        }
        Some(MessageType::Signal) => peer.decrypt(&from, &SignalMessage::decode(&message)?)?,
        _ => {
            return Err(PeerError::bad(&format!(
                "type {number} is not decrypted here"
            )));
        }
    };
    Ok(json!({ "plaintext": hex::encode(plaintext) }))
}

fn archive(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    peer.archive(&request.address("with")?)?;
    Ok(Value::Null)
}

fn has_session(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let record = peer.session(&request.address("with")?)?;
    Ok(json!({ "value": record.has_usable_current(request.now()?) }))
}

fn save(peer: &Peer) -> Value {
    json!({ "state": hex::encode(peer.save().to_string()) })
}

fn skdm_create(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let message = peer
        .own_sender_key(request.uuid("distributionId")?)
        .distribution_message();
    Ok(json!({ "message": hex::encode(message.encode()) }))
}

fn skdm_process(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let message = DistributionMessage::decode(&request.bytes("message")?)?;
    let from = request.address("from")?;
    peer.sender_key(from, message.distribution_id())
        .process(&message)?;
    Ok(Value::Null)
}

fn group_encrypt(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let key = peer.existing_sender_key(request.uuid("distributionId")?)?;
    let message = key.encrypt(&request.bytes("plaintext")?, &mut rng())?;
    Ok(json!({ "type": MessageType::SenderKey.number(), "message": hex::encode(message) }))
}

fn group_decrypt(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let message = SenderKeyMessage::decode(&request.bytes("message")?)?;
    let record = peer.sender_key(request.address("from")?, message.distribution_id());
    Ok(json!({ "plaintext": hex::encode(record.decrypt(&message)?) }))
}

fn sign(request: Request<'_>) -> Result<Value, PeerError> {
    let key = PrivateKey::decode(&request.bytes("privateKey")?)?;
    let signature = key.sign(&request.bytes("message")?, &mut rng());
    Ok(json!({ "signature": hex::encode(signature) }))
}

fn verify(request: Request<'_>) -> Result<Value, PeerError> {
    let key = PublicKey::decode(&request.bytes("publicKey")?)?;
    let verdict = key.verify(&request.bytes("message")?, &request.bytes("signature")?);
    Ok(json!({ "valid": verdict.is_ok() }))
}

fn fingerprint(request: Request<'_>) -> Result<Value, PeerError> {
    let (local_id, remote_id) = (request.bytes("localId")?, request.bytes("remoteId")?);
    let (local_key, remote_key) = (request.array("localKey")?, request.array("remoteKey")?);
    let fingerprint = Fingerprint::new(
        request.u32_or("version", 2)?,
        request.u32_or("iterations", ITERATIONS)?,
        Party {
            id: &local_id,
            key: &local_key,
        },
        Party {
            id: &remote_id,
            key: &remote_key,
        },
    )?;
    Ok(json!({
        "display": fingerprint.display(),
        "scannable": hex::encode(fingerprint.scannable()),
    }))
}
