//! How the change of a frame and its significance come into the tooltips of a graph.
//!
//! inferno writes a frame's name and numbers, and knows nothing else of it; the change that it tells is
//! that of stacks which end in the frame. So each frame's name carries the number of a text as control
//! characters behind it, which names cannot contain (they are escaped), and which are taken out of what
//! inferno writes. In tooltips the text takes the place of inferno's change.

use std::collections::HashMap;

/// How many characters a mark has. Names are shortened to fit with them: they must be few.
const LENGTH: usize = 3;

/// The control characters that are digits of marks: none of them is a line break or a space.
const DIGITS: u32 = 16 + 31;

fn digit(value: u32) -> char {
    let code = match value {
        ..16 => 0x10 + value,
        16..21 => 0x80 + value - 16,
        // Without 0x85, a line break.
        21.. => 0x86 + value - 21,
    };
    char::from_u32(code).unwrap_or_default()
}

fn value(c: char) -> Option<u32> {
    match u32::from(c) {
        code @ 0x10..=0x1f => Some(code - 0x10),
        code @ 0x80..=0x84 => Some(code - 0x80 + 16),
        code @ 0x86..=0x9f => Some(code - 0x81 + 16),
        _ => None,
    }
}

/// The texts of one picture.
#[derive(Default)]
pub(super) struct Marks {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Marks {
    /// Appends the mark of a text to a name.
    pub(super) fn push(&mut self, name: &mut String, text: String) {
        let next = self.texts.len() as u32;
        let mut number = *self.numbers.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        });
        // More than 100,000 texts that differ are in no picture that anybody reads.
        if number < DIGITS.pow(LENGTH as u32) {
            for _ in 0..LENGTH {
                name.push(digit(number % DIGITS));
                number /= DIGITS;
            }
        }
    }

    /// A picture with what its marks say in its tooltips, and without them.
    pub(super) fn resolve(&self, svg: &str) -> String {
        let mut text = String::with_capacity(svg.len());
        let mut rest = svg;
        while let Some((before, title)) = rest.split_once("<title>") {
            let (title, behind) = title.split_once("</title>").unwrap_or((title, ""));
            push_unmarked(&mut text, before);
            text.push_str("<title>");
            match (self.text(title), title.rsplit_once(" (")) {
                (Some(mark), Some((name, numbers))) => {
                    push_unmarked(&mut text, name);
                    // A graph of one side has no change behind its numbers.
                    let numbers = numbers.split("; ").next().unwrap_or_default();
                    text.push_str(&format!(" ({}; {mark})", numbers.trim_end_matches(')')));
                }
                _ => push_unmarked(&mut text, title),
            }
            text.push_str("</title>");
            rest = behind;
        }
        push_unmarked(&mut text, rest);
        text
    }

    fn text(&self, title: &str) -> Option<&str> {
        let digits = title.chars().filter_map(value).take(LENGTH);
        let number =
            digits.enumerate().map(|(place, value)| value * DIGITS.pow(place as u32)).sum::<u32>();
        title
            .contains(|c| value(c).is_some())
            .then(|| self.texts.get(number as usize))?
            .map(String::as_str)
    }
}

fn push_unmarked(text: &mut String, marked: &str) {
    text.extend(marked.split(|c| value(c).is_some()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_control_characters_and_come_back() {
        for number in 0..DIGITS {
            let c = digit(number);
            assert!(c.is_control() && !c.is_whitespace(), "{number}: {c:?}");
            assert_eq!(value(c), Some(number));
        }
    }

    #[test]
    fn marks_say_what_is_known() {
        let mut marks = Marks::default();
        let mut svg = String::new();
        for number in 0..3_000 {
            let mut name = "f".to_owned();
            marks.push(&mut name, format!("{number}"));
            let change = if number % 2 == 0 { "; 0.00%" } else { "" };
            svg += &format!("<title>&lt; {name} (1 ms, 2%{change})</title><text>{name}</text>");
        }
        let expected: String = (0..3_000)
            .map(|number| format!("<title>&lt; f (1 ms, 2%; {number})</title><text>f</text>"))
            .collect();
        assert_eq!(marks.resolve(&svg), expected);
        assert_eq!(marks.resolve("<title>all (1; 0%)</title>a"), "<title>all (1; 0%)</title>a");
    }
}
