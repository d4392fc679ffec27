//! Programs that run beside this one, and end with it.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on, Ctrl-C and SIGTERM do not end this process: [`wait_for`] fails instead, so that
/// everything that was started or changed is ended or restored on the way out.
pub(crate) fn unwind_on_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Sleeps.
///
/// # Errors
/// When a signal asks for the end.
pub(crate) fn pause(duration: Duration) -> Result<()> {
    wait_for(duration, || Ok(None::<()>)).map(|_| ())
}

/// Asks `poll` every 20 ms until it gives something. `None`: not within `timeout`.
///
/// # Errors
/// When `poll` fails, or a signal asks for the end.
pub(crate) fn wait_for<T>(
    timeout: Duration,
    mut poll: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let end = Instant::now() + timeout;
    loop {
        if INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            bail!("interrupted");
        }
        if let Some(value) = poll()? {
            return Ok(Some(value));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        sleep(left.min(Duration::from_millis(20)));
    }
}

/// A child process with its children, in a process group of its own; killed when dropped.
pub(crate) struct Group {
    name: String,
    child: Child,
}

impl Group {
    /// Starts the program. Ctrl-C on the terminal does not reach it.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let program = Path::new(command.get_program());
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let child =
            command.process_group(0).spawn().with_context(|| format!("cannot start `{name}`"))?;
        Ok(Self { name, child })
    }

    /// Starts it without any input or output.
    pub(crate) fn start_silent(command: &mut Command) -> Result<Self> {
        Self::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// The process, to talk to it.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The program's file name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the process has ended already.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("`{}` ended too early ({status})", self.name),
            None => Ok(()),
        }
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        wait_for(timeout, || Ok(self.child.try_wait()?))?
            .with_context(|| format!("`{}` did not end within {timeout:?}", self.name))
    }

    /// Ends it as Ctrl-C would, and waits.
    pub(crate) fn interrupt(mut self) -> Result<()> {
        self.signal(libc::SIGINT);
        self.wait(Duration::from_secs(10)).map(|_| ())
    }

    /// Sends a signal to it and its children.
    pub(crate) fn signal(&self, signal: i32) {
        // A pid of this system fits: pid_max is 2^22.
        let group = self.child.id().cast_signed();
        // SAFETY: kill takes no pointers. The leader was not reaped before `wait` succeeded, and a
        // group that is gone is an error that does not matter.
        unsafe { libc::kill(-group, signal) };
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        // It was killed or had ended: this takes no time, and there is nobody to tell an error.
        let _ = self.child.wait();
    }
}
