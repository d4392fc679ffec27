//! Loading the BPF programs with the constants of one recording, and attaching them.

use std::any::Any;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{CgroupArray, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{Iter, ProgramError};
use aya::sys::SyscallError;
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use offwake_shared::{
    Counters, ExistingThread, MAX_UNWIND_RULES, Mark, SourceDetail, ThreadState, UNWIND_CHUNK,
};

use super::btf::{self, KernelTypes};
use super::constants::Constants;
use super::marks::{self, Marks};
use super::pod::Pod;
use super::probe::{Candidates, Flavour, Hook, IN_OBJECT, Probe};
use super::program::recursion_misses;
use super::quiesce::wait_for_running_programs;
use super::{
    Capacity, Config, Filter, UnwindChoice, budget, drain, kernel, source, untyped, unwind,
};

/// The programs with `bpf_loop`.
#[cfg(target_arch = "x86_64")]
static OBJECT: &[u8] = include_bytes_aligned!("../../bpf/offwake-x86_64.bpf.o");
#[cfg(target_arch = "aarch64")]
static OBJECT: &[u8] = include_bytes_aligned!("../../bpf/offwake-aarch64.bpf.o");
/// The programs without it ([`kernel::uses_bpf_loop`]): kernels that have none would not even take its callback as
/// dead code.
#[cfg(target_arch = "x86_64")]
static OBJECT_NO_LOOP: &[u8] = include_bytes_aligned!("../../bpf/offwake-x86_64-no-loop.bpf.o");
#[cfg(target_arch = "aarch64")]
static OBJECT_NO_LOOP: &[u8] = include_bytes_aligned!("../../bpf/offwake-aarch64-no-loop.bpf.o");

/// The programs that tell wake-up sources, too.
#[cfg(target_arch = "x86_64")]
static OBJECT_SOURCE: &[u8] = include_bytes_aligned!("../../bpf/offwake-x86_64-source.bpf.o");
#[cfg(target_arch = "aarch64")]
static OBJECT_SOURCE: &[u8] = include_bytes_aligned!("../../bpf/offwake-aarch64-source.bpf.o");
/// The same without `bpf_loop`.
#[cfg(target_arch = "x86_64")]
static OBJECT_SOURCE_NO_LOOP: &[u8] =
    include_bytes_aligned!("../../bpf/offwake-x86_64-source-no-loop.bpf.o");
#[cfg(target_arch = "aarch64")]
static OBJECT_SOURCE_NO_LOOP: &[u8] =
    include_bytes_aligned!("../../bpf/offwake-aarch64-source-no-loop.bpf.o");

/// The one for the running kernel. `tells_sources`: somebody wants to know wake-up sources; `unwinds`: user stacks are
/// walked by call frame information.
pub(super) fn object(tells_sources: bool, unwinds: bool) -> &'static [u8] {
    match (tells_sources, kernel::uses_bpf_loop(unwinds)) {
        (false, true) => OBJECT,
        (false, false) => OBJECT_NO_LOOP,
        (true, true) => OBJECT_SOURCE,
        (true, false) => OBJECT_SOURCE_NO_LOOP,
    }
}

/// The iterator over the threads that exist.
const EXISTING: &str = "existing";

/// The programs in the kernel, and their maps.
pub(super) struct Probes {
    bpf: Ebpf,
    marks: Marks,
    flavour: Flavour,
    /// Probes that tell what ends waits.
    callbacks: Vec<Hook>,
    /// See [`crate::recording::Meta::wake_source`].
    pub(super) wake_source: Option<String>,
    /// Dropping one detaches its program.
    links: Vec<Box<dyn Any>>,
    /// Whether user stacks are walked by call frame information.
    pub(super) unwinds: bool,
    filter: Filter,
}

impl Probes {
    /// Loads everything, for the first of the candidates that can be loaded; nothing runs yet. `filter` is that of
    /// `config`, with the command in it. `unwind`: walk user stacks by call frame information, if the kind of probe can.
    ///
    /// # Errors
    /// When none of the kinds of probe that are left works here: what was tried, and why not.
    pub(super) fn load(
        candidates: &mut Candidates,
        config: &Config,
        filter: &Filter,
        unwind: bool,
    ) -> Result<Self> {
        let types = KernelTypes::of_running_kernel().ok();
        if unwind && types.is_none() && config.unwind == UnwindChoice::Cfi {
            bail!("--unwind cfi {}: use --unwind fp", btf::needed());
        }
        if types.is_none() && config.wake_source != SourceDetail::Off {
            bail!("--wake-source {}", btf::needed());
        }
        let types = types.as_ref();
        loop {
            let probe = candidates.take_next()?;
            let loaded = Flavour::find(probe, types)
                .and_then(|flavour| Self::load_flavour(flavour, types, config, filter, unwind));
            match loaded {
                Ok(probes) => return Ok(probes),
                Err(error) => candidates.failed(probe, &error),
            }
        }
    }

    /// Loads everything for a kind of probe; see [`Self::load`].
    ///
    /// # Errors
    /// When it does not work here.
    pub(super) fn load_flavour(
        flavour: Flavour,
        types: Option<&KernelTypes>,
        config: &Config,
        filter: &Filter,
        unwind: bool,
    ) -> Result<Self> {
        raise_memory_limit();
        let unwinds = unwind && flavour.has_types;
        let (mut loader, constants) =
            loader_beside(|| Constants::new(config, filter, &flavour.words, types, unwinds));
        let constants = constants?;
        let btf = types.map(KernelTypes::of_programs).transpose()?;
        let Capacity {
            threads,
            waits,
            stacks,
            stack_bytes,
            notices,
            unwind_mappings,
            unwind_pages,
            unwind_rows,
            sources,
        } = config.capacity;
        loader
            .map_max_entries("THREADS", threads)
            .map_max_entries("MARKS", marks::chunks())
            .map_max_entries("WAITS_0", waits)
            .map_max_entries("WAITS_1", waits)
            .map_max_entries("KNOWN_STACKS", stacks)
            .map_max_entries("STACKS", stack_bytes)
            .map_max_entries("NOTICES", notices);
        if config.wake_source != SourceDetail::Off {
            loader.map_max_entries("SOURCES", sources);
        }
        let can_remember = flavour.can_remember() && kernel::uses_bpf_loop(unwinds);
        let remembers = u32::from(config.remember && can_remember);
        loader.override_global("REMEMBER", &remembers, true);
        if remembers == 0 {
            loader.map_max_entries("REMEMBERED_KERNEL", 1).map_max_entries("REMEMBERED_USER", 1);
        }
        if unwinds {
            let chunks = |entries: u32| entries.div_ceil(UNWIND_CHUNK as u32);
            loader
                .map_max_entries("UNWIND_MAPPINGS", unwind_mappings)
                .map_max_entries("UNWIND_PAGES", chunks(unwind_pages))
                .map_max_entries("UNWIND_ROWS", chunks(unwind_rows))
                .map_max_entries("UNWIND_RULES", MAX_UNWIND_RULES);
        }
        let method = source::Method::choose(config);
        let callbacks = method.map_or_else(Vec::new, source::Method::hooks);
        let has_callbacks = u32::from(!callbacks.is_empty());
        loader.override_global("HAS_CALLBACKS", &has_callbacks, true);
        for (name, value) in &constants.words {
            loader.override_global(name, value, true);
        }
        for (name, value) in &constants.double_words {
            loader.override_global(name, value, true);
        }
        let mut bpf = loader.load(object(method.is_some(), unwinds)).map_err(no_maps)?;
        let hooks = flavour.hooks.iter().chain(&callbacks);
        let loaded = Hook::load_all(hooks, &mut bpf, btf.as_ref());
        loaded.map_err(|(name, error)| rejected(name, &error))?;
        if let Some(btf) = &btf {
            let existing = existing(&mut bpf).load("task", btf);
            existing.map_err(|error| rejected(EXISTING, &error))?;
        }
        let marks = Marks::new(&bpf)?;
        let mut this = Self {
            bpf,
            marks,
            flavour,
            callbacks,
            wake_source: method.map(|method| method.describe(config.wake_source)),
            links: Vec::new(),
            unwinds,
            filter: filter.clone(),
        };
        this.set_targets(filter)?;
        Ok(this)
    }

    fn set_targets(&mut self, filter: &Filter) -> Result<()> {
        for pid in &filter.pids {
            self.add_target_process(*pid)?;
        }
        for &tid in &filter.tids {
            self.marks.set(tid, Mark::Target);
        }
        let mut tids: HashMap<_, u32, u32> = self.map_mut("TARGET_TIDS").try_into()?;
        for tid in &filter.tids {
            tids.insert(tid, 1, 0).context("too many threads to record")?;
        }
        if let Some(directory) = &filter.cgroup {
            let name = directory.display();
            let cgroup =
                File::open(directory).with_context(|| format!("cannot open the cgroup {name}"))?;
            let mut map: CgroupArray<_> = self.map_mut("TARGET_CGROUP").try_into()?;
            map.set(0, cgroup, 0).with_context(|| format!("cannot record the cgroup {name}"))?;
        }
        Ok(())
    }

    /// Records a process, too.
    fn add_target_process(&mut self, pid: u32) -> Result<()> {
        self.marks.set(pid, Mark::Target);
        let mut pids: HashMap<_, u32, u32> = self.map_mut("TARGET_PIDS").try_into()?;
        pids.insert(pid, 1, 0).context("too many processes to record")
    }

    /// Which kind of probe this is.
    pub(super) fn probe(&self) -> Probe {
        self.flavour.probe
    }

    /// Whether the kernel's types are known.
    pub(super) fn has_types(&self) -> bool {
        self.flavour.has_types
    }

    /// Has the programs run that see what ends waits, of which those of [`Self::attach`] make use.
    pub(super) fn attach_callbacks(&mut self) -> Result<()> {
        let Self { bpf, callbacks, links, .. } = self;
        for hook in callbacks {
            let link = hook.attach(bpf);
            links.push(
                link.context("--wake-source does not work here; --probe btf does without kprobes")?,
            );
        }
        Ok(())
    }

    /// Starts the recording.
    pub(super) fn attach(&mut self) -> Result<()> {
        self.attach_if(|_| true)
    }

    /// Attaches those programs whose name passes.
    pub(super) fn attach_if(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let Self { bpf, flavour, links, .. } = self;
        for hook in flavour.hooks.iter().filter(|hook| wanted(hook.program)) {
            links.push(hook.attach(bpf)?);
        }
        Ok(())
    }

    /// Ends the recording: when this returns, no program runs any more. The programs themselves
    /// stay until the value is dropped, for what they have counted.
    pub(super) fn detach(&mut self) {
        // In the other order: what is seen to end must have its wake-up seen.
        while self.links.pop().is_some() {}
        wait_for_running_programs();
    }

    /// Makes a thread known that was off-CPU before the recording, unless it was switched out
    /// since. Returns whether there was room for it.
    pub(super) fn add_thread(&mut self, key: u32, thread: ThreadState) -> Result<bool> {
        const BPF_NOEXIST: u64 = 1;
        self.marks.set(key, Mark::Known);
        let mut threads: HashMap<_, u32, Pod<ThreadState>> = self.map_mut("THREADS").try_into()?;
        let result = threads.insert(key, Pod(thread), BPF_NOEXIST);
        match result.as_ref().map_err(errno) {
            Ok(()) | Err(Some(libc::EEXIST)) => Ok(true),
            Err(Some(libc::E2BIG)) => Ok(false),
            Err(_) => Ok(result.map(|()| true)?),
        }
    }

    /// The threads that exist now and pass the filter, except for its cgroup.
    pub(super) fn existing_threads(&mut self) -> Result<Vec<ExistingThread>> {
        const LEN: usize = size_of::<ExistingThread>();
        if !self.flavour.has_types {
            return Ok(untyped::existing_threads(&self.filter));
        }
        let program = existing(&mut self.bpf);
        let link = program.attach()?;
        let mut bytes = Vec::new();
        program.take_link(link)?.into_file()?.read_to_end(&mut bytes)?;
        let (threads, []) = bytes.as_chunks::<LEN>() else {
            bail!("the BPF iterator over tasks wrote part of a thread");
        };
        // SAFETY: the program wrote values of this type, which is plain data.
        Ok(threads
            .iter()
            .map(|bytes| unsafe { bytes.as_ptr().cast::<ExistingThread>().read_unaligned() })
            .collect())
    }

    /// What the programs have counted, on all CPUs together.
    pub(super) fn counters(&self) -> Result<Counters> {
        let map: PerCpuArray<_, Pod<Counters>> =
            self.bpf.map("COUNTERS").expect(IN_OBJECT).try_into()?;
        let mut sum = Counters::default();
        for Pod(cpu) in map.get(&0, 0)?.iter() {
            let Counters { intervals, off_ns, new_waits, remembered, losses } = cpu;
            sum.intervals += intervals;
            sum.off_ns += off_ns;
            sum.new_waits += new_waits;
            sum.remembered += remembered;
            for (sum, loss) in sum.losses.iter_mut().zip(losses) {
                *sum += loss;
            }
        }
        Ok(sum)
    }

    /// How often the kernel did not run a program because it was running on that CPU already.
    pub(super) fn recursion_misses(&self) -> u64 {
        self.flavour
            .hooks
            .iter()
            .filter_map(|hook| self.bpf.program(hook.program)?.fd().ok())
            .map(|fd| recursion_misses(fd.as_fd()))
            .sum()
    }

    /// What keeps the programs' cost under a ceiling works on.
    pub(super) fn budget(&mut self) -> Result<budget::Handles> {
        let programs = self.flavour.hooks.iter().filter_map(|hook| {
            Some(self.bpf.program(hook.program)?.fd().ok()?.as_fd().try_clone_to_owned())
        });
        let programs = programs.collect::<Result<_, _>>()?;
        let quota = self.bpf.take_map("QUOTA").expect(IN_OBJECT).try_into()?;
        Ok(budget::Handles { programs, quota })
    }

    /// The notices that the programs send.
    pub(super) fn take_notices(&mut self) -> Result<RingBuf<MapData>> {
        Ok(self.bpf.take_map("NOTICES").expect(IN_OBJECT).try_into()?)
    }

    /// The maps that are emptied while the programs fill them.
    pub(super) fn take_drained_maps(&mut self) -> Result<drain::Maps> {
        // The counters are read here, too.
        let counters = self.bpf.map("COUNTERS").expect(IN_OBJECT);
        let Map::PerCpuArray(counters) = counters else { unreachable!("the counters of each CPU") };
        let counters = MapData::from_fd(counters.fd().as_fd().try_clone_to_owned()?)?;
        let mut take = |name: &str| self.bpf.take_map(name).expect(IN_OBJECT);
        let hash_map = |map: Map| match map {
            Map::HashMap(map) => map,
            _ => unreachable!("a hash map of the object"),
        };
        Ok(drain::Maps {
            waits: [hash_map(take("WAITS_0")), hash_map(take("WAITS_1"))],
            control: take("CONTROL").try_into()?,
            counters: Map::PerCpuArray(counters).try_into()?,
            stacks: take("STACKS").try_into()?,
            known_stacks: hash_map(take("KNOWN_STACKS")),
            filling: take("FILLING").try_into()?,
        })
    }

    /// The maps of unwind tables.
    pub(super) fn take_unwind_maps(&mut self) -> Result<unwind::Maps> {
        let mut take = |name: &str| self.bpf.take_map(name).expect(IN_OBJECT);
        Ok(unwind::Maps {
            programs: take("UNWIND_PROGRAMS").try_into()?,
            changes: take("UNWIND_CHANGES").try_into()?,
            mappings: take("UNWIND_MAPPINGS").try_into()?,
            pages: take("UNWIND_PAGES").try_into()?,
            rows: take("UNWIND_ROWS").try_into()?,
            rules: take("UNWIND_RULES").try_into()?,
            seen: take("SEEN").try_into()?,
        })
    }

    /// A hash map, to be read in batches.
    pub(super) fn hash_map(&self, name: &str) -> BorrowedFd<'_> {
        match self.bpf.map(name) {
            Some(Map::HashMap(map)) => map.fd().as_fd(),
            _ => unreachable!("{name} is a hash map of the object"),
        }
    }

    fn map_mut(&mut self, name: &str) -> &mut Map {
        self.bpf.map_mut(name).expect(IN_OBJECT)
    }
}

/// A loader, made while something else is done: aya reads all of the kernel's types for it, which nobody needs.
pub(super) fn loader_beside<'a, T>(other: impl FnOnce() -> T) -> (EbpfLoader<'a>, T) {
    thread::scope(|scope| {
        let loader = scope.spawn(|| {
            let mut loader = EbpfLoader::new();
            loader.btf(None);
            loader
        });
        let done = other();
        (loader.join().unwrap_or_else(|panic| resume_unwind(panic)), done)
    })
}

fn existing(bpf: &mut Ebpf) -> &mut Iter {
    bpf.program_mut(EXISTING).expect(IN_OBJECT).try_into().expect("an iterator")
}

/// Before 5.11 the memory of maps and programs counts as locked memory, which is limited. Without the privilege to raise
/// the limit it stays as it is: it may do. Returns the limit that holds then.
pub(super) fn raise_memory_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to a valid rlimit, which the kernel reads, or else fills.
    unsafe {
        if libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) != 0 {
            libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit);
        }
    }
    limit.rlim_cur
}

pub(super) fn no_maps(error: EbpfError) -> anyhow::Error {
    let errno = match &error {
        EbpfError::MapError(error) => errno(error),
        _ => None,
    };
    let error = anyhow::Error::from(error);
    match may_lock_too_little(errno) {
        Some(what_to_do) => error.context(format!("cannot create the BPF maps: {what_to_do}")),
        None => error.context("cannot create the BPF maps"),
    }
}

/// What to do if the kernel refused memory with this error because of a limit that [`raise_memory_limit`] could not raise.
fn may_lock_too_little(errno: Option<i32>) -> Option<&'static str> {
    let is_limit = errno == Some(libc::EPERM)
        && kernel::version().limits_locked_memory()
        && raise_memory_limit() != libc::RLIM_INFINITY;
    is_limit.then_some(
        "the limit of locked memory is too small and cannot be raised: run `ulimit -l unlimited` first, or offwake \
         with CAP_SYS_RESOURCE",
    )
}

/// The verifier's log runs to thousands of lines, of which the last before its figures says why.
pub(super) fn rejected(name: &str, error: &ProgramError) -> anyhow::Error {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return anyhow!("cannot load the BPF program {name}: {error}");
    };
    let log = verifier_log.to_string();
    let figures = ["processed ", "insns processed ", "verification time ", "stack depth "];
    let reason = log
        .lines()
        .rev()
        .find(|line| !line.is_empty() && !figures.iter().any(|figure| line.starts_with(figure)))
        .unwrap_or("no reason given");
    // Then the kernel does as if it had no such function (`bpf_tracing_func_proto` in
    // kernel/trace/bpf_trace.c).
    let is_missing = reason.contains("unknown func") || reason.contains("cannot use helper");
    if is_missing && reason.contains("bpf_probe_read") {
        return anyhow!(
            "the kernel is locked down (confidentiality): nobody may read its memory by BPF; boot \
             with lockdown=integrity, or without ({reason})"
        );
    }
    if let Some(what_to_do) = may_lock_too_little(io_error.raw_os_error())
        && log.is_empty()
    {
        return anyhow!("cannot load the BPF program {name}: {what_to_do}");
    }
    anyhow!("the kernel rejected the BPF program {name}: {io_error}: {reason}")
}

/// The error of the system call behind an error of aya.
fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(SyscallError { io_error, .. })
        | MapError::CreateError { io_error, .. } => io_error.raw_os_error(),
        _ => None,
    }
}
