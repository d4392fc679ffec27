//! The messages of `profile.proto` (google/pprof, `proto/profile.proto`), as far as they are used.
//!
//! Fields from 1000 up are ours, for what the standard has no place for. Every decoder skips what it
//! does not know; what a tool wrote that dropped them is read by convention (see [`super::read`]).

use prost::Message;

/// Names of the values of a sample, in their order, with their units.
pub(super) const SAMPLE_TYPES: [(&str, &str); 4] =
    [("off-cpu", NANOSECONDS), (BLOCKED, NANOSECONDS), (RUNQUEUE, NANOSECONDS), (COUNT, "count")];
pub(super) const BLOCKED: &str = "blocked";
pub(super) const RUNQUEUE: &str = "run-queue";
pub(super) const COUNT: &str = "count";
pub(super) const NANOSECONDS: &str = "nanoseconds";

/// The name of the function between sleeper and waker.
pub(super) const DELIMITER: &str = "--";

/// The file name of the mapping of the kernel proper, as perf and pprof know it.
pub(super) const KERNEL: &str = "[kernel.kallsyms]";

/// Keys of labels. Readers ignore others.
pub(super) mod label {
    pub(in super::super) const SLEEPER: &str = "sleeper";
    pub(in super::super) const SLEEPER_PID: &str = "sleeper_pid";
    pub(in super::super) const SLEEPER_TID: &str = "sleeper_tid";
    pub(in super::super) const STATE: &str = "state";
    pub(in super::super) const WAKER_KIND: &str = "waker_kind";
    pub(in super::super) const WAKER: &str = "waker";
    pub(in super::super) const WAKER_PID: &str = "waker_pid";
    pub(in super::super) const WAKER_TID: &str = "waker_tid";
    pub(in super::super) const SOFTIRQ: &str = "softirq";
    pub(in super::super) const MAX: &str = "max";
    pub(in super::super) const WAKE_SOURCE: &str = "wake source";
}

/// Beginnings of comments.
pub(super) mod comment {
    pub(in super::super) const KERNEL: &str = "kernel: ";
    pub(in super::super) const PROBE: &str = "probe: ";
    pub(in super::super) const WAKE_SOURCE: &str = "wake source: ";
    pub(in super::super) const TARGET: &str = "target: ";
    pub(in super::super) const LOSS: &str = "loss: ";
    /// The ceiling and what was spent, in millionths.
    pub(in super::super) const SAMPLING: &str = "sampling: ";
    /// Pid, tid, count, blocked and run-queue time in ns, name: all intervals of a thread.
    pub(in super::super) const THREAD: &str = "thread: ";
}

/// Numbers of the fields of [`Profile`] that are read one by one.
pub(super) mod field {
    pub(in super::super) const SAMPLE_TYPE: u64 = 1;
    pub(in super::super) const SAMPLE: u64 = 2;
    pub(in super::super) const MAPPING: u64 = 3;
    pub(in super::super) const LOCATION: u64 = 4;
    pub(in super::super) const FUNCTION: u64 = 5;
    pub(in super::super) const STRING_TABLE: u64 = 6;
    pub(in super::super) const TIME_NANOS: u64 = 9;
    pub(in super::super) const DURATION_NANOS: u64 = 10;
    pub(in super::super) const COMMENT: u64 = 13;
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    pub(super) time_nanos: i64,
    #[prost(int64, tag = "10")]
    pub(super) duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    pub(super) period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    pub(super) period: i64,
    #[prost(int64, repeated, tag = "13")]
    pub(super) comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    pub(super) default_sample_type: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueType {
    #[prost(int64, tag = "1")]
    pub(super) kind: i64,
    #[prost(int64, tag = "2")]
    pub(super) unit: i64,
}

/// One wait. Its locations are those of the merged stack from its top: the waker's name, its stack
/// from the outermost frame, `--`, the sleeper's stack from the innermost frame, the sleeper's name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) label: Vec<Label>,
    /// Ours: `Histogram::counts`. Not labels: to other tools, samples that differ in those are different,
    /// and what they merge they would not add up.
    #[prost(uint64, repeated, tag = "1000")]
    pub(super) histogram: Vec<u64>,
    /// Ours: `Estimate`, its members in their order; nothing where all are 0.
    #[prost(uint64, repeated, tag = "1001")]
    pub(super) estimate: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(int64, tag = "1")]
    pub(super) key: i64,
    #[prost(int64, optional, tag = "2")]
    pub(super) str: Option<i64>,
    #[prost(int64, optional, tag = "3")]
    pub(super) num: Option<i64>,
    #[prost(int64, tag = "4")]
    pub(super) num_unit: i64,
}

/// A module. Addresses are those that the file counts, so each covers all addresses.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Mapping {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "3")]
    pub(super) memory_limit: u64,
    #[prost(int64, tag = "5")]
    pub(super) filename: i64,
    #[prost(int64, tag = "6")]
    pub(super) build_id: i64,
    #[prost(bool, tag = "7")]
    pub(super) has_functions: bool,
    #[prost(bool, tag = "8")]
    pub(super) has_filenames: bool,
    #[prost(bool, tag = "9")]
    pub(super) has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    pub(super) has_inline_frames: bool,
    /// Ours: `Frame::kernel`.
    #[prost(bool, optional, tag = "1000")]
    pub(super) kernel: Option<bool>,
    /// Ours: `Frame::module`.
    #[prost(int64, optional, tag = "1001")]
    pub(super) module: Option<i64>,
    /// Ours: it stands for one of `Profile::modules`.
    #[prost(bool, optional, tag = "1002")]
    pub(super) is_module: Option<bool>,
}

/// A frame, with those that were inlined into it before it; or, without a mapping, the name of a
/// thread or the delimiter.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Location {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) mapping_id: u64,
    /// `Frame::offset`.
    #[prost(uint64, tag = "3")]
    pub(super) address: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Line {
    #[prost(uint64, tag = "1")]
    pub(super) function_id: u64,
    #[prost(int64, optional, tag = "2")]
    pub(super) line: Option<i64>,
    /// Ours: `Frame::inlined`, where no other line of the location follows.
    #[prost(bool, optional, tag = "1000")]
    pub(super) inlined: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Function {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// `Frame::label`: tools drop frames without a name. `system_name` stays empty: were it the same,
    /// pprof would take the name for one of C++ and shorten it.
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
    #[prost(int64, optional, tag = "4")]
    pub(super) filename: Option<i64>,
    /// Ours: the name only stands for one.
    #[prost(bool, optional, tag = "1000")]
    pub(super) unnamed: Option<bool>,
}
