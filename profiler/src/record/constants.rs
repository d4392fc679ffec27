//! The constants of one recording, which the BPF programs are loaded with.

use anyhow::{Context, Result, ensure};
use offwake_shared::{MAX_FRAMES, comm_words, filter};

use super::btf::KernelTypes;
use super::{Config, Filter, offsets, registers, source};
use crate::arch::Architecture;
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
    /// Looks up where this kernel has what the programs read. `of_probe`: those of the kind of probe;
    /// `types`: the kernel's, if they are known; `unwind`: by call frame information.
    pub(super) fn new(
        config: &Config,
        filter: &Filter,
        of_probe: &[(&'static str, u32)],
        types: Option<&KernelTypes>,
        unwind: bool,
    ) -> Result<Self> {
        let max = MAX_FRAMES as u32;
        let mut words = vec![
            ("FILTER", filter_bits(filter)),
            ("OWN_TGID", std::process::id()),
            ("ONLY_TGID", only_process(config, filter)),
            ("FOLLOW", u32::from(config.follow)),
            ("STATES", config.states),
            ("FRAMES_LIMIT", system::max_stack_frames().map_or(max, |limit| limit.min(max))),
            ("USER_STACKS", u32::from(config.user_stacks)),
            ("KERNEL_STACKS", u32::from(config.kernel_stacks)),
            ("SAMPLE", u32::from(config.overhead_ppm.is_some())),
            ("UNWIND", u32::from(unwind)),
            ("OWN_NAMESPACE", system::pid_namespace()?),
            ("HAS_TYPES", u32::from(types.is_some())),
        ];
        words.extend(of_probe);
        if let Some(types) = types {
            words.extend(offsets::of_members(types)?);
            words.extend(registers::offsets(types)?);
            words.extend(source::constants(config.wake_source, types)?);
        }
        let mut comm = [0; 16];
        if let Some(name) = &filter.comm {
            comm[..name.len()].copy_from_slice(name.as_bytes());
        }
        let [low, high] = comm_words(comm);
        let [mask_low, mask_high] = comm_words(comm_mask(filter.comm.as_deref()));
        let interrupts = interrupts::entries(system::has_cpu_flag).context(
            "cannot read the kernel's symbols, without which interrupts cannot be told from threads",
        )?;
        ensure!(
            interrupts.len() <= INTERRUPT_RANGES,
            "the kernel's interrupt entries are in {} places, {INTERRUPT_RANGES} are supported",
            interrupts.len()
        );
        let range = |i: usize| interrupts.get(i).map_or((0, 0), |r| (r.start, r.end - r.start));
        let functions = source::functions(config.wake_source)?;
        let mut double_words = vec![
            ("TARGET_COMM_LOW", low),
            ("TARGET_COMM_HIGH", high),
            ("TARGET_COMM_MASK_LOW", mask_low),
            ("TARGET_COMM_MASK_HIGH", mask_high),
            ("MIN_OFF_NS", config.min_off.as_nanos() as u64),
            ("WAITS_MASK", waits_mask(config.capacity.waits)),
            ("STACKS_HALF", u64::from(config.capacity.stack_bytes / 2)),
            ("MAX_OFF_NS", config.max_off.map_or(u64::MAX, |max| max.as_nanos() as u64)),
            ("INTERRUPT_START_0", range(0).0),
            ("INTERRUPT_LEN_0", range(0).1),
            ("INTERRUPT_START_1", range(1).0),
            ("INTERRUPT_LEN_1", range(1).1),
            ("INTERRUPT_START_2", range(2).0),
            ("INTERRUPT_LEN_2", range(2).1),
        ];
        double_words.extend(registers::masks());
        double_words.extend(functions);
        if let Some(code) = Architecture::OWN.facts().kernel.code.as_ref() {
            double_words.push(("KERNEL_TEXT_START", code.start));
            double_words.push(("KERNEL_TEXT_LEN", code.end - code.start));
        }
        Ok(Self { words, double_words })
    }
}

/// Which bytes of the kernel's memory of a name are the name, and the 0 behind it: all bits of them are set.
fn comm_mask(name: Option<&str>) -> [u8; 16] {
    let len = name.map_or(0, |name| name.len() + 1);
    std::array::from_fn(|i| if i < len { u8::MAX } else { 0 })
}

/// The only process that is ever recorded; 0 where there may be more.
fn only_process(config: &Config, filter: &Filter) -> u32 {
    match filter.pids[..] {
        [pid] if !config.follow => pid,
        _ => 0,
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

/// Of the number of waits that a CPU has put into the maps, the bits that are 0 whenever it has put in a
/// part of a quarter of what one holds, with that quarter shared among all CPUs.
fn waits_mask(waits: u32) -> u64 {
    // Where the kernel does not tell, it does not hurt to be asked too often.
    let possible_cpus = || aya::util::nr_cpus().unwrap_or(1024);
    let share = (waits as usize / 4 / possible_cpus()).max(1);
    (1 << share.ilog2()) - 1
}
