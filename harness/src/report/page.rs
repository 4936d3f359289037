//! What the page shows, worked out from the records; the template only places it. Nothing here is escaped for
//! HTML: the template engine does that to everything.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use base64::Engine;
use serde::Serialize;

use super::drawing::{Drawing, draw};
use super::plot::{SoftHard, soft_hard};
use super::summary::ORDER;
use crate::condition::remedies;
use crate::image::GuestFamily;
use crate::outcome::{Cause, Verdict};
use crate::record::schema::{RunRecord, ScenarioRecord};
use crate::record::words::{median, seconds};
use crate::record::{self};
use crate::soft_versus_hard::{self, Arm};
use crate::text::printable;

/// Bytes of pictures inside the page; what does not fit is linked.
const PICTURES_LIMIT: u64 = 24 << 20;
/// Characters of one text; longer ones are cut.
const TEXT: usize = 600;

/// The page.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    id: String,
    started: String,
    wall: String,
    host: Vec<(&'static str, String)>,
    counts: Vec<(String, usize)>,
    interrupted: bool,
    missing: Vec<String>,
    reference: bool,
    images: Vec<String>,
    causes: Vec<String>,
    rows: Vec<Row>,
    runs: Vec<View>,
    plot: Option<SoftHard>,
    family: Option<Family>,
}

/// Damage against kill time, where the run has that family of scenarios.
#[derive(Debug, Serialize)]
struct Family {
    header: [&'static str; 9],
    rows: Vec<[String; 9]>,
    plot: String,
}

impl Family {
    fn of(run: &RunRecord) -> Option<Family> {
        let arms = soft_versus_hard::arms(run);
        (!arms.is_empty()).then(|| Family {
            header: soft_versus_hard::HEADER,
            rows: arms.iter().map(Arm::cells).collect(),
            plot: data_uri("image/svg+xml", soft_versus_hard::svg(&arms).as_bytes()),
        })
    }
}

/// One cause of the matrix: a cell for each image.
#[derive(Debug, Serialize)]
struct Row {
    cause: String,
    cells: Vec<Vec<Chip>>,
}

/// A scenario in the matrix, over its repeats.
#[derive(Debug, Serialize)]
struct Chip {
    key: Key,
    anchor: String,
    outcomes: String,
    off: String,
    count: usize,
}

/// What the filters look at.
#[derive(Debug, Clone, Serialize)]
struct Key {
    scenario: String,
    image: String,
    verdict: String,
    cause: String,
    text: String,
}

/// One result.
#[derive(Debug, Serialize)]
struct View {
    key: Key,
    anchor: String,
    open: bool,
    repeat: u32,
    retry_of: Option<u32>,
    windows: bool,
    outcome: String,
    off: String,
    last_phase: String,
    expected_cause: String,
    confidence: String,
    settled_by: String,
    reasons: Vec<String>,
    evidence: Vec<(String, String, String)>,
    also: Vec<String>,
    lacks: Vec<String>,
    remedies: Vec<&'static str>,
    proofs: Vec<(String, bool, String)>,
    facts: Vec<(&'static str, String)>,
    damage: Vec<(&'static str, String, bool)>,
    drawing: Option<Drawing>,
    no_drawing: String,
    pictures: Vec<Option<String>>,
    links: Vec<(String, String)>,
}

/// Works the page out. `dir` is the run's folder; what lies not there is not shown.
pub(super) fn page(dir: &Path, run: &RunRecord) -> Page {
    let mut room = PICTURES_LIMIT;
    let mut runs: Vec<View> =
        run.results.iter().enumerate().map(|(n, r)| view(dir, n, r, &mut room)).collect();
    let rank = |v: &View| ORDER.iter().position(|o| o.to_string() == v.key.verdict);
    let names = |f: fn(&ScenarioRecord) -> String| -> Vec<String> {
        run.results.iter().map(f).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let images = names(|r| r.image.name.clone());
    let rows = rows(run, &images);
    runs.sort_by_key(rank);
    let host = &run.host;
    Page {
        id: run.id.clone(),
        started: record::utc(run.started_at),
        wall: seconds(run.wall_ms),
        host: vec![
            ("QEMU", host.qemu.clone()),
            ("processor", format!("{} x {}", host.cpus, host.cpu_model)),
            ("memory", format!("{} MiB", host.memory_mib)),
            ("system", format!("{}, kernel {}", host.distribution, host.kernel)),
            ("Softoff", host.softoff.clone()),
        ],
        counts: ORDER
            .into_iter()
            .map(|v| (v.to_string(), run.results.iter().filter(|r| r.verdict == v).count()))
            .filter(|(_, count)| *count > 0)
            .collect(),
        interrupted: run.interrupted,
        missing: run.missing.clone(),
        reference: run.results.iter().any(|r| r.image.family == GuestFamily::Reference),
        images,
        causes: names(|r| r.diagnosis.cause.to_string()),
        rows,
        runs,
        plot: soft_hard(run),
        family: Family::of(run),
    }
}

/// Bytes as an address inside the page.
fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn anchor(number: usize) -> String {
    format!("result-{}", number + 1)
}

fn key(results: &[&ScenarioRecord]) -> Option<Key> {
    let first = results.first()?;
    let worst = ORDER.into_iter().find(|v| results.iter().any(|r| r.verdict == *v))?;
    let all = |f: &dyn Fn(&ScenarioRecord) -> String| -> String {
        results.iter().map(|r| f(r)).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
    };
    let cause = all(&|r| r.diagnosis.cause.to_string());
    let outcome = all(&|r| r.outcome.kind().to_string());
    let phase = all(&|r| r.last_phase.map_or(String::new(), |p| p.to_string()));
    Some(Key {
        scenario: first.scenario.to_string(),
        image: first.image.name.clone(),
        verdict: worst.to_string(),
        text: format!("{} {} {cause} {outcome} {phase}", first.scenario, first.image.name).to_lowercase(),
        cause,
    })
}

/// A row for each expected cause; where none is on record, the one that was named.
fn rows(run: &RunRecord, images: &[String]) -> Vec<Row> {
    let cause = |r: &ScenarioRecord| r.expected_cause.unwrap_or(r.diagnosis.cause);
    let causes: BTreeSet<Cause> = run.results.iter().map(cause).collect();
    let cell = |wanted: Cause, image: &String| -> Vec<Chip> {
        let here: Vec<(usize, &ScenarioRecord)> = run
            .results
            .iter()
            .enumerate()
            .filter(|(_, r)| cause(r) == wanted && r.image.name == *image && r.retry_of.is_none())
            .collect();
        let scenarios: BTreeSet<&str> = here.iter().map(|(_, r)| r.scenario.0.as_str()).collect();
        scenarios.into_iter().filter_map(|name| chip(&here, name)).collect()
    };
    causes
        .into_iter()
        .map(|c| Row { cause: c.to_string(), cells: images.iter().map(|i| cell(c, i)).collect() })
        .collect()
}

fn chip(here: &[(usize, &ScenarioRecord)], scenario: &str) -> Option<Chip> {
    let of: Vec<(usize, &ScenarioRecord)> =
        here.iter().copied().filter(|(_, r)| r.scenario.0 == scenario).collect();
    let results: Vec<&ScenarioRecord> = of.iter().map(|(_, r)| *r).collect();
    let outcomes: BTreeSet<String> = results.iter().map(|r| r.outcome.kind().to_string()).collect();
    let key = key(&results)?;
    // The chip leads to the result that gave it its colour.
    let number = of.iter().find(|(_, r)| r.verdict.to_string() == key.verdict).map_or(0, |(n, _)| *n);
    Some(Chip {
        key,
        anchor: anchor(number),
        outcomes: outcomes.into_iter().collect::<Vec<_>>().join(", "),
        off: median(results.iter().filter_map(|r| r.phases.powered_off_ms)).map_or(String::new(), seconds),
        count: results.len(),
    })
}

fn view(dir: &Path, number: usize, result: &ScenarioRecord, room: &mut u64) -> View {
    let folder = inside(dir, &result.dir);
    let timeline = match &folder {
        Some(folder) => record::read_timeline(folder).map_err(|e| format!("{e:#}")),
        None => Err(format!("{} is no folder inside the run's", printable(&result.dir, 100))),
    };
    let (drawing, no_drawing) = match timeline {
        Ok(observations) => (Some(draw(result, &observations)), String::new()),
        // The path would name a place of this machine, and says nothing to a reader elsewhere.
        Err(why) if folder.is_some() => (None, why.replace(&dir.display().to_string(), "the run's folder")),
        Err(why) => (None, why),
    };
    let pictures = drawing.iter().flat_map(|d| &d.pictures);
    let pictures = pictures.map(|p| folder.as_ref().and_then(|f| picture(f, &p.file, room))).collect();
    let text = |s: &str| printable(s, TEXT);
    let diagnosis = &result.diagnosis;
    let word = |v: serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    View {
        key: key(&[result]).unwrap_or(Key {
            scenario: result.scenario.to_string(),
            image: result.image.name.clone(),
            verdict: result.verdict.to_string(),
            cause: diagnosis.cause.to_string(),
            text: String::new(),
        }),
        anchor: anchor(number),
        open: matches!(result.verdict, Verdict::Fail | Verdict::Infra | Verdict::Inconclusive),
        repeat: result.repeat,
        retry_of: result.retry_of,
        windows: result.image.family == GuestFamily::Windows,
        outcome: result.outcome.kind().to_string(),
        off: result.phases.powered_off_ms.map_or(String::new(), seconds),
        last_phase: result.last_phase.map_or("-".into(), |p| p.to_string()),
        expected_cause: result.expected_cause.map_or(String::new(), |c| c.to_string()),
        confidence: diagnosis
            .confidence
            .map_or(String::new(), |c| word(serde_json::to_value(c).unwrap_or_default())),
        settled_by: result.settled_by.map_or(String::new(), |s| s.to_string()),
        reasons: result.reasons.iter().map(|r| text(r)).collect(),
        evidence: diagnosis
            .evidence
            .iter()
            .map(|e| {
                let kind = word(serde_json::to_value(e.kind).unwrap_or_default());
                (kind, text(&e.what), e.speaks_for.map_or(String::new(), |c| c.to_string()))
            })
            .collect(),
        also: diagnosis.also.iter().map(Cause::to_string).collect(),
        lacks: diagnosis.lacks.iter().map(|l| text(l)).collect(),
        remedies: remedies(diagnosis.cause),
        proofs: result.proofs.iter().map(|p| (text(&p.condition), p.present, text(&p.evidence))).collect(),
        facts: facts(result),
        damage: damage(result),
        drawing,
        no_drawing,
        pictures,
        links: result
            .attachments
            .iter()
            .filter_map(|a| Some((text(name_of(&a.path)), href(&a.path)?)))
            .collect(),
    }
}

fn facts(result: &ScenarioRecord) -> Vec<(&'static str, String)> {
    let answer = |value: Option<bool>| match value {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => "not known".to_owned(),
    };
    let request = &result.request;
    let mut facts = vec![
        ("request", format!("{} x {}", request.presses, request.by)),
        ("deadline", seconds(request.deadline_ms)),
        ("guest listened to the button", answer(result.delivery.listening)),
        ("guest took the press", answer(result.delivery.taken)),
        (
            "boot",
            result
                .boot_ms
                .map_or("never ready".into(), |ms| format!("{}, boots: {}", seconds(ms), result.boots)),
        ),
        ("accelerator", result.accel.to_string()),
        ("image", result.image.id.short().to_owned()),
    ];
    if let Some(basis) = &result.basis {
        facts.push(("machine", printable(&basis.machine, 200)));
        facts.push(("firmware", printable(&basis.firmware, 200)));
        facts.push(("definition", basis.definition.short().to_owned()));
    }
    facts
}

/// Name, value, and whether it is bad news.
fn damage(result: &ScenarioRecord) -> Vec<(&'static str, String, bool)> {
    let damage = &result.damage;
    let dirty = match damage.volume_dirty {
        Some(true) => ("marked dirty".to_owned(), true),
        Some(false) => ("clean".to_owned(), false),
        None => ("not read".to_owned(), false),
    };
    let mut rows = vec![("system volume", dirty.0, dirty.1)];
    rows.extend(damage.volume_flags.iter().map(|f| ("volume flags", printable(f, 40), false)));
    rows.extend(damage.trouble.iter().map(|t| ("trouble", printable(t, TEXT), false)));
    rows
}

/// A relative path of plain names below `dir`; records come from other machines too.
fn inside(dir: &Path, path: &str) -> Option<std::path::PathBuf> {
    let plain = |c: Component| matches!(c, Component::Normal(_));
    (!path.is_empty() && Path::new(path).components().all(plain)).then(|| dir.join(path))
}

/// A link to an attachment, percent-encoded; `None` for what leaves the run's folder.
fn href(path: &str) -> Option<String> {
    inside(Path::new(""), path)?;
    let mut out = String::from("./");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    Some(out)
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A screen as a data URI, if it is a PNG and there is room.
fn picture(folder: &Path, file: &str, room: &mut u64) -> Option<String> {
    let path = inside(folder, file)?;
    let length = path.metadata().ok()?.len();
    *room = room.checked_sub(length)?;
    let bytes = std::fs::read(&path).ok()?;
    let png = bytes.starts_with(b"\x89PNG\r\n\x1a\n");
    png.then(|| data_uri("image/png", &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("a.reference.1/serial.log", Some("./a.reference.1/serial.log"))]
    #[case::script("javascript:alert(1)", Some("./javascript%3Aalert%281%29"))]
    #[case::quote("a\"b", Some("./a%22b"))]
    #[case::parent("../../etc/passwd", None)]
    #[case::root("/etc/passwd", None)]
    #[case::hidden_parent("a/../../b", None)]
    #[case::empty("", None)]
    fn links_stay_in_the_folder(#[case] path: &str, #[case] link: Option<&str>) {
        assert_eq!(href(path).as_deref(), link);
    }

    #[test]
    fn only_pictures_for_which_there_is_room_are_taken_in() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.png"), b"\x89PNG\r\n\x1a\nrest").unwrap();
        std::fs::write(dir.path().join("b.png"), b"<svg onload=alert(1)>").unwrap();
        let mut room = 20;
        assert!(picture(dir.path(), "a.png", &mut room).unwrap().starts_with("data:image/png;base64,"));
        assert_eq!(room, 8);
        assert_eq!(picture(dir.path(), "a.png", &mut room), None);
        assert_eq!(picture(dir.path(), "b.png", &mut 1000), None);
        assert_eq!(picture(dir.path(), "../a.png", &mut 1000), None);
    }
}
