//! Small checks that every kind of content shares.

use std::ops::RangeInclusive;

use wardline_wire::ids::{IdError, PayloadHash};

use super::ContentError;

/// Turns an id's error into the name of the field.
pub(super) fn bad(field: &'static str) -> impl FnOnce(IdError) -> ContentError {
    move |_| ContentError::Field(field)
}

/// Exactly `N` bytes.
pub(super) fn array<const N: usize>(
    bytes: &[u8],
    field: &'static str,
) -> Result<[u8; N], ContentError> {
    bytes.try_into().map_err(|_| ContentError::Field(field))
}

/// A text whose length in bytes is within bounds.
pub(super) fn text(
    text: String,
    bytes: RangeInclusive<usize>,
    field: &'static str,
) -> Result<String, ContentError> {
    if bytes.contains(&text.len()) {
        Ok(text)
    } else {
        Err(ContentError::Field(field))
    }
}

/// A list with a bounded number of entries, each read by `read`.
pub(super) fn list<T, U>(
    items: &[T],
    count: RangeInclusive<usize>,
    field: &'static str,
    read: impl FnMut(&T) -> Result<U, ContentError>,
) -> Result<Vec<U>, ContentError> {
    if count.contains(&items.len()) {
        items.iter().map(read).collect()
    } else {
        Err(ContentError::Field(field))
    }
}

/// Hashes of signed payloads.
pub(super) fn hash_list(
    hashes: &[Vec<u8>],
    most: usize,
    field: &'static str,
) -> Result<Vec<PayloadHash>, ContentError> {
    list(hashes, 0..=most, field, |hash| {
        PayloadHash::from_slice(hash).map_err(bad(field))
    })
}

/// Gives types that hold content a `Debug` that shows their name only.
macro_rules! non_printing {
    ($($name:ident),+ $(,)?) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })+
    };
}
pub(crate) use non_printing;
