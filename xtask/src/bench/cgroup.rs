//! A cgroup without threads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// It is there as long as this lives.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one. `None`: no cgroup v2 is mounted.
    pub(crate) fn new() -> Result<Option<Self>> {
        let mounts = fs::read_to_string("/proc/mounts").context("where is cgroup v2?")?;
        let Some(mount) = mount_point(&mounts) else { return Ok(None) };
        let path = Path::new(mount).join(format!("offwake-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Some(Self(path)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Of the text of `/proc/mounts`.
fn mount_point(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, point, "cgroup2", ..] => Some(point),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_second_version_counts() {
        let first = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n";
        let second = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_point(first), None);
        assert_eq!(mount_point(&[first, second].concat()), Some("/sys/fs/cgroup/unified"));
    }
}
