//! What the host must have, and how it gets there: the checks that `doctor` shows and `run` relies on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use softoff_images::tools::{DEBIAN_KEYRING, TOOLS, find};

/// A program or file that something needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// The program's name, or a file's path.
    pub(crate) what: String,
    /// The Debian package that brings it.
    pub(crate) package: &'static str,
    /// What for.
    pub(crate) used_for: &'static str,
    /// Where it was found.
    pub(crate) found: Option<PathBuf>,
    /// Who cannot do without it.
    pub(crate) by: By,
}

/// Who cannot do without something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// Every run.
    Run,
    /// Runs through libvirt.
    Libvirt,
    /// Images from an installation disc.
    Disc,
    /// The project's own tests.
    Test,
    /// Some images only.
    SomeImages,
}

/// The workspace's folder.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Everything that is checked, found or not.
pub(crate) fn needs() -> Vec<Need> {
    let need = |what: &str, found, package, used_for, by| Need {
        what: what.to_owned(),
        package,
        used_for,
        found,
        by,
    };
    let program = |name: &str, package, used_for, by| need(name, find(name), package, used_for, by);
    let file = |path: &str, package, used_for, by| {
        need(path, Path::new(path).exists().then(|| path.into()), package, used_for, by)
    };
    let mut all = vec![
        program("qemu-system-x86_64", "qemu-system-x86", "boot guests", By::Run),
        program("qemu-img", "qemu-utils", "make overlays", By::Run),
        program("hivexregedit", "libwin-hivex-perl", "edit registry hives offline", By::Run),
        // The engine does without, and says what it lacks; several causes show on the screen alone.
        program("tesseract", "tesseract-ocr", "read the guest's screen", By::Run),
    ];
    for tool in TOOLS.iter().filter(|t| t.program != "cargo") {
        if !all.iter().any(|n| n.what == tool.program) {
            all.push(program(tool.program, tool.package, tool.used_for, By::Run));
        }
    }
    // Where the machine's own packages come from elsewhere, its script knows where Debian's are.
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.lines().any(|l| l == "ID=debian") && std::env::var_os("SOFTOFF_DEBIAN_MIRROR").is_none() {
        all.push(program("debootstrap", "debootstrap", "know where Debian's packages are", By::Run));
    }
    all.push(file(DEBIAN_KEYRING, "debian-archive-keyring", "check the guest's packages", By::Run));
    let path = "walk the documented path through libvirt";
    all.push(program("libvirtd", "libvirt-daemon", path, By::Libvirt));
    let driver = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so";
    all.push(file(driver, "libvirt-daemon-driver-qemu", path, By::Libvirt));
    all.push(program("virsh", "libvirt-clients", path, By::Libvirt));
    all.push(program("swtpm", "swtpm", "give a TPM to images that want one", By::Disc));
    all.push(program("xorriso", "xorriso", "read driver discs, and make answer discs", By::Disc));
    all.push(file("/usr/share/OVMF", "ovmf", "boot images that want UEFI", By::Disc));
    all.push(program(
        "isoinfo",
        "genisoimage",
        "read answer discs back, by other code than makes them",
        By::Test,
    ));
    let by = "build the probe for 32-bit NT systems";
    all.push(program("i686-w64-mingw32-gcc", "gcc-mingw-w64-i686", by, By::Test));
    all.push(program("mkfs.fat", "dosfstools", "make FAT volumes for the disk reader's tests", By::Test));
    all.push(program("mcopy", "mtools", "put a loader onto the tests' UEFI discs", By::Test));
    all.push(need("chromium", browser(), "chromium", "test the report in a browser", By::Test));
    // The device, not a package: a container must be given it (`--device /dev/fuse`).
    all.push(file("/dev/fuse", "fuse3", "make NTFS volumes for the disk reader's tests", By::Test));
    // tesseract's folder is named after its version.
    let korean = ["4.00", "5"].map(|v| format!("/usr/share/tesseract-ocr/{v}/tessdata/kor.traineddata"));
    let found = korean.iter().find(|path| Path::new(path).exists()).map(PathBuf::from);
    let what = "tesseract: kor";
    all.push(need(what, found, "tesseract-ocr-kor", "read the screens of Korean Windows", By::SomeImages));
    all
}

/// A browser that runs without a screen. Ubuntu's package is a snap; its runners bring Chrome, which is as good.
pub(crate) fn browser() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
        .iter()
        .find_map(|name| find(name))
}

/// The packages that are missing and needed by this and whoever comes before it.
pub(crate) fn missing_packages(needs: &[Need], by: By) -> Vec<&'static str> {
    let missing: BTreeSet<_> =
        needs.iter().filter(|n| n.found.is_none() && n.by <= by).map(|n| n.package).collect();
    missing.into_iter().collect()
}

/// The one line that installs them.
pub(crate) fn apt_line(packages: &[&str]) -> String {
    format!("sudo apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Makes sure that everything needed is there: installs it as root, with passwordless sudo, or when told to;
/// otherwise says the one line to type.
pub(crate) fn ensure(by: By, install: bool) -> anyhow::Result<()> {
    let packages = missing_packages(&needs(), by);
    if packages.is_empty() {
        return Ok(());
    }
    let line = apt_line(&packages);
    if find("apt-get").is_none() {
        bail!("missing here: {}; install them with your system's package manager", packages.join(", "));
    }
    let Some(root) = root_prefix(install) else {
        bail!(
            "{} packages are missing; install them with\n  {line}\nor let this do it: --install",
            packages.len()
        );
    };
    eprintln!("installing {} (missing on this machine)", packages.join(" "));
    apt(&root, &["update", "-q"]).context("updating the package lists")?;
    install_all(&root, &packages)?;
    let lost = missing_packages(&needs(), by);
    if !lost.is_empty() && lost != ["fuse3"] {
        // Seen: to install QEMU, apt removed a newer qemu-utils that had come from a backport.
        eprintln!("installing {} (apt removed it, or left it out)", lost.join(" "));
        install_all(&root, &lost)?;
    }
    let still = missing_packages(&needs(), by);
    if still.contains(&"fuse3") {
        bail!("there is no /dev/fuse; give the container one (`--device /dev/fuse`), or `modprobe fuse`");
    }
    if !still.is_empty() {
        bail!(
            "still missing after the installation: {}; `cargo xtask doctor` shows what for",
            still.join(", ")
        );
    }
    Ok(())
}

/// Installs packages that only some commands need, where that may be done; `told` is for a user who said so.
pub(crate) fn install(packages: &[&str], told: bool) -> anyhow::Result<()> {
    anyhow::ensure!(find("apt-get").is_some(), "there is no apt-get here");
    let root = root_prefix(told).with_context(|| format!("next: {}", apt_line(packages)))?;
    eprintln!("installing {} (missing on this machine)", packages.join(" "));
    apt(&root, &["update", "-q"]).context("updating the package lists")?;
    install_all(&root, packages)
}

/// Installs, if need be in a second attempt that may downgrade.
fn install_all(root: &[&str], packages: &[&str]) -> anyhow::Result<()> {
    if apt(root, &install_words(packages, None)).is_ok() {
        return Ok(());
    }
    // A newer qemu-utils from elsewhere (a backport) keeps the distribution's QEMU out; QEMU's packages
    // must be of one version.
    let failed = || format!("apt could not install what is missing; try\n  {}", apt_line(packages));
    let version = candidate("qemu-system-x86").with_context(failed)?;
    eprintln!("apt refused; trying again with all QEMU packages at version {version}");
    apt(root, &install_words(packages, Some(&version))).with_context(failed)
}

fn install_words<'a>(packages: &[&'a str], qemu: Option<&str>) -> Vec<std::borrow::Cow<'a, str>> {
    let mut words: Vec<std::borrow::Cow<'a, str>> =
        ["install", "-y", "-q", "--no-install-recommends"].map(Into::into).into();
    words.extend(packages.iter().filter(|p| qemu.is_none() || !p.starts_with("qemu-")).map(|p| (*p).into()));
    if let Some(version) = qemu {
        words.push("--allow-downgrades".into());
        words.extend(["qemu-system-x86", "qemu-utils"].map(|p| format!("{p}={version}").into()));
    }
    words
}

/// The words before `apt-get` that make it run as root; `None` when nobody may.
fn root_prefix(install: bool) -> Option<Vec<&'static str>> {
    if nix::unistd::geteuid().is_root() {
        return Some(vec![]);
    }
    let silent = |words: &[&str]| {
        let mut command = Command::new(words.first().copied().unwrap_or("true"));
        command.args(words.get(1..).unwrap_or_default());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    if silent(&["sudo", "-n", "true"]) {
        return Some(vec!["sudo", "-n"]);
    }
    install.then(|| vec!["sudo"])
}

fn apt(root: &[&str], words: &[impl AsRef<str>]) -> anyhow::Result<()> {
    let mut all: Vec<&str> = root.to_vec();
    // Through `env`, since sudo drops what we would set ourselves.
    all.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    all.extend(words.iter().map(AsRef::as_ref));
    let (first, rest) = all.split_first().context("no command")?;
    // apt's own output goes to standard error: standard output may be JSON for a program.
    let status =
        Command::new(first).args(rest).stdout(std::io::stderr()).status().context("cannot start apt-get")?;
    anyhow::ensure!(status.success(), "`{}` ended with {status}", all.join(" "));
    Ok(())
}

/// The version that apt would install.
fn candidate(package: &str) -> Option<String> {
    let output = Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|l| l.trim().strip_prefix("Candidate: ").map(str::to_owned))
        .filter(|v| v != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_and_needed_is_installed() {
        let need = |package, found: bool, by| Need {
            what: "x".into(),
            package,
            used_for: "",
            found: found.then(PathBuf::new),
            by,
        };
        let needs = [
            need("b", false, By::Run),
            need("a", false, By::Run),
            need("b", false, By::Run),
            need("c", true, By::Run),
            need("d", false, By::Test),
            need("e", false, By::SomeImages),
        ];
        assert_eq!(missing_packages(&needs, By::Run), ["a", "b"]);
        assert_eq!(missing_packages(&needs, By::Test), ["a", "b", "d"]);
        assert_eq!(apt_line(&["a", "b"]), "sudo apt-get install --no-install-recommends a b");
    }

    #[test]
    fn qemu_packages_are_pinned_to_one_version_on_the_second_try() {
        let words = install_words(&["erofs-utils", "qemu-system-x86"], Some("1:7.2"));
        assert_eq!(
            words.join(" "),
            "install -y -q --no-install-recommends erofs-utils --allow-downgrades qemu-system-x86=1:7.2 qemu-utils=1:7.2"
        );
    }
}
