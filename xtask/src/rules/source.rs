//! Rust source, as far as rules need it: identifiers, punctuation and string literals.

/// A piece of source that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier or keyword.
    Ident(String),
    /// One character of punctuation.
    Punct(char),
    /// The content of a string literal, escapes as written.
    Text(String),
}

/// A token and its line, from 1.
pub(crate) type Located = (usize, Token);

/// Splits source into tokens. Comments, numbers, lifetimes and characters are left out.
pub(crate) fn tokens(source: &str) -> Vec<Located> {
    let mut lexer = Lexer { rest: source, line: 1, tokens: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Located>,
}

impl<'a> Lexer<'a> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.take(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.take(block_comment(rest));
        } else if let Some((prefix, hashes)) = string_start(rest) {
            self.string(prefix, hashes);
        } else if rest.starts_with('\'') {
            self.take(quote(rest));
        } else if let word @ 1.. = word_length(rest) {
            let word = self.take(word);
            if !word.starts_with(|c: char| c.is_ascii_digit()) {
                self.push(Token::Ident(word.to_owned()));
            }
        } else if let Some(c) = rest.chars().next() {
            self.take(c.len_utf8());
            if !c.is_whitespace() {
                self.push(Token::Punct(c));
            }
        }
    }

    fn string(&mut self, prefix: usize, hashes: Option<usize>) {
        self.take(prefix);
        let length = match hashes {
            Some(hashes) => self.rest.find(&format!("\"{}", "#".repeat(hashes))),
            None => unescaped(self.rest, '"'),
        };
        let line = self.line;
        let text = self.take(length.unwrap_or(self.rest.len())).to_owned();
        self.tokens.push((line, Token::Text(text)));
        self.take((1 + hashes.unwrap_or(0)).min(self.rest.len()));
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((self.line, token));
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

/// The length up to the first unescaped `end`.
fn unescaped(text: &str, end: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let found = c == end && !escaped;
        escaped = c == '\\' && !escaped;
        found.then_some(at)
    })
}

/// The length of a string literal's start, and for a raw one the number of its `#`.
fn string_start(rest: &str) -> Option<(usize, Option<usize>)> {
    let unprefixed = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - unprefixed.len();
    if prefix > 1 {
        return None;
    }
    if unprefixed.starts_with('"') {
        return Some((prefix + 1, None));
    }
    let raw = unprefixed.strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    raw[hashes..].starts_with('"').then_some((prefix + 1 + hashes + 1, Some(hashes)))
}

/// The length of a character literal, or of the quote of a lifetime.
fn quote(rest: &str) -> usize {
    let inner = &rest[1..];
    let mut chars = inner.chars();
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => unescaped(inner, '\'').map_or(1, |end| end + 2),
        (Some(c), Some('\'')) => c.len_utf8() + 2,
        _ => 1,
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str) -> Vec<String> {
        let show = |(line, token)| match token {
            Token::Ident(word) => format!("{line}:{word}"),
            Token::Punct(c) => format!("{line}:{c}"),
            Token::Text(text) => format!("{line}:\"{text}\""),
        };
        tokens(source).into_iter().map(show).collect()
    }

    #[test]
    fn comments_and_characters_are_nothing() {
        let source = "a // aya::\n/* x /* y */ \" */ b '\"' '\\'' 'c' &'d e 12";
        assert_eq!(shown(source), ["1:a", "2:b", "2:&", "2:d", "2:e"]);
    }

    #[test]
    fn strings_of_all_kinds() {
        let source = "\"a\\\"b\" b\"c\nd\" r#\"e\"f\"# br\"g\" bcr";
        assert_eq!(shown(source), ["1:\"a\\\"b\"", "1:\"c\nd\"", "2:\"e\"f\"", "2:\"g\"", "2:bcr"]);
    }
}
