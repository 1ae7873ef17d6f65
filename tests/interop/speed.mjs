// How long the official library takes for the steps that `crypto/examples/speed.rs` times, with
// stores that keep serialised records as well.

import * as signal from '@signalapp/libsignal-client';

const key = (address) => `${address.name()}.${address.deviceId()}`;

class Sessions extends signal.SessionStore {
  records = new Map();
  async saveSession(name, record) { this.records.set(key(name), record.serialize()); }
  async getSession(name) {
    const stored = this.records.get(key(name));
    return stored ? signal.SessionRecord.deserialize(stored) : null;
  }
  async getExistingSessions() { return []; }
}

class Identities extends signal.IdentityKeyStore {
  constructor(identity) { super(); this.identity = identity; }
  async getIdentityKey() { return this.identity; }
  async getLocalRegistrationId() { return 7; }
  async saveIdentity() { return signal.IdentityChange.NewOrUnchanged; }
  async isTrustedIdentity() { return true; }
  async getIdentity() { return null; }
}

class Records {
  constructor(type) { this.type = type; }
  records = new Map();
  get(id) { return this.type.deserialize(this.records.get(id)); }
}
class PreKeys extends signal.PreKeyStore {
  keep = new Records(signal.PreKeyRecord);
  async savePreKey(id, record) { this.keep.records.set(id, record.serialize()); }
  async getPreKey(id) { return this.keep.get(id); }
  async removePreKey() {}
}
class SignedPreKeys extends signal.SignedPreKeyStore {
  keep = new Records(signal.SignedPreKeyRecord);
  async saveSignedPreKey(id, record) { this.keep.records.set(id, record.serialize()); }
  async getSignedPreKey(id) { return this.keep.get(id); }
}
class KyberPreKeys extends signal.KyberPreKeyStore {
  keep = new Records(signal.KyberPreKeyRecord);
  async saveKyberPreKey(id, record) { this.keep.records.set(id, record.serialize()); }
  async getKyberPreKey(id) { return this.keep.get(id); }
  async markKyberPreKeyUsed() {}
}

class Device {
  constructor(name) {
    this.address = signal.ProtocolAddress.new(name, 1);
    this.identity = signal.PrivateKey.generate();
    this.identities = new Identities(this.identity);
    this.preKeys = new PreKeys();
    this.signedPreKeys = new SignedPreKeys();
    this.kyberPreKeys = new KyberPreKeys();
    this.forget();
    this.signed = signal.PrivateKey.generate();
    this.kyber = signal.KEMKeyPair.generate();
    this.oneTime = signal.PrivateKey.generate();
    this.signedSignature = this.identity.sign(this.signed.getPublicKey().serialize());
    this.kyberSignature = this.identity.sign(this.kyber.getPublicKey().serialize());
  }
  forget() { this.sessions = new Sessions(); }
  async store() {
    await this.signedPreKeys.saveSignedPreKey(1, signal.SignedPreKeyRecord.new(
      1, 1, this.signed.getPublicKey(), this.signed, this.signedSignature));
    await this.kyberPreKeys.saveKyberPreKey(1, signal.KyberPreKeyRecord.new(
      1, 1, this.kyber, this.kyberSignature));
    await this.preKeys.savePreKey(1, signal.PreKeyRecord.new(
      1, this.oneTime.getPublicKey(), this.oneTime));
  }
  bundle() {
    return signal.PreKeyBundle.new(7, 1, 1, this.oneTime.getPublicKey(), 1,
      this.signed.getPublicKey(), this.signedSignature, this.identity.getPublicKey(), 1,
      this.kyber.getPublicKey(), this.kyberSignature);
  }
  initiate(peer) {
    return signal.processPreKeyBundle(peer.bundle(), peer.address, this.address, this.sessions,
      this.identities);
  }
  async send(peer) {
    const sent = await signal.signalEncrypt(text, peer.address, this.address, this.sessions,
      this.identities);
    return { type: sent.type(), bytes: sent.serialize() };
  }
  receive(peer, sent) {
    return sent.type === 3
      ? signal.signalDecryptPreKey(signal.PreKeySignalMessage.deserialize(sent.bytes),
        peer.address, this.address, this.sessions, this.identities, this.preKeys,
        this.signedPreKeys, this.kyberPreKeys)
      : signal.signalDecrypt(signal.SignalMessage.deserialize(sent.bytes), peer.address,
        this.address, this.sessions, this.identities);
  }
}

const text = new Uint8Array(100).fill(120);
const ROUNDS = 7;

async function established() {
  const alice = new Device('11111111-0000-4000-8000-000000000001');
  const bob = new Device('22222222-0000-4000-8000-000000000002');
  await bob.store();
  await alice.initiate(bob);
  await bob.receive(alice, await alice.send(bob));
  await alice.receive(bob, await bob.send(alice));
  return [alice, bob];
}

async function measure(name, steps, round) {
  const times = [];
  for (let n = 0; n < ROUNDS; n++) times.push(await round());
  times.sort((a, b) => a - b);
  const micros = (times[ROUNDS >> 1] * 1000) / steps;
  console.log(`${name.padEnd(44)} ${micros.toFixed(1).padStart(9)} µs`);
}

async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

await measure('prekeys of one device', 20, () => timed(async () => {
  for (let n = 0; n < 20; n++) await new Device('11111111-0000-4000-8000-000000000001').store();
}));
await measure('initiate, first message, accept', 50, async () => {
  const [alice, bob] = await established();
  return timed(async () => {
    for (let n = 0; n < 50; n++) {
      alice.forget();
      bob.forget();
      await alice.initiate(bob);
      await bob.receive(alice, await alice.send(bob));
    }
  });
});
await measure('encrypt, one way', 2000, async () => {
  const [alice, bob] = await established();
  return timed(async () => {
    for (let n = 0; n < 2000; n++) await alice.send(bob);
  });
});
await measure('decrypt, one way', 2000, async () => {
  const [alice, bob] = await established();
  const sent = [];
  for (let n = 0; n < 2000; n++) sent.push(await alice.send(bob));
  return timed(async () => {
    for (const message of sent) await bob.receive(alice, message);
  });
});
await measure('one message there and one back', 1000, async () => {
  const [alice, bob] = await established();
  return timed(async () => {
    for (let n = 0; n < 1000; n++) {
      await bob.receive(alice, await alice.send(bob));
      await alice.receive(bob, await bob.send(alice));
    }
  });
});
