//! The field GF(2^16) of the erasure code: modulus x^16 + x^12 + x^3 + x + 1.
//!
//! Knows nothing of chunks or payloads. Addition is XOR and needs no function.
//!
//! Everything computed here is chunk data, which travels in the clear beside the
//! ciphertext (a post-quantum key, its ciphertext and their MACs), and chunk
//! numbers. No operand is secret, so nothing here has to run in constant time.
//! Multiplication is shift-and-add all the same: a table of logarithms would
//! push 256 KiB through the caches for a few hundred products, and sixteen lanes
//! at a time the shifts vectorise.

/// What x^16 reduces to: x^12 + x^3 + x + 1.
const TAIL: u16 = 0x100B;

/// How many 16-bit lanes a 32-byte chunk has.
pub(super) const LANES: usize = 16;

/// The lanes of one chunk, or a running sum of them.
pub(super) type Lanes = [u16; LANES];

/// The product `a · b`.
pub(super) const fn mul(a: u16, b: u16) -> u16 {
    let mut product: u32 = 0;
    let mut bit = 0;
    while bit < 16 {
        let mask = 0u32.wrapping_sub((b as u32 >> bit) & 1);
        product ^= ((a as u32) << bit) & mask;
        bit += 1;
    }
    // The product has degree ≤ 30. Each fold replaces the part above x^15, of
    // degree d, by one of degree ≤ d − 4, so four folds empty it.
    let mut fold = 0;
    while fold < 4 {
        let high = product >> 16;
        product = (product & 0xFFFF) ^ (high << 12) ^ (high << 3) ^ (high << 1) ^ high;
        fold += 1;
    }
    low_half(product)
}

/// The inverse of `a`, as a^(2^16 − 2); zero for zero, which has none.
pub(super) const fn inverse(a: u16) -> u16 {
    // 2^16 − 2 is fifteen ones and a zero in binary.
    let mut square = a;
    let mut result = 1;
    let mut bit = 1;
    while bit < 16 {
        square = mul(square, square);
        result = mul(result, square);
        bit += 1;
    }
    result
}

/// `sum += factor · lanes`, lane by lane.
pub(super) fn multiply_add(sum: &mut Lanes, lanes: &Lanes, factor: u16) {
    let mut shifted = *lanes;
    for bit in 0..16 {
        let mask = 0u16.wrapping_sub((factor >> bit) & 1);
        for (sum, lane) in sum.iter_mut().zip(&mut shifted) {
            *sum ^= *lane & mask;
            *lane = (*lane << 1) ^ (0u16.wrapping_sub(*lane >> 15) & TAIL);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half was folded away"
)]
const fn low_half(value: u32) -> u16 {
    value as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors = crate::common::vectors("spqr-units.json");
        let cases = vectors["gf65536"]["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 8);
        for case in cases {
            let number = |name: &str| u16::try_from(case[name].as_u64().unwrap()).unwrap();
            let (a, b) = (number("a"), number("b"));
            assert_eq!(mul(a, b), number("product"));
            assert_eq!(mul(b, a), number("product"));
            if !case["inverseOfA"].is_null() {
                assert_eq!(inverse(a), number("inverseOfA"));
            }
        }
    }

    #[test]
    fn every_element_has_its_inverse() {
        assert_eq!(inverse(0), 0);
        for a in (1..=u16::MAX).step_by(7) {
            assert_eq!(mul(a, inverse(a)), 1, "{a}");
        }
    }

    #[test]
    fn lanes_agree_with_single_products() {
        let lanes: Lanes = std::array::from_fn(|i| u16::try_from(i * 4099 + 77).unwrap());
        for factor in [0, 1, 2, 0x8000, 0xFFFF, 12345] {
            let mut sum = [0x5A5A; LANES];
            multiply_add(&mut sum, &lanes, factor);
            for (sum, lane) in sum.iter().zip(&lanes) {
                assert_eq!(*sum, 0x5A5A ^ mul(*lane, factor));
            }
        }
    }
}
