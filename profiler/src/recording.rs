//! What was recorded: raw addresses, times and losses, with all that symbolization needs.
//!
//! Nothing behind this boundary talks to BPF or to a live process.

mod waits;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hashbrown::HashMap;
use offwake_shared::{Source, StackContext, StackEnd, TaskId};

pub use self::waits::Waits;

use crate::profile::{Losses, Sampling};

/// One finished recording.
#[derive(Debug)]
pub struct Recording {
    /// What was recorded, where, for how long.
    pub meta: Meta,
    /// The sums of all intervals, by who waited where, and who woke it from where.
    pub waits: Waits,
    /// The stacks that the keys of `waits` name.
    pub stacks: HashMap<StackId, RawStack>,
    /// What sleepers waited for: what keys of `waits` name.
    pub sources: HashMap<u64, Source>,
    /// The programs that the user stacks belong to.
    pub images: HashMap<ImageId, Image>,
    /// The files that images map, each once.
    pub files: Vec<MappedFile>,
    /// What is missing.
    pub losses: Losses,
    /// Bytes of all BPF maps together; 0 where the kernel does not tell.
    pub bpf_bytes: u64,
    /// How many stacks were known without unwinding them, as they had been unwound before.
    pub remembered_stacks: u64,
    /// How user stacks were unwound; `None`: by frame pointers.
    pub unwind: Option<UnwindFigures>,
    /// What could not be done, one line each.
    pub warnings: Vec<String>,
}

/// What was recorded, where, for how long. Travels unchanged into the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// When the recording began.
    pub started: SystemTime,
    /// How long it lasted.
    pub duration: Duration,
    /// `uname -r` of the kernel.
    pub kernel: String,
    /// The kind of probe: `btf`, `kprobe` or `tracepoint`.
    pub probe: String,
    /// How wake-up sources were told apart and by which means, such as `port (tracepoints)`; `None`: they were
    /// not looked for.
    pub wake_source: Option<String>,
    /// What was asked for, one line each, such as `envoy (pid 4182)` or `all processes`.
    pub targets: Vec<String>,
    /// How intervals were sampled; `None`: all were recorded.
    pub sampling: Option<Sampling>,
}

/// A key of the BPF map of stacks: a hash of the stack. 0 names no stack.
pub type StackId = u64;

/// A stack as the kernel recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStack {
    /// Where it was taken.
    pub context: StackContext,
    /// The program whose addresses these are; `None` for a kernel stack.
    pub image: Option<ImageId>,
    /// Addresses, innermost first. All but the first are return addresses.
    pub frames: Box<[u64]>,
    /// How the walk of its frames ended.
    pub end: StackEnd,
}

/// A process between two calls of `execve`: one address space, one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId {
    /// The process.
    pub tgid: u32,
    /// See [`offwake_shared::TaskId::exec_id`].
    pub exec_id: u32,
}

impl ImageId {
    /// That of a thread's program.
    pub(crate) const fn of(thread: &TaskId) -> Self {
        Self { tgid: thread.tgid, exec_id: thread.exec_id }
    }
}

/// The executable mappings of a process.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// In order of address, without overlap. Whatever was mapped at one time of the recording is
    /// here; where two mappings had the same address, the newer one.
    pub mappings: Vec<Mapping>,
    /// The pid inside the innermost pid namespace of the process: what names its perf map.
    pub namespace_pid: u32,
    /// The content of the process's perf map (`/tmp/perf-PID.map` under its root), for code that
    /// was compiled at run time. Read at the last moment at which the process was known to live.
    pub perf_map: Option<Arc<[u8]>>,
}

/// One executable mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The first address.
    pub start: u64,
    /// The first address behind it.
    pub end: u64,
    /// The offset in the file of what is at `start`, in bytes.
    pub file_offset: u64,
    /// What is mapped.
    pub content: MappingContent,
}

/// What a mapping holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingContent {
    /// A file: an index into [`Recording::files`].
    File(usize),
    /// The kernel's `[vdso]`.
    Vdso,
    /// No file: code that was compiled at run time.
    Anonymous,
}

/// A file that some image maps.
#[derive(Clone, Debug)]
pub struct MappedFile {
    /// The path as the process sees it, without ` (deleted)`.
    pub path: PathBuf,
    /// Device number and inode, as in `/proc/PID/maps`: the identity of the file.
    pub device: (u32, u32),
    /// See `device`.
    pub inode: u64,
    /// GNU build id, where the file has one and could be read.
    pub build_id: Option<Vec<u8>>,
    /// The file itself, opened while the process lived, through `map_files` or the process's root:
    /// still readable when it was deleted, replaced, or is in a container that is gone.
    pub handle: Option<Arc<File>>,
}

impl MappedFile {
    /// The file name, as frames show it. The target chose it: invalid UTF-8 is replaced.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(|| "?".into(), |name| name.to_string_lossy().into_owned())
    }
}

/// How much call frame information there was at the end of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnwindFigures {
    /// Programs that could be unwound.
    pub programs: usize,
    /// Files with a table.
    pub files: usize,
    /// Rows of these tables.
    pub rows: u64,
    /// Distinct rules of them.
    pub rules: usize,
    /// How long it took to read the files, in all.
    pub build: Duration,
    /// Bytes of all BPF maps together, also of those that are not for unwinding; 0 where the kernel
    /// does not tell.
    pub bpf_bytes: u64,
}

impl UnwindFigures {
    /// The tables in one line, for people.
    pub fn tables(&self) -> String {
        let Self { programs, files, rows, rules, build, bpf_bytes: _ } = self;
        format!(
            "{files} files of {programs} programs, {rows} rows and {rules} rules, built in {:.2} s",
            build.as_secs_f64()
        )
    }
}

/// A number of bytes for people, such as `93.1 MB`.
pub fn human_bytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
