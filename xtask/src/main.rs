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
mod target;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// What cargo alone does not do.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Record a bundled example program for 5 s and write offwake-demo.svg (root)
    Demo,
    /// Set up what the tests need and run all of them
    Test(test::Options),
    /// Measure the cost in BPF per thread switch, beside libbpf-tools (root), or something else
    Bench(bench::Bench),
    /// Build profiler-ebpf to profiler/bpf/
    Bpf(bpf::Options),
    /// Build offwake as one static binary
    Dist(dist::Options),
    /// Run the tests on other kernels, in virtual machines (Debian, root)
    Vm(vm::Options),
    /// Check the dependency rules of the source, and what the README says
    Rules,
}

fn main() -> ExitCode {
    if let Some(exit) = bpf::rustc_wrapper() {
        return exit;
    }
    match run(Command::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Demo => demo::run(&workspace),
        Task::Test(options) => test::run(&workspace, &options),
        Task::Bench(options) => bench::run(&workspace, options),
        Task::Bpf(options) => bpf::run(&workspace, &options),
        Task::Dist(options) => dist::run(&workspace, &options),
        Task::Vm(options) => vm::run(&workspace, options),
        Task::Rules => rules::run(&workspace),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Command::command().debug_assert();
    }
}
