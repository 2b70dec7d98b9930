//! Documented metrics equal those of a system on which every kind of event has occurred.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};

use maglev_lab::container;
use maglev_lab::metrics::Scrape;
use maglev_lab::packets::until;
use maglev_proto::v1::BackendState;
use maglev_tests::docs::documented_host::{CONFIG, DocumentedHost, FILE};
use maglev_tests::docs::page;

/// Metric families with their labels.
type Families = BTreeMap<String, BTreeSet<String>>;

/// Starts a TLS server at its own address, for the certificate metrics.
const TLS: &str = "
set -e
ip address add 192.0.2.30/32 dev lo
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=tls -keyout key.pem -out certificate.pem
systemd-run --quiet --working-directory=/root openssl s_server -accept 443 -www -key key.pem -cert certificate.pem
";
/// Configuration of that server, by section.
const SECTIONS: [(&str, &str); 3] = [
    ("healthchecks", "{ type: https, port: 443, params: { insecure-skip-verify: true } }"),
    ("backends", "{ address: 192.0.2.30, healthcheck: tls }"),
    ("frontends", "{ address: 198.51.100.81, pools: [ { name: only, backends: { tls: } } ] }"),
];

/// Operator actions that appear in the metrics, some of which fail.
const ACTIONS: &str = "
maglevc set backend nginx0 pause
maglevc set frontend web pool primary backend nginx1 weight 7 for 1h
maglevc sync vpp lb state
maglevc config reload
maglevc --server 127.0.0.1 config reload
maglevc watch events num 1
systemctl kill --signal KILL vpp-maglevd-prober
";

#[test]
fn every_metric_is_documented_with_labels() {
    if container::skip("every_metric_is_documented_with_labels") {
        return;
    }
    let config = page::read(CONFIG);
    let mut host = DocumentedHost::running(&config);
    let served = host.run(TLS);
    assert!(served.succeeded, "{served:?}");
    let config = SECTIONS.iter().fold(config, |config, (section, tls)| {
        config.replace(&format!("\n  {section}:\n"), &format!("\n  {section}:\n    tls: {tls}\n"))
    });
    host.machine().write(FILE, config);
    for scene in
        ["nginx0 stops", "nginx1 stops", "nginx0 recovers", "nginx1 recovers", "VPP dies", "VPP returns"]
    {
        host.scene(scene);
    }
    let output = host.run(ACTIONS);
    host.maglevd().until_backend("tls", BackendState::Up);
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 9091));
    let documented = documented();
    let exported = || exported(&host.machine().inside(|| Scrape::fetch(address)));
    // Traffic metrics return some time after VPP.
    until(
        || exported() == documented,
        || {
            let exported = exported();
            let only = |of: &Families, other: &Families| {
                let only = of.iter().filter(|(name, labels)| other.get(*name) != Some(labels));
                only.map(|(name, labels)| format!("{name} {labels:?}\n")).collect::<String>()
            };
            format!(
                "only documented:\n{}only exported:\n{}after\n{}",
                only(&documented, &exported),
                only(&exported, &documented),
                output.lines.join("\n")
            )
        },
    );
}

fn documented() -> Families {
    let mut documented = Families::new();
    for page in page::all() {
        for table in page.tables("metric") {
            let labels = table.column("labels");
            for row in &table.rows {
                let labels: BTreeSet<_> = row[labels].codes.iter().cloned().collect();
                for name in &row[0].codes {
                    assert!(
                        documented.insert(name.clone(), labels.clone()).is_none(),
                        "{name} is documented twice"
                    );
                }
            }
        }
    }
    documented
}

fn exported(scrape: &Scrape) -> Families {
    let mut families: Families = scrape.families.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
    for sample in scrape.samples.keys() {
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let family = ["", "_bucket", "_sum", "_count"].iter().find_map(|end| {
            let family = name.strip_suffix(end)?;
            families.contains_key(family).then_some(family)
        });
        let names = labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0.to_owned()));
        // `le` is part of every histogram.
        let names = names.filter(|label| label != "le");
        families.get_mut(family.unwrap()).unwrap().extend(names);
    }
    families
}
