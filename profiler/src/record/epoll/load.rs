//! Loading the programs of `offwake epoll`, and attaching them.

use std::any::Any;
use std::io::Read;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{Iter, UProbe};
use offwake_shared::{EpollBytes, EpollCounters, EpollFd, EpollWaiter, Mark, SourceDetail};

use super::Config;
use super::callback::Callback;
use crate::record::btf::KernelTypes;
use crate::record::constants::Constants;
use crate::record::load::{loader_beside, no_maps, object, raise_memory_limit, rejected};
use crate::record::marks::{self, Marks};
use crate::record::pod::Pod;
use crate::record::probe::{Hook, IN_OBJECT, epoll_hooks};
use crate::record::program::recursion_misses;
use crate::record::quiesce::wait_for_running_programs;
use crate::record::{self, Filter, kernel, source};

/// Maps of recordings, which are made as small as can be.
const UNUSED: [&str; 8] = [
    "THREADS",
    "WAITS_0",
    "WAITS_1",
    "STACKS",
    "SEEN",
    "UNWIND_PROGRAMS",
    "REMEMBERED_KERNEL",
    "REMEMBERED_USER",
];

/// The iterator over open files.
const FILES: &str = "epoll_files";
/// The program of `--callback`.
const CALLBACK: &str = "epoll_callback";

/// Bytes for events that user space has not read yet: 50,000 wake-ups a second for more than a second.
const BUFFER: u32 = 32 << 20;
/// Threads that wait in epoll at the same time.
const WAITERS: u32 = 65536;
/// Descriptors that bytes are counted of.
const DESCRIPTORS: u32 = 65536;

/// The programs in the kernel, and their maps.
pub(super) struct Programs {
    bpf: Ebpf,
    hooks: Vec<Hook>,
    callbacks: Vec<Callback>,
    /// Dropping one detaches its program.
    links: Vec<Box<dyn Any>>,
}

impl Programs {
    /// Loads everything; nothing runs yet.
    pub(super) fn load(config: &Config, callbacks: Vec<Callback>) -> Result<Self> {
        raise_memory_limit();
        let types = KernelTypes::of_running_kernel()?;
        let hooks = epoll_hooks(&types)?;
        let (mut loader, constants) = loader_beside(|| constants(config, &types));
        let constants = constants?;
        let btf = types.of_programs()?;
        for map in UNUSED {
            loader.map_max_entries(map, 1);
        }
        loader
            .map_max_entries("NOTICES", 4096)
            .map_max_entries("MARKS", marks::chunks())
            .map_max_entries("EPOLL_EVENTS", BUFFER)
            .map_max_entries("EPOLL_WAITERS", WAITERS)
            .map_max_entries("EPOLL_BYTES", DESCRIPTORS);
        for (name, value) in &constants.words {
            loader.override_global(name, value, true);
        }
        for (name, value) in &constants.double_words {
            loader.override_global(name, value, true);
        }
        let mut bpf = loader.load(object(false, false)).map_err(no_maps)?;
        let loaded = Hook::load_all(hooks.iter(), &mut bpf, Some(&btf));
        loaded.map_err(|(name, error)| rejected(name, &error))?;
        files(&mut bpf).load("task_file", &btf).map_err(|error| rejected(FILES, &error))?;
        if !callbacks.is_empty() {
            callback_program(&mut bpf).load().map_err(|error| rejected(CALLBACK, &error))?;
        }
        let marks = Marks::new(&bpf)?;
        let mut this = Self { bpf, hooks, callbacks, links: Vec::new() };
        let mut pids: HashMap<_, u32, u32> = this.map_mut("TARGET_PIDS").try_into()?;
        for pid in &config.pids {
            marks.set(*pid, Mark::Target);
            pids.insert(pid, 1, 0).context("too many processes to watch")?;
        }
        Ok(this)
    }

    /// Starts it.
    pub(super) fn attach(&mut self) -> Result<()> {
        let Self { bpf, hooks, links, callbacks } = self;
        for hook in hooks {
            links.push(hook.attach(bpf)?);
        }
        for callback in callbacks.iter() {
            links.push(Box::new(callback.attach(callback_program(bpf))?));
        }
        Ok(())
    }

    /// Ends it: when this returns, no program runs any more.
    pub(super) fn detach(&mut self) {
        while self.links.pop().is_some() {}
        wait_for_running_programs();
    }

    /// The events.
    pub(super) fn take_events(&mut self) -> Result<RingBuf<MapData>> {
        Ok(self.bpf.take_map("EPOLL_EVENTS").expect(IN_OBJECT).try_into()?)
    }

    /// Has the open files of the processes told of as events.
    pub(super) fn tell_open_files(&mut self) -> Result<()> {
        let program = files(&mut self.bpf);
        let link = program.attach()?;
        let mut nothing = Vec::new();
        program.take_link(link)?.into_file()?.read_to_end(&mut nothing)?;
        if !nothing.is_empty() {
            bail!("the BPF iterator over files wrote something");
        }
        Ok(())
    }

    /// Makes a thread known that waits since before the programs were attached.
    pub(super) fn add_waiter(&mut self, tid: u32, waiter: EpollWaiter) -> Result<()> {
        let mut waiters: HashMap<_, u32, Pod<EpollWaiter>> =
            self.map_mut("EPOLL_WAITERS").try_into()?;
        Ok(waiters.insert(tid, Pod(waiter), 0)?)
    }

    /// Takes that back.
    pub(super) fn remove_waiter(&mut self, tid: u32) -> Result<()> {
        let mut waiters: HashMap<_, u32, Pod<EpollWaiter>> =
            self.map_mut("EPOLL_WAITERS").try_into()?;
        // It may have returned, and removed itself.
        let _ = waiters.remove(&tid);
        Ok(())
    }

    /// What went through descriptors that are open.
    pub(super) fn bytes(&self) -> Result<Vec<(EpollFd, EpollBytes)>> {
        let map: HashMap<_, Pod<EpollFd>, Pod<EpollBytes>> =
            self.bpf.map("EPOLL_BYTES").expect(IN_OBJECT).try_into()?;
        Ok(map.iter().filter_map(|entry| entry.ok().map(|(fd, bytes)| (fd.0, bytes.0))).collect())
    }

    /// What the programs have counted, on all CPUs together.
    pub(super) fn counters(&self) -> Result<EpollCounters> {
        let map: PerCpuArray<_, Pod<EpollCounters>> =
            self.bpf.map("EPOLL_COUNTERS").expect(IN_OBJECT).try_into()?;
        let mut sum = EpollCounters::default();
        for Pod(cpu) in map.get(&0, 0)?.iter() {
            let EpollCounters { events, lost, waiters_full, bytes_full } = cpu;
            sum.events += events;
            sum.lost += lost;
            sum.waiters_full += waiters_full;
            sum.bytes_full += bytes_full;
        }
        Ok(sum)
    }

    /// How often the kernel did not run a program because it was running on that CPU already.
    pub(super) fn misses(&self) -> u64 {
        let programs = self.hooks.iter().filter_map(|hook| self.bpf.program(hook.program));
        programs.filter_map(|program| Some(recursion_misses(program.fd().ok()?.as_fd()))).sum()
    }

    fn map_mut(&mut self, name: &str) -> &mut Map {
        self.bpf.map_mut(name).expect(IN_OBJECT)
    }
}

fn constants(config: &Config, types: &KernelTypes) -> Result<Constants> {
    let filter = Filter { pids: config.pids.clone(), ..Filter::default() };
    let without_stacks =
        record::Config { user_stacks: false, kernel_stacks: false, ..record::Config::default() };
    let mut words = source::offsets(types)?;
    words.push(("READ_DIRECT", kernel::version().has_current_task().into()));
    let mut constants = Constants::new(&without_stacks, &filter, &words, Some(types), false)?;
    constants.double_words.extend(source::functions(SourceDetail::Fd)?);
    Ok(constants)
}

fn files(bpf: &mut Ebpf) -> &mut Iter {
    bpf.program_mut(FILES).expect(IN_OBJECT).try_into().expect("an iterator")
}

fn callback_program(bpf: &mut Ebpf) -> &mut UProbe {
    bpf.program_mut(CALLBACK).expect(IN_OBJECT).try_into().expect("a uprobe")
}
