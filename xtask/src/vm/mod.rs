//! The tests on other kernels, in virtual machines.
//!
//! Each kernel is booted once with nothing but busybox, for all probes, and then with Debian 11, for each
//! suite and probe.

mod apt;
mod boots;
mod build;
mod console;
mod debian;
mod kernels;
mod machine;
mod modules;
mod qemu;
mod suites;
mod table;

use std::fs;

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use self::kernels::Kernel;
use self::machine::Machine;
use self::qemu::Qemu;
use self::suites::Suite;
use self::table::Table;
use crate::architecture::{AARCH64, X86_64};
use crate::workspace::Workspace;
use crate::{child, packages};

#[derive(Args)]
pub(crate) struct Options {
    /// Only this kernel; may be repeated
    #[arg(
        long = "kernel",
        value_name = "NAME",
        hide_default_value = true,
        default_values = kernels::ALL.iter().map(|kernel| kernel.name),
        value_parser = PossibleValuesParser::new(kernels::ALL.iter().map(|kernel| kernel.name))
            .map(|name| Kernel::named(&name).expect("it is one of them"))
    )]
    kernels: Vec<&'static Kernel>,
    /// Only these tests; may be repeated
    #[arg(
        long = "suite",
        value_name = "NAME",
        hide_default_value = true,
        default_values = suites::ALL.iter().map(|suite| suite.name),
        value_parser = PossibleValuesParser::new(suites::ALL.iter().map(|suite| suite.name))
            .map(|name| Suite::named(&name).expect("it is one of them"))
    )]
    suites: Vec<&'static Suite>,
    /// Only with this probe, not with all that a kernel has; may be repeated
    #[arg(long = "probe", value_name = "NAME", value_parser = PossibleValuesParser::new(kernels::PROBES))]
    probes: Vec<String>,
    /// Only tests whose names have this in them; may be repeated
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// Only one test for each kind of wait and of stack
    #[arg(long = "quick")]
    is_quick: bool,
}

pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<()> {
    packages::ensure("`cargo xtask vm`", packages::FOR_VM)?;
    child::unwind_on_signals()?;
    let directory = workspace.target.join("vm");
    fs::create_dir_all(&directory)?;
    let qemu = Qemu::get(&directory)?;
    let mut table = Table::default();
    for architecture in [&X86_64, &AARCH64] {
        let kernels = options.kernels.iter().filter(|it| it.architecture == architecture);
        let kernels: Vec<&Kernel> = kernels.copied().collect();
        if kernels.is_empty() {
            continue;
        }
        let programs = build::programs(workspace, architecture, &directory, &options.suites)?;
        let machine = Machine {
            architecture,
            workspace,
            directory: &directory,
            programs: &programs,
            qemu: &qemu,
            accelerator: machine::accelerator(&qemu, architecture),
        };
        for kernel in kernels {
            if let Err(error) = boots::test(&machine, kernel, &options, &mut table) {
                // A kernel that cannot be had is no reason to leave out the others, but one to fail.
                table.failure(kernel.name, "", "", &format!("{error:#}"));
            }
        }
    }
    print!("\n{table}");
    match table.failures() {
        0 => Ok(()),
        1 => bail!("1 line of the table is a failure"),
        count => bail!("{count} lines of the table are failures"),
    }
}
