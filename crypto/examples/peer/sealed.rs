//! Certificates and sealed sender.

use serde_json::{Value, json};
use wardline_crypto::{
    address::{DeviceAddress, DeviceId, ServiceId},
    curve::{PrivateKey, PublicKey},
    identity::IdentityKey,
    message::{MessageType, PreKeyMessage, SignalMessage},
    sealed_sender::{
        CertificateError, ContentHint, LocalSender, OpenError, Recipient, SealMultiError,
        SealedContent, SenderCertificate, SenderClaims, SentMessage, SentMessageError,
        SentRecipient, ServerCertificate, VerifyError, open, seal, seal_multi,
    },
    timestamp::Timestamp,
};

use crate::{
    error::PeerError,
    request::{Request, as_object, as_text},
    store::{Peer, rng},
};

pub(crate) fn server_cert(request: Request<'_>) -> Result<Value, PeerError> {
    let key = PublicKey::decode(&request.bytes("serverPublic")?)?;
    let root = PrivateKey::decode(&request.bytes("trustRootPrivate")?)?;
    let certificate = ServerCertificate::issue(request.u32("keyId")?, &key, &root, &mut rng());
    Ok(json!({ "certificate": hex::encode(certificate.as_bytes()) }))
}

pub(crate) fn sender_cert(request: Request<'_>) -> Result<Value, PeerError> {
    let e164 = request
        .optional("e164")
        .map(|value| as_text("e164", value))
        .transpose()?;
    let claims = SenderClaims {
        address: DeviceAddress::new(
            request.text("uuid")?,
            DeviceId::new(request.u32("device")?)?,
        ),
        e164: e164.map(str::to_owned),
        identity: IdentityKey::decode(&request.bytes("key")?)?,
        expires: Timestamp::from_millis(request.u64("expires")?),
    };
    let server = ServerCertificate::decode(&request.bytes("serverCert")?)?;
    let key = PrivateKey::decode(&request.bytes("serverPrivate")?)?;
    let certificate = SenderCertificate::issue(claims, server, &key, &mut rng());
    Ok(json!({ "certificate": hex::encode(certificate.as_bytes()) }))
}

pub(crate) fn validate_cert(request: Request<'_>) -> Result<Value, PeerError> {
    let certificate = SenderCertificate::decode(&request.bytes("certificate")?)?;
    let (roots, time) = roots_and_time(request)?;
    Ok(json!({ "valid": certificate.verify(&roots, time).is_ok() }))
}

fn roots_and_time(request: Request<'_>) -> Result<([PublicKey; 1], Timestamp), PeerError> {
    let root = PublicKey::decode(&request.bytes("trustRoot")?)?;
    Ok(([root], Timestamp::from_millis(request.u64("time")?)))
}

pub(crate) fn seal_encrypt(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let to = request.address("to")?;
    let certificate = SenderCertificate::decode(&request.bytes("senderCert")?)?;
    let sent = peer.encrypt(&to, &request.bytes("plaintext")?, request.now()?)?;
    let recipient = remote_identity(peer, &to)?;
    let content = SealedContent::new(
        sent.message_type,
        certificate,
        sent.bytes,
        ContentHint::Default,
        Vec::new(),
    );
    let sealed = seal(&content, &peer.local.key_pair, &recipient, &mut rng())?;
    Ok(json!({ "message": hex::encode(sealed) }))
}

fn remote_identity(peer: &Peer, with: &DeviceAddress) -> Result<IdentityKey, PeerError> {
    let identity = peer.session(with)?.remote_identity().copied();
    identity.ok_or_else(|| PeerError::new("session_not_found", &format!("no session with {with}")))
}

/// One account among the recipients, with what its sessions say.
struct Account {
    service_id: ServiceId,
    identity: IdentityKey,
    devices: Vec<(DeviceId, u32)>,
}

pub(crate) fn seal_multi_command(
    peer: &mut Peer,
    request: Request<'_>,
) -> Result<Value, PeerError> {
    let mut accounts: Vec<Account> = Vec::new();
    for to in request.list("to")? {
        let to = as_object("to", to)?.as_address()?;
        let service_id = service_id(&to.name)?;
        let identity = remote_identity(peer, &to)?;
        let registration_id = peer.session(&to)?.remote_registration_id().unwrap_or(0);
        let device = (to.device, registration_id);
        match accounts
            .last_mut()
            .filter(|account| account.service_id == service_id)
        {
            Some(account) => account.devices.push(device),
            None => accounts.push(Account {
                service_id,
                identity,
                devices: vec![device],
            }),
        }
    }
    let excluded = match request.optional("excluded") {
        None => Vec::new(),
        Some(_) => request
            .list("excluded")?
            .iter()
            .map(|value| service_id(as_text("excluded", value)?))
            .collect::<Result<_, _>>()?,
    };
    let certificate = SenderCertificate::decode(&request.bytes("senderCert")?)?;
    let plaintext = request.bytes("plaintext")?;
    let key = peer.existing_sender_key(request.uuid("distributionId")?)?;
    let message = key.encrypt(&plaintext, &mut rng())?;
    let content = SealedContent::new(
        MessageType::SenderKey,
        certificate,
        message,
        request.u32_or("contentHint", 0)?.into(),
        request.optional_bytes("groupId")?.unwrap_or_default(),
    );
    let recipients: Vec<_> = accounts
        .iter()
        .map(|account| Recipient {
            service_id: account.service_id,
            identity: &account.identity,
            devices: &account.devices,
        })
        .collect();
    let sent = seal_multi(
        &content,
        &peer.local.key_pair,
        &recipients,
        &excluded,
        &mut rng(),
    )?;
    Ok(json!({ "message": hex::encode(sent) }))
}

fn service_id(name: &str) -> Result<ServiceId, PeerError> {
    ServiceId::parse(name).ok_or_else(|| PeerError::bad(&format!("not a service id: {name}")))
}

pub(crate) fn multi_split(request: Request<'_>) -> Result<Value, PeerError> {
    let bytes = request.bytes("message")?;
    let sent = SentMessage::parse(&bytes)?;
    let received = match sent.recipients() {
        [only] if only.devices().len() == 1 => sent.received_form(only),
        _ => None,
    };
    let received = received.ok_or_else(|| PeerError::bad("not exactly one recipient device"))?;
    Ok(json!({ "message": hex::encode(received) }))
}

pub(crate) fn multi_recipients(request: Request<'_>) -> Result<Value, PeerError> {
    let bytes = request.bytes("message")?;
    let sent = SentMessage::parse(&bytes)?;
    let (excluded, recipients): (Vec<_>, Vec<_>) = sent
        .recipients()
        .iter()
        .partition(|recipient| recipient.is_excluded());
    let name = |recipient: &SentRecipient<'_>| recipient.service_id().to_name();
    Ok(json!({
        "excluded": excluded.into_iter().map(name).collect::<Vec<_>>(),
        "recipients": recipients.into_iter().map(|recipient| json!({
            "name": name(recipient),
            "devices": recipient.devices().iter().map(|(id, _)| id.get()).collect::<Vec<_>>(),
            "registrationIds": recipient.devices().iter().map(|(_, id)| *id).collect::<Vec<_>>(),
            "message": sent.received_form(recipient).map(hex::encode),
        })).collect::<Vec<_>>(),
    }))
}

pub(crate) fn seal_decrypt(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let content = open(&request.bytes("message")?, &peer.local.key_pair)?;
    let (roots, time) = roots_and_time(request)?;
    let local = LocalSender {
        address: &peer.local.address,
        e164: None,
    };
    let sender = content.verify(&roots, time, &local)?;
    let plaintext = match content.message_type() {
        MessageType::PreKey => {
            peer.decrypt_prekey(&sender.address, &PreKeyMessage::decode(content.message())?)?
        }
        MessageType::Signal => {
            peer.decrypt(&sender.address, &SignalMessage::decode(content.message())?)?
        }
        MessageType::SenderKey | MessageType::Plaintext => {
            return Err(PeerError::new(
                "invalid_message",
                &"not a message of a session",
            ));
        }
    };
    Ok(json!({
        "plaintext": hex::encode(plaintext),
        "senderUuid": sender.address.name,
        "deviceId": sender.address.device.get(),
        "e164": sender.e164,
    }))
}

pub(crate) fn seal_to_usmc(peer: &mut Peer, request: Request<'_>) -> Result<Value, PeerError> {
    let content = open(&request.bytes("message")?, &peer.local.key_pair)?;
    let group_id = Some(content.group_id()).filter(|id| !id.is_empty());
    Ok(json!({
        "type": content.message_type().number(),
        "contents": hex::encode(content.message()),
        "contentHint": content.hint().number(),
        "groupId": group_id.map(hex::encode),
        "senderCert": hex::encode(content.sender_certificate().as_bytes()),
    }))
}

impl From<CertificateError> for PeerError {
    fn from(error: CertificateError) -> Self {
        Self::new("invalid_certificate", &error)
    }
}

impl From<VerifyError> for PeerError {
    fn from(error: VerifyError) -> Self {
        let kind = match error {
            VerifyError::Certificate(_) => "invalid_certificate",
            VerifyError::SelfSend => "self_send",
        };
        Self::new(kind, &error)
    }
}

impl From<OpenError> for PeerError {
    fn from(error: OpenError) -> Self {
        let kind = match error {
            OpenError::Key(_) | OpenError::KeyAgreement(_) => "invalid_key",
            _ => "invalid_message",
        };
        Self::new(kind, &error)
    }
}

impl From<SealMultiError> for PeerError {
    fn from(error: SealMultiError) -> Self {
        Self::new("other", &error)
    }
}

impl From<SentMessageError> for PeerError {
    fn from(error: SentMessageError) -> Self {
        Self::new("invalid_message", &error)
    }
}
