//! The functions of `--callback`.

use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use hashbrown::HashMap;

use super::CallbackPattern;
use crate::snapshot;
use crate::snapshot::epoll::Code;
use crate::symbolize::functions::{self, Function};

/// As many functions are probed at most: more is a mistake.
const MAX_FUNCTIONS: usize = 32;

/// A function to probe in a process.
pub(super) struct Callback {
    pid: NonZeroU32,
    /// The file, as offwake sees it.
    path: PathBuf,
    /// Where in the file it begins.
    offset: u64,
    /// Its name, demangled.
    name: String,
}

/// Finds the functions of all patterns in the files that the processes see. Not each process needs to have them.
///
/// # Errors
/// When no process has such a file, or none such a function in it.
pub(super) fn find(pids: &[u32], patterns: &[CallbackPattern]) -> Result<Vec<Callback>> {
    let mut all = Vec::new();
    for pattern in patterns {
        let mut first_error = None;
        let mut known = HashMap::new();
        let found = all.len();
        for &pid in pids {
            match find_in(pid, pattern, &mut known) {
                Ok(functions) => all.extend(functions),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if let Some(error) = first_error.filter(|_| all.len() == found) {
            return Err(error);
        }
    }
    Ok(all)
}

/// Finds the functions of a pattern in the file that a process sees. `known`: those in files that were read, by their
/// device and inode.
fn find_in(
    pid: u32,
    pattern: &CallbackPattern,
    known: &mut HashMap<(u64, u64), Vec<Function>>,
) -> Result<Vec<Callback>> {
    let CallbackPattern { binary, symbol } = pattern;
    let path = snapshot::epoll::binary(pid, binary).with_context(|| {
        format!(
            "--callback: process {pid} has no file '{binary}': give its path there, or the name of a file that it has \
             mapped"
        )
    })?;
    let file = path.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let matching = match file.and_then(|file| known.remove(&file)) {
        Some(matching) => matching,
        None => functions::matching(&path, symbol)
            .with_context(|| format!("--callback: cannot use '{binary}'"))?,
    };
    ensure!(
        matching.len() <= MAX_FUNCTIONS,
        "--callback: '{symbol}' matches {} functions of '{binary}', and {MAX_FUNCTIONS} are supported: be more \
         precise",
        matching.len()
    );
    let pid = NonZeroU32::new(pid).context("pid 0")?;
    let callback = |Function { offset, name }: &Function| Callback {
        pid,
        path: path.clone(),
        offset: *offset,
        name: name.clone(),
    };
    let callbacks = matching.iter().map(callback).collect();
    known.extend(file.map(|file| (file, matching)));
    Ok(callbacks)
}

impl Callback {
    /// Its name, demangled.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Starts to probe it.
    pub(super) fn attach(&self, program: &mut UProbe) -> Result<UProbeLink> {
        let location = UProbeAttachLocation::AbsoluteOffset(self.offset);
        let point = UProbeAttachPoint { location, cookie: None };
        let link = program
            .attach(point, &self.path, UProbeScope::OneProcess(self.pid))
            .and_then(|id| program.take_link(id));
        link.with_context(|| {
            format!("--callback: cannot attach to {} in {}", self.name, self.path.display())
        })
    }

    /// Which file it is in, by its inode.
    fn inode(&self) -> u64 {
        self.path.metadata().map_or(0, |metadata| metadata.ino())
    }
}

/// Which function is at an address.
pub(super) struct Numbers {
    /// Of each function: of which process, where in which file, by its inode, it begins.
    places: Vec<(u32, u64, u64)>,
    /// What the processes map.
    code: HashMap<u32, Vec<Code>>,
    known: HashMap<(u32, u64), Option<usize>>,
}

impl Numbers {
    /// For functions that their processes call.
    pub(super) fn new(callbacks: &[Callback]) -> Self {
        let place = |callback: &Callback| (callback.pid.get(), callback.offset, callback.inode());
        let places: Vec<_> = callbacks.iter().map(place).collect();
        let mut code = HashMap::new();
        for &(pid, ..) in &places {
            code.entry(pid).or_insert_with(|| snapshot::epoll::code(pid));
        }
        Self { places, code, known: HashMap::new() }
    }

    /// The number of the function at this address of a process, where a probe was hit; `None` if it was unmapped since.
    pub(super) fn of(&mut self, pid: u32, address: u64) -> Option<usize> {
        if let Some(&number) = self.known.get(&(pid, address)) {
            return number;
        }
        let mut number = self.find(pid, address);
        if number.is_none() {
            // Of a library that was loaded since. What was mapped by a process that is gone stays.
            let code = self.code.entry(pid).or_default();
            code.splice(0..0, snapshot::epoll::code(pid));
            number = self.find(pid, address);
        }
        self.known.insert((pid, address), number);
        number
    }

    fn find(&self, pid: u32, address: u64) -> Option<usize> {
        let at = |code: &Code| {
            let offset = code.offset_of(address)?;
            // Only functions of these files are probed. On some file systems the inode is another one in maps: it
            // decides only between functions of two files.
            let is_there = |place: &(u32, u64, u64)| (place.0, place.1) == (pid, offset);
            let mut same = self.places.iter().enumerate().filter(|(_, place)| is_there(place));
            let first = same.clone().next()?.0;
            let exact = same.find(|(_, place)| place.2 == code.inode);
            Some(exact.map_or(first, |(number, _)| number))
        };
        self.code.get(&pid)?.iter().find_map(at)
    }
}
