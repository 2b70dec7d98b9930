//! Validation rules, one by one, with their messages.

use super::*;

mod api;
mod healthchecks;

const PEM: &str = include_str!("../../../../ipc/tests/self-signed.pem");

/// Returns all problems of a document, with paths below `maglev.`.
fn problems(document: &str) -> Vec<String> {
    let file = parse(document.as_bytes()).unwrap_or_else(|fault| panic!("{document}\n{fault:?}"));
    let read = &mut |path: &str| match path {
        "/good.pem" => Ok(PEM.as_bytes().to_vec()),
        "/key.pem" => Ok(format!("{PEM}-----BEGIN PRIVATE KEY-----\n").into_bytes()),
        "/indented.pem" => Ok(PEM.replace("-----BEGIN", " -----BEGIN").into_bytes()),
        "/other.pem" => Ok(PEM.replace("MIIB", "MIIC").into_bytes()),
        "/cut.pem" => Ok(PEM.as_bytes()[..40].to_vec()),
        "/empty.pem" => Ok(b"nothing here".to_vec()),
        "/large.pem" => Ok(vec![b'\n'; MAX_BUNDLE + 1]),
        _ => Err("No such file or directory".to_owned()),
    };
    let problems = check(&file, read).err().unwrap_or_default();
    problems.iter().map(|problem| problem.to_string().strip_prefix("maglev.").unwrap().to_owned()).collect()
}

/// Checks documents made from `template`, each case's text in place of `@`.
#[track_caller]
fn cases(template: &str, path: &str, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let document = template.replace('@', text);
        let expected: Vec<_> = expected.lines().map(|line| format!("{path}{line}")).collect();
        assert_eq!(problems(&document), expected, "{document}");
    }
}

#[test]
fn healthchecker() {
    cases(
        "maglev: { healthchecker: { @ } }",
        "healthchecker.",
        &[
            ("transition-history: 1", ""),
            ("transition-history: 0", "transition-history: 0 is not within 1 to 1000"),
            ("transition-history: 1001", "transition-history: 1001 is not within 1 to 1000"),
            ("mass-failure-threshold: 0", ""),
            ("mass-failure-threshold: 100", ""),
            ("mass-failure-threshold: 101", "mass-failure-threshold: 101 is not within 0 to 100"),
            ("mass-failure-threshold: -1", "mass-failure-threshold: -1 is not within 0 to 100"),
            ("netns: ''", ""),
            ("netns: dataplane", ""),
            (
                "netns: ../x",
                "netns: not a name: 1 to 64 letters, digits, and - _ . : after the first, are allowed",
            ),
        ],
    );
}

#[test]
fn lb() {
    cases(
        "maglev: { vpp: { lb: { @ } } }",
        "vpp.lb.",
        &[
            ("sync-interval: 0s", "sync-interval: 0s is less than 1ms"),
            ("ipv4-src-address: 2001:db8::1", "ipv4-src-address: 2001:db8::1 is not an IPv4 address"),
            ("ipv6-src-address: 192.0.2.1", "ipv6-src-address: 192.0.2.1 is not an IPv6 address"),
            (
                "ipv4-src-address: 224.0.0.1",
                "ipv4-src-address: 224.0.0.1 cannot be used: it is a multicast address",
            ),
            ("sticky-buckets-per-core: 1", ""),
            ("sticky-buckets-per-core: 4194304", ""),
            (
                "sticky-buckets-per-core: 0",
                "sticky-buckets-per-core: 0 is not a power of two within 1 to 4194304",
            ),
            (
                "sticky-buckets-per-core: 1000",
                "sticky-buckets-per-core: 1000 is not a power of two within 1 to 4194304",
            ),
            (
                "sticky-buckets-per-core: 8388608",
                "sticky-buckets-per-core: 8388608 is not a power of two within 1 to 4194304",
            ),
            ("flow-timeout: 1s", ""),
            ("flow-timeout: 2m", ""),
            ("flow-timeout: 0s", "flow-timeout: 0s is not within 1s to 2m"),
            ("flow-timeout: 121s", "flow-timeout: 2m1s is not within 1s to 2m"),
            ("flow-timeout: 1500ms", "flow-timeout: 1s500ms is not a whole number of seconds"),
            ("startup-max-delay: 0s", ""),
            ("startup-min-delay: 1m", "startup-min-delay: 1m is more than startup-max-delay, which is 30s"),
        ],
    );
}

#[test]
fn source_addresses_follow_used_backends() {
    let template = "maglev: { backends: { b: { address: @ } }, frontends: { web: { address: 198.51.100.1, \
                    pools: [{ name: p, backends: { b: } }] } } }";
    cases(
        template,
        "vpp.lb.",
        &[
            ("192.0.2.1", "ipv4-src-address: required, since frontend web has IPv4 backends"),
            ("2001:db8::1", "ipv6-src-address: required, since frontend web has IPv6 backends"),
        ],
    );
    assert_eq!(problems("maglev: { backends: { b: { address: 192.0.2.1 } } }"), [""; 0]);
}

#[test]
fn names() {
    let long = "n".repeat(65);
    for name in ["a", "0", "web-1_b.example.org:443", &long[..64]] {
        assert_eq!(
            problems(&format!("maglev: {{ backends: {{ \"{name}\": {{ address: 192.0.2.1 }} }} }}")),
            [""; 0]
        );
    }
    for (name, shown) in [
        ("", "\"\""),
        ("-a", "\"-a\""),
        ("a b", "\"a b\""),
        ("a/b", "\"a/b\""),
        ("\u{e9}", "\"\u{e9}\""),
        (&long, &format!("\"{long}\"")),
    ] {
        let why = "not a name: 1 to 64 letters, digits, and - _ . : after the first, are allowed";
        cases(
            &format!("maglev: {{ @: {{ \"{name}\": {{ address: 192.0.2.1 }} }} }}"),
            "",
            &[("backends", &format!("backends.{shown}: {why}"))],
        );
    }
}

#[test]
fn backend() {
    let only = |address: &str, why: &str| format!("address: {address} cannot be used: it is {why}");
    let as_v4 = "an IPv6 address that VPP takes for an IPv4 one (its first 96 bits are 0)";
    cases(
        "maglev: { backends: { x: { @ } } }",
        "backends.x.",
        &[
            ("", "address: required"),
            ("address: 192.0.2.1, healthcheck: nope", "healthcheck: no such healthcheck: nope"),
            ("address: 0.0.0.0", &only("0.0.0.0", "the unspecified address")),
            ("address: 224.0.0.1", &only("224.0.0.1", "a multicast address")),
            ("address: 255.255.255.255", &only("255.255.255.255", "the broadcast address")),
            ("address: \"::\"", &only("::", "the unspecified address")),
            ("address: \"::1\"", &only("::1", as_v4)),
            ("address: \"::192.0.2.1\"", &only("::c000:201", as_v4)),
            (
                "address: \"::ffff:192.0.2.1\"",
                &only("::ffff:192.0.2.1", "an IPv4 address written as IPv6 (write it as IPv4)"),
            ),
            ("address: fe80::1", &only("fe80::1", "a link-local address, and no interface can be given")),
        ],
    );
}

const BACKENDS: &str = "
maglev:
  vpp: { lb: { ipv4-src-address: 192.0.2.9, ipv6-src-address: 2001:db8::9 } }
  backends:
    a: { address: 192.0.2.1 }
    b: { address: 192.0.2.2 }
    twin: { address: 192.0.2.1 }
    vip: { address: 198.51.100.1 }
    six: { address: 2001:db8::1 }
  frontends:
";

#[test]
fn frontend() {
    let template = format!(
        "{BACKENDS}    web: {{ address: 198.51.100.1, pools: [{{ name: p, backends: {{ a: }} }}], @ }}\n"
    );
    let text = format!("description: {}", "x".repeat(257));
    cases(
        &template,
        "frontends.web.",
        &[
            ("", ""),
            ("protocol: tcp", "port: required, since protocol is given"),
            ("port: 80", "protocol: required, since port is given"),
            ("protocol: udp, port: 0", "port: 0 is not within 1 to 65535"),
            ("table-length: 64", ""),
            ("table-length: 1048576", ""),
            ("table-length: 0", "table-length: 0 is not a power of two within 64 to 1048576"),
            ("table-length: 1000", "table-length: 1000 is not a power of two within 64 to 1048576"),
            ("table-length: 2097152", "table-length: 2097152 is not a power of two within 64 to 1048576"),
            ("weight-step: 1", ""),
            ("weight-step: 100", ""),
            ("weight-step: 0", "weight-step: 0 is not within 1 to 100"),
            ("weight-step: 101", "weight-step: 101 is not within 1 to 100"),
            (&text, "description: must be one line of at most 256 characters"),
            ("description: \"a\\nb\"", "description: must be one line of at most 256 characters"),
        ],
    );
    cases(
        &format!("{BACKENDS}    web: {{ @, pools: [{{ name: p, backends: {{ a: }} }}] }}\n"),
        "frontends.web.",
        &[
            ("port: , protocol: ", "address: required"),
            ("address: 224.0.0.1", "address: 224.0.0.1 cannot be used: it is a multicast address"),
            (
                "address: \"::198.51.100.1\"",
                "address: ::c633:6401 cannot be used: it is an IPv6 address that VPP takes for an IPv4 one \
                 (its first 96 bits are 0)",
            ),
        ],
    );
}

#[test]
fn pools() {
    cases(
        &format!("{BACKENDS}    web: {{ address: 198.51.100.1, pools: @ }}\n"),
        "frontends.web.pools",
        &[
            ("", ": required: at least one"),
            ("[]", ": required: at least one"),
            ("[{ name: p }]", "[0].backends: required: at least one"),
            ("[{ backends: { a: } }]", "[0].name: required"),
            (
                "[{ name: '', backends: { a: } }]",
                "[0].name: not a name: 1 to 64 letters, digits, and - _ . : after the first, are allowed",
            ),
            (
                "[{ name: p, backends: { a: } }, { name: p, backends: { b: } }]",
                "[1].name: p is already pools[0]",
            ),
            (
                "[{ name: p, backends: { a: } }, { name: q, backends: { nginx9: } }]",
                "[1].backends.nginx9: no such backend",
            ),
            (
                "[{ name: p, backends: { a: } }, { name: q, backends: { a: } }]",
                "[1].backends.a: is already in pools[0]",
            ),
            ("[{ name: p, backends: { a: , twin: } }]", "[0].backends.twin: has the address of a: 192.0.2.1"),
            (
                "[{ name: p, backends: { a: } }, { name: q, backends: { six: } }]",
                "[1].backends.six: is IPv6, but a is IPv4: the backends of a frontend are of one family",
            ),
            (
                "[{ name: p, backends: { vip: } }]",
                "[0].backends.vip: has the address of frontend web: 198.51.100.1",
            ),
            ("[{ name: p, backends: { a: { weight: 0 }, b: { weight: 100 } } }]", ""),
            (
                "[{ name: p, backends: { a: { weight: 101 } } }]",
                "[0].backends.a.weight: 101 is not within 0 to 100",
            ),
            (
                "[{ name: p, backends: { a: { weight: -1 } } }]",
                "[0].backends.a.weight: -1 is not within 0 to 100",
            ),
        ],
    );
}

#[test]
fn frontends_share_addresses() {
    let one = |name: &str, service: &str, backend: &str| {
        format!(
            "    {name}: {{ address: 203.0.113.1, {service} pools: [{{ name: p, backends: {{ {backend}: }} }}] }}\n"
        )
    };
    let (http, https, udp) =
        ("protocol: tcp, port: 80,", "protocol: tcp, port: 443,", "protocol: udp, port: 80,");
    for (first, second, expected) in [
        ((http, "a"), (https, "a"), None),
        ((http, "a"), (udp, "a"), None),
        (
            (http, "a"),
            (http, "b"),
            Some("has the address, protocol and port of frontend w1: 203.0.113.1 tcp/80"),
        ),
        (("", "a"), ("", "b"), Some("has the address, protocol and port of frontend w1: 203.0.113.1")),
        (
            ("", "a"),
            (http, "b"),
            Some("has 203.0.113.1 tcp/80, but frontend w1 has all ports of 203.0.113.1"),
        ),
        (
            (http, "a"),
            ("", "b"),
            Some("has all ports of 203.0.113.1, but frontend w1 has 203.0.113.1 tcp/80"),
        ),
        (
            (http, "a"),
            (https, "six"),
            Some("has IPv6 backends, but frontend w1 on the same address has IPv4 ones, which VPP cannot do"),
        ),
    ] {
        let document = format!("{BACKENDS}{}{}", one("w1", first.0, first.1), one("w2", second.0, second.1));
        let expected: Vec<_> = expected.iter().map(|why| format!("frontends.w2: {why}")).collect();
        assert_eq!(problems(&document), expected, "{document}");
    }
}

#[test]
fn all_problems_are_reported_in_order() {
    let document = "
maglev:
  frontends:
    web:
      port: 80
      address: 0.0.0.0
      pools:
        - name: primary
          backends: { b: { weight: 101 }, nginx9: }
    api: {}
  backends:
    b: { address: 192.0.2.1, healthcheck: nope }
  healthchecks:
    z: { type: tcp, rise: 0, interval: 1ms, params: { path: / } }
  vpp: { lb: { sticky-buckets-per-core: 0, flow-timeout: 1h } }
  healthchecker: { netns: a/b, transition-history: 0 }
";
    assert_eq!(
        problems(document),
        [
            "healthchecker.transition-history: 0 is not within 1 to 1000",
            "healthchecker.netns: not a name: \
             1 to 64 letters, digits, and - _ . : after the first, are allowed",
            "vpp.lb.ipv4-src-address: required, since frontend web has IPv4 backends",
            "vpp.lb.sticky-buckets-per-core: 0 is not a power of two within 1 to 4194304",
            "vpp.lb.flow-timeout: 1h is not within 1s to 2m",
            "healthchecks.z.port: required for type tcp",
            "healthchecks.z.interval: 1ms is not within 10ms to 1h",
            "healthchecks.z.rise: 0 is not within 1 to 1000",
            "healthchecks.z.params.path: not for type tcp, \
             whose params are: mode, tls, server-name, insecure-skip-verify, ca-file",
            "backends.b.healthcheck: no such healthcheck: nope",
            "frontends.api.address: required",
            "frontends.api.pools: required: at least one",
            "frontends.web.address: 0.0.0.0 cannot be used: it is the unspecified address",
            "frontends.web.protocol: required, since port is given",
            "frontends.web.pools[0].backends.b.weight: 101 is not within 0 to 100",
            "frontends.web.pools[0].backends.nginx9: no such backend",
        ]
    );
}
