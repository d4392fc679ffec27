//! What to record: checked, described, and watched for its end.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::command::Command;
use super::descriptor::{self, owned};
use super::{Config, Filter};
use crate::snapshot::{process, system};

/// The targets of a running recording.
pub(super) struct Targets {
    /// The filter of the configuration, with the process of the command.
    pub(super) filter: Filter,
    /// One line for each target, for people.
    pub(super) described: Vec<String>,
    /// One for each process of the filter: readable when the process has ended.
    pidfds: Vec<OwnedFd>,
    command: Option<Command>,
}

impl Targets {
    /// Finds the targets, and forks the process of a command.
    pub(super) fn find(config: &Config) -> Result<Self> {
        let mut filter = config.filter.clone();
        let mut described = Vec::new();
        let own = std::process::id();
        if filter.pids.contains(&own) || filter.tids.contains(&own) {
            bail!("{own} is offwake itself, which it does not record: name another process");
        }
        for &pid in &filter.pids {
            described.push(format!("{} (pid {pid})", process::comm(pid)?));
        }
        for &tid in &filter.tids {
            described.push(format!("{} (tid {tid})", process::comm(tid)?));
            if !process::is_alive(tid) {
                bail!("thread {tid} has ended");
            }
        }
        if let Some(directory) = &filter.cgroup {
            check_cgroup(directory)?;
        }
        let mut command = None;
        if let Some(words) = &config.command {
            let started = Command::start(words)?;
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            described.push(format!("{} (pid {})", words.join(" "), started.pid));
            filter.pids.push(started.pid);
            command = Some(started);
        }
        if let Some(directory) = &filter.cgroup {
            described.push(format!("cgroup {}", directory.display()));
        }
        if let Some(comm) = &filter.comm {
            described.push(format!("threads named {comm}"));
        }
        if described.is_empty() {
            described.push("all processes".into());
        }
        // The command has started with the limit that it expects.
        let limit = system::raise_file_limit();
        let pidfds = filter.pids.iter().map(|&pid| pidfd(pid)).collect::<Result<_>>()?;
        descriptor::require(limit)?;
        Ok(Self { filter, described, pidfds, command })
    }

    /// Lets the command run, if there is one.
    pub(super) fn go(&mut self) -> Result<()> {
        self.command.as_mut().map_or(Ok(()), Command::go)
    }

    /// The process of the command.
    pub(super) fn command_pid(&self) -> Option<u32> {
        self.command.as_ref().map(|command| command.pid)
    }

    /// The file that the command is going to run, if there is one.
    pub(super) fn command_file(&self) -> Option<&Path> {
        self.command.as_ref()?.file.as_deref()
    }

    /// Waits until a target process ends, a signal arrives, or `milliseconds` are over.
    pub(super) fn wait(&self, milliseconds: u64) {
        let mut polled: Vec<_> = self
            .pidfds
            .iter()
            .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        let milliseconds = i32::try_from(milliseconds).unwrap_or(i32::MAX);
        // SAFETY: the pointer and the length are those of the vector.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    }

    /// Drops the processes that have ended. Whether nothing is left that could be recorded.
    pub(super) fn have_ended(&mut self) -> bool {
        if self.filter.pids.is_empty() && self.filter.tids.is_empty() {
            return false;
        }
        self.pidfds.retain(|fd| !is_readable(fd));
        if self.command.as_ref().is_some_and(|command| !command.has_ended()) {
            return false;
        }
        let no_process = !self.filter.pids.is_empty() && self.pidfds.is_empty();
        let no_thread = !self.filter.tids.is_empty()
            && !self.filter.tids.iter().any(|&tid| process::is_alive(tid));
        no_process || no_thread
    }
}

/// Makes sure that this is a directory of cgroup v2, whatever kind of probe is going to be told of it.
fn check_cgroup(directory: &Path) -> Result<()> {
    let name = directory.display();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(directory);
    let file = file.with_context(|| format!("cannot open the cgroup {name}"))?;
    if system::is_cgroup2(&file)? {
        return Ok(());
    }
    let mount = system::cgroup2_mount().map_or_else(
        || "none is mounted".into(),
        |mount| format!("they are below {}", mount.display()),
    );
    bail!("{name} is not a cgroup v2 directory: {mount} (v1 is not supported)")
}

fn pidfd(pid: u32) -> Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) });
    let error = match fd {
        // A zombie: its parent has not asked for its exit code.
        Ok(fd) if is_readable(&fd) => bail!("process {pid} has ended"),
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(libc::ESRCH) => bail!("process {pid} has ended"),
        // A thread that does not lead its process (kernel/fork.c, pidfd_open).
        Some(libc::EINVAL | libc::ENOENT) => {
            bail!(
                "{pid} is a thread, not a process: -p takes its process, and recordings take threads, \
                 too: -t {pid}"
            )
        }
        Some(libc::EMFILE) => bail!(
            "too many processes for the limit of open files: raise it with `ulimit -n`, or record \
             with --cgroup, --comm or -a"
        ),
        _ => Err(error).with_context(|| format!("cannot watch process {pid}")),
    }
}

fn is_readable(fd: &OwnedFd) -> bool {
    let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, as the length says.
    unsafe { libc::poll(&raw mut polled, 1, 0) == 1 }
}
