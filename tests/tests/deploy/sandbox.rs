//! Privileges of the running daemons, read from the kernel.

use std::collections::BTreeSet;
use std::fs;

use maglev_lab::container;

use crate::fixtures::{CONTROLLER, PROBER, PackageFixture};

const NOTHING: &str = "0000000000000000";
const NET_RAW: &str = "0000000000002000";

/// Returns an id as a status line lists it: real, effective, saved and file system.
fn repeat_id(id: &str) -> String {
    [id; 4].join("\t")
}

#[test]
fn daemons_run_unprivileged_and_isolated() {
    if container::skip("daemons_run_unprivileged_and_isolated") {
        return;
    }
    assert_unprivileged("bookworm");
}

#[test]
fn daemons_run_unprivileged_on_trixie() {
    if container::skip("daemons_run_unprivileged_on_trixie") {
        return;
    }
    assert_unprivileged("trixie");
}

fn assert_unprivileged(suite: &str) {
    let fixture = PackageFixture::running(suite);
    let machine = &fixture.machine;
    for (service, user) in [(CONTROLLER, "maglevd"), (PROBER, "maglevd-prober")] {
        let id = |what: &str| machine.run(&format!("id {what} {user}"));
        assert_eq!(machine.status(service, "Uid"), repeat_id(&id("-u")), "{service}");
        assert_eq!(machine.status(service, "Gid"), repeat_id(&id("-g")), "{service}");
        let groups = |list: &str| list.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(groups(&machine.status(service, "Groups")), groups(&id("-G")), "{service}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(machine.status(service, set), NOTHING, "{service} {set}");
        }
        assert_eq!(machine.status(service, "NoNewPrivs"), "1", "{service}");
        assert_eq!(machine.status(service, "Seccomp"), "2", "{service}");
    }
    assert_eq!(machine.status(CONTROLLER, "CapBnd"), NOTHING);
    // The bounding set gives no privilege: `no_new_privs` is set, and clearing the set needs a capability that the prober
    // lacks.
    assert_eq!(machine.status(PROBER, "CapBnd"), NET_RAW);

    let network = |service: &str| fs::read_link(machine.proc(service, "ns/net")).unwrap();
    let of_the_machine = fs::read_link(format!("/proc/{}/ns/net", machine.leader())).unwrap();
    assert_ne!(network(CONTROLLER), of_the_machine);
    assert_eq!(network(PROBER), of_the_machine);

    // The prober's root contains no file of interest to an attacker.
    let root = machine.proc(PROBER, "root");
    assert!(root.join("usr").exists());
    for path in ["etc/shadow", "etc/vpp-maglev", "var/lib/vpp-maglev", "run/vpp", "srv"] {
        assert!(!root.join(path).exists(), "{path}");
    }
}

#[cfg(target_arch = "x86_64")]
mod taken_over {
    use maglev_lab::container::inject::{CallOutcome, SystemCall, call};
    use maglev_lab::container::machine::Machine;
    use nix::errno::Errno;
    use nix::libc;
    use nix::sys::signal::Signal;

    use super::*;

    /// Errors of refused calls that do not kill.
    const REFUSALS: [Errno; 3] = [Errno::EPERM, Errno::EACCES, Errno::EAFNOSUPPORT];

    const fn socket(family: i32, kind: i32, protocol: i32) -> SystemCall {
        SystemCall { number: libc::SYS_socket, arguments: [family as u64, kind as u64, protocol as u64] }
    }

    const EXECVE: SystemCall = SystemCall { number: libc::SYS_execve, arguments: [0; 3] };
    const PTRACE: SystemCall =
        SystemCall { number: libc::SYS_ptrace, arguments: [libc::PTRACE_ATTACH as u64, 1, 0] };
    const GETPID: SystemCall = SystemCall { number: libc::SYS_getpid, arguments: [0; 3] };

    const TO_CONTROLLER: [(&str, SystemCall); 6] = [
        ("a TCP socket", socket(libc::AF_INET, libc::SOCK_STREAM, 0)),
        ("a UDP socket over IPv6", socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)),
        ("a raw socket", socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
        ("a packet socket", socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
        ("another program", EXECVE),
        ("another process", PTRACE),
    ];
    const TO_PROBER: [(&str, SystemCall); 5] = [
        ("a raw socket", socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
        ("a raw socket over IPv6", socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)),
        ("a packet socket", socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
        ("another program", EXECVE),
        ("another process", PTRACE),
    ];

    fn ask(machine: &Machine, service: &str, wanted: &SystemCall) -> CallOutcome {
        call(machine.main_pid_here(service), wanted)
    }

    fn is_refusal(answer: CallOutcome) -> bool {
        match answer {
            CallOutcome::Killed(signal) => signal == Signal::SIGSYS,
            CallOutcome::Returned(value) => REFUSALS.iter().any(|errno| value == -i64::from(*errno as i32)),
        }
    }

    #[test]
    fn compromised_daemon_gets_no_socket_or_program() {
        if container::skip("compromised_daemon_gets_no_socket_or_program") {
            return;
        }
        let fixture = PackageFixture::running("bookworm");
        let machine = &fixture.machine;
        for (service, calls) in [(CONTROLLER, &TO_CONTROLLER[..]), (PROBER, &TO_PROBER)] {
            // Control: the injected `getpid` must succeed.
            let pid = i64::from(machine.main_pid(service));
            assert_eq!(ask(machine, service, &GETPID), CallOutcome::Returned(pid), "{service}");
            for (what, wanted) in calls {
                let before = machine.main_pid(service);
                let answer = ask(machine, service, wanted);
                println!("{service} asks for {what}: {answer:?}");
                assert!(is_refusal(answer), "{service} asks for {what}: {answer:?}");
                if matches!(answer, CallOutcome::Killed(_)) {
                    fixture.until_restarted(service, before);
                }
            }
        }
        fixture.settled();
    }
}
