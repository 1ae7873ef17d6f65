//! Lines out of bytes: split at the newline first, then read as UTF-8, so that a network packet may end anywhere.

use bytes::{Buf, Bytes, BytesMut};

use super::ModelError;

/// Longest line accepted, in bytes. A piece of a stream is a few hundred bytes; a whole answer in one line a few
/// thousand.
pub const LINE_MAX: usize = 1024 * 1024;

/// A bounded buffer that gives whole lines.
pub struct Lines {
    buffer: BytesMut,
    /// How far the buffer is known to hold no newline: a long line is scanned once, not once a packet.
    scanned: usize,
    max: usize,
}

impl Lines {
    /// An empty buffer for lines of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            max,
        }
    }

    /// Adds what the network gave.
    ///
    /// # Errors
    ///
    /// [`ModelError::LineTooLong`] when more than one line's worth waits without a newline.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        self.buffer.extend_from_slice(bytes);
        let tail = self.buffer.get(self.scanned..).unwrap_or_default();
        if self.buffer.len() > self.max && !tail.contains(&b'\n') {
            return Err(ModelError::LineTooLong { limit: self.max });
        }
        Ok(())
    }

    /// The next whole line without its line end, or nothing yet.
    ///
    /// # Errors
    ///
    /// [`ModelError::LineTooLong`] for a line over the limit.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, ModelError> {
        let tail = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(at) = tail.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return Ok(None);
        };
        let mut line = self.buffer.split_to(self.scanned + at);
        self.buffer.advance(1);
        self.scanned = 0;
        if line.len() > self.max {
            return Err(ModelError::LineTooLong { limit: self.max });
        }
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Ok(Some(line.freeze()))
    }

    /// What is left when the stream has ended: a last line without a newline.
    pub fn rest(&mut self) -> Option<Bytes> {
        self.scanned = 0;
        (!self.buffer.is_empty()).then(|| self.buffer.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_lines() {
        let text = "erste é\r\n\n第三 🩺\nletzte".as_bytes();
        for cut in 0..=text.len() {
            let mut lines = Lines::new(100);
            let mut all = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                lines.push(part).unwrap();
                while let Some(line) = lines.next_line().unwrap() {
                    all.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            all.extend(
                lines
                    .rest()
                    .map(|rest| String::from_utf8(rest.to_vec()).unwrap()),
            );
            assert_eq!(all, ["erste é", "", "第三 🩺", "letzte"], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut lines = Lines::new(1000);
        let mut pushed = 0;
        let refused = loop {
            match lines.push(&[b'x'; 100]) {
                Ok(()) => assert!(lines.next_line().unwrap().is_none()),
                Err(error) => break error,
            }
            pushed += 100;
            assert!(pushed <= 1000);
        };
        assert!(matches!(refused, ModelError::LineTooLong { limit: 1000 }));
    }

    #[test]
    fn a_long_line_that_arrives_with_its_end_is_refused_too() {
        let mut lines = Lines::new(10);
        lines.push(b"short\nmuch too long for the limit\n").unwrap();
        assert!(lines.next_line().unwrap().is_some());
        assert!(lines.next_line().is_err());
    }
}
