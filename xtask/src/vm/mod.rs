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

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, bail};

use self::kernels::Kernel;
use self::machine::Machine;
use self::qemu::Qemu;
use self::suites::Suite;
use self::table::Table;
use crate::architecture::{AARCH64, X86_64};
use crate::workspace::Workspace;
use crate::{child, packages};

/// What the user wants.
struct Options {
    kernels: Vec<&'static Kernel>,
    suites: Vec<&'static Suite>,
    /// Empty: what each kernel must have.
    probes: Vec<String>,
    /// Empty: all tests of a suite. Else those whose names have one of these in them.
    tests: Vec<String>,
    is_quick: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let options = Options::parse(args)?;
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

impl Options {
    fn parse(args: &[OsString]) -> Result<Self> {
        let mut options = Self {
            kernels: Vec::new(),
            suites: Vec::new(),
            probes: Vec::new(),
            tests: Vec::new(),
            is_quick: false,
        };
        let mut words = args.iter().map(|arg| arg.to_string_lossy());
        while let Some(option) = words.next() {
            if option == "--quick" {
                options.is_quick = true;
                continue;
            }
            let value = words.next().with_context(|| format!("{option} needs a name"))?;
            match &*option {
                "--kernel" => {
                    let known = kernels::ALL.iter().find(|kernel| kernel.name == value);
                    let names = || kernels::ALL.map(|kernel| kernel.name).join(", ");
                    let known = known.with_context(|| format!("kernels are {}", names()))?;
                    options.kernels.push(known);
                }
                "--suite" => {
                    let names = || suites::ALL.map(|suite| suite.name).join(", ");
                    let known = Suite::named(&value);
                    let known = known.with_context(|| format!("suites are {}", names()))?;
                    options.suites.push(known);
                }
                "--probe" => options.probes.push(value.into_owned()),
                "--test" => options.tests.push(value.into_owned()),
                _ => bail!("vm does not know {option}"),
            }
        }
        if options.kernels.is_empty() {
            options.kernels.extend(&kernels::ALL);
        }
        if options.suites.is_empty() {
            options.suites.extend(suites::ALL);
        }
        Ok(options)
    }
}
