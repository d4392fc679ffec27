//! End to end: programs that print where their functions are, a snapshot of the running process,
//! and the names that come out. Needs gcc, g++ and binutils.

mod cost;
mod debug_info;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use offwake_shared::WaitState;

use smallvec::smallvec;

use super::*;
use crate::profile::{Estimate, Histogram, Losses, Module, Profile, Thread, Wait, Waker};
use crate::recording::{Image, Meta, Waits};
use crate::saved::random::Random;
use crate::skip::skip;
use crate::snapshot::{Snapshots, process};

/// An exported function right before a static one, so that the nearest export is the wrong answer;
/// a static one that ends in a call; an assembly function without a size.
const PROGRAM: &str = r#"
    #include <stdio.h>
    #include <stdlib.h>
    __attribute__((noinline)) int exported(int x) { return x * 3 + 1; }
    static __attribute__((noinline)) int hidden(int x) { return x * 5 + 2; }
    static __attribute__((noinline, noreturn)) void last_call(void) { abort(); }
    __asm__(".text\n.type sizeless, @function\nsizeless: nop\nnop\nret\n");
    extern char sizeless[];
    int main(int argc, char **argv) {
        if (argc > 1000) { exported(hidden(argc)); last_call(); }
        printf("%p %p %p %p\n", exported, hidden, last_call, (void *)sizeless);
        fflush(stdout);
        getchar();
        return 0;
    }
"#;

const EXPORTED: usize = 0;
const HIDDEN: usize = 1;
const SIZELESS: usize = 3;

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn compile(compiler: &str, source: &str, program: &Path, arguments: &[&str]) {
    let source_path = program.with_extension(if compiler == "g++" { "cc" } else { "c" });
    std::fs::write(&source_path, source).unwrap();
    run(Command::new(compiler).arg("-O1").arg(&source_path).arg("-o").arg(program).args(arguments));
}

fn compile_c(program: &Path, arguments: &[&str]) {
    compile("gcc", PROGRAM, program, &[&["-rdynamic"], arguments].concat());
}

fn strip(program: &Path) {
    run(Command::new("strip").arg(program));
}

/// A running program, and the addresses that it printed.
struct Target {
    child: Child,
    addresses: Vec<u64>,
}

impl Target {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let parse = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
        let addresses = line.split_whitespace().map(parse).collect();
        Self { child, addresses }
    }

    /// A recording of this process with one stack.
    fn record(&self, frames: &[u64]) -> Recording {
        record(self.child.id(), frames)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const STACK: StackId = 7;

fn record(pid: u32, frames: &[u64]) -> Recording {
    let id = ImageId { tgid: pid, exec_id: 1 };
    let mut snapshots = Snapshots::new();
    snapshots.read(id, process::start_stack(pid).unwrap()).unwrap();
    let (images, files) = snapshots.finish();
    let mut recording = recording(StackContext::User, Some(id), frames);
    recording.images = images;
    recording.files = files;
    recording
}

fn recording(context: StackContext, image: Option<ImageId>, frames: &[u64]) -> Recording {
    let stack = RawStack { context, image, frames: frames.into(), end: StackEnd::Complete };
    Recording {
        meta: Meta {
            started: SystemTime::UNIX_EPOCH,
            duration: Duration::from_secs(1),
            kernel: String::new(),
            probe: String::new(),
            wake_source: None,
            targets: Vec::new(),
            sampling: None,
        },
        waits: Waits::default(),
        stacks: HashMap::from_iter([(STACK, stack)]),
        sources: Default::default(),
        images: HashMap::new(),
        files: Vec::new(),
        losses: Losses::default(),
        bpf_bytes: 0,
        remembered_stacks: 0,
        unwind: None,
        warnings: Vec::new(),
    }
}

fn frames_with(recording: &Recording, options: &Options) -> Vec<Frame> {
    let mut last = None;
    let symbols = symbolize(recording, options, &mut |done, total| {
        assert!(done <= total && last <= Some(done));
        last = Some(done);
    });
    assert!(last > Some(0));
    assert_eq!(symbols.warnings, Vec::<String>::new());
    symbols.stacks[&STACK].iter().map(|&id| symbols.frames[id as usize].clone()).collect()
}

fn frames(recording: &Recording) -> Vec<Frame> {
    frames_with(recording, &Options::default())
}

fn labels(recording: &Recording) -> Vec<String> {
    frames(recording).iter().map(Frame::label).collect()
}

/// What `nm` prints: the address and the size of a symbol.
fn nm(program: &Path, symbol: &str) -> (u64, u64) {
    let output = Command::new("nm").arg("-S").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.split_whitespace().last() == Some(symbol)).unwrap();
    let mut numbers = line.split_whitespace().map(|word| u64::from_str_radix(word, 16));
    (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap_or(0))
}

/// The places in a file without a separate one.
fn places(file: &File, offsets: &[u64], lines: bool) -> Vec<Place> {
    let budget = Budget::new(1_000_000_000);
    binary::places(file, offsets, &Wanted { lines, budget: &budget }, |_| None)
}

#[test]
fn static_functions_return_addresses_and_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &[]);
    let target = Target::start(&program);
    let (hidden, hidden_size) = nm(&program, "hidden");
    let (_, last_size) = nm(&program, "last_call");
    let &[exported_at, hidden_at, last_at, sizeless_at] = target.addresses.as_slice() else {
        panic!("{:?}", target.addresses);
    };
    let leaf_at_start = frames(&target.record(&[hidden_at, last_at + last_size]));
    assert_eq!(leaf_at_start[0].label(), "hidden");
    assert_eq!(leaf_at_start[0].module.as_deref(), Some("program"));
    assert_eq!(leaf_at_start[0].offset, hidden);
    assert!(!leaf_at_start[0].kernel);
    assert_eq!(leaf_at_start[1].label(), "last_call", "a call that is the end of its function");

    let leaf_at_end = frames(&target.record(&[hidden_at + hidden_size]));
    assert_ne!(leaf_at_end[0].label(), "hidden", "the byte behind a function is not in it");
    assert_eq!(labels(&target.record(&[hidden_at, hidden_at + 1])), ["hidden", "hidden"]);
    assert_eq!(labels(&target.record(&[exported_at])), ["exported"]);

    let (sizeless, _) = nm(&program, "sizeless");
    assert_eq!(
        labels(&target.record(&[sizeless_at + 1])),
        [format!("[program+{:#x}]", sizeless + 1)]
    );
}

#[test]
fn stripped_binaries_never_show_a_neighbour() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &[]);
    let (hidden, _) = nm(&program, "hidden");
    strip(&program);
    let target = Target::start(&program);
    let recording = target.record(&[
        target.addresses[HIDDEN],
        target.addresses[EXPORTED] + 1,
        target.addresses[SIZELESS] + 1,
    ]);
    let labels = labels(&recording);
    assert_eq!(labels[0], format!("[program+{hidden:#x}]"));
    assert_eq!(labels[1], "exported", "what is exported with a size is certain");
    assert!(labels[2].starts_with("[program+0x"), "{labels:?}");
}

#[test]
fn deleted_and_replaced_binaries_keep_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &[]);
    let target = Target::start(&program);
    std::fs::remove_file(&program).unwrap();
    let recording = target.record(&[target.addresses[HIDDEN]]);
    if recording.files.iter().any(|file| file.handle.is_none()) {
        assert!(
            labels(&recording)[0].starts_with("[program+0x"),
            "no name rather than a wrong one"
        );
        return skip(this_test!(), "a deleted file needs CAP_CHECKPOINT_RESTORE or root");
    }
    assert_eq!(labels(&recording), ["hidden"]);
    compile("gcc", "int main(void) { return 0; }", &program, &[]);
    let frames = frames(&target.record(&[target.addresses[HIDDEN]]));
    assert_eq!(frames[0].label(), "hidden");
    assert_eq!(frames[0].module.as_deref(), Some("program"));
}

#[test]
fn files_that_could_not_stay_open_are_found_by_path_and_only_if_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &[]);
    let target = Target::start(&program);
    let mut recording = target.record(&[target.addresses[HIDDEN]]);
    for file in &mut recording.files {
        file.handle = None;
    }
    assert_eq!(labels(&recording), ["hidden"]);
    let index = recording.files.iter().position(|file| file.path == program).unwrap();
    let build_id = recording.files[index].build_id.replace(vec![1, 2, 3]);
    assert!(build_id.is_some());
    assert!(labels(&recording)[0].starts_with("[program+0x"), "another build");
    recording.files[index].build_id = None;
    assert_eq!(labels(&recording), ["hidden"]);
    recording.files[index].inode += 1;
    assert!(labels(&recording)[0].starts_with("[program+0x"), "another file");
}

#[test]
fn cpp_has_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("worker");
    let source = r#"
        #include <cstdio>
        #include <functional>
        namespace Envoy::Server {
        struct GuardDog {};
        struct WorkerImpl {
            __attribute__((noinline)) static void threadRoutine(
                GuardDog &, const std::function<void()> &callback) { callback(); }
        };
        }
        int main() {
            printf("%p\n", (void *)&Envoy::Server::WorkerImpl::threadRoutine);
            fflush(stdout);
            getchar();
        }
    "#;
    compile("g++", source, &program, &[]);
    let target = Target::start(&program);
    assert_eq!(
        labels(&target.record(&[target.addresses[0]])),
        ["Envoy::Server::WorkerImpl::threadRoutine(Envoy::Server::GuardDog&, \
          std::function<void ()> const&)"]
    );
}

#[test]
fn functions_have_their_public_names() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("library.so");
    let source = r#"
        int __poll(int x) { return x * 3; }
        int __GI___poll(int) __attribute__((alias("__poll")));
        int poll(int) __attribute__((weak, alias("__poll")));
        int __unrelated(int x) { return x * 5; }
        int unrelated(int x) { return x * 7; }
    "#;
    compile("gcc", source, &library, &["-shared", "-fPIC"]);
    let file = File::open(&library).unwrap();
    let segment = Elf::new(&file).unwrap().executable_segments().remove(0);
    let name = |symbol: &str| {
        let offset = nm(&library, symbol).0 - segment.address + segment.file.start;
        places(&file, &[offset], false).remove(0).name.unwrap()
    };
    assert_eq!(name("__poll"), "poll");
    assert_eq!(name("__unrelated"), "__unrelated");
    assert_eq!(name("unrelated"), "unrelated");
}

#[inline(never)]
fn rust_marker() -> u32 {
    std::hint::black_box(5)
}

#[test]
fn rust_in_this_process() {
    let address = rust_marker as fn() -> u32 as usize as u64;
    assert_eq!(rust_marker(), 5);
    let labels = labels(&record(std::process::id(), &[address]));
    assert_eq!(labels, ["offwake::symbolize::tests::rust_marker"]);
}

/// As Fedora has them: with the symbols of what is not exported in an archive.
#[test]
fn compressed_symbols_do_not_hide_the_exported_ones() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &[]);
    strip(&program);
    let archive = dir.path().join("archive");
    std::fs::write(&archive, b"\xfd7zXZ\0 not really").unwrap();
    let section = format!(".gnu_debugdata={}", archive.display());
    run(Command::new("objcopy").arg("--add-section").arg(section).arg(&program));
    let target = Target::start(&program);
    let hidden = target.addresses[HIDDEN] + 1;
    let frames = frames(&target.record(&[target.addresses[EXPORTED], hidden]));
    assert_eq!(frames[0].label(), "exported");
    assert_eq!(frames[1].name, None);
}

/// The path of a program's debug file below a debug folder.
fn build_id_debug_path(dir: &Path, program: &Path) -> PathBuf {
    let id = build_id(&File::open(program).unwrap()).unwrap();
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = dir.join(".build-id").join(&hex[..2]);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{}.debug", &hex[2..]))
}

#[test]
fn debug_file_by_build_id() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &["-g", "-Wl,--build-id"]);
    let debug = build_id_debug_path(dir.path(), &program);
    run(Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&debug));
    strip(&program);
    let target = Target::start(&program);
    let recording = target.record(&[target.addresses[HIDDEN], target.addresses[EXPORTED] + 1]);
    let options = |dir: &Path| Options {
        debug_dirs: vec!["/nonexistent".into(), dir.into()],
        ..Options::default()
    };
    let with_debug = frames_with(&recording, &options(dir.path()));
    assert_eq!(with_debug[0].label(), "hidden");
    assert_eq!(with_debug[1].label(), "exported");
    assert_eq!(frames(&recording)[0].name, None, "nothing without the folder");

    // A file of another build in its place.
    compile_c(&dir.path().join("other"), &["-g", "-Wl,--build-id", "-DX", "-O2"]);
    std::fs::copy(dir.path().join("other"), &debug).unwrap();
    assert_eq!(frames_with(&recording, &options(dir.path()))[0].name, None);
}

/// A wait with this stack of the sleeper.
fn wait_in(stack: impl IntoIterator<Item = FrameId>) -> Wait {
    Wait {
        sleeper: Thread { pid: 1, tid: 1, comm: "t".into() },
        waker: Waker::Unknown,
        state: WaitState::Other,
        count: 1,
        blocked_ns: 1,
        runqueue_ns: 0,
        max_ns: 1,
        histogram: Histogram::default(),
        estimate: Estimate::default(),
        sleeper_stack: stack.into_iter().collect(),
        waker_stack: smallvec![],
    }
}

/// A profile that was recorded without the debug file gets its names when that is there.
#[test]
fn names_that_come_later() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &["-g", "-Wl,--build-id"]);
    let debug = build_id_debug_path(dir.path(), &program);
    run(Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&debug));
    strip(&program);
    let target = Target::start(&program);
    let recording = target.record(&[target.addresses[HIDDEN]]);
    let module = |build_id: Option<Vec<u8>>| Module {
        name: "program".into(),
        path: program.display().to_string(),
        build_id,
    };
    let wait = wait_in([0]);
    let profile = |modules: Vec<Module>| {
        let frames = frames(&recording);
        Profile::new(recording.meta.clone(), recording.losses, frames, vec![wait.clone()])
            .with_modules(modules)
    };
    let build_id = build_id(&File::open(&program).unwrap());
    let options = Options { debug_dirs: vec![dir.path().into()], lines: false };
    let label = |profile| name_later(profile, &options).frames[0].label();

    let before = profile(vec![module(build_id.clone())]);
    assert_eq!(before.frames[0].name, None);
    assert_eq!(name_later(before.clone(), &Options::default()), before);
    assert_eq!(label(before), "hidden");
    for modules in [
        vec![],
        vec![module(None)],
        vec![module(Some(vec![1, 2, 3]))],
        vec![module(build_id), module(Some(vec![1, 2, 3]))],
    ] {
        assert!(label(profile(modules)).starts_with("[program+0x"));
    }
}

#[test]
fn debug_file_by_link() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let debug = dir.path().join("program.debug");
    compile_c(&program, &["-g", "-Wl,--build-id=none"]);
    run(Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&debug));
    strip(&program);
    let link = format!("--add-gnu-debuglink={}", debug.display());
    run(Command::new("objcopy").arg(link).arg(&program));
    let target = Target::start(&program);
    let recording = target.record(&[target.addresses[HIDDEN]]);
    assert_eq!(labels(&recording), ["hidden"]);

    let mut content = std::fs::read(&debug).unwrap();
    content.push(0);
    std::fs::write(&debug, content).unwrap();
    assert_eq!(frames(&recording)[0].name, None, "the checksum differs");
}

#[test]
fn vdso_functions() {
    let file = vdso::file().expect("this kernel maps a vDSO");
    let segment = Elf::new(&file).unwrap().executable_segments().remove(0);
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let output = Command::new("nm").args(["-D", &path]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("clock_gettime")).unwrap();
    let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    let offset = address - segment.address + segment.file.start;
    let mut recording = record(std::process::id(), &[0]);
    let image = recording.images.values().next().unwrap();
    let mapping =
        image.mappings.iter().find(|mapping| mapping.content == MappingContent::Vdso).unwrap();
    let address = mapping.start + offset;
    recording.stacks.get_mut(&STACK).unwrap().frames = [address, address + 5].into();
    let frames = frames(&recording);
    let name = frames[0].label();
    assert!(name == "clock_gettime" || name == "__kernel_clock_gettime", "{name}");
    assert_eq!(frames[0].name, frames[1].name);
    assert_eq!(frames[0].module.as_deref(), Some("vdso"));
}

#[test]
fn code_compiled_at_run_time() {
    let id = ImageId { tgid: 41, exec_id: 1 };
    let mut recording = recording(StackContext::User, Some(id), &[0x1010, 0x1011, 0x1101, 0x3001]);
    let mapping = |start, end, content| Mapping { start, end, file_offset: 0x40, content };
    recording.files = vec![MappedFile {
        path: "/app/System.dll".into(),
        device: (0, 1),
        inode: 1,
        build_id: None,
        handle: None,
    }];
    recording.images.insert(
        id,
        Image {
            mappings: vec![
                mapping(0x1000, 0x2000, MappingContent::Anonymous),
                mapping(0x3000, 0x4000, MappingContent::File(0)),
            ],
            namespace_pid: 5,
            perf_map: Some(b"1000 20 Lmain;::run\n".as_slice().into()),
        },
    );
    let frames = frames(&recording);
    let labels: Vec<String> = frames.iter().map(Frame::label).collect();
    assert_eq!(labels, ["Lmain;::run", "Lmain;::run", "[anon+0x1100]", "[System.dll+0x40]"]);
    assert_eq!(frames[0].module.as_deref(), Some("perf-5.map"));
    assert_eq!(frames[0], frames[1], "0x1010 exactly, and as the byte before 0x1011");
}

#[test]
fn a_stack_ends_where_it_leads_out_of_the_code() {
    let id = ImageId { tgid: 41, exec_id: 1 };
    let mapping =
        |start, end| Mapping { start, end, file_offset: 0, content: MappingContent::Anonymous };
    let walk = |frames: &[u64], mappings: &[Mapping]| {
        let mut recording = recording(StackContext::User, Some(id), frames);
        recording.images.insert(id, Image { mappings: mappings.to_vec(), ..Image::default() });
        let symbols = symbolize(&recording, &Options::default(), &mut |_, _| {});
        let frames = symbols.stacks[&STACK].iter().map(|&id| symbols.frames[id as usize].label());
        (frames.collect::<Vec<_>>(), symbols.broken.contains_key(&STACK))
    };
    let code = [mapping(0x1000, 0x2000), mapping(0x3000, 0x4000)];
    let labels =
        |labels: &[&str]| labels.iter().map(|&label| label.into()).collect::<Vec<String>>();
    assert_eq!(
        walk(&[0x1000, 0x2000, 0x3001], &code),
        (labels(&["[anon+0x1000]", "[anon+0x1fff]", "[anon+0x3000]"]), false),
        "a call may be the last thing in a mapping"
    );
    for garbage in [0, 1, 0x1000, 0x2001, 0x4001, u64::MAX] {
        assert_eq!(
            walk(&[0x1000, 0x1005, garbage, 0x3005], &code),
            (labels(&["[anon+0x1000]", "[anon+0x1004]"]), true),
            "{garbage:#x}"
        );
    }
    let nowhere = walk(&[0x9000, 0x1005], &code);
    assert_eq!(nowhere, (labels(&["[unknown]", "[anon+0x1004]"]), false), "no return address");
    let unknown = (labels(&["[unknown]", "[unknown]"]), false);
    assert_eq!(walk(&[0x1000, 0x9000], &[]), unknown, "nothing is known of the program");
    let recording = recording(StackContext::User, Some(id), &[0x1000, 0x9000]);
    let symbols = symbolize(&recording, &Options::default(), &mut |_, _| {});
    assert_eq!((symbols.stacks[&STACK].len(), symbols.broken.len()), (2, 0));
}

#[test]
fn kernel_functions() {
    let kallsyms = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let line = kallsyms.lines().find(|line| line.ends_with(" T schedule")).unwrap();
    let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    if address == 0 {
        return skip(
            this_test!(),
            "the kernel hides its addresses: needs root, and kptr_restrict below 2",
        );
    }
    let recording = recording(StackContext::Kernel, None, &[address + 0x21, address + 1, 8]);
    let frames = frames(&recording);
    assert_eq!((frames[0].label().as_str(), frames[0].offset), ("schedule", 0x21));
    assert_eq!((frames[1].label().as_str(), frames[1].offset), ("schedule", 1));
    assert_eq!(frames[2].label(), "[kernel+0x8]");
    assert!(frames.iter().all(|frame| frame.kernel));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn programs_of_32_bits() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let source = "int inner(int x) { return x * 7; } void _start(void) { for (;;) inner(3); }";
    compile("gcc", source, &program, &["-m32", "-nostdlib", "-static", "-Wl,--build-id"]);
    let (address, size) = nm(&program, "inner");
    let file = File::open(&program).unwrap();
    let elf = Elf::new(&file).unwrap();
    assert!(elf.build_id().is_some());
    let segment = elf.executable_segments().remove(0);
    let offset = address - segment.address + segment.file.start;
    let places = places(&file, &[offset, offset + size - 1, u64::MAX], false);
    assert_eq!(places[0], Place { name: Some("inner".into()), ..Place::unnamed(address) });
    assert_eq!(
        places[1],
        Place { name: Some("inner".into()), ..Place::unnamed(address + size - 1) }
    );
    assert_eq!(places[2], Place::unnamed(u64::MAX));
}

/// Every reader, on an image that may be broken. Returns how many places have names.
fn read_everything(image: &[u8]) -> usize {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(image).unwrap();
    let Some(elf) = Elf::new(&file) else { return 0 };
    let _ = (elf.build_id(), elf.debug_link(), elf.executable_segments());
    let offsets: Vec<u64> =
        (0..image.len() as u64).step_by(7).chain([u64::MAX - 1, u64::MAX]).collect();
    let places = places(&file, &offsets, false);
    assert_eq!(places.len(), offsets.len());
    places.iter().filter(|place| place.name.is_some()).count()
}

#[test]
fn malformed_files_do_not_panic() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &["-Wl,--build-id"]);
    let good = std::fs::read(&program).unwrap();
    assert!(read_everything(&good) >= 5, "the reader reads when nothing is broken");
    for length in (0..good.len()).step_by(61) {
        read_everything(&good[..length]);
    }
    let mut random = Random(7);
    for round in 0..3000 {
        let mut bad = good.clone();
        for _ in 0..1 + round % 8 {
            // Half of the damage to the headers at either end, half anywhere.
            let position = match random.below(4) {
                0 => random.below(1024),
                1 => bad.len() - 1 - random.below(2500),
                _ => random.below(bad.len()),
            };
            bad[position] =
                [0, 0xff, 0x7f, 0x80, bad[position] ^ (1 << random.below(8))][random.below(5)];
        }
        read_everything(&bad);
    }
}

#[test]
fn many_stacks_are_quick_and_frames_are_distinct() {
    let mut recording = record(std::process::id(), &[0]);
    let id = *recording.images.keys().next().unwrap();
    let base = rust_marker as fn() -> u32 as usize as u64;
    recording.stacks.clear();
    for stack in 0..50_000_u64 {
        let frames = (0..30).map(|depth| base + 16 * ((stack * 31 + depth * 7) % 4096)).collect();
        let context = StackContext::User;
        recording
            .stacks
            .insert(stack, RawStack { context, image: Some(id), frames, end: StackEnd::Complete });
    }
    let started = std::time::Instant::now();
    let symbols = symbolize(&recording, &Options::default(), &mut |_, _| {});
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(symbols.stacks.len(), 50_000);
    let distinct: HashSet<&Frame> = symbols.frames.iter().collect();
    assert_eq!(distinct.len(), symbols.frames.len());
    assert_eq!(symbols, symbolize(&recording, &Options::default(), &mut |_, _| {}));
}

#[test]
fn a_walk_that_comes_to_a_start_is_not_broken() {
    let frame = |name: Option<&str>, module: &str| Frame {
        name: name.map(Into::into),
        module: Some(module.into()),
        offset: 0,
        kernel: false,
        file: None,
        line: None,
        inlined: false,
    };
    let frames = [
        frame(Some("epoll_wait"), "libc.so.6"),
        frame(Some("run"), "server"),
        frame(None, "libc.so.6"),
        frame(Some("start_thread"), "server"),
    ];
    let complete = |stack: &[FrameId]| ends_at_a_start(&frames, stack);
    assert!(complete(&[0, 1, 2]), "the C library called the program");
    assert!(complete(&[0, 1, 3]), "a static program");
    assert!(!complete(&[0, 1]));
    assert!(!complete(&[0]), "the caller of the C library is missing");
    assert!(!complete(&[]));
}
