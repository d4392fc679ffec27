//! Emptying the maps while the programs fill them, so that none is ever full.
//!
//! A thread of its own, which nothing else delays: the programs wake it when the map of waits is a quarter full, or the
//! ring buffer of stacks half, and it runs before all others then. When nothing fills it only looks, four times a second.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use offwake_shared::{Counters, WaitSum};

use super::batch::Buffers;
use super::collect::Collected;
use super::pod::Pod;
use super::{Capacity, NO_PANIC, priority, quiesce};

/// How long to wait for something to fill.
const PAUSE: Duration = Duration::from_millis(250);

/// The maps that are emptied.
pub(super) struct Maps {
    pub(super) waits: [MapData; 2],
    /// Which of the two the programs use.
    pub(super) control: Array<MapData, u32>,
    pub(super) counters: PerCpuArray<MapData, Pod<Counters>>,
    pub(super) stacks: RingBuf<MapData>,
    pub(super) known_stacks: MapData,
    pub(super) filling: RingBuf<MapData>,
}

/// Empties the maps.
pub(super) struct Drain {
    maps: Maps,
    capacity: Capacity,
    buffers: Buffers<u64, WaitSum>,
    ids: Buffers<u64, u64>,
    /// Which of the two maps of waits the programs use.
    active: usize,
    /// How many waits had been put into the two maps when that one came into use.
    new_waits: u64,
    /// Stacks that were received since their ids were last forgotten.
    received: u32,
}

impl Drain {
    pub(super) const fn new(maps: Maps, capacity: Capacity) -> Self {
        Self {
            maps,
            capacity,
            buffers: Buffers::new(),
            ids: Buffers::new(),
            active: 0,
            new_waits: 0,
            received: 0,
        }
    }

    /// Empties what is filling.
    fn look(&mut self, collected: &mut Collected) -> Result<()> {
        while self.maps.filling.next().is_some() {}
        self.take_stacks(collected)?;
        let new_waits = self.count_new_waits()?;
        if new_waits - self.new_waits >= u64::from(self.capacity.waits / 4) {
            self.new_waits = new_waits;
            self.take_waits(collected)?;
        }
        Ok(())
    }

    /// Empties everything while the programs go on.
    pub(super) fn all(&mut self, collected: &mut Collected) -> Result<()> {
        for _of_two in 0..2 {
            self.take_waits(collected)?;
        }
        self.take_stacks(collected)
    }

    /// Has the programs use the other map of waits, and empties the one that they have used.
    fn take_waits(&mut self, collected: &mut Collected) -> Result<()> {
        let full = self.active;
        self.active = 1 - full;
        self.maps.control.set(0, self.active as u32, 0)?;
        quiesce::wait_for_users();
        // From here on no program uses the full one any more.
        let map = self.maps.waits[full].fd().as_fd();
        self.buffers
            .drain(map, |_, sum| collected.add_wait(&sum.key, &sum.stats))
            .context("cannot read the BPF map of waits")
    }

    /// Takes the stacks that were sent. Has all be sent again when too many ids are known.
    fn take_stacks(&mut self, collected: &mut Collected) -> Result<()> {
        while let Some(record) = self.maps.stacks.next() {
            collected.add_stack(&record);
            self.received += 1;
        }
        if self.received > self.capacity.stacks / 4 * 3 {
            self.received = 0;
            let ids = self.maps.known_stacks.fd().as_fd();
            self.ids.drain(ids, |_, _| {}).context("cannot empty the BPF map of known stacks")?;
        }
        Ok(())
    }

    fn count_new_waits(&self) -> Result<u64> {
        Ok(self.maps.counters.get(&0, 0)?.iter().map(|cpu| cpu.0.new_waits).sum())
    }

    /// Waits until the programs say that something fills, but not for long.
    fn wait(&self) {
        let fd = self.maps.filling.as_raw_fd();
        let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one such structure.
        unsafe { libc::poll(&raw mut polled, 1, PAUSE.as_millis() as libc::c_int) };
    }
}

/// The thread that empties the maps.
pub(super) struct Drainer {
    collected: Arc<Mutex<Collected>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Drain>>,
}

impl Drainer {
    /// Starts the thread.
    pub(super) fn start(mut drain: Drain) -> Result<Self> {
        let (collected, stop) = (Arc::<Mutex<Collected>>::default(), Arc::<AtomicBool>::default());
        let (for_thread, is_over) = (Arc::clone(&collected), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("offwake-drain".into())
            .spawn(move || {
                priority::hurry();
                while !is_over.load(Ordering::Relaxed) {
                    drain.wait();
                    // What cannot be read now is read later.
                    let _ = drain.look(&mut for_thread.lock().expect(NO_PANIC));
                }
                drain
            })
            .context("cannot start a thread")?;
        Ok(Self { collected, stop, thread: Some(thread) })
    }

    /// Looks at what was read so far.
    pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut Collected) -> R) -> R {
        use_it(&mut self.collected.lock().expect(NO_PANIC))
    }

    /// Ends the thread, reads what is left, and returns all that was read. What cannot be read is lost.
    pub(super) fn finish(mut self) -> Collected {
        let mut collected = Collected::default();
        if let Some(mut drain) = self.end() {
            collected = self.with(std::mem::take);
            let _ = drain.all(&mut collected);
        }
        collected
    }

    fn end(&mut self) -> Option<Drain> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        Some(thread.join().expect("the thread that drains does not panic"))
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        self.end();
    }
}
