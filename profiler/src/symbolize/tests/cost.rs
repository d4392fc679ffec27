//! What symbolization costs. Run by hand, in a process of its own, for one program:
//!
//! ```text
//! OFFWAKE_COST=PROGRAM:ADDRESSES[:lines] cargo test --release -p offwake --lib cost_of -- --ignored --nocapture
//! ```

use super::*;
use crate::recording::MappedFile;

/// This many addresses of a program, evenly over its code, a fifth as many of the C library, and of the
/// kernel, as far as it has that many functions.
fn large_recording(program: &Path, count: u64) -> Recording {
    let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
    let id = ImageId { tgid: 41, exec_id: 1 };
    let mut recording = recording(StackContext::User, Some(id), &[]);
    let mut image = Image { namespace_pid: 41, ..Image::default() };
    for (number, (path, count)) in [(program, count), (libc, count / 5)].into_iter().enumerate() {
        let file = File::open(path).unwrap();
        let elf = Elf::new(&file).unwrap();
        let segments = elf.executable_segments();
        let segment = segments.iter().max_by_key(|segment| segment.file.end - segment.file.start);
        let code = segment.unwrap().file.clone();
        let build_id = elf.build_id();
        let start = 0x7000_0000_0000 + 0x100_0000_0000 * number as u64;
        let length = code.end - code.start;
        image.mappings.push(Mapping {
            start,
            end: start + length,
            file_offset: code.start,
            content: MappingContent::File(number),
        });
        for index in 0..count {
            let frames = [start + length / count * index + 1].into();
            let context = StackContext::User;
            let stack = RawStack { context, image: Some(id), frames, end: StackEnd::Complete };
            recording.stacks.insert(u64::MAX - recording.stacks.len() as u64, stack);
        }
        recording.files.push(MappedFile {
            path: path.into(),
            device: (0, 0),
            inode: 0,
            build_id,
            handle: Some(Arc::new(file)),
        });
    }
    recording.images.insert(id, image);
    let kallsyms = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let functions = kallsyms.lines().filter(|line| line.contains(" t ") || line.contains(" T "));
    for (index, line) in functions.take(usize::try_from(count / 5).unwrap()).enumerate() {
        let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
        let context = StackContext::Kernel;
        let stack = RawStack {
            context,
            image: None,
            frames: [address + 5].into(),
            end: StackEnd::Complete,
        };
        recording.stacks.insert(1000 + index as u64, stack);
    }
    recording
}

/// The most memory that this process had at any time.
fn peak_kib() -> i64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to an rusage that may be written; all zeros are one, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    usage.ru_maxrss
}

#[test]
#[ignore = "measures a program that OFFWAKE_COST names"]
fn cost_of_a_large_recording() {
    let what = std::env::var("OFFWAKE_COST").expect("OFFWAKE_COST=PROGRAM:ADDRESSES[:lines]");
    let mut words = what.split(':');
    let program = PathBuf::from(words.next().unwrap());
    let recording = large_recording(&program, words.next().unwrap().parse().unwrap());
    let options = Options { lines: words.next() == Some("lines"), ..Options::default() };
    let started = std::time::Instant::now();
    let symbols = symbolize(&recording, &options, &mut |_, _| {});
    let elapsed = started.elapsed();
    let peak = peak_kib();
    let count = |is: fn(&Frame) -> bool| symbols.frames.iter().filter(|frame| is(frame)).count();
    println!(
        "{what}: {elapsed:?}, {peak} KiB; {} stacks, {} frames, {} of them named, {} inlined, {} with \
         lines; {:?}",
        symbols.stacks.len(),
        symbols.frames.len(),
        count(|frame| frame.name.is_some()),
        count(|frame| frame.inlined),
        count(|frame| frame.line.is_some()),
        symbols.warnings,
    );
}
