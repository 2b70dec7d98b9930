//! Compiler of lists of system calls into seccomp filters.

use std::collections::{BTreeMap, BTreeSet};

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use crate::Error;

/// A system call, with alternatives of its arguments. An empty list matches all arguments.
pub(crate) type SyscallRule = (c_long, &'static [&'static [ArgCondition]]);

/// System calls for one purpose.
pub(crate) type SyscallGroup = &'static [SyscallRule];

/// A condition on an argument, counted from 0. The kernel compares the lower 32 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ArgCondition {
    /// The argument has this value.
    Is(u8, libc::c_int),
    /// The masked bits have this value.
    Masked(u8, libc::c_int, libc::c_int),
    /// The argument is the id of this process.
    OurPid(u8),
}

/// Matches all arguments.
pub(crate) const ANY: &[&[ArgCondition]] = &[];

/// First number without a system call when the lists were written.
const FIRST_UNKNOWN: u32 = 470;

/// A filter, with its actions for the listed system calls and for all others.
pub(crate) struct FilterSpec<'a> {
    pub groups: &'a [SyscallGroup],
    pub listed: SeccompAction,
    pub others: SeccompAction,
}

impl FilterSpec<'_> {
    /// Returns the number of listed system calls.
    pub fn len(&self) -> usize {
        self.groups.iter().copied().flatten().map(|(number, _)| number).collect::<BTreeSet<_>>().len()
    }

    /// Installs the filter for this thread and its descendants. Among several filters, the strictest action wins.
    pub fn install(self) -> Result<(), Error> {
        let mut program = unknown_calls();
        program.extend(self.compile()?);
        Ok(seccompiler::apply_filter(&program)?)
    }

    fn compile(self) -> Result<BpfProgram, BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for (number, ways) in self.groups.iter().copied().flatten() {
            let ways = ways.iter().map(|args| rule(args)).collect::<Result<Vec<_>, _>>()?;
            rules.entry(*number).or_default().extend(ways);
        }
        let arch = std::env::consts::ARCH.try_into()?;
        SeccompFilter::new(rules, self.others, self.listed, arch)?.try_into()
    }
}

/// Returns the start of each filter, which answers `ENOSYS` to unknown calls and to `clone3`. A libc newer than the lists
/// tries new calls first and falls back to old ones. `clone3` has its flags in memory, where no filter can check them, and
/// libc falls back to `clone`.
fn unknown_calls() -> BpfProgram {
    let absent = u32::from(SeccompAction::Errno(libc::ENOSYS.cast_unsigned()));
    let load_number = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump = |test, number, yes, no| op(libc::BPF_JMP | libc::BPF_K | test, number, yes, no);
    vec![
        op(load_number, 0, 0, 0),
        // The x32 calls begin here. The lists have none of them, so the default action applies.
        jump(libc::BPF_JGE, 0x4000_0000, 3, 0),
        jump(libc::BPF_JGE, FIRST_UNKNOWN, 1, 0),
        jump(libc::BPF_JEQ, libc::SYS_clone3.unsigned_abs() as u32, 0, 1),
        op(libc::BPF_RET | libc::BPF_K, absent, 0, 0),
    ]
}

const fn op(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

fn rule(args: &[ArgCondition]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(args.iter().map(|arg| condition(*arg)).collect::<Result<_, _>>()?)
}

fn condition(arg: ArgCondition) -> Result<SeccompCondition, BackendError> {
    let word = |value: libc::c_int| u64::from(value.cast_unsigned());
    let (index, operator, value) = match arg {
        ArgCondition::Is(index, value) => (index, SeccompCmpOp::Eq, word(value)),
        ArgCondition::Masked(index, mask, value) => (index, SeccompCmpOp::MaskedEq(word(mask)), word(value)),
        ArgCondition::OurPid(index) => (index, SeccompCmpOp::Eq, u64::from(std::process::id())),
    };
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}
