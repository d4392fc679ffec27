use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;

/// This process, in a program of which nothing is known yet.
fn this_process() -> ImageId {
    ImageId { tgid: std::process::id(), exec_id: 1 }
}

/// Where the stack of a process begins; 0 when it is gone.
fn start_stack(id: ImageId) -> u64 {
    let threads = process::threads(id.tgid).unwrap_or_default();
    threads.into_iter().filter_map(|tid| process::start_stack(tid).ok()).max().unwrap_or(0)
}

/// Starts a C program, and waits for the line that it prints; it goes on when its input is closed.
fn start(dir: &Path, source: &str) -> (Child, String) {
    let program = dir.join("program");
    std::fs::write(dir.join("program.c"), source).unwrap();
    let compiled = Command::new("gcc")
        .args(["-O1", "-pthread", "-o"])
        .arg(&program)
        .arg(dir.join("program.c"))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let mut child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim_end().to_owned())
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn own_mappings() {
    let id = this_process();
    let mut snapshots = Snapshots::new();
    let address = own_mappings as fn() as usize as u64;
    assert!(!snapshots.has(id, start_stack(id)) && !snapshots.covers(id, address));
    snapshots.read(id, start_stack(id)).unwrap();
    assert!(snapshots.has(id, start_stack(id)) && snapshots.covers(id, address));
    assert!(!snapshots.covers(id, 0) && !snapshots.covers(id, u64::MAX));

    let (images, files) = snapshots.finish();
    let image = &images[&id];
    assert!(image.mappings.is_sorted_by(|a, b| a.end <= b.start));
    assert!(image.mappings.iter().any(|mapping| mapping.content == MappingContent::Vdso));
    let own = image.mappings.iter().find(|m| m.start <= address && address < m.end).unwrap();
    let MappingContent::File(index) = own.content else { panic!("{own:?}") };
    assert_eq!(files[index].path, std::env::current_exe().unwrap());
    let handle = files[index].handle.as_ref().unwrap();
    assert_eq!(handle.metadata().unwrap().ino(), files[index].inode);
    let libc = files.iter().find(|file| file.path.to_string_lossy().contains("libc")).unwrap();
    assert!(libc.build_id.as_ref().is_some_and(|id| id.len() >= 8));
}

#[test]
fn code_that_appears_and_disappears() {
    let id = this_process();
    let mut snapshots = Snapshots::new();
    snapshots.read(id, start_stack(id)).unwrap();
    let size = 4096;
    // SAFETY: a new anonymous mapping, which touches nothing else.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(memory, libc::MAP_FAILED);
    let address = memory as u64;
    assert!(!snapshots.covers(id, address));
    snapshots.read(id, start_stack(id)).unwrap();
    assert!(snapshots.covers(id, address));
    // SAFETY: the mapping is ours, and nothing uses it.
    assert_eq!(unsafe { libc::munmap(memory, size) }, 0);
    snapshots.read(id, start_stack(id)).unwrap();
    assert!(snapshots.covers(id, address), "what was unloaded is remembered");
}

#[test]
fn processes_that_share_a_library_share_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let source = r#"#include <stdio.h>
        int main(void) { puts("ready"); fflush(stdout); getchar(); }"#;
    let (child, _) = start(dir.path(), source);
    let other = ImageId { tgid: child.id(), exec_id: 9 };
    let mut snapshots = Snapshots::new();
    snapshots.read(this_process(), start_stack(this_process())).unwrap();
    let stack = start_stack(other);
    snapshots.read(other, stack).unwrap();
    end(child);
    assert_eq!(snapshots.read(other, stack), Err(Gone));
    let (images, files) = snapshots.finish();
    assert!(!images[&other].mappings.is_empty(), "what was known of a process stays");
    let libc = files.iter().filter(|file| file.path.to_string_lossy().contains("libc.so"));
    assert_eq!(libc.count(), 1);
}

#[test]
fn a_process_whose_main_thread_ended() {
    let dir = tempfile::tempdir().unwrap();
    let source = r#"
        #include <pthread.h>
        #include <stdio.h>
        #include <unistd.h>
        static void *run(void *main_thread) {
            pthread_join((pthread_t)main_thread, NULL);
            usleep(1000);
            puts("ready");
            fflush(stdout);
            getchar();
            return NULL;
        }
        int main(void) {
            pthread_t thread;
            pthread_create(&thread, NULL, run, (void *)pthread_self());
            pthread_exit(NULL);
        }"#;
    let (child, _) = start(dir.path(), source);
    let id = ImageId { tgid: child.id(), exec_id: 1 };
    let mut snapshots = Snapshots::new();
    let read = snapshots.read(id, start_stack(id));
    end(child);
    assert_eq!(read, Ok(()));
    let (_, files) = snapshots.finish();
    let program = files.iter().find(|file| file.path == dir.path().join("program")).unwrap();
    assert!(program.handle.is_some());
}

#[test]
fn the_perf_map_of_a_process_that_ended() {
    let dir = tempfile::tempdir().unwrap();
    let source = r#"
        #include <stdio.h>
        #include <sys/mman.h>
        #include <unistd.h>
        int main(void) {
            char path[64];
            mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            sprintf(path, "/tmp/perf-%d.map", getpid());
            FILE *map = fopen(path, "w");
            fprintf(map, "1000 10 early\n");
            fflush(map);
            puts("ready");
            fflush(stdout);
            getchar();
            fprintf(map, "2000 10 late\n");
            fclose(map);
        }"#;
    let (mut child, _) = start(dir.path(), source);
    let id = ImageId { tgid: child.id(), exec_id: 1 };
    let mut snapshots = Snapshots::new();
    snapshots.read(id, start_stack(id)).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    std::fs::remove_file(format!("/tmp/perf-{}.map", id.tgid)).unwrap();
    let (images, _) = snapshots.finish();
    assert_eq!(images[&id].namespace_pid, id.tgid);
    assert_eq!(images[&id].perf_map.as_deref(), Some(b"1000 10 early\n2000 10 late\n".as_slice()));
}

#[test]
fn nothing_to_read() {
    let mut snapshots = Snapshots::new();
    let mut child = Command::new("true").spawn().unwrap();
    let id = ImageId { tgid: child.id(), exec_id: 1 };
    child.wait().unwrap();
    assert_eq!(snapshots.read(id, start_stack(id)), Err(Gone));
    assert_eq!(snapshots.read(ImageId { tgid: u32::MAX, exec_id: 1 }, 1), Err(Gone));
    assert!(snapshots.image(id).is_none());
}

#[test]
fn a_process_that_ended_is_not_read_again() {
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    let id = ImageId { tgid: child.id(), exec_id: 1 };
    let mut snapshots = Snapshots::new();
    snapshots.read(id, 0).unwrap();
    snapshots.refresh(id);
    assert_eq!(snapshots.ids(|_| true), [id]);
    end(child);
    snapshots.refresh(id);
    assert_eq!(snapshots.ids(|_| true), []);
    assert!(snapshots.image(id).is_some(), "what it had mapped stays");
}

#[test]
fn a_process_that_runs_another_program_is_gone() {
    let mut snapshots = Snapshots::new();
    let id = this_process();
    assert_eq!(snapshots.read(id, start_stack(id) + 16), Err(Gone));
    assert!(snapshots.image(id).is_none());
}

#[test]
fn a_forked_process_that_is_gone_has_the_mappings_of_its_parent() {
    let mut snapshots = Snapshots::new();
    let parent = this_process();
    let mut child = Command::new("true").spawn().unwrap();
    let forked = ImageId { tgid: child.id(), exec_id: 1 };
    child.wait().unwrap();
    let stack = start_stack(parent);
    assert_eq!(snapshots.read(forked, stack), Err(Gone), "its parent is not known yet");
    snapshots.read(parent, stack).unwrap();
    snapshots.read(forked, stack).unwrap();
    let (images, _) = snapshots.finish();
    assert_eq!(images[&forked].mappings, images[&parent].mappings);
}
