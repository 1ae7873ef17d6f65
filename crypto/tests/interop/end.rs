//! One device in one of the two programs, and what it can be told to do.

use serde_json::{Map, Value, json};
use wardline_crypto::message::{PreKeyMessage, SignalMessage};

use crate::process::{Process, Refusal};

/// A fixed time for everything: 2027-01-15.
pub const NOW: u64 = 1_800_000_000_000;

/// A device, named by its address within its program.
#[derive(Clone)]
pub struct End {
    pub handle: String,
    pub name: String,
    pub device: u32,
}

/// An encrypted message under way.
#[derive(Clone)]
pub struct Sent {
    pub kind: u64,
    pub bytes: Vec<u8>,
    pub plaintext: String,
}

impl End {
    /// Makes the device.
    pub fn create(process: &mut Process, handle: &str, name: &str, device: u32) -> Self {
        let end = Self {
            handle: handle.into(),
            name: name.into(),
            device,
        };
        let arguments = json!({ "peer": handle, "name": name, "device": device, "registrationId": 1000 + device });
        process.call("peer", arguments).unwrap();
        end
    }

    pub fn address(&self) -> Value {
        json!({ "name": self.name, "device": self.device })
    }

    pub fn bundle(&self, process: &mut Process, one_time: bool) -> Value {
        let arguments = json!({ "peer": self.handle, "oneTime": one_time, "nowMs": NOW });
        let mut bundle = process.call("bundle", arguments).unwrap();
        bundle.remove("id");
        bundle.remove("ok");
        Value::Object(bundle)
    }

    pub fn process(
        &self,
        process: &mut Process,
        from: &Self,
        bundle: &Value,
    ) -> Result<(), Refusal> {
        let arguments =
            json!({ "peer": self.handle, "from": from.address(), "bundle": bundle, "nowMs": NOW });
        process.call("process", arguments).map(drop)
    }

    pub fn send(&self, process: &mut Process, to: &Self, plaintext: &str) -> Sent {
        self.try_send(process, to, plaintext).unwrap()
    }

    pub fn try_send(
        &self,
        process: &mut Process,
        to: &Self,
        plaintext: &str,
    ) -> Result<Sent, Refusal> {
        let arguments = json!({ "peer": self.handle, "to": to.address(), "plaintext": hex::encode(plaintext), "nowMs": NOW });
        let reply = process.call("encrypt", arguments)?;
        Ok(Sent {
            kind: reply["type"].as_u64().unwrap(),
            bytes: bytes(&reply, "message"),
            plaintext: plaintext.into(),
        })
    }

    pub fn receive(
        &self,
        process: &mut Process,
        from: &Self,
        sent: &Sent,
    ) -> Result<String, Refusal> {
        let arguments = json!({ "peer": self.handle, "from": from.address(), "type": sent.kind, "message": hex::encode(&sent.bytes) });
        let reply = process.call("decrypt", arguments)?;
        Ok(String::from_utf8_lossy(&bytes(&reply, "plaintext")).into_owned())
    }

    /// Receives, and must get the plaintext.
    #[track_caller]
    pub fn reads(&self, process: &mut Process, from: &Self, sent: &Sent) {
        let read = self.receive(process, from, sent);
        assert_eq!(
            read.as_deref(),
            Ok(sent.plaintext.as_str()),
            "{}",
            self.handle
        );
    }

    /// Receives, and must refuse for this reason.
    #[track_caller]
    pub fn refuses(&self, process: &mut Process, from: &Self, sent: &Sent, kind: &str) {
        let refusal = self
            .receive(process, from, sent)
            .expect_err("a message that is refused");
        assert_eq!(refusal.kind, kind, "{}: {}", self.handle, refusal.text);
    }

    pub fn archive(&self, process: &mut Process, with: &Self) {
        let arguments = json!({ "peer": self.handle, "with": with.address() });
        process.call("archive", arguments).unwrap();
    }

    pub fn has_session(&self, process: &mut Process, with: &Self, now: u64) -> bool {
        let arguments = json!({ "peer": self.handle, "with": with.address(), "nowMs": now });
        process.call("hasSession", arguments).unwrap()["value"]
            .as_bool()
            .unwrap()
    }

    /// Writes the device's state out and reads it back in (our program only).
    pub fn restart(&self, process: &mut Process) {
        let saved = process
            .call("save", json!({ "peer": self.handle }))
            .unwrap();
        let arguments = json!({ "peer": self.handle, "state": saved["state"] });
        process.call("load", arguments).unwrap();
    }
}

impl Sent {
    /// The post-quantum epoch that the sender is in.
    pub fn epoch(&self) -> u64 {
        let inner = match self.kind {
            3 => PreKeyMessage::decode(&self.bytes)
                .unwrap()
                .message()
                .clone(),
            _ => SignalMessage::decode(&self.bytes).unwrap(),
        };
        let mut epoch = 0;
        for (index, byte) in inner.pq_ratchet()[1..].iter().enumerate() {
            epoch |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                break;
            }
        }
        epoch
    }

    /// The same message with one byte changed.
    pub fn flipped(&self, at: usize, mask: u8) -> Self {
        let mut sent = self.clone();
        sent.bytes[at] ^= mask;
        sent
    }
}

pub fn bytes(reply: &Map<String, Value>, name: &str) -> Vec<u8> {
    hex::decode(reply[name].as_str().unwrap()).unwrap()
}
