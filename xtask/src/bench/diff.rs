//! What `offwake diff` takes for folded stacks of 100 MB in sum: seconds, and the peak of its memory.
//!
//! A machine that does something else makes every second longer, but takes no memory: so the gate is
//! strict about memory, and about time only where the machine was idle before. Of several rounds the
//! quickest counts. The seconds of processors, which suffer less from others, are for the reader.

mod stacks;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::stacks::Shape;
use super::cost::{self, Cost};
use crate::command;
use crate::workspace::Workspace;

/// Bytes of each of both files.
const SIDE: usize = 50_000_000;
/// The most that a diff may take.
const MAX_BYTES: u64 = 500_000_000;
const MAX_TIME: Duration = Duration::from_secs(3);
/// The load of the last minute of a machine that counts as idle.
const IDLE: f64 = 0.5;
const ROUNDS: usize = 3;

#[derive(Args)]
pub(super) struct Options {
    /// Fail beyond 500 MB, and where the machine is idle beyond 3 s
    #[arg(long)]
    gate: bool,
}

/// Measures each grouping on each shape of input.
pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    // Before the build and the diffs, which are a load, too.
    let idle = load()? <= IDLE;
    let mut build = command::cargo(&workspace.root);
    command::run(build.args(["build", "--release", "--package=offwake"]))?;
    let offwake = workspace.release_binary("offwake");
    let dir = workspace.target.join("bench-diff");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let result = measure_all(&offwake, &dir, options.gate, idle);
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    result
}

fn measure_all(offwake: &Path, dir: &Path, gate: bool, idle: bool) -> Result<()> {
    println!("{:<26} {:<7} {:>9} {:>8} {:>8} {:>5}", "input", "--by", "lines", "s", "CPU s", "MB");
    let mut breaches = Vec::new();
    for shape in Shape::ALL {
        let files = [("before", 1), ("after", 2)].map(|(name, seed)| (dir.join(name), seed));
        let mut lines = 0;
        for (file, seed) in &files {
            lines += write(shape, *seed, file)?;
        }
        for by in ["wait", "waker", "stack", "thread"] {
            let Cost { time, cpu, bytes } = measure(offwake, &files[0].0, &files[1].0, by)?;
            let (seconds, megabytes) = (time.as_secs_f64(), bytes as f64 / 1e6);
            println!(
                "{:<26} {by:<7} {lines:>9} {seconds:>8.2} {:>8.2} {megabytes:>5.0}",
                shape.name(),
                cpu.as_secs_f64(),
            );
            if bytes > MAX_BYTES {
                breaches.push(format!("{} by {by} takes {megabytes:.0} MB", shape.name()));
            }
            if time > MAX_TIME && idle {
                breaches.push(format!("{} by {by} takes {seconds:.2} s", shape.name()));
            }
        }
    }
    if !idle {
        println!(
            "\nThe machine was not idle: the seconds are too long, and no gate looks at them."
        );
    }
    ensure!(!gate || breaches.is_empty(), "{}", breaches.join("; "));
    Ok(())
}

/// Writes one side; how many lines it has.
fn write(shape: Shape, seed: u64, path: &PathBuf) -> Result<usize> {
    let text = stacks::folded(shape, seed, SIDE);
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(text.lines().count())
}

/// The least time of some rounds, and the most memory.
fn measure(offwake: &Path, before: &Path, after: &Path, by: &str) -> Result<Cost> {
    let mut best = Cost { time: Duration::MAX, cpu: Duration::MAX, bytes: 0 };
    for _ in 0..ROUNDS {
        let mut diff = Command::new(offwake);
        diff.args(["diff", "--absolute", "--by", by]).args([before, after]);
        diff.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Cost { time, cpu, bytes } = cost::run(&mut diff)?;
        best = Cost {
            time: best.time.min(time),
            cpu: best.cpu.min(cpu),
            bytes: best.bytes.max(bytes),
        };
    }
    Ok(best)
}

/// Of the last minute.
fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().with_context(|| format!("/proc/loadavg says {text}"))
}
