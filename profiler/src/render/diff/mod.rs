//! Two profiles compared ([`crate::diff`]), as text, JSON, or a flame graph.

mod json;
mod marks;
mod panels;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashMap;
use std::io::{self, Write};

use super::{escape, html};
use crate::diff::{Diff, Frames, NameId, Names, Part, Row, Scale};
use crate::profile::{Metric, Profile};
use marks::Marks;

/// A format of a diff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffFormat {
    /// A differential flame graph, with what is only before in a second one.
    Svg,
    /// A page with the flame graph and the table of waits, to search and to filter.
    Html,
    /// A table, for reading.
    Text,
    /// Everything that is known, for programs.
    Json,
}

/// Writes what differs between two profiles: of repeated runs, all of a side as one.
///
/// # Errors
/// Those of `out` only.
pub fn write_diff(
    format: DiffFormat,
    before: &Profile,
    after: &Profile,
    diff: &Diff,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        DiffFormat::Svg => svg::write(before, after, diff, out),
        DiffFormat::Html => html::write_diff(before, after, diff, out),
        DiffFormat::Text => text::write(before, after, diff, out),
        DiffFormat::Json => json::write(before, after, diff, out),
    }
}

/// What the values of a diff are counted in.
fn unit(diff: &Diff) -> &'static str {
    let is_count = diff.options.metric == Metric::Count;
    match (&diff.options.scale, is_count) {
        (Scale::Rate, false) => "ms/s",
        (Scale::Rate, true) => "waits/s",
        (Scale::Per(..), false) => "ms/request",
        (Scale::Per(..), true) => "waits/request",
        (Scale::Absolute, false) => "ms",
        (Scale::Absolute, true) => "waits",
    }
}

/// A value in that unit. `value` and `divisor` are whole numbers, as [`Diff`] has them.
fn in_unit(diff: &Diff, value: f64, divisor: f64) -> f64 {
    let is_count = diff.options.metric == Metric::Count;
    let factor = match (&diff.options.scale, is_count) {
        // ns per ns.
        (Scale::Rate, false) => 1e3,
        // Waits per ns.
        (Scale::Rate, true) => 1e9,
        (_, false) => 1e-6,
        (_, true) => 1.0,
    };
    value / divisor * factor
}

/// Names of rows, as in folded stacks. Each part is escaped once, and kept only where that changes it.
struct Labels<'a> {
    names: &'a Names,
    escaped: HashMap<u32, String>,
}

impl<'a> Labels<'a> {
    fn new(names: &'a Names) -> Self {
        let escaped = names.parts().iter().zip(0..).filter_map(|(part, number)| {
            let escaped = match part {
                Part::Frame(name) => escape::frame(name),
                Part::Thread(name) => escape::thread(name),
                Part::Mark(name) => escape::name(name),
            };
            (escaped != part.text()).then_some((number, escaped))
        });
        Self { names, escaped: escaped.collect() }
    }

    fn push(&self, name: NameId, text: &mut String) {
        for (index, number) in self.names.numbers(name).iter().enumerate() {
            if index > 0 {
                text.push(';');
            }
            text.push_str(self.part(*number));
        }
    }

    fn part(&self, number: u32) -> &str {
        match self.escaped.get(&number) {
            Some(escaped) => escaped,
            None => self.names.parts()[number as usize].text(),
        }
    }

    /// The name, with a mark of what `describe` says of each frame.
    fn marked(
        &self,
        name: NameId,
        frames: &Frames,
        marks: &mut Marks,
        describe: &dyn Fn(&Row) -> String,
    ) -> String {
        let numbers = self.names.numbers(name);
        let parts = numbers.iter().map(|number| &self.names.parts()[*number as usize]);
        let mut text = String::new();
        for (number, row) in numbers.iter().zip(frames.along(parts)) {
            if !text.is_empty() {
                text.push(';');
            }
            text.push_str(self.part(*number));
            if let Some(row) = row {
                marks.push(&mut text, describe(row));
            }
        }
        text
    }

    fn name(&self, name: NameId) -> String {
        let mut text = String::new();
        self.push(name, &mut text);
        text
    }
}
