//! The stats socket, on the simulator or on the real VPP in `VPP_BIN`.

#![allow(clippy::unwrap_used, reason = "a test may fail at once")]

use std::collections::HashMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use maglev_lab::PATIENCE;
use maglev_lab::dataplane::Vpp;
use maglev_lab::packets::until;
use maglev_vpp::stats::{self, MAIN_HEAP, WORKERS};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg, socket,
};

const SCALARS: [u32; 2] = [1, 9];

/// The stats segment that VPP hands out.
struct StatsSegment(File);

impl StatsSegment {
    fn receive(path: &Path) -> Self {
        let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(client.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        let (mut byte, mut room) = ([0], nix::cmsg_space!([i32; 1]));
        let mut data = [IoSliceMut::new(&mut byte)];
        let message =
            recvmsg::<()>(client.as_raw_fd(), &mut data, Some(&mut room), MsgFlags::empty()).unwrap();
        assert_eq!(message.bytes, 0);
        let Some(ControlMessageOwned::ScmRights(files)) = message.cmsgs().unwrap().next() else {
            unreachable!("a message without a file");
        };
        let file = File::open(format!("/proc/self/fd/{}", files[0])).unwrap();
        nix::unistd::close(files[0]).unwrap();
        Self(file)
    }

    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    fn scalars(&self) -> HashMap<String, u64> {
        assert_eq!(self.word(0), 2);
        let directory = self.word(32) - self.word(8);
        let entries = u32::from_le_bytes(self.bytes(directory - 8));
        (0..u64::from(entries))
            .map(|entry| directory + entry * 144)
            .filter(|at| SCALARS.contains(&u32::from_le_bytes(self.bytes(*at))))
            .map(|at| {
                let name: [u8; 128] = self.bytes(at + 16);
                let name = name.split(|byte| *byte == 0).next().unwrap();
                (String::from_utf8_lossy(name).into_owned(), self.word(at + 8))
            })
            .collect()
    }
}

#[test]
fn stats_segment_reports_boot_time() {
    let vpp = Vpp::start().unwrap();
    let scalars = StatsSegment::receive(&vpp.stats_socket()).scalars();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(scalars["/sys/boottime"].abs_diff(now) < 30);
    assert!(scalars.contains_key("/sys/heartbeat"));
}

#[test]
fn restart_creates_new_stats_segment() {
    let vpp = Vpp::simulated().unwrap();
    let sim = vpp.sim().unwrap();
    let old = StatsSegment::receive(&vpp.stats_socket());
    let booted = old.scalars()["/sys/boottime"];
    sim.restart().unwrap();
    let new = StatsSegment::receive(&vpp.stats_socket());
    assert!(new.scalars()["/sys/boottime"] > booted);
    assert_eq!(old.scalars()["/sys/boottime"], booted);
}

#[test]
fn heartbeat_stops_when_vpp_hangs() {
    let vpp = Vpp::simulated().unwrap();
    let segment = StatsSegment::receive(&vpp.stats_socket());
    let beats = || segment.scalars()["/sys/heartbeat"];
    std::thread::sleep(Duration::from_millis(1500));
    assert!(beats() > 0);
    vpp.sim().unwrap().set_faults(|faults| faults.hang = true);
    std::thread::sleep(Duration::from_millis(200));
    let before = beats();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(beats(), before);
}

#[test]
fn stats_segment_reports_heap_and_workers() {
    let vpp = Vpp::start().unwrap();
    let mut segment = stats::StatsSegment::open(&vpp.stats_socket(), PATIENCE).unwrap();
    let mut heap = || {
        let gauges = segment.read(|now| now.simple(MAIN_HEAP, &[0, 1, 2].into())).unwrap();
        gauges.filter(|gauges| gauges[&0] > 0)
    };
    // A real VPP computes them some seconds after its start.
    until(|| heap().is_some(), || "no heap".into());
    let gauges = heap().unwrap();
    assert!(gauges[&0] >= 512 << 20, "{gauges:?}");
    assert!(gauges[&2] > 0 && gauges[&1] + gauges[&2] == gauges[&0], "{gauges:?}");
    assert_eq!(segment.read(|now| now.scalar(WORKERS)).unwrap(), Some(0));
}
