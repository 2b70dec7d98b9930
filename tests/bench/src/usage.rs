//! What processes have used, and what the kernel has counted.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// A process and all that it has started, and they, as far as they live.
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

/// Each thread has a list of its own. Whoever has ended meanwhile has none.
fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("children")));
    let lists: String = lists.map(Result::unwrap_or_default).collect();
    lists.split_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
}

/// What some processes have used since they began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a processor, exactly.
    pub cpu: Duration,
    /// What of it was spent in the programs themselves, by the kernel's ticks.
    pub user: Duration,
    /// And what in the kernel.
    pub system: Duration,
    /// Memory, in bytes.
    pub rss: u64,
}

impl Usage {
    /// Of these together.
    ///
    /// # Errors
    /// One of them has ended.
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
        // The name, in parentheses, may have blanks.
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

/// What the kernel has counted in this network namespace, such as `Tcp.OutRsts`.
#[derive(Debug)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Now.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn now() -> anyhow::Result<Self> {
        Ok(Self(parse(&fs::read_to_string("/proc/net/snmp")?)))
    }

    /// A counter's value.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// A line of names, a line of values, and so on.
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
    fn counters_are_found_by_group_and_name() {
        let text = "Ip: Forwarding InReceives\nIp: 1 20\nTcp: MaxConn OutRsts\nTcp: -1 7\n";
        assert_eq!(
            parse(text),
            [("Ip.Forwarding", 1), ("Ip.InReceives", 20), ("Tcp.OutRsts", 7)]
                .map(|(n, v)| (n.to_owned(), v))
                .into()
        );
    }

    #[test]
    fn work_is_seen_and_so_are_children() {
        let me = Pid::this();
        let before = Usage::of(&[me]).unwrap();
        assert!(before.rss > 0);
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(tree(me).contains(&Pid::from_raw(child.id().cast_signed())));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(Usage::of(&[me]).unwrap().cpu > before.cpu);
    }
}
