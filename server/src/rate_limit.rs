//! Token buckets, one a key, with a bound on how many keys are remembered.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use wardline_wire::ids::{AccountId, DeviceAddress, Serial};

use crate::config::{LimitsSection, Rate};

/// Keys remembered at once by one limiter. Beyond it, newcomers wait until old
/// ones are swept: an attacker with many addresses must not take all memory.
const MAX_KEYS: usize = 200_000;

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Duration);

impl Wait {
    /// Milliseconds, at least 1.
    pub(crate) fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// The same in 32 bits, as frames carry it.
    pub(crate) fn millis_u32(self) -> u32 {
        u32::try_from(self.millis()).unwrap_or(u32::MAX)
    }
}

/// One bucket a key.
struct Keyed<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    fn new(rate: Rate) -> Self {
        Self {
            limiter: RateLimiter::keyed(quota(rate)),
            clock: DefaultClock::default(),
        }
    }

    fn take(&self, key: &K, amount: u32) -> Result<(), Wait> {
        let Some(amount) = NonZeroU32::new(amount) else {
            return Ok(());
        };
        if self.limiter.len() >= MAX_KEYS {
            self.sweep();
            if self.limiter.len() >= MAX_KEYS {
                return Err(Wait(Duration::from_secs(10)));
            }
        }
        match self.limiter.check_key_n(key, amount) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(Wait(until.wait_time_from(self.clock.now()))),
            // More than the bucket ever holds; the configuration rules it out.
            Err(_) => Err(Wait(Duration::from_mins(1))),
        }
    }

    fn sweep(&self) {
        self.limiter.retain_recent();
    }
}

/// The relay's limits.
pub(crate) struct RateLimits {
    addresses: Keyed<IpAddr>,
    callers: Keyed<CallerKey>,
    sends: Keyed<DeviceAddress>,
    send_kib: Keyed<DeviceAddress>,
    fetches: Keyed<AccountId>,
    pairs: Keyed<(AccountId, AccountId)>,
    invites: Keyed<AccountId>,
    frames: Rate,
}

/// Who makes a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CallerKey {
    Device(DeviceAddress),
    Issuer(Serial),
}

impl RateLimits {
    pub(crate) fn new(limits: &LimitsSection) -> Self {
        Self {
            addresses: Keyed::new(limits.unauthenticated),
            callers: Keyed::new(limits.authenticated),
            sends: Keyed::new(limits.sends),
            send_kib: Keyed::new(limits.send_kib),
            fetches: Keyed::new(limits.fetches),
            pairs: Keyed::new(limits.fetches_per_pair),
            invites: Keyed::new(limits.invites),
            frames: limits.frames,
        }
    }

    /// A request without a token.
    pub(crate) fn address(&self, address: IpAddr) -> Result<(), Wait> {
        self.addresses.take(&network(address), 1)
    }

    /// A request with one.
    pub(crate) fn caller(&self, caller: CallerKey) -> Result<(), Wait> {
        self.callers.take(&caller, 1)
    }

    /// A send to so many accounts with so many bytes of ciphertext.
    pub(crate) fn send(
        &self,
        sender: DeviceAddress,
        recipients: usize,
        bytes: usize,
    ) -> Result<(), Wait> {
        let amount = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        self.sends.take(&sender, amount(recipients))?;
        self.send_kib.take(&sender, amount(bytes.div_ceil(1024)))
    }

    /// A fetch of somebody's bundles.
    pub(crate) fn fetch(&self, requester: AccountId, target: AccountId) -> Result<(), Wait> {
        self.fetches.take(&requester, 1)?;
        self.pairs.take(&(requester, target), 1)
    }

    /// An invite.
    pub(crate) fn invite(&self, inviter: AccountId) -> Result<(), Wait> {
        self.invites.take(&inviter, 1)
    }

    /// A bucket for one socket's frames.
    pub(crate) fn frames(&self) -> FrameLimit {
        FrameLimit {
            limiter: RateLimiter::direct(quota(self.frames)),
            clock: DefaultClock::default(),
        }
    }

    /// Forgets whoever has a full bucket.
    pub(crate) fn sweep(&self) {
        self.addresses.sweep();
        self.callers.sweep();
        self.sends.sweep();
        self.send_kib.sweep();
        self.fetches.sweep();
        self.pairs.sweep();
        self.invites.sweep();
    }
}

/// One socket's frames.
pub(crate) struct FrameLimit {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl FrameLimit {
    pub(crate) fn take(&self) -> Result<(), Wait> {
        self.limiter
            .check()
            .map_err(|until| Wait(until.wait_time_from(self.clock.now())))
    }
}

fn quota(rate: Rate) -> Quota {
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    let period = Duration::from_secs_f64(1.0 / rate.per_second.max(0.000_01));
    Quota::with_period(period.max(Duration::from_nanos(1)))
        .unwrap_or(Quota::per_second(NonZeroU32::MIN))
        .allow_burst(burst)
}

/// An IPv6 customer has a /64 at least: addresses in it are one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) >> 64 << 64;
            IpAddr::V6(prefix.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: Rate) -> RateLimits {
        RateLimits::new(&LimitsSection {
            unauthenticated: rate,
            fetches_per_pair: rate,
            sends: rate,
            ..LimitsSection::default()
        })
    }

    #[test]
    fn a_bucket_runs_out_and_says_how_long() {
        let limits = limits(Rate {
            burst: 2,
            per_second: 0.1,
        });
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(limits.address(here).is_ok() && limits.address(here).is_ok());
        let wait = limits.address(here).unwrap_err();
        assert!((1..=10_000).contains(&wait.millis()), "{wait:?}");
        assert!(limits.address("192.0.2.2".parse().unwrap()).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket() {
        assert_eq!(
            network("2001:db8::1".parse().unwrap()),
            network("2001:db8::ffff".parse().unwrap())
        );
        assert_eq!(
            network("::ffff:192.0.2.1".parse().unwrap()),
            network("192.0.2.1".parse().unwrap())
        );
    }

    #[test]
    fn pairs_are_counted_apart() {
        let limits = limits(Rate {
            burst: 1,
            per_second: 0.001,
        });
        let [a, b, c] = [1, 2, 3].map(|byte| AccountId::from([byte; 16]));
        assert!(limits.fetch(a, b).is_ok());
        assert!(limits.fetch(a, c).is_ok());
        assert!(limits.fetch(a, b).is_err());
        assert!(limits.fetch(c, b).is_ok());
    }

    #[test]
    fn a_send_counts_its_recipients() {
        let limits = limits(Rate {
            burst: 5,
            per_second: 0.001,
        });
        let sender = DeviceAddress {
            account: AccountId::from([1; 16]),
            device: wardline_wire::ids::DeviceId::FIRST,
        };
        assert!(limits.send(sender, 4, 10).is_ok());
        assert!(limits.send(sender, 2, 10).is_err());
        assert!(limits.send(sender, 1, 10).is_ok());
    }
}
