//! Faults that are done to the harness itself: Ctrl-C, SIGTERM, and SIGKILL at any moment; and going on afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::Signal;
use serde_json::Value;
use softoff_harness::report::PAGE;

use super::bench::Bench;
use super::faults::{Fault, Seen};
use super::look::{self, Records};
use super::provoke::and_next;
use super::trial::{Act, Ended, Place, Trial, tail};

/// Two scenarios in a row: one may be finished when the other is cut.
const PAIR: &[&str] = &["--scenario", "control", "--start", "warm", "--repeat", "2"];

/// How long two Ctrl-C may take to end everything.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Goes on with a run, in the same place.
pub(super) fn resume(place: &Place, run: &Path) -> anyhow::Result<Ended> {
    resuming(place, run).run(vec![])
}

fn resuming(place: &Place, run: &Path) -> Trial {
    let arguments = vec!["run".to_owned(), "--resume".to_owned(), run.display().to_string()];
    Trial { place: place.clone(), arguments, environment: Vec::new(), before: Vec::new(), terminal: false }
}

/// Results that were whole, by their folders: the bytes as they are.
fn whole(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten().map(|e| e.path());
    let results = entries.filter_map(|dir| Some((dir.clone(), std::fs::read(dir.join("result.json")).ok()?)));
    results.filter(|(_, bytes)| serde_json::from_slice::<Value>(bytes).is_ok()).collect()
}

/// Whether a run has all it will ever have: then nothing is left to go on with, and `--resume` says so.
fn has_ended(records: &Records) -> bool {
    let ended = records.run.as_ref().is_some_and(|run| run["interrupted"] == false);
    ended && records.dir.join(PAGE).exists()
}

/// Goes on with the newest run and looks whether both results are there, and what was finished is as it was.
fn goes_on(place: &Place, problems: &mut Vec<String>) -> anyhow::Result<()> {
    let records = Records::newest(&place.out).context("no run")?;
    let had_ended = has_ended(&records);
    let run = records.dir;
    let before = whole(&run);
    let ended = resume(place, &run)?;
    if had_ended && (ended.status.code() != Some(2) || !ended.stderr.contains("is left to run")) {
        problems.push(format!(
            "nothing was left, and it ended with {}: {}",
            ended.status,
            tail(&ended.stderr)
        ));
    }
    problems.extend(if had_ended { look::words(&ended) } else { look::problems(&ended, &["pass"]) });
    let verdicts = Records::newest(&place.out).map(|r| r.verdicts()).unwrap_or_default();
    if verdicts != ["pass", "pass"] {
        problems.push(format!("resumed, and there are {verdicts:?}; it said: {}", tail(&ended.stderr)));
    }
    let after = whole(&run);
    for (dir, bytes) in before {
        if after.get(&dir) != Some(&bytes) {
            problems.push(format!("{} was finished, and has changed", dir.display()));
        }
    }
    Ok(())
}

pub(super) fn interrupted_once(bench: &mut Bench, _: &Fault) -> anyhow::Result<Seen> {
    asked_to_stop(bench, Signal::SIGINT)
}

pub(super) fn terminated(bench: &mut Bench, _: &Fault) -> anyhow::Result<Seen> {
    asked_to_stop(bench, Signal::SIGTERM)
}

fn asked_to_stop(bench: &mut Bench, signal: Signal) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, PAIR);
    let ended = trial.run(vec![("asked; waiting", Box::new(|living| living.signal(signal)))])?;
    let mut problems = look::problems(&ended, &["pass"]);
    let records = Records::newest(&ended.place.out).context("no record")?;
    let run = records.run.clone().unwrap_or_default();
    if ended.status.code() != Some(130) || run["interrupted"] != true {
        problems.push(format!("{}, interrupted: {}", ended.status, run["interrupted"]));
    }
    if !records.dir.join("report.html").exists() {
        problems.push("no partial report".into());
    }
    goes_on(&ended.place, &mut problems)?;
    let said =
        format!("exit 130 after {:.1} s, partial report; resumed: 2 of 2 pass", ended.wall.as_secs_f64());
    and_next(Seen::Result { said, problems }, &trial)
}

pub(super) fn interrupted_twice(bench: &mut Bench, _: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, PAIR);
    let mut pressed = Instant::now();
    let ended = trial.run(vec![(
        "asked; waiting",
        Box::new(|living| {
            living.signal(Signal::SIGINT)?;
            std::thread::sleep(Duration::from_millis(30));
            pressed = Instant::now();
            living.signal(Signal::SIGINT).or(Ok(()))
        }),
    )])?;
    let took = pressed.elapsed();
    let mut problems = look::words(&ended);
    if ended.status.code() != Some(130) || took > AT_ONCE {
        problems.push(format!("{} after {took:?}", ended.status));
    }
    // Its folder stays for the next run to sweep; its processes do not.
    problems.extend(look::living(&ended.place.tmp));
    problems.extend(Records::newest(&ended.place.out).iter().flat_map(look::readable));
    goes_on(&ended.place, &mut problems)?;
    let said = format!("exit 130 within {:.1} s; resumed: 2 of 2 pass", took.as_secs_f64());
    and_next(Seen::Result { said, problems }, &trial)
}

/// Killed when every result is there and the reports are not: they are still owed.
pub(super) fn killed_reporting(bench: &mut Bench, _: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, PAIR);
    let kill = || -> Act<'_> { ("records: ", Box::new(|living| living.signal(Signal::SIGKILL))) };
    // Interrupted first: the page of the part must not pass for the page of the whole.
    let ended = trial.run(vec![("asked; waiting", Box::new(|living| living.signal(Signal::SIGINT)))])?;
    let run = Records::newest(&ended.place.out).context("no record")?.dir;
    let ended = resuming(&ended.place, &run).run(vec![kill()])?;
    let mut problems = look::words(&ended);
    problems.extend(look::living(&ended.place.tmp));
    if run.join(PAGE).exists() {
        problems.push("the page was there already: this trial has shown nothing".into());
    }
    goes_on(&ended.place, &mut problems)?;
    if !run.join(PAGE).exists() {
        problems.push("resumed, and there is no page".into());
    }
    and_next(Seen::Result { said: "no page; resumed: 2 of 2 pass, and the page".into(), problems }, &trial)
}

pub(super) fn killed(bench: &mut Bench, _: &Fault) -> anyhow::Result<Seen> {
    let whole = match bench.pair {
        Some(pair) => pair,
        None => Trial::of(bench.place()?, PAIR).run(vec![])?.wall,
    };
    bench.pair = Some(whole);
    let mut problems = Vec::new();
    let (mut before_plan, mut cut, mut between, mut after) = (0, 0, 0, 0);
    for number in 1..=bench.moments {
        let trial = Trial::of(bench.place()?, PAIR);
        let moment = whole.mul_f64(bench.rng.f64());
        let running = trial.start()?;
        std::thread::sleep(moment);
        // It may have ended by itself.
        let _reached = running.living.signal(Signal::SIGKILL);
        let ended = running.finish(vec![])?;
        let mut wrong = look::words(&ended);
        wrong.extend(look::living(&ended.place.tmp));
        match Records::newest(&ended.place.out).filter(|records| records.dir.join("plan.json").exists()) {
            None => {
                before_plan += 1;
                wrong.extend(look::next_run_works(&Trial::control(ended.place.clone()))?);
            }
            Some(records) => {
                wrong.extend(look::readable(&records));
                let unfinished = softoff_harness::record::unfinished(&records.dir).len();
                *match (unfinished > 0, has_ended(&records)) {
                    (true, _) => &mut cut,
                    (false, true) => &mut after,
                    (false, false) => &mut between,
                } += 1;
                goes_on(&ended.place, &mut wrong)?;
            }
        }
        let at = format!("moment {number}, {:.2} s", moment.as_secs_f64());
        problems.extend(wrong.into_iter().map(|problem| format!("{at}: {problem}")));
    }
    let said = format!(
        "{} moments: {cut} within a scenario, {between} between, {before_plan} before the plan; all resumed; {after} after the end: refused",
        bench.moments
    );
    Ok(Seen::Result { said, problems })
}
