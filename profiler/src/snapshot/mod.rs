//! The only code that reads a live `/proc`: what processes map, and what they and their threads
//! are called.
//!
//! All of this races with the processes, which may end at any moment. So the mappings are read
//! first, in one read; then the files are opened; everything else can wait. Nothing here ends a
//! recording.

pub mod epoll;
mod executable;
mod files;
mod maps;
pub mod memory;
mod overlay;
pub mod process;
mod root;
pub mod system;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hashbrown::{HashMap, HashSet};

use self::files::Files;
use self::maps::{Content, Line};
use crate::arch::Architecture;
use crate::recording::{Image, ImageId, MappedFile, Mapping, MappingContent};
use crate::symbolize::open_regular;

/// The most that is read of one perf map, in bytes.
const MAX_PERF_MAP: u64 = 256 << 20;

/// The process ended, or offwake may not look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process ended, or its mappings may not be read")
    }
}

impl std::error::Error for Gone {}

/// The programs of processes, as they were seen.
pub struct Snapshots {
    images: HashMap<ImageId, Image>,
    /// See [`Snapshots::read`].
    start_stacks: HashMap<ImageId, u64>,
    /// Those that no process runs any more.
    ended: HashSet<ImageId>,
    files: Files,
    /// Perf maps, opened when the image was read and read at the end: they grow all the time, and
    /// can be read when their process is gone.
    perf_maps: HashMap<ImageId, File>,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self::new()
    }
}

impl Snapshots {
    /// None yet. Raises this process's limit of open files to what is allowed, since every mapped
    /// file stays open.
    pub fn new() -> Self {
        Self {
            images: HashMap::new(),
            start_stacks: HashMap::new(),
            ended: HashSet::new(),
            files: Files::new(),
            perf_maps: HashMap::new(),
        }
    }

    /// Reads what a process maps now, on top of what is already known of this image: newer
    /// mappings win, and an unloaded library stays where nothing took its place.
    ///
    /// `start_stack`: where the kernel says that the image's stack begins
    /// ([`offwake_shared::Notice`]). Nothing else in `/proc` tells whether the process has called
    /// `execve` since. A process that was forked and is gone, or runs another program by now, has
    /// the mappings of the image that it was forked from, which has the same stack. 0: the kernel does not
    /// say, and whatever runs there now is taken for the image.
    ///
    /// # Errors
    /// When the process has ended or runs another program, and so does its parent. What was known
    /// stays.
    pub fn read(&mut self, id: ImageId, start_stack: u64) -> Result<(), Gone> {
        let read = self.read_live(id, start_stack).or_else(|gone| {
            let parent = self.forked_from(start_stack, id).ok_or(gone)?;
            self.images.insert(id, parent);
            Ok(())
        });
        if read.is_ok() {
            self.start_stacks.insert(id, start_stack);
            self.ended.remove(&id);
        }
        read
    }

    /// An image with a stack in the same place, which only a fork has. Unless addresses are not
    /// random: then all are at the top of the address space.
    fn forked_from(&self, start_stack: u64, forked: ImageId) -> Option<Image> {
        /// The most that arguments and environment take.
        const ARGUMENTS: u64 = 8 << 20;
        let stack_top = (Architecture::OWN.facts().kernel.stack_top)();
        if start_stack == 0 || start_stack >= stack_top - ARGUMENTS {
            return None;
        }
        let mut others = self.start_stacks.iter().filter(|&(&id, _)| id != forked);
        let (parent, _) = others.find(|&(_, &other)| other == start_stack)?;
        self.images.get(parent).cloned()
    }

    fn read_live(&mut self, id: ImageId, start_stack: u64) -> Result<(), Gone> {
        let (owner, text) = read_maps(id.tgid).ok_or(Gone)?;
        if start_stack != 0 && process::start_stack(owner).map_err(|_| Gone)? != start_stack {
            return Err(Gone);
        }
        let process = process::folder(owner);
        let lines = maps::parse(&text).into_iter();
        let newer: Vec<Mapping> = lines.map(|line| self.mapping(&process, line)).collect();

        let has_jit =
            newer.iter().any(|mapping| matches!(mapping.content, MappingContent::Anonymous));
        let image = self.images.entry(id).or_default();
        image.mappings = overlay::overlay(std::mem::take(&mut image.mappings), newer);
        if image.namespace_pid == 0 {
            image.namespace_pid = id.tgid;
            if let Ok(status) = process::status(owner) {
                image.namespace_pid = status.namespace_pid;
            }
        }
        if has_jit {
            self.open_perf_map(id);
        }
        self.files.read_build_ids();
        Ok(())
    }

    /// Reads again what the process of a known image maps, if it still runs it.
    pub fn refresh(&mut self, id: ImageId) {
        if let Some(&start_stack) = self.start_stacks.get(&id) {
            // A process that is gone maps nothing new.
            if self.read_live(id, start_stack).is_err() {
                self.ended.insert(id);
            }
        }
    }

    /// Whether an address is in a known mapping of an image.
    #[cfg(test)]
    pub(crate) fn covers(&self, id: ImageId, address: u64) -> bool {
        let Some(image) = self.images.get(&id) else { return false };
        let behind = image.mappings.partition_point(|mapping| mapping.start <= address);
        image.mappings[..behind].last().is_some_and(|mapping| address < mapping.end)
    }

    /// What was read of an image.
    pub fn image(&self, id: ImageId) -> Option<&Image> {
        self.images.get(&id)
    }

    /// The images of the processes that `is_wanted` takes, but for those that were seen to have ended.
    pub fn ids(&self, is_wanted: impl Fn(u32) -> bool) -> Vec<ImageId> {
        let ids = self.images.keys().filter(|id| is_wanted(id.tgid) && !self.ended.contains(*id));
        ids.copied().collect()
    }

    /// A file that images map, by its index.
    pub fn file(&self, index: usize) -> Option<&MappedFile> {
        self.files.get(index)
    }

    /// The index of a file that a process is going to execute: no image maps it yet. `None` if it cannot be
    /// mapped as code.
    pub fn add_executable(&mut self, path: &Path) -> Option<usize> {
        let index = executable::add(&mut self.files, path)?;
        self.files.read_build_ids();
        Some(index)
    }

    /// Whether an image was read whose stack begins there ([`Self::read`]): within `execve` it had another place.
    pub fn has(&self, id: ImageId, start_stack: u64) -> bool {
        self.start_stacks.get(&id) == Some(&start_stack)
    }

    /// Reads the perf maps, and returns everything: for the end of a recording.
    pub fn finish(mut self) -> (HashMap<ImageId, Image>, Vec<MappedFile>) {
        let ids: Vec<ImageId> = self.images.keys().copied().collect();
        for id in ids {
            // Not that of another process with the same pid.
            if process::start_stack(id.tgid).ok().as_ref() == self.start_stacks.get(&id) {
                self.open_perf_map(id);
            }
        }
        for (id, file) in self.perf_maps {
            let mut content = Vec::new();
            let read = file.take(MAX_PERF_MAP).read_to_end(&mut content);
            if let (Ok(_), Some(image)) = (read, self.images.get_mut(&id)) {
                image.perf_map = Some(content.into());
            }
        }
        (self.images, self.files.into_vec())
    }

    fn mapping(&mut self, process: &Path, line: Line) -> Mapping {
        let Line { start, end, offset, content } = line;
        let content = match content {
            Content::File(key) => MappingContent::File(self.files.add(process, start, end, &key)),
            Content::Vdso => MappingContent::Vdso,
            Content::Anonymous => MappingContent::Anonymous,
        };
        Mapping { start, end, file_offset: offset, content }
    }

    /// Opens the perf map of a process that lives and has one.
    fn open_perf_map(&mut self, id: ImageId) {
        if self.perf_maps.contains_key(&id) {
            return;
        }
        let Some(image) = self.images.get(&id) else { return };
        let name = format!("root/tmp/perf-{}.map", image.namespace_pid);
        let Some(file) = open_regular(&process::folder(id.tgid).join(name)) else { return };
        let Ok(status) = process::status(id.tgid) else { return };
        // Anyone can write to /tmp: only the process itself and root may name its functions.
        let owner = file.metadata().map(|metadata| metadata.uid());
        if owner.is_ok_and(|owner| owner == 0 || owner == status.user) {
            self.perf_maps.insert(id, file);
        }
    }
}

/// The maps of a process, and the thread that they were read from. A process whose main thread
/// ended shows its maps only in its other threads.
fn read_maps(pid: u32) -> Option<(u32, Vec<u8>)> {
    let read = |id: u32| {
        let text = std::fs::read(process::folder(id).join("maps")).ok()?;
        (!text.is_empty()).then_some((id, text))
    };
    read(pid).or_else(|| process::threads(pid).ok()?.into_iter().find_map(read))
}
