//! What goes into the virtual machine: all of it is static.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::debian;
use super::suites::{Suite, System};
use crate::architecture::{Architecture, X86_64};
use crate::workspace::Workspace;
use crate::{command, dist};

/// What was built.
pub(crate) struct Programs {
    /// The directory with all of it: the profiler, the tests and the examples.
    pub(crate) content: PathBuf,
    /// A shell, and what it runs.
    pub(crate) busybox: PathBuf,
    /// The image of a disk with the content; `None` where no suite wants a disk.
    pub(crate) disk: Option<PathBuf>,
}

/// Builds what the suites need.
pub(crate) fn programs(
    workspace: &Workspace,
    architecture: &'static Architecture,
    directory: &Path,
    suites: &[&Suite],
) -> Result<Programs> {
    let content = directory.join(format!("tests-{}", architecture.debian));
    let _ = fs::remove_dir_all(&content);
    fs::create_dir_all(content.join("cpp"))?;
    let take = |from: &Path, name: &str| {
        let to = content.join(name);
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))
    };

    for (name, executable) in executables(workspace, architecture, suites)? {
        take(&executable, &name)?;
    }
    let disk = if suites.iter().any(|suite| suite.system != System::Busybox) {
        if *architecture == X86_64 {
            make_cpp(workspace, &content.join("cpp"))?;
        }
        copy_files(
            &workspace.root.join("profiler/tests/unwind/targets"),
            &content.join("sources/targets"),
        )?;
        copy_files(&workspace.root.join("examples/cpp"), &content.join("sources/cpp"))?;
        let disk = directory.join(format!("tests-{}.ext4", architecture.debian));
        debian::make_image(&disk, &content, "1G")?;
        Some(disk)
    } else {
        None
    };
    let busybox = debian::busybox(directory, architecture)?;
    Ok(Programs { content, busybox, disk })
}

/// The example in C++, with the libevent that the tests of this machine use.
fn make_cpp(workspace: &Workspace, into: &Path) -> Result<()> {
    let libevent = workspace.target.join("cpp/libevent");
    let mut make = Command::new("make");
    make.current_dir(&workspace.root).args(["-C", "examples/cpp", "LDFLAGS=-static"]);
    make.arg(format!("OUT={}", into.display()));
    command::run(make.arg(format!("LIBEVENT={}", libevent.display())))
}

/// Builds the profiler, the tests and the examples, and asks cargo where they are. In one go: by itself each would be
/// compiled for other features of what they depend on. Those of the examples' tests have cargo build the examples.
fn executables(
    workspace: &Workspace,
    architecture: &Architecture,
    suites: &[&Suite],
) -> Result<BTreeMap<String, PathBuf>> {
    architecture.ensure(workspace)?;
    let mut cargo = dist::cargo(workspace, architecture, "test");
    cargo.args(["-p", "offwake", "-p", "offwake-examples", "--no-run", "--test", "targets"]);
    for target in suites.iter().map(|suite| suite.target).collect::<BTreeSet<_>>() {
        cargo.args(["--test", target]);
    }
    // The initial file system is read by an emulated machine: only what is profiled needs debug information.
    cargo.args(["--config", "profile.release.debug = false"]);
    cargo.args(["--config", "profile.release.package.offwake-examples.debug = 'line-tables-only'"]);
    cargo.arg("--message-format=json-render-diagnostics");
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start cargo")?;
    if !output.status.success() {
        bail!("building the tests failed ({})", output.status);
    }
    let messages = String::from_utf8(output.stdout)?;
    let executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let name = message["target"]["name"].as_str()?.to_owned();
        Some((name, message["executable"].as_str()?.into()))
    });
    Ok(executables.collect())
}

/// Copies the files of a directory, but for those of directories in it.
pub(crate) fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
