//! The constants of one recording, which the BPF programs are loaded with.

use anyhow::{Context, Result, ensure};
use offwake_shared::{MAX_FRAMES, filter};

use super::btf::KernelTypes;
use super::{Config, Filter, kernel, registers};
use crate::snapshot::system;
use crate::symbolize::interrupts;

/// How many ranges of interrupt entries the programs look at.
const INTERRUPT_RANGES: usize = 3;

/// Values of globals, by name (profiler-ebpf/src/maps.rs).
pub(super) struct Constants {
    /// Of type `u32`.
    pub(super) words: Vec<(&'static str, u32)>,
    /// Of type `u64`.
    pub(super) double_words: Vec<(&'static str, u64)>,
}

impl Constants {
    /// Looks up where this kernel has what the programs read. `unwind`: by call frame information.
    pub(super) fn new(config: &Config, filter: &Filter, unwind: bool) -> Result<Self> {
        let types = KernelTypes::of_running_kernel()?;
        let task = |member: &str| types.offset_of("task_struct", &[member]);
        let max = MAX_FRAMES as u32;
        let has_prev_state = types.tracepoint_arguments("sched_switch") > Some(3);
        let mut words = vec![
            ("FILTER", filter_bits(filter)),
            ("OWN_TGID", std::process::id()),
            ("FOLLOW", u32::from(config.follow)),
            ("STATES", config.states),
            ("FRAMES_LIMIT", system::max_stack_frames().map_or(max, |limit| limit.min(max))),
            ("USER_STACKS", u32::from(config.user_stacks)),
            ("KERNEL_STACKS", u32::from(config.kernel_stacks)),
            ("TASK_PID", task("pid")?),
            ("TASK_TGID", task("tgid")?),
            ("TASK_FLAGS", task("flags")?),
            ("TASK_EXEC_ID", task("self_exec_id")?),
            ("TASK_START_TIME", task("start_boottime")?),
            ("TASK_STATE", task("__state").or_else(|_| task("state"))?),
            ("TASK_COMM", task("comm")?),
            ("TASK_RUNTIME", types.offset_of("task_struct", &["se", "sum_exec_runtime"])?),
            (
                "TASK_RUNTIME_BEFORE",
                types.offset_of("task_struct", &["se", "prev_sum_exec_runtime"])?,
            ),
            ("TASK_ON_CPU", task("on_cpu")?),
            ("UNWIND", u32::from(unwind)),
            ("HAS_LOOP", u32::from(kernel::version().has_bpf_loop())),
            ("TASK_MM", task("mm")?),
            ("MM_START_STACK", types.offset_of("mm_struct", &["start_stack"])?),
            ("OWN_NAMESPACE", system::pid_namespace()?),
            ("TASK_GROUP_LEADER", task("group_leader")?),
            ("TASK_THREAD_PID", task("thread_pid")?),
            ("PID_LEVEL", types.offset_of("pid", &["level"])?),
            ("PID_NUMBERS", types.offset_of("pid", &["numbers"])?),
            ("NAMESPACE_INUM", types.offset_of("pid_namespace", &["ns", "inum"])?),
            ("HAS_PREV_STATE", u32::from(has_prev_state)),
        ];
        let mut comm = [0; 16];
        if let Some(name) = &filter.comm {
            comm[..name.len()].copy_from_slice(name.as_bytes());
        }
        let [low, high] = [0, 8].map(|from| {
            u64::from_le_bytes(comm[from..from + 8].try_into().expect("8 bytes of 16"))
        });
        let interrupts = interrupts::entries().context(
            "cannot read the kernel's symbols, without which interrupts cannot be told from threads",
        )?;
        ensure!(
            interrupts.len() <= INTERRUPT_RANGES,
            "the kernel's interrupt entries are in {} places, {INTERRUPT_RANGES} are supported",
            interrupts.len()
        );
        let range = |i: usize| interrupts.get(i).map_or((0, 0), |r| (r.start, r.end - r.start));
        let mut double_words = vec![
            ("TARGET_COMM_LOW", low),
            ("TARGET_COMM_HIGH", high),
            ("MIN_OFF_NS", config.min_off.as_nanos() as u64),
            ("MAX_OFF_NS", config.max_off.map_or(u64::MAX, |max| max.as_nanos() as u64)),
            ("INTERRUPT_START_0", range(0).0),
            ("INTERRUPT_LEN_0", range(0).1),
            ("INTERRUPT_START_1", range(1).0),
            ("INTERRUPT_LEN_1", range(1).1),
            ("INTERRUPT_START_2", range(2).0),
            ("INTERRUPT_LEN_2", range(2).1),
        ];
        words.extend(registers::offsets(&types)?);
        double_words.extend(registers::masks());
        Ok(Self { words, double_words })
    }
}

fn filter_bits(filter: &Filter) -> u32 {
    let Filter { pids, tids, cgroup, comm } = filter;
    let bit = |given: bool, bit: u32| if given { bit } else { 0 };
    bit(!pids.is_empty(), filter::PIDS)
        | bit(!tids.is_empty(), filter::TIDS)
        | bit(cgroup.is_some(), filter::CGROUP)
        | bit(comm.is_some(), filter::COMM)
}
