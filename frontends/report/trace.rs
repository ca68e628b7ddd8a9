//! A run in the trace format of Chrome, which Perfetto reads too.

use fornax_runtime::{Span, Timeline};
use serde_json::{Value, json};

use super::profile::{Profile, StepTime};
use super::rates::Scale;

/// Track of the steps; worker `n` has track `n + 1`.
const STEPS: usize = 0;

/// The bytes of a file with a slice per step, and one per step and thread that took part in it.
pub fn chrome(profile: &Profile, timeline: &Timeline, scale: &Scale) -> Vec<u8> {
    let mut events = vec![track(STEPS, "steps")];
    events.extend((0..timeline.threads()).map(|worker| track(worker + 1, &format!("thread {worker}"))));
    for (at, step) in profile.steps.iter().enumerate() {
        let spans: Vec<(usize, Span)> =
            (0..timeline.threads()).filter_map(|worker| Some((worker, timeline.span(at, worker)?))).collect();
        let (begin, end) = (spans.iter().map(|(_, s)| s.begin_ns).min(), spans.iter().map(|(_, s)| s.end_ns).max());
        let Some((begin, end)) = begin.zip(end) else { continue };
        events.push(slice(STEPS, (begin, end), step, whole(at, step, end - begin, scale)));
        for (worker, span) in spans {
            let busy = span.busy_ns as f64 / 1e3;
            events.push(slice(worker + 1, (span.begin_ns, span.end_ns), step, json!({"step": at, "busy_us": busy})));
        }
    }
    let wall_us = timeline.wall_ns() as f64 / 1e3;
    let other = json!({"wall_us": wall_us, "peak_gflops": scale.peak});
    json!({"displayTimeUnit": "ns", "otherData": other, "traceEvents": events}).to_string().into_bytes()
}

/// What is to be known of a step.
fn whole(at: usize, step: &StepTime, ns: u64, scale: &Scale) -> Value {
    let rates = scale.rates(ns as f64, step.flops, step.bytes);
    json!({
        "step": at,
        "node": step.node,
        "nodes": step.nodes(),
        "kind": step.kind.name(),
        "GFLOP/s": rates.gflops,
        "% of peak": rates.peak_percent,
        "GB/s": rates.gb_per_s,
        "median_us": step.ns / 1e3,
    })
}

fn track(id: usize, name: &str) -> Value {
    json!({"ph": "M", "pid": 1, "tid": id, "name": "thread_name", "args": {"name": name}})
}

fn slice(track: usize, (begin, end): (u64, u64), step: &StepTime, args: Value) -> Value {
    let (from, length) = (begin as f64 / 1e3, (end - begin) as f64 / 1e3);
    json!({"ph": "X", "pid": 1, "tid": track, "ts": from, "dur": length, "name": step.kernel, "cat": step.kind.name(),
        "args": args})
}
