//! `cargo xtask`: what cargo alone does not do.

mod architecture;
mod bench;
mod bpf;
mod child;
mod command;
mod demo;
mod dist;
mod packages;
mod rules;
mod test;
mod vm;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask TASK

  demo              record a bundled example program for 5 s and write offwake-demo.svg (root)
  test [ARGS…]      set up what the tests need and run all of them; ARGS go to `cargo test`
  bench [OPTIONS]   cost in BPF per thread switch, beside libbpf-tools (root)
                      --rounds N    how often each tracer is measured (default 3)
                      --seconds S   how long each time (default 3)
                      --json FILE   write the figures too
                      --peers-only  measure without offwake
                      --gate        fail where a ratio is beyond its bar, which the last lines name
  bench load        what a recording loses, and takes, under a load (root)
                      --seconds S    for how long (default 60)
                      --threads N    so many threads (default 8)
                      --processes N  in so many processes; more than one are recorded with -a (default 1)
                      --stacks N     so many distinct user stacks (default 50,000)
                      --rate N       so many sleeps a second; 0: as many as can be (default 100,000)
                      --gate         fail if anything is lost, or memory grows
                      -- OPTIONS     of offwake; with --overhead, the gate is also for its ceiling
  bench diff        what `offwake diff` takes for 100 MB of folded stacks: seconds and memory
                      --gate        fail beyond 500 MB, and where the machine is idle beyond 3 s
  bench user        what offwake takes beside the probes: start-up, seconds from the stop to the graph, peak
                    of its memory; for 50,000 distinct stacks and for Envoy (root)
                      --seconds S   how long Envoy is recorded (default 60)
                      --rounds N    how often each is measured (default 3)
                      --envoy FILE  this Envoy, not the one that is fetched
                      --gate        fail beyond 1 s after the stop of Envoy and 3 s of the stacks, 0.5 s of
                                    start-up with fp, and 150 MB with fp or 250 MB with cfi, BPF maps included
  bench envoy       what Envoy serves under wrk while it is recorded, beside libbpf-tools (root)
                      --rounds N    how often each is measured (default 5)
                      --seconds S   how long each time (default 5)
                      --envoy FILE  this Envoy, not the one that is fetched
                      --gate        fail below 97 % of the requests of without, or beyond its 99th percentile by as much
  bench epoll       what `offwake epoll` costs for each event, and what it loses (root)
                      --gate        fail if it loses any of 50,000 a second
  bpf [OPTIONS]     build profiler-ebpf to profiler/bpf/
                      --check       instead, prove that the committed object is what the source gives
                      --install     first install the toolchain for it (Debian, root)
  dist [ARCH]       build offwake as one static binary, for x86_64 (default) or aarch64
  vm [OPTIONS]      run the tests on other kernels, in virtual machines (Debian, root)
                      --kernel NAME  only this one of 5.10, 6.1, 6.1-rt, 6.12, 7.2, arm64; may be repeated
                      --suite NAME   only this one of bare, truth, cfi, bcc; may be repeated
                      --quick        only one test for each kind of wait and of stack
                      --test NAME    only tests whose names have this in them; may be repeated
                      --probe NAME   only with this probe; may be repeated
  rules             check the dependency rules of the source, and what the README says
";

fn main() -> ExitCode {
    if let Some(exit) = bpf::rustc_wrapper() {
        return exit;
    }
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> Result<()> {
    let Some((task, args)) = args.split_first() else {
        eprint!("{USAGE}");
        bail!("no task given");
    };
    let workspace = Workspace::find()?;
    match task.to_str() {
        Some("demo") => demo::run(&workspace, args),
        Some("test") => test::run(&workspace, args),
        Some("bench") => bench::run(&workspace, args),
        Some("bpf") => bpf::run(&workspace, args),
        Some("dist") => dist::run(&workspace, args),
        Some("vm") => vm::run(&workspace, args),
        Some("rules") => rules::run(&workspace, args),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            bail!("no task `{}`", task.display());
        }
    }
}
