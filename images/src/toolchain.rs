//! Builds the guest's Win32 programs (`session.exe`, `probe.exe`) on a Linux host.
//!
//! Two ways, tried in this order:
//!
//! 1. The toolchain in use has the standard library for the [`Target`], or `rustup target add` can fetch it.
//! 2. Debian's own compiler and its library source (`rustc-web`, `rust-web-src`), unpacked into the cache without
//!    installing anything; the library is then built along with the programs (`-Zbuild-std`). This works where
//!    the host reaches its Debian mirror but not the Rust project's server.
//!
//! Both link with mingw-w64's gcc. When nothing changed, cargo finds that out itself.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// A Rust target of the guest's Win32 programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// 64 bits: Windows 10 / Server 2016 and later, and Wine 10.
    X86_64,
    /// 32 bits: the probe only, for 32-bit NT systems.
    I686,
}

impl Target {
    /// Rust's name of it.
    pub fn triple(self) -> &'static str {
        match self {
            Target::X86_64 => "x86_64-pc-windows-gnu",
            Target::I686 => "i686-pc-windows-gnu",
        }
    }

    /// The linker, and the Debian package that brings it.
    fn linker(self) -> (&'static str, &'static str) {
        match self {
            Target::X86_64 => ("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64"),
            Target::I686 => ("i686-w64-mingw32-gcc", "gcc-mingw-w64-i686"),
        }
    }

    /// Cargo's variable for one of its settings.
    fn variable(self, setting: &str) -> String {
        format!("CARGO_TARGET_{}_{setting}", self.triple().to_ascii_uppercase().replace('-', "_"))
    }
}
/// Cargo profile of the guest programs, in the workspace's Cargo.toml.
const PROFILE: &str = "guest";
/// Fetching one target takes seconds; a mirror that does not answer must not hold the build for longer than this.
const TARGET_ADD_LIMIT: Duration = Duration::from_secs(180);
/// The packages of way 2. What they depend on is read from apt's metadata.
const DEBIAN_ROOTS: [&str; 3] = ["rustc-web", "libstd-rust-web-dev", "rust-web-src"];

/// The built programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsPrograms {
    /// `session.exe`, the reference guest's winlogon stand-in.
    pub session: PathBuf,
    /// `probe.exe`, the probe applications and services.
    pub probe: PathBuf,
}

/// A compiler that can build for a [`Target`], and how to call cargo with it.
#[derive(Debug, Default)]
struct Compiler {
    /// More arguments for `cargo build`.
    arguments: Vec<String>,
    /// Environment for `cargo build`.
    environment: Vec<(String, PathBuf)>,
}

/// Builds both programs into `<cache>/target-windows`. Tells `note` before each step that may take long.
pub fn build_windows_programs(cache: &Path, note: &mut dyn FnMut(&str)) -> Result<WindowsPrograms> {
    let packages = ["softoff-guest-session", "softoff-guest-probe"];
    let built = compile(cache, Target::X86_64, &packages, note)?;
    Ok(WindowsPrograms { session: program(&built, "session.exe")?, probe: program(&built, "probe.exe")? })
}

/// Builds `probe.exe` for a target.
pub fn build_probe(cache: &Path, target: Target, note: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    program(&compile(cache, target, &["softoff-guest-probe"], note)?, "probe.exe")
}

fn program(built: &Path, name: &str) -> Result<PathBuf> {
    let path = built.join(name);
    if path.is_file() { Ok(path) } else { Err(anyhow!("cargo reported success but {path:?} is missing")) }
}

/// Gives the folder of the built programs.
fn compile(cache: &Path, target: Target, packages: &[&str], note: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    require_linker(target)?;
    let triple = target.triple();
    let compiler = match installed_target(target, note) {
        Ok(compiler) => compiler,
        Err(first) => debian_compiler(cache, note).map_err(|second| {
            anyhow!(
                "no way to compile for {triple}.\n  rustup: {first:#}\n  Debian packages: {second:#}\n\
                 Next step: run `rustup target add {triple}` where the network allows it, or \
                 `apt-get update` on a Debian host so that apt knows {}",
                DEBIAN_ROOTS.join(", ")
            )
        })?,
    };
    let target_dir = cache.join("target-windows");
    note(&format!("compiling {} for {triple}", packages.join(" and ")));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    clean_environment(&mut cargo);
    cargo
        .current_dir(workspace())
        .args(["build", "--quiet", "--profile", PROFILE, "--target", triple, "--target-dir"])
        .arg(&target_dir)
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .args(&compiler.arguments)
        .env(target.variable("LINKER"), target.linker().0)
        // The linker writes the time into a program's header: the same source would never be the same file.
        .env(target.variable("RUSTFLAGS"), "-C link-arg=-Wl,--no-insert-timestamp")
        .envs(compiler.environment.iter().map(|(name, value)| (name, value)));
    run(&mut cargo).context("compiling the guest's Win32 programs")?;
    Ok(target_dir.join(triple).join(PROFILE))
}

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

fn require_linker(target: Target) -> Result<()> {
    let (linker, package) = target.linker();
    let found = Command::new(linker).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("{linker} is not installed; next step: `apt-get install {package}`"),
    }
}

/// Way 1: the target of the toolchain in use.
fn installed_target(target: Target, note: &mut dyn FnMut(&str)) -> Result<Compiler> {
    let triple = target.triple();
    let mut rustc = Command::new("rustc");
    clean_environment(&mut rustc);
    let sysroot = run(rustc.current_dir(workspace()).args(["--print", "sysroot"])).context("asking rustc")?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(triple).join("lib");
    if library.is_dir() {
        return Ok(Compiler::default());
    }
    note("fetching the Windows target with rustup");
    let mut rustup = Command::new("rustup");
    clean_environment(&mut rustup);
    rustup.current_dir(workspace()).args(["target", "add", triple]);
    run_within(&mut rustup, TARGET_ADD_LIMIT)?;
    if library.is_dir() {
        Ok(Compiler::default())
    } else {
        bail!("rustup added {triple} to another toolchain than {}", sysroot.trim())
    }
}

/// Way 2: Debian's compiler and library source in `<cache>/rust-windows/<version>`.
fn debian_compiler(cache: &Path, note: &mut dyn FnMut(&str)) -> Result<Compiler> {
    let version = candidate_version(DEBIAN_ROOTS[0])?;
    let needed = env!("CARGO_PKG_RUST_VERSION");
    if numbers(&version) < numbers(needed) {
        bail!("apt offers {} {version}, this workspace needs Rust {needed}", DEBIAN_ROOTS[0]);
    }
    let home = cache.join("rust-windows").join(version.replace([':', '~', '+'], "_"));
    let stamp = home.join("complete");
    if !stamp.is_file() {
        note("fetching Debian's Rust compiler (about 140 MB)");
        let downloads = home.join("packages");
        std::fs::create_dir_all(&downloads).with_context(|| format!("creating {downloads:?}"))?;
        let packages = package_closure(&DEBIAN_ROOTS, &mut depends_of, &mut is_installed)?;
        let mut apt = Command::new("apt-get");
        // Run as root, apt drops to a user who may not enter the cache folder.
        apt.current_dir(&downloads).args(["-q", "-o", "APT::Sandbox::User=root", "download"]).args(&packages);
        run(&mut apt).context("downloading Debian's Rust compiler")?;
        for entry in std::fs::read_dir(&downloads)? {
            let package = entry?.path();
            if package.extension() == Some(OsStr::new("deb")) {
                run(Command::new("dpkg").arg("-x").arg(&package).arg(home.join("root")))
                    .with_context(|| format!("unpacking {package:?}"))?;
            }
        }
        std::fs::remove_dir_all(&downloads).ok();
        std::fs::write(&stamp, "").with_context(|| format!("writing {stamp:?}"))?;
    }
    let usr = home.join("root/usr");
    let libraries = usr.join("lib").join(multiarch()?);
    let rustc = usr.join("bin/rustc");
    run(Command::new(&rustc).arg("-V").env("LD_LIBRARY_PATH", &libraries))
        .with_context(|| format!("starting {rustc:?}"))?;
    Ok(Compiler {
        // The library has no prebuilt form for this target; `panic_abort` because the profile aborts on panic.
        arguments: vec!["-Zbuild-std=std,panic_abort".into()],
        environment: vec![
            ("RUSTC".into(), rustc),
            ("RUSTC_BOOTSTRAP".into(), "1".into()),
            ("LD_LIBRARY_PATH".into(), libraries),
        ],
    })
}

fn multiarch() -> Result<String> {
    let out = run(Command::new("dpkg-architecture").args(["-qDEB_HOST_MULTIARCH"]))
        .or_else(|_| run(Command::new("gcc").arg("-print-multiarch")))?;
    Ok(out.trim().to_owned())
}

/// The version that apt would take.
fn candidate_version(package: &str) -> Result<String> {
    let out = run(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"))?;
    out.lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
        .ok_or_else(|| anyhow!("apt knows no package {package}"))
}

/// The `Depends` field of the candidate version: one list of alternatives for each dependency.
fn depends_of(package: &str) -> Result<Vec<Vec<String>>> {
    let out = run(Command::new("apt-cache").args(["show", "--no-all-versions", package]).env("LC_ALL", "C"))?;
    Ok(parse_depends(&out))
}

fn parse_depends(record: &str) -> Vec<Vec<String>> {
    let name = |text: &str| {
        text.trim().split([' ', ':', '(']).next().map(str::to_owned).filter(|name| !name.is_empty())
    };
    record
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: ").or_else(|| line.strip_prefix("Pre-Depends: ")))
        .flat_map(|list| list.split(','))
        .map(|dependency| dependency.split('|').filter_map(name).collect())
        .collect()
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    let out = run(query.args(["-W", "-f", "${db:Status-Status}\n", package]));
    out.is_ok_and(|out| out.lines().any(|line| line == "installed"))
}

/// The packages to unpack: the roots, and what they depend on as far as the host does not have it. The host's
/// C compiler and library are left to the host: the workspace itself could not be built without them.
fn package_closure(
    roots: &[&str],
    depends: &mut dyn FnMut(&str) -> Result<Vec<Vec<String>>>,
    installed: &mut dyn FnMut(&str) -> bool,
) -> Result<Vec<String>> {
    const HOSTS_OWN: [&str; 5] = ["gcc", "binutils", "libc6-dev", "libc-dev", "libc6"];
    let mut wanted: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
    let mut chosen = BTreeSet::new();
    while let Some(package) = wanted.pop() {
        if !chosen.insert(package.clone()) {
            continue;
        }
        for alternatives in depends(&package)? {
            let satisfied = alternatives
                .iter()
                .any(|name| HOSTS_OWN.contains(&name.as_str()) || chosen.contains(name) || installed(name));
            if let (false, Some(first)) = (satisfied, alternatives.first()) {
                wanted.push(first.clone());
            }
        }
    }
    Ok(chosen.into_iter().collect())
}

/// The leading dotted numbers of a version: `1.96.0+dfsg1-1` is `[1, 96, 0]`.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split('.')
        .map_while(|part| {
            part.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
        })
        .collect()
}

/// Takes away what an outer cargo, rustc or test run left in the environment: flags meant for the host, a shared
/// target folder (its lock is held by the outer cargo), the outer package's variables, the library path of
/// another compiler. `RUSTUP_TOOLCHAIN` stays: it names the toolchain that the caller chose.
fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(misleads_cargo) {
            command.env_remove(&name);
        }
    }
}

fn misleads_cargo(name: &str) -> bool {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    if name.starts_with("CARGO") {
        return !KEPT.iter().any(|kept| name.starts_with(kept));
    }
    name.starts_with("RUSTC")
        || name.starts_with("RUSTDOC")
        || ["RUSTFLAGS", "LD_LIBRARY_PATH"].contains(&name)
}

/// Runs to the end; gives what it printed, or an error with what it complained about.
fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("starting {program}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    bail!("{program} failed ({}): {}", out.status, String::from_utf8_lossy(&out.stderr).trim())
}

/// Runs with a limit; output is thrown away.
fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("`{program} target add` failed ({status})"),
            None if started.elapsed() > limit => {
                child.kill().ok();
                child.wait().ok();
                bail!("`{program} target add` did not end within {limit:?}");
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_cargo_does_not_leak_into_the_inner_one() {
        for name in
            ["CARGO", "CARGO_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS", "CARGO_PKG_NAME", "RUSTFLAGS", "RUSTC"]
        {
            assert!(misleads_cargo(name), "{name} must go");
        }
        for name in
            ["CARGO_HOME", "CARGO_HTTP_CAINFO", "CARGO_REGISTRIES_X_INDEX", "RUSTUP_TOOLCHAIN", "PATH"]
        {
            assert!(!misleads_cargo(name), "{name} must stay");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.96.0+dfsg1-1~deb12u2") >= numbers("1.95"));
        assert!(numbers("1.85.0+dfsg3-1") < numbers("1.95"));
        assert!(numbers("1.100") > numbers("1.95"));
    }

    #[test]
    fn depends_fields_give_names_and_alternatives() {
        let record =
            "Package: x\nDepends: libc6 (>= 2.34), gcc:any, libllvm22 (= 1:22) | libllvm21\nSize: 3\n";
        let want = [vec!["libc6"], vec!["gcc"], vec!["libllvm22", "libllvm21"]];
        assert_eq!(parse_depends(record), want);
    }

    #[test]
    fn the_closure_follows_what_the_host_lacks() {
        let mut depends = |package: &str| {
            Ok(match package {
                "rustc-web" => vec![vec!["libstd".to_owned()], vec!["gcc".to_owned()]],
                "libstd" => vec![vec!["libllvm".to_owned(), "other".to_owned()], vec!["zlib".to_owned()]],
                "libllvm" => vec![vec!["libstd".to_owned()]],
                other => bail!("asked about {other}"),
            })
        };
        let got = package_closure(&["rustc-web"], &mut depends, &mut |name| name == "zlib");
        assert_eq!(got.unwrap(), ["libllvm", "libstd", "rustc-web"]);
    }
}
