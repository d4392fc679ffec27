//! What the README says against what is there.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::workspace::{self, Workspace};

/// The commands of the README's start, in this order, and nothing else of xtask.
const COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];

/// One line for each thing that the README says and that is not so.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let readme = Readme::parse(&workspace::read(&workspace.root.join("README.md"))?);
    let ci = workspace::read(&workspace.root.join(".ci/run"))?;
    let mut build = command::cargo(&workspace.root);
    command::run(build.args(["build", "--quiet", "--release", "--package", "offwake"]))?;
    let help = |arguments: &[&str]| {
        command::capture(Command::new(workspace.release_binary("offwake")).args(arguments))
    };
    let mut known = Vocabulary::of_help(&help(&["--help"])?);
    for subcommand in known.subcommands.clone() {
        known.options.extend(Vocabulary::of_help(&help(&[&subcommand, "--help"])?).options);
    }

    let mut wrong = readme.wrong_commands();
    if !ci.contains("README.md") || !ci.contains(COMMANDS[1]) {
        wrong.push(format!(".ci/run does not run `{}` from README.md", COMMANDS[1]));
    }
    wrong.extend(readme.unknown_words(&known));
    wrong.extend(readme.paths(workspace)?.into_iter().filter_map(|(name, path)| {
        (!path.exists()).then(|| format!("README.md names {name}, which does not exist"))
    }));
    Ok(wrong)
}

/// The parts of the README that must be true to the letter.
struct Readme {
    /// Lines of code blocks, without prompts.
    commands: Vec<String>,
    /// Code within a sentence.
    spans: Vec<String>,
    /// Targets of links and images.
    links: Vec<String>,
}

impl Readme {
    fn parse(text: &str) -> Self {
        let mut readme = Self { commands: Vec::new(), spans: Vec::new(), links: Vec::new() };
        let mut in_block = false;
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.starts_with("```") {
                in_block = !in_block;
            } else if in_block || line.starts_with("    ") {
                let command = trimmed.strip_prefix("$ ").or(trimmed.strip_prefix("# "));
                readme.commands.push(command.unwrap_or(trimmed).to_owned());
            } else {
                readme.spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
                let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
                readme.links.extend(targets.map(|(target, _)| target.to_owned()));
            }
        }
        readme
    }

    fn wrong_commands(&self) -> Vec<String> {
        let found: Vec<&str> = self
            .commands
            .iter()
            .map(|line| line.split('#').next().unwrap_or_default().trim())
            .filter(|line| line.contains("cargo xtask"))
            .collect();
        if found == COMMANDS {
            return Vec::new();
        }
        vec![format!(
            "README.md should start things by {}, and its code blocks have {}",
            COMMANDS.join(", "),
            if found.is_empty() { "none".to_owned() } else { found.join(", ") }
        )]
    }

    /// Options and subcommands that offwake does not have.
    fn unknown_words(&self, known: &Vocabulary) -> Vec<String> {
        let mut unknown = BTreeSet::new();
        for line in &self.commands {
            unknown.extend(known.unknown_in_command(line));
        }
        for span in &self.spans {
            if span.starts_with('-') {
                unknown.extend(known.unknown_options(span.split_whitespace()));
            } else {
                unknown.extend(known.unknown_in_command(span));
            }
        }
        let say = |word| format!("README.md has `{word}`, which `offwake --help` does not know");
        unknown.into_iter().map(say).collect()
    }

    /// What is named of this repository, as written and where it should be.
    fn paths(&self, workspace: &Workspace) -> Result<BTreeSet<(String, std::path::PathBuf)>> {
        let mut top = BTreeSet::from(["target".to_owned()]);
        for entry in std::fs::read_dir(&workspace.root)? {
            top.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        let in_code = self.spans.iter().chain(&self.commands).flat_map(|code| code.split(' '));
        let in_code = in_code.map(|word| word.strip_prefix("./").unwrap_or(word)).filter(|word| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            let (first, rest) = word.split_once('/').unwrap_or((word, ""));
            word.chars().all(plain) && !rest.is_empty() && top.contains(first)
        });
        let in_links = self.links.iter().map(|link| link.split('#').next().unwrap_or_default());
        let in_links = in_links.filter(|link| !link.is_empty() && !link.contains(':'));
        let place = |name: &str| match name.strip_prefix("target/") {
            Some(built) => workspace.target.join(built),
            None => workspace.root.join(name),
        };
        Ok(in_code.chain(in_links).map(|name| (name.to_owned(), place(name))).collect())
    }
}

/// The options and subcommands of offwake.
struct Vocabulary {
    options: BTreeSet<String>,
    subcommands: BTreeSet<String>,
}

impl Vocabulary {
    fn of_help(help: &str) -> Self {
        let mut words = Self { options: BTreeSet::new(), subcommands: BTreeSet::new() };
        let mut in_commands = false;
        for line in help.lines() {
            if !line.starts_with(' ') {
                in_commands = line.trim() == "Commands:";
            }
            let mut parts = line.split_whitespace();
            if line.trim_start().starts_with('-') {
                words.options.extend(parts.take_while(|part| part.starts_with('-')).map(option));
            } else if in_commands && line.starts_with(' ') {
                words.subcommands.extend(parts.next().map(str::to_owned));
            }
        }
        words
    }

    /// In a line of shell: what follows `offwake` there, until another program's words begin.
    fn unknown_in_command(&self, line: &str) -> Vec<String> {
        let mut words = line.split_whitespace();
        if !words.any(|word| word == "offwake" || word.ends_with("/offwake")) {
            return Vec::new();
        }
        let own: Vec<&str> =
            words.take_while(|word| !["--", "|", ";", "&&", "#"].contains(word)).collect();
        let mut unknown = self.unknown_options(own.iter().copied());
        let plain = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase());
        if let Some(first) = own.first().filter(plain)
            && !self.subcommands.contains(*first)
        {
            unknown.push((*first).to_owned());
        }
        unknown
    }

    fn unknown_options<'a>(&self, words: impl Iterator<Item = &'a str>) -> Vec<String> {
        words
            // `-fno-omit-frame-pointer` is a compiler's.
            .filter(|word| word.starts_with("--") || (word.starts_with('-') && word.len() == 2))
            .filter(|word| *word != "--")
            .map(option)
            .filter(|option| !self.options.contains(option))
            .collect()
    }
}

/// `--metric=off,` is the option `--metric`.
fn option(word: &str) -> String {
    let end = word.find(['=', ',', '[', '<']).unwrap_or(word.len());
    word[..end].trim_end_matches(['.', '…']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Usage: offwake [OPTIONS]\n\nCommands:\n  check  Says\n  help   Prints\n\n\
        Options:\n  -p, --pid <PID>...\n          Not --this\n      --metric=<METRIC>\n";

    fn unknown(readme: &str) -> Vec<String> {
        let say = |line: String| line.split('`').nth(1).unwrap_or_default().to_owned();
        let wrong = Readme::parse(readme).unknown_words(&Vocabulary::of_help(HELP));
        wrong.into_iter().map(say).collect()
    }

    #[test]
    fn options_are_those_of_the_help() {
        assert_eq!(unknown("`-p PID` and `--metric blocked`, `--metric=off`"), [""; 0]);
        assert_eq!(unknown("`--this`, `-q`, `-fno-omit-frame-pointer`"), ["--this", "-q"]);
    }

    #[test]
    fn commands_are_read_up_to_the_next_program() {
        let readme = "```\n$ sudo target/release/offwake -p 1 --pit 2 | grep -v x\noffwake check\n\
            offwake chuck\noffwake -p 1 -- perf --all\n```\n";
        assert_eq!(unknown(readme), ["--pit", "chuck"]);
    }

    #[test]
    fn the_two_commands_in_their_order() {
        let wrong = |text| Readme::parse(text).wrong_commands().len();
        assert_eq!(
            wrong("```\ncargo xtask demo  # a look\n```\n`x`\n```\n$ cargo xtask test\n```"),
            0
        );
        assert_eq!(wrong("```\ncargo xtask test\ncargo xtask demo\n```"), 1);
        assert_eq!(wrong("`cargo xtask demo`"), 1);
    }

    #[test]
    fn paths_of_this_repository() {
        let root = std::env::temp_dir().join(format!("offwake-xtask-{}", std::process::id()));
        std::fs::create_dir_all(root.join("docs")).unwrap();
        let workspace = Workspace { root: root.clone(), target: "/elsewhere".into() };
        let readme = Readme::parse(
            "`docs/a.svg` `text/plain` [b](B.md#part) [web](https://c) `./docs/d`\n```\n\
             ls target/release/offwake /docs/x docs/<y>\n```",
        );
        let names: Vec<_> = readme.paths(&workspace).unwrap().into_iter().collect();
        let expected = [
            ("B.md", root.join("B.md")),
            ("docs/a.svg", root.join("docs/a.svg")),
            ("docs/d", root.join("docs/d")),
            ("target/release/offwake", "/elsewhere/release/offwake".into()),
        ];
        assert_eq!(names, expected.map(|(name, path)| (name.to_owned(), path)));
        std::fs::remove_dir_all(root).unwrap();
    }
}
