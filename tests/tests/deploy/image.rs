//! The container image.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use maglev_lab::container;
use maglev_lab::container::image::{DOCKER, Image, RunOptions};
use maglev_lab::dataplane::Vpp;
use maglev_lab::host::Host;
use maglev_lab::http_server::HttpServer;
use maglev_lab::maglevd::Maglevd;
use maglev_lab::metrics::Scrape;
use maglev_lab::process::Process;
use maglev_lab::test_dir::TestDir;
use maglev_lab::vpp_observer::VppObserver;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Group of VPP's sockets on the host.
const VPP_GROUP: u32 = 990;
const VIP: &str = "203.0.113.80";
const HERE: &str = "10.77.0.1";
const SERVER: &str = "10.77.0.2";

const CONFIG: &str = "maglev:
  vpp: { lb: { ipv4-src-address: 192.0.2.1 } }
  healthchecks:
    ping: { type: icmp, interval: 50ms, timeout: 20s, rise: 2, fall: 2 }
    page: { type: http, port: 80, interval: 50ms, timeout: 20s, rise: 2, fall: 2 }
  backends:
    alive: { address: 10.77.0.2, healthcheck: ping }
    serving: { address: 10.77.0.2, healthcheck: page }
  frontends:
    web:
      address: 203.0.113.80
      pools: [ { name: all, backends: { serving: } } ]
";

const AS_DOCKER: RunOptions<'_> =
    RunOptions { capabilities: DOCKER, group: VPP_GROUP, more: &[], read_only: false };
/// Privileges in the Compose example.
const AS_COMPOSE: RunOptions<'_> = RunOptions { capabilities: "-all,+net_raw", read_only: true, ..AS_DOCKER };

/// The image on a network with a server, with VPP and a configuration mounted.
struct ImageFixture {
    image: Image,
    site: HttpServer,
    server: Host,
    dir: TestDir,
    vpp: Vpp,
}

impl ImageFixture {
    fn new(config: &str) -> Self {
        let (vpp, dir, server) = (Vpp::start().unwrap(), TestDir::new(), Host::new("server"));
        let vpp_dir = vpp.api_socket().parent().unwrap().to_owned();
        fs::set_permissions(&vpp_dir, Permissions::from_mode(0o755)).unwrap();
        for socket in [vpp.api_socket(), vpp.stats_socket()] {
            chown(&socket, None, Some(VPP_GROUP)).unwrap();
            fs::set_permissions(&socket, Permissions::from_mode(0o770)).unwrap();
        }
        fs::create_dir(dir.path("vpp-maglev")).unwrap();
        dir.write("vpp-maglev/maglev.yaml", config);
        let shared = [(vpp_dir.as_path(), "/run/vpp"), (&dir.path("vpp-maglev"), "/etc/vpp-maglev")];
        let image = Image::build(&shared);
        connect(&image, &server);
        let site = server.inside(|| HttpServer::start((SERVER.parse::<IpAddr>().unwrap(), 80).into()));
        Self { image, site, server, dir, vpp }
    }

    fn started(&self, run: &RunOptions<'_>) -> Maglevd {
        let process = self.image.run(run);
        process.line(0, "maglevd starts");
        Maglevd::attach(process, self.image.machine.path("/run/vpp-maglev/maglevd.sock"))
    }

    fn until_weight(&self, weight: u8) {
        VppObserver::new(&self.vpp).until([(VIP, [(SERVER.parse().unwrap(), weight)].into())]);
    }
}

/// Connects the container and a server by a veth pair. IPv6 is disabled, as in many containers.
fn connect(image: &Image, server: &Host) {
    let leader = image.machine.leader();
    server.ip(&format!("link add eth0 type veth peer name eth0 netns {leader}"));
    server.ip(&format!("address add {SERVER}/24 dev eth0"));
    server.ip("link set eth0 up");
    image.machine.inside(|| {
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        for words in ["link set lo up", &format!("address add {HERE}/24 dev eth0"), "link set eth0 up"] {
            let done = Command::new("ip").args(words.split(' ')).status().unwrap();
            assert!(done.success(), "ip {words}");
        }
    });
}

/// Stops the container as `docker stop` does.
fn stop(container: &mut Process) {
    kill(first_process(container), Signal::SIGTERM).unwrap();
    assert!(container.end().success());
}

/// Returns fields of a process's status, or `None` if the process is gone.
fn status<const N: usize>(pid: Pid, keys: [&str; N]) -> Option<[String; N]> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    Some(keys.map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }))
}

/// Returns the first_process process of a container.
fn first_process(container: &Process) -> Pid {
    let is_first = |pid: &Pid| status(*pid, ["NSpid"]).is_some_and(|[pids]| pids.ends_with("\t1"));
    descendants(container.pid()).into_iter().find(is_first).expect("a container has a first process")
}

/// Returns all descendants of a process. A prober that fails to start is retried, so a listed process may already be gone.
fn descendants(of: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{of}/task")) else { return Vec::new() };
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let children: Vec<_> =
        lists.collect::<String>().split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
    children.iter().flat_map(|child| descendants(*child)).chain(children.clone()).collect()
}

#[test]
fn image_works_as_unprivileged_user() {
    if container::skip("image_works_as_unprivileged_user") {
        return;
    }
    let mut fixture = ImageFixture::new(CONFIG);
    assert!(!fixture.image.healthcheck(&AS_DOCKER).status.success());
    let mut maglevd = fixture.started(&AS_DOCKER);
    maglevd.until_up(&["alive", "serving"]);
    fixture.until_weight(20);

    let controller = first_process(&maglevd.process);
    let others = descendants(controller);
    assert!(!others.is_empty());
    for pid in others.iter().copied().chain([controller]) {
        let [uid, gid, groups, effective, permitted] =
            status(pid, ["Uid", "Gid", "Groups", "CapEff", "CapPrm"]).unwrap();
        assert_eq!([uid, gid], [["10001"; 4].join("\t"), ["10001"; 4].join("\t")]);
        assert_eq!(groups, VPP_GROUP.to_string());
        assert_eq!([effective, permitted], ["0000000000000000"; 2]);
    }
    let is_prober = |pid: &&Pid| status(**pid, ["Name"]).is_some_and(|[name]| name == "maglevd-prober");
    let prober = others.iter().find(is_prober).expect("a prober");
    assert_eq!(status(*prober, ["NoNewPrivs"]).unwrap(), ["1"]);

    let health = fixture.image.healthcheck(&AS_DOCKER);
    assert!(health.status.success(), "{health:?}");
    let metrics = SocketAddr::new(HERE.parse().unwrap(), 9091);
    let scrape = fixture.server.inside(|| Scrape::fetch(metrics));
    assert!(scrape.value("maglev_backend_state", &["alive", "\"up\""]) > 0.0);

    fixture.site.close();
    fixture.until_weight(0);
    stop(&mut maglevd.process);
    assert!(!fixture.image.healthcheck(&AS_DOCKER).status.success());
}

#[test]
fn compose_example_privileges_suffice() {
    if container::skip("compose_example_privileges_suffice") {
        return;
    }
    let fixture = ImageFixture::new(CONFIG);
    let tmpfs = "mount -t tmpfs -o uid=10001,gid=10001,mode=0750 tmpfs /run/vpp-maglev";
    fixture.image.machine.run(tmpfs);
    // A volume remains writable.
    fixture.image.machine.run("mount --bind /var/lib/vpp-maglev /var/lib/vpp-maglev");
    let mut maglevd = fixture.started(&AS_COMPOSE);
    maglevd.until_up(&["alive", "serving"]);
    fixture.until_weight(20);
}

#[test]
fn image_names_missing_capability() {
    if container::skip("image_names_missing_capability") {
        return;
    }
    let fixture = ImageFixture::new(CONFIG);
    let mut dropped = fixture.image.run(&RunOptions { capabilities: "-all", ..AS_DOCKER });
    let line = dropped.line(0, "cannot connect to the prober");
    assert!(line.contains("/usr/bin/maglevd-prober: Operation not permitted"), "{line}");
    stop(&mut dropped);
    let confined = fixture.image.run(&RunOptions { more: &["--no-new-privs"], ..AS_DOCKER });
    confined.line(0, "no ICMP over IPv4");
    let mut maglevd = Maglevd::attach(confined, fixture.image.machine.path("/run/vpp-maglev/maglevd.sock"));
    maglevd.until_up(&["serving"]);
}

#[test]
fn container_with_invalid_config_exits() {
    if container::skip("container_with_invalid_config_exits") {
        return;
    }
    let fixture = ImageFixture::new(&CONFIG.replace("healthcheck: page", "healthcheck: pag"));
    let mut maglevd: Process = fixture.image.run(&AS_DOCKER);
    assert_eq!(maglevd.end().code(), Some(2));
    assert!(maglevd.lines(0).join("\n").contains("pag"), "{:?}", maglevd.lines(0));
    fixture.dir.write("vpp-maglev/maglev.yaml", CONFIG);
    fixture.started(&AS_DOCKER).until_up(&["serving"]);
}
