//! The control scenario as a test of avocado-vt, the test framework of QEMU's and libvirt's own testers.
//!
//! Its wheel from PyPI is enough: `avocado vt-bootstrap` would fetch test providers from GitHub, of which none is
//! needed. The test is `avocado/softoff_control.py`, its machine `avocado/subtests.cfg`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use softoff_harness::image::{Boot, DiskFormat, Image};
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::folder::RunFolder;
use softoff_harness::machine::{QEMU, overlay, process};
use softoff_harness::text::printable;
use softoff_images::tools::find;
use tokio::process::Command;

use super::python;

const PACKAGE: &str = "avocado-framework-plugin-vt";

const TEST: &str = include_str!("avocado/softoff_control.py");
const CONFIG: &str = include_str!("avocado/subtests.cfg");

/// What one job may take: the test's own limits, and avocado's start.
const LIMIT: Duration = Duration::from_secs(1200);

/// Waits until its standard input closes, however we end, then ends what avocado has started: QEMU is a daemon
/// there and would outlive us. A process counts while its home is the folder.
const GUARD: &str = r#"
cat
for process in /proc/[0-9]*; do
  pid=${process#/proc/}
  [ "$pid" = $$ ] && continue
  tr '\0' '\n' 2>/dev/null < "$process/environ" | grep -qxF -- "HOME=$FOLDER" && kill -KILL "$pid"
done
rm -rf -- "$FOLDER"
"#;

/// avocado-vt with a home of its own, whose jobs run in it.
pub(super) struct Avocado<'a> {
    image: &'a Image,
    folder: RunFolder,
    /// The environment's folder of programs.
    programs: PathBuf,
    guard: std::process::Child,
}

impl Avocado<'_> {
    /// Installs avocado-vt and writes the test and the machine. An error says why it cannot run here.
    pub(super) async fn install(image: &Image, accelerator: Accelerator) -> anyhow::Result<Avocado<'_>> {
        let python = python::with(PACKAGE).await?;
        let programs = python.parent().context("an environment without a folder")?.to_owned();
        let base = base_config(&python).await?;
        let folder = RunFolder::create()?;
        fill(folder.path()).with_context(|| format!("cannot fill {}", folder.path().display()))?;
        std::fs::write(
            folder.path().join("subtests.cfg"),
            config(image, accelerator, folder.path(), &base)?,
        )?;
        let guard = guard(folder.path())?;
        let avocado = Avocado { image, folder, programs, guard };
        avocado.link_root()?;
        Ok(avocado)
    }

    /// One control scenario, from the overlay to avocado's result. An error when the test did not pass.
    pub(super) async fn control(&self) -> anyhow::Result<Duration> {
        let at = |name: &str| self.folder.path().join(name);
        let system = self.image.file(&self.image.manifest.system_disk);
        // Of the job before.
        let _none = std::fs::remove_file(at("result.json"));
        let began = Instant::now();
        overlay::create(&system, DiskFormat::Qcow2, &at("overlay.qcow2")).await?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(self.programs.join("avocado"));
        command.args(["run", "--disable-sysinfo", "--vt-config"]).arg(at("subtests.cfg"));
        command.arg("--json").arg(at("result.json")).arg("control");
        // Its runner and aexpect are looked for in $PATH.
        command.env("PATH", format!("{}:{path}", self.programs.display())).env("HOME", self.folder.path());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = process::spawn(command).await.context("cannot start avocado")?;
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let output =
            output.with_context(|| format!("no end of avocado within {LIMIT:?}"))?.context("avocado")?;
        let whole = began.elapsed();
        let result = std::fs::read(at("result.json")).unwrap_or_default();
        let result: Value = serde_json::from_slice(&result).unwrap_or_default();
        match passed(&result) {
            true => Ok(whole),
            false => bail!("avocado: {}", why(&result, &output.stderr)),
        }
    }

    /// avocado-vt adds the format to an image's name. A link: the file itself is the cache's.
    fn link_root(&self) -> anyhow::Result<()> {
        let Boot::Kernel { root, .. } = &self.image.manifest.boot else {
            bail!("{} does not boot by its kernel", self.image.manifest.name)
        };
        std::os::unix::fs::symlink(self.image.file(root), self.folder.path().join("root.raw"))
            .context("cannot link the root file system")
    }
}

impl Drop for Avocado<'_> {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ended = self.guard.wait();
    }
}

fn guard(folder: &Path) -> anyhow::Result<std::process::Child> {
    let mut guard = std::process::Command::new("sh");
    // Its own group: Ctrl-C is not for it.
    guard.args(["-c", GUARD]).env("FOLDER", folder).process_group(0);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    guard.spawn().context("cannot start sh, which cleans up after avocado")
}

/// Whether a job's one test passed. Its exit code does not tell: it is 0 for a test that was skipped, too.
fn passed(result: &Value) -> bool {
    result.pointer("/tests/0/status").and_then(Value::as_str) == Some("PASS")
}

/// The reason in avocado's result, or else what it wrote last.
fn why(result: &Value, wrote: &[u8]) -> String {
    let reason = result.pointer("/tests/0/fail_reason").and_then(Value::as_str).map(str::to_owned);
    let last = || String::from_utf8_lossy(wrote).trim().lines().last().map(str::to_owned);
    printable(&reason.or_else(last).unwrap_or_else(|| "no reason given".into()), 300)
}

/// Where the installed avocado-vt has its defaults.
async fn base_config(python: &Path) -> anyhow::Result<PathBuf> {
    const WHERE: &str =
        "import importlib.util as u; print(u.find_spec('virttest').submodule_search_locations[0])";
    let mut command = Command::new(python);
    command.args(["-c", WHERE]).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("cannot start its Python")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let base = Path::new(said.trim()).join("shared/cfg/base.cfg");
    anyhow::ensure!(base.is_file(), "{PACKAGE} has no {}", base.display());
    Ok(base)
}

/// avocado's home: its data folder with our test as the only provider.
fn fill(folder: &Path) -> anyhow::Result<()> {
    let data = folder.join("avocado/data");
    let providers = data.join("avocado-vt/virttest/test-providers.d");
    // In `downloads`, which must not be empty.
    let provider = providers.join("downloads/softoff");
    std::fs::create_dir_all(provider.join("qemu/tests"))?;
    std::fs::write(provider.join("qemu/tests/softoff_control.py"), TEST)?;
    let ini = format!("[provider]\nuri: file://{}\n[qemu]\nsubdir: qemu/\n", provider.display());
    std::fs::write(providers.join("softoff.ini"), ini)?;
    std::fs::create_dir_all(folder.join(".config/avocado"))?;
    let settings = format!(
        "[datadir.paths]\nbase_dir = {}\ndata_dir = {}\nlogs_dir = {}\n[vt.qemu]\nmalloc_perturb = no\n",
        folder.join("avocado").display(),
        data.display(),
        folder.join("results").display()
    );
    std::fs::write(folder.join(".config/avocado/avocado.conf"), settings)?;
    Ok(())
}

/// The machine of an image in avocado-vt's words.
fn config(image: &Image, accelerator: Accelerator, folder: &Path, base: &Path) -> anyhow::Result<String> {
    let facts = &image.manifest.machine;
    let Boot::Kernel { kernel, initrd, cmdline, .. } = &image.manifest.boot else {
        bail!("{} does not boot by its kernel", image.manifest.name)
    };
    let program = |name: &str| find(name).with_context(|| format!("{name} is missing here"));
    let shown = |path: &Path| path.display().to_string();
    let (cpu, flags) = match accelerator {
        Accelerator::Kvm => ("host", String::new()),
        Accelerator::Tcg => match facts.tcg_cpu.split_once(',') {
            Some((model, flags)) => (model, format!(",{flags}")),
            None => (facts.tcg_cpu.as_str(), String::new()),
        },
    };
    let not_kvm = if accelerator == Accelerator::Tcg { "disable_kvm = yes" } else { "" };
    let values = [
        ("BASE_CFG", shown(base)),
        ("QEMU", shown(&program(QEMU)?)),
        ("QEMU_IMG", shown(&program("qemu-img")?)),
        ("MACHINE", facts.machine.clone()),
        ("ACCELERATOR", accelerator.to_string()),
        ("NOT_KVM", not_kvm.to_owned()),
        ("CPU", cpu.to_owned()),
        ("CPU_FLAGS", flags),
        ("SMP", facts.smp.to_string()),
        ("MEMORY", facts.memory_mib.to_string()),
        ("VGA", facts.vga.clone()),
        ("KERNEL", shown(&image.file(kernel))),
        ("INITRD", shown(&image.file(initrd))),
        ("CMDLINE", cmdline.clone()),
        ("FOLDER", shown(folder)),
    ];
    let fill = |text: String, (name, value): &(&str, String)| text.replace(&format!("@{name}@"), value);
    Ok(values.iter().fold(CONFIG.to_owned(), fill))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_test_that_passed_has_a_time() {
        for (status, pass) in [("PASS", true), ("SKIP", false), ("WARN", false), ("FAIL", false)] {
            let result = json!({ "tests": [{ "status": status, "fail_reason": "still runs" }] });
            assert_eq!(passed(&result), pass, "{status}");
            assert_eq!(why(&result, b"x"), "still runs");
        }
        assert!(!passed(&Value::Null));
        assert_eq!(why(&Value::Null, b"a\nCommand not found\n"), "Command not found");
        assert_eq!(why(&Value::Null, b""), "no reason given");
    }

    #[test]
    fn the_guard_ends_what_has_the_folder_for_its_home_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let sleep = |home: &Path| {
            let mut command = std::process::Command::new("sleep");
            command.arg("600").env("HOME", home);
            process::die_with_thread(&mut command);
            command.spawn().unwrap()
        };
        let mut inside = sleep(folder.path());
        let mut outside = sleep(&folder.path().join("avocado"));
        let mut guard = guard(folder.path()).unwrap();
        drop(guard.stdin.take());
        assert!(guard.wait().unwrap().success());
        assert!(!inside.wait().unwrap().success());
        assert!(outside.try_wait().unwrap().is_none());
        assert!(!folder.path().exists());
        outside.kill().unwrap();
        outside.wait().unwrap();
    }
}
