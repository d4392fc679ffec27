//! The functions of `--callback`.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hashbrown::HashMap;

use super::CallbackPattern;
use crate::snapshot;
use crate::snapshot::epoll::Code;
use crate::symbolize::functions;

/// As many functions are probed at most: more is a mistake.
const MAX_FUNCTIONS: usize = 32;

/// A function to probe.
pub(super) struct Callback {
    /// The file, as offwake sees it.
    pub(super) path: PathBuf,
    /// Where in the file it begins.
    pub(super) offset: u64,
    /// Its name, demangled.
    pub(super) name: String,
}

/// Finds the functions of all patterns in the files that the process sees.
///
/// # Errors
/// When there is no such file or no such function.
pub(super) fn find(pid: u32, patterns: &[CallbackPattern]) -> Result<Vec<Callback>> {
    let mut found = Vec::new();
    for CallbackPattern { binary, symbol } in patterns {
        let path = snapshot::epoll::binary(pid, binary).with_context(|| {
            format!("--callback: process {pid} has no file '{binary}': give its path there, or the name of a file that it has mapped")
        })?;
        let matching = functions::matching(&path, symbol)
            .with_context(|| format!("--callback: cannot use '{binary}'"))?;
        ensure!(
            matching.len() <= MAX_FUNCTIONS,
            "--callback: '{symbol}' matches {} functions of '{binary}', and {MAX_FUNCTIONS} are supported: be more \
             precise",
            matching.len()
        );
        found.extend(matching.into_iter().map(|function| Callback {
            path: path.clone(),
            offset: function.offset,
            name: function.name,
        }));
    }
    Ok(found)
}

/// Which function is at an address.
pub(super) struct Numbers {
    /// Of each function: where in which file, by its inode, it begins.
    places: Vec<(u64, u64)>,
    pids: Vec<u32>,
    /// What the processes map.
    code: Vec<Code>,
    known: HashMap<u64, Option<usize>>,
}

impl Numbers {
    /// For functions that these processes call.
    pub(super) fn new(callbacks: &[Callback], pids: &[u32]) -> Self {
        let place = |callback: &Callback| {
            let inode = callback.path.metadata().map_or(0, |metadata| metadata.ino());
            (callback.offset, inode)
        };
        let places = callbacks.iter().map(place).collect();
        let mut this =
            Self { places, pids: pids.to_vec(), code: Vec::new(), known: HashMap::new() };
        if !callbacks.is_empty() {
            this.read();
        }
        this
    }

    /// The number of the function at this address, where a probe was hit; `None` if it was unmapped since.
    pub(super) fn of(&mut self, address: u64) -> Option<usize> {
        if let Some(&number) = self.known.get(&address) {
            return number;
        }
        let mut number = self.find(address);
        if number.is_none() {
            // Of a library that was loaded since.
            self.read();
            number = self.find(address);
        }
        self.known.insert(address, number);
        number
    }

    fn read(&mut self) {
        // What was mapped by a process that is gone stays.
        self.code.splice(0..0, self.pids.iter().flat_map(|&pid| snapshot::epoll::code(pid)));
    }

    fn find(&self, address: u64) -> Option<usize> {
        let at = |code: &Code| {
            let offset = code.offset_of(address)?;
            // Only functions of these files are probed. On some file systems the inode is another one in maps: it
            // decides only between functions of two files.
            let mut same = self.places.iter().enumerate().filter(|(_, place)| place.0 == offset);
            let first = same.clone().next()?.0;
            let exact = same.find(|(_, place)| place.1 == code.inode);
            Some(exact.map_or(first, |(number, _)| number))
        };
        self.code.iter().find_map(at)
    }
}
