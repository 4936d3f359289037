//! Records: everything about a run, written so that a crash of ours shows.
//!
//! A run's folder is `<out>/runs/<id>/`; `<out>/latest` points at the newest. Inside:
//!
//! ```text
//! plan.json                     what the run set out to do; an interrupted one goes on from it
//! run.json                      the results, schema 1 (harness/schema/run.schema.json)
//! unfinished/                   scenario folders that were cut, set aside when the run went on
//! <scenario>.<image>.<n>/
//!     started.json              written first; without result.json beside it, the harness died here
//!     result.json               this scenario's entry of run.json
//!     timeline.jsonl            every observation, one JSON object a line
//!     registry.json             what the registry on the disk says about shutting down
//!     screen-001.png ...        the screen, whenever it changed
//!     next-boot/                timeline, pictures and logs of the next boot, where the scenario asks for one
//!     serial.log, qemu.log      the guest's console, QEMU's own words
//! ```

pub mod normal;
pub mod overhead;
pub mod past;
pub mod plan;
pub mod schema;
pub mod words;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::guest::registry_facts::RegistryFacts;
use crate::image::is_word;
use crate::text::civil;
use crate::timeline::Observation;
pub use schema::{RunRecord, ScenarioRecord};

/// Name of the results file.
pub const RUN_JSON: &str = "run.json";
/// A link to the newest run, beside the folder of runs.
pub const LATEST: &str = "latest";
const STARTED: &str = "started.json";
const RESULT: &str = "result.json";
const TIMELINE: &str = "timeline.jsonl";
const REGISTRY: &str = "registry.json";

/// The folder of one run.
#[derive(Debug, Clone)]
pub struct RunStore {
    dir: PathBuf,
}

impl RunStore {
    /// Makes the folder of a new run below `out`, and points `latest` at it.
    pub fn create(out: &Path) -> anyhow::Result<RunStore> {
        let runs = out.join("runs");
        let hint =
            || format!("cannot make {}; free disk space or choose another folder with --out", runs.display());
        fs::create_dir_all(&runs).with_context(hint)?;
        let stamp = timestamp(SystemTime::now());
        // Two runs may begin in the same second.
        let dir = (0..1000)
            .map(|n| if n == 0 { stamp.clone() } else { format!("{stamp}-{n}") })
            .map(|id| runs.join(id))
            .find(|dir| fs::create_dir(dir).is_ok())
            .with_context(hint)?;
        let store = RunStore { dir };
        store.point_latest(out);
        Ok(store)
    }

    /// `latest` is a convenience; failing to set it fails nothing.
    fn point_latest(&self, out: &Path) {
        let Some(id) = self.dir.file_name() else { return };
        let fresh = out.join(format!(".latest-{}", std::process::id()));
        let target = Path::new("runs").join(id);
        if std::os::unix::fs::symlink(target, &fresh).is_ok() && fs::rename(&fresh, out.join(LATEST)).is_err()
        {
            let _gone = fs::remove_file(&fresh);
        }
    }

    /// The folder of a run that goes on.
    pub fn reopen(dir: &Path) -> RunStore {
        RunStore { dir: dir.to_owned() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The run's id: its folder's name.
    pub fn id(&self) -> String {
        self.dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Makes the folder of one scenario and writes its start marker.
    pub fn begin(&self, name: &str, marker: &serde_json::Value) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir(&dir).with_context(|| {
            format!("cannot make {}; free disk space or choose another folder with --out", dir.display())
        })?;
        write_json(&dir.join(STARTED), marker)?;
        Ok(dir)
    }

    /// Writes a scenario's timeline and result marker.
    pub fn finish(
        &self,
        dir: &Path,
        record: &ScenarioRecord,
        timeline: &[Observation],
    ) -> anyhow::Result<()> {
        self.write_timeline(dir, timeline)?;
        write_json(&dir.join(RESULT), record)
    }

    /// Writes a scenario's timeline; without a result beside it, it tells of a run that was cut.
    pub fn write_timeline(&self, dir: &Path, timeline: &[Observation]) -> anyhow::Result<()> {
        write_timeline(dir, timeline)
    }

    /// Writes what the registry says, for a later diagnosis.
    pub fn write_registry(&self, dir: &Path, facts: &RegistryFacts) -> anyhow::Result<()> {
        write_json(&dir.join(REGISTRY), facts)
    }

    /// Writes `run.json`.
    pub fn write_run(&self, record: &RunRecord) -> anyhow::Result<()> {
        write_run(&self.dir, record)
    }
}

/// Writes a timeline into a folder.
pub fn write_timeline(dir: &Path, timeline: &[Observation]) -> anyhow::Result<()> {
    let path = dir.join(TIMELINE);
    let mut file =
        BufWriter::new(File::create(&path).with_context(|| format!("cannot write {}", path.display()))?);
    for observation in timeline {
        serde_json::to_writer(&mut file, observation)?;
        file.write_all(b"\n")?;
    }
    file.flush().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes `run.json` into a folder.
pub fn write_run(dir: &Path, record: &RunRecord) -> anyhow::Result<()> {
    write_json(&dir.join(RUN_JSON), record)
}

/// Whether this is one file name and no path: records come from other machines, too.
pub fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    write_whole(path, &bytes)
}

/// Writes to a neighbour and renames, so that a half-written file never has the name.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let hint = || format!("cannot write {}; is the disk full?", path.display());
    let mut partial = path.to_owned().into_os_string();
    partial.push(".part");
    fs::write(&partial, bytes).with_context(hint)?;
    fs::rename(&partial, path).with_context(hint)
}

/// Reads `run.json` of a run's folder. Older schemas are accepted: fields they lack have defaults.
pub fn read_run(dir: &Path) -> anyhow::Result<RunRecord> {
    let path = dir.join(RUN_JSON);
    let bytes = fs::read(&path).with_context(|| {
        format!(
            "cannot read {}; `cargo xtask run` writes one, and a run that was cut has only scenario folders",
            path.display()
        )
    })?;
    let record: RunRecord =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not a run record", path.display()))?;
    anyhow::ensure!(
        record.schema <= schema::SCHEMA,
        "{} has schema {}, this Softoff knows up to {}; update Softoff",
        path.display(),
        record.schema,
        schema::SCHEMA
    );
    if let Some(name) = strange_name(&record) {
        let name = crate::text::printable(name, 80);
        anyhow::bail!("{} names something `{name}`, which is no name of Softoff's", path.display());
    }
    Ok(record)
}

/// The first name in a record that is no plain word. Names become paths and columns; a record may come from anywhere.
fn strange_name(run: &RunRecord) -> Option<&str> {
    let results = run.results.iter();
    let of_results = results.flat_map(|r| [r.scenario.0.as_str(), r.image.name.as_str(), r.dir.as_str()]);
    let planned = run.shard.iter().flat_map(|s| &s.plan).map(|p| p.dir.as_str());
    let names = of_results.chain(planned).chain([run.id.as_str()]);
    names.chain(run.missing.iter().map(String::as_str)).find(|name| !is_name(name))
}

/// Letters, digits, `-`, `_` and `.`, and no more than a folder's name may have.
fn is_name(name: &str) -> bool {
    name.len() <= 255
        && name.split('.').all(|part| part.is_empty() || is_word(part, ""))
        && is_plain_name(name)
}

/// Reads a scenario's timeline, ordered by time. Lines of a newer Softoff that are not understood are left
/// out; a file in which none is understood is an error.
pub fn read_timeline(dir: &Path) -> anyhow::Result<Vec<Observation>> {
    let path = dir.join(TIMELINE);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}; give the folder of one scenario, such as target/softoff/latest/control.reference.1",
            path.display()
        )
    })?;
    let mut known: Vec<Observation> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    anyhow::ensure!(!known.is_empty(), "{} holds no observation", path.display());
    known.sort_by_key(|o| o.at_us);
    Ok(known)
}

/// Reads the registry facts of a scenario's record; `None` when it has none.
pub fn read_registry(dir: &Path) -> anyhow::Result<Option<RegistryFacts>> {
    let path = dir.join(REGISTRY);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} holds no registry facts", path.display()))
}

/// Reads a scenario's result; `None` when it has none: the harness died there, or the record is a fragment.
pub fn read_result(dir: &Path) -> anyhow::Result<Option<ScenarioRecord>> {
    let path = dir.join(RESULT);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let record: ScenarioRecord = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no scenario's result", path.display()))?;
    let names = [&record.scenario.0, &record.image.name, &record.dir];
    anyhow::ensure!(names.iter().all(|name| is_name(name)), "{} has strange names in it", path.display());
    Ok(Some(record))
}

/// Whether this is the folder of one scenario.
pub fn is_scenario(dir: &Path) -> bool {
    dir.join(TIMELINE).is_file()
}

/// The scenario folders of a run's folder, by name.
pub fn scenario_dirs(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut dirs: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| is_scenario(p)).collect();
    dirs.sort();
    Ok(dirs)
}

/// Scenario folders of a run that have a start marker and no result: the harness died in them.
pub fn unfinished(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let died = |path: &PathBuf| path.join(STARTED).exists() && !path.join(RESULT).exists();
    let mut names: Vec<String> = entries
        .flatten()
        .map(|e| e.path())
        .filter(died)
        .filter_map(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// UTC of so many seconds since 1970 as people read it, `2026-11-23 18:40:31`.
pub fn utc(seconds: u64) -> String {
    let [year, month, day, hour, minute, second] = civil(seconds.min(MOST_SECONDS));
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The end of the year 9999: what a record says is foreign.
const MOST_SECONDS: u64 = 253_402_300_799;

/// UTC as `20261123T184031Z`.
fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or(0);
    let [year, month, day, hour, minute, second] = civil(seconds);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::time::Duration;

    #[rstest]
    #[case(0, "19700101T000000Z")]
    #[case(951_782_400, "20000229T000000Z")]
    #[case(1_795_459_231, "20261123T184031Z")]
    #[case(4_107_542_399, "21000228T235959Z")]
    fn timestamps(#[case] seconds: u64, #[case] text: &str) {
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
    }

    #[rstest]
    #[case(1_795_459_231, "2026-11-23 18:40:31")]
    #[case(u64::MAX, "9999-12-31 23:59:59")]
    fn people_read_utc(#[case] seconds: u64, #[case] text: &str) {
        assert_eq!(utc(seconds), text);
    }

    #[rstest]
    #[case("control.reference.1", true)]
    #[case("20261123T184031Z-2", true)]
    #[case("../../outside", false)]
    #[case("a/b", false)]
    #[case("", false)]
    #[case("..", false)]
    #[case("x\u{1b}[2J", false)]
    #[case("<script>", false)]
    #[case("a b", false)]
    fn names_are_words_and_no_paths(#[case] name: &str, #[case] is: bool) {
        assert_eq!(is_name(name), is);
    }

    #[test]
    fn a_start_without_a_result_shows() {
        let out = tempfile::tempdir().unwrap();
        let store = RunStore::create(out.path()).unwrap();
        store.begin("control.reference.1", &serde_json::json!({})).unwrap();
        let second = RunStore::create(out.path()).unwrap();
        assert_ne!(store.id(), second.id());
        assert_eq!(unfinished(store.dir()), ["control.reference.1"]);
        let latest = fs::canonicalize(out.path().join("latest")).unwrap();
        assert_eq!(latest, fs::canonicalize(second.dir()).unwrap());
        assert!(read_run(store.dir()).unwrap_err().to_string().contains("cargo xtask run"));
    }
}
