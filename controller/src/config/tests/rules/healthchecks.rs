use super::cases;

#[test]
fn healthcheck() {
    cases(
        "maglev: { healthchecks: { x: { @ } } }",
        "healthchecks.x.",
        &[
            ("", "type: required: icmp, tcp, http or https"),
            ("rise: 0", "type: required: icmp, tcp, http or https\nrise: 0 is not within 1 to 1000"),
            ("type: icmp", ""),
            ("type: icmp, port: 7", "port: an icmp check has no port"),
            ("type: tcp", "port: required for type tcp"),
            ("type: https", "port: required for type https"),
            ("type: tcp, port: 0", "port: 0 is not within 1 to 65535"),
            ("type: tcp, port: 65536", "port: 65536 is not within 1 to 65535"),
            ("type: icmp, interval: 10ms, timeout: 1m", ""),
            ("type: icmp, interval: 9ms", "interval: 9ms is not within 10ms to 1h"),
            ("type: icmp, fast-interval: 0s", "fast-interval: 0s is not within 10ms to 1h"),
            ("type: icmp, down-interval: 1h1s", "down-interval: 1h1s is not within 10ms to 1h"),
            ("type: icmp, timeout: 0ms", "timeout: 0s is not within 1ms to 1m"),
            ("type: icmp, timeout: 2m", "timeout: 2m is not within 1ms to 1m"),
            ("type: icmp, timeout: auto", ""),
            ("type: icmp, timeout: auto, timeout-min: 1ms, timeout-max: 1m", ""),
            ("type: icmp, timeout: auto, timeout-max: 20ms", ""),
            ("type: icmp, timeout: auto, timeout-min: 0ms", "timeout-min: 0s is not within 1ms to 1m"),
            ("type: icmp, timeout: auto, timeout-max: 2m", "timeout-max: 2m is not within 1ms to 1m"),
            ("type: icmp, timeout: auto, timeout-min: 2s", "timeout-min: more than timeout-max, 1s"),
            ("type: icmp, timeout-min: 50ms", "timeout-min: needs timeout: auto"),
            (
                "type: icmp, timeout: 2s, timeout-min: 50ms, timeout-max: 1s",
                "timeout-min: needs timeout: auto\ntimeout-max: needs timeout: auto",
            ),
            ("type: icmp, rise: 0", "rise: 0 is not within 1 to 1000"),
            ("type: icmp, fall: 1001", "fall: 1001 is not within 1 to 1000"),
            ("type: icmp, fall: -1", "fall: -1 is not within 1 to 1000"),
            ("type: icmp, probe-ipv4-src: 2001:db8::1", "probe-ipv4-src: 2001:db8::1 is not an IPv4 address"),
            ("type: icmp, probe-ipv6-src: 192.0.2.1", "probe-ipv6-src: 192.0.2.1 is not an IPv6 address"),
        ],
    );
}

#[test]
fn params_belong_to_types() {
    let http = "path, host, response-code, response-regexp, keep-alive, keep-alive-requests";
    let tls = "server-name, insecure-skip-verify, ca-file";
    let no_half = "mode: a handshake needs a connection: half-open excludes tls: true";
    cases(
        "maglev: { healthchecks: { x: { @ } } }",
        "healthchecks.x.params.",
        &[
            ("type: icmp, params: { tls: false }", "tls: not for type icmp, whose params are: none"),
            (
                "type: tcp, port: 1, params: { path: /, host: h }",
                &format!(
                    "path: not for type tcp, whose params are: mode, tls, {tls}\n\
                     host: not for type tcp, whose params are: mode, tls, {tls}"
                ),
            ),
            (
                "type: http, port: 1, params: { ca-file: /good.pem }",
                &format!("ca-file: not for type http, whose params are: {http}"),
            ),
            (
                "type: https, port: 1, params: { tls: true }",
                &format!("tls: not for type https, whose params are: {http}, {tls}"),
            ),
            ("type: tcp, port: 1, params: { server-name: a }", "server-name: needs tls: true"),
            ("type: tcp, port: 1, params: { tls: true, server-name: a }", ""),
            ("type: tcp, port: 1, params: { mode: half-open }", ""),
            ("type: tcp, port: 1, params: { mode: half-open, tls: false }", ""),
            ("type: tcp, port: 1, params: { mode: full, tls: true }", ""),
            ("type: tcp, port: 1, params: { mode: half-open, tls: true }", no_half),
            ("type: icmp, params: { mode: full }", "mode: not for type icmp, whose params are: none"),
            (
                "type: https, port: 1, params: { mode: full }",
                &format!("mode: not for type https, whose params are: {http}, {tls}"),
            ),
        ],
    );
}

#[test]
fn http_params() {
    let long = format!("path: /{}", "a".repeat(2048));
    let many = format!("response-code: \"{}\"", vec!["200"; 33].join(","));
    let pattern = format!("response-regexp: {}", "a".repeat(1025));
    let not_host = "is not a host name or an address (IPv6 in brackets), with or without :port";
    cases(
        "maglev: { healthchecks: { x: { type: http, port: 80, params: { @ } } } }",
        "healthchecks.x.params.",
        &[
            ("path: healthz", "path: \"healthz\" does not start with /"),
            ("path: /a b", "path: must be at most 2048 printable ASCII characters without blanks"),
            ("path: /a#b", "path: \"/a#b\" has a fragment: write %23 for `#`"),
            (&long, "path: must be at most 2048 printable ASCII characters without blanks"),
            ("host: www.example.org", ""),
            ("host: \"www.example.org:8080\"", ""),
            ("host: \"[2001:db8::1]:8080\"", ""),
            ("host: a b", &format!("host: \"a b\" {not_host}")),
            ("host: \"2001:db8::1\"", &format!("host: \"2001:db8::1\" {not_host}")),
            ("host: \"a:0\"", &format!("host: \"a:0\" {not_host}")),
            ("host: 192.0.2.256", &format!("host: \"192.0.2.256\" {not_host}")),
            ("response-code: 204", ""),
            ("response-code: \"200, 204,300-399\"", ""),
            (
                "response-code: \"\"",
                "response-code: \"\" is neither a status code (100 to 599) nor a range like 200-299",
            ),
            (
                "response-code: 99",
                "response-code: \"99\" is neither a status code (100 to 599) nor a range like 200-299",
            ),
            (
                "response-code: 299-200",
                "response-code: \"299-200\" is neither a status code (100 to 599) nor a range like 200-299",
            ),
            (&many, "response-code: more than 32 codes and ranges"),
            ("response-regexp: \"(\"", "response-regexp: \"(\": not a regular expression: unclosed group"),
            (
                "response-regexp: \"UP.{0,200}db.{0,200}UP\"",
                "response-regexp: \"UP.{0,200}db.{0,200}UP\": larger than 128 KiB when compiled: use * or + in place of \
                 repetitions {n,m}",
            ),
            (&pattern, "response-regexp: longer than 1024 bytes"),
            ("keep-alive: true", ""),
            ("keep-alive: true, keep-alive-requests: 2", ""),
            ("keep-alive: true, keep-alive-requests: 1000", ""),
            ("keep-alive: true, keep-alive-requests: 1", "keep-alive-requests: 1 is not within 2 to 1000"),
            (
                "keep-alive: true, keep-alive-requests: 1001",
                "keep-alive-requests: 1001 is not within 2 to 1000",
            ),
            ("keep-alive: true, keep-alive-requests: -1", "keep-alive-requests: -1 is not within 2 to 1000"),
            ("keep-alive-requests: 10", "keep-alive-requests: needs keep-alive: true"),
            ("keep-alive: false, keep-alive-requests: 10", "keep-alive-requests: needs keep-alive: true"),
        ],
    );
}

#[test]
fn tls_params() {
    cases(
        "maglev: { healthchecks: { x: { type: https, port: 443, params: { @ } } } }",
        "healthchecks.x.params.",
        &[
            ("server-name: www.example.org", ""),
            (
                "ca-file: a, path: b",
                "path: \"b\" does not start with /\nca-file: \"a\": not an absolute path",
            ),
            ("server-name: \"2001:db8::1\"", ""),
            ("server-name: \"a:443\"", "server-name: \"a:443\" is neither a host name nor an address"),
            ("server-name: -a.example", "server-name: \"-a.example\" is neither a host name nor an address"),
            ("ca-file: /good.pem", ""),
            ("ca-file: /good.pem, insecure-skip-verify: false", ""),
            ("ca-file: /good.pem, insecure-skip-verify: true", "ca-file: excluded by insecure-skip-verify"),
            ("ca-file: good.pem", "ca-file: \"good.pem\": not an absolute path"),
            ("ca-file: /no.pem", "ca-file: \"/no.pem\": No such file or directory"),
            ("ca-file: /empty.pem", "ca-file: \"/empty.pem\": holds no PEM certificate"),
            ("ca-file: /cut.pem", "ca-file: \"/cut.pem\": holds a truncated or invalid certificate"),
            (
                "ca-file: /indented.pem",
                "ca-file: \"/indented.pem\": line 1 is indented, so its certificate would be ignored",
            ),
            ("ca-file: /other.pem", "ca-file: \"/other.pem\": certificate 1 of it is no X.509 certificate"),
            (
                "ca-file: /key.pem",
                "ca-file: \"/key.pem\": holds a private key, which has no place in a ca-file",
            ),
            ("ca-file: /large.pem", "ca-file: \"/large.pem\": larger than 61440 bytes"),
        ],
    );
}
