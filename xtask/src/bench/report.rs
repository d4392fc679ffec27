//! Medians of the rounds, as a table, as JSON, and as a verdict.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::load::{DEEP_FRAMES, Switches};
use super::programs::Program;
use super::tracer::{CFI, FP, NO_WALK, Tracer};

/// One round of one tracer.
pub(crate) struct Measurement {
    /// The load before the tracer started.
    pub(crate) alone: Switches,
    /// The load under the tracer.
    pub(crate) traced: Switches,
    /// What the tracer's BPF programs cost meanwhile.
    pub(crate) programs: Vec<Program>,
}

impl Measurement {
    /// Time in BPF per thread switch of the load, in ns.
    fn ns_per_switch(&self) -> f64 {
        let ns: u64 = self.programs.iter().map(|program| program.ns).sum();
        ns as f64 / self.traced.count as f64
    }

    /// How many times slower the load is under the tracer.
    fn slowdown(&self) -> f64 {
        self.alone.rate() / self.traced.rate()
    }

    /// Time in BPF per run of a program, in ns: per sleeper's or waker's stacks.
    fn ns_per_run(&self) -> f64 {
        let ns: u64 = self.programs.iter().map(|program| program.ns).sum();
        let runs: u64 = self.programs.iter().map(|program| program.runs).sum();
        ns as f64 / runs as f64
    }

    /// Of the programs of one name: there may be several.
    fn program(&self, name: &str) -> ProgramCost {
        let of_name = self.programs.iter().filter(|program| program.name == name);
        let (runs, ns) = of_name.fold((0, 0), |sum, one| (sum.0 + one.runs, sum.1 + one.ns));
        ProgramCost {
            ns_per_run: if runs == 0 { 0.0 } else { ns as f64 / runs as f64 },
            runs_per_switch: runs as f64 / self.traced.count as f64,
        }
    }
}

struct ProgramCost {
    ns_per_run: f64,
    runs_per_switch: f64,
}

/// All rounds of all tracers.
pub(crate) struct Report {
    load: String,
    rows: Vec<Row>,
}

struct Row {
    tracer: &'static str,
    rounds: Vec<Measurement>,
}

impl Report {
    pub(crate) fn new(load: &str, tracers: &[Tracer]) -> Self {
        let row = |tracer: &Tracer| Row { tracer: tracer.name, rounds: Vec::new() };
        Self { load: load.into(), rows: tracers.iter().map(row).collect() }
    }

    pub(crate) fn add(&mut self, tracer: &str, measurement: Measurement) {
        let rows = &mut self.rows;
        if let Some(row) = rows.iter_mut().find(|row| row.tracer == tracer) {
            row.rounds.push(measurement);
        }
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("{}; medians of {} rounds\n", self.load, self.rows[0].rounds.len());
        println!(
            "{:<26} {:>12} {:>12} {:>14} {:>14}",
            "tracer", "BPF ns", "load", "switches/s", "switches/s"
        );
        println!(
            "{:<26} {:>12} {:>12} {:>14} {:>14}",
            "", "per switch", "slower by", "untraced", "traced"
        );
        for row in &self.rows {
            println!(
                "{:<26} {:>12.0} {:>11.2}x {:>14.0} {:>14.0}",
                row.tracer,
                row.median(Measurement::ns_per_switch),
                row.median(Measurement::slowdown),
                row.median(|round| round.alone.rate()),
                row.median(|round| round.traced.rate()),
            );
            for name in row.program_names() {
                println!(
                    "  {name:<26} {:>8.0} ns per run, {:.2} runs per switch",
                    row.median(|round| round.program(name).ns_per_run),
                    row.median(|round| round.program(name).runs_per_switch),
                );
            }
        }
    }

    /// Prints what the ways to walk a user stack cost: what they cost more than no walk, per run, since
    /// each run that takes stacks takes one. Half of the runs of `sched_switch` are that of the other
    /// thread's end of a wait.
    pub(crate) fn print_walks(&self) {
        let Some(base) = self.cost(NO_WALK, Measurement::ns_per_run) else { return };
        println!();
        for walk in [FP, CFI] {
            let Some(cost) = self.cost(walk, Measurement::ns_per_run) else { continue };
            println!(
                "{walk:<26} {cost:>8.0} ns per stack, {:.0} ns of it per frame of the user's",
                (cost - base) / f64::from(DEEP_FRAMES)
            );
        }
        if let (Some(fp), Some(cfi)) =
            (self.cost(FP, Measurement::ns_per_run), self.cost(CFI, Measurement::ns_per_run))
        {
            println!("{CFI} : {FP} = {:.2}", cfi / fp);
        }
    }

    /// The same figures.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let programs = row.program_names().into_iter().map(|name| {
                json!({
                    "name": name,
                    "ns_per_run": row.median(|round| round.program(name).ns_per_run),
                    "runs_per_switch": row.median(|round| round.program(name).runs_per_switch),
                })
            });
            json!({
                "tracer": row.tracer,
                "rounds": row.rounds.len(),
                "bpf_ns_per_switch": row.median(Measurement::ns_per_switch),
                "slowdown": row.median(Measurement::slowdown),
                "untraced_switches_per_second": row.median(|round| round.alone.rate()),
                "traced_switches_per_second": row.median(|round| round.traced.rate()),
                "programs": programs.collect::<Vec<_>>(),
            })
        });
        json!({ "load": self.load, "tracers": rows.collect::<Vec<_>>() })
    }

    /// Fails if one tracer costs more BPF time per switch than so many times that of another.
    pub(crate) fn gate(&self, tracer: &str, bar: &str, times: f64) -> Result<()> {
        let cost = |name| self.cost(name, Measurement::ns_per_switch);
        match (cost(tracer), cost(bar)) {
            (Some(ours), Some(theirs)) if ours <= theirs * times => Ok(()),
            (Some(ours), Some(theirs)) => bail!(
                "{tracer} costs {ours:.0} ns per switch, more than {times} times the {theirs:.0} ns of \
                 {bar}"
            ),
            _ => bail!("{tracer} and {bar} were not both measured"),
        }
    }

    fn cost(&self, name: &str, figure: impl Fn(&Measurement) -> f64) -> Option<f64> {
        self.rows.iter().find(|row| row.tracer == name).map(|row| row.median(figure))
    }
}

impl Row {
    fn median(&self, figure: impl Fn(&Measurement) -> f64) -> f64 {
        median(self.rounds.iter().map(figure).collect())
    }

    fn program_names(&self) -> BTreeSet<&str> {
        let programs = self.rounds.iter().flat_map(|round| &round.programs);
        programs.map(|program| program.name.as_str()).collect()
    }
}

/// The middle one; of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(ns: &[u64]) -> Measurement {
        let program = |&ns| Program { name: "sched_switch".into(), runs: 50, ns };
        Measurement {
            alone: Switches { count: 400, seconds: 2.0 },
            traced: Switches { count: 100, seconds: 1.0 },
            programs: ns.iter().map(program).collect(),
        }
    }

    fn report(ours: &[u64], theirs: &[u64]) -> Report {
        let row = |tracer, ns| Row { tracer, rounds: vec![measurement(ns)] };
        Report { load: "any".into(), rows: vec![row("ours", ours), row("theirs", theirs)] }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
    }

    #[test]
    fn costs_add_up_over_programs_of_one_name() {
        let one = measurement(&[30_000, 10_000]);
        assert_eq!(one.ns_per_switch(), 400.0);
        assert_eq!(one.slowdown(), 2.0);
        assert_eq!(one.program("sched_switch").ns_per_run, 400.0);
        assert_eq!(one.program("sched_switch").runs_per_switch, 1.0);
    }

    #[test]
    fn the_gate_is_open_at_the_bar_and_shut_above() {
        assert!(report(&[100], &[60, 40]).gate("ours", "theirs", 1.0).is_ok());
        assert!(report(&[150], &[100]).gate("ours", "theirs", 1.5).is_ok());
        let error = report(&[10_100], &[10_000]).gate("ours", "theirs", 1.0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ours costs 101 ns per switch, more than 1 times the 100 ns of theirs"
        );
    }
}
