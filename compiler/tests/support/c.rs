//! C programs of tests: the compiler, if there is one, and commands that must succeed.

use std::process::Command;

/// The C compiler, unless there is none, which it says.
pub fn compiler() -> Option<Command> {
    let found = Command::new("cc").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: there is no cc");
    }
    found.then(|| Command::new("cc"))
}

/// Runs what must succeed; its standard output.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
