//! Medians of the rounds, as a table, as JSON, and as a verdict.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::load::{DEEP_FRAMES, Switches};
use super::programs::Program;
use super::tracer::{CFI_WALK, FP_WALK, NO_WALK, Tracer};

/// One round of one tracer.
pub(crate) struct Measurement {
    /// The load before the tracer started, and after it ended.
    pub(crate) alone: Switches,
    /// The load under the tracer.
    pub(crate) traced: Switches,
    /// The same while the kernel measured BPF programs.
    pub(crate) counted: Switches,
    /// What the tracer's BPF programs cost meanwhile.
    pub(crate) programs: Vec<Program>,
}

impl Measurement {
    /// Time in BPF per thread switch of the load, in ns.
    fn ns_per_switch(&self) -> f64 {
        let ns: u64 = self.programs.iter().map(|program| program.ns).sum();
        ns as f64 / self.counted.count as f64
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

    /// Of the programs of one name, whoever owns them.
    fn program(&self, name: &str) -> ProgramCost {
        let of_name = self.programs.iter().filter(|program| program.name.ends_with(name));
        let (runs, ns) = of_name.fold((0, 0), |sum, one| (sum.0 + one.runs, sum.1 + one.ns));
        ProgramCost {
            ns_per_run: if runs == 0 { 0.0 } else { ns as f64 / runs as f64 },
            runs_per_switch: runs as f64 / self.counted.count as f64,
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

/// All rounds of a tracer.
pub(crate) struct Row {
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
        for walk in [FP_WALK, CFI_WALK] {
            let Some(cost) = self.cost(walk, Measurement::ns_per_run) else { continue };
            println!(
                "{walk:<26} {cost:>8.0} ns per stack, {:.0} ns of it per frame of the user's",
                (cost - base) / f64::from(DEEP_FRAMES)
            );
        }
        println!();
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

    /// Those of all tracers.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// A tracer's.
    pub(crate) fn row(&self, tracer: &str) -> Result<&Row> {
        let found = self.rows.iter().find(|row| row.tracer == tracer);
        found.with_context(|| format!("{tracer} was not measured"))
    }

    fn cost(&self, name: &str, figure: impl Fn(&Measurement) -> f64) -> Option<f64> {
        self.row(name).ok().map(|row| row.median(figure))
    }
}

impl Row {
    /// The name of the tracer.
    pub(crate) const fn tracer(&self) -> &'static str {
        self.tracer
    }

    /// Time in BPF per thread switch of the load, in ns.
    pub(crate) fn ns_per_switch(&self) -> f64 {
        self.median(Measurement::ns_per_switch)
    }

    /// How many times slower the load is.
    pub(crate) fn slowdown(&self) -> f64 {
        self.median(Measurement::slowdown)
    }

    /// Time per run of the programs whose names end like this, in ns.
    pub(crate) fn ns_per_run(&self, name: &str) -> f64 {
        self.median(|round| round.program(name).ns_per_run)
    }

    /// The same of all programs.
    pub(crate) fn ns_per_any_run(&self) -> f64 {
        self.median(Measurement::ns_per_run)
    }

    fn median(&self, figure: impl Fn(&Measurement) -> f64) -> f64 {
        median(&self.rounds.iter().map(figure).collect::<Vec<_>>())
    }

    fn program_names(&self) -> BTreeSet<&str> {
        let programs = self.rounds.iter().flat_map(|round| &round.programs);
        programs.map(|program| program.name.as_str()).collect()
    }
}

/// The middle one; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
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
            counted: Switches { count: 100, seconds: 1.0 },
            programs: ns.iter().map(program).collect(),
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), 3.0);
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
    fn a_row_is_found_by_its_tracer() {
        let rows = vec![Row { tracer: "ours", rounds: vec![measurement(&[100])] }];
        let report = Report { load: "any".into(), rows };
        assert_eq!(report.row("ours").unwrap().ns_per_switch(), 1.0);
        assert_eq!(report.row("theirs").err().unwrap().to_string(), "theirs was not measured");
    }
}
