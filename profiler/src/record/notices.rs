//! Reading the mappings of programs as soon as the probes see them.

use std::mem;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use hashbrown::HashSet;
use offwake_shared::{Notice, NoticeKind, Program};

use super::mmaps::Mmaps;
use super::unwind::{Request, Unwinder, Worker};
use super::{NO_PANIC, priority};
use crate::recording::ImageId;
use crate::snapshot::Snapshots;

/// A thread of its own, since a process may live for a few milliseconds only.
pub(super) struct NoticeReader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    snapshots: Mutex<Snapshots>,
    /// Programs that were gone before their mappings could be read.
    gone: Mutex<HashSet<ImageId>>,
    /// Where unwind tables are built; `None` without.
    requests: Mutex<Option<Sender<Request>>>,
    stop: AtomicBool,
}

/// For so long mappings that have changed are not read again after they were: there are programs that change theirs
/// thousands of times a second. Where a walk comes to code that is not known, they are read at once.
const PAUSE: Duration = Duration::from_millis(10);

/// Processes that map something new.
#[derive(Default)]
struct Changed {
    pids: HashSet<u32>,
    /// Some news were lost: it may be any.
    may_be_any: bool,
}

impl Changed {
    /// Adds what [`Mmaps::take`] tells.
    fn add(&mut self, pids: Option<HashSet<u32>>) {
        self.may_be_any |= pids.is_none();
        self.pids.extend(pids.unwrap_or_default());
    }

    fn is_empty(&self) -> bool {
        !self.may_be_any && self.pids.is_empty()
    }

    fn has(&self, tgid: u32) -> bool {
        self.may_be_any || self.pids.contains(&tgid)
    }
}

impl NoticeReader {
    /// Starts the thread.
    pub(super) fn start(mut notices: RingBuf<MapData>) -> Result<Self> {
        let shared = Arc::new(Shared {
            snapshots: Mutex::new(Snapshots::new()),
            gone: Mutex::default(),
            requests: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let mut mmaps = Mmaps::open();
        let thread = std::thread::Builder::new()
            .name("offwake-notices".into())
            .spawn(move || {
                priority::hurry();
                let (mut changed, mut refreshed) = (Changed::default(), Instant::now());
                while !for_thread.stop.load(Ordering::Relaxed) {
                    wait_for_data(&notices, &mmaps);
                    for_thread.read_all(&mut notices);
                    changed.add(mmaps.take());
                    if !changed.is_empty() && refreshed.elapsed() >= PAUSE {
                        refreshed = Instant::now();
                        for_thread.refresh_all(&mem::take(&mut changed));
                    }
                }
                for_thread.read_all(&mut notices);
            })
            .context("cannot start a thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Calls `use_them` with the snapshots taken so far.
    pub(super) fn with<R>(&self, use_them: impl FnOnce(&mut Snapshots) -> R) -> R {
        use_them(&mut self.shared.snapshots.lock().expect(NO_PANIC))
    }

    /// Reads the mappings of a program now, unless they are known.
    pub(super) fn read(&self, id: ImageId, start_stack: u64) {
        if !self.shared.read(id, start_stack) {
            self.shared.gone.lock().expect(NO_PANIC).insert(id);
        }
    }

    /// Reads again what a program maps.
    pub(super) fn refresh(&self, id: ImageId) {
        self.with(|snapshots| snapshots.refresh(id));
        self.shared.request(Request::Read(id));
    }

    /// Starts to build the tables of programs that are seen, also of those that were already.
    pub(super) fn build_tables(&self, unwinder: Unwinder) -> Result<Worker> {
        let shared = Arc::clone(&self.shared);
        let worker = Worker::start(unwinder, move |use_them| {
            use_them(&mut shared.snapshots.lock().expect(NO_PANIC));
        })?;
        *self.shared.requests.lock().expect(NO_PANIC) = Some(worker.requests());
        // The probes are attached by now: nobody is told again of what they have seen before this.
        for id in self.with(|snapshots| snapshots.ids(|_| true)) {
            self.shared.request(Request::Read(id));
        }
        Ok(worker)
    }

    /// How many programs were gone before their mappings could be read.
    pub(super) fn gone(&self) -> u64 {
        self.shared.gone.lock().expect(NO_PANIC).len() as u64
    }

    /// Reads what is left, ends the thread, and returns all that was read.
    pub(super) fn finish(&mut self) -> Snapshots {
        self.stop();
        *self.shared.requests.lock().expect(NO_PANIC) = None;
        self.with(mem::take)
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reader of notices does not panic");
        }
    }
}

impl Drop for NoticeReader {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn read_all(&self, notices: &mut RingBuf<MapData>) {
        while let Some(item) = notices.next() {
            let Some(notice) = parse(&item) else { continue };
            let Program { tgid, exec_id } = notice.program;
            let id = ImageId { tgid, exec_id };
            let is = |kind: NoticeKind| notice.kind == kind as u32;
            if self.refresh(id, notice.start_stack) {
                let unmapped = is(NoticeKind::Unmapped);
                self.request(if unmapped { Request::ReadUnmapped } else { Request::Read }(id));
                continue;
            }
            // Also where a walk came to unknown code of a process that was forked: it has the tables of its creator,
            // and was not announced.
            if self.read(id, notice.start_stack) {
                self.request(Request::Read(id));
            } else if !is(NoticeKind::Executed) {
                self.gone.lock().expect(NO_PANIC).insert(id);
            }
        }
    }

    /// Reads again what a program maps. Whether it was read before.
    fn refresh(&self, id: ImageId, start_stack: u64) -> bool {
        let mut snapshots = self.snapshots.lock().expect(NO_PANIC);
        let is_known = snapshots.has(id, start_stack);
        if is_known {
            snapshots.refresh(id);
        }
        is_known
    }

    /// Reads again what these processes map.
    fn refresh_all(&self, changed: &Changed) {
        let mut snapshots = self.snapshots.lock().expect(NO_PANIC);
        for id in snapshots.ids(|tgid| changed.has(tgid)) {
            snapshots.refresh(id);
            self.request(Request::Read(id));
        }
    }

    /// Reads what a program maps, unless it was read. Whether it is known then.
    fn read(&self, id: ImageId, start_stack: u64) -> bool {
        let mut snapshots = self.snapshots.lock().expect(NO_PANIC);
        // A program that was announced in the middle of its `execve` is announced again.
        let is_known = snapshots.has(id, start_stack) || snapshots.read(id, start_stack).is_ok();
        if is_known {
            self.gone.lock().expect(NO_PANIC).remove(&id);
        }
        is_known
    }

    /// Has the tables of a program built, if there are any.
    fn request(&self, request: Request) {
        if let Some(requests) = &*self.requests.lock().expect(NO_PANIC) {
            // The builder ends last.
            let _ = requests.send(request);
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Notice> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let program = Program { tgid: word(0)?, exec_id: word(4)? };
    let start_stack = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
    Some(Notice { program, start_stack, kind: word(16)?, reserved: 0 })
}

/// Waits for data, and not longer than it may take to notice that the recording ends.
fn wait_for_data(notices: &RingBuf<MapData>, mmaps: &Mmaps) {
    let descriptors = std::iter::once(notices.as_raw_fd()).chain(mmaps.descriptors());
    let mut polled: Vec<_> =
        descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    // SAFETY: the pointer and the length are those of the vector.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 50) };
}
