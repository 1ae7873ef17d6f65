//! The erasure code: a payload as 32-byte chunks, any sufficient number of which
//! restore it (spec §4.4).
//!
//! A payload of `n` chunks is read as sixteen polynomials of degree below `n`, one
//! per 16-bit lane, through the points x = 0 … n−1. Chunk `i` is their values at
//! x = i: for `i < n` a piece of the payload itself, beyond that parity. Knows
//! nothing of what the payloads mean and cannot tell a wrong chunk from a right
//! one: MACs and hashes over the whole payload do that.

use super::gf::{self, Lanes};
use crate::codec::{Reader, StoredRecordError, Writer};

/// Bytes in a chunk.
pub(super) const CHUNK_LEN: usize = 32;

/// One chunk on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chunk {
    /// Which point of the polynomials this is.
    pub(crate) index: u16,
    /// Their values there, lane by lane, big-endian.
    pub(crate) data: [u8; CHUNK_LEN],
}

/// Hands out the chunks of a payload, in order and without end.
///
/// The payload itself stays with whoever calls: every braid state holds it anyway.
#[derive(Clone, Copy, Default)]
pub(super) struct Encoder {
    next: u16,
}

impl Encoder {
    /// An encoder that goes on at chunk `next`.
    pub(super) fn resume(next: u16) -> Self {
        Self { next }
    }

    /// The number of the chunk that comes next.
    pub(super) fn next_index(self) -> u16 {
        self.next
    }

    /// The next chunk of `payload`, whose length is a non-zero multiple of 32.
    /// After chunk 65,535 comes chunk 0 again.
    pub(super) fn next_chunk(&mut self, payload: &[u8]) -> Chunk {
        let index = self.next;
        self.next = index.wrapping_add(1);
        Chunk {
            index,
            data: chunk_at(payload, index),
        }
    }
}

/// Collects chunks until the `LEN` bytes of payload, a non-zero multiple of 32, can be restored.
/// Holds at most as many chunks as the payload has.
#[derive(Clone, Default)]
pub(super) struct Decoder<const LEN: usize> {
    /// Distinct indexes, in order of arrival.
    chunks: Vec<Chunk>,
}

impl<const LEN: usize> Decoder<LEN> {
    const NEEDED: usize = LEN / CHUNK_LEN;

    /// A decoder that holds nothing yet.
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::with_capacity(Self::NEEDED),
        }
    }

    /// Takes one chunk, and returns the payload when it was the last one needed.
    /// A repeated index is ignored.
    pub(super) fn add(&mut self, chunk: Chunk) -> Option<Box<[u8; LEN]>> {
        if self.chunks.len() < Self::NEEDED && !self.chunks.iter().any(|c| c.index == chunk.index) {
            self.chunks.push(chunk);
        }
        (self.chunks.len() == Self::NEEDED).then(|| Box::new(self.payload()))
    }

    /// How many bytes [`Self::encode`] appends.
    pub(super) fn encoded_len(&self) -> usize {
        1 + self.chunks.len() * (2 + CHUNK_LEN)
    }

    /// Appends the stored form.
    pub(super) fn encode(&self, out: &mut Writer) {
        out.u8(u8::try_from(self.chunks.len()).unwrap_or(u8::MAX));
        for chunk in &self.chunks {
            out.fixed(&chunk.index.to_be_bytes());
            out.fixed(&chunk.data);
        }
    }

    /// Reads the stored form of an unfinished decoder.
    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        let mut decoder = Self::new();
        for _ in 0..from.u8()? {
            let chunk = Chunk {
                index: u16::from_be_bytes(*from.fixed()?),
                data: *from.fixed()?,
            };
            if decoder.add(chunk).is_some() {
                return Err(StoredRecordError::Damaged);
            }
        }
        Ok(decoder)
    }

    fn payload(&self) -> [u8; LEN] {
        let mut payload = [0; LEN];
        let (pieces, _) = payload.as_chunks_mut::<CHUNK_LEN>();
        let mut missing = vec![true; pieces.len()];
        for chunk in &self.chunks {
            let at = usize::from(chunk.index);
            if let (Some(piece), Some(missing)) = (pieces.get_mut(at), missing.get_mut(at)) {
                *piece = chunk.data;
                *missing = false;
            }
        }
        if missing.contains(&true) {
            let points: Vec<u16> = self.chunks.iter().map(|c| c.index).collect();
            let lanes: Vec<Lanes> = self.chunks.iter().map(|c| to_lanes(&c.data)).collect();
            let weights = inverse_weights(&points);
            for ((piece, index), missing) in pieces.iter_mut().zip(0u16..).zip(missing) {
                if missing {
                    *piece = from_lanes(&interpolate(&points, &lanes, &weights, index));
                }
            }
        }
        payload
    }
}

/// Chunk `index` of `payload`.
fn chunk_at(payload: &[u8], index: u16) -> [u8; CHUNK_LEN] {
    let (pieces, _) = payload.as_chunks::<CHUNK_LEN>();
    if let Some(piece) = pieces.get(usize::from(index)) {
        return *piece;
    }
    let points: Vec<u16> = (0u16..).take(pieces.len()).collect();
    let lanes: Vec<Lanes> = pieces.iter().map(to_lanes).collect();
    // The payloads of the protocol have their weights computed by the compiler.
    let value = match pieces.len() {
        3 => interpolate(&points, &lanes, &WEIGHTS_3, index),
        5 => interpolate(&points, &lanes, &WEIGHTS_5, index),
        30 => interpolate(&points, &lanes, &WEIGHTS_30, index),
        36 => interpolate(&points, &lanes, &WEIGHTS_36, index),
        _ => interpolate(&points, &lanes, &inverse_weights(&points), index),
    };
    from_lanes(&value)
}

/// The values at `x`, which is none of `points`, of the polynomials through
/// (`points[k]`, `lanes[k]`). `weights` are the [`inverse_weights`] of the points.
///
/// Lagrange: `Σ lanes[k] · weights[k] · Π_{j≠k} (x − points[j])`. The products come
/// from running products to the left and to the right of k, without a division.
fn interpolate(points: &[u16], lanes: &[Lanes], weights: &[u16], x: u16) -> Lanes {
    let mut right = 1;
    let mut right_products: Vec<u16> = points
        .iter()
        .rev()
        .map(|point| {
            let product = right;
            right = gf::mul(right, x ^ point);
            product
        })
        .collect();
    right_products.reverse();

    let mut sum = [0; gf::LANES];
    let mut left = 1;
    for (((point, lanes), weight), right) in
        points.iter().zip(lanes).zip(weights).zip(right_products)
    {
        let factor = gf::mul(gf::mul(left, right), *weight);
        gf::multiply_add(&mut sum, lanes, factor);
        left = gf::mul(left, x ^ point);
    }
    sum
}

/// For each k, `1 / Π_{j≠k} (points[k] − points[j])`. The points are distinct.
fn inverse_weights(points: &[u16]) -> Vec<u16> {
    points
        .iter()
        .map(|point| {
            let others = points.iter().filter(|other| *other != point);
            gf::inverse(others.fold(1, |product, other| gf::mul(product, point ^ other)))
        })
        .collect()
}

const WEIGHTS_3: [u16; 3] = systematic_weights();
const WEIGHTS_5: [u16; 5] = systematic_weights();
const WEIGHTS_30: [u16; 30] = systematic_weights();
const WEIGHTS_36: [u16; 36] = systematic_weights();

/// The [`inverse_weights`] of the points 0 … N−1.
#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler only, with N ≤ 36"
)]
const fn systematic_weights<const N: usize>() -> [u16; N] {
    let mut weights = [0; N];
    let mut k = 0;
    while k < N {
        let mut product = 1;
        let mut j = 0;
        while j < N {
            if j != k {
                product = gf::mul(product, (k ^ j) as u16);
            }
            j += 1;
        }
        weights[k] = gf::inverse(product);
        k += 1;
    }
    weights
}

fn to_lanes(data: &[u8; CHUNK_LEN]) -> Lanes {
    let mut lanes = [0; gf::LANES];
    for (lane, bytes) in lanes.iter_mut().zip(data.as_chunks::<2>().0) {
        *lane = u16::from_be_bytes(*bytes);
    }
    lanes
}

fn from_lanes(lanes: &Lanes) -> [u8; CHUNK_LEN] {
    let mut data = [0; CHUNK_LEN];
    for (lane, bytes) in lanes.iter().zip(data.as_chunks_mut::<2>().0) {
        *bytes = lane.to_be_bytes();
    }
    data
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::common;

    fn chunks(payload: &[u8], indexes: impl IntoIterator<Item = u16>) -> Vec<Chunk> {
        indexes
            .into_iter()
            .map(|index| Encoder::resume(index).next_chunk(payload))
            .collect()
    }

    fn decode<const LEN: usize>(chunks: Vec<Chunk>) -> Option<Vec<u8>> {
        let mut decoder = Decoder::<LEN>::new();
        chunks
            .into_iter()
            .find_map(|chunk| decoder.add(chunk))
            .map(|payload| payload.to_vec())
    }

    #[test]
    fn vectors() {
        let vectors = common::vectors("spqr-units.json");
        let cases = vectors["erasure"].as_array().unwrap();
        assert_eq!(cases.len(), 4);
        for case in cases {
            let payload = common::bytes(case, "payload");
            assert_eq!(
                payload.len() / CHUNK_LEN,
                usize::try_from(case["systematicChunks"].as_u64().unwrap()).unwrap()
            );
            let mut recorded = Vec::new();
            for chunk in case["chunks"].as_array().unwrap() {
                let index = u16::try_from(chunk["index"].as_u64().unwrap()).unwrap();
                let data: [u8; 32] = common::array(chunk, "data");
                assert_eq!(chunk_at(&payload, index), data, "chunk {index}");
                recorded.push(Chunk { index, data });
            }
            // The recorded chunks, last ones first and completed by the first
            // ones, give the payload back.
            recorded.reverse();
            recorded.extend(chunks(&payload, 0..36));
            let decoded = match payload.len() {
                96 => decode::<96>(recorded),
                160 => decode::<160>(recorded),
                960 => decode::<960>(recorded),
                _ => decode::<1152>(recorded),
            };
            assert_eq!(decoded, Some(payload));
        }
    }

    #[test]
    fn compiled_weights_are_the_computed_ones() {
        let computed = |n| inverse_weights(&(0..n).collect::<Vec<u16>>());
        assert_eq!(computed(3), WEIGHTS_3);
        assert_eq!(computed(5), WEIGHTS_5);
        assert_eq!(computed(30), WEIGHTS_30);
        assert_eq!(computed(36), WEIGHTS_36);
    }

    #[test]
    fn repeats_do_not_count() {
        let payload: [u8; 96] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let sent = chunks(&payload, [7, 7, 1, 7, 1, 900]);
        let mut decoder = Decoder::<96>::new();
        let mut results = sent.into_iter().map(|chunk| decoder.add(chunk));
        assert!(results.by_ref().take(5).all(|result| result.is_none()));
        assert_eq!(results.next(), Some(Some(Box::new(payload))));
    }

    #[test]
    fn index_wraps_after_65535() {
        let payload = [9; 96];
        let mut encoder = Encoder::resume(u16::MAX);
        assert_eq!(encoder.next_chunk(&payload).index, u16::MAX);
        assert_eq!(encoder.next_chunk(&payload).index, 0);
    }

    #[test]
    fn stored_form_goes_on() {
        let payload: [u8; 160] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let mut decoder = Decoder::<160>::new();
        for chunk in chunks(&payload, [9, 0, 700, 3]) {
            assert!(decoder.add(chunk).is_none());
            let mut out = Writer::with_capacity(0);
            decoder.encode(&mut out);
            let bytes = out.finish();
            assert_eq!(bytes.len(), decoder.encoded_len());
            let mut reader = Reader::new(&bytes);
            decoder = Decoder::decode(&mut reader).unwrap();
            reader.end().unwrap();
        }
        let last = chunks(&payload, [4]).remove(0);
        assert_eq!(decoder.add(last), Some(Box::new(payload)));
    }

    fn check_any_order<const LEN: usize>(seed: u8, order: &[u16]) {
        let payload: Vec<u8> = (0..LEN)
            .map(|i| u8::try_from(i % 251).unwrap().wrapping_mul(seed | 1))
            .collect();
        let needed = LEN / CHUNK_LEN;
        let sent = chunks(&payload, order.iter().copied());
        assert_eq!(decode::<LEN>(sent[..needed].to_vec()), Some(payload));
        assert_eq!(decode::<LEN>(sent[..needed - 1].to_vec()), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_n_distinct_chunks_restore_the_payload(
            seed: u8,
            order in prop::collection::hash_set(prop_oneof![0..40u16, any::<u16>()], 40),
        ) {
            let order: Vec<u16> = order.into_iter().collect();
            check_any_order::<96>(seed, &order);
            check_any_order::<160>(seed, &order);
            check_any_order::<224>(seed, &order); // not a size of the protocol
            check_any_order::<960>(seed, &order);
            check_any_order::<1152>(seed, &order);
        }
    }
}
