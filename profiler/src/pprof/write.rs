//! A profile → pprof.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, Write};
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::schema::{self, DELIMITER, KERNEL, NANOSECONDS, SAMPLE_TYPES, comment, label};
use crate::profile::{self, Frame, FrameId, Profile, Wait, Waker};

/// As much is encoded before it is compressed, in bytes.
const CHUNK: usize = 1 << 16;

/// What stands for an empty name of a thread: tools drop functions without a name.
const UNNAMED: &str = "[unnamed]";

/// Writes a profile. Equal profiles give equal bytes.
///
/// # Errors
/// Those of `out` only.
pub(crate) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let mut gzip = GzEncoder::new(out, Compression::default());
    let mut tables = Tables::new(profile);
    let mut buffer = head(profile, &mut tables).encode_to_vec();
    for wait in &profile.waits {
        // Messages one after the other are one message.
        push(&mut buffer, &schema::Profile { sample: vec![tables.sample(wait)], ..no_profile() });
        if buffer.len() >= CHUNK {
            gzip.write_all(&buffer)?;
            buffer.clear();
        }
    }
    push(&mut buffer, &tables.into_message());
    gzip.write_all(&buffer)?;
    gzip.finish()?.flush()
}

fn push(buffer: &mut Vec<u8>, message: &schema::Profile) {
    message.encode(buffer).expect("a vector grows");
}

fn no_profile() -> schema::Profile {
    schema::Profile::default()
}

/// What is said once.
fn head(profile: &Profile, tables: &mut Tables<'_>) -> schema::Profile {
    let profile::Meta { started, duration, kernel, probe, wake_source, targets, sampling } =
        &profile.meta;
    let strings = &mut tables.strings;
    let mut value_type = |(kind, unit): (&str, &str)| schema::ValueType {
        kind: strings.id(kind),
        unit: strings.id(unit),
    };
    let sample_type = SAMPLE_TYPES.map(&mut value_type).into();
    let period_type = Some(value_type(SAMPLE_TYPES[0]));
    let mut comments = vec![
        format!("written by: offwake {}", env!("CARGO_PKG_VERSION")),
        format!("{}{kernel}", comment::KERNEL),
        format!("{}{probe}", comment::PROBE),
    ];
    comments.extend(wake_source.iter().map(|how| format!("{}{how}", comment::WAKE_SOURCE)));
    comments.extend(targets.iter().map(|target| format!("{}{target}", comment::TARGET)));
    let losses = profile.losses.iter();
    comments
        .extend(losses.map(|(loss, count)| format!("{}{} {count}", comment::LOSS, loss.name())));
    if let Some(sampling) = sampling {
        let profile::Sampling { ceiling_ppm, spent_ppm, threads } = sampling;
        comments.extend(profile.describe_sampling());
        comments.push(format!("{}{ceiling_ppm} {spent_ppm}", comment::SAMPLING));
        comments.extend(threads.iter().map(|total| {
            let profile::ThreadTotal { thread, count, blocked_ns, runqueue_ns } = total;
            let profile::Thread { pid, tid, comm } = thread;
            format!("{}{pid} {tid} {count} {blocked_ns} {runqueue_ns} {comm}", comment::THREAD)
        }));
    }
    schema::Profile {
        sample_type,
        time_nanos: match started.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => signed(since.as_nanos()),
            Err(before) => -signed(before.duration().as_nanos()),
        },
        duration_nanos: signed(duration.as_nanos()),
        period_type,
        period: 1,
        comment: comments.iter().map(|text| strings.id(text)).collect(),
        default_sample_type: strings.id(SAMPLE_TYPES[0].0),
        ..no_profile()
    }
}

/// The most that fits, if it does not.
fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Gives each distinct value the next number.
struct Numbers<K> {
    ids: HashMap<K, u64>,
    first: u64,
}

impl<K: Clone + Eq + Hash> Numbers<K> {
    fn from(first: u64) -> Self {
        Self { ids: HashMap::new(), first }
    }

    /// The number, and whether it is a new one.
    fn id(&mut self, key: K) -> (u64, bool) {
        let next = self.first + self.ids.len() as u64;
        let id = *self.ids.entry(key).or_insert(next);
        (id, id == next)
    }
}

struct Strings {
    numbers: Numbers<String>,
    table: Vec<String>,
}

impl Strings {
    fn id(&mut self, text: &str) -> i64 {
        if let Some(id) = self.numbers.ids.get(text) {
            return *id as i64;
        }
        self.table.push(text.into());
        self.numbers.id(text.into()).0 as i64
    }
}

/// What samples refer to.
struct Tables<'a> {
    profile: &'a Profile,
    strings: Strings,
    function_ids: Numbers<(String, Option<String>, bool)>,
    functions: Vec<schema::Function>,
    location_ids: Numbers<Key>,
    locations: Vec<schema::Location>,
    /// By `kernel` and `module`.
    mapping_ids: HashMap<(bool, Option<&'a str>), u64>,
    mappings: Vec<schema::Mapping>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The name of a thread, or the delimiter.
    Name(String),
    /// A frame, and before it those that were inlined into it.
    Frames(Box<[FrameId]>),
}

impl<'a> Tables<'a> {
    fn new(profile: &'a Profile) -> Self {
        let mut tables = Self {
            profile,
            strings: Strings { numbers: Numbers::from(0), table: Vec::new() },
            function_ids: Numbers::from(1),
            functions: Vec::new(),
            location_ids: Numbers::from(1),
            locations: Vec::new(),
            mapping_ids: HashMap::new(),
            mappings: Vec::new(),
        };
        tables.strings.id("");
        tables.add_mappings();
        tables
    }

    /// One for each module, and one for each module name of frames that is not exactly one module.
    fn add_mappings(&mut self) {
        let profile = self.profile;
        // They are in order of name.
        for same_name in profile.modules.chunk_by(|a, b| a.name == b.name) {
            for module in same_name {
                let profile::Module { name, path, build_id } = module;
                let id = self.add_mapping(false, Some(name), path, build_id.as_deref());
                if same_name.len() == 1 {
                    self.mapping_ids.insert((false, Some(name)), id);
                }
            }
        }
        for frame in &profile.frames {
            let place = (frame.kernel, frame.module.as_deref());
            let id = match self.mapping_ids.get(&place) {
                Some(&id) => id,
                None => {
                    let file = match place {
                        (true, None) => KERNEL.into(),
                        (true, Some(module)) => {
                            format!("{}:{module}]", &KERNEL[..KERNEL.len() - 1])
                        }
                        (false, None) => "[unknown]".into(),
                        (false, Some(module)) => module.to_owned(),
                    };
                    let id = self.add_mapping(place.0, place.1, &file, None);
                    self.mappings[id as usize - 1].is_module = Some(false);
                    self.mapping_ids.insert(place, id);
                    id
                }
            };
            let mapping = &mut self.mappings[id as usize - 1];
            mapping.has_functions &= frame.name.is_some();
            mapping.has_filenames &= frame.file.is_some();
            mapping.has_line_numbers &= frame.line.is_some();
            mapping.has_inline_frames |= frame.inlined;
        }
    }

    fn add_mapping(
        &mut self,
        kernel: bool,
        module: Option<&str>,
        file: &str,
        build_id: Option<&[u8]>,
    ) -> u64 {
        let id = self.mappings.len() as u64 + 1;
        self.mappings.push(schema::Mapping {
            id,
            memory_limit: u64::MAX,
            filename: self.strings.id(file),
            build_id: self.strings.id(&build_id.map(hex).unwrap_or_default()),
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: false,
            kernel: Some(kernel),
            module: module.map(|module| self.strings.id(module)),
            is_module: Some(true),
        });
        id
    }

    fn sample(&mut self, wait: &Wait) -> schema::Sample {
        let Wait {
            sleeper,
            waker,
            state,
            count,
            blocked_ns,
            runqueue_ns,
            max_ns,
            histogram,
            estimate,
            sleeper_stack,
            waker_stack,
        } = wait;
        let mut location_id = vec![self.name(&waker.label())];
        // Upside down, an inlined function is not below the one it is in.
        location_id.extend(waker_stack.iter().rev().map(|id| self.location(&[*id])));
        location_id.push(self.name(DELIMITER));
        let profile = self.profile;
        location_id.extend(
            sleeper_stack
                .chunk_by(|a, b| is_inlined_into(frame(profile, *a), frame(profile, *b)))
                .map(|frames| self.location(frames)),
        );
        location_id.push(self.name(&sleeper.comm));

        let mut label = vec![
            self.text(label::SLEEPER, &sleeper.comm),
            self.number(label::SLEEPER_PID, sleeper.pid.into(), ""),
            self.number(label::SLEEPER_TID, sleeper.tid.into(), ""),
            self.text(label::STATE, state.name()),
            self.text(label::WAKER_KIND, waker.kind()),
        ];
        match waker {
            Waker::Task(thread) => label.extend([
                self.text(label::WAKER, &thread.comm),
                self.number(label::WAKER_PID, thread.pid.into(), ""),
                self.number(label::WAKER_TID, thread.tid.into(), ""),
            ]),
            Waker::Softirq(name) => label.push(self.text(label::SOFTIRQ, name)),
            Waker::Irq | Waker::Preempted | Waker::NotWoken | Waker::Unknown => {}
        }
        if let Some(source) = wait.source(&profile.frames) {
            label.push(self.text(label::WAKE_SOURCE, source));
        }
        label.push(self.number(label::MAX, *max_ns, NANOSECONDS));
        let off_ns = wait.off_ns();
        let value = [off_ns, *blocked_ns, *runqueue_ns, *count].map(signed).into();
        let profile::Estimate { samples, count_error, off_error_ns } = *estimate;
        let estimate = match *estimate == profile::Estimate::default() {
            true => Vec::new(),
            false => vec![samples, count_error, off_error_ns],
        };
        let histogram = histogram.counts().into();
        schema::Sample { location_id, value, label, histogram, estimate }
    }

    fn text(&mut self, key: &str, text: &str) -> schema::Label {
        let str = Some(self.strings.id(text));
        schema::Label { key: self.strings.id(key), str, num: None, num_unit: 0 }
    }

    fn number(&mut self, key: &str, number: u64, unit: &str) -> schema::Label {
        let num_unit = self.strings.id(unit);
        schema::Label { key: self.strings.id(key), str: None, num: Some(signed(number)), num_unit }
    }

    /// The location that shows a name.
    fn name(&mut self, name: &str) -> u64 {
        let name = if name.is_empty() { UNNAMED } else { name };
        let (id, is_new) = self.location_ids.id(Key::Name(name.into()));
        if is_new {
            let function_id = self.function(name, None, false);
            let line = vec![schema::Line { function_id, ..schema::Line::default() }];
            self.locations.push(schema::Location { id, mapping_id: 0, address: 0, line });
        }
        id
    }

    fn location(&mut self, frames: &[FrameId]) -> u64 {
        let (id, is_new) = self.location_ids.id(Key::Frames(frames.into()));
        if is_new {
            let profile = self.profile;
            let last = frame(profile, frames[frames.len() - 1]);
            let mut line: Vec<schema::Line> = frames
                .iter()
                .map(|&id| {
                    let frame = frame(profile, id);
                    let name = frame.label();
                    let file = frame.file.as_deref();
                    schema::Line {
                        function_id: self.function(&name, file, frame.name.is_none()),
                        line: frame.line.map(Into::into),
                        inlined: None,
                    }
                })
                .collect();
            if let Some(line) = line.last_mut() {
                line.inlined = Some(last.inlined);
            }
            let mapping_id = self.mapping_ids[&(last.kernel, last.module.as_deref())];
            self.locations.push(schema::Location { id, mapping_id, address: last.offset, line });
        }
        id
    }

    fn function(&mut self, name: &str, file: Option<&str>, unnamed: bool) -> u64 {
        let key = (name.to_owned(), file.map(ToOwned::to_owned), unnamed);
        let (id, is_new) = self.function_ids.id(key);
        if is_new {
            self.functions.push(schema::Function {
                id,
                name: self.strings.id(name),
                filename: file.map(|file| self.strings.id(file)),
                unnamed: Some(unnamed),
            });
        }
        id
    }

    fn into_message(self) -> schema::Profile {
        schema::Profile {
            mapping: self.mappings,
            location: self.locations,
            function: self.functions,
            string_table: self.strings.table,
            ..no_profile()
        }
    }
}

fn frame(profile: &Profile, id: FrameId) -> &Frame {
    &profile.frames[id as usize]
}

/// Whether both are one place in the code.
fn is_inlined_into(inner: &Frame, outer: &Frame) -> bool {
    inner.inlined
        && (inner.kernel, &inner.module, inner.offset)
            == (outer.kernel, &outer.module, outer.offset)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
