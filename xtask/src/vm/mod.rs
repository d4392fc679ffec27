//! The tests on other kernels, in virtual machines.
//!
//! Each kernel is booted once to ask what it has, and then once for each probe. Inside, the static
//! `offwake` first records on nothing but busybox, and then the tests run on Debian 11.

mod apt;
mod build;
mod console;
mod debian;
mod kernels;
mod machine;
mod modules;
mod suites;
mod table;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use self::console::Console;
use self::kernels::Kernel;
use self::machine::Machine;
use self::suites::{CFI, Suite, TRUTH};
use self::table::Table;
use crate::architecture::{AARCH64, X86_64};
use crate::workspace::Workspace;
use crate::{child, packages};

/// How much of the console a failure shows.
const TAIL: usize = 60;

/// What the user wants.
struct Options {
    kernels: Vec<&'static Kernel>,
    /// Empty: what each kernel has.
    probes: Vec<String>,
    is_quick: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let options = Options::parse(args)?;
    packages::ensure("`cargo xtask vm`", packages::FOR_VM)?;
    child::unwind_on_signals()?;
    let directory = workspace.target.join("vm");
    fs::create_dir_all(&directory)?;
    let mut table = Table::default();
    for architecture in [&X86_64, &AARCH64] {
        let kernels = options.kernels.iter().filter(|it| it.architecture == architecture);
        let kernels: Vec<&Kernel> = kernels.copied().collect();
        if kernels.is_empty() {
            continue;
        }
        let programs = build::programs(workspace, architecture, &directory, &[&TRUTH, &CFI])?;
        let debian = debian::image(&directory, architecture)?;
        let machine = Machine {
            architecture,
            workspace,
            directory: &directory,
            programs: &programs,
            debian: &debian,
            is_quick: options.is_quick,
            accelerator: machine::accelerator(architecture),
        };
        for kernel in kernels {
            if let Err(error) = test(&machine, kernel, &options.probes, &mut table) {
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
        let mut options = Self { kernels: Vec::new(), probes: Vec::new(), is_quick: false };
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
                "--probe" => options.probes.push(value.into_owned()),
                _ => bail!("vm does not know {option}"),
            }
        }
        if options.kernels.is_empty() {
            options.kernels.extend(&kernels::ALL);
        }
        Ok(options)
    }
}

/// Tests one kernel with all its probes, or with these.
fn test(
    machine: &Machine<'_>,
    kernel: &Kernel,
    probes: &[String],
    table: &mut Table,
) -> Result<()> {
    let image = kernel.get(machine.directory)?;
    let (asked, log) = machine.boot(kernel.name, &image, None)?;
    if !asked.is_done {
        show_tail(&log)?;
        bail!("{} did not boot", image.package);
    }
    let release = &asked.release;
    let found = asked.probes().into_iter().map(str::to_owned).collect();
    let probes: Vec<String> = if probes.is_empty() { found } else { probes.to_vec() };
    if probes.is_empty() {
        table.failure(
            kernel.name,
            release,
            "",
            &format!("missing: {}", asked.missing().join("; ")),
        );
    }
    for probe in probes {
        let mut suites = vec![&TRUTH];
        if asked.has_cfi() {
            suites.push(&CFI);
        }
        let (said, log) = machine.boot(kernel.name, &image, Some((&probe, &suites)))?;
        let good = add(table, kernel, &probe, &said, &suites);
        if !good {
            show_tail(&log)?;
        }
        if !asked.has_cfi() {
            table.left_out(kernel.name, release, &probe, CFI.name, "needs Linux 5.17");
        }
    }
    Ok(())
}

/// Adds what a boot said to the table. Returns whether all is well.
fn add(table: &mut Table, kernel: &Kernel, probe: &str, said: &Console, suites: &[&Suite]) -> bool {
    let before = table.failures();
    table.outcome(kernel.name, &said.release, probe, "bare", said.suites.get("bare"), &[]);
    for suite in suites {
        let outcome = said.suites.get(suite.name);
        let left_out = suite.left_out(kernel.architecture);
        table.outcome(kernel.name, &said.release, probe, suite.name, outcome, &left_out);
    }
    table.failures() == before
}

fn show_tail(log: &Path) -> Result<()> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("the end of {}:", log.display());
    for line in &lines[lines.len().saturating_sub(TAIL)..] {
        eprintln!("    {line}");
    }
    Ok(())
}
