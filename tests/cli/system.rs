//! Where the system refuses something: executable memory, threads, files of others.
#![allow(unsafe_code, reason = "restricts a process before it begins")]

use std::fs::{read, read_dir, set_permissions, symlink_metadata};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use super::{MODEL, PHOTO, Scratch, text};

/// `prctl` for `PR_SET_MDWE` with `PR_MDWE_REFUSE_EXEC_GAIN`, which systemd's `MemoryDenyWriteExecute` uses where there is one.
const PR_SET_MDWE: i32 = 65;

unsafe extern "C" {
    fn prctl(option: i32, a: usize, b: usize, c: usize, d: usize) -> i32;
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fornax"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// A process whose memory is never executable once it was writable; `None`, said aloud, if this system has no such thing.
fn without_executable_memory(arguments: &[&str]) -> Option<Output> {
    let mut command = command(arguments);
    let restrict = || {
        // SAFETY: a system call on this process alone.
        match unsafe { prctl(PR_SET_MDWE, 1, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes a system call and reads its error, both async-signal-safe.
    unsafe { command.pre_exec(restrict) };
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("SKIPPED: expected a system with PR_SET_MDWE (Linux 6.3), found {error}");
            None
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_executable_memory_run_says_so_and_compile_works() {
    let scratch = Scratch::new();
    let so = scratch.name("signs.so");
    let Some(run) = without_executable_memory(&["run", MODEL, "--image", PHOTO]) else { return };
    let errors: Vec<String> =
        stderr(&run).lines().filter(|line| line.starts_with("error: ")).map(str::to_string).collect();
    assert_eq!((run.status.code(), errors.len()), (Some(1), 1), "{}", stderr(&run));
    assert!(errors[0].contains("executable memory: expected some"), "{errors:?}");
    let Some(compile) = without_executable_memory(&["compile", MODEL, "-o", &so]) else { return };
    assert!(compile.status.success(), "{}", stderr(&compile));
    assert!(stderr(&compile).contains("the self test holds no results"), "{}", stderr(&compile));
    // Libraries run from their files, where code in memory does not.
    let Some(library) = without_executable_memory(&["run", &so, "--image", PHOTO]) else { return };
    assert!(library.status.success(), "{}", stderr(&library));
    assert!(String::from_utf8_lossy(&library.stdout).contains("stop"));
}

#[test]
fn without_more_threads_the_work_is_done_on_fewer() {
    let scratch = Scratch::new();
    let (so, features) = (scratch.name("signs.so"), scratch.name("features.npy"));
    let so_again = scratch.name("again.so");
    let folder = scratch.path("photos");
    std::fs::create_dir(&folder).unwrap();
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        std::fs::copy(PHOTO, folder.join(name)).unwrap();
    }
    // A stack that no address space has room for: every new thread is refused.
    let alone = |arguments: &[&str]| command(arguments).env("RUST_MIN_STACK", "140737488355328").output().unwrap();
    for arguments in [
        &["compile", MODEL, "-o", &so, "--name", "signs", "--threads", "4"][..],
        &["compile", MODEL, "-o", &so, "--emit", "weights", "--threads", "4"],
        &["run", MODEL, "--image", PHOTO, "--threads", "4"],
        &["features", MODEL, folder.to_str().unwrap(), "-o", &features, "--threads", "3"],
    ] {
        let output = alone(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }
    let warned = alone(&["run", MODEL, "--image", PHOTO, "--threads", "4"]);
    assert!(stderr(&warned).contains("warning: threads: 4 wanted, the system gives 1"), "{}", stderr(&warned));
    text(&["compile", MODEL, "-o", &so_again, "--name", "signs", "--threads", "4"]);
    assert_eq!(read(&so).unwrap(), read(&so_again).unwrap(), "the bytes do not depend on threads");
}

#[test]
fn a_perf_map_follows_no_link() {
    let scratch = Scratch::new();
    let victim = scratch.file("victim", b"precious");
    let mut command = command(&["bench", MODEL, "--stdio", "--perf-map", "--threads", "1"]);
    // Stopped at once, so that the link is there before the map is written.
    let stop = || {
        unsafe extern "C" {
            fn raise(signal: i32) -> i32;
        }
        // SAFETY: stops this process, which its parent continues.
        unsafe { raise(19) };
        Ok(())
    };
    // SAFETY: between fork and exec it raises a signal, which is async-signal-safe.
    unsafe { command.pre_exec(stop) };
    // `spawn` returns when the child has begun its program, which it does after it was continued.
    let spawned = std::thread::spawn(move || command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    let child = stopped_child();
    let path = format!("/tmp/perf-{child}.map");
    _ = std::fs::remove_file(&path);
    symlink(&victim, &path).unwrap();
    assert!(Command::new("kill").args(["-CONT", &child.to_string()]).status().unwrap().success());
    let mut child = spawned.join().unwrap();
    child.wait().unwrap();
    let found = symlink_metadata(&path).unwrap();
    assert_eq!(read(&victim).unwrap(), b"precious");
    assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600);
    std::fs::remove_file(path).unwrap();
}

/// The child of this process that is stopped and about to become `fornax`.
fn stopped_child() -> u32 {
    let own = std::process::id().to_string();
    loop {
        for entry in read_dir("/proc").unwrap().flatten() {
            let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            if fields.next() == Some("T") && fields.next() == Some(&own) {
                return process;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_compiled_file_keeps_its_mode_and_leaves_nothing_beside_it() {
    let scratch = Scratch::new();
    let so = scratch.name(&format!("{}.so", "n".repeat(252)));
    for _ in 0..2 {
        text(&["compile", MODEL, "-o", &so, "--name", "signs", "--cpu", "native", "--emit", "so"]);
        set_permissions(&so, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    text(&["compile", MODEL, "-o", &so, "--name", "signs", "--cpu", "native", "--emit", "so"]);
    assert_eq!(symlink_metadata(&so).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read_dir(scratch.path(".")).unwrap().count(), 1);
}
