//! What a trial leaves, looked at: the verdict against what really happened, the records against their documented
//! shape, processes, folders, words on the terminal.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::trial::{Ended, SECRET, Trial, leftovers, processes, tail};

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
            problems.extend(secrets(&records.dir));
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
    let raw = |text: &str| text.chars().any(|c| (c.is_control() && c != '\n') || reorders(c));
    let said = if ended.terminal { without_our_own(&ended.stderr) } else { ended.stderr.clone() };
    if raw(&said) || raw(&String::from_utf8_lossy(&ended.stdout)) {
        problems.push("a control character on the terminal".into());
    }
    problems
}

/// What a terminal was sent, without what the harness itself sends there: colours, the cursor upwards, a line cleared,
/// the rest of the screen cleared, and the carriage return of each. A title, a whole screen cleared or a bell is no
/// deed of the harness and stays.
fn without_our_own(said: &str) -> String {
    let mut rest = said;
    let mut kept = String::new();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        kept.push_str(before);
        let numbers = after.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(after.len());
        let ours = match after.get(numbers..).unwrap_or_default().chars().next() {
            // Magenta is a guest's: nothing here is.
            Some('m') => after.get(..numbers) != Some("35"),
            Some('A' | 'K') => true,
            Some('J') => matches!(after.get(..numbers), Some("" | "0")),
            _ => false,
        };
        if !ours {
            kept.push('\u{1b}');
        }
        rest = after.get(numbers + usize::from(ours)..).unwrap_or_default();
    }
    kept.push_str(rest);
    kept.replace('\r', "")
}

/// Unicode's marks, embeddings, overrides and isolates of direction.
fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether QEMU's log of any scenario of the newest run has these words.
pub(super) fn in_qemu_log(out: &Path, words: &str) -> bool {
    let Some(records) = Records::newest(out) else { return false };
    let entries = std::fs::read_dir(&records.dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("qemu.log")).ok())
        .any(|log| String::from_utf8_lossy(&log).contains(words))
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

/// Files that hold something of the environment.
fn secrets(dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            problems.extend(secrets(&path));
        } else if std::fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(SECRET)) {
            problems.push(format!("{} tells of the environment", path.display()));
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
    living_after(tmp, GONE)
}

fn living_after(tmp: &Path, limit: Duration) -> Vec<String> {
    let began = Instant::now();
    loop {
        let left = processes(tmp);
        if left.is_empty() || began.elapsed() >= limit {
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use super::super::trial::Place;
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    const WENT_DOWN: &str = r#"{"at_us":1,"source":"qmp","seen":"qmp-event","data":{"name":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}}"#;

    /// A trial that went well: one control that passed, and nothing left.
    struct Planted {
        root: tempfile::TempDir,
        ended: Ended,
        run: Value,
        timeline: String,
        result: String,
    }

    impl Planted {
        fn new() -> Planted {
            let root = tempfile::tempdir().unwrap();
            let (tmp, out) = (root.path().join("t"), root.path().join("out"));
            std::fs::create_dir(&tmp).unwrap();
            let kept = include_str!("../../../../harness/tests/data/run-schema-1.json");
            let mut run: Value = serde_json::from_str(kept).unwrap();
            let results = run["results"].as_array().unwrap().iter().filter(|r| r["verdict"] == "pass");
            run["results"] = results.take(1).cloned().collect();
            let ended = Ended {
                status: ExitStatus::from_raw(0),
                stdout: Vec::new(),
                stderr: "pass  control\n".into(),
                wall: Duration::from_secs(1),
                peak_kib: 1,
                place: Place { tmp, out, cache: None },
                terminal: false,
            };
            Planted { root, ended, run, timeline: WENT_DOWN.into(), result: "{}".into() }
        }

        fn problems(&self) -> Vec<String> {
            let dir = self.ended.place.out.join("runs/20261128T000000Z");
            let scenario = dir.join(self.run["results"][0]["dir"].as_str().unwrap());
            std::fs::create_dir_all(&scenario).unwrap();
            std::fs::write(dir.join("run.json"), self.run.to_string()).unwrap();
            std::fs::write(scenario.join("timeline.jsonl"), &self.timeline).unwrap();
            std::fs::write(scenario.join("result.json"), &self.result).unwrap();
            problems(&self.ended, &["pass"])
        }
    }

    #[test]
    fn nothing_is_wrong_with_what_went_well() {
        assert_eq!(Planted::new().problems(), [""; 0]);
    }

    #[rstest]
    #[case::escape(|p: &mut Planted| p.ended.stderr.push('\u{1b}'), "control character")]
    #[case::reordering(|p: &mut Planted| p.ended.stderr.push('\u{202e}'), "control character")]
    #[case::escape_in_json(|p: &mut Planted| p.ended.stdout = b"\x9b\xc2\x9b".to_vec(), "control character")]
    #[case::panic(|p: &mut Planted| p.ended.stderr.push_str("thread 'x' panicked at y"), "a panic")]
    #[case::exit_code(|p: &mut Planted| p.ended.status = ExitStatus::from_raw(1 << 8), "where 0 was due")]
    #[case::other_verdict(|p: &mut Planted| p.run["results"][0]["verdict"] = json!("fail"), "verdict fail")]
    #[case::false_pass(|p: &mut Planted| p.timeline = WENT_DOWN.replace("true", "false"), "no shutdown by the guest")]
    #[case::no_schema(|p: &mut Planted| p.run["results"][0]["phases"] = json!(1), "run.json: ")]
    #[case::cut_result(|p: &mut Planted| p.result = "{\"a\":".into(), "is cut")]
    #[case::secret(|p: &mut Planted| p.result = json!({ "user": SECRET }).to_string(), "tells of the environment")]
    #[case::cut_timeline(|p: &mut Planted| p.timeline.push_str("\n{\"at"), "cannot be read")]
    #[case::folder(|p: &mut Planted| std::fs::create_dir(p.ended.place.tmp.join("softoff-x")).unwrap(), "left behind")]
    fn what_is_planted_is_seen(#[case] plant: fn(&mut Planted), #[case] told: &str) {
        let mut planted = Planted::new();
        plant(&mut planted);
        let problems = planted.problems();
        assert!(problems.iter().any(|problem| problem.contains(told)), "{problems:?}");
    }

    #[rstest]
    #[case::progress("\u{1b}[2K\r\u{1b}[1A\u{1b}[32mpass\u{1b}[0m control\r\n\u{1b}[J", "pass control\n")]
    #[case::title("\u{1b}]0;owned\u{7}x", "\u{1b}]0;owned\u{7}x")]
    #[case::screen_cleared("\u{1b}[2Jx", "\u{1b}Jx")]
    #[case::a_colour_of_theirs("\u{1b}[35mx", "\u{1b}mx")]
    #[case::cursor_set("\u{1b}[1;1Hx", "\u{1b}Hx")]
    #[case::cut("x\u{1b}[12", "x\u{1b}")]
    fn on_a_terminal_only_our_own_is_taken_out(#[case] said: &str, #[case] kept: &str) {
        assert_eq!(without_our_own(said), kept);
    }

    #[test]
    fn a_process_that_is_left_is_seen() {
        let planted = Planted::new();
        let file = planted.ended.place.tmp.join("held");
        std::fs::write(&file, "").unwrap();
        let mut living = Command::new("tail").arg("-f").arg(&file).spawn().unwrap();
        // A program that was just started has no command line for a moment.
        let looked = std::iter::repeat_with(|| living_after(&planted.ended.place.tmp, Duration::ZERO));
        let problems = looked.take(1000).find(|problems| !problems.is_empty()).unwrap_or_default();
        living.kill().unwrap();
        living.wait().unwrap();
        assert!(problems.len() == 1 && problems[0].contains("is left"), "{problems:?}");
        assert_eq!(left(&planted.ended.place.tmp), [""; 0]);
        drop(planted.root);
    }

    #[test]
    fn a_fault_that_was_done_stands_in_the_log() {
        let planted = Planted::new();
        planted.problems();
        let scenario = planted.run["results"][0]["dir"].as_str().unwrap().to_owned();
        let log = planted.ended.place.out.join("runs/20261128T000000Z").join(scenario).join("qemu.log");
        std::fs::write(&log, "something else").unwrap();
        assert!(!in_qemu_log(&planted.ended.place.out, "done"));
        std::fs::write(&log, "it is done\n").unwrap();
        assert!(in_qemu_log(&planted.ended.place.out, "done"));
    }
}
