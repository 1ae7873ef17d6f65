//! SPQR messages as bytes (spec §4.6).

use super::{SpqrError, erasure::Chunk};
use crate::varint::{put_varint, take_varint};

/// The only version spoken.
const VERSION: u8 = 1;

/// What travels in field 5 of a signal message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    /// The sender's braid epoch, at least 1.
    pub(super) epoch: u64,
    /// Which key of the sender's chain the message uses, at least 1.
    pub(super) index: u32,
    /// The sender's next move in the braid.
    pub(super) payload: Payload,
}

/// A move in the braid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Payload {
    /// Nothing to say.
    None,
    /// A piece of an encapsulation key's header and its MAC.
    Header(Chunk),
    /// A piece of the key vector.
    Key(Chunk),
    /// The same from a sender that has all of the first ciphertext part.
    KeyCt1Ack(Chunk),
    /// "I have the first ciphertext part", when there is nothing else to send.
    Ct1Ack,
    /// A piece of the first ciphertext part.
    Ct1(Chunk),
    /// A piece of the second ciphertext part and the ciphertext's MAC.
    Ct2(Chunk),
}

impl Message {
    /// The wire form: 37 bytes with a chunk, 4 without, while numbers are small.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, chunk) = match &self.payload {
            Payload::None => (0, None),
            Payload::Header(chunk) => (1, Some(chunk)),
            Payload::Key(chunk) => (2, Some(chunk)),
            Payload::KeyCt1Ack(chunk) => (3, Some(chunk)),
            Payload::Ct1Ack => (4, None),
            Payload::Ct1(chunk) => (5, Some(chunk)),
            Payload::Ct2(chunk) => (6, Some(chunk)),
        };
        let mut bytes = Vec::with_capacity(56);
        bytes.push(VERSION);
        put_varint(&mut bytes, self.epoch);
        put_varint(&mut bytes, self.index.into());
        bytes.push(kind);
        if let Some(chunk) = chunk {
            put_varint(&mut bytes, chunk.index.into());
            bytes.extend_from_slice(&chunk.data);
        }
        bytes
    }

    /// Reads the wire form. Bytes after the end are ignored, as the official library does.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SpqrError> {
        let Some((&version, mut rest)) = bytes.split_first() else {
            return Err(SpqrError::UnsupportedVersion(0));
        };
        if version != VERSION {
            return Err(SpqrError::UnsupportedVersion(version));
        }
        Self::decode_body(&mut rest).ok_or(SpqrError::Malformed)
    }

    fn decode_body(rest: &mut &[u8]) -> Option<Self> {
        let epoch = take_varint(rest).filter(|epoch| *epoch != 0)?;
        let index = u32::try_from(take_varint(rest)?)
            .ok()
            .filter(|index| *index != 0)?;
        let kind = *rest.split_off_first()?;
        let payload = match kind {
            0 => Payload::None,
            1 => Payload::Header(take_chunk(rest)?),
            2 => Payload::Key(take_chunk(rest)?),
            3 => Payload::KeyCt1Ack(take_chunk(rest)?),
            4 => Payload::Ct1Ack,
            5 => Payload::Ct1(take_chunk(rest)?),
            6 => Payload::Ct2(take_chunk(rest)?),
            _ => return None,
        };
        Some(Self {
            epoch,
            index,
            payload,
        })
    }
}

fn take_chunk(rest: &mut &[u8]) -> Option<Chunk> {
    let index = u16::try_from(take_varint(rest)?).ok()?;
    let (data, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(Chunk { index, data: *data })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(payload: Payload) -> Message {
        Message {
            epoch: 1,
            index: 1,
            payload,
        }
    }

    #[test]
    fn sizes_and_layout() {
        let chunk = Chunk {
            index: 2,
            data: [0xCC; 32],
        };
        let bytes = message(Payload::Ct1(chunk)).encode();
        assert_eq!(bytes.len(), 37);
        assert_eq!(bytes[..5], [1, 1, 1, 5, 2]);
        assert_eq!(message(Payload::Ct1Ack).encode(), [1, 1, 1, 4]);
    }

    #[test]
    fn refused() {
        let unsupported = |v| Err(SpqrError::UnsupportedVersion(v));
        assert_eq!(Message::decode(&[]), unsupported(0));
        assert_eq!(Message::decode(&[0, 1, 1, 0]), unsupported(0));
        assert_eq!(Message::decode(&[2, 1, 1, 0]), unsupported(2));
        let over_u32 = [1, 1, 0x80, 0x80, 0x80, 0x80, 0x10, 0];
        let over_u64 = [
            1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 1, 0,
        ];
        let eleven = [
            1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 1, 0,
        ];
        let mut big_chunk_index = vec![1, 1, 1, 1, 0x80, 0x80, 4];
        big_chunk_index.extend([0; 32]);
        let mut short_chunk = vec![1, 1, 1, 1, 0];
        short_chunk.extend([0; 31]);
        for bad in [
            &[1][..],
            &[1, 0, 1, 0], // epoch 0
            &[1, 1, 0, 0], // index 0
            &[1, 1, 1],
            &[1, 1, 1, 7],
            &over_u32,
            &over_u64,
            &eleven,
            &big_chunk_index,
            &short_chunk,
        ] {
            assert_eq!(Message::decode(bad), Err(SpqrError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn trailing_bytes_are_ignored() {
        assert_eq!(
            Message::decode(&[1, 1, 1, 0, 9, 9]),
            Ok(message(Payload::None))
        );
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(
            epoch in 1..=u64::MAX, index in 1..=u32::MAX, chunk: u16, data: [u8; 32], kind in 0..7,
        ) {
            let chunk = Chunk { index: chunk, data };
            let payload = match kind {
                0 => Payload::None,
                1 => Payload::Header(chunk),
                2 => Payload::Key(chunk),
                3 => Payload::KeyCt1Ack(chunk),
                4 => Payload::Ct1Ack,
                5 => Payload::Ct1(chunk),
                _ => Payload::Ct2(chunk),
            };
            let message = Message { epoch, index, payload };
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = Message::decode(&bytes);
        }
    }
}
