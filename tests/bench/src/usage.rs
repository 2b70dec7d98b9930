//! Resource usage of processes, and kernel counters.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Returns a process with all living descendants.
#[must_use]
pub fn tree(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// Returns the children of a process. Each thread has its own list, and may have exited meanwhile.
fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("children")));
    let lists: String = lists.map(Result::unwrap_or_default).collect();
    lists.split_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
}

/// Resource usage of processes since their start.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceUsage {
    /// Exact CPU time.
    pub cpu: Duration,
    /// User time, in kernel ticks.
    pub user: Duration,
    /// System time, in kernel ticks.
    pub system: Duration,
    /// Memory, in bytes.
    pub rss: u64,
}

impl ResourceUsage {
    /// Returns the sum for these processes.
    ///
    /// # Errors
    /// If one has exited.
    pub fn of(pids: &[Pid]) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for &pid in pids {
            let one = Self::of_one(pid).with_context(|| format!("process {pid} has ended"))?;
            sum.cpu += one.cpu;
            sum.user += one.user;
            sum.system += one.system;
            sum.rss += one.rss;
        }
        Ok(sum)
    }

    fn of_one(pid: Pid) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may contain blanks.
        let (_, fields) = stat.rsplit_once(')').context("stat")?;
        let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
        let ticks = |number| field(number).map(|ticks| Duration::from_millis(ticks * 10)).context("stat");
        let clock = ClockId::pid_cpu_clock_id(pid)?;
        Ok(Self {
            cpu: clock_gettime(clock)?.into(),
            user: ticks(14)?,
            system: ticks(15)?,
            rss: field(24).context("stat")? * 4096,
        })
    }
}

/// Kernel counters of this network namespace, such as `Tcp.OutRsts`.
#[derive(Debug)]
pub struct KernelCounters(BTreeMap<String, u64>);

impl KernelCounters {
    /// Reads the counters.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn now() -> anyhow::Result<Self> {
        Ok(Self(parse(&fs::read_to_string("/proc/net/snmp")?)))
    }

    /// Returns a counter's value.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// Parses alternating lines of names and values.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let lines: Vec<_> = text.lines().collect();
    let pairs = lines.chunks_exact(2).flat_map(|pair| {
        let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
        let group = pair[0].split(':').next().unwrap_or_default();
        names.zip(values).skip(1).map(move |(name, value)| (format!("{group}.{name}"), value))
    });
    pairs.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_parsed_by_group_and_name() {
        let text = "Ip: Forwarding InReceives\nIp: 1 20\nTcp: MaxConn OutRsts\nTcp: -1 7\n";
        assert_eq!(
            parse(text),
            [("Ip.Forwarding", 1), ("Ip.InReceives", 20), ("Tcp.OutRsts", 7)]
                .map(|(n, v)| (n.to_owned(), v))
                .into()
        );
    }

    #[test]
    fn usage_includes_children() {
        let me = Pid::this();
        let before = ResourceUsage::of(&[me]).unwrap();
        assert!(before.rss > 0);
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(tree(me).contains(&Pid::from_raw(child.id().cast_signed())));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(ResourceUsage::of(&[me]).unwrap().cpu > before.cpu);
    }
}
