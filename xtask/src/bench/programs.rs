//! The BPF programs of a process, and what the kernel counted in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// One BPF program, with the counts of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The process that loaded it, and as much of its own name as the kernel keeps.
    pub(crate) name: String,
    /// How often it ran.
    pub(crate) runs: u64,
    /// For how long, in ns.
    pub(crate) ns: u64,
}

/// Ids of programs, each with the name of the process that loaded it.
pub(crate) type Owners = BTreeMap<u64, String>;

/// The ids of the programs that a process holds, by itself or through links.
pub(crate) fn ids_of(pid: u32) -> Result<BTreeSet<u64>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // Descriptors come and go while this looks.
        if let Ok(info) = fs::read_to_string(entry?.path()) {
            ids.extend(prog_id(&info));
        }
    }
    Ok(ids)
}

fn prog_id(fdinfo: &str) -> Option<u64> {
    let line = fdinfo.lines().find_map(|line| line.strip_prefix("prog_id:"))?;
    line.trim().parse().ok()
}

/// The counts of these programs now.
pub(crate) fn read(owners: &Owners) -> Result<BTreeMap<u64, Program>> {
    let json = command::capture(Command::new("bpftool").args(["--json", "prog", "show"]))?;
    parse(&json, owners)
}

fn parse(json: &str, owners: &Owners) -> Result<BTreeMap<u64, Program>> {
    let json: Value = serde_json::from_str(json).context("bpftool printed no JSON")?;
    let all = json.as_array().context("bpftool printed no list of programs")?;
    let mut programs = BTreeMap::new();
    for program in all {
        let Some(id) = program["id"].as_u64() else { continue };
        let Some(owner) = owners.get(&id) else { continue };
        let name = program["name"].as_str().unwrap_or("unnamed");
        programs.insert(
            id,
            Program {
                name: format!("{owner}: {name}"),
                // bpftool leaves out what is 0.
                runs: program["run_cnt"].as_u64().unwrap_or(0),
                ns: program["run_time_ns"].as_u64().unwrap_or(0),
            },
        );
    }
    Ok(programs)
}

/// What was added from one reading to the next, without programs that did not run.
pub(crate) fn difference(
    before: &BTreeMap<u64, Program>,
    after: &BTreeMap<u64, Program>,
) -> Vec<Program> {
    let pairs = after.iter().filter_map(|(id, after)| Some((before.get(id)?, after)));
    pairs
        .map(|(before, after)| Program {
            name: after.name.clone(),
            runs: after.runs - before.runs,
            ns: after.ns - before.ns,
        })
        .filter(|program| program.runs > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_links_name_a_program() {
        assert_eq!(prog_id("pos:\t0\nprog_type:\t26\nprog_id:\t117\nrun_cnt:\t5\n"), Some(117));
        assert_eq!(prog_id("pos:\t0\nflags:\t02\n"), None);
    }

    #[test]
    fn only_the_programs_asked_for_are_read() {
        let json = r#"[{"id":7,"type":"tracing","name":"other","run_time_ns":9,"run_cnt":9},
            {"id":8,"name":"sched_switch","run_time_ns":500,"run_cnt":5},{"id":9,"name":"idle"}]"#;
        let programs = parse(json, &Owners::from([8, 9].map(|id| (id, "o".into())))).unwrap();
        let program = |name: &str, runs, ns| Program { name: name.into(), runs, ns };
        assert_eq!(
            programs,
            BTreeMap::from([
                (8, program("o: sched_switch", 5, 500)),
                (9, program("o: idle", 0, 0))
            ])
        );
        let later = BTreeMap::from([
            (8, program("o: sched_switch", 7, 900)),
            (9, program("o: idle", 0, 0)),
        ]);
        assert_eq!(difference(&programs, &later), [program("o: sched_switch", 2, 400)]);
    }
}
