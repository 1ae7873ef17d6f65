// The official libsignal as a test peer: JSON lines on stdin, one reply each on stdout, in order.
// The commands are those of `crypto/examples/peer.rs`, except `import`, `save` and `load`.
// Set OFFICIAL_PEER_LOG=1 to see on stderr why the library refuses a message.

import { createInterface } from 'node:readline';
import * as signal from '@signalapp/libsignal-client';
import sealedModule from '@signalapp/libsignal-client/dist/SealedSenderMultiRecipientMessage.js';

const MultiRecipientMessage = sealedModule.default ?? sealedModule;

if (process.env.OFFICIAL_PEER_LOG) {
  signal.initLogger(signal.LogLevel.Warn, (_level, target, _file, _line, message) =>
    process.stderr.write(`${target}: ${message}\n`));
}

const hex = (bytes) => Buffer.from(bytes).toString('hex');
const key = (address) => `${address.name()}.${address.deviceId()}`;

/** A mistake of whoever wrote the request. */
class BadRequest extends Error {}

/** A prekey that is not (or no longer) in the store. */
class MissingPreKey extends Error {}

function required(request, name) {
  if (request[name] === undefined || request[name] === null) {
    throw new BadRequest(`missing argument: ${name}`);
  }
  return request[name];
}

function bytes(request, name) {
  const text = required(request, name);
  if (typeof text !== 'string' || text.length % 2 || /[^0-9a-fA-F]/.test(text)) {
    throw new BadRequest(`not hex: ${name}`);
  }
  return new Uint8Array(Buffer.from(text, 'hex'));
}

function address(request, name) {
  const value = required(request, name);
  return signal.ProtocolAddress.new(required(value, 'name'), required(value, 'device'));
}

class Sessions extends signal.SessionStore {
  records = new Map();
  async saveSession(name, record) {
    this.records.set(key(name), record.serialize());
  }
  async getSession(name) {
    const stored = this.records.get(key(name));
    return stored ? signal.SessionRecord.deserialize(stored) : null;
  }
  async getExistingSessions(addresses) {
    return addresses.map((name) => {
      const stored = this.records.get(key(name));
      if (!stored) throw new Error(`no session for ${key(name)}`);
      return signal.SessionRecord.deserialize(stored);
    });
  }
}

class Identities extends signal.IdentityKeyStore {
  known = new Map();
  constructor(privateKey, registrationId) {
    super();
    this.privateKey = privateKey;
    this.registrationId = registrationId;
  }
  async getIdentityKey() {
    return this.privateKey;
  }
  async getLocalRegistrationId() {
    return this.registrationId;
  }
  async saveIdentity(name, identity) {
    const before = this.known.get(key(name));
    const now = identity.serialize();
    this.known.set(key(name), now);
    return before && !Buffer.from(before).equals(Buffer.from(now))
      ? signal.IdentityChange.ReplacedExisting
      : signal.IdentityChange.NewOrUnchanged;
  }
  async isTrustedIdentity(name, identity) {
    const known = this.known.get(key(name));
    return !known || Buffer.from(known).equals(Buffer.from(identity.serialize()));
  }
  async getIdentity(name) {
    const known = this.known.get(key(name));
    return known ? signal.PublicKey.deserialize(known) : null;
  }
}

class PreKeys extends signal.PreKeyStore {
  records = new Map();
  async savePreKey(id, record) {
    this.records.set(id, record.serialize());
  }
  async getPreKey(id) {
    const stored = this.records.get(id);
    if (!stored) throw new MissingPreKey(`no one-time prekey ${id}`);
    return signal.PreKeyRecord.deserialize(stored);
  }
  async removePreKey(id) {
    this.records.delete(id);
  }
}

class SignedPreKeys extends signal.SignedPreKeyStore {
  records = new Map();
  async saveSignedPreKey(id, record) {
    this.records.set(id, record.serialize());
  }
  async getSignedPreKey(id) {
    const stored = this.records.get(id);
    if (!stored) throw new MissingPreKey(`no signed prekey ${id}`);
    return signal.SignedPreKeyRecord.deserialize(stored);
  }
}

/** Every Kyber prekey is treated as a last resort: kept, but no base key is accepted twice. */
class KyberPreKeys extends signal.KyberPreKeyStore {
  records = new Map();
  used = new Set();
  async saveKyberPreKey(id, record) {
    this.records.set(id, record.serialize());
  }
  async getKyberPreKey(id) {
    const stored = this.records.get(id);
    if (!stored) throw new MissingPreKey(`no Kyber prekey ${id}`);
    return signal.KyberPreKeyRecord.deserialize(stored);
  }
  async markKyberPreKeyUsed(id, signedId, baseKey) {
    const use = `${id}.${signedId}.${hex(baseKey.serialize())}`;
    if (this.used.has(use)) throw new Error('reused base key');
    this.used.add(use);
  }
}

class SenderKeys extends signal.SenderKeyStore {
  records = new Map();
  async saveSenderKey(sender, distributionId, record) {
    this.records.set(`${key(sender)}.${distributionId}`, record.serialize());
  }
  async getSenderKey(sender, distributionId) {
    const stored = this.records.get(`${key(sender)}.${distributionId}`);
    return stored ? signal.SenderKeyRecord.deserialize(stored) : null;
  }
}

class Peer {
  nextId = 1;
  constructor(address, registrationId, identity) {
    this.address = address;
    this.identity = identity;
    this.registrationId = registrationId;
    this.sessions = new Sessions();
    this.identities = new Identities(identity, registrationId);
    this.preKeys = new PreKeys();
    this.signedPreKeys = new SignedPreKeys();
    this.kyberPreKeys = new KyberPreKeys();
    this.senderKeys = new SenderKeys();
  }
}

const peers = new Map();

function peerOf(request) {
  const peer = peers.get(required(request, 'peer'));
  if (!peer) throw new BadRequest(`no peer ${request.peer}`);
  return peer;
}

const now = (request) => new Date(request.nowMs ?? Date.now());

const commands = {
  async peer(request) {
    const identity = request.identityPrivate
      ? signal.PrivateKey.deserialize(bytes(request, 'identityPrivate'))
      : signal.PrivateKey.generate();
    const self = signal.ProtocolAddress.new(required(request, 'name'), required(request, 'device'));
    peers.set(required(request, 'peer'), new Peer(self, required(request, 'registrationId'), identity));
    return { identityPublic: hex(identity.getPublicKey().serialize()) };
  },

  async bundle(request) {
    const peer = peerOf(request);
    const id = peer.nextId++;
    const ids = { spkId: id, kpkId: id, opkId: id, ...request.ids };
    const timestamp = now(request).getTime();

    const signed = signal.PrivateKey.generate();
    const signedPublic = signed.getPublicKey();
    const signedSignature = peer.identity.sign(signedPublic.serialize());
    await peer.signedPreKeys.saveSignedPreKey(ids.spkId,
      signal.SignedPreKeyRecord.new(ids.spkId, timestamp, signedPublic, signed, signedSignature));

    const kyber = signal.KEMKeyPair.generate();
    const kyberPublic = kyber.getPublicKey();
    const kyberSignature = peer.identity.sign(kyberPublic.serialize());
    await peer.kyberPreKeys.saveKyberPreKey(ids.kpkId,
      signal.KyberPreKeyRecord.new(ids.kpkId, timestamp, kyber, kyberSignature));

    let preKey = null;
    if (request.oneTime !== false) {
      const oneTime = signal.PrivateKey.generate();
      await peer.preKeys.savePreKey(ids.opkId,
        signal.PreKeyRecord.new(ids.opkId, oneTime.getPublicKey(), oneTime));
      preKey = { id: ids.opkId, public: hex(oneTime.getPublicKey().serialize()) };
    }
    return {
      registrationId: peer.registrationId,
      deviceId: peer.address.deviceId(),
      identityKey: hex(peer.identity.getPublicKey().serialize()),
      signedPreKey: { id: ids.spkId, public: hex(signedPublic.serialize()), signature: hex(signedSignature) },
      kyberPreKey: { id: ids.kpkId, public: hex(kyberPublic.serialize()), signature: hex(kyberSignature) },
      preKey,
    };
  },

  async process(request) {
    const peer = peerOf(request);
    const given = required(request, 'bundle');
    const bundle = signal.PreKeyBundle.new(
      required(given, 'registrationId'),
      required(given, 'deviceId'),
      given.preKey?.id ?? null,
      given.preKey ? signal.PublicKey.deserialize(bytes(given.preKey, 'public')) : null,
      required(given.signedPreKey, 'id'),
      signal.PublicKey.deserialize(bytes(given.signedPreKey, 'public')),
      bytes(given.signedPreKey, 'signature'),
      signal.PublicKey.deserialize(bytes(given, 'identityKey')),
      required(given.kyberPreKey, 'id'),
      signal.KEMPublicKey.deserialize(bytes(given.kyberPreKey, 'public')),
      bytes(given.kyberPreKey, 'signature'),
    );
    await signal.processPreKeyBundle(bundle, address(request, 'from'), peer.address,
      peer.sessions, peer.identities, now(request));
    return {};
  },

  async encrypt(request) {
    const peer = peerOf(request);
    const message = await signal.signalEncrypt(bytes(request, 'plaintext'), address(request, 'to'),
      peer.address, peer.sessions, peer.identities, now(request));
    return { type: message.type(), message: hex(message.serialize()) };
  },

  async decrypt(request) {
    const peer = peerOf(request);
    const from = address(request, 'from');
    const message = bytes(request, 'message');
    switch (required(request, 'type')) {
      case 3:
        return {
          plaintext: hex(await signal.signalDecryptPreKey(
            signal.PreKeySignalMessage.deserialize(message), from, peer.address, peer.sessions,
            peer.identities, peer.preKeys, peer.signedPreKeys, peer.kyberPreKeys)),
        };
      case 2:
        return {
          plaintext: hex(await signal.signalDecrypt(signal.SignalMessage.deserialize(message), from,
            peer.address, peer.sessions, peer.identities)),
        };
      default:
        throw new BadRequest(`type ${request.type} is not decrypted here`);
    }
  },

  async archive(request) {
    const peer = peerOf(request);
    const other = address(request, 'with');
    const record = await peer.sessions.getSession(other);
    if (record) {
      record.archiveCurrentState();
      await peer.sessions.saveSession(other, record);
    }
    return {};
  },

  async hasSession(request) {
    const record = await peerOf(request).sessions.getSession(address(request, 'with'));
    return { value: record ? record.hasCurrentState(now(request)) : false };
  },

  async skdmCreate(request) {
    const peer = peerOf(request);
    const message = await signal.SenderKeyDistributionMessage.create(
      peer.address, required(request, 'distributionId'), peer.senderKeys);
    return { message: hex(message.serialize()) };
  },

  async skdmProcess(request) {
    await signal.processSenderKeyDistributionMessage(address(request, 'from'),
      signal.SenderKeyDistributionMessage.deserialize(bytes(request, 'message')),
      peerOf(request).senderKeys);
    return {};
  },

  async groupEncrypt(request) {
    const peer = peerOf(request);
    const message = await signal.groupEncrypt(peer.address, required(request, 'distributionId'),
      peer.senderKeys, bytes(request, 'plaintext'));
    return { type: message.type(), message: hex(message.serialize()) };
  },

  async groupDecrypt(request) {
    return {
      plaintext: hex(await signal.groupDecrypt(address(request, 'from'), peerOf(request).senderKeys,
        bytes(request, 'message'))),
    };
  },

  async serverCert(request) {
    const certificate = signal.ServerCertificate.new(required(request, 'keyId'),
      signal.PublicKey.deserialize(bytes(request, 'serverPublic')),
      signal.PrivateKey.deserialize(bytes(request, 'trustRootPrivate')));
    return { certificate: hex(certificate.serialize()) };
  },

  async senderCert(request) {
    const certificate = signal.SenderCertificate.new(required(request, 'uuid'), request.e164 ?? null,
      required(request, 'device'), signal.PublicKey.deserialize(bytes(request, 'key')),
      required(request, 'expires'), signal.ServerCertificate.deserialize(bytes(request, 'serverCert')),
      signal.PrivateKey.deserialize(bytes(request, 'serverPrivate')));
    return { certificate: hex(certificate.serialize()) };
  },

  async validateCert(request) {
    const certificate = signal.SenderCertificate.deserialize(bytes(request, 'certificate'));
    const root = signal.PublicKey.deserialize(bytes(request, 'trustRoot'));
    return { valid: certificate.validate(root, required(request, 'time')) };
  },

  async sealEncrypt(request) {
    const peer = peerOf(request);
    const certificate = signal.SenderCertificate.deserialize(bytes(request, 'senderCert'));
    return {
      message: hex(await signal.sealedSenderEncryptMessage(bytes(request, 'plaintext'),
        address(request, 'to'), certificate, peer.sessions, peer.identities)),
    };
  },

  async sealMulti(request) {
    const peer = peerOf(request);
    const inner = await signal.groupEncrypt(peer.address, required(request, 'distributionId'),
      peer.senderKeys, bytes(request, 'plaintext'));
    const content = signal.UnidentifiedSenderMessageContent.new(inner,
      signal.SenderCertificate.deserialize(bytes(request, 'senderCert')),
      request.contentHint ?? signal.ContentHint.Default,
      request.groupId ? bytes(request, 'groupId') : null);
    const recipients = required(request, 'to').map((to) => address({ to }, 'to'));
    const excluded = (request.excluded ?? []).map((id) => signal.ServiceId.parseFromServiceIdString(id));
    return {
      message: hex(await signal.sealedSenderMultiRecipientEncrypt({
        content, recipients, excludedRecipients: excluded,
        identityStore: peer.identities, sessionStore: peer.sessions,
      })),
    };
  },

  async multiSplit(request) {
    return {
      message: hex(signal.sealedSenderMultiRecipientMessageForSingleRecipient(bytes(request, 'message'))),
    };
  },

  async multiRecipients(request) {
    const message = new MultiRecipientMessage(Buffer.from(bytes(request, 'message')));
    const recipients = Object.entries(message.recipientsByServiceIdString()).map(([name, recipient]) => ({
      name,
      devices: recipient.deviceIds,
      registrationIds: recipient.registrationIds,
      message: hex(message.messageForRecipient(recipient)),
    }));
    return { recipients, excluded: message.excludedRecipientServiceIdStrings() };
  },

  async sealDecrypt(request) {
    const peer = peerOf(request);
    const opened = await signal.sealedSenderDecryptMessage(bytes(request, 'message'),
      signal.PublicKey.deserialize(bytes(request, 'trustRoot')), required(request, 'time'), null,
      peer.address.name(), peer.address.deviceId(), peer.sessions, peer.identities, peer.preKeys,
      peer.signedPreKeys, peer.kyberPreKeys);
    return {
      plaintext: hex(opened.message()),
      senderUuid: opened.senderUuid(),
      deviceId: opened.deviceId(),
      e164: opened.senderE164(),
    };
  },

  async sealToUsmc(request) {
    const content = await signal.sealedSenderDecryptToUsmc(bytes(request, 'message'),
      peerOf(request).identities);
    const groupId = content.groupId();
    return {
      type: content.msgType(),
      contents: hex(content.contents()),
      contentHint: content.contentHint(),
      groupId: groupId ? hex(groupId) : null,
      senderCert: hex(content.senderCertificate().serialize()),
    };
  },

  async sign(request) {
    const signer = signal.PrivateKey.deserialize(bytes(request, 'privateKey'));
    return { signature: hex(signer.sign(bytes(request, 'message'))) };
  },

  async verify(request) {
    const signer = signal.PublicKey.deserialize(bytes(request, 'publicKey'));
    return { valid: signer.verify(bytes(request, 'message'), bytes(request, 'signature')) };
  },

  async fingerprint(request) {
    const fingerprint = signal.Fingerprint.new(request.iterations ?? 5200, request.version ?? 2,
      bytes(request, 'localId'), signal.PublicKey.deserialize(bytes(request, 'localKey')),
      bytes(request, 'remoteId'), signal.PublicKey.deserialize(bytes(request, 'remoteKey')));
    return {
      display: fingerprint.displayableFingerprint().toString(),
      scannable: hex(fingerprint.scannableFingerprint().toBuffer()),
    };
  },
};

function kindOf(error) {
  if (error instanceof BadRequest) return 'bad_request';
  const text = String(error.message);
  switch (error.code) {
    case signal.ErrorCode.DuplicatedMessage: return 'duplicated_message';
    case signal.ErrorCode.SealedSenderSelfSend: return 'self_send';
    case signal.ErrorCode.UntrustedIdentity: return 'untrusted_identity';
    case signal.ErrorCode.InvalidSenderKeySession: return 'no_sender_key_state';
    default:
  }
  if (/session with .* not found|no session for|session not found/i.test(text)) return 'session_not_found';
  if (/sender key/i.test(text) && /missing|no /i.test(text)) return 'no_sender_key_state';
  if (/trust root|certificate/i.test(text)) return 'invalid_certificate';
  if (/invalid signature|signature validation|signature/i.test(text)) return 'invalid_signature';
  if (/key agreement|bad key|key type|key length|invalid key/i.test(text)) return 'invalid_key';
  if (/decryption failed|invalid .*message|ciphertext|protobuf|too short|version|duplicat/i.test(text)) {
    return 'invalid_message';
  }
  return 'other';
}

async function answer(line) {
  let request = {};
  try {
    try {
      request = JSON.parse(line);
    } catch {
      throw new BadRequest('not JSON');
    }
    const command = Object.hasOwn(commands, request.cmd) ? commands[request.cmd] : undefined;
    if (!command) throw new BadRequest(`unknown command ${request.cmd}`);
    return { id: request.id, ok: true, ...(await command(request)) };
  } catch (error) {
    return {
      id: request?.id ?? null,
      ok: false,
      error: String(error.message ?? error),
      kind: kindOf(error),
    };
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  if (line.trim()) {
    process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
  }
}
