//! What programs are called with.

use aya_ebpf::EbpfContext;
use aya_ebpf::programs::{
    BtfTracePointContext, ProbeContext, RawTracePointContext, TracePointContext,
};

/// What a program is called with, from which the kernel walks a stack.
pub trait Context: EbpfContext {
    /// Whether it is the `pt_regs` of a function that has just been called.
    const IS_AT_ENTRY: bool = false;
}

impl Context for BtfTracePointContext {}
impl Context for RawTracePointContext {}
impl Context for TracePointContext {}

impl Context for ProbeContext {
    const IS_AT_ENTRY: bool = true;
}
