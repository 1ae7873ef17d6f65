//! Padding: content, one byte 0x80, zero bytes up to the next bucket.
//!
//! The relay sees the bucket and no more. Buckets double up to 64 KiB; the last,
//! 88 KiB, leaves 8 KiB below the relay's limit of 96 KiB for the ratchets'
//! headers (a first message carries a Kyber ciphertext of 1.6 KiB).

use super::ContentError;

/// Sizes of padded content, in bytes.
pub const BUCKETS: [usize; 10] = [
    256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 90_112,
];
/// Most bytes of encoded content: the largest bucket less the 0x80.
pub const MAX_ENCODED_BYTES: usize = 90_111;

/// Pads to the smallest bucket that fits.
///
/// # Errors
/// [`ContentError::TooLarge`] above [`MAX_ENCODED_BYTES`].
pub fn pad(mut encoded: Vec<u8>) -> Result<Vec<u8>, ContentError> {
    let bucket = BUCKETS
        .into_iter()
        .find(|bucket| encoded.len() < *bucket)
        .ok_or(ContentError::TooLarge {
            bytes: encoded.len(),
            limit: MAX_ENCODED_BYTES,
        })?;
    encoded.push(0x80);
    encoded.resize(bucket, 0);
    Ok(encoded)
}

/// Takes the padding off. The length must be a bucket, and the smallest one that
/// fits: a sender that pads otherwise tells more, or hides something, in sizes.
///
/// # Errors
/// [`ContentError::Padding`] for any other form.
pub fn unpad(padded: &[u8]) -> Result<&[u8], ContentError> {
    let end = padded
        .iter()
        .rposition(|byte| *byte != 0)
        .ok_or(ContentError::Padding)?;
    let (encoded, rest) = padded.split_at(end);
    let fitting = BUCKETS.into_iter().find(|bucket| encoded.len() < *bucket);
    if rest.first() == Some(&0x80) && fitting == Some(padded.len()) {
        Ok(encoded)
    } else {
        Err(ContentError::Padding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_show_buckets_only() {
        for length in [0, 1, 255, 256, 511, 512, 65_535, 65_536, 90_111] {
            let padded = pad(vec![0x80; length]).unwrap();
            assert!(BUCKETS.contains(&padded.len()));
            assert_eq!(unpad(&padded).unwrap(), vec![0x80; length]);
        }
        assert_eq!(pad(vec![1; 255]).unwrap().len(), 256);
        assert_eq!(pad(vec![1; 256]).unwrap().len(), 512);
        assert!(matches!(
            pad(vec![0; 90_112]),
            Err(ContentError::TooLarge { bytes: 90_112, .. })
        ));
    }

    #[test]
    fn other_padding_is_refused() {
        let good = pad(b"words".to_vec()).unwrap();
        assert_eq!(unpad(&[]), Err(ContentError::Padding));
        assert_eq!(unpad(&[0; 256]), Err(ContentError::Padding));
        // Not a bucket, a larger bucket than needed, another marker, something behind it.
        assert_eq!(unpad(&good[..255]), Err(ContentError::Padding));
        let mut large = good.clone();
        large.resize(512, 0);
        assert_eq!(unpad(&large), Err(ContentError::Padding));
        let mut marker = good.clone();
        marker[5] = 0x81;
        assert_eq!(unpad(&marker), Err(ContentError::Padding));
        let mut behind = good;
        behind[200] = 1;
        assert_eq!(unpad(&behind), Err(ContentError::Padding));
    }
}
