//! A virtual machine: its first file system, and running it.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use super::build::{self, Programs};
use super::console::Console;
use super::kernels::Image;
use super::modules;
use super::qemu::Qemu;
use crate::architecture::Architecture;
use crate::child::{self, Group};
use crate::workspace::Workspace;
use crate::{command, dist};

const MEMORY_MIB: &str = "2048";
/// Enough for all that a boot runs under emulation.
const PATIENCE: Duration = Duration::from_secs(40 * 60);
/// A machine that has not said which kernel it runs by then never will: it is started once more.
const PATIENCE_TO_COME_UP: Duration = Duration::from_secs(3 * 60);
/// Where it is not emulated, it takes seconds.
const PATIENCE_WITH_KVM: Duration = Duration::from_secs(30);
const TRIES: usize = 3;

const KVM: &str = "kvm";
const EMULATION: &str = "tcg,thread=multi";

/// What all boots have in common.
pub(crate) struct Machine<'a> {
    pub(crate) architecture: &'static Architecture,
    pub(crate) workspace: &'a Workspace,
    pub(crate) directory: &'a Path,
    pub(crate) programs: &'a Programs,
    pub(crate) qemu: &'a Qemu,
    /// What executes its instructions.
    pub(crate) accelerator: Cell<&'static str>,
}

/// What one boot runs.
pub(crate) struct Boot<'a> {
    /// Its name, of which its files have theirs.
    pub(crate) name: String,
    pub(crate) kernel: &'a Image,
    /// Disks, in the order in which the machine finds them. Nothing of a run is left on them.
    pub(crate) disks: Vec<&'a Path>,
    /// Whether the tests are in the first file system, where no disk has them.
    pub(crate) has_tests: bool,
    /// Lines of shell.
    pub(crate) script: String,
}

/// What a boot has left.
pub(crate) struct Said {
    pub(crate) console: Console,
    /// The file of what the script has said.
    pub(crate) results: PathBuf,
    /// The file of the kernel's own messages.
    pub(crate) messages: PathBuf,
}

/// The kernel's virtual machines where they work, else emulation.
pub(crate) fn accelerator(qemu: &Qemu, architecture: &Architecture) -> Cell<&'static str> {
    // Some machines have the device, and QEMU cannot set up a CPU with it. One that stands still shows that.
    let mut stands = qemu.command(architecture);
    stands.args(["-accel", "kvm", "-S", "-nodefaults", "-display", "none", "-monitor", "stdio"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo quit | \"$0\" \"$@\""]).arg(stands.get_program());
    Cell::new(match command::capture(shell.args(stands.get_args())) {
        Ok(_) => KVM,
        Err(_) => EMULATION,
    })
}

impl Machine<'_> {
    /// Boots a kernel and runs a script.
    pub(crate) fn boot(&self, boot: &Boot<'_>) -> Result<Said> {
        let initrd = self.initrd(boot)?;
        let file = |end: &str| self.directory.join(format!("{}.{end}", boot.name));
        let (results, messages) = (file("log"), file("kernel.log"));
        let mut console = Console::default();
        for _ in 0..TRIES {
            eprintln!("+ qemu: {} ({}), see {}", boot.name, boot.kernel.package, results.display());
            if let Err(error) = self.run(boot, &initrd, &results, &messages) {
                // A machine that hangs is ended; what it has not said is then missing.
                eprintln!("{}: {error:#}", boot.name);
            }
            console = Console::parse(&String::from_utf8_lossy(&fs::read(&results)?));
            if !console.release.is_empty() {
                break;
            }
            // In a virtual machine, KVM may set up a CPU and then not know an instruction of a kernel.
            self.accelerator.set(EMULATION);
        }
        fs::remove_file(initrd)?;
        Ok(Said { console, results, messages })
    }

    fn run(&self, boot: &Boot<'_>, initrd: &Path, results: &Path, messages: &Path) -> Result<()> {
        let mut qemu = self.qemu.command(self.architecture);
        qemu.args(["-accel", self.accelerator.get(), "-smp", "2"]);
        qemu.args(["-m", MEMORY_MIB, "-nodefaults", "-no-reboot", "-display", "none"]);
        for disk in &boot.disks {
            let drive = format!("file={},format=raw,if=virtio,snapshot=on", disk.display());
            qemu.arg("-drive").arg(drive);
        }
        qemu.arg("-kernel").arg(&boot.kernel.vmlinuz).arg("-initrd").arg(initrd);
        let Architecture { console, parameters, .. } = self.architecture;
        let append = format!("console={console} panic=-1 loglevel=4 oops=panic {parameters}");
        qemu.arg("-append").arg(append);
        qemu.arg("-serial").arg(format!("file:{}", messages.display()));
        File::create(results)?;
        qemu.arg("-chardev").arg(format!("file,id=results,path={}", results.display()));
        qemu.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=results"]);
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let mut machine = Group::start(&mut qemu)?;
        let patience = match self.accelerator.get() {
            KVM => PATIENCE_WITH_KVM,
            _ => PATIENCE_TO_COME_UP,
        };
        let has_come_up = child::wait_for(patience, || {
            let is_up = fs::metadata(results)?.len() > 0;
            Ok((is_up || machine.child().try_wait()?.is_some()).then_some(()))
        })?;
        if has_come_up.is_none() {
            bail!("it has not come up within {patience:?}");
        }
        machine.wait(PATIENCE).map(|_| ())
    }

    /// The file system that the kernel starts with: busybox, modules, and maybe the tests.
    fn initrd(&self, boot: &Boot<'_>) -> Result<PathBuf> {
        let root = self.directory.join(format!("{}.initrd", boot.name));
        let _ = fs::remove_dir_all(&root);
        for name in ["bin", "debian", "dev", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(name))?;
        }
        fs::copy(&self.programs.busybox, root.join("bin/busybox"))?;
        symlink("busybox", root.join("bin/sh"))?;
        if boot.has_tests {
            build::copy_files(&self.programs.content, &root.join("offwake"))?;
        }
        modules::copy(&boot.kernel.modules, &root.join("modules"))?;
        fs::write(root.join("init"), self.init(&boot.script))?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;

        let initrd = self.directory.join(format!("{}.cpio", boot.name));
        let mut pack = Command::new("sh");
        pack.current_dir(&root).args(["-c", "find . | cpio -o -H newc --quiet > \"$0\""]);
        command::capture(pack.arg(&initrd))?;
        fs::remove_dir_all(&root)?;
        Ok(initrd)
    }

    /// The first process's script.
    fn init(&self, script: &str) -> String {
        let manifest = self.workspace.root.join("profiler");
        let writable = dist::test_directory(self.workspace, self.architecture);
        include_str!("init.sh")
            .replace("WRITABLE", &writable.display().to_string())
            .replace("MANIFEST", &manifest.display().to_string())
            .replace("\nSCRIPT\n", &format!("\n{script}\n"))
    }
}
