//! Running offwake where something is wrong.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A process to record. Ends when dropped.
pub(crate) struct Target(pub(crate) Child);

impl Target {
    /// A command that was started, and runs.
    pub(crate) fn start(words: &[impl AsRef<OsStr>]) -> Self {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Sleeps, for longer than any test.
    pub(crate) fn sleeping() -> Self {
        Self::start(&["sleep", "600"])
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Either fails where the process has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder for outputs, and a place to run in.
pub(crate) struct Sandbox {
    folder: TempDir,
    /// What a shell does before it becomes offwake.
    before: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self::after("true")
    }

    /// Does something in a shell first; `$D` is the folder. Mounts stay in there.
    pub(crate) fn after(before: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        Self { folder, before: before.into() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names in the folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// offwake, in the folder.
    pub(crate) fn offwake(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{} && exec \"$@\"", self.before), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_offwake")).args(arguments);
        command.current_dir(self.folder.path()).env("D", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Asserts that offwake fails with one line that holds all of `expected`, prints nothing, and
    /// leaves no file behind.
    #[track_caller]
    pub(crate) fn assert_fails(&self, arguments: &[&str], expected: &[&str]) {
        let before = self.files();
        let arguments = [&["-o", "out.svg"], arguments].concat();
        assert_failed(&self.offwake(&arguments).output().unwrap(), expected);
        assert_eq!(self.files(), before);
    }

    /// Asserts that offwake records and leaves a whole flame graph.
    #[track_caller]
    pub(crate) fn assert_records(&self, arguments: &[&str]) -> String {
        let arguments = [&["-o", "out.svg"], arguments].concat();
        let output = self.offwake(&arguments).output().unwrap();
        let summary = stderr(&output);
        assert!(output.status.success(), "{summary}");
        assert_whole(&self.path("out.svg"));
        summary
    }
}

#[track_caller]
pub(crate) fn assert_failed(output: &Output, expected: &[&str]) {
    let error = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(output.stdout, b"", "{error}");
    assert!(error.starts_with("offwake: error: "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in expected {
        assert!(error.contains(part), "no '{part}' in: {error}");
    }
}

#[track_caller]
pub(crate) fn assert_whole(svg: &Path) {
    let text = fs::read_to_string(svg).unwrap();
    assert!(text.trim_end().ends_with("</svg>"), "{} bytes", text.len());
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
