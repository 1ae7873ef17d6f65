//! Keys of messages that others overtook, kept until they come. Bounded by whoever keeps them.

use crate::secret::{Secret, wipe};

/// Keys as `u32be(index) ‖ key`, in ascending order.
///
/// Flat, because it is copied, stored and loaded around every message. Bytes that a key leaves
/// behind, in the tail after a removal or in a buffer outgrown, are wiped.
#[derive(Clone, Default)]
pub(crate) struct SkippedKeys(Vec<u8>);

impl SkippedKeys {
    pub(crate) const ENTRY: usize = 4 + 32;

    /// An empty set with room for `count` keys.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count * Self::ENTRY))
    }

    /// Appends a key; `index` is above all others.
    pub(crate) fn push(&mut self, index: u32, key: &Secret<32>) {
        self.make_room(Self::ENTRY);
        self.0.extend_from_slice(&index.to_be_bytes());
        self.0.extend_from_slice(key.as_bytes());
    }

    /// Appends keys that are all above those held.
    pub(crate) fn append(&mut self, newer: &Self) {
        self.make_room(newer.0.len());
        self.0.extend_from_slice(&newer.0);
    }

    /// The key of `index`.
    pub(crate) fn get(&self, index: u32) -> Option<Secret<32>> {
        let at = self.position(index).ok()? * Self::ENTRY;
        Secret::from_slice(self.0.get(at + 4..at + Self::ENTRY)?)
    }

    /// Removes and returns the key of `index`.
    pub(crate) fn take(&mut self, index: u32) -> Option<Secret<32>> {
        let position = self.position(index).ok()?;
        let key = self.get(index)?;
        self.remove(position, position + 1);
        Some(key)
    }

    /// Forgets every key with an index below `index`.
    pub(crate) fn forget_before(&mut self, index: u32) {
        let (Ok(end) | Err(end)) = self.position(index);
        if end > 0 {
            self.remove(0, end);
        }
    }

    /// Grows the buffer, if it must, without leaving the old one behind.
    fn make_room(&mut self, additional: usize) {
        let needed = self.0.len() + additional;
        if needed > self.0.capacity() {
            let mut grown = Vec::with_capacity(needed.max(self.0.len() * 2).max(4 * Self::ENTRY));
            grown.extend_from_slice(&self.0);
            wipe(&mut self.0);
            self.0 = grown;
        }
    }

    /// Where the entry of `index` is, or would be.
    fn position(&self, index: u32) -> Result<usize, usize> {
        let (entries, _) = self.0.as_chunks::<{ Self::ENTRY }>();
        entries.binary_search_by_key(&index, entry_index)
    }

    /// Removes the entries from `start` to before `end`, both within bounds.
    fn remove(&mut self, start: usize, end: usize) {
        let (start, end) = (start * Self::ENTRY, end * Self::ENTRY);
        let kept = self.0.len() - (end - start);
        self.0.copy_within(end.., start);
        if let Some(tail) = self.0.get_mut(kept..) {
            wipe(tail);
        }
        self.0.truncate(kept);
    }

    /// Forgets the oldest keys beyond `count`.
    pub(crate) fn keep_newest(&mut self, count: usize) {
        let excess = (self.0.len() / Self::ENTRY).saturating_sub(count);
        if excess > 0 {
            self.remove(0, excess);
        }
    }

    /// The stored form.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes over the stored form if it is whole, in order, and of at most `limit` keys.
    pub(crate) fn decode(bytes: &[u8], limit: usize) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<{ Self::ENTRY }>();
        let ordered = entries.is_sorted_by(|a, b| entry_index(a) < entry_index(b));
        let fits = entries.len() <= limit;
        (rest.is_empty() && ordered && fits).then(|| Self(bytes.to_vec()))
    }
}

impl Drop for SkippedKeys {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn entry_index(entry: &[u8; SkippedKeys::ENTRY]) -> u32 {
    let [a, b, c, d, ..] = *entry;
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(indexes: impl IntoIterator<Item = u32>) -> SkippedKeys {
        let mut keys = SkippedKeys::default();
        for index in indexes {
            keys.push(index, &Secret::new([u8::try_from(index).unwrap(); 32]));
        }
        keys
    }

    fn held(keys: &SkippedKeys) -> Vec<u32> {
        keys.0.as_chunks().0.iter().map(entry_index).collect()
    }

    #[test]
    fn a_key_is_taken_once() {
        let mut keys = keys([1, 3, 4, 9]);
        assert_eq!(keys.take(3), Some(Secret::new([3; 32])));
        assert_eq!(keys.take(3), None);
        assert_eq!(keys.take(2), None);
        assert_eq!(held(&keys), [1, 4, 9]);
    }

    #[test]
    fn old_keys_are_forgotten() {
        let mut keys = keys([1, 3, 4, 9, 10]);
        keys.forget_before(4);
        assert_eq!(held(&keys), [4, 9, 10]);
        keys.keep_newest(2);
        assert_eq!(held(&keys), [9, 10]);
        keys.forget_before(100);
        assert!(keys.as_bytes().is_empty());
        keys.keep_newest(2);
    }

    #[test]
    fn stored_form_is_checked() {
        let bytes = keys([1, 3]).as_bytes().to_vec();
        assert_eq!(held(&SkippedKeys::decode(&bytes, 2).unwrap()), [1, 3]);
        assert!(SkippedKeys::decode(&bytes, 1).is_none());
        assert!(SkippedKeys::decode(&bytes[1..], 2).is_none());
        let (first, second) = bytes.split_at(SkippedKeys::ENTRY);
        assert!(SkippedKeys::decode(&[second, first].concat(), 2).is_none());
        assert!(SkippedKeys::decode(&[first, first].concat(), 2).is_none());
    }
}
