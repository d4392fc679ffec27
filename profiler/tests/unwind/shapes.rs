//! Stacks of all shapes that a compiler or a program can give them.

use std::collections::BTreeSet;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::compare::{
    Compared, LOOKS, Share, assert_complete, compare, compare_share, is_at, is_recorded,
    stacks_asleep, user_frames,
};
use crate::harness::gdb::{looks, stacks};
use crate::harness::program::{Program, compile, pause, source};
use crate::support::profile::{Frame, Profile, Wait, names, sum};
use crate::support::recorder::Recorder;
use crate::support::signal;

const NESTED: [&str; 4] = ["doze", "inner", "middle", "outer"];

/// Compiles the shapes' program with these flags, and starts a thread of each shape.
fn start(directory: &TempDir, flags: &[&str], shapes: &[&str]) -> Program {
    let path = compile(directory.path(), "shapes", &source("shapes.c"), flags);
    Program::start(Command::new(path).args(shapes))
}

/// Records and compares these shapes.
fn compare_shapes(shapes: &[&str]) -> (Profile, Compared) {
    let directory = TempDir::new().unwrap();
    let program = start(&directory, &[], shapes);
    let profile = program.record(&[]);
    let compared = compare(&profile, &stacks_asleep(&profile, program.pid()));
    assert_eq!(compared.len(), shapes.len() + 1, "{compared:?}");
    compared.assert_in("shapes", &[&NESTED[..], &["main"]].concat());
    (profile, compared)
}

#[test]
fn frames_of_all_kinds() {
    let _turn = turn!();
    let (_, compared) =
        compare_shapes(&["plain", "raw", "registers", "rubbish", "realigned", "alloca", "large"]);
    compared.assert_in("plain", &NESTED).assert_in("raw", &["raw", "run"]);
    for shape in ["registers", "rubbish", "realigned", "large"] {
        compared.assert_in(shape, &[&NESTED[..], &[shape]].concat());
    }
    compared.assert_in("alloca", &[&NESTED[..], &["on_alloca", "on_alloca"]].concat());
}

#[test]
fn recursion() {
    let _turn = turn!();
    let (_, compared) = compare_shapes(&["recursion20", "recursion60"]);
    compared.assert_deep("recursion20", 20).assert_deep("recursion60", 60);
}

/// Where waits are sampled, most of those that go on at the end were not going to be recorded: their stacks are taken then.
#[test]
fn waits_that_go_on_at_the_end() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let shapes = ["plain", "registers", "rubbish", "realigned", "alloca", "large"];
    let program = start(&directory, &[], &shapes);
    let recorder = program.start_recording(&["--overhead", "0.01"]);
    pause();
    signal(program.pid(), libc::SIGSTOP);
    pause();
    let profile = recorder.stop().profile;
    signal(program.pid(), libc::SIGCONT);
    compare(&profile, &stacks_asleep(&profile, program.pid()));
    let stopped = profile.waits.iter().filter(|wait| wait.waker.kind == "not_woken");
    assert_eq!(stopped.clone().count(), shapes.len() + 1, "{stopped:#?}");
    assert!(stopped.clone().all(|wait| user_frames(wait).count() > 1), "{stopped:#?}");
}

/// A walk by frame pointers that looks at no word of the stack, only at its registers, is not walked each time.
#[test]
fn a_stack_that_ends_where_it_begins_is_remembered() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let program = start(&directory, &[], &["headless"]);
    let pid = program.pid().to_string();
    // Without its kernel stack, each wait has this one.
    let recorder = Recorder::start(&["-p", &pid, "--unwind", "fp", "-U"]);
    pause();
    let recorded = recorder.stop();
    let profile = &recorded.profile;
    let own = profile.waits.iter().filter(|wait| wait.sleeper.comm == "headless");
    let asleep: Vec<&Wait> = own.filter(|wait| wait.state == "interruptible").collect();
    assert!(asleep.iter().all(|wait| names(&wait.sleeper_stack) == ["headless"]), "{asleep:#?}");
    let waits = sum(asleep, |wait| wait.count);
    let remembered = recorded.remembered();
    assert!(waits > 20 && profile.lost("user_stack_broken") >= waits, "{waits}: {recorded:?}");
    if recorded.remembers() {
        assert!(remembered * 4 > waits * 3, "{remembered} of {waits}");
    }
}

/// As many frames as there is room for, and it is said that there are more.
#[test]
fn a_stack_that_is_too_deep_is_truncated() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let program = start(&directory, &[], &["recursion300"]);
    let profile = program.record(&[]);
    let stacks = stacks(program.pid());
    let (&tid, stack) = stacks.iter().find(|(_, stack)| stack.comm == "recursion300").unwrap();
    assert!(stack.frames.len() > 300, "{}", stack.frames.len());
    let mut truncated = 0;
    for wait in profile.of(tid).filter(|wait| user_frames(wait).next().is_some()) {
        // Preempted it may be anywhere.
        if wait.state == "preempted" {
            continue;
        }
        let depth = user_frames(wait).count();
        assert!(depth >= 126, "{depth} frames");
        let mut frames = user_frames(wait).zip(&stack.frames);
        assert!(frames.all(|(frame, expected)| is_at(frame, expected)), "{wait:?}");
        truncated += wait.count;
    }
    let lost = profile.lost("user_stack_truncated");
    assert!(truncated > 0 && lost >= truncated, "{truncated}: {:?}", profile.losses);
}

#[test]
fn signal_handlers() {
    let _turn = turn!();
    let shapes = ["handler", "interrupted", "alt_below", "alt_above"];
    let (_, compared) = compare_shapes(&shapes);
    for shape in shapes {
        compared.assert_in(shape, &[&NESTED[..], &["on_signal", shape, "run"]].concat());
    }
}

/// Another stack, whose first function says that it has no caller: that is where the stack is complete.
#[test]
fn a_coroutine_ends_at_its_first_function() {
    let _turn = turn!();
    let (_, compared) = compare_shapes(&["hop"]);
    compared.assert_in("hop", &[&NESTED[..], &["hop_entry"]].concat());
}

/// The first function of its stack has no call frame information, and that of glibc's coroutines none for the
/// byte before it, where the return address leads: nobody can know whether a caller is missing.
#[test]
fn a_coroutine_with_an_unknown_first_function_is_broken() {
    let _turn = turn!();
    for (shape, known) in [("wild", &["wild_entry"][..]), ("context", &[])] {
        let directory = TempDir::new().unwrap();
        let program = start(&directory, &[], &[shape]);
        let profile = program.record(&[]);
        let threads = stacks(program.pid());
        let (&tid, stack) = threads.iter().find(|(_, stack)| stack.comm == shape).unwrap();
        let last = stack.frames.iter().position(|frame| frame.name.as_deref() == Some("outer"));
        // All that is certain: what is in `outer`, and who called it.
        let mut stack = stack.clone();
        stack.frames.truncate(last.unwrap() + 2);
        let threads = [(tid, stack)].into();
        let compared = compare_share(&profile, &threads, Share::All);
        compared.assert_in(shape, &[&NESTED[..], known].concat());
        // libc's function has no name in the library, and passes for one that starts threads.
        let count = sum(profile.of(tid), |wait| wait.count);
        let broken = profile.lost("user_stack_broken");
        assert!(shape == "context" || broken * 2 > count, "{count}: {:?}", profile.losses);
    }
}

#[test]
fn executables_of_all_kinds() {
    let _turn = turn!();
    for flags in [&["-no-pie"][..], &["-pie"], &["-static"], &["-static-pie"]] {
        let directory = TempDir::new().unwrap();
        let program = start(&directory, flags, &["plain", "registers", "realigned", "handler"]);
        let profile = program.record(&[]);
        let compared = compare(&profile, &stacks_asleep(&profile, program.pid()));
        assert_eq!(compared.len(), 5, "{flags:?}: {compared:?}");
        compared.assert_in("shapes", &[&NESTED[..], &["main"]].concat());
        compared.assert_in("realigned", &[&NESTED[..], &["realigned", "run"]].concat());
    }
}

/// Where the page that an instruction needs is not there, a thread sleeps at any instruction.
#[test]
fn page_faults_in_prologues_and_the_vdso_and_linkage_stubs() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let flags = ["-shared", "-fPIC", "-Wl,-z,lazy", "-Wl,-z,norelro"];
    let library = compile(directory.path(), "libfar.so", &source("far.c"), &flags);
    let path = compile(directory.path(), "faults", &source("faults.c"), &["-ldl"]);
    let program = Program::start(Command::new(path).arg(library));
    let profile = program.record(&[]);
    let pid = program.pid();
    let all = [("vdso", "ask_time"), ("plt", "call_far"), ("growing", "descend_from")];
    let mut found = BTreeSet::<(&str, &str)>::new();
    for mut threads in (0..4).flat_map(|_| looks(pid, 2 * LOOKS)) {
        // That its stack was recorded, of so many, is likely, and not certain. The server wakes the others, and gdb may
        // find one just woken.
        threads.retain(|&tid, stack| stack.comm != "growing" || is_recorded(&profile, tid, stack));
        let compared = compare_share(&profile, &threads, Share::Any);
        assert_complete(&profile, &threads);
        found.extend(all.iter().filter(|(comm, function)| compared.has(comm, &[function])));
        if found.len() == all.len() {
            break;
        }
    }
    assert_eq!(found.len(), all.len(), "found asleep: {found:?}; {:?}", profile.losses);
    // What this is about: the vDSO and the stub were innermost.
    let innermost: Vec<&Frame> =
        profile.waits.iter().filter_map(|wait| user_frames(wait).next()).collect();
    for module in ["vdso", "libfar.so"] {
        let is_in = |frame: &&Frame| frame.module.as_deref() == Some(module);
        assert!(innermost.iter().any(is_in), "{module}: {innermost:?}");
    }
}

/// The other ways to unwind: by nothing but call frame information, and by nothing but frame pointers.
#[test]
fn what_unwind_is_told() {
    let _turn = turn!();
    for (unwind, flag) in [("cfi", "-fomit-frame-pointer"), ("fp", "-fno-omit-frame-pointer")] {
        let directory = TempDir::new().unwrap();
        let program = start(&directory, &[flag], &["plain", "raw"]);
        let recorder = Recorder::start(&["--unwind", unwind, "-p", &program.pid().to_string()]);
        pause();
        let profile = recorder.stop().profile;
        let threads = stacks_asleep(&profile, program.pid());
        if unwind == "cfi" {
            assert_eq!(compare(&profile, &threads).len(), 3);
            continue;
        }
        // libc has no frame pointers: the caller of the blocking call, and the start, are lost.
        let (&tid, _) = threads.iter().find(|(_, stack)| stack.comm == "plain").unwrap();
        for wait in profile.waits_in(tid, "inner").filter(|wait| wait.state != "preempted") {
            let names = names(&wait.sleeper_stack);
            assert!(
                ["middle", "outer", "run"].iter().all(|name| names.contains(name)),
                "{names:?}"
            );
            assert!(!names.contains(&"doze"), "{names:?}");
        }
        assert!(profile.waits_in(tid, "inner").count() > 0, "{:?}", profile.losses);
    }
}
