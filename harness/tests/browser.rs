//! The report in a real browser: opened from a file, as people do, without a network.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "browser/chromium.rs"]
mod chromium;

use std::path::{Path, PathBuf};

use chromium::Chromium;
use serde_json::{Value, json};
use softoff_harness::compare::{Terms, compare};
use softoff_harness::outcome::Verdict;
use softoff_harness::record::RunRecord;
use softoff_harness::report::{PAGE, write_all};

const HOSTILE: &str = "</script><script>console.error('owned');document.title='owned'</script>\
    <img src='http://127.0.0.1:9/x' onerror=\"console.error('owned')\"><a href='javascript:alert(1)'>x</a>\
    \u{1b}]0;owned\u{7}\u{1b}[2J{{ page }}";

/// A run of four scenarios as it lies on a disk; one failed, and its guest was hostile.
fn run(dir: &Path) -> RunRecord {
    let mut run: RunRecord = serde_json::from_str(include_str!("data/run-schema-1.json")).unwrap();
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, 64, 40);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[90; 64 * 40]).unwrap();
    for result in &mut run.results {
        result.verdict = Verdict::Pass;
        result.reasons.clear();
        if result.scenario.0 == "unresponsive-application-hang" {
            result.verdict = Verdict::Fail;
            result.reasons = vec![HOSTILE.to_owned()];
        }
        // Everywhere that a guest's words can stand.
        result.damage.trouble = Some(HOSTILE.to_owned());
        result.diagnosis.lacks = vec![HOSTILE.to_owned()];
        for item in &mut result.diagnosis.evidence {
            item.what = HOSTILE.to_owned();
        }
        for proof in &mut result.proofs {
            proof.evidence = HOSTILE.to_owned();
        }
        let folder = dir.join(&result.dir);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("screen-001.png"), &png).unwrap();
        std::fs::write(folder.join("screen-002.png"), &png).unwrap();
        let seen = [
            json!({ "at_us": 9_000_000, "source": "screen", "seen": "screen-changed", "data": { "file": "screen-001.png", "changed": 0.9 } }),
            json!({ "at_us": 10_000_000, "source": "host", "seen": "requested", "data": { "by": "system_powerdown", "number": 1 } }),
            json!({ "at_us": 10_400_000, "source": "screen", "seen": "screen-changed", "data": { "file": "screen-002.png", "changed": 0.9 } }),
            json!({ "at_us": 11_060_000, "source": "qmp", "seen": "qmp-event", "data": { "name": HOSTILE, "data": null } }),
        ];
        let lines: Vec<String> = seen.iter().map(Value::to_string).collect();
        std::fs::write(folder.join("timeline.jsonl"), lines.join("\n")).unwrap();
    }
    run
}

fn visible(chromium: &mut Chromium) -> Vec<String> {
    let shown = chromium.look(
        "[...document.querySelectorAll('details.result')].filter(r => r.checkVisibility()).map(r => r.querySelector('b').textContent)",
    );
    let mut names: Vec<String> = serde_json::from_value(shown).unwrap();
    names.sort();
    names
}

fn shots() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

#[test]
fn the_page_needs_nothing_and_its_filters_and_keys_work() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path());
    let mut base = run.clone();
    base.host.qemu = "6.0".into();
    let page = write_all(dir.path(), &run, Some(&compare(&base, &run, &Terms::default()))).unwrap();
    let mut chromium = Chromium::start();
    chromium.open(&page, "");
    assert!(chromium.complaints.is_empty(), "{:?}", chromium.complaints);
    let elsewhere = |r: &&String| !r.starts_with("data:") && !r.starts_with("file:");
    let asked: Vec<_> = chromium.requests.iter().filter(elsewhere).collect();
    assert!(asked.is_empty(), "{asked:?}");
    assert!(chromium.requests.iter().any(|r| r.starts_with("data:image/png")), "{:?}", chromium.requests);

    // The record inside is the record, hostile texts and all.
    let inside = chromium.look("JSON.parse(document.getElementById('record').textContent)");
    let inside: RunRecord = serde_json::from_value(inside).unwrap();
    assert!(serde_json::to_value(&inside).unwrap() == serde_json::to_value(&run).unwrap());

    // Inert: no element of theirs, no title of theirs, and their words are there to be read.
    for (what, none) in [
        ("document.querySelectorAll('img:not([src^=\"data:image/png\"])').length", json!(0)),
        ("document.querySelectorAll('a[href^=javascript]').length", json!(0)),
        ("document.querySelectorAll('script').length", json!(2)),
        ("document.title.includes('owned')", json!(false)),
        ("document.body.textContent.includes(\"console.error('owned')\")", json!(true)),
    ] {
        assert_eq!(chromium.look(what), none, "{what}");
    }

    let all = ["control", "hard-power-off", "power-button-nothing", "unresponsive-application-hang"];
    assert_eq!(visible(&mut chromium), all);
    assert!(chromium.picture(&shots().join("report-matrix.png")) > 10_000);

    // By keyboard: / finds, letters narrow.
    chromium.key("/");
    chromium.call("Input.insertText", json!({ "text": "button host" }));
    assert_eq!(visible(&mut chromium), [""; 0]);
    chromium.look("document.getElementById('text').value = ''");
    chromium.call("Input.insertText", json!({ "text": "power-button" }));
    assert_eq!(visible(&mut chromium), ["power-button-nothing"]);
    assert_eq!(chromium.look("document.getElementById('shown').textContent"), "1 of 4 results");
    assert_eq!(chromium.look("document.querySelectorAll('.chip:not([hidden])').length"), 1);
    assert_eq!(chromium.look("document.querySelectorAll('.matrix tbody tr:not([hidden])').length"), 1);

    // j goes to the next result, Enter opens it.
    chromium.look("document.activeElement.blur()");
    chromium.key("j");
    chromium.key("Enter");
    assert_eq!(chromium.look("document.querySelector('details.result:not([hidden])').open"), true);

    // The address keeps the filter: the same page by that address shows the same.
    let hash = chromium.look("location.hash");
    assert_eq!(hash, "#text=power-button");
    chromium.open(&page, "#verdict=fail");
    assert_eq!(visible(&mut chromium), ["unresponsive-application-hang"]);
    chromium.look("document.querySelector('details.result:not([hidden])').scrollIntoView()");
    assert!(chromium.picture(&shots().join("report-failing.png")) > 10_000);
    chromium.look("document.querySelector('input[value=fail]').click()");
    assert_eq!(visible(&mut chromium), [""; 0]);

    // Dark where the reader's system is, and by the button.
    let paper = "getComputedStyle(document.body).backgroundColor";
    assert_eq!(chromium.look(paper), "rgb(255, 255, 255)");
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    chromium.call("Emulation.setEmulatedMedia", dark);
    assert_eq!(chromium.look(paper), "rgb(20, 23, 26)");
    // The page is told of it with its next frame.
    let pressed = "new Promise(seen => requestAnimationFrame(() => requestAnimationFrame(seen)))\
        .then(() => document.getElementById('theme').ariaPressed)";
    assert_eq!(chromium.look(pressed), "true");
    chromium.open(&page, "");
    assert!(chromium.picture(&shots().join("report-dark.png")) > 10_000);
    chromium.look("document.getElementById('theme').click()");
    assert_eq!(chromium.look(paper), "rgb(255, 255, 255)");
    assert_eq!(chromium.look(pressed), "false");
    assert!(chromium.complaints.is_empty(), "{:?}", chromium.complaints);
}

#[test]
fn a_page_that_complains_or_asks_elsewhere_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join(PAGE);
    std::fs::write(&page, format!("<!doctype html><body>{HOSTILE}")).unwrap();
    let mut chromium = Chromium::start();
    chromium.open(&page, "");
    assert!(chromium.complaints.iter().any(|c| c.contains("owned")), "{:?}", chromium.complaints);
    assert!(chromium.requests.iter().any(|r| r.starts_with("http:")), "{:?}", chromium.requests);
}
