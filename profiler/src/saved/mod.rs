//! Reading what was saved: pprof files of offwake, and folded stacks of anybody.
//!
//! The content tells the format, whatever the name of the file. Either may be packed by gzip. Files
//! are hostile input: each ends in a profile or in one error that says where, and takes no more
//! memory than `limits.rs` allows.

mod folded;
mod limits;
#[cfg(test)]
pub(crate) mod random;
#[cfg(test)]
mod tests;

use std::io::Read;

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;

use crate::pprof;
use crate::profile::Profile;

pub(crate) use limits::{Budget, check_sums};

/// A profile that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The profile.
    pub profile: Profile,
    /// What a user must know to read it right, one line each.
    pub notes: Vec<String>,
}

/// Reads a saved profile. `name` stands for the target where the file does not tell one.
///
/// # Errors
/// One line that tells what is wrong, and the line or byte.
pub fn read(name: &str, file: impl Read) -> Result<Loaded> {
    let mut budget = Budget::new();
    let bytes = unpack(read_all(file, &mut budget)?, &mut budget)?;
    let loaded = if is_pprof(&bytes) {
        let profile = pprof::read(&bytes, &mut budget).context("as pprof, unpacked")?;
        Loaded { profile, notes: Vec::new() }
    } else {
        check_text(&bytes)?;
        folded::read(name, &bytes, &mut budget)?
    };
    check_sums(&loaded.profile)?;
    Ok(loaded)
}

/// Why a profile could not be read again once it is saved; `None` if it can, as far as that is known before.
pub fn refusal(profile: &Profile) -> Option<String> {
    let mut budget = Budget::new();
    budget.take_profile(profile).err().map(|error| error.to_string())
}

fn read_all(file: impl Read, budget: &mut Budget) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(budget.left() + 1).read_to_end(&mut bytes)?;
    budget.take(bytes.len())?;
    Ok(bytes)
}

fn unpack(bytes: Vec<u8>, budget: &mut Budget) -> Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let unpacked = read_all(MultiGzDecoder::new(&bytes[..]), budget).context("unpacking gzip")?;
    budget.give_back(bytes.len());
    Ok(unpacked)
}

/// Whether it begins with the type of a value, as every pprof file does, or at least with another
/// message that no text begins with.
fn is_pprof(bytes: &[u8]) -> bool {
    matches!(bytes, [0x0a, _, 0x08 | 0x10, ..]) || bytes.iter().take(512).any(|&byte| byte == 0)
}

/// Refuses what is surely no folded stacks, with a better reason than the first line would give.
fn check_text(bytes: &[u8]) -> Result<()> {
    let start = bytes.trim_ascii_start();
    if start.is_empty() {
        bail!("it is empty");
    }
    if start.starts_with(b"{") || start.starts_with(b"<?xml") || start.starts_with(b"<svg") {
        bail!("only pprof (.pb.gz) and folded stacks can be read back, not what this looks like");
    }
    Ok(())
}
