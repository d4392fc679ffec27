//! Recording a program, stopping it in gdb, and comparing the stacks that both have seen.

pub(crate) mod compare;
pub(crate) mod gdb;
pub(crate) mod mappings;
pub(crate) mod program;
