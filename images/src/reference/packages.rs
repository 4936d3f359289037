//! Step 1: the guest's Debian packages, fetched by a private apt.
//!
//! apt gets its own configuration, package lists and an empty dpkg status in the cache: the host's packages
//! neither count nor change, and no privilege is needed. Signatures are checked as always, against
//! Debian's own keyring.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use crate::tools::{self, DEBIAN_KEYRING};

/// The guest's Debian release. Its 6.12 kernel has ntfs3, which that of the release before lacks.
pub const SUITE: &str = "trixie";

/// What the guest is made of; dependencies follow, recommendations do not.
pub const PACKAGES: &[&str] = &[
    "linux-image-amd64",
    "wine64",
    "libwine",
    // zlib1.dll, which libwine's own DLLs import.
    "libz-mingw-w64",
    "xserver-xorg-core",
    // Keyboard and tablet without udev; libinput would want its database.
    "xserver-xorg-input-evdev",
    "x11-xkb-utils",
    "xkb-data",
    // winex11.so loads these by name, so no dependency names them.
    "libxcursor1",
    "libxrandr2",
    "libxrender1",
    "libxcomposite1",
    "libxi6",
    "libxfixes3",
    "libxinerama1",
    "libxxf86vm1",
    "libfreetype6",
    "libfontconfig1",
    "libgnutls30t64",
    "libgcc-s1",
    "libdbus-1-3",
    "libsystemd0",
    "fonts-liberation",
    "fonts-wine",
    // Xorg starts xkbcomp through /bin/sh; nothing else in the guest needs a shell.
    "busybox-static",
    "qemu-guest-agent",
];

/// One package file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    /// The `.deb`.
    pub(crate) path: PathBuf,
    /// Package name.
    pub(crate) package: String,
    /// Debian version.
    pub(crate) version: String,
}

/// How long the package files that apt chose stay the choice. Within it a build needs no mirror, and one after a
/// change in a guest program does not wait for three runs of apt (2 s).
const CHOICE_LASTS: Duration = Duration::from_secs(24 * 3600);

/// Fetches [`PACKAGES`] and what they depend on into the cache, or opens what apt chose less than [`CHOICE_LASTS`]
/// ago.
pub(crate) fn fetch(cache: &Path) -> anyhow::Result<Vec<Archive>> {
    let dir = cache.join("debian");
    let choice = Choice { path: dir.join("chosen"), wanted: wanted(&mirror()?) };
    if let Some(archives) = choice.read(&dir.join("archives"), SystemTime::now()) {
        return Ok(archives);
    }
    let archives = ask_apt(&Apt::prepare(&dir)?)?;
    choice.write(&archives)?;
    Ok(archives)
}

fn ask_apt(apt: &Apt) -> anyhow::Result<Vec<Archive>> {
    tools::run(apt.command("apt-get").args(["-q", "update"]))
        .context("the Debian package lists could not be fetched; next step: set SOFTOFF_DEBIAN_MIRROR to a Debian mirror's URI")?;
    tools::run(apt.command("apt-get").args(["-q", "-y", "--download-only", "install"]).args(PACKAGES))
        .context(
            "the Debian packages could not be fetched; run the same command again to go on where it stopped",
        )?;
    // With an empty archive folder apt lists every file of the same resolution, fetched or not.
    let uris = tools::run(
        apt.command("apt-get")
            .args(["-q", "-y", "--print-uris", "--download-only"])
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", apt.empty_archives.display()))
            .arg("install")
            .args(PACKAGES),
    )?;
    let archives: Vec<Archive> =
        uris.lines().filter_map(archive_name).filter_map(|name| archive(&apt.archives, name)).collect();
    anyhow::ensure!(!archives.is_empty(), "apt-get --print-uris listed no package");
    if let Some(lost) = archives.iter().find(|a| !a.path.exists()) {
        anyhow::bail!("apt-get did not leave {}", lost.path.display());
    }
    Ok(archives)
}

/// What apt is asked for, in one line.
fn wanted(mirror: &str) -> String {
    format!("{SUITE} from {mirror}: {}", PACKAGES.join(" "))
}

/// What apt chose last: a line with what it was asked for, then the names of the package files.
struct Choice {
    path: PathBuf,
    wanted: String,
}

impl Choice {
    /// `None` when it was another question, is too old, or a file of it is gone.
    fn read(&self, archives: &Path, now: SystemTime) -> Option<Vec<Archive>> {
        let made = self.path.metadata().and_then(|m| m.modified()).ok()?;
        // A clock that was set back makes it an answer from the future: no age, no answer.
        if now.duration_since(made).ok()? > CHOICE_LASTS {
            return None;
        }
        let text = std::fs::read_to_string(&self.path).ok()?;
        let (asked, names) = text.split_once('\n')?;
        let found: Option<Vec<Archive>> = names.lines().map(|name| archive(archives, name)).collect();
        found.filter(|found| {
            asked == self.wanted && !found.is_empty() && found.iter().all(|a| a.path.exists())
        })
    }

    /// Replaces it as a whole: a killed builder leaves the older one.
    fn write(&self, archives: &[Archive]) -> anyhow::Result<()> {
        let names = archives.iter().filter_map(|a| a.path.file_name()?.to_str());
        let text: String =
            std::iter::once(self.wanted.as_str()).chain(names).map(|l| format!("{l}\n")).collect();
        let new = self.path.with_extension("new");
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Package name to version, for the manifest.
pub(crate) fn provenance(archives: &[Archive]) -> BTreeMap<String, String> {
    archives.iter().map(|a| (a.package.clone(), a.version.clone())).collect()
}

/// The file name in a line of `apt-get --print-uris`: `'URI' NAME SIZE HASH`.
fn archive_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('\'')?;
    rest.split_once("' ")?.1.split(' ').next().filter(|name| name.ends_with(".deb"))
}

/// `NAME_VERSION_ARCH.deb`, where apt escapes the epoch's colon as `%3a`.
fn archive(dir: &Path, name: &str) -> Option<Archive> {
    let mut parts = name.splitn(3, '_');
    let (package, version) = (parts.next()?, parts.next()?);
    Some(Archive { path: dir.join(name), package: package.to_owned(), version: version.replace("%3a", ":") })
}

struct Apt {
    config: PathBuf,
    archives: PathBuf,
    empty_archives: PathBuf,
}

impl Apt {
    fn prepare(dir: &Path) -> anyhow::Result<Apt> {
        let archives = dir.join("archives");
        let empty_archives = dir.join("empty");
        let no_parts = dir.join("etc/none.d");
        for folder in [
            &archives.join("partial"),
            &empty_archives.join("partial"),
            &no_parts,
            &dir.join("state/lists/partial"),
            &dir.join("etc/preferences.d"),
            &dir.join("cache"),
        ] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mirror = mirror()?;
        std::fs::write(dir.join("state/status"), "")?;
        std::fs::write(
            dir.join("etc/sources.list"),
            format!("deb [arch=amd64 signed-by={DEBIAN_KEYRING}] {mirror} {SUITE} main\n"),
        )?;
        // apt reads the file of $APT_CONFIG first and its parts folder after it, so that a private parts
        // folder shuts the host's configuration out. Its proxies are wanted all the same.
        let host = tools::run(tools::command("apt-config").args(["dump", "Acquire"])).unwrap_or_default();
        let proxies: String = host
            .lines()
            .filter(|l| l.to_ascii_lowercase().contains("::proxy"))
            .map(|l| format!("{l}\n"))
            .collect();
        let d = dir.display();
        let config = dir.join("etc/apt.conf");
        std::fs::write(
            &config,
            format!(
                "Dir::State \"{d}/state\";\nDir::State::status \"{d}/state/status\";\nDir::Cache \"{d}/cache\";\n\
                 Dir::Cache::archives \"{d}/archives\";\nDir::Etc \"{d}/etc\";\n\
                 Dir::Etc::sourcelist \"{d}/etc/sources.list\";\nDir::Etc::sourceparts \"{d}/etc/none.d\";\n\
                 Dir::Etc::parts \"{d}/etc/none.d\";\nDir::Etc::main \"{d}/etc/none\";\n\
                 APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
                 APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n{proxies}"
            ),
        )?;
        Ok(Apt { config, archives, empty_archives })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = tools::command(program);
        command.env("APT_CONFIG", &self.config).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// The Debian mirror: `$SOFTOFF_DEBIAN_MIRROR`, else the one this machine uses itself, else the default of
/// debootstrap (which hosts that are not Debian can install).
fn mirror() -> anyhow::Result<String> {
    if let Some(own) = std::env::var("SOFTOFF_DEBIAN_MIRROR").ok().filter(|m| !m.is_empty()) {
        return Ok(own);
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|e| e.path()));
    }
    files.sort();
    let from_apt = files.iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        match path.extension().and_then(|e| e.to_str()) {
            Some("sources") => mirror_of_deb822(&text),
            Some("list") => mirror_of_list(&text),
            _ => None,
        }
    });
    let from_debootstrap = || {
        [SUITE, "sid"].iter().find_map(|script| {
            let text =
                std::fs::read_to_string(Path::new("/usr/share/debootstrap/scripts").join(script)).ok()?;
            text.lines().find_map(|l| l.trim().strip_prefix("default_mirror ").map(|m| m.trim().to_owned()))
        })
    };
    from_apt.or_else(from_debootstrap).context(
        "no Debian mirror is known here; next step: set SOFTOFF_DEBIAN_MIRROR to the URI of one, \
         or install debootstrap, which knows a default (sudo apt-get install debootstrap)",
    )
}

/// Debian's main archive, and neither its security archive nor a third party's: those lack the
/// packages. Debian mirrors serve it under a path that ends in `debian`.
fn is_main_archive(uri: &str, suites: &str, components: &str, signed_by: Option<&str>) -> bool {
    let last = uri.trim_end_matches('/').rsplit('/').next();
    let network = ["http://", "https://", "mirror+"].iter().any(|scheme| uri.starts_with(scheme));
    network
        && last == Some("debian")
        && components.split_whitespace().any(|c| c == "main")
        && !suites.contains("security")
        && signed_by.is_none_or(|key| key.contains("debian-archive") || key.contains("BEGIN PGP"))
}

/// One-line style: `deb [options] URI SUITE COMPONENT...`.
fn mirror_of_list(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        let components: Vec<&str> = words.collect();
        is_main_archive(uri, suite, &components.join(" "), signed_by).then(|| uri.to_owned())
    })
}

/// deb822 style: paragraphs of `Key: value`.
fn mirror_of_deb822(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|paragraph| {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let uri = field("URIs")?.split_whitespace().next()?;
        let enabled = field("Enabled").is_none_or(|v| v != "no");
        let good =
            enabled && is_main_archive(uri, field("Suites")?, field("Components")?, field("Signed-By"));
        good.then(|| uri.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::plain("deb http://mirror.test/debian bookworm main\n", Some("http://mirror.test/debian"))]
    #[case::options(
        "# x\ndeb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg] https://m.test/debian/ trixie main contrib\n",
        Some("https://m.test/debian/")
    )]
    #[case::security("deb http://mirror.test/debian-security bookworm-security main\n", None)]
    #[case::third_party("deb [signed-by=/k/tool.gpg] https://tool.test/debian stable main\n", None)]
    #[case::not_main("deb https://tool.test/linux/debian bookworm stable\n", None)]
    #[case::source_only("deb-src http://mirror.test/debian bookworm main\n", None)]
    #[case::cut("deb [arch=amd64\ndeb\ndeb http://x\n", None)]
    fn one_line_sources(#[case] text: &str, #[case] wanted: Option<&str>) {
        assert_eq!(mirror_of_list(text).as_deref(), wanted);
    }

    #[test]
    fn paragraphs_skip_security_and_disabled() {
        let text = "Types: deb\nURIs: http://a.test/debian\nSuites: trixie\nComponents: main\nEnabled: no\n\n\
                    Types: deb\nURIs: http://b.test/debian-security\nSuites: trixie-security\nComponents: main\n\n\
                    Types: deb\n# note\nURIs: http://c.test/debian\nSuites: trixie trixie-updates\nComponents: main\n\
                    Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        assert_eq!(mirror_of_deb822(text).as_deref(), Some("http://c.test/debian"));
    }

    #[test]
    fn what_apt_chose_holds_for_a_day_and_for_the_same_question() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a_1%3a2_amd64.deb", "b_1_all.deb"] {
            std::fs::write(path(name), "").unwrap();
        }
        let choice = Choice { path: path("chosen"), wanted: wanted("http://m.test/debian") };
        let now = SystemTime::now();
        assert_eq!(choice.read(dir.path(), now), None, "nothing was chosen yet");
        let archives: Vec<Archive> =
            ["a_1%3a2_amd64.deb", "b_1_all.deb"].iter().filter_map(|n| archive(dir.path(), n)).collect();
        choice.write(&archives).unwrap();
        let now = SystemTime::now();
        assert_eq!(choice.read(dir.path(), now).as_ref(), Some(&archives));
        assert_eq!(choice.read(dir.path(), now + CHOICE_LASTS * 2), None, "too old");
        assert_eq!(choice.read(dir.path(), now - CHOICE_LASTS), None, "from the future");
        let other = Choice { path: path("chosen"), wanted: wanted("http://other.test/debian") };
        assert_eq!(other.read(dir.path(), now), None, "another mirror");
        std::fs::remove_file(path("b_1_all.deb")).unwrap();
        assert_eq!(choice.read(dir.path(), now), None, "a file is gone");
    }

    #[test]
    fn the_file_name_stands_after_the_quoted_uri() {
        let line = "'http://m.test/pool/x/xorg%5f1.deb' xserver-xorg-core_2%3a21.1.16-1.3+deb13u4_amd64.deb 3779 SHA256:ab";
        let found = archive_name(line).and_then(|name| archive(Path::new("/a"), name)).unwrap();
        assert_eq!(
            (found.package.as_str(), found.version.as_str()),
            ("xserver-xorg-core", "2:21.1.16-1.3+deb13u4")
        );
        assert_eq!(archive_name("Reading package lists..."), None);
    }
}
