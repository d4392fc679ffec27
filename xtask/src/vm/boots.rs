//! The boots of one kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Options;
use super::console::Console;
use super::debian;
use super::kernels::{Image, Kernel, PROBES};
use super::machine::{Boot, Machine, Said};
use super::suites::{Needs, Suite, System};
use super::table::Table;

/// How much of what a machine said a failure shows.
const TAIL: usize = 60;

/// Tests one kernel: each suite with all its probes, or with those that the user wants.
pub(super) fn test(
    machine: &Machine<'_>,
    kernel: &Kernel,
    options: &Options,
    table: &mut Table,
) -> Result<()> {
    let image = kernel.get(machine.directory)?;
    let wanted =
        |probe: &&str| options.probes.is_empty() || options.probes.iter().any(|it| it == probe);
    let probes: Vec<&str> = PROBES.iter().copied().filter(wanted).collect();
    for suite in &options.suites {
        if let Some(why) = suite.why_not(kernel) {
            table.left_out(kernel.name, &image.package, "", suite.name, why);
            continue;
        }
        match (suite.system, suite.needs) {
            (System::Busybox, _) => {
                one_or_two_boots(machine, kernel, &image, suite, &probes, options, table)?;
            }
            // BCC has kprobes only.
            (_, Needs::Bcc) => {
                one_or_two_boots(machine, kernel, &image, suite, &["kprobe"], options, table)?;
            }
            (System::Debian | System::DebianWithBcc, _) => {
                for probe in &probes {
                    one_or_two_boots(machine, kernel, &image, suite, &[probe], options, table)?;
                }
            }
        }
    }
    Ok(())
}

/// Runs a suite with these probes. What fails runs once more, as with `cargo xtask test`: the machine may have had
/// something else to do. Where single tests failed, only these do.
fn one_or_two_boots(
    machine: &Machine<'_>,
    kernel: &Kernel,
    image: &Image,
    suite: &'static Suite,
    probes: &[&str],
    options: &Options,
    table: &mut Table,
) -> Result<()> {
    let all = script(machine, suite, probes, options);
    let first = one_boot(machine, kernel, image, suite, probes, all.clone())?;
    let told = judge(machine, kernel, image, suite, probes, &first.console);
    if told.failures() == 0 {
        table.append(told);
        return Ok(());
    }
    show_tails(&first)?;
    // The second boot writes to the same file.
    fs::copy(&first.results, first.results.with_extension("first.log"))?;
    eprint!("\n{told}once more:\n");
    let single = first.console.failed_tests();
    let script = single.as_ref().map_or(all, |failed| script_again(suite, failed));
    let second = one_boot(machine, kernel, image, suite, probes, script)?;
    let told = match single {
        Some(_) => {
            let both = first.console.and_again(second.console.clone());
            judge(machine, kernel, image, suite, probes, &both)
        }
        None => {
            let mut told = judge(machine, kernel, image, suite, probes, &second.console);
            told.note("the second time");
            told
        }
    };
    if told.failures() != 0 {
        show_tails(&second)?;
    }
    table.append(told);
    Ok(())
}

/// Boots for a suite with these probes.
fn one_boot(
    machine: &Machine<'_>,
    kernel: &Kernel,
    image: &Image,
    suite: &Suite,
    probes: &[&str],
    script: String,
) -> Result<Said> {
    let is_bare = suite.system == System::Busybox;
    let debian = match suite.system {
        System::Busybox => None,
        System::Debian => Some(debian::image(machine.directory, machine.architecture, false)?),
        System::DebianWithBcc => {
            Some(debian::image(machine.directory, machine.architecture, true)?)
        }
    };
    let headers = match suite.system {
        System::DebianWithBcc => Some(kernel.headers(machine.directory, image)?),
        System::Busybox | System::Debian => None,
    };
    let mut disks: Vec<&Path> = debian.as_deref().into_iter().collect();
    if !is_bare {
        disks.extend(machine.programs.disk.as_deref());
    }
    disks.extend(headers.as_deref());
    let mut name = format!("{}-{}", kernel.name, suite.name);
    if let [probe] = probes {
        name = format!("{name}-{probe}");
    }
    machine.boot(&Boot { name, kernel: image, disks, has_tests: is_bare, script })
}

/// The lines of the table about a boot.
fn judge(
    machine: &Machine<'_>,
    kernel: &Kernel,
    image: &Image,
    suite: &'static Suite,
    probes: &[&str],
    console: &Console,
) -> Table {
    let mut table = Table::default();
    let Console { release, suites, is_done, .. } = console;
    if release.is_empty() {
        table.failure(kernel.name, "", "", &format!("{} did not boot", image.package));
        return table;
    }
    if suite.system == System::Busybox {
        check(kernel, console, &mut table);
    }
    let left_out = suite.left_out(machine.architecture);
    for &probe in probes {
        let outcome = suites.get(&(suite.name.into(), probe.into()));
        table.outcome([kernel.name, release, probe], suite.name, outcome, &left_out);
    }
    if !is_done && table.failures() == 0 {
        table.failure(kernel.name, release, "", "it did not come to the end");
    }
    table
}

/// The lines of shell.
fn script(machine: &Machine<'_>, suite: &Suite, probes: &[&str], options: &Options) -> String {
    let mut lines = String::new();
    if suite.system == System::Busybox {
        lines +=
            "echo '@offwake begin check'\n/offwake/offwake check\necho \"@offwake end check $?\"\n";
    }
    lines += mounts(suite);
    for probe in probes {
        lines += &suite.script(probe, machine.architecture, options.is_quick, &options.tests);
    }
    // What these do cannot be undone.
    if let Some(probe) = probes.last().filter(|_| options.tests.is_empty()) {
        lines += &suite.last_script(probe, options.is_quick);
    }
    lines
}

/// The lines of shell for tests that failed, by probe.
fn script_again(suite: &Suite, failed: &BTreeMap<String, Vec<String>>) -> String {
    let lines = failed.iter().map(|(probe, tests)| suite.script_again(probe, tests));
    mounts(suite).to_owned() + &lines.collect::<String>()
}

/// What comes before the tests.
fn mounts(suite: &Suite) -> &'static str {
    match suite.system {
        System::Busybox => "",
        System::Debian => "debian\n",
        System::DebianWithBcc => "debian\nheaders\n",
    }
}

/// Whether `offwake check` finds what the kernel has.
fn check(kernel: &Kernel, said: &Console, table: &mut Table) {
    let mut wrong = Vec::new();
    let names: Vec<String> = PROBES.iter().map(|probe| format!("probe {probe}")).collect();
    for name in &names {
        if !said.has(name) {
            wrong.push(format!("no {name}"));
        }
    }
    if said.has("user stacks") != kernel.has_cfi {
        wrong.push(format!("user stacks: {}", if kernel.has_cfi { "no cfi" } else { "cfi" }));
    }
    table.check(kernel.name, &said.release, names.len() + 1, &wrong);
}

fn show_tails(said: &Said) -> Result<()> {
    for file in [&said.messages, &said.results] {
        let text = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("the end of {}:", file.display());
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            eprintln!("    {line}");
        }
    }
    Ok(())
}
