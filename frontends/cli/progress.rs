//! Progress on a terminal, for work that takes over a second.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::ProgressBar;

/// How long to wait before showing anything.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two frames.
const FRAME: Duration = Duration::from_millis(100);

/// Does `work`; if that takes long and standard error is a terminal, `what` is shown with a spinner.
pub fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let _spinner = stderr().is_terminal().then(|| Spinner::new(what.to_string()));
    work()
}

struct Spinner {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Spinner {
    fn new(what: String) -> Self {
        let (done, waiting) = channel::<()>();
        // Without a thread there is no spinner; the work goes on.
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || {
            if waiting.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::new_spinner().with_message(what);
            while waiting.recv_timeout(FRAME) == Err(RecvTimeoutError::Timeout) {
                bar.tick();
            }
            bar.finish_and_clear();
        });
        Self { done: Some(done), thread: thread.ok() }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            // It only draws; if it panicked, that was reported.
            let _ = thread.join();
        }
    }
}
