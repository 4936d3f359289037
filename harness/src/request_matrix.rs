//! Cause against policy: what became of one scenario under each way to ask, when, by which request, and with what harm.
//!
//! Made from the results of scenarios under policies (`control@twice`). Written into the run's folder as `requests.md`,
//! and as `requests.txt` without times, which is what snapshots hold.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::outcome::{OutcomeKind, Verdict};
use crate::record::RunRecord;
use crate::record::schema::ScenarioRecord;
use crate::scenario::PolicyRef;
use crate::settle::RequestMade;
use crate::text::printable;

/// The table, for people.
pub const FILE: &str = "requests.md";
/// The same without times.
pub const NORMALISED: &str = "requests.txt";

/// The matrix of a run: the policies in the order of its results, and one row for each scenario.
#[derive(Debug)]
pub struct Matrix<'a> {
    /// The policies, as column heads.
    pub policies: Vec<String>,
    /// A scenario and its cells; `None` where nothing was run.
    pub rows: Vec<(String, Vec<Option<Cell<'a>>>)>,
}

/// One result.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    result: &'a ScenarioRecord,
    policy: &'a PolicyRef,
}

/// The matrices of a run: that of press policies, and that of platforms; without results of a kind, none of it.
pub fn matrices(run: &RunRecord) -> Vec<Matrix<'_>> {
    [false, true].into_iter().filter_map(|platform| matrix(run, platform)).collect()
}

fn matrix(run: &RunRecord, platform: bool) -> Option<Matrix<'_>> {
    let cells: Vec<Cell<'_>> =
        run.results.iter().filter_map(Cell::of).filter(|c| c.policy.platform == platform).collect();
    let unique = |name: &dyn Fn(&Cell<'_>) -> String| {
        let mut all: Vec<String> = Vec::new();
        for cell in &cells {
            let name = name(cell);
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all
    };
    let policies = unique(&|cell| printable(&cell.policy.id, 40));
    let scenarios = unique(&|cell| printable(&cell.policy.scenario.0, 60));
    let rows = scenarios.into_iter().map(|scenario| {
        let find = |policy: &String| {
            cells.iter().rfind(|c| c.policy.scenario.0 == scenario && c.policy.id == *policy).copied()
        };
        let row = policies.iter().map(find).collect();
        (scenario, row)
    });
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then_some(Matrix { policies, rows })
}

impl<'a> Cell<'a> {
    fn of(result: &'a ScenarioRecord) -> Option<Cell<'a>> {
        Some(Cell { result, policy: result.request.policy.as_ref()? })
    }

    /// The request that ended the machine or, failing that, that it reacted to.
    fn request(&self) -> Option<&'a RequestMade> {
        let took = self.result.took_effect;
        let number = took.ended.or(took.reacted)?;
        self.result.requests.iter().find(|r| r.number == number)
    }

    /// When the machine ended, from the first request.
    fn ended(&self) -> Option<Duration> {
        let at = match self.result.outcome.kind() {
            OutcomeKind::HostKilled => self.result.plug_pulled_ms,
            _ => self.result.phases.powered_off_ms,
        };
        at.map(Duration::from_millis)
    }

    /// Outcome, time, the request that took effect, and harm, a line each.
    pub fn lines(&self) -> Vec<String> {
        let outcome = self.result.outcome.kind();
        if matches!(self.result.verdict, Verdict::Infra) || self.result.last_phase.is_none() {
            let why = self.result.reasons.first().map(|why| printable(why, 60)).unwrap_or_default();
            return vec![self.result.verdict.to_string(), why];
        }
        let mut lines = vec![match self.ended() {
            Some(at) => format!("{outcome} {:.1} s", at.as_secs_f64()),
            None => outcome.to_string(),
        }];
        if self.policy.cut_short {
            let planned = self.policy.forced_after_ms.map(Duration::from_millis).unwrap_or_default();
            lines.push(format!("(its {} s cut short)", planned.as_secs()));
        }
        let took = self.result.took_effect;
        if let Some(request) = self.request() {
            let verb = if took.ended.is_some() { "by" } else { "reacted to" };
            lines.push(format!("{verb} {} {}", request.number, short(&request.by)));
        }
        lines.extend(harm(self.result));
        lines
    }

    /// What must be the same in every run.
    fn normalised(&self) -> String {
        let result = self.result;
        let number = |n: Option<u32>| n.map_or("-".to_owned(), |n| n.to_string());
        let phase = result.last_phase.map_or("-".to_owned(), |p| p.to_string());
        let volume = match (result.outcome.ended_the_machine(), result.damage.volume_dirty) {
            (true, Some(true)) => "dirty",
            (true, Some(false)) => "clean",
            _ => "-",
        };
        [
            result.scenario.to_string(),
            result.outcome.kind().to_string(),
            phase,
            format!("reacted to {}", number(result.took_effect.reacted)),
            format!("ended by {}", number(result.took_effect.ended)),
            result.diagnosis.cause.to_string(),
            volume.to_owned(),
            if interrupted(result) { "update interrupted".to_owned() } else { "-".to_owned() },
        ]
        .join(" | ")
    }
}

/// A request's name in a narrow column.
fn short(by: &str) -> &'static str {
    use crate::settle::{AGENT, DEFAULT, PRESS, is_plug};
    match by {
        _ if by == PRESS => "press",
        _ if by == AGENT => "agent",
        _ if by == DEFAULT => "virsh shutdown",
        _ if is_plug(by) => "plug",
        _ => "?",
    }
}

fn interrupted(result: &ScenarioRecord) -> bool {
    let disk = result.damage.disk.as_ref();
    disk.and_then(|disk| disk.updates.as_ref()?.modelled.as_ref())
        .is_some_and(|update| update.is_interrupted())
}

/// What the disk shows as harmed, a few words each; empty where nothing was, or where the machine still ran and no
/// disk tells.
pub fn harm(result: &ScenarioRecord) -> Vec<String> {
    if !result.outcome.ended_the_machine() {
        return Vec::new();
    }
    let mut harm = Vec::new();
    if result.damage.volume_dirty == Some(true) {
        harm.push("volume dirty".to_owned());
    }
    if interrupted(result) {
        harm.push("update interrupted".to_owned());
    }
    if let Some(documents) = result.damage.disk.as_ref().and_then(|disk| disk.documents.as_ref()) {
        let (flushed, unflushed) = (documents.flushed.lost(), documents.unflushed.lost());
        if flushed + unflushed > 0 {
            let all = documents.flushed.intact.len() + documents.unflushed.intact.len() + flushed + unflushed;
            harm.push(format!("{} of {all} documents lost", flushed + unflushed));
        }
    }
    if result.damage.volume_dirty.is_none() {
        harm.push("disk not read".to_owned());
    }
    harm
}

/// The normalised results, a line each, in the results' order.
pub fn normalised(results: &[ScenarioRecord]) -> String {
    results.iter().filter_map(Cell::of).map(|cell| cell.normalised() + "\n").collect()
}

/// The matrices as Markdown; empty for a run without any.
pub fn markdown(run: &RunRecord) -> String {
    let mut text = String::new();
    for matrix in matrices(run) {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
        text += &line([vec!["scenario".to_owned()], matrix.policies.clone()].concat());
        text += &line(vec!["---".to_owned(); matrix.policies.len() + 1]);
        for (scenario, cells) in &matrix.rows {
            let cells =
                cells.iter().map(|cell| cell.map_or("not run".to_owned(), |c| c.lines().join("<br>")));
            text += &line([vec![scenario.clone()], cells.collect()].concat());
        }
        text += "\n";
    }
    text
}

/// What the cells say.
pub const LEGEND: &str = "A cell: the outcome and when it came after the first request; the request that ended the machine, by its \
                          number, or that the guest reacted to; what the disk shows as harmed.";

/// Writes both files into the run's folder, if the run has such results; tells whether it has.
pub fn write(dir: &Path, run: &RunRecord) -> anyhow::Result<bool> {
    let text = markdown(run);
    if text.is_empty() {
        return Ok(false);
    }
    let note = "Results of the reference guest are no Windows results.";
    let text = format!("# Cause against policy\n\n{text}{LEGEND} {note}\n");
    for (file, text) in [(FILE, text), (NORMALISED, normalised(&run.results))] {
        let path = dir.join(file);
        std::fs::write(&path, text)
            .with_context(|| format!("cannot write {}; is the disk full?", path.display()))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Phase};
    use crate::report::testing::{result, run};
    use crate::scenario::ScenarioName;
    use crate::settle::TookEffect;

    fn under(scenario: &str, policy: &str) -> ScenarioRecord {
        let mut record = result(&format!("{scenario}@{policy}"), 1);
        record.request.policy = Some(PolicyRef {
            id: policy.into(),
            scenario: ScenarioName(scenario.into()),
            platform: false,
            forced_after_ms: None,
            cut_short: false,
        });
        record
    }

    #[test]
    fn each_scenario_is_a_row_and_what_was_not_run_shows() {
        let mut killed = under("hang", "escalate");
        killed.outcome = Outcome::HostKilled;
        killed.last_phase = Some(Phase::Reacted);
        killed.plug_pulled_ms = Some(20_004);
        killed.damage.volume_dirty = Some(true);
        killed.took_effect = TookEffect { reacted: Some(1), ended: Some(2) };
        let made = |number, by: &str| RequestMade {
            number,
            by: by.into(),
            at_ms: 0,
            took_ms: None,
            sent: None,
            refused: None,
        };
        killed.requests = vec![made(1, "system_powerdown"), made(2, "SIGKILL")];
        let mut broken = under("control", "escalate");
        broken.verdict = Verdict::Infra;
        broken.reasons = vec!["no libvirtd".into()];
        let run = run(vec![under("control", "once"), broken, killed]);
        let matrices = matrices(&run);
        let matrix = matrices.first().unwrap();
        assert_eq!(matrix.policies, ["once", "escalate"]);
        let text = markdown(&run);
        assert!(
            text.contains("| hang | not run | host-killed 20.0 s<br>by 2 plug<br>volume dirty |"),
            "{text}"
        );
        assert!(text.contains("infra<br>no libvirtd"), "{text}");
        let lines = normalised(&run.results);
        let last = lines.lines().last().unwrap();
        assert!(
            last.starts_with("hang@escalate | host-killed | reacted | reacted to 1 | ended by 2 |"),
            "{last}"
        );
        assert!(last.ends_with("| dirty | -"), "{last}");
    }
}
