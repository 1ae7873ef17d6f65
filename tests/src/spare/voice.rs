//! Real sessions for a spare device: what it says decrypts at the other end,
//! whatever it is.

use std::collections::HashMap;

use anyhow::Context as _;
use getrandom::SysRng;
use prost::Message as _;
use rand_core::UnwrapErr;
use reqwest::Method;
use wardline_crypto::address::{DeviceAddress as SignalAddress, DeviceId as SignalDeviceId};
use wardline_crypto::identity::{IdentityKey, LocalIdentity};
use wardline_crypto::kem;
use wardline_crypto::message::{MessageType, SignalMessage};
use wardline_crypto::prekey::{
    KyberPreKeyPublic, OneTimePreKeyPublic, PreKeyBundle, SignedPreKeyPublic,
};
use wardline_crypto::session::{Parties, SessionRecord, Trust};
use wardline_crypto::timestamp::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress};
use wardline_wire::proto::{
    self, AccountRecord, BundleSet, CiphertextType, DeviceBundle, DeviceCiphertext,
};

use super::{SpareAccount, SpareDevice, now};

/// Sizes that content is padded to, as `content.proto` has them.
const BUCKETS: [usize; 10] = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 90112];

/// One spare device's sessions.
pub struct Voice {
    account: SpareAccount,
    device: SpareDevice,
    sessions: HashMap<DeviceAddress, SessionRecord>,
}

impl Voice {
    /// The voice of one of the account's devices, past ones included.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn of(account: &SpareAccount, device: u32) -> anyhow::Result<Self> {
        Ok(Self {
            account: account.clone(),
            device: account.device(device)?.clone(),
            sessions: HashMap::new(),
        })
    }

    /// Encrypts `content` for every device on the list that the relay shows for
    /// `to`. The spare account's device 1 fetches the bundles: it need not be the
    /// device that speaks.
    ///
    /// # Errors
    /// When the relay refuses the record or the bundles.
    pub async fn encrypt(
        &mut self,
        to: AccountId,
        content: &[u8],
    ) -> anyhow::Result<Vec<DeviceCiphertext>> {
        let record: AccountRecord = self.account.look_up(to).await?;
        let list = record.device_list.context("no device list")?;
        let list = proto::DeviceList::decode(list.payload.as_slice())?;
        let mut ciphertexts = Vec::new();
        for device in list.devices {
            let address = DeviceAddress {
                account: to,
                device: wardline_wire::ids::DeviceId::new(device.id)?,
            };
            if !self.sessions.contains_key(&address) {
                let bundle = self.fetch(address).await?;
                self.initiate(address, bundle)?;
            }
            ciphertexts.push(self.seal(address, device.registration_id, content)?);
        }
        Ok(ciphertexts)
    }

    /// Opens what came back in a session that this voice began; the padding is taken off.
    ///
    /// # Errors
    /// When there is no such session, or it does not open the message.
    pub fn decrypt(&mut self, from: DeviceAddress, ciphertext: &[u8]) -> anyhow::Result<Vec<u8>> {
        let local = self.local()?;
        let remote = signal_address(from)?;
        let opened = self
            .sessions
            .get_mut(&from)
            .with_context(|| format!("no session with {from}"))?
            .decrypt(
                &parties(&local, &remote),
                &SignalMessage::decode(ciphertext)?,
                &mut UnwrapErr(SysRng),
            )?;
        let mut plaintext = opened.plaintext;
        while plaintext.pop_if(|last| *last == 0).is_some() {}
        anyhow::ensure!(plaintext.pop() == Some(0x80), "the padding is not one");
        Ok(plaintext)
    }

    async fn fetch(&self, address: DeviceAddress) -> anyhow::Result<DeviceBundle> {
        let request = proto::BundleRequest {
            account_id: address.account.to_vec(),
            device_ids: vec![address.device.into()],
            access_key: Vec::new(),
        };
        let set: BundleSet = self
            .account
            .call(1, Method::POST, "/v1/keys/fetch", request.encode_to_vec())
            .await?
            .message()?;
        set.bundles
            .into_iter()
            .next()
            .with_context(|| format!("{address} has no prekeys"))
    }

    fn initiate(&mut self, address: DeviceAddress, bundle: DeviceBundle) -> anyhow::Result<()> {
        let bundle = to_crypto(bundle)?
            .verify()
            .context("the bundle's signatures do not fit")?;
        let local = self.local()?;
        let remote = signal_address(address)?;
        let mut record = SessionRecord::new();
        record
            .initiate(
                &parties(&local, &remote),
                &bundle,
                signal_now(),
                &mut UnwrapErr(SysRng),
            )
            .context("no session")?;
        self.sessions.insert(address, record);
        Ok(())
    }

    fn seal(
        &mut self,
        address: DeviceAddress,
        registration_id: u32,
        content: &[u8],
    ) -> anyhow::Result<DeviceCiphertext> {
        let local = self.local()?;
        let remote = signal_address(address)?;
        let message = self
            .sessions
            .get_mut(&address)
            .context("no session")?
            .encrypt(
                &parties(&local, &remote),
                &pad(content)?,
                signal_now(),
                &mut UnwrapErr(SysRng),
            )?;
        let kind = match message.message_type {
            MessageType::PreKey => CiphertextType::Prekey,
            _ => CiphertextType::Signal,
        };
        Ok(DeviceCiphertext {
            device_id: address.device.into(),
            registration_id,
            r#type: kind.into(),
            ciphertext: message.bytes.into(),
        })
    }

    fn local(&self) -> anyhow::Result<LocalIdentity> {
        Ok(LocalIdentity {
            key_pair: self.device.identity.clone(),
            registration_id: self.device.registration_id,
            address: signal_address(self.device.address)?,
        })
    }
}

fn parties<'a>(local: &'a LocalIdentity, remote: &'a SignalAddress) -> Parties<'a> {
    Parties {
        local,
        remote,
        trusted: Trust::FirstUse,
    }
}

fn signal_address(address: DeviceAddress) -> anyhow::Result<SignalAddress> {
    let device = SignalDeviceId::new(address.device.into())?;
    Ok(SignalAddress::new(address.account.to_string(), device))
}

fn signal_now() -> Timestamp {
    Timestamp::from_millis(now().as_millis())
}

/// `content ‖ 0x80 ‖ 0x00*`, up to the next bucket.
fn pad(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let bucket = BUCKETS
        .into_iter()
        .find(|bucket| *bucket > content.len())
        .context("too long")?;
    let mut padded = content.to_vec();
    padded.push(0x80);
    padded.resize(bucket, 0);
    Ok(padded)
}

fn to_crypto(bundle: DeviceBundle) -> anyhow::Result<PreKeyBundle> {
    let signed = bundle.signed_prekey.context("no signed prekey")?;
    let kyber = bundle.kyber_prekey.context("no Kyber prekey")?;
    let signature =
        |bytes: Vec<u8>| <[u8; 64]>::try_from(bytes).map_err(|_| anyhow::anyhow!("signature"));
    let point = |bytes: &[u8]| anyhow::Ok(*IdentityKey::decode(bytes)?.public_key());
    Ok(PreKeyBundle {
        registration_id: bundle.registration_id,
        device: SignalDeviceId::new(bundle.device_id)?,
        identity: IdentityKey::decode(&bundle.identity_key)?,
        signed: SignedPreKeyPublic {
            id: signed.id.into(),
            key: point(&signed.public_key)?,
            signature: signature(signed.signature)?,
        },
        kyber: KyberPreKeyPublic {
            id: kyber.id.into(),
            key: kem::PublicKey::decode(&kyber.public_key)?,
            signature: signature(kyber.signature)?,
        },
        one_time: bundle
            .one_time_prekey
            .map(|key| {
                anyhow::Ok(OneTimePreKeyPublic {
                    id: key.id.into(),
                    key: point(&key.public_key)?,
                })
            })
            .transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_fills_the_bucket() {
        assert_eq!(pad(&[7; 255]).unwrap().len(), 256);
        assert_eq!(pad(&[7; 256]).unwrap().len(), 512);
        let padded = pad(b"x").unwrap();
        assert_eq!(&padded[..3], b"x\x80\x00");
        assert!(pad(&vec![0; 90112]).is_err());
    }
}
