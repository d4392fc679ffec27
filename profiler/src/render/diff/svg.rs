//! A diff as a flame graph, by inferno: widths are those after, or those before; red got longer, blue
//! got shorter.
//!
//! What is not there any more has no width after, and what is new has none before. So it has a graph of
//! its own below, with the widths of the other side (`panels`); it is the only one where there is nothing
//! else.
//!
//! Of repeated runs the tooltips say how a frame changed, with all that is above it, and how significant
//! that is: `p`, adjusted for the number of frames, with `*` where it is at most 5 %.

use std::io::{self, Write};

use inferno::flamegraph::color::{BackgroundColor, Color};
use inferno::flamegraph::{Options, TextTruncateDirection, from_lines};

use super::marks::Marks;
use super::{Labels, in_unit, panels, unit};
use crate::diff::{Base, Diff, Row, Scale, stacks};
use crate::profile::{Metric, Profile};
use crate::render::svg::{SUBTITLE_CHARS, TITLE_CHARS, sampling, write_empty};
use crate::render::{colors, escape, human};

pub(super) fn write(
    before: &Profile,
    after: &Profile,
    diff: &Diff,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (names, rows) = stacks(before, after, diff.options.metric);
    let labels = Labels::new(&names);
    let scale = Widths::new(diff);
    let is_before = diff.options.base == Base::Before;
    // Of the side that is drawn, and of the other.
    let sides = |row: &Row| {
        let (before, after) = (scale.before(row), scale.after(row));
        if is_before { (before, after) } else { (after, before) }
    };
    let mut marks = Marks::default();
    let mut lines = |wanted: fn((u64, u64)) -> bool, line: fn(String, (u64, u64)) -> String| {
        let wanted = rows.iter().filter(|(_, row)| wanted(sides(row)));
        let describe = |row: &Row| describe(diff, row);
        let mut name = |name| match &diff.frames {
            Some(frames) => labels.marked(name, frames, &mut marks, &describe),
            None => labels.name(name),
        };
        wanted.map(|(id, row)| line(name(*id), sides(row))).collect::<Vec<String>>()
    };
    // Inferno draws the last value.
    let there =
        lines(|(drawn, _)| drawn > 0, |name, (drawn, other)| format!("{name} {other} {drawn}"));
    let gone = lines(
        |(drawn, other)| drawn == 0 && other > 0,
        |name, (_, other)| format!("{name} {other}"),
    );

    let of_other = match diff.options.base {
        Base::After => "Only before: what is not there any more",
        Base::Before => "Only after: what is new",
    };
    let mut graph = options(diff);
    graph.title = title(before, after, diff);
    let subtitle = subtitle(before, after, diff);
    graph.notes =
        format!("before: {}; after: {}", before.losses.describe(true), after.losses.describe(true));
    let svg = match (there.is_empty(), gone.is_empty()) {
        (true, true) => return write_empty(&graph.title, &subtitle, out),
        (true, false) => {
            graph.subtitle =
                Some(human::shorten(&format!("{of_other} · {subtitle}"), SUBTITLE_CHARS));
            draw(&mut graph, &gone, &marks)?
        }
        (false, true) => {
            graph.subtitle = Some(subtitle);
            draw(&mut graph, &there, &marks)?
        }
        (false, false) => {
            graph.subtitle = Some(subtitle);
            let there = draw(&mut graph, &there, &marks)?;
            let mut graph = options(diff);
            graph.title = of_other.into();
            graph.no_javascript = true;
            panels::below(&there, &draw(&mut graph, &gone, &marks)?)?
        }
    };
    out.write_all(svg.as_bytes())
}

fn change(diff: &Diff, row: &Row) -> String {
    match diff.percent(row) {
        new if new.is_infinite() => "new".into(),
        percent => format!("{percent:+.1}%"),
    }
}

/// By how much a frame changed, with all above it, and how significant that is.
fn describe(diff: &Diff, row: &Row) -> String {
    let change = change(diff, row);
    match row.significance {
        Some(significance) => format!("{change}, p {}", significance.describe()),
        None => change,
    }
}

fn options(diff: &Diff) -> Options<'static> {
    let mut graph = Options::default();
    graph.name_type = "Frame:".into();
    graph.count_name = unit(diff).into();
    graph.negate_differentials = diff.options.base == Base::Before;
    graph.factor = Widths::new(diff).unit();
    graph.text_truncate_direction = TextTruncateDirection::Right;
    graph.bgcolors = Some(BackgroundColor::Flat(colors::BACKGROUND));
    graph
}

fn draw(graph: &mut Options<'_>, lines: &[String], marks: &Marks) -> io::Result<String> {
    // One value a line is a graph of one profile.
    graph.colors = "blue".parse().map_err(io::Error::other)?;
    graph.uicolor = Color { r: 0, g: 0, b: 0 };
    let mut svg = Vec::new();
    from_lines(graph, lines.iter().map(String::as_str), &mut svg)?;
    let svg = String::from_utf8(svg).map_err(io::Error::other)?;
    Ok(marks.resolve(&svg))
}

fn title(before: &Profile, after: &Profile, diff: &Diff) -> String {
    let facts = format!(": {}, {}", human::metric(diff.options.metric), unit(diff));
    let targets = |profile: &Profile| escape::name(&profile.meta.targets.join(", "));
    let (mut targets, after) = (targets(before), targets(after));
    if targets != after {
        targets = format!("{targets} → {after}");
    }
    human::shorten(&targets, TITLE_CHARS - facts.chars().count()) + &facts
}

fn subtitle(before: &Profile, after: &Profile, diff: &Diff) -> String {
    let (divisor_before, divisor_after) = diff.divisors();
    let value = |value: u64, divisor: u64| in_unit(diff, value as f64, divisor as f64);
    let text = format!(
        "{:.3} → {:.3} {} ({}), in {} and {} · {}{} · {}{}",
        value(diff.total.before.value, divisor_before),
        value(diff.total.after.value, divisor_after),
        unit(diff),
        change(diff, &diff.total),
        human::length(before.meta.duration),
        human::length(after.meta.duration),
        sampling(before),
        before.losses.describe(false),
        sampling(after),
        after.losses.describe(false),
    );
    human::shorten(&text, SUBTITLE_CHARS)
}

/// Values as whole numbers, which inferno takes.
struct Widths {
    factor: u64,
    divisors: (u64, u64),
    unit: f64,
}

impl Widths {
    fn new(diff: &Diff) -> Self {
        let is_count = diff.options.metric == Metric::Count;
        let (factor, unit) = match (&diff.options.scale, is_count) {
            // ns of waiting in each second.
            (Scale::Rate, false) => (1_000_000_000, 1e-6),
            // Millionths of a wait in each second.
            (Scale::Rate, true) => (1_000_000_000_000_000, 1e-6),
            // ps for each request.
            (Scale::Per(..), false) => (1_000, 1e-9),
            (Scale::Per(..), true) => (1_000_000, 1e-6),
            (Scale::Absolute, false) => (1, 1e-6),
            // Thousandths: the sum of repeated runs is divided by their number.
            (Scale::Absolute, true) => (1_000, 1e-3),
        };
        Self { factor, divisors: diff.divisors(), unit }
    }

    /// What one is in the unit of the diff.
    const fn unit(&self) -> f64 {
        self.unit
    }

    fn before(&self, row: &Row) -> u64 {
        self.width(row.before.value, self.divisors.0)
    }

    fn after(&self, row: &Row) -> u64 {
        self.width(row.after.value, self.divisors.1)
    }

    /// Never 0 where there is something.
    fn width(&self, value: u64, divisor: u64) -> u64 {
        let width = u128::from(value) * u128::from(self.factor) / u128::from(divisor);
        // What a floating-point number has exactly.
        u64::try_from(width).unwrap_or(u64::MAX).clamp(u64::from(value > 0), 1 << 53)
    }
}
