//! Disk waits: a thread writes blocks past the page cache and waits, uninterruptible, until the device's
//! interrupt says that it is done. When that was is known to the kernel alone: the blocked time is what the
//! kernel's time on the run queue leaves of the time off the CPU. Some writes may not wait at all: how many
//! did is the kernel's count of voluntary switches.

use std::alloc::{Layout, alloc_zeroed};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use offwake_examples::args::Length;
use offwake_examples::ledger::{Ledger, Sums};
use offwake_examples::report::Waker;
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::{oracle_fn, oracle_name};

/// A thread writes to a disk and waits for it
#[derive(Parser, Debug)]
struct Args {
    /// How long.
    #[command(flatten)]
    length: Length,
    /// Write a file here that has no name, and needs no removal; a disk, not a tmpfs
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

const BLOCK: usize = 4096;
const BLOCKS: usize = 4096;

oracle_fn! {
    fn oracle_disk_write / oracle_disk_write_inner(fd: RawFd, block: *const u8, offset: u64) -> isize {
        // SAFETY: `block` is valid for reading `BLOCK` bytes.
        unsafe { libc::pwrite(fd, block.cast(), BLOCK, offset as libc::off_t) }
    }
}

/// A file whose blocks are on the disk already, so that writing one of them again is one request.
fn filled_file(dir: &Path) -> Result<File> {
    let path = dir.join(format!("offwake-disk-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("{}", path.display()))?;
    let direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path);
    fs::remove_file(&path)?;
    let direct = direct
        .with_context(|| format!("{}: no direct writes to this file system", dir.display()))?;
    for _ in 0..BLOCKS {
        (&file).write_all(&[0x6f; BLOCK])?;
    }
    file.sync_all()?;
    Ok(direct)
}

fn main() -> Result<()> {
    let Args { length, dir } = Args::parse();
    let file = filled_file(&dir)?;
    let (writer, waits) = (Stage::role(), Ledger::new());
    let mut stage = Stage::new()?;
    let (fd, mut rng, mut budget) = (file.as_raw_fd(), Rng::new(length.seed), length.budget(1_000));
    stage.thread(writer, "disk_writer", move || {
        let layout = Layout::from_size_align(BLOCK, BLOCK)?;
        // SAFETY: the layout is not empty. One block for the life of the process.
        let block = unsafe { alloc_zeroed(layout) };
        ensure!(!block.is_null(), "no memory");
        loop {
            let more = budget.spend();
            let offset = rng.between(0, BLOCKS as u64) * BLOCK as u64;
            let since = waits.sleep();
            let written = oracle_disk_write(fd, block, offset);
            waits.slept(since);
            waits.wake();
            ensure!(written == BLOCK as isize, "pwrite: {}", std::io::Error::last_os_error());
            if !more {
                return Ok(());
            }
        }
    })?;
    let played = stage.perform()?;
    let usage = played.usage(writer);
    ensure!(usage.voluntary_switches > 0, "no write had to wait: --dir is not on a disk");
    let sums = waits.sums().expect("one thread keeps both halves");
    let sums = Sums {
        count: usage.voluntary_switches,
        blocked_ns: sums.off_ns.saturating_sub(usage.run_delay_ns),
        ..sums
    };
    let function = oracle_name!(oracle_disk_write / oracle_disk_write_inner);
    played.tell_sums(sums, "pwrite64", (writer, function), Waker::Irq, "uninterruptible")?;
    played.finish()
}
