//! Rendering: a profile as text for people or programs, one file a format.
//!
//! All output is a function of the profile and the options alone: the same input gives the same
//! bytes. Names of threads and functions are hostile input everywhere.

mod colors;
mod diff;
mod drawn;
pub(crate) mod escape;
mod folded;
mod html;
pub(crate) mod human;
mod json;
mod label;
mod stacks;
mod svg;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod unlike;

use std::io::{self, Write};
use std::path::Path;

pub use self::diff::{DiffFormat, write_diff};
pub use self::unlike::unlike_threads;
use crate::pprof;
use crate::profile::{Metric, Profile};

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An off-wake flame graph.
    Svg,
    /// A page with the flame graph and the table of waits, to search and to filter.
    Html,
    /// Merged stacks, one a line, for inferno, flamegraph.pl and speedscope.
    Folded,
    /// Every wait with both stacks, for reading.
    Text,
    /// Everything that is known, for programs.
    Json,
    /// A saved profile, for `offwake report` and other profilers.
    Pprof,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::Svg, Self::Html, Self::Folded, Self::Text, Self::Json, Self::Pprof];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Html => "html",
            Self::Folded => "folded",
            Self::Text => "text",
            Self::Json => "json",
            Self::Pprof => "pprof",
        }
    }

    /// The extension of its files, without the first dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Pprof => "pb.gz",
            Self::Svg | Self::Html | Self::Folded | Self::Json => self.name(),
        }
    }

    /// The format with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format whose files have such a name, by its extension.
    pub fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.as_encoded_bytes();
        Self::ALL.into_iter().find(|format| {
            let before = name.strip_suffix(format.extension().as_bytes());
            before.is_some_and(|before| before.len() > 1 && before.ends_with(b"."))
        })
    }
}

/// What all formats can be asked for. JSON and pprof have everything always and ignore these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// What the values of graphs and folded lines are, and what text is sorted by.
    pub metric: Metric,
    /// In graphs and folded lines, keep sleepers of the same name apart: the root frame is
    /// `comm-tid`. Text always does.
    pub per_thread: bool,
    /// Put a frame `-` between user and kernel frames.
    pub delimited: bool,
    /// Behind the name of a function, the file and the line, where they are known.
    pub lines: bool,
    /// Behind a name, what kind of frame it is: `_[k]` in the kernel, `_[i]` inlined, `_[j]` compiled
    /// at run time.
    pub annotate: bool,
    /// The title of a graph or a text, in place of one that says what was recorded.
    pub title: Option<String>,
}

/// Writes a profile.
///
/// # Errors
/// Those of `out` only.
pub fn write(
    format: Format,
    profile: &Profile,
    options: &RenderOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Svg => svg::write(profile, options, out),
        Format::Html => html::write(profile, options, out),
        Format::Folded => folded::write(profile, options, out),
        Format::Text => text::write(profile, options, out),
        Format::Json => json::write(profile, out),
        Format::Pprof => pprof::write(profile, out),
    }
}
