//! The tracers that are compared.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cgroup::Cgroup;
use super::empty::Empty;
use super::programs::{self, Owners};
use crate::child::{self, Group};
use crate::command;

/// offwake with user stacks by frame pointers.
pub(crate) const FP: &str = "offwake --unwind fp";
/// offwake with user stacks by call frame information.
pub(crate) const CFI: &str = "offwake --unwind cfi";
/// offwake that also tells what ended each wait, and walks as it does by itself.
pub(crate) const SOURCES: &str = "offwake --wake-source";
/// The name of its peers in the report.
pub(crate) const LIBBPF_TOOLS: &str = "offcputime + wakeuptime";
/// Programs that do nothing.
pub(crate) const EMPTY: &str = "empty programs";
/// offwake without user stacks, which unwinds all others.
pub(crate) const NO_WALK: &str = "offwake -K, unwound";
/// offwake that walks all user stacks by frame pointers.
pub(crate) const FP_WALK: &str = "offwake fp, unwound";
/// offwake that walks all user stacks by call frame information.
pub(crate) const CFI_WALK: &str = "offwake cfi, unwound";

/// Programs that, together, record something. None: empty BPF programs.
pub(crate) struct Tracer {
    pub(crate) name: &'static str,
    programs: Vec<PathBuf>,
    args: Vec<String>,
    /// How many BPF programs each of them has at least: one may take long to verify.
    least: usize,
    /// Its target is the load.
    follows_load: bool,
}

/// A tracer that is running.
pub(crate) struct Running {
    name: &'static str,
    least: usize,
    groups: Vec<Group>,
    empty: Option<Empty>,
}

impl Tracer {
    /// Sleepers' stacks by one program, wakers' kernel stacks by another; neither knows the other.
    pub(crate) fn libbpf_tools() -> Result<Self> {
        let find = |name| command::find_program(name).with_context(|| format!("no {name} here"));
        let programs = vec![find("offcputime")?, find("wakeuptime")?];
        Ok(Self { name: LIBBPF_TOOLS, programs, args: Vec::new(), least: 1, follows_load: true })
    }

    /// Programs that do nothing.
    pub(crate) const fn empty() -> Self {
        Self { name: EMPTY, programs: Vec::new(), args: Vec::new(), least: 2, follows_load: false }
    }

    fn offwake(name: &'static str, program: &Path, args: &[&str], follows_load: bool) -> Self {
        let args = [&["-f"], args].concat().into_iter().map(str::to_owned).collect();
        // Three probes, and the iterator over threads.
        Self { name, programs: vec![program.to_owned()], args, least: 4, follows_load }
    }

    /// offwake as it is used.
    pub(crate) fn recorders(program: &Path) -> [Self; 3] {
        let recorder = |name, args: &[&str]| Self::offwake(name, program, args, true);
        [
            recorder(FP, &["--unwind", "fp"]),
            recorder(CFI, &["--unwind", "cfi"]),
            recorder(SOURCES, &["--wake-source"]),
        ]
    }

    /// offwake in the ways that differ in how user stacks are walked.
    pub(crate) fn walks(program: &Path) -> [Self; 3] {
        let walk = |name, args: &[&str]| {
            Self::offwake(name, program, &[&["--no-remember"], args].concat(), true)
        };
        [
            walk(NO_WALK, &["-K"]),
            walk(FP_WALK, &["--unwind", "fp"]),
            walk(CFI_WALK, &["--unwind", "cfi"]),
        ]
    }

    /// offwake in the ways to choose a target that the load is not. `other`: a process that sleeps; `cgroup`: where
    /// there is any.
    pub(crate) fn others(program: &Path, other: u32, cgroup: Option<&Cgroup>) -> Vec<Self> {
        let other = other.to_string();
        let way = |name, args: &[&str]| Self::offwake(name, program, args, false);
        let mut ways = vec![
            way("another process", &["-p", &other]),
            way("two processes", &["-p", &other, "-p", "1"]),
            way("another thread", &["-t", &other]),
            way("another name", &["--comm", "nobody's name"]),
        ];
        if let Some(path) = cgroup.and_then(|cgroup| cgroup.path().to_str()) {
            ways.push(way("another cgroup", &["--cgroup", path]));
        }
        ways
    }

    /// Starts it beside the load, which is the process `pid`.
    pub(crate) fn start(&self, pid: u32) -> Result<Running> {
        let mut groups = Vec::new();
        for program in &self.programs {
            let mut tracer = Command::new(program);
            tracer.args(&self.args);
            if self.follows_load {
                tracer.arg("-p").arg(pid.to_string());
            }
            groups.push(Group::start_silent(&mut tracer)?);
        }
        let empty = if groups.is_empty() { Some(Empty::start()?) } else { None };
        Ok(Running { name: self.name, least: self.least, groups, empty })
    }
}

impl Running {
    /// Waits until each process of the tracer has loaded all its programs, and gives their ids.
    pub(crate) fn wait_for_programs(&mut self) -> Result<Owners> {
        const TIMEOUT: Duration = Duration::from_secs(15);
        // Programs are loaded one after the other: two readings this far apart have to agree.
        const CALM: Duration = Duration::from_millis(300);
        let mut owners = Owners::new();
        if self.empty.is_some() {
            let ids = programs::ids_of(std::process::id())?;
            owners.extend(ids.into_iter().map(|id| (id, EMPTY.to_owned())));
        }
        for group in &mut self.groups {
            let found = child::wait_for(TIMEOUT, || {
                group.expect_running()?;
                let first = programs::ids_of(group.pid())?;
                if first.len() < self.least {
                    return Ok(None);
                }
                child::pause(CALM)?;
                Ok((programs::ids_of(group.pid())? == first).then_some(first))
            })?;
            let found = found.with_context(|| {
                format!("{} loaded no BPF programs within {TIMEOUT:?}", self.name)
            })?;
            owners.extend(found.into_iter().map(|id| (id, group.name().to_owned())));
        }
        Ok(owners)
    }

    /// Ends it as its user would.
    pub(crate) fn stop(self) -> Result<()> {
        self.groups.into_iter().try_for_each(Group::interrupt)
    }
}
