//! A command that is started for the recording and waits for it.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// A started process that has not called `execve` yet.
pub(super) struct Command {
    /// The process.
    pub(super) pid: u32,
    /// What `execve` is going to be called with, if there is such a file.
    pub(super) file: Option<PathBuf>,
    name: String,
    /// Closed or written to: go.
    go: Option<PipeWriter>,
    /// Holds the error of `execve`; closed by a successful one.
    failed: PipeReader,
}

impl Command {
    /// Forks. The child waits for [`Self::go`], and ends if that never comes.
    pub(super) fn start(words: &[OsString]) -> Result<Self> {
        let first = words.first().context("no command")?;
        let (name, file) = (first.to_string_lossy().into_owned(), find(first));
        let words = words
            .iter()
            .map(|word| CString::new(word.as_bytes()).context("a command cannot hold NUL"))
            .collect::<Result<Vec<_>>>()?;
        let mut arguments: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        arguments.push(std::ptr::null());
        let (mut go_read, go_write) = io::pipe().context("cannot create a pipe")?;
        let (failed_read, mut failed_write) = io::pipe().context("cannot create a pipe")?;
        // SAFETY: the child calls only functions that are safe after fork, on memory that was
        // prepared before, and ends in `execvp` or `_exit`.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error()).context("cannot fork");
        }
        if pid == 0 {
            drop(go_write);
            // SAFETY: as above; dispositions and mask are those that the command expects.
            unsafe {
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
                let mut byte = 0u8;
                if go_read.read(std::slice::from_mut(&mut byte)).is_ok_and(|n| n == 1) {
                    libc::execvp(arguments[0], arguments.as_ptr());
                    let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
                    let _ = failed_write.write_all(&error.to_ne_bytes());
                }
                libc::_exit(127);
            }
        }
        Ok(Self {
            pid: u32::try_from(pid).expect("fork returned a pid"),
            file,
            name,
            go: Some(go_write),
            failed: failed_read,
        })
    }

    /// Lets the command run. Returns once it runs.
    pub(super) fn go(&mut self) -> Result<()> {
        let mut go = self.go.take().context("started already")?;
        // If the child is gone, reading its error tells.
        let _ = go.write_all(&[0]);
        let mut error = [0; 4];
        match self.failed.read_exact(&mut error) {
            // Closed by execve, or by the end of the child.
            Err(_) => Ok(()),
            Ok(()) => {
                let error = io::Error::from_raw_os_error(i32::from_ne_bytes(error));
                bail!("cannot start {}: {error}", self.name)
            }
        }
    }

    /// Whether the command has ended.
    pub(super) fn has_ended(&self) -> bool {
        // SAFETY: the call takes no pointers but null.
        let result =
            unsafe { libc::waitpid(self.pid as libc::pid_t, std::ptr::null_mut(), libc::WNOHANG) };
        result != 0
    }
}

/// The file that `execvp` finds.
fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(name.into());
    }
    let can_run = |file: &PathBuf| {
        file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(can_run)
}
