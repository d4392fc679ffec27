//! Names of programs that are gone, replaced, or came later.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::support::build::compile_c;
use crate::support::check::{Floor, check, is_spinlock, never};
use crate::support::profile::{Wait, has, names, sum};
use crate::support::program::Program;
use crate::support::recorder::Recorder;
use crate::support::speed::is_slow;
use crate::support::target::{Target, Waker};
use crate::support::{example, preferred};

#[test]
fn a_waker_that_lived_for_milliseconds_has_names() {
    let _turn = turn!();
    let mut target = Target::spawn(&mut Command::new(example("short_waker")));
    let recorder = Recorder::start(&["-p", &target.players()]);
    let play = target.play();
    let profile = recorder.stop().profile;
    let sleeper = &play.truths[0].sleeper;
    let waits: Vec<_> = profile
        .waits_in(sleeper.thread.tid, &sleeper.function)
        .filter(|wait| !is_spinlock(wait))
        .collect();
    let mut nameless = 0;
    for truth in &play.truths {
        let Waker::Task(waker) = &truth.waker else { panic!("{truth:?}") };
        let by_it = |wait: &&&Wait| wait.waker.thread.as_ref() == Some(&waker.thread);
        let Some(wait) = waits.iter().find(by_it) else { continue };
        assert_eq!((wait.count, &*wait.state), (1, "interruptible"), "{wait:?}");
        nameless += u64::from(!has(&wait.waker_stack, &waker.function));
    }
    // A process may be gone before it was looked at when all CPUs are busy; then that is counted.
    // (With the preference that other targets have, this one would even cause it.)
    let count = play.truths.len() as u64;
    let gone = if is_slow() { count * 3 / 4 } else { count / 4 };
    assert!(nameless <= gone, "{nameless} of {count} have no names: {:?}", profile.losses);
    assert!(nameless <= profile.lost("process_gone"), "{nameless}: {:?}", profile.losses);
    let all =
        sum(waits.iter().copied().filter(|wait| wait.state != "preempted"), |wait| wait.count);
    assert_eq!(all, count);
    let unknown = waits.iter().filter(|wait| wait.waker.kind == "unknown").count() as u64;
    assert!(unknown <= profile.lost("unknown_waker").min(1), "{unknown}: {:?}", profile.losses);
}

#[test]
fn a_deleted_program_has_names() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("condvar");
    fs::copy(example("condvar"), &path).unwrap();
    let mut target = Target::start_program(&path, &["--count", "100"]);
    fs::remove_file(&path).unwrap();
    let recorder = Recorder::start(&["-p", &target.players()]);
    let play = target.play();
    let profile = recorder.stop().profile;
    profile.assert_nothing_lost();
    check(&profile, &play.truths, Floor::LOCAL, never);
}

/// Sleeps of 10 ms in two functions: the inner one is lost to a walk by frame pointers.
const SLEEPER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

__attribute__((noipa)) void INNER(void) {
    struct timespec time = {0, 10000000};
    nanosleep(&time, 0);
    __asm__ volatile("" ::: "memory");
}
__attribute__((noipa)) void OUTER(void) {
    INNER();
    __asm__ volatile("" ::: "memory");
}
"#;
const SLEEPS: u64 = 20;

#[test]
fn a_library_that_is_loaded_during_the_recording_has_names() {
    let _turn = turn!();
    // Where the tables of a library take longer to build, it has to be in use for longer.
    let sleeps = if is_slow() { 10 * SLEEPS } else { SLEEPS };
    let directory = TempDir::new().unwrap();
    let library = compile_c(
        directory.path(),
        "libfresh.so",
        SLEEPER,
        &["-shared", "-fPIC", "-DOUTER=fresh_outer", "-DINNER=fresh_inner"],
    );
    let main = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    (void)argc;
    puts("ready");
    fflush(stdout);
    getchar();
    void *library = dlopen(argv[1], RTLD_NOW);
    void (*function)(void) = library ? (void (*)(void))dlsym(library, "fresh_outer") : 0;
    if (!function) return 1;
    for (int i = 0; i < COUNT; i++) function();
    puts("done");
    fflush(stdout);
    getchar();
    return 0;
}
"#;
    let program = compile_c(directory.path(), "loader", main, &[&format!("-DCOUNT={sleeps}")]);
    let mut program = Program::start(preferred(Command::new(&program).arg(&library)));
    let pid = program.pid();
    let recorder = Recorder::start(&["-p", &pid.to_string()]);
    assert_eq!(program.go_on(), "done");
    let profile = recorder.stop().profile;
    let waits: Vec<_> = profile.waits_in(pid, "fresh_outer").collect();
    let asleep = waits.iter().copied().filter(|wait| wait.state != "preempted");
    // The first may come before the library's tables.
    let (seen, broken) = (sum(asleep, |wait| wait.count), profile.lost("user_stack_broken"));
    assert!(seen <= sleeps && seen + broken >= sleeps, "{seen}, {broken}: {:?}", profile.waits);
    assert!(seen >= sleeps * 8 / 10, "{seen}: {:?}", profile.waits);
    for wait in waits {
        let frame =
            wait.sleeper_stack.iter().find(|frame| frame.name.as_deref() == Some("fresh_outer"));
        assert_eq!(frame.unwrap().module.as_deref(), Some("libfresh.so"));
        assert!(has(&wait.sleeper_stack, "main"), "{:?}", names(&wait.sleeper_stack));
    }
}

/// Both programs have their functions at the same addresses: a name of the other would be found.
#[test]
fn a_program_that_replaces_itself_has_the_names_of_both() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let build = |name: &str, outer: &str, inner: &str, at_end: &str| {
        let main = format!(
            r#"{SLEEPER}
int main(int argc, char **argv) {{
    (void)argc, (void)argv;
    prctl(PR_SET_NAME, "{name}");
    if ({at_end} == 0) {{
        puts("ready");
        fflush(stdout);
        getchar();
    }}
    for (int i = 0; i < 20; i++) OUTER();
    if ({at_end} == 0) return execl(argv[1], argv[1], (char *)0);
    puts("done");
    fflush(stdout);
    getchar();
    return 0;
}}
"#
        );
        let flags = [format!("-DOUTER={outer}"), format!("-DINNER={inner}"), "-no-pie".into()];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        compile_c(directory.path(), name, &main, &flags)
    };
    let second = build("second", "second_outer", "second_inner", "1");
    let first = build("first", "first_outer", "first_inner", "0");
    let mut program = Program::start(preferred(Command::new(&first).arg(&second)));
    let pid = program.pid();
    let recorder = Recorder::start(&["-p", &pid.to_string()]);
    assert_eq!(program.go_on(), "done");
    let profile = recorder.stop().profile;
    // The first sleeps of the second program may come before its unwind tables are there.
    let without_caller = profile.losses["user_stack_broken"];
    for (own, other) in [("first", "second"), ("second", "first")] {
        let outer = format!("{own}_outer");
        let waits: Vec<_> = profile.waits_in(pid, &outer).collect();
        let sleeps = waits.iter().copied().filter(|wait| wait.state != "preempted");
        let seen = sum(sleeps, |wait| wait.count);
        let expected = SLEEPS - without_caller.min(SLEEPS / 2)..=SLEEPS;
        assert!(expected.contains(&seen), "{own}: {seen} of {expected:?}");
        for wait in waits {
            assert_eq!(wait.sleeper.comm, own);
            let modules = wait.sleeper_stack.iter().filter_map(|frame| frame.module.as_deref());
            let names = names(&wait.sleeper_stack);
            assert!(modules.into_iter().all(|module| module != other), "{own}: {wait:?}");
            assert!(names.iter().all(|name| !name.starts_with(other)), "{own}: {names:?}");
        }
    }
}
