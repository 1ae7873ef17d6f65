//! Little-endian base-128 numbers, as protobuf writes them.

/// Appends a little-endian base-128 number.
#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes a little-endian base-128 number of at most ten bytes.
pub(crate) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = *rest.split_off_first()?;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_it_writes(value: u64, rest: [u8; 3]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert!(bytes.len() <= 10);
            bytes.extend(rest);
            let mut input = &bytes[..];
            prop_assert_eq!(take_varint(&mut input), Some(value));
            prop_assert_eq!(input, rest);
        }
    }

    #[test]
    fn too_long_or_too_large() {
        assert_eq!(take_varint(&mut &[0x80; 9][..]), None);
        let mut largest = vec![0xFF; 9];
        largest.push(1);
        assert_eq!(take_varint(&mut &largest[..]), Some(u64::MAX));
        largest[9] = 2;
        assert_eq!(take_varint(&mut &largest[..]), None);
        largest[9] = 0x81;
        largest.push(0);
        assert_eq!(take_varint(&mut &largest[..]), None);
    }
}
