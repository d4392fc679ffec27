//! The command line as clap sees it. Help, man page and completions are made from this.

pub(super) mod diff;
pub(super) mod epoll;
pub(super) mod output;
pub(super) mod report;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, ValueEnum, ValueHint};
use offwake::record::{ProbeChoice, UnwindChoice};
use offwake_shared::{SourceDetail, WaitState};

use super::examples;
use diff::DiffArgs;
use epoll::EpollArgs;
use output::{GraphArgs, OutputArgs};
use report::ReportArgs;

/// The kernel's `TASK_COMM_LEN` without the final 0.
const COMM_BYTES: usize = 15;
/// Times travel through the kernel as 64-bit nanoseconds.
const MAX_MICROS: u64 = u64::MAX / 1000;
/// More than thirty years.
const MAX_SECONDS: f64 = 1e9;

const TARGETS: &str = "Targets";
const RECORDING: &str = "Recording";
const HELP: &str = "Help";

/// Show what threads wait for, and who ends each wait
///
/// For every interval that a thread of the target spends off-CPU, offwake records the stack of
/// the thread that sleeps and the stack of the thread or interrupt that wakes it, and shows both
/// as one merged stack: as a flame graph, as a page to explore, as folded stacks, as text, as JSON, or
/// as a saved profile for later. The intervals
/// are summed in the kernel, so a busy target costs little and a recording may last for hours.
///
/// Recording goes on for the time that -d gives, until Ctrl-C or SIGTERM, or until the last
/// target has ended, whichever comes first. All three give complete results. Without -o they go
/// to standard output: as a flame graph, or as text when that is a terminal.
///
/// Recording needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_SYSLOG. `offwake check` tells what
/// this machine allows.
#[derive(Debug, Parser)]
#[command(
    name = "offwake",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    disable_version_flag = true,
    override_usage = "offwake [OPTIONS] -p PID,... | -t TID,... | --cgroup DIR | --comm NAME | -a\n       \
                      offwake [OPTIONS] -- COMMAND [ARG]...\n       \
                      offwake report [OPTIONS] FILE...\n       \
                      offwake diff [OPTIONS] BEFORE AFTER\n       \
                      offwake epoll [OPTIONS] -p PID,...\n       \
                      offwake check [-p PID,...]\n       \
                      offwake generate man|bash|zsh|fish",
    after_help = "'--help' says more about each option.",
    after_long_help = examples::help(),
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) subcommand: Option<Subcommand>,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
}

/// What else offwake does, beside recording.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Show saved profiles: in any format, several as one, or a part of them
    ///
    /// Reads profiles that offwake saved (.pb.gz), and folded stacks: its own, those of BCC's
    /// offwaketime, and of FlameGraph's stackcollapse scripts. Several become one profile, which lasts
    /// as long as all of them together. Frames that had no name when they were recorded get one when
    /// the debug file of their program is found now. Without -o the result goes to standard output: as a
    /// flame graph, or as text when that is a terminal.
    ///
    /// The conditions choose waits: all threads, states and stacks that are one line of the text
    /// output. A wait is kept when it meets all of them. The losses stay those of the whole recording.
    Report(Box<ReportArgs>),
    /// Compare two saved profiles: what waits longer now, and what shorter
    ///
    /// Prints a table, the largest difference first; with -o x.svg it draws a flame graph in which red
    /// got longer and blue got shorter, and below it another of what is not there any more. With -o x.html it makes a page to
    /// explore. Values are rates, ms of waiting per second of
    /// recording: recordings may differ in length. What it reads is what offwake report reads; folded
    /// stacks do not tell their length, and need --absolute or --per. Functions are the same whatever
    /// the compiler added to their names, and functions without names whatever their addresses.
    ///
    /// With repeated runs, --before A1 A2 A3 --after B1 B2 B3, changes that are more than noise are
    /// marked. Without them nothing tells.
    Diff(Box<DiffArgs>),
    /// Watch threads that wait in epoll: what woke them, and what came of it
    ///
    /// Prints a line for each event, in the order of time: which descriptor became ready and woke which
    /// thread, who did that, when the thread ran and epoll_wait returned, what it returned, what was
    /// accepted and closed. At the end there is a table: for each listener, and for each kind of socket,
    /// how many events and wake-ups there were, how many wake-ups were for nothing, and how long it took
    /// from the wake-up to the return. A listener that wakes several threads for a connection is named, and
    /// why it does.
    ///
    /// Needs the privileges of a recording, and the kernel's type information (BTF).
    Epoll(Box<EpollArgs>),
    /// Tell what this kernel and these privileges allow, and what a recording will use
    ///
    /// Has the kernel verify the programs of each kind of probe, and starts none. Prints one line for
    /// each capability: `ok`, `degraded` (a recording works without it, as the line says), or
    /// `missing` (nothing can be recorded). The exit code is 1 when something is missing.
    Check {
        /// Tell what a recording of these processes needs, too: unwind tables and memory
        #[arg(
            short, long, value_name = "PID,...", value_delimiter = ',',
            value_parser = parse_id, allow_negative_numbers = true
        )]
        pid: Vec<u32>,
    },
    /// Print the man page or a shell's completion script
    ///
    /// Both are made from the definition that --help shows, so they fit this very version. Write them
    /// to /usr/local/share/man/man1/offwake.1 and to where the shell looks for completions.
    Generate {
        /// What to print
        #[arg(value_name = "WHAT")]
        what: Generated,
    },
}

/// What `offwake generate` prints.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Generated {
    /// The man page offwake(1), in roff
    Man,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
}

/// What to record, and where to put it.
#[derive(Args, Clone, Debug)]
pub(crate) struct RecordArgs {
    /// Record the threads of these processes
    ///
    /// Every thread counts, also those that a process creates later. The recording ends when the
    /// last of the processes has ended. Pids are those of the pid namespace that offwake runs in.
    #[arg(
        short, long, value_name = "PID,...", value_delimiter = ',',
        value_parser = parse_id, allow_negative_numbers = true, help_heading = TARGETS
    )]
    pub(crate) pid: Vec<u32>,

    /// Record these threads
    ///
    /// As `ps -L` and `top -H` show them. The recording ends when the last of them has ended.
    #[arg(
        short, long, value_name = "TID,...", value_delimiter = ',',
        value_parser = parse_id, allow_negative_numbers = true, help_heading = TARGETS
    )]
    pub(crate) tid: Vec<u32>,

    /// Record the threads in this cgroup directory and below it
    ///
    /// A directory of the cgroup v2 hierarchy, such as that of a pod or of a systemd unit:
    /// /sys/fs/cgroup/system.slice/nginx.service. Threads that join it later are recorded, too.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = TARGETS)]
    pub(crate) cgroup: Option<PathBuf>,

    /// Record the threads with this name
    ///
    /// The whole name as the kernel keeps it, at most 15 bytes, such as `wrk:worker_0`. A thread
    /// that changes its name is recorded while the name matches.
    #[arg(long, value_name = "NAME", value_parser = parse_comm, help_heading = TARGETS)]
    pub(crate) comm: Option<String>,

    /// Record every thread of the machine, except offwake's own
    ///
    /// On a large machine this is the most that offwake can be asked to do: narrow it with
    /// --min-block-time or --state where it is too much.
    #[arg(short, long, conflicts_with_all = ["pid", "tid", "cgroup", "comm"], help_heading = TARGETS)]
    pub(crate) all: bool,

    /// Take the children of -p or of COMMAND along
    ///
    /// Processes that a recorded process forks while the recording runs are recorded, too, and
    /// theirs in turn. Without it a shell or a supervisor shows up alone. The recording ends with the
    /// processes of -p or with COMMAND, whether or not their children live on.
    #[arg(long, help_heading = TARGETS)]
    pub(crate) follow: bool,

    /// Start this command, and record it from its first instruction until it ends
    ///
    /// Everything after -- belongs to the command. It runs as the user that runs offwake.
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandName, conflicts_with_all = ["pid", "tid", "all"], help_heading = TARGETS)]
    pub(crate) command: Vec<OsString>,

    /// Record for this many seconds
    ///
    /// Fractions are allowed. Without it the recording goes on until Ctrl-C, SIGTERM, or the end
    /// of the last target.
    #[arg(
        short, long, value_name = "SECS",
        value_parser = parse_duration, allow_negative_numbers = true, help_heading = RECORDING
    )]
    pub(crate) duration: Option<Duration>,

    /// Take at most this share of the machine's CPU time, in percent: sample the waits
    ///
    /// For production: 1 is a good choice. As long as the recording costs less, each wait is recorded. Beyond,
    /// those in places where a thread waits often are sampled: each that is recorded counts for several, so that every
    /// sum is unbiased, and every output tells how many were recorded, and how exact the sums are. The
    /// number of waits of each thread, and their time, stay exact. The ceiling is for the time in BPF
    /// programs, as the kernel measures it. About 0.5 µs a wait is needed for the exact sums
    /// alone: where even this is more than the ceiling, a warning says so.
    #[arg(
        long, value_name = "PERCENT",
        value_parser = parse_percent, allow_negative_numbers = true, help_heading = RECORDING
    )]
    pub(crate) overhead: Option<u32>,

    /// Leave out intervals that are shorter than this many microseconds
    ///
    /// Counted is the whole interval off-CPU, blocked and run-queue time together. What is left out is
    /// missing from every sum, so the times no longer add up to the length of the recording.
    #[arg(
        short, long, value_name = "US", default_value_t = 0, hide_default_value = true,
        value_parser = parse_micros, allow_negative_numbers = true,
        help_heading = RECORDING
    )]
    pub(crate) min_block_time: u64,

    /// Leave out intervals that are longer than this many microseconds
    ///
    /// Hides threads that idle for long between pieces of work. Counted as for --min-block-time.
    #[arg(
        short = 'M', long, value_name = "US",
        value_parser = parse_some_micros, allow_negative_numbers = true,
        help_heading = RECORDING
    )]
    pub(crate) max_block_time: Option<u64>,

    /// Record only intervals in these states
    ///
    /// The state in which the thread was switched out. `interruptible` is most of the waiting for
    /// locks, sockets, pipes and timers; `uninterruptible` and `killable` are mostly disks and page
    /// faults; `preempted` had no wish to wait at all. Without it every state is recorded.
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', value_parser = wait_state_parser(), help_heading = RECORDING)]
    pub(crate) state: Vec<WaitState>,

    /// Take user stacks only
    ///
    /// The kernel's part of a wait, such as the system call, is missing then, and wakers in
    /// interrupts have no stack at all. Costs less.
    #[arg(short = 'U', long, conflicts_with = "kernel_stacks_only", help_heading = RECORDING)]
    pub(crate) user_stacks_only: bool,

    /// Take kernel stacks only
    ///
    /// Shows by which way into the kernel threads wait and are woken, and not which code of the
    /// program did it. Costs less, and needs no symbols of the program.
    #[arg(short = 'K', long, help_heading = RECORDING)]
    pub(crate) kernel_stacks_only: bool,

    /// Unwind every stack anew
    ///
    /// By default a stack is not unwound when all that its unwinding depends on is as it was when the
    /// same stack was unwound before, which costs a fraction. A share of such stacks is unwound all the
    /// same, and what differs is counted (remembered_stack_wrong).
    #[arg(long, help_heading = RECORDING)]
    pub(crate) no_remember: bool,

    /// How to find the callers in user stacks
    ///
    /// Call frame information (.eh_frame) gives complete stacks also of code that is compiled without
    /// frame pointers, such as the C library of most distributions. It is read from the programs and
    /// libraries of the targets before the recording begins, and from those of wakers as they are
    /// seen; it needs Linux 5.17. Where reading user memory from BPF can freeze the kernel (5.19 to 6.3, but for
    /// 6.1.36 and 6.3.10), auto takes frame pointers.
    #[arg(long, value_name = "HOW", value_enum, default_value_t, help_heading = RECORDING)]
    pub(crate) unwind: Unwind,

    /// How to stand where the kernel switches and wakes threads
    #[arg(long, value_name = "KIND", value_enum, default_value_t, help_heading = RECORDING)]
    pub(crate) probe: Probe,

    /// Show what each wait was ended by: the descriptor, the socket, a timeout, a signal
    ///
    /// A frame right after -- names it, such as `[tcp :15006 LISTEN]` or `[eventfd]`. It is there where the kernel lets
    /// it be known for certain, for epoll, poll, select, blocking calls on descriptors, futexes, timeouts and
    /// signals; never guessed. How finely sockets are told apart can be chosen. Needs BTF.
    #[arg(
        long, value_name = "DETAIL", value_enum, num_args = 0..=1, require_equals = false,
        default_missing_value = "port", help_heading = RECORDING
    )]
    pub(crate) wake_source: Option<WakeSource>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    #[command(flatten)]
    pub(crate) graph: GraphArgs,

    /// Print help; -h is short, --help is complete
    #[arg(short, long, action = ArgAction::Help, global = true, help_heading = HELP)]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = HELP)]
    version: Option<bool>,
}

/// A [`ProbeChoice`] and its help.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Probe {
    /// The first of these that works here
    #[default]
    Auto,
    /// BTF-enabled tracepoints: the cheapest; the kernel needs BTF
    Btf,
    /// At functions of the scheduler: cheap with -m, since sleepers that do not count cost no stack
    Kprobe,
    /// Classic tracepoints: they do without BTF
    Tracepoint,
}

impl From<Probe> for ProbeChoice {
    fn from(probe: Probe) -> Self {
        match probe {
            Probe::Auto => Self::Auto,
            Probe::Btf => Self::Btf,
            Probe::Kprobe => Self::Kprobe,
            Probe::Tracepoint => Self::Tracepoint,
        }
    }
}

/// A [`SourceDetail`] and its help.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum WakeSource {
    /// Only what it is: `[tcp]`, `[pipe]`
    Kind,
    /// The port of the service: the local one of who listened, the remote one of who connected. The default
    Port,
    /// Both addresses of a connection
    Socket,
    /// The descriptor, too
    Fd,
}

impl From<WakeSource> for SourceDetail {
    fn from(detail: WakeSource) -> Self {
        match detail {
            WakeSource::Kind => Self::Kind,
            WakeSource::Port => Self::Port,
            WakeSource::Socket => Self::Socket,
            WakeSource::Fd => Self::Fd,
        }
    }
}

/// An [`UnwindChoice`] and its help.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Unwind {
    /// cfi where this kernel can, else fp
    #[default]
    Auto,
    /// Call frame information, and frame pointers in code that has none
    Cfi,
    /// Frame pointers only: costs less, and loses the callers of code compiled without them
    Fp,
}

impl From<Unwind> for UnwindChoice {
    fn from(unwind: Unwind) -> Self {
        match unwind {
            Unwind::Auto => Self::Auto,
            Unwind::Cfi => Self::Cfi,
            Unwind::Fp => Self::Fp,
        }
    }
}

fn parse_id(text: &str) -> Result<u32, String> {
    match text.parse::<i32>() {
        Ok(id) if id > 0 => Ok(id.unsigned_abs()),
        _ => Err("ids are whole numbers from 1, separated by commas".into()),
    }
}

fn parse_comm(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("a thread name cannot be empty".into()),
        1..=COMM_BYTES => Ok(text.into()),
        len => Err(format!(
            "the kernel keeps {COMM_BYTES} bytes of a thread's name, and this one has {len}"
        )),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    // Not a range check: NaN must fail, too.
    if !(seconds > 0.0 && seconds <= MAX_SECONDS) {
        return Err(format!("must be more than 0 and at most {MAX_SECONDS} seconds"));
    }
    match Duration::from_secs_f64(seconds) {
        Duration::ZERO => Err("must be at least a nanosecond".into()),
        duration => Ok(duration),
    }
}

fn parse_micros(text: &str) -> Result<u64, String> {
    micros(text, 0)
}

fn parse_some_micros(text: &str) -> Result<u64, String> {
    micros(text, 1)
}

fn micros(text: &str, least: u64) -> Result<u64, String> {
    let micros = text.parse().ok().filter(|micros| (least..=MAX_MICROS).contains(micros));
    micros.ok_or_else(|| format!("a whole number of microseconds, from {least} to {MAX_MICROS}"))
}

/// A share in percent, in millionths.
fn parse_percent(text: &str) -> Result<u32, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number")?;
    // Not a range check: NaN must fail, too.
    if !(0.01..=100.0).contains(&percent) {
        return Err("must be from 0.01 to 100 percent".into());
    }
    Ok((percent * 10_000.0).round() as u32)
}

fn wait_state_parser() -> impl TypedValueParser<Value = WaitState> {
    PossibleValuesParser::new(WaitState::ALL.map(WaitState::name)).try_map(|name| {
        WaitState::ALL.into_iter().find(|state| state.name() == name).ok_or("not a state")
    })
}
