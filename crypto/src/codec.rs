//! The plain layout of what a store keeps: fixed-width big-endian numbers and length-prefixed
//! strings, wiped when dropped. Private to this crate; every record starts with a version byte.

use zeroize::Zeroizing;

use crate::secret::Secret;

/// Why stored bytes are not the record they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredRecordError {
    /// Written by another version of this software; its content was not touched.
    #[error("stored record has format version {found}, this software reads version {expected}")]
    Version {
        /// The version byte that was found.
        found: u8,
        /// The one that this software writes.
        expected: u8,
    },
    /// Too short, too long, or with impossible content: the store is damaged.
    #[error("stored record is damaged")]
    Damaged,
}

/// Appends to a buffer that leaves no unwiped copy behind when it grows.
pub(crate) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// An empty buffer for about `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed * 2));
            larger.extend_from_slice(&self.0);
            self.0 = larger; // the old one is wiped
        }
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.fixed(&[value]);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.fixed(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.fixed(&value.to_be_bytes());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// A 32-bit length, then the bytes. Everything stored is far below 4 GiB.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.fixed(bytes);
    }

    /// What `write` appends, behind its length, without a buffer of its own.
    pub(crate) fn nested(&mut self, write: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.u32(0);
        let start = self.0.len();
        write(self);
        let len = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(at..start) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }

    pub(crate) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Takes values off the front, in the order they were written.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads and checks the leading version byte.
    pub(crate) fn version(bytes: &'a [u8], expected: u8) -> Result<Self, StoredRecordError> {
        match bytes.split_first() {
            None => Err(StoredRecordError::Damaged),
            Some((&found, _)) if found != expected => {
                Err(StoredRecordError::Version { found, expected })
            }
            Some((_, rest)) => Ok(Self(rest)),
        }
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8], StoredRecordError> {
        let (head, tail) = self
            .0
            .split_at_checked(len)
            .ok_or(StoredRecordError::Damaged)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<&'a [u8; N], StoredRecordError> {
        let (head, tail) = self
            .0
            .split_first_chunk()
            .ok_or(StoredRecordError::Damaged)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn secret<const N: usize>(&mut self) -> Result<Secret<N>, StoredRecordError> {
        Secret::from_slice(self.slice(N)?).ok_or(StoredRecordError::Damaged)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, StoredRecordError> {
        let [value] = self.fixed()?;
        Ok(*value)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StoredRecordError> {
        self.fixed().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, StoredRecordError> {
        self.fixed().map(|bytes| u64::from_be_bytes(*bytes))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, StoredRecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(StoredRecordError::Damaged),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], StoredRecordError> {
        let len = usize::try_from(self.u32()?).map_err(|_| StoredRecordError::Damaged)?;
        self.slice(len)
    }

    /// Everything must have been read.
    pub(crate) fn end(self) -> Result<(), StoredRecordError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(StoredRecordError::Damaged)
        }
    }
}
