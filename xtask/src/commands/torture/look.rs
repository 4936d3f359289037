//! What a trial leaves, looked at: the verdict against what really happened, the records against their documented
//! shape, processes, folders, words on the terminal.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::trial::{Ended, Trial, leftovers, processes, tail};

/// How long the kernel may take to bring down what was killed.
const GONE: Duration = Duration::from_secs(5);

/// What the harness wrote of a run.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) dir: PathBuf,
    /// `run.json`, when there is one.
    pub(super) run: Option<Value>,
}

impl Records {
    /// The newest run below `out`.
    pub(super) fn newest(out: &Path) -> Option<Records> {
        let entries = std::fs::read_dir(out.join("runs")).ok()?.flatten().map(|e| e.path());
        let dir = entries.max()?;
        let run = std::fs::read(dir.join("run.json")).ok().and_then(|b| serde_json::from_slice(&b).ok());
        Some(Records { dir, run })
    }

    /// The results, each with verdict and outcome.
    pub(super) fn results(&self) -> Vec<(String, String, Value)> {
        let text = |v: &Value| v.as_str().unwrap_or("?").to_owned();
        let all = self.run.as_ref().and_then(|run| run["results"].as_array()).cloned().unwrap_or_default();
        all.into_iter().map(|r| (text(&r["verdict"]), text(&r["outcome"]["kind"]), r)).collect()
    }

    pub(super) fn verdicts(&self) -> Vec<String> {
        self.results().into_iter().map(|(verdict, ..)| verdict).collect()
    }
}

/// Looks at everything; what is wrong, a sentence each. `allowed`: the verdicts that are right here.
pub(super) fn problems(ended: &Ended, allowed: &[&str]) -> Vec<String> {
    let mut problems = words(ended);
    let records = Records::newest(&ended.place.out);
    match &records {
        Some(records) => {
            problems.extend(readable(records));
            for (verdict, outcome, result) in records.results() {
                if !allowed.contains(&verdict.as_str()) {
                    problems.push(format!("verdict {verdict} ({outcome}): {}", result["reasons"]));
                }
                let dir = result["dir"].as_str().unwrap_or_default();
                // What was asked there is that the host pulls the plug.
                let pulled = result["request"]["by"] == "hard-power-off" && outcome == "host-killed";
                if verdict == "pass" && !pulled && !went_down(&records.dir.join(dir)) {
                    problems.push(format!("{dir} passes, and its timeline has no shutdown by the guest"));
                }
            }
            problems.extend(exit_code(ended, records));
        }
        None if ended.status.code() == Some(3) => {}
        None => problems.push(format!("no record, and it ended with {}", ended.status)),
    }
    problems.extend(left(&ended.place.tmp));
    problems
}

/// No panic, no control characters.
pub(super) fn words(ended: &Ended) -> Vec<String> {
    let mut problems = Vec::new();
    if ended.stderr.contains("panicked at") {
        problems.push(format!("a panic: {}", tail(&ended.stderr)));
    }
    let raw = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    if raw(&ended.stderr) || raw(&String::from_utf8_lossy(&ended.stdout)) {
        problems.push("a control character on the terminal".into());
    }
    problems
}

/// The exit code says what the results say.
fn exit_code(ended: &Ended, records: &Records) -> Option<String> {
    let run = records.run.as_ref()?;
    let verdicts = records.verdicts();
    let any = |wanted: &[&str]| verdicts.iter().any(|v| wanted.contains(&v.as_str()));
    let wanted = if any(&["fail"]) {
        1
    } else if run["interrupted"] == true {
        130
    } else if any(&["infra", "inconclusive"]) || verdicts.is_empty() {
        3
    } else {
        0
    };
    (ended.status.code() != Some(wanted))
        .then(|| format!("{} where {wanted} was due ({})", ended.status, tail(&ended.stderr)))
}

/// An independent reading of a timeline: the guest's own shutdown is in it.
fn went_down(dir: &Path) -> bool {
    let text = std::fs::read_to_string(dir.join("timeline.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|seen| {
        let data = &seen["data"];
        let by_guest = data["data"]["guest"] == true && data["data"]["reason"] == "guest-shutdown";
        seen["seen"] == "qmp-event" && data["name"] == "SHUTDOWN" && by_guest
    })
}

/// Everything that was written can be read, and has the documented shape.
pub(super) fn readable(records: &Records) -> Vec<String> {
    let mut problems = Vec::new();
    let schema = serde_json::from_str(include_str!("../../../../harness/schema/run.schema.json"));
    let validator = schema.ok().and_then(|schema| jsonschema::validator_for(&schema).ok());
    let Some(validator) = validator else { return vec!["the schema cannot be read".into()] };
    if let Some(run) = &records.run {
        let error = validator.iter_errors(run).next();
        problems.extend(error.map(|e| format!("run.json: {} {e}", e.instance_path())));
    }
    for entry in std::fs::read_dir(&records.dir).into_iter().flatten().flatten() {
        let dir = entry.path();
        for name in ["started.json", "result.json", "registry.json"] {
            if let Ok(bytes) = std::fs::read(dir.join(name))
                && serde_json::from_slice::<Value>(&bytes).is_err()
            {
                problems.push(format!("{} is cut", dir.join(name).display()));
            }
        }
        let text = std::fs::read_to_string(dir.join("timeline.jsonl")).unwrap_or_default();
        let cut = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
        if cut > 0 && dir.join("result.json").exists() {
            problems.push(format!("{}: {cut} lines cannot be read", dir.display()));
        }
        for (name, most) in [("serial.log", 9 << 20), ("qemu.log", 9 << 20), ("timeline.jsonl", 32 << 20)] {
            let size = dir.join(name).metadata().map_or(0, |m| m.len());
            if size > most {
                problems.push(format!("{} has {size} bytes", dir.join(name).display()));
            }
        }
    }
    problems
}

/// Processes and folders that are left; the kernel has a moment to end what was killed.
pub(super) fn left(tmp: &Path) -> Vec<String> {
    let mut problems = living(tmp);
    problems.extend(leftovers(tmp).iter().map(|path| format!("left behind: {}", path.display())));
    problems
}

/// Processes that are left.
pub(super) fn living(tmp: &Path) -> Vec<String> {
    let began = Instant::now();
    loop {
        let left = processes(tmp);
        if left.is_empty() || began.elapsed() > GONE {
            return left
                .into_iter()
                .map(|(pid, line)| format!("process {pid} is left: {}", tail(&line)))
                .collect();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A plain run in the same place afterwards: it works, and sweeps what a killed one left.
pub(super) fn next_run_works(trial: &Trial) -> anyhow::Result<Vec<String>> {
    let ended = trial.run(vec![]).context("the next run")?;
    let problems = problems(&ended, &["pass"]).into_iter();
    Ok(problems.map(|problem| format!("the next run: {problem}")).collect())
}
