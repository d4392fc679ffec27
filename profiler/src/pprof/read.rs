//! pprof → a profile.
//!
//! Our own fields are missing in what another tool has written, such as `go tool pprof -proto`. Then
//! a mapping named [`schema::KERNEL`] is the kernel, the last part of another's path is the module,
//! and a function named as the label of its place is none.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use offwake_shared::{Loss, WaitState};
use prost::Message;

use super::fields::{Value, fields, packed};
use super::schema::{self, KERNEL, comment, field, label};
use crate::profile::{
    Estimate, Frame, FrameId, Histogram, Losses, Meta, Module, Profile, Stack, Thread, ThreadTotal,
    Wait, Waker,
};
use crate::saved::Budget;

/// The most bytes that a byte of a message becomes while it is decoded: two of them may be a label, or a
/// line, in a list that is moved as it grows.
const MOST_DECODED: usize = 64;

/// The most entries of a table: samples, locations, lines of locations, …
const MAX_ENTRIES: usize = 1 << 22;

/// Reads an unpacked profile.
///
/// # Errors
/// One line that tells what is wrong, and at which byte.
pub(crate) fn read(bytes: &[u8], budget: &mut Budget) -> Result<Profile> {
    let tables = Tables::read(bytes, budget)?;
    let types = tables.sample_types()?;
    let mut reader =
        Reader { tables: &tables, types, budget, frames: Vec::new(), stacks: HashMap::new() };
    let mut waits = Vec::with_capacity(tables.samples.len());
    for (offset, bytes) in &tables.samples {
        let context = || format!("sample at byte {offset}");
        let wait = reader.wait(bytes).with_context(context)?;
        waits.push(wait);
    }
    let frames = reader.frames;
    let (meta, losses) = tables.meta(budget)?;
    let modules = tables.modules(budget)?;
    Ok(Profile::new(meta, losses, frames, waits).with_modules(modules))
}

/// Everything that samples refer to, and where the samples are.
#[derive(Default)]
struct Tables<'a> {
    strings: Vec<&'a str>,
    types: Vec<schema::ValueType>,
    samples: Vec<(usize, &'a [u8])>,
    mappings: HashMap<u64, schema::Mapping>,
    /// In the order of the file.
    mapping_ids: Vec<u64>,
    locations: HashMap<u64, schema::Location>,
    functions: HashMap<u64, schema::Function>,
    comments: Vec<i64>,
    time_nanos: i64,
    duration_nanos: i64,
    lines: usize,
}

impl<'a> Tables<'a> {
    fn read(bytes: &'a [u8], budget: &mut Budget) -> Result<Self> {
        let mut tables = Self::default();
        for field in fields(bytes) {
            let field = field?;
            let context = || format!("byte {}", field.offset);
            match field.value {
                Value::Number(number) => tables.add_number(field.number, number, budget),
                Value::Bytes(bytes) => tables.add_bytes(field.number, field.offset, bytes, budget),
                Value::Other => Ok(()),
            }
            .with_context(context)?;
        }
        ensure!(!tables.strings.is_empty(), "not a pprof profile: it has no strings");
        Ok(tables)
    }

    fn add_number(&mut self, field: u64, number: u64, budget: &mut Budget) -> Result<()> {
        match field {
            field::TIME_NANOS => self.time_nanos = number as i64,
            field::DURATION_NANOS => self.duration_nanos = number as i64,
            field::COMMENT => {
                check_length("comments", self.comments.len())?;
                budget.take(size_of_val(&number))?;
                self.comments.push(number as i64);
            }
            _ => {}
        }
        Ok(())
    }

    fn add_bytes(
        &mut self,
        field: u64,
        offset: usize,
        bytes: &'a [u8],
        budget: &mut Budget,
    ) -> Result<()> {
        if field != field::STRING_TABLE && field != field::SAMPLE {
            budget.expect(MOST_DECODED * bytes.len())?;
        }
        match field {
            field::SAMPLE_TYPE => {
                ensure!(self.types.len() < 64, "more than 64 types of values");
                self.types.push(schema::ValueType::decode(bytes)?);
            }
            field::SAMPLE => {
                check_length("samples", self.samples.len())?;
                budget.take(size_of_val(&(offset, bytes)))?;
                self.samples.push((offset, bytes));
            }
            field::MAPPING => {
                check_length("mappings", self.mappings.len())?;
                budget.take(size_of::<u64>())?;
                let mapping = schema::Mapping::decode(bytes)?;
                self.mapping_ids.push(mapping.id);
                insert("mapping", &mut self.mappings, mapping.id, mapping, budget)?;
            }
            field::LOCATION => {
                let location = schema::Location::decode(bytes)?;
                self.lines += location.line.len();
                budget.take(size_of_val(&location.line[..]))?;
                check_length("locations", self.locations.len())?;
                check_length("lines", self.lines)?;
                insert("location", &mut self.locations, location.id, location, budget)?;
            }
            field::FUNCTION => {
                check_length("functions", self.functions.len())?;
                let function = schema::Function::decode(bytes)?;
                insert("function", &mut self.functions, function.id, function, budget)?;
            }
            field::STRING_TABLE => {
                check_length("strings", self.strings.len())?;
                budget.take(size_of::<&str>())?;
                self.strings.push(str::from_utf8(bytes).context("a string that is no UTF-8")?);
            }
            field::COMMENT => {
                for number in packed(bytes) {
                    self.add_number(field, number?, budget)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn string(&self, index: i64) -> Result<&'a str> {
        let string = usize::try_from(index).ok().and_then(|index| self.strings.get(index));
        string.copied().with_context(|| format!("there is no string {index}"))
    }

    fn sample_types(&self) -> Result<Types> {
        let mut names = Vec::new();
        for kind in &self.types {
            names.push(self.string(kind.kind)?);
        }
        let find = |name| names.iter().position(|other| *other == name);
        match (find(schema::BLOCKED), find(schema::RUNQUEUE), find(schema::COUNT)) {
            (Some(blocked), Some(runqueue), Some(count)) => {
                Ok(Types { blocked, runqueue, count, all: names.len() })
            }
            _ => bail!("not a profile of offwake: its values are {:?}", names.join(", ")),
        }
    }

    fn meta(&self, budget: &mut Budget) -> Result<(Meta, Losses)> {
        let since = Duration::from_nanos(self.time_nanos.unsigned_abs());
        let started = if self.time_nanos < 0 {
            SystemTime::UNIX_EPOCH - since
        } else {
            SystemTime::UNIX_EPOCH + since
        };
        let duration =
            u64::try_from(self.duration_nanos).ok().context("its duration is negative")?;
        let mut meta = Meta {
            started,
            duration: Duration::from_nanos(duration),
            kernel: String::new(),
            probe: String::new(),
            wake_source: None,
            targets: Vec::new(),
            sampling: None,
        };
        let mut losses = Losses::default();
        for &index in &self.comments {
            let text = self.string(index)?;
            budget.take_text(text)?;
            if let Some(kernel) = text.strip_prefix(comment::KERNEL) {
                meta.kernel = kernel.into();
            } else if let Some(probe) = text.strip_prefix(comment::PROBE) {
                meta.probe = probe.into();
            } else if let Some(how) = text.strip_prefix(comment::WAKE_SOURCE) {
                meta.wake_source = Some(how.into());
            } else if let Some(target) = text.strip_prefix(comment::TARGET) {
                meta.targets.push(target.into());
            } else if let Some(loss) = text.strip_prefix(comment::LOSS) {
                let (loss, count) = read_loss(loss)?;
                losses.add(loss, count);
            } else if let Some(sampling) = text.strip_prefix(comment::SAMPLING) {
                let (ceiling_ppm, spent_ppm) = read_sampling(sampling)?;
                let sampling = meta.sampling.get_or_insert_default();
                (sampling.ceiling_ppm, sampling.spent_ppm) = (ceiling_ppm, spent_ppm);
            } else if let Some(thread) = text.strip_prefix(comment::THREAD) {
                meta.sampling.get_or_insert_default().threads.push(read_thread(thread)?);
            }
        }
        if let Some(sampling) = &mut meta.sampling {
            sampling.normalize();
        }
        Ok((meta, losses))
    }

    fn modules(&self, budget: &mut Budget) -> Result<Vec<Module>> {
        let mut modules = Vec::new();
        for id in &self.mapping_ids {
            let mapping = &self.mappings[id];
            let build_id = self.string(mapping.build_id)?;
            let place = self.place(mapping)?;
            let is_module = mapping.is_module.unwrap_or(!build_id.is_empty() && !place.kernel);
            if let Some(name) = place.module
                && is_module
            {
                let path = self.string(mapping.filename)?;
                for text in [name, path, build_id] {
                    budget.take_text(text)?;
                }
                // A second one, while they are sorted out.
                budget.take(2 * size_of::<Module>())?;
                modules.push(Module {
                    name: name.into(),
                    path: path.into(),
                    build_id: unhex(build_id).with_context(|| format!("mapping {id}"))?,
                });
            }
        }
        Ok(modules)
    }

    fn place(&self, mapping: &schema::Mapping) -> Result<Place<'a>> {
        let file = self.string(mapping.filename)?;
        let Some(kernel) = mapping.kernel else { return Ok(Place::by_convention(file)) };
        Ok(Place { kernel, module: mapping.module.map(|module| self.string(module)).transpose()? })
    }
}

/// Fails when a table is full.
fn check_length(what: &str, length: usize) -> Result<()> {
    ensure!(length < MAX_ENTRIES, "more than {MAX_ENTRIES} {what}");
    Ok(())
}

fn insert<T>(
    what: &str,
    table: &mut HashMap<u64, T>,
    id: u64,
    value: T,
    budget: &mut Budget,
) -> Result<()> {
    ensure!(id != 0, "a {what} has the id 0");
    budget.take_entry::<(u64, T)>(table.len(), table.capacity())?;
    ensure!(table.insert(id, value).is_none(), "a second {what} has the id {id}");
    Ok(())
}

fn read_loss(text: &str) -> Result<(Loss, u64)> {
    let parse = || {
        let (name, count) = text.rsplit_once(' ')?;
        Some((name, count.parse().ok()?))
    };
    let (name, count) = parse().with_context(|| format!("no count of a loss: {text:?}"))?;
    let loss = Loss::ALL.into_iter().find(|loss| loss.name() == name);
    let newer = || format!("the loss {name:?} is unknown: a newer offwake wrote it");
    Ok((loss.with_context(newer)?, count))
}

fn read_sampling(text: &str) -> Result<(u32, u32)> {
    let parse = || {
        let (ceiling, spent) = text.split_once(' ')?;
        Some((ceiling.parse().ok()?, spent.parse().ok()?))
    };
    parse().with_context(|| format!("no figures of sampling: {text:?}"))
}

fn read_thread(text: &str) -> Result<ThreadTotal> {
    let parse = || {
        let mut words = text.splitn(6, ' ');
        let (pid, tid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut number = || words.next()?.parse::<u64>().ok();
        let (count, blocked_ns, runqueue_ns) = (number()?, number()?, number()?);
        let thread = Thread { pid, tid, comm: words.next()?.into() };
        Some(ThreadTotal { thread, count, blocked_ns, runqueue_ns })
    };
    parse().with_context(|| format!("no sums of a thread: {text:?}"))
}

/// The bytes of a build id; `None` where there is none, or another kind of id.
fn unhex(text: &str) -> Result<Option<Vec<u8>>> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits: Option<Vec<u8>> = text.chars().map(|c| Some(c.to_digit(16)? as u8)).collect();
    let bytes = digits.filter(|digits| digits.len() % 2 == 0);
    let bytes =
        bytes.with_context(|| format!("its build id is no hexadecimal number: {text:?}"))?;
    Ok(Some(bytes.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
}

/// Which values of a sample are which, and how many there are.
struct Types {
    blocked: usize,
    runqueue: usize,
    count: usize,
    all: usize,
}

/// Where a frame is.
#[derive(Clone, Copy)]
struct Place<'a> {
    kernel: bool,
    module: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn by_convention(file: &'a str) -> Self {
        let in_kernel = KERNEL[..KERNEL.len() - 1].len();
        if file == KERNEL {
            return Self { kernel: true, module: None };
        }
        if file.starts_with(&KERNEL[..in_kernel])
            && let Some(module) = file[in_kernel..].strip_prefix(':')
        {
            return Self { kernel: true, module: module.strip_suffix(']') };
        }
        let name = file.rsplit('/').next().filter(|name| !name.is_empty() && *name != "[unknown]");
        Self { kernel: false, module: name }
    }
}

struct Reader<'a> {
    tables: &'a Tables<'a>,
    types: Types,
    budget: &'a mut Budget,
    frames: Vec<Frame>,
    /// The frames of each location that was used.
    stacks: HashMap<u64, Vec<FrameId>>,
}

impl Reader<'_> {
    fn wait(&mut self, sample: &[u8]) -> Result<Wait> {
        self.budget.expect(MOST_DECODED * sample.len())?;
        let schema::Sample { location_id, value, label, histogram, estimate } =
            &schema::Sample::decode(sample)?;
        let Types { blocked, runqueue, count, all } = self.types;
        ensure!(value.len() == all, "it has {} values instead of {all}", value.len());
        let value = |index: usize| {
            u64::try_from(value[index]).ok().context("one of its values is negative")
        };
        let labels = Labels::of(label, self.tables)?;
        let histogram = Histogram::new(histogram.iter().copied()).with_context(|| {
            format!("its histogram has more than {} buckets", Histogram::BUCKETS)
        })?;
        let count = value(count)?;
        // So that what bounds the counts bounds all of them. An older offwake wrote none.
        ensure!(histogram.total() <= count, "its histogram has more than its {count} waits");
        // The names of the threads are at both ends.
        let [_, halves @ .., _] = &location_id[..] else { bail!("it has no stack") };
        let mut middle = halves.iter().enumerate().filter(|(_, id)| self.is_name(**id));
        let (Some((middle, _)), None) = (middle.next(), middle.next()) else {
            bail!("its stack has not exactly one -- between sleeper and waker")
        };
        let mut wait = Wait {
            sleeper: labels.sleeper()?,
            waker: labels.waker()?,
            state: labels.state()?,
            count,
            blocked_ns: value(blocked)?,
            runqueue_ns: value(runqueue)?,
            max_ns: labels.number(label::MAX),
            histogram,
            estimate: match estimate[..] {
                [samples, count_error, off_error_ns] => {
                    Estimate { samples, count_error, off_error_ns }
                }
                _ => Estimate::default(),
            },
            sleeper_stack: Stack::new(),
            waker_stack: Stack::new(),
        };
        for &id in &halves[middle + 1..] {
            self.extend(&mut wait.sleeper_stack, id)?;
        }
        for &id in halves[..middle].iter().rev() {
            self.extend(&mut wait.waker_stack, id)?;
        }
        self.budget.take_wait(&wait)?;
        Ok(wait)
    }

    fn is_name(&self, location: u64) -> bool {
        self.tables.locations.get(&location).is_some_and(|location| location.mapping_id == 0)
    }

    fn extend(&mut self, stack: &mut Stack, id: u64) -> Result<()> {
        if !self.stacks.contains_key(&id) {
            let ids = self.location(id).with_context(|| format!("location {id}"))?;
            self.budget.take_allocation(size_of_val(&ids[..]))?;
            let (length, capacity) = (self.stacks.len(), self.stacks.capacity());
            self.budget.take_entry::<(u64, Vec<FrameId>)>(length, capacity)?;
            self.stacks.insert(id, ids);
        }
        for &frame in &self.stacks[&id] {
            // What its name takes; of an unnamed one, about.
            let frame_ref = &self.frames[frame as usize];
            let name = frame_ref.name.as_ref().or(frame_ref.module.as_ref());
            self.budget.take_place(name.map_or(0, String::len))?;
            stack.push(frame);
        }
        Ok(())
    }

    /// The frames of a location, the innermost first.
    fn location(&mut self, id: u64) -> Result<Vec<FrameId>> {
        let tables = self.tables;
        let location = tables.locations.get(&id).context("there is none")?;
        let mapping = tables.mappings.get(&location.mapping_id);
        let mapping = mapping.with_context(|| format!("no mapping {}", location.mapping_id))?;
        let Place { kernel, module } = tables.place(mapping)?;
        let place = Frame {
            name: None,
            module: module.map(Into::into),
            offset: location.address,
            kernel,
            file: None,
            line: None,
            inlined: false,
        };
        let first = self.frames.len();
        for (index, line) in location.line.iter().enumerate() {
            let function = tables.functions.get(&line.function_id);
            let function = function.with_context(|| format!("no function {}", line.function_id))?;
            let name = tables.string(function.name)?;
            let is_unnamed = function.unnamed.unwrap_or_else(|| name == place.label());
            let file = match function.filename {
                // What tools write that know no other way to have no name of a file.
                Some(0) if function.unnamed.is_none() => None,
                file => file,
            };
            let file = file.map(|file| tables.string(file)).transpose()?;
            let number = match line.line {
                Some(number) => {
                    Some(u32::try_from(number).ok().with_context(|| format!("a line {number}"))?)
                }
                None => None,
            };
            let is_last = index + 1 == location.line.len();
            let frame = Frame {
                name: (!is_unnamed).then(|| name.into()),
                file: file.map(Into::into),
                line: number,
                inlined: !is_last || line.inlined.unwrap_or(false),
                ..place.clone()
            };
            self.budget.take_frame(&frame)?;
            self.frames.push(frame);
        }
        if location.line.is_empty() {
            self.budget.take_frame(&place)?;
            self.frames.push(place);
        }
        ensure!(self.frames.len() <= MAX_ENTRIES, "more than {MAX_ENTRIES} frames");
        Ok((first..self.frames.len()).map(|id| id as FrameId).collect())
    }
}

/// The labels of a sample.
struct Labels<'a> {
    texts: HashMap<&'a str, &'a str>,
    numbers: HashMap<&'a str, u64>,
}

impl<'a> Labels<'a> {
    fn of(labels: &[schema::Label], tables: &Tables<'a>) -> Result<Self> {
        let mut found = Self { texts: HashMap::new(), numbers: HashMap::new() };
        for label in labels {
            let key = tables.string(label.key)?;
            if let Some(text) = label.str {
                found.texts.insert(key, tables.string(text)?);
            } else {
                let number = u64::try_from(label.num.unwrap_or(0)).ok();
                found.numbers.insert(key, number.with_context(|| format!("{key:?} is negative"))?);
            }
        }
        Ok(found)
    }

    /// Tools take an empty text for none.
    fn text(&self, key: &str) -> &'a str {
        self.texts.get(key).copied().unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        self.numbers.get(key).copied().unwrap_or(0)
    }

    fn thread(&self, comm: &str, pid: &str, tid: &str) -> Result<Thread> {
        let id =
            |key| u32::try_from(self.number(key)).ok().with_context(|| format!("{key:?} is no id"));
        Ok(Thread { pid: id(pid)?, tid: id(tid)?, comm: self.text(comm).into() })
    }

    fn sleeper(&self) -> Result<Thread> {
        self.thread(label::SLEEPER, label::SLEEPER_PID, label::SLEEPER_TID)
    }

    fn waker(&self) -> Result<Waker> {
        let kind = self.text(label::WAKER_KIND);
        let kinds = [
            Waker::Irq,
            Waker::Preempted,
            Waker::NotWoken,
            Waker::Unknown,
            Waker::Softirq(self.text(label::SOFTIRQ).into()),
            Waker::Task(self.thread(label::WAKER, label::WAKER_PID, label::WAKER_TID)?),
        ];
        let waker = kinds.into_iter().find(|waker| waker.kind() == kind);
        waker.with_context(|| format!("{kind:?} is no kind of waker"))
    }

    fn state(&self) -> Result<WaitState> {
        let name = self.text(label::STATE);
        let state = WaitState::ALL.into_iter().find(|state| state.name() == name);
        state.with_context(|| format!("{name:?} is no state of a thread"))
    }
}
