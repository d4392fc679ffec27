//! How significance comes into the tooltips of a graph.
//!
//! inferno writes a frame's name and numbers, and knows nothing else of it. So each frame's name
//! carries its p as two control characters behind it, which names cannot contain (they are escaped),
//! and which are taken out of what inferno writes: of tooltips into `; p 0.032*`, behind the numbers.

use crate::diff::Significance;

/// The first of the sixteen characters of marks. None of them is a line break or a space.
const FIRST: u8 = 0x10;
const LAST: u8 = 0x1f;

/// In steps, of which a mark has 256: thousandths up to 0.1, then hundredths. Never less than it is.
fn step(p: f64) -> u8 {
    match p {
        p if p < 0.001 => 0,
        p if p <= 0.1 => (p * 1e3).ceil() as u8,
        p => 90 + (p * 1e2).ceil() as u8,
    }
}

fn describe(step: u8) -> String {
    match step {
        0 => "p <0.001*".into(),
        1..=50 => format!("p 0.{step:03}*"),
        51..=100 => format!("p 0.{step:03}"),
        101.. => format!("p {:.2}", f64::from(step - 90) / 1e2),
    }
}

/// Appends the mark of a frame to its name.
pub(super) fn push(text: &mut String, significance: Significance) {
    let step = step(significance.adjusted);
    text.push(char::from(FIRST + step / 16));
    text.push(char::from(FIRST + step % 16));
}

/// A picture with what its marks say in its tooltips, and without them.
pub(super) fn resolve(svg: &str) -> String {
    let mut text = String::with_capacity(svg.len());
    let mut rest = svg;
    while let Some((before, title)) = rest.split_once("<title>") {
        let (title, behind) = title.split_once("</title>").unwrap_or((title, ""));
        push_unmarked(&mut text, before);
        text.push_str("<title>");
        match (mark(title), title.strip_suffix(')')) {
            (Some(step), Some(title)) => {
                push_unmarked(&mut text, title);
                text.push_str("; ");
                text.push_str(&describe(step));
                text.push(')');
            }
            _ => push_unmarked(&mut text, title),
        }
        text.push_str("</title>");
        rest = behind;
    }
    push_unmarked(&mut text, rest);
    text
}

fn mark(title: &str) -> Option<u8> {
    let at = title.bytes().position(is_mark)?;
    let [high, low] = *title.as_bytes().get(at..at + 2)? else { return None };
    is_mark(low).then(|| (high - FIRST) * 16 + (low - FIRST))
}

const fn is_mark(byte: u8) -> bool {
    matches!(byte, FIRST..=LAST)
}

fn push_unmarked(text: &mut String, marked: &str) {
    text.extend(marked.split(|c: char| c.is_ascii() && is_mark(c as u8)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_say_what_is_known() {
        let shown = |p| {
            let mut name = "f".to_owned();
            push(&mut name, Significance { p, adjusted: p });
            resolve(&format!("<title>{name} (1 ms, 2%)</title><text>{name}</text>"))
        };
        for (p, text) in [
            (1e-9, "<0.001*"),
            (0.0312, "0.032*"),
            (0.05, "0.050*"),
            (0.0501, "0.051"),
            (0.1, "0.100"),
            (0.101, "0.11"),
            (1.0, "1.00"),
        ] {
            assert_eq!(shown(p), format!("<title>f (1 ms, 2%; p {text})</title><text>f</text>"));
        }
        assert_eq!(resolve("<title>all (1)</title>a"), "<title>all (1)</title>a");
    }
}
