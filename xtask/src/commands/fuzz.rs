//! `cargo xtask fuzz`

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeVal;
use softoff_harness::machine::folder::RunFolder;
use softoff_harness::text::utc;

use crate::{Failure, host_tools};

/// What is fuzzed, each with the longest input that makes sense.
const TARGETS: [(&str, u32); 10] = [
    ("partition", 64 << 10),
    ("fat", 4096),
    ("volume", 512),
    ("evtx_pair", 4096),
    ("qmp", 4096),
    ("agent", 4096),
    ("probe_line", 4096),
    ("scenario", 4096),
    ("record", 16 << 10),
    ("report", 2048),
];
/// One input may take so long before libFuzzer calls it a hang, seconds.
const HANG: u32 = 20;
/// Memory of a fuzzer, MiB: the readers' own limit is 256, the rest is libFuzzer's corpus.
const MEMORY: u32 = 1024;
/// Coverage by LLVM's own pass, which the stable compiler carries; AddressSanitizer would need a nightly one. The same
/// that `cargo fuzz -s none` asks for.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";
const LOG: &str = "ci/fuzz-log.md";

/// Fuzz whatever reads foreign bytes: disks, QMP, the agent, probe lines, definitions, records, reports
///
/// Builds the targets in fuzz/ with the stable compiler and runs each for a time, with libFuzzer. A crash, a hang or
/// too much memory leaves the input in fuzz/artifacts/. What was run is added to ci/fuzz-log.md with --log.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz --seconds 60                    # what CI runs: a minute each
  cargo xtask fuzz --target volume --seconds 1800 --log
  target/fuzz/x86_64-unknown-linux-gnu/release/volume fuzz/artifacts/volume/crash-...   # an input again

Exit codes: 0 nothing was found, 1 an input crashes a reader or makes it hang, 3 a target cannot be built or
was stopped from outside.")]
pub(crate) struct Args {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Only this target
    #[arg(long, value_name = "NAME", value_parser = TARGETS.map(|(name, _)| name))]
    target: Option<String>,
    /// Add what was run to ci/fuzz-log.md
    #[arg(long)]
    log: bool,
}

/// What a target's run came to.
struct Ran {
    target: &'static str,
    time: Duration,
    /// What of it a processor worked: beside other work a fuzzer gets less than its time.
    worked: Duration,
    inputs: Option<u64>,
    came_to: CameTo,
}

/// How a target ended.
#[derive(Debug, PartialEq, Eq)]
enum CameTo {
    Nothing,
    /// libFuzzer's finding, with its input.
    Found(String),
    /// Ended from outside before its time: no finding, and no full time either.
    Stopped(String),
}

/// libFuzzer's exit code after SIGINT or SIGTERM (`InterruptExitCode` of its FuzzerOptions.h).
const INTERRUPTED: i32 = 72;

impl CameTo {
    /// `said`: libFuzzer's standard error. SIGKILL may be the kernel's, short of memory: still no input is at hand.
    fn of(status: ExitStatus, said: &str, workspace: &Path) -> CameTo {
        if status.success() {
            return CameTo::Nothing;
        }
        let outside = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL];
        let by = status.signal().and_then(|number| Signal::try_from(number).ok());
        if let Some(signal) = by.filter(|signal| outside.contains(signal)) {
            return CameTo::Stopped(format!("stopped by {signal} before its time"));
        }
        if status.code() == Some(INTERRUPTED) {
            return CameTo::Stopped("interrupted before its time".into());
        }
        let input = said.lines().rev().find_map(|line| line.split("Test unit written to ").nth(1));
        let why = said.lines().find(|line| line.contains("ERROR: libFuzzer") || line.contains("panicked"));
        // The log is for every machine: no folder of this one.
        let input = input.map(|path| Path::new(path).strip_prefix(workspace).unwrap_or(Path::new(path)));
        let input = input.map_or("no input was kept".into(), |path| path.display().to_string());
        CameTo::Found(format!("FOUND {}: {input}", why.unwrap_or("a crash").trim()))
    }

    fn words(&self) -> &str {
        match self {
            CameTo::Nothing => "nothing",
            CameTo::Found(told) | CameTo::Stopped(told) => told,
        }
    }
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let workspace = host_tools::workspace();
    let binaries = build(workspace)?;
    let seed = RunFolder::create()?;
    let volume = make_volume(seed.path())?;
    let chosen = TARGETS.iter().filter(|(name, _)| args.target.as_ref().is_none_or(|t| t == name));
    let mut all = Vec::new();
    for (target, longest) in chosen {
        eprintln!("{target}: {} s", args.seconds);
        let ran = run(workspace, &binaries, target, *longest, args.seconds, &volume)?;
        println!(
            "{target}: {} inputs in {:.0} s ({:.0} s on a processor), found: {}",
            ran.inputs.map_or("?".to_owned(), |n| n.to_string()),
            ran.time.as_secs_f64(),
            ran.worked.as_secs_f64(),
            ran.came_to.words()
        );
        all.push(ran);
    }
    if args.log {
        write_log(&workspace.join(LOG), &all)?;
    }
    if all.iter().any(|ran| matches!(ran.came_to, CameTo::Found(_))) {
        return Err(Failure::Scenario);
    }
    if let Some(ran) = all.iter().find(|ran| matches!(ran.came_to, CameTo::Stopped(_))) {
        let told = ran.came_to.words();
        return Err(anyhow::anyhow!("{} was {told}; next: run it again", ran.target).into());
    }
    Ok(())
}

/// Builds all targets; gives the folder of the programs.
fn build(workspace: &Path) -> anyhow::Result<PathBuf> {
    const TRIPLE: &str = "x86_64-unknown-linux-gnu";
    let target = workspace.join("target/fuzz");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--target", TRIPLE, "--manifest-path"])
        .arg(workspace.join("fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", COVERAGE)
        .status()
        .context("cannot start cargo")?;
    anyhow::ensure!(
        status.success(),
        "the fuzz targets do not build; libFuzzer needs a C++ compiler (apt-get install g++)"
    );
    Ok(target.join(TRIPLE).join("release"))
}

/// The smallest volume of mkntfs' with what it brings: its own files, and the journal.
fn make_volume(dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("volume.ntfs");
    std::fs::File::create(&path)?.set_len(4 << 20)?;
    let mkntfs =
        softoff_images::tools::find("mkntfs").context("mkntfs is missing; next: apt-get install ntfs-3g")?;
    let made = Command::new(mkntfs)
        .args(["--force", "--quick", "--quiet", "--sector-size", "512", "--partition-start", "0"])
        .args(["--heads", "255", "--sectors-per-track", "63"])
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .context("cannot start mkntfs")?;
    anyhow::ensure!(made.status.success(), "mkntfs failed: {}", String::from_utf8_lossy(&made.stderr));
    Ok(path)
}

fn run(
    workspace: &Path,
    binaries: &Path,
    target: &'static str,
    longest: u32,
    seconds: u64,
    volume: &Path,
) -> anyhow::Result<Ran> {
    let corpus = workspace.join("fuzz/corpus").join(target);
    let artifacts = workspace.join("fuzz/artifacts").join(target);
    for dir in [&corpus, &artifacts] {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let (began, before) = (Instant::now(), processor_time()?);
    let output = Command::new(binaries.join(target))
        .arg(&corpus)
        .args(Some(workspace.join("fuzz/seeds").join(target)).filter(|seeds| seeds.is_dir()))
        .arg(format!("-max_total_time={seconds}"))
        .args([format!("-timeout={HANG}"), format!("-rss_limit_mb={MEMORY}"), format!("-max_len={longest}")])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .env("SOFTOFF_FUZZ_VOLUME", volume)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {target}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let stat = |name: &str| {
        let line = said.lines().rev().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    let came_to = CameTo::of(output.status, &said, workspace);
    let worked = processor_time()?.saturating_sub(before);
    Ok(Ran {
        target,
        time: began.elapsed(),
        worked,
        inputs: stat("stat::number_of_executed_units:"),
        came_to,
    })
}

/// Processor time of the programs that ran and ended so far.
fn processor_time() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("asking for the processor time")?;
    let part = |time: TimeVal| {
        let (seconds, micros) = (time.tv_sec(), time.tv_usec());
        Duration::from_secs(seconds.unsigned_abs()) + Duration::from_micros(micros.unsigned_abs())
    };
    Ok(part(usage.user_time()) + part(usage.system_time()))
}

fn write_log(path: &Path, all: &[Ran]) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let hint = || format!("cannot write {}", path.display());
    let fresh = !path.exists();
    let mut file = std::fs::File::options().append(true).create(true).open(path).with_context(hint)?;
    if fresh {
        writeln!(
            file,
            "# Fuzzing\n\nWritten by `cargo xtask fuzz --log`: libFuzzer with coverage, without AddressSanitizer, overflow \
             checks on.\n\n| when (UTC) | target | seconds | on a processor | inputs | found |\n|---|---|---|---|---|---|"
        )
        .with_context(hint)?;
    }
    let lines: String = all.iter().map(|ran| line(&utc(now), ran)).collect();
    // In one piece: several may write to the log at a time.
    file.write_all(lines.as_bytes()).with_context(hint)
}

fn line(now: &str, ran: &Ran) -> String {
    let inputs = ran.inputs.map_or("?".to_owned(), |n| n.to_string());
    let found = ran.came_to.words().replace('|', "/");
    let (took, worked) = (ran.time.as_secs_f64(), ran.worked.as_secs_f64());
    format!("| {now} | {} | {took:.0} | {worked:.0} | {inputs} | {found} |\n", ran.target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn every_target_has_its_program() {
        let manifest = host_tools::workspace().join("fuzz/Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        for (target, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }

    #[rstest]
    #[case::its_time(0, "nothing")]
    #[case::crash(77 << 8, "FOUND ==7== ERROR: libFuzzer: deadly signal: fuzz/artifacts/fat/crash-1")]
    #[case::stack(Signal::SIGSEGV as i32, "FOUND ==7== ERROR: libFuzzer: deadly signal: fuzz/artifacts/fat/crash-1")]
    #[case::ctrl_c(INTERRUPTED << 8, "interrupted before its time")]
    #[case::killed(Signal::SIGKILL as i32, "stopped by SIGKILL before its time")]
    fn only_what_an_input_did_is_a_finding(#[case] status: i32, #[case] told: &str) {
        let said =
            "==7== ERROR: libFuzzer: deadly signal\nTest unit written to /w/fuzz/artifacts/fat/crash-1\n";
        let came_to = CameTo::of(ExitStatus::from_raw(status), said, Path::new("/w"));
        assert_eq!(came_to.words(), told);
    }

    #[test]
    fn the_log_grows_by_a_line_each() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.md");
        let ran = |came_to: CameTo| Ran {
            target: "fat",
            time: Duration::from_secs(60),
            worked: Duration::from_secs(55),
            inputs: Some(7),
            came_to,
        };
        write_log(&path, &[ran(CameTo::Nothing)]).unwrap();
        write_log(&path, &[ran(CameTo::Found("FOUND a|b".into()))]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("| fat | 60 | 55 | 7 |").count(), 2);
        assert_eq!(text.matches("# Fuzzing").count(), 1);
        assert!(text.contains("| FOUND a/b |"));
    }
}
