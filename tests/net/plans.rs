//! Plans as text: one file per network, one section per target.
//!
//! The first section is a plan as it prints, without hashes and names of weights. The sections after it say `#7` for line 7 of the first
//! (counted from 0), or the call of its step, and `#7-#12` for a run of such lines. What is computed and how is one thing per
//! target, so `chunks=… Schedule` stands where a kernel is called first in a section. Nothing is lost: [`unfold`] gives the texts back.

use std::collections::HashMap;

use crate::engine::{NETWORKS as ALL, Precision, all_targets, find, targets};
use crate::{bless, changes, committed, full, write};

const NETWORKS: [&str; 6] = ["effnet_b0", "effnet_b3", "effnet_v2_s", "resnet50", "mixnet_s", "mobilenetv3_large"];

#[test]
fn plans_stay() {
    let mut wrong = Vec::new();
    for name in NETWORKS {
        let network = find(name).optimised();
        let found: Vec<String> = targets().iter().map(|target| without_weights(&network.plan_text(target))).collect();
        let text = fold(&found);
        assert_eq!(unfold(&text), found, "{name}: the text reads back");
        let file = format!("plans/{name}.txt");
        let expected = committed(&file);
        if bless() {
            write(&file, &text);
        } else if expected != text {
            let expected = unfold(&expected);
            assert_eq!(expected.len(), found.len(), "{name}: plans in tests/net/{file}");
            let differ = expected.iter().zip(&found).filter(|(expected, found)| expected != found);
            wrong.extend(differ.map(|(expected, found)| {
                format!("{name}: {}\n{}", found.lines().next().unwrap_or_default(), changes(expected, found))
            }));
        }
    }
    assert!(wrong.is_empty(), "plans have changed (- expected, + found)\n{}", wrong.join("\n"));
}

/// Networks whose plans are read back by default.
const READ: [&str; 3] = ["effnet_b0", "mixnet_s", "effnet_v2_s"];

#[test]
fn plans_read_back() {
    for network in ALL.iter().filter(|network| full() || READ.contains(&network.name)) {
        let optimised = network.optimised();
        for precision in Precision::ALL {
            let targets = if precision == Precision::F32 { targets() } else { all_targets() };
            targets.iter().for_each(|target| optimised.reads_back(precision, target));
        }
    }
}

/// A plan without the hashes of its constants and the names of what they are made of.
fn without_weights(plan: &str) -> String {
    let is_hash = |word: &&str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let line = |line: &str| match line.split_once("  ; ") {
        _ if !line.starts_with('@') => line.to_string(),
        parts => {
            let constant = parts.map_or(line, |(constant, _)| constant);
            constant.split(' ').filter(|word| !is_hash(word)).collect::<Vec<_>>().join(" ")
        }
    };
    // The lines after the steps, from the ports on, say what names of kernels hold a hash of.
    plan.lines().take_while(|line| !line.starts_with("in0 = ")).map(|l| line(l) + "\n").collect()
}

/// A step: kernel, call with its node, and how the kernel works.
struct Step<'a> {
    kernel: &'a str,
    call: String,
    schedule: &'a str,
}

/// The step of a line, if it is one; its schedule is empty where the line leaves it out.
fn step(line: &str) -> Option<Step<'_>> {
    let (kernel, _) = line.split_once('(').filter(|(name, _)| !name.contains(' '))?;
    let (rest, node) = line.rsplit_once("  ; ")?;
    let (call, schedule) = rest.split_once(") chunks=").map_or((rest, ""), |(call, _)| rest.split_at(call.len() + 1));
    Some(Step { kernel, call: format!("{call}  ; {node}"), schedule })
}

fn with_schedule(call: &str, schedule: &str) -> String {
    let (call, node) = call.rsplit_once("  ; ").unwrap_or((call, ""));
    format!("{call}{schedule}  ; {node}")
}

fn fold(plans: &[String]) -> String {
    let base: Vec<&str> = plans[0].lines().collect();
    let calls: Vec<String> = base.iter().map(|line| step(line).map_or(line.to_string(), |step| step.call)).collect();
    let mut sections = Vec::new();
    for (section, plan) in plans.iter().enumerate() {
        let (mut schedules, mut lines, mut cursor) = (HashMap::new(), Vec::new(), 0);
        for line in plan.lines() {
            let found = step(line);
            let (call, schedule) = found.map_or((line.to_string(), ""), |step| {
                let seen = schedules.insert(step.kernel, step.schedule) == Some(step.schedule);
                (step.call, if seen { "" } else { step.schedule })
            });
            let at = calls[cursor..].iter().position(|other| *other == call).filter(|_| section > 0);
            match at.map(|at| cursor + at) {
                Some(at) => {
                    cursor = at + 1;
                    lines.push((Some(at), schedule.to_string()));
                }
                None if schedule.is_empty() => lines.push((None, call)),
                None => lines.push((None, with_schedule(&call, schedule))),
            }
        }
        sections.push(runs(&lines));
    }
    sections.join("\n")
}

/// The lines of a section; those that are as in the first section, one after the other, in one.
fn runs(lines: &[(Option<usize>, String)]) -> String {
    let mut text = String::new();
    let mut lines = lines.iter().peekable();
    while let Some((at, rest)) = lines.next() {
        let Some(first) = at else {
            text += &format!("{rest}\n");
            continue;
        };
        let mut last = *first;
        while rest.is_empty() && lines.next_if(|(at, rest)| *at == Some(last + 1) && rest.is_empty()).is_some() {
            last += 1;
        }
        text += &if last > *first { format!("#{first}-#{last}\n") } else { format!("#{first}{rest}\n") };
    }
    text
}

fn unfold(text: &str) -> Vec<String> {
    let mut calls: Vec<String> = Vec::new();
    let mut plans = Vec::new();
    for section in text.split("\n\n") {
        let mut schedules: HashMap<String, String> = HashMap::new();
        let mut plan = String::new();
        for line in section.lines() {
            for line in expanded(line, &calls) {
                let full = step(&line).map(|found| {
                    if !found.schedule.is_empty() {
                        schedules.insert(found.kernel.to_string(), found.schedule.to_string());
                    }
                    with_schedule(&found.call, schedules.get(found.kernel).map_or("", String::as_str))
                });
                plan += &(full.unwrap_or(line) + "\n");
            }
        }
        if calls.is_empty() {
            calls = plan.lines().map(|line| step(line).map_or(line.to_string(), |step| step.call)).collect();
        }
        plans.push(plan);
    }
    plans
}

/// The lines that a line of a section stands for, their schedules left out unless it has one.
fn expanded(line: &str, calls: &[String]) -> Vec<String> {
    let Some(reference) = line.strip_prefix('#') else { return vec![line.to_string()] };
    let number = |text: &str| text.parse::<usize>().expect("the number of a line");
    match reference.split_once("-#") {
        Some((first, last)) => calls[number(first)..=number(last)].to_vec(),
        None => {
            let (at, schedule) = reference.find(' ').map_or((reference, ""), |space| reference.split_at(space));
            let call = &calls[number(at)];
            vec![if schedule.is_empty() { call.clone() } else { with_schedule(call, schedule) }]
        }
    }
}
