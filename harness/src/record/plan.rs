//! What a run set out to do, and what of it is finished: so that an interrupted run can go on.
//!
//! `plan.json` is written before the first scenario begins. A scenario counts as finished when everything of its record
//! is whole and is of this plan; of anything less nothing is believed, and the scenario runs again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{RESULT, STARTED, ScenarioRecord, TIMELINE, is_plain_name, write_json};
use crate::file_lock::FileLock;
use crate::host::HostFingerprint;
use crate::image::Sha256Hex;
use crate::timeline::{Observation, Seen};

/// Name of the plan in a run's folder.
pub const PLAN: &str = "plan.json";
/// Where the folders of scenarios go that were cut, each with a number behind its name.
pub const UNFINISHED: &str = "unfinished";
/// Locked by the process that works on the run; the kernel gives it back, however that ends.
const LOCK: &str = "run.lock";

/// The plan of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this shape, 1.
    pub schema: u32,
    /// Seconds since 1970 when the run began, UTC.
    pub started_at: u64,
    /// The command line behind `run`.
    pub arguments: Vec<String>,
    /// The folder it was given in: paths in it are relative to that.
    pub folder: PathBuf,
    /// The host: results of two hosts are no one run.
    pub host: HostFingerprint,
    /// What is to be run, in order.
    pub jobs: Vec<PlannedJob>,
}

/// One scenario of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedJob {
    /// Its folder's name: `<scenario>.<image>.<n>`.
    pub dir: String,
    /// Hash of its definition.
    pub definition: Sha256Hex,
    /// The image's identity.
    pub image: Sha256Hex,
}

/// The right to work on a run; nobody else has it meanwhile. `None` when somebody else works on it.
pub fn lock(dir: &Path) -> anyhow::Result<Option<FileLock>> {
    let path = dir.join(LOCK);
    FileLock::take(&path).with_context(|| format!("cannot write {}; is the disk full?", path.display()))
}

/// Writes the plan of a run.
pub fn write_plan(dir: &Path, plan: &Plan) -> anyhow::Result<()> {
    write_json(&dir.join(PLAN), plan)
}

/// Reads the plan of a run.
pub fn read_plan(dir: &Path) -> anyhow::Result<Plan> {
    let path = dir.join(PLAN);
    let bytes = fs::read(&path).with_context(|| {
        format!("cannot read {}: this is no run that can go on; `cargo xtask run` begins one", path.display())
    })?;
    let plan: Plan = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no plan; `cargo xtask run` begins a new run", path.display()))?;
    anyhow::ensure!(
        plan.schema == 1,
        "{} has schema {}, this Softoff knows 1; update Softoff",
        path.display(),
        plan.schema
    );
    let foreign = plan.jobs.iter().find(|job| !is_plain_name(&job.dir));
    anyhow::ensure!(foreign.is_none(), "{} names a folder outside the run's", path.display());
    Ok(plan)
}

/// What a run's folder holds of its plan.
#[derive(Debug)]
pub struct Found {
    /// The whole results, in the plan's order; further repeats and retries behind them.
    pub results: Vec<ScenarioRecord>,
    /// Folders of scenarios that are not whole, each with why.
    pub cut: Vec<(String, String)>,
}

/// Looks at every scenario's folder of a run.
pub fn finished(dir: &Path, plan: &Plan) -> anyhow::Result<Found> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter(|e| e.path().join(STARTED).exists() || e.path().join(RESULT).exists())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    let place = |name: &String| plan.jobs.iter().position(|job| job.dir == *name).unwrap_or(usize::MAX);
    names.sort_by_key(|name| (place(name), name.clone()));
    let mut found = Found { results: Vec::new(), cut: Vec::new() };
    for name in names {
        match whole(&dir.join(&name), &name, plan) {
            Ok(record) => found.results.push(record),
            Err(why) => found.cut.push((name, format!("{why:#}"))),
        }
    }
    Ok(found)
}

/// The result of a scenario's folder, if everything of it is there.
fn whole(dir: &Path, name: &str, plan: &Plan) -> anyhow::Result<ScenarioRecord> {
    let marker = fs::read(dir.join(STARTED)).context("no start marker")?;
    let _json: serde_json::Value = serde_json::from_slice(&marker).context("the start marker is cut")?;
    let bytes = fs::read(dir.join(RESULT)).context("no result: it was cut there")?;
    let record: ScenarioRecord = serde_json::from_slice(&bytes).context("the result is cut")?;
    anyhow::ensure!(record.dir == name, "the result is of another folder, {}", record.dir);
    // The plan's own job, or a further repeat or retry of one.
    let group = |dir: &str| dir.rsplit_once('.').map(|(group, _)| group.to_owned());
    let job = plan.jobs.iter().find(|job| group(&job.dir) == group(name)).context("not of this plan")?;
    anyhow::ensure!(record.image.id == job.image, "the result is of another image");
    let definition = record.basis.as_ref().map(|basis| &basis.definition);
    anyhow::ensure!(definition == Some(&job.definition), "the result is of another definition");
    let text = fs::read_to_string(dir.join(TIMELINE)).context("no timeline")?;
    anyhow::ensure!(text.ends_with('\n'), "the timeline is cut");
    let mut settled = false;
    for line in text.lines() {
        let seen: Observation = serde_json::from_str(line).context("the timeline is damaged")?;
        settled |= matches!(seen.what, Seen::Settled { .. });
    }
    anyhow::ensure!(settled, "the timeline ends before the outcome was settled");
    Ok(record)
}

/// Moves a scenario's folder out of the way, for whoever wants to look at it; gives its new place.
pub fn set_aside(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let aside = dir.join(UNFINISHED);
    fs::create_dir_all(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    let free = (1..).map(|n| aside.join(format!("{name}.{n}"))).find(|path| !path.exists());
    let to = free.context("no free name")?;
    fs::rename(dir.join(name), &to).with_context(|| format!("cannot move {name} to {}", to.display()))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::record::schema::Basis;
    use crate::report::testing::result;

    const NAME: &str = "control.reference.1";

    /// A run of one scenario, finished.
    fn run(dir: &Path) -> Plan {
        let mut record = result("control", 1);
        let hash = |text: &str| Sha256Hex::of_bytes(text.as_bytes());
        record.basis = Some(Basis { definition: hash("x"), machine: String::new(), firmware: String::new() });
        let folder = dir.join(NAME);
        fs::create_dir(&folder).unwrap();
        write_json(&folder.join(STARTED), &serde_json::json!({})).unwrap();
        write_json(&folder.join(RESULT), &record).unwrap();
        let settled = r#"{"at_us":1,"source":"host","seen":"settled","data":{"outcome":"powered-off"}}"#;
        fs::write(folder.join(TIMELINE), format!("{settled}\n")).unwrap();
        Plan {
            schema: 1,
            started_at: 0,
            arguments: vec![],
            folder: "/".into(),
            host: crate::report::testing::run([]).host,
            jobs: vec![PlannedJob { dir: NAME.into(), definition: hash("x"), image: record.image.id }],
        }
    }

    fn look(dir: &Path, plan: &Plan) -> (usize, Vec<String>) {
        let found = finished(dir, plan).unwrap();
        (found.results.len(), found.cut.into_iter().map(|(_, why)| why).collect())
    }

    #[test]
    fn a_finished_scenario_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let plan = run(dir.path());
        assert_eq!(look(dir.path(), &plan), (1, vec![]));
    }

    fn cut(dir: &Path, name: &str, keep: usize) {
        let path = dir.join(NAME).join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..keep.min(bytes.len())]).unwrap();
    }

    #[rstest]
    #[case::no_result(|d: &Path, _: &mut Plan| fs::remove_file(d.join(NAME).join(RESULT)).unwrap(), "cut there")]
    #[case::half_a_result(|d: &Path, _: &mut Plan| cut(d, RESULT, 300), "result is cut")]
    #[case::an_empty_result(|d: &Path, _: &mut Plan| cut(d, RESULT, 0), "result is cut")]
    #[case::only_the_neighbour(
        |d: &Path, _: &mut Plan| fs::rename(d.join(NAME).join(RESULT), d.join(NAME).join("result.json.part")).unwrap(),
        "cut there"
    )]
    #[case::no_marker(|d: &Path, _: &mut Plan| fs::remove_file(d.join(NAME).join(STARTED)).unwrap(), "start marker")]
    #[case::half_a_marker(|d: &Path, _: &mut Plan| cut(d, STARTED, 1), "start marker")]
    #[case::no_timeline(|d: &Path, _: &mut Plan| fs::remove_file(d.join(NAME).join(TIMELINE)).unwrap(), "no timeline")]
    #[case::half_a_timeline(|d: &Path, _: &mut Plan| cut(d, TIMELINE, 40), "timeline is cut")]
    #[case::an_empty_timeline(|d: &Path, _: &mut Plan| cut(d, TIMELINE, 0), "timeline")]
    #[case::never_settled(
        |d: &Path, _: &mut Plan| fs::write(d.join(NAME).join(TIMELINE), "{\"at_us\":1,\"source\":\"host\",\"seen\":\"ready\"}\n").unwrap(),
        "before the outcome"
    )]
    #[case::another_definition(|_: &Path, p: &mut Plan| p.jobs[0].definition = Sha256Hex::default(), "another definition")]
    #[case::another_image(|_: &Path, p: &mut Plan| p.jobs[0].image = Sha256Hex::default(), "another image")]
    #[case::of_another_run(|_: &Path, p: &mut Plan| p.jobs[0].dir = "other.reference.1".into(), "not of this plan")]
    #[case::renamed(
        |d: &Path, p: &mut Plan| {
            fs::rename(d.join(NAME), d.join("control.reference.2")).unwrap();
            p.jobs[0].dir = "control.reference.2".into();
        },
        "another folder"
    )]
    fn anything_less_is_not(#[case] damage: fn(&Path, &mut Plan), #[case] why: &str) {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = run(dir.path());
        damage(dir.path(), &mut plan);
        let (whole, reasons) = look(dir.path(), &plan);
        assert_eq!(whole, 0);
        assert!(reasons.len() == 1 && reasons[0].contains(why), "{reasons:?}");
    }

    /// Wherever a crash cuts a result, nothing of it is believed.
    #[test]
    fn no_beginning_of_a_result_is_a_result() {
        let dir = tempfile::tempdir().unwrap();
        let plan = run(dir.path());
        let path = dir.path().join(NAME).join(RESULT);
        let bytes = fs::read(&path).unwrap();
        // The last byte is the line feed.
        for keep in 0..bytes.len() - 1 {
            fs::write(&path, &bytes[..keep]).unwrap();
            assert_eq!(look(dir.path(), &plan).0, 0, "{keep}");
        }
    }

    #[test]
    fn what_is_set_aside_stays_for_a_look_and_counts_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let plan = run(dir.path());
        let to = set_aside(dir.path(), NAME).unwrap();
        assert!(to.join(RESULT).exists());
        assert_eq!(look(dir.path(), &plan), (0, vec![]));
        assert_eq!(super::super::unfinished(dir.path()), [""; 0]);
        run(dir.path());
        assert_ne!(set_aside(dir.path(), NAME).unwrap(), to);
    }

    #[test]
    fn two_do_not_work_on_one_run_and_a_plan_stays_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert!(first.is_some() && lock(dir.path()).unwrap().is_none());
        drop(first);
        assert!(lock(dir.path()).unwrap().is_some());
        let mut plan = run(dir.path());
        write_plan(dir.path(), &plan).unwrap();
        assert_eq!(read_plan(dir.path()).unwrap(), plan);
        plan.jobs[0].dir = "../../outside".into();
        write_plan(dir.path(), &plan).unwrap();
        assert!(read_plan(dir.path()).unwrap_err().to_string().contains("outside"));
    }
}
