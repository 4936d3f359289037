//! `junit.xml`: a test case for each scenario, image and request. What failed, what says nothing of the guest and
//! what was left out on purpose are three things: failure, error, skipped.

use std::time::Duration;

use anyhow::Context;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use crate::compare::Key;
use crate::outcome::Verdict;
use crate::record::RunRecord;
use crate::record::schema::ScenarioRecord;
use crate::record::words::seconds;
use crate::text::{printable, printable_lines};

/// The run as JUnit XML.
pub(super) fn render(run: &RunRecord) -> anyhow::Result<String> {
    let mut report = Report::new("softoff");
    report.set_time(Duration::from_millis(run.wall_ms));
    let mut images: Vec<&str> = run.results.iter().map(|r| r.image.name.as_str()).collect();
    images.sort_unstable();
    images.dedup();
    for image in images {
        let mut suite = TestSuite::new(format!("softoff.{image}"));
        let host = &run.host;
        suite.add_properties([
            Property::new("run", run.id.as_str()),
            Property::new("qemu", host.qemu.as_str()),
            Property::new("softoff", host.softoff.as_str()),
            Property::new("host", format!("{}, {}, {}", host.distribution, host.kernel, host.cpu_model)),
        ]);
        for result in run.results.iter().filter(|r| r.image.name == image && r.retry_of.is_none()) {
            suite.add_test_case(case(result, run));
        }
        report.add_test_suite(suite);
    }
    if !run.missing.is_empty() {
        let mut suite = TestSuite::new("softoff.missing");
        for name in &run.missing {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("missing").set_message("planned, and no shard brought it");
            suite.add_test_case(TestCase::new(name.as_str(), status));
        }
        report.add_test_suite(suite);
    }
    let xml = report.to_string().context("writing junit.xml")?;
    // Whatever text it came in: what acts in a terminal is shown (found by fuzzing: XML may hold U+007F), and what XML
    // cannot hold is left out. Our own mark-up has line feeds only.
    Ok(printable_lines(&xml).replace(['\u{fffe}', '\u{ffff}'], ""))
}

fn case(result: &ScenarioRecord, run: &RunRecord) -> TestCase {
    let mut name = format!("{} [{}]", result.scenario, result.request.by);
    if result.repeat > 1 {
        name.push_str(&format!(" #{}", result.repeat));
    }
    let mut case = TestCase::new(name, status(result, run));
    case.set_classname(format!("softoff.{}", result.subject()));
    case.set_time(Duration::from_millis(result.wall_ms));
    let mut property = |name: &str, value: String| {
        case.add_property(Property::new(name, value));
    };
    property("image", result.image.id.to_string());
    property("accelerator", result.accel.to_string());
    property("qemu", run.host.qemu.clone());
    property("firmware", result.basis.as_ref().map_or("unknown".into(), |b| b.firmware.clone()));
    property("outcome", result.outcome.kind().to_string());
    property("cause", result.diagnosis.cause.to_string());
    property("last-phase", result.last_phase.map_or("-".into(), |p| p.to_string()));
    if let Some(off) = result.phases.powered_off_ms {
        property("request-to-off", seconds(off));
    }
    // Jenkins' attachments plug-in reads these lines; elsewhere they are paths to look at.
    let files: Vec<String> =
        result.attachments.iter().map(|a| format!("[[ATTACHMENT|{}]]", a.path)).collect();
    case.set_system_out(files.join("\n"));
    case
}

fn status(result: &ScenarioRecord, run: &RunRecord) -> TestCaseStatus {
    let mut status = match result.verdict {
        Verdict::Pass => return TestCaseStatus::success(),
        Verdict::Flaky => {
            let mut status = TestCaseStatus::success();
            let mut failed = TestRerun::new(NonSuccessKind::Failure);
            failed.set_type("flaky").set_message(reasons(result));
            status.add_rerun(failed);
            return status;
        }
        Verdict::Fail => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            for retry in run.results.iter().filter(|r| is_retry(r, result)) {
                let mut again = TestRerun::new(NonSuccessKind::Failure);
                again.set_type(retry.verdict.to_string()).set_message(reasons(retry));
                status.add_rerun(again);
            }
            status
        }
        Verdict::Infra | Verdict::Inconclusive => TestCaseStatus::non_success(NonSuccessKind::Error),
        Verdict::KnownIssue | Verdict::Skipped => TestCaseStatus::skipped(),
    };
    status.set_type(result.verdict.to_string()).set_message(reasons(result));
    status
}

fn reasons(result: &ScenarioRecord) -> String {
    let all: Vec<String> = result.reasons.iter().map(|r| printable(r, 2000)).collect();
    all.join("\n")
}

fn is_retry(retry: &ScenarioRecord, of: &ScenarioRecord) -> bool {
    retry.retry_of == Some(of.repeat) && Key::of(retry) == Key::of(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::ORDER;
    use crate::report::testing::{result, run};

    #[test]
    fn verdicts_are_told_apart() {
        let mut results: Vec<ScenarioRecord> = ORDER
            .into_iter()
            .map(|verdict| {
                let mut result = result(&verdict.to_string(), 1);
                result.verdict = verdict;
                if verdict != Verdict::Pass {
                    result.reasons = vec!["said <\"&]]>\u{1b}[31m\u{0}\u{ffff}".into()];
                }
                result
            })
            .collect();
        let mut retry = result("fail", 2);
        (retry.verdict, retry.retry_of) = (Verdict::Fail, Some(1));
        results.push(retry);
        let mut run = run(results);
        run.missing = vec!["control.reference.2".into()];
        run.host.cpu_model = "7f\u{7f}8f\u{8f}".into();
        let xml = render(&run).unwrap();
        // Read back by the library that reads what other tools write: well-formed, and counted as we mean it.
        let read = Report::deserialize_from_str(&xml).unwrap();
        assert_eq!((read.tests, read.failures, read.errors), (8, 1, 3), "{xml}");
        assert!(!xml.chars().any(|c| c.is_control() && c != '\n'), "{xml}");
        insta::assert_snapshot!(xml);
    }
}
