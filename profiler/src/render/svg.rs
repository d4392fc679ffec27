//! The off-wake flame graph, by inferno: sleepers grow from the bottom, their wakers stand upside
//! down on top of them.
//!
//! Frames narrower than 0.01 % of the graph are not drawn, and inferno does not get to see what is above
//! the first of them (`drawn`). Widths are exact (ns), texts are in µs.
//!
//! # Colours
//! inferno chooses a colour by a frame's name, but the same function can be in a sleeper and in a
//! waker. So each frame's name carries its [`Role`] as one control character behind it, which
//! names cannot contain (they are escaped); the palette is keyed by both, and [`Unmark`] takes the
//! characters out of what inferno writes. Titles and search see clean names.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};

use inferno::flamegraph::color::{BackgroundColor, PaletteMap};
use inferno::flamegraph::{Options, TextTruncateDirection, from_lines};

use super::drawn::drawn;
use super::stacks::{Identity, MergedStacks, Role};
use super::{RenderOptions, colors, escape, human};
use crate::profile::{Metric, Profile, Wait};

/// As many characters as fit beside `Reset Zoom` and `Search` at inferno's 1200 pixels.
pub(super) const TITLE_CHARS: usize = 90;

/// As many characters as fit at inferno's 1200 pixels.
pub(super) const SUBTITLE_CHARS: usize = 150;

/// Every role that has a mark, in the order of the marks. None of the marks is a line break.
const MARKED: [Role; 9] = [
    Role::SleeperThread,
    Role::SleeperUser,
    Role::SleeperKernel,
    Role::WakerKernel,
    Role::WakerUser,
    Role::WakerThread,
    Role::Interrupt,
    Role::Preempted,
    Role::NoWaker,
];
const FIRST_MARK: u8 = 0x10;
const LAST_MARK: u8 = FIRST_MARK + MARKED.len() as u8 - 1;

pub(super) fn write(
    profile: &Profile,
    options: &RenderOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let title = title(profile, options);
    let subtitle = subtitle(profile);
    let merged = MergedStacks::new(profile, options, Identity::NameAndRole);
    if merged.stacks().is_empty() {
        return write_empty(&title, &subtitle, out);
    }

    let mut palette = PaletteMap::default();
    // The frame of everything, at the root; inferno would choose its colour by chance.
    palette.insert("", colors::ROOT);
    let mut known = HashSet::new();
    let lines = drawn(&merged, |line, frame| {
        let name = merged.name(frame);
        let start = line.len();
        push_marked(line, frame.role, name);
        if known.insert(frame)
            && let Some(color) = colors::color(frame.role, name)
        {
            palette.insert(&line[start..], color);
        }
    });
    drop(known);

    let mut graph = Options::default();
    graph.title = title;
    graph.subtitle = Some(subtitle);
    graph.notes = profile
        .describe_sampling()
        .into_iter()
        .chain([profile.losses.describe(true)])
        .collect::<Vec<_>>()
        .join("; ");
    graph.name_type = "Frame:".into();
    graph.count_name = human::unit(options.metric).into();
    graph.factor = match options.metric {
        Metric::Count => 1.0,
        Metric::Off | Metric::Blocked | Metric::Runqueue => 0.001,
    };
    graph.text_truncate_direction = TextTruncateDirection::Right;
    graph.bgcolors = Some(BackgroundColor::Flat(colors::BACKGROUND));
    graph.palette_map = Some(&mut palette);
    let mut out = BufWriter::new(Unmark(out));
    from_lines(&mut graph, lines.iter().map(String::as_str), &mut out)?;
    out.flush()
}

fn push_marked(stack: &mut String, role: Role, name: &str) {
    stack.push_str(name);
    if let Some(index) = MARKED.iter().position(|marked| *marked == role) {
        stack.push(char::from(FIRST_MARK + index as u8));
    }
}

/// Takes out the marks. They are ASCII, so they are no part of another character.
struct Unmark<'a>(&'a mut dyn Write);

impl Write for Unmark<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for clean in bytes.split(|byte| (FIRST_MARK..=LAST_MARK).contains(byte)) {
            self.0.write_all(clean)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn title(profile: &Profile, options: &RenderOptions) -> String {
    if let Some(title) = &options.title {
        return human::shorten(&escape::name(title), TITLE_CHARS);
    }
    let facts =
        format!(": {} in {}", human::metric(options.metric), human::length(profile.meta.duration));
    let targets = escape::name(&profile.meta.targets.join(", "));
    human::shorten(&targets, TITLE_CHARS - facts.chars().count()) + &facts
}

fn subtitle(profile: &Profile) -> String {
    let intervals = profile.waits.iter().map(|wait| wait.count).sum();
    // As many causes as fit; a comment in the file has all of them.
    let text = format!(
        "{} waits · {}probe {} · kernel {} · {}",
        human::count(intervals),
        sampling(profile),
        escape::name(&profile.meta.probe),
        escape::name(&profile.meta.kernel),
        profile.losses.describe(false),
    );
    human::shorten(&text, SUBTITLE_CHARS)
}

/// How the waits were sampled, if they were, as short as can be; a comment in the file tells more.
pub(super) fn sampling(profile: &Profile) -> String {
    if profile.meta.sampling.is_none() {
        return String::new();
    }
    let estimate = profile.estimate();
    let off_ns = profile.sum(Wait::off_ns).max(1) as f64;
    format!(
        "sampled 1 of {:.1}, ± {:.2} % · ",
        profile.sum(|wait| wait.count) as f64 / estimate.samples.max(1) as f64,
        100.0 * profile.confidence().1 as f64 / off_ns,
    )
}

/// inferno has an error for a graph of nothing.
pub(super) fn write_empty(title: &str, subtitle: &str, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        r##"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="120" viewBox="0 0 1200 120" xmlns="http://www.w3.org/2000/svg">
<rect width="100%" height="100%" fill="#ffffff"/>
<g font-family="monospace" font-size="12" text-anchor="middle">
<text x="600" y="24" font-size="17">{}</text>
<text x="600" y="48">{}</text>
<text x="600" y="88">No waits: nothing of this metric was recorded.</text>
</g>
</svg>
"##,
        escape_xml(title),
        escape_xml(subtitle),
    )
}

fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
