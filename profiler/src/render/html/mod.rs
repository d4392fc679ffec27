//! The interactive report: one HTML file with the flame graph, the table of waits, and what both can
//! be split by. It needs no network and no server, and cannot reach any: its content security policy
//! allows its own script and style, by hash, and nothing else.
//!
//! # Hostile names
//! Whatever a profile holds is in one element, as JSON in which every `<` is escaped: no name can end
//! the element, or begin another. Names are escaped as in folded stacks, and the script puts them on
//! the page as text only.
//!
//! # Why not a library
//! d3-flame-graph and its like keep an SVG element for each frame. With 50,000 stacks that is a
//! million of them. The script here draws what is visible on a canvas, and makes elements for
//! the visible rows of tables only.

mod diff;
mod payload;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use self::payload::Payload;
use super::RenderOptions;
use crate::diff::Diff;
use crate::profile::Profile;

const STYLE: &str = include_str!("report.css");

/// In the order in which they use each other.
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("format.js"),
    include_str!("model.js"),
    include_str!("tree.js"),
    include_str!("list.js"),
    include_str!("graph.js"),
    include_str!("histogram.js"),
    include_str!("details.js"),
    include_str!("report.js"),
);

pub(super) fn write(
    profile: &Profile,
    options: &RenderOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    // What differs only in where in a function it was would look the same.
    let profile = &profile.by_name(options.lines, options.annotate);
    write_page(&Payload::new(profile, options), out)
}

/// The same page for two profiles.
pub(super) fn write_diff(
    before: &Profile,
    after: &Profile,
    diff: &Diff,
    out: &mut dyn Write,
) -> io::Result<()> {
    write_page(&Payload::of_diff(before, after, diff), out)
}

fn write_page(payload: &Payload, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>offwake</title>\n\
         <style>{STYLE}</style>\n\
         </head>\n\
         {}\
         <script type=\"application/json\" id=\"profile\">",
        hash(SCRIPT),
        hash(STYLE),
        include_str!("body.html"),
    )?;
    serde_json::to_writer(InScript(&mut *out), payload)?;
    write!(out, "</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n")
}

/// JSON on its way into a `script` element. A `<` can only be in a string there.
struct InScript<'a>(&'a mut dyn Write);

impl Write for InScript<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (index, part) in bytes.split(|byte| *byte == b'<').enumerate() {
            if index > 0 {
                self.0.write_all(b"\\u003c")?;
            }
            self.0.write_all(part)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The SHA-256 of a text in base 64, as content security policies have it.
fn hash(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::new();
    for bytes in Sha256::digest(text).chunks(3) {
        let byte = |index: usize| u32::from(bytes.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 0x3f;
            base64.push(if digit <= bytes.len() { DIGITS[value as usize].into() } else { '=' });
        }
    }
    base64
}
