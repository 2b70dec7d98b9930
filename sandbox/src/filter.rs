//! From lists of calls to filters in the kernel.

use std::collections::{BTreeMap, BTreeSet};

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use crate::Error;

/// A system call, and the arguments with which it is meant: any of these, or whatever they are if there are none.
pub(crate) type Call = (c_long, &'static [&'static [Arg]]);

/// Calls that are there for one reason.
pub(crate) type Group = &'static [Call];

/// A condition on an argument, counted from 0. The kernel looks at the lower half of each that is named here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// It is this.
    Is(u8, libc::c_int),
    /// The bits of the mask are these.
    Masked(u8, libc::c_int, libc::c_int),
    /// It is the number of this process.
    OurPid(u8),
}

/// Any arguments.
pub(crate) const ANY: &[&[Arg]] = &[];

/// The first number that no kernel had given to a call when these lists were written.
const FIRST_UNKNOWN: u32 = 470;

/// A filter in the making: what it answers to the calls in its groups, and to all others.
pub(crate) struct Filter<'a> {
    pub groups: &'a [Group],
    pub listed: SeccompAction,
    pub others: SeccompAction,
}

impl Filter<'_> {
    /// How many calls are listed.
    pub fn len(&self) -> usize {
        self.groups.iter().copied().flatten().map(|(number, _)| number).collect::<BTreeSet<_>>().len()
    }

    /// Hands the filter to the kernel, for this thread and those that it starts. Of several filters the strictest
    /// answer counts.
    pub fn install(self) -> Result<(), Error> {
        let mut program = not_there();
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

/// The beginning of each filter: what answers that the kernel has no such call. A libc that is newer than these lists
/// tries new calls first, and goes on with those that it knows from old kernels; so does every libc with `clone3`,
/// which hides its flags in memory where no filter sees them.
fn not_there() -> BpfProgram {
    let absent = u32::from(SeccompAction::Errno(libc::ENOSYS.cast_unsigned()));
    let load_number = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump = |test, number, yes, no| op(libc::BPF_JMP | libc::BPF_K | test, number, yes, no);
    vec![
        op(load_number, 0, 0, 0),
        // The 32-bit calls of x86-64 begin here; the list, which has none of them, is to judge.
        jump(libc::BPF_JGE, 0x4000_0000, 3, 0),
        jump(libc::BPF_JGE, FIRST_UNKNOWN, 1, 0),
        jump(libc::BPF_JEQ, libc::SYS_clone3.unsigned_abs() as u32, 0, 1),
        op(libc::BPF_RET | libc::BPF_K, absent, 0, 0),
    ]
}

const fn op(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

fn rule(args: &[Arg]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(args.iter().map(|arg| condition(*arg)).collect::<Result<_, _>>()?)
}

fn condition(arg: Arg) -> Result<SeccompCondition, BackendError> {
    let word = |value: libc::c_int| u64::from(value.cast_unsigned());
    let (index, operator, value) = match arg {
        Arg::Is(index, value) => (index, SeccompCmpOp::Eq, word(value)),
        Arg::Masked(index, mask, value) => (index, SeccompCmpOp::MaskedEq(word(mask)), word(value)),
        Arg::OurPid(index) => (index, SeccompCmpOp::Eq, u64::from(std::process::id())),
    };
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}
