//! Threads that sleep in what std offers for that.

use std::hint::black_box;
use std::io::Write;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, Mutex};
use std::thread::{self, Builder};
use std::time::Duration;

const TIME: Duration = Duration::from_millis(2);

static LOCK: Mutex<u64> = Mutex::new(0);

#[inline(never)]
fn on_park() {
    loop {
        thread::park_timeout(TIME);
    }
}

#[inline(never)]
fn on_channel(receiver: &Receiver<u64>) {
    while receiver.recv_timeout(TIME).is_err() {}
}

#[inline(never)]
fn on_condition() {
    let (lock, never) = (Mutex::new(()), Condvar::new());
    let mut guard = lock.lock().unwrap();
    loop {
        guard = never.wait_timeout(guard, TIME).unwrap().0;
    }
}

#[inline(never)]
fn on_mutex() {
    loop {
        *LOCK.lock().unwrap() += 1;
        thread::sleep(TIME / 2);
    }
}

#[inline(never)]
fn holding() {
    loop {
        let _guard = LOCK.lock().unwrap();
        // In one place only, though the other thread is then lucky if it gets the lock.
        thread::sleep(TIME);
    }
}

#[inline(never)]
fn generic<T: Fn(u64) -> u64>(depth: u64, function: T) -> u64 {
    black_box(function(black_box(depth)))
}

fn on_sleep() {
    let dynamic: Box<dyn Fn(u64) -> u64> = Box::new(|depth| {
        loop {
            thread::sleep(TIME);
            black_box(depth);
        }
    });
    generic(3, |depth| generic(depth, |depth| black_box(&dynamic)(depth)));
}

fn main() {
    let (sender, receiver) = channel();
    let start = |name: &str, function: Box<dyn FnOnce() + Send>| {
        Builder::new().name(name.into()).spawn(function).unwrap()
    };
    start("park", Box::new(on_park));
    start("channel", Box::new(move || on_channel(&receiver)));
    start("condition", Box::new(on_condition));
    start("sleep", Box::new(on_sleep));
    start("mutex", Box::new(on_mutex));
    start("holder", Box::new(holding));
    thread::sleep(Duration::from_millis(100));
    println!("ready");
    std::io::stdout().flush().unwrap();
    on_park();
    black_box(sender);
}
