//! libvirt's results held against plain QMP's: the same scenarios in one run, each through both.

use crate::outcome::{BackendKind, Verdict};
use crate::record::RunRecord;
use crate::record::schema::ScenarioRecord;
use crate::record::words::seconds;
use crate::text::printable;

/// The header of the table.
pub const HEADER: [&str; 6] =
    ["scenario", "plain QMP", "through libvirt", "cause", "sent by libvirt for the first request", "same"];

/// One scenario through both.
#[derive(Debug)]
pub struct Pair<'a> {
    qemu: &'a ScenarioRecord,
    libvirt: &'a ScenarioRecord,
}

/// The scenarios that ran through both, in the results' order; of repeats the same repeat.
pub fn pairs(run: &RunRecord) -> Vec<Pair<'_>> {
    let same = |a: &ScenarioRecord, b: &ScenarioRecord| {
        (&a.scenario, &a.image.name, a.repeat) == (&b.scenario, &b.image.name, b.repeat)
    };
    let of = |kind: BackendKind| run.results.iter().filter(move |r| r.backend == kind);
    of(BackendKind::Qemu)
        .filter_map(|qemu| Some(Pair { qemu, libvirt: of(BackendKind::Libvirt).find(|r| same(r, qemu))? }))
        .collect()
}

impl Pair<'_> {
    /// Whether both say something of the guest, and the same: outcome, last phase and cause.
    pub fn same(&self) -> bool {
        let said = |r: &ScenarioRecord| (r.outcome.kind(), r.last_phase, r.diagnosis.cause);
        let both = [self.qemu, self.libvirt];
        both.iter().all(|r| r.verdict == Verdict::Pass) && said(self.qemu) == said(self.libvirt)
    }

    /// The cells of its row, as [`HEADER`] names them.
    pub fn cells(&self) -> [String; 6] {
        let end = |r: &ScenarioRecord| {
            let verdict =
                if r.verdict == Verdict::Pass { String::new() } else { format!(" ({})", r.verdict) };
            let time = r.phases.powered_off_ms.map_or(String::new(), |ms| format!(" {}", seconds(ms)));
            format!("{}{time}{verdict}", r.outcome.kind())
        };
        let cause = match (self.qemu.diagnosis.cause, self.libvirt.diagnosis.cause) {
            (a, b) if a == b => a.to_string(),
            (a, b) => format!("{a} / {b}"),
        };
        let sent = self.libvirt.requests.first().map_or("-".to_owned(), |request| {
            let sent = request.sent.as_deref().unwrap_or_default().join(", ");
            match &request.refused {
                Some(why) => format!("{sent} (refused: {})", printable(why, 60)).trim_start().to_owned(),
                None => sent,
            }
        });
        let same = if self.same() { "yes" } else { "NO" };
        [
            printable(&self.qemu.scenario.0, 60),
            end(self.qemu),
            end(self.libvirt),
            cause,
            if sent.is_empty() { "nothing".to_owned() } else { sent },
            same.to_owned(),
        ]
    }
}

/// The table as Markdown; empty for a run that has no pairs.
pub fn markdown(run: &RunRecord) -> String {
    let pairs = pairs(run);
    if pairs.is_empty() {
        return String::new();
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
    let mut text = line(&HEADER.map(str::to_owned)) + &line(&HEADER.map(|_| "---".to_owned()));
    pairs.iter().for_each(|pair| text += &line(&pair.cells()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::testing::{result, run};

    #[test]
    fn a_pair_is_the_same_only_where_both_passed_with_the_same_words() {
        let through = |scenario: &str, outcome: Outcome| {
            let mut record = result(scenario, 1);
            record.backend = BackendKind::Libvirt;
            record.outcome = outcome;
            record
        };
        let mut infra = through("c", Outcome::PoweredOff);
        infra.verdict = Verdict::Infra;
        let run = run(vec![
            result("a", 1),
            result("b", 1),
            result("c", 1),
            result("alone", 1),
            through("a", Outcome::PoweredOff),
            through("b", Outcome::StillRunning),
            infra,
        ]);
        let same: Vec<(String, bool)> =
            pairs(&run).iter().map(|p| (p.cells()[0].clone(), p.same())).collect();
        assert_eq!(same, [("a".into(), true), ("b".into(), false), ("c".into(), false)]);
        assert!(markdown(&run).contains("| NO |"));
    }
}
