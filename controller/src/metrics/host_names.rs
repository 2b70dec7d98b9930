//! Names by which clients may reach the endpoint.
//!
//! A web page can make a browser's name for its own server point to this host (DNS rebinding), and so read what the
//! endpoint serves. Such a request has the foreign name in its `Host`.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::Request;
use http::header::HOST;
use http::uri::Authority;

/// Names of this server, beside addresses and `localhost`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HostNames(Vec<String>);

impl FromStr for HostNames {
    type Err = Infallible;

    /// Parses a list, separated by commas.
    fn from_str(list: &str) -> Result<Self, Infallible> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self(names.map(str::to_ascii_lowercase).collect()))
    }
}

impl HostNames {
    /// Returns true if the request names this server, or no server.
    pub fn admits<B>(&self, request: &Request<B>) -> bool {
        let named = request.uri().authority().cloned().map(Ok);
        let named = named.or_else(|| Some(request.headers().get(HOST)?.as_bytes().try_into()));
        // HTTP/1.0 has requests without a name.
        named.is_none_or(|authority| {
            authority.is_ok_and(|authority: Authority| self.contains(authority.host()))
        })
    }

    fn contains(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        host == "localhost"
            || host.parse::<Ipv4Addr>().is_ok()
            || bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
            || self.0.contains(&host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(host: &str) -> bool {
        let names: HostNames = "lb1, LB1.example.com,,".parse().unwrap();
        names.admits(&Request::builder().uri("/metrics").header(HOST, host).body(()).unwrap())
    }

    #[test]
    fn own_names_and_addresses_are_admitted() {
        for host in [
            "192.0.2.1",
            "192.0.2.1:9091",
            "[2001:db8::1]",
            "[::1]:9091",
            "localhost",
            "LOCALHOST:9091",
            "lb1:9091",
            "Lb1.Example.com",
            "lb1.example.com.",
        ] {
            assert!(admits(host), "{host}");
        }
        let names = HostNames::default();
        assert!(names.admits(&Request::builder().uri("/metrics").body(()).unwrap()), "HTTP/1.0");
        assert!(names.admits(&Request::builder().uri("http://127.0.0.1:9091/metrics").body(()).unwrap()));
    }

    #[test]
    fn foreign_names_are_refused() {
        for host in [
            "",
            "evil.example",
            "evil.example:9091",
            "lb1.evil.example",
            "192.0.2.1.evil.example",
            "localhost.evil.example",
            "2001:db8::1",
            "[evil.example]",
            "user@lb1@evil.example",
            "lb1 evil.example",
        ] {
            assert!(!admits(host), "{host}");
        }
        let names = HostNames::default();
        let absolute = Request::builder().uri("http://evil.example/metrics").header(HOST, "localhost");
        assert!(!names.admits(&absolute.body(()).unwrap()));
    }
}
