//! Addresses of daemons: `HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.

use std::net::Ipv6Addr;

use tonic::codegen::http::uri::Authority;

/// Default port of an address.
const PORT: u16 = 9090;

/// Host and port of an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostPort {
    /// The host; an IPv6 address is in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Parses an address without `unix:`. A wrong port is an error: the default could lead to another daemon.
///
/// # Errors
/// Returns the reason in one line.
pub fn parse(address: &str) -> Result<HostPort, String> {
    let given = address.strip_prefix("https://").unwrap_or(address);
    if given.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("`{address}`: an IPv6 address is in brackets, as in [::1]:{PORT}"));
    }
    if given.starts_with('/') {
        return Err(format!("`{address}`: a unix socket is unix:{given}"));
    }
    let neither = || format!("`{address}` is none of HOST:PORT, https://HOST:PORT and unix:PATH");
    let authority: Authority = given.parse().map_err(|_| neither())?;
    let host = authority.host();
    if host.is_empty() || !authority.as_str().starts_with(host) {
        return Err(neither());
    }
    let port = match authority.as_str()[host.len()..].strip_prefix(':') {
        None => PORT,
        Some(port) => port_number(port)
            .ok_or_else(|| format!("`{address}`: the port is `{port}`, and not a number from 1 to 65535"))?,
    };
    Ok(HostPort { host: host.into(), port })
}

fn port_number(port: &str) -> Option<u16> {
    // `parse` accepts a sign.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| digits && *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> Option<(String, u16)> {
        parse(address).ok().map(|HostPort { host, port }| (host, port))
    }

    #[test]
    fn address_parses_host_and_port() {
        for (address, host, port) in [
            ("lb1.example.org", "lb1.example.org", 9090),
            ("[::1]:9190", "[::1]", 9190),
            ("[::1]", "[::1]", 9090),
            ("https://lb1.example.org", "lb1.example.org", 9090),
            ("127.0.0.1:65535", "127.0.0.1", 65535),
        ] {
            assert_eq!(parsed(address), Some((host.into(), port)), "{address}");
        }
        for wrong in [
            "",
            "foo bar",
            "http://lb1:9090",
            "https://",
            "https://https://lb1",
            "me@lb1:1",
            ":9090",
            "lb1/x",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn wrong_port_is_an_error() {
        for port in ["99999", "65536", "909O", "abc", "", "0", "+80", "-1", "80 "] {
            let said = parse(&format!("lb1:{port}")).unwrap_err();
            assert!(said.contains("port is") || said.contains("none of"), "{said}");
            assert_eq!(parsed(&format!("[::1]:{port}")), None, "{port}");
        }
        assert_eq!(
            parse("lb1:99999"),
            Err("`lb1:99999`: the port is `99999`, and not a number from 1 to 65535".into())
        );
    }

    #[test]
    fn likely_mistake_is_named() {
        assert!(parse("::1").unwrap_err().contains("[::1]:9090"));
        assert!(parse("https://2001:db8::1").unwrap_err().contains("brackets"));
        assert!(parse("/run/x.sock").unwrap_err().ends_with("unix:/run/x.sock"));
    }
}
