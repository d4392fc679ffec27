//! offwake at work.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use super::kernel::{is_recording, version};
use super::profile::Profile;
use super::{offwake, signal, until};

/// A running offwake, which writes JSON and whatever else is asked for.
#[derive(Debug)]
pub(crate) struct Recorder {
    child: Child,
    directory: TempDir,
}

/// What a recording left.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) profile: Profile,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    directory: TempDir,
}

impl Recorder {
    /// Starts offwake. Returns once it records.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(&[], args)
    }

    /// As [`Self::start`], with output files beside the JSON.
    pub(crate) fn start_with(outputs: &[&str], args: &[&str]) -> Self {
        Self::start_command(Command::new(offwake()), outputs, args)
    }

    /// As [`Self::start_with`], of an offwake that this starts.
    pub(crate) fn start_command(command: Command, outputs: &[&str], args: &[&str]) -> Self {
        let mut recorder = Self::spawn(command, outputs, args);
        until("offwake to record", || {
            let ended = recorder.child.try_wait().expect("a child");
            assert!(ended.is_none(), "offwake {args:?}: {ended:?}: {}", recorder.read("stderr"));
            is_recording(recorder.child.id()).then_some(())
        });
        recorder
    }

    /// Starts a command line that ends with the arguments of an offwake. Returns at once. Where
    /// `OFFWAKE_TEST_PROBE` names a probe, it records with that.
    pub(crate) fn spawn(mut command: Command, outputs: &[&str], args: &[&str]) -> Self {
        let directory = TempDir::new().expect("a directory");
        // offwake may run as somebody else.
        let writable = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), writable).expect("its owner may");
        let create = |name: &str| File::create(directory.path().join(name)).expect("a file");
        let is_told = args.contains(&"--probe");
        if let Some(probe) = env::var_os("OFFWAKE_TEST_PROBE").filter(|_| !is_told) {
            command.arg("--probe").arg(probe);
        }
        for output in [&["out.json"], outputs].concat() {
            command.arg("-o").arg(directory.path().join(output));
        }
        command.args(args).stdin(Stdio::null()).stdout(create("stdout")).stderr(create("stderr"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, directory }
    }

    /// Ends the recording as Ctrl-C does.
    pub(crate) fn stop(self) -> Recorded {
        self.stop_by(libc::SIGINT)
    }

    /// Ends the recording by a signal, which comes twice at once, as from `timeout` or a terminal that goes away.
    pub(crate) fn stop_by(self, by: libc::c_int) -> Recorded {
        signal(self.child.id(), by);
        sleep(Duration::from_millis(1));
        signal(self.child.id(), by);
        self.wait()
    }

    /// Waits until the recording has ended by itself.
    pub(crate) fn wait(mut self) -> Recorded {
        let status = self.exit_status();
        let stderr = self.read("stderr");
        assert!(status.success(), "offwake: {status}: {stderr}");
        let json = self.read("out.json");
        let profile: Profile = serde_json::from_str(&json).expect("the documented JSON");
        profile.assert_histograms_are_complete();
        let stdout = self.read("stdout");
        let directory =
            std::mem::replace(&mut self.directory, TempDir::new().expect("a directory"));
        Recorded { profile, stdout, stderr, directory }
    }

    fn exit_status(&mut self) -> ExitStatus {
        until("offwake to end", || self.child.try_wait().expect("a child"))
    }

    fn read(&self, name: &str) -> String {
        read(self.directory.path(), name)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // What has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Recorded {
    /// The content of one of its output files.
    pub(crate) fn output(&self, name: &str) -> String {
        read(self.directory.path(), name)
    }

    /// How many stacks were not unwound, as offwake says at its end.
    pub(crate) fn remembered(&self) -> u64 {
        let mut lines = self.stderr.lines();
        let count = lines.find_map(|line| line.split_once("stacks not unwound again: "));
        count.map_or(0, |(_, count)| count.parse().expect("a number"))
    }

    /// Whether this kernel and this kind of probe are those with which stacks are remembered.
    pub(crate) fn remembers(&self) -> bool {
        version() >= (5, 17) && self.profile.recording.probe.starts_with("btf ")
    }
}

fn read(directory: &Path, name: &str) -> String {
    let path: PathBuf = directory.join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
