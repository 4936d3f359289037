//! One run on two machines, of which one dies: what it had not finished is missing, and nothing else; when it has gone on,
//! both together are what one machine alone would have brought.

use std::collections::BTreeSet;

use anyhow::Context;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::bench::Bench;
use super::faults::{Fault, Seen};
use super::harness::resume;
use super::look::{self, Records};
use super::trial::{Ended, Place, Trial};

/// One scenario for each machine: of two that nothing is known of, the first by name is the first shard's.
const PAIR: &[&str] = &["--scenario", "control", "--scenario", "hard-power-off", "--start", "warm"];
/// What the merge says when something is missing.
const MISSING: i32 = 3;

pub(super) fn one_killed(bench: &mut Bench, _: &Fault) -> anyhow::Result<Seen> {
    let whole = Trial::of(bench.place()?, PAIR).run(vec![])?;
    let mut problems = look::problems(&whole, &["pass"]);
    let expected = told(&whole.place)?;
    if expected.len() != 2 {
        problems.push(format!("unsharded there are {expected:?}"));
    }

    let killed = Trial::of(bench.place()?, PAIR)
        .with(&["--shard", "1/2"])
        .run(vec![("asked; waiting", Box::new(|living| living.signal(Signal::SIGKILL)))])?;
    problems.extend(look::words(&killed));
    problems.extend(look::living(&killed.place.tmp));
    let other = Trial::of(bench.place()?, PAIR).with(&["--shard", "2/2"]).run(vec![])?;
    problems.extend(look::problems(&other, &["pass"]));

    let shards = [&killed.place, &other.place];
    let (cut, merged) = merge(bench.place()?, shards)?;
    let missing = Records::newest(&merged.out).and_then(|r| r.run).map(|run| run["missing"].clone());
    let missing: Vec<String> = serde_json::from_value(missing.unwrap_or_default()).unwrap_or_default();
    if cut.status.code() != Some(MISSING) || missing.len() != 1 || told(&merged)? != told(&other.place)? {
        problems.push(format!("merged with the cut one: {}, missing {missing:?}", cut.status));
    }

    let run = Records::newest(&killed.place.out).context("the killed shard has no run")?.dir;
    problems.extend(look::problems(&resume(&killed.place, &run)?, &["pass"]));
    let (whole_again, merged) = merge(bench.place()?, shards)?;
    if !whole_again.status.success() || told(&merged)? != expected {
        problems.push(format!("merged after it went on: {}, {:?}", whole_again.status, told(&merged)?));
    }
    let said = format!("missing {}, exit {MISSING}; resumed and merged: as unsharded", missing.join(", "));
    Ok(Seen::Result { said, problems })
}

/// `report merge` of both shards' folders, into the place's own.
fn merge(place: Place, shards: [&Place; 2]) -> anyhow::Result<(Ended, Place)> {
    let mut arguments: Vec<String> = ["report", "merge", "--out"].map(str::to_owned).into();
    arguments.push(place.out.display().to_string());
    arguments.extend(shards.map(|shard| shard.out.display().to_string()));
    let trial = Trial {
        place: place.clone(),
        arguments,
        environment: Vec::new(),
        before: Vec::new(),
        terminal: false,
    };
    Ok((trial.run(vec![])?, place))
}

/// Folder, verdict and outcome of each result of the newest run.
fn told(place: &Place) -> anyhow::Result<BTreeSet<(String, String, String)>> {
    let records = Records::newest(&place.out).context("no run")?;
    let dir = |result: &Value| result["dir"].as_str().unwrap_or("?").to_owned();
    let all = records.results().into_iter();
    Ok(all.map(|(verdict, outcome, result)| (dir(&result), verdict, outcome)).collect())
}
