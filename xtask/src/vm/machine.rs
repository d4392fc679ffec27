//! A virtual machine: its first file system, and running it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use super::build::Programs;
use super::console::Console;
use super::kernels::Image;
use super::modules;
use super::suites::{self, Suite};
use crate::architecture::Architecture;
use crate::child::Group;
use crate::workspace::Workspace;
use crate::{command, dist};

const MEMORY_MIB: &str = "2048";
/// Enough for all that a boot runs under emulation.
const PATIENCE: Duration = Duration::from_secs(25 * 60);

/// What all boots have in common.
pub(crate) struct Machine<'a> {
    pub(crate) architecture: &'static Architecture,
    pub(crate) workspace: &'a Workspace,
    pub(crate) directory: &'a Path,
    pub(crate) programs: &'a Programs,
    pub(crate) debian: &'a Path,
    /// Whether to run only the tests of `--quick`.
    pub(crate) is_quick: bool,
    /// What executes its instructions.
    pub(crate) accelerator: &'static str,
}

/// The kernel's virtual machines where they work, else emulation.
pub(crate) fn accelerator(architecture: &Architecture) -> &'static str {
    // Some machines have the device, and QEMU cannot set up a CPU with it. One that stands still shows that.
    let mut qemu = Command::new("sh");
    let stands = "-accel kvm -S -nodefaults -display none -monitor stdio";
    qemu.args(["-c", &format!("echo quit | \"$0\" \"$@\" {stands}"), architecture.qemu]);
    qemu.args(architecture.machine);
    match command::capture(&mut qemu) {
        Ok(_) => "kvm",
        Err(_) => "tcg,thread=multi",
    }
}

impl Machine<'_> {
    /// Boots a kernel and runs suites with a probe. Without one it only asks what the kernel has.
    /// Returns what the machine said, and the file that has it.
    pub(crate) fn boot(
        &self,
        name: &str,
        kernel: &Image,
        run: Option<(&str, &[&Suite])>,
    ) -> Result<(Console, PathBuf)> {
        let what = format!("{name}-{}", run.map_or("check", |(probe, _)| probe));
        let initrd = self.initrd(&what, kernel, run)?;
        let log = self.directory.join(format!("{what}.log"));
        let mut qemu = Command::new(self.architecture.qemu);
        qemu.args(self.architecture.machine);
        qemu.args(["-accel", self.accelerator, "-smp", "2"]);
        qemu.args(["-m", MEMORY_MIB, "-nodefaults", "-no-reboot", "-display", "none"]);
        for disk in [self.debian, &self.programs.disk] {
            // Nothing of a run is left.
            let drive = format!("file={},format=raw,if=virtio,snapshot=on", disk.display());
            qemu.arg("-drive").arg(drive);
        }
        qemu.arg("-kernel").arg(&kernel.vmlinuz).arg("-initrd").arg(&initrd);
        let console = self.architecture.console;
        let append = format!("console={console} panic=-1 loglevel=4 oops=panic");
        qemu.arg("-append").arg(append);
        qemu.args(["-serial", "stdio"]);
        eprintln!("+ qemu: {what} ({}), see {}", kernel.package, log.display());
        qemu.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(Stdio::inherit());
        // A machine that hangs is ended here; what it has not said is then missing.
        let ended = Group::start(&mut qemu)?.wait(PATIENCE);
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let console = Console::parse(&said);
        if let Err(error) = ended {
            eprintln!("{what}: {error:#}");
        }
        fs::remove_file(initrd)?;
        Ok((console, log))
    }

    /// The file system that the kernel starts with: busybox, offwake, an example, and modules.
    fn initrd(
        &self,
        what: &str,
        kernel: &Image,
        run: Option<(&str, &[&Suite])>,
    ) -> Result<PathBuf> {
        let root = self.directory.join(format!("{what}.initrd"));
        let _ = fs::remove_dir_all(&root);
        for name in ["bin", "debian", "dev", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(name))?;
        }
        fs::copy(&self.programs.busybox, root.join("bin/busybox"))?;
        symlink("busybox", root.join("bin/sh"))?;
        fs::copy(&self.programs.offwake, root.join("bin/offwake"))?;
        fs::copy(&self.programs.condvar, root.join("bin/condvar"))?;
        modules::copy(&kernel.modules, &root.join("modules"))?;
        fs::write(root.join("init"), self.init(run))?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;

        let initrd = self.directory.join(format!("{what}.cpio"));
        let mut pack = Command::new("sh");
        pack.current_dir(&root).args(["-c", "find . | cpio -o -H newc --quiet > \"$0\""]);
        command::capture(pack.arg(&initrd))?;
        fs::remove_dir_all(&root)?;
        Ok(initrd)
    }

    /// The first process's script.
    fn init(&self, run: Option<(&str, &[&Suite])>) -> String {
        let (probe, suites) = run.map_or_else(Default::default, |(probe, suites)| {
            (probe, suites::script(suites, self.architecture, self.is_quick))
        });
        let manifest = self.workspace.root.join("profiler");
        let writable = dist::test_directory(self.workspace, self.architecture);
        include_str!("init.sh")
            .replace("PROBE=NAME", &format!("PROBE={probe}"))
            .replace("offwake PROBE", &format!("offwake --probe {probe}"))
            .replace("WRITABLE", &writable.display().to_string())
            .replace("MANIFEST", &manifest.display().to_string())
            .replace("\nSUITES\n", &format!("\n{suites}\n"))
    }
}
