//! The functions of `--callback`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::CallbackPattern;
use crate::snapshot;
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
