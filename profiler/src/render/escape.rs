//! Names as they are safe to show. Every escape is `\` and hexadecimal digits, and `\` itself is
//! escaped, so that a name can be told from what it looks like.

use std::fmt::Write;

/// What stands for an empty name.
pub(crate) const UNNAMED: &str = "[unnamed]";

/// A name that can neither control a terminal, nor break a line, nor make XML ill-formed.
pub(crate) fn name(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        push(&mut escaped, c, c == '\\' || is_invisible(c));
    }
    escaped
}

/// The name of a function as a frame of a folded stack: also safe from being taken for the end of
/// the frame, for a delimiter, or for a value.
pub(super) fn frame(name: &str) -> String {
    if name.is_empty() {
        return UNNAMED.into();
    }
    let is_delimiter = matches!(name, "-" | "--");
    let last = name.len() - 1;
    // Parsers take digits behind the last space of a line for one of two values.
    let number_space = name.rfind(' ').filter(|space| {
        name[space + 1..].bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    });
    let mut escaped = String::with_capacity(name.len());
    for (index, c) in name.char_indices() {
        let escape = match c {
            ';' | '\\' => true,
            '-' => is_delimiter && index == 0,
            // Parsers trim lines.
            ' ' => index == 0 || index == last || Some(index) == number_space,
            // inferno takes a line that begins with `# ` for a comment.
            '#' => index == 0 && name.starts_with("# "),
            c => is_invisible(c),
        };
        push(&mut escaped, c, escape);
    }
    escaped
}

/// The name of a thread as a frame of a folded stack: also safe from being taken for a label of
/// ours, such as `[irq]`.
pub(super) fn thread(name: &str) -> String {
    match name.strip_prefix('[') {
        Some(rest) => format!("\\x5b{}", if rest.is_empty() { String::new() } else { frame(rest) }),
        None => frame(name),
    }
}

fn push(escaped: &mut String, c: char, escape: bool) {
    let code = u32::from(c);
    // Writing to a string does not fail.
    let _ = match (escape, code) {
        (false, _) => escaped.write_char(c),
        (true, ..=0xff) => write!(escaped, "\\x{code:02x}"),
        (true, _) => write!(escaped, "\\u{{{code:x}}}"),
    };
}

/// Control characters, spaces that parsers trim or split at, and characters that reorder or hide
/// the text around them, or that XML forbids.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_unchanged() {
        for text in [
            "wrk:worker_0",
            "kworker/0:1-events",
            "tcp_v4_rcv",
            "Envoy::Thread::{lambda(void*)#1}::__invoke(void*)",
            "<alloc::vec::Vec<T> as Drop>::drop",
            "-x",
            "---",
            "#tag",
            "头图",
        ] {
            assert_eq!(name(text), text);
            assert_eq!(frame(text), text);
            assert_eq!(thread(text), text);
        }
        assert_eq!(frame("[envoy+0x1f3a]"), "[envoy+0x1f3a]");
    }

    #[test]
    fn a_frame_stays_one_frame_and_no_number() {
        assert_eq!(frame("a;b\nc"), r"a\x3bb\x0ac");
        assert_eq!(frame("a 1 2"), r"a 1\x202");
        assert_eq!(frame("a 1.5"), r"a\x201.5");
        assert_eq!(frame("a 1b"), "a 1b");
        assert_eq!(frame(" a "), r"\x20a\x20");
        assert_eq!(frame("--"), r"\x2d-");
        assert_eq!(frame("-"), r"\x2d");
        assert_eq!(frame("# a"), r"\x23 a");
        assert_eq!(frame(""), "[unnamed]");
        assert_eq!(frame("\u{a0}a\u{2028}"), r"\xa0a\u{2028}");
    }

    #[test]
    fn a_thread_is_no_label() {
        assert_eq!(thread("[irq]"), r"\x5birq]");
        assert_eq!(thread("["), r"\x5b");
        assert_eq!(thread("[ 1"), r"\x5b\x201");
    }

    #[test]
    fn nothing_reaches_a_terminal() {
        assert_eq!(name("\x1b[2J\u{9b}2J\u{202e}x\u{7f};"), r"\x1b[2J\x9b2J\u{202e}x\x7f;");
    }

    #[test]
    fn an_escape_cannot_be_forged() {
        assert_ne!(frame("a;b"), frame(r"a\x3bb"));
        assert_eq!(name(r"\x1b"), r"\x5cx1b");
    }
}
