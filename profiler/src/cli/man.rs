//! The man page offwake(1). Options and commands come from clap; the rest is here.

mod epoll;
mod json;

use std::io::{self, Write};

use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::examples::{EXAMPLES, Example};

/// A term and what there is to say about it.
type Entry = (&'static str, &'static str);

const OUTPUT_FORMATS: [Entry; 6] = [
    (
        "svg (.svg)",
        "A flame graph for any browser; click to zoom, Ctrl-F to search. From the bottom up: the thread \
         that waited, its stack, a grey frame --, and above it the stack of whoever ended the wait, upside \
         down, so that the code that waited and the code that woke it face each other. The width of \
         a frame is the metric. Title and subtitle name the target, the length and what was lost.",
    ),
    (
        "html (.html)",
        "A page for exploring, one file that needs no network: the same flame graph, a table of all waits, \
         and what both can be narrowed to, by thread, by state and by waker. Search takes text, or a \
         regular expression between slashes; #q=TEXT and #metric=METRIC behind the address open the page \
         with a search and a metric.",
    ),
    (
        "folded (.folded)",
        "One line for each merged stack, frames from the sleeper's name to the waker's name joined by \
         semicolons, a space, and the metric (times in microseconds). inferno-flamegraph, flamegraph.pl \
         and speedscope read it. Lines that are no stacks would be drawn or refused by some of them, so neither \
         the probe nor the losses are in it: standard error tells both.",
    ),
    (
        "text (.txt)",
        "For reading: each wait with the waker's stack, --, the sleeper's stack, the thread, and its \
         times, the longest first.",
    ),
    (
        "json (.json)",
        "Everything that was recorded, as one object for scripts: recording, losses, and waits with \
         sleeper, waker, state, count, times in nanoseconds, and both stacks innermost first.",
    ),
    (
        "pprof (.pb.gz)",
        "Everything that was recorded, in the standard format of saved profiles, compressed: offwake report \
         makes any other format of it, and go tool pprof and speedscope open it. Its \
         values are off-cpu, blocked, run-queue (nanoseconds) and count. A stack is that of the flame \
         graph, with a function -- between sleeper and waker; threads, state and kind of waker are labels.",
    ),
];

const SPECIAL_FRAMES: [Entry; 10] = [
    (
        "[tcp :15006 LISTEN], [eventfd], [timeout], ...",
        "With --wake-source, right after --: what the thread waited for. A port is the one of the service: \
         the own one of a listener and of the connections that it accepted, and, behind ->, the remote one \
         of a connection that this side opened. Sockets also by both addresses (<- and -> point at who is \
         connected to), unix sockets by path, futexes by address. Without the frame it is not known: \
         several descriptors were ready, or the wait was for something without a name.",
    ),
    ("[irq]", "The wait was ended by a hardware interrupt, such as a timer."),
    ("[softirq:NET_RX]", "The wait was ended by a softirq on the tail of an interrupt."),
    ("[preempted]", "The thread never slept: another one took the CPU."),
    ("[not woken]", "The wait went on when the recording ended."),
    ("[unknown waker]", "The wake-up was not seen; counted as unknown_waker."),
    ("[lost stack]", "The stack could not be kept or read; the losses say why. Its time is right."),
    (
        "[envoy+0x1f3a]",
        "No symbol is known for the address: its place in the file, as addr2line takes it.",
    ),
    (
        "name_[k], name_[i], name_[j]",
        "With --annotate: a function of the kernel, one that was inlined into the next outer frame, one \
         that was compiled at run time. Inlined functions are frames of their own wherever DWARF tells \
         of them.",
    ),
    (
        "[unknown]",
        "Nothing was mapped at the address, or the process was gone before it could be asked.",
    ),
];

const SIGNALS: [Entry; 2] = [
    (
        "SIGINT, SIGTERM, SIGHUP",
        "End the recording. Results are complete for the time that was recorded. A second SIGINT \
         or SIGTERM, half a second later or more, ends offwake at once, without results and without half-written \
         files. Under nohup, SIGHUP stays ignored.",
    ),
    ("SIGPIPE", "Ignored: when the reader of standard output goes away, offwake ends quietly."),
];

const EXIT_STATUS: [Entry; 4] = [
    ("0", "Every output is complete."),
    (
        "1",
        "Nothing could be recorded, no interval was seen, or an output could not be written. One \
         line on standard error says which. From offwake check: something needed is missing.",
    ),
    ("2", "The arguments make no sense together, or one is invalid."),
    (
        "3",
        "offwake diff --fail-above: waits got longer than that, and with repeated runs beyond noise.",
    ),
];

const LOSSES: &str = "\
    Nothing is lost silently. The last line on standard error, and every output but folded \
    stacks, count what is missing, for each cause. Lost are whole intervals: those that did not \
    fit (threads_full, waits_full), and those of probes that the kernel skipped (probe_misses). \
    Incomplete are intervals whose stacks did not fit (stacks_full), could not be read \
    (kernel_stack_unreadable) or are deeper than the kernel records \
    (kernel_stack_truncated, user_stack_truncated), whose wake-up was not seen (unknown_waker), \
    whose end was computed since it was not seen (switch_in_missed), and whose user stacks ended \
    before their outermost frame: because they led out of the program's code, as in code with \
    neither call frame information nor frame pointers (user_stack_broken), at memory that was not \
    there (user_stack_unreadable), or at call frame information that offwake cannot follow \
    (user_stack_unsupported). Stacks of programs that are seen for the first time are walked by frame \
    pointers until their call frame information was read (unwind_tables_missing). What ended a wait was \
    known but not kept where --wake-source tells too many apart (wake_sources_full). Stacks that \
    are as they were when they were unwound before are not unwound again; of a share of them that is, it \
    is counted which were another stack (remembered_stack_wrong), and the right one counts. Names may be \
    missing for processes that were reported late (notices_full) or ended before their \
    mappings were read (process_gone).";

/// Writes the man page.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn write(command: Command, out: &mut dyn Write) -> io::Result<()> {
    let mut built = command.clone();
    built.build();
    // The blank stands for a date: none would shift the fields behind it.
    let page = Man::new(command).title("OFFWAKE").date(" ").manual("User Commands");

    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    description(&built).to_writer(out)?;
    options(&page, out)?;
    commands(&built).to_writer(out)?;
    let mut rest = Roff::new();
    section(&mut rest, "OUTPUT FORMATS", &OUTPUT_FORMATS);
    rest.control("SS", ["Special frames"]);
    entries(&mut rest, &SPECIAL_FRAMES);
    rest.control("SS", ["JSON"]);
    entries(&mut rest, &json::MEMBERS);
    rest.control("SH", ["LOSSES"]);
    rest.text([roman(LOSSES)]);
    section(&mut rest, "OFFWAKE EPOLL", &epoll::EVENTS);
    rest.control("PP", []);
    rest.text([roman(epoll::TABLE)]);
    rest.control("SS", ["JSON"]);
    entries(&mut rest, &epoll::JSON);
    section(&mut rest, "SIGNALS", &SIGNALS);
    section(&mut rest, "EXIT STATUS", &EXIT_STATUS);
    examples(&mut rest);
    rest.control("SH", ["SEE ALSO"]);
    rest.text([
        bold("perf"),
        roman("(1), "),
        bold("bpftrace"),
        roman("(8), "),
        bold("capabilities"),
        roman("(7)"),
    ]);
    rest.to_writer(out)
}

/// The long text without its first paragraph, which is NAME's.
fn description(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["DESCRIPTION"]);
    let text = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    for paragraph in text.split("\n\n").skip(1) {
        roff.control("PP", []);
        roff.text([roman(paragraph)]);
    }
    roff
}

/// clap_mangen makes a section of each help heading; together they are one section here.
fn options(page: &Man, out: &mut dyn Write) -> io::Result<()> {
    let mut sections = Vec::new();
    page.render_options_section(&mut sections)?;
    out.write_all(b".SH OPTIONS\n")?;
    for line in sections.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(b".SH ") {
            Some(heading) => {
                out.write_all(b".SS ")?;
                out.write_all(heading)?;
            }
            None => out.write_all(line)?,
        }
    }
    Ok(())
}

fn commands(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for sub in command.get_subcommands() {
        let mut usage = format!("{} {}", command.get_name(), sub.get_name());
        let options: Vec<_> = sub.get_opts().filter(|option| !option.is_global_set()).collect();
        if !options.is_empty() {
            usage += " [OPTIONS]";
        }
        for argument in sub.get_positionals() {
            let values = argument.get_possible_values();
            let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
            usage += &match argument.get_value_names().unwrap_or_default() {
                [name, ..] if names.is_empty() && argument.get_action().takes_values() => {
                    let dots =
                        if matches!(argument.get_action(), ArgAction::Append) { "..." } else { "" };
                    format!(" {name}{dots}")
                }
                _ => format!(" {}", names.join("|")),
            };
        }
        roff.control("TP", []);
        roff.text([bold(usage)]);
        let about = sub.get_long_about().or(sub.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        for (index, paragraph) in about.split("\n\n").enumerate() {
            if index > 0 {
                roff.control("IP", []);
            }
            roff.text([roman(paragraph)]);
        }
        // The others are those of the command itself.
        let own =
            |option: &&&Arg| command.get_opts().all(|other| other.get_id() != option.get_id());
        for option in options.iter().filter(own) {
            roff.control("IP", []);
            let value = option.get_value_names().unwrap_or_default().join(" ");
            let about = option.get_long_help().or(option.get_help());
            let about = about.map(ToString::to_string).unwrap_or_default().replace("\n\n", ". ");
            roff.text([
                bold(format!("--{} {value}", option.get_long().unwrap_or_default())),
                roman(format!(": {about}")),
            ]);
        }
    }
    roff
}

fn section(roff: &mut Roff, heading: &str, list: &[Entry]) {
    roff.control("SH", [heading]);
    entries(roff, list);
}

fn entries(roff: &mut Roff, list: &[Entry]) {
    for (term, text) in list {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*text)]);
    }
}

fn examples(roff: &mut Roff) {
    roff.control("SH", ["EXAMPLES"]);
    for Example { purpose, command } in EXAMPLES {
        roff.control("PP", []);
        roff.text([roman(purpose)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        roff.text([bold(command)]);
        roff.control("fi", []);
        roff.control("RE", []);
    }
}

#[cfg(test)]
mod tests {
    use offwake::render::Format;
    use offwake_shared::Loss;
    use serde_json::Value;

    use super::*;

    /// Asserts that the name of each member of a JSON value, and of those within, is in the entries.
    pub(super) fn assert_explained(entries: &[Entry], value: &Value) {
        let text: String =
            entries.iter().flat_map(|(term, text)| [*term, " ", *text, " "]).collect();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        check(value, &words);
    }

    /// Losses are explained elsewhere.
    fn check(value: &Value, words: &[&str]) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    assert!(words.contains(&&**name), "{name} is missing");
                    if !matches!(name.as_str(), "lost" | "losses") {
                        check(value, words);
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| check(value, words)),
            _ => {}
        }
    }

    #[test]
    fn every_loss_and_every_format_is_explained() {
        for loss in Loss::ALL {
            assert!(LOSSES.contains(loss.name()), "{} is missing", loss.name());
        }
        let formats = OUTPUT_FORMATS.map(|(term, _)| term.split(' ').next().unwrap());
        assert_eq!(formats, Format::ALL.map(Format::name));
    }
}
