//! One device's envelopes, numbered as the proxy pleases.

use std::collections::BTreeMap;

use wardline_wire::proto::{Acknowledge, Deliver, Envelope, ServerFrame, server_frame};

/// Which number of the relay's hides behind which number the device was shown.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    epoch: u64,
    /// Shown number to the relay's; 0 for what the relay never sent.
    shown: BTreeMap<u64, u64>,
}

impl Numbering {
    /// A new epoch starts its numbers anew.
    pub(super) fn set_epoch(&mut self, epoch: u64) {
        if self.epoch != epoch {
            *self = Self {
                epoch,
                shown: BTreeMap::new(),
            };
        }
    }

    /// The frame that delivers these envelopes, under the next numbers. What
    /// goes out again because it was never acknowledged keeps its number.
    pub(super) fn deliver(&mut self, envelopes: Vec<Envelope>) -> ServerFrame {
        let envelopes = envelopes
            .into_iter()
            .map(|mut envelope| {
                if !envelope.ephemeral {
                    envelope.seq = self.number(envelope.seq);
                }
                envelope
            })
            .collect();
        ServerFrame {
            frame: Some(server_frame::Frame::Deliver(Deliver {
                epoch: self.epoch,
                envelopes,
            })),
        }
    }

    fn number(&mut self, real: u64) -> u64 {
        let last = self.shown.last_key_value().map(|(shown, _)| *shown);
        let next = last.map_or(real.max(1), |last| last + 1);
        self.shown.insert(next, real);
        next
    }

    /// The number under which something that the relay sent was shown already.
    pub(super) fn shown_as(&self, real: u64) -> Option<u64> {
        self.shown
            .iter()
            .find_map(|(shown, known)| (*known == real).then_some(*shown))
    }

    /// Where the device believes its mailbox ends when the relay's ends at `newest`.
    pub(super) fn newest(&self, newest: u64) -> u64 {
        let Some((last, _)) = self.shown.last_key_value() else {
            return newest;
        };
        let real = self.shown.values().copied().max().unwrap_or_default();
        last + newest.saturating_sub(real)
    }

    /// The relay's version of what the device acknowledges; `None` when that is nothing.
    pub(super) fn acknowledge(&self, acknowledge: Acknowledge) -> Option<Acknowledge> {
        if acknowledge.epoch != self.epoch || self.shown.is_empty() {
            return Some(acknowledge);
        }
        let seq = self
            .shown
            .range(..=acknowledge.seq)
            .map(|(_, real)| *real)
            .max()
            .filter(|real| *real > 0)?;
        Some(Acknowledge {
            epoch: acknowledge.epoch,
            seq,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(frame: &ServerFrame) -> Vec<u64> {
        match &frame.frame {
            Some(server_frame::Frame::Deliver(deliver)) => {
                deliver.envelopes.iter().map(|e| e.seq).collect()
            }
            _ => panic!("not a delivery"),
        }
    }

    fn envelope(seq: u64) -> Envelope {
        Envelope {
            seq,
            ..Envelope::default()
        }
    }

    fn acknowledged(numbering: &Numbering, seq: u64) -> Option<u64> {
        numbering
            .acknowledge(Acknowledge { epoch: 1, seq })
            .map(|ack| ack.seq)
    }

    #[test]
    fn an_honest_proxy_changes_no_number() {
        let mut numbering = Numbering::default();
        numbering.set_epoch(1);
        let frame = numbering.deliver(vec![envelope(7), envelope(8)]);
        assert_eq!(numbers(&frame), [7, 8]);
        assert_eq!(acknowledged(&numbering, 7), Some(7));
        assert_eq!(acknowledged(&numbering, 8), Some(8));
        assert_eq!(numbering.newest(9), 9);
    }

    #[test]
    fn what_is_dropped_or_injected_leaves_no_trace() {
        let mut numbering = Numbering::default();
        numbering.set_epoch(1);
        // 8 is dropped, one is made up, and the order is turned around.
        let frame = numbering.deliver(vec![envelope(7), envelope(0), envelope(10), envelope(9)]);
        assert_eq!(numbers(&frame), [7, 8, 9, 10]);
        assert_eq!(acknowledged(&numbering, 8), Some(7));
        assert_eq!(acknowledged(&numbering, 10), Some(10));
        assert_eq!(numbering.shown_as(9), Some(10));
        assert_eq!(numbering.newest(12), 12);
        numbering.set_epoch(2);
        assert_eq!(numbers(&numbering.deliver(vec![envelope(1)])), [1]);
    }
}
