//! Who may use what, in `profiler/src`.

use std::path::Path;

use anyhow::Result;

use super::source::{Located, Token, tokens};
use crate::workspace::{self, Workspace};

/// A crate, and the only folders that may name it.
const CRATES: [(&str, &[&str]); 10] = [
    ("aya", &["record/"]),
    ("aya_obj", &["record/"]),
    ("blazesym", &["symbolize/"]),
    ("gimli", &["symbolize/", "unwind/"]),
    ("object", &["symbolize/", "unwind/"]),
    ("inferno", &["render/"]),
    ("clap", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("prost", &["pprof/"]),
    ("flate2", &["pprof/", "saved/", "symbolize/"]),
];

/// A folder, and the modules that it must not use: those behind a boundary, and those that come
/// later in the flow of data. `symbolize/` owns the readers of ELF files and of kallsyms, which the
/// recorder and the snapshots need for build ids and for the kernel's interrupt entries.
const MODULES: [(&str, &[&str]); 13] = [
    ("record/", &["cli", "merge", "render"]),
    ("snapshot/", &["cli", "record", "merge", "render"]),
    ("symbolize/", &["cli", "record", "snapshot", "merge", "render"]),
    ("unwind/", &["cli", "record", "snapshot", "merge", "render"]),
    ("merge/", &["cli", "record", "snapshot", "render"]),
    ("render/", &["cli", "record", "snapshot", "symbolize", "merge", "recording"]),
    ("pprof/", &["cli", "record", "snapshot", "symbolize", "merge", "render", "recording"]),
    ("saved/", &["cli", "record", "snapshot", "symbolize", "merge", "render", "recording"]),
    ("diff/", &["cli", "record", "snapshot", "symbolize", "merge", "render", "recording"]),
    ("report/", &["cli", "record", "snapshot", "symbolize", "merge", "render", "recording"]),
    ("epoll/", &["cli", "record", "snapshot", "symbolize", "merge", "recording"]),
    ("recording.rs", &["cli", "record", "snapshot", "symbolize", "merge", "render"]),
    ("profile.rs", &["cli", "record", "snapshot", "symbolize", "merge", "render"]),
];

/// Only `snapshot/` reads a live `/proc`. These are of the machine, or of offwake itself.
/// What the user names as an output is written, whatever it is.
const PROC: [(&str, &str); 7] = [
    ("snapshot/", "/proc"),
    ("record/", "/proc/sys/"),
    ("record/", "/proc/self/"),
    ("symbolize/", "/proc/kallsyms"),
    ("symbolize/", "/proc/modules"),
    ("symbolize/", "/proc/self/fd/"),
    ("cli/output.rs", "/proc"),
];

/// One line for each breach.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let source = workspace.root.join("profiler/src");
    let mut violations = Vec::new();
    for path in workspace::files_below(&source)? {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(&source)?;
            // Tests stand wherever they can see both sides.
            if name.ends_with("tests.rs") {
                continue;
            }
            violations.extend(check_file(name, &workspace::read(&path)?));
        }
    }
    Ok(violations)
}

/// `name` is below `profiler/src`.
fn check_file(name: &Path, source: &str) -> Vec<String> {
    let name = name.to_string_lossy();
    // A folder's own file may stand beside it.
    let is_in = |place: &str| {
        name.starts_with(place)
            || place.strip_suffix('/').is_some_and(|dir| name == format!("{dir}.rs"))
    };
    let tokens = tokens(source);
    let mut violations = Vec::new();
    let mut report =
        |line: usize, what: String| violations.push(format!("profiler/src/{name}:{line}: {what}"));

    for (krate, places) in CRATES {
        if !places.iter().any(|place| is_in(place)) {
            for line in uses_of_crate(&tokens, krate) {
                report(line, format!("`{krate}` belongs in {}", places.join(" and ")));
            }
        }
    }
    for (place, forbidden) in MODULES {
        if is_in(place) {
            for (line, module) in uses_of_modules(&tokens) {
                if forbidden.contains(&module) {
                    report(line, format!("{place} must not use `{module}`"));
                }
            }
        }
    }
    for (line, token) in &tokens {
        let Token::Text(text) = token else { continue };
        let allowed = |&(place, prefix): &(&str, &str)| is_in(place) && text.starts_with(prefix);
        if text.starts_with("/proc") && !PROC.iter().any(allowed) {
            report(*line, format!("reading \"{text}\" belongs in snapshot/"));
        }
    }
    violations
}

/// Lines in which a path starts with the crate.
fn uses_of_crate(tokens: &[Located], krate: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for (at, (line, token)) in tokens.iter().enumerate() {
        let is_crate = matches!(token, Token::Ident(word) if word == krate);
        let is_inner = at >= 2 && is_path_separator(&tokens[at - 2..]) && !is_root(tokens, at);
        let imported = at >= 1 && matches!(&tokens[at - 1].1, Token::Ident(word) if word == "use");
        if is_crate && !is_inner && (imported || is_path_separator(&tokens[at + 1..])) {
            lines.push(*line);
        }
    }
    lines
}

/// Whether the path separator before this token is the leading one of `::aya::…`.
fn is_root(tokens: &[Located], at: usize) -> bool {
    at == 2 || !matches!(tokens[at - 3].1, Token::Ident(_) | Token::Punct('>'))
}

/// The top-level modules of this crate that are named by `crate::…`, with lines.
fn uses_of_modules(tokens: &[Located]) -> Vec<(usize, &str)> {
    let mut uses = Vec::new();
    for (at, (_, token)) in tokens.iter().enumerate() {
        let is_crate = matches!(token, Token::Ident(word) if word == "crate");
        if is_crate && is_path_separator(&tokens[at + 1..]) {
            uses.extend(first_segments(&tokens[at + 3..]));
        }
    }
    uses
}

/// `a::b` gives `a`; `{a::b, c::{d, e}}` gives `a` and `c`.
fn first_segments(tokens: &[Located]) -> Vec<(usize, &str)> {
    match tokens.first() {
        Some((line, Token::Ident(word))) => vec![(*line, word)],
        Some((_, Token::Punct('{'))) => {
            let (mut depth, mut expected, mut segments) = (0, false, Vec::new());
            for (line, token) in tokens {
                match token {
                    Token::Punct('{') => {
                        depth += 1;
                        expected = depth == 1;
                    }
                    Token::Punct('}') => depth -= 1,
                    Token::Punct(',') => expected = depth == 1,
                    Token::Ident(word) if expected => {
                        segments.push((*line, word.as_str()));
                        expected = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            segments
        }
        _ => Vec::new(),
    }
}

fn is_path_separator(tokens: &[Located]) -> bool {
    matches!(tokens, [(_, Token::Punct(':')), (_, Token::Punct(':')), ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(name: &str, source: &str) -> Vec<String> {
        check_file(Path::new(name), source)
    }

    #[test]
    fn crates_stay_in_their_folders() {
        for source in ["use aya::Ebpf;", "use aya;", "fn f(e: &aya::Ebpf) {}", "::aya::f();"] {
            assert_eq!(
                violations("merge/mod.rs", source),
                ["profiler/src/merge/mod.rs:1: `aya` belongs in record/"]
            );
            assert_eq!(violations("record/load.rs", source), [""; 0]);
        }
        let elsewhere = "// aya::\nlet aya = \"aya::\"; a::aya::b(); use aya_other::x;";
        assert_eq!(violations("merge/mod.rs", elsewhere), [""; 0]);
    }

    #[test]
    fn data_flows_one_way() {
        let source =
            "use crate::{profile::{render, Frame},\n record::Config};\ncrate::snapshot::f();";
        assert_eq!(
            violations("render/svg.rs", source),
            [
                "profiler/src/render/svg.rs:2: render/ must not use `record`",
                "profiler/src/render/svg.rs:3: render/ must not use `snapshot`",
            ]
        );
        assert_eq!(violations("cli/run.rs", source), [""; 0]);
        assert_eq!(violations("merge.rs", "use crate::cli;").len(), 1);
    }

    #[test]
    fn only_snapshots_read_proc() {
        let source = "read(format!(\"/proc/{pid}/maps\")); \"see /proc\";";
        assert_eq!(
            violations("symbolize/elf.rs", source),
            ["profiler/src/symbolize/elf.rs:1: reading \"/proc/{pid}/maps\" belongs in snapshot/"]
        );
        assert_eq!(violations("snapshot/maps.rs", source), [""; 0]);
        assert_eq!(violations("symbolize/kernel.rs", "\"/proc/kallsyms\""), [""; 0]);
        assert_eq!(violations("record/check.rs", "\"/proc/kallsyms\"").len(), 1);
    }
}
