//! Recording a program, stopping it in gdb, and comparing the stacks that both have seen.

pub(crate) mod compare;
pub(crate) mod gdb;
pub(crate) mod mappings;
pub(crate) mod program;

/// What `--unwind` is given; `None` before offwake has the option: then it walks by frame pointers, targets are
/// compiled with them, and of a stack only is asked that it has nothing that gdb's does not have.
pub(crate) const UNWIND: Option<&str> = None;

/// Whether offwake unwinds by call frame information.
pub(crate) const CFI: bool = UNWIND.is_some();

/// As [`compile`](program::compile) takes them: what the whole test is about.
pub(crate) const OMIT: &str = if CFI { "-fomit-frame-pointer" } else { "-fno-omit-frame-pointer" };
