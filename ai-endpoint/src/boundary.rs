//! The clinic's boundary: a model server is asked only when it lies on this machine or in a private network.
//!
//! The address is judged twice. At start, so that a wrong URL is a clear message and not a leak; and again at every
//! connection, where the very addresses that were judged are the ones connected to, so that a name which changes its
//! answer in between (DNS rebinding) gets no data.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// Why a model URL may not be used.
#[derive(Debug, Error)]
pub enum OutsideBoundary {
    /// Not a URL at all.
    #[error("model.url is not a URL ({0}); write for example http://127.0.0.1:11434")]
    NotAUrl(String),
    /// Something other than `http` or `https`.
    #[error("model.url must begin with http:// or https://, not {0}://")]
    Scheme(String),
    /// User name, password, query or fragment in the URL.
    #[error(
        "model.url must be only scheme, host, port and path: remove {0} (an API key belongs in model.api_key_file)"
    )]
    Extra(&'static str),
    /// No host.
    #[error("model.url names no host")]
    NoHost,
    /// The host is an address outside the boundary, or a name that has one.
    #[error(
        "the model server {host} is outside the clinic's boundary: {address} is {why}. Patients' words may only go to \
         loopback or private addresses (127.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, ::1, fc00::/7, fe80::/10)"
    )]
    Public {
        /// The host as written.
        host: String,
        /// The address that was refused.
        address: IpAddr,
        /// What kind of address it is.
        why: &'static str,
    },
    /// The name resolves to nothing.
    #[error("the model server's name {0} has no address")]
    NoAddress(String),
    /// The name could not be resolved.
    #[error("the model server's name {host} could not be resolved: {source}")]
    Lookup {
        /// The host as written.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
}

/// Says what is wrong with an address, or nothing when it lies inside the boundary.
///
/// Link-local IPv4 (169.254.0.0/16) is outside although nobody routes it: metadata services of cloud hosts live there.
/// The shared range 100.64.0.0/10 belongs to the internet provider, so it is outside too.
pub fn outside(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => outside_v4(v4),
        IpAddr::V6(v6) => outside_v6(v6),
    }
}

fn outside_v4(v4: Ipv4Addr) -> Option<&'static str> {
    if v4.is_loopback() || v4.is_private() {
        None
    } else if v4.is_unspecified() {
        Some("the unspecified address; write 127.0.0.1 if you mean this machine")
    } else if v4.is_link_local() {
        Some("a link-local address, where cloud hosts keep their metadata services")
    } else if v4.is_multicast() || v4.is_broadcast() {
        Some("not the address of one machine")
    } else if matches!(v4.octets(), [100, 64..=127, _, _]) {
        Some("in the range that internet providers share among customers")
    } else {
        Some("a public address")
    }
}

fn outside_v6(v6: Ipv6Addr) -> Option<&'static str> {
    if v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() {
        None
    } else if v6.is_unspecified() {
        Some("the unspecified address; write [::1] if you mean this machine")
    } else if v6.is_multicast() {
        Some("not the address of one machine")
    } else {
        // Translated (64:ff9b::/96), 6to4 and Teredo addresses lead to other networks, whatever they embed.
        Some("a public address")
    }
}

/// Turns a host name into addresses. A trait so that tests can play a rebinding name server.
pub trait Names: Send + Sync + 'static {
    /// All addresses of `host`.
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|socket| socket.ip()).collect())
        })
    }
}

/// A model server's URL that was judged to lie inside the boundary.
#[derive(Clone)]
pub struct InsideUrl {
    url: Url,
    names: Arc<dyn Names>,
}

impl fmt::Debug for InsideUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InsideUrl({})", self.url)
    }
}

impl fmt::Display for InsideUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

impl InsideUrl {
    /// Judges a URL. Every address of a name must be inside; one public address among them is enough to refuse.
    ///
    /// # Errors
    ///
    /// [`OutsideBoundary`], which is written to be shown to the operator.
    pub async fn judge(text: &str, names: Arc<dyn Names>) -> Result<Self, OutsideBoundary> {
        let mut url = Url::parse(text).map_err(|e| OutsideBoundary::NotAUrl(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(OutsideBoundary::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OutsideBoundary::Extra("the user name and password"));
        }
        if url.query().is_some() {
            return Err(OutsideBoundary::Extra("the part after '?'"));
        }
        if url.fragment().is_some() {
            return Err(OutsideBoundary::Extra("the part after '#'"));
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        match url.host() {
            None => return Err(OutsideBoundary::NoHost),
            Some(url::Host::Ipv4(address)) => judge_all(text, &[address.into()])?,
            Some(url::Host::Ipv6(address)) => judge_all(text, &[address.into()])?,
            Some(url::Host::Domain(host)) => {
                let addresses = names.lookup(host.to_owned()).await.map_err(|source| {
                    OutsideBoundary::Lookup {
                        host: host.to_owned(),
                        source,
                    }
                })?;
                judge_all(host, &addresses)?;
            }
        }
        Ok(Self { url, names })
    }

    /// The URL of a path below this one.
    pub fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!(
            "{}{}",
            self.url.path(),
            path.trim_start_matches('/')
        ));
        url
    }

    /// The same server without the last segment of its path when that is `segment`.
    #[must_use]
    pub fn without(&self, segment: &str) -> Self {
        let mut shorter = self.clone();
        if let Some(parent) = self.url.path().strip_suffix(&format!("{segment}/")) {
            shorter.url.set_path(parent);
        }
        shorter
    }

    /// The same server with `path` as the new base.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        Self {
            url: self.at(path),
            ..self.clone()
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The resolver that judges at every connection and hands on only what it judged.
    pub fn resolver(&self) -> Judging {
        Judging {
            names: Arc::clone(&self.names),
        }
    }
}

fn judge_all(host: &str, addresses: &[IpAddr]) -> Result<(), OutsideBoundary> {
    if addresses.is_empty() {
        return Err(OutsideBoundary::NoAddress(host.to_owned()));
    }
    for address in addresses {
        if let Some(why) = outside(*address) {
            return Err(OutsideBoundary::Public {
                host: host.to_owned(),
                address: *address,
                why,
            });
        }
    }
    Ok(())
}

/// See [`InsideUrl::resolver`].
#[derive(Clone)]
pub struct Judging {
    names: Arc<dyn Names>,
}

impl Resolve for Judging {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let lookup = self.names.lookup(host.clone());
        Box::pin(async move {
            let addresses = lookup.await?;
            judge_all(&host, &addresses)?;
            let sockets: Vec<_> = addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            Ok(Box::new(sockets.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Gives one set of addresses after the other, the last one for ever.
    struct Fickle(Mutex<Vec<Vec<IpAddr>>>);

    impl Names for Fickle {
        fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let mut left = self.0.lock().unwrap();
            let answer = if left.len() > 1 {
                left.remove(0)
            } else {
                left[0].clone()
            };
            Box::pin(async move { Ok(answer) })
        }
    }

    fn names(answers: &[&[&str]]) -> Arc<dyn Names> {
        let parsed = answers
            .iter()
            .map(|set| set.iter().map(|a| a.parse().unwrap()).collect());
        Arc::new(Fickle(Mutex::new(parsed.collect())))
    }

    #[test]
    fn addresses_inside_and_outside() {
        for inside in [
            "127.0.0.1",
            "127.9.8.7",
            "10.0.0.5",
            "172.16.0.1",
            "172.31.255.254",
            "192.168.1.20",
            "::1",
            "fd00::1",
            "fc12:3456::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
        ] {
            assert_eq!(outside(inside.parse().unwrap()), None, "{inside}");
        }
        for public in [
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "11.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "100.64.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "::",
            "2001:db8::1",
            "2606:4700::1111",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "ff02::1",
            "fec0::1",
            "::ffff:8.8.8.8",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
        ] {
            assert!(outside(public.parse().unwrap()).is_some(), "{public}");
        }
    }

    #[tokio::test]
    async fn urls_are_judged() {
        let system: Arc<dyn Names> = Arc::new(SystemNames);
        for good in [
            "http://127.0.0.1:11434",
            "http://[::1]:11434/",
            "https://10.2.3.4/models",
            "http://0x7f.1:11434",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(
                InsideUrl::judge(good, Arc::clone(&system)).await.is_ok(),
                "{good}"
            );
        }
        for bad in [
            "127.0.0.1:11434",
            "ftp://127.0.0.1/",
            "http://user:pw@127.0.0.1/",
            "http://127.0.0.1/?a=b",
            "http://127.0.0.1/#x",
            "http://8.8.8.8/",
            "http://134744072/",
            "http://0.0.0.0:11434",
            "http://[2001:db8::1]/",
            "http://[::ffff:8.8.8.8]/",
            "unix:///run/x",
            "",
        ] {
            assert!(
                InsideUrl::judge(bad, Arc::clone(&system)).await.is_err(),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_with_any_public_address_is_refused_with_a_clear_message() {
        let mixed = names(&[&["10.0.0.4", "203.0.113.7"]]);
        let error = InsideUrl::judge("http://models.clinic.example:11434", mixed)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("models.clinic.example") && text.contains("203.0.113.7"),
            "{text}"
        );
        assert!(text.contains("outside the clinic's boundary"), "{text}");
        let none = names(&[&[]]);
        assert!(matches!(
            InsideUrl::judge("http://models.clinic.example", none).await,
            Err(OutsideBoundary::NoAddress(_))
        ));
    }

    #[tokio::test]
    async fn a_name_that_moves_out_after_the_check_gets_no_connection() {
        let moving = names(&[&["127.0.0.1"], &["203.0.113.7"]]);
        let inside = InsideUrl::judge("http://models.clinic.example:9/", moving)
            .await
            .unwrap();
        let again = inside
            .resolver()
            .resolve("models.clinic.example".parse().unwrap())
            .await;
        let refusal = again.err().unwrap().to_string();
        assert!(refusal.contains("203.0.113.7"), "{refusal}");
    }

    #[tokio::test]
    async fn paths_are_kept_below_the_base() {
        let system: Arc<dyn Names> = Arc::new(SystemNames);
        let base = InsideUrl::judge("http://127.0.0.1:1/v1", system)
            .await
            .unwrap();
        assert_eq!(base.at("/chat").as_str(), "http://127.0.0.1:1/v1/chat");
        assert_eq!(
            base.without("v1").at("api/version").as_str(),
            "http://127.0.0.1:1/api/version"
        );
    }
}
