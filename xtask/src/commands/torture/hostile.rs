//! A guest that prints what acts on a terminal or in a page, wherever it can: the harness runs on a terminal, and its
//! report is opened in a browser.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use softoff_harness::machine::folder::RunFolder;

use super::bench::Bench;
use super::faults::{Fault, Seen};
use super::look::Records;
use super::provoke::{and_next, judged, wired};
use super::trial::{Ended, Trial};
use crate::host_tools;

/// An application whose title would act on a page: it stands in the registry, from where the session starts it, and from
/// where the agent reads it back. A title can hold no control character: the registry is written by a text tool.
const TITLED: &str = r#"
summary = "An application whose title would act on a page"
images = ["reference"]

[[condition]]
kind = "unresponsive-application"
behaviour = "hangs"
title = "<script>document.title='titled'</script><img src=x onerror=console.error('titled')>"

[readiness]
within = "4m"

[request]
by = "acpi-button"
deadline = "10s"

[expect]
outcome = "still-running"
last_phase = "reacted"
cause = "unresponsive-application"
"#;

/// COM1, the agent and the registry.
pub(super) fn words(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let place = bench.place()?;
    let definition = place.tmp.with_file_name("titled.toml");
    std::fs::write(&definition, TITLED)?;
    let path = definition.to_string_lossy().into_owned();
    let trial = Trial::of(place, &["--scenario", &path, "--start", "cold"]);
    shown(bench, fault, trial, &[("probe", "owned"), ("agent", "titled"), ("host", "system_powerdown")])
}

/// COM1 and COM2.
pub(super) fn last_words(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, fault.options);
    shown(bench, fault, trial, &[("probe", "owned"), ("console", "owned")])
}

/// Runs it on a terminal and looks at what came there, and at its page. From each of these sources this word must be in
/// the timeline; otherwise nothing was shown.
fn shown(bench: &mut Bench, fault: &Fault, trial: Trial, words: &[(&str, &str)]) -> anyhow::Result<Seen> {
    if host_tools::browser().is_none() {
        return Ok(Seen::Unavailable("no browser is here for the page: apt-get install chromium".into()));
    }
    let mut trial = Trial { terminal: true, environment: bench.wire(fault.name)?, ..trial };
    let ended = trial.run(vec![])?;
    let mut seen = judged(&ended, fault);
    if let Seen::Result { problems, .. } = &mut seen {
        problems.extend(wired(&ended));
        let timeline = timeline(&ended);
        let told = |source: &str, word: &str| {
            timeline.iter().any(|(from, line)| from == source && line.contains(word))
        };
        let lacking = words.iter().filter(|(source, word)| !told(source, word));
        problems
            .extend(lacking.map(|(source, word)| format!("no {word} came from {source}: nothing was shown")));
        if !ended.stderr.contains("owned") {
            problems.push("no such word reached the terminal: nothing was shown".into());
        }
        let page = Records::newest(&ended.place.out).context("no record")?.dir.join("report.html");
        problems.extend(look_at_page(&page)?);
    }
    trial = Trial { terminal: false, environment: Vec::new(), ..trial };
    and_next(seen, &trial)
}

/// The lines of the newest timelines, each with its source.
fn timeline(ended: &Ended) -> Vec<(String, String)> {
    let Some(records) = Records::newest(&ended.place.out) else { return Vec::new() };
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(&records.dir).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path().join("timeline.jsonl")).unwrap_or_default();
        for line in text.lines() {
            let seen: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            lines.push((seen["source"].as_str().unwrap_or_default().to_owned(), line.to_owned()));
        }
    }
    lines
}

/// Opens a page and lets its scripts run; what is wrong with it then.
fn look_at_page(page: &Path) -> anyhow::Result<Vec<String>> {
    let browser = host_tools::browser().context("no browser is here: apt-get install chromium")?;
    let profile = RunFolder::create()?;
    // A browser that hangs must not hang the trial.
    let output = Command::new("timeout")
        .arg("--kill-after=5")
        .arg("60")
        .arg(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=2000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .context("starting the browser")?;
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let count = |what: &str| dom.matches(what).count();
    let mut problems = Vec::new();
    if !dom.contains("&lt;script&gt;document.title='owned'") {
        problems.push(format!("the page does not show the words: {} bytes", dom.len()));
    }
    if count("<script") != OWN_SCRIPTS {
        problems.push(format!("{} scripts are in the page, {OWN_SCRIPTS} are its own", count("<script")));
    }
    if dom.contains("<title>owned") || dom.contains("<img src=\"x\"") {
        problems.push("an element of the guest's came to life in the page".into());
    }
    problems.extend(
        log.lines().filter(|line| line.contains("CONSOLE")).map(|line| format!("the page complains: {line}")),
    );
    Ok(problems)
}

/// The record as JSON, and the page's own script.
const OWN_SCRIPTS: usize = 2;

#[cfg(test)]
mod tests {
    use super::super::lines::ESCAPES;
    use super::*;

    #[test]
    fn a_page_in_which_such_words_act_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("report.html");
        std::fs::write(&page, format!("<!doctype html><title>x</title><body>{ESCAPES}")).unwrap();
        let problems = look_at_page(&page).unwrap();
        for wrong in ["does not show", "1 scripts are", "came to life", "complains"] {
            assert!(problems.iter().any(|p| p.contains(wrong)), "{wrong}: {problems:?}");
        }
    }
}
