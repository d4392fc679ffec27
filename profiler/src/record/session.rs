//! One recording from start to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use hashbrown::{HashMap, HashSet};
use offwake_shared::{Counters, ExistingThread, Loss, TASK_KERNEL_THREAD, TaskId, WaitStats};

use super::budget::{Budget, Spent};
use super::collect::{self, Collected, Found};
use super::drain::{Drain, Drainer};
use super::load::Probes;
use super::notices::NoticeReader;
use super::preflight::Unwind;
use super::probe::{Candidates, Probe};
use super::targets::Targets;
use super::unwind::{Unwinder, Worker};
use super::{Config, Figures, Progress, btf, existing, kernel, memory, preflight, scheduler};
use crate::profile::{Losses, Sampling, Thread, ThreadTotal};
use crate::recording::{ImageId, Meta, Recording, UnwindFigures};

/// How often the loop looks at counters, targets and time.
const TICK: Duration = Duration::from_millis(50);
/// How often programs are looked at for libraries that they have loaded.
const REFRESH: Duration = Duration::from_secs(1);

/// See [`super::record`].
pub(super) fn record(
    config: &Config,
    stop: &AtomicBool,
    on_progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Recording> {
    preflight::require()?;
    let how = preflight::unwind(config.unwind)?;
    let mut targets = Targets::find(config)?;
    let wants_cfi = config.user_stacks && how == Unwind::Cfi;
    let mut candidates = Candidates::of(config.probe);
    let Ready { mut probes, mut notices, drainer, unwinder, budget } = loop {
        let probes = Probes::load(&mut candidates, config, &targets.filter, wants_cfi)?;
        let mut ready = Ready::new(probes, config, &targets, on_progress)?;
        match ready.probes.attach() {
            Ok(()) => break ready,
            Err(error) => candidates.failed(ready.probes.probe(), &error),
        }
    };
    let mut found = Found::default();
    let started = SystemTime::now();
    let clock = Instant::now();
    let unwinder_now = unwinder.as_ref();
    add_existing_threads(config, &targets, &mut probes, &notices, unwinder_now, &mut found)?;
    let worker = match unwinder {
        Some(mut unwinder) => {
            unwinder.settle();
            Some(notices.build_tables(unwinder)?)
        }
        None => None,
    };
    // Before a command runs that nobody would record, or end.
    ensure!(!stop.load(Ordering::Relaxed), "a signal came before the recording had begun");
    targets.go()?;

    // From here on nothing ends the recording but its end: what cannot be read now is read later.
    let mut counters = Counters::default();
    let mut refreshed = clock;
    loop {
        let elapsed = clock.elapsed();
        let left = config.duration.map_or(TICK, |duration| duration.saturating_sub(elapsed));
        if left.is_zero() || stop.load(Ordering::Relaxed) || targets.have_ended() {
            break;
        }
        let milliseconds = left.min(TICK).as_micros().div_ceil(1000);
        targets.wait(milliseconds as u64);

        counters = probes.counters().unwrap_or(counters);
        if refreshed.elapsed() >= REFRESH {
            refreshed = Instant::now();
            for image in drainer.with(Collected::take_seen) {
                // One at a time: a notice of a process that is about to end must not wait for all.
                notices.refresh(image);
            }
        }
        on_progress(Progress::Recording(Figures {
            elapsed: clock.elapsed(),
            intervals: counters.intervals,
            stacks: drainer.with(|collected| collected.stacks.len()) as u64,
            lost: losses(&counters, &probes, &notices, &found).lost(),
        }));
    }

    // The stacks of waits that go on would have been taken at their end, or not at all.
    let takes_stacks = probes.probe() == Probe::Kprobe || config.overhead_ppm.is_some();
    let tables = worker.as_ref().filter(|_| takes_stacks).map(Worker::tables);
    let (duration, now) = (clock.elapsed(), monotonic_ns());
    let asleep = threads_asleep(&targets, &mut probes);
    if takes_stacks {
        found.take_stacks(asleep.as_ref(), config, tables.as_deref(), now);
    }
    drop(tables);
    if takes_stacks {
        // A process that was forked may have had no stack before.
        let programs = asleep.iter().flat_map(HashMap::values).filter(|it| it.registers.ip != 0);
        programs.for_each(|it| notices.read(ImageId::of(&it.task), it.start_stack));
    }
    let spent_ppm = budget.map(Budget::finish);
    probes.detach();
    let mut snapshots = notices.finish();
    let mut unwinder = worker.map(Worker::finish);
    counters = probes.counters().unwrap_or(counters);
    let mut collected = drainer.finish();
    let unread = counters.intervals.saturating_sub(collected.intervals);
    for image in collected.take_seen() {
        snapshots.refresh(image);
    }
    let Collected { mut waits, mut stacks, mut accounts, .. } = collected;
    if found.ignored.is_some() {
        waits.retain(|key| !found.ignores(&key.sleeper));
    }
    let _ =
        found.add_open_intervals(&mut waits, &mut accounts, &probes, config, asleep.as_ref(), now);
    scheduler::complete(&mut found.stacks, &waits, &stacks);
    stacks.extend(std::mem::take(&mut found.stacks));
    let sources = collect::sources(&probes).unwrap_or_default();
    let (images, files) = snapshots.finish();
    let mut losses = losses(&counters, &probes, &notices, &found);
    losses.add(Loss::WaitsFull, unread);
    accounts.retain(|thread, _| !found.ignores(thread));
    let sampling = config.overhead_ppm.map(|ceiling_ppm| Sampling {
        ceiling_ppm,
        spent_ppm: spent_ppm.unwrap_or_default(),
        threads: totals(&accounts),
    });
    let meta = Meta {
        started,
        duration,
        kernel: kernel::release(),
        probe: format!("{} ({})", probes.probe().name(), candidates.why()),
        wake_source: probes.wake_source.clone(),
        targets: targets.described,
        sampling,
    };
    let bpf_bytes = memory::of_bpf_maps();
    let unwind =
        unwinder.as_ref().map(|unwinder| UnwindFigures { bpf_bytes, ..unwinder.figures() });
    let mut warnings = unwinder.as_mut().map(Unwinder::take_warnings).unwrap_or_default();
    warnings.extend(self::warnings(config, how, &probes, spent_ppm));
    if losses.get(Loss::ProcessGone) > 0 {
        warnings.extend(preflight::why_no_names());
    }
    Ok(Recording {
        meta,
        waits,
        stacks,
        sources,
        images,
        files,
        losses,
        bpf_bytes,
        remembered_stacks: counters.remembered,
        unwind,
        warnings,
    })
}

/// What a user must know who reads the recording: one line each. `spent_ppm`: with `--overhead`, what the programs took.
fn warnings(
    config: &Config,
    how: Unwind,
    probes: &Probes,
    spent_ppm: Option<Spent>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if let (Some(ceiling), Some(spent)) = (config.overhead_ppm, spent_ppm)
        && spent > ceiling / 5 * 6
    {
        warnings.push(format!(
            "the recording took {:.2} % of the CPU instead of {} %: to look at each switch of threads, and to \
             record a few waits of each thread and place, takes more here",
            f64::from(spent) / 1e4,
            f64::from(ceiling) / 1e4,
        ));
    }
    let why_not = match how {
        Unwind::OnlyFp(why) => Some(why.to_owned()),
        Unwind::Cfi if config.user_stacks && !probes.unwinds => Some(btf::needed()),
        _ => None,
    };
    if let Some(why) = why_not {
        warnings.push(format!(
            "user stacks were walked by frame pointers: call frame information {why}"
        ));
    }
    if config.user_stacks && !probes.has_types() {
        warnings.push(
            "without the kernel's type information (BTF), waits that began before the recording \
             have no user stack, and user stacks that led astray are not told from others"
                .into(),
        );
    }
    warnings
}

/// See [`super::measure`]. `None`: user stacks are walked by frame pointers.
pub(super) fn measure(config: &Config) -> Result<Option<UnwindFigures>> {
    preflight::require()?;
    let targets = Targets::find(config)?;
    if preflight::unwind(config.unwind)? == Unwind::Cfi {
        let mut candidates = Candidates::of(config.probe);
        let mut probes = Probes::load(&mut candidates, config, &targets.filter, true)?;
        if !probes.unwinds {
            return Ok(None);
        }
        let notices = NoticeReader::start(probes.take_notices()?)?;
        let mut unwinder = Unwinder::new(probes.take_unwind_maps()?, &config.capacity);
        prepare(&mut unwinder, &targets, &mut probes, &notices, &mut |_| {})?;
        let bpf_bytes = memory::of_bpf_maps();
        return Ok(Some(UnwindFigures { bpf_bytes, ..unwinder.figures() }));
    }
    Ok(None)
}

/// All that must be there before the first event.
struct Ready {
    probes: Probes,
    notices: NoticeReader,
    drainer: Drainer,
    /// `None`: user stacks are walked by frame pointers.
    unwinder: Option<Unwinder>,
    budget: Option<Budget>,
}

impl Ready {
    fn new(
        mut probes: Probes,
        config: &Config,
        targets: &Targets,
        on_progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Self> {
        let notices = NoticeReader::start(probes.take_notices()?)?;
        let drainer = Drainer::start(Drain::new(probes.take_drained_maps()?, config.capacity))?;
        let mut unwinder = match probes.unwinds {
            true => Some(Unwinder::new(probes.take_unwind_maps()?, &config.capacity)),
            false => None,
        };
        if let Some(unwinder) = &mut unwinder {
            prepare(unwinder, targets, &mut probes, &notices, on_progress)?;
        }
        let budget = match config.overhead_ppm {
            Some(ceiling_ppm) => Some(Budget::start(probes.budget()?, ceiling_ppm)?),
            None => None,
        };
        probes.attach_callbacks()?;
        Ok(Self { probes, notices, drainer, unwinder, budget })
    }
}

/// Builds the unwind tables of the programs that are going to be recorded.
fn prepare(
    unwinder: &mut Unwinder,
    targets: &Targets,
    probes: &mut Probes,
    notices: &NoticeReader,
    on_progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<()> {
    let mut ids = HashSet::new();
    for thread in matching_threads(targets, probes)? {
        let id = ImageId::of(&thread.task);
        let is_program = thread.task.flags & TASK_KERNEL_THREAD == 0;
        if is_program && targets.command_pid() != Some(id.tgid) {
            ids.insert(id);
            notices.read(id, thread.start_stack);
        }
    }
    let ids: Vec<ImageId> = ids.into_iter().collect();
    let (mut wanted, codes) = notices.with(|snapshots| unwinder.look_at(&ids, snapshots));
    // The command waits before `execve`: by its first instruction the table is there.
    if let Some(file) = targets.command_file()
        && let Some(ahead) = notices.with(|snapshots| unwinder.look_ahead(file, snapshots))
        && wanted.iter().all(|other| other.source != ahead.source)
    {
        wanted.push(ahead);
    }
    let total = wanted.len() as u64;
    let mut progress = |done: usize| on_progress(Progress::Preparing { done: done as u64, total });
    progress(0);
    unwinder.add_files(wanted, &mut progress)?;
    for (id, code) in codes {
        unwinder.set_program(id, &code, false)?;
    }
    Ok(())
}

/// The threads that exist and pass the filter.
fn matching_threads(
    targets: &Targets,
    probes: &mut Probes,
) -> Result<impl Iterator<Item = ExistingThread> + use<>> {
    let in_cgroup = existing::threads_in_cgroup(&targets.filter);
    let threads = probes.existing_threads()?.into_iter();
    Ok(threads.filter(move |thread| {
        in_cgroup.as_ref().is_none_or(|tids| tids.contains(&thread.task.tid))
    }))
}

/// Threads that sleep now began to before the recording. Without this, a thread that is not woken
/// until the end would not be seen at all.
fn add_existing_threads(
    config: &Config,
    targets: &Targets,
    probes: &mut Probes,
    notices: &NoticeReader,
    unwinder: Option<&Unwinder>,
    found: &mut Found,
) -> Result<()> {
    let now = monotonic_ns();
    for thread in matching_threads(targets, probes)? {
        let id = ImageId::of(&thread.task);
        // The command has not started: what waits now is a copy of offwake.
        if targets.command_pid() == Some(id.tgid) {
            found.ignored = Some(id);
            continue;
        }
        let wait = existing::wait_of(&thread, config, now, unwinder, &mut found.stacks);
        if let Some(wait) = wait {
            if wait.sleeper_user != 0 {
                notices.read(id, thread.start_stack);
            }
            if probes.add_thread(thread.key, wait)? {
                found.added.insert(thread.key, now);
            } else {
                found.not_added += 1;
            }
        }
    }
    Ok(())
}

/// The threads that exist, pass the filter and do not run, by their keys; `None` if the kernel does not tell.
fn threads_asleep(targets: &Targets, probes: &mut Probes) -> Option<HashMap<u32, ExistingThread>> {
    let threads = matching_threads(targets, probes).ok()?;
    Some(threads.filter(|thread| thread.on_cpu == 0).map(|thread| (thread.key, thread)).collect())
}

fn losses(counters: &Counters, probes: &Probes, notices: &NoticeReader, found: &Found) -> Losses {
    let mut losses = Losses::default();
    for loss in Loss::ALL {
        losses.add(loss, counters.losses[loss as usize]);
    }
    losses.add(Loss::ThreadsFull, found.not_added);
    losses.add(Loss::ProbeMisses, probes.recursion_misses());
    losses.add(Loss::ProcessGone, notices.gone());
    losses
}

/// The clock that BPF programs read (`bpf_ktime_get_ns`).
pub(super) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What each thread has waited for, whatever programs it ran.
fn totals(accounts: &HashMap<TaskId, WaitStats>) -> Vec<ThreadTotal> {
    let threads = accounts.iter().filter(|(_, stats)| stats.count > 0).map(|(task, stats)| {
        let WaitStats { count, blocked_ns, runqueue_ns, .. } = *stats;
        ThreadTotal { thread: Thread::of(task), count, blocked_ns, runqueue_ns }
    });
    let mut sampling = Sampling { threads: threads.collect(), ..Sampling::default() };
    sampling.normalize();
    sampling.threads
}
