//! How much a file can make us use. Nobody vouches for these files: a few bytes of one can stand for
//! gigabytes.

use anyhow::{Result, ensure};

use crate::profile::Profile;

/// The most bytes of one file, as it is and unpacked.
pub(crate) const MAX_BYTES: u64 = 512 << 20;

/// The most bytes of the names in a profile.
const MAX_TEXT: u64 = 1 << 30;

/// The most bytes of all stacks of a profile, had each frame its name.
const MAX_STACKS: u64 = 4 << 30;

/// What a frame of a stack takes beside its name, in bytes.
const FRAME: u64 = 8;

/// The most that all times of a profile may add up to, in ns, and all counts: so no sum overflows.
const MAX_SUM: u64 = 1 << 62;

/// What a profile that is being read may still take.
#[derive(Debug)]
pub(crate) struct Budget {
    text: u64,
    stacks: u64,
}

impl Budget {
    /// For one profile.
    pub(crate) const fn new() -> Self {
        Self { text: MAX_TEXT, stacks: MAX_STACKS }
    }

    /// For a name that is kept.
    pub(crate) fn take_text(&mut self, text: &str) -> Result<()> {
        match self.text.checked_sub(text.len() as u64) {
            Some(rest) => {
                self.text = rest;
                Ok(())
            }
            None => anyhow::bail!("its names are longer than {} GiB in sum", MAX_TEXT >> 30),
        }
    }

    /// For a frame of a stack, which has a name of this many bytes.
    pub(crate) fn take_frame(&mut self, name: usize) -> Result<()> {
        match self.stacks.checked_sub(FRAME + name as u64) {
            Some(rest) => {
                self.stacks = rest;
                Ok(())
            }
            None => anyhow::bail!("its stacks are longer than {} GiB in sum", MAX_STACKS >> 30),
        }
    }
}

/// Makes sure that nothing which is computed of a profile overflows.
///
/// # Errors
/// When its times or counts add up to too much.
pub(crate) fn check_sums(profile: &Profile) -> Result<()> {
    let (mut time, mut count) = (0u64, 0u64);
    for wait in &profile.waits {
        time = time.saturating_add(wait.off_ns());
        count = count.saturating_add(wait.count);
    }
    ensure!(time <= MAX_SUM, "its times add up to more than {MAX_SUM} ns");
    ensure!(count <= MAX_SUM, "its counts add up to more than {MAX_SUM}");
    Ok(())
}
