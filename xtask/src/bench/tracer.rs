//! The tracers that are compared.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::programs::{self, Owners};
use crate::child::{self, Group};
use crate::command;

/// The name of offwake in the report.
pub(crate) const OFFWAKE: &str = "offwake";
/// offwake without user stacks.
pub(crate) const NO_WALK: &str = "offwake -K";
/// offwake with user stacks by frame pointers.
pub(crate) const FP: &str = "offwake --unwind fp";
/// offwake with user stacks by call frame information.
pub(crate) const CFI: &str = "offwake --unwind cfi";
/// The name of its peers in the report.
pub(crate) const LIBBPF_TOOLS: &str = "offcputime + wakeuptime";

/// Programs that, together, record what offwake records.
pub(crate) struct Tracer {
    pub(crate) name: &'static str,
    programs: Vec<PathBuf>,
    args: &'static [&'static str],
}

/// A tracer that is running.
pub(crate) struct Running {
    name: &'static str,
    groups: Vec<Group>,
}

impl Tracer {
    /// Sleepers' stacks by one program, wakers' kernel stacks by another; neither knows the other.
    pub(crate) fn libbpf_tools() -> Result<Self> {
        let find = |name| command::find_program(name).with_context(|| format!("no {name} here"));
        let programs = vec![find("offcputime")?, find("wakeuptime")?];
        Ok(Self { name: LIBBPF_TOOLS, programs, args: &[] })
    }

    pub(crate) fn offwake(program: PathBuf) -> Self {
        Self { name: OFFWAKE, programs: vec![program], args: &["-f"] }
    }

    /// offwake in the ways that differ in how user stacks are walked.
    pub(crate) fn walks(program: &Path) -> [Self; 3] {
        let walk = |name, args| Self { name, programs: vec![program.to_owned()], args };
        [
            walk(NO_WALK, &["-f", "-K"]),
            walk(FP, &["-f", "--unwind", "fp"]),
            walk(CFI, &["-f", "--unwind", "cfi"]),
        ]
    }

    /// Starts to trace a process.
    pub(crate) fn start(&self, pid: u32) -> Result<Running> {
        let mut groups = Vec::new();
        for program in &self.programs {
            let mut tracer = Command::new(program);
            tracer.args(self.args).arg("-p").arg(pid.to_string());
            groups.push(Group::start_silent(&mut tracer)?);
        }
        Ok(Running { name: self.name, groups })
    }
}

impl Running {
    /// Waits until each process of the tracer has loaded all its programs, and gives their ids.
    pub(crate) fn wait_for_programs(&mut self) -> Result<Owners> {
        const TIMEOUT: Duration = Duration::from_secs(15);
        // Programs are loaded one after the other: two readings this far apart have to agree.
        const CALM: Duration = Duration::from_millis(300);
        let mut owners = Owners::new();
        for group in &mut self.groups {
            let found = child::wait_for(TIMEOUT, || {
                group.expect_running()?;
                let first = programs::ids_of(group.pid())?;
                if first.is_empty() {
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
