//! C++, Rust and Python.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::compare::{Share, assert_complete, compare, compare_share, stacks_asleep};
use crate::harness::program::{Program, compile, compile_rust, source};

#[test]
fn exceptions_and_the_library_of_cpp() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let path = compile(directory.path(), "exceptions", &source("exceptions.cpp"), &["-std=c++17"]);
    let program = Program::start(&mut Command::new(path));
    let profile = program.record(&[]);
    let compared = compare(&profile, &stacks_asleep(&profile, program.pid()));
    compared
        .assert_in("destructor", &["doze", "outer", "~Guard", "guarded", "in_destructor"])
        .assert_in("catch", &["doze", "outer", "in_catch"])
        .assert_in("function", &["doze", "outer", "in_function"])
        .assert_in("condition", &["on_condition"])
        .assert_in("future", &["on_future"])
        .assert_in("sleep", &["in_sleep"])
        .assert_in("exceptions", &["doze", "outer", "main"]);
}

#[test]
fn rust_without_frame_pointers() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let path = compile_rust(directory.path(), "parked", &source("parked.rs"));
    let program = Program::start(&mut Command::new(path));
    let profile = program.record(&[]);
    // The two with the lock sleep and wait for each other, each in more than one place.
    let threads = stacks_asleep(&profile, program.pid());
    let compared = compare_share(&profile, &threads, Share::All);
    assert_complete(&profile, &threads);
    compared
        .assert_in("park", &["on_park"])
        .assert_in("channel", &["on_channel"])
        .assert_in("condition", &["on_condition"])
        .assert_in("sleep", &["generic"])
        .assert_in("parked", &["on_park", "main"]);
    assert!(compared.has("mutex", &["on_mutex"]) || compared.has("holder", &["holding"]));
}

/// The interpreter of the system, as it was built: Python's functions are calls within it.
#[test]
fn python() {
    let _turn = turn!();
    let interpreter = Path::new("/usr/bin/python3");
    if !interpreter.exists() {
        return crate::skip::skip("python", "there is no /usr/bin/python3");
    }
    let program = Program::start(Command::new(interpreter).arg(source("sleepers.py")));
    let profile = program.record(&[]);
    let threads = stacks_asleep(&profile, program.pid());
    assert_complete(&profile, &threads);
    // Where they wait for a lock of the program, they sometimes wait for the interpreter's.
    let compared = compare_share(&profile, &threads, Share::Half);
    assert_eq!(compared.len(), 5, "{compared:?}");
    // Five functions, each called from C, and the thread's start.
    compared.assert_deep("python3", 25);
}
